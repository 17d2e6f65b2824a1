//! Signals that share a place, undone one by one, against what each of several proxies holds.
//!
//! Proxies take pages that end anywhere, in any order within a page and twice, stand still for long, begin anew with a full
//! state, and the file of the store may be replaced by an older copy. After each step:
//!
//! - a proxy lacks nothing that was said up to its number and stands, wherever its last page ended;
//! - a new proxy has exactly what stands: what all undone signals said is not there;
//! - what a proxy had and what was undone is gone once it has all changes.
//!
//! A proxy that knows more than a store that was set back keeps what it knows, also what was undone; of what comes after
//! that it lacks nothing. A proxy that had no news for more than 30 days may keep what was undone.
//!
//! With any one rule of the generations switched off, some history breaks one of these.

use super::*;
use crate::store::rule::Rule;
use crate::store::rule::tests::without;
use crate::store::testing::ISSUER;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use taskfence_core::feed::entry::FeedEntry;
use taskfence_core::state::bucket::{Entry, SourceTag, Table, about};
use taskfence_core::state::freshness::TransmitterId;

const BEGIN: u64 = 100_000;
const DAY: u64 = 86_400;

/// What signals say: a user is cut off, a client is stopped, a task is completed. All of it may stand in one bucket of
/// these proxies.
const SAID: [(Kind, &str, Fact); 3] = [
    (Kind::User, "alice", Fact::CutOff),
    (Kind::Client, "agent", Fact::Blocked),
    (Kind::Task, "task-1", Fact::Completed),
];

const STREAMS: [&str; 2] = ["idp", "operator"];

#[derive(Debug, Clone)]
enum Step {
    /// The stream says something, which happened so many seconds ago, and is kept for so long.
    Say(usize, usize, u64, u64),
    /// The signal with this place in the history is undone.
    Undo(usize),
    /// So many seconds pass, and the store is pruned.
    Wait(u64),
    /// The process ends, and another one opens the store.
    Reopen,
    /// The file is copied.
    Copy,
    /// The file is replaced by the copy.
    SetBack,
    /// A proxy takes a page of so many entries, from the last to the first where that is true.
    Page(usize, usize, bool),
}

#[derive(Debug, Clone)]
struct Said {
    id: u64,
    stream: usize,
    what: usize,
    at: u64,
    until: u64,
    number: u64,
    undone: bool,
}

#[derive(Clone, Default)]
struct Proxy {
    table: Table,
    number: u64,
    chain: Chain,
    /// It has seen what the store has forgotten: what came after this number.
    ahead_of: Option<u64>,
    /// It took a page since the copy was made.
    has_news: bool,
    /// When it last had all changes.
    seen: u64,
    /// It once had not for more than 30 days.
    was_away: bool,
}

struct World<'h> {
    store: Option<Arc<dyn Store>>,
    home: &'h Home,
    now: u64,
    next: u64,
    said: Vec<Said>,
    copied: Option<(Vec<Said>, u64)>,
    copies: u64,
    proxies: [Proxy; 2],
}

impl<'h> World<'h> {
    fn new(home: &'h Home) -> World<'h> {
        let store = home.store();
        let (said, copied) = (Vec::new(), None);
        World {
            store: Some(store),
            home,
            now: BEGIN,
            next: 0,
            said,
            copied,
            copies: 0,
            proxies: [(); 2].map(|()| Proxy { seen: BEGIN, ..Proxy::default() }),
        }
    }

    fn store(&self) -> &dyn Store {
        &**self.store.as_ref().unwrap()
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for (at, step) in steps.iter().enumerate() {
            self.apply(step);
            self.check().map_err(|broken| format!("{broken}, after step {at}: {step:?}"))?;
        }
        Ok(())
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Say(stream, what, ago, life) => self.say(stream, what, self.now - ago, life),
            Step::Undo(which) => {
                let standing: Vec<_> = (0..self.said.len()).filter(|at| !self.said[*at].undone).collect();
                let Some(at) = standing.get(which).copied() else { return };
                let (feed, by, reason) = (FEED.to_owned(), "ann".to_owned(), "mistake".to_owned());
                let signal = self.said[at].id;
                let outcome = commit(self.store(), Change::Lift { feed, signal, by, reason, at: self.now * 1_000 });
                self.said[at].undone = outcome != Outcome::Unknown;
            }
            Step::Wait(seconds) => {
                self.now += seconds;
                self.store().prune(Timestamp(self.now)).unwrap();
            }
            Step::Reopen => {
                self.store = None;
                self.store = Some(self.home.open());
            }
            Step::Copy => {
                self.copies += 1;
                self.home.copy(self.store(), self.copies);
                let number = self.store().head(FEED).unwrap().number;
                self.copied = Some((self.said.clone(), number));
                self.proxies.iter_mut().for_each(|proxy| proxy.has_news = false);
            }
            Step::SetBack => {
                let Some((said, number)) = self.copied.clone() else { return };
                self.store = None;
                self.home.set_back(self.copies);
                self.store = Some(self.home.open());
                self.said = said;
                self.now += 2;
                for proxy in self.proxies.iter_mut().filter(|proxy| proxy.has_news) {
                    proxy.ahead_of = Some(number);
                }
            }
            Step::Page(proxy, count, reverse) => self.page(proxy, count, reverse),
        }
    }

    fn say(&mut self, stream: usize, what: usize, at: u64, life: u64) {
        let (kind, name, fact) = SAID[what];
        let until = if fact == Fact::Blocked { Timestamp::MAX.0 } else { self.now + life };
        let key = StateKey::new(kind, ISSUER, name);
        let entry = Entry {
            key,
            fact,
            at: Timestamp(at),
            until: Timestamp(until),
            conditions: Vec::new(),
            data: Vec::new(),
            source: SourceTag::new(FEED, STREAMS[stream], 0),
            lifted: false,
        };
        let mut bytes = Vec::new();
        FeedEntry { entry, by: TransmitterId::new(STREAMS[stream]) }.encode(&mut bytes);
        let entry = crate::store::model::NewEntry {
            bytes,
            key: key.encode().to_vec(),
            bucket: key.bucket(),
            until: Timestamp(until),
        };
        self.next += 1;
        let new = signal(STREAMS[stream], &self.next.to_string(), &[]);
        let new = NewSignal { taken_in: self.now * 1_000, entries: vec![entry], ..new };
        let (id, revision, _) = stored(add(self.store(), new));
        self.said.push(Said { id, stream, what, at, until, number: revision.number, undone: false });
    }

    /// A page of changes; from the start where the history is another one.
    fn page(&mut self, proxy: usize, count: usize, reverse: bool) {
        let now = Timestamp(self.now);
        let before = self.proxies[proxy].clone();
        let head = self.store().head(FEED).unwrap();
        let is_known =
            before.number <= head.number && self.store().chain(FEED, before.number).unwrap() == Some(before.chain);
        let (mut entries, number, chain) = if is_known {
            let (all, _) = self.store().entries_after(FEED, before.number, usize::MAX, now).unwrap();
            let page: Vec<_> = all.iter().take(count).cloned().collect();
            let is_all = page.len() == all.len();
            let number = if is_all { head.number } else { page.last().unwrap().number };
            (page, number, self.store().chain(FEED, number).unwrap().unwrap())
        } else {
            let mut all = Vec::new();
            let head = self.store().full_state(FEED, now, &mut |stored| all.push(stored)).unwrap();
            (all, head.number, head.chain)
        };
        if reverse {
            entries.reverse();
        }
        let proxy = &mut self.proxies[proxy];
        for stored in entries.iter().chain(&entries) {
            insert(&mut proxy.table, stored, now);
        }
        (proxy.number, proxy.chain, proxy.has_news) = (number, chain, true);
        proxy.was_away |= self.now > proxy.seen + 30 * DAY;
        if number == head.number {
            proxy.seen = self.now;
        }
    }

    fn check(&self) -> Result<(), String> {
        let now = Timestamp(self.now);
        let mut new = Table::default();
        self.store().full_state(FEED, now, &mut |stored| insert(&mut new, &stored, now)).unwrap();
        let head = self.store().head(FEED).unwrap();
        for stream in 0..STREAMS.len() {
            for what in 0..SAID.len() {
                let place = |said: &&Said| (said.stream, said.what) == (stream, what);
                let standing = |after: u64, upto: u64| {
                    let comes = |said: &&Said| after < said.number && said.number <= upto;
                    let stands = |said: &&Said| !said.undone && said.until > self.now && comes(said);
                    self.said.iter().filter(place).filter(stands).map(|said| said.at).max()
                };
                let held = held(&new, stream, what, now);
                if held < standing(0, u64::MAX) {
                    return Err(format!("{stream} {what}: a new proxy lacks what stands"));
                }
                // What has ended may be kept for longer, but not what was undone.
                let said = self.said.iter().filter(place).filter(|said| !said.undone).map(|said| said.at).max();
                if held > said {
                    return Err(format!("{stream} {what}: a new proxy has what was undone"));
                }
                for (number, proxy) in self.proxies.iter().enumerate() {
                    let held = self::held(&proxy.table, stream, what, now);
                    let known = self.store().chain(FEED, proxy.number).unwrap() == Some(proxy.chain);
                    if known && held < standing(proxy.ahead_of.unwrap_or(0), proxy.number) {
                        return Err(format!("{stream} {what}: proxy {number} lacks what stands at {}", proxy.number));
                    }
                    let is_exact = proxy.ahead_of.is_none() && !proxy.was_away;
                    let has_all = (proxy.number, proxy.chain) == (head.number, head.chain);
                    if has_all && is_exact && held > said {
                        return Err(format!("{stream} {what}: proxy {number} has what was undone"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn insert(table: &mut Table, stored: &StoredEntry, now: Timestamp) {
    match decode(&stored.entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => assert!(table.insert(read.entry, read.by, now)),
        other => panic!("{other:?}"),
    }
}

/// Up to when sessions are refused by what a stream said: the later, the more.
fn held(table: &Table, stream: usize, what: usize, now: Timestamp) -> Option<u64> {
    let (kind, name, _) = SAID[what];
    let about = about(&table.encode(), StateKey::new(kind, ISSUER, name)).unwrap();
    let of_stream = |entry: &&Entry| entry.source.stream() == SourceTag::new(FEED, STREAMS[stream], 0).stream();
    about
        .entries
        .iter()
        .filter(of_stream)
        .filter(|entry| !entry.lifted && entry.until > now)
        .map(|entry| entry.at.0)
        .max()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let say = (0..STREAMS.len(), 0..SAID.len(), 0u64..50, 1u64..9_000);
    let step = prop_oneof![
        6 => say.prop_map(|(stream, what, ago, life)| Step::Say(stream, what, ago, life)),
        4 => (0usize..6).prop_map(Step::Undo),
        2 => (0u64..5_000).prop_map(Step::Wait),
        1 => (0u64..40).prop_map(|days| Step::Wait(days * DAY)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Copy),
        1 => Just(Step::SetBack),
        5 => (0usize..2, 1usize..4, any::<bool>()).prop_map(|(proxy, count, reverse)| Step::Page(proxy, count, reverse)),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Databases are made by the server one after the other.
fn cases(home: &Home) -> u32 {
    if home.postgres.is_some() { 12 } else { 60 }
}

fn whatever_is_undone_nothing_that_stands_is_lacking_and_nothing_undone_stays(home: &mut Home) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases(home)) };
    let mut runner = TestRunner::new(config);
    let is_postgres = home.postgres.is_some();
    let run = |steps: Vec<Step>| {
        let home = if is_postgres { Home::postgres("undo").unwrap() } else { Home::sqlite() };
        World::new(&home).run(&steps).map_err(TestCaseError::fail)
    };
    runner.run(&steps(), run).unwrap();
}

/// What breaks when the rule is off.
fn breaks(rule: Rule) -> Vec<Step> {
    use Step::{Copy, Page, Say, SetBack, Undo, Wait};
    let (user, client) = (0, 1);
    match rule {
        // The second begins a generation of its own, and the first is not said again.
        Rule::Union => vec![Say(0, user, 1, 9_000), Wait(10), Say(0, user, 40, 9_000)],
        Rule::Next => {
            vec![Say(0, user, 1, 9_000), Say(0, user, 9, 9_000), Page(0, 4, false), Undo(0), Page(0, 4, false)]
        }
        Rule::Standing => vec![Say(0, client, 0, 1), Say(0, client, 0, 1), Undo(0)],
        Rule::Outlive => vec![Say(0, client, 0, 1), Say(0, client, 0, 1), Undo(0), Undo(0), Wait(31 * DAY)],
        Rule::Time => vec![
            Say(0, client, 0, 1),
            Copy,
            Undo(0),
            Page(0, 4, false),
            SetBack,
            Say(0, client, 0, 1),
            Page(0, 4, false),
        ],
    }
}

fn each_rule_is_needed(home: &mut Home) {
    let new = || if home.postgres.is_some() { Home::postgres("undo").unwrap() } else { Home::sqlite() };
    for rule in Rule::ALL {
        let steps = breaks(rule);
        assert_eq!(World::new(&new()).run(&steps), Ok(()), "{rule:?}");
        let broken = without(rule, || World::new(&new()).run(&steps));
        assert!(broken.is_err(), "the model does not notice that {rule:?} is off");
    }
}

on_every_engine! { whatever_is_undone_nothing_that_stands_is_lacking_and_nothing_undone_stays, each_rule_is_needed }
