//! Tombstones that go where the table sets `max_lateness`, and those that have to stay.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_engine::{BeginLoad, FlushMode, Guards, LoadMode, LoadVersion, OnDuplicate, Table};
use nacre_runtime::{Clock, ManualClock};
use nacre_types::{KeyRange, NamespaceName, PartitionId, TableName, TableSettings};

use crate::harness::{Harness, put, row};

const HOUR: Duration = Duration::from_secs(3_600);
const P0: PartitionId = PartitionId(0);

fn late(limit: Option<Duration>) -> TableSettings {
    TableSettings { max_lateness_seconds: limit.map(|limit| limit.as_secs()), ..TableSettings::default() }
}

async fn timed() -> (Harness, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_800_000_000_000_000));
    (Harness::timed(clock.clone()).await, clock)
}

async fn flush(harness: &Harness) {
    harness.node.flush(P0, FlushMode::All).await.unwrap();
}

/// Four runs: what was written, and three beside it, so that a merge is due.
async fn four_runs(harness: &Harness, table: &Arc<Table>) {
    flush(harness).await;
    for name in ["x", "y", "z"] {
        put(table, vec![row(name, Some("v"), None)]).await;
        flush(harness).await;
    }
}

fn tombstones(table: &Arc<Table>) -> u64 {
    table.manifest().segments().map(|segment| segment.tombstones()).sum()
}

async fn everything(harness: &Harness, table: &Arc<Table>) -> Vec<(String, String)> {
    harness.scan(table, KeyRange::all(), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_leaves_out_a_tombstone_that_nothing_can_come_below_any_more() {
    let (harness, clock) = timed().await;
    let table = harness.table("t", late(Some(HOUR))).await;
    put(&table, vec![row("gone", Some("v"), None), row("here", Some("v"), None)]).await;
    put(&table, vec![row("gone", None, None)]).await;
    four_runs(&harness, &table).await;
    assert_eq!(tombstones(&table), 1, "young");
    clock.advance(HOUR + Duration::from_secs(601 + 60));
    let before = everything(&harness, &table).await;
    let report = table.compact_once().await.unwrap().unwrap();
    assert_eq!((report.rows_in, report.rows_out), (5, 4));
    assert_eq!(tombstones(&table), 0);
    assert_eq!(everything(&harness, &table).await, before);
    assert_eq!(harness.get(&table, "gone").await, None);
    // What could come below it is refused.
    let version = Some(clock.now_micros() - 2 * HOUR.as_micros() as i64);
    let written = table.write(vec![row("gone", Some("late"), version)], &Default::default()).await.unwrap();
    assert!(
        matches!(&written.outcomes[0], nacre_engine::RowOutcome::Failed(error) if error.code() == "version-late")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_stay_within_the_margin_and_without_a_limit() {
    for (limit, passed) in [(Some(HOUR), HOUR + Duration::from_secs(600)), (None, 100 * HOUR)] {
        let (harness, clock) = timed().await;
        let table = harness.table("t", late(limit)).await;
        put(&table, vec![row("gone", None, None)]).await;
        four_runs(&harness, &table).await;
        clock.advance(passed);
        table.compact_once().await.unwrap().unwrap();
        assert_eq!(tombstones(&table), 1, "{limit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_stays_while_an_older_row_is_in_the_tail_or_in_another_segment() {
    let (harness, clock) = timed().await;
    let table = harness.table("t", late(Some(HOUR))).await;
    let old = clock.now_micros() - 1_000_000;
    // A run that is larger than the others, so that those are merged first.
    let names: Vec<String> = (0..999).map(|n| format!("large{}", n * 7_919)).collect();
    let mut rows: Vec<_> = names.iter().map(|name| row(name, Some(name), None)).collect();
    rows.push(row("below", Some("v"), Some(old)));
    put(&table, rows).await;
    flush(&harness).await;
    put(&table, vec![row("below", None, None), row("tail", None, None), row("alone", None, None)]).await;
    four_runs(&harness, &table).await;
    put(&table, vec![row("tail", Some("arrived late"), Some(old))]).await;
    clock.advance(2 * HOUR);
    let before = everything(&harness, &table).await;
    let report = table.compact_once().await.unwrap().unwrap();
    assert_eq!((report.inputs, report.rows_in, report.rows_out), (4, 6, 5));
    assert_eq!(everything(&harness, &table).await, before);
    assert_eq!((harness.get(&table, "below").await, harness.get(&table, "tail").await), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_under_way_keeps_the_tombstones_that_it_may_bring_rows_below() {
    let (harness, clock) = timed().await;
    let table = harness.table("t", late(Some(HOUR))).await;
    let request = BeginLoad {
        mode: LoadMode::Merge,
        version: Some(LoadVersion::Now),
        source: None,
        columns: None,
        guards: Guards::default(),
        on_duplicate: OnDuplicate::Fail,
    };
    let load = table.begin_load(&request, Bytes::from_static(b"{}"), None).await.unwrap().into_inner().id;
    put(&table, vec![row("gone", None, None)]).await;
    four_runs(&harness, &table).await;
    clock.advance(5 * HOUR);
    table.compact_once().await.unwrap().unwrap();
    assert_eq!(tombstones(&table), 1);
    table.cancel_load(load).await.unwrap();
    // The merged run and three more.
    four_runs(&harness, &table).await;
    table.compact_once().await.unwrap().unwrap();
    assert_eq!(tombstones(&table), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_leaves_out_what_waited_too_long() {
    let (harness, clock) = timed().await;
    let table = harness.table("t", late(Some(HOUR))).await;
    put(&table, vec![row("gone", Some("v"), None)]).await;
    put(&table, vec![row("gone", None, None), row("here", Some("v"), None)]).await;
    clock.advance(2 * HOUR);
    flush(&harness).await;
    assert_eq!((table.manifest().rows(), tombstones(&table)), (1, 0));
    assert_eq!(everything(&harness, &table).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_limit_holds_once_everybody_must_know_it() {
    let (harness, clock) = timed().await;
    let table = harness.table("t", late(None)).await;
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    let set = |limit| harness.node.update_table(&namespace, &name, move |_| Ok(late(limit)));
    set(Some(HOUR)).await.unwrap();
    put(&table, vec![row("gone", None, None)]).await;
    four_runs(&harness, &table).await;
    assert!(!table.settle_lateness().await.unwrap(), "seen");
    clock.advance(Duration::from_secs(599));
    assert!(!table.settle_lateness().await.unwrap());
    clock.advance(2 * HOUR);
    table.compact_once().await.unwrap().unwrap();
    assert_eq!(tombstones(&table), 1, "it is not known yet from where on the limit holds");
    assert!(table.settle_lateness().await.unwrap());
    assert!(!table.settle_lateness().await.unwrap(), "once");
    four_runs(&harness, &table).await;
    table.compact_once().await.unwrap().unwrap();
    assert_eq!(tombstones(&table), 0);
    // Removed: what could come below tombstones that are gone stays refused.
    let dropped = table.manifest();
    set(None).await.unwrap();
    assert!(table.manifest().late_below() >= clock.now_micros() - HOUR.as_micros() as i64 - 1_000_000);
    assert!(table.manifest().late_below() >= dropped.late_drop_limit(clock.now_micros()).unwrap());
}
