//! `nacre namespace create|list|describe|update|drop`

use super::common::{Asker, consistency, consistency_name};
use super::later;
use crate::output::{Grid, note, pairs};
use clap::Subcommand;
use nacre_api::{NamespaceBody, NamespaceDescription};
use nacre_types::{Consistency, NamespaceName, Result};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a namespace; one that is there already and equal is no error
    Create {
        /// Its name
        #[arg(value_parser = name)]
        namespace: NamespaceName,
        /// Consistency of reads of its tables that say none: eventual, session or strong
        #[arg(long, value_name = "CONSISTENCY", value_parser = consistency)]
        consistency: Option<Consistency>,
    },
    /// List the namespaces
    List,
    /// Show a namespace
    Describe {
        /// Its name
        #[arg(value_parser = name)]
        namespace: NamespaceName,
    },
    /// Change a namespace (comes later)
    Update(later::Arguments),
    /// Drop a namespace (comes later)
    Drop(later::Arguments),
}

/// A namespace's name, or what would be one.
pub(crate) fn name(text: &str) -> Result<NamespaceName, String> {
    NamespaceName::new(text).map_err(|error| error.detail().to_owned())
}

pub(crate) async fn run(command: &Command, asker: &Asker) -> Result<()> {
    match command {
        Command::Create { namespace, consistency } => {
            let body = NamespaceBody { consistency: *consistency, ..NamespaceBody::default() };
            let made = asker.client.create_namespace(namespace, &body).await?;
            note(&format!(
                "{namespace} {}",
                if made.new { "was made" } else { "was there already, and equal" }
            ));
            asker.out.result(&made.thing, describe)
        }
        Command::List => {
            let all = asker.client.namespaces().await?;
            asker.out.result(&all, |all| {
                let mut grid = Grid::new(&["namespace"]);
                for one in all {
                    grid.row([one.name.clone()]);
                }
                grid.text()
            })
        }
        Command::Describe { namespace } => {
            asker.out.result(&asker.client.namespace(namespace).await?, describe)
        }
        Command::Update(_) => later::refuse("namespace update", "it comes with quotas"),
        Command::Drop(_) => {
            later::refuse("namespace drop", "it comes with quotas; drop its tables one by one")
        }
    }
}

fn describe(described: &NamespaceDescription) -> String {
    let mut lines = vec![
        ("namespace", described.name.clone()),
        ("consistency", described.consistency.map_or("-", consistency_name).to_owned()),
    ];
    for (quota, limit) in &described.quotas {
        lines.push(("quota", format!("{quota} {limit}")));
    }
    pairs(&lines)
}
