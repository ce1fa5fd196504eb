//! The consumer of one partition of a table's source.

use std::sync::Arc;
use std::time::Duration;

use nacre_manifest::Change;
use nacre_source::{Declaration, Decoder, Message, OnError};
use nacre_types::{Error, ErrorKind, Offset, PartitionId, Result, Seq};

use super::apply::{Applying, Placed};
use super::status::{PartitionState, Teller};
use super::{Arrived, SourceConfig, SourcePart, Topics};
use crate::Table;
use crate::node::Node;

/// Messages that wait to be applied, at most, however small they are.
const MESSAGES: u64 = 100_000;
/// What a row takes beside its key and value.
const ROW_BYTES: usize = 96;
/// The longest wait for messages: then it looks whether it is still to go on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why a consumer ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// It was asked to.
    Asked,
    /// The source is not there any more, or declared anew: look again.
    Changed,
}

impl Node {
    /// Consumes one partition of a table's source until `goes_on` says no, the declaration changes, or something is wrong.
    ///
    /// # Errors
    /// `Conflict`: another process was faster, or a setting changed; look again. `Unavailable`, `Unknown`: likewise, later.
    /// `Invalid`, `Corrupt` (`source-stopped`): it cannot go on; [`PartitionState::stopped`] says why.
    pub async fn follow_source(
        self: &Arc<Self>,
        part: SourcePart,
        goes_on: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Followed> {
        let Some(table) = self.table_by_id(part.table).await? else { return Ok(Followed::Changed) };
        table.refresh().await?;
        let Some(mut consumer) = Consumer::new(self, table, part)? else { return Ok(Followed::Changed) };
        let ended = consumer.run(goes_on).await;
        if let Err(error) = &ended {
            let is_stop = error.code() == "source-stopped";
            consumer.note(|state| {
                if is_stop {
                    state.stopped = Some(error.detail().to_owned());
                }
            });
            if is_stop {
                tracing::error!(table = %part.table, partition = part.partition, %error, "a source stopped");
            }
            consumer.tell().await;
        }
        ended
    }

    /// Forgets what this process knew of a partition that it does not consume any more.
    pub fn forget_source(&self, part: SourcePart) {
        self.shared.sources.remove(part);
    }
}

fn stopped(why: impl std::fmt::Display) -> Error {
    Error::corrupt(why.to_string()).with_code("source-stopped")
}

/// What was read and not applied.
#[derive(Default)]
struct Waiting {
    rows: Vec<Placed>,
    bytes: usize,
    messages: u64,
    /// When the first of it was read.
    since: Option<Duration>,
    oldest_micros: Option<i64>,
}

struct Consumer {
    node: Arc<Node>,
    table: Arc<Table>,
    part: SourcePart,
    topics: Arc<dyn Topics>,
    config: SourceConfig,
    decoder: Decoder,
    declared: Seq,
    topic: u128,
    partition: PartitionId,
    /// Everything below is applied.
    from: Offset,
    /// Everything below was read.
    to: Offset,
    waiting: Waiting,
    /// Nothing more came since there was nothing more; and where the partition ended when that was looked at next.
    at_end: bool,
    at_end_of: Option<u64>,
    /// A message that is no rows, once everything before it is applied.
    fault: Option<Error>,
    teller: Teller,
}

impl Consumer {
    fn new(node: &Arc<Node>, table: Arc<Table>, part: SourcePart) -> Result<Option<Self>> {
        let manifest = table.manifest();
        let Some(source) = manifest.source().filter(|_| manifest.dropped().is_none()) else {
            return Ok(None);
        };
        let at = usize::try_from(part.partition).unwrap_or(usize::MAX);
        let Some(partition) = source.partitions.get(at).copied() else { return Ok(None) };
        let declaration = declaration(&source.declaration)?;
        let decoder = Decoder::new(&declaration, manifest.settings()).map_err(stopped)?;
        let from = manifest.covered(partition);
        Ok(Some(Self {
            topics: node.topics()?.clone(),
            config: node.shared.config.source.clone(),
            decoder,
            declared: source.declared,
            topic: source.topic,
            partition,
            from,
            to: from,
            waiting: Waiting::default(),
            at_end: false,
            at_end_of: None,
            fault: None,
            teller: Teller::new(node.shared.catalog.clone(), part),
            node: node.clone(),
            table,
            part,
        }))
    }

    fn note(&self, change: impl FnOnce(&mut PartitionState)) {
        let now = self.node.shared.ctx.clock.now_micros();
        self.node.shared.sources.update(self.part, |state| {
            state.at_micros = now;
            change(state);
        });
    }

    async fn tell(&mut self) {
        if self.node.is_alone() {
            return;
        }
        if let Some(state) = self.node.shared.sources.get(self.part) {
            self.teller.tell(self.monotonic(), &state).await;
        }
    }

    fn monotonic(&self) -> Duration {
        self.node.shared.ctx.clock.monotonic()
    }

    async fn run(&mut self, goes_on: &(dyn Fn() -> bool + Send + Sync)) -> Result<Followed> {
        self.check_topic().await?;
        self.note(|state| state.stopped = None);
        let kafka = self.decoder.declaration().kafka.clone();
        let mut reader = self.topics.read(&kafka, self.part.partition, self.from.0).await?;
        let mut checked = self.monotonic();
        loop {
            if !goes_on() {
                return Ok(Followed::Asked);
            }
            let manifest = self.table.manifest();
            let is_same = manifest.source().is_some_and(|source| source.declared == self.declared);
            if !is_same || manifest.dropped().is_some() {
                return Ok(Followed::Changed);
            }
            match tokio::time::timeout(self.wait(), reader.next()).await {
                Err(_) => {}
                Ok(Ok(Arrived::Messages(messages))) => self.take(&messages)?,
                Ok(Ok(Arrived::AtEnd)) => {
                    self.at_end = true;
                    self.note_lag();
                }
                Ok(Ok(Arrived::OutOfRange)) => {
                    self.apply().await?;
                    self.check_topic().await?;
                    // It was there a moment ago, and may have been a broker that was behind.
                    return Err(Error::unavailable(format!("offset {} is not in the topic", self.to)));
                }
                Ok(Err(error)) => return Err(error),
            }
            if self.is_due() {
                self.apply().await?;
            }
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if self.monotonic().saturating_sub(checked) >= self.config.check_every {
                self.check_topic().await?;
                checked = self.monotonic();
                self.tell().await;
            }
        }
    }

    /// How long messages are waited for.
    fn wait(&self) -> Duration {
        let left = self
            .waiting
            .since
            .map_or(LOOK_EVERY, |since| (since + self.config.every).saturating_sub(self.monotonic()));
        left.min(LOOK_EVERY)
    }

    fn is_due(&self) -> bool {
        let waiting = &self.waiting;
        waiting.bytes >= self.config.bytes
            || waiting.messages >= MESSAGES
            || (self.fault.is_some() && self.to > self.from)
            || waiting.since.is_some_and(|since| self.monotonic().saturating_sub(since) >= self.config.every)
    }

    /// Is the topic the one that was declared, and is what comes next still there?
    async fn check_topic(&mut self) -> Result<()> {
        let kafka = self.decoder.declaration().kafka.clone();
        let topic = match self.topics.topic(&kafka).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(stopped(format!("topic {} is not there any more", kafka.topic)));
            }
            other => other?,
        };
        if topic.id != self.topic {
            return Err(stopped(format!(
                "topic {} was deleted and made again: what its offsets mean is not what was applied. Declare the source \
                 anew with another start, and load what lies between (start a backfill load)",
                kafka.topic
            )));
        }
        let ends = self.topics.ends(&kafka, self.part.partition).await?;
        self.note(|state| state.end = Some(ends.end));
        if self.at_end {
            self.at_end_of.get_or_insert(ends.end);
        }
        let place = format!("partition {} of topic {}", self.part.partition, kafka.topic);
        if self.to.0 < ends.start {
            return Err(stopped(format!(
                "{place} begins at offset {} now, and offset {} was to be applied next: retention took what lies \
                 between. Start a backfill load, and declare the source anew with another start",
                ends.start, self.to
            )));
        }
        if self.from.0 > ends.end {
            return Err(stopped(format!(
                "{place} ends at offset {}, and everything below {} was applied: the topic has lost messages. Declare the \
                 source anew with another start, and start a backfill load",
                ends.end, self.from
            )));
        }
        self.note_lag();
        if self.part.partition == 0 {
            self.grow(topic.partitions).await?;
        }
        Ok(())
    }

    /// A topic that got more partitions: they are read from their beginning.
    async fn grow(&self, partitions: u32) -> Result<()> {
        let declared = self.declared;
        let wanted = usize::try_from(partitions).unwrap_or(usize::MAX);
        let has = self.table.manifest().source().map_or(usize::MAX, |source| source.partitions.len());
        if has >= wanted {
            return Ok(());
        }
        self.table
            .commit(Box::new(move |manifest| {
                let Some(source) = manifest.source().filter(|source| source.declared == declared) else {
                    return Ok(Vec::new());
                };
                let more = wanted.saturating_sub(source.partitions.len());
                Ok(if more == 0 {
                    Vec::new()
                } else {
                    vec![Change::GrowSource { starts: vec![Offset(0); more] }]
                })
            }))
            .await
            .map(drop)
    }

    fn note_lag(&self) {
        let now = self.node.shared.ctx.clock.now_micros();
        let oldest = self.waiting.oldest_micros;
        let (from, to, at_end, at_end_of) = (self.from, self.to, self.at_end, self.at_end_of);
        self.note(|state| {
            // Offsets that hold no message are left of what transactions and compaction took.
            let is_all = at_end && to == from && (at_end_of.is_none() || state.end <= at_end_of);
            state.lag_rows = if is_all { Some(0) } else { state.end.map(|end| end.saturating_sub(from.0)) };
            state.lag_seconds = match (oldest, state.lag_rows) {
                (_, Some(0)) => Some(0.0),
                (Some(oldest), _) => Some(now.saturating_sub(oldest).max(0) as f64 / 1e6),
                (None, _) => state.lag_seconds,
            };
        });
    }

    /// Decodes messages, up to the first that is a fault and stops.
    fn take(&mut self, messages: &[Message]) -> Result<()> {
        (self.at_end, self.at_end_of) = (false, None);
        let settings = self.table.settings();
        let now = self.node.shared.ctx.clock.now_micros();
        for message in messages {
            if message.offset < self.to.0 {
                continue;
            }
            if message.offset >= 1 << 48 {
                return Err(stopped(format!("offset {} is not below 2^48", message.offset)));
            }
            let rows = self.decoder.decode(message).map_err(|fault| fault.0).and_then(|rows| {
                rows.iter().try_for_each(|row| {
                    settings.check_version(row.version, now).map_err(|e| e.detail().to_owned())
                })?;
                Ok(rows)
            });
            match rows {
                Ok(rows) => {
                    for (index, row) in rows.into_iter().enumerate() {
                        self.waiting.bytes +=
                            row.key.len() + row.value.as_ref().map_or(0, |value| value.len()) + ROW_BYTES;
                        self.waiting.rows.push(Placed { offset: message.offset, index: index as u32, row });
                    }
                }
                Err(why) => {
                    self.note(|state| state.fault(message.offset, why.clone()));
                    if self.decoder.declaration().on_error == OnError::Stop {
                        let declaration = self.decoder.declaration();
                        self.fault = Some(stopped(format!(
                            "offset {} of partition {} of topic {} cannot be applied: {why}. Correct the mapping, or declare \
                             on_error \"skip\" to pass over such messages",
                            message.offset, self.part.partition, declaration.kafka.topic
                        )));
                        break;
                    }
                }
            }
            self.to = Offset(message.offset).next();
            self.waiting.messages += 1;
            self.waiting.since.get_or_insert(self.node.shared.ctx.clock.monotonic());
            if let Some(time) = message.timestamp_micros {
                let oldest = self.waiting.oldest_micros.get_or_insert(time);
                *oldest = (*oldest).min(time);
            }
        }
        self.note_lag();
        Ok(())
    }

    /// Applies what waits.
    async fn apply(&mut self) -> Result<()> {
        if self.to <= self.from {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let count = waiting.rows.len() as u64;
        let applying = Applying {
            partition: self.partition,
            declared: self.declared,
            from: self.from,
            to: self.to,
            rows: waiting.rows,
        };
        self.table.apply_source(applying).await?;
        self.from = self.to;
        self.note(|state| state.rows += count);
        self.note_lag();
        Ok(())
    }
}

/// The declaration that a table log holds.
pub(super) fn declaration(bytes: &[u8]) -> Result<Declaration> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::corrupt(format!("the table log holds a declaration that this program cannot read: {error}"))
            .with_code("newer-format")
    })
}
