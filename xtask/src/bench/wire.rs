//! HTTP/1.1 over a plain socket: what a load generator needs and nothing that costs it time. Client and server share
//! the machine, so every instruction here is one that the server does not get.

use crate::Outcome;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection that is kept alive.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// Where an answer's body lies in the connection's buffer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a str,
    pub(crate) body: &'a [u8],
}

/// A request that is ready to be sent; `body_at` is where its body begins.
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) body_at: usize,
}

impl Request {
    /// A request with a body.
    pub(crate) fn new(method: &str, path: &str, content_type: &str, body: &[u8]) -> Self {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: nacre\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let body_at = head.len();
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, body_at }
    }

    /// A request without one.
    pub(crate) fn get(path: &str) -> Self {
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: nacre\r\n\r\n").into_bytes();
        Self { body_at: bytes.len(), bytes }
    }

    /// The body, to be changed in place: its length stays.
    pub(crate) fn body_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.body_at..).unwrap_or_default()
    }
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        let set =
            stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(60))));
        set.map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { stream, buffer: vec![0; 64 << 10], filled: 0 })
    }

    /// Sends a request and waits for its whole answer.
    pub(crate) fn call(&mut self, request: &Request) -> Outcome<Answer<'_>> {
        self.stream.write_all(&request.bytes).map_err(|error| format!("sending: {error}"))?;
        self.filled = 0;
        let body_at = loop {
            self.fill()?;
            let seen = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = self.buffer.get(..body_at).unwrap_or_default().to_ascii_lowercase();
        let head = String::from_utf8(head).map_err(|_| "an answer's head is not text".to_owned())?;
        let length = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(Some(0), |text| text.parse::<usize>().ok())
            .ok_or("an answer without a length")?;
        while self.filled < body_at + length {
            self.fill()?;
        }
        let status =
            head.get(9..12).and_then(|text| text.parse().ok()).ok_or("an answer without a status")?;
        // The head was copied for its text; it is put back where the caller can borrow it with the body.
        if let Some(place) = self.buffer.get_mut(..body_at) {
            place.copy_from_slice(head.as_bytes());
        }
        let (head, rest) = self.buffer.split_at(body_at);
        Ok(Answer {
            status,
            head: std::str::from_utf8(head).unwrap_or_default(),
            body: rest.get(..length).unwrap_or_default(),
        })
    }

    /// As [`Self::call`], for answers that must be a success.
    pub(crate) fn ok(&mut self, request: &Request) -> Outcome<Answer<'_>> {
        let answer = self.call(request)?;
        if !(200..300).contains(&answer.status) {
            let text = String::from_utf8_lossy(answer.body).into_owned();
            return Err(format!("status {}: {text}", answer.status));
        }
        Ok(answer)
    }

    fn fill(&mut self) -> Outcome {
        if self.filled == self.buffer.len() {
            let length = self.buffer.len() * 2;
            self.buffer.resize(length, 0);
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => Err("the server closed the connection".into()),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(error) => Err(format!("receiving: {error}")),
        }
    }
}
