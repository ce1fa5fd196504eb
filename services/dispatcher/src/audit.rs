//! The audit log (target `nacre::audit`): who changed tables, loads, tokens and namespaces, and who was refused anything.
//!
//! Names of tables and loads stand in it, keys never. What changes something is always told. Refusals are told up to so
//! many a second, with the number of those that were left out, so that a flood of them neither hides the rest nor fills a
//! disk.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::request::Parts;
use nacre_access::Token;
use nacre_api::RouteClass;

/// Refusals that are told within a second.
const REFUSALS_A_SECOND: u32 = 10;
/// Most bytes of a path that are told.
const PATH_BYTES: usize = 512;

/// What became of a request.
pub(crate) struct Event<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) parts: &'a Parts,
    pub(crate) class: RouteClass,
    pub(crate) token: Option<&'a Token>,
    pub(crate) status: u16,
    /// Of a request that failed.
    pub(crate) code: Option<&'static str>,
    pub(crate) took: Duration,
}

/// Tells of requests.
#[derive(Debug, Default)]
pub(crate) struct Audit(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    since: Duration,
    told: u32,
    left_out: u64,
}

impl Window {
    /// Whether a refusal at `now` is told, and then how many before it were not.
    fn tell(&mut self, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            (self.since, self.told) = (now, 0);
        }
        if self.told == REFUSALS_A_SECOND {
            self.left_out += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Whether requests of a class change what is not a row.
fn is_administrative(class: RouteClass) -> bool {
    matches!(
        class,
        RouteClass::Namespaces
            | RouteClass::Tables
            | RouteClass::Loads
            | RouteClass::LoadFile
            | RouteClass::Tokens
    )
}

impl Audit {
    /// Tells of a request, if it is one to tell of.
    pub(crate) fn tell(&self, write: bool, now: Duration, event: &Event<'_>) {
        let refused = matches!(event.status, 401 | 403);
        let changes = write && is_administrative(event.class);
        if !refused && !changes {
            return;
        }
        let left_out = if refused {
            let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left_out) = window.tell(now) else { return };
            left_out
        } else {
            0
        };
        // Only paths in which no key can stand.
        let path = is_administrative(event.class).then(|| {
            let path = event.parts.uri.path();
            path.get(..PATH_BYTES).unwrap_or(path)
        });
        tracing::info!(
            target: "nacre::audit",
            request_id = event.request_id,
            method = event.parts.method.as_str(),
            route = event.class.name(),
            path,
            token = event.token.map(|token| tracing::field::display(token.id)),
            token_name = event.token.map(|token| token.name.as_str()),
            allowed = !refused,
            status = event.status,
            code = event.code,
            left_out = refused.then_some(left_out),
            micros = event.took.as_micros() as u64,
            "{}", if refused { "refused" } else { "asked" }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_told_by_its_number() {
        let mut window = Window::default();
        let moment = Duration::from_secs(5);
        for _ in 0..REFUSALS_A_SECOND {
            assert_eq!(window.tell(moment), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(window.tell(moment + Duration::from_millis(999)), None);
        }
        assert_eq!(window.tell(moment + Duration::from_secs(1)), Some(1_000));
        assert_eq!(window.tell(moment + Duration::from_secs(1)), Some(0));
    }
}
