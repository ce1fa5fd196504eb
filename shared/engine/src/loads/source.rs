//! Where a load that brings no files of its own finds them: URLs of places in the store.

use nacre_store::ObjectPath;
use nacre_types::{Error, Result};

use crate::LoadSource;

/// Folders that the store keeps its own things in: no load reads them.
const OWN_FOLDERS: [&str; 7] = ["tables", "catalog", "carried", "log", "identity", "staging", "probe"];

/// Checks every URL of a source; whether the files are there is seen when they are pinned.
///
/// # Errors
/// As [`path`].
pub(super) fn check(source: &LoadSource) -> Result<()> {
    match source {
        LoadSource::Prefix(url) => path(url).map(drop),
        LoadSource::Files(urls) => urls.iter().try_for_each(|url| path(url).map(drop)),
    }
}

/// The path of a source's URL. For now a source lies in the store itself; other buckets come with them.
///
/// # Errors
/// `Invalid` (`load-source`).
pub(super) fn path(url: &str) -> Result<ObjectPath> {
    let wrong = || {
        Error::invalid(format!(
            "source {url:?}: expected a path inside the store (\"store:folder/file\"); copy other files to the staging \
             place"
        ))
        .with_code("load-source")
    };
    let path = url.strip_prefix("store:").ok_or_else(wrong)?.trim_matches('/');
    let path = ObjectPath::new(path).map_err(|_| wrong())?;
    // By the whole first segment: "store:tables" is the folder of every table.
    if path.as_str().split('/').next().is_none_or(|first| OWN_FOLDERS.contains(&first)) {
        return Err(wrong());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_place_in_the_store_that_is_not_its_own() {
        for (url, place) in
            [("store:in/a.parquet", "in/a.parquet"), ("store:/in/", "in"), ("store:tablesful", "tablesful")]
        {
            assert_eq!(path(url).unwrap().as_str(), place);
        }
        for url in [
            "",
            "in/a",
            "file:///etc/passwd",
            "s3://b/c",
            "store:",
            "store:tables",
            "store:log/x",
            "store:a/../b",
        ] {
            assert_eq!(path(url).unwrap_err().code(), "load-source", "{url}");
        }
        let files = LoadSource::Files(vec!["store:a".to_owned(), "b".to_owned()]);
        assert!(check(&files).unwrap_err().detail().contains("\"b\""));
        assert!(check(&LoadSource::Prefix("store:a".to_owned())).is_ok());
    }
}
