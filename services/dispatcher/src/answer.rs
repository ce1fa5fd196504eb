//! Answers: status, headers, body. All header values of an answer that are not constant are slices of one buffer: one
//! allocation for all of them, numbers written by itoa.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use nacre_api::headers;
use nacre_engine::{Receipt, SessionToken, Table};
use nacre_types::Result;
use serde::Serialize;
use smallvec::SmallVec;

use crate::config::Prices;
use crate::reads::By;

/// Headers that hyper adds: date and length.
const HYPERS_OWN: usize = 2;

/// What a handler answers.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    constant: SmallVec<[(HeaderName, HeaderValue); 4]>,
    text: BytesMut,
    /// Where each value ends in `text`; it begins where the one before ends.
    written: SmallVec<[(HeaderName, usize); 10]>,
    body: Bytes,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            constant: SmallVec::new(),
            text: BytesMut::with_capacity(256),
            written: SmallVec::new(),
            body: Bytes::new(),
        }
    }

    /// 200 with a body.
    pub(crate) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut answer = Self::empty(StatusCode::OK);
        answer.constant(CONTENT_TYPE, content_type);
        answer.body = body.into();
        answer
    }

    /// A JSON body.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // The types of the API are maps with text keys and numbers: they serialise.
        let mut answer = Self::bytes(nacre_api::JSON, serde_json::to_vec(body).unwrap_or_default());
        answer.status = status;
        answer
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// Whether it says that a row is not there: a success, as far as the server is concerned.
    pub(crate) fn is_absent(&self) -> bool {
        self.constant.iter().any(|(name, _)| *name == headers::ABSENT)
    }

    pub(crate) fn body_len(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn set_body(&mut self, body: Bytes) {
        self.body = body;
    }

    /// A header whose value never changes.
    pub(crate) fn constant(&mut self, name: HeaderName, value: &'static str) {
        self.constant.push((name, HeaderValue::from_static(value)));
    }

    /// A header that is text; what no header may hold is left out.
    pub(crate) fn text(&mut self, name: HeaderName, value: &[u8]) {
        self.text.extend_from_slice(value);
        self.written.push((name, self.text.len()));
    }

    /// A header that is a number.
    pub(crate) fn number(&mut self, name: HeaderName, value: impl itoa::Integer) {
        self.text(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// Version, expiry and tag of a row.
    pub(crate) fn row(&mut self, tag: &[u8], version: i64, expires_at: Option<i64>) {
        self.text(ETAG, tag);
        self.number(headers::VERSION, version);
        if let Some(expires_at) = expires_at {
            self.number(headers::EXPIRES_AT, expires_at);
        }
    }

    /// What the client has seen.
    pub(crate) fn token(&mut self, token: &SessionToken) {
        self.text(headers::TOKEN, token.to_text().as_bytes());
    }

    /// Who answered, and what a session that got it has seen; `session` is what it had seen before.
    ///
    /// # Errors
    /// `Invalid` where the session's token belongs to another table.
    pub(crate) fn seen(&mut self, by: &By, table: &Table, session: Option<&SessionToken>) -> Result<()> {
        self.token(&by.token(table, session)?);
        if let By::Nodes { nodes, .. } = by {
            let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            self.text(headers::NODES, names.join(",").as_bytes());
        }
        Ok(())
    }

    /// Where it came from and what it cost.
    pub(crate) fn receipt(&mut self, receipt: &Receipt, prices: Prices) {
        self.number(headers::EDITION, receipt.edition.0);
        self.constant(headers::SOURCE, receipt.source.name());
        let micros = receipt.node_nanos / 1_000;
        let nano_usd = u64::from(receipt.store_gets).saturating_mul(prices.store_get_nano_usd)
            + micros.saturating_mul(prices.node_second_nano_usd) / 1_000_000;
        let mut number = itoa::Buffer::new();
        self.text.extend_from_slice(b"gets=");
        self.text.extend_from_slice(number.format(receipt.store_gets).as_bytes());
        self.text.extend_from_slice(b", bytes=");
        self.text.extend_from_slice(number.format(receipt.store_bytes).as_bytes());
        self.text.extend_from_slice(b", node_us=");
        self.text.extend_from_slice(number.format(micros).as_bytes());
        self.text.extend_from_slice(b", usd=");
        push_fraction(&mut self.text, nano_usd, 9);
        self.written.push((headers::COST, self.text.len()));
        self.node_time(receipt.node_nanos);
    }

    fn node_time(&mut self, nanos: u64) {
        self.text.extend_from_slice(b"node;dur=");
        push_fraction(&mut self.text, nanos / 1_000, 3);
        self.written.push((headers::SERVER_TIMING, self.text.len()));
    }

    /// The time all told; appended last, beside the node's.
    pub(crate) fn total_time(&mut self, micros: u64) {
        self.text.extend_from_slice(b"total;dur=");
        push_fraction(&mut self.text, micros, 3);
        self.written.push((headers::SERVER_TIMING, self.text.len()));
    }

    /// As hyper takes it.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut map = HeaderMap::with_capacity(self.constant.len() + self.written.len() + HYPERS_OWN);
        for (name, value) in self.constant {
            map.append(name, value);
        }
        let text = self.text.freeze();
        let mut start = 0;
        for (name, end) in self.written {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
                map.append(name, value);
            }
            start = end;
        }
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = map;
        response
    }
}

/// Writes `number / 10^digits` with all its digits.
fn push_fraction(out: &mut BytesMut, number: u64, digits: usize) {
    let unit = 10u64.pow(digits as u32);
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(number / unit).as_bytes());
    out.extend_from_slice(b".");
    let fraction = buffer.format(number % unit);
    out.extend_from_slice(b"000000000".get(..digits.saturating_sub(fraction.len())).unwrap_or_default());
    out.extend_from_slice(fraction.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_engine::Source;
    use nacre_types::Seq;

    #[test]
    fn a_receipt_becomes_headers() {
        let mut answer = Answer::bytes(nacre_api::OCTET_STREAM, &b"value"[..]);
        answer.row(b"\"tag\"", i64::MIN, Some(5));
        let receipt = Receipt {
            source: Source::Store,
            store_gets: 2,
            store_bytes: 90_112,
            segments: 1,
            edition: Seq(7),
            node_nanos: 1_234_567,
        };
        answer.receipt(&receipt, Prices { store_get_nano_usd: 400, node_second_nano_usd: 11_000 });
        answer.text(headers::ABSENT, b"not\na header");
        answer.total_time(2_001);
        let response = answer.into_response();
        let header = |name: HeaderName| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header(headers::COST), "gets=2, bytes=90112, node_us=1234, usd=0.000000813");
        assert_eq!(header(headers::VERSION), "-9223372036854775808");
        assert_eq!(header(headers::SOURCE), "store");
        let times: Vec<_> = response.headers().get_all(headers::SERVER_TIMING).iter().collect();
        assert_eq!(times, ["node;dur=1.234", "total;dur=2.001"]);
        assert!(!response.headers().contains_key(headers::ABSENT));
    }
}
