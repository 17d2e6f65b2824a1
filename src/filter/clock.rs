//! The time, from the proxy.

use crate::host::{self};
use taskfence_core::time::Timestamp;

/// The time, from the proxy.
pub fn now() -> Option<Timestamp> {
    host::now_nanoseconds().ok().map(|nanoseconds| Timestamp(nanoseconds / 1_000_000_000))
}
