//! The doorbell of the state: a gauge of the proxy, which all workers share and which costs a fraction of what reading
//! shared data does.
//!
//! Whoever rings adds a random number, so that no sum is there twice: also where the proxy adds what another process counted
//! and takes it away again, as it does in a hot restart. What the gauge shows means nothing but that it is another number.

use crate::host::{Gauge, HostError};
use std::cell::Cell;

thread_local! {
    // A VM has one thread. What a worker reads; without it, it reads the state itself.
    static READ: Cell<Option<Gauge>> = const { Cell::new(None) };
    // What a worker rings.
    static RUNG: Cell<Option<Gauge>> = const { Cell::new(None) };
}

/// Finds the doorbell, and rings it once to see whether it can be heard: a proxy may be told to keep no such statistic.
pub fn set_up() {
    let gauge = Gauge::define("taskfence.state_doorbell");
    RUNG.set(Some(gauge));
    let heard = || {
        let before = gauge.value()?;
        ring()?;
        Ok::<_, HostError>(gauge.value()? != before)
    };
    READ.set(Some(gauge).filter(|_| heard() == Ok(true)));
}

/// The number on it; `None` where there is none.
pub fn number() -> Option<u64> {
    READ.get().and_then(|gauge| gauge.value().ok())
}

/// Rings it. Fails where the proxy does not let us: then workers that hear it would not.
pub fn ring() -> Result<(), HostError> {
    let mut bytes = [0; 4];
    // Without chance one has to do.
    let _ = getrandom::fill(&mut bytes);
    RUNG.get().ok_or(HostError::NotFound)?.add(u32::from_le_bytes(bytes).max(1))
}
