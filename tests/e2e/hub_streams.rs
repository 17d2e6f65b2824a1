//! The hub as a transmitter (SSF 1.0), against a receiver that was written from the specifications alone. What an operator
//! or an issuer ends reaches services that are not behind the filter.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    client::Request,
    hub::{FEED, Hub},
    mint::unique,
    orders,
    ssf_receiver::{POLL, PushEndpoint, Receiver, Reply, SESSION_REVOKED, STREAM_UPDATED, Stream, VERIFICATION, counts, json_of},
};
use tokio::time;

const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";

/// A hub that is a transmitter, and may push to this machine.
async fn transmitter(name: &str) -> Hub {
    transmitter_with(name, |_| ()).await
}

async fn transmitter_with(name: &str, change: impl FnOnce(&mut Value)) -> Hub {
    Hub::start_with(name, |config| {
        let address = config["listen"]["address"].as_str().unwrap().to_owned();
        config["streams"] =
            json!({"issuer": format!("http://{address}"), "allow": ["127.0.0.0/8"], "min_verification_interval": "1s"});
        change(config);
    })
    .await
    .unwrap()
}

fn issuer(hub: &Hub) -> String {
    format!("http://{}/feeds/{FEED}", hub.address())
}

async fn receiver(hub: &Hub, name: &str) -> Receiver {
    let token = hub.new_token(name, "receiver").unwrap();
    known(hub, &token).await;
    Receiver::discover(hub.address(), &issuer(hub), &token).await.unwrap()
}

/// Waits until the hub knows of a token that was made on its host.
async fn known(hub: &Hub, token: &str) {
    for _ in 0..20 {
        time::sleep(Duration::from_millis(600)).await;
        if hub.send(&Request::get("/nothing").bearer(token)).await.unwrap().status == 404 {
            return;
        }
    }
    panic!("the hub does not know of the token");
}

/// An event of the operator about this subject.
async fn report(hub: &Hub, event: &str, subject: Value) -> Value {
    let body = json!({"event": event, "subject": subject, "issuer": orders::ISSUER, "reason": "ticket 7"});
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/events"), Some(&body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn end_task(hub: &Hub, task: &str) -> Value {
    report(hub, "task-completed", json!({"task": task})).await
}

fn task_of(claims: &Value) -> &str {
    claims["sub_id"]["task"]["id"].as_str().unwrap_or_default()
}

fn jtis(events: &[taskfence_tests::ssf_receiver::Event]) -> Vec<String> {
    events.iter().map(|event| event.jti.clone()).collect()
}

#[tokio::test]
async fn what_an_operator_ends_is_polled_until_it_is_acknowledged() {
    let hub = transmitter("streams-poll").await;
    end_task(&hub, "before").await;
    let receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[SESSION_REVOKED], json!({"method": POLL})).await.unwrap();
    assert_eq!(receiver.poll(&stream, &[]).await.unwrap(), (vec![], false), "a stream begins when it is made");
    let session = unique("sess");
    report(&hub, "session-revoked", json!({"session": session, "user": "alice"})).await;
    let (events, more) = receiver.poll(&stream, &[]).await.unwrap();
    let [event] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!((event.uri.as_str(), more), (SESSION_REVOKED, false));
    let user = json!({"format": "iss_sub", "iss": orders::ISSUER, "sub": "alice"});
    let expected = json!({"format": "complex", "session": {"format": "opaque", "id": session}, "user": user});
    assert_eq!(event.claims["sub_id"], expected);
    assert_eq!(event.payload["reason_admin"]["en"], "ticket 7");
    assert_eq!(event.payload["initiating_entity"], "admin");
    assert!(event.payload["event_timestamp"].is_u64());
    let (again, _) = receiver.poll(&stream, &[]).await.unwrap();
    assert_eq!(again, events, "what is not acknowledged comes again, and is the same");
    assert_eq!(receiver.poll(&stream, &jtis(&events)).await.unwrap(), (vec![], false));
    assert_eq!(receiver.poll(&stream, &[]).await.unwrap(), (vec![], false));
}
