//! The text of a token: `nacre_<id>_<secret>`.
//!
//! The id is 32 hex digits and no secret: it stands in listings and in the audit log. The rest is base32 (RFC 4648, lower
//! case) of 208 random bits and a CRC-32 over id and secret, 48 letters: a typo is told without asking anybody, and a
//! scanner that looks for `nacre_[0-9a-f]{32}_[a-z2-7]{48}` finds lost tokens and can tell them from lookalikes.

use nacre_runtime::Ids;
use nacre_types::{Error, ErrorKind, Result};
use std::fmt;

const PREFIX: &[u8] = b"nacre_";
const ID_CHARS: usize = 32;
const SECRET_BYTES: usize = 26;
const CODED_BYTES: usize = SECRET_BYTES + 4;
const CODED_CHARS: usize = CODED_BYTES * 8 / 5;
const TEXT_CHARS: usize = PREFIX.len() + ID_CHARS + 1 + CODED_CHARS;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Which token: the shelf it lies on (the upper half) and a random number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u128);

impl TokenId {
    pub(crate) fn new(shelf: u64, ids: &dyn Ids) -> Self {
        Self(u128::from(shelf) << 64 | u128::from(ids.random_u64()))
    }

    pub(crate) fn shelf(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// 32 lower-case hex digits.
    ///
    /// # Errors
    /// `NotFound` (`token-not-found`): nothing else names a token.
    pub fn parse(text: &str) -> Result<Self> {
        let id = <&[u8; ID_CHARS]>::try_from(text.as_bytes()).ok().and_then(from_hex);
        id.map(Self).ok_or_else(|| {
            Error::not_found("a token's id is 32 hex digits, as in its listing").with_code("token-not-found")
        })
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A token as its owner has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    /// Which token it says it is.
    pub id: TokenId,
    secret: [u8; SECRET_BYTES],
}

/// What is kept of a secret.
pub(crate) type Hash = [u8; 32];

impl Secret {
    pub(crate) fn new(id: TokenId, ids: &dyn Ids) -> Self {
        let mut drawn = [0; 32];
        for part in drawn.chunks_exact_mut(16) {
            part.copy_from_slice(&ids.random_u128().to_be_bytes());
        }
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&drawn[..SECRET_BYTES]);
        Self { id, secret }
    }

    /// Takes the text of a token. Allocates nothing.
    ///
    /// # Errors
    /// `Unauthorized` (`token-malformed`), which says nothing of the text.
    pub fn parse(text: &[u8]) -> Result<Self> {
        Self::read(text).ok_or_else(|| {
            let detail = "this is no access token: one is nacre_, 32 hex digits, _ and 48 letters, and its last \
                          letters check the others; was it copied whole?";
            Error::new(ErrorKind::Unauthorized, detail).with_code("token-malformed")
        })
    }

    fn read(text: &[u8]) -> Option<Self> {
        let text = <&[u8; TEXT_CHARS]>::try_from(text).ok()?;
        let (id, coded) = text.strip_prefix(PREFIX)?.split_first_chunk::<ID_CHARS>()?;
        let id = TokenId(from_hex(id)?);
        let coded = <&[u8; CODED_CHARS]>::try_from(coded.strip_prefix(b"_")?).ok()?;
        let bytes = from_base32(coded)?;
        let (secret, check) = bytes.split_first_chunk::<SECRET_BYTES>()?;
        let this = Self { id, secret: *secret };
        (check == this.check()).then_some(this)
    }

    fn check(&self) -> [u8; 4] {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.id.0.to_be_bytes());
        crc.update(&self.secret);
        crc.finalize().to_be_bytes()
    }

    /// The text, to be shown once.
    pub fn to_text(&self) -> String {
        let mut bytes = [0; CODED_BYTES];
        bytes[..SECRET_BYTES].copy_from_slice(&self.secret);
        bytes[SECRET_BYTES..].copy_from_slice(&self.check());
        let mut text = format!("nacre_{}_", self.id);
        for five in bytes.chunks_exact(5) {
            let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for nth in (0..8).rev() {
                text.push(char::from(ALPHABET[(bits >> (5 * nth)) as usize & 31]));
            }
        }
        text
    }

    pub(crate) fn hash(&self) -> Hash {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.secret);
        let mut hash = Hash::default();
        hash.copy_from_slice(digest.as_ref());
        hash
    }
}

/// Never the secret itself.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nacre_{}_(secret)", self.id)
    }
}

fn from_hex(text: &[u8; ID_CHARS]) -> Option<u128> {
    text.iter().try_fold(0, |number: u128, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn from_base32(text: &[u8; CODED_CHARS]) -> Option<[u8; CODED_BYTES]> {
    let mut bytes = [0; CODED_BYTES];
    for (eight, five) in text.chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
        let mut bits = 0u64;
        for &byte in eight {
            let digit = match byte {
                b'a'..=b'z' => byte - b'a',
                b'2'..=b'7' => byte - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(digit);
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_runtime::SeededIds;
    use proptest::prelude::*;

    fn secret(seed: u64) -> Secret {
        let ids = SeededIds::new(seed);
        Secret::new(TokenId::new(7, &ids), &ids)
    }

    #[test]
    fn a_token_comes_back_from_its_text() {
        let secret = secret(1);
        let text = secret.to_text();
        assert_eq!(text.len(), 87);
        assert!(text.starts_with("nacre_0000000000000007"), "{text}");
        assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        let back = Secret::parse(text.as_bytes()).unwrap();
        assert_eq!((back, back.hash(), back.id.shelf()), (secret, secret.hash(), 7));
        assert_eq!(TokenId::parse(&back.id.to_string()).unwrap(), back.id);
    }

    #[test]
    fn every_typo_is_told_and_the_text_is_not_repeated() {
        let text = secret(2).to_text();
        for at in 0..text.len() {
            for other in [b'a', b'7', b'0', b'_', b'A', 0xFF] {
                let mut changed = text.clone().into_bytes();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let error = Secret::parse(&changed).unwrap_err();
                assert_eq!((error.kind(), error.code()), (ErrorKind::Unauthorized, "token-malformed"));
                assert!(!error.detail().contains(&text[39..]), "{error}");
            }
            assert!(Secret::parse(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
        assert!(Secret::parse(format!("{text}a").as_bytes()).is_err());
    }

    #[test]
    fn the_secret_does_not_show() {
        let secret = secret(3);
        let shown = format!("{secret:?}");
        assert!(shown.contains(&secret.id.to_string()) && !secret.to_text().contains(&shown));
        assert!(shown.ends_with("_(secret)"), "{shown}");
    }

    #[test]
    fn what_is_no_id_names_no_token() {
        for bad in ["", "0", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert_eq!(TokenId::parse(bad).unwrap_err().code(), "token-not-found", "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn any_text_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), tail in "[a-z2-7]{48}") {
            prop_assert!(Secret::parse(&bytes).is_err());
            // Of the right form, and yet the checksum does not fit.
            let text = format!("nacre_{:032x}_{tail}", 5);
            prop_assert!(Secret::parse(text.as_bytes()).is_err());
        }
    }
}
