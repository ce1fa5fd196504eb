//! `nacre log status|resume|show`

use crate::output::{Grid, Out, moment};
use crate::storage::{self, StorageSettings};
use clap::Subcommand;
use nacre_runtime::Context;
use nacre_types::{Error, PartitionId, Result};
use serde::Serialize;
use std::path::PathBuf;

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod resume;
mod show;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Where each partition of a store's log begins and ends, and on Kafka whether the topic is as it must be; asks store
    /// and brokers, not a server
    Status {
        #[command(flatten)]
        storage: Box<StorageSettings>,
    },
    /// Take up a log on Kafka again that lost records, was made again, or holds what readers do not get past. Tells what that
    /// gives up; --accept-loss does it, for good. Asks store, catalog and brokers; no server may run
    Resume(Resume),
    /// Print the records of a partition that are not flushed yet; asks store and brokers, not a server
    Show(show::Show),
}

#[derive(Debug, clap::Args)]
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "the command line is the same for every build"))]
pub(crate) struct Resume {
    #[command(flatten)]
    storage: Box<StorageSettings>,

    /// Give up what is told without this: it cannot be undone
    #[arg(long)]
    accept_loss: bool,

    /// Only tell, and call that a success
    #[arg(long, conflicts_with = "accept_loss")]
    dry_run: bool,

    /// Who accepts it, for the record that is kept
    #[arg(long, value_name = "NAME", env = "NACRE_BY", default_value = "")]
    by: String,

    /// Tells a test that listens at this Unix socket where the program is, and waits for it there
    #[arg(long, value_name = "PATH", hide = true)]
    phase_socket: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u32,
    end_offset: u64,
    clock: i64,
    log_time: i64,
}

#[derive(Debug, Serialize)]
struct Status {
    store: String,
    store_id: String,
    log: String,
    incarnation: u32,
    partitions: Vec<Partition>,
}

pub(crate) async fn run(command: &Command, out: &Out) -> Result<()> {
    match command {
        Command::Status { storage } => {
            storage.check()?;
            #[cfg(feature = "kafka")]
            if let Some(url) = storage.kafka_url() {
                return kafka::status(storage, url, out).await;
            }
            let status = status(storage).await?;
            out.result(&status, |status| {
                let mut grid = Grid::new(&["partition", ">end", "clock", "log's time"]);
                for one in &status.partitions {
                    grid.row([
                        one.partition.to_string(),
                        one.end_offset.to_string(),
                        moment(one.clock),
                        moment(one.log_time),
                    ]);
                }
                format!("log of {} (incarnation {})\n{}", status.store, status.incarnation, grid.text())
            })
        }
        Command::Resume(asked) => {
            asked.storage.check()?;
            #[cfg(feature = "kafka")]
            if let Some(url) = asked.storage.kafka_url() {
                return resume::resume(asked, url, out).await;
            }
            Err(Error::invalid(
                "a log that lies in the store has nothing to resume: its chunks are as safe as the segments, and nobody but \
                 nacre deletes them. If objects of the store were lost, bring the store itself back; --log names a log on \
                 Kafka",
            )
            .with_code("log-resume-store"))
        }
        Command::Show(asked) => {
            asked.storage.check()?;
            show::show(asked, opened(&asked.storage).await?, out).await
        }
    }
}

/// Opens a store that is there: a question must not make one where there is none.
pub(super) async fn opened(settings: &StorageSettings) -> Result<storage::Storage> {
    let (url, ctx) = (settings.store_url(), Context::system());
    storage::look(settings, &ctx).await?;
    storage::open(settings, &url, &ctx).await
}

async fn status(settings: &StorageSettings) -> Result<Status> {
    let url = settings.store_url();
    let storage = opened(settings).await?;
    let mut partitions = Vec::new();
    for number in 0..storage.log.partitions() {
        let partition = PartitionId(number);
        let end = storage.log.end(partition).await?;
        let log_time = storage.log.log_time(partition).await?;
        partitions.push(Partition {
            partition: number,
            end_offset: end.offset.0,
            clock: end.clock,
            log_time,
        });
    }
    Ok(Status {
        store: url,
        store_id: storage.identity.store_id.to_string(),
        log: storage.identity.log.clone(),
        incarnation: storage.identity.log_incarnation.0,
        partitions,
    })
}
