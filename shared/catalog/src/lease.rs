//! Leases: who of several processes does a job, as a hint.
//!
//! A lease is a record that names its holder and a counter, which every renewal raises. It may be taken when it was
//! released, or when its counter stood still for ten seconds in which the taker's own renewals succeeded (see
//! [`OwnRenewals`]); no wall clocks are compared, and none is stored.
//!
//! Two processes can both believe that they hold a lease: one sleeps, is taken over, and wakes up within its next step.
//! So a lease saves work and never fences anything; what must not happen twice is refused inside the conditional append.
//! What the record itself guarantees is that renewals and takeovers are replaced if unchanged: of two takers one wins,
//! and a holder that was taken over learns it from its next renewal.
//!
//! A renewal whose answer was lost may have landed, and then the next one meets a tag that is not the remembered one. The
//! record is read before that is called a loss: where it still names this process, it is still held.

use crate::still::{OwnRenewals, Stillness};
use crate::{Catalog, RecordPut, RecordTag};
use bytes::Bytes;
use nacre_runtime::{Clock, Context};
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{Error, ProcessId, Result};
use std::sync::Arc;
use std::time::Duration;

const VERSION: u8 = 1;

/// How a lease is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How often [`Lease::step`] is to be called. Smaller: more requests (one read or write per step).
    pub every: Duration,
    /// How long the counter must stand still before another takes over. At least three times `every`.
    pub still: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(3), still: Duration::from_secs(10) }
    }
}

/// What a step showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This process holds the lease; renewed a moment ago.
    Held,
    /// Another holds it.
    Other(ProcessId),
    /// Nobody knows; take another step.
    Unknown,
}

/// One process's part in a lease. Dropping it releases nothing; the others wait it out.
#[derive(Debug)]
pub struct Lease {
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    record: String,
    process: ProcessId,
    renewals: OwnRenewals,
    config: LeaseConfig,
    held: Option<Held>,
    other: Option<Stillness<Content>>,
}

#[derive(Debug)]
struct Held {
    tag: RecordTag,
    counter: u64,
    /// When the last renewal that succeeded was begun (monotonic).
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    /// `None` = released.
    holder: Option<ProcessId>,
    counter: u64,
}

impl Content {
    fn encode(self) -> Bytes {
        let holder = self.holder.map_or(0, |holder| holder.0);
        FrameWriter::new(VERSION, 32).u128(holder).u64(self.counter).finish()
    }

    fn decode(record: &str, bytes: Bytes) -> Result<Self> {
        let mut frame = FrameReader::open(bytes, VERSION, format!("lease {record}"), "lease-corrupt")?;
        let (holder, counter) = (frame.u128()?, frame.u64()?);
        frame.finish()?;
        Ok(Self { holder: (holder != 0).then_some(ProcessId(holder)), counter })
    }
}

impl Lease {
    /// A part in the lease `name` (of the form of a record's name), not held yet; the first step tries. `renewals`
    /// counts what this process renews anyway, its heartbeat: without that a waiting process never takes over from a
    /// dead one.
    pub fn new(
        catalog: Arc<dyn Catalog>,
        ctx: &Context,
        name: &str,
        process: ProcessId,
        renewals: OwnRenewals,
        config: LeaseConfig,
    ) -> Self {
        let (clock, record) = (ctx.clock.clone(), format!("leases/{name}"));
        Self { catalog, clock, record, process, renewals, config, held: None, other: None }
    }

    /// Renews the lease if it is held, else takes it if it may be taken.
    ///
    /// # Errors
    /// As [`Catalog::record`]; a lease that was held stays held until [`Lease::is_held`] says otherwise.
    pub async fn step(&mut self) -> Result<Standing> {
        if let Some(held) = &self.held {
            let (tag, counter) = (held.tag.clone(), held.counter);
            let standing = self.put(Some(&tag), counter).await?;
            if standing != Standing::Unknown {
                return Ok(standing);
            }
        }
        let Some((bytes, tag)) = self.catalog.record(&self.record).await? else {
            return self.put(None, 0).await;
        };
        let content = Content::decode(&self.record, bytes)?;
        let other = match content.holder {
            Some(other) if other != self.process => other,
            // Released, or ours by an attempt whose answer was lost.
            _ => return self.put(Some(&tag), content.counter).await,
        };
        self.held = None;
        if self.stood_still(content) >= self.config.still {
            return self.put(Some(&tag), content.counter).await;
        }
        Ok(Standing::Other(other))
    }

    fn stood_still(&mut self, content: Content) -> Duration {
        let (now, renewals) = (self.clock.monotonic(), self.renewals.count());
        match &mut self.other {
            Some(other) => other.look(content, now, renewals, self.config.every * 2),
            None => {
                self.other = Some(Stillness::new(content, now, renewals));
                Duration::ZERO
            }
        }
    }

    /// One attempt to be the holder.
    async fn put(&mut self, tag: Option<&RecordTag>, counter: u64) -> Result<Standing> {
        let since = self.clock.monotonic();
        let content = Content { holder: Some(self.process), counter: counter.saturating_add(1) };
        match self.catalog.put_record(&self.record, tag, content.encode()).await? {
            RecordPut::Stored(tag) => {
                self.renewals.succeeded();
                self.other = None;
                self.held = Some(Held { tag, counter: content.counter, since });
                Ok(Standing::Held)
            }
            // Who holds it is read by this step or the next.
            RecordPut::Conflict | RecordPut::Unknown => Ok(Standing::Unknown),
        }
    }

    /// Whether this process may believe that it holds the lease: no other can have taken it over yet, unless this one
    /// slept. A hint.
    pub fn is_held(&self) -> bool {
        let trusted = self.config.still.saturating_sub(self.config.every / 2);
        self.held.as_ref().is_some_and(|held| self.clock.monotonic().saturating_sub(held.since) < trusted)
    }

    /// Lets go, so that another need not wait.
    ///
    /// # Errors
    /// `Unavailable` or `Unknown`: the others wait it out.
    pub async fn release(&mut self) -> Result<()> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let content = Content { holder: None, counter: held.counter.saturating_add(1) };
        match self.catalog.put_record(&self.record, Some(&held.tag), content.encode()).await? {
            RecordPut::Stored(_) | RecordPut::Conflict => Ok(()),
            RecordPut::Unknown => Err(Error::unknown(format!("whether lease {} was released", self.record))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectCatalog;
    use nacre_store::testing::{Fault, FaultRates, FaultyStore, Operation};
    use nacre_store::{MemoryStore, ObjectStore};

    struct Process {
        store: Arc<FaultyStore>,
        lease: Lease,
        renewals: OwnRenewals,
    }

    fn processes(count: u64) -> Vec<Process> {
        let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&Context::for_tests(0)));
        let process = |n| {
            let ctx = Context::for_tests(n);
            let store = FaultyStore::new(memory.clone(), n);
            let catalog = Arc::new(ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap());
            let (renewals, config) = (OwnRenewals::new(), LeaseConfig::default());
            let id = ProcessId(n.into());
            let lease = Lease::new(catalog, &ctx, "job", id, renewals.clone(), config);
            Process { store, lease, renewals }
        };
        (1..=count).map(process).collect()
    }

    async fn wait() {
        tokio::time::sleep(LeaseConfig::default().every).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_is_taken_over_after_ten_seconds_of_own_renewals() {
        let mut all = processes(2);
        assert_eq!(all[0].lease.step().await.unwrap(), Standing::Held);
        for _ in 0..10 {
            assert_eq!(all[1].lease.step().await.unwrap(), Standing::Other(ProcessId(1)));
            assert_eq!(all[0].lease.step().await.unwrap(), Standing::Held);
            all[1].renewals.succeeded();
            wait().await;
        }
        let mut waited = Duration::ZERO;
        while all[1].lease.step().await.unwrap() != Standing::Held {
            all[1].renewals.succeeded();
            wait().await;
            waited += LeaseConfig::default().every;
        }
        assert!((10..=15).contains(&waited.as_secs()), "{waited:?}");
        assert!(!all[0].lease.is_held() && all[1].lease.is_held());
        assert_eq!(all[0].lease.step().await.unwrap(), Standing::Other(ProcessId(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_dead_while_ones_own_renewals_fail_or_after_ones_own_sleep() {
        let mut all = processes(2);
        all[0].lease.step().await.unwrap();
        for _ in 0..100 {
            assert_eq!(all[1].lease.step().await.unwrap(), Standing::Other(ProcessId(1)));
            wait().await;
        }
        all[1].renewals.succeeded();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(all[1].lease.step().await.unwrap(), Standing::Other(ProcessId(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_free_at_once() {
        let mut all = processes(2);
        all[0].lease.step().await.unwrap();
        all[0].lease.release().await.unwrap();
        assert_eq!(all[1].lease.step().await.unwrap(), Standing::Held);
        assert!(!all[0].lease.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_loses_no_lease() {
        let mut all = processes(2);
        for fault in [Fault::LostAnswer, Fault::SentTwice, Fault::LostAnswer, Fault::UnderWay] {
            all[0].store.script(Operation::Put, "leases", fault);
            while all[0].lease.step().await.unwrap() != Standing::Held {}
        }
        // What was under way carries an old tag.
        assert!(all[0].store.deliver().await);
        assert_eq!(all[0].lease.step().await.unwrap(), Standing::Held);
        assert_eq!(all[1].lease.step().await.unwrap(), Standing::Other(ProcessId(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn in_any_weather_awake_processes_never_hold_a_lease_together() {
        let mut all = processes(5);
        for process in &all {
            process.store.set_rates(FaultRates::stormy());
        }
        let mut held = 0;
        for _ in 0..2_000 {
            for process in &mut all {
                let _ = process.lease.step().await;
                process.renewals.succeeded();
            }
            let holders = all.iter().filter(|process| process.lease.is_held()).count();
            assert!(holders <= 1, "{holders} hold it");
            held += holders;
            wait().await;
        }
        assert!(held > 1_500, "{held}");
    }

    #[test]
    fn leases_keep_their_bytes() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lease-1.bin");
        let content = Content { holder: Some(ProcessId(0xabc)), counter: 7 };
        let golden = std::fs::read(path).unwrap();
        assert_eq!(content.encode(), golden);
        assert_eq!(Content::decode("x", golden.into()).unwrap(), content);
    }
}
