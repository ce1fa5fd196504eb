//! The roles of one process, wired together; and their end, in order.
//!
//! ```text
//! start   store, catalog, log      probed: a store that breaks its promises is not served from
//!         node                     reads the log from where the last flush left it
//!         writer, loader           tasks of the node's world
//!         dispatcher               binds, answers health alone until the node has caught up, then says where it is
//! stop    dispatcher               takes nothing more, lets requests under way finish: what is acknowledged is in the log
//!         writer, loader           leave at their next safe point; what they had begun is begun again at the next start
//!         node                     keeps what the cache's disk should keep
//! ```
//!
//! Nothing needs the orderly end: after a kill the same things are found in the log and the catalog. It is there so that
//! clients see an answer instead of a broken connection.

use super::{Settings, phases, welcome};
use crate::output::{Out, note};
use crate::storage;
use nacre_cache::{CacheConfig, DiskConfig};
use nacre_dispatcher::Server;
use nacre_engine::{FlushConfig, Node, NodeConfig};
use nacre_loader::{Decode, LoaderConfig};
use nacre_runtime::{Context, TaskHandle, Tasks};
use nacre_types::{Error, Result};
use nacre_writer::WriterConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the background roles may take to reach a safe point when the server stops.
const BACKGROUND_GRACE: Duration = Duration::from_secs(10);

/// The address space of a child that decodes a file: honest files with the largest pages that are taken fit.
const CHILD_MEMORY_BYTES: u64 = 2 << 30;
/// Its CPU time, beside what the file's size grants.
const CHILD_SECONDS: u64 = 60;

pub(super) async fn run(settings: &Settings, out: &Out) -> Result<()> {
    let ctx = Context::system().with_phases(phases::observed(settings.phase_socket.as_deref()));
    let storage = storage::open(&settings.storage, &settings.store_url(), &ctx).await?;
    tracing::info!(store_id = %storage.identity.store_id, "the store is open");
    ctx.phases.reach("start/opened").await;
    let flush = FlushConfig {
        every: Duration::from_secs(settings.flush_every.0),
        tail_bytes: settings.flush_size.0,
        table_bytes_min: settings.flush_table_size.0,
        trim_delay: Duration::from_secs(settings.keep_log.0),
        ..FlushConfig::default()
    };
    let incarnation = storage.identity.log_incarnation;
    let node_config = NodeConfig { incarnation, flush, ..NodeConfig::default() };
    let node =
        Node::open(&ctx, storage.store, storage.catalog, storage.log, cache(settings), node_config).await?;

    ctx.phases.reach("start/node").await;
    // A world of its own, so that it can end before the rest does.
    let front = Tasks::new();
    let server = Server::bind(dispatcher(settings)?, node.clone(), ctx.clone()).await.map_err(taken)?;
    // Before anybody is told that it runs: who then stops it must find somebody who listens.
    let signals = Signals::new()?;
    let address = server.local_addr();
    let serving = ctx.tasks.spawn("dispatcher", server.serve(front.shutdown_token()));
    let writer = ctx.tasks.spawn(
        "writer",
        nacre_writer::run(WriterConfig::default(), node.clone(), ctx.clone(), ctx.tasks.shutdown_token()),
    );
    let loader = ctx.tasks.spawn(
        "loader",
        nacre_loader::run(loader_config(settings), node.clone(), ctx.clone(), ctx.tasks.shutdown_token()),
    );

    let welcome = async {
        node.wait_ready().await?;
        welcome::say(address, settings.tls_cert.is_some(), &settings.store_url(), out)
    };
    let why = until_stopped(signals, welcome, writer, loader).await;
    front.shutdown();
    // The dispatcher's own grace ends what does not finish; this only waits for it.
    if let Err(error) = serving.await {
        tracing::error!(%error, "the dispatcher did not stop in order");
    }
    end(&ctx, &node).await;
    why
}

fn dispatcher(settings: &Settings) -> Result<nacre_dispatcher::Config> {
    Ok(nacre_dispatcher::Config {
        listen: settings.address()?,
        auth: settings.auth(),
        anonymous: settings.anonymous,
        tls: settings.tls_files()?,
        access_log: settings.access_log,
        drain_timeout: Duration::from_secs(settings.shutdown_grace.0),
        ..nacre_dispatcher::Config::default()
    })
}

/// Strangers' files are decoded in children, so that one that is made to hurt takes only its child with it.
fn loader_config(settings: &Settings) -> LoaderConfig {
    let decode = match std::env::current_exe() {
        Ok(program) => Decode::Child { program, memory_bytes: CHILD_MEMORY_BYTES, seconds: CHILD_SECONDS },
        Err(error) => {
            tracing::warn!(%error, "this program does not know its own path: files of loads are decoded in this process");
            Decode::InProcess
        }
    };
    let sort_bytes = usize::try_from(settings.load_memory.0).unwrap_or(usize::MAX);
    let usual = LoaderConfig::default();
    // A merge holds three segments: one that is built, one that waits, one that is put.
    let segment_bytes = usual.segment_bytes.min(settings.load_memory.0 / 3).max(1);
    LoaderConfig { decode, sort_bytes, segment_bytes, ..usual }
}

fn cache(settings: &Settings) -> CacheConfig {
    let memory = usize::try_from(settings.cache_memory.0).unwrap_or(usize::MAX);
    let disk = settings.cache_dir.as_ref().zip(settings.cache_disk);
    CacheConfig {
        // An index is about a hundredth of its segment; what does not fit is read from the store again.
        memory_bytes: memory - memory / 4,
        index_bytes: memory / 4,
        disk: disk.map(|(dir, size)| DiskConfig { dir: dir.clone(), bytes: size.0 }),
    }
}

/// An address that cannot be had is no mistake of the command line, so it is a failure.
fn taken(error: Error) -> Error {
    let hint = format!("{}; --listen 127.0.0.1:0 takes a free port", error.detail());
    Error::unavailable(hint).with_code("listen-failed")
}

/// The two signals that stop a server: a supervisor's and a person's.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let handler = |kind| {
            signal(kind).map_err(|error| Error::internal(format!("signals cannot be handled: {error}")))
        };
        Ok(Self {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for a signal, or for a role that ends by itself, which is a failure.
async fn until_stopped(
    mut signals: Signals,
    welcome: impl Future<Output = Result<()>>,
    writer: TaskHandle<Result<()>>,
    loader: TaskHandle<Result<()>>,
) -> Result<()> {
    tokio::select! {
        said = welcome => said?,
        () = signals.next() => { stopping(signals); return Ok(()) }
    }
    let (role, ended) = tokio::select! {
        () = signals.next() => { stopping(signals); return Ok(()) }
        ended = writer => ("writer", ended),
        ended = loader => ("loader", ended),
    };
    let why = match ended {
        Ok(Ok(())) => Error::internal("it ended without being asked"),
        Ok(Err(error)) | Err(error) => error,
    };
    tracing::error!(role, error = %why, "a role ended; the server stops");
    Err(why.context(format!("the {role}")))
}

/// Says that the end has begun, and lets a second signal end the process at once.
fn stopping(mut signals: Signals) {
    tracing::info!("stopping; a second signal ends the process at once");
    // Not one of the world's tasks: it is never waited for.
    #[expect(clippy::disallowed_methods, reason = "it must outlive the wait for every other task")]
    tokio::spawn(async move {
        signals.next().await;
        note("ended by a second signal; nothing that was acknowledged is lost");
        std::process::exit(130);
    });
}

/// Ends the background roles and keeps the cache.
async fn end(ctx: &Context, node: &Arc<Node>) {
    ctx.tasks.shutdown();
    let left = ctx.tasks.join_all(BACKGROUND_GRACE).await;
    if !left.is_empty() {
        // Dropped at an await: as good as a crash there, which everything is made for.
        tracing::warn!(tasks = ?left, "some tasks did not end in time and are left");
    }
    if let Err(error) = node.close().await {
        tracing::warn!(%error, "the cache's disk was not kept; the next start is colder");
    }
}
