//! The store's own processes: started, asked whether they are ready, started again when they are gone.

use crate::Outcome;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process may take to end by itself.
const STOP: Duration = Duration::from_secs(40);
const ASK: Duration = Duration::from_millis(500);
/// A process that ends by itself is not started again sooner.
const RESTART: Duration = Duration::from_secs(1);

/// How a process is started.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// Where it says whether it is ready.
    pub(crate) port: u16,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) log: PathBuf,
    pub(crate) folder: PathBuf,
}

struct Process {
    spec: Spec,
    child: Child,
    started: Instant,
}

impl Spec {
    pub(crate) fn start(&self) -> Outcome<Child> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        // What nobody waits for in milliseconds gives way to what shares the machine with it; it has one of its own elsewhere.
        let gives_way = ["loader", "maintainer"].iter().any(|role| self.name.starts_with(role));
        let mut command = Command::new(if gives_way { Path::new("nice") } else { &self.program });
        if gives_way {
            command.args(["-n", "10"]).arg(&self.program);
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Fleet(Vec<Process>);

impl Fleet {
    pub(crate) fn start(&mut self, spec: Spec) -> Outcome {
        let child = spec.start()?;
        self.0.push(Process { spec, child, started: Instant::now() });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn processes(&self) -> BTreeMap<String, u32> {
        self.0.iter().map(|process| (process.spec.name.clone(), process.child.id())).collect()
    }

    /// Where each tells its metrics.
    pub(crate) fn metrics(&self) -> BTreeMap<String, String> {
        let url = |process: &Process| format!("http://127.0.0.1:{}", process.spec.port);
        self.0.iter().map(|process| (process.spec.name.clone(), url(process))).collect()
    }

    pub(crate) fn are_ready(&self) -> bool {
        self.0.iter().all(|process| is_ready(process.spec.port))
    }

    /// As a supervisor would.
    pub(crate) fn restart_the_dead(&mut self) -> Outcome {
        for process in &mut self.0 {
            let Ok(Some(status)) = process.child.try_wait() else { continue };
            if process.started.elapsed() < RESTART {
                continue;
            }
            process.child = process.spec.start()?;
            process.started = Instant::now();
            eprintln!("{} ended ({status}) and was started again: {}", process.spec.name, process.child.id());
        }
        Ok(())
    }

    /// In the order in which they were started: those that clients reach first.
    pub(crate) fn stop(&mut self) {
        let signal = |child: &Child, name: &str| {
            let _ = Command::new("kill").args([name, &child.id().to_string()]).status();
        };
        for process in &self.0 {
            signal(&process.child, "-TERM");
        }
        let begun = Instant::now();
        for process in &mut self.0 {
            while !matches!(process.child.try_wait(), Ok(Some(_))) {
                if begun.elapsed() > STOP {
                    eprintln!("{} does not end; it is killed", process.spec.name);
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        self.0.clear();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ASK))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: dev\r\nconnection: close\r\n\r\n")?;
        let mut answer = [0; 16];
        let read = stream.read(&mut answer)?;
        Ok(answer.get(..read).is_some_and(|head| head.starts_with(b"HTTP/1.1 200")))
    };
    ask().unwrap_or(false)
}
