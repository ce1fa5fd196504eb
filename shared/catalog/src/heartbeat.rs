//! Who else is there: registration and heartbeats of the processes of a store.
//!
//! One record, `processes`, lists every registered process with a counter and what it says of itself. A beat reads it,
//! raises one's own counter, leaves out whoever is dead, and replaces it if unchanged: two requests every ten seconds
//! and process, and whoever beats knows all others. That is for the handful of processes of an object-store catalog; a
//! fleet has DynamoDB.
//!
//! A process is dead when its counter stood still for `dead_after` in which one's own beats succeeded; that is judged by
//! every observer for itself (see [`OwnRenewals`]), and in an outage nobody dies. The silence has to last for several
//! beats, else a beat that comes a second late would be a death. Whoever was left out while he slept registers again with
//! his next beat, and is told: what others did in the belief that he was gone (a name that came free) holds, so he must
//! forget what he knew from before.

pub use crate::still::OwnRenewals;

use crate::still::Stillness;
use crate::{Catalog, RecordPut};
use bytes::Bytes;
use nacre_runtime::{Backoff, Context};
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{Error, ProcessId, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const VERSION: u8 = 1;
const RECORD: &str = "processes";
/// How often one beat is tried against others that beat at the same moment.
const ATTEMPTS: usize = 20;
/// Longest text that a process says of itself, in bytes.
const INFO_BYTES: usize = 4096;

/// How processes are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// How often [`Registration::beat`] is to be called. Smaller: more requests, two per beat.
    pub every: Duration,
    /// How long a counter must stand still. At least three times `every`.
    pub dead_after: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), dead_after: Duration::from_secs(30) }
    }
}

/// A registered process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id; a restarted program is another process.
    pub id: ProcessId,
    /// What it says of itself: roles and address, at most 4 KiB.
    pub info: Bytes,
}

/// What a beat showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The other processes, by id, without those that are dead.
    pub others: Vec<Process>,
    /// Whether this process had been taken for dead since its last beat.
    pub was_dead: bool,
}

/// This process's entry. Dropping it leaves the entry to the others' judgement.
#[derive(Debug)]
pub struct Registration {
    catalog: Arc<dyn Catalog>,
    ctx: Context,
    own: Process,
    counter: u64,
    config: HeartbeatConfig,
    renewals: OwnRenewals,
    watched: HashMap<ProcessId, Stillness<u64>>,
    /// A read showed the list without this process, and the caller has not been told yet.
    was_dead: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    process: Process,
    counter: u64,
}

fn encode(entries: &[Entry]) -> Bytes {
    let frame = FrameWriter::new(VERSION, entries.len() * 64).u32(entries.len() as u32);
    let write = |frame: FrameWriter, entry: &Entry| {
        frame.u128(entry.process.id.0).u64(entry.counter).bytes(&entry.process.info)
    };
    entries.iter().fold(frame, write).finish()
}

fn decode(bytes: Bytes) -> Result<Vec<Entry>> {
    let mut frame = FrameReader::open(bytes, VERSION, "the list of processes", "processes-corrupt")?;
    let count = frame.u32()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (id, counter, info) = (ProcessId(frame.u128()?), frame.u64()?, frame.bytes()?);
        entries.push(Entry { process: Process { id, info }, counter });
    }
    frame.finish()?;
    Ok(entries)
}

/// Every registered process, dead ones among them: nothing is judged without beating.
///
/// # Errors
/// As [`Catalog::record`].
pub async fn registered(catalog: &dyn Catalog) -> Result<Vec<Process>> {
    let record = catalog.record(RECORD).await?;
    let entries = record.map_or(Ok(Vec::new()), |(bytes, _)| decode(bytes))?;
    Ok(entries.into_iter().map(|entry| entry.process).collect())
}

/// Whether anybody is alive: those registered processes whose hearts beat while this looks. Nobody registered: at once; else
/// for as long as it takes to call somebody dead. For who does not beat himself.
///
/// # Errors
/// As [`Catalog::record`]: then nothing is known.
pub async fn alive(catalog: &dyn Catalog, config: HeartbeatConfig) -> Result<Vec<Process>> {
    let entries = async || {
        let record = catalog.record(RECORD).await?;
        record.map_or(Ok(Vec::new()), |(bytes, _)| decode(bytes))
    };
    let before: Vec<Entry> = entries().await?;
    // Counted, not timed: a look that comes late is one look.
    let every = config.every.max(Duration::from_millis(1));
    let looks = config.dead_after.as_micros().div_ceil(every.as_micros()) + 1;
    let mut now = before.clone();
    for _ in 0..looks {
        if now.is_empty() {
            break;
        }
        tokio::time::sleep(every).await;
        now = entries().await?;
        let beating: Vec<Process> =
            now.iter().filter(|entry| !before.contains(entry)).map(|entry| entry.process.clone()).collect();
        if !beating.is_empty() {
            return Ok(beating);
        }
    }
    Ok(Vec::new())
}

fn check_info(info: &Bytes) -> Result<()> {
    if info.len() > INFO_BYTES {
        return Err(Error::invalid(format!(
            "a process says {} bytes of itself; at most {INFO_BYTES}",
            info.len()
        )));
    }
    Ok(())
}

impl Registration {
    /// Registers `process`; from now on [`Registration::beat`] is to be called every `config.every`.
    ///
    /// # Errors
    /// `Invalid` where `info` is too long; as [`Registration::beat`].
    pub async fn join(
        catalog: Arc<dyn Catalog>,
        ctx: &Context,
        process: Process,
        config: HeartbeatConfig,
    ) -> Result<(Self, Beat)> {
        check_info(&process.info)?;
        let mut this = Self {
            catalog,
            ctx: ctx.clone(),
            own: process,
            counter: 0,
            config,
            renewals: OwnRenewals::new(),
            watched: HashMap::new(),
            was_dead: false,
        };
        let beat = this.beat().await?;
        Ok((this, Beat { was_dead: false, ..beat }))
    }

    /// From the next beat on this process says `info` of itself.
    ///
    /// # Errors
    /// `Invalid` where it is too long.
    pub fn say(&mut self, info: Bytes) -> Result<()> {
        check_info(&info)?;
        self.own.info = info;
        Ok(())
    }

    /// Counts this process's beats, for [`Lease`](crate::lease::Lease).
    pub fn renewals(&self) -> OwnRenewals {
        self.renewals.clone()
    }

    /// Renews the entry and looks at the others.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`: nothing is judged from such a beat. `Corrupt`.
    pub async fn beat(&mut self) -> Result<Beat> {
        self.counter += 1;
        let own = Entry { process: self.own.clone(), counter: self.counter };
        let dead = self.dead();
        // Seen by any read: an attempt that nobody knows of may have brought the entry back before the next one.
        let mut absent = false;
        let change = |mut entries: Vec<Entry>| {
            absent |= !entries.iter().any(|entry| entry.process.id == own.process.id);
            // A dead one that has moved since is not dead any more.
            entries
                .retain(|it| it.process.id != own.process.id && !dead.contains(&(it.process.id, it.counter)));
            entries.push(own.clone());
            entries.sort_unstable_by_key(|entry| entry.process.id);
            entries
        };
        let changed = self.change(change).await;
        self.was_dead |= absent;
        let after = changed?;
        let was_dead = std::mem::take(&mut self.was_dead);
        self.renewals.succeeded();
        self.watch(&after);
        let dead = self.dead();
        let others = after.into_iter().filter(|entry| {
            entry.process.id != self.own.id && !dead.contains(&(entry.process.id, entry.counter))
        });
        Ok(Beat { others: others.map(|entry| entry.process).collect(), was_dead })
    }

    /// Takes the entry away.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`: the others wait it out.
    pub async fn leave(self) -> Result<()> {
        let own = self.own.id;
        self.change(|mut entries: Vec<Entry>| {
            entries.retain(|entry| entry.process.id != own);
            entries
        })
        .await
        .map(|_| ())
    }

    /// Replaces the list by its change until it is known to be so; answers the new list. The change is one that may be
    /// made twice.
    async fn change(&self, mut change: impl FnMut(Vec<Entry>) -> Vec<Entry> + Send) -> Result<Vec<Entry>> {
        let mut backoff = Backoff::new(Duration::from_millis(5), self.config.every / 10);
        for _ in 0..ATTEMPTS {
            let (entries, tag) = match self.catalog.record(RECORD).await? {
                Some((bytes, tag)) => (decode(bytes)?, Some(tag)),
                None => (Vec::new(), None),
            };
            let after = change(entries);
            if let RecordPut::Stored(_) =
                self.catalog.put_record(RECORD, tag.as_ref(), encode(&after)).await?
            {
                return Ok(after);
            }
            tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
        }
        Err(Error::unknown(
            "the list of processes could not be replaced: others changed it, or no answer came",
        ))
    }

    fn watch(&mut self, entries: &[Entry]) {
        let (now, renewals) = (self.ctx.clock.monotonic(), self.renewals.count());
        let most = self.config.every + self.config.every / 2;
        let mut watched = HashMap::new();
        for Entry { process, counter } in entries {
            let mut still = match self.watched.remove(&process.id) {
                Some(still) => still,
                None => Stillness::new(*counter, now, renewals),
            };
            still.look(*counter, now, renewals, most);
            watched.insert(process.id, still);
        }
        self.watched = watched;
    }

    /// Who stood still for too long, and at which counter.
    fn dead(&self) -> Vec<(ProcessId, u64)> {
        let dead = self.watched.iter().filter(|(_, still)| still.still() >= self.config.dead_after);
        dead.map(|(id, still)| (*id, *still.seen())).filter(|(id, _)| *id != self.own.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectCatalog;
    use nacre_store::testing::{FaultRates, FaultyStore};
    use nacre_store::{MemoryStore, ObjectStore};
    use proptest::prelude::*;

    fn network(memory: &Arc<dyn ObjectStore>, n: u64) -> (Arc<FaultyStore>, Arc<dyn Catalog>, Context) {
        let ctx = Context::for_tests(n);
        let store = FaultyStore::new(memory.clone(), n);
        let catalog = ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap();
        (store, Arc::new(catalog), ctx)
    }

    fn process(n: u64) -> Process {
        Process { id: ProcessId(n.into()), info: Bytes::from(format!("process {n}")) }
    }

    async fn join(memory: &Arc<dyn ObjectStore>, n: u64) -> (Arc<FaultyStore>, Registration) {
        let (store, catalog, ctx) = network(memory, n);
        let joined = Registration::join(catalog, &ctx, process(n), HeartbeatConfig::default()).await.unwrap();
        (store, joined.0)
    }

    fn memory() -> Arc<dyn ObjectStore> {
        Arc::new(MemoryStore::new(&Context::for_tests(0)))
    }

    async fn wait() {
        tokio::time::sleep(HeartbeatConfig::default().every).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_beats_is_seen_and_who_leaves_is_gone() {
        let memory = memory();
        let ((_, mut one), (_, two), (_, three)) =
            (join(&memory, 1).await, join(&memory, 2).await, join(&memory, 3).await);
        assert_eq!(one.beat().await.unwrap(), Beat { others: vec![process(2), process(3)], was_dead: false });
        two.leave().await.unwrap();
        assert_eq!(one.beat().await.unwrap().others, [process(3)]);
        three.leave().await.unwrap();
        assert_eq!(one.beat().await.unwrap().others, []);
        assert_eq!(registered(&*one.catalog).await.unwrap(), [process(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_is_dead_after_a_while_and_told_when_it_wakes() {
        let memory = memory();
        let ((_, mut one), (_, mut two)) = (join(&memory, 1).await, join(&memory, 2).await);
        for _ in 0..20 {
            assert_eq!(one.beat().await.unwrap().others, [process(2)]);
            assert!(!two.beat().await.unwrap().was_dead);
            wait().await;
        }
        let mut beats = 0;
        while !one.beat().await.unwrap().others.is_empty() {
            wait().await;
            beats += 1;
        }
        assert!((3..=5).contains(&beats), "{beats}");
        one.beat().await.unwrap();
        assert_eq!(registered(&*one.catalog).await.unwrap(), [process(1)]);
        assert!(two.beat().await.unwrap().was_dead);
        assert!(!two.beat().await.unwrap().was_dead);
        assert_eq!(one.beat().await.unwrap().others, [process(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_dead_is_told_from_who_beats_by_looking_for_a_while() {
        let (memory, config) = (memory(), HeartbeatConfig::default());
        let (weather, catalog, ctx) = network(&memory, 9);
        let seen = async || alive(&*catalog, config).await.unwrap();
        let begun = ctx.clock.monotonic();
        assert_eq!(seen().await, []);
        assert_eq!(ctx.clock.monotonic(), begun, "nobody is waited for");
        let ((_, one), (other, mut two)) = (join(&memory, 1).await, join(&memory, 2).await);
        let beating = ctx.tasks.spawn("beats", async move {
            loop {
                two.beat().await.unwrap();
                wait().await;
            }
        });
        assert_eq!(seen().await, [process(2)]);
        beating.abort();
        wait().await;
        assert_eq!(seen().await, [], "they are registered, and dead");
        assert_eq!(registered(&*catalog).await.unwrap().len(), 2);
        weather.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
        assert!(alive(&*catalog, config).await.is_err(), "in an outage nothing is known");
        drop((one, other));
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_outage_nobody_dies() {
        let memory = memory();
        let ((weather, mut one), (_, mut two)) = (join(&memory, 1).await, join(&memory, 2).await);
        one.beat().await.unwrap();
        weather.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
        for _ in 0..50 {
            assert!(one.beat().await.is_err());
            wait().await;
        }
        weather.set_rates(FaultRates::default());
        assert_eq!(one.beat().await.unwrap().others, [process(2)], "it stood still, but so did the observer");
        assert!(!two.beat().await.unwrap().was_dead);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_storm_nobody_who_beats_is_forgotten() {
        let memory = memory();
        let mut all = Vec::new();
        for n in 1..=5 {
            all.push(join(&memory, n).await);
        }
        for (weather, _) in &all {
            weather.set_rates(FaultRates {
                lost_answer: 50,
                lost_request: 50,
                under_way: 50,
                sent_twice: 50,
                unavailable: 20,
            });
        }
        for _ in 0..300 {
            for (_, registration) in &mut all {
                if let Ok(beat) = registration.beat().await {
                    assert_eq!((beat.others.len(), beat.was_dead), (4, false));
                }
            }
            wait().await;
        }
    }

    fn entries() -> Vec<Entry> {
        vec![Entry { process: process(1), counter: 7 }, Entry { process: process(2), counter: u64::MAX }]
    }

    #[test]
    fn the_list_keeps_its_bytes() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/processes-1.bin");
        let golden = std::fs::read(path).unwrap();
        assert_eq!(encode(&entries()), golden);
        assert_eq!(decode(golden.into()).unwrap(), entries());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_list_is_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            bytes.insert(0, VERSION);
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            let _ = decode(bytes.into());
        }
    }
}
