//! The timeline of a task, a session, a user, a client or a token.

use crate::access::principal::Principal;
use crate::api::call::{Api, Query, READERS};
use crate::evidence::assemble::assemble;
use crate::evidence::model::{Selector, Window};
use crate::evidence::timeline::Timeline;
use crate::problem::Problem;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

/// The path.
pub const PATH: &str = "/v1/feeds/{feed}/timeline";

/// So many grants, events and single decisions are looked at, of each, unless the caller wants another number.
const LIMIT: usize = 1000;

/// At most so many.
const MAX_LIMIT: usize = 10_000;

/// The clock of a proxy may be ahead of that of the hub by so much, in milliseconds, for its newest uses to be found.
pub const AHEAD: u64 = 60_000;

/// Whose timeline, and of which time. Exactly one of `task`, `session`, `subject`, `client` and `token`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TimelineQuery {
    /// A task.
    task: Option<String>,
    /// A session, by `sid`.
    session: Option<String>,
    /// A user, by `sub`.
    subject: Option<String>,
    /// A client, by `client_id`.
    client: Option<String>,
    /// A token, by `jti` or its fingerprint.
    token: Option<String>,
    /// Only grants of this issuer.
    issuer: Option<String>,
    /// From when on, in milliseconds since 1970; default: all that is kept.
    since: Option<u64>,
    /// Until when, in milliseconds since 1970; default: now.
    until: Option<u64>,
    /// At most so many grants (the first ones by their ids), events and single decisions (the first ones by their times), of
    /// each; default 1000, at most 10000. `cut` says whether there were more.
    limit: Option<usize>,
}

/// What happened, from all proxies, in order.
#[utoipa::path(get, path = "/v1/feeds/{feed}/timeline", tag = "evidence", params(("feed" = String, Path), TimelineQuery),
    responses(
        (status = 200, body = Timeline),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<TimelineQuery>,
) -> Result<Json<Timeline>, Problem> {
    api.feed(&principal, &READERS, &feed)?;
    let now = api.evidence.now();
    let window = window(query.since, query.until, now)?;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
    let issuer = query.issuer.clone();
    let selector = query.selector()?;
    let work = move |store: &dyn crate::evidence::store::EvidenceStore| {
        let found = store.find(&feed, &selector, issuer.as_deref(), window, limit)?;
        Ok(assemble(&feed, &selector, found, now))
    };
    Ok(Json(api.evidence.with_store(work).await?))
}

/// The window that a query means.
pub fn window(since: Option<u64>, until: Option<u64>, now: u64) -> Result<Window, Problem> {
    let (since, until) = (since.unwrap_or_default(), until.unwrap_or(now.saturating_add(AHEAD)));
    if until <= since {
        let detail = "`until` does not lie after `since`";
        return Err(Problem::bad_request(detail, "write both in milliseconds since 1970, `since` first"));
    }
    Ok(Window { since, until })
}

impl TimelineQuery {
    fn selector(self) -> Result<Selector, Problem> {
        let TimelineQuery { task, session, subject, client, token, .. } = self;
        let all = [
            task.map(Selector::Task),
            session.map(Selector::Session),
            subject.map(Selector::Subject),
            client.map(Selector::Client),
            token.map(Selector::Token),
        ];
        let mut named = all.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(which("nothing is named")),
            (Some(_), Some(_)) => Err(which("more than one thing is named")),
        }
    }
}

fn which(detail: &str) -> Problem {
    Problem::bad_request(detail, "name one of `task`, `session`, `subject`, `client` and `token`")
}
