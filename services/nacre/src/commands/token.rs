//! `nacre token create|list|describe|update|drop`

use super::common::{Asker, moment};
use super::namespace::name;
use crate::cli::Global;
use crate::output::{self, Grid, Out, note, pairs};
use crate::storage::{self, StorageSettings};
use crate::units::Span;
use clap::{Args, Subcommand};
use nacre_access::{Grant, Home, NewToken, Tokens, Verbs};
use nacre_api::{CreateTokenBody, I64, JsonKey, TokenBody, TokenPatch, TokenVerbBody};
use nacre_runtime::{Clock, Context, SystemClock};
use nacre_types::{Error, NamespaceName, Result};
use std::str::FromStr;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token, and print it: it is shown once
    Create {
        /// What people know it by
        name: String,
        #[command(flatten)]
        whose: Whose,
        /// What it may do: read, write, load, admin; several with commas
        #[arg(long = "verbs", value_name = "VERBS", value_delimiter = ',', value_parser = verb)]
        verbs: Vec<TokenVerbBody>,
        /// Only these tables of the namespace; several with commas
        #[arg(long, value_name = "TABLES", value_delimiter = ',')]
        tables: Option<Vec<String>>,
        /// Only keys that begin so; of typed keys a JSON array of leading parts
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
        /// When it is refused: after a span such as 30d, from a moment such as 2030-01-31T12:00:00Z on, or never
        #[arg(long, value_name = "WHEN", default_value = "never")]
        expires: Expiry,
        /// Make the first operator's token, with all verbs, straight in the catalog: asks no server, but what --data, --store
        /// and --catalog name
        #[arg(long, conflicts_with_all = ["namespace", "verbs", "tables", "prefix"])]
        bootstrap: bool,
        /// … even if there is an operator's token already
        #[arg(long, requires = "bootstrap")]
        force: bool,
        #[command(flatten)]
        storage: Box<StorageSettings>,
    },
    /// List tokens; their secrets are kept nowhere
    List {
        #[command(flatten)]
        whose: Whose,
    },
    /// Show a token
    Describe {
        /// Its id
        id: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// Change a token's name or expiry
    Update {
        /// Its id
        id: String,
        #[command(flatten)]
        whose: Whose,
        /// What people know it by
        #[arg(long)]
        name: Option<String>,
        /// When it is refused: after a span such as 30d, from a moment such as 2030-01-31T12:00:00Z on, or never
        #[arg(long, value_name = "WHEN")]
        expires: Option<Expiry>,
    },
    /// Revoke a token: it stops working within half a minute everywhere
    Drop {
        /// Its id
        id: String,
        #[command(flatten)]
        whose: Whose,
    },
}

/// Whose tokens are meant: nothing is assumed, because an operator's token may do everything.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// The namespace that the token is of
    #[arg(long, value_name = "NAMESPACE", value_parser = name)]
    namespace: Option<NamespaceName>,
    /// The token is an operator's: of the whole store
    #[arg(long, conflicts_with = "namespace")]
    operator: bool,
}

impl Whose {
    fn namespace(&self) -> Result<Option<&NamespaceName>> {
        if self.namespace.is_none() && !self.operator {
            return Err(Error::invalid(
                "whose token? say --namespace NAME, or --operator for the whole store",
            )
            .with_code("token-whose"));
        }
        Ok(self.namespace.as_ref())
    }
}

/// When a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    After(Span),
    At(i64),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "expected a span such as 30d, a moment such as 2030-01-31T12:00:00Z, or never";
        match text {
            "never" => Ok(Self::Never),
            // A plain number would be seconds to one and microseconds to the other.
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(wrong.to_owned()),
            _ => text
                .parse()
                .map(Self::After)
                .or_else(|_| moment(text).map(Self::At))
                .map_err(|_| wrong.to_owned()),
        }
    }
}

impl Expiry {
    fn micros(self, now_micros: i64) -> Option<i64> {
        match self {
            Self::Never => None,
            Self::After(Span(seconds)) => {
                let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                Some(now_micros.saturating_add(micros))
            }
            Self::At(micros) => Some(micros),
        }
    }
}

fn verb(text: &str) -> Result<TokenVerbBody, String> {
    match text {
        "read" => Ok(TokenVerbBody::Read),
        "write" => Ok(TokenVerbBody::Write),
        "load" => Ok(TokenVerbBody::Load),
        "admin" => Ok(TokenVerbBody::Admin),
        _ => Err("expected read, write, load or admin".to_owned()),
    }
}

fn verb_name(verb: TokenVerbBody) -> &'static str {
    match verb {
        TokenVerbBody::Read => "read",
        TokenVerbBody::Write => "write",
        TokenVerbBody::Load => "load",
        TokenVerbBody::Admin => "admin",
    }
}

pub(crate) async fn run(command: &Command, global: &Global) -> Result<()> {
    let now = SystemClock::new().now_micros();
    match command {
        Command::Create { name, expires, bootstrap: true, force, storage, .. } => {
            bootstrap(name, expires.micros(now), *force, storage, &Out::new(global.output)).await
        }
        Command::Create { name, whose, verbs, tables, prefix, expires, .. } => {
            let namespace = whose.namespace()?;
            if verbs.is_empty() {
                return Err(Error::invalid("what may it do? say --verbs, as in --verbs read,write")
                    .with_code("token-verbs"));
            }
            let body = CreateTokenBody {
                name: name.clone(),
                verbs: verbs.clone(),
                tables: tables.clone(),
                prefix: prefix.as_deref().map(prefix_of),
                expires_at: expires.micros(now).map(I64),
            };
            let asker = Asker::new(global)?;
            let made = asker.client.create_token(namespace, &body).await?;
            shown_once();
            asker.out.result(&made, |made| made.token.clone())
        }
        Command::List { whose } => {
            let namespace = whose.namespace()?;
            let asker = Asker::new(global)?;
            asker.out.result(&asker.client.tokens(namespace).await?, |all| list(all))
        }
        Command::Describe { id, whose } => {
            let namespace = whose.namespace()?;
            let asker = Asker::new(global)?;
            asker.out.result(&asker.client.token(namespace, id).await?, describe)
        }
        Command::Update { id, whose, name, expires } => {
            let namespace = whose.namespace()?;
            let expires_at = expires.map(|expires| expires.micros(now).map(I64));
            let patch = TokenPatch { name: name.clone(), expires_at };
            let asker = Asker::new(global)?;
            asker.out.result(&asker.client.update_token(namespace, id, &patch).await?, describe)
        }
        Command::Drop { id, whose } => {
            let namespace = whose.namespace()?;
            let asker = Asker::new(global)?;
            asker.client.revoke_token(namespace, id).await?;
            note(&format!("{id} was revoked"));
            asker.out.result(&serde_json::json!({"id": id, "revoked": true}), |_| String::new())
        }
    }
}

fn shown_once() {
    note("this is the token; it is shown once and kept nowhere:");
}

/// The first token cannot be asked for with one. Whoever may write the catalog may do everything anyway.
async fn bootstrap(
    name: &str,
    expires_at_micros: Option<i64>,
    force: bool,
    settings: &StorageSettings,
    out: &Out,
) -> Result<()> {
    let ctx = Context::system();
    let url = settings.store_url();
    let storage = storage::open(settings, &url, &ctx).await?;
    let tokens = Tokens::new(storage.catalog, &ctx);
    if !force && tokens.has_operator().await? {
        return Err(Error::conflict(format!(
            "{url} has an operator's token already: ask with it, nacre token list --operator; or say --force"
        ))
        .with_code("operator-exists"));
    }
    let grant = Grant { home: Home::Store, verbs: Verbs::ALL, tables: None, prefix: None };
    let new = NewToken { name: name.to_owned(), grant, expires_at_micros };
    let (token, secret) = tokens.create(new, None).await?;
    shown_once();
    let json = serde_json::json!({"token": secret.to_text(), "described": {"id": token.id.to_string(), "name": name}});
    out.result(&json, |_| secret.to_text())
}

fn prefix_of(text: &str) -> JsonKey {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Array(parts)) => JsonKey::Parts(parts),
        _ => JsonKey::Text(text.to_owned()),
    }
}

fn verbs_of(token: &TokenBody) -> String {
    token.verbs.iter().map(|verb| verb_name(*verb)).collect::<Vec<_>>().join(",")
}

fn expiry_of(token: &TokenBody) -> String {
    match token.expires_at {
        None => "never".to_owned(),
        Some(at) if token.expired => format!("{} (expired)", output::moment(at.0)),
        Some(at) => output::moment(at.0),
    }
}

fn list(all: &[TokenBody]) -> String {
    let mut grid = Grid::new(&["id", "name", "verbs", "tables", "prefix", "expires"]);
    for token in all {
        grid.row([
            token.id.clone(),
            token.name.clone(),
            verbs_of(token),
            token.tables.as_ref().map_or("all".to_owned(), |tables| tables.join(",")),
            token.prefix.as_ref().map_or("-".to_owned(), super::common::show_key),
            expiry_of(token),
        ]);
    }
    grid.text()
}

fn describe(token: &TokenBody) -> String {
    pairs(&[
        ("id", token.id.clone()),
        ("name", token.name.clone()),
        ("of", token.namespace.clone().unwrap_or_else(|| "the whole store".to_owned())),
        ("verbs", verbs_of(token)),
        ("tables", token.tables.as_ref().map_or("all".to_owned(), |tables| tables.join(","))),
        ("prefix", token.prefix.as_ref().map_or("-".to_owned(), super::common::show_key)),
        ("made", output::moment(token.created_at.0)),
        ("expires", expiry_of(token)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_span_a_moment_or_never() {
        assert_eq!("never".parse(), Ok(Expiry::Never));
        assert_eq!("30d".parse::<Expiry>().unwrap().micros(5), Some(30 * 86_400_000_000 + 5));
        assert_eq!("1970-01-01T00:00:01Z".parse::<Expiry>().unwrap().micros(5), Some(1_000_000));
        for wrong in ["", "30", "tomorrow", "1d2h"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_that_is_an_array_names_parts() {
        assert_eq!(prefix_of("a/"), JsonKey::Text("a/".into()));
        assert_eq!(prefix_of("42"), JsonKey::Text("42".into()));
        assert!(matches!(prefix_of("[42]"), JsonKey::Parts(_)));
    }
}
