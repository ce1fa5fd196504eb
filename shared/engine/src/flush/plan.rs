//! Which tables of a partition are flushed now, and whose rows are carried: a pure decision.

/// What waits of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) bytes: u64,
}

/// For each table whether it is flushed (`true`) or carried.
///
/// A table with at least `table_bytes_min` is flushed. Of the others the smallest are carried, as long as all that is
/// carried stays below `carried_bytes_max`: the rest is flushed although it is small, so that the carried object, which
/// every tail that starts has to read, stays small too.
pub(crate) fn choose(waiting: &[Waiting], table_bytes_min: u64, carried_bytes_max: u64) -> Vec<bool> {
    let mut small: Vec<usize> =
        (0..waiting.len()).filter(|&at| waiting[at].bytes < table_bytes_min).collect();
    small.sort_by_key(|&at| waiting[at].bytes);
    let mut flushed = vec![true; waiting.len()];
    let mut carried = 0u64;
    for at in small {
        carried = carried.saturating_add(waiting[at].bytes);
        if carried > carried_bytes_max {
            break;
        }
        flushed[at] = false;
    }
    flushed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(bytes: &[u64]) -> Vec<bool> {
        choose(&bytes.iter().map(|&bytes| Waiting { bytes }).collect::<Vec<_>>(), 100, 150)
    }

    #[test]
    fn big_tables_are_flushed_and_small_ones_carried() {
        assert_eq!(chosen(&[100, 99, 5_000, 1]), [true, false, true, false]);
    }

    #[test]
    fn what_is_carried_stays_small() {
        assert_eq!(chosen(&[60, 70, 80]), [false, false, true]);
        assert_eq!(chosen(&[]), [] as [bool; 0]);
    }
}
