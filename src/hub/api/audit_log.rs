//! The audit log: who called what, and what was answered. Every call of the API is in it before its answer leaves, or waits
//! in memory where the store does not take it: a full disk must not keep an operator from reading and from stopping.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::api::call::{Api, CALLERS, Query, READERS, allow, allow_all_feeds};
use crate::api::model::AuditAnswer;
use crate::problem::Problem;
use crate::store::model::{Audit, StoreError};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::IntoParams;

/// The longest `call` and the longest `detail` of a line, in bytes: whoever may only read must not fill the disk by long
/// questions. What an event says stands in its signal too.
const MAX_CALL: usize = 512;
const MAX_DETAIL: usize = 4096;

/// Writes the call into the audit log. Where that fails the line waits in memory, and is written later. Only of a call that
/// may have changed something the answer is then 503, if the disk is not full or the memory is: what the call changed stays.
///
/// Callers that may use nothing of the API are refused before that, and stand in the log of the hub alone: there may be
/// as many of them as there are proxies, and each line costs a write to the disk that signals wait for.
pub async fn record(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(principal) = request.extensions().get::<Principal>() else {
        // What a transmitter has agreed on admits its pushes, and no other method of their path.
        return Problem::unauthenticated("this path needs a token or a client certificate", true).into_response();
    };
    if let Err(problem) = allow(principal, &CALLERS) {
        tracing::info!(by = principal.name, path = request.uri().path(), "a caller has no role for the API");
        return problem.into_response();
    }
    let by = principal.name.clone();
    let only_reads = request.method().is_safe();
    let call = Call { by, what: format!("{} {}", request.method(), request.uri().path()), only_reads };
    let query = request.uri().query().map(|query| json!({"query": query}));
    let (response, noted) = noted(request, next).await;
    let detail = noted.or(query).unwrap_or_else(|| json!({}));
    write(&api, call, &detail, response).await
}

/// Writes what receivers change of their streams into the audit log, where a handler notes it. Their polls and questions
/// are not in it: there may be as many of them as they like.
pub async fn record_changes(State(api): State<Api>, request: Request, next: Next) -> Response {
    let by = request.extensions().get::<Principal>().map(|principal| principal.name.clone()).unwrap_or_default();
    let call = Call { by, what: format!("{} {}", request.method(), request.uri().path()), only_reads: false };
    match noted(request, next).await {
        (response, Some(detail)) => write(&api, call, &detail, response).await,
        (response, None) => response,
    }
}

/// Who called what.
struct Call {
    by: String,
    what: String,
    only_reads: bool,
}

/// The answer, and what the handler noted.
async fn noted(mut request: Request, next: Next) -> (Response, Option<Value>) {
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let response = next.run(request).await;
    (response, note.take())
}

async fn write(api: &Api, call: Call, detail: &Value, response: Response) -> Response {
    let Call { by, what, only_reads } = call;
    let (call, status) = (cut(what, MAX_CALL), response.status().as_u16());
    let audit = Audit { at: api.operations.now(), by, call, status, detail: detail_text(detail) };
    tracing::info!(by = audit.by, call = audit.call, status, "api");
    let (trail, store, line) = (Arc::clone(&api.audit), Arc::clone(&api.store), audit.clone());
    let written = tokio::task::spawn_blocking(move || trail.write(&*store, &line)).await;
    let error = match written {
        Ok(Ok(())) => return response,
        Ok(Err(error)) => error,
        Err(broke_off) => StoreError::Failed(broke_off.to_string()),
    };
    let (by, call, detail) = (audit.by.clone(), audit.call.clone(), audit.detail.clone());
    let may_wait = only_reads || matches!(error, StoreError::Full(_));
    if may_wait && api.audit.keep(audit).is_ok() {
        tracing::warn!(by, call, status, detail, %error, "the audit log cannot be written: this line waits in memory");
        return response;
    }
    tracing::error!(by, call, status, detail, %error, "the audit log cannot be written: this line is only here");
    api.audit.lose();
    match only_reads || !response.status().is_success() {
        true => response,
        false => Problem::unavailable("the audit log cannot be written; what the call changed stays").into_response(),
    }
}

/// The detail as a line has it: what is too long becomes `{"cut": TEXT, "signal": ID}`, with its beginning.
fn detail_text(detail: &Value) -> String {
    let text = detail.to_string();
    if text.len() <= MAX_DETAIL {
        return text;
    }
    json!({"cut": cut(text, MAX_DETAIL), "signal": detail.get("signal")}).to_string()
}

/// The first `most` bytes of `text`, to the last whole character.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

/// Which lines of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only lines before this number.
    before: Option<u64>,
    /// At most so many; default 100, at most 1000.
    limit: Option<usize>,
}

/// The audit log, the newest line first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery), responses(
    (status = 200, body = Vec<AuditAnswer>),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<AuditAnswer>>, Problem> {
    allow_all_feeds(&principal, &READERS, "the audit log is about all feeds")?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let lines = api.with_store(move |store| store.audits(query.before, limit)).await?;
    let answer = |(id, line): (u64, Audit)| AuditAnswer {
        id,
        at_ms: line.at,
        by: line.by,
        call: line.call,
        status: line.status,
        detail: serde_json::from_str(&line.detail).unwrap_or(Value::String(line.detail)),
    };
    Ok(Json(lines.into_iter().map(answer).collect()))
}
