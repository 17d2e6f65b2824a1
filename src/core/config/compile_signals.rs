//! Compiles `signals`: which transmitter may send which events, the effects of the events, and the transmitters that must
//! not fall silent.

use crate::config::literal::{self, LoneWildcard};
use crate::config::model::{
    Config, OpaqueConfig, ProfileConfig, RuleConfig, SignalsConfig, StaleConfig, StaleLimit, TransmitterConfig,
    UnknownConfig,
};
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::encoding::nearest::nearest;
use crate::index::IssuerIndex;
use crate::rules::requirement::{Check, Requirement};
use crate::rules::rule::{Effect as RuleEffect, Rule};
use crate::signal::effect::{self, Effect, Effects};
use crate::signal::event::Type;
use crate::signal::permissions::Permissions;
use crate::signal::transmitter::Transmitter;
use crate::state::freshness::{MAX_TRANSMITTERS, TransmitterId};
use crate::state::key::Kind;
use crate::time::Span;
use crate::token::issuer::Issuer;
use std::collections::BTreeMap;

/// Compiles `signals.effects`.
pub(crate) fn effects(config: &BTreeMap<String, String>, problems: &mut Problems) -> Effects {
    let mut effects = Effects::default();
    for (name, word) in config {
        let path = format!("signals.effects.{name}");
        let all = Choice::all(&mut effects);
        let known = all.each_ref().map(|choice| choice.name);
        let Some(choice) = all.into_iter().find(|choice| choice.name == name) else {
            problems.errors.push(unknown(path, "key", name, &known));
            continue;
        };
        let Some((_, effect)) = EFFECTS.into_iter().find(|(known, _)| known == word) else {
            problems.errors.push(unknown(path, "value", word, &EFFECTS.map(|(word, _)| word)));
            continue;
        };
        if matches!(effect, Effect::Set | Effect::SetAndEnd) && !choice.sets {
            let problem = Problem::at(path, "cannot be `set` or `set_and_end`: the event carries no value to set");
            problems.errors.push(problem.help("write `end` or `ignore`"));
        } else if matches!(effect, Effect::End | Effect::SetAndEnd) && !choice.ends {
            problems.error(
                path,
                "cannot be `end` or `set_and_end`, because this event never ends a grant: write `set` or `ignore`",
            );
        }
        *choice.effect = effect;
    }
    effects
}

const EFFECTS: [(&str, Effect); 4] =
    [("end", Effect::End), ("set", Effect::Set), ("set_and_end", Effect::SetAndEnd), ("ignore", Effect::Ignore)];

/// The problem for a word that is not one of `known`.
fn unknown(path: String, what: &str, word: &str, known: &[&str]) -> Problem {
    let help = match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: `{}`", known.join("`, `")),
    };
    Problem::at(path, format!("unknown {what} `{word}`")).help(help)
}

/// A type of event whose effect can be configured.
struct Choice<'e> {
    name: &'static str,
    /// Whether the event carries a value that can be set.
    sets: bool,
    /// Whether the event can end a grant.
    ends: bool,
    effect: &'e mut Effect,
}

impl Choice<'_> {
    fn all(effects: &mut Effects) -> [Choice<'_>; 11] {
        let choice = |name, sets, ends, effect| Choice { name, sets, ends, effect };
        [
            choice("token-claims-change", true, true, &mut effects.token_claims_change),
            choice("credential-change", false, true, &mut effects.credential_change),
            choice("credential-created", false, true, &mut effects.credential_created),
            choice("assurance-level-change", true, true, &mut effects.assurance_level_change),
            choice("device-compliance-change", true, true, &mut effects.device_compliance_change),
            choice("session-established", true, false, &mut effects.session_established),
            choice("risk-level-change", true, true, &mut effects.risk_level_change),
            choice("account-disabled", false, true, &mut effects.account_disabled),
            choice("account-purged", false, true, &mut effects.account_purged),
            choice("credential-compromise", false, true, &mut effects.credential_compromise),
            choice("sessions-revoked", false, true, &mut effects.sessions_revoked),
        ]
    }
}

/// Compiles what a transmitter may send.
pub(crate) fn permissions(
    config: &TransmitterConfig,
    effects: Effects,
    path: &str,
    problems: &mut Problems,
) -> Permissions {
    let mut of_name = |name: &str, path: String| {
        let found = Type::from_name(name);
        if found.is_none() {
            let problem = unknown(path, "event", name, &Type::ALL.map(Type::name));
            problems.errors.push(match literal::is_wildcard(name) {
                true => problem.help("remove `events` to accept every type"),
                false => problem,
            });
        }
        found
    };
    let events = config.events.as_ref().map(|events| {
        let events = events.iter().enumerate();
        events.filter_map(|(at, name)| of_name(name, format!("{path}.events[{at}]"))).collect::<Vec<_>>()
    });
    let uris = config.event_uris.iter();
    let uris = uris.filter_map(|(uri, name)| Some((uri.clone(), of_name(name, format!("{path}.event_uris.{uri}"))?)));
    let mut uris: Vec<_> = uris.collect();
    for (uri, kind) in &uris {
        if let Some(known) = Type::from_uri(uri).filter(|known| known != kind) {
            let message = format!("is already the URI of {}", known.name());
            problems.error(format!("{path}.event_uris.{uri}"), message);
        }
    }
    let profile = Profile::of(config.profile);
    let own = |uri: &str| !config.event_uris.contains_key(uri);
    uris.extend(profile.uris.iter().filter(|(uri, _)| own(uri)).map(|(uri, kind)| ((*uri).to_owned(), *kind)));
    let words = "name each member that must be understood before a signal is accepted";
    let critical = config.critical_members.clone().unwrap_or_else(|| vec!["task".to_owned()]);
    literal::check_wildcards(&critical, LoneWildcard::Error, &format!("{path}.critical_members"), words, problems);
    for (at, claim) in config.settable_claims.iter().flatten().enumerate() {
        let place = format!("{path}.settable_claims[{at}]");
        let help = "remove `settable_claims` to let this transmitter set every claim that signals may set";
        literal::check_wildcard(claim, LoneWildcard::Error, &place, help, problems);
        literal::check_claim_name(
            claim,
            &place,
            "name the top-level claim; a signal replaces its whole value",
            problems,
        );
        if !effect::may_change(claim, &[]) || matches!(claim.as_str(), "scope" | "authorization_details") {
            let message = format!("`{claim}` cannot be set by a signal");
            problems.error(format!("{path}.settable_claims[{at}]"), message);
        }
    }
    Permissions {
        events,
        uris,
        critical,
        claims: config.settable_claims.clone(),
        verification_state: config.verification_state.clone(),
        legacy_subject: config.legacy_subject || profile.legacy_subject,
        tolerant: profile.tolerant,
        subject_issuers: subject_issuers(config, profile, path, problems),
        // Whoever sends no SETs is never heard of.
        heartbeat: config.heartbeat && !config.audience.0.is_empty(),
        effects,
    }
}

/// What a profile says about the SETs of a transmitter.
struct Profile {
    legacy_subject: bool,
    tolerant: bool,
    uris: &'static [(&'static str, Type)],
    subject_issuers: &'static [(&'static str, &'static str)],
}

impl Profile {
    fn of(config: ProfileConfig) -> Profile {
        let none = Profile { legacy_subject: false, tolerant: false, uris: &[], subject_issuers: &[] };
        match config {
            ProfileConfig::Standard => none,
            ProfileConfig::Okta => Profile { legacy_subject: true, tolerant: true, ..none },
            ProfileConfig::Keycloak => Profile { tolerant: true, ..none },
            ProfileConfig::GoogleRisc => Profile {
                legacy_subject: true,
                tolerant: true,
                uris: &[
                    ("https://schemas.openid.net/secevent/risc/event-type/verification", Type::Verification),
                    // All tokens of the user.
                    ("https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked", Type::SessionsRevoked),
                ],
                subject_issuers: &[("https://accounts.google.com/", "https://accounts.google.com")],
            },
        }
    }
}

/// The token issuers that the issuers in subjects stand for.
fn subject_issuers(
    config: &TransmitterConfig,
    profile: Profile,
    path: &str,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let subjects = config.subjects.as_deref().unwrap_or(std::slice::from_ref(&config.issuer));
    let mut renamed = Vec::new();
    for (from, to) in &config.subject_issuers {
        let place = || format!("{path}.subject_issuers.{from}");
        if !subjects.contains(to) {
            let problem = Problem::at(place(), format!("`{to}` is not one of the `subjects` of this transmitter"));
            problems.errors.push(problem.help(format!("known: `{}`", subjects.join("`, `"))));
        } else if subjects.contains(from) {
            problems.error(place(), "is itself one of the `subjects` of this transmitter");
        }
        renamed.push((from.clone(), to.clone()));
    }
    let own = profile.subject_issuers.iter().filter(|(from, to)| {
        let is = |name: &str| subjects.iter().any(|known| known == name);
        is(to) && !is(from) && !config.subject_issuers.contains_key(*from)
    });
    renamed.extend(own.map(|(from, to)| ((*from).to_owned(), (*to).to_owned())));
    renamed
}

/// Reports what only a hub can do in the configuration of a filter.
pub(crate) fn check_not_of_a_hub(transmitter: &Transmitter, path: &str, problems: &mut Problems) {
    let keys = [
        ("logout_audience", &transmitter.logout_audiences),
        ("revocation_audience", &transmitter.revocation_audiences),
    ];
    for (key, _) in keys.into_iter().filter(|(_, audiences)| !audiences.is_empty()) {
        let problem = Problem::at(format!("{path}.{key}"), "only a hub takes them");
        problems.errors.push(problem.help("write it in `hub.yaml`, and let the filter follow the hub"));
    }
}

/// For each issuer, by its index: the transmitters whose silence makes the state about its grants stale. `issuers` is
/// the number of issuers.
pub(crate) fn heartbeats(transmitters: &[Transmitter], issuers: usize) -> Vec<Vec<TransmitterId>> {
    let beats = |index: IssuerIndex| {
        let speaks = move |transmitter: &&Transmitter| {
            transmitter.permissions.heartbeat && transmitter.subjects.iter().any(|(_, issuer)| *issuer == index)
        };
        transmitters.iter().filter(speaks).map(|transmitter| TransmitterId::new(&transmitter.stream)).collect()
    };
    (0..issuers).map(IssuerIndex::new).map(beats).collect()
}

/// The kind of the state key for an `opaque` subject.
pub(crate) fn opaque_kind(config: OpaqueConfig) -> Kind {
    match config {
        OpaqueConfig::Session => Kind::Session,
        OpaqueConfig::User => Kind::User,
        OpaqueConfig::Token => Kind::Token,
    }
}

/// A name that distinguishes the stream at position `at`: the issuer if it has one stream; else the issuer, the
/// audiences, and the number of earlier streams with the same issuer and audiences.
pub(crate) fn stream(transmitters: &[TransmitterConfig], at: usize) -> String {
    let Some(this) = transmitters.get(at) else { return String::new() };
    let of_issuer = |other: &&TransmitterConfig| other.issuer == this.issuer;
    if transmitters.iter().filter(of_issuer).count() < 2 {
        return this.issuer.clone();
    }
    let audiences = this.audience.0.join(" ");
    let same = transmitters.iter().take(at).filter(of_issuer).filter(|other| other.audience.0.join(" ") == audiences);
    format!("{} {audiences} {}", this.issuer, same.count())
}

/// Reports two streams that cannot be distinguished: each SET must belong to exactly one stream.
pub(crate) fn check_told_apart(transmitters: &[TransmitterConfig], at: usize, problems: &mut Problems) {
    let Some(this) = transmitters.get(at) else { return };
    let alike = |other: &&TransmitterConfig| {
        other.issuer == this.issuer
            && other.audience.0.iter().any(|audience| this.audience.0.contains(audience))
            && other.authorization == this.authorization
            && other.keys == this.keys
    };
    if transmitters.iter().take(at).any(|other| alike(&other)) {
        let message = format!("`{}` is configured twice, and nothing tells its streams apart", this.issuer);
        let problem = Problem::at(format!("signals.transmitters[{at}].issuer"), message);
        problems.errors.push(problem.help("give each stream an `audience`, an `authorization` or `keys` of its own"));
    }
}

/// Adds the check of `signals.stale` to a rule, unless the rule has its own `state_age` or allows a stale state.
pub(crate) fn ask_for_fresh_state(stale: Option<&StaleLimit>, rule: &RuleConfig, requirement: &mut Requirement) {
    let Some(stale) = stale else { return };
    let has_own = requirement.checks.iter().any(|check| matches!(check, Check::StateAge(_)));
    if rule.stale.unwrap_or(stale.then) == UnknownConfig::Deny && !has_own {
        requirement.checks.insert(0, Check::StateAge(stale.after));
    }
}

/// Checks `signals.stale`, and warns where requests pass when the state is stale.
pub(crate) fn check_stale(
    signals: &SignalsConfig,
    config: &Config,
    issuers: &[Issuer],
    rules: &[Rule],
    problems: &mut Problems,
) {
    if signals.transmitters.len() > MAX_TRANSMITTERS {
        problems.error("signals.transmitters", format!("must have at most {MAX_TRANSMITTERS} entries"));
    }
    if matches!(signals.stale, Some(StaleConfig::Never)) && signals.hub.is_some() {
        let message =
            "is `never`: when the hub falls silent, requests are judged with the last known state, however old it is";
        problems.warnings.push(Problem::at("signals.stale", message));
    }
    let Some(stale) = signals.stale() else {
        for (at, rule) in config.rules.iter().enumerate() {
            if rule.stale.is_some() {
                let problem = Problem::at(format!("rules[{at}].stale"), "needs `signals.stale`, which is missing");
                problems.errors.push(problem.help("add `signals.stale`, or require `state_age` in this rule"));
            }
        }
        return;
    };
    if stale.after == Span(0) {
        problems.error("signals.stale.after", "must be at least 1s");
    }
    if stale.then == UnknownConfig::Allow {
        let message = "is `allow`: when transmitters fall silent, requests are judged with the last known state, however old it is";
        problems.warnings.push(Problem::at("signals.stale.then", message));
    }
    for issuer in issuers {
        let speaks = |transmitter: &&TransmitterConfig| match &transmitter.subjects {
            Some(subjects) => subjects.contains(&issuer.name),
            None => transmitter.issuer == issuer.name,
        };
        // With `feed` this is the receiver beside a filter that follows a hub, and the hub is heard of.
        let followed = signals.hub.is_some() || signals.feed.is_some();
        if !followed && !signals.transmitters.iter().filter(speaks).any(|transmitter| transmitter.heartbeat) {
            let message = format!(
                "no transmitter with `heartbeat: true` may send signals about `{}`: the state about its grants is always stale",
                issuer.name
            );
            problems.warnings.push(Problem::at("signals.stale", message));
        }
    }
    for (at, rule) in rules.iter().enumerate() {
        let own = config.rules.get(at).and_then(|rule| rule.stale);
        let RuleEffect::Require(requirement) = &rule.effect else { continue };
        let age = requirement.checks.iter().find_map(|check| match check {
            Check::StateAge(age) => Some(*age),
            _ => None,
        });
        if age.is_some_and(|age| age > stale.after) {
            let message =
                format!("lets requests pass when the state is older than `signals.stale.after`, {}", stale.after);
            problems.warnings.push(Problem::at(format!("rules[{at}].require.state_age"), message));
        } else if own == Some(UnknownConfig::Allow) && age.is_none() {
            let message = "lets requests pass when the state is stale";
            problems.warnings.push(Problem::at(format!("rules[{at}].stale"), message));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::compile::Loaded;
    use crate::config::load::load;
    use crate::rules::requirement::Check;
    use crate::rules::rule::Effect;
    use crate::testing::fixture;
    use crate::time::Span;
    use serde_json::{Value, json};

    fn config() -> Value {
        let keys = json!({"inline": fixture::jwks()});
        json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["a"], "keys": keys}],
            "rules": [
                {"name": "plain", "match": {"path": "/plain"}, "require": {}},
                {"name": "own", "match": {"path": "/own"}, "require": {"state_age": "10s"}}
            ],
            "signals": {"transmitters": [{"issuer": "https://jit.example", "audience": "us", "keys": keys}]}
        })
    }

    fn loaded(change: impl FnOnce(&mut Value)) -> Result<Loaded, Vec<String>> {
        let mut config = config();
        change(&mut config);
        load(config.to_string().as_bytes()).map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
    }

    fn ages(loaded: &Loaded) -> Vec<Option<Span>> {
        let age = |effect: &Effect| match effect {
            Effect::Require(requirement) => requirement.checks().iter().find_map(|check| match check {
                Check::StateAge(age) => Some(*age),
                _ => None,
            }),
            _ => None,
        };
        loaded.policy.rules().iter().map(|rule| age(rule.effect())).collect()
    }

    #[test]
    fn each_rule_gets_an_age_unless_it_has_one_or_says_otherwise() {
        let stale = |then: &str| json!({"after": "30s", "then": then});
        let deny = loaded(|config| config["signals"]["stale"] = stale("deny")).unwrap();
        assert_eq!(ages(&deny), [Some(Span(30)), Some(Span(10))]);
        assert!(deny.warnings.is_empty());
        let allow = loaded(|config| {
            config["signals"]["stale"] = stale("allow");
            config["rules"][0]["stale"] = json!("deny");
        });
        let allow = allow.unwrap();
        assert_eq!(ages(&allow), [Some(Span(30)), Some(Span(10))]);
        assert_eq!(allow.warnings.len(), 1);
        let named = loaded(|config| {
            config["signals"]["stale"] = stale("deny");
            config["rules"][0]["stale"] = json!("allow");
            config["rules"][1]["require"]["state_age"] = json!("1h");
        });
        let named = named.unwrap();
        assert_eq!(ages(&named), [None, Some(Span(3600))]);
        let warnings: Vec<String> = named.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "rules[0].stale: lets requests pass when the state is stale",
                "rules[1].require.state_age: lets requests pass when the state is older than `signals.stale.after`, 30s"
            ]
        );
    }

    #[test]
    fn break_glass_lifts_what_a_stale_state_refuses_or_hears_why_not() {
        let glass = |then: &str| {
            loaded(|config| {
                config["signals"]["stale"] = json!({"after": "30s", "then": then});
                config["rules"][0]["break_glass"] = json!({"scope": "emergency", "lifts": ["state_age"]});
            })
        };
        let deny = glass("deny").unwrap();
        let Effect::Require(requirement) = deny.policy.rules()[0].effect() else { panic!() };
        assert_eq!(requirement.break_glass().unwrap().lifts(), ["state_age"]);
        let why = "rules[0].break_glass.lifts[0]: `state_age` is not required by this rule (a stale state already lets the requests of this rule pass, because `stale` or `signals.stale.then` is `allow`)";
        assert_eq!(glass("allow").err().unwrap(), [why]);
        let without = loaded(|config| {
            config["rules"][0]["break_glass"] = json!({"scope": "emergency", "lifts": ["state_age"]});
        });
        let why = "rules[0].break_glass.lifts[0]: `state_age` is not required by this rule (neither this rule nor \
                   `signals.stale` requires it)";
        assert_eq!(without.err().unwrap(), [why]);
    }

    #[test]
    fn nobody_to_hear_of_is_worth_a_warning() {
        let loaded = loaded(|config| {
            config["signals"]["stale"] = json!({"after": "30s"});
            config["signals"]["transmitters"][0]["heartbeat"] = json!(false);
        });
        let warning = loaded.unwrap().warnings[0].to_string();
        assert!(warning.contains("no transmitter with `heartbeat: true`"), "{warning}");
    }

    #[test]
    fn beside_a_hub_the_hub_is_heard_of() {
        let loaded = loaded(|config| {
            config["role"] = json!("receiver");
            config["signals"]["stale"] = json!({"after": "30s"});
            config["signals"]["feed"] = json!("main");
            config["signals"]["transmitters"][0]["heartbeat"] = json!(false);
        });
        let warnings: Vec<String> = loaded.unwrap().warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn each_message() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 12] = [
            (
                |c| c["issuers"][0]["claims"] = json!({"subjects": {"opaque": "sid"}}),
                "issuers[0].claims.subjects.opaque: unknown value `sid` (known: `session`, `user`, `token`)",
            ),
            (
                |c| c["issuers"][0]["claims"] = json!({"subjects": {"iss_sub": {"https://jit.example": "x"}}}),
                "issuers[0].claims.subjects.iss_sub.https://jit.example: names this issuer itself, whose users are already identified by `sub` (write the issuer that signals about these users contain)",
            ),
            (
                |c| c["signals"]["transmitters"][0]["audience"] = json!([]),
                "signals.transmitters[0].audience: must not be empty",
            ),
            (
                |c| {
                    let mut other = c["signals"]["transmitters"][0].clone();
                    other["audience"] = json!(["them", "us"]);
                    c["signals"]["transmitters"].as_array_mut().unwrap().push(other);
                },
                "signals.transmitters[1].issuer: `https://jit.example` is configured twice, and nothing tells its streams apart (give each stream an `audience`, an `authorization` or `keys` of its own)",
            ),
            (
                |c| c["signals"]["transmitters"][0]["events"] = json!(["task-complete"]),
                "signals.transmitters[0].events[0]: unknown event `task-complete` (did you mean `task-completed`?)",
            ),
            (
                |c| {
                    c["signals"]["transmitters"][0]["event_uris"] =
                        json!({"urn:taskfence:secevent:task-completed": "session-revoked"})
                },
                "signals.transmitters[0].event_uris.urn:taskfence:secevent:task-completed: is already the URI of task-completed",
            ),
            (
                |c| c["signals"]["transmitters"][0]["settable_claims"] = json!(["sub"]),
                "signals.transmitters[0].settable_claims[0]: `sub` cannot be set by a signal",
            ),
            (
                |c| c["signals"]["effects"] = json!({"account-disabled": "set"}),
                "signals.effects.account-disabled: cannot be `set` or `set_and_end`: the event carries no value to set (write `end` or `ignore`)",
            ),
            (
                |c| c["signals"]["effects"] = json!({"account-disable": "end"}),
                "signals.effects.account-disable: unknown key `account-disable` (did you mean `account-disabled`?)",
            ),
            (
                |c| c["issuers"][0]["claims"] = json!({"subjects": {"mail": "email"}}),
                "issuers[0].claims.subjects.mail: unknown key `mail` (did you mean `email`?)",
            ),
            (
                |c| c["rules"][0]["stale"] = json!("deny"),
                "rules[0].stale: needs `signals.stale`, which is missing (add `signals.stale`, or require `state_age` in this rule)",
            ),
            (|c| c["signals"]["stale"] = json!({"after": "0s"}), "signals.stale.after: must be at least 1s"),
        ];
        for (change, message) in cases {
            let errors = loaded(change).map(|_| ()).expect_err(message);
            assert!(errors.contains(&message.to_owned()), "want {message}\nhave {errors:?}");
        }
    }
}
