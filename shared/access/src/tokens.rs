//! Making, listing, changing and revoking tokens.

use nacre_catalog::{Catalog, RecordPut};
use nacre_runtime::{Backoff, Context};
use nacre_types::{Error, Result, limits};
use std::sync::Arc;
use std::time::Duration;

use crate::grant::{Denied, Grant, Home, Verb};
use crate::record::{Token, decode, encode, record_name, shelf_of};
use crate::secret::{Secret, TokenId};

/// Most tokens of one shelf: of one namespace, or of the store. A shelf is read whole.
pub const MOST_TOKENS: usize = 1_000;
/// Most tables that a token names.
pub const MOST_TABLES: usize = 100;
/// Longest name of a token, in bytes.
pub const NAME_BYTES: usize = 128;
/// How long an expired token is still listed, so that people see why something stopped.
const LISTED_FOR_MICROS: i64 = 30 * 24 * 3_600 * 1_000_000;
const ATTEMPTS: usize = 20;

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What it is called; need not be unique.
    pub name: String,
    /// What it grants.
    pub grant: Grant,
    /// From when on it is refused, in microseconds since the epoch.
    pub expires_at_micros: Option<i64>,
}

/// What of a token is to change. Its grant never does: make another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// Its expiry; `Some(None)` = it does not expire.
    pub expires_at_micros: Option<Option<i64>>,
}

/// The tokens of a store.
#[derive(Debug, Clone)]
pub struct Tokens {
    catalog: Arc<dyn Catalog>,
    ctx: Context,
}

impl Tokens {
    /// The tokens that `catalog` keeps.
    pub fn new(catalog: Arc<dyn Catalog>, ctx: &Context) -> Self {
        Self { catalog, ctx: ctx.clone() }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.ctx
    }

    pub(crate) async fn shelf(&self, shelf: u64) -> Result<Vec<Token>> {
        match self.catalog.record(&record_name(shelf)).await? {
            Some((bytes, _)) => decode(bytes),
            None => Ok(Vec::new()),
        }
    }

    /// The tokens of `home`, expired ones among them, in the order they were made.
    ///
    /// # Errors
    /// `Corrupt` (`tokens-corrupt`), `Unavailable`.
    pub async fn list(&self, home: &Home) -> Result<Vec<Token>> {
        let mut tokens = self.shelf(shelf_of(home)).await?;
        tokens.retain(|token| token.grant.home == *home);
        tokens.sort_by_key(|token| (token.created_at_micros, token.id));
        Ok(tokens)
    }

    /// One of them.
    ///
    /// # Errors
    /// `NotFound` (`token-not-found`); as [`Tokens::list`].
    pub async fn get(&self, home: &Home, id: TokenId) -> Result<Token> {
        let found = self.list(home).await?.into_iter().find(|token| token.id == id);
        found.ok_or_else(|| not_found(home, id))
    }

    /// Whether an operator can still make tokens with one that he has.
    ///
    /// # Errors
    /// As [`Tokens::list`].
    pub async fn has_operator(&self) -> Result<bool> {
        let now = self.ctx.clock.now_micros();
        let tokens = self.list(&Home::Store).await?;
        Ok(tokens.iter().any(|token| token.grant.verbs.has(Verb::Admin) && !token.is_expired(now)))
    }

    /// Makes a token on behalf of another; `None` = of whoever may write the catalog. The secret is nowhere but in the
    /// answer.
    ///
    /// # Errors
    /// `Invalid` (`token-settings`), `Forbidden` (`forbidden-escalation`), `Conflict` (`too-many-tokens`); `Unknown`
    /// where it may be there, in which case nobody has its secret: revoke it.
    pub async fn create(&self, new: NewToken, by: Option<&Token>) -> Result<(Token, Secret)> {
        let now = self.ctx.clock.now_micros();
        let new = checked(new, now)?;
        let shelf = shelf_of(&new.grant.home);
        let secret = Secret::new(TokenId::new(shelf, &*self.ctx.ids), &*self.ctx.ids);
        let token = Token {
            id: secret.id,
            name: new.name,
            grant: new.grant,
            created_at_micros: now,
            expires_at_micros: new.expires_at_micros,
            hash: secret.hash(),
        };
        may_give(by, &token)?;
        self.replace(shelf, |mut tokens, _| {
            if tokens.iter().any(|other| other.id == token.id) {
                return Ok(None);
            }
            let listed = now.saturating_sub(LISTED_FOR_MICROS);
            tokens.retain(|other| !other.is_expired(listed));
            if tokens.len() >= MOST_TOKENS {
                return Err(Error::conflict(format!(
                    "{} has {MOST_TOKENS} tokens, which is the most; revoke one first",
                    token.grant.home
                ))
                .with_code("too-many-tokens"));
            }
            tokens.push(token.clone());
            Ok(Some(tokens))
        })
        .await?;
        Ok((token, secret))
    }

    /// Changes name or expiry.
    ///
    /// # Errors
    /// As [`Tokens::create`] and [`Tokens::get`].
    pub async fn update(
        &self,
        home: &Home,
        id: TokenId,
        change: &Change,
        by: Option<&Token>,
    ) -> Result<Token> {
        let now = self.ctx.clock.now_micros();
        let mut after = None;
        self.replace(shelf_of(home), |mut tokens, _| {
            let found = tokens.iter_mut().find(|token| token.id == id && token.grant.home == *home);
            let token = found.ok_or_else(|| not_found(home, id))?;
            let mut changed = token.clone();
            if let Some(name) = &change.name {
                check_name(name)?;
                changed.name.clone_from(name);
            }
            if let Some(expires) = change.expires_at_micros {
                check_expiry(expires, now)?;
                changed.expires_at_micros = expires;
            }
            may_give(by, &changed)?;
            after = Some(changed.clone());
            if changed == *token {
                return Ok(None);
            }
            *token = changed;
            Ok(Some(tokens))
        })
        .await?;
        after.ok_or_else(|| not_found(home, id))
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// As [`Tokens::get`]; `Unknown` where it may be gone already: revoke it again.
    pub async fn revoke(&self, home: &Home, id: TokenId) -> Result<()> {
        self.replace(shelf_of(home), |mut tokens, tried| {
            let before = tokens.len();
            tokens.retain(|token| token.id != id || token.grant.home != *home);
            match tokens.len() < before {
                true => Ok(Some(tokens)),
                // An attempt whose answer was lost may have been the one that took it away.
                false if tried => Ok(None),
                false => Err(not_found(home, id)),
            }
        })
        .await
    }

    /// Replaces a shelf by what `change` makes of it; `None` = it is as it should be. `change` is called again where
    /// another was faster or an answer was lost, and is told so: it must find its own effect.
    async fn replace(
        &self,
        shelf: u64,
        mut change: impl FnMut(Vec<Token>, bool) -> Result<Option<Vec<Token>>> + Send,
    ) -> Result<()> {
        let name = record_name(shelf);
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        let mut lost = false;
        for _ in 0..ATTEMPTS {
            let (tokens, tag) = match self.catalog.record(&name).await? {
                Some((bytes, tag)) => (decode(bytes)?, Some(tag)),
                None => (Vec::new(), None),
            };
            let Some(mut after) = change(tokens, lost)? else { return Ok(()) };
            after.sort_by_key(|token| token.id);
            match self.catalog.put_record(&name, tag.as_ref(), encode(&after)).await? {
                RecordPut::Stored(_) => return Ok(()),
                RecordPut::Conflict => {}
                RecordPut::Unknown => lost = true,
            }
            tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
        }
        Err(Error::unknown(format!(
            "the list of tokens could not be replaced in {ATTEMPTS} attempts: others changed it, or no answer came; \
             list the tokens to see what became of it"
        )))
    }
}

fn not_found(home: &Home, id: TokenId) -> Error {
    Error::not_found(format!("{home} has no token {id}; it may have been revoked"))
        .with_code("token-not-found")
}

fn may_give(by: Option<&Token>, token: &Token) -> Result<()> {
    let Some(by) = by else { return Ok(()) };
    // A token that lives longer than its maker would be a way to outlive one's own expiry.
    let outlives = match (by.expires_at_micros, token.expires_at_micros) {
        (None, _) => false,
        (Some(own), Some(other)) => other > own,
        (Some(_), None) => true,
    };
    if outlives || !by.grant.covers(&token.grant) {
        return Err(Denied::Escalation.error());
    }
    Ok(())
}

fn wrong(detail: impl Into<String>) -> Error {
    Error::invalid(detail).with_code("token-settings")
}

fn check_name(name: &str) -> Result<()> {
    let fits = (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(wrong(format!("name: 1 to {NAME_BYTES} bytes without control characters, to know the token by")))
}

fn check_expiry(expires: Option<i64>, now: i64) -> Result<()> {
    match expires {
        Some(at) if at <= now => {
            Err(wrong("expires_at lies in the past; it is in microseconds since the epoch"))
        }
        _ => Ok(()),
    }
}

fn checked(mut new: NewToken, now: i64) -> Result<NewToken> {
    check_name(&new.name)?;
    check_expiry(new.expires_at_micros, now)?;
    let Grant { home, verbs, tables, prefix } = &mut new.grant;
    if verbs.is_empty() {
        return Err(wrong("verbs: at least one of read, write, load and admin"));
    }
    if *home == Home::Store && (tables.is_some() || prefix.is_some()) {
        return Err(wrong(
            "a token of the whole store names no tables and no prefix; make one in a namespace",
        ));
    }
    if let Some(tables) = tables {
        tables.sort();
        tables.dedup();
        if tables.is_empty() || tables.len() > MOST_TABLES {
            return Err(wrong(format!(
                "tables: 1 to {MOST_TABLES} names, or leave them out for all of the namespace"
            )));
        }
    }
    if let Some(prefix) = prefix
        && !(1..=limits::KEY_BYTES).contains(&prefix.len())
    {
        return Err(wrong(format!(
            "prefix: 1 to {} bytes, the limit key_bytes, or leave it out",
            limits::KEY_BYTES
        )));
    }
    Ok(new)
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
mod tests;
