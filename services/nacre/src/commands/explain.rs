//! `nacre explain TABLE KEY`

use super::common::{Asker, KeyArguments, ReadArguments};
use crate::output::Grid;
use crate::units;
use clap::Args;
use nacre_api::PlaceBody;
use nacre_types::Result;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: KeyArguments,
    #[command(flatten)]
    read: ReadArguments,
}

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let key = &arguments.key;
    let told = asker.client.explain(&key.table_ref(), key.key(), &arguments.read.options()).await?;
    asker.out.result(&told, |told| {
        let mut grid = Grid::new(&["version", "kind", ">bytes", "place", "visible", "why"]);
        for row in &told.rows {
            grid.row([
                row.version.0.to_string(),
                if row.tombstone { "tombstone" } else { "value" }.to_owned(),
                units::count(row.value_bytes),
                place(&row.place),
                if row.visible { "yes" } else { "no" }.to_owned(),
                row.reason.clone(),
            ]);
        }
        if told.rows.is_empty() {
            return format!(
                "the key has no row at all (edition {}, manifest {})",
                told.edition.0, told.manifest.0
            );
        }
        format!("{}edition {}, manifest {}", grid.text(), told.edition.0, told.manifest.0)
    })
}

fn place(place: &PlaceBody) -> String {
    match place {
        PlaceBody::Tail { partition, offset, index } => format!("tail {partition}/{offset}/{index}"),
        PlaceBody::Segment { segment, block, load } => {
            let load = load.as_ref().map(|load| format!(" of load {}", short(load))).unwrap_or_default();
            format!("segment {}, block {block}{load}", short(segment))
        }
    }
}

/// The first digits of an id: enough to tell a few apart. JSON has them all.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
