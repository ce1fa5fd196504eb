//! The chores of this repository: `cargo xtask test`, `cargo xtask bench`, `cargo xtask dev`.
//!
//! It is a program of its own so that a developer needs cargo and nothing else: what a test needs besides is
//! installed once, by [`cache`].
#![allow(clippy::print_stdout, reason = "a command line tool answers on stdout")]
#![allow(clippy::disallowed_methods, reason = "a program: it may read the environment and the clock")]

mod acceptance;
mod bench;
mod cache;
mod chaos;
mod checks;
mod cost;
mod dev;
mod process;
mod report;
mod services;
mod test;
mod tour;

use std::process::ExitCode;

/// What a step answers: an error is a sentence for the person who runs it.
type Outcome<T = ()> = Result<T, String>;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--only STEP]... [--list]   every test; installs what they need, once, into a cache folder (NACRE_CACHE)
  with-services -- COMMAND         a command beside the servers that tests ask, with the variables that name them
  acceptance [--tls] [--program FILE] [--only NAME]...   what one machine's store promises, asked of a fleet behind HAProxy
  bench [--peers] | http | write | load | cold | fleet  the benchmarks; with the peers beside them; the program beside its peers
  cost [--count]                   what requests cost by list price; counted anew on the whole stack
  dev [--data DIR] [--program FILE] [--partitions N]   the production stack with real services, until it is stopped
  chaos [--rounds N] [--seed S] [--only FAULT]... [--program FILE] [--keep DIR] [--list]   that stack with faults, and whether it kept its word";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", rest @ ..] => test::command(rest),
        ["with-services", "--", rest @ ..] => test::with_services(rest),
        ["acceptance", rest @ ..] => acceptance::command(rest),
        // A program that tests start in place of nacre's.
        ["stand-in", rest @ ..] => acceptance::stand_in::command(rest),
        ["bench", rest @ ..] => bench::command(rest),
        ["cost", rest @ ..] => cost::command(rest),
        ["dev", rest @ ..] => dev::command(rest),
        ["chaos", rest @ ..] => chaos::command(rest),
        ["help" | "--help" | "-h", ..] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
