//! Checks of delta-encoded pages before the parquet crate decodes them: it allocates by the counts and lengths that
//! they claim.
//!
//! Source: Apache Parquet, `Encodings.md`, "Delta Encoding (DELTA_BINARY_PACKED = 5)", and 6 and 7.

use super::footer::corrupt;
use nacre_types::Result;

/// Checks a DELTA_BINARY_PACKED run that must hold at most `most` values.
pub(super) fn check_packed(bytes: &[u8], most: u64) -> Result<()> {
    Header::read(bytes, most).map(drop)
}

/// Checks a DELTA_LENGTH_BYTE_ARRAY page of at most `most` values.
pub(super) fn check_lengths(bytes: &[u8], most: u64) -> Result<()> {
    let (lengths, used) = decode(bytes, most)?;
    let total = sum(&lengths)?;
    if total > (bytes.len() - used) as u64 {
        return Err(corrupt("lengths of byte arrays reach beyond their page"));
    }
    Ok(())
}

/// Checks a DELTA_BYTE_ARRAY page of at most `most` values, which may become `most_bytes` bytes once its prefixes are
/// written out.
pub(super) fn check_prefixes(bytes: &[u8], most: u64, most_bytes: u64) -> Result<()> {
    let (prefixes, used) = decode(bytes, most)?;
    let suffixes = bytes.get(used..).unwrap_or_default();
    let (lengths, _) = decode(suffixes, most)?;
    check_lengths(suffixes, most)?;
    if prefixes.len() != lengths.len() {
        return Err(corrupt(format!("{} prefixes for {} suffixes", prefixes.len(), lengths.len())));
    }
    let mut before = 0;
    for (&prefix, &suffix) in prefixes.iter().zip(&lengths) {
        if prefix < 0 || prefix > before {
            return Err(corrupt("a prefix longer than the value before it"));
        }
        before = prefix.saturating_add(suffix);
    }
    let total = sum(&prefixes)?.saturating_add(sum(&lengths)?);
    super::Caps::check("page_bytes", "a page's size with its prefixes written out", total, most_bytes)
}

fn sum(lengths: &[i64]) -> Result<u64> {
    lengths.iter().try_fold(0u64, |total, &length| {
        u64::try_from(length)
            .map(|length| total.saturating_add(length))
            .map_err(|_| corrupt("a negative length"))
    })
}

struct Header {
    block: usize,
    minis: usize,
    count: u64,
    first: i64,
    used: usize,
}

impl Header {
    fn read(bytes: &[u8], most: u64) -> Result<Self> {
        let mut used = 0;
        let block = varint(bytes, &mut used)?;
        let minis = varint(bytes, &mut used)?;
        let count = varint(bytes, &mut used)?;
        let first = zigzag(varint(bytes, &mut used)?);
        // 128 is usual, 65,536 far beyond any writer; what these bound is a loop, not an allocation.
        if block == 0
            || block > 65_536
            || block % 128 != 0
            || minis == 0
            || block % minis != 0
            || (block / minis) % 32 != 0
        {
            return Err(corrupt(format!("delta blocks of {block} values in {minis} parts")));
        }
        if count == 0 && most > 0 {
            // Legal only for a page of nulls, which has no values to ask for.
            return Ok(Self { block: block as usize, minis: minis as usize, count, first, used });
        }
        if count > most {
            return Err(corrupt(format!("a page of {most} values with {count} deltas")));
        }
        Ok(Self { block: block as usize, minis: minis as usize, count, first, used })
    }
}

/// All values, and how many bytes they took.
fn decode(bytes: &[u8], most: u64) -> Result<(Vec<i64>, usize)> {
    let Header { block, minis, count, first, mut used } = Header::read(bytes, most)?;
    let short = || corrupt("a delta block ends too early");
    let mut values = Vec::with_capacity(count as usize);
    if count > 0 {
        values.push(first);
    }
    let mut last = first;
    while (values.len() as u64) < count {
        let least = zigzag(varint(bytes, &mut used)?);
        let widths = bytes.get(used..used + minis).ok_or_else(short)?;
        used += minis;
        for &width in widths {
            if values.len() as u64 == count {
                break;
            }
            if width > 64 {
                return Err(corrupt(format!("deltas of {width} bits")));
            }
            let length = block / minis * usize::from(width) / 8;
            let packed = bytes.get(used..used + length).ok_or_else(short)?;
            used += length;
            for at in 0..block / minis {
                if values.len() as u64 == count {
                    break;
                }
                last = last.wrapping_add(least).wrapping_add(bits(packed, at, usize::from(width)) as i64);
                values.push(last);
            }
        }
    }
    Ok((values, used))
}

/// Value `at` of a run of little-endian values of `width` bits.
fn bits(packed: &[u8], at: usize, width: usize) -> u64 {
    let from = at * width;
    let mut number = 0u128;
    for (shift, &byte) in packed.iter().skip(from / 8).take((from % 8 + width).div_ceil(8)).enumerate() {
        number |= u128::from(byte) << (8 * shift);
    }
    let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
    (number >> (from % 8)) as u64 & mask
}

fn varint(bytes: &[u8], used: &mut usize) -> Result<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*used).ok_or_else(|| corrupt("a delta header ends too early"))?;
        *used += 1;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(corrupt("a number of more than 64 bits"))
}

fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
