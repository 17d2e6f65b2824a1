//! Whether the client's address is that of its connection.

use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::rule::Effect;

use super::{Findings, Installed};

/// Without `use_remote_address` Envoy takes the client's address from `x-forwarded-for`, which the client writes.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let Some(place) = one.place else { return };
    let manager = &place.manager.node;
    // The operator has configured how the address is found.
    let decided =
        manager.is_true("use_remote_address") || !manager.items("original_ip_detection_extensions").is_empty();
    if decided {
        return;
    }
    let help = "set `use_remote_address: true`, and `xff_num_trusted_hops` behind proxies that are trusted";
    match one.policy.is_some_and(asks_for_source) {
        true => {
            let message = "has no `use_remote_address`, so clients choose the address that rules with `source` compare, in `x-forwarded-for`";
            findings.error(&manager.place, message, help);
        }
        false => {
            let message = "has no `use_remote_address`, so clients choose the address that bad signatures are counted under, in `x-forwarded-for`";
            findings.warning(&manager.place, message, help);
        }
    }
}

fn asks_for_source(policy: &Policy) -> bool {
    policy.rules().iter().any(|rule| match rule.effect() {
        Effect::Require(requirement) => requirement.checks().iter().any(|check| check.needs_source()),
        Effect::Anonymous | Effect::Deny => false,
    })
}
