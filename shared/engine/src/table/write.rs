//! Writing: rows become records of the log, one per partition; they are acknowledged when they are durable and in the
//! tail of this process.
//!
//! A row is judged alone: one that is invalid fails by itself. Rows of different keys have no atomicity between them,
//! so the records of one write, where there are several, may have different outcomes. Nothing is ever retried here: an
//! outcome that is not known is said.

use nacre_log::{AppendOutcome, Attempts, EncodedRecord, Op, RecordBuilder};
use nacre_types::{Error, Generation, Offset, PartitionId, Result, WriteId, limits};
use smallvec::SmallVec;

use super::Table;
use crate::{RowOutcome, SessionToken, WriteOptions, WriteRow, Written};

/// Added to the time of the first attempt when looking for it in the log: clocks of processes differ.
const CLOCK_MARGIN_MICROS: i64 = 60 * 1_000_000;

/// The id that a caller gave, and what is written: a repeat of both is the same write. A caller who gives one id to two
/// different writes has two writes, and not one that is answered as done and is nowhere.
fn of_rows(id: WriteId, rows: &[WriteRow]) -> WriteId {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&id.0.to_le_bytes());
    let number = |present: bool, number: i64| {
        let mut bytes = [u8::from(present); 9];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for row in rows {
        let value = row.value.as_deref();
        hash.update(&number(true, row.key.len() as i64));
        hash.update(&row.key);
        hash.update(&number(row.version.is_some(), row.version.unwrap_or(0)));
        hash.update(&number(row.expires_at.is_some(), row.expires_at.unwrap_or(0)));
        hash.update(&number(value.is_some(), value.map_or(0, |value| value.len() as i64)));
        hash.update(value.unwrap_or_default());
    }
    WriteId(hash.digest128())
}

/// The rows of a write that go to one partition.
struct Part {
    partition: PartitionId,
    generation: Generation,
    /// Which rows of the write.
    rows: Vec<usize>,
}

impl Table {
    /// Writes rows. Each has its own outcome; of one key twice the later wins.
    ///
    /// # Errors
    /// `NotFound` for a dropped table; `Invalid` where the batch as a whole is too large. Everything else is said per
    /// row.
    pub async fn write(&self, rows: Vec<WriteRow>, options: &WriteOptions) -> Result<Written> {
        self.check_not_dropped()?;
        if self.view.load().manifest.source().is_some() {
            return Err(Error::conflict(
                "the table's rows come from its source, and rows written beside it would be lost among them; write to the \
                 topic, load, or remove the source (PATCH {\"source\": null})",
            )
            .with_code("table-has-source"));
        }
        if rows.len() > limits::BATCH_WRITE_ROWS {
            return Err(Error::invalid(format!(
                "the batch has {} rows; the limit batch_write_rows is {}",
                rows.len(),
                limits::BATCH_WRITE_ROWS
            ))
            .with_code("batch-too-large"));
        }
        let mut outcomes = self.judge(&rows);
        let parts = self.split(&rows, &outcomes);
        let mut token = self.token();
        let named = options.write_id.map(|id| of_rows(id, &rows));
        // Side by side: each waits for the log alone, and what is under way at once goes out together.
        let appends = parts.iter().map(async |part| match self.encode(part, &rows, named) {
            Ok(record) => self.append(part.partition, record, options).await,
            Err(error) => AppendOutcome::NotAppended(error),
        });
        let appended = futures::future::join_all(appends).await;
        for (part, outcome) in parts.into_iter().zip(appended) {
            match outcome {
                AppendOutcome::Appended(appended) => {
                    self.shared.metrics.rows_written.inc_by(part.rows.len() as u64);
                    for at in part.rows {
                        let version = rows[at].version.or(appended.version);
                        outcomes[at] = RowOutcome::Ok { version };
                    }
                    reach(&mut token, part.partition, appended.offset.next());
                }
                AppendOutcome::NotAppended(error) => fail(&mut outcomes, &part.rows, &error),
                AppendOutcome::Unknown => {
                    let error = Error::unknown(
                        "the log did not answer in time; the rows may be written or may yet be. Rows with a version \
                         may be sent again, others only with the same Idempotency-Key",
                    )
                    .with_code("write-unknown");
                    fail(&mut outcomes, &part.rows, &error);
                }
            }
        }
        Ok(Written { outcomes, token })
    }

    /// What this process has seen of the table.
    pub fn token(&self) -> SessionToken {
        let view = self.view.load();
        SessionToken {
            table: self.id,
            edition: view.manifest.edition(),
            incarnation: self.shared.config.incarnation,
            positions: Vec::new(),
        }
    }

    /// A token that a later read with it sees everything that this process has in its tails now.
    pub fn read_token(&self) -> SessionToken {
        let mut token = self.token();
        for (partition, _) in self.view.load().manifest.partitions() {
            if let Ok(tailer) = self.shared.tails.get(partition)
                && let Some(position) = *tailer.applied.borrow()
            {
                token.positions.push((partition, position.offset));
            }
        }
        token
    }

    /// Judges versions and values where they enter. Rows that pass are marked `Ok` until they are
    /// appended.
    fn judge(&self, rows: &[WriteRow]) -> Vec<RowOutcome> {
        let view = self.view.load();
        let log_time = self.shared.ctx.clock.now_micros();
        let lateness = view.settings.max_lateness_seconds.map(|seconds| {
            log_time.saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
        });
        let late_below = lateness.unwrap_or(i64::MIN).max(view.manifest.late_below());
        let judge = |row: &WriteRow| -> Result<()> {
            if let Some(value) = row.value.as_ref().filter(|value| value.len() > limits::VALUE_BYTES) {
                return Err(Error::invalid(format!(
                    "the value has {} bytes; the limit value_bytes is {}",
                    value.len(),
                    limits::VALUE_BYTES
                ))
                .with_code("value-too-long"));
            }
            let Some(version) = row.version else { return Ok(()) };
            if version < late_below {
                return Err(Error::invalid(format!(
                    "version {version} is older than the table's max_lateness allows; the oldest is {late_below}"
                ))
                .with_code("version-late"));
            }
            view.settings.check_version(version, log_time)
        };
        rows.iter()
            .map(|row| judge(row).map_or_else(RowOutcome::Failed, |()| RowOutcome::Ok { version: None }))
            .collect()
    }

    fn split(&self, rows: &[WriteRow], outcomes: &[RowOutcome]) -> SmallVec<[Part; 1]> {
        let view = self.view.load();
        let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
        for (at, row) in rows.iter().enumerate() {
            if matches!(outcomes[at], RowOutcome::Failed(_)) {
                continue;
            }
            let Some(shard) = view.manifest.shard_of(&row.key) else { continue };
            let (partition, generation) = (shard.partition, shard.generation);
            match parts.iter_mut().find(|part| part.partition == partition && part.generation == generation) {
                Some(part) => part.rows.push(at),
                None => {
                    let mut held = Vec::with_capacity(if parts.is_empty() { rows.len() } else { 16 });
                    held.push(at);
                    parts.push(Part { partition, generation, rows: held });
                }
            }
        }
        parts
    }

    fn encode(&self, part: &Part, rows: &[WriteRow], named: Option<WriteId>) -> Result<EncodedRecord> {
        let write_id = named.unwrap_or_else(|| WriteId(self.shared.ctx.ids.random_u128()));
        let bytes = part
            .rows
            .iter()
            .map(|&at| rows[at].key.len() + rows[at].value.as_ref().map_or(0, |v| v.len()) + 24);
        let mut builder = RecordBuilder::with_capacity(self.id, part.generation, write_id, bytes.sum());
        for &at in &part.rows {
            let row = &rows[at];
            let (op, value) = match &row.value {
                Some(value) => (Op::Put, &value[..]),
                None => (Op::Delete, &[][..]),
            };
            builder.push(op, &row.key, value, row.version, row.expires_at)?;
        }
        Ok(builder.finish())
    }

    async fn append(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        options: &WriteOptions,
    ) -> AppendOutcome {
        // In a fleet the tail is in other processes.
        let tailer = self.shared.tails.get(partition).ok();
        let pending = self.shared.waiting_bytes(partition);
        if pending > self.shared.config.tail_bytes_max {
            self.shared.metrics.rows_overloaded.inc();
            return AppendOutcome::NotAppended(
                Error::overloaded(format!(
                    "{pending} bytes of the log wait to be flushed; the bound tail_bytes is {}",
                    self.shared.config.tail_bytes_max
                ))
                .with_code("tail-full")
                .with_retry_after_ms(1_000),
            );
        }
        let began = self.shared.ctx.clock.monotonic();
        let record_bytes = record.len() as u64;
        let outcome = match options.first_attempt_micros {
            None => self.shared.log.append(partition, record, options.deadline).await,
            Some(first) => {
                let attempts = Attempts {
                    first: first.saturating_sub(CLOCK_MARGIN_MICROS),
                    over: self.shared.ctx.clock.now_micros(),
                };
                self.shared.log.repeat(partition, record, attempts, options.deadline).await
            }
        };
        if let AppendOutcome::Appended(appended) = &outcome {
            let Some(tailer) = &tailer else {
                self.shared.backlog.appended(partition, appended.offset.next(), record_bytes);
                return outcome;
            };
            // Durable; what is left is that the next read of this process sees it.
            let left =
                options.deadline.saturating_sub(self.shared.ctx.clock.monotonic().saturating_sub(began));
            let seen = tailer.wait_for(appended.offset.next());
            if !matches!(tokio::time::timeout(left, seen).await, Ok(Ok(()))) {
                return AppendOutcome::Unknown;
            }
        }
        outcome
    }
}

fn reach(token: &mut SessionToken, partition: PartitionId, offset: Offset) {
    match token.positions.binary_search_by_key(&partition, |held| held.0) {
        Ok(at) => token.positions[at].1 = token.positions[at].1.max(offset),
        Err(at) => token.positions.insert(at, (partition, offset)),
    }
}

fn fail(outcomes: &mut [RowOutcome], rows: &[usize], error: &Error) {
    for &at in rows {
        outcomes[at] = RowOutcome::Failed(error.clone());
    }
}
