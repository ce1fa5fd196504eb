//! Warming across processes: a node that joins asks the others what is hot, and whoever is about to show a load has all
//! nodes read what is hot in it.
//!
//! Both are worth some seconds and no more. A node that does not answer is left out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use nacre_engine::{HotKeys, Node, Table, Warmer};
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{Error, Key, LoadId, PartitionId, ProcessId, Result, TableId};

use crate::peers::{HOT_PATH, WARM_PATH};
use crate::{Fleet, Member, Role};

const VERSION: u8 = 1;
const CODE: &str = "fleet-frame";
/// Most bytes of an answer: some hundred thousand keys.
const HOT_BYTES: usize = 64 << 20;
/// How long a peer may take to say what is hot.
const PEER: Duration = Duration::from_secs(5);
/// A partition is one number.
const MOST_PARTITIONS: u32 = 1 << 20;

/// What a node is asked to warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WarmRequest {
    table: TableId,
    load: LoadId,
    limit: Duration,
}

impl WarmRequest {
    fn encode(&self) -> Bytes {
        let micros = u64::try_from(self.limit.as_micros()).unwrap_or(u64::MAX);
        FrameWriter::new(VERSION, 64).u128(self.table.0).u128(self.load.0).u64(micros).finish()
    }

    fn decode(bytes: Bytes) -> Result<Self> {
        let mut frame = FrameReader::open(bytes, VERSION, "a request to warm", CODE)?;
        let (table, load) = (TableId(frame.u128()?), LoadId(frame.u128()?));
        let limit = Duration::from_micros(frame.u64()?.min(600_000_000));
        frame.finish()?;
        Ok(Self { table, load, limit })
    }
}

fn encode_partitions(partitions: &[PartitionId]) -> Bytes {
    let frame = FrameWriter::new(VERSION, partitions.len() * 4 + 16).u32(partitions.len() as u32);
    partitions.iter().fold(frame, |frame, partition| frame.u32(partition.0)).finish()
}

fn decode_partitions(bytes: Bytes) -> Result<Vec<PartitionId>> {
    let mut frame = FrameReader::open(bytes, VERSION, "a question what is hot", CODE)?;
    let count = frame.u32()?;
    if count > MOST_PARTITIONS {
        return Err(frame.corrupt("more partitions than there may be"));
    }
    let partitions: Result<Vec<_>> = (0..count).map(|_| Ok(PartitionId(frame.u32()?))).collect();
    let partitions = partitions?;
    frame.finish()?;
    Ok(partitions)
}

fn encode_hot(hot: &[HotKeys]) -> Bytes {
    let room: usize = hot.iter().flat_map(|hot| &hot.keys).map(|key| key.len() + 4).sum();
    let frame = FrameWriter::new(VERSION, room + hot.len() * 24 + 16).u32(hot.len() as u32);
    let of_table = |frame: FrameWriter, hot: &HotKeys| {
        let frame = frame.u128(hot.table.0).u32(hot.keys.len() as u32);
        hot.keys.iter().fold(frame, |frame, key| frame.bytes(key))
    };
    hot.iter().fold(frame, of_table).finish()
}

fn decode_hot(bytes: Bytes) -> Result<Vec<HotKeys>> {
    let mut frame = FrameReader::open(bytes, VERSION, "a list of what is hot", CODE)?;
    let count = frame.u32()?;
    let mut hot = Vec::new();
    // Each number is followed by as much as it says, or the frame ends and so does this.
    for _ in 0..count {
        let (table, count) = (TableId(frame.u128()?), frame.u32()?);
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(Key::new(frame.bytes()?)?);
        }
        hot.push(HotKeys { table, keys });
    }
    frame.finish()?;
    Ok(hot)
}

/// Answers which keys of some partitions are hot here.
///
/// # Errors
/// `Corrupt` (`fleet-frame`) for a frame that is none.
pub async fn answer_hot(node: &Arc<Node>, frame: Bytes) -> Result<Bytes> {
    let partitions = decode_partitions(frame)?;
    let hot = node.hot_keys(partitions).await?;
    let mut answer = encode_hot(&hot);
    let mut hot = hot;
    while answer.len() > HOT_BYTES {
        // The hottest come first.
        hot.iter_mut().for_each(|hot| hot.keys.truncate(hot.keys.len() / 2));
        answer = encode_hot(&hot);
    }
    Ok(answer)
}

/// Warms a load here; answers how many keys of it were read.
///
/// # Errors
/// `Corrupt` (`fleet-frame`) for a frame that is none; `NotFound`; `Unavailable`.
pub async fn answer_warm(node: &Arc<Node>, frame: Bytes) -> Result<Bytes> {
    let WarmRequest { table, load, limit } = WarmRequest::decode(frame)?;
    let Some(table) = node.table_of(table).await? else {
        return Err(Error::not_found("there is no such table on this store").with_code("table-not-found"));
    };
    let warmed = table.warm_load(load, limit).await?;
    Ok(FrameWriter::new(VERSION, 16).u64(warmed as u64).finish())
}

impl Fleet {
    /// Loads that this process shows are warmed by all cache nodes first.
    pub fn warm_loads(self: &Arc<Self>) {
        let fleet = Arc::downgrade(self);
        let warmer: Warmer = Arc::new(move |table, load, limit| {
            let fleet = fleet.upgrade();
            Box::pin(async move {
                if let Some(fleet) = fleet {
                    fleet.warm_load(&table, load, limit).await;
                }
            })
        });
        self.node.warm_loads_by(warmer);
    }

    async fn warm_load(&self, table: &Arc<Table>, load: LoadId, limit: Duration) {
        let request = WarmRequest { table: table.id(), load, limit }.encode();
        let members = self.members();
        let caches = members.all().iter().filter(|member| member.plays(Role::Cache));
        let each = caches.map(|member| async {
            let warmed = if member.id() == self.node.process() {
                table.warm_load(load, limit).await.map(drop)
            } else {
                // Their own limit ends first.
                let deadline = limit.saturating_add(PEER);
                self.peers
                    .post(&member.address, WARM_PATH, request.clone(), 1 << 10, deadline)
                    .await
                    .map(drop)
            };
            if let Err(error) = warmed {
                tracing::debug!(node = %member.id(), %load, %error, "a node did not warm a load");
            }
        });
        join_all(each).await;
    }

    /// Reads here what others say is hot in partitions that this process is about to answer for. Answers how many keys.
    pub(crate) async fn warm_up(&self, partitions: &[PartitionId], limit: Duration) -> usize {
        let began = self.node.context().clock.monotonic();
        let mut of_peer: Vec<(Arc<Member>, Vec<PartitionId>)> = Vec::new();
        let members = self.members();
        for partition in partitions {
            let asked = members.caches_of(*partition, self.config().replicas, &self.config().zone);
            let Some(first) = asked.into_iter().find(|member| self.is_other(member.id())) else { continue };
            match of_peer.iter_mut().find(|(member, _)| member.id() == first.id()) {
                Some((_, list)) => list.push(*partition),
                None => of_peer.push((first, vec![*partition])),
            }
        }
        let each = of_peer.iter().map(|(member, partitions)| async {
            let question = encode_partitions(partitions);
            let asked = self.peers.post(&member.address, HOT_PATH, question, HOT_BYTES, PEER.min(limit));
            match asked.await.and_then(decode_hot) {
                Ok(hot) => hot,
                Err(error) => {
                    tracing::debug!(node = %member.id(), %error, "a node did not say what is hot");
                    Vec::new()
                }
            }
        });
        let hot: Vec<HotKeys> = join_all(each).await.into_iter().flatten().collect();
        let spent = self.node.context().clock.monotonic().saturating_sub(began);
        self.node.warm(hot, limit.saturating_sub(spent)).await
    }

    fn is_other(&self, id: ProcessId) -> bool {
        id != self.node.process()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hot() -> Vec<HotKeys> {
        let key = |text: &'static str| Key::new(Bytes::from_static(text.as_bytes())).unwrap();
        vec![
            HotKeys { table: TableId(7), keys: vec![key("a"), key("bc")] },
            HotKeys { table: TableId(8), keys: vec![] },
        ]
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let request =
            WarmRequest { table: TableId(1 << 100), load: LoadId(5), limit: Duration::from_millis(1_500) };
        assert_eq!(WarmRequest::decode(request.encode()).unwrap(), request);
        assert_eq!(decode_hot(encode_hot(&hot())).unwrap(), hot());
        let partitions = [PartitionId(0), PartitionId(4_000_000)];
        assert_eq!(decode_partitions(encode_partitions(&partitions)).unwrap(), partitions);
    }

    #[test]
    fn frames_of_other_processes_keep_their_bytes() {
        let bytes = |frame: Bytes| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let request = WarmRequest { table: TableId(1), load: LoadId(2), limit: Duration::from_micros(3) };
        assert_eq!(bytes(request.encode()), include_str!("../tests/golden/warm-v1.hex").trim());
        assert_eq!(bytes(encode_hot(&hot())), include_str!("../tests/golden/hot-v1.hex").trim());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            prop_assert!(decode_hot(bytes.clone()).is_err());
            prop_assert!(decode_partitions(bytes.clone()).is_err());
            prop_assert!(WarmRequest::decode(bytes).is_err());
        }
    }
}
