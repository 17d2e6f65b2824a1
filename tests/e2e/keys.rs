//! Keys that are fetched: once per proxy, before they are needed, and never a wrong answer while they change.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    jwks::{self, Jwks},
    mint::{self, Alg},
    orders,
    refusal::{assert_allowed, assert_refused},
    sidecar::Sidecar,
};

/// The configuration of the sample service, but the token issuer's keys come from the cluster `jit`.
fn config(keys: Value) -> Value {
    let mut config = orders::config();
    let mut all = json!({"cluster": "jit", "path": "/jwks.json"});
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config["issuers"][0]["keys"] = all;
    config
}

fn settings(name: &str, keys: Value, address: std::net::SocketAddr) -> Settings {
    Settings::new(name, config(keys)).patch(jwks::with_clusters(vec![jwks::cluster("jit", address)]))
}

fn read_order() -> Request {
    Request::get(orders::ORDER_PATH).bearer(&mint::token().sign())
}

#[tokio::test]
async fn fetched_once_for_all_workers() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let settings = settings("keys-once", json!({}), server.address()).workers(4).balanced();
    let sidecar = Sidecar::start(settings).await.unwrap();
    for _ in 0..40 {
        assert_allowed(&sidecar, &sidecar.send(Http::One, &read_order()).await.unwrap());
    }
    let by_worker = sidecar.connections_by_worker().await.unwrap();
    assert!(by_worker.iter().all(|connections| *connections > 0), "{by_worker:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.asked_for(), ["jit.example/jwks.json"]);
}

#[tokio::test]
async fn requests_wait_for_the_first_keys() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    server.delay(Duration::from_millis(1_500));
    let sidecar = Sidecar::start(settings("keys-wait", json!({"wait": "10s"}), server.address())).await.unwrap();
    let requests = (0..50).map(|at| async move { (at, read_order()) });
    let mut all = Vec::new();
    for request in requests {
        let (at, request) = request.await;
        let to = sidecar.app();
        all.push(tokio::spawn(async move { client::send(to, Http::BOTH[at % 2], &request).await }));
    }
    for answer in all {
        assert_allowed(&sidecar, &answer.await.unwrap().unwrap());
    }
    assert_eq!(server.requests(), 1);
    let waited = sidecar.envoy().stats().await.unwrap().value("wasmcustom.taskfence.requests_waited").unwrap();
    assert!(waited > 0, "nothing had to wait: the test shows nothing");
}
