//! The verification endpoint (SSF 1.0 §8.1.4.2).

use crate::access::principal::Principal;
use crate::problem::Problem;
use crate::streams::answers::VerificationRequest;
use crate::streams::body::Json;
use crate::streams::paths;
use crate::streams::record::{AboutStream, Says};
use crate::streams::service::{MANAGE, Streams};
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;

/// The longest `state`, in bytes.
const MAX_STATE: usize = 1_024;

/// Asks for a verification event. It comes with the other events of the stream, in any order.
#[utoipa::path(post, path = paths::VERIFICATION, tag = "streams", params(("feed" = String, Path)),
    request_body = VerificationRequest, responses(
        (status = 204, description = "The event will come."),
        (status = 429, description = "Too soon after the last one.", body = Problem,
            content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn verify(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Json(request, _): Json<VerificationRequest>,
) -> Result<StatusCode, Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let VerificationRequest { stream_id: id, state } = request;
    if state.as_ref().is_some_and(|state| state.len() > MAX_STATE) {
        return Err(Problem::bad_request(format!("`state` has more than {MAX_STATE} bytes"), "shorten it"));
    }
    let done = streams.blocking(move |streams| {
        streams.own(&principal, &feed, &id)?;
        let now = streams.now();
        let interval = streams.0.settings.min_verification_interval.0.saturating_mul(1_000);
        let event = AboutStream { jti: uuid::Uuid::new_v4().to_string(), at: now, says: Says::Verification(state) };
        let mut wait = 0;
        streams.change(&feed, &id, |stream| {
            wait = stream.verified.saturating_add(interval).saturating_sub(now);
            if wait == 0 {
                (stream.verified, stream.seen) = (now, now);
                stream.tell(event.clone());
            }
        })?;
        match wait {
            0 => Ok(StatusCode::NO_CONTENT),
            wait => Err(Problem::too_many("verification was asked for a moment ago", wait.div_ceil(1_000))),
        }
    });
    done.await
}
