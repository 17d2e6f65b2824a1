//! The proxies that follow a feed.

use crate::access::principal::Principal;
use crate::api::call::{Api, READERS};
use crate::api::model::ProxyAnswer;
use crate::problem::Problem;
use axum::extract::{Path, State};
use axum::{Extension, Json};

/// The proxies that follow the feed: what is in force there, how old it is, and with which configuration.
#[utoipa::path(get, path = "/v1/feeds/{feed}/proxies", tag = "proxies", params(("feed" = String, Path)), responses(
    (status = 200, body = Vec<ProxyAnswer>),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<ProxyAnswer>>, Problem> {
    api.feed(&principal, &READERS, &feed)?;
    let mut proxies = api.operations.proxies(&feed)?;
    proxies.sort_by(|one, other| (&one.node, &one.id).cmp(&(&other.node, &other.id)));
    Ok(Json(proxies))
}
