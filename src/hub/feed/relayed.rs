//! `POST /v1/feeds/{feed}/followers`: what a relay says about the proxies behind it.
//!
//! It is the word of the relay. It counts for what is confirmed, marked as such, and never for when a proxy has closed
//! itself: that is computed from what this hub has signed, all of which the relay may have passed on. A proxy that a relay
//! tells of has an id of its own here, which begins with the name of the relay: so no relay can speak for a proxy that
//! follows this hub, or another relay.
//!
//! | status | when |
//! |---|---|
//! | 200 | noted; the body says of whom the report is missing |
//! | 400 | the body is not such a report |
//! | 401, 403 | the caller is no relay, or may not use the feed |
//! | 404 | there is no such feed |
//! | 503 | the store does not answer |

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::feed::Feeds;
use crate::feed::followers::told::{Told, Word};
use crate::feed::relays::Heard;
use crate::feed::report::Report;
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::feed::revision::Revision;
use utoipa::ToSchema;

/// The path. Its method is POST.
pub const PATH: &str = "/v1/feeds/{feed}/followers";

/// So many proxies stand in one report at most.
pub const MAX_BATCH: usize = 500;

/// The body has at most this many bytes: a report of a proxy has 4 KiB at most.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The body must be there after this long.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a relay says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayReport {
    /// A random name for this run of the relay: another one may not know who was behind the one before it.
    pub instance: String,
    /// Proxies of which something is new; at most 500.
    pub followers: Vec<RelayedFollower>,
    /// The ids of proxies that were silent for so long that they have closed themselves.
    pub gone: Vec<String>,
}

/// What a relay says about one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayedFollower {
    /// The random id of the proxy.
    pub id: String,
    /// Who it is at the relay.
    pub principal: String,
    /// The revision that it has applied: EPOCH.NUMBER.CHAIN.
    pub applied: String,
    /// When the relay last heard of it, in milliseconds since 1970.
    pub seen_ms: u64,
    /// What it reports about itself, if that is new: the header `taskfence-follower`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}

/// What the hub answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayReportAnswer {
    /// When this changes, the hub may have forgotten proxies: all are to be reported again.
    pub memory: String,
    /// Proxies that the hub does not know: they are to be reported with `report`.
    pub unknown: Vec<String>,
    /// How many were not taken, because the relay has too many.
    pub refused: u64,
}

/// Notes what a relay says about the proxies behind it. For relays.
#[utoipa::path(post, path = PATH, tag = "feeds",
    params(("feed" = String, Path)),
    request_body = RelayReport,
    responses(
        (status = 200, description = "Noted.", body = RelayReportAnswer),
        (status = 400, description = "The body is not such a report.", body = Problem,
            content_type = "application/problem+json"),
        (status = 401, description = "The caller is not known.", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "The caller is no relay, or may not use the feed.", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such feed.", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "Too many failed authentications, or too many requests.", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "The store does not answer.", body = Problem,
            content_type = "application/problem+json")))]
pub async fn report(State(feeds): State<Arc<Feeds>>, Path(name): Path<String>, request: Request) -> Response {
    match note(&feeds, &name, request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn note(feeds: &Feeds, name: &str, request: Request) -> Result<RelayReportAnswer, Problem> {
    let principal = request.extensions().get::<Principal>().cloned();
    let principal =
        principal.ok_or_else(|| Problem::unauthenticated("a relay needs a token or a certificate", false))?;
    if !principal.may(&[Role::Relay], name) {
        let detail = format!("`{}` may not report proxies of the feed `{name}`", principal.name);
        return Err(Problem::forbidden(detail, "use a token of the role relay"));
    }
    let feed = feeds.feed(name);
    let feed = feed.ok_or_else(|| Problem::missing(format!("there is no feed `{name}`"), "see /v1/feeds"))?;
    let bad = |detail: String| Problem::bad_request(detail, "see /openapi.json for the members");
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(request.into_body(), MAX_BODY)).await;
    let bytes = read.map_err(|_| bad("the body did not come in time".to_owned()))?;
    let bytes = bytes.map_err(|_| bad("the body is too long".to_owned()))?;
    let report: RelayReport = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if report.followers.len() > MAX_BATCH {
        return Err(bad(format!("`followers` has more than {MAX_BATCH} entries")));
    }
    let memory = feed.followers.memory(feed.head().epoch);
    let mut answer = RelayReportAnswer { memory, ..RelayReportAnswer::default() };
    let (mut told_of, is_full) = (Vec::new(), report.followers.len() == MAX_BATCH);
    // Most have applied the same.
    let mut counted: HashMap<Revision, Revision> = HashMap::new();
    for (at, one) in report.followers.into_iter().enumerate() {
        let applied: Revision =
            one.applied.parse().map_err(|_| bad(format!("`followers[{at}].applied` is no revision")))?;
        let about = match one.report {
            Some(value) => {
                let read = Report::parse(value.to_string().as_bytes());
                let read = read.ok().filter(|report| *report.id == *one.id);
                Some(read.ok_or_else(|| bad(format!("`followers[{at}].report` is no report of that proxy")))?)
            }
            None => None,
        };
        let applied = match counted.get(&applied) {
            Some(known) => *known,
            None => {
                let ours = feed.counted(applied).await.map_err(|error| Problem::unavailable(error.to_string()))?;
                counted.insert(applied, ours);
                ours
            }
        };
        let told = Told { id: &one.id, principal: &one.principal, applied, seen: one.seen_ms, report: about };
        match feed.followers.told(&principal.name, told, |number| feed.committed_at(number)) {
            Word::Noted => told_of.push(one.id),
            Word::Unknown => answer.unknown.push(one.id),
            Word::TooMany => answer.refused = answer.refused.saturating_add(1),
        }
    }
    // A proxy that the relay was answered about is in receipts, also after a crash and at other replicas.
    for id in told_of {
        if !feeds.store_new(&feed, &format!("{}/{id}", principal.name)).await {
            return Err(Problem::unavailable("the store of the hub does not answer"));
        }
    }
    feed.followers.told_gone(&principal.name, &report.gone);
    let is_whole = !is_full && answer.unknown.is_empty() && answer.refused == 0;
    let heard = Heard { instance: &report.instance, is_whole, head: feed.head() };
    feed.followers.relay_reports(&principal.name, heard);
    Ok(answer)
}
