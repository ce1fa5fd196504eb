//! Many keys of one table in one call.

use futures::StreamExt;
use nacre_api::batch;
use nacre_api::{
    BatchGetAnswer, BatchGetBody, BatchGetIn, GetIn, GotRow, Problem, ReadStatus, ValueShape, from_json,
    from_ndjson, key_from_json,
};
use nacre_engine::{Found, Lookup, ReadOptions, Receipt, Table};
use nacre_types::{Error, ErrorKind, Key, KeySchema, Result, limits};

use std::sync::Arc;

use super::rows::schema;
use crate::answer::Answer;
use crate::call::{Call, or_stale};
use crate::convert::{BatchForm, push_list};
use crate::reads::{By, Reads, Seen};

/// Longest body: every key at its longest, spelt in base64 within JSON.
const BODY_BYTES: usize = limits::BATCH_GET_KEYS * (limits::KEY_BYTES * 4 / 3 + 64);

/// At most 1,000 keys; the answer has their order and number, and one edition. JSON, NDJSON or the binary form of docs/batch.md.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/rows:batchGet", operation_id = "batch_get", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), crate::openapi::ReadParams, crate::openapi::ReadHeaders, ("value_encoding" = Option<String>, Query, description = "auto, utf8, base64 or json"), ("fields" = Option<String>, Query), ("partial" = Option<bool>, Query, description = "For NDJSON, which has no place for it in the body")),
    request_body(content((BatchGetBody = "application/json"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.nacre.batch"))),
    responses((status = 200, description = "One per key.", content((BatchGetAnswer = "application/json"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.nacre.batch"))), (status = 413, body = Problem, content_type = "application/problem+json", description = "batch-too-large")))]
pub(crate) async fn batch_get(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let (form, answer_form) = BatchForm::of(call)?;
    let options = call.read_options(&table)?;
    let (encoding, fields) = (call.value_encoding()?, call.query.take_text("fields")?);
    let asked_partial = call.query.take_bool("partial")?;
    call.finish_query()?;
    if answer_form == BatchForm::Binary && (encoding.is_some() || fields.is_some()) {
        return Err(Error::invalid("fields and value_encoding do not go with the binary form")
            .with_code("fields-invalid"));
    }
    let shape = ValueShape::new(encoding, fields.as_deref(), false)?;
    let body = call.body(BODY_BYTES, "batch_get_keys", "batch-too-large").await?;
    let (keys, partial) = parse(form, body, schema(&settings))?;
    call.check_keys(|grant| keys.iter().try_for_each(|key| grant.key(key)))?;
    let options = &ReadOptions { deadline: call.left(), ..options };
    let partial = partial || asked_partial;
    let reads = &call.app.reads;
    let seen = or_stale!(call, options, read(reads, &table, &keys, options, partial).await)?;
    let Seen { value: got, receipt, by } = seen;
    let body = write(answer_form, &keys, &got, schema(&settings), &shape, &receipt)?;
    let mut answer = Answer::bytes(answer_form.media_type(), body);
    answer.seen(&by, &table, options.session.as_ref())?;
    call.receipt(
        &mut answer,
        &receipt,
        got.iter().filter(|(status, _)| *status == ReadStatus::Found).count(),
    );
    Ok(answer)
}

fn parse(form: BatchForm, body: bytes::Bytes, schema: &KeySchema) -> Result<(Vec<Key>, bool)> {
    match form {
        BatchForm::Binary => batch::parse_get_request(body),
        BatchForm::Json => {
            let request: BatchGetIn<'_> = from_json(&body)?;
            if request.keys.len() > limits::BATCH_GET_KEYS {
                return Err(too_many());
            }
            let keys = request.keys.iter().enumerate().map(|(nth, key)| {
                key_from_json(key, schema).map_err(|error| error.context(format!("keys[{nth}]")))
            });
            Ok((keys.collect::<Result<_>>()?, request.partial))
        }
        BatchForm::Ndjson => {
            let lines: Vec<GetIn<'_>> = from_ndjson(&body, limits::BATCH_GET_KEYS, too_many)?;
            let keys = lines.iter().enumerate().map(|(nth, line)| {
                key_from_json(&line.key, schema).map_err(|error| error.context(format!("key {nth}")))
            });
            Ok((keys.collect::<Result<_>>()?, false))
        }
    }
}

fn too_many() -> Error {
    Error::invalid(format!(
        "the batch has more keys than the limit batch_get_keys, {}",
        limits::BATCH_GET_KEYS
    ))
    .with_code("batch-too-large")
}

/// What became of a key, and its row.
pub(crate) type Got = (ReadStatus, Option<Found>);

/// Reads all keys at one edition. With `partial` a key that cannot be read now does not fail the others.
pub(crate) async fn read(
    reads: &Reads,
    table: &Arc<Table>,
    keys: &[Key],
    options: &ReadOptions,
    partial: bool,
) -> Result<Seen<Vec<Got>>> {
    if keys.is_empty() {
        // The edition of an empty answer is the table's.
        let receipt = Receipt { edition: table.info().edition, ..Receipt::default() };
        return Ok(Seen { value: Vec::new(), receipt, by: By::Here });
    }
    let mut by = By::Here;
    let mut options = options.clone();
    let mut total = Receipt::default();
    let mut room = limits::PAGE_BYTES;
    let mut got = Vec::with_capacity(keys.len());
    let (mut rest, mut next, mut bytes) = (keys, HELD_KEYS, 0);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(next.min(rest.len()));
        rest = behind;
        let Seen { value: lookups, receipt, by: who } = match reads.batch_get(table, piece, &options).await {
            Ok(Seen { value, receipt, by }) => {
                Seen { value: value.into_iter().map(Ok).collect(), receipt, by }
            }
            Err(error) if partial && may_be_partial(&error) => {
                one_by_one(reads, table, piece, &options).await?
            }
            Err(error) => return Err(error),
        };
        total.add(&receipt);
        by.join(who)?;
        options.edition = Some(receipt.edition);
        for lookup in &lookups {
            bytes += match lookup {
                Ok(Lookup::Found(found)) => found.value.len(),
                _ => 0,
            };
        }
        next = held_keys(bytes, got.len() + lookups.len());
        for lookup in lookups {
            got.push(match lookup {
                Err(_) => (ReadStatus::Unavailable, None),
                Ok(Lookup::Absent(_)) => (ReadStatus::Absent, None),
                // The first value always fits: a value is shorter than a page.
                Ok(Lookup::Found(found)) if found.value.len() <= room => {
                    room -= found.value.len();
                    (ReadStatus::Found, Some(found))
                }
                Ok(Lookup::Found(_)) => (ReadStatus::TooLarge, None),
            });
        }
    }
    Ok(Seen { value: got, receipt: total, by })
}

/// Keys that are read at once while nothing is known of their values, and so how many may be held that the answer has no
/// room for. Fewer: less memory where values are at their longest. More: fewer rounds where nothing is cached.
const HELD_KEYS: usize = 128;
/// Of values that are no longer than those before them, about so many bytes are read at once.
const HELD_BYTES: usize = 2 * limits::PAGE_BYTES;

/// How many keys to read at once, after `keys` of them had values of so many bytes.
fn held_keys(bytes: usize, keys: usize) -> usize {
    let each = (bytes / keys.max(1)).max(1);
    (HELD_BYTES / each).clamp(HELD_KEYS, limits::BATCH_GET_KEYS)
}

fn may_be_partial(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Corrupt)
        && !matches!(error.code(), "stale" | "deadline-exceeded")
}

/// Each key by itself, at the edition of the first that answers: which ones are unavailable?
async fn one_by_one(
    reads: &Reads,
    table: &Arc<Table>,
    keys: &[Key],
    options: &ReadOptions,
) -> Result<Seen<Vec<Result<Lookup>>>> {
    const AT_ONCE: usize = 16;
    let pinned = ReadOptions { edition: options.edition.or(Some(table.info().edition)), ..options.clone() };
    let (mut total, mut by) = (Receipt::default(), By::Here);
    let mut lookups = Vec::with_capacity(keys.len());
    // Collected first: a stream that maps lazily would not be Send across the wait.
    let gets: Vec<_> = keys.iter().map(|key| reads.get(table, key, &pinned)).collect();
    let mut answers = futures::stream::iter(gets).buffered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        lookups.push(match answer {
            Ok(seen) => {
                total.add(&seen.receipt);
                by.join(seen.by)?;
                Ok(seen.value)
            }
            Err(error) if may_be_partial(&error) => Err(error),
            Err(error) => return Err(error),
        });
    }
    if let Some(edition) = pinned.edition {
        total.edition = edition;
    }
    Ok(Seen { value: lookups, receipt: total, by })
}

fn write(
    form: BatchForm,
    keys: &[Key],
    got: &[Got],
    schema: &KeySchema,
    shape: &ValueShape,
    receipt: &Receipt,
) -> Result<Vec<u8>> {
    let bytes: usize =
        got.iter().filter_map(|(_, found)| found.as_ref()).map(|found| found.value.len() + 64).sum();
    if form == BatchForm::Binary {
        let mut out = batch::get_answer(got.len(), receipt.edition.0, bytes);
        for (status, found) in got {
            batch::push_got(
                &mut out,
                *status,
                found.as_ref().map(|f| (f.version, f.expires_at, &f.value[..])),
            );
        }
        return Ok(out);
    }
    let mut out = Vec::with_capacity(bytes + 64 * keys.len());
    push_list(form, &mut out, keys.iter().zip(got), |out, (key, got)| {
        push_got(out, key, got, schema, shape)
    })?;
    if form == BatchForm::Json {
        out.extend_from_slice(b",\"edition\":");
        nacre_api::json::push_i64(&mut out, receipt.edition.0 as i64);
        out.push(b'}');
    }
    Ok(out)
}

/// One key of an answer in JSON.
pub(crate) fn push_got(
    out: &mut Vec<u8>,
    key: &[u8],
    (status, found): &Got,
    schema: &KeySchema,
    shape: &ValueShape,
) -> Result<()> {
    match found {
        Some(found) => {
            GotRow::push_found(out, key, schema, &found.value, shape, found.version, found.expires_at)
        }
        None => {
            GotRow::push_status(out, key, schema, *status);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_are_read_all_at_once_and_long_ones_a_few_at_a_time() {
        assert_eq!(held_keys(0, HELD_KEYS), limits::BATCH_GET_KEYS);
        assert_eq!(held_keys(200 * HELD_KEYS, HELD_KEYS), limits::BATCH_GET_KEYS);
        assert_eq!(held_keys(HELD_KEYS << 20, HELD_KEYS), HELD_KEYS);
        assert_eq!(held_keys(16_384 * 256, 256), 512);
    }
}
