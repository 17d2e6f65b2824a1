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
        match self {
            Failure::CutOff(_) => "cut_off",
            Failure::Status(_) => "status",
            Failure::NoAnswer => "no_answer",
            Failure::ClusterMissing => "cluster_missing",
            Failure::Page(PageError::Statement(StatementError::Signature)) => "unknown_key",
            Failure::Page(PageError::Statement(StatementError::OtherFeed)) => "other_feed",
            Failure::Page(PageError::Format) => "format",
            Failure::Page(_) | Failure::Apply(ApplyError::Entries(_)) => "not_a_page",
            Failure::Refused(Refused::Ahead(_)) => "clock",
            Failure::Refused(Refused::Old) => "old",
            Failure::Refused(Refused::Behind) => "behind",
            Failure::Refused(Refused::Gap { .. }) => "gap",
            Failure::Refused(Refused::OtherHistory | Refused::OtherPart) => "other_history",
            Failure::Apply(ApplyError::Store(_)) | Failure::Store(_) => "store",
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

/// What the log knows about failures: of each kind one in a minute.
#[derive(Debug, Default)]
pub struct Told {
    /// When the minute began.
    since: u64,
    /// The kinds in this minute.
    codes: Vec<&'static str>,
    /// Failures that the log was not told of.
    untold: u32,
}

impl Told {
    /// Notes a failure of the kind `code` at `now` (milliseconds). Where it is to be logged: how many there were since the last one that was.
    pub fn count(&mut self, code: &'static str, now: u64) -> Option<u32> {
        if now.abs_diff(self.since) >= REPEAT {
            self.since = now;
            self.codes.clear();
        }
        self.untold = self.untold.saturating_add(1);
        if self.codes.contains(&code) {
            return None;
        }
        self.codes.push(code);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_each_kind_of_failure_once_a_minute() {
        let mut told = Told::default();
        let begin = 1_790_000_000_000;
        assert_eq!(told.count("status", begin), Some(1));
        let mut lines = 0;
        for second in 1..60 {
            let code = if second % 2 == 0 { "status" } else { "no_answer" };
            lines += usize::from(told.count(code, begin + second * 1_000).is_some());
        }
        assert_eq!(lines, 1, "the first of the other kind");
        assert_eq!(told.count("status", begin + 60_000), Some(59));
        assert_eq!(told.count("status", begin), Some(1), "the clock was set back");
    }
}
