//! Counters, defined once per plugin. Envoy shows them as `wasmcustom.NAME`, to Prometheus without that prefix.

use crate::host::{Counter, Histogram};
use taskfence_core::reason::Reason;
use taskfence_core::signal::set_error::SetErrorCode;

/// The counters of one plugin.
#[derive(Debug)]
pub struct Metrics {
    /// A request passed.
    pub allowed: Counter,
    /// A request passed only because break-glass lifted a requirement.
    pub broken_glass: Counter,
    /// A signal was applied.
    pub applied: Counter,
    /// A signal was good and is about nothing that we act on.
    pub ignored: Counter,
    /// A signal was good and its subject names nothing that grants are known by.
    pub nobody: Counter,
    /// A signal was applied although something about it is odd: a member of the wrong shape, or one that is missing.
    pub odd: Counter,
    /// A signal was applied to more than it may have meant, or was dated in the future: somebody should look at it.
    pub alarming: Counter,
    /// A signal had the name of another that said something else.
    pub contradictory: Counter,
    /// A request was refused because its grant lacks what a signal names beside what it has.
    pub indeterminate: Counter,
    /// A signal was good and could not be applied.
    pub failed: Counter,
    /// How long a stream went on after the state of this proxy had changed, in milliseconds.
    pub end_delay: Histogram,
    /// Something that is no push came to the receiver.
    pub not_a_push: Counter,
    denied: Vec<(Reason, Counter)>,
    shadowed: Vec<(Reason, Counter)>,
    ended: Vec<(Reason, Counter)>,
    shadow_ended: Vec<(Reason, Counter)>,
    refused: Vec<(SetErrorCode, Counter)>,
}

impl Metrics {
    /// Defines them.
    pub fn define() -> Metrics {
        Metrics {
            allowed: Counter::define("taskfence.allowed"),
            broken_glass: Counter::define("taskfence.break_glass"),
            applied: Counter::define("taskfence.signals_applied"),
            ignored: Counter::define("taskfence.signals_ignored"),
            nobody: Counter::define("taskfence.signals_nobody"),
            odd: Counter::define("taskfence.signals_odd"),
            alarming: Counter::define("taskfence.signals_alarming"),
            contradictory: Counter::define("taskfence.signals_contradictory"),
            indeterminate: Counter::define("taskfence.indeterminate_match"),
            failed: Counter::define("taskfence.signals_failed"),
            end_delay: Histogram::define("taskfence.end_delay_ms"),
            not_a_push: Counter::define("taskfence.not_a_push"),
            denied: family("denied", Reason::ALL.iter().copied(), Reason::code),
            shadowed: family("shadow_denied", Reason::ALL.iter().copied(), Reason::code),
            ended: family("ended", Reason::ALL.iter().copied(), Reason::code),
            shadow_ended: family("shadow_ended", Reason::ALL.iter().copied(), Reason::code),
            refused: family("signals_refused", SetErrorCode::ALL, SetErrorCode::code),
        }
    }

    /// A request was refused.
    pub fn denied(&self, reason: Reason) {
        increment(&self.denied, reason);
    }

    /// A request passed that would have been refused if refusals were enforced.
    pub fn shadowed(&self, reason: Reason) {
        increment(&self.shadowed, reason);
    }

    /// A live stream was ended.
    pub fn ended(&self, reason: Reason) {
        increment(&self.ended, reason);
    }

    /// A live stream went on that would have been ended if refusals were enforced.
    pub fn shadow_ended(&self, reason: Reason) {
        increment(&self.shadow_ended, reason);
    }

    /// A push was refused.
    pub fn refused(&self, code: SetErrorCode) {
        increment(&self.refused, code);
    }
}

/// Part of a metric's name. A cluster or a `vm_id` may have any name; a metric may not.
pub fn metric_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect()
}

fn family<T: Copy>(
    name: &str,
    members: impl IntoIterator<Item = T>,
    code: impl Fn(T) -> &'static str,
) -> Vec<(T, Counter)> {
    members.into_iter().map(|member| (member, Counter::define(&format!("taskfence.{name}.{}", code(member))))).collect()
}

fn increment<T: Copy + PartialEq>(family: &[(T, Counter)], member: T) {
    if let Some((_, counter)) = family.iter().find(|(known, _)| *known == member) {
        counter.increment();
    }
}
