//! What transmitters push, and how it is answered.

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::intake::router;
use crate::intake::testing::{IDP, ISSUER, NOW, SESSION_REVOKED, TestHub};
use axum::body::Body;
use serde_json::{Value, json};
use taskfence_core::feed::entry::{self, Decoded};
use taskfence_core::signal::set::MAX_SET;
use taskfence_core::signal::set_error::SetErrorCode;
use taskfence_core::state::bucket::SourceTag;
use taskfence_core::state::fact::Fact;
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;
use taskfence_core::token::issuer::key_space;

const DEVICE: &str = "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";

fn counted(hub: &TestHub, number: impl Fn(&crate::intake::counters::Counters) -> u64) -> u64 {
    hub.intake.counters().map(|(_, counters)| number(counters)).sum()
}

#[tokio::test]
async fn a_signal_is_stored_as_filters_will_read_it() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(hub.revoke("set-1", "task-42")).await, (202, String::new()));
    let (stored, head) = hub.store.entries_after("main", 0, 1 << 20, Timestamp(NOW)).unwrap();
    let [stored] = stored.as_slice() else { panic!("one entry") };
    assert_eq!((stored.number, head.number), (1, 1));
    let Some(Ok(Decoded::Known(read))) = entry::decode(&stored.entry.bytes).next() else { panic!("an entry") };
    assert_eq!(read.by, TransmitterId::new(IDP));
    let entry = read.entry;
    assert_eq!(entry.key, StateKey::new(Kind::Task, &key_space(Some("main"), ISSUER), "task-42"));
    assert_eq!((stored.entry.key.as_slice(), stored.entry.bucket), (&entry.key.encode()[..], entry.key.bucket()));
    assert_eq!((entry.fact, entry.at, entry.lifted), (Fact::Revoked, Timestamp(NOW - 5), false));
    assert_eq!(entry.source, SourceTag::new("main", IDP, u32::try_from(NOW).unwrap()));
    let retention = hub.intake.issuer_status("main", Timestamp(NOW))[0].covered.session_retention;
    assert_eq!(entry.until, Timestamp(NOW).plus(retention).plus(taskfence_core::time::Span::minutes(2)));
    let (record, subject) = (hub.store.signals("main", &Default::default()).unwrap().remove(0), "task-42");
    assert_eq!((record.signal.transmitter.as_str(), record.signal.jti.as_str()), (IDP, "set-1"));
    assert_eq!((record.signal.event.as_str(), record.signal.at), (SESSION_REVOKED, Timestamp(NOW - 5)));
    let claims: Value = serde_json::from_str(&record.signal.claims).unwrap();
    assert_eq!(claims["sub_id"]["task"]["id"], subject);
    assert_eq!(serde_json::from_str::<Value>(&record.signal.subject).unwrap(), claims["sub_id"]);
    assert_eq!(counted(&hub, |counters| counters.taken.value()), 1);
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_a_contradiction_is_refused() {
    let hub = TestHub::new(|_| {});
    for _ in 0..3 {
        assert_eq!(hub.push(hub.revoke("set-1", "task-42")).await.0, 202);
    }
    assert_eq!(hub.entries().len(), 1);
    let (status, body) = hub.push(hub.revoke("set-1", "task-43")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["err"]), (400, &json!("invalid_request")));
    assert_eq!(hub.entries().len(), 1, "the first one stays, alone");
    assert_eq!(counted(&hub, |counters| counters.repeated.value()), 2);
    assert_eq!(counted(&hub, |counters| counters.contradicted.value()), 1);
}

#[tokio::test]
async fn what_is_no_push_or_not_authentic_is_answered_as_the_receiver_does() {
    let hub = TestHub::new(|config| {
        config["feeds"][0]["signals"]["transmitters"][0]["authorization"] = json!("Bearer agreed");
    });
    let set = hub.revoke("set-1", "task-42");
    let call = async |change: &dyn Fn(axum::http::request::Builder) -> axum::http::request::Builder, body: Body| {
        let request = change(hub.request().header("authorization", "Bearer agreed"));
        let response = hub.call(request.body(body).unwrap()).await;
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), header("allow"), header("accept-encoding"), header("cache-control"))
    };
    let store = || Some("no-store".to_owned());
    assert_eq!(call(&|request| request, set.clone().into()).await, (202, None, None, store()));
    assert_eq!(call(&|request| request, "garbage".into()).await, (400, None, None, store()));
    let get = call(&|request| request.method("GET"), Body::empty()).await;
    assert_eq!(get, (405, Some("POST".to_owned()), None, store()));
    assert_eq!(call(&|request| request.uri("/v1/feeds/other/signals"), set.clone().into()).await.0, 404);
    let zipped = call(&|request| request.header("content-encoding", "gzip"), set.clone().into()).await;
    assert_eq!(zipped, (415, None, Some("identity".to_owned()), store()));
    assert_eq!(call(&|request| request, vec![b'a'; MAX_SET].into()).await.0, 400);
    assert_eq!(call(&|request| request, vec![b'a'; MAX_SET + 1].into()).await.0, 413);
    let stranger = hub.call(hub.request().body(set.clone().into()).unwrap()).await;
    assert_eq!(stranger.status(), 400);
    let mut bent = hub.revoke("set-2", "task-43");
    let at = bent.len() - 10;
    let swapped = if bent.as_bytes()[at] == b'A' { "B" } else { "A" };
    bent.replace_range(at..=at, swapped);
    let refused = |hub: &TestHub| counted(hub, |counters| counters.refused(SetErrorCode::AuthenticationFailed).value());
    let before = refused(&hub);
    assert!(matches!(call(&|request| request, bent.into()).await.0, 400));
    assert_eq!(refused(&hub), before + 1);
    assert_eq!(hub.entries().len(), 1);
}

#[tokio::test]
async fn a_caller_that_is_known_needs_the_role() {
    let hub = TestHub::new(|_| {});
    for (role, feed, status) in [
        (Role::Transmitter, "main", 202),
        (Role::Transmitter, "other", 403),
        (Role::Sidecar, "main", 403),
        (Role::Operator, "main", 403),
    ] {
        let mut request = hub.request().body(Body::from(hub.revoke("set-1", "task-42"))).unwrap();
        request.extensions_mut().insert(Principal { name: "x".to_owned(), role, feeds: vec![feed.to_owned()] });
        assert_eq!(hub.call(request).await.status(), status, "{role:?} {feed}");
    }
}

#[tokio::test]
async fn a_transmitter_of_one_feed_learns_nothing_about_others_and_is_not_counted_there() {
    let hub = TestHub::new(|_| {});
    let ask = async |feed: &str| {
        let request = hub.request().uri(format!("/v1/feeds/{feed}/signals"));
        let mut request = request.body(Body::from(hub.revoke("set-1", "task-42"))).unwrap();
        let (name, role, feeds) = ("x".to_owned(), Role::Transmitter, vec!["own".to_owned()]);
        request.extensions_mut().insert(Principal { name, role, feeds });
        hub.call(request).await.status().as_u16()
    };
    assert_eq!([ask("main").await, ask("nothing").await], [403, 403]);
    assert_eq!(counted(&hub, |counters| counters.not_a_push.value()), 0);
}

#[tokio::test]
async fn what_ends_and_is_dated_ahead_counts_as_now_and_what_permits_comes_again() {
    let hub = TestHub::new(|_| {});
    let task = json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}});
    let ahead = TestHub::claims("set-1", SESSION_REVOKED, json!({"event_timestamp": NOW + 3600}), task);
    assert_eq!(hub.push(hub.set(&ahead)).await.0, 202);
    let now = hub.entries();
    assert_eq!(now[0].at, Timestamp(NOW));
    hub.time.fetch_add(30_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(hub.push(hub.set(&ahead)).await.0, 202);
    assert_eq!(hub.entries(), now, "the repeat is recognised, although it would be dated later");
    let device = json!({"format": "complex", "device": {"format": "opaque", "id": "d-1"}});
    let good = json!({"event_timestamp": NOW + 50, "previous_status": "not-compliant", "current_status": "compliant"});
    let early = hub.set(&TestHub::claims("set-2", DEVICE, good, device));
    let answer = hub.call(hub.request().body(Body::from(early.clone())).unwrap()).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "20"));
    assert_eq!(counted(&hub, |counters| counters.refused(SetErrorCode::TooEarly).value()), 1);
    hub.time.fetch_add(20_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(hub.push(early).await.0, 202);
    assert_eq!(hub.entries().len(), 2);
}

#[tokio::test]
async fn what_is_odd_is_taken_in_and_counted() {
    let hub = TestHub::new(|_| {});
    let odd = json!({"reason_admin": "a text", "initiating_entity": 7});
    let subject = json!({"format": "complex", "session": {"format": "opaque", "id": "s"}, "org_unit": {"format": "opaque", "id": "o"}});
    assert_eq!(hub.push(hub.set(&TestHub::claims("set-1", SESSION_REVOKED, odd, subject))).await.0, 202);
    assert_eq!(counted(&hub, |counters| counters.odd.value()), 1);
    assert_eq!(counted(&hub, |counters| counters.alarming.value()), 1);
    assert_eq!(hub.store.signals("main", &Default::default()).unwrap()[0].signal.reason, "a text");
}

#[tokio::test]
async fn what_has_no_effect_is_acknowledged_and_kept() {
    let hub = TestHub::new(|_| {});
    let enabled = "https://schemas.openid.net/secevent/risc/event-type/account-enabled";
    let user = json!({"format": "complex", "user": {"format": "opaque", "id": "u"}});
    let set = hub.set(&TestHub::claims("set-1", enabled, json!({}), user));
    for _ in 0..2 {
        assert_eq!(hub.push(set.clone()).await.0, 202);
    }
    assert_eq!(counted(&hub, |counters| counters.without_effect.value()), 2);
    assert_eq!(counted(&hub, |counters| counters.repeated.value()), 1);
    let records = hub.store.signals("main", &Default::default()).unwrap();
    assert_eq!((records.len(), hub.entries().len()), (1, 0));
    assert_eq!(hub.push(hub.revoke("set-1", "task-42")).await.0, 400, "its id is taken");
}

#[tokio::test]
async fn what_the_store_does_not_take_comes_again() {
    let hub = TestHub::new(|_| {});
    hub.break_store();
    let answer = hub.call(hub.request().body(Body::from(hub.revoke("set-1", "task-42"))).unwrap()).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(counted(&hub, |counters| counters.failed.value()), 1);
    assert_eq!(counted(&hub, |counters| counters.taken.value()), 0);
    assert_eq!(hub.intake.issuer_status("main", Timestamp(NOW))[0].heard, Timestamp(0), "not heard of");
}

#[tokio::test]
async fn what_finds_no_room_comes_again_and_operators_still_stop() {
    let hub = TestHub::new(|_| {});
    // Clients of one bucket.
    let space = &*key_space(Some("main"), ISSUER);
    let bucket = |name: &str| StateKey::new(Kind::Client, space, name).bucket();
    let mut names = (0..).map(|n: u32| n.to_string()).filter(|name| bucket(name) == bucket("agent-a7"));
    let mut revoke = |at: usize| {
        let client = json!({"format": "complex", "client": {"format": "opaque", "id": names.next()}});
        hub.set(&TestHub::claims(&format!("set-{at}"), SESSION_REVOKED, json!({}), client))
    };
    let first = revoke(0);
    assert_eq!(hub.push(first.clone()).await.0, 202);
    let mut taken = 1;
    let refused = loop {
        match hub.push(revoke(taken)).await {
            (202, _) => taken += 1,
            (status, _) => break status,
        }
    };
    assert_eq!((taken, refused), (48, 503), "three quarters of the 64 entries about clients in one bucket");
    assert_eq!(counted(&hub, |counters| counters.no_room.value()), 1);
    assert_eq!(hub.push(first).await.0, 202, "a repeat needs no room");
    hub.intake.stop("main", "alice", &json!({"client": "agent-a7"}), "incident").await.unwrap();
}

#[tokio::test]
async fn pushes_come_through_a_server() {
    let hub = TestHub::new(|_| {});
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/feeds/main/signals", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, router(hub.intake.clone())).into_future());
    let client = reqwest::Client::new();
    let pushes = (0..200).map(|at| {
        let request = client.post(&url).header("content-type", "application/secevent+jwt");
        request.body(hub.revoke(&format!("set-{at}"), &format!("task-{}", at % 100))).send()
    });
    for answer in futures_util::future::join_all(pushes).await {
        assert_eq!(answer.unwrap().status(), 202);
    }
    assert_eq!(hub.entries().len(), 200, "each signal has entries of its own");
    let large = client.post(&url).header("content-type", "application/secevent+jwt").body(vec![0; MAX_SET + 1]);
    assert_eq!(large.send().await.unwrap().status(), 413);
    server.abort();
}
