//! The log against real brokers: `cargo xtask test` installs and starts one, and names it in `NACRE_TEST_KAFKA` as
//! `host:port`. Tests that kill brokers start their own, from the jars that `NACRE_TEST_KAFKA_HOME` names.

mod broken;
mod broker;
mod killed;
mod promises;
mod resumed;
mod world;
