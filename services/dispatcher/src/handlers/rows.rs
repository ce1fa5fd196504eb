//! Single rows.

use http::StatusCode;
use http::header::{CONTENT_TYPE, IF_NONE_MATCH};
use nacre_api::{
    ExplainBody, GetBody, GetIn, PageToken, Problem, RowsPage, ValueShape, etag, etag_matches,
    key_from_bytes, key_from_json,
};
use nacre_engine::{Found, Lookup, RowOutcome, Table, WriteRow};
use nacre_types::{Error, Key, KeyRange, KeySchema, Result, Seq, limits};

use std::sync::Arc;

use super::scan::FIRST;
use crate::answer::Answer;
use crate::call::{Call, or_stale};
use crate::convert;
use crate::reads::Seen;

const BYTES: &KeySchema = &KeySchema::Bytes;

/// The key schema in force, without a copy of it.
pub(crate) fn schema(settings: &nacre_types::TableSettings) -> &KeySchema {
    settings.key.as_ref().unwrap_or(BYTES)
}

/// One value: its raw bytes.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/rows/{key}", operation_id = "get_row", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("key" = String, Path, description = "Percent-encoded; a / is %2F. Typed keys: a JSON array, or with one part its text"), crate::openapi::KeyParams, crate::openapi::ReadParams, crate::openapi::ReadHeaders, ("fields" = Option<String>, Query, description = "Fields of a JSON value, separated by commas"), ("if-none-match" = Option<String>, Header)),
    responses((status = 200, description = "The value, with the table's value_content_type.", content((Vec<u8> = "application/octet-stream"), (serde_json::Value = "*/*")),
        headers(("etag" = String), ("nacre-version" = i64), ("nacre-expires-at" = i64), ("nacre-edition" = u64), ("nacre-source" = String), ("nacre-cost" = String), ("nacre-request-id" = String), ("server-timing" = String))),
        (status = 304, description = "If-None-Match names this row."),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "row-absent; `nacre-absent` says why", headers(("nacre-absent" = String, description = "row, tombstone or expired")))))]
pub(crate) async fn get(call: &mut Call<'_>, ns: &str, table: &str, key: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let key = call.path_key(key, schema(&settings))?;
    get_key(call, &table, &key).await
}

/// One value, its key in the query instead of the path.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/rows:get", operation_id = "get_row_by_query", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("key" = String, Query), crate::openapi::KeyParams, crate::openapi::ReadParams, crate::openapi::ReadHeaders, ("fields" = Option<String>, Query), ("if-none-match" = Option<String>, Header)),
    responses((status = 200, description = "As the row itself.", content((Vec<u8> = "application/octet-stream"), (serde_json::Value = "*/*"))), (status = 304, description = "If-None-Match names this row."), (status = 404, body = Problem, content_type = "application/problem+json", description = "row-absent")))]
pub(crate) async fn get_by_query(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let encoding = call.key_encoding()?;
    let text = call.query.take("key").ok_or_else(|| {
        Error::invalid("the query parameter key is missing; or POST {\"key\": ..} here")
            .with_code("query-invalid")
    })?;
    let key = key_from_bytes(text, encoding, schema(&settings))?.into_owned();
    call.note_key(&key)?;
    get_key(call, &table, &key).await
}

/// One value, its key in the body: for keys that should not stand in a path or a log.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/rows:get", operation_id = "get_row_by_body", tag = "Rows", params(("ns" = String, Path), ("table" = String, Path), crate::openapi::ReadParams, crate::openapi::ReadHeaders, ("fields" = Option<String>, Query), ("if-none-match" = Option<String>, Header)), request_body = GetBody,
    responses((status = 200, description = "As the row itself.", content((Vec<u8> = "application/octet-stream"), (serde_json::Value = "*/*"))), (status = 304, description = "If-None-Match names this row."), (status = 404, body = Problem, content_type = "application/problem+json", description = "row-absent")))]
pub(crate) async fn get_by_body(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let body = call.json_body().await?;
    let request: GetIn<'_> = nacre_api::from_json(&body)?;
    let key = key_from_json(&request.key, schema(&settings))?;
    call.note_key(&key)?;
    get_key(call, &table, &key).await
}

async fn get_key(call: &mut Call<'_>, table: &Arc<Table>, key: &[u8]) -> Result<Answer> {
    let options = &call.read_options(table)?;
    let fields = call.query.take_text("fields")?;
    call.finish_query()?;
    let shape = ValueShape::new(None, fields.as_deref(), false)?;
    let seen = or_stale!(call, options, call.app.reads.get(table, key, options).await)?;
    let Seen { value: lookup, receipt, by } = seen;
    let found = match lookup {
        Lookup::Found(found) => found,
        Lookup::Absent(absence) => {
            let mut answer = call.absent(absence, &receipt);
            answer.seen(&by, table, options.session.as_ref())?;
            return Ok(answer);
        }
    };
    let tag = etag(key, found.version, found.expires_at, &found.value);
    let mut answer = Answer::empty(StatusCode::OK);
    let named = |value: &http::HeaderValue| etag_matches(value.as_bytes(), &tag);
    if call.parts.headers.get_all(IF_NONE_MATCH).iter().any(named) {
        answer.set_status(StatusCode::NOT_MODIFIED);
        answer.row(&tag, found.version, found.expires_at);
        answer.seen(&by, table, options.session.as_ref())?;
        call.receipt(&mut answer, &receipt, 1);
        return Ok(answer);
    }
    if let Some(projection) = &shape.projection {
        let mut out = Vec::new();
        projection.push(&mut out, &found.value)?;
        answer.constant(CONTENT_TYPE, nacre_api::JSON);
        answer.set_body(out.into());
    } else {
        match &table.settings().value_content_type {
            Some(name) => answer.text(CONTENT_TYPE, name.as_bytes()),
            None => answer.constant(CONTENT_TYPE, nacre_api::OCTET_STREAM),
        }
        answer.set_body(found.value);
    }
    answer.row(&tag, found.version, found.expires_at);
    answer.seen(&by, table, options.session.as_ref())?;
    call.receipt(&mut answer, &receipt, 1);
    Ok(answer)
}

/// Writes one row: the body is its value.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/tables/{table}/rows/{key}", operation_id = "put_row", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("key" = String, Path), crate::openapi::KeyParams, ("version" = Option<i64>, Query, description = "Microseconds since the epoch; without one the log gives it"), ("expires_at" = Option<i64>, Query, description = "Microseconds since the epoch"), crate::openapi::WriteParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "Durable.", headers(("nacre-token" = String, description = "Reads that carry it see this write"), ("nacre-version" = i64))), (status = 413, body = Problem, content_type = "application/problem+json", description = "value-too-large"), (status = 422, body = Problem, content_type = "application/problem+json", description = "Wrong, or conditional."), (status = 504, body = Problem, content_type = "application/problem+json", description = "`applied: unknown`")))]
pub(crate) async fn put(call: &mut Call<'_>, ns: &str, table: &str, key: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let row = write_row(call, &table, key)?;
    // Refused before the body is read, and again with the time that is left after it.
    call.write_options(&table)?;
    let value = call.body(limits::VALUE_BYTES, "value_bytes", "value-too-large").await?;
    write(call, &table, WriteRow { value: Some(value), ..row }).await
}

/// Writes a tombstone.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/tables/{table}/rows/{key}", operation_id = "delete_row", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("key" = String, Path), crate::openapi::KeyParams, ("version" = Option<i64>, Query), crate::openapi::WriteParams),
    responses((status = 204, description = "Durable.", headers(("nacre-token" = String), ("nacre-version" = i64))), (status = 504, body = Problem, content_type = "application/problem+json", description = "`applied: unknown`")))]
pub(crate) async fn delete(call: &mut Call<'_>, ns: &str, table: &str, key: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let row = write_row(call, &table, key)?;
    write(call, &table, row).await
}

fn write_row(call: &mut Call<'_>, table: &Arc<Table>, key: &str) -> Result<WriteRow> {
    let settings = table.settings();
    let key = call.path_key(key, schema(&settings))?;
    let version = call.query.take_i64("version")?;
    let expires_at = call.query.take_i64("expires_at")?;
    call.finish_query()?;
    Ok(WriteRow { key: Key::new(key.into_owned())?, value: None, version, expires_at })
}

async fn write(call: &mut Call<'_>, table: &Arc<Table>, row: WriteRow) -> Result<Answer> {
    let options = call.write_options(table)?;
    let row = vec![row];
    let key = call.app.reads.keys_to_forget(&row);
    let written = table.write(row, &options).await?;
    call.app.reads.wrote(table, &key);
    let mut answer = Answer::empty(StatusCode::NO_CONTENT);
    match written.outcomes.into_iter().next() {
        Some(RowOutcome::Ok { version: Some(version) }) => {
            answer.number(nacre_api::headers::VERSION, version)
        }
        Some(RowOutcome::Ok { version: None }) => {}
        Some(RowOutcome::Failed(error)) => return Err(error),
        None => return Err(Error::unknown("the log gave no outcome for the row")),
    }
    call.app.metrics.rows_written.add(1);
    answer.token(&written.token);
    Ok(answer)
}

/// The visible versions of a key, newest first; both bounds are inclusive. An answer ends early at 4 MiB; its page token
/// pins the edition, as a scan's does.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/rows/{key}/versions", operation_id = "list_versions", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("key" = String, Path), crate::openapi::KeyParams, crate::openapi::ReadParams, crate::openapi::ReadHeaders, ("since" = Option<i64>, Query), ("until" = Option<i64>, Query), ("limit" = Option<u64>, Query, description = "Most rows of this answer: 1,000 unless said, at most 10,000"), ("page_token" = Option<String>, Query), ("value_encoding" = Option<String>, Query, description = "auto, utf8, base64 or json"), ("fields" = Option<String>, Query)),
    responses((status = 200, body = RowsPage, description = "The rows; none is no error."), (status = 410, body = Problem, content_type = "application/problem+json", description = "page-token-expired or edition-gone")))]
pub(crate) async fn versions(call: &mut Call<'_>, ns: &str, table: &str, key: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let key = call.path_key(key, schema(&settings))?;
    let limit = convert::page_size(call.query.take_u64("limit")?);
    let encoding = call.value_encoding()?;
    let token = call.query.take_text("page_token")?;
    let place = match token {
        None => asked_versions(call, &table, &key)?,
        Some(token) => resumed_versions(call, &table, &key, &token)?,
    };
    let mut options = call.read_options(&table)?;
    call.finish_query()?;
    options.as_of = place.as_of.unwrap_or(i64::MAX);
    options.preview = place.preview;
    options.edition = (place.began_at_micros != FIRST).then_some(place.edition);
    let options = &options;
    let shape = ValueShape::new(encoding, place.fields.as_deref(), true)?;
    let (since, until) = (place.since.unwrap_or(i64::MIN), place.until.unwrap_or(i64::MAX));
    // One more than is shown tells whether there are more.
    let range = (since, until, limit + 1);
    let seen = or_stale!(call, options, call.app.reads.versions(&table, &key, range, options).await)?;
    let Seen { value: mut found, receipt, by } = seen;
    let mut room = limits::PAGE_BYTES;
    let fits = |row: &&Found| {
        room = room.saturating_sub(row.value.len());
        room > 0
    };
    let shown = found.iter().take(limit).take_while(fits).count();
    let more = found.len() > shown;
    found.truncate(shown);
    let next = found.last().filter(|_| more).and_then(|last| last.version.checked_sub(1)).map(|until| {
        let began_at_micros =
            if place.began_at_micros == FIRST { call.now_micros } else { place.began_at_micros };
        PageToken { edition: receipt.edition, began_at_micros, until: Some(until), ..place.clone() }.to_text()
    });
    let rows = found.iter().map(|found| (&key[..], found));
    let body = convert::rows_page(rows, schema(&settings), &shape, next.as_deref(), receipt.edition)?;
    let mut answer = Answer::bytes(nacre_api::JSON, body);
    answer.seen(&by, &table, options.session.as_ref())?;
    call.receipt(&mut answer, &receipt, found.len());
    Ok(answer)
}

/// What makes two requests the same walk over versions; a request with a token may repeat all of them or none.
const FILTERS: [&str; 5] = ["since", "until", "as_of", "load", "fields"];

fn asked_versions(call: &mut Call<'_>, table: &Arc<Table>, key: &[u8]) -> Result<PageToken> {
    let end = [key, &[0]].concat();
    let range = KeyRange { start: key.to_vec().into(), end: Some(end.into()) };
    let mut place = PageToken {
        table: table.id(),
        edition: Seq(0),
        began_at_micros: FIRST,
        rest: range.clone(),
        reverse: false,
        since: call.query.take_i64("since")?,
        until: call.query.take_i64("until")?,
        as_of: call.query.take_i64("as_of")?,
        preview: call.query.take_text("load")?.map(|id| nacre_api::load_id(&id)).transpose()?,
        keys_only: false,
        fields: call.query.take_text("fields")?,
        filter: 0,
    };
    place.filter = place.filter_hash(&range);
    Ok(place)
}

/// The walk that a page token holds; filters that stand beside it must be the same ones.
fn resumed_versions(call: &mut Call<'_>, table: &Arc<Table>, key: &[u8], text: &str) -> Result<PageToken> {
    let token = PageToken::parse(text, table.id(), call.now_micros)?;
    let repeated = call.query.has_any(&FILTERS).then(|| asked_versions(call, table, key)).transpose()?;
    if token.rest.start != key || repeated.is_some_and(|repeated| repeated.filter != token.filter) {
        return Err(Error::invalid(format!(
            "the page token belongs to another key, or to other filters; repeat all of {} as they were, or none",
            FILTERS.join(", ")
        ))
        .with_code("page-token-filters"));
    }
    Ok(token)
}

/// Every row of the key, where it lies, and why it is or is not the answer.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/rows/{key}:explain", operation_id = "explain_row", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("key" = String, Path), crate::openapi::KeyParams, crate::openapi::ReadParams, crate::openapi::ReadHeaders),
    responses((status = 200, body = ExplainBody, description = "In falling rank.")))]
pub(crate) async fn explain(call: &mut Call<'_>, ns: &str, table: &str, key: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let key = call.path_key(key, schema(&settings))?;
    let options = &call.read_options(&table)?;
    call.finish_query()?;
    let seen = or_stale!(call, options, call.app.reads.explain(&table, &key, options).await)?;
    let mut answer = Answer::json(StatusCode::OK, &convert::explanation(seen.value));
    answer.seen(&seen.by, &table, options.session.as_ref())?;
    Ok(answer)
}
