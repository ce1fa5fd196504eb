use super::*;
use crate::reads::By;
use bytes::Bytes;
use nacre_engine::{Absence, Found};

const TABLE: (TableId, Consistency) = (TableId(3), Consistency::Eventual);
const KEY: &[u8] = b"k";
const START: Duration = Duration::from_secs(1_000);
const NOW: i64 = 1_000_000;

fn options() -> ReadOptions {
    ReadOptions::at(NOW)
}

fn answer(value: &'static [u8]) -> Seen<Lookup> {
    let found = Found { version: 1, value: Bytes::from_static(value), expires_at: None };
    Seen {
        value: Lookup::Found(found),
        receipt: Receipt { store_gets: 3, ..Receipt::default() },
        by: By::Here,
    }
}

/// Asks until the key is hot.
fn heat(hot: &HotKeys, now: Duration) -> Wanted {
    for _ in 0..=HOT {
        if let Hot::Wanted(wanted) = hot.ask(TABLE, KEY, &options(), now) {
            return wanted;
        }
    }
    panic!("it is not hot");
}

fn kept(hot: &HotKeys, options: &ReadOptions, now: Duration) -> bool {
    matches!(hot.ask(TABLE, KEY, options, now), Hot::Kept(_))
}

#[test]
fn a_key_is_hot_after_many_requests_and_cools() {
    let hot = HotKeys::default();
    for _ in 1..HOT {
        assert!(matches!(hot.ask(TABLE, KEY, &options(), START), Hot::No));
    }
    let wanted = heat(&hot, START);
    hot.keep(&wanted, TABLE.0, KEY, &answer(b"v"), START);
    let Hot::Kept(found) = hot.ask(TABLE, KEY, &options(), START + KEPT / 2) else { panic!("it is kept") };
    assert_eq!((found.value, found.receipt.store_gets), (answer(b"v").value, 0), "it costs no node anything");
    assert_eq!(hot.hits(), 1);
    assert!(!matches!(hot.ask(TABLE, KEY, &options(), START + KEPT), Hot::No), "hot for one moment more");
    assert!(matches!(hot.ask(TABLE, KEY, &options(), START + 2 * KEPT), Hot::No), "and then not");
}

#[test]
fn an_answer_is_kept_for_a_moment() {
    let hot = HotKeys::default();
    let wanted = heat(&hot, START);
    hot.keep(&wanted, TABLE.0, KEY, &answer(b"v"), START);
    assert!(kept(&hot, &options(), START + KEPT / 2));
    let later = START + KEPT;
    assert!(matches!(hot.ask(TABLE, KEY, &options(), later), Hot::Wanted(_)), "its time is over");
    assert!(!matches!(hot.ask((TableId(4), TABLE.1), KEY, &options(), START), Hot::Kept(_)));
}

#[test]
fn what_asks_for_more_than_eventual_goes_to_the_nodes() {
    let hot = HotKeys::default();
    let wanted = heat(&hot, START);
    hot.keep(&wanted, TABLE.0, KEY, &answer(b"v"), START);
    let usual = options();
    for other in [
        ReadOptions { consistency: Some(Consistency::Strong), ..usual.clone() },
        ReadOptions { consistency: Some(Consistency::Session), ..usual.clone() },
        ReadOptions { as_of: 5, ..usual.clone() },
        ReadOptions { max_staleness: Some(KEPT), ..usual.clone() },
        ReadOptions { edition: Some(nacre_types::Seq(1)), ..usual.clone() },
        ReadOptions { preview: Some(nacre_types::LoadId(1)), ..usual.clone() },
    ] {
        assert!(!kept(&hot, &other, START), "{other:?}");
    }
    let strong_table = (TABLE.0, Consistency::Strong);
    assert!(!matches!(hot.ask(strong_table, KEY, &usual, START), Hot::Kept(_)));
    assert!(kept(&hot, &usual, START));
}

#[test]
fn a_write_makes_forget_what_is_kept_and_what_is_under_way() {
    let hot = HotKeys::default();
    let keys = [Key::new(KEY.to_vec()).unwrap()];
    let wanted = heat(&hot, START);
    hot.keep(&wanted, TABLE.0, KEY, &answer(b"old"), START);
    hot.forget(TABLE.0, &keys, START);
    assert!(!kept(&hot, &options(), START));
    let under_way = heat(&hot, START);
    hot.forget(TABLE.0, &keys, START);
    hot.keep(&under_way, TABLE.0, KEY, &answer(b"old"), START);
    assert!(!kept(&hot, &options(), START));
    // A writer need not look at keys that nobody asked for lately; so what took longer is not kept.
    let slow = heat(&hot, START);
    hot.forget(TABLE.0, &keys, START + 3 * KEPT);
    hot.keep(&slow, TABLE.0, KEY, &answer(b"old"), START + 3 * KEPT);
    assert!(!kept(&hot, &options(), START + 3 * KEPT));
}

#[test]
fn rows_that_expire_meanwhile_are_asked_for_again() {
    let hot = HotKeys::default();
    let wanted = heat(&hot, START);
    let found = Found { version: 1, value: Bytes::new(), expires_at: Some(NOW + 10) };
    let expiring = Seen { value: Lookup::Found(found), ..answer(b"") };
    hot.keep(&wanted, TABLE.0, KEY, &expiring, START);
    assert!(kept(&hot, &options(), START));
    assert!(!kept(&hot, &ReadOptions::at(NOW + 10), START));
}

#[test]
fn what_is_kept_is_bounded() {
    let hot = HotKeys::default();
    let wanted = heat(&hot, START);
    let long: &'static [u8] = vec![0; VALUE_BYTES + 1].leak();
    hot.keep(&wanted, TABLE.0, KEY, &answer(long), START);
    assert!(!kept(&hot, &options(), START));
    let absent = Seen { value: Lookup::Absent(Absence::Row), ..answer(b"") };
    for n in 0..100_000_u32 {
        let wanted = Wanted { hash: hash_of(TABLE.0, &n.to_be_bytes()), forgotten: 0, at: START };
        hot.keep(&wanted, TABLE.0, &n.to_be_bytes(), &absent, START);
    }
    for shard in &hot.shards {
        let shard = shard.lock();
        let counted: usize = shard.kept.keys().map(|(_, key)| key.len() + OVERHEAD_BYTES).sum();
        assert!(shard.bytes == counted && counted <= SHARD_BYTES, "{} {counted}", shard.bytes);
    }
}
