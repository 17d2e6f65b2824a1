//! Compiles `streams`, and `receivers` of the feeds: what the hub sends as a transmitter.

use crate::config::cluster::Cluster;
use crate::config::hub::{Feed, Streams};
use crate::config::model::{FeedConfig, HubConfig};
use crate::config::network::Network;
use crate::config::problem::{self, Found, Problem};
use taskfence_core::time::Span;

/// A receiver that is silent for less than this is not inactive.
const SHORTEST_INACTIVITY: Span = Span::hours(1);

/// How the hub is a transmitter; `None`: it is none.
pub(super) fn streams(config: &HubConfig, found: &mut Found) -> Option<Streams> {
    let streams = config.streams.as_ref()?;
    let issuer = streams.issuer.trim_end_matches('/').to_owned();
    let help = "write the address that receivers reach the hub at, such as `https://hub.example`, without a path";
    match Cluster::parse(&issuer) {
        Ok(cluster)
            if cluster.url("/").is_some_and(|url| url.path() == "/" && url.as_str() == format!("{issuer}/")) => {}
        Ok(_) => found.error("streams.issuer", format!("`{issuer}` is not the address of a server alone"), help),
        Err(error) => found.error("streams.issuer", format!("`{issuer}` {error}"), help),
    }
    let mut allow = Vec::new();
    for (at, text) in streams.allow.iter().enumerate() {
        match Network::parse(text) {
            Some(network) => allow.push(network),
            None => {
                let help = "write an address or a network, such as `10.20.0.0/16`";
                found.error(format!("streams.allow[{at}]"), format!("`{text}` is not a network"), help);
            }
        }
    }
    if streams.inactivity_timeout < SHORTEST_INACTIVITY {
        let message = format!("must be at least {SHORTEST_INACTIVITY}");
        found.errors.push(Problem::at("streams.inactivity_timeout", message));
    }
    if streams.min_verification_interval < Span(1) {
        found.errors.push(Problem::at("streams.min_verification_interval", "must be at least 1s"));
    }
    if streams.per_principal == 0 {
        found.errors.push(Problem::at("streams.per_principal", "must be at least 1"));
    }
    Some(Streams {
        issuer,
        allow,
        ca: streams.ca.clone(),
        inactivity_timeout: streams.inactivity_timeout,
        min_verification_interval: streams.min_verification_interval,
        per_principal: streams.per_principal,
    })
}

/// Whose signals the feed at `path` sends on.
pub(super) fn relay_from(hub: &HubConfig, config: &FeedConfig, feed: &Feed, path: &str, found: &mut Found) {
    let Some(receivers) = &config.receivers else { return };
    if hub.streams.is_none() {
        let help = "add `streams: {issuer: https://hub.example}`, the address that receivers reach the hub at";
        found.error(format!("{path}.receivers"), "needs `streams`, which is missing", help);
    }
    let policy = feed.policy();
    let known: Vec<_> = policy.signals().transmitters().iter().map(|one| one.stream.as_str()).collect();
    for (at, name) in receivers.relay_from.iter().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
        let path = format!("{path}.receivers.relay_from[{at}]");
        let help = problem::known(name, known.iter().copied());
        let help = help.unwrap_or_else(|| "add it to `signals.transmitters`".to_owned());
        found.error(path, format!("`{name}` is not a transmitter of this feed"), help);
    }
}
