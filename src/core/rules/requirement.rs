//! What a rule requires of a request with a token: a list of checks, evaluated in a fixed order.

use crate::http::spiffe::PeerPattern;
use crate::reason::Reason;
use crate::rules::condition::Condition;
use crate::rules::detail_match::DetailRequirement;
use crate::rules::evidence::Evidence;
use crate::state::fact::{Compliance, Risk};
use crate::time::{Span, Timestamp};
use crate::token::claim_path::ClaimPath;
use crate::token::grant::Grant;
use ipnet::IpNet;
use serde_json::Value;

/// What a rule requires. All checks must hold.
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

/// One check of a requirement.
#[derive(Debug)]
pub enum Check {
    /// The longest time since the last signal of each transmitter with `heartbeat`.
    StateAge(Span),
    /// Scope values that the grant must contain.
    Scope {
        /// The grant must contain all of these.
        all: Vec<String>,
        /// The grant must contain at least one of these; ignored if empty.
        any: Vec<String>,
    },
    /// One object of `authorization_details`.
    Detail(DetailRequirement),
    /// Claims that must have exactly these values.
    Claims(Vec<(ClaimPath, Value)>),
    /// Who may act for the subject.
    Actor(ActorRequirement),
    /// Networks that the request may come from.
    Source(Vec<IpNet>),
    /// Workloads that the request may come from.
    Peer(Vec<PeerPattern>),
    /// A compliant device.
    Device {
        /// What happens when no signal reported the status of the device.
        unknown: Unknown,
    },
    /// A risk below this.
    Risk {
        /// The lowest level that is refused.
        below: Risk,
        /// What happens when no signal reported a risk.
        unknown: Unknown,
    },
    /// A condition in CEL that must be true.
    When(Condition),
    /// The longest time since the user authenticated (`auth_time`).
    AuthAge(Span),
    /// Accepted values of `acr`, the preferred one first (RFC 9470).
    Acr(Vec<String>),
}

/// What happens when no signal reported a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The request passes.
    Allow,
    /// The request is refused.
    Deny,
}

/// Who may act for the subject.
#[derive(Debug, PartialEq, Eq)]
pub enum ActorRequirement {
    /// No party: the token must not have an `act` claim.
    None,
    /// Any party: the token must have an `act` claim.
    Required,
    /// One of these parties, compared with `sub` of the outermost `act`.
    OneOf(Vec<String>),
}

/// The result of one check.
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

    /// The scope that lifts some of the checks, if there is one.
    pub fn break_glass(&self) -> Option<&BreakGlass> {
        self.break_glass.as_ref()
    }

    /// Whether a token can be used for one request only.
    pub(crate) fn single_use(&self) -> bool {
        self.single_use
    }

    /// Evaluates one check, with break-glass.
    pub(crate) fn evaluate(&self, check: &Check, evidence: &Evidence<'_>) -> Outcome {
        match check.evaluate(evidence) {
            Ok(()) => Outcome::Met,
            Err(reason) if self.lifts(check, evidence) => Outcome::Lifted(reason),
            Err(reason) => Outcome::Unmet(reason),
        }
    }

    /// The scope values that a challenge names (RFC 6750 §3): all that a request needs. Of values of which one is enough,
    /// that is the first one; none if the token has one of them, which `has` says.
    pub(crate) fn scopes(&self, has: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        let scopes = self.checks.iter().filter_map(move |check| match check {
            Check::Scope { all, any } => {
                let one = any.first().filter(|_| !any.iter().any(|scope| has(scope)));
                Some(all.iter().chain(one))
            }
            _ => None,
        });
        scopes.flatten().map(String::as_str)
    }

    /// Whether a token with more scope values could meet the checks of scope: no signal took away what they ask for,
    /// which `left` says.
    pub(crate) fn can_have_scope(&self, left: impl Fn(&str) -> bool) -> bool {
        self.checks.iter().all(|check| match check {
            Check::Scope { all, any } => {
                all.iter().all(|scope| left(scope)) && (any.is_empty() || any.iter().any(|scope| left(scope)))
            }
            _ => true,
        })
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
    pub(crate) fn lifts(&self) -> &[&'static str] {
        &self.lifts
    }
}

impl Check {
    /// Whether it passes when no signal reported the value.
    pub(crate) fn lets_unknown_pass(&self) -> bool {
        matches!(self, Check::Device { unknown: Unknown::Allow } | Check::Risk { unknown: Unknown::Allow, .. })
    }

    /// Whether it needs the address of the client.
    pub fn needs_source(&self) -> bool {
        match self {
            Check::Source(_) => true,
            Check::When(condition) => condition.names_source(),
            _ => false,
        }
    }

    /// Whether it needs the certificate of the client.
    pub(crate) fn needs_peer(&self) -> bool {
        matches!(self, Check::Peer(_))
    }

    /// Whether it is about the authentication of the user.
    pub(crate) fn is_authentication(&self) -> bool {
        matches!(self, Check::AuthAge(_) | Check::Acr(_))
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

    /// Whether it needs a value that is unknown because the state had no room for a signal about it.
    fn needs_lost_value(&self, evidence: &Evidence<'_>) -> bool {
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
        if self.needs_lost_value(evidence) {
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
                let met = asked.iter().all(|(path, value)| evidence.claim_at(path) == Some(value));
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
                // Without `auth_time` it is unknown when the user authenticated.
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
