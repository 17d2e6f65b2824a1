//! Whether Envoy and the rules read a host in the same way.
//!
//! For a rule, `h:80` and `h.` are the host `h`. Envoy compares the whole text with its virtual hosts, unless the
//! connection manager removes port and final dot. So a request could be judged for one host and sent to another.

use std::collections::BTreeSet;

use taskfence_core::http::host::Reading;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::requirement::Check;
use taskfence_core::rules::rule::Effect;

use super::{Findings, Installed, list};
use crate::envoy::{Manager, VirtualHosts};

const HELP: &str = "set `strip_any_host_port: true` and `strip_trailing_host_dot: true` in this connection manager, and `\"hosts\": \"exact\"` in the filter's configuration";

/// Looks for hosts that Envoy and the rules read differently.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let Some(place) = one.place else { return };
    let manager = place.manager;
    let hosts = manager.virtual_hosts();
    let by_host = one.policy.is_some_and(|policy| !rules_hosts(policy).is_empty() || asks_for_host(policy));
    check_header(manager, by_host, findings);
    check_dead(&hosts, findings);
    let leads_astray = one.policy.is_some_and(|policy| check_choice(&hosts, policy, manager, findings));
    let exact = one.policy.is_some_and(|policy| policy.hosts() == Reading::Exact);
    let cuts_both = hosts.cuts_port && hosts.cuts_dot;
    match (cuts_both, exact) {
        (true, _) => {}
        (false, true) => check_exact(&one.plugin.place, findings),
        (false, false) if leads_astray => {}
        (false, false) => check_options(&hosts, by_host, manager, findings),
    }
}

/// Envoy chooses the virtual host by another header than the one that the filter judges.
fn check_header(manager: &Manager<'_>, by_host: bool, findings: &mut Findings) {
    let header = manager.routes_here().and_then(|routes| routes.get("vhost_header"));
    let Some(header) = header.filter(|header| header.value() != "") else { return };
    let message = "Envoy chooses a virtual host by this header, which the client may write, and the rules judge `host`";
    let help = "take it out, or tell virtual hosts apart by listener";
    match by_host {
        true => findings.error(&header.place, message, help),
        false => findings.warning(&header.place, message, help),
    }
}

/// A domain with a port, behind a manager that cuts ports off.
fn check_dead(hosts: &VirtualHosts<'_>, findings: &mut Findings) {
    for domain in hosts.domains().iter().filter(|domain| domain.is_dead(hosts)) {
        let message = format!(
            "`{}` matches no host that a well-behaved client writes: ports and final dots are cut off before",
            domain.text
        );
        findings.warning(&domain.place, message, "write it without port and final dot");
    }
}

/// Reports spellings of a rule's host that lead to another virtual host. Returns whether there is one.
fn check_choice(hosts: &VirtualHosts<'_>, policy: &Policy, manager: &Manager<'_>, findings: &mut Findings) -> bool {
    let mut found = false;
    for host in rules_hosts(policy) {
        let meant = hosts.choose(host).map(|domain| domain.host);
        let mut elsewhere: Vec<(String, &str)> = Vec::new();
        for spelling in spellings(host, hosts) {
            let taken = policy.host(hosts.seen(&spelling).as_bytes()).is_ok_and(|read| read.is(host));
            if let Some(domain) = hosts.choose(&spelling).filter(|domain| taken && Some(domain.host) != meant) {
                elsewhere.push((spelling, domain.host.0));
            }
        }
        let Some((_, other)) = elsewhere.first().cloned() else { continue };
        found = true;
        let meant = meant.map_or("no virtual host".to_owned(), |(name, _)| format!("the virtual host `{name}`"));
        let same: Vec<String> =
            elsewhere.into_iter().filter(|(_, name)| *name == other).map(|(spelling, _)| spelling).collect();
        let message = format!(
            "rules take {} for `{host}`, which leads to {meant}; Envoy sends them to the virtual host `{other}`",
            list(&same)
        );
        findings.error(&manager.node.place, message, HELP);
    }
    found
}

/// Spellings of `host` that a client may send: with a port or a dot, and with a second one, since Envoy removes only
/// one.
fn spellings(host: &str, hosts: &VirtualHosts<'_>) -> Vec<String> {
    let ports: BTreeSet<&str> =
        hosts.domains().iter().filter_map(|domain| domain.port()).chain(["80", "443", "1"]).collect();
    let with_port = ports.iter().flat_map(|port| {
        ["{host}:{port}", "{host}.:{port}", "{host}:{port}:{port}", "{host}:{port}.:{port}", "{host}..:{port}"]
            .map(|form| form.replace("{host}", host).replace("{port}", port))
    });
    with_port.chain([format!("{host}."), format!("{host}..")]).collect()
}

/// With `hosts: exact` the filter refuses a host with a port or a final dot, so Envoy must remove them.
fn check_exact(place: &str, findings: &mut Findings) {
    let message = "`hosts` is `exact`, and Envoy leaves ports or final dots: such requests are refused";
    let help = "set `strip_any_host_port: true` and `strip_trailing_host_dot: true` in the connection manager";
    findings.warning(place, message, help);
}

/// Asks for the options where virtual hosts or rules distinguish hosts, also if no spelling is misrouted yet.
fn check_options(hosts: &VirtualHosts<'_>, by_host: bool, manager: &Manager<'_>, findings: &mut Findings) {
    let missing: Vec<String> = [("strip_any_host_port", hosts.cuts_port), ("strip_trailing_host_dot", hosts.cuts_dot)]
        .into_iter()
        .filter(|(_, set)| !set)
        .map(|(name, _)| name.to_owned())
        .collect();
    let who = match (by_host, hosts.count() > 1) {
        (false, false) => return,
        (true, false) => "rules",
        (false, true) => "virtual hosts",
        (true, true) => "rules and virtual hosts",
    };
    let message = format!(
        "{who} tell hosts apart, and without {} Envoy and the service read a port or a final dot as part of the host",
        list(&missing)
    );
    findings.warning(&manager.node.place, message, HELP);
}

/// The hosts that rules name.
fn rules_hosts(policy: &Policy) -> BTreeSet<&str> {
    policy.rules().iter().flat_map(|rule| rule.matcher().hosts()).map(String::as_str).collect()
}

/// Whether a condition asks for the host.
fn asks_for_host(policy: &Policy) -> bool {
    policy.rules().iter().any(|rule| match rule.effect() {
        Effect::Require(requirement) => requirement
            .checks()
            .iter()
            .any(|check| matches!(check, Check::When(condition) if condition.source().contains("host"))),
        Effect::Anonymous | Effect::Deny => false,
    })
}
