//! The rules of the protocol that are the hub's side, by requests as a follower makes them.

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::feed::followers::written::Which;
use crate::feed::keys::Keys;
use crate::feed::known_keys::lacking;
use crate::feed::receipts::{Closes, Never};
use crate::feed::testing::{MemoryStore, SetClock, entry, feeds};
use crate::feed::{Feeds, Now, Receipts, Settings, router};
use crate::health::Ahead;
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::model::{Change, NewSignal, Outcome};
use crate::store::sqlite::SqliteStore;
use crate::store::writer::Writer;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::feed::page::{MAX_ENTRIES, Page};
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::feed::statement::Statement;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;
use taskfence_core::jose::signature::PureRust;
use taskfence_core::time::Timestamp;
use tower::ServiceExt;

const NOW: u64 = 1_700_000_000_000;
const LATER: u64 = NOW / 1000 + 3600;

struct Hub {
    store: Arc<MemoryStore>,
    clock: SetClock,
    directory: tempfile::TempDir,
    feeds: Arc<Feeds>,
    settings: Settings,
}

impl Hub {
    fn new() -> Hub {
        Hub::with(Settings::new("hub"))
    }

    fn with(settings: Settings) -> Hub {
        let (store, clock) = (Arc::new(MemoryStore::new("main", 7)), SetClock::default());
        clock.set(NOW);
        let directory = tempfile::tempdir().unwrap();
        let feeds = feeds(&store, directory.path(), clock.now(), settings.clone());
        Hub { store, clock, directory, feeds, settings }
    }

    /// The hub starts again.
    fn restart(&mut self) {
        self.feeds = feeds(&self.store, self.directory.path(), self.clock.now(), self.settings.clone());
    }

    fn add(&self, new: &[(u64, u64)]) -> Revision {
        let (entries, revision) = self.store.add(new);
        let feed = self.feeds.feed("main").unwrap();
        feed.announce(&entries, revision);
        feed.publish();
        revision
    }

    fn keys(&self) -> KeySet {
        KeySet::from_jwks(&self.feeds.keys().jwks(), &[Algorithm::ES256]).unwrap().0
    }

    fn router(&self, principal: &str) -> Router {
        let principal = Principal { name: principal.to_owned(), role: Role::Sidecar, feeds: vec!["main".to_owned()] };
        router(self.feeds.clone()).layer(axum::Extension(principal))
    }

    async fn get(&self, query: &str, report: &str) -> Response<Body> {
        let request = Request::get(format!("/v1/feeds/main?{query}")).header("taskfence-follower", report);
        self.router("proxy").oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn page(&self, query: &str, report: &str) -> Page {
        let response = self.get(query, report).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        let length: usize =
            response.headers().get("content-length").map_or(0, |v| v.to_str().unwrap().parse().unwrap());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(length == 0 || length == bytes.len());
        let page = Page::verify(&bytes, ("hub", "main"), &self.keys(), &mut PureRust).unwrap();
        assert!(page.entries().len() <= MAX_ENTRIES);
        assert_eq!(split(page.entries()).len() as u64, page.statement().count);
        page
    }

    async fn statement(&self, after: Revision, more: &str) -> Statement {
        let query = format!("after={after}&applied={}{more}", Revision::START);
        self.page(&query, &report("follower-1", "")).await.statement().clone()
    }
}

fn report(id: &str, more: &str) -> String {
    format!(r#"{{"id":"{id}","node":"node-{id}","mode":"enforce"{more}}}"#)
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some((length, _)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = bytes.split_at(2 + usize::from(u16::from_le_bytes(*length)));
        entries.push(entry.to_vec());
        bytes = rest;
    }
    entries
}

/// A follower that keeps the rules of the page.
struct Follower {
    id: String,
    position: Revision,
    entries: BTreeSet<Vec<u8>>,
    at: u64,
}

impl Follower {
    fn new(id: usize) -> Follower {
        Follower { id: format!("follower-{id}"), position: Revision::START, entries: BTreeSet::new(), at: 0 }
    }

    /// One request. Returns whether it has everything.
    async fn poll(&mut self, hub: &Hub) -> bool {
        let position = self.position;
        let mut page = hub.page(&format!("after={position}&applied={position}"), &report(&self.id, "")).await;
        if let Some(first) = page.statement().part {
            assert_eq!(first.part, 0);
            for part in 1..=first.parts {
                let statement = page.statement().clone();
                self.entries.extend(split(page.entries()));
                self.position = statement.upto;
                if part < first.parts {
                    let query = format!("after={position}&applied={position}&state={}&part={part}", statement.upto);
                    page = hub.page(&query, &report(&self.id, "")).await;
                    assert_eq!((page.statement().upto, page.statement().part.unwrap().part), (statement.upto, part));
                }
            }
        } else {
            let statement = page.statement();
            assert!(statement.prev <= self.position.number && self.position.number <= statement.upto.number);
            assert_eq!(statement.upto.epoch, self.position.epoch);
            self.entries.extend(split(page.entries()));
            self.position = statement.upto;
        }
        assert!(page.statement().part.is_some() || page.statement().at >= self.at, "`at` never goes back");
        self.at = self.at.max(page.statement().at);
        self.position.number == page.statement().head
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Adds so many entries; every third one has ended already.
    Add(usize),
    Poll(usize),
    Restart,
    /// A backup that lacks the last entries is restored.
    Restore(usize),
    NewEpoch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..40_usize).prop_map(Step::Add),
        8 => (0..3_usize).prop_map(Step::Poll),
        1 => Just(Step::Restart),
        1 => (1..30_usize).prop_map(Step::Restore),
        1 => Just(Step::NewEpoch),
    ];
    proptest::collection::vec(step, 1..40)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn followers_come_to_the_state_of_the_store(steps in steps(), tail_bytes in prop_oneof![Just(0_usize), Just(2_000), Just(1 << 20)]) {
        run(async {
            let mut hub = Hub::with(Settings { tail_bytes, ..Settings::new("hub") });
            let mut followers: Vec<_> = (0..3).map(Follower::new).collect();
            let (mut next, mut lost_history) = (0, false);
            for step in steps {
                match step {
                    Step::Add(count) => {
                        let new: Vec<_> = (0..count as u64).map(|i| (next + i, if i % 3 == 2 { 1 } else { LATER })).collect();
                        next += count as u64;
                        hub.add(&new);
                    }
                    Step::Poll(follower) => _ = followers[follower].poll(&hub).await,
                    Step::Restart => hub.restart(),
                    Step::Restore(lost) => {
                        let number = hub.store.head("main").unwrap().number as usize;
                        hub.store.restore(number.saturating_sub(lost));
                        // What was lost is there again under other numbers: what it is about differs.
                        next += 1_000;
                        hub.restart();
                        lost_history = true;
                        // Until the new history is as long, a follower of the old one is ahead: it waits.
                        hub.add(&(0..lost as u64).map(|i| (next + i, LATER)).collect::<Vec<_>>());
                        next += lost as u64;
                    }
                    Step::NewEpoch => {
                        hub.store.set_epoch(hub.store.head("main").unwrap().epoch + 1);
                        hub.restart();
                    }
                }
            }
            let head = hub.store.head("main").unwrap();
            let mut kept = BTreeSet::new();
            hub.store.full_state("main", Timestamp(NOW / 1000), &mut |entry| _ = kept.insert(entry.entry.bytes)).unwrap();
            for follower in &mut followers {
                let mut rounds = 0;
                while !follower.poll(&hub).await {
                    rounds += 1;
                    assert!(rounds < 50, "a follower gets there");
                }
                assert_eq!(follower.position, head);
                assert!(follower.entries.is_superset(&kept));
                assert!(lost_history || follower.entries == kept, "nothing that has ended, nothing invented");
            }
        });
    }
}

#[tokio::test]
async fn a_follower_that_knows_more_gets_the_highest_format_of_the_hub() {
    let hub = Hub::new();
    let start = Revision { epoch: 7, ..Revision::START };
    hub.add(&[(1, LATER), (2, LATER)]);
    for format in ["", "&format=1", "&format=2", "&format=255", "&format=70000"] {
        let page =
            hub.page(&format!("after={start}&applied={}{format}", Revision::START), &report("follower-1", "")).await;
        assert_eq!((page.statement().format, page.statement().count), (1, 2), "{format}");
    }
    let refused = hub.get(&format!("after={start}&applied={start}&format=0"), &report("follower-1", "")).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "there is no lower one");
}

#[tokio::test]
async fn a_page_names_prev_upto_chain_and_head() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let three = hub.add(&[(2, 1), (3, LATER)]);
    let statement = hub.statement(one, "").await;
    assert_eq!((statement.prev, statement.upto, statement.head, statement.count), (1, three, 3, 1));
    assert_eq!((statement.part, statement.nonce, statement.format), (None, None, 1));
    let heartbeat = hub.statement(three, "").await;
    assert_eq!((heartbeat.prev, heartbeat.upto, heartbeat.head, heartbeat.count), (3, three, 3, 0));
}

#[tokio::test]
async fn another_history_another_epoch_and_a_forgotten_chain_get_the_full_state() {
    let mut hub = Hub::new();
    let head = hub.add(&[(1, LATER), (2, LATER), (3, LATER)]);
    hub.restart();
    for byte in 0..8 {
        let mut chain = head.chain;
        chain.0[byte] ^= 1;
        let part = hub.statement(Revision { chain, ..head }, "").await.part;
        assert_eq!(part.map(|part| (part.part, part.parts)), Some((0, 1)), "byte {byte} of the chain");
    }
    assert!(hub.statement(Revision { epoch: 8, ..head }, "").await.part.is_some());
    assert!(hub.statement(Revision { epoch: 8, number: 99, ..head }, "").await.part.is_some());
    let full = hub.statement(Revision::START, "").await;
    assert_eq!((full.prev, full.upto, full.part.map(|part| part.parts)), (0, head, Some(1)));
    assert!(hub.statement(head, "").await.part.is_none());
    let one = Revision { number: 1, chain: hub.store.chain("main", 1).unwrap().unwrap(), ..head };
    assert!(hub.statement(one, "").await.part.is_none());
    hub.store.oldest_chain.store(2, std::sync::atomic::Ordering::SeqCst);
    assert!(hub.statement(one, "").await.part.is_some(), "whether it is this history cannot be known");
}

#[tokio::test(start_paused = true)]
async fn a_position_ahead_of_the_store_waits_and_is_never_from_0() {
    let hub = Hub::new();
    hub.add(&[(1, LATER)]);
    let ahead = Revision { epoch: 7, number: 2, chain: Chain([1; 8]) };
    let query = |wait| format!("after={ahead}&applied={}&wait={wait}", Revision::START);
    let response = hub.get(&query(3), &report("follower-1", "")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let retry: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&retry));
    let (query, mine) = (query(20), report("follower-1", ""));
    let asked = hub.page(&query, &mine);
    let store = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        hub.add(&[(2, LATER)])
    };
    let (page, _) = tokio::join!(asked, store);
    assert!(page.statement().part.is_some(), "its chain is another one");
}

#[tokio::test(start_paused = true)]
async fn half_of_the_followers_know_that_the_store_was_set_back() {
    let mut hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let (two, three) = (hub.add(&[(2, LATER)]), hub.add(&[(3, LATER)]));
    let said = async |hub: &Hub, id: &str, applied: Revision| {
        let (query, id) = (format!("after={applied}&applied={applied}"), report(&format!("follower-{id}"), ""));
        hub.get(&query, &id).await.status()
    };
    let is_most = |hub: &Hub| {
        let mut ahead = Ahead::default();
        hub.feeds.feed("main").unwrap().followers.all().iter().for_each(|(_, follower)| ahead.count(follower));
        ahead.is_most()
    };
    for (id, applied) in [("a", three), ("b", two), ("c", one), ("d", Revision { epoch: 6, ..three })] {
        assert_eq!(said(&hub, id, applied).await, StatusCode::OK);
    }
    assert!(!is_most(&hub), "each stands in this history, or in one before it");
    // The copy is from before these two moved on.
    hub.store.restore(1);
    hub.store.remove_followers("main", &["follower-a".to_owned(), "follower-b".to_owned()]).unwrap();
    hub.restart();
    assert!(!is_most(&hub), "none was heard of");
    assert_eq!(said(&hub, "c", one).await, StatusCode::OK);
    assert_eq!(said(&hub, "d", one).await, StatusCode::OK);
    assert_eq!(said(&hub, "a", three).await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!is_most(&hub), "one says so, and nobody else");
    // The numbers go on, with other entries.
    hub.add(&[(4, LATER)]);
    assert_eq!(said(&hub, "b", two).await, StatusCode::OK);
    assert!(is_most(&hub));
    hub.store.oldest_chain.store(9, std::sync::atomic::Ordering::SeqCst);
    hub.restart();
    assert_eq!(said(&hub, "b", two).await, StatusCode::OK);
    assert!(!is_most(&hub), "whether it is this history cannot be known");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_what_is_new_and_gets_a_heartbeat_otherwise() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let begun = tokio::time::Instant::now();
    assert_eq!(hub.statement(one, "&wait=90").await.count, 0);
    assert_eq!(begun.elapsed().as_secs(), 25, "no longer than the hub allows");
    let store = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        hub.add(&[(2, LATER)])
    };
    let begun = tokio::time::Instant::now();
    let (statement, two) = tokio::join!(hub.statement(one, "&wait=20"), store);
    assert_eq!((statement.upto, statement.count, begun.elapsed().as_secs()), (two, 1, 2));
    let tell = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        hub.clock.set(NOW + 70);
        hub.feeds.feed("main").unwrap().tell_coverage().await;
    };
    let (statement, ()) = tokio::join!(hub.statement(two, "&wait=20"), tell);
    assert_eq!((statement.count, begun.elapsed().as_secs()), (0, 4), "what is covered is told to all who wait");
    assert_eq!(statement.at, NOW + 70, "by a new read");
    let close = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        hub.feeds.close();
    };
    let (statement, ()) = tokio::join!(hub.statement(two, "&wait=20"), close);
    assert_eq!((statement.count, begun.elapsed().as_secs()), (0, 6), "a hub that stops answers all who wait");
}

#[tokio::test]
async fn at_never_goes_back_for_a_follower() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let two = hub.add(&[(2, LATER)]);
    let first = hub.statement(one, "").await;
    let other = async || hub.page(&format!("after={one}&applied={one}"), &report("follower-2", "")).await;
    assert_eq!(*other().await.statement(), first);
    hub.clock.set(NOW + 100);
    let same = hub.statement(one, "").await;
    assert_eq!(first, same, "the page is shared");
    let newer = hub.statement(two, "&nonce=n").await;
    assert_eq!((newer.at, newer.nonce.as_deref()), (NOW + 100, Some("n")));
    let again = hub.statement(one, "").await;
    assert_eq!((again.at, again.upto, again.digest), (NOW + 100, first.upto, first.digest), "signed anew");
    assert_eq!(other().await.statement().at, NOW, "for others it is still good");
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_nonce_does_not_wait() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let begun = tokio::time::Instant::now();
    let statement = hub.statement(one, "&wait=20&nonce=n").await;
    assert_eq!((statement.count, statement.upto, begun.elapsed().as_secs()), (0, one, 0));
}

#[tokio::test]
async fn a_nonce_is_repeated_in_a_statement_of_a_new_read() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    assert_eq!(hub.statement(one, "").await.nonce, None);
    let before = hub.store.head_reads();
    for after in [Revision::START, one, Revision { epoch: 7, ..Revision::START }] {
        let statement = hub.statement(after, "&nonce=n-1").await;
        assert_eq!(statement.nonce.as_deref(), Some("n-1"));
        assert_eq!(hub.statement(after, "").await.nonce, None, "for that request alone");
    }
    assert!(hub.store.head_reads() >= before + 3);
}

#[tokio::test(start_paused = true)]
async fn an_old_head_is_never_signed_as_a_new_one() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    assert_eq!(hub.statement(one, "").await.at, NOW);
    hub.store.fail(true);
    hub.clock.set(NOW + 1_000);
    assert_eq!(hub.statement(one, "").await.at, NOW, "a second old, and says so");
    hub.clock.set(NOW + 3_000);
    let query = format!("after={one}&applied={}&wait=1", Revision::START);
    let response = hub.get(&query, &report("follower-1", "")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let response = hub.get(&format!("{query}&nonce=a"), &report("follower-1", "")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    hub.store.fail(false);
    assert_eq!(hub.statement(one, "").await.at, NOW + 3_000);
}

#[tokio::test]
async fn all_who_wait_get_the_same_bytes_signed_once() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let ask = async |id: usize| {
        let query = format!("after={one}&applied={one}&wait=20");
        let response = hub.get(&query, &report(&format!("follower-{id}"), "")).await;
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let pages = futures_util::future::join_all((0..100).map(ask));
    let add = async {
        tokio::task::yield_now().await;
        hub.add(&[(2, LATER)])
    };
    let (pages, _) = tokio::join!(pages, add);
    // An ES256 signature here is random: equal bytes were signed once.
    assert!(pages.iter().all(|page| *page == pages[0]));
}

#[tokio::test]
async fn a_full_state_has_parts_and_a_later_state_does_not_mix_in() {
    let hub = Hub::new();
    let head = hub.add(&(0..20_000).map(|task| (task, LATER)).collect::<Vec<_>>());
    let first = hub.statement(Revision::START, "").await;
    let parts = first.part.unwrap().parts;
    assert!(parts > 2, "{parts}");
    hub.add(&[(99_999, LATER)]);
    let mut count = first.count;
    for part in 1..parts {
        let next = hub.statement(Revision::START, &format!("&state={head}&part={part}")).await;
        assert_eq!((next.upto, next.head, next.prev), (head, 20_001, 0));
        assert_eq!(next.part.unwrap().is_last(), part + 1 == parts);
        count += next.count;
    }
    assert_eq!(count, 20_000);
    let other = Revision { number: 3, ..head };
    let query = format!("after={head}&applied={head}&state={other}&part=1");
    assert_eq!(hub.get(&query, &report("follower-1", "")).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn who_may_not_and_what_is_wrong_is_refused() {
    let hub = Hub::new();
    let good = format!("after={0}&applied={0}", Revision::START);
    let uri = |feed: &str| format!("/v1/feeds/{feed}?{good}");
    let status = async |router: Router, uri: String, report: Option<&str>| {
        let mut request = Request::get(uri);
        if let Some(report) = report {
            request = request.header("taskfence-follower", report);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    let mine = report("follower-1", "");
    let mine = Some(mine.as_str());
    assert_eq!(status(router(hub.feeds.clone()), uri("main"), mine).await, 401);
    assert_eq!(status(hub.router("proxy"), uri("other"), mine).await, 403);
    let all = Principal { name: "a".to_owned(), role: Role::Sidecar, feeds: vec![] };
    assert_eq!(status(router(hub.feeds.clone()).layer(axum::Extension(all)), uri("other"), mine).await, 404);
    let other = Principal { name: "a".to_owned(), role: Role::Transmitter, feeds: vec![] };
    assert_eq!(status(router(hub.feeds.clone()).layer(axum::Extension(other)), uri("main"), mine).await, 403);
    assert_eq!(status(hub.router("proxy"), uri("main"), None).await, 400);
    assert_eq!(status(hub.router("proxy"), uri("main"), Some("{}")).await, 400);
    assert_eq!(status(hub.router("proxy"), "/v1/feeds/main?after=1".to_owned(), mine).await, 400);
    assert_eq!(status(hub.router("proxy"), uri("main"), mine).await, 200);
    assert_eq!(status(hub.router("thief"), uri("main"), mine).await, 403, "the id belongs to another");
    assert_eq!(status(hub.router("proxy"), uri("main"), mine).await, 200);
}

#[tokio::test]
async fn only_applied_acknowledges() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let receipts = Receipts::new(hub.feeds.clone());
    let receipt = async || receipts.wait("main", 1, Duration::ZERO).await.unwrap().unwrap();
    let poll = async |after: Revision, applied: Revision, id: &str, more: &str| {
        hub.page(&format!("after={after}&applied={applied}"), &report(id, more)).await;
    };
    let begin = Revision { epoch: 7, ..Revision::START };
    poll(one, begin, "follower-1", r#","stale_after":90"#).await;
    let waiting = receipt().await;
    assert_eq!((waiting.confirmed, waiting.complete, waiting.waiting.len()), (0, false, 1), "`after` runs ahead");
    poll(one, one, "follower-1", r#","stale_after":90"#).await;
    let done = receipt().await;
    assert_eq!((done.confirmed, done.complete, done.revision), (1, true, one));
    assert_eq!(done.slowest.unwrap().node, "node-follower-1");
    poll(one, Revision { chain: Chain([7; 8]), ..one }, "follower-2", "").await;
    assert_eq!(receipt().await.waiting.len(), 1, "another history is not this one");
    poll(Revision::START, Revision::START, "follower-3", "").await;
    assert_eq!((receipt().await.starting, receipt().await.waiting.len()), (1, 2), "it may have applied a page");
    assert_eq!(receipts.wait("main", 2, Duration::ZERO).await.unwrap(), None);
}

#[tokio::test]
async fn a_receipt_says_by_when_the_others_close() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let poll = async |id: &str, more: &str| {
        hub.page(&format!("after={one}&applied={one}"), &report(id, more)).await;
    };
    hub.clock.set(NOW + 10_000);
    poll("follower-a", r#","stale_after":90"#).await;
    poll("follower-b", "").await;
    poll("follower-c", r#","stale_after":90,"mode":"shadow""#).await;
    hub.clock.set(NOW + 20_000);
    hub.add(&[(2, LATER)]);
    // It gets the page, and does not say that it has applied it.
    poll("follower-a", r#","stale_after":90"#).await;
    let receipt = Receipts::new(hub.feeds.clone()).wait("main", 2, Duration::ZERO).await.unwrap().unwrap();
    let mut closes: Vec<_> = receipt.waiting.iter().map(|waiting| (waiting.id.as_str(), waiting.closes)).collect();
    closes.sort_by_key(|(id, _)| *id);
    assert_eq!(
        closes,
        [
            ("follower-a", Closes::At(NOW + 10_000 + 90_000 + 60_000)),
            ("follower-b", Closes::Never(Never::NoLimit)),
            ("follower-c", Closes::Never(Never::Shadow)),
        ]
    );
    assert_eq!(receipt.committed_at, Some(NOW + 20_000));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_woken_by_the_last_acknowledgement() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let poll = async |id: &str, node: &str, applied: Revision| {
        let report = format!(r#"{{"id":"{id}","node":"{node}","stale_after":90}}"#);
        hub.page(&format!("after={applied}&applied={applied}"), &report).await;
    };
    poll("follower-1", "n", one).await;
    poll("follower-2", "n", one).await;
    poll("follower-3", "m", one).await;
    let two = hub.add(&[(2, LATER)]);
    let receipts = Receipts::new(hub.feeds.clone());
    let begun = tokio::time::Instant::now();
    let acknowledge = async {
        for (id, node) in [("follower-1", "n"), ("follower-3", "m"), ("follower-2", "n")] {
            let now = receipts.wait("main", 2, Duration::ZERO).await.unwrap().unwrap();
            assert!(!now.complete);
            tokio::time::sleep(Duration::from_secs(3)).await;
            hub.clock.set(NOW + begun.elapsed().as_millis() as u64);
            poll(id, node, two).await;
        }
    };
    let (receipt, ()) = tokio::join!(receipts.wait("main", 2, Duration::from_secs(600)), acknowledge);
    let receipt = receipt.unwrap().unwrap();
    assert_eq!(begun.elapsed().as_secs(), 9);
    assert!(receipt.complete);
    assert_eq!(receipt.confirmed, 2, "two followers of one node are one");
    let slowest = receipt.slowest.unwrap();
    assert_eq!((slowest.node.as_str(), slowest.applied_at), ("n", NOW + 9_000));
    let latency = hub.feeds.feed("main").unwrap().followers.latency.snapshot();
    assert_eq!((latency.buckets.iter().sum::<u64>(), latency.sum), (3, Duration::from_secs(18)));
}

#[tokio::test]
async fn an_empty_store_says_that_there_may_be_proxies_and_which_come_from_another_one() {
    let mut hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let wait = async |hub: &Hub| {
        let receipts = Receipts::new(hub.feeds.clone());
        receipts.wait("main", one.number, Duration::ZERO).await.unwrap().unwrap()
    };
    assert_eq!(wait(&hub).await.may_miss_until, Some(NOW + 24 * 3_600_000), "nobody follows, as far as it knows");
    let foreign = |hub: &Hub| {
        let all = hub.feeds.feed("main").unwrap().followers.all();
        all.into_iter().map(|(_, follower)| follower.foreign_at).max().unwrap_or_default()
    };
    let said = async |hub: &Hub, applied: Revision| {
        hub.page(&format!("after={}&applied={applied}", Revision::START), &report("follower-a", "")).await
    };
    for ours in [Revision::START, one, Revision { number: 9, ..one }] {
        said(&hub, ours).await;
        assert_eq!(foreign(&hub), 0, "{ours}");
    }
    said(&hub, Revision { epoch: 6, ..one }).await;
    assert_eq!(foreign(&hub), NOW, "of an epoch that the feed never had");
    hub.store.set_epoch(one.epoch + 1);
    *hub.store.past_epochs.lock().unwrap() = Some(format!("1 {:x}", one.epoch));
    hub.restart();
    said(&hub, one).await;
    assert_eq!(foreign(&hub), 0, "the feed had this epoch");
    assert_eq!(wait(&hub).await.may_miss_until, None, "its followers are known");
}

#[tokio::test(start_paused = true)]
async fn a_newer_request_of_a_follower_ends_the_older() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let begun = tokio::time::Instant::now();
    let query = format!("after={one}&applied={one}&wait=20");
    let (mine, other) = (report("follower-a", ""), report("follower-b", ""));
    let took = async |id: &str, pause| {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        assert_eq!(hub.page(&query, id).await.statement().upto, one);
        begun.elapsed().as_secs()
    };
    let waited = tokio::join!(took(&mine, 0), took(&mine, 3), took(&mine, 5), took(&other, 4));
    assert_eq!(waited, (3, 5, 25, 24));
}

#[tokio::test]
async fn a_principal_has_so_many_followers() {
    let hub = Hub::with(Settings { max_followers: 4, max_of_principal: 3, ..Settings::new("hub") });
    let one = hub.add(&[(1, LATER)]);
    let ask = async |principal: &str, id: &str| {
        let request = Request::get(format!("/v1/feeds/main?after={one}&applied={one}"));
        let request = request.header("taskfence-follower", report(id, r#","stale_after":9"#));
        hub.router(principal).oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    let mut answers = Vec::new();
    for id in ["follower-a", "follower-b", "follower-c", "follower-d", "follower-a"] {
        answers.push(ask("greedy", id).await);
    }
    assert_eq!(answers, [200, 200, 200, 503, 200]);
    assert_eq!((ask("other", "follower-e").await, ask("other", "follower-f").await), (200, 503), "that is all");
    hub.clock.set(NOW + 9_000 + 60_000 + 1);
    assert_eq!(hub.feeds.feed("main").unwrap().followers.expire().len(), 4);
    assert_eq!(ask("greedy", "follower-d").await, 200);
}

#[tokio::test]
async fn whoever_reads_far_behind_needs_a_place_as_for_a_full_state() {
    let mut hub = Hub::with(Settings { max_loaders: 1, ..Settings::new("hub") });
    let head = hub.add(&(0..18_000).map(|task| (task, LATER)).collect::<Vec<_>>());
    // Then the last commits are not in memory any more.
    hub.restart();
    let begin = Revision { number: 0, chain: Chain::default(), ..head };
    let ask = async |id: &str, after: Revision| {
        let query = format!("after={after}&applied={}", Revision::START);
        hub.get(&query, &report(id, "")).await.status().as_u16()
    };
    let page = hub.page(&format!("after={begin}&applied={begin}"), &report("follower-a", "")).await;
    assert!(page.statement().part.is_none() && page.statement().upto.number < head.number);
    assert_eq!(ask("follower-b", begin).await, 503);
    assert_eq!(ask("follower-b", page.statement().upto).await, 200, "one page is enough");
    assert_eq!(ask("follower-a", page.statement().upto).await, 200);
    assert_eq!(ask("follower-b", begin).await, 200, "the place is free again");
}

#[tokio::test]
async fn followers_leave_when_silent_and_are_known_after_a_start() {
    let mut hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    hub.page(&format!("after={one}&applied={one}"), &report("follower-a", r#","stale_after":90"#)).await;
    hub.page(&format!("after={one}&applied={one}"), &report("follower-b", "")).await;
    assert_eq!(hub.store.followers("main").unwrap().len(), 2, "each was stored before it got a page");
    // That the first has applied something was written when the second came.
    let records = hub.feeds.feed("main").unwrap().followers.unwritten(Which::All, 9);
    assert_eq!(records.len(), 2);
    hub.store.put_followers(&records).unwrap();
    assert!(hub.feeds.feed("main").unwrap().followers.unwritten(Which::Changed, 9).is_empty());
    hub.clock.set(NOW + 60_000);
    hub.restart();
    let receipts = Receipts::new(hub.feeds.clone());
    let receipt = receipts.wait("main", 1, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((receipt.confirmed, receipt.may_miss_until), (2, Some(NOW + 150_000)));
    let two = hub.add(&[(2, LATER)]);
    let receipt = receipts.wait("main", two.number, Duration::ZERO).await.unwrap().unwrap();
    let closes = receipt.waiting.iter().find(|waiting| waiting.id == "follower-a").unwrap().closes;
    assert_eq!(closes, Closes::At(NOW + 60_000 + 90_000 + 60_000), "it may have got a statement until the start");
    let followers = hub.feeds.feed("main").unwrap().followers.clone();
    hub.clock.set(NOW + 60_000 + 150_000);
    assert!(followers.expire().is_empty());
    hub.clock.set(NOW + 60_000 + 150_001);
    assert_eq!(followers.expire(), ["follower-a"]);
    hub.clock.set(NOW + 60_000 + 24 * 3_600_000 + 1);
    assert_eq!(followers.expire(), ["follower-b"]);
    assert_eq!(receipts.wait("main", 2, Duration::ZERO).await.unwrap().unwrap().may_miss_until, None);
}

#[tokio::test]
async fn a_key_is_not_switched_to_before_live_followers_know_it() {
    let hub = Hub::new();
    let one = hub.add(&[(1, LATER)]);
    let (old, new) = (hub.feeds.keys().current(), hub.feeds.keys().prepare().unwrap());
    let poll = async |kids: &str| {
        hub.page(&format!("after={one}&applied={one}"), &report("follower-a", &format!(r#","kids":[{kids}]"#))).await;
    };
    poll(&format!("{old:?}")).await;
    let switch = || {
        // As the hub writes them every few seconds.
        hub.store.put_followers(&hub.feeds.feed("main").unwrap().followers.unwritten(Which::Changed, 9)).unwrap();
        hub.feeds.keys().switch(&new, lacking(&*hub.store, &["main"], &new).unwrap(), false)
    };
    let refused = switch().unwrap_err().to_string();
    assert!(refused.contains("`node-follower-a` among them"), "{refused}");
    poll(&format!("{old:?},{new:?}")).await;
    switch().unwrap();
    hub.add(&[(2, LATER)]);
    poll(&format!("{old:?},{new:?}")).await;
    assert_eq!(hub.feeds.keys().current(), new);
}

/// The feed on SQLite, with the writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_writer_commits_comes_to_those_who_wait_and_survives_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&directory.path().join("hub.sqlite")).unwrap());
        let clock = Clock::new(&*store).unwrap();
        let names = ["main".to_owned()];
        let writer = Writer::start(store.clone(), clock.clone(), &names).unwrap();
        let committed = writer.committed();
        let keys = Arc::new(Keys::open(&directory.path().join("keys")).unwrap());
        let now: Now = Arc::new(move || clock.now_ms());
        let feeds =
            Feeds::open(Settings::new("hub"), &names, store, keys, (now, Arc::new(|_, _| Ok(Vec::new())))).unwrap();
        (writer, committed, feeds)
    };
    let ask = async |feeds: &Arc<Feeds>, after: Revision| {
        let principal = Principal { name: "proxy".to_owned(), role: Role::Sidecar, feeds: vec![] };
        let request = Request::get(format!("/v1/feeds/main?after={after}&applied={after}&wait=20"))
            .header("taskfence-follower", report("follower-1", r#","stale_after":90"#));
        let router = router(feeds.clone()).layer(axum::Extension(principal));
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let keys = KeySet::from_jwks(&feeds.keys().jwks(), &[Algorithm::ES256]).unwrap().0;
        Page::verify(&bytes, ("hub", "main"), &keys, &mut PureRust).unwrap()
    };
    let signal = |task: u64| {
        Change::Signal(NewSignal {
            feed: "main".to_owned(),
            transmitter: "idp".to_owned(),
            jti: task.to_string(),
            fingerprint: vec![1],
            event: "e".to_owned(),
            subject: "{}".to_owned(),
            claims: "{}".to_owned(),
            by: "idp".to_owned(),
            reason: String::new(),
            at: Timestamp(1),
            taken_in: NOW,
            entries: vec![entry(task, 4_000_000_000)],
        })
    };
    let (writer, committed, feeds) = open();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(feeds.clone().run(committed, async { _ = stopped.await }));
    let empty = ask(&feeds, Revision::START).await.statement().upto;
    let (page, outcome) = tokio::join!(ask(&feeds, empty), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        writer.submit(signal(1)).await.unwrap()
    });
    let Outcome::Stored { revision, .. } = outcome else { panic!("it is new") };
    assert_eq!((page.statement().upto, page.statement().count), (revision, 1));
    let receipts = Receipts::new(feeds.clone());
    let (receipt, _) = tokio::join!(receipts.wait("main", 1, Duration::from_secs(20)), async {
        let next = ask(&feeds, revision);
        let more = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            writer.submit(signal(2)).await.unwrap()
        };
        tokio::join!(next, more)
    });
    assert_eq!(receipt.unwrap().unwrap().confirmed, 1);
    stop.send(()).unwrap();
    running.await.unwrap();
    drop((writer, feeds, receipts));
    let (_writer, _, feeds) = open();
    let page = ask(&feeds, revision).await;
    assert_eq!((page.statement().prev, page.statement().upto.number, page.statement().part), (1, 2, None));
    let receipt = Receipts::new(feeds).wait("main", 1, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((receipt.confirmed, receipt.complete), (1, true), "followers were written at the end");
    assert!(receipt.may_miss_until.is_some());
}
