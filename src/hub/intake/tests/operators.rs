//! What operators say.

use crate::intake::operator::{OperatorError, OperatorEvent, STOP};
use crate::intake::testing::{ISSUER, NOW, TestHub};
use serde_json::{Map, Value, json};
use taskfence_core::signal::operator::Caller;
use taskfence_core::state::bucket::SourceTag;
use taskfence_core::state::fact::{Compliance, Fact};
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;
use taskfence_core::token::issuer::key_space;

fn event(name: &str, subject: Value) -> OperatorEvent {
    let reason = "the laptop was stolen".to_owned();
    OperatorEvent { event: name.to_owned(), subject, reason, ..OperatorEvent::default() }
}

fn details(details: Value) -> Map<String, Value> {
    details.as_object().unwrap().clone()
}

#[tokio::test]
async fn an_event_has_the_meaning_that_it_has_in_a_set() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(hub.revoke("set-1", "task-1")).await.0, 202);
    let said = event("session-revoked", json!({"task": "task-1"}));
    let made = hub.intake.operator_event("main", "alice", said).await.unwrap();
    assert_eq!((made.entries, made.repeated, made.revision.number), (1, false, 2));
    let [by_set, by_alice] = hub.entries().try_into().unwrap();
    assert_eq!((by_set.key, by_set.fact), (by_alice.key, by_alice.fact));
    assert_eq!(by_alice.source, SourceTag::new("main", "operator/alice", u32::try_from(NOW).unwrap()));
    assert_eq!(by_alice.at, Timestamp(NOW));
    let record = hub.store.signals("main", &Default::default()).unwrap().remove(0).signal;
    assert_eq!((record.transmitter.as_str(), record.by.as_str()), ("operator/alice", "alice"));
    assert_eq!(record.reason, "the laptop was stolen");
    assert_eq!(hub.intake.issuer_status("main", Timestamp(NOW))[0].heard, Timestamp(NOW), "of the SET alone");
}

#[tokio::test]
async fn details_are_the_members_of_the_event() {
    let hub = TestHub::new(|_| {});
    let narrowed = event("grant-narrowed", json!({"user": "u", "issuer": ISSUER}));
    let narrowed = OperatorEvent { details: details(json!({"scope": "orders.read"})), ..narrowed };
    hub.intake.operator_event("main", "alice", narrowed).await.unwrap();
    let good = event("device-compliance-change", json!({"device": "d"}));
    let good = OperatorEvent { details: details(json!({"current_status": "compliant"})), ..good };
    hub.intake.operator_event("main", "alice", good).await.unwrap();
    let facts: Vec<_> = hub.entries().iter().map(|entry| entry.fact).collect();
    assert_eq!(facts, [Fact::Narrowed, Fact::Device(Compliance::Compliant)]);
}

#[tokio::test]
async fn the_same_id_again_changes_nothing() {
    let hub = TestHub::new(|_| {});
    let said = |task: &str| OperatorEvent {
        id: Some("incident-7".to_owned()),
        ..event("task-completed", json!({"task": task}))
    };
    let first = hub.intake.operator_event("main", "alice", said("t")).await.unwrap();
    hub.time.fetch_add(5_000, std::sync::atomic::Ordering::Relaxed);
    let again = hub.intake.operator_event("main", "alice", said("t")).await.unwrap();
    assert_eq!((again.signal, again.repeated), (first.signal, true));
    let other = hub.intake.operator_event("main", "alice", said("u")).await;
    assert_eq!(other, Err(OperatorError::Contradicts(first.signal)));
    assert_eq!(hub.entries().len(), 1);
}

#[tokio::test]
async fn a_stop_blocks_one_thing_for_ever() {
    let hub = TestHub::new(|_| {});
    let space = &*key_space(Some("main"), ISSUER);
    let stops = [
        (json!({"issuer": ISSUER}), StateKey::of_issuer(space)),
        (json!({"issuer": ISSUER, "client": "agent-a7"}), StateKey::new(Kind::Client, space, "agent-a7")),
        (json!({"task": "t"}), StateKey::new(Kind::Task, space, "t")),
        (json!({"token": "t"}), StateKey::new(Kind::Token, space, "t")),
        (json!({"session": "s"}), StateKey::new(Kind::Session, space, "s")),
        (json!({"user": "u"}), StateKey::new(Kind::User, space, "u")),
        (json!({"device": "d"}), StateKey::foreign(Kind::Device, space, ISSUER, "d")),
        (json!({"tenant": "n"}), StateKey::foreign(Kind::Tenant, space, ISSUER, "n")),
    ];
    for (at, (what, key)) in stops.into_iter().enumerate() {
        hub.intake.stop("main", "alice", &what, "incident").await.unwrap();
        let entry = hub.entries().remove(at);
        assert_eq!((entry.key, entry.fact, entry.until), (key, Fact::Blocked, Timestamp::MAX), "{what}");
        assert_eq!(entry.source, SourceTag::new("main", "operator/alice", u32::try_from(NOW).unwrap()));
    }
    let record = hub.store.signals("main", &Default::default()).unwrap().remove(0).signal;
    assert_eq!((record.event.as_str(), record.subject.as_str()), (STOP, r#"{"tenant":"n"}"#));
}

/// Several entries may be about one issuer, and not each has every claim.
#[tokio::test]
async fn a_stop_needs_one_entry_of_the_issuer_that_has_the_name() {
    let hub = TestHub::new(|config| {
        let issuers = config["feeds"][0]["issuers"].as_array_mut().unwrap();
        let mut other = issuers[0].clone();
        (other["types"], other["claims"]) = (json!(["JWT"]), json!({"session": "none", "client": "none"}));
        issuers.insert(0, other);
    });
    for (at, member) in ["session", "client", "task"].into_iter().enumerate() {
        let made = hub.intake.stop("main", "alice", &json!({ member: "x" }), "incident").await.unwrap();
        assert_eq!(made.entries, 1, "{member}");
        assert_eq!(hub.entries().len(), at + 1);
    }
}

#[tokio::test]
async fn a_cut_off_is_dated_no_earlier_than_what_is_stored() {
    let hub = TestHub::new(|_| {});
    hub.time.store((NOW + 500) * 1_000, std::sync::atomic::Ordering::Relaxed);
    let user = json!({"format": "complex", "user": {"format": "opaque", "id": "u"}});
    let disabled = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
    let set = hub.set(&TestHub::claims("set-1", disabled, json!({"event_timestamp": NOW + 500}), user));
    assert_eq!(hub.push(set).await.0, 202);
    let earlier = details(json!({"event_timestamp": NOW}));
    let said = OperatorEvent { details: earlier, ..event("sessions-revoked", json!({"user": "u"})) };
    hub.intake.operator_event("main", "alice", said).await.unwrap();
    let [stored, cut_off] = hub.entries().try_into().unwrap();
    assert_eq!((cut_off.fact, cut_off.at), (Fact::CutOff, Timestamp(NOW + 500)));
    assert!(cut_off.until >= stored.until);
}

#[tokio::test]
async fn what_cannot_be_used_has_a_remedy() {
    let hub = TestHub::new(|_| {});
    let said = async |name: &str, subject: Value| {
        hub.intake.operator_event("main", "alice", event(name, subject)).await.unwrap_err().to_string()
    };
    assert_eq!(
        said("sesion-revoked", json!({"task": "t"})).await,
        "unknown event `sesion-revoked` (did you mean `session-revoked`?)"
    );
    assert!(said("verification", json!({"task": "t"})).await.starts_with("unknown event `verification`"));
    assert_eq!(
        said("session-revoked", json!({"issuer": ISSUER})).await,
        "the subject names only an issuer (name a `task`, `user`, `client` or the like; `stop` refuses everything of an issuer)"
    );
    assert_eq!(
        said("session-revoked", json!({"group": "g", "user": "u"})).await,
        "no grant can be compared with `group` (leave it out, and more grants are affected)"
    );
    assert_eq!(
        said("account-enabled", json!({"user": "u"})).await,
        "the event has no effect on any grant (see the table of events for what each does)"
    );
    assert!(said("risk-level-change", json!({"user": "u"})).await.starts_with("current_level is not one of"));
    let nowhere = hub.intake.operator_event("nowhere", "alice", event("session-revoked", json!({"task": "t"}))).await;
    assert_eq!(nowhere, Err(OperatorError::UnknownFeed("nowhere".to_owned())));
    let two = hub.intake.stop("main", "alice", &json!({"user": "u", "client": "c"}), "").await.unwrap_err();
    assert!(two.to_string().starts_with("what to stop is not one thing"), "{two}");
    assert_eq!(hub.entries(), []);
}

fn by_issuer(event: OperatorEvent) -> OperatorEvent {
    OperatorEvent { issuer: Some(ISSUER.to_owned()), caller: Caller::Issuer, ..event }
}

#[tokio::test]
async fn nobody_takes_the_id_of_another_caller() {
    let hub = TestHub::new(|_| {});
    let said = |task: &str| OperatorEvent {
        id: Some("incident-7".to_owned()),
        ..event("task-completed", json!({"task": task}))
    };
    let by = async |name: &str, event: OperatorEvent| {
        hub.intake.operator_event("main", name, event).await.map(|made| (made.signal, made.repeated))
    };
    let first = by(ISSUER, by_issuer(said("a"))).await.unwrap();
    // Also where an operator has the name of the issuer.
    for (name, task) in [("alice", "b"), ("bob", "c"), (ISSUER, "d")] {
        let (signal, repeated) = by(name, said(task)).await.unwrap();
        assert!(signal != first.0 && !repeated, "{name}");
    }
    assert_eq!(by(ISSUER, by_issuer(said("a"))).await, Ok((first.0, true)));
    assert_eq!(hub.entries().len(), 4);
}

#[tokio::test]
async fn an_issuer_cannot_use_up_the_room_to_stop_it() {
    let hub = TestHub::new(|_| {});
    let space = key_space(Some("main"), ISSUER);
    let bucket = StateKey::of_issuer(&space).bucket();
    let names = (0..).map(|n| format!("client-{n}"));
    let names = names.filter(|name| StateKey::new(Kind::Client, &space, name).bucket() == bucket);
    let (mut taken, mut refused) = (0, 0);
    for name in names.take(60) {
        let ends = by_issuer(event("session-revoked", json!({"client": name})));
        match hub.intake.operator_event("main", ISSUER, ends).await {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert_eq!((taken, refused), (48, 12), "three quarters of 64");
    let stopped = hub.intake.stop("main", "alice", &json!({"issuer": ISSUER}), "it is compromised").await;
    assert!(stopped.is_ok(), "{stopped:?}");
}
