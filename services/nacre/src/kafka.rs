//! The log on Kafka: its settings, and how it is opened.

#[cfg(feature = "kafka")]
pub(crate) use built_in::{config, describe, open};
use clap::Args;
use nacre_types::{Error, Result};

/// How a log on Kafka is reached. They say nothing where the log is elsewhere.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "a settings file is the same for every build"))]
pub(crate) struct KafkaSettings {
    /// On how many brokers each record lies, at least; a topic with fewer replicas is refused
    #[arg(long, value_name = "N", env = "NACRE_KAFKA_REPLICAS", default_value = "3")]
    pub(crate) kafka_replicas: u32,

    /// How brokers are spoken to; all but plaintext and sasl_plaintext want a build with kafka-tls
    #[arg(long, value_name = "PROTOCOL", env = "NACRE_KAFKA_SECURITY", default_value = "plaintext")]
    pub(crate) kafka_security: Protocol,

    /// How a user is proven, with sasl_plaintext and sasl_ssl; SCRAM wants a build with kafka-tls
    #[arg(long, value_name = "MECHANISM", env = "NACRE_KAFKA_MECHANISM", default_value = "scram-sha-512")]
    pub(crate) kafka_mechanism: Mechanism,

    /// Who asks, with sasl_plaintext and sasl_ssl
    #[arg(long, value_name = "NAME", env = "NACRE_KAFKA_USER")]
    pub(crate) kafka_user: Option<String>,

    /// Where the user's password is: env:NAME of a variable, or file:PATH; never the password itself
    #[arg(long, value_name = "WHERE", env = "NACRE_KAFKA_PASSWORD_FROM")]
    pub(crate) kafka_password_from: Option<String>,

    /// A file of root certificates, with ssl and sasl_ssl; without it the system's
    #[arg(long, value_name = "FILE", env = "NACRE_KAFKA_CA_FILE")]
    pub(crate) kafka_ca_file: Option<String>,

    /// A file with this client's own certificate, where brokers want one
    #[arg(long, value_name = "FILE", env = "NACRE_KAFKA_CERTIFICATE_FILE", requires = "kafka_key_file")]
    pub(crate) kafka_certificate_file: Option<String>,

    /// A file with its key
    #[arg(long, value_name = "FILE", env = "NACRE_KAFKA_KEY_FILE", requires = "kafka_certificate_file")]
    pub(crate) kafka_key_file: Option<String>,

    /// Brokers besides the log's that tables may name topics of as their sources: the user and the certificates above are shown to these
    #[arg(long, value_name = "HOST:PORT,..", env = "NACRE_SOURCE_BROKERS", value_delimiter = ',')]
    pub(crate) source_brokers: Vec<String>,

    /// The zone this process is in, as brokers' racks are named: readers prefer a replica there
    #[arg(long, value_name = "ZONE", env = "NACRE_KAFKA_ZONE")]
    pub(crate) kafka_zone: Option<String>,

    /// Whether records wait for each other: latency sends each at once, throughput gathers for 5 ms
    #[arg(long, value_name = "WHICH", env = "NACRE_KAFKA_BATCHING", default_value = "latency")]
    pub(crate) kafka_batching: Batch,
}

/// Kafka's own words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    Plaintext,
    Ssl,
    #[value(name = "sasl_plaintext")]
    SaslPlaintext,
    #[value(name = "sasl_ssl")]
    SaslSsl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mechanism {
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Batch {
    Latency,
    Throughput,
}

impl Protocol {
    fn wants_user(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::invalid(what).with_code("log-config")
}

/// Whether a log's URL is one of Kafka.
pub(crate) fn is_kafka(url: &str) -> bool {
    url.starts_with("kafka:")
}

/// What a command says that a build without Kafka is asked for.
#[cfg(not(feature = "kafka"))]
pub(crate) fn not_built() -> Error {
    Error::invalid("log: this program was built without Kafka; build it with --features kafka")
        .with_code("log-not-built")
}

impl KafkaSettings {
    /// Whether the settings fit one another and the build.
    ///
    /// # Errors
    /// `Invalid` (`log-url`, `log-config`, `log-not-built`).
    pub(crate) fn check(&self, url: &str) -> Result<()> {
        let has_user = self.kafka_user.is_some() && self.kafka_password_from.is_some();
        if self.kafka_security.wants_user() && !has_user {
            return Err(wrong("kafka_security asks for a user: set kafka_user and kafka_password_from"));
        }
        if !self.kafka_security.wants_user()
            && (self.kafka_user.is_some() || self.kafka_password_from.is_some())
        {
            return Err(wrong(
                "kafka_user: set kafka_security to sasl_ssl or sasl_plaintext, else nobody asks for one",
            ));
        }
        if let Some(place) = &self.kafka_password_from
            && !place.starts_with("env:")
            && !place.starts_with("file:")
        {
            return Err(wrong(
                "kafka_password_from: expected env:NAME or file:PATH, never the password itself",
            ));
        }
        self.check_build(url)
    }

    #[cfg(feature = "kafka")]
    fn check_build(&self, url: &str) -> Result<()> {
        config(self, url).and_then(|config| config.check())
    }

    #[cfg(not(feature = "kafka"))]
    fn check_build(&self, _: &str) -> Result<()> {
        Err(not_built())
    }
}

/// What only a program with Kafka has.
#[cfg(feature = "kafka")]
mod built_in {
    use super::{Batch, KafkaSettings, Mechanism, Protocol, wrong};
    use nacre_catalog::Catalog;
    use nacre_engine::flushed_through_record;
    use nacre_log::FlushedThrough;
    use nacre_log::kafka::{
        Batching, KafkaConfig, KafkaLog, KafkaSecurity, KafkaUrl, Sasl, SaslMechanism, Secret, Starts, Tls,
        TopicFacts, TopicRules, describe_topic,
    };
    use nacre_runtime::Context;
    use nacre_types::Result;
    use std::sync::Arc;

    /// The configuration that the settings say. A password is read only where one is wanted.
    ///
    /// # Errors
    /// `Invalid` (`log-url`, `log-config`).
    pub(crate) fn config(settings: &KafkaSettings, url: &str) -> Result<KafkaConfig> {
        let with_tls = matches!(settings.kafka_security, Protocol::Ssl | Protocol::SaslSsl);
        let tls = with_tls.then(|| Tls {
            ca_file: settings.kafka_ca_file.clone(),
            certificate_file: settings.kafka_certificate_file.clone(),
            key_file: settings.kafka_key_file.clone(),
        });
        let sasl = match (&settings.kafka_user, &settings.kafka_password_from) {
            (Some(user), Some(place)) if settings.kafka_security.wants_user() => Some(Sasl {
                mechanism: match settings.kafka_mechanism {
                    Mechanism::Plain => SaslMechanism::Plain,
                    Mechanism::ScramSha256 => SaslMechanism::ScramSha256,
                    Mechanism::ScramSha512 => SaslMechanism::ScramSha512,
                },
                user: user.clone(),
                password: password(place)?,
            }),
            _ => None,
        };
        let batching = match settings.kafka_batching {
            Batch::Latency => Batching::LATENCY,
            Batch::Throughput => Batching::THROUGHPUT,
        };
        Ok(KafkaConfig {
            replicas: settings.kafka_replicas,
            security: KafkaSecurity { tls, sasl },
            zone: settings.kafka_zone.clone(),
            batching,
            ..KafkaConfig::new(&KafkaUrl::parse(url)?)
        })
    }

    fn password(place: &str) -> Result<Secret> {
        let found = match place.split_once(':') {
            Some(("env", name)) => std::env::var(name).map_err(|_| format!("there is no variable {name}")),
            Some(("file", path)) => std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}")),
            _ => Err("expected env:NAME or file:PATH".to_owned()),
        };
        let text = found.map_err(|why| wrong(format!("kafka_password_from: {why}")))?;
        Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Asks for the topic, and refuses one that is not as the log must have it.
    ///
    /// # Errors
    /// What is wrong with the settings, the brokers or the topic.
    pub(crate) async fn describe(
        settings: &KafkaSettings,
        url: &str,
        ctx: &Context,
    ) -> Result<(KafkaConfig, TopicFacts)> {
        let config = config(settings, url)?;
        let facts = describe_topic(&config, ctx).await?;
        TopicRules::of(&config).judge(&facts)?;
        Ok((config, facts))
    }

    /// Opens the log of a store whose identity names this topic. Readers start where the catalog says.
    ///
    /// # Errors
    /// As [`describe`].
    pub(crate) async fn open(
        config: KafkaConfig,
        catalog: Arc<dyn Catalog>,
        ctx: &Context,
    ) -> Result<KafkaLog> {
        let starts = Starts::new(move |partition| {
            let catalog = catalog.clone();
            Box::pin(async move {
                let record = catalog.record(&flushed_through_record(partition)).await?;
                record
                    .map(|(bytes, _)| FlushedThrough::decode(&bytes).map(|flushed| flushed.position))
                    .transpose()
            })
        });
        KafkaLog::open(config, starts, ctx).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: KafkaSettings,
    }

    fn check(words: &str) -> Result<()> {
        let line = Line::try_parse_from(std::iter::once("x").chain(words.split_whitespace())).unwrap();
        line.settings.check("kafka://h:1/t")
    }

    #[test]
    fn users_and_how_they_are_proven_must_fit_one_another() {
        for words in [
            "--kafka-security sasl_plaintext",
            "--kafka-security sasl_ssl --kafka-user u",
            "--kafka-user u --kafka-password-from env:X",
            "--kafka-security sasl_plaintext --kafka-mechanism plain --kafka-user u --kafka-password-from canary",
        ] {
            let error = check(words).unwrap_err();
            assert_eq!(error.code(), "log-config", "{words}: {error}");
            assert!(!error.detail().contains("canary"), "{error}");
        }
    }

    #[cfg(not(feature = "kafka"))]
    #[test]
    fn a_build_without_kafka_says_so() {
        assert_eq!(check("").unwrap_err().code(), "log-not-built");
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn passwords_come_from_where_they_are_said_to_be() {
        assert!(check("").is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "canary\n").unwrap();
        let words = |place: &str| {
            format!(
                "x --kafka-security sasl_plaintext --kafka-mechanism plain --kafka-user u --kafka-password-from {place}"
            )
        };
        let parse = |place: &str| Line::try_parse_from(words(place).split_whitespace()).unwrap().settings;
        let there = parse(&format!("file:{}", path.display()));
        let config = config(&there, "kafka://h:1/t").unwrap();
        assert_eq!(config.security.sasl.as_ref().unwrap().password.0, "canary");
        assert!(!format!("{config:?}{there:?}").contains("canary"));
        let nowhere = parse("file:/nowhere/at/all").check("kafka://h:1/t").unwrap_err();
        assert!(nowhere.detail().contains("/nowhere/at/all"), "{nowhere}");
    }
}
