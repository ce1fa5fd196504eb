//! How a catalog behind a `dynamodb://` URL is reached. Plain data: a program fills it from its environment.

use nacre_store::AwsCredentials;

/// How a catalog behind a `dynamodb://` URL is reached: Amazon's service or any other that speaks its protocol.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct DynamoSettings {
    /// Who asks.
    pub credentials: AwsCredentials,
    /// The table's region, which signatures name. Wanted for Amazon's; elsewhere `us-east-1` unless told otherwise.
    pub region: Option<String>,
    /// `https://host:port` of a service that is not Amazon's; `None` = Amazon's, in the region.
    pub endpoint: Option<String>,
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
        let settings = DynamoSettings { credentials, ..DynamoSettings::default() };
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
