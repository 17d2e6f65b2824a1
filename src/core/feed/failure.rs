//! What can go wrong while a proxy follows a feed, and what the log says about it.

use crate::feed::apply::ApplyError;
use crate::feed::page::PageError;
use crate::feed::position::Refused;
use crate::feed::statement::StatementError;
use crate::state::store::StoreError;

/// A kind of failure that goes on is logged again after this many milliseconds.
const REPEAT: u64 = 60_000;

/// Why an answer of the hub was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 401 or 403.
    #[error(
        "cut off: the hub answers {0}; it does not know the credentials of this proxy, or they may not read the feed"
    )]
    CutOff(u16),
    /// Another status than 200.
    #[error("the hub answers {0}")]
    Status(u16),
    /// The call ended without an answer.
    #[error("the hub does not answer")]
    NoAnswer,
    /// The proxy has no such cluster.
    #[error("the proxy has no cluster of the name that `signals.hub.cluster` gives")]
    ClusterMissing,
    /// The answer is not a page of this hub.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The page does not fit the position.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The page could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The shared memory failed.
    #[error("the position of the feed cannot be read or written: {0}")]
    Store(#[from] StoreError),
}

impl Failure {
    /// All codes, for the counters.
    pub const CODES: [&'static str; 14] = [
        "cut_off",
        "status",
        "no_answer",
        "cluster_missing",
        "not_a_page",
        "unknown_key",
        "other_feed",
        "format",
        "clock",
        "old",
        "behind",
        "gap",
        "other_history",
        "store",
    ];

    /// The code of the counter.
    pub fn code(&self) -> &'static str {
        Failure::CODES.get(self.number()).copied().unwrap_or_default()
    }

    /// Which of [`Failure::CODES`] it has.
    pub fn number(&self) -> usize {
        match self {
            Failure::CutOff(_) => 0,
            Failure::Status(_) => 1,
            Failure::NoAnswer => 2,
            Failure::ClusterMissing => 3,
            Failure::Page(PageError::Statement(StatementError::Signature)) => 5,
            Failure::Page(PageError::Statement(StatementError::OtherFeed)) => 6,
            Failure::Page(PageError::Format) => 7,
            Failure::Page(_) | Failure::Apply(ApplyError::Entries(_)) => 4,
            Failure::Refused(Refused::Ahead(_)) => 8,
            Failure::Refused(Refused::Old) => 9,
            Failure::Refused(Refused::Behind | Refused::Overlap) => 10,
            Failure::Refused(Refused::Gap { .. }) => 11,
            Failure::Refused(Refused::OtherHistory | Refused::OtherPart) => 12,
            Failure::Apply(ApplyError::Store(_)) | Failure::Store(_) => 13,
        }
    }

    /// Whether an operator must act: it does not mend itself.
    pub fn is_lasting(&self) -> bool {
        match self {
            Failure::CutOff(_) | Failure::ClusterMissing | Failure::Page(_) | Failure::Apply(_) | Failure::Store(_) => {
                true
            }
            Failure::Status(_) | Failure::NoAnswer => false,
            Failure::Refused(refused) => matches!(refused, Refused::Ahead(_)),
        }
    }
}

/// What the log knows about things that repeat: of each kind one in a minute.
#[derive(Debug, Default)]
pub struct Told {
    /// When the minute began.
    since: u64,
    /// The kinds in this minute, a bit for each.
    kinds: u32,
    /// What the log was not told of.
    untold: u32,
}

impl Told {
    /// Notes one of the kind with that number, below 32, at `now` (milliseconds). Where it is to be logged: how many there
    /// were since the last one that was.
    pub fn count(&mut self, kind: usize, now: u64) -> Option<u32> {
        if now.abs_diff(self.since) >= REPEAT {
            (self.since, self.kinds) = (now, 0);
        }
        self.untold = self.untold.saturating_add(1);
        let bit = u32::try_from(kind).ok().and_then(|kind| 1u32.checked_shl(kind)).unwrap_or_default();
        if self.kinds & bit != 0 {
            return None;
        }
        self.kinds |= bit;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_each_kind_once_a_minute() {
        let mut told = Told::default();
        let begin = 1_790_000_000_000;
        assert_eq!(told.count(1, begin), Some(1));
        let lines =
            (1..60).filter(|second| told.count(if second % 2 == 0 { 1 } else { 2 }, begin + second * 1_000).is_some());
        assert_eq!(lines.count(), 1, "the first of the other kind");
        assert_eq!(told.count(1, begin + 60_000), Some(59));
        assert_eq!(told.count(1, begin), Some(1), "the clock was set back");
    }

    #[test]
    fn each_failure_has_its_code() {
        let expected = [
            (Failure::CutOff(401), "cut_off"),
            (Failure::ClusterMissing, "cluster_missing"),
            (Failure::Page(PageError::Statement(StatementError::Signature)), "unknown_key"),
            (Failure::Page(PageError::Format), "format"),
            (Failure::Apply(ApplyError::Entries(crate::feed::entry::BadEntry)), "not_a_page"),
            (Failure::Refused(Refused::Old), "old"),
            (Failure::Refused(Refused::OtherPart), "other_history"),
            (Failure::Store(StoreError::Failed), "store"),
        ];
        for (failure, code) in expected {
            assert_eq!(failure.code(), code);
        }
    }
}
