//! One prescriptive set of error kinds: each says what the caller should do.

use std::fmt;

/// Shorthand for a result with nacre's one error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, and so what the caller should do about it.
///
/// HTTP maps these once; no other crate invents kinds of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong. Mend it; a retry does not help.
    Invalid,
    /// The named thing does not exist. A retry does not help.
    NotFound,
    /// The thing exists in another state. Read it again and decide.
    Conflict,
    /// Who are you? Bring a token.
    Unauthorized,
    /// The token does not allow it.
    Forbidden,
    /// A limit or a quota was hit. Retry later.
    Throttled,
    /// The server sheds load. Retry later, with backoff.
    Overloaded,
    /// A part that is needed does not answer. Retry; a write certainly had no effect.
    Unavailable,
    /// The outcome is not known: it may have taken effect, now or later. Never clean up after it.
    Unknown,
    /// Bytes at rest are not what was written. Alarm; a retry does not help.
    Corrupt,
    /// A bug. Report it.
    Internal,
}

impl ErrorKind {
    /// Whether sending the same request again may help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Overloaded | Self::Unavailable | Self::Unknown)
    }

    /// The stable name that stands in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }
}

/// Whether a failed write had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It certainly had none, and will have none.
    No,
    /// It may have had one, or may yet.
    Unknown,
}

/// An error: a kind, a stable code that tells causes of one kind apart, and a sentence that names what is wrong and
/// what would be right.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    detail: String,
    retry_after_ms: Option<u64>,
}

impl Error {
    /// An error of `kind`; its code is the kind's name until [`Error::with_code`] says more.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        let code = match kind {
            ErrorKind::NotFound => "not-found",
            other => other.name(),
        };
        Self(Box::new(Inner { kind, code, detail: detail.into(), retry_after_ms: None }))
    }

    /// Sets the stable code, for example `table-not-found`; it becomes the problem's `type`.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = code;
        self
    }

    /// Says when a retry may help, in milliseconds.
    #[must_use]
    pub fn with_retry_after_ms(mut self, milliseconds: u64) -> Self {
        self.0.retry_after_ms = Some(milliseconds);
        self
    }

    /// Puts what was being done before the detail: `context: detail`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.detail = format!("{context}: {}", self.0.detail);
        self
    }

    /// The same error under another kind, for example a lost answer that makes an outcome unknown.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code of the cause.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What is wrong and what would be right.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// When a retry may help, in milliseconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.0.retry_after_ms
    }

    /// Whether a write that failed so had an effect.
    pub fn applied(&self) -> Applied {
        if self.0.kind == ErrorKind::Unknown { Applied::Unknown } else { Applied::No }
    }

    /// [`ErrorKind::Invalid`].
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }
    /// [`ErrorKind::NotFound`].
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, detail)
    }
    /// [`ErrorKind::Conflict`].
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, detail)
    }
    /// [`ErrorKind::Unavailable`].
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, detail)
    }
    /// [`ErrorKind::Unknown`].
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unknown, detail)
    }
    /// [`ErrorKind::Corrupt`].
    pub fn corrupt(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, detail)
    }
    /// [`ErrorKind::Internal`].
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, detail)
    }
    /// [`ErrorKind::Overloaded`].
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Overloaded, detail)
    }
    /// [`ErrorKind::Throttled`].
    pub fn throttled(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Throttled, detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({}): {}", self.0.kind, self.0.code, self.0.detail)
    }
}

impl std::error::Error for Error {}
