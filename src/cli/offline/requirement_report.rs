//! For each requirement of a rule: what it asked for, what the request and its grant had, and whether it was met.

use serde_json::Value;
use taskfence_core::decision::evaluate::Observer;
use taskfence_core::http::path::Decoded;
use taskfence_core::http::spiffe::PeerPattern;
use taskfence_core::rules::detail_match::{DetailRequirement, Part, Pattern};
use taskfence_core::rules::evidence::Evidence;
use taskfence_core::rules::requirement::{ActorRequirement, Check, Outcome, Unknown};
use taskfence_core::rules::routes::Captures;
use taskfence_core::rules::rule::Mismatch;
use taskfence_core::time::Timestamp;
use taskfence_core::token::claim_path::ClaimPath;

/// One requirement of a rule, and how it was evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequirementReport {
    /// The key of `require` that asks for it.
    pub name: &'static str,
    pub asked: String,
    pub found: String,
    pub outcome: Outcome,
}

/// Records each rule that the judge tries and each requirement that it evaluates.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// For each rule up to the first that matches, why it does not; the last is `None` if one matches.
    pub tried: Vec<Option<Mismatch>>,
    /// What the path of the rule captured, by name.
    pub captures: Vec<(String, String)>,
    pub requirements: Vec<RequirementReport>,
}

impl Observer for Recorder {
    const SEES_ALL: bool = true;

    fn rule(&mut self, mismatch: Option<Mismatch>) {
        self.tried.push(mismatch);
    }

    fn captures(&mut self, names: &[String], captures: &Captures<'_>) {
        let named = names.iter().enumerate();
        self.captures = named.filter_map(|(at, name)| Some((name.clone(), decoded(captures.at(at)?)))).collect();
    }

    fn check(&mut self, check: &Check, outcome: Outcome, evidence: &Evidence<'_>) {
        let (asked, found) = describe(check, evidence);
        self.requirements.push(RequirementReport { name: check.name(), asked, found, outcome });
    }
}

/// What `check` asks for, and what the request and its grant have, as texts.
fn describe(check: &Check, evidence: &Evidence<'_>) -> (String, String) {
    let grant = evidence.grant;
    match check {
        Check::StateAge(longest) => {
            let heard = match evidence.fresh_at {
                Timestamp(0) => "never heard of one".to_owned(),
                at => format!("heard of one {} ago", evidence.now.since(at)),
            };
            (format!("a sign of life of a transmitter within {longest}"), heard)
        }
        Check::Scope { all, any } => {
            let all = (!all.is_empty()).then(|| all.join(" "));
            let any = (!any.is_empty()).then(|| one_of(any));
            (both(all, any), or_none(evidence.scopes().collect::<Vec<_>>().join(" ")))
        }
        Check::Detail(asked) => {
            let held = grant.carriers.details.iter().filter_map(|path| evidence.claim_at(path));
            (detail(asked, evidence), with_changes(details(held), evidence))
        }
        Check::Claims(asked) => describe_claims(asked, evidence),
        Check::Actor(asked) => describe_actor(asked, evidence),
        Check::Source(networks) => {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            let source = evidence.source.map_or_else(|| "address not known".to_owned(), |source| source.to_string());
            (one_of(&networks), source)
        }
        Check::Peer(patterns) => {
            let patterns: Vec<String> = patterns.iter().map(PeerPattern::text).collect();
            (one_of(&patterns), evidence.peer.unwrap_or("no workload known by a certificate").to_owned())
        }
        Check::Device { unknown } => {
            (format!("compliant{}", or_unknown(*unknown)), evidence.device_status().to_owned())
        }
        Check::Risk { below, unknown } => {
            (format!("below {}{}", below.as_str(), or_unknown(*unknown)), evidence.risk_level().to_owned())
        }
        Check::When(condition) => {
            let found = match condition.holds(evidence) {
                Ok(holds) => holds.to_string(),
                Err(error) => format!("error: {}", condition.fault(evidence).unwrap_or_else(|| error.to_string())),
            };
            (condition.source().to_owned(), found)
        }
        Check::AuthAge(longest) => {
            let found = match grant.authenticated_at {
                Some(at) => format!("{} ago", evidence.now.since(at)),
                None => "the token has no auth_time".to_owned(),
            };
            (format!("authenticated within {longest}"), found)
        }
        Check::Acr(accepted) => {
            (one_of(accepted), with_changes(or_none(grant.acr.clone().unwrap_or_default()), evidence))
        }
    }
}

fn describe_claims(asked: &[(ClaimPath, Value)], evidence: &Evidence<'_>) -> (String, String) {
    let wanted = asked.iter().map(|(name, value)| format!("{name} = {value}"));
    let held = asked.iter().map(|(name, _)| match evidence.claim_at(name) {
        Some(value) => format!("{name} = {value}"),
        None => format!("{name} is absent"),
    });
    (wanted.collect::<Vec<_>>().join(", "), held.collect::<Vec<_>>().join(", "))
}

fn describe_actor(asked: &ActorRequirement, evidence: &Evidence<'_>) -> (String, String) {
    let asked = match asked {
        ActorRequirement::None => "nobody acts for the subject".to_owned(),
        ActorRequirement::Required => "somebody acts for the subject".to_owned(),
        ActorRequirement::OneOf(agents) => format!("{} acts", one_of(agents)),
    };
    let actor = evidence.grant.actors.first().map(|actor| format!("{} acts", actor.subject));
    (asked, actor.unwrap_or_else(|| "nobody acts".to_owned()))
}

/// `found` in the token, followed by what signals changed about the grant since.
fn with_changes(found: String, evidence: &Evidence<'_>) -> String {
    let changes = evidence.grant_status.changes.iter().flat_map(|changes| changes.descriptions());
    std::iter::once(found).chain(changes).collect::<Vec<_>>().join("; ")
}

/// The members that one authorization detail must have, with captures replaced by their values.
fn detail(asked: &DetailRequirement, evidence: &Evidence<'_>) -> String {
    let members = [
        ("action", &asked.action),
        ("identifier", &asked.identifier),
        ("location", &asked.location),
        ("datatype", &asked.datatype),
        ("privilege", &asked.privilege),
    ];
    let mut words = vec![format!("type {}", asked.kind)];
    words.extend(
        members.iter().filter_map(|(name, pattern)| Some(format!("{name} {}", filled(pattern.as_ref()?, evidence)))),
    );
    words.join(", ")
}

fn filled(pattern: &Pattern, evidence: &Evidence<'_>) -> String {
    let Pattern::Parts(parts) = pattern else { return "any".to_owned() };
    let parts = parts.iter().map(|part| match part {
        Part::Literal(text) => text.clone(),
        Part::Capture(index) => evidence.captures.at(*index).map(decoded).unwrap_or_default(),
    });
    parts.collect()
}

/// A piece of a canonical path with its escapes decoded.
fn decoded(piece: &str) -> String {
    String::from_utf8_lossy(&Decoded::new(piece).collect::<Vec<u8>>()).into_owned()
}

/// The authorization details in these claims.
fn details<'v>(claims: impl Iterator<Item = &'v Value>) -> String {
    let details = claims.filter_map(Value::as_array).flatten().map(ToString::to_string);
    or_none(details.collect::<Vec<_>>().join(", "))
}

fn one_of(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        several => format!("one of {}", several.join(", ")),
    }
}

fn both(first: Option<String>, second: Option<String>) -> String {
    [first, second].into_iter().flatten().collect::<Vec<_>>().join(", and ")
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn or_unknown(unknown: Unknown) -> &'static str {
    match unknown {
        Unknown::Allow => ", or unknown",
        Unknown::Deny => "",
    }
}
