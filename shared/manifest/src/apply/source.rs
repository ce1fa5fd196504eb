//! The topic that a table's rows come from: declared, grown, removed.

use super::{Draft, malformed};
use crate::source::{SLOTS, partition_of_slot};
use crate::{DeclareSource, Refused, RefusedReason, Source};
use nacre_types::{Offset, PartitionId};
use std::sync::Arc;

impl Draft {
    /// Lateness and a source exclude each other: tombstones go because the log refuses late rows where they enter, and
    /// nobody can refuse what a topic of someone else holds. Tombstones that went already are as bad.
    pub(super) fn declare_source(&mut self, declare: &DeclareSource) -> Result<(), Refused> {
        let next = &self.next;
        if next.settings.max_lateness_seconds.is_some()
            || next.late_below != i64::MIN
            || next.late_dropped_below != i64::MIN
        {
            return Err(Refused::new(
                RefusedReason::SettingsInvalid,
                "a table that has, or had, max_lateness takes no source: tombstones that late rows would need may be gone",
            ));
        }
        let partitions = match &declare.starts {
            Some(starts) => self.add_slots(starts)?,
            None => {
                let held = next.source.as_ref().filter(|held| held.topic == declare.topic);
                held.map(|held| held.partitions.clone()).ok_or_else(no_source)?
            }
        };
        self.next.source = Some(Arc::new(Source {
            declared: self.next.seq,
            declaration: declare.declaration.clone(),
            topic: declare.topic,
            partitions,
        }));
        Ok(())
    }

    /// The topic got more partitions.
    pub(super) fn grow_source(&mut self, starts: &[Offset]) -> Result<(), Refused> {
        let mut source = self.next.source.as_deref().cloned().ok_or_else(no_source)?;
        source.partitions.extend(self.add_slots(starts)?);
        self.next.source = Some(Arc::new(source));
        Ok(())
    }

    /// No flush of its partitions is taken any more; what they brought stays.
    pub(super) fn remove_source(&mut self) -> Result<(), Refused> {
        self.next.source.take().map(drop).ok_or_else(no_source)
    }

    fn add_slots(&mut self, starts: &[Offset]) -> Result<Vec<PartitionId>, Refused> {
        if starts.is_empty() || starts.iter().any(|start| *start >= Offset(1 << 48)) {
            return Err(malformed("a source begins at an offset below 2^48 in each of its partitions"));
        }
        let covered = Arc::make_mut(&mut self.next.source_covered);
        let first = covered.len();
        if first.saturating_add(starts.len()) > SLOTS {
            return Err(Refused::new(
                RefusedReason::SourceFull,
                format!(
                    "the table's sources had {first} partitions over its life, and {} more are over the limit {SLOTS}",
                    starts.len()
                ),
            ));
        }
        covered.extend_from_slice(starts);
        Ok((first..covered.len()).map(partition_of_slot).collect())
    }
}

fn no_source() -> Refused {
    Refused::new(RefusedReason::NoSource, "the table has no source, or its topic is another one")
}
