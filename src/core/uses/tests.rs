//! Counting, cutting, sending and taking together: nothing is lost and nothing counts twice.

use crate::decision::session::{CountSlot, Session};
use crate::feed::follower::Answer;
use crate::index::RuleIndex;
use crate::jose::signature::PureRust;
use crate::policy::evidence::{Mask, Masks};
use crate::reason::Reason;
use crate::state::store::{FeedId, MemoryStore};
use crate::testing::fixture::{self, token_with};
use crate::uses::batch::{Batch, Post, RuleRef, SeenKind, Taken};
use crate::uses::cut::{MAX_BATCH, cut};
use crate::uses::outbox::Outbox;
use crate::uses::roster::{self, RENEW, SILENT};
use crate::uses::row::Refused;
use crate::uses::sender::{MAX_POST, Outcome, Posted, Proxy, Sender, unsent};
use crate::uses::table::{Moment, RulePlaces, Table};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

mod faults;

const BEGIN: u64 = 1_790_000_100_000;

static NO_MASKS: Masks = Masks { members: Vec::new(), key: None };

fn feed() -> FeedId {
    FeedId::new("hub", "main")
}

fn at(now: u64) -> Moment<'static> {
    Moment { masks: &NO_MASKS, now }
}

fn session_with(claims: Value) -> Session {
    let token = token_with(json!({}), claims);
    let verified =
        crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, fixture::NOW).unwrap();
    Session::new(verified, token.as_bytes(), false, Some(&[]))
}

fn session(number: usize) -> Session {
    session_with(json!({ "jti": format!("tok-{number}") }))
}

/// A VM and the plugin in it.
struct Vm {
    table: Table,
    outbox: Outbox,
    rules: RulePlaces,
}

impl Vm {
    fn new(name: u64) -> Vm {
        Vm { table: Table::new(name), outbox: Outbox::new(feed(), name), rules: RulePlaces::new(3) }
    }

    fn mark(&mut self, store: &mut MemoryStore, now: u64) {
        if self.outbox.needs_mark() {
            self.outbox.mark(store, now).unwrap();
        }
    }

    fn rule(&mut self, rule: usize) -> Option<u32> {
        let name = || Some(RuleRef { config: "00".repeat(8), name: format!("rule-{rule}") });
        self.table.rule(&mut self.rules, RuleIndex::new(rule), name)
    }

    fn use_grant(&mut self, store: &mut MemoryStore, session: &Session, rule: usize, path: &str, now: u64) -> bool {
        let rule = self.rule(rule);
        let captures = path.split('/').map(str::as_bytes);
        let look = self.table.permitted(session, rule, b"GET", captures, false, at(now));
        self.mark(store, now);
        look
    }

    fn refuse(&mut self, store: &mut MemoryStore, session: &Session, reason: Reason, now: u64) {
        let rule = self.rule(0);
        self.table.refused(session, Refused { rule, reason, shadow: false, ended: false }, at(now));
        self.mark(store, now);
    }

    fn tick(&mut self, store: &mut MemoryStore, now: u64) {
        self.outbox.tick(store, &mut self.table, now).unwrap();
    }
}

fn store() -> MemoryStore {
    let mut store = MemoryStore::default();
    roster::set_up(&mut store, feed()).unwrap();
    store
}

fn due(sender: &mut Sender, store: &mut MemoryStore, now: u64) -> Option<Post> {
    let proxy = Proxy { follower: "00", node: "node-1" };
    let body = sender.tick(store, feed(), proxy, (now, 7), |_| None).unwrap()?;
    assert!(body.len() <= MAX_POST, "{}", body.len());
    Some(serde_json::from_slice(&body).unwrap())
}

fn answer(sender: &mut Sender, store: &mut MemoryStore, answer: Answer, now: u64) -> Outcome {
    sender.answer(store, feed(), answer, (now, 7)).unwrap().unwrap()
}

/// What a hub keeps: each batch once.
#[derive(Default)]
struct Hub {
    batches: BTreeMap<(String, u64), Batch>,
    gaps: BTreeSet<(String, u64)>,
}

impl Hub {
    fn take(&mut self, post: &Post) -> Answer {
        for batch in &post.batches {
            let known = self.batches.insert((batch.vm.clone(), batch.number), batch.clone());
            assert!(known.is_none_or(|known| known == *batch), "a number means one batch");
        }
        self.gaps.extend(post.gaps.iter().map(|gap| (gap.vm.clone(), gap.since)));
        let id = |batch: &Batch| json!({"vm": batch.vm, "number": batch.number});
        let taken: Vec<Value> = post.batches.iter().map(id).collect();
        Answer::Page(json!({"period": 10, "taken": taken}).to_string().into_bytes())
    }

    fn sum(&self) -> u64 {
        self.batches.values().map(sum).sum()
    }
}

fn sum(batch: &Batch) -> u64 {
    let of_grants = batch.grants.iter().map(|grant| {
        let permitted: u64 = grant.permitted.iter().map(|one| one.count).sum();
        permitted + grant.other + grant.refused.iter().map(|one| one.count).sum::<u64>()
    });
    of_grants.sum::<u64>() + batch.other_permitted + batch.other_refused
}

/// What a VM holds that the hub may not have: its table, and its batch.
fn held(vm: &mut Vm, hub: &Hub) -> u64 {
    let waiting = vm.outbox.waiting().map(|json| serde_json::from_slice::<Batch>(json).unwrap());
    let waiting = waiting.filter(|batch| !hub.batches.contains_key(&(batch.vm.clone(), batch.number)));
    let mut left = waiting.as_ref().map_or(0, sum);
    while let Some(rest) = cut(&mut vm.table, "rest", 0, u64::MAX) {
        left += sum(&serde_json::from_str(&rest.json).unwrap());
    }
    left
}

#[derive(Debug, Clone)]
enum Step {
    Use { vm: usize, grant: usize, rule: usize, order: u8 },
    Refuse { vm: usize, grant: usize },
    Tick { vm: usize },
    Post,
    Answer { arrives: bool, answers: bool },
    NewSender,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..3usize;
    prop_oneof![
        6 => (index.clone(), 0..4usize, index.clone(), any::<u8>())
            .prop_map(|(vm, grant, rule, order)| Step::Use { vm, grant, rule, order }),
        2 => (index.clone(), 0..4usize).prop_map(|(vm, grant)| Step::Refuse { vm, grant }),
        4 => index.prop_map(|vm| Step::Tick { vm }),
        3 => Just(Step::Post),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, answers)| Step::Answer { arrives, answers }),
        1 => Just(Step::NewSender),
        3 => prop_oneof![0..2_000u64, 2_000..30_000u64].prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_and_nothing_counts_twice(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut store, mut hub, mut sender, mut now) = (store(), Hub::default(), Sender::default(), BEGIN);
        let mut vms: Vec<Vm> = (1..=3).map(Vm::new).collect();
        // The sessions are those of one plugin in one VM.
        let sessions: Vec<Vec<Session>> = SESSIONS.with(|tokens| {
            (0..3).map(|_| tokens.iter().map(again).collect()).collect()
        });
        let (mut counted, mut under_way) = (0u64, None);
        for step in steps {
            match step {
                Step::Use { vm, grant, rule, order } => {
                    vms[vm].use_grant(&mut store, &sessions[vm][grant], rule, &order.to_string(), now);
                    counted += 1;
                }
                Step::Refuse { vm, grant } => {
                    vms[vm].refuse(&mut store, &sessions[vm][grant], Reason::TaskCompleted, now);
                    counted += 1;
                }
                Step::Tick { vm } => vms[vm].tick(&mut store, now),
                Step::Post => under_way = due(&mut sender, &mut store, now).or(under_way),
                Step::Answer { arrives, answers } => {
                    if let Some(post) = under_way.take() {
                        let taken = if arrives { hub.take(&post) } else { Answer::None };
                        let told = if answers { taken } else { Answer::None };
                        sender.answer(&mut store, feed(), told, (now, 3)).unwrap();
                    }
                }
                // What it had posted may still arrive.
                Step::NewSender => sender = Sender::default(),
                Step::Wait(passed) => now += passed,
            }
        }
        let held: u64 = vms.iter_mut().map(|vm| held(vm, &hub)).sum();
        prop_assert_eq!(hub.sum() + held, counted);
    }
}

thread_local! {
    static SESSIONS: Vec<Session> = (0..4).map(session).collect();
}

/// The same token, as another worker knows it.
fn again(session: &Session) -> Session {
    let token = session.token();
    let verified = crate::token::verify::verify(token, &[fixture::issuer()], &mut PureRust, fixture::NOW).unwrap();
    Session::new(verified, token, false, None)
}

#[test]
fn a_batch_says_what_was_used_by_whom() {
    let (mut store, mut vm) = (store(), Vm::new(0xab));
    let session = session(1);
    vm.use_grant(&mut store, &session, 1, "a%20b", BEGIN);
    vm.use_grant(&mut store, &session, 1, "a%20b", BEGIN + 5);
    vm.use_grant(&mut store, &session, 2, "x/y", BEGIN + 7);
    vm.refuse(&mut store, &session, Reason::TaskCompleted, BEGIN + 8);
    vm.table.seen(&session, SeenKind::Source, "10.0.0.1", at(BEGIN + 9));
    vm.table.record(r#"{"schema":"taskfence.decision/1"}"#, false, BEGIN + 10);
    let cut = cut(&mut vm.table, "00000000000000ab", 4, BEGIN + 20).unwrap();
    assert!(vm.table.is_empty());
    let batch: Value = serde_json::from_str(&cut.json).unwrap();
    let config = "00".repeat(8);
    assert_eq!(
        batch["rules"],
        json!([{"config": config, "name": "rule-1"}, {"config": config, "name": "rule-2"}, {"config": config, "name": "rule-0"}])
    );
    assert_eq!(batch["records"], json!([{"schema": "taskfence.decision/1"}]));
    let grant = &batch["grants"][0];
    assert_eq!(
        grant["permitted"],
        json!([
            {"rule": 0, "method": "GET", "captures": ["a b"], "count": 2, "first": BEGIN, "last": BEGIN + 5},
            {"rule": 1, "method": "GET", "captures": ["x", "y"], "count": 1, "first": BEGIN + 7, "last": BEGIN + 7}
        ])
    );
    assert_eq!(
        grant["refused"],
        json!([{"rule": 2, "reason": "task_completed", "count": 1, "first": BEGIN + 8, "last": BEGIN + 8}])
    );
    assert_eq!(
        grant["seen"],
        json!([{"kind": "source", "value": "10.0.0.1", "count": 1, "first": BEGIN + 9, "last": BEGIN + 9}])
    );
    let token = String::from_utf8(session.token().to_vec()).unwrap();
    assert_eq!(
        grant["grant"],
        json!({
            "issuer": "https://jit.example", "token": "tok-1", "subject": "alice", "client": "agent-a7",
            "task": "task-42", "session": "sess-9", "scopes": ["orders.read", "orders.refund"],
            "details": [{"type": "order", "actions": ["read"], "identifier": "1881"}],
            "issued_at": fixture::NOW.0 - 100, "expires_at": fixture::NOW.0 + 200,
            "fingerprint": crate::encoding::digest::sha256(token.as_bytes())[..16]
                .iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        })
    );
    let read: Batch = serde_json::from_str(&cut.json).unwrap();
    assert_eq!((read.vm.as_str(), read.number, read.since, read.until), ("00000000000000ab", 4, BEGIN, BEGIN + 20));
}

#[test]
fn masks_hold_for_what_is_counted() {
    let members =
        vec![("subject", Mask::Hash), ("token", Mask::Remove), ("captures", Mask::Hash), ("source", Mask::Remove)];
    let masks = Masks { members, key: None };
    let moment = Moment { masks: &masks, now: BEGIN };
    let (mut vm, session) = (Vm::new(1), session(1));
    let rule = vm.rule(0);
    for _ in 0..2 {
        vm.table.permitted(&session, rule, b"GET", [&b"1881"[..]].into_iter(), true, moment);
    }
    vm.table.seen(&session, SeenKind::Source, "10.0.0.1", moment);
    let text = cut(&mut vm.table, "a", 1, BEGIN).unwrap().json;
    let batch: Batch = serde_json::from_str(&text).unwrap();
    let grant = &batch.grants[0];
    assert_eq!(grant.grant.subject, masks.hash("alice"));
    assert_eq!(grant.grant.token, masks.hash("tok-1"), "grants are told apart all the same");
    assert_eq!(grant.grant.masked, ["subject", "token", "source", "captures"]);
    assert_eq!(grant.permitted[0].captures, [masks.hash("1881")]);
    assert_eq!((grant.permitted.len(), grant.permitted[0].count, grant.permitted[0].break_glass), (1, 2, 2));
    assert!(grant.seen.is_empty());
    for hidden in ["alice", "tok-1", "10.0.0.1"] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_counted_as_other() {
    let (mut vm, session) = (Vm::new(1), session(1));
    let rule = vm.rule(0);
    let mut permit = |method: &[u8], capture: &str, rule| {
        vm.table.permitted(&session, rule, method, [capture.as_bytes()].into_iter(), false, at(BEGIN));
    };
    permit(b"GET", &"x".repeat(129), rule);
    permit(&[b'A'; 33], "1", rule);
    permit(b"GET", "1", None);
    (0..130).for_each(|order| permit(b"GET", &order.to_string(), rule));
    assert_eq!((vm.table.totals().counted, vm.table.totals().other), (133, 5));
    let batch: Batch = serde_json::from_str(&cut(&mut vm.table, "a", 1, BEGIN).unwrap().json).unwrap();
    assert_eq!((batch.grants[0].other, batch.grants[0].permitted.len()), (5, 128));
}

/// A worker that never reaches its hub stays within its bounds, and what it counts is all there in the end.
#[test]
fn a_full_table_counts_on_and_empties_oldest_first() {
    let (mut vm, base) = (Vm::new(1), session_with(json!({"scope": vec!["s".repeat(1_000); 3].join(" ")})));
    let mut counted = 0;
    for grant in 0..1_500u64 {
        let mut session = again(&base);
        session.rename(&format!("tok-{grant}"));
        for _ in 0..2 {
            let rule = vm.rule(0);
            vm.table.permitted(&session, rule, b"GET", [&b"1"[..]].into_iter(), false, at(BEGIN + grant));
            counted += 1;
        }
    }
    assert!(vm.table.bytes <= 2 * 1024 * 1024 + 8 * 1024, "{}", vm.table.bytes);
    let (mut sum_of_all, mut numbers, mut last) = (0, 0, 0);
    while let Some(one) = cut(&mut vm.table, "a", numbers, BEGIN + 9_999) {
        assert!(one.json.len() <= MAX_BATCH, "{}", one.json.len());
        let batch: Batch = serde_json::from_str(&one.json).unwrap();
        (sum_of_all, numbers) = (sum_of_all + sum(&batch), numbers + 1);
        let firsts = batch.grants.iter().filter_map(|grant| Some(grant.permitted.first()?.first));
        let first = firsts.min().unwrap_or(last);
        assert!(first >= last, "the oldest first");
        last = first;
    }
    assert_eq!(sum_of_all, counted);
    assert!(numbers > 7, "{numbers} batches");
}

/// A grant within its bounds always fits, also with everything at its longest.
#[test]
fn the_longest_grant_fits_into_a_batch() {
    let long = "\"".repeat(900);
    let (mut vm, session) = (Vm::new(1), session_with(json!({"sub": long, "scope": "\u{e9}".repeat(1_000)})));
    let rule = vm.rule(0);
    for order in 0..200 {
        let capture = format!("{order:03}{}", "%22".repeat(40));
        let captures = [capture.as_bytes(), capture.as_bytes()];
        vm.table.permitted(&session, rule, &[b'A'; 32], captures.into_iter(), false, at(u64::MAX / 2));
    }
    for reason in Reason::ALL {
        for (shadow, ended) in [(false, false), (true, true)] {
            vm.table.refused(&session, Refused { rule, reason: *reason, shadow, ended }, at(u64::MAX / 2));
        }
    }
    for kind in [SeenKind::Peer, SeenKind::Source, SeenKind::Key] {
        for number in 0..20 {
            vm.table.seen(&session, kind, &format!("{number:03}{}", "x".repeat(500)), at(u64::MAX / 2));
        }
    }
    for number in 0..100 {
        let record = json!({"number": number, "text": "x".repeat(7_000)}).to_string();
        vm.table.record(&record, false, BEGIN);
    }
    let one = cut(&mut vm.table, "a", 1, u64::MAX / 2).unwrap();
    assert!(one.json.len() <= MAX_BATCH, "{}", one.json.len());
    let batch: Batch = serde_json::from_str(&one.json).unwrap();
    assert_eq!((batch.grants.len(), batch.grants[0].permitted.len(), batch.grants[0].refused.len()), (1, 128, 32));
    assert!(batch.records.len() > 5 && batch.records.len() + vm.table.records.len() + 1 < 100);
    assert!(batch.records_dropped > 0 && batch.other_refused > 0);
}

#[test]
fn the_warm_path_finds_its_place_and_a_cut_ends_it() {
    let (mut vm, session) = (Vm::new(1), session(1));
    let mut store = store();
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    let slot = session.count_slot();
    assert_eq!(slot, CountSlot { generation: 1, place: 0 });
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    assert_eq!(session.count_slot(), slot);
    cut(&mut vm.table, "a", 1, BEGIN).unwrap();
    vm.table.seen(&session, SeenKind::Source, "10.0.0.1", at(BEGIN));
    assert!(vm.table.is_empty(), "a place of another generation is none");
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    assert_eq!(session.count_slot().generation, 2);
}

#[test]
fn the_first_uses_are_looked_at_and_then_fewer_and_fewer() {
    let (mut store, mut vm, session) = (store(), Vm::new(12_345), session(1));
    let looks: Vec<bool> = (0..6_656).map(|_| vm.use_grant(&mut store, &session, 0, "1", BEGIN)).collect();
    assert_eq!(looks[..4], [true; 4]);
    let looked = |uses: &[bool]| uses.iter().filter(|look| **look).count();
    let (some, many) = (looked(&looks[4..256]), looked(&looks[256..]));
    assert!((6..32).contains(&some), "{some} of 252");
    assert!((60..140).contains(&many), "{many} of 6400");
}

#[test]
fn an_idle_proxy_sends_nothing() {
    let (mut store, mut vm, mut sender, mut hub) = (store(), Vm::new(1), Sender::default(), Hub::default());
    let mut now = BEGIN;
    assert!(due(&mut sender, &mut store, now).is_none());
    vm.use_grant(&mut store, &session(1), 0, "1", now);
    let mut posts = 0;
    for _ in 0..200 {
        now += 500;
        vm.tick(&mut store, now);
        if let Some(post) = due(&mut sender, &mut store, now) {
            let taken = hub.take(&post);
            assert_eq!(answer(&mut sender, &mut store, taken, now).posted, Posted::Taken);
            posts += 1;
        }
    }
    assert_eq!((posts, hub.sum(), hub.gaps.len()), (1, 1, 0));
    assert_eq!(unsent(&mut store, feed(), now), Ok(0));
    assert_eq!(roster::read(&mut store, feed()).unwrap().places[0].vm, 0, "the place is free again");
}

#[test]
fn a_vm_that_is_replaced_leaves_its_batch_and_a_gap() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let (mut vm, session) = (Vm::new(9), session(1));
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    vm.tick(&mut store, BEGIN + 10_000);
    let gone = BEGIN + 10_500;
    vm.use_grant(&mut store, &session, 0, "1", gone);
    drop(vm);
    let post = due(&mut sender, &mut store, gone + 100).unwrap();
    assert_eq!((post.batches.len(), post.gaps.len(), post.batches[0].until), (1, 0, BEGIN + 10_000));
    let taken = hub.take(&post);
    answer(&mut sender, &mut store, taken, gone + 100);
    assert!(due(&mut sender, &mut store, gone + SILENT).is_none());
    assert_eq!(unsent(&mut store, feed(), gone + SILENT), Ok(SILENT));
    let post = due(&mut sender, &mut store, gone + SILENT + 1).unwrap();
    assert_eq!((post.gaps[0].since, post.gaps[0].until), (gone, gone));
    let taken = hub.take(&post);
    assert_eq!(answer(&mut sender, &mut store, taken, gone + SILENT + 1).gaps, 1);
    assert!(due(&mut sender, &mut store, gone + 60_000).is_none(), "it is told once");
    assert_eq!(roster::read(&mut store, feed()).unwrap().places[0].vm, 0);
}

#[test]
fn a_vm_that_was_held_to_be_gone_sends_its_batch_all_the_same() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let (mut vm, session) = (Vm::new(9), session(1));
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    let late = BEGIN + 100_000;
    let post = due(&mut sender, &mut store, late).unwrap();
    assert_eq!(post.gaps.len(), 1);
    let taken = hub.take(&post);
    answer(&mut sender, &mut store, taken, late);
    assert!(due(&mut sender, &mut store, late).is_none());
    assert_eq!(roster::read(&mut store, feed()).unwrap().places[0].vm, 0);
    vm.tick(&mut store, late + 1);
    let post = due(&mut sender, &mut store, late + 2).unwrap();
    hub.take(&post);
    assert_eq!(hub.sum(), 1);
}

#[test]
fn a_vm_that_counts_is_alive() {
    let (mut store, mut sender) = (store(), Sender::default());
    let (mut vm, session) = (Vm::new(9), session(1));
    roster::change(&mut store, feed(), &mut |roster| roster.period = 3_600).unwrap();
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    for tick in 1..100 {
        vm.tick(&mut store, BEGIN + tick * (RENEW / 2));
        assert!(due(&mut sender, &mut store, BEGIN + tick * (RENEW / 2)).is_none(), "tick {tick}");
    }
}

#[test]
fn the_hub_sets_the_period() {
    let (mut store, mut sender) = (store(), Sender::default());
    let (mut vm, session) = (Vm::new(9), session(1));
    vm.use_grant(&mut store, &session, 0, "1", BEGIN);
    vm.tick(&mut store, BEGIN + 9_999);
    assert!(due(&mut sender, &mut store, BEGIN + 9_999).is_none());
    vm.tick(&mut store, BEGIN + 10_000);
    due(&mut sender, &mut store, BEGIN + 10_000).unwrap();
    let told = json!({"period": 60, "taken": [{"vm": "0000000000000009", "number": 1}]});
    answer(&mut sender, &mut store, Answer::Page(told.to_string().into_bytes()), BEGIN + 10_000);
    vm.tick(&mut store, BEGIN + 11_000);
    vm.use_grant(&mut store, &session, 0, "1", BEGIN + 11_000);
    vm.tick(&mut store, BEGIN + 70_999);
    assert!(due(&mut sender, &mut store, BEGIN + 70_999).is_none());
    vm.tick(&mut store, BEGIN + 71_000);
    assert_eq!(due(&mut sender, &mut store, BEGIN + 71_000).unwrap().batches[0].number, 2);
}

#[test]
fn failures_are_followed_by_pauses() {
    let (mut store, mut sender, mut vm) = (store(), Sender::default(), Vm::new(9));
    vm.use_grant(&mut store, &session(1), 0, "1", BEGIN);
    let mut now = BEGIN + 10_000;
    vm.tick(&mut store, now);
    for (failure, posted, pause) in [
        (Answer::None, Posted::Failed(None), 500..=1_000),
        (Answer::Refused(503, Some(30)), Posted::Failed(Some(503)), 30_000..=30_000),
        (Answer::Refused(404, None), Posted::Unknown, 600_000..=600_000),
        (Answer::Page(b"no JSON".to_vec()), Posted::Failed(None), 2_000..=4_000),
        (Answer::Refused(401, None), Posted::Failed(Some(401)), 4_000..=8_000),
    ] {
        assert!(due(&mut sender, &mut store, now).is_some());
        assert!(due(&mut sender, &mut store, now).is_none(), "one request at a time");
        let outcome = answer(&mut sender, &mut store, failure, now);
        assert_eq!((outcome.posted, outcome.batches), (posted, 1));
        assert!(due(&mut sender, &mut store, now + pause.start() - 1).is_none(), "{posted:?}");
        now += pause.end();
    }
    // Without an answer a call ends.
    assert!(due(&mut sender, &mut store, now).is_some());
    assert!(due(&mut sender, &mut store, now + 20_999).is_none());
    assert!(due(&mut sender, &mut store, now + 21_000).is_none(), "a pause follows");
    assert!(due(&mut sender, &mut store, now + 21_000 + 60_000).is_some());
}

#[test]
fn a_batch_that_no_hub_takes_does_not_hold_up_the_others() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let session = session(1);
    let mut now = BEGIN;
    let mut vms = [Vm::new(1), Vm::new(2)];
    for vm in &mut vms {
        vm.use_grant(&mut store, &again(&session), 0, "1", now);
    }
    now += 10_000;
    vms.iter_mut().for_each(|vm| vm.tick(&mut store, now));
    let mut dropped = 0;
    while let Some(post) = due(&mut sender, &mut store, now) {
        let answered = match post.batches.iter().any(|batch| batch.vm == "0000000000000001") {
            true => Answer::Refused(400, None),
            false => hub.take(&post),
        };
        dropped += u64::from(answer(&mut sender, &mut store, answered, now).posted == Posted::Dropped(400));
    }
    assert_eq!((dropped, hub.sum()), (1, 1));
}

#[test]
fn a_post_is_bounded_and_the_rest_follows() {
    let (mut store, mut sender, mut hub) = (store(), Sender::default(), Hub::default());
    let base = session_with(json!({"scope": vec!["s".repeat(1_000); 3].join(" ")}));
    let mut vms: Vec<Vm> = (1..=4).map(Vm::new).collect();
    let mut counted = 0;
    for vm in &mut vms {
        for grant in 0..75 {
            let mut session = again(&base);
            session.rename(&format!("tok-{grant}"));
            vm.use_grant(&mut store, &session, 0, "1", BEGIN);
            counted += 1;
        }
        vm.tick(&mut store, BEGIN + 10_000);
    }
    let mut posts = 0;
    while let Some(post) = due(&mut sender, &mut store, BEGIN + 10_001) {
        let taken = hub.take(&post);
        answer(&mut sender, &mut store, taken, BEGIN + 10_001);
        posts += 1;
    }
    assert!(posts >= 2, "{posts} posts");
    assert_eq!(hub.sum(), counted);
}

#[test]
fn the_hub_gets_the_rules_that_it_asks_for() {
    let (mut store, mut sender, mut vm) = (store(), Sender::default(), Vm::new(9));
    let session = session(1);
    let outline =
        |config: &str| (config == "0011223344556677").then(|| json!({"config": config, "rules": []}).to_string());
    let mut configs = Vec::new();
    for number in 1..=3u64 {
        let now = BEGIN + number * 20_000;
        vm.use_grant(&mut store, &session, 0, "1", now - 10_000);
        vm.tick(&mut store, now);
        let proxy = Proxy { follower: "00", node: "n" };
        let body = sender.tick(&mut store, feed(), proxy, (now, 1), outline).unwrap().unwrap();
        let post: Post = serde_json::from_slice(&body).unwrap();
        configs.push(post.configs.into_iter().map(|outline| outline.config).collect::<Vec<_>>());
        let wanted = if number == 1 { vec!["ffffffffffffffff", "0011223344556677"] } else { Vec::new() };
        let taken = Taken {
            period: 10,
            taken: vec![crate::uses::batch::BatchId { vm: post.batches[0].vm.clone(), number }],
            configs_wanted: wanted.into_iter().map(str::to_owned).collect(),
        };
        answer(&mut sender, &mut store, Answer::Page(serde_json::to_vec(&taken).unwrap()), now);
        vm.tick(&mut store, now + 1);
    }
    assert_eq!(configs, [vec![], vec!["0011223344556677".to_owned()], vec![]]);
}
