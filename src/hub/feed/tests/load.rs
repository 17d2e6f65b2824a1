//! 10,000 followers on one hub: memory, idle CPU, and the time until all have a change.
//!
//! ```text
//! cargo test --release -p taskfence-hub feed::tests::load::hub -- --ignored --nocapture
//! ```
//!
//! The test is the hub; the followers are a second process, which is the same binary with `FOLLOWERS_OF` set: so each has
//! its own limit of open files, and the memory is that of the hub alone.

use crate::access::principal::Principal;
use crate::access::sources::Sources;
use crate::config::role::Role;
use crate::feed::testing::{MemoryStore, feeds};
use crate::feed::{Receipts, Settings, router};
use crate::serve::serve;
use crate::store::writer::Committed;
use std::fs;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use taskfence_core::feed::page::Page;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::KeySet;
use taskfence_core::jose::signature::PureRust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::sleep;

const FOLLOWERS: usize = 10_000;
const LATER: u64 = 4_000_000_000;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// CPU time of this process in milliseconds; a tick of the kernel is 10 ms.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
#[ignore = "10,000 connections: a measurement"]
fn hub() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, directory) = (Arc::new(MemoryStore::new("main", 7)), tempfile::tempdir().unwrap());
        let (commits, committed) = broadcast::channel(1024);
        let feeds = feeds(&store, directory.path(), Arc::new(now_ms), Settings::new("hub"));
        tokio::spawn(feeds.clone().run(committed, std::future::pending()));
        let principal = Principal { name: "proxy".to_owned(), role: Role::Sidecar, feeds: vec![] };
        let router = router(feeds.clone()).layer(axum::Extension(principal));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, None, Sources::new(20_000, 0), std::future::pending()));
        let feed = feeds.feed("main").unwrap();
        let commit = |task: u64| {
            let (entries, revision) = store.add(&[(task, LATER)]);
            commits.send(Arc::new(Committed { feed: "main".to_owned(), entries, revision })).unwrap();
            revision
        };
        commit(0);
        sleep(Duration::from_secs(1)).await;
        let before = resident();
        let begun = Instant::now();
        let clients = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "feed::tests::load::followers", "--nocapture"])
            .env("FOLLOWERS_OF", address.to_string())
            .env("HUB_KEYS", feeds.keys().jwks().to_string())
            .spawn();
        let _clients = Clients(clients.unwrap());
        // A few are always between two requests.
        while feed.followers.count().1 < FOLLOWERS as u64 * 99 / 100 {
            assert!(begun.elapsed() < Duration::from_secs(90), "{:?} wait", feed.followers.count());
            sleep(Duration::from_millis(50)).await;
        }
        println!("all connected and waiting after {:?}", begun.elapsed());
        sleep(Duration::from_secs(2)).await;
        let each = |bytes: u64| bytes.saturating_sub(before) as f64 / FOLLOWERS as f64 / 1024.0;
        println!("memory: {} MiB before, {:.1} KiB for each that waits", before >> 20, each(resident()));
        let (cpu, idle) = (cpu_ms(), Instant::now());
        sleep(Duration::from_secs(26)).await;
        let share = (cpu_ms() - cpu) as f64 / idle.elapsed().as_millis() as f64 * 100.0;
        println!("idle: {share:.1}% of a core; {:.1} KiB each after a poll", each(resident()));
        let receipts = Receipts::new(feeds.clone());
        let mut worst = Vec::new();
        for round in 1..=6 {
            let (began, cpu) = (Instant::now(), cpu_ms());
            let at = now_ms();
            let revision = commit(round);
            let receipt = receipts.wait("main", revision.number, Duration::from_secs(30)).await.unwrap().unwrap();
            assert!(receipt.complete && receipt.confirmed >= FOLLOWERS * 99 / 100, "{} confirmed", receipt.confirmed);
            let mut times: Vec<_> =
                feed.followers.all().iter().map(|(_, one)| one.applied_at.saturating_sub(at)).collect();
            times.sort_unstable();
            let all = began.elapsed();
            println!(
                "commit to acknowledged: median {} ms, p99 {} ms, all {} ms; CPU {} ms",
                times[FOLLOWERS / 2],
                times[FOLLOWERS * 99 / 100],
                all.as_millis(),
                cpu_ms() - cpu
            );
            worst.push(all);
            sleep(Duration::from_secs(1)).await;
        }
        println!("memory after: {:.1} KiB each; pages have cost {:?}", each(resident()), feed.meter.total());
        // A burst: a commit each 5 ms for 5 s. The pace puts them together.
        let (began, cpu, cost) = (Instant::now(), cpu_ms(), feed.meter.total());
        let mut last = Revision::START;
        for task in 0..1_000 {
            last = commit(1_000 + task);
            sleep(Duration::from_millis(5)).await;
        }
        let (burst, used) = (began.elapsed(), cpu_ms() - cpu);
        let spent = feed.meter.total().0 - cost.0;
        let receipt = receipts.wait("main", last.number, Duration::from_secs(60)).await.unwrap().unwrap();
        assert!(receipt.complete);
        println!(
            "burst of {burst:?}: hub CPU {used} ms, of it pages {spent:?}; all have it {:?} later",
            began.elapsed() - burst
        );
        assert!(worst.iter().max().unwrap().as_secs() < 5);
    });
}

#[test]
#[ignore = "a million entries: a measurement"]
fn a_million_entries() {
    use crate::feed::full_state::{Cutter, FullStates, Of};
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let states = FullStates::new(16);
        let before = resident();
        let cut = async |with_condition: usize| {
            let mut cutter = Cutter::default();
            // 51 bytes, and 19 more where there is a condition.
            (0..1_000_000).for_each(|i| cutter.add(&[1; 70][..if i % 10 < with_condition { 70 } else { 51 }]));
            Ok(cutter.finish(Revision { epoch: 7, number: 1_000_000, ..Revision::START }, 1))
        };
        let begun = Instant::now();
        states.begin(Of { follower: "follower-1", principal: &"mesh".into() }, cut(3)).await.unwrap();
        let (loaders, bytes) = states.load();
        let resident = resident().saturating_sub(before);
        println!("{loaders} loads {bytes} bytes, {resident} resident, cut in {:?}", begun.elapsed());
        assert!(resident < 120_000_000);
    });
}

#[test]
#[ignore = "the followers of the test beside it"]
fn followers() {
    let Ok(address) = std::env::var("FOLLOWERS_OF") else { return };
    let keys = serde_json::from_str(&std::env::var("HUB_KEYS").unwrap()).unwrap();
    let keys = KeySet::from_jwks(&keys, &[Algorithm::ES256]).unwrap().0;
    let verified = Arc::new(Mutex::new((Vec::new(), Revision::START, keys)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..FOLLOWERS {
            tasks.spawn(follow(address.clone(), number, verified.clone()));
            if number % 50 == 0 {
                sleep(Duration::from_millis(2)).await;
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

type Verified = Arc<Mutex<(Vec<u8>, Revision, KeySet)>>;

/// Follows until the hub is gone.
async fn follow(address: String, number: usize, verified: Verified) {
    let Ok(mut stream) = TcpStream::connect(&address).await else { return };
    let mut position = Revision::START;
    let mut bytes = Vec::new();
    loop {
        let wait = 20 + number % 6;
        let request = format!(
            "GET /v1/feeds/main?after={position}&applied={position}&wait={wait}&format=1 HTTP/1.1\r\nhost: hub\r\n\
             taskfence-follower: {{\"id\":\"follower-{number}\",\"node\":\"node-{number}\",\"mode\":\"enforce\",\
             \"config\":\"0123456789abcdef\",\"stale_after\":90,\"skew_ms\":3,\"saturated\":0,\"version\":\"0.1.0\",\
             \"kids\":[\"vJ4yb5m0vT0XqkLr0m4ybm0vT0XqkLr0m4ybm0vT0Xq\"]}}\r\nauthorization: Bearer 0123456789\r\n\r\n"
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            return;
        }
        bytes.clear();
        let body = loop {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if let Some(body) = whole(&bytes) {
                break body;
            }
        };
        assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
        position = position_of(body, &verified);
    }
}

/// The body, if all of it is there.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    (bytes.len() == end + length).then(|| &bytes[end..])
}

/// What the page goes up to. A page that was verified before is compared only.
fn position_of(body: &[u8], verified: &Verified) -> Revision {
    let mut verified = verified.lock().unwrap();
    if verified.0 != body {
        let page = Page::verify(body, ("hub", "main"), &verified.2, &mut PureRust).unwrap();
        assert_ne!(page.statement().upto.chain, Chain::default());
        (verified.0, verified.1) = (body.to_vec(), page.statement().upto);
    }
    verified.1
}
