//! Keys of transmitters that are fetched.

use crate::intake::testing::{ISSUER, NOW, Signer, TestHub};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::keys::keyring::MAX_JWKS;

const TRANSMITTER: &str = "https://rotating.example";

/// What the server answers.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Broken,
    Large,
    SameHost,
    OtherHost(String),
}

struct Server {
    base: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(first: Answer) -> Server {
        let (answer, asked) = (Arc::new(Mutex::new(first)), Arc::new(AtomicUsize::new(0)));
        let (now, count) = (answer.clone(), asked.clone());
        let respond = move |moved: bool| {
            count.fetch_add(1, Ordering::Relaxed);
            match now.lock().unwrap().clone() {
                Answer::Keys(keys) => keys.to_string().into_response(),
                Answer::SameHost if moved => json!({"keys": []}).to_string().into_response(),
                Answer::SameHost => Redirect::temporary("/moved").into_response(),
                Answer::OtherHost(url) => Redirect::temporary(&url).into_response(),
                Answer::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                Answer::Large => large(),
            }
        };
        let moved = respond.clone();
        let routes = Router::new()
            .route("/jwks.json", get(async move || respond(false)))
            .route("/moved", get(async move || moved(true)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        Server { base, answer, asked }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn large() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], vec![b' '; MAX_JWKS + 1]).into_response()
}

/// A hub with a transmitter whose keys come from `server`.
fn hub(server: &Server) -> TestHub {
    TestHub::new(|config| {
        config["clusters"] = json!({"keys": server.base});
        config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap().push(json!({
            "issuer": TRANSMITTER, "audience": "hub", "subjects": [ISSUER],
            "keys": {"cluster": "keys", "path": "/jwks.json", "refetch": "10s", "wait": "5s", "timeout": "2s"}
        }));
    })
}

fn set(signer: &Signer, jti: &str, iat: u64) -> String {
    let event = crate::intake::testing::SESSION_REVOKED;
    let claims = json!({
        "iss": TRANSMITTER, "aud": "hub", "iat": iat, "jti": jti,
        "sub_id": {"format": "jwt_id", "iss": ISSUER, "jti": jti}, "events": {event: {"event_timestamp": NOW}}
    });
    signer.sign(&json!({"typ": "secevent+jwt"}), &claims)
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

fn fetched(hub: &TestHub) -> (u64, u64) {
    let (_, counters) = hub.intake.counters().next().unwrap();
    (counters.keys_fetched.value(), counters.keys_failed.value())
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_set_names_it_and_not_more_often() {
    let (old, new) = (Signer::new(Algorithm::ES256, "old"), Signer::new(Algorithm::ES256, "new"));
    let server = Server::start(Answer::Keys(old.jwks())).await;
    let hub = hub(&server);
    assert_eq!(hub.push(set(&old, "t-1", NOW)).await.0, 202, "the first push waits for the first fetch");
    assert_eq!(server.asked(), 1);
    server.set(Answer::Keys(new.jwks()));
    let later = |seconds: u64| hub.time.store((NOW + seconds) * 1_000, Ordering::Relaxed);
    later(9);
    assert_eq!(hub.push(set(&new, "t-2", NOW + 9)).await.0, 503, "the last fetch is not 10 s ago");
    assert_eq!(server.asked(), 1);
    later(10);
    let pushes = (0..20).map(|at| hub.push(set(&new, &format!("t-{}", 3 + at), NOW + 10)));
    for (status, body) in futures_util::future::join_all(pushes).await {
        assert_eq!(status, 202, "{body}");
    }
    assert_eq!(server.asked(), 2, "one fetch for all");
    let unknown = Signer::new(Algorithm::ES256, "unknown");
    assert_eq!(
        hub.push(set(&unknown, "t-50", NOW + 9)).await.0,
        400,
        "issued before the last fetch: it never was a key"
    );
}

#[tokio::test]
async fn the_last_good_keys_stay_when_fetches_fail() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let server = Server::start(Answer::Keys(signer.jwks())).await;
    let hub = hub(&server);
    assert_eq!(hub.push(set(&signer, "t-1", NOW)).await.0, 202);
    for (at, answer) in [
        Answer::Broken,
        Answer::Large,
        Answer::Keys(json!([])),
        Answer::OtherHost("http://localhost:1/jwks.json".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        server.set(answer);
        hub.time.fetch_add(400_000, Ordering::Relaxed);
        let before = fetched(&hub).1;
        // A SET with an unknown key asks for a fetch.
        let now = hub.time.load(Ordering::Relaxed) / 1_000;
        assert_eq!(hub.push(set(&Signer::new(Algorithm::ES256, "x"), "t-x", now)).await.0, 503);
        until(|| fetched(&hub).1 > before).await;
        assert_eq!(hub.push(set(&signer, &format!("t-{}", at + 2), now)).await.0, 202, "the last good keys");
    }
    assert_eq!(hub.entries().len(), 5);
}

/// The metadata and the set are both only for the token of a file, which is read at each fetch.
#[tokio::test]
async fn keys_are_discovered_with_the_token_of_a_file() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let wanted = Arc::new(Mutex::new("Bearer first"));
    let only = |wanted: Arc<Mutex<&'static str>>, body: String| {
        get(async move |headers: header::HeaderMap| match headers.get("authorization") {
            Some(value) if value == *wanted.lock().unwrap() => body.into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        })
    };
    let metadata = json!({"issuer": TRANSMITTER, "jwks_uri": format!("{TRANSMITTER}/certs")}).to_string();
    let routes = Router::new()
        .route("/.well-known/openid-configuration", only(wanted.clone(), metadata))
        .route("/certs", only(wanted.clone(), signer.jwks().to_string()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, routes).into_future());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let hub = TestHub::new(|config| {
        config["clusters"] = json!({"keys": base});
        config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap().push(json!({
            "issuer": TRANSMITTER, "audience": "hub", "subjects": [ISSUER],
            "keys": {"cluster": "keys", "discover": true, "authorization_file": file, "wait": "5s", "timeout": "2s"}
        }));
    });
    assert_eq!(hub.push(set(&signer, "t-1", NOW)).await.0, 202);
    // Whether the next fetch brings the set. A SET with an unknown key asks for it.
    let fetch_again = async || {
        let before = fetched(&hub);
        hub.time.fetch_add(400_000, Ordering::Relaxed);
        let now = hub.time.load(Ordering::Relaxed) / 1_000;
        assert_eq!(hub.push(set(&Signer::new(Algorithm::ES256, "x"), "t-x", now)).await.0, 503);
        until(|| fetched(&hub) != before).await;
        fetched(&hub).0 > before.0
    };
    *wanted.lock().unwrap() = "Bearer second";
    assert!(!fetch_again().await, "the old token");
    std::fs::write(&file, "second").unwrap();
    assert!(fetch_again().await);
    std::fs::write(&file, "two words").unwrap();
    assert!(!fetch_again().await);
    std::fs::remove_file(&file).unwrap();
    assert!(!fetch_again().await);
}

#[tokio::test]
async fn without_keys_a_set_comes_again() {
    let signer = Signer::new(Algorithm::ES256, "k");
    let server = Server::start(Answer::OtherHost("http://localhost:1/jwks.json".to_owned())).await;
    let hub = hub(&server);
    until(|| fetched(&hub).1 > 0).await;
    let answer = hub.call(hub.request().body(set(&signer, "t-1", NOW).into()).unwrap()).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(fetched(&hub).0, 0, "a redirect to another host is not followed");
    server.set(Answer::SameHost);
    hub.time.fetch_add(400_000, Ordering::Relaxed);
    assert_eq!(hub.push(set(&signer, "t-1", NOW + 400)).await.0, 503);
    assert!(fetched(&hub).0 > 0, "one to the same host is");
    assert_eq!(hub.entries(), []);
}

/// A provider does not send a logout token twice: the key is fetched while it waits.
#[tokio::test]
async fn a_new_key_is_fetched_when_a_logout_token_names_it() {
    let (old, new) = (Signer::new(Algorithm::ES256, "old"), Signer::new(Algorithm::ES256, "new"));
    let server = Server::start(Answer::Keys(old.jwks())).await;
    let hub = TestHub::new(|config| {
        config["clusters"] = json!({"keys": server.base});
        config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap().push(json!({
            "issuer": TRANSMITTER, "logout_audience": "web", "subjects": [ISSUER],
            "keys": {"cluster": "keys", "path": "/jwks.json", "refetch": "10s", "wait": "5s", "timeout": "2s"}
        }));
    });
    let logout = async |signer: &Signer, jti: &str, iat: u64| {
        let event = "http://schemas.openid.net/event/backchannel-logout";
        let claims =
            json!({"iss": TRANSMITTER, "aud": "web", "iat": iat, "jti": jti, "sid": jti, "events": {event: {}}});
        let form = format!("logout_token={}", signer.sign(&json!({"typ": "logout+jwt"}), &claims));
        let request = axum::http::Request::post("/v1/feeds/main/logout");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.into()).unwrap();
        hub.call(request).await.status().as_u16()
    };
    assert_eq!(logout(&old, "l-1", NOW).await, 200, "it waits for the first fetch");
    server.set(Answer::Keys(new.jwks()));
    hub.time.store((NOW + 10) * 1_000, Ordering::Relaxed);
    assert_eq!(logout(&new, "l-2", NOW + 10).await, 200);
    assert_eq!((server.asked(), hub.entries().len()), (2, 2));
    let unknown = Signer::new(Algorithm::ES256, "unknown");
    assert_eq!(logout(&unknown, "l-3", NOW + 9).await, 400);
    let status = hub.intake.issuer_status("main", taskfence_core::time::Timestamp(NOW + 10));
    assert_eq!(status[0].heard.0, 0, "the transmitter of SETs is silent, and this one is not asked for");
}
