//! Reading and sealing small binary formats: little-endian numbers, a version byte in front, a CRC-32 at the end.

use bytes::{Buf, Bytes};
use nacre_types::{Error, Result};

/// Bytes of the checksum at the end of every format.
pub(crate) const CRC_BYTES: usize = 4;

/// Bytes are not what was written: `what` names the format, `why` what is wrong.
pub(crate) fn corrupt(what: &str, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("{what}: {why}")).with_code("log-corrupt")
}

/// Appends the checksum of everything in `out` from `start`.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Checks version byte and checksum; answers a reader over what lies between. The version comes first: a newer format
/// may have its checksum elsewhere.
pub(crate) fn unseal<'a>(what: &'static str, version: u8, bytes: &'a Bytes) -> Result<Reader<'a>> {
    match bytes.first() {
        Some(&found) if found == version => {}
        Some(&found) => {
            return Err(Error::corrupt(format!(
                "{what}: format version {found}; this program knows version {version}: a newer one wrote it, or it is \
                 not what it should be"
            ))
            .with_code("newer-format"));
        }
        None => return Err(corrupt(what, "no bytes at all")),
    }
    let body_len = bytes.len().checked_sub(CRC_BYTES).filter(|&len| len > 0);
    let (Some(body), Some(mut crc)) =
        (body_len.and_then(|len| bytes.get(..len)), body_len.and_then(|len| bytes.get(len..)))
    else {
        return Err(corrupt(what, format_args!("{} bytes are too few", bytes.len())));
    };
    if crc32fast::hash(body) != crc.get_u32_le() {
        return Err(corrupt(what, "the checksum does not fit its bytes"));
    }
    Ok(Reader { what, whole: bytes, at: 1, end: body.len() })
}

/// Reads numbers and slices from front to back; every read is checked against the end.
pub(crate) struct Reader<'a> {
    what: &'static str,
    whole: &'a Bytes,
    at: usize,
    end: usize,
}

macro_rules! number {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&mut self) -> Result<$type> {
            let mut slice = self.slice(size_of::<$type>())?;
            Ok(Buf::$name(&mut slice))
        }
    };
}

impl<'a> Reader<'a> {
    number!(get_u8, u8);
    number!(get_u16_le, u16);
    number!(get_u32_le, u32);
    number!(get_u64_le, u64);
    number!(get_i64_le, i64);
    number!(get_u128, u128);

    pub(crate) fn remaining(&self) -> usize {
        self.end - self.at
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8]> {
        let to = self.at.checked_add(len).filter(|&to| to <= self.end);
        match to.and_then(|to| self.whole.get(self.at..to)) {
            Some(slice) => {
                self.at += len;
                Ok(slice)
            }
            None => Err(corrupt(
                self.what,
                format_args!("{len} more bytes are due at byte {}, {} are left", self.at, self.remaining()),
            )),
        }
    }

    /// The next `len` bytes, shared.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<Bytes> {
        let from = self.at;
        self.slice(len)?;
        Ok(self.whole.slice(from..from + len))
    }

    pub(crate) fn finish(self) -> Result<()> {
        if self.remaining() == 0 {
            return Ok(());
        }
        Err(corrupt(self.what, format_args!("{} bytes too many", self.remaining())))
    }
}
