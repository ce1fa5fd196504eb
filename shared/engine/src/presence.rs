//! This process among others: its heartbeat, who else is there, and which of several does a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nacre_catalog::Catalog;
use nacre_catalog::heartbeat::{HeartbeatConfig, OwnRenewals, Process, Registration, registered};
use nacre_catalog::lease::{Lease, LeaseConfig, Standing};
use nacre_runtime::Context;
use nacre_types::{ProcessId, Result};

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
    others: Arc<AtomicUsize>,
    config: PresenceConfig,
}

impl Presence {
    /// Registers the process and keeps its heart beating until the shutdown.
    pub(crate) async fn join(
        catalog: Arc<dyn Catalog>,
        ctx: &Context,
        config: PresenceConfig,
    ) -> Result<Self> {
        let process = ProcessId(ctx.ids.random_u128());
        let own = Process { id: process, info: bytes::Bytes::from_static(b"all") };
        let (mut registration, beat) = Registration::join(catalog, ctx, own, config.heartbeat).await?;
        let others = Arc::new(AtomicUsize::new(beat.others.len()));
        let (told, renewals) = (others.clone(), registration.renewals());
        let shutdown = ctx.tasks.shutdown_token();
        ctx.tasks.spawn("heartbeat", async move {
            loop {
                tokio::select! {
                    () = shutdown.requested() => break,
                    () = tokio::time::sleep(config.heartbeat.every) => {}
                }
                match registration.beat().await {
                    Ok(beat) => told.store(beat.others.len(), Ordering::Relaxed),
                    Err(error) => tracing::warn!(%error, "the heartbeat was not written"),
                }
            }
            if let Err(error) = registration.leave().await {
                tracing::debug!(%error, "the process could not sign off; the others wait it out");
            }
        });
        Ok(Self { process, renewals, others, config })
    }

    /// Whether no other process is registered, as far as is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.others.load(Ordering::Relaxed) == 0
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
