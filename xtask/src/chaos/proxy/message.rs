//! One message of HTTP/1.1, with its bytes as they came.

use crate::chaos::http::unchunk;
use std::io::{Error, ErrorKind, Read, Result};

const MOST: usize = 256 << 20;

/// A request or an answer.
pub(super) struct Message {
    /// Its first line and headers.
    pub(super) head: String,
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Nothing follows on this connection.
    pub(super) closes: bool,
}

/// Reads the next one; `None` at a clean end. `rest` holds what came behind it.
pub(super) fn read_message(
    stream: &mut impl Read,
    rest: &mut Vec<u8>,
    no_body: bool,
) -> Result<Option<Message>> {
    let mut bytes = std::mem::take(rest);
    let mut chunk = vec![0; 64 << 10];
    let mut more = |bytes: &mut Vec<u8>| -> Result<bool> {
        if bytes.len() > MOST {
            return Err(ErrorKind::InvalidData.into());
        }
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Ok(read > 0)
    };
    let eof = || Error::from(ErrorKind::UnexpectedEof);
    let body_at = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !more(&mut bytes)? {
            return if bytes.is_empty() { Ok(None) } else { Err(eof()) };
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..body_at).unwrap_or_default()).into_owned();
    let header = |name: &str| {
        head.split("\r\n").skip(1).filter_map(|line| line.split_once(':')).find_map(|(held, value)| {
            held.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let status: Option<u16> = head
        .strip_prefix("HTTP/1.")
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|text| text.parse().ok());
    let mut closes = header("connection").is_some_and(|value| value == "close");
    let end = if no_body || status.is_some_and(|status| matches!(status, 204 | 304)) {
        body_at
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| Error::from(ErrorKind::InvalidData))?;
        while bytes.len() < body_at + length {
            if !more(&mut bytes)? {
                return Err(eof());
            }
        }
        body_at + length
    } else if header("transfer-encoding").is_some_and(|value| value == "chunked") {
        // What came behind the last chunk would be lost; nobody here sends a request before the last answer.
        while unchunk(bytes.get(body_at..).unwrap_or_default())
            .ok_or_else(|| Error::from(ErrorKind::InvalidData))?
            .is_none()
        {
            if !more(&mut bytes)? {
                return Err(eof());
            }
        }
        bytes.len()
    } else if status.is_some() {
        while more(&mut bytes)? {}
        closes = true;
        bytes.len()
    } else {
        body_at
    };
    *rest = bytes.split_off(end);
    Ok(Some(Message { head, bytes, closes }))
}
