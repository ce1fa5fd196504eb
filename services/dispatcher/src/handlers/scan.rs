//! Scans: pages in key order, all of one edition.

use nacre_api::{
    JSON, KeyEncoding, PageToken, Problem, RowsPage, ValueShape, bound_from_text, prefix_from_text,
};
use nacre_engine::{ReadOptions, ScanRequest, Table};
use nacre_types::{Error, KeyRange, KeySchema, Result, Seq, TableSettings, limits};

use std::sync::Arc;

use super::rows::schema;
use crate::answer::Answer;
use crate::call::{Call, or_stale};
use crate::convert;
use crate::reads::Seen;

/// What makes two requests the same scan; a request with a token may repeat all of them or none.
const FILTERS: [&str; 9] = ["prefix", "start", "end", "reverse", "since", "until", "as_of", "load", "fields"];

/// Rows in key order. A page token pins the edition for 15 minutes from the first page: no key appears twice, none that
/// is present throughout is missed, rows streamed meanwhile may appear.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/rows", operation_id = "scan_rows", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), ("prefix" = Option<String>, Query, description = "Keys that begin so; of typed keys leading parts"), ("start" = Option<String>, Query, description = "Inclusive"), ("end" = Option<String>, Query, description = "Exclusive"), ("reverse" = Option<bool>, Query), ("since" = Option<i64>, Query, description = "Smallest version"), ("until" = Option<i64>, Query, description = "Largest version"), ("fields" = Option<String>, Query, description = "`key` for keys alone, else fields of JSON values"), ("value_encoding" = Option<String>, Query, description = "auto, utf8, base64 or json"), ("page_size" = Option<u64>, Query, description = "1,000 unless said, at most 10,000"), ("page_token" = Option<String>, Query), crate::openapi::KeyParams, crate::openapi::ReadParams, crate::openapi::ReadHeaders),
    responses((status = 200, body = RowsPage, description = "A page; it ends early at 4 MiB."), (status = 410, body = Problem, content_type = "application/problem+json", description = "page-token-expired"), (status = 422, body = Problem, content_type = "application/problem+json", description = "page-token-invalid and others")))]
pub(crate) async fn scan(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let schema = schema(&settings);
    let token = call.query.take_text("page_token")?;
    let page_size = convert::page_size(call.query.take_u64("page_size")?);
    let encoding = call.value_encoding()?;
    let place = match token {
        None => asked(call, &table, schema)?,
        Some(token) => resumed(call, &table, schema, &token)?,
    };
    call.check_keys(|grant| grant.range(&place.rest))?;
    let mut options = call.read_options(&table)?;
    call.finish_query()?;
    options.as_of = place.as_of.unwrap_or(i64::MAX);
    options.preview = place.preview;
    // Sequence 0 is the empty table's: a first page has no edition yet.
    options.edition = (place.began_at_micros != FIRST).then_some(place.edition);
    let shape = ValueShape {
        keys_only: place.keys_only,
        ..ValueShape::new(encoding, place.fields.as_deref(), false)?
    };
    answer(call, &table, place, page_size, &shape, &options).await
}

/// Marks a place that no page has been answered from.
pub(crate) const FIRST: i64 = i64::MIN;

async fn answer(
    call: &Call<'_>,
    table: &Arc<Table>,
    place: PageToken,
    page_size: usize,
    shape: &ValueShape,
    options: &ReadOptions,
) -> Result<Answer> {
    let request = ScanRequest {
        range: place.rest.clone(),
        reverse: place.reverse,
        since: place.since,
        until: place.until,
        max_rows: page_size,
        max_bytes: limits::PAGE_BYTES,
        keys_only: shape.keys_only,
    };
    let seen = or_stale!(call, options, call.app.reads.scan(table, &request, options).await)?;
    let Seen { value: page, receipt, by } = seen;
    let next = page.next.map(|next| {
        let KeyRange { start, end } = place.rest.clone();
        let rest =
            if place.reverse { KeyRange { start, end: Some(next) } } else { KeyRange { start: next, end } };
        let began_at_micros =
            if place.began_at_micros == FIRST { call.now_micros } else { place.began_at_micros };
        PageToken { edition: receipt.edition, began_at_micros, rest, ..place.clone() }.to_text()
    });
    let rows = page.rows.iter().map(|(key, found)| (&key[..], found));
    let settings = match page.rows.is_empty() {
        true => table.settings(),
        false => settings_of(table, receipt.edition).await?,
    };
    let body = convert::rows_page(rows, schema(&settings), shape, next.as_deref(), receipt.edition)?;
    let mut answer = Answer::bytes(JSON, body);
    answer.seen(&by, table, options.session.as_ref())?;
    call.receipt(&mut answer, &receipt, page.rows.len());
    Ok(answer)
}

/// The settings as of an edition that a node answered from, which may not be known here yet: a load may have said in it what
/// keys are made of. That is said once, while a table is empty, so that rows are not refused for it where the catalog is away.
async fn settings_of(table: &Arc<Table>, edition: Seq) -> Result<Arc<TableSettings>> {
    if table.settings().key.is_none()
        && let Err(error) = table.reach_edition(edition).await
        && table.manifest().segment_count() == 0
    {
        return Err(error);
    }
    Ok(table.settings())
}

/// The scan that the filters of the request ask for.
fn asked(call: &mut Call<'_>, table: &Arc<Table>, schema: &KeySchema) -> Result<PageToken> {
    let encoding = call.key_encoding()?;
    let query = &mut call.query;
    let mut range = match query.take("prefix") {
        Some(prefix) => prefix_from_text(&prefix, encoding, schema)?,
        None => KeyRange::all(),
    };
    let mut bound = |name| -> Result<_> {
        query.take(name).map(|text| bound_from_text(&text, encoding, schema)).transpose()
    };
    let (start, end) = (bound("start")?.unwrap_or_default(), bound("end")?);
    range = range.intersect(&KeyRange { start, end });
    let reverse = query.take_bool("reverse")?;
    let (since, until) = (query.take_i64("since")?, query.take_i64("until")?);
    let fields = query.take_text("fields")?;
    let as_of = query.take_i64("as_of")?;
    let preview = query.take_text("load")?.map(|id| nacre_api::load_id(&id)).transpose()?;
    let keys_only = fields.as_deref() == Some("key");
    let mut place = PageToken {
        table: table.id(),
        edition: Seq(0),
        began_at_micros: FIRST,
        rest: range.clone(),
        reverse,
        since,
        until,
        as_of,
        preview,
        keys_only,
        fields: fields.filter(|_| !keys_only),
        filter: 0,
    };
    place.filter = place.filter_hash(&range);
    Ok(place)
}

/// The scan that a page token holds; filters that stand beside it must be the same ones.
fn resumed(call: &mut Call<'_>, table: &Arc<Table>, schema: &KeySchema, text: &str) -> Result<PageToken> {
    let token = PageToken::parse(text, table.id(), call.now_micros)?;
    if call.query.has_any(&FILTERS) {
        let repeated = asked(call, table, schema)?;
        if repeated.filter != token.filter {
            return Err(Error::invalid(format!(
                "the page token belongs to a scan with other filters; repeat all of {} as they were, or none",
                FILTERS.join(", ")
            ))
            .with_code("page-token-filters"));
        }
    } else {
        let _: KeyEncoding = call.key_encoding()?;
    }
    Ok(token)
}
