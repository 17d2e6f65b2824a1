//! The report about grants, and who held what in a window. `docs/measures.md` defines the figures.

use crate::access::principal::Principal;
use crate::api::call::{Api, Body, Query, READERS};
use crate::config::hub::Feed;
use crate::evidence::measures::alive::{self, MOST_ALIVE};
use crate::evidence::measures::comparison::Role;
use crate::evidence::measures::report::{self as measures, DEFAULT_LIMIT, MOST_LISTED};
use crate::evidence::model::Window;
use crate::evidence::report::{Alive, Report};
use crate::evidence::store::EvidenceStore;
use crate::problem::Problem;
use crate::store::model::StoreError;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

/// So many reports are made at once: each reads all grants of its window.
pub(crate) static PLACES: Semaphore = Semaphore::const_new(2);

/// After so many seconds a caller that found no place may come back.
const COME_BACK: u64 = 5;

/// The window if none is given: seven days.
const DEFAULT_WINDOW: u64 = 7 * DAY;

/// The longest window, in milliseconds.
const MOST_WINDOW: u64 = 400 * DAY;

/// Grants are alive for at least so long, as far as is known: an issuer may issue longer tokens than a feed takes.
const LEAST_LIFETIME: u64 = DAY;

const DAY: u64 = 86_400_000;

/// So many roles may be compared with.
const MOST_ROLES: usize = 1_000;

/// About which window.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportQuery {
    /// The beginning, in milliseconds since 1970. Default: seven days before the end.
    #[serde(default)]
    since: Option<u64>,
    /// The end, in milliseconds since 1970. Default: now.
    #[serde(default)]
    until: Option<u64>,
    /// How many grants to list, the worst first. Default: 50; at most 1000.
    #[serde(default)]
    limit: Option<usize>,
}

/// About which window, and what to compare the grants with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportBody {
    /// The beginning, in milliseconds since 1970. Default: seven days before the end.
    #[serde(default)]
    since: Option<u64>,
    /// The end, in milliseconds since 1970. Default: now.
    #[serde(default)]
    until: Option<u64>,
    /// How many grants to list, the worst first. Default: 50; at most 1000.
    #[serde(default)]
    limit: Option<usize>,
    /// The roles of the permanent path. Default: none.
    #[serde(default)]
    roles: Vec<Role>,
}

/// Between which times.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AliveQuery {
    /// The beginning, in milliseconds since 1970.
    from: u64,
    /// The end, in milliseconds since 1970.
    to: u64,
    /// How many grants to list, the earliest first. Default and most: 10000.
    #[serde(default)]
    limit: Option<usize>,
}

/// Width, repeat, residual and sharing of the grants in a window.
#[utoipa::path(get, path = "/v1/feeds/{feed}/report", tag = "evidence",
    params(("feed" = String, Path), ReportQuery),
    responses(
        (status = 200, body = Report),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<ReportQuery>,
) -> Result<Json<Report>, Problem> {
    let ReportQuery { since, until, limit } = query;
    make(&api, &principal, &feed, ReportBody { since, until, limit, roles: Vec::new() }).await
}

/// The same, beside the width of a permanent path.
#[utoipa::path(post, path = "/v1/feeds/{feed}/report", tag = "evidence",
    params(("feed" = String, Path)),
    request_body = ReportBody,
    responses(
        (status = 200, body = Report),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn compare(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Body(body): Body<ReportBody>,
) -> Result<Json<Report>, Problem> {
    make(&api, &principal, &feed, body).await
}

/// Who held what in a window: each grant that could be used at some moment of it, also if nobody used it.
#[utoipa::path(get, path = "/v1/feeds/{feed}/alive", tag = "evidence",
    params(("feed" = String, Path), AliveQuery),
    responses(
        (status = 200, body = Alive),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn alive(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<AliveQuery>,
) -> Result<Json<Alive>, Problem> {
    let longest = longest_lifetime(api.feed(&principal, &READERS, &feed)?);
    let window = window(query.from, query.to)?;
    let limit = query.limit.unwrap_or(MOST_ALIVE);
    let made = work(&api, move |store, go_on| alive::alive(store, &feed, window, longest, limit, go_on));
    Ok(Json(made.await?))
}

async fn make(api: &Api, principal: &Principal, feed: &str, body: ReportBody) -> Result<Json<Report>, Problem> {
    api.feed(principal, &READERS, feed)?;
    let until = body.until.unwrap_or_else(|| api.operations.now());
    let Window { since, until } = window(body.since.unwrap_or_else(|| until.saturating_sub(DEFAULT_WINDOW)), until)?;
    let limit = body.limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MOST_LISTED {
        return Err(Problem::bad_request(format!("`limit` is above {MOST_LISTED}"), "ask for fewer grants"));
    }
    if body.roles.len() > MOST_ROLES {
        let detail = format!("more than {MOST_ROLES} roles");
        return Err(Problem::bad_request(detail, "compare with some of them at a time"));
    }
    let query = measures::Query {
        hub: api.hub.name.clone(),
        feed: feed.to_owned(),
        since,
        until,
        limit,
        roles: Some(body.roles).filter(|roles| !roles.is_empty()),
    };
    let made = work(api, move |store, go_on| measures::report(store, &query, go_on));
    let mut report = made.await?;
    let first_day = api.evidence.usage().map(|usage| usage.first_day).filter(|day| *day > 0);
    report.kept_since = first_day.map(|day| day.saturating_mul(DAY));
    Ok(Json(report))
}

/// Runs `make` on a thread where it may block. It is told to stop when the caller has gone.
async fn work<T: Send + 'static>(
    api: &Api,
    make: impl FnOnce(&dyn EvidenceStore, &dyn Fn() -> bool) -> Result<Option<T>, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let place = PLACES.try_acquire();
    let place = place.map_err(|_| Problem::busy("two reports are being made", COME_BACK))?;
    let gone = Arc::new(AtomicBool::new(false));
    // If the caller goes, this future is dropped, and with it the guard.
    let _guard = Guard(Arc::clone(&gone));
    let made = api.evidence.with_store(move |store| {
        let _place = place;
        make(store, &|| !gone.load(Ordering::Relaxed))
    });
    made.await?.ok_or_else(|| Problem::unavailable("the caller has gone"))
}

/// Says that the caller has gone when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn window(since: u64, until: u64) -> Result<Window, Problem> {
    if since >= until {
        return Err(Problem::bad_request("the window is empty: it ends before it begins", "send an earlier beginning"));
    }
    if until.saturating_sub(since) > MOST_WINDOW {
        return Err(Problem::bad_request("the window is longer than 400 days", "send a later beginning"));
    }
    Ok(Window { since, until })
}

/// The longest lifetime of a token that the feed takes, in milliseconds.
fn longest_lifetime(feed: &Feed) -> u64 {
    let longest = feed.policy().issuers().iter().map(|issuer| issuer.max_lifetime.0).max().unwrap_or_default();
    longest.saturating_mul(1_000).max(LEAST_LIFETIME)
}
