//! `POST /v1/events`: what happens to grants before and after a token is used, as their issuer or an operator tells it. It is
//! evidence only. Nothing of it ends or permits anything: that is `POST /v1/feeds/{feed}/events`.
//!
//! The events stand in the evidence with the name of the caller, so the audit log does not repeat them: an issuer tells of
//! each token, and each line there costs a write to the disk that signals wait for.

use crate::access::principal::Principal;
use crate::api::call::{Api, allow};
use crate::api::events::find_issuer;
use crate::config::hub::Feed;
use crate::config::role::Role;
use crate::evidence::check::MAX_AHEAD;
use crate::evidence::model::{EventKind, EventRow, Write, Written};
use crate::evidence::service::off;
use crate::evidence::signal_event::SOURCE;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use taskfence_core::config::load;
use taskfence_core::time::Timestamp;
use utoipa::ToSchema;

/// The path. Its method is POST.
pub const PATH: &str = "/v1/events";

/// So many events one call may have.
const MAX_EVENTS: usize = 100;

/// The longest body, in bytes.
const MAX_BODY: usize = 256 * 1024;

/// The body must be there after this long.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest name, in bytes.
const MAX_TEXT: usize = 1_024;

/// The longest `authorization_details`, as JSON, in bytes.
const MAX_DETAILS: usize = 16 * 1024;

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

/// A time before that is in seconds, and not in milliseconds: it would be in 1973.
const SECONDS: u64 = 100_000_000_000;

/// May tell what happens to grants.
const TELLERS: [Role; 2] = [Role::Issuer, Role::Operator];

const ENDS_NOTHING: &str = "`ended` is evidence only, and ends nothing: to end a grant, send task-completed or session-revoked to POST \
     /v1/feeds/{feed}/events";

/// The route. Requests come with a principal in their extensions.
pub fn router(api: Api) -> Router {
    Router::new().route(PATH, post(tell)).with_state(api)
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleKind {
    /// Somebody asked for a grant.
    Requested,
    /// Somebody approved the request.
    Approved,
    /// Somebody denied the request.
    Denied,
    /// A token was issued.
    Issued,
    /// The grant lasts longer.
    Extended,
    /// The grant or its task has ended. This ends nothing.
    Ended,
}

/// Something that happened to a grant. It names at least one of `task`, `session`, `subject`, `client` and `token`, as the
/// token has them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleEvent {
    /// What happened.
    kind: LifecycleKind,
    /// When, in milliseconds since 1970. Default: now.
    #[serde(default)]
    at: Option<u64>,
    /// The feed. Needed only where the caller may use several.
    #[serde(default)]
    feed: Option<String>,
    /// The issuer of the grant, as the feed names it. An issuer may leave it out.
    #[serde(default)]
    issuer: Option<String>,
    /// The task.
    #[serde(default)]
    task: Option<String>,
    /// The session.
    #[serde(default)]
    session: Option<String>,
    /// The user, as `sub` of the token.
    #[serde(default)]
    subject: Option<String>,
    /// The client, as `client_id` of the token.
    #[serde(default)]
    client: Option<String>,
    /// The token, by its `jti`.
    #[serde(default)]
    token: Option<String>,
    /// The kind of task, such as `refund`: reports add up by it.
    #[serde(default)]
    task_kind: Option<String>,
    /// Who did it, such as the one who approved.
    #[serde(default)]
    by: Option<String>,
    /// Why, such as a ticket.
    #[serde(default)]
    reason: Option<String>,
    /// The scopes, with spaces between (RFC 6749 §3.3): what was asked for, or what was granted.
    #[serde(default)]
    scope: Option<String>,
    /// The details (RFC 9396): what was asked for, or what was granted.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    authorization_details: Option<Vec<Value>>,
    /// Until when the grant lasts, in seconds since 1970, as `exp` of the token.
    #[serde(default)]
    expires_at: Option<u64>,
    /// What tells this event from others of the caller in this feed. The same one again changes nothing. Default: a new one.
    #[serde(default)]
    id: Option<String>,
}

/// One event, or at most 100 of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes the body, which is read by hand so that errors name the member")]
enum LifecycleEvents {
    /// One.
    One(#[serde(skip)] Box<LifecycleEvent>),
    /// Several.
    Several(#[serde(skip)] Vec<LifecycleEvent>),
}

/// What became of the events.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventsAnswer {
    /// One for each, in their order. They are durable.
    events: Vec<EventAnswer>,
    /// What to know about them.
    notes: Vec<String>,
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventAnswer {
    /// The feed.
    feed: String,
    /// Its id.
    id: String,
    /// What became of it.
    result: EventResult,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventResult {
    /// It is stored now.
    Stored,
    /// It had been stored before.
    Repeated,
    /// The store has no room for its day.
    Dropped,
}

/// Tells what happened to grants: requested, approved, denied, issued, extended, ended. It is evidence, and changes no
/// decision. All events of a call are stored, or none.
#[utoipa::path(post, path = PATH, tag = "evidence",
    request_body(content = LifecycleEvents, description = "One event, or a list of at most 100."),
    responses(
        (status = 200, body = EventsAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn tell(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<Json<EventsAnswer>, Problem> {
    if !api.evidence.is_on() {
        return Err(off());
    }
    allow(&principal, &TELLERS)?;
    // The copies of signals have this name.
    if principal.name == SOURCE {
        let detail = format!("nobody may tell events under the name `{SOURCE}`");
        return Err(Problem::forbidden(detail, "use a token with another name"));
    }
    let mut room = api.evidence.reserve(&principal.name, MAX_BODY)?;
    let late = || Problem::bad_request("the body did not come in time", "send it at once");
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(request.into_body(), MAX_BODY)).await;
    let long = |_| Problem::bad_request("the body is longer than 256 KiB, or broke off", "send fewer events");
    let bytes = read.map_err(|_| late())?.map_err(long)?;
    room.shrink(bytes.len());
    let events = parse(&bytes)?;
    let ends = events.iter().any(|event| event.kind == LifecycleKind::Ended);
    let several = events.len() > 1;
    let rows = events.into_iter().enumerate().map(|(at, event)| {
        let place = if several { format!("event {at}: ") } else { String::new() };
        row(&api, &principal, event).map_err(|Bad(detail, remedy)| Problem::bad_request(place + &detail, remedy))
    });
    let rows = rows.collect::<Result<Vec<EventRow>, Problem>>()?;
    let named: Vec<_> = rows.iter().map(|row| (row.feed.clone(), row.id.clone())).collect();
    let writes = rows.into_iter().map(|row| Write::Event(Box::new(row))).collect();
    let written = api.evidence.submit(room, writes).await?;
    let answer = |((feed, id), written)| EventAnswer { feed, id, result: EventResult::of(written) };
    let events = named.into_iter().zip(written).map(answer).collect();
    Ok(Json(EventsAnswer { events, notes: ends.then(|| ENDS_NOTHING.to_owned()).into_iter().collect() }))
}

impl EventResult {
    fn of(written: Written) -> EventResult {
        match written {
            Written::Stored => EventResult::Stored,
            Written::Repeated => EventResult::Repeated,
            Written::Dropped => EventResult::Dropped,
        }
    }
}

impl From<LifecycleKind> for EventKind {
    fn from(kind: LifecycleKind) -> EventKind {
        match kind {
            LifecycleKind::Requested => EventKind::Requested,
            LifecycleKind::Approved => EventKind::Approved,
            LifecycleKind::Denied => EventKind::Denied,
            LifecycleKind::Issued => EventKind::Issued,
            LifecycleKind::Extended => EventKind::Extended,
            LifecycleKind::Ended => EventKind::Ended,
        }
    }
}

/// What is wrong with an event, and what to do about it.
struct Bad(String, String);

fn bad<T>(detail: impl Into<String>, remedy: impl Into<String>) -> Result<T, Bad> {
    Err(Bad(detail.into(), remedy.into()))
}

/// The events of a body.
fn parse(bytes: &[u8]) -> Result<Vec<LifecycleEvent>, Problem> {
    let remedy = "see /openapi.json for the members";
    let read = |bytes: &[u8], what: &str| {
        load::parse(bytes, what).map_err(|problem| Problem::bad_request(problem.to_string(), remedy))
    };
    if !bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(vec![read(bytes, "the body")?]);
    }
    let items: Vec<Value> = serde_json::from_slice(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}"), remedy))?;
    if items.is_empty() || items.len() > MAX_EVENTS {
        let detail = format!("the body has {} events", items.len());
        return Err(Problem::bad_request(detail, format!("send 1 to {MAX_EVENTS} in one call")));
    }
    let numbered = items.iter().enumerate();
    numbered.map(|(at, item)| read(item.to_string().as_bytes(), &format!("event {at}"))).collect()
}

fn row(api: &Api, principal: &Principal, event: LifecycleEvent) -> Result<EventRow, Bad> {
    let feed = feed(api, principal, event.feed.as_deref())?;
    let issuer = issuer(feed, principal, event.issuer)?;
    let now = api.evidence.now();
    let at = event.at.unwrap_or(now);
    check_time(at, now, api.evidence.config().days)?;
    let (task, session, subject) = (event.task, event.session, event.subject);
    let (client, token) = (event.client, event.token);
    if [&task, &session, &subject, &client, &token].into_iter().all(Option::is_none) {
        let remedy = "name at least one of `task`, `session`, `subject`, `client` and `token`";
        return bad("the event names no grant", remedy);
    }
    let mut data = Map::new();
    data.extend(event.scope.clone().map(|scope| ("scope".to_owned(), scope.into())));
    if let Some(details) = event.authorization_details {
        let details = Value::from(details);
        let length = details.to_string().len();
        if length > MAX_DETAILS {
            let detail = format!("`authorization_details` has {length} bytes");
            return bad(detail, format!("send at most {MAX_DETAILS}"));
        }
        data.insert("authorization_details".to_owned(), details);
    }
    if let Some(expires_at) = event.expires_at {
        if expires_at > Timestamp::MAX.0 {
            return bad("`expires_at` is not in seconds since 1970", "write `exp` of the token");
        }
        data.insert("expires_at".to_owned(), expires_at.into());
    }
    let id = event.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let texts = [
        ("task", &task),
        ("session", &session),
        ("subject", &subject),
        ("client", &client),
        ("token", &token),
        ("task_kind", &event.task_kind),
        ("by", &event.by),
        ("reason", &event.reason),
        ("scope", &event.scope),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
    for (name, text) in texts.chain([("id", &*id)]) {
        if text.is_empty() || text.len() > MAX_TEXT || text.contains('\0') {
            let remedy = format!("write 1 to {MAX_TEXT} bytes, or leave it out");
            return bad(format!("`{name}` cannot be used"), remedy);
        }
    }
    Ok(EventRow {
        feed: feed.name.clone(),
        source: principal.name.clone(),
        id,
        kind: Some(event.kind.into()),
        at,
        heard_at: now,
        issuer,
        task,
        session,
        subject,
        client,
        token,
        task_kind: event.task_kind,
        by: event.by,
        reason: event.reason,
        data: Value::Object(data),
    })
}

/// The feed that the caller names, or the only one that it may use.
fn feed<'a>(api: &'a Api, principal: &Principal, named: Option<&str>) -> Result<&'a Feed, Bad> {
    let own = api.hub.feeds.iter().filter(|feed| principal.may(&TELLERS, &feed.name));
    let own: Vec<&Feed> = own.map(|feed| &**feed).collect();
    let names = || own.iter().map(|feed| format!("`{}`", feed.name)).collect::<Vec<_>>().join(", ");
    match (named, &own[..]) {
        (Some(name), own) => match own.iter().find(|feed| feed.name == name) {
            Some(feed) => Ok(feed),
            None => bad(format!("`{}` has no feed `{name}`", principal.name), format!("its feeds are {}", names())),
        },
        (None, [only]) => Ok(only),
        (None, _) => bad("`feed` is missing, and the caller may use several", format!("write one of {}", names())),
    }
}

/// The issuer of the grant: an issuer speaks about its own grants only.
fn issuer(feed: &Feed, principal: &Principal, named: Option<String>) -> Result<String, Bad> {
    let issuer = match (principal.role, named) {
        (Role::Issuer, Some(other)) if other != principal.name => {
            let detail = format!("`{}` may not tell of grants of `{other}`", principal.name);
            return bad(detail, "leave `issuer` out");
        }
        (Role::Issuer, _) => principal.name.clone(),
        (_, Some(issuer)) => issuer,
        (_, None) => return bad("`issuer` is missing", "name the issuer of the grant"),
    };
    match find_issuer(feed, &issuer) {
        Ok(_) => Ok(issuer),
        Err(problem) => bad(problem.detail(), "name an issuer of the feed"),
    }
}

fn check_time(at: u64, now: u64, days: u64) -> Result<(), Bad> {
    if at < SECONDS {
        return bad(format!("`at` is {at}, which is in 1973 or before"), "write milliseconds since 1970, not seconds");
    }
    if at > now.saturating_add(MAX_AHEAD) {
        return bad("`at` lies in the future", "look at the clock of the caller: the hub has another time");
    }
    if at < now.saturating_sub(days.saturating_mul(DAY)) {
        return bad(format!("`at` is older than {days} days"), "evidence is kept for so long: see `evidence.days`");
    }
    Ok(())
}
