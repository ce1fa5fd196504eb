//! A load that has to be rewritten is killed when so much of the work is done; how much is done again?
//!
//! The work is counted in rows, each of which is brought into a run and then into a segment. What a process had done when
//! it died is in its log, and what of it the next one did not have to do as well.

use crate::clients::now_micros;
use crate::lane::LIMIT;
use crate::process::{Home, Process, Trap};
use nacre_api::{
    BeginLoadBody, ColumnsBody, CommitLoadBody, CreateTableBody, GuardsBody, LoadBody, LoadModeBody,
    LoadStateBody, LoadVersionBody, OnDuplicateBody,
};
use nacre_client::{GetAnswer, KeyText, LoadAction, ReadOptions, TableRef, UploadBody};
use nacre_segment::{SegmentRow, SegmentWriter, WriterSettings};
use nacre_types::{KeySchema, NamespaceName, TableName};
use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FILES: u64 = 4;
/// From so many rows on the settings are the usual.
const LARGE: u64 = 10_000_000;
/// Of a hundred parts of the work: in the middle of sorting, and in the middle of merging.
const DEATHS: [u64; 2] = [30, 60];
/// Most of a hundred parts of the work that may be done again.
const MOST: u64 = 15;

fn hash(number: u64) -> u64 {
    // Odd, so that no two numbers have the same.
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn key(number: u64) -> String {
    format!("{:016x}", hash(number))
}

fn value(number: u64) -> String {
    format!("row {number:010} {:016x}", hash(hash(number) ^ number))
}

/// Writes the rows from `first` on, in the order of their values, which is none of their keys.
fn write_file(path: &Path, first: u64, rows: u64, version: i64) {
    let file = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = SegmentWriter::new(file, WriterSettings::default()).unwrap();
    for number in first..first + rows {
        let (key, value) = (key(number), value(number));
        let row = SegmentRow {
            key: value.as_bytes(),
            version,
            place: None,
            expires_at: None,
            value: Some(key.as_bytes()),
        };
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap();
}

/// What a process has logged of its work.
#[derive(Debug, Default)]
struct Work {
    files: BTreeMap<String, u64>,
    merged: u64,
    /// What was done already when it began: rows in runs and in segments.
    before: (u64, u64),
}

impl Work {
    fn read(log: &Path) -> Self {
        let mut work = Self::default();
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let number = |name: &str| line[name].as_u64().unwrap();
            match line["message"].as_str() {
                Some("rows are read") => {
                    work.files.insert(line["file"].as_str().unwrap().to_owned(), number("rows"));
                }
                Some("more rows are merged") => work.merged += number("rows"),
                Some("going on with what is done") => {
                    work.before = (number("rows_in_runs"), number("rows_in_segments"));
                }
                _ => {}
            }
        }
        work
    }

    /// Rows that were read; files are read one after the other.
    fn sorted(&self, rows: u64) -> u64 {
        let last = self.files.values().next_back().copied().unwrap_or(0);
        match self.files.len() as u64 {
            _ if self.merged > 0 => rows,
            0 => 0,
            files => (files - 1) * (rows / FILES) + last,
        }
    }

    fn done(&self, rows: u64) -> u64 {
        self.sorted(rows) + self.merged
    }
}

struct Rewrite {
    home: Home,
    files: Vec<PathBuf>,
    rows: u64,
    version: i64,
}

pub(crate) async fn run(folder: &Path, program: &Path, rows: u64) {
    let rewrite = prepare(folder, program, rows);
    for percent in DEATHS {
        rewrite.die_at(percent).await;
    }
}

fn prepare(folder: &Path, program: &Path, rows: u64) -> Rewrite {
    let version = now_micros();
    let files: Vec<PathBuf> = (0..FILES).map(|n| folder.join(format!("{n}.parquet"))).collect();
    for (n, path) in (0..).zip(&files) {
        write_file(path, n * (rows / FILES), rows / FILES, version);
    }
    // As much as a large load is given is more than a small one needs: then runs and segments are as many.
    let memory = if rows >= LARGE { 192 << 20 } else { (rows * 5).max(1 << 20) };
    let words = format!("--log-format json --log-level info,nacre_loader=debug --load-memory {memory}");
    let home = Home::with(folder, program, &words);
    Rewrite { home, files, rows: rows / FILES * FILES, version }
}

/// Two loaders share a load, and one of them is killed when both are well under way.
pub(crate) async fn run_shared(folder: &Path, program: &Path, rows: u64) {
    let rewrite = prepare(folder, program, rows);
    let (home, trap) = (&rewrite.home, Trap::default());
    let front =
        home.start_with(&trap, &["--role", "dispatcher,cache,writer,maintainer", "--name", "front"]).await;
    let one = home.start_with(&trap, &["--role", "loader", "--name", "one"]).await;
    let other = home.start_with(&trap, &["--role", "loader", "--name", "other"]).await;
    let table = TableRef::new(NamespaceName::new("default").unwrap(), TableName::new("shared").unwrap());
    let body = CreateTableBody { key: Some(KeySchema::Bytes), ..CreateTableBody::default() };
    front.client().create_table(&table, &body).await.unwrap();
    let (counts, loaders) = (trap.clone(), [one.number, other.number]);
    let done = |trap: &Trap| loaders.map(|number| trap.count(number, "rewrite/done"));
    let reached =
        trap.arm_when("rewrite", move || loaders.iter().all(|n| counts.count(*n, "rewrite/done") >= 2));
    let id = rewrite.begin(&front, &table).await;
    let (number, point) =
        tokio::time::timeout(LIMIT, reached).await.expect("both loaders take part").unwrap();
    let (killed, survivor) = if number == one.number { (one, other) } else { (other, one) };
    killed.kill().await;
    let before = done(&trap);
    let told = rewrite.end_of(&front, &table, &id).await;
    assert_eq!(told.state, LoadStateBody::Committed, "{told:?}");
    assert_eq!((told.progress.rows, told.progress.files_done), (rewrite.rows, FILES));
    rewrite.check(&front, &table).await;
    let after = done(&trap);
    // Each result of reading has one run at most.
    let results = crate::files::below(&home.folder.join("data/tables"));
    let runs = results.iter().filter(|path| path.contains("/units/read-")).count() as u64;
    let segments = front.client().table(&table).await.unwrap().segments;
    crate::tell(&format!(
        "two loaders had put {before:?} objects when one was killed at {point}, {after:?} in the end: at most {runs} runs \
         and {segments} segments were needed"
    ));
    assert!(after.iter().sum::<u64>() <= runs + segments + 4, "more was done again than was in hand");
    survivor.stop().await;
    front.stop().await;
}

impl Rewrite {
    async fn die_at(&self, percent: u64) {
        let trap = Trap::default();
        let process = self.home.start(&trap).await;
        let table = TableRef::new(
            NamespaceName::new("default").unwrap(),
            TableName::new(&format!("killed-at-{percent}")).unwrap(),
        );
        let body = CreateTableBody { key: Some(KeySchema::Bytes), ..CreateTableBody::default() };
        process.client().create_table(&table, &body).await.unwrap();
        let (log, rows) = (process.log.clone(), self.rows);
        let due = move || Work::read(&log).done(rows) * 100 >= 2 * rows * percent;
        let reached = trap.arm_when("rewrite", due);
        let id = self.begin(&process, &table).await;
        let begun = Instant::now();
        reached.await.unwrap();
        let log = process.log.clone();
        process.kill().await;
        let first = begun.elapsed();
        let died = Work::read(&log);

        let begun = Instant::now();
        let process = self.home.start(&trap).await;
        let told = self.end_of(&process, &table, &id).await;
        let second = begun.elapsed();
        assert_eq!(told.state, LoadStateBody::Committed, "{told:?}");
        assert_eq!(told.progress.rows, rows);
        let (in_runs, in_segments) = Work::read(&process.log).before;
        // What was done is told now and then, so it may be a little more.
        let sorted_again = died.sorted(rows).saturating_sub(in_runs);
        let merged_again = died.merged.saturating_sub(in_segments);
        let again = sorted_again + merged_again;
        let of = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
        crate::tell(&format!(
            "a rewrite of {rows} rows, killed at {:.1} % after {first:.1?}, ended {second:.1?} after the next start: \
             {sorted_again} rows were sorted again and {merged_again} merged again, {:.1} % of the work",
            of(died.done(rows), 2 * rows),
            of(again, 2 * rows),
        ));
        self.check(&process, &table).await;
        process.stop().await;
        assert!(again * 100 <= 2 * rows * MOST, "more than {MOST} % were done again");
    }

    async fn begin(&self, process: &Process, table: &TableRef) -> String {
        let client = process.client();
        let body = BeginLoadBody {
            mode: LoadModeBody::Replace,
            version: Some(LoadVersionBody::At(self.version)),
            source: None,
            columns: Some(ColumnsBody {
                key: vec!["value".to_owned()],
                value: Some("key".to_owned()),
                pack: None,
                version: None,
                expires_at: None,
                delete: None,
            }),
            guards: GuardsBody::default(),
            on_duplicate: OnDuplicateBody::Fail,
        };
        let id = client.begin_load(table, &body, None).await.unwrap().load_id;
        for path in &self.files {
            let name = path.file_name().unwrap().to_str().unwrap();
            client.put_load_file(table, &id, name, UploadBody::File(path.clone())).await.unwrap();
        }
        let commit = CommitLoadBody { rows: Some(self.rows), ..CommitLoadBody::default() };
        client.load_action(table, &id, LoadAction::Commit, &commit).await.unwrap();
        id
    }

    async fn end_of(&self, process: &Process, table: &TableRef, id: &str) -> LoadBody {
        let limit = LIMIT + Duration::from_micros(200 * self.rows);
        let ended = tokio::time::timeout(limit, async {
            loop {
                let told = process.client().load(table, id).await.unwrap();
                if matches!(told.state, LoadStateBody::Committed | LoadStateBody::Failed) {
                    return told;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        ended.await.unwrap_or_else(|_| panic!("the load does not end: {}", process.log_end()))
    }

    /// Every row is there, as far as their number and a thousand of them say.
    async fn check(&self, process: &Process, table: &TableRef) {
        let client = process.client();
        let described = client.table(table).await.unwrap();
        assert_eq!(described.rows, self.rows);
        for n in 0..1_000 {
            let number = hash(n) % self.rows;
            let key = key(number);
            let found =
                client.get(table, KeyText::Text(key.as_bytes()), &ReadOptions::default()).await.unwrap();
            let GetAnswer::Found(found) = found else { panic!("row {number} is not there") };
            assert_eq!((found.version, &found.value[..]), (self.version, value(number).as_bytes()));
        }
    }
}
