//! Tables.

use std::sync::Arc;

use http::StatusCode;
use nacre_access::Outside;
use nacre_api::{CreateTableBody, Problem, SourcePatch, TableDescription, TableSettingsPatch, TablesBody};
use nacre_engine::{Created, Table};
use nacre_types::{NamespaceName, Result, TableName, TableSettings};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::convert;

/// The tables of a namespace that the caller may see, by name.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables", operation_id = "list_tables", tag = "Tables",
    params(("ns" = String, Path), ("page_size" = Option<u64>, Query, description = "1,000 unless said"), ("page_token" = Option<String>, Query)),
    responses((status = 200, body = TablesBody, description = "A page of them."), (status = 404, body = Problem, content_type = "application/problem+json", description = "namespace-not-found")))]
pub(crate) async fn list(call: &mut Call<'_>, ns: &str) -> Result<Answer> {
    let page = convert::ListPage::take(call)?;
    let mut tables = call.app.node.tables(&NamespaceName::new(ns)?).await?;
    tables.retain(|table| call.sees(ns, table.name.as_str()));
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    let (tables, next_page_token) =
        page.cut(tables, |table| table.name.as_str().as_bytes().to_vec(), convert::table_summary);
    Ok(Answer::json(StatusCode::OK, &TablesBody { tables, next_page_token }))
}

/// A table described: its settings and its state.
#[utoipa::path(get, path = "/v1/namespaces/{ns}/tables/{table}", operation_id = "describe_table", tag = "Tables", params(("ns" = String, Path), ("table" = String, Path)),
    responses((status = 200, body = TableDescription, description = "Settings and state."), (status = 404, body = Problem, content_type = "application/problem+json", description = "table-not-found or namespace-not-found")))]
pub(crate) async fn describe(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    call.finish_query()?;
    let found = call.table_now(ns, table).await?;
    Ok(Answer::json(StatusCode::OK, &described(call, ns, table, &found).await?))
}

/// A table with its source.
async fn described(call: &Call<'_>, ns: &str, name: &str, table: &Arc<Table>) -> Result<TableDescription> {
    let source = call.app.node.source_info(table).await?;
    let source = source.as_ref().map(convert::source);
    Ok(TableDescription { source, ..convert::table(ns, name, table.info(), call.now_micros) })
}

/// Whether the caller may name the topic of a source. One that stands there already is not named anew.
fn check_topic(call: &Call<'_>, declared: &Value, held: &Value) -> Result<()> {
    let (wanted, held) = (declared.get("kafka"), held.get("kafka"));
    match wanted.and_then(|kafka| kafka.get("topic")).and_then(Value::as_str) {
        Some(topic) if wanted != held => call.check_outside(Outside::Topic(topic)),
        // Without a topic it is no declaration, which is said where it is read.
        _ => Ok(()),
    }
}

/// Creates a table.
#[utoipa::path(put, path = "/v1/namespaces/{ns}/tables/{table}", operation_id = "create_table", tag = "Tables", params(("ns" = String, Path), ("table" = String, Path)), request_body = CreateTableBody,
    responses((status = 201, body = TableDescription, description = "Made."), (status = 200, body = TableDescription, description = "There already, and equal."), (status = 409, body = Problem, content_type = "application/problem+json", description = "There already, and different; or the name is not free yet (Retry-After).")))]
pub(crate) async fn create(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    call.finish_query()?;
    let (namespace, name) = (NamespaceName::new(ns)?, TableName::new(table)?);
    let body: CreateTableBody = nacre_api::from_json(&call.json_body().await?)?;
    let settings = body.settings(call.app.node.namespace(&namespace).await?.consistency)?;
    let split_at = convert::split_points(&body.split_at, &settings.key_schema())?;
    // Before there is a table: one without the source that was asked for is of no use.
    if let Some(source) = &body.source {
        check_topic(call, source, &Value::Null)?;
        call.app.node.check_source(source, &settings).await?;
    }
    let created = call.app.node.create_table(&namespace, &name, settings, split_at).await?;
    let status = if matches!(created, Created::New(_)) { StatusCode::CREATED } else { StatusCode::OK };
    let made = created.into_inner();
    if let Some(source) = &body.source {
        call.app.node.declare_source(&made, Some(source)).await?;
    }
    Ok(Answer::json(status, &described(call, ns, table, &made).await?))
}

/// Changes settings by a merge patch (RFC 7396): members replace, `null` brings the default back.
#[utoipa::path(patch, path = "/v1/namespaces/{ns}/tables/{table}", operation_id = "update_table", tag = "Tables", params(("ns" = String, Path), ("table" = String, Path)), request_body(content = TableSettingsPatch, content_type = "application/merge-patch+json"),
    responses((status = 200, body = TableDescription, description = "Changed."), (status = 409, body = Problem, content_type = "application/problem+json", description = "This setting cannot change so."), (status = 422, body = Problem, content_type = "application/problem+json", description = "settings-invalid")))]
pub(crate) async fn update(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    call.finish_query()?;
    let (namespace, name) = (NamespaceName::new(ns)?, TableName::new(table)?);
    let (source, patch) = nacre_api::take_source(&call.json_body().await?)?;
    // Applied to whatever the settings are when the edit is made, so that two patches at once both count.
    let consistency = call.app.node.namespace(&namespace).await?.consistency;
    let declared = match &source {
        SourcePatch::Changed(patch) => {
            let found = call.app.node.table(&namespace, &name).await?;
            let held = call.app.node.source_info(&found).await?;
            let held = held.and_then(|held| serde_json::to_value(held.declaration).ok()).unwrap_or_default();
            let declared = nacre_api::merged(held.clone(), patch);
            check_topic(call, &declared, &held)?;
            Some(declared)
        }
        SourcePatch::Untouched | SourcePatch::Removed => None,
    };
    // A source that is not taken must not leave the settings changed that came with it.
    if let (Some(declared), Some(patch)) = (&declared, &patch) {
        let found = call.app.node.table(&namespace, &name).await?;
        let settings = nacre_api::merge_patch(&found.settings(), patch, consistency)?;
        call.app.node.check_source(declared, &settings).await?;
    }
    let found = match patch {
        Some(patch) => {
            let change =
                move |settings: &TableSettings| nacre_api::merge_patch(settings, &patch, consistency);
            call.app.node.update_table(&namespace, &name, change).await?
        }
        None => call.app.node.table(&namespace, &name).await?,
    };
    match source {
        SourcePatch::Untouched => {}
        SourcePatch::Removed => call.app.node.declare_source(&found, None).await?,
        SourcePatch::Changed(_) => call.app.node.declare_source(&found, declared.as_ref()).await?,
    }
    Ok(Answer::json(StatusCode::OK, &described(call, ns, table, &found).await?))
}

/// Drops a table. The name is free again once every dispatcher knows; until then creating it answers 409 with Retry-After.
#[utoipa::path(delete, path = "/v1/namespaces/{ns}/tables/{table}", operation_id = "drop_table", tag = "Tables", params(("ns" = String, Path), ("table" = String, Path)),
    responses((status = 204, description = "Dropped."), (status = 404, body = Problem, content_type = "application/problem+json", description = "table-not-found")))]
pub(crate) async fn delete(call: &mut Call<'_>, ns: &str, table: &str) -> Result<Answer> {
    call.finish_query()?;
    call.app.node.drop_table(&NamespaceName::new(ns)?, &TableName::new(table)?).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}
