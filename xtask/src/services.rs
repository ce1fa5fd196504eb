//! The servers that tests ask: installed once, started on free ports over a temporary folder, stopped by their process
//! ids. One that cannot be had is told, and the tests that want it say that they were skipped.

use crate::acceptance::certificates::Certificates;
use crate::acceptance::stand_in::{PASSWORD, USER};
use crate::{Outcome, cache};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const VERSITYGW: &str = "versitygw";
const MINISTACK: &str = "ministack";
const KAFKA: &str = "Kafka";
pub(crate) const DYNAMODB_LOCAL: &str = "dynamodb-local";

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(60);

/// The servers that are installed.
#[derive(Default)]
pub(crate) struct Services {
    versitygw: Option<PathBuf>,
    ministack: Option<PathBuf>,
    dynamodb_local: Option<PathBuf>,
    /// The folder of its jars.
    kafka: Option<PathBuf>,
    /// Likewise of what Spark needs for S3.
    spark_s3a: Option<PathBuf>,
    /// They run for longer than tests do: Java compiles as well as it can, which pays after some seconds.
    run_long: bool,
}

impl Services {
    /// Installs what is missing.
    pub(crate) fn installed() -> Self {
        let told = |name: &str, found: Outcome<PathBuf>| {
            found.map_err(|error| eprintln!("NOTICE: no {name} for the tests: {error}")).ok()
        };
        Self {
            versitygw: told("versitygw", cache::versitygw()),
            ministack: told("ministack", cache::ministack()),
            dynamodb_local: told("DynamoDB Local", cache::dynamodb_local()),
            kafka: told("Kafka", cache::kafka()),
            spark_s3a: told("S3A for Spark", cache::spark_s3a()),
            run_long: false,
        }
    }

    /// Those that a production stack is made of: a store, a catalog and a log.
    pub(crate) fn of_a_stack() -> Outcome<Self> {
        Ok(Self {
            versitygw: Some(cache::versitygw()?),
            ministack: None,
            dynamodb_local: Some(cache::dynamodb_local()?),
            kafka: Some(cache::kafka()?),
            run_long: true,
            ..Self::default()
        })
    }

    /// A store alone.
    pub(crate) fn of_a_store() -> Outcome<Self> {
        Ok(Self { versitygw: Some(cache::versitygw()?), run_long: true, ..Self::default() })
    }

    /// All but Kafka: whoever wants several brokers starts them by hand.
    pub(crate) fn without_kafka(self) -> Self {
        Self { kafka: None, ..self }
    }

    /// The folder of Kafka's jars, for tests that start brokers of their own.
    pub(crate) fn kafka_jars(&self) -> Option<&Path> {
        self.kafka.as_deref()
    }

    /// The S3 server's program, for tests that start one of their own.
    pub(crate) fn versitygw(&self) -> Option<&Path> {
        self.versitygw.as_deref()
    }

    /// The folder of the jars with which Spark reads and writes S3, for tests that start a session of their own.
    pub(crate) fn spark_s3a_jars(&self) -> Option<&Path> {
        self.spark_s3a.as_deref()
    }

    /// Starts them, on a folder that goes with them.
    pub(crate) fn start(&self) -> Running {
        let Ok(folder) = tempfile::tempdir() else {
            eprintln!("NOTICE: no temporary folder, and so no servers for the tests");
            return Running { servers: Vec::new(), folder: None };
        };
        let mut running = self.start_in(folder.path());
        running.folder = Some(folder);
        running
    }

    /// Starts them on a folder that stays.
    pub(crate) fn start_in(&self, folder: &Path) -> Running {
        self.start_secured_in(folder, None)
    }

    /// Likewise; with certificates Kafka wants SASL_SSL and the S3 server https.
    pub(crate) fn start_secured_in(&self, folder: &Path, certificates: Option<&Certificates>) -> Running {
        let mut running = Running { servers: Vec::new(), folder: None };
        let wanted = [
            self.versitygw.as_ref().map(|program| (VERSITYGW, versitygw(program, folder, certificates))),
            self.ministack.as_ref().map(|program| (MINISTACK, ministack(program, folder))),
            self.dynamodb_local
                .as_ref()
                .map(|jars| (DYNAMODB_LOCAL, dynamodb_local(jars, folder, self.run_long))),
            self.kafka.as_ref().map(|jars| (KAFKA, kafka(jars, folder, self.run_long, certificates))),
        ];
        for (name, started) in wanted.into_iter().flatten() {
            match started.and_then(|(command, port)| Server::start(name, command, port)) {
                Ok(mut server) => {
                    server.is_secured = name == VERSITYGW && certificates.is_some();
                    running.servers.push(server);
                }
                Err(error) => eprintln!("NOTICE: no {name} for the tests: {error}"),
            }
        }
        running
    }
}

fn versitygw(program: &Path, folder: &Path, certificates: Option<&Certificates>) -> Outcome<(Command, u16)> {
    let (port, data, versions) = (free_port()?, folder.join("versitygw"), folder.join("versitygw-versions"));
    for folder in [&data, &versions] {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command.args(["--port", &format!("127.0.0.1:{port}"), "--quiet", "--keep-alive"]);
    if let Some(certificates) = certificates {
        command.arg("--cert").arg(certificates.own()).arg("--key").arg(certificates.key());
    }
    command
        .args(["posix", "--versioning-dir"])
        .arg(versions)
        .arg(data)
        .env("ROOT_ACCESS_KEY", "test")
        .env("ROOT_SECRET_KEY", "testtest")
        // Its heap is small and each GET makes a buffer: collected as by default, half of its time goes there, on the
        // processors that what is tested has.
        .env("GOGC", "1000")
        .env("GOMEMLIMIT", "1GiB");
    Ok((command, port))
}

fn ministack(program: &Path, folder: &Path) -> Outcome<(Command, u16)> {
    let port = free_port()?;
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("BIND_HOST", "127.0.0.1")
        .env("SERVICES", "s3,dynamodb")
        .env("GATEWAY_PORT", port.to_string())
        .env("LOG_LEVEL", "WARNING");
    Ok((command, port))
}

/// How Java compiles.
fn compiler(run_long: bool) -> Option<&'static str> {
    (!run_long).then_some("-XX:TieredStopAtLevel=1")
}

/// In memory: what it holds goes with it.
fn dynamodb_local(jars: &Path, folder: &Path, run_long: bool) -> Outcome<(Command, u16)> {
    let port = free_port()?;
    let mut command = Command::new("java");
    command
        .current_dir(folder)
        .args(["-Xmx256m", "-XX:+UseSerialGC"])
        .args(compiler(run_long))
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg("software.amazon.dynamodb.services.local.main.ServerRunner")
        .args(["-inMemory", "-disableTelemetry", "-port", &port.to_string()]);
    Ok((command, port))
}

/// A broker that is its own controller, on a folder that is made ready for it.
fn kafka(
    jars: &Path,
    folder: &Path,
    run_long: bool,
    certificates: Option<&Certificates>,
) -> Outcome<(Command, u16)> {
    let (port, control) = (free_port()?, free_port()?);
    let listener = if certificates.is_some() { "SASL_SSL" } else { "PLAINTEXT" };
    let mut settings = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
listeners={listener}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
advertised.listeners={listener}://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name={listener}
listener.security.protocol.map={listener}:{listener},CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
",
        folder.join("kafka").display()
    );
    if let Some(certificates) = certificates {
        settings += &by_password(certificates);
    }
    let file = folder.join("kafka.properties");
    std::fs::write(&file, settings).map_err(|error| format!("{}: {error}", file.display()))?;
    let java = |class: &str| {
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC"])
            .args(compiler(run_long))
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .arg(class);
        command
    };
    let mut format = java("kafka.tools.StorageTool");
    format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&file);
    if certificates.is_some() {
        format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]")]);
    }
    let format = format.output().map_err(|error| format!("java: {error}"))?;
    if !format.status.success() {
        return Err(format!("its folder cannot be made ready: {}", String::from_utf8_lossy(&format.stderr)));
    }
    let mut command = java("kafka.Kafka");
    command.arg(&file);
    Ok((command, port))
}

/// What a broker is told that speaks SASL_SSL to its one user.
fn by_password(certificates: &Certificates) -> String {
    let (both, authority) = (certificates.both(), certificates.authority());
    format!(
        "sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"{USER}\" password=\"{PASSWORD}\";
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
",
        both.display(),
        authority.display()
    )
}

/// A port that nobody listens at now. It lies below those that the system gives to outgoing connections: one of them could
/// take it before the server does whom it is meant for, or while that is started again.
pub(crate) fn free_port() -> Outcome<u16> {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    // Processes that ask at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let port = FIRST + begin.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Ok(port) = u16::try_from(port)
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
        {
            return Ok(port);
        }
    }
    Err(format!("no port from {FIRST} to {} is free", FIRST + COUNT))
}

/// The servers that run; stopped when dropped.
pub(crate) struct Running {
    servers: Vec<Server>,
    /// Held: it goes after the servers.
    folder: Option<tempfile::TempDir>,
}

impl Running {
    /// `name=url` of the S3 servers, with spaces between.
    pub(crate) fn s3_endpoints(&self) -> Option<String> {
        self.endpoints(&[VERSITYGW, MINISTACK])
    }

    /// Likewise of those of DynamoDB.
    pub(crate) fn dynamodb_endpoints(&self) -> Option<String> {
        self.endpoints(&[DYNAMODB_LOCAL, MINISTACK])
    }

    fn endpoints(&self, names: &[&str]) -> Option<String> {
        let list: Vec<String> = self
            .servers
            .iter()
            .filter(|server| names.contains(&server.name))
            .map(|server| format!("{}=http://127.0.0.1:{}", server.name, server.port))
            .collect();
        (!list.is_empty()).then(|| list.join(" "))
    }

    /// `host:port` of the broker.
    pub(crate) fn kafka_address(&self) -> Option<String> {
        let broker = self.servers.iter().find(|server| server.name == KAFKA)?;
        Some(format!("127.0.0.1:{}", broker.port))
    }
}

struct Server {
    name: &'static str,
    port: u16,
    /// It speaks https.
    is_secured: bool,
    child: Child,
}

impl Server {
    fn start(name: &'static str, mut command: Command, port: u16) -> Outcome<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Self { name, port, is_secured: false, child };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("it ended at its start: {status}"));
            }
            if begun.elapsed() > START {
                return Err(format!("it does not listen after {} s", START.as_secs()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Running {
    /// The URL of one of them.
    pub(crate) fn url(&self, name: &str) -> Option<String> {
        let server = self.servers.iter().find(|server| server.name == name)?;
        let scheme = if server.is_secured { "https" } else { "http" };
        Some(format!("{scheme}://127.0.0.1:{}", server.port))
    }

    /// Their processes, by name.
    pub(crate) fn processes(&self) -> Vec<(&'static str, u32)> {
        self.servers.iter().map(|server| (server.name, server.child.id())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
