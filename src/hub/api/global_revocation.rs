//! `POST /v1/feeds/{feed}/global-token-revocation` (draft-parecki-oauth-global-token-revocation): everything ends that a
//! user has been granted until now. Okta calls it Universal Logout.

use crate::access::bearer;
use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::api::audit_log;
use crate::api::call::{Api, Body};
use crate::api::events::find_issuer;
use crate::api::operations::OperatorEvent;
use crate::config::role::Role;
use crate::intake::global_revocation::Authority;
use crate::intake::managed::is_token_of_stream;
use crate::problem::Problem;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use taskfence_core::signal::operator::Caller;
use utoipa::ToSchema;

/// The path. Its method is POST.
pub const PATH: &str = "/v1/feeds/{feed}/global-token-revocation";

/// The routes of global token revocations.
pub fn router(api: Api) -> Router {
    Router::new().route(PATH, post(revoke)).layer(from_fn_with_state(api.clone(), record)).with_state(api)
}

/// Whose tokens are revoked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// A subject identifier (RFC 9493), such as `{"format": "email", "email": "alice@corp.example"}`. Its name in older
    /// drafts was `subject`.
    #[serde(alias = "subject")]
    sub_id: Value,
}

/// Callers of the API are in the audit log. Whoever signed the request itself, and transmitters, are in the signal.
async fn record(State(api): State<Api>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Principal>() {
        Some(principal) if principal.role != Role::Transmitter => audit_log::record(State(api), request, next).await,
        _ => next.run(request).await,
    }
}

/// Revokes everything that a user has been granted until now. `authorization` is a JWT that the identity provider has
/// signed, or a token of the role transmitter, issuer or operator.
#[utoipa::path(post, path = PATH, tag = "signals", params(("feed" = String, Path)),
    request_body = RevocationRequest, responses(
        (status = 204, description = "It is stored."),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke(
    State(api): State<Api>,
    Path(feed): Path<String>,
    principal: Option<Extension<Principal>>,
    note: Option<Extension<Note>>,
    headers: HeaderMap,
    Body(request): Body<RevocationRequest>,
) -> Result<StatusCode, Problem> {
    let sub_id = request.sub_id;
    let Some(Extension(principal)) = principal else {
        let jwt = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer::from_header);
        let jwt = jwt.ok_or_else(|| Problem::unauthenticated("`authorization` holds no JWT", false))?;
        api.operations.revoke_user(&feed, Authority::Jwt(jwt.to_owned()), sub_id).await?;
        return Ok(StatusCode::NO_CONTENT);
    };
    let known = api.feed(&principal, &[Role::Transmitter, Role::Issuer, Role::Operator], &feed)?;
    if principal.role == Role::Transmitter {
        // The hub gave it to a transmitter for its SETs. The one that sends revocations may be another.
        if is_token_of_stream(&principal.name) {
            let detail = format!("`{}` is for pushes of SETs", principal.name);
            return Err(Problem::forbidden(detail, "send a JWT, or a token that an operator made for revocations"));
        }
        api.operations.revoke_user(&feed, Authority::Transmitter, sub_id).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    let issuer = (principal.role == Role::Issuer).then(|| principal.name.clone());
    if let Some(issuer) = &issuer {
        find_issuer(known, issuer)?;
    }
    if let Some(Extension(note)) = &note {
        note.set(json!({"sub_id": sub_id, "issuer": issuer}));
    }
    let caller = if issuer.is_some() { Caller::Issuer } else { Caller::Operator };
    let event = OperatorEvent {
        feed,
        by: principal.name,
        event: "session-revoked".to_owned(),
        details: Map::new(),
        // A user, also where the format says nothing about that.
        subject: json!({"format": "complex", "user": sub_id}),
        issuer,
        reason: String::new(),
        jti: None,
        caller,
    };
    let taken = api.operations.event(event).await?;
    if let Some(Extension(note)) = note {
        note.signal(taken.signal);
    }
    Ok(StatusCode::NO_CONTENT)
}
