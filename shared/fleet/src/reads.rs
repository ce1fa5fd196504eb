//! Gets, batches, versions and explanations: to the nodes that hold the keys, and one edition for all of them.

use std::sync::Arc;

use nacre_engine::{Explanation, Found, Lookup, ReadOptions, Receipt, SessionToken, Table};
use nacre_types::{Consistency, Error, Key, PartitionId, ProcessId, Result, Seq};
use smallvec::{SmallVec, smallvec};

use crate::ask::{Asked, Group, Groups, Part, Parts, Sought};
use crate::edition::to_agree_on;
use crate::wire::{Read, Rows, other_kind};
use crate::{Fleet, Reading};

/// How often parts of a request are asked again to agree on an edition.
const AGREEMENTS: usize = 4;

impl Fleet {
    /// The first visible row of a key.
    ///
    /// # Errors
    /// Those of [`Table::get`]; `Unavailable` where no node answers.
    pub async fn get(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Reading<Lookup>> {
        let key = Key::new(key.to_vec())?;
        let part = self.of_key(table, &key, Read::Get(vec![key.clone()]), options).await?;
        let Rows::Lookups(lookups) = part.answer.rows else { return Err(other_kind()) };
        let value = lookups.into_iter().next().ok_or_else(other_kind)?;
        Ok(Reading::of(value, part.answer.receipt, part.answer.token, part.node))
    }

    /// The visible versions of a key, newest first.
    ///
    /// # Errors
    /// Those of [`Table::versions`]; `Unavailable` where no node answers.
    pub async fn versions(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        (since, until, limit): (i64, i64, usize),
        options: &ReadOptions,
    ) -> Result<Reading<Vec<Found>>> {
        let key = Key::new(key.to_vec())?;
        let read = Read::Versions { key: key.clone(), since, until, limit };
        let part = self.of_key(table, &key, read, options).await?;
        let Rows::Versions(value) = part.answer.rows else { return Err(other_kind()) };
        Ok(Reading::of(value, part.answer.receipt, part.answer.token, part.node))
    }

    /// Every row of a key, and why it is or is not the answer.
    ///
    /// # Errors
    /// Those of [`Table::explain`]; `Unavailable` where no node answers.
    pub async fn explain(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Reading<Explanation>> {
        let key = Key::new(key.to_vec())?;
        let part = self.of_key(table, &key, Read::Explain(key.clone()), options).await?;
        let Rows::Explanation(value) = part.answer.rows else { return Err(other_kind()) };
        Ok(Reading::of(value, part.answer.receipt, part.answer.token, part.node))
    }

    /// The first visible row of each key, in their order, all of one edition.
    ///
    /// # Errors
    /// Those of [`Table::batch_get`]; `Unavailable` where no node answers for one of the keys.
    pub async fn batch_get(
        &self,
        table: &Arc<Table>,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<Reading<Vec<Lookup>>> {
        let asked = Asked { table, options, rows: Sought::Keys(keys) };
        let mut parts = self.ask(&asked, by_partition(table, keys)).await?;
        self.agree(table, keys, &mut parts, options).await?;
        let mut lookups: Vec<Option<Lookup>> = vec![None; keys.len()];
        let mut reading = Reading::none(table);
        for part in parts {
            let Rows::Lookups(found) = part.answer.rows else { return Err(other_kind()) };
            let places = part.groups.iter().flat_map(|group| &group.places);
            if found.len() != places.clone().count() {
                return Err(other_kind());
            }
            for (&at, lookup) in places.zip(found) {
                if let Some(place) = lookups.get_mut(at) {
                    *place = Some(lookup);
                }
            }
            reading.add(&part.answer.receipt, &part.answer.token, part.node)?;
        }
        let found: Option<Vec<Lookup>> = lookups.into_iter().collect();
        Ok(reading.with(found.ok_or_else(other_kind)?))
    }

    /// Asks parts again until all are of one edition.
    async fn agree(
        &self,
        table: &Arc<Table>,
        keys: &[Key],
        parts: &mut Parts,
        options: &ReadOptions,
    ) -> Result<()> {
        let consistency = options.consistency.unwrap_or_else(|| table.settings().consistency);
        let mut goal = consistency;
        for _ in 0..AGREEMENTS {
            let editions: SmallVec<[Seq; 4]> = parts.iter().map(|part| part.answer.receipt.edition).collect();
            let Some(edition) = to_agree_on(editions.into_iter(), goal) else { return Ok(()) };
            let options = &at_edition(options, edition);
            let asked = Asked { table, options, rows: Sought::Keys(keys) };
            let (mut agreed, mut others) = (Parts::new(), Groups::new());
            for part in parts.drain(..) {
                if part.answer.receipt.edition == edition {
                    agreed.push(part);
                } else {
                    others.extend(part.groups);
                }
            }
            match self.ask(&asked, others.clone()).await {
                Ok(again) => agreed.extend(again),
                // What the slowest node shows is restorable no more: all go forward.
                Err(error) if error.code() == "edition-gone" => {
                    goal = Consistency::Strong;
                    let options = &ReadOptions { edition: None, ..options.clone() };
                    agreed.extend(self.ask(&Asked { options, ..asked }, others).await?);
                }
                Err(error) => return Err(error),
            }
            *parts = agreed;
        }
        Err(Error::unavailable("the nodes could not agree on an edition of the table; ask again")
            .with_code("editions-differ"))
    }

    /// Asks for something of one key.
    async fn of_key(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        read: Read,
        options: &ReadOptions,
    ) -> Result<Part> {
        self.of_partition(table, partition_of(table, key)?, read, options).await
    }

    /// Asks for something of one partition.
    pub(crate) async fn of_partition(
        &self,
        table: &Arc<Table>,
        partition: PartitionId,
        read: Read,
        options: &ReadOptions,
    ) -> Result<Part> {
        let asked = Asked { table, options, rows: Sought::Whole(read) };
        let groups = smallvec![Group { partition, places: Vec::new() }];
        self.ask(&asked, groups).await?.pop().ok_or_else(other_kind)
    }
}

fn partition_of(table: &Table, key: &[u8]) -> Result<PartitionId> {
    let manifest = table.manifest();
    let shard = manifest.shard_of(key).ok_or_else(|| Error::corrupt("the table has no shard for a key"))?;
    Ok(shard.partition)
}

/// The places of keys, by the partitions that hold them.
fn by_partition(table: &Table, keys: &[Key]) -> Groups {
    let manifest = table.manifest();
    let mut groups = Groups::new();
    for (at, key) in keys.iter().enumerate() {
        let Some(shard) = manifest.shard_of(key) else { continue };
        match groups.iter_mut().find(|group| group.partition == shard.partition) {
            Some(group) => group.places.push(at),
            None => groups.push(Group { partition: shard.partition, places: vec![at] }),
        }
    }
    groups
}

pub(crate) fn at_edition(options: &ReadOptions, edition: Seq) -> ReadOptions {
    ReadOptions { edition: Some(edition), ..options.clone() }
}

impl<T> Reading<T> {
    fn of(value: T, receipt: Receipt, token: SessionToken, node: ProcessId) -> Self {
        Self { value, receipt, token, nodes: SmallVec::from_slice(&[node]) }
    }

    pub(crate) fn with<U>(self, value: U) -> Reading<U> {
        Reading { value, receipt: self.receipt, token: self.token, nodes: self.nodes }
    }
}

impl Reading<()> {
    /// Nothing read yet.
    pub(crate) fn none(table: &Table) -> Self {
        Self { value: (), receipt: Receipt::default(), token: table.token(), nodes: SmallVec::new() }
    }

    /// Adds a part of the same answer.
    pub(crate) fn add(&mut self, receipt: &Receipt, token: &SessionToken, node: ProcessId) -> Result<()> {
        self.receipt.add(receipt);
        self.token.join(token)?;
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
        Ok(())
    }
}
