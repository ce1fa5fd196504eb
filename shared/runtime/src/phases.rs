//! Named points of the code that a test may want to stop a program at.
//!
//! What loses data is a crash between two particular steps, and a process that is killed at random is rarely there. So
//! the steps have names: [`Phases::reach`] stands before each and does nothing, until a program is given an observer.
//! The observer may hold the task that has reached a point as long as it likes; the rest of the process goes on.
//!
//! A point's name is `<phase>/<point>`; the phases are `start`, `flush`, `compaction`, `rewrite` and `commit`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Told of every point that is reached.
pub trait PhaseObserver: Send + Sync + 'static {
    /// The task that has reached `point` goes on when this is done.
    fn reached(&self, point: &'static str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Where points are told of: nowhere, unless said otherwise.
#[derive(Clone, Default)]
pub struct Phases(Option<Arc<dyn PhaseObserver>>);

impl Phases {
    /// Points are told to `observer`.
    pub fn told_to(observer: Arc<dyn PhaseObserver>) -> Self {
        Self(Some(observer))
    }

    /// The task has come to `point`.
    pub async fn reach(&self, point: &'static str) {
        if let Some(observer) = &self.0 {
            observer.reached(point).await;
        }
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Phases(observed)" } else { "Phases" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<&'static str>>);

    impl PhaseObserver for Seen {
        fn reached(&self, point: &'static str) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async move { self.0.lock().push(point) })
        }
    }

    #[tokio::test]
    async fn points_are_told_to_an_observer_and_to_nobody_else() {
        Phases::default().reach("flush/put").await;
        let seen = Arc::new(Seen::default());
        let phases = Phases::told_to(seen.clone());
        phases.reach("flush/put").await;
        phases.clone().reach("flush/commit").await;
        assert_eq!(*seen.0.lock(), ["flush/put", "flush/commit"]);
    }
}
