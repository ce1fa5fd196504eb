//! Gets, batches, versions and explanations: to the nodes that hold the keys, and one edition for all of them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use nacre_engine::{Explanation, Found, Lookup, Node, ReadOptions, Receipt, SessionToken, Table};
use nacre_types::{Consistency, Error, ErrorKind, Key, PartitionId, ProcessId, Result, Seq};
use smallvec::SmallVec;

use crate::edition::to_agree_on;
use crate::peers::{READ_PATH, UNREACHABLE};
use crate::serve;
use crate::wire::{Read, ReadAnswer, ReadRequest, Rows, decode_outcome, other_kind};
use crate::{Candidates, Fleet, Member, Reading};

/// An answer is at most a page and its keys.
const ANSWER_BYTES: usize = 256 << 20;
/// A node that has not answered for so long is not waited for alone, whatever the budget of second requests.
const NOT_ALONE_AFTER: Duration = Duration::from_millis(400);
/// How often parts of a request are asked again to agree on an edition.
const AGREEMENTS: usize = 4;
/// How often the whole of a read is begun anew where the nodes do not hold what they were asked for.
const ROUNDS: usize = 3;
/// Between two rounds: who takes over needs a moment.
const ROUND_WAIT: Duration = Duration::from_millis(150);

/// An answer of one node.
pub(crate) struct Part {
    pub(crate) answer: ReadAnswer,
    pub(crate) node: ProcessId,
}

impl Fleet {
    /// The first visible row of a key.
    ///
    /// # Errors
    /// Those of [`Table::get`]; `Unavailable` where no node answers.
    pub async fn get(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Reading<Lookup>> {
        let key = Key::new(key.to_vec())?;
        let part = self.of_key(table, &key, Read::Get(vec![key.clone()]), options).await?;
        let Rows::Lookups(lookups) = part.answer.rows else { return Err(other_kind()) };
        let value = lookups.into_iter().next().ok_or_else(other_kind)?;
        Ok(Reading::of(value, part.answer.receipt, part.answer.token, part.node))
    }

    /// The visible versions of a key, newest first.
    ///
    /// # Errors
    /// Those of [`Table::versions`]; `Unavailable` where no node answers.
    pub async fn versions(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        (since, until, limit): (i64, i64, usize),
        options: &ReadOptions,
    ) -> Result<Reading<Vec<Found>>> {
        let key = Key::new(key.to_vec())?;
        let read = Read::Versions { key: key.clone(), since, until, limit };
        let part = self.of_key(table, &key, read, options).await?;
        let Rows::Versions(value) = part.answer.rows else { return Err(other_kind()) };
        Ok(Reading::of(value, part.answer.receipt, part.answer.token, part.node))
    }

    /// Every row of a key, and why it is or is not the answer.
    ///
    /// # Errors
    /// Those of [`Table::explain`]; `Unavailable` where no node answers.
    pub async fn explain(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Reading<Explanation>> {
        let key = Key::new(key.to_vec())?;
        let part = self.of_key(table, &key, Read::Explain(key.clone()), options).await?;
        let Rows::Explanation(value) = part.answer.rows else { return Err(other_kind()) };
        Ok(Reading::of(value, part.answer.receipt, part.answer.token, part.node))
    }

    /// The first visible row of each key, in their order, all of one edition.
    ///
    /// # Errors
    /// Those of [`Table::batch_get`]; `Unavailable` where no node answers for one of the keys.
    pub async fn batch_get(
        &self,
        table: &Arc<Table>,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<Reading<Vec<Lookup>>> {
        let groups = by_partition(table, keys);
        let asked = groups.iter().map(|(partition, places)| {
            let read = Read::Get(places.iter().filter_map(|&at| keys.get(at).cloned()).collect());
            self.of_partition(table, *partition, read, options)
        });
        let mut parts = Vec::with_capacity(groups.len());
        for part in join_all(asked).await {
            parts.push(part?);
        }
        self.agree(table, keys, &groups, &mut parts, options).await?;
        let mut lookups: Vec<Option<Lookup>> = vec![None; keys.len()];
        let mut reading = Reading::none(table);
        for ((_, places), part) in groups.iter().zip(parts) {
            let Rows::Lookups(found) = part.answer.rows else { return Err(other_kind()) };
            if found.len() != places.len() {
                return Err(other_kind());
            }
            for (&at, lookup) in places.iter().zip(found) {
                if let Some(place) = lookups.get_mut(at) {
                    *place = Some(lookup);
                }
            }
            reading.add(&part.answer.receipt, &part.answer.token, part.node)?;
        }
        let found: Option<Vec<Lookup>> = lookups.into_iter().collect();
        Ok(reading.with(found.ok_or_else(other_kind)?))
    }

    /// Asks parts again until all are of one edition.
    async fn agree(
        &self,
        table: &Arc<Table>,
        keys: &[Key],
        groups: &[(PartitionId, Vec<usize>)],
        parts: &mut [Part],
        options: &ReadOptions,
    ) -> Result<()> {
        let consistency = options.consistency.unwrap_or_else(|| table.settings().consistency);
        let mut goal = consistency;
        for _ in 0..AGREEMENTS {
            let editions = parts.iter().map(|part| part.answer.receipt.edition);
            let Some(edition) = to_agree_on(editions.collect::<Vec<_>>().into_iter(), goal) else {
                return Ok(());
            };
            let options = &at_edition(options, edition);
            let mut gone = false;
            for ((partition, places), part) in groups.iter().zip(parts.iter_mut()) {
                if part.answer.receipt.edition == edition {
                    continue;
                }
                let read = Read::Get(places.iter().filter_map(|&at| keys.get(at).cloned()).collect());
                match self.of_partition(table, *partition, read, options).await {
                    Ok(again) => *part = again,
                    Err(error) if error.code() == "edition-gone" => {
                        gone = true;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            if gone {
                // What the slowest node shows is restorable no more: all go forward.
                goal = Consistency::Strong;
            }
        }
        Err(Error::unavailable("the nodes could not agree on an edition of the table; ask again")
            .with_code("editions-differ"))
    }

    async fn of_key(
        &self,
        table: &Arc<Table>,
        key: &[u8],
        read: Read,
        options: &ReadOptions,
    ) -> Result<Part> {
        let mut round = 1;
        loop {
            let partition = partition_of(table, key)?;
            match self.ask(table, partition, &read, options).await {
                Err(error) if is_misplaced(&error) && round < ROUNDS => {
                    self.find_out(table, round).await;
                    round += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// As [`Fleet::of_key`], of keys that this process takes to be in one partition. Where they are not any more, what
    /// this process knows of the table is renewed, and the caller's next request finds them.
    pub(crate) async fn of_partition(
        &self,
        table: &Arc<Table>,
        partition: PartitionId,
        read: Read,
        options: &ReadOptions,
    ) -> Result<Part> {
        let mut round = 1;
        loop {
            match self.ask(table, partition, &read, options).await {
                Err(error) if is_misplaced(&error) && round < ROUNDS => {
                    self.find_out(table, round).await;
                    round += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Nobody held what was asked for: the table's shards, or the fleet, are others than this process knows.
    async fn find_out(&self, table: &Arc<Table>, round: usize) {
        if let Err(error) = table.renew().await {
            tracing::debug!(table = %table.id(), %error, "the table log could not be read");
        }
        tokio::time::sleep(ROUND_WAIT * round as u32).await;
    }

    /// Asks the nodes of a partition, one after the other where one fails, two at once where one is slow.
    async fn ask(
        &self,
        table: &Arc<Table>,
        partition: PartitionId,
        read: &Read,
        options: &ReadOptions,
    ) -> Result<Part> {
        let request = || ReadRequest { table: table.id(), options: options.clone(), read: read.clone() };
        if self.node.answers_for(partition) {
            let answer = serve::read(&self.node, request()).await?;
            return Ok(Part { answer, node: self.node.process() });
        }
        let frame = request().encode();
        let candidates: Candidates = self.candidates(partition)?;
        let mut rest = candidates.iter();
        let Some(first) = rest.next() else { return Err(Error::internal("no candidates")) };
        let ctx = self.node.context();
        let begun = ctx.clock.monotonic();
        let left = || options.deadline.saturating_sub(ctx.clock.monotonic().saturating_sub(begun));
        let mut hedge_after = self.hedger.lock().begin();
        let mut under_way = futures::stream::FuturesUnordered::new();
        under_way.push(self.send(first, frame.clone(), left()));
        let mut newest = first.id();
        let mut last: Option<Error> = None;
        loop {
            let wait = match (hedge_after, rest.len()) {
                (_, 0) => None,
                (Some(wait), _) => Some(wait.min(NOT_ALONE_AFTER)),
                (None, _) => Some(NOT_ALONE_AFTER),
            };
            let answered = {
                use futures::StreamExt as _;
                match wait {
                    None => under_way.next().await,
                    Some(wait) => match tokio::time::timeout(wait, under_way.next()).await {
                        Ok(answered) => answered,
                        Err(_) => {
                            self.health.late(newest, ctx.clock.monotonic());
                            let may = wait >= NOT_ALONE_AFTER || self.hedger.lock().take();
                            hedge_after = None;
                            if may && let Some(next) = rest.next() {
                                newest = next.id();
                                under_way.push(self.send(next, frame.clone(), left()));
                            }
                            continue;
                        }
                    },
                }
            };
            match answered {
                Some((node, Ok(answer))) => {
                    self.health.well(node);
                    self.hedger.lock().observe(ctx.clock.monotonic().saturating_sub(begun));
                    self.hear(table, &answer);
                    return Ok(Part { answer, node });
                }
                Some((node, Err(error))) => {
                    if error.code() == UNREACHABLE {
                        self.health.failed(node, ctx.clock.monotonic());
                    }
                    if !may_ask_another(&error) {
                        return Err(error);
                    }
                    // What a node that was reached says tells more than that another was not.
                    if last.as_ref().is_none_or(|last| last.code() == UNREACHABLE) {
                        last = Some(error);
                    }
                    match rest.next() {
                        Some(next) if !left().is_zero() => {
                            newest = next.id();
                            under_way.push(self.send(next, frame.clone(), left()));
                        }
                        _ if under_way.is_empty() => return Err(last.unwrap_or_else(nobody)),
                        _ => {}
                    }
                }
                None => return Err(last.unwrap_or_else(nobody)),
            }
        }
    }

    async fn send(
        &self,
        member: &Arc<Member>,
        frame: bytes::Bytes,
        deadline: Duration,
    ) -> (ProcessId, Result<ReadAnswer>) {
        let posted = self.peers.post(&member.address, READ_PATH, frame, ANSWER_BYTES, deadline).await;
        (member.id(), posted.and_then(decode_outcome))
    }

    /// A node knows edits that this process does not: its own routes and writes should follow them.
    fn hear(&self, table: &Arc<Table>, answer: &ReadAnswer) {
        Node::hear_of(&self.node, table, answer.manifest);
    }
}

fn nobody() -> Error {
    Error::unavailable("no node answered").with_code(UNREACHABLE)
}

/// The nodes do not hold what they were asked for, or cannot be reached: others may, in a moment.
fn is_misplaced(error: &Error) -> bool {
    matches!(error.code(), "not-held" | "no-cache-node" | UNREACHABLE)
}

/// Whether another replica may answer better.
fn may_ask_another(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Internal)
        && error.code() != "edition-gone"
}

fn partition_of(table: &Table, key: &[u8]) -> Result<PartitionId> {
    let manifest = table.manifest();
    let shard = manifest.shard_of(key).ok_or_else(|| Error::corrupt("the table has no shard for a key"))?;
    Ok(shard.partition)
}

/// The places of keys, by the partitions that hold them.
fn by_partition(table: &Table, keys: &[Key]) -> Vec<(PartitionId, Vec<usize>)> {
    let manifest = table.manifest();
    let mut groups: Vec<(PartitionId, Vec<usize>)> = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let Some(shard) = manifest.shard_of(key) else { continue };
        match groups.iter_mut().find(|(partition, _)| *partition == shard.partition) {
            Some((_, places)) => places.push(at),
            None => groups.push((shard.partition, vec![at])),
        }
    }
    groups
}

pub(crate) fn at_edition(options: &ReadOptions, edition: Seq) -> ReadOptions {
    ReadOptions { edition: Some(edition), ..options.clone() }
}

impl<T> Reading<T> {
    fn of(value: T, receipt: Receipt, token: SessionToken, node: ProcessId) -> Self {
        Self { value, receipt, token, nodes: SmallVec::from_slice(&[node]) }
    }

    pub(crate) fn with<U>(self, value: U) -> Reading<U> {
        Reading { value, receipt: self.receipt, token: self.token, nodes: self.nodes }
    }
}

impl Reading<()> {
    /// Nothing read yet.
    pub(crate) fn none(table: &Table) -> Self {
        Self { value: (), receipt: Receipt::default(), token: table.token(), nodes: SmallVec::new() }
    }

    /// Adds a part of the same answer.
    pub(crate) fn add(&mut self, receipt: &Receipt, token: &SessionToken, node: ProcessId) -> Result<()> {
        self.receipt.add(receipt);
        self.token.join(token)?;
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
        Ok(())
    }
}
