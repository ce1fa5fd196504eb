//! A key that lies in pieces.

use bytes::Bytes;
use nacre_types::limits;
use std::cmp::Ordering;

/// A key in up to three pieces: what a block's keys share, what a segment's two keys share, the rest.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyParts<'a>(pub(crate) [&'a [u8]; 3]);

impl KeyParts<'_> {
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// How it compares with `key`.
    pub(crate) fn cmp(&self, mut key: &[u8]) -> Ordering {
        for part in self.0 {
            let (head, rest) = key.split_at(part.len().min(key.len()));
            // A part that is longer than what is left of the key sorts behind it.
            match part.cmp(head) {
                Ordering::Equal => key = rest,
                unequal => return unequal,
            }
        }
        if key.is_empty() { Ordering::Equal } else { Ordering::Less }
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        self.0.concat()
    }

    /// Makes `key` this key.
    pub(crate) fn copy_to(&self, key: &mut Vec<u8>) {
        key.clear();
        for part in self.0 {
            key.extend_from_slice(part);
        }
    }

    pub(crate) fn to_bytes(self) -> Bytes {
        Bytes::from(self.to_vec())
    }

    pub(crate) fn is_valid(&self) -> bool {
        (1..=limits::KEY_BYTES).contains(&self.len())
    }
}

/// How many bytes two keys share at their beginning.
pub(crate) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_compare_like_the_whole() {
        let keys: [&[u8]; 9] = [b"", b"a", b"ab", b"abc", b"abcd", b"abd", b"b", b"\xFF", b"ab\0"];
        for whole in keys {
            for cut in 0..=whole.len() {
                for second in cut..=whole.len() {
                    let parts = KeyParts([&whole[..cut], &whole[cut..second], &whole[second..]]);
                    assert_eq!(parts.to_vec(), whole);
                    for other in keys {
                        assert_eq!(parts.cmp(other), whole.cmp(other), "{whole:?} {other:?}");
                    }
                }
            }
        }
    }
}
