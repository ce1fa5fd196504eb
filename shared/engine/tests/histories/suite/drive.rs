//! Does the operations of a history, to the engine and to the model.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use nacre_engine::{
    BeginLoad, Built, FlushMode, Guards, LoadColumnNames, LoadMode, LoadReport, LoadVersion, OnDuplicate,
    ReadOptions, RowOutcome, RowPlace, SegmentSink, WriteOptions, WriteRow,
};
use nacre_manifest::{Layer, LoadState as Stored, Location};
use nacre_model::{LoadRow, Model, Position, Settings};
use nacre_segment::{SegmentRow, WriterSettings};
use nacre_types::{Consistency, Error, ErrorKind, Key, LoadId, PartitionId, Seq, TableSettings};

use super::ops::{History, KEYS, MINUTE, Op, Rng, Row, VERSIONS, version};
use super::pairs::{Feature, Met};
use super::world::{Process, World};

pub type Outcome<T = ()> = Result<T, String>;

/// A load that the history has begun.
pub struct Known {
    pub id: LoadId,
    pub number: u64,
    pub replace: bool,
    pub v: i64,
    pub rows: Vec<LoadRow>,
    pub state: Stored,
    pub sealed: bool,
    pub insist: bool,
}

pub struct Driver {
    pub world: World,
    pub slots: [Option<Process>; 2],
    pub model: Model,
    pub settings: TableSettings,
    pub loads: Vec<Known>,
    /// Every edition and when it began.
    pub editions: Vec<(Seq, i64)>,
    pub met: Met,
    /// Where every streamed row lies that the model knows.
    placed: HashSet<(PartitionId, u64, u32)>,
    /// Per key what was streamed, for the table of pairs: version and whether a tombstone.
    streamed: BTreeMap<u8, Vec<(i64, bool)>>,
    values: u64,
    acted: [bool; 2],
    any_sealed: bool,
    /// The newest state that was told to the model.
    told: Seq,
}

/// A record that may or may not be in the log.
struct Doubt {
    partition: PartitionId,
    rows: Vec<(Row, Option<Vec<u8>>)>,
}

pub fn is(error: &Error, kinds: &[ErrorKind]) -> bool {
    kinds.contains(&error.kind())
}

/// The versions below which a loader takes no rows.
fn late_below(load: &nacre_manifest::Load, manifest: &nacre_manifest::Manifest) -> i64 {
    let of_begin = load.lateness_micros.map_or(i64::MIN, |limit| load.begun_at_micros - limit);
    of_begin.max(manifest.late_below())
}

fn expiry(row: &Row) -> Option<i64> {
    row.expires.map(|number| version(number) + 1)
}

impl Driver {
    pub fn new(history: &History) -> Self {
        let settings = history.setup.settings();
        let model = Model::new(Settings { max_versions: settings.max_versions, ttl: settings.ttl_micros() });
        let mut met = Met::default();
        match settings.max_versions {
            0 => met.add(Feature::AllVersions),
            1 => met.add(Feature::OneVersion),
            _ => met.add(Feature::ThreeVersions),
        }
        if settings.ttl_seconds.is_some() {
            met.add(Feature::Ttl);
        }
        if history.setup.split {
            met.add(Feature::Partitions);
        }
        Self {
            world: World::new(history.setup.clone()),
            slots: [None, None],
            model,
            settings,
            loads: Vec::new(),
            editions: vec![(Seq(1), i64::MIN)],
            met,
            placed: HashSet::new(),
            streamed: BTreeMap::new(),
            values: 0,
            acted: [false; 2],
            any_sealed: false,
            told: Seq(1),
        }
    }

    pub async fn run(&mut self, history: &History) -> Outcome {
        self.open(0).await?;
        for (at, step) in history.steps.iter().enumerate() {
            self.step(usize::from(step.slot), &step.op)
                .await
                .map_err(|why| format!("step {at}, {step:?}:\n    {why}"))?;
        }
        for slot in 0..2 {
            if let Some(process) = self.slots[slot].take() {
                process.close().await?;
            }
        }
        Ok(())
    }

    async fn open(&mut self, slot: usize) -> Outcome {
        let process = self.world.open(slot).await.map_err(|e| format!("a process does not start: {e}"))?;
        self.slots[slot] = Some(process);
        Ok(())
    }

    fn process(&mut self, slot: usize) -> &mut Process {
        self.slots[slot].as_mut().expect("opened before the operation")
    }

    async fn step(&mut self, slot: usize, op: &Op) -> Outcome {
        if self.slots[slot].is_none() {
            self.open(slot).await?;
        }
        match op {
            Op::Pass { micros } => {
                self.world.clock.pass(*micros);
                return Ok(());
            }
            Op::Check { seed } => return self.check_all(&mut Rng(*seed)).await,
            Op::Arm { writes, last_lands } => {
                self.process(slot).gate.arm(u64::from(*writes), *last_lands);
                return Ok(());
            }
            Op::Restart => {
                self.met.add(Feature::Restart);
                if let Some(process) = self.slots[slot].take() {
                    process.gate.disarm();
                    process.close().await?;
                }
                return self.open(slot).await;
            }
            Op::Crash => {
                self.met.add(Feature::Crash);
                self.process(slot).gate.die();
                return self.open(slot).await;
            }
            _ => {}
        }
        self.acted[slot] = true;
        if self.acted == [true, true] {
            self.met.add(Feature::TwoNodes);
        }
        let doubts = self.act(slot, op).await?;
        if let Some(other) = &mut self.slots[1 - slot] {
            other.fresh = false;
        }
        let process = self.process(slot);
        if process.gate.is_dead() {
            self.met.add(Feature::CrashMidway);
            // Whatever still runs of it meets a closed gate.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.open(slot).await?;
            for doubt in doubts {
                self.resolve(slot, doubt).await?;
            }
        } else {
            process.gate.disarm();
            // Trimmed under an appender that is far behind: the one Unknown without a death.
            let may_lag = self.world.setup.trims && self.slots[1 - slot].is_some();
            if !may_lag && !doubts.is_empty() {
                return Err("a write was answered unknown, and nothing had died".to_owned());
            }
            for doubt in doubts {
                self.resolve(slot, doubt).await?;
            }
        }
        let about = match op {
            Op::Load { .. } => self.loads.last().map(|load| load.id),
            _ => None,
        };
        let seq = self.process(slot).table.manifest().seq();
        if seq < self.told {
            // It is behind, so it did nothing to the table.
            return Ok(());
        }
        self.told = seq;
        self.sync_loads(slot, about, op)?;
        self.sync_settings(slot).await
    }

    async fn act(&mut self, slot: usize, op: &Op) -> Outcome<Vec<Doubt>> {
        match op {
            Op::Write { rows } => return self.write(slot, rows).await,
            Op::Load { replace, v, rows, segments, insist, commit, pages } => {
                let load = Planned {
                    replace: *replace,
                    v: version(*v),
                    segments: *segments,
                    insist: *insist,
                    commit: *commit,
                    pages: *pages,
                };
                self.load(slot, load, rows).await?;
            }
            Op::Commit { which } => {
                if let Some(at) = self.pick(*which, |load| load.state == Stored::Prepared) {
                    self.commit(slot, at).await?;
                }
            }
            Op::Cancel { which } => {
                if let Some(at) = self.pick(*which, |load| load.state == Stored::Prepared) {
                    let id = self.loads[at].id;
                    let done = self.process(slot).table.clone().cancel_load(id).await;
                    if self.expect(slot, done.map(drop), "cancel")? {
                        self.met.add(Feature::Cancelled);
                    }
                }
            }
            Op::Revert { which } => {
                let fits = |load: &Known| load.state == Stored::Committed;
                if let Some(at) = self.pick(*which, fits) {
                    let (id, sealed) = (self.loads[at].id, self.loads[at].sealed);
                    let done = self.process(slot).table.clone().revert_load(id).await;
                    if sealed {
                        match done {
                            Err(error) if error.code() == "load-sealed" => {}
                            Err(_) if self.process(slot).gate.is_dead() => {}
                            other => return Err(format!("the revert of a sealed load answered {other:?}")),
                        }
                    } else if self.expect(slot, done.map(drop), "revert")? {
                        self.met.add(Feature::Revert);
                    }
                }
            }
            Op::Tidy => {
                let done = self.process(slot).table.clone().tidy_loads().await;
                // A process that is behind proposes what has been done meanwhile.
                self.tolerate(slot, done.map(drop), "tidy")?;
            }
            Op::Flush { all } => {
                for partition in 0..if self.world.setup.split { 2 } else { 1 } {
                    let mode = if *all { FlushMode::All } else { FlushMode::Due };
                    let node = self.process(slot).node.clone();
                    let before: u64 = self.process(slot).table.info().tail_rows;
                    let done = node.flush(PartitionId(partition), mode).await;
                    if let Ok(report) = &done {
                        if report.rows_carried > 0 {
                            self.met.add(Feature::Carried);
                        }
                        if report.tables_flushed > 0 {
                            self.met.add(Feature::Flush);
                            if report.rows_flushed < before && !self.world.setup.split {
                                self.met.add(Feature::Dropped);
                            }
                            if self.any_sealed {
                                self.met.add(Feature::FlushAfterSeal);
                            }
                        }
                        if self.world.setup.trims && report.through.0 > 0 {
                            self.met.add(Feature::Trim);
                        }
                    }
                    self.expect(slot, done.map(drop), "flush")?;
                }
            }
            Op::Compact => {
                let done = self.process(slot).table.clone().compact_once().await;
                if let Ok(Some(report)) = &done {
                    self.met.add(Feature::Compaction);
                    if report.rows_out < report.rows_in {
                        self.met.add(Feature::Dropped);
                    }
                }
                self.tolerate(slot, done.map(drop), "compaction")?;
            }
            Op::Collect => {
                let done = self.process(slot).table.clone().collect_garbage().await;
                if done.as_ref().is_ok_and(|report| report.collected > 0) {
                    self.met.add(Feature::Collected);
                }
                self.expect(slot, done.map(drop), "collection")?;
            }
            Op::Lateness { seconds } => {
                let next = TableSettings { max_lateness_seconds: *seconds, ..self.settings.clone() };
                self.set(slot, next).await?;
            }
            Op::Settle => {
                for wait in [Duration::ZERO, Duration::from_secs(601)] {
                    tokio::time::sleep(wait).await;
                    let done = self.process(slot).table.clone().settle_lateness().await;
                    self.tolerate(slot, done.map(drop), "settling of the lateness")?;
                }
            }
            Op::Settings { lower, ttl_seconds } => {
                let mut next = self.settings.clone();
                next.ttl_seconds = *ttl_seconds;
                if *lower {
                    next.max_versions = match next.max_versions {
                        0 => 3,
                        n => n.min(2),
                    };
                }
                self.set(slot, next).await?;
            }
            _ => unreachable!("done by step"),
        }
        if self.process(slot).table.manifest().late_dropped_below() > i64::MIN {
            self.met.add(Feature::DroppedLate);
        }
        Ok(Vec::new())
    }

    async fn set(&mut self, slot: usize, next: TableSettings) -> Outcome {
        let node = self.process(slot).node.clone();
        let namespace = nacre_types::NamespaceName::new("default").expect("a name");
        let name = nacre_types::TableName::new("t").expect("a name");
        let done = node.update_table(&namespace, &name, move |_| Ok(next.clone())).await;
        if self.expect(slot, done.map(drop), "change of settings")? {
            self.met.add(Feature::SettingsChanged);
        }
        Ok(())
    }

    /// `Ok(true)` where it was done. A process that died may answer anything.
    fn expect(&mut self, slot: usize, done: nacre_types::Result<()>, what: &str) -> Outcome<bool> {
        match done {
            Ok(()) => Ok(true),
            Err(_) if self.process(slot).gate.is_dead() => Ok(false),
            Err(error) => Err(format!("the {what} failed: {error:?}")),
        }
    }

    /// As [`Driver::expect`]; where the process was behind, a refusal is fine too.
    fn tolerate(&mut self, slot: usize, done: nacre_types::Result<()>, what: &str) -> Outcome<bool> {
        match done {
            Err(error) if !self.process(slot).fresh && is(&error, &[ErrorKind::Conflict]) => Ok(false),
            other => self.expect(slot, other, what),
        }
    }

    fn pick(&self, which: u8, fits: impl Fn(&Known) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.loads.len()).filter(|at| fits(&self.loads[*at])).collect();
        // The newest is the most interesting one.
        let from_end = usize::from(which) % fitting.len().max(1);
        fitting.iter().rev().nth(from_end).copied()
    }

    fn value(&mut self, put: bool) -> Option<Vec<u8>> {
        self.values += 1;
        put.then(|| format!("v{}{}", self.values, "x".repeat((self.values % 7) as usize)).into_bytes())
    }

    async fn write(&mut self, slot: usize, rows: &[Row]) -> Outcome<Vec<Doubt>> {
        let rows: Vec<(Row, Option<Vec<u8>>)> = rows.iter().map(|row| (*row, self.value(row.put))).collect();
        let wanted = rows
            .iter()
            .map(|(row, value)| WriteRow {
                key: Key::new(Bytes::from_static(KEYS[usize::from(row.key)])).expect("a key"),
                value: value.clone().map(Bytes::from),
                version: row.version.map(version),
                expires_at: expiry(row).filter(|_| row.put),
            })
            .collect();
        let table = self.process(slot).table.clone();
        let manifest = table.manifest();
        let limit = manifest.settings().max_lateness_seconds.map(|seconds| seconds as i64 * 1_000_000);
        let now = self.process(slot).ctx.clock.now_micros();
        let late_below = limit.map_or(i64::MIN, |limit| now - limit).max(manifest.late_below());
        let written = match table.write(wanted, &WriteOptions::default()).await {
            Ok(written) => written,
            Err(_) if self.process(slot).gate.is_dead() => return Ok(Vec::new()),
            Err(error) => return Err(format!("the write failed: {error:?}")),
        };
        let mut doubts: Vec<Doubt> = Vec::new();
        let mut index: BTreeMap<PartitionId, u32> = BTreeMap::new();
        if rows.len() > 1 {
            self.met.add(Feature::Batch);
        }
        for ((row, value), outcome) in rows.into_iter().zip(written.outcomes) {
            let shard = manifest.shard_of(KEYS[usize::from(row.key)]).ok_or("no shard")?;
            let partition = shard.partition;
            let is_late = row.version.is_some_and(|number| self::version(number) < late_below);
            match outcome {
                RowOutcome::Failed(error) if error.code() == "version-late" && is_late => {
                    self.met.add(Feature::RefusedLate);
                }
                RowOutcome::Ok { .. } if is_late => return Err("a late row was taken".to_owned()),
                RowOutcome::Ok { version } => {
                    let version = version.ok_or("a process with the tail does not know a version")?;
                    let next = written.token.positions.iter().find(|(p, _)| *p == partition);
                    let offset = next.ok_or("the token lacks a partition that was written")?.1.0 - 1;
                    let at = index.entry(partition).or_default();
                    self.note_row(&row, version, value, partition, offset, *at);
                    *at += 1;
                }
                RowOutcome::Failed(error) if error.kind() == ErrorKind::Unknown => {
                    match doubts.iter_mut().find(|doubt| doubt.partition == partition) {
                        Some(doubt) => doubt.rows.push((row, value)),
                        None => doubts.push(Doubt { partition, rows: vec![(row, value)] }),
                    }
                }
                RowOutcome::Failed(_) if self.process(slot).gate.is_dead() => {}
                RowOutcome::Failed(error) => return Err(format!("a row was refused: {error:?}")),
            }
        }
        Ok(doubts)
    }

    fn note_row(
        &mut self,
        row: &Row,
        version: i64,
        value: Option<Vec<u8>>,
        partition: PartitionId,
        offset: u64,
        index: u32,
    ) {
        let key = KEYS[usize::from(row.key)];
        let position = Position { generation: 0, offset, index };
        self.placed.insert((partition, offset, index));
        match &value {
            Some(value) => self.model.put(key, version, position, value, expiry(row)),
            None => self.model.delete(key, version, position),
        }
        if row.version.is_none() {
            self.met.add(Feature::Unversioned);
        }
        if row.put && row.expires.is_some() {
            self.met.add(Feature::OwnExpiry);
        }
        if !row.put {
            self.met.add(Feature::Tombstone);
        }
        let held = self.streamed.entry(row.key).or_default();
        if held.iter().any(|(other, _)| *other == version) {
            self.met.add(Feature::Tie);
        }
        if held.iter().any(|(other, gone)| *gone && *other > version) {
            self.met.add(Feature::LateUnderTombstone);
        }
        held.push((version, !row.put));
        let under = |load: &Known| load.replace && load.state == Stored::Committed && version < load.v;
        if self.loads.iter().any(under) {
            self.met.add(Feature::LateUnderFloor);
        }
        let ties = |load: &Known| {
            load.rows.iter().any(|other| other.key == key && other.version.unwrap_or(load.v) == version)
        };
        if self.loads.iter().any(ties) {
            self.met.add(Feature::LoadTie);
        }
    }

    /// Finds out whether a record of a dead process is in the log: a row at a place that nobody knows is one of it.
    async fn resolve(&mut self, slot: usize, doubt: Doubt) -> Outcome {
        let options =
            ReadOptions { consistency: Some(Consistency::Strong), ..ReadOptions::at(self.world.now()) };
        let table = self.process(slot).table.clone();
        let mut found: Option<u64> = None;
        let mut versions: BTreeMap<u32, i64> = BTreeMap::new();
        let keys: HashSet<u8> = doubt.rows.iter().map(|(row, _)| row.key).collect();
        for key in keys {
            let explained = table
                .explain(KEYS[usize::from(key)], &options)
                .await
                .map_err(|e| format!("explain after a crash: {e:?}"))?;
            for row in explained.rows {
                let RowPlace::Tail { partition, offset, index } = row.place else { continue };
                if partition != doubt.partition || self.placed.contains(&(partition, offset.0, index)) {
                    continue;
                }
                if found.is_some_and(|held| held != offset.0) {
                    return Err("rows of two records that nobody wrote".to_owned());
                }
                found = Some(offset.0);
                versions.insert(index, row.version);
            }
        }
        let Some(offset) = found else { return Ok(()) };
        for (index, (row, value)) in (0u32..).zip(doubt.rows) {
            let Some(version) = versions.get(&index) else {
                return Err(format!("row {index} of a record is not there, others of it are"));
            };
            self.note_row(&row, *version, value, doubt.partition, offset, index);
        }
        Ok(())
    }
}

/// A load that is to be made.
struct Planned {
    replace: bool,
    v: i64,
    segments: u8,
    insist: bool,
    commit: bool,
    pages: u8,
}

impl Driver {
    async fn load(&mut self, slot: usize, plan: Planned, rows: &[Row]) -> Outcome {
        let mut rows: Vec<LoadRow> = rows
            .iter()
            .map(|row| LoadRow {
                key: KEYS[usize::from(row.key)].to_vec(),
                version: row.version.map(version),
                value: self.value(row.put),
                expires_at: expiry(row).filter(|_| row.put),
            })
            .collect();
        // In the order of a file; rows that tie keep theirs.
        let rank = |row: &LoadRow| (row.key.clone(), std::cmp::Reverse(row.version.unwrap_or(plan.v)));
        rows.sort_by_key(rank);
        let columns = rows.iter().any(|row| row.version.is_some()).then(|| LoadColumnNames {
            key: vec!["key".to_owned()],
            value: None,
            pack: None,
            version: Some("version".to_owned()),
            expires_at: None,
            delete: None,
        });
        let request = BeginLoad {
            mode: if plan.replace { LoadMode::Replace } else { LoadMode::Merge },
            version: Some(LoadVersion::At(plan.v)),
            source: None,
            columns,
            guards: Guards { allow_older: plan.insist, ..Guards::default() },
            on_duplicate: OnDuplicate::Any,
        };
        let process = self.process(slot);
        let (table, ctx) = (process.table.clone(), process.ctx.clone());
        let prepared = async {
            let info = table.begin_load(&request, Bytes::from_static(b"{}"), None).await?.into_inner();
            table.prepare_load(info.id, Some(Vec::new()), None).await?;
            let load = table.manifest().load(info.id).cloned().ok_or_else(|| Error::internal("no load"))?;
            let mut segments = Vec::new();
            for number in 0..plan.segments {
                // One key and version stays in one file: nothing says which of two files is the first.
                let of_this = |row: &&LoadRow| {
                    let sum = row.key.iter().map(|byte| u64::from(*byte)).sum::<u64>()
                        + row.version.unwrap_or(plan.v) as u64 / 600_000_000;
                    sum % u64::from(plan.segments) == u64::from(number)
                };
                let mut built: Vec<Built> = Vec::new();
                let mut emit = |segment: Built| {
                    built.push(segment);
                    Ok(())
                };
                let settings = WriterSettings {
                    rows_per_page: u32::from(plan.pages),
                    rows_per_group: u32::from(plan.pages) * 2,
                    ..WriterSettings::default()
                };
                let mut sink = SegmentSink::new(&*ctx.ids, settings, 1 << 20, &mut emit);
                let late_below = late_below(&load, &table.manifest());
                let is_kept = |row: &&LoadRow| row.version.unwrap_or(plan.v) >= late_below && of_this(row);
                for row in rows.iter().filter(is_kept) {
                    sink.push(&SegmentRow {
                        key: &row.key,
                        version: row.version.unwrap_or(plan.v),
                        place: None,
                        expires_at: row.expires_at,
                        value: row.value.as_deref(),
                    })?;
                }
                sink.finish()?;
                for built in built {
                    let segment = built.to_segment(Location::Job(load.job), Layer::Loaded(load.id), true);
                    table.put_load_segment(&segment, &built).await?;
                    segments.push(segment);
                }
            }
            table.finish_prepare(&load, segments, 0, &LoadReport::default(), None).await?;
            Ok::<_, Error>(load.id)
        };
        // Remembered before it is begun: a process that dies half way may have prepared it.
        let before: HashSet<LoadId> = table.manifest().loads().map(|load| load.id).collect();
        let prepared = prepared.await;
        let mut bound = i64::MIN;
        let id = match prepared {
            Ok(id) => {
                let manifest = table.manifest();
                bound = manifest.load(id).map_or(bound, |load| late_below(load, &manifest));
                id
            }
            Err(_) if self.process(slot).gate.is_dead() => {
                // The one that is new is it, if it came so far.
                let mut fresh = self.world.open(slot).await.map_err(|e| format!("no start: {e}"))?;
                fresh.freshen(self.world.now()).await.map_err(|e| format!("{e:?}"))?;
                let known = |id: &LoadId| before.contains(id) || self.loads.iter().any(|load| load.id == *id);
                let manifest = fresh.table.manifest();
                let new = manifest.loads().map(|load| load.id).find(|id| !known(id));
                if let Some(load) = new.and_then(|id| manifest.load(id)) {
                    bound = late_below(load, &manifest);
                }
                fresh.close().await?;
                match new {
                    Some(id) => id,
                    None => return Ok(()),
                }
            }
            Err(error) => return Err(format!("the load was not prepared: {error:?}")),
        };
        // As a loader does, only that it would fail the load.
        rows.retain(|row| row.version.unwrap_or(plan.v) >= bound);
        self.note_load(&plan, &rows);
        self.loads.push(Known {
            id,
            number: self.loads.len() as u64 + 1,
            replace: plan.replace,
            v: plan.v,
            rows,
            state: Stored::Open,
            sealed: false,
            insist: plan.insist,
        });
        if self.process(slot).gate.is_dead() {
            return Ok(());
        }
        if plan.commit { self.commit(slot, self.loads.len() - 1).await } else { Ok(()) }
    }

    fn note_load(&mut self, plan: &Planned, rows: &[LoadRow]) {
        let mut add = |feature, is: bool| {
            if is {
                self.met.add(feature);
            }
        };
        let of = |row: &LoadRow| row.version.unwrap_or(plan.v);
        add(Feature::Replace, plan.replace);
        add(Feature::Merge, !plan.replace);
        let own = rows.iter().any(|row| of(row) != plan.v);
        add(Feature::MergeOwnVersions, !plan.replace && own);
        add(Feature::RowBelowOwnV, plan.replace && rows.iter().any(|row| of(row) < plan.v));
        add(Feature::LoadTombstone, rows.iter().any(|row| row.value.is_none()));
        add(Feature::OwnExpiry, rows.iter().any(|row| row.expires_at.is_some()));
        let twice = rows.windows(2).any(|pair| pair[0].key == pair[1].key && of(&pair[0]) == of(&pair[1]));
        add(Feature::RowTwiceInLoad, twice);
        add(Feature::Prepared, !plan.commit);
        let floors = || self.loads.iter().filter(|load| load.replace && load.state == Stored::Committed);
        add(Feature::RepeatedV, plan.replace && floors().any(|load| load.v == plan.v));
        add(Feature::BelowFloor, plan.replace && plan.insist && floors().any(|load| load.v > plan.v));
        let ties = rows.iter().any(|row| {
            let key = KEYS.iter().position(|key| *key == row.key).unwrap_or(0) as u8;
            self.streamed.get(&key).is_some_and(|held| held.iter().any(|(other, _)| *other == of(row)))
                || self.loads.iter().any(|load| {
                    load.rows
                        .iter()
                        .any(|other| other.key == row.key && other.version.unwrap_or(load.v) == of(row))
                })
        });
        add(Feature::LoadTie, ties);
    }

    async fn commit(&mut self, slot: usize, at: usize) -> Outcome {
        let id = self.loads[at].id;
        let table = self.process(slot).table.clone();
        let done = table.commit_load(id, None, None).await;
        if self.process(slot).gate.is_dead() {
            return Ok(());
        }
        let load = &self.loads[at];
        let floors = self.loads.iter().filter(|other| other.replace && other.state == Stored::Committed);
        let refused = load.replace && !load.insist && floors.clone().any(|other| other.v > load.v);
        match done {
            Ok(_) if refused => Err("a replace below a floor was committed without insisting".to_owned()),
            Ok(_) => Ok(()),
            Err(error) if refused && error.code() == "load-below-floor" => Ok(()),
            // Eight unsealed loads, the oldest of them too young.
            Err(error) if error.kind() == ErrorKind::Throttled && self.unsealed() >= 8 => Ok(()),
            Err(error) => Err(format!("the commit failed: {error:?}")),
        }
    }

    fn unsealed(&self) -> usize {
        self.loads.iter().filter(|load| load.state == Stored::Committed && !load.sealed).count()
    }

    /// Tells the model what became of loads. Which of them an operation may change is checked.
    fn sync_loads(&mut self, slot: usize, about: Option<LoadId>, op: &Op) -> Outcome {
        let table = self.process(slot).table.clone();
        let manifest = table.manifest();
        let now = self.world.now();
        let moves = matches!(op, Op::Load { .. } | Op::Commit { .. } | Op::Cancel { .. } | Op::Revert { .. });
        let seals = moves || matches!(op, Op::Tidy);
        for known in &mut self.loads {
            let Some(load) = manifest.load(known.id) else {
                if about == Some(known.id) || known.state == Stored::Open {
                    continue;
                }
                // A process that is behind.
                return Err(format!("load {} is not known any more", known.id));
            };
            let (state, sealed) = (load.state, load.sealed);
            if state != known.state && !moves {
                return Err(format!("{op:?} made load {} {state:?}", known.id));
            }
            let was_hidden = matches!(known.state, Stored::Open | Stored::Pinned);
            if was_hidden && matches!(state, Stored::Prepared | Stored::Committed) {
                let mode = match known.replace {
                    true => nacre_model::LoadMode::Replace,
                    false => nacre_model::LoadMode::Merge,
                };
                self.model.prepare(known.number, mode, known.v, known.rows.iter().cloned());
            }
            if known.state != Stored::Committed && state == Stored::Committed {
                let seq = load.commit.ok_or("a committed load without a commit")?;
                self.model.commit(known.number, seq.0);
                self.editions.push((seq, now));
            }
            if known.state != Stored::Reverted && state == Stored::Reverted {
                let seq = load.reverted.ok_or("a reverted load without a revert")?;
                self.model.revert(known.number, seq.0);
                self.editions.push((seq, now));
            }
            known.state = state;
            if sealed && !known.sealed {
                if !seals {
                    return Err(format!("{op:?} sealed load {}", known.id));
                }
                let committed = load.committed_at_micros.unwrap_or(i64::MAX);
                if now - committed < 14 * MINUTE {
                    return Err(format!("load {} was sealed too young", known.id));
                }
                self.model.seal(known.number);
                known.sealed = true;
                self.any_sealed = true;
                self.met.add(Feature::Seal);
            }
        }
        Ok(())
    }

    async fn sync_settings(&mut self, slot: usize) -> Outcome {
        let manifest = self.process(slot).table.manifest();
        let settings = manifest.settings();
        if *settings == self.settings {
            return Ok(());
        }
        let (old, new) = (self.settings.ttl_micros(), settings.ttl_micros());
        if old != new {
            let mut time = self.world.now();
            if let Some(old) = old {
                let expected = time - old;
                let held = manifest.expired_below();
                let before = self.model.expired_below().unwrap_or(i64::MIN);
                if held < before || (held - expected.max(before)).abs() > MINUTE {
                    return Err(format!("expired_below is {held}, expected about {expected}"));
                }
                time = held + old;
            }
            self.model.set_ttl(new, time);
            if new.is_some() {
                self.met.add(Feature::Ttl);
            }
        }
        let lateness = |settings: &TableSettings| settings.max_lateness_seconds.unwrap_or(u64::MAX);
        if lateness(settings) > lateness(&self.settings) && manifest.late_below() == i64::MIN {
            return Err("a limit was raised, and nothing stays refused".to_owned());
        }
        if settings.max_versions != self.settings.max_versions {
            self.model.set_max_versions(settings.max_versions);
        }
        self.settings = settings.clone();
        Ok(())
    }
}

const _: () = assert!(VERSIONS == 10);
