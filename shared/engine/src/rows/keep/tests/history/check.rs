//! The answers after a step, beside the model's.

use super::*;
use crate::rows::visible::{self, Rules};
use nacre_model::Read;

impl History {
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.compare(self.time, None, None)?;
        let later = self.time + self.dice.below(12) as i64;
        self.compare(later, None, None)?;
        if self.seq > self.oldest_edition {
            let edition = self.oldest_edition + self.dice.below(self.seq - self.oldest_edition + 1);
            self.compare(self.time, Some(edition), None)?;
        }
        if let Some(at) = self.pick(|history, load| history.state(load) == Some(LoadState::Prepared)) {
            self.compare(self.time, None, Some(self.loads[at].number))?;
        }
        Ok(())
    }

    fn compare(&mut self, now: i64, edition: Option<u64>, preview: Option<u64>) -> Result<(), String> {
        let mut rows: Vec<Row> = self.log.clone();
        for segment in &self.segments {
            match segment.layer {
                Layer::Merged(_) => rows.extend(&segment.rows),
                Layer::Load(load) => {
                    if let Some(place) = self.place(load, edition, preview) {
                        rows.extend(segment.rows.iter().map(|row| Row { place, ..*row }));
                    }
                }
            }
        }
        let floors = self.floors(edition, preview, |_| true);
        let max_versions = self.model.settings().max_versions;
        let expiry = self.expiry();
        let rules = Rules { floors: &floors, expiry, max_versions, now };
        let as_of = self.time - 8 + self.dice.below(12) as i64;
        let got = visible::get(&mut rows, rules, as_of).found.ok().map(|row| seen(&row, &expiry));
        let listed: Vec<_> = visible::versions(&rows, rules, i64::MIN, i64::MAX, usize::MAX)
            .map(|row| seen(row, &expiry))
            .collect();

        let read = Read { now, as_of, edition, preview };
        let shown = |row: nacre_model::Found| {
            let value = row.value.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            (row.version, value, row.expires_at)
        };
        let wanted: Vec<_> =
            self.model.versions(KEY, i64::MIN, i64::MAX, usize::MAX, &read).into_iter().map(shown).collect();
        let wanted_get = self.model.get(KEY, &read).map(shown);
        if listed != wanted || got != wanted_get {
            return Err(format!(
                "{read:?}\n  the model sees {wanted:?}, as of {wanted_get:?}\n  the table {listed:?}, as of {got:?}"
            ));
        }
        Ok(())
    }
}

fn seen(row: &Row, expiry: &Expiry) -> (i64, u32, Option<i64>) {
    (row.version, row.value.unwrap_or(0), expiry.expires_at(row.version, row.expires_at))
}
