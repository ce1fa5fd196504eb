//! One client that reads many partitions for this process.
//!
//! A client asks each broker one question at a time, for all its partitions together. Sixteen partitions with a client
//! each are sixteen questions that wait at every broker, sixteen answers for the records of one batch, and sixteen sets
//! of threads; brokers then spend more on being asked than on what is appended.
//!
//! Each partition has a queue of its own within the client, where its messages *and its errors* arrive: those that matter
//! most (an offset out of range above all) name no partition.
//!
//! **A partition is assigned to a client once.** A reader that is given up takes its client out of use: who comes later
//! gets a new client, and the other partitions stay where they are. So no message can be left over from an earlier
//! assignment, a client that has gone wrong is not asked to mend itself, and still there are two clients or three, where
//! nothing is amiss one.

use super::client::{self, Reach, Voice, failed};
use super::config::KafkaConfig;
use super::tools::number;
use nacre_runtime::Context;
use nacre_types::{Error, Offset, PartitionId, Result};
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::watch;

struct Client {
    consumer: Arc<StreamConsumer<Voice>>,
    /// A reader of it was given up.
    is_worn: AtomicBool,
    /// Dropped with it: ends the task that serves the client.
    _end: watch::Sender<()>,
}

/// The client that is in use now, if any partition is read.
#[derive(Default)]
pub(super) struct Clients(Mutex<Weak<Client>>);

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// Reads a partition from `from` on.
    ///
    /// # Errors
    /// `Invalid` (`log-config`); `Unavailable` (`log-unreachable`).
    pub(super) fn read(
        &self,
        config: &KafkaConfig,
        reach: &Arc<Reach>,
        ctx: &Context,
        partition: PartitionId,
        from: Offset,
    ) -> Result<Share> {
        let client = {
            let mut current = self.0.lock();
            match current.upgrade().filter(|client| !client.is_worn.load(Ordering::Acquire)) {
                Some(client) => client,
                None => {
                    let client = Arc::new(open(config, reach, ctx)?);
                    *current = Arc::downgrade(&client);
                    client
                }
            }
        };
        // Before it is assigned, or its first messages would go to the client's common queue.
        let queue = client.consumer.split_partition_queue(&config.topic, number(partition));
        let queue = queue.ok_or_else(|| Error::internal("a partition's queue was not given"))?;
        let own = config.to_topic(partition, from)?;
        let share = Share { queue, client, topic: config.topic.clone(), partition };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&share.topic, number(partition), own)
            .and_then(|()| share.client.consumer.incremental_assign(&list))
            .map_err(|error| failed(format_args!("reading partition {partition}"), &error))?;
        Ok(share)
    }
}

fn open(config: &KafkaConfig, reach: &Arc<Reach>, ctx: &Context) -> Result<Client> {
    let consumer: StreamConsumer<Voice> =
        client::make(config.reader(), RDKafkaLogLevel::Warning, Voice::new(reach))?;
    let consumer = Arc::new(consumer);
    let (end, mut ended) = watch::channel(());
    let (served, tasks, stop) = (consumer.clone(), ctx.tasks.clone(), ctx.tasks.shutdown_token());
    ctx.tasks.spawn("log reader client", async move {
        let serve = async {
            loop {
                // What belongs to no partition: connections that come and go, which the client's voice has told of.
                if let Err(error) = served.recv().await {
                    tracing::debug!(%error, "a reader of the log met an error and goes on");
                }
            }
        };
        tokio::select! {
            () = stop.requested() => {}
            _ = ended.changed() => {}
            () = serve => {}
        }
        // Whoever goes last waits for the client's threads.
        client::end_elsewhere(served, &tasks);
    });
    Ok(Client { consumer, is_worn: AtomicBool::new(false), _end: end })
}

/// One partition's part of what a client reads. Dropped, it is read no more; the last one waits for the client's end.
pub(super) struct Share {
    queue: StreamPartitionQueue<Voice>,
    client: Arc<Client>,
    topic: String,
    partition: PartitionId,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_up();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, number(self.partition));
        if let Err(error) = self.client.consumer.incremental_unassign(&list) {
            tracing::debug!(partition = %self.partition, %error, "a partition was not taken from its reader");
        }
    }
}

impl Share {
    /// Takes the client out of use for who comes later.
    pub(super) fn give_up(&self) {
        self.client.is_worn.store(true, Ordering::Release);
    }

    /// What comes next. Dropped while it waits, it has taken nothing.
    pub(super) async fn recv(&self) -> std::result::Result<BorrowedMessage<'_>, KafkaError> {
        self.queue.recv().await
    }
}
