//! Whether a time-out of Envoy ends streams that are permitted.

use super::{Findings, Installed};
use crate::envoy::Node;

/// The time-out of a route is for the whole response. The default is 15 seconds.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let Some(place) = one.place else { return };
    let cut: Vec<Node<'_>> = place.manager.actions().into_iter().filter(|action| !is_off(action)).collect();
    let Some(first) = cut.first() else { return };
    let after = match first.get("timeout").and_then(|timeout| timeout.value().as_str()) {
        Some(timeout) => format!("after {timeout}, "),
        None => "after 15 seconds, Envoy's default, ".to_owned(),
    };
    let others = match cut.len() {
        1 => String::new(),
        several => format!(", and {} more routes do so", several.saturating_sub(1)),
    };
    let message = format!("cuts every response {after}also a stream that may go on{others}");
    let help = "set `timeout: 0s` where server-sent events, gRPC streams, WebSockets or long downloads pass";
    findings.warning(&first.place, message, help);
}

fn is_off(action: &Node<'_>) -> bool {
    let timeout = action.get("timeout");
    let text = timeout.as_ref().and_then(|timeout| timeout.value().as_str()).unwrap_or("15s");
    text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok()) == Some(0.0)
}
