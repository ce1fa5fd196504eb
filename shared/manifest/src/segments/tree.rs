//! A persistent interval tree over blocks.
//!
//! A B+-tree sorted by (smallest key, id) whose nodes also know the largest key below them. A lookup goes down only
//! where `smallest ≤ key ≤ largest`, so its cost is the depth times the answers, also where a few wide segments
//! (fresh flushes span a whole partition) lie over a million narrow ones; a sorted list with a running maximum would
//! walk back over all of them. An update copies the nodes from the root to the blocks that change and shares the rest
//! with the manifest before it.

use super::block::{BLOCK_SEGMENTS, Block};
use super::counts::Counts;
use crate::Segment;
use bytes::Bytes;
use nacre_types::SegmentId;
use std::cmp::Ordering;
use std::sync::Arc;

/// Most children of an inner node.
const FANOUT: usize = if cfg!(test) { 4 } else { 64 };

pub(super) enum Node {
    Leaf(Block),
    Inner(Box<[Child]>),
}

/// A node with what its parent needs to know of it.
#[derive(Clone)]
pub(super) struct Child {
    /// Smallest key below, and the id of the first segment: together they separate siblings.
    pub(super) min: Arc<[u8]>,
    pub(super) first: SegmentId,
    /// Largest key of any segment below.
    pub(super) max: Arc<[u8]>,
    pub(super) counts: Counts,
    pub(super) node: Arc<Node>,
}

/// One step of an update.
pub(super) enum Op<'a> {
    Remove(&'a Bytes, SegmentId),
    Insert(&'a Segment),
}

impl Op<'_> {
    /// Where it applies.
    pub(super) fn key(&self) -> (&[u8], SegmentId) {
        match self {
            Self::Remove(key, id) => (key, *id),
            Self::Insert(segment) => (&segment.min_key, segment.id),
        }
    }
}

impl Child {
    fn leaf(block: Block) -> Option<Self> {
        let first = block.segments().next()?;
        let mut counts = Counts::default();
        block.segments().for_each(|segment| counts.add(&segment));
        Some(Self {
            min: first.min_key()[..].into(),
            first: first.id(),
            max: block.largest_key().into(),
            counts,
            node: Arc::new(Node::Leaf(block)),
        })
    }

    fn inner(children: Vec<Child>) -> Option<Self> {
        let first = children.first()?;
        let max = children.iter().map(|child| &child.max).max()?;
        let mut counts = Counts::default();
        children.iter().for_each(|child| counts.join(&child.counts));
        Some(Self {
            min: first.min.clone(),
            first: first.first,
            max: max.clone(),
            counts,
            node: Arc::new(Node::Inner(children.into())),
        })
    }

    /// Entries of the node itself, and how many it may have.
    fn fill(&self) -> (usize, usize) {
        match &*self.node {
            Node::Leaf(block) => (block.len(), BLOCK_SEGMENTS),
            Node::Inner(children) => (children.len(), FANOUT),
        }
    }

    fn is_small(&self) -> bool {
        let (entries, most) = self.fill();
        entries < most / 4
    }

    /// Two neighbours as one.
    fn join(&self, next: &Self) -> Option<Self> {
        match (&*self.node, &*next.node) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let segments: Vec<_> =
                    left.segments().chain(right.segments()).map(|segment| segment.to_segment()).collect();
                Self::leaf(Block::pack(&segments))
            }
            (Node::Inner(left), Node::Inner(right)) => {
                Self::inner(left.iter().chain(right.iter()).cloned().collect())
            }
            _ => None,
        }
    }
}

/// The tree of blocks that are in order.
pub(super) fn build(blocks: Vec<Block>) -> Option<Child> {
    raise(blocks.into_iter().filter_map(Child::leaf).collect())
}

/// The tree after `ops`, which are sorted.
pub(super) fn update(root: Option<&Child>, ops: &[Op<'_>]) -> Option<Child> {
    let mut top = match root {
        Some(root) => raise(update_node(root, ops)),
        None => raise(leaves(&merge([].into_iter(), ops))),
    }?;
    // A root with one child is a level too many.
    while let Node::Inner(children) = &*top.node
        && let [only] = &**children
    {
        top = only.clone();
    }
    Some(top)
}

/// Puts levels over siblings until one is left.
fn raise(mut level: Vec<Child>) -> Option<Child> {
    while level.len() > 1 {
        level = inners(level);
    }
    level.pop()
}

fn update_node(child: &Child, ops: &[Op<'_>]) -> Vec<Child> {
    let children = match &*child.node {
        Node::Leaf(block) => {
            return leaves(&merge(block.segments().map(|segment| segment.to_segment()), ops));
        }
        Node::Inner(children) => children,
    };
    let mut rest = ops;
    let mut updated = Vec::with_capacity(children.len() + 1);
    for (index, child) in children.iter().enumerate() {
        let end = match children.get(index + 1) {
            Some(next) => rest.partition_point(|op| op.key() < (&next.min[..], next.first)),
            None => rest.len(),
        };
        let (mine, others) = rest.split_at(end);
        rest = others;
        if mine.is_empty() {
            updated.push(child.clone());
        } else {
            updated.extend(update_node(child, mine));
        }
    }
    inners(join_small(updated))
}

/// Joins a small node with its neighbour where both fit into one with room to spare.
fn join_small(children: Vec<Child>) -> Vec<Child> {
    let mut joined: Vec<Child> = Vec::with_capacity(children.len());
    for child in children {
        if let Some(last) = joined.last_mut() {
            let ((a, most), (b, _)) = (last.fill(), child.fill());
            if (last.is_small() || child.is_small())
                && a + b <= most * 3 / 4
                && let Some(both) = last.join(&child)
            {
                *last = both;
                continue;
            }
        }
        joined.push(child);
    }
    joined
}

fn inners(children: Vec<Child>) -> Vec<Child> {
    let size = even(children.len(), FANOUT);
    let mut inners = Vec::with_capacity(children.len().div_ceil(size));
    let mut rest = children.into_iter().peekable();
    while rest.peek().is_some() {
        inners.extend(Child::inner(rest.by_ref().take(size).collect()));
    }
    inners
}

fn leaves(segments: &[Segment]) -> Vec<Child> {
    let size = even(segments.len(), BLOCK_SEGMENTS);
    segments.chunks(size).filter_map(|chunk| Child::leaf(Block::pack(chunk))).collect()
}

/// The size of the pieces when `count` things are cut evenly into the fewest of at most `most`.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most).max(1)).max(1)
}

/// Sorted segments with sorted ops applied. A removal of what is not there does nothing, and neither does the insertion
/// of what is there.
fn merge(segments: impl Iterator<Item = Segment>, ops: &[Op<'_>]) -> Vec<Segment> {
    let mut merged = Vec::with_capacity(segments.size_hint().0 + ops.len());
    let mut ops = ops.iter().peekable();
    for segment in segments {
        let mut keep = true;
        while let Some(op) = ops.peek() {
            match op.key().cmp(&(&segment.min_key[..], segment.id)) {
                Ordering::Greater => break,
                Ordering::Equal => keep = matches!(op, Op::Insert(_)),
                Ordering::Less => {
                    if let Op::Insert(inserted) = op {
                        merged.push((*inserted).clone());
                    }
                }
            }
            ops.next();
        }
        if keep {
            merged.push(segment);
        }
    }
    merged.extend(
        ops.filter_map(|op| if let Op::Insert(segment) = op { Some((*segment).clone()) } else { None }),
    );
    merged
}

impl Node {
    /// Bytes on the heap below, and of the node itself with its counters.
    pub(super) fn heap_bytes(&self) -> usize {
        let own = size_of::<Self>() + 2 * size_of::<usize>();
        own + match self {
            Self::Leaf(block) => block.heap_bytes(),
            Self::Inner(children) => children
                .iter()
                .map(|child| {
                    let keys = child.min.len() + child.max.len() + 4 * size_of::<usize>();
                    size_of::<Child>() + keys + child.node.heap_bytes()
                })
                .sum(),
        }
    }
}
