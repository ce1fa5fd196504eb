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

    /// The catalog: dynamodb://table (made if it is missing; keys, region and endpoint come from the usual AWS_ variables and profiles); without it the store
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

    /// The catalog's URL, where it is not the store.
    pub(crate) fn catalog_url(&self) -> Option<&str> {
        self.catalog.as_deref().filter(|url| *url != self.store_url())
    }

    /// Whether catalog and log are ones that this program has.
    ///
    /// # Errors
    /// `Invalid` (`catalog-url`, `log-url`).
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(url) = self.catalog_url() {
            check_catalog(url)?;
        }
        match &self.log {
            None => Ok(()),
            Some(url) if *url == self.store_url() => Ok(()),
            Some(url) if url.starts_with("kafka://") => {
                Err(Error::invalid("log: kafka:// comes later; leave log out, and it lies in the store")
                    .with_code("log-url"))
            }
            Some(_) => Err(Error::invalid("log: expected nothing (it lies in the store), or kafka://..")
                .with_code("log-url")),
        }
    }
}

fn check_catalog(url: &str) -> Result<()> {
    if !url.starts_with("dynamodb:") {
        return Err(Error::invalid("catalog: expected nothing (it lies in the store), or dynamodb://table")
            .with_code("catalog-url"));
    }
    check_dynamodb(url)
}

#[cfg(feature = "dynamodb")]
fn check_dynamodb(url: &str) -> Result<()> {
    nacre_catalog::DynamoCatalog::is_named_by(url, "").map(drop)
}

#[cfg(not(feature = "dynamodb"))]
fn check_dynamodb(_: &str) -> Result<()> {
    Err(Error::invalid("catalog: this program was built without the feature dynamodb")
        .with_code("catalog-url"))
}

/// An open store with its catalog and log.
pub(crate) struct Storage {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) identity: StoreIdentity,
}

/// Opens everything, and refuses a store that breaks its promises or belongs to another catalog or log. `catalog` is
/// the catalog's URL, where it is not the store.
///
/// # Errors
/// What is wrong with the URLs, the store, the catalog, or the store's identity.
pub(crate) async fn open(url: &str, catalog: Option<&str>, ctx: &Context) -> Result<Storage> {
    // Counted below everything that asks it: the engine, the catalog and the log.
    let store = nacre_store::open(url, &aws::settings_for(url)?, ctx)?;
    let store: Arc<dyn ObjectStore> = Arc::new(Metered::new(store));
    nacre_store::probe(&store, ctx).await?;
    let (catalog, identity) = match catalog {
        None => {
            let identity = StoreIdentity::open_or_create(&*store, &expected(IN_THE_STORE), ctx).await?;
            let catalog = ObjectCatalog::new(store.clone(), CATALOG_ROOT, ctx)?;
            (Arc::new(catalog) as Arc<dyn Catalog>, identity)
        }
        Some(catalog) => in_dynamodb(&store, catalog, ctx).await?,
    };
    // Where a look costs money, fewer of them.
    let pace = if url.starts_with("s3:") { ObjectLogConfig::remote() } else { ObjectLogConfig::default() };
    let config = ObjectLogConfig { incarnation: identity.log_incarnation, ..pace };
    let log = Arc::new(ObjectLog::open(store.clone(), &ObjectPath::new(LOG_ROOT)?, ctx, config)?);
    Ok(Storage { store, catalog, log, identity })
}

fn expected(catalog: &str) -> Expected {
    Expected { catalog: catalog.to_owned(), log: IN_THE_STORE.to_owned(), format_level: FORMAT_LEVEL }
}

/// The catalog first, since the store's identity names it; then the catalog is told whose it is.
#[cfg(feature = "dynamodb")]
async fn in_dynamodb(
    store: &Arc<dyn ObjectStore>,
    url: &str,
    ctx: &Context,
) -> Result<(Arc<dyn Catalog>, StoreIdentity)> {
    use nacre_catalog::DynamoCatalog;
    let known = StoreIdentity::read(&**store).await?;
    // A store of another catalog is refused before a table is made for it,
    if let Some(identity) = &known
        && !DynamoCatalog::is_named_by(url, &identity.catalog)?
    {
        identity.check(&expected(url))?;
    }
    let catalog =
        DynamoCatalog::open(url, &aws::dynamo_settings()?, store.clone(), CATALOG_ROOT, ctx).await?;
    // and a new store before it is named as that of another store's catalog.
    catalog.check_claim(known.map(|identity| identity.store_id)).await?;
    let identity = StoreIdentity::open_or_create(&**store, &expected(&catalog.identity()), ctx).await?;
    catalog.claim(identity.store_id).await?;
    Ok((Arc::new(catalog), identity))
}

#[cfg(not(feature = "dynamodb"))]
async fn in_dynamodb(
    _: &Arc<dyn ObjectStore>,
    url: &str,
    _: &Context,
) -> Result<(Arc<dyn Catalog>, StoreIdentity)> {
    check_catalog(url)?;
    Err(Error::internal("no catalog behind this URL"))
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
    fn the_log_lies_in_the_store_for_now() {
        assert!(settings(None, None).check().is_ok());
        assert!(settings(Some("file:./x"), Some("file:./x")).check().is_ok());
        for log in ["kafka://h:1/t", "file:./other", "x"] {
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
