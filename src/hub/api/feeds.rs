//! The feeds of the hub.

use crate::access::principal::Principal;
use crate::api::call::{Api, READERS, allow};
use crate::api::model::FeedAnswer;
use crate::problem::Problem;
use axum::extract::State;
use axum::{Extension, Json};

/// The feeds that the caller may read.
#[utoipa::path(get, path = "/v1/feeds", tag = "feeds", responses(
    (status = 200, body = Vec<FeedAnswer>),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<FeedAnswer>>, Problem> {
    allow(&principal, &READERS)?;
    let mut answers = Vec::new();
    for feed in api.hub.feeds.iter().filter(|feed| principal.may(&READERS, &feed.name)) {
        let name = feed.name.clone();
        let head = api.with_store(move |store| store.head(&name)).await?;
        let proxies = api.operations.proxies(&feed.name)?;
        let behind = proxies.iter().filter(|proxy| proxy.behind != Some(0)).count();
        answers.push(FeedAnswer {
            name: feed.name.clone(),
            revision: head.to_string(),
            issuers: feed.policy().issuers().iter().map(|issuer| issuer.name.clone()).collect(),
            proxies: u64::try_from(proxies.len()).unwrap_or(u64::MAX),
            behind: u64::try_from(behind).unwrap_or(u64::MAX),
        });
    }
    Ok(Json(answers))
}
