//! Results: on stdout, as tables for people or as JSON for programs. Progress and complaints go to stderr.

use nacre_types::{Error, ErrorKind, Result};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: one JSON text per result.
    Json,
}

/// Where results go.
pub(crate) struct Out {
    format: Format,
}

impl Out {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One result: `value` as JSON, or what `table` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, table: impl FnOnce(&T) -> String) -> Result<()> {
        let mut text = match self.format {
            Format::Json => serde_json::to_string(value)
                .map_err(|error| Error::internal(format!("a result that is no JSON: {error}")))?,
            Format::Table => table(value),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.bytes(text.as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
            // Whoever reads has seen enough (`nacre scan | head`): no failure worth a word.
            let code = if error.kind() == std::io::ErrorKind::BrokenPipe { READER_LEFT } else { "stdout" };
            Error::unavailable(format!("stdout: {error}")).with_code(code)
        })
    }

    /// A value: its bytes and nothing else, but at a terminal the prompt begins on a new line.
    pub(crate) fn value(&self, value: &[u8]) -> Result<()> {
        self.bytes(value)?;
        if std::io::stdout().is_terminal() && !value.ends_with(b"\n") { self.bytes(b"\n") } else { Ok(()) }
    }
}

/// The code of the error that says that nobody reads stdout any more.
pub(crate) const READER_LEFT: &str = "reader-left";

/// Prints what went wrong on stderr; answers the exit code.
pub(crate) fn complain(error: &Error, format: Format) -> u8 {
    if error.code() == READER_LEFT {
        return 0;
    }
    let text = match format {
        Format::Table => format!("error: {}: {}", error.code(), error.detail()),
        Format::Json => serde_json::json!({"error": {
            "code": error.code(),
            "kind": error.kind().name(),
            "retryable": error.kind().is_retryable(),
            "detail": error.detail(),
        }})
        .to_string(),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
    exit_code(error.kind())
}

/// 1 failed, 2 wrong usage, 3 not found, 4 unknown outcome.
pub(crate) fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::Unknown => 4,
        _ => 1,
    }
}

/// A line of progress, on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings, each column as wide as its widest cell.
pub(crate) struct Grid {
    headings: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// Headings; one that begins with `>` is set to the right.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let headings = headings
            .iter()
            .map(|heading| match heading.strip_prefix('>') {
                Some(right) => (right, Align::Right),
                None => (*heading, Align::Left),
            })
            .collect();
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row; control characters are shown as escapes, so that a stranger's bytes cannot speak to the terminal.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| printable(&cell)).into());
    }

    /// The text, without white space at line ends.
    pub(crate) fn text(&self) -> String {
        let width = |at: usize, heading: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([heading.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> =
            self.headings.iter().enumerate().map(|(at, (heading, _))| width(at, heading)).collect();
        let mut text = String::new();
        let headings: Vec<String> = self.headings.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.headings) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}")),
                    Align::Right => line.push_str(&format!("{cell:>width$}")),
                }
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names and values, one pair a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {}\n", printable(value))).collect()
}

/// The text with control characters as escapes.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Vec<char> = if c.is_control() { c.escape_default().collect() } else { vec![c] };
            escaped
        })
        .collect()
}

/// Microseconds since the epoch as a date, `-` for none.
pub(crate) fn moment(micros: i64) -> String {
    let mut text = String::new();
    nacre_types::civil::push_timestamp(&mut text, micros);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut grid = Grid::new(&["name", ">rows"]);
        grid.row(["a".into(), "12".into()]);
        grid.row(["lönger".into(), "123456".into()]);
        assert_eq!(grid.text(), "name      rows\na           12\nlönger  123456\n");
    }

    #[test]
    fn bytes_of_strangers_do_not_speak_to_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(pairs(&[("key", "a\tb".into()), ("v", "1".into())]), "key  a\\tb\nv    1\n");
    }

    #[test]
    fn kinds_have_exit_codes() {
        assert_eq!(
            [ErrorKind::Unavailable, ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::Unknown]
                .map(exit_code),
            [1, 2, 3, 4]
        );
    }
}
