//! Puts and deletes: sent once, and what their answers mean.

use super::address::encoded_value;
use super::answer::{Begun, Made, Whole, bare_etag};
use super::ask::{Ask, Kind};
use super::client::Client;
use super::read::quoted;
use super::refusal::{Refusal, clean};
use crate::{ObjectPath, ObjectTag, PutMode, PutOutcome};
use bytes::Bytes;
use http::{Method, StatusCode};
use nacre_types::{Error, Result};
use std::fmt::Write as _;
use std::time::Duration;

/// The slowest that a body may go up, beyond the time that any write has.
const BYTES_PER_SECOND: usize = 1 << 20;

impl Client {
    /// How long a write with a body may take.
    pub(super) fn time_for(&self, body: &Bytes) -> Duration {
        self.tuning.write + Duration::from_secs((body.len() / BYTES_PER_SECOND) as u64)
    }

    pub(super) async fn put(&self, path: &ObjectPath, body: Bytes, mode: &PutMode) -> Result<PutOutcome> {
        let within = self.time_for(&body);
        let ask = self.ask(Kind::Put, Method::PUT, path).body(body).within(within);
        let ask = match mode {
            PutMode::Create => ask.header("if-none-match", "*"),
            PutMode::Replace(tag) => ask.header("if-match", quoted(&tag.etag)),
        };
        let answer = self.write(&ask).await?;
        match (answer.status, mode) {
            (status, _) if status.is_success() => stored(&ask, answer.tag()),
            (StatusCode::PRECONDITION_FAILED, PutMode::Create) => Ok(PutOutcome::AlreadyExists),
            (StatusCode::PRECONDITION_FAILED, PutMode::Replace(_)) => Ok(PutOutcome::Mismatch),
            (_, PutMode::Replace(_)) if Refusal::of(&answer).is_absence() => Ok(PutOutcome::Mismatch),
            _ => Err(self.refused_write(&ask, &answer)),
        }
    }

    pub(super) async fn delete(&self, path: &ObjectPath) -> Result<()> {
        let ask = self.ask(Kind::Delete, Method::DELETE, path).within(self.tuning.write);
        let answer = self.write(&ask).await?;
        if answer.status.is_success() || Refusal::of(&answer).is_absence() {
            return Ok(());
        }
        Err(self.refused_write(&ask, &answer))
    }

    /// Begins an upload; nobody sees it, so it may be begun twice.
    pub(super) async fn begin_upload(&self, path: &ObjectPath, kind: Kind) -> Result<String> {
        let ask = self.ask(kind, Method::POST, path).query("uploads=".to_owned());
        let answer = self.read(&ask).await?;
        match answer.xml::<Begun>() {
            Some(begun) if answer.status.is_success() => Ok(begun.upload_id),
            _ => Err(self.refused_read(&ask, &answer)),
        }
    }

    /// Sends a part of an upload; nobody sees it, so it may be sent twice. Answers its ETag.
    pub(super) async fn put_part(
        &self,
        path: &ObjectPath,
        upload: &str,
        number: usize,
        part: Bytes,
    ) -> Result<String> {
        let within = self.time_for(&part);
        let query = format!("partNumber={number}&uploadId={}", encoded_value(upload));
        let ask = self.ask(Kind::Upload, Method::PUT, path).query(query).body(part).within(within);
        let answer = self.read(&ask).await?;
        match answer.header("etag") {
            Some(etag) if answer.status.is_success() => Ok(bare_etag(etag)),
            _ => Err(self.refused_read(&ask, &answer)),
        }
    }

    /// Makes an object of the parts of an upload, if its name is free.
    pub(super) async fn finish_upload(
        &self,
        path: &ObjectPath,
        upload: &str,
        parts: &[String],
        kind: Kind,
    ) -> Result<PutOutcome> {
        let ask = self
            .ask(kind, Method::POST, path)
            .query(format!("uploadId={}", encoded_value(upload)))
            .header("if-none-match", "*")
            .header("content-type", "application/xml")
            .body(list_of(parts))
            .within(self.tuning.heavy);
        let answer = self.write(&ask).await?;
        match answer.status {
            StatusCode::PRECONDITION_FAILED => Ok(PutOutcome::AlreadyExists),
            status if status.is_success() => self.finished(&ask, &answer),
            _ => Err(self.refused_write(&ask, &answer)),
        }
    }

    /// The end of an upload takes long: S3 answers 200 first, and says afterwards how it went.
    fn finished(&self, ask: &Ask, answer: &Whole) -> Result<PutOutcome> {
        let unknown = |why: &str| {
            Error::unknown(format!("the end of the upload of {}: {why}", ask.lane)).with_code("store-silent")
        };
        let made: Made = answer.xml().ok_or_else(|| unknown("the answer was cut short"))?;
        match (made.code.as_deref(), made.etag) {
            (Some("PreconditionFailed"), _) => Ok(PutOutcome::AlreadyExists),
            (Some(code), _) => Err(unknown(&format!("the store said {}", clean(code)))),
            (None, Some(etag)) => {
                let tag = ObjectTag { etag: bare_etag(&etag), version_id: answer.version_id() };
                Ok(PutOutcome::Stored(tag))
            }
            (None, None) => Err(unknown("the answer is none of an S3 store")),
        }
    }

    /// Gives up an upload, as far as that can be done: what stays is invisible.
    pub(super) async fn abort_upload(&self, path: &ObjectPath, upload: &str) {
        let query = format!("uploadId={}", encoded_value(upload));
        let ask = self.ask(Kind::Upload, Method::DELETE, path).query(query);
        match self.read(&ask).await {
            Ok(answer) if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND => {}
            Ok(answer) => {
                let error = self.refused_read(&ask, &answer);
                tracing::debug!(%error, "parts of an upload were left behind");
            }
            Err(error) => tracing::debug!(%error, "parts of an upload were left behind"),
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) async fn create_bucket(&self) -> Result<()> {
        let ask = self.ask_bucket(Kind::Put, Method::PUT, "");
        let answer = self.write(&ask).await?;
        let refusal = Refusal::of(&answer);
        if answer.status.is_success()
            || refusal.is("BucketAlreadyOwnedByYou")
            || refusal.is("BucketAlreadyExists")
        {
            return Ok(());
        }
        Err(self.refused_write(&ask, &answer))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) async fn keep_versions(&self) -> Result<()> {
        let xml = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                   <Status>Enabled</Status></VersioningConfiguration>";
        let ask =
            self.ask_bucket(Kind::Put, Method::PUT, "").query("versioning=".to_owned()).body(xml.into());
        let answer = self.write(&ask).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused_write(&ask, &answer)) }
    }
}

/// A write that was taken. Without a tag nobody can say later whether the object is still the one that was put.
fn stored(ask: &Ask, tag: Option<ObjectTag>) -> Result<PutOutcome> {
    tag.map(PutOutcome::Stored).ok_or_else(|| {
        Error::unknown(format!(
            "object {} was stored, but the answer has no ETag; is it an S3 store?",
            ask.lane
        ))
        .with_code("store-endpoint")
    })
}

fn list_of(parts: &[String]) -> Bytes {
    let mut xml = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (number, etag) in (1..).zip(parts) {
        let etag = etag.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = write!(xml, "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>");
    }
    xml.push_str("</CompleteMultipartUpload>");
    xml.into()
}
