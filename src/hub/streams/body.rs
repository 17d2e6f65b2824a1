//! The body of a request of a receiver, and its JSON.

use crate::problem::Problem;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// The longest body: a poll that acknowledges a thousand SETs is less than half of it.
const MAX_BODY: usize = 256 * 1024;

/// A body must be there after this long.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What no answer of a receiver's endpoint may be kept for.
pub(super) const NO_STORE: [(HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

/// A body as JSON, also as it was sent. Unknown members are ignored (SSF 1.0 §8.1).
pub struct Json<T>(pub T, pub Value);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, Problem> {
        let read = axum::body::to_bytes(request.into_body(), MAX_BODY);
        let late = || Problem::bad_request("the body did not come in time", "send it at once");
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| late())?;
        let bytes = bytes.map_err(|_| Problem::bad_request("the body is too long", "send at most 256 KiB of JSON"))?;
        let bad = |error: serde_json::Error| {
            Problem::bad_request(format!("the body cannot be read: {error}"), "see /openapi.json for the members")
        };
        let value: Value = taskfence_core::config::load::parse(&bytes, "the body")
            .map_err(|problem| Problem::bad_request(problem.to_string(), "send a JSON object"))?;
        let read = serde_json::from_value(value.clone()).map_err(bad)?;
        Ok(Json(read, value))
    }
}
