//! Random histories, done to the engine and to the model of chapter 2; what every process answers must be what the
//! model answers.
//!
//! Time is paused and everything happens on one thread, so a seed says all. A process dies at a write to the store that
//! the history chose, with or without that write's effect; from then on its way to the store is closed.
//!
//! What it sees was tried by mistakes made on purpose in the engine, one at a time; within 400 histories it found each of
//! these: rows shown that the manifest covers; a floor that hides its own load; rows dropped under floors that are not
//! sealed; carried rows not read at a start, not written, or lost when memtables are merged; a put that lost a tie dropped
//! although it expires earlier; a tombstone that lost a tie dropped, or not hiding; segments of an equal version not
//! read; an expired row dropped where it has to stay as a tombstone; compaction that mixes up what ties; `expired_below`
//! not looked at; a now for drops that is too late; a reverse scan that turns ties round; an older edition read with the
//! floors of now; a strong read that does not read the table log; the index within a record forgotten. (Dropping what ties
//! with the last version that `max_versions` keeps was not found, and cannot be: nothing below it is ever seen.)

pub mod check;
pub mod drive;
pub mod ops;
pub mod pairs;
pub mod shrink;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use drive::Driver;
use ops::History;
use pairs::{Met, Pairs};

/// Does one history; `Err` says where the engine and the model part.
pub fn run(history: &History) -> Result<Met, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| e.to_string())?;
    let done = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut driver = Driver::new(history);
            let done = driver.run(history).await;
            for process in driver.slots.iter().flatten() {
                process.ctx.tasks.shutdown();
            }
            done.map(|()| driver.met)
        })
    }));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// The histories of the seeds `first..first + count`. The first that fails is shrunk and told.
pub fn run_many(first: u64, count: u64, mut told: impl FnMut(u64)) -> Result<Pairs, String> {
    let mut pairs = Pairs::default();
    for seed in first..first + count {
        let history = History::draw(seed);
        match run(&history) {
            Ok(met) => pairs.count(met),
            Err(why) => return Err(shrink::report(seed, history, why)),
        }
        told(seed);
    }
    Ok(pairs)
}
