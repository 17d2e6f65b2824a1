//! The streams of receivers.

use crate::access::principal::Principal;
use crate::api::call::{Api, READERS};
use crate::problem::Problem;
use crate::streams::answers::StreamSummary;
use axum::extract::{Path, State};
use axum::{Extension, Json};

/// The streams of a feed: whose each is, whether it delivers, and how far it is behind.
#[utoipa::path(get, path = "/v1/feeds/{feed}/streams", tag = "streams", params(("feed" = String, Path)), responses(
    (status = 200, body = Vec<StreamSummary>),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<StreamSummary>>, Problem> {
    api.feed(&principal, &READERS, &feed)?;
    Ok(Json(api.operations.streams(&feed).await?))
}
