//! Who is there, and which of them is asked for a partition.

use std::sync::Arc;

use hashbrown::HashMap;
use nacre_catalog::heartbeat::Process;
use nacre_placement::{Node, Slice, holders, holds, servers};
use nacre_types::{PartitionId, ProcessId};
use smallvec::SmallVec;

use crate::{Member, Role};

/// The fleet as one process sees it.
#[derive(Debug, Default)]
pub struct Members {
    all: Vec<Arc<Member>>,
    caches: Vec<Node>,
    writers: Vec<Node>,
    by_id: HashMap<ProcessId, Arc<Member>>,
}

/// The members that are asked for a partition, the first first.
pub type Candidates = SmallVec<[Arc<Member>; 3]>;

impl Members {
    /// Of this process, where it is one of the fleet, and of the others. Who says what is not readable counts as nobody.
    pub fn of(own: Option<&Member>, others: &[Process]) -> Self {
        let decoded = others.iter().filter_map(|process| match Member::decode(process) {
            Ok(member) => member,
            Err(error) => {
                tracing::warn!(process = %process.id, %error, "a process is passed over");
                None
            }
        });
        let decoded: Vec<Member> = decoded.collect();
        // A process that is started again where it was: whom it follows is dead, before anybody has missed his heartbeats.
        let is_followed = |one: &Member| {
            let follows =
                |other: &Member| (other.started_micros, other.id()) > (one.started_micros, one.id());
            let same = |other: &&Member| other.address == one.address && other.id() != one.id();
            !one.address.is_empty()
                && (own.is_some_and(|own| same(&own)) || decoded.iter().filter(same).any(follows))
        };
        let others = decoded.iter().filter(|member| !is_followed(member)).cloned();
        let mut all: Vec<Arc<Member>> = own.cloned().into_iter().chain(others).map(Arc::new).collect();
        all.sort_by_key(|member| member.id());
        let playing = |role: Role| -> Vec<Node> {
            all.iter().filter(|member| member.plays(role)).map(|member| member.node.clone()).collect()
        };
        Self {
            caches: playing(Role::Cache),
            writers: playing(Role::Writer),
            by_id: all.iter().map(|member| (member.id(), member.clone())).collect(),
            all,
        }
    }

    /// Every member, by id.
    pub fn all(&self) -> &[Arc<Member>] {
        &self.all
    }

    /// How many play a role.
    pub fn count(&self, role: Role) -> usize {
        self.all.iter().filter(|member| member.plays(role)).count()
    }

    /// One of them.
    pub fn get(&self, id: ProcessId) -> Option<&Arc<Member>> {
        self.by_id.get(&id)
    }

    /// Who answers reads of a partition now: replicas in `zone` first, the others in the order of their luck.
    pub fn caches_of(&self, partition: PartitionId, replicas: usize, zone: &str) -> Candidates {
        let chosen = servers(slice(partition), &self.caches, replicas);
        let (near, far): (Vec<&Node>, Vec<&Node>) =
            chosen.into_iter().partition(|node| !zone.is_empty() && node.zone == zone);
        near.into_iter().chain(far).filter_map(|node| self.by_id.get(&node.id).cloned()).collect()
    }

    /// Whether a cache node is to hold a partition: for now or for later.
    pub fn cache_holds(&self, node: ProcessId, partition: PartitionId, replicas: usize) -> bool {
        holds(node, slice(partition), &self.caches, replicas)
    }

    /// Who will be asked for a partition once those who join serve and those who leave are gone.
    pub fn caches_after(&self, partition: PartitionId, replicas: usize) -> SmallVec<[ProcessId; 3]> {
        holders(slice(partition), &self.caches, replicas).into_iter().map(|node| node.id).collect()
    }

    /// Whether a partition is a writer's to flush.
    pub fn is_writer_of(&self, node: ProcessId, partition: PartitionId) -> bool {
        servers(slice(partition), &self.writers, 1).first().is_some_and(|writer| writer.id == node)
    }
}

/// A partition is placed as a whole.
fn slice(partition: PartitionId) -> Slice {
    Slice { partition, part: 0, parts: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_placement::NodeState;

    fn member(id: u128, roles: &[Role], zone: &str) -> Member {
        Member {
            roles: roles.to_vec(),
            name: format!("n{id}"),
            address: format!("h{id}:1"),
            node: Node { id: ProcessId(id), zone: zone.into(), weight: 1, state: NodeState::Serving },
            format_level: 1,
            started_micros: 0,
        }
    }

    fn process(member: &Member) -> Process {
        Process { id: member.id(), info: member.encode() }
    }

    fn fleet() -> Vec<Process> {
        let caches =
            [(1, "a"), (2, "b"), (3, "c"), (4, "a")].map(|(id, zone)| member(id, &[Role::Cache], zone));
        let others = [member(9, &[Role::Writer], "a"), member(10, &[Role::Dispatcher], "b")];
        let mut all: Vec<Process> = caches.iter().chain(&others).map(process).collect();
        all.push(Process { id: ProcessId(11), info: "all".into() });
        all.push(Process { id: ProcessId(12), info: "{".into() });
        all
    }

    #[test]
    fn of_two_with_one_address_the_later_is_there() {
        let at = |id, started_micros| {
            let address = "h:1".to_owned();
            Member { address, started_micros, ..member(id, &[Role::Cache], "a") }
        };
        let ids = |own: Option<&Member>, others: &[Member]| -> Vec<u128> {
            let others: Vec<Process> = others.iter().map(process).collect();
            Members::of(own, &others).all().iter().map(|member| member.id().0).collect()
        };
        assert_eq!(ids(None, &[at(1, 5), at(2, 4), at(3, 0)]), [1]);
        assert_eq!(ids(None, &[at(1, 5), at(2, 5)]), [2], "somebody has to be");
        assert_eq!(ids(Some(&at(7, 1)), &[at(1, 5)]), [7], "nobody else can have one's own address");
        let nowhere = |id| Member { address: String::new(), ..at(id, 5) };
        assert_eq!(ids(Some(&nowhere(1)), &[nowhere(2), nowhere(3)]), [1, 2, 3]);
    }

    #[test]
    fn replicas_of_the_own_zone_are_asked_first() {
        let members = Members::of(None, &fleet());
        for partition in (0..64).map(PartitionId) {
            let near = members.caches_of(partition, 3, "b");
            assert_eq!((near.len(), &*near[0].node.zone), (3, "b"));
            let mut luck: Vec<_> = members.caches_of(partition, 3, "").iter().map(|it| it.id()).collect();
            let mut same: Vec<_> = near.iter().map(|it| it.id()).collect();
            luck.sort_unstable();
            same.sort_unstable();
            assert_eq!(luck, same, "the zone changes the order alone");
        }
    }

    #[test]
    fn only_cache_nodes_are_asked_and_only_writers_flush() {
        let own = member(20, &[Role::Cache, Role::Writer], "z");
        let members = Members::of(Some(&own), &fleet());
        let asked: std::collections::BTreeSet<_> = (0..256)
            .flat_map(|partition| members.caches_of(PartitionId(partition), 2, ""))
            .map(|member| member.id().0)
            .collect();
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 20]);
        for partition in (0..64).map(PartitionId) {
            let writers = [ProcessId(9), ProcessId(20)].map(|id| members.is_writer_of(id, partition));
            assert_ne!(writers[0], writers[1], "one and one alone");
        }
        assert_eq!(members.all().len(), 7);
    }
}
