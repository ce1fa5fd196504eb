//! Brokers of a test's own, to be killed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The folder of Kafka's jars; says so where there is none.
pub(crate) fn jars() -> Option<PathBuf> {
    let home = std::env::var_os("NACRE_TEST_KAFKA_HOME").map(PathBuf::from);
    if home.is_none() {
        println!(
            "NOTICE: skipped, NACRE_TEST_KAFKA_HOME is not set (a folder of Kafka's jars; cargo xtask test has one)"
        );
    }
    home
}

/// Brokers that are their own controllers; killed when dropped.
pub(crate) struct Cluster {
    jars: PathBuf,
    brokers: Vec<Broker>,
}

struct Broker {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

/// A port that nobody listens at now, below those that the system gives to outgoing connections: one of them could take it
/// before the server does that it is for.
fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id().wrapping_mul(7_919) % 20_000).unwrap();
    (0..20_000)
        .map(|_| 12_000 + (begin + ASKED.fetch_add(1, Ordering::Relaxed) % 20_000) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
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

impl Cluster {
    /// Starts `count` brokers and waits until they listen.
    pub(crate) async fn start(jars: &Path, count: usize) -> Self {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let voters: Vec<String> =
            (1..).zip(&ports).map(|(id, (_, control))| format!("{id}@127.0.0.1:{control}")).collect();
        let mut cluster = Self { jars: jars.to_owned(), brokers: Vec::new() };
        for (id, (port, control)) in (1..).zip(ports) {
            let folder = tempfile::tempdir().unwrap();
            let settings = settings(id, port, control, &voters.join(","), count, &folder.path().join("data"));
            let properties = folder.path().join("server.properties");
            std::fs::write(&properties, settings).unwrap();
            let formatted = java(jars, "kafka.tools.StorageTool")
                .args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
                .arg(&properties)
                .status()
                .unwrap();
            assert!(formatted.success(), "a broker's folder cannot be made ready");
            let child = java(jars, "kafka.Kafka").arg(&properties).spawn().unwrap();
            cluster.brokers.push(Broker { folder, child, port });
        }
        for broker in &mut cluster.brokers {
            broker.listens().await;
        }
        cluster
    }

    /// All of them, as a URL names them.
    pub(crate) fn address(&self) -> String {
        let all: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        all.join(",")
    }

    /// As a power cut ends it, but for what the system still holds in memory.
    pub(crate) fn kill(&mut self, number: usize) {
        let broker = &mut self.brokers[number];
        broker.child.kill().unwrap();
        broker.child.wait().unwrap();
    }

    /// The same broker on the same folder.
    pub(crate) async fn start_again(&mut self, number: usize) {
        let broker = &mut self.brokers[number];
        let properties = broker.folder.path().join("server.properties");
        broker.child = java(&self.jars, "kafka.Kafka").arg(&properties).spawn().unwrap();
        broker.listens().await;
    }
}

fn settings(id: usize, port: u16, control: u16, voters: &str, count: usize, data: &Path) -> String {
    format!(
        "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
         auto.create.topics.enable=false\noffsets.topic.replication.factor={count}\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor={count}\ntransaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor={count}\nshare.coordinator.state.topic.min.isr=1\n\
         broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n",
        data.display(),
    )
}

impl Broker {
    async fn listens(&mut self) {
        for _ in 0..1_200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the broker ended at its start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the broker does not listen");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
