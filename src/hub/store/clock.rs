//! The clock of the hub. It never runs behind what the store holds, nor behind itself.

use crate::store::Store;
use crate::store::model::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
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
    fn the_clock_of_the_system_is_in_milliseconds() {
        let (store, _folder) = store();
        let now = Clock::new(&store).unwrap().now();
        assert!((Timestamp(1_700_000_000)..Timestamp::MAX).contains(&now));
    }
}
