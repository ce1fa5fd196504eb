//! Reading and writing rows.

use crate::query::Target;
use crate::transport::{integer, text};
use crate::{Client, TableRef};
use bytes::Bytes;
use nacre_api::{
    BatchGetAnswer, BatchGetBody, BatchWriteAnswer, BatchWriteBody, ExplainBody, JsonKey, RowsPage, headers,
    row_path,
};
use nacre_types::{Consistency, Error, ErrorKind, Result};
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap};
use reqwest::{Method, RequestBuilder};

/// A key as people write it.
#[derive(Debug, Clone, Copy)]
pub enum KeyText<'a> {
    /// Its bytes; of a typed key the JSON array of its parts, or the text of its only part.
    Text(&'a [u8]),
    /// The key's own bytes in base64url.
    Base64Url(&'a str),
}

impl KeyText<'_> {
    fn target(self, table: &TableRef, suffix: &str) -> Target {
        match self {
            Self::Text(bytes) => Target::new(row_path(&table.path(), bytes, suffix)),
            Self::Base64Url(text) => {
                let mut path = format!("{}/rows/", table.path());
                nacre_api::encode_segment(&mut path, text.as_bytes());
                path.push_str(suffix);
                path.push_str("?key_encoding=base64url");
                Target::new(path)
            }
        }
    }
}

/// What a read may ask for.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How fresh the answer must be; `None` = this client's own writes are seen.
    pub consistency: Option<Consistency>,
    /// The newest version that may be answered.
    pub as_of: Option<i64>,
    /// A prepared load that is read as if it were committed.
    pub load: Option<String>,
    /// How old the node's knowledge may be, in milliseconds.
    pub max_staleness_ms: Option<u64>,
}

/// What an answer says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The edition that was answered from.
    pub edition: Option<i64>,
    /// `tail`, `memory`, `disk`, `store` or `none`.
    pub source: Option<String>,
    /// Store GETs, bytes, node microseconds, price.
    pub cost: Option<String>,
    /// Names the request in the server's logs.
    pub request_id: Option<String>,
}

impl Receipt {
    fn of(answer: &HeaderMap) -> Self {
        Self {
            edition: integer(answer, &headers::EDITION),
            source: text(answer, &headers::SOURCE),
            cost: text(answer, &headers::COST),
            request_id: text(answer, &headers::REQUEST_ID),
        }
    }
}

/// A row that was found.
#[derive(Debug, Clone)]
pub struct Value {
    /// Its value.
    pub value: Bytes,
    /// Its version.
    pub version: i64,
    /// When it expires, in microseconds since the epoch.
    pub expires_at: Option<i64>,
    /// Its opaque tag.
    pub etag: Option<String>,
    /// The value's media type.
    pub content_type: Option<String>,
    /// What the answer says of itself.
    pub receipt: Receipt,
}

/// The answer to a get.
#[derive(Debug, Clone)]
pub enum GetAnswer {
    /// A row.
    Found(Value),
    /// No row, and why: `row`, `tombstone` or `expired`.
    Absent(String),
}

/// What a write may carry.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// The row's version; without one the log gives it.
    pub version: Option<i64>,
    /// When the row expires, in microseconds since the epoch.
    pub expires_at: Option<i64>,
    /// Makes a repeat of an unversioned write the same write.
    pub idempotency_key: Option<String>,
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteAnswer {
    /// The version that the row has, where the server said so.
    pub version: Option<i64>,
    /// A read that carries it sees the write.
    pub token: Option<String>,
}

/// Which versions of a key are wanted.
#[derive(Debug, Clone, Default)]
pub struct VersionsOptions {
    /// The smallest, inclusive.
    pub since: Option<i64>,
    /// The largest, inclusive.
    pub until: Option<i64>,
    /// At most so many in one answer.
    pub limit: Option<u64>,
    /// The page that follows one; the other options must be the same.
    pub page_token: Option<String>,
}

/// Which rows a scan gives.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Keys that begin so; of a typed key its leading parts.
    pub prefix: Option<Vec<u8>>,
    /// The first key, inclusive.
    pub start: Option<Vec<u8>>,
    /// The key after the last, exclusive.
    pub end: Option<Vec<u8>>,
    /// The three above are base64url.
    pub base64url: bool,
    /// From the last key to the first.
    pub reverse: bool,
    /// Keys without values.
    pub keys_only: bool,
    /// The smallest version, inclusive.
    pub since: Option<i64>,
    /// The largest version, inclusive.
    pub until: Option<i64>,
    /// Rows per page.
    pub page_size: Option<u64>,
    /// The page that follows one; the scan's other options must be the same.
    pub page_token: Option<String>,
}

impl Client {
    /// The visible row of a key.
    ///
    /// # Errors
    /// What the server says; an absent row is an answer.
    pub async fn get(&self, table: &TableRef, key: KeyText<'_>, options: &ReadOptions) -> Result<GetAnswer> {
        match self.get_response(table, key, options).await {
            Ok(response) => {
                let answer = response.headers().clone();
                let version = integer(&answer, &headers::VERSION).ok_or_else(|| {
                    Error::internal("the answer to a get has no nacre-version").with_code("answer-invalid")
                })?;
                let value = self.body(response, ErrorKind::Unavailable).await?;
                Ok(GetAnswer::Found(Value {
                    value,
                    version,
                    expires_at: integer(&answer, &headers::EXPIRES_AT),
                    etag: text(&answer, &ETAG),
                    content_type: text(&answer, &CONTENT_TYPE),
                    receipt: Receipt::of(&answer),
                }))
            }
            Err(error) if error.code() == "row-absent" => Ok(GetAnswer::Absent(error.detail().to_owned())),
            Err(error) => Err(error),
        }
    }

    async fn get_response(
        &self,
        table: &TableRef,
        key: KeyText<'_>,
        options: &ReadOptions,
    ) -> Result<reqwest::Response> {
        self.table_read(table, key.target(table, ""), options, |path| self.request(Method::GET, path)).await
    }

    /// The rows of up to 1,000 keys, in the order asked for.
    ///
    /// # Errors
    /// What the server says.
    pub async fn batch_get(
        &self,
        table: &TableRef,
        keys: Vec<JsonKey>,
        options: &ReadOptions,
    ) -> Result<BatchGetAnswer> {
        let body = BatchGetBody { keys, partial: false };
        let target = Target::new(format!("{}/rows:batchGet", table.path()));
        let response = self
            .table_read(table, target, options, |path| self.request(Method::POST, path).json(&body))
            .await?;
        self.json(response, ErrorKind::Unavailable).await
    }

    /// One page of the visible versions of a key, newest first.
    ///
    /// # Errors
    /// What the server says.
    pub async fn versions(
        &self,
        table: &TableRef,
        key: KeyText<'_>,
        which: &VersionsOptions,
        options: &ReadOptions,
    ) -> Result<RowsPage> {
        let mut target = key.target(table, "/versions");
        target.add_some("since", which.since);
        target.add_some("until", which.until);
        target.add_some("limit", which.limit);
        target.add_some("page_token", which.page_token.as_deref());
        let response =
            self.table_read(table, target, options, |path| self.request(Method::GET, path)).await?;
        self.json(response, ErrorKind::Unavailable).await
    }

    /// Every row of a key, and why it is or is not the answer.
    ///
    /// # Errors
    /// What the server says.
    pub async fn explain(
        &self,
        table: &TableRef,
        key: KeyText<'_>,
        options: &ReadOptions,
    ) -> Result<ExplainBody> {
        let target = key.target(table, ":explain");
        let response =
            self.table_read(table, target, options, |path| self.request(Method::GET, path)).await?;
        self.json(response, ErrorKind::Unavailable).await
    }

    /// One page of a scan.
    ///
    /// # Errors
    /// What the server says.
    pub async fn scan(
        &self,
        table: &TableRef,
        which: &ScanOptions,
        options: &ReadOptions,
    ) -> Result<RowsPage> {
        let mut target = Target::new(format!("{}/rows", table.path()));
        for (name, bound) in [("prefix", &which.prefix), ("start", &which.start), ("end", &which.end)] {
            if let Some(bound) = bound {
                target.add(name, bound);
            }
        }
        if which.base64url {
            target.add("key_encoding", "base64url");
        }
        target.add_some("reverse", which.reverse.then_some(true));
        target.add_some("fields", which.keys_only.then_some("key"));
        target.add_some("since", which.since);
        target.add_some("until", which.until);
        target.add_some("page_size", which.page_size);
        target.add_some("page_token", which.page_token.as_deref());
        let response =
            self.table_read(table, target, options, |path| self.request(Method::GET, path)).await?;
        self.json(response, ErrorKind::Unavailable).await
    }

    /// Writes the value of a key.
    ///
    /// # Errors
    /// What the server says; `Unknown` where the answer was lost.
    pub async fn put(
        &self,
        table: &TableRef,
        key: KeyText<'_>,
        value: Bytes,
        options: &WriteOptions,
    ) -> Result<WriteAnswer> {
        self.write_row(table, key, options, |path| self.request(Method::PUT, path).body(value)).await
    }

    /// Deletes a key: writes a tombstone.
    ///
    /// # Errors
    /// What the server says; `Unknown` where the answer was lost.
    pub async fn delete(
        &self,
        table: &TableRef,
        key: KeyText<'_>,
        options: &WriteOptions,
    ) -> Result<WriteAnswer> {
        self.write_row(table, key, options, |path| self.request(Method::DELETE, path)).await
    }

    /// Writes up to 10,000 rows; each has its own outcome.
    ///
    /// # Errors
    /// What the server says of the whole; `Unknown` where the answer was lost.
    pub async fn batch_write(&self, table: &TableRef, body: &BatchWriteBody) -> Result<BatchWriteAnswer> {
        let path = format!("{}/rows:batchWrite", table.path());
        let (_, answer): (_, BatchWriteAnswer) = self.change(Method::POST, &path, body).await?;
        self.sessions.wrote(table, Some(answer.token.clone()).filter(|token| !token.is_empty()));
        Ok(answer)
    }

    async fn write_row(
        &self,
        table: &TableRef,
        key: KeyText<'_>,
        options: &WriteOptions,
        request: impl FnOnce(&str) -> RequestBuilder,
    ) -> Result<WriteAnswer> {
        let mut target = key.target(table, "");
        target.add_some("version", options.version);
        target.add_some("expires_at", options.expires_at);
        let mut request = request(&target.into_text());
        if let Some(key) = &options.idempotency_key {
            request = request.header(headers::IDEMPOTENCY_KEY, key);
        }
        let response = self.write(request).await?;
        let token = text(response.headers(), &headers::TOKEN);
        self.sessions.wrote(table, token.clone());
        Ok(WriteAnswer { version: integer(response.headers(), &headers::VERSION), token })
    }

    /// Sends a read of a table with the session's tokens, and remembers the answer's.
    async fn table_read(
        &self,
        table: &TableRef,
        mut target: Target,
        options: &ReadOptions,
        request: impl FnOnce(&str) -> RequestBuilder,
    ) -> Result<reqwest::Response> {
        let asked = self.sessions.ask(table, options.consistency);
        target.add_some("consistency", asked.consistency.map(consistency_name));
        target.add_some("as_of", options.as_of);
        target.add_some("load", options.load.as_deref());
        target.add_some("max_staleness_ms", options.max_staleness_ms);
        let mut request = request(&target.into_text());
        if !asked.tokens.is_empty() {
            request = request.header(headers::TOKEN, asked.tokens.join(","));
        }
        let response = self.read(request).await?;
        self.sessions.read(table, &asked, text(response.headers(), &headers::TOKEN));
        Ok(response)
    }
}

/// The word of a consistency.
fn consistency_name(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Eventual => "eventual",
        Consistency::Session => "session",
        Consistency::Strong => "strong",
    }
}
