//! Two replicas over one store: whoever follows either, or now one and then the other, comes to the same state.

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::feed::followers::written::Which;
use crate::feed::receipts::{Closes, Never};
use crate::feed::relayed::RelayReportAnswer;
use crate::feed::testing::{MemoryStore, SetClock, feeds};
use crate::feed::{Feeds, Receipts, Settings, router};
use crate::store::Store;
use crate::store::model::StoredEntry;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::feed::page::Page;
use taskfence_core::feed::revision::Revision;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;
use taskfence_core::jose::signature::PureRust;
use taskfence_core::time::Timestamp;
use tower::ServiceExt;

const NOW: u64 = 1_700_000_000_000;
const LATER: u64 = NOW / 1000 + 3600;

/// Two hubs over one store, with the same keys.
pub struct Pair {
    pub store: Arc<MemoryStore>,
    pub clock: SetClock,
    pub hubs: [Arc<Feeds>; 2],
    _directory: tempfile::TempDir,
}

impl Pair {
    pub fn new(tail_bytes: usize) -> Pair {
        let (store, clock) = (Arc::new(MemoryStore::new("main", 7)), SetClock::default());
        clock.set(NOW);
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path, replica: &str| {
            let settings = Settings { tail_bytes, replica: replica.to_owned(), shared: true, ..Settings::new("hub") };
            feeds(&store, path, clock.now(), settings)
        };
        let hubs = [open(directory.path(), "a"), open(directory.path(), "b")];
        Pair { store, clock, hubs, _directory: directory }
    }

    /// Hub `by` commits, and only it hears of that at once.
    fn commit(&self, by: usize, new: &[(u64, u64)]) -> (Vec<StoredEntry>, Revision) {
        let (entries, revision) = self.store.add(new);
        let feed = self.hubs[by].feed("main").unwrap();
        feed.announce(&entries, revision);
        feed.publish();
        (entries, revision)
    }

    /// `None`: to be asked again. That is so only while a new epoch begins.
    async fn page(&self, by: usize, id: usize, position: Revision, wait: u64) -> Option<Page> {
        self.page_as(by, &format!(r#"{{"id":"follower-{id}","node":"n-{id}"}}"#), position, wait).await
    }

    async fn page_as(&self, by: usize, report: &str, position: Revision, wait: u64) -> Option<Page> {
        let principal = Principal { name: "mesh".to_owned(), role: Role::Sidecar, feeds: Vec::new() };
        let request = Request::get(format!("/v1/feeds/main?after={position}&applied={position}&wait={wait}"));
        let request = request.header("taskfence-follower", report);
        let router = router(self.hubs[by].clone()).layer(axum::Extension(principal));
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        assert_eq!(response.status(), StatusCode::OK);
        let keys = KeySet::from_jwks(&self.hubs[by].keys().jwks(), &[Algorithm::ES256]).unwrap().0;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Some(Page::verify(&bytes, ("hub", "main"), &keys, &mut PureRust).unwrap())
    }
}

/// A follower that keeps the rules of the page. The states of these tests have one part.
#[derive(Default)]
struct Follower {
    id: usize,
    /// The replica that it asked last.
    last: usize,
    position: Revision,
    entries: BTreeSet<Vec<u8>>,
    at: u64,
}

impl Follower {
    /// Returns whether it has everything.
    async fn poll(&mut self, pair: &Pair, by: usize) -> bool {
        // An answer without news takes more than a second, and only such an answer leaves the position as it was.
        pair.clock.tick(if by == self.last { 7 } else { 1_100 });
        self.last = by;
        let Some(page) = pair.page(by, self.id, self.position, 0).await else { return false };
        let statement = page.statement();
        if statement.part.is_none() {
            assert_eq!((statement.prev, statement.prev_chain), (self.position.number, self.position.chain));
            assert_eq!(statement.upto.epoch, self.position.epoch);
            assert!(statement.at >= self.at, "`at` never goes back, whichever replica answers");
        } else {
            self.entries.clear();
        }
        let mut bytes = page.entries();
        while let Some((length, _)) = bytes.split_first_chunk::<2>() {
            let (entry, rest) = bytes.split_at(2 + usize::from(u16::from_le_bytes(*length)));
            self.entries.insert(entry.to_vec());
            bytes = rest;
        }
        (self.position, self.at) = (statement.upto, statement.at);
        assert!(statement.part.is_some() || statement.head >= self.position.number);
        self.position.number == statement.head
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// One of the hubs commits so many entries.
    Commit(usize, usize),
    /// A follower asks one of the hubs.
    Poll(usize, usize),
    /// A hub hears late, and again, of what it committed itself.
    Again(usize),
    NewEpoch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2_usize, 1..9_usize).prop_map(|(by, count)| Step::Commit(by, count)),
        8 => (0..3_usize, 0..2_usize).prop_map(|(follower, by)| Step::Poll(follower, by)),
        2 => (0..2_usize).prop_map(Step::Again),
        1 => Just(Step::NewEpoch),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn followers_of_either_replica_come_to_one_state(
        steps in steps(), tail_bytes in prop_oneof![Just(0_usize), Just(1_000), Just(1 << 20)],
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let pair = Pair::new(tail_bytes);
            let mut followers = [0, 1, 2].map(|id| Follower { id, ..Follower::default() });
            let (mut next, mut told) = (0, [Vec::new(), Vec::new()]);
            for step in steps {
                match step {
                    Step::Commit(by, count) => {
                        let new: Vec<_> = (next..next + count as u64).map(|name| (name, LATER)).collect();
                        next += count as u64;
                        told[by].push(pair.commit(by, &new));
                    }
                    Step::Poll(follower, by) => _ = followers[follower].poll(&pair, by).await,
                    Step::Again(by) => {
                        for (entries, revision) in &told[by] {
                            let epoch = pair.store.head("main").unwrap().epoch;
                            pair.hubs[by].feed("main").unwrap().announce(entries, Revision { epoch, ..*revision });
                        }
                    }
                    Step::NewEpoch => pair.store.set_epoch(pair.store.head("main").unwrap().epoch + 1),
                }
            }
            let mut all = BTreeSet::new();
            let each = &mut |entry: StoredEntry| _ = all.insert(entry.entry.bytes);
            let head = pair.store.full_state("main", Timestamp(NOW / 1000), each).unwrap();
            for (first, follower) in followers.iter_mut().enumerate() {
                let mut rounds = 0;
                while !(follower.poll(&pair, (first + rounds) % 2).await && follower.position == head) {
                    rounds += 1;
                    assert!(rounds < 20, "a follower gets there");
                }
                assert_eq!(follower.entries, all);
            }
        });
    }
}

#[tokio::test]
async fn who_waits_at_one_replica_hears_of_a_commit_of_the_other_and_of_a_new_epoch() {
    let pair = Pair::new(1 << 20);
    let (entries, first) = pair.commit(0, &[(1, LATER)]);
    let other = pair.hubs[1].feed("main").unwrap();
    let follow = async {
        let page = pair.page(1, 1, Revision { epoch: 7, ..Revision::START }, 20).await.unwrap();
        assert_eq!((page.statement().upto, page.statement().count), (first, 1));
        pair.page(1, 1, first, 20).await.unwrap()
    };
    let commit = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        other.announce(&entries, first);
        other.publish();
        tokio::time::sleep(Duration::from_millis(50)).await;
        pair.store.set_epoch(8);
        other.catch_up().unwrap();
    };
    let (page, ()) =
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(follow, commit) }).await.unwrap();
    assert_eq!((page.statement().upto.epoch, page.statement().part.is_some()), (8, true), "all anew, without a start");
}

#[tokio::test]
async fn a_receipt_of_either_replica_counts_the_followers_of_both() {
    let pair = Pair::new(1 << 20);
    let stop = Arc::new(tokio::sync::Notify::new());
    let mut running = Vec::new();
    for hub in &pair.hubs {
        let (_told, committed) = tokio::sync::broadcast::channel(1);
        let stopped = stop.clone();
        running.push(tokio::spawn(hub.clone().run(committed, async move { stopped.notified().await })));
    }
    let ask =
        async |by: usize, id: usize, position: Revision| pair.page(by, id, position, 0).await.unwrap().statement().upto;
    let start = Revision { epoch: 7, ..Revision::START };
    for id in 0..4 {
        ask(id % 2, id, start).await;
    }
    let (_, revision) = pair.commit(0, &[(1, LATER)]);
    let receipt = async |by: usize, wait| {
        let receipts = Receipts::new(pair.hubs[by].clone());
        receipts.wait("main", 1, Duration::from_millis(wait)).await.unwrap().unwrap()
    };
    for by in 0..2 {
        let receipt = receipt(by, 0).await;
        let waiting: Vec<_> = receipt.waiting.iter().map(|one| (one.id.as_str(), one.closes)).collect();
        let never = Closes::Never(Never::NoLimit);
        assert_eq!(waiting.len(), 4, "{by}: {waiting:?}");
        assert!(waiting.iter().all(|(_, closes)| *closes == never));
    }
    // Each acknowledges where it was not before: it stays one follower, of the replica that it came to last.
    let acknowledged = async {
        pair.clock.tick(50);
        for id in 0..4 {
            ask((id + 1) % 2, id, revision).await;
        }
    };
    let (first, second, ()) = tokio::join!(receipt(0, 5_000), receipt(1, 5_000), acknowledged);
    for receipt in [first, second] {
        assert_eq!((receipt.complete, receipt.confirmed, receipt.waiting.len()), (true, 4, 0));
    }
    for (by, own) in [(0, "a"), (1, "b")] {
        let all = pair.hubs[by].feed("main").unwrap().followers.all();
        assert_eq!(all.len(), 4);
        assert_eq!(all.iter().filter(|(_, follower)| *follower.replica == *own).count(), 2);
    }
    stop.notify_waiters();
}

#[tokio::test]
async fn a_follower_closes_itself_by_the_time_of_the_commit_whichever_replica_signed_last() {
    let pair = Pair::new(1 << 20);
    let ask = async |by: usize, position: Revision| {
        let report = r#"{"id":"follower-1","node":"n","mode":"enforce","stale_after":30}"#;
        pair.page_as(by, report, position, 0).await.unwrap()
    };
    let start = Revision { epoch: 7, ..Revision::START };
    ask(0, start).await;
    pair.clock.tick(5_000);
    // The first replica has not heard of this.
    let signed = ask(1, start).await.statement().at;
    pair.clock.tick(5_000);
    pair.commit(0, &[(1, LATER)]);
    let committed = NOW + 10_000;
    pair.clock.tick(20_000);
    for by in 0..2 {
        pair.hubs[by].feed("main").unwrap().catch_up().unwrap();
        let receipt = Receipts::new(pair.hubs[by].clone()).wait("main", 1, Duration::ZERO).await.unwrap().unwrap();
        let Closes::At(at) = receipt.waiting[0].closes else { panic!("{receipt:?}") };
        assert!(at >= signed + 90_000, "no earlier than by the last statement that it has");
        // The second one hears of the commit 20 s later.
        let heard = committed + if by == 0 { 0 } else { 20_000 };
        assert_eq!(at, heard + 2_000 + 30_000 + 60_000);
    }
}

#[tokio::test]
async fn a_follower_is_not_silent_while_the_replica_that_it_came_to_lives() {
    let pair = Pair::new(1 << 20);
    let report = r#"{"id":"follower-1","node":"n","mode":"enforce","stale_after":5}"#;
    pair.page_as(1, report, Revision { epoch: 7, ..Revision::START }, 0).await.unwrap();
    let first = pair.hubs[0].feed("main").unwrap();
    pair.hubs[0].mirror(&first).await.unwrap();
    let alive = |at: u64| first.followers.note_alive([("b".into(), at)].into_iter());
    pair.clock.tick(600_000);
    alive(NOW + 600_000);
    assert_eq!(first.followers.expire(), [""; 0]);
    // It died at once.
    alive(NOW);
    assert_eq!(first.followers.expire(), ["follower-1"]);
}

#[tokio::test]
async fn a_position_that_only_the_other_replica_has_reached_is_not_ahead() {
    let pair = Pair::new(1 << 20);
    let (_, revision) = pair.commit(0, &[(1, LATER), (2, LATER)]);
    let page = pair.page(1, 1, revision, 0).await.unwrap();
    assert_eq!((page.statement().upto, page.statement().part), (revision, None));
}

#[tokio::test]
async fn a_relay_may_take_pages_from_one_replica_and_tell_the_other_of_its_proxies() {
    let pair = Pair::new(1 << 20);
    let call = async |by: usize, request: Request<Body>| {
        let principal = Principal { name: "edge".to_owned(), role: Role::Relay, feeds: Vec::new() };
        let router = router(pair.hubs[by].clone()).layer(axum::Extension(principal));
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let poll = async |by: usize| {
        let start = Revision { epoch: 7, ..Revision::START };
        let request = Request::get(format!("/v1/feeds/main?after={start}&applied={start}"));
        call(by, request.header("taskfence-follower", r#"{"id":"relay-0001"}"#).body(Body::empty()).unwrap()).await
    };
    let tell = async |by: usize, followers: serde_json::Value| {
        let body = serde_json::json!({"instance": "run", "followers": followers, "gone": []}).to_string();
        let answer = call(by, Request::post("/v1/feeds/main/followers").body(Body::from(body)).unwrap()).await;
        let answer: RelayReportAnswer = serde_json::from_slice(&answer).unwrap();
        assert!(answer.unknown.is_empty(), "{answer:?}");
        answer.memory
    };
    let receipt = async |by: usize| {
        let receipts = Receipts::new(pair.hubs[by].clone());
        receipts.wait("main", 1, Duration::ZERO).await.unwrap().unwrap()
    };
    let (_, revision) = pair.commit(0, &[(1, LATER)]);
    pair.hubs[1].feed("main").unwrap().catch_up().unwrap();
    // A page of one replica: the other one knows at once that there is a relay, and that it has said nothing.
    poll(1).await;
    assert!(!receipt(0).await.complete);
    let proxy = |applied: Revision, report: bool| {
        let mut proxy = serde_json::json!({
            "id": "follower-1", "principal": "mesh", "applied": applied.to_string(), "seen_ms": pair.clock.now()(),
        });
        if report {
            proxy["report"] = serde_json::json!({"id": "follower-1", "node": "n", "mode": "enforce", "stale_after": 5});
        }
        serde_json::json!([proxy])
    };
    let memory = tell(0, proxy(Revision::START, true)).await;
    // It is known to the other replica although nothing runs that writes it later.
    assert_eq!(receipt(1).await.waiting[0].id, "edge/follower-1");
    pair.clock.tick(10);
    assert_eq!(tell(1, proxy(revision, false)).await, memory, "nothing is to be reported again");
    let write = async |by: usize| {
        let feed = pair.hubs[by].feed("main").unwrap();
        pair.clock.tick(10);
        while pair.hubs[by].write_batch(&feed, Which::Changed).await.is_some() {}
        assert!(pair.hubs[by].write_relays(&feed, true).await);
    };
    write(1).await;
    assert!(!receipt(0).await.complete, "the relay may know of another proxy by now");
    tell(0, serde_json::json!([])).await;
    write(0).await;
    for by in 0..2 {
        let receipt = receipt(by).await;
        assert_eq!((receipt.complete, receipt.confirmed_by_relays), (true, 1), "{by}: {receipt:?}");
    }
    // Its proxy is silent, but may still get what the relay takes from the other replica.
    pair.clock.tick(600_000);
    poll(0).await;
    write(0).await;
    receipt(1).await;
    let [first, second] = [0, 1].map(|by| pair.hubs[by].feed("main").unwrap());
    assert_eq!((first.followers.expire(), second.followers.expire()), (Vec::new(), Vec::new()));
    pair.clock.tick(80_000);
    assert_eq!(second.followers.expire(), ["edge/follower-1"]);
}

#[tokio::test]
async fn a_follower_that_could_not_be_removed_from_the_store_is_removed_later() {
    let pair = Pair::new(1 << 20);
    let report = r#"{"id":"follower-1","node":"n","mode":"enforce","stale_after":5}"#;
    pair.page_as(0, report, Revision { epoch: 7, ..Revision::START }, 0).await.unwrap();
    let feed = pair.hubs[0].feed("main").unwrap();
    pair.clock.tick(600_000);
    pair.store.fail(true);
    pair.hubs[0].write(&feed, Which::Changed, Duration::ZERO).await;
    pair.store.fail(false);
    assert_eq!((feed.followers.count().0, pair.store.followers("main").unwrap().len()), (0, 1));
    pair.hubs[0].write(&feed, Which::Changed, Duration::ZERO).await;
    assert_eq!(pair.store.followers("main").unwrap(), [], "no other replica waits for it");
}
