//! A request before it is signed.

use super::lanes::Way;
use bytes::Bytes;
use http::Method;
use std::time::Duration;

/// Refusals, pages of listings and verdicts are no longer than this: a page has 1,000 names of 1,024 bytes, escaped.
pub(super) const TEXT_AT_MOST: u64 = 8 << 20;

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
    Head,
    List,
    Delete,
    Copy,
    Upload,
}

#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) method: Method,
    /// The key, or `None` for the bucket.
    pub(super) key: Option<String>,
    /// Whose place it takes: the path below the store's prefix.
    pub(super) lane: String,
    pub(super) query: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// How long the answer's first byte may take; that of a write may take no longer in all.
    pub(super) within: Duration,
    /// The longest body that an answer which brings what was asked for may have, in bytes.
    pub(super) at_most: u64,
}

impl Ask {
    /// `key` is `None` for a request about the bucket; `lane` is whose place it takes.
    pub(super) fn new(kind: Kind, method: Method, key: Option<String>, lane: &str, within: Duration) -> Self {
        Self {
            kind,
            method,
            key,
            lane: lane.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            within,
            at_most: TEXT_AT_MOST,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    pub(super) fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    pub(super) fn at_most(mut self, bytes: u64) -> Self {
        self.at_most = bytes;
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(super) fn writes(&self) -> bool {
        !matches!(self.kind, Kind::Get | Kind::Head | Kind::List)
    }

    pub(super) fn way(&self) -> Way {
        match self.kind {
            Kind::Get | Kind::Head | Kind::List => Way::Read,
            Kind::Put | Kind::Delete => Way::Write,
            Kind::Copy | Kind::Upload => Way::Bulk,
        }
    }

    /// For errors: `GET of object a/b`.
    pub(super) fn what(&self) -> String {
        match self.kind {
            Kind::List => format!("listing {:?}", self.lane),
            _ if self.key.is_none() => format!("{} of the bucket", self.method),
            _ => format!("{} of object {}", self.method, self.lane),
        }
    }
}
