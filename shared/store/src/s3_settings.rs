//! How stores behind `s3://` URLs are reached. Plain data: a program fills it from its environment.

use crate::AwsCredentials;

/// How stores behind `s3://` URLs are reached: Amazon's or any other that speaks its protocol.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Who asks.
    pub credentials: AwsCredentials,
    /// The bucket's region, which signatures name. Wanted for Amazon's; elsewhere `us-east-1` unless told otherwise.
    pub region: Option<String>,
    /// `https://host:port` of a store that is not Amazon's; `None` = Amazon's, in the region.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path (`host/bucket/key`) or in the host's name (`bucket.host/key`). Unless
    /// said: in the path where there is an endpoint or the bucket's name has a dot (certificates match no such host).
    pub path_style: Option<bool>,
    /// Whether an endpoint may be plain `http://`, where everybody on the way reads and changes what passes.
    pub allow_http: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = AwsCredentials::Keys {
            access_key: "canary".into(),
            secret_key: "canary".into(),
            session_token: Some("canary".into()),
        };
        let settings = S3Settings { credentials, ..S3Settings::default() };
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
