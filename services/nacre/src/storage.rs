//! Store, catalog and log from settings: what `serve`, `log` and `doctor` open alike.

use crate::aws;
use clap::Args;
use nacre_catalog::{Catalog, ObjectCatalog};
use nacre_log::{Log, ObjectLog, ObjectLogConfig};
use nacre_runtime::Context;
use nacre_store::{Expected, Metered, ObjectPath, ObjectStore, StoreIdentity};
use nacre_types::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The highest format level that this program understands.
const FORMAT_LEVEL: u32 = 1;
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

    /// The catalog: without it the store (dynamodb://table comes later)
    #[arg(long, value_name = "URL", env = "NACRE_CATALOG")]
    pub(crate) catalog: Option<String>,

    /// The log: without it the store (kafka://brokers/topic comes later)
    #[arg(long, value_name = "URL", env = "NACRE_LOG")]
    pub(crate) log: Option<String>,
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

    /// Whether catalog and log are ones that this program has.
    ///
    /// # Errors
    /// `Invalid` (`catalog-url`, `log-url`).
    pub(crate) fn check(&self) -> Result<()> {
        for (name, url, code, later) in [
            ("catalog", &self.catalog, "catalog-url", "dynamodb://"),
            ("log", &self.log, "log-url", "kafka://"),
        ] {
            match url {
                None => {}
                Some(url) if *url == self.store_url() => {}
                Some(url) if url.starts_with(later) => {
                    return Err(Error::invalid(format!(
                        "{name}: {later} comes later; leave {name} out, and it lies in the store"
                    ))
                    .with_code(code));
                }
                Some(_) => {
                    return Err(Error::invalid(format!(
                        "{name}: expected nothing (it lies in the store), or {later}.."
                    ))
                    .with_code(code));
                }
            }
        }
        Ok(())
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
/// What is wrong with the URLs, the store, or its identity.
pub(crate) async fn open(url: &str, ctx: &Context) -> Result<Storage> {
    // Counted below everything that asks it: the engine, the catalog and the log.
    let store = nacre_store::open(url, &aws::settings_for(url)?, ctx)?;
    let store: Arc<dyn ObjectStore> = Arc::new(Metered::new(store));
    nacre_store::probe(&store, ctx).await?;
    let expected = Expected {
        catalog: IN_THE_STORE.to_owned(),
        log: IN_THE_STORE.to_owned(),
        format_level: FORMAT_LEVEL,
    };
    let identity = StoreIdentity::open_or_create(&*store, &expected, ctx).await?;
    let catalog = Arc::new(ObjectCatalog::new(store.clone(), CATALOG_ROOT, ctx)?);
    // Where a look costs money, fewer of them.
    let pace = if url.starts_with("s3:") { ObjectLogConfig::remote() } else { ObjectLogConfig::default() };
    let config = ObjectLogConfig { incarnation: identity.log_incarnation, ..pace };
    let log = Arc::new(ObjectLog::open(store.clone(), &ObjectPath::new(LOG_ROOT)?, ctx, config)?);
    Ok(Storage { store, catalog, log, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(store: Option<&str>, log: Option<&str>) -> StorageSettings {
        StorageSettings {
            data: "./d".into(),
            store: store.map(str::to_owned),
            catalog: None,
            log: log.map(str::to_owned),
        }
    }

    #[test]
    fn the_store_is_the_data_folder_unless_said_otherwise() {
        assert_eq!(settings(None, None).store_url(), "file:./d");
        assert_eq!(settings(None, None).store_folder(), Some("./d".into()));
        assert_eq!(settings(Some("file:///a/b"), None).store_folder(), Some("/a/b".into()));
        assert_eq!(settings(Some("memory:"), None).store_folder(), None);
    }

    #[test]
    fn catalog_and_log_lie_in_the_store_for_now() {
        assert!(settings(None, None).check().is_ok());
        assert!(settings(Some("file:./x"), Some("file:./x")).check().is_ok());
        for log in ["kafka://h:1/t", "file:./other", "x"] {
            assert_eq!(settings(None, Some(log)).check().unwrap_err().code(), "log-url", "{log}");
        }
    }
}
