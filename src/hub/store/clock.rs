//! The clock of the hub. It never runs behind what the store holds, nor behind itself.

use crate::store::Store;
use crate::store::model::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use taskfence_core::time::Timestamp;

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

    /// How far the clock of the system is behind this one, in milliseconds. 0: it is not.
    pub fn lag(&self) -> u64 {
        self.now_ms().saturating_sub((self.system)())
    }
}

/// The clock of the system, in milliseconds since 1970; 0 before that.
fn system_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
