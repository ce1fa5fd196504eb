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
pub enum Act {
    /// Answer it.
    Answer(Answer),
    /// Read it and close the connection.
    Close,
    /// Read it and keep the connection, without a word.
    Silence,
}

/// How a request is answered; made by [`Act::answer`] and what follows it.
#[derive(Debug, Clone)]
pub struct Answer {
    after: Duration,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How many bytes of the body are sent.
    sent: usize,
    /// Whether the length of the body is told; else its end is the connection's.
    is_measured: bool,
    /// Before how many bytes of the body are sent it pauses, and for how long.
    pauses: Vec<(usize, Duration)>,
}

impl Act {
    /// An answer, at once and whole.
    pub fn answer(status: u16, body: &[u8]) -> Self {
        Self::Answer(Answer {
            after: Duration::ZERO,
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            sent: body.len(),
            is_measured: true,
            pauses: Vec::new(),
        })
    }

    /// With these headers too.
    #[must_use]
    pub fn with(mut self, more: &[(&str, &str)]) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        }
        self
    }

    /// After so long.
    #[must_use]
    pub fn slow(mut self, time: Duration) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.after = time;
        }
        self
    }

    /// With so many bytes of its body, and then the connection's end.
    #[must_use]
    pub fn cut(mut self, bytes: usize) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.sent = bytes;
        }
        self
    }

    /// Without the length of its body, which ends with the connection.
    #[must_use]
    pub fn unmeasured(mut self) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.is_measured = false;
        }
        self
    }

    /// Sends the head and so many bytes at once, and the rest after `time`. Several add up.
    #[must_use]
    pub fn pausing(mut self, bytes: usize, time: Duration) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.pauses.push((bytes, time));
        }
        self
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// Path and query, as they were encoded.
    pub target: String,
    headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Seen {
    /// Empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// A value of the query, as it was encoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }
}

type Rule = dyn Fn(&Seen, usize) -> Act + Send + Sync;

/// A server on a free port of this machine, for as long as the test's runtime.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Answers the request of each number, from 0, as `rule` says.
    pub async fn new(rule: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Self {
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

    /// Answers every request alike.
    pub async fn always(act: Act) -> Self {
        Self::new(move |_, _| act.clone()).await
    }

    /// Nobody listens there any more.
    pub async fn gone() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), seen: Arc::default() }
    }

    /// Takes connections and never says a word.
    pub async fn mute() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Tasks::new().spawn("fake", async move {
            let mut held = Vec::new();
            while let Ok(stream) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { address, seen: Arc::default() }
    }

    /// `http://host:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that came, in their order.
    pub fn seen(&self) -> Vec<Seen> {
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
            Act::Answer(answer) => answer.send(&mut stream, &seen.method).await?,
        }
    }
}

impl Answer {
    /// `None`: the connection is over.
    async fn send(self, stream: &mut TcpStream, method: &str) -> Option<()> {
        tokio::time::sleep(self.after).await;
        let mut head = format!("HTTP/1.1 {} Word\r\n", self.status);
        if self.is_measured {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        if method == "HEAD" {
            return stream.write_all(head.as_bytes()).await.ok();
        }
        // With the first of the body, at once: the second of two writes would wait for the first one's acknowledgement.
        let (mut bytes, mut done) = (head.into_bytes(), 0);
        for (until, time) in &self.pauses {
            bytes.extend_from_slice(&self.body[done..*until]);
            stream.write_all(&bytes).await.ok()?;
            tokio::time::sleep(*time).await;
            bytes.clear();
            done = *until;
        }
        bytes.extend_from_slice(&self.body[done..self.sent]);
        stream.write_all(&bytes).await.ok()?;
        (self.is_measured && self.sent == self.body.len()).then_some(())
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
