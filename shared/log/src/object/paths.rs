//! Where the objects of a log lie.
//!
//! ```text
//! <prefix>/<incarnation>/beacon
//! <prefix>/<incarnation>/<partition>/boundary
//! <prefix>/<incarnation>/<partition>/chunks/<number, 20 digits>
//! ```
//! The incarnation is part of every name: a log that replaced another never meets a late request of the old one.

use nacre_store::ObjectPath;
use nacre_types::{LogIncarnation, PartitionId, Result};

#[derive(Debug, Clone)]
pub(super) struct Paths {
    partition: ObjectPath,
    pub(super) boundary: ObjectPath,
}

impl Paths {
    pub(super) fn new(
        prefix: &ObjectPath,
        incarnation: LogIncarnation,
        partition: PartitionId,
    ) -> Result<Self> {
        let partition = prefix.join(&format!("{incarnation}/{partition}"))?;
        let boundary = partition.join("boundary")?;
        Ok(Self { partition, boundary })
    }

    pub(super) fn beacon(prefix: &ObjectPath, incarnation: LogIncarnation) -> Result<ObjectPath> {
        prefix.join(&format!("{incarnation}/beacon"))
    }

    pub(super) fn chunk(&self, number: u64) -> Result<ObjectPath> {
        self.partition.join(&format!("chunks/{number:020}"))
    }

    /// What the names of all chunks begin with.
    pub(super) fn chunks(&self) -> String {
        format!("{}/chunks/", self.partition)
    }
}
