//! `POST /v1/feeds/{feed}/logout`: a logout token of an OpenID provider (OpenID Connect Back-Channel Logout 1.0).
//!
//! The token authenticates itself: it is signed. So the caller needs neither a bearer token nor a certificate.

use crate::intake::push::{BODY_TIMEOUT, read};
use crate::intake::service::Intake;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use reqwest::Url;
use serde_json::json;
use taskfence_core::signal::provider::assertion::Way;
use taskfence_core::signal::provider::logout;
use taskfence_core::signal::receiver::Received;
use taskfence_core::signal::set_error::SetErrorCode;
use utoipa::ToSchema;

/// The path. Its method is POST.
pub const PATH: &str = "/v1/feeds/{feed}/logout";

/// The routes of logout tokens.
pub fn router(intake: Intake) -> Router {
    Router::new().route(PATH, any(take_in)).with_state(intake)
}

/// Why a logout token is refused (§2.8).
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
pub struct LogoutError {
    /// `invalid_request`.
    pub error: String,
    /// What is wrong.
    pub error_description: String,
}

/// Takes in a logout token of an OpenID provider (OpenID Connect Back-Channel Logout 1.0). The token is signed, so no
/// `authorization` is needed.
#[utoipa::path(post, path = PATH, tag = "signals", params(("feed" = String, Path)), security(()),
    request_body(content = String, content_type = "application/x-www-form-urlencoded",
        description = "`logout_token=` and the token."),
    responses(
        (status = 200, description = "It is stored, or was stored before."),
        (status = 400, description = "It is refused.", body = LogoutError, content_type = "application/json"),
        (status = 404, description = "There is no such feed."),
        (status = 405, description = "Not a POST."),
        (status = 429, description = "Too many refused requests of this address.", body = crate::problem::Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Not stored: send it again after `retry-after`.",
            headers(("retry-after" = u64, description = "Seconds.")))))]
pub async fn take_in(State(intake): State<Intake>, Path(name): Path<String>, request: Request) -> Response {
    let Some(feed) = intake.feed(&name) else { return answer(StatusCode::NOT_FOUND, Body::empty()) };
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, Body::empty());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(body)).await {
        Ok(Ok(body)) if is_form(&parts.headers) => body,
        Ok(Ok(_)) => return refused("the body is not application/x-www-form-urlencoded"),
        Ok(Err(_)) | Err(_) => return refused("the body is too long, or did not come in time"),
    };
    let Some(token) = token(&body) else { return refused("the form has not exactly one logout_token") };
    let token = token.as_bytes();
    let taken = intake.take_in_told(feed, Way::Logout, Some(token), |policy, signatures, now| {
        logout::read(token, policy.signals().transmitters(), policy.issuers(), signatures, now)
    });
    match taken.await {
        Received::Applied(_) => answer(StatusCode::OK, Body::empty()),
        Received::Contradicts(_) => refused("jti was used before for something else"),
        Received::Refused(error) if error.code == SetErrorCode::KeysUnavailable => unavailable(),
        Received::Refused(error) => refused(&error.description),
        Received::Failed(..) | Received::NotAPush(_) => unavailable(),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The value of `logout_token` in a form.
fn token(form: &[u8]) -> Option<String> {
    // The query of a URL has the syntax of a form.
    let mut url = Url::parse("http://form.invalid/").ok()?;
    url.set_query(Some(std::str::from_utf8(form).ok()?));
    let mut tokens = url.query_pairs().filter(|(name, _)| name == "logout_token");
    let (_, token) = tokens.next()?;
    tokens.next().is_none().then(|| token.into_owned())
}

fn refused(description: &str) -> Response {
    let body = json!({"error": "invalid_request", "error_description": description});
    let mut response = answer(StatusCode::BAD_REQUEST, Body::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What is left of a body that was not read would be the next request.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn unavailable() -> Response {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, Body::empty());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// §2.8: no answer may be stored.
fn answer(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
