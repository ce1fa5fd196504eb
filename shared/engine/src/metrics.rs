//! What an operator asks of the engine at night, as Prometheus text.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nacre_cache::{CacheStats, TierStats};
use nacre_catalog::CatalogCounts;
use nacre_manifest::LoadState;
use nacre_store::{RequestCount, RequestCounts};
use nacre_types::PartitionId;

use crate::node::Node;

/// A number that only grows. Counting is one relaxed addition, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn inc(&self) {
        self.inc_by(1);
    }

    pub(crate) fn inc_by(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: Counter,)+) => {
        /// The engine's counters.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics { $($(#[doc = $help])+ pub(crate) $field: Counter,)+ }

        impl Metrics {
            /// All of them, as `nacre_engine_<name>_total`.
            fn text(&self, out: &mut String) {
                $(one(
                    out,
                    concat!("nacre_engine_", stringify!($field), "_total"),
                    concat!($($help),+).trim(),
                    self.$field.get(),
                );)+
            }
        }
    };
}

metrics! {
    /// Gets answered, each key of a batch counted
    gets: Counter,
    /// Pages of scans answered
    scan_pages: Counter,
    /// Rows accepted and durable
    rows_written: Counter,
    /// Rows refused because the tail was full
    rows_overloaded: Counter,
    /// Rows of the log applied to tails
    tail_rows_applied: Counter,
    /// Tails that had to start again
    tail_restarts: Counter,
    /// Flush edits committed
    flushes: Counter,
    /// Flushes of a partition that failed and are tried again
    flush_failures: Counter,
    /// Rows flushed to segments
    rows_flushed: Counter,
    /// Microseconds that flushes took which made segments
    flush_micros: Counter,
    /// Compactions committed
    compactions: Counter,
    /// Rows read by compactions
    rows_compacted: Counter,
    /// Appends to table logs that lost to another's
    commit_conflicts: Counter,
    /// Ranged GETs for blocks
    block_gets: Counter,
    /// GETs for indexes
    index_gets: Counter,
    /// Bytes fetched from the store by reads
    store_bytes: Counter,
    /// Reads that found a segment gone and read the table log again
    segment_gone: Counter,
    /// Loads committed
    loads_committed: Counter,
    /// Loads failed
    loads_failed: Counter,
    /// Objects that were deleted as garbage
    objects_collected: Counter,
    /// Bytes of the objects that were deleted as garbage
    bytes_collected: Counter,
    /// Objects that a collection looked at and left, as still named, young, or of work that had not ended
    objects_kept: Counter,
    /// Objects that a collection left since their names are none that nacre mints
    objects_unknown: Counter,
    /// Collections of garbage that failed and are tried again
    garbage_failures: Counter,
    /// Keys that were read ahead of their readers
    keys_warmed: Counter,
    /// Blocks of flushes and compactions that were read before they were shown
    blocks_warmed: Counter,
}

impl Node {
    /// Prometheus text, version 0.0.4: what is counted, and what is so now.
    pub fn metrics_text(&self, out: &mut String) {
        self.shared.metrics.text(out);
        self.partitions_text(out);
        self.tables_text(out);
        self.sources_text(out);
        cache_text(out, &self.shared.cache.stats());
        if let Some(counts) = self.shared.store.request_counts() {
            store_text(out, &counts);
        }
        if let Some(counts) = self.shared.catalog.request_counts() {
            catalog_text(out, &counts);
        }
    }

    /// Says that a flush of `partition` that began at `began` (monotonic) ended well, or that nothing waited then. `None`:
    /// another process flushes it.
    pub fn note_flushed(&self, partition: PartitionId, began: Option<Duration>) {
        match began {
            Some(began) => self.flushed_at.lock().insert(partition, began),
            None => self.flushed_at.lock().remove(&partition),
        };
    }

    /// Says that a flush failed.
    pub fn note_flush_failed(&self) {
        self.shared.metrics.flush_failures.inc();
    }

    fn partitions_text(&self, out: &mut String) {
        let partitions = || (0..self.partitions()).map(PartitionId);
        let tailer = |partition| self.shared.tails.get(partition).ok();
        // Who only appends says what it estimates, since that is what it refuses writes by.
        let waiting = |partition| match tailer(partition) {
            Some(tailer) => Some(tailer.pending_bytes.load(Ordering::Relaxed)),
            None => Some(self.shared.backlog.bytes(partition)).filter(|bytes| *bytes > 0),
        };
        gauges(
            out,
            "nacre_engine_tail_bytes",
            "Bytes of rows that wait to be flushed, roughly.",
            partitions().filter_map(|partition| Some((label("partition", partition), waiting(partition)?))),
        );
        gauges(
            out,
            "nacre_engine_tail_bytes_max",
            "Writes to a partition are refused when more wait.",
            [(String::new(), self.shared.config.tail_bytes_max)],
        );
        let applied = |partition| Some(tailer(partition)?.applied.borrow().as_ref()?.offset.0);
        gauges(
            out,
            "nacre_engine_tail_offset",
            "Everything in the log before it is in the tail.",
            partitions().filter_map(|partition| Some((label("partition", partition), applied(partition)?))),
        );
        gauges(
            out,
            "nacre_engine_log_end_offset",
            "After the newest record that this process appended: beside it, tail offsets of others say how far they lag.",
            partitions().filter_map(|partition| {
                Some((label("partition", partition), self.shared.backlog.end(partition)?.0))
            }),
        );
        let most = self.shared.config.tail_bytes_max;
        let full = |partition| {
            let waiting = self.shared.waiting_bytes(partition);
            self.shared.backlog.seconds_until(partition, waiting, most)
        };
        gauges(
            out,
            "nacre_engine_tail_full_seconds",
            "Until writes to a partition are refused, if nothing of it is flushed from now on.",
            partitions().filter_map(|partition| Some((label("partition", partition), full(partition)?))),
        );
        let now = self.shared.ctx.clock.monotonic();
        let mut flushed: Vec<_> = self.flushed_at.lock().iter().map(|(&p, &at)| (p, at)).collect();
        flushed.sort_by_key(|(partition, _)| *partition);
        gauges(
            out,
            "nacre_engine_flush_age_seconds",
            "Since the last flush began, or nothing waited: no row that waits is older. Only where this process flushes.",
            flushed.iter().map(|(partition, at)| {
                (label("partition", partition), now.saturating_sub(*at).as_millis() as f64 / 1e3)
            }),
        );
    }

    /// Of the sources that this process consumes.
    fn sources_text(&self, out: &mut String) {
        let all = self.shared.sources.all();
        let labels = |part: &crate::SourcePart| {
            format!("{{table=\"{}\",partition=\"{}\"}}", part.table, part.partition)
        };
        gauges(
            out,
            "nacre_source_lag_rows",
            "Messages of a source's partition that are not applied yet.",
            all.iter().filter_map(|(part, state)| Some((labels(part), state.lag_rows?))),
        );
        gauges(
            out,
            "nacre_source_lag_seconds",
            "Age of the oldest message that was read and is not applied, by Kafka's time of it.",
            all.iter().filter_map(|(part, state)| Some((labels(part), state.lag_seconds?))),
        );
        gauges(
            out,
            "nacre_source_stopped",
            "1 where a source's partition stopped; GET of the table says why.",
            all.iter().map(|(part, state)| (labels(part), u64::from(state.stopped.is_some()))),
        );
        head(out, "nacre_source_rows_total", "counter", "Rows of a source that this process applied.");
        for (part, state) in &all {
            sample(out, "nacre_source_rows_total", &labels(part), state.rows);
        }
        head(
            out,
            "nacre_source_faults_total",
            "counter",
            "Messages of a source that could not be understood.",
        );
        for (part, state) in &all {
            sample(out, "nacre_source_faults_total", &labels(part), state.faults);
        }
    }

    fn tables_text(&self, out: &mut String) {
        let tables = self.open_tables();
        let (mut segments, mut rows, mut bytes) = (0, 0, 0);
        let mut loads = [LoadState::Open, LoadState::Pinned, LoadState::Prepared].map(|state| (state, 0u64));
        for table in &tables {
            let manifest = table.manifest();
            segments += manifest.segment_count();
            rows += manifest.rows();
            bytes += manifest.bytes();
            for (state, count) in &mut loads {
                *count += manifest.loads().filter(|load| load.state == *state).count() as u64;
            }
        }
        for (name, help, value) in [
            ("nacre_engine_tables", "Tables that this process has open.", tables.len() as u64),
            ("nacre_engine_segments", "Segments of these tables.", segments),
            ("nacre_engine_segment_rows", "Rows in these segments.", rows),
            ("nacre_engine_segment_bytes", "Bytes of these segments.", bytes),
        ] {
            gauges(out, name, help, [(String::new(), value)]);
        }
        gauges(
            out,
            "nacre_engine_loads",
            "Loads under way, by state.",
            loads.map(|(state, count)| (label("state", state.name()), count)),
        );
    }
}

fn cache_text(out: &mut String, stats: &CacheStats) {
    let tiers = [("blocks", &stats.blocks), ("rows", &stats.rows), ("indexes", &stats.indexes)];
    head(
        out,
        "nacre_cache_lookups_total",
        "counter",
        "Blocks, single rows and indexes asked for, by where they were found; a row that is not held is asked of its block.",
    );
    for (what, tier) in tiers {
        for (found, count) in [
            ("memory", tier.memory_hits),
            ("disk", tier.disk_hits),
            ("store", tier.store_fetches),
            ("shared", tier.shared),
            ("failed", tier.failures),
        ] {
            sample(
                out,
                "nacre_cache_lookups_total",
                &format!("{{what=\"{what}\",found=\"{found}\"}}"),
                count,
            );
        }
    }
    type Number = fn(&TierStats) -> u64;
    let numbers: [(&str, &str, &str, Number); 10] = [
        ("nacre_cache_entries", "gauge", "Entries in memory.", |tier| tier.entries),
        ("nacre_cache_memory_bytes", "gauge", "Bytes in memory.", |tier| tier.memory_bytes),
        ("nacre_cache_memory_bytes_max", "gauge", "Bytes that memory may take.", |tier| tier.memory_capacity),
        ("nacre_cache_in_flight", "gauge", "Fetches and reads of the disk under way.", |tier| tier.in_flight),
        ("nacre_cache_disk_written_bytes_total", "counter", "Bytes written to the cache's disk.", |tier| {
            tier.disk.written_bytes
        }),
        ("nacre_cache_disk_read_bytes_total", "counter", "Bytes read from the cache's disk.", |tier| {
            tier.disk.read_bytes
        }),
        ("nacre_cache_disk_dropped_total", "counter", "Entries that the disk was too slow for.", |tier| {
            tier.disk.dropped_queue
        }),
        ("nacre_cache_disk_unfit_total", "counter", "Entries that a write buffer had no room for.", |tier| {
            tier.disk.dropped_buffer
        }),
        (
            "nacre_cache_disk_throttled_total",
            "counter",
            "Reads and writes that a throttle refused.",
            |tier| tier.disk.throttled,
        ),
        (
            "nacre_cache_disk_errors_total",
            "counter",
            "Reads of the disk that failed; each is a miss.",
            |tier| tier.disk.errors,
        ),
    ];
    for (name, kind, help, number) in numbers {
        head(out, name, kind, help);
        for (what, tier) in tiers {
            sample(out, name, &label("what", what), number(tier));
        }
    }
}

fn store_text(out: &mut String, counts: &RequestCounts) {
    let operations = [
        ("put", &counts.put),
        ("get", &counts.get),
        ("head", &counts.head),
        ("list", &counts.list),
        ("delete", &counts.delete),
        ("copy", &counts.copy),
        ("upload", &counts.upload),
    ];
    type Number = fn(&RequestCount) -> u64;
    let numbers: [(&str, &str, Number); 3] = [
        ("nacre_store_requests_total", "Requests to the object store, of every part.", |one| one.requests),
        ("nacre_store_errors_total", "Those that failed; a conflict and an absence are answers.", |one| {
            one.errors
        }),
        ("nacre_store_bytes_total", "Bytes of their bodies, up or down.", |one| one.bytes),
    ];
    for (name, help, number) in numbers {
        head(out, name, "counter", help);
        for (operation, count) in operations {
            sample(out, name, &label("operation", operation), number(count));
        }
    }
}

fn catalog_text(out: &mut String, counts: &CatalogCounts) {
    let name = "nacre_catalog_requests_total";
    head(out, name, "counter", "Requests to the catalog's own service, of every part.");
    for (operation, count) in &counts.requests {
        sample(out, name, &label("operation", operation), count);
    }
    let name = "nacre_catalog_units_total";
    head(out, name, "counter", "Read and write units that they took, as the service told.");
    sample(out, name, &label("kind", "read"), counts.read_units);
    sample(out, name, &label("kind", "write"), counts.write_units);
}

fn label(name: &str, value: impl Display) -> String {
    format!("{{{name}=\"{value}\"}}")
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

fn one(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, "counter", help);
    sample(out, name, "", value);
}

fn gauges<V: Display>(
    out: &mut String,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, V)>,
) {
    head(out, name, "gauge", help);
    for (labels, value) in values {
        sample(out, name, &labels, value);
    }
}
