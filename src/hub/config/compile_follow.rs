//! Compiles `follow`: the hub that a relay follows. The feeds of a relay have names only.

use crate::config::cluster::Cluster;
use crate::config::compile_feed::check_name;
use crate::config::hub::Follow;
use crate::config::model::{FollowConfig, HubConfig};
use crate::config::problem::{Found, Problem};
use std::net::IpAddr;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;

/// What the configuration says about the hub that is followed; `None` when it has errors.
pub(super) fn follow(hub: &HubConfig, typed: &FollowConfig, found: &mut Found) -> Option<Follow> {
    let at = match Cluster::parse(&typed.url) {
        Ok(at) => Some(at),
        Err(error) => {
            found.error("follow.url", format!("`{}` {error}", typed.url), error.help());
            None
        }
    };
    let keys = keys(typed, found);
    check_credentials(hub, typed, found);
    for (index, feed) in hub.feeds.iter().enumerate() {
        check_name(hub, feed, index, found);
        for (name, value) in [("issuers", &feed.issuers), ("signals", &feed.signals)] {
            if !value.is_null() {
                let problem =
                    Problem::at(format!("feeds[{index}].{name}"), "stands in a relay, which takes nothing in");
                found.errors.push(problem.help("remove it here: it belongs to the hub that `follow.url` leads to"));
            }
        }
    }
    if hub.evidence.is_some() {
        let help = "remove it: the hub that `follow.url` leads to keeps the evidence of the proxies behind the relay";
        found.error("evidence", "stands in a relay, which keeps none", help);
    }
    if !hub.clusters.is_empty() {
        found.error("clusters", "stands in a relay, which fetches no keys", "remove it");
    }
    Some(Follow {
        at: at?,
        keys: keys?,
        token_file: typed.token_file.clone(),
        certificate: typed.certificate.clone().zip(typed.key.clone()),
        ca: typed.ca.clone(),
        feeds: hub.feeds.iter().map(|feed| feed.name.clone()).collect(),
    })
}

fn keys(typed: &FollowConfig, found: &mut Found) -> Option<KeySet> {
    let path = "follow.keys.inline";
    let help = "write what `taskfence hub keys` prints on the host of the hub";
    match KeySet::from_jwks(&typed.keys.inline, &[Algorithm::ES256]) {
        Ok((_, bad)) if !bad.is_empty() => {
            for (at, error) in bad {
                found.error(format!("{path}.keys[{at}]"), error.to_string(), help);
            }
            None
        }
        Ok((keys, _)) if keys.iter().next().is_none() => {
            found.error(format!("{path}.keys"), "must have at least one key", help);
            None
        }
        Ok((keys, _)) => Some(keys),
        Err(error) => {
            found.error(path, error.to_string(), help);
            None
        }
    }
}

/// The hub must know who asks: by a token or by a certificate.
fn check_credentials(hub: &HubConfig, typed: &FollowConfig, found: &mut Found) {
    match (&typed.certificate, &typed.key) {
        (Some(_), None) => found.error("follow.key", "is missing beside `certificate`", "name the file of its key"),
        (None, Some(_)) => found.error("follow.certificate", "is missing beside `key`", "name the file of its chain"),
        _ => {}
    }
    match (&typed.token_file, &typed.certificate) {
        (Some(_), Some(_)) => {
            found.error(
                "follow.token_file",
                "stands beside `certificate`",
                "keep one: the hub would look at the token only",
            );
        }
        (None, None) if typed.key.is_none() => {
            let help = "add `token_file` with a token of the role `relay`, or `certificate` and `key`";
            found.error("follow", "has no credentials, and the hub serves nobody that it does not know", help);
        }
        _ => {}
    }
    // A relay that followed itself would serve nothing.
    let own = hub.listen.address.as_deref().unwrap_or("127.0.0.1:8500");
    let of_url = typed.url.split_once("://").map(|(_, rest)| rest.trim_end_matches('/'));
    let is_loopback =
        own.parse::<std::net::SocketAddr>().is_ok_and(|own| matches!(own.ip(), IpAddr::V4(ip) if ip.is_loopback()));
    if is_loopback && of_url == Some(own) {
        found.error("follow.url", "is where this relay listens itself", "write the address of the hub");
    }
}
