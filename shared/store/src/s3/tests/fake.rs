//! A server that answers as it is told, byte for byte: no library would send what some of these answers are.

use nacre_runtime::Tasks;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with a request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Answer it, after a while, with so many bytes of the body, all of which were announced.
    Answer { after: Duration, status: u16, headers: Vec<(String, String)>, body: Vec<u8>, sent: usize },
    /// Read it and close the connection.
    Close,
    /// Read it and keep the connection, without a word.
    Silence,
}

impl Act {
    pub(super) fn answer(status: u16, body: &[u8]) -> Self {
        let sent = body.len();
        Self::Answer { after: Duration::ZERO, status, headers: Vec::new(), body: body.to_vec(), sent }
    }

    pub(super) fn with(mut self, more: &[(&str, &str)]) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        }
        self
    }

    pub(super) fn slow(mut self, time: Duration) -> Self {
        if let Self::Answer { after, .. } = &mut self {
            *after = time;
        }
        self
    }

    pub(super) fn cut(mut self, bytes: usize) -> Self {
        if let Self::Answer { sent, .. } = &mut self {
            *sent = bytes;
        }
        self
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// Empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// A value of the query, as it was encoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }
}

type Rule = dyn Fn(&Seen, usize) -> Act + Send + Sync;

pub(super) struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Answers the request of each number, from 0, as `rule` says.
    pub(super) async fn new(rule: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (rule, all): (Arc<Rule>, _) = (Arc::new(rule), seen.clone());
        let tasks = Tasks::new();
        tasks.clone().spawn("fake", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (rule, all) = (rule.clone(), all.clone());
                tasks.spawn("fake-connection", async move { serve(stream, &*rule, &all).await });
            }
        });
        Self { address, seen }
    }

    pub(super) async fn always(act: Act) -> Self {
        Self::new(move |_, _| act.clone()).await
    }

    /// Nobody listens there any more.
    pub(super) async fn gone() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), seen: Arc::default() }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

async fn serve(mut stream: TcpStream, rule: &Rule, all: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let seen = request(&mut stream, &mut buffer).await?;
        let act = {
            let mut all = all.lock();
            all.push(seen.clone());
            rule(&seen, all.len() - 1)
        };
        match act {
            Act::Close => return None,
            Act::Silence => std::future::pending().await,
            Act::Answer { after, status, headers, body, sent } => {
                tokio::time::sleep(after).await;
                let mut head = format!("HTTP/1.1 {status} Word\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                stream.write_all(head.as_bytes()).await.ok()?;
                if seen.method != "HEAD" {
                    stream.write_all(&body[..sent]).await.ok()?;
                    if sent < body.len() {
                        return None;
                    }
                }
            }
        }
    }
}

async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = buffer.split_off(at + 4);
            break std::mem::replace(buffer, rest);
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut seen = Seen { method, target, headers, body: Vec::new() };
    let length: usize = seen.header("content-length").parse().unwrap_or(0);
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    let rest = buffer.split_off(length);
    seen.body = std::mem::replace(buffer, rest);
    Some(seen)
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 4_096];
    let read = stream.read(&mut part).await.ok()?;
    buffer.extend_from_slice(&part[..read]);
    (read > 0).then_some(())
}
