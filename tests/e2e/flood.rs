//! A flood of bad signatures causes a bounded number of checks, and tokens that were verified before still pass.

use std::time::Duration;

use serde_json::json;
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Http, Request},
    mint::{self, Alg},
    orders,
    refusal::assert_refused,
    sidecar::Sidecar,
    tamper,
};
use tokio::time::sleep;

/// One worker, since each counts for itself; two bad signatures a second, five at once.
async fn sidecar(name: &str) -> Sidecar {
    let mut config = orders::config();
    config["limits"] = json!({"bad_signatures": {"per_second": 2, "burst": 5}});
    Sidecar::start(Settings::new(name, config).workers(1)).await.unwrap()
}

async fn read(sidecar: &Sidecar, token: &str) -> Answer {
    sidecar.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap()
}

fn forged() -> String {
    tamper::flip_signature_bit(&mint::token().sign())
}

async fn denied(sidecar: &Sidecar, reason: &str) -> u64 {
    sidecar.envoy().stats().await.unwrap().value(&format!("wasmcustom.taskfence.denied.{reason}")).unwrap()
}

#[tokio::test]
async fn new_tokens_are_turned_away_and_known_ones_go_on() {
    let sidecar = sidecar("flood").await;
    let known = mint::token().sign();
    assert_eq!(read(&sidecar, &known).await.line(), "200");
    let mut turned_away = 0;
    for _ in 0..100 {
        let answer = read(&sidecar, &forged()).await;
        match answer.reason().as_deref() {
            Some("signature_invalid") => assert_refused(&sidecar, &answer, "signature_invalid"),
            _ => {
                assert_refused(&sidecar, &answer, "too_many_failures");
                assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
                turned_away += 1;
            }
        }
        assert_eq!(read(&sidecar, &known).await.line(), "200", "a token that was verified before");
    }
    assert!(turned_away > 50, "{turned_away} of 100 were turned away");
    assert_eq!(denied(&sidecar, "too_many_failures").await, turned_away);
    assert_eq!(denied(&sidecar, "signature_invalid").await, 100 - turned_away);
    // A good new token of the same source looks like one of the flood, so it is not checked until the flood is over.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(read(&sidecar, &mint::token().sign()).await.line(), "200");
}

#[tokio::test]
async fn a_grpc_client_is_told_that_a_resource_is_exhausted() {
    let sidecar = sidecar("flood-grpc").await;
    let mut status = None;
    for _ in 0..20 {
        let request = Request::get(orders::ORDER_PATH).bearer(&forged()).header("content-type", "application/grpc");
        status = sidecar.send(Http::Two, &request).await.unwrap().header("grpc-status");
    }
    assert_eq!(status.as_deref(), Some("8"));
}

/// One bad token is checked once, however often it comes: it uses up one failure and no more.
#[tokio::test]
async fn the_same_bad_token_again_is_no_flood() {
    let sidecar = sidecar("flood-same").await;
    let bad = forged();
    for _ in 0..50 {
        assert_refused(&sidecar, &read(&sidecar, &bad).await, "signature_invalid");
    }
    assert_eq!(read(&sidecar, &mint::token().sign()).await.line(), "200");
}

/// What a token says besides is no reason to take its signature for bad, and a flood of good tokens is none.
#[tokio::test]
async fn good_tokens_lock_nobody_out() {
    let sidecar = sidecar("flood-good").await;
    for at in 0..140 {
        let jwt = match at % 3 {
            0 => mint::token().claim("nonce", 7),
            1 => mint::token().header("x5c", json!(["M".repeat(7_000)])),
            _ => mint::token().header("salt", at),
        };
        // Signatures that the proxy checks, and some that the filter does.
        let jwt = jwt.signed_by(mint::ISSUER.signer(Alg::ALL[at % Alg::ALL.len()]));
        assert_eq!(read(&sidecar, &jwt.sign()).await.line(), "200", "token {at}");
    }
    assert_eq!(denied(&sidecar, "signature_invalid").await, 0);
}
