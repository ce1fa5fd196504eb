//! Where rows are read: in this process, or from the nodes of the fleet that hold them.

use std::sync::Arc;

use nacre_engine::{
    Explanation, Found, Lookup, ReadOptions, Receipt, ScanPage, ScanRequest, SessionToken, Table, WriteRow,
};
use nacre_fleet::{Fleet, Reading};
use nacre_types::{Key, ProcessId, Result};
use smallvec::SmallVec;

use crate::hot::{Hot, HotKeys};

/// Where rows are read.
#[derive(Debug, Clone)]
pub enum Reads {
    /// This process holds every partition.
    Here,
    /// Others do, or some; what is asked for most is answered from memory for a moment.
    Fleet(Arc<Fleet>, Arc<HotKeys>),
}

/// An answer, what it cost, and who gave it.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) value: T,
    pub(crate) receipt: Receipt,
    pub(crate) by: By,
}

/// Who answered.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// This process; what it has seen is for it to say.
    Here,
    /// Nodes of the fleet, and what they have seen together.
    Nodes { token: SessionToken, nodes: SmallVec<[ProcessId; 2]> },
}

impl By {
    /// Adds who answered another part.
    pub(crate) fn join(&mut self, other: Self) -> Result<()> {
        match (&mut *self, other) {
            (Self::Nodes { token, nodes }, Self::Nodes { token: seen, nodes: more }) => {
                token.join(&seen)?;
                more.into_iter().for_each(|node| {
                    if !nodes.contains(&node) {
                        nodes.push(node);
                    }
                });
            }
            (here @ Self::Here, nodes @ Self::Nodes { .. }) => *here = nodes,
            (_, Self::Here) => {}
        }
        Ok(())
    }

    /// What a session that got this answer has seen: what those that answered have, and what the session had already.
    ///
    /// A read reaches its token only in the partitions that it touches; of the others the node may know less than the
    /// session, and nothing at all of those that it does not hold. The token of the answer takes the place of those that
    /// were sent, so what they name must be in it.
    pub(crate) fn token(&self, table: &Table, session: Option<&SessionToken>) -> Result<SessionToken> {
        let mut token = match self {
            Self::Here => table.read_token(),
            Self::Nodes { token, .. } => token.clone(),
        };
        if let Some(session) = session {
            token.join(session)?;
        }
        Ok(token)
    }
}

fn here<T>((value, receipt): (T, Receipt)) -> Seen<T> {
    Seen { value, receipt, by: By::Here }
}

fn of_nodes<T>(reading: Reading<T>) -> Seen<T> {
    let Reading { value, receipt, token, nodes } = reading;
    Seen { value, receipt, by: By::Nodes { token, nodes } }
}

async fn get_of_fleet(
    fleet: &Fleet,
    hot: &HotKeys,
    table: &Arc<Table>,
    key: &[u8],
    options: &ReadOptions,
) -> Result<Seen<Lookup>> {
    let clock = &fleet.node().context().clock;
    let of_table = (table.id(), table.settings().consistency);
    match hot.ask(of_table, key, options, clock.monotonic()) {
        Hot::Kept(answer) => Ok(answer),
        Hot::No => fleet.get(table, key, options).await.map(of_nodes),
        Hot::Wanted(wanted) => {
            let answer = of_nodes(fleet.get(table, key, options).await?);
            hot.keep(&wanted, table.id(), key, &answer, clock.monotonic());
            Ok(answer)
        }
    }
}

impl Reads {
    /// From the nodes of a fleet.
    pub fn of_fleet(fleet: Arc<Fleet>) -> Self {
        Self::Fleet(fleet, Arc::default())
    }

    /// Rows were written through this process: before it is told, what is kept of them is forgotten.
    pub(crate) fn wrote(&self, table: &Table, keys: &[Key]) {
        if let Self::Fleet(fleet, hot) = self {
            hot.forget(table.id(), keys, fleet.node().context().clock.monotonic());
        }
    }

    /// The keys of rows, for [`Reads::wrote`]; none where nothing is kept.
    pub(crate) fn keys_to_forget(&self, rows: &[WriteRow]) -> Vec<Key> {
        match self {
            Self::Here => Vec::new(),
            Self::Fleet(..) => rows.iter().map(|row| row.key.clone()).collect(),
        }
    }

    /// Gets that were answered without asking a node.
    pub(crate) fn hot_hits(&self) -> u64 {
        match self {
            Self::Here => 0,
            Self::Fleet(_, hot) => hot.hits(),
        }
    }

    pub(crate) async fn get(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Seen<Lookup>> {
        match self {
            Self::Here => table.get(key, options).await.map(here),
            // In a future of its own, so that the one of a read in this process stays small.
            Self::Fleet(fleet, hot) => Box::pin(get_of_fleet(fleet, hot, table, key, options)).await,
        }
    }

    pub(crate) async fn batch_get(
        &self,
        table: &Arc<Table>,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<Seen<Vec<Lookup>>> {
        match self {
            Self::Here => table.batch_get(keys, options).await.map(here),
            Self::Fleet(fleet, _) => Box::pin(fleet.batch_get(table, keys, options)).await.map(of_nodes),
        }
    }

    pub(crate) async fn versions(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        (since, until, limit): (i64, i64, usize),
        options: &ReadOptions,
    ) -> Result<Seen<Vec<Found>>> {
        match self {
            Self::Here => table.versions(key, since, until, limit, options).await.map(here),
            Self::Fleet(fleet, _) => {
                let range = (since, until, limit);
                Box::pin(fleet.versions(table, key, range, options)).await.map(of_nodes)
            }
        }
    }

    pub(crate) async fn scan(
        &self,
        table: &Arc<Table>,
        request: &ScanRequest,
        options: &ReadOptions,
    ) -> Result<Seen<ScanPage>> {
        match self {
            Self::Here => table.scan(request, options).await.map(here),
            Self::Fleet(fleet, _) => Box::pin(fleet.scan(table, request, options)).await.map(of_nodes),
        }
    }

    pub(crate) async fn explain(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Seen<Explanation>> {
        match self {
            Self::Here => {
                let explanation = table.explain(key, options).await?;
                Ok(here((explanation, Receipt::default())))
            }
            Self::Fleet(fleet, _) => Box::pin(fleet.explain(table, key, options)).await.map(of_nodes),
        }
    }
}
