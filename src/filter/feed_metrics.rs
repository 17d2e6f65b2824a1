//! What the proxy shows about the feed that it follows.

use crate::host::{Counter, Gauge};
use taskfence_core::feed::apply::Counted;
use taskfence_core::feed::failure::Failure;
use taskfence_core::feed::position::Position;

/// Gauges and counters of one feed.
#[derive(Debug)]
pub struct FeedMetrics {
    revision: Gauge,
    age: Gauge,
    caught_up: Gauge,
    pages: Counter,
    entries: Counter,
    dropped: Counter,
    failures: Vec<(&'static str, Counter)>,
}

impl FeedMetrics {
    /// Defines them.
    pub fn define() -> FeedMetrics {
        let failure = |code| (code, Counter::define(&format!("taskfence.feed_failures.{code}")));
        FeedMetrics {
            revision: Gauge::define("taskfence.feed_revision"),
            age: Gauge::define("taskfence.feed_age_seconds"),
            caught_up: Gauge::define("taskfence.feed_caught_up"),
            pages: Counter::define("taskfence.feed_pages"),
            entries: Counter::define("taskfence.feed_entries"),
            dropped: Counter::define("taskfence.feed_dropped"),
            failures: Failure::CODES.into_iter().map(failure).collect(),
        }
    }

    /// Shows `position` at `now`, in milliseconds. Before the first head was applied the age is counted from the start.
    pub fn show(&self, position: &Position, now: u64) {
        let since = if position.fresh == 0 { position.started } else { position.fresh };
        self.revision.set(position.applied.number);
        self.age.set(now.saturating_sub(since) / 1_000);
        self.caught_up.set(u64::from(position.caught_up));
    }

    /// A page was applied.
    pub fn applied(&self, counted: Counted) {
        self.pages.increment();
        self.entries.add(counted.entries);
        self.dropped.add(counted.dropped);
    }

    /// An answer was of no use.
    pub fn failed(&self, failure: &Failure) {
        if let Some((_, counter)) = self.failures.iter().find(|(code, _)| *code == failure.code()) {
            counter.increment();
        }
    }
}
