use super::*;
use crate::MemoryStore;
use crate::testing::{Fault, FaultyStore, Operation};
use crate::{LogHole, ResumedPartition};
use nacre_types::{Offset, PartitionId};
use proptest::prelude::*;
use std::sync::Arc;

fn identity() -> StoreIdentity {
    StoreIdentity {
        format_level: 3,
        store_id: StoreId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        catalog: "same-store".into(),
        catalog_incarnation: 1,
        log: "kafka://brokers/topic".into(),
        log_incarnation: LogIncarnation(2),
        mending: LogMending::default(),
        resume: None,
    }
}

/// One whose log was taken up again, and of which one partition is not finished.
fn resumed() -> StoreIdentity {
    let partition = |partition, lost_to: Option<u64>| ResumedPartition {
        partition: PartitionId(partition),
        start: Offset(1 << 33),
        clock: -5,
        lost_from: Offset(17),
        lost_to: lost_to.map(Offset),
        why: "the topic was made again".into(),
    };
    StoreIdentity {
        mending: LogMending {
            bases: vec![1 << 33, 0],
            holes: vec![LogHole { partition: PartitionId(1), from: Offset(5), to: Offset(9) }],
        },
        resume: Some(LogResume {
            incarnation: LogIncarnation(2),
            at_micros: 1_700_000_000_000_000,
            by: "somebody".into(),
            log_before: "kafka://brokers/before".into(),
            partitions: vec![partition(0, None), partition(1, Some(20))],
        }),
        ..identity()
    }
}

fn expected() -> Expected {
    Expected { catalog: "same-store".into(), log: "same-store".into(), format_level: 1 }
}

#[test]
fn the_bytes_stay_what_they_are() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/identity-1.bin");
    let golden = std::fs::read(path).unwrap();
    assert_eq!(identity().encode(), golden);
    assert_eq!(StoreIdentity::decode(&golden).unwrap(), identity());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/identity-2.bin");
    let golden = std::fs::read(path).unwrap();
    assert_eq!(resumed().encode(), golden);
    assert_eq!(StoreIdentity::decode(&golden).unwrap(), resumed());
    assert_eq!(golden[0], 2, "which no program of the first format level reads");
}

#[test]
fn an_identity_is_read_as_it_was_written() {
    for identity in [
        identity(),
        resumed(),
        StoreIdentity { resume: None, ..resumed() },
        StoreIdentity { mending: LogMending::default(), ..resumed() },
    ] {
        assert_eq!(StoreIdentity::decode(&identity.encode()).unwrap(), identity);
    }
    let upside_down = LogHole { partition: PartitionId(1), from: Offset(9), to: Offset(9) };
    let mending = LogMending { holes: vec![upside_down], ..LogMending::default() };
    let bytes = StoreIdentity { mending, ..identity() }.encode();
    assert_eq!(StoreIdentity::decode(&bytes).unwrap_err().code(), "identity-corrupt");
    let mut newer = resumed().encode().to_vec();
    newer[0] = 3;
    assert_eq!(StoreIdentity::decode(&newer).unwrap_err().code(), "newer-format");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), at: usize, with: u8) {
        let _ = StoreIdentity::decode(&bytes);
        // With a right checksum, so that the fields are really looked at.
        bytes.insert(0, 2);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        let _ = StoreIdentity::decode(&bytes);
        for identity in [identity(), resumed()] {
            let mut changed = identity.encode().to_vec();
            let at = at % changed.len();
            let was = std::mem::replace(&mut changed[at], with);
            prop_assert_eq!(StoreIdentity::decode(&changed).is_ok(), was == with);
        }
    }
}

#[tokio::test]
async fn the_first_process_names_the_store_and_others_must_agree() {
    let ctx = Context::for_tests(1);
    let store = MemoryStore::new(&ctx);
    let first = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap();
    let again = StoreIdentity::open_or_create(&store, &expected(), &Context::for_tests(2)).await.unwrap();
    assert_eq!(first, again);
    let newer = Expected { format_level: 9, ..expected() };
    assert_eq!(StoreIdentity::open_or_create(&store, &newer, &ctx).await.unwrap(), first);
    let other = Expected { log: "kafka://elsewhere/topic".into(), ..expected() };
    let error = StoreIdentity::open_or_create(&store, &other, &ctx).await.unwrap_err();
    assert_eq!(error.code(), "store-identity");
    assert!(error.detail().contains("same-store") && error.detail().contains("kafka://elsewhere/topic"));
    let older = Expected { format_level: 0, ..expected() };
    let error = StoreIdentity::open_or_create(&store, &older, &ctx).await.unwrap_err();
    assert_eq!(error.code(), "newer-format");
}

#[tokio::test(start_paused = true)]
async fn a_format_level_is_raised_in_any_weather_and_never_lowered() {
    let ctx = Context::for_tests(1);
    for fault in
        [Fault::LostAnswer, Fault::UnderWay, Fault::SentTwice, Fault::LostRequest, Fault::Unavailable]
    {
        let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
        let error = StoreIdentity::raise_format_level(&store, 2, &ctx).await.unwrap_err();
        assert_eq!(error.code(), "store-not-found");
        let first = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap();
        store.script(Operation::Put, "identity", fault);
        store.script(Operation::Read, "identity", Fault::Unavailable);
        let raised = StoreIdentity::raise_format_level(&store, 2, &ctx).await.unwrap();
        assert_eq!(raised, StoreIdentity { format_level: 2, ..first }, "{fault:?}");
        store.deliver().await;
        assert_eq!(StoreIdentity::raise_format_level(&store, 1, &ctx).await.unwrap(), raised);
        let error = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap_err();
        assert_eq!(error.code(), "newer-format", "the older program does not start any more");
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_start_together_agree_in_any_weather() {
    let ctx = Context::for_tests(1);
    for fault in
        [Fault::LostAnswer, Fault::UnderWay, Fault::SentTwice, Fault::LostRequest, Fault::Unavailable]
    {
        let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
        store.script(Operation::Put, "identity", fault);
        store.script(Operation::Read, "identity", Fault::Unavailable);
        let starts: Vec<_> = (0..5)
            .map(|n| {
                let store = store.clone();
                ctx.tasks.spawn("start", async move {
                    StoreIdentity::open_or_create(&store, &expected(), &Context::for_tests(n)).await.unwrap()
                })
            })
            .collect();
        let mut ids = Vec::new();
        for start in starts {
            ids.push(start.await.unwrap().store_id);
        }
        store.deliver().await;
        ids.push(StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap().store_id);
        ids.dedup();
        assert_eq!(ids.len(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_replaced_if_unchanged_in_any_weather_and_a_resume_under_way_starts_nothing() {
    let ctx = Context::for_tests(1);
    for fault in
        [Fault::LostAnswer, Fault::UnderWay, Fault::SentTwice, Fault::LostRequest, Fault::Unavailable]
    {
        let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
        let first = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap();
        let begun = StoreIdentity { mending: resumed().mending, resume: resumed().resume, ..first.clone() };
        let other = StoreIdentity { log_incarnation: LogIncarnation(7), ..first.clone() };
        store.script(Operation::Put, "identity", fault);
        store.script(Operation::Read, "identity", Fault::Unavailable);
        StoreIdentity::replace(&store, &first, &begun, &ctx).await.unwrap();
        store.deliver().await;
        StoreIdentity::replace(&store, &first, &begun, &ctx).await.unwrap();
        let error = StoreIdentity::replace(&store, &first, &other, &ctx).await.unwrap_err();
        assert_eq!(error.code(), "identity-changed", "{fault:?}");
        let error = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap_err();
        assert_eq!(error.code(), "log-resume-unfinished");
        assert!(error.detail().contains("nacre log resume"), "{error}");
        let done = StoreIdentity { resume: None, ..begun.clone() };
        StoreIdentity::replace(&store, &begun, &done, &ctx).await.unwrap();
        assert_eq!(StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap(), done);
    }
}
