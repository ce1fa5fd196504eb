use super::*;
use nacre_types::{Error, Generation, Offset};
use proptest::prelude::*;

type Row = (Vec<u8>, i64, u64, u32);

/// Rows of a vector; fails where the version is `i64::MIN`.
#[derive(Debug)]
struct Rows {
    rows: Vec<Row>,
    next: usize,
}

impl RowSource for Rows {
    fn peek(&self) -> Option<RowView<'_>> {
        self.rows.get(self.next).map(|(key, version, offset, index)| RowView {
            key,
            version: *version,
            place: Place::streamed(Generation(0), Offset(*offset)),
            index: *index,
            expires_at: None,
            value: None,
        })
    }

    fn advance(&mut self) -> Result<()> {
        self.next = (self.next + 1).min(self.rows.len());
        match self.rows.get(self.next) {
            Some(row) if row.1 == i64::MIN => Err(Error::unavailable("planted")),
            _ => Ok(()),
        }
    }
}

fn over(sources: Vec<Vec<Row>>) -> Merge<Rows> {
    Merge::new(sources.into_iter().map(|rows| Rows { rows, next: 0 }).collect())
}

fn drain(mut merge: Merge<Rows>) -> Vec<(usize, Row)> {
    let mut rows = Vec::new();
    while let Some(row) = merge.peek() {
        let place = row.place.to_i64() & ((1 << 48) - 1);
        rows.push((merge.source(), (row.key.to_vec(), row.version, place as u64, row.index)));
        merge.advance().unwrap();
    }
    merge.advance().unwrap();
    assert!(merge.peek().is_none());
    rows
}

fn sort(rows: &mut [(usize, Row)]) {
    rows.sort_by(|(a, x), (b, y)| {
        x.0.cmp(&y.0).then_with(|| (y.1, y.2, y.3).cmp(&(x.1, x.2, x.3))).then(a.cmp(b))
    });
}

#[test]
fn nothing_merges_to_nothing() {
    assert!(drain(over(vec![])).is_empty());
    assert!(drain(over(vec![vec![], vec![]])).is_empty());
}

#[test]
fn keys_that_share_their_first_eight_bytes_or_end_in_zeros_are_told_apart() {
    let key = |text: &[u8]| (text.to_vec(), 1, 0, 0);
    let merged = drain(over(vec![
        vec![key(b"a"), key(b"abcdefgh"), key(b"abcdefgh\0")],
        vec![key(b"a\0"), key(b"abcdefgh\0\0"), key(b"abcdefgi")],
    ]));
    let keys: Vec<&[u8]> = merged.iter().map(|(_, row)| row.0.as_slice()).collect();
    let expected: [&[u8]; 6] = [b"a", b"a\0", b"abcdefgh", b"abcdefgh\0", b"abcdefgh\0\0", b"abcdefgi"];
    assert_eq!(keys, expected);
}

#[test]
fn an_error_of_a_source_comes_through() {
    let row = |version| (b"k".to_vec(), version, 0, 0);
    let mut merge = over(vec![vec![row(3), row(i64::MIN)], vec![row(2)]]);
    assert!(merge.advance().is_err());
}

#[test]
fn skip_key_stands_at_the_next_key() {
    let row = |key: &str, version| (key.as_bytes().to_vec(), version, 0, 0);
    let mut merge = over(vec![vec![row("a", 3), row("b", 1)], vec![row("a", 2), row("a", 1)]]);
    merge.skip_key().unwrap();
    assert_eq!(merge.peek().unwrap().key, b"b");
    merge.skip_key().unwrap();
    assert!(merge.peek().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn the_merge_of_sorted_sources_is_the_stable_sort_of_their_rows(
        sources in prop::collection::vec(
            prop::collection::vec(
                (prop::collection::vec(0u8..3, 1..12), -3i64..3, 0u64..3, 0u32..2), 0..20), 0..9)
    ) {
        let mut all = Vec::new();
        let mut sorted = Vec::new();
        for (number, rows) in sources.into_iter().enumerate() {
            let mut rows: Vec<_> = rows.into_iter().map(|row| (number, row)).collect();
            sort(&mut rows);
            all.extend(rows.iter().cloned());
            sorted.push(rows.into_iter().map(|(_, row)| row).collect());
        }
        sort(&mut all);
        prop_assert_eq!(drain(over(sorted)), all);
    }
}
