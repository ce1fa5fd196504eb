//! What the check would say if something were lost: the ledger is changed behind its back, as if the program had lost
//! what stands in it, or shown what does not; and the newest of the log is taken from the disk.

use crate::lane::{Kills, Lane};
use crate::ledger::{Fate, Ledger, Load, Op, Seen, Shown, Wish};
use crate::process::Process;
use nacre_model::LoadMode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOP: i64 = i64::MAX / 2;

fn acknowledge(ledger: &mut Ledger, key: &str, tombstone: bool) {
    let wish = Wish { version: Some(TOP), tombstone, expired: false };
    let (id, _) = ledger.begin(key, wish, None);
    ledger.end(key, id, Fate::Done, None);
}

/// A key with a value that a write of its own shows, and that write.
fn shown_write(ledger: &mut Ledger) -> (String, &mut Op) {
    let edition = ledger.edition;
    let shown = |key: &String, op: &Op| {
        let top = ledger.versions(key, edition).into_iter().next();
        top.is_some_and(|(_, text)| {
            op.length.is_some_and(|length| text == crate::ledger::value(op.id, length))
        })
    };
    let found = ledger.keys.iter().find_map(|(key, ops)| {
        Some((key.clone(), ops.iter().position(|op| op.fate == Fate::Done && shown(key, op))?))
    });
    let (key, at) = found.expect("a write that is to be seen");
    let op = &mut ledger.keys.get_mut(&key).unwrap()[at];
    (key, op)
}

fn load(number: u64, mode: LoadMode, rows: BTreeMap<String, (i64, bool)>, shown: Shown) -> Load {
    Load {
        number,
        owner: 9,
        mode,
        version: TOP,
        rows,
        id: None,
        shown,
        is_pinned: true,
        is_vain: false,
        is_bad: false,
        is_over: true,
    }
}

type Plant = (&'static str, fn(&mut Ledger));

const PLANTS: [Plant; 9] = [
    ("a put of a key that many write is lost", |ledger| acknowledge(ledger, "h0", false)),
    ("a put of one key of many is lost", |ledger| acknowledge(ledger, "c00007", false)),
    ("a delete is lost", |ledger| {
        let (key, _) = shown_write(ledger);
        acknowledge(ledger, &key, true);
    }),
    ("a refused write is seen", |ledger| shown_write(ledger).1.fate = Fate::Not),
    ("a write has another version", |ledger| {
        let op = shown_write(ledger).1;
        op.version = op.version.map(|version| version + 1);
    }),
    ("a committed load is lost", |ledger| {
        let rows = BTreeMap::from([("c00009".to_owned(), (TOP, true))]);
        ledger.loads.push(load(1_000_000, LoadMode::Merge, rows, Shown::Committed(ledger.edition)));
    }),
    ("a replace hides nothing", |ledger| {
        ledger.loads.push(load(
            1_000_000,
            LoadMode::Replace,
            BTreeMap::new(),
            Shown::Committed(ledger.edition),
        ));
    }),
    ("a load that was told to have failed is seen", |ledger| {
        let shown = |load: &&mut Load| matches!(load.shown, Shown::Committed(_));
        ledger.loads.iter_mut().find(shown).expect("a load that is to be seen").is_vain = true;
    }),
    ("a read saw the past", |ledger| {
        let (key, _) = shown_write(ledger);
        let (begun, edition) = (Instant::now(), ledger.edition);
        ledger.seen.push(Seen {
            key,
            begun,
            ended: begun,
            edition,
            least_edition: edition,
            found: None,
            how: "strong",
        });
    }),
];

pub(crate) async fn run(folder: &Path, program: &Path, seed: u64) {
    let lane = Lane::new(folder, program, seed, 0, Arc::new(Kills::default()));
    lane.make_tables().await;
    let process = lane.home.start(&lane.trap).await;
    let clients = lane.send_clients(std::slice::from_ref(&process), false);
    let is_enough = || {
        let ledger = lane.rows.ledger.lock();
        let loads = ledger.loads.iter().filter(|load| matches!(load.shown, Shown::Committed(_))).count();
        loads >= 2 && ledger.acknowledged > 500
    };
    let work = async {
        while !is_enough() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::lane::LIMIT, work).await.expect("hardly anything happens");
    lane.gather(clients).await;
    lane.rows.stop.store(false, std::sync::atomic::Ordering::Relaxed);
    lane.rows.finish_loads(&process.client()).await;
    lane.verify(&process).await;
    lane.check_complaints();
    for (what, plant) in PLANTS {
        notice(&lane, &process, what, plant).await;
    }
    lose_the_newest(&lane, process).await;
}

/// A write is acknowledged, its process killed, and the log's newest chunk removed.
async fn lose_the_newest(lane: &Lane, mut process: Process) {
    // A flush that comes between the write and the kill makes the chunk superfluous.
    for _ in 0..20 {
        let wish = Wish { version: None, tombstone: false, expired: false };
        lane.rows.write(&process.client(), "h0", wish).await.unwrap().unwrap();
        process.kill().await;
        std::fs::remove_file(newest_chunk(&lane.home.folder.join("data/log"))).unwrap();
        process = lane.home.start(&lane.trap).await;
        lane.rows.verify(&process.client()).await;
        if !lane.rows.complaints.lock().is_empty() {
            return;
        }
    }
    panic!("nobody minds that the end of the log is lost");
}

/// The chunk of the highest number below the folder.
fn newest_chunk(log: &Path) -> PathBuf {
    let mut folders = vec![log.to_owned()];
    let mut chunks = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if folder.ends_with("chunks") {
                chunks.push(entry.path());
            }
        }
    }
    chunks.into_iter().max().expect("a chunk of the log")
}

async fn notice(lane: &Lane, process: &Process, what: &str, plant: fn(&mut Ledger)) {
    let truth = lane.rows.ledger.lock().clone();
    plant(&mut lane.rows.ledger.lock());
    lane.rows.verify(&process.client()).await;
    let complaints = std::mem::take(&mut *lane.rows.complaints.lock());
    assert!(!complaints.is_empty(), "nobody minds that {what}");
    *lane.rows.ledger.lock() = truth;
}
