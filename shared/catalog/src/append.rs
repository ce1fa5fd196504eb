//! Appending until it is known.

use crate::{Append, Catalog, EncodedEdit};
use nacre_runtime::Context;
use nacre_types::{Result, Seq, TableId};
use std::time::Duration;

/// Puts the same bytes at the same sequence again until it is known what became of them, for at most `limit`.
///
/// # Errors
/// As [`Catalog::append`], and only when no attempt is in doubt.
pub async fn append_until_known(
    _catalog: &dyn Catalog,
    _ctx: &Context,
    _table: TableId,
    _expected: Seq,
    _edit: &EncodedEdit,
    _limit: Duration,
) -> Result<Append> {
    todo!()
}
