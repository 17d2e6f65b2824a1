//! Whether rules, headers and transmitters need a claim that issuers declare absent (`none`).

use crate::config::model::{Config, OpaqueConfig, TransmitterConfig};
use crate::config::problem::{Problem, Problems};
use crate::index::IssuerIndex;
use crate::rules::requirement::{ActorRequirement, Check};
use crate::rules::rule::{Effect, Rule};
use crate::signal::signals::Signals;
use crate::token::claim_names::{ClaimNames, Names};
use crate::token::issuer::Issuer;
use crate::token::presentation::PeerClaim;

/// A claim that an issuer may declare absent.
#[derive(Clone, Copy)]
struct Part {
    /// Its key in `claims`.
    key: &'static str,
    names: fn(&ClaimNames) -> &Names,
}

const CLIENT: Part = Part { key: "client", names: |claims| &claims.client };
const TOKEN: Part = Part { key: "token", names: |claims| &claims.token };
const TASK: Part = Part { key: "task", names: |claims| &claims.task };
const SESSION: Part = Part { key: "session", names: |claims| &claims.session };
const SCOPE: Part = Part { key: "scope", names: |claims| &claims.scope };
const DETAILS: Part = Part { key: "details", names: |claims| &claims.details };
const ACTOR: Part = Part { key: "actor", names: |claims| &claims.actor };
const AUTH_TIME: Part = Part { key: "auth_time", names: |claims| &claims.auth_time };
const ACR: Part = Part { key: "acr", names: |claims| &claims.acr };

impl Part {
    fn is_absent(self, issuer: &Issuer) -> bool {
        (self.names)(&issuer.claims).is_none()
    }
}

/// Reports what needs a claim that the tokens of `issuers` do not have, and a task that is named after the user.
pub(crate) fn check(config: &Config, rules: &[Rule], issuers: &[Issuer], signals: &Signals, problems: &mut Problems) {
    for (at, rule) in rules.iter().enumerate() {
        for (key, part) in needed_by(rule) {
            report(&format!("rules[{at}].require.{key}"), part, issuers.iter(), problems);
        }
    }
    let identity = &config.identity;
    for (key, header, part) in [
        ("client", &identity.client, CLIENT),
        ("task", &identity.task, TASK),
        ("session", &identity.session, SESSION),
        ("actor", &identity.actor, ACTOR),
        ("scope", &identity.scope, SCOPE),
    ] {
        if header.is_some() {
            report(&format!("identity.{key}"), part, issuers.iter(), problems);
        }
    }
    let transmitters = config.signals.iter().flat_map(|signals| &signals.transmitters);
    for (at, (written, compiled)) in transmitters.zip(signals.transmitters()).enumerate() {
        let subjects = || compiled.subjects.iter().filter_map(|(_, index)| IssuerIndex::of(*index, issuers));
        for (key, part) in needed_by_transmitter(written) {
            report(&format!("signals.transmitters[{at}].{key}"), part, subjects(), problems);
        }
    }
    let mut found = Problems::default();
    for issuer in issuers {
        check_own(config, issuer, &mut found);
    }
    problems.add_new(found);
}

/// The keys of `require` that need a claim, each with that claim.
fn needed_by(rule: &Rule) -> Vec<(&'static str, Part)> {
    let Effect::Require(requirement) = rule.effect() else { return Vec::new() };
    let mut needed = Vec::new();
    for check in requirement.checks() {
        let part = match check {
            Check::Scope { .. } => Some(SCOPE),
            Check::Detail(_) => Some(DETAILS),
            Check::AuthAge(_) => Some(AUTH_TIME),
            Check::Acr(_) => Some(ACR),
            Check::Actor(ActorRequirement::Required | ActorRequirement::OneOf(_)) => Some(ACTOR),
            _ => None,
        };
        needed.extend(part.map(|part| (check.name(), part)));
        if let Check::When(condition) = check {
            let fields = [
                ("grant.client", CLIENT),
                ("grant.task", TASK),
                ("grant.session", SESSION),
                ("grant.actor", ACTOR),
                ("grant.scopes", SCOPE),
                ("grant.auth_age", AUTH_TIME),
            ];
            let read = fields.into_iter().filter(|(field, _)| condition.source().contains(field));
            needed.extend(read.map(|(_, part)| ("when", part)));
        }
    }
    needed
}

/// The keys of a transmitter that are only about subjects which need a claim, each with that claim.
fn needed_by_transmitter(config: &TransmitterConfig) -> Vec<(String, Part)> {
    let mut needed = Vec::new();
    for (at, event) in config.events.iter().flatten().enumerate() {
        let part = match event.as_str() {
            "task-completed" => Some(TASK),
            "session-established" | "session-presented" => Some(SESSION),
            _ => None,
        };
        needed.extend(part.map(|part| (format!("events[{at}]"), part)));
    }
    for (at, member) in config.critical_members.iter().flatten().enumerate() {
        let part = match member.as_str() {
            "task" => Some(TASK),
            "client" | "application" => Some(CLIENT),
            "session" => Some(SESSION),
            "token" => Some(TOKEN),
            "actor" => Some(ACTOR),
            _ => None,
        };
        needed.extend(part.map(|part| (format!("critical_members[{at}]"), part)));
    }
    needed
}

/// Reports that what is at `place` needs `part`: an error if none of `issuers` has it, a warning if one has not.
fn report<'i>(place: &str, part: Part, issuers: impl Iterator<Item = &'i Issuer>, problems: &mut Problems) {
    let (absent, present): (Vec<&Issuer>, Vec<&Issuer>) = issuers.partition(|issuer| part.is_absent(issuer));
    let Some(first) = absent.first() else { return };
    let claim = format!("issuers[{}].claims.{}", first.entry, part.key);
    match present.is_empty() {
        true => {
            let problem = Problem::at(place, format!("needs a claim that tokens do not have: `{claim}` is `none`"));
            problems.errors.push(problem.help(format!("remove it, or name the claim in `{claim}`")));
        }
        false => {
            let message = format!("never applies to tokens of `{}`: `{claim}` is `none`", first.name);
            problems.warnings.push(Problem::at(place, message));
        }
    }
}

/// Reports what an issuer itself says about a claim that it declares absent.
fn check_own(config: &Config, issuer: &Issuer, problems: &mut Problems) {
    let path = format!("issuers[{}]", issuer.entry);
    let written = config.issuers.get(issuer.entry);
    let opaque = match written.and_then(|written| written.claims.subjects.opaque) {
        Some(OpaqueConfig::Token) => Some(TOKEN),
        Some(OpaqueConfig::Session) => Some(SESSION),
        Some(OpaqueConfig::User) | None => None,
    };
    let peer = match issuer.presentation.peer_claim {
        Some(PeerClaim::Client) => Some(CLIENT),
        Some(PeerClaim::Actor) => Some(ACTOR),
        _ => None,
    };
    for (key, part) in [("claims.subjects.opaque", opaque), ("peer_claim", peer)] {
        if let Some(part) = part {
            report(&format!("{path}.{key}"), part, std::iter::once(issuer), problems);
        }
    }
    let names_user = |names: &Names| names.paths().iter().any(|path| issuer.claims.subject.paths().contains(path));
    if names_user(&issuer.claims.task) {
        let message = "is the claim that names the user: a signal that completes the task ends all tokens of this user \
                       for good";
        let problem = Problem::at(format!("{path}.claims.task"), message);
        problems.warnings.push(problem.help("write `none` if tokens name no task"));
    }
    if names_user(&issuer.claims.session) {
        let message = "is the claim that names the user: a signal that revokes the session ends all tokens of this user \
                       for good";
        let problem = Problem::at(format!("{path}.claims.session"), message);
        problems.warnings.push(problem.help("write `none` if tokens name no session"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    /// The errors and warnings of one issuer `i` with `claims`, and of `change`.
    fn found(claims: Value, change: impl FnOnce(&mut Value)) -> (Vec<String>, Vec<String>) {
        let keys = json!({"inline": fixture::jwks()});
        let mut config = json!({
            "issuers": [{"issuer": "i", "audiences": ["a"], "keys": keys, "claims": claims}],
            "rules": [{"name": "r", "match": {}, "require": {}}],
            "signals": {"transmitters": [{"issuer": "i", "audience": "us", "keys": keys}]}
        });
        change(&mut config);
        let texts = |problems: Vec<crate::config::problem::Problem>| problems.iter().map(ToString::to_string).collect();
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => (Vec::new(), texts(loaded.warnings)),
            Err(errors) => (texts(errors.0), Vec::new()),
        }
    }

    #[test]
    fn what_needs_an_absent_claim_is_an_error_that_names_both() {
        type Change = fn(&mut Value);
        let cases: [(&str, &str, Change); 15] = [
            ("client", "rules[0].require.when", |c| c["rules"][0]["require"] = json!({"when": "grant.client == 'a'"})),
            ("task", "rules[0].require.when", |c| c["rules"][0]["require"] = json!({"when": "grant.task == 'a'"})),
            ("scope", "rules[0].require.scope", |c| c["rules"][0]["require"] = json!({"scope": "a"})),
            ("details", "rules[0].require.detail", |c| c["rules"][0]["require"] = json!({"detail": {"type": "a"}})),
            ("acr", "rules[0].require.acr", |c| c["rules"][0]["require"] = json!({"acr": ["a"]})),
            ("auth_time", "rules[0].require.auth_age", |c| c["rules"][0]["require"] = json!({"auth_age": "1m"})),
            ("actor", "rules[0].require.actor", |c| c["rules"][0]["require"] = json!({"actor": {}})),
            ("client", "identity.client", |c| c["identity"] = json!({"client": "x-client"})),
            ("task", "identity.task", |c| c["identity"] = json!({"task": "x-task"})),
            ("client", "issuers[0].peer_claim", |c| c["issuers"][0]["peer_claim"] = json!("client_id")),
            ("actor", "issuers[0].peer_claim", |c| c["issuers"][0]["peer_claim"] = json!("act.sub")),
            ("token", "issuers[0].claims.subjects.opaque", |c| {
                c["issuers"][0]["claims"]["subjects"] = json!({"opaque": "token"});
            }),
            ("task", "signals.transmitters[0].events[0]", |c| {
                c["signals"]["transmitters"][0]["events"] = json!(["task-completed"]);
            }),
            ("task", "signals.transmitters[0].critical_members[0]", |c| {
                c["signals"]["transmitters"][0]["critical_members"] = json!(["task"]);
            }),
            ("token", "signals.transmitters[0].critical_members[0]", |c| {
                c["signals"]["transmitters"][0]["critical_members"] = json!(["token"]);
            }),
        ];
        for (part, place, change) in cases {
            let (errors, _) = found(json!({ part: "none" }), change);
            let named = format!("`issuers[0].claims.{part}` is `none`");
            assert!(
                errors.iter().any(|error| error.starts_with(place) && error.contains(&named)),
                "{place}: {errors:?}"
            );
            let (errors, _) = found(json!({ part: "other" }), change);
            assert_eq!(errors, Vec::<String>::new(), "{place}");
        }
    }

    #[test]
    fn what_only_one_issuer_lacks_is_a_warning() {
        let (errors, warnings) = found(json!({"task": "none"}), |config| {
            let mut other = config["issuers"][0].clone();
            (other["issuer"], other["claims"]) = (json!("j"), json!({}));
            config["issuers"].as_array_mut().unwrap().push(other);
            config["rules"][0]["require"] = json!({"when": "grant.task == 'a'"});
        });
        let message = "rules[0].require.when: never applies to tokens of `i`: `issuers[0].claims.task` is `none`";
        assert_eq!((errors, warnings), (Vec::new(), vec![message.to_owned()]));
    }

    #[test]
    fn a_task_that_is_the_user_is_worth_a_warning() {
        let (_, warnings) = found(json!({"task": "sub"}), |_| {});
        assert!(warnings[0].starts_with("issuers[0].claims.task: is the claim that names the user"), "{warnings:?}");
        assert_eq!(found(json!({"client": "sub"}), |_| {}), (Vec::new(), Vec::new()));
    }
}
