//! Where a plugin runs, and which filters of Envoy are not in the file.

use taskfence_core::config::problem::Problem;

use super::{Findings, Installed};
use crate::envoy::Envoy;

/// A plugin that is wrapped in another filter, or that is behind the router, does not see every request.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    match &one.place {
        None => {
            let message = "is not itself one of the `http_filters` of a connection manager, so what wraps it decides which requests it judges";
            let help = "put it into `http_filters`, directly in front of the router; what is around it was not checked";
            findings.warning(&one.plugin.node.place, message, help);
        }
        Some(place) => {
            if let Some(from) = place.manager.discovery().filter(|_| one.is_filter()) {
                let message = "routes come from here, so a filter that they switch off, their time-outs and their virtual hosts are not checked";
                findings.notes.push(Problem::at(from.place, message));
            }
        }
    }
}

/// What a discovery service sends is not in the file.
pub(super) fn check_discovered(envoy: &Envoy<'_>, findings: &mut Findings) {
    for filter in envoy.managers.iter().flat_map(|manager| &manager.filters) {
        if let Some(discovery) = filter.node.get("config_discovery") {
            let message = format!("`{}` comes by discovery: if it is Taskfence, it is not checked", filter.name());
            findings.notes.push(Problem::at(discovery.place, message));
        }
    }
}
