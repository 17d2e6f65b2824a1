//! What a client, a hub or a clock may do so that something that was counted is not told.

use super::*;
use crate::state::store::{Slot, Store, StoreError, Stored};

/// A store of which so many changes go well, and then one fails.
struct Failing<'s> {
    store: &'s mut MemoryStore,
    left: usize,
}

impl Store for Failing<'_> {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        self.store.read(slot)
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        self.left = self.left.checked_sub(1).ok_or(StoreError::Failed)?;
        self.store.swap(slot, bytes, cas)
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.left = self.left.checked_sub(1).ok_or(StoreError::Failed)?;
        self.store.seed(slot, bytes)
    }
}

/// Wherever the store fails while a batch is laid, the hub has the batch in the end.
#[test]
fn a_batch_that_could_not_be_laid_is_laid_at_the_next_tick() {
    for left in 0..4 {
        let (mut store, mut sender, mut hub, mut vm) = (store(), Sender::default(), Hub::default(), Vm::new(9));
        vm.use_grant(&mut store, &session(1), 0, "1", BEGIN);
        let now = BEGIN + 10_000;
        let mut failing = Failing { store: &mut store, left };
        let ticked = vm.outbox.tick(&mut failing, &mut vm.table, now);
        assert!(ticked.is_err() || left > 1, "{left}: {ticked:?}");
        vm.tick(&mut store, now + 1_000);
        let post = due(&mut sender, &mut store, now + 1_001).unwrap_or_else(|| panic!("after {left} changes"));
        hub.take(&post);
        assert_eq!(hub.sum(), 1);
    }
}

#[test]
fn masks_that_come_later_hold_for_what_is_counted_later() {
    let masks = Masks { members: vec![("subject", Mask::Remove), ("source", Mask::Hash)], key: None };
    let (mut vm, before, after) = (Vm::new(1), session(1), session(1));
    let rule = vm.rule(0);
    vm.table.permitted(&before, rule, b"GET", [&b"1"[..]].into_iter(), false, at(BEGIN));
    let later = Moment { masks: &masks, now: BEGIN + 1 };
    for _ in 0..3 {
        vm.table.permitted(&after, rule, b"GET", [&b"1"[..]].into_iter(), false, later);
    }
    let batch: Batch = serde_json::from_str(&cut(&mut vm.table, "a", 1, BEGIN + 2).unwrap().json).unwrap();
    let told: Vec<_> =
        batch.grants.iter().map(|grant| (grant.grant.subject.as_str(), grant.permitted[0].count)).collect();
    assert_eq!(told, [("alice", 1), ("", 3)]);
}

/// A hub that says 200 and takes nothing is not asked again each second.
#[test]
fn an_answer_that_takes_nothing_is_a_failure() {
    let (mut store, mut sender, mut vm) = (store(), Sender::default(), Vm::new(9));
    vm.use_grant(&mut store, &session(1), 0, "1", BEGIN);
    let mut now = BEGIN + 10_000;
    vm.tick(&mut store, now);
    let mut posts = 0;
    while now < BEGIN + 310_000 {
        if due(&mut sender, &mut store, now).is_some() {
            posts += 1;
            let nothing = Answer::Page(br#"{"period":10,"taken":[{"vm":"00000000000000ff","number":1}]}"#.to_vec());
            let outcome = answer(&mut sender, &mut store, nothing, now);
            assert_eq!(
                (outcome.posted, outcome.log.is_some()),
                (Posted::Failed(Some(200)), posts == 1 || outcome.log.is_some())
            );
        }
        now += 1_000;
    }
    assert!((5..20).contains(&posts), "{posts} posts in 300 s");
}

/// Rules that the hub does not take, and a gap that it does not take, cost no batch.
#[test]
fn what_is_refused_beside_a_batch_costs_no_batch() {
    let (mut store, mut sender, mut hub, mut vm) = (store(), Sender::default(), Hub::default(), Vm::new(9));
    let mut gone = Vm::new(7);
    gone.use_grant(&mut store, &session(1), 0, "1", BEGIN);
    let long = |config: &str| Some(json!({"config": config, "rules": []}).to_string());
    let (mut dropped, mut now) = (0, BEGIN);
    for _ in 0..40 {
        now += 3_000;
        vm.use_grant(&mut store, &session(1), 0, "1", now);
        vm.tick(&mut store, now);
        let proxy = Proxy { follower: "00", node: "n" };
        let Some(body) = sender.tick(&mut store, feed(), proxy, (now, 1), long).unwrap() else { continue };
        let post: Post = serde_json::from_slice(&body).unwrap();
        let answered = match post.configs.is_empty() && post.gaps.is_empty() {
            false => Answer::Refused(400, None),
            true => match hub.take(&post) {
                Answer::Page(page) => {
                    let mut page: Value = serde_json::from_slice(&page).unwrap();
                    page["configs_wanted"] = json!(["0011223344556677"]);
                    Answer::Page(page.to_string().into_bytes())
                }
                other => other,
            },
        };
        let outcome = answer(&mut sender, &mut store, answered, now);
        if let Posted::Dropped(_) = outcome.posted {
            assert_eq!(outcome.batches, 0, "only the gap");
            dropped += 1;
        }
    }
    vm.tick(&mut store, now + 1);
    assert_eq!((dropped, hub.sum() + held(&mut vm, &hub)), (1, 40));
    assert!(hub.sum() > 20, "{}", hub.sum());
}

/// Busy workers do not keep another one waiting for ever.
#[test]
fn each_place_has_its_turn() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let base = session_with(json!({"scope": "s".repeat(900)}));
    let mut vms: Vec<Vm> = (1..=8).map(Vm::new).collect();
    roster::change(&mut store, feed(), &mut |roster| roster.period = 1).unwrap();
    let mut now = BEGIN;
    for _ in 0..8 {
        for vm in &mut vms {
            for grant in 0..250 {
                let mut session = again(&base);
                session.rename(&format!("tok-{grant}"));
                vm.use_grant(&mut store, &session, 0, "1", now);
            }
            vm.tick(&mut store, now + 1_000);
        }
        now += 1_001;
        if let Some(post) = due(&mut sender, &mut store, now) {
            let taken = hub.take(&post);
            answer(
                &mut sender,
                &mut store,
                Answer::Page(
                    serde_json::to_vec(&json!({"period": 1, "taken": match taken {
                        Answer::Page(page) => serde_json::from_slice::<Value>(&page).unwrap()["taken"].clone(),
                        _ => Value::Null,
                    }}))
                    .unwrap(),
                ),
                now,
            );
        }
    }
    let served: BTreeSet<_> = hub.batches.keys().map(|(vm, _)| vm.clone()).collect();
    assert_eq!(served.len(), 8, "{served:?}");
}

/// A hub refuses a batch with a longer name, and with it what all other grants were used for.
#[test]
fn a_scope_that_no_hub_takes_is_not_told() {
    let session = session_with(json!({"scope": format!("orders.read {}", "s".repeat(2_049))}));
    let mut vm = Vm::new(1);
    let rule = vm.rule(0);
    vm.table.permitted(&session, rule, b"GET", [&b"1"[..]].into_iter(), false, at(BEGIN));
    let batch: Batch = serde_json::from_str(&cut(&mut vm.table, "a", 1, BEGIN).unwrap().json).unwrap();
    let grant = &batch.grants[0].grant;
    assert_eq!((grant.scopes.as_slice(), grant.cut), (["orders.read".to_owned()].as_slice(), true));
}

/// Who sends many requests that are refused does not keep the record of an ended stream out.
#[test]
fn records_of_refusals_leave_room_to_the_others() {
    for size in [10, 1_000] {
        let mut vm = Vm::new(1);
        let record = format!("{:?}", "x".repeat(size));
        (0..2_000).for_each(|_| vm.table.record(&record, true, BEGIN));
        let of_refusals = vm.table.records.len();
        (0..20).for_each(|_| vm.table.record(&record, false, BEGIN));
        assert_eq!(vm.table.records.len(), of_refusals + 20);
        assert_eq!(vm.table.totals().records_dropped, vm.table.records_dropped);
        let mut told = 0;
        while let Some(one) = cut(&mut vm.table, "a", 1, BEGIN) {
            let batch: Batch = serde_json::from_str(&one.json).unwrap();
            told += u64::try_from(batch.records.len()).unwrap() + batch.records_dropped;
        }
        assert_eq!(told, 2_020, "each is there or counted");
    }
}

/// A clock that is set back by an hour: the VM that is alive sends on, and the one that is gone leaves its gap.
#[test]
fn a_clock_that_is_set_back_hides_no_gap() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let (mut alive, mut gone, session) = (Vm::new(1), Vm::new(2), session(1));
    alive.use_grant(&mut store, &session, 0, "1", BEGIN);
    gone.use_grant(&mut store, &again(&session), 0, "1", BEGIN);
    drop(gone);
    let mut now = BEGIN - 3_600_000;
    for _ in 0..5 {
        alive.tick(&mut store, now);
        if let Some(post) = due(&mut sender, &mut store, now) {
            assert!(post.gaps.iter().all(|gap| gap.since <= gap.until && gap.until <= now), "{:?}", post.gaps);
            let taken = hub.take(&post);
            answer(&mut sender, &mut store, taken, now);
        }
        now += 1_000;
    }
    let gaps: Vec<_> = hub.gaps.iter().map(|(vm, _)| vm.as_str()).collect();
    assert_eq!((hub.sum(), gaps), (1, vec!["0000000000000002"]));
}

#[test]
fn what_is_in_no_batch_is_known() {
    let (mut store, mut vm, session) = (store(), Vm::new(1), session(1));
    for order in 0..130 {
        vm.use_grant(&mut store, &session, 0, &order.to_string(), BEGIN);
    }
    vm.refuse(&mut store, &session, Reason::TaskCompleted, BEGIN);
    assert_eq!(vm.table.unsent(), 131);
    vm.tick(&mut store, BEGIN + 10_000);
    assert_eq!(vm.table.unsent(), 0);
}

/// A place that becomes free before its own is nothing for a VM: it would leave a place behind that looks like a gap.
#[test]
fn a_vm_keeps_its_place() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let (mut first, mut other, session) = (Vm::new(1), Vm::new(2), session(1));
    first.use_grant(&mut store, &session, 0, "1", BEGIN);
    first.tick(&mut store, BEGIN + 10_000);
    for second in 5..90 {
        let now = BEGIN + second * 1_000;
        other.use_grant(&mut store, &again(&session), 0, "1", now);
        other.tick(&mut store, now);
        if let Some(post) = due(&mut sender, &mut store, now) {
            assert!(post.gaps.is_empty(), "{second}: {:?}", post.gaps);
            let taken = hub.take(&post);
            answer(&mut sender, &mut store, taken, now);
        }
    }
    assert_eq!(roster::read(&mut store, feed()).unwrap().places[0].vm, 0, "the first has gone");
    assert_eq!(hub.sum() + held(&mut other, &hub), 86);
}
