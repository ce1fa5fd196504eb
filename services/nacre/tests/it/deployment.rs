//! The first deployment of `docs/operating.md`, step by step, with the files of `deploy/` and real services; and whether the
//! policies of `deploy/iam/` allow what the code asks for.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Done, Http, Server, done, skipped};
use crate::{dynamodb, kafka, s3};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// What the guide says to run, in its order; the test below does each.
const STEPS: [&str; 14] = [
    "aws s3api create-bucket",
    "deploy/iam/writer.json",
    "nacre config check --config /etc/nacre/nacre.toml",
    "nacre topic create --partitions 16 --config /etc/nacre/nacre.toml",
    "systemctl enable --now nacre@writer",
    "/readyz",
    "nacre doctor --config /etc/nacre/nacre.toml",
    "nacre log status --config /etc/nacre/nacre.toml",
    "nacre token create first --bootstrap --config /etc/nacre/nacre.toml",
    "systemctl enable --now nacre@cache",
    "haproxy -c -f deploy/haproxy.cfg",
    "nacre table create first",
    "nacre put first hello world",
    "nacre get first hello --consistency strong",
];

#[test]
fn the_guide_names_the_steps_in_their_order() {
    let guide = text("docs/operating.md");
    let mut rest = guide.split_once("**First deployment.**").unwrap().1;
    for step in STEPS {
        rest = rest.split_once(step).unwrap_or_else(|| panic!("{step:?} is not where it belongs")).1;
    }
}

/// A copy of a file with words replaced, each of which must be there.
fn adapted(path: &str, to: &Path, words: &[(&str, &str)]) {
    let mut text = text(path);
    for (from, to) in words {
        assert!(text.contains(from), "{from:?} is not in {path}");
        text = text.replace(from, to);
    }
    std::fs::write(to, text).unwrap();
}

/// A machine with a settings file, and the variables that lead to emulators.
struct Machine {
    folder: tempfile::TempDir,
    s3: String,
    dynamodb: String,
}

impl Machine {
    fn command(&self) -> Command {
        let mut command = s3::over(self.folder.path(), &self.s3, "testtest");
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb);
        command
    }

    /// A line of the guide, whose file stands elsewhere here.
    fn run(&self, line: &str, server: Option<&Server>) -> Done {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let words =
            words.into_iter().map(|word| if word == "/etc/nacre/nacre.toml" { "nacre.toml" } else { word });
        let mut command = self.command();
        command.args(words);
        if let Some(server) = server {
            command.env("NACRE_SERVER", &server.api);
        }
        done(&mut command)
    }

    /// What systemd runs for a role, but for where the program and its settings lie.
    fn start(&self, role: &str) -> Server {
        let unit = text("deploy/systemd/nacre@.service");
        let line =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/nacre ")).unwrap();
        let line = line.replace("%i", role).replace("/etc/nacre/nacre.toml", "nacre.toml");
        let mut command = self.command();
        command.args(line.split(' ')).env("NACRE_NAME", role).env("NACRE_SHUTDOWN_GRACE", "5s");
        Server::spawn(command, self.folder.path())
    }
}

/// A process; killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_first_deployment_goes_as_the_guide_says() {
    let Some((_, s3)) = s3::servers().into_iter().next() else { return };
    let Some((_, dynamodb)) = dynamodb::servers().into_iter().next() else { return };
    let Some(broker) = kafka::broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { folder, s3, dynamodb };
    // 1 to 3: a bucket, which these servers let anybody use, and the settings.
    let (store, catalog, log) =
        (s3::place(&machine.s3, s3::BUCKET), dynamodb::new_url(), kafka::url(&broker));
    let file = machine.folder.path().join("nacre.toml");
    let words = [
        ("s3://my-bucket/nacre", &*store),
        ("dynamodb://nacre", &catalog),
        ("kafka://b1:9092,b2:9092,b3:9092/nacre", &log),
        ("kafka_replicas = 3", "kafka_replicas = 1"),
        ("0.0.0.0:8790", "127.0.0.1:0"),
    ];
    adapted("deploy/nacre.toml", &file, &words);
    let [_, _, check, topic, _, _, doctor, status, bootstrap, _, _, table, put, get] = STEPS;
    machine.run(check, None).well();
    // 4 and 5.
    machine.run(topic, None).well();
    let first = machine.start("writer");
    let begun = Instant::now();
    while Http::of(&first).ask("GET", "/readyz", "").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the first process is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    // 6.
    machine.run(doctor, Some(&first)).well();
    machine.run(status, None).well();
    let operator = machine.run(bootstrap, None).well();
    // 7.
    let mut servers: Vec<Server> =
        ["cache", "loader", "maintainer", "dispatcher"].iter().map(|role| machine.start(role)).collect();
    let dispatcher = servers.pop().unwrap();
    // 8.
    let address = dispatcher.api.strip_prefix("http://").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let balancer = machine.folder.path().join("haproxy.cfg");
    let words = [
        ("bind :80", &*format!("bind 127.0.0.1:{port}")),
        ("10.0.0.11:8790", address),
        ("10.0.0.12:8790", "127.0.0.1:9"),
        // Twice as many open files as connections: more than a test may have.
        ("maxconn 20000", "maxconn 500"),
    ];
    adapted("deploy/haproxy.cfg", &balancer, &words);
    let haproxy = |words: &[&str]| {
        let mut command = Command::new("haproxy");
        command.args(words).arg("-f").arg(&balancer).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let balancing = match haproxy(&["-c"]).status() {
        Err(_) => {
            skipped("haproxy", "no such program; the dispatcher is asked itself");
            None
        }
        Ok(status) => {
            assert!(status.success(), "haproxy does not take deploy/haproxy.cfg");
            let running = Killed(haproxy(&["-db"]).spawn().unwrap());
            let begun = Instant::now();
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(20), "haproxy does not listen");
                std::thread::sleep(Duration::from_millis(50));
            }
            Some(running)
        }
    };
    // 9, as a client elsewhere.
    let api = if balancing.is_some() { format!("http://127.0.0.1:{port}") } else { dispatcher.api.clone() };
    let client = |line: &str| {
        let mut command = machine.command();
        command.args(line.split(' ').skip(1)).env("NACRE_SERVER", &api).env("NACRE_TOKEN", operator.trim());
        command.current_dir("/");
        done(&mut command)
    };
    // The balancer finds within a second who answers, and the dispatcher its cache node.
    let begun = Instant::now();
    while client("nacre namespace list").code != 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", client("nacre namespace list"));
        std::thread::sleep(Duration::from_millis(100));
    }
    client(table).well();
    client(put).well();
    assert_eq!(client(get).well(), "world");
    client("nacre table drop first").well();
    drop(balancing);
    for server in [dispatcher].into_iter().chain(servers).chain([first]) {
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("nacre@cache.service");
    adapted("deploy/systemd/nacre@.service", &unit, &[("/usr/local/bin/nacre", env!("CARGO_BIN_EXE_nacre"))]);
    match Command::new("systemd-analyze").arg("verify").arg(&unit).output() {
        Err(_) => skipped("systemd-analyze", "no such program"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("nacre@"), "{said}");
        }
    }
}

/// The operations that text of the code asks DynamoDB for, and the rights that they want.
fn rights_of_code(folder: &Path, rights: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                rights_of_code(&path, rights);
            }
            continue;
        }
        // Tests stand at the end of a file, or in one of their own; the meter names everything there is.
        if path.file_name().is_some_and(|name| name == "tests.rs" || name == "meter.rs") {
            continue;
        }
        let code = std::fs::read_to_string(&path).unwrap();
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for word in code.split('"').skip(1).step_by(2) {
            let wants: &[&str] = match word {
                "TransactWriteItems" => &["PutItem", "UpdateItem"],
                "TransactGetItems" => &["GetItem"],
                "GetItem" | "PutItem" | "UpdateItem" | "DeleteItem" | "Query" | "Scan" | "BatchGetItem"
                | "BatchWriteItem" | "ConditionCheckItem" | "CreateTable" | "UpdateTable" | "DeleteTable"
                | "DescribeTable" | "DescribeTimeToLive" | "UpdateTimeToLive" | "TagResource" => &[word],
                _ => &[],
            };
            rights.extend(wants.iter().map(|name| format!("dynamodb:{name}")));
        }
    }
}

/// Actions of a policy's statements, with the resources that each is for.
fn actions(policy: &Value) -> Vec<(String, String)> {
    let list = |value: &Value| match value {
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    let mut all = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow", "{statement}");
        for resource in list(&statement["Resource"]) {
            all.extend(list(&statement["Action"]).into_iter().map(|action| (action, resource.clone())));
        }
    }
    all
}

/// Whether a resource with asterisks is, among others, this one.
fn covers(pattern: &str, resource: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == resource,
        Some((start, rest)) => resource
            .strip_prefix(start)
            .is_some_and(|left| (0..=left.len()).any(|skipped| covers(rest, &left[skipped..]))),
    }
}

#[test]
fn policies_allow_what_the_code_asks_for_and_no_more() {
    let mut wanted = BTreeSet::new();
    rights_of_code(&repository("shared/catalog/src/dynamo"), &mut wanted);
    let first: Value = serde_json::from_str(&text("deploy/iam/first-start.json")).unwrap();
    let at_first: BTreeSet<String> = actions(&first).into_iter().map(|(action, _)| action).collect();
    for role in ["dispatcher", "cache", "writer", "loader", "maintainer"] {
        let policy: Value = serde_json::from_str(&text(&format!("deploy/iam/{role}.json"))).unwrap();
        let all = actions(&policy);
        let of_dynamodb: BTreeSet<String> = all
            .iter()
            .map(|(action, _)| action.clone())
            .filter(|action| action.starts_with("dynamodb:"))
            .chain(at_first.iter().cloned())
            .collect();
        assert_eq!(of_dynamodb, wanted, "{role}");
        let may = |action: &str, path: &str| {
            let resource = format!("arn:aws:s3:::BUCKET/PREFIX/{path}");
            all.iter().any(|(allowed, on)| allowed == action && covers(on, &resource))
        };
        for path in
            ["identity", "tables/1/p0-1/x.parquet", "staging/1/a", "carried/p0-1/x", "catalog/dynamodb/1/2"]
        {
            assert!(may("s3:GetObject", path) && may("s3:GetObjectVersion", path), "{role} reads {path}");
        }
        for action in ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] {
            assert!(may(action, "probe/1"), "{role}: {action} of the probe");
        }
        assert!(may("s3:PutObject", "identity"), "{role} may be the first");
        // Who makes objects where; the maintainer alone deletes others than the probe's, and only garbage.
        let writes: &[&str] = match role {
            "dispatcher" => &["staging/1/a", "catalog/dynamodb/1/2", "tables/1/manifests/1"],
            "cache" => &[],
            "writer" => &["tables/1/p0-1/x.parquet", "carried/p0-1/x", "catalog/dynamodb/1/2"],
            _ => &["tables/1/2/x.parquet", "catalog/dynamodb/1/2"],
        };
        for path in writes {
            assert!(may("s3:PutObject", path), "{role} writes {path}");
        }
        for path in
            ["identity", "tables/1/p0-1/x.parquet", "staging/1/a", "carried/p0-1/x", "catalog/dynamodb/1/2"]
        {
            let collects =
                role == "maintainer" && (path.starts_with("tables/") || path.starts_with("staging/"));
            assert_eq!(may("s3:DeleteObject", path), collects, "{role} deletes {path}");
            assert!(
                role != "cache" || path == "identity" || !may("s3:PutObject", path),
                "a cache node writes {path}"
            );
        }
        assert!(
            !of_dynamodb.contains("dynamodb:DeleteItem")
                && !all.iter().any(|(action, _)| action.contains('*'))
        );
    }
}
