//! How many requests a principal may make, and how often an address may fail to authenticate. Memory is bounded.

use hashbrown::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

/// A token bucket for each of at most [`RateLimit::MOST`] callers.
#[derive(Debug)]
pub struct RateLimit<K> {
    per_second: u64,
    burst: u64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What is left, in thousandths of a request.
    left: u64,
    /// When that was, in milliseconds.
    at: u64,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// So many callers are told apart; a new one then takes the place of all whose buckets are full again.
    pub const MOST: usize = 16_384;

    /// `per_second` requests a second, and `burst` at once.
    pub fn new(per_second: u64, burst: u64) -> RateLimit<K> {
        RateLimit { per_second, burst, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one request of `caller` at `now` (milliseconds). An error is the number of seconds to wait.
    pub fn take(&self, caller: &K, now: u64) -> Result<(), u64> {
        self.with(caller, now, |bucket| match bucket.left.checked_sub(1000) {
            Some(left) => {
                bucket.left = left;
                Ok(())
            }
            None => Err(self.seconds_until_one(bucket)),
        })
    }

    /// Whether `caller` could take a request at `now`; takes none.
    pub fn check(&self, caller: &K, now: u64) -> Result<(), u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(bucket) = buckets.get_mut(caller) else { return Ok(()) };
        self.fill(bucket, now);
        if bucket.left >= 1000 { Ok(()) } else { Err(self.seconds_until_one(bucket)) }
    }

    fn with<T>(&self, caller: &K, now: u64, act: impl FnOnce(&mut Bucket) -> Result<T, u64>) -> Result<T, u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if buckets.len() >= Self::MOST && !buckets.contains_key(caller) {
            let full = self.full();
            buckets.retain(|_, bucket| {
                self.fill(bucket, now);
                bucket.left < full
            });
            if buckets.len() >= Self::MOST {
                return Err(1);
            }
        }
        let bucket = buckets.entry(caller.clone()).or_insert(Bucket { left: self.full(), at: now });
        self.fill(bucket, now);
        act(bucket)
    }

    fn full(&self) -> u64 {
        self.burst.saturating_mul(1000)
    }

    /// One request a second is one thousandth of a request a millisecond.
    fn fill(&self, bucket: &mut Bucket, now: u64) {
        let gained = now.saturating_sub(bucket.at).saturating_mul(self.per_second);
        *bucket = Bucket { left: bucket.left.saturating_add(gained).min(self.full()), at: now.max(bucket.at) };
    }

    fn seconds_until_one(&self, bucket: &Bucket) -> u64 {
        1000_u64.saturating_sub(bucket.left).div_ceil(self.per_second.max(1).saturating_mul(1000)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let limit = RateLimit::new(2, 3);
        for _ in 0..3 {
            assert_eq!(limit.take(&"a", 1000), Ok(()));
        }
        assert_eq!(limit.take(&"a", 1000), Err(1));
        assert_eq!(limit.check(&"a", 1000), Err(1));
        assert_eq!(limit.take(&"b", 1000), Ok(()), "callers do not share");
        assert_eq!(limit.take(&"a", 1499), Err(1));
        assert_eq!(limit.check(&"a", 1500), Ok(()));
        assert_eq!(limit.take(&"a", 1500), Ok(()));
        assert_eq!(limit.take(&"a", 900), Err(1), "a clock that goes back gives nothing");
    }

    #[test]
    fn the_memory_is_bounded_and_full_buckets_make_room() {
        let limit = RateLimit::new(1, 1);
        for caller in 0..RateLimit::<usize>::MOST {
            assert_eq!(limit.take(&caller, 0), Ok(()));
        }
        assert_eq!(limit.take(&usize::MAX, 0), Err(1), "there is no room for another caller");
        assert_eq!(limit.take(&usize::MAX, 1000), Ok(()), "all others have waited long enough to be forgotten");
        assert_eq!(limit.buckets.lock().unwrap().len(), 1);
    }
}
