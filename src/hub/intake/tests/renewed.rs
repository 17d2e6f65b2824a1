//! Words about devices and risks, while time passes.

use crate::intake::testing::{ISSUER, NOW, TestHub};
use crate::intake::upkeep::Surroundings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::state::bucket::{Table, about};
use taskfence_core::state::fact::{Compliance, Fact, Risk};
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;
use taskfence_core::token::issuer::key_space;

const DAY: u64 = 24 * 60 * 60;

const DEVICE: &str = "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";
const RISK: &str = "https://schemas.openid.net/secevent/caep/event-type/risk-level-change";

/// A proxy that follows the feed, as far as it is about one key.
struct Proxy {
    key: StateKey,
    after: u64,
    table: Table,
}

impl Proxy {
    fn new(key: StateKey) -> Proxy {
        Proxy { key, after: 0, table: Table::default() }
    }

    /// The same, without what was undone.
    fn standing(&mut self, hub: &TestHub) -> Vec<Fact> {
        self.facts(hub);
        let about = about(&self.table.encode(), self.key).unwrap();
        about.entries.iter().filter(|entry| !entry.lifted).map(|entry| entry.fact).collect()
    }

    /// What it knows about its key, once it has applied what the feed has now.
    fn facts(&mut self, hub: &TestHub) -> Vec<Fact> {
        let now = now(hub);
        let (entries, upto) = hub.store.entries_after("main", self.after, 1 << 20, now).unwrap();
        self.after = upto.number;
        let read = entries.iter().map(|stored| match decode(&stored.entry.bytes).next() {
            Some(Ok(Decoded::Known(read))) => (read.by, read.entry),
            other => panic!("{other:?}"),
        });
        let of_key: Vec<_> = read.filter(|(_, entry)| entry.key == self.key).collect();
        assert!(self.table.insert_all(of_key, now), "there is room");
        about(&self.table.encode(), self.key).unwrap().entries.iter().map(|entry| entry.fact).collect()
    }
}

fn now(hub: &TestHub) -> Timestamp {
    Timestamp(hub.time.load(Ordering::Relaxed) / 1_000)
}

fn device(name: &str) -> StateKey {
    StateKey::foreign(Kind::Device, &key_space(Some("main"), ISSUER), ISSUER, name)
}

/// A SET about a device; its time is that of the hub.
fn said(hub: &TestHub, jti: &str, status: &str) -> String {
    let other = if status == "compliant" { "not-compliant" } else { "compliant" };
    let subject = json!({"format": "complex", "device": {"format": "opaque", "id": "laptop"}});
    let payload = json!({"current_status": status, "previous_status": other, "event_timestamp": now(hub).0});
    set(hub, jti, DEVICE, payload, subject)
}

fn set(hub: &TestHub, jti: &str, event: &str, payload: Value, subject: Value) -> String {
    let mut claims = TestHub::claims(jti, event, payload, subject);
    claims["iat"] = json!(now(hub).0);
    hub.set(&claims)
}

/// A day passes, with what a hub does in it.
async fn day(hub: &TestHub) -> usize {
    hub.time.fetch_add(DAY * 1_000, Ordering::Relaxed);
    let renewed = hub.intake.renew_words(now(hub)).await.unwrap();
    hub.store.prune(now(hub)).unwrap();
    renewed
}

#[tokio::test]
async fn a_device_stays_not_compliant_for_as_long_as_nobody_says_otherwise() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(said(&hub, "set-1", "not-compliant")).await.0, 202);
    let high = json!({"current_level": "HIGH", "principal": "USER", "event_timestamp": NOW});
    let user = json!({"format": "complex", "user": {"format": "opaque", "id": "u"}});
    assert_eq!(hub.push(set(&hub, "set-2", RISK, high, user)).await.0, 202);
    let of_user = StateKey::new(Kind::User, &key_space(Some("main"), ISSUER), "u");
    let (mut laptop, mut person) = (Proxy::new(device("laptop")), Proxy::new(of_user));
    let mut renewed = 0;
    for passed in 1..=60 {
        renewed += day(&hub).await;
        for fresh in [false, true] {
            let (mut new_laptop, mut new_person) = (Proxy::new(device("laptop")), Proxy::new(of_user));
            let (laptop, person) = if fresh { (&mut new_laptop, &mut new_person) } else { (&mut laptop, &mut person) };
            let facts = (laptop.facts(&hub), person.facts(&hub));
            let expected = (vec![Fact::Device(Compliance::NotCompliant)], vec![Fact::Risk(Risk::High)]);
            assert_eq!(facts, expected, "day {passed}, fresh: {fresh}");
        }
    }
    assert_eq!(renewed, 2 * 3, "once in half of 30 days");
    // Another word counts, and the old one is not renewed any more.
    assert_eq!(hub.push(said(&hub, "set-3", "compliant")).await.0, 202);
    for _ in 0..60 {
        day(&hub).await;
        assert_eq!(laptop.facts(&hub), [Fact::Device(Compliance::Compliant)]);
    }
    assert_eq!(Proxy::new(device("laptop")).facts(&hub), [Fact::Device(Compliance::Compliant)]);
}

#[tokio::test]
async fn a_hub_that_was_off_for_long_remembers_what_it_had() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(said(&hub, "set-1", "compliant")).await.0, 202);
    hub.time.fetch_add(1_000, Ordering::Relaxed);
    assert_eq!(hub.push(said(&hub, "set-2", "not-compliant")).await.0, 202);
    hub.time.fetch_add(90 * DAY * 1_000, Ordering::Relaxed);
    assert_eq!(Proxy::new(device("laptop")).facts(&hub), []);
    assert_eq!(hub.intake.renew_words(Timestamp(0)).await, Ok(1), "the last word");
    assert_eq!(Proxy::new(device("laptop")).facts(&hub), [Fact::Device(Compliance::NotCompliant)]);
}

#[tokio::test]
async fn a_word_of_a_signal_that_was_undone_stands() {
    let hub = TestHub::new(|config| {
        config["feeds"][0]["signals"]["effects"] = json!({"device-compliance-change": "set_and_end"});
    });
    assert_eq!(hub.push(said(&hub, "set-1", "not-compliant")).await.0, 202);
    let mut before = Proxy::new(device("laptop"));
    assert_eq!(before.facts(&hub), [Fact::Device(Compliance::NotCompliant), Fact::CutOff]);
    hub.lift(hub.store.signals("main", &Default::default()).unwrap()[0].id).await;
    for passed in 0..60 {
        assert_eq!(before.standing(&hub), [Fact::Device(Compliance::NotCompliant)], "day {passed}");
        let mut fresh = Proxy::new(device("laptop"));
        assert_eq!(fresh.standing(&hub), [Fact::Device(Compliance::NotCompliant)], "day {passed}, from the start");
        day(&hub).await;
    }
}

#[tokio::test]
async fn a_hub_looks_after_its_words_by_itself() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(said(&hub, "set-1", "not-compliant")).await.0, 202);
    assert_eq!(hub.push(hub.revoke("set-2", "task-1")).await.0, 202);
    hub.time.fetch_add(90 * DAY * 1_000, Ordering::Relaxed);
    let hub = hub.restarted_with(|config| config["feeds"][0]["issuers"][0]["max_session"] = json!("100h"));
    let covers = Arc::new(AtomicU64::new(0));
    let counted = covers.clone();
    let covers_more = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(())
    };
    let upkeep = tokio::spawn(hub.intake.clone().look_after(Surroundings::alone(covers_more, || None)));
    let mut laptop = Proxy::new(device("laptop"));
    while laptop.facts(&hub).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!((laptop.facts(&hub), covers.load(Ordering::Relaxed)), (vec![Fact::Device(Compliance::NotCompliant)], 1));
    upkeep.abort();
}

#[tokio::test]
async fn what_is_no_word_is_not_renewed() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(hub.revoke("set-1", "task-1")).await.0, 202);
    let user = json!({"format": "complex", "user": {"format": "opaque", "id": "u"}});
    let disabled = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
    assert_eq!(hub.push(set(&hub, "set-2", disabled, json!({"event_timestamp": NOW}), user)).await.0, 202);
    hub.time.fetch_add((DAY - 60) * 1_000, Ordering::Relaxed);
    assert_eq!(hub.intake.renew_words(Timestamp(0)).await, Ok(0));
}
