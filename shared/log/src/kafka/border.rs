//! The border between a topic's own offsets and the log's: log offset = the topic's + the partition's base. Inside of it
//! everything counts as the log does; `tools`, `read`, `share` and `produce` add and take away, and nobody else.

use super::config::KafkaConfig;
use nacre_store::LogMending;
use nacre_types::{Error, Offset, PartitionId, Result};
use rdkafka::Offset as KafkaOffset;

/// An offset of the topic as the log counts.
pub(super) fn to_log(mending: &LogMending, partition: PartitionId, offset: u64) -> u64 {
    offset.saturating_add(mending.base(partition))
}

impl KafkaConfig {
    /// An offset of the topic as the log counts.
    pub(super) fn to_log(&self, partition: PartitionId, offset: u64) -> u64 {
        to_log(&self.mending, partition, offset)
    }

    /// An offset of the log as the topic counts.
    ///
    /// # Errors
    /// `Corrupt` (`log-lost`): it lies before the topic's beginning, in one that was given up.
    pub(super) fn to_topic(&self, partition: PartitionId, offset: Offset) -> Result<KafkaOffset> {
        let own = offset.0.checked_sub(self.mending.base(partition)).ok_or_else(|| {
            Error::corrupt(format!(
                "offset {offset} of partition {partition} lies before the beginning of the log's topic, in one that was \
                 given up: see nacre log status"
            ))
            .with_code("log-lost")
        })?;
        // Kafka counts offsets in i64.
        Ok(KafkaOffset::Offset(i64::try_from(own).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::KafkaUrl;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_goes_out_comes_back() {
        let url = KafkaUrl::parse("kafka://h:1/t").unwrap();
        let mending = Arc::new(LogMending { bases: vec![0, 1 << 40], holes: Vec::new() });
        let config = KafkaConfig { mending, ..KafkaConfig::new(&url) };
        for (partition, base) in [(0, 0), (1, 1 << 40), (2, 0)] {
            let partition = PartitionId(partition);
            assert_eq!(config.to_log(partition, 5), base + 5);
            assert_eq!(config.to_topic(partition, Offset(base + 5)).unwrap(), KafkaOffset::Offset(5));
        }
        let before = config.to_topic(PartitionId(1), Offset((1 << 40) - 1)).unwrap_err();
        assert_eq!(before.code(), "log-lost");
    }
}
