//! When what has ended may be removed from the store for good: only by a clock that is believed.
//!
//! A clock that is ahead for a moment would make the hub forget revocations that are in force: no proxy that starts later
//! would get them.

use crate::store::clock::{Clock, MAX_SKEW};
use std::time::{Duration, Instant};
use taskfence_core::time::Timestamp;

/// The clock of the system may move so far apart from the time that has passed, in milliseconds.
const MAX_STEP: u64 = 60_000;

/// A clock that was set is believed when the proxies have agreed with it for so long.
const AGREED: Duration = Duration::from_secs(5 * 60);

/// Why nothing is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The clocks of most proxies differ.
    #[error("the clocks of most proxies are more than a minute apart from this one")]
    Proxies,
    /// The clock was set, or the machine has slept.
    #[error("the clock of the system was set, by {0} ms, and no proxy has confirmed it for five minutes")]
    Stepped(u64),
}

/// Says when to remove what has ended.
#[derive(Debug)]
pub struct Pruning {
    /// The clock of the system when it was last believed, in milliseconds since 1970, and the time that never steps.
    believed: (u64, Instant),
    /// Since when the proxies have agreed with a clock that was set.
    agreed: Option<Instant>,
}

impl Pruning {
    /// Believes `clock` as it is at the start, `now`.
    pub fn new(clock: &Clock, now: Instant) -> Pruning {
        Pruning { believed: (clock.system_ms(), now), agreed: None }
    }

    /// The time until which everything that ended may be removed. `skew`: how far the clocks of the proxies are ahead, in
    /// milliseconds; `None`: none follows. To be called each minute or so.
    ///
    /// The clock of the hub never goes back, so after the clock of the system was set back it is ahead of it: the earlier
    /// one counts.
    pub fn until(&mut self, clock: &Clock, now: Instant, skew: Option<i64>) -> Result<Timestamp, Doubt> {
        if skew.is_some_and(|skew| skew.unsigned_abs() > MAX_SKEW.unsigned_abs()) {
            self.agreed = None;
            return Err(Doubt::Proxies);
        }
        let system = clock.system_ms();
        let (then, since) = self.believed;
        let passed = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        let step = system.abs_diff(then.saturating_add(passed));
        if step > MAX_STEP && !self.is_agreed(now, skew.is_some()) {
            return Err(Doubt::Stepped(step));
        }
        (self.believed, self.agreed) = ((system, now), None);
        Ok(Timestamp(system.min(clock.now_ms()) / 1_000))
    }

    /// What proxies say is from before the step at first.
    fn is_agreed(&mut self, now: Instant, agrees: bool) -> bool {
        if !agrees {
            self.agreed = None;
            return false;
        }
        now.duration_since(*self.agreed.get_or_insert(now)) >= AGREED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::model::Change;
    use crate::store::sqlite::SqliteStore;
    use crate::store::testing::{commit, signal, store};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const DAY: u64 = 86_400_000;
    const DAY_AHEAD: i64 = 86_400_000;

    /// A hub of which the clock of the system can be set, whose store has an entry that ends in an hour.
    struct TestHub {
        store: SqliteStore,
        _folder: tempfile::TempDir,
        system: Arc<AtomicU64>,
        clock: Clock,
        begun: Instant,
        /// In milliseconds since it began.
        passed: u64,
        pruning: Pruning,
    }

    impl TestHub {
        fn new() -> TestHub {
            let (store, _folder) = store();
            commit(&store, Change::Signal(signal("idp", "1", &[("a", 1_000 + 3_600)])));
            let system = Arc::new(AtomicU64::new(1_000_000));
            let read = Arc::clone(&system);
            let clock = Clock::with_system(&store, move || read.load(Ordering::Relaxed)).unwrap();
            let begun = Instant::now();
            let pruning = Pruning::new(&clock, begun);
            TestHub { store, _folder, system, clock, begun, passed: 0, pruning }
        }

        /// A minute passes, and the clock is set by `step`.
        fn minute(&mut self, step: i64, skew: Option<i64>) -> Result<u64, Doubt> {
            self.passed += 60_000;
            let system = self.system.load(Ordering::Relaxed).saturating_add(60_000).saturating_add_signed(step);
            self.system.store(system, Ordering::Relaxed);
            let now = self.begun + Duration::from_millis(self.passed);
            self.clock.now_ms();
            self.pruning.until(&self.clock, now, skew).map(|until| self.store.prune(until).unwrap())
        }
    }

    #[test]
    fn a_clock_that_was_ahead_once_removes_nothing() {
        let mut hub = TestHub::new();
        assert_eq!(hub.minute(0, None), Ok(0));
        assert_eq!(hub.minute(DAY_AHEAD, None), Err(Doubt::Stepped(DAY)));
        assert_eq!(hub.minute(0, None), Err(Doubt::Stepped(DAY)), "it stays so");
        // The clock of the hub stands still a day ahead, and the entry has not ended.
        assert_eq!(hub.minute(-DAY_AHEAD, None), Ok(0));
        assert_eq!(hub.clock.lag(), DAY - 60_000);
        for _ in 0..54 {
            assert_eq!(hub.minute(500, Some(0)), Ok(0), "a clock may be adjusted");
        }
        assert_eq!(hub.minute(0, None), Ok(0));
        assert_eq!(hub.minute(0, None), Ok(1), "it has ended now");
    }

    #[test]
    fn a_clock_that_proxies_contradict_removes_nothing() {
        let mut hub = TestHub::new();
        hub.system.store(1_000_000 + DAY, Ordering::Relaxed);
        hub.pruning = Pruning::new(&hub.clock, hub.begun);
        assert_eq!(hub.minute(0, Some(-DAY_AHEAD)), Err(Doubt::Proxies), "it was ahead at the start");
        assert_eq!(hub.minute(0, Some(-60_000)), Ok(1), "most agree that it is a day later");
    }

    #[test]
    fn a_clock_that_was_set_right_is_believed_in_time() {
        let mut hub = TestHub::new();
        assert_eq!(hub.minute(DAY_AHEAD, Some(0)), Err(Doubt::Stepped(DAY)));
        for _ in 0..3 {
            assert_eq!(hub.minute(0, Some(0)), Err(Doubt::Stepped(DAY)));
        }
        assert_eq!(hub.minute(0, None), Err(Doubt::Stepped(DAY)), "the proxies have gone");
        for _ in 0..5 {
            assert_eq!(hub.minute(0, Some(9)), Err(Doubt::Stepped(DAY)));
        }
        assert_eq!(hub.minute(0, Some(9)), Ok(1));
        assert_eq!(hub.minute(0, None), Ok(0));
    }
}
