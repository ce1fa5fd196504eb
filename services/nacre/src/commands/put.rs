//! `nacre put TABLE KEY VALUE|@file|-`

use super::common::{Asker, KeyArguments, WriteArguments, failed, moment};
use crate::output::Out;
use bytes::Bytes;
use clap::Args;
use nacre_client::{WriteAnswer, WriteOptions};
use nacre_types::{Error, Result, limits};
use std::io::Read;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: KeyArguments,
    /// The value; @FILE takes a file's bytes, - takes stdin's
    #[arg(value_name = "VALUE|@FILE|-", allow_hyphen_values = true)]
    value: String,
    #[command(flatten)]
    write: WriteArguments,
    /// When the row expires: microseconds since the epoch, or a moment such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    expires_at: Option<i64>,
}

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let value = value(&arguments.value)?;
    let options = WriteOptions {
        version: arguments.write.version,
        expires_at: arguments.expires_at,
        idempotency_key: arguments.write.idempotency_key.clone(),
    };
    let key = &arguments.key;
    let answer = asker.client.put(&key.table_ref(), key.key(), value, &options).await?;
    report(&answer, &asker.out)
}

/// What was written: nothing for people but the version where the server gave it.
pub(crate) fn report(answer: &WriteAnswer, out: &Out) -> Result<()> {
    let json = serde_json::json!({"version": answer.version.map(nacre_api::I64), "token": answer.token});
    out.result(&json, |_| answer.version.map(|version| format!("version {version}")).unwrap_or_default())
}

fn value(argument: &str) -> Result<Bytes> {
    if argument == "-" {
        return read("stdin", std::io::stdin().lock());
    }
    match argument.strip_prefix('@') {
        Some(path) => read(path, std::fs::File::open(path).map_err(|error| failed(path, &error))?),
        None => Ok(Bytes::copy_from_slice(argument.as_bytes())),
    }
}

/// Reads a value, and no more than one byte beyond the limit: an endless pipe is refused, not gathered.
fn read(name: &str, source: impl Read) -> Result<Bytes> {
    let mut bytes = Vec::new();
    source
        .take(limits::VALUE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(name, &error))?;
    if bytes.len() > limits::VALUE_BYTES {
        return Err(Error::invalid(format!(
            "{name}: more than the limit value_bytes, {}",
            limits::VALUE_BYTES
        ))
        .with_code("value-too-large"));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_given_or_read_from_a_file_up_to_the_limit() {
        assert_eq!(value("a b").unwrap(), "a b");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        std::fs::write(&path, b"\x00\xFF").unwrap();
        assert_eq!(value(&format!("@{}", path.display())).unwrap(), b"\x00\xFF"[..]);
        std::fs::write(&path, vec![0; limits::VALUE_BYTES + 1]).unwrap();
        assert_eq!(value(&format!("@{}", path.display())).unwrap_err().code(), "value-too-large");
        assert_eq!(value("@/no/such/file").unwrap_err().kind(), nacre_types::ErrorKind::NotFound);
    }
}
