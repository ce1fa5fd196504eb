//! One file per resource. A handler takes its parameters, refuses unknown ones, asks the node, and answers.

pub(crate) mod batch_get;
pub(crate) mod batch_write;
pub(crate) mod loads;
pub(crate) mod namespace_batch_get;
pub(crate) mod namespaces;
pub(crate) mod nodes;
pub(crate) mod ops;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod tables;
pub(crate) mod tokens;

use http::Method;
use nacre_api::{Route, Verb};
use nacre_types::Result;

use crate::answer::Answer;
use crate::call::Call;

/// Finds the handler. The future of every request is as large as that of the largest handler in it, and is moved some
/// times before it is polled: so the rest, large ones among them, lie behind a pointer.
pub(crate) async fn dispatch(call: &mut Call<'_>, route: Route<'_>) -> Result<Answer> {
    match route {
        Route::Table { ns, table, verb: Verb::Row(key) }
            if matches!(call.parts.method, Method::GET | Method::HEAD) =>
        {
            rows::get(call, ns, table, key).await
        }
        _ => Box::pin(rest(call, route)).await,
    }
}

/// Finds the handler of what is not a get. What has none is told why: 404, 405 or 501.
async fn rest(call: &mut Call<'_>, route: Route<'_>) -> Result<Answer> {
    let method = if call.parts.method == Method::HEAD { Method::GET } else { call.parts.method.clone() };
    let (get, put, post) = (method == Method::GET, method == Method::PUT, method == Method::POST);
    let (patch, delete) = (method == Method::PATCH, method == Method::DELETE);
    match route {
        Route::Table { ns, table, verb: Verb::Row(key) } if put => rows::put(call, ns, table, key).await,
        Route::Table { ns, table, verb: Verb::Row(key) } if delete => {
            rows::delete(call, ns, table, key).await
        }
        Route::Table { ns, table, verb } => match verb {
            Verb::BatchGet if post => batch_get::batch_get(call, ns, table).await,
            Verb::BatchWrite if post => batch_write::batch_write(call, ns, table).await,
            Verb::Scan if get => scan::scan(call, ns, table).await,
            Verb::Get if get => rows::get_by_query(call, ns, table).await,
            Verb::Get if post => rows::get_by_body(call, ns, table).await,
            Verb::Versions(key) if get => rows::versions(call, ns, table, key).await,
            Verb::Explain(key) if get => rows::explain(call, ns, table, key).await,
            Verb::Describe if get => tables::describe(call, ns, table).await,
            Verb::Describe if put => tables::create(call, ns, table).await,
            Verb::Describe if patch => tables::update(call, ns, table).await,
            Verb::Describe if delete => tables::delete(call, ns, table).await,
            Verb::Loads if get => loads::list(call, ns, table).await,
            Verb::Loads if post => loads::begin(call, ns, table).await,
            Verb::Load(id) if get => loads::describe(call, ns, table, id).await,
            Verb::Prepare(id) if post => loads::prepare(call, ns, table, id).await,
            Verb::Commit(id) if post => loads::commit(call, ns, table, id).await,
            Verb::Cancel(id) if post => loads::cancel(call, ns, table, id).await,
            Verb::Revert(id) if post => loads::revert(call, ns, table, id).await,
            Verb::LoadFiles(id) if get => loads::files(call, ns, table, id).await,
            Verb::LoadFile(id, name) if put => loads::put_file(call, ns, table, id, name).await,
            _ => Err(route.refuse(&method)),
        },
        Route::NamespaceBatchGet(ns) if post => namespace_batch_get::batch_get(call, ns).await,
        Route::Namespaces if get => namespaces::list(call).await,
        Route::Namespace(ns) if get => namespaces::describe(call, ns).await,
        Route::Namespace(ns) if put => namespaces::create(call, ns).await,
        Route::Tables(ns) if get => tables::list(call, ns).await,
        Route::Nodes if get => nodes::list(call).await,
        Route::Tokens(ns) if get => tokens::list_of(call, ns).await,
        Route::Tokens(ns) if post => tokens::create_of(call, ns).await,
        Route::Token(ns, id) if get => tokens::describe_of(call, ns, id).await,
        Route::Token(ns, id) if patch => tokens::update_of(call, ns, id).await,
        Route::Token(ns, id) if delete => tokens::revoke_of(call, ns, id).await,
        Route::Healthz if get => ops::healthz(call).await,
        Route::Readyz if get => ops::readyz(call).await,
        Route::Metrics if get => ops::metrics(call).await,
        Route::Limits if get => ops::limits(call).await,
        Route::OpenApi if get => ops::openapi(call).await,
        Route::Docs if get => ops::docs(call).await,
        _ => Err(route.refuse(&method)),
    }
}
