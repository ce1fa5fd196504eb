//! Between the engine's types and those of the API, and the bits of form that several handlers share.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use nacre_api::json::{push_i64, push_str};
use nacre_api::{
    BeginLoadBody, ExplainBody, ExplainedRowBody, I64, JSON, JsonKey, KeyIn, ListToken, LoadBody,
    LoadErrorBody, LoadFileBody, LoadModeBody, LoadProgressBody, LoadSourceBody, LoadStateBody,
    LoadVersionBody, NDJSON, NamespaceDescription, NamespaceSummary, OnDuplicateBody, PlaceBody, RowOut,
    ShardBody, TableDescription, TableSummaryBody, ValueShape, batch, key_from_json,
};
use nacre_engine::{
    BeginLoad, ExplainedRow, Explanation, Found, Guards, LoadColumnNames, LoadFile, LoadInfo, LoadMode,
    LoadSource, LoadState, LoadVersion, NamespaceSettings, OnDuplicate, RowPlace, SourceInfo, TableInfo,
    TableSummary,
};
use nacre_types::{Error, KeySchema, NamespaceName, Result, Seq, VersionKind, limits, tuple};

use crate::call::{Call, media_type};

/// Rows of a page: what was asked for within the limit.
pub(crate) fn page_size(asked: Option<u64>) -> usize {
    match asked {
        None | Some(0) => limits::PAGE_ROWS_DEFAULT,
        Some(rows) => usize::try_from(rows).unwrap_or(usize::MAX).min(limits::PAGE_ROWS),
    }
}

/// A page of a listing.
pub(crate) struct ListPage {
    path: String,
    size: usize,
    after: Option<Vec<u8>>,
}

impl ListPage {
    /// From `page_size` and `page_token`; nothing else may stand in the query.
    pub(crate) fn take(call: &mut Call<'_>) -> Result<Self> {
        let size = page_size(call.query.take_u64("page_size")?);
        let path = call.parts.uri.path().to_owned();
        let after =
            call.query.take_text("page_token")?.map(|text| ListToken::parse(&text, &path)).transpose()?;
        call.finish_query()?;
        Ok(Self { path, size, after: after.map(|token| token.0) })
    }

    /// The page of `items`, which are in the order of `place`, and the token of the next.
    pub(crate) fn cut<T, B>(
        &self,
        items: Vec<T>,
        place: impl Fn(&T) -> Vec<u8>,
        body: impl Fn(T) -> B,
    ) -> (Vec<B>, Option<String>) {
        let fresh = |item: &T| self.after.as_ref().is_none_or(|after| place(item) > *after);
        let mut rest = items.into_iter().filter(fresh);
        let mut page = Vec::new();
        let mut last = None;
        for item in rest.by_ref().take(self.size) {
            last = Some(place(&item));
            page.push(body(item));
        }
        let more = rest.next().is_some();
        (page, last.filter(|_| more).map(|place| ListToken(place).to_text(&self.path)))
    }
}

/// The form of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchForm {
    Json,
    Ndjson,
    Binary,
}

impl BatchForm {
    /// The form of the request, and that of its answer, which is the same unless `Accept` says another.
    pub(crate) fn of(call: &Call<'_>) -> Result<(Self, Self)> {
        let expected = "application/json, application/x-ndjson or application/vnd.nacre.batch";
        let request = match call.media_type(&CONTENT_TYPE) {
            None => Self::Json,
            Some(name) => Self::named(&name).ok_or_else(|| media_type(&name, expected))?,
        };
        let answer = match call.media_type(&ACCEPT) {
            None => request,
            Some(name) => Self::named(&name).ok_or_else(|| {
                Error::invalid(format!("the answer has no such form; Accept may name {expected}"))
                    .with_code("not-acceptable")
            })?,
        };
        Ok((request, answer))
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            // Beside JSON itself, what HTTP libraries send when nobody said anything.
            "application/json"
            | "text/json"
            | "text/plain"
            | "application/x-www-form-urlencoded"
            | "text/html"
            | "application/*" => Some(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            batch::MEDIA_TYPE => Some(Self::Binary),
            _ => None,
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Ndjson => NDJSON,
            Self::Binary => batch::MEDIA_TYPE,
        }
    }
}

/// Writes `{"rows":[a,b]` (the caller goes on and closes), or a line each.
pub(crate) fn push_list<T>(
    form: BatchForm,
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    let lines = form == BatchForm::Ndjson;
    if !lines {
        out.extend_from_slice(b"{\"rows\":[");
    }
    for (nth, item) in items.enumerate() {
        if nth > 0 && !lines {
            out.push(b',');
        }
        push(out, item)?;
        if lines {
            out.push(b'\n');
        }
    }
    if !lines {
        out.push(b']');
    }
    Ok(())
}

/// A [`nacre_api::RowsPage`], written.
pub(crate) fn rows_page<'r>(
    rows: impl Iterator<Item = (&'r [u8], &'r Found)>,
    schema: &KeySchema,
    shape: &ValueShape,
    next_page_token: Option<&str>,
    edition: Seq,
) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(4096);
    push_list(BatchForm::Json, &mut out, rows, |out, (key, found)| {
        RowOut::push(out, key, schema, &found.value, shape, found.version, found.expires_at)
    })?;
    if let Some(token) = next_page_token {
        out.extend_from_slice(b",\"next_page_token\":");
        push_str(&mut out, token);
    }
    out.extend_from_slice(b",\"edition\":");
    push_i64(&mut out, i64::try_from(edition.0).unwrap_or(i64::MAX));
    out.push(b'}');
    Ok(out)
}

pub(crate) fn namespace_summary(name: &NamespaceName) -> NamespaceSummary {
    NamespaceSummary { name: name.as_str().to_owned() }
}

pub(crate) fn namespace(name: &NamespaceName, settings: NamespaceSettings) -> NamespaceDescription {
    let NamespaceSettings { consistency, quotas } = settings;
    NamespaceDescription { name: name.as_str().to_owned(), consistency, quotas }
}

pub(crate) fn table_summary(table: TableSummary) -> TableSummaryBody {
    TableSummaryBody { name: table.name.as_str().to_owned(), table_id: table.id.to_string() }
}

pub(crate) fn table(ns: &str, name: &str, info: TableInfo, now_micros: i64) -> TableDescription {
    let schema = info.settings.key_schema();
    let shards = info
        .shards
        .into_iter()
        .map(|shard| ShardBody {
            id: shard.id.0,
            start: (!shard.start.is_empty()).then(|| spell_key(&shard.start, &schema)),
            partition: shard.partition.0,
        })
        .collect();
    let dated = info.settings.version_kind == VersionKind::Time;
    let age = info.newest_version.filter(|_| dated).map(|newest| now_micros.saturating_sub(newest).max(0));
    TableDescription {
        name: name.to_owned(),
        namespace: ns.to_owned(),
        table_id: info.id.to_string(),
        settings: info.settings.into(),
        edition: I64::from_u64(info.edition.0),
        manifest: I64::from_u64(info.manifest.0),
        shards,
        segments: info.segments,
        rows: info.rows_estimate,
        rows_are_estimated: true,
        tombstones: info.tombstones,
        bytes: info.bytes,
        tail_rows: info.tail_rows,
        tail_bytes: info.tail_bytes,
        loads: info.loads,
        data_age_seconds: age.map(|micros| (micros / 1_000) as f64 / 1_000.0),
        source: None,
    }
}

/// A source as a description shows it.
pub(crate) fn source(info: &SourceInfo) -> serde_json::Value {
    let mut shown = serde_json::to_value(&info.declaration).unwrap_or_default();
    let partitions: Vec<_> = info
        .partitions
        .iter()
        .enumerate()
        .map(|(at, (covered, state))| {
            let state = state.clone().unwrap_or_default();
            let samples: Vec<_> = state
                .samples
                .iter()
                .map(|(offset, why)| serde_json::json!({"offset": offset, "why": why}))
                .collect();
            serde_json::json!({
                "partition": at, "applied_offset": covered.0, "end_offset": state.end, "lag_rows": state.lag_rows,
                "lag_seconds": state.lag_seconds, "faults": state.faults, "fault_samples": samples,
                "stopped": state.stopped,
            })
        })
        .collect();
    if let Some(members) = shown.as_object_mut() {
        members.insert("partitions".to_owned(), partitions.into());
        members.insert("backfill_load".to_owned(), info.backfill_load.map(|load| load.to_string()).into());
    }
    shown
}

/// A key that is no hot path's; a shard's start may be the leading parts of one.
fn spell_key(key: &[u8], schema: &KeySchema) -> JsonKey {
    if let KeySchema::Parts(parts) = schema {
        let leading = (1..=parts.len()).rev().find_map(|n| tuple::unpack(parts.get(..n)?, key).ok());
        if let Some(parts) = leading {
            return JsonKey::Parts(parts.iter().map(tuple::part_to_json).collect());
        }
    }
    JsonKey::from_bytes(key)
}

/// First keys of the shards of a new table. Of typed keys leading parts will do.
pub(crate) fn split_points(keys: &[JsonKey], schema: &KeySchema) -> Result<Vec<Bytes>> {
    const MOST: usize = 10_000;
    if keys.len() > MOST {
        return Err(Error::invalid(format!("split_at has {} keys; the most is {MOST}", keys.len()))
            .with_code("settings-invalid"));
    }
    let mut points = Vec::with_capacity(keys.len());
    for (nth, key) in keys.iter().enumerate() {
        let named = |error: Error| error.context(format!("split_at[{nth}]"));
        points.push(match (schema, key) {
            (KeySchema::Parts(schema), JsonKey::Parts(parts)) => {
                let parts = tuple::parts_from_json(schema, &serde_json::Value::Array(parts.clone()))
                    .map_err(named)?;
                Bytes::from(tuple::pack(&parts))
            }
            (_, key) => key_from_json(&borrow(key), schema).map_err(named)?.into_bytes(),
        });
    }
    if points.first().is_some_and(Bytes::is_empty) || !points.is_sorted_by(|a, b| a < b) {
        return Err(Error::invalid("split_at: its keys rise, and none stands twice or is empty")
            .with_code("settings-invalid"));
    }
    Ok(points)
}

fn borrow(key: &JsonKey) -> KeyIn<'_> {
    match key {
        JsonKey::Text(text) => KeyIn::Text(text.into()),
        JsonKey::Base64 { base64 } => KeyIn::Base64(base64.into()),
        JsonKey::Parts(parts) => KeyIn::Parts(parts.clone()),
    }
}

pub(crate) fn explanation(explanation: Explanation) -> ExplainBody {
    ExplainBody {
        rows: explanation.rows.into_iter().map(explained_row).collect(),
        edition: I64::from_u64(explanation.edition.0),
        manifest: I64::from_u64(explanation.manifest.0),
    }
}

fn explained_row(row: ExplainedRow) -> ExplainedRowBody {
    ExplainedRowBody {
        version: I64(row.version),
        tombstone: row.tombstone,
        expires_at: row.expires_at.map(I64),
        value_bytes: row.value_bytes,
        place: match row.place {
            RowPlace::Tail { partition, offset, index } => {
                PlaceBody::Tail { partition: partition.0, offset: offset.0, index }
            }
            RowPlace::Segment { segment, block, load } => PlaceBody::Segment {
                segment: segment.to_string(),
                block,
                load: load.map(|id| id.to_string()),
            },
        },
        visible: row.visible,
        reason: row.reason,
    }
}

/// The engine's request, and the canonical bytes that an idempotency key is held against: two spellings of one request
/// are the same body.
pub(crate) fn begin_load(body: BeginLoadBody) -> Result<(BeginLoad, Bytes)> {
    let wrong = |detail: &str| Error::invalid(detail.to_owned()).with_code("load-invalid");
    let versions_named = body.columns.as_ref().is_some_and(|columns| columns.version.is_some());
    if body.version.is_none() && !versions_named {
        return Err(wrong(
            "version is missing: an integer (microseconds since the epoch) or \"now\"; it may be left out only if columns.version names a column",
        ));
    }
    if let Some(columns) = &body.columns {
        if columns.key.is_empty() {
            return Err(wrong("columns.key names no column"));
        }
        if columns.value.is_some() && columns.pack.is_some() {
            return Err(wrong("columns: value and pack exclude each other"));
        }
    }
    let files = match &body.source {
        Some(LoadSourceBody::Files(files)) => files.len(),
        _ => 0,
    };
    if files > limits::LOAD_FILES {
        return Err(wrong(&format!(
            "source.files has {files} files; the limit load_files is {}",
            limits::LOAD_FILES
        )));
    }
    if body.guards.max_shrink_percent > 100 || body.guards.max_tombstone_percent > 100 {
        return Err(wrong("guards: a percentage is more than 100"));
    }
    let canonical = serde_json::to_vec(&body).map_err(|error| Error::internal(error.to_string()))?;
    let request = BeginLoad {
        mode: match body.mode {
            LoadModeBody::Merge => LoadMode::Merge,
            LoadModeBody::Replace => LoadMode::Replace,
        },
        version: body.version.map(|version| match version {
            LoadVersionBody::At(version) => LoadVersion::At(version),
            LoadVersionBody::Now => LoadVersion::Now,
        }),
        source: body.source.map(|source| match source {
            LoadSourceBody::Files(files) => LoadSource::Files(files),
            LoadSourceBody::Prefix(prefix) => LoadSource::Prefix(prefix),
        }),
        columns: body.columns.map(|columns| LoadColumnNames {
            key: columns.key,
            value: columns.value,
            pack: columns.pack,
            version: columns.version,
            expires_at: columns.expires_at,
            delete: columns.delete,
        }),
        guards: Guards {
            min_rows: body.guards.min_rows,
            max_shrink_percent: body.guards.max_shrink_percent,
            max_tombstone_percent: body.guards.max_tombstone_percent,
            allow_empty: body.guards.allow_empty,
            allow_older: body.guards.allow_older,
        },
        on_duplicate: match body.on_duplicate {
            OnDuplicateBody::Fail => OnDuplicate::Fail,
            OnDuplicateBody::Any => OnDuplicate::Any,
        },
    };
    Ok((request, canonical.into()))
}

/// Newest first: what listings of loads are ordered by.
pub(crate) fn load_place(info: &LoadInfo) -> [u8; 24] {
    let mut place = [0; 24];
    // The sign bit is turned so that bytes compare as numbers do, and all of it so that the newest is smallest.
    let age = !(info.begun_at_micros as u64 ^ 1 << 63);
    place[..8].copy_from_slice(&age.to_be_bytes());
    place[8..].copy_from_slice(&info.id.to_bytes());
    place
}

pub(crate) fn load(info: LoadInfo) -> LoadBody {
    LoadBody {
        load_id: info.id.to_string(),
        state: match info.state {
            LoadState::Open => LoadStateBody::Open,
            LoadState::Validating => LoadStateBody::Validating,
            LoadState::Preparing => LoadStateBody::Preparing,
            LoadState::Prepared => LoadStateBody::Prepared,
            LoadState::Committed => LoadStateBody::Committed,
            LoadState::Failed => LoadStateBody::Failed,
            LoadState::Cancelled => LoadStateBody::Cancelled,
            LoadState::Reverted => LoadStateBody::Reverted,
        },
        mode: match info.mode {
            LoadMode::Merge => LoadModeBody::Merge,
            LoadMode::Replace => LoadModeBody::Replace,
        },
        version: info.version.map(I64),
        begun_at: I64(info.begun_at_micros),
        staging_url: info.staging_url,
        progress: LoadProgressBody {
            files: info.progress.files,
            files_done: info.progress.files_done,
            rows: info.progress.rows,
            bytes: info.progress.bytes,
            bytes_moved: info.progress.bytes_moved,
            adopted_files: info.progress.adopted_files,
            rewritten_files: info.progress.rewritten_files,
            seconds: info.progress.seconds,
        },
        rows_hidden: info.rows_hidden,
        revertible_until: info.revertible_until_micros.map(I64),
        edition: info.edition.map(|edition| I64::from_u64(edition.0)),
        token: info.token.map(|token| token.to_text()),
        errors: info
            .errors
            .into_iter()
            .take(limits::LOAD_ERRORS)
            .map(|error| LoadErrorBody {
                file: error.file,
                row: error.row,
                column: error.column,
                detail: error.detail,
            })
            .collect(),
        error_count: info.error_count,
    }
}

pub(crate) fn load_file(file: LoadFile) -> LoadFileBody {
    let LoadFile { file, rows, bytes, outcome, reason, hint } = file;
    LoadFileBody { file, rows, bytes, outcome, reason, hint }
}

/// The name of a file in a load's staging place: it becomes part of a path, so nothing in it may mean more than itself.
pub(crate) fn file_name(raw: &str) -> Result<String> {
    const MOST: usize = 512;
    let decoded = nacre_api::percent_decode(raw, false)?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'=' | b'-' | b'%' | b' ');
    let segment = |s: &[u8]| !s.is_empty() && s.iter().all(plain) && s != b"." && s != b"..";
    match std::str::from_utf8(&decoded) {
        Ok(name) if name.len() <= MOST && decoded.split(|&b| b == b'/').all(segment) => Ok(name.to_owned()),
        _ => Err(Error::invalid(format!(
            "the file's name is not made of [A-Za-z0-9._=% -], with / between folders, {MOST} bytes at most"
        ))
        .with_code("file-name-invalid")),
    }
}

#[cfg(test)]
#[path = "convert/tests.rs"]
mod tests;
