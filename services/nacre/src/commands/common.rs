//! What several commands share: asking the server, and the arguments of reads.

use crate::cli::Global;
use crate::output::Out;
use crate::units::TableArgument;
use clap::Args;
use nacre_api::JsonKey;
use nacre_client::{Client, ClientConfig, ClientFiles, KeyText, ReadOptions, TableRef};
use nacre_types::{Consistency, Error, Result};
use std::time::Duration;

/// How long the server may take for one answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks a server and prints what it says.
pub(crate) struct Asker {
    pub(crate) client: Client,
    pub(crate) out: Out,
}

impl Asker {
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let tls = ClientFiles { ca: global.ca_file.clone(), certificate: None };
        let config =
            ClientConfig { server: global.server.clone(), tls, token: token(global)?, deadline: DEADLINE };
        Ok(Self { client: Client::new(config)?, out: Out::new(global.output) })
    }
}

/// The access token, from where it was said to be.
fn token(global: &Global) -> Result<Option<String>> {
    // NACRE_TOKEN= is how a shell says that there is none.
    let said = global.token.clone().filter(|token| !token.is_empty());
    let Some(file) = &global.token_file else { return Ok(said) };
    if said.is_some() {
        return Err(Error::invalid("token and token_file: say one of them").with_code("token-twice"));
    }
    let named = |why: &dyn std::fmt::Display| {
        Error::invalid(format!("token_file {}: {why}", file.display())).with_code("token-file")
    };
    let text = std::fs::read_to_string(file).map_err(|error| named(&error))?;
    match text.trim() {
        "" => Err(named(&"it is empty")),
        text => Ok(Some(text.to_owned())),
    }
}

/// The table as the client names it.
pub(crate) fn table_ref(table: &TableArgument) -> TableRef {
    TableRef::new(table.namespace.clone(), table.table.clone())
}

/// How a key is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum KeyEncoding {
    /// Its text; of a typed key the JSON array of its parts, or the text of its only part.
    #[default]
    Text,
    /// Its bytes in base64url.
    Base64url,
}

/// A key of a table.
#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    /// The table
    #[arg(value_name = "TABLE")]
    pub(crate) table: TableArgument,

    /// The key; of typed keys the JSON array of its parts, as in '[42,"a"]', or the text of the only part
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) key: String,

    /// How KEY is spelt
    #[arg(long, value_name = "ENCODING", default_value = "text")]
    pub(crate) key_encoding: KeyEncoding,
}

impl KeyArguments {
    pub(crate) fn key(&self) -> KeyText<'_> {
        match self.key_encoding {
            KeyEncoding::Text => KeyText::Text(self.key.as_bytes()),
            KeyEncoding::Base64url => KeyText::Base64Url(&self.key),
        }
    }

    pub(crate) fn table_ref(&self) -> TableRef {
        table_ref(&self.table)
    }
}

/// What a read may ask for.
#[derive(Debug, Args)]
pub(crate) struct ReadArguments {
    /// How fresh the answer must be: eventual, session or strong; without it the table's own
    #[arg(long, value_name = "CONSISTENCY", value_parser = consistency)]
    pub(crate) consistency: Option<Consistency>,

    /// The newest version that may be answered: microseconds since the epoch, or a moment such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "VERSION", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) as_of: Option<i64>,

    /// A prepared load that is read as if it were committed
    #[arg(long, value_name = "ID")]
    pub(crate) preview: Option<String>,
}

impl ReadArguments {
    pub(crate) fn options(&self) -> ReadOptions {
        ReadOptions {
            consistency: self.consistency,
            as_of: self.as_of,
            load: self.preview.clone(),
            ..ReadOptions::default()
        }
    }
}

/// `eventual`, `session` or `strong`.
pub(crate) fn consistency(text: &str) -> Result<Consistency, String> {
    match text {
        "eventual" => Ok(Consistency::Eventual),
        "session" => Ok(Consistency::Session),
        "strong" => Ok(Consistency::Strong),
        _ => Err("expected eventual, session or strong".to_owned()),
    }
}

/// The word of a consistency.
pub(crate) fn consistency_name(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Eventual => "eventual",
        Consistency::Session => "session",
        Consistency::Strong => "strong",
    }
}

/// What a write may carry.
#[derive(Debug, Args)]
pub(crate) struct WriteArguments {
    /// The row's version: microseconds since the epoch, or a moment such as 2030-01-31T12:00:00Z; without it the log
    /// gives one
    #[arg(long, value_name = "VERSION", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) version: Option<i64>,

    /// Makes a repeat of a write without a version the same write
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// A key for people.
pub(crate) fn show_key(key: &JsonKey) -> String {
    match key {
        JsonKey::Text(text) => text.clone(),
        JsonKey::Base64 { base64 } => format!("base64:{base64}"),
        JsonKey::Parts(parts) => serde_json::to_string(parts).unwrap_or_default(),
    }
}

/// Microseconds since the epoch, or a moment as RFC 3339 writes it.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    let wrong =
        || "expected microseconds since the epoch, or a moment such as 2030-01-31T12:00:00Z".to_owned();
    match text.parse() {
        Ok(micros) => Ok(micros),
        Err(_) => nacre_types::civil::parse_timestamp(text).ok_or_else(wrong),
    }
}

/// The error of a thing that failed on this machine, with what was being done.
pub(crate) fn failed(what: impl std::fmt::Display, error: &std::io::Error) -> Error {
    let error_of = match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found,
        _ => |detail: String| Error::unavailable(detail),
    };
    error_of(format!("{what}: {error}"))
}
