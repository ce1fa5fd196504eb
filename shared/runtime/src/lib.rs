//! What the world gives: time, randomness, tasks and the wish to stop, all as parameters.
//!
//! Nothing in `shared/` reads a clock, draws a random number or spawns a task by itself; it takes a [`Context`]. So a
//! test can hold the time still, a simulator can replay a seed, and a program knows the name of every task it waits
//! for when it ends. Sleeping is `tokio::time::sleep`, which a test pauses; [`SystemClock::monotonic`](Clock) follows it.

mod backoff;
mod budget;
mod clock;
mod hedge;
mod ids;
mod phases;
mod tasks;

pub use backoff::Backoff;
pub use budget::Budget;
pub use clock::{Clock, ManualClock, SystemClock};
pub use hedge::Hedger;
pub use ids::{Ids, SeededIds, SystemIds};
pub use phases::{PhaseObserver, Phases};
pub use tasks::{Shutdown, TaskHandle, Tasks};

use std::sync::Arc;

/// The world, as a parameter: cheap to clone, every clone is the same world.
#[derive(Clone, Debug)]
pub struct Context {
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Where ids and jitter come from.
    pub ids: Arc<dyn Ids>,
    /// Where tasks are spawned, and how they learn that the program ends.
    pub tasks: Tasks,
    /// Who is told of the points that crashes are tested at; nobody, outside of tests.
    pub phases: Phases,
}

impl Context {
    /// The real world. A program makes one; tasks of different contexts are waited for apart.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            ids: Arc::new(SystemIds::new()),
            tasks: Tasks::new(),
            phases: Phases::default(),
        }
    }

    /// The system's clock (which follows tokio's paused time where it measures) and ids that repeat with the seed. Two
    /// contexts that share a store need different seeds, or they mint the same ids.
    pub fn for_tests(seed: u64) -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            ids: Arc::new(SeededIds::new(seed)),
            tasks: Tasks::new(),
            phases: Phases::default(),
        }
    }

    /// The same world under another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The same world with another source of ids.
    #[must_use]
    pub fn with_ids(mut self, ids: Arc<dyn Ids>) -> Self {
        self.ids = ids;
        self
    }

    /// The same world, with its points told of.
    #[must_use]
    pub fn with_phases(mut self, phases: Phases) -> Self {
        self.phases = phases;
        self
    }
}
