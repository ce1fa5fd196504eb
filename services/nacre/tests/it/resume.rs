//! Logs on Kafka that lost records, and are taken up again. `NACRE_TEST_KAFKA` names a broker.

use crate::harness::{Done, Http, Server, done, nacre};
use crate::kafka::{broker, url};
use nacre_log::kafka::source::testing::Someone;
use nacre_log::kafka::{KafkaConfig, KafkaUrl};
use nacre_runtime::Context;
use nacre_store::{Expected, S3Settings, StoreIdentity};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const TABLE: &str = "/v1/namespaces/default/tables/t";

struct World {
    folder: tempfile::TempDir,
    url: String,
    runtime: Runtime,
    someone: Someone,
}

impl World {
    /// A topic of two partitions; answers its id, too.
    fn new() -> Option<(Self, String)> {
        let url = url(&broker()?);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = KafkaConfig { replicas: 1, ..KafkaConfig::new(&KafkaUrl::parse(&url).unwrap()) };
        let someone = Someone::of(&config).unwrap();
        let world = Self { folder: tempfile::tempdir().unwrap(), url, runtime, someone };
        let id = world.create();
        Some((world, id))
    }

    fn create(&self) -> String {
        let words = ["topic", "create", "--kafka-replicas", "1", "--partitions", "2", "--output", "json"];
        let made = done(nacre(self.folder.path()).args(words).args(["--log", &self.url])).json();
        made["id"].as_str().unwrap().to_owned()
    }

    fn start(&self, every: &str) -> Server {
        let words = ["--log", &self.url, "--kafka-replicas", "1", "--flush-every", every];
        Server::start(self.folder.path(), &words)
    }

    /// A server that is not to start.
    fn serve(&self) -> Done {
        let words = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--kafka-replicas", "1", "--log"];
        done(nacre(self.folder.path()).args(words).arg(&self.url))
    }

    fn log(&self, words: &[&str]) -> Done {
        let more = ["--data", "data", "--kafka-replicas", "1", "--output", "json", "--log"];
        done(nacre(self.folder.path()).arg("log").args(words).args(more).arg(&self.url))
    }

    fn accept(&self) -> Done {
        self.log(&["resume", "--accept-loss", "--by", "the tester"])
    }

    /// Takes it up, and is killed at `point`.
    fn accept_and_die_at(&self, point: &str) {
        let socket = self.folder.path().join(point.replace('/', "-"));
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let words = ["log", "resume", "--accept-loss", "--by", "the tester", "--data", "data"];
        let mut command = nacre(self.folder.path());
        command
            .args(words)
            .args(["--kafka-replicas", "1", "--log", &self.url])
            .arg("--phase-socket")
            .arg(&socket);
        let mut child = command.spawn().unwrap();
        loop {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                let (mut reached, mut stream) = (String::new(), BufReader::new(stream));
                stream.read_line(&mut reached).unwrap();
                if reached.trim() == point {
                    break;
                }
                continue;
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended before {point}: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn partitions(&self) -> Vec<Value> {
        let told = self.log(&["status"]);
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
        told["partitions"].as_array().unwrap().clone()
    }

    /// Waits until all that is in the log is flushed, or carried.
    fn wait_flushed(&self) {
        let begun = Instant::now();
        while self.partitions().iter().any(|one| one["lag"] != 0) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is not flushed");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The partition that holds something, and where it ends.
    fn end(&self) -> (i32, i64) {
        let all = self.partitions();
        let (at, one) =
            all.iter().enumerate().max_by_key(|(_, one)| one["end_offset"].as_u64().unwrap()).unwrap();
        (i32::try_from(at).unwrap(), one["end_offset"].as_i64().unwrap())
    }

    /// As the first release made it.
    fn first_release(&self, id: &str) {
        let (ctx, url) = (Context::system(), format!("file:{}", self.folder.path().join("data").display()));
        let store = nacre_store::open(&url, &S3Settings::default(), &ctx).unwrap();
        let (_, topic) = self.url.rsplit_once('/').unwrap();
        let log = format!("kafka topic {topic}, id {id}");
        let expected = Expected { catalog: "store".into(), log, format_level: 1 };
        self.runtime.block_on(StoreIdentity::open_or_create(&*store, &expected, &ctx)).unwrap();
    }

    fn identity(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("data/identity")).unwrap()
    }
}

fn put(http: &Http, key: &str, value: &str) -> String {
    let (status, headers, told) = http.tell("PUT", &format!("{TABLE}/rows/{key}"), &[], value);
    assert_eq!(status, 204, "{key}: {told}");
    headers["nacre-token"].to_str().unwrap().to_owned()
}

/// What stands at a key, by a read that has reached everything.
fn get(http: &Http, key: &str) -> Option<String> {
    let (status, bytes) = http.bytes(&format!("{TABLE}/rows/{key}?consistency=strong"));
    match status {
        200 => Some(String::from_utf8(bytes).unwrap()),
        404 => None,
        other => panic!("{key}: {other} {}", String::from_utf8_lossy(&bytes)),
    }
}

fn check(http: &Http, rows: &[(&str, Option<&str>)]) {
    for (key, value) in rows {
        assert_eq!(get(http, key).as_deref(), *value, "{key}");
    }
}

#[test]
fn a_topic_that_was_made_again_is_taken_up_with_what_was_flushed_and_nothing_else() {
    let Some((world, id)) = World::new() else { return };
    world.first_release(&id);
    let server = world.start("1s");
    let http = Http::of(&server);
    assert_eq!(http.ask("PUT", TABLE, "{}").0, 201);
    for key in ["flushed", "both", "old"] {
        put(&http, key, "flushed");
    }
    world.wait_flushed();
    assert_eq!(server.stop(), 0);
    let server = world.start("1h");
    let http = Http::of(&server);
    put(&http, "both", "lost");
    let token = put(&http, "unflushed", "lost");
    server.kill();

    world.runtime.block_on(world.someone.delete()).unwrap();
    let other = world.create();
    assert_ne!(other, id);
    let said = world.serve().badly(2);
    assert!(said.contains("store-identity") && said.contains("nacre log resume"), "{said}");
    let status = world.log(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("nacre log resume"), "{status:?}");

    // Nothing is done before it is allowed, and old programs are known not to come back.
    let before = world.identity();
    let said = world.accept().badly(1);
    assert!(said.contains("format-level") && said.contains("nacre format upgrade"), "{said}");
    let upgrade = ["format", "upgrade", "--data", "data"];
    done(nacre(world.folder.path()).args(upgrade)).well();
    let upgraded = world.identity();
    assert_ne!(upgraded, before);
    let told = world.log(&["resume"]);
    assert!(told.code == 1 && told.stderr.contains("loss-not-accepted"), "{told:?}");
    let dry = world.log(&["resume", "--dry-run"]).json();
    assert_eq!(serde_json::from_str::<Value>(&told.stdout).unwrap(), dry);
    assert_eq!((&dry["state"], &dry["incarnation"]), (&"would".into(), &1.into()));
    assert!(dry["partitions"].as_array().unwrap().iter().all(|one| one["lost_to"].is_null()), "{dry}");
    assert_eq!(world.identity(), upgraded);

    let accepted = world.accept();
    assert!(
        accepted.stderr.contains("nacre::audit") && accepted.stderr.contains("the tester"),
        "{accepted:?}"
    );
    assert_eq!(accepted.json()["state"], "done");
    assert_eq!(world.accept().json()["state"], "nothing", "a second time is harmless");
    let kept = world.log(&["status"]).json();
    assert_eq!((&kept["incarnation"], &kept["faults"]), (&1.into(), &serde_json::json!([])), "{kept}");
    assert_eq!(kept["resumed"][0]["by"], "the tester");
    assert!(kept["resumed"][0]["log_before"].as_str().unwrap().contains(&id), "{kept}");
    assert!(kept["partitions"].as_array().unwrap().iter().all(|one| one["base"].as_u64() >= Some(1 << 32)));

    let server = world.start("1h");
    let http = Http::of(&server);
    let mut rows = vec![
        ("flushed", Some("flushed")),
        ("both", Some("flushed")),
        ("old", Some("flushed")),
        ("unflushed", None),
    ];
    check(&http, &rows);
    let path = format!("{TABLE}/rows/flushed");
    let (code, _, problem) = http.tell("GET", &path, &[("nacre-token", &token)], "");
    assert!(code == 422 && problem["type"].as_str().unwrap().contains("token-other-log"), "{code} {problem}");
    // Later writes are above everything of the old log.
    let token = put(&http, "old", "new");
    put(&http, "unflushed", "new");
    rows[2].1 = Some("new");
    rows[3].1 = Some("new");
    check(&http, &rows);
    assert_eq!(http.tell("GET", &path, &[("nacre-token", &token)], "").0, 200);
    server.kill();
    let server = world.start("1s");
    check(&Http::of(&server), &rows);
    world.wait_flushed();
    assert_eq!(server.stop(), 0);
    let server = world.start("1h");
    let http = Http::of(&server);
    check(&http, &rows);
    put(&http, "old", "newest");
    rows[2].1 = Some("newest");
    check(&http, &rows);
    assert_eq!(server.stop(), 0);
}

#[test]
fn records_that_were_deleted_before_they_were_flushed_are_all_that_is_given_up() {
    let Some((world, _)) = World::new() else { return };
    let server = world.start("1h");
    let http = Http::of(&server);
    assert_eq!(http.ask("PUT", TABLE, "{}").0, 201);
    for n in 0..10 {
        put(&http, &format!("k{n}"), "v");
    }
    assert_eq!(world.log(&["resume", "--accept-loss"]).json()["state"], "nothing", "the log is well");
    let (partition, end) = world.end();
    world.runtime.block_on(world.someone.delete_before(partition, end - 3)).unwrap();
    let said = world.accept().badly(1);
    assert!(said.contains("processes-alive"), "{said}");
    server.kill();
    let said = world.serve();
    assert!(said.code != 0 && said.stderr.contains("log-lost"), "{said:?}");
    assert!(said.stderr.contains("nacre log resume"), "{said:?}");
    let accepted = world.accept().json();
    let one = &accepted["partitions"][usize::try_from(partition).unwrap()];
    assert_eq!((one["lost_to"].as_i64(), one["records"].as_i64()), (Some(end - 3), Some(3)), "{accepted}");
    for every in ["1s", "1h"] {
        let server = world.start(every);
        let http = Http::of(&server);
        check(&http, &[("k0", None), ("k6", None), ("k7", Some("v")), ("k9", Some("v"))]);
        put(&http, "k10", every);
        check(&http, &[("k10", Some(every))]);
        if every == "1s" {
            world.wait_flushed();
        }
        assert_eq!(server.stop(), 0);
    }
    assert_eq!(world.accept().json()["state"], "nothing");
}

#[test]
fn a_strangers_message_is_passed_over_and_what_lies_around_it_stays() {
    let Some((world, _)) = World::new() else { return };
    let server = world.start("1h");
    let http = Http::of(&server);
    assert_eq!(http.ask("PUT", TABLE, "{}").0, 201);
    put(&http, "before", "v");
    let (partition, end) = world.end();
    server.kill();
    for (at, message) in (end..).zip(["I am somebody else's", "and so am I"]) {
        let sent = world.runtime.block_on(world.someone.send(partition, None, Some(message.as_bytes())));
        assert_eq!(sent.unwrap(), u64::try_from(at).unwrap());
    }
    let said = world.serve();
    assert!(said.code != 0 && said.stderr.contains("nacre log resume"), "{said:?}");
    let accepted = world.accept().json();
    let one = &accepted["partitions"][usize::try_from(partition).unwrap()];
    let hole = &one["holes"][0];
    assert_eq!((hole["from"].as_i64(), hole["to"].as_i64()), (Some(end), Some(end + 2)), "{accepted}");
    assert!(one["lost_from"].is_null(), "{accepted}");
    for every in ["1h", "1s", "1h"] {
        let server = world.start(every);
        let http = Http::of(&server);
        check(&http, &[("before", Some("v"))]);
        put(&http, "after", every);
        check(&http, &[("after", Some(every)), ("before", Some("v"))]);
        if every == "1s" {
            world.wait_flushed();
            assert_eq!(server.stop(), 0);
        } else {
            server.kill();
        }
    }
    assert_eq!(world.accept().json()["state"], "nothing");
}

#[test]
fn a_resume_that_was_killed_goes_on_with_the_same_plan_and_nobody_starts_before() {
    let Some((world, _)) = World::new() else { return };
    let server = world.start("1s");
    let http = Http::of(&server);
    assert_eq!(http.ask("PUT", TABLE, "{}").0, 201);
    put(&http, "flushed", "v");
    world.wait_flushed();
    assert_eq!(server.stop(), 0);
    world.runtime.block_on(world.someone.delete()).unwrap();
    world.create();
    let decided = world.log(&["resume", "--dry-run"]).json();
    assert_eq!(decided["state"], "would");
    let before = world.identity();

    let starts = |told: &Value| -> Vec<Value> {
        let all = told["partitions"].as_array().unwrap();
        all.iter().map(|one| one["start_offset"].clone()).collect()
    };
    let mut planned: Option<Vec<u8>> = None;
    // The plan stands; one partition has its new start; the record is kept, and the identity still has the plan.
    for point in ["resume/begun", "resume/raised", "resume/kept"] {
        world.accept_and_die_at(point);
        let identity = world.identity();
        assert_ne!(identity, before, "{point}");
        assert_eq!(*planned.get_or_insert_with(|| identity.clone()), identity, "{point}: another plan");
        let said = world.serve().badly(1);
        assert!(said.contains("log-resume-unfinished") && said.contains("run it again"), "{point}: {said}");
        let told = world.log(&["resume"]);
        assert!(told.code == 1 && told.stderr.contains("log-resume-unfinished"), "{point}: {told:?}");
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        assert_eq!(
            (&told["incarnation"], starts(&told)),
            (&decided["incarnation"], starts(&decided)),
            "{point}"
        );
        assert_eq!(world.identity(), identity, "{point}: telling changes nothing");
    }
    let done = world.accept().json();
    assert_eq!((&done["state"], &done["incarnation"]), (&"done".into(), &decided["incarnation"]));
    assert_eq!(starts(&done), starts(&decided));
    assert_eq!(world.accept().json()["state"], "nothing");
    let status = world.log(&["status"]).json();
    assert_eq!(
        (status["resumed"].as_array().unwrap().len(), &status["incarnation"]),
        (1, &1.into()),
        "{status}"
    );
    assert_eq!(status["resumed"][0]["by"], "the tester");
    for every in ["1s", "1h"] {
        let server = world.start(every);
        let http = Http::of(&server);
        check(&http, &[("flushed", Some("v"))]);
        put(&http, "after", every);
        check(&http, &[("after", Some(every))]);
        if every == "1s" {
            world.wait_flushed();
        }
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn a_log_in_the_store_has_nothing_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Server::start(folder.path(), &[]).stop(), 0);
    let words = ["log", "resume", "--data", "data", "--accept-loss"];
    let said = done(nacre(folder.path()).args(words)).badly(2);
    assert!(said.contains("log-resume-store"), "{said}");
}
