//! `cargo xtask dev`: the production stack on one machine, with real services, for a person or a test.
//!
//! Kafka, DynamoDB Local and versitygw; two dispatchers behind HAProxy, three cache nodes, two writers, two loaders and a
//! maintainer as processes of their own. When all answer, one JSON line on stdout says where everything is. A process that
//! is killed is started again, as a supervisor would; SIGTERM or Ctrl-C ends all of them.

pub(crate) mod haproxy;
pub(crate) mod processes;

use crate::services::{DYNAMODB_LOCAL, Running, Services, VERSITYGW};
use crate::{Outcome, process};
use processes::{Fleet, Spec};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub(crate) const BUCKET: &str = "nacre";
const PREFIX: &str = "store";
pub(crate) const TOPIC: &str = "nacre";
const TABLE: &str = "nacre";
pub(crate) const PARTITIONS: u32 = 16;
const BUILD: Duration = Duration::from_secs(40 * 60);
const LOOK: Duration = Duration::from_millis(100);

/// What was said on the command line.
struct Arguments {
    /// Where everything is kept; without it a folder that goes at the end.
    data: Option<PathBuf>,
    /// The program; without it it is built.
    program: Option<PathBuf>,
    partitions: u32,
}

pub(crate) fn command(words: &[&str]) -> ExitCode {
    let arguments = match parse(words) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("{wrong}\nusage: cargo xtask dev [--data DIR] [--program FILE] [--partitions N]");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[&str]) -> Outcome<Arguments> {
    let mut found = Arguments { data: None, program: None, partitions: PARTITIONS };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word}: no value"))?;
        match *word {
            "--data" => found.data = Some(value.into()),
            "--program" => found.program = Some(value.into()),
            "--partitions" => {
                found.partitions = value.parse().map_err(|_| format!("--partitions {value}: no number"))?;
            }
            other => return Err(format!("{other}: not known")),
        }
    }
    Ok(found)
}

fn run(arguments: &Arguments) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| format!("signals: {error}"))?;
    }
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => built()?,
    };
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = match &arguments.data {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?
        }
        None => temporary.path().to_owned(),
    };
    eprintln!("starting Kafka, DynamoDB Local and an S3 server on {}", folder.display());
    let services = Services::of_a_stack()?.start_in(&folder);
    let stack = Stack::of(&services, &folder, program)?;
    stack.make_topic(TOPIC, arguments.partitions)?;
    let mut fleet = Fleet::default();
    let dispatchers = [free("dispatcher-1")?, free("dispatcher-2")?];
    for (name, port) in &dispatchers {
        fleet.start(stack.spec(name, "dispatcher", *port, &[]))?;
    }
    for (number, zone) in (1..=3).zip(["a", "b", "c"]) {
        let (name, port) = free(&format!("cache-{number}"))?;
        fleet.start(stack.spec(&name, "cache", port, &["--zone", zone]))?;
    }
    for role in ["writer", "loader"] {
        for number in 1..=2 {
            let (name, port) = free(&format!("{role}-{number}"))?;
            fleet.start(stack.spec(&name, role, port, &[]))?;
        }
    }
    let (name, port) = free("maintainer-1")?;
    fleet.start(stack.spec(&name, "maintainer", port, &[]))?;
    let balancer = haproxy::start(&folder, &dispatchers)?;
    eprintln!("waiting until {} processes are ready", fleet.len());
    while !fleet.are_ready() {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        fleet.restart_the_dead()?;
        thread::sleep(LOOK);
    }
    let mut pids = fleet.processes();
    pids.extend(services.processes().into_iter().map(|(name, pid)| (name.to_owned(), pid)));
    pids.insert("haproxy".to_owned(), balancer.pid());
    let said = serde_json::json!({
        "api": format!("http://127.0.0.1:{}", balancer.port),
        "s3": {
            "endpoint": stack.s3,
            "bucket": BUCKET,
            "access_key": "test",
            "secret_key": "testtest",
        },
        "dynamodb": stack.dynamodb,
        "kafka": stack.kafka,
        "processes": pids,
        "dispatchers": dispatchers.map(|(_, port)| format!("http://127.0.0.1:{port}")),
        "metrics": fleet.metrics(),
        "folder": folder,
    });
    println!("{said}");
    while !stop.load(Ordering::Relaxed) {
        fleet.restart_the_dead()?;
        thread::sleep(LOOK);
    }
    eprintln!("stopping");
    drop(balancer);
    fleet.stop();
    drop(services);
    Ok(())
}

fn free(name: &str) -> Outcome<(String, u16)> {
    Ok((name.to_owned(), crate::services::free_port()?))
}

/// A bucket in the folder of versitygw, which keeps one as a folder.
pub(crate) fn make_bucket(folder: &Path) -> Outcome {
    let bucket = folder.join("versitygw").join(BUCKET);
    std::fs::create_dir_all(&bucket).map_err(|error| format!("{}: {error}", bucket.display()))
}

/// The program with everything that production has.
fn built() -> Outcome<PathBuf> {
    let words = ["build", "--locked", "--release", "--package", "nacre", "--features", "kafka"];
    let mut command = process::cargo(&words);
    command.stdout(std::process::Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cargo: {error}"))?;
    let begun = std::time::Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(Some(status)) => return Err(format!("the program could not be built: {status}")),
            Ok(None) if begun.elapsed() < BUILD => thread::sleep(LOOK),
            Ok(None) => return Err("the program took too long to build".into()),
            Err(error) => return Err(format!("cargo: {error}")),
        }
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| process::root().join("target"), PathBuf::from);
    Ok(target.join("release/nacre"))
}

/// Where everything is.
pub(crate) struct Stack {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    /// URLs of the S3 server and of DynamoDB.
    pub(crate) s3: String,
    pub(crate) dynamodb: String,
    /// The brokers, as a URL of a log names them.
    pub(crate) kafka: String,
    /// Brokers that hold each partition.
    pub(crate) replicas: u32,
    /// Flags of every process.
    pub(crate) flags: Vec<String>,
}

impl Stack {
    fn of(services: &Running, folder: &Path, program: PathBuf) -> Outcome<Self> {
        let missing = |what: &str| format!("{what} does not run");
        make_bucket(folder)?;
        Ok(Self {
            program,
            folder: folder.to_owned(),
            s3: services.url(VERSITYGW).ok_or_else(|| missing("the S3 server"))?,
            dynamodb: services.url(DYNAMODB_LOCAL).ok_or_else(|| missing("DynamoDB Local"))?,
            kafka: services.kafka_address().ok_or_else(|| missing("Kafka"))?,
            replicas: 1,
            flags: ["--flush-every", "10s"].map(str::to_owned).to_vec(),
        })
    }

    fn log_url(&self) -> String {
        format!("kafka://{}/{TOPIC}", self.kafka)
    }

    pub(crate) fn make_topic(&self, name: &str, partitions: u32) -> Outcome {
        let mut command = Command::new(&self.program);
        let url = format!("kafka://{}/{name}", self.kafka);
        command
            .args(["topic", "create", "--log", &url, "--partitions", &partitions.to_string()])
            .args(["--kafka-replicas", &self.replicas.to_string()])
            .current_dir(&self.folder);
        let output = command.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        // A folder that was kept has its topic.
        if output.status.success() || said.contains("exists") {
            return Ok(());
        }
        Err(format!("the topic could not be made: {said}"))
    }

    /// A process of the fleet.
    pub(crate) fn spec(&self, name: &str, role: &str, port: u16, more: &[&str]) -> Spec {
        let listen = format!("127.0.0.1:{port}");
        let store = format!("s3://{BUCKET}/{PREFIX}");
        let (catalog, log) = (format!("dynamodb://{TABLE}"), self.log_url());
        let replicas = self.replicas.to_string();
        let words = [
            "serve",
            "--role",
            role,
            "--name",
            name,
            "--listen",
            &listen,
            "--store",
            &store,
            "--catalog",
            &catalog,
            "--log",
            &log,
            "--kafka-replicas",
            &replicas,
            "--log-format",
            "json",
        ];
        Spec {
            name: name.to_owned(),
            port,
            program: self.program.clone(),
            arguments: words
                .iter()
                .chain(more)
                .map(|word| (*word).to_owned())
                .chain(self.flags.iter().cloned())
                .collect(),
            environment: vec![
                ("AWS_ENDPOINT_URL_S3", self.s3.clone()),
                ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.clone()),
                ("AWS_ACCESS_KEY_ID", "test".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "testtest".to_owned()),
                ("AWS_REGION", "us-east-1".to_owned()),
                ("AWS_ALLOW_HTTP", "true".to_owned()),
            ],
            log: self.folder.join(format!("{name}.log")),
            folder: self.folder.clone(),
        }
    }
}
