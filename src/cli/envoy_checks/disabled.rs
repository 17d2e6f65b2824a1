//! Whether a filter is switched off: as a whole, for some routes, or for an Envoy that does not know its kind.

use super::{Findings, Installed};

const HELP: &str = "take it out, and let a rule of the filter say what passes: `allow: anonymous`";

/// `disabled` of the filter, and of its name in `typed_per_filter_config` of routes, virtual hosts and weighted
/// clusters.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let Some(place) = one.place else { return };
    let Some(filter) = place.filter() else { return };
    if filter.node.is_true("disabled") {
        let at = format!("{}.disabled", filter.node.place);
        findings.error(&at, "switches the filter off wherever no route switches it on: nothing is judged there", HELP);
    }
    if filter.node.is_true("is_optional") {
        let at = format!("{}.is_optional", filter.node.place);
        let message = "an Envoy that does not know this kind of filter starts without it, and nothing is judged";
        findings.warning(&at, message, "take it out");
    }
    let Some(routes) = place.manager.routes_here() else { return };
    for node in routes.descendants() {
        let Some(overrides) = node.get("typed_per_filter_config") else { continue };
        // Names of filters are map keys, not fields, so they have one spelling only.
        let ours =
            overrides.children().into_iter().find(|one| one.place == format!("{}.{}", overrides.place, filter.name()));
        let Some((kind, config)) = ours.as_ref().and_then(|any| any.typed()) else { continue };
        if kind.ends_with(".route.v3.FilterConfig") && config.is_true("disabled") {
            let at = format!("{}.disabled", config.place);
            findings.error(&at, format!("switches `{}` off here: nothing is judged", filter.name()), HELP);
        }
    }
}
