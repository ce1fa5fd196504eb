//! Walking the tree.

use super::segment_ref::SegmentRef;
use super::tree::{Child, Node};
use nacre_types::SegmentId;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// Where a lookup ends.
#[derive(Clone, Copy)]
pub(crate) enum Upto<'a> {
    /// With this key.
    Through(&'a [u8]),
    /// Before this key.
    Before(&'a [u8]),
    /// With the last key.
    End,
}

impl Upto<'_> {
    /// Whether a segment lies not wholly behind, by how its smallest key compares with the key.
    fn admits(self, cmp_min: impl Fn(&[u8]) -> Ordering) -> bool {
        match self {
            Self::Through(key) => cmp_min(key) != Ordering::Greater,
            Self::Before(key) => cmp_min(key) == Ordering::Less,
            Self::End => true,
        }
    }
}

/// The segments that overlap a range of keys, in the order of (smallest key, id).
pub(crate) struct Overlapping<'a> {
    from: &'a [u8],
    upto: Upto<'a>,
    /// From the root down: a node, the next entry of it to look at, and the first that lies wholly behind the range.
    stack: SmallVec<[(&'a Node, usize, usize); 6]>,
}

impl<'a> Overlapping<'a> {
    pub(super) fn new(root: Option<&'a Child>, from: &'a [u8], upto: Upto<'a>) -> Self {
        let mut walk = Self { from, upto, stack: SmallVec::new() };
        if let Some(root) = root
            && root.max[..] >= *from
        {
            walk.descend(&root.node);
        }
        walk
    }

    fn descend(&mut self, node: &'a Node) {
        let upto = self.upto;
        let end = match node {
            Node::Leaf(block) => block.partition_point(|min| upto.admits(|key| min.cmp(key))),
            Node::Inner(children) => {
                children.partition_point(|child| upto.admits(|key| child.min[..].cmp(key)))
            }
        };
        self.stack.push((node, 0, end));
    }
}

impl<'a> Iterator for Overlapping<'a> {
    type Item = SegmentRef<'a>;

    fn next(&mut self) -> Option<SegmentRef<'a>> {
        loop {
            let (node, at, end) = self.stack.last_mut()?;
            match *node {
                Node::Leaf(block) => {
                    if let Some(index) = block.next_reaching(*at, *end, self.from) {
                        *at = index + 1;
                        return Some(block.segment(index));
                    }
                    self.stack.pop();
                }
                Node::Inner(children) => {
                    let rest = children.get(*at..*end).unwrap_or_default();
                    match rest.iter().position(|child| child.max[..] >= *self.from) {
                        Some(skipped) => {
                            let child = rest.get(skipped)?;
                            *at += skipped + 1;
                            self.descend(&child.node);
                        }
                        None => {
                            self.stack.pop();
                        }
                    }
                }
            }
        }
    }
}

/// The segment with this smallest key and id.
pub(super) fn find<'a>(root: &'a Child, min: &[u8], id: SegmentId) -> Option<SegmentRef<'a>> {
    let mut node = &*root.node;
    loop {
        match node {
            Node::Inner(children) => {
                let behind = children.partition_point(|child| (&child.min[..], child.first) <= (min, id));
                node = &children.get(behind.checked_sub(1)?)?.node;
            }
            Node::Leaf(block) => {
                let first = block.partition_point(|key| key.cmp(min) == Ordering::Less);
                return (first..block.len())
                    .map(|index| block.segment(index))
                    .take_while(|segment| segment.cmp_min(min) == Ordering::Equal)
                    .find(|segment| segment.id() == id);
            }
        }
    }
}
