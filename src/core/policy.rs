//! The configuration as it is meant: what the data plane reads.

use crate::authority::{Host, HostError, Reading};
use crate::config::{Mode, Role};
use crate::flood::Limit;
use crate::freshness::TransmitterId;
use crate::identity::Identity;
use crate::issuer::Issuer;
use crate::keyring::{Keyring, Owner};
use crate::path::Canonical;
use crate::place::Places;
use crate::requirement::Requirement;
use crate::routes::{Captures, Routes, captures};
use crate::signal::Transmitter;
use crate::surroundings::{Remembered, Surroundings};
use crate::template::Template;

/// A compiled configuration. Only [`crate::config::load`] makes one.
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
    pub(crate) places: Places,
    pub(crate) signals: Signals,
    pub(crate) limits: Limits,
    /// Whether any rule has a condition, so that claims are worth converting.
    pub(crate) has_conditions: bool,
}

/// What one worker spends on tokens.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory for verified tokens, in bytes.
    pub(crate) token_cache: usize,
    /// Bad signatures that each source may have checked.
    pub(crate) bad_signatures: Limit,
}

/// Where signals come from.
#[derive(Debug, Default)]
pub struct Signals {
    pub(crate) path: String,
    pub(crate) transmitters: Vec<Transmitter>,
    /// For each issuer of tokens: the transmitters whose silence makes the state about its grants stale.
    pub(crate) heartbeats: Vec<Vec<TransmitterId>>,
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    pub(crate) effect: Effect,
    pub(crate) mode: Option<Mode>,
}

/// Which requests a rule is for.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// Empty: every method.
    pub(crate) methods: Vec<String>,
    /// Empty: every host. Lower case.
    pub(crate) hosts: Vec<String>,
    /// `None`: every path.
    pub(crate) template: Option<Template>,
    /// gRPC requests only. Never in a rule that denies.
    pub(crate) grpc: bool,
    /// Metadata of Envoy's route.
    pub(crate) metadata: Vec<(String, String)>,
}

/// What a rule does with a request that it matches.
#[derive(Debug)]
pub enum Effect {
    /// Asks for a grant.
    Require(Requirement),
    /// Lets it pass without one.
    Anonymous,
    /// Refuses it.
    Deny,
}

/// The part of a request by which rules are found.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// The method.
    pub method: &'t str,
    /// The host.
    pub host: Host<'t>,
    /// The path.
    pub path: &'t Canonical<'t>,
    /// Whether it is gRPC.
    pub grpc: bool,
}

/// Why a rule is not for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Another path.
    Path,
    /// Another method.
    Method,
    /// Another host.
    Host,
    /// Not gRPC.
    Grpc,
    /// Other metadata of the route.
    Metadata,
}

impl Policy {
    /// What the filter does.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How hosts are read.
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

    /// What the upstream gets to see of a grant.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What one worker spends on tokens.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Where tokens may stand in a request.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Where signals come from.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Every set of keys that is fetched, whatever the role, and whose it is by name.
    pub fn fetched_keys(&self) -> impl Iterator<Item = (Owner, &str, &Keyring)> {
        let issuers = self.issuers.iter().enumerate();
        let issuers = issuers.map(|(at, issuer)| (Owner::Issuer(at), issuer.name.as_str(), &issuer.keys));
        let transmitters = self.signals.transmitters.iter().enumerate();
        let transmitters = transmitters.map(|(at, one)| (Owner::Transmitter(at), one.name.as_str(), &one.keys));
        issuers.chain(transmitters).filter(|(_, _, keys)| keys.source().is_some())
    }

    /// Those that this role needs: the filter reads tokens, the receiver signals.
    pub fn needed_keys(&self) -> impl Iterator<Item = (Owner, &str, &Keyring)> {
        self.fetched_keys().filter(|(owner, ..)| match owner {
            Owner::Issuer(_) => self.role == Role::Filter,
            Owner::Transmitter(_) => self.role == Role::Receiver,
        })
    }

    /// The keys of an issuer or a transmitter.
    pub fn keyring(&self, owner: Owner) -> Option<&Keyring> {
        match owner {
            Owner::Issuer(at) => self.issuers.get(at).map(|issuer| &issuer.keys),
            Owner::Transmitter(at) => self.signals.transmitters.get(at).map(|transmitter| &transmitter.keys),
        }
    }

    /// The same, to put fetched ones in.
    pub fn keyring_mut(&mut self, owner: Owner) -> Option<&mut Keyring> {
        match owner {
            Owner::Issuer(at) => self.issuers.get_mut(at).map(|issuer| &mut issuer.keys),
            Owner::Transmitter(at) => self.signals.transmitters.get_mut(at).map(|transmitter| &mut transmitter.keys),
        }
    }

    /// Whether any refusal at all is enforced. A path or a host that cannot be read could be meant for any rule.
    pub fn mode_of_unreadable(&self) -> Mode {
        match self.mode == Mode::Enforce || self.rules.iter().any(|rule| rule.mode == Some(Mode::Enforce)) {
            true => Mode::Enforce,
            false => Mode::Shadow,
        }
    }

    /// Whether refusals under the rule at that place, or under none, are enforced.
    pub fn mode(&self, rule: Option<usize>) -> Mode {
        rule.and_then(|at| self.rules.get(at)).and_then(|rule| rule.mode).unwrap_or(self.mode)
    }

    /// The first rule that matches, and its place.
    pub fn find<'t>(
        &self,
        target: Target<'t>,
        surroundings: &mut impl Surroundings,
    ) -> Option<(usize, &Rule, Captures<'t>)> {
        let mut surroundings = Remembered::new(surroundings);
        let accept = |at: usize| {
            self.rules
                .get(at)
                .is_some_and(|rule| rule.matcher.mismatch_beside_path(target, &mut surroundings).is_none())
        };
        let at = self.routes.find(target.path, accept)?;
        let rule = self.rules.get(at)?;
        let captures = rule.matcher.captures(target.path)?;
        Some((at, rule, captures))
    }
}

impl Signals {
    /// The path that takes SETs.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The transmitters that must have been heard of lately for the state about grants of the issuer at that place.
    pub fn heartbeats_of(&self, issuer: usize) -> &[TransmitterId] {
        self.heartbeats.get(issuer).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who may send them.
    pub fn transmitters(&self) -> &[Transmitter] {
        &self.transmitters
    }
}

impl Rule {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which requests it is for.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// What it does.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }
}

impl Matcher {
    /// The path that it asks for; `None` for every path.
    pub fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    /// The hosts that it asks for, in lower case; empty for every host.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The names of what its path captures.
    pub fn capture_names(&self) -> &[String] {
        self.template.as_ref().map(Template::names).unwrap_or_default()
    }

    /// Why it is not for `target`; `None` when it is.
    pub fn mismatch(&self, target: Target<'_>, surroundings: &mut impl Surroundings) -> Option<Mismatch> {
        match self.captures(target.path) {
            Some(_) => self.mismatch_beside_path(target, &mut Remembered::new(surroundings)),
            None => Some(Mismatch::Path),
        }
    }

    /// What its path captures of `path`; `None` when it is for other paths.
    pub fn captures<'p>(&self, path: &'p Canonical<'_>) -> Option<Captures<'p>> {
        self.template.as_ref().map_or(Some(Captures::default()), |template| captures(template, path))
    }

    fn mismatch_beside_path<S: Surroundings>(
        &self,
        target: Target<'_>,
        surroundings: &mut Remembered<'_, S>,
    ) -> Option<Mismatch> {
        // RFC 9110 §9.1 tells methods apart by their case. Some servers do not, so no case is a way around a rule.
        if !self.methods.is_empty() && !self.methods.iter().any(|ours| ours.eq_ignore_ascii_case(target.method)) {
            return Some(Mismatch::Method);
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|ours| target.host.is(ours)) {
            return Some(Mismatch::Host);
        }
        if self.grpc && !target.grpc {
            return Some(Mismatch::Grpc);
        }
        let same = |(name, value): &(String, String)| surroundings.is_metadata(name, value);
        if self.metadata.iter().all(same) { None } else { Some(Mismatch::Metadata) }
    }
}

impl Mismatch {
    /// What differs, in one word.
    pub fn word(self) -> &'static str {
        match self {
            Mismatch::Path => "path",
            Mismatch::Method => "method",
            Mismatch::Host => "host",
            Mismatch::Grpc => "grpc",
            Mismatch::Metadata => "metadata",
        }
    }
}
