//! Real input, real writers: TPC-H as tpchgen-cli, pyarrow and Spark write it, loaded into the running program and read
//! back by every way there is. What must be read is computed by DuckDB from the files of tpchgen-cli.
//!
//! `NACRE_PYTHON` names a Python that has these; without it the tests are skipped with a notice. `NACRE_TPCH_SF` is the
//! scale factor, 0.05 unless it says otherwise; 1 is 7.5 million rows, loaded three times.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod clients;
mod data;
mod reading;
mod replace;
mod server;
#[cfg(feature = "s3")]
mod spark_job;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data::{Data, python};
use nacre_api::{
    BeginLoadBody, CommitLoadBody, GuardsBody, LoadBody, LoadModeBody, LoadStateBody, LoadVersionBody,
};
use nacre_client::{Client, LoadAction};
use reading::Form;
use server::{Server, table_ref};

/// The tables, the settings of their keys, and the form in which their rows are asked for.
const TABLES: [(&str, &str, &str, Form); 2] = [
    ("orders", "o_orderkey:int64", "o_orderkey", Form::Json),
    ("lineitem", "l_orderkey:int64,l_linenumber:int64", "l_orderkey,l_linenumber", Form::Binary),
];

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Says how long something took, to whoever runs this by hand.
pub(crate) fn told<T>(what: &str, done: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = done();
    println!("{:7.1} s  {what}", begun.elapsed().as_secs_f64());
    result
}

/// Reads a table that was loaded once, by its keys, by prefix and by a scan, and its files by DuckDB.
fn read_everything(server: &Server, data: &Data, table: &str, version: i64, form: Form) {
    let runtime = runtime();
    let rows = || data.rows(table, version);
    let count = told(&format!("{table}: every row by its key ({form:?})"), || {
        runtime.block_on(reading::get_all(server, table, rows(), form))
    });
    if table == "lineitem" {
        // Some two thousand orders, however many there are.
        let every = (count / 8_000).max(1) as usize;
        let orders = told("lineitem: lines of orders by prefix", || {
            runtime.block_on(reading::orders_lines(server, table, rows(), every))
        });
        assert!(orders > 1_000, "{orders}");
    }
    let scanned = told(&format!("{table}: a scan of all rows"), || {
        runtime.block_on(reading::scan_all(server, table, rows()))
    });
    assert_eq!(scanned, count);
    let held = told(&format!("{table}: its files by DuckDB"), || {
        let files = runtime.block_on(reading::serving_files(server, table, rows()));
        let words = [data.file(table), PathBuf::from(table), PathBuf::from(version.to_string())];
        python("by_duckdb.py", words.into_iter().chain(files))
    });
    assert_eq!(held.trim().parse(), Ok(count));
    println!("           {table}: {count} rows are what they must be");
}

#[test]
fn tables_of_tpchgen_are_rewritten_and_read_as_duckdb_reads_their_files() {
    let Some(data) = Data::get() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (table, key_setting, key, form) in TABLES {
        let (name, pack) = (format!("default/{table}"), data.packed(table));
        server.ask(&["table", "create", &name]);
        let file = data.file(table).display().to_string();
        let words =
            ["load", &name, &file, "--mode", "merge", "--version", "now", "--key", key, "--pack", &pack];
        let load = told(&format!("{table}: load by rewriting"), || server.ask(&words));
        let load: LoadBody = serde_json::from_value(load).unwrap();
        assert_eq!(load.state, LoadStateBody::Committed);
        assert_eq!((load.progress.adopted_files, load.progress.rewritten_files), (0, 1));
        assert_eq!(load.progress.rows, data.rows(table, 0).count() as u64);
        println!("           {table}: seconds by phase {:?}", load.progress.seconds);
        // The load has declared what keys are, from the types of the columns.
        let described = server.ask(&["table", "describe", &name]);
        let parts: Vec<String> = described["key"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| format!("{}:{}", part["name"].as_str().unwrap(), part["type"].as_str().unwrap()))
            .collect();
        assert_eq!(parts.join(","), key_setting);
        read_everything(&server, &data, table, load.version.unwrap().0, form);
    }
    server.stop();
}

#[test]
fn tables_laid_out_by_pyarrow_are_adopted_and_no_byte_moves() {
    adopted("by_pyarrow.py", 3);
}

#[test]
fn tables_that_spark_writes_with_one_option_set_are_adopted_and_no_byte_moves() {
    adopted("by_spark.py", 4);
}

/// The writer writes straight into the staging places of two loads, and both are committed.
fn adopted(script: &str, files: u64) {
    let Some(data) = Data::get() else { return };
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let server = Server::start(folder.path());
    let client = server.client();
    let mut begun = Vec::new();
    for (table, key_setting, ..) in TABLES {
        server.ask(&["table", "create", table, "--key", key_setting]);
        let body = BeginLoadBody {
            mode: LoadModeBody::Merge,
            version: Some(LoadVersionBody::Now),
            source: None,
            columns: None,
            guards: GuardsBody::default(),
            on_duplicate: Default::default(),
        };
        begun.push(runtime.block_on(client.begin_load(&table_ref(table), &body, None)).unwrap());
    }
    let staging: Vec<PathBuf> =
        begun.iter().map(|load| load.staging_url.strip_prefix("file://").unwrap().into()).collect();
    let targets = TABLES.iter().zip(&staging).map(|((table, ..), to)| format!("{table}={}", to.display()));
    told(&format!("{script}: both tables"), || {
        python(script, [data.folder().display().to_string()].into_iter().chain(targets))
    });
    for ((load, staging), (table, _, _, form)) in begun.iter().zip(&staging).zip(TABLES) {
        let begun_with = inodes(staging);
        let load = told(&format!("{table}: load by adopting"), || {
            runtime.block_on(commit(&client, table, &load.load_id))
        });
        let progress = &load.progress;
        let counted =
            (progress.files, progress.adopted_files, progress.rewritten_files, progress.bytes_moved);
        assert_eq!(counted, (files, files, 0, 0), "{load:?}");
        // The same bytes on the disk, not a copy of them.
        let version = load.version.unwrap().0;
        let serving = runtime.block_on(reading::serving_files(&server, table, data.rows(table, version)));
        let serving: BTreeSet<u64> = serving.iter().map(|file| file.metadata().unwrap().ino()).collect();
        assert_eq!(serving, begun_with);
        let told = runtime.block_on(client.load_files(&table_ref(table), &load.load_id)).unwrap();
        for file in told {
            let wanted = if file.file.ends_with(".parquet") && !file.file.starts_with('.') {
                "adopted"
            } else {
                "skipped"
            };
            assert_eq!(file.outcome, wanted, "{file:?}");
        }
        read_everything(&server, &data, table, version, form);
    }
    server.stop();
}

/// The data files of a staging place.
fn inodes(folder: &Path) -> BTreeSet<u64> {
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with("part-"))
        .map(|file| file.metadata().unwrap().ino())
        .collect()
}

/// Commits a load of whatever lies in its staging place, and waits for it.
pub(crate) async fn commit(client: &Client, table: &str, id: &str) -> LoadBody {
    let table = table_ref(table);
    let mut load =
        client.load_action(&table, id, LoadAction::Commit, &CommitLoadBody::default()).await.unwrap();
    while load.state != LoadStateBody::Committed {
        assert!(!matches!(load.state, LoadStateBody::Failed | LoadStateBody::Cancelled), "{load:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        load = client.load(&table, id).await.unwrap();
    }
    load
}
