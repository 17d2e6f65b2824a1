//! The configuration as it is meant: what the data plane reads.

use crate::authority::Host;
use crate::config::Role;
use crate::issuer::Issuer;
use crate::path::Canonical;
use crate::requirement::Requirement;
use crate::routes::{Captures, Routes};
use crate::signal::Transmitter;

/// A compiled configuration. Only [`crate::config::load`] makes one.
#[derive(Debug)]
pub struct Policy {
    pub(crate) role: Role,
    pub(crate) realm: String,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) routes: Routes,
    pub(crate) signals: Signals,
}

/// Where signals come from.
#[derive(Debug, Default)]
pub struct Signals {
    pub(crate) path: String,
    pub(crate) transmitters: Vec<Transmitter>,
    /// By place of the transmitter, the `authorization` header that its pushes must carry.
    pub(crate) authorizations: Vec<Option<String>>,
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: String,
    /// Empty: every method.
    pub(crate) methods: Vec<String>,
    /// Empty: every host.
    pub(crate) hosts: Vec<String>,
    pub(crate) effect: Effect,
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

impl Policy {
    /// What the filter does.
    pub fn role(&self) -> Role {
        self.role
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

    /// Where signals come from.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The first rule that matches, and its place.
    pub fn find<'p>(
        &self,
        method: &str,
        host: Host<'_>,
        path: &'p Canonical<'_>,
    ) -> Option<(usize, &Rule, Captures<'p>)> {
        let accept = |at: usize| self.rules.get(at).is_some_and(|rule| rule.takes(method, host));
        let (at, captures) = self.routes.find(path, accept)?;
        self.rules.get(at).map(|rule| (at, rule, captures))
    }
}

impl Signals {
    /// The path that takes SETs.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Who may send them.
    pub fn transmitters(&self) -> &[Transmitter] {
        &self.transmitters
    }

    /// The `authorization` header that pushes of `transmitter` must carry, if any.
    pub fn authorization(&self, transmitter: &str) -> Option<&str> {
        let at = self.transmitters.iter().position(|known| known.name == transmitter)?;
        self.authorizations.get(at)?.as_deref()
    }
}

impl Rule {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    fn takes(&self, method: &str, host: Host<'_>) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|ours| ours == method))
            && (self.hosts.is_empty() || self.hosts.iter().any(|ours| host.is(ours)))
    }
}
