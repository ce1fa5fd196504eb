//! `nacre serve`: every role in one process, or some of them in one of a fleet.

mod fleet;
mod listen;
mod roles;
mod welcome;

use self::fleet::{FleetSettings, Roles};
use crate::output::Out;
use crate::storage::StorageSettings;
use crate::telemetry::{self, LogFormat};
use crate::units::{Size, Span};
use clap::Args;
use nacre_engine::GarbageConfig;
use nacre_types::{Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Page tokens live for 15 minutes; twice that.
const LEAST_GRACE_SECONDS: u64 = 30 * 60;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// The settings of a server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// Which roles to play: all in one process, or some of dispatcher,cache,writer,loader,maintainer in a fleet of processes
    #[arg(long, value_name = "ROLES", env = "NACRE_ROLE", default_value = "all")]
    role: Roles,

    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", env = "NACRE_LISTEN", default_value = "127.0.0.1:8790")]
    listen: String,

    #[command(flatten)]
    storage: StorageSettings,

    #[command(flatten)]
    fleet: FleetSettings,

    /// Keep everything in memory, and nothing after the end
    #[arg(long, env = "NACRE_EPHEMERAL", value_parser = clap::builder::BoolishValueParser::new())]
    ephemeral: bool,

    /// Who may do what: tokens, or none, which is everybody everything; without it none, and only on this machine
    #[arg(long, value_name = "WHO", env = "NACRE_AUTH")]
    auth: Option<Auth>,

    /// The certificate to serve https with, and after it those that lead to the root, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "NACRE_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", env = "NACRE_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// Who must have signed the certificates of clients, in PEM; without it clients need none
    #[arg(long, value_name = "FILE", env = "NACRE_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,

    /// Let everybody who reaches the address do everything; wanted for one beyond this machine
    #[arg(long, env = "NACRE_ANONYMOUS", value_parser = clap::builder::BoolishValueParser::new())]
    anonymous: bool,

    /// Memory for rows, blocks and indexes of segments: more keeps more reads from the store
    #[arg(long, value_name = "SIZE", env = "NACRE_CACHE_MEMORY", default_value = "256MiB")]
    cache_memory: Size,

    /// A folder for cached blocks on a local disk; worth it where the store is not one itself
    #[arg(long, value_name = "DIR", env = "NACRE_CACHE_DIR", requires = "cache_disk")]
    cache_dir: Option<PathBuf>,

    /// How much of that disk the cache may take, at least 64MiB
    #[arg(long, value_name = "SIZE", env = "NACRE_CACHE_DISK")]
    cache_disk: Option<Size>,

    /// How many times a GET that a read waits for is sent to the store at once, up to 4; the first answer counts. 2 makes slow
    /// ones rare, and cold reads cost twice as many requests; where the store is busy one is sent
    #[arg(long, value_name = "NUMBER", env = "NACRE_READ_COPIES", default_value = "1")]
    read_copies: u32,

    /// How often the log is made into segments: longer makes fewer and larger ones, and a start reads more log
    #[arg(long, value_name = "SPAN", env = "NACRE_FLUSH_EVERY", default_value = "60s")]
    flush_every: Span,

    /// The log is made into segments earlier when so much of it is waiting, in memory too
    #[arg(long, value_name = "SIZE", env = "NACRE_FLUSH_SIZE", default_value = "256MiB")]
    flush_size: Size,

    /// Writes to a partition are refused while more than this waits to be flushed: more bears longer outages of the catalog
    /// or the store, and every byte of it is held in memory, about twice
    #[arg(long, value_name = "SIZE", env = "NACRE_TAIL_MAX", default_value = "1GiB")]
    tail_max: Size,

    /// A table with less than this waiting is not made into a segment yet: its rows are kept with those of other quiet tables
    #[arg(long, value_name = "SIZE", env = "NACRE_FLUSH_TABLE_SIZE", default_value = "1MiB")]
    flush_table_size: Size,

    /// How long the log is kept after it was made into segments; a store can be restored to a time that lies so far back
    #[arg(long, value_name = "SPAN", env = "NACRE_KEEP_LOG", default_value = "24h")]
    keep_log: Span,

    /// How long nothing must have needed an object before it is deleted: at least 30m, and as long as the log is kept; without
    /// it a day, or as long as the log is kept
    #[arg(long, value_name = "SPAN", env = "NACRE_GARBAGE_GRACE")]
    garbage_grace: Option<Span>,

    /// How often a table is looked at while it has objects to delete, a thousand at a time
    #[arg(long, value_name = "SPAN", env = "NACRE_GARBAGE_EVERY", default_value = "10m")]
    garbage_every: Span,

    /// Only log what would be deleted
    #[arg(long, env = "NACRE_GARBAGE_DRY_RUN", value_parser = clap::builder::BoolishValueParser::new())]
    garbage_dry_run: bool,

    /// Memory for the rows of one load that are being sorted: more means fewer runs to merge
    #[arg(long, value_name = "SIZE", env = "NACRE_LOAD_MEMORY", default_value = "192MiB")]
    load_memory: Size,

    /// How long requests under way may take to end when the server stops
    #[arg(long, value_name = "SPAN", env = "NACRE_SHUTDOWN_GRACE", default_value = "30s")]
    shutdown_grace: Span,

    /// Log every request, its key hashed
    #[arg(long, env = "NACRE_ACCESS_LOG", value_parser = clap::builder::BoolishValueParser::new())]
    access_log: bool,

    /// How logs are written to stderr
    #[arg(long, value_name = "FORMAT", env = "NACRE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, or levels by module, as in info,nacre_log=debug
    #[arg(long, value_name = "LEVELS", env = "NACRE_LOG_LEVEL", default_value = "info")]
    log_level: String,

    /// Tells a test that listens at this Unix socket where the program is, and waits for it there
    #[arg(long, value_name = "PATH", hide = true)]
    phase_socket: Option<PathBuf>,
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Auth {
    Tokens,
    None,
}

impl Settings {
    /// Whether the settings fit one another.
    ///
    /// # Errors
    /// `Invalid` naming the setting.
    pub(crate) fn check(&self) -> Result<()> {
        self.fleet.check(&self.role, self.anonymous)?;
        if self.ephemeral && self.role != Roles::Alone {
            return Err(Error::invalid("ephemeral: memory is shared by no processes; leave role out")
                .with_code("config-invalid"));
        }
        let is_elsewhere =
            self.storage.store.is_some() || self.storage.catalog.is_some() || self.storage.log.is_some();
        if self.ephemeral && is_elsewhere {
            return Err(Error::invalid(
                "ephemeral keeps everything in memory: leave store, catalog and log out",
            )
            .with_code("config-invalid"));
        }
        for (name, size) in [
            ("cache_memory", self.cache_memory),
            ("flush_size", self.flush_size),
            ("tail_max", self.tail_max),
        ] {
            if size.0 < 1 << 20 {
                return Err(Error::invalid(format!("{name}: at least 1MiB")).with_code("config-invalid"));
            }
        }
        if !(1..=4).contains(&self.read_copies) {
            return Err(Error::invalid("read_copies: from 1 to 4").with_code("config-invalid"));
        }
        if self.flush_every.0 == 0 {
            return Err(Error::invalid("flush_every: at least 1s").with_code("config-invalid"));
        }
        self.garbage()?;
        self.storage.check()?;
        telemetry::check(&self.log_level)?;
        if self.auth == Some(Auth::Tokens) && self.anonymous {
            return Err(Error::invalid("auth is tokens, and anonymous lets everybody in: say one of them")
                .with_code("config-invalid"));
        }
        if let Some(files) = self.tls_files()? {
            nacre_tls::Server::open(files)?;
        }
        self.address().map(|_| ())
    }

    /// Where to listen.
    ///
    /// # Errors
    /// `Invalid` (`listen-invalid`, `listen-not-loopback`).
    fn address(&self) -> Result<SocketAddr> {
        listen::address(&self.listen, self.anonymous || self.auth == Some(Auth::Tokens))
    }

    /// Who may do what, as the dispatcher has it.
    fn auth(&self) -> nacre_dispatcher::Auth {
        match self.auth {
            Some(Auth::Tokens) => nacre_dispatcher::Auth::Tokens,
            Some(Auth::None) | None => nacre_dispatcher::Auth::None,
        }
    }

    /// When garbage goes.
    ///
    /// # Errors
    /// `Invalid` (`config-invalid`) where it would go while something may need it.
    fn garbage(&self) -> Result<GarbageConfig> {
        let default = GarbageConfig::default();
        let grace =
            self.garbage_grace.map_or_else(|| default.grace.as_secs().max(self.keep_log.0), |span| span.0);
        let least = self.keep_log.0.max(LEAST_GRACE_SECONDS);
        if grace < least {
            return Err(Error::invalid(format!(
                "garbage_grace is {grace}s: at least {least}s, since keep_log is {}s and a store can be restored so far \
                 back, and readers hold pages for a quarter of an hour",
                self.keep_log.0
            ))
            .with_code("config-invalid"));
        }
        if self.garbage_every.0 == 0 {
            return Err(Error::invalid("garbage_every: at least 1s").with_code("config-invalid"));
        }
        Ok(GarbageConfig {
            grace: Duration::from_secs(grace),
            every: Duration::from_secs(self.garbage_every.0),
            dry_run: self.garbage_dry_run,
            ..default
        })
    }

    /// Where the certificates lie, if https is to be served.
    ///
    /// # Errors
    /// `Invalid` (`config-invalid`) where one of them is missing.
    fn tls_files(&self) -> Result<Option<nacre_tls::ServerFiles>> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Ok(Some(nacre_tls::ServerFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: self.tls_client_ca.clone(),
            })),
            (None, None) if self.tls_client_ca.is_none() => Ok(None),
            _ => Err(Error::invalid("https wants both tls_cert and tls_key").with_code("config-invalid")),
        }
    }

    /// Where everything lies.
    pub(crate) fn storage(&self) -> &StorageSettings {
        &self.storage
    }

    /// What the store is called.
    fn store_url(&self) -> String {
        if self.ephemeral { "memory:".to_owned() } else { self.storage.store_url() }
    }
}

/// How often processes of a store tell each other that they are there.
pub(crate) fn presence(store_url: &str, catalog_url: Option<&str>) -> nacre_engine::PresenceConfig {
    fleet::presence(store_url, catalog_url)
}

pub(crate) fn run(settings: &Settings, out: &Out) -> Result<()> {
    settings.check()?;
    telemetry::begin(settings.log_format, &settings.log_level)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("nacre")
        .build()
        .map_err(|error| Error::internal(format!("no runtime: {error}")))?
        .block_on(roles::run(settings, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn settings(words: &str) -> Settings {
        let cli = Cli::try_parse_from(format!("nacre serve {words}").split_whitespace()).unwrap();
        let Command::Serve(arguments) = cli.command else { panic!("not serve") };
        arguments.settings
    }

    #[test]
    fn settings_must_fit_one_another() {
        assert!(settings("").check().is_ok());
        assert!(settings("--ephemeral --listen 127.0.0.1:0").check().is_ok());
        assert!(settings("--auth tokens --listen 0.0.0.0:1").check().is_ok());
        assert!(settings("--auth none --anonymous --listen 0.0.0.0:1").check().is_ok());
        for (words, code) in [
            ("--ephemeral --role writer", "config-invalid"),
            ("--role cache --fleet-listen 0.0.0.0:1", "listen-not-loopback"),
            ("--listen 0.0.0.0:1", "listen-not-loopback"),
            ("--ephemeral --store file:./x", "config-invalid"),
            ("--cache-memory 1KiB", "config-invalid"),
            ("--flush-every 0s", "config-invalid"),
            ("--garbage-grace 20m --keep-log 1m", "config-invalid"),
            ("--garbage-grace 20h", "config-invalid"),
            ("--garbage-every 0s", "config-invalid"),
            ("--catalog dynamodb://t", "catalog-url"),
            ("--log elsewhere", "log-url"),
            ("--ephemeral --log kafka://b/t", "config-invalid"),
            ("--log-level nacre=loud", "log-level"),
            ("--auth tokens --anonymous", "config-invalid"),
            ("--auth none --listen 0.0.0.0:1", "listen-not-loopback"),
            ("--tls-cert c.pem", "config-invalid"),
            ("--tls-client-ca c.pem", "config-invalid"),
            ("--tls-cert absent.pem --tls-key absent.pem", "tls-files"),
        ] {
            assert_eq!(settings(words).check().unwrap_err().code(), code, "{words}");
        }
        assert_eq!(settings("--ephemeral").store_url(), "memory:");
        for (words, grace) in
            [("", "1d"), ("--keep-log 2d", "2d"), ("--keep-log 1h --garbage-grace 2h", "2h")]
        {
            let span: Span = grace.parse().unwrap();
            assert_eq!(settings(words).garbage().unwrap().grace.as_secs(), span.0, "{words}");
        }
    }
}
