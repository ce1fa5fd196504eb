use crate::support::*;
use nacre_manifest::*;
use nacre_types::*;

fn set(settings: TableSettings) -> Change {
    let lateness_from = settings.max_lateness_seconds.map(|_| (P0, Offset(5))).into_iter().collect();
    Change::SetSettings(SetSettings { settings, log_time_micros: NOW, lateness_from })
}

fn drop_all(id: u128, drops: DropGuard) -> Change {
    Change::Compact(Compact {
        job: JobId(50),
        inputs: vec![SegmentId(id)],
        outputs: vec![],
        drops: Some(drops),
    })
}

#[test]
fn edits_come_in_order() {
    let table = Table::new();
    let edit = Edit::one(Change::DropTable, NOW);
    for seq in [0, 1, 3] {
        assert_eq!(
            table.manifest.apply(Seq(seq), &edit).unwrap_err().reason,
            RefusedReason::WrongSeq { expected: Seq(2) }
        );
    }
    let nothing = Edit { changes: vec![], at_micros: NOW };
    assert_eq!(table.manifest.apply(Seq(2), &nothing).unwrap_err().reason, RefusedReason::Malformed);
}

#[test]
fn a_table_is_created_once_and_first() {
    let empty = Manifest::empty(TABLE);
    let early = Edit::one(flush(0, 1, vec![]), NOW);
    assert_eq!(empty.apply(Seq(1), &early).unwrap_err().reason, RefusedReason::NoTable);
    assert!(empty.shard_of(b"a").is_none() && !empty.is_created());
    let create = |shards| Change::CreateTable { settings: TableSettings::default(), shards };
    assert_eq!(Table::new().refused(create(vec![Shard::whole(P0)])), RefusedReason::TableExists);
    let second = Shard { id: ShardId(0), start: bytes("m"), ..Shard::whole(P0) };
    for wrong in [vec![], vec![second.clone()], vec![Shard::whole(P0), second]] {
        let edit = Edit::one(create(wrong), NOW);
        assert_eq!(empty.apply(Seq(1), &edit).unwrap_err().reason, RefusedReason::Malformed);
    }
}

#[test]
fn a_refused_change_leaves_the_others_undone() {
    let table = Table::new();
    let before = table.manifest.clone();
    table.refused_all(vec![flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]), flush(0, 10, vec![])]);
    assert_eq!(table.manifest, before);
}

#[test]
fn a_dropped_table_is_flushed_and_undropped() {
    let mut table = Table::new();
    table.open_load(1, LoadMode::Merge, 1);
    table.apply(Change::DropTable);
    assert!(table.manifest.dropped().is_some());
    table.apply(flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]));
    assert_eq!(table.refused(open_load(2, LoadMode::Merge, 1)), RefusedReason::TableDropped);
    assert_eq!(table.refused(set(TableSettings::default())), RefusedReason::TableDropped);
    assert_eq!(table.refused(Change::DropTable), RefusedReason::TableDropped);
    table.apply(Change::CancelLoad { load: LoadId(1), reason: "dropped".into() });
    table.apply(Change::UndropTable);
    assert_eq!(table.refused(Change::UndropTable), RefusedReason::NotDropped);
    assert_eq!(table.manifest.rows(), 10);
}

#[test]
fn shards_split_and_keep_their_partition() {
    let mut table = Table::new();
    let split = |shard, at: &str, new| {
        Change::SplitShard(SplitShard { shard: ShardId(shard), at: bytes(at), new: ShardId(new) })
    };
    assert_eq!(table.refused(split(0, "", 1)), RefusedReason::ShardChanged);
    assert_eq!(table.refused(split(0, "m", 2)), RefusedReason::ShardChanged);
    assert_eq!(table.refused(split(5, "m", 1)), RefusedReason::ShardChanged);
    table.apply(split(0, "m", 1));
    assert_eq!(table.refused(split(0, "m", 2)), RefusedReason::ShardChanged);
    assert_eq!(table.refused(split(1, "m", 2)), RefusedReason::ShardChanged);
    table.apply(split(0, "f", 2));
    let shards: Vec<_> = table.manifest.shards().iter().map(|shard| (shard.id.0, &shard.start[..])).collect();
    assert_eq!(shards, [(0, &b""[..]), (2, b"f"), (1, b"m")]);
    assert!(table.manifest.shards().iter().all(|shard| shard.partition == P0));
    for (key, shard) in [("", 0), ("e", 0), ("f", 2), ("lzz", 2), ("m", 1), ("zz", 1)] {
        assert_eq!(table.manifest.shard_of(key.as_bytes()).unwrap().id, ShardId(shard), "{key}");
    }
    let range = table.manifest.shard_range(ShardId(2)).unwrap();
    assert_eq!((range.start, range.end), (bytes("f"), Some(bytes("m"))));
    // A segment may serve two shards.
    table.apply(flush(0, 10, vec![flushed(1, "a", "z", span(0, 10))]));
}

#[test]
fn max_versions_is_only_lowered() {
    let with = |max_versions| TableSettings { max_versions, ..TableSettings::default() };
    let mut table = Table::with(with(0));
    table.apply(set(with(5)));
    for higher in [0, 6] {
        assert_eq!(table.refused(set(with(higher))), RefusedReason::SettingsInvalid);
    }
    table.apply(set(with(5)));
    table.apply(set(with(1)));
    assert_eq!((table.manifest.settings_number(), table.manifest.settings().max_versions), (4, 1));
}

#[test]
fn keys_and_versions_keep_their_kind() {
    let mut table = Table::new();
    let number = TableSettings { version_kind: VersionKind::Number, ..TableSettings::default() };
    assert_eq!(table.refused(set(number)), RefusedReason::SettingsInvalid);
    let parts = KeySchema::Parts(vec![KeyPart { name: "a".into(), kind: KeyPartType::Uuid }]);
    let typed = TableSettings { key: Some(parts), ..TableSettings::default() };
    let plain = TableSettings { key: Some(KeySchema::Bytes), ..TableSettings::default() };
    assert!(table.try_all(vec![set(typed.clone())]).is_ok());
    table.apply(flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]));
    assert_eq!(table.refused(set(typed.clone())), RefusedReason::SettingsInvalid);
    table.apply(set(plain));
    assert_eq!(table.refused(set(typed)), RefusedReason::SettingsInvalid);
    let late = TableSettings {
        max_lateness_seconds: Some(1),
        version_kind: VersionKind::Number,
        ..TableSettings::default()
    };
    let create = Edit::one(Change::CreateTable { settings: late, shards: vec![Shard::whole(P0)] }, NOW);
    assert_eq!(
        Manifest::empty(TABLE).apply(Seq(1), &create).unwrap_err().reason,
        RefusedReason::SettingsInvalid
    );
}

#[test]
fn a_changed_ttl_leaves_what_had_expired_expired() {
    let with = |ttl_seconds| TableSettings { ttl_seconds, ..TableSettings::default() };
    let mut table = Table::with(with(Some(10)));
    assert_eq!(table.manifest.expired_below(), i64::MIN);
    table.apply(set(with(Some(20))));
    assert_eq!(table.manifest.expired_below(), NOW - 10_000_000);
    table.apply(set(with(Some(5))));
    assert_eq!(table.manifest.expired_below(), NOW - 10_000_000);
    table.apply(flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]));
    table.open_job(50);
    let number = table.manifest.settings_number();
    table.apply(drop_all(1, DropGuard { now_micros: NOW + 1_000_000, settings: number, late_below: None }));
    table.apply(set(with(None)));
    assert_eq!(table.manifest.expired_below(), NOW + 1_000_000 - 5_000_000);
}

#[test]
fn lateness_holds_from_the_offsets_that_its_edit_names() {
    let with = |max_lateness_seconds| TableSettings { max_lateness_seconds, ..TableSettings::default() };
    let mut table = Table::with(with(None));
    assert_eq!(table.manifest.late_drop_limit(NOW), None);
    let nameless = Change::SetSettings(SetSettings {
        settings: with(Some(3600)),
        log_time_micros: NOW,
        lateness_from: vec![],
    });
    assert_eq!(table.refused(nameless), RefusedReason::Malformed);
    table.apply(set(with(Some(3600))));
    assert_eq!(table.manifest.lateness_from(P0), Offset(5));
    assert_eq!(table.manifest.late_drop_limit(NOW), None);
    table.apply(flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]));
    let limit = NOW - 3_600_000_000 - 10 * MINUTE;
    assert_eq!(table.manifest.late_drop_limit(NOW), Some(limit));
    // A load under way keeps what may still arrive with it.
    table.open_load(1, LoadMode::Merge, 1);
    assert_eq!(table.manifest.late_drop_limit(NOW), Some(limit));
    assert_eq!(table.manifest.late_drop_limit(NOW + 3_600_000_000), Some(NOW - 3_600_000_000));
    table.open_job(50);
    let guard = |late_below| DropGuard { now_micros: NOW, settings: 2, late_below: Some(late_below) };
    assert_eq!(table.refused(drop_all(1, guard(limit + 1))), RefusedReason::SettingsChanged);
    table.apply(drop_all(1, guard(limit)));
    // Raised: what was below stays refused.
    table.apply(set(with(Some(7200))));
    assert_eq!(table.manifest.late_below(), NOW - 3_600_000_000);
    // Lowered: nothing to remember.
    table.apply(set(with(Some(60))));
    assert_eq!(table.manifest.late_below(), NOW - 3_600_000_000);
}

#[test]
fn lateness_whose_offsets_are_not_known_yet_drops_nothing() {
    let settings = |seconds| TableSettings { max_lateness_seconds: seconds, ..TableSettings::default() };
    let change = |seconds, offset| {
        Change::SetSettings(SetSettings {
            settings: settings(Some(seconds)),
            log_time_micros: NOW,
            lateness_from: vec![(P0, offset)],
        })
    };
    let mut table = Table::new();
    table.apply(change(60, SetSettings::NOT_YET));
    table.apply(flush(0, 10, vec![]));
    assert!(table.manifest.lateness_is_pending());
    assert_eq!(table.manifest.late_drop_limit(NOW), None);
    // Raised meanwhile: still not known.
    table.apply(change(90, Offset(0)));
    assert!(table.manifest.lateness_is_pending());
    table.apply(change(90, Offset(12)));
    assert!(!table.manifest.lateness_is_pending());
    assert_eq!(table.manifest.late_drop_limit(NOW), None, "rows before the offset are not covered");
    table.apply(flush(10, 12, vec![]));
    assert_eq!(table.manifest.late_drop_limit(NOW), Some(NOW - 90_000_000 - 10 * MINUTE));
    assert_eq!(table.refused(change(90, Offset(3))), RefusedReason::Malformed, "said once");
    let elsewhere = Change::SetSettings(SetSettings {
        settings: settings(Some(90)),
        log_time_micros: NOW,
        lateness_from: vec![(PartitionId(9), Offset(1))],
    });
    assert_eq!(table.refused(elsewhere), RefusedReason::UnknownPartition(PartitionId(9)));
}

#[test]
fn a_load_that_began_under_no_lateness_keeps_every_tombstone() {
    let mut table = Table::new();
    table.open_load(1, LoadMode::Merge, 1);
    table.apply(set(TableSettings { max_lateness_seconds: Some(60), ..TableSettings::default() }));
    table.apply(flush(0, 10, vec![]));
    assert_eq!(table.manifest.late_drop_limit(NOW), None);
    table.apply(Change::CancelLoad { load: LoadId(1), reason: "no".into() });
    assert!(table.manifest.late_drop_limit(NOW).is_some());
}

#[test]
fn no_load_brings_rows_older_than_tombstones_that_lateness_dropped() {
    let late = TableSettings { max_lateness_seconds: Some(60), ..TableSettings::default() };
    let mut table = Table::with(late);
    table.apply(flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]));
    table.open_job(50);
    let now_micros = NOW + 3_600_000_000;
    let late_below = table.manifest.late_drop_limit(now_micros).unwrap();
    table.apply(drop_all(1, DropGuard { now_micros, settings: 1, late_below: Some(late_below) }));
    assert_eq!(table.refused(open_load(1, LoadMode::Merge, 1)), RefusedReason::BegunTooEarly);
    let Change::OpenLoad(open) = open_load(1, LoadMode::Merge, 1) else { unreachable!() };
    table.apply(Change::OpenLoad(OpenLoad { begun_at_micros: now_micros, ..open }));
    assert_eq!(table.load(1).lateness_micros, Some(60_000_000));
}

#[test]
fn the_epoch_only_rises() {
    let mut table = Table::new();
    table.apply(Change::RaiseEpoch { epoch: 3 });
    assert_eq!(table.manifest.epoch(), 3);
    assert_eq!(table.refused(Change::RaiseEpoch { epoch: 3 }), RefusedReason::Malformed);
}

#[test]
fn refusals_become_errors_that_say_what_to_do() {
    let table = Table::new();
    let refused = table.try_all(vec![flush(3, 4, vec![])]).unwrap_err();
    let error = Error::from(refused);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "flush-not-covered"));
    let error = Error::from(table.try_all(vec![commit(1)]).unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "load-not-found"));
}
