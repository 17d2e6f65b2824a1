//! The gauge `taskfence.state_doorbell`, which tells workers that the state has changed. All workers share it, and
//! reading it costs a fraction of what reading shared data costs.
//!
//! Each change of the state adds a random number, so the gauge does not show the same value twice. In a hot restart the
//! proxy adds the value of the other process and subtracts it later; a random number makes that safe too. The value
//! itself has no meaning. Readers only compare it with the last one. To "ring" the doorbell is to change this gauge.

use crate::host::{Gauge, HostError};
use std::cell::Cell;

thread_local! {
    // A VM has one thread. The gauge that this worker reads. `None`: it reads the version of the state at each request.
    static READ: Cell<Option<Gauge>> = const { Cell::new(None) };
    // The gauge that this worker changes.
    static RUNG: Cell<Option<Gauge>> = const { Cell::new(None) };
}

/// Defines the gauge, and changes it once to find out whether it can be read: the proxy may be configured to leave out
/// this statistic.
pub fn set_up() {
    let gauge = Gauge::define("taskfence.state_doorbell");
    RUNG.set(Some(gauge));
    let changes = || {
        let before = gauge.value()?;
        ring()?;
        Ok::<_, HostError>(gauge.value()? != before)
    };
    READ.set(Some(gauge).filter(|_| changes() == Ok(true)));
}

/// The value of the gauge; `None` where it cannot be read.
pub fn number() -> Option<u64> {
    READ.get().and_then(|gauge| gauge.value().ok())
}

/// Changes the gauge. Fails where the proxy does not allow it: then workers that rely on the gauge would miss the
/// change.
pub fn ring() -> Result<(), HostError> {
    let mut bytes = [0; 4];
    // If the proxy has no random numbers, the value grows by one.
    let _ = getrandom::fill(&mut bytes);
    RUNG.get().ok_or(HostError::NotFound)?.add(u32::from_le_bytes(bytes).max(1))
}
