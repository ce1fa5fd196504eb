//! Copies that the store makes itself.
//!
//! CopyObject with If-None-Match overwrites in silence on servers that we know, so a copy is an upload whose parts the
//! store copies: each under the condition that the source still is what the caller saw, and the end under the condition
//! that the name is free.

use super::address::{encoded_key, encoded_value};
use super::answer::{Made, bare_etag};
use super::client::{Client, Kind};
use super::read::quoted;
use super::refusal::Refusal;
use crate::{GetOptions, ObjectPath, ObjectTag, PutMode, PutOutcome};
use http::{Method, StatusCode};
use nacre_types::{Error, ErrorKind, Result};
use std::ops::Range;

/// `None` = the source is gone or is another.
type IfSame<T> = Option<T>;

pub(super) async fn copy(
    client: &Client,
    from: &ObjectPath,
    to: &ObjectPath,
    if_tag: &ObjectTag,
) -> Result<PutOutcome> {
    // Looked at here as well: not every gateway knows the condition on a head.
    let found = unless_changed(client.head(from, Some(if_tag)).await)?;
    let Some(size) = found.filter(|meta| meta.tag.etag == if_tag.etag).map(|meta| meta.size) else {
        return Ok(PutOutcome::Mismatch);
    };
    if size <= client.tuning.small_copy_bytes {
        let options = GetOptions { range: None, if_tag: Some(if_tag.clone()) };
        let Some(object) = unless_changed(client.get(from, &options).await)? else {
            return Ok(PutOutcome::Mismatch);
        };
        return client.put(to, object.bytes, &PutMode::Create).await;
    }
    let id = client.begin_upload(to, Kind::Copy).await?;
    let parts = match copy_parts(client, from, to, if_tag, &id, size).await {
        Ok(Some(parts)) => parts,
        Ok(None) => {
            client.abort_upload(to, &id).await;
            return Ok(PutOutcome::Mismatch);
        }
        Err(error) => {
            client.abort_upload(to, &id).await;
            return Err(error);
        }
    };
    let outcome = client.finish_upload(to, &id, &parts, Kind::Copy).await;
    if outcome == Ok(PutOutcome::AlreadyExists) {
        client.abort_upload(to, &id).await;
    }
    outcome
}

fn unless_changed<T>(read: Result<T>) -> Result<IfSame<T>> {
    match read {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == ErrorKind::NotFound || error.code() == "object-changed" => Ok(None),
        Err(error) => Err(error),
    }
}

async fn copy_parts(
    client: &Client,
    from: &ObjectPath,
    to: &ObjectPath,
    if_tag: &ObjectTag,
    id: &str,
    size: u64,
) -> Result<IfSame<Vec<String>>> {
    let mut etags = Vec::new();
    let mut start = 0;
    while start < size {
        let end = size.min(start + client.tuning.copy_part_bytes);
        let number = etags.len() + 1;
        match copy_part(client, from, to, if_tag, id, number, start..end).await? {
            Some(etag) => etags.push(etag),
            None => return Ok(None),
        }
        start = end;
    }
    Ok(Some(etags))
}

/// Lets the store copy a part; `None` = it refused, because the source is gone or is another.
pub(super) async fn copy_part(
    client: &Client,
    from: &ObjectPath,
    to: &ObjectPath,
    if_tag: &ObjectTag,
    id: &str,
    number: usize,
    range: Range<u64>,
) -> Result<IfSame<String>> {
    let mut source =
        format!("/{}/{}", client.address.bucket, encoded_key(&client.address.key(from.as_str())));
    if let Some(version) = &if_tag.version_id {
        source.push_str(&format!("?versionId={}", encoded_value(version)));
    }
    let ask = client
        .ask(Kind::Copy, Method::PUT, to)
        .query(format!("partNumber={number}&uploadId={}", encoded_value(id)))
        .header("x-amz-copy-source", source)
        .header("x-amz-copy-source-if-match", quoted(&if_tag.etag))
        .header("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end - 1))
        .within(client.tuning.heavy);
    let answer = client.read(&ask).await?;
    if answer.status == StatusCode::PRECONDITION_FAILED || Refusal::of(&answer).is_absence() {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(client.refused_read(&ask, &answer));
    }
    // It takes long: S3 may answer 200 first and say afterwards how it went.
    match answer.xml::<Made>() {
        Some(Made { etag: Some(etag), .. }) => Ok(Some(bare_etag(&etag))),
        Some(Made { code: Some(code), .. }) if code == "PreconditionFailed" => Ok(None),
        _ => Err(Error::unavailable(format!("the store began to copy {from} and did not come to an end"))
            .with_code("store-error")),
    }
}
