//! Three brokers, each a controller too, that can be killed, stopped, started again, and told a wrong time.

use crate::Outcome;
use crate::services::free_port;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const COUNT: u32 = 3;
const START: Duration = Duration::from_secs(90);
/// How long a broker may take to end when it is asked to; killed then.
const STOP: Duration = Duration::from_secs(25);
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// Killed when dropped.
pub(super) struct Cluster {
    jars: PathBuf,
    /// The library with the wrong clock; `None` where no compiler is.
    clock: Option<PathBuf>,
    brokers: Mutex<Vec<Broker>>,
    leaders: Mutex<Option<Leaders>>,
}

struct Broker {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Starts all and waits until they listen.
    pub(super) fn start(jars: &Path, folder: &Path) -> Outcome<Self> {
        let clock = match wrong_clock(folder) {
            Ok(library) => Some(library),
            Err(why) => {
                println!("NOTICE: brokers' clocks stay right: {why}");
                None
            }
        };
        let ports: Vec<(u16, u16)> =
            (0..COUNT).map(|_| Ok((free_port()?, free_port()?))).collect::<Outcome<_>>()?;
        let voters: Vec<String> =
            (1..).zip(&ports).map(|(id, (_, control))| format!("{id}@127.0.0.1:{control}")).collect();
        let mut brokers = Vec::new();
        for (id, (port, control)) in (1..).zip(ports) {
            let folder = folder.join(format!("broker-{id}"));
            let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let properties = folder.join("server.properties");
            std::fs::write(&properties, settings(id, port, control, &voters.join(","), &folder))
                .map_err(failed)?;
            std::fs::write(folder.join("clock"), 0i64.to_ne_bytes()).map_err(failed)?;
            let formatted = java(jars, "kafka.tools.StorageTool")
                .args(["format", "-t", CLUSTER, "-c"])
                .arg(&properties)
                .output()
                .map_err(|error| format!("java: {error}"))?;
            if !formatted.status.success() {
                return Err(format!("a broker: {}", String::from_utf8_lossy(&formatted.stderr)));
            }
            brokers.push(Broker { folder, port, child: None });
        }
        let cluster =
            Self { jars: jars.to_owned(), clock, brokers: Mutex::new(brokers), leaders: Mutex::default() };
        (0..COUNT as usize).try_for_each(|number| cluster.spawn(number))?;
        (0..COUNT as usize).try_for_each(|number| cluster.listens(number))?;
        Ok(cluster)
    }

    pub(super) fn address(&self) -> String {
        let brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<String> = brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        all.join(",")
    }

    pub(super) fn can_tell_wrong_times(&self) -> bool {
        self.clock.is_some()
    }

    /// Its clock is off by so much from now on.
    pub(super) fn set_clock(&self, number: usize, seconds: i64) -> Outcome {
        let brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = brokers.get(number).ok_or("no such broker")?;
        // In place: the broker has the file in its memory.
        let file = OpenOptions::new().write(true).open(broker.folder.join("clock"));
        file.and_then(|mut file| file.write_all(&(seconds * 1_000_000_000).to_ne_bytes()))
            .map_err(|error| format!("a broker's clock: {error}"))
    }

    /// As a power cut ends it, but for what the system still holds.
    pub(super) fn kill(&self, number: usize) {
        if let Some(mut child) = self.take(number) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// As an operator ends it.
    pub(super) fn stop(&self, number: usize) {
        let Some(mut child) = self.take(number) else { return };
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let begun = Instant::now();
        while !matches!(child.try_wait(), Ok(Some(_))) {
            if begun.elapsed() > STOP {
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn take(&self, number: usize) -> Option<Child> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        brokers.get_mut(number)?.child.take()
    }

    /// On the same folder; returns at once.
    pub(super) fn spawn(&self, number: usize) -> Outcome {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = brokers.get_mut(number).ok_or("no such broker")?;
        if broker.child.is_some() {
            return Ok(());
        }
        let failed = |error: std::io::Error| format!("a broker: {error}");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(broker.folder.join("broker.log"))
            .map_err(failed)?;
        let mut command = java(&self.jars, "kafka.Kafka");
        command.arg(broker.folder.join("server.properties"));
        if let Some(library) = &self.clock {
            command.env("LD_PRELOAD", library).env("CHAOS_CLOCK", broker.folder.join("clock"));
        }
        broker.child = Some(command.stdout(log).spawn().map_err(failed)?);
        Ok(())
    }

    pub(super) fn listens(&self, number: usize) -> Outcome {
        let port = {
            let brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
            brokers.get(number).ok_or("no such broker")?.port
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > START {
                return Err(format!("broker {number} does not listen"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Every partition's leader becomes its next replica.
    pub(super) fn move_leaders(&self, topic: &str) -> Outcome<Value> {
        self.ask("move", topic)
    }

    /// Of each partition, which broker leads it; those without a leader are left out.
    pub(super) fn leaders(&self, topic: &str) -> Outcome<Vec<usize>> {
        let told = self.ask("who", topic)?;
        let ids = told["leaders"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        // Brokers are numbered from 1 among themselves.
        Ok(ids.filter_map(|id| usize::try_from(id).ok()?.checked_sub(1)).collect())
    }

    /// Waits until every partition has all its replicas in sync.
    pub(super) fn wait_in_sync(&self, topic: &str, limit: Duration) -> Outcome {
        let begun = Instant::now();
        loop {
            let told = self.ask("who", topic)?;
            let is_whole = told["in_sync"].as_array().is_some_and(|all| {
                !all.is_empty() && all.iter().all(|count| count.as_u64() == Some(u64::from(COUNT)))
            });
            if is_whole {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(format!("replicas are not in sync after {limit:?}: {told}"));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn ask(&self, word: &str, topic: &str) -> Outcome<Value> {
        let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match leaders.take() {
            Some(held) => leaders.insert(held),
            None => leaders.insert(Leaders::start(&self.jars, &self.address(), topic)?),
        };
        let told = held.ask(word);
        if told.is_err() {
            *leaders = None;
        }
        told
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..COUNT as usize).for_each(|number| self.kill(number));
    }
}

/// A Java program that speaks to the brokers as an operator does.
struct Leaders {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Leaders {
    fn start(jars: &Path, address: &str, topic: &str) -> Outcome<Self> {
        let source = crate::process::root().join("xtask/src/chaos/brokers/Leaders.java");
        let mut command = Command::new("java");
        command
            .args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", jars.display()))
            .arg(source)
            .args([address, topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("java: {error}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("java: no pipes".into());
        };
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    fn ask(&mut self, word: &str) -> Outcome<Value> {
        let failed = |error: std::io::Error| format!("the program that moves leaders: {error}");
        writeln!(self.stdin, "{word}").and_then(|()| self.stdin.flush()).map_err(failed)?;
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(failed)?;
        serde_json::from_str(&line).map_err(|error| format!("the program that moves leaders: {error}"))
    }
}

impl Drop for Leaders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn java(jars: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", jars.display()))
        .arg(class)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn settings(id: usize, port: u16, control: u16, voters: &str, folder: &Path) -> String {
    format!(
        "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
         auto.create.topics.enable=false\noffsets.topic.replication.factor={COUNT}\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor={COUNT}\ntransaction.state.log.min.isr=2\n\
         share.coordinator.state.topic.replication.factor={COUNT}\nshare.coordinator.state.topic.min.isr=2\n\
         broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n",
        folder.join("data").display(),
    )
}

/// Compiles the library with the wrong clock.
fn wrong_clock(folder: &Path) -> Outcome<PathBuf> {
    let library = folder.join("clock.so");
    let source = crate::process::root().join("xtask/src/chaos/brokers/clock.c");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    let output = cc.output().map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        Ok(library)
    } else {
        Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
