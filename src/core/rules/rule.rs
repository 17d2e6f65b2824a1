//! One rule: what it matches and what it does.

use crate::http::connection::{ConnectionInfo, Remembered};
use crate::http::host::Host;
use crate::http::method::HEAD;
use crate::http::path::Canonical;
use crate::http::path_template::Template;
use crate::rules::mode::Mode;
use crate::rules::rate::Rate;
use crate::rules::requirement::Requirement;
use crate::rules::routes::{Captures, captures};

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    pub(crate) effect: Effect,
    pub(crate) mode: Option<Mode>,
    /// Which part of the requests that it allows gets a record; `None`: that of the policy.
    pub(crate) record_allows: Option<Rate>,
}

/// Which requests a rule matches.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// The methods that it matches; empty for every method. [`Policy::matched`](crate::policy::policy::Policy) says which
    /// rules decide about HEAD.
    pub(crate) methods: Vec<String>,
    /// The hosts that it matches, in lower case; empty for every host.
    pub(crate) hosts: Vec<String>,
    /// The paths that it matches; `None` for every path.
    pub(crate) template: Option<Template>,
    /// Whether it matches gRPC requests only. Always false in a rule that denies.
    pub(crate) grpc: bool,
    /// Names and values that the metadata of Envoy's route must have.
    pub(crate) metadata: Vec<(String, String)>,
}

/// What a rule does with a request that it matches.
#[derive(Debug)]
pub enum Effect {
    /// Requires a valid token and more.
    Require(Requirement),
    /// Lets it pass without a token.
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

/// Why a rule does not match a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The path differs.
    Path,
    /// The method differs.
    Method,
    /// The host differs.
    Host,
    /// The request is not gRPC.
    Grpc,
    /// The metadata of the route differs.
    Metadata,
}

impl Rule {
    /// The name of the rule, unique in the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which requests it matches.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// What it does with a request that it matches.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }
}

impl Matcher {
    /// The paths that it matches; `None` for every path.
    pub(crate) fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    /// The hosts that it matches, in lower case; empty for every host.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether its methods include HEAD by name.
    pub(crate) fn names_head(&self) -> bool {
        self.methods.iter().any(|method| method == HEAD)
    }

    /// The names of the captures of its path.
    pub(crate) fn capture_names(&self) -> &[String] {
        self.template.as_ref().map(Template::names).unwrap_or_default()
    }

    /// Why it does not match `target`; `None` if it does.
    pub(crate) fn mismatch(&self, target: Target<'_>, connection: &mut impl ConnectionInfo) -> Option<Mismatch> {
        match self.captures(target.path) {
            Some(_) => self.mismatch_beside_path(target, &mut Remembered::new(connection)),
            None => Some(Mismatch::Path),
        }
    }

    /// The captures of `path`; `None` if it does not match `path`.
    pub(crate) fn captures<'p>(&self, path: &'p Canonical<'_>) -> Option<Captures<'p>> {
        self.template.as_ref().map_or(Some(Captures::default()), |template| captures(template, path))
    }

    pub(crate) fn mismatch_beside_path<S: ConnectionInfo>(
        &self,
        target: Target<'_>,
        connection: &mut Remembered<'_, S>,
    ) -> Option<Mismatch> {
        // Methods are case-sensitive (RFC 9110 §9.1), but some servers ignore case: a client must not escape a rule by
        // case.
        if !self.methods.is_empty() && !self.methods.iter().any(|ours| ours.eq_ignore_ascii_case(target.method)) {
            return Some(Mismatch::Method);
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|ours| target.host.is(ours)) {
            return Some(Mismatch::Host);
        }
        if self.grpc && !target.grpc {
            return Some(Mismatch::Grpc);
        }
        let same = |(name, value): &(String, String)| connection.is_metadata(name, value);
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
