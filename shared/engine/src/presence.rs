//! This process among others: its heartbeat, who else is there, and which of several does a job.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_catalog::Catalog;
use nacre_catalog::heartbeat::{HeartbeatConfig, OwnRenewals, Process, Registration, registered};
use nacre_catalog::lease::{Lease, LeaseConfig, Standing};
use nacre_runtime::Context;
use nacre_types::{ProcessId, Result};
use tokio::sync::watch;

/// How processes watch each other.
#[derive(Debug, Clone, Copy)]
pub struct PresenceConfig {
    /// Heartbeats. More often: deaths are noticed earlier, and more requests.
    pub heartbeat: HeartbeatConfig,
    /// Leases, likewise.
    pub lease: LeaseConfig,
}

impl PresenceConfig {
    /// For a local directory or memory, where a request costs nothing.
    pub fn local() -> Self {
        Self {
            heartbeat: HeartbeatConfig {
                every: Duration::from_millis(500),
                dead_after: Duration::from_secs(3),
            },
            lease: LeaseConfig { every: Duration::from_millis(300), still: Duration::from_secs(2) },
        }
    }

    /// For a fleet on a catalog that answers in milliseconds: a death is noticed within nine seconds, so that another
    /// writer has flushed what a dead one left within fifteen, also on a busy machine.
    pub fn fleet() -> Self {
        Self {
            heartbeat: HeartbeatConfig { every: Duration::from_secs(1), dead_after: Duration::from_secs(8) },
            lease: LeaseConfig::default(),
        }
    }

    /// For a store whose requests cost time and money.
    pub fn remote() -> Self {
        Self { heartbeat: HeartbeatConfig::default(), lease: LeaseConfig::default() }
    }
}

/// This process's entry among the registered ones.
#[derive(Debug)]
pub(crate) struct Presence {
    process: ProcessId,
    renewals: OwnRenewals,
    others: watch::Receiver<Arc<[Process]>>,
    said: watch::Sender<Bytes>,
    config: PresenceConfig,
}

impl Presence {
    /// Registers the process and keeps its heart beating until the shutdown.
    pub(crate) async fn join(
        catalog: Arc<dyn Catalog>,
        ctx: &Context,
        config: PresenceConfig,
        info: Bytes,
    ) -> Result<Self> {
        let process = ProcessId(ctx.ids.random_u128());
        let own = Process { id: process, info: info.clone() };
        let (mut registration, beat) = Registration::join(catalog, ctx, own, config.heartbeat).await?;
        let (told, others) = watch::channel::<Arc<[Process]>>(beat.others.into());
        let (said, mut says) = watch::channel(info);
        let renewals = registration.renewals();
        let shutdown = ctx.tasks.shutdown_token();
        ctx.tasks.spawn("heartbeat", async move {
            loop {
                tokio::select! {
                    () = shutdown.requested() => break,
                    () = tokio::time::sleep(config.heartbeat.every) => {}
                    Ok(()) = says.changed() => {
                        let info = says.borrow_and_update().clone();
                        if let Err(error) = registration.say(info) {
                            tracing::error!(%error, "what this process says of itself is not told");
                        }
                    }
                }
                match registration.beat().await {
                    Ok(beat) => {
                        told.send_if_modified(|held| {
                            let is_news = **held != *beat.others;
                            if is_news {
                                *held = beat.others.into();
                            }
                            is_news
                        });
                    }
                    Err(error) => tracing::warn!(%error, "the heartbeat was not written"),
                }
            }
            if let Err(error) = registration.leave().await {
                tracing::debug!(%error, "the process could not sign off; the others wait it out");
            }
        });
        Ok(Self { process, renewals, others, said, config })
    }

    /// Whether no other process is registered, as far as is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.others.borrow().is_empty()
    }

    /// This process.
    pub(crate) fn process(&self) -> ProcessId {
        self.process
    }

    /// The other processes, as the last heartbeat saw them.
    pub(crate) fn others(&self) -> watch::Receiver<Arc<[Process]>> {
        self.others.clone()
    }

    /// Says something else of this process, with a beat of its own.
    pub(crate) fn say(&self, info: Bytes) {
        self.said.send_replace(info);
    }

    /// Whether no other process is registered now: by a read, not by the last heartbeat. One that registers later reads
    /// the catalog later, too.
    pub(crate) async fn is_alone_now(&self, catalog: &dyn Catalog) -> Result<bool> {
        Ok(registered(catalog).await?.iter().all(|process| process.id == self.process))
    }

    pub(crate) fn duty(&self, catalog: Arc<dyn Catalog>, ctx: &Context, name: &str) -> Duty {
        let lease = Lease::new(catalog, ctx, name, self.process, self.renewals.clone(), self.config.lease);
        Duty { lease, ctx: ctx.clone(), every: self.config.lease.every, stepped: None, name: name.to_owned() }
    }
}

/// A job that one of several processes does, by a lease: a hint that saves work twice. What must not happen twice is
/// refused where it is committed.
#[derive(Debug)]
pub struct Duty {
    lease: Lease,
    ctx: Context,
    every: Duration,
    stepped: Option<Duration>,
    name: String,
}

impl Duty {
    /// Whether the job is this process's now; takes or renews the lease when that is due.
    pub async fn is_ours(&mut self) -> bool {
        let now = self.ctx.clock.monotonic();
        if self.stepped.is_none_or(|at| now.saturating_sub(at) >= self.every) {
            self.stepped = Some(now);
            match self.lease.step().await {
                Ok(Standing::Held) => return true,
                Ok(Standing::Other(_) | Standing::Unknown) => {}
                Err(error) => tracing::warn!(duty = %self.name, %error, "the lease could not be renewed"),
            }
        }
        self.lease.is_held()
    }

    /// Lets go, so that another need not wait.
    pub async fn release(&mut self) {
        if let Err(error) = self.lease.release().await {
            tracing::debug!(duty = %self.name, %error, "the lease could not be released; the others wait it out");
        }
    }
}
