//! One piece of work under way per key, shared by all who ask for it.
//!
//! No task is spawned: one of the callers does the work inside its own future. If that future is dropped, the next of
//! those who wait does the work, with its own closure. If the work fails, all who wait get the error, and whoever comes
//! later tries anew: a store that is down is asked once per round, not once per caller. The lock is held only to find
//! or forget a flight, never while work is done.

use crate::key::{BlockKey, KeyHasher};
use hashbrown::HashMap;
use nacre_types::Result;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Work under way, by key.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    shards: Box<[Shard<T>]>,
}

type Shard<T> = Mutex<HashMap<BlockKey, Arc<Flight<T>>, KeyHasher>>;

#[derive(Debug)]
struct Flight<T> {
    outcome: OnceCell<Result<T>>,
}

/// One caller's part in a flight. The last to leave, or the first after the landing, takes it off the map.
struct Seat<'f, T> {
    shard: &'f Shard<T>,
    key: BlockKey,
    flight: Arc<Flight<T>>,
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let mut flights = self.shard.lock();
        // Seats are taken under the lock, so nobody can join between the count and the removal: two are the map's and
        // this one.
        let is_over = self.flight.outcome.initialized() || Arc::strong_count(&self.flight) <= 2;
        if is_over && flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}

impl<T: Clone> Flights<T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..16).map(|_| Shard::default()).collect() }
    }

    /// The outcome of `work`, or of the same work by another caller. The flag says whether this caller did it.
    pub(crate) async fn join<F, Fut>(&self, key: BlockKey, work: F) -> (Result<T>, bool)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let shard = &self.shards[(key.spread() >> 40) as usize % self.shards.len()];
        let flight = Arc::clone(
            shard.lock().entry(key).or_insert_with(|| Arc::new(Flight { outcome: OnceCell::new() })),
        );
        let seat = Seat { shard, key, flight };
        let mut mine = false;
        let outcome = seat
            .flight
            .outcome
            .get_or_init(|| {
                mine = true;
                work()
            })
            .await
            .clone();
        (outcome, mine)
    }

    /// How much is under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::{Error, SegmentId};
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Waker};
    use tokio::sync::oneshot;

    const KEY: BlockKey = BlockKey { segment: SegmentId(1), block: 2 };

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn callers_share_one_piece_of_work_and_leave_nothing_behind() {
        let flights = Flights::new();
        let done = AtomicU32::new(0);
        let (land, landing) = oneshot::channel::<u32>();
        let mut first = pin!(flights.join(KEY, || async {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(landing.await.unwrap())
        }));
        let mut second = pin!(flights.join(KEY, || async { unreachable!("work is under way") }));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        land.send(7).unwrap();
        assert!(matches!(poll(first.as_mut()), Poll::Ready((Ok(7), true))));
        assert!(matches!(poll(second.as_mut()), Poll::Ready((Ok(7), false))));
        assert_eq!((done.load(Ordering::Relaxed), flights.len()), (1, 0));
    }

    #[test]
    fn a_dropped_worker_hands_over_and_the_last_to_leave_cleans_up() {
        let flights = Flights::<u32>::new();
        let mut first = Box::pin(flights.join(KEY, std::future::pending));
        let mut second = Box::pin(flights.join(KEY, || async { Ok(2) }));
        let mut third = Box::pin(flights.join(KEY, std::future::pending));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        drop(first);
        assert!(matches!(poll(second.as_mut()), Poll::Ready((Ok(2), true))));
        drop(second);
        assert_eq!(flights.len(), 0);
        assert!(poll(third.as_mut()).is_pending(), "it came after the landing");
        assert_eq!(flights.len(), 1);
        drop(third);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn an_error_is_shared_and_the_next_caller_tries_anew() {
        let flights = Flights::<u32>::new();
        let (land, landing) = oneshot::channel::<()>();
        let mut first = pin!(flights.join(KEY, || async {
            landing.await.unwrap();
            Err(Error::unavailable("the store is down"))
        }));
        let mut second = pin!(flights.join(KEY, || async { unreachable!("the error is shared") }));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        land.send(()).unwrap();
        assert!(matches!(poll(first.as_mut()), Poll::Ready((Err(_), true))));
        assert!(matches!(poll(second.as_mut()), Poll::Ready((Err(_), false))));
        let mut third = pin!(flights.join(KEY, || async { Ok(3) }));
        assert!(matches!(poll(third.as_mut()), Poll::Ready((Ok(3), true))));
    }
}
