//! Loads: begun, given files, committed, undone; and taken up where they were when a process comes back.

use crate::clients::{COLD, HOT, Shared, cold_key, now_micros};
use crate::files::{FileRow, sorted, swapped};
use crate::ledger::{Load, Shown, load_value};
use crate::process;
use nacre_api::{
    BeginLoadBody, ColumnsBody, CommitLoadBody, GuardsBody, LoadBody, LoadModeBody, LoadStateBody,
    LoadVersionBody, OnDuplicateBody,
};
use nacre_client::{Client, LoadAction, UploadBody};
use nacre_model::LoadMode;
use nacre_types::{Error, ErrorKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// Committed loads that are left standing; past it some are taken back, or the table would have too many to undo.
const STANDING: usize = 4;

/// A load's files, as they are put again after a crash: a function of the load.
struct Files {
    files: Vec<(String, Vec<u8>)>,
    columns: Option<ColumnsBody>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two sorted files, apart.
    Adopted,
    /// Two sorted files whose keys meet: they are rewritten.
    Meeting,
    /// Two files that are in no order.
    Unsorted,
    /// One key and version twice with different values: it must fail.
    Bad,
}

impl Kind {
    /// Chosen by the number, so that a load that is taken up again is the same.
    fn of(number: u64) -> Self {
        match number % 7 {
            0 | 3 => Self::Adopted,
            1 | 5 => Self::Meeting,
            6 if number.is_multiple_of(2) => Self::Bad,
            _ => Self::Unsorted,
        }
    }
}

fn make_files(load: &Load) -> Files {
    let kind = Kind::of(load.number);
    let rows: Vec<FileRow> = load
        .rows
        .iter()
        .map(|(key, (version, has_value))| {
            (key.clone(), *version, has_value.then(|| load_value(load.number, key)))
        })
        .collect();
    let every_other = |odd: usize| -> Vec<FileRow> {
        rows.iter().enumerate().filter(|(at, _)| at % 2 == odd).map(|(_, row)| row.clone()).collect()
    };
    let (first, second) = rows.split_at(rows.len() / 2);
    let (one, two, columns) = match kind {
        Kind::Adopted => (sorted(first), sorted(second), None),
        Kind::Meeting => (sorted(&every_other(0)), sorted(&every_other(1)), None),
        Kind::Unsorted => {
            let columns = ColumnsBody {
                key: vec!["value".to_owned()],
                value: Some("key".to_owned()),
                pack: None,
                version: Some("version".to_owned()),
                expires_at: None,
                delete: None,
            };
            (swapped(&every_other(0)), swapped(&every_other(1)), Some(columns))
        }
        Kind::Bad => {
            let mut again = every_other(1);
            let other = (rows[0].0.clone(), rows[0].1, Some("another value".to_owned()));
            again.insert(0, other);
            (sorted(&every_other(0)), sorted(&again), None)
        }
    };
    Files { files: vec![("one.parquet".to_owned(), one), ("two.parquet".to_owned(), two)], columns }
}

impl Shared {
    /// Loads one after the other. One of this owner that is under way from earlier is taken up first. `Unsorted` and
    /// `Meeting` alone where `rewrites` says so.
    pub(crate) async fn load(self, api: String, rewrites: bool, owner: usize) {
        let client = process::client(&api);
        while !self.is_over() {
            let is_mine = |load: &Load| load.owner == owner && !load.is_over;
            let under_way = self.ledger.lock().loads.iter().position(is_mine);
            let at = under_way.unwrap_or_else(|| self.plan_load(rewrites, owner));
            match self.work(&client, at).await {
                Ok(()) => {}
                Err(error) if matches!(error.code(), "answer-lost" | "server-unreachable") => return,
                Err(error) if error.kind().is_retryable() || error.kind() == ErrorKind::Unknown => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    self.complain(format!("load {at} was answered {error:?}"));
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(self.dice(300))).await;
        }
    }

    /// Does what is left to do of every load.
    pub(crate) async fn finish_loads(&self, client: &Client) {
        loop {
            let under_way = self.ledger.lock().loads.iter().position(|load| !load.is_over);
            let Some(at) = under_way else { return };
            match self.work(client, at).await {
                Ok(()) => {}
                Err(error) if error.kind().is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return self.complain(format!("load {at} was answered {error:?}")),
            }
        }
    }

    fn plan_load(&self, rewrites: bool, owner: usize) -> usize {
        let mut ledger = self.ledger.lock();
        let mut number = ledger.loads.last().map_or(1, |load| load.number + 1);
        while rewrites && !matches!(Kind::of(number), Kind::Meeting | Kind::Unsorted) {
            number += 1;
        }
        let kind = Kind::of(number);
        let mode = if self.dice(3) == 0 { LoadMode::Replace } else { LoadMode::Merge };
        let version = now_micros() - self.dice(3_000_000) as i64;
        let mut rows = BTreeMap::new();
        let step = 2 + self.dice(3);
        let keys = (0..COLD).filter(|n| (n + number).is_multiple_of(step)).map(cold_key);
        for key in keys.chain((0..HOT).map(|n| format!("h{n}"))) {
            // Most at the load's version, some around it; a tombstone now and then where files can hold one.
            let own =
                if self.dice(4) == 0 { version + self.dice(4_000_000) as i64 - 2_000_000 } else { version };
            let has_value = kind == Kind::Unsorted || self.dice(25) != 0;
            rows.insert(key, (own, has_value));
        }
        if kind == Kind::Bad {
            rows.values_mut().next().unwrap().1 = true;
        }
        ledger.loads.push(Load {
            number,
            owner,
            mode,
            version,
            rows,
            id: None,
            shown: Shown::Not,
            is_pinned: false,
            is_vain: false,
            is_bad: kind == Kind::Bad,
            is_over: false,
        });
        ledger.loads.len() - 1
    }

    /// Does what is left to do of a load. Every step may have been done before.
    async fn work(&self, client: &Client, at: usize) -> Result<(), Error> {
        let load = self.ledger.lock().loads[at].clone();
        let made = make_files(&load);
        let body = BeginLoadBody {
            mode: match load.mode {
                LoadMode::Merge => LoadModeBody::Merge,
                LoadMode::Replace => LoadModeBody::Replace,
            },
            version: Some(LoadVersionBody::At(load.version)),
            source: None,
            columns: made.columns,
            guards: GuardsBody {
                max_shrink_percent: 100,
                max_tombstone_percent: 100,
                allow_older: true,
                ..GuardsBody::default()
            },
            on_duplicate: OnDuplicateBody::Fail,
        };
        let id = match load.id {
            Some(id) => id,
            None => {
                let key = format!("load-{}", load.number);
                let begun = client.begin_load(&self.table, &body, Some(&key)).await?;
                self.ledger.lock().loads[at].id = Some(begun.load_id.clone());
                begun.load_id
            }
        };
        let told = client.load(&self.table, &id).await?;
        if told.state == LoadStateBody::Open {
            for (name, bytes) in made.files {
                let put =
                    client.put_load_file(&self.table, &id, &name, UploadBody::Bytes(bytes.into())).await;
                match put {
                    Err(error) if error.code() != "load-file-exists" => return Err(error),
                    _ => {}
                }
            }
        }
        let commit = CommitLoadBody::default();
        if told.state == LoadStateBody::Open && self.dice(12) == 0 {
            client.load_action(&self.table, &id, LoadAction::Cancel, &commit).await?;
        } else if matches!(told.state, LoadStateBody::Open | LoadStateBody::Prepared) {
            let prepares = told.state == LoadStateBody::Open && self.dice(4) == 0;
            let action = if prepares { LoadAction::Prepare } else { LoadAction::Commit };
            client.load_action(&self.table, &id, action, &commit).await?;
            self.ledger.lock().loads[at].is_pinned = true;
        }
        self.watch(client, at, &id).await
    }

    /// Waits for a load's end, and takes some back.
    async fn watch(&self, client: &Client, at: usize, id: &str) -> Result<(), Error> {
        while !self.is_over() {
            let told = client.load(&self.table, id).await?;
            self.learn(&told, false);
            match told.state {
                LoadStateBody::Prepared => {
                    client
                        .load_action(&self.table, id, LoadAction::Commit, &CommitLoadBody::default())
                        .await?;
                }
                LoadStateBody::Committed | LoadStateBody::Reverted => break,
                LoadStateBody::Failed | LoadStateBody::Cancelled => return Ok(()),
                _ => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
        let standing: Vec<String> = {
            let ledger = self.ledger.lock();
            let standing = ledger.loads.iter().filter(|load| matches!(load.shown, Shown::Committed(_)));
            standing.filter_map(|load| load.id.clone()).collect()
        };
        if standing.len() > STANDING || (!standing.is_empty() && self.dice(4) == 0) {
            let victim = &standing[self.dice(standing.len() as u64) as usize];
            let told = client
                .load_action(&self.table, victim, LoadAction::Revert, &CommitLoadBody::default())
                .await?;
            self.learn(&told, false);
        }
        let mut ledger = self.ledger.lock();
        ledger.loads[at].is_over |= ledger.loads[at].shown != Shown::Not;
        Ok(())
    }

    /// Takes in what a server says of a load; complains about what cannot be. `is_fresh`: the server has read everything
    /// that was acknowledged before it was asked.
    pub(crate) fn learn(&self, told: &LoadBody, is_fresh: bool) {
        let mut ledger = self.ledger.lock();
        let edition = told.edition.map(|edition| edition.0 as u64);
        ledger.edition = ledger.edition.max(edition.unwrap_or(0));
        let Some(load) = ledger.loads.iter_mut().find(|load| load.id.as_deref() == Some(&told.load_id))
        else {
            return;
        };
        let before = load.shown;
        let is_vain = matches!(told.state, LoadStateBody::Failed | LoadStateBody::Cancelled);
        let is_shown = matches!(told.state, LoadStateBody::Committed | LoadStateBody::Reverted);
        let was_forgotten = (load.is_pinned && told.state == LoadStateBody::Open)
            || (load.is_vain && !is_vain)
            || (before != Shown::Not && !is_shown);
        if (is_fresh && was_forgotten) || (load.is_vain && is_shown) {
            return self
                .complain(format!("what became of a load is forgotten: {load:?} is told as {told:?}"));
        }
        load.is_vain |= is_vain;
        let next = match (told.state, load.shown, edition) {
            (LoadStateBody::Committed, Shown::Not, Some(at)) => Shown::Committed(at),
            (LoadStateBody::Reverted, Shown::Committed(at), Some(until)) => Shown::Reverted(at, until),
            (LoadStateBody::Committed, Shown::Committed(at), Some(now)) if at == now => before,
            (LoadStateBody::Reverted, Shown::Reverted(..), _) => before,
            // An answer that was on its way while the load was taken back.
            (LoadStateBody::Committed, Shown::Reverted(..), _) => before,
            (LoadStateBody::Committed | LoadStateBody::Reverted, ..) => {
                return self
                    .complain(format!("load {} was {before:?} and is told as {told:?}", told.load_id));
            }
            (
                LoadStateBody::Failed | LoadStateBody::Cancelled,
                Shown::Committed(_) | Shown::Reverted(..),
                _,
            ) => {
                return self
                    .complain(format!("load {} was {before:?} and is told as {told:?}", told.load_id));
            }
            // Not shown yet; or told by a process that has not read of it yet.
            _ => before,
        };
        load.shown = next;
        match told.state {
            LoadStateBody::Failed => {
                load.is_over = true;
                if !load.is_bad {
                    self.complain(format!("a good load failed: {told:?}"));
                }
            }
            LoadStateBody::Cancelled => load.is_over = true,
            LoadStateBody::Committed if load.is_bad => {
                self.complain(format!("a bad load was committed: {told:?}"))
            }
            _ => {}
        }
    }
}
