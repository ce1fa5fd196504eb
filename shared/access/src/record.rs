//! The record of a shelf: its tokens, in the order of their ids.

use bytes::Bytes;
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{NamespaceName, Result, TableName};
use std::fmt;

use crate::grant::{Grant, Home, Verbs};
use crate::secret::{Hash, Secret, TokenId};

const VERSION: u8 = 1;
const CORRUPT: &str = "tokens-corrupt";

/// A token as it is kept: everything but its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What its maker calls it.
    pub name: String,
    /// What it grants.
    pub grant: Grant,
    /// When it was made, in microseconds since the epoch.
    pub created_at_micros: i64,
    /// From when on it is refused; `None` = never.
    pub expires_at_micros: Option<i64>,
    pub(crate) hash: Hash,
}

/// Without the hash.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("grant", &self.grant)
            .field("created_at_micros", &self.created_at_micros)
            .field("expires_at_micros", &self.expires_at_micros)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Whether `secret` is this token's. Takes as long for a wrong one as for the right one.
    pub(crate) fn is_of(&self, secret: &Secret) -> bool {
        use subtle::ConstantTimeEq as _;
        bool::from(self.hash.ct_eq(&secret.hash()))
    }

    /// Whether it is refused at `now`.
    pub fn is_expired(&self, now_micros: i64) -> bool {
        self.expires_at_micros.is_some_and(|expires| expires <= now_micros)
    }
}

/// The shelf that tokens of `home` lie on. Two namespaces may share one: every token says whose it is.
pub(crate) fn shelf_of(home: &Home) -> u64 {
    let Home::Namespace(name) = home else { return 0 };
    let mut text = b"nacre namespace ".to_vec();
    text.extend_from_slice(name.as_str().as_bytes());
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let first = digest.as_ref().first_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(first).max(1)
}

pub(crate) fn record_name(shelf: u64) -> String {
    format!("tokens/{shelf:016x}")
}

pub(crate) fn encode(tokens: &[Token]) -> Bytes {
    let frame = FrameWriter::new(VERSION, 16 + 192 * tokens.len()).u32(tokens.len() as u32);
    tokens.iter().fold(frame, write).finish()
}

fn write(frame: FrameWriter, token: &Token) -> FrameWriter {
    let Token { id, name, grant, created_at_micros, expires_at_micros, hash } = token;
    let namespace = grant.home.namespace().map_or("", NamespaceName::as_str);
    let mut frame = frame
        .u128(id.0)
        .bytes(hash)
        .bytes(name.as_bytes())
        .u64(*created_at_micros as u64)
        .bytes(namespace.as_bytes())
        .u32(grant.verbs.bits());
    // What may be missing stands after how often it is there.
    frame = frame.u32(u32::from(expires_at_micros.is_some()));
    frame = expires_at_micros.iter().fold(frame, |frame, at| frame.u64(*at as u64));
    frame = frame.u32(u32::from(grant.prefix.is_some()));
    frame = grant.prefix.iter().fold(frame, |frame, prefix| frame.bytes(prefix));
    frame = frame.u32(u32::from(grant.tables.is_some()));
    let Some(tables) = &grant.tables else { return frame };
    let frame = frame.u32(tables.len() as u32);
    tables.iter().fold(frame, |frame, table| frame.bytes(table.as_str().as_bytes()))
}

pub(crate) fn decode(bytes: Bytes) -> Result<Vec<Token>> {
    let mut frame = FrameReader::open(bytes, VERSION, "the list of tokens", CORRUPT)?;
    let count = frame.u32()?;
    let mut tokens: Vec<Token> = Vec::new();
    for _ in 0..count {
        let token = read(&mut frame)?;
        if tokens.last().is_some_and(|last| last.id >= token.id) {
            return Err(frame.corrupt("its ids do not rise"));
        }
        tokens.push(token);
    }
    frame.finish()?;
    Ok(tokens)
}

fn read(frame: &mut FrameReader) -> Result<Token> {
    let id = TokenId(frame.u128()?);
    let hash = Hash::try_from(&frame.bytes()?[..]).map_err(|_| frame.corrupt("a hash has another length"))?;
    let name = frame.text()?;
    let created_at_micros = frame.u64()? as i64;
    let home = match &*frame.text()? {
        "" => Home::Store,
        name => Home::Namespace(
            NamespaceName::new(name).map_err(|_| frame.corrupt("a namespace in it is no name"))?,
        ),
    };
    let verbs = Verbs::from_bits(frame.u32()?)
        .ok_or_else(|| frame.corrupt("a token has verbs that this program does not know"))?;
    let expires_at_micros = if flag(frame)? { Some(frame.u64()? as i64) } else { None };
    // Copied: a slice would keep the whole record in memory.
    let prefix = if flag(frame)? { Some(Bytes::copy_from_slice(&frame.bytes()?)) } else { None };
    let tables = if flag(frame)? {
        let count = frame.u32()?;
        let mut tables = Vec::new();
        for _ in 0..count {
            let name = frame.text()?;
            tables.push(TableName::new(&name).map_err(|_| frame.corrupt("a table in it is no name"))?);
        }
        Some(tables)
    } else {
        None
    };
    let grant = Grant { home, verbs, tables, prefix };
    Ok(Token { id, name, grant, created_at_micros, expires_at_micros, hash })
}

fn flag(frame: &mut FrameReader) -> Result<bool> {
    match frame.u32()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(frame.corrupt("a flag in it is neither set nor clear")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Verb;
    use nacre_runtime::SeededIds;
    use proptest::prelude::*;

    fn tokens() -> Vec<Token> {
        let ids = SeededIds::new(1);
        let grants = [
            Grant { home: Home::Store, verbs: Verbs::ALL, tables: None, prefix: None },
            Grant {
                home: Home::Namespace(NamespaceName::new("orders").unwrap()),
                verbs: [Verb::Read, Verb::Load].into_iter().collect(),
                tables: Some(vec![TableName::new("t").unwrap(), TableName::new("u").unwrap()]),
                prefix: Some(Bytes::from_static(b"eu/\xFF")),
            },
        ];
        let mut tokens: Vec<Token> = grants
            .into_iter()
            .map(|grant| {
                let secret = Secret::new(TokenId::new(shelf_of(&grant.home), &ids), &ids);
                let (created_at_micros, expires_at_micros) =
                    (1_700_000_000_000_000, grant.tables.as_ref().map(|_| -5));
                let name = "the nightly job".to_owned();
                Token {
                    id: secret.id,
                    name,
                    grant,
                    created_at_micros,
                    expires_at_micros,
                    hash: secret.hash(),
                }
            })
            .collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    fn golden() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokens-1.bin")
    }

    #[test]
    fn the_stored_form_is_the_golden_one() {
        let stored = std::fs::read(golden()).unwrap();
        assert_eq!(encode(&tokens()), stored);
        assert_eq!(decode(stored.into()).unwrap(), tokens());
    }

    #[test]
    #[ignore = "writes the golden file of a new format"]
    fn write_golden_file() {
        std::fs::write(golden(), encode(&tokens())).unwrap();
    }

    #[test]
    fn a_secret_is_known_by_its_hash_alone() {
        let ids = SeededIds::new(9);
        let secret = Secret::new(TokenId::new(0, &ids), &ids);
        let other = Secret::new(secret.id, &ids);
        let token = Token { id: secret.id, hash: secret.hash(), ..tokens().remove(0) };
        assert!(token.is_of(&secret) && !token.is_of(&other));
        let stored = encode(std::slice::from_ref(&token));
        let text = secret.to_text();
        assert!(!stored.windows(8).any(|window| text.as_bytes()[39..].windows(8).any(|part| part == window)));
        assert!(!format!("{token:?}").contains("hash"));
    }

    #[test]
    fn shelves_of_namespaces_differ_from_the_stores() {
        let shelf = |name| shelf_of(&Home::Namespace(NamespaceName::new(name).unwrap()));
        assert_eq!(shelf_of(&Home::Store), 0);
        assert!(shelf("a") != 0 && shelf("a") != shelf("b"));
        assert_eq!(record_name(0xAB), "tokens/00000000000000ab");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn any_bytes_are_read_or_refused(at in 0usize..400, byte: u8, cut in 0usize..400, noise in prop::collection::vec(any::<u8>(), 0..200), seal: bool) {
            let _ = decode(noise.clone().into());
            let mut bytes = encode(&tokens()).to_vec();
            bytes.truncate(bytes.len() - 4);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut.max(1));
            bytes.extend_from_slice(&noise[..noise.len() / 4]);
            if seal {
                // With a right checksum the fields themselves are what is wrong.
                bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            }
            if let Ok(tokens) = decode(bytes.clone().into()) {
                prop_assert_eq!(encode(&tokens), bytes);
            }
        }
    }
}
