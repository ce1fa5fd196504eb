//! A buffer of rows that is sorted in memory and read back in order: what a run is written from.
//!
//! Rows lie one after another in an arena; what is sorted are small entries with eight bytes of key, so that most
//! comparisons touch no row. Rows of one key are in falling version, and of one version as they came.

use nacre_segment::SegmentRow;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    prefix: u64,
    offset: usize,
    key_len: u32,
    /// `NONE` = a tombstone.
    value_len: u32,
    version: i64,
    /// `i64::MAX` with `expires` false.
    expires_at: i64,
    expires: bool,
}

/// Rows to be sorted.
pub(crate) struct SortBuffer {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    limit_bytes: usize,
}

impl SortBuffer {
    /// Holds about `limit_bytes`.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { arena: Vec::new(), entries: Vec::new(), limit_bytes }
    }

    /// Whether the next row should go to another buffer.
    pub(crate) fn is_full(&self) -> bool {
        self.arena.len() + self.entries.len() * size_of::<Entry>() >= self.limit_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, key: &[u8], version: i64, expires_at: Option<i64>, value: Option<&[u8]>) {
        let offset = self.arena.len();
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value.unwrap_or_default());
        self.entries.push(Entry {
            prefix: prefix(key),
            offset,
            key_len: key.len() as u32,
            value_len: value.map_or(NONE, |value| value.len() as u32),
            version,
            expires_at: expires_at.unwrap_or(i64::MAX),
            expires: expires_at.is_some(),
        });
    }

    /// Puts the rows in order.
    pub(crate) fn sort(&mut self) {
        let arena = &self.arena;
        let key = |entry: &Entry| &arena[entry.offset..entry.offset + entry.key_len as usize];
        // The offset rises with arrival: an unstable sort with it is stable.
        self.entries.sort_unstable_by(|a, b| {
            a.prefix
                .cmp(&b.prefix)
                .then_with(|| key(a).cmp(key(b)))
                .then_with(|| b.version.cmp(&a.version))
                .then_with(|| a.offset.cmp(&b.offset))
        });
    }

    /// The rows as they stand.
    pub(crate) fn rows(&self) -> impl Iterator<Item = SegmentRow<'_>> {
        self.entries.iter().map(|entry| {
            let (key_end, is_put) = (entry.offset + entry.key_len as usize, entry.value_len != NONE);
            SegmentRow {
                key: &self.arena[entry.offset..key_end],
                version: entry.version,
                place: None,
                expires_at: entry.expires.then_some(entry.expires_at),
                value: is_put.then(|| &self.arena[key_end..key_end + entry.value_len as usize]),
            }
        })
    }

    /// Empty again, with its memory.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
    }
}

/// The first eight bytes of a key as a number whose order is theirs.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = key.len().min(8);
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_by_key_and_falling_version_and_ties_as_they_came() {
        let mut buffer = SortBuffer::new(1 << 20);
        for (key, version, value) in [
            ("b", 1, Some("x")),
            ("a", 1, Some("old")),
            ("a", 2, None),
            ("a", 1, Some("second")),
            ("a\0", 9, Some("")),
        ] {
            buffer.push(key.as_bytes(), version, None, value.map(str::as_bytes));
        }
        buffer.push(b"aaaaaaaab", 0, Some(7), Some(b"v"));
        buffer.push(b"aaaaaaaaa", 0, None, Some(b"v"));
        buffer.sort();
        let rows: Vec<_> = buffer.rows().map(|row| (row.key, row.version, row.value)).collect();
        assert_eq!(
            rows,
            [
                (&b"a"[..], 2, None),
                (b"a", 1, Some(&b"old"[..])),
                (b"a", 1, Some(b"second")),
                (b"a\0", 9, Some(b"")),
                (b"aaaaaaaaa", 0, Some(b"v")),
                (b"aaaaaaaab", 0, Some(b"v")),
                (b"b", 1, Some(b"x")),
            ]
        );
        buffer.clear();
        assert!(buffer.is_empty() && !buffer.is_full());
    }
}
