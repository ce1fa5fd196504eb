//! Rows written, read, flushed, compacted and read again after a restart.

use crate::harness::{Harness, put, row};
use nacre_engine::{Absence, FlushMode, Lookup, RowOutcome, WriteOptions, choose_compaction};
use nacre_types::{Consistency, KeyRange, PartitionId, TableSettings};

const P0: PartitionId = PartitionId(0);

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_visible_to_the_next_read_before_and_after_a_flush_and_a_restart() {
    let mut harness = Harness::memory().await;
    let table = harness.table("t", TableSettings::default()).await;
    put(&table, vec![row("a", Some("1"), None), row("b", Some("2"), None), row("b", Some("3"), None)]).await;
    put(&table, vec![row("c", Some("4"), None), row("a", None, None)]).await;
    for round in 0..3 {
        let table = harness.table("t", TableSettings::default()).await;
        assert_eq!(harness.get(&table, "a").await, None, "round {round}");
        assert_eq!(harness.get(&table, "b").await.as_deref(), Some("3"), "of one key twice the later wins");
        assert_eq!(harness.get(&table, "c").await.as_deref(), Some("4"));
        assert_eq!(harness.get(&table, "d").await, None);
        let absent = table.get(b"a", &harness.read()).await.unwrap().0;
        assert_eq!(absent, Lookup::Absent(Absence::Tombstone));
        let expected = vec![("b".to_owned(), "3".to_owned()), ("c".to_owned(), "4".to_owned())];
        assert_eq!(harness.scan(&table, KeyRange::all(), false).await, expected);
        let reversed: Vec<_> = expected.into_iter().rev().collect();
        assert_eq!(harness.scan(&table, KeyRange::all(), true).await, reversed);
        if round == 0 {
            let report = harness.node.flush(P0, FlushMode::All).await.unwrap();
            assert_eq!((report.tables_flushed, report.rows_carried), (1, 0));
            assert_eq!(table.info().tail_rows, 0, "flushed rows leave the tail");
        } else {
            harness = harness.restart(10 + round).await;
        }
    }
}

/// Batches that share a chunk are inserted by several threads.
#[tokio::test(flavor = "multi_thread")]
async fn large_batches_of_many_writers_are_all_there_before_and_after_a_flush_and_a_restart() {
    let mut harness = Harness::memory().await;
    let table = harness.table("t", TableSettings::default()).await;
    let (writers, batch) = (8, 400);
    for round in 0..3 {
        let writes = (0..writers).map(|writer| {
            let key = |n: usize| format!("k{:06}", (n * writers + writer) * 3 + round);
            let rows = (0..batch).map(|n| row(&key(n), Some(&key(n)), None)).collect();
            put(&table, rows)
        });
        futures::future::join_all(writes).await;
    }
    for round in 0..3 {
        let table = harness.table("t", TableSettings::default()).await;
        let rows = harness.scan(&table, KeyRange::all(), false).await;
        assert_eq!(rows.len(), writers * batch * 3, "round {round}");
        assert!(rows.iter().all(|(key, value)| key == value) && rows.is_sorted());
        assert_eq!(harness.get(&table, "k000777").await.as_deref(), Some("k000777"));
        if round == 0 {
            harness.node.flush(P0, FlushMode::All).await.unwrap();
        } else {
            harness = harness.restart(20 + round).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_quiet_tables_are_carried_and_found_after_a_restart() {
    let harness = Harness::memory().await;
    let table = harness.table("t", TableSettings::default()).await;
    for round in 0..3 {
        put(&table, vec![row(&format!("k{round}"), Some("v"), Some(round))]).await;
        let report = harness.node.flush(P0, FlushMode::Due).await.unwrap();
        assert_eq!((report.tables_flushed, report.rows_carried), (0, round as u64 + 1));
    }
    let harness = harness.restart(2).await;
    let table = harness.table("t", TableSettings::default()).await;
    assert_eq!(harness.scan(&table, KeyRange::all(), false).await.len(), 3);
    harness.node.flush(P0, FlushMode::All).await.unwrap();
    assert_eq!(table.info().segments, 1);
    let harness = harness.restart(3).await;
    let table = harness.table("t", TableSettings::default()).await;
    assert_eq!(harness.scan(&table, KeyRange::all(), false).await.len(), 3);
    assert_eq!(table.info().tail_rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_changes_no_answer_and_keeps_segments_few() {
    let harness = Harness::memory().await;
    let table = harness.table("t", TableSettings { max_versions: 0, ..TableSettings::default() }).await;
    for round in 0..40 {
        let rows = (0..50)
            .map(|i| row(&format!("k{:03}", (i * 7 + round) % 100), Some(&format!("{round}-{i}")), None));
        put(&table, rows.collect()).await;
        harness.node.flush(P0, FlushMode::All).await.unwrap();
        let before = harness.scan(&table, KeyRange::all(), false).await;
        let versions = table.versions(b"k007", i64::MIN, i64::MAX, 1_000, &harness.read()).await.unwrap().0;
        while table.compact_once().await.unwrap().is_some() {}
        assert_eq!(harness.scan(&table, KeyRange::all(), false).await, before, "round {round}");
        assert_eq!(
            table.versions(b"k007", i64::MIN, i64::MAX, 1_000, &harness.read()).await.unwrap().0,
            versions
        );
    }
    assert!(choose_compaction(&table.manifest()).is_none());
    assert!(table.info().segments <= 12, "{} segments", table.info().segments);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_invalid_fails_alone() {
    let harness = Harness::memory().await;
    let table = harness.table("t", TableSettings::default()).await;
    let rows = vec![row("a", Some("1"), Some(i64::MAX)), row("b", Some("2"), None)];
    let written = table.write(rows, &WriteOptions::default()).await.unwrap();
    assert!(matches!(&written.outcomes[0], RowOutcome::Failed(error) if error.code() == "version-ahead"));
    assert!(matches!(written.outcomes[1], RowOutcome::Ok { .. }));
    assert_eq!(harness.get(&table, "a").await, None);
    assert_eq!(harness.get(&table, "b").await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_store_see_each_others_writes() {
    let one = Harness::memory().await;
    let table_one = one.table("t", TableSettings::default()).await;
    let two = Harness::over(one.store.clone(), 2).await;
    let table_two = two.table("t", TableSettings::default()).await;
    for round in 0..10 {
        let value = round.to_string();
        let (writer, harness, reader) =
            if round % 2 == 0 { (&table_one, &two, &table_two) } else { (&table_two, &one, &table_one) };
        let written =
            writer.write(vec![row("k", Some(&value), None)], &WriteOptions::default()).await.unwrap();
        let mut options = harness.read();
        options.session = Some(written.token.clone());
        options.consistency = Some(Consistency::Session);
        let Lookup::Found(found) = reader.get(b"k", &options).await.unwrap().0 else {
            panic!("round {round}")
        };
        assert_eq!(crate::harness::text(&found), value);
        options.session = None;
        options.consistency = Some(Consistency::Strong);
        let Lookup::Found(found) = reader.get(b"k", &options).await.unwrap().0 else {
            panic!("round {round}")
        };
        assert_eq!(crate::harness::text(&found), value);
        if round % 3 == 0 {
            let flusher = if round % 2 == 0 { &one } else { &two };
            flusher.node.flush(P0, FlushMode::All).await.unwrap();
        }
    }
}
