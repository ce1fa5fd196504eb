//! Health, metrics, limits and documentation.

use http::StatusCode;
use nacre_api::{JSON, Limits};
use nacre_types::{Error, Result};

use crate::answer::Answer;
use crate::call::Call;
use crate::openapi;
use crate::reads::Reads;

/// Whether the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "Operations", responses((status = 200, description = "It does.", body = String, content_type = "text/plain")))]
pub(crate) async fn healthz(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    Ok(Answer::bytes("text/plain", &b"ok\n"[..]))
}

/// Whether requests should be sent here: 503 while it starts and while it stops.
#[utoipa::path(get, path = "/readyz", tag = "Operations", responses((status = 200, description = "They should.", body = String, content_type = "text/plain"), (status = 503, description = "Not now; the detail says why.", body = nacre_api::Problem, content_type = "application/problem+json")))]
pub(crate) async fn readyz(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    if call.app.is_draining() {
        return Err(Error::unavailable("the server is stopping").with_code("draining"));
    }
    call.app.node.ready()?;
    if let Reads::Fleet(fleet, _) = &call.app.reads
        && !fleet.is_serving()
    {
        return Err(Error::unavailable("the process takes on its part of the log, or hands it over")
            .with_code("starting"));
    }
    Ok(Answer::bytes("text/plain", &b"ready\n"[..]))
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "Operations", responses((status = 200, description = "Text format 0.0.4.", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    let mut text = String::with_capacity(16 << 10);
    call.app.node.metrics_text(&mut text);
    call.app.metrics.text(&mut text, call.app.reads.hot_hits());
    Ok(Answer::bytes("text/plain; version=0.0.4; charset=utf-8", text))
}

/// The limits of this server; an error that hits one names it so.
#[utoipa::path(get, path = "/v1/limits", tag = "Operations", responses((status = 200, description = "By name.", body = Limits)))]
pub(crate) async fn limits(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    let config = &call.app.config;
    let limits = nacre_api::limits(
        config.body_bytes as u64,
        config.load_file_bytes as u64,
        config.default_deadline.as_millis() as u64,
        config.max_deadline.as_millis() as u64,
    );
    Ok(Answer::json(StatusCode::OK, &limits))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "Operations", responses((status = 200, description = "OpenAPI 3.", body = Object)))]
pub(crate) async fn openapi(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    Ok(Answer::bytes(JSON, openapi::CHECKED_IN.as_bytes()))
}

/// The API as a page for people; it needs nothing from elsewhere.
#[utoipa::path(get, path = "/docs", tag = "Operations", responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(crate) async fn docs(call: &mut Call<'_>) -> Result<Answer> {
    call.finish_query()?;
    let mut answer = Answer::bytes("text/html; charset=utf-8", openapi::DOCS_PAGE.as_bytes());
    answer.constant(
        http::header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    );
    Ok(answer)
}
