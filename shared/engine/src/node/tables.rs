//! Making and dropping tables: a first edit in a log of its own, and a name that leads to it.
//!
//! The log comes first, so a name never leads nowhere; who loses the race for a name leaves a table log that nothing
//! names. A dropped name stays taken as long as another process may still lead writes by it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_catalog::{Append, EncodedEdit, append_until_known};
use nacre_manifest::{Change, Edit, Manifest, Shard};
use nacre_types::{
    CommitId, Error, Generation, Key, NamespaceName, PartitionId, Result, Seq, ShardId, TableId, TableName,
    TableSettings,
};

use super::{Node, never_made};
use crate::names::TableEntry;
use crate::{Created, Table};

impl Node {
    /// Opens every table of the store that is not open yet, so that [`Node::open_tables`] has them all. For who looks
    /// after them; others open what they are asked for.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn open_all_tables(self: &Arc<Self>) -> Result<()> {
        for namespace in self.namespaces().await? {
            for table in self.tables(&namespace).await? {
                self.table_by_id(table.id).await?;
            }
        }
        Ok(())
    }

    /// Makes a table, or answers that it is there and equal. `split_at` are the first keys of all shards but the first.
    ///
    /// # Errors
    /// `Conflict` (`table-exists`) where it has other settings; `Conflict` (`name-not-free-yet`) with a time to wait
    /// where the name was dropped a moment ago; `Invalid` (`split-at`); `NotFound` (`namespace-not-found`).
    pub async fn create_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
        settings: TableSettings,
        split_at: Vec<Bytes>,
    ) -> Result<Created<Arc<Table>>> {
        let shards = self.shards(split_at)?;
        if let Some(table) = self.find_table(namespace, name).await? {
            return same_or_conflict(table, &settings, &shards);
        }
        let id = TableId(self.shared.ctx.ids.random_u128());
        self.write_first_edit(id, settings.clone(), shards.clone()).await?;
        let now = self.shared.ctx.clock.now_micros();
        let freed = self.freed_name(namespace, name).await?;
        let mut winner = id;
        self.names
            .update(namespace, |record| {
                match record.tables.get(name.as_str()) {
                    Some(entry) if entry.dropped_at_micros.is_none() => {
                        winner = TableId::parse(&entry.id)?;
                        return Ok(None);
                    }
                    Some(entry) => {
                        let is_freed = freed.as_ref() == Some(entry);
                        let life =
                            if is_freed { Duration::ZERO } else { self.shared.config.dropped_name_life };
                        let free_at =
                            entry.dropped_at_micros.unwrap_or(0).saturating_add(life.as_micros() as i64);
                        if now < free_at {
                            return Err(Error::conflict(format!(
                                "the name {name} was dropped a moment ago and is not free yet"
                            ))
                            .with_code("name-not-free-yet")
                            .with_retry_after_ms((free_at - now) as u64 / 1_000 + 1));
                        }
                    }
                    None => {}
                }
                winner = id;
                let mut next = record.clone();
                next.tables
                    .insert(name.to_string(), TableEntry { id: id.to_string(), dropped_at_micros: None });
                Ok(Some(next))
            })
            .await?;
        let table = self.table_by_id(winner).await?.ok_or_else(|| never_made(winner))?;
        if winner == id { Ok(Created::New(table)) } else { same_or_conflict(table, &settings, &shards) }
    }

    /// The entry of a dropped name that nobody else can still use: this process is alone, and was found so after the
    /// drop was. Whoever registers later reads the names later.
    async fn freed_name(&self, namespace: &NamespaceName, name: &TableName) -> Result<Option<TableEntry>> {
        let record = self.names.read(namespace).await?;
        let dropped = record.tables.get(name.as_str()).filter(|entry| entry.dropped_at_micros.is_some());
        let Some(entry) = dropped.filter(|_| self.shared.presence.is_alone()) else { return Ok(None) };
        let alone = self.shared.presence.is_alone_now(&*self.shared.catalog).await?;
        Ok(alone.then(|| entry.clone()))
    }

    /// Drops a table: its name goes, its data stays until it is purged. Once begun it is carried through: a client that
    /// goes away does not leave a table that has no name and is not dropped.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn drop_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
    ) -> Result<TableId> {
        let (node, namespace, name) = (self.clone(), namespace.clone(), name.clone());
        let dropping = async move { node.drop_table_steps(&namespace, &name).await };
        self.shared.ctx.tasks.spawn("drop-table", dropping).await?
    }

    async fn drop_table_steps(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
    ) -> Result<TableId> {
        let table = self.table(namespace, name).await?;
        let id = table.id();
        let now = self.shared.ctx.clock.now_micros();
        self.names
            .update(namespace, |record| match record.tables.get(name.as_str()) {
                Some(entry) if entry.id == id.to_string() && entry.dropped_at_micros.is_none() => {
                    let mut next = record.clone();
                    let entry = TableEntry { id: entry.id.clone(), dropped_at_micros: Some(now) };
                    next.tables.insert(name.to_string(), entry);
                    Ok(Some(next))
                }
                _ => Ok(None),
            })
            .await?;
        table
            .commit(Box::new(|manifest| {
                Ok(if manifest.dropped().is_some() { Vec::new() } else { vec![Change::DropTable] })
            }))
            .await?;
        Ok(id)
    }

    /// Shards for a new table, spread over the partitions. Which partition comes first is drawn, so that tables of one
    /// shard do not all meet in one.
    fn shards(&self, mut split_at: Vec<Bytes>) -> Result<Vec<Shard>> {
        for key in &split_at {
            Key::check(key).map_err(|e| e.context("split_at").with_code("split-at"))?;
        }
        if !split_at.is_sorted_by(|a, b| a < b) {
            return Err(Error::invalid("split_at must rise from key to key").with_code("split-at"));
        }
        let partitions = self.shared.log.partitions();
        let first = (self.shared.ctx.ids.random_u64() % u64::from(partitions.max(1))) as u32;
        split_at.insert(0, Bytes::new());
        Ok(split_at
            .into_iter()
            .enumerate()
            .map(|(at, start)| Shard {
                id: ShardId(at as u32),
                start,
                partition: PartitionId((first + at as u32) % partitions.max(1)),
                generation: Generation(0),
            })
            .collect())
    }

    async fn write_first_edit(&self, id: TableId, settings: TableSettings, shards: Vec<Shard>) -> Result<()> {
        let edit = Edit::one(Change::CreateTable { settings, shards }, self.shared.ctx.clock.now_micros());
        Manifest::empty(id).apply(Seq(1), &edit).map_err(Error::from)?;
        let encoded = EncodedEdit {
            commit_id: CommitId(self.shared.ctx.ids.random_u128()),
            predecessor: CommitId(0),
            body: edit.encode(),
        };
        let limit = Duration::from_secs(20);
        match append_until_known(&*self.shared.catalog, &self.shared.ctx, id, Seq(0), &encoded, limit).await?
        {
            Append::Committed(_) => Ok(()),
            // The id was minted a moment ago: nobody else writes to its log.
            Append::Conflict { .. } => Err(Error::internal(format!("table id {id} is taken"))),
            Append::Unknown => {
                Err(Error::unknown("it is not known whether the table was made; create it again"))
            }
        }
    }
}

/// The settings that differ, as JSON: what is, and what was asked for.
fn differences(held: &TableSettings, asked: &TableSettings) -> Vec<String> {
    let fields = |settings| serde_json::to_value(settings).unwrap_or_default();
    let (held, asked) = (fields(held), fields(asked));
    let names: std::collections::BTreeSet<&String> = [&held, &asked]
        .into_iter()
        .filter_map(|fields| fields.as_object())
        .flat_map(|map| map.keys())
        .collect();
    let differs = names.into_iter().filter(|name| held.get(*name) != asked.get(*name));
    let told = differs.map(|name| {
        let shown = |fields: &serde_json::Value| match fields.get(name) {
            None | Some(serde_json::Value::Null) => "none".to_owned(),
            Some(value) => value.to_string(),
        };
        format!("{name} is {}, not {}", shown(&held), shown(&asked))
    });
    told.collect()
}

fn same_or_conflict(
    table: Arc<Table>,
    settings: &TableSettings,
    shards: &[Shard],
) -> Result<Created<Arc<Table>>> {
    let manifest = table.manifest();
    let wanted = || shards.iter().map(|shard| &shard.start);
    // Shards may have been split since: what was asked for must be among them.
    let has_shards = wanted().all(|start| manifest.shards().iter().any(|shard| shard.start == *start));
    // Who names no key has nothing against the one that a load declared: a job that makes its table before each load
    // runs again.
    let held = manifest.settings();
    let key = settings.key.clone().or_else(|| held.key.clone());
    let asked = TableSettings { key, ..settings.clone() };
    if *held == asked && has_shards {
        return Ok(Created::Same(table));
    }
    let shards = if has_shards { None } else { Some("it is not split at these keys".to_owned()) };
    let differing = differences(held, &asked);
    let differing: Vec<String> = differing.into_iter().chain(shards).collect();
    let told = differing.join(", ");
    Err(Error::conflict(format!("the table exists with other settings ({told}); PATCH changes them"))
        .with_code("table-exists"))
}
