//! Parquet files that are broken, that lie, or that change after they were loaded: through HTTP, against the program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use crate::harness::{Http, Server, sample};

const TABLE: &str = "/v1/namespaces/default/tables/t";

/// Columns key and value, whose file says that it is sorted by key, whatever it is.
pub(crate) fn said_to_be_sorted(rows: &[(String, String)]) -> Vec<u8> {
    let schema = parse_message_type("message m { required binary key; required binary value; }").unwrap();
    let by_key = SortingColumn { column_idx: 0, descending: false, nulls_first: false };
    // Pages as an adopted file would have them: nothing but the order is in the way.
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(128)
        .set_write_batch_size(128)
        .set_sorting_columns(Some(vec![by_key]))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let columns: [Vec<ByteArray>; 2] = [
        rows.iter().map(|row| ByteArray::from(&*row.0)).collect(),
        rows.iter().map(|row| ByteArray::from(&*row.1)).collect(),
    ];
    for values in columns {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Puts `files` into a load as `request` wants it, commits, and waits for its end.
pub(crate) fn load(http: &Http, request: Value, files: &[(&str, &[u8])]) -> Value {
    load_into(http, TABLE, request, files)
}

pub(crate) fn load_into(http: &Http, table: &str, request: Value, files: &[(&str, &[u8])]) -> Value {
    let (status, begun) = http.ask("POST", &format!("{table}/loads"), request.to_string());
    assert_eq!(status, 201, "{begun}");
    let load = format!("{table}/loads/{}", begun["load_id"].as_str().unwrap());
    for (name, bytes) in files {
        let (status, told) = http.ask("PUT", &format!("{load}/files/{name}"), *bytes);
        assert_eq!(status, 204, "{name}: {told}");
    }
    let (status, told) = http.ask("POST", &format!("{load}:commit"), "{}");
    assert!(matches!(status, 200 | 202), "{status} {told}");
    let begun = Instant::now();
    loop {
        let (_, told) = http.ask("GET", &load, "");
        if !matches!(told["state"].as_str().unwrap(), "validating" | "preparing" | "prepared" | "open") {
            return told;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A row goes in and comes out, and nothing of a failed load is seen.
fn well(http: &Http, rows: usize) {
    assert_eq!(http.ask("GET", "/readyz", "").0, 200);
    let (_, page) =
        http.ask("GET", &format!("{TABLE}/rows?fields=key&page_size=10000&consistency=strong"), "");
    assert_eq!(page["rows"].as_array().unwrap().len(), rows, "{page}");
    assert_eq!(http.ask("PUT", &format!("{TABLE}/rows/still?version=1"), "here").0, 204);
    assert_eq!(http.ask("GET", &format!("{TABLE}/rows/still?consistency=strong"), "").0, 200);
    assert_eq!(http.ask("DELETE", &format!("{TABLE}/rows/still?version=2"), "").0, 204);
}

#[test]
fn files_that_are_none_fail_their_load_each_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let http = Http::of(&server);
    http.ask("PUT", TABLE, "{}");
    let whole = std::fs::read(sample("pyarrow-aligned128-sorted-tombstones.parquet")).unwrap();
    let footer = |length: u32| {
        let mut lying = whole.clone();
        let at = lying.len() - 8;
        lying[at..at + 4].copy_from_slice(&length.to_le_bytes());
        lying
    };
    let length = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap());
    // The footer is what says how long everything is.
    let mut scrambled = whole.clone();
    let at = scrambled.len() - 8 - length as usize / 2;
    for byte in &mut scrambled[at..at + 64] {
        *byte = byte.wrapping_mul(31).wrapping_add(0x7F);
    }
    let encrypted = [b"PARE", &whole[4..whole.len() - 4], b"PARE"].concat();
    let files: [(&str, &[u8]); 8] = [
        ("cut.parquet", &whole[..whole.len() / 2]),
        ("encrypted.parquet", &encrypted),
        ("head.parquet", b"PAR1"),
        ("long-footer.parquet", &footer(u32::MAX)),
        ("no-footer.parquet", &footer(0)),
        ("scrambled.parquet", &scrambled),
        ("short-footer.parquet", &footer(length - 9)),
        ("text.parquet", b"key,value\na,1\n"),
    ];
    let told = load(&http, json!({"mode": "merge", "version": "now"}), &files);
    assert_eq!(told["state"], "failed", "{told}");
    let errors = told["errors"].as_array().unwrap();
    let named: Vec<&str> = errors.iter().map(|error| error["file"].as_str().unwrap()).collect();
    assert_eq!(named, files.map(|file| file.0), "{told}");
    assert!(errors.iter().all(|error| error["detail"].as_str().unwrap().len() > 10), "{told}");
    assert_eq!(told["error_count"], 8);
    well(&http, 0);
}

#[test]
fn columns_that_are_not_there_or_of_another_type_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let http = Http::of(&server);
    http.ask("PUT", TABLE, "{}");
    let file = std::fs::read(sample("pyarrow-aligned128-sorted-tombstones.parquet")).unwrap();
    for (columns, word) in [
        (json!({"key": ["user"]}), "user"),
        (json!({"key": ["key"], "value": "body"}), "body"),
        (json!({"key": ["key"], "pack": ["value", "more"]}), "more"),
        (json!({"key": ["key"], "version": "value"}), "value"),
        (json!({"key": ["key"], "delete": "value"}), "value"),
        (json!({"key": ["key"], "expires_at": "key"}), "key"),
    ] {
        let request = if columns.get("version").is_some() {
            json!({"mode": "merge", "columns": columns})
        } else {
            json!({"mode": "merge", "version": "now", "columns": columns})
        };
        let told = load(&http, request, &[("f.parquet", &file)]);
        assert_eq!(told["state"], "failed", "{columns}: {told}");
        let error = &told["errors"][0];
        assert_eq!(error["file"], "f.parquet", "{told}");
        assert!(error.to_string().contains(word), "{columns}: {error}");
    }
    well(&http, 0);
}

#[test]
fn a_file_that_says_it_is_sorted_and_is_not_loses_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let http = Http::of(&server);
    http.ask("PUT", TABLE, "{}");
    let count = 3_000;
    let rows: Vec<_> = (0..count)
        .map(|n| n * 1_009 % count)
        .map(|n| (format!("k{n:05}"), format!("value of {n}")))
        .collect();
    let told = load(&http, json!({"mode": "merge", "version": "now"}), &[("f", &said_to_be_sorted(&rows))]);
    assert_eq!(told["state"], "committed", "{told}");
    for (key, value) in rows.iter().step_by(97) {
        let (status, found) = http.bytes(&format!("{TABLE}/rows/{key}?consistency=strong"));
        assert_eq!((status, found), (200, value.clone().into_bytes()), "{key}");
    }
    well(&http, count);
    let files = format!("{TABLE}/loads/{}/files", told["load_id"].as_str().unwrap());
    let (_, files) = http.ask("GET", &files, "");
    assert_eq!(files[0]["outcome"], "rewritten", "{files}");
    assert!(files[0]["reason"].as_str().unwrap().contains("sort"), "{files}");
}

#[test]
fn a_loaded_file_that_is_changed_in_its_place_is_never_answered_from() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let http = Http::of(&server);
    http.ask("PUT", TABLE, "{}");
    let file = std::fs::read(sample("pyarrow-aligned128-sorted-tombstones.parquet")).unwrap();
    let request =
        json!({"mode": "merge", "columns": {"key": ["key"], "value": "value", "version": "version"}});
    let told = load(&http, request, &[("f.parquet", &file)]);
    assert_eq!(
        (&told["state"], &told["progress"]["adopted_files"]),
        (&json!("committed"), &json!(1)),
        "{told}"
    );
    let (_, page) = http.ask("GET", &format!("{TABLE}/rows?page_size=10000"), "");
    let right = page["rows"].as_array().unwrap().clone();
    assert_eq!(server.stop(), 0);

    // Whoever still holds a name of the file writes other bytes into it, of the same length.
    let mut other = file.clone();
    let middle = other.len() / 2;
    for byte in &mut other[4..middle] {
        *byte ^= 0x20;
    }
    let mut changed = 0;
    let mut folders = vec![folder.path().join("data")];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap() == file {
                let mut permissions = std::fs::metadata(&path).unwrap().permissions();
                #[allow(clippy::permissions_set_readonly_false, reason = "a stranger does what it likes")]
                permissions.set_readonly(false);
                std::fs::set_permissions(&path, permissions).unwrap();
                std::fs::write(&path, &other).unwrap();
                changed += 1;
            }
        }
    }
    assert!(changed >= 1);

    let server = Server::start(folder.path(), &[]);
    let http = Http::of(&server);
    let (status, told) = http.ask("GET", &format!("{TABLE}/rows?page_size=10000"), "");
    assert_eq!((status, &told["kind"]), (500, &json!("corrupt")), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("changed"), "{told}");
    for row in right.iter().step_by(211) {
        let key = row["key"].as_str().map_or_else(|| row["key"]["base64"].to_string(), str::to_owned);
        let (status, told) =
            http.ask("POST", &format!("{TABLE}/rows:get"), json!({"key": row["key"]}).to_string());
        assert_eq!((status, &told["kind"]), (500, &json!("corrupt")), "{key}: {told}");
    }
    // Other rows and tables are served as before.
    let other = "/v1/namespaces/default/tables/other";
    assert_eq!(http.ask("PUT", other, "{}").0, 201);
    assert_eq!(http.ask("PUT", &format!("{other}/rows/k"), "v").0, 204);
    assert_eq!(http.bytes(&format!("{other}/rows/k")), (200, b"v".to_vec()));
}
