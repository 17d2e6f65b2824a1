//! The proxies that follow a feed.

use crate::access::principal::Principal;
use crate::api::call::{Api, READERS};
use crate::api::model::ProxyAnswer;
use crate::problem::Problem;
use crate::store::model::FollowerRecord;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::Value;
use taskfence_core::feed::revision::Revision;

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
    let followers = api.operations.followers(&feed).await?;
    let head = api.with_store(move |store| store.head(&feed)).await?;
    let mut proxies: Vec<_> = followers.iter().map(|follower| answer(follower, head)).collect();
    proxies.sort_by(|one, other| (&one.node, &one.id).cmp(&(&other.node, &other.id)));
    Ok(Json(proxies))
}

/// A follower as it is answered.
pub fn answer(follower: &FollowerRecord, head: Revision) -> ProxyAnswer {
    let report: Value = serde_json::from_str(&follower.report).unwrap_or_default();
    let text = |member: &str| report.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let stale_after = report.get("stale_after").and_then(Value::as_u64);
    let mode = text("mode");
    // In shadow nothing is refused, so it does not close either.
    let closes = stale_after.filter(|_| mode != "shadow").filter(|_| follower.statement_at > 0);
    let saturated = match report.get("saturated") {
        Some(Value::Array(buckets)) => u64::try_from(buckets.len()).unwrap_or(u64::MAX),
        Some(number) => number.as_u64().unwrap_or_default(),
        None => 0,
    };
    ProxyAnswer {
        id: follower.id.clone(),
        node: text("node"),
        principal: follower.principal.clone(),
        version: text("version"),
        config: text("config"),
        applied: follower.applied.to_string(),
        behind: (follower.applied.epoch == head.epoch).then(|| head.number.saturating_sub(follower.applied.number)),
        seen_ms: follower.seen,
        stale_after,
        closes_at_ms: closes.map(|seconds| follower.statement_at.saturating_add(seconds.saturating_mul(1000))),
        skew_ms: report.get("skew_ms").and_then(Value::as_i64).unwrap_or_default(),
        saturated,
        mode,
    }
}
