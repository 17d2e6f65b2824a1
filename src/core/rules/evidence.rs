//! The evidence of one decision: everything that a requirement may depend on.

use crate::http::host::Host;
use crate::http::method::Method;
use crate::http::path::Canonical;
use crate::rules::cel_claims::Claims;
use crate::rules::grant_changes::Changes;
use crate::rules::grant_status::GrantStatus;
use crate::rules::routes::Captures;
use crate::state::fact::{Compliance, Risk};
use crate::time::{Span, Timestamp};
use crate::token::claim_path::ClaimPath;
use crate::token::grant::Grant;
use serde_json::Value;
use std::net::IpAddr;

/// What a follower takes from a hub may be dated ahead of its clock by this much.
const CLOCK_STEP: Span = Span(61);

/// The input to a requirement: a verified grant, its status, and the request.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'e> {
    /// The verified grant.
    pub grant: &'e Grant,
    /// The claims of the token in the form that conditions read, if the policy has conditions. Conditions must use
    /// `Evidence::claims`, which applies what signals changed.
    pub minted: Option<&'e Claims>,
    /// The status of that grant.
    pub grant_status: &'e GrantStatus,
    /// The parsed request.
    pub request: RequestLine<'e>,
    /// The names of the captures of the path.
    pub capture_names: &'e [String],
    /// The captures of the path.
    pub captures: Captures<'e>,
    /// The address of the client, if a rule needs it.
    pub source: Option<IpAddr>,
    /// The URI in the certificate of the client, which names its workload, if a rule needs it.
    pub peer: Option<&'e str>,
    /// The time of the last signal of the transmitter that has been silent for the longest time.
    pub fresh_at: Timestamp,
    /// The time of the decision.
    pub now: Timestamp,
}

/// A request line in the normal form that rules compare.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'e> {
    /// The method.
    pub method: &'e Method<'e>,
    /// The host.
    pub host: Host<'e>,
    /// The path.
    pub path: &'e Canonical<'e>,
}

impl<'e> Evidence<'e> {
    /// Whether the grant still has the scope value: the token has it, and no narrowing removed it.
    pub(crate) fn holds_scope(&self, scope: &str) -> bool {
        let left = self.grant_status.changes.as_ref().is_none_or(|changes| changes.leave_scope(scope));
        left && self.grant.scopes.iter().any(|held| held == scope)
    }

    /// The scope values that the grant still has.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.grant_status.scopes(self.grant)
    }

    /// The claims that conditions read, as they are now. A check must read claims by this or by [`Evidence::claim`],
    /// which apply what signals changed, and never from the token.
    pub(crate) fn claims(&self) -> Option<&'e Claims> {
        let minted = self.minted?;
        Some(self.changes().map_or(minted, |changes| changes.claims(self.grant)))
    }

    /// The value of a top-level claim now. Also `None` if signals conflict about it.
    pub fn claim(&self, name: &str) -> Option<&'e Value> {
        self.changes().map_or(&self.grant.claims, |changes| changes.current(self.grant)).get(name)
    }

    /// The value of the claim at `path` now. Also `None` if signals conflict about it.
    pub fn claim_at(&self, path: &ClaimPath) -> Option<&'e Value> {
        path.find_in(self.claim(path.root())?).ok().flatten()
    }

    /// Whether signals conflict about a claim.
    pub(crate) fn claims_are_disputed(&self) -> bool {
        self.changes().is_some_and(|changes| changes.are_disputed())
    }

    /// The changes, if they change claims.
    fn changes(&self) -> Option<&'e Changes> {
        self.grant_status.changes.as_deref().filter(|changes| changes.touch_claims())
    }

    /// The time since the last signal of the transmitter that has been silent for the longest time.
    ///
    /// If that signal lies in the future, the clock was set back, and how long ago it came is not known: then the state is
    /// older than any limit. Clocks may differ by [`CLOCK_STEP`].
    pub(crate) fn state_age(&self) -> Span {
        match self.fresh_at > self.now.plus(CLOCK_STEP) {
            true => Span(Timestamp::MAX.0),
            false => self.now.since(self.fresh_at),
        }
    }

    /// The compliance of the device in the terms of CAEP, or `unknown`.
    pub fn device_status(&self) -> &'static str {
        self.grant_status.device.map_or("unknown", Compliance::as_str)
    }

    /// The risk level in the terms of CAEP, or `UNKNOWN`.
    pub fn risk_level(&self) -> &'static str {
        self.grant_status.risk.map_or("UNKNOWN", Risk::as_str)
    }
}
