//! Compiles `require` into checks.

use crate::config::checks::quotable;
use crate::config::issuers::claims;
use crate::config::literal::{self, LoneWildcard};
use crate::config::model::{
    ActorConfig, BreakGlassConfig, Delegation, DetailConfig, RequireConfig, ScopeConfig, StaleLimit, UnknownConfig,
};
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::encoding::nearest::nearest;
use crate::http::spiffe::PeerPattern;
use crate::http::uri;
use crate::rules::condition::Condition;
use crate::rules::detail_match::{DetailRequirement, Pattern};
use crate::rules::requirement::{ActorRequirement, BreakGlass, Check, Requirement, Unknown};
use crate::time::Span;
use crate::token::claim_path::ClaimPath;
use ipnet::IpNet;
use serde_json::Value;

/// The checks of `config`, in the order of their evaluation: first the age of the state, then the content of the grant,
/// then its context, then the authentication of its user.
pub(crate) fn requirement(
    config: &RequireConfig,
    names: &[String],
    path: &str,
    problems: &mut Problems,
) -> Requirement {
    let mut checks = Vec::new();
    let at = |key: &str| format!("{path}.{key}");
    if let Some(age) = config.state_age {
        checks.push(Check::StateAge(positive(age, &at("state_age"), problems)));
    }
    if let Some(scope) = &config.scope {
        checks.push(self::scope(scope, &at("scope"), problems));
    }
    if let Some(detail) = &config.detail {
        checks.push(Check::Detail(self::detail(detail, names, &at("detail"), problems)));
    }
    if let Some(claims) = &config.claims {
        if claims.is_empty() {
            problems.error(at("claims"), "is empty: remove it to require no claim");
        }
        let claims = claims.iter();
        let claims =
            claims.filter_map(|(name, value)| Some((claim(name, &value.0, &at("claims"), problems)?, value.0.clone())));
        checks.push(Check::Claims(claims.collect()));
    }
    if let Some(actor) = &config.actor {
        checks.push(Check::Actor(self::actor(actor, &at("actor"), problems)));
    }
    if let Some(networks) = &config.source {
        checks.push(Check::Source(self::networks(networks, &at("source"), problems)));
    }
    if let Some(peers) = &config.peer {
        checks.push(Check::Peer(self::peers(peers, &at("peer"), problems)));
    }
    if let Some(device) = &config.device {
        checks.push(Check::Device { unknown: device.unknown.into() });
    }
    if let Some(risk) = &config.risk {
        if risk.below == crate::state::fact::Risk::Low {
            problems.error(at("risk.below"), "must be `MEDIUM` or `HIGH`: no risk is below `LOW`");
        }
        checks.push(Check::Risk { below: risk.below, unknown: risk.unknown.into() });
    }
    if let Some(source) = &config.when {
        match Condition::compile(source, names) {
            Ok(condition) => checks.push(Check::When(condition)),
            Err(message) => problems.error(at("when"), message),
        }
    }
    if let Some(age) = config.auth_age {
        checks.push(Check::AuthAge(positive(age, &at("auth_age"), problems)));
    }
    if let Some(accepted) = &config.acr {
        if accepted.is_empty() || accepted.iter().any(|acr| acr.is_empty() || acr.contains(' ') || !quotable(acr)) {
            problems.error(at("acr"), "must name at least one value of `acr`, each of printable ASCII characters other than space, `\"` and `\\`");
        }
        let help = "remove `acr` to accept any value";
        literal::check_wildcards(accepted, LoneWildcard::Error, &at("acr"), help, problems);
        checks.push(Check::Acr(accepted.clone()));
    }
    Requirement { checks, break_glass: None, single_use: config.single_use }
}

/// Compiles `break_glass` of a rule. `requirement` already includes the check that `stale` adds.
pub(crate) fn break_glass(
    config: &BreakGlassConfig,
    requirement: &Requirement,
    stale: Option<&StaleLimit>,
    path: &str,
    problems: &mut Problems,
) -> BreakGlass {
    if config.scope.is_empty() || config.scope.contains(' ') || !quotable(&config.scope) {
        problems.error(format!("{path}.scope"), "must be one scope value");
    }
    let help = "name one scope value; the grant must contain exactly this value";
    literal::check_wildcard(&config.scope, LoneWildcard::Error, format!("{path}.scope"), help, problems);
    if config.lifts.is_empty() {
        problems.error(format!("{path}.lifts"), "is empty: name the keys of `require` that it lifts");
    }
    let known: Vec<&'static str> = requirement.checks().iter().map(Check::name).collect();
    let mut lifts = Vec::new();
    for (at, name) in config.lifts.iter().enumerate() {
        match known.iter().find(|known| *known == name) {
            Some(known) => lifts.push(*known),
            None => {
                let problem =
                    Problem::at(format!("{path}.lifts[{at}]"), format!("`{name}` is not required by this rule"));
                let help = match nearest(name, known.iter().copied()) {
                    _ if name == "state_age" && stale.is_some() => {
                        "a stale state already lets the requests of this rule pass, because `stale` or `signals.stale.then` is `allow`"
                            .to_owned()
                    }
                    _ if name == "state_age" => "neither this rule nor `signals.stale` requires it".to_owned(),
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "this rule has no requirement that can be lifted".to_owned(),
                    None => format!("this rule requires: `{}`", known.join("`, `")),
                };
                problems.errors.push(problem.help(help));
            }
        }
    }
    BreakGlass { scope: config.scope.clone(), lifts }
}

/// Reports a zero length of time.
fn positive(age: Span, path: &str, problems: &mut Problems) -> Span {
    if age == Span(0) {
        problems.error(path, "must be at least 1s");
    }
    age
}

fn scope(config: &ScopeConfig, path: &str, problems: &mut Problems) -> Check {
    if config.all.is_empty() && config.any.is_empty() {
        problems.error(path, "names no scope value: remove it to require none");
    }
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ).
    for scope in config.all.iter().chain(&config.any) {
        if scope.is_empty() || scope.contains(' ') || !quotable(scope) {
            let message = format!(
                "`{}` is not a scope value: use printable ASCII characters other than space, `\"` and `\\`",
                scope.escape_debug()
            );
            problems.error(path, message);
        }
        let help = "name each scope value; the grant must contain exactly these values";
        literal::check_wildcard(scope, LoneWildcard::Warning, path, help, problems);
    }
    Check::Scope { all: config.all.clone(), any: config.any.clone() }
}

/// Checks the name and the value of a claim requirement.
fn claim(name: &str, value: &Value, path: &str, problems: &mut Problems) -> Option<ClaimPath> {
    let place = format!("{path}.{name}");
    let claim = claims::path(name, &place, problems);
    let texts = match value {
        Value::String(text) => vec![text.as_str()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for text in texts {
        let help = format!("use a condition to accept any value: `when: has(claims.{name})`, or `.startsWith(...)`");
        literal::check_wildcard(text, LoneWildcard::Warning, &place, &help, problems);
    }
    claim
}

fn actor(config: &ActorConfig, path: &str, problems: &mut Problems) -> ActorRequirement {
    match (config.delegation, &config.agents) {
        (Delegation::None, Some(_)) => {
            problems.error(path, "has `agents` although `delegation` is `none`: remove one of them");
            ActorRequirement::None
        }
        (Delegation::None, None) => ActorRequirement::None,
        (Delegation::Required, None) => ActorRequirement::Required,
        (Delegation::Required, Some(agents)) => {
            if agents.is_empty() {
                problems.error(format!("{path}.agents"), "is empty: remove it to accept every agent");
            }
            let help = "remove `agents` to accept every agent";
            literal::check_wildcards(agents, LoneWildcard::Error, &format!("{path}.agents"), help, problems);
            ActorRequirement::OneOf(agents.clone())
        }
    }
}

fn networks(config: &[String], path: &str, problems: &mut Problems) -> Vec<IpNet> {
    if config.is_empty() {
        problems.error(path, "is empty, so no request can pass: remove it to accept every request");
    }
    let mut networks = Vec::new();
    for (at, text) in config.iter().enumerate() {
        let place = format!("{path}[{at}]");
        match text.parse::<IpNet>() {
            Ok(network) if network.trunc() == network => networks.push(network),
            Ok(network) => {
                problems.error(place, format!("has address bits after its prefix: write it as `{}`", network.trunc()))
            }
            Err(_) => problems.error(place, format!("`{text}` is not a network in CIDR notation such as `10.0.0.0/8`")),
        }
    }
    networks
}

fn peers(config: &[String], path: &str, problems: &mut Problems) -> Vec<PeerPattern> {
    if config.is_empty() {
        problems.error(path, "is empty, so no request can pass: remove it to accept every request");
    }
    let mut peers = Vec::new();
    for (at, text) in config.iter().enumerate() {
        match PeerPattern::parse(text) {
            Some(pattern) => peers.push(pattern),
            None => {
                let message = format!("`{}` is not a SPIFFE ID", text.escape_debug());
                let problem = Problem::at(format!("{path}[{at}]"), message);
                problems
                    .errors
                    .push(problem.help("write for example `spiffe://td/ns/prod/sa/web` or `spiffe://td/ns/prod/*`"));
            }
        }
    }
    peers
}

fn detail(config: &DetailConfig, names: &[String], path: &str, problems: &mut Problems) -> DetailRequirement {
    let help = "name the type; an object of another type grants another permission";
    literal::check_wildcard(&config.kind, LoneWildcard::Error, format!("{path}.type"), help, problems);
    let mut pattern = |name: &str, text: &Option<String>| {
        let text = text.as_ref()?;
        if text != "*" {
            let help =
                "`*` alone matches any value, including a missing one; `{name}` stands for a capture of the path";
            literal::check_wildcard(text, LoneWildcard::Warning, format!("{path}.{name}"), help, problems);
        }
        match Pattern::parse(text, names) {
            Ok(pattern) if pattern.is_ambiguous() => {
                let message = format!("`{text}` is ambiguous: two captures have no `/` between them");
                problems.errors.push(Problem::at(format!("{path}.{name}"), message).help("put a `/` between them"));
                None
            }
            Ok(pattern) => Some(pattern),
            Err(unknown) => {
                let problem =
                    Problem::at(format!("{path}.{name}"), format!("`{{{unknown}}}` is not a capture of the path"));
                let help = match names {
                    [] => "the path of this rule has no captures".to_owned(),
                    names => format!("the path captures `{}`", names.join("`, `")),
                };
                problems.errors.push(problem.help(help));
                None
            }
        }
    };
    let location = config.location.as_ref().map(|text| match text.contains(['{', '*']) {
        true => text.clone(),
        // Locations of grants are compared in canonical form, so the location of the rule is canonicalized too.
        false => uri::canonical(text).unwrap_or_else(|| text.clone()),
    });
    let requirement = DetailRequirement {
        kind: config.kind.clone(),
        action: pattern("action", &config.action),
        identifier: pattern("identifier", &config.identifier),
        location: pattern("location", &location),
        datatype: pattern("datatype", &config.datatype),
        privilege: pattern("privilege", &config.privilege),
    };
    if location.as_ref().is_some_and(|text| !text.contains(['{', '*']) && uri::canonical(text).is_none()) {
        problems.error(format!("{path}.location"), "is not an absolute URI such as `https://orders.mesh`");
    }
    requirement
}

impl From<UnknownConfig> for Unknown {
    fn from(config: UnknownConfig) -> Unknown {
        match config {
            UnknownConfig::Deny => Unknown::Deny,
            UnknownConfig::Allow => Unknown::Allow,
        }
    }
}
