use super::*;
use crate::store::model::{Audit, FollowerRecord, PrincipalRecord, SignalRecord};
use crate::store::sqlite::SqliteStore;
use crate::store::testing::{FEED, block, lift, open, signal, store, stored};
use std::path::Path;
use std::sync::Mutex;
use taskfence_core::feed::revision::Chain;
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A writer over a new store.
fn writer() -> (Writer, Arc<Probe>, TempDir) {
    let (store, folder) = store();
    let probe = Probe::new(store);
    (start(&probe, QUEUE), probe, folder)
}

fn start(probe: &Arc<Probe>, queue: usize) -> Writer {
    start_with_feeds(probe, queue, &[FEED])
}

fn start_with_feeds(probe: &Arc<Probe>, queue: usize, feeds: &[&str]) -> Writer {
    let feeds: Vec<_> = feeds.iter().map(|feed| (*feed).to_owned()).collect();
    let store: Arc<dyn Store> = probe.clone();
    let clock = Clock::with_system(store.as_ref(), || 1_000_000).unwrap();
    let end = Arc::clone(probe);
    Writer::start_with(store, clock, &feeds, queue, move |why| {
        end.ended.lock().unwrap().replace(why.to_owned());
    })
    .unwrap()
}

fn change(jti: &str) -> Change {
    Change::Signal(signal("idp", jti, &[(&format!("task-{jti}"), 9_000)]))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Submits all at once; the outcomes in the order of `changes`.
fn submit_all(writer: &Writer, changes: Vec<Change>) -> Vec<Result<Outcome, SubmitError>> {
    runtime().block_on(futures_util::future::join_all(changes.into_iter().map(|change| writer.submit(change))))
}

#[test]
fn what_is_answered_is_there_after_reopening() {
    let (writer, _probe, folder) = writer();
    let outcomes = submit_all(&writer, (0..200).map(|n| change(&n.to_string())).collect());
    // Another process sees it, while this one has closed nothing.
    let store = open(&folder);
    let (entries, head) = store.entries_after(FEED, 0, usize::MAX, Timestamp(0)).unwrap();
    assert_eq!((entries.len(), head.number), (200, 200));
    for (outcome, entry) in outcomes.into_iter().zip(entries) {
        assert_eq!(stored(outcome.unwrap()).2, [entry], "in the order in which it was submitted");
    }
}

#[test]
fn many_at_once_share_a_commit_and_a_lone_one_does_not_wait() {
    let (writer, probe, _folder) = writer();
    submit_all(&writer, (0..500).map(|n| change(&n.to_string())).collect());
    let commits = probe.commits.lock().unwrap().len();
    assert!(commits <= 20, "{commits} commits for 500 signals");
    assert!(probe.commits.lock().unwrap().iter().all(|size| *size <= GROUP));
    let counts = writer.counts();
    assert_eq!((counts.stored, counts.groups), (500, u64::try_from(commits).unwrap()));
}

#[test]
fn those_who_listen_hear_every_commit_in_order_before_the_head_moves() {
    let (writer, _probe, _folder) = writer();
    let (mut commits, mut head) = (writer.committed(), writer.head(FEED));
    assert_eq!(head.borrow_and_update().number, 0);
    let outcomes = submit_all(&writer, (0..50).map(|n| change(&n.to_string())).collect());
    let revision = outcomes.into_iter().map(|outcome| stored(outcome.unwrap()).1).max_by_key(|one| one.number);
    assert_eq!(Some(*head.borrow()), revision);
    let mut last = 0;
    let mut chain = Chain::default();
    while let Ok(committed) = commits.try_recv() {
        for stored in &committed.entries {
            assert_eq!(stored.number, last + 1);
            (last, chain) = (stored.number, chain.after(stored.number, &stored.entry.bytes));
        }
        assert_eq!((committed.feed.as_str(), committed.revision.number, committed.revision.chain), (FEED, last, chain));
    }
    assert_eq!(last, 50);
    // What changes nothing is not announced.
    head.borrow_and_update();
    assert!(matches!(submit_all(&writer, vec![change("1")])[0], Ok(Outcome::Repeated { .. })));
    assert!(commits.try_recv().is_err() && !head.has_changed().unwrap());
    let unknown = writer.head("none");
    assert_eq!((*unknown.borrow(), unknown.has_changed().is_err()), (Revision::START, true));
}

/// What a listener has heard: it fails if a commit does not begin where the one before it ended.
struct Heard {
    commits: tokio::sync::broadcast::Receiver<Arc<Committed>>,
    head: Revision,
}

impl Heard {
    fn of(writer: &Writer) -> Heard {
        Heard { commits: writer.committed(), head: *writer.head(FEED).borrow() }
    }

    fn take_in(&mut self) -> Revision {
        while let Ok(committed) = self.commits.try_recv() {
            for stored in &committed.entries {
                assert_eq!(stored.number, self.head.number + 1);
                let chain = self.head.chain.after(stored.number, &stored.entry.bytes);
                self.head = Revision { number: stored.number, chain, ..self.head };
            }
            assert_eq!(self.head, committed.revision);
        }
        self.head
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    })]
    /// Each step: which of two replicas commits, and how many signals at once.
    #[test]
    fn two_writers_tell_the_same_commits_without_a_gap(
        steps in proptest::collection::vec((proptest::bool::ANY, 1..6usize), 1..12),
    ) {
        let (store, folder) = store();
        let writers = [start(&Probe::new(store), QUEUE), start(&Probe::new(open(&folder)), QUEUE)];
        let mut heard = [Heard::of(&writers[0]), Heard::of(&writers[1])];
        let mut made = 0;
        for (second, count) in steps {
            let changes: Vec<_> = (made..made + count).map(|n| change(&n.to_string())).collect();
            made += count;
            let own = usize::from(second);
            let outcomes = submit_all(&writers[own], changes);
            proptest::prop_assert!(outcomes.iter().all(Result::is_ok));
            // Its own commits, and those of the other before them, are told before it answers.
            proptest::prop_assert_eq!(heard[own].take_in().number, u64::try_from(made).unwrap());
        }
        // The one that committed nothing more hears of the rest when it looks.
        for (writer, heard) in writers.iter().zip(&mut heard) {
            let (mut head, all) = (writer.head(FEED), u64::try_from(made).unwrap());
            let waited = runtime().block_on(async {
                tokio::spawn(writer.follow_others(None));
                head.wait_for(|head| head.number == all).await.map(|head| *head)
            });
            proptest::prop_assert_eq!(waited.unwrap(), heard.take_in());
            proptest::prop_assert_eq!(heard.head, open(&folder).head(FEED).unwrap());
        }
    }
}

#[test]
fn the_room_that_another_replica_has_used_is_not_given_twice() {
    let (store, folder) = store();
    let (one, two) = (start(&Probe::new(store), QUEUE), start(&Probe::new(open(&folder)), QUEUE));
    let block = |jti: &str, n| Change::Signal(NewSignal { entries: vec![block("idp", n)], ..signal("idp", jti, &[]) });
    // 48 of 64 places are the share of one transmitter.
    let outcomes = submit_all(&one, (0..40).map(|n| block(&n.to_string(), n)).collect());
    assert!(outcomes.iter().all(Result::is_ok));
    // The first commit shows what the other has committed: before, this one counts none of it.
    assert!(submit_all(&two, vec![block("a", 40)])[0].is_ok());
    let outcomes = submit_all(&two, (41..60).map(|n| block(&n.to_string(), n)).collect());
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 7);
    // The same SET at both: the room that the second has taken for it is kept, since the first has stored it.
    assert!(matches!(submit_all(&two, vec![block("5", 5)])[0], Ok(Outcome::Repeated { .. })));
    assert!(submit_all(&two, vec![block("b", 70)])[0].is_err());
}

#[test]
fn a_new_epoch_is_told_while_the_writer_runs() {
    let (store, folder) = store();
    let writer = start(&Probe::new(store), QUEUE);
    submit_all(&writer, vec![change("1")]);
    let mut commits = writer.committed();
    let head = open(&folder).renew_feed(FEED, 99).unwrap();
    let outcome = submit_all(&writer, vec![change("2")]).remove(0).unwrap();
    let told = commits.try_recv().unwrap();
    assert_eq!((told.revision.epoch, told.revision, &*told.entries), (99, stored(outcome).1, &[][..]));
    assert_eq!(told.revision.number, head.number + 1);
    submit_all(&writer, vec![change("3")]);
    assert_eq!(commits.try_recv().unwrap().entries.len(), 1);
}

#[test]
fn whoever_may_not_store_refuses() {
    let (writer, _probe, _folder) = writer();
    writer.permit(Some(Instant::now()));
    assert!(matches!(submit_all(&writer, vec![change("1")])[0], Err(SubmitError::Store(StoreError::Failed(_)))));
    writer.permit(Some(Instant::now() + Duration::from_secs(60)));
    assert!(submit_all(&writer, vec![change("1")])[0].is_ok());
}

#[test]
fn one_that_cannot_be_stored_does_not_keep_the_others_from_it() {
    let (writer, probe, folder) = writer();
    probe.refused.lock().unwrap().extend(["7".to_owned(), "11".to_owned()]);
    let mut changes: Vec<_> = (0..20).map(|n| change(&n.to_string())).collect();
    let NewSignal { entries, .. } = signal("idp", "x", &[("x", 9_000)]);
    changes.push(Change::Signal(NewSignal { feed: "none".to_owned(), entries, ..signal("idp", "x", &[]) }));
    let outcomes = submit_all(&writer, changes);
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            7 | 11 => assert_eq!(*outcome, Err(SubmitError::Store(StoreError::Full("no room".to_owned())))),
            20 => assert_eq!(*outcome, Err(SubmitError::Store(StoreError::NoFeed("none".to_owned())))),
            _ => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    let (entries, head) = open(&folder).entries_after(FEED, 0, usize::MAX, Timestamp(0)).unwrap();
    assert_eq!((entries.len(), head.number, writer.counts().failed), (18, 18, 2));
    // The writer lives on, and what was refused comes again.
    probe.refused.lock().unwrap().clear();
    assert_eq!(stored(submit_all(&writer, vec![change("7")]).remove(0).unwrap()).1.number, 19);
}

#[test]
fn a_flood_in_one_feed_keeps_no_signal_of_another_out() {
    let (store, _folder) = store();
    let probe = Probe::new(store);
    let writer = start_with_feeds(&probe, 8, &[FEED, "other"]);
    let runtime = runtime();
    let submit = |feed: &str, jti: &str| {
        let Change::Signal(signal) = change(jti) else { panic!("a signal") };
        let (writer, change) = (writer.clone(), Change::Signal(NewSignal { feed: feed.to_owned(), ..signal }));
        runtime.spawn(async move { writer.submit(change).await })
    };
    let held = probe.gate.lock().unwrap();
    let first = submit(FEED, "first");
    while probe.waiting.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let flood: Vec<_> = (0..20).map(|n| submit(FEED, &n.to_string())).collect();
    // Of the eight places two are those of the other feed.
    let until = Instant::now() + Duration::from_secs(5);
    while writer.counts().overloaded < 14 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(writer.counts().overloaded, 14);
    let others: Vec<_> = (0..2).map(|n| submit("other", &n.to_string())).collect();
    let refused = runtime.block_on(async {
        while writer.shares.take("other").is_some() && Instant::now() < until {
            tokio::task::yield_now().await;
        }
        submit("other", "third").await.unwrap()
    });
    assert_eq!(refused, Err(SubmitError::Overloaded), "it has no more than its share either");
    drop(held);
    let answers = |all| runtime.block_on(futures_util::future::join_all(all));
    let taken =
        |all: Vec<_>| answers(all).into_iter().filter(|one| matches!(one, Ok(Ok(Outcome::Stored { .. })))).count();
    assert_eq!([taken(vec![first]), taken(flood), taken(others)], [1, 6, 2]);
}

#[test]
fn whoever_comes_while_too_many_wait_is_told_to_come_back() {
    let (store, _folder) = store();
    let probe = Probe::new(store);
    let writer = start(&probe, 2);
    let outcomes = {
        // The commit of the first waits for this.
        let held = probe.gate.lock().unwrap();
        let runtime = runtime();
        let submit = |jti: &str| {
            let (writer, change) = (writer.clone(), change(jti));
            runtime.spawn(async move { writer.submit(change).await })
        };
        let first = submit("first");
        while probe.waiting.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let more: Vec<_> = (0..5).map(|n| submit(&n.to_string())).collect();
        while writer.counts().overloaded < 3 {
            std::thread::yield_now();
        }
        drop(held);
        let all = std::iter::once(first).chain(more);
        runtime.block_on(futures_util::future::join_all(all)).into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(SubmitError::Overloaded)).count(), 3);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
}

#[test]
fn what_the_proxies_have_no_room_for_is_refused_and_repeats_are_not() {
    let (writer, probe, _folder) = writer();
    let block =
        |n: usize| Change::Signal(NewSignal { entries: vec![block("idp", n)], ..signal("idp", &n.to_string(), &[]) });
    let outcomes = submit_all(&writer, (0..60).map(block).collect());
    assert!(outcomes[..48].iter().all(Result::is_ok));
    assert!(
        outcomes[48..].iter().all(|outcome| matches!(outcome, Err(SubmitError::NoRoom { feed, .. }) if feed == FEED))
    );
    assert!(matches!(submit_all(&writer, vec![block(3)])[0], Ok(Outcome::Repeated { .. })));
    let (id, ..) = stored(outcomes[3].clone().unwrap());
    assert!(submit_all(&writer, vec![lift(id)])[0].is_ok(), "a lift needs no room");
    let counts = writer.counts();
    assert_eq!((counts.no_room, counts.repeated, counts.nearly_full), (12, 1, 4));
    // After a restart it is the same.
    drop(writer);
    let writer = start(&probe, QUEUE);
    assert!(matches!(submit_all(&writer, vec![block(50)])[0], Err(SubmitError::NoRoom { .. })));
    assert!(matches!(submit_all(&writer, vec![block(4)])[0], Ok(Outcome::Repeated { .. })));
}

#[test]
fn what_was_not_stored_gives_its_room_back() {
    let (writer, probe, _folder) = writer();
    let block =
        |n: usize| Change::Signal(NewSignal { entries: vec![block("idp", n)], ..signal("idp", &n.to_string(), &[]) });
    probe.refused.lock().unwrap().extend((0..40).map(|n| n.to_string()));
    assert!(submit_all(&writer, (0..40).map(block).collect()).iter().all(Result::is_err));
    probe.refused.lock().unwrap().clear();
    assert!(submit_all(&writer, (40..88).map(block).collect()).iter().all(Result::is_ok));
}

#[test]
fn a_commit_whose_outcome_is_not_known_ends_the_process_and_nobody_is_answered() {
    let (writer, probe, _folder) = writer();
    probe.uncertain.store(true, Ordering::Relaxed);
    let outcomes = submit_all(&writer, vec![change("1"), change("2")]);
    assert!(outcomes.iter().all(Result::is_err));
    while probe.ended.lock().unwrap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(probe.ended.lock().unwrap().as_deref(), Some("fsync"));
    assert!(submit_all(&writer, vec![change("3")])[0].is_err());
}

#[test]
fn a_restored_store_starts_a_new_epoch_once() {
    let (writer, probe, folder) = writer();
    submit_all(&writer, vec![change("1"), change("2")]);
    let old = *writer.head(FEED).borrow();
    let copy = folder.path().join("copy.sqlite");
    probe.backup(&copy).unwrap();
    let restored = Probe::new(SqliteStore::open(&copy).unwrap());
    let new = *start(&restored, QUEUE).head(FEED).borrow();
    assert_eq!((new.number, new.chain), (old.number, old.chain));
    assert_ne!(new.epoch, old.epoch);
    assert_eq!(restored.get(RESTORED), Ok(Some("1000000".to_owned())));
    assert_eq!(*start(&restored, QUEUE).head(FEED).borrow(), new, "only once");
    assert_eq!(*start(&probe, QUEUE).head(FEED).borrow(), old, "the store that it was made of goes on");
}

/// A store that can be made to fail.
struct Probe {
    store: SqliteStore,
    /// The sizes of the groups that were committed.
    commits: Mutex<Vec<usize>>,
    /// The `jti` of signals that have no room on the disk.
    refused: Mutex<Vec<String>>,
    uncertain: std::sync::atomic::AtomicBool,
    /// Commits wait for it.
    gate: Mutex<()>,
    waiting: AtomicU64,
    ended: Mutex<Option<String>>,
}

impl Probe {
    fn new(store: SqliteStore) -> Arc<Probe> {
        Arc::new(Probe {
            store,
            commits: Mutex::default(),
            refused: Mutex::default(),
            uncertain: false.into(),
            gate: Mutex::default(),
            waiting: AtomicU64::new(0),
            ended: Mutex::default(),
        })
    }
}

impl Store for Probe {
    fn open_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.store.open_feed(name, epoch)
    }
    fn renew_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.store.renew_feed(name, epoch)
    }
    fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock());
        if self.uncertain.load(Ordering::Relaxed) {
            return Err(StoreError::Uncertain("fsync".to_owned()));
        }
        let refused = self.refused.lock().unwrap();
        let is_refused = |change: &Change| matches!(change, Change::Signal(new) if refused.contains(&new.jti));
        if changes.iter().any(is_refused) {
            return Err(StoreError::Full("no room".to_owned()));
        }
        self.commits.lock().unwrap().push(changes.len());
        self.store.commit(changes)
    }
    fn head(&self, feed: &str) -> Result<Revision, StoreError> {
        self.store.head(feed)
    }
    fn chain(&self, feed: &str, number: u64) -> Result<Option<Chain>, StoreError> {
        self.store.chain(feed, number)
    }
    fn entries_after(
        &self,
        feed: &str,
        after: u64,
        max_bytes: usize,
        now: Timestamp,
    ) -> Result<(Vec<StoredEntry>, Revision), StoreError> {
        self.store.entries_after(feed, after, max_bytes, now)
    }
    fn full_state(
        &self,
        feed: &str,
        now: Timestamp,
        each: &mut dyn FnMut(StoredEntry),
    ) -> Result<Revision, StoreError> {
        self.store.full_state(feed, now, each)
    }
    fn about(
        &self,
        feed: &str,
        key: &StateKey,
        now: Timestamp,
    ) -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError> {
        self.store.about(feed, key, now)
    }
    fn signals(&self, feed: &str, query: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError> {
        self.store.signals(feed, query)
    }
    fn signals_after(&self, feed: &str, after: u64, limit: usize) -> Result<Vec<SignalRecord>, StoreError> {
        self.store.signals_after(feed, after, limit)
    }
    fn entries_of(&self, feed: &str, signal: u64) -> Result<Vec<StoredEntry>, StoreError> {
        self.store.entries_of(feed, signal)
    }
    fn audit(&self, records: &[Audit]) -> Result<(), StoreError> {
        self.store.audit(records)
    }
    fn audits(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
        self.store.audits(before, limit)
    }
    fn principals(&self) -> Result<Vec<PrincipalRecord>, StoreError> {
        self.store.principals()
    }
    fn put_principal(&self, principal: &PrincipalRecord) -> Result<(), StoreError> {
        self.store.put_principal(principal)
    }
    fn remove_principal(&self, name: &str) -> Result<bool, StoreError> {
        self.store.remove_principal(name)
    }
    fn put_followers(&self, followers: &[FollowerRecord]) -> Result<(), StoreError> {
        self.store.put_followers(followers)
    }
    fn followers(&self, feed: &str) -> Result<Vec<FollowerRecord>, StoreError> {
        self.store.followers(feed)
    }
    fn remove_followers(&self, feed: &str, ids: &[String]) -> Result<(), StoreError> {
        self.store.remove_followers(feed, ids)
    }
    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.store.set(name, value)
    }
    fn set_for_signals(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.store.set_for_signals(name, value)
    }
    fn check_room(&self) -> Result<(), StoreError> {
        self.store.check_room()
    }
    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.store.get(name)
    }
    fn values(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.store.values(prefix)
    }
    fn swap(&self, name: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, StoreError> {
        self.store.swap(name, expected, new)
    }
    fn latest_time(&self) -> Result<u64, StoreError> {
        self.store.latest_time()
    }
    fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.store.prune(now)
    }
    fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.store.backup(to)
    }
}
