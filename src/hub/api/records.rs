//! Single decisions of proxies, in the order in which they came, for programs that copy them elsewhere.

use crate::access::principal::Principal;
use crate::api::call::{Api, Query, READERS};
use crate::api::timeline::window;
use crate::evidence::model::RecordRow;
use crate::problem::Problem;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// The path.
pub const PATH: &str = "/v1/feeds/{feed}/records";

/// So many are answered, unless the caller wants another number.
const LIMIT: usize = 100;

/// At most so many.
const MAX_LIMIT: usize = 1000;

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordsQuery {
    /// Only those after this position: `next` of the last answer.
    #[serde(default)]
    after: u64,
    /// Only those that were made from then on, in milliseconds since 1970.
    since: Option<u64>,
    /// Only those that were made before, in milliseconds since 1970; default: now.
    until: Option<u64>,
    /// At most so many; default 100, at most 1000.
    limit: Option<usize>,
}

/// Some decisions.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Records {
    /// In the order of their positions.
    pub records: Vec<Record>,
    /// The position to go on after. With no records: there are no more for now.
    pub next: u64,
}

/// One decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Its place in the store of the hub.
    pub position: u64,
    /// Who sent it, as the hub has authenticated it: a SPIFFE id, or the name of a token.
    #[serde(default)]
    pub principal: String,
    /// The node of the proxy, as it says.
    pub node: String,
    /// When it was made, in milliseconds since 1970.
    pub at: u64,
    /// The id of the grant in the store.
    pub grant: String,
    /// The decision, as `docs/decision-record.md` describes it.
    pub record: Value,
}

/// The single decisions of a feed after a position.
#[utoipa::path(get, path = "/v1/feeds/{feed}/records", tag = "evidence", params(("feed" = String, Path), RecordsQuery),
    responses(
        (status = 200, body = Records),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Query(RecordsQuery { after, since, until, limit }): Query<RecordsQuery>,
) -> Result<Json<Records>, Problem> {
    api.feed(&principal, &READERS, &feed)?;
    let window = window(since, until, api.evidence.now())?;
    let limit = limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
    let rows = api.evidence.with_store(move |store| store.records(&feed, after, window, limit)).await?;
    let next = rows.last().map_or(after, |row| row.position);
    Ok(Json(Records { records: rows.into_iter().map(Record::from).collect(), next }))
}

impl From<RecordRow> for Record {
    fn from(row: RecordRow) -> Record {
        let RecordRow { position, principal, node, at, grant, record } = row;
        Record { position, principal, node, at, grant: grant.to_string(), record }
    }
}
