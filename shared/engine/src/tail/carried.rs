//! The `carried` object: rows below `flushed_through` that no segment holds yet, with their ranks.
//!
//! Quiet tables would make thousands of tiny segments, and one table that cannot be flushed would hold its partition
//! back. So a flush writes their rows, of all those tables together, to one immutable object that `flushed_through`
//! names; a tail that starts reads it before it reads the log. The next flush reads nothing of it: the rows are still
//! in memory, or were read at the start.
//!
//! Format 1, numbers big-endian: `NCR`, version byte 1, count of rows (u32); per row: table id (16 bytes), version
//! (i64), place (i64), index (u32), flags (u8: 1 = has a value, 2 = has an own expiry), own expiry (i64, if flagged),
//! key length (u16), value length (u32, if flagged), key, value; at the end CRC-32 of everything before it (u32).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use nacre_types::{Error, Key, Place, Rank, Result, TableId, limits};

use super::memtable::TailRow;

const MAGIC: &[u8; 4] = b"NCR\x01";
const HAS_VALUE: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const ROW_BYTES_MIN: usize = 16 + 8 + 8 + 4 + 1 + 2;

/// A row of some table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CarriedRow {
    pub(crate) table: TableId,
    pub(crate) key: Bytes,
    pub(crate) row: TailRow,
}

/// The object's bytes.
pub(crate) fn encode(rows: &[CarriedRow]) -> Bytes {
    let size: usize =
        rows.iter().map(|r| 64 + r.key.len() + r.row.value.as_ref().map_or(0, Bytes::len)).sum();
    let mut out = BytesMut::with_capacity(size + 12);
    out.put_slice(MAGIC);
    out.put_u32(rows.len() as u32);
    for CarriedRow { table, key, row } in rows {
        out.put_slice(&table.to_bytes());
        out.put_i64(row.rank.version);
        out.put_i64(row.rank.place.to_i64());
        out.put_u32(row.rank.index);
        let flags = if row.value.is_some() { HAS_VALUE } else { 0 }
            | if row.expires_at.is_some() { HAS_EXPIRY } else { 0 };
        out.put_u8(flags);
        if let Some(expires_at) = row.expires_at {
            out.put_i64(expires_at);
        }
        out.put_u16(key.len() as u16);
        if let Some(value) = &row.value {
            out.put_u32(value.len() as u32);
        }
        out.put_slice(key);
        if let Some(value) = &row.value {
            out.put_slice(value);
        }
    }
    let sum = crc32fast::hash(&out);
    out.put_u32(sum);
    out.freeze()
}

/// Reads the object. Keys and values are slices of `bytes`.
///
/// # Errors
/// `Corrupt` for anything that [`encode`] did not write.
pub(crate) fn decode(bytes: &Bytes) -> Result<Vec<CarriedRow>> {
    let wrong = |why: &str| Error::corrupt(format!("the carried object is damaged: {why}"));
    let body_len = bytes.len().checked_sub(4).filter(|&n| n >= 8).ok_or_else(|| wrong("it is too short"))?;
    let mut rest = bytes.slice(..body_len);
    let sum = bytes.slice(body_len..).get_u32();
    if rest.get(..3) == Some(&MAGIC[..3]) && rest.get(3) != Some(&MAGIC[3]) {
        return Err(Error::corrupt("the carried object has a format that this program does not know")
            .with_code("newer-format"));
    }
    if rest.get(..4) != Some(&MAGIC[..]) || crc32fast::hash(&rest) != sum {
        return Err(wrong("its checksum does not match"));
    }
    rest.advance(4);
    let count = rest.get_u32() as usize;
    if count > rest.len() / ROW_BYTES_MIN {
        return Err(wrong("it is shorter than its count of rows says"));
    }
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(decode_row(&mut rest).ok_or_else(|| wrong("a row does not decode"))?);
    }
    if rest.has_remaining() { Err(wrong("bytes follow its last row")) } else { Ok(rows) }
}

fn decode_row(rest: &mut Bytes) -> Option<CarriedRow> {
    if rest.len() < ROW_BYTES_MIN {
        return None;
    }
    let mut table = [0; 16];
    rest.copy_to_slice(&mut table);
    let version = rest.get_i64();
    let place = Place::from_i64(rest.get_i64())?;
    let index = rest.get_u32();
    let flags = rest.get_u8();
    let expires_at = if flags & HAS_EXPIRY != 0 { Some(rest.try_get_i64().ok()?) } else { None };
    let key_len = usize::from(rest.try_get_u16().ok()?);
    let value_len = if flags & HAS_VALUE != 0 { Some(rest.try_get_u32().ok()? as usize) } else { None };
    if flags & !(HAS_VALUE | HAS_EXPIRY) != 0 || value_len.is_some_and(|n| n > limits::VALUE_BYTES) {
        return None;
    }
    if rest.len() < key_len + value_len.unwrap_or(0) {
        return None;
    }
    let key = rest.split_to(key_len);
    Key::check(&key).ok()?;
    let value = value_len.map(|n| rest.split_to(n));
    let row = TailRow { rank: Rank { version, place, index }, expires_at, value };
    Some(CarriedRow { table: TableId::from_bytes(table), key, row })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::{Generation, Offset};
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<CarriedRow>> {
        let row = (
            any::<u128>(),
            proptest::collection::vec(any::<u8>(), 1..40),
            any::<i64>(),
            any::<u32>(),
            any::<u16>(),
            any::<Option<i64>>(),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
        );
        proptest::collection::vec(row, 0..20).prop_map(|rows| {
            rows.into_iter()
                .map(|(table, key, version, offset, index, expires_at, value)| CarriedRow {
                    table: TableId(table),
                    key: key.into(),
                    row: TailRow {
                        rank: Rank {
                            version,
                            place: Place::streamed(Generation(0), Offset(offset.into())),
                            index: index.into(),
                        },
                        expires_at,
                        value: value.map(Bytes::from),
                    },
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn carried_rows_round_trip(rows in rows()) {
            prop_assert_eq!(decode(&encode(&rows)).unwrap(), rows);
        }

        #[test]
        fn damage_never_goes_unseen(rows in rows(), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = encode(&rows).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes.into()).is_err());
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // With a right checksum, so that the rows are really looked at.
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(MAGIC);
            }
            let sum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&sum.to_be_bytes());
            let _ = decode(&bytes.into());
        }
    }

    #[test]
    fn the_format_is_what_it_was() {
        let rows = [CarriedRow {
            table: TableId(1),
            key: Bytes::from_static(b"k"),
            row: TailRow {
                rank: Rank { version: 2, place: Place::streamed(Generation(0), Offset(3)), index: 4 },
                expires_at: Some(5),
                value: Some(Bytes::from_static(b"v")),
            },
        }];
        let golden = include_bytes!("../../tests/golden/carried.v1");
        assert_eq!(encode(&rows)[..], golden[..]);
        assert_eq!(decode(&Bytes::from_static(golden)).unwrap(), rows);
    }
}
