//! Compiles `evidence`.

use crate::config::model::{EvidenceConfig, HubConfig};
use crate::config::problem::{Found, Problem};
use taskfence_core::time::Span;

/// The longest that evidence is kept, in days: ten years.
const MOST_DAYS: u64 = 3_660;

/// The shortest period: each one costs every worker of every proxy a request.
const SHORTEST: Span = Span(1);

/// The longest period: a worker that is replaced loses what it has counted in one.
const LONGEST: Span = Span::minutes(10);

/// How much evidence is kept.
pub(super) fn evidence(config: &HubConfig, found: &mut Found) -> EvidenceConfig {
    let evidence = config.evidence.clone().unwrap_or_default();
    if evidence.days > MOST_DAYS {
        found.errors.push(Problem::at("evidence.days", format!("must be at most {MOST_DAYS}")));
    }
    if evidence.mib == 0 {
        found.error("evidence.mib", "must be at least 1", "write `days: 0` to keep no evidence");
    }
    if evidence.period < SHORTEST || evidence.period > LONGEST {
        found.errors.push(Problem::at("evidence.period", format!("must be between {SHORTEST} and {LONGEST}")));
    }
    evidence
}
