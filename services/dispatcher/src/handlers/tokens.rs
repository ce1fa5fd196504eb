//! Access tokens, of a namespace and of the whole store. Both collections have the same form; the functions that only
//! describe an operation for `openapi.json` come first.

use bytes::Bytes;
use http::StatusCode;
use http::header::LOCATION;
use nacre_access::{Change, Grant, Home, NewToken, Token, TokenId, Verb};
use nacre_api::{
    CreateTokenBody, CreatedTokenBody, I64, JsonKey, Problem, TokenBody, TokenPatch, TokenVerbBody,
    TokensBody, from_json,
};
use nacre_types::{Error, KeySchema, NamespaceName, Result, TableName};

use super::rows::schema;
use crate::answer::Answer;
use crate::call::Call;
use crate::convert;

/// The tokens of a namespace, in the order they were made; never their secrets.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tokens", operation_id = "list_tokens", tag = "Tokens",
    params(("ns" = String, Path), ("page_size" = Option<u64>, Query, description = "1,000 unless said"), ("page_token" = Option<String>, Query)),
    responses((status = 200, body = TokensBody, description = "A page of them.")))]
#[allow(dead_code)]
pub(crate) fn list() {}

/// Makes a token of a namespace: this answer alone has its text. It may do at most what its maker may.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tokens", operation_id = "create_token", tag = "Tokens", params(("ns" = String, Path)), request_body = CreateTokenBody,
    responses((status = 201, body = CreatedTokenBody, description = "Made."), (status = 409, body = Problem, content_type = "application/problem+json", description = "too-many-tokens")))]
#[allow(dead_code)]
pub(crate) fn create() {}

/// A token described.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tokens/{id}", operation_id = "describe_token", tag = "Tokens", params(("ns" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = TokenBody, description = "What it may do."), (status = 404, body = Problem, content_type = "application/problem+json", description = "token-not-found")))]
#[allow(dead_code)]
pub(crate) fn describe() {}

/// Changes a token's name or expiry, within what the caller may give.
#[utoipa::path(patch, path = "/v1/namespaces/{ns}/tokens/{id}", operation_id = "update_token", tag = "Tokens", params(("ns" = String, Path), ("id" = String, Path)), request_body(content = TokenPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, body = TokenBody, description = "Changed."), (status = 404, body = Problem, content_type = "application/problem+json", description = "token-not-found")))]
#[allow(dead_code)]
pub(crate) fn update() {}

/// Revokes a token: at once here, within half a minute everywhere.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/tokens/{id}", operation_id = "revoke_token", tag = "Tokens", params(("ns" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "Revoked."), (status = 404, body = Problem, content_type = "application/problem+json", description = "token-not-found")))]
#[allow(dead_code)]
pub(crate) fn revoke() {}

/// The operators' tokens: those of the whole store.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "list_store_tokens", tag = "Tokens",
    params(("page_size" = Option<u64>, Query, description = "1,000 unless said"), ("page_token" = Option<String>, Query)),
    responses((status = 200, body = TokensBody, description = "A page of them.")))]
#[allow(dead_code)]
pub(crate) fn list_store() {}

/// Makes a token of the whole store: its verbs hold in every namespace. It names no tables and no prefix.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "create_store_token", tag = "Tokens", request_body = CreateTokenBody,
    responses((status = 201, body = CreatedTokenBody, description = "Made."), (status = 409, body = Problem, content_type = "application/problem+json", description = "too-many-tokens")))]
#[allow(dead_code)]
pub(crate) fn create_store() {}

/// A token of the whole store described.
#[utoipa::path(get, path = "/v1/tokens/{id}", operation_id = "describe_store_token", tag = "Tokens", params(("id" = String, Path)),
    responses((status = 200, body = TokenBody, description = "What it may do."), (status = 404, body = Problem, content_type = "application/problem+json", description = "token-not-found")))]
#[allow(dead_code)]
pub(crate) fn describe_store() {}

/// Changes name or expiry of a token of the whole store.
#[utoipa::path(patch, path = "/v1/tokens/{id}", operation_id = "update_store_token", tag = "Tokens", params(("id" = String, Path)), request_body(content = TokenPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, body = TokenBody, description = "Changed."), (status = 404, body = Problem, content_type = "application/problem+json", description = "token-not-found")))]
#[allow(dead_code)]
pub(crate) fn update_store() {}

/// Revokes a token of the whole store.
#[utoipa::path(delete, path = "/v1/tokens/{id}", operation_id = "revoke_store_token", tag = "Tokens", params(("id" = String, Path)),
    responses((status = 204, description = "Revoked."), (status = 404, body = Problem, content_type = "application/problem+json", description = "token-not-found")))]
#[allow(dead_code)]
pub(crate) fn revoke_store() {}

pub(crate) async fn list_of(call: &mut Call<'_>, ns: Option<&str>) -> Result<Answer> {
    let page = convert::ListPage::take(call)?;
    let tokens = call.app.gate.tokens.list(&home(call, ns).await?).await?;
    let place = |token: &Token| {
        // Moments before the epoch sort first too.
        let mut place = ((token.created_at_micros as u64) ^ 1 << 63).to_be_bytes().to_vec();
        place.extend_from_slice(&token.id.0.to_be_bytes());
        place
    };
    let (tokens, next_page_token) = page.cut(tokens, place, |token| described(&token, call.now_micros));
    Ok(Answer::json(StatusCode::OK, &TokensBody { tokens, next_page_token }))
}

pub(crate) async fn create_of(call: &mut Call<'_>, ns: Option<&str>) -> Result<Answer> {
    call.finish_query()?;
    let home = home(call, ns).await?;
    let body: CreateTokenBody = from_json(&call.json_body().await?)?;
    let new = new_token(call, home.clone(), body).await?;
    let (token, secret) = call.app.gate.tokens.create(new, call.caller.token.as_deref()).await?;
    call.app.gate.changed(&home).await;
    let body = CreatedTokenBody { token: secret.to_text(), described: described(&token, call.now_micros) };
    let mut answer = Answer::json(StatusCode::CREATED, &body);
    answer.text(LOCATION, format!("{}/{}", call.parts.uri.path(), token.id).as_bytes());
    // Nothing in between keeps it.
    answer.constant(http::header::CACHE_CONTROL, "no-store");
    Ok(answer)
}

pub(crate) async fn describe_of(call: &mut Call<'_>, ns: Option<&str>, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let token = call.app.gate.tokens.get(&home(call, ns).await?, TokenId::parse(id)?).await?;
    Ok(Answer::json(StatusCode::OK, &described(&token, call.now_micros)))
}

pub(crate) async fn update_of(call: &mut Call<'_>, ns: Option<&str>, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let (home, id) = (home(call, ns).await?, TokenId::parse(id)?);
    let TokenPatch { name, expires_at } = from_json(&call.json_body().await?)?;
    let change = Change { name, expires_at_micros: expires_at.map(|at| at.map(|at| at.0)) };
    let token = call.app.gate.tokens.update(&home, id, &change, call.caller.token.as_deref()).await?;
    call.app.gate.changed(&home).await;
    Ok(Answer::json(StatusCode::OK, &described(&token, call.now_micros)))
}

pub(crate) async fn revoke_of(call: &mut Call<'_>, ns: Option<&str>, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let home = home(call, ns).await?;
    let revoked = call.app.gate.tokens.revoke(&home, TokenId::parse(id)?).await;
    // Where it is not known whether it is gone, too.
    call.app.gate.changed(&home).await;
    revoked.map(|()| Answer::empty(StatusCode::NO_CONTENT))
}

/// Whose tokens they are. Only namespaces that there are have any.
async fn home(call: &Call<'_>, ns: Option<&str>) -> Result<Home> {
    let Some(ns) = ns else { return Ok(Home::Store) };
    let name = NamespaceName::new(ns)?;
    call.app.node.namespace(&name).await?;
    Ok(Home::Namespace(name))
}

async fn new_token(call: &Call<'_>, home: Home, body: CreateTokenBody) -> Result<NewToken> {
    let CreateTokenBody { name, verbs, tables, prefix, expires_at } = body;
    let tables = tables.map(|names| names.iter().map(|name| TableName::new(name)).collect()).transpose()?;
    let prefix = match prefix {
        Some(prefix) => Some(prefix_bytes(call, &home, tables.as_ref(), prefix).await?),
        None => None,
    };
    let verbs = verbs.into_iter().map(verb).collect();
    let grant = Grant { home, verbs, tables, prefix };
    Ok(NewToken { name, grant, expires_at_micros: expires_at.map(|at| at.0) })
}

/// A prefix as bytes: leading parts are packed as the one table that they go with says.
async fn prefix_bytes(
    call: &Call<'_>,
    home: &Home,
    tables: Option<&Vec<TableName>>,
    prefix: JsonKey,
) -> Result<Bytes> {
    let wrong = |detail: &str| Error::invalid(detail.to_owned()).with_code("token-settings");
    let JsonKey::Parts(_) = &prefix else {
        let bytes = prefix.to_bytes().ok_or_else(|| wrong("prefix: its base64 is damaged"))?;
        return Ok(bytes.into());
    };
    let (Some(ns), Some([table])) = (home.namespace(), tables.map(Vec::as_slice)) else {
        return Err(wrong("prefix: leading parts of typed keys go with exactly one table, named in tables"));
    };
    let table = call.table(ns.as_str(), table.as_str()).await?;
    let settings = table.settings();
    let schema: &KeySchema = schema(&settings);
    let mut points = convert::split_points(std::slice::from_ref(&prefix), schema)
        .map_err(|error| wrong(&format!("prefix: {}", error.detail())))?;
    points.pop().ok_or_else(|| wrong("prefix: it is empty"))
}

fn verb(verb: TokenVerbBody) -> Verb {
    match verb {
        TokenVerbBody::Read => Verb::Read,
        TokenVerbBody::Write => Verb::Write,
        TokenVerbBody::Load => Verb::Load,
        TokenVerbBody::Admin => Verb::Admin,
    }
}

fn described(token: &Token, now_micros: i64) -> TokenBody {
    let Grant { home, verbs, tables, prefix } = &token.grant;
    TokenBody {
        id: token.id.to_string(),
        name: token.name.clone(),
        namespace: home.namespace().map(|name| name.as_str().to_owned()),
        verbs: verbs
            .iter()
            .map(|verb| match verb {
                Verb::Read => TokenVerbBody::Read,
                Verb::Write => TokenVerbBody::Write,
                Verb::Load => TokenVerbBody::Load,
                Verb::Admin => TokenVerbBody::Admin,
            })
            .collect(),
        tables: tables.as_ref().map(|names| names.iter().map(|name| name.as_str().to_owned()).collect()),
        prefix: prefix.as_ref().map(|prefix| JsonKey::from_bytes(prefix)),
        created_at: I64(token.created_at_micros),
        expires_at: token.expires_at_micros.map(I64),
        expired: token.is_expired(now_micros),
    }
}
