//! `nacre scan TABLE`

use super::common::{Asker, KeyEncoding, ReadArguments, moment, show_key, table_ref};
use crate::output::{Grid, note};
use crate::units::TableArgument;
use clap::Args;
use nacre_api::RowOut;
use nacre_client::ScanOptions;
use nacre_types::Result;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The table
    #[arg(value_name = "TABLE")]
    table: TableArgument,
    /// Keys that begin so; of typed keys the leading parts, as in `[42]`
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    prefix: Option<String>,
    /// The first key, inclusive
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    start: Option<String>,
    /// The key after the last, exclusive
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    end: Option<String>,
    /// How these keys are spelt
    #[arg(long, value_name = "ENCODING", default_value = "text")]
    key_encoding: KeyEncoding,
    /// At most so many rows; 0 = all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Keys without values
    #[arg(long)]
    keys_only: bool,
    /// The smallest version, inclusive
    #[arg(long, value_name = "VERSION", value_parser = moment, allow_hyphen_values = true)]
    since: Option<i64>,
    /// The largest version, inclusive
    #[arg(long, value_name = "VERSION", value_parser = moment, allow_hyphen_values = true)]
    until: Option<i64>,
    #[command(flatten)]
    read: ReadArguments,
}

/// Rows of one page. A page is printed before the next is asked for, so memory stays bounded at any length.
const PAGE: u64 = 1_000;

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let table = table_ref(&arguments.table);
    let bytes = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
    let mut which = ScanOptions {
        prefix: bytes(&arguments.prefix),
        start: bytes(&arguments.start),
        end: bytes(&arguments.end),
        base64url: arguments.key_encoding == KeyEncoding::Base64url,
        reverse: arguments.reverse,
        keys_only: arguments.keys_only,
        since: arguments.since,
        until: arguments.until,
        ..ScanOptions::default()
    };
    let mut left = if arguments.limit == 0 { u64::MAX } else { arguments.limit };
    let mut first = true;
    loop {
        which.page_size = Some(left.min(PAGE));
        let page = asker.client.scan(&table, &which, &arguments.read.options()).await?;
        left = left.saturating_sub(page.rows.len() as u64);
        print(&page.rows, first, arguments.keys_only, asker)?;
        first = false;
        match page.next_page_token {
            Some(_) if left == 0 => {
                note(&format!("there are more rows; --limit {} was reached (0 = all)", arguments.limit));
                return Ok(());
            }
            Some(token) => which.page_token = Some(token),
            None => return Ok(()),
        }
    }
}

/// In JSON one row a line, so that a long scan is read as it comes.
fn print(rows: &[RowOut], first: bool, keys_only: bool, asker: &Asker) -> Result<()> {
    if asker.out.is_json() {
        return rows.iter().try_for_each(|row| asker.out.result(row, |_| String::new()));
    }
    let text = if keys_only {
        let mut grid = Grid::new(&["key", ">version"]);
        for row in rows {
            grid.row([row.key.as_ref().map(show_key).unwrap_or_default(), row.version.0.to_string()]);
        }
        grid.text()
    } else {
        let mut grid = Grid::new(&["key", ">version", "value"]);
        for row in rows {
            let key = row.key.as_ref().map(show_key).unwrap_or_default();
            grid.row([key, row.version.0.to_string(), show_value(row)]);
        }
        grid.text()
    };
    let without_head = text.split_once('\n').map_or("", |(_, rest)| rest);
    asker.out.bytes(if first { &text } else { without_head }.as_bytes())
}

/// Longest value in a table, in characters; JSON has all of it.
const SHOWN: usize = 80;

/// A value for people.
pub(crate) fn show_value(row: &RowOut) -> String {
    let text = match (&row.value, &row.value_json, &row.value_base64) {
        (Some(text), _, _) => text.clone(),
        (_, Some(json), _) => json.get().to_owned(),
        (_, _, Some(base64)) => format!("base64:{base64}"),
        _ => return String::new(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
