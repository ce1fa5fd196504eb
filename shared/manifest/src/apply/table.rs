//! The table itself: creation, settings, shards, drop, epoch.

use super::{Draft, malformed};
use crate::manifest::lateness_micros;
use crate::{Dropped, Refused, RefusedReason, SetSettings, Shard, SplitShard};
use nacre_types::{KeySchema, Offset, PartitionId, Seq, ShardId, TableSettings, VersionKind, limits};
use std::sync::Arc;

impl Draft {
    pub(super) fn create_table(&mut self, settings: &TableSettings, shards: &[Shard]) -> Result<(), Refused> {
        if self.next.is_created() || self.next.seq != Seq(1) {
            return Err(Refused::new(RefusedReason::TableExists, "the table was created before"));
        }
        check_settings(settings)?;
        if shards.first().is_none_or(|shard| !shard.start.is_empty()) {
            return Err(malformed("the first shard begins with the empty key"));
        }
        for pair in shards.windows(2) {
            if let [left, right] = pair
                && (left.start >= right.start || right.start.len() > limits::KEY_BYTES)
            {
                return Err(malformed("shards begin with rising keys of at most 2048 bytes"));
            }
        }
        let mut ids: Vec<_> = shards.iter().map(|shard| shard.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(malformed("two shards have the same id"));
        }
        self.next.next_shard = ids.last().map_or(ShardId(0), |last| last.next());
        self.next.covered = Arc::new(shards.iter().map(|shard| (shard.partition, Offset(0))).collect());
        self.next.shards = Arc::new(shards.to_vec());
        self.next.settings = Arc::new(settings.clone());
        (self.next.settings_number, self.next.drops_since) = (1, 1);
        Ok(())
    }

    /// What is gone stays gone: a changed ttl leaves `expired_below`, below which rows had expired or been dropped as
    /// expired under the old one; a raised or removed lateness leaves `late_below`, below which tombstones may have
    /// been dropped.
    pub(super) fn set_settings(&mut self, change: &SetSettings) -> Result<(), Refused> {
        let (old, new) = (self.next.settings.clone(), &change.settings);
        check_settings(new)?;
        let refuse = |detail: &str| Err(Refused::new(RefusedReason::SettingsInvalid, detail));
        let lowered =
            old.max_versions == 0 || (new.max_versions != 0 && new.max_versions <= old.max_versions);
        if !lowered {
            return refuse("max_versions can only be lowered: what was beyond it may be gone");
        }
        if new.version_kind != old.version_kind {
            return refuse("version_kind cannot be changed");
        }
        if new.max_lateness_seconds.is_some() && self.next.source.is_some() {
            return refuse(
                "max_lateness_seconds and a source exclude each other: nobody refuses a topic's late rows",
            );
        }
        let key_kept = new.key == old.key || (old.key.is_none() && new.key == Some(KeySchema::Bytes));
        let key_declared = old.key.is_none() && self.next.segment_count() == 0;
        if !key_kept && !key_declared {
            return refuse("key can be declared once, and parts only while the table is empty");
        }
        let time = change.log_time_micros.max(self.next.last_drop_now);
        let ttl_changed = new.ttl_seconds != old.ttl_seconds;
        if let (true, Some(ttl)) = (ttl_changed, old.ttl_micros()) {
            self.next.expired_below = self.next.expired_below.max(time.saturating_sub(ttl));
        }
        let (old_late, new_late) = (lateness_micros(&old), lateness_micros(new));
        if let Some(limit) = old_late
            && new_late.is_none_or(|new_limit| new_limit > limit)
        {
            let mark = change.log_time_micros.saturating_sub(limit).max(self.next.late_dropped_below);
            self.next.late_below = self.next.late_below.max(mark);
        }
        self.next.settings_number = self.next.settings_number.saturating_add(1);
        if ttl_changed || old_late != new_late {
            self.next.drops_since = self.next.settings_number;
        }
        if old_late != new_late {
            self.set_lateness_offsets(change)?;
        } else {
            self.say_lateness_offsets(change)?;
        }
        self.next.settings = Arc::new(new.clone());
        Ok(())
    }

    /// A limit that holds only from some offsets on says nothing of the rows before them.
    fn set_lateness_offsets(&mut self, change: &SetSettings) -> Result<(), Refused> {
        let offsets = Arc::make_mut(&mut self.next.lateness_from);
        for (partition, offset) in &change.lateness_from {
            if !self.next.covered.contains_key(partition) {
                return Err(no_partition(*partition));
            }
            let known = offsets.entry(*partition).or_default();
            *known = (*known).max(*offset);
        }
        let unnamed =
            |partition: &&PartitionId| !change.lateness_from.iter().any(|(named, _)| named == *partition);
        if change.settings.max_lateness_seconds.is_some()
            && let Some(partition) = self.next.covered.keys().find(unnamed)
        {
            return Err(malformed(format!(
                "max_lateness changes, and the edit does not say from which offset of partition {partition} it holds"
            )));
        }
        Ok(())
    }

    /// The limit stays, and from where on it holds is known now. What was said before is not said again.
    fn say_lateness_offsets(&mut self, change: &SetSettings) -> Result<(), Refused> {
        for (partition, offset) in &change.lateness_from {
            if !self.next.covered.contains_key(partition) {
                return Err(no_partition(*partition));
            }
            if self.next.lateness_from(*partition) != SetSettings::NOT_YET {
                return Err(malformed(format!(
                    "from which offset of partition {partition} max_lateness holds was said before"
                )));
            }
            Arc::make_mut(&mut self.next.lateness_from).insert(*partition, *offset);
        }
        Ok(())
    }

    pub(super) fn split_shard(&mut self, split: &SplitShard) -> Result<(), Refused> {
        let refuse = |detail: String| Err(Refused::new(RefusedReason::ShardChanged, detail));
        if split.new != self.next.next_shard {
            return refuse(format!("the next shard is {}, not {}", self.next.next_shard, split.new));
        }
        let Some(range) = self.next.shard_range(split.shard) else {
            return refuse(format!("the table has no shard {}", split.shard));
        };
        if split.at == range.start || !range.contains(&split.at) || split.at.len() > limits::KEY_BYTES {
            return refuse(format!("the split key does not lie strictly inside shard {}", split.shard));
        }
        let shards = Arc::make_mut(&mut self.next.shards);
        if let Some(at) = shards.iter().position(|shard| shard.id == split.shard)
            && let Some(parent) = shards.get(at).cloned()
        {
            shards.insert(at + 1, Shard { id: split.new, start: split.at.clone(), ..parent });
        }
        self.next.next_shard = split.new.next();
        Ok(())
    }

    pub(super) fn drop_table(&mut self) -> Result<(), Refused> {
        if let Some(dropped) = self.next.dropped {
            return Err(Refused::new(
                RefusedReason::TableDropped,
                format!("the table was dropped by edit {}", dropped.seq),
            ));
        }
        self.next.dropped = Some(Dropped { seq: self.next.seq, at_micros: self.at_micros });
        Ok(())
    }

    pub(super) fn undrop_table(&mut self) -> Result<(), Refused> {
        if self.next.dropped.take().is_none() {
            return Err(Refused::new(RefusedReason::NotDropped, "the table is not dropped"));
        }
        Ok(())
    }

    pub(super) fn raise_epoch(&mut self, epoch: u64) -> Result<(), Refused> {
        if epoch <= self.next.epoch {
            return Err(malformed(format!("epoch {epoch} is not above {}", self.next.epoch)));
        }
        self.next.epoch = epoch;
        Ok(())
    }
}

fn no_partition(partition: PartitionId) -> Refused {
    Refused::new(
        RefusedReason::UnknownPartition(partition),
        format!("the table has no partition {partition}"),
    )
}

fn check_settings(settings: &TableSettings) -> Result<(), Refused> {
    let refuse = |detail: &str| Err(Refused::new(RefusedReason::SettingsInvalid, detail));
    if settings.max_lateness_seconds.is_some() && settings.version_kind == VersionKind::Number {
        return refuse("max_lateness_seconds needs versions that are times, and version_kind is \"number\"");
    }
    if settings.ttl_seconds == Some(0) {
        return refuse("ttl_seconds is 0, so every row would be expired at once; leave it out for no ttl");
    }
    if matches!(&settings.key, Some(KeySchema::Parts(parts)) if parts.is_empty()) {
        return refuse("a typed key has at least one part");
    }
    Ok(())
}
