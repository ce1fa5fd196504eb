//! What an operator asks of the engine at night.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty,)+) => {
        /// The engine's counters and gauges; updating one is one relaxed atomic addition.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics { $($(#[doc = $help])+ pub(crate) $field: $kind,)+ }

        impl Metrics {
            /// Registers all of them under `nacre_engine_`.
            pub(crate) fn register(&self, registry: &mut Registry) {
                let registry = registry.sub_registry_with_prefix("nacre_engine");
                $(registry.register(stringify!($field), concat!($($help),+), self.$field.clone());)+
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
    /// Bytes of the log between flushed_through and its end, all partitions
    tail_bytes: Gauge,
    /// Flush edits committed
    flushes: Counter,
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
}
