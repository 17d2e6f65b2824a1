//! The Envoy itself: its version, its WebAssembly machines, its clock, and whether the filter's module runs.

use serde_json::Value;

use crate::doctor::finding::Finding;
use crate::doctor::statistics::Statistics;

/// The releases that the filter is tested on as a whole.
const TESTED: [&str; 4] = ["1.37", "1.38", "1.39", "1.40"];

/// Clocks may differ by so many seconds.
const MAX_SKEW: u64 = 5;

/// What `/server_info` says.
pub fn check_server(server: &Value) -> Vec<Finding> {
    let text = |name: &str| server.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    let version = text("version").split('/').nth(1).unwrap_or_default();
    let minor: Vec<&str> = version.split('.').take(2).collect();
    if TESTED.contains(&minor.join(".").as_str()) {
        findings.push(Finding::note("envoy", format!("version {version}")));
    } else {
        let remedy = format!("use {}, or run the tests of Taskfence with ENVOY_BIN on this one", TESTED.join(", "));
        findings.push(Finding::warning(
            "envoy",
            format!("version {version} is not one that the filter is tested on"),
            remedy,
        ));
    }
    match text("state") {
        "LIVE" => {}
        "DRAINING" => findings.push(Finding::note("envoy", "is draining")),
        state => {
            let remedy = "look for what it waits for in its log: clusters, listeners, or the module from its registry";
            findings.push(Finding::error("envoy", format!("has not started: its state is {state}"), remedy));
        }
    }
    findings
}

/// Whether the module runs, and has run all the time.
pub fn check_module(stats: &Statistics, is_configured: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let build = stats.below("wasmcustom.taskfence.build_info.").find(|(_, value)| *value > 0);
    let has_any = stats.below("wasmcustom.taskfence.").next().is_some();
    match (build, has_any) {
        (Some((name, _)), _) => {
            let (version, commit) = name.rsplit_once('.').unwrap_or((name, "unknown"));
            findings.push(Finding::note("module", format!("version {}, commit {commit}", version.replace('_', "."))));
        }
        (None, true) => {
            findings.push(Finding::note("module", "does not say its version: it is an older one, without `build_info`"))
        }
        (None, false) if is_configured => {
            let remedy = "if Envoy's log says that the plugin was refused, mend what it names; if requests are judged all the same, let `stats_config.stats_matcher` keep `wasmcustom.`";
            findings.push(Finding::error(
                "module",
                "has no statistics: it does not run, or Envoy leaves them out",
                remedy,
            ));
        }
        (None, false) => {}
    }
    for role in ["filter", "receiver"] {
        if let Some(hash) = stats.ours(&format!("config_hash.{role}")) {
            findings.push(Finding::note(format!("{role} configuration"), format!("hash {hash:012x}")));
        }
    }
    if has_any && stats.ours("state_doorbell").is_none() {
        let remedy = "let `stats_config.stats_matcher` keep `wasmcustom.taskfence.state_doorbell`";
        findings.push(Finding::warning(
            "statistics",
            "`taskfence.state_doorbell` is left out, so each request reads the state",
            remedy,
        ));
    }
    let total = |end: &str| -> u64 {
        let own = stats.below("wasm.").filter(|(name, _)| name.ends_with(end));
        own.map(|(_, value)| value).fold(0, u64::saturating_add)
    };
    let (reloads, failed) = (total(".vm_reload"), total(".vm_reload_failure"));
    if reloads > 0 {
        let remedy =
            "look for `panicked` or `trap` in Envoy's log before each, and report it: no input may stop the module";
        findings.push(Finding::error("module", format!("was loaded anew {reloads} times after it had died"), remedy));
    }
    if failed > 0 {
        let remedy = "requests get 503 meanwhile; restart the Envoy, and report what its log says";
        findings.push(Finding::error("module", format!("could not be loaded anew {failed} times"), remedy));
    }
    let discovered = stats.below("extension_config_discovery.http_filter.");
    for (name, rejected) in discovered.filter_map(|(name, count)| Some((name.strip_suffix(".update_rejected")?, count)))
    {
        if rejected > 0 {
            let remedy = "look for `configuration refused` in Envoy's log: what it had before stays in force";
            let message = format!("{rejected} updates of the discovered filter `{name}` were rejected");
            findings.push(Finding::warning("plugin", message, remedy));
        }
    }
    if let Some(rejected) = stats.get("listener_manager.lds.update_rejected").filter(|rejected| *rejected > 0) {
        let remedy = "look for `Error adding/updating listener` in Envoy's log: the old listener stays";
        findings.push(Finding::warning("listeners", format!("{rejected} updates were rejected"), remedy));
    }
    findings
}

/// How far the clock of the Envoy is from that of `other`, in seconds since 1970.
pub fn check_clock(envoy: Option<u64>, other: Option<u64>, whose: &str) -> Vec<Finding> {
    let Some((envoy, other)) = envoy.zip(other) else { return Vec::new() };
    let skew = envoy.abs_diff(other);
    let way = if envoy > other { "ahead of" } else { "behind" };
    match skew {
        0..=MAX_SKEW => Vec::new(),
        skew => {
            let remedy = "set both by NTP: tokens begin and end by these clocks, and beyond 60 s the hub is not ready";
            vec![Finding::error("clock", format!("is {skew} s {way} that of {whose}"), remedy)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;
    use serde_json::json;

    fn stats(list: &[(&str, u64)]) -> Statistics {
        let list: Vec<_> = list.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        Statistics::read(&json!({"stats": list}))
    }

    fn worst(findings: &[Finding]) -> Option<Severity> {
        findings.iter().map(|finding| finding.severity).min()
    }

    #[test]
    fn the_version_and_the_state() {
        let server = |version: &str, state: &str| {
            check_server(&json!({"version": format!("abc/{version}/Clean"), "state": state}))
        };
        assert_eq!(worst(&server("1.40.0", "LIVE")), Some(Severity::Note));
        assert_eq!(worst(&server("1.36.4", "LIVE")), Some(Severity::Warning));
        assert_eq!(worst(&server("1.40.0", "PRE_INITIALIZING")), Some(Severity::Error));
    }

    #[test]
    fn a_module_that_does_not_run_or_died() {
        let good = [
            ("wasmcustom.taskfence.build_info.0_1_0.abc123", 1),
            ("wasmcustom.taskfence.config_hash.filter", 0xABC),
            ("wasmcustom.taskfence.state_doorbell", 7),
            ("wasm.taskfence.vm_reload", 0),
        ];
        let findings = check_module(&stats(&good), true);
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages, ["version 0.1.0, commit abc123", "hash 000000000abc"]);
        assert_eq!(worst(&check_module(&stats(&[]), true)), Some(Severity::Error));
        assert_eq!(worst(&check_module(&stats(&[]), false)), None);
        assert_eq!(worst(&check_module(&stats(&good[..2]), true)), Some(Severity::Warning));
        let refused = ("extension_config_discovery.http_filter.ns.orders.update_rejected", 2);
        let findings = check_module(&stats(&[good[0], good[2], refused]), true);
        let said = findings.iter().find(|finding| finding.about == "plugin").unwrap();
        assert_eq!(said.message, "2 updates of the discovered filter `ns.orders` were rejected");
        assert_eq!(said.severity, Severity::Warning);
        let died = [good[0], good[2], ("wasm.taskfence.vm_reload", 3)];
        assert_eq!(worst(&check_module(&stats(&died), true)), Some(Severity::Error));
    }

    #[test]
    fn clocks_may_differ_a_little() {
        assert!(check_clock(Some(100), Some(105), "the hub").is_empty());
        assert!(check_clock(None, Some(105), "the hub").is_empty());
        assert_eq!(check_clock(Some(100), Some(170), "the hub")[0].message, "is 70 s behind that of the hub");
    }
}
