//! Reading: get, batch get, versions, explain, scan; and how fresh.
//!
//! A read loads the view once, so it sees one manifest and one tail to its end, and one edition for all its keys. A
//! segment that is gone means that the manifest is old: the table log is read again and the read begins anew, a few
//! times; never is it an absence.

mod at_hand;
mod consistency;
mod fetch;
mod get;
mod scan;

use std::sync::Arc;

use nacre_manifest::Manifest;
use nacre_types::{Error, Key, Offset, Origin, Result};

use super::Table;
use crate::rows::visible::{self, Step, Walk};
use crate::view::{Lens, View};
use crate::{
    ExplainedRow, Explanation, Found, Lookup, ReadOptions, Receipt, RowPlace, ScanPage, ScanRequest,
};
use at_hand::AtHand;
pub(crate) use consistency::Touch;
use consistency::is_fresh_enough;
pub(crate) use fetch::Fetcher;
use get::{Lies, gather, rules};

const ATTEMPTS: usize = 4;

/// Runs `$body` with a view, a lens and a fetcher, again on fresh state while a segment is gone.
macro_rules! read {
    ($table:expr, $touch:expr, $options:expr, |$view:ident, $lens:ident, $fetcher:ident| $body:expr) => {{
        let began = $table.shared.ctx.clock.monotonic();
        let mut attempt = 1;
        loop {
            let $view: Arc<View> = $table.view.load_full();
            $table.check_held(&$view, $touch)?;
            let $lens: Arc<Lens> = $view.lens($options.edition, $options.preview)?;
            let mut $fetcher =
                Fetcher { shared: &$table.shared, table: $table.id, receipt: Receipt::default() };
            match $body {
                Ok(answer) => {
                    let mut receipt = $fetcher.receipt;
                    receipt.edition = $lens.filter.edition();
                    let took = $table.shared.ctx.clock.monotonic().saturating_sub(began);
                    receipt.node_nanos = took.as_nanos() as u64;
                    break Ok((answer, receipt));
                }
                Err(error) => $table.again_on_fresh_state(error, &mut attempt).await?,
            }
        }
    }};
}

impl Table {
    /// The first visible row of `key` with a version of at most `as_of`.
    ///
    /// # Errors
    /// `Invalid` for a key of a wrong length; `Unavailable` where the freshness asked for is not reached in time or a
    /// store does not answer; `Corrupt`.
    pub async fn get(self: &Arc<Self>, key: &[u8], options: &ReadOptions) -> Result<(Lookup, Receipt)> {
        Key::check(key)?;
        self.shared.metrics.gets.inc();
        match self.get_at_hand(key, options) {
            Some(answer) => Ok(answer),
            // In a future of its own, so that the one of a warm read stays small.
            None => Box::pin(self.get_by_fetching(key, options)).await,
        }
    }

    /// The answer to a get that need not wait for anything: neither for freshness nor for a block.
    fn get_at_hand(&self, key: &[u8], options: &ReadOptions) -> Option<(Lookup, Receipt)> {
        let view = self.view.load();
        if options.edition.is_some() || options.preview.is_some() || !is_fresh_enough(&view, options) {
            return None;
        }
        if self.check_held(&view, Touch::Key(key)).is_err() {
            return None;
        }
        let began = self.shared.ctx.clock.monotonic();
        let mut at_hand = AtHand::of_warm_get(&self.shared.cache, began);
        let lookup = lookup(&mut at_hand, &view, &view.lens, key, options)?;
        let took = self.shared.ctx.clock.monotonic().saturating_sub(began);
        let receipt = Receipt {
            source: at_hand.source,
            segments: at_hand.segments,
            edition: view.lens.filter.edition(),
            node_nanos: took.as_nanos() as u64,
            ..Receipt::default()
        };
        Some((lookup, receipt))
    }

    async fn get_by_fetching(
        self: &Arc<Self>,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<(Lookup, Receipt)> {
        let touch = Touch::Key(key);
        self.reach(options, touch).await?;
        read!(self, touch, options, |view, lens, fetcher| fetcher
            .until_answered(&view.manifest, |at_hand| lookup(at_hand, &view, &lens, key, options))
            .await)
    }

    /// [`Table::get`] of each key, in their order, all from one view. What is to be fetched for them is fetched
    /// together.
    ///
    /// # Errors
    /// Those of [`Table::get`], for any of the keys.
    pub async fn batch_get(
        self: &Arc<Self>,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<(Vec<Lookup>, Receipt)> {
        let touch = Touch::Keys(keys);
        self.reach(options, touch).await?;
        self.shared.metrics.gets.inc_by(keys.len() as u64);
        read!(self, touch, options, |view, lens, fetcher| {
            let mut lookups: Vec<Option<Lookup>> = vec![None; keys.len()];
            fetcher
                .until_answered(&view.manifest, |at_hand| {
                    for (key, answer) in keys.iter().zip(&mut lookups).filter(|(_, answer)| answer.is_none())
                    {
                        *answer = lookup(at_hand, &view, &lens, key, options);
                    }
                    at_hand.lacks.is_empty().then_some(())
                })
                .await
                .map(|()| lookups.into_iter().flatten().collect())
        })
    }

    /// The visible rows of `key` with versions from `since` to `until`, both inclusive, newest first.
    ///
    /// # Errors
    /// Those of [`Table::get`].
    pub async fn versions(
        self: &Arc<Self>,
        key: &[u8],
        since: i64,
        until: i64,
        limit: usize,
        options: &ReadOptions,
    ) -> Result<(Vec<Found>, Receipt)> {
        Key::check(key)?;
        let touch = Touch::Key(key);
        self.reach(options, touch).await?;
        let until = until.min(options.as_of);
        read!(self, touch, options, |view, lens, fetcher| {
            let gathered = fetcher
                .until_answered(&view.manifest, |at_hand| gather(at_hand, &view, &lens, key, |_| ()))
                .await;
            gathered.map(|mut gathered| {
                visible::sort(&mut gathered.candidates);
                visible::versions(
                    &gathered.candidates,
                    rules(&view, &lens, options.now_micros),
                    since,
                    until,
                    limit,
                )
                .filter_map(|row| {
                    Some(Found {
                        version: row.version,
                        value: gathered.values.get(row.value?)?.clone(),
                        expires_at: view.expiry.expires_at(row.version, row.expires_at),
                    })
                })
                .collect()
            })
        })
    }

    /// One page of the visible rows of a range, in key order or against it.
    ///
    /// # Errors
    /// Those of [`Table::get`].
    pub async fn scan(
        self: &Arc<Self>,
        request: &ScanRequest,
        options: &ReadOptions,
    ) -> Result<(ScanPage, Receipt)> {
        let touch = Touch::Range(&request.range);
        self.reach(options, touch).await?;
        self.shared.metrics.scan_pages.inc();
        read!(self, touch, options, |view, lens, fetcher| {
            scan::page(&mut fetcher, &view, &lens, request, options).await
        })
    }

    /// Every row of `key`, where it lies and why it is or is not the answer, in falling rank.
    ///
    /// # Errors
    /// Those of [`Table::get`].
    pub async fn explain(self: &Arc<Self>, key: &[u8], options: &ReadOptions) -> Result<Explanation> {
        Key::check(key)?;
        let touch = Touch::Key(key);
        self.reach(options, touch).await?;
        let answer: Result<((Vec<ExplainedRow>, nacre_types::Seq), Receipt)> =
            read!(self, touch, options, |view, lens, fetcher| {
                let manifest = view.manifest.seq();
                let answered = fetcher
                    .until_answered(&view.manifest, |at_hand| {
                        let mut places = Vec::new();
                        gather(at_hand, &view, &lens, key, |lies| {
                            places.push(row_place(&view.manifest, &lies))
                        })
                        .map(|gathered| (gathered, places))
                    })
                    .await;
                answered.map(|(gathered, places)| {
                    (explain_rows(gathered, places, rules(&view, &lens, options.now_micros)), manifest)
                })
            });
        let ((rows, manifest), receipt) = answer?;
        Ok(Explanation { rows, edition: receipt.edition, manifest })
    }

    /// Reads the table log again where a segment was gone; gives every other error back.
    async fn again_on_fresh_state(self: &Arc<Self>, error: Error, attempt: &mut usize) -> Result<()> {
        if error.code() != "segment-gone" || *attempt >= ATTEMPTS {
            return Err(error);
        }
        *attempt += 1;
        self.shared.metrics.segment_gone.inc();
        self.refresh().await
    }
}

/// One get over what is at hand; `None` where something is lacking.
fn lookup(
    at_hand: &mut AtHand<'_>,
    view: &View,
    lens: &Lens,
    key: &[u8],
    options: &ReadOptions,
) -> Option<Lookup> {
    let counted = at_hand.segments;
    let answer = if options.as_of == i64::MAX {
        get::top(at_hand, view, lens, key, options.now_micros)
    } else {
        gather(at_hand, view, lens, key, |_| ())
            .map(|mut gathered| gathered.lookup(rules(view, lens, options.now_micros), options.as_of))
    };
    if answer.is_none() {
        // It will be asked again, and counted then.
        at_hand.segments = counted;
    }
    answer
}

fn row_place(manifest: &Manifest, lies: &Lies<'_>) -> RowPlace {
    match lies {
        Lies::Tail(partition, row) => {
            let offset = match row.rank.place.origin() {
                Origin::Streamed(_, offset) => offset,
                Origin::Loaded(_) => Offset(0),
            };
            RowPlace::Tail { partition: *partition, offset, index: row.rank.index }
        }
        Lies::Segment(segment, block) => {
            let load = manifest.segment_ref(*segment).and_then(|segment| segment.layer().load());
            RowPlace::Segment { segment: *segment, block: *block, load }
        }
    }
}

fn explain_rows(
    gathered: get::Gathered,
    places: Vec<RowPlace>,
    rules: visible::Rules<'_>,
) -> Vec<ExplainedRow> {
    let mut rows: Vec<_> = gathered.candidates.into_iter().zip(places).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.0.rank()));
    let mut walk = Walk::new(rules);
    let mut ended: Option<&'static str> = None;
    rows.into_iter()
        .map(|(row, place)| {
            let tombstone = row.value.is_none();
            let (visible, reason) = match ended {
                _ if rules.floors.hide(row.version, row.place) => (false, "a replace load hides it"),
                Some(why) => (false, why),
                None => match walk.step(row.version, row.place, row.expires_at, tombstone) {
                    Step::Visible => (true, "visible"),
                    Step::Passed => (false, "a row of the same version ranks above it"),
                    Step::End(visible::Absence::Tombstone) => {
                        ended = Some("a tombstone above hides it");
                        (false, "a tombstone: it hides what ranks below")
                    }
                    Step::End(visible::Absence::Expired) => {
                        ended = Some("an expired row above hides it");
                        (false, "expired: it still hides what ranks below")
                    }
                    Step::End(visible::Absence::Row) => {
                        ended = Some("beyond max_versions");
                        (false, "beyond max_versions")
                    }
                },
            };
            ExplainedRow {
                version: row.version,
                tombstone,
                expires_at: rules.expiry.expires_at(row.version, row.expires_at),
                value_bytes: row
                    .value
                    .and_then(|at| gathered.values.get(at))
                    .map_or(0, |value| value.len() as u64),
                place,
                visible,
                reason: reason.to_owned(),
            }
        })
        .collect()
}
