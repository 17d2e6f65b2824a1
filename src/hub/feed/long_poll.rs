//! `GET /v1/feeds/{feed}`: answers with a page, at once or when there is something new.
//!
//! | status | when |
//! |---|---|
//! | 200 | a page |
//! | 400 | the query or the header `taskfence-follower` is wrong; the body says what |
//! | 401, 403 | the caller is not known, may not read the feed, or uses the id of another |
//! | 404 | there is no such feed |
//! | 410 | the full state of `state` is not kept any more: ask without it |
//! | 503 | the store does not answer, `after` is ahead of it, or too many load a full state; `Retry-After` says when to ask again |

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::feed::Feeds;
use crate::feed::feed::{Feed, NoAnswer};
use crate::feed::followers::{Polling, Refused};
use crate::feed::relayed;
use crate::feed::report::{HEADER, Report};
use crate::feed::request::PageRequest;
use crate::parking::Parking;
use crate::problem::Problem;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use taskfence_core::feed::page::MEDIA_TYPE;

/// The path. Its method is GET.
pub const PATH: &str = "/v1/feeds/{feed}";

/// The routes of the feeds. Requests must have a [`Principal`] in their extensions.
pub fn router(feeds: Arc<Feeds>) -> Router {
    Router::new().route(PATH, get(page)).route(relayed::PATH, post(relayed::report)).with_state(feeds)
}

/// What comes after a revision: a page, which is a JWS of the hub, a line feed, and entries. For proxies.
#[utoipa::path(get, path = PATH, tag = "feeds",
    params(
        ("feed" = String, Path),
        ("after" = String, Query, description = "What comes after this revision is wanted: EPOCH.NUMBER.CHAIN."),
        ("applied" = String, Query, description = "What is applied. Only this acknowledges."),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for something new; default 0, at most 25."),
        ("nonce" = Option<String>, Query, description = "Repeated in a statement that is signed for this request alone."),
        ("format" = Option<u64>, Query, description = "The format of the entries; default 1."),
        ("state" = Option<String>, Query, description = "The revision of a full state; with `part`."),
        ("part" = Option<u32>, Query, description = "A part of the full state, from 1 on."),
        ("taskfence-follower" = String, Header, description = "A JSON object about the proxy; `id` must be in it.")),
    responses(
        (status = 200, description = "A page.", body = String, content_type = "application/taskfence-page"),
        (status = 400, description = "The query or the header is wrong.", body = String, content_type = "text/plain"),
        (status = 401, description = "The caller is not known.", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "The caller may not read the feed, or uses the id of another.",
            content((String = "text/plain"), (Problem = "application/problem+json"))),
        (status = 404, description = "There is no such feed.", body = String, content_type = "text/plain"),
        (status = 410, description = "The full state is not kept any more: ask without `state`.", body = String,
            content_type = "text/plain"),
        (status = 429, description = "Too many failed authentications, or too many requests.", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Come again after `retry-after`.",
            content((String = "text/plain"), (Problem = "application/problem+json")),
            headers(("retry-after" = u64, description = "Seconds.")))))]
pub async fn page(State(feeds): State<Arc<Feeds>>, Path(name): Path<String>, request: Request) -> Response {
    let parking = request.extensions().get::<Parking>().cloned();
    // The request is read and dropped before the wait: its buffer of 8 KiB is free again.
    let (feed, request, polling) = match prepare(&feeds, &name, request) {
        Ok(prepared) => prepared,
        Err(response) => return *response,
    };
    drop(name);
    let answer = async move {
        if !feed.followers.is_stored(polling.id()) && !Box::pin(feeds.store_new(&feed, polling.id())).await {
            return no_page(&NoAnswer::Store);
        }
        if !feed.followers.knows_relay(&polling) && !Box::pin(feeds.write_relays(&feed, true)).await {
            return no_page(&NoAnswer::Store);
        }
        drop(feeds);
        match feed.page(request, polling).await {
            Ok(page) => {
                let headers = [
                    (CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)),
                    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
                ];
                (headers, Body::new(page)).into_response()
            }
            Err(error) => no_page(&error),
        }
    };
    match parking {
        Some(parking) => parking.park(answer).await,
        None => answer.await,
    }
}

fn prepare(feeds: &Feeds, name: &str, request: Request) -> Result<(Arc<Feed>, PageRequest, Polling), Box<Response>> {
    let refuse = |status, text: String| Box::new(answer(status, text));
    let Some(principal) = request.extensions().get::<Principal>() else {
        return Err(refuse(
            StatusCode::UNAUTHORIZED,
            "who are you? use a bearer token or a client certificate".to_owned(),
        ));
    };
    if !principal.may(&[Role::Sidecar, Role::Relay, Role::Operator], name) {
        let text = format!("`{}` may not read the feed `{name}`", principal.name);
        return Err(refuse(StatusCode::FORBIDDEN, text));
    }
    let Some(feed) = feeds.feed(name) else {
        return Err(refuse(StatusCode::NOT_FOUND, format!("there is no feed `{name}`")));
    };
    let bad = |text: String| refuse(StatusCode::BAD_REQUEST, text);
    let asked =
        PageRequest::parse(request.uri().query().unwrap_or_default()).map_err(|error| bad(error.to_string()))?;
    let mut headers = request.headers().get_all(HEADER).iter();
    let report = match (headers.next(), headers.next()) {
        (Some(header), None) => Report::parse(header.as_bytes()).map_err(|error| bad(error.to_string()))?,
        (None, _) => return Err(bad(format!("the header `{HEADER}` is missing"))),
        (Some(_), Some(_)) => return Err(bad(format!("the header `{HEADER}` stands there twice"))),
    };
    if principal.role == Role::Relay {
        let polling = feed.followers.begin_relay(&principal.name, &report.id);
        return Ok((feed, asked, polling));
    }
    let polling = feed.followers.begin(&principal.name, report).map_err(|error| match error {
        Refused::OtherPrincipal => refuse(StatusCode::FORBIDDEN, error.to_string()),
        Refused::TooMany | Refused::TooManyOfPrincipal => Box::new(later(error.to_string(), 30)),
    })?;
    Ok((feed, asked, polling))
}

fn no_page(error: &NoAnswer) -> Response {
    match error {
        NoAnswer::Gone => answer(StatusCode::GONE, error.to_string()),
        NoAnswer::Store | NoAnswer::Ahead => later(error.to_string(), 2),
        NoAnswer::Busy => later(error.to_string(), 15),
    }
}

/// 503, with a time to come again around `seconds`: different for each caller, so that they do not all come at once.
pub(crate) fn later(text: String, seconds: u64) -> Response {
    let chance = getrandom::u64().unwrap_or(0).checked_rem(seconds.saturating_mul(2)).unwrap_or(0);
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(chance.saturating_add(1)));
    response
}

pub(crate) fn answer(status: StatusCode, text: String) -> Response {
    let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, headers, format!("{text}\n")).into_response()
}
