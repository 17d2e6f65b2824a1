//! What is counted of the streams of one feed.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The streams of one feed since the start of this replica.
#[derive(Debug, Default)]
pub struct Counters {
    /// SETs that were pushed and answered 202.
    pub pushed: Counter,
    /// SETs that a receiver acknowledged in a poll.
    pub acknowledged: Counter,
    /// SETs that a receiver refused: it does not get them again.
    pub refused: Counter,
    /// Pushes that failed and are tried again.
    pub failed: Counter,
    /// Streams that the hub paused.
    pub paused: Counter,
}
