//! Trimming: DeleteRecords, after everything that could make it delete too much was looked at.

use super::partition::Partition;
use crate::LogPosition;
use nacre_types::{Error, Result};

impl Partition {
    pub(super) async fn trim(&self, through: &LogPosition) -> Result<()> {
        self.check_position(through)?;
        let marks = self.shared.tools.marks(self.id).await?;
        if through.offset.0 <= marks.low {
            return Ok(());
        }
        if through.offset.0 > marks.high {
            return Err(Error::invalid(format!(
                "trim through offset {}: partition {} ends at {}; only a position that the log gave out may be trimmed \
                 through",
                through.offset, self.id, marks.high
            ))
            .with_code("trim-beyond-end"));
        }
        // Fresh, from the catalog: what it does not name is still needed.
        let flushed = self.start().await?;
        if through.offset > flushed.offset {
            return Err(Error::invalid(format!(
                "trim through offset {} of partition {}: flushed_through stands at {}, and what lies behind it is in no \
                 segment yet",
                through.offset, self.id, flushed.offset
            ))
            .with_code("trim-beyond-flushed"));
        }
        // Offsets of another topic of the same name mean other records.
        self.shared.check_topic().await?;
        self.shared.tools.delete_before(self.id, through.offset).await
    }
}
