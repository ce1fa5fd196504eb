//! Catalogs in DynamoDB.

#[cfg(feature = "dynamodb")]
use crate::aws;
use nacre_catalog::Catalog;
use nacre_runtime::Context;
use nacre_store::{ObjectStore, StoreIdentity};
use nacre_types::{Error, Result};
use std::sync::Arc;

/// Whether a catalog's URL is one that this program can reach.
///
/// # Errors
/// `Invalid` (`catalog-url`).
pub(super) fn check(url: &str) -> Result<()> {
    if !url.starts_with("dynamodb:") {
        return Err(Error::invalid("catalog: expected nothing (it lies in the store), or dynamodb://table")
            .with_code("catalog-url"));
    }
    is_reachable(url)
}

#[cfg(feature = "dynamodb")]
fn is_reachable(url: &str) -> Result<()> {
    nacre_catalog::DynamoCatalog::is_named_by(url, "").map(drop)
}

#[cfg(not(feature = "dynamodb"))]
fn is_reachable(_: &str) -> Result<()> {
    Err(Error::invalid("catalog: this program was built without the feature dynamodb")
        .with_code("catalog-url"))
}

/// The catalog first, since the store's identity names it; then the catalog is told whose it is.
#[cfg(feature = "dynamodb")]
pub(super) async fn open(
    store: &Arc<dyn ObjectStore>,
    url: &str,
    log: &str,
    ctx: &Context,
) -> Result<(Arc<dyn Catalog>, StoreIdentity)> {
    use nacre_catalog::DynamoCatalog;
    let known = StoreIdentity::read(&**store).await?;
    // A store of another catalog is refused before a table is made for it,
    if let Some(identity) = &known
        && !DynamoCatalog::is_named_by(url, &identity.catalog)?
    {
        identity.check(&super::expected(url, log))?;
    }
    let catalog =
        DynamoCatalog::open(url, &aws::dynamo_settings()?, store.clone(), super::CATALOG_ROOT, ctx).await?;
    // and a new store before it is named as that of another store's catalog. Whoever claims a catalog has made his store
    // before: where processes of one new store start side by side, it is there by now.
    if let Err(error) = catalog.check_claim(known.as_ref().map(|identity| identity.store_id)).await {
        match StoreIdentity::read(&**store).await? {
            Some(made) if known.is_none() => catalog.check_claim(Some(made.store_id)).await?,
            _ => return Err(error),
        }
    }
    let identity =
        StoreIdentity::open_or_create(&**store, &super::expected(&catalog.identity(), log), ctx).await?;
    catalog.claim(identity.store_id).await?;
    Ok((Arc::new(catalog), identity))
}

#[cfg(not(feature = "dynamodb"))]
pub(super) async fn open(
    _: &Arc<dyn ObjectStore>,
    url: &str,
    _: &str,
    _: &Context,
) -> Result<(Arc<dyn Catalog>, StoreIdentity)> {
    check(url)?;
    Err(Error::internal("no catalog behind this URL"))
}

/// The catalog of a store that is there, and its name; makes nothing.
///
/// # Errors
/// `NotFound` (`catalog-not-found`); what is wrong with the URL or the catalog.
#[cfg(feature = "dynamodb")]
pub(super) async fn look(
    store: &Arc<dyn ObjectStore>,
    url: &str,
    ctx: &Context,
) -> Result<(Arc<dyn Catalog>, String)> {
    let settings = aws::dynamo_settings()?;
    if !nacre_catalog::DynamoCatalog::look(url, &settings, ctx).await? {
        return Err(Error::not_found(format!("there is no catalog at {url}")).with_code("catalog-not-found"));
    }
    let root = super::CATALOG_ROOT;
    let catalog = nacre_catalog::DynamoCatalog::open(url, &settings, store.clone(), root, ctx).await?;
    let name = catalog.identity();
    Ok((Arc::new(catalog), name))
}

#[cfg(not(feature = "dynamodb"))]
pub(super) async fn look(
    _: &Arc<dyn ObjectStore>,
    url: &str,
    _: &Context,
) -> Result<(Arc<dyn Catalog>, String)> {
    check(url)?;
    Err(Error::internal("no catalog behind this URL"))
}
