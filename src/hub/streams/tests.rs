//! What the unit tests of the streams share, and the streams of a hub that runs.

use crate::config::role::Role;
use crate::server;
use crate::store::PRUNED;
use crate::store::model::{NewSignal, SignalRecord};
use crate::streams::outgoing::{Outgoing, Sender, VIA};
use crate::streams::record::{Delivery, Status, StreamRecord};
use crate::streams::service::GAP;
use crate::testing::{self, Running};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use taskfence_core::time::Timestamp;

/// A new stream that is polled.
pub fn record(feed: &str, id: &str) -> StreamRecord {
    StreamRecord {
        id: id.to_owned(),
        feed: feed.to_owned(),
        principal: "orders".to_owned(),
        delivery: Delivery::Poll,
        events_requested: None,
        description: None,
        status: Status::Enabled,
        reason: None,
        after: 0,
        complete_until: 0,
        acknowledged: BTreeSet::new(),
        removed_subjects: Vec::new(),
        about_stream: Vec::new(),
        seen: 0,
        verified: 0,
    }
}

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type";
const OWN: &str = "urn:taskfence:secevent";
const ISSUER: &str = "https://hub.example/feeds/main";

fn signal(transmitter: &str, event: &str, claims: &Value) -> SignalRecord {
    let signal = NewSignal {
        feed: "main".to_owned(),
        transmitter: transmitter.to_owned(),
        jti: "1".to_owned(),
        fingerprint: Vec::new(),
        event: event.to_owned(),
        subject: String::new(),
        claims: claims.to_string(),
        by: "ops".to_owned(),
        reason: String::new(),
        at: Timestamp(7),
        taken_in: 9_000,
        entries: Vec::new(),
    };
    SignalRecord { id: 3, signal, number: 3, lifted: None }
}

fn said(event: &str, subject: Value, payload: Value) -> Value {
    json!({"iss": "operator", "jti": "1", "iat": 7, "sub_id": subject, "events": {event: payload}, "issuer": "https://jit.example"})
}

fn sent(stream: &StreamRecord, record: &SignalRecord, relay_from: &[String]) -> Option<Outgoing> {
    Sender { issuer: ISSUER, relay_from }.outgoing(stream, record)
}

fn opaque(id: &str) -> Value {
    json!({"format": "opaque", "id": id})
}

#[test]
fn an_event_of_our_own_becomes_one_of_caep_for_who_knows_no_other() {
    let task = json!({"format": "complex", "task": opaque("t"), "token": opaque("j")});
    let completed = format!("{OWN}:task-completed");
    let ended =
        signal("issuer/https://jit.example", &completed, &said(&completed, task, json!({"outcome": "success"})));
    let narrowed = format!("{OWN}:grant-narrowed");
    let change = said(&narrowed, opaque("s"), json!({"scope": "orders.read", "event_timestamp": 7}));
    let narrow = signal("operator/ops", &narrowed, &change);
    let mut stream = record("main", "one");
    let events = |stream: &StreamRecord, record| sent(stream, record, &[]).map(|set| set.claims["events"].clone());
    assert_eq!(events(&stream, &ended).unwrap()[&completed]["outcome"], "success", "all events: the most exact one");
    stream.events_requested = Some(vec![format!("{CAEP}/session-revoked")]);
    let reason = json!({"en": "ended at the hub"});
    let expected = json!({format!("{CAEP}/session-revoked"): {"reason_admin": reason}});
    assert_eq!(events(&stream, &ended), Some(expected));
    assert_eq!(events(&stream, &narrow), None, "it says nothing about a session");
    stream.events_requested = Some(vec![format!("{CAEP}/token-claims-change")]);
    let change = &events(&stream, &narrow).unwrap()[format!("{CAEP}/token-claims-change")];
    assert_eq!((&change["claims"], &change["initiating_entity"]), (&json!({"scope": "orders.read"}), &json!("admin")));
    let set = sent(&record("main", "one"), &ended, &[]).unwrap();
    let token = json!({"format": "jwt_id", "iss": "https://jit.example", "jti": "j"});
    assert_eq!(set.claims["sub_id"], json!({"format": "complex", "task": opaque("t"), "token": token}));
    assert_eq!((&set.claims["iss"], &set.claims["iat"]), (&json!(ISSUER), &json!(9)));
    assert_eq!(set.claims["aud"], format!("{ISSUER}/receivers/orders"));
}

#[test]
fn a_jti_is_that_of_one_signal_and_one_stream() {
    let event = format!("{CAEP}/session-revoked");
    let of = |stream: &StreamRecord, record: &SignalRecord| sent(stream, record, &[]).unwrap().jti;
    let first = signal("operator/ops", &event, &said(&event, opaque("s"), json!({})));
    let one = record("main", "one");
    // After a restore a signal may have another id.
    assert_eq!(of(&one, &first), of(&one, &SignalRecord { id: 99, ..first.clone() }));
    assert_ne!(of(&one, &first), of(&record("main", "two"), &first));
    let mut later = first.clone();
    later.signal.taken_in += 1;
    assert_ne!(of(&one, &first), of(&one, &later));
}

#[test]
fn signals_of_transmitters_are_sent_on_by_name_and_never_in_a_circle() {
    let event = format!("{CAEP}/session-revoked");
    let from = |iss: &str, more: Value| {
        let mut claims =
            json!({"iss": iss, "jti": "1", "iat": 7, "txn": "root", "events": {&event: {"subject": opaque("s")}}});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signal("https://idp.example", &event, &claims)
    };
    let (stream, relay) = (record("main", "one"), vec!["https://idp.example".to_owned()]);
    let first = from("https://idp.example", json!({}));
    assert_eq!(sent(&stream, &first, &[]), None);
    let set = sent(&stream, &first, &relay).unwrap();
    assert_eq!((&set.claims["txn"], &set.claims[VIA]), (&json!("root"), &json!(["https://idp.example"])));
    assert_eq!((&set.claims["sub_id"], &set.claims["events"]), (&opaque("s"), &json!({&event: {}})));
    assert_eq!(sent(&stream, &from("https://idp.example", json!({VIA: [ISSUER]})), &relay), None);
    assert_eq!(sent(&stream, &from(ISSUER, json!({})), &relay), None);
    // What the same provider said by a logout token or a revocation.
    for (from, is_sent) in [
        ("logout/https://idp.example", true),
        ("global-token-revocation/https://idp.example", true),
        ("logout/https://other.example", false),
        ("logout/logout/https://idp.example", false),
    ] {
        let mut told = first.clone();
        told.signal.transmitter = from.to_owned();
        assert_eq!(sent(&stream, &told, &relay).is_some(), is_sent, "{from}");
        assert_eq!(sent(&stream, &told, &[]), None, "{from}");
    }
}

#[test]
fn what_has_no_standard_event_or_was_undone_is_not_sent() {
    let stream = record("main", "one");
    let stop = |what: Value| {
        signal("operator/ops", "stop", &json!({"jti": "1", "issuer": "https://jit.example", "stop": what}))
    };
    assert_eq!(sent(&stream, &stop(json!({"issuer": "https://jit.example"})), &[]), None);
    let user = sent(&stream, &stop(json!({"issuer": "https://jit.example", "user": "u"})), &[]).unwrap();
    let alice = json!({"format": "iss_sub", "iss": "https://jit.example", "sub": "u"});
    assert_eq!(user.claims["sub_id"], json!({"format": "complex", "user": alice}));
    assert_eq!(user.claims["events"][format!("{CAEP}/session-revoked")]["event_timestamp"], 7);
    let cut_off = signal("operator", "cut-off", &json!({"jti": "1", "issuer": "x", "cut_off": {}}));
    assert_eq!(sent(&stream, &cut_off, &[]), None);
    let event = format!("{CAEP}/session-revoked");
    let mut undone = signal("operator/ops", &event, &said(&event, opaque("s"), json!({})));
    undone.lifted = Some(("ops".to_owned(), "a mistake".to_owned(), 8));
    assert_eq!(sent(&stream, &undone, &[]), None);
}

#[test]
fn what_cannot_happen_without_a_transmitter_is_not_said_to_be_supported() {
    let own = Sender { issuer: ISSUER, relay_from: &[] }.events_supported();
    let relay = ["https://idp.example".to_owned()];
    let all = Sender { issuer: ISSUER, relay_from: &relay }.events_supported();
    let more: Vec<_> = all.iter().filter(|uri| !own.contains(uri)).map(|uri| uri.rsplit('/').next().unwrap()).collect();
    assert_eq!(more, ["session-presented", "account-enabled"]);
    assert!(!all.iter().any(|uri| uri.ends_with("/verification") || uri.ends_with("/stream-updated")));
}

/// The configuration of a hub that is a transmitter.
fn config(folder: &std::path::Path) -> Value {
    let mut config = testing::config(folder);
    config["streams"] = json!({"issuer": "https://hub.example", "allow": ["127.0.0.0/8"]});
    config
}

#[tokio::test]
async fn a_stream_that_may_have_missed_something_is_paused_until_its_receiver_says_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let hub = Running::start_with(config.clone(), folder).await;
    let receiver = hub.token("orders", Role::Receiver, &["main"]).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let (status, stream) = hub.call("POST", "/feeds/main/ssf/streams", Some(&receiver), Some(json!({}))).await;
    assert_eq!(status, 201, "{stream}");
    let id = stream["stream_id"].as_str().unwrap();
    let poll = format!("/feeds/main/ssf/poll/{id}");
    let report = async |task: &str| {
        let event = json!({"event": "task-completed", "subject": {"task": task}, "issuer": "https://jit.example"});
        let (status, taken) = hub.call("POST", "/v1/feeds/main/events", Some(&ops), Some(event)).await;
        assert_eq!(status, 200, "{taken}");
    };
    let at_once = json!({"returnImmediately": true});
    report("one").await;
    let compiled = crate::config::compile::compile(config.to_string().as_bytes()).unwrap();
    let store = server::open_store(&compiled).unwrap();
    // The store has removed what was taken in up to now.
    let later = store.latest_time().unwrap() + 60_000;
    store.set(PRUNED, &later.to_string()).unwrap();
    let (status, answer) = hub.call("POST", &poll, Some(&receiver), Some(at_once.clone())).await;
    assert_eq!(
        (status, answer["sets"].as_object().map(serde_json::Map::len)),
        (200, Some(1)),
        "only that it is paused"
    );
    let (_, all) = hub.call("GET", "/v1/feeds/main/streams", Some(&ops), None).await;
    let shown = (&all[0]["status"], &all[0]["reason"], &all[0]["waiting"], &all[0]["principal"]);
    assert_eq!(shown, (&json!("paused"), &json!(GAP), &json!(1), &json!("orders")));
    let enabled = json!({"stream_id": id, "status": "enabled"});
    // The clock of the test is behind what was removed.
    store.set(PRUNED, "1").unwrap();
    assert_eq!(hub.call("POST", "/feeds/main/ssf/status", Some(&receiver), Some(enabled)).await.0, 200);
    let (_, answer) = hub.call("POST", &poll, Some(&receiver), Some(at_once)).await;
    let sets = answer["sets"].as_object().unwrap();
    assert_eq!(sets.len(), 1, "what is left is delivered: {answer}");
    let text = hub.send("GET", "/metrics", Some(&ops), None).await.text().await.unwrap();
    let sample = format!("taskfence_hub_stream_waiting{{feed=\"main\",stream=\"{id}\"}} 1");
    assert!(text.contains(&sample) && text.contains("taskfence_hub_stream_pauses_total{feed=\"main\"} 1"), "{text}");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hub.md")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names.filter(|name| name.contains("_stream_")) {
        assert!(page.contains(&format!("| `{name}`")), "docs/hub.md lacks {name}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_feed_has_receivers_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Running::start_with(config(folder.path()), folder).await;
    let receiver = hub.token("orders", Role::Receiver, &["other"]).await;
    for (feed, status) in [("main", 403), ("other", 201), ("nothing", 403)] {
        let path = format!("/feeds/{feed}/ssf/streams");
        assert_eq!(hub.call("POST", &path, Some(&receiver), Some(json!({}))).await.0, status, "{feed}");
    }
    for path in ["/v1/feeds/other/streams", "/v1/feeds/other/signals", "/v1/feeds", "/metrics"] {
        assert_eq!(hub.call("GET", path, Some(&receiver), None).await.0, 403, "{path}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn what_a_receiver_changes_is_in_the_audit_log_and_what_it_asks_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Running::start_with(config(folder.path()), folder).await;
    let receiver = hub.token("orders", Role::Receiver, &["main"]).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let call = async |method: &str, path: &str, body: Value| {
        hub.call(method, &format!("/feeds/main/ssf/{path}"), Some(&receiver), Some(body)).await
    };
    let delivery = json!({"method": "urn:ietf:rfc:8935", "endpoint_url": "http://127.0.0.1:9/sets?key=secret",
        "authorization_header": "Bearer secret"});
    let (_, stream) = call("POST", "streams", json!({"delivery": delivery, "description": "orders"})).await;
    let id = stream["stream_id"].as_str().unwrap();
    let polled = json!({"stream_id": id, "delivery": {"method": "urn:ietf:rfc:8936"}});
    assert_eq!(call("PATCH", "streams", polled).await.0, 200);
    // Nothing of this changes a stream.
    let errors: serde_json::Map<_, _> = (0..500).map(|n| (n.to_string(), json!({"err": "invalid_key"}))).collect();
    assert_eq!(call("POST", &format!("poll/{id}"), json!({"maxEvents": 0, "setErrs": errors})).await.0, 200);
    assert_eq!(call("POST", "verify", json!({"stream_id": id})).await.0, 204);
    assert_eq!(call("POST", "streams", json!({"events_requested": ["urn:none"]})).await.0, 400);
    assert_eq!(call("POST", "status", json!({"stream_id": id, "status": "paused"})).await.0, 200);
    let subject = json!({"stream_id": id, "subject": opaque("s")});
    assert_eq!(call("POST", "subjects/remove", subject).await.0, 204);
    assert_eq!(call("DELETE", &format!("streams?stream_id={id}"), Value::Null).await.0, 204);
    let (_, audit) = hub.call("GET", "/v1/audit", Some(&ops), None).await;
    let lines = audit.as_array().unwrap().iter().filter(|line| line["by"] == "orders").rev();
    let lines: Vec<_> = lines.map(|line| (line["call"].as_str().unwrap(), &line["detail"])).collect();
    let all: Vec<_> = lines.iter().map(|(call, _)| *call).collect();
    let of = |method: &str, path: &str| format!("{method} /feeds/main/ssf/{path}");
    let expected = [
        ("POST", "streams"),
        ("PATCH", "streams"),
        ("POST", "status"),
        ("POST", "subjects/remove"),
        ("DELETE", "streams"),
    ];
    assert_eq!(all, expected.map(|(method, path)| of(method, path)), "{audit}");
    assert!(lines.iter().all(|(_, detail)| detail["stream_id"] == id), "{audit}");
    assert_eq!(lines[0].1["endpoint"], "http://127.0.0.1:9/sets");
    assert!(!audit.to_string().contains("secret"), "{audit}");
    let text = hub.send("GET", "/metrics", Some(&ops), None).await.text().await.unwrap();
    let sample = "taskfence_hub_stream_sets_total{feed=\"main\",outcome=\"refused\"} 0";
    assert!(text.contains(sample), "SETs that were never sent are not counted, and not logged:\n{text}");
    hub.stop().await;
}
