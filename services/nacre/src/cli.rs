//! The command line: what may be said. Each command's own words stand in its file in [`crate::commands`].

use crate::commands::{
    check, completions, config, delete, doctor, explain, format, get, later, load, loads, log, namespace,
    put, scan, serve, table, token, topic, versions,
};
use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A key-value store over object storage.
#[derive(Debug, Parser)]
#[command(
    name = "nacre",
    version,
    max_term_width = 100,
    after_help = "TABLE is namespace/table, or a table of the namespace \"default\".\n\
                  Each setting has one name: --listen, NACRE_LISTEN, and listen in nacre.toml; flags win over \
                  variables, variables over the file.\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 unknown outcome."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The server that is asked.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "NACRE_SERVER",
        default_value = "http://127.0.0.1:8790"
    )]
    #[arg(help_heading = "Everywhere")]
    pub(crate) server: String,

    /// The access token that is sent.
    #[arg(long, global = true, value_name = "TOKEN", env = "NACRE_TOKEN", hide_env_values = true)]
    #[arg(help_heading = "Everywhere")]
    pub(crate) token: Option<String>,

    /// A file that holds the access token, so that it stands in no list of processes.
    #[arg(long, global = true, value_name = "FILE", env = "NACRE_TOKEN_FILE")]
    #[arg(help_heading = "Everywhere")]
    pub(crate) token_file: Option<PathBuf>,

    /// Certificates, in PEM, that an https server may be signed by, instead of those that this machine trusts.
    #[arg(long, global = true, value_name = "FILE", env = "NACRE_CA_FILE")]
    #[arg(help_heading = "Everywhere")]
    pub(crate) ca_file: Option<PathBuf>,

    /// How results are printed.
    #[arg(long, global = true, value_name = "FORMAT", env = "NACRE_OUTPUT", default_value = "table")]
    #[arg(help_heading = "Everywhere")]
    pub(crate) output: Format,

    /// The settings' file; without it nacre.toml of the current folder, if there is one.
    #[arg(long, global = true, value_name = "FILE", env = "NACRE_CONFIG", help_heading = "Everywhere")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the store
    Serve(Box<serve::Arguments>),
    /// Namespaces: tables, tokens and quotas of one tenant
    #[command(subcommand)]
    Namespace(namespace::Command),
    /// Tables and their settings
    #[command(subcommand)]
    Table(table::Command),
    /// Print the value of a key
    Get(get::Arguments),
    /// Write the value of a key
    Put(put::Arguments),
    /// Delete a key
    Delete(delete::Arguments),
    /// List the visible versions of a key, newest first
    Versions(versions::Arguments),
    /// Show every row of a key, where it lies, and why it is or is not the answer
    Explain(explain::Arguments),
    /// List rows in key order
    Scan(scan::Arguments),
    /// Load Parquet files into a table, as a whole or not at all
    Load(load::Arguments),
    /// The bulk loads of a table
    #[command(subcommand)]
    Loads(loads::Command),
    /// Would these Parquet files be adopted as they lie? Needs no server
    Check(check::Arguments),
    /// The settings in force, and where each comes from
    #[command(subcommand)]
    Config(config::Command),
    /// The log of a store
    #[command(subcommand)]
    Log(log::Command),
    /// Which formats the store's processes may write, and when older programs can no longer read it
    #[command(subcommand)]
    Format(format::Command),
    /// Look for what is wrong with the settings, the store and the server
    Doctor(doctor::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Access tokens: who may do what
    #[command(subcommand)]
    Token(Box<token::Command>),
    /// Named, pinned states of a table (comes later)
    Snapshot(later::Arguments),
    /// The Parquet files of a table (comes later)
    Files(later::Arguments),
    /// The log's topic on Kafka
    #[command(subcommand)]
    Topic(topic::Command),
}
