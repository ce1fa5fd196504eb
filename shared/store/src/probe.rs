//! The start-up probe.

use crate::ObjectStore;
use nacre_runtime::Context;
use nacre_types::Result;
use std::sync::Arc;

/// Races writers for names and tags, and refuses a store where two of them win.
///
/// # Errors
/// `Invalid` (`store-unfit`) naming the promise that was broken; `Unavailable` where the store does not answer.
pub async fn probe(_store: &Arc<dyn ObjectStore>, _ctx: &Context) -> Result<()> {
    todo!()
}
