//! Session tokens: what a client has seen, so that it can read its own writes on any node.
//!
//! Text form: `v1.` and base64url of: version byte 1, table id (16 bytes), edition (u64), log incarnation (u32), count
//! (u16), per partition its id (u32) and the offset after the last row seen (u64), and an xxh3 of all that, cut to 32
//! bits. Numbers are big-endian. It is opaque to clients and no secret.

use nacre_types::{Error, LogIncarnation, Offset, PartitionId, Result, Seq, TableId};

/// What a client has seen of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionToken {
    /// The table; a token of another table is refused.
    pub table: TableId,
    /// The edition that was seen.
    pub edition: Seq,
    /// The incarnation of the log that the positions belong to.
    pub incarnation: LogIncarnation,
    /// Per partition the offset after the last row seen, sorted by partition.
    pub positions: Vec<(PartitionId, Offset)>,
}

const FORMAT: u8 = 1;
const MOST_PARTITIONS: usize = 1024;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl SessionToken {
    /// The opaque text.
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(35 + 12 * self.positions.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.table.to_bytes());
        bytes.extend_from_slice(&self.edition.0.to_be_bytes());
        bytes.extend_from_slice(&self.incarnation.0.to_be_bytes());
        bytes.extend_from_slice(&(self.positions.len().min(MOST_PARTITIONS) as u16).to_be_bytes());
        for (partition, offset) in self.positions.iter().take(MOST_PARTITIONS) {
            bytes.extend_from_slice(&partition.0.to_be_bytes());
            bytes.extend_from_slice(&offset.0.to_be_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let mut text = String::with_capacity(3 + bytes.len() * 4 / 3 + 2);
        text.push_str("v1.");
        for group in bytes.chunks(3) {
            let word =
                group.iter().enumerate().fold(0u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
            for digit in 0..=group.len() {
                text.push(DIGITS[(word >> (18 - 6 * digit) & 63) as usize] as char);
            }
        }
        text
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// `Invalid` (`token-invalid`) for anything that [`SessionToken::to_text`] did not write.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_inner(text).ok_or_else(|| {
            Error::invalid("the session token is damaged; send the nacre-token header as it was answered")
                .with_code("token-invalid")
        })
    }

    fn parse_inner(text: &str) -> Option<Self> {
        let text = text.strip_prefix("v1.")?;
        if text.len() > 4 * (35 + 12 * MOST_PARTITIONS) / 3 + 4 {
            return None;
        }
        let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
        for group in text.as_bytes().chunks(4) {
            let mut word = 0u32;
            for (i, digit) in group.iter().enumerate() {
                let value = DIGITS.iter().position(|d| d == digit)? as u32;
                word |= value << (18 - 6 * i);
            }
            let held = group.len().checked_sub(1).filter(|&n| n > 0)?;
            bytes.extend_from_slice(word.to_be_bytes().get(1..=held)?);
        }
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if sum != checksum(body) {
            return None;
        }
        let mut rest = body;
        let mut take = |n: usize| -> Option<&[u8]> {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head)
        };
        if take(1)? != [FORMAT] {
            return None;
        }
        let table = TableId::from_bytes(take(16)?.try_into().ok()?);
        let edition = Seq(u64::from_be_bytes(take(8)?.try_into().ok()?));
        let incarnation = LogIncarnation(u32::from_be_bytes(take(4)?.try_into().ok()?));
        let count = u16::from_be_bytes(take(2)?.try_into().ok()?);
        let mut positions = Vec::with_capacity(usize::from(count).min(MOST_PARTITIONS));
        for _ in 0..count {
            let partition = PartitionId(u32::from_be_bytes(take(4)?.try_into().ok()?));
            positions.push((partition, Offset(u64::from_be_bytes(take(8)?.try_into().ok()?))));
        }
        rest.is_empty().then_some(Self { table, edition, incarnation, positions })
    }

    /// Joins what two tokens of one table have seen.
    ///
    /// # Errors
    /// `Invalid` (`token-other-table`, `token-other-log`) where they do not belong together.
    pub fn join(&mut self, other: &Self) -> Result<()> {
        if other.table != self.table {
            return Err(
                Error::invalid("the session token belongs to another table").with_code("token-other-table")
            );
        }
        if other.incarnation != self.incarnation {
            return Err(Error::invalid("the session token belongs to another incarnation of the log")
                .with_code("token-other-log"));
        }
        self.edition = self.edition.max(other.edition);
        for &(partition, offset) in &other.positions {
            match self.positions.binary_search_by_key(&partition, |p| p.0) {
                Ok(at) => self.positions[at].1 = self.positions[at].1.max(offset),
                Err(at) => self.positions.insert(at, (partition, offset)),
            }
        }
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    (xxhash_rust::xxh3::xxh3_64(bytes) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_round_trip(table: u128, edition: u64, incarnation: u32, partitions in proptest::collection::btree_map(any::<u32>(), any::<u64>(), 0..20)) {
            let token = SessionToken {
                table: TableId(table),
                edition: Seq(edition),
                incarnation: LogIncarnation(incarnation),
                positions: partitions.into_iter().map(|(p, o)| (PartitionId(p), Offset(o))).collect(),
            };
            prop_assert_eq!(SessionToken::parse(&token.to_text()).unwrap(), token);
        }

        #[test]
        fn garbage_is_refused(text in ".{0,80}") {
            prop_assert!(SessionToken::parse(&text).is_err());
            let with_prefix = format!("v1.{text}");
            prop_assert!(SessionToken::parse(&with_prefix).is_err());
        }
    }
}
