//! `application/problem+json` (RFC 9457): the one place where errors become statuses.

use nacre_types::{Applied, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error as HTTP tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `/errors/<code>`: stable, tells causes of one kind apart.
    #[serde(rename = "type")]
    #[schema(example = "/errors/table-not-found")]
    pub type_uri: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and what would be right.
    pub detail: String,
    /// `/requests/<request id>`.
    pub instance: String,
    /// What the caller should do: invalid, not_found, conflict, unauthorized, forbidden, throttled, overloaded,
    /// unavailable, unknown, corrupt or internal.
    pub kind: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Of a write: `no` effect, or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub applied: Option<String>,
}

impl Problem {
    /// The problem of `error`. `write` says whether the request was one, and so whether `applied` belongs in it.
    pub fn new(error: &Error, request_id: &str, write: bool) -> Self {
        let mut title = error.code().replace('-', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let applied = match error.applied() {
            Applied::No => "no",
            Applied::Unknown => "unknown",
        };
        Self {
            type_uri: format!("/errors/{}", error.code()),
            title,
            status: status_of(error),
            detail: error.detail().to_owned(),
            instance: format!("/requests/{request_id}"),
            kind: error.kind().name().to_owned(),
            retryable: error.kind().is_retryable(),
            applied: write.then(|| applied.to_owned()),
        }
    }

    /// The stable code within `type`.
    pub fn code(&self) -> &str {
        self.type_uri.strip_prefix("/errors/").unwrap_or(&self.type_uri)
    }
}

/// The HTTP status of an error: a few codes have their own, the kind decides the rest.
pub fn status_of(error: &Error) -> u16 {
    match error.code() {
        "page-token-expired" | "snapshot-expired" | "edition-gone" => return 410,
        "precondition-failed" => return 412,
        "key-too-long" | "value-too-large" | "body-too-large" | "batch-too-large" => return 413,
        "uri-too-long" => return 414,
        "headers-too-large" => return 431,
        "media-type" | "content-encoding" => return 415,
        "not-acceptable" => return 406,
        "method-not-allowed" => return 405,
        "not-implemented" => return 501,
        "body-timeout" => return 408,
        // Of a write too: what it had done by then is not known, but it is a bug, not a slow part.
        "panic" => return 500,
        "deadline" | "deadline-exceeded" => return 504,
        _ => {}
    }
    match error.kind() {
        ErrorKind::Invalid => 422,
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict => 409,
        ErrorKind::Unauthorized => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::Throttled => 429,
        ErrorKind::Overloaded | ErrorKind::Unavailable => 503,
        ErrorKind::Unknown => 504,
        ErrorKind::Corrupt | ErrorKind::Internal => 500,
    }
}

/// The kind that [`ErrorKind::name`] calls so: what a client makes of a problem.
pub fn kind_from_name(name: &str) -> Option<ErrorKind> {
    use ErrorKind::*;
    [
        Invalid,
        NotFound,
        Conflict,
        Unauthorized,
        Forbidden,
        Throttled,
        Overloaded,
        Unavailable,
        Unknown,
        Corrupt,
        Internal,
    ]
    .into_iter()
    .find(|kind| kind.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_codes_have_their_status() {
        for (error, status) in [
            (Error::invalid(""), 422),
            (Error::not_found("").with_code("row-absent"), 404),
            (Error::not_found("").with_code("page-token-expired"), 410),
            (Error::conflict(""), 409),
            (Error::invalid("").with_code("value-too-large"), 413),
            (Error::throttled(""), 429),
            (Error::overloaded(""), 503),
            (Error::unavailable(""), 503),
            (Error::unavailable("").with_code("deadline-exceeded"), 504),
            (Error::unknown(""), 504),
            (Error::corrupt(""), 500),
            (Error::new(ErrorKind::Unauthorized, ""), 401),
        ] {
            assert_eq!(status_of(&error), status, "{error:?}");
            assert_eq!(kind_from_name(error.kind().name()), Some(error.kind()));
        }
        assert_eq!(kind_from_name("x"), None);
    }

    #[test]
    fn only_problems_of_writes_say_whether_they_were_applied() {
        let error = Error::unknown("the log did not answer");
        let problem = Problem::new(&error, "7", true);
        assert_eq!((problem.applied.as_deref(), problem.retryable), (Some("unknown"), true));
        assert_eq!(problem.title, "Unknown");
        assert_eq!(Problem::new(&error, "7", false).applied, None);
        let no = Problem::new(&Error::invalid("x").with_code("key-empty"), "7", true);
        assert_eq!(
            (no.applied.as_deref(), no.title.as_str(), no.code()),
            (Some("no"), "Key empty", "key-empty")
        );
        assert_eq!(no.instance, "/requests/7");
    }
}
