//! Compiles a configuration into a [`Hub`], and reports all errors, not only the first.

use crate::config::cluster::Cluster;
use crate::config::compile_access::access;
use crate::config::compile_evidence::evidence;
use crate::config::compile_feed::feed;
use crate::config::compile_follow;
use crate::config::compile_listen::listen;
use crate::config::compile_store::postgres;
use crate::config::compile_streams::streams;
use crate::config::hub::Hub;
use crate::config::model::HubConfig;
use crate::config::name;
use crate::config::problem::{Found, Problem, Problems};
use std::collections::BTreeMap;
use std::sync::Arc;
use taskfence_core::config::load;
use taskfence_core::time::Span;

/// The longest `skew`: entries live that much longer.
const LONGEST_SKEW: Span = Span::hours(1);

/// The shortest `skew`: the hub takes what is dated up to 60 s ahead, and the clock of a proxy may be 60 s behind.
const SHORTEST_SKEW: Span = Span(60);

/// The longest `keep_signals`: the longest session that an issuer may have.
const LONGEST_KEPT: Span = Span::hours(24 * 366);

/// Reads a configuration from JSON and compiles it.
///
/// An unknown key, a wrong type or a wrong value is an error with the path of the key. A key of a wrong type, which
/// hides what is below it, is reported alone; all other errors are reported together.
pub fn compile(json: &[u8]) -> Result<Hub, Problems> {
    let config: HubConfig = load::parse(json, "the configuration").map_err(|problem| Problems(vec![problem]))?;
    let mut found = Found::default();
    if !name::is_hub_name(&config.name) {
        let help = "write printable ASCII characters without spaces, such as `taskfence-hub`";
        found.error("name", "cannot be the `iss` of statements", help);
    }
    if !config.data.is_absolute() {
        let message = match config.data.as_os_str().is_empty() {
            true => "must not be empty".to_owned(),
            false => format!(
                "`{}` is not an absolute path: it would depend on where the hub is started",
                config.data.display()
            ),
        };
        found.error("data", message, "write a directory such as `/var/lib/taskfence`");
    }
    if config.skew < SHORTEST_SKEW || config.skew > LONGEST_SKEW {
        let message = format!("must be between {SHORTEST_SKEW} and {LONGEST_SKEW}");
        found.errors.push(Problem::at("skew", message));
    }
    if config.keep_signals > LONGEST_KEPT {
        found.errors.push(Problem::at("keep_signals", format!("must be at most {LONGEST_KEPT}")));
    }
    check_limits(&config, &mut found);
    let listen = listen(&config.listen, &mut found);
    let postgres = config.store.postgres.as_ref().and_then(|config| postgres(config, &mut found));
    let access = access(&config, &mut found);
    let clusters = clusters(&config, &mut found);
    let streams = streams(&config, &mut found);
    let evidence = evidence(&config, &mut found);
    if config.feeds.is_empty() {
        found.error("feeds", "must have at least one entry", "add a feed with `name`, `issuers` and `signals`");
    }
    let (mut feeds, mut follow) = (Vec::new(), None);
    match &config.follow {
        Some(typed) => follow = compile_follow::follow(&config, typed, &mut found),
        None => {
            let typed = config.feeds.iter().enumerate();
            feeds.extend(typed.filter_map(|(at, one)| feed(&config, one, at, &mut found).map(Arc::new)));
        }
    }
    if !found.errors.is_empty() {
        return Err(Problems(found.errors));
    }
    let HubConfig { name, data, skew, keep_signals, reserve_mib, audit, limits, .. } = config;
    let reserve = reserve_mib.saturating_mul(1024 * 1024);
    let Found { warnings, .. } = found;
    Ok(Hub {
        name,
        data,
        postgres,
        listen,
        access,
        clusters,
        skew,
        keep_signals,
        reserve,
        audit,
        evidence,
        limits,
        streams,
        feeds,
        follow,
        warnings,
    })
}

/// A limit of nothing would shut everybody out.
fn check_limits(config: &HubConfig, found: &mut Found) {
    let limits = &config.limits;
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let all = [
        ("followers", count(limits.followers)),
        ("followers_per_principal", count(limits.followers_per_principal)),
        ("full_states", count(limits.full_states)),
        ("sidecar_requests", limits.sidecar_requests),
        ("transmitter_requests", limits.transmitter_requests),
        ("connections_per_address", count(limits.connections_per_address)),
        ("connections_per_private_address", count(limits.connections_per_private_address)),
    ];
    for (name, _) in all.into_iter().filter(|(_, limit)| *limit == 0) {
        found.errors.push(Problem::at(format!("limits.{name}"), "must be at least 1"));
    }
    for (name, limit) in [("days", config.audit.days), ("mib", config.audit.mib)] {
        if limit == 0 {
            found.errors.push(Problem::at(format!("audit.{name}"), "must be at least 1"));
        }
    }
}

fn clusters(config: &HubConfig, found: &mut Found) -> BTreeMap<String, Cluster> {
    let mut clusters = BTreeMap::new();
    for (name, base) in &config.clusters {
        match Cluster::parse(base) {
            Ok(cluster) => drop(clusters.insert(name.clone(), cluster)),
            Err(error) => found.error(format!("clusters.{name}"), format!("`{base}` {error}"), error.help()),
        }
    }
    clusters
}

#[cfg(test)]
mod tests;
