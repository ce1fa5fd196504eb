//! Many rows of one table in one call.

use bytes::Bytes;
use http::StatusCode;
use nacre_api::{
    BatchWriteAnswer, BatchWriteBody, BatchWriteIn, Problem, RowIn, WriteIn, WrittenRow, batch, from_json,
    from_ndjson, json,
};
use nacre_engine::{RowOutcome, WriteRow, Written};
use nacre_types::{Error, KeySchema, Result, limits};

use super::rows::schema;
use crate::answer::Answer;
use crate::call::Call;
use crate::convert::{BatchForm, push_list};

/// At most 10,000 rows and 8 MiB. Each row has its own outcome; of the same key twice the later one wins. JSON, NDJSON or the binary form of docs/batch.md.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/rows:batchWrite", operation_id = "batch_write", tag = "Rows",
    params(("ns" = String, Path), ("table" = String, Path), crate::openapi::WriteParams),
    request_body(content((BatchWriteBody = "application/json"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.nacre.batch"))),
    responses((status = 200, description = "One outcome per row, in their order.", content((BatchWriteAnswer = "application/json"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.nacre.batch")), headers(("nacre-token" = String))), (status = 413, body = Problem, content_type = "application/problem+json", description = "batch-too-large"), (status = 504, body = Problem, content_type = "application/problem+json", description = "`applied: unknown`")))]
pub(crate) async fn batch_write(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    call.finish_query()?;
    let table = call.table(ns, table).await?;
    let settings = table.settings();
    let (form, answer_form) = BatchForm::of(call)?;
    call.write_options(&table)?;
    let body = call.body(limits::BATCH_WRITE_BYTES, "batch_write_bytes", "batch-too-large").await?;
    let checked = parse(form, body, schema(&settings))?;
    let (rows, wrong) = split(checked);
    // One key beyond it refuses the call before anything is written.
    call.check_keys(|grant| rows.iter().try_for_each(|row| grant.key(&row.key)))?;
    let options = call.write_options(&table)?;
    let keys = call.app.reads.keys_to_forget(&rows);
    let written = if rows.is_empty() { None } else { Some(table.write(rows, &options).await?) };
    call.app.reads.wrote(&table, &keys);
    let token = written.as_ref().map(|written| written.token.to_text());
    let outcomes = join(written, wrong);
    let durable = outcomes.iter().filter(|outcome| matches!(outcome, RowOutcome::Ok { .. })).count();
    call.app.metrics.rows_written.add(durable as u64);
    call.app.metrics.rows_failed(outcomes.iter().filter_map(|outcome| match outcome {
        RowOutcome::Ok { .. } => None,
        RowOutcome::Failed(error) => Some(error),
    }));
    let mut answer =
        Answer::bytes(answer_form.media_type(), write(answer_form, &outcomes, token.as_deref())?);
    answer.set_status(StatusCode::OK);
    if let Some(token) = token {
        answer.text(nacre_api::headers::TOKEN, token.as_bytes());
    }
    Ok(answer)
}

/// A wrong row is that row's outcome; what cannot be taken apart at all fails the call.
fn parse(form: BatchForm, body: Bytes, schema: &KeySchema) -> Result<Vec<Result<WriteIn>>> {
    let rows: Vec<RowIn<'_>> = match form {
        BatchForm::Binary => return Ok(batch::parse_write_request(body)?.into_iter().map(Ok).collect()),
        BatchForm::Json => {
            let request: BatchWriteIn<'_> = from_json(&body)?;
            if request.rows.len() > limits::BATCH_WRITE_ROWS {
                return Err(too_many());
            }
            request.rows
        }
        BatchForm::Ndjson => from_ndjson(&body, limits::BATCH_WRITE_ROWS, too_many)?,
    };
    Ok(rows.into_iter().map(|row| row.check(schema)).collect())
}

fn too_many() -> Error {
    Error::invalid(format!(
        "the batch has more rows than the limit batch_write_rows, {}",
        limits::BATCH_WRITE_ROWS
    ))
    .with_code("batch-too-large")
}

/// The rows that can be written, and for each row of the request: its error, or `None` if it is among them.
fn split(checked: Vec<Result<WriteIn>>) -> (Vec<WriteRow>, Vec<Option<Error>>) {
    let mut rows = Vec::with_capacity(checked.len());
    let mut wrong = Vec::with_capacity(checked.len());
    for row in checked {
        match row {
            Ok(WriteIn { key, value, version, expires_at }) => {
                rows.push(WriteRow { key, value, version, expires_at });
                wrong.push(None);
            }
            Err(error) => wrong.push(Some(error)),
        }
    }
    (rows, wrong)
}

fn join(written: Option<Written>, wrong: Vec<Option<Error>>) -> Vec<RowOutcome> {
    let mut outcomes = written.map(|written| written.outcomes).unwrap_or_default().into_iter();
    let lost = || RowOutcome::Failed(Error::unknown("the log gave no outcome for the row"));
    wrong
        .into_iter()
        .map(|error| error.map_or_else(|| outcomes.next().unwrap_or_else(lost), RowOutcome::Failed))
        .collect()
}

fn write(form: BatchForm, outcomes: &[RowOutcome], token: Option<&str>) -> Result<Vec<u8>> {
    if form == BatchForm::Binary {
        let mut out = batch::write_answer(outcomes.len(), token.unwrap_or_default());
        for outcome in outcomes {
            batch::push_wrote(
                &mut out,
                match outcome {
                    RowOutcome::Ok { version } => Ok(*version),
                    RowOutcome::Failed(error) => Err(error),
                },
            );
        }
        return Ok(out);
    }
    let mut out = Vec::with_capacity(64 + 48 * outcomes.len());
    push_list(form, &mut out, outcomes.iter(), |out, outcome| {
        match outcome {
            RowOutcome::Ok { version } => WrittenRow::push_ok(out, *version),
            RowOutcome::Failed(error) => WrittenRow::push_error(out, error),
        }
        Ok(())
    })?;
    if form == BatchForm::Json {
        out.extend_from_slice(b",\"token\":");
        json::push_str(&mut out, token.unwrap_or_default());
        out.push(b'}');
    }
    Ok(out)
}
