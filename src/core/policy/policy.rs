//! The compiled configuration that the data plane reads.

use crate::http::connection::{ConnectionInfo, Remembered};
use crate::http::credential_location::CredentialLocations;
use crate::http::host::{Host, HostError, Reading};
use crate::http::method::{GET, HEAD};
use crate::http::path::Canonical;
use crate::index::{IssuerIndex, ResourceIndex, RuleIndex, TransmitterIndex};
use crate::jose::algorithm::Algorithm;
use crate::keys::keyring::{Keyring, Owner};
use crate::policy::evidence::Evidence;
use crate::policy::identity_headers::Identity;
use crate::policy::limits::Limits;
use crate::policy::resource::{self, Resource};
use crate::rules::mode::Mode;
use crate::rules::rate::Rate;
use crate::rules::routes::{Captures, Routes};
use crate::rules::rule::Rule;
use crate::rules::rule::Target;
use crate::signal::signals::Signals;
use crate::time::Span;
use crate::token::issuer::Issuer;
use serde::Deserialize;

/// A compiled configuration. Only [`crate::config::load::load`] makes one.
#[derive(Debug)]
pub struct Policy {
    pub(crate) role: Role,
    pub(crate) mode: Mode,
    pub(crate) hosts: Reading,
    pub(crate) realm: String,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) routes: Routes,
    pub(crate) identity: Identity,
    pub(crate) places: CredentialLocations,
    pub(crate) resources: Vec<Resource>,
    pub(crate) signals: Signals,
    pub(crate) limits: Limits,
    pub(crate) evidence: Evidence,
    /// A hash of the configuration as it was written: see [`Policy::config_hash`].
    pub(crate) config_hash: u64,
    /// Whether any rule has a condition, so that claims are worth converting.
    pub(crate) has_conditions: bool,
    /// `after` of `signals.stale`: the `state_age` of rules without their own.
    pub(crate) stale_after: Option<Span>,
    /// The top-level claims that rules and presenters are compared with by name.
    pub(crate) claims_by_name: Vec<Box<str>>,
}

impl Policy {
    /// What the filter does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How hosts are parsed.
    pub fn hosts(&self) -> Reading {
        self.hosts
    }

    /// Reads the value of `:authority`.
    pub fn host<'h>(&self, authority: &'h [u8]) -> Result<Host<'h>, HostError> {
        Host::read(authority, self.hosts)
    }

    /// The `realm` of challenges.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The trusted issuers.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The trusted issuer with that index.
    pub fn issuer(&self, index: IssuerIndex) -> Option<&Issuer> {
        index.of(&self.issuers)
    }

    /// The rule with that index.
    pub fn rule(&self, index: RuleIndex) -> Option<&Rule> {
        index.of(&self.rules)
    }

    /// The headers that tell the upstream about the grant.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The limits of one worker.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Which evidence of decisions leaves the proxy.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// A hash of the configuration as it was written, whatever its white space and the order of its members.
    pub fn config_hash(&self) -> u64 {
        self.config_hash
    }

    /// Which part of the requests that `rule` allows gets a record.
    pub fn record_allows(&self, rule: Option<RuleIndex>) -> Rate {
        rule.and_then(|index| self.rule(index)).and_then(|rule| rule.record_allows).unwrap_or(self.evidence.allows)
    }

    /// Where a request may carry a token.
    pub fn places(&self) -> &CredentialLocations {
        &self.places
    }

    /// The protected resource that a request belongs to.
    pub(crate) fn resource_of(&self, host: Host<'_>, path: &Canonical<'_>) -> Option<ResourceIndex> {
        resource::find(&self.resources, host, path)
    }

    /// The protected resources.
    pub(crate) fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Who may send signals, and where they are received.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Whether signatures with `algorithm` are accepted in tokens, proofs or signals.
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        let in_tokens = self.issuers.iter().any(|issuer| {
            issuer.algorithms.contains(&algorithm) || issuer.presentation.dpop.algorithms.contains(&algorithm)
        });
        in_tokens || self.signals.transmitters.iter().any(|one| one.algorithms.contains(&algorithm))
    }

    /// Every key set that is fetched, for any role, with its owner and the owner's name.
    pub fn fetched_keys(&self) -> impl Iterator<Item = (Owner, &str, &Keyring)> {
        let issuers = IssuerIndex::enumerate(&self.issuers);
        let issuers = issuers.map(|(at, issuer)| (Owner::Issuer(at), issuer.name.as_str(), &issuer.keys));
        let transmitters = TransmitterIndex::enumerate(&self.signals.transmitters);
        let transmitters = transmitters.map(|(at, one)| (Owner::Transmitter(at), one.name.as_str(), &one.keys));
        issuers.chain(transmitters).filter(|(_, _, keys)| keys.source().is_some())
    }

    /// The fetched key sets that this role needs: the filter needs those of issuers, the receiver those of
    /// transmitters.
    pub fn needed_keys(&self) -> impl Iterator<Item = (Owner, &str, &Keyring)> {
        self.fetched_keys().filter(|(owner, ..)| match owner {
            Owner::Issuer(_) => self.role == Role::Filter,
            Owner::Transmitter(_) => self.role == Role::Receiver,
        })
    }

    /// The keys of an issuer or a transmitter.
    pub fn keyring(&self, owner: Owner) -> Option<&Keyring> {
        match owner {
            Owner::Issuer(index) => self.issuer(index).map(|issuer| &issuer.keys),
            Owner::Transmitter(index) => self.signals.transmitter(index).map(|transmitter| &transmitter.keys),
        }
    }

    /// The keys of an issuer or a transmitter, to store fetched keys in.
    pub fn keyring_mut(&mut self, owner: Owner) -> Option<&mut Keyring> {
        match owner {
            Owner::Issuer(index) => self.issuers.get_mut(index.position()).map(|issuer| &mut issuer.keys),
            Owner::Transmitter(index) => {
                let transmitter = self.signals.transmitters.get_mut(index.position());
                transmitter.map(|transmitter| &mut transmitter.keys)
            }
        }
    }

    /// The mode for a request whose path or host cannot be parsed: it could match any rule, so it is enforced if any
    /// rule is.
    pub fn mode_of_unreadable(&self) -> Mode {
        match self.mode == Mode::Enforce || self.rules.iter().any(|rule| rule.mode == Some(Mode::Enforce)) {
            true => Mode::Enforce,
            false => Mode::Shadow,
        }
    }

    /// Whether refusals by `rule`, or by no rule, are enforced.
    pub fn mode(&self, rule: Option<RuleIndex>) -> Mode {
        rule.and_then(|index| self.rule(index)).and_then(|rule| rule.mode).unwrap_or(self.mode)
    }

    /// The request as the rules see it. A HEAD request counts as GET, of which it asks for the headers only (RFC 9110
    /// §9.3.2), unless a rule that names HEAD matches it.
    pub(crate) fn matched<'t>(&self, target: Target<'t>, connection: &mut impl ConnectionInfo) -> Target<'t> {
        if !target.method.eq_ignore_ascii_case(HEAD) {
            return target;
        }
        let mut connection = Remembered::new(connection);
        let mut is_for_it = |rule: &Rule| {
            rule.matcher.names_head() && rule.matcher.mismatch_beside_path(target, &mut connection).is_none()
        };
        match self.routes.find(target.path, |index| self.rule(index).is_some_and(&mut is_for_it)) {
            Some(_) => target,
            None => Target { method: GET, ..target },
        }
    }

    /// The first rule that matches [`Policy::matched`], with its index and what its path captures.
    pub fn find<'t>(
        &self,
        target: Target<'t>,
        connection: &mut impl ConnectionInfo,
    ) -> Option<(RuleIndex, &Rule, Captures<'t>)> {
        let mut connection = Remembered::new(connection);
        let accept = |index| {
            self.rule(index).is_some_and(|rule| rule.matcher.mismatch_beside_path(target, &mut connection).is_none())
        };
        let index = self.routes.find(target.path, accept)?;
        let rule = self.rule(index)?;
        let captures = rule.matcher.captures(target.path)?;
        Some((index, rule, captures))
    }
}

/// What a filter does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Judges every request.
    #[default]
    Filter,
    /// Receives signals (RFC 8935) and judges nothing.
    Receiver,
}
