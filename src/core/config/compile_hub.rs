//! Compiles `signals.hub`: the feed that a filter follows, and what that feed must cover.

use crate::config::checks;
use crate::config::compile_keys;
use crate::config::literal::{self, LoneWildcard};
use crate::config::model::{Config, HubConfig, SignalsConfig};
use crate::config::problem::{Problem, Problems};
use crate::encoding::digest::sha256;
use crate::encoding::secret::Secret;
use crate::jose::algorithm::Algorithm;
use crate::jose::key::KeySet;
use crate::policy::policy::Role;
use crate::rules::mode::Mode;
use crate::rules::requirement::{Check, Requirement};
use crate::rules::rule::{Effect, Rule};
use crate::signal::hub_source::{HubSource, covered};
use crate::signal::signals::Signals;
use crate::state::coverage::{FeedId, MAX_ISSUERS};
use crate::state::freshness::MAX_TRANSMITTERS;
use crate::time::Span;
use crate::token::issuer::Issuer;

/// The longest `wait`: proxies between filter and hub end requests that are silent for longer.
const LONGEST_WAIT: Span = Span(25);

/// The shortest `stale.after` and `state_age` with a hub. The state is as old as the last statement, and a statement is
/// at least a second apart from the next; a shorter limit refuses requests although the hub is well.
const SHORTEST_AGE: Span = Span(5);

/// The greatest length of the name of a feed, in bytes.
const MAX_FEED: usize = 64;

/// Adds the hub to `signals`, if `config` has one, with the hub as the source of freshness of each issuer. `issuers` and
/// `rules` are those of `config`, compiled.
pub(crate) fn follow(
    config: &Config,
    signals: &mut Signals,
    issuers: &[Issuer],
    rules: &[Rule],
    problems: &mut Problems,
) {
    let Some(typed) = &config.signals else { return };
    check_feed_name(typed.feed.as_deref(), "signals.feed", problems);
    let Some(hub) = &typed.hub else {
        if typed.also_receiver {
            let problem = Problem::at("signals.also_receiver", "needs `signals.hub`, which is missing");
            problems.errors.push(problem.help("remove it: without a hub, all signals come from a receiver"));
        }
        return;
    };
    check_beside(config, typed, problems);
    check_ages(typed, rules, problems);
    check_room(typed, issuers, problems);
    let source = source(hub, config, issuers, rules, problems);
    for (beats, needed) in signals.heartbeats.iter_mut().zip(&source.needed) {
        beats.push(needed.id.transmitter(source.id));
    }
    signals.hub = Some(source);
}

/// Checks what stands beside `signals.hub`.
fn check_beside(config: &Config, signals: &SignalsConfig, problems: &mut Problems) {
    if config.role == Role::Receiver {
        let problem = Problem::at("signals.hub", "a receiver does not follow a hub");
        problems.errors.push(problem.help(
            "remove it here and keep it in the filter; if the filter also has a receiver, write the name of its feed in `signals.feed`",
        ));
    }
    if signals.feed.is_some() {
        let problem = Problem::at("signals.feed", "stands beside `signals.hub`, which names the feed");
        problems.errors.push(problem.help("remove it, and write the feed in `signals.hub.feed`"));
    }
    if !signals.also_receiver {
        for (name, given) in
            [("transmitters", !signals.transmitters.is_empty()), ("effects", !signals.effects.is_empty())]
        {
            if given {
                let path = format!("signals.{name}");
                let problem =
                    Problem::at(path, "has no effect beside `signals.hub`: it stands in the hub's configuration");
                problems
                    .errors
                    .push(problem.help(
                        "remove it, or write `also_receiver: true` if this proxy also has a receiver of signals",
                    ));
            }
        }
    }
    if signals.stale.is_none() {
        let problem =
            Problem::at("signals.stale", "is missing: a filter that loses its hub would never refuse requests");
        problems.errors.push(problem.help(
            "write for example `stale: {after: 30s}`, or `stale: never` to judge with the last known state, however old it is",
        ));
    }
}

/// Checks that no limit of age is shorter than a hub can meet.
fn check_ages(signals: &SignalsConfig, rules: &[Rule], problems: &mut Problems) {
    let after = signals.stale().map(|stale| stale.after);
    let message = || format!("must be at least {SHORTEST_AGE} with `signals.hub`");
    // A limit of 0s has an error of its own.
    if after.is_some_and(|after| after < SHORTEST_AGE && after > Span(0)) {
        problems.error("signals.stale.after", message());
    }
    for (at, rule) in rules.iter().enumerate() {
        let Effect::Require(requirement) = &rule.effect else { continue };
        if state_age(requirement).is_some_and(|age| age < SHORTEST_AGE && Some(age) != after) {
            problems.error(format!("rules[{at}].require.state_age"), message());
        }
    }
}

/// Checks that the state has room for what is known about each issuer.
fn check_room(signals: &SignalsConfig, issuers: &[Issuer], problems: &mut Problems) {
    if issuers.len() > MAX_ISSUERS {
        problems.error("issuers", format!("must have at most {MAX_ISSUERS} entries with `signals.hub`"));
    }
    let transmitters = signals.transmitters.len();
    if transmitters > 0 && issuers.len().saturating_add(transmitters) > MAX_TRANSMITTERS {
        let message =
            format!("must have, together with `issuers`, at most {MAX_TRANSMITTERS} entries with `signals.hub`");
        problems.error("signals.transmitters", message);
    }
}

fn source(hub: &HubConfig, config: &Config, issuers: &[Issuer], rules: &[Rule], problems: &mut Problems) -> HubSource {
    if hub.name.is_empty() {
        problems.error("signals.hub.name", "must not be empty");
    }
    let help = "write exactly the name that the hub has in its configuration";
    literal::check_wildcard(&hub.name, LoneWildcard::Error, "signals.hub.name", help, problems);
    if hub.cluster.is_empty() {
        problems.error("signals.hub.cluster", "must not be empty");
    }
    check_feed_name(Some(&hub.feed), "signals.hub.feed", problems);
    let path = hub.path.clone().unwrap_or_else(|| format!("/v1/feeds/{}", hub.feed));
    if hub.path.is_some() && (!path.starts_with('/') || !compile_keys::visible(&path) || path.contains(['?', '#'])) {
        let problem = Problem::at("signals.hub.path", format!("`{path}` is not a path such as `/v1/feeds/main`"));
        problems
            .errors
            .push(problem.help("a path begins with `/` and has no query; other characters are percent-encoded"));
    }
    let host = hub.host.clone().unwrap_or_else(|| host_of_cluster(&hub.cluster).to_owned());
    if !hub.cluster.is_empty() || hub.host.is_some() {
        compile_keys::check_host(&host, "signals.hub.host", problems);
    }
    if hub.authorization.as_deref().is_some_and(|text| !checks::is_header_value(text)) {
        let problem = Problem::at("signals.hub.authorization", "is not the value of a header");
        problems.errors.push(problem.help("write printable ASCII, such as `Bearer` and the token of this proxy"));
    }
    HubSource {
        hub: hub.name.clone(),
        feed: hub.feed.clone(),
        id: FeedId::new(&hub.name, &hub.feed),
        cluster: hub.cluster.clone(),
        host,
        path,
        authorization: hub.authorization.clone().map(Secret::from),
        keys: keys(hub, problems),
        keys_hash: short_hash(&hub.keys.inline.0.to_string()),
        wait: wait(hub, rules, problems),
        needed: issuers.iter().map(covered).collect(),
        config_hash: String::new(),
        closes_after: closes_after(config, rules),
        vouched_within: vouched_within(hub, config, problems),
    }
}

fn keys(hub: &HubConfig, problems: &mut Problems) -> KeySet {
    compile_keys::inline(&hub.keys.inline.0, &[Algorithm::ES256], "signals.hub.keys", problems)
}

/// How long the hub may hold a request: a third of the shortest age that a rule accepts, so that the state does not become
/// stale while nothing happens.
fn wait(hub: &HubConfig, rules: &[Rule], problems: &mut Problems) -> Span {
    let ages = rules.iter().filter_map(|rule| match &rule.effect {
        Effect::Require(requirement) => state_age(requirement),
        Effect::Anonymous | Effect::Deny => None,
    });
    let third = ages.min().map(|age| Span(age.0.checked_div(3).unwrap_or(1).max(1)));
    let longest = third.map_or(LONGEST_WAIT, |third| third.min(LONGEST_WAIT));
    let Some(wait) = hub.wait else { return longest };
    if wait < Span(1) || wait > longest {
        let problem = Problem::at("signals.hub.wait", format!("must be between 1s and {longest}"));
        problems.errors.push(problem.help(
            "it may be a third of the shortest age of the state that a rule accepts, and at most 25s; remove it to use that",
        ));
    }
    wait
}

/// How old a statement may be by which a relay vouches. It must be one that the filter does not refuse as too old.
fn vouched_within(hub: &HubConfig, config: &Config, problems: &mut Problems) -> Option<Span> {
    let within = hub.caught_up.as_ref()?.relay;
    let path = "signals.hub.caught_up.relay";
    match config.signals.as_ref().and_then(SignalsConfig::stale).map(|stale| stale.after) {
        None => {
            let problem = Problem::at(path, "needs `signals.stale.after`, which says how old the state may be");
            problems.errors.push(problem.help("write for example `stale: {after: 90s}`, or remove `caught_up`"));
        }
        Some(after) if within > after || within < Span(1) => {
            let problem = Problem::at(path, format!("must be between 1s and `signals.stale.after`, which is {after}"));
            problems.errors.push(problem.help("a statement that is older is refused as too old all the same"));
        }
        Some(_) => {}
    }
    Some(within)
}

/// The age of the state after which every rule refuses; `None` when one of them lets requests pass, however old the state
/// is. A break-glass scope that lifts `state_age` is not counted.
fn closes_after(config: &Config, rules: &[Rule]) -> Option<Span> {
    let mut longest = config.signals.as_ref().and_then(SignalsConfig::stale)?.after;
    for rule in rules {
        let Effect::Require(requirement) = &rule.effect else { continue };
        if rule.mode.unwrap_or(config.mode) == Mode::Shadow {
            return None;
        }
        longest = longest.max(state_age(requirement)?);
    }
    Some(longest)
}

/// The age of the state that the rule accepts.
fn state_age(requirement: &Requirement) -> Option<Span> {
    requirement.checks.iter().find_map(|check| match check {
        Check::StateAge(age) => Some(*age),
        _ => None,
    })
}

fn check_feed_name(name: Option<&str>, path: &str, problems: &mut Problems) {
    let Some(name) = name else { return };
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if name.is_empty() || name.len() > MAX_FEED || !letters {
        let problem = Problem::at(path, format!("`{name}` is not the name of a feed"));
        problems
            .errors
            .push(problem.help(format!("a name has lower-case letters, digits and `-`, at most {MAX_FEED}")));
    }
}

/// The first bytes of the SHA-256 of `text`.
pub(crate) fn short_hash(text: &str) -> [u8; 8] {
    let mut hash = [0; 8];
    hash.iter_mut().zip(sha256(text.as_bytes())).for_each(|(to, from)| *to = from);
    hash
}

/// The host that the name of a cluster says: Istio's are `outbound|PORT|SUBSET|HOST`, and `|` may not stand in a host
/// (RFC 3986 section 3.2.2). Other names are taken as they are.
fn host_of_cluster(cluster: &str) -> &str {
    match cluster.split('|').collect::<Vec<_>>().as_slice() {
        ["outbound", _, _, host] => host,
        _ => cluster,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::compile::Loaded;
    use crate::config::load::load;
    use crate::encoding::secret::Secret;
    use crate::signal::hub_source::HubSource;
    use crate::state::coverage::FeedId;
    use crate::testing::fixture;
    use crate::time::Span;
    use serde_json::{Value, json};

    fn config() -> Value {
        let keys = json!({"inline": fixture::jwks()});
        json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["a"], "keys": keys}],
            "rules": [
                {"name": "plain", "match": {"path": "/plain"}, "require": {}},
                {"name": "open", "match": {"path": "/open"}, "allow": "anonymous"}
            ],
            "signals": {"hub": {"cluster": "hub", "feed": "main", "keys": keys}, "stale": {"after": "30s"}}
        })
    }

    fn loaded(change: impl FnOnce(&mut Value)) -> Result<Loaded, Vec<String>> {
        let mut config = config();
        change(&mut config);
        load(config.to_string().as_bytes()).map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
    }

    fn hub(change: impl FnOnce(&mut Value)) -> HubSource {
        let mut policy = loaded(change).unwrap().policy;
        policy.signals.hub.take().unwrap()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let source = hub(|_| {});
        assert_eq!((source.hub.as_str(), source.feed.as_str()), ("taskfence-hub", "main"));
        assert_eq!(source.id, FeedId::new("taskfence-hub", "main"));
        assert_eq!(
            (source.cluster.as_str(), source.host.as_str(), source.path.as_str()),
            ("hub", "hub", "/v1/feeds/main")
        );
        assert_eq!((source.authorization, source.wait, source.closes_after), (None, Span(10), Some(Span(30))));
        assert_eq!((source.keys.len(), source.needed.len()), (1, 1));
        assert_eq!(loaded(|_| {}).unwrap().warnings, []);
    }

    #[test]
    fn the_host_of_a_cluster_of_istio_is_the_last_part_of_its_name() {
        let host = |cluster: &str| hub(|c| c["signals"]["hub"]["cluster"] = json!(cluster)).host;
        assert_eq!(host("outbound|8500||hub.taskfence.svc.cluster.local"), "hub.taskfence.svc.cluster.local");
        assert_eq!(host("outbound|8500|v1|hub.example"), "hub.example");
        assert_eq!(host("taskfence-hub"), "taskfence-hub");
    }

    #[test]
    fn what_is_typed_is_taken() {
        let source = hub(|c| {
            let hub = &mut c["signals"]["hub"];
            hub["name"] = json!("hub.example");
            hub["path"] = json!("/relay/main");
            hub["host"] = json!("hub.example:8443");
            hub["authorization"] = json!("Bearer secret");
            hub["wait"] = json!("7s");
        });
        assert_eq!(source.id, FeedId::new("hub.example", "main"));
        assert_eq!((source.host.as_str(), source.path.as_str()), ("hub.example:8443", "/relay/main"));
        assert!(!format!("{source:?}").contains("secret\"") && format!("{source:?}").contains("[secret]"));
        let authorization = source.authorization.as_ref().map(Secret::reveal);
        assert_eq!((authorization, source.wait), (Some("Bearer secret"), Span(7)));
    }

    #[test]
    fn the_hash_of_the_configuration_and_that_of_the_keys_change_with_them() {
        let source = hub(|_| {});
        assert_eq!((source.config_hash.len(), &source.config_hash), (16, &hub(|_| {}).config_hash));
        let renamed = hub(|c| c["rules"][0]["name"] = json!("other"));
        assert!(renamed.config_hash != source.config_hash && renamed.keys_hash == source.keys_hash);
        let rotated = hub(|c| c["signals"]["hub"]["keys"]["inline"]["keys"][0]["kid"] = json!("next"));
        assert_ne!(rotated.keys_hash, source.keys_hash);
    }

    #[test]
    fn the_wait_is_a_third_of_the_shortest_age_and_bounded() {
        for (after, wait) in [("5s", 1), ("30s", 10), ("1m", 20), ("5m", 25)] {
            assert_eq!(hub(|c| c["signals"]["stale"]["after"] = json!(after)).wait, Span(wait), "{after}");
        }
        assert_eq!(hub(|c| c["signals"]["stale"] = json!("never")).wait, Span(25));
        assert_eq!(hub(|c| c["rules"][0]["require"]["state_age"] = json!("9s")).wait, Span(3));
    }

    #[test]
    fn it_closes_only_where_every_rule_does() {
        let closes = |change: fn(&mut Value)| hub(change).closes_after;
        assert_eq!(closes(|c| c["signals"]["stale"] = json!("never")), None);
        assert_eq!(closes(|c| c["signals"]["stale"]["then"] = json!("allow")), None);
        assert_eq!(closes(|c| c["rules"][0]["stale"] = json!("allow")), None);
        assert_eq!(closes(|c| c["rules"][0]["require"]["state_age"] = json!("2m")), Some(Span(120)));
        assert_eq!(closes(|c| c["mode"] = json!("shadow")), None);
        assert_eq!(closes(|c| c["rules"][0]["mode"] = json!("shadow")), None);
        assert_eq!(closes(|c| c["rules"][1]["mode"] = json!("shadow")), Some(Span(30)));
    }

    #[test]
    fn a_relay_vouches_only_where_it_may_and_by_a_new_statement() {
        let (never, sometimes) = (hub(|_| {}), hub(|c| c["signals"]["hub"]["caught_up"] = json!({"relay": "30s"})));
        let now = 1_790_000_000_000;
        for (at, vouched) in [(now, true), (now - 30_000, true), (now - 30_001, false), (0, false)] {
            assert_eq!(sometimes.vouches(at, now), vouched, "{at}");
            assert!(!never.vouches(at, now));
        }
    }

    #[test]
    fn the_hub_is_what_must_be_heard_of() {
        let beats = |change: fn(&mut Value)| loaded(change).unwrap().policy.signals.heartbeats;
        let source = hub(|_| {});
        let from_hub = source.needed[0].id.transmitter(source.id);
        assert_eq!(beats(|_| {}), [vec![from_hub]]);
        let both = beats(|c| {
            let keys = c["issuers"][0]["keys"].clone();
            c["signals"]["also_receiver"] = json!(true);
            c["signals"]["transmitters"] = json!([{"issuer": "https://jit.example", "audience": "us", "keys": keys}]);
        });
        assert_eq!(both[0].len(), 2);
        assert!(both[0].contains(&from_hub));
    }

    #[test]
    fn each_message() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 23] = [
            (
                |c| c["signals"]["hub"]["feeds"] = json!("main"),
                "signals.hub.feeds: unknown key `feeds` (did you mean `feed`?)",
            ),
            (|c| c["signals"]["hub"]["keys"] = json!({}), "signals.hub.keys: missing key `inline`"),
            (
                |c| c["signals"]["hub"]["keys"]["inline"]["keys"] = json!([]),
                "signals.hub.keys.inline.keys: must have at least one key",
            ),
            (|c| c["signals"]["hub"]["name"] = json!(""), "signals.hub.name: must not be empty"),
            (|c| c["signals"]["hub"]["cluster"] = json!(""), "signals.hub.cluster: must not be empty"),
            (
                |c| c["signals"]["hub"]["feed"] = json!("Main"),
                "signals.hub.feed: `Main` is not the name of a feed (a name has lower-case letters, digits and `-`, at most 64)",
            ),
            (
                |c| c["signals"]["hub"]["path"] = json!("/v1/feeds/main?a=b"),
                "signals.hub.path: `/v1/feeds/main?a=b` is not a path such as `/v1/feeds/main` (a path begins with `/` and has no query; other characters are percent-encoded)",
            ),
            (
                |c| c["signals"]["hub"]["host"] = json!("https://hub"),
                "signals.hub.host: `https://hub` is not a host such as `jit.example` or `jit.example:8443`",
            ),
            (
                |c| c["signals"]["hub"]["authorization"] = json!("Bearer a\n"),
                "signals.hub.authorization: is not the value of a header (write printable ASCII, such as `Bearer` and the token of this proxy)",
            ),
            (
                |c| c["signals"]["hub"]["wait"] = json!("11s"),
                "signals.hub.wait: must be between 1s and 10s (it may be a third of the shortest age of the state that a rule accepts, and at most 25s; remove it to use that)",
            ),
            (
                |c| c["signals"]["hub"]["caught_up"] = json!({"relay": "31s"}),
                "signals.hub.caught_up.relay: must be between 1s and `signals.stale.after`, which is 30s (a statement that is older is refused as too old all the same)",
            ),
            (
                |c| c["signals"]["hub"]["caught_up"] = json!({"relay": "0s"}),
                "signals.hub.caught_up.relay: must be between 1s and `signals.stale.after`, which is 30s (a statement that is older is refused as too old all the same)",
            ),
            (
                |c| {
                    c["signals"]["hub"]["caught_up"] = json!({"relay": "10s"});
                    c["signals"]["stale"] = json!("never");
                },
                "signals.hub.caught_up.relay: needs `signals.stale.after`, which says how old the state may be (write for example `stale: {after: 90s}`, or remove `caught_up`)",
            ),
            (
                |c| c["role"] = json!("receiver"),
                "signals.hub: a receiver does not follow a hub (remove it here and keep it in the filter; if the filter also has a receiver, write the name of its feed in `signals.feed`)",
            ),
            (
                |c| c["signals"]["feed"] = json!("main"),
                "signals.feed: stands beside `signals.hub`, which names the feed (remove it, and write the feed in `signals.hub.feed`)",
            ),
            (
                |c| c["signals"]["effects"] = json!({"account-disabled": "end"}),
                "signals.effects: has no effect beside `signals.hub`: it stands in the hub's configuration (remove it, or write `also_receiver: true` if this proxy also has a receiver of signals)",
            ),
            (
                |c| {
                    let keys = c["issuers"][0]["keys"].clone();
                    c["signals"]["transmitters"] =
                        json!([{"issuer": "https://jit.example", "audience": "us", "keys": keys}]);
                },
                "signals.transmitters: has no effect beside `signals.hub`: it stands in the hub's configuration (remove it, or write `also_receiver: true` if this proxy also has a receiver of signals)",
            ),
            (|c| c["signals"]["also_receiver"] = json!(true), "signals.transmitters: must have at least one entry"),
            (
                |c| c["signals"] = json!({"also_receiver": true, "transmitters": []}),
                "signals.also_receiver: needs `signals.hub`, which is missing (remove it: without a hub, all signals come from a receiver)",
            ),
            (
                |c| {
                    c["signals"].as_object_mut().unwrap().remove("stale");
                },
                "signals.stale: is missing: a filter that loses its hub would never refuse requests (write for example `stale: {after: 30s}`, or `stale: never` to judge with the last known state, however old it is)",
            ),
            (|c| c["signals"]["stale"] = json!("nevr"), "signals.stale: unknown value `nevr` (did you mean `never`?)"),
            (
                |c| c["signals"]["stale"]["after"] = json!("4s"),
                "signals.stale.after: must be at least 5s with `signals.hub`",
            ),
            (
                |c| c["rules"][0]["require"]["state_age"] = json!("2s"),
                "rules[0].require.state_age: must be at least 5s with `signals.hub`",
            ),
        ];
        for (change, message) in cases {
            let errors = loaded(change).map(|_| ()).expect_err(message);
            assert!(errors.contains(&message.to_owned()), "want {message}\nhave {errors:?}");
        }
    }

    #[test]
    fn a_hub_signs_with_es256() {
        let errors = loaded(|c| {
            let jwk = &mut c["signals"]["hub"]["keys"]["inline"]["keys"][0];
            *jwk =
                json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "h"});
        });
        let errors = errors.map(|_| ()).unwrap_err();
        assert!(errors[0].starts_with("signals.hub.keys.inline.keys[0]: "), "{errors:?}");
    }

    #[test]
    fn there_is_room_for_each_issuer() {
        let issuers = |number: usize| {
            move |c: &mut Value| {
                let issuer = c["issuers"][0].clone();
                let one = |at: usize| {
                    let mut issuer = issuer.clone();
                    issuer["issuer"] = json!(format!("https://{at}.example"));
                    issuer
                };
                c["issuers"] = (0..number).map(one).collect();
            }
        };
        assert_eq!(hub(issuers(30)).needed.len(), 30);
        let errors = loaded(issuers(31)).map(|_| ()).unwrap_err();
        assert_eq!(errors, ["issuers: must have at most 30 entries with `signals.hub`"]);
    }
}
