//! What the proxy shows about the state that its workers share: how many entries it has, and how old it is.

use crate::host::Gauge;
use std::cell::Cell;
use taskfence_core::time::Timestamp;

thread_local! {
    // A VM has one thread.
    static ENTRIES: Cell<Option<Gauge>> = const { Cell::new(None) };
}

/// Shows that a bucket with `before` entries has `after` now. All workers change one gauge, which therefore shows the sum
/// over all buckets.
pub fn entries_changed(before: usize, after: usize) {
    let wide = |count| u64::try_from(count).unwrap_or(u64::MAX);
    let gauge = ENTRIES.get().unwrap_or_else(|| Gauge::define("taskfence.state_entries"));
    ENTRIES.set(Some(gauge));
    gauge.shift(wide(before), wide(after));
}

/// Shows how long ago the transmitter was heard of that has been silent for the longest time. Before it was ever heard of,
/// this is the time since 1970.
pub fn show_age(heard_of_all: Timestamp, now: Timestamp) {
    Gauge::define("taskfence.state_age_seconds").set(now.since(heard_of_all).0);
}
