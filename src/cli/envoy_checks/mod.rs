//! Checks of the proxy around the filter: each file looks for one kind of fault in a configuration of Envoy.

mod body;
mod capabilities;
mod chain;
mod disabled;
mod failure_policy;
mod hosts;
mod paths;
mod placement;
mod source;
mod state;
mod timeouts;

#[cfg(test)]
mod tests;

use taskfence_core::config::problem::Problem;
use taskfence_core::policy::policy::Policy;
use taskfence_core::policy::policy::Role;

use crate::envoy::{Envoy, Filter, Manager, Plugin};

/// What was found, by how bad it is.
#[derive(Debug, Default)]
pub struct Findings {
    /// The filter cannot do its work.
    pub errors: Vec<Problem>,
    /// It works, but not as it should, or something here may defeat it.
    pub warnings: Vec<Problem>,
    /// What could not be looked at.
    pub notes: Vec<Problem>,
}

impl Findings {
    fn error(&mut self, place: &str, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push(Problem::at(place, message).help(help));
    }

    fn warning(&mut self, place: &str, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.push(Problem::at(place, message).help(help));
    }
}

/// One of our plugins, what its text means, and where it runs.
struct Installed<'a> {
    plugin: &'a Plugin<'a>,
    role: Role,
    /// `None` when its text is invalid; another check reports that.
    policy: Option<&'a Policy>,
    /// `None` when it is not one of the filters of a connection manager.
    place: Option<CredentialLocation<'a>>,
}

/// A filter in the chain of a manager.
#[derive(Clone, Copy)]
struct CredentialLocation<'a> {
    manager: &'a Manager<'a>,
    at: usize,
}

impl<'a> CredentialLocation<'a> {
    fn filter(&self) -> Option<&'a Filter<'a>> {
        self.manager.filters.get(self.at)
    }

    fn before(&self) -> &'a [Filter<'a>] {
        self.manager.filters.get(..self.at).unwrap_or_default()
    }

    fn behind(&self) -> &'a [Filter<'a>] {
        self.manager.filters.get(self.at.saturating_add(1)..).unwrap_or_default()
    }
}

impl Installed<'_> {
    fn is_filter(&self) -> bool {
        self.role == Role::Filter
    }
}

/// Looks at all that is around our plugins in `envoy`. `policies` are what their texts mean, one for each.
pub fn check(envoy: &Envoy<'_>, policies: &[Option<&Policy>]) -> Findings {
    let mut findings = Findings::default();
    let policies = policies.iter().copied().chain(std::iter::repeat(None));
    let installed: Vec<Installed<'_>> = envoy
        .plugins
        .iter()
        .zip(policies)
        .map(|(plugin, policy)| Installed {
            plugin,
            role: policy.map_or_else(|| plugin.role(), Policy::role),
            policy,
            place: envoy.surroundings(plugin).map(|(manager, at)| CredentialLocation { manager, at }),
        })
        .collect();
    for one in &installed {
        placement::check(one, &mut findings);
        failure_policy::check(one, &mut findings);
        body::check(one, &mut findings);
        capabilities::check(one, &mut findings);
        disabled::check(one, &mut findings);
        chain::check(one, &mut findings);
        if one.is_filter() {
            hosts::check(one, &mut findings);
            paths::check(one, &mut findings);
            source::check(one, &mut findings);
            timeouts::check(one, &mut findings);
        }
    }
    state::check(envoy, &installed, &mut findings);
    placement::check_discovered(envoy, &mut findings);
    findings
}

/// The names in a sentence: "`a`", "`a` and `b`", "`a`, `b` and 3 more".
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}
