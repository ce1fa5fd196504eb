//! A fleet of processes over real services: Kafka, a server of DynamoDB's protocol and one of S3's. What one process
//! promises, many promise; each check that is about several nodes sees that several answered.

use crate::bad_files::{load, load_into, said_to_be_sorted};
use crate::harness::{Http, Server, done, nacre};
use crate::{dynamodb, kafka, s3};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TABLE: &str = "/v1/namespaces/default/tables/t";
const PARTITIONS: &str = "16";

/// Where everything is, and the processes by name.
struct Fleet {
    folder: tempfile::TempDir,
    s3: String,
    dynamodb: String,
    urls: [String; 3],
    servers: BTreeMap<&'static str, Server>,
}

/// The roles of a small fleet.
const ROLES: [(&str, &str); 9] = [
    ("cache-1", "cache"),
    ("cache-2", "cache"),
    ("cache-3", "cache"),
    ("writer-1", "writer"),
    ("writer-2", "writer"),
    ("loader-1", "loader"),
    ("maintainer-1", "maintainer"),
    ("dispatcher-1", "dispatcher"),
    ("dispatcher-2", "dispatcher"),
];

impl Fleet {
    /// Over a store, a catalog and a topic that are new; `None` where a service is missing.
    fn new() -> Option<Self> {
        let (_, s3) = s3::servers().into_iter().next()?;
        let (_, dynamodb) = dynamodb::servers().into_iter().next()?;
        let broker = kafka::broker()?;
        let folder = tempfile::tempdir().unwrap();
        let urls = [s3::place(&s3, s3::BUCKET), dynamodb::new_url(), kafka::url(&broker)];
        let words =
            ["topic", "create", "--log", &urls[2], "--kafka-replicas", "1", "--partitions", PARTITIONS];
        done(nacre(folder.path()).args(words)).well();
        Some(Self { folder, s3, dynamodb, urls, servers: BTreeMap::new() })
    }

    fn of_all_roles() -> Option<Self> {
        let mut fleet = Self::new()?;
        ROLES.iter().for_each(|(name, role)| fleet.start(name, role));
        Some(fleet)
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a process; returns when it serves.
    fn start(&mut self, name: &'static str, role: &str) {
        let mut command = s3::over(self.folder(), &self.s3, "testtest");
        command.env("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb);
        let zone = name.rsplit('-').next().unwrap_or_default();
        let [store, catalog, log] = &self.urls;
        let words = ["--role", role, "--name", name, "--zone", zone, "--store", store, "--catalog", catalog];
        let more = ["--log", log, "--kafka-replicas", "1", "--shutdown-grace", "5s"];
        let server = Server::start_by(command, self.folder(), &[&words[..], &more[..]].concat());
        self.servers.insert(name, server);
    }

    fn http(&self, name: &str) -> Http {
        Http::of(&self.servers[name])
    }

    fn kill(&mut self, name: &'static str) {
        self.servers.remove(name).unwrap().kill();
    }

    /// Waits until `name` knows every process that runs, and no other, and each partition is answered for twice: until
    /// then one more death may be one too many.
    fn wait_until_known(&self, name: &str) {
        let begun = Instant::now();
        loop {
            let (_, told) = self.http(name).ask("GET", "/v1/nodes", "");
            let mut found: Vec<&str> =
                told["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
            found.sort_unstable();
            if found.iter().eq(self.servers.keys()) && told["partitions_at_risk"] == 0 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{told}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A table of eight shards, in as many partitions.
    fn make_table(&self) {
        let split: Vec<String> = (1..8).map(|digit| format!("k{digit}")).collect();
        let (status, told) =
            self.http("dispatcher-1").ask("PUT", TABLE, json!({ "split_at": split }).to_string());
        assert_eq!(status, 201, "{told}");
    }
}

/// A key in the shard of its last digit.
fn key(number: usize) -> String {
    format!("k{}-{number:05}", number % 8)
}

fn write(http: &Http, numbers: std::ops::Range<usize>, value: &str) -> String {
    let rows: Vec<Value> =
        numbers.map(|n| json!({ "key": key(n), "value": format!("{value}{n}") })).collect();
    let (status, told) =
        http.ask("POST", &format!("{TABLE}/rows:batchWrite"), json!({ "rows": rows }).to_string());
    assert_eq!(status, 200, "{told}");
    assert!(told["rows"].as_array().unwrap().iter().all(|row| row["status"] == "ok"), "{told}");
    told["token"].as_str().unwrap().to_owned()
}

/// The values of keys by one request, and how many nodes answered it.
fn read(
    http: &Http,
    numbers: std::ops::Range<usize>,
    query: &str,
    token: Option<&str>,
) -> (Vec<Value>, usize) {
    let keys: Vec<String> = numbers.map(key).collect();
    let headers: Vec<_> = token.map(|token| ("nacre-token", token)).into_iter().collect();
    let path = format!("{TABLE}/rows:batchGet{query}");
    let (status, headers, told) = http.tell("POST", &path, &headers, json!({ "keys": keys }).to_string());
    assert_eq!(status, 200, "{told}, of {}", http.ask("GET", "/v1/nodes", "").1);
    let nodes = headers["nacre-nodes"].to_str().unwrap().split(',').count();
    let rows = told["rows"].as_array().unwrap();
    (rows.iter().map(|row| row.get("value").cloned().unwrap_or_default()).collect(), nodes)
}

#[test]
fn many_processes_answer_as_one_store() {
    let Some(fleet) = Fleet::of_all_roles() else { return };
    fleet.make_table();
    let [one, two] = ["dispatcher-1", "dispatcher-2"].map(|name| fleet.http(name));
    let token = write(&one, 0..400, "v");
    let wanted: Vec<Value> = (0..400).map(|n| format!("v{n}").into()).collect();
    for (http, query, token) in
        [(&two, "", Some(&*token)), (&one, "?consistency=strong", None), (&two, "?consistency=strong", None)]
    {
        let (values, nodes) = read(http, 0..400, query, token);
        assert_eq!(values, wanted, "{query}");
        assert!(nodes >= 2, "{nodes} nodes answered");
    }
    for reverse in ["", "&reverse=true"] {
        let path = format!("{TABLE}/rows?page_size=10000&consistency=strong{reverse}");
        let (status, headers, page) = two.tell("GET", &path, &[], "");
        assert_eq!(status, 200, "{page}");
        let mut found: Vec<&str> =
            page["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
        if !reverse.is_empty() {
            found.reverse();
        }
        assert!(found.is_sorted() && found.len() == 400, "{} rows", found.len());
        assert!(headers["nacre-nodes"].to_str().unwrap().split(',').count() >= 2);
    }
    // Pages that begin in one shard and end in another.
    let (mut seen, mut token) = (0, String::new());
    loop {
        let (status, page) =
            two.ask("GET", &format!("{TABLE}/rows?page_size=77&consistency=strong{token}"), "");
        assert_eq!(status, 200, "{page}");
        seen += page["rows"].as_array().unwrap().len();
        match page["next_page_token"].as_str() {
            Some(next) => token = format!("&page_token={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 400);
    let (status, told) = two.ask("GET", &format!("{TABLE}/rows/{}:explain", key(7)), "");
    assert_eq!((status, told["rows"].as_array().unwrap().len()), (200, 1), "{told}");
    let (status, told) = two.ask("GET", &format!("{TABLE}/rows/{}/versions", key(7)), "");
    assert_eq!((status, told["rows"][0]["value"].as_str()), (200, Some("v7")), "{told}");
    // Only dispatchers answer for tables.
    let (status, told) = fleet.http("cache-1").ask("GET", &format!("{TABLE}/rows/{}", key(7)), "");
    assert_eq!((status, told["type"].as_str()), (404, Some("/errors/not-a-dispatcher")), "{told}");
}

#[test]
fn a_load_is_seen_at_once_on_all_nodes() {
    let Some(fleet) = Fleet::of_all_roles() else { return };
    fleet.make_table();
    let stop = AtomicBool::new(false);
    let swaps = 6;
    let file = |generation: usize| {
        let mut rows: Vec<_> = (0..400).map(|n| (key(n), format!("g{generation}"))).collect();
        rows.sort();
        said_to_be_sorted(&rows)
    };
    let replace = |generation: usize| {
        let http = fleet.http(if generation.is_multiple_of(2) { "dispatcher-1" } else { "dispatcher-2" });
        let request = json!({ "mode": "replace", "version": generation });
        let told = load(&http, request, &[("a.parquet", &file(generation))]);
        assert_eq!(told["state"], "committed", "{told}");
        told["token"].as_str().unwrap().to_owned()
    };
    replace(1);
    std::thread::scope(|scope| {
        let readers: Vec<_> = ["dispatcher-1", "dispatcher-2"]
            .into_iter()
            .flat_map(|name| [(name, ""), (name, "?consistency=strong")])
            .map(|(name, query)| {
                let (http, stop) = (fleet.http(name), &stop);
                scope.spawn(move || {
                    let (mut seen, mut most) = (std::collections::BTreeSet::new(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        let (values, nodes) = read(&http, 0..64, query, None);
                        assert!(values.iter().all(|value| *value == values[0]), "a mix: {values:?}");
                        match values[0].as_str() {
                            Some(generation) => _ = seen.insert(generation.to_owned()),
                            // An eventual read may be from before the first load, a strong one never is.
                            None => assert!(query.is_empty(), "the first load is gone"),
                        }
                        most = most.max(nodes);
                    }
                    (seen.len(), most)
                })
            })
            .collect();
        for generation in 2..=swaps {
            let token = replace(generation);
            // Who brings the load's token sees it everywhere.
            let (values, _) = read(&fleet.http("dispatcher-1"), 0..64, "", Some(&token));
            assert!(values.iter().all(|value| *value == format!("g{generation}")), "{values:?}");
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let (generations, nodes) = reader.join().unwrap();
            assert!(generations >= 3 && nodes >= 2, "{generations} generations on {nodes} nodes were seen");
        }
    });
}

/// A load into a table whose keys nobody has named says what they are made of; rows may be answered by a node that knows
/// before the dispatcher does.
#[test]
fn what_a_load_says_of_keys_is_said_by_all() {
    let Some(fleet) = Fleet::of_all_roles() else { return };
    let (one, other) = (fleet.http("dispatcher-1"), fleet.http("dispatcher-2"));
    let rows: Vec<(String, String)> = (0..200).map(|n| (key(n), format!("v{n}"))).collect();
    let file = said_to_be_sorted(&rows);
    let request =
        json!({ "mode": "merge", "version": 1, "columns": { "key": ["key", "value"], "pack": ["value"] } });
    for table in (0..6).map(|n| format!("/v1/namespaces/default/tables/typed-{n}")) {
        assert_eq!(one.ask("PUT", &table, "{}").0, 201);
        let scan = || {
            let (status, page) = other.ask("GET", &format!("{table}/rows?fields=key&page_size=1000"), "");
            assert_eq!(status, 200, "{page}");
            let keys: Vec<Value> =
                page["rows"].as_array().unwrap().iter().map(|row| row["key"].clone()).collect();
            assert!(keys.iter().all(Value::is_array), "not the parts of a key: {}", keys[0]);
            keys.len()
        };
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| load_into(&one, &table, request.clone(), &[("a.parquet", &file)]));
            let begun = Instant::now();
            while scan() == 0 {
                assert!(begun.elapsed() < Duration::from_secs(60), "the load is not shown");
            }
            let told = loading.join().unwrap();
            assert_eq!(told["state"], "committed", "{told}");
        });
        assert_eq!(scan(), rows.len());
    }
}

#[test]
fn whichever_process_is_killed_nothing_is_lost() {
    let Some(mut fleet) = Fleet::of_all_roles() else { return };
    fleet.make_table();
    let mut written = 0;
    for (name, role) in ROLES {
        let survivor = if name == "dispatcher-1" { "dispatcher-2" } else { "dispatcher-1" };
        let http = fleet.http(survivor);
        write(&http, written..written + 40, "v");
        written += 40;
        fleet.kill(name);
        // Straight after: no time for anybody to notice.
        for query in ["", "?consistency=strong"] {
            let (values, _) = read(&http, 0..written, query, None);
            let missing = values.iter().filter(|value| value.is_null()).count();
            assert!(query.is_empty() || missing == 0, "{missing} of {written} are gone without {name}");
        }
        write(&http, written..written + 40, "v");
        written += 40;
        fleet.start(name, role);
        if role == "cache" {
            fleet.wait_until_known(survivor);
        }
    }
    let begun = Instant::now();
    let http = fleet.http("dispatcher-2");
    let wanted: Vec<Value> = (0..written).map(|n| format!("v{n}").into()).collect();
    for start in (0..written).step_by(500) {
        let range = start..written.min(start + 500);
        assert_eq!(read(&http, range.clone(), "?consistency=strong", None).0, wanted[range]);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "strong reads of {written} rows took {:?}",
        begun.elapsed()
    );
}
