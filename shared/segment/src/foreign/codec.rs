//! Decompression into exactly as many bytes as a checked header said.

use super::footer::corrupt;
use nacre_types::{Error, Result};
use parquet::basic::Compression;
use std::io::Read;

/// Decompresses `input`, which must give exactly `length` bytes, behind what `out` holds. `length` was checked
/// against the caps.
///
/// # Errors
/// `Invalid` (`parquet-codec`) for a codec that is not supported, else `Corrupt`.
pub(super) fn decompress(codec: Compression, input: &[u8], length: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let end = start + length;
    let wrong = |detail: String| corrupt(format!("a page does not decompress: {detail}"));
    match codec {
        Compression::UNCOMPRESSED => out.extend_from_slice(input),
        Compression::SNAPPY => {
            let claimed = snap::raw::decompress_len(input).map_err(|error| wrong(error.to_string()))?;
            if claimed != length {
                return Err(wrong(format!("{claimed} bytes instead of {length}")));
            }
            out.resize(end, 0);
            snap::raw::Decoder::new()
                .decompress(input, out.get_mut(start..).unwrap_or_default())
                .map_err(|error| wrong(error.to_string()))?;
        }
        // Straight into the buffer: no window, whatever the frame asks for, and not a byte more than promised.
        Compression::ZSTD(_) => {
            out.resize(end, 0);
            let written = zstd::bulk::decompress_to_buffer(input, out.get_mut(start..).unwrap_or_default())
                .map_err(|error| wrong(error.to_string()))?;
            out.truncate(start + written);
        }
        Compression::GZIP(_) => read_exactly(flate2::read::MultiGzDecoder::new(input), length, out)?,
        Compression::LZ4_RAW => lz4_block(input, length, out)?,
        Compression::LZ4 => {
            // The deprecated codec: Hadoop's framing, or a plain block by old writers.
            if hadoop_lz4(input, length, out).is_none() {
                out.truncate(start);
                lz4_block(input, length, out)?;
            }
        }
        other => {
            return Err(Error::invalid(format!(
                "the codec {other:?} is not supported; write the file with zstd, lz4_raw, snappy, gzip or none"
            ))
            .with_code("parquet-codec"));
        }
    }
    if out.len() == end {
        Ok(())
    } else {
        Err(wrong(format!("{} bytes instead of {length}", out.len() - start)))
    }
}

fn read_exactly(decoder: impl Read, length: usize, out: &mut Vec<u8>) -> Result<()> {
    out.reserve(length);
    // One byte more than promised is enough to know that the promise was broken.
    decoder
        .take(length as u64 + 1)
        .read_to_end(out)
        .map_err(|error| corrupt(format!("a page does not decompress: {error}")))?;
    Ok(())
}

fn lz4_block(input: &[u8], length: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.resize(start + length, 0);
    let written = lz4_flex::block::decompress_into(input, out.get_mut(start..).unwrap_or_default())
        .map_err(|error| corrupt(format!("a page does not decompress: {error}")))?;
    out.truncate(start + written);
    Ok(())
}

/// Blocks, each behind its uncompressed and compressed length, big-endian.
fn hadoop_lz4(input: &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut rest = input;
    while !rest.is_empty() {
        let (plain, after) = rest.split_first_chunk::<4>()?;
        let (packed, after) = after.split_first_chunk::<4>()?;
        let (plain, packed) = (u32::from_be_bytes(*plain) as usize, u32::from_be_bytes(*packed) as usize);
        let (block, after) = after.split_at_checked(packed)?;
        if plain > length.checked_sub(out.len() - start)? {
            return None;
        }
        let before = out.len();
        lz4_block(block, plain, out).ok()?;
        if out.len() - before != plain {
            return None;
        }
        rest = after;
    }
    (out.len() - start == length).then_some(())
}
