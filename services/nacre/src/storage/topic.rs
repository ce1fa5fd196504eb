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
    use nacre_log::kafka::{KafkaConfig, TopicFacts, topic_marks};
    use nacre_runtime::Context;
    use nacre_store::{ObjectStore, StoreIdentity};
    use nacre_types::{Error, Result};
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

        /// Whether a store that has no identity yet may name this topic. One that somebody wrote to is another store's log:
        /// each of the two would trim what the other has not flushed. Nothing is ever appended before the identity is
        /// there, so a store's own first processes, which start side by side, pass: who finds records finds the identity.
        ///
        /// # Errors
        /// `Invalid` (`log-topic-used`); `Unavailable`.
        pub(crate) async fn check_unused_by_others(
            &self,
            store: &dyn ObjectStore,
            ctx: &Context,
        ) -> Result<()> {
            if StoreIdentity::read(store).await?.is_some() {
                return Ok(());
            }
            let marks = topic_marks(&self.config, &self.facts, ctx).await?;
            if marks.iter().all(|marks| marks.end.0 == 0) || StoreIdentity::read(store).await?.is_some() {
                return Ok(());
            }
            Err(Error::invalid(format!(
                "the store is new, and topic {} has been written to: it is the log of another store, and a topic serves one \
                 store; make another with nacre topic create, or point store (NACRE_STORE) at the store that it belongs with",
                self.facts.name
            ))
            .with_code("log-topic-used"))
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
    use nacre_store::{ObjectStore, StoreIdentity};
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

        pub(crate) async fn check_unused_by_others(&self, _: &dyn ObjectStore, _: &Context) -> Result<()> {
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
