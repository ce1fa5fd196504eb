//! `nacre get TABLE KEY`

use super::common::{Asker, KeyArguments, ReadArguments};
use crate::output::note;
use clap::Args;
use nacre_api::JsonKey;
use nacre_client::{GetAnswer, Value};
use nacre_types::{Error, Result};
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    read: ReadArguments,
    /// Tell version, expiry and cost on stderr
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let key = &arguments.key;
    match asker.client.get(&key.table_ref(), key.key(), &arguments.read.options()).await? {
        GetAnswer::Found(row) => {
            if arguments.verbose {
                note(&told(&row));
            }
            if asker.out.is_json() {
                asker.out.result(&as_json(&key.key, &row), |_| String::new())
            } else {
                asker.out.value(&row.value)
            }
        }
        GetAnswer::Absent(detail) => Err(Error::not_found(detail).with_code("row-absent")),
    }
}

fn told(row: &Value) -> String {
    let mut text = format!("version {}", row.version);
    if let Some(expires_at) = row.expires_at {
        text.push_str(&format!(", expires at {}", crate::output::moment(expires_at)));
    }
    let receipt = &row.receipt;
    let more = [("from", &receipt.source), ("cost", &receipt.cost), ("request", &receipt.request_id)];
    for (name, value) in more {
        if let Some(value) = value {
            text.push_str(&format!(", {name} {value}"));
        }
    }
    text
}

fn as_json(key: &str, row: &Value) -> serde_json::Value {
    let mut object = json!({
        "key": key,
        "version": nacre_api::I64(row.version),
        "source": row.receipt.source,
        "edition": row.receipt.edition,
        "cost": row.receipt.cost,
    });
    let (name, value) = match std::str::from_utf8(&row.value) {
        Ok(text) => ("value", json!(text)),
        // One place knows base64: the key's JSON form.
        Err(_) => ("value_base64", json!(JsonKey::from_bytes(&row.value))["base64"].take()),
    };
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
        if let Some(expires_at) = row.expires_at {
            fields.insert("expires_at".to_owned(), json!(nacre_api::I64(expires_at)));
        }
    }
    object
}
