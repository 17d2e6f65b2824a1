//! `/openapi.json`: what the hub offers, for programs.

use crate::api::{
    audit_log, events, feeds, global_revocation, lifecycle, proxies, receipts, records, report, signals, state,
    streams, timeline, tokens, undo,
};
use crate::evidence::uses;
use crate::feed::{long_poll, relayed};
use crate::intake::{logout, push};
use crate::streams::{management, metadata, poll, status, subjects, verification};
use axum::Json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(title = "Taskfence hub", description = "Takes signals in once, keeps them, and brings every proxy up to date."),
    paths(
        push::push, logout::take_in, global_revocation::revoke, long_poll::page, relayed::report, uses::take, lifecycle::tell, feeds::list, events::report, events::stop, undo::undo, state::show, signals::list, proxies::list,
        receipts::show, timeline::show, records::list, report::show, report::compare, report::alive, audit_log::list, tokens::list, tokens::create, tokens::rotate, tokens::revoke, streams::list,
        metadata::metadata, metadata::keys, management::create, management::read, management::update, management::replace,
        management::delete, status::read, status::set, verification::verify, subjects::add, subjects::remove, poll::poll,
    ),
    security(("bearer" = [])),
    modifiers(&Bearer),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// Serves the document.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi())
}
