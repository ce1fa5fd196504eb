//! Bulk loads.

use http::StatusCode;
use http::header::LOCATION;
use nacre_access::Outside;
use nacre_api::{
    BeginLoadBody, CommitLoadBody, LoadBody, LoadFileBody, LoadSourceBody, LoadsBody, Problem, from_json,
    load_id,
};
use nacre_engine::{Created, LoadInfo, LoadState, finish_load_file};
use nacre_types::{Error, Result};

use crate::answer::Answer;
use crate::call::Call;
use crate::convert;

/// Begins a load. With an `Idempotency-Key` a repeat gives the newest attempt that has not failed, been cancelled or reverted.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/loads", operation_id = "begin_load", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("idempotency-key" = Option<String>, Header)), request_body = BeginLoadBody,
    responses((status = 201, body = LoadBody, description = "Begun: write Parquet files below staging_url, or PUT them here, and commit."), (status = 200, body = LoadBody, description = "The key's newest attempt."), (status = 409, body = Problem, content_type = "application/problem+json", description = "The key was used with another body; or the table's keys are others.")))]
pub(crate) async fn begin(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    call.finish_query()?;
    let handle = call.table_now(ns, table).await?;
    let key = call.idempotency_key()?;
    let body: BeginLoadBody = from_json(&call.json_body().await?)?;
    match &body.source {
        None => {}
        Some(LoadSourceBody::Prefix(url)) => call.check_outside(Outside::Place(url))?,
        Some(LoadSourceBody::Files(urls)) => {
            urls.iter().try_for_each(|url| call.check_outside(Outside::Place(url)))?;
        }
    }
    let (request, canonical) = convert::begin_load(body)?;
    let created = handle.begin_load(&request, canonical, key).await?;
    let status = if matches!(created, Created::New(_)) { StatusCode::CREATED } else { StatusCode::OK };
    let info = created.into_inner();
    let path = format!("/v1/namespaces/{ns}/tables/{table}/loads/{}", info.id);
    let mut answer = load(status, info);
    answer.text(LOCATION, path.as_bytes());
    Ok(answer)
}

/// The loads of a table, newest first.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/loads", operation_id = "list_loads", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("page_size" = Option<u64>, Query, description = "1,000 unless said"), ("page_token" = Option<String>, Query)),
    responses((status = 200, body = LoadsBody, description = "A page of them.")))]
pub(crate) async fn list(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    let page = convert::ListPage::take(call)?;
    let mut infos = call.table_now(ns, table).await?.loads().await?;
    infos.sort_by_key(convert::load_place);
    let (loads, next_page_token) = page.cut(infos, |info| convert::load_place(info).to_vec(), convert::load);
    Ok(Answer::json(StatusCode::OK, &LoadsBody { loads, next_page_token }))
}

/// A load described: state, progress, errors.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}", operation_id = "describe_load", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = LoadBody, description = "How it stands."), (status = 404, body = Problem, content_type = "application/problem+json", description = "load-not-found")))]
pub(crate) async fn describe(call: &mut Call<'_>, ns: &str, table: &str, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let info = call.table_now(ns, table).await?.load(load_id(id)?).await?;
    Ok(load(StatusCode::OK, info))
}

/// Validates and prepares a load, and stops before it is visible: `?load=id` on reads previews it.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}:prepare", operation_id = "prepare_load", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path)), request_body = CommitLoadBody,
    responses((status = 202, body = LoadBody, description = "Under way."), (status = 200, body = LoadBody, description = "Prepared already."), (status = 409, body = Problem, content_type = "application/problem+json", description = "It is in another state.")))]
pub(crate) async fn prepare(call: &mut Call<'_>, ns: &str, table: &str, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let table = call.table_now(ns, table).await?;
    let CommitLoadBody { files, rows } = from_json(&call.json_body().await?)?;
    let info = table.prepare_load(load_id(id)?, files, rows).await?;
    Ok(load(done_or_accepted(&info, LoadState::Prepared), info))
}

/// Pins the files, validates, prepares, and makes the load visible: at once, whole, or not at all.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}:commit", operation_id = "commit_load", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path)), request_body = CommitLoadBody,
    responses((status = 202, body = LoadBody, description = "Under way."), (status = 200, body = LoadBody, description = "Committed already."), (status = 409, body = Problem, content_type = "application/problem+json", description = "It is in another state.")))]
pub(crate) async fn commit(call: &mut Call<'_>, ns: &str, table: &str, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let table = call.table_now(ns, table).await?;
    let CommitLoadBody { files, rows } = from_json(&call.json_body().await?)?;
    let info = table.commit_load(load_id(id)?, files, rows).await?;
    Ok(load(done_or_accepted(&info, LoadState::Committed), info))
}

/// Gives a load up; nothing of it is ever visible.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}:cancel", operation_id = "cancel_load", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = LoadBody, description = "Cancelled."), (status = 409, body = Problem, content_type = "application/problem+json", description = "It is in another state.")))]
pub(crate) async fn cancel(call: &mut Call<'_>, ns: &str, table: &str, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let info = call.table_now(ns, table).await?.cancel_load(load_id(id)?).await?;
    Ok(load(StatusCode::OK, info))
}

/// Takes a committed load back: the table is as if it had never been committed.
#[utoipa::path(post, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}:revert", operation_id = "revert_load", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = LoadBody, description = "Reverted."), (status = 409, body = Problem, content_type = "application/problem+json", description = "It is in another state, or its undo window is over.")))]
pub(crate) async fn revert(call: &mut Call<'_>, ns: &str, table: &str, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let info = call.table_now(ns, table).await?.revert_load(load_id(id)?).await?;
    Ok(load(StatusCode::OK, info))
}

/// What became of each file of a load, why, and what would make it adoptable.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}/files", operation_id = "list_load_files", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = Vec<LoadFileBody>, description = "One per file.")))]
pub(crate) async fn files(call: &mut Call<'_>, ns: &str, table: &str, id: &str) -> Result<Answer> {
    call.finish_query()?;
    let files = call.table_now(ns, table).await?.load_files(load_id(id)?).await?;
    let files: Vec<LoadFileBody> = files.into_iter().map(convert::load_file).collect();
    Ok(Answer::json(StatusCode::OK, &files))
}

/// Puts a Parquet file into the staging place, for producers that cannot reach it.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/tables/{table}/loads/{id}/files/{name}", operation_id = "put_load_file", tag = "Loads",
    params(("ns" = String, Path), ("table" = String, Path), ("id" = String, Path), ("name" = String, Path, description = "[A-Za-z0-9._=% -], folders separated by /")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "Stored."), (status = 409, body = Problem, content_type = "application/problem+json", description = "The load is not open, or the name is taken."), (status = 413, body = Problem, content_type = "application/problem+json", description = "body-too-large: the limit load_file_bytes")))]
pub(crate) async fn put_file(
    call: &mut Call<'_>,
    ns: &str,
    table: &str,
    id: &str,
    name: &str,
) -> Result<Answer> {
    call.finish_query()?;
    let (table, id) = (call.table_now(ns, table).await?, load_id(id)?);
    let name = convert::file_name(name)?;
    let Ok(_slot) = call.app.uploads.try_acquire() else {
        return Err(Error::overloaded(format!(
            "{} files are being put now, the limit max_uploads; try again",
            call.app.config.max_uploads
        )));
    };
    let mut body = call.stream(call.app.config.load_file_bytes, "load_file_bytes", "body-too-large")?;
    let mut upload = table.upload_load_file(id, &name).await?;
    loop {
        let stored = match body.part(PART_BYTES).await {
            Ok(Some(part)) => upload.write(part).await,
            Ok(None) => break,
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            upload.abort().await;
            body.discard().await;
            return Err(error);
        }
    }
    finish_load_file(upload, &name).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Pieces in which a file goes to the store; stores in the cloud want at least 5 MiB.
const PART_BYTES: usize = 8 << 20;

fn done_or_accepted(info: &LoadInfo, done: LoadState) -> StatusCode {
    if info.state == done { StatusCode::OK } else { StatusCode::ACCEPTED }
}

/// A load, and the token that shows it.
fn load(status: StatusCode, info: LoadInfo) -> Answer {
    let token = info.token.clone();
    let mut answer = Answer::json(status, &convert::load(info));
    if let Some(token) = token {
        answer.token(&token);
    }
    answer
}
