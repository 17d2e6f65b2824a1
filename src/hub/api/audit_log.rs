//! The audit log: who called what, and what was answered. Every call of the API is in it before its answer leaves, or waits
//! in memory where the store does not take it: a full disk must not keep an operator from reading and from stopping.

use crate::access::principal::Principal;
use crate::api::call::{Api, Query, READERS, allow};
use crate::api::model::AuditAnswer;
use crate::config::role::Role;
use crate::problem::Problem;
use crate::store::model::{Audit, StoreError};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use utoipa::IntoParams;

/// What a handler says that it was asked for: no secrets. Handlers find it in the extensions of the request.
#[derive(Debug, Clone, Default)]
pub struct Note(Arc<Mutex<Option<Value>>>);

impl Note {
    /// Sets what the audit log says.
    pub fn set(&self, detail: Value) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(detail);
    }
}

/// Writes the call into the audit log. Where that fails the line waits in memory, and is written later. Only of a call that
/// may have changed something the answer is then 503, if the disk is not full or the memory is: what the call changed stays.
pub async fn record(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let by = request.extensions().get::<Principal>().map_or_else(String::new, |principal| principal.name.clone());
    let only_reads = request.method().is_safe();
    let call = format!("{} {}", request.method(), request.uri().path());
    let query = request.uri().query().map(str::to_owned);
    let response = next.run(request).await;
    let noted = note.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    let detail = noted.or(query.map(|query| json!({"query": query}))).unwrap_or_else(|| json!({}));
    let status = response.status().as_u16();
    let audit = Audit { at: api.operations.now(), by, call, status, detail: detail.to_string() };
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
    allow(&principal, &READERS)?;
    // The log is about all feeds.
    if principal.role == Role::Auditor && !principal.feeds.is_empty() {
        return Err(Problem::forbidden("the audit log is about all feeds", "use a token without `feeds`"));
    }
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
