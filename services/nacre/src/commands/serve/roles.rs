//! The roles of one process, wired together; and their end, in order.
//!
//! ```text
//! start   store, catalog, log      probed: a store that breaks its promises is not served from
//!         inner server             bound, where the process answers others: its address goes into the first heartbeat
//!         node                     reads the log from where the last flush left it; in a fleet, what placement gives it
//!         dispatcher               binds, answers health alone until the node has caught up, then says where it is
//!         writer, maintainer, loader   as the roles say: tasks of the node's world
//! stop    fleet                    says that it leaves, and answers until others hold what it held
//!         dispatcher, inner server take nothing more, let requests under way finish: what is acknowledged is in the log
//!         the others               leave at their next safe point; what they had begun is begun again at the next start
//!         node                     keeps what the cache's disk should keep
//! ```
//!
//! Nothing needs the orderly end: after a kill the same things are found in the log and the catalog. It is there so that
//! clients see an answer instead of a broken connection.

use super::fleet::{self, Roles};
use super::{Settings, welcome};
use crate::output::{Out, note};
use crate::{phases, storage};
use nacre_cache::{CacheConfig, DiskConfig};
use nacre_cache_node::{CacheNode, CacheNodeConfig};
use nacre_dispatcher::{Reads, Server};
use nacre_engine::{FlushConfig, Hold, Node, NodeConfig};
use nacre_fleet::{Fleet, Member, Peers, Role};
use nacre_loader::{Decode, LoaderConfig};
use nacre_runtime::{Context, TaskHandle, Tasks};
use nacre_types::{Error, Result};
use nacre_writer::{Assigned, WriterConfig};
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
    let (store_url, catalog_url) = (settings.store_url(), settings.storage.catalog_url());
    let presence = fleet::presence(&store_url, catalog_url);
    let (inner, member) = match &settings.role {
        Roles::Alone => (None, None),
        Roles::Some(roles) => inner(settings, roles, ctx.clock.now_micros()).await?,
    };
    let node_config = NodeConfig {
        incarnation,
        tail_bytes_max: settings.tail_max.0,
        flush,
        garbage: settings.garbage()?,
        read_copies: settings.read_copies,
        presence,
        poll_every: fleet::poll_every(&store_url, catalog_url),
        hold: if member.is_some() { Hold::Chosen } else { Hold::All },
        info: member.as_ref().map(Member::encode).unwrap_or_default(),
        ..NodeConfig::default()
    };
    let node =
        Node::open(&ctx, storage.store, storage.catalog, storage.log, cache(settings), node_config).await?;

    #[cfg(feature = "kafka")]
    node.set_topics(crate::sources::KafkaTopics::new(&settings.storage, &ctx));
    ctx.phases.reach("start/node").await;
    // Before anybody is told that it runs: who then stops it must find somebody who listens.
    let signals = Signals::new()?;
    let holding = fleet::holding(&presence, Duration::from_secs(settings.shutdown_grace.0));
    let fleet = match member {
        None => None,
        Some(mut member) => {
            member.node.id = node.process();
            let fleet =
                Fleet::open(node.clone(), peers(settings, &ctx)?, settings.fleet.config(), Some(member));
            fleet.warm_loads();
            Some(fleet)
        }
    };
    // A world of its own, so that it can end before the rest does.
    let front = Tasks::new();
    let mut running = Running::default();
    if let (Some(inner), Some(fleet)) = (inner, &fleet) {
        let serving = inner.serve(node.clone(), ctx.clone(), front.shutdown_token());
        running.fronts.push(ctx.tasks.spawn("fleet", serving));
        let keeping = fleet.clone().keep_held(holding.clone(), ctx.tasks.shutdown_token());
        ctx.tasks.spawn("holding", keeping);
    } else if let Some(fleet) = &fleet {
        ctx.tasks.spawn("holding", fleet.clone().keep_held(holding.clone(), ctx.tasks.shutdown_token()));
    }
    let reads = fleet.clone().map_or(Reads::Here, Reads::of_fleet);
    let server =
        Server::bind(dispatcher(settings)?, node.clone(), reads, ctx.clone()).await.map_err(taken)?;
    let address = server.local_addr();
    running.fronts.push(ctx.tasks.spawn("dispatcher", server.serve(front.shutdown_token())));
    running.start(settings, &node, fleet.as_ref(), &ctx);

    let welcome = async {
        match &fleet {
            None => node.wait_ready().await?,
            Some(fleet) => fleet.wait_serving().await,
        }
        welcome::say(address, settings.tls_cert.is_some(), &store_url, out)
    };
    let why = until_stopped(signals, welcome, running.roles).await;
    if let Some(fleet) = &fleet {
        fleet.leave(&holding).await;
    }
    front.shutdown();
    // Their own grace ends what does not finish; this only waits for it.
    for serving in running.fronts {
        if let Err(error) = serving.await {
            tracing::error!(%error, "a server did not stop in order");
        }
    }
    end(&ctx, &node).await;
    why
}

/// The inner server, where the process answers others, and what it says of itself.
async fn inner(
    settings: &Settings,
    roles: &[Role],
    started_micros: i64,
) -> Result<(Option<CacheNode>, Option<Member>)> {
    let inner = if roles.contains(&Role::Cache) {
        let listen = settings.fleet.listen(settings.anonymous)?;
        let tls = settings.fleet.tls().map(|(server, _)| server);
        let config = CacheNodeConfig { tls, ..CacheNodeConfig::new(listen) };
        Some(CacheNode::bind(config).await.map_err(taken)?)
    } else {
        None
    };
    let cache_bytes = settings.cache_memory.0.saturating_add(settings.cache_disk.map_or(0, |size| size.0));
    let member =
        settings.fleet.member(roles, inner.as_ref().map(CacheNode::local_addr), cache_bytes, started_micros);
    Ok((inner, Some(member)))
}

/// How the other processes are asked.
fn peers(settings: &Settings, ctx: &Context) -> Result<Peers> {
    let Some((_, files)) = settings.fleet.tls() else { return Ok(Peers::new(None)) };
    let client = Arc::new(nacre_tls::Client::open(files)?);
    let (kept, shutdown) = (client.clone(), ctx.tasks.shutdown_token());
    ctx.tasks.spawn("fleet-certificates", async move {
        tokio::select! {
            () = shutdown.requested() => {}
            () = kept.keep_fresh() => {}
        }
    });
    Ok(Peers::new(Some(client)))
}

/// The tasks of a process.
#[derive(Default)]
struct Running {
    /// Those that answer others: they end first.
    fronts: Vec<TaskHandle<()>>,
    /// Those that work by themselves, by name.
    roles: Vec<(&'static str, TaskHandle<Result<()>>)>,
}

impl Running {
    fn start(&mut self, settings: &Settings, node: &Arc<Node>, fleet: Option<&Arc<Fleet>>, ctx: &Context) {
        let stop = || ctx.tasks.shutdown_token();
        let mut role = |name, task| self.roles.push((name, task));
        let config = WriterConfig::default();
        if settings.role.play(Role::Writer) {
            let assigned = fleet.map(|fleet| {
                let (fleet, own) = (fleet.clone(), node.process());
                Arc::new(move |partition| fleet.members().is_writer_of(own, partition)) as Assigned
            });
            let work = nacre_writer::run(config.clone(), node.clone(), assigned.clone(), ctx.clone(), stop());
            role("writer", ctx.tasks.spawn("writer", work));
            let work = nacre_writer::sources(config.clone(), node.clone(), assigned, ctx.clone(), stop());
            role("sources", ctx.tasks.spawn("sources", work));
        }
        if settings.role.play(Role::Maintainer) {
            let every_table = fleet.is_some();
            let work = nacre_writer::tidy(config, node.clone(), every_table, ctx.clone(), stop());
            role("maintainer", ctx.tasks.spawn("maintainer", work));
        }
        if settings.role.play(Role::Loader) {
            let work = nacre_loader::run(loader_config(settings), node.clone(), ctx.clone(), stop());
            role("loader", ctx.tasks.spawn("loader", work));
        }
    }
}

fn dispatcher(settings: &Settings) -> Result<nacre_dispatcher::Config> {
    Ok(nacre_dispatcher::Config {
        listen: settings.address()?,
        auth: settings.auth(),
        anonymous: settings.anonymous,
        answers_rows: settings.role.play(Role::Dispatcher),
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
    // Short runs are as many of a small unit as long ones are of a large one.
    let unit_bytes = usual.unit_bytes.min(settings.load_memory.0 / 3).max(1);
    LoaderConfig { decode, sort_bytes, segment_bytes, unit_bytes, ..usual }
}

fn cache(settings: &Settings) -> CacheConfig {
    let memory = usize::try_from(settings.cache_memory.0).unwrap_or(usize::MAX);
    let disk = settings.cache_dir.as_ref().zip(settings.cache_disk);
    CacheConfig {
        // An index is about a hundredth of its segment; what does not fit is read from the store again. Half of the memory
        // for single rows: hot keys lie anywhere, at most times.
        memory_bytes: memory / 4,
        row_bytes: memory / 2,
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
    roles: Vec<(&'static str, TaskHandle<Result<()>>)>,
) -> Result<()> {
    tokio::select! {
        said = welcome => said?,
        () = signals.next() => { stopping(signals); return Ok(()) }
    }
    let (names, tasks): (Vec<_>, Vec<_>) = roles.into_iter().unzip();
    let first = async {
        if tasks.is_empty() {
            std::future::pending::<()>().await;
        }
        futures::future::select_all(tasks).await
    };
    let (ended, at, _) = tokio::select! {
        () = signals.next() => { stopping(signals); return Ok(()) }
        first = first => first,
    };
    let role = names.get(at).copied().unwrap_or_default();
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
