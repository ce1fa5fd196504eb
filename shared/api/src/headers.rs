//! Names of the headers that requests and answers carry, lower case as HTTP/2 wants them.

use http::HeaderName;

macro_rules! headers {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: HeaderName = HeaderName::from_static($text);)*
    };
}

headers! {
    /// What the client has seen (request), or has now (answer); several joined by commas.
    TOKEN = "nacre-token";
    /// How long the answer may take, in milliseconds.
    DEADLINE_MS = "nacre-deadline-ms";
    /// `high`, `normal` or `low`: who is refused first under load.
    PRIORITY = "nacre-priority";
    /// When a repeated write was first attempted, in microseconds since the epoch.
    FIRST_ATTEMPT = "nacre-first-attempt";
    /// Makes a repeat of the same request the same request.
    IDEMPOTENCY_KEY = "idempotency-key";
    /// The row's version.
    VERSION = "nacre-version";
    /// When the row expires, in microseconds since the epoch.
    EXPIRES_AT = "nacre-expires-at";
    /// The edition that was answered from.
    EDITION = "nacre-edition";
    /// `tail`, `memory`, `disk`, `store` or `none`.
    SOURCE = "nacre-source";
    /// Store GETs, their bytes, node microseconds, and the price of it.
    COST = "nacre-cost";
    /// In a fleet, the processes that answered.
    NODES = "nacre-nodes";
    /// Names the request in logs.
    REQUEST_ID = "nacre-request-id";
    /// Why there is no row: `row`, `tombstone` or `expired`.
    ABSENT = "nacre-absent";
    /// Where the time went.
    SERVER_TIMING = "server-timing";
}
