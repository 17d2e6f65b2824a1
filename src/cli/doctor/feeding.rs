//! Who feeds the state of the filter, and how old it is.

use serde_json::Value;
use taskfence_core::policy::policy::Policy;

use crate::doctor::finding::Finding;
use crate::doctor::statistics::Statistics;

/// Failures of the feed, and what to do about each.
const FAILURES: [(&str, &str); 14] = [
    (
        "cut_off",
        "the hub does not know its token or certificate, or it may not read the feed: see `taskfence hub token list`",
    ),
    ("status", "look at the log of the hub, and at its `/readyz`"),
    ("no_answer", "look at the way to the hub: TLS of the cluster, policies of the network, the port"),
    ("cluster_missing", "add the cluster that `signals.hub.cluster` names"),
    ("unknown_key", "put what `taskfence hub keys` prints into `signals.hub.keys`"),
    ("other_feed", "`signals.hub.name` or `feed` is not what the hub signs"),
    ("format", "upgrade the filter"),
    (
        "not_a_page",
        "something else than the hub answers: look at `signals.hub.host` and `path`, and at proxies on the way",
    ),
    ("clock", "set the clocks: the hub is more than a minute ahead"),
    ("old", "the hub or a relay sends old statements: is it cut off from its store?"),
    ("behind", "the hub lacks what this proxy has applied: was its store set back?"),
    ("gap", "passes by itself with a full state"),
    ("other_history", "passes by itself with a full state; was the store of the hub restored?"),
    ("store", "shared data cannot be written: see the log"),
];

/// Uses that are older than this many seconds should be at the hub: its longest period is ten minutes, its usual one ten seconds.
const UNSENT: u64 = 900;

/// What a filter with that policy says about its feed.
pub fn check_feed(policy: &Policy, stats: &Statistics) -> Vec<Finding> {
    let Some(hub) = policy.signals().hub() else { return check_receiver(policy, stats) };
    let about = format!("feed {}", hub.feed);
    let gauge = |name: &str| stats.ours(&format!("{name}.{}", hub.feed));
    let failures = || -> Vec<Finding> {
        let counted = |(code, remedy): (&str, &str)| {
            let count = stats.ours(&format!("feed_failures.{}.{code}", hub.feed)).filter(|count| *count > 0)?;
            Some(Finding::error(about.clone(), format!("{count} answers of the hub were of no use: `{code}`"), remedy))
        };
        FAILURES.into_iter().filter_map(counted).collect()
    };
    let Some(age) = gauge("feed_age_seconds") else {
        let remedy = "see what is said about the module";
        return vec![Finding::error(about, "shows no age: the filter does not follow it", remedy)];
    };
    let mut findings = Vec::new();
    if gauge("feed_caught_up") != Some(1) {
        let remedy = "every token is refused with `state_not_ready` until then; the failures below say why, and if there are none, wait some seconds";
        findings.push(Finding::error(about.clone(), "has not caught up with the hub", remedy));
        findings.extend(failures());
        return findings;
    }
    let limit = hub.closes_after.map(|after| after.0);
    match limit {
        Some(limit) if age >= limit => {
            let message = format!("is {age} s old, and requests are refused from {limit} s on");
            findings.push(Finding::error(about.clone(), message, "look at the way to the hub, and at the hub"));
            findings.extend(failures());
        }
        Some(limit) if age.saturating_mul(2) > limit => {
            let message = format!("is {age} s old, and requests are refused from {limit} s on");
            findings.push(Finding::warning(about.clone(), message, "look at the way to the hub, and at the hub"));
            findings.extend(failures());
        }
        _ => {
            let revision = gauge("feed_revision").unwrap_or_default();
            findings.push(Finding::note(about.clone(), format!("is {age} s old, at number {revision}")));
        }
    }
    findings.extend(check_uses(&hub.feed, stats));
    if limit.is_none() {
        let remedy = "set `signals.stale: {after: 30s}`, so that a proxy that is cut off closes itself";
        findings.push(Finding::warning(about, "may grow old without limit: `signals.stale` refuses nothing", remedy));
    }
    findings
}

/// Whether the hub takes what the proxy has counted.
fn check_uses(feed: &str, stats: &Statistics) -> Option<Finding> {
    let age = stats.ours(&format!("uses_unsent_seconds.{feed}")).filter(|age| *age > UNSENT)?;
    let batches = |result: &str| stats.ours(&format!("uses_batches.{result}")).unwrap_or_default();
    let remedy = if batches("unknown") > 0 {
        "the hub is older than the filter, or keeps no evidence (`evidence: {days: 0}`): upgrade it; or set `evidence: {uses: false}` in the filter and restart the proxy, which drops what it has counted"
    } else {
        "look at the log of the hub, at `taskfence_hub_evidence_batches`, and at relays on the way"
    };
    Some(Finding::warning(format!("feed {feed}"), format!("the hub does not have uses that are {age} s old"), remedy))
}

/// A filter that takes signals from a receiver in the same proxy, or from nobody.
fn check_receiver(policy: &Policy, stats: &Statistics) -> Vec<Finding> {
    if policy.signals().transmitters().is_empty() {
        let remedy = "follow a hub (`signals.hub`), or name transmitters and configure a receiver";
        return vec![Finding::warning("state", "nobody feeds it: a grant ends only when its token expires", remedy)];
    }
    let missing = stats.below("wasmcustom.taskfence.receiver_missing.").find(|(_, value)| *value > 0);
    match missing {
        Some((vm_id, _)) => {
            let remedy = "give the receiver the same `vm_config.vm_id`: nothing that signals revoke is refused";
            vec![Finding::error("state", format!("no receiver was configured under the vm_id `{vm_id}`"), remedy)]
        }
        None => {
            let applied = stats.ours("signals_applied").unwrap_or_default();
            vec![Finding::note(
                "state",
                format!("is fed by a receiver in this proxy, which has applied {applied} signals"),
            )]
        }
    }
}

/// Whether the cluster `name` is there, and leads to a host that answers. `shown` is what `/clusters` shows.
pub fn check_cluster(name: &str, wants: &str, shown: &Value) -> Vec<Finding> {
    let about = format!("cluster {name}");
    let list = shown.get("cluster_statuses").and_then(Value::as_array).into_iter().flatten();
    let Some(cluster) = list.into_iter().find(|cluster| cluster.get("name").and_then(Value::as_str) == Some(name))
    else {
        let remedy =
            format!("add it: {wants}; in Istio it is `outbound|PORT||HOST` of a service that the proxy may see");
        return vec![Finding::error(about, "is not there", remedy)];
    };
    let hosts = cluster.get("host_statuses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if hosts.is_empty() {
        let remedy = "look at the endpoints of the service, and at the name in DNS";
        return vec![Finding::error(about, "has no hosts", remedy)];
    }
    let count = |host: &Value, name: &str| -> u64 {
        let stats = host.get("stats").and_then(Value::as_array).into_iter().flatten();
        let named = stats.into_iter().find(|stat| stat.get("name").and_then(Value::as_str) == Some(name));
        let value = named.and_then(|stat| stat.get("value")).cloned().unwrap_or_default();
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
    };
    let is_sick = |host: &&Value| {
        let health = host.get("health_status").and_then(Value::as_object);
        let failed = health
            .is_some_and(|health| health.iter().any(|(name, value)| name.starts_with("failed_") && value == true));
        failed || (count(host, "cx_connect_fail") > 0 && count(host, "rq_success") == 0)
    };
    let sick = hosts.iter().filter(is_sick).count();
    match sick {
        0 => Vec::new(),
        sick if sick == hosts.len() => {
            let remedy = "look at TLS of the cluster, policies of the network, the port, and whether it runs";
            vec![Finding::error(about, "none of its hosts answers", remedy)]
        }
        sick => {
            let message = format!("{sick} of its {} hosts do not answer", hosts.len());
            vec![Finding::warning(about, message, "look at these hosts")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;
    use crate::signing::key::{Algorithm, SigningKey};
    use serde_json::json;
    use taskfence_core::config::load;

    fn policy(signals: Value) -> Policy {
        let key = SigningKey::generate(Algorithm::Es256, Some("k".to_owned())).unwrap().public_jwk().unwrap();
        let keys = json!({"inline": {"keys": [key]}});
        let text = signals.to_string().replace("\"KEYS\"", &keys.to_string());
        let signals: Value = serde_json::from_str(&text).unwrap();
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["a"], "keys": keys, "algorithms": ["ES256"], "max_lifetime": "5m"}],
            "rules": [{"name": "a", "match": {}, "allow": "anonymous"}],
            "signals": signals,
        });
        load::load(config.to_string().as_bytes()).map_err(|errors| errors.0).unwrap().policy
    }

    fn stats(list: &[(&str, u64)]) -> Statistics {
        let list: Vec<_> = list
            .iter()
            .map(|(name, value)| json!({"name": format!("wasmcustom.taskfence.{name}"), "value": value}))
            .collect();
        Statistics::read(&json!({"stats": list}))
    }

    #[test]
    fn a_feed_by_its_age_and_failures() {
        let policy =
            policy(json!({"hub": {"cluster": "hub", "feed": "main", "keys": "KEYS"}, "stale": {"after": "30s"}}));
        let found = |list: &[(&str, u64)]| {
            let findings = check_feed(&policy, &stats(list));
            findings.into_iter().map(|finding| (finding.severity, finding.message)).collect::<Vec<_>>()
        };
        let up = |age| [("feed_age_seconds.main", age), ("feed_caught_up.main", 1), ("feed_revision.main", 9)];
        assert_eq!(found(&up(2)), [(Severity::Note, "is 2 s old, at number 9".to_owned())]);
        assert_eq!(found(&up(20))[0].0, Severity::Warning);
        assert_eq!(found(&up(31))[0].0, Severity::Error);
        assert_eq!(found(&[])[0].0, Severity::Error);
        let down = [("feed_age_seconds.main", 3), ("feed_caught_up.main", 0), ("feed_failures.main.cut_off", 4)];
        let down = found(&down);
        assert_eq!(down.len(), 2);
        assert!(down[1].1.contains("4 answers of the hub were of no use: `cut_off`"), "{down:?}");
    }

    #[test]
    fn uses_that_the_hub_does_not_have() {
        let found = |age, unknown| {
            let list = [("uses_unsent_seconds.main", age), ("uses_batches.unknown", unknown)];
            check_uses("main", &stats(&list))
                .map(|finding| (finding.severity, finding.message, finding.remedy.unwrap()))
        };
        assert_eq!(found(900, 0), None);
        let (severity, message, remedy) = found(901, 0).unwrap();
        assert_eq!((severity, message.as_str()), (Severity::Warning, "the hub does not have uses that are 901 s old"));
        assert!(remedy.contains("log of the hub"), "{remedy}");
        assert!(found(901, 1).unwrap().2.contains("uses: false"));
        assert_eq!(check_uses("other", &stats(&[("uses_unsent_seconds.main", 901)])), None);
    }

    #[test]
    fn a_cluster_that_is_missing_empty_or_dead() {
        let host = |stats: Value, health: Value| json!({"stats": stats, "health_status": health});
        let shown = |hosts: Value| json!({"cluster_statuses": [{"name": "hub", "host_statuses": hosts}]});
        let worst = |shown: Value| check_cluster("hub", "", &shown).into_iter().map(|finding| finding.severity).min();
        assert_eq!(worst(json!({})), Some(Severity::Error));
        assert_eq!(worst(shown(json!([]))), Some(Severity::Error));
        let dead = host(json!([{"name": "cx_connect_fail", "value": "3"}]), json!({}));
        let sick = host(json!([]), json!({"failed_active_health_check": true}));
        let well = host(json!([{"name": "rq_success", "value": "3"}]), json!({"eds_health_status": "HEALTHY"}));
        assert_eq!(worst(shown(json!([dead, sick]))), Some(Severity::Error));
        assert_eq!(worst(shown(json!([dead, well]))), Some(Severity::Warning));
        assert_eq!(worst(shown(json!([well]))), None);
    }

    #[test]
    fn a_state_that_nobody_feeds() {
        let signals = json!({"transmitters": [{"issuer": "https://jit.example", "audience": "b", "keys": "KEYS"}]});
        let policy = policy(signals);
        assert_eq!(check_feed(&policy, &stats(&[]))[0].severity, Severity::Note);
        let missing = stats(&[("receiver_missing.v", 1)]);
        assert_eq!(check_feed(&policy, &missing)[0].severity, Severity::Error);
    }
}
