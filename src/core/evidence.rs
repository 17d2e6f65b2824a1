//! All that one decision may be based on, gathered in one place.

use crate::condition::Claims;
use crate::fact::{Compliance, Risk};
use crate::grant::Grant;
use crate::routes::Captures;
use crate::standing::Standing;
use crate::time::{Span, Timestamp};
use serde_json::Value;
use std::net::IpAddr;

/// What a requirement is weighed against: a verified grant, its standing, and the request.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'e> {
    /// The verified grant.
    pub grant: &'e Grant,
    /// Its claims for conditions, where the policy has any.
    pub claims: Option<&'e Claims>,
    /// What signals said about it.
    pub standing: &'e Standing,
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
    /// When the transmitter of signals was last heard of.
    pub fresh_at: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// A request line in canonical form.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'e> {
    /// The method.
    pub method: &'e str,
    /// The host, without port and final dot.
    pub host: &'e str,
    /// The canonical path.
    pub path: &'e str,
}

impl Evidence<'_> {
    /// Whether the grant still holds the scope value: the token does, and no signal took it away.
    pub fn holds_scope(&self, scope: &str) -> bool {
        let left = self.standing.changes.as_ref().is_none_or(|changes| changes.leave_scope(scope));
        left && self.grant.scopes.iter().any(|held| held == scope)
    }

    /// The scope values that the grant still holds.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.standing.scopes(self.grant)
    }

    /// What a claim is: as a signal said last, else as the token says. `None` too when signals contradict each other.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        match self.standing.changes.as_ref().and_then(|changes| changes.claim(name)) {
            Some(said) => said,
            None => self.grant.claims.get(name),
        }
    }

    /// How long ago the transmitter of signals was last heard of.
    pub fn state_age(&self) -> Span {
        self.now.since(self.fresh_at)
    }

    /// The device's compliance as CAEP words it, or `unknown`.
    pub fn device_word(&self) -> &'static str {
        self.standing.device.map_or("unknown", Compliance::word)
    }

    /// The risk as CAEP words it, or `UNKNOWN`.
    pub fn risk_word(&self) -> &'static str {
        self.standing.risk.map_or("UNKNOWN", Risk::word)
    }
}
