//! Store, catalog and log from settings: what `serve`, `log` and `doctor` open alike.

mod dynamodb;
mod topic;

use self::topic::Topic;
#[cfg(feature = "kafka")]
pub(crate) use self::topic::name_of_topic;
use crate::aws;
use crate::kafka::{self, KafkaSettings};
use clap::Args;
use nacre_catalog::{Catalog, ObjectCatalog};
use nacre_log::{Log, ObjectLog, ObjectLogConfig};
use nacre_runtime::Context;
use nacre_store::{Expected, Metered, ObjectPath, ObjectStore, StoreIdentity};
use nacre_types::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The highest format level that this program understands: 1 = the first; 2 = tables with sources (edits 31 to 33, manifest
/// snapshots of version 2), and logs that were taken up again (identities of version 2).
pub(crate) const FORMAT_LEVEL: u32 = 2;
/// Where the catalog and the log lie in a store. Never changed: stores have them there.
const CATALOG_ROOT: &str = "catalog";
const LOG_ROOT: &str = "log";
/// What a store's identity calls a catalog or log that lies in the store itself.
const IN_THE_STORE: &str = "store";

/// Where everything lies.
#[derive(Debug, Clone, Args)]
pub(crate) struct StorageSettings {
    /// The folder of this machine that the store lies in, unless --store says otherwise
    #[arg(long, value_name = "DIR", env = "NACRE_DATA", default_value = "./nacre-data")]
    pub(crate) data: PathBuf,

    /// The object store: s3://bucket/prefix (keys, region and endpoint come from the usual AWS_ variables and profiles), file:./dir or file:///dir; without it the folder of --data
    #[arg(long, value_name = "URL", env = "NACRE_STORE")]
    pub(crate) store: Option<String>,

    /// The catalog: dynamodb://table (made if it is missing; keys, region and endpoint come from the usual AWS_ variables and profiles); without it the store
    #[arg(long, value_name = "URL", env = "NACRE_CATALOG")]
    pub(crate) catalog: Option<String>,

    /// The log: without it the store, else kafka://host:port,host:port/topic
    #[arg(long, value_name = "URL", env = "NACRE_LOG")]
    pub(crate) log: Option<String>,

    #[command(flatten)]
    pub(crate) kafka: KafkaSettings,
}

impl StorageSettings {
    /// The store's URL.
    pub(crate) fn store_url(&self) -> String {
        self.store.clone().unwrap_or_else(|| format!("file:{}", self.data.display()))
    }

    /// The folder of a store that lies on this machine.
    pub(crate) fn store_folder(&self) -> Option<PathBuf> {
        let url = self.store_url();
        let path = url.strip_prefix("file:")?;
        Some(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
    }

    /// The catalog's URL, where it is not the store.
    pub(crate) fn catalog_url(&self) -> Option<&str> {
        self.catalog.as_deref().filter(|url| *url != self.store_url())
    }

    /// The log's URL, where it lies on Kafka.
    pub(crate) fn kafka_url(&self) -> Option<&str> {
        self.log.as_deref().filter(|url| kafka::is_kafka(url))
    }

    /// Whether catalog and log are ones that this program has.
    ///
    /// # Errors
    /// `Invalid` (`catalog-url`, `log-url`, `log-config`, `log-not-built`).
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(url) = self.catalog_url() {
            dynamodb::check(url)?;
        }
        match &self.log {
            None => Ok(()),
            Some(url) if *url == self.store_url() => Ok(()),
            Some(url) if kafka::is_kafka(url) => self.kafka.check(url),
            Some(_) => Err(Error::invalid(
                "log: expected nothing (it lies in the store), or kafka://host:port/topic",
            )
            .with_code("log-url")),
        }
    }
}

/// An open store with its catalog and log.
pub(crate) struct Storage {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) identity: StoreIdentity,
}

/// Opens everything, and refuses a store that breaks its promises or belongs to another catalog or log.
///
/// # Errors
/// What is wrong with the URLs, the store, the catalog, the log, or the store's identity.
pub(crate) async fn open(settings: &StorageSettings, url: &str, ctx: &Context) -> Result<Storage> {
    // Counted below everything that asks it: the engine, the catalog and the log.
    let store = nacre_store::open(url, &aws::settings_for(url)?, ctx)?;
    let store: Arc<dyn ObjectStore> = Arc::new(Metered::new(store));
    nacre_store::probe(&store, ctx).await?;
    // The topic is judged before the store's identity may name it, and the catalog is made.
    let topic = match settings.kafka_url() {
        None => None,
        Some(log_url) => Some(Topic::describe(settings, log_url, ctx).await?),
    };
    if let Some(topic) = &topic {
        topic.check_unused_by_others(&*store, ctx).await?;
    }
    let log = topic.as_ref().map_or_else(|| IN_THE_STORE.to_owned(), Topic::name);
    let (catalog, identity) = match settings.catalog_url() {
        None => {
            let expected = expected(IN_THE_STORE, &log);
            let identity = StoreIdentity::open_or_create(&*store, &expected, ctx).await?;
            let catalog = ObjectCatalog::new(store.clone(), CATALOG_ROOT, ctx)?;
            (Arc::new(catalog) as Arc<dyn Catalog>, identity)
        }
        Some(catalog) => dynamodb::open(&store, catalog, &log, ctx).await?,
    };
    if let Some(topic) = topic {
        let log = topic.open(catalog.clone(), &identity, ctx).await?;
        return Ok(Storage { store, catalog, log, identity });
    }
    // Where a look costs money, fewer of them.
    let pace = if url.starts_with("s3:") { ObjectLogConfig::remote() } else { ObjectLogConfig::default() };
    let config = ObjectLogConfig { incarnation: identity.log_incarnation, ..pace };
    let log = Arc::new(ObjectLog::open(store.clone(), &ObjectPath::new(LOG_ROOT)?, ctx, config)?);
    Ok(Storage { store, catalog, log, identity })
}

/// A store as it is found: neither probed, nor compared with the log that is configured.
pub(crate) struct Found {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) identity: StoreIdentity,
}

/// A store's identity and catalog, for a look that makes nothing, and that answers where a server would not start because of
/// the log.
///
/// # Errors
/// `NotFound` (`store-not-found`, `catalog-not-found`); `Invalid` (`store-identity`) where the catalog is not the store's,
/// (`newer-format`); what is wrong with the URLs, the store or the catalog.
pub(crate) async fn look(settings: &StorageSettings, ctx: &Context) -> Result<Found> {
    let url = settings.store_url();
    let absent = || Error::not_found(format!("there is no store at {url}")).with_code("store-not-found");
    if settings.store_folder().is_some_and(|folder| !folder.join("identity").is_file()) {
        return Err(absent());
    }
    let store = nacre_store::open(&url, &aws::settings_for(&url)?, ctx)?;
    let identity = StoreIdentity::read(&*store).await?.ok_or_else(absent)?;
    identity.check_level(FORMAT_LEVEL)?;
    let (catalog, name) = match settings.catalog_url() {
        None => {
            let catalog = ObjectCatalog::new(store.clone(), CATALOG_ROOT, ctx)?;
            (Arc::new(catalog) as Arc<dyn Catalog>, IN_THE_STORE.to_owned())
        }
        Some(catalog) => dynamodb::look(&store, catalog, ctx).await?,
    };
    // Of the catalog alone: what is wrong with the log is what is looked at.
    StoreIdentity { resume: None, ..identity.clone() }.check(&expected(&name, &identity.log))?;
    Ok(Found { store, catalog, identity })
}

fn expected(catalog: &str, log: &str) -> Expected {
    Expected { catalog: catalog.to_owned(), log: log.to_owned(), format_level: FORMAT_LEVEL }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(store: Option<&str>, log: Option<&str>) -> StorageSettings {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            storage: StorageSettings,
        }
        let said = |name: &str, value: Option<&str>| value.map(|value| format!("--{name}={value}"));
        let words =
            [Some("x".to_owned()), Some("--data=./d".to_owned()), said("store", store), said("log", log)];
        <Line as clap::Parser>::try_parse_from(words.into_iter().flatten()).unwrap().storage
    }

    #[test]
    fn the_store_is_the_data_folder_unless_said_otherwise() {
        assert_eq!(settings(None, None).store_url(), "file:./d");
        assert_eq!(settings(None, None).store_folder(), Some("./d".into()));
        assert_eq!(settings(Some("file:///a/b"), None).store_folder(), Some("/a/b".into()));
        assert_eq!(settings(Some("memory:"), None).store_folder(), None);
    }

    #[test]
    fn a_log_lies_in_the_store_or_on_kafka() {
        assert!(settings(None, None).check().is_ok());
        assert!(settings(Some("file:./x"), Some("file:./x")).check().is_ok());
        assert_eq!(settings(None, Some("kafka://h:1/t")).check().is_ok(), cfg!(feature = "kafka"));
        for log in ["file:./other", "x"] {
            assert_eq!(settings(None, Some(log)).check().unwrap_err().code(), "log-url", "{log}");
        }
    }

    #[test]
    fn the_catalog_lies_in_the_store_or_in_dynamodb() {
        let with = |catalog: &str| StorageSettings { catalog: Some(catalog.into()), ..settings(None, None) };
        assert_eq!(with("file:./d").catalog_url(), None);
        assert!(with("file:./d").check().is_ok());
        for catalog in ["x", "file:./other", "dynamodb://a/b", "dynamodb://"] {
            assert_eq!(with(catalog).check().unwrap_err().code(), "catalog-url", "{catalog}");
        }
        assert_eq!(with("dynamodb://nacre").catalog_url(), Some("dynamodb://nacre"));
        assert_eq!(with("dynamodb://nacre").check().is_ok(), cfg!(feature = "dynamodb"));
    }
}
