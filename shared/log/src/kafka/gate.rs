//! One batch of a partition at a time: what is with the producer, and what waits for its turn. Why: see `produce`.

use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// The gate of one partition.
#[derive(Debug)]
pub(super) struct Gate<T> {
    under_way: usize,
    waiting: VecDeque<(usize, T)>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { under_way: 0, waiting: VecDeque::new() }
    }
}

impl<T> Gate<T> {
    /// Something of so many bytes wants to go.
    pub(super) fn enter(&mut self, bytes: usize, what: T) {
        self.waiting.push_back((bytes, what));
    }

    /// What goes next, as one batch: nothing while something is under way; otherwise what waits, in order, up to so many
    /// bytes and so many, and the first whatever its size.
    pub(super) fn next(&mut self, most_bytes: usize, most: usize) -> Vec<T> {
        if self.under_way > 0 {
            return Vec::new();
        }
        let (mut group, mut bytes) = (Vec::new(), 0_usize);
        while let Some((next, what)) = self.waiting.pop_front() {
            bytes = bytes.saturating_add(next);
            if !group.is_empty() && (bytes > most_bytes || group.len() >= most) {
                self.waiting.push_front((next, what));
                break;
            }
            group.push(what);
        }
        self.under_way = group.len();
        group
    }

    /// One of those that went was reported; whether it was the last and others wait.
    pub(super) fn done(&mut self) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        self.under_way == 0 && !self.waiting.is_empty()
    }

    /// What waits, which will not go.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, what)| what)
    }
}
