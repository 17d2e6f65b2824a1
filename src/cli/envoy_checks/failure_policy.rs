//! What Envoy does with requests while the module of a plugin is dead.

use serde_json::Value;

use super::{Findings, Installed};

const HELP: &str = "set `failure_policy: FAIL_RELOAD`: nothing passes without the module, and it is loaded anew";

/// `FAIL_OPEN` lets every request pass unjudged; `FAIL_CLOSED`, the default, does not load the module again.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let node = &one.plugin.node;
    let policy = node.get("failure_policy");
    let place = policy.as_ref().map_or(node.place.as_str(), |policy| policy.place.as_str());
    let open = match one.is_filter() {
        true => "lets every request pass unjudged while the module is dead",
        false => "lets every push go past the receiver while the module is dead, so that signals are lost",
    };
    if node.is_true("fail_open") {
        let place = node.get("fail_open").map(|flag| flag.place).unwrap_or_default();
        findings.error(&place, open, HELP);
        return;
    }
    // Protobuf's JSON takes the number of a value too.
    let number = |policy: u64| {
        ["UNSPECIFIED", "FAIL_RELOAD", "FAIL_CLOSED", "FAIL_OPEN"].get(usize::try_from(policy).ok()?).copied()
    };
    let name = match policy.as_ref().map(|policy| policy.value()) {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Number(value)) => value.as_u64().and_then(number).unwrap_or("UNSPECIFIED"),
        _ => "UNSPECIFIED",
    };
    match name {
        "FAIL_RELOAD" => {}
        "FAIL_OPEN" => findings.error(place, open, HELP),
        "FAIL_CLOSED" => findings.warning(place, "answers 503 for good once the module has died", HELP),
        _ => {
            let message = "has no `failure_policy`, so Envoy answers 503 for good once the module has died";
            findings.warning(place, message, HELP);
        }
    }
}
