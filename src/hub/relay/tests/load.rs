//! Many proxies that start at once behind one relay: what the hub has to do for them.

use crate::access::tokens;
use crate::config::compile::compile;
use crate::config::hub::{Follow, Hub};
use crate::config::role::Role;
use crate::feed::report::Report;
use crate::feed::request::PageRequest;
use crate::relay::feed::{NotNow, RelayFeed};
use crate::relay::server::Relay;
use crate::server::{KEYS, Server, open_store};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use taskfence_core::feed::page::Page;
use taskfence_core::feed::revision::Revision;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;
use tokio::net::TcpListener;

fn hub(config: &Value) -> Hub {
    compile(config.to_string().as_bytes()).unwrap()
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// The time in milliseconds since 1970.
pub fn milliseconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A hub to follow, in this process.
pub struct Root {
    pub folder: tempfile::TempDir,
    server: Server,
    keys: Value,
    operator: String,
}

impl Root {
    pub async fn start() -> Root {
        let folder = tempfile::tempdir().unwrap();
        let (server, keys, operator) = root(folder.path()).await;
        Root { folder, server, keys, operator }
    }

    /// What the configuration of a relay says about it.
    pub fn follow(&self) -> Follow {
        hub(&relay_config(self.folder.path(), &self.server, &self.keys)).follow.unwrap()
    }

    /// Ends so many tasks, one after another.
    pub async fn end_tasks(&self, count: usize) {
        let url = format!("http://{}/v1/feeds/main/events", self.server.address());
        for _ in 0..count {
            let task = getrandom::u64().unwrap().to_string();
            let subject = json!({"issuer": "https://jit.example", "task": task});
            let body = json!({"event": "task-completed", "subject": subject, "reason": "a test"}).to_string();
            let request = reqwest::Client::new().post(&url).bearer_auth(&self.operator);
            let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
            assert!(answer.status().is_success(), "{}", answer.status());
        }
    }

    pub async fn stop(self) {
        self.server.stop(Duration::ZERO).await;
    }
}

/// A hub with its data in `folder`, its keys, and a token of an operator. The token of a relay stands in a file.
async fn root(folder: &Path) -> (Server, Value, String) {
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
    });
    let issuers = json!([{"issuer": "https://jit.example", "audiences": ["a"], "keys": {"inline": {"keys": [jwk]}}}]);
    let root = json!({
        "data": folder.join("root"), "reserve_mib": 1, "listen": {"address": "127.0.0.1:0"},
        "feeds": [{"name": "main", "issuers": issuers}]
    });
    let store = open_store(&hub(&root)).unwrap();
    let token = tokens::create(&*store, "relay", Role::Relay, &[], now()).unwrap();
    let operator = tokens::create(&*store, "ops", Role::Operator, &[], now()).unwrap();
    drop(store);
    let server = Server::start(hub(&root), "hash").await.unwrap();
    let keys = crate::feed::keys::Keys::open(&folder.join("root").join(KEYS)).unwrap().jwks();
    fs::write(folder.join("token"), token).unwrap();
    (server, keys, operator)
}

fn relay_config(folder: &Path, server: &Server, keys: &Value) -> Value {
    let url = format!("http://{}", server.address());
    json!({
        "data": folder.join("relay"),
        "follow": {"url": url, "keys": {"inline": keys}, "token_file": folder.join("token")},
        "feeds": [{"name": "main"}]
    })
}

/// A hub and a relay of it, in one process, with real connections between them.
async fn tree(folder: &Path) -> (Server, Relay, KeySet) {
    let (server, keys, _) = root(folder).await;
    let config = hub(&relay_config(folder, &server, &keys));
    let store = open_store(&config).unwrap();
    let relay = Relay::start(config, store, TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
    let feed = &relay.feeds()["main"];
    while feed.line().as_ref().is_none_or(|line| line.heartbeat().is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (server, relay, KeySet::from_jwks(&keys, &[Algorithm::ES256]).unwrap().0)
}

/// Asks as a proxy that starts, until a statement has its nonce. Returns how often it was told to come again.
async fn start(feed: &RelayFeed, number: usize, keys: &KeySet) -> u64 {
    let (mut after, nonce, mut refused) = (Revision::START, format!("nonce-{number}"), 0);
    loop {
        let query = format!("after={after}&applied={after}&wait=10&nonce={nonce}");
        let report = Report { id: format!("follower-{number}").into(), ..Report::default() };
        let polling = feed.followers.begin("mesh", report).unwrap();
        match feed.page(PageRequest::parse(&query).unwrap(), &polling).await {
            Ok(page) => {
                let bytes = http_body_util::BodyExt::collect(page).await.unwrap().to_bytes();
                let signatures = &mut crate::intake::aws_lc::AwsLc::default();
                let page = Page::verify(&bytes, ("taskfence-hub", "main"), keys, signatures).unwrap();
                after = page.statement().upto;
                if page.statement().nonce.as_deref() == Some(nonce.as_str()) {
                    return refused;
                }
            }
            Err(NotNow::Busy) => {
                refused += 1;
                // As `Retry-After` spreads them.
                let pause = 1_000 + getrandom::u64().unwrap() % 5_000;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn start_many(count: usize) -> (Duration, u64, u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (server, relay, keys) = tree(folder.path()).await;
    let (feed, keys, refused) = (relay.feeds()["main"].clone(), Arc::new(keys), Arc::<AtomicU64>::default());
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..count {
        let (feed, keys, refused) = (feed.clone(), keys.clone(), refused.clone());
        all.spawn(async move {
            refused.fetch_add(start(&feed, number, &keys).await, Ordering::Relaxed);
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let took = began.elapsed();
    let (own, passed) = (&feed.served.own, &feed.served.passed);
    let counts = (took, own.load(Ordering::Relaxed), passed.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    relay.stop(Duration::ZERO).await;
    server.stop(Duration::ZERO).await;
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_proxy_that_starts_costs_the_hub_one_signature_and_no_full_state() {
    let (_, own, passed, refused) = start_many(200).await;
    assert_eq!((passed, refused), (200, 0));
    assert!(own >= 200, "{own} pages came from the relay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test -p taskfence-hub --release -- --ignored start_at_once --nocapture"]
async fn ten_thousand_proxies_start_at_once() {
    let (took, own, passed, refused) = start_many(10_000).await;
    eprintln!("10,000 proxies: {took:?}; {own} pages of the relay, {passed} of the hub, {refused} came again");
    assert_eq!(passed, 10_000);
}
