//! The servers that are measured: nacre and Redis, each ended with its benchmark.

use super::stats::Sample;
use super::wire::{Connection, Request};
use crate::{Outcome, process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Builds the program that is measured, unless one is given.
pub(crate) fn program(given: Option<PathBuf>) -> Outcome<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    }
    let mut build = process::cargo(&["build", "--profile", "dist", "--locked", "-p", "nacre"]);
    process::run(&mut build, Duration::from_secs(3_600))?;
    Ok(process::root().join("target/dist/nacre"))
}

/// A folder for a benchmark's data, on the disk that the checkout lies on: a temporary folder may lie in memory.
pub(crate) fn folder(given: Option<PathBuf>) -> Outcome<tempfile::TempDir> {
    let base = given.unwrap_or_else(|| process::root().join("target/bench-data"));
    std::fs::create_dir_all(&base)
        .and_then(|()| tempfile::tempdir_in(&base))
        .map_err(|error| format!("{}: {error}", base.display()))
}

/// A process that is ended when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Processor time so far, that of its children that have ended too; `None` where the system has no `/proc`.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).ok()?;
        // The name may hold anything, brackets too; behind the last one user and system time, and those of children,
        // are fields 12 to 15, in hundredths of a second.
        let fields = stat.rsplit(") ").next()?.split(' ').skip(11).take(4);
        let ticks: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
        Some(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
    }

    /// Bytes that it and its children that have ended have read so far.
    pub(crate) fn read_bytes(&self) -> Option<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.0.id())).ok()?;
        io.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
    }

    /// Measures `work` and what it cost this process. The rate is that of the whole time.
    pub(crate) fn measured(&self, work: impl FnOnce() -> Outcome<Sample>) -> Outcome<Sample> {
        let (before, began) = (self.cpu(), Instant::now());
        let sample = work()?;
        let units = sample.per_second * began.elapsed().as_secs_f64();
        let spent = self.cpu().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Sample { cpu: spent.map(|spent| spent.as_secs_f64() * 1e6 / units.max(1.0)), ..sample })
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) -> Outcome {
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        self.0.wait().map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A nacre server.
pub(crate) struct Nacre {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
}

/// Where the table of a benchmark lies.
pub(crate) const TABLE: &str = "/v1/namespaces/default/tables/bench";

impl Nacre {
    /// Starts it and waits until it serves.
    pub(crate) fn start(program: &Path, data: &Path, flags: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--output",
            "json",
            "--log-level",
            "warn",
            "--data",
        ]);
        command.arg(data).args(flags);
        Self::start_command(&mut command)
    }

    /// As [`Self::start`], from a command that was prepared by the caller.
    pub(crate) fn start_command(command: &mut Command) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("nacre: {error}"))?;
        let stdout = child.stdout.take();
        let running = Running(child);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        }
        let said: serde_json::Value =
            serde_json::from_str(&line).map_err(|_| format!("nacre did not start: {line:?}"))?;
        let api = said.get("api").and_then(|api| api.as_str()).and_then(|api| api.strip_prefix("http://"));
        let address = api.and_then(|api| api.parse().ok()).ok_or("nacre did not say where it listens")?;
        let server = Self { running, address };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&self) -> Outcome {
        let began = Instant::now();
        loop {
            let ready = self.connect().and_then(|mut connection| {
                connection.call(&Request::get("/readyz")).map(|answer| answer.status == 200)
            });
            if ready == Ok(true) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(300) {
                return Err("nacre is not ready after 300 s".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn connect(&self) -> Outcome<Connection> {
        Connection::open(self.address)
    }

    /// Makes the benchmark's table.
    pub(crate) fn create_table(&self) -> Outcome {
        self.connect()?.ok(&Request::new("PUT", TABLE, "application/json", b"{}")).map(drop)
    }

    /// One JSON answer.
    pub(crate) fn json(&self, request: &Request) -> Outcome<serde_json::Value> {
        let mut connection = self.connect()?;
        let answer = connection.ok(request)?;
        serde_json::from_slice(answer.body).map_err(|error| format!("the answer is not JSON: {error}"))
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> Outcome<f64> {
        let mut connection = self.connect()?;
        let answer = connection.ok(&Request::get("/metrics"))?;
        let text = String::from_utf8_lossy(answer.body);
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(' ') && !rest.starts_with('{') {
                return None;
            }
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        Ok(values.sum())
    }
}

/// Whether a program is there; if not, how to get it.
pub(crate) fn require(program: &str, package: &str) -> Outcome {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "{program} is not installed; on Debian or Ubuntu `apt install {package}`, on macOS `brew install {package}`"
        )),
    }
}

/// A Redis server that keeps everything in memory, or syncs every write.
pub(crate) struct Redis {
    pub(crate) running: Running,
    pub(crate) port: u16,
}

impl Redis {
    /// Starts it. `durable`: an append-only file that is synced before each answer.
    pub(crate) fn start(folder: &Path, durable: bool) -> Outcome<Self> {
        require("redis-server", "redis-server")?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
        if durable {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        } else {
            command.args(["--appendonly", "no"]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let running = Running(child.map_err(|error| format!("redis-server: {error}"))?);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err("redis-server does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { running, port })
    }

    /// Sets `count` keys of the benchmark, many commands in one write.
    pub(crate) fn fill(&self, count: u64, value: &[u8]) -> Outcome {
        let failed = |error: std::io::Error| format!("redis: {error}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(failed)?;
        let mut sent = Vec::new();
        for first in (0..count).step_by(1_000) {
            sent.clear();
            let keys = first..(first + 1_000).min(count);
            let mut expected = (keys.end - keys.start) as usize * b"+OK\r\n".len();
            for key in keys {
                let key = key_of(key);
                write!(sent, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len())
                    .map_err(failed)?;
                sent.extend_from_slice(value);
                sent.extend_from_slice(b"\r\n");
            }
            stream.write_all(&sent).map_err(failed)?;
            let mut answers = [0; 5_000];
            while expected > 0 {
                let room = answers.get_mut(..expected.min(5_000)).unwrap_or_default();
                expected -= stream.read(room).map_err(failed).and_then(|read| match read {
                    0 => Err("redis closed the connection".to_owned()),
                    read => Ok(read),
                })?;
            }
        }
        Ok(())
    }
}

/// The benchmarks' keys: those of redis-benchmark, so that both serve the same ones.
pub(crate) fn key_of(number: u64) -> String {
    format!("key-{number:012}")
}
