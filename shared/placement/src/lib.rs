//! Which nodes answer for which slice of the log: a pure function of who is there.
//!
//! **Weighted rendezvous hashing.** Every node draws a number for every slice, from a hash of both ids, and the luckiest
//! have the slice. Nobody keeps a map: whoever knows the nodes computes the same answer. A node that comes takes slices
//! from all others alike, and only those that it now has; one that goes leaves its own to all others alike. (Thaler and
//! Ravishankar, "Using name-based mappings to increase hit rates", 1998. Weights by -ln(u)/w: Schindelhauer and Schomaker,
//! "Weighted distributed hash tables", 2005.) A ring of tokens would need many tokens a node for the same evenness, and a
//! table of slices would need an owner.
//!
//! **Two answers.** [`servers`] are asked now; [`holders`] will be asked next. A node that joins holds before it serves,
//! so that it is warm when it is asked; one that leaves serves until those who come after it are warm. Each node holds
//! whatever either answer gives it ([`holds`]).
//!
//! Placement is a hint. Two who disagree about the nodes for a moment cost a detour or a cold read, never an answer: a node
//! answers for whatever it holds the tail of, and names the owner of the rest.

#[cfg(test)]
mod tests;

use nacre_types::{PartitionId, ProcessId};

/// A node that answers reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its process.
    pub id: ProcessId,
    /// What fails together: an availability zone.
    pub zone: String,
    /// How much it takes beside the others, by any scale that all share: gigabytes of cache, say. 0 takes nothing.
    pub weight: u32,
    /// Where it stands.
    pub state: NodeState,
}

/// Where a node stands between its first heartbeat and its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// It warms up for the slices that will be its own.
    Joining,
    /// It answers.
    Serving,
    /// It answers, and hands over to those who come after it.
    Leaving,
}

/// A part of a log partition's shards: what is placed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    /// The partition.
    pub partition: PartitionId,
    /// Which of the parts, from 0.
    pub part: u32,
    /// Into how many parts the partition's shards are dealt: a power of two.
    pub parts: u32,
}

/// Who is asked for a slice now, the first by rank first; at most `replicas`, in different zones as far as there are as
/// many.
pub fn servers(slice: Slice, nodes: &[Node], replicas: usize) -> Vec<&Node> {
    chosen(slice, nodes, replicas, |state| matches!(state, NodeState::Serving | NodeState::Leaving))
}

/// Who will be asked for it once those who join serve and those who leave are gone.
pub fn holders(slice: Slice, nodes: &[Node], replicas: usize) -> Vec<&Node> {
    chosen(slice, nodes, replicas, |state| matches!(state, NodeState::Joining | NodeState::Serving))
}

/// Whether a node is to hold a slice: for now, for later, or for both.
pub fn holds(node: ProcessId, slice: Slice, nodes: &[Node], replicas: usize) -> bool {
    let is_among = |chosen: Vec<&Node>| chosen.iter().any(|other| other.id == node);
    is_among(servers(slice, nodes, replicas)) || is_among(holders(slice, nodes, replicas))
}

fn chosen(slice: Slice, nodes: &[Node], replicas: usize, counts: impl Fn(NodeState) -> bool) -> Vec<&Node> {
    let mut ranked: Vec<(u128, &Node)> = nodes
        .iter()
        .filter(|node| counts(node.state))
        .filter_map(|node| cost(slice, node).map(|cost| (cost, node)))
        .collect();
    ranked.sort_unstable_by_key(|&(cost, node)| (cost, node.id));
    let mut zones: Vec<&str> = Vec::with_capacity(replicas);
    let mut apart = Vec::with_capacity(replicas);
    let mut beside = Vec::new();
    for (_, node) in ranked {
        if zones.contains(&&*node.zone) {
            beside.push(node);
        } else {
            zones.push(&node.zone);
            apart.push(node);
        }
        if apart.len() == replicas {
            break;
        }
    }
    apart.extend(beside);
    apart.truncate(replicas);
    apart
}

/// What a node bids for a slice; the lowest wins. `None`: it takes nothing.
fn cost(slice: Slice, node: &Node) -> Option<u128> {
    let mut bytes = [0; 28];
    let parts: [&[u8]; 4] = [
        &node.id.0.to_le_bytes(),
        &slice.partition.0.to_le_bytes(),
        &slice.part.to_le_bytes(),
        &slice.parts.to_le_bytes(),
    ];
    for (slot, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *slot = *byte;
    }
    let draw = xxhash_rust::xxh3::xxh3_64(&bytes);
    (u128::from(minus_log2(draw)) << 32).checked_div(u128::from(node.weight))
}

/// -log2((draw + 1) / 2^64) with 32 bits behind the point, rounded up. In integers, so that processes on different
/// machines cannot differ in the last bit of a logarithm.
fn minus_log2(draw: u64) -> u64 {
    let x = u128::from(draw) + 1;
    if x == 1 << 64 {
        return 0;
    }
    // x = 2^whole * mantissa, 1 <= mantissa < 2, the mantissa with 63 bits behind the point.
    let whole = 127 - x.leading_zeros();
    let mut mantissa = (x << (63 - whole)) as u64;
    let mut log = u64::from(whole);
    for _ in 0..32 {
        // Squaring doubles the logarithm; what reaches 2 is a bit of it.
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let bit = (square >> 64) as u64;
        mantissa = (square >> bit) as u64;
        log = log << 1 | bit;
    }
    (64 << 32) - log
}
