//! Whether the feed of a hub covers what a filter needs of it.

use taskfence_core::config::problem::Problem;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::hub_source::{HubSource, covered};
use taskfence_core::time::Span;
use taskfence_hub::config::hub::{Feed, Hub};

/// `signals.stale.after` of a filter that follows a hub is at least so long.
const SHORTEST: Span = Span(5);

/// What is wrong between the filter and the hub. `jwks` are the public keys of the hub, where they can be read.
pub fn compare(filter: &Policy, hub: &Hub, jwks: Option<&serde_json::Value>) -> Vec<Problem> {
    let Some(source) = filter.signals().hub() else {
        let help = "add `signals.hub` with `cluster`, `feed` and `keys`, or leave `--hub` out";
        return vec![Problem::at("signals", "follows no hub").help(help)];
    };
    let mut problems = Vec::new();
    if source.hub != hub.name {
        let problem =
            Problem::at("signals.hub.name", format!("is `{}`, and the hub signs as `{}`", source.hub, hub.name));
        problems.push(problem.help(format!("set `name: {}`", hub.name)));
    }
    match hub.feeds.iter().find(|feed| feed.name == source.feed) {
        Some(feed) => {
            compare_issuers(filter, source, &feed.policy(), &mut problems);
            compare_verifications(source, feed, &mut problems);
        }
        // A relay does not know what the feed covers.
        None if hub.feed_names().contains(&source.feed.as_str()) => {}
        None => {
            let known: Vec<_> = hub.feed_names().into_iter().map(|name| format!("`{name}`")).collect();
            let problem = Problem::at("signals.hub.feed", format!("the hub has no feed `{}`", source.feed));
            problems.push(problem.help(format!("its feeds are {}", known.join(", "))));
        }
    }
    problems.extend(jwks.and_then(|jwks| compare_keys(source, jwks)));
    if source.closes_after.is_some_and(|after| after < SHORTEST) {
        let problem = Problem::at("signals.stale.after", format!("is shorter than {SHORTEST}"));
        problems.push(problem.help("a hub that is quiet speaks once in a third of it; use 10s or more"));
    }
    problems
}

/// A transmitter that has nothing to say is heard of by its verifications alone.
fn compare_verifications(source: &HubSource, feed: &Feed, problems: &mut Vec<Problem>) {
    let Some(after) = source.closes_after else { return };
    let policy = feed.policy();
    for stream in &feed.managed {
        let mut transmitters = policy.signals().transmitters().iter();
        let counts = transmitters.any(|one| one.stream == stream.name && one.permissions.heartbeat);
        let verify = stream.verify.as_secs();
        if counts && after.0 <= verify {
            let message = format!("{after} is not longer than `verify` of `{}` at the hub: {verify}s", stream.name);
            let help = "make it two or three times as long: one verification may be late";
            problems.push(Problem::at("signals.stale.after", message).help(help));
        }
    }
}

fn compare_issuers(filter: &Policy, source: &HubSource, feed: &Policy, problems: &mut Vec<Problem>) {
    for (issuer, needed) in filter.issuers().iter().zip(&source.needed) {
        let place = |member: &str| format!("issuers[{}]{member}", issuer.entry);
        // Of several entries of one issuer, each needs one that reads tokens alike.
        let mut others = feed.issuers().iter().filter(|other| other.name == issuer.name);
        let first = others.clone().next();
        let Some(other) = others.find(|other| covered(other).id == needed.id).or(first) else {
            let message = format!("the feed `{}` does not cover `{}`", source.feed, issuer.name);
            problems.push(Problem::at(place(""), message).help("add it to `issuers` of the feed"));
            continue;
        };
        let has = covered(other);
        if has.id != needed.id {
            let message = format!("the feed `{}` names what `{}` grants by other claims", source.feed, issuer.name);
            let help = "give both the same `claims`, `subjects` and the like";
            problems.push(Problem::at(place(".claims"), message).help(help));
        }
        let spans = [
            ("token", needed.token_retention, has.token_retention, "`max_lifetime` and `clock_skew`"),
            (
                "session",
                needed.session_retention,
                has.session_retention,
                "`max_session`, `max_lifetime` and `clock_skew`",
            ),
        ];
        for (what, needed, has, keys) in spans {
            if needed > has {
                let message = format!("a {what} may live {needed} here, and the feed keeps what is about it for {has}");
                let help = format!("raise {keys} in the feed, or lower them here");
                problems.push(Problem::at(place(""), message).help(help));
            }
        }
    }
}

fn compare_keys(source: &HubSource, jwks: &serde_json::Value) -> Option<Problem> {
    let (keys, _) = KeySet::from_jwks(jwks, &[Algorithm::ES256]).ok()?;
    let known = |kid: &str| source.keys.find(Some(kid), Algorithm::ES256).is_ok();
    let list = jwks.get("keys")?.as_array()?;
    let kids = list.iter().filter_map(|key| key.get("kid")?.as_str());
    let missing: Vec<_> = kids.filter(|kid| keys.find(Some(kid), Algorithm::ES256).is_ok() && !known(kid)).collect();
    let first = missing.first()?;
    let problem = Problem::at("signals.hub.keys", format!("lacks the key `{first}` of the hub"));
    Some(problem.help("put in what `taskfence hub keys` prints"))
}
