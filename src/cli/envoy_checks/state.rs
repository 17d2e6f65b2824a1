//! Whether signals get from the receiver to the filter: both must have the same `vm_id` and the same text.

use serde_json::Value;
use taskfence_core::token::issuer::Issuer;

use super::{Findings, Installed, list};
use crate::envoy::{Envoy, Plugin};

/// Checks the plugins together.
pub(super) fn check(envoy: &Envoy<'_>, installed: &[Installed<'_>], findings: &mut Findings) {
    for (at, one) in installed.iter().enumerate() {
        check_text(one, installed.get(..at).unwrap_or_default(), findings);
        check_vm_id(one.plugin, findings);
        if one.is_filter() {
            if !follows_only_a_hub(one.plugin) {
                check_receiver(one.plugin, installed, envoy.has_all_listeners(), findings);
            }
            check_feed(one, installed, findings);
        } else {
            check_filter(one.plugin, installed, envoy.has_all_listeners(), findings);
            check_alone(one.plugin, installed.get(..at).unwrap_or_default(), findings);
        }
    }
}

/// A filter that takes signals, and no receiver that writes what it reads.
fn check_receiver(filter: &Plugin<'_>, all: &[Installed<'_>], complete: bool, findings: &mut Findings) {
    if !filter.takes_signals() {
        return;
    }
    let mut ids = all.iter().filter(|one| !one.is_filter()).map(|one| one.plugin.vm_id()).peekable();
    if ids.peek().is_none() {
        let message = "takes signals, and this file has no receiver: nothing that they revoke is refused";
        let help = "add a listener with the same plugin in the role `receiver`, or take `signals` out";
        match complete {
            true => findings.error(&filter.place, message, help),
            false => findings.warning(&filter.place, message, help),
        }
        return;
    }
    let others: Vec<String> = ids.map(str::to_owned).collect();
    if !others.iter().any(|id| id == filter.vm_id()) {
        let message = format!(
            "the receiver has the vm_id {} and this filter `{}`: signals are answered 202 and nothing that they revoke is refused",
            list(&others),
            filter.vm_id()
        );
        findings.error(&vm_place(filter), message, "give both the same `vm_config.vm_id`");
    }
}

/// Whether all of its signals come from a hub, so that it needs no receiver. Its text may have errors elsewhere.
fn follows_only_a_hub(filter: &Plugin<'_>) -> bool {
    let json = filter.json();
    let signals = json.as_ref().and_then(|json| json.get("signals"));
    let is = |name| signals.and_then(|signals| signals.get(name));
    is("hub").is_some_and(Value::is_object) && is("also_receiver") != Some(&Value::Bool(true))
}

/// A receiver of the same state that stores names under another feed: the filter finds none of them.
fn check_feed(filter: &Installed<'_>, all: &[Installed<'_>], findings: &mut Findings) {
    let Some(policy) = filter.policy else { return };
    let sharing = all.iter().filter(|one| !one.is_filter() && one.plugin.vm_id() == filter.plugin.vm_id());
    for (receiver, other) in sharing.filter_map(|one| Some((one.plugin, one.policy?))) {
        let stores_otherwise = |issuer: &Issuer| {
            other.issuers().iter().any(|known| known.name == issuer.name && known.key_space != issuer.key_space)
        };
        if policy.issuers().iter().any(stores_otherwise) {
            let message = format!(
                "stores names under another feed than {}: nothing that it takes is refused",
                filter.plugin.place
            );
            let help = match policy.signals().hub() {
                Some(hub) => format!("write `feed: {}` in its `signals`", hub.feed),
                None => "write the same `feed` in `signals` of both, or none".to_owned(),
            };
            findings.error(&receiver.place, message, help);
        }
    }
}

/// A receiver that writes what no filter reads.
fn check_filter(receiver: &Plugin<'_>, all: &[Installed<'_>], complete: bool, findings: &mut Findings) {
    let mut filters = all.iter().filter(|one| one.is_filter()).map(|one| one.plugin.vm_id()).peekable();
    let none = filters.peek().is_none();
    if filters.any(|id| id == receiver.vm_id()) {
        return;
    }
    let message = format!(
        "no filter has the vm_id `{}` of this receiver: signals are answered 202 and change nothing",
        receiver.vm_id()
    );
    let help = "give it the `vm_config.vm_id` of the filter";
    match none && !complete {
        true => findings.warning(&vm_place(receiver), message, help),
        false => findings.error(&vm_place(receiver), message, help),
    }
}

/// A second receiver of one state.
fn check_alone(receiver: &Plugin<'_>, earlier: &[Installed<'_>], findings: &mut Findings) {
    let first = earlier.iter().find(|one| !one.is_filter() && one.plugin.vm_id() == receiver.vm_id());
    if let Some(first) = first {
        let message = format!("is a second receiver of one vm_id, beside {}", first.plugin.place);
        let help = "keep one: whoever reaches either port is heard, and both texts must stay the same";
        findings.warning(&receiver.place, message, help);
    }
}

/// The texts of two plugins that share a state may differ in `role`, and in the hub that only the filter follows. A text
/// that is no JSON is reported elsewhere.
fn check_text(one: &Installed<'_>, earlier: &[Installed<'_>], findings: &mut Findings) {
    let Some(text) = without_role(one.plugin) else { return };
    let sharing = earlier.iter().filter(|other| other.plugin.vm_id() == one.plugin.vm_id());
    let mut differing = sharing.filter(|other| without_role(other.plugin).is_some_and(|other| other != text));
    if let Some(other) = differing.next() {
        let message = format!("differs in more than `role` from {}", other.plugin.place);
        findings.warning(&one.plugin.place, message, "signals are kept for as long as the receiver's own text says");
    }
}

fn check_vm_id(plugin: &Plugin<'_>, findings: &mut Findings) {
    if plugin.vm_id().is_empty() {
        let message = "has no `vm_id` beside it, so every plugin without one shares its state";
        let help = "set `vm_config.vm_id`, the same for the filter and the receiver";
        findings.warning(&plugin.place, message, help);
    }
}

fn without_role(plugin: &Plugin<'_>) -> Option<Value> {
    let mut value = plugin.json()?;
    value.as_object_mut()?.remove("role");
    if let Some(signals) = value.get_mut("signals").and_then(Value::as_object_mut)
        && let Some(hub) = signals.remove("hub")
    {
        signals.remove("also_receiver");
        signals.extend(hub.get("feed").map(|feed| ("feed".to_owned(), feed.clone())));
    }
    Some(value)
}

fn vm_place(plugin: &Plugin<'_>) -> String {
    let id = plugin.node.get("vm_config").and_then(|vm| vm.get("vm_id"));
    id.map_or_else(|| plugin.node.place.clone(), |id| id.place)
}
