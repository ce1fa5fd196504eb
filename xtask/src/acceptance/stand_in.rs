//! A program that tests take for `nacre`: where they say `serve`, a fleet serves, behind HAProxy. Each folder that a test
//! calls its store is a prefix in the bucket, a table of DynamoDB and a topic, so what one server wrote the next one finds.
//! Every other command is the program's own, led to where its store is.
//!
//! A fleet ends with whoever started it: killed with it, or stopped in order by SIGTERM.

use super::certificates::Certificates;
use crate::dev::haproxy::{self, Front};
use crate::{Outcome, dev};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Where a new table is split that says nothing of it: between the keys that tests like.
pub(crate) const SPLIT: [&str; 12] = ["b", "d", "k", "k01", "k1", "k2", "l", "r", "w", "w1", "w2", "w3"];
const PARTITIONS: &str = "16";
/// The brokers' user.
pub(crate) const USER: &str = "nacre";
pub(crate) const PASSWORD: &str = "canary-of-the-brokers";

const ROLES: [(&str, &str); 10] = [
    ("cache-1", "cache"),
    ("cache-2", "cache"),
    ("cache-3", "cache"),
    ("writer-1", "writer"),
    ("writer-2", "writer"),
    ("loader-1", "loader"),
    ("loader-2", "loader"),
    ("maintainer-1", "maintainer"),
    ("dispatcher-1", "dispatcher"),
    ("dispatcher-2", "dispatcher"),
];
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(50);
const LOOK: Duration = Duration::from_millis(10);
/// Answers in a row after which a fleet is taken for ready.
const WELL: usize = 8;

/// Where everything is.
pub(crate) struct Stack {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) s3: String,
    pub(crate) dynamodb: String,
    pub(crate) kafka: String,
    pub(crate) certificates: Option<Certificates>,
}

impl Stack {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "program": self.program,
            "folder": self.folder,
            "s3": self.s3,
            "dynamodb": self.dynamodb,
            "kafka": self.kafka,
            "certificates": self.certificates.as_ref().map(|certificates| &certificates.0),
        })
    }

    fn read(file: &str) -> Outcome<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        let text = |name: &str| {
            let found = value.get(name).and_then(Value::as_str).map(str::to_owned);
            found.ok_or_else(|| format!("{file}: no {name}"))
        };
        Ok(Self {
            program: text("program")?.into(),
            folder: text("folder")?.into(),
            s3: text("s3")?,
            dynamodb: text("dynamodb")?,
            kafka: text("kafka")?,
            certificates: text("certificates").ok().map(|folder| Certificates(folder.into())),
        })
    }

    /// Where HAProxy writes down who answered, a file for each fleet.
    pub(crate) fn receipts(&self) -> PathBuf {
        self.folder.join("receipts")
    }

    /// The program, with the variables that lead to the services.
    fn command(&self) -> Command {
        // It dies with whoever started it, as the one process would that it stands in for.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
        self.lead(&mut command);
        command
    }

    fn lead(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL_S3", &self.s3)
            .env("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "testtest")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ALLOW_HTTP", "true")
            .env("NACRE_KAFKA_REPLICAS", "1");
        let Some(certificates) = &self.certificates else { return };
        command
            .env("SSL_CERT_FILE", certificates.authority())
            .env("NACRE_KAFKA_SECURITY", "sasl_ssl")
            .env("NACRE_KAFKA_USER", USER)
            .env("NACRE_KAFKA_PASSWORD_FROM", "env:BROKERS_PASSWORD")
            .env("BROKERS_PASSWORD", PASSWORD)
            .env("NACRE_KAFKA_CA_FILE", certificates.authority());
    }
}

pub(crate) fn command(words: &[&str]) -> ExitCode {
    let done = match words {
        [stack, words @ ..] => Stack::read(stack).and_then(|stack| match words {
            ["serve", words @ ..] => serve(&stack, words),
            words => run(&stack, words),
        }),
        [] => Err("usage: cargo xtask stand-in STACK [WORD]...".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A store: what a test calls a folder.
struct Place {
    name: String,
    store: String,
    catalog: String,
    log: String,
}

/// FNV-1a, which is the same in every process.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Place {
    /// Makes its topic where it is new.
    fn of(stack: &Stack, what: &Path) -> Outcome<Self> {
        let name = format!("a{:016x}", hash(what.as_os_str().as_encoded_bytes()));
        let place = Self {
            store: format!("s3://{}/{name}", dev::BUCKET),
            catalog: format!("dynamodb://{name}"),
            log: format!("kafka://{}/{name}", stack.kafka),
            name,
        };
        let marks = stack.folder.join("places");
        let mark = marks.join(&place.name);
        if !mark.exists() {
            let mut command = stack.command();
            command.args(["topic", "create", "--log", &place.log, "--partitions", PARTITIONS]);
            let output = command.stdin(Stdio::null()).output().map_err(|error| format!("topic: {error}"))?;
            if !output.status.success() {
                return Err(format!("no topic: {}", String::from_utf8_lossy(&output.stderr)));
            }
            std::fs::create_dir_all(&marks)
                .and_then(|()| std::fs::write(&mark, ""))
                .map_err(|error| format!("{}: {error}", mark.display()))?;
        }
        Ok(place)
    }

    fn lead(&self, command: &mut Command) {
        command
            .env("NACRE_STORE", &self.store)
            .env("NACRE_CATALOG", &self.catalog)
            .env("NACRE_LOG", &self.log);
    }
}

fn here() -> Outcome<PathBuf> {
    std::env::current_dir().map_err(|error| format!("the folder: {error}"))
}

/// Takes `--name VALUE` out of the words.
fn take(words: &mut Vec<String>, name: &str) -> Option<String> {
    let at = words.iter().position(|word| word == name)?;
    words.remove(at);
    (at < words.len()).then(|| words.remove(at))
}

/// A command that is not `serve`.
fn run(stack: &Stack, words: &[&str]) -> Outcome<ExitCode> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut command = Command::new(&stack.program);
    stack.lead(&mut command);
    if let Some(data) = take(&mut words, "--data") {
        Place::of(stack, &here()?.join(data))?.lead(&mut command);
    }
    // Keys of parts are split by nobody.
    let says_where = ["--split-at", "--key"].iter().any(|name| words.iter().any(|word| word == name));
    if words.starts_with(&["table".to_owned(), "create".to_owned()]) && !says_where {
        words.extend(SPLIT.iter().flat_map(|key| ["--split-at".to_owned(), (*key).to_owned()]));
    }
    if let Some(certificates) = &stack.certificates
        && !words.iter().any(|word| word == "--ca-file")
    {
        command.env("NACRE_CA_FILE", certificates.authority());
    }
    Err(format!("{}: {}", stack.program.display(), command.args(words).exec()))
}

/// A process of the fleet, and its first line's port.
struct Node {
    name: String,
    child: Child,
    port: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(stack: &Stack, words: &[&str]) -> Outcome<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| format!("signals: {error}"))?;
    }
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    ["--listen", "--output"].iter().for_each(|name| drop(take(&mut words, name)));
    let data = take(&mut words, "--data").unwrap_or_else(|| "nacre-data".into());
    let mut what = here()?.join(data);
    if let Some(at) = words.iter().position(|word| word == "--ephemeral") {
        words.remove(at);
        what.push(format!("ephemeral-{}", std::process::id()));
    }
    let store = take(&mut words, "--store");
    let mut place = Place::of(stack, store.as_ref().map_or(&*what, Path::new))?;
    place.store = store.unwrap_or(place.store);
    // A certificate of the test's own, or the fleet's.
    let tls = match (value(&words, "--tls-cert"), value(&words, "--tls-key"), &stack.certificates) {
        (Some(own), Some(key), _) => Some((here()?.join(own), here()?.join(key), here()?.join(own))),
        (_, _, Some(certificates)) => {
            let (own, key) = (certificates.own(), certificates.key());
            words.extend(["--tls-cert".to_owned(), own.display().to_string()]);
            words.extend(["--tls-key".to_owned(), key.display().to_string()]);
            Some((own, key, certificates.authority()))
        }
        _ => None,
    };
    let logs = stack.folder.join("logs").join(&place.name);
    std::fs::create_dir_all(&logs)
        .and_then(|()| std::fs::create_dir_all(stack.receipts()))
        .map_err(|error| format!("{}: {error}", logs.display()))?;
    let mut nodes = Vec::new();
    // A second server of a store that runs has names of its own; one that comes after it takes its names.
    let running = stack.folder.join("places").join(format!("{}.running", place.name));
    let other = std::fs::read_to_string(&running).ok().filter(|pid| Path::new("/proc").join(pid).exists());
    let tail = other.map_or_else(String::new, |_| format!("-{}", std::process::id()));
    std::fs::write(&running, std::process::id().to_string())
        .map_err(|error| format!("{}: {error}", running.display()))?;
    // As in production, whoever comes after a dead process is reached where that one was.
    let kept = stack.folder.join("places").join(format!("{}.ports", place.name));
    let ports: Vec<u16> = match std::fs::read_to_string(&kept) {
        Ok(text) if tail.is_empty() => text.split(' ').filter_map(|port| port.parse().ok()).collect(),
        _ => (0..ROLES.len() * 2).map(|_| crate::services::free_port()).collect::<Outcome<_>>()?,
    };
    if tail.is_empty() {
        let text: Vec<String> = ports.iter().map(u16::to_string).collect();
        std::fs::write(&kept, text.join(" ")).map_err(|error| format!("{}: {error}", kept.display()))?;
    }
    for ((name, role), ports) in ROLES.into_iter().zip(ports.as_chunks::<2>().0) {
        let name = format!("{name}{tail}");
        nodes.push(start(stack, &place, &logs, (name, role, *ports), &words)?);
    }
    for node in &mut nodes {
        node.port = said_port(node)?;
    }
    let dispatchers: Vec<(String, u16)> = nodes
        .iter()
        .filter(|node| node.name.starts_with("dispatcher"))
        .map(|node| (node.name.clone(), node.port))
        .collect();
    let receipts = stack.receipts().join(format!("{}-{}", place.name, std::process::id()));
    let front = Front { tls: tls.as_ref(), receipts: Some(&receipts), dies_with_us: true };
    let balancer = haproxy::start_as(&logs, &dispatchers, &front)?;
    wait_until_ready(balancer.plain, &stop)?;
    // Not one node that answers for all: each has its part.
    for node in nodes.iter().filter(|node| node.name.starts_with("cache")) {
        if tls.is_none() {
            wait_until_ready(node.port, &stop)?;
            continue;
        }
        // By https it is asked through a balancer of its own, which knows whom to trust.
        let folder = logs.join(&node.name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let front = Front { tls: tls.as_ref(), receipts: None, dies_with_us: true };
        let asked = haproxy::start_as(&folder, &[(node.name.clone(), node.port)], &front)?;
        wait_until_ready(asked.plain, &stop)?;
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("{}", json!({ "api": format!("{scheme}://127.0.0.1:{}", balancer.port) }));
    std::io::stdout().flush().map_err(|error| format!("stdout: {error}"))?;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
    }
    Ok(ExitCode::from(u8::from(!end(&mut nodes))))
}

fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().zip(words.iter().skip(1)).find(|(word, _)| *word == name).map(|(_, value)| value.as_str())
}

fn start(
    stack: &Stack,
    place: &Place,
    logs: &Path,
    (name, role, [port, fleet]): (String, &str, [u16; 2]),
    words: &[String],
) -> Outcome<Node> {
    let failed = |error: std::io::Error| format!("{name}: {error}");
    // Whoever asked for a format reads the log.
    let log = if words.iter().any(|word| word == "--log-format") {
        Stdio::inherit()
    } else {
        let file = logs.join(format!("{name}.log"));
        std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(failed)?.into()
    };
    let mut command = stack.command();
    place.lead(&mut command);
    command.args(["serve", "--role", role, "--name", &name, "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--fleet-listen", &format!("127.0.0.1:{fleet}"), "--output", "json"]);
    if role == "cache" {
        command.args(["--zone", &name]);
    }
    if let Some(certificates) = &stack.certificates {
        command
            .arg("--fleet-tls-cert")
            .arg(certificates.own())
            .arg("--fleet-tls-key")
            .arg(certificates.key())
            .arg("--fleet-tls-ca")
            .arg(certificates.authority());
    }
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let child = command.spawn().map_err(failed)?;
    Ok(Node { name, child, port: 0 })
}

/// The port in the first line, which a process prints when it serves.
fn said_port(node: &mut Node) -> Outcome<u16> {
    let mut line = String::new();
    let stdout = node.child.stdout.take().ok_or("no pipe to the program's stdout")?;
    BufReader::new(stdout).read_line(&mut line).map_err(|error| format!("{}: {error}", node.name))?;
    let said: Value = serde_json::from_str(&line).unwrap_or_default();
    let port = said["api"].as_str().and_then(|api| api.rsplit(':').next()?.parse().ok());
    port.ok_or_else(|| format!("{} said {line:?}", node.name))
}

/// Until HAProxy has passed on a few questions in a row, or a node has said so often that it is ready.
fn wait_until_ready(port: u16, stop: &AtomicBool) -> Outcome {
    let (begun, mut well) = (Instant::now(), 0);
    while well < WELL && !stop.load(Ordering::Relaxed) {
        if begun.elapsed() > START {
            return Err("the fleet is not ready".into());
        }
        well = if is_ready(port).unwrap_or(false) { well + 1 } else { 0 };
        thread::sleep(LOOK);
    }
    Ok(())
}

fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: stand-in\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// Stops all in order; whether all of them ended well.
fn end(nodes: &mut [Node]) -> bool {
    for node in &*nodes {
        let _ = Command::new("kill").args(["-TERM", &node.child.id().to_string()]).status();
    }
    let (begun, mut is_well) = (Instant::now(), true);
    for node in nodes {
        loop {
            match node.child.try_wait() {
                Ok(Some(status)) => {
                    is_well &= status.success();
                    if !status.success() {
                        eprintln!("{} ended with {status}", node.name);
                    }
                    break;
                }
                _ if begun.elapsed() > STOP => {
                    eprintln!("{} does not end", node.name);
                    is_well = false;
                    break;
                }
                _ => thread::sleep(LOOK),
            }
        }
    }
    is_well
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_with_their_values() {
        let mut words: Vec<String> = ["--a", "1", "--b", "2", "c"].map(str::to_owned).to_vec();
        assert_eq!(value(&words, "--b"), Some("2"));
        assert_eq!(take(&mut words, "--a").as_deref(), Some("1"));
        assert_eq!(take(&mut words, "--a"), None);
        assert_eq!(words, ["--b", "2", "c"]);
    }

    #[test]
    fn a_place_has_the_same_name_in_every_process() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
