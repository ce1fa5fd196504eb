//! `nacre topic create`

use crate::kafka::KafkaSettings;
use crate::output::Out;
use clap::Subcommand;
use nacre_types::{Error, Result};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a topic as the log must have it: append times, no compaction, nothing forgotten, enough replicas
    Create {
        /// The topic: kafka://host:port,host:port/topic
        #[arg(long, value_name = "URL", env = "NACRE_LOG")]
        log: Option<String>,

        /// Into how many partitions shards are spread; more take more writes at once, and each costs a reader per process
        #[arg(long, value_name = "N", default_value = "1")]
        partitions: u32,

        #[command(flatten)]
        kafka: Box<KafkaSettings>,
    },
}

pub(crate) async fn run(command: &Command, out: &Out) -> Result<()> {
    let Command::Create { log, partitions, kafka } = command;
    let Some(log) = log else {
        let why = "which topic? say --log kafka://host:port,host:port/topic";
        return Err(Error::invalid(why).with_code("log-url"));
    };
    kafka.check(log)?;
    create(log, *partitions, kafka, out).await
}

#[cfg(feature = "kafka")]
async fn create(log: &str, partitions: u32, settings: &KafkaSettings, out: &Out) -> Result<()> {
    use nacre_log::kafka::{TopicRules, create_topic};
    use nacre_runtime::Context;

    let ctx = Context::system();
    let config = crate::kafka::config(settings, log)?;
    let made = create_topic(&config, partitions, &ctx).await?;
    TopicRules::of(&config).judge(&made)?;
    let json = serde_json::json!({
        "topic": made.name,
        "id": made.id.to_string(),
        "partitions": made.partitions,
        "replicas": made.replicas,
    });
    out.result(&json, |_| {
        format!(
            "topic {} was made: {} partitions on {} brokers each, id {}",
            made.name, made.partitions, made.replicas, made.id
        )
    })
}

#[cfg(not(feature = "kafka"))]
async fn create(_: &str, _: u32, _: &KafkaSettings, _: &Out) -> Result<()> {
    Err(crate::kafka::not_built())
}
