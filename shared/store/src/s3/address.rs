//! Where a store's objects lie: from `s3://bucket/prefix` and settings to the URL of a request.

use crate::open::wrong;
use crate::{ObjectPath, S3Settings};
use http::Uri;
use nacre_types::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// What stands in a signed URL as it is; S3 wants everything else encoded, once.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const KEPT_IN_PATHS: &AsciiSet = &KEPT.remove(b'/');
/// What is left of S3's 1,024 bytes beside a path and a slash.
const PREFIX_BYTES: usize = 120;
/// What stores that have no regions are signed for.
const ANY_REGION: &str = "us-east-1";

/// Where a store's objects lie.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) bucket: String,
    pub(super) region: String,
    /// `https://host:port`, for requests and for errors.
    pub(super) origin: String,
    /// Whether it is Amazon's own S3, whose words are known.
    pub(super) is_amazons: bool,
    /// What stands before a key: empty, or slashes and the bucket.
    base: String,
    /// Empty, or ends with a slash.
    prefix: String,
}

impl Address {
    /// # Errors
    /// `Invalid` (`store-url`, `store-settings`).
    pub(super) fn new(url: &str, settings: &S3Settings) -> Result<Self> {
        let rest = url.strip_prefix("s3://").ok_or_else(|| wrong(url, "expected s3://bucket/prefix"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('@') {
            return Err(wrong(
                url,
                "a URL holds no keys: leave them to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
        check_bucket(url, bucket)?;
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() {
            String::new()
        } else if prefix.len() > PREFIX_BYTES {
            return Err(wrong(url, &format!("a prefix has at most {PREFIX_BYTES} bytes")));
        } else {
            // What is wrong is not shown: other programs take keys in the query of such a URL.
            let form = |_| {
                wrong(
                    url,
                    "a prefix has segments of [A-Za-z0-9._=% -]+ between slashes, none empty or beginning with a dot",
                )
            };
            format!("{}/", ObjectPath::new(prefix).map_err(form)?)
        };
        let in_path = settings.path_style.unwrap_or(settings.endpoint.is_some() || bucket.contains('.'));
        let (origin, region, before) = match &settings.endpoint {
            Some(endpoint) => endpoint_of(endpoint, settings)?,
            None => amazons(settings)?,
        };
        let (origin, base) = if in_path {
            (origin, format!("{before}/{bucket}"))
        } else {
            (origin.replacen("://", &format!("://{bucket}."), 1), before)
        };
        let is_amazons = is_amazons(&origin);
        let address = Self { bucket: bucket.to_owned(), region, origin, is_amazons, base, prefix };
        // Requests are signed by one reading of the URL and sent by another.
        let sent = address.uri(None, "").map(|uri| uri.to_string()).map_err(|_| no_url())?;
        let is_same = |signed: &Url| signed.as_str().trim_end_matches('/') == sent.trim_end_matches('/');
        match Url::parse(&sent) {
            Ok(signed) if is_same(&signed) => Ok(address),
            _ if !in_path => Err(setting(
                "the bucket's name cannot stand before the host of the S3 endpoint: set AWS_S3_FORCE_PATH_STYLE=true",
            )),
            _ => Err(no_url()),
        }
    }

    /// The key of an object, or of what all keys that begin with `text` begin with.
    pub(super) fn key(&self, text: &str) -> String {
        format!("{}{text}", self.prefix)
    }

    /// The key's part below the store's prefix.
    pub(super) fn below<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)
    }

    /// What others call the object.
    pub(super) fn url(&self, path: &ObjectPath) -> String {
        format!("s3://{}/{}{path}", self.bucket, self.prefix)
    }

    /// The URL of a request about a key, or without one about the bucket.
    pub(super) fn uri(&self, key: Option<&str>, query: &str) -> Result<Uri> {
        let mark = if query.is_empty() { "" } else { "?" };
        let key = key.map(encoded_key).unwrap_or_default();
        // About a bucket whose name is in the host, the path is a lone slash.
        let slash = if self.base.is_empty() || !key.is_empty() { "/" } else { "" };
        let text = format!("{}{}{slash}{key}{mark}{query}", self.origin, self.base);
        text.parse().map_err(|error| Error::internal(format!("the URL of an S3 request: {error}")))
    }
}

/// A key as it stands in a URL.
pub(super) fn encoded_key(key: &str) -> String {
    utf8_percent_encode(key, KEPT_IN_PATHS).to_string()
}

/// A value as it stands in a query.
pub(super) fn encoded_value(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

fn check_bucket(url: &str, bucket: &str) -> Result<()> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    let ends = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    if (3..=63).contains(&bytes.len())
        && bytes.iter().copied().all(allowed)
        && ends(bytes.first())
        && ends(bytes.last())
        && !bucket.contains("..")
    {
        return Ok(());
    }
    Err(wrong(
        url,
        "expected s3://bucket/prefix, the bucket's name being 3 to 63 lower-case letters, digits, hyphens and dots",
    ))
}

fn setting(what: impl Into<String>) -> Error {
    Error::invalid(what).with_code("store-settings")
}

fn region_of(settings: &S3Settings) -> Result<Option<String>> {
    match &settings.region {
        Some(region)
            if region.is_empty() || !region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') =>
        {
            Err(setting("the S3 region is no name of one: expected one like eu-central-1 in AWS_REGION"))
        }
        region => Ok(region.clone()),
    }
}

fn amazons(settings: &S3Settings) -> Result<(String, String, String)> {
    let region = region_of(settings)?.ok_or_else(|| {
        setting(
            "the S3 region is missing: set AWS_REGION to the bucket's, or AWS_ENDPOINT_URL_S3 for a store that is not \
             Amazon's",
        )
    })?;
    let region = region.to_ascii_lowercase();
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    Ok((format!("https://s3.{region}.amazonaws.com{suffix}"), region, String::new()))
}

fn is_amazons(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

fn no_url() -> Error {
    setting("the S3 endpoint is no URL: expected https://host or http://host:port in AWS_ENDPOINT_URL_S3")
}

fn endpoint_of(endpoint: &str, settings: &S3Settings) -> Result<(String, String, String)> {
    // In the form that signatures are made of: lower case, no port that goes without saying.
    let url = Url::parse(endpoint).map_err(|_| no_url())?;
    let Some(host) = url.host_str() else { return Err(no_url()) };
    let has_more = url.query().is_some() || url.fragment().is_some();
    if has_more || !url.username().is_empty() || url.password().is_some() {
        return Err(no_url());
    }
    match url.scheme() {
        "https" => {}
        "http" if settings.allow_http => {}
        "http" => {
            return Err(setting(
                "the S3 endpoint is plain http, where everybody on the way can read and change what passes; set \
                 AWS_ALLOW_HTTP=true if that is meant",
            ));
        }
        _ => return Err(no_url()),
    }
    let region = region_of(settings)?.unwrap_or_else(|| ANY_REGION.to_owned());
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let before = url.path().trim_end_matches('/').to_owned();
    Ok((format!("{}://{host}{port}", url.scheme()), region, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>) -> S3Settings {
        S3Settings {
            region: Some("eu-central-1".into()),
            endpoint: endpoint.map(str::to_owned),
            allow_http: true,
            ..S3Settings::default()
        }
    }

    fn uri(url: &str, settings: &S3Settings, path: &str) -> String {
        let address = Address::new(url, settings).unwrap();
        address.uri(Some(&address.key(path)), "").unwrap().to_string()
    }

    #[test]
    fn amazons_buckets_stand_in_the_host_unless_their_name_has_a_dot() {
        let amazon = settings(None);
        assert_eq!(uri("s3://bucket", &amazon, "a/b"), "https://bucket.s3.eu-central-1.amazonaws.com/a/b");
        assert_eq!(uri("s3://b.dot/p/q/", &amazon, "a"), "https://s3.eu-central-1.amazonaws.com/b.dot/p/q/a");
    }

    #[test]
    fn buckets_of_other_stores_stand_in_the_path_unless_said_otherwise() {
        let other = settings(Some("http://127.0.0.1:9000"));
        assert_eq!(uri("s3://bucket/p", &other, "a"), "http://127.0.0.1:9000/bucket/p/a");
        let below = settings(Some("https://gate.example/s3/"));
        assert_eq!(uri("s3://bucket", &below, "a"), "https://gate.example/s3/bucket/a");
        let in_host = S3Settings { path_style: Some(false), ..settings(Some("https://s.example")) };
        assert_eq!(uri("s3://bucket/p", &in_host, "a"), "https://bucket.s.example/p/a");
        let address = Address::new("s3://bucket", &in_host).unwrap();
        assert_eq!(address.uri(None, "list-type=2").unwrap(), "https://bucket.s.example/?list-type=2");
        let address = Address::new("s3://bucket", &other).unwrap();
        assert_eq!(address.uri(None, "").unwrap(), "http://127.0.0.1:9000/bucket");
    }

    #[test]
    fn a_host_is_written_as_signatures_are_made() {
        let other = settings(Some("HTTPS://S3.Example:443/Gate"));
        assert_eq!(uri("s3://bucket", &other, "a"), "https://s3.example/Gate/bucket/a");
        let numbers = S3Settings { path_style: Some(false), ..settings(Some("http://127.0.0.1:9000")) };
        let error = Address::new("s3://bucket", &numbers).unwrap_err();
        assert_eq!(error.code(), "store-settings", "no name can stand before a number");
    }

    #[test]
    fn amazons_own_store_is_known_by_its_name() {
        let of = |endpoint| Address::new("s3://bucket", &settings(endpoint)).unwrap().is_amazons;
        assert!(of(None) && of(Some("https://s3.eu-west-1.amazonaws.com")));
        assert!(of(Some("https://bucket.vpce-1-2.s3.eu-west-1.vpce.amazonaws.com:443")));
        assert!(!of(Some("https://amazonaws.com.example")) && !of(Some("http://127.0.0.1:9000")));
    }

    #[test]
    fn names_are_encoded_once_and_wholly() {
        let other = settings(Some("http://h"));
        assert_eq!(
            uri("s3://bucket", &other, "ts=2024-01-01 00%3A00/%2E%2E"),
            "http://h/bucket/ts%3D2024-01-01%2000%253A00/%252E%252E"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_right() {
        for bad in [
            "s3://",
            "s3:/b",
            "s3://B",
            "s3://ab",
            "s3://a_b",
            "s3://-ab",
            "s3://a..b",
            "s3://abc/../x",
            "s3://abc//x",
            "s3://u:p@abc/x",
        ] {
            assert_eq!(Address::new(bad, &settings(None)).unwrap_err().code(), "store-url", "{bad}");
        }
        for (bad, word) in [
            ("h:1", "AWS_ENDPOINT_URL_S3"),
            ("ftp://h", "AWS_ENDPOINT_URL_S3"),
            ("https://u:p@h", "AWS_ENDPOINT_URL_S3"),
            ("https://h?x=1", "AWS_ENDPOINT_URL_S3"),
            ("https://h#x", "AWS_ENDPOINT_URL_S3"),
            ("http://h:99999", "AWS_ENDPOINT_URL_S3"),
            ("http://h:x", "AWS_ENDPOINT_URL_S3"),
            ("http://256.1.1.1", "AWS_ENDPOINT_URL_S3"),
            ("http://", "AWS_ENDPOINT_URL_S3"),
        ] {
            let error = Address::new("s3://abc", &settings(Some(bad))).unwrap_err();
            assert!(error.code() == "store-settings" && error.detail().contains(word), "{bad}: {error}");
        }
        let careful = S3Settings { allow_http: false, ..settings(Some("http://h")) };
        assert!(Address::new("s3://abc", &careful).unwrap_err().detail().contains("AWS_ALLOW_HTTP"));
        let nowhere = S3Settings { region: None, ..settings(None) };
        assert!(Address::new("s3://abc", &nowhere).unwrap_err().detail().contains("AWS_REGION"));
    }
}
