//! Mutations of a relational database in Thrift, as Airbnb's SpinalTap publishes them.
//!
//! ```text
//! Mutation      1 type (1 insert, 2 update, 3 delete)  2 timestamp (i64, milliseconds)  3 source_id
//!               4 data_source  5 binlog_header  6 table  7 entity map<string, binary>  8 previous_entity, likewise
//! DataSource    1 hostname  2 port  3 synapse_service
//! BinlogHeader  1 pos  2 server_id  3 timestamp  4 type  5 last_transaction_pos  6 last_transaction_timestamp
//!               7 leader_epoch  8 id  9 event_row_position
//! Table         1 id  2 name  3 database  4 primary_key set<string>  5 columns map<string, Column>  6 overriding_database
//! ```
//!
//! Fields that this does not know are passed over, as Thrift's rules ask. The row is `entity`; everything else is found
//! behind an `@`, by the names above.

mod java;
mod reader;

use crate::debezium::Change;
use crate::declaration::{ColumnEncoding, Protocol, ThriftSpec};
use crate::doc::Doc;
use crate::{Fault, fault};
use reader::{Reader, Value};

const DATA_SOURCE: &[(i16, &str)] = &[(1, "hostname"), (2, "port"), (3, "synapse_service")];
const BINLOG_HEADER: &[(i16, &str)] = &[
    (1, "pos"),
    (2, "server_id"),
    (3, "timestamp"),
    (4, "type"),
    (5, "last_transaction_pos"),
    (6, "last_transaction_timestamp"),
    (7, "leader_epoch"),
    (8, "id"),
    (9, "event_row_position"),
];
const TABLE: &[(i16, &str)] =
    &[(1, "id"), (2, "name"), (3, "database"), (4, "primary_key"), (6, "overriding_database")];

/// Reads a mutation.
pub(crate) fn mutation(bytes: &[u8], spec: &ThriftSpec) -> Result<Change, Fault> {
    let read = match spec.protocol {
        Protocol::Binary => Reader::new(bytes).binary_struct(),
        Protocol::Compact => Reader::new(bytes).compact_struct(),
    };
    let Some(Value::Struct(fields)) = read else {
        return fault(format!(
            "it is no Thrift struct in the {} protocol",
            match spec.protocol {
                Protocol::Binary => "binary",
                Protocol::Compact => "compact",
            }
        ));
    };
    let (mut kind, mut entity, mut before) = (None, None, None);
    let mut envelope = Vec::new();
    for (id, value) in fields {
        match (id, value) {
            (1, Value::Int(number)) => kind = Some(number),
            (2, value @ Value::Int(_)) => envelope.push(("timestamp".to_owned(), plain(value))),
            (3, value) => envelope.push(("source_id".to_owned(), plain(value))),
            (4, value) => envelope.push(("data_source".to_owned(), named(value, DATA_SOURCE))),
            (5, value) => envelope.push(("binlog_header".to_owned(), named(value, BINLOG_HEADER))),
            (6, value) => envelope.push(("table".to_owned(), named(value, TABLE))),
            (7, value) => entity = Some(columns(value, spec.columns)?),
            (8, value) => before = Some(columns(value, spec.columns)?),
            _ => {}
        }
    }
    let is_delete = match kind {
        Some(1 | 2) => false,
        Some(3) => true,
        Some(other) => return fault(format!("its type is {other}, which is no insert, update or delete")),
        None => return fault("it has no type: is it a Mutation?"),
    };
    let name = if is_delete {
        "DELETE"
    } else if kind == Some(1) {
        "INSERT"
    } else {
        "UPDATE"
    };
    envelope.push(("type".to_owned(), Doc::Text(name.to_owned())));
    let Some(row) = entity else { return fault("it has no entity") };
    Ok(Change { envelope: Doc::Object(envelope), row, before, is_delete })
}

fn columns(value: Value, encoding: ColumnEncoding) -> Result<Doc, Fault> {
    let Value::Map(pairs) = value else { return fault("its entity is no map of columns") };
    let mut fields = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (Value::Bytes(name), Value::Bytes(bytes)) = (name, value) else {
            return fault("its entity is no map of names to bytes");
        };
        let name = String::from_utf8(name).or_else(|_| fault("a column's name is not UTF-8"))?;
        let doc = match encoding {
            ColumnEncoding::Text => plain(Value::Bytes(bytes)),
            ColumnEncoding::Java => java::read(&bytes).ok_or_else(|| {
                Fault(format!("column {name} is no Java string, number, boolean or byte array"))
            })?,
        };
        fields.push((name, doc));
    }
    // A map has no order of its own, and equal rows should be equal bytes.
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Doc::Object(fields))
}

fn named(value: Value, names: &[(i16, &str)]) -> Doc {
    let Value::Struct(fields) = value else { return Doc::Null };
    let known = fields.into_iter().filter_map(|(id, value)| {
        let (_, name) = names.iter().find(|(known, _)| *known == id)?;
        Some(((*name).to_owned(), plain(value)))
    });
    Doc::Object(known.collect())
}

fn plain(value: Value) -> Doc {
    match value {
        Value::Bool(is) => Doc::Bool(is),
        Value::Int(number) => Doc::Int(number.into()),
        Value::Double(number) => Doc::Float(number),
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Doc::Text(text),
            Err(error) => Doc::Bytes(error.into_bytes()),
        },
        Value::List(items) => Doc::List(items.into_iter().map(plain).collect()),
        Value::Map(_) | Value::Struct(_) => Doc::Null,
    }
}
