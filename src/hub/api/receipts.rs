//! Receipts: where a revision is in force.

use crate::access::principal::Principal;
use crate::api::call::{Api, Query, READERS};
use crate::api::model::ReceiptAnswer;
use crate::problem::Problem;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use std::time::Duration;
use taskfence_core::feed::revision::Revision;
use utoipa::IntoParams;

/// The longest wait in seconds; whoever waits longer asks again.
const MAX_WAIT: u64 = 60;

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Seconds to wait until every proxy has it; default 0, at most 60.
    #[serde(default)]
    wait: u64,
}

/// On which proxies a revision is in force; and by when the others have closed themselves, or why never.
#[utoipa::path(get, path = "/v1/feeds/{feed}/receipts/{revision}", tag = "proxies",
    params(("feed" = String, Path), ("revision" = String, Path, description = "A revision or its number."), WaitQuery),
    responses(
        (status = 200, body = ReceiptAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(api): State<Api>,
    Path((feed, revision)): Path<(String, String)>,
    Extension(principal): Extension<Principal>,
    Query(WaitQuery { wait }): Query<WaitQuery>,
) -> Result<Json<ReceiptAnswer>, Problem> {
    api.feed(&principal, &READERS, &feed)?;
    let name = feed.clone();
    let head = api.with_store(move |store| store.head(&name)).await?;
    let number = number(&revision, head)?;
    let wait = Duration::from_secs(wait.min(MAX_WAIT));
    Ok(Json(api.operations.receipt(&feed, number, wait).await?))
}

fn number(text: &str, head: Revision) -> Result<u64, Problem> {
    let remedy = "name a revision as the hub answered it, or its number";
    let number = match text.parse::<u64>() {
        Ok(number) => number,
        Err(_) => {
            let revision: Revision = text.parse().map_err(|error| Problem::bad_request(format!("{error}"), remedy))?;
            if revision.epoch != head.epoch {
                let detail = format!("the feed has another epoch: it stands at {head}");
                return Err(Problem::missing(detail, "its store was replaced since; look at the state instead"));
            }
            revision.number
        }
    };
    if number > head.number {
        return Err(Problem::missing(format!("the feed has not got as far: it stands at {head}"), remedy));
    }
    Ok(number)
}
