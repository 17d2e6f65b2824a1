//! `GET /v1/feeds/{feed}` of a relay: the same question and the same answers as those of a hub.
//!
//! | status | when |
//! |---|---|
//! | 200 | a page that the hub signed |
//! | 400 | the query or the header `taskfence-follower` is wrong; the body says what |
//! | 401, 403 | the caller is not known here, may not read the feed, or uses the id of another |
//! | 404 | this relay does not follow such a feed |
//! | 410 | the full state of `state` is not kept: ask without it |
//! | 503 | the relay has nothing for this position now, or too many ask; `Retry-After` says when to ask again |

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::feed::followers::{Polling, Refused};
use crate::feed::long_poll::{answer, later};
use crate::feed::report::{HEADER, Report};
use crate::feed::request::PageRequest;
use crate::parking::Parking;
use crate::relay::feed::{NotNow, RelayFeed};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::BTreeMap;
use std::sync::Arc;
use taskfence_core::feed::page::MEDIA_TYPE;

/// The feeds of a relay, by name.
pub type RelayFeeds = Arc<BTreeMap<String, Arc<RelayFeed>>>;

/// The route of the feeds. Requests must have a [`Principal`] in their extensions.
pub fn router(feeds: RelayFeeds) -> Router {
    Router::new().route(crate::feed::long_poll::PATH, get(page)).with_state(feeds)
}

async fn page(State(feeds): State<RelayFeeds>, Path(name): Path<String>, request: Request) -> Response {
    let parking = request.extensions().get::<Parking>().cloned();
    let (feed, request, polling) = match prepare(&feeds, &name, request) {
        Ok(prepared) => prepared,
        Err(response) => return *response,
    };
    drop((feeds, name));
    let answer = async move {
        match feed.page(request, &polling).await {
            Ok(page) => {
                let headers = [
                    (CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)),
                    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
                ];
                (headers, Body::new(page)).into_response()
            }
            Err(error) => not_now(&error),
        }
    };
    match parking {
        Some(parking) => parking.park(answer).await,
        None => answer.await,
    }
}

type Prepared = (Arc<RelayFeed>, PageRequest, Polling);

fn prepare(feeds: &RelayFeeds, name: &str, request: Request) -> Result<Prepared, Box<Response>> {
    let refuse = |status, text: String| Box::new(answer(status, text));
    let Some(principal) = request.extensions().get::<Principal>() else {
        let text = "who are you? use a bearer token or a client certificate".to_owned();
        return Err(refuse(StatusCode::UNAUTHORIZED, text));
    };
    // A relay behind a relay could report nobody: what it says would have to be the word of both.
    if principal.role == Role::Relay {
        let text = "a relay does not serve relays: set `follow.url` to the hub itself".to_owned();
        return Err(refuse(StatusCode::FORBIDDEN, text));
    }
    if !principal.may(&[Role::Sidecar, Role::Operator], name) {
        let text = format!("`{}` may not read the feed `{name}`", principal.name);
        return Err(refuse(StatusCode::FORBIDDEN, text));
    }
    let Some(feed) = feeds.get(name) else {
        return Err(refuse(StatusCode::NOT_FOUND, format!("this relay does not follow a feed `{name}`")));
    };
    let bad = |text: String| refuse(StatusCode::BAD_REQUEST, text);
    let query = request.uri().query().unwrap_or_default();
    let asked = PageRequest::parse(query).map_err(|error| bad(error.to_string()))?;
    let mut headers = request.headers().get_all(HEADER).iter();
    let report = match (headers.next(), headers.next()) {
        (Some(header), None) => Report::parse(header.as_bytes()).map_err(|error| bad(error.to_string()))?,
        (None, _) => return Err(bad(format!("the header `{HEADER}` is missing"))),
        (Some(_), Some(_)) => return Err(bad(format!("the header `{HEADER}` stands there twice"))),
    };
    let polling = feed.followers.begin(&principal.name, report).map_err(|error| match error {
        Refused::OtherPrincipal => refuse(StatusCode::FORBIDDEN, error.to_string()),
        Refused::TooMany | Refused::TooManyOfPrincipal => Box::new(later(error.to_string(), 30)),
    })?;
    Ok((feed.clone(), asked, polling))
}

fn not_now(error: &NotNow) -> Response {
    match error {
        NotNow::Gone => answer(StatusCode::GONE, error.to_string()),
        NotNow::Starting | NotNow::Upstream | NotNow::Ended => later(error.to_string(), 2),
        NotNow::Busy => later(error.to_string(), 5),
        NotNow::Hub(_, pause) => {
            let mut response = later(error.to_string(), 5);
            if let Some(pause) = pause {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*pause));
            }
            response
        }
    }
}
