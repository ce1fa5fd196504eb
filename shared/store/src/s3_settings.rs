//! How stores behind `s3://` URLs are reached. Plain data: a program fills it from its environment.

use std::fmt;

/// How stores behind `s3://` URLs are reached: Amazon's or any other that speaks its protocol.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// Who asks.
    pub credentials: S3Credentials,
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

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum S3Credentials {
    /// The role of the machine, asked of its metadata service where that usually is.
    #[default]
    Machine,
    /// The role of the machine, asked of a metadata service at this URL.
    MachineAt(String),
    /// Keys that do not change while the program runs.
    Keys {
        /// The key's id.
        access_key: String,
        /// The key.
        secret_key: String,
        /// The token of keys that are good for a while.
        session_token: Option<String>,
    },
    /// A role for a token in a file, as in Kubernetes.
    WebIdentity {
        /// The file; it is read again when the role's keys end.
        token_file: String,
        /// The role.
        role_arn: String,
        /// What the session is called in audits.
        session_name: Option<String>,
        /// Where roles are given, if not at Amazon's usual place in the region.
        sts_endpoint: Option<String>,
    },
    /// The role of an ECS task: the path that the container agent answers at.
    Task {
        /// As in `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
        relative_uri: String,
    },
    /// The role of an EKS pod.
    Pod {
        /// As in `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
        uri: String,
        /// As in `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
        token_file: String,
    },
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine | Self::MachineAt(_) => "Machine",
            Self::Keys { session_token: None, .. } => "Keys(not shown)",
            Self::Keys { .. } => "Keys(not shown, with a token)",
            Self::WebIdentity { .. } => "WebIdentity",
            Self::Task { .. } => "Task",
            Self::Pod { .. } => "Pod",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = S3Credentials::Keys {
            access_key: "canary".into(),
            secret_key: "canary".into(),
            session_token: Some("canary".into()),
        };
        let settings = S3Settings { credentials, ..S3Settings::default() };
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
