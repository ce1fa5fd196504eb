//! Several loaders and one load: each does part, nothing is done twice, and whoever comes late changes nothing.

use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{LoadReport, LoadState};
use nacre_loader::LoaderConfig;
use nacre_manifest::LoadState as Stored;
use nacre_types::{LoadId, NamespaceName, TableName, TableSettings};

use crate::files::{many, pairs};
use crate::gate::{Gate, process, segments};
use crate::harness::{Harness, files_below, merge};

const FILES: u32 = 24;
const ROWS: usize = 300;
const LONG: Duration = Duration::from_secs(3_600);

/// Each file is a unit of reading; nobody is robbed.
fn config() -> LoaderConfig {
    LoaderConfig {
        sort_bytes: 1 << 20,
        segment_bytes: 10 << 10,
        unit_bytes: 1,
        look_every: Duration::from_millis(20),
        patience: LONG,
        ..LoaderConfig::default()
    }
}

/// Whoever shows nothing new for a moment is helped.
fn impatient() -> LoaderConfig {
    LoaderConfig { patience: Duration::from_millis(200), ..config() }
}

fn files() -> Vec<(String, Vec<u8>)> {
    (0..FILES).map(|i| (format!("f{i:02}"), many(&format!("{i:02}-"), ROWS, false))).collect()
}

fn folder() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

async fn begin(harness: &Harness, files: &[(String, Vec<u8>)]) -> LoadId {
    let load = harness.begin(merge()).await.id;
    for (name, bytes) in files {
        harness.stage(load, name, bytes);
    }
    harness.table.commit_load(load, None, None).await.unwrap();
    load
}

/// Results of a kind that lie in the store.
fn results(harness: &Harness, kind: &str) -> usize {
    let all = files_below(&harness.folder.path().join("tables"));
    all.iter().filter(|path| path.display().to_string().contains(&format!("/units/{kind}"))).count()
}

/// The process ends, and none of its own is left to say what it had in hand.
async fn end(mut harness: Harness) {
    harness.kill_loader().await;
    harness.ctx.tasks.shutdown();
    harness.ctx.tasks.join_all(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loaders_share_the_files_of_one_load_and_do_nothing_twice() {
    let files = files();
    let (mut alone, _) = process(folder(), 9, segments, u32::MAX, true).await;
    alone.start_loader(config());
    let load = begin(&alone, &files).await;
    let of_one = alone.end_of(load).await;
    assert_eq!(of_one.state, LoadState::Committed, "{:?}", of_one.errors);

    for loaders in [2, 3] {
        let folder = folder();
        let mut all: Vec<(Harness, Arc<Gate>)> = Vec::new();
        for seed in 1..=loaders {
            all.push(process(folder.clone(), seed, segments, 2, true).await);
        }
        let load = begin(&all[0].0, &files).await;
        for (harness, _) in &mut all {
            harness.start_loader(config());
        }
        // Each has brought two files into runs, and is at its third.
        for (_, gate) in &all {
            gate.hangs().await;
        }
        for (_, gate) in &all {
            gate.open();
        }
        let info = all[0].0.end_of(load).await;
        assert_eq!(info.state, LoadState::Committed, "{:?}", info.errors);
        let reads = results(&all[0].0, "read-0") as u32;
        assert_eq!(reads, FILES, "one step for each file");
        all[0].0.table.refresh().await.unwrap();
        let puts: u32 = all.iter().map(|(_, gate)| gate.puts()).sum();
        assert_eq!(puts, FILES + all[0].0.table.info().segments as u32, "a run or a segment twice");
        assert!(all.iter().all(|(_, gate)| gate.puts() >= 2));

        assert_eq!(all[0].0.texts().await, alone.texts().await);
        let (shared, one) = (&info.progress, &of_one.progress);
        assert_eq!((shared.rows, shared.files_done), (u64::from(FILES) * ROWS as u64, u64::from(FILES)));
        assert_eq!((shared.rows, shared.rewritten_files), (one.rows, one.rewritten_files));
        for phase in ["validating", "sorting", "merging"] {
            assert!(shared.seconds.contains_key(phase), "{:?}", shared.seconds);
        }
        all[1].0.table.refresh().await.unwrap();
        assert_eq!(all[1].0.files_of(load).await, alone.files_of(of_one.id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_loader_that_dies_only_what_it_had_in_hand_is_done_again() {
    let files = files();
    for while_merging in [false, true] {
        let (limit, other) = if while_merging { (FILES + 2, u32::MAX) } else { (5, 5) };
        let folder = folder();
        let (mut first, dies) = process(folder.clone(), 1, segments, limit, true).await;
        let (mut second, lives) = process(folder, 2, segments, other, true).await;
        let load = begin(&first, &files).await;
        first.start_loader(config());
        if while_merging {
            dies.hangs().await;
        }
        second.start_loader(config());
        if !while_merging {
            dies.hangs().await;
            lives.hangs().await;
        }
        let before = dies.puts();
        end(first).await;
        lives.open();
        let info = second.end_of(load).await;
        assert_eq!(info.state, LoadState::Committed, "{:?}", info.errors);
        assert_eq!(second.texts().await.len(), FILES as usize * ROWS);
        second.table.refresh().await.unwrap();
        let needed = FILES + second.table.info().segments as u32;
        assert_eq!(before + lives.puts(), needed, "what was put counts: nothing of it was in hand");
        assert_eq!(results(&second, "read-0") as u32, FILES);
    }
}

fn read_results(path: &str) -> bool {
    path.contains("/units/read-")
}

fn reports(path: &str) -> bool {
    path.contains("/report-")
}

/// Two processes of which the first hangs with the result of the only unit, whose run it has put.
async fn one_hangs() -> (Harness, Arc<Gate>, Harness, Arc<Gate>, LoadId) {
    let folder = folder();
    let (mut first, slow) = process(folder.clone(), 1, read_results, 0, true).await;
    let (second, other) = process(folder, 2, read_results, 0, true).await;
    let load = begin(&first, &[("f".to_owned(), many("k", ROWS, false))]).await;
    first.start_loader(impatient());
    slow.hangs().await;
    (first, slow, second, other, load)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_do_one_unit_the_first_result_counts_whoever_brings_it() {
    for slow_one_wins in [false, true] {
        let (first, slow, mut second, other, load) = one_hangs().await;
        second.start_loader(impatient());
        // It had patience, and has done the unit too.
        other.hangs().await;
        let (winner, wins, loser, loses) =
            if slow_one_wins { (&first, &slow, &second, &other) } else { (&second, &other, &first, &slow) };
        wins.open();
        let info = winner.end_of(load).await;
        assert_eq!(info.state, LoadState::Committed, "{:?}", info.errors);
        let before = winner.texts().await;
        assert_eq!(before.len(), ROWS);
        loses.open();
        while loses.puts() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The loser is at its end when it has done another load.
        loser.load_well(merge(), &[("g", &pairs(&[("z", "1")]))]).await;
        winner.table.refresh().await.unwrap();
        assert_eq!(winner.texts().await.len(), ROWS + 1);
        assert_eq!(winner.table.load(load).await.unwrap().state, LoadState::Committed);
        assert_eq!(results(winner, "read-"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_comes_after_the_load_has_ended_changes_nothing() {
    let (first, slow, _second, _, load) = one_hangs().await;
    assert_eq!(first.table.cancel_load(load).await.unwrap().state, LoadState::Cancelled);
    slow.open();
    while slow.puts() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.load_well(merge(), &[("g", &pairs(&[("z", "1")]))]).await;
    assert_eq!(first.texts().await.len(), 1);
    let info = first.table.load(load).await.unwrap();
    assert_eq!(info.state, LoadState::Cancelled, "{:?}", info.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_end_a_load_at_once_end_it_once() {
    let folder = folder();
    let (mut first, one) = process(folder.clone(), 1, reports, 0, true).await;
    let (mut second, other) = process(folder, 2, reports, 0, true).await;
    let load = begin(&first, &[("f".to_owned(), many("k", ROWS, false))]).await;
    first.start_loader(impatient());
    one.hangs().await;
    second.start_loader(impatient());
    other.hangs().await;
    one.open();
    other.open();
    assert_eq!(first.end_of(load).await.state, LoadState::Committed);
    for harness in [&first, &second] {
        harness.load_well(merge(), &[("g", &pairs(&[("z", "1")]))]).await;
        harness.table.refresh().await.unwrap();
        assert_eq!(harness.texts().await.len(), ROWS + 1);
        assert_eq!(harness.table.load(load).await.unwrap().state, LoadState::Committed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_turns_to_another_load_while_others_hold_what_is_left_of_one() {
    let config = LoaderConfig { loads_at_once: 1, ..config() };
    let folder = folder();
    let (mut first, slow) = process(folder.clone(), 1, segments, 0, true).await;
    let (mut second, _) = process(folder, 2, segments, u32::MAX, true).await;
    let held = begin(&first, &[("f".to_owned(), many("k", ROWS, false))]).await;
    first.start_loader(config.clone());
    slow.hangs().await;
    second.start_loader(config);
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("other").unwrap());
    let other =
        second.node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await.unwrap();
    second.table = other.into_inner();
    for n in 0..3 {
        second.load_well(merge(), &[("g", &many(&format!("{n}"), ROWS, false))]).await;
    }
    assert_eq!(first.table.load(held).await.unwrap().state, LoadState::Preparing);
    slow.open();
    assert_eq!(first.end_of(held).await.state, LoadState::Committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_comes_late_cannot_fail_what_another_has_prepared() {
    let (mut harness, _) = process(folder(), 1, segments, u32::MAX, true).await;
    harness.start_loader(config());
    let id = harness.begin(merge()).await.id;
    harness.stage(id, "f", &many("k", ROWS, false));
    harness.table.prepare_load(id, None, None).await.unwrap();
    harness.until(id, |state| state == LoadState::Prepared).await;
    let load = harness.table.manifest().load(id).unwrap().clone();
    let report = LoadReport::default();
    harness.table.fail_load(&load, Stored::Pinned, "found late", &report).await.unwrap();
    assert_eq!(harness.table.load(id).await.unwrap().state, LoadState::Prepared);
    harness.table.fail_load(&load, Stored::Prepared, "may not be shown", &report).await.unwrap();
    assert_eq!(harness.table.load(id).await.unwrap().state, LoadState::Failed);
}
