//! Compiles one of `feeds`: its issuers and transmitters are read by the code of the filter, as the configuration of a
//! receiver.

use crate::config::hub::Feed;
use crate::config::model::{FeedConfig, HubConfig};
use crate::config::name;
use crate::config::problem::{self, Found, Problem};
use crate::config::{compile_ssf, compile_streams};
use serde_json::{Map, Value, json};
use taskfence_core::config::load;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::operator::is_caller_stream;
use taskfence_core::signal::provider::assertion::Way;
use taskfence_core::signal::transmitter::Transmitter;
use taskfence_core::state::coverage::{FeedId, MAX_ISSUERS};
use taskfence_core::token::issuer::Issuer;

/// A feed has at most this many transmitters: a proxy knows 32 in all.
const MAX_TRANSMITTERS: usize = 30;

/// The keys of `signals` in a feed.
const SIGNALS: [&str; 2] = ["transmitters", "effects"];

/// The feed at position `at`; `None` when it has errors.
pub(super) fn feed(hub: &HubConfig, feed: &FeedConfig, at: usize, found: &mut Found) -> Option<Feed> {
    let path = format!("feeds[{at}]");
    check_name(hub, feed, at, found);
    if feed.issuers.is_null() {
        let help = "list the issuers that it covers, as in the configuration of a filter";
        found.error(format!("{path}.issuers"), "is missing", help);
        return None;
    }
    check_counts(feed, &path, found);
    let mut signals = feed.signals.clone();
    let managed = signals.get_mut("transmitters").map(compile_ssf::take_out).unwrap_or_default();
    let policy = policy(feed, signals, &path, found)?;
    // An entry with captures stands for several. More entries than that were reported above.
    let (issuers, entries) = (policy.issuers().len(), feed.issuers.as_array().map_or(0, Vec::len));
    if issuers > MAX_ISSUERS && entries <= MAX_ISSUERS {
        let message = format!("stands for {issuers} issuers, and a feed may have {MAX_ISSUERS}");
        found.error(format!("{path}.issuers"), message, "divide it into several feeds");
    }
    check_transmitters(hub, &policy, &path, found);
    let relay_from = feed.receivers.as_ref().map_or_else(Vec::new, |receivers| receivers.relay_from.clone());
    let streams = compile_ssf::streams(&feed.name, &managed, &policy, &path, found);
    let compiled = Feed::new(feed.name.clone(), FeedId::new(&hub.name, &feed.name), policy, streams, relay_from);
    compile_streams::relay_from(hub, feed, &compiled, &path, found);
    Some(compiled)
}

/// Checks that the name of the feed at position `at` is one, and no other's.
pub(super) fn check_name(hub: &HubConfig, feed: &FeedConfig, at: usize, found: &mut Found) {
    let path = format!("feeds[{at}]");
    if !name::is_feed_name(&feed.name) {
        let help = "use 1 to 63 lower-case letters, digits and `-`, such as `main`";
        found.error(format!("{path}.name"), format!("`{}` cannot be the name of a feed", feed.name), help);
    } else if hub.feeds.iter().take(at).any(|earlier| earlier.name == feed.name) {
        let help = "give each feed a name of its own";
        found.error(format!("{path}.name"), format!("`{}` is the name of an earlier feed", feed.name), help);
    }
}

fn check_counts(feed: &FeedConfig, path: &str, found: &mut Found) {
    let lists = [
        ("issuers", Some(&feed.issuers), MAX_ISSUERS),
        ("signals.transmitters", feed.signals.get("transmitters"), MAX_TRANSMITTERS),
    ];
    for (name, list, most) in lists {
        let count = list.and_then(Value::as_array).map_or(0, Vec::len);
        if count > most {
            let message = format!("has {count} entries, and a feed may have {most}");
            found.error(format!("{path}.{name}"), message, "divide it into several feeds");
        }
    }
}

/// What the filter's own code makes of the feed. Its problems get the path of the feed.
fn policy(feed: &FeedConfig, signals: Value, path: &str, found: &mut Found) -> Option<Policy> {
    let mut config = json!({"role": "receiver", "issuers": feed.issuers});
    match signals {
        Value::Null => insert(&mut config, "signals", receiver(Map::new(), &feed.name)),
        Value::Object(mut signals) => {
            for name in signals.keys().filter(|name| !SIGNALS.contains(&name.as_str())) {
                let problem = Problem::at(format!("{path}.signals.{name}"), format!("unknown key `{name}`"));
                found.errors.push(problem.help(remedy(name)));
            }
            signals.retain(|name, _| SIGNALS.contains(&name.as_str()));
            insert(&mut config, "signals", receiver(signals, &feed.name));
        }
        other => insert(&mut config, "signals", other),
    }
    match load::load_feed(config.to_string().as_bytes()) {
        Ok(loaded) => {
            found.warnings.extend(loaded.warnings.into_iter().map(|problem| placed(problem, path)));
            Some(loaded.policy)
        }
        Err(errors) => {
            // A name that is no path was reported as a name.
            let own = errors.0.into_iter().filter(|problem| problem.path != "signals.path");
            found.errors.extend(own.map(|problem| placed(problem, path)));
            None
        }
    }
}

/// `signals` of the receiver that the feed `name` is.
fn receiver(mut signals: Map<String, Value>, name: &str) -> Value {
    signals.insert("path".to_owned(), Feed::intake_path(name).into());
    // Filters that follow the feed hash names under it, so the hub must too.
    if name::is_feed_name(name) {
        signals.insert("feed".to_owned(), name.into());
    }
    Value::Object(signals)
}

fn insert(config: &mut Value, name: &str, value: Value) {
    if let Some(members) = config.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

fn remedy(name: &str) -> String {
    match name {
        "path" => "remove it: SETs are pushed to `/v1/feeds/NAME/signals`".to_owned(),
        "stale" | "hub" => "it belongs in the configuration of the filters that follow the feed".to_owned(),
        _ => problem::known(name, SIGNALS).unwrap_or_default(),
    }
}

fn placed(problem: Problem, feed: &str) -> Problem {
    let path = if problem.path.is_empty() { feed.to_owned() } else { format!("{feed}.{}", problem.path) };
    Problem { path, ..problem }
}

/// Whether a token may name a user as `transmitter` does by its own name.
fn knows_users(policy: &Policy, transmitter: &Transmitter) -> bool {
    let name = &transmitter.name;
    let renamed = transmitter.permissions.subject_issuers.iter().any(|(from, _)| from == name);
    let claimed = |issuer: &Issuer| issuer.claims.foreign_users.iter().any(|(from, _)| from == name);
    let mut issuers = transmitter.subjects.iter().map(|(known, index)| (known, policy.issuer(*index)));
    renamed || issuers.any(|(known, issuer)| known == name || issuer.is_some_and(claimed))
}

/// Checks what only a hub asks of transmitters: a cluster that it knows, and a name that is not its own.
fn check_transmitters(hub: &HubConfig, policy: &Policy, path: &str, found: &mut Found) {
    for (at, transmitter) in policy.signals().transmitters().iter().enumerate() {
        let path = format!("{path}.signals.transmitters[{at}]");
        let help = "configure the `iss` of a transmitter";
        if is_caller_stream(&transmitter.stream) {
            found.error(format!("{path}.issuer"), "is a name that the hub gives to callers of its API", help);
        } else if Way::of_stream(&transmitter.stream).is_some() {
            found.error(format!("{path}.issuer"), "is a name that the hub gives to what comes in another way", help);
        }
        if !transmitter.logout_audiences.is_empty() && !knows_users(policy, transmitter) {
            let message = "names users that no token of its `subjects` has: logout tokens with `sub` alone are refused";
            let help = format!(
                "write `subject_issuers: {{{0}: ISSUER}}` if `sub` of that issuer has the same values, or \
                 `claims.subjects.iss_sub` of the issuer",
                transmitter.name
            );
            found.warnings.push(Problem::at(format!("{path}.logout_audience"), message).help(help));
        }
        let Some(source) = transmitter.keys.source() else { continue };
        let jwks = source.discovery.as_ref().map(|discovery| ("jwks_cluster", &discovery.keys_cluster));
        // Without a `jwks_cluster` it is the same one.
        let jwks = jwks.filter(|(_, cluster)| **cluster != source.cluster);
        for (key, cluster) in std::iter::once(("cluster", &source.cluster)).chain(jwks) {
            if hub.clusters.contains_key(cluster) {
                continue;
            }
            let message = format!("`{cluster}` is not one of `clusters`");
            let near = problem::known(cluster, hub.clusters.keys().map(String::as_str));
            let help =
                near.unwrap_or_else(|| format!("add it, such as `clusters: {{{cluster}: https://idp.example}}`"));
            found.error(format!("{path}.keys.{key}"), message, help);
        }
    }
}
