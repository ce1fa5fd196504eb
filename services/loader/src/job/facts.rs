//! Results of units: what a load's loaders have found out and written, for each other and for whoever takes over.
//!
//! A result is an immutable object: a version byte, a CRC-32 of what follows, JSON. It is written when everything that
//! it names is there, and never changed, so whoever reads one may build on it.

use std::collections::HashMap;

use bytes::Bytes;
use nacre_engine::{LoadError, LoadFile};
use nacre_types::{Error, KeySchema, Result, TableSettings, limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::note::{SegmentNote, unhex};

/// Of the format. It is part of what units are known by, too: loaders of other formats do not see each other's results.
pub(crate) const VERSION: u8 = 1;

/// What every loader of a load goes by, whatever its own settings are and whatever the table's come to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) key: KeySchema,
    /// Whether this load is the one that says what the table's keys are.
    pub(crate) declares: bool,
    pub(crate) settings: TableSettings,
    /// Versions below this are refused.
    pub(crate) late_below: i64,
    /// Versions below this are hidden by a floor from the start.
    pub(crate) hidden_below: i64,
    /// A unit of reading has about so many bytes of files.
    pub(crate) unit_bytes: u64,
}

/// What is wrong with the files of a load: the first thousand, and how many in all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    pub(crate) errors: Vec<LoadError>,
    pub(crate) count: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, errors: Vec<LoadError>, count: u64) {
        self.count = self.count.saturating_add(count);
        let room = limits::LOAD_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(errors.into_iter().take(room));
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.add(other.errors.clone(), other.count);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Some files were looked at.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Looked {
    /// The unit's files, in their order; `None` = something is wrong with the file.
    pub(crate) files: Vec<Option<LookedFile>>,
    pub(crate) faults: Faults,
    /// What it took.
    pub(crate) seconds: f64,
}

/// What a look at a file showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LookedFile {
    /// What the load's report will say.
    pub(crate) report: LoadFile,
    /// The segment that it is, if it can be adopted.
    pub(crate) adopted: Option<SegmentNote>,
    /// Rows that a floor hides, of one that can be adopted.
    pub(crate) hidden: u64,
    /// Rows at which its reading is cut into slices.
    pub(crate) cuts: Vec<u64>,
}

/// A place in a unit of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Among the unit's slices.
    pub(crate) slice: u32,
    /// The row of the file.
    pub(crate) row: u64,
}

/// What was read of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Among the unit's slices.
    pub(crate) slice: u32,
    pub(crate) rows: u64,
    /// How many of these a floor hides.
    pub(crate) hidden: u64,
}

/// A step of a unit of reading: rows from the end of the step before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ReadStep {
    /// Sorted runs with these rows.
    pub(crate) runs: Vec<SegmentNote>,
    /// Where the next step begins; `None` = the unit is done.
    pub(crate) next: Option<Cursor>,
    /// What is in the runs, by slice.
    pub(crate) tallies: Vec<Tally>,
    pub(crate) faults: Faults,
    /// The load fails anyway: rows were looked at for what is wrong with them, and brought into no run.
    pub(crate) only_faults: bool,
    pub(crate) seconds: f64,
}

/// Keys at which the merge is cut into ranges; a cut is the last key of its range.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Cuts {
    /// As hex, in order.
    pub(crate) keys: Vec<String>,
    pub(crate) seconds: f64,
}

/// A step of a unit of merging.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct MergeStep {
    /// The next segment of the range; the step after it begins behind its last key. `None` = the range is done.
    pub(crate) segment: Option<SegmentNote>,
    pub(crate) seconds: f64,
}

/// A result. What does not hold together counts as one that does not decode.
pub(crate) trait Fact: Serialize + DeserializeOwned + Send + Sync {
    fn is_sound(&self) -> bool {
        true
    }
}

impl Fact for Plan {}

impl Fact for Looked {
    fn is_sound(&self) -> bool {
        let files = self.files.iter().flatten();
        let rises = |cuts: &[u64]| cuts.windows(2).all(|two| two[0] < two[1]);
        files.clone().all(|file| rises(&file.cuts) && file.cuts.first().is_none_or(|first| *first > 0))
            && files.filter_map(|file| file.adopted.as_ref()).all(SegmentNote::is_sound)
            && (!self.faults.is_empty() || self.files.iter().all(Option::is_some))
    }
}

impl Fact for ReadStep {
    fn is_sound(&self) -> bool {
        self.runs.iter().all(SegmentNote::is_sound)
    }
}

impl Fact for Cuts {
    fn is_sound(&self) -> bool {
        let keys: Result<Vec<Bytes>> = self.keys.iter().map(|key| unhex(key)).collect();
        keys.is_ok_and(|keys| keys.windows(2).all(|two| two[0] < two[1]))
    }
}

impl Fact for MergeStep {
    fn is_sound(&self) -> bool {
        self.segment.as_ref().is_none_or(SegmentNote::is_sound)
    }
}

/// The bytes of a result.
///
/// # Errors
/// `Internal`.
pub(crate) fn encode<T: Fact>(fact: &T) -> Result<Bytes> {
    let json = serde_json::to_vec(fact)
        .map_err(|error| Error::internal(format!("a result of a load does not encode: {error}")))?;
    let mut bytes = Vec::with_capacity(json.len() + 5);
    bytes.push(VERSION);
    bytes.extend_from_slice(&crc32fast::hash(&json).to_be_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes.into())
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// `Corrupt` for anything else.
pub(crate) fn decode<T: Fact>(bytes: &[u8]) -> Result<T> {
    let damaged = |why: &str| Error::corrupt(format!("the result of a load's unit is damaged: {why}"));
    let Some((&[version, a, b, c, d], json)) = bytes.split_first_chunk::<5>() else {
        return Err(damaged("it is too short"));
    };
    if version != VERSION {
        return Err(damaged(&format!("it has format {version}; this program knows {VERSION}")));
    }
    if u32::from_be_bytes([a, b, c, d]) != crc32fast::hash(json) {
        return Err(damaged("its checksum does not match"));
    }
    let fact: T = serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
    if fact.is_sound() { Ok(fact) } else { Err(damaged("it contradicts itself")) }
}

/// A unit that is done step by step: each begins where the one before it ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chain<S> {
    pub(crate) steps: Vec<S>,
}

impl<S> Default for Chain<S> {
    fn default() -> Self {
        Self { steps: Vec::new() }
    }
}

/// A step of a [`Chain`].
pub(crate) trait Step: Fact + Sized {
    /// Where the next step begins, as it goes into names; `None` = there is none.
    fn next(&self) -> Option<String>;

    /// Where its kind is kept.
    fn chains(facts: &mut Facts) -> &mut HashMap<u128, Chain<Self>>;
}

impl Step for ReadStep {
    fn next(&self) -> Option<String> {
        self.next.map(|cursor| format!("{}.{}", cursor.slice, cursor.row))
    }

    fn chains(facts: &mut Facts) -> &mut HashMap<u128, Chain<Self>> {
        &mut facts.read
    }
}

impl Step for MergeStep {
    fn next(&self) -> Option<String> {
        self.segment.as_ref().map(|segment| segment.last_key().to_owned())
    }

    fn chains(facts: &mut Facts) -> &mut HashMap<u128, Chain<Self>> {
        &mut facts.merged
    }
}

impl<S: Step> Chain<S> {
    pub(crate) fn is_done(&self) -> bool {
        self.steps.last().is_some_and(|step| step.next().is_none())
    }

    /// Takes in steps of which the first begins at `begin`; those that are known already are passed over.
    pub(crate) fn extend(&mut self, begin: &str, steps: Vec<S>) {
        let mut at = Some(begin.to_owned());
        for step in steps {
            let next = step.next();
            if at.is_some() && at == self.cursor() {
                self.steps.push(step);
            }
            at = next;
        }
    }

    /// Where the next step begins; `None` = there is none.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.steps.last().map_or_else(|| Some(String::new()), Step::next)
    }
}

/// Results that this process knows, by the id of their unit.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) plan: Option<Plan>,
    pub(crate) looked: HashMap<u128, Looked>,
    pub(crate) read: HashMap<u128, Chain<ReadStep>>,
    pub(crate) cuts: HashMap<u128, Cuts>,
    pub(crate) merged: HashMap<u128, Chain<MergeStep>>,
}

#[cfg(test)]
#[path = "facts_tests.rs"]
pub(crate) mod tests;
