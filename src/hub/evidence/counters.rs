//! What the hub counts about evidence, for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `number`.
    pub fn add(&self, number: u64) {
        // One thread adds at a time in practice; a sum that has reached the end stays there.
        let sum = |known: u64| Some(known.saturating_add(number));
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one feed since the start of this process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches that were stored.
    pub stored: Counter,
    /// Batches that had been stored before.
    pub repeated: Counter,
    /// Batches that the store had no room for, or that were older than what is kept.
    pub dropped: Counter,
    /// Batches that were answered 400 or 503: they cannot be used, or there was no room for them now.
    pub refused: Counter,
    /// Uses in the batches that were stored, permitted or refused.
    pub uses: Counter,
    /// Single decisions in the batches that were stored.
    pub records: Counter,
    /// Events that were stored, also those that are copies of signals.
    pub events: Counter,
    /// Gaps that were stored.
    pub gaps: Counter,
    /// Permitted requests that are not known one by one.
    pub lost_permitted: Counter,
    /// Refused requests that are not known one by one.
    pub lost_refused: Counter,
    /// Single decisions that were not kept.
    pub lost_records: Counter,
    /// Grants that were dropped because the feed does not have their issuer.
    pub foreign_grants: Counter,
}

/// The counters of all feeds, by name.
#[derive(Debug, Default)]
pub struct AllCounters(BTreeMap<String, Counters>);

impl AllCounters {
    /// Nothing was counted in these feeds.
    pub fn new(feeds: &[String]) -> AllCounters {
        AllCounters(feeds.iter().map(|feed| (feed.clone(), Counters::default())).collect())
    }

    /// Those of `feed`; `None`: there is no such feed.
    pub fn of(&self, feed: &str) -> Option<&Counters> {
        self.0.get(feed)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.0.iter().map(|(feed, counters)| (feed.as_str(), counters))
    }
}
