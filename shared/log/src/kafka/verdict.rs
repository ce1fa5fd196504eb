//! Whether a topic is as the log must have it: a pure judgement over what the brokers say of it.

use super::config::TopicId;
use nacre_types::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;

#[cfg(test)]
mod tests;

/// What the brokers say of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: u32,
    /// Replicas of the partition that has the fewest.
    pub replicas: u32,
    /// Replicas in sync of the partition that has the fewest.
    pub in_sync: u32,
    /// Its settings in force, defaults included.
    pub settings: BTreeMap<String, String>,
}

/// What the log asks of its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// The id that it must have; `None` = any.
    pub id: Option<TopicId>,
    /// How many partitions it must have at least; 0 = any.
    pub partitions: u32,
    /// Replicas of each partition, at least.
    pub replicas: u32,
    /// Of them so many hold a record before it is acknowledged, at least.
    pub in_sync: u32,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFault {
    /// Which setting.
    pub setting: &'static str,
    /// What it is.
    pub is: String,
    /// What it must be.
    pub must: String,
    /// What happens otherwise.
    pub why: &'static str,
}

impl fmt::Display for TopicFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} and must be {} ({})", self.setting, self.is, self.must, self.why)
    }
}

/// Settings that must have exactly one value.
const EXACT: &[(&str, &str, &str)] = &[
    ("message.timestamp.type", "LogAppendTime", "versions are the log's time, not that of whoever wrote"),
    ("cleanup.policy", "delete", "compaction makes holes"),
    ("retention.ms", "-1", "the log must not forget by itself; nacre trims what was flushed"),
    ("retention.bytes", "-1", "the log must not forget by itself; nacre trims what was flushed"),
    ("unclean.leader.election.enable", "false", "a replica that is behind must not become the truth"),
];

/// The settings that a new topic gets, besides `min.insync.replicas`.
pub(super) fn settings_of_a_new_topic() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = EXACT.iter().map(|(name, value, _)| (*name, *value)).collect();
    all.push(("compression.type", "producer"));
    all
}

/// The topic of this name is another than the log's.
pub(super) fn another_topic(name: &str, found: TopicId, own: TopicId) -> Error {
    Error::corrupt(format!(
        "topic {name} has the id {found}, and this store's log is the topic with the id {own}: it was deleted and made again, \
         or these are the brokers of another cluster; point log at the right one, or restore the store, or give up the old \
         one (nacre log resume tells what that costs)"
    ))
    .with_code("log-topic-recreated")
}

impl TopicRules {
    /// What is not as it must be; nothing where all is well.
    pub fn faults(&self, facts: &TopicFacts) -> Vec<TopicFault> {
        let mut faults = Vec::new();
        let mut fault = |setting, is: String, must: String, why| {
            faults.push(TopicFault { setting, is, must, why });
        };
        for (name, must, why) in EXACT {
            match facts.settings.get(*name) {
                Some(is) if is == must => {}
                Some(is) => fault(name, is.clone(), (*must).to_owned(), why),
                None => fault(name, "not said by the brokers".to_owned(), (*must).to_owned(), why),
            }
        }
        if facts.replicas < self.replicas {
            let must = format!("at least {}", self.replicas);
            fault(
                "replication factor",
                facts.replicas.to_string(),
                must,
                "a broker that dies must not take records along",
            );
        }
        let text = facts.settings.get("min.insync.replicas");
        let least = text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let is = || text.cloned().unwrap_or_else(|| "not said by the brokers".to_owned());
        if least < self.in_sync {
            let must = format!("at least {}", self.in_sync);
            fault("min.insync.replicas", is(), must, "what one broker alone holds is lost with it");
        } else if least > facts.replicas {
            let must = format!("at most {}", facts.replicas);
            fault("min.insync.replicas", is(), must, "with more than there are nothing is ever taken");
        }
        if facts.partitions < self.partitions {
            let must = format!("at least {}", self.partitions);
            fault("partitions", facts.partitions.to_string(), must, "shards are assigned to them");
        }
        faults
    }

    /// Judges a topic.
    ///
    /// # Errors
    /// `Corrupt` (`log-topic-recreated`) where it is another topic; `Invalid` (`log-topic-settings`) naming everything
    /// that is not as it must be.
    pub fn judge(&self, facts: &TopicFacts) -> Result<()> {
        if let Some(id) = self.id
            && id != facts.id
        {
            return Err(another_topic(&facts.name, facts.id, id));
        }
        let faults = self.faults(facts);
        if faults.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Err(Error::invalid(format!(
            "topic {} is not as the log must have it: {}; mend the topic, or make one with nacre topic create",
            facts.name,
            list.join("; ")
        ))
        .with_code("log-topic-settings"))
    }
}
