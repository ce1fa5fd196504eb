//! A fleet of processes that speaks TLS to everybody: to brokers by SASL_SSL, to S3 and its own clients by https, between
//! its processes with certificates of both sides. And what it says where a password, a certificate or a port is wrong.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::bad_files::{load, said_to_be_sorted};
use crate::harness::{Done, Http, Server, done, skipped};
use crate::refusals::{in_time, says};
use crate::{dynamodb, s3};

const TABLE: &str = "/v1/namespaces/default/tables/t";
const PASSWORD: &str = "canary-of-the-brokers";
const MECHANISMS: [&str; 2] = ["scram-sha-256", "scram-sha-512"];

fn names(who: &str, sans: &[&str]) -> CertificateParams {
    let sans: Vec<String> = sans.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(sans).unwrap();
    params.distinguished_name.push(DnType::CommonName, who);
    params
}

/// An authority in `<name>-ca.pem`, and a certificate of its for this machine in `<name>.pem` and `<name>.key`.
fn certificates(folder: &Path, name: &str) {
    let mut params = names(&format!("{name} authority"), &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = names(name, &["127.0.0.1", "localhost"]).signed_by(&key, &ca).unwrap();
    std::fs::write(folder.join(format!("{name}-ca.pem")), ca.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), own.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    // As brokers want it: the key and the certificates in one file.
    let both = key.serialize_pem() + &own.pem() + &ca.pem();
    std::fs::write(folder.join(format!("{name}.both")), both).unwrap();
}

/// A process; killed when dropped.
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut service = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(service.child.try_wait().unwrap().is_none(), "it ended at its start: {command:?}");
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not listen: {command:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

/// A broker that speaks nothing but SASL_SSL to clients, with one user.
fn broker(jars: &Path, folder: &Path) -> Service {
    let (port, control, at) = (free_port(), free_port(), folder.display());
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required";
    let settings = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{control}\n\
         listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}\n\
         advertised.listeners=SASL_SSL://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=SASL_SSL\n\
         listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
         sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512\n\
         sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n\
         listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={module};\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module} username=\"nacre\" password=\"{PASSWORD}\";\n\
         ssl.keystore.type=PEM\nssl.keystore.location={at}/brokers.both\n\
         ssl.truststore.type=PEM\nssl.truststore.location={at}/brokers-ca.pem\nlog.dirs={at}/kafka\n\
         auto.create.topics.enable=false\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n"
    );
    let properties = folder.join("server.properties");
    std::fs::write(&properties, settings).unwrap();
    let java = |class: &str| {
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", jars.display()))
            .arg(class);
        command
    };
    let mut format = java("kafka.tools.StorageTool");
    format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&properties);
    for mechanism in MECHANISMS {
        let user = format!("{}=[name=nacre,password={PASSWORD}]", mechanism.to_uppercase());
        format.args(["--add-scram", &user]);
    }
    let formatted = format.output().unwrap();
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
    let mut command = java("kafka.Kafka");
    command.arg(&properties);
    Service::start(command, port)
}

/// A server of S3's protocol over https, with one bucket.
fn s3_over_https(program: &Path, folder: &Path) -> Service {
    let port = free_port();
    let data = folder.join("versitygw");
    std::fs::create_dir_all(data.join(s3::BUCKET)).unwrap();
    let mut command = Command::new(program);
    command
        .args(["--port", &format!("127.0.0.1:{port}"), "--quiet"])
        .arg("--cert")
        .arg(folder.join("web.pem"))
        .arg("--key")
        .arg(folder.join("web.key"))
        .arg("posix")
        .arg(data)
        .env("ROOT_ACCESS_KEY", "test")
        .env("ROOT_SECRET_KEY", "testtest");
    Service::start(command, port)
}

/// A path that a variable names; says so where there is none.
fn path(variable: &str, what: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        skipped(variable, what);
    }
    found
}

struct World {
    folder: tempfile::TempDir,
    broker: Service,
    s3: Service,
    dynamodb: String,
    catalog: String,
}

impl World {
    fn new() -> Option<Self> {
        let jars = path("NACRE_TEST_KAFKA_HOME", "a folder of Kafka's jars")?;
        let versitygw = path("NACRE_TEST_VERSITYGW", "the program versitygw")?;
        let (_, dynamodb) = dynamodb::servers().into_iter().next()?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["brokers", "web", "fleet", "other"] {
            certificates(folder.path(), name);
        }
        let (broker, s3) = (broker(&jars, folder.path()), s3_over_https(&versitygw, folder.path()));
        Some(Self { folder, broker, s3, dynamodb, catalog: dynamodb::new_url() })
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> String {
        format!("kafka://127.0.0.1:{}/nacre", self.broker.port)
    }

    /// The program with all variables that lead to the services.
    fn command(&self) -> Command {
        let endpoint = format!("https://127.0.0.1:{}", self.s3.port);
        let mut command = s3::over(self.folder(), &endpoint, "testtest");
        command
            .env("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb)
            .env("SSL_CERT_FILE", "web-ca.pem")
            .env("NACRE_STORE", format!("s3://{}/tls", s3::BUCKET))
            .env("NACRE_CATALOG", &self.catalog)
            .env("NACRE_LOG", self.log())
            .env("NACRE_KAFKA_REPLICAS", "1")
            .env("NACRE_KAFKA_SECURITY", "sasl_ssl")
            .env("NACRE_KAFKA_MECHANISM", "scram-sha-256")
            .env("NACRE_KAFKA_USER", "nacre")
            .env("NACRE_KAFKA_PASSWORD_FROM", "env:BROKERS_PASSWORD")
            .env("BROKERS_PASSWORD", PASSWORD)
            .env("NACRE_KAFKA_CA_FILE", "brokers-ca.pem");
        command
    }

    /// A process of one role.
    fn start(&self, role: &str) -> Server {
        let mut command = self.command();
        // Half of them by the other hash.
        if role.len().is_multiple_of(2) {
            command.env("NACRE_KAFKA_MECHANISM", "scram-sha-512");
        }
        let words = [
            &["--role", role, "--name", role, "--shutdown-grace", "5s", "--auth", "tokens"][..],
            // Small tables wait for hours otherwise.
            &["--flush-table-size", "1KiB"],
            &["--tls-cert", "web.pem", "--tls-key", "web.key"],
            &[
                "--fleet-tls-cert",
                "fleet.pem",
                "--fleet-tls-key",
                "fleet.key",
                "--fleet-tls-ca",
                "fleet-ca.pem",
            ],
        ];
        let server = Server::start_by(command, self.folder(), &words.concat());
        assert!(server.api.starts_with("https://"), "{}", server.api);
        server
    }

    /// A start that fails.
    fn refused(&self, change: impl FnOnce(&mut Command)) -> Done {
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        change(&mut command);
        in_time(&mut command)
    }

    /// A command against a server.
    fn ask(&self, server: &Server, token: &str, words: &[&str]) -> Done {
        let mut command = s3::over(self.folder(), "", "");
        command
            .args(words)
            .args(["--server", &server.api, "--ca-file", "web-ca.pem"])
            .env("NACRE_TOKEN", token);
        done(&mut command)
    }
}

#[test]
fn everything_goes_over_tls_with_passwords_certificates_and_tokens() {
    let Some(w) = World::new() else { return };
    done(w.command().args(["topic", "create", "--partitions", "4"])).well();
    let writer = w.start("writer");
    let operator = done(w.command().args(["token", "create", "first", "--bootstrap"])).well();
    let operator = operator.trim();
    let others: Vec<Server> = ["cache", "loader", "maintainer"].iter().map(|role| w.start(role)).collect();
    let dispatcher = w.start("dispatcher");
    let ask = |words: &[&str]| w.ask(&dispatcher, operator, words);
    ask(&["table", "create", "t"]).well();
    ask(&["put", "t", "k", "v"]).well();
    assert_eq!(ask(&["get", "t", "k", "--consistency", "strong"]).well(), "v");

    let http = Http::trusting(&dispatcher, &w.folder().join("web-ca.pem"), operator);
    let (status, headers, told) = http.tell("PUT", &format!("{TABLE}/rows/mine"), &[], "own");
    assert_eq!(status, 204, "{told}");
    let token = headers["nacre-token"].to_str().unwrap();
    let (status, headers, _) = http.tell("GET", &format!("{TABLE}/rows/mine"), &[("nacre-token", token)], "");
    assert_eq!(status, 200);
    assert!(headers.contains_key("nacre-nodes"), "another process answered: {headers:?}");
    let rows: Vec<Value> = (0..200).map(|n| json!({ "key": format!("b{n:03}"), "value": "batch" })).collect();
    let (status, told) =
        http.ask("POST", &format!("{TABLE}/rows:batchWrite"), json!({ "rows": rows }).to_string());
    assert_eq!(status, 200, "{told}");
    let (_, page) = http.ask("GET", &format!("{TABLE}/rows?prefix=b&consistency=strong&page_size=1000"), "");
    assert_eq!(page["rows"].as_array().unwrap().len(), 200);
    let rows: Vec<_> = (0..200).map(|n| (format!("l{n:03}"), "loaded".to_owned())).collect();
    let request = json!({ "mode": "merge", "version": "now" });
    let told = load(&http, request, &[("a.parquet", &said_to_be_sorted(&rows))]);
    assert_eq!(told["state"], "committed", "{told}");
    assert_eq!(ask(&["get", "t", "l007", "--consistency", "strong"]).well(), "loaded");

    // A writer that ends in order, and one that is killed: others flush what it had.
    assert_eq!(writer.stop(), 0);
    ask(&["put", "t", "between", "writers"]).well();
    let writer = w.start("writer");
    ask(&["put", "t", "after", "restart"]).well();
    writer.kill();
    let writer = w.start("writer");
    let begun = Instant::now();
    loop {
        let (_, described) = http.ask("GET", TABLE, "");
        if described["segments"].as_u64() > Some(1) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is flushed: {described}");
        std::thread::sleep(Duration::from_millis(100));
    }
    for (key, value) in [("k", "v"), ("between", "writers"), ("after", "restart")] {
        assert_eq!(ask(&["get", "t", key, "--consistency", "strong"]).well(), value);
    }

    // Who speaks plain http, trusts nobody's certificate, or brings no token.
    let plain = dispatcher.api.replace("https:", "http:");
    let said = done(s3::over(w.folder(), "", "").args(["get", "t", "k", "--server", &plain])).badly(2);
    says(&said, &["tls-wanted", "https"]);
    let said =
        done(s3::over(w.folder(), "", "").args(["get", "t", "k", "--server", &dispatcher.api])).badly(1);
    says(&said, &["server-unreachable", "certificate", "ca_file"]);
    says(&w.ask(&dispatcher, "", &["get", "t", "k"]).badly(1), &["token-missing"]);
    for server in others.into_iter().chain([writer, dispatcher]) {
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn a_wrong_password_certificate_or_port_is_told_as_such() {
    let Some(w) = World::new() else { return };
    done(w.command().args(["topic", "create", "--partitions", "4"])).well();
    for mechanism in MECHANISMS {
        let said = w
            .refused(|command| {
                command.env("BROKERS_PASSWORD", "canary-wrong").env("NACRE_KAFKA_MECHANISM", mechanism);
            })
            .badly(1);
        says(&said, &["log-unreachable", "uthentication", "kafka_user"]);
        assert!(!said.contains("canary"), "{said}");
    }
    let said = w
        .refused(|command| {
            command.env("NACRE_KAFKA_CA_FILE", "other-ca.pem");
        })
        .badly(1);
    says(&said, &["log-unreachable", "certificate", "kafka_ca_file"]);
    // In the clear to a port of TLS, and the other way round.
    let plain = ["NACRE_KAFKA_USER", "NACRE_KAFKA_PASSWORD_FROM", "NACRE_KAFKA_MECHANISM"];
    let said = w
        .refused(|command| {
            for name in plain {
                command.env_remove(name);
            }
            command.env("NACRE_KAFKA_SECURITY", "plaintext");
        })
        .badly(1);
    says(&said, &["log-unreachable", "by plaintext", "kafka_security"]);
    if let Some(clear) = crate::kafka::broker() {
        let said = w
            .refused(|command| {
                command.env("NACRE_LOG", format!("kafka://{clear}/nacre"));
            })
            .badly(1);
        says(&said, &["log-unreachable", "SSL", "kafka_security"]);
    }
    let said = w
        .refused(|command| {
            command.env("SSL_CERT_FILE", "other-ca.pem");
        })
        .badly(1);
    says(&said, &["certificate", "AWS_ENDPOINT_URL_S3", "SSL_CERT_FILE"]);
    let endpoint = format!("http://127.0.0.1:{}", w.s3.port);
    let said = w
        .refused(|command| {
            command.env("AWS_ENDPOINT_URL_S3", &endpoint);
        })
        .badly(1);
    says(&said, &[&endpoint, "AWS_ENDPOINT_URL_S3"]);
    // A client that speaks plain HTTP to the API is told so in plain HTTP, or is hung up on, at once.
    let writer = w.start("writer");
    let address = writer.api.strip_prefix("https://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut said).unwrap();
    assert!(!String::from_utf8_lossy(&said).contains("200 OK"), "{said:?}");
    assert_eq!(writer.stop(), 0);
}
