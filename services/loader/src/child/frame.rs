//! Frames: kind, length, number and CRC-32, then the body. All numbers are little-endian.

use std::io::{self, Read, Write};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// A [`super::wire::Head`] as JSON.
    Head = 1,
    /// The index of an adopted file, encoded.
    Index = 2,
    /// Rows.
    Rows = 3,
    /// Nothing: the answer is complete.
    End = 4,
    /// To the child: a [`super::wire::Request`] as JSON.
    Request = 5,
    /// From the child: two u64, the range of the file's bytes that it wants next.
    Ask = 6,
    /// To the child: those bytes.
    Bytes = 7,
}

impl Kind {
    fn of(number: u32) -> Option<Self> {
        let all = [Self::Head, Self::Index, Self::Rows, Self::End, Self::Request, Self::Ask, Self::Bytes];
        all.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Longest body. A batch has some 8 MiB of rows, or a hundred rows of 1 MiB; an index grows with the file.
const BODY_BYTES: u32 = 1 << 30;

pub(super) struct FrameWriter<W> {
    out: W,
    number: u32,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, number: 0 }
    }

    pub(super) fn write(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len())
            .ok()
            .filter(|&length| length <= BODY_BYTES)
            .ok_or_else(|| io::Error::other("a frame beyond 1 GiB"))?;
        let mut head = [0; 16];
        let numbers = [kind as u32, length, self.number, checksum(kind, self.number, body)];
        for (slot, number) in head.chunks_exact_mut(4).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        self.number = self.number.wrapping_add(1);
        self.out.write_all(&head)?;
        self.out.write_all(body)
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.write(Kind::End, &[])?;
        self.out.flush()
    }
}

pub(super) struct FrameReader<R> {
    from: R,
    number: u32,
}

fn checksum(kind: Kind, number: u32, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind as u8]);
    crc.update(&number.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, number: 0 }
    }

    /// The next frame, its body in `body`. Memory grows with what arrives, not with what a head claims.
    ///
    /// # Errors
    /// `UnexpectedEof` where the stream ends; `InvalidData` for anything that is no frame.
    pub(super) fn read(&mut self, body: &mut Vec<u8>) -> io::Result<Kind> {
        let mut head = [0; 16];
        self.from.read_exact(&mut head)?;
        let mut numbers = [0; 4];
        for (number, bytes) in numbers.iter_mut().zip(head.chunks_exact(4)) {
            *number = bytes.iter().rev().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
        }
        let [kind, length, number, crc] = numbers;
        let kind = Kind::of(kind).ok_or_else(|| broken("a frame of no known kind"))?;
        if length > BODY_BYTES || number != self.number {
            return Err(broken("a frame out of order or too long"));
        }
        self.number = self.number.wrapping_add(1);
        body.clear();
        let read = self.from.by_ref().take(u64::from(length)).read_to_end(body)?;
        if read as u64 != u64::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(kind, number, body) != crc {
            return Err(broken("a frame whose checksum does not fit"));
        }
        Ok(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        writer.write(Kind::Head, b"{}").unwrap();
        writer.write(Kind::Rows, &[7; 1000]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn frames_come_back() {
        let bytes = written();
        let (mut reader, mut body) = (FrameReader::new(&bytes[..]), Vec::new());
        assert_eq!(reader.read(&mut body).unwrap(), Kind::Head);
        assert_eq!(body, b"{}");
        assert_eq!(reader.read(&mut body).unwrap(), Kind::Rows);
        assert_eq!(body, [7; 1000]);
        assert_eq!(reader.read(&mut body).unwrap(), Kind::End);
        assert_eq!(reader.read(&mut body).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn no_flipped_or_missing_byte_passes() {
        let bytes = written();
        let read_all = |bytes: &[u8]| -> io::Result<()> {
            let (mut reader, mut body) = (FrameReader::new(bytes), Vec::new());
            while reader.read(&mut body)? != Kind::End {}
            Ok(())
        };
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read_all(&changed).is_err(), "byte {at}");
            assert!(read_all(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
