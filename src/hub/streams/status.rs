//! The status endpoint (SSF 1.0 §8.1.2).

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::problem::Problem;
use crate::streams::answers::{StatusBody, StreamQuery};
use crate::streams::backlog;
use crate::streams::body::Json;
use crate::streams::management;
use crate::streams::paths;
use crate::streams::record::{Says, Status, StreamRecord};
use crate::streams::service::{MANAGE, READ, Streams, without};
use axum::Extension;
use axum::extract::{Path, Query, State};
use serde_json::json;

/// The longest reason, in bytes.
const MAX_REASON: usize = 1_024;

/// The status of a stream.
#[utoipa::path(get, path = paths::STATUS, tag = "streams", params(("feed" = String, Path), StreamQuery), responses(
    (status = 200, body = StatusBody),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn read(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Query(query): Query<StreamQuery>,
    Extension(principal): Extension<Principal>,
) -> Result<axum::Json<StatusBody>, Problem> {
    streams.feed_of(&principal, &feed, READ)?;
    let id = query.stream_id.ok_or_else(|| without("stream_id"))?;
    let stream = streams.blocking(move |streams| streams.own(&principal, &feed, &id)).await?;
    Ok(axum::Json(answer(stream)))
}

/// Sets the status of a stream. While it is paused, what happens is kept for it; while it is disabled, it is not.
#[utoipa::path(post, path = paths::STATUS, tag = "streams", params(("feed" = String, Path)), request_body = StatusBody,
    responses(
        (status = 200, body = StatusBody),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn set(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
    Json(request, _): Json<StatusBody>,
) -> Result<axum::Json<StatusBody>, Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let all = [Status::Enabled, Status::Paused, Status::Disabled];
    let status = all.into_iter().find(|status| status.as_str() == request.status).ok_or_else(|| {
        Problem::bad_request(format!("`{}` is not a status", request.status), "write enabled, paused or disabled")
    })?;
    let reason = request.reason.filter(|reason| !reason.is_empty());
    if reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
        return Err(Problem::bad_request(format!("`reason` has more than {MAX_REASON} bytes"), "shorten it"));
    }
    let id = request.stream_id;
    let stream = streams.blocking(move |streams| {
        let stream = streams.own(&principal, &feed, &id)?;
        let now = streams.now();
        // What was not kept for a disabled stream is not sent when it is enabled.
        let last = streams.last_signal(&feed)?;
        let gap = backlog::gap(&*streams.0.records.0, &stream)?;
        let changed = streams.change(&feed, &id, |stream| {
            if stream.status == Status::Disabled && status != Status::Disabled {
                stream.move_on(last);
                stream.complete_until = now;
            }
            if status == Status::Enabled && gap.is_some() {
                stream.complete_until = now;
            }
            if status == Status::Disabled {
                stream.about_stream.clear();
            }
            // The receiver knows.
            stream.about_stream.retain(|event| !matches!(event.says, Says::Updated(..)));
            (stream.status, stream.reason, stream.seen) = (status, reason.clone(), now);
        })?;
        let (principal, status) = (&principal.name, status.as_str());
        tracing::info!(feed, stream = id, principal, status, "a receiver set the status of a stream");
        management::set(note, json!({"stream_id": id, "status": status, "reason": reason}));
        Ok(changed)
    });
    Ok(axum::Json(answer(stream.await?)))
}

fn answer(stream: StreamRecord) -> StatusBody {
    StatusBody { stream_id: stream.id, status: stream.status.as_str().to_owned(), reason: stream.reason }
}
