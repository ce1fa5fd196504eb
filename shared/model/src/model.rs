//! What is remembered: every row, every load, the settings.

use std::collections::BTreeMap;

/// Where a streamed row lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Of the range's assignment to its partition.
    pub generation: u16,
    /// Of the record in the partition.
    pub offset: u64,
    /// Of the row in the record.
    pub index: u32,
}

/// What of a table's settings decides reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many versions of a key stay visible; 0 = all. Can only be lowered, and 0 is the highest.
    pub max_versions: u32,
    /// Rows expire this long after their version, in microseconds.
    pub ttl: Option<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_versions: 1, ttl: None }
    }
}

/// What a load does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMode {
    /// Its rows join the table.
    Merge,
    /// It sets a floor: everything that ranks below and is not its own disappears.
    Replace,
}

/// Where a load stands. Only what can be seen matters here: one that was never committed is as if it had not been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadState {
    /// Brought, not shown, except to a read that names it.
    Prepared,
    /// Shown since the edit of this number.
    Committed(u64),
    /// Shown by the first edit, taken back by the second.
    Reverted(u64, u64),
}

/// A row of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRow {
    /// The key.
    pub key: Vec<u8>,
    /// Its version; `None` = the load's.
    pub version: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its own expiry.
    pub expires_at: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) mode: LoadMode,
    pub(crate) version: i64,
    pub(crate) state: LoadState,
    pub(crate) is_sealed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Loaded(u64),
    Streamed(Position),
}

#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    pub(crate) version: i64,
    pub(crate) origin: Origin,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) expires_at: Option<i64>,
}

/// One table.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) settings: Settings,
    pub(crate) expired_below: Option<i64>,
    pub(crate) rows: BTreeMap<Vec<u8>, Vec<StoredRow>>,
    pub(crate) loads: BTreeMap<u64, Load>,
}

impl Model {
    /// An empty table.
    pub fn new(settings: Settings) -> Self {
        Self { settings, expired_below: None, rows: BTreeMap::new(), loads: BTreeMap::new() }
    }

    /// A streamed row. `version` is the writer's, or what [`crate::Clock`] gave its record.
    pub fn put(
        &mut self,
        key: &[u8],
        version: i64,
        position: Position,
        value: &[u8],
        expires_at: Option<i64>,
    ) {
        self.add(key, version, Origin::Streamed(position), Some(value.to_vec()), expires_at);
    }

    /// A streamed tombstone.
    pub fn delete(&mut self, key: &[u8], version: i64, position: Position) {
        self.add(key, version, Origin::Streamed(position), None, None);
    }

    /// Brings the rows of a load without showing them. `load` is the caller's number for it, never used before.
    pub fn prepare(
        &mut self,
        load: u64,
        mode: LoadMode,
        version: i64,
        rows: impl IntoIterator<Item = LoadRow>,
    ) {
        let fresh = Load { mode, version, state: LoadState::Prepared, is_sealed: false };
        assert!(self.loads.insert(load, fresh).is_none(), "load {load} was prepared before");
        for row in rows {
            let version = row.version.unwrap_or(version);
            self.add(&row.key, version, Origin::Loaded(load), row.value, row.expires_at);
        }
    }

    /// Shows a prepared load, by the edit `seq`.
    pub fn commit(&mut self, load: u64, seq: u64) {
        let load = self.load_mut(load);
        assert_eq!(load.state, LoadState::Prepared, "only a prepared load can be committed");
        load.state = LoadState::Committed(seq);
    }

    /// Takes a committed load back that is not sealed, by the edit `seq`: from here on the table is as if it had never
    /// been committed.
    pub fn revert(&mut self, load: u64, seq: u64) {
        let load = self.load_mut(load);
        assert!(!load.is_sealed, "a sealed load cannot be reverted");
        match load.state {
            LoadState::Committed(committed) => load.state = LoadState::Reverted(committed, seq),
            other => panic!("a load that is {other:?} cannot be reverted"),
        }
    }

    /// Ends the undo window of a committed load. No answer changes.
    pub fn seal(&mut self, load: u64) {
        let load = self.load_mut(load);
        assert!(matches!(load.state, LoadState::Committed(_)), "only a committed load can be sealed");
        load.is_sealed = true;
    }

    /// Where a load stands.
    pub fn load_state(&self, load: u64) -> Option<LoadState> {
        self.loads.get(&load).map(|load| load.state)
    }

    /// The settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Lowers `max_versions`; 0 is the highest.
    pub fn set_max_versions(&mut self, max_versions: u32) {
        let height = |n: u32| if n == 0 { u64::MAX } else { u64::from(n) };
        assert!(
            height(max_versions) <= height(self.settings.max_versions),
            "max_versions is only ever lowered"
        );
        self.settings.max_versions = max_versions;
    }

    /// Changes the ttl. What the old one had ended by `time`, the larger of the log's time and every `now` of a drop
    /// that was committed, stays ended.
    pub fn set_ttl(&mut self, ttl: Option<i64>, time: i64) {
        if let Some(old) = self.settings.ttl {
            let below = time.saturating_sub(old);
            self.expired_below = Some(self.expired_below.map_or(below, |already| already.max(below)));
        }
        self.settings.ttl = ttl;
    }

    /// Rows of this version or an older one are expired, whatever the ttl.
    pub fn expired_below(&self) -> Option<i64> {
        self.expired_below
    }

    fn load_mut(&mut self, load: u64) -> &mut Load {
        self.loads.get_mut(&load).unwrap_or_else(|| panic!("there is no load {load}"))
    }

    fn add(
        &mut self,
        key: &[u8],
        version: i64,
        origin: Origin,
        value: Option<Vec<u8>>,
        expires_at: Option<i64>,
    ) {
        let row = StoredRow { version, origin, value, expires_at };
        self.rows.entry(key.to_vec()).or_default().push(row);
    }
}
