//! Structured logs, on stderr.

use nacre_types::{Error, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log. `filter` is a level, or levels by module as in `info,nacre_log=debug`.
///
/// # Errors
/// `Invalid` (`log-level`) for a filter that is none.
pub(crate) fn begin(format: LogFormat, filter: &str) -> Result<()> {
    let filter = check(filter)?;
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let done = match format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| Error::internal(format!("logs cannot begin: {error}")))
}

/// Whether a filter is one.
pub(crate) fn check(filter: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        Error::invalid(format!(
            "log_level {filter:?}: {error}; expected error, warn, info, debug or trace, or levels by module, as in \
             info,nacre_log=debug"
        ))
        .with_code("log-level")
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        assert!(super::check("info").is_ok() && super::check("warn,nacre_log=debug").is_ok());
        assert_eq!(super::check("nacre=loud").unwrap_err().code(), "log-level");
    }
}
