//! Results in the store: found by a listing, read, and put once.
//!
//! A listing that misses a result costs work: whoever does the unit again puts its result under the same name, and
//! learns that there is one. An object that does not decode is passed over: the next name of the same step is taken, and
//! everybody who reads passes over it in the same way.

use std::collections::HashSet;

use futures::StreamExt;
use nacre_store::{GetOptions, ObjectPath, PutMode, PutOutcome};
use nacre_types::{Error, ErrorKind, Result};

use super::Job;
use super::facts::{Cuts, Fact, Looked, MergeStep, Plan, ReadStep, Step, decode, encode};
use super::planner::{Picture, Stage, Unit, Work, picture};

/// Results that are read at once.
const READ_AT_ONCE: usize = 16;
const LIST_PAGE: usize = 1_000;
/// Names of one step: that so many objects are damaged is no accident.
const NAMES: u32 = 16;
/// How often a put is tried whose outcome is unknown.
const PUT_TRIES: u32 = 3;

/// Whose result it is that counts.
pub(super) enum Put<T> {
    Ours,
    Theirs(T),
}

/// Steps, and where the first of them begins.
type Steps<S> = (String, Vec<S>);

/// What was found out of a unit.
enum Found {
    Plan(Plan),
    Looked(u128, Looked),
    Read(u128, Steps<ReadStep>),
    Cuts(u128, Cuts),
    Merged(u128, Steps<MergeStep>),
}

impl Job<'_> {
    /// The load as this process knows it.
    pub(super) fn picture(&self) -> Result<Picture> {
        let list = self.load.files_path.as_deref().unwrap_or_default();
        picture(list, &self.pinned.files, &self.facts.lock())
    }

    /// Reads what others have put meanwhile, as far as it matters.
    pub(super) async fn gather(&self) -> Result<Picture> {
        let names = self.list().await?;
        loop {
            let picture = self.picture()?;
            let Stage::Units(open) = &picture.stage else { return Ok(picture) };
            let follow = |unit: Unit| async { self.follow(&{ unit }, &names).await };
            let mut follows =
                futures::stream::iter(open.clone().into_iter().map(follow)).buffer_unordered(READ_AT_ONCE);
            let mut any = false;
            while let Some(found) = follows.next().await {
                if let Some(found) = found? {
                    any = true;
                    self.take_in(found);
                }
            }
            drop(follows);
            if !any {
                return Ok(picture);
            }
        }
    }

    async fn list(&self) -> Result<HashSet<String>> {
        let prefix = format!("{}/", self.path("units")?);
        let mut names = HashSet::new();
        let mut after: Option<ObjectPath> = None;
        loop {
            let page = self.table.store().list(&prefix, after.as_ref(), LIST_PAGE).await?;
            let count = page.len();
            after = page.last().map(|meta| meta.path.clone());
            names.extend(page.into_iter().map(|meta| meta.path.as_str().to_owned()));
            if count < LIST_PAGE {
                return Ok(names);
            }
        }
    }

    fn path(&self, name: &str) -> Result<ObjectPath> {
        ObjectPath::new(&format!("tables/{}/{}/{name}", self.table.id(), self.load.job))
    }

    /// What is there of a unit beyond what is known.
    async fn follow(&self, unit: &Unit, names: &HashSet<String>) -> Result<Option<Found>> {
        let id = unit.id;
        Ok(match unit.work {
            Work::Plan => self.find(unit, "", names).await?.map(Found::Plan),
            Work::Look(first, end) => {
                let looked: Option<Looked> = self.find(unit, "", names).await?;
                looked
                    .filter(|looked| looked.files.len() == end.saturating_sub(first))
                    .map(|looked| Found::Looked(id, looked))
            }
            Work::Read(_) => self.steps(unit, names).await?.map(|steps| Found::Read(id, steps)),
            Work::Cut => self.find(unit, "", names).await?.map(|cuts| Found::Cuts(id, cuts)),
            Work::Merge(_) => self.steps(unit, names).await?.map(|steps| Found::Merged(id, steps)),
            Work::Finish => None,
        })
    }

    async fn steps<S: Step>(&self, unit: &Unit, names: &HashSet<String>) -> Result<Option<Steps<S>>> {
        let known = S::chains(&mut self.facts.lock()).entry(unit.id).or_default().cursor();
        let Some(from) = known else { return Ok(None) };
        let mut steps: Vec<S> = Vec::new();
        let mut cursor = Some(from.clone());
        while let Some(at) = &cursor {
            let Some(step) = self.find::<S>(unit, at, names).await? else { break };
            let next = step.next();
            if next == cursor {
                return Err(Error::unavailable(format!("a step of {} ends where it begins", unit.label)));
            }
            cursor = next;
            steps.push(step);
        }
        Ok((!steps.is_empty()).then_some((from, steps)))
    }

    /// The result of a step, if a listing has shown it.
    async fn find<T: Fact>(&self, unit: &Unit, cursor: &str, names: &HashSet<String>) -> Result<Option<T>> {
        for redo in 0..NAMES {
            let path = self.path(&unit.name(cursor, redo))?;
            if !names.contains(path.as_str()) {
                return Ok(None);
            }
            match self.read(&path).await? {
                Some(Ok(fact)) => return Ok(Some(fact)),
                Some(Err(error)) => {
                    tracing::warn!(load = %self.load.id, %path, %error, "a result is passed over");
                }
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// `None` = there is no such object; an inner error = it does not decode.
    async fn read<T: Fact>(&self, path: &ObjectPath) -> Result<Option<Result<T>>> {
        match self.table.store().get(path, GetOptions::default()).await {
            Ok(object) => Ok(Some(decode(&object.bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the result of a step, unless there is one: that counts then. Everything that it names must be there.
    pub(super) async fn put_fact<T: Fact>(&self, unit: &Unit, cursor: &str, fact: &T) -> Result<Put<T>> {
        self.ctx.phases.reach("rewrite/result").await;
        let bytes = encode(fact)?;
        let mut unknown = 0;
        let mut redo = 0;
        while redo < NAMES {
            let path = self.path(&unit.name(cursor, redo))?;
            match self.table.store().put(&path, bytes.clone(), PutMode::Create).await {
                Ok(PutOutcome::Stored(_)) => return Ok(Put::Ours),
                Ok(PutOutcome::AlreadyExists | PutOutcome::Mismatch) => {
                    let held = self.table.store().get(&path, GetOptions::default()).await?.bytes;
                    // Our own, whose first answer was lost.
                    if held == bytes {
                        return Ok(Put::Ours);
                    }
                    match decode(&held) {
                        Ok(theirs) => return Ok(Put::Theirs(theirs)),
                        Err(error) => {
                            tracing::warn!(load = %self.load.id, %path, %error, "a result is passed over");
                            redo += 1;
                        }
                    }
                }
                // The same bytes again: they are one result, however often they arrive.
                Err(error) if error.kind() == ErrorKind::Unknown && unknown < PUT_TRIES => unknown += 1,
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable(format!("{NAMES} results of {} are damaged", unit.label)))
    }

    fn take_in(&self, found: Found) {
        let mut facts = self.facts.lock();
        match found {
            Found::Plan(plan) => facts.plan = Some(plan),
            Found::Looked(id, looked) => drop(facts.looked.insert(id, looked)),
            Found::Read(id, (from, steps)) => facts.read.entry(id).or_default().extend(&from, steps),
            Found::Cuts(id, cuts) => drop(facts.cuts.insert(id, cuts)),
            Found::Merged(id, (from, steps)) => facts.merged.entry(id).or_default().extend(&from, steps),
        }
    }

    /// Puts the step that begins at `begin`. Answers whether it counts: not where another loader has come further with
    /// the unit, whose step is taken in instead.
    pub(super) async fn put_step<S: Step>(&self, unit: &Unit, begin: &str, step: S) -> Result<bool> {
        let known = S::chains(&mut self.facts.lock()).entry(unit.id).or_default().cursor();
        if known.as_deref() != Some(begin) {
            return Ok(false);
        }
        let (step, is_ours) = match self.put_fact(unit, begin, &step).await? {
            Put::Ours => (step, true),
            Put::Theirs(theirs) => (theirs, false),
        };
        S::chains(&mut self.facts.lock()).entry(unit.id).or_default().extend(begin, vec![step]);
        Ok(is_ours)
    }
}
