//! What is there against what the model says: after a kill, when no write is under way.

use crate::clients::{HOT, Shared};
use crate::ledger::{Fate, Ledger, Op, Seen, at, millis, shown, value};
use nacre_api::{ExplainBody, ExplainedRowBody, PlaceBody};
use nacre_client::{Client, KeyText, ReadOptions, ScanOptions, VersionsOptions};
use nacre_types::Consistency;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Most ways in which what was under way beside a read may have happened that are tried.
const MOST_WAYS: u32 = 1 << 10;

fn strong() -> ReadOptions {
    ReadOptions { consistency: Some(Consistency::Strong), ..ReadOptions::default() }
}

impl Shared {
    /// Finds out what became of writes whose answers were lost, and holds everything against the model. Writes and
    /// readers must have ended; loads may be under way.
    pub(crate) async fn verify(&self, client: &Client) {
        self.resolve(client).await;
        let first = self.scan(client).await;
        self.learn_loads(client).await;
        self.compare_scan(client, &first).await;
        let mut keys: Vec<String> = (0..HOT).map(|n| format!("h{n}")).collect();
        {
            let ledger = self.ledger.lock();
            let others: Vec<&String> = ledger.keys.keys().filter(|key| !key.starts_with('h')).collect();
            keys.extend(others.iter().filter(|key| !key.starts_with('c')).map(|key| (**key).clone()));
            if !others.is_empty() {
                keys.extend((0..20).map(|_| others[self.dice(others.len() as u64) as usize].clone()));
            }
        }
        for key in keys {
            self.compare_versions(client, &key).await;
        }
        self.explain_reads(client).await;
        self.ledger.lock().prune();
    }

    /// Every load, as a server tells it that has just answered a strong read.
    pub(crate) async fn learn_loads(&self, client: &Client) {
        for told in client.loads(&self.table).await.unwrap() {
            self.learn(&told, true);
        }
    }

    async fn explain(&self, client: &Client, key: &str) -> ExplainBody {
        client.explain(&self.table, KeyText::Text(key.as_bytes()), &strong()).await.unwrap()
    }

    /// Finds out which of the writes whose answers were lost happened. What is left of one that did may be nothing at
    /// all: then it is hidden for ever, as good as one that did not happen.
    async fn resolve(&self, client: &Client) {
        let keys: Vec<String> = {
            let ledger = self.ledger.lock();
            let is_lost = |ops: &Vec<Op>| ops.iter().any(|op| matches!(op.fate, Fate::Unknown | Fate::Open));
            ledger.keys.iter().filter(|(_, ops)| is_lost(ops)).map(|(key, _)| key.clone()).collect()
        };
        for key in keys {
            let mut values = self.versions(client, &key).await.1;
            let rows = self.explain(client, &key).await.rows;
            let mut ledger = self.ledger.lock();
            let seen = ledger.seen.iter().filter(|seen| seen.key == key);
            values.extend(seen.filter_map(|seen| seen.found.clone()));
            settle(ledger.keys.get_mut(&key).unwrap(), &values, &rows);
        }
    }

    async fn versions(&self, client: &Client, key: &str) -> (u64, Vec<(i64, String)>) {
        let text = KeyText::Text(key.as_bytes());
        let page = client.versions(&self.table, text, &VersionsOptions::default(), &strong()).await.unwrap();
        let rows = page
            .rows
            .iter()
            .map(|row| (row.version.0, String::from_utf8(row.value_bytes().unwrap().to_vec()).unwrap()));
        (page.edition.0 as u64, rows.collect())
    }

    /// The whole table, at one edition.
    async fn scan(&self, client: &Client) -> (u64, BTreeMap<String, (i64, String)>) {
        let mut rows = BTreeMap::new();
        let mut edition = None;
        let mut which = ScanOptions { page_size: Some(500), ..ScanOptions::default() };
        loop {
            let page = client.scan(&self.table, &which, &strong()).await.unwrap();
            let told = page.edition.0 as u64;
            assert_eq!(*edition.get_or_insert(told), told, "the pages of a scan have different editions");
            for row in page.rows {
                let key = String::from_utf8(row.key.as_ref().unwrap().to_bytes().unwrap()).unwrap();
                let value = String::from_utf8(row.value_bytes().unwrap().to_vec()).unwrap();
                if rows.insert(key.clone(), (row.version.0, value)).is_some() {
                    self.complain(format!("{key} is twice in a scan"));
                }
            }
            match page.next_page_token {
                Some(token) => which.page_token = Some(token),
                None => return (edition.unwrap(), rows),
            }
        }
    }

    async fn compare_scan(&self, client: &Client, (edition, rows): &(u64, BTreeMap<String, (i64, String)>)) {
        let mut wrong = Vec::new();
        {
            let ledger = self.ledger.lock();
            if *edition < ledger.edition && ledger.loads.iter().all(|load| load.is_over) {
                wrong.push((String::new(), format!("edition {edition}, {} was told of", ledger.edition)));
            }
            let mut keys: BTreeSet<&String> = ledger.keys.keys().chain(rows.keys()).collect();
            keys.extend(ledger.loads.iter().flat_map(|load| load.rows.keys()));
            for key in keys {
                let expected = ledger.versions(key, *edition).into_iter().next();
                let found = rows.get(key);
                if expected.as_ref() != found {
                    wrong.push((
                        key.clone(),
                        format!("a scan at edition {edition} has {found:?}, the model {expected:?}"),
                    ));
                }
            }
        }
        self.complain_of(client, wrong).await;
    }

    async fn compare_versions(&self, client: &Client, key: &str) {
        let (edition, found) = self.versions(client, key).await;
        if edition > self.ledger.lock().edition {
            self.learn_loads(client).await;
        }
        let mut expected = self.ledger.lock().versions(key, edition);
        expected.truncate(found.len().max(100));
        if expected != found {
            let what = format!("versions at edition {edition} are {found:?}, the model's {expected:?}");
            self.complain_of(client, vec![(key.to_owned(), what)]).await;
        }
    }

    /// Holds every read that was answered since the last time against what was acknowledged before it and what was
    /// under way beside it.
    async fn explain_reads(&self, client: &Client) {
        let mut wrong = Vec::new();
        {
            let mut ledger = self.ledger.lock();
            let (mut judged, mut unjudged) = (0, 0);
            for seen in &ledger.seen {
                match judge(&ledger, seen) {
                    Verdict::Explained => judged += 1,
                    Verdict::Unclear => unjudged += 1,
                    Verdict::Wrong(what) => wrong.push((seen.key.clone(), what)),
                }
            }
            ledger.judged += judged;
            ledger.unjudged += unjudged;
        }
        self.complain_of(client, wrong).await;
    }

    /// Complaints, the first few with all that is known of the key.
    async fn complain_of(&self, client: &Client, wrong: Vec<(String, String)>) {
        let count = wrong.len();
        for (at, (key, what)) in wrong.into_iter().enumerate() {
            if at == 3 {
                return self.complain(format!("... and {} more like it", count - at));
            }
            let mut text = format!("{key}: {what}");
            if !key.is_empty() {
                let ledger = self.ledger.lock();
                for op in ledger.keys.get(&key).into_iter().flatten() {
                    text += &format!("\n  {op}");
                }
                for load in ledger.loads.iter().filter(|load| load.shown != crate::ledger::Shown::Not) {
                    let (number, mode, version, shown) = (load.number, load.mode, load.version, load.shown);
                    text += &format!(
                        "\n  load {number} {mode:?} at {version} {shown:?}: {:?}",
                        load.rows.get(&key)
                    );
                }
            }
            if !key.is_empty() {
                let explained = self.explain(client, &key).await;
                text += &format!(
                    "\n  explained at edition {}, edit {}",
                    explained.edition.0, explained.manifest.0
                );
                for row in explained.rows {
                    text += &format!("\n  {row:?}");
                }
            }
            self.complain(text);
        }
    }
}

/// Finds out what became of the lost writes of a key, from values that were seen with their versions, and from every row
/// that the key has, in falling rank.
fn settle(ops: &mut [Op], values: &[(i64, String)], rows: &[ExplainedRowBody]) {
    let is_lost = |op: &Op| matches!(op.fate, Fate::Unknown | Fate::Open);
    let happened = |op: &mut Op, version: i64| {
        (op.version, op.fate) = (Some(version), Fate::Done);
        op.ended = Some(Instant::now());
    };
    // A flush may bury an expired row: then it is a tombstone of the same version.
    let fits = |op: &Op, row: &ExplainedRowBody| match op.length {
        _ if row.tombstone => op.length.is_none() || op.expired,
        length => length == Some(row.value_bytes as usize) && row.expires_at.is_some() == op.expired,
    };
    for op in ops.iter_mut().filter(|op| is_lost(op)) {
        let text = op.length.map(|length| value(op.id, length));
        if let Some((version, _)) = values.iter().find(|(_, value)| text.as_ref() == Some(value)) {
            happened(op, *version);
        }
    }
    let streamed =
        || rows.iter().filter(|row| !matches!(row.place, PlaceBody::Segment { load: Some(_), .. }));
    // Of one version the later write ranks higher. Two that look alike hide and show the same, but for puts of the same
    // length; those that are to be seen were found by their values.
    let versions: BTreeSet<i64> = ops.iter().filter(|op| is_lost(op)).filter_map(|op| op.version).collect();
    for version in versions {
        let mut tied: Vec<&mut Op> = ops
            .iter_mut()
            .filter(|op| op.version == Some(version) && (is_lost(op) || op.fate == Fate::Done))
            .collect();
        tied.sort_by_key(|op| std::cmp::Reverse(op.id));
        let mut tied = tied.into_iter();
        for row in streamed().filter(|row| row.version.0 == version) {
            if let Some(op) = tied.find(|op| fits(op, row)).filter(|op| is_lost(op)) {
                happened(op, version);
            }
        }
    }
    // What the log gave is above all that it had given before, and no other request's.
    let is_known = |op: &&Op| op.version.is_some() && !is_lost(op);
    let mut taken: BTreeMap<i64, u64> =
        ops.iter().filter(is_known).filter_map(|op| Some((op.version?, op.request))).collect();
    let mut rows: Vec<&ExplainedRowBody> = streamed().collect();
    for op in ops.iter_mut().rev().filter(|op| is_lost(op) && op.version.is_none()) {
        let is_its = |row: &&ExplainedRowBody| {
            let is_free = taken.get(&row.version.0).is_none_or(|request| *request == op.request);
            row.version.0 > op.above && is_free && fits(op, row)
        };
        if let Some(at) = rows.iter().position(is_its) {
            let version = rows.remove(at).version.0;
            taken.insert(version, op.request);
            happened(op, version);
        }
    }
    for op in ops.iter_mut().filter(|op| is_lost(op)) {
        (op.fate, op.ended) = (Fate::Gone, Some(Instant::now()));
    }
}

enum Verdict {
    Explained,
    /// Too much was under way beside it.
    Unclear,
    Wrong(String),
}

/// Whether a read can be explained by the writes that were acknowledged before it, and some of those beside it.
fn judge(ledger: &Ledger, seen: &Seen) -> Verdict {
    let Seen { key, begun, ended, edition, least_edition, found, how } = seen;
    if edition < least_edition {
        let what = format!("a {how} read saw edition {edition}, {least_edition} was told of before it");
        return Verdict::Wrong(what);
    }
    let ops = ledger.keys.get(key).map_or(&[][..], Vec::as_slice);
    let is_before = |op: &Op| op.fate == Fate::Done && op.ended.is_some_and(|end| end <= *begun);
    let is_beside =
        |op: &Op| matches!(op.fate, Fate::Done | Fate::Gone) && !is_before(op) && op.begun < *ended;
    let beside: Vec<(u64, Vec<i64>)> =
        ops.iter().filter(|op| is_beside(op)).map(|op| (op.id, possible_versions(ops, op))).collect();
    let ways =
        beside.iter().try_fold(1_u32, |ways, (_, versions)| ways.checked_mul(versions.len() as u32 + 1));
    let Some(ways) = ways.filter(|ways| *ways <= MOST_WAYS) else { return Verdict::Unclear };
    for way in 0..ways {
        // Digits of a number: each write beside it did not happen yet, or it did with one of its versions.
        let mut rest = way;
        let mut chosen = BTreeMap::new();
        for (id, versions) in &beside {
            let digit = (rest % (versions.len() as u32 + 1)) as usize;
            rest /= versions.len() as u32 + 1;
            chosen.extend(digit.checked_sub(1).map(|at| (*id, versions[at])));
        }
        let counts = |op: &Op| match is_before(op) {
            true => op.version,
            false => chosen.get(&op.id).copied(),
        };
        let model = ledger.model(key, counts);
        if shown(model.get(key.as_bytes(), &at(*edition))).first() == found.as_ref() {
            return Verdict::Explained;
        }
    }
    Verdict::Wrong(format!(
        "a {how} read at edition {edition} from {} to {} found {found:?}, with {} writes beside it",
        millis(*begun),
        millis(*ended),
        beside.len()
    ))
}

/// The versions that a write may have. Of one that the log gave a version, and of which nothing is left, only its place
/// among the key's others counts.
fn possible_versions(ops: &[Op], op: &Op) -> Vec<i64> {
    if let Some(version) = op.version {
        return vec![version];
    }
    let others = ops.iter().filter_map(|other| other.version).filter(|version| *version > op.above);
    let mut possible: Vec<i64> = others.chain([op.above]).map(|version| version.saturating_add(1)).collect();
    possible.sort_unstable();
    possible.dedup();
    possible
}
