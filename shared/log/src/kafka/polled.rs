//! A producer with a thread that takes its delivery reports.
//!
//! rdkafka's own `ThreadedProducer` takes them for 100 ms at a time, but librdkafka waits for whole milliseconds: what is
//! left of the last one, up to 1 %, is spent asking again and again; a process has several producers, and pays it for each,
//! idle or not. Here the thread asks for longer, and for a little more than whole milliseconds, so that a wait in which nothing comes
//! ends behind the time and not before it.

use super::client;
use super::config::Properties;
use nacre_types::{Error, Result};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::producer::{BaseProducer, ProducerContext};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The thread looks so often whether it is still wanted; the end of a producer waits for that.
const LOOK_EVERY: Duration = Duration::from_micros(500_050);

/// Dropped, it gives up what it still has, tells so, and waits for its thread.
pub(super) struct Polled<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    is_over: Arc<AtomicBool>,
    /// `None` only while it ends.
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    /// # Errors
    /// `Invalid` (`log-config`) where librdkafka does not take the settings; `Unavailable`: no thread.
    pub(super) fn make(properties: Properties, level: RDKafkaLogLevel, context: C) -> Result<Self> {
        let producer: Arc<BaseProducer<C>> = Arc::new(client::make(properties, level, context)?);
        let is_over = Arc::new(AtomicBool::new(false));
        let (polled, told) = (producer.clone(), is_over.clone());
        let thread = std::thread::Builder::new().name("log reports".to_owned()).spawn(move || {
            while !told.load(Ordering::Acquire) {
                polled.poll(LOOK_EVERY);
            }
        });
        let thread = thread
            .map_err(|error| Error::unavailable(format!("a thread for a producer of the log: {error}")))?;
        Ok(Self { producer, is_over, thread: Some(thread) })
    }
}

impl<C: ProducerContext + 'static> Deref for Polled<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of a producer of the log panicked");
        }
    }
}
