//! nacre beside RocksDB and SlateDB: the same rows, the same questions, one thread, in turns.
//!
//! `cargo run --release -- [--keys N] [--rounds N] [--only uniform|hot|absent|scan|layered|miss]... [--no-slate] [--alone]`
//!
//! Every figure is the median over rounds; a round asks every store the same keys, one store after another, and a
//! ratio is the median of the rounds' ratios. So what the machine does besides hits all alike.

mod data;
mod measure;
mod stores;
mod workload;

use data::{Random, key};
use measure::{Peers, Question, compare, cpu};
use stores::Peer;
use stores::nacre::{Memory, Nacre};
use stores::rocks::Rocks;
use stores::slate::Slate;

const GIB: usize = 1 << 30;
/// Rows of one page of a scan.
const PAGE: usize = 1_000;

struct Arguments {
    keys: u64,
    rounds: usize,
    only: Vec<String>,
    slate: bool,
    peers: bool,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { keys: 2_400_000, rounds: 7, only: Vec::new(), slate: true, peers: true };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keys" => arguments.keys = words.next().and_then(|n| n.parse().ok()).expect("a number"),
            "--rounds" => arguments.rounds = words.next().and_then(|n| n.parse().ok()).expect("a number"),
            "--only" => arguments.only.push(words.next().expect("a scenario")),
            "--no-slate" => arguments.slate = false,
            "--alone" => arguments.peers = false,
            _ => panic!("{word}: see the head of main.rs"),
        }
    }
    arguments
}

impl Arguments {
    fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == scenario)
    }
}

fn main() {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(&arguments));
    // The stores have tasks that would wait for their next turn.
    std::process::exit(0);
}

async fn run(arguments: &Arguments) {
    let memory = Memory { blocks: 3 * GIB, indexes: 256 << 20 };
    if ["uniform", "hot", "absent", "scan"].iter().any(|one| arguments.wants(one)) {
        let home = tempfile::tempdir().unwrap();
        let layers = workload::one_segment(arguments.keys);
        let nacre = Nacre::filled(home.path(), &layers, memory).await;
        eprintln!("nacre is filled");
        let rocks = arguments.peers.then(|| Rocks::filled(home.path(), &layers, 3 * GIB, false));
        eprintln!("RocksDB is filled");
        let slate = match arguments.slate && arguments.peers {
            true => Some(Slate::filled(home.path(), &layers, 3 * GIB as u64).await),
            false => None,
        };
        eprintln!("SlateDB is filled");
        drop(layers);
        one_segment(arguments, &Peers { nacre: &nacre, rocks: rocks.as_ref(), slate: slate.as_ref() }).await;
    }
    if arguments.wants("layered") {
        let home = tempfile::tempdir().unwrap();
        layered(arguments, home.path(), memory).await;
    }
    if arguments.wants("miss") {
        let home = tempfile::tempdir().unwrap();
        let memory = Memory { blocks: 1 << 20, ..memory };
        misses(arguments, &Nacre::filled(home.path(), &workload::one_segment(arguments.keys), memory).await)
            .await;
    }
}

fn picks(seed: u64, count: usize, from: std::ops::Range<u64>) -> Vec<[u8; 16]> {
    let mut random = Random::new(seed);
    (0..count).map(|_| key(from.start + random.below(from.end - from.start))).collect()
}

/// Brings every block into memory.
async fn warm(peers: &Peers<'_>, keys: u64) {
    let all: Vec<_> = (0..keys).map(key).collect();
    peers.nacre.get_all(&all).await;
    if let Some(rocks) = peers.rocks {
        rocks.get_all(&all).await;
    }
    if let Some(slate) = peers.slate {
        slate.get_all(&all).await;
    }
}

async fn one_segment(arguments: &Arguments, peers: &Peers<'_>) {
    warm(peers, arguments.keys).await;
    eprintln!("all are warm");
    let rounds = arguments.rounds;
    if arguments.wants("uniform") {
        let keys = picks(1, 400_000, 0..arguments.keys);
        compare("get, uniform over everything", rounds, Question::Get(&keys), peers).await;
    }
    if arguments.wants("hot") {
        let keys = picks(2, 400_000, 0..5_000);
        compare("get, 5,000 keys (1 MB)", rounds, Question::Get(&keys), peers).await;
        // Keys whose neighbours are hot too: a megabyte of blocks.
        let near = workload::one_segment(arguments.keys).remove(0).numbers;
        let mut random = Random::new(3);
        let keys: Vec<_> = (0..400_000).map(|_| key(near[random.below(5_000) as usize])).collect();
        compare("get, 5,000 neighbours (1 MB)", rounds, Question::Get(&keys), peers).await;
    }
    if arguments.wants("absent") {
        let keys = picks(4, 400_000, 1 << 40..1 << 41);
        compare("get, absent keys", rounds, Question::Get(&keys), peers).await;
    }
    if arguments.wants("scan") {
        let starts = picks(5, 200, 0..arguments.keys);
        compare("scan, pages of 1,000 rows (rows/s)", rounds, Question::Scan(&starts, PAGE), peers).await;
    }
}

async fn layered(arguments: &Arguments, home: &std::path::Path, memory: Memory) {
    let layers = workload::layered(arguments.keys, 100_000);
    let nacre = Nacre::filled(home, &layers, memory).await;
    let info = nacre.table.info();
    println!(
        "layered: {} segments, {} rows in the tail",
        nacre.table.manifest().segment_count(),
        info.tail_rows
    );
    let keys = picks(6, 200_000, 0..arguments.keys);
    for keeps_layers in [false, true] {
        let sub = home.join(if keeps_layers { "layers" } else { "compacted" });
        std::fs::create_dir_all(&sub).unwrap();
        let rocks = arguments.peers.then(|| Rocks::filled(&sub, &layers, 3 * GIB, keeps_layers));
        let peers = Peers { nacre: &nacre, rocks: rocks.as_ref(), slate: None };
        warm(&peers, arguments.keys).await;
        let name = if keeps_layers { "layers, rocksdb's kept too" } else { "layers, rocksdb's compacted" };
        compare(name, arguments.rounds, Question::Get(&keys), &peers).await;
        if arguments.wants("scan") {
            let starts = picks(5, 100, 0..arguments.keys);
            let name = format!("scan of {name}");
            compare(&name, arguments.rounds, Question::Scan(&starts, PAGE), &peers).await;
        }
    }
}

/// Reads that find their block in the files that the system caches: what a miss costs the processor.
async fn misses(arguments: &Arguments, nacre: &Nacre) {
    let keys = picks(8, 20_000, 0..arguments.keys);
    nacre.get_all(&keys).await;
    let (before, requests) = (cpu(), nacre.store.counters());
    nacre.get_all(&keys).await;
    let took = cpu() - before;
    let after = nacre.store.counters();
    println!(
        "get, block miss: {:.1} µs of processor, {:.3} GETs each",
        took.as_secs_f64() * 1e6 / keys.len() as f64,
        (after.get.requests - requests.get.requests) as f64 / keys.len() as f64,
    );
}
