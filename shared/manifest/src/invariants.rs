//! What must always hold.

use crate::{Layer, Load, LoadState, Location, Manifest, Segment, Totals};
use hashbrown::HashMap;
use nacre_types::{Error, LoadId, Result};

pub(crate) fn check(manifest: &Manifest) -> Result<()> {
    let found = check_shards(manifest)
        .and_then(|()| check_loads(manifest))
        .and_then(|()| check_floors(manifest))
        .and_then(|()| manifest.segments.check())
        .and_then(|()| check_segments(manifest));
    found.map_err(|what| {
        Error::corrupt(format!("manifest of table {} at {}: {what}", manifest.table, manifest.seq))
            .with_code("manifest-invariant")
    })
}

fn check_shards(manifest: &Manifest) -> Result<(), String> {
    if manifest.is_created() != manifest.shards.first().is_some_and(|shard| shard.start.is_empty()) {
        return Err("the first shard does not begin with the empty key".into());
    }
    for pair in manifest.shards.windows(2) {
        if let [left, right] = pair
            && left.start >= right.start
        {
            return Err(format!("shards {} and {} are out of order", left.id, right.id));
        }
    }
    if let Some(source) = manifest.source() {
        let slots = manifest.source_covered.len();
        let known =
            |at: &nacre_types::PartitionId| crate::source::slot_of(*at).is_some_and(|slot| slot < slots);
        if let Some(lost) = source.partitions.iter().find(|partition| !known(partition)) {
            return Err(format!("partition {lost} of the source has no offset"));
        }
    }
    for shard in manifest.shards.iter() {
        if shard.id >= manifest.next_shard {
            return Err(format!("shard {} is not below the next id {}", shard.id, manifest.next_shard));
        }
        if !manifest.covered.contains_key(&shard.partition) {
            return Err(format!(
                "shard {} is on partition {}, which has no offset",
                shard.id, shard.partition
            ));
        }
    }
    if manifest.drops_since > manifest.settings_number {
        return Err("ttl and lateness changed after the last change of settings".into());
    }
    Ok(())
}

fn check_loads(manifest: &Manifest) -> Result<(), String> {
    let mut seen = HashMap::new();
    for load in manifest.loads() {
        if seen.insert(load.id, ()).is_some() {
            return Err(format!("load {} is there twice", load.id));
        }
        check_load(manifest, load).map_err(|what| format!("load {}: {what}", load.id))?;
    }
    Ok(())
}

fn check_load(manifest: &Manifest, load: &Load) -> Result<(), String> {
    let committed = matches!(load.state, LoadState::Committed | LoadState::Reverted);
    if load.commit.is_some() != committed || load.committed_at_micros.is_some() != committed {
        return Err(format!("it is {} and has commit {:?}", load.state.name(), load.commit));
    }
    let reverted = load.state == LoadState::Reverted;
    if load.reverted.is_some() != reverted || load.reverted_at_micros.is_some() != reverted {
        return Err(format!("it is {} and has revert {:?}", load.state.name(), load.reverted));
    }
    if load.sealed && load.state != LoadState::Committed {
        return Err(format!("it is sealed and {}", load.state.name()));
    }
    if load.sealed && load.commit > Some(manifest.restorable_from) {
        return Err("it is sealed, and editions from before it can be restored".into());
    }
    if load.commit > Some(manifest.edition) || load.reverted > Some(manifest.edition) {
        return Err(format!("it was committed or reverted behind edition {}", manifest.edition));
    }
    if (load.live.segments > 0) && (load.keys.is_none() || load.lowest_version.is_none()) {
        return Err("it has segments and no range of keys".into());
    }
    Ok(())
}

fn check_floors(manifest: &Manifest) -> Result<(), String> {
    if !manifest.floors.is_sorted_by(|a, b| a.commit < b.commit) {
        return Err("floors are out of order".into());
    }
    for floor in manifest.floors.iter() {
        let fits = match manifest.load(floor.load) {
            Some(load) => load.state == LoadState::Committed && load.floor(floor.commit) == Some(*floor),
            None => floor.sealed,
        };
        if !fits {
            return Err(format!("the floor of load {} is not that of its load", floor.load));
        }
    }
    for load in manifest.loads().filter(|load| load.is_unsealed()) {
        let has_floor = manifest.floors.iter().any(|floor| floor.load == load.id);
        if load.commit.and_then(|commit| load.floor(commit)).is_some() != has_floor {
            return Err(format!("the unsealed load {} lacks its floor, or has one too many", load.id));
        }
    }
    Ok(())
}

fn check_segments(manifest: &Manifest) -> Result<(), String> {
    let mut live: HashMap<LoadId, Totals> = HashMap::new();
    for segment in manifest.segments() {
        check_segment(manifest, &segment.to_segment())
            .map_err(|what| format!("segment {}: {what}", segment.id()))?;
        if let Some(load) = segment.layer().load() {
            let totals = live.entry(load).or_default();
            totals.segments += 1;
            totals.rows = totals.rows.saturating_add(segment.rows());
            totals.bytes = totals.bytes.saturating_add(segment.bytes());
        }
    }
    for load in manifest.loads() {
        let counted = live.get(&load.id).copied().unwrap_or_default();
        if counted != load.live {
            return Err(format!(
                "load {} says that {:?} of it stand alone, and {counted:?} do",
                load.id, load.live
            ));
        }
    }
    Ok(())
}

fn check_segment(manifest: &Manifest, segment: &Segment) -> Result<(), String> {
    if let Some(span) = segment.layer.streamed()
        && span.to > manifest.covered(span.partition)
    {
        return Err(format!("its rows reach {}, and partition {} is covered below", span.to, span.partition));
    }
    match segment.layer {
        Layer::Loaded(id) => {
            let load = manifest.load(id).ok_or_else(|| format!("its load {id} is not there"))?;
            let has_layer =
                matches!(load.state, LoadState::Prepared | LoadState::Committed | LoadState::Reverted);
            let inside = load
                .keys
                .as_ref()
                .is_some_and(|(min, max)| *min <= segment.min_key && segment.max_key <= *max);
            if !has_layer || !inside {
                return Err(format!(
                    "load {id} is {}, or it lies outside the load's keys",
                    load.state.name()
                ));
            }
        }
        Layer::Mixed { loads: (_, high), .. } if high > manifest.restorable_from => {
            return Err(format!("it holds rows of the load committed by {high}, which is not sealed"));
        }
        Layer::Mixed { .. } | Layer::Streamed(_) => {}
    }
    match (&segment.location, segment.layer) {
        (Location::Flush { .. }, Layer::Streamed(_)) | (Location::Job(_), _) => Ok(()),
        (Location::Adopted { .. }, Layer::Loaded(_)) => Ok(()),
        (location, layer) => Err(format!("{layer:?} does not lie at {location:?}")),
    }
}
