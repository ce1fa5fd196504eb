//! Names: which namespaces there are, and which table a name means.
//!
//! Stored state, all in records of the catalog that are replaced with if-match and never deleted: one record
//! `namespaces` that lists them, and one record `namespaces/<name>` each with its settings and its names of tables. A
//! table is made in two steps: first the table log of a newly minted id gets its first edit, then the record gets the
//! name; the second is the commit point. A crash between them leaves a table log that no name leads to: harmless.
//!
//! An update whose outcome is unknown is settled by reading the record again: the closure that made the change sees
//! whether it is there already. So every closure must be written to find its own effect.
//!
//! A process uses what it read for at most [`NAME_LIFE`] without reading again; it reads again in the background once
//! the record is older than [`NAME_REFRESH`] and at once when a name is not found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_catalog::{Catalog, RecordPut, RecordTag};
use nacre_runtime::{Backoff, Context};
use nacre_types::{Error, NamespaceName, Result, TableId};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::NamespaceSettings;

/// How long a name may be used without reading its record again.
pub(crate) const NAME_LIFE: Duration = Duration::from_secs(8 * 60);
/// From this age on a record is read again when somebody asks for a name of it.
pub(crate) const NAME_REFRESH: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 20;
const FORMAT: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct NamespaceRecord {
    pub(crate) settings: NamespaceSettings,
    pub(crate) tables: BTreeMap<String, TableEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableEntry {
    /// 32 hex digits.
    pub(crate) id: String,
    /// When the name was dropped, by the clock of the process that did it: tells people, decides nothing alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dropped_at_micros: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct NamespaceList {
    names: std::collections::BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Cached {
    record: Arc<NamespaceRecord>,
    read_at: Duration,
}

/// What a process knows of names.
#[derive(Debug)]
pub(crate) struct Names {
    catalog: Arc<dyn Catalog>,
    ctx: Context,
    cached: RwLock<HashMap<NamespaceName, Cached>>,
}

impl Names {
    pub(crate) fn new(catalog: Arc<dyn Catalog>, ctx: Context) -> Self {
        Self { catalog, ctx, cached: RwLock::default() }
    }

    /// What a name means, from memory if it is known and young enough. The second part says whether the record should
    /// be read again in the background.
    pub(crate) fn lookup_cached(&self, namespace: &str, table: &str) -> Option<(TableId, bool)> {
        let cached = self.cached.read();
        let held = cached.get(namespace)?;
        let age = self.ctx.clock.monotonic().saturating_sub(held.read_at);
        let entry = held.record.tables.get(table).filter(|entry| entry.dropped_at_micros.is_none())?;
        (age < NAME_LIFE).then(|| TableId::parse(&entry.id).ok().map(|id| (id, age > NAME_REFRESH))).flatten()
    }

    /// Reads the record of a namespace.
    pub(crate) async fn read(&self, namespace: &NamespaceName) -> Result<Arc<NamespaceRecord>> {
        let read_at = self.ctx.clock.monotonic();
        let found = self.catalog.record(&record_name(namespace)).await?;
        let Some((bytes, _)) = found else {
            return Err(Error::not_found(format!("there is no namespace {namespace}; PUT it first"))
                .with_code("namespace-not-found"));
        };
        let record = Arc::new(decode::<NamespaceRecord>(&bytes, "namespace")?);
        self.remember(namespace, &record, read_at);
        Ok(record)
    }

    fn remember(&self, namespace: &NamespaceName, record: &Arc<NamespaceRecord>, read_at: Duration) {
        let mut cached = self.cached.write();
        if cached.get(namespace).is_none_or(|held| held.read_at <= read_at) {
            cached.insert(namespace.clone(), Cached { record: record.clone(), read_at });
        }
    }

    /// All namespaces, in order.
    pub(crate) async fn list(&self) -> Result<Vec<NamespaceName>> {
        let list: NamespaceList = match self.catalog.record("namespaces").await? {
            Some((bytes, _)) => decode(&bytes, "list of namespaces")?,
            None => NamespaceList::default(),
        };
        list.names.iter().map(|name| NamespaceName::new(name)).collect()
    }

    /// Makes a namespace unless it is there. Answers its settings and whether they are new.
    pub(crate) async fn create(
        &self,
        namespace: &NamespaceName,
        settings: NamespaceSettings,
    ) -> Result<(NamespaceSettings, bool)> {
        // The list first: a name in it without a record is no namespace yet, a record that no list names would be lost.
        self.replace("namespaces", "list of namespaces", |list: Option<NamespaceList>| {
            let mut list = list.unwrap_or_default();
            Ok(if list.names.insert(namespace.to_string()) { Some(list) } else { None })
        })
        .await?;
        let mut made = false;
        let mut held = settings.clone();
        self.replace(&record_name(namespace), "namespace", |record: Option<NamespaceRecord>| match record {
            Some(record) => {
                held = record.settings;
                Ok(None)
            }
            None => {
                made = true;
                Ok(Some(NamespaceRecord { settings: settings.clone(), tables: BTreeMap::new() }))
            }
        })
        .await?;
        self.read(namespace).await?;
        Ok((held, made))
    }

    /// Changes the record of a namespace; `change` answers `None` where nothing has to be done. It is called again on
    /// fresh state when another process was faster.
    pub(crate) async fn update(
        &self,
        namespace: &NamespaceName,
        mut change: impl FnMut(&NamespaceRecord) -> Result<Option<NamespaceRecord>>,
    ) -> Result<()> {
        self.replace(&record_name(namespace), "namespace", |record: Option<NamespaceRecord>| match record {
            Some(record) => change(&record),
            None => Err(Error::not_found(format!("there is no namespace {namespace}; PUT it first"))
                .with_code("namespace-not-found")),
        })
        .await?;
        self.read(namespace).await?;
        Ok(())
    }

    pub(crate) async fn replace<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        what: &str,
        mut change: impl FnMut(Option<T>) -> Result<Option<T>>,
    ) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        for _ in 0..ATTEMPTS {
            let (held, tag): (Option<T>, Option<RecordTag>) = match self.catalog.record(name).await? {
                Some((bytes, tag)) => (Some(decode(&bytes, what)?), Some(tag)),
                None => (None, None),
            };
            let Some(next) = change(held)? else { return Ok(()) };
            match self.catalog.put_record(name, tag.as_ref(), encode(&next)?).await? {
                RecordPut::Stored(_) => return Ok(()),
                // Unknown: the next round reads what became of it.
                RecordPut::Conflict | RecordPut::Unknown => {
                    tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
                }
            }
        }
        Err(Error::unknown(format!(
            "the {what} record could not be settled in {ATTEMPTS} attempts; read it again"
        )))
    }
}

fn record_name(namespace: &NamespaceName) -> String {
    format!("namespaces/{namespace}")
}

/// Version byte, CRC-32 of the JSON (big-endian), JSON.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    let json =
        serde_json::to_vec(value).map_err(|e| Error::internal(format!("record does not encode: {e}")))?;
    let mut bytes = Vec::with_capacity(json.len() + 5);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&crc32fast::hash(&json).to_be_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes.into())
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    let damaged = |why: &str| Error::corrupt(format!("the {what} record is damaged: {why}"));
    let (head, json) = bytes.split_at_checked(5).ok_or_else(|| damaged("it is too short"))?;
    if head[0] != FORMAT {
        return Err(Error::corrupt(format!(
            "the {what} record has format {}; this program knows {FORMAT}",
            head[0]
        ))
        .with_code("newer-format"));
    }
    if head[1..] != crc32fast::hash(json).to_be_bytes() {
        return Err(damaged("its checksum does not match"));
    }
    serde_json::from_slice(json).map_err(|e| damaged(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_bytes() {
        let record = NamespaceRecord {
            settings: NamespaceSettings::default(),
            tables: BTreeMap::from([(
                "orders".to_owned(),
                TableEntry { id: TableId(7).to_string(), dropped_at_micros: None },
            )]),
        };
        let golden = b"\x01\x1d\xa8\xd3\x1a{\"settings\":{\"consistency\":null,\"quotas\":{}},\"tables\":{\"orders\":{\"id\":\"00000000000000000000000000000007\"}}}";
        assert_eq!(&encode(&record).unwrap()[5..], &golden[5..]);
        assert_eq!(decode::<NamespaceRecord>(&encode(&record).unwrap(), "namespace").unwrap(), record);
    }

    #[test]
    fn damage_is_told() {
        let bytes = encode(&NamespaceRecord::default()).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(decode::<NamespaceRecord>(&damaged, "namespace").is_err(), "byte {at}");
        }
        assert!(decode::<NamespaceRecord>(b"", "namespace").is_err());
    }
}
