//! The frame of small persisted objects: a version byte, fields in a fixed order (numbers big-endian, texts and bytes
//! after their length), and a CRC-32 of all of it.

use bytes::{BufMut, Bytes, BytesMut};
use nacre_types::{Error, Result};

/// Writes a frame.
#[derive(Debug)]
pub struct FrameWriter(BytesMut);

impl FrameWriter {
    /// Begins a frame of a format's version, with room for about `room` bytes.
    pub fn new(version: u8, room: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(room + 16);
        bytes.put_u8(version);
        Self(bytes)
    }

    /// A 128-bit id.
    #[must_use]
    pub fn u128(mut self, number: u128) -> Self {
        self.0.put_u128(number);
        self
    }

    /// A 64-bit number.
    #[must_use]
    pub fn u64(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    /// A 32-bit number.
    #[must_use]
    pub fn u32(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    /// Bytes after their length (32 bits). What is longer than 4 GiB is cut, and the reader will say so.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    /// The frame with its checksum.
    pub fn finish(mut self) -> Bytes {
        let crc = crc32fast::hash(&self.0);
        self.0.put_u32(crc);
        self.0.freeze()
    }
}

/// Reads a frame. Slices of it share the bytes given.
#[derive(Debug)]
pub struct FrameReader {
    rest: Bytes,
    what: String,
    code: &'static str,
}

impl FrameReader {
    /// Checks version and checksum. `what` names the object in errors, `code` is their code.
    ///
    /// # Errors
    /// `Corrupt` with `code`, or `newer-format` for a version that is not `version`.
    pub fn open(bytes: Bytes, version: u8, what: impl Into<String>, code: &'static str) -> Result<Self> {
        let mut this = Self { rest: bytes, what: what.into(), code };
        let Some(&found) = this.rest.first() else { return Err(this.corrupt("it is empty")) };
        if found != version {
            return Err(Error::corrupt(format!(
                "{}: format version {found}; this program knows version {version}",
                this.what
            ))
            .with_code("newer-format"));
        }
        let Some(end) = this.rest.len().checked_sub(4).filter(|end| *end >= 1) else {
            return Err(this.corrupt("it is cut short"));
        };
        let crc = this.rest.split_off(end);
        if crc[..] != crc32fast::hash(&this.rest).to_be_bytes() {
            return Err(this.corrupt("its checksum is wrong"));
        }
        this.take(1)?;
        Ok(this)
    }

    /// A 128-bit id.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn u128(&mut self) -> Result<u128> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    /// A 64-bit number.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Bytes after their length.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    /// UTF-8 after its length.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn text(&mut self) -> Result<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| self.corrupt("a text in it is not UTF-8"))
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("bytes follow its last field")) }
    }

    /// An error of this object.
    pub fn corrupt(&self, why: &str) -> Error {
        Error::corrupt(format!("{}: {why}", self.what)).with_code(self.code)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| self.corrupt("it is cut short"))
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len > self.rest.len() { Err(self.corrupt("it is cut short")) } else { Ok(self.rest.split_to(len)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write() -> Bytes {
        FrameWriter::new(3, 0).u128(1).u64(2).u32(3).bytes("text".as_bytes()).bytes(b"").finish()
    }

    fn read(bytes: Bytes) -> Result<(u128, u64, u32, String, Bytes)> {
        let mut frame = FrameReader::open(bytes, 3, "the thing", "thing-corrupt")?;
        let fields = (frame.u128()?, frame.u64()?, frame.u32()?, frame.text()?, frame.bytes()?);
        frame.finish()?;
        Ok(fields)
    }

    #[test]
    fn fields_come_back_and_every_change_or_cut_is_noticed() {
        let bytes = write();
        assert_eq!(read(bytes.clone()).unwrap(), (1, 2, 3, "text".into(), Bytes::new()));
        for at in 0..bytes.len() {
            assert!(read(bytes.slice(..at)).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                let error = read(changed.into()).unwrap_err();
                assert!(
                    matches!(error.code(), "thing-corrupt" | "newer-format")
                        && error.detail().contains("the thing")
                );
            }
        }
        let long = FrameWriter::new(3, 0).u128(1).u64(2).u32(3).bytes(b"").bytes(b"").u32(9).finish();
        assert!(read(long).unwrap_err().detail().contains("follow"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80), seal: bool) {
            if seal {
                // With a right checksum the fields themselves are what is wrong.
                bytes.insert(0, 3);
                bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            }
            let _ = read(bytes.into());
        }
    }
}
