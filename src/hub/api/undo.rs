//! Undoes one signal by name.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::api::call::{Api, Body};
use crate::api::model::{TakenAnswer, UndoRequest};
use crate::api::state;
use crate::config::role::Role;
use crate::problem::Problem;
use crate::store::model::{SignalQuery, SignalRecord, StoredEntry};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::json;
use std::collections::BTreeSet;
use taskfence_core::feed::entry::{Decoded, decode};

/// Undoes one signal: its entries have no effect any more. Others about the same subject stay. A signal about a device, a
/// risk, a claim, an assurance or the beginning of a session is answered 409: send a new event instead.
#[utoipa::path(post, path = "/v1/feeds/{feed}/undo", tag = "signals", params(("feed" = String, Path)),
    request_body = UndoRequest, responses(
        (status = 200, body = TakenAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn undo(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    Body(request): Body<UndoRequest>,
) -> Result<Json<TakenAnswer>, Problem> {
    note.set(json!({
        "signal": request.signal, "jti": request.jti, "transmitter": request.transmitter, "reason": request.reason,
    }));
    api.feed(&principal, &[Role::Operator], &feed)?;
    if request.reason.trim().is_empty() {
        return Err(Problem::bad_request("`reason` is empty", "say why the signal is undone, for the audit log"));
    }
    let (id, jti) = find(&api, &feed, &request).await?;
    note.signal(id);
    let name = feed.clone();
    let entries = api.with_store(move |store| store.entries_of(&name, id)).await?;
    let stays = note_what_stays(id, &entries)?;
    let mut taken = api.operations.lift(&feed, id, &principal.name, &request.reason).await?;
    taken.jti = jti;
    taken.notes.extend(stays);
    Ok(Json(taken))
}

/// What a lift of these entries of the signal `id` does not take back; an error if that is all of them.
///
/// Of a device, a risk, a claim, an assurance and the beginning of a session the last word counts, whichever signal said
/// it, so there is no earlier word to go back to.
fn note_what_stays(id: u64, entries: &[StoredEntry]) -> Result<Option<String>, Problem> {
    let fact = |stored: &StoredEntry| match decode(&stored.entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => Some(read.entry.fact),
        _ => None,
    };
    let (staying, lifted): (Vec<_>, Vec<_>) =
        entries.iter().map(fact).partition(|fact| fact.is_some_and(|fact| !fact.is_kept_by_signal()));
    let names: BTreeSet<_> = staying.into_iter().flatten().map(|fact| state::fact(fact).0).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let staying = names.into_iter().collect::<Vec<_>>().join(", ");
    if !lifted.is_empty() {
        return Ok(Some(format!("what the signal says about {staying} stays: send a new event that says otherwise")));
    }
    let detail = format!("what the signal {id} says about {staying} cannot be undone: the last word counts");
    Err(Problem::conflict(detail, "send a new event instead, which says how it is now"))
}

/// The one signal that the request names: its number and its `jti`.
async fn find(api: &Api, feed: &str, request: &UndoRequest) -> Result<(u64, String), Problem> {
    let query = match (request.signal, &request.jti) {
        (Some(id), None) => SignalQuery { id: Some(id), ..SignalQuery::default() },
        (None, Some(jti)) => SignalQuery { jti: Some(jti.clone()), ..SignalQuery::default() },
        _ => {
            let remedy = "GET /v1/feeds/{feed}/signals shows both";
            return Err(Problem::bad_request("name the signal by `signal` or by `jti`", remedy));
        }
    };
    let query = SignalQuery { transmitter: request.transmitter.clone(), ..query };
    let name = feed.to_owned();
    let found = api.with_store(move |store| store.signals(&name, &query)).await?;
    match found.as_slice() {
        [SignalRecord { id, signal, .. }] => Ok((*id, signal.jti.clone())),
        [] => {
            let detail = format!("the feed `{feed}` has no such signal");
            Err(Problem::missing(detail, "GET /v1/feeds/{feed}/signals lists those that are kept"))
        }
        several => {
            let streams: Vec<_> = several.iter().map(|record| format!("`{}`", record.signal.transmitter)).collect();
            let detail = format!("several transmitters sent a signal with this `jti`: {}", streams.join(", "));
            Err(Problem::conflict(detail, "name the `transmitter` too, or the number of the signal in `signal`"))
        }
    }
}
