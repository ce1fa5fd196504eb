//! Bodies of answers: read whole, within bounds of size and time.

use super::answer::Partial;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::Instant;

/// Room that is made for a body at once, whatever length an answer claims.
const ROOM_AT_ONCE: u64 = 16 << 20;
/// The slowest that a body may come down, beyond the time that any answer has.
const BYTES_PER_SECOND: u64 = 128 << 10;

/// The moment in so long a time.
pub(super) fn after(time: Duration) -> Instant {
    // A timer that nobody starts knows when it would ring.
    tokio::time::sleep(time).deadline()
}

/// How long a body may take.
pub(super) struct Bounds {
    /// Every byte adds to it, where a byte is worth time.
    over: Instant,
    pause: Option<Duration>,
}

impl Bounds {
    /// A write has its time and no more: white space in front of a verdict renews nothing.
    pub(super) fn of_write(over: Instant) -> Self {
        Self { over, pause: None }
    }

    /// A read may take `within`, more where there are many bytes, and never pause for longer than `pause`.
    pub(super) fn of_read(within: Duration, pause: Duration) -> Self {
        Self { over: after(within), pause: Some(pause) }
    }

    fn next(&self, read: u64) -> Instant {
        match self.pause {
            None => self.over,
            Some(pause) => {
                let earned = Duration::from_millis(read.saturating_mul(1_000) / BYTES_PER_SECOND);
                after(pause).min(self.over + earned)
            }
        }
    }
}

/// A body, and how much of it was read.
pub(super) struct Collected {
    pub(super) body: Result<Bytes, Partial>,
    pub(super) read: usize,
}

/// Reads a body to its end.
pub(super) async fn collect(
    mut incoming: Incoming,
    headers: &HeaderMap,
    at_most: u64,
    bounds: &Bounds,
) -> Collected {
    let length: Option<u64> = headers
        .get("content-length")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    if length.is_some_and(|length| length > at_most) {
        return Collected { body: Err(Partial::TooLong), read: 0 };
    }
    // Most bodies come in one piece, which is not copied.
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut read = 0_u64;
    let partial = loop {
        let Ok(frame) = tokio::time::timeout_at(bounds.next(read), incoming.frame()).await else {
            break Some(Partial::Cut);
        };
        let piece = match frame {
            None => break None,
            Some(Err(_)) => break Some(Partial::Cut),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => piece,
                Err(_) => continue,
            },
        };
        read += piece.len() as u64;
        if read > at_most {
            break Some(Partial::TooLong);
        }
        match &first {
            None => first = Some(piece),
            Some(begin) => {
                if rest.is_empty() {
                    let room = length.unwrap_or(0).min(ROOM_AT_ONCE) as usize;
                    rest.reserve(room.max(begin.len() + piece.len()));
                    rest.extend_from_slice(begin);
                }
                rest.extend_from_slice(&piece);
            }
        }
    };
    let body = if rest.is_empty() { first.unwrap_or_default() } else { rest.freeze() };
    let body = match partial {
        Some(partial) => Err(partial),
        None if length.is_some_and(|length| length != read) => Err(Partial::Cut),
        None => Ok(body),
    };
    Collected { body, read: usize::try_from(read).unwrap_or(usize::MAX) }
}
