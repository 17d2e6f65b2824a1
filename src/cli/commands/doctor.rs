//! `taskfence doctor`: what is wrong with a running Envoy, and with the hub that it follows.

use clap::Args;
use serde_json::{Value, json};
use taskfence_core::config::problem::Problem;
use taskfence_core::policy::policy::Policy;

use crate::commands::check;
use crate::commands::hub_options::{HubOptions, Output};
use crate::doctor::admin::{self, Shown};
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::statistics::Statistics;
use crate::doctor::{feeding, process, running};
use crate::envoy::Envoy;
use crate::envoy_checks;
use crate::failure::Failure;
use crate::remote::client::Client;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Say what is wrong with a running Envoy and the hub that it follows
///
/// Reads Envoy's administration interface: whether the filter is there, which module and configuration it has, who feeds its
/// state and how old that is, the clusters that it needs, whether the module died, the clocks, and all that `taskfence
/// check` looks for around the filter. With a hub also whether that is ready and knows this proxy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence doctor
  taskfence doctor --admin http://127.0.0.1:15000 --hub https://hub.example:8500
  kubectl port-forward deploy/orders 9901:15000 & taskfence doctor

Exits with 0 when there is no error, and with 1 when there is one.")]
pub struct Doctor {
    /// Envoy's administration interface
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    admin: String,

    /// Look at the hub of the profile, or of --hub, too
    #[arg(long)]
    with_hub: bool,

    #[command(flatten)]
    options: HubOptions,
}

impl Doctor {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let shown = admin::read(&self.admin).map_err(|error| Failure::Failed(error.to_string()))?;
        let stats = Statistics::read(&shown.stats);
        let whole = running::bootstrap(&shown.config);
        let envoy = Envoy::read(&whole);
        let mut findings = process::check_server(&shown.server);
        findings.extend(process::check_module(&stats, !envoy.plugins.is_empty()));
        findings.extend(process::check_clock(shown.clock, Some(console.now), "this machine"));
        let policies = configurations(&envoy, &mut findings);
        for policy in policies.iter().flatten() {
            findings.extend(feeding::check_feed(policy, &stats));
            findings.extend(clusters(policy, &shown));
        }
        let policies: Vec<Option<&Policy>> = policies.iter().map(Option::as_ref).collect();
        let around = envoy_checks::check(&envoy, &policies);
        findings.extend(around.errors.into_iter().map(|problem| Finding::of(Severity::Error, problem)));
        findings.extend(around.warnings.into_iter().map(|problem| Finding::of(Severity::Warning, problem)));
        if self.with_hub || self.options.names_hub() {
            findings.extend(self.look_at_hub(&stats));
        }
        findings.sort_by_key(|finding| finding.severity);
        findings.dedup();
        self.report(&findings, console)
    }

    /// Whether the hub is ready, and what it knows of this proxy.
    fn look_at_hub(&self, stats: &Statistics) -> Vec<Finding> {
        let client = match self.options.connect() {
            Ok(client) => client,
            Err(failure) => return vec![unreachable(&failure.to_string())],
        };
        let mut findings = match client.probe("/readyz") {
            Err(error) => return vec![unreachable(&error.to_string())],
            Ok((_, ready)) => readiness(&ready),
        };
        match self.options.feed(&client).and_then(|feed| self.known(&client, &feed, stats)) {
            Ok(found) => findings.extend(found),
            Err(failure) => {
                let message = format!("does not say which proxies it knows: {failure}");
                findings.push(Finding::warning("hub", message, "use a token of the role `operator` or `auditor`"));
            }
        }
        findings
    }

    /// Whether a proxy with this configuration follows the feed.
    fn known(&self, client: &Client, feed: &str, stats: &Statistics) -> Result<Vec<Finding>, Failure> {
        let answer = client.get(&format!("/v1/feeds/{feed}/proxies"), &[])?;
        let proxies = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(hash) = stats.ours("config_hash.filter") else { return Ok(Vec::new()) };
        let own = format!("{hash:012x}");
        let is_own = |proxy: &&Value| {
            let config = proxy.get("config").and_then(Value::as_str).unwrap_or_default();
            config.starts_with(&own)
        };
        let like = proxies.iter().filter(is_own).count();
        Ok(vec![match like {
            0 => {
                let message =
                    format!("none of its {} proxies of the feed `{feed}` has this configuration", proxies.len());
                let remedy = "does the filter follow another hub or feed? See what is said about the feed";
                Finding::error("hub", message, remedy)
            }
            like => Finding::note(
                "hub",
                format!("{like} of its {} proxies of the feed `{feed}` have this configuration", proxies.len()),
            ),
        }])
    }

    fn report(&self, findings: &[Finding], console: &mut Console<'_>) -> Result<Exit, Failure> {
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        match self.options.output {
            Output::Json => {
                let list: Vec<_> = findings.iter().map(Finding::to_json).collect();
                let whole = json!({"ok": errors == 0, "errors": errors, "warnings": warnings, "findings": list});
                writeln!(console.out, "{}", serde_json::to_string_pretty(&whole)?)?;
            }
            Output::Human => {
                for Finding { severity, about, message, remedy } in findings {
                    writeln!(console.out, "{}: {about}: {message}", severity.as_str())?;
                    if let Some(remedy) = remedy {
                        writeln!(console.out, "  help: {remedy}")?;
                    }
                }
                let word = if errors == 0 { "ok" } else { "not ok" };
                writeln!(console.out, "{word}: {errors} errors, {warnings} warnings")?;
            }
        }
        Ok(if errors == 0 { Exit::Done } else { Exit::Failed })
    }
}

/// The policy of each plugin; what is wrong with one is a finding.
fn configurations(envoy: &Envoy<'_>, findings: &mut Vec<Finding>) -> Vec<Option<Policy>> {
    if envoy.plugins.is_empty() {
        let remedy = "look for the resource that should bring it (`TrafficExtension`, `WasmPlugin`, `EnvoyExtensionPolicy`), its selector, and updates that were rejected; without it every request passes";
        findings.push(Finding::error("plugin", "there is no filter of Taskfence in the running configuration", remedy));
    }
    let mut policies = Vec::new();
    for plugin in &envoy.plugins {
        let placed = |problem: Problem| Problem { path: format!("{}: {}", plugin.place, problem.path), ..problem };
        match check::load_plugin(plugin).map(|configuration| configuration.loaded) {
            Ok(loaded) => {
                findings
                    .extend(loaded.warnings.into_iter().map(|problem| Finding::of(Severity::Warning, placed(problem))));
                policies.push(Some(loaded.policy));
            }
            Err(problems) => {
                findings.extend(problems.into_iter().map(|problem| Finding::of(Severity::Error, placed(problem))));
                policies.push(None);
            }
        }
    }
    policies
}

/// The clusters that a configuration needs.
fn clusters(policy: &Policy, shown: &Shown) -> Vec<Finding> {
    let mut needed: Vec<(&str, &str)> = Vec::new();
    if let Some(hub) = policy.signals().hub() {
        needed.push((&hub.cluster, "it leads to the hub, and without it every token is refused"));
    }
    for source in policy.fetched_keys().filter_map(|(_, _, keys)| keys.source()) {
        needed.push((&source.cluster, "it leads to keys, and without it their tokens are refused"));
        needed.extend(source.discovery.as_ref().map(|found| (found.keys_cluster.as_str(), "it leads to keys")));
    }
    needed.sort_unstable();
    needed.dedup_by_key(|(name, _)| *name);
    needed.into_iter().flat_map(|(name, wants)| feeding::check_cluster(name, wants, &shown.clusters)).collect()
}

fn unreachable(reason: &str) -> Finding {
    Finding::error("hub", reason, "is it the right address, and does the hub run? `taskfence status` asks it too")
}

/// What `/readyz` of the hub says.
fn readiness(answer: &Value) -> Vec<Finding> {
    let checks = answer.get("checks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |check: &Value, name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let failed = checks.iter().filter(|check| check.get("ok") != Some(&Value::Bool(true)));
    let mut findings: Vec<_> = failed
        .map(|check| {
            let message = format!("is not ready: {}: {}", text(check, "name"), text(check, "detail"));
            Finding::error("hub", message, "docs/operations.md says what to do about each check")
        })
        .collect();
    if findings.is_empty() && answer.get("ready") == Some(&Value::Bool(true)) {
        findings.push(Finding::note("hub", "is ready"));
    }
    findings
}
