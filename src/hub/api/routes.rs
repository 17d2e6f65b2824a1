//! Which handler serves which path and method. The list is compared with `/openapi.json` in a test, together
//! with the paths of intake and feeds.

use crate::api::audit_log;
use crate::api::call::Api;
use crate::api::{
    events, feeds, global_revocation, lifecycle, openapi, proxies, receipts, records, report, signals, state, streams,
    timeline, tokens, undo,
};
use crate::problem::Problem;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

/// A path, a method of it, and its handler.
pub struct Route {
    /// The method, in lower case as OpenAPI has it.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    handler: MethodRouter<Api>,
}

/// All routes of the API.
pub fn routes() -> Vec<Route> {
    let route = |method, path, handler| Route { method, path, handler };
    vec![
        route("get", "/v1/feeds", get(feeds::list)),
        route("post", "/v1/feeds/{feed}/events", post(events::report)),
        route("post", "/v1/feeds/{feed}/stops", post(events::stop)),
        route("post", "/v1/feeds/{feed}/undo", post(undo::undo)),
        route("get", "/v1/feeds/{feed}/state", get(state::show)),
        route("get", "/v1/feeds/{feed}/signals", get(signals::list)),
        route("get", "/v1/feeds/{feed}/proxies", get(proxies::list)),
        route("get", "/v1/feeds/{feed}/receipts/{revision}", get(receipts::show)),
        route("get", "/v1/feeds/{feed}/streams", get(streams::list)),
        route("get", timeline::PATH, get(timeline::show)),
        route("get", records::PATH, get(records::list)),
        route("get", "/v1/feeds/{feed}/report", get(report::show)),
        route("post", "/v1/feeds/{feed}/report", post(report::compare)),
        route("get", "/v1/feeds/{feed}/alive", get(report::alive)),
        route("get", "/v1/audit", get(audit_log::list)),
        route("get", "/v1/tokens", get(tokens::list)),
        route("post", "/v1/tokens", post(tokens::create)),
        route("post", "/v1/tokens/rotate", post(tokens::rotate)),
        route("post", "/v1/tokens/revoke", post(tokens::revoke)),
    ]
}

/// The API. Requests come with a principal in their extensions.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    router
        .layer(from_fn_with_state(api.clone(), audit_log::record))
        .route("/openapi.json", get(openapi::document))
        .with_state(api.clone())
        .merge(lifecycle::router(api.clone()))
        .merge(global_revocation::router(api))
}

/// What is answered where there is no path.
pub async fn no_such_path() -> Problem {
    Problem::missing("there is no such path", "see /openapi.json for the paths of the hub")
}

/// What is answered where a path has no such method.
pub async fn no_such_method() -> Problem {
    Problem::method_not_allowed()
}
