//! How a log on Kafka behaves, and what of it librdkafka is told.

use crate::record::MAX_RECORD_BYTES;
use nacre_store::LogMending;
use nacre_types::{Error, LogIncarnation, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Room for what Kafka writes around a record's bytes.
const FRAMING_BYTES: usize = 64 << 10;
/// The group that readers name. They join none and commit nothing, but librdkafka wants a name to read by hand.
const GROUP: &str = "nacre-reader";

/// Where a topic is: `kafka://host:port,host:port/topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaUrl {
    /// The brokers that are asked first, as librdkafka wants them.
    pub brokers: String,
    /// The topic.
    pub topic: String,
}

fn bad_url(why: impl fmt::Display) -> Error {
    Error::invalid(format!("log: {why}; expected kafka://host:port,host:port/topic")).with_code("log-url")
}

impl KafkaUrl {
    /// Reads a URL. User and password do not belong into it.
    ///
    /// # Errors
    /// `Invalid` (`log-url`).
    pub fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("kafka://").ok_or_else(|| bad_url("not a URL of Kafka"))?;
        if rest.contains(['@', '?', '#']) {
            return Err(bad_url(
                "a user, a password or options in the URL, where logs and processes' lists would show them; they are \
                 settings of their own",
            ));
        }
        let Some((brokers, topic)) = rest.split_once('/') else { return Err(bad_url("no topic")) };
        for broker in brokers.split(',') {
            let (host, port) = match broker.rsplit_once(':') {
                Some((host, port)) if !host.ends_with(':') => (host, Some(port)),
                _ => (broker, None),
            };
            let is_host = !host.is_empty()
                && host.bytes().all(|b| {
                    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':')
                });
            if !is_host || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
                return Err(bad_url(format_args!("{broker:?} is no host:port")));
            }
        }
        check_topic(topic)?;
        Ok(Self { brokers: brokers.to_owned(), topic: topic.to_owned() })
    }
}

/// Kafka's own rule for names of topics.
fn check_topic(topic: &str) -> Result<()> {
    let fits = (1..=249).contains(&topic.len())
        && !matches!(topic, "." | "..")
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if fits { Ok(()) } else { Err(bad_url(format_args!("{topic:?} is no name of a topic"))) }
}

/// A topic's id: given by Kafka when it is made, and to no other topic ever. A topic that is deleted and made again has
/// another, though its name, its partitions and soon its offsets are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId(pub u128);

impl fmt::Display for TopicId {
    /// As Kafka's own tools print it: 22 characters of URL-safe base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 128 bits and 4 zeros behind them.
        for place in (0..22).rev() {
            let bits = if place == 0 { self.0 << 4 } else { self.0 >> (6 * place - 4) };
            let digit = DIGITS.get((bits & 63) as usize).copied().unwrap_or_default();
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How brokers are convinced of who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    /// Which way.
    pub mechanism: SaslMechanism,
    /// Who.
    pub user: String,
    /// The proof.
    pub password: Secret,
}

/// Ways to prove a user to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password as it is: over TLS, or a network that is trusted.
    Plain,
    /// SCRAM over SHA-256; wants a build with TLS, for its hashes.
    ScramSha256,
    /// SCRAM over SHA-512; wants a build with TLS, for its hashes.
    ScramSha512,
}

impl SaslMechanism {
    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// TLS towards the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// A file of root certificates; `None` = those of the system.
    pub ca_file: Option<String>,
    /// A file with the client's own certificate, where brokers want one.
    pub certificate_file: Option<String>,
    /// A file with its key.
    pub key_file: Option<String>,
}

/// How brokers are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KafkaSecurity {
    /// `None` = in the clear.
    pub tls: Option<Tls>,
    /// `None` = nobody in particular.
    pub sasl: Option<Sasl>,
}

impl KafkaSecurity {
    /// Kafka's name of it.
    pub fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }
}

/// How long records wait for each other. More waiting: fewer and larger requests, higher throughput; each append takes
/// as much longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// How long the first record of a batch waits for others.
    pub linger: Duration,
    /// A batch goes out when it holds this many bytes.
    pub batch_bytes: usize,
}

impl Batching {
    /// Each record goes out almost at once; those that come while others are under way go together. Not at once: what is handed
    /// over together goes as one batch (`produce`).
    pub const LATENCY: Self = Self { linger: Duration::from_millis(1), batch_bytes: 1 << 20 };
    /// For loads of writes that nobody waits for one by one.
    pub const THROUGHPUT: Self = Self { linger: Duration::from_millis(5), batch_bytes: 1 << 20 };
}

/// How a log on Kafka behaves.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// The brokers that are asked first: `host:port`, with commas between.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Which log this is; from the store's identity.
    pub incarnation: LogIncarnation,
    /// The topic's id as the store's identity has it; another topic of the same name is refused. `None` = whichever is
    /// there, and no other while this runs.
    pub topic_id: Option<TopicId>,
    /// How the log's offsets follow from the topic's; from the store's identity.
    pub mending: Arc<LogMending>,
    /// On how many brokers a record must lie: the topic needs as many replicas, and a majority of them in sync for each
    /// acknowledgement. 3 = a broker may die and nothing is lost or stops; 1 = a single broker, for tests.
    pub replicas: u32,
    /// How brokers are spoken to.
    pub security: KafkaSecurity,
    /// The zone (`broker.rack`) that this process is in: readers read from a replica there, which saves traffic between
    /// zones and lets appends and ends wait until that replica has heard, up to half a second. `None` = from the leaders.
    pub zone: Option<String>,
    /// How long records wait for each other.
    pub batching: Batching,
    /// After this long a record that was not delivered is given up by the producer. Within the requests' deadlines, or
    /// they answer unknown where a little later the answer would be known; and as long as this a repeat waits before it
    /// believes that an earlier attempt is over.
    pub delivery_timeout: Duration,
    /// Records that wait for delivery hold at most this many bytes per partition; beyond it they are `Overloaded`.
    pub max_queued_bytes: usize,
    /// Records that are kept in memory for this process's own tails, in bytes for all partitions together. A tail that
    /// falls further behind reads from the brokers again.
    pub window_bytes: usize,
    /// A partition that no tail stands on, and whose end nobody has asked for so long, is not read any more.
    pub idle_after: Duration,
    /// How far an append time may be from this process's clock before it is neither acknowledged nor believed.
    pub clock_skew_bound: Duration,
    /// After this long a question to the brokers is given up.
    pub attempt_timeout: Duration,
    /// How often the topic's settings and id are looked at, and readers compare where they stand with the partition's
    /// start and end.
    pub check_every: Duration,
}

impl KafkaConfig {
    /// For a topic on three brokers.
    pub fn new(url: &KafkaUrl) -> Self {
        Self {
            brokers: url.brokers.clone(),
            topic: url.topic.clone(),
            incarnation: LogIncarnation(0),
            topic_id: None,
            mending: Arc::default(),
            replicas: 3,
            security: KafkaSecurity::default(),
            zone: None,
            batching: Batching::LATENCY,
            delivery_timeout: Duration::from_secs(5),
            max_queued_bytes: 64 << 20,
            window_bytes: 128 << 20,
            idle_after: Duration::from_secs(60),
            clock_skew_bound: Duration::from_secs(60),
            attempt_timeout: Duration::from_secs(10),
            check_every: Duration::from_secs(5),
        }
    }

    /// Whether the settings can be kept to by this build.
    ///
    /// # Errors
    /// `Invalid` (`log-config`).
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("log: {what}")).with_code("log-config"));
        if self.replicas == 0 {
            return wrong("a record lies on at least one broker: replicas is 1 or more");
        }
        if self.attempt_timeout.is_zero() || self.check_every.is_zero() || self.idle_after.is_zero() {
            return wrong("times are not zero");
        }
        if self.delivery_timeout <= self.batching.linger || self.delivery_timeout < Duration::from_millis(100)
        {
            return wrong("the delivery time-out is at least 100ms, and longer than records linger");
        }
        let wants_tls = self.security.tls.is_some()
            || self.security.sasl.as_ref().is_some_and(|sasl| sasl.mechanism != SaslMechanism::Plain);
        if wants_tls && !cfg!(feature = "kafka-tls") {
            return wrong(
                "TLS and SCRAM are not in this build; build it with --features kafka-tls, or speak to the brokers in the \
                 clear (security plaintext, or sasl_plaintext with PLAIN)",
            );
        }
        Ok(())
    }

    /// How many replicas must hold a record before it is acknowledged.
    pub(super) fn in_sync(&self) -> u32 {
        self.replicas / 2 + 1
    }

    /// How long after an attempt was given up by its caller it may still come to be in the log: the producer's time-out;
    /// a second, because librdkafka looks for what is out of time once a second; and another for a request that is on
    /// its way by then.
    pub(super) fn settled_after(&self) -> Duration {
        self.delivery_timeout + Duration::from_secs(2)
    }

    /// What every client is told.
    fn common(&self) -> Properties {
        let mut all = vec![
            ("bootstrap.servers", self.brokers.clone()),
            ("client.id", "nacre".to_owned()),
            ("allow.auto.create.topics", "false".to_owned()),
            ("message.max.bytes", (MAX_RECORD_BYTES + FRAMING_BYTES).to_string()),
            // The defaults let a client that saw a broker go come back ten seconds after it is there again.
            ("reconnect.backoff.ms", "50".to_owned()),
            ("reconnect.backoff.max.ms", "500".to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            ("socket.nagle.disable", "true".to_owned()),
        ];
        all.push(("security.protocol", self.security.protocol().to_owned()));
        if let Some(sasl) = &self.security.sasl {
            all.push(("sasl.mechanism", sasl.mechanism.name().to_owned()));
            all.push(("sasl.username", sasl.user.clone()));
            all.push(("sasl.password", sasl.password.0.clone()));
        }
        if let Some(tls) = &self.security.tls {
            let files = [
                ("ssl.ca.location", &tls.ca_file),
                ("ssl.certificate.location", &tls.certificate_file),
                ("ssl.key.location", &tls.key_file),
            ];
            all.extend(files.into_iter().filter_map(|(name, file)| Some((name, file.clone()?))));
        }
        all
    }

    /// What the client that asks and manages is told.
    pub(super) fn tools(&self) -> Properties {
        self.common()
    }

    /// What a producer is told.
    pub(super) fn producer(&self) -> Properties {
        let mut all = self.common();
        let queued_kb = (self.max_queued_bytes / 1024).clamp(1_024, 2_097_151);
        all.extend([
            ("enable.idempotence", "true".to_owned()),
            ("acks", "all".to_owned()),
            // With more, one that fails makes the next out of order, and what may be in the log is sent anew (`produce`).
            ("max.in.flight.requests.per.connection", "1".to_owned()),
            // None of its own: it would send again, under another epoch, what may be in the log already (`produce`).
            ("message.timeout.ms", "0".to_owned()),
            ("enable.gapless.guarantee", "true".to_owned()),
            ("request.timeout.ms", millis(self.delivery_timeout)),
            ("retry.backoff.ms", "50".to_owned()),
            ("retry.backoff.max.ms", "250".to_owned()),
            ("linger.ms", format!("{:.3}", self.batching.linger.as_secs_f64() * 1e3)),
            ("batch.size", self.batching.batch_bytes.max(1).to_string()),
            ("compression.type", "lz4".to_owned()),
            // One's own bound, per partition, comes first; this one is for all of them together.
            ("queue.buffering.max.kbytes", queued_kb.saturating_mul(16).min(2_097_151).to_string()),
            ("queue.buffering.max.messages", "1000000".to_owned()),
        ]);
        all
    }

    /// What a reader of one partition is told.
    pub(super) fn reader(&self) -> Properties {
        let mut all = self.common();
        all.extend([
            ("group.id", GROUP.to_owned()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            // Never start anywhere else than told.
            ("auto.offset.reset", "error".to_owned()),
            ("check.crcs", "true".to_owned()),
            ("isolation.level", "read_uncommitted".to_owned()),
            // A partition that joins a client's others waits for the question that is under way.
            ("fetch.wait.max.ms", "100".to_owned()),
            ("fetch.min.bytes", "1".to_owned()),
            ("fetch.error.backoff.ms", "50".to_owned()),
            ("fetch.max.bytes", (64 << 20).to_string()),
            ("fetch.message.max.bytes", (4 << 20).to_string()),
            // How far librdkafka reads ahead of whoever takes the records.
            ("queued.max.messages.kbytes", "4096".to_owned()),
            // And when it asks again after it was that far; a second, unless told.
            ("fetch.queue.backoff.ms", "5".to_owned()),
        ]);
        if let Some(zone) = &self.zone {
            all.push(("client.rack", zone.clone()));
        }
        all
    }
}

/// Names and values as librdkafka's CONFIGURATION.md has them.
pub(super) type Properties = Vec<(&'static str, String)>;

fn millis(duration: Duration) -> String {
    duration.as_millis().clamp(1, 900_000).to_string()
}
