//! What S3's answers say: headers, XML, dates.

use crate::aws::http_date_micros;
use crate::{ObjectMeta, ObjectPath, ObjectTag};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use nacre_types::{Error, Result, civil};
use quick_xml::de::from_reader;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A second less a microsecond: S3 tells whole seconds, and an object must not look older than it is.
const SECOND_END: i64 = 999_999;
const SECOND: i64 = 1_000_000;

/// An answer with its body.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it is none, only status and headers are known.
    pub(super) body: Result<Bytes, Partial>,
}

/// Why there is no whole body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partial {
    /// It ended early, or came too slowly.
    Cut,
    /// It is longer than any answer to the request can be.
    TooLong,
}

impl Whole {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
    }

    /// The body as XML of the form `T`.
    pub(super) fn xml<T: DeserializeOwned>(&self) -> Option<T> {
        from_reader(&self.body.as_ref().ok()?[..]).ok()
    }

    /// What identifies the object that the answer is about.
    pub(super) fn tag(&self) -> Option<ObjectTag> {
        Some(ObjectTag { etag: bare_etag(self.header("etag")?), version_id: self.version_id() })
    }

    /// `null` is the version of what was written before the bucket had versions: it may be written again.
    pub(super) fn version_id(&self) -> Option<String> {
        self.header("x-amz-version-id").filter(|id| *id != "null").map(str::to_owned)
    }

    /// Which bytes an answer to a range has.
    pub(super) fn span(&self) -> Option<Span> {
        self.header("content-range").and_then(span_of)
    }

    /// The object of an answer to a get or a head.
    pub(super) fn meta(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        let missing = |what: &str| {
            Error::unavailable(format!(
                "the store's answer about object {path} has no {what}; is it an S3 store?"
            ))
            .with_code("store-endpoint")
        };
        let size = if self.status == StatusCode::PARTIAL_CONTENT {
            self.span().ok_or_else(|| missing("range"))?.size
        } else {
            let length = self.header("content-length").and_then(|text| text.parse().ok());
            length.ok_or_else(|| missing("length"))?
        };
        let modified = self.header("last-modified").and_then(http_date_micros);
        Ok(ObjectMeta {
            path: path.clone(),
            size,
            tag: self.tag().ok_or_else(|| missing("ETag"))?,
            modified_micros: second_end(modified.ok_or_else(|| missing("date"))?),
        })
    }
}

/// Bytes of an object, both ends included, and how many it has in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) size: u64,
}

/// `bytes 0-99/5000000`.
fn span_of(text: &str) -> Option<Span> {
    let (span, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    Some(Span { first: first.parse().ok()?, last: last.parse().ok()?, size: size.parse().ok()? })
}

/// The tag without quotes, and without the mark of weak ones that some gateways add.
pub(super) fn bare_etag(text: &str) -> String {
    let text = text.trim();
    text.strip_prefix("W/").unwrap_or(text).trim_matches('"').to_owned()
}

/// The last microsecond of a moment's second.
fn second_end(micros: i64) -> i64 {
    micros.div_euclid(SECOND).saturating_mul(SECOND).saturating_add(SECOND_END)
}

/// `2024-01-01T00:00:00.000Z`; what is finer than a second is left out, since heads do not tell it.
fn list_date_micros(text: &str) -> Option<i64> {
    let whole = text.split(['.', 'Z']).next()?;
    civil::parse_timestamp(&format!("{whole}Z"))
}

/// A refusal.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(rename = "Code", default)]
    pub(super) code: String,
    #[serde(rename = "Message", default)]
    pub(super) message: String,
    #[serde(rename = "Region", default)]
    pub(super) region: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(rename = "IsTruncated")]
    pub(super) is_truncated: bool,
    #[serde(rename = "NextContinuationToken", default)]
    pub(super) next: Option<String>,
    #[serde(rename = "Contents", default)]
    pub(super) objects: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Key")]
    pub(super) key: String,
    #[serde(rename = "LastModified")]
    modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "Size")]
    size: u64,
}

impl Listed {
    /// Listings tell no version ids: what is pinned by one is pinned by its ETag.
    pub(super) fn meta(&self, path: ObjectPath) -> Result<ObjectMeta> {
        let modified = list_date_micros(&self.modified).ok_or_else(|| {
            Error::unavailable(format!("the store lists object {path} with no date"))
                .with_code("store-endpoint")
        })?;
        let tag = ObjectTag { etag: bare_etag(&self.etag), version_id: None };
        Ok(ObjectMeta { path, size: self.size, tag, modified_micros: second_end(modified) })
    }
}

/// The beginning of an upload.
#[derive(Debug, Deserialize)]
pub(super) struct Begun {
    #[serde(rename = "UploadId")]
    pub(super) upload_id: String,
}

/// The answer to a copied part, or to the end of an upload; S3 may begin it with a 200 and end it with a refusal.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    #[serde(rename = "ETag", default)]
    pub(super) etag: Option<String>,
    #[serde(rename = "Code", default)]
    pub(super) code: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(headers: &[(&'static str, &'static str)], body: &'static str) -> Whole {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), http::HeaderValue::from_static(value)))
            .collect();
        Whole { status: StatusCode::OK, headers, body: Ok(Bytes::from_static(body.as_bytes())) }
    }

    #[test]
    fn dates_are_read_to_the_second_and_objects_never_look_older_than_they_are() {
        assert_eq!(http_date_micros("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000_000));
        for bad in ["", "Sun, 06 Nov 1994 08:49:37 PST", "Sun, 06 Nix 1994 08:49:37 GMT", "06 Nov 1994"] {
            assert_eq!(http_date_micros(bad), None, "{bad}");
        }
        for text in ["1994-11-06T08:49:37.000Z", "1994-11-06T08:49:37.123456789Z", "1994-11-06T08:49:37Z"] {
            assert_eq!(list_date_micros(text), Some(784_111_777_000_000), "{text}");
        }
        let answer = whole(
            &[("etag", "\"x\""), ("content-length", "3"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
            "",
        );
        let meta = answer.meta(&ObjectPath::new("a").unwrap()).unwrap();
        assert_eq!((meta.modified_micros, meta.size), (784_111_777_999_999, 3));
    }

    #[test]
    fn ranges_are_read_only_if_nothing_is_missing() {
        assert_eq!(span_of("bytes 2-4/10"), Some(Span { first: 2, last: 4, size: 10 }));
        for bad in ["", "bytes */10", "bytes 2-4/*", "2-4/10", "bytes 2-4", "bytes -4/10", "bytes 2-/10"] {
            assert_eq!(span_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_lose_quotes_and_marks_and_the_version_null() {
        for text in ["\"a-1\"", "a-1", "W/\"a-1\"", " \"a-1\" "] {
            assert_eq!(bare_etag(text), "a-1");
        }
        let tag = whole(&[("etag", "\"e\""), ("x-amz-version-id", "null")], "").tag().unwrap();
        assert_eq!(tag, ObjectTag { etag: "e".into(), version_id: None });
        let tag = whole(&[("etag", "\"e\""), ("x-amz-version-id", "v1")], "").tag().unwrap();
        assert_eq!(tag.version_id.as_deref(), Some("v1"));
        assert!(whole(&[], "").tag().is_none());
    }

    #[test]
    fn xml_is_read_whatever_else_stands_in_it() {
        let page: Page = whole(
            &[],
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3\"><Name>b</Name><IsTruncated>false</IsTruncated>\
             <Contents><Key>a b/&amp;c</Key><LastModified>2024-01-01T00:00:00Z</LastModified>\
             <ETag>&quot;e&quot;</ETag><Size>7</Size><Owner><ID>o</ID></Owner></Contents>\
             <Contents><ETag>\"f\"</ETag><Key>d</Key><LastModified>2024-01-01T00:00:00.5Z</LastModified>\
             <Size>0</Size></Contents></ListBucketResult>",
        )
        .xml()
        .unwrap();
        assert_eq!(page.objects.len(), 2);
        assert_eq!(page.objects[0].key, "a b/&c");
        let meta = page.objects[0].meta(ObjectPath::new("x").unwrap()).unwrap();
        assert_eq!((meta.tag.etag.as_str(), meta.size), ("e", 7));
        let refusal: ErrorBody =
            whole(&[], "<Error><Code>NoSuchKey</Code><Resource/><Message>m</Message></Error>").xml().unwrap();
        assert_eq!(refusal.code, "NoSuchKey");
        let late: Made = whole(&[], "  \n<Error><Code>InternalError</Code></Error>").xml().unwrap();
        assert_eq!((late.etag, late.code.as_deref()), (None, Some("InternalError")));
        assert!(whole(&[], "<html>").xml::<Page>().is_none());
        assert!(whole(&[], "").xml::<Begun>().is_none());
    }
}
