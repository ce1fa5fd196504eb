//! Namespaces.

use http::StatusCode;
use nacre_api::{NamespaceBody, NamespaceDescription, NamespacesBody, Problem};
use nacre_engine::{Created, NamespaceSettings};
use nacre_types::{NamespaceName, Result};

use crate::answer::Answer;
use crate::call::Call;
use crate::convert;

/// The namespaces that the caller may see, by name.
#[utoipa::path(get, path = "/v1/namespaces", operation_id = "list_namespaces", tag = "Namespaces",
    params(("page_size" = Option<u64>, Query, description = "1,000 unless said"), ("page_token" = Option<String>, Query)),
    responses((status = 200, body = NamespacesBody, description = "A page of them.")))]
pub(crate) async fn list(call: &mut Call<'_>) -> Result<Answer> {
    let page = convert::ListPage::take(call)?;
    let mut names = call.app.node.namespaces().await?;
    names.retain(|name| call.sees(name.as_str(), ""));
    names.sort();
    let (namespaces, next_page_token) =
        page.cut(names, |name| name.as_str().as_bytes().to_vec(), |name| convert::namespace_summary(&name));
    Ok(Answer::json(StatusCode::OK, &NamespacesBody { namespaces, next_page_token }))
}

/// A namespace described.
#[utoipa::path(get, path = "/v1/namespaces/{ns}", operation_id = "describe_namespace", tag = "Namespaces", params(("ns" = String, Path)),
    responses((status = 200, body = NamespaceDescription, description = "Its settings."), (status = 404, body = Problem, content_type = "application/problem+json", description = "namespace-not-found")))]
pub(crate) async fn describe(call: &mut Call<'_>, ns: &str) -> Result<Answer> {
    call.finish_query()?;
    let name = NamespaceName::new(ns)?;
    let settings = call.app.node.namespace(&name).await?;
    Ok(Answer::json(StatusCode::OK, &convert::namespace(&name, settings)))
}

/// Creates a namespace. `default` exists from the start.
#[utoipa::path(put, path = "/v1/namespaces/{ns}", operation_id = "create_namespace", tag = "Namespaces", params(("ns" = String, Path)), request_body = NamespaceBody,
    responses((status = 201, body = NamespaceDescription, description = "Made."), (status = 200, body = NamespaceDescription, description = "There already, and equal."), (status = 409, body = Problem, content_type = "application/problem+json", description = "There already, and different.")))]
pub(crate) async fn create(call: &mut Call<'_>, ns: &str) -> Result<Answer> {
    call.finish_query()?;
    let name = NamespaceName::new(ns)?;
    let NamespaceBody { consistency, quotas } = nacre_api::from_json(&call.json_body().await?)?;
    let created = call.app.node.create_namespace(&name, NamespaceSettings { consistency, quotas }).await?;
    let status = if matches!(created, Created::New(_)) { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Answer::json(status, &convert::namespace(&name, created.into_inner())))
}
