//! Logout tokens, as they are stored and answered.

use crate::intake::logout;
use crate::intake::testing::{IDP, ISSUER, NOW, TestHub};
use crate::intake::upkeep::Surroundings;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use serde_json::{Value, json};
use taskfence_core::state::bucket::SourceTag;
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;
use taskfence_core::token::issuer::key_space;

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const STREAM: &str = "logout/https://idp.example";

fn hub() -> TestHub {
    TestHub::new(|config| {
        config["feeds"][0]["signals"]["transmitters"][0]["logout_audience"] = json!(["web"]);
        config["feeds"][0]["signals"]["transmitters"][0]["subject_issuers"] = json!({ IDP: ISSUER });
    })
}

fn token(hub: &TestHub, jti: &str, changes: Value) -> String {
    let mut claims =
        json!({"iss": IDP, "aud": "web", "iat": NOW - 5, "exp": NOW + 60, "jti": jti, "events": {EVENT: {}}});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    hub.signer.sign(&json!({"typ": "logout+jwt"}), &claims)
}

async fn send(hub: &TestHub, feed: &str, form: String) -> Response {
    let request = Request::post(logout::PATH.replace("{feed}", feed));
    let request = request.header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    hub.call(request.body(Body::from(form)).unwrap()).await
}

async fn logout(hub: &TestHub, token: &str) -> (u16, Value) {
    let response = send(hub, "main", format!("logout_token={token}")).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_logout_is_a_signal_of_a_stream_of_its_own() {
    let hub = hub();
    let token = token(&hub, "l-1", json!({"sid": "s-1"}));
    // A client that tries again changes nothing.
    for _ in 0..3 {
        assert_eq!(logout(&hub, &token).await, (200, Value::Null));
    }
    let [entry] = hub.entries().try_into().unwrap();
    assert_eq!(entry.key, StateKey::new(Kind::Session, &key_space(Some("main"), ISSUER), "s-1"));
    assert_eq!((entry.fact, entry.at), (Fact::Revoked, Timestamp(NOW - 5)));
    assert_eq!(entry.source, SourceTag::new("main", STREAM, u32::try_from(NOW).unwrap()));
    let record = hub.store.signals("main", &Default::default()).unwrap().remove(0).signal;
    assert_eq!((&*record.transmitter, &*record.by, &*record.jti), (STREAM, IDP, "l-1"));
    let status = hub.intake.issuer_status("main", Timestamp(NOW));
    assert_eq!(status[0].heard, Timestamp(0), "it is no sign of life of the stream of SETs");
    let (_, counters) = hub.intake.counters().next().unwrap();
    assert_eq!((counters.taken.value(), counters.repeated.value()), (3, 2));
}

#[tokio::test]
async fn the_id_of_a_set_is_not_that_of_a_logout() {
    let hub = hub();
    assert_eq!(hub.push(hub.revoke("one", "task-42")).await.0, 202);
    assert_eq!(logout(&hub, &token(&hub, "one", json!({"sid": "s-1"}))).await.0, 200);
    let (status, body) = logout(&hub, &token(&hub, "one", json!({"sid": "s-2"}))).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_request")), "{body}");
    assert_eq!(hub.entries().len(), 2);
}

#[tokio::test]
async fn what_was_undone_stays_undone_and_what_stands_is_derived_again() {
    let hub = hub();
    let (first, second) = (token(&hub, "l-1", json!({"sid": "s-1"})), token(&hub, "l-2", json!({"sub": "alice"})));
    assert_eq!(logout(&hub, &first).await.0, 200);
    assert_eq!(logout(&hub, &second).await.0, 200);
    hub.lift(1).await;
    assert_eq!(logout(&hub, &first).await.0, 200);
    let lifted = |hub: &TestHub| hub.entries().iter().filter(|entry| entry.lifted).count();
    assert_eq!(lifted(&hub), 1, "a signal that was lifted and comes again stays lifted");
    let until = |hub: &TestHub| hub.entries().iter().find(|one| one.fact == Fact::CutOff).unwrap().until;
    let before = until(&hub);
    let hub = hub.restarted_with(|config| config["feeds"][0]["issuers"][0]["max_session"] = json!("48h"));
    let looking = tokio::spawn(hub.intake.clone().look_after(Surroundings::alone(|| async {}, || None)));
    for _ in 0..200 {
        if until(&hub) > before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    looking.abort();
    assert_eq!(until(&hub).since(before), taskfence_core::time::Span::hours(24));
}

#[tokio::test]
async fn what_is_not_stored_is_not_answered_with_200() {
    let hub = hub();
    hub.break_store();
    let response = send(&hub, "main", format!("logout_token={}", token(&hub, "l-1", json!({"sid": "s-1"})))).await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let hub = hub();
    let good = token(&hub, "l-1", json!({"sid": "s-1"}));
    let set = hub.revoke("set-1", "task-42");
    for (form, description) in [
        (String::new(), "the form has not exactly one logout_token"),
        (format!("token={good}"), "the form has not exactly one logout_token"),
        (format!("logout_token={good}&logout_token={good}"), "the form has not exactly one logout_token"),
        (format!("logout_token={set}"), "typ is not logout+jwt or JWT"),
        (
            format!("logout_token={}", token(&hub, "l-1", json!({"nonce": "n", "sid": "s"}))),
            "a logout token has no nonce",
        ),
        (
            format!("logout_token={}", token(&hub, "l-1", json!({"aud": "hub", "sid": "s"}))),
            "aud does not name this receiver",
        ),
        (format!("logout_token={}", token(&hub, "l-1", json!({}))), "there is neither sub nor sid"),
    ] {
        let response = send(&hub, "main", form.clone()).await;
        assert_eq!(response.status(), 400, "{form}");
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({"error": "invalid_request", "error_description": description}));
    }
    let json = Request::post(logout::PATH.replace("{feed}", "main")).header("content-type", "application/json");
    assert_eq!(hub.call(json.body(format!("logout_token={good}").into()).unwrap()).await.status(), 400);
    let get = hub.call(Request::get("/v1/feeds/main/logout").body(Body::empty()).unwrap()).await;
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(send(&hub, "none", format!("logout_token={good}")).await.status(), 404);
    assert_eq!(hub.entries(), []);
    // A form may have escapes and other members.
    assert_eq!(send(&hub, "main", format!("x=1&logout_token={}", good.replace('.', "%2E"))).await.status(), 200);
    // A transmitter without `logout` sends none.
    let none = TestHub::new(|_| {});
    let (status, body) = logout(&none, &token(&none, "l-1", json!({"sid": "s-1"}))).await;
    assert_eq!((status, &body["error_description"]), (400, &json!("iss is no transmitter that may send this")));
}
