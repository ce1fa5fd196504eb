//! What was acknowledged, what may have happened, and what the model says that must be there.

use std::sync::Arc;

use nacre_engine::{ReadOptions, RowPlace, Table};
use nacre_manifest::LoadState;
use nacre_model::{LoadMode, LoadRow, Model, Position, Read, Settings};
use nacre_types::LoadId;

use crate::harness::text;

pub(super) const KEYS: u64 = 6;
/// Versions that writers and loads bring lie here, far below those that the log gives.
const OWN: i64 = 1_600_000_000_000_000;

pub(super) fn key(number: u64) -> String {
    format!("k{number}")
}

/// A version for the write or load `number`. Two writes never have the same; a load may tie with another.
pub(super) fn own_version(number: u64, is_load: bool) -> i64 {
    OWN + number as i64 * 2 + i64::from(!is_load)
}

/// A write of one row.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) key: String,
    pub(super) number: u64,
    /// The writer's, or the log's once it is known.
    pub(super) version: Option<i64>,
    pub(super) is_delete: bool,
}

impl Op {
    pub(super) fn value(&self) -> String {
        format!("value {}", self.number)
    }
}

/// A load, and how far it is known to be.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) number: u64,
    pub(super) id: LoadId,
    pub(super) replaces: bool,
    pub(super) version: i64,
    pub(super) rows: Vec<LoadRow>,
    pub(super) told: Told,
}

/// What is known of a load, and cannot be taken back: each only moves on to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Begun,
    Prepared,
    Committed(u64),
    Reverted(u64, u64),
}

impl Told {
    /// Where `table` has it.
    pub(super) fn of(table: &Table, id: LoadId) -> Self {
        let manifest = table.manifest();
        let Some(load) = manifest.load(id) else { return Self::Begun };
        match (load.state, load.commit, load.reverted) {
            (LoadState::Reverted, Some(commit), Some(revert)) => Self::Reverted(commit.0, revert.0),
            (LoadState::Committed, Some(commit), None) => Self::Committed(commit.0),
            (LoadState::Prepared, None, None) => Self::Prepared,
            (LoadState::Open | LoadState::Pinned, None, None) => Self::Begun,
            other => panic!("load {id} is {other:?}"),
        }
    }

    fn may_become(self, later: Self) -> bool {
        match (self, later) {
            (Self::Committed(was), Self::Committed(is) | Self::Reverted(is, _)) => was == is,
            (Self::Reverted(..), _) => self == later,
            _ => self <= later,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) done: Vec<Op>,
    /// The one write whose answer was lost.
    pub(super) lost: Option<Op>,
    pub(super) loads: Vec<Load>,
    pub(super) next: u64,
}

impl Ledger {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The versions of a key.
    fn versions(&self, key: &str) -> Vec<(i64, String)> {
        let mut model = Model::new(Settings { max_versions: 0, ttl: None });
        for load in &self.loads {
            let (commit, revert) = match load.told {
                Told::Begun | Told::Prepared => continue,
                Told::Committed(commit) => (commit, None),
                Told::Reverted(commit, revert) => (commit, Some(revert)),
            };
            let mode = if load.replaces { LoadMode::Replace } else { LoadMode::Merge };
            model.prepare(load.number, mode, load.version, load.rows.iter().cloned());
            model.commit(load.number, commit);
            if let Some(revert) = revert {
                model.revert(load.number, revert);
            }
        }
        for op in self.done.iter().filter(|op| op.key == key) {
            let position = Position { generation: 0, offset: op.number, index: 0 };
            let version = op.version.unwrap();
            if op.is_delete {
                model.delete(key.as_bytes(), version, position);
            } else {
                model.put(key.as_bytes(), version, position, op.value().as_bytes(), None);
            }
        }
        let found = model.versions(key.as_bytes(), i64::MIN, i64::MAX, usize::MAX, &Read::at(0));
        found.into_iter().map(|row| (row.version, String::from_utf8(row.value).unwrap())).collect()
    }

    /// Finds out what became of the lost write and of every load, and holds every key against the model. Nothing may
    /// have been merged since the death: a row that was written is still told of, whatever hides it.
    pub(super) async fn verify(&mut self, table: &Arc<Table>, now: i64, life: &str) {
        let options = ReadOptions::at(now);
        if let Some(op) = self.lost.take() {
            let explained = table.explain(op.key.as_bytes(), &options).await.unwrap();
            let is_known =
                |version| self.done.iter().any(|other| other.key == op.key && other.version == Some(version));
            let mut rows = explained.rows.iter().filter(|row| {
                let is_loads = matches!(row.place, RowPlace::Segment { load: Some(_), .. });
                let fits = match op.version {
                    Some(version) => version == row.version,
                    None => !is_known(row.version),
                };
                !is_loads && fits
            });
            if let Some(row) = rows.next() {
                assert_eq!(row.tombstone, op.is_delete, "{life}: {op:?} became {row:?}");
                assert!(rows.next().is_none(), "{life}: {op:?} is not the only row that nobody knows");
                self.done.push(Op { version: Some(row.version), ..op });
            }
        }
        for load in &mut self.loads {
            let found = Told::of(table, load.id);
            assert!(
                load.told.may_become(found),
                "{life}: load {} was told as {:?} and is {found:?}",
                load.number,
                load.told
            );
            load.told = found;
        }
        for key in (0..KEYS).map(key) {
            let (rows, _) =
                table.versions(key.as_bytes(), i64::MIN, i64::MAX, 10_000, &options).await.unwrap();
            let found: Vec<(i64, String)> = rows.iter().map(|row| (row.version, text(row))).collect();
            assert_eq!(found, self.versions(&key), "{life}: {key}, against the model");
        }
    }
}
