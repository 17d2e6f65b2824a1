//! `POST /v1/feeds/{feed}/signals`: a push of a SET (RFC 8935).
//!
//! The SET authenticates itself: it is signed. A stream may have an `authorization` header agreed with the transmitter;
//! such a push comes without a [`Principal`]. Any other has one, which needs the role `transmitter` for the feed.

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::intake::managed::Bringer;
use crate::intake::service::{FeedIntake, Intake};
use crate::problem::Problem;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::signal::receiver::{self, Head, Received, SecretBytes};
use taskfence_core::signal::set::MAX_SET;
use utoipa::ToSchema;

/// The path. Its method is POST.
pub const PATH: &str = "/v1/feeds/{feed}/signals";

/// A body must be there after this long.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The routes of pushes.
pub fn router(intake: Intake) -> Router {
    // Any method: core answers 405 with `allow`.
    Router::new().route(PATH, any(push)).with_state(intake)
}

/// Why a SET is refused (RFC 8935 §2.3).
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
pub struct Refusal {
    /// The code of RFC 8935 §2.4.
    pub err: String,
    /// What is wrong.
    pub description: String,
}

/// Takes in a SET that a transmitter pushes (RFC 8935). `authorization` is a token of the role transmitter, or what was
/// agreed for the stream.
#[utoipa::path(post, path = PATH, tag = "signals", params(("feed" = String, Path)),
    request_body(content = String, content_type = "application/secevent+jwt", description = "The SET."),
    responses(
        (status = 202, description = "It is stored, or was stored before."),
        (status = 400, description = "The SET is refused; it need not be pushed again.", body = Refusal,
            content_type = "application/json"),
        (status = 401, description = "The caller is not known.", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "The caller is no transmitter of this feed.", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such feed."),
        (status = 405, description = "Not a POST."),
        (status = 408, description = "The body did not come in time."),
        (status = 413, description = "The SET is too long."),
        (status = 415, description = "Not a SET, or encoded."),
        (status = 429, description = "Too many failed authentications, or too many requests.", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Not stored: push it again after `retry-after`.",
            headers(("retry-after" = u64, description = "Seconds.")))))]
pub async fn push(
    State(intake): State<Intake>,
    Path(name): Path<String>,
    principal: Option<Extension<Principal>>,
    request: Request,
) -> Response {
    let principal = principal.map(|Extension(principal)| principal);
    // Before the feed is looked for: a transmitter of one feed learns nothing about others, and is not counted there.
    if principal.as_ref().is_some_and(|principal| !principal.may(&[Role::Transmitter], &name)) {
        let detail = format!("the caller is no transmitter of the feed `{name}`");
        return Problem::forbidden(detail, "use a token with the role transmitter for this feed").into_response();
    }
    let Some(feed) = intake.feed(&name) else { return answer(&Received::NotAPush(404)) };
    let (parts, body) = request.into_parts();
    let head = head(&parts);
    let checked = head.check(feed.feed.policy().signals());
    if let Err(status) = checked {
        return not_a_push(feed, status);
    }
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(status)) => return not_a_push(feed, status),
        Err(_) => return not_a_push(feed, 408),
    };
    let authorization = head.authorization.as_ref().map(SecretBytes::reveal);
    let bringer = Bringer::Push(principal.as_ref().map(|principal| principal.name.as_str()));
    answer(&intake.take_in(feed, bringer, authorization, body).await)
}

/// The headers as core reads them.
fn head(parts: &Parts) -> Head {
    let path = parts.uri.path();
    let own: [(&[u8], &[u8]); 2] = [(b":method", parts.method.as_str().as_bytes()), (b":path", path.as_bytes())];
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    Head::from_headers(own.into_iter().chain(headers))
}

pub(super) async fn read(body: Body) -> Result<Bytes, u16> {
    let read = Limited::new(body, MAX_SET).collect().await;
    let status =
        |error: Box<dyn std::error::Error + Send + Sync>| if error.is::<LengthLimitError>() { 413 } else { 400 };
    read.map(http_body_util::Collected::to_bytes).map_err(status)
}

fn not_a_push(feed: &Arc<FeedIntake>, status: u16) -> Response {
    feed.counters.not_a_push.add();
    answer(&Received::NotAPush(status))
}

fn answer(received: &Received) -> Response {
    let (status, headers, body) = receiver::answer(received);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    // What is left of a body that was not read would be the next request.
    if matches!(status, 400 | 408 | 413) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
