//! How far the partitions of sources are, and why one stopped.
//!
//! Whoever consumes a partition writes it on the board of its process. Where there are other processes it also puts a
//! record into the catalog now and then, so that any of them can tell: a hint, decided by nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nacre_catalog::Catalog;
use nacre_types::{Result, TableId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::SourcePart;
use crate::names::{decode, encode};

/// Faulty messages that are kept to be shown.
const SAMPLE: usize = 5;
/// How often a record is put where nothing but numbers changed.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// What the consumer of a partition says of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionState {
    /// Where the topic's partition ends, as last seen.
    pub end: Option<u64>,
    /// Messages that are not applied yet; 0 where nothing more came although offsets are left (markers of transactions).
    pub lag_rows: Option<u64>,
    /// How old the oldest message is that was read and not applied, by Kafka's time of it; 0 where there is none.
    pub lag_seconds: Option<f64>,
    /// Rows applied by this process.
    pub rows: u64,
    /// Messages that could not be understood, in this process.
    pub faults: u64,
    /// Some of them: offset and why.
    pub samples: VecDeque<(u64, String)>,
    /// Why nothing more is applied.
    pub stopped: Option<String>,
    /// When this was so, in microseconds since the epoch.
    pub at_micros: i64,
}

impl PartitionState {
    pub(super) fn fault(&mut self, offset: u64, why: String) {
        self.faults += 1;
        if self.samples.len() >= SAMPLE {
            self.samples.pop_front();
        }
        self.samples.push_back((offset, why));
    }
}

/// The partitions that this process consumes, or consumed.
#[derive(Debug, Default)]
pub(crate) struct Board {
    states: Mutex<BTreeMap<SourcePart, PartitionState>>,
}

impl Board {
    pub(crate) fn get(&self, part: SourcePart) -> Option<PartitionState> {
        self.states.lock().get(&part).cloned()
    }

    pub(super) fn update(&self, part: SourcePart, change: impl FnOnce(&mut PartitionState)) {
        change(self.states.lock().entry(part).or_default());
    }

    /// Another process has it now, or nobody.
    pub(super) fn remove(&self, part: SourcePart) {
        self.states.lock().remove(&part);
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(SourcePart, PartitionState)> {
        self.states.lock().iter().map(|(part, state)| (*part, state.clone())).collect()
    }
}

fn record_name(part: SourcePart) -> String {
    format!("sources/{}/{}", part.table, part.partition)
}

/// What another process says of a partition.
pub(super) async fn read_record(
    catalog: &dyn Catalog,
    table: TableId,
    partition: u32,
) -> Result<Option<PartitionState>> {
    let name = record_name(SourcePart { table, partition });
    catalog.record(&name).await?.map(|(bytes, _)| decode(&bytes, "source")).transpose()
}

/// Tells the other processes.
pub(super) struct Teller {
    catalog: Arc<dyn Catalog>,
    part: SourcePart,
    told: Option<(Duration, Option<String>)>,
}

impl Teller {
    pub(super) fn new(catalog: Arc<dyn Catalog>, part: SourcePart) -> Self {
        Self { catalog, part, told: None }
    }

    pub(super) async fn tell(&mut self, now: Duration, state: &PartitionState) {
        let is_news = self
            .told
            .as_ref()
            .is_none_or(|(at, stopped)| *stopped != state.stopped || now.saturating_sub(*at) >= RECORD_EVERY);
        if !is_news {
            return;
        }
        self.told = Some((now, state.stopped.clone()));
        let name = record_name(self.part);
        let put = async {
            let held = self.catalog.record(&name).await?;
            self.catalog.put_record(&name, held.as_ref().map(|(_, tag)| tag), encode(state)?).await
        };
        if let Err(error) = put.await {
            tracing::debug!(%error, name, "the state of a source was not told");
        }
    }
}
