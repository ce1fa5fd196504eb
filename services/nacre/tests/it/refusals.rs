//! What the program must not go on with: a log that lost or changed its topic, services that are not there, let nobody in or
//! break their promises, and places that belong with another store. Each time it says what is wrong, by a code, and what
//! to do.

use crate::harness::{Done, Http, Server, done, nacre};
use crate::{dynamodb, kafka, s3};
use nacre_log::kafka::source::testing::Someone;
use nacre_log::kafka::{KafkaConfig, KafkaUrl};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// A topic as it must be.
const RIGHT: [(&str, &str); 6] = [
    ("message.timestamp.type", "LogAppendTime"),
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("unclean.leader.election.enable", "false"),
    ("min.insync.replicas", "1"),
];
const PARTITIONS: i32 = 2;
/// A start that cannot succeed has said so by then.
const BOUND: Duration = Duration::from_secs(45);

/// A topic, a store on it, and somebody who meddles with the topic.
struct World {
    folder: tempfile::TempDir,
    url: String,
    operator: Someone,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Option<Self> {
        let url = kafka::url(&kafka::broker()?);
        let config = KafkaConfig { replicas: 1, ..KafkaConfig::new(&KafkaUrl::parse(&url).unwrap()) };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let operator = runtime.block_on(Someone::with_topic(&config, PARTITIONS, &RIGHT)).unwrap();
        Some(Self { folder: tempfile::tempdir().unwrap(), url, operator, runtime })
    }

    fn words(&self) -> [&str; 6] {
        ["--log", &self.url, "--kafka-replicas", "1", "--flush-every", "1h"]
    }

    /// A server that flushes nothing by itself.
    fn start(&self) -> Server {
        Server::start(self.folder.path(), &self.words())
    }

    /// A start that is refused, within the bound.
    fn refused(&self, data: &str) -> Done {
        let mut command = nacre(self.folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", data]).args(self.words());
        in_time(&mut command)
    }

    fn status(&self) -> String {
        let words = ["log", "status", "--data", "data", "--log", &self.url, "--kafka-replicas", "1"];
        let said = done(nacre(self.folder.path()).args(words));
        assert_ne!(said.code, 0, "an alarm may run it: {said:?}");
        said.stdout + &said.stderr
    }

    fn make_again(&self) {
        self.runtime.block_on(self.operator.delete()).unwrap();
        self.runtime.block_on(self.operator.make(PARTITIONS, &RIGHT)).unwrap();
    }

    fn set_retention(&self, value: &str) {
        let mut settings = RIGHT;
        settings.iter_mut().filter(|(name, _)| *name == "retention.ms").for_each(|(_, is)| *is = value);
        self.runtime.block_on(self.operator.set(&settings)).unwrap();
    }
}

/// Runs a command that must end by itself soon.
pub(crate) fn in_time(command: &mut Command) -> Done {
    let begun = Instant::now();
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > BOUND {
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            panic!("it did not end within {BOUND:?}: {:?}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Done::of(&child.wait_with_output().unwrap())
}

/// Asks again and again until the answer fails with `code`; answers what it says then.
fn until_refused(server: &Server, words: &[&str], code: &str) -> String {
    let begun = Instant::now();
    loop {
        let said = server.ask(words);
        if said.code != 0 && said.stderr.contains(code) {
            return said.stderr;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{words:?} never fails with {code}: {said:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// All of these stand in a text.
pub(crate) fn says(text: &str, wanted: &[&str]) {
    for one in wanted {
        assert!(text.contains(one), "{one:?} is not in: {text}");
    }
}

#[test]
fn a_topic_that_is_made_again_stops_a_server_and_no_server_starts_on_it() {
    let Some(w) = World::new() else { return };
    let server = w.start();
    server.ask(&["table", "create", "t"]).well();
    server.ask(&["put", "t", "k", "v"]).well();
    w.make_again();
    let advice = ["deleted and made again", "point log at the right one"];
    says(&until_refused(&server, &["put", "t", "k", "w"], "log-topic-recreated"), &advice);
    says(
        &until_refused(&server, &["get", "t", "k", "--consistency", "strong"], "log-topic-recreated"),
        &advice,
    );
    server.kill();
    says(&w.refused("data").badly(2), &["store-identity", "id ", "start it with the former"]);
    says(&w.status(), &["another topic"]);
}

#[test]
fn records_that_are_deleted_before_they_are_flushed_stop_who_needs_them() {
    let Some(w) = World::new() else { return };
    let first = w.start();
    first.ask(&["table", "create", "t"]).well();
    first.ask(&["put", "t", "k", "v"]).well();
    // The second misses what was written while it slept.
    let second = w.start();
    second.ask(&["get", "t", "k", "--consistency", "strong"]).well();
    second.signal("STOP");
    let http = Http::of(&first);
    for n in 0..50 {
        let path = format!("/v1/namespaces/default/tables/t/rows/k{n}");
        assert_eq!(http.ask("PUT", &path, vec![b'v'; 200_000]).0, 204);
    }
    w.runtime.block_on(w.operator.empty(PARTITIONS)).unwrap();
    second.signal("CONT");
    let advice = ["deleted by retention or by hand", "nacre log status", "nacre log resume"];
    says(&until_refused(&second, &["put", "t", "k", "w"], "log-lost"), &advice);
    says(&until_refused(&second, &["get", "t", "k", "--consistency", "strong"], "log-lost"), &advice);
    second.kill();
    first.kill();
    says(&w.status(), &["lost"]);
    let said = w.refused("data");
    assert_ne!(said.code, 0, "{said:?}");
    says(&said.stderr, &["log-lost"]);
    says(&said.stderr, &advice);
}

#[test]
fn a_topic_that_is_told_to_forget_takes_no_writes_until_it_is_mended() {
    let Some(w) = World::new() else { return };
    let server = w.start();
    server.ask(&["table", "create", "t"]).well();
    server.ask(&["put", "t", "k", "v"]).well();
    w.set_retention("86400000");
    let advice = ["retention.ms is 86400000 and must be -1", "mend the topic"];
    says(&until_refused(&server, &["put", "t", "k", "w"], "log-topic-settings"), &advice);
    // What is there is read; nothing is lost yet.
    assert!(["v", "w"].contains(&server.ask(&["get", "t", "k"]).well().as_str()));
    says(&w.status(), &["retention.ms"]);
    let refused = w.refused("data").badly(2);
    says(&refused, &["log-topic-settings"]);
    says(&refused, &advice);
    w.set_retention("-1");
    let begun = Instant::now();
    while server.ask(&["put", "t", "k", "x"]).code != 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the topic is mended, and writes are still refused"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.ask(&["get", "t", "k", "--consistency", "strong"]).well(), "x");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_topic_serves_one_store() {
    let Some(w) = World::new() else { return };
    let server = w.start();
    server.ask(&["table", "create", "t"]).well();
    server.ask(&["put", "t", "k", "v"]).well();
    let said = w.refused("other").badly(2);
    says(&said, &["log-topic-used", "another store", "nacre topic create"]);
    assert!(!w.folder.path().join("other/identity").exists(), "what is refused leaves no mark");
    // Its own store may be started again, flushed or not.
    server.kill();
    let server = w.start();
    assert_eq!(server.ask(&["get", "t", "k"]).well(), "v");
    assert_eq!(server.stop(), 0);
}

#[test]
fn services_that_are_not_there_are_named_with_the_variable_that_leads_to_them() {
    let folder = tempfile::tempdir().unwrap();
    // Where nobody listens, and where somebody does who never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for address in ["127.0.0.1:9", &*silent] {
        let endpoint = format!("http://{address}");
        let mut command = s3::over(folder.path(), &endpoint, "testtest");
        command.args(["serve", "--listen", "127.0.0.1:0", "--store", "s3://nacre-test/x"]);
        let said = in_time(&mut command).badly(1);
        says(&said, &[&endpoint, "AWS_ENDPOINT_URL_S3"]);
        let mut command = dynamodb::over(folder.path(), &endpoint);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--catalog", "dynamodb://nacre"]);
        let said = in_time(&mut command).badly(1);
        says(&said, &[&endpoint, "AWS_ENDPOINT_URL_DYNAMODB"]);
        let log = format!("kafka://{address}/nacre");
        let mut command = nacre(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--log", &log]);
        let said = in_time(&mut command).badly(1);
        says(&said, &["log-unreachable", address, "NACRE_LOG", "kafka_security"]);
    }
    assert!(!folder.path().join("data/identity").exists(), "what is refused leaves no mark");
}

/// A server that answers every request with the same bytes.
fn always(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    serve(listener, move |_, _| answer.as_bytes().to_vec());
    endpoint
}

/// Answers each request, head and body, on a connection of its own, for as long as the test runs.
fn serve(listener: TcpListener, answer: impl Fn(String, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) {
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), answer) = (stream, answer.clone()) else { return };
            std::thread::spawn(move || {
                let Some((head, body)) = request(&mut stream) else { return };
                let _ = stream.write_all(&answer(head, body));
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
}

fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut part) = (Vec::new(), vec![0; 65_536]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let whole = end + 4 + length.unwrap_or(0);
            if bytes.len() >= whole {
                return Some((head, bytes[end + 4..whole].to_vec()));
            }
        }
        match stream.read(&mut part) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&part[..read]),
            _ => return None,
        }
    }
}

/// Sends a request on to `upstream`, a `host:port`, without the headers that `drops` names.
fn forward(upstream: &str, head: &str, body: &[u8], drops: &[&str]) -> Vec<u8> {
    let kept = head.split("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name != "connection" && !drops.contains(&name.as_str())
    });
    let mut request = kept.collect::<Vec<_>>().join("\r\n").into_bytes();
    request.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    request.extend_from_slice(body);
    let mut stream = TcpStream::connect(upstream).unwrap();
    stream.write_all(&request).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn keys_that_are_not_good_are_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    // The servers that tests have take any keys: DynamoDB's own words.
    let endpoint = always(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 132\r\n\
         connection: close\r\n\r\n{\"__type\":\"com.amazon.coral.service#UnrecognizedClientException\",\
         \"message\":\"The security token included in the request is invalid.\"}",
    );
    let mut command = dynamodb::over(folder.path(), &endpoint);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--catalog", "dynamodb://nacre"]);
    let said = in_time(&mut command).badly(1);
    says(&said, &["catalog-credentials", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", &endpoint]);
    assert!(!said.contains("canary"), "{said}");
    for (_, endpoint) in s3::servers().into_iter().filter(|(name, _)| name == "versitygw") {
        let url = s3::place(&endpoint, s3::BUCKET);
        let mut command = s3::over(folder.path(), &endpoint, "canary-secret");
        command.args(["serve", "--listen", "127.0.0.1:0", "--store", &url]);
        let said = in_time(&mut command).badly(1);
        says(&said, &["store-credentials", "AWS_SECRET_ACCESS_KEY"]);
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn a_store_without_conditional_writes_is_refused() {
    for (name, endpoint) in s3::servers() {
        let url = s3::place(&endpoint, s3::BUCKET);
        let upstream = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let signs = name == "versitygw";
        serve(listener, move |head, body| {
            if !signs {
                // It checks no signature, so the conditions can be taken out of the request.
                return forward(&upstream, &head, &body, &["if-none-match", "if-match"]);
            }
            // It does: so it is its answer that lies.
            let answer = forward(&upstream, &head, &body, &[]);
            match answer.strip_prefix(b"HTTP/1.1 412") {
                Some(_) => b"HTTP/1.1 200 OK\r\netag: \"00000000000000000000000000000000\"\r\n\
                            content-length: 0\r\nconnection: close\r\n\r\n"
                    .to_vec(),
                None => answer,
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let mut command = s3::over(folder.path(), &proxy, "testtest");
        command.args(["serve", "--listen", "127.0.0.1:0", "--store", &url]);
        let said = in_time(&mut command).badly(2);
        says(&said, &["store-unfit", "put if absent", "use another store"]);
        // Without the proxy in between it is fit, and no mark is left.
        let start = || {
            Server::start_by(
                s3::over(folder.path(), &endpoint, "testtest"),
                folder.path(),
                &["--store", &url],
            )
        };
        assert_eq!(start().stop(), 0, "{name}");
    }
}

/// One of DynamoDB's requests, by nobody in particular: these servers look at no signature.
fn dynamo(endpoint: &str, operation: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    nacre_tls::install_provider();
    runtime.block_on(async {
        let request = reqwest::Client::new()
            .post(endpoint)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header("x-amz-date", "20200101T000000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, \
                 Signature=00",
            );
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    })
}

#[test]
fn a_catalog_that_is_gone_or_made_again_is_not_this_stores() {
    for (name, endpoint) in dynamodb::servers() {
        let folder = tempfile::tempdir().unwrap();
        let url = dynamodb::new_url();
        let table = url.strip_prefix("dynamodb://").unwrap();
        let command = |data: &str| {
            let mut command = dynamodb::over(folder.path(), &endpoint);
            command.args(["serve", "--listen", "127.0.0.1:0", "--data", data, "--catalog", &url]);
            command
        };
        let server =
            Server::start_by(dynamodb::over(folder.path(), &endpoint), folder.path(), &["--catalog", &url]);
        server.ask(&["table", "create", "t"]).well();
        server.ask(&["put", "t", "k", "v"]).well();
        assert_eq!(server.stop(), 0, "{name}");
        let named = json!({ "TableName": table });
        let (_, told) = dynamo(
            &endpoint,
            "UpdateTable",
            json!({ "TableName": table, "DeletionProtectionEnabled": false }),
        );
        let (status, deleted) = dynamo(&endpoint, "DeleteTable", named.clone());
        assert_eq!(status, 200, "{name}: {told} {deleted}");
        let begun = Instant::now();
        while dynamo(&endpoint, "DescribeTable", named.clone()).0 == 200 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{name}: the table is not deleted");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Twice: the first start may have made the table anew.
        for _ in 0..2 {
            let said = in_time(&mut command("data"));
            assert_ne!(said.code, 0, "{name}: {said:?}");
            says(&said.stderr, &["store-identity", "belongs with the catalog"]);
        }
        assert!(folder.path().join("data/identity").exists());
        // Another store may have the name.
        let other = Server::start_by(
            dynamodb::over(folder.path(), &endpoint),
            folder.path(),
            &["--catalog", &url, "--store", "file:./other"],
        );
        assert_eq!(other.stop(), 0, "{name}");
        says(&in_time(&mut command("data")).stderr, &["catalog-identity", "one table serves one store"]);
        says(&in_time(&mut command("third")).badly(2), &["catalog-identity", "one table serves one store"]);
    }
}
