//! Counters, defined once per plugin. Envoy shows them as `wasmcustom.NAME`, to Prometheus without that prefix.

use crate::host::Counter;
use taskfence_core::reason::Reason;
use taskfence_core::signal::SetErrorCode;

/// The counters of one plugin.
#[derive(Debug)]
pub struct Metrics {
    allowed: Counter,
    denied: Vec<(Reason, Counter)>,
    applied: Counter,
    failed: Counter,
    refused: Vec<(SetErrorCode, Counter)>,
}

impl Metrics {
    /// Defines them.
    pub fn define() -> Metrics {
        let denied = |reason: &Reason| (*reason, Counter::define(&format!("taskfence.denied.{}", reason.code())));
        let refused =
            |code: SetErrorCode| (code, Counter::define(&format!("taskfence.signals_refused.{}", code.code())));
        Metrics {
            allowed: Counter::define("taskfence.allowed"),
            denied: Reason::ALL.iter().map(denied).collect(),
            applied: Counter::define("taskfence.signals_applied"),
            failed: Counter::define("taskfence.signals_failed"),
            refused: SetErrorCode::ALL.into_iter().map(refused).collect(),
        }
    }

    /// A request passed.
    pub fn allowed(&self) {
        self.allowed.increment();
    }

    /// A request was refused.
    pub fn denied(&self, reason: Reason) {
        if let Some((_, counter)) = self.denied.iter().find(|(known, _)| *known == reason) {
            counter.increment();
        }
    }

    /// A signal was applied.
    pub fn applied(&self) {
        self.applied.increment();
    }

    /// A signal was good and could not be applied.
    pub fn failed(&self) {
        self.failed.increment();
    }

    /// A push was refused.
    pub fn refused(&self, code: SetErrorCode) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == code) {
            counter.increment();
        }
    }
}
