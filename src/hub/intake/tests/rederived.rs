//! Entries of stored signals after a change of the configuration, and what statements say meanwhile.

use crate::intake::operator::OperatorEvent;
use crate::intake::testing::{IDP, ISSUER, NOW, TestHub};
use crate::store::{CUT_OFF, PRUNED, RESTORED, RESTORED_AT};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;
use taskfence_core::token::issuer::key_space;

const HOUR: u64 = 3_600;

/// What is added to an entry beside `max_session`: `max_lifetime`, twice `clock_skew`, and the skew of the hub.
const BESIDE: u64 = 15 * 60 + 2 * 30 + 2 * 60;

const TWO: &str = "https://two.example";

fn sessions(span: &'static str) -> impl FnOnce(&mut Value) {
    move |config| config["feeds"][0]["issuers"][0]["max_session"] = json!(span)
}

/// The feed covers another issuer, which the transmitter may speak about too.
fn second_issuer(config: &mut Value) {
    let mut issuer = config["feeds"][0]["issuers"][0].clone();
    issuer["issuer"] = json!(TWO);
    config["feeds"][0]["issuers"].as_array_mut().unwrap().push(issuer);
    config["feeds"][0]["signals"]["transmitters"][0]["subjects"] = json!([ISSUER, TWO]);
}

/// What statements say now: the spans of tokens and sessions of each issuer.
fn covered(hub: &TestHub) -> Vec<(u64, u64)> {
    let now = Timestamp(hub.time.load(Ordering::Relaxed) / 1_000);
    let status = hub.intake.issuer_status("main", now);
    status.iter().map(|issuer| (issuer.covered.token_retention.0, issuer.covered.session_retention.0)).collect()
}

fn until(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.until.0 - NOW).collect()
}

fn later(hub: &TestHub, seconds: u64) {
    hub.time.fetch_add(seconds * 1_000, Ordering::Relaxed);
}

#[tokio::test]
async fn a_longer_span_is_stated_when_the_entries_have_it() {
    let hub = TestHub::new(sessions("1h"));
    assert_eq!(hub.push(hub.revoke("set-1", "task-1")).await.0, 202);
    assert_eq!(hub.push(hub.revoke("set-2", "task-2")).await.0, 202);
    let before = hub.entries();
    let undone = hub.store.signals("main", &Default::default()).unwrap()[0].id;
    hub.lift(undone).await;
    let short = covered(&hub);
    assert_eq!(short[0].1, HOUR + BESIDE - 2 * 60);
    later(&hub, 60);
    let hub = hub.restarted_with(sessions("4h"));
    assert_eq!(covered(&hub), short, "the entries are not there yet");
    assert_eq!(hub.intake.derive_again().await, Ok(2));
    assert_eq!(covered(&hub)[0].1, 4 * HOUR + BESIDE - 2 * 60);
    let entries = hub.entries();
    assert_eq!(until(&entries), [4 * HOUR + BESIDE; 2], "from when they were taken in");
    for (entry, before) in entries.iter().rev().zip(&before) {
        assert_eq!((entry.source.stream(), entry.key, entry.at), (before.source.stream(), before.key, before.at));
        assert!(entry.source.generation() >= before.source.generation());
    }
    assert_eq!(entries.iter().map(|entry| entry.lifted).collect::<Vec<_>>(), [true, false], "undone stays undone");
    let head = hub.store.head("main").unwrap();
    assert_eq!(head.number, 2 + 1 + 2, "new numbers");
    // Once is enough, also for the next hub.
    assert_eq!(hub.intake.derive_again().await, Ok(0));
    let hub = hub.restarted();
    assert_eq!((covered(&hub)[0].1, hub.intake.derive_again().await), (4 * HOUR + BESIDE - 2 * 60, Ok(0)));
    // A shorter span changes no entry; after it, a longer one has to be derived again.
    let hub = hub.restarted_with(sessions("1h"));
    assert_eq!((covered(&hub), hub.intake.derive_again().await), (short.clone(), Ok(0)));
    let hub = hub.restarted_with(sessions("4h"));
    assert_eq!(covered(&hub), short);
    assert_eq!(hub.store.head("main"), Ok(head));
}

#[tokio::test]
async fn an_ended_hub_leaves_no_longer_span_behind() {
    let hub = TestHub::new(sessions("4h"));
    assert_eq!(hub.push(hub.revoke("set-1", "task-1")).await.0, 202);
    // It takes a signal in for the shorter span, and ends before it has looked at the others.
    let hub = hub.restarted_with(sessions("1h"));
    assert_eq!(hub.push(hub.revoke("set-2", "task-2")).await.0, 202);
    let hub = hub.restarted_with(sessions("4h"));
    assert_eq!(covered(&hub)[0].1, HOUR + BESIDE - 2 * 60);
    assert_eq!(hub.intake.derive_again().await, Ok(1));
    assert_eq!(until(&hub.entries()), [4 * HOUR + BESIDE; 2]);
}

#[tokio::test]
async fn a_signal_whose_entries_have_ended_counts_for_the_longer_span() {
    let hub = TestHub::new(sessions("1h"));
    assert_eq!(hub.push(hub.revoke("set-1", "task-1")).await.0, 202);
    assert_eq!(hub.push(hub.revoke("set-2", "task-2")).await.0, 202);
    later(&hub, 2 * HOUR);
    assert_eq!(hub.store.prune(Timestamp(NOW + 2 * HOUR)), Ok(2));
    assert_eq!(hub.entries(), []);
    let hub = hub.restarted_with(sessions("4h"));
    assert_eq!(hub.intake.derive_again().await, Ok(2));
    assert_eq!(until(&hub.entries()), [4 * HOUR + BESIDE; 2]);
    assert_eq!(covered(&hub)[0].1, 4 * HOUR + BESIDE - 2 * 60);
}

#[tokio::test]
async fn a_span_beyond_what_is_kept_grows_with_the_time() {
    let hub = TestHub::new(|config| {
        sessions("1h")(config);
        config["keep_signals"] = json!("2h");
    });
    for jti in ["set-1", "set-2"] {
        assert_eq!(hub.push(hub.revoke(jti, "task-1")).await.0, 202);
    }
    later(&hub, 3 * HOUR);
    hub.store.prune(Timestamp(NOW + 3 * HOUR)).unwrap();
    assert_eq!(hub.store.get(PRUNED), Ok(Some((NOW * 1_000).to_string())));
    let hub = hub.restarted_with(sessions("10h"));
    hub.intake.derive_again().await.unwrap();
    // Signals of the last three hours are all there.
    assert_eq!(covered(&hub)[0].1, 3 * HOUR);
    later(&hub, HOUR);
    assert_eq!(covered(&hub)[0].1, 4 * HOUR);
    let hub = hub.restarted();
    later(&hub, 10 * HOUR);
    assert_eq!(covered(&hub)[0].1, 10 * HOUR + BESIDE - 2 * 60);
}

#[tokio::test]
async fn a_new_issuer_gets_what_was_said_before_it_came() {
    let hub = TestHub::new(|_| {});
    let subject = json!({"format": "complex", "task": {"format": "opaque", "id": "task-1"}});
    let said = OperatorEvent { event: "session-revoked".to_owned(), subject, ..OperatorEvent::default() };
    hub.intake.operator_event("main", "alice", said).await.unwrap();
    assert_eq!(hub.push(hub.revoke("set-1", "task-2")).await.0, 202);
    let hub = hub.restarted_with(second_issuer);
    let [first, second] = covered(&hub).try_into().unwrap();
    assert!(first.1 > 24 * HOUR, "it is covered as before");
    assert_eq!(second, (0, 0), "proxies take its entries, and do not rely on them");
    assert_eq!(hub.intake.derive_again().await, Ok(2));
    assert_eq!(covered(&hub), [first, first]);
    let space = &*key_space(Some("main"), TWO);
    let of_two: Vec<_> =
        hub.entries().into_iter().filter(|entry| entry.key.issuer() == StateKey::of_issuer(space).issuer()).collect();
    let tasks = ["task-2", "task-1"].map(|name| (StateKey::new(Kind::Task, space, name), Fact::Revoked));
    assert_eq!(of_two.iter().map(|entry| (entry.key, entry.fact)).collect::<Vec<_>>(), tasks);
    let streams: Vec<_> = of_two.iter().map(|entry| entry.source.stream()).collect();
    assert_eq!(streams, [IDP, "operator/alice"].map(|stream| SourceTag::new("main", stream, 0).stream()));
}

#[tokio::test]
async fn another_claim_makes_other_members_count() {
    let hub = TestHub::new(|_| {});
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let subject = json!({"format": "complex", "user": opaque("u"), "group": opaque("g")});
    let disabled = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
    let set = hub.set(&TestHub::claims("set-1", disabled, json!({"event_timestamp": NOW - 5}), subject));
    assert_eq!(hub.push(set).await.0, 202);
    let before = hub.entries();
    let hub = hub.restarted_with(|config| config["feeds"][0]["issuers"][0]["claims"]["group"] = json!("groups"));
    assert_eq!(covered(&hub), [(0, 0)], "filters with the other claims must not rely on it yet");
    assert_eq!(hub.intake.derive_again().await, Ok(1));
    let entries = hub.entries();
    assert!(entries.len() > before.len() && before.iter().all(|entry| entries.contains(entry)));
    let group = StateKey::foreign(Kind::Group, &key_space(Some("main"), ISSUER), ISSUER, "g");
    assert!(entries.iter().any(|entry| entry.conditions.contains(&group)));
}

#[tokio::test]
async fn what_is_not_understood_any_more_stays() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(hub.revoke("set-1", "task-1")).await.0, 202);
    let before = hub.entries();
    let hub = hub.restarted_with(|config| {
        config["feeds"][0]["issuers"][0]["max_session"] = json!("90h");
        config["feeds"][0]["signals"]["transmitters"][0]["issuer"] = json!("https://other.example");
    });
    assert_eq!((hub.intake.derive_again().await, hub.entries()), (Ok(0), before));
}

#[tokio::test]
async fn a_cut_off_is_made_once_for_each_issuer_and_can_be_undone() {
    let hub = TestHub::new(second_issuer);
    assert_eq!(hub.intake.cut_off_as_ordered().await, Ok(None));
    hub.store.set(RESTORED, "7").unwrap();
    hub.store.set(RESTORED_AT, &((NOW - 9) * 1_000).to_string()).unwrap();
    hub.store.set(CUT_OFF, "alice").unwrap();
    assert_eq!(hub.intake.cut_off_as_ordered().await, Ok(Some(2)));
    assert_eq!((hub.store.get(RESTORED), hub.store.get(CUT_OFF)), (Ok(Some(String::new())), Ok(Some(String::new()))));
    let of = |issuer| StateKey::of_issuer(&key_space(Some("main"), issuer));
    let entries = hub.entries();
    let made: Vec<_> = entries.iter().map(|entry| (entry.key, entry.fact, entry.at)).collect();
    assert_eq!(made, [ISSUER, TWO].map(|issuer| (of(issuer), Fact::CutOff, Timestamp(NOW - 9))));
    assert_eq!(until(&entries), [24 * HOUR + BESIDE - 9; 2]);
    // If the hub ends before it has noted that it is done, it does nothing twice.
    hub.store.set(RESTORED, "7").unwrap();
    hub.store.set(CUT_OFF, "alice").unwrap();
    assert_eq!(hub.intake.cut_off_as_ordered().await, Ok(Some(2)));
    assert_eq!(hub.entries().len(), 2);
    let signals = hub.store.signals("main", &Default::default()).unwrap();
    assert!(signals.iter().all(|record| record.signal.by == "alice" && record.signal.event == "cut-off"));
    hub.lift(signals[0].id).await;
    assert_eq!(hub.entries().iter().map(|entry| entry.lifted).collect::<Vec<_>>(), [false, true]);
    // A longer span reaches them too.
    let hub = hub.restarted_with(sessions("90h"));
    assert_eq!(hub.intake.derive_again().await, Ok(1));
    assert_eq!(until(&hub.entries()), [24 * HOUR + BESIDE - 9, 90 * HOUR + BESIDE - 9]);
}
