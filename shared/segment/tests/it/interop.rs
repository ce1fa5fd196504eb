//! What is written is ordinary Parquet: pyarrow, DuckDB and Polars read the same rows.

use crate::rows::{OwnedRow, sort, write};
use nacre_segment::{Codec, WriterSettings};
use nacre_types::{Place, Seq};
use std::process::Command;

const SCRIPT: &str = r#"
import sys, pyarrow.parquet as pq, duckdb, polars
path, with_place = sys.argv[1], sys.argv[2] == "1"
expected = []
for line in open(sys.argv[3]):
    key, version, expires, value, rank = line.rstrip("\n").split(",")
    row = (bytes.fromhex(key), int(version), int(expires) if expires else None, bytes.fromhex(value[1:]) if value else None)
    expected.append(row + ((int(rank) if rank else None),) if with_place else row)
names = ["key", "version", "expires_at", "value"] + (["rank"] if with_place else [])

file = pq.ParquetFile(path, page_checksum_verification=True)
assert file.schema_arrow.names == names, file.schema_arrow.names
assert [str(t) for t in file.schema_arrow.types][:4] == ["binary", "int64", "int64", "binary"]
table = file.read()
assert list(zip(*[table[n].to_pylist() for n in names])) == expected, "pyarrow reads other rows"
group = file.metadata.row_group(0)
assert group.column(0).has_offset_index and group.column(3).has_offset_index and group.column(0).has_column_index
assert not group.column(3).is_stats_set
assert sum(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)) == len(expected)
for i in range(file.metadata.num_row_groups):
    stats = file.metadata.row_group(i).column(0).statistics
    assert stats.null_count == 0

connection = duckdb.connect()
assert connection.execute(f"select * from read_parquet('{path}')").fetchall() == expected, "duckdb reads other rows"
# Filters go through the statistics.
for key in {expected[0][0], expected[len(expected) // 2][0], expected[-1][0]}:
    wanted = [row for row in expected if row[0] == key]
    found = connection.execute(f"select * from read_parquet('{path}') where key = ?", [key]).fetchall()
    assert sorted(map(repr, found)) == sorted(map(repr, wanted)), ("duckdb, by key", key)
    found = pq.read_table(path, filters=[("key", "==", key)])
    assert list(zip(*[found[n].to_pylist() for n in names])) == wanted, ("pyarrow, by key", key)
    found = polars.scan_parquet(path).filter(polars.col("key") == key).collect()
    assert sorted(map(repr, found.rows())) == sorted(map(repr, wanted)), ("polars, by key", key)
assert polars.read_parquet(path).rows() == expected, "polars reads other rows"
print("equal:", len(expected))
"#;

fn check(rows: &[OwnedRow], settings: &WriterSettings) {
    #[allow(clippy::disallowed_methods, reason = "the test command says where a Python with the readers is")]
    let python = std::env::var_os("NACRE_PYTHON");
    let Some(python) = python else {
        eprintln!(
            "NOTICE: skipped, NACRE_PYTHON is not set (the path of a python with pyarrow, duckdb and polars)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (path, expected) = (folder.path().join("segment.parquet"), folder.path().join("rows.csv"));
    std::fs::write(&path, &write(rows, settings.clone()).file).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let number = |n: Option<i64>| n.map_or(String::new(), |n| n.to_string());
    let lines: String = rows
        .iter()
        .map(|row| {
            let value = row.value.as_ref().map_or(String::new(), |v| format!("x{}", hex(v)));
            let place = number(row.place.map(Place::to_i64));
            format!("{},{},{},{value},{place}\n", hex(&row.key), row.version, number(row.expires_at))
        })
        .collect();
    std::fs::write(&expected, lines).unwrap();
    let with_place = if settings.with_place { "1" } else { "0" };
    let output =
        Command::new(python).args(["-c", SCRIPT]).arg(&path).arg(with_place).arg(&expected).output().unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("equal:"),
        "{settings:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn rows(count: u32) -> Vec<OwnedRow> {
    let mut rows: Vec<_> = (0..count)
        .map(|i| {
            let hash = nacre_segment::key_hash(&i.to_be_bytes());
            let mut row =
                OwnedRow::new(&hash.to_be_bytes(), i64::from(i), Some(i.to_string().repeat(9).as_bytes()));
            if i % 17 == 0 {
                row.value = None;
            }
            if i % 19 == 0 {
                row.value = Some(Vec::new());
            }
            row.expires_at = (i % 3 == 0).then_some(i64::from(i) * 5);
            row
        })
        .collect();
    rows.extend((0..200).map(|version| OwnedRow::new(&[0x80; 100], version, Some(b"version"))));
    rows.push(OwnedRow::new(&[0xFF; 2_048], 1, Some(&vec![b'v'; 1 << 20])));
    rows.push(OwnedRow::new(&[0x42; 2_000], 1, None));
    sort(&mut rows);
    rows
}

#[test]
fn other_readers_read_the_same_rows() {
    let rows = rows(5_000);
    for compression in [Codec::Lz4Raw, Codec::Zstd, Codec::None] {
        check(&rows, &WriterSettings { compression, ..WriterSettings::default() });
    }
}

#[test]
fn other_readers_read_ranks_and_small_pages() {
    let mut rows = rows(700);
    for (i, row) in rows.iter_mut().enumerate() {
        row.place = (i % 4 > 0).then_some(Place::loaded(Seq(i as u64)));
    }
    sort(&mut rows);
    let settings = WriterSettings {
        rows_per_page: 7,
        rows_per_group: 21,
        with_place: true,
        ..WriterSettings::default()
    };
    check(&rows, &settings);
}
