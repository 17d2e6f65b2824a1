//! What the proxy shows about the uses that it counts.

use crate::host::{Counter, Gauge};
use taskfence_core::uses::sender::{Outcome, Posted};
use taskfence_core::uses::table::Totals;

/// Counters of one plugin, and a gauge of its feed.
#[derive(Debug)]
pub struct UsesMetrics {
    counted: Counter,
    other: Counter,
    records_dropped: Counter,
    gaps: Counter,
    taken: Counter,
    failed: Counter,
    unknown: Counter,
    dropped: Counter,
    unsent: Gauge,
}

impl UsesMetrics {
    /// Defines them.
    pub fn define(feed: &str) -> UsesMetrics {
        let batches = |result: &str| Counter::define(&format!("taskfence.uses_batches.{result}"));
        UsesMetrics {
            counted: Counter::define("taskfence.uses_counted"),
            other: Counter::define("taskfence.uses_other"),
            records_dropped: Counter::define("taskfence.uses_records_dropped"),
            gaps: Counter::define("taskfence.uses_gaps"),
            taken: batches("taken"),
            failed: batches("failed"),
            unknown: batches("unknown"),
            dropped: batches("dropped"),
            unsent: Gauge::define(&format!("taskfence.uses_unsent_seconds.{feed}")),
        }
    }

    /// Shows what was counted between two times.
    pub fn counted(&self, before: Totals, after: Totals) {
        for (counter, before, after) in [
            (self.counted, before.counted, after.counted),
            (self.other, before.other, after.other),
            (self.records_dropped, before.records_dropped, after.records_dropped),
        ] {
            if after > before {
                counter.add(after.saturating_sub(before));
            }
        }
    }

    /// Shows how a post went.
    pub fn posted(&self, outcome: &Outcome) {
        let counter = match outcome.posted {
            Posted::Taken => self.taken,
            Posted::Failed(_) => self.failed,
            Posted::Unknown => self.unknown,
            Posted::Dropped(_) => self.dropped,
        };
        counter.add(outcome.batches);
        self.gaps.add(outcome.gaps);
    }

    /// Shows how old the oldest use is that the hub does not have, in milliseconds.
    pub fn unsent(&self, age: u64) {
        self.unsent.set(age / 1_000);
    }
}
