//! Events that operators and issuers report, and stops.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::api::call::{Api, Body};
use crate::api::model::{EventRequest, StopRequest, TakenAnswer, What};
use crate::api::operations::{OperatorEvent, StopOrder};
use crate::config::hub::Feed;
use crate::config::role::Role;
use crate::problem::Problem;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;
use taskfence_core::signal::operator::Caller;

/// Reports an event, such as that a task is completed or a session revoked.
#[utoipa::path(post, path = "/v1/feeds/{feed}/events", tag = "signals", params(("feed" = String, Path)),
    request_body = EventRequest, responses(
        (status = 200, body = TakenAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn report(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    Body(request): Body<EventRequest>,
) -> Result<Json<TakenAnswer>, Problem> {
    note.set(json!({
        "event": request.event, "subject": request.subject, "issuer": request.issuer, "details": request.details,
        "reason": request.reason,
    }));
    let known = api.feed(&principal, &[Role::Operator, Role::Issuer], &feed)?;
    let issuer = match (principal.role, request.issuer) {
        (Role::Issuer, Some(other)) if other != principal.name => {
            let detail = format!("`{}` may not report events about grants of `{other}`", principal.name);
            return Err(Problem::forbidden(detail, "leave `issuer` out"));
        }
        (Role::Issuer, _) => Some(principal.name.clone()),
        (_, issuer) => issuer,
    };
    if let Some(issuer) = issuer.as_deref() {
        find_issuer(known, issuer)?;
    }
    let caller = if principal.role == Role::Issuer { Caller::Issuer } else { Caller::Operator };
    let (by, event, details) = (principal.name, request.event, request.details);
    let (subject, reason, jti) = (request.subject, request.reason, request.jti);
    let event = OperatorEvent { feed, by, event, details, subject, issuer, reason, jti, caller };
    let taken = api.operations.event(event).await?;
    note.signal(taken.signal);
    Ok(Json(taken))
}

/// Stops everything of an issuer, or of one client, task, user, session, device or token of it, until it is undone.
#[utoipa::path(post, path = "/v1/feeds/{feed}/stops", tag = "signals", params(("feed" = String, Path)),
    request_body = StopRequest, responses(
        (status = 200, body = TakenAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn stop(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    Body(request): Body<StopRequest>,
) -> Result<Json<TakenAnswer>, Problem> {
    note.set(json!({
        "issuer": request.issuer, "what": request.what, "name": request.name, "reason": request.reason,
    }));
    let known = api.feed(&principal, &[Role::Operator], &feed)?;
    find_issuer(known, &request.issuer)?;
    let what: Option<(What, String)> = match (request.what, request.name) {
        (Some(what), Some(name)) if !name.is_empty() => Some((what, name)),
        (None, None) => None,
        _ => {
            let remedy = "send both, or neither to stop everything of the issuer";
            return Err(Problem::bad_request("`what` and `name` belong together", remedy));
        }
    };
    let order = StopOrder { feed, by: principal.name, issuer: request.issuer, what, reason: request.reason };
    let taken = api.operations.stop(order).await?;
    note.signal(taken.signal);
    Ok(Json(taken))
}

/// The key space of the issuer of that name: a typing error must not look like a stop.
pub fn find_issuer(feed: &Feed, name: &str) -> Result<Arc<str>, Problem> {
    let policy = feed.policy();
    let issuers = policy.issuers();
    let found = issuers.iter().find(|issuer| issuer.name == name).map(|issuer| Arc::clone(&issuer.key_space));
    found.ok_or_else(|| {
        let names: Vec<_> = issuers.iter().map(|issuer| format!("`{}`", issuer.name)).collect();
        let detail = format!("the feed `{}` has no issuer `{name}`", feed.name);
        Problem::bad_request(detail, format!("its issuers are {}", names.join(", ")))
    })
}
