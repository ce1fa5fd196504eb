//! Starting the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program, or what stands in for it: `NACRE_TEST_PROGRAM` names a program with the same commands, whose servers are
/// fleets.
fn program() -> PathBuf {
    let other = std::env::var_os("NACRE_TEST_PROGRAM");
    other.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_nacre")), PathBuf::from)
}

/// Whom clients trust, where what stands in for the program speaks https: `NACRE_TEST_CA`.
pub(crate) fn authority() -> Option<PathBuf> {
    std::env::var_os("NACRE_TEST_CA").map(PathBuf::from)
}

/// A body that makes a table, with split points where it has none and its keys are plain bytes: `NACRE_TEST_SPLIT`.
fn split(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let is_table = path.split_once("/tables/").is_some_and(|(_, name)| !name.contains('/'));
    let wanted = std::env::var("NACRE_TEST_SPLIT").ok().filter(|_| method == "PUT" && is_table);
    let told = serde_json::from_slice::<serde_json::Value>(body).ok();
    match (wanted, told) {
        (Some(wanted), Some(serde_json::Value::Object(mut table)))
            if !["key", "split_at"].iter().any(|name| table.contains_key(*name)) =>
        {
            table.insert("split_at".to_owned(), serde_json::from_str(&wanted).unwrap());
            serde_json::Value::Object(table).to_string().into_bytes()
        }
        _ => body.to_vec(),
    }
}

/// The program, with none of the caller's settings, in `folder`.
pub(crate) fn nacre(folder: &Path) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NACRE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The result, of a command that ended well.
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The result as JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.well();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The complaint, of a command that ended with `code`.
    pub(crate) fn badly(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}

/// Runs the program in an empty folder.
pub(crate) fn run(words: &[&str]) -> Done {
    let folder = tempfile::tempdir().unwrap();
    Done::of(&nacre(folder.path()).args(words).output().unwrap())
}

/// Runs a prepared command.
pub(crate) fn done(command: &mut Command) -> Done {
    Done::of(&command.output().unwrap())
}

/// Files of other writers, with rows that are known.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/segment/tests/samples").join(name)
}

/// Key, and value, of row `number` of every sample; `None` is a tombstone.
pub(crate) fn sample_value(number: u64) -> Option<String> {
    (!number.is_multiple_of(97)).then(|| number.to_string().repeat(10))
}

/// A server that was started; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Its URL.
    pub(crate) api: String,
    folder: PathBuf,
}

impl Server {
    /// Starts a server over `folder`/data and waits until it has said its address.
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Self {
        Self::start_by(nacre(folder), folder, more)
    }

    /// Likewise, by a command that was prepared.
    pub(crate) fn start_by(mut command: Command, folder: &Path, more: &[&str]) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
        if !more.contains(&"--flush-every") {
            command.args(["--flush-every", "1s"]);
        }
        command.args(more);
        Self::spawn(command, folder)
    }

    /// Runs a command that serves, and waits until it has said its address.
    pub(crate) fn spawn(mut command: Command, folder: &Path) -> Self {
        command.args(["--output", "json"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let first: serde_json::Value = match serde_json::from_str(&line) {
            Ok(first) => first,
            Err(error) => {
                let _ = child.kill();
                panic!("the server's first line is no JSON ({error}): {line:?}")
            }
        };
        Self { child, api: first["api"].as_str().unwrap().to_owned(), folder: folder.to_owned() }
    }

    /// Runs a command against it.
    pub(crate) fn ask(&self, words: &[&str]) -> Done {
        done(nacre(&self.folder).args(words).args(["--server", &self.api]))
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(self) -> i32 {
        self.stop_by("TERM")
    }

    /// A signal; the exit code.
    pub(crate) fn stop_by(mut self, signal: &str) -> i32 {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
        self.wait(Duration::from_secs(60))
    }

    /// A signal that does not end it.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn wait(&mut self, limit: Duration) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(begun.elapsed() < limit, "the server did not stop within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Speaks HTTP to a server, as clients do that are no command line.
pub(crate) struct Http {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    base: String,
}

impl Http {
    pub(crate) fn of(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        nacre_tls::install_provider();
        let mut client = reqwest::Client::builder().timeout(Duration::from_secs(60));
        if let Some(authority) = authority() {
            let authority = reqwest::Certificate::from_pem(&std::fs::read(authority).unwrap()).unwrap();
            client = client.tls_certs_only([authority]);
        }
        Self { runtime, client: client.build().unwrap(), base: server.api.clone() }
    }

    /// Over https, by the authority in a file, with a token.
    #[cfg(all(feature = "kafka-tls", feature = "dynamodb", feature = "s3"))]
    pub(crate) fn trusting(server: &Server, ca: &Path, token: &str) -> Self {
        use reqwest::header::{AUTHORIZATION, HeaderMap};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        nacre_tls::install_provider();
        let authority = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .tls_certs_only([authority])
            .default_headers(headers)
            .build()
            .unwrap();
        Self { runtime, client, base: server.api.clone() }
    }

    /// The status, and the body as JSON; null where it is none.
    pub(crate) fn ask(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> (u16, serde_json::Value) {
        let (status, bytes) = self.send(method, path, body.as_ref());
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// The status, the headers and the body as JSON of a request with headers of its own.
    pub(crate) fn tell(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl AsRef<[u8]>,
    ) -> (u16, reqwest::header::HeaderMap, serde_json::Value) {
        self.runtime.block_on(async {
            let url = format!("{}{path}", self.base);
            let body = split(method, path, body.as_ref());
            let mut request = self.client.request(method.parse().unwrap(), url).body(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            (status, headers, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
        })
    }

    /// The status and the bytes of a GET.
    pub(crate) fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        self.send("GET", path, b"")
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.runtime.block_on(async {
            let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base));
            let answer = request.body(split(method, path, body)).send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
        })
    }
}

/// A server that answers every request with the same bytes, to see what the program makes of them.
pub(crate) struct Canned {
    pub(crate) api: String,
    thread: Option<std::thread::JoinHandle<String>>,
}

impl Canned {
    /// Answers one request with `status`, `headers` (each ended by CRLF) and `body`.
    pub(crate) fn new(status: &str, headers: &str, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        Self::raw(answer)
    }

    /// Answers one request with these bytes and closes.
    pub(crate) fn raw(answer: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            use std::io::Write;
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4_096];
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let read = stream.read(&mut part).unwrap();
                if read == 0 {
                    break;
                }
                request.extend_from_slice(&part[..read]);
            }
            let _ = stream.write_all(answer.as_bytes());
            String::from_utf8_lossy(&request).into_owned()
        });
        Self { api, thread: Some(thread) }
    }

    /// The request that came.
    pub(crate) fn request(mut self) -> String {
        self.thread.take().unwrap().join().unwrap()
    }
}

/// The servers that a variable names, each with its URL; says so where there are none.
pub(crate) fn named_servers(variable: &str, what: &str) -> Vec<(String, String)> {
    let Ok(list) = std::env::var(variable) else {
        skipped(variable, what);
        return Vec::new();
    };
    let pair = |server: &str| {
        let (name, url) = server.split_once('=').expect("name=url");
        (name.to_owned(), url.to_owned())
    };
    list.split_whitespace().map(pair).collect()
}

/// Says that a test found no server to run against; past the test framework, which shows nothing of tests that pass.
pub(crate) fn skipped(variable: &str, what: &str) {
    let text = format!("NOTICE: skipped, {variable} is not set ({what}; cargo xtask test starts some)");
    let _ = writeln!(std::io::stderr(), "{text}");
}
