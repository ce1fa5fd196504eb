//! What a node answers to the others.

use std::sync::Arc;

use bytes::Bytes;
use nacre_engine::{Node, Receipt};
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{Error, PartitionId, Result};

use crate::wire::{Read, ReadAnswer, ReadRequest, Rows, encode_outcome};

/// Answers the frame of a read; what is wrong is in the answer.
pub async fn answer_read(node: &Arc<Node>, frame: Bytes) -> Bytes {
    let outcome = match ReadRequest::decode(frame) {
        Ok(request) => Box::pin(read(node, request)).await,
        Err(error) => Err(error),
    };
    encode_outcome(&outcome)
}

/// Reads here what is asked for.
pub(crate) async fn read(node: &Arc<Node>, request: ReadRequest) -> Result<ReadAnswer> {
    let table = match node.table_of(request.table).await? {
        Some(table) => table,
        None => {
            return Err(Error::not_found("there is no such table on this store").with_code("table-not-found"));
        }
    };
    let options = &request.options;
    if let Some(edition) = options.edition {
        // Another node has reached it, or had.
        table.reach_edition(edition).await?;
    }
    let (rows, receipt) = match &request.read {
        Read::Get(keys) => match keys.as_slice() {
            [key] => {
                let (lookup, receipt) = table.get(key, options).await?;
                (Rows::Lookups(vec![lookup]), receipt)
            }
            keys => {
                let (lookups, receipt) = table.batch_get(keys, options).await?;
                (Rows::Lookups(lookups), receipt)
            }
        },
        Read::Versions { key, since, until, limit } => {
            let (found, receipt) = table.versions(key, *since, *until, *limit, options).await?;
            (Rows::Versions(found), receipt)
        }
        Read::Scan(scan) => {
            let (page, receipt) = table.scan(scan, options).await?;
            (Rows::Page(page), receipt)
        }
        Read::Explain(key) => {
            let explanation = table.explain(key, options).await?;
            let receipt = Receipt { edition: explanation.edition, ..Receipt::default() };
            (Rows::Explanation(explanation), receipt)
        }
    };
    Ok(ReadAnswer { rows, receipt, manifest: table.manifest().seq(), token: table.read_token() })
}

const HELD: u8 = 1;

/// The frame that says which partitions are held, and whether each may be answered from.
pub fn answer_held(node: &Node) -> Bytes {
    let held = node.held();
    let frame = FrameWriter::new(HELD, held.len() * 8 + 16).u32(held.len() as u32);
    let one = |frame: FrameWriter, (partition, answers): &(PartitionId, bool)| {
        frame.u32(partition.0).u32(u32::from(*answers))
    };
    held.iter().fold(frame, one).finish()
}

/// Reads that frame.
///
/// # Errors
/// `Corrupt` (`fleet-frame`).
pub fn read_held(bytes: Bytes) -> Result<Vec<(PartitionId, bool)>> {
    let mut frame = FrameReader::open(bytes, HELD, "the list of what a node holds", "fleet-frame")?;
    let count = frame.u32()?;
    let held: Result<Vec<_>> =
        (0..count).map(|_| Ok((PartitionId(frame.u32()?), frame.u32()? == 1))).collect();
    let held = held?;
    frame.finish()?;
    Ok(held)
}
