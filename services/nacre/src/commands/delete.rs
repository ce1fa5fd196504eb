//! `nacre delete TABLE KEY`

use super::common::{Asker, KeyArguments, WriteArguments};
use super::put;
use clap::Args;
use nacre_client::WriteOptions;
use nacre_types::Result;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    write: WriteArguments,
}

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let options = WriteOptions {
        version: arguments.write.version,
        expires_at: None,
        idempotency_key: arguments.write.idempotency_key.clone(),
    };
    let key = &arguments.key;
    let answer = asker.client.delete(&key.table_ref(), key.key(), &options).await?;
    put::report(&answer, &asker.out)
}
