//! Who asks, and whether he may: before a handler is chosen and before anything of the body is read.
//!
//! [`need`] says of every route what it takes; a route that is not named there is refused, so that a new one cannot be
//! open by mistake. Keys are decoded later, by the table's schema; for a token that is narrowed to a prefix the handler
//! looks at each (`Call::check_key` and its siblings), and an answer of one that did not is thrown away.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;
use http::request::Parts;
use nacre_access::{Keys, Known, On, Request, Secret, Token, Tokens, Verb, Verifier, allows};
use nacre_api::{Route, Verb as Of};
use nacre_engine::Node;
use nacre_runtime::{Context, TaskHandle};
use nacre_types::{Error, ErrorKind, Result};

use crate::{Auth, Config};

/// What stands before the handlers.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) tokens: Tokens,
    /// `None`: everybody may do everything.
    verifier: Option<Arc<Verifier>>,
}

/// Who asks.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// `None`: nobody was asked who he is, or said it.
    pub(crate) token: Option<Arc<Token>>,
    /// Whether the handler still has to look at the keys.
    pub(crate) unlooked: bool,
}

/// What a route takes.
#[derive(Debug, PartialEq, Eq)]
enum Need<'a> {
    /// Nothing, not even a token.
    Open,
    Ask(Request<'a>),
}

/// What `route` takes by a method that it knows; `None` = it has none.
fn need<'a>(route: Route<'a>, method: &Method) -> Option<Need<'a>> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let (verb, on) = match route {
        // Health for load balancers, numbers for scrapers, and what stands in the documentation: nothing of anybody's.
        Route::Healthz | Route::Readyz | Route::Metrics | Route::OpenApi | Route::Docs | Route::Limits => {
            return Some(Need::Open);
        }
        Route::Nodes => (Some(Verb::Admin), On::Store),
        Route::Namespaces => (None, On::Anything),
        Route::Namespace(ns) if reads => (None, On::Tables(ns)),
        Route::Namespace(_) => (Some(Verb::Admin), On::Store),
        Route::NamespaceBatchGet(ns) => (Some(Verb::Read), On::Tables(ns)),
        Route::Tables(ns) => (None, On::Tables(ns)),
        Route::Tokens(None) | Route::Token(None, _) => (Some(Verb::Admin), On::Store),
        Route::Tokens(Some(ns)) | Route::Token(Some(ns), _) => (Some(Verb::Admin), On::Namespace(ns)),
        Route::Table { ns, table, verb } => {
            let (verb, keys) = match verb {
                // Shows first keys of shards and counts of rows: it is of the table as a whole.
                Of::Describe if reads => (None, Keys::Whole),
                Of::Describe => (Some(Verb::Admin), Keys::Whole),
                Of::Row(_) if !reads => (Some(Verb::Write), Keys::Later),
                Of::BatchWrite => (Some(Verb::Write), Keys::Later),
                Of::Row(_) | Of::Scan | Of::Get | Of::BatchGet | Of::Versions(_) | Of::Explain(_) => {
                    (Some(Verb::Read), Keys::Later)
                }
                Of::Loads
                | Of::Load(_)
                | Of::Prepare(_)
                | Of::Commit(_)
                | Of::Cancel(_)
                | Of::Revert(_)
                | Of::LoadFiles(_)
                | Of::LoadFile(..) => (Some(Verb::Load), Keys::Whole),
            };
            (verb, On::Table(ns, table, keys))
        }
        Route::Later(_) | Route::Unknown => return None,
    };
    Some(Need::Ask(Request { verb, on }))
}

impl Gate {
    pub(crate) fn new(config: &Config, node: &Node, ctx: &Context) -> Self {
        let tokens = Tokens::new(node.catalog().clone(), ctx);
        let verifier = (config.auth == Auth::Tokens).then(|| Arc::new(Verifier::new(tokens.clone())));
        Self { tokens, verifier }
    }

    /// Renews what is known of tokens, until it is aborted.
    pub(crate) fn keep_true(&self, ctx: &Context) -> Option<TaskHandle<()>> {
        let (verifier, shutdown) = (self.verifier.clone()?, ctx.tasks.shutdown_token());
        Some(ctx.tasks.spawn("tokens", async move {
            tokio::select! {
                () = shutdown.requested() => {}
                () = async {
                    if let Ok(false) = verifier.tokens().has_operator().await {
                        tracing::warn!("there is no operator's token yet, so nobody can make any: nacre token create --bootstrap");
                    }
                    verifier.run().await;
                } => {}
            }
        }))
    }

    /// What is known of the tokens of `home` is read again, so that a change holds here at once.
    pub(crate) async fn changed(&self, home: &nacre_access::Home) {
        if let Some(verifier) = &self.verifier {
            verifier.reread(home).await;
        }
    }

    /// Finds out who asks and whether he may. `caller` is told who, even where he may not.
    pub(crate) async fn pass(
        &self,
        parts: &Parts,
        route: Route<'_>,
        ctx: &Context,
        now: Duration,
        caller: &mut Caller,
    ) -> Result<()> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        let need = need(route, &parts.method).filter(|_| route.takes(&parts.method));
        let request = match need {
            None => return Err(route.refuse(&parts.method)),
            Some(Need::Open) => return Ok(()),
            Some(Need::Ask(request)) => request,
        };
        let secret = bearer(parts)?;
        let token = match verifier.known(&secret, now, ctx.clock.now_micros()) {
            Known::Good(token) => token,
            Known::Bad(error) => return Err(error),
            // Rare and large: behind a pointer, so that the others do not carry it.
            Known::Unsure => Box::pin(verifier.verify(&secret)).await?,
        };
        let narrowed = token.grant.is_narrowed();
        let token = caller.token.insert(token);
        allows(&token.grant, &request).map_err(|denied| denied.error())?;
        caller.unlooked = match request.on {
            On::Table(_, _, Keys::Later) => token.grant.prefix.is_some(),
            On::Tables(_) => narrowed && request.verb.is_some(),
            _ => false,
        };
        Ok(())
    }
}

/// The token of a request.
fn bearer(parts: &Parts) -> Result<Secret> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Error::new(
            ErrorKind::Unauthorized,
            "this server wants an access token: Authorization: Bearer nacre_...",
        )
        .with_code("token-missing"));
    };
    let wrong = || {
        let detail = "Authorization: expected it once, as Bearer and an access token";
        Error::new(ErrorKind::Unauthorized, detail).with_code("token-malformed")
    };
    if values.next().is_some() {
        return Err(wrong());
    }
    let (scheme, token) = value.as_bytes().split_first_chunk::<7>().ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(wrong());
    }
    Secret::parse(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn parts(values: &[&str]) -> Parts {
        let mut request = http::Request::new(());
        for value in values {
            request.headers_mut().append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        request.into_parts().0
    }

    #[test]
    fn the_header_is_bearer_and_stands_once() {
        let text = "nacre_00000000000000000000000000000005_".to_owned() + &"a".repeat(48);
        let code = |values: &[&str]| bearer(&parts(values)).unwrap_err().code();
        assert_eq!(code(&[]), "token-missing");
        for bad in ["", "Bearer", "Basic abc", "Bearer x", &text, &format!("Bearer {text}")] {
            assert_eq!(code(&[bad]), "token-malformed", "{bad}");
        }
        assert_eq!(code(&["Bearer a", "Bearer a"]), "token-malformed");
        let good = "nacre_00000000000000000000000000000000_".to_owned() + &"a".repeat(48);
        // An id and a secret of zeros have a checksum that is not zero.
        assert_eq!(code(&[&format!("Bearer {good}")]), "token-malformed");
    }

    #[test]
    fn every_route_that_takes_a_method_has_a_need() {
        let table = "/v1/namespaces/n/tables/t";
        let paths =
            ["/healthz", "/v1/limits", "/v1/namespaces", "/v1/namespaces/n", "/v1/namespaces/n:batchGet"];
        let more = ["/v1/namespaces/n/tables", "/v1/tokens", "/v1/tokens/1", "/v1/namespaces/n/tokens/1"];
        let of_table =
            ["", "/rows", "/rows:get", "/rows:batchGet", "/rows:batchWrite", "/rows/k", "/loads/1:commit"];
        let all = paths.into_iter().chain(more).map(str::to_owned);
        for path in all.chain(of_table.map(|rest| format!("{table}{rest}"))) {
            let route = Route::parse(&path);
            for method in route.allow().split(", ") {
                assert!(need(route, &method.parse().unwrap()).is_some(), "{method} {path}");
            }
        }
        assert_eq!(need(Route::Unknown, &Method::GET), None);
        assert_eq!(need(Route::Later("jobs"), &Method::GET), None);
    }
}
