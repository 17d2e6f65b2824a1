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
    /// In the order of [`Failure::CODES`].
    failures: Vec<Counter>,
}

impl FeedMetrics {
    /// Defines them. Their names end in that of the feed, so that two plugins of one proxy can follow two feeds.
    pub fn define(feed: &str) -> FeedMetrics {
        let failures = named("taskfence.feed_failures", feed);
        let failure = |code| Counter::define(&named(&failures, code));
        let gauge = |name| Gauge::define(&named(name, feed));
        let counter = |name| Counter::define(&named(name, feed));
        FeedMetrics {
            revision: gauge("taskfence.feed_revision"),
            age: gauge("taskfence.feed_age_seconds"),
            caught_up: gauge("taskfence.feed_caught_up"),
            pages: counter("taskfence.feed_pages"),
            entries: counter("taskfence.feed_entries"),
            dropped: counter("taskfence.feed_dropped"),
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
        if let Some(counter) = self.failures.get(failure.number()) {
            counter.increment();
        }
    }
}

fn named(name: &str, last: &str) -> String {
    format!("{name}.{last}")
}
