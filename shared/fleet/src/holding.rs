//! Which partitions a process of a fleet reads, and when it may be asked for them.
//!
//! A cache node that comes first holds, then warms, then serves: it says `joining`, takes on the partitions that placement
//! would give it, reads for a while what the others say is hot in them, and says `serving` when it can answer for all.
//! Until then the others are asked. What a node is not asked for
//! any more it keeps for a while, since those who ask hear of a change only with a heartbeat. A node that leaves says so,
//! and goes on answering until those who come after it can, and until all have heard.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nacre_placement::NodeState;
use nacre_runtime::Shutdown;
use nacre_types::{PartitionId, ProcessId};

use crate::{Fleet, Member, Members, Role};

/// How often it is looked whether what was taken on answers by now.
const LOOK: Duration = Duration::from_millis(100);
/// How long a peer may take to say what it holds.
const PEER: Duration = Duration::from_secs(1);

/// How partitions are taken on and given up.
#[derive(Debug, Clone)]
pub struct HoldingConfig {
    /// How long a partition is kept that placement gives to others: longer than anybody takes to hear of a change.
    pub keep: Duration,
    /// How long a process that leaves may wait for those who come after it.
    pub leave: Duration,
    /// How long one that joins may read what is hot before it serves.
    pub warm: Duration,
}

/// The partitions that a process needs in its roles.
fn wanted(members: &Members, own: &Member, partitions: u32, replicas: usize) -> BTreeSet<PartitionId> {
    let needs = |partition: &PartitionId| {
        let holds = own.plays(Role::Cache) && members.cache_holds(own.id(), *partition, replicas);
        holds || own.plays(Role::Writer) && members.is_writer_of(own.id(), *partition)
    };
    (0..partitions).map(PartitionId).filter(needs).collect()
}

/// What is held: what is wanted, and for a while what was.
#[derive(Debug, Default)]
struct Kept(HashMap<PartitionId, Duration>);

impl Kept {
    /// What to hold at `now`.
    fn hold(
        &mut self,
        wanted: &BTreeSet<PartitionId>,
        now: Duration,
        keep: Duration,
    ) -> BTreeSet<PartitionId> {
        for partition in wanted {
            self.0.insert(*partition, now);
        }
        self.0.retain(|_, last_wanted| now.saturating_sub(*last_wanted) <= keep);
        self.0.keys().copied().collect()
    }
}

impl Fleet {
    /// Holds what this process's roles need, until `shutdown`.
    pub async fn keep_held(self: Arc<Self>, config: HoldingConfig, shutdown: Shutdown) {
        let (mut kept, mut is_warm) = (Kept::default(), false);
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(own) = self.own() {
                let (members, node) = (self.members(), self.node());
                let wanted = wanted(&members, &own, node.partitions(), self.config().replicas);
                let now = node.context().clock.monotonic();
                node.hold(&kept.hold(&wanted, now, config.keep)).await;
                let ready = wanted.iter().all(|partition| node.answers_for(*partition));
                if own.node.state == NodeState::Joining && ready {
                    if !is_warm {
                        is_warm = true;
                        let list: Vec<PartitionId> = wanted.iter().copied().collect();
                        tokio::select! {
                            () = shutdown.requested() => return,
                            () = self.warm_and_tell(&list, config.warm) => {}
                        }
                        // Placement may give something else by now.
                        continue;
                    }
                    tracing::info!(partitions = wanted.len(), "holding what placement gives; serving");
                    self.announce(with_state(own, NodeState::Serving));
                }
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = changed => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn warm_and_tell(&self, partitions: &[PartitionId], limit: Duration) {
        let clock = &self.node().context().clock;
        let began = clock.monotonic();
        let keys = self.warm_up(partitions, limit).await;
        if keys > 0 {
            let took = clock.monotonic().saturating_sub(began);
            tracing::info!(keys, milliseconds = took.as_millis() as u64, "read what is hot elsewhere");
        }
    }

    /// Says that this process leaves, and returns when those who come after it can answer and all have heard of it, or
    /// when the time for it is over.
    pub async fn leave(&self, config: &HoldingConfig) {
        let Some(own) = self.own() else { return };
        if !own.plays(Role::Cache) || own.node.state == NodeState::Leaving {
            return;
        }
        let id = own.id();
        self.announce(with_state(own, NodeState::Leaving));
        let left = async {
            loop {
                if self.is_replaced(id).await {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            // They hold it and say so; those who ask hear it with their next heartbeat.
            tokio::time::sleep(config.keep / 2).await;
        };
        if tokio::time::timeout(config.leave, left).await.is_err() {
            tracing::warn!("leaving before others hold everything that this process held");
        }
    }

    /// How many partitions are not answered by as many nodes as are to hold them, or as there are: while there are any, one
    /// more death may be one too many. Every cache node is asked.
    pub async fn partitions_at_risk(&self) -> usize {
        let members = self.members();
        let held = self.held_by_all(&members, None).await;
        let (replicas, caches) = (self.config().replicas, members.count(Role::Cache));
        let at_risk = |partition: &PartitionId| {
            let asked = members.caches_of(*partition, replicas, "");
            let answers = |member: &Arc<Member>| {
                held.get(&member.id()).is_some_and(|list| list.contains(&(*partition, true)))
            };
            asked.iter().filter(|member| answers(member)).count() < replicas.min(caches)
        };
        (0..self.node().partitions()).map(PartitionId).filter(at_risk).count()
    }

    /// What each cache node holds; who does not say holds nothing.
    async fn held_by_all(
        &self,
        members: &Members,
        but: Option<ProcessId>,
    ) -> HashMap<ProcessId, Vec<(PartitionId, bool)>> {
        let others = members.all().iter().filter(|it| it.plays(Role::Cache) && Some(it.id()) != but);
        let asked = others.map(|member| async {
            let held = if member.id() == self.node().process() {
                Ok(self.node().held())
            } else {
                self.held_by(member, PEER).await
            };
            held.ok().map(|held| (member.id(), held))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Whether for every partition that `leaver` is asked for now another node answers that will be asked once it is gone.
    /// True where it is the only one.
    async fn is_replaced(&self, leaver: ProcessId) -> bool {
        let members = self.members();
        let held = self.held_by_all(&members, Some(leaver)).await;
        (0..self.node().partitions()).map(PartitionId).all(|partition| {
            if !members.cache_holds(leaver, partition, self.config().replicas) {
                return true;
            }
            let successors = members.caches_after(partition, self.config().replicas);
            successors.is_empty()
                || successors
                    .iter()
                    .any(|next| held.get(next).is_some_and(|list| list.contains(&(partition, true))))
        })
    }
}

fn with_state(mut member: Member, state: NodeState) -> Member {
    member.node.state = state;
    member
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_catalog::heartbeat::Process;
    use nacre_placement::Node;

    fn member(id: u128, roles: &[Role], state: NodeState) -> Member {
        let node = Node { id: ProcessId(id), zone: String::new(), weight: 1, state };
        let address = format!("h:{id}");
        Member {
            roles: roles.to_vec(),
            name: String::new(),
            address,
            node,
            format_level: 1,
            started_micros: 0,
        }
    }

    fn members(own: &Member, others: &[Member]) -> Members {
        let others: Vec<Process> =
            others.iter().map(|member| Process { id: member.id(), info: member.encode() }).collect();
        Members::of(Some(own), &others)
    }

    #[test]
    fn a_node_that_joins_wants_what_it_will_be_asked_for() {
        let joins = member(1, &[Role::Cache], NodeState::Joining);
        let serves = member(2, &[Role::Cache], NodeState::Serving);
        let one = wanted(&members(&joins, std::slice::from_ref(&serves)), &joins, 64, 1);
        assert!((10..54).contains(&one.len()), "{}", one.len());
        let other = wanted(&members(&serves, std::slice::from_ref(&joins)), &serves, 64, 1);
        assert_eq!(other.len(), 64, "until it serves the other goes on");
    }

    #[test]
    fn partitions_are_dealt_among_writers() {
        let [one, two] = [1, 2].map(|id| member(id, &[Role::Writer], NodeState::Serving));
        let first = wanted(&members(&one, std::slice::from_ref(&two)), &one, 64, 2);
        let second = wanted(&members(&two, std::slice::from_ref(&one)), &two, 64, 2);
        assert!(first.is_disjoint(&second) && first.len() + second.len() == 64);
        let dispatcher = member(3, &[Role::Dispatcher], NodeState::Serving);
        assert!(wanted(&members(&dispatcher, &[one, two]), &dispatcher, 64, 2).is_empty());
    }

    #[test]
    fn what_is_not_wanted_any_more_is_kept_for_a_while() {
        let (second, keep) = (Duration::from_secs(1), Duration::from_secs(5));
        let set = |numbers: &[u32]| numbers.iter().copied().map(PartitionId).collect::<BTreeSet<_>>();
        let mut kept = Kept::default();
        assert_eq!(kept.hold(&set(&[1, 2]), second, keep), set(&[1, 2]));
        assert_eq!(kept.hold(&set(&[2, 3]), 4 * second, keep), set(&[1, 2, 3]));
        assert_eq!(kept.hold(&set(&[2, 3]), 7 * second, keep), set(&[2, 3]));
    }
}
