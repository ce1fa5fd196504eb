//! `nacre versions TABLE KEY`

use super::common::{self, Asker, KeyArguments, ReadArguments};
use super::scan::show_value;
use crate::output::{Grid, moment};
use clap::Args;
use nacre_client::VersionsOptions;
use nacre_types::{Error, Result};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    read: ReadArguments,
    /// The smallest version, inclusive
    #[arg(long, value_name = "VERSION", value_parser = common::moment, allow_hyphen_values = true)]
    since: Option<i64>,
    /// The largest version, inclusive
    #[arg(long, value_name = "VERSION", value_parser = common::moment, allow_hyphen_values = true)]
    until: Option<i64>,
    /// At most so many; 0 = all
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u64,
}

/// Most versions of one answer.
const PAGE: u64 = 10_000;

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let (key, options) = (&arguments.key, arguments.read.options());
    let mut left = if arguments.limit == 0 { u64::MAX } else { arguments.limit };
    let mut which = VersionsOptions {
        since: arguments.since,
        until: arguments.until,
        limit: Some(left.min(PAGE)),
        page_token: None,
    };
    let mut page = asker.client.versions(&key.table_ref(), key.key(), &which, &options).await?;
    // Long values end an answer before the limit does.
    loop {
        left = left.saturating_sub(page.rows.len() as u64);
        let Some(token) = page.next_page_token.take().filter(|_| left > 0) else { break };
        (which.page_token, which.limit) = (Some(token), Some(left.min(PAGE)));
        let next = asker.client.versions(&key.table_ref(), key.key(), &which, &options).await?;
        page.rows.extend(next.rows);
        page.next_page_token = next.next_page_token;
    }
    if page.rows.is_empty() {
        return Err(Error::not_found("the key has no visible version").with_code("row-absent"));
    }
    asker.out.result(&page, |page| {
        let mut grid = Grid::new(&["version", "moment", "expires at", "value"]);
        for row in &page.rows {
            grid.row([
                row.version.0.to_string(),
                moment(row.version.0),
                row.expires_at.map_or("-".to_owned(), |at| moment(at.0)),
                show_value(row),
            ]);
        }
        grid.text()
    })
}
