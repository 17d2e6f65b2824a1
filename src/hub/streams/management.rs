//! The configuration endpoint (SSF 1.0 §8.1.1): a receiver makes, reads, changes and deletes its streams.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::problem::Problem;
use crate::streams::answers::{DeliveryAnswer, DeliveryRequest, StreamAnswer, StreamQuery, StreamRequest};
use crate::streams::body::{Json, NO_STORE};
use crate::streams::outgoing::audience;
use crate::streams::paths;
use crate::streams::record::{Authorization, Delivery, POLL, PUSH, Status, StreamRecord, without_query};
use crate::streams::service::{MANAGE, READ, SentFeed, Streams, no_stream, without};
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The most events that a receiver may name.
const MAX_EVENTS: usize = 64;

/// The longest URI of an event, and the longest description, in bytes.
const MAX_TEXT: usize = 1_024;

/// The longest `authorization` header, in bytes.
const MAX_AUTHORIZATION: usize = 8_192;

/// Makes a stream.
#[utoipa::path(post, path = paths::STREAMS, tag = "streams", params(("feed" = String, Path)),
    request_body = StreamRequest, responses(
        (status = 201, body = StreamAnswer),
        (status = 409, description = "There are as many as the receiver may have.", body = Problem,
            content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
    Json(request, _): Json<StreamRequest>,
) -> Result<Response, Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let wanted = streams.wanted(&feed, request)?;
    let answer = streams.blocking(move |streams| {
        let own = streams.0.records.of_feed(&feed)?;
        let own = own.iter().filter(|stream| stream.principal == principal.name).count();
        let most = streams.0.settings.per_principal;
        if own >= most {
            let detail = format!("`{}` has {own} streams of this feed, and may have {most}", principal.name);
            return Err(Problem::conflict(detail, "use one that exists, or delete it"));
        }
        let now = streams.now();
        let after = streams.last_signal(&feed)?;
        let mut stream = StreamRecord {
            id: uuid::Uuid::new_v4().to_string(),
            feed,
            principal: principal.name,
            delivery: Delivery::Poll,
            events_requested: None,
            description: None,
            status: Status::Enabled,
            reason: None,
            after,
            complete_until: now,
            acknowledged: BTreeSet::new(),
            removed_subjects: Vec::new(),
            about_stream: Vec::new(),
            seen: now,
            verified: 0,
        };
        wanted.apply(&mut stream);
        streams.0.records.add(&stream)?;
        let (feed, id, principal) = (&stream.feed, &stream.id, &stream.principal);
        tracing::info!(feed, stream = id, principal, delivery = ?stream.delivery, "a receiver made a stream");
        set(note, changed(&stream));
        Ok(streams.answer(&stream))
    });
    Ok((StatusCode::CREATED, NO_STORE, axum::Json(answer.await?)).into_response())
}

/// One stream, or without `stream_id` all that the receiver has.
#[utoipa::path(get, path = paths::STREAMS, tag = "streams", params(("feed" = String, Path), StreamQuery), responses(
    (status = 200, description = "A stream, or a list of streams.", body = Object),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn read(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Query(query): Query<StreamQuery>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    streams.feed_of(&principal, &feed, READ)?;
    let answer = streams.blocking(move |streams| match query.stream_id {
        Some(id) => Ok(axum::Json(streams.answer(&streams.own(&principal, &feed, &id)?)).into_response()),
        None => {
            let all = streams.0.records.of_feed(&feed)?;
            let own = all.iter().filter(|stream| stream.principal == principal.name);
            Ok(axum::Json(own.map(|stream| streams.answer(stream)).collect::<Vec<_>>()).into_response())
        }
    });
    Ok((NO_STORE, answer.await?).into_response())
}

/// Changes what the request names, and leaves the rest.
#[utoipa::path(patch, path = paths::STREAMS, tag = "streams", params(("feed" = String, Path)),
    request_body = StreamRequest, responses(
        (status = 200, body = StreamAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn update(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
    Json(request, sent): Json<StreamRequest>,
) -> Result<Response, Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let given = Given {
        events: request.events_requested.is_some(),
        delivery: request.delivery.is_some(),
        description: request.description.is_some(),
    };
    streams.rewrite((feed, principal, note), request, sent, given).await
}

/// Replaces all that a receiver says about a stream; what it leaves out is the default again.
#[utoipa::path(put, path = paths::STREAMS, tag = "streams", params(("feed" = String, Path)),
    request_body = StreamRequest, responses(
        (status = 200, body = StreamAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn replace(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
    Json(request, sent): Json<StreamRequest>,
) -> Result<Response, Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let given = Given { events: true, delivery: true, description: true };
    streams.rewrite((feed, principal, note), request, sent, given).await
}

/// Deletes a stream.
#[utoipa::path(delete, path = paths::STREAMS, tag = "streams", params(("feed" = String, Path), StreamQuery), responses(
    (status = 204, description = "It is deleted."),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn delete(
    State(streams): State<Streams>,
    Path(feed): Path<String>,
    Query(query): Query<StreamQuery>,
    Extension(principal): Extension<Principal>,
    note: Option<Extension<Note>>,
) -> Result<StatusCode, Problem> {
    streams.feed_of(&principal, &feed, MANAGE)?;
    let id = query.stream_id.ok_or_else(|| without("stream_id"))?;
    let deleted = streams.blocking(move |streams| {
        let stream = streams.own(&principal, &feed, &id)?;
        if !streams.0.records.remove(&feed, &id)? {
            return Err(no_stream());
        }
        tracing::info!(feed, stream = id, principal = stream.principal, "a receiver deleted a stream");
        set(note, json!({"stream_id": id}));
        Ok(StatusCode::NO_CONTENT)
    });
    deleted.await
}

/// What the audit log says about a stream: no secrets, which the query of an endpoint may be.
fn changed(stream: &StreamRecord) -> Value {
    let endpoint = match &stream.delivery {
        Delivery::Push { endpoint_url, .. } => Some(without_query(endpoint_url)),
        Delivery::Poll => None,
    };
    let (id, events, description) = (&stream.id, &stream.events_requested, &stream.description);
    json!({"stream_id": id, "endpoint": endpoint, "events_requested": events, "description": description})
}

/// Has the audit log say what was changed.
pub(super) fn set(note: Option<Extension<Note>>, detail: Value) {
    if let Some(Extension(note)) = note {
        note.set(detail);
    }
}

/// Which members of a stream a request sets.
#[derive(Clone, Copy)]
struct Given {
    events: bool,
    delivery: bool,
    description: bool,
}

/// What a receiver wants of a stream, checked.
struct Wanted {
    delivery: Delivery,
    events_requested: Option<Vec<String>>,
    description: Option<String>,
}

impl Wanted {
    fn apply(self, stream: &mut StreamRecord) {
        let Wanted { delivery, events_requested, description } = self;
        (stream.delivery, stream.events_requested, stream.description) = (delivery, events_requested, description);
    }
}

impl Streams {
    async fn rewrite(
        &self,
        (feed, principal, note): (String, Principal, Option<Extension<Note>>),
        request: StreamRequest,
        sent: Value,
        given: Given,
    ) -> Result<Response, Problem> {
        let id = request.stream_id.clone().ok_or_else(|| without("stream_id"))?;
        let wanted = self.wanted(&feed, request)?;
        let answer = self.blocking(move |streams| {
            let stream = streams.own(&principal, &feed, &id)?;
            streams.check_supplied(&stream, &sent)?;
            let now = streams.now();
            let new = streams.change(&feed, &id, |stream| {
                if given.events {
                    stream.events_requested.clone_from(&wanted.events_requested);
                }
                if given.delivery {
                    stream.delivery.clone_from(&wanted.delivery);
                }
                if given.description {
                    stream.description.clone_from(&wanted.description);
                }
                stream.seen = now;
            })?;
            tracing::info!(feed, stream = id, principal = principal.name, "a receiver changed a stream");
            set(note, changed(&new));
            Ok(streams.answer(&new))
        });
        Ok((NO_STORE, axum::Json(answer.await?)).into_response())
    }

    /// Checks what a receiver asks for.
    fn wanted(&self, feed: &str, request: StreamRequest) -> Result<Wanted, Problem> {
        let StreamRequest { stream_id: _, events_requested, delivery, description } = request;
        if let Some(events) = &events_requested {
            if events.is_empty() || events.len() > MAX_EVENTS || events.iter().any(|uri| uri.len() > MAX_TEXT) {
                let detail = format!("`events_requested` has not 1 to {MAX_EVENTS} URIs of at most {MAX_TEXT} bytes");
                return Err(Problem::bad_request(detail, "name the events that you act on"));
            }
            let delivered = self.feed(feed).map(|sent| sent.sender().events_delivered(Some(events)));
            if delivered.is_none_or(|delivered| delivered.is_empty()) {
                let help = "read `events_supported` of a stream that is made without `events_requested`";
                return Err(Problem::bad_request("none of the events in `events_requested` is supported", help));
            }
        }
        if description.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(Problem::bad_request(format!("`description` has more than {MAX_TEXT} bytes"), "shorten it"));
        }
        let delivery = delivery.map_or(Ok(Delivery::Poll), |delivery| self.delivery(delivery))?;
        Ok(Wanted { delivery, events_requested, description })
    }

    fn delivery(&self, request: DeliveryRequest) -> Result<Delivery, Problem> {
        let DeliveryRequest { method, endpoint_url, authorization_header } = request;
        if method == POLL {
            return Ok(Delivery::Poll);
        }
        if method != PUSH {
            let detail = format!("`delivery.method` is neither `{PUSH}` nor `{POLL}`");
            return Err(Problem::bad_request(detail, "see `delivery_methods_supported`"));
        }
        let endpoint_url = endpoint_url.ok_or_else(|| without("delivery.endpoint_url"))?;
        let help = "write the https URL that takes SETs; private addresses need `streams.allow` in hub.yaml";
        self.0.allowed.check(&endpoint_url).map_err(|error| Problem::bad_request(error.to_string(), help))?;
        let is_value = |text: &String| {
            let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            !text.is_empty() && text.len() <= MAX_AUTHORIZATION && text.bytes().all(plain)
        };
        if authorization_header.as_ref().is_some_and(|text| !is_value(text)) {
            let help = "write a value such as `Bearer ...`";
            return Err(Problem::bad_request("`delivery.authorization_header` is not the value of a header", help));
        }
        Ok(Delivery::Push { endpoint_url, authorization_header: authorization_header.map(Authorization) })
    }

    /// What the transmitter supplies may stand in a request, and must be as it is (SSF 1.0 §8.1.1.3).
    fn check_supplied(&self, stream: &StreamRecord, sent: &Value) -> Result<(), Problem> {
        let current = serde_json::to_value(self.answer(stream)).unwrap_or_default();
        let supplied = ["iss", "aud", "events_supported", "min_verification_interval", "inactivity_timeout"];
        let wrong =
            supplied.into_iter().find(|name| sent.get(name).is_some_and(|sent| current.get(name) != Some(sent)));
        wrong.map_or(Ok(()), |name| {
            let detail = format!("`{name}` is not what the stream has, and a receiver cannot change it");
            Err(Problem::bad_request(detail, "leave it out"))
        })
    }

    /// The stream as its receiver sees it.
    fn answer(&self, stream: &StreamRecord) -> StreamAnswer {
        let settings = &self.0.settings;
        let sent = self.feed(&stream.feed);
        let issuer = sent.map(|sent| sent.issuer.clone()).unwrap_or_default();
        let events =
            |requested| sent.map_or_else(Vec::new, |sent: &SentFeed| sent.sender().events_delivered(requested));
        let delivery = match &stream.delivery {
            Delivery::Push { endpoint_url, authorization_header } => DeliveryAnswer {
                method: PUSH.to_owned(),
                endpoint_url: endpoint_url.clone(),
                authorization_header: authorization_header.as_ref().map(|Authorization(value)| value.clone()),
            },
            Delivery::Poll => {
                let path = paths::POLL.replace("{feed}", &stream.feed).replace("{stream}", &stream.id);
                let endpoint_url = format!("{}{path}", settings.issuer);
                DeliveryAnswer { method: POLL.to_owned(), endpoint_url, authorization_header: None }
            }
        };
        StreamAnswer {
            stream_id: stream.id.clone(),
            aud: audience(&issuer, &stream.principal),
            iss: issuer,
            events_supported: events(None),
            events_requested: stream.events_requested.clone(),
            events_delivered: events(stream.events_requested.as_deref()),
            delivery,
            min_verification_interval: settings.min_verification_interval.0,
            inactivity_timeout: settings.inactivity_timeout.0,
            description: stream.description.clone(),
        }
    }
}
