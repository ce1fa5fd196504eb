//! Scans: range by range of the nodes that hold them, in key order, and one edition for the page.
//!
//! Shards lie in key order and each has one partition, so a scan asks the node of the first shard's partition for that
//! shard's range, then the next, until the page is full. Neighbouring shards of one partition are asked for together. The
//! first part's edition is that of the whole page: what follows is asked at it. (For `strong` and `session` that edition is
//! late enough, since it was reached after the request came.)

use std::sync::Arc;

use bytes::Bytes;
use nacre_engine::{ReadOptions, ScanPage, ScanRequest, Table};
use nacre_types::{KeyRange, PartitionId, Result};

use crate::reads::at_edition;
use crate::wire::{Read, Rows, other_kind};
use crate::{Fleet, Reading};

impl Fleet {
    /// One page of the visible rows of a range.
    ///
    /// # Errors
    /// Those of [`Table::scan`]; `Unavailable` where no node answers for a part of it.
    pub async fn scan(
        &self,
        table: &Arc<Table>,
        request: &ScanRequest,
        options: &ReadOptions,
    ) -> Result<Reading<ScanPage>> {
        let mut page = ScanPage::default();
        let mut reading = Reading::none(table);
        let mut options = options.clone();
        let mut rest = request.range.clone();
        let mut bytes = 0;
        loop {
            let Some((partition, range, after)) = next_run(table, &rest, request.reverse) else { break };
            let part = ScanRequest {
                range,
                max_rows: request.max_rows - page.rows.len(),
                max_bytes: request.max_bytes.saturating_sub(bytes).max(1),
                ..request.clone()
            };
            let part = self.of_partition(table, partition, Read::Scan(part), &options).await?;
            if options.edition.is_none() {
                options = at_edition(&options, part.answer.receipt.edition);
            }
            reading.add(&part.answer.receipt, &part.answer.token, part.node)?;
            let Rows::Page(found) = part.answer.rows else { return Err(other_kind()) };
            bytes += found.rows.iter().map(|(key, row)| key.len() + row.value.len()).sum::<usize>();
            page.rows.extend(found.rows);
            match (found.next, after) {
                (Some(next), _) => set_start(&mut rest, next, request.reverse),
                (None, Some(after)) => set_start(&mut rest, after, request.reverse),
                (None, None) => return Ok(reading.with(page)),
            }
            if page.rows.len() >= request.max_rows || bytes >= request.max_bytes {
                let bound = if request.reverse { rest.end.clone() } else { Some(rest.start.clone()) };
                page.next = bound;
                return Ok(reading.with(page));
            }
        }
        Ok(reading.with(page))
    }
}

/// Where a scan goes on: forwards its first key, backwards the key before which it begins.
fn set_start(rest: &mut KeyRange, at: Bytes, reverse: bool) {
    if reverse {
        rest.end = Some(at);
    } else {
        rest.start = at;
    }
}

/// The first stretch of a range whose shards are of one partition, and where the next one begins, if there is one.
fn next_run(table: &Table, rest: &KeyRange, reverse: bool) -> Option<(PartitionId, KeyRange, Option<Bytes>)> {
    let manifest = table.manifest();
    let shards: Vec<(&Bytes, PartitionId)> =
        manifest.shards().iter().map(|shard| (&shard.start, shard.partition)).collect();
    run_of(&shards, rest, reverse)
}

fn run_of(
    shards: &[(&Bytes, PartitionId)],
    rest: &KeyRange,
    reverse: bool,
) -> Option<(PartitionId, KeyRange, Option<Bytes>)> {
    if rest.end.as_ref().is_some_and(|end| *end <= rest.start) {
        return None;
    }
    let first = shards.partition_point(|(start, _)| **start <= rest.start).saturating_sub(1);
    let last = match &rest.end {
        None => shards.len(),
        Some(end) => shards.partition_point(|(start, _)| *start < end),
    };
    let within = shards.get(first..last)?;
    if reverse {
        let (_, partition) = *within.last()?;
        let run = within.iter().rev().take_while(|(_, other)| *other == partition).count();
        let from = within.len() - run;
        let start = if from == 0 { rest.start.clone() } else { within.get(from)?.0.clone() };
        let after = (from > 0).then(|| start.clone());
        Some((partition, KeyRange { start, end: rest.end.clone() }, after))
    } else {
        let (_, partition) = *within.first()?;
        let run = within.iter().take_while(|(_, other)| *other == partition).count();
        let after = within.get(run).map(|(start, _)| (*start).clone());
        let end = after.clone().or_else(|| rest.end.clone());
        Some((partition, KeyRange { start: rest.start.clone(), end }, after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(
        shards: &[(&str, u32)],
        range: (&str, Option<&str>),
        reverse: bool,
    ) -> Vec<(u32, String, String)> {
        let starts: Vec<Bytes> =
            shards.iter().map(|(start, _)| Bytes::copy_from_slice(start.as_bytes())).collect();
        let shards: Vec<(&Bytes, PartitionId)> = starts
            .iter()
            .zip(shards)
            .map(|(start, (_, partition))| (start, PartitionId(*partition)))
            .collect();
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_default();
        let mut rest = KeyRange { start: bytes(range.0), end: range.1.map(bytes) };
        let mut found = Vec::new();
        while let Some((partition, run, after)) = run_of(&shards, &rest, reverse) {
            let end = run.end.as_ref().map_or_else(|| "-".to_owned(), |end| text(end));
            found.push((partition.0, text(&run.start), end));
            match after {
                Some(after) => set_start(&mut rest, after, reverse),
                None => break,
            }
        }
        found
    }

    fn told(runs: &[(u32, &str, &str)]) -> Vec<(u32, String, String)> {
        runs.iter().map(|(partition, from, to)| (*partition, (*from).into(), (*to).into())).collect()
    }

    const SHARDS: [(&str, u32); 5] = [("", 1), ("d", 1), ("h", 2), ("m", 1), ("t", 3)];

    #[test]
    fn a_scan_asks_the_nodes_of_its_shards_in_key_order() {
        let all = runs(&SHARDS, ("", None), false);
        assert_eq!(all, told(&[(1, "", "h"), (2, "h", "m"), (1, "m", "t"), (3, "t", "-")]));
        assert_eq!(runs(&SHARDS, ("e", Some("i")), false), told(&[(1, "e", "h"), (2, "h", "i")]));
        assert_eq!(runs(&SHARDS, ("h", Some("m")), false), told(&[(2, "h", "m")]));
        assert_eq!(runs(&SHARDS, ("m", Some("m")), false), []);
    }

    #[test]
    fn backwards_it_asks_them_in_the_other_order() {
        let all = runs(&SHARDS, ("", None), true);
        assert_eq!(all, told(&[(3, "t", "-"), (1, "m", "t"), (2, "h", "m"), (1, "", "h")]));
        assert_eq!(runs(&SHARDS, ("e", Some("i")), true), told(&[(2, "h", "i"), (1, "e", "h")]));
    }
}
