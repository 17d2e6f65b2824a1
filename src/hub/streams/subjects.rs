//! Subjects that a receiver does not want to hear of (SSF 1.0 §8.1.3). Every stream is about all subjects
//! (`default_subjects` is `ALL`), so adding one only takes back that it was removed.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::problem::Problem;
use crate::streams::answers::SubjectRequest;
use crate::streams::body::Json;
use crate::streams::management;
use crate::streams::paths;
use crate::streams::service::{MANAGE, Streams};
use crate::streams::subject_match::matches;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::json;

/// A stream may be without so many subjects.
const MAX_REMOVED: usize = 100;

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 4_096;

/// Hears of a subject again.
#[utoipa::path(post, path = paths::ADD_SUBJECT, tag = "streams", params(("feed" = String, Path)),
    request_body = SubjectRequest, responses(
        (status = 200, description = "The stream is about it."),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn add(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
    Json(request, _): Json<SubjectRequest>,
) -> Result<StatusCode, Problem> {
    change(streams, feed, (principal, note), request, false).await?;
    Ok(StatusCode::OK)
}

/// Hears of a subject no more.
#[utoipa::path(post, path = paths::REMOVE_SUBJECT, tag = "streams", params(("feed" = String, Path)),
    request_body = SubjectRequest, responses(
        (status = 204, description = "The stream is about it no more."),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn remove(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
    Json(request, _): Json<SubjectRequest>,
) -> Result<StatusCode, Problem> {
    change(streams, feed, (principal, note), request, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(
    streams: Streams,
    feed: String,
    (principal, note): (Principal, Option<Extension<Note>>),
    request: SubjectRequest,
    remove: bool,
) -> Result<(), Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let SubjectRequest { stream_id: id, subject } = request;
    let has_format = subject.get("format").is_some_and(serde_json::Value::is_string);
    if !has_format || subject.to_string().len() > MAX_SUBJECT {
        let detail = format!("`subject` is not a subject identifier of at most {MAX_SUBJECT} bytes");
        return Err(Problem::bad_request(detail, "write one of RFC 9493 or SSF 1.0 §3, with its `format`"));
    }
    let work = move |streams: &Streams| {
        let stream = streams.own(&principal, &feed, &id)?;
        if remove && stream.removed_subjects.len() >= MAX_REMOVED && !stream.removed_subjects.contains(&subject) {
            let detail = format!("the stream is without {MAX_REMOVED} subjects already");
            return Err(Problem::conflict(detail, "ignore what the SETs say about others"));
        }
        let now = streams.now();
        streams.change(&feed, &id, |stream| {
            // Adding takes back every removal that is about it: doubt revokes.
            stream.removed_subjects.retain(|removed| *removed != subject && (remove || !matches(removed, &subject)));
            if remove {
                stream.removed_subjects.push(subject.clone());
            }
            stream.seen = now;
        })?;
        tracing::info!(feed, stream = id, principal = principal.name, remove, "a receiver changed its subjects");
        let change = if remove { "removed" } else { "added" };
        management::set(note, json!({"stream_id": id, change: subject}));
        Ok(())
    };
    streams.blocking(work).await
}
