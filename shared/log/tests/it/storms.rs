use crate::world::{Weather, plain, stormy};
use nacre_log::PlantedBug;
use nacre_log::testing::{StormPlan, StormReport, storm};
use nacre_runtime::Context;
use nacre_store::LocalStore;
use nacre_store::testing::FaultRates;
use std::sync::Arc;
use std::time::Duration;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// One storm in a world of its own: the same seed gives the same storm.
fn run(seed: u64, weather: Weather, plan: &StormPlan) -> Result<StormReport, String> {
    runtime().block_on(async { storm(&*stormy(seed, weather), seed, plan).await })
}

fn all_hold(seeds: std::ops::Range<u64>, weather: &Weather, plan: &StormPlan) -> StormReport {
    let mut sum = StormReport::default();
    for seed in seeds {
        let report = run(seed, weather.clone(), plan).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        sum.records += report.records;
        sum.acknowledged += report.acknowledged;
        sum.refused += report.refused;
        sum.unknown += report.unknown;
        sum.restarts += report.restarts;
        sum.trims += report.trims;
    }
    sum
}

#[test]
fn acknowledged_records_are_read_once_in_order_by_every_reader() {
    let sum = all_hold(0..30, &Weather::default(), &StormPlan::default());
    assert!(sum.acknowledged > 1_000 && sum.trims > 100, "{sum:?}");
}

#[test]
fn it_holds_when_requests_and_answers_are_lost_late_or_doubled() {
    let weather = Weather { rates: FaultRates::stormy(), ..Weather::default() };
    let sum = all_hold(0..60, &weather, &StormPlan::default());
    assert!(sum.acknowledged > 1_000 && sum.trims > 100 && sum.restarts > 0 && sum.unknown > 0, "{sum:?}");
}

#[test]
fn it_holds_when_callers_give_up_in_the_middle() {
    let weather = Weather { rates: FaultRates::stormy(), ..Weather::default() };
    let plan = StormPlan { deadline: Duration::from_millis(60), ..StormPlan::default() };
    let sum = all_hold(100..160, &weather, &plan);
    assert!(sum.acknowledged > 500 && sum.refused > 100 && sum.unknown > 100, "{sum:?}");
}

/// Where nothing is trimmed, a repeat from any process finds out.
#[test]
fn repeats_sent_anywhere_append_once_whatever_the_clocks_say() {
    let weather = Weather { rates: FaultRates::stormy(), ..Weather::default() };
    let plan = StormPlan { deadline: Duration::from_millis(60), trim_every: None, ..StormPlan::default() };
    let sum = all_hold(200..260, &weather, &plan);
    assert!(sum.acknowledged > 1_000 && sum.unknown < sum.acknowledged, "{sum:?}");
}

#[test]
fn a_seed_replays_the_same_storm() {
    let weather = Weather { rates: FaultRates::stormy(), ..Weather::default() };
    let plan = StormPlan::default();
    assert_eq!(run(3, weather.clone(), &plan), run(3, weather, &plan));
}

/// Not a test of every day: `cargo test -p nacre-log --test it -- --ignored --nocapture many_storms`.
#[test]
#[ignore = "takes minutes"]
fn many_storms() {
    let weather = Weather { rates: FaultRates::stormy(), ..Weather::default() };
    println!("{:?}", all_hold(10_000..11_500, &weather, &StormPlan::default()));
    let short = StormPlan { deadline: Duration::from_millis(60), ..StormPlan::default() };
    println!("{:?}", all_hold(2_500..3_500, &weather, &short));
    let untrimmed = StormPlan { trim_every: None, ..short.clone() };
    println!("{:?}", all_hold(20_000..21_500, &weather, &untrimmed));
    let quick = Weather { jitter: Some(Duration::from_micros(300)), ..weather };
    let trims = StormPlan { trim_every: Some(Duration::from_millis(1)), ..StormPlan::default() };
    println!("{:?}", all_hold(6_500..7_500, &quick, &trims));
}

fn found(bug: PlantedBug, rates: FaultRates, plan: &StormPlan) {
    let seeds = 0..400;
    for seed in seeds.clone() {
        let weather = Weather { rates, bug: Some(bug), jitter: None };
        if let Err(wrong) = run(seed, weather, plan) {
            println!("{bug:?}: seed {seed}: {wrong}");
            return;
        }
    }
    panic!("{bug:?} passes {} storms", seeds.end);
}

#[test]
fn every_planted_bug_is_found() {
    let plan = StormPlan::default();
    for bug in [
        PlantedBug::BelieveCreates,
        PlantedBug::BelieveWinners,
        PlantedBug::BelieveReads,
        PlantedBug::MoveOnAfterUnknown,
        PlantedBug::DeleteBeforeBoundary,
    ] {
        found(bug, FaultRates::stormy(), &plan);
    }
    // Deadlines so short that callers give up in the middle.
    let hasty = StormPlan { deadline: Duration::from_millis(60), ..plan };
    found(PlantedBug::TakeExistsForAnothers, FaultRates::stormy(), &hasty);
    let untrimmed = StormPlan { trim_every: None, ..hasty };
    found(PlantedBug::NotLookForRepeats, FaultRates::stormy(), &untrimmed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_over_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(folder.path(), &Context::for_tests(0)).unwrap());
    let plan = StormPlan { pause: Duration::from_millis(4), ..StormPlan::default() };
    let report = storm(&*plain(store), 1, &plan).await.unwrap();
    assert!(report.acknowledged > 100, "{report:?}");
}
