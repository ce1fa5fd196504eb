//! `nacre log show`: the records of a partition, from where it is flushed through. It reads as every reader does, from there
//! and not from earlier, since the versions of rows follow from all records since.

use crate::output::{Grid, Out, moment, printable};
use crate::storage::{Storage, StorageSettings};
use clap::Args;
use nacre_engine::flushed_through_record;
use nacre_log::{FlushedThrough, LogPosition, Op, RecordKind, Stamped, TailStep};
use nacre_types::{Error, PartitionId, Result, StoreId};
use serde::Serialize;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Nobody reads more by hand; what is wanted beyond is asked for by its offset.
const MOST: usize = 100_000;
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(super) storage: Box<StorageSettings>,

    /// Which partition
    #[arg(long, value_name = "N", default_value = "0")]
    partition: u32,

    /// The first record to print; what was flushed before cannot be shown. Without it the first that is not flushed
    #[arg(long, value_name = "N")]
    offset: Option<u64>,

    /// Print at most so many records
    #[arg(long, value_name = "N", default_value = "100")]
    limit: usize,

    /// Print keys as they are, and not a hash of each: they may be anything that users store
    #[arg(long)]
    keys: bool,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    /// `put` or `delete`.
    op: &'static str,
    /// As text, or 16 digits of its hash.
    key: String,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    value_bytes: usize,
}

#[derive(Debug, Serialize)]
struct Record {
    offset: u64,
    append_time: i64,
    /// `rows`, `notice`, `marker` or `fence`.
    kind: &'static str,
    table: String,
    generation: u32,
    write_id: String,
    /// Of a notice: the edit that it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<u64>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Shown {
    partition: u32,
    flushed_through: u64,
    end_offset: u64,
    records: Vec<Record>,
}

/// Prints them.
///
/// # Errors
/// What is wrong with the log: a reader stops where it says so (`log-lost`, `log-gap`, ...). `Invalid` for a partition that
/// is not there or an offset that was flushed.
pub(super) async fn show(asked: &Show, storage: Storage, out: &Out) -> Result<()> {
    let partition = PartitionId(asked.partition);
    if asked.partition >= storage.log.partitions() {
        return Err(Error::invalid(format!(
            "partition {partition}: the log has {}, counted from 0",
            storage.log.partitions()
        ))
        .with_code("partition-unknown"));
    }
    let flushed = match storage.catalog.record(&flushed_through_record(partition)).await? {
        Some((bytes, _)) => FlushedThrough::decode(&bytes)?.position,
        None => LogPosition::start(storage.identity.log_incarnation),
    };
    let first = asked.offset.unwrap_or(flushed.offset.0);
    if first < flushed.offset.0 {
        return Err(Error::invalid(format!(
            "offset {first}: everything below {} is in segments, and the versions of its rows cannot be computed any more",
            flushed.offset
        ))
        .with_code("offset-flushed"));
    }
    let end = storage.log.end(partition).await?;
    let mut tail = storage.log.tail(partition, flushed).await?;
    let (mut at, mut records) = (flushed.offset, Vec::new());
    let limit = asked.limit.min(MOST);
    while at < end.offset && records.len() < limit {
        match tail.next().await {
            Ok(TailStep::Batch(batch)) => {
                at = batch.next.offset;
                let wanted = batch.records.into_iter().filter(|stamped| stamped.offset.0 >= first);
                let room = limit - records.len();
                let store = storage.identity.store_id;
                records.extend(wanted.take(room).map(|stamped| record(&stamped, asked.keys, store)));
            }
            Ok(TailStep::Restart) => {
                return Err(
                    Error::unavailable("the log was trimmed meanwhile; ask again").with_code("log-trimmed")
                );
            }
            Err(error) if error.kind().is_retryable() => {
                tracing::warn!(%error, "the log is asked again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
    let shown = Shown {
        partition: asked.partition,
        flushed_through: flushed.offset.0,
        end_offset: end.offset.0,
        records,
    };
    out.result(&shown, text)
}

fn record(stamped: &Stamped, keys: bool, store: StoreId) -> Record {
    let (kind, edit) = match &stamped.record.kind {
        RecordKind::Rows(_) => ("rows", None),
        RecordKind::Notice { seq } => ("notice", Some(seq.0)),
        RecordKind::Marker => ("marker", None),
        RecordKind::Fence => ("fence", None),
    };
    let rows = stamped.record.rows().map(|row| shown_row(stamped, &row, keys, store)).collect();
    Record {
        offset: stamped.offset.0,
        append_time: stamped.append_time,
        kind,
        table: stamped.record.table.to_string(),
        generation: u32::from(stamped.record.generation.0),
        write_id: stamped.record.write_id.to_string(),
        edit,
        rows,
    }
}

fn shown_row(stamped: &Stamped, row: &nacre_log::RecordRow, keys: bool, store: StoreId) -> Row {
    let op = match row.op {
        Op::Put => "put",
        Op::Delete => "delete",
    };
    let key = if keys { String::from_utf8_lossy(&row.key).into_owned() } else { hashed(&row.key, store) };
    let version = row.version.unwrap_or(stamped.version);
    Row { op, key, version, expires_at: row.expires_at, value_bytes: row.value.len() }
}

/// Tells keys of one store apart, and tells nobody which they are who does not guess them.
fn hashed(key: &[u8], store: StoreId) -> String {
    let mut hasher = DefaultHasher::new();
    store.0.hash(&mut hasher);
    key.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn text(shown: &Shown) -> String {
    let mut grid = Grid::new(&[">offset", "appended", "kind", "table", "op", "key", ">version", ">bytes"]);
    for record in &shown.records {
        let head = || {
            (
                record.offset.to_string(),
                moment(record.append_time),
                record.kind.to_owned(),
                record.table.clone(),
            )
        };
        if record.rows.is_empty() {
            let (offset, appended, kind, table) = head();
            let what = record.edit.map_or(String::new(), |edit| format!("edit {edit}"));
            grid.row([offset, appended, kind, table, what, String::new(), String::new(), String::new()]);
        }
        for row in &record.rows {
            let (offset, appended, kind, table) = head();
            let (version, bytes) = (row.version.to_string(), row.value_bytes.to_string());
            grid.row([offset, appended, kind, table, row.op.to_owned(), printable(&row.key), version, bytes]);
        }
    }
    format!(
        "partition {}: flushed through {}, ends at {}\n{}",
        shown.partition,
        shown.flushed_through,
        shown.end_offset,
        grid.text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_log::RecordBuilder;
    use nacre_types::{Generation, Offset, TableId, WriteId};

    fn stamped() -> Stamped {
        let mut builder = RecordBuilder::new(TableId(7), Generation(0), WriteId(9));
        builder.push(Op::Put, b"secret", b"value", None, None).unwrap();
        builder.push(Op::Delete, b"other", b"", Some(5), None).unwrap();
        let record = nacre_log::Record::decode(builder.finish().as_bytes().clone()).unwrap();
        Stamped { offset: Offset(3), append_time: 1_000, version: 1_001, record }
    }

    #[test]
    fn keys_are_shown_only_where_they_are_asked_for() {
        let hidden = record(&stamped(), false, StoreId(1));
        let json = serde_json::to_string(&hidden).unwrap();
        assert!(!json.contains("secret") && !json.contains("value\""), "{json}");
        assert_eq!(hidden.rows[0].key, record(&stamped(), false, StoreId(1)).rows[0].key);
        assert_ne!(
            hidden.rows[0].key,
            record(&stamped(), false, StoreId(2)).rows[0].key,
            "of each store its own"
        );
        let shown = record(&stamped(), true, StoreId(1));
        assert_eq!((shown.rows[0].key.as_str(), shown.rows[1].key.as_str()), ("secret", "other"));
    }

    #[test]
    fn a_row_has_its_own_version_or_the_one_that_the_log_gives() {
        let shown = record(&stamped(), true, StoreId(1));
        let versions: Vec<_> = shown.rows.iter().map(|row| (row.op, row.version, row.value_bytes)).collect();
        assert_eq!(versions, [("put", 1_001, 5), ("delete", 5, 0)]);
    }
}
