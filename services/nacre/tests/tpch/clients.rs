//! One client of the table that is being replaced: it writes rows of its own and reads many at once, and knows what
//! every answer must be before and after the load.
//!
//! An answer is of the first table or of the second; which one, the values say (`o_tag` stands in those of the second),
//! and so does the edition. Within an answer every row must be of the same, the client's own among them:
//!
//! - rows of the loads, which differ in every row, and some are only in one of them;
//! - *kept* rows, written while the load is under way, without a version: newer than the load, they are always there;
//! - *late* rows, written with a version a second older than the load: there until it is committed, gone with it, there
//!   again when it is reverted, even those that were written while it was committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nacre_api::{BatchWriteBody, BatchWriteRow, I64, JsonKey, ReadStatus, WriteStatus};
use nacre_client::{Client, ReadOptions, ScanOptions, TableRef};

/// Which table an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Era {
    First,
    Second,
}

/// A value and its version; `None` = there is no row.
pub(crate) type Held = Option<(String, i64)>;

/// What a key has in each era.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) first: Held,
    pub(crate) second: Held,
}

impl Expected {
    fn of(&self, era: Era) -> &Held {
        match era {
            Era::First => &self.first,
            Era::Second => &self.second,
        }
    }
}

/// Order numbers, and what they must have.
pub(crate) type Known = BTreeMap<i64, Expected>;

/// What tells the clients to stop, and how far each has come.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    stop: AtomicBool,
    turns: [AtomicU64; CLIENTS],
}

pub(crate) const CLIENTS: usize = 4;
/// Rows of each kind in one request.
const SOME: usize = 8;
/// Keys of the loads in one request.
const MANY: usize = 40;

impl Signals {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits until every client has been round so many times more.
    pub(crate) async fn turns(&self, more: u64) {
        let now = || self.turns.iter().map(|turns| turns.load(Ordering::SeqCst));
        let before: Vec<u64> = now().collect();
        while now().zip(&before).any(|(now, before)| now < before + more) {
            assert!(!self.stop.load(Ordering::SeqCst), "a client has stopped");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Stops the others when a client fails, so that the test ends and says why.
struct StopWithMe(Arc<Signals>);

impl Drop for StopWithMe {
    fn drop(&mut self) {
        self.0.stop();
    }
}

pub(crate) struct Own {
    pub(crate) number: usize,
    pub(crate) client: Client,
    pub(crate) table: TableRef,
    /// What nobody writes any more.
    pub(crate) fixed: Arc<Known>,
    /// What this client writes without versions, again and again.
    pub(crate) kept: Known,
    /// What this client writes once, with an older version. Those to come are in `late_to_come`.
    pub(crate) late: Known,
    pub(crate) late_to_come: Vec<(i64, Expected)>,
    /// The version of the load less a second.
    pub(crate) late_version: i64,
    /// The edition and the era of every answer, in the order in which they came.
    pub(crate) seen: Vec<(i64, Era)>,
    pub(crate) written: u64,
}

impl Own {
    /// Writes and reads until it is told to stop.
    pub(crate) async fn run(mut self, signals: Arc<Signals>) -> Self {
        let _stop = StopWithMe(signals.clone());
        while !signals.stop.load(Ordering::SeqCst) {
            self.write().await;
            self.read_many().await;
            self.read_range().await;
            signals.turns[self.number].fetch_add(1, Ordering::SeqCst);
        }
        self
    }

    /// Numbers that look like dice and are the same in every run.
    fn dice(&mut self, sides: usize) -> usize {
        self.written += 1;
        let mixed = (self.written + ((self.number as u64) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) as usize % sides
    }

    async fn write(&mut self) {
        let mut rows = Vec::new();
        for _ in 0..SOME {
            let nth = self.dice(self.kept.len());
            let key = *self.kept.keys().nth(nth).unwrap();
            let value =
                (self.dice(7) > 0).then(|| format!("{{\"kept\":{},\"by\":{}}}", self.written, self.number));
            rows.push((key, value, None));
        }
        let late = self.late_to_come.split_off(self.late_to_come.len().saturating_sub(2));
        for (key, _) in &late {
            let value = format!("{{\"late\":{},\"by\":{}}}", self.written, self.number);
            rows.push((*key, Some(value), Some(self.late_version)));
        }
        let body = rows.iter().map(|(key, value, version)| BatchWriteRow {
            key: JsonKey::Parts(vec![(*key).into()]),
            value: value.clone(),
            value_base64: None,
            value_json: None,
            delete: value.is_none(),
            version: version.map(I64),
            expires_at: None,
        });
        let body = BatchWriteBody { rows: body.collect() };
        let answer = self.client.batch_write(&self.table, &body).await.unwrap();
        for ((key, value, late_version), written) in rows.into_iter().zip(answer.rows) {
            assert_eq!(written.status, WriteStatus::Ok, "{key}: {written:?}");
            let version = written.version.unwrap().0;
            let held = value.map(|value| (value, version));
            if late_version.is_none() {
                // The same key twice in a batch: the later one wins, and it comes later here too.
                self.kept.insert(key, Expected { first: held.clone(), second: held });
            } else {
                let (_, before) = late.iter().find(|(late, _)| *late == key).unwrap();
                self.late.insert(key, Expected { first: held, second: before.second.clone() });
            }
        }
    }

    async fn read_many(&mut self) {
        let mut asked: Vec<(i64, Expected)> = Vec::new();
        for _ in 0..MANY {
            let nth = self.dice(self.fixed.len());
            asked.extend(self.fixed.iter().nth(nth).map(|(key, wanted)| (*key, wanted.clone())));
        }
        for _ in 0..SOME {
            let (kept, late) = (self.dice(self.kept.len()), self.dice(self.late.len()));
            asked.extend(self.kept.iter().nth(kept).map(|(key, wanted)| (*key, wanted.clone())));
            asked.extend(self.late.iter().nth(late).map(|(key, wanted)| (*key, wanted.clone())));
        }
        let keys = asked.iter().map(|(key, _)| JsonKey::Parts(vec![(*key).into()])).collect();
        let answer = self.client.batch_get(&self.table, keys, &ReadOptions::default()).await.unwrap();
        let got: Vec<Held> = answer
            .rows
            .into_iter()
            .map(|row| match row.status {
                ReadStatus::Found => Some((row.value.unwrap(), row.version.unwrap().0)),
                ReadStatus::Absent => None,
                other => panic!("{other:?}"),
            })
            .collect();
        self.judge(&asked, &got, answer.edition.0);
    }

    fn judge(&mut self, asked: &[(i64, Expected)], got: &[Held], edition: i64) {
        match era_of(asked, got) {
            Ok(era) => self.seen.extend(era.map(|era| (edition, era))),
            Err(mixed) => panic!("edition {edition}: {mixed}"),
        }
    }

    /// A page of a scan is of one era too; rows that clients have written say nothing.
    async fn read_range(&mut self) {
        let nth = self.dice(self.fixed.len());
        let start = format!("[{}]", self.fixed.keys().nth(nth).unwrap());
        let which =
            ScanOptions { start: Some(start.into_bytes()), page_size: Some(30), ..ScanOptions::default() };
        let page = self.client.scan(&self.table, &which, &ReadOptions::default()).await.unwrap();
        let mut eras = page.rows.iter().filter_map(|row| match row.value.as_deref().unwrap() {
            value if value.starts_with("{\"o_tag\":\"second\"") => Some(Era::Second),
            value if value.starts_with("{\"o_custkey\"") => Some(Era::First),
            _ => None,
        });
        let Some(era) = eras.next() else { return };
        assert!(eras.all(|other| other == era), "a page of a scan is mixed: {page:?}");
        self.seen.push((page.edition.0, era));
    }
}

/// The era that every row of an answer is of; `None` where they would be the same in both.
///
/// # Errors
/// Rows that contradict each era.
fn era_of(asked: &[(i64, Expected)], got: &[Held]) -> Result<Option<Era>, String> {
    if asked.len() != got.len() {
        return Err(format!("{} rows were asked for and {} came", asked.len(), got.len()));
    }
    let wrong = |era: Era| {
        let rows = asked.iter().zip(got);
        rows.filter(|((_, wanted), got)| wanted.of(era) != *got).collect::<Vec<_>>()
    };
    let (first, second) = (wrong(Era::First), wrong(Era::Second));
    match (&first[..], &second[..]) {
        ([], []) => Ok(None),
        ([], _) => Ok(Some(Era::First)),
        (_, []) => Ok(Some(Era::Second)),
        ([not_first, ..], [not_second, ..]) => Err(format!(
            "of {} rows {} are not as in the first table, such as {not_first:?}, and {} not as in the second, such as \
             {not_second:?}",
            asked.len(),
            first.len(),
            second.len()
        )),
    }
}

#[test]
fn an_answer_that_mixes_two_tables_or_lacks_a_row_is_found_out() {
    let held = |text: &str| Some((text.to_owned(), 1));
    let loaded = Expected { first: held("a"), second: held("b") };
    let gone = Expected { first: held("late"), second: None };
    let kept = Expected { first: held("kept"), second: held("kept") };
    let asked = [(1, loaded), (2, gone), (3, kept)];
    let era = |got: [Held; 3]| era_of(&asked, &got);
    assert_eq!(era([held("a"), held("late"), held("kept")]), Ok(Some(Era::First)));
    assert_eq!(era([held("b"), None, held("kept")]), Ok(Some(Era::Second)));
    assert!(era([held("b"), held("late"), held("kept")]).is_err());
    assert!(era([held("a"), None, held("kept")]).is_err());
    assert!(era([held("b"), None, None]).is_err());
    assert!(era_of(&asked[..2], &[held("a")]).is_err());
    assert_eq!(era_of(&asked[2..], &[held("kept")]), Ok(None));
}
