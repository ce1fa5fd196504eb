//! `nacre doctor`: looks for what is wrong, and says what would be right.

use super::common::Asker;
use super::serve::Settings;
use crate::aws;
use crate::output::{Grid, Out};
use crate::settings::Said;
use crate::storage::StorageSettings;
use crate::units;
use clap::Args;
use nacre_runtime::Context;
use nacre_types::{Error, Result};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    settings: Box<Settings>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// `good`, `warning` or `wrong`.
    verdict: &'static str,
    detail: String,
}

impl Finding {
    fn good(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: "good", detail: detail.into() }
    }
    fn warning(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: "warning", detail: detail.into() }
    }
    fn wrong(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: "wrong", detail: detail.into() }
    }
}

/// A clock that is further from the store's than this is told.
const SKEW_MICROS: i64 = 10_000_000;
/// Less free space than this is told.
const FREE_BYTES: u64 = 1 << 30;
/// Fewer open files than this are told: each connection and each segment that is read takes one.
const OPEN_FILES: u64 = 4_096;

pub(crate) async fn run(arguments: &Arguments, said: &Said, out: &Out) -> Result<()> {
    let settings = &arguments.settings;
    let mut findings = vec![configuration(settings, said)];
    findings.push(server(said).await);
    findings.extend(store(settings.storage()).await);
    #[cfg(feature = "dynamodb")]
    if let Some(url) = settings.storage().catalog_url() {
        findings.push(catalog(url).await);
    }
    #[cfg(feature = "kafka")]
    if let Some(url) = settings.storage().kafka_url() {
        findings.push(log(settings.storage(), url).await);
    }
    findings.push(open_files());
    let wrong = findings.iter().filter(|finding| finding.verdict == "wrong").count();
    out.result(&findings, |findings| {
        let mut grid = Grid::new(&["what", "verdict", "detail"]);
        for finding in findings {
            grid.row([finding.what.to_owned(), finding.verdict.to_owned(), finding.detail.clone()]);
        }
        grid.text()
    })?;
    if wrong == 0 {
        Ok(())
    } else {
        Err(Error::conflict(format!("{wrong} things are wrong")).with_code("doctor"))
    }
}

fn configuration(settings: &Settings, said: &Said) -> Finding {
    let file = said.file.path.as_ref().map_or("no file".to_owned(), |path| path.display().to_string());
    match settings.check() {
        Ok(()) => Finding::good("settings", format!("they fit one another ({file})")),
        Err(error) => Finding::wrong("settings", error.detail()),
    }
}

async fn server(said: &Said) -> Finding {
    let global = &said.cli.global;
    let ready = match Asker::new(global) {
        Ok(asker) => asker.client.ready().await,
        Err(error) => Err(error),
    };
    match ready {
        Ok(()) => Finding::good("server", format!("{} answers and is ready", global.server)),
        Err(error) if error.code() == "server-unreachable" => {
            Finding::warning("server", format!("{}; nacre serve starts one", error.detail()))
        }
        Err(error) => Finding::wrong("server", format!("{}: {}", global.server, error.detail())),
    }
}

async fn store(settings: &StorageSettings) -> Vec<Finding> {
    let url = settings.store_url();
    match settings.store_folder() {
        // Looking must not make a store.
        Some(folder) if !folder.is_dir() => {
            return vec![Finding::good("store", format!("{url} is not there yet; nacre serve makes it"))];
        }
        _ => {}
    }
    let ctx = Context::system();
    let opened = aws::settings_for(&url).and_then(|s3| nacre_store::open(&url, &s3, &ctx));
    let store = match opened {
        Ok(store) => store,
        Err(error) => return vec![Finding::wrong("store", error.detail())],
    };
    let mut findings = vec![match nacre_store::probe(&store, &ctx).await {
        Ok(()) => Finding::good("store", format!("{url} keeps the promises that nacre rests on")),
        Err(error) => Finding::wrong("store", format!("{url}: {}", error.detail())),
    }];
    findings.push(match store.date_micros().await {
        Ok(date) => clock(ctx.clock.now_micros().saturating_sub(date)),
        Err(error) => Finding::wrong("clock", format!("the store tells no date: {}", error.detail())),
    });
    if let Some(folder) = settings.store_folder() {
        findings.push(free_space(&folder));
    }
    findings
}

/// Looking must not make a table.
#[cfg(feature = "dynamodb")]
async fn catalog(url: &str) -> Finding {
    let looked = match aws::dynamo_settings() {
        Ok(settings) => nacre_catalog::DynamoCatalog::look(url, &settings, &Context::system()).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(true) => Finding::good("catalog", format!("{url} is there and has the form that is needed")),
        Ok(false) => Finding::good("catalog", format!("{url} is not there yet; nacre serve makes it")),
        Err(error) => Finding::wrong("catalog", format!("{url}: {}", error.detail())),
    }
}

#[cfg(feature = "kafka")]
async fn log(settings: &StorageSettings, url: &str) -> Finding {
    match crate::kafka::describe(&settings.kafka, url, &Context::system()).await {
        Ok((_, facts)) => Finding::good("log", format!("topic {} is as the log must have it", facts.name)),
        Err(error) => Finding::wrong("log", error.detail()),
    }
}

fn clock(skew_micros: i64) -> Finding {
    let text = format!("{:.1} s off the store's date", skew_micros.unsigned_abs() as f64 / 1e6);
    if skew_micros.saturating_abs() > SKEW_MICROS {
        Finding::wrong(
            "clock",
            format!("{text}; set this machine's clock, writes are refused when it is too far off"),
        )
    } else {
        Finding::good("clock", text)
    }
}

fn free_space(folder: &std::path::Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{} free", units::bytes(free));
            if free < FREE_BYTES { Finding::warning("disk", text) } else { Finding::good("disk", text) }
        }
        Err(error) => Finding::warning("disk", format!("{}: {error}", folder.display())),
    }
}

fn open_files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    match soft {
        Some(limit) if limit < OPEN_FILES => Finding::warning(
            "open files",
            format!("{limit}; ulimit -n {OPEN_FILES} lets more clients connect"),
        ),
        Some(limit) => Finding::good("open files", limit.to_string()),
        None => Finding::good("open files", "no limit is known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_far_from_the_stores_is_wrong() {
        assert_eq!(clock(-2_000_000).verdict, "good");
        assert_eq!(clock(-11_000_000).verdict, "wrong");
        assert_eq!(clock(i64::MIN).verdict, "wrong");
    }
}
