//! How often pages of changes go out. Taking signals in comes first: the next round of pages waits until serving pages has
//! taken no more than half of the CPU, and no more than the configured bandwidth, since the rounds before it.
//!
//! The first change after a quiet time goes out at once. What a round costs is measured while it is served:
//! [`serve`](crate::serve) reads the CPU time of the thread around each poll of a connection, and the handler says which
//! polls belong to pages.

use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No change waits longer. A proxy that is behind for longer would be seen as stale.
pub const MAX_WAIT: Duration = Duration::from_secs(1);

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
        self.charge_poll();
    }

    /// Charges the running poll of a connection to this meter.
    pub fn charge_poll(self: &Arc<Self>) {
        CHARGED.with_borrow_mut(|charged| *charged = Some(self.clone()));
    }

    /// Begins a poll: the CPU time of this thread so far. The time in which the thread did not run is not in it.
    pub fn begin_poll() -> Duration {
        cpu_of_thread()
    }

    /// Ends the poll that began at `begin`.
    pub fn end_poll(begin: Duration) {
        if let Some(meter) = CHARGED.take() {
            meter.add(cpu_of_thread().saturating_sub(begin));
        }
    }

    /// Adds CPU time that was spent on pages.
    pub fn add(&self, time: Duration) {
        self.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many pages were sent so far.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// The CPU time and the bytes so far.
    pub fn total(&self) -> (Duration, u64) {
        (Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)), self.bytes.load(Ordering::Relaxed))
    }
}

fn cpu_of_thread() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// What rounds of pages have used beyond their share.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The CPUs of the machine.
    cpus: u32,
    /// Bytes a second. `None`: not limited.
    bandwidth: Option<u64>,
    /// What the meter had counted at `at`.
    counted: (Duration, u64),
    at: Instant,
    /// How long nothing may be used, from `at` on, until the share is kept again: of the CPU, and of the bandwidth.
    owed: (Duration, Duration),
}

impl Pace {
    /// For a machine with `cpus`, and at most `bandwidth` bytes a second.
    pub fn new(cpus: u64, bandwidth: Option<u64>, now: Instant) -> Pace {
        let cpus = u32::try_from(cpus.max(1)).unwrap_or(u32::MAX);
        Pace { cpus, bandwidth, counted: (Duration::ZERO, 0), at: now, owed: (Duration::ZERO, Duration::ZERO) }
    }

    /// How long the next round must wait, given what `meter` has counted until `now`, and how many feeds share the CPUs.
    /// Zero: it may begin.
    pub fn wait(&mut self, meter: &Meter, now: Instant, sharing: u32) -> Duration {
        let (total, passed) = (meter.total(), now.saturating_duration_since(self.at));
        let time = total.0.saturating_sub(self.counted.0);
        let bytes = total.1.saturating_sub(self.counted.1);
        // Half of the CPUs: what took t on one CPU is paid for in 2 t / CPUs.
        let for_cpu = time.saturating_mul(2).saturating_mul(sharing).checked_div(self.cpus).unwrap_or_default();
        let for_wire = self.bandwidth.and_then(|limit| bytes.saturating_mul(1_000_000).checked_div(limit)).unwrap_or(0);
        let owe = |owed: Duration, more: Duration| owed.saturating_add(more).saturating_sub(passed).min(MAX_WAIT);
        self.owed = (owe(self.owed.0, for_cpu), owe(self.owed.1, Duration::from_micros(for_wire)));
        (self.counted, self.at) = (total, now);
        self.owed.0.max(self.owed.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_round_waits_until_those_before_it_have_used_no_more_than_half() {
        let (meter, begin) = (Arc::new(Meter::default()), Instant::now());
        let mut pace = Pace::new(2, None, begin);
        assert_eq!(pace.wait(&meter, begin, 1), Duration::ZERO, "the first");
        meter.add(80 * MS);
        assert_eq!(pace.wait(&meter, begin + 30 * MS, 1), 50 * MS, "half of two CPUs is one");
        meter.add(20 * MS);
        assert_eq!(pace.wait(&meter, begin + 60 * MS, 1), 40 * MS);
        assert_eq!(pace.wait(&meter, begin + 100 * MS, 1), Duration::ZERO);
        meter.add(80 * MS);
        assert_eq!(pace.wait(&meter, begin + 500 * MS, 1), Duration::ZERO, "it was served, and then it was quiet");
        meter.add(20 * MS);
        assert_eq!(pace.wait(&meter, begin + 501 * MS, 1), 19 * MS, "a quiet time is not saved up");
        meter.add(Duration::from_secs(9));
        assert_eq!(pace.wait(&meter, begin + 502 * MS, 1), MAX_WAIT);
        let (meter, mut pace) = (Arc::new(Meter::default()), Pace::new(2, None, begin));
        meter.add(80 * MS);
        assert_eq!(pace.wait(&meter, begin, 3), 240 * MS, "a third of it");
        let mut pace = Pace::new(8, None, begin);
        pace.wait(&meter, begin + Duration::from_secs(9), 1);
        meter.add(80 * MS);
        assert_eq!(pace.wait(&meter, begin + Duration::from_secs(9), 1), 20 * MS, "half of eight CPUs");
    }

    #[test]
    fn the_bandwidth_limits_too() {
        let (meter, begin) = (Arc::new(Meter::default()), Instant::now());
        let mut pace = Pace::new(2, Some(1_000_000), begin);
        meter.charge(250_000);
        meter.add(MS);
        assert_eq!(pace.wait(&meter, begin, 1), 250 * MS);
        assert_eq!(pace.wait(&meter, begin + 100 * MS, 1), 150 * MS);
    }

    #[test]
    fn a_poll_costs_its_cpu_time_if_it_was_charged() {
        let meter = Arc::new(Meter::default());
        let spend = || {
            let begin = Meter::begin_poll();
            while Meter::begin_poll().saturating_sub(begin) < 3 * MS {}
            std::thread::sleep(50 * MS);
            begin
        };
        Meter::end_poll(spend());
        assert_eq!(meter.total().0, Duration::ZERO, "nobody charged it");
        let begin = spend();
        meter.charge(7);
        Meter::end_poll(begin);
        let (time, bytes) = meter.total();
        assert!((3 * MS..40 * MS).contains(&time), "{time:?}: to sleep costs nothing");
        assert_eq!((bytes, meter.pages()), (7, 1));
        Meter::end_poll(spend());
        assert_eq!(meter.total().0, time, "the charge is for one poll");
    }
}
