//! Varints, lengths and a reader that cannot fail half-way.
//!
//! [`In`] is total: past the end, or at a malformed number, it yields zeros and empty slices and remembers that it is
//! bad. So the code that reads a packed record exists once, for validation (which asks [`In::is_ok`]) and for the
//! lookups on blocks that were validated before, and neither can panic.

use bytes::Bytes;

/// Appends to a vector.
#[derive(Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn u8(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// LEB128.
    pub(crate) fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(crate) fn len(&mut self, length: usize) {
        self.varint(length as u64);
    }

    /// Small magnitudes of either sign are short.
    pub(crate) fn zigzag(&mut self, number: i64) {
        self.varint(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(crate) fn u128(&mut self, number: u128) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn bool(&mut self, flag: bool) {
        self.u8(u8::from(flag));
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Appends the checksum of everything so far and gives the bytes away.
    pub(crate) fn sealed(mut self) -> Bytes {
        let sum = crc32fast::hash(&self.0);
        self.raw(&sum.to_le_bytes());
        self.0.into()
    }
}

/// Reads from a slice; total.
#[derive(Clone, Copy)]
pub(crate) struct In<'a> {
    rest: &'a [u8],
    bad: bool,
}

impl<'a> In<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, bad: false }
    }

    /// The bytes without the checksum at their end; `None` where it is missing or wrong.
    pub(crate) fn unsealed(bytes: &'a [u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        (crc32fast::hash(body) == u32::from_le_bytes(*sum)).then(|| Self::new(body))
    }

    /// Whether everything read so far was there.
    pub(crate) fn is_ok(&self) -> bool {
        !self.bad
    }

    /// Whether everything was there and nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        !self.bad && self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn fail(&mut self) {
        self.bad = true;
        self.rest = &[];
    }

    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                head
            }
            None => {
                self.fail();
                &[]
            }
        }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => {
                self.fail();
                0
            }
        }
    }

    pub(crate) fn varint(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8();
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return number;
            }
        }
        self.fail();
        0
    }

    /// A varint that must fit.
    pub(crate) fn number<T: TryFrom<u64> + Default>(&mut self) -> T {
        T::try_from(self.varint()).unwrap_or_else(|_| {
            self.fail();
            T::default()
        })
    }

    /// A count of things of at least `least` bytes each: never more than can follow, so it may size an allocation.
    pub(crate) fn count(&mut self, least: usize) -> usize {
        let count: usize = self.number();
        if count > self.rest.len() / least.max(1) {
            self.fail();
            return 0;
        }
        count
    }

    pub(crate) fn zigzag(&mut self) -> i64 {
        let number = self.varint();
        (number >> 1) as i64 ^ -((number & 1) as i64)
    }

    pub(crate) fn u128(&mut self) -> u128 {
        self.take(16).try_into().map(u128::from_be_bytes).unwrap_or_default()
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = self.number();
        self.take(length)
    }

    pub(crate) fn shared(&mut self) -> Bytes {
        Bytes::copy_from_slice(self.bytes())
    }

    pub(crate) fn text(&mut self) -> String {
        match std::str::from_utf8(self.bytes()) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                self.fail();
                String::new()
            }
        }
    }

    pub(crate) fn bool(&mut self) -> bool {
        match self.u8() {
            0 => false,
            1 => true,
            _ => {
                self.fail();
                false
            }
        }
    }

    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.bool().then(|| read(self))
    }

    /// A list whose items have at least `least` bytes each.
    pub(crate) fn list<T>(&mut self, least: usize, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.count(least);
        let mut list = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            let item = read(self);
            if self.bad {
                break;
            }
            list.push(item);
        }
        list
    }
}
