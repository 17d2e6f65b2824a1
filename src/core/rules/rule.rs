//! One rule: what it matches and what it does.

use crate::http::connection::{ConnectionInfo, Remembered};
use crate::http::host::Host;
use crate::http::path::Canonical;
use crate::http::path_template::Template;
use crate::rules::mode::Mode;
use crate::rules::requirement::Requirement;
use crate::rules::routes::{Captures, captures};

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
    pub fn mismatch(&self, target: Target<'_>, surroundings: &mut impl ConnectionInfo) -> Option<Mismatch> {
        match self.captures(target.path) {
            Some(_) => self.mismatch_beside_path(target, &mut Remembered::new(surroundings)),
            None => Some(Mismatch::Path),
        }
    }

    /// What its path captures of `path`; `None` when it is for other paths.
    pub fn captures<'p>(&self, path: &'p Canonical<'_>) -> Option<Captures<'p>> {
        self.template.as_ref().map_or(Some(Captures::default()), |template| captures(template, path))
    }

    pub(crate) fn mismatch_beside_path<S: ConnectionInfo>(
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
    pub fn as_str(self) -> &'static str {
        match self {
            Mismatch::Path => "path",
            Mismatch::Method => "method",
            Mismatch::Host => "host",
            Mismatch::Grpc => "grpc",
            Mismatch::Metadata => "metadata",
        }
    }
}
