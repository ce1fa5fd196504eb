//! Declaring and removing sources, and what a table says of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use nacre_manifest::{Change, DeclareSource, Manifest};
use nacre_source::{Declaration, Mapping, Start, Unit, ValueSpec};
use nacre_types::{Error, LoadId, Offset, PartitionId, Result, TableId, TableSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::follow::declaration;
use super::status::{PartitionState, read_record};
use super::{SourcePart, TopicInfo};
use crate::node::Node;
use crate::{BeginLoad, Guards, LoadColumnNames, LoadMode, OnDuplicate, Table};

/// The record that lists the tables that have, or had, a source: a hint where to look.
const RECORD: &str = "sources";

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Tables {
    tables: BTreeSet<String>,
}

/// A table's source described.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceInfo {
    /// The declaration.
    pub declaration: Declaration,
    /// The load that was opened for what the topic no longer has, until it is forgotten.
    pub backfill_load: Option<LoadId>,
    /// Per partition of the topic: everything below the offset is applied, and what its consumer says.
    pub partitions: Vec<(Offset, Option<PartitionState>)>,
}

/// From this format level on a store may hold tables with sources.
const FORMAT_LEVEL: u32 = 2;

impl Node {
    /// Refuses what programs that may still run on the store could not read.
    async fn check_format_level(&self) -> Result<()> {
        // Read anew: it is raised by a command, while processes run. A store without identity has no other programs.
        let identity = nacre_store::StoreIdentity::read(&*self.shared.store).await?;
        let level = identity.map_or(FORMAT_LEVEL, |identity| identity.format_level);
        if level >= FORMAT_LEVEL {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "sources want format level {FORMAT_LEVEL}, and the store has {level}, which older programs can read; when all \
             processes run this release, raise it with: nacre format upgrade"
        ))
        .with_code("format-level"))
    }

    /// Declares the source of a table, or removes it (`None`). The same declaration again changes nothing; one that keeps
    /// topic and start goes on where the old one stands; any other begins at its start.
    ///
    /// # Errors
    /// `Invalid` (`source-invalid`) naming the field; `NotFound` (`source-topic-missing`); `Conflict`, (`format-level`) where
    /// the store may still be read by programs that know no sources; `Unavailable`.
    pub async fn declare_source(self: &Arc<Self>, table: &Arc<Table>, value: Option<&Value>) -> Result<()> {
        table.check_not_dropped()?;
        table.refresh().await?;
        let Some(value) = value else {
            let remove = |manifest: &Manifest| {
                Ok(if manifest.source().is_some() { vec![Change::RemoveSource] } else { Vec::new() })
            };
            return table.commit(Box::new(remove)).await.map(drop);
        };
        self.check_format_level().await?;
        let wanted = Declaration::parse(value)?;
        wanted.check(&table.settings())?;
        let body = Bytes::from(
            serde_json::to_vec(&wanted)
                .map_err(|error| Error::internal(format!("the declaration does not encode: {error}")))?,
        );
        let manifest = table.manifest();
        let is_same = manifest.source().is_some_and(|source| source.declaration == body);
        if !is_same {
            let topic = self.topics()?.topic(&wanted.kafka).await?;
            let goes_on = manifest.source().is_some_and(|source| {
                source.topic == topic.id
                    && declaration(&source.declaration)
                        .is_ok_and(|held| held.kafka == wanted.kafka && held.start == wanted.start)
            });
            let starts = if goes_on { None } else { Some(self.starts(&wanted, topic).await?) };
            self.list_source(table.id()).await?;
            let change = DeclareSource { declaration: body.clone(), topic: topic.id, starts };
            table
                .commit(Box::new(move |manifest| {
                    let is_same =
                        manifest.source().is_some_and(|source| source.declaration == change.declaration);
                    Ok(if is_same { Vec::new() } else { vec![Change::DeclareSource(change.clone())] })
                }))
                .await?;
        }
        self.begin_backfill(table, &wanted).await
    }

    /// Whether a declaration fits a table of these settings, and its topic is there.
    ///
    /// # Errors
    /// As [`Node::declare_source`].
    pub async fn check_source(&self, value: &Value, settings: &TableSettings) -> Result<()> {
        self.check_format_level().await?;
        let wanted = Declaration::parse(value)?;
        wanted.check(settings)?;
        let topic = self.topics()?.topic(&wanted.kafka).await?;
        self.starts(&wanted, topic).await.map(drop)
    }

    async fn starts(&self, wanted: &Declaration, topic: TopicInfo) -> Result<Vec<Offset>> {
        let mut starts = Vec::new();
        if let Start::Offsets(offsets) = &wanted.start
            && let Some(name) =
                offsets.keys().find(|name| name.parse::<u32>().is_ok_and(|n| n >= topic.partitions))
        {
            return Err(invalid_start(format!(
                "the topic has {} partitions, and no {name}",
                topic.partitions
            )));
        }
        for partition in 0..topic.partitions {
            let ends = self.topics()?.ends(&wanted.kafka, partition).await?;
            let start = match &wanted.start {
                Start::Earliest => ends.start,
                Start::Latest => ends.end,
                Start::Offsets(offsets) => {
                    let Some(offset) = offsets.get(&partition.to_string()).copied() else {
                        return Err(invalid_start(format!(
                            "no offset for partition {partition}; say one for each of the {} partitions",
                            topic.partitions
                        )));
                    };
                    if offset < ends.start || offset > ends.end {
                        return Err(invalid_start(format!(
                            "partition {partition} has the offsets from {} to {}, and {offset} is not among them",
                            ends.start, ends.end
                        )));
                    }
                    offset
                }
            };
            starts.push(Offset(start));
        }
        Ok(starts)
    }

    /// Before the edit: a table in the list without a source costs a look, one that is not in it would never be consumed.
    async fn list_source(&self, table: TableId) -> Result<()> {
        self.names
            .replace(RECORD, "list of tables with sources", |list: Option<Tables>| {
                let mut list = list.unwrap_or_default();
                Ok(list.tables.insert(table.to_string()).then_some(list))
            })
            .await
    }

    /// The partitions of the sources of all tables that this process has open.
    pub fn open_source_parts(&self) -> Vec<SourcePart> {
        self.open_tables().iter().flat_map(parts_of).collect()
    }

    /// The partitions of all sources of the store.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn source_parts(self: &Arc<Self>) -> Result<Vec<SourcePart>> {
        let list: Tables = match self.shared.catalog.record(RECORD).await? {
            Some((bytes, _)) => crate::names::decode(&bytes, "list of tables with sources")?,
            None => return Ok(Vec::new()),
        };
        let mut parts = Vec::new();
        for table in &list.tables {
            let id = TableId::parse(table)?;
            let Some(table) = self.table_by_id(id).await? else { continue };
            parts.extend(parts_of(&table));
        }
        Ok(parts)
    }

    async fn begin_backfill(&self, table: &Arc<Table>, wanted: &Declaration) -> Result<()> {
        let Some(key) = backfill_key(&table.manifest()) else { return Ok(()) };
        if table.manifest().load_of_key(xxhash_rust::xxh3::xxh3_128(key.as_bytes())).is_some() {
            return Ok(());
        }
        let request = BeginLoad {
            mode: LoadMode::Merge,
            version: None,
            source: None,
            columns: Some(columns(&wanted.mapping)),
            guards: Guards::default(),
            on_duplicate: OnDuplicate::default(),
        };
        let body = serde_json::to_vec(&request)
            .map_err(|error| Error::internal(format!("the request does not encode: {error}")))?;
        table.begin_load(&request, body.into(), Some(&key)).await.map(drop)
    }

    /// What a table's source is and how far it is; `None` = it has none.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` (`newer-format`).
    pub async fn source_info(&self, table: &Arc<Table>) -> Result<Option<SourceInfo>> {
        let manifest = table.manifest();
        let Some(source) = manifest.source() else { return Ok(None) };
        let backfill_load = backfill_key(&manifest)
            .and_then(|key| manifest.load_of_key(xxhash_rust::xxh3::xxh3_128(key.as_bytes())))
            .map(|load| load.id);
        let mut partitions = Vec::with_capacity(source.partitions.len());
        for (at, partition) in (0u32..).zip(&source.partitions) {
            let part = SourcePart { table: table.id(), partition: at };
            let state = match self.shared.sources.get(part) {
                Some(state) => Some(state),
                None if self.is_alone() => None,
                None => read_record(&*self.shared.catalog, table.id(), at).await?,
            };
            partitions.push((manifest.covered(*partition), state));
        }
        Ok(Some(SourceInfo { declaration: declaration(&source.declaration)?, backfill_load, partitions }))
    }
}

fn parts_of(table: &Arc<Table>) -> Vec<SourcePart> {
    let manifest = table.manifest();
    let source = manifest.source().filter(|_| manifest.dropped().is_none());
    let count = source.map_or(0, |source| u32::try_from(source.partitions.len()).unwrap_or(u32::MAX));
    (0..count).map(|partition| SourcePart { table: table.id(), partition }).collect()
}

fn invalid_start(what: String) -> Error {
    Error::invalid(format!("source.start: {what}")).with_code("source-invalid")
}

/// One backfill for each beginning of a source, known by the first partition that it was given.
fn backfill_key(manifest: &Manifest) -> Option<String> {
    let first: PartitionId = *manifest.source()?.partitions.first()?;
    Some(format!("nacre source backfill {first}"))
}

/// The columns of a dump of what the topic's rows are of, as far as the mapping tells.
fn columns(mapping: &Mapping) -> LoadColumnNames {
    let name = |field: &String| field.trim_start_matches(['@', '/']).replace('/', ".");
    let is_row = |field: &&String| !field.starts_with('@');
    let version = &mapping.version;
    LoadColumnNames {
        key: mapping.key.iter().map(name).collect(),
        value: match &mapping.value {
            ValueSpec::Document => Some("value".to_owned()),
            ValueSpec::Field(field) => Some(name(field)),
            ValueSpec::Pack(_) => None,
        },
        pack: match &mapping.value {
            ValueSpec::Pack(fields) => Some(fields.iter().map(name).collect()),
            _ => None,
        },
        // A load takes microseconds or numbers as they are; anything else is to be computed by who makes the dump.
        version: Some(match (&version.field, version.unit) {
            (Some(field), Some(Unit::Micros | Unit::Number)) if is_row(&field) => name(field),
            _ => "version".to_owned(),
        }),
        expires_at: mapping
            .expires_at
            .as_ref()
            .filter(|expires| expires.unit == Unit::Micros && is_row(&&expires.field))
            .map(|expires| name(&expires.field)),
        delete: mapping
            .delete
            .as_ref()
            .filter(|rule| rule.equals.is_none())
            .and_then(|rule| rule.field.as_ref().filter(is_row).map(name)),
    }
}
