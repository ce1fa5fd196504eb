//! Gets, heads and the date.

use super::answer::{Span, Whole};
use super::ask::{Ask, Kind};
use super::client::Client;
use super::refusal::Refusal;
use crate::aws::http_date_micros;
use crate::memory::{changed, check_range, not_found};
use crate::{GetOptions, Object, ObjectMeta, ObjectPath, ObjectTag};
use http::{Method, StatusCode};
use nacre_types::{Error, Result};
use std::ops::Range;

/// An end beyond what servers read into an i64 is the same as any beyond the object's.
const LAST_BYTE: u64 = i64::MAX as u64 - 1;
/// An answer to a range that brings the whole object instead is taken up to here.
const WHOLE_INSTEAD: u64 = 8 << 20;

/// Adds the condition that the object is what `tag` stands for.
pub(super) fn only_if(ask: Ask, tag: Option<&ObjectTag>) -> Ask {
    let Some(tag) = tag else { return ask };
    let ask = match &tag.version_id {
        Some(id) => ask.query(format!("versionId={}", super::address::encoded_value(id))),
        None => ask,
    };
    ask.header("if-match", quoted(&tag.etag))
}

/// An ETag as it stands in a header.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

impl Client {
    pub(super) async fn get(&self, path: &ObjectPath, options: &GetOptions) -> Result<Object> {
        let tag = options.if_tag.as_ref();
        if let Some(range) = options.range.as_ref().filter(|range| range.is_empty()) {
            // HTTP has no empty range.
            let meta = self.head(path, tag).await?;
            check_range(path, range, meta.size)?;
            return Ok(Object { bytes: bytes::Bytes::new(), meta });
        }
        let mut ask = only_if(self.ask(Kind::Get, Method::GET, path), tag);
        if let Some(Range { start, end }) = options.range {
            ask = ask.header("range", format!("bytes={start}-{}", (end - 1).min(LAST_BYTE)));
        }
        let at_most =
            options.range.as_ref().map_or(u64::MAX, |range| (range.end - range.start).max(WHOLE_INSTEAD));
        let ask = ask.at_most(at_most);
        let answer = self.read(&ask).await?;
        match answer.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => object(path, options, answer),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let meta = self.head(path, tag).await?;
                check_range(path, &options.range.clone().unwrap_or_default(), meta.size)?;
                Err(self.refused_read(&ask, &answer))
            }
            _ => Err(self.unread(path, tag, &ask, &answer)),
        }
    }

    /// What a store says of an object, or of the version that `tag` names.
    pub(super) async fn head(&self, path: &ObjectPath, tag: Option<&ObjectTag>) -> Result<ObjectMeta> {
        let ask = only_if(self.ask(Kind::Head, Method::HEAD, path), tag);
        let answer = self.read(&ask).await?;
        match answer.status {
            StatusCode::OK => answer.meta(path),
            StatusCode::PRECONDITION_FAILED => Err(self.unread(path, tag, &ask, &answer)),
            // An answer to a head has no body that would say why, or tell S3's absences from those of whatever stands in
            // between.
            status if status.is_client_error() => self.explained(path, tag).await,
            _ => Err(self.unread(path, tag, &ask, &answer)),
        }
    }

    /// Asks again what a head refused, as a read, whose refusals have words.
    async fn explained(&self, path: &ObjectPath, tag: Option<&ObjectTag>) -> Result<ObjectMeta> {
        let ask = only_if(self.ask(Kind::Head, Method::GET, path), tag).header("range", "bytes=0-0");
        let answer = self.read(&ask).await?;
        match answer.status {
            // It came to be in between; an empty one is there as well.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => answer.meta(path),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Error::unavailable(format!("object {path} came to be just now")).with_code("store-error"))
            }
            _ => Err(self.unread(path, tag, &ask, &answer)),
        }
    }

    fn unread(&self, path: &ObjectPath, tag: Option<&ObjectTag>, ask: &Ask, answer: &Whole) -> Error {
        let refusal = Refusal::of(answer);
        match (answer.status, tag) {
            _ if refusal.is_absence() => not_found(path),
            (StatusCode::PRECONDITION_FAILED, Some(tag)) => changed(path, tag, None),
            // A version id that was never one of this object. Other words of this status are about keys and regions.
            (StatusCode::BAD_REQUEST, Some(tag))
                if tag.version_id.is_some() && refusal.is("InvalidArgument") =>
            {
                changed(path, tag, None)
            }
            _ => self.refused_read(ask, answer),
        }
    }

    /// Any answer of the store tells its date, a refusal too.
    pub(super) async fn date_micros(&self) -> Result<i64> {
        let ask = self.ask_bucket(Kind::Head, Method::HEAD, "");
        let answer = self.read(&ask).await?;
        answer.header("date").and_then(http_date_micros).ok_or_else(|| {
            Error::unavailable(format!("{} tells no date; is it an S3 store?", self.address.origin))
                .with_code("store-endpoint")
        })
    }
}

fn object(path: &ObjectPath, options: &GetOptions, answer: Whole) -> Result<Object> {
    let (meta, span) = (answer.meta(path)?, answer.span());
    let bytes = answer.body.unwrap_or_default();
    if let Some(expected) = &options.if_tag
        && expected.etag != meta.tag.etag
    {
        // A gateway that does not know the condition.
        return Err(changed(path, expected, Some(&meta.tag)));
    }
    let Some(range) = &options.range else {
        if answer.status != StatusCode::OK || bytes.len() as u64 != meta.size {
            return Err(Error::unavailable(format!(
                "object {path}: the store answered with a part of it where the whole was asked for"
            ))
            .with_code("store-endpoint"));
        }
        return Ok(Object { bytes, meta });
    };
    check_range(path, range, meta.size)?;
    let wanted = range.end - range.start;
    let cut = |from: u64| {
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(from + wanted).ok()?);
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    };
    let asked = Some(Span { first: range.start, last: range.end.saturating_sub(1), size: meta.size });
    let found = match answer.status {
        // Caches have been seen to answer with the block that lies nearest.
        StatusCode::PARTIAL_CONTENT if span == asked && bytes.len() as u64 == wanted => cut(0),
        // It may answer a range with everything.
        StatusCode::OK if bytes.len() as u64 == meta.size && meta.size <= WHOLE_INSTEAD.max(wanted) => {
            cut(range.start)
        }
        _ => None,
    };
    let bytes = found.ok_or_else(|| {
        Error::unavailable(format!(
            "bytes {}..{} of object {path}: the store answered with {} others; it does not know ranges as S3 does",
            range.start,
            range.end,
            bytes.len()
        ))
        .with_code("store-endpoint")
    })?;
    Ok(Object { bytes, meta })
}
