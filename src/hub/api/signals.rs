//! The signals that a feed has.

use crate::access::principal::Principal;
use crate::api::call::{Api, Query, READERS};
use crate::api::model::{SignalAnswer, UndoneAnswer};
use crate::problem::Problem;
use crate::store::model::{SignalQuery, SignalRecord};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

/// Which signals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SignalsQuery {
    /// Only those before this number.
    before: Option<u64>,
    /// Only those of this transmitter; `operator` for those of operators.
    transmitter: Option<String>,
    /// Only those with this `jti`.
    jti: Option<String>,
    /// Only stops that stand.
    #[serde(default)]
    standing_stops: bool,
    /// At most so many, and fewer where they are long; default 100, at most 1000.
    limit: Option<usize>,
}

/// The signals of a feed, the newest first.
#[utoipa::path(get, path = "/v1/feeds/{feed}/signals", tag = "signals", params(("feed" = String, Path), SignalsQuery),
    responses(
        (status = 200, body = Vec<SignalAnswer>),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<SignalsQuery>,
) -> Result<Json<Vec<SignalAnswer>>, Problem> {
    api.feed(&principal, &READERS, &feed)?;
    let SignalsQuery { before, transmitter, jti, standing_stops, limit } = query;
    let limit = limit.unwrap_or(100).clamp(1, 1000);
    let query = SignalQuery { id: None, before, transmitter, jti, standing_stops, limit };
    let records = api.with_store(move |store| store.signals(&feed, &query)).await?;
    Ok(Json(records.into_iter().map(answer).collect()))
}

/// A signal as it is answered.
pub fn answer(record: SignalRecord) -> SignalAnswer {
    let SignalRecord { id, signal, number, lifted } = record;
    SignalAnswer {
        signal: id,
        transmitter: signal.transmitter,
        jti: signal.jti,
        event: signal.event,
        subject: serde_json::from_str(&signal.subject).unwrap_or(Value::String(signal.subject)),
        by: signal.by,
        reason: signal.reason,
        at: signal.at.0,
        taken_in_ms: signal.taken_in,
        number,
        undone: lifted.map(|(by, reason, at_ms)| UndoneAnswer { by, reason, at_ms }),
    }
}
