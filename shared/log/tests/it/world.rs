//! Processes over one store.

use nacre_log::testing::{JitterStore, OpenProcess, Process, TestClock};
use nacre_log::{ObjectLog, ObjectLogConfig, PlantedBug};
use nacre_runtime::{Context, Ids, SeededIds};
use nacre_store::testing::{FaultRates, FaultyStore};
use nacre_store::{MemoryStore, ObjectPath, ObjectStore};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn prefix() -> ObjectPath {
    ObjectPath::new("log").unwrap()
}

pub(crate) fn config() -> ObjectLogConfig {
    ObjectLogConfig { partitions: 2, ..ObjectLogConfig::default() }
}

pub(crate) fn context(seed: u64) -> Context {
    Context::for_tests(seed).with_clock(Arc::new(TestClock::new(0)))
}

pub(crate) fn open(store: Arc<dyn ObjectStore>, ctx: &Context, config: ObjectLogConfig) -> ObjectLog {
    ObjectLog::open(store, &prefix(), ctx, config).unwrap()
}

/// Every process sees the same store without faults.
pub(crate) fn plain(store: Arc<dyn ObjectStore>) -> Box<OpenProcess> {
    Box::new(move |number| {
        let ctx = Context::for_tests(number);
        Process { log: Arc::new(open(store.clone(), &ctx, config())), ctx }
    })
}

/// What the weather of a storm is.
#[derive(Clone, Default)]
pub(crate) struct Weather {
    pub(crate) rates: FaultRates,
    pub(crate) bug: Option<PlantedBug>,
    pub(crate) jitter: Option<Duration>,
}

/// Every process has its own way to one store in memory: late, lossy, with requests that stay under way.
pub(crate) fn stormy(seed: u64, weather: Weather) -> Box<OpenProcess> {
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&context(0)));
    let clock = TestClock::new(0);
    Box::new(move |number| {
        let seed = seed.wrapping_mul(0x9E37_79B9).wrapping_add(number);
        // No two machines agree on the time.
        let skew = (SeededIds::new(seed).random_u64() % 6_000_000) as i64 - 3_000_000;
        let ctx = Context::for_tests(seed).with_clock(Arc::new(clock.skewed(skew)));
        let slow = Arc::new(JitterStore::new(
            memory.clone(),
            seed ^ 0x55,
            weather.jitter.unwrap_or(Duration::from_millis(3)),
        ));
        let faulty = FaultyStore::new(slow, seed ^ 0xAA);
        faulty.set_rates(weather.rates);
        let config =
            ObjectLogConfig { attempt_timeout: Duration::from_secs(1), planted_bug: weather.bug, ..config() };
        Process { log: Arc::new(open(Arc::new(faulty), &ctx, config)), ctx }
    })
}
