//! Random histories, done to the engine and to the model of chapter 2; what every process answers must be what the
//! model answers.

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
