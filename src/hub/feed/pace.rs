//! How often pages of changes go out. Taking signals in comes first: the pause between two rounds of pages grows until
//! serving them takes half of the CPU, and no more than the configured bandwidth.
//!
//! The first change after a quiet time goes out at once. What a round costs is measured: [`serve`](crate::serve) times
//! each poll of a connection, and the handler says of which polls the time belongs to pages.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// No pause is longer. A proxy that is behind for longer would be seen as stale.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What pages have cost since the hub started.
#[derive(Debug, Default)]
pub struct Meter {
    nanoseconds: AtomicU64,
    bytes: AtomicU64,
    pages: AtomicU64,
}

thread_local! {
    /// The meter that the running poll is charged to.
    static CHARGED: RefCell<Option<Arc<Meter>>> = const { RefCell::new(None) };
}

impl Meter {
    /// Charges the running poll of a connection to this meter, and the `bytes` of the page that it sends.
    pub fn charge(self: &Arc<Self>, bytes: usize) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        CHARGED.with_borrow_mut(|charged| *charged = Some(self.clone()));
    }

    /// Ends a poll that took `time`.
    pub fn end_poll(time: Duration) {
        if let Some(meter) = CHARGED.take() {
            meter.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How many pages were sent so far.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// The time and the bytes so far.
    pub fn total(&self) -> (Duration, u64) {
        (Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)), self.bytes.load(Ordering::Relaxed))
    }
}

/// The pause between two rounds.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The CPUs of the machine.
    cpus: u64,
    /// Bytes a second. `None`: not limited.
    bandwidth: Option<u64>,
    last: (Duration, u64),
    pause: Duration,
}

impl Pace {
    /// For a machine with `cpus`, and at most `bandwidth` bytes a second.
    pub fn new(cpus: u64, bandwidth: Option<u64>) -> Pace {
        Pace { cpus: cpus.max(1), bandwidth, last: (Duration::ZERO, 0), pause: Duration::ZERO }
    }

    /// The pause before the next round, given what `meter` has counted until now, and how many feeds share the CPUs. Called
    /// once a round.
    pub fn next(&mut self, meter: &Meter, sharing: u32) -> Duration {
        let total = meter.total();
        let time = total.0.saturating_sub(self.last.0);
        let bytes = total.1.saturating_sub(self.last.1);
        self.last = total;
        // Half of the CPUs: a round that took t on one CPU may come each 2 t / CPUs.
        let for_cpu =
            time.saturating_mul(2).saturating_mul(sharing).checked_div(u32::try_from(self.cpus).unwrap_or(u32::MAX));
        let for_wire = self.bandwidth.map(|limit| bytes.saturating_mul(1_000_000).checked_div(limit).unwrap_or(0));
        let wanted = for_cpu.unwrap_or_default().max(Duration::from_micros(for_wire.unwrap_or(0)));
        // It grows at once, and shrinks by halves: the cost of one round says little.
        let half = self.pause.checked_div(2).unwrap_or_default();
        self.pause = wanted.max(half).min(MAX_PAUSE);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(meter: &Arc<Meter>, time: Duration, bytes: usize) {
        meter.charge(bytes);
        Meter::end_poll(time);
    }

    #[test]
    fn the_pause_follows_the_cost_of_a_round() {
        let meter = Arc::new(Meter::default());
        let mut pace = Pace::new(2, None);
        assert_eq!(pace.next(&meter, 1), Duration::ZERO);
        round(&meter, Duration::from_millis(80), 0);
        assert_eq!(pace.next(&meter, 1), Duration::from_millis(80), "half of two CPUs");
        assert_eq!(pace.next(&meter, 1), Duration::from_millis(40), "it shrinks by halves");
        round(&meter, Duration::from_millis(80), 0);
        assert_eq!(pace.next(&meter, 3), Duration::from_millis(240), "a third of it");
        round(&meter, Duration::from_secs(9), 0);
        assert_eq!(pace.next(&meter, 1), MAX_PAUSE);
        Meter::end_poll(Duration::from_secs(9));
        assert_eq!(meter.total().0, Duration::from_millis(9_160), "a poll that nobody charged costs nothing");
    }

    #[test]
    fn the_bandwidth_limits_too() {
        let meter = Arc::new(Meter::default());
        let mut pace = Pace::new(2, Some(1_000_000));
        round(&meter, Duration::from_millis(1), 250_000);
        assert_eq!(pace.next(&meter, 1), Duration::from_millis(250));
    }
}
