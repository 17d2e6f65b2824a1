//! How long things take: a histogram that many threads add to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in milliseconds. There is one more bucket for all above.
pub const BOUNDS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// A histogram.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In microseconds.
    sum: AtomicU64,
}

/// A copy of a histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How many values are in each bucket, not added up.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all values.
    pub sum: Duration,
}

impl Histogram {
    /// Adds a value.
    pub fn observe(&self, value: Duration) {
        let index = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < value);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Snapshot {
        let buckets =
            std::array::from_fn(|index| self.buckets.get(index).map_or(0, |count| count.load(Ordering::Relaxed)));
        Snapshot { buckets, sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_once_at_its_bound() {
        let histogram = Histogram::default();
        let values = [0, 1_000, 1_001, 300_000_000, 300_000_001];
        values.into_iter().for_each(|micros| histogram.observe(Duration::from_micros(micros)));
        let snapshot = histogram.snapshot();
        let [first, second, .., last, above] = snapshot.buckets;
        assert_eq!((first, second, last, above), (2, 1, 1, 1));
        assert_eq!(snapshot.buckets.iter().sum::<u64>(), 5);
        assert_eq!(snapshot.sum, Duration::from_micros(600_002_002));
    }
}
