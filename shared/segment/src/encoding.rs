//! Decoding of one page's values: PLAIN, dictionaries, and the delta encodings that other writers use.
//!
//! A block has at most 1,024 rows, so everything here is sized by the rows that the index says, never by what a page
//! claims. Byte arrays are not copied: a decoder answers where they lie ([`Span`]), except for DELTA_BYTE_ARRAY, whose
//! values do not lie anywhere whole.

use crate::error::corrupt_page;
use nacre_types::{Error, Result};

/// Where a value lies in its page or dictionary; a null lies nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) length: u32,
}

impl Span {
    pub(crate) const NULL: Self = Self { start: u32::MAX, length: 0 };

    pub(crate) fn is_null(self) -> bool {
        self.start == u32::MAX
    }

    /// The bytes; empty for a null and for a span that is not in `data` (decoders checked that it is).
    pub(crate) fn of(self, data: &[u8]) -> &[u8] {
        let start = self.start as usize;
        data.get(start..start.wrapping_add(self.length as usize)).unwrap_or_default()
    }
}

#[cold]
fn cut_off(what: &str) -> Error {
    corrupt_page(format!("the page ends within its {what}"))
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

/// PLAIN byte arrays: a length of four bytes before each; `fixed` > 0: none, and all of that length.
pub(crate) fn plain_bytes(data: &[u8], count: usize, fixed: u32, out: &mut Vec<Span>) -> Result<()> {
    let mut at = 0_usize;
    for _ in 0..count {
        let length = if fixed > 0 {
            fixed
        } else {
            let length = read_u32(data, at).ok_or_else(|| cut_off("values"))?;
            at += 4;
            length
        };
        if length as usize > data.len() - at {
            return Err(cut_off("values"));
        }
        out.push(Span { start: at as u32, length });
        at += length as usize;
    }
    if at == data.len() {
        Ok(())
    } else {
        Err(corrupt_page(format!("{} bytes follow the values", data.len() - at)))
    }
}

/// PLAIN numbers of eight bytes.
pub(crate) fn plain_i64(data: &[u8], count: usize, out: &mut Vec<i64>) -> Result<()> {
    let (numbers, rest) = data.as_chunks::<8>();
    if numbers.len() != count || !rest.is_empty() {
        return Err(corrupt_page(format!(
            "{count} numbers of 8 bytes were expected in {} bytes",
            data.len()
        )));
    }
    out.extend(numbers.iter().map(|b| i64::from_le_bytes(*b)));
    Ok(())
}

/// The RLE and bit-packing hybrid, `count` numbers of `width` bits: levels and dictionary indexes.
pub(crate) fn hybrid(data: &[u8], width: u32, count: usize, out: &mut Vec<u32>) -> Result<()> {
    if width > 32 {
        return Err(corrupt_page(format!("a bit width of {width} is more than 32")));
    }
    let end = out.len() + count;
    let mut at = 0_usize;
    while out.len() < end {
        let header = varint(data, &mut at)?;
        let left = end - out.len();
        if header & 1 == 0 {
            let run = (header >> 1).min(left as u64) as usize;
            let bytes = width.div_ceil(8) as usize;
            let value = data.get(at..at + bytes).ok_or_else(|| cut_off("levels or indexes"))?;
            at += bytes;
            let number = value.iter().rev().fold(0_u32, |sum, b| sum << 8 | u32::from(*b));
            if run == 0 {
                return Err(corrupt_page("a run of no values"));
            }
            out.extend(std::iter::repeat_n(number, run));
        } else {
            let groups = header >> 1;
            let packed = data.get(at..).unwrap_or_default();
            // Some writers cut the padding of the last group off.
            let values = groups.saturating_mul(8).min(left as u64) as usize;
            if values == 0 || (values as u64 * u64::from(width)).div_ceil(8) > packed.len() as u64 {
                return Err(cut_off("levels or indexes"));
            }
            out.extend((0..values).map(|i| bits(packed, i as u64 * u64::from(width), width) as u32));
            at = at.saturating_add(
                usize::try_from(groups.saturating_mul(u64::from(width))).unwrap_or(usize::MAX),
            );
        }
    }
    Ok(())
}

/// `width` ≤ 64 bits at bit `from`, lowest first; bits beyond the end are 0.
fn bits(data: &[u8], from: u64, width: u32) -> u64 {
    if width == 0 {
        return 0;
    }
    let start = (from / 8) as usize;
    let tail = data.get(start..).unwrap_or_default();
    let mut window = [0_u8; 16];
    let taken = tail.len().min(9);
    window[..taken].copy_from_slice(&tail[..taken]);
    let number = u128::from_le_bytes(window) >> (from % 8);
    (number as u64) & (u64::MAX >> (64 - width))
}

fn varint(data: &[u8], at: &mut usize) -> Result<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at).ok_or_else(|| cut_off("numbers"))?;
        *at += 1;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(corrupt_page("a number of more than 64 bits"))
}

/// DELTA_BINARY_PACKED; answers how many bytes it took.
pub(crate) fn delta_i64(data: &[u8], count: usize, out: &mut Vec<i64>) -> Result<usize> {
    let mut at = 0;
    let block = varint(data, &mut at)?;
    let minis = varint(data, &mut at)?;
    let total = varint(data, &mut at)?;
    let first = zigzag(varint(data, &mut at)?);
    if total != count as u64 {
        return Err(corrupt_page(format!("{total} delta-packed numbers where {count} were expected")));
    }
    if minis == 0
        || block == 0
        || block > 1 << 20
        || minis > block
        || block % minis != 0
        || block / minis % 8 != 0
    {
        return Err(corrupt_page(format!("delta blocks of {block} values in {minis} parts")));
    }
    if count == 0 {
        return Ok(at);
    }
    let per_mini = block / minis;
    let mut last = first;
    let mut left = count - 1;
    out.push(first);
    while left > 0 {
        let least = zigzag(varint(data, &mut at)?);
        let widths = at..at + minis as usize;
        at = widths.end;
        for i in widths {
            let width = u32::from(*data.get(i).ok_or_else(|| cut_off("numbers"))?);
            if left == 0 {
                continue;
            }
            let packed = data.get(at..).unwrap_or_default();
            let values = per_mini.min(left as u64);
            if width > 64 || (values * u64::from(width)).div_ceil(8) > packed.len() as u64 {
                return Err(cut_off("numbers"));
            }
            for v in 0..values {
                let delta = bits(packed, v * u64::from(width), width) as i64;
                last = last.wrapping_add(least).wrapping_add(delta);
                out.push(last);
            }
            left -= values as usize;
            at += (per_mini * u64::from(width) / 8) as usize;
        }
    }
    Ok(at.min(data.len()))
}

fn zigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Delta-packed lengths, each checked to fit a span.
fn delta_lengths(data: &[u8], count: usize) -> Result<(Vec<u32>, usize)> {
    let mut numbers = Vec::with_capacity(count);
    let taken = delta_i64(data, count, &mut numbers)?;
    let lengths = numbers
        .into_iter()
        .map(|n| u32::try_from(n).map_err(|_| corrupt_page(format!("a value of length {n}"))))
        .collect::<Result<_>>()?;
    Ok((lengths, taken))
}

/// DELTA_LENGTH_BYTE_ARRAY: packed lengths, then the bytes.
pub(crate) fn delta_length_bytes(data: &[u8], count: usize, out: &mut Vec<Span>) -> Result<()> {
    let (lengths, mut at) = delta_lengths(data, count)?;
    for length in lengths {
        if length as usize > data.len() - at {
            return Err(cut_off("values"));
        }
        out.push(Span { start: at as u32, length });
        at += length as usize;
    }
    Ok(())
}

/// DELTA_BYTE_ARRAY: lengths of the prefix shared with the value before, then the suffixes. The values are put
/// together in `whole`, at most `most` bytes of it.
pub(crate) fn delta_bytes(
    data: &[u8],
    count: usize,
    most: usize,
    out: &mut Vec<Span>,
    whole: &mut Vec<u8>,
) -> Result<()> {
    let (prefixes, taken) = delta_lengths(data, count)?;
    let rest = data.get(taken..).unwrap_or_default();
    let mut suffixes = Vec::with_capacity(count);
    delta_length_bytes(rest, count, &mut suffixes)?;
    let mut before = Span { start: 0, length: 0 };
    for (prefix, suffix) in prefixes.into_iter().zip(suffixes) {
        if prefix > before.length {
            return Err(corrupt_page(format!("a value shares {prefix} bytes with one of {}", before.length)));
        }
        let (start, length) = (whole.len(), prefix as usize + suffix.length as usize);
        if start + length > most {
            return Err(corrupt_page(format!("the values come to more than {most} bytes")));
        }
        let shared = before.start as usize..before.start as usize + prefix as usize;
        whole.extend_from_within(shared);
        whole.extend_from_slice(suffix.of(rest));
        before = Span { start: start as u32, length: length as u32 };
        out.push(before);
    }
    Ok(())
}

/// Appends definition levels of an optional flat column as a version 1 page has them: length, then one run if all are
/// alike, else one bit each.
pub(crate) fn write_levels(out: &mut Vec<u8>, defined: &[bool]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let first = defined.first().copied().unwrap_or(true);
    if defined.iter().all(|d| *d == first) {
        crate::page::put_varint(out, (defined.len() as u64) << 1);
        out.push(u8::from(first));
    } else {
        crate::page::put_varint(out, (defined.len().div_ceil(8) as u64) << 1 | 1);
        for eight in defined.chunks(8) {
            out.push(eight.iter().rev().fold(0, |byte, d| byte << 1 | u8::from(*d)));
        }
    }
    let length = (out.len() - start - 4) as u32;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delta_numbers_of_the_specification() {
        // Example of the Parquet specification: 7, 5, 3, 1, 2, 3, 4, 5 (block 8 would be illegal there; 128/4 here).
        let mut data = vec![0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0];
        // Deltas -2 -2 -2 1 1 1 1 less the smallest: 0 0 0 3 3 3 3, two bits each, padded to 32 values.
        data.extend_from_slice(&[0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        let mut out = Vec::new();
        assert_eq!(delta_i64(&data, 8, &mut out).unwrap(), data.len());
        assert_eq!(out, [7, 5, 3, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn levels_come_back() {
        for levels in
            [vec![true; 128], vec![false; 3], vec![true, false, true, true, false, true, true, true, false]]
        {
            let mut bytes = Vec::new();
            write_levels(&mut bytes, &levels);
            let mut read = Vec::new();
            hybrid(&bytes[4..], 1, levels.len(), &mut read).unwrap();
            assert_eq!(read.iter().map(|l| *l == 1).collect::<Vec<_>>(), levels);
        }
    }

    #[test]
    fn values_that_overlap_the_end_are_refused() {
        let mut out = Vec::new();
        assert!(plain_bytes(&[4, 0, 0, 0, 1, 2, 3], 1, 0, &mut out).is_err());
        assert!(plain_bytes(&[0xFF, 0xFF, 0xFF, 0xFF], 1, 0, &mut out).is_err());
        assert!(plain_bytes(&[1, 0, 0, 0, 1, 9], 1, 0, &mut out).is_err());
        assert!(plain_i64(&[0; 15], 2, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_pages_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200), count in 0..1_025_usize, width in 0..40_u32) {
            let (mut spans, mut numbers, mut levels, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let _ = plain_bytes(&data, count, 0, &mut spans);
            let _ = hybrid(&data, width, count, &mut levels);
            prop_assert!(levels.len() <= count);
            let _ = delta_i64(&data, count, &mut numbers);
            prop_assert!(numbers.len() <= count);
            let _ = delta_length_bytes(&data, count, &mut spans);
            let _ = delta_bytes(&data, count, 10_000, &mut spans, &mut whole);
            prop_assert!(whole.len() <= 10_000);
        }
    }
}
