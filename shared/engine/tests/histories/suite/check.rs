//! Holds what every process answers against the model.

use bytes::Bytes;
use nacre_engine::{Found, Lookup, ReadOptions, ScanRequest, Table};
use nacre_manifest::LoadState as Stored;
use nacre_model::Read;
use nacre_types::{Consistency, Key, KeyRange, LoadId, Seq};
use std::sync::Arc;

use super::drive::{Driver, Outcome};
use super::ops::{KEYS, MINUTE, Rng, VERSIONS, version};
use super::pairs::Feature;

type Seen = (i64, Vec<u8>, Option<i64>);

fn seen(found: &Found) -> Seen {
    (found.version, found.value.to_vec(), found.expires_at)
}

fn modelled(found: nacre_model::Found) -> Seen {
    (found.version, found.value, found.expires_at)
}

/// One way to look at the table.
struct Look {
    options: ReadOptions,
    read: Read,
    what: String,
}

fn show(row: &Option<Seen>) -> String {
    match row {
        Some((version, value, _)) => format!("{} @ {version}", String::from_utf8_lossy(value)),
        None => "nothing".to_owned(),
    }
}

impl Driver {
    pub async fn check_all(&mut self, rng: &mut Rng) -> Outcome {
        for slot in 0..2 {
            let Some(process) = &mut self.slots[slot] else { continue };
            // An armed process keeps its shot for the next operation: reads do not write.
            let table = process.table.clone();
            let consistency = if process.fresh { Consistency::Eventual } else { Consistency::Strong };
            let base = ReadOptions { consistency: Some(consistency), ..ReadOptions::at(self.world.now()) };
            process.fresh = true;
            self.check_current(&table, base.clone(), rng)
                .await
                .map_err(|why| format!("process {slot}: {why}"))?;
            let base = ReadOptions { consistency: None, ..base };
            self.check_editions(&table, &base, rng).await.map_err(|why| format!("process {slot}: {why}"))?;
            self.check_previews(&table, &base, rng).await.map_err(|why| format!("process {slot}: {why}"))?;
        }
        Ok(())
    }

    async fn check_current(&mut self, table: &Arc<Table>, options: ReadOptions, rng: &mut Rng) -> Outcome {
        let keys: Vec<Key> =
            KEYS.iter().map(|key| Key::new(Bytes::from_static(key)).expect("a key")).collect();
        let read = Read::at(options.now_micros);
        let (found, receipt) =
            table.batch_get(&keys, &options).await.map_err(|e| format!("batch_get: {e:?}"))?;
        let newest = self.editions.iter().map(|(seq, _)| *seq).max().unwrap_or(Seq(1));
        if receipt.edition != newest && !(self.editions.len() == 1 && receipt.edition <= newest) {
            return Err(format!("answered at edition {}, the table stands at {newest}", receipt.edition));
        }
        for (key, found) in KEYS.iter().zip(found) {
            let expected = self.model.get(key, &read).map(modelled);
            same("batch_get", key, &lookup(&found), &expected)?;
            if matches!(found, Lookup::Absent(nacre_engine::Absence::Expired)) {
                self.met.add(Feature::Expired);
            }
        }
        let look =
            Look { options: ReadOptions { consistency: None, ..options }, read, what: "now".to_owned() };
        self.look(table, &look, rng).await
    }

    /// At an edition that has been: what a page token asks for.
    async fn check_editions(&mut self, table: &Arc<Table>, base: &ReadOptions, rng: &mut Rng) -> Outcome {
        if self.editions.len() < 2 || !rng.chance(60) {
            return Ok(());
        }
        let mut editions = self.editions.clone();
        editions.sort();
        let at = rng.below(editions.len() as u64) as usize;
        let edition = editions[at].0;
        // A token of it may have been given until the next one came.
        let ended = editions.get(at + 1).map_or(i64::MAX, |next| next.1);
        let must = self.world.now().saturating_sub(ended) < 14 * MINUTE;
        let options = ReadOptions { edition: Some(edition), ..base.clone() };
        match table.get(KEYS[0], &options).await {
            Err(error) if error.code() == "edition-gone" && !must => return Ok(()),
            Err(error) => return Err(format!("get at edition {edition}: {error:?}")),
            Ok((_, receipt)) if receipt.edition != edition => {
                return Err(format!("asked for edition {edition}, answered at {}", receipt.edition));
            }
            Ok(_) => {}
        }
        if at + 1 < editions.len() {
            self.met.add(Feature::OldEdition);
            let back = |load: &super::drive::Known| {
                matches!(self.model.load_state(load.number), Some(nacre_model::LoadState::Reverted(from, until))
                    if from <= edition.0 && edition.0 < until)
            };
            if self.loads.iter().any(back) {
                self.met.add(Feature::RevertedPutBack);
            }
        }
        let read = Read { edition: Some(edition.0), ..Read::at(base.now_micros) };
        let look = Look { options, read, what: format!("at edition {edition}") };
        self.look(table, &look, rng).await
    }

    async fn check_previews(&mut self, table: &Arc<Table>, base: &ReadOptions, rng: &mut Rng) -> Outcome {
        let prepared: Vec<(LoadId, u64)> = self
            .loads
            .iter()
            .filter(|load| load.state == Stored::Prepared)
            .map(|load| (load.id, load.number))
            .collect();
        if prepared.is_empty() || !rng.chance(60) {
            return Ok(());
        }
        self.met.add(Feature::Preview);
        let (id, number) = rng.pick(&prepared);
        let options = ReadOptions { preview: Some(id), ..base.clone() };
        let read = Read { preview: Some(number), ..Read::at(base.now_micros) };
        let look = Look { options, read, what: format!("with load {id} as if committed") };
        self.look(table, &look, rng).await
    }

    async fn look(&mut self, table: &Arc<Table>, look: &Look, rng: &mut Rng) -> Outcome {
        self.look_inside(table, look, rng).await.map_err(|why| format!("{}: {why}", look.what))
    }

    async fn look_inside(&mut self, table: &Arc<Table>, look: &Look, rng: &mut Rng) -> Outcome {
        let as_of = match rng.below(3) {
            0 => self.world.now() - rng.below(3) as i64,
            _ => version(rng.below(u64::from(VERSIONS)) as u8) - i64::from(rng.chance(20)),
        };
        for key in KEYS {
            for as_of in [i64::MAX, as_of] {
                let options = ReadOptions { as_of, ..look.options.clone() };
                let (found, _) = table.get(key, &options).await.map_err(|e| format!("get: {e:?}"))?;
                let expected = self.model.get(key, &Read { as_of, ..look.read }).map(modelled);
                same(&format!("get as_of {as_of}"), key, &lookup(&found), &expected)?;
            }
            let all = self.model.versions(key, i64::MIN, i64::MAX, usize::MAX, &look.read);
            let (since, until) = match rng.below(3) {
                0 => (i64::MIN, i64::MAX),
                _ => {
                    let since = version(rng.below(u64::from(VERSIONS)) as u8);
                    (since, since + rng.below(5) as i64 * super::ops::STEP)
                }
            };
            let limit = rng.pick(&[1, 2, 99]);
            let (rows, _) = table
                .versions(key, since, until, limit, &look.options)
                .await
                .map_err(|e| format!("versions: {e:?}"))?;
            let rows: Vec<Seen> = rows.iter().map(seen).collect();
            let expected: Vec<Seen> =
                self.model.versions(key, since, until, limit, &look.read).into_iter().map(modelled).collect();
            if rows != expected {
                return Err(format!(
                    "versions of {} from {since} to {until}: {rows:?}, expected {expected:?}",
                    key.escape_ascii()
                ));
            }
            let explained = table.explain(key, &look.options).await.map_err(|e| format!("explain: {e:?}"))?;
            let visible: Vec<(i64, u64, Option<i64>)> = explained
                .rows
                .iter()
                .filter(|row| row.visible)
                .map(|row| (row.version, row.value_bytes, row.expires_at))
                .collect();
            let expected: Vec<(i64, u64, Option<i64>)> =
                all.iter().map(|row| (row.version, row.value.len() as u64, row.expires_at)).collect();
            if visible != expected {
                return Err(format!(
                    "explain of {}: visible {visible:?}, expected {expected:?}",
                    key.escape_ascii()
                ));
            }
        }
        self.scan(table, look, as_of, rng).await
    }

    async fn scan(&mut self, table: &Arc<Table>, look: &Look, as_of: i64, rng: &mut Rng) -> Outcome {
        for reverse in [false, true] {
            let as_of = if rng.chance(50) { i64::MAX } else { as_of };
            let mut range = KeyRange::all();
            if rng.chance(40) {
                range.start = Bytes::from_static(rng.pick(&KEYS));
            }
            if rng.chance(40) {
                range.end = Some(Bytes::from_static(rng.pick(&KEYS)));
            }
            let window = rng.chance(20).then(|| version(rng.below(u64::from(VERSIONS)) as u8));
            let mut expected: Vec<(Vec<u8>, Seen)> = self
                .model
                .scan(&range.start, range.end.as_deref(), &Read { as_of, ..look.read })
                .into_iter()
                .map(|(key, found)| (key, modelled(found)))
                .filter(|(_, row)| window.is_none_or(|since| row.0 >= since))
                .collect();
            if reverse {
                expected.reverse();
            }
            let mut options = ReadOptions { as_of, ..look.options.clone() };
            let mut request = ScanRequest {
                range: range.clone(),
                reverse,
                since: window,
                until: None,
                max_rows: rng.pick(&[1, 2, 100]),
                max_bytes: rng.pick(&[1, 1 << 20]),
                keys_only: false,
            };
            let mut rows: Vec<(Vec<u8>, Seen)> = Vec::new();
            for _ in 0..50 {
                let (page, receipt) =
                    table.scan(&request, &options).await.map_err(|e| format!("scan: {e:?}"))?;
                rows.extend(page.rows.iter().map(|(key, found)| (key.to_vec(), seen(found))));
                if options.preview.is_none() {
                    options.edition = Some(receipt.edition);
                }
                match page.next {
                    None => break,
                    Some(next) if reverse => request.range.end = Some(next),
                    Some(next) => request.range.start = next,
                }
            }
            if rows != expected {
                return Err(format!(
                    "scan of {range:?} (reverse: {reverse}, as_of {as_of}): {rows:?}, expected {expected:?}"
                ));
            }
        }
        Ok(())
    }
}

fn lookup(found: &Lookup) -> Option<Seen> {
    match found {
        Lookup::Found(found) => Some(seen(found)),
        Lookup::Absent(_) => None,
    }
}

fn same(what: &str, key: &[u8], got: &Option<Seen>, expected: &Option<Seen>) -> Outcome {
    if got == expected {
        return Ok(());
    }
    Err(format!(
        "{what} of {}: {} ({got:?}), expected {} ({expected:?})",
        key.escape_ascii(),
        show(got),
        show(expected)
    ))
}
