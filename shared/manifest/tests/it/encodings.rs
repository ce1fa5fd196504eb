use crate::memory::measured;
use crate::support::*;
use bytes::Bytes;
use nacre_manifest::*;
use nacre_types::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::path::PathBuf;

fn arbitrary_segment() -> impl Strategy<Value = Segment> {
    let layer = prop_oneof![
        (0u64..9, 1u64..9).prop_map(|(from, more)| Layer::Streamed(span(from, from + more))),
        (0u128..3).prop_map(|load| Layer::Loaded(LoadId(load))),
        (1u64..9, 0u64..9).prop_map(|(low, more)| Layer::Mixed {
            streamed: (more > 4).then(|| span(low, low + more)),
            loads: (Seq(low), Seq(low + more)),
        }),
    ];
    let location = prop_oneof![
        (0u64..9).prop_map(|from| Location::Flush { partition: P0, from: Offset(from) }),
        any::<u128>().prop_map(|job| Location::Job(JobId(job))),
        ("[a-z/]{0,30}", "[a-z]{0,9}", option::of("[a-z]{0,9}"), "[a-z/]{0,30}").prop_map(
            |(path, tag, version_id, index_path)| Location::Adopted { path, tag, version_id, index_path }
        ),
    ];
    (any::<u128>(), "[a-c]{1,9}", "[a-z]{0,9}", layer, location, any::<i64>(), any::<bool>()).prop_map(
        |(id, key, more, layer, location, version, flag)| Segment {
            max_version: version.saturating_add(9),
            min_version: version,
            with_place: flag,
            max_expires_at: flag.then_some(version),
            ..segment(id, &key, &format!("{key}{more}"), layer, location)
        },
    )
}

fn arbitrary_settings() -> impl Strategy<Value = TableSettings> {
    let kinds = [
        KeyPartType::String,
        KeyPartType::Bytes,
        KeyPartType::Int64,
        KeyPartType::Uuid,
        KeyPartType::Date,
        KeyPartType::Timestamp,
    ];
    let parts = vec(("[a-z]{0,5}", prop::sample::select(kinds.to_vec())), 0..4).prop_map(|parts| {
        let parts: Vec<_> = parts.into_iter().map(|(name, kind)| KeyPart { name, kind }).collect();
        if parts.is_empty() { KeySchema::Bytes } else { KeySchema::Parts(parts) }
    });
    let consistency =
        prop::sample::select(vec![Consistency::Eventual, Consistency::Session, Consistency::Strong]);
    let numbers = (option::of(any::<u64>()), any::<u32>(), option::of(any::<u64>()), any::<u64>());
    (option::of(parts), numbers, any::<bool>(), consistency, option::of("[a-z/]{0,9}")).prop_map(
        |(key, (ttl_seconds, max_versions, max_lateness_seconds, undo), number, consistency, content)| {
            TableSettings {
                key,
                ttl_seconds,
                max_versions,
                version_kind: if number { VersionKind::Number } else { VersionKind::Time },
                max_lateness_seconds,
                consistency,
                undo_window_seconds: undo,
                value_content_type: content,
            }
        },
    )
}

fn arbitrary_shards() -> impl Strategy<Value = Vec<Shard>> {
    vec((any::<u32>(), "[a-z]{0,5}", any::<u32>(), any::<u16>()), 0..4).prop_map(|shards| {
        let shard = |(id, start, partition, generation): (u32, String, u32, u16)| Shard {
            id: ShardId(id),
            start: bytes(&start),
            partition: PartitionId(partition),
            generation: Generation(generation),
        };
        shards.into_iter().map(shard).collect()
    })
}

fn arbitrary_change() -> impl Strategy<Value = Change> {
    let drops = (any::<i64>(), any::<u64>(), option::of(any::<i64>()))
        .prop_map(|(now_micros, settings, late_below)| DropGuard { now_micros, settings, late_below });
    let segments = || vec(arbitrary_segment(), 0..5);
    let ids = vec(any::<u128>().prop_map(SegmentId), 0..5);
    let load = any::<u128>().prop_map(LoadId);
    let job = any::<u128>().prop_map(JobId);
    let text = "[a-zé]{0,9}";
    let modes = prop::sample::select(vec![LoadMode::Merge, LoadMode::Replace]);
    let goals = prop::sample::select(vec![LoadGoal::Prepare, LoadGoal::Commit]);
    let kinds = prop::sample::select(vec![JobKind::Compaction, JobKind::Expiry, JobKind::Erasure]);
    let offsets = vec((any::<u32>().prop_map(PartitionId), any::<u64>().prop_map(Offset)), 0..3);
    prop_oneof![
        (arbitrary_settings(), arbitrary_shards())
            .prop_map(|(settings, shards)| Change::CreateTable { settings, shards }),
        (arbitrary_settings(), any::<i64>(), offsets).prop_map(
            |(settings, log_time_micros, lateness_from)| {
                Change::SetSettings(SetSettings { settings, log_time_micros, lateness_from })
            }
        ),
        (any::<(u32, u16, u64, u64)>(), segments(), option::of(drops.clone())).prop_map(
            |((partition, generation, from, to), segments, drops)| Change::Flush(Flush {
                partition: PartitionId(partition),
                generation: Generation(generation),
                from: Offset(from),
                to: Offset(to),
                segments,
                drops,
            })
        ),
        (load.clone(), job.clone(), modes, any::<(Option<i64>, i64, Option<u128>, u128, Vec<u8>)>())
            .prop_map(|(load, job, mode, (version, begun_at_micros, idempotency, body_hash, body))| {
                let body = Bytes::from(body);
                Change::OpenLoad(OpenLoad {
                    load,
                    job,
                    mode,
                    version,
                    begun_at_micros,
                    idempotency,
                    body_hash,
                    body,
                })
            }),
        (load.clone(), text, goals).prop_map(|(load, files_path, goal)| Change::PinLoad {
            load,
            files_path,
            goal
        }),
        (load.clone(), job.clone(), segments(), any::<u64>(), option::of(text)).prop_map(
            |(load, job, segments, rows_hidden, report_path)| {
                Change::PrepareLoad(PrepareLoad { load, job, segments, rows_hidden, report_path })
            }
        ),
        (vec(any::<u8>(), 0..9), any::<u128>(), option::of(vec(any::<u64>().prop_map(Offset), 0..4)))
            .prop_map(|(declaration, topic, starts)| {
                Change::DeclareSource(DeclareSource { declaration: declaration.into(), topic, starts })
            }),
        vec(any::<u64>().prop_map(Offset), 0..4).prop_map(|starts| Change::GrowSource { starts }),
        Just(Change::RemoveSource),
        (load.clone(), any::<bool>()).prop_map(|(load, insist)| Change::CommitLoad { load, insist }),
        (load.clone(), text, option::of(text)).prop_map(|(load, reason, report_path)| Change::FailLoad {
            load,
            reason,
            report_path
        }),
        (load.clone(), text).prop_map(|(load, reason)| Change::CancelLoad { load, reason }),
        (load.clone(), text).prop_map(|(load, reason)| Change::RevertLoad { load, reason }),
        load.clone().prop_map(|load| Change::SealLoad { load }),
        load.clone().prop_map(|load| Change::ForgetLoad { load }),
        (job.clone(), kinds).prop_map(|(job, kind)| Change::OpenJob { job, kind }),
        job.clone().prop_map(|job| Change::CloseJob { job }),
        (job, ids.clone(), segments(), option::of(drops.clone())).prop_map(
            |(job, inputs, outputs, drops)| { Change::Compact(Compact { job, inputs, outputs, drops }) }
        ),
        (ids, drops).prop_map(|(segments, drops)| Change::Expire { segments, drops }),
        load.prop_map(|load| Change::DropFloor { load }),
        any::<(u32, u32, Vec<u8>)>().prop_map(|(shard, new, at)| {
            Change::SplitShard(SplitShard { shard: ShardId(shard), at: at.into(), new: ShardId(new) })
        }),
        Just(Change::DropTable),
        Just(Change::UndropTable),
        any::<u64>().prop_map(|epoch| Change::RaiseEpoch { epoch }),
    ]
}

/// With a checksum that fits, so that what comes after it is put to the test.
fn resealed(mut bytes: Vec<u8>) -> Bytes {
    let length = bytes.len().saturating_sub(4);
    bytes.truncate(length);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.into()
}

fn broken(bytes: &Bytes, breaks: &[(prop::sample::Index, u8)]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (at, byte) in breaks {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    resealed(bytes)
}

/// What decoding may hold at most: keys and strings that a block's records share are written out, each within its
/// limit.
fn bound(length: usize) -> isize {
    (400 * length + 65_536) as isize
}

fn read_edit(bytes: &Bytes) {
    let (decoded, _, peak) = measured(|| Edit::decode(bytes));
    assert!(peak <= bound(bytes.len()), "{peak} bytes held for {}", bytes.len());
    if let Ok(edit) = decoded {
        assert_eq!(Edit::decode(&edit.encode()).unwrap(), edit);
        let table = sample_table();
        let _ = table.apply(table.seq().next(), &edit);
        let _ = Manifest::empty(TABLE).apply(Seq(1), &edit);
    }
}

fn read_manifest(bytes: &Bytes) {
    let (decoded, _, peak) = measured(|| Manifest::decode(bytes));
    assert!(peak <= bound(bytes.len()), "{peak} bytes held for {}", bytes.len());
    if let Ok(manifest) = decoded {
        let _ = manifest.check();
        assert!(Manifest::decode(&manifest.encode()).unwrap() == manifest);
        for key in [&b"a"[..], b"", b"zzzz"] {
            for segment in manifest.segments_for_key(key) {
                manifest.current().base_place(&segment);
                segment.to_segment();
            }
        }
        let (_, _, _) = (manifest.rows(), manifest.bytes(), manifest.late_drop_limit(NOW));
        let _ = manifest.at_edition(Seq(3));
        for change in sample_edit().changes {
            let _ = manifest.apply(manifest.seq().next(), &Edit::one(change, NOW));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn edits_come_back_as_they_were(changes in vec(arbitrary_change(), 0..6), at_micros in any::<i64>()) {
        let edit = Edit { changes, at_micros };
        prop_assert_eq!(Edit::decode(&edit.encode()).unwrap(), edit);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        read_edit(&bytes.clone().into());
        read_manifest(&bytes.clone().into());
        let versioned = [vec![1], bytes, vec![0; 4]].concat();
        read_edit(&resealed(versioned.clone()));
        read_manifest(&resealed(versioned));
    }

    #[test]
    fn broken_edits_never_panic(
        changes in vec(arbitrary_change(), 1..4),
        breaks in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = Edit { changes, at_micros: NOW }.encode();
        prop_assert!(Edit::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
        read_edit(&broken(&bytes, &breaks));
    }

    #[test]
    fn broken_snapshots_never_panic(
        breaks in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = sample_table().encode();
        prop_assert!(Manifest::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
        read_manifest(&broken(&bytes, &breaks));
    }
}

#[test]
fn a_flipped_bit_is_corruption() {
    let bytes = sample_edit().encode();
    for at in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 4;
        assert_eq!(Edit::decode(&flipped.into()).unwrap_err().code(), "edit-corrupt");
    }
    let mut flipped = sample_table().encode().to_vec();
    flipped[40] ^= 1;
    assert_eq!(Manifest::decode(&flipped.into()).unwrap_err().code(), "manifest-corrupt");
}

#[test]
fn what_a_newer_program_wrote_says_so() {
    let version = |bytes: Bytes| {
        let mut bytes = bytes.to_vec();
        bytes[0] = 3;
        resealed(bytes)
    };
    assert_eq!(Edit::decode(&version(sample_edit().encode())).unwrap_err().code(), "newer-format");
    assert_eq!(Manifest::decode(&version(sample_table().encode())).unwrap_err().code(), "newer-format");
    // A change of kind 99, two bytes long, in an edit at moment 0.
    let unknown = resealed(vec![1, 0, 1, 99, 2, 7, 7, 0, 0, 0, 0]);
    let error = Edit::decode(&unknown).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "newer-format"));
    assert!(error.detail().contains("99"));
}

#[test]
fn snapshots_of_one_state_are_the_same_bytes() {
    // Grown by many edits, and opened from a snapshot: different trees.
    let mut table = Table::new();
    for number in 0..400u64 {
        let name = format!("{:03}", (number * 37) % 400);
        let span = span(number, number + 1);
        let change = flush(number, number + 1, vec![flushed(u128::from(number) + 1, &name, &name, span)]);
        table.manifest = table.try_all(vec![change]).unwrap();
    }
    table.manifest.check().unwrap();
    let bytes = table.manifest.encode();
    assert_eq!(Manifest::decode(&bytes).unwrap().encode(), bytes);
}

/// One change of every kind.
fn sample_edit() -> Edit {
    let settings = TableSettings {
        key: Some(KeySchema::Parts(vec![KeyPart { name: "day".into(), kind: KeyPartType::Date }])),
        ttl_seconds: Some(86_400),
        max_versions: 3,
        max_lateness_seconds: Some(7_200),
        consistency: Consistency::Strong,
        value_content_type: Some("application/json".into()),
        ..TableSettings::default()
    };
    let load = LoadId(0x10AD);
    let adopted = Segment {
        location: Location::Adopted {
            path: "staging/x/part-1.parquet".into(),
            tag: "\"etag\"".into(),
            version_id: Some("v1".into()),
            index_path: index_path(TABLE, JobId(job_of(0x10AD)), SegmentId(2)),
        },
        ..by_job(2, "key-1", "key-5", Layer::Loaded(load), job_of(0x10AD))
    };
    let merged = Segment {
        with_place: true,
        max_expires_at: Some(NOW + 5),
        tombstones: 2,
        ..by_job(
            3,
            "key-1",
            "key-9",
            Layer::Mixed { streamed: Some(span(0, 7)), loads: (Seq(3), Seq(5)) },
            50,
        )
    };
    let reason = "because".to_owned();
    let changes = vec![
        Change::CreateTable { settings: settings.clone(), shards: vec![Shard::whole(P0)] },
        Change::SetSettings(SetSettings {
            settings,
            log_time_micros: NOW,
            lateness_from: vec![(P0, Offset(5))],
        }),
        Change::Flush(Flush {
            partition: P0,
            generation: Generation(0),
            from: Offset(0),
            to: Offset(7),
            segments: vec![flushed(1, "key-0", "key-9", span(0, 7))],
            drops: Some(DropGuard { now_micros: NOW, settings: 1, late_below: Some(NOW - 9) }),
        }),
        open_load(0x10AD, LoadMode::Replace, NOW),
        pin(0x10AD),
        prepare(0x10AD, vec![adopted]),
        commit(0x10AD),
        Change::FailLoad { load, reason: reason.clone(), report_path: Some("report".into()) },
        Change::CancelLoad { load, reason: reason.clone() },
        Change::RevertLoad { load, reason },
        Change::SealLoad { load },
        Change::ForgetLoad { load },
        Change::OpenJob { job: JobId(50), kind: JobKind::Compaction },
        Change::CloseJob { job: JobId(50) },
        compact(50, &[1, 2], vec![merged]),
        Change::Expire { segments: vec![SegmentId(1)], drops: drops() },
        Change::DropFloor { load },
        Change::SplitShard(SplitShard { shard: ShardId(0), at: bytes("m"), new: ShardId(1) }),
        Change::DropTable,
        Change::UndropTable,
        Change::RaiseEpoch { epoch: 2 },
    ];
    Edit { changes, at_micros: NOW }
}

/// A table with something of everything.
fn sample_table() -> Manifest {
    let settings = TableSettings { ttl_seconds: Some(86_400), ..TableSettings::default() };
    let mut table = Table::with(settings);
    table.apply(flush(0, 7, vec![flushed(1, "key-0", "key-9", span(0, 7))]));
    table.commit(1, LoadMode::Replace, 150, &[("key-1", "key-3"), ("key-4", "key-8")]);
    table.seal(1);
    table.commit(2, LoadMode::Merge, 160, &[("key-2", "key-7")]);
    table.commit(3, LoadMode::Replace, 170, &[("key-2", "key-7")]);
    table.apply(Change::RevertLoad { load: LoadId(3), reason: "wrong day".into() });
    table.prepare(4, LoadMode::Merge, 160, &[("key-5", "key-6")]);
    table.open_load(5, LoadMode::Merge, 1);
    table.apply(Change::FailLoad { load: LoadId(5), reason: "no files".into(), report_path: None });
    table.open_job(50);
    let seq = table.load(1).commit.unwrap();
    let mixed = Segment {
        with_place: true,
        tombstones: 1,
        ..by_job(9, "key-0", "key-9", Layer::Mixed { streamed: Some(span(0, 7)), loads: (seq, seq) }, 50)
    };
    table.apply(compact(50, &[1, 1000, 1001], vec![mixed]));
    table.apply(flush(7, 9, vec![flushed(10, "key-3", "key-30", span(7, 9))]));
    table.apply(Change::SplitShard(SplitShard { shard: ShardId(0), at: bytes("m"), new: ShardId(1) }));
    table.apply(Change::SetSettings(SetSettings {
        settings: TableSettings { max_lateness_seconds: Some(3_600), ..TableSettings::default() },
        log_time_micros: NOW,
        lateness_from: vec![(P0, Offset(12))],
    }));
    table.apply(Change::RaiseEpoch { epoch: 1 });
    table.manifest
}

/// The checked-in bytes; where there are none they are written, and the test fails once.
fn golden(name: &str, bytes: &Bytes) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    match std::fs::read(&path) {
        Ok(golden) => golden.into(),
        Err(_) => {
            std::fs::write(&path, bytes).unwrap();
            panic!("{} was missing and is written now: look at it and check it in", path.display());
        }
    }
}

#[test]
fn edits_of_version_1_stay_readable() {
    let edit = sample_edit();
    let golden = golden("edit-v1.bin", &edit.encode());
    assert_eq!(Edit::decode(&golden).unwrap(), edit);
    assert_eq!(edit.encode(), golden);
}

#[test]
fn edits_about_sources_stay_readable() {
    let changes = vec![
        crate::sources::declare(0x70, Some(&[5, 1 << 40])),
        crate::sources::declare(0x70, None),
        Change::GrowSource { starts: vec![Offset(7)] },
        crate::sources::applied(0, 5, 9, 1),
        Change::RemoveSource,
    ];
    let edit = Edit { changes, at_micros: NOW };
    let golden = golden("edit-v1-source.bin", &edit.encode());
    assert_eq!(Edit::decode(&golden).unwrap(), edit);
    assert_eq!(edit.encode(), golden);
}

#[test]
fn snapshots_of_version_2_stay_readable() {
    let mut table = Table::new();
    table.apply(crate::sources::declare(0x70, Some(&[5, 0])));
    table.apply(crate::sources::applied(0, 5, 9, 1));
    table.apply(crate::sources::declare(0x71, Some(&[3])));
    let golden = golden("snapshot-v2.bin", &table.manifest.encode());
    let decoded = Manifest::decode(&golden).unwrap();
    decoded.check().unwrap();
    assert_eq!(decoded, table.manifest);
    assert_eq!(golden[0], 2, "a program that knows no sources stops there");
    assert_eq!(Table::new().manifest.encode()[0], 1, "and reads every other table");
}

#[test]
fn snapshots_of_version_1_stay_readable() {
    let manifest = sample_table();
    let golden = golden("snapshot-v1.bin", &manifest.encode());
    let decoded = Manifest::decode(&golden).unwrap();
    decoded.check().unwrap();
    assert_eq!(decoded, manifest);
    assert_eq!(manifest.encode(), golden);
}
