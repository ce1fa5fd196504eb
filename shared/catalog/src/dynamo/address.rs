//! Where a catalog lies: from `dynamodb://table` and settings to a table, a region and an address.

use crate::DynamoSettings;
use nacre_types::{Error, Result};

/// What services that have no regions are signed for.
const ANY_REGION: &str = "us-east-1";

/// Where a catalog lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) table: String,
    pub(super) region: String,
    /// `https://host:port`, for requests and for errors.
    pub(super) origin: String,
}

impl Address {
    /// # Errors
    /// `Invalid` (`catalog-url`, `catalog-settings`).
    pub(super) fn new(url: &str, settings: &DynamoSettings) -> Result<Self> {
        let table = table_of(url)?;
        let (origin, region) = match &settings.endpoint {
            Some(endpoint) => endpoint_of(endpoint, settings)?,
            None => amazons(settings)?,
        };
        Ok(Self { table, region, origin })
    }
}

/// The table that a URL names.
///
/// # Errors
/// `Invalid` (`catalog-url`).
pub(super) fn table_of(url: &str) -> Result<String> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    match url.strip_prefix("dynamodb://") {
        Some(table) if (3..=255).contains(&table.len()) && table.bytes().all(fits) => Ok(table.to_owned()),
        // What stands there instead may hold a secret, and is not shown.
        _ => Err(Error::invalid(
            "the catalog's URL: expected dynamodb://table, the table's name being 3 to 255 letters, digits, dots, \
             hyphens and underscores; keys and region come from the usual AWS_ variables and profiles",
        )
        .with_code("catalog-url")),
    }
}

fn setting(what: impl Into<String>) -> Error {
    Error::invalid(what).with_code("catalog-settings")
}

fn region_of(settings: &DynamoSettings) -> Result<Option<String>> {
    match &settings.region {
        Some(region)
            if region.is_empty() || !region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') =>
        {
            Err(setting(
                "the catalog's region is no name of one: expected one like eu-central-1 in AWS_REGION",
            ))
        }
        region => Ok(region.clone()),
    }
}

fn amazons(settings: &DynamoSettings) -> Result<(String, String)> {
    let region = region_of(settings)?.ok_or_else(|| {
        setting(
            "the catalog's region is missing: set AWS_REGION to the table's, or AWS_ENDPOINT_URL_DYNAMODB for a \
             service that is not Amazon's",
        )
    })?;
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    Ok((format!("https://dynamodb.{region}.amazonaws.com{suffix}"), region))
}

fn endpoint_of(endpoint: &str, settings: &DynamoSettings) -> Result<(String, String)> {
    let form = || {
        setting(
            "the catalog's endpoint is no URL: expected https://host or http://host:port in AWS_ENDPOINT_URL_DYNAMODB",
        )
    };
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, authority) = endpoint.split_once("://").ok_or_else(form)?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']' | b'_');
    if authority.is_empty() || !authority.bytes().all(fits) {
        return Err(form());
    }
    match scheme {
        "https" => {}
        "http" if settings.allow_http => {}
        "http" => {
            return Err(setting(
                "the catalog's endpoint is plain http, where everybody on the way can read and change what passes; \
                 set AWS_ALLOW_HTTP=true if that is meant",
            ));
        }
        _ => return Err(form()),
    }
    let region = region_of(settings)?.unwrap_or_else(|| ANY_REGION.to_owned());
    Ok((endpoint.to_owned(), region))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>) -> DynamoSettings {
        DynamoSettings {
            region: Some("eu-central-1".into()),
            endpoint: endpoint.map(str::to_owned),
            allow_http: true,
            ..DynamoSettings::default()
        }
    }

    #[test]
    fn amazons_service_is_found_by_its_region_and_others_by_their_endpoint() {
        let address = Address::new("dynamodb://my-table_1.x", &settings(None)).unwrap();
        assert_eq!(address.table, "my-table_1.x");
        assert_eq!(address.origin, "https://dynamodb.eu-central-1.amazonaws.com");
        let china = DynamoSettings { region: Some("cn-north-1".into()), ..settings(None) };
        let address = Address::new("dynamodb://abc", &china).unwrap();
        assert_eq!(address.origin, "https://dynamodb.cn-north-1.amazonaws.com.cn");
        let local = DynamoSettings { region: None, ..settings(Some("http://127.0.0.1:8000/")) };
        let address = Address::new("dynamodb://abc", &local).unwrap();
        assert_eq!(
            (address.origin.as_str(), address.region.as_str()),
            ("http://127.0.0.1:8000", "us-east-1")
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_right() {
        for bad in
            ["dynamodb://", "dynamodb://ab", "dynamodb:abc", "dynamodb://a/b", "dynamodb://key:secret@abc"]
        {
            let error = Address::new(bad, &settings(None)).unwrap_err();
            assert_eq!(error.code(), "catalog-url", "{bad}");
            assert!(!error.detail().contains("secret"), "{error}");
        }
        for (bad, word) in [
            ("h:1", "AWS_ENDPOINT_URL_DYNAMODB"),
            ("ftp://h", "AWS_ENDPOINT_URL_DYNAMODB"),
            ("https://u:p@h", "AWS_ENDPOINT_URL_DYNAMODB"),
            ("https://h/path", "AWS_ENDPOINT_URL_DYNAMODB"),
        ] {
            let error = Address::new("dynamodb://abc", &settings(Some(bad))).unwrap_err();
            assert!(error.code() == "catalog-settings" && error.detail().contains(word), "{bad}: {error}");
        }
        let careful = DynamoSettings { allow_http: false, ..settings(Some("http://h")) };
        assert!(Address::new("dynamodb://abc", &careful).unwrap_err().detail().contains("AWS_ALLOW_HTTP"));
        let nowhere = DynamoSettings { region: None, ..settings(None) };
        assert!(Address::new("dynamodb://abc", &nowhere).unwrap_err().detail().contains("AWS_REGION"));
    }
}
