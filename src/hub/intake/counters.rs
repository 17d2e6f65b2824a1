//! What the intake of one feed counts, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use taskfence_core::signal::set_error::SetErrorCode;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one feed.
#[derive(Debug, Default)]
pub struct Counters {
    /// Signals that were stored with entries.
    pub taken: Counter,
    /// Signals that were accepted and have no entries: verification events, and events without effect here.
    pub without_effect: Counter,
    /// Signals that had been stored before.
    pub repeated: Counter,
    /// SETs whose `jti` had been used for another SET.
    pub contradicted: Counter,
    /// SETs that were refused, in the order of [`SetErrorCode::ALL`].
    refused: [Counter; SetErrorCode::ALL.len()],
    /// Requests that were no push: their path, method, media type or length, or a caller without the role.
    pub not_a_push: Counter,
    /// Signals that were not stored because their class of entries is full.
    pub no_room: Counter,
    /// Signals that were not stored because too many were waiting.
    pub overloaded: Counter,
    /// Signals that were not stored because the store failed.
    pub failed: Counter,
    /// Signals that may affect more than their transmitter intended: members were ignored, or the time was ahead.
    pub alarming: Counter,
    /// Signals with an irregularity.
    pub odd: Counter,
    /// Signals whose subject no grant can match.
    pub unknown_subject: Counter,
    /// Signals of operators that were stored.
    pub by_operators: Counter,
    /// Fetches of key sets that succeeded.
    pub keys_fetched: Counter,
    /// Fetches of key sets that failed.
    pub keys_failed: Counter,
}

impl Counters {
    /// The number of SETs that were refused with `code`.
    pub fn refused(&self, code: SetErrorCode) -> &Counter {
        let at = SetErrorCode::ALL.iter().position(|known| *known == code);
        // Every code is in the list.
        at.and_then(|at| self.refused.get(at)).unwrap_or(&self.not_a_push)
    }
}
