//! Asking the nodes of partitions: all that one node holds in one request, the next node where one fails, two at once where
//! one is slow.
//!
//! A request of many keys touches many partitions and few nodes, so its partitions are gathered by the node that is asked
//! first for them. Where that node fails or is late, each of its partitions goes to the node that is next for *it*: they are
//! gathered anew, one step further down their lists.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use nacre_engine::{Node, ReadOptions, Table};
use nacre_types::{Error, ErrorKind, Key, PartitionId, ProcessId, Result};
use smallvec::{SmallVec, smallvec};

use crate::peers::{READ_PATH, UNREACHABLE};
use crate::wire::{Read, ReadAnswer, ReadRequest, decode_outcome};
use crate::{Fleet, Member, serve};

/// An answer is at most a page and its keys.
const ANSWER_BYTES: usize = 256 << 20;
/// A node that has not answered for so long is not waited for alone, whatever the budget of second requests.
const NOT_ALONE_AFTER: Duration = Duration::from_millis(400);
/// How often the whole of a read is begun anew where the nodes do not hold what they were asked for.
const ROUNDS: usize = 3;
/// Between two rounds: who takes over needs a moment.
const ROUND_WAIT: Duration = Duration::from_millis(150);

/// What is asked for.
pub(crate) struct Asked<'a> {
    pub(crate) table: &'a Arc<Table>,
    pub(crate) options: &'a ReadOptions,
    pub(crate) rows: Sought<'a>,
}

/// Which rows.
pub(crate) enum Sought<'a> {
    /// Those of the keys whose places a group has.
    Keys(&'a [Key]),
    /// Whatever this says, from one partition.
    Whole(Read),
}

/// What is sought in one partition.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) partition: PartitionId,
    /// Where its keys stand in the request.
    pub(crate) places: Vec<usize>,
}

/// Few requests touch more partitions than this.
pub(crate) type Groups = SmallVec<[Group; 1]>;

/// An answer of one node.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) answer: ReadAnswer,
    pub(crate) node: ProcessId,
    /// What it answers: the places of the first group's keys, then of the next's.
    pub(crate) groups: Groups,
}

pub(crate) type Parts = SmallVec<[Part; 1]>;

impl Asked<'_> {
    fn request(&self, groups: &[Group]) -> ReadRequest {
        let read = match &self.rows {
            Sought::Whole(read) => read.clone(),
            Sought::Keys(keys) => {
                let places = groups.iter().flat_map(|group| &group.places);
                Read::Get(places.filter_map(|&at| keys.get(at).cloned()).collect())
            }
        };
        ReadRequest { table: self.table.id(), options: self.options.clone(), read }
    }
}

impl Fleet {
    /// Asks for all groups. Where nobody holds one of them, what this process knows of the table is renewed and all are
    /// asked again; keys that are in other partitions by then are found by the caller's next request.
    ///
    /// # Errors
    /// The node's own; `Unavailable` where no node answers for one of them.
    pub(crate) async fn ask(&self, asked: &Asked<'_>, groups: Groups) -> Result<Parts> {
        let begun = self.node.context().clock.monotonic();
        let mut round = 1;
        loop {
            match self.ask_from(asked, groups.clone(), 0, begun).await {
                Err(error) if is_misplaced(&error) && round < ROUNDS => {
                    self.find_out(asked.table, round).await;
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

    /// Asks the nodes that are `step` places down the groups' lists.
    async fn ask_from(
        &self,
        asked: &Asked<'_>,
        groups: Groups,
        step: usize,
        begun: Duration,
    ) -> Result<Parts> {
        let mut loads = self.by_node(groups, step)?;
        if loads.len() == 1
            && let Some((to, groups)) = loads.pop()
        {
            return self.ask_node(asked, to, groups, step, begun).await;
        }
        let each = loads.into_iter().map(|(to, groups)| self.ask_node(asked, to, groups, step, begun));
        let mut parts = Parts::new();
        for answered in join_all(each).await {
            parts.extend(answered?);
        }
        Ok(parts)
    }

    /// Gathers groups by the node that is asked for them; `None` stands for this process.
    fn by_node(&self, groups: Groups, step: usize) -> Result<SmallVec<[Load; 4]>> {
        let mut loads: SmallVec<[Load; 4]> = SmallVec::new();
        for group in groups {
            let to = if step == 0 && self.node.answers_for(group.partition) {
                None
            } else {
                Some(self.candidates(group.partition)?.get(step).cloned().ok_or_else(nobody)?)
            };
            let id = to.as_ref().map(|member| member.id());
            match loads.iter_mut().find(|(to, _)| to.as_ref().map(|member| member.id()) == id) {
                Some((_, groups)) => groups.push(group),
                None => loads.push((to, smallvec![group])),
            }
        }
        Ok(loads)
    }

    async fn ask_node(
        &self,
        asked: &Asked<'_>,
        to: Option<Arc<Member>>,
        groups: Groups,
        step: usize,
        begun: Duration,
    ) -> Result<Parts> {
        let Some(first) = to else {
            let answer = serve::read(&self.node, asked.request(&groups)).await?;
            return Ok(smallvec![Part { answer, node: self.node.process(), groups }]);
        };
        let clock = &self.node.context().clock;
        let left = || asked.options.deadline.saturating_sub(clock.monotonic().saturating_sub(begun));
        let frame = asked.request(&groups).encode();
        let hedge_after = self.hedger.lock().begin();
        let has_next = |group: &Group| self.candidates(group.partition).is_ok_and(|all| all.len() > step + 1);
        let mut may_hedge = groups.iter().all(has_next);
        let mut wait = hedge_after.unwrap_or(NOT_ALONE_AFTER).min(NOT_ALONE_AFTER);
        let sent = clock.monotonic();
        let mut under_way: FuturesUnordered<BoxFuture<'_, Outcome>> = FuturesUnordered::new();
        let (id, address) = (first.id(), &first.address);
        let posted = self.peers.post(address, READ_PATH, frame, ANSWER_BYTES, left());
        let mut posted = Box::pin(async move { posted.await.and_then(decode_outcome) });
        let mut first_error: Option<Error> = None;
        let mut waiting_for_first = true;
        loop {
            let answered = tokio::select! {
                biased;
                answer = &mut posted, if waiting_for_first => Outcome::First(answer),
                Some(outcome) = under_way.next() => outcome,
                () = tokio::time::sleep(wait), if may_hedge => {
                    self.health.late(id, clock.monotonic());
                    if wait >= NOT_ALONE_AFTER || self.hedger.lock().take() {
                        may_hedge = false;
                        under_way.push(self.next_step(asked, &groups, step, begun));
                    } else {
                        wait = NOT_ALONE_AFTER;
                    }
                    continue;
                }
                else => return Err(first_error.unwrap_or_else(nobody)),
            };
            match answered {
                Outcome::First(Ok(answer)) => {
                    self.health.well(id);
                    self.hedger.lock().observe(clock.monotonic().saturating_sub(sent));
                    // It may know edits that this process does not: its routes and writes should follow them.
                    Node::hear_of(&self.node, asked.table, answer.manifest);
                    return Ok(smallvec![Part { answer, node: id, groups }]);
                }
                Outcome::First(Err(error)) => {
                    waiting_for_first = false;
                    if error.code() == UNREACHABLE {
                        self.health.failed(id, clock.monotonic());
                    }
                    if !may_ask_another(&error) {
                        return Err(error);
                    }
                    keep_error(&mut first_error, error);
                    if may_hedge && !left().is_zero() {
                        may_hedge = false;
                        under_way.push(self.next_step(asked, &groups, step, begun));
                    }
                }
                Outcome::Others(Ok(parts)) => return Ok(parts),
                Outcome::Others(Err(error)) => {
                    if !may_ask_another(&error) {
                        return Err(error);
                    }
                    keep_error(&mut first_error, error);
                }
            }
        }
    }

    fn next_step<'a>(
        &'a self,
        asked: &'a Asked<'_>,
        groups: &Groups,
        step: usize,
        begun: Duration,
    ) -> BoxFuture<'a, Outcome> {
        let groups = groups.clone();
        Box::pin(async move { Outcome::Others(self.ask_from(asked, groups, step + 1, begun).await) })
    }
}

/// What one node is asked for.
type Load = (Option<Arc<Member>>, Groups);

/// Who answered.
enum Outcome {
    /// The node that was asked first.
    First(Result<ReadAnswer>),
    /// Those behind it.
    Others(Result<Parts>),
}

/// What a node that was reached says tells more than that another was not.
fn keep_error(kept: &mut Option<Error>, error: Error) {
    if kept.as_ref().is_none_or(|kept| kept.code() == UNREACHABLE) {
        *kept = Some(error);
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
