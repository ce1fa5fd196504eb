//! What is there against what the model says: after a kill, when no write is under way.

use crate::clients::{HOT, Shared};
use crate::ledger::{Fate, Ledger, Op, Seen, at, millis, shown, value};
use nacre_api::ExplainBody;
use nacre_client::{Client, KeyText, ReadOptions, ScanOptions, VersionsOptions};
use nacre_types::Consistency;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Most writes beside a read that are tried in every combination.
const BESIDE: usize = 8;

fn strong() -> ReadOptions {
    ReadOptions { consistency: Some(Consistency::Strong), ..ReadOptions::default() }
}

impl Shared {
    /// Finds out what became of writes whose answers were lost, and holds everything against the model. Writes and
    /// readers must have ended; loads may be under way.
    pub(crate) async fn verify(&self, client: &Client) {
        self.resolve(client).await;
        let first = self.scan(client).await;
        self.learn_loads(client).await;
        self.compare_scan(client, &first).await;
        let mut keys: Vec<String> = (0..HOT).map(|n| format!("h{n}")).collect();
        {
            let ledger = self.ledger.lock();
            let others: Vec<&String> = ledger.keys.keys().filter(|key| !key.starts_with('h')).collect();
            keys.extend(others.iter().filter(|key| !key.starts_with('c')).map(|key| (**key).clone()));
            if !others.is_empty() {
                keys.extend((0..20).map(|_| others[self.dice(others.len() as u64) as usize].clone()));
            }
        }
        for key in keys {
            self.compare_versions(client, &key).await;
        }
        self.explain_reads(client).await;
        self.ledger.lock().prune();
    }

    /// Every load, as a server tells it that has just answered a strong read.
    pub(crate) async fn learn_loads(&self, client: &Client) {
        for told in client.loads(&self.table).await.unwrap() {
            self.learn(&told, true);
        }
    }

    async fn explain(&self, client: &Client, key: &str) -> ExplainBody {
        client.explain(&self.table, KeyText::Text(key.as_bytes()), &strong()).await.unwrap()
    }

    /// A lost write happened if a read saw it, or if the key has a row like it that is no other's. What is left of one
    /// that happened may be nothing at all: then it is hidden for ever, as good as one that did not happen.
    async fn resolve(&self, client: &Client) {
        let keys: Vec<String> = {
            let ledger = self.ledger.lock();
            let is_lost = |op: &Op| matches!(op.fate, Fate::Unknown | Fate::Open);
            ledger
                .keys
                .iter()
                .filter(|(_, ops)| ops.iter().any(is_lost))
                .map(|(key, _)| key.clone())
                .collect()
        };
        for key in keys {
            let explained = self.explain(client, &key).await;
            let mut ledger = self.ledger.lock();
            let was_seen: BTreeMap<String, i64> = ledger
                .seen
                .iter()
                .filter(|seen| seen.key == key)
                .filter_map(|seen| seen.found.clone())
                .map(|(version, value)| (value, version))
                .collect();
            let ops = ledger.keys.get_mut(&key).unwrap();
            let mut taken: Vec<(i64, Option<usize>)> = ops
                .iter()
                .filter(|op| op.fate == Fate::Done)
                .filter_map(|op| Some((op.version?, op.length)))
                .collect();
            for op in ops.iter_mut().filter(|op| matches!(op.fate, Fate::Unknown | Fate::Open)) {
                let seen =
                    op.length.and_then(|length| Some((*was_seen.get(&value(op.id, length))?, op.length)));
                let row = seen.or_else(|| {
                    explained.rows.iter().find_map(|row| {
                        let is_loads =
                            matches!(&row.place, nacre_api::PlaceBody::Segment { load: Some(_), .. });
                        let length = (!row.tombstone).then_some(row.value_bytes as usize);
                        // A flush may bury an expired row: then it is a tombstone of the same version.
                        let is_like = length == op.length || (op.expired && row.tombstone);
                        let fits =
                            !is_loads && is_like && op.version.is_none_or(|version| version == row.version.0);
                        (fits && !taken.contains(&(row.version.0, length))).then_some((row.version.0, length))
                    })
                });
                op.ended = Some(Instant::now());
                match row {
                    Some((version, length)) => {
                        taken.push((version, length));
                        op.version = Some(version);
                        op.fate = Fate::Done;
                    }
                    None => op.fate = Fate::Gone,
                }
            }
        }
    }

    /// The whole table, at one edition.
    async fn scan(&self, client: &Client) -> (u64, BTreeMap<String, (i64, String)>) {
        let mut rows = BTreeMap::new();
        let mut edition = None;
        let mut which = ScanOptions { page_size: Some(500), ..ScanOptions::default() };
        loop {
            let page = client.scan(&self.table, &which, &strong()).await.unwrap();
            let told = page.edition.0 as u64;
            assert_eq!(*edition.get_or_insert(told), told, "the pages of a scan have different editions");
            for row in page.rows {
                let key = String::from_utf8(row.key.as_ref().unwrap().to_bytes().unwrap()).unwrap();
                let value = String::from_utf8(row.value_bytes().unwrap().to_vec()).unwrap();
                if rows.insert(key.clone(), (row.version.0, value)).is_some() {
                    self.complain(format!("{key} is twice in a scan"));
                }
            }
            match page.next_page_token {
                Some(token) => which.page_token = Some(token),
                None => return (edition.unwrap(), rows),
            }
        }
    }

    async fn compare_scan(&self, client: &Client, (edition, rows): &(u64, BTreeMap<String, (i64, String)>)) {
        let mut wrong = Vec::new();
        {
            let ledger = self.ledger.lock();
            if *edition < ledger.edition && ledger.loads.iter().all(|load| load.is_over) {
                wrong.push((String::new(), format!("edition {edition}, {} was told of", ledger.edition)));
            }
            let mut keys: BTreeSet<&String> = ledger.keys.keys().chain(rows.keys()).collect();
            keys.extend(ledger.loads.iter().flat_map(|load| load.rows.keys()));
            for key in keys {
                let expected = ledger.versions(key, *edition).into_iter().next();
                let found = rows.get(key);
                if expected.as_ref() != found {
                    wrong.push((
                        key.clone(),
                        format!("a scan at edition {edition} has {found:?}, the model {expected:?}"),
                    ));
                }
            }
        }
        self.complain_of(client, wrong).await;
    }

    async fn compare_versions(&self, client: &Client, key: &str) {
        let text = KeyText::Text(key.as_bytes());
        let which = VersionsOptions::default();
        let page = client.versions(&self.table, text, &which, &strong()).await.unwrap();
        let edition = page.edition.0 as u64;
        if edition > self.ledger.lock().edition {
            self.learn_loads(client).await;
        }
        let found: Vec<(i64, String)> = page
            .rows
            .iter()
            .map(|row| (row.version.0, String::from_utf8(row.value_bytes().unwrap().to_vec()).unwrap()))
            .collect();
        let mut expected = self.ledger.lock().versions(key, edition);
        expected.truncate(found.len().max(100));
        if expected != found {
            let what = format!("versions at edition {edition} are {found:?}, the model's {expected:?}");
            self.complain_of(client, vec![(key.to_owned(), what)]).await;
        }
    }

    /// Holds every read that was answered since the last time against what was acknowledged before it and what was
    /// under way beside it.
    async fn explain_reads(&self, client: &Client) {
        let mut wrong = Vec::new();
        {
            let ledger = self.ledger.lock();
            for seen in &ledger.seen {
                if let Some(what) = judge(&ledger, seen) {
                    wrong.push((seen.key.clone(), what));
                }
            }
        }
        self.complain_of(client, wrong).await;
    }

    /// Complaints, the first few with all that is known of the key.
    async fn complain_of(&self, client: &Client, wrong: Vec<(String, String)>) {
        let count = wrong.len();
        for (at, (key, what)) in wrong.into_iter().enumerate() {
            if at == 3 {
                return self.complain(format!("... and {} more like it", count - at));
            }
            let mut text = format!("{key}: {what}");
            if !key.is_empty() {
                let ledger = self.ledger.lock();
                for op in ledger.keys.get(&key).into_iter().flatten() {
                    text += &format!("\n  {op}");
                }
                for load in ledger.loads.iter().filter(|load| load.shown != crate::ledger::Shown::Not) {
                    let (number, mode, version, shown) = (load.number, load.mode, load.version, load.shown);
                    text += &format!(
                        "\n  load {number} {mode:?} at {version} {shown:?}: {:?}",
                        load.rows.get(&key)
                    );
                }
            }
            if !key.is_empty() {
                let explained = self.explain(client, &key).await;
                text += &format!(
                    "\n  explained at edition {}, edit {}",
                    explained.edition.0, explained.manifest.0
                );
                for row in explained.rows {
                    text += &format!("\n  {row:?}");
                }
            }
            self.complain(text);
        }
    }
}

/// Why a read cannot be explained; `None` = it can.
fn judge(ledger: &Ledger, seen: &Seen) -> Option<String> {
    let Seen { key, begun, ended, edition, least_edition, found, how } = seen;
    if edition < least_edition {
        return Some(format!("a {how} read saw edition {edition}, {least_edition} was told of before it"));
    }
    let ops = ledger.keys.get(key).map_or(&[][..], Vec::as_slice);
    let is_before = |op: &Op| op.fate == Fate::Done && op.ended.is_some_and(|end| end <= *begun);
    let is_beside =
        |op: &Op| matches!(op.fate, Fate::Done | Fate::Gone) && !is_before(op) && op.begun < *ended;
    let beside: Vec<u64> = ops.iter().filter(|op| is_beside(op)).map(|op| op.id).collect();
    if beside.len() > BESIDE {
        return None;
    }
    // What a write got whose answer was lost and of which nothing is left: more than what was there.
    let next = ops
        .iter()
        .filter(|op| is_before(op))
        .filter_map(|op| op.version)
        .max()
        .map_or(0, |version| version + 1);
    for mask in 0..1_u32 << beside.len() {
        let counts = |op: &Op| {
            let is_in = beside.iter().position(|id| *id == op.id).is_some_and(|n| mask >> n & 1 == 1);
            (is_before(op) || is_in).then(|| op.version.unwrap_or(next))
        };
        let model = ledger.model(key, counts);
        if shown(model.get(key.as_bytes(), &at(*edition))).first() == found.as_ref() {
            return None;
        }
    }
    Some(format!(
        "a {how} read at edition {edition} from {} to {} found {found:?}, with {} writes beside it",
        millis(*begun),
        millis(*ended),
        beside.len()
    ))
}
