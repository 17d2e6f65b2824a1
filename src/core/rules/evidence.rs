//! Everything that one decision may depend on.

use crate::http::host::Host;
use crate::http::method::Method;
use crate::http::path::Canonical;
use crate::rules::cel_claims::Claims;
use crate::rules::grant_changes::Changes;
use crate::rules::grant_status::GrantStatus;
use crate::rules::routes::Captures;
use crate::state::fact::{Compliance, Risk};
use crate::time::{Span, Timestamp};
use crate::token::grant::Grant;
use serde_json::Value;
use std::net::IpAddr;

/// The input to a requirement: a verified grant, its status, and the request.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'e> {
    /// The verified grant.
    pub grant: &'e Grant,
    /// The claims of the token for conditions, where the policy has any. What is left of them is [`Evidence::claims`].
    pub minted: Option<&'e Claims>,
    /// What signals said about it.
    pub grant_status: &'e GrantStatus,
    /// The request, read.
    pub request: RequestLine<'e>,
    /// The names of what the path captured.
    pub capture_names: &'e [String],
    /// What the path captured.
    pub captures: Captures<'e>,
    /// The address that the request came from, where a rule asks for it.
    pub source: Option<IpAddr>,
    /// The workload that the request came from, by the URI in its certificate, where a rule asks for it.
    pub peer: Option<&'e str>,
    /// The time of the last signal of the transmitter that has been silent for the longest time.
    pub fresh_at: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// A request line in the one spelling that rules compare.
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
    /// Whether the grant still holds the scope value: the token does, and no signal took it away.
    pub(crate) fn holds_scope(&self, scope: &str) -> bool {
        let left = self.grant_status.changes.as_ref().is_none_or(|changes| changes.leave_scope(scope));
        left && self.grant.scopes.iter().any(|held| held == scope)
    }

    /// The scope values that the grant still holds.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.grant_status.scopes(self.grant)
    }

    /// The claims for conditions, as they are now. This and [`Evidence::claim`] hand out what signals left of a claim;
    /// no check reads the token's own.
    pub(crate) fn claims(&self) -> Option<&'e Claims> {
        let minted = self.minted?;
        Some(self.changes().map_or(minted, |changes| changes.claims(self.grant)))
    }

    /// What a claim is now. `None` too when signals contradict each other about it.
    pub fn claim(&self, name: &str) -> Option<&'e Value> {
        self.changes().map_or(&self.grant.claims, |changes| changes.current(self.grant)).get(name)
    }

    /// Whether signals contradict each other about a claim.
    pub(crate) fn claims_are_disputed(&self) -> bool {
        self.changes().is_some_and(|changes| changes.are_disputed())
    }

    /// What signals changed about claims, where they changed any.
    fn changes(&self) -> Option<&'e Changes> {
        self.grant_status.changes.as_deref().filter(|changes| changes.touch_claims())
    }

    /// How long ago the transmitter of signals was last heard of.
    pub(crate) fn state_age(&self) -> Span {
        self.now.since(self.fresh_at)
    }

    /// The device's compliance as CAEP words it, or `unknown`.
    pub fn device_word(&self) -> &'static str {
        self.grant_status.device.map_or("unknown", Compliance::as_str)
    }

    /// The risk as CAEP words it, or `UNKNOWN`.
    pub fn risk_word(&self) -> &'static str {
        self.grant_status.risk.map_or("UNKNOWN", Risk::as_str)
    }
}
