//! Stores from URLs.

use crate::{LocalStore, MemoryStore, ObjectStore, S3Settings};
use nacre_runtime::Context;
use nacre_types::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Opens the store that `url` names: `file:./dir`, `file:///absolute/dir` (made if it is not there), `memory:`, or,
/// with the feature `s3`, `s3://bucket/prefix`, reached as `s3` says. Nothing is asked of a store behind a network
/// yet; [`crate::probe`] does.
///
/// # Errors
/// `Invalid` (`store-url`, `store-settings`) for anything else; `Unavailable` if the directory cannot be made or
/// written.
pub fn open(url: &str, s3: &S3Settings, ctx: &Context) -> Result<Arc<dyn ObjectStore>> {
    if url == "memory:" {
        return Ok(Arc::new(MemoryStore::new(ctx)));
    }
    if url.starts_with("s3:") {
        return open_s3(url, s3, ctx);
    }
    let Some(rest) = url.strip_prefix("file:") else {
        return Err(wrong(url, "expected file:./dir, file:///absolute/dir, s3://bucket/prefix or memory:"));
    };
    let path = match rest.strip_prefix("//") {
        // Two slashes begin an authority: file://server/x would silently mean another place than was meant.
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(wrong(
                url,
                "a file URL has three slashes or none: file:///absolute/dir or file:./dir",
            ));
        }
        None => rest,
    };
    if path.is_empty() || path.contains('\0') {
        return Err(wrong(url, "the directory is missing: expected file:./dir or file:///absolute/dir"));
    }
    Ok(Arc::new(LocalStore::open(Path::new(path), ctx)?))
}

#[cfg(feature = "s3")]
fn open_s3(url: &str, settings: &S3Settings, ctx: &Context) -> Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(crate::S3Store::open(url, settings, ctx)?))
}

#[cfg(not(feature = "s3"))]
fn open_s3(url: &str, _: &S3Settings, _: &Context) -> Result<Arc<dyn ObjectStore>> {
    Err(wrong(url, "this program was built without the feature s3"))
}

pub(crate) fn wrong(url: &str, why: &str) -> Error {
    // Only the scheme: the rest of a URL may hold a secret.
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    let shown: String = scheme.chars().take(20).collect();
    Error::invalid(format!("store URL of scheme {shown:?}: {why}")).with_code("store-url")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_store_or_say_what_would_be_right() {
        let ctx = Context::for_tests(1);
        let s3 = S3Settings { region: Some("eu-central-1".into()), ..S3Settings::default() };
        assert!(open("memory:", &s3, &ctx).is_ok());
        let dir = tempfile::tempdir().unwrap();
        assert!(open(&format!("file://{}/a/b", dir.path().display()), &s3, &ctx).is_ok());
        assert!(open(&format!("file:{}/c", dir.path().display()), &s3, &ctx).is_ok());
        assert!(dir.path().join("a/b").is_dir() && dir.path().join("c").is_dir());
        for bad in ["", "x", "s3:bucket", "s3://", "file:", "file://", "file://host/x", "http://x"] {
            assert_eq!(open(bad, &s3, &ctx).unwrap_err().code(), "store-url", "{bad}");
        }
        for secret in ["s3://key:canary@bucket", "s3://bucket/p?secret_key=canary", "s3://bucket/canary/../x"]
        {
            let error = open(secret, &s3, &ctx).unwrap_err();
            assert!(error.code() == "store-url" && !error.detail().contains("canary"), "{error}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_bucket_is_opened_without_a_request() {
        let ctx = Context::for_tests(1);
        let s3 = S3Settings { region: Some("eu-central-1".into()), ..S3Settings::default() };
        assert!(open("s3://bucket/some/prefix", &s3, &ctx).is_ok());
        let error = open("s3://bucket/p", &S3Settings::default(), &ctx).unwrap_err();
        assert_eq!(error.code(), "store-settings");
        assert!(error.detail().contains("AWS_REGION"), "{error}");
    }
}
