//! What was counted from one moment to another.

use super::readers::Call;
use crate::Outcome;
use crate::bench::server::Nacre;
use crate::bench::stats::grouped;
use crate::bench::wire::Request;
use crate::chaos::proxy::{Came, Proxy};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that is counted, at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrape {
    /// Since the reading began.
    pub(super) at: Duration,
    metrics: BTreeMap<String, f64>,
    came: Came,
    /// Seconds of processor time.
    cpu: f64,
}

impl Scrape {
    pub(super) fn take(nacre: &Nacre, proxy: &Proxy, at: Duration) -> Outcome<Self> {
        let mut connection = nacre.connect()?;
        let answer = connection.ok(&Request::get("/metrics"))?;
        let text = String::from_utf8_lossy(answer.body);
        let lines =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        let metrics =
            lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect();
        let cpu = nacre.running.cpu().unwrap_or_default().as_secs_f64();
        Ok(Self { at, metrics, came: proxy.came(), cpu })
    }

    pub(super) fn metric(&self, line: &str) -> f64 {
        self.metrics.get(line).copied().unwrap_or(0.0)
    }
}

/// What the gets and the counters of a window come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) per_second: f64,
    /// Milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) slowest: f64,
    pub(super) failed: usize,
    /// Of all answers to reads those that memory gave, in percent.
    pub(super) hits: f64,
    /// Of all blocks that were looked for those that were in memory.
    pub(super) block_hits: f64,
    /// GETs that reads waited for, for each row in an answer.
    pub(super) waited: f64,
    /// GETs of parts of objects that came to the store, likewise.
    pub(super) came: f64,
    /// GETs that came to the store beyond those that the server counts: second tries of slow ones.
    pub(super) again: f64,
    /// Microseconds of the server's processor time for each row in an answer, whatever it did besides.
    pub(super) cpu: f64,
}

/// What happened from `from` to `to`. Counters are those of the nearest scrapes inside.
pub(super) fn between(scrapes: &[Scrape], gets: &[Call], from: Duration, to: Duration) -> Counted {
    let calls: Vec<&Call> = gets.iter().filter(|call| (from..to).contains(&call.due)).collect();
    let mut took: Vec<f64> =
        calls.iter().filter(|call| call.edition.is_ok()).map(|call| call.took.as_secs_f64() * 1e3).collect();
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (took.len() as f64 * share) as usize;
        took.get(index.min(took.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    let first = scrapes.iter().find(|scrape| scrape.at >= from);
    let last = scrapes.iter().rev().find(|scrape| scrape.at <= to);
    let none = Scrape::default();
    let (first, last) = match (first, last) {
        (Some(first), Some(last)) if first.at < last.at => (first, last),
        _ => (&none, &none),
    };
    let grown = |line: &str| last.metric(line) - first.metric(line);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { f64::NAN };
    let reads = |source: &str| grown(&format!("nacre_reads_total{{source=\"{source}\"}}"));
    let blocks =
        |found: &str| grown(&format!("nacre_cache_lookups_total{{what=\"blocks\",found=\"{found}\"}}"));
    let rows = grown("nacre_rows_read_total");
    Counted {
        per_second: took.len() as f64 / to.saturating_sub(from).as_secs_f64().max(1e-9),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        slowest: took.last().copied().unwrap_or(0.0),
        failed: calls.len() - took.len(),
        hits: 100.0 * share(reads("memory"), reads("memory") + reads("store")),
        block_hits: 100.0 * share(blocks("memory"), blocks("memory") + blocks("store") + blocks("shared")),
        waited: share(grown("nacre_read_store_gets_total"), rows),
        came: share((last.came.parts - first.came.parts) as f64, rows),
        again: (last.came.gets - first.came.gets) as f64
            - grown("nacre_store_requests_total{operation=\"get\"}"),
        cpu: 1e6 * share(last.cpu - first.cpu, rows),
    }
}

pub(super) fn print(windows: &[(String, Counted)]) {
    println!(
        "\n| | gets/s | p50 ms | p99 ms | p99.9 ms | slowest ms | failed | hits, gets | hits, blocks \
         | store GETs waited for, a row | GETs of parts that came, a row | GETs sent again | server µs a row |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, window) in windows {
        println!(
            "| {name} | {} | {:.2} | {:.1} | {:.1} | {:.0} | {} | {:.1} % | {:.1} % | {:.3} | {:.3} | {:.0} | {} |",
            grouped(window.per_second),
            window.p50,
            window.p99,
            window.p999,
            window.slowest,
            window.failed,
            window.hits,
            window.block_hits,
            window.waited,
            window.came,
            window.again,
            grouped(window.cpu),
        );
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_what_grew_in_it_and_the_calls_that_were_due_in_it() {
        let scrape = |second: u64, memory: f64, store: f64| Scrape {
            at: Duration::from_secs(second),
            metrics: [
                ("nacre_reads_total{source=\"memory\"}", memory),
                ("nacre_reads_total{source=\"store\"}", store),
                ("nacre_rows_read_total", memory + store),
                ("nacre_read_store_gets_total", 2.0 * store),
                ("nacre_store_requests_total{operation=\"get\"}", 2.0 * store),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            came: Came { all: 0, gets: 3 * store as u64, parts: 2 * store as u64 },
            cpu: second as f64 / 100.0,
        };
        let scrapes =
            [scrape(0, 0.0, 50.0), scrape(1, 0.0, 100.0), scrape(3, 75.0, 125.0), scrape(9, 0.0, 0.0)];
        let call = |millis: u64, took: u64, edition| Call {
            due: Duration::from_millis(millis),
            took: Duration::from_millis(took),
            edition,
        };
        let gets = [
            call(500, 900, Ok(1)),
            call(1_500, 10, Ok(1)),
            call(2_000, 30, Ok(1)),
            call(2_500, 5, Err("lost".to_owned())),
        ];
        let window = between(&scrapes, &gets, Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!((window.hits, window.waited, window.came, window.again), (75.0, 0.5, 0.5, 25.0));
        assert_eq!((window.per_second, window.p50, window.slowest, window.failed), (1.0, 30.0, 30.0, 1));
        assert!((window.cpu - 200.0).abs() < 1e-6);
    }
}
