//! `nacre versions TABLE KEY`

use super::common::{Asker, KeyArguments, ReadArguments};
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
    #[arg(long, value_name = "VERSION", allow_hyphen_values = true)]
    since: Option<i64>,
    /// The largest version, inclusive
    #[arg(long, value_name = "VERSION", allow_hyphen_values = true)]
    until: Option<i64>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let which = VersionsOptions { since: arguments.since, until: arguments.until, limit: arguments.limit };
    let key = &arguments.key;
    let page = asker.client.versions(&key.table_ref(), key.key(), &which, &arguments.read.options()).await?;
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
