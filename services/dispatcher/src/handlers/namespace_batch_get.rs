//! Keys of several tables in one call: each table answers from one edition.

use std::collections::BTreeMap;

use futures::StreamExt;
use http::StatusCode;
use nacre_access::Denied;
use nacre_api::{
    JSON, NamespaceBatchGetAnswer, NamespaceBatchGetBody, NamespaceBatchGetIn, NamespaceGetIn, Problem,
    RowOut, ValueShape, from_json, json, key_from_json,
};
use nacre_engine::{Found, ReadOptions, Receipt, SessionToken, Table};
use nacre_types::{Consistency, Error, Key, KeySchema, NamespaceName, Result, Seq, TableName, limits};
use std::sync::Arc;

use super::batch_get::{Got, push_got, read};
use super::rows::schema;
use crate::answer::Answer;
use crate::call::{Call, MOST_TOKENS, or_stale};
use crate::reads::{Reads, Seen};

/// Tables asked at once.
const AT_ONCE: usize = 8;

/// At most 1,000 keys of any tables of the namespace; with `since`, `until` or `limit` the versions of a key.
#[utoipa::path(post, path = "/v1/namespaces/{ns}:batchGet", operation_id = "namespace_batch_get", tag = "Rows", params(("ns" = String, Path), crate::openapi::ReadParams, crate::openapi::ReadHeaders, ("value_encoding" = Option<String>, Query, description = "auto, utf8, base64 or json")), request_body = NamespaceBatchGetBody,
    responses((status = 200, body = NamespaceBatchGetAnswer, description = "Order and number as asked."), (status = 413, body = Problem, content_type = "application/problem+json", description = "batch-too-large")))]
pub(crate) async fn batch_get(call: &mut Call<'_>, ns: &str) -> Result<Answer> {
    let namespace = NamespaceName::new(ns)?;
    let (mut options, tokens) = (call.shared_read_options()?, call.tokens()?);
    let shape = ValueShape::new(call.value_encoding()?, None, false)?;
    call.finish_query()?;
    let body = call.json_body().await?;
    let request: NamespaceBatchGetIn<'_> = from_json(&body)?;
    if request.gets.len() > limits::BATCH_GET_KEYS {
        return Err(Error::invalid(format!(
            "the batch has {} gets; the limit batch_get_keys is {}",
            request.gets.len(),
            limits::BATCH_GET_KEYS
        ))
        .with_code("batch-too-large"));
    }
    options.deadline = call.left();
    let mut asked: BTreeMap<&str, Vec<(usize, &NamespaceGetIn<'_>)>> = BTreeMap::new();
    for (nth, get) in request.gets.iter().enumerate() {
        asked.entry(&get.table.0).or_default().push((nth, get));
    }
    let (partial, node) = (request.partial, &call.app.node);
    let mut tables = Vec::with_capacity(asked.len());
    if asked.keys().any(|table| !call.sees(ns, table)) {
        return Err(Denied::Table.error());
    }
    for (name, gets) in asked {
        let table = node.table(&namespace, &TableName::new(name)?).await?;
        tables.push((name, Part::new(table, &gets, &options, &tokens, call.serve_stale)?));
    }
    call.check_keys(|grant| {
        tables.iter().flat_map(|(_, part)| part.all_keys()).try_for_each(|key| grant.key(key))
    })?;
    let reads = &call.app.reads;
    let parts: Vec<_> = tables.iter().map(|(_, part)| part.read(reads, partial)).collect();
    let mut answers = futures::stream::iter(parts).buffered(AT_ONCE);
    let mut total = Receipt::default();
    let mut spelt: Vec<Vec<u8>> = vec![Vec::new(); request.gets.len()];
    let mut editions = BTreeMap::new();
    let mut rows = 0;
    let mut seen = Vec::with_capacity(tables.len());
    for (name, part) in &tables {
        let Some(answer) = answers.next().await else { break };
        let Seen { value: got, receipt, by } = answer?;
        seen.push(by.token(&part.table, part.options.session.as_ref())?.to_text());
        total.add(&receipt);
        editions.insert(*name, receipt.edition);
        rows += part.spell(&got, &shape, &mut spelt)?;
    }
    let mut answer = Answer::bytes(JSON, join(&spelt, &editions));
    answer.set_status(StatusCode::OK);
    // What no request can send back is of no use.
    if (1..=MOST_TOKENS).contains(&tables.len()) {
        answer.text(nacre_api::headers::TOKEN, seen.join(",").as_bytes());
    }
    call.receipt(&mut answer, &total, rows);
    Ok(answer)
}

/// What is asked of one table.
struct Part {
    table: Arc<Table>,
    options: ReadOptions,
    serve_stale: bool,
    schema: KeySchema,
    /// Keys of plain gets, and where each stands in the request.
    keys: Vec<Key>,
    places: Vec<usize>,
    versions: Vec<Versions>,
}

struct Versions {
    place: usize,
    key: Key,
    since: i64,
    until: i64,
    limit: usize,
}

/// Answers of one table, in the order of its keys and versions.
struct Answers {
    rows: Vec<Got>,
    versions: Vec<Vec<Found>>,
}

impl Part {
    fn new(
        table: Arc<Table>,
        gets: &[(usize, &NamespaceGetIn<'_>)],
        options: &ReadOptions,
        tokens: &[SessionToken],
        serve_stale: bool,
    ) -> Result<Self> {
        let mut options = options.clone();
        for token in tokens.iter().filter(|token| token.table == table.id()) {
            match &mut options.session {
                Some(joined) => joined.join(token)?,
                none => *none = Some(token.clone()),
            }
        }
        let settings = table.settings();
        if options.session.is_some()
            && options.consistency.is_none()
            && settings.consistency == Consistency::Eventual
        {
            options.consistency = Some(Consistency::Session);
        }
        let schema = schema(&settings).clone();
        let mut part = Self {
            table,
            options,
            serve_stale,
            schema,
            keys: Vec::new(),
            places: Vec::new(),
            versions: Vec::new(),
        };
        for &(place, get) in gets {
            let key =
                key_from_json(&get.key, &part.schema).map_err(|e| e.context(format!("gets[{place}]")))?;
            if get.since.is_none() && get.until.is_none() && get.limit.is_none() {
                part.keys.push(key);
                part.places.push(place);
            } else {
                part.versions.push(Versions {
                    place,
                    key,
                    since: get.since.map_or(i64::MIN, |number| number.0),
                    until: get.until.map_or(i64::MAX, |number| number.0),
                    limit: crate::convert::page_size(get.limit.map(u64::from)),
                });
            }
        }
        Ok(part)
    }

    fn all_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().chain(self.versions.iter().map(|wanted| &wanted.key))
    }

    /// All at the edition of the first answer.
    async fn read(&self, reads: &Reads, partial: bool) -> Result<Seen<Answers>> {
        let options = &self.options;
        let seen = or_stale!(self, options, read(reads, &self.table, &self.keys, options, partial).await)?;
        let Seen { value: rows, mut receipt, mut by } = seen;
        let mut pinned = self.options.clone();
        if !self.keys.is_empty() {
            pinned.edition = Some(receipt.edition);
        }
        let mut versions = Vec::with_capacity(self.versions.len());
        for wanted in &self.versions {
            let Versions { key, since, until, limit, .. } = wanted;
            let options = &pinned;
            let range = (*since, *until, *limit);
            let seen = or_stale!(self, options, reads.versions(&self.table, key, range, options).await)?;
            receipt.add(&seen.receipt);
            pinned.edition = Some(seen.receipt.edition);
            by.join(seen.by)?;
            versions.push(seen.value);
        }
        Ok(Seen { value: Answers { rows, versions }, receipt, by })
    }

    /// Writes each answer where its get stands; answers how many rows there are.
    fn spell(&self, answers: &Answers, shape: &ValueShape, spelt: &mut [Vec<u8>]) -> Result<usize> {
        let mut rows = 0;
        for ((key, &place), got) in self.keys.iter().zip(&self.places).zip(&answers.rows) {
            rows += usize::from(got.1.is_some());
            if let Some(out) = spelt.get_mut(place) {
                push_got(out, key, got, &self.schema, shape)?;
            }
        }
        for (wanted, found) in self.versions.iter().zip(&answers.versions) {
            rows += found.len();
            let Some(out) = spelt.get_mut(wanted.place) else { continue };
            out.extend_from_slice(b"{\"versions\":[");
            for (nth, row) in found.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                RowOut::push(out, &wanted.key, &self.schema, &row.value, shape, row.version, row.expires_at)?;
            }
            out.extend_from_slice(b"]}");
        }
        Ok(rows)
    }
}

fn join(spelt: &[Vec<u8>], editions: &BTreeMap<&str, Seq>) -> Vec<u8> {
    let mut out = Vec::with_capacity(spelt.iter().map(|row| row.len() + 1).sum::<usize>() + 64);
    out.extend_from_slice(b"{\"rows\":[");
    for (nth, row) in spelt.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row);
    }
    out.extend_from_slice(b"],\"editions\":{");
    for (nth, (table, edition)) in editions.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::push_str(&mut out, table);
        out.push(b':');
        json::push_i64(&mut out, edition.0 as i64);
    }
    out.extend_from_slice(b"}}");
    out
}
