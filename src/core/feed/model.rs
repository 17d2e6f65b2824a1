//! A model of a hub, its feed and a proxy with two VMs that follow it, and what must hold whatever happens to them.
//!
//! Random signals, pages cut anywhere, lost, replayed and mixed up answers, VMs that die between two steps or two writes,
//! proxies that restart, a hub that is restored to an earlier state or begins a new epoch, clocks that differ, and one that
//! is set ahead of the end of all entries and back. After each of these:
//!
//! - everything up to the position, and up to every revision that was acknowledged, is seen by readers of the state;
//! - a proxy that says it has caught up sees everything that the hub held when the proxy started, and holds still;
//! - a state that says it is as new as some time has everything that the hub held then;
//! - no time goes back, and none is more than 60 s ahead of the proxy's clock;
//! - no entry is held about an issuer that the feed does not cover.
//!
//! In the end, without faults, everything that the hub holds is seen. With any one rule of the follower switched off, some
//! run breaks one of these.

#![expect(clippy::as_conversions, reason = "the model counts to a few hundred")]

use crate::feed::entry::{FORMAT, FeedEntry};
use crate::feed::follower::{self, Answer, Follower, Host, Todo};
use crate::feed::position;
use crate::feed::revision::{Chain, Revision};
use crate::feed::rule::Rule;
use crate::feed::rule::tests::without;
use crate::feed::statement::{IssuerStatus, Part, Statement, TYPE};
use crate::jose::algorithm::Algorithm;
use crate::jose::key::KeySet;
use crate::signal::hub_source::HubSource;
use crate::state::bucket::{Entry, SourceTag, Table, about};
use crate::state::coverage::{CoveredIssuer, FeedId, IssuerId};
use crate::state::fact::Fact;
use crate::state::freshness::TransmitterId;
use crate::state::key::{Kind, StateKey};
use crate::state::log::{Journal, Version};
use crate::state::store::{MemoryStore, Slot, Store, StoreError, Stored};
use crate::state::view::{View, feeds};
use crate::testing::fixture;
use crate::testing::ports::TestSignatures;
use crate::time::{Span, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

const ISSUER: &str = "https://jit.example";
const BEGIN: u64 = 1_790_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    /// The hub takes in that many signals.
    Signals(u64),
    /// The VM is called by its timer.
    Tick(usize),
    /// The hub answers the request of the VM, with pages and parts of that many entries.
    Deliver(usize, usize),
    /// The answer is a failure.
    Fail(usize),
    /// The answer never comes.
    Lose(usize),
    /// An answer comes that was sent before, so many answers ago.
    Replay(usize, usize),
    /// The answer is for a proxy at another number.
    Mixed(usize, usize, usize),
    /// The VM goes on with its page for so many batches.
    Step(usize, usize),
    /// The VM dies.
    Die(usize),
    /// The VM dies during the next operation, after so many writes.
    Crash(usize, u32),
    /// The proxy starts anew.
    Restart,
    /// The hub is restored to so many entries ago, and takes in so many others.
    Restore(usize, u64),
    /// The hub begins a new epoch.
    NewEpoch,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The clock of the proxy is set ahead by a day, or is right again.
    Jump(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let vm = || 0usize..2;
    prop_oneof![
        3 => (1u64..5).prop_map(Op::Signals),
        6 => vm().prop_map(Op::Tick),
        8 => (vm(), 1usize..5).prop_map(|(vm, cut)| Op::Deliver(vm, cut)),
        1 => vm().prop_map(Op::Fail),
        1 => vm().prop_map(Op::Lose),
        3 => (vm(), 0usize..12).prop_map(|(vm, ago)| Op::Replay(vm, ago)),
        2 => (vm(), 0usize..12, 1usize..5).prop_map(|(vm, from, cut)| Op::Mixed(vm, from, cut)),
        4 => (vm(), 1usize..5).prop_map(|(vm, batches)| Op::Step(vm, batches)),
        1 => vm().prop_map(Op::Die),
        2 => (vm(), 0u32..8).prop_map(|(vm, writes)| Op::Crash(vm, writes)),
        1 => Just(Op::Restart),
        1 => (1usize..4, 0u64..4).prop_map(|(back, again)| Op::Restore(back, again)),
        1 => Just(Op::NewEpoch),
        3 => (1u64..3_000).prop_map(Op::Wait),
        1 => any::<bool>().prop_map(Op::Jump),
    ]
}

fn run() -> impl Strategy<Value = (i64, Vec<Op>)> {
    let offset = prop_oneof![4 => Just(0i64), 1 => Just(30_000), 1 => Just(-30_000), 1 => Just(-90_000)];
    (offset, proptest::collection::vec(op(), 1..90))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happens_nothing_is_lost_and_nothing_is_claimed((offset, ops) in run()) {
        if let Err(broken) = World::new(offset).run(&ops) {
            prop_assert!(false, "{broken}");
        }
    }
}

#[test]
fn an_answer_for_a_proxy_of_another_history_is_not_taken() {
    use Op::{Deliver, Mixed, Restore, Signals, Step, Tick};
    // Number 1 stands for another signal now, and the answer begins there.
    let ops = [Signals(1), Tick(0), Deliver(0, 3), Restore(1, 2), Tick(0), Mixed(0, 1, 1), Step(0, 9)];
    assert_eq!(World::new(0).run(&ops), Ok(()));
    assert!(without(Rule::Chain, || World::new(0).run(&ops)).is_err());
}

#[test]
fn a_clock_that_is_set_ahead_for_a_moment_loses_nothing() {
    use Op::{Deliver, Jump, Signals, Step, Tick};
    let ops = [Signals(2), Tick(0), Deliver(0, 4), Jump(true), Signals(2), Deliver(0, 4), Step(0, 9), Jump(false)];
    assert_eq!(World::new(0).run(&ops), Ok(()));
}

/// One step of a proxy between two hubs that have the same name and the same key, and each a store of its own.
#[derive(Debug, Clone)]
enum Between {
    /// One of the hubs takes in signals.
    Signals(bool, u64),
    /// The VM is called by its timer.
    Tick(usize),
    /// One of the hubs answers the request of the VM.
    Deliver(bool, usize, usize),
    /// The VM goes on with its page.
    Step(usize, usize),
    /// Time passes, in milliseconds.
    Wait(u64),
}

fn between() -> impl Strategy<Value = Between> {
    let vm = || 0usize..2;
    prop_oneof![
        2 => (any::<bool>(), 1u64..4).prop_map(|(hub, count)| Between::Signals(hub, count)),
        6 => vm().prop_map(Between::Tick),
        8 => (any::<bool>(), vm(), 1usize..5).prop_map(|(hub, vm, cut)| Between::Deliver(hub, vm, cut)),
        4 => (vm(), 1usize..5).prop_map(|(vm, batches)| Between::Step(vm, batches)),
        2 => (1u64..3_000).prop_map(Between::Wait),
    ]
}

/// Runs `steps`. A state may become newer only by the hub whose history is the position, and only when everything that it
/// held at that time is there. A proxy that has caught up has so for good.
fn run_between(steps: &[Between]) -> Result<(), String> {
    let mut world = World::new(0);
    // What each hub held from each time on.
    let mut timelines = [1, 2].map(|epoch: u64| (epoch, vec![(BEGIN, BTreeSet::new())]));
    let mut other = Hub::begin(2, Vec::new());
    let (mut before, mut was_ready) = (0, false);
    for step in steps {
        world.clock += 1;
        let is_other = matches!(step, Between::Signals(true, _) | Between::Deliver(true, ..));
        if is_other {
            std::mem::swap(&mut world.hub, &mut other);
        }
        match *step {
            Between::Signals(_, count) => world.take_in(count),
            Between::Tick(vm) => world.apply(&Op::Tick(vm)),
            Between::Deliver(_, vm, cut) => world.apply(&Op::Deliver(vm, cut)),
            Between::Step(vm, batches) => world.apply(&Op::Step(vm, batches)),
            Between::Wait(milliseconds) => world.clock += milliseconds,
        }
        timelines[usize::from(is_other)].1.push((world.clock, world.hub.held.iter().copied().collect()));
        if is_other {
            std::mem::swap(&mut world.hub, &mut other);
        }
        world.proxy.view.force_refresh();
        world.proxy.view.refresh(&mut world.proxy.store).unwrap();
        let position = position::read(&mut world.proxy.store, world.source.id).unwrap();
        let said = feeds(&mut world.proxy.store).unwrap();
        let is_ready = said.of(world.source.id).is_some_and(|status| status.caught_up);
        if was_ready && !is_ready {
            return Err(format!("not caught up any more, by {step:?}"));
        }
        was_ready = is_ready;
        let heard = world.proxy.view.fresh_at(&[covered().id.transmitter(world.source.id)]).0 * 1_000;
        let fresh = position.fresh.max(heard);
        if fresh <= before {
            continue;
        }
        before = fresh;
        let followed = timelines.iter().find(|(epoch, _)| *epoch == position.applied.epoch);
        let (epoch, timeline) = followed.ok_or_else(|| format!("newer without a history, by {step:?}"))?;
        let (_, held) = timeline.iter().rev().find(|(at, _)| *at <= fresh).unwrap();
        if let Some(signal) = world.proxy.lacks(held) {
            return Err(format!("as new as the hub of epoch {epoch} without its signal {signal}, by {step:?}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn two_hubs_of_one_name_keep_nothing_fresh_that_was_not_taken_whole(steps in proptest::collection::vec(between(), 1..90)) {
        if let Err(broken) = run_between(&steps) {
            prop_assert!(false, "{broken}");
        }
    }
}

#[test]
fn a_proxy_between_two_hubs_is_fresh_by_the_one_that_it_follows() {
    use Between::{Deliver, Signals, Step, Tick, Wait};
    let begun = [Signals(false, 3), Signals(true, 3), Tick(0), Deliver(false, 0, 9), Step(0, 9)];
    // The other one answers in parts of which this one interrupts the second.
    let rest = [Deliver(true, 0, 1), Step(0, 9), Deliver(true, 0, 1), Deliver(false, 0, 1), Wait(6_000), Tick(0)];
    let steps: Vec<_> = begun.iter().chain(rest.iter().cycle().take(60)).cloned().collect();
    assert_eq!(run_between(&steps), Ok(()));
    let broken = without(Rule::Head, || (0..200).find_map(|seed| run_between(&mixed(seed)).err()));
    assert!(broken.is_some(), "the test does not notice that the rule is off");
}

#[test]
fn a_page_of_one_hub_says_nothing_about_the_state_once_the_other_one_is_followed() {
    use Between::{Deliver, Signals, Step, Tick, Wait};
    let news = |other| Signals(other, 1);
    let first = [news(false), Tick(0), news(false), Tick(0), Tick(0), news(false), Signals(true, 2), Tick(0), Tick(0)];
    // One VM begins a page of the first hub. Its lease ends, and the other VM takes the state of the second one.
    let then = [Deliver(false, 0, 1), Wait(1_998), Tick(1), Wait(1), news(false), news(true), Deliver(true, 1, 2)];
    let last = [Wait(1), Deliver(true, 1, 1), Step(1, 3), Step(0, 2), Step(1, 2)];
    let steps = [&first[..], &then, &last].concat();
    assert_eq!(run_between(&steps), Ok(()));
}

/// Steps that follow from `seed`.
fn mixed(seed: u64) -> Vec<Between> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    let mut step = || match next(8) {
        0 => Between::Signals(next(2) == 0, 1 + next(3)),
        1 | 2 => Between::Tick(next(2) as usize),
        3..=5 => Between::Deliver(next(2) == 0, next(2) as usize, 1 + next(4) as usize),
        6 => Between::Step(next(2) as usize, 1 + next(4) as usize),
        _ => Between::Wait(1 + next(3_000)),
    };
    (0..90).map(|_| step()).collect()
}

/// What happens until the model notices that a rule is off, and how far the clock of the proxy is ahead.
fn breaks(rule: Rule) -> (i64, Vec<Op>) {
    use Op::{Deliver, Mixed, Replay, Restart, Restore, Signals, Step, Tick, Wait};
    // The proxy has applied the first two signals, and asks for the next.
    let begun = [Signals(2), Tick(0), Deliver(0, 4)];
    let then = |more: &[Op]| begun.iter().chain(more).cloned().collect::<Vec<_>>();
    let ops = match rule {
        Rule::Chain => then(&[Restore(2, 2), Deliver(0, 1)]),
        Rule::AtGoesOn => then(&[Signals(1), Deliver(0, 4), Replay(0, 1), Step(0, 9)]),
        Rule::AtIsNotAhead => return (-90_000, vec![Tick(0), Deliver(0, 4)]),
        Rule::Nonce => then(&[Signals(1), Restart, Tick(0), Replay(0, 0), Step(0, 9)]),
        Rule::Target => then(&[Signals(4), Restart, Tick(0), Replay(0, 0), Step(0, 9), Deliver(0, 1), Step(0, 9)]),
        Rule::Gap => then(&[Signals(3), Mixed(0, 3, 4), Step(0, 9)]),
        Rule::Acknowledge | Rule::EntriesFirst => then(&[Signals(4), Deliver(0, 2)]),
        Rule::Head => then(&[Signals(4), Deliver(0, 3), Step(0, 9)]),
        Rule::Parts => {
            let part = [Deliver(0, 1), Step(0, 9)];
            let all = [Signals(3), Tick(0)].into_iter().chain(part.iter().cycle().take(6).cloned());
            all.chain([Restart, Tick(0)]).chain(part.clone()).chain([Replay(0, 1), Step(0, 9)]).collect()
        }
        Rule::Restart => then(&[Restore(2, 2), Deliver(0, 1), Wait(1_000), Tick(0), Deliver(0, 1), Step(0, 9)]),
    };
    (0, ops)
}

#[test]
fn each_rule_is_needed() {
    for rule in Rule::ALL {
        let (offset, ops) = breaks(rule);
        assert_eq!(World::new(offset).run(&ops), Ok(()), "{rule:?}");
        let broken = without(rule, || World::new(offset).run(&ops));
        // What breaks must be something that was claimed, not that the proxy does not get on.
        let claims = broken.as_ref().is_err_and(|broken| !broken.starts_with("the proxy does not"));
        assert!(claims, "the model does not notice that {rule:?} is off: {broken:?}");
    }
}

/// The store of a proxy, which can fail after some writes, as if the VM had died there.
struct Memory {
    memory: MemoryStore,
    writes_left: Option<u32>,
}

impl Store for Memory {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        // Buckets are made when they are first read.
        if matches!(slot, Slot::Bucket(_)) && self.memory.read(slot)?.is_none() {
            self.memory.seed(slot, &Table::default().encode())?;
        }
        self.memory.read(slot)
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        match &mut self.writes_left {
            Some(0) => return Err(StoreError::Failed),
            Some(left) => *left -= 1,
            None => {}
        }
        self.memory.swap(slot, bytes, cas)
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.memory.seed(slot, bytes)
    }

    fn doorbell(&mut self) -> Option<u64> {
        self.memory.doorbell()
    }

    fn ring(&mut self) -> Result<(), StoreError> {
        if self.writes_left == Some(0) { Err(StoreError::Failed) } else { self.memory.ring() }
    }
}

struct Vm {
    follower: Follower,
    request: Option<String>,
}

struct Proxy {
    store: Memory,
    vms: [Vm; 2],
    view: View,
    /// What the worker with `view` has read of each bucket, and when.
    read: HashMap<u16, (u64, Vec<u8>)>,
    /// What the hub held when the proxy started.
    held_at_start: BTreeSet<u64>,
    latest: [u64; 3],
}

/// A full state: its revision, and the entries of each part.
type FullState = (Revision, Vec<Vec<u64>>);

struct Hub {
    epoch: u64,
    /// The signals, by a number that is never used again, in their order.
    held: Vec<u64>,
    chains: Vec<Chain>,
    full: Vec<FullState>,
}

struct World {
    source: HubSource,
    clock: u64,
    offset: i64,
    hub: Hub,
    /// What the hub held from each time on.
    timeline: Vec<(u64, BTreeSet<u64>)>,
    /// What comes up to each revision that ever was.
    ledger: HashMap<Revision, BTreeSet<u64>>,
    /// All answers.
    answers: Vec<Vec<u8>>,
    proxy: Proxy,
    /// The revisions that were acknowledged by the last operation.
    acknowledged: Vec<Revision>,
    dying: Option<usize>,
    signals: u64,
    random: u64,
}

fn entry(signal: u64) -> FeedEntry {
    let entry = Entry {
        key: StateKey::new(Kind::Task, ISSUER, &signal.to_string()),
        fact: Fact::Completed,
        at: Timestamp(BEGIN / 1_000),
        until: Timestamp(BEGIN / 1_000 + 3_600),
        conditions: Vec::new(),
        data: Vec::new(),
        source: SourceTag::new("main", "idp", 1),
        lifted: false,
    };
    FeedEntry { entry, by: TransmitterId::new("idp") }
}

/// An entry that the hub puts into every page although the statement does not cover its issuer.
fn not_covered() -> FeedEntry {
    let mut entry = entry(0);
    entry.entry.key = StateKey::new(Kind::Task, "https://other.example", "task-1");
    entry
}

fn covered() -> CoveredIssuer {
    CoveredIssuer { id: IssuerId::new(ISSUER, &[]), token_retention: Span(60), session_retention: Span(60) }
}

fn source() -> HubSource {
    let (keys, _) = KeySet::from_jwks(&fixture::jwks(), &[Algorithm::ES256]).unwrap();
    HubSource {
        hub: "hub".to_owned(),
        feed: "main".to_owned(),
        id: FeedId::new("hub", "main"),
        cluster: "hub".to_owned(),
        host: "hub".to_owned(),
        path: "/v1/feeds/main".to_owned(),
        authorization: None,
        keys,
        keys_hash: [1; 8],
        wait: Span(25),
        needed: vec![covered()],
        config_hash: String::new(),
        closes_after: Some(Span(30)),
        vouched_within: None,
    }
}

impl Hub {
    fn head(&self) -> Revision {
        self.revision(self.held.len())
    }

    fn revision(&self, number: usize) -> Revision {
        Revision { epoch: self.epoch, number: number as u64, chain: self.chains[number] }
    }

    fn push(&mut self, signal: u64) {
        let mut bytes = Vec::new();
        entry(signal).encode(&mut bytes);
        self.held.push(signal);
        let chain = self.chains.last().unwrap().after(self.held.len() as u64, &bytes);
        self.chains.push(chain);
    }

    fn begin(epoch: u64, held: Vec<u64>) -> Hub {
        let mut hub = Hub { epoch, held: Vec::new(), chains: vec![Chain::default()], full: Vec::new() };
        held.into_iter().for_each(|signal| hub.push(signal));
        hub
    }
}

impl Proxy {
    fn new(source: &HubSource, now: u64, random: u64, held_at_start: BTreeSet<u64>) -> Proxy {
        let mut store = Memory { memory: MemoryStore::with_doorbell(), writes_left: None };
        store.seed(Slot::Journal, &Journal::default().encode()).unwrap();
        store.seed(Slot::Version, &Version { epoch: random, ..Version::default() }.encode()).unwrap();
        let mut names = [0; 32];
        names.iter_mut().zip(random.to_le_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
        follower::set_up(&mut store, source, names, now).unwrap();
        let vms = [1, 2].map(|number| Vm { follower: Follower::new(random * 8 + number), request: None });
        Proxy { store, vms, view: View::default(), read: HashMap::new(), held_at_start, latest: [0; 3] }
    }

    /// Whether a worker sees the entry of `signal`.
    fn sees(&mut self, signal: u64) -> bool {
        let key = entry(signal).entry.key;
        let (bucket, clock) = (key.bucket(), self.view.refresh(&mut self.store).unwrap());
        if !self.view.may_hold(bucket) {
            return false;
        }
        let current = self.read.get(&bucket).is_some_and(|(at, _)| self.view.is_current(&[bucket], *at));
        if !current {
            let stored = self.store.read(Slot::Bucket(bucket)).unwrap().unwrap();
            self.read.insert(bucket, (clock, stored.bytes));
        }
        !about(&self.read[&bucket].1, key).unwrap().entries.is_empty()
    }

    fn lacks(&mut self, signals: &BTreeSet<u64>) -> Option<u64> {
        signals.iter().copied().find(|signal| !self.sees(*signal))
    }
}

impl World {
    fn new(offset: i64) -> World {
        let (source, clock, hub) = (source(), BEGIN, Hub::begin(1, Vec::new()));
        let proxy = Proxy::new(&source, clock, 1, BTreeSet::new());
        let ledger = HashMap::from([(Revision::START, BTreeSet::new())]);
        let (timeline, answers, acknowledged, dying) = (Vec::new(), Vec::new(), Vec::new(), None);
        let mut world = World {
            source,
            clock,
            offset,
            hub,
            timeline,
            ledger,
            answers,
            proxy,
            acknowledged,
            dying,
            signals: 0,
            random: 1,
        };
        world.note();
        world
    }

    fn run(&mut self, ops: &[Op]) -> Result<(), String> {
        for (at, op) in ops.iter().enumerate() {
            self.clock += 1;
            let dying = self.dying.take();
            self.apply(op);
            if let Some(vm) = dying {
                self.proxy.store.writes_left = None;
                self.die(vm);
            }
            self.check().map_err(|broken| format!("{broken}, after operation {at}: {op:?}"))?;
        }
        self.settle()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Signals(count) => self.take_in(count),
            Op::Tick(vm) => self.act(vm, |follower, host| follower.tick(host)),
            Op::Deliver(vm, cut) => {
                let Some(path) = self.proxy.vms[vm].request.take() else { return };
                let answer = self.answer(&path, cut);
                self.hand_over(vm, answer, cut);
            }
            Op::Fail(vm) if self.proxy.vms[vm].request.take().is_some() => {
                self.hand_over(vm, Answer::Refused(503, None), 1);
            }
            Op::Lose(vm) if self.proxy.vms[vm].request.take().is_some() => self.hand_over(vm, Answer::None, 1),
            Op::Replay(vm, ago) if self.proxy.vms[vm].request.is_some() => {
                let Some(body) = self.answers.iter().rev().nth(ago).cloned() else { return };
                self.proxy.vms[vm].request = None;
                self.hand_over(vm, Answer::Page(body), 3);
            }
            Op::Mixed(vm, from, cut) if self.proxy.vms[vm].request.take().is_some() => {
                let from = from.min(self.hub.held.len());
                let body = self.changes(from, cut, None);
                self.hand_over(vm, Answer::Page(body), cut);
            }
            Op::Fail(_) | Op::Lose(_) | Op::Replay(..) | Op::Mixed(..) => {}
            Op::Step(vm, batches) => self.act(vm, |follower, host| follower.step(host, batches_of(batches))),
            Op::Die(vm) => self.die(vm),
            Op::Crash(vm, writes) => {
                self.dying = Some(vm);
                self.proxy.store.writes_left = Some(writes);
            }
            Op::Restart => {
                self.random += 1;
                let held = self.hub.held.iter().copied().collect();
                self.proxy = Proxy::new(&self.source, self.now(), self.random, held);
            }
            Op::Restore(back, again) => {
                let left = self.hub.held.len().saturating_sub(back);
                self.hub = Hub::begin(self.hub.epoch, self.hub.held[..left].to_vec());
                self.note();
                self.take_in(again);
            }
            Op::NewEpoch => {
                let held = self.hub.held.iter().rev().copied().collect();
                self.hub = Hub::begin(self.hub.epoch + 1, held);
                self.note();
            }
            Op::Wait(milliseconds) => self.clock += milliseconds,
            Op::Jump(ahead) => self.offset = if ahead { 86_400_000 } else { 0 },
        }
    }

    /// The proxy's clock.
    fn now(&self) -> u64 {
        self.clock.saturating_add_signed(self.offset)
    }

    fn take_in(&mut self, count: u64) {
        for _ in 0..count {
            self.signals += 1;
            self.hub.push(self.signals);
        }
        self.note();
    }

    fn note(&mut self) {
        self.timeline.push((self.clock, self.hub.held.iter().copied().collect()));
        for number in 0..=self.hub.held.len() {
            let held = self.hub.held[..number].iter().copied().collect();
            self.ledger.insert(self.hub.revision(number), held);
        }
    }

    fn die(&mut self, vm: usize) {
        self.random += 1;
        self.proxy.vms[vm] = Vm { follower: Follower::new(self.random * 8), request: None };
    }

    fn act(&mut self, vm: usize, action: impl FnOnce(&mut Follower, &mut Host<'_, Memory, TestSignatures>) -> Todo) {
        let now = self.now();
        let signatures = &mut TestSignatures { checks: 0, trusting: true };
        let Vm { follower, request } = &mut self.proxy.vms[vm];
        let mut host =
            Host { source: &self.source, store: &mut self.proxy.store, signatures, now, random: self.random };
        let todo = action(follower, &mut host);
        if let Some(sent) = todo.send {
            self.acknowledged.push(parameter(&sent.path, "applied").unwrap().parse().unwrap());
            *request = Some(sent.path);
        }
    }

    fn hand_over(&mut self, vm: usize, answer: Answer, batches: usize) {
        self.act(vm, |follower, host| follower.answer(host, answer, batches_of(batches)));
    }

    /// What the hub answers to the request for `path`.
    fn answer(&mut self, path: &str, cut: usize) -> Answer {
        let after: Revision = parameter(path, "after").unwrap().parse().unwrap();
        let nonce = parameter(path, "nonce").map(str::to_owned);
        let body = match (parameter(path, "state"), parameter(path, "part")) {
            (Some(state), Some(part)) => {
                let (state, part) = (state.parse().unwrap(), part.parse().unwrap());
                match self.part(state, part, nonce) {
                    Some(body) => body,
                    None => return Answer::Refused(404, None),
                }
            }
            _ => {
                let head = self.hub.head();
                let number = after.number as usize;
                if after.epoch == head.epoch && after.number > head.number {
                    return Answer::Refused(503, None);
                }
                // The heartbeat is shared by all that stand at its number.
                let is_known = after.number == head.number || self.hub.chains.get(number) == Some(&after.chain);
                if after.epoch == head.epoch && is_known {
                    self.changes(number, cut, nonce)
                } else {
                    self.full_state(cut);
                    let (revision, _) = *self.hub.full.last().unwrap();
                    self.part(revision, 0, nonce).unwrap()
                }
            }
        };
        self.answers.push(body.clone());
        Answer::Page(body)
    }

    fn changes(&self, from: usize, cut: usize, nonce: Option<String>) -> Vec<u8> {
        let to = self.hub.held.len().min(from + cut);
        self.page(&self.hub.held[from..to], from, self.hub.revision(to), None, nonce)
    }

    /// Cuts a full state, unless there is one.
    fn full_state(&mut self, cut: usize) {
        if self.hub.full.last().is_some_and(|(revision, _)| revision.number + 3 > self.hub.head().number) {
            return;
        }
        let mut held = self.hub.held.clone();
        held.sort_by_key(|signal| entry(*signal).entry.key.bucket());
        let mut parts: Vec<Vec<u64>> = held.chunks(cut).map(<[u64]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        self.hub.full.push((self.hub.head(), parts));
    }

    fn part(&self, state: Revision, number: u32, nonce: Option<String>) -> Option<Vec<u8>> {
        let (revision, parts) = self.hub.full.iter().find(|(revision, _)| *revision == state)?;
        let part = Part { part: number, parts: parts.len() as u32 };
        Some(self.page(parts.get(number as usize)?, 0, *revision, Some(part), nonce))
    }

    fn page(&self, signals: &[u64], prev: usize, upto: Revision, part: Option<Part>, nonce: Option<String>) -> Vec<u8> {
        let mut entries = Vec::new();
        signals.iter().for_each(|signal| entry(*signal).encode(&mut entries));
        if !signals.is_empty() {
            not_covered().encode(&mut entries);
        }
        let statement = Statement {
            hub: "hub".to_owned(),
            feed: "main".to_owned(),
            at: self.clock,
            prev: prev as u64,
            prev_chain: self.hub.chains[prev],
            upto,
            head: self.hub.head().number,
            format: FORMAT,
            count: signals.len() as u64,
            length: entries.len() as u64,
            digest: crate::encoding::digest::sha256(&entries),
            part,
            nonce,
            issuers: vec![IssuerStatus { covered: covered(), heard: Timestamp(self.clock / 1_000), lost: false }],
        };
        let header = serde_json::json!({"alg": "ES256", "typ": TYPE, "kid": "jit-1"});
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (header, claims) = (header.to_string(), statement.claims().to_string());
        // Signatures are not what this model is about.
        let jws = format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(&[1; 64]));
        [jws.as_bytes(), b"\n", &entries].concat()
    }

    fn check(&mut self) -> Result<(), String> {
        let key = not_covered().entry.key;
        let bucket = self.proxy.store.read(Slot::Bucket(key.bucket())).unwrap().unwrap();
        if !about(&bucket.bytes, key).unwrap().entries.is_empty() {
            return Err("the proxy holds an entry about an issuer that the feed does not cover".to_owned());
        }
        let now = self.now();
        for revision in std::mem::take(&mut self.acknowledged) {
            let claimed = self.ledger.get(&revision).ok_or_else(|| format!("{revision} was acknowledged"))?;
            if let Some(signal) = self.proxy.lacks(claimed) {
                return Err(format!("{revision} was acknowledged without signal {signal}"));
            }
        }
        let position = position::read(&mut self.proxy.store, self.source.id).unwrap();
        let claimed = self.ledger.get(&position.applied).ok_or("the position was never one")?;
        if let Some(signal) = self.proxy.lacks(claimed) {
            return Err(format!("the position is {} without signal {signal}", position.applied));
        }
        // A worker knows what it was told of: a VM that dies between the write and the ring tells nobody.
        self.proxy.view.refresh(&mut self.proxy.store).unwrap();
        if self.proxy.view.check_feed(self.source.id, &covered()).is_ok() {
            let held: BTreeSet<u64> = self.hub.held.iter().copied().collect();
            let due = self.proxy.held_at_start.intersection(&held).copied().collect();
            if let Some(signal) = self.proxy.lacks(&due) {
                return Err(format!("caught up without signal {signal}"));
            }
        }
        self.proxy.view.force_refresh();
        self.proxy.view.refresh(&mut self.proxy.store).unwrap();
        let heard = self.proxy.view.fresh_at(&[covered().id.transmitter(self.source.id)]).0 * 1_000;
        let held_now: BTreeSet<u64> = self.hub.held.iter().copied().collect();
        for fresh in [position.fresh, heard] {
            let (_, held) = self.timeline.iter().rev().find(|(at, _)| *at <= fresh.max(BEGIN)).unwrap();
            // What was heard is rounded down to a second, in which the hub may have been restored.
            let lost = if fresh == heard { held.difference(&held_now).copied().collect() } else { BTreeSet::new() };
            if let Some(signal) = self.proxy.lacks(&held.difference(&lost).copied().collect()) {
                return Err(format!("as new as {} without signal {signal}", fresh.saturating_sub(BEGIN)));
            }
            if fresh > now + position::MAX_AHEAD {
                return Err("newer than the clock of the proxy allows".to_owned());
            }
        }
        let latest = [position.at, position.fresh, heard];
        if latest.iter().zip(self.proxy.latest).any(|(now, before)| *now < before) {
            return Err("a time went back".to_owned());
        }
        self.proxy.latest = latest;
        Ok(())
    }

    /// Without faults, all that the hub holds comes to the proxy.
    fn settle(&mut self) -> Result<(), String> {
        self.proxy.store.writes_left = None;
        self.offset = 0;
        for round in 0..120 {
            self.clock += 1_000;
            // A hub whose head is below the position has nothing to say.
            let position = position::read(&mut self.proxy.store, self.source.id).unwrap();
            if position.applied.epoch == self.hub.epoch && position.applied.number > self.hub.head().number {
                self.take_in(1);
            }
            for vm in [0, 1] {
                self.apply(&Op::Tick(vm));
                for _ in 0..4 {
                    self.apply(&Op::Deliver(vm, 4));
                    self.apply(&Op::Step(vm, 100));
                }
            }
            self.check().map_err(|broken| format!("{broken}, in the end, round {round}"))?;
            let position = position::read(&mut self.proxy.store, self.source.id).unwrap();
            let is_ready = feeds(&mut self.proxy.store).unwrap().check(self.source.id, &covered()).is_ok();
            if is_ready && position.applied == self.hub.head() {
                let held = self.hub.held.iter().copied().collect();
                return self.proxy.lacks(&held).map_or(Ok(()), |signal| Err(format!("signal {signal} was lost")));
            }
        }
        Err("the proxy does not get to the head".to_owned())
    }
}

fn batches_of(count: usize) -> impl FnMut() -> bool {
    let mut left = count;
    move || {
        left = left.saturating_sub(1);
        left > 0
    }
}

fn parameter<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let (_, query) = path.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[test]
fn a_hub_that_asks_for_a_pause_is_left_alone_for_so_long() {
    let pause = |status, retry_after| {
        let mut world = World::new(0);
        world.apply(&Op::Tick(0));
        assert!(world.proxy.vms[0].request.take().is_some());
        world.hand_over(0, Answer::Refused(status, retry_after), 1);
        let begin = world.clock;
        while world.proxy.vms[0].request.is_none() {
            world.clock += 100;
            world.apply(&Op::Tick(0));
            assert!(world.clock < begin + 100_000, "it never asks again");
        }
        world.clock - begin
    };
    assert!(pause(503, None) <= 700, "the first pause is short");
    for status in [429, 503] {
        let asked = pause(status, Some(7));
        assert!((7_000..=8_800).contains(&asked), "{status}: {asked}");
        // `closes_after` of the model is 30 s.
        let long = pause(status, Some(3_600));
        assert!((10_000..=12_600).contains(&long), "{status}: {long}");
    }
    assert!(pause(500, Some(7)) <= 700, "it has no meaning there");
}

#[test]
fn a_part_that_came_early_is_begun_in_a_step_of_its_own() {
    let mut world = World::new(0);
    let is_paced = |world: &World| world.proxy.vms[0].follower.applies_full_state();
    let position = |world: &mut World| position::read(&mut world.proxy.store, world.source.id).unwrap();
    [Op::Signals(6), Op::Tick(0)].iter().for_each(|op| world.apply(op));
    assert!(!is_paced(&world));
    // Part 0 of 3 is begun, and part 1 comes meanwhile.
    [Op::Deliver(0, 2), Op::Deliver(0, 2)].iter().for_each(|op| world.apply(op));
    while position(&mut world).entries == 0 {
        world.apply(&Op::Step(0, 1));
        assert_eq!(world.proxy.vms[0].request, None, "part 1 waits");
    }
    world.apply(&Op::Tick(0));
    assert_eq!(world.proxy.vms[0].request, None, "part 1 is there, and is not asked for again");
    assert!(is_paced(&world));
    world.apply(&Op::Step(0, 1));
    assert!(world.proxy.vms[0].request.is_some(), "it is begun, and part 2 is asked for");
    world.apply(&Op::Deliver(0, 2));
    for _ in 0..20 {
        assert!(is_paced(&world) || position(&mut world).full.is_none(), "until the last part is applied");
        world.apply(&Op::Step(0, 1));
    }
    assert_eq!((is_paced(&world), position(&mut world).applied), (false, world.hub.head()));
}
