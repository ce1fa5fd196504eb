//! Compression of pages, with every allocation bounded before it is made.

use crate::error::corrupt_page;
use nacre_types::{Error, Result};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Read;

/// How the pages of a column chunk are compressed. The ordinals are persisted in indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// Snappy, raw.
    Snappy = 1,
    /// Gzip.
    Gzip = 2,
    /// Zstandard.
    Zstd = 3,
    /// LZ4 blocks without a frame: the native codec.
    Lz4Raw = 4,
}

impl Codec {
    /// From the persisted ordinal.
    pub(crate) fn from_ordinal(ordinal: u8) -> Option<Self> {
        Some(match ordinal {
            0 => Self::None,
            1 => Self::Snappy,
            2 => Self::Gzip,
            3 => Self::Zstd,
            4 => Self::Lz4Raw,
            _ => return None,
        })
    }

    /// The most that `compressed` bytes can become: what a page claims beyond it is a lie that is not allocated for.
    /// Zstandard has no such ratio; the index's largest page bounds it.
    fn most_from(self, compressed: usize) -> usize {
        match self {
            Self::None => compressed,
            // A copy of 64 bytes takes at least 2 (elements with an 8-bit offset copy 11 at most, in 2).
            Self::Snappy => compressed.saturating_mul(32).saturating_add(64),
            Self::Gzip => compressed.saturating_mul(1_032).saturating_add(64),
            Self::Zstd => usize::MAX,
            // A run's length grows by at most 255 a byte.
            Self::Lz4Raw => compressed.saturating_mul(255).saturating_add(64),
        }
    }

    /// Decompresses `compressed` into exactly `uncompressed` bytes.
    ///
    /// The caller has compared `uncompressed` with the largest page that the index admits.
    pub(crate) fn decompress(self, compressed: &[u8], uncompressed: usize) -> Result<Cow<'_, [u8]>> {
        if uncompressed > self.most_from(compressed.len()) {
            return Err(corrupt_page(format!(
                "{} compressed bytes cannot become the {uncompressed} that the page header claims ({self:?})",
                compressed.len()
            )));
        }
        let mut out;
        let written = match self {
            Self::None if compressed.len() == uncompressed => return Ok(Cow::Borrowed(compressed)),
            Self::None => {
                return Err(corrupt_page(format!(
                    "an uncompressed page has {} bytes and claims {uncompressed}",
                    compressed.len()
                )));
            }
            Self::Lz4Raw => {
                out = vec![0; uncompressed];
                lz4_flex::block::decompress_into(compressed, &mut out).map_err(|e| failed(self, &e))?
            }
            Self::Snappy => {
                // The raw format begins with its length; the library would compare, this says it before allocating.
                let claimed = snap::raw::decompress_len(compressed).map_err(|e| failed(self, &e))?;
                if claimed != uncompressed {
                    return Err(wrong_length(self, claimed, uncompressed));
                }
                out = vec![0; uncompressed];
                snap::raw::Decoder::new().decompress(compressed, &mut out).map_err(|e| failed(self, &e))?
            }
            Self::Gzip => {
                out = vec![0; uncompressed];
                let mut decoder = flate2::read::MultiGzDecoder::new(compressed);
                decoder.read_exact(&mut out).map_err(|e| failed(self, &e))?;
                if decoder.read(&mut [0]).map_err(|e| failed(self, &e))? != 0 {
                    return Err(wrong_length(self, uncompressed.saturating_add(1), uncompressed));
                }
                uncompressed
            }
            Self::Zstd => {
                out = vec![0; uncompressed];
                zstd_decompress(compressed, &mut out)?
            }
        };
        if written != uncompressed {
            return Err(wrong_length(self, written, uncompressed));
        }
        Ok(Cow::Owned(out))
    }
}

thread_local! {
    /// A context is 100 KB and takes longer to make than a page to decompress.
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn zstd_decompress(compressed: &[u8], out: &mut [u8]) -> Result<usize> {
    ZSTD.with_borrow_mut(|kept| {
        let context = match kept {
            Some(context) => context,
            None => kept.insert(
                zstd::bulk::Decompressor::new()
                    .map_err(|e| Error::unavailable(format!("no memory for a zstd context: {e}")))?,
            ),
        };
        context.decompress_to_buffer(compressed, out).map_err(|e| failed(Codec::Zstd, &e))
    })
}

#[cold]
fn failed(codec: Codec, error: &dyn std::fmt::Display) -> Error {
    corrupt_page(format!("the page does not decompress ({codec:?}): {error}"))
}

#[cold]
fn wrong_length(codec: Codec, got: usize, expected: usize) -> Error {
    corrupt_page(format!("the page decompresses to {got} bytes and its header says {expected} ({codec:?})"))
}

/// Compresses pages one after another, keeping its tables and its output buffer.
pub(crate) struct Compressor {
    codec: Codec,
    lz4: lz4_flex::block::CompressTable,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Only grows: zeroing it anew for every page would cost as much as compressing an incompressible one.
    out: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Compressor").field(&self.codec).finish()
    }
}

impl Compressor {
    /// For the codecs that segments are written with: none, LZ4_RAW and zstd.
    pub(crate) fn new(codec: Codec) -> Result<Self> {
        let zstd = match codec {
            Codec::None | Codec::Lz4Raw => None,
            Codec::Zstd => {
                Some(zstd::bulk::Compressor::new(1).map_err(|e| Error::unavailable(format!("zstd: {e}")))?)
            }
            Codec::Snappy | Codec::Gzip => {
                return Err(Error::invalid(format!(
                    "segments are not written with {codec:?}; use Lz4Raw, Zstd or None"
                ))
                .with_code("segment-settings"));
            }
        };
        Ok(Self { codec, lz4: lz4_flex::block::CompressTable::default(), zstd, out: Vec::new() })
    }

    /// `page`, compressed; valid until the next call.
    pub(crate) fn compress<'a>(&'a mut self, page: &'a [u8]) -> Result<&'a [u8]> {
        let failed = |e: &dyn std::fmt::Display| Error::internal(format!("compressing a page failed: {e}"));
        let most = match self.codec {
            Codec::Lz4Raw => lz4_flex::block::get_maximum_output_size(page.len()),
            Codec::Zstd => zstd::zstd_safe::compress_bound(page.len()),
            _ => return Ok(page),
        };
        if self.out.len() < most {
            self.out.resize(most, 0);
        }
        let written = match &mut self.zstd {
            Some(zstd) => zstd.compress_to_buffer(page, &mut self.out[..]).map_err(|e| failed(&e))?,
            None => lz4_flex::block::compress_into_with_table(page, &mut self.out, &mut self.lz4)
                .map_err(|e| failed(&e))?,
        };
        self.out.get(..written).ok_or_else(|| Error::internal("the compressor wrote past its buffer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back() {
        for codec in [Codec::None, Codec::Lz4Raw, Codec::Zstd] {
            let mut compressor = Compressor::new(codec).unwrap();
            for page in [&b""[..], b"a", &[7; 100_000], b"abcabcabcabcabcabcabcabcabcabc"] {
                let out = compressor.compress(page).unwrap().to_vec();
                assert_eq!(&codec.decompress(&out, page.len()).unwrap()[..], page, "{codec:?}");
                assert!(codec.decompress(&out, page.len() + 1).is_err());
                assert!(page.is_empty() || codec.decompress(&out, page.len() - 1).is_err());
            }
        }
    }

    #[test]
    fn strangers_codecs_are_read() {
        let page = b"abcabcabcabcabcabcabcabcabcabc".repeat(100);
        let snappy = snap::raw::Encoder::new().compress_vec(&page).unwrap();
        assert_eq!(&Codec::Snappy.decompress(&snappy, page.len()).unwrap()[..], &page[..]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &page).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(&Codec::Gzip.decompress(&gzip, page.len()).unwrap()[..], &page[..]);
        assert!(Codec::Gzip.decompress(&gzip, page.len() - 1).is_err());
        assert!(Codec::Snappy.decompress(&snappy, page.len() - 1).is_err());
    }

    #[test]
    fn a_page_that_claims_gigabytes_is_refused_before_allocation() {
        for codec in [Codec::None, Codec::Lz4Raw, Codec::Snappy, Codec::Gzip] {
            let error = codec.decompress(&[0x10; 100], 1 << 40).unwrap_err();
            assert_eq!(error.code(), "page-corrupt", "{codec:?}");
        }
    }
}
