use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn node(id: u128, zone: &str, weight: u32, state: NodeState) -> Node {
    Node { id: ProcessId(id), zone: zone.to_owned(), weight, state }
}

fn fleet(count: u128) -> Vec<Node> {
    (1..=count).map(|id| node(id, ["a", "b", "c"][(id % 3) as usize], 10, NodeState::Serving)).collect()
}

fn slices(count: u32) -> impl Iterator<Item = Slice> {
    (0..count).map(|n| Slice { partition: PartitionId(n), part: 0, parts: 1 })
}

fn ids(nodes: Vec<&Node>) -> Vec<u128> {
    nodes.iter().map(|node| node.id.0).collect()
}

#[test]
fn logarithms_are_those_of_floating_point() {
    for draw in [0, 1, 2, 1 << 31, (1 << 63) - 1, 1 << 63, u64::MAX - 1, 0x9e37_79b9_7f4a_7c15] {
        let wanted = 64.0 - (draw as f64 + 1.0).log2();
        let found = minus_log2(draw) as f64 / f64::from(2u32).powi(32);
        assert!((found - wanted).abs() < 1e-9, "{draw}: {found} {wanted}");
    }
    assert_eq!((minus_log2(u64::MAX), minus_log2(0)), (0, 64 << 32));
}

#[test]
fn the_same_nodes_give_the_same_places_for_ever() {
    // Processes of different releases share a fleet: these numbers may change only with a new format level.
    let nodes = fleet(5);
    let places: Vec<Vec<u128>> = slices(6).map(|slice| ids(servers(slice, &nodes, 2))).collect();
    let mut turned = nodes.clone();
    turned.reverse();
    assert_eq!(places, slices(6).map(|slice| ids(servers(slice, &turned, 2))).collect::<Vec<_>>());
    assert_eq!(places, GOLDEN);
}

const GOLDEN: [[u128; 2]; 6] = [[2, 3], [1, 2], [5, 4], [1, 2], [5, 1], [1, 2]];

#[test]
fn slices_follow_weights() {
    let mut nodes = fleet(4);
    nodes[3].weight = 30;
    nodes.push(node(9, "a", 0, NodeState::Serving));
    let mut counts = BTreeMap::new();
    for slice in slices(12_000) {
        *counts.entry(ids(servers(slice, &nodes, 1))[0]).or_insert(0) += 1;
    }
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (id, count) in counts {
        let wanted = if id == 4 { 6_000 } else { 2_000 };
        assert!((wanted * 9 / 10..wanted * 11 / 10).contains(&count), "node {id} has {count}");
    }
}

#[test]
fn replicas_lie_in_different_zones_while_there_are_as_many() {
    let nodes = fleet(9);
    for slice in slices(300) {
        let mut zones: Vec<&str> = servers(slice, &nodes, 3).iter().map(|node| &*node.zone).collect();
        zones.sort_unstable();
        assert_eq!(zones, ["a", "b", "c"]);
        assert_eq!(servers(slice, &nodes, 5).len(), 5);
        assert_eq!(servers(slice, &nodes, 20).len(), 9);
    }
    assert!(servers(Slice { partition: PartitionId(0), part: 0, parts: 1 }, &[], 3).is_empty());
}

#[test]
fn a_node_that_joins_holds_first_and_is_asked_later() {
    let before = fleet(8);
    let mut nodes = before.clone();
    nodes.push(node(99, "a", 10, NodeState::Joining));
    let new = ProcessId(99);
    let mut taken = 0;
    for slice in slices(3_000) {
        assert_eq!(ids(servers(slice, &nodes, 1)), ids(servers(slice, &before, 1)));
        // Who is asked goes on holding until another is asked.
        let asked = servers(slice, &nodes, 1)[0].id;
        assert!(holds(asked, slice, &nodes, 1));
        if holds(new, slice, &nodes, 1) {
            taken += 1;
        } else {
            assert_eq!(ids(holders(slice, &nodes, 1)), ids(servers(slice, &before, 1)));
        }
    }
    // A ninth, give or take.
    assert!((270..400).contains(&taken), "{taken}");
}

#[test]
fn a_node_that_leaves_is_asked_until_it_is_gone_and_then_those_who_held() {
    let mut nodes = fleet(6);
    nodes[2].state = NodeState::Leaving;
    let gone: Vec<Node> = nodes.iter().filter(|node| node.state == NodeState::Serving).cloned().collect();
    for slice in slices(500) {
        assert_eq!(ids(servers(slice, &nodes, 2)), ids(servers(slice, &fleet(6), 2)));
        assert_eq!(ids(holders(slice, &nodes, 2)), ids(servers(slice, &gone, 2)));
    }
}

proptest! {
    #[test]
    fn a_death_moves_only_what_the_dead_had(count in 2u128..20, dead in 0usize..20, partition in 0u32..1_000) {
        let nodes = fleet(count);
        let dead = nodes[dead % nodes.len()].id;
        let left: Vec<Node> = nodes.iter().filter(|node| node.id != dead).cloned().collect();
        let slice = Slice { partition: PartitionId(partition), part: 0, parts: 1 };
        let (before, after) = (ids(servers(slice, &nodes, 1)), ids(servers(slice, &left, 1)));
        prop_assert!(before == after || before == [dead.0]);
    }
}
