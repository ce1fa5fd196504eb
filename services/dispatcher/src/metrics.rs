//! Counters of requests, as arrays of atomics: counting costs an index and an increment, and no label is formatted
//! until somebody scrapes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nacre_api::RouteClass;
use nacre_types::Error;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.0.fetch_add(1, Relaxed);
        Inside(self)
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Counts for as long as it lives.
pub(crate) struct Inside<'a>(&'a Gauge);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// No row: a success, told apart.
    Absent,
    /// The client's mistake.
    Client,
    Throttled,
    /// The server's.
    Server,
    /// A write that may have been applied.
    Unknown,
}

impl Outcome {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Ok, "ok"),
        (Self::Absent, "absent"),
        (Self::Client, "client_error"),
        (Self::Throttled, "throttled"),
        (Self::Server, "server_error"),
        (Self::Unknown, "unknown"),
    ];
}

const ROUTES: usize = RouteClass::ALL.len();
/// Upper bounds in microseconds, doubling from 64 µs to about 134 s; the last bucket has none.
const BUCKETS: usize = 23;
const FIRST_BUCKET_BITS: u32 = 6;

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: [[Counter; Outcome::ALL.len()]; ROUTES],
    seconds: [[Counter; BUCKETS]; ROUTES],
    seconds_sum_micros: [Counter; ROUTES],
    answer_bytes: [Counter; ROUTES],
    /// Problems by status and code. Codes stand in the program, so there are only so many; a lock is fair for what fails.
    problems: Mutex<BTreeMap<(u16, &'static str), u64>>,
    /// Rows that failed inside a batch that was answered 200, by code.
    rows_failed: Mutex<BTreeMap<&'static str, u64>>,
    started_at_seconds: u64,
    pub(crate) store_gets: Counter,
    pub(crate) store_bytes: Counter,
    /// By the place that answered, in the order of `SOURCES`.
    sources: [Counter; SOURCES.len()],
    pub(crate) rows_read: Counter,
    pub(crate) rows_written: Counter,
    pub(crate) panics: Counter,
    pub(crate) shed: Counter,
    pub(crate) slow_clients: Counter,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) in_flight: Gauge,
}

use nacre_engine::Source;
const SOURCES: [Source; 5] = [Source::None, Source::Tail, Source::Memory, Source::Disk, Source::Store];

impl Metrics {
    pub(crate) fn new(now_micros: i64) -> Self {
        Self {
            requests: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            seconds: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            seconds_sum_micros: std::array::from_fn(|_| Counter::default()),
            answer_bytes: std::array::from_fn(|_| Counter::default()),
            problems: Mutex::default(),
            rows_failed: Mutex::default(),
            started_at_seconds: u64::try_from(now_micros / 1_000_000).unwrap_or(0),
            store_gets: Counter::default(),
            store_bytes: Counter::default(),
            sources: std::array::from_fn(|_| Counter::default()),
            rows_read: Counter::default(),
            rows_written: Counter::default(),
            panics: Counter::default(),
            shed: Counter::default(),
            slow_clients: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            in_flight: Gauge::default(),
        }
    }

    /// Counts a request that has been answered.
    pub(crate) fn answered(&self, class: RouteClass, outcome: Outcome, took: Duration, bytes: usize) {
        let route = class as usize;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bits = u64::BITS - micros.leading_zeros();
        let bucket = (bits.saturating_sub(FIRST_BUCKET_BITS) as usize).min(BUCKETS - 1);
        if let Some(counter) = self.requests.get(route).and_then(|counters| counters.get(outcome as usize)) {
            counter.add(1);
        }
        if let Some(counter) = self.seconds.get(route).and_then(|counters| counters.get(bucket)) {
            counter.add(1);
        }
        if let (Some(sum), Some(sent)) = (self.seconds_sum_micros.get(route), self.answer_bytes.get(route)) {
            sum.add(micros);
            sent.add(bytes as u64);
        }
    }

    /// Counts a problem that was answered.
    pub(crate) fn problem(&self, status: u16, code: &'static str) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        *problems.entry((status, code)).or_default() += 1;
    }

    /// Counts rows that failed inside a batch whose other rows may be well.
    pub(crate) fn rows_failed<'a>(&self, errors: impl Iterator<Item = &'a Error>) {
        let mut errors = errors.peekable();
        if errors.peek().is_none() {
            return;
        }
        let mut failed = self.rows_failed.lock().unwrap_or_else(PoisonError::into_inner);
        for error in errors {
            *failed.entry(error.code()).or_default() += 1;
        }
    }

    /// Counts what a read cost.
    pub(crate) fn read(&self, source: Source, rows: usize, store_gets: u32, store_bytes: u64) {
        if let Some(counter) = SOURCES.iter().position(|&s| s == source).and_then(|at| self.sources.get(at)) {
            counter.add(1);
        }
        self.rows_read.add(rows as u64);
        if store_gets > 0 {
            self.store_gets.add(u64::from(store_gets));
            self.store_bytes.add(store_bytes);
        }
    }

    /// Prometheus text, version 0.0.4. Routes that nobody asked for are left out.
    /// `hot_reads` is counted elsewhere.
    pub(crate) fn text(&self, out: &mut String, hot_reads: u64) {
        head(out, "nacre_http_requests_total", "counter", "Requests answered, by route and outcome.");
        for (class, counters) in RouteClass::ALL.iter().zip(&self.requests) {
            for ((_, outcome), counter) in Outcome::ALL.iter().zip(counters) {
                if counter.get() > 0 {
                    let route = class.name();
                    let _ = writeln!(
                        out,
                        "nacre_http_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}} {}",
                        counter.get()
                    );
                }
            }
        }
        head(out, "nacre_http_problems_total", "counter", "Requests that failed, by status and error code.");
        for ((status, code), count) in &*self.problems.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "nacre_http_problems_total{{status=\"{status}\",code=\"{code}\"}} {count}");
        }
        head(
            out,
            "nacre_rows_failed_total",
            "counter",
            "Rows that failed inside batches that were answered 200, by error code.",
        );
        for (code, count) in &*self.rows_failed.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "nacre_rows_failed_total{{code=\"{code}\"}} {count}");
        }
        head(out, "nacre_http_request_seconds", "histogram", "Time from a request's head to its answer.");
        for ((class, buckets), sum) in RouteClass::ALL.iter().zip(&self.seconds).zip(&self.seconds_sum_micros)
        {
            histogram(out, class.name(), buckets, sum.get());
        }
        head(out, "nacre_http_answer_bytes_total", "counter", "Bytes of answers' bodies, by route.");
        for (class, counter) in RouteClass::ALL.iter().zip(&self.answer_bytes) {
            if counter.get() > 0 {
                let _ = writeln!(
                    out,
                    "nacre_http_answer_bytes_total{{route=\"{}\"}} {}",
                    class.name(),
                    counter.get()
                );
            }
        }
        head(out, "nacre_reads_total", "counter", "Answers to reads, by the slowest place that was asked.");
        for (source, counter) in SOURCES.iter().zip(&self.sources) {
            let _ = writeln!(out, "nacre_reads_total{{source=\"{}\"}} {}", source.name(), counter.get());
        }
        for (name, help, counter) in [
            (
                "nacre_read_store_gets_total",
                "Object store GETs that answers to reads waited for.",
                &self.store_gets,
            ),
            ("nacre_read_store_bytes_total", "Bytes that they brought.", &self.store_bytes),
            ("nacre_rows_read_total", "Rows in answers to reads.", &self.rows_read),
            ("nacre_rows_written_total", "Rows acknowledged.", &self.rows_written),
            ("nacre_http_panics_total", "Handlers that panicked: bugs.", &self.panics),
            ("nacre_http_shed_total", "Requests refused because too many were in flight.", &self.shed),
            (
                "nacre_http_slow_clients_total",
                "Connections closed because their client was slow.",
                &self.slow_clients,
            ),
            (
                "nacre_http_connections_refused_total",
                "Connections beyond the limit.",
                &self.connections_refused,
            ),
        ] {
            head(out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", counter.get());
        }
        head(
            out,
            "nacre_hot_reads_total",
            "counter",
            "Gets of hot keys that no node of the fleet was asked for.",
        );
        let _ = writeln!(out, "nacre_hot_reads_total {hot_reads}");
        for (name, help, gauge) in [
            ("nacre_http_connections", "Connections open now.", &self.connections),
            ("nacre_http_requests_in_flight", "Requests in flight now.", &self.in_flight),
        ] {
            head(out, name, "gauge", help);
            let _ = writeln!(out, "{name} {}", gauge.get());
        }
        head(out, "nacre_build_info", "gauge", "The version that runs.");
        let _ = writeln!(out, "nacre_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        head(out, "process_start_time_seconds", "gauge", "When it started, in seconds since the epoch.");
        let _ = writeln!(out, "process_start_time_seconds {}", self.started_at_seconds);
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn histogram(out: &mut String, route: &str, buckets: &[Counter; BUCKETS], sum_micros: u64) {
    let total: u64 = buckets.iter().map(Counter::get).sum();
    if total == 0 {
        return;
    }
    let mut below = 0;
    for (nth, bucket) in buckets.iter().enumerate().take(BUCKETS - 1) {
        below += bucket.get();
        let bound = (1u64 << (nth as u32 + FIRST_BUCKET_BITS)) as f64 / 1e6;
        let _ =
            writeln!(out, "nacre_http_request_seconds_bucket{{route=\"{route}\",le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(out, "nacre_http_request_seconds_bucket{{route=\"{route}\",le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "nacre_http_request_seconds_sum{{route=\"{route}\"}} {}", sum_micros as f64 / 1e6);
    let _ = writeln!(out, "nacre_http_request_seconds_count{{route=\"{route}\"}} {total}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_has_what_was_counted() {
        let metrics = Metrics::new(1_700_000_000_999_999);
        metrics.problem(422, "key-empty");
        metrics.problem(422, "key-empty");
        metrics.rows_failed([&Error::invalid("no key").with_code("key-empty")].into_iter());
        metrics.answered(RouteClass::Get, Outcome::Absent, Duration::from_micros(100), 7);
        metrics.answered(RouteClass::Get, Outcome::Ok, Duration::from_secs(1_000), 1);
        let inside = metrics.in_flight.enter();
        let mut text = String::new();
        metrics.text(&mut text, 0);
        for line in [
            "nacre_http_requests_total{route=\"get\",outcome=\"absent\"} 1",
            "nacre_http_request_seconds_bucket{route=\"get\",le=\"0.000064\"} 0",
            "nacre_http_request_seconds_bucket{route=\"get\",le=\"0.000128\"} 1",
            "nacre_http_request_seconds_bucket{route=\"get\",le=\"+Inf\"} 2",
            "nacre_http_answer_bytes_total{route=\"get\"} 8",
            "nacre_http_requests_in_flight 1",
            "nacre_http_problems_total{status=\"422\",code=\"key-empty\"} 2",
            "nacre_rows_failed_total{code=\"key-empty\"} 1",
            "process_start_time_seconds 1700000000",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        drop(inside);
        assert_eq!(metrics.in_flight.get(), 0);
        assert!(Outcome::ALL.iter().enumerate().all(|(at, (outcome, _))| *outcome as usize == at));
    }
}
