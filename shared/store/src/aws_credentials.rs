//! Who asks services of AWS's. Plain data: a program fills it from its environment.

use std::fmt;

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum AwsCredentials {
    /// The role of the machine, asked of its metadata service (at another address than the usual one, if said).
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

impl fmt::Debug for AwsCredentials {
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
