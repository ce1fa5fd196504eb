//! What all clients of librdkafka have in common: their voice, their errors, and their end.

use super::config::Properties;
use nacre_runtime::Tasks;
use nacre_types::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Whether any broker answers, as far as is known. Clients lower it when all their connections are gone, be it that they
/// were idle for long; the next sign of life raises it, and the watch asks for one at once.
#[derive(Debug)]
pub(super) struct Reach {
    is_there: watch::Sender<bool>,
    /// Why no connection came to be, as librdkafka said last; nothing since a broker answered.
    why: Mutex<Option<String>>,
}

/// How much of librdkafka's words is told.
const WHY_CHARS: usize = 300;

impl Default for Reach {
    fn default() -> Self {
        Self { is_there: watch::Sender::new(true), why: Mutex::default() }
    }
}

impl Reach {
    pub(super) fn found(&self) {
        self.why.lock().take();
        if !*self.is_there.borrow() && !self.is_there.send_replace(true) {
            tracing::info!("the brokers of the log answer");
        }
    }

    fn lost(&self, reason: &str) {
        if self.is_there.send_replace(false) {
            tracing::debug!(reason, "a client of the log has no connection to any broker");
        }
    }

    /// A connection came to nothing.
    fn refused(&self, reason: &str) {
        *self.why.lock() = Some(reason.chars().filter(|c| !c.is_control()).take(WHY_CHARS).collect());
    }

    /// Why the last connection came to nothing, where none has worked since.
    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().clone()
    }

    /// Waits until the brokers are there, or not.
    pub(super) async fn becomes(&self, there: bool) {
        let mut changes = self.is_there.subscribe();
        // The sender lives as long as this.
        drop(changes.wait_for(|is| *is == there).await);
    }
}

/// Where a client's words go: into this program's own log.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    reach: Arc<Reach>,
}

impl Voice {
    pub(super) fn new(reach: &Arc<Reach>) -> Self {
        Self { reach: reach.clone() }
    }
}

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        speak(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        heard(&self.reach, &error, reason);
    }
}

impl ConsumerContext for Voice {}

pub(super) fn speak(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "librdkafka: {message}");
        }
        // It calls every lost connection an error; what comes of it is told where it is handled.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::debug!(facility, "librdkafka: {message}")
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::trace!(facility, "librdkafka: {message}");
        }
    }
}

pub(super) fn heard(reach: &Reach, error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AllBrokersDown) => reach.lost(reason),
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            reach.refused(reason);
            tracing::error!(
                reason,
                "the brokers of the log do not accept who asks: look at user and password"
            );
        }
        Some(
            RDKafkaErrorCode::SSL | RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve,
        ) => {
            reach.refused(reason);
            tracing::debug!(%error, reason, "a client of the log got no connection");
        }
        _ => tracing::debug!(%error, reason, "a client of the log met an error"),
    }
}

/// Makes a client, which speaks from a level on.
///
/// # Errors
/// `Invalid` (`log-config`) where librdkafka does not take the settings.
pub(super) fn make<C, T>(properties: Properties, level: RDKafkaLogLevel, context: C) -> Result<T>
where
    C: ClientContext,
    T: FromClientConfigAndContext<C>,
{
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    config.set_log_level(level);
    config.create_with_context(context).map_err(|error| {
        // The description of a setting that is wrong has no value in it; the setting's own may be a secret.
        let why = match &error {
            KafkaError::ClientConfig(_, description, name, _) => format!("{name}: {description}"),
            KafkaError::ClientCreation(why) => why.clone(),
            other => other.to_string(),
        };
        Error::invalid(format!("a client of Kafka cannot be made: {why}")).with_code("log-config")
    })
}

/// What an error of a question means for whoever asked.
pub(super) fn failed(what: impl fmt::Display, error: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    match code {
        Some(code @ (Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::GroupAuthorizationFailed)) => {
            Error::new(
                ErrorKind::Forbidden,
                format!("{what}: the brokers do not allow it ({code}); give this user the rights that operating.md lists"),
            )
            .with_code("log-forbidden")
        }
        _ => Error::unavailable(format!("{what}: {error}")).with_code("log-unreachable"),
    }
}

/// Ends a client where waiting hurts nobody: its end joins threads and waits for brokers.
pub(super) fn end_elsewhere<T: Send + 'static>(client: T, tasks: &Tasks) {
    if tokio::runtime::Handle::try_current().is_ok() {
        tasks.spawn_blocking("log client ends", move || drop(client));
    } else {
        drop(client);
    }
}
