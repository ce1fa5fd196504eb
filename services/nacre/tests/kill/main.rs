//! Nothing that was acknowledged is lost: real processes, killed in the middle of everything.
//!
//! Each lane is a folder with a store. Its processes take writes of all kinds, batches, loads and reads from many
//! clients; one of them is killed (SIGKILL) while it certainly stands inside a flush, a compaction, the rewriting of a
//! load, a commit or its start, or at a random moment; then everything is held against the model. Now and then a second
//! process works on the same folder, or two start at once.
//!
//! Besides: two processes on one folder that take over from each other, and a large load that is killed half way.
//!
//! `NACRE_KILLS` asks for another number of kills, `NACRE_KILL_ROUNDS` for other rounds of two processes,
//! `NACRE_REWRITE_ROWS` for a larger load, `NACRE_KILL_SEED` for other dice; `NACRE_KILL_PROGRAM` names another build of
//! the program, and `NACRE_KILL_FOLDER` keeps the stores and logs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod check;
mod clients;
mod files;
mod lane;
mod ledger;
mod loads;
mod planted;
mod process;
mod rewrite;
mod two;

use lane::{ANY, Kills, Lane, PHASES};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Stores that are worked on at once: most of the time each waits for something.
const LANES: u64 = 3;

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().unwrap())
}

/// A folder for the stores: one that stays where the caller names it. The program is copied there, so that one that is
/// built meanwhile does not take the place of the one under test.
struct Place {
    path: PathBuf,
    program: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(name: &str) -> Self {
        let (path, temporary) = match std::env::var_os("NACRE_KILL_FOLDER") {
            Some(folder) => (PathBuf::from(folder).join(name), None),
            None => {
                let folder = tempfile::tempdir().unwrap();
                (folder.path().to_owned(), Some(folder))
            }
        };
        if temporary.is_none() {
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
        }
        let program = path.join("nacre");
        let built = std::env::var_os("NACRE_KILL_PROGRAM");
        std::fs::copy(built.unwrap_or_else(|| env!("CARGO_BIN_EXE_nacre").into()), &program).unwrap();
        Self { path, program, _temporary: temporary }
    }
}

/// Tells what is to be seen where tests' output is not, too.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{text}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_process_is_killed() {
    let place = Place::new("kills");
    let kills = Arc::new(Kills::default());
    let wanted = number("NACRE_KILLS", 100);
    let seed = number("NACRE_KILL_SEED", u64::from(std::process::id()));
    println!("{wanted} kills inside phases, NACRE_KILL_SEED={seed}");
    // A fifth in each phase, and some at random moments besides.
    let each = wanted.div_ceil(PHASES.len() as u64);
    for phase in PHASES {
        kills.wanted.lock().extend((0..each).map(|_| phase));
    }
    kills.wanted.lock().extend((0..wanted / 8).map(|_| ANY));
    shuffle(&mut kills.wanted.lock(), seed);
    runtime().block_on(async {
        let mut lanes = tokio::task::JoinSet::new();
        for n in 0..LANES {
            let folder = place.path.join(format!("{n}"));
            let max_versions = [1, 0, 2][n as usize % 3];
            let lane = Lane::new(&folder, &place.program, seed ^ n << 40, max_versions, kills.clone());
            lanes.spawn(async move {
                lane.run().await;
                let ledger = lane.rows.ledger.lock();
                let (judged, unjudged) = (ledger.judged, ledger.unjudged);
                (ledger.acknowledged, ledger.loads.len(), ledger.edition, judged, unjudged)
            });
        }
        while let Some(ended) = lanes.join_next().await {
            match ended {
                Ok((acknowledged, loads, edition, judged, unjudged)) => {
                    tell(&format!(
                        "{acknowledged} rows acknowledged, {loads} loads, edition {edition}, {judged} reads judged"
                    ));
                    assert!(unjudged * 50 < judged, "{unjudged} reads could not be judged");
                }
                Err(error) => {
                    tell(&kills.table());
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    });
    tell(&kills.table());
    let inside = kills.inside();
    assert!(u64::from(inside) >= wanted, "only {inside} kills");
    let done = kills.done.lock();
    for phase in PHASES {
        let count = done.get(phase).copied().unwrap_or(0);
        assert!(count * 5 >= inside, "only {count} of {inside} kills in {phase}");
    }
}

fn shuffle(all: &mut [&'static str], seed: u64) {
    use nacre_runtime::Ids;
    let dice = nacre_runtime::SeededIds::new(seed);
    for at in (1..all.len()).rev() {
        all.swap(at, (dice.random_u64() % (at as u64 + 1)) as usize);
    }
}

#[test]
fn two_processes_on_one_store_see_each_other_and_survive_one_another() {
    let place = Place::new("two");
    let seed = number("NACRE_KILL_SEED", u64::from(std::process::id())) ^ 2;
    let rounds = number("NACRE_KILL_ROUNDS", 6);
    runtime().block_on(two::run(&place.path, &place.program, seed, rounds));
}

#[test]
fn what_is_lost_is_noticed() {
    let place = Place::new("planted");
    let seed = number("NACRE_KILL_SEED", u64::from(std::process::id())) ^ 3;
    runtime().block_on(planted::run(&place.path, &place.program, seed));
}

#[test]
fn a_rewrite_that_is_killed_goes_on_where_it_was() {
    let place = Place::new("rewrite");
    let rows = number("NACRE_REWRITE_ROWS", 200_000);
    runtime().block_on(rewrite::run(&place.path, &place.program, rows));
}

#[test]
fn of_two_loaders_that_share_a_load_one_is_killed_and_the_other_ends_it() {
    let place = Place::new("shared");
    runtime().block_on(rewrite::run_shared(&place.path, &place.program, 200_000));
}
