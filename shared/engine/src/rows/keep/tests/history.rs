//! Random small histories of one key: rows stream in, loads come, are reverted and sealed, settings change, and in
//! between random jobs apply [`Keeper`] to random inputs. After every step the reader's answers are those of
//! `nacre-model`, which drops nothing.

use super::super::*;
use super::bug::{Bug, Options};
use crate::rows::Floor;
use crate::rows::visible::{self, Candidate};
use nacre_model::{LateRule, LoadMode, LoadRow, LoadState, Model, Position, Settings};
use nacre_types::{Generation, Offset, Seq};
use std::fmt::Write as _;

mod check;

const KEY: &[u8] = b"k";

/// xorshift64*: the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

type Row = Candidate<u32>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Streamed rows, and rows of sealed loads that were merged with them; the flushed offsets, both ends included.
    Merged(Option<(u64, u64)>),
    Load(u64),
}

#[derive(Debug, Clone)]
struct Segment {
    layer: Layer,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    number: u64,
    begun: i64,
    rule: LateRule,
    mode: LoadMode,
    version: i64,
    lowest: i64,
    is_prepared: bool,
    is_sealed: bool,
    has_floor: bool,
}

pub(super) struct History {
    dice: Dice,
    /// What happens often.
    flavour: u64,
    options: Options,
    model: Model,
    time: i64,
    lateness: LateRule,
    log: Vec<Row>,
    offset: u64,
    segments: Vec<Segment>,
    loads: Vec<Load>,
    seq: u64,
    /// The oldest edition that a page token may still pin.
    oldest_edition: u64,
    payload: u32,
    story: String,
}

impl History {
    /// Runs one history; the error tells it.
    pub(super) fn run(seed: u64, options: Options) -> Result<(), String> {
        let mut dice = Dice(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        dice.below(2);
        let drawn = dice.below(4);
        let flavour = options.flavour.unwrap_or(drawn);
        let settings = Settings {
            max_versions: if flavour == 3 { 0 } else { [1, 1, 2, 3, 0][dice.below(5) as usize] },
            ttl: (flavour == 3 || dice.one_in(3)).then(|| 2 + dice.below(12) as i64),
        };
        let limit = match flavour {
            2 => Some(1 + dice.below(3) as i64),
            _ => dice.one_in(2).then(|| 1 + dice.below(6) as i64),
        };
        let story = format!("{settings:?}, max_lateness {limit:?}\n");
        let mut history = Self {
            dice,
            flavour,
            options,
            model: Model::new(settings),
            time: 20,
            lateness: LateRule { limit, late_below: None },
            log: Vec::new(),
            offset: 0,
            segments: Vec::new(),
            loads: Vec::new(),
            seq: 0,
            oldest_edition: 0,
            payload: 0,
            story,
        };
        let steps = 8 + history.dice.below(30);
        for _ in 0..steps {
            history.step();
            history.check().map_err(|difference| format!("{}{difference}", history.story))?;
        }
        Ok(())
    }

    fn has(&self, bug: Bug) -> bool {
        self.options.bug == Some(bug)
    }

    fn step(&mut self) {
        let weights = match self.flavour {
            0 => [2, 6, 3, 2, 1, 2, 1, 2, 4, 1, 1, 1],
            // Many loads, of which some seal.
            1 => [1, 2, 2, 5, 3, 6, 1, 6, 4, 1, 1, 6],
            // Time passes, things get late.
            2 => [5, 5, 4, 3, 1, 2, 1, 1, 6, 1, 1, 2],
            // Rows tie and expire, the ttl changes.
            _ => [3, 6, 5, 1, 1, 1, 1, 1, 4, 1, 4, 1],
        };
        let mut at = self.dice.below(weights.iter().sum());
        let step = weights.iter().position(|weight| {
            let is_it = at < *weight;
            at = at.wrapping_sub(*weight);
            is_it
        });
        match step.unwrap_or(0) {
            0 => {
                self.time += self.dice.below(4) as i64;
                let _ = writeln!(self.story, "time {}", self.time);
            }
            1 => self.stream(),
            2 => self.flush(),
            3 => self.begin(),
            4 => self.prepare(),
            5 => self.commit(),
            6 => self.revert(),
            7 => self.seal(),
            8 => self.compact(),
            9 => self.expire_segments(),
            10 => self.change_settings(),
            _ => self.let_tokens_go(),
        }
    }

    fn let_tokens_go(&mut self) {
        self.oldest_edition += self.dice.below(self.seq - self.oldest_edition + 1);
        self.forget();
        self.drop_floors();
    }

    fn new_value(&mut self) -> (u32, Option<i64>) {
        self.payload += 1;
        let odds = if self.flavour == 3 { 1 } else { 3 };
        let expires = self.dice.one_in(odds).then(|| self.time - 2 + self.dice.below(12) as i64);
        (self.payload, expires)
    }

    fn stream(&mut self) {
        for index in 0..1 + self.dice.below(2) as u32 {
            let spread = if self.flavour == 3 { 3 } else { 9 };
            let version = self.time + 2 - spread + self.dice.below(spread as u64) as i64;
            if self.lateness.refuses(version, self.time) {
                continue;
            }
            let (value, expires_at) = self.new_value();
            let is_gone = self.dice.one_in(if self.flavour == 3 { 9 } else { 3 });
            let position = Position { generation: 0, offset: self.offset, index };
            let place = Place::streamed(Generation(0), Offset(self.offset));
            let row = if is_gone {
                self.model.delete(KEY, version, position);
                Row { version, place, index, expires_at: None, value: None }
            } else {
                self.model.put(KEY, version, position, &value.to_le_bytes(), expires_at);
                Row { version, place, index, expires_at, value: Some(value) }
            };
            let _ = writeln!(self.story, "stream {row:?}");
            self.log.push(row);
        }
        self.offset += 1;
    }

    /// The first records of the uncovered log become a segment.
    fn flush(&mut self) {
        if self.log.is_empty() {
            return;
        }
        let at = self.dice.below(self.log.len() as u64) as usize;
        let last = self.log[at].place;
        let count = self.log.iter().take_while(|row| row.place <= last).count();
        let mut rows: Vec<Row> = self.log.drain(..count).collect();
        let (first, last) = (offset_of(rows[0].place), offset_of(last));
        visible::sort(&mut rows);
        for row in &mut rows {
            row.index = 0;
            if self.options.approximate {
                row.place = Place::streamed(Generation(0), Offset(first));
            }
        }
        let _ = writeln!(self.story, "flush {first}..={last}");
        let rows = self.keep(rows);
        self.segments.push(Segment { layer: Layer::Merged(Some((first, last))), rows });
    }

    fn begin(&mut self) {
        if self.loads.len() > 6 {
            return;
        }
        let mode = if self.dice.one_in(2) || self.flavour == 1 { LoadMode::Replace } else { LoadMode::Merge };
        let version = self.time - 7 + self.dice.below(9) as i64;
        if self.lateness.refuses(version, self.time) {
            return;
        }
        let number = self.loads.last().map_or(1, |load| load.number + 1);
        let load = Load {
            number,
            begun: self.time,
            rule: self.lateness,
            mode,
            version,
            lowest: i64::MAX,
            is_prepared: false,
            is_sealed: false,
            has_floor: mode == LoadMode::Replace,
        };
        let _ = writeln!(self.story, "begin {load:?}");
        self.loads.push(load);
        if self.dice.one_in(2) {
            self.prepare();
            if self.flavour == 1 {
                self.commit();
            }
        }
    }

    /// One of the loads, if one is as `wanted`.
    fn pick(&mut self, wanted: impl Fn(&Self, &Load) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.loads.len()).filter(|at| wanted(self, &self.loads[*at])).collect();
        (!found.is_empty()).then(|| found[self.dice.below(found.len() as u64) as usize])
    }

    fn prepare(&mut self) {
        let Some(at) = self.pick(|_, load| !load.is_prepared) else { return };
        let load = self.loads[at];
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..self.dice.below(4) {
            let version =
                if self.dice.one_in(2) { load.version } else { load.begun - 7 + self.dice.below(9) as i64 };
            if load.rule.refuses(version, load.begun) {
                continue;
            }
            let (value, expires_at) = self.new_value();
            let is_gone = self.dice.one_in(3);
            let value = (!is_gone).then_some(value);
            rows.push(Row { version, place: Place::MIN, index: 0, expires_at, value });
        }
        visible::sort(&mut rows);
        let for_model = rows.iter().map(|row| LoadRow {
            key: KEY.to_vec(),
            version: Some(row.version),
            value: row.value.map(|value| value.to_le_bytes().to_vec()),
            expires_at: row.expires_at,
        });
        self.model.prepare(load.number, load.mode, load.version, for_model);
        let _ = writeln!(self.story, "prepare {} {rows:?}", load.number);
        self.loads[at].is_prepared = true;
        self.loads[at].lowest = rows.last().map_or(i64::MAX, |row| row.version);
        // In one or two segments; rows that tie lie in one of them.
        let cut = self.dice.below(rows.len() as u64 + 1) as usize;
        let cut = rows
            .iter()
            .position(|row| rows.get(cut).is_some_and(|at| at.version == row.version))
            .unwrap_or(cut);
        let tail = rows.split_off(cut);
        for rows in [rows, tail] {
            if !rows.is_empty() {
                self.segments.push(Segment { layer: Layer::Load(load.number), rows });
            }
        }
    }

    fn state(&self, load: &Load) -> Option<LoadState> {
        self.model.load_state(load.number)
    }

    fn commit(&mut self) {
        let Some(at) = self.pick(|history, load| history.state(load) == Some(LoadState::Prepared)) else {
            return;
        };
        self.seq += 1;
        self.model.commit(self.loads[at].number, self.seq);
        let _ = writeln!(self.story, "commit {} by {}", self.loads[at].number, self.seq);
    }

    fn revert(&mut self) {
        let unsealed = |history: &Self, load: &Load| {
            matches!(history.state(load), Some(LoadState::Committed(_))) && !load.is_sealed
        };
        let Some(at) = self.pick(unsealed) else { return };
        self.seq += 1;
        self.model.revert(self.loads[at].number, self.seq);
        let _ = writeln!(self.story, "revert {} by {}", self.loads[at].number, self.seq);
    }

    fn seal(&mut self) {
        if self.flavour == 1 {
            self.let_tokens_go();
        }
        let ripe = |history: &Self, load: &Load| match history.state(load) {
            Some(LoadState::Committed(at)) => {
                !load.is_sealed && (at <= history.oldest_edition || history.has(Bug::SealsEarly))
            }
            _ => false,
        };
        let Some(at) = self.pick(ripe) else { return };
        self.loads[at].is_sealed = true;
        self.model.seal(self.loads[at].number);
        let _ = writeln!(self.story, "seal {}", self.loads[at].number);
    }

    /// Reverted loads that no page token can put back leave the table.
    fn forget(&mut self) {
        let gone: Vec<u64> = self
            .loads
            .iter()
            .filter(|load| matches!(self.state(load), Some(LoadState::Reverted(_, at)) if at <= self.oldest_edition))
            .map(|load| load.number)
            .collect();
        self.segments.retain(|segment| !matches!(segment.layer, Layer::Load(load) if gone.contains(&load)));
    }

    /// A sealed floor goes when a later sealed one covers it.
    fn drop_floors(&mut self) {
        for at in 0..self.loads.len() {
            let load = self.loads[at];
            let Some(LoadState::Committed(seq)) = self.state(&load) else { continue };
            let covered = load.is_sealed
                && self.loads.iter().any(|later| {
                    let own = later.lowest >= load.version || self.has(Bug::DropsFloors);
                    matches!(self.state(later), Some(LoadState::Committed(at)) if at > seq)
                        && (later.is_sealed && later.has_floor && later.version >= load.version && own)
                });
            if covered && load.has_floor {
                self.loads[at].has_floor = false;
                let _ = writeln!(self.story, "floor of {} goes", load.number);
            }
        }
    }

    fn is_sealed(&self, number: u64) -> bool {
        self.loads.iter().any(|load| load.number == number && load.is_sealed)
    }

    /// A random job: any of the segments without unsealed loads, or some of one load.
    fn compact(&mut self) {
        let of_one = self.pick(|_, load| load.is_prepared && !load.is_sealed);
        let one = if self.dice.one_in(4) { of_one.map(|at| self.loads[at].number) } else { None };
        let all = self.has(Bug::MixesUnsealed);
        let odds = 1 + self.dice.below(3);
        let mut inputs: Vec<usize> = Vec::new();
        for at in 0..self.segments.len() {
            let fits = match (self.segments[at].layer, one) {
                (Layer::Load(load), Some(one)) => load == one,
                (Layer::Merged(_), Some(_)) => false,
                (Layer::Merged(_), None) => true,
                (Layer::Load(load), None) => {
                    let committed = matches!(self.model.load_state(load), Some(LoadState::Committed(_)));
                    self.is_sealed(load) || (all && committed)
                }
            };
            if fits && (odds == 1 || !self.dice.one_in(odds)) {
                inputs.push(at);
            }
        }
        if self.options.approximate && one.is_none() {
            self.keep_neighbours(&mut inputs);
        }
        if inputs.is_empty() {
            return;
        }
        let _ = writeln!(self.story, "compact {inputs:?} of one load {one:?}");
        let mut rows = Vec::new();
        let mut range: Option<(u64, u64)> = None;
        let mut is_streamed = true;
        for at in inputs.iter().rev() {
            let segment = self.segments.remove(*at);
            match segment.layer {
                Layer::Load(load) => {
                    is_streamed = false;
                    let place = self.place_in_jobs(load);
                    rows.extend(segment.rows.into_iter().map(|row| Row { place, ..row }));
                }
                Layer::Merged(more) => {
                    is_streamed &= segment.rows.iter().all(|row| row.place.is_streamed());
                    rows.extend(segment.rows);
                    range = match (range, more) {
                        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                        (one, other) => one.or(other),
                    };
                }
            }
        }
        visible::sort(&mut rows);
        let mut rows = self.keep(rows);
        if let (true, true, Some((first, _))) = (self.options.approximate, is_streamed, range) {
            // Where all are streamed no rank is written: the segment's start stands for all of them.
            rows.iter_mut().for_each(|row| row.place = Place::streamed(Generation(0), Offset(first)));
        }
        let layer = one.map_or(Layer::Merged(range), Layer::Load);
        self.segments.push(Segment { layer, rows });
    }

    /// Leaves only inputs whose streamed positions have no other segment between them.
    fn keep_neighbours(&self, inputs: &mut Vec<usize>) {
        let range = |at: usize| match self.segments[at].layer {
            Layer::Merged(range) => range,
            Layer::Load(_) => None,
        };
        let mut taken: Option<(u64, u64)> = None;
        inputs.sort_by_key(|at| range(*at));
        inputs.retain(|at| {
            let (Some((first, last)), before) = (range(*at), taken) else { return true };
            let outside = |other: usize| {
                before.is_some_and(|(_, end)| range(other).is_some_and(|(a, _)| a > end && a < first))
            };
            if (0..self.segments.len()).any(outside) {
                return false;
            }
            taken = Some((before.map_or(first, |(start, _)| start), last));
            true
        });
        inputs.sort_unstable();
    }

    fn sealed_floors(&self) -> Floors {
        let unsealed_too = self.has(Bug::UnsealedFloorDrops);
        self.floors(None, None, |load| load.is_sealed || unsealed_too)
    }

    fn expiry(&self) -> Expiry {
        Expiry { ttl_micros: self.model.settings().ttl, expired_below: self.model.expired_below() }
    }

    /// Below this nothing arrives any more.
    fn late_below(&self, now: i64) -> Option<i64> {
        if self.has(Bug::IgnoresArrivals) {
            return Some(i64::MAX);
        }
        let bound = |rule: LateRule, time: i64| rule.limit.map(|limit| time - limit).max(rule.late_below);
        let mut below = bound(self.lateness, now)?;
        for load in self.loads.iter().filter(|load| !load.is_prepared && !self.has(Bug::IgnoresOpenLoads)) {
            below = below.min(bound(load.rule, load.begun)?);
        }
        Some(below + i64::from(self.has(Bug::LateByOne)))
    }

    fn oldest_outside(&self) -> Option<i64> {
        let segments = self.segments.iter().filter(|segment| {
            let state = match segment.layer {
                Layer::Load(load) => self.model.load_state(load),
                Layer::Merged(_) => None,
            };
            let ignored = match state {
                Some(LoadState::Prepared) => Bug::IgnoresPrepared,
                Some(LoadState::Reverted(..)) => Bug::IgnoresRestorable,
                _ => Bug::IgnoresOtherSegments,
            };
            !self.has(ignored)
        });
        let log = self.log.iter().filter(|_| !self.has(Bug::IgnoresLog));
        let younger = i64::from(self.has(Bug::OutsideByOne));
        segments.flat_map(|segment| &segment.rows).chain(log).map(|row| row.version + younger).min()
    }

    /// What a job leaves of its rows; its inputs are no longer among the segments.
    fn keep(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let floors = self.sealed_floors();
        let mut now = self.time - self.dice.below(3) as i64;
        if self.has(Bug::NowAhead) {
            now += 5;
        }
        let mut max_versions = self.model.settings().max_versions;
        if self.has(Bug::CountsWrong) && max_versions > 1 {
            max_versions -= 1;
        }
        let late_below = self.late_below(now);
        let context =
            KeepContext { sealed_floors: &floors, expiry: self.expiry(), max_versions, now, late_below };
        let mut keeper = Keeper::new(context);
        let mut kept: Vec<Row> = Vec::new();
        for row in rows {
            let is_gone = row.value.is_none();
            let expires_at = match self.has(Bug::TiesByTtl) {
                true => context.expiry.expires_at(row.version, row.expires_at),
                false => row.expires_at,
            };
            let mut verdict =
                keeper.judge(row.version, row.place, expires_at, is_gone, || self.oldest_outside());
            let is_tie =
                kept.last().is_some_and(|above| above.version == row.version && above.value.is_some());
            let of_tie = if is_gone { Bug::DropsTiedTombstones } else { Bug::DropsTiedPuts };
            let of_expired = !is_gone && verdict == Verdict::Bury;
            if (is_tie && self.has(of_tie)) || (of_expired && self.has(Bug::DropsExpired)) {
                verdict = Verdict::Drop;
            }
            let _ = writeln!(self.story, "    {verdict:?} {row:?}");
            match verdict {
                Verdict::Keep => kept.push(row),
                Verdict::Bury => kept.push(Row { value: None, expires_at: None, ..row }),
                Verdict::Drop => {}
            }
        }
        kept
    }

    /// Whole segments leave unread.
    fn expire_segments(&mut self) {
        let floors = self.sealed_floors();
        let now = self.time - self.dice.below(3) as i64;
        let late_below = self.late_below(now);
        let max_versions = self.model.settings().max_versions;
        let context =
            KeepContext { sealed_floors: &floors, expiry: self.expiry(), max_versions, now, late_below };
        let goes = |segment: &Segment| {
            let Some(newest) = segment.rows.first() else { return true };
            let of_load = match segment.layer {
                Layer::Merged(_) => None,
                Layer::Load(load) => Some(self.place_in_jobs(load)),
            };
            let places = || segment.rows.iter().map(|row| of_load.unwrap_or(row.place));
            let bounds = (places().min().unwrap_or(Place::MIN), places().max().unwrap_or(Place::MAX));
            whole_segment_goes(&context, newest.version, bounds)
        };
        let kept = self.segments.iter().filter(|segment| !goes(segment)).cloned().collect();
        self.segments = kept;
        let _ = writeln!(self.story, "expire segments, now {now}");
    }

    fn change_settings(&mut self) {
        match self.dice.below(3) {
            0 => {
                let lower = match self.model.settings().max_versions {
                    0 => 3,
                    n => 1.max(n - 1),
                };
                self.model.set_max_versions(lower);
            }
            1 => {
                let ttl = self.dice.one_in(2).then(|| 2 + self.dice.below(12) as i64);
                let time = if self.has(Bug::ForgetsOldTtl) { i64::MIN / 2 } else { self.time };
                self.model.set_ttl(ttl, time);
            }
            _ => {
                let limit = self.dice.one_in(2).then(|| 1 + self.dice.below(6) as i64);
                if let Some(old) = self.lateness.limit
                    && limit.is_none_or(|limit| limit > old)
                    && !self.has(Bug::ForgetsOldLimit)
                {
                    self.lateness.late_below = self.lateness.late_below.max(Some(self.time - old));
                }
                self.lateness.limit = limit;
            }
        }
        let settings = self.model.settings();
        let _ = writeln!(self.story, "{settings:?}, {:?}, {:?}", self.lateness, self.model.expired_below());
    }

    /// The floors that an edition has.
    fn floors(&self, edition: Option<u64>, preview: Option<u64>, wanted: impl Fn(&Load) -> bool) -> Floors {
        let counted = self.loads.iter().filter(|load| load.has_floor && wanted(load));
        counted
            .filter_map(|load| {
                Some(Floor { version: load.version, place: self.place(load.number, edition, preview)? })
            })
            .collect()
    }

    /// The place of a load's rows as a job must take it: a load that is not committed yet will be committed after every
    /// floor that there is.
    fn place_in_jobs(&self, load: u64) -> Place {
        match self.model.load_state(load) {
            Some(LoadState::Committed(seq) | LoadState::Reverted(seq, _)) => Place::loaded(Seq(seq)),
            _ if self.has(Bug::PlacesPreparedLow) => Place::MIN,
            _ => Place::loaded(Seq(1 << 40)),
        }
    }

    /// The place of a load's rows, if the edition counts it.
    fn place(&self, load: u64, edition: Option<u64>, preview: Option<u64>) -> Option<Place> {
        let edition = edition.unwrap_or(u64::MAX);
        match self.model.load_state(load)? {
            LoadState::Prepared => (preview == Some(load)).then(|| Place::loaded(Seq(1 << 40))),
            LoadState::Committed(at) => (at <= edition).then(|| Place::loaded(Seq(at))),
            LoadState::Reverted(at, until) => {
                (at <= edition && edition < until).then(|| Place::loaded(Seq(at)))
            }
        }
    }
}

fn offset_of(place: Place) -> u64 {
    match place.origin() {
        nacre_types::Origin::Streamed(_, offset) => offset.0,
        nacre_types::Origin::Loaded(seq) => seq.0,
    }
}
