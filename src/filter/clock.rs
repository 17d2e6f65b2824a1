//! The time, from the proxy.

use crate::host::{self};
use std::cell::Cell;
use taskfence_core::time::Timestamp;

thread_local! {
    // A VM has one thread. When the clock was read last, in milliseconds since 1970.
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// The time, from the proxy.
pub fn now() -> Option<Timestamp> {
    milliseconds().map(|milliseconds| Timestamp(milliseconds / 1_000))
}

/// The time in milliseconds since 1970, from the proxy.
pub fn milliseconds() -> Option<u64> {
    let milliseconds = host::now_nanoseconds().ok()? / 1_000_000;
    LAST.set(milliseconds);
    Some(milliseconds)
}

/// The time that was read last in this VM, for what was decided at that time: it costs no call to the proxy.
pub fn last_milliseconds() -> u64 {
    LAST.get()
}
