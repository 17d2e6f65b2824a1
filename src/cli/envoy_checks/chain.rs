//! The filters beside ours in one chain.

use super::{Findings, Installed};

/// Kinds of filters that end the chain: filters after them do not see the request.
const ROUTERS: [&str; 2] = [".http.router.v3.Router", ".http.mcp_router.v3.McpRouter"];

/// Kinds of filters that can give a request another path, host, method or body.
const REWRITERS: [&str; 10] = [
    ".lua.v3.Lua",
    ".ext_proc.v3.ExternalProcessor",
    ".golang.v3alpha.Config",
    ".grpc_json_transcoder.v3.GrpcJsonTranscoder",
    ".connect_grpc_bridge.v3.FilterConfig",
    ".grpc_http1_reverse_bridge.v3.FilterConfig",
    ".header_mutation.v3.HeaderMutation",
    ".dynamic_modules.v3.DynamicModuleFilter",
    ".composite.v3.Composite",
    ".http.wasm.v3.Wasm",
];

/// No filter in front of ours may end the chain, and no filter after ours may change the request.
pub(super) fn check(one: &Installed<'_>, findings: &mut Findings) {
    let Some(place) = one.place else { return };
    let Some(filter) = place.filter() else { return };
    let is_router = |kind: &str, name: &str| {
        ROUTERS.iter().any(|router| kind.ends_with(router)) || kind.is_empty() && name == "envoy.filters.http.router"
    };
    for other in place.before() {
        let kind = other.config.as_ref().map_or("", |(kind, _)| *kind);
        if is_router(kind, other.name()) {
            let message = format!("stands behind `{}`, which sends requests on before they are judged", other.name());
            findings.error(&filter.node.place, message, "put it directly in front of the router");
        }
    }
    if !one.is_filter() {
        return;
    }
    for other in place.behind() {
        if REWRITERS.iter().any(|kind| other.is(kind)) {
            let message = format!(
                "`{}` stands behind `{}`, and can change path, host, method or body after they were judged",
                other.name(),
                filter.name()
            );
            findings.warning(&other.node.place, message, format!("put it in front of `{}`", filter.name()));
        }
    }
}
