//! The segments of a table: packed, sorted, shared between manifests.
//!
//! [`block`] packs up to 128 segments into one run of bytes, [`tree`] keeps the blocks in a persistent interval tree by
//! key, [`lookup`] walks it, and [`ids`] finds a segment's key by its id.

pub(crate) mod block;
mod counts;
mod ids;
mod key_parts;
mod lookup;
mod segment_ref;
#[cfg(test)]
mod tests;
mod tree;

use crate::{Segment, Totals};
use block::Block;
use bytes::Bytes;
use counts::Counts;
use ids::IdOp;
use nacre_types::{KeyRange, SegmentId};
use std::cmp::Ordering;
use std::fmt;
use tree::{Child, Node, Op};

pub(crate) use lookup::{Overlapping, Upto};
pub use segment_ref::SegmentRef;

/// The segments of a table. Cheap to clone; an update shares all that it does not change.
#[derive(Clone, Default)]
pub(crate) struct Segments {
    root: Option<Child>,
    ids: Option<ids::Trie>,
}

impl Segments {
    /// Their number, rows and bytes.
    pub(crate) fn totals(&self) -> Totals {
        self.counts().totals
    }

    /// What is known of all of them without reading one.
    pub(crate) fn counts(&self) -> Counts {
        self.root.as_ref().map(|root| root.counts).unwrap_or_default()
    }

    /// Bytes on the heap, nearly: what an allocator adds is not counted.
    pub(crate) fn heap_bytes(&self) -> usize {
        let tree = self.root.as_ref().map_or(0, |root| root.node.heap_bytes());
        tree + self.ids.as_ref().map_or(0, ids::Trie::heap_bytes)
    }

    pub(crate) fn iter(&self) -> Overlapping<'_> {
        Overlapping::new(self.root.as_ref(), &[], Upto::End)
    }

    pub(crate) fn overlapping<'a>(&'a self, from: &'a [u8], upto: Upto<'a>) -> Overlapping<'a> {
        Overlapping::new(self.root.as_ref(), from, upto)
    }

    pub(crate) fn overlapping_range<'a>(&'a self, range: &'a KeyRange) -> Overlapping<'a> {
        let root = self.root.as_ref().filter(|_| !range.is_empty());
        Overlapping::new(root, &range.start, range.end.as_ref().map_or(Upto::End, |end| Upto::Before(end)))
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<SegmentRef<'_>> {
        let root = self.root.as_ref()?;
        ids::keys_of(self.ids.as_ref(), ids::hash(id)).find_map(|key| lookup::find(root, key, id))
    }

    /// Without the segments `removed` (smallest key and id of each), which are there, and with `added`, whose ids are
    /// not.
    pub(crate) fn update(&self, removed: &[(Bytes, SegmentId)], added: &[Segment]) -> Self {
        if removed.is_empty() && added.is_empty() {
            return self.clone();
        }
        let removals = removed.iter().map(|(key, id)| Op::Remove(key, *id));
        let mut ops: Vec<_> = removals.chain(added.iter().map(Op::Insert)).collect();
        ops.sort_by(|a, b| a.key().cmp(&b.key()));
        let removals = removed.iter().map(|(key, id)| IdOp { hash: ids::hash(*id), key, remove: true });
        let additions = added.iter().map(|segment| IdOp {
            hash: ids::hash(segment.id),
            key: &segment.min_key,
            remove: false,
        });
        let mut id_ops: Vec<_> = removals.chain(additions).collect();
        id_ops.sort_by_key(|op| op.hash);
        Self { root: tree::update(self.root.as_ref(), &ops), ids: ids::update(self.ids.as_ref(), &id_ops) }
    }

    /// From blocks as a snapshot has them; `None` where they are not in order.
    pub(crate) fn from_blocks(blocks: Vec<Block>) -> Option<Self> {
        let mut last: Option<(Vec<u8>, SegmentId)> = None;
        let mut keys = Vec::new();
        let mut entries = Vec::new();
        let mut key = Vec::new();
        for block in &blocks {
            for segment in block.segments() {
                segment.copy_min(&mut key);
                let sorted =
                    last.as_ref().is_none_or(|(last, id)| (&last[..], *id) < (&key[..], segment.id()));
                if !sorted {
                    return None;
                }
                entries.push((ids::hash(segment.id()), keys.len(), key.len()));
                keys.extend_from_slice(&key);
                match &mut last {
                    Some((last, id)) => {
                        std::mem::swap(last, &mut key);
                        *id = segment.id();
                    }
                    None => last = Some((key.clone(), segment.id())),
                }
            }
        }
        entries.sort_unstable();
        let id_ops: Vec<_> = entries
            .iter()
            .map(|&(hash, at, length)| IdOp {
                hash,
                key: keys.get(at..at + length).unwrap_or_default(),
                remove: false,
            })
            .collect();
        Some(Self { ids: ids::update(None, &id_ops), root: tree::build(blocks) })
    }

    /// Whether the tree is in order, its summaries say what is below, and every id leads to its segment.
    pub(crate) fn check(&self) -> Result<(), String> {
        let counted = self.ids.as_ref().map_or(0, ids::Trie::len);
        if counted != self.totals().segments {
            return Err(format!("{counted} ids for {} segments", self.totals().segments));
        }
        if let Some(root) = &self.root {
            check_node(root)?;
        }
        let mut last: Option<(Bytes, SegmentId)> = None;
        for segment in self.iter() {
            let key = (segment.min_key(), segment.id());
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(format!("segment {} is out of order", key.1));
            }
            if self.get(key.1).is_none() {
                return Err(format!("segment {} is not found by its id", key.1));
            }
            last = Some(key);
        }
        Ok(())
    }
}

fn check_node(child: &Child) -> Result<(), String> {
    let mut counts = Counts::default();
    let mut max: Vec<u8> = Vec::new();
    let first = match &*child.node {
        Node::Leaf(block) => {
            for segment in block.segments() {
                counts.add(&segment);
                if segment.cmp_max(&max) == Ordering::Greater {
                    max = segment.max_key().to_vec();
                }
            }
            block.segments().next().map(|segment| (segment.min_key().to_vec(), segment.id()))
        }
        Node::Inner(children) => {
            for child in children.iter() {
                check_node(child)?;
                counts.join(&child.counts);
                if child.max[..] > max[..] {
                    max = child.max.to_vec();
                }
            }
            children.first().map(|child| (child.min.to_vec(), child.first))
        }
    };
    if counts == child.counts && max == *child.max && first == Some((child.min.to_vec(), child.first)) {
        Ok(())
    } else {
        Err(format!("a node's summary differs from what lies below it: {counts:?}"))
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().take(100)).finish()
    }
}

impl PartialEq for Segments {
    /// Whether both hold the same segments, however the trees have grown.
    fn eq(&self, other: &Self) -> bool {
        self.totals() == other.totals()
            && self.iter().zip(other.iter()).all(|(a, b)| a.to_segment() == b.to_segment())
    }
}
