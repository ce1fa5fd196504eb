//! HTTP/1.1 for clients that must know what became of a request: whether it was sent at all, and whether it was answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Most bytes of an answer.
const MOST: usize = 64 << 20;

/// One connection that is opened when it is wanted.
pub(super) struct Http {
    address: SocketAddr,
    stream: Option<TcpStream>,
    timeout: Duration,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// No answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// Nobody was reached: it was not sent.
    NotSent(String),
    /// It may have been taken.
    Unknown(String),
}

impl Lost {
    pub(super) fn why(self) -> String {
        match self {
            Self::NotSent(why) | Self::Unknown(why) => why,
        }
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of a problem: what its type ends with.
    pub(super) fn code(&self) -> String {
        let told = self.json();
        let kind = told.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
        kind.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Whether a write was certainly not applied, by the problem's own words. What the balancer says is no such word.
    pub(super) fn is_refusal(&self) -> bool {
        self.json().get("applied").and_then(|applied| applied.as_str()) == Some("no")
    }
}

impl Http {
    pub(super) fn new(port: u16, timeout: Duration) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), stream: None, timeout }
    }

    /// Sends a request once.
    pub(super) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Lost> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: nacre\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let connected = TcpStream::connect_timeout(&self.address, Duration::from_secs(3));
                let stream = connected.map_err(|error| Lost::NotSent(error.to_string()))?;
                let _ = stream.set_nodelay(true);
                stream
            }
        };
        let unknown = |error: std::io::Error| Lost::Unknown(error.to_string());
        stream.write_all(&bytes).map_err(unknown)?;
        let until = Instant::now() + self.timeout;
        let (answer, closes) = read_answer(&mut stream, method == "HEAD", until).map_err(unknown)?;
        if !closes {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Answer, Lost> {
        self.call("GET", path, &[], &[])
    }

    pub(super) fn json(
        &mut self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Answer, Lost> {
        self.call(method, path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }
}

fn read_answer(stream: &mut TcpStream, no_body: bool, until: Instant) -> std::io::Result<(Answer, bool)> {
    let mut more = |bytes: &mut Vec<u8>| -> std::io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || bytes.len() > MOST {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 16 << 10];
        let read = stream.read(&mut chunk)?;
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Ok(read > 0)
    };
    let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut bytes = Vec::new();
    let body_at = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !more(&mut bytes)? {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..body_at).unwrap_or_default()).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|text| text.parse().ok());
    let status: u16 = status.ok_or_else(bad)?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let find = |name: &str| headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.clone());
    let length: Option<usize> = find("content-length").and_then(|text| text.parse().ok());
    let closes = find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let mut body = bytes.split_off(body_at);
    if no_body || matches!(status, 204 | 304) {
        body.clear();
    } else if find("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        body = loop {
            if let Some(whole) = unchunk(&body).ok_or_else(bad)? {
                break whole;
            }
            if !more(&mut body)? {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
    } else {
        while length.is_none_or(|length| body.len() < length) {
            if !more(&mut body)? {
                match length {
                    None => break,
                    Some(_) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
            }
        }
    }
    let closes = closes || (length.is_none() && !matches!(status, 204 | 304) && !no_body);
    Ok((Answer { status, headers, body }, closes))
}

/// The body of chunks, `Some(None)` where it has not all come, `None` where it is damaged.
pub(super) fn unchunk(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    let (mut rest, mut whole) = (bytes, Vec::new());
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return Some(None) };
        let text = std::str::from_utf8(rest.get(..line)?).ok()?;
        let size = usize::from_str_radix(text.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if rest.len() < size + 2 {
            return Some(None);
        }
        if size == 0 {
            return Some(Some(whole));
        }
        whole.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_when_all_have_come() {
        let bytes = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(unchunk(bytes), Some(Some(b"abcde".to_vec())));
        for cut in 0..bytes.len() {
            assert_eq!(unchunk(&bytes[..cut]), Some(None), "{cut}");
        }
        assert_eq!(unchunk(b"zz\r\nabc"), None);
    }
}
