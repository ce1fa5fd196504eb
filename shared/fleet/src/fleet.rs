//! Reads of tables whose tails are in several processes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use nacre_engine::{Node, Receipt, SessionToken};
use nacre_placement::NodeState;
use nacre_runtime::{Budget, Hedger};
use nacre_types::{Error, PartitionId, ProcessId, Result};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::health::Health;
use crate::peers::{HELD_PATH, Peers};
use crate::{Candidates, Member, Members, read_held};

/// How a process reads from the others.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// How many cache nodes hold each partition. The same in every process of a fleet.
    pub replicas: usize,
    /// This process's zone: replicas there are asked first. Empty: none is.
    pub zone: String,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self { replicas: 2, zone: String::new() }
    }
}

/// No read is sent to a second node sooner.
const HEDGED_AFTER: Duration = Duration::from_millis(5);
const HEDGES_PER_THOUSAND: u32 = 50;
const HEDGES_AT_ONCE: u32 = 20;

/// The other processes, and how they are read from. One per process.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) node: Arc<Node>,
    pub(crate) config: FleetConfig,
    pub(crate) peers: Peers,
    pub(crate) health: Health,
    pub(crate) hedger: Mutex<Hedger>,
    own: Mutex<Option<Member>>,
    members: ArcSwap<Members>,
    changed: tokio::sync::Notify,
}

/// An answer with what it cost, and who gave it.
#[derive(Debug, Clone)]
pub struct Reading<T> {
    /// What was asked for.
    pub value: T,
    /// What it cost all nodes together.
    pub receipt: Receipt,
    /// What they have seen of the table.
    pub token: SessionToken,
    /// The processes that answered.
    pub nodes: SmallVec<[ProcessId; 2]>,
}

impl Fleet {
    /// Knows the others from `node`'s heartbeats from now on, and asks them over `peers`. `own` is what this process says
    /// of itself.
    pub fn open(node: Arc<Node>, peers: Peers, config: FleetConfig, own: Option<Member>) -> Arc<Self> {
        let members = Members::of(own.as_ref(), &node.others().borrow());
        let fleet = Arc::new(Self {
            node,
            config,
            peers,
            health: Health::default(),
            hedger: Mutex::new(Hedger::new(HEDGED_AFTER, Budget::new(HEDGES_PER_THOUSAND, HEDGES_AT_ONCE))),
            own: Mutex::new(own),
            members: ArcSwap::from_pointee(members),
            changed: tokio::sync::Notify::new(),
        });
        let watcher = fleet.clone();
        fleet.node.context().tasks.spawn("members", async move { watcher.watch().await });
        fleet
    }

    async fn watch(self: Arc<Self>) {
        let shutdown = self.node.context().tasks.shutdown_token();
        let mut others = self.node.others();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                changed = others.changed() => if changed.is_err() { return },
            }
            self.look_again();
        }
    }

    fn look_again(&self) {
        let members = Members::of(self.own.lock().as_ref(), &self.node.others().borrow());
        self.members.store(Arc::new(members));
        self.changed.notify_waiters();
    }

    /// Says something else of this process, here and to the others.
    pub fn announce(&self, member: Member) {
        self.node.announce(member.encode());
        *self.own.lock() = Some(member);
        self.look_again();
    }

    /// What this process says of itself.
    pub fn own(&self) -> Option<Member> {
        self.own.lock().clone()
    }

    /// The fleet as it is known now.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Ends when the fleet may have changed since this was enabled, or first polled.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Returns when this process serves.
    pub async fn wait_serving(&self) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_serving() {
                return;
            }
            changed.await;
        }
    }

    /// Whether this process does what its roles say.
    pub fn is_serving(&self) -> bool {
        self.own.lock().as_ref().is_none_or(|own| own.node.state == NodeState::Serving)
    }

    /// How processes of the fleet are read from.
    pub fn config(&self) -> &FleetConfig {
        &self.config
    }

    /// This process's view of the store.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// What another process holds.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn held_by(&self, member: &Member, deadline: Duration) -> Result<Vec<(PartitionId, bool)>> {
        let answer = self.peers.post(&member.address, HELD_PATH, Bytes::new(), 1 << 20, deadline).await?;
        read_held(answer)
    }

    /// The nodes that are asked for a partition, in the order in which they are.
    ///
    /// # Errors
    /// `Unavailable` (`no-cache-node`).
    pub(crate) fn candidates(&self, partition: PartitionId) -> Result<Candidates> {
        let members = self.members.load();
        let mut found = members.caches_of(partition, self.config.replicas, &self.config.zone);
        if found.is_empty() {
            return Err(Error::unavailable(format!(
                "no process with the role cache answers for partition {partition}; is one running, and does it reach \
                 the catalog?"
            ))
            .with_code("no-cache-node")
            .with_retry_after_ms(1_000));
        }
        let now = self.node.context().clock.monotonic();
        // Stable: among equals the order stays.
        found.sort_by_key(|member| self.health.is_suspect(member.id(), now));
        Ok(found)
    }
}
