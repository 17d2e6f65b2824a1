//! Whether a capability restriction of Envoy denies a function that a plugin needs.

use super::{Findings, Installed, list};

/// Without this callback Envoy does not ask the plugin at all.
const JUDGE: &str = "proxy_on_request_headers";

/// Both roles need these. Those for keys, metrics and the log are not listed: the plugin works without them.
const NEEDED: [&str; 15] = [
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_delete",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_send_local_response",
    "proxy_get_current_time_nanoseconds",
    "proxy_set_tick_period_milliseconds",
];

/// A filter that follows a hub needs these too.
const FOLLOWER: [&str; 2] = ["proxy_http_call", "proxy_on_http_call_response"];

/// A restriction that is empty restricts nothing.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let restriction = one.plugin.node.get("capability_restriction_config");
    let Some(allowed) = restriction.and_then(|restriction| restriction.get("allowed_capabilities")) else { return };
    let Some(names) = allowed.value().as_object().filter(|names| !names.is_empty()) else { return };
    let help = "allow what the module uses, or leave `capability_restriction_config` out";
    if !names.contains_key(JUDGE) {
        let message = format!("does not allow `{JUDGE}`, so every request passes unjudged");
        findings.error(&allowed.place, message, help);
    }
    let follows = one.policy.is_some_and(|policy| policy.signals().hub().is_some());
    let needed = NEEDED.iter().chain(if follows { &FOLLOWER[..] } else { &[] });
    let missing: Vec<String> =
        needed.filter(|name| !names.contains_key(**name)).map(|name| (*name).to_owned()).collect();
    if !missing.is_empty() {
        let message = format!("does not allow {}, which the plugin needs", list(&missing));
        findings.error(&allowed.place, message, help);
    }
}
