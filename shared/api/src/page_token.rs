//! Page tokens: everything that the next page of a scan needs, in one opaque text.
//!
//! ```text
//! base64url of   version byte 1 | flags | table id (16) | edition (8) | began at (8, micros) | filter hash (8)
//!                | [since (8)] [until (8)] [as_of (8)] [preview load (16)]
//!                | start (2 + n) | [end (2 + n)] | [fields (2 + n)] | xxh3 of all that (8)
//! flags          1 reverse, 2 keys only, 4 end, 8 since, 16 until, 32 as_of, 64 preview, 128 fields
//! ```
//! Numbers are big-endian. `start` and `end` bound what is left to read, so the token holds where the scan stands; the
//! filter hash is over the range and filters of the first page, so that a request which repeats them with the token is
//! checked and one that changes them is refused. The checksum finds damage, not forgery: a forged token reads what
//! its bearer may read anyway, because access is judged anew on every page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use nacre_types::{Error, KeyRange, LoadId, Result, Seq, TableId, limits};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Where a scan stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    /// The table: one that was dropped and made again is another.
    pub table: TableId,
    /// The edition that every page answers from.
    pub edition: Seq,
    /// When the first page was answered, in microseconds since the epoch; not renewed.
    pub began_at_micros: i64,
    /// What is left to read.
    pub rest: KeyRange,
    /// From the last key to the first.
    pub reverse: bool,
    /// Smallest version.
    pub since: Option<i64>,
    /// Largest version.
    pub until: Option<i64>,
    /// Largest version that may answer.
    pub as_of: Option<i64>,
    /// The prepared load that is shown as if committed.
    pub preview: Option<LoadId>,
    /// Whether only keys are answered.
    pub keys_only: bool,
    /// `fields`, where it names fields of values.
    pub fields: Option<String>,
    /// [`PageToken::filter_hash`] of the first page's range and filters.
    pub filter: u64,
}

const FORMAT: u8 = 1;
/// More than a token of two longest keys and 64 field names has.
const MOST_TEXT: usize = limits::URI_BYTES;

impl PageToken {
    /// A hash of the scan's range and filters, as asked for.
    pub fn filter_hash(&self, asked: &KeyRange) -> u64 {
        let whole =
            Self { rest: asked.clone(), filter: 0, edition: Seq(0), began_at_micros: 0, ..self.clone() };
        xxh3_64(&whole.body())
    }

    /// The opaque text.
    pub fn to_text(&self) -> String {
        let mut bytes = self.body();
        bytes.extend_from_slice(&xxh3_64(&bytes).to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn body(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(96 + self.rest.start.len() + self.rest.end.as_ref().map_or(0, Bytes::len));
        let flags = u8::from(self.reverse)
            | u8::from(self.keys_only) << 1
            | u8::from(self.rest.end.is_some()) << 2
            | u8::from(self.since.is_some()) << 3
            | u8::from(self.until.is_some()) << 4
            | u8::from(self.as_of.is_some()) << 5
            | u8::from(self.preview.is_some()) << 6
            | u8::from(self.fields.is_some()) << 7;
        out.extend_from_slice(&[FORMAT, flags]);
        out.extend_from_slice(&self.table.to_bytes());
        out.extend_from_slice(&self.edition.0.to_be_bytes());
        out.extend_from_slice(&self.began_at_micros.to_be_bytes());
        out.extend_from_slice(&self.filter.to_be_bytes());
        for bound in [self.since, self.until, self.as_of].into_iter().flatten() {
            out.extend_from_slice(&bound.to_be_bytes());
        }
        if let Some(preview) = self.preview {
            out.extend_from_slice(&preview.to_bytes());
        }
        push_bytes(&mut out, &self.rest.start);
        if let Some(end) = &self.rest.end {
            push_bytes(&mut out, end);
        }
        if let Some(fields) = &self.fields {
            push_bytes(&mut out, fields.as_bytes());
        }
        out
    }

    /// Reads the text, and checks that it belongs to `table` and lives at `now_micros`.
    ///
    /// # Errors
    /// `Invalid` (`page-token-invalid`) for anything that [`PageToken::to_text`] did not write, and for another
    /// table's; `NotFound` (`page-token-expired`, answered as 410) 15 minutes after the first page.
    pub fn parse(text: &str, table: TableId, now_micros: i64) -> Result<Self> {
        let token = Self::decode(text).ok_or_else(|| {
            Error::invalid("the page token is damaged; send next_page_token as it was answered")
                .with_code("page-token-invalid")
        })?;
        if token.table != table {
            return Err(Error::invalid(
                "the page token belongs to another table (or to one that was dropped)",
            )
            .with_code("page-token-invalid"));
        }
        if now_micros.saturating_sub(token.began_at_micros) > limits::PAGE_TOKEN_MICROS {
            return Err(Error::not_found(
                "the page token has expired: a scan's pages are answered for 15 minutes from its first; begin anew, or take a snapshot",
            )
            .with_code("page-token-expired"));
        }
        Ok(token)
    }

    fn decode(text: &str) -> Option<Self> {
        if text.len() > MOST_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if sum != xxh3_64(body).to_be_bytes() {
            return None;
        }
        let mut rest = body;
        let [version, flags] = take(&mut rest)?;
        if version != FORMAT {
            return None;
        }
        let has = |bit: u8| flags & bit != 0;
        let table = TableId::from_bytes(take(&mut rest)?);
        let edition = Seq(u64::from_be_bytes(take(&mut rest)?));
        let began_at_micros = i64::from_be_bytes(take(&mut rest)?);
        let filter = u64::from_be_bytes(take(&mut rest)?);
        let mut number = |there: bool| -> Option<Option<i64>> {
            if there { take(&mut rest).map(|bytes| Some(i64::from_be_bytes(bytes))) } else { Some(None) }
        };
        let (since, until, as_of) = (number(has(8))?, number(has(16))?, number(has(32))?);
        let preview = if has(64) { Some(LoadId::from_bytes(take(&mut rest)?)) } else { None };
        let start = take_bytes(&mut rest)?;
        let end = if has(4) { Some(take_bytes(&mut rest)?) } else { None };
        let fields =
            if has(128) { Some(std::str::from_utf8(&take_bytes(&mut rest)?).ok()?.to_owned()) } else { None };
        rest.is_empty().then_some(Self {
            table,
            edition,
            began_at_micros,
            rest: KeyRange { start, end },
            reverse: has(1),
            since,
            until,
            as_of,
            preview,
            keys_only: has(2),
            fields,
            filter,
        })
    }
}

/// Where a listing goes on: the name of the last thing shown. Base64url of version byte 1, the name, and an xxh3 of both
/// that is seeded with the path of the listing: another listing's token, or a scan's, is no token of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListToken(pub Vec<u8>);

impl ListToken {
    /// The opaque text, for the listing at `path`.
    pub fn to_text(&self, path: &str) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&list_sum(&bytes, path));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the text.
    ///
    /// # Errors
    /// `Invalid` (`page-token-invalid`) for anything that [`ListToken::to_text`] did not write for `path`.
    pub fn parse(text: &str, path: &str) -> Result<Self> {
        let decode = || {
            let bytes = URL_SAFE_NO_PAD.decode(text.get(..text.len().min(MOST_TEXT))?).ok()?;
            let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
            let name = body.strip_prefix(&[FORMAT])?;
            (sum == list_sum(body, path)).then(|| Self(name.to_vec()))
        };
        decode().ok_or_else(|| {
            Error::invalid(
                "the page token is damaged, or another listing's; send next_page_token as it was answered",
            )
            .with_code("page-token-invalid")
        })
    }
}

fn list_sum(body: &[u8], path: &str) -> [u8; 8] {
    xxh3_64_with_seed(body, xxh3_64(path.as_bytes())).to_be_bytes()
}

/// Keys have at most 2 KiB, and the URI that brought `fields` at most 16 KiB: two bytes hold any length.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_bytes(rest: &mut &[u8]) -> Option<Bytes> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(Bytes::copy_from_slice(head))
}

#[cfg(test)]
#[path = "page_token/tests.rs"]
mod tests;
