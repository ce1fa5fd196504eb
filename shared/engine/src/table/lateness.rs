//! From where on a changed `max_lateness` holds.
//!
//! Rows are judged where they enter, by what that process knows of the settings. When a limit is set or tightened others
//! may go on with the old settings for as long as they may use what they know without renewal, and a write that was
//! judged a moment ago is still on its way. So the edit that changes the limit says *not yet*, and nothing is dropped
//! by lateness. Once everybody must know the new settings, the ends of the partitions are read and a second edit names
//! them: whatever lies at or behind was judged by the new limit. Why not the ends at the change? Rows judged by the old
//! limit would follow, below tombstones that are gone.
//!
//! How long that takes is measured by this process's own clock from when it saw the settings, so it can only be longer.

use std::sync::Arc;
use std::time::Duration;

use nacre_manifest::{Change, Manifest, SetSettings};
use nacre_types::{Offset, PartitionId, Result, TableSettings};

use super::Table;

/// Settings that this process has seen, by their number, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    number: u64,
    at: Duration,
}

/// What the edit that changes settings says of offsets.
pub(super) fn offsets_of_change(manifest: &Manifest, new: &TableSettings) -> Vec<(PartitionId, Offset)> {
    let (old, new) = (manifest.settings().max_lateness_seconds, new.max_lateness_seconds);
    let Some(limit) = new else { return Vec::new() };
    if old == new {
        return Vec::new();
    }
    // Under a stricter limit nothing entered that a wider one refuses.
    let is_raised = old.is_some_and(|old| limit > old);
    let from = if is_raised { Offset(0) } else { SetSettings::NOT_YET };
    manifest.partitions().map(|(partition, _)| (partition, from)).collect()
}

/// Whether the offsets can be said at `now`; remembers when it saw the settings.
fn is_due(seen: &mut Option<Seen>, manifest: &Manifest, now: Duration, life: Duration) -> bool {
    if !manifest.lateness_is_pending() {
        *seen = None;
        return false;
    }
    let number = manifest.settings_number();
    match seen {
        Some(held) if held.number == number => now.saturating_sub(held.at) >= life,
        _ => {
            *seen = Some(Seen { number, at: now });
            false
        }
    }
}

impl Table {
    /// Says from which offsets a changed `max_lateness` holds, once that is so. Answers whether it did.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`; `Conflict` where the settings were changed again.
    pub async fn settle_lateness(self: &Arc<Self>) -> Result<bool> {
        let manifest = self.manifest();
        let (now, life) = (self.shared.ctx.clock.monotonic(), self.shared.config.dropped_name_life);
        if !is_due(&mut self.lateness_seen.lock(), &manifest, now, life) {
            return Ok(false);
        }
        let mut ends = Vec::new();
        let mut log_time = i64::MIN;
        for partition in self.partitions() {
            log_time = log_time.max(self.shared.log.log_time(partition).await?);
            ends.push((partition, self.shared.log.end(partition).await?.offset));
        }
        let number = manifest.settings_number();
        self.commit(Box::new(move |manifest| {
            if manifest.settings_number() != number {
                return Ok(Vec::new());
            }
            Ok(vec![Change::SetSettings(SetSettings {
                settings: manifest.settings().clone(),
                log_time_micros: log_time,
                lateness_from: ends.clone(),
            })])
        }))
        .await
        .map(|manifest| !manifest.lateness_is_pending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_manifest::{Edit, Shard};
    use nacre_types::{Generation, Seq, ShardId, TableId};

    fn manifest(limit: Option<u64>) -> Manifest {
        let settings = TableSettings { max_lateness_seconds: limit, ..TableSettings::default() };
        let shard = Shard {
            id: ShardId(0),
            start: bytes::Bytes::new(),
            partition: PartitionId(3),
            generation: Generation(0),
        };
        let edit = Edit::one(Change::CreateTable { settings, shards: vec![shard] }, 0);
        Manifest::empty(TableId(1)).apply(Seq(1), &edit).unwrap()
    }

    fn change(manifest: &Manifest, limit: Option<u64>) -> Manifest {
        let settings = TableSettings { max_lateness_seconds: limit, ..manifest.settings().clone() };
        let lateness_from = offsets_of_change(manifest, &settings);
        let change = Change::SetSettings(SetSettings { settings, log_time_micros: 0, lateness_from });
        manifest.apply(manifest.seq().next(), &Edit::one(change, 0)).unwrap()
    }

    #[test]
    fn a_limit_from_the_start_and_a_raised_one_hold_at_once() {
        let from_start = manifest(Some(60));
        assert!(!from_start.lateness_is_pending());
        assert!(!change(&from_start, Some(90)).lateness_is_pending());
        assert!(!change(&from_start, None).lateness_is_pending());
    }

    #[test]
    fn a_new_or_tightened_limit_waits_until_everybody_must_know_it() {
        let life = Duration::from_secs(600);
        for changed in [change(&manifest(None), Some(60)), change(&manifest(Some(90)), Some(60))] {
            let mut seen = None;
            assert!(!is_due(&mut seen, &changed, Duration::from_secs(5), life));
            assert!(!is_due(&mut seen, &changed, Duration::from_secs(604), life));
            assert!(is_due(&mut seen, &changed, Duration::from_secs(605), life));
            // Changed again: the wait begins again.
            let again = change(&changed, Some(30));
            assert!(!is_due(&mut seen, &again, Duration::from_secs(700), life));
            assert!(is_due(&mut seen, &again, Duration::from_secs(1_300), life));
        }
    }
}
