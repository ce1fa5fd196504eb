//! The processes of a store.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodesBody {
    /// Those that are registered and alive, as the process that answers knows them.
    pub nodes: Vec<NodeBody>,
    /// Partitions of the log that fewer cache nodes answer for than are to: while there are any, one more death may be
    /// one too many.
    pub partitions_at_risk: u64,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeBody {
    /// Its id; a restarted program is another process. `nacre-nodes` names it so.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// `dispatcher`, `cache`, `writer`, `loader`, `maintainer`.
    pub roles: Vec<String>,
    /// Where the others of the fleet reach it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub address: String,
    /// Its zone.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub zone: String,
    /// How much it takes beside the others of its role.
    pub weight: u32,
    /// `joining`, `serving` or `leaving`.
    pub state: String,
    /// Whether it is the one that answers.
    pub is_self: bool,
}
