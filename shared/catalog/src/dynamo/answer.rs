//! What DynamoDB's answers mean.
//!
//! | answer | to a write | to a read |
//! |---|---|---|
//! | 200, whole | done | |
//! | 200 that is no JSON; any that is cut short or garbled (its CRC-32 is told in a header) | unknown | repeated |
//! | a condition did not hold (of any item of a transaction) | the condition: read what is there | |
//! | transaction cancelled, or write refused, for one in conflict with it | unknown | repeated |
//! | `TransactionInProgress`, `IdempotentParameterMismatch` | unknown | repeated |
//! | throttled, as a whole or for an item of a transaction | certainly not, with a time to wait | repeated |
//! | 5xx, 408, 409 | unknown | repeated |
//! | other refusals: keys, rights, no such table, no such request | certainly not, with what to do | `Unavailable` |
//! | 3xx or 4xx that are not DynamoDB's | certainly not: another server stands there | `Unavailable` |
//! | none, and nothing was sent | certainly not | repeated |
//! | none | unknown | repeated |
//!
//! **Conflicts are unknown.** DynamoDB says that a cancelled transaction was not applied, and we could take it for that.
//! But what was cancelled is one arrival of the request. Between this process and the table stand machines that may
//! have delivered it twice, and its twin, under way at that moment, would be exactly the transaction that it is in conflict
//! with. To believe a rejection that is none loses data; to doubt one that is costs a read and a repeat. Throttling is
//! told before anything is begun, and is believed, as S3's is.
//!
//! **Refusals that an operator must mend** are `Unavailable` under a code of their own and not `Forbidden`, which would
//! tell nacre's client that *its* token is at fault.

use super::address::Address;
use bytes::Bytes;
use nacre_store::{AwsAnswer, AwsLost};
use nacre_types::{Error, ErrorKind};
use serde_json::Value;

/// Codes of refusals that no repeat will change.
pub(super) const HOPELESS: &[&str] = &[
    "catalog-clock",
    "catalog-credentials",
    "catalog-endpoint",
    "catalog-forbidden",
    "catalog-refused",
    "catalog-table-missing",
];

/// How long to wait after being throttled.
const THROTTLED_MS: u64 = 500;
/// How much of the service's own words is told.
const MESSAGE_CHARS: usize = 240;

/// Why a request did not do what it asked.
#[derive(Debug, Clone)]
pub(super) enum Failed {
    /// It certainly had no effect.
    No(Error),
    /// It had none, because a condition did not hold when it was judged. An earlier attempt may have had one.
    Condition,
    /// Nobody knows. The error's kind is `Unknown`.
    Unknown(Error),
}

impl Failed {
    /// As the error of a caller that has no better use for a condition.
    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::No(error) | Self::Unknown(error) => error,
            Self::Condition => Error::conflict(format!("{what}: another was first")),
        }
    }
}

/// What an answer means. `what` names the request in errors.
pub(super) fn judge(
    address: &Address,
    what: &str,
    answer: Result<AwsAnswer, AwsLost>,
) -> Result<Value, Failed> {
    let origin = &address.origin;
    let answer = match answer {
        Ok(answer) => answer,
        Err(AwsLost::NoKeys(why)) => {
            return Err(Failed::No(
                Error::unavailable(format!(
                    "{what}: no keys for DynamoDB ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                     AWS_PROFILE, or give this machine a role"
                ))
                .with_code("catalog-credentials"),
            ));
        }
        Err(AwsLost::NoConnection(why)) => {
            return Err(Failed::No(
                Error::unavailable(format!(
                    "{what}: no connection to {origin} ({why}); is DynamoDB there, and do AWS_REGION and \
                     AWS_ENDPOINT_URL_DYNAMODB name it?"
                ))
                .with_code("catalog-unreachable"),
            ));
        }
        Err(AwsLost::Unanswered(why)) => {
            let why = format!(
                "sent to {origin} and not answered ({why}); if that lasts, do AWS_REGION and AWS_ENDPOINT_URL_DYNAMODB name \
                 DynamoDB, and http or https as it wants it?"
            );
            return Err(silent(what, &why));
        }
    };
    let body = answer.body.as_ref().filter(|body| is_whole(&answer, body));
    // A refusal whose words are lost may have been any: a conflict, a condition.
    let Some(body) = body else {
        return Err(silent(what, &format!("the answer of {origin} was cut short or garbled")));
    };
    if (200..300).contains(&answer.status) {
        return match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.is_object() => Ok(value),
            _ => Err(silent(what, &format!("the answer of {origin} is no JSON object; is it DynamoDB?"))),
        };
    }
    Err(Refusal::of(&answer, body).failed(address, what))
}

fn silent(what: &str, why: &str) -> Failed {
    Failed::Unknown(Error::unknown(format!("{what}: {why}")).with_code("catalog-silent"))
}

/// Whether the body has the checksum that was told.
fn is_whole(answer: &AwsAnswer, body: &Bytes) -> bool {
    match answer.header("x-amz-crc32").map(str::parse::<u32>) {
        Some(Ok(crc)) => crc == crc32fast::hash(body),
        Some(Err(_)) => false,
        None => true,
    }
}

/// An answer that says no.
struct Refusal {
    status: u16,
    /// The exception, without what stands before its name; empty where DynamoDB named none.
    name: String,
    message: String,
    /// Of a cancelled transaction: why, item by item.
    reasons: Vec<String>,
    request_id: Option<String>,
}

impl Refusal {
    fn of(answer: &AwsAnswer, body: &Bytes) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text("__type");
        let message = [text("message"), text("Message")].into_iter().find(|text| !text.is_empty());
        let reasons = body.get("CancellationReasons").and_then(Value::as_array);
        let code = |reason: &Value| reason.get("Code").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            status: answer.status,
            name: name.rsplit('#').next().unwrap_or_default().to_owned(),
            message: message.unwrap_or_default(),
            reasons: reasons.map(|reasons| reasons.iter().map(code).collect()).unwrap_or_default(),
            request_id: answer.header("x-amzn-requestid").map(str::to_owned),
        }
    }

    fn has_reason(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason == code)
    }

    fn failed(&self, address: &Address, what: &str) -> Failed {
        let cancelled = self.name == "TransactionCanceledException";
        let is = |names: &[&str]| names.contains(&self.name.as_str());
        if is(&["ConditionalCheckFailedException"]) || cancelled && self.has_reason("ConditionalCheckFailed")
        {
            return Failed::Condition;
        }
        let (code, advice) = self.advice(address);
        let mut text = format!("{what}: DynamoDB said {}", self.said());
        if !advice.is_empty() {
            text = format!("{text}: {advice}");
        }
        let error = Error::unavailable(text).with_code(code);
        let in_conflict = cancelled && (self.has_reason("TransactionConflict") || self.reasons.is_empty())
            || is(&[
                "TransactionConflictException",
                "TransactionInProgressException",
                "IdempotentParameterMismatchException",
                "ReplicatedWriteConflictException",
            ]);
        if in_conflict || self.status >= 500 || matches!(self.status, 408 | 409) {
            return Failed::Unknown(error.with_kind(ErrorKind::Unknown));
        }
        let throttled = code == "catalog-throttled";
        Failed::No(if throttled { error.with_retry_after_ms(THROTTLED_MS) } else { error })
    }

    /// Whether it asks for fewer requests.
    fn is_throttling(&self) -> bool {
        const NAMES: [&str; 4] = [
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "RequestLimitExceeded",
            "LimitExceededException",
        ];
        const REASONS: [&str; 3] =
            ["ProvisionedThroughputExceeded", "ThrottlingError", "RequestLimitExceeded"];
        NAMES.contains(&self.name.as_str())
            || REASONS.iter().any(|reason| self.has_reason(reason))
            || self.status == 429
    }

    fn said(&self) -> String {
        let mut said = self.status.to_string();
        let reasons = self.reasons.join(", ");
        for part in [&self.name, &reasons, &self.message] {
            if !part.is_empty() {
                said.push(' ');
                said.extend(part.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS));
            }
        }
        if let Some(id) = &self.request_id {
            said = format!("{said} (request {id})");
        }
        said
    }

    fn advice(&self, address: &Address) -> (&'static str, String) {
        let Address { table, region, origin } = address;
        let clock =
            self.message.contains("Signature expired") || self.message.contains("Signature not yet current");
        match (self.name.as_str(), self.status) {
            _ if self.is_throttling() => (
                "catalog-throttled",
                format!(
                    "it asks for fewer requests; if that lasts, give table {table} on-demand capacity or more of it"
                ),
            ),
            ("InvalidSignatureException" | "RequestExpired" | "RequestTimeTooSkewed", _) if clock => {
                ("catalog-clock", "this machine's clock is far from DynamoDB's; set it".to_owned())
            }
            (
                "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "InvalidClientTokenId"
                | "IncompleteSignatureException"
                | "IncompleteSignature"
                | "ExpiredTokenException"
                | "ExpiredToken"
                | "MissingAuthenticationTokenException"
                | "MissingAuthenticationToken",
                _,
            ) => (
                "catalog-credentials",
                format!(
                    "the keys are not good at {origin}; look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                     AWS_SESSION_TOKEN, or at the profile or role that they come from"
                ),
            ),
            ("AccessDeniedException" | "AccessDenied" | "NotAuthorized", _) => (
                "catalog-forbidden",
                format!(
                    "allow dynamodb:GetItem, dynamodb:PutItem, dynamodb:UpdateItem, dynamodb:Query, \
                     dynamodb:DescribeTable and dynamodb:DescribeTimeToLive on table {table}"
                ),
            ),
            ("ResourceNotFoundException", _) => (
                "catalog-table-missing",
                format!(
                    "there is no table {table} in region {region} at {origin}; a start makes it if it may"
                ),
            ),
            (
                "TransactionCanceledException"
                | "TransactionConflictException"
                | "TransactionInProgressException",
                _,
            ) if self
                .reasons
                .iter()
                .all(|reason| matches!(reason.as_str(), "" | "None" | "TransactionConflict")) =>
            {
                ("catalog-conflict", "another write of the same items was under way".to_owned())
            }
            ("", 300..=499) => (
                "catalog-endpoint",
                format!(
                    "that is no answer of DynamoDB; look at AWS_ENDPOINT_URL_DYNAMODB, which leads to {origin}"
                ),
            ),
            (_, 500..) | (_, 408 | 409) => ("catalog-error", String::new()),
            _ => ("catalog-refused", String::new()),
        }
    }
}
