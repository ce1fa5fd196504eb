//! What the histories are run with: how jobs take their inputs, and a rule that is weakened on purpose.

/// A rule that is weakened on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Rows under a floor that is not sealed are dropped.
    UnsealedFloorDrops,
    /// A job mixes the rows of an unsealed load with others.
    MixesUnsealed,
    /// Tombstones go by lateness without a look at other segments.
    IgnoresOtherSegments,
    /// ... without a look at the uncovered log.
    IgnoresLog,
    /// ... without a look at reverted loads that a page token puts back.
    IgnoresRestorable,
    /// ... without a look at prepared loads.
    IgnoresPrepared,
    /// ... by the time alone, without a look at the loads that were begun before.
    IgnoresOpenLoads,
    /// Tombstones go as soon as nothing older is there.
    IgnoresArrivals,
    /// A put that lost a tie goes whatever its expiry.
    DropsTiedPuts,
    /// A tombstone that lost a tie goes.
    DropsTiedTombstones,
    /// Expired rows go instead of becoming tombstones.
    DropsExpired,
    /// A change of the ttl does not raise `expired_below`.
    ForgetsOldTtl,
    /// A raised limit leaves no `late_below` behind.
    ForgetsOldLimit,
    /// Of rows that tie the expiry as the present ttl has it is compared, not their own.
    TiesByTtl,
    /// A row of the very version of the bound is taken for late.
    LateByOne,
    /// A row outside of the very version of the tombstone is taken for younger.
    OutsideByOne,
    /// The rows of a load that is not committed yet are judged as if it had been committed first.
    PlacesPreparedLow,
    /// The now for drops runs ahead of the readers'.
    NowAhead,
    /// A sealed floor goes although its successor has own rows below it.
    DropsFloors,
    /// One version more than `max_versions` is taken for one too many.
    CountsWrong,
    /// A load is sealed while a page token can still read the table without it.
    SealsEarly,
}

impl Bug {
    pub(super) const ALL: [Self; 21] = [
        Self::UnsealedFloorDrops,
        Self::MixesUnsealed,
        Self::IgnoresOtherSegments,
        Self::IgnoresLog,
        Self::IgnoresRestorable,
        Self::IgnoresPrepared,
        Self::IgnoresOpenLoads,
        Self::IgnoresArrivals,
        Self::DropsTiedPuts,
        Self::DropsTiedTombstones,
        Self::DropsExpired,
        Self::ForgetsOldTtl,
        Self::ForgetsOldLimit,
        Self::TiesByTtl,
        Self::LateByOne,
        Self::OutsideByOne,
        Self::PlacesPreparedLow,
        Self::NowAhead,
        Self::DropsFloors,
        Self::CountsWrong,
        Self::SealsEarly,
    ];
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Streamed rows carry the start of their segment as place, and jobs take neighbours only.
    pub(super) approximate: bool,
    pub(super) bug: Option<Bug>,
    /// `None` = any.
    pub(super) flavour: Option<u64>,
}

impl Options {
    pub(super) fn exact() -> Self {
        Self { approximate: false, bug: None, flavour: None }
    }
    pub(super) fn approximate() -> Self {
        Self { approximate: true, bug: None, flavour: None }
    }
    pub(super) fn with(self, bug: Bug) -> Self {
        // The rare ones are looked for where they are less rare.
        let flavour = match bug {
            Bug::TiesByTtl => Some(3),
            Bug::IgnoresOpenLoads | Bug::LateByOne | Bug::ForgetsOldLimit => Some(2),
            _ => None,
        };
        Self { bug: Some(bug), flavour, ..self }
    }
}
