//! What a rule asks of a request that carries a grant: a list of checks, tried in a fixed order.

use crate::http::spiffe::PeerPattern;
use crate::reason::Reason;
use crate::rules::condition::Condition;
use crate::rules::detail_match::DetailRequirement;
use crate::rules::evidence::Evidence;
use crate::state::fact::{Compliance, Risk};
use crate::time::{Span, Timestamp};
use crate::token::grant::Grant;
use ipnet::IpNet;
use serde_json::Value;

/// What a rule asks. All checks must hold.
#[derive(Debug, Default)]
pub struct Requirement {
    pub(crate) checks: Vec<Check>,
    pub(crate) break_glass: Option<BreakGlass>,
    pub(crate) single_use: bool,
}

/// A scope that lifts checks by name, for emergencies.
#[derive(Debug)]
pub struct BreakGlass {
    /// The scope value that a grant must hold.
    pub(crate) scope: String,
    /// The names of the checks that it lifts.
    pub(crate) lifts: Vec<&'static str>,
}

/// One thing that is asked.
#[derive(Debug)]
pub enum Check {
    /// The transmitter of signals was heard of this recently.
    StateAge(Span),
    /// Scope values: each of the first list, and one of the second if it has any.
    Scope {
        /// All of these.
        all: Vec<String>,
        /// One of these.
        any: Vec<String>,
    },
    /// One object of `authorization_details`.
    Detail(DetailRequirement),
    /// Claims with exactly these values.
    Claims(Vec<(String, Value)>),
    /// Who acts.
    Actor(ActorRequirement),
    /// Networks that the request may come from.
    Source(Vec<IpNet>),
    /// Workloads that the request may come from.
    Peer(Vec<PeerPattern>),
    /// A compliant device.
    Device {
        /// Whether a device that nobody spoke about passes.
        unknown: Unknown,
    },
    /// A risk below this.
    Risk {
        /// The first level that is too high.
        below: Risk,
        /// Whether a risk that nobody stated passes.
        unknown: Unknown,
    },
    /// A condition.
    When(Condition),
    /// The user was authenticated this recently.
    AuthAge(Span),
    /// The user was authenticated in one of these ways, the preferred one first.
    Acr(Vec<String>),
}

/// What becomes of a fact that nobody stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
}

/// Who may act for the subject.
#[derive(Debug, PartialEq, Eq)]
pub enum ActorRequirement {
    /// Nobody: no `act` claim.
    None,
    /// Somebody, whoever it is.
    Required,
    /// One of these, by `sub` of the outermost `act`.
    OneOf(Vec<String>),
}

/// What was found about one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Met,
    /// It does not hold.
    Unmet(Reason),
    /// It does not hold, and break-glass lifts it.
    Lifted(Reason),
}

impl Requirement {
    /// The checks in the order in which they are tried.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The scope that lifts some of the checks, where there is one.
    pub fn break_glass(&self) -> Option<&BreakGlass> {
        self.break_glass.as_ref()
    }

    /// Whether a token counts for one request only.
    pub fn single_use(&self) -> bool {
        self.single_use
    }

    /// Weighs one check.
    pub fn evaluate(&self, check: &Check, evidence: &Evidence<'_>) -> Outcome {
        match check.evaluate(evidence) {
            Ok(()) => Outcome::Met,
            Err(reason) if self.lifts(check, evidence) => Outcome::Lifted(reason),
            Err(reason) => Outcome::Unmet(reason),
        }
    }

    /// The scope values that a challenge names (RFC 6750 §3).
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scopes = self.checks.iter().filter_map(|check| match check {
            Check::Scope { all, any } => Some(all.iter().chain(any)),
            _ => None,
        });
        scopes.flatten().map(String::as_str)
    }

    fn lifts(&self, check: &Check, evidence: &Evidence<'_>) -> bool {
        self.break_glass
            .as_ref()
            .is_some_and(|glass| glass.lifts.contains(&check.name()) && evidence.holds_scope(&glass.scope))
    }
}

impl BreakGlass {
    /// The scope value that a grant must hold.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The names of the checks that it lifts.
    pub fn lifts(&self) -> &[&'static str] {
        &self.lifts
    }
}

impl Check {
    /// Whether a fact that nobody stated passes.
    pub fn lets_unknown_pass(&self) -> bool {
        matches!(self, Check::Device { unknown: Unknown::Allow } | Check::Risk { unknown: Unknown::Allow, .. })
    }

    /// Whether the address of the client is part of it.
    pub fn needs_source(&self) -> bool {
        match self {
            Check::Source(_) => true,
            Check::When(condition) => condition.names_source(),
            _ => false,
        }
    }

    /// Whether the client's certificate is part of it.
    pub fn needs_peer(&self) -> bool {
        matches!(self, Check::Peer(_))
    }

    /// The key of `require` that asks for it.
    pub fn name(&self) -> &'static str {
        match self {
            Check::StateAge(_) => "state_age",
            Check::Scope { .. } => "scope",
            Check::Detail(_) => "detail",
            Check::Claims(_) => "claims",
            Check::Actor(_) => "actor",
            Check::Source(_) => "source",
            Check::Peer(_) => "peer",
            Check::Device { .. } => "device",
            Check::Risk { .. } => "risk",
            Check::When(_) => "when",
            Check::AuthAge(_) => "auth_age",
            Check::Acr(_) => "acr",
        }
    }

    /// Whether it asks for what nobody knows, because there was no room for the word about it.
    fn is_in_doubt(&self, evidence: &Evidence<'_>) -> bool {
        let unknown = |until: Option<Timestamp>| until.is_some_and(|until| until > evidence.now);
        let (device, risk) = (evidence.grant_status.device_unknown_until, evidence.grant_status.risk_unknown_until);
        match self {
            Check::Device { .. } => unknown(device),
            Check::Risk { .. } => unknown(risk),
            Check::When(condition) => unknown(device.max(risk)) && condition.asks_for_context(),
            _ => false,
        }
    }

    fn evaluate(&self, evidence: &Evidence<'_>) -> Result<(), Reason> {
        if self.is_in_doubt(evidence) {
            return Err(Reason::StateSaturated);
        }
        let grant = evidence.grant;
        let changes = evidence.grant_status.changes.as_deref();
        let (holds, reason) = match self {
            Check::StateAge(longest) => (evidence.state_age() <= *longest, Reason::StateStale),
            Check::Scope { all, any } => {
                let held = |scope: &String| evidence.holds_scope(scope);
                (all.iter().all(held) && (any.is_empty() || any.iter().any(held)), Reason::ScopeInsufficient)
            }
            Check::Detail(asked) => {
                let held = grant.details.iter().any(|held| asked.is_met(held, &evidence.captures));
                let left = changes.is_none_or(|changes| changes.leave_detail(asked, &evidence.captures));
                (held && left, Reason::DetailInsufficient)
            }
            Check::Claims(asked) => {
                let met = asked.iter().all(|(name, value)| evidence.claim(name) == Some(value));
                (met, Reason::ClaimMismatch)
            }
            Check::Actor(asked) => (asked.is_met(grant), Reason::ActorRefused),
            Check::Source(networks) => {
                let met =
                    evidence.source.is_some_and(|source| networks.iter().any(|network| network.contains(&source)));
                (met, Reason::SourceRefused)
            }
            Check::Peer(patterns) => {
                let met = evidence.peer.is_some_and(|peer| patterns.iter().any(|pattern| pattern.matches(peer)));
                (met, Reason::PeerRefused)
            }
            Check::Device { unknown } => {
                let met = match evidence.grant_status.device {
                    Some(status) => status == Compliance::Compliant,
                    None => *unknown == Unknown::Allow,
                };
                (met, Reason::DeviceNotCompliant)
            }
            Check::Risk { below, unknown } => {
                let met = match evidence.grant_status.risk {
                    Some(risk) => risk < *below,
                    None => *unknown == Unknown::Allow,
                };
                (met, Reason::RiskTooHigh)
            }
            Check::When(condition) => match condition.holds(evidence) {
                Ok(holds) => (holds, Reason::ConditionFailed),
                Err(_) => (false, Reason::ConditionError),
            },
            Check::AuthAge(longest) => {
                // Without `auth_time` nobody knows when the user was there.
                let met = grant.authenticated_at.is_some_and(|at| evidence.now.since(at) <= *longest);
                (met, Reason::AuthenticationTooOld)
            }
            Check::Acr(accepted) => {
                let held = grant.acr.as_ref().is_some_and(|acr| accepted.contains(acr));
                let left = changes.is_none_or(|changes| changes.leave_assurance(accepted));
                (held && left, Reason::AssuranceInsufficient)
            }
        };
        if holds { Ok(()) } else { Err(reason) }
    }
}

impl ActorRequirement {
    fn is_met(&self, grant: &Grant) -> bool {
        match (self, grant.actors.first()) {
            (ActorRequirement::None, actor) => actor.is_none(),
            (ActorRequirement::Required, actor) => actor.is_some(),
            (ActorRequirement::OneOf(names), actor) => actor.is_some_and(|actor| names.contains(&actor.subject)),
        }
    }
}
