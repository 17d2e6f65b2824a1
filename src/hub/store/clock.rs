//! The clock of the hub. It never runs behind what the store holds, nor behind itself.

use crate::store::Store;
use crate::store::model::StoreError;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use taskfence_core::time::Timestamp;

/// The clock of the hub may differ from the median of the proxies' clocks by so many milliseconds.
pub const MAX_SKEW: i64 = 60_000;

/// The clock of the hub. Clones are the same clock.
///
/// If the clock of the system is behind what was stored, or is set back, this one stands still until the other has
/// caught up: [`Clock::lag`] says for how long.
#[derive(Clone)]
pub struct Clock {
    latest: Arc<AtomicU64>,
    system: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Clock {
    /// The clock that goes on from the latest time in `store`.
    pub fn new(store: &dyn Store) -> Result<Clock, StoreError> {
        Clock::with_system(store, system_time)
    }

    /// The same, where `system` is the clock of the system, in milliseconds since 1970.
    pub fn with_system(
        store: &dyn Store,
        system: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Clock, StoreError> {
        Ok(Clock { latest: Arc::new(AtomicU64::new(store.latest_time()?)), system: Arc::new(system) })
    }

    /// The time in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let system = (self.system)();
        self.latest.fetch_max(system, Ordering::AcqRel).max(system)
    }

    /// The time in seconds.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now_ms() / 1000)
    }

    /// The clock of the system, which may be set back, in milliseconds since 1970.
    pub fn system_ms(&self) -> u64 {
        (self.system)()
    }

    /// How far the clock of the system is behind this one, in milliseconds. 0: it is not.
    pub fn lag(&self) -> u64 {
        self.now_ms().saturating_sub((self.system)())
    }
}

/// The time of the store, between two looks at its clock. Clones are the same.
///
/// The store is asked before the answer comes, so the time that passes since the answer is added to what it said: the result
/// is never later than the true time of the store. The best of the last looks counts, which is the one that was answered
/// fastest. The clock of this machine is not used, and may be set to anything.
#[derive(Debug, Clone, Default)]
pub struct StoreTime {
    /// What each look says: the time of the store at the moment of the answer, at least.
    looks: Arc<Mutex<VecDeque<(u64, Instant)>>>,
}

/// So many looks are kept: clocks drift apart by less than a millisecond in as many seconds.
const LOOKS: usize = 8;

impl StoreTime {
    /// The time of `store`, after a first look.
    pub fn new(store: &dyn Store) -> Result<StoreTime, StoreError> {
        let time = StoreTime::default();
        time.look(store)?;
        Ok(time)
    }

    /// Looks at the clock of `store`. Call it each second. Blocks.
    pub fn look(&self, store: &dyn Store) -> Result<(), StoreError> {
        let said = store.now_ms()?;
        self.note(said, Instant::now());
        Ok(())
    }

    /// The clock of the store said `said` before `answered`.
    fn note(&self, said: u64, answered: Instant) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.push_back((said, answered));
        if looks.len() > LOOKS {
            looks.pop_front();
        }
    }

    /// The time in milliseconds since 1970: never later than the time of the store.
    pub fn now_ms(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> u64 {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |answered: Instant| u64::try_from(now.saturating_duration_since(answered).as_millis());
        let at = |(said, answered): &(u64, Instant)| said.saturating_add(since(*answered).unwrap_or(u64::MAX));
        looks.iter().map(at).max().unwrap_or_default()
    }
}

/// The clock of the system, in milliseconds since 1970; 0 before that.
pub(super) fn system_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::model::Change;
    use crate::store::testing::{commit, open, signal, store};
    use std::time::Duration;

    #[test]
    fn time_never_goes_back_behind_itself_nor_behind_the_store() {
        let (store, folder) = store();
        let system = Arc::new(AtomicU64::new(500));
        let clock = |store: &dyn Store| {
            let system = Arc::clone(&system);
            Clock::with_system(store, move || system.load(Ordering::Relaxed)).unwrap()
        };
        let first = clock(&store);
        assert_eq!((first.now_ms(), first.lag()), (500, 0));
        system.store(7_999, Ordering::Relaxed);
        assert_eq!((first.now_ms(), first.now()), (7_999, Timestamp(7)));
        system.store(6_000, Ordering::Relaxed);
        assert_eq!((first.now_ms(), first.clone().now_ms(), first.lag()), (7_999, 7_999, 1_999));
        // The signal was taken in at 1,000 s.
        commit(&store, Change::Signal(signal("idp", "1", &[("a", 9_000)])));
        drop(store);
        let second = clock(&open(&folder));
        assert_eq!(second.now(), Timestamp(1_000));
        system.store(2_000_000, Ordering::Relaxed);
        assert_eq!((second.now(), second.lag()), (Timestamp(2_000), 0));
    }

    #[test]
    fn the_time_of_the_store_is_never_said_to_be_later_than_it_is() {
        let (time, begin) = (StoreTime::default(), Instant::now());
        let ms = |ms| begin + Duration::from_millis(ms);
        // The store said 10,000 at once, and its answer took 300 ms.
        time.note(10_000, ms(300));
        assert_eq!((time.at(ms(300)), time.at(ms(800))), (10_000, 10_500), "true are 10,300 and 10,800");
        time.note(11_000, ms(1_010));
        assert_eq!(time.at(ms(1_010)), 11_000, "the faster answer counts");
        time.note(12_000, ms(2_500));
        assert_eq!(time.at(ms(2_500)), 12_490, "the slow one takes nothing back");
        for n in 3..=10 {
            time.note(n * 1_000, ms(n * 1_000 + 200));
        }
        assert_eq!(time.at(ms(10_200)), 10_000, "what is old does not count any more");
    }

    #[test]
    fn the_clock_of_the_system_is_in_milliseconds() {
        let (store, _folder) = store();
        let now = Clock::new(&store).unwrap().now();
        assert!((Timestamp(1_700_000_000)..Timestamp::MAX).contains(&now));
    }
}
