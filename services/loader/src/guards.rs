//! Guards: what stops a bad job before anyone sees it. Pure.

use nacre_engine::{Guards, LoadMode};

/// What a load would bring, and what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Brings {
    pub(crate) mode: LoadMode,
    /// Rows of the load, tombstones among them.
    pub(crate) rows: u64,
    /// Rows of its files: rows that are there twice and equal count twice.
    pub(crate) rows_in_files: u64,
    pub(crate) tombstones: u64,
    /// Rows that are in the table's segments now, an estimate.
    pub(crate) rows_before: u64,
    /// How many rows the caller said there are.
    pub(crate) rows_said: Option<u64>,
}

/// Why the load is stopped, in sentences that say what would let it through; empty = it is not.
pub(crate) fn objections(guards: &Guards, brings: Brings) -> Vec<String> {
    let mut objections = Vec::new();
    let Brings { mode, rows, rows_in_files, tombstones, rows_before, rows_said } = brings;
    if let Some(said) = rows_said.filter(|&said| said != rows_in_files) {
        objections.push(format!("the files hold {rows_in_files} rows, the commit said {said}"));
    }
    if rows < guards.min_rows {
        objections.push(format!("the load has {rows} rows; guards.min_rows asks for {}", guards.min_rows));
    }
    if mode == LoadMode::Replace && rows == 0 && !guards.allow_empty {
        objections.push(
            "a replace by nothing would empty the table; set guards.allow_empty if that is meant".to_owned(),
        );
    }
    let percent = |part: u64, whole: u64| u128::from(part) * 100 / u128::from(whole.max(1));
    if mode == LoadMode::Replace && rows > 0 && rows < rows_before {
        let shrinks = percent(rows_before - rows, rows_before);
        if shrinks > u128::from(guards.max_shrink_percent) {
            objections.push(format!(
                "the replace has {rows} rows and the table about {rows_before}: it would shrink by {shrinks} percent; \
                 guards.max_shrink_percent is {}",
                guards.max_shrink_percent
            ));
        }
    }
    let share = percent(tombstones, rows);
    if rows > 0 && share > u128::from(guards.max_tombstone_percent) {
        objections.push(format!(
            "{tombstones} of {rows} rows have no value ({share} percent): tombstones, or nulls where values belong; \
             guards.max_tombstone_percent is {}",
            guards.max_tombstone_percent
        ));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brings(rows: u64, tombstones: u64, rows_before: u64) -> Brings {
        Brings {
            mode: LoadMode::Replace,
            rows,
            rows_in_files: rows,
            tombstones,
            rows_before,
            rows_said: None,
        }
    }

    #[test]
    fn a_good_load_passes() {
        assert_eq!(objections(&Guards::default(), brings(50, 5, 100)), Vec::<String>::new());
        let merge = Brings { mode: LoadMode::Merge, ..brings(1, 0, 1_000) };
        assert_eq!(objections(&Guards::default(), merge), Vec::<String>::new());
    }

    #[test]
    fn each_guard_stops_and_says_its_name() {
        let cases = [
            (brings(0, 0, 0), "allow_empty"),
            (brings(49, 0, 100), "max_shrink_percent"),
            (brings(100, 11, 100), "max_tombstone_percent"),
            (Brings { rows_said: Some(3), ..brings(4, 0, 4) }, "said 3"),
        ];
        for (brings, word) in cases {
            let said = objections(&Guards::default(), brings).join("; ");
            assert!(said.contains(word), "{said}");
        }
        let strict = Guards { min_rows: 10, ..Guards::default() };
        assert!(objections(&strict, brings(9, 0, 9))[0].contains("min_rows"));
    }

    #[test]
    fn guards_can_be_waived() {
        let waived = Guards {
            allow_empty: true,
            max_shrink_percent: 100,
            max_tombstone_percent: 100,
            ..Guards::default()
        };
        assert!(objections(&waived, brings(0, 0, 100)).is_empty());
        assert!(objections(&waived, brings(1, 1, 100)).is_empty());
    }
}
