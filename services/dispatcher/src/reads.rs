//! Where rows are read: in this process, or from the nodes of the fleet that hold them.

use std::sync::Arc;

use nacre_engine::{
    Explanation, Found, Lookup, ReadOptions, Receipt, ScanPage, ScanRequest, SessionToken, Table,
};
use nacre_fleet::{Fleet, Reading};
use nacre_types::{Key, ProcessId, Result};
use smallvec::SmallVec;

/// Where rows are read.
#[derive(Debug, Clone)]
pub enum Reads {
    /// This process holds every partition.
    Here,
    /// Others do, or some.
    Fleet(Arc<Fleet>),
}

/// An answer, what it cost, and who gave it.
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

    /// What a session that got this answer has seen.
    pub(crate) fn token(&self, table: &Table) -> SessionToken {
        match self {
            Self::Here => table.read_token(),
            Self::Nodes { token, .. } => token.clone(),
        }
    }
}

fn here<T>((value, receipt): (T, Receipt)) -> Seen<T> {
    Seen { value, receipt, by: By::Here }
}

fn of_nodes<T>(reading: Reading<T>) -> Seen<T> {
    let Reading { value, receipt, token, nodes } = reading;
    Seen { value, receipt, by: By::Nodes { token, nodes } }
}

impl Reads {
    pub(crate) async fn get(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Seen<Lookup>> {
        match self {
            Self::Here => table.get(key, options).await.map(here),
            // In a future of its own, so that the one of a read in this process stays small.
            Self::Fleet(fleet) => Box::pin(fleet.get(table, key, options)).await.map(of_nodes),
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
            Self::Fleet(fleet) => Box::pin(fleet.batch_get(table, keys, options)).await.map(of_nodes),
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
            Self::Fleet(fleet) => {
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
            Self::Fleet(fleet) => Box::pin(fleet.scan(table, request, options)).await.map(of_nodes),
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
            Self::Fleet(fleet) => Box::pin(fleet.explain(table, key, options)).await.map(of_nodes),
        }
    }
}
