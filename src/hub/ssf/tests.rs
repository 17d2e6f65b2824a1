//! Managers over one store, at a transmitter that has just what they need. How the hub speaks to a whole transmitter is
//! shown by `tests/e2e/hub_ssf.rs`.

use crate::intake::testing::{IDP, TestHub};
use crate::ssf::condition::Phase;
use crate::ssf::manager::ManagedStreams;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

#[derive(Default)]
struct Transmitter {
    base: String,
    stream: Option<Value>,
    made: usize,
    /// What each poll said, and what it was answered with.
    polls: Vec<Value>,
    sets: Vec<(String, String)>,
    /// Whether it says with each page that there are more.
    always_more: bool,
}

type Shared = Arc<Mutex<Transmitter>>;

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut shared = shared.lock().unwrap();
    let base = shared.base.clone();
    match (head.method.as_str(), head.uri.path()) {
        ("GET", "/.well-known/ssf-configuration") => {
            Json(json!({"issuer": base, "configuration_endpoint": format!("{base}/streams")})).into_response()
        }
        ("GET", "/streams") => match head.uri.query() {
            None => Json(json!(shared.stream.iter().collect::<Vec<_>>())).into_response(),
            Some(_) => {
                shared.stream.clone().map_or(StatusCode::NOT_FOUND.into_response(), |one| Json(one).into_response())
            }
        },
        ("POST", "/streams") => {
            shared.made += 1;
            let stream = json!({"stream_id": "s1", "iss": IDP, "aud": "hub", "description": json["description"],
                "events_requested": json["events_requested"], "events_delivered": json["events_requested"],
                "delivery": {"method": "urn:ietf:rfc:8936", "endpoint_url": format!("{base}/poll")}});
            shared.stream = Some(stream.clone());
            (StatusCode::CREATED, Json(stream)).into_response()
        }
        ("POST", "/poll") => {
            let acknowledged = json["ack"].as_array().cloned().unwrap_or_default();
            shared.sets.retain(|(jti, _)| !acknowledged.contains(&json!(jti)));
            shared.polls.push(json);
            let sets: serde_json::Map<_, _> = shared.sets.iter().map(|(jti, set)| (jti.clone(), json!(set))).collect();
            Json(json!({"sets": sets, "moreAvailable": shared.always_more})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A transmitter, and a hub with a stream there that is not managed yet.
async fn start() -> (Shared, TestHub, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let shared = Shared::default();
    shared.lock().unwrap().base = base.clone();
    let routes = Router::new().fallback(answer).with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let hub = TestHub::new(|config| {
        let ssf = json!({"url": base, "credentials": {"token_file": token}, "wait": "1s", "verify": "1h"});
        config["feeds"][0]["signals"]["transmitters"][0]["ssf"] = ssf;
    });
    (shared, hub, folder)
}

fn manage(hub: &TestHub, replica: &str) -> ManagedStreams {
    ManagedStreams::start(&hub.compiled(), replica, &hub.store, &hub.intake, hub.clock())
}

async fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn phase(streams: &ManagedStreams) -> Phase {
    streams.conditions()[0].snapshot().phase
}

#[tokio::test]
async fn of_two_replicas_one_manages_a_stream_and_the_other_goes_on() {
    let (shared, hub, _folder) = start().await;
    let first = manage(&hub, "a");
    wait("the first makes a stream", || phase(&first) == Phase::Unverified).await;
    let second = manage(&hub, "b");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((phase(&second), second.conditions()[0].snapshot().polls), (Phase::Standby, 0));
    first.stop().await;
    wait("the second goes on", || second.conditions()[0].snapshot().polls > 0).await;
    assert_eq!(shared.lock().unwrap().made, 1, "with the same stream");
    second.stop().await;
}

#[tokio::test]
async fn a_transmitter_that_always_has_more_and_gives_nothing_is_not_polled_without_pause() {
    let (shared, hub, _folder) = start().await;
    shared.lock().unwrap().always_more = true;
    let managed = manage(&hub, "a");
    wait("it is polled", || !shared.lock().unwrap().polls.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let polls = shared.lock().unwrap().polls.len();
    assert!((2..=4).contains(&polls), "{polls} polls in two seconds");
    managed.stop().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_stored() {
    let (shared, hub, _folder) = start().await;
    hub.break_store();
    shared.lock().unwrap().sets =
        vec![("j1".to_owned(), hub.revoke("j1", "task-1")), ("bad".to_owned(), "x".to_owned())];
    let streams = manage(&hub, "a");
    wait("it comes again and again", || streams.conditions()[0].snapshot().deferred >= 2).await;
    let polls = shared.lock().unwrap().polls.clone();
    assert!(polls.iter().all(|poll| poll.get("ack").is_none()), "{polls:?}");
    let errors: Vec<_> = polls.iter().filter_map(|poll| poll.get("setErrs")).collect();
    assert!(errors.iter().all(|one| one.get("j1").is_none() && one["bad"]["err"] == "invalid_request"), "{errors:?}");
    assert!(!errors.is_empty() && hub.entries().is_empty());
    streams.stop().await;
}
