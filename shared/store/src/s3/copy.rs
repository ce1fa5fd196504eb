//! Copies that the store makes itself.
//!
//! CopyObject with If-None-Match overwrites in silence on servers that we know, so a copy is an upload whose parts the
//! store copies: each under the condition that the source still is what the caller saw, and the end under the condition
//! that the name is free. Parts of big objects are copied beside each other: a store takes seconds for each.

use super::address::{encoded_key, encoded_value};
use super::answer::{Made, bare_etag};
use super::ask::Kind;
use super::client::Client;
use super::read::quoted;
use super::refusal::Refusal;
use super::upload::OpenUpload;
use crate::{GetOptions, ObjectPath, ObjectTag, PutMode, PutOutcome};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use http::{Method, StatusCode};
use nacre_types::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// S3 takes 10,000 parts.
const PARTS_AT_MOST: u64 = 9_000;

/// `None` = the source is gone or is another.
type IfSame<T> = Option<T>;

pub(super) async fn copy(
    client: &Arc<Client>,
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
        let options = GetOptions { if_tag: Some(if_tag.clone()), ..GetOptions::default() };
        let Some(object) = unless_changed(client.get(from, &options).await)? else {
            return Ok(PutOutcome::Mismatch);
        };
        return client.put(to, object.bytes, &PutMode::Create).await;
    }
    let upload = OpenUpload::new(client, to, Kind::Copy).await?;
    match copy_parts(client, from, to, if_tag, upload.id(), size).await {
        Ok(Some(parts)) => upload.end(&parts).await,
        Ok(None) => {
            upload.abort().await;
            Ok(PutOutcome::Mismatch)
        }
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
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
    let part = size.div_ceil(PARTS_AT_MOST).max(client.tuning.copy_part_bytes);
    let (mut etags, mut under_way) = (Vec::new(), FuturesOrdered::new());
    let (mut start, mut number) = (0, 0);
    loop {
        while start < size && under_way.len() < client.tuning.copies_at_once {
            let end = size.min(start.saturating_add(part));
            // S3 copies a range only of what is bigger than 5 MB: what is one part has none.
            let range = (start > 0 || end < size).then_some(start..end);
            (start, number) = (end, number + 1);
            under_way.push_back(copy_part(client, from, to, if_tag, id, number, range));
        }
        match under_way.next().await {
            Some(Ok(Some(etag))) => etags.push(etag),
            Some(Ok(None)) => return Ok(None),
            Some(Err(error)) => return Err(error),
            None => return Ok(Some(etags)),
        }
    }
}

/// Lets the store copy a part, or the whole without a range; `None` = it refused, because the source is gone or is another.
pub(super) async fn copy_part(
    client: &Client,
    from: &ObjectPath,
    to: &ObjectPath,
    if_tag: &ObjectTag,
    id: &str,
    number: usize,
    range: Option<Range<u64>>,
) -> Result<IfSame<String>> {
    let mut source =
        format!("/{}/{}", client.address.bucket, encoded_key(&client.address.key(from.as_str())));
    if let Some(version) = &if_tag.version_id {
        source.push_str(&format!("?versionId={}", encoded_value(version)));
    }
    let mut ask = client
        .ask(Kind::Copy, Method::PUT, to)
        .query(format!("partNumber={number}&uploadId={}", encoded_value(id)))
        .header("x-amz-copy-source", source)
        .header("x-amz-copy-source-if-match", quoted(&if_tag.etag))
        .within(client.tuning.heavy);
    if let Some(range) = range {
        ask = ask.header("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end - 1));
    }
    let answer = client.read(&ask).await?;
    if answer.status == StatusCode::PRECONDITION_FAILED || Refusal::of(&answer).is_absence() {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(client.refused_read(&ask, &answer));
    }
    // It takes long: S3 may answer 200 first and say afterwards how it went.
    match answer.xml::<Made>() {
        Some(Made { code: Some(code), .. }) if code == "PreconditionFailed" => Ok(None),
        Some(Made { code: None, etag: Some(etag) }) => Ok(Some(bare_etag(&etag))),
        _ => Err(Error::unavailable(format!("the store began to copy {from} and did not come to an end"))
            .with_code("store-error")),
    }
}
