//! Logs on Kafka. A store is for ever tied to its log, by the topic's id, which no other topic ever has, and not by the
//! brokers' names, which change.

#[cfg(feature = "kafka")]
pub(crate) use built_in::{Topic, name_of_topic};
#[cfg(not(feature = "kafka"))]
pub(super) use not_built::Topic;

#[cfg(feature = "kafka")]
mod built_in {
    use super::super::StorageSettings;
    use crate::kafka;
    use nacre_catalog::Catalog;
    use nacre_log::Log;
    use nacre_log::kafka::{KafkaConfig, TopicFacts};
    use nacre_runtime::Context;
    use nacre_store::StoreIdentity;
    use nacre_types::Result;
    use std::sync::Arc;

    /// A topic that is as the log must have it.
    pub(crate) struct Topic {
        config: KafkaConfig,
        facts: TopicFacts,
    }

    impl Topic {
        /// # Errors
        /// What is wrong with the settings, the brokers or the topic.
        pub(crate) async fn describe(settings: &StorageSettings, url: &str, ctx: &Context) -> Result<Self> {
            let (config, facts) = kafka::describe(&settings.kafka, url, ctx).await?;
            Ok(Self { config, facts })
        }

        /// What the store's identity calls it.
        pub(crate) fn name(&self) -> String {
            name_of_topic(&self.facts)
        }

        /// # Errors
        /// As [`Topic::describe`].
        pub(crate) async fn open(
            self,
            catalog: Arc<dyn Catalog>,
            identity: &StoreIdentity,
            ctx: &Context,
        ) -> Result<Arc<dyn Log>> {
            let incarnation = identity.log_incarnation;
            let mending = Arc::new(identity.mending.clone());
            let config = KafkaConfig { incarnation, mending, topic_id: Some(self.facts.id), ..self.config };
            Ok(Arc::new(kafka::open(config, catalog, ctx).await?))
        }
    }

    /// What a store's identity calls its log on Kafka. Never changed: stores have it.
    pub(crate) fn name_of_topic(facts: &TopicFacts) -> String {
        format!("kafka topic {}, id {}", facts.name, facts.id)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use nacre_log::kafka::TopicId;

        #[test]
        fn what_stores_call_their_topic_stays() {
            let facts = TopicFacts {
                name: "t".into(),
                id: TopicId(0x324e_4138_4542_4157_4135_324e_4451_3251),
                partitions: 1,
                replicas: 1,
                in_sync: 1,
                settings: std::collections::BTreeMap::new(),
            };
            assert_eq!(name_of_topic(&facts), "kafka topic t, id Mk5BOEVCQVdBNTJORFEyUQ");
        }
    }
}

#[cfg(not(feature = "kafka"))]
mod not_built {
    use super::super::StorageSettings;
    use crate::kafka;
    use nacre_catalog::Catalog;
    use nacre_log::Log;
    use nacre_runtime::Context;
    use nacre_store::StoreIdentity;
    use nacre_types::Result;
    use std::sync::Arc;

    /// There is none in a build without Kafka.
    pub(crate) enum Topic {}

    #[allow(clippy::unused_async, reason = "as in a build with Kafka")]
    impl Topic {
        pub(crate) async fn describe(_: &StorageSettings, _: &str, _: &Context) -> Result<Self> {
            Err(kafka::not_built())
        }

        pub(crate) fn name(&self) -> String {
            match *self {}
        }

        pub(crate) async fn open(
            self,
            _: Arc<dyn Catalog>,
            _: &StoreIdentity,
            _: &Context,
        ) -> Result<Arc<dyn Log>> {
            match self {}
        }
    }
}
