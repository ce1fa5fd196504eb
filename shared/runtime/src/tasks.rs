//! Tasks with names, a wish to stop that all of them can see, and an end that waits for them.

use nacre_types::{Error, ErrorKind};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Spawns named tasks and knows which of them still run. Clones are the same set.
///
/// The end of a program: [`Tasks::shutdown`] asks, every loop that holds a [`Shutdown`] leaves at its next safe point,
/// and [`Tasks::join_all`] waits and names who did not.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    token: CancellationToken,
    running: Mutex<Running>,
    ended: Notify,
}

#[derive(Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, &'static str>,
}

/// Takes the task out of the set however it ends: returned, panicked or aborted.
struct Registration {
    tasks: Tasks,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.tasks.0.running.lock().names.remove(&self.number);
        self.tasks.0.ended.notify_waiters();
    }
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            token: CancellationToken::new(),
            running: Mutex::new(Running::default()),
            ended: Notify::new(),
        }))
    }

    /// Runs `future` on the runtime that the caller runs on. Dropping the handle lets it go on.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let registration = self.register(name);
        let handle = tokio::spawn(async move {
            let _registration = registration;
            future.await
        });
        TaskHandle { name, handle }
    }

    /// Runs `work` on a thread that may block. It cannot be aborted once it runs.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> TaskHandle<T> {
        let registration = self.register(name);
        let handle = tokio::task::spawn_blocking(move || {
            let _registration = registration;
            work()
        });
        TaskHandle { name, handle }
    }

    fn register(&self, name: &'static str) -> Registration {
        let mut running = self.0.running.lock();
        let number = running.next;
        running.next += 1;
        running.names.insert(number, name);
        Registration { tasks: self.clone(), number }
    }

    /// Asks every task to end. Nothing is aborted.
    pub fn shutdown(&self) {
        self.0.token.cancel();
    }

    /// What a task watches to learn that it should end.
    pub fn shutdown_token(&self) -> Shutdown {
        Shutdown(self.0.token.clone())
    }

    /// The names of the tasks that run now, in the order they were spawned.
    pub fn running(&self) -> Vec<&'static str> {
        self.0.running.lock().names.values().copied().collect()
    }

    /// Waits until every task has ended, at most `limit`; answers the names of those that still run.
    pub async fn join_all(&self, limit: Duration) -> Vec<&'static str> {
        let all_ended = async {
            loop {
                // Registered before the look, so that an end in between is not missed.
                let ended = self.0.ended.notified();
                if self.0.running.lock().names.is_empty() {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(limit, all_ended).await;
        self.running()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running()).finish_non_exhaustive()
    }
}

/// The wish to stop, as a task sees it.
#[derive(Clone, Debug)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is asked for.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// A task that can be waited for. Dropped, the task goes on by itself.
#[derive(Debug)]
pub struct TaskHandle<T> {
    name: &'static str,
    handle: JoinHandle<T>,
}

impl<T> TaskHandle<T> {
    /// Ends the task at its next await, as a crash would.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// What aborts the task without waiting for it.
    pub fn abort_handle(&self) -> AbortHandle {
        self.handle.abort_handle()
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The name it was spawned under.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Future for TaskHandle<T> {
    /// `Internal` (`task-panicked`) if it panicked; `Unknown` (`task-aborted`) if it was ended from outside: what it
    /// had done by then is not known.
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Pin::new(&mut self.handle).poll(cx).map_err(|error| {
            if error.is_panic() {
                Error::internal(format!("the task {name} panicked: {}", message(error.into_panic().as_ref())))
                    .with_code("task-panicked")
            } else {
                Error::new(ErrorKind::Unknown, format!("the task {name} was ended before it was done"))
                    .with_code("task-aborted")
            }
        })
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_answers_and_a_panic_is_internal() {
        let tasks = Tasks::new();
        assert_eq!(tasks.spawn("adds", async { 1 + 1 }).await, Ok(2));
        let error =
            tasks.spawn("fails", async { panic!("no {}", "way") }).await.map(|(): ()| ()).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Internal, "task-panicked"));
        assert!(error.detail().contains("fails") && error.detail().contains("no way"));
        assert_eq!(tasks.spawn_blocking("blocks", || 3).await, Ok(3));
        assert!(tasks.join_all(Duration::from_secs(10)).await.is_empty());
    }

    #[tokio::test]
    async fn join_all_names_who_still_runs_and_shutdown_is_seen_by_all() {
        let tasks = Tasks::new();
        let stop = tasks.shutdown_token();
        let polite = tasks.spawn("polite", async move { stop.requested().await });
        let stubborn = tasks.spawn("stubborn", std::future::pending::<()>());
        assert_eq!(tasks.join_all(Duration::from_millis(1)).await, ["polite", "stubborn"]);
        tasks.shutdown();
        assert!(tasks.shutdown_token().is_requested());
        assert_eq!(polite.await, Ok(()));
        assert_eq!(tasks.join_all(Duration::from_millis(1)).await, ["stubborn"]);
        stubborn.abort();
        assert_eq!(stubborn.await.unwrap_err().code(), "task-aborted");
        assert!(tasks.join_all(Duration::from_secs(10)).await.is_empty());
    }

    #[tokio::test]
    async fn a_dropped_handle_lets_the_task_go_on() {
        let tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(tasks.spawn("goes on", async move { sender.send(5) }));
        assert_eq!(receiver.await, Ok(5));
    }
}
