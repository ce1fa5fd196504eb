//! One edition for all parts of a request.
//!
//! Loads and reverts are atomic on any number of nodes. A node answers at its own edition and says which; where the
//! answers to one request differ, those that are not at the one to agree on are asked again, at that one. A node that is
//! ahead leaves out what came since; one that is behind reads the table log first.

use nacre_types::{Consistency, Seq};

/// The edition to ask for again, where the parts of an answer are of several: the lowest, which every node can answer at
/// without waiting; for `strong` the highest, since all that was committed before the request must be seen. (For
/// `session` each part is at the token's edition or later already.) `None`: they agree.
pub(crate) fn to_agree_on(
    editions: impl Iterator<Item = Seq> + Clone,
    consistency: Consistency,
) -> Option<Seq> {
    let lowest = editions.clone().min()?;
    let highest = editions.max()?;
    if lowest == highest {
        return None;
    }
    Some(if consistency == Consistency::Strong { highest } else { lowest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_edition_agree() {
        for consistency in [Consistency::Eventual, Consistency::Session, Consistency::Strong] {
            assert_eq!(to_agree_on([Seq(4), Seq(4)].into_iter(), consistency), None);
            assert_eq!(to_agree_on(std::iter::empty(), consistency), None);
        }
    }

    #[test]
    fn others_agree_on_the_lowest_and_strong_reads_on_the_highest() {
        let editions = [Seq(5), Seq(3), Seq(9)];
        assert_eq!(to_agree_on(editions.into_iter(), Consistency::Eventual), Some(Seq(3)));
        assert_eq!(to_agree_on(editions.into_iter(), Consistency::Session), Some(Seq(3)));
        assert_eq!(to_agree_on(editions.into_iter(), Consistency::Strong), Some(Seq(9)));
    }
}
