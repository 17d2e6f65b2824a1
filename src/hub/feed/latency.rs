//! How long it takes from the commit of a change until a follower has applied it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of the buckets, in milliseconds. There is one more bucket for all above.
pub const BOUNDS: [u64; 14] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// A histogram.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// A copy of a histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How many values are in each bucket, not added up.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all values, in milliseconds.
    pub sum_ms: u64,
}

impl Latency {
    /// Adds a value in milliseconds.
    pub fn observe(&self, ms: u64) {
        let index = BOUNDS.partition_point(|bound| *bound < ms);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(ms, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Snapshot {
        let buckets =
            std::array::from_fn(|index| self.buckets.get(index).map_or(0, |count| count.load(Ordering::Relaxed)));
        Snapshot { buckets, sum_ms: self.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_once_at_its_bound() {
        let latency = Latency::default();
        [0, 5, 6, 300_000, 300_001].into_iter().for_each(|ms| latency.observe(ms));
        let snapshot = latency.snapshot();
        assert_eq!(
            (snapshot.buckets[0], snapshot.buckets[1], snapshot.buckets[13], snapshot.buckets[14]),
            (2, 1, 1, 1)
        );
        assert_eq!((snapshot.buckets.iter().sum::<u64>(), snapshot.sum_ms), (5, 600_012));
    }
}
