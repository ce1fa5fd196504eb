//! Answers that say no: what they mean for the caller, and what to do about them.
//!
//! | answer | to a read | to a write |
//! |---|---|---|
//! | 404 `NoSuchKey` | `NotFound` | replace: mismatch (it is gone) |
//! | 404 of any other kind | `Unavailable`: no bucket, or not an S3 store. Never an absence: readers of the log believe those | certainly not |
//! | 412 | `Corrupt` (`object-changed`) | exists, mismatch |
//! | 409, 408 | | `Unknown` |
//! | 429; 503 `SlowDown` of Amazon's | repeated, then `Unavailable` | certainly not, with a time to wait |
//! | 503 `SlowDown` of another's | repeated, then `Unavailable` | `Unknown`, with a time to wait: MinIO has said so of writes that reached some of their disks |
//! | other 5xx | repeated, then `Unavailable` | `Unknown`: a gateway answers so for what went on behind it |
//! | 501 | `Unavailable` (`store-unfit`) | `Invalid`: the store does not know the request or its condition |
//! | 3xx, other 4xx | `Unavailable`, with what to do | certainly not |
//!
//! A refusal that an operator must mend (keys, rights, the bucket's name) is `Unavailable` under a code of its own and
//! not `Forbidden`: that would tell nacre's client that *its* token is at fault, and the operator may mend it while
//! the program runs.

use super::address::Address;
use super::answer::{ErrorBody, Whole};
use http::StatusCode;
use nacre_types::{Error, ErrorKind};

/// How long to wait after a SlowDown.
const SLOW_DOWN_MS: u64 = 500;
/// How much of the store's own words is told.
const MESSAGE_CHARS: usize = 160;

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: ErrorBody,
    request_id: Option<String>,
}

impl Refusal {
    pub(super) fn of(answer: &Whole) -> Self {
        let mut body: ErrorBody = answer.xml().unwrap_or_default();
        body.region = body.region.or_else(|| answer.header("x-amz-bucket-region").map(str::to_owned));
        body.region = body.region.filter(|region| is_region(region));
        let request_id = answer.header("x-amz-request-id").map(clean);
        Self { status: answer.status, body, request_id }
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.body.code == code
    }

    /// An absence that S3 itself tells.
    pub(super) fn is_absence(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && (self.is("NoSuchKey") || self.is("NoSuchVersion"))
    }

    /// Whether the store asks for fewer requests.
    fn is_throttling(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
            || (self.status == StatusCode::SERVICE_UNAVAILABLE && self.is("SlowDown"))
    }

    /// Whether asking again may help.
    pub(super) fn is_passing(&self) -> bool {
        self.is_throttling()
            || (self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED)
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.is("RequestTimeout")
    }

    /// Whether a write that was answered so certainly had no effect.
    fn is_certain(&self, address: &Address) -> bool {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::NOT_IMPLEMENTED => true,
            // Elsewhere it may be a write that got half way.
            StatusCode::SERVICE_UNAVAILABLE => self.is("SlowDown") && address.is_amazons,
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT => false,
            status => !status.is_server_error() && !self.is("NoSuchUpload"),
        }
    }

    /// The error of a write that was answered so.
    pub(super) fn of_write(&self, address: &Address, what: &str) -> Error {
        let error = self.of_read(address, what);
        if !self.is_certain(address) {
            error.with_kind(ErrorKind::Unknown)
        } else if self.status == StatusCode::NOT_IMPLEMENTED {
            error.with_kind(ErrorKind::Invalid)
        } else {
            error
        }
    }

    /// The error of a read that was answered so.
    pub(super) fn of_read(&self, address: &Address, what: &str) -> Error {
        let said = self.said();
        let (code, advice) = self.advice(address);
        let mut text = format!("{what}: the store said {said}");
        if !advice.is_empty() {
            text = format!("{text}: {advice}");
        }
        let error = Error::unavailable(text).with_code(code);
        if self.is_throttling() { error.with_retry_after_ms(SLOW_DOWN_MS) } else { error }
    }

    fn said(&self) -> String {
        let mut said = self.status.as_u16().to_string();
        for part in [&self.body.code, &self.body.message] {
            if !part.is_empty() {
                said.push(' ');
                said.push_str(&clean(part));
            }
        }
        if let Some(id) = &self.request_id {
            said = format!("{said} (request {id})");
        }
        said
    }

    fn advice(&self, address: &Address) -> (&'static str, String) {
        let Address { bucket, region, origin, .. } = address;
        match (self.body.code.as_str(), self.status.as_u16()) {
            _ if self.is_throttling() => ("store-throttled", "it asks for fewer requests".to_owned()),
            (_, 409) => ("store-conflict", "another write of the same name was under way".to_owned()),
            ("InvalidAccessKeyId" | "XAdminUserNotFound" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "InvalidSecurity", _)
            | (_, 401) => (
                "store-credentials",
                "the keys are not good here; look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, \
                 or at the profile or role that they come from"
                    .to_owned(),
            ),
            ("RequestTimeTooSkewed", _) => {
                ("store-clock", "this machine's clock is far from the store's; set it".to_owned())
            }
            ("NoSuchBucket", _) => (
                "store-bucket",
                format!("there is no bucket {bucket} at {origin}; make it, or name another in the store's URL"),
            ),
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301 | 307 | 308) => {
                let other = match &self.body.region {
                    Some(other) => format!("set AWS_REGION={other}"),
                    None => "set AWS_REGION to the bucket's".to_owned(),
                };
                ("store-region", format!("bucket {bucket} is not in region {region}; {other}"))
            }
            (_, 403) => (
                "store-forbidden",
                format!(
                    "allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the objects of \
                     bucket {bucket}, and s3:ListBucket on the bucket (without that one S3 answers so for an absent \
                     object as well); where it keeps versions also s3:GetObjectVersion and s3:ListBucketVersions"
                ),
            ),
            ("NotImplemented", _) | (_, 501) => (
                "store-unfit",
                "it does not know this request or its condition; table logs and loads rest on conditional writes \
                 (If-None-Match and If-Match on puts, If-None-Match at the end of uploads, x-amz-copy-source-if-match \
                 on copied parts); use a store or a release of it that has them"
                    .to_owned(),
            ),
            ("", 400..=499) => (
                "store-endpoint",
                format!("that is no answer of an S3 store; look at AWS_ENDPOINT_URL_S3, which leads to {origin}"),
            ),
            _ => ("store-error", String::new()),
        }
    }
}

/// What a store says, as it may stand in an error: bounded, and without what would begin another line.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS).collect()
}

fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::S3Settings;

    #[test]
    fn amazons_own_slow_down_says_that_nothing_was_done_and_no_other_store_is_believed() {
        let settings =
            |endpoint: &str| S3Settings { endpoint: Some(endpoint.to_owned()), ..S3Settings::default() };
        for (endpoint, kind) in [
            ("https://s3.eu-west-1.amazonaws.com", ErrorKind::Unavailable),
            ("https://minio.example", ErrorKind::Unknown),
        ] {
            let address = Address::new("s3://bucket", &settings(endpoint)).unwrap();
            let body = ErrorBody { code: "SlowDown".to_owned(), ..ErrorBody::default() };
            let refusal = Refusal { status: StatusCode::SERVICE_UNAVAILABLE, body, request_id: None };
            let error = refusal.of_write(&address, "PUT");
            assert_eq!((error.kind(), error.code()), (kind, "store-throttled"), "{endpoint}");
            assert!(error.retry_after_ms().is_some());
            assert_eq!(refusal.of_read(&address, "GET").kind(), ErrorKind::Unavailable);
        }
    }
}
