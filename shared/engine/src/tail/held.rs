//! Which partitions of the log this process reads.
//!
//! A process that plays every role reads all of them. In a fleet each node reads those that placement gives it, and they
//! change while it runs. Reads rest on this order of steps:
//!
//! * A partition that is taken on answers once its tail has reached the end that the log had when it was taken on.
//! * One that is given up is first marked as not held, then its task ends, then its memtables leave the views.
//! * A read takes its view first and looks *afterwards* whether what it touches is held. If it is, the view was taken
//!   before any memtable could leave it, and is whole.
//!
//! Taking on and giving up wait for one another, so that memtables of an older tail never mix with those of a newer one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use nacre_runtime::Backoff;
use nacre_types::{Error, PartitionId, Result};

use super::partition::{self, Tailer};
use crate::node::Node;

/// What a read is told that touches a partition whose tail is not here.
pub(crate) const NOT_HELD: &str = "not-held";

/// The tails of this process.
#[derive(Debug)]
pub(crate) struct Tails {
    /// By the partition's number.
    held: ArcSwap<Vec<Option<Arc<Tailer>>>>,
    /// Every partition is held: nobody needs to look at one. Never set where partitions are chosen.
    holds_all: AtomicBool,
    changing: tokio::sync::Mutex<()>,
}

impl Tails {
    /// None yet, of so many.
    pub(crate) fn new(partitions: u32) -> Self {
        Self {
            held: ArcSwap::from_pointee((0..partitions).map(|_| None).collect()),
            holds_all: AtomicBool::new(false),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Whether every partition is held, for good.
    #[inline]
    pub(crate) fn holds_all(&self) -> bool {
        self.holds_all.load(Ordering::Acquire)
    }

    /// The tail of a partition.
    ///
    /// # Errors
    /// `Unavailable` ([`NOT_HELD`]).
    pub(crate) fn get(&self, partition: PartitionId) -> Result<Arc<Tailer>> {
        self.held.load().get(partition.0 as usize).cloned().flatten().ok_or_else(|| not_held(partition))
    }

    /// Whether reads that touch the partition may be answered here.
    ///
    /// # Errors
    /// `Unavailable` ([`NOT_HELD`]).
    pub(crate) fn check(&self, partition: PartitionId) -> Result<()> {
        let held = self.held.load();
        match held.get(partition.0 as usize) {
            Some(Some(tailer)) if tailer.answers() => Ok(()),
            _ => Err(not_held(partition)),
        }
    }

    /// The partitions that are read, and whether each may be answered from.
    pub(crate) fn list(&self) -> Vec<(PartitionId, bool)> {
        let held = self.held.load();
        let one = |(number, tailer): (usize, &Option<Arc<Tailer>>)| {
            tailer.as_ref().map(|tailer| (PartitionId(number as u32), tailer.answers()))
        };
        held.iter().enumerate().filter_map(one).collect()
    }

    fn set(&self, partition: PartitionId, tailer: Option<Arc<Tailer>>) -> Option<Arc<Tailer>> {
        let mut held = (**self.held.load()).clone();
        let slot = held.get_mut(partition.0 as usize)?;
        let before = std::mem::replace(slot, tailer);
        self.held.store(Arc::new(held));
        before
    }
}

fn not_held(partition: PartitionId) -> Error {
    Error::unavailable(format!("partition {partition} of the log is not read by this process"))
        .with_code(NOT_HELD)
}

impl Node {
    /// Reads all partitions, for good.
    pub(crate) fn hold_all(self: &Arc<Self>) {
        let partitions = 0..self.partitions();
        for partition in partitions.map(PartitionId) {
            self.take_on(partition);
        }
        self.shared.tails.holds_all.store(true, Ordering::Release);
    }

    /// Reads these partitions from now on, and no others. Returns when the others are given up; those that are taken on
    /// answer later ([`Node::held`]).
    pub async fn hold(self: &Arc<Self>, wanted: &BTreeSet<PartitionId>) {
        let tails = &self.shared.tails;
        if tails.holds_all() {
            return;
        }
        let _one_at_a_time = tails.changing.lock().await;
        for (partition, _) in tails.list() {
            if !wanted.contains(&partition) {
                self.give_up(partition).await;
            }
        }
        for &partition in wanted.iter().filter(|partition| partition.0 < self.partitions()) {
            if tails.get(partition).is_err() {
                self.take_on(partition);
            }
        }
    }

    /// The partitions that this process reads, and whether reads may be answered from each.
    pub fn held(&self) -> Vec<(PartitionId, bool)> {
        self.shared.tails.list()
    }

    /// Whether reads of a partition may be answered here.
    pub fn answers_for(&self, partition: PartitionId) -> bool {
        self.shared.tails.check(partition).is_ok()
    }

    fn take_on(self: &Arc<Self>, partition: PartitionId) {
        let tailer = Arc::new(partition::start(self, partition));
        drop(self.shared.tails.set(partition, Some(tailer.clone())));
        let node = self.clone();
        self.shared.ctx.tasks.spawn("catch-up", async move { node.catch_up(partition, &tailer).await });
    }

    async fn give_up(self: &Arc<Self>, partition: PartitionId) {
        let Some(tailer) = self.shared.tails.set(partition, None) else { return };
        tailer.stop().await;
        for table in self.open_tables() {
            table.forget_tail(partition);
        }
        self.trims.lock().remove(&partition);
    }

    /// Waits until everything is in the tail that was in the log when this was called, however long the log or its store
    /// is away; from then on the partition is answered from.
    async fn catch_up(self: Arc<Self>, partition: PartitionId, tailer: &Tailer) {
        let shutdown = self.shared.ctx.tasks.shutdown_token();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let reach = async {
            loop {
                let wait = backoff.next(&*self.shared.ctx.ids);
                let reached = async {
                    let end = self.shared.log.end(partition).await?;
                    tailer.wait_for(end.offset).await
                };
                match reached.await {
                    Ok(()) => return tailer.answer(),
                    Err(_) if tailer.is_stopped() => return,
                    Err(error) => {
                        tracing::warn!(%partition, %error, "the log could not be read to its end; trying again");
                    }
                }
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = reach => {}
        }
    }
}
