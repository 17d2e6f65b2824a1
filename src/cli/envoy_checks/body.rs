//! Whether a plugin that pauses a request at its headers gets the body.

use super::{Findings, Installed};

/// A receiver needs the body. A filter must stay paused when the body comes.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let node = &one.plugin.node;
    let set = node.is_true("allow_on_headers_stop_iteration");
    match (one.is_filter(), set) {
        (true, false) | (false, true) => {}
        (true, true) => {
            let place = node.get("allow_on_headers_stop_iteration").map(|flag| flag.place).unwrap_or_default();
            let message = "is for the receiver: with it a request that the filter holds at its headers goes on to the filter's other callbacks when its body comes";
            findings.warning(&place, message, "take it out of the filter's plugin");
        }
        (false, false) => {
            let message = "a receiver without `allow_on_headers_stop_iteration` never gets a body, so every push hangs";
            findings.error(&node.place, message, "add `allow_on_headers_stop_iteration: true` beside `failure_policy`");
        }
    }
}
