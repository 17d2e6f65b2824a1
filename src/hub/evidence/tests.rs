//! Evidence as a caller sees it, with a hub that runs, and the writer with a store that fails.

use crate::config::model::EvidenceConfig;
use crate::config::role::Role;
use crate::evidence::model::{BatchWrite, EventKind, EventRow, Window, Write, Written};
use crate::evidence::service::{Evidence, NotTaken, Open};
use crate::evidence::store::EvidenceStore;
use crate::evidence::testing::MemoryStore;
use crate::store::model::StoreError;
use crate::testing::{self, Running};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use taskfence_core::uses::batch::Batch;

const VM: &str = "00000000000000aa";
const JIT: &str = "https://jit.example";

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A batch with one grant, which was used three times.
fn batch(vm: &str, number: u64) -> Value {
    let (since, until) = (now() - 10_000, now());
    json!({"vm": vm, "number": number, "since": since, "until": until, "rules": [{"config": "c1", "name": "read"}],
        "grants": [{"grant": {"issuer": JIT, "token": "t-1", "fingerprint": "f", "subject": "alice", "issued_at": 1, "expires_at": 2},
            "permitted": [{"rule": 0, "method": "GET", "captures": ["42"], "count": 3, "first": since, "last": until}]}]})
}

fn post(batches: &[Value]) -> Value {
    json!({"format": 1, "proxy": "follower-1", "node": "envoy-1", "batches": batches})
}

fn evidence(store: &Arc<MemoryStore>) -> Arc<Evidence> {
    let store: Arc<dyn EvidenceStore> = store.clone();
    let open: Open = Box::new(move || Ok(Arc::clone(&store)));
    Evidence::start(EvidenceConfig::default(), &["main".to_owned()], Arc::new(now), None, open).unwrap()
}

fn written_batch(node: &str, number: u64) -> Write {
    let batch: Batch = serde_json::from_value(batch(VM, number)).unwrap();
    let (feed, proxy, node) = ("main".to_owned(), "follower-1".to_owned(), node.to_owned());
    let principal = "mesh".to_owned();
    Write::Batch(Box::new(BatchWrite { feed, principal, proxy, node, at: now(), batch }))
}

async fn submit(evidence: &Evidence, caller: &str, writes: Vec<Write>) -> Result<Vec<Written>, NotTaken> {
    let room = evidence.reserve(caller, 1_000)?;
    evidence.submit(room, writes).await
}

#[tokio::test]
async fn what_waits_is_stored_in_one_transaction() {
    let store = Arc::<MemoryStore>::default();
    let evidence = evidence(&store);
    let all: Vec<_> = (0..40).map(|n| submit(&evidence, "mesh", vec![written_batch("a", n / 2)])).collect();
    let became = futures_util::future::join_all(all).await;
    let stored = became.iter().filter(|one| **one == Ok(vec![Written::Stored])).count();
    assert_eq!((stored, became.len() - stored), (20, 20), "{became:?}");
    assert!(store.transactions() < 4, "{}", store.transactions());
    let counters = evidence.counters().of("main").unwrap();
    assert_eq!((counters.stored.value(), counters.repeated.value(), counters.uses.value()), (20, 20, 60));
    evidence.stop();
    assert_eq!(submit(&evidence, "mesh", vec![written_batch("a", 99)]).await, Err(NotTaken::Ends));
}

#[tokio::test]
async fn what_cannot_be_stored_stops_nothing_else() {
    let store = Arc::<MemoryStore>::default();
    let evidence = evidence(&store);
    store.refuse("bad");
    let (good, bad, other) = tokio::join!(
        submit(&evidence, "mesh", vec![written_batch("good", 1)]),
        submit(&evidence, "mesh", vec![written_batch("bad", 2)]),
        submit(&evidence, "mesh", vec![written_batch("good", 3), written_batch("good", 1)]),
    );
    assert_eq!((good, other), (Ok(vec![Written::Stored]), Ok(vec![Written::Stored, Written::Repeated])));
    assert!(matches!(bad, Err(NotTaken::Store(StoreError::Failed(_)))), "{bad:?}");
    assert_eq!(evidence.counters().of("main").unwrap().refused.value(), 1);
    evidence.stop();
}

#[tokio::test]
async fn a_store_that_fails_is_told_and_used_again() {
    let store = Arc::<MemoryStore>::default();
    let evidence = evidence(&store);
    store.fail(Some(StoreError::Unavailable("gone".to_owned())));
    let failed = submit(&evidence, "mesh", vec![written_batch("a", 1)]).await;
    assert_eq!(failed, Err(NotTaken::Store(StoreError::Unavailable("gone".to_owned()))));
    store.fail(None);
    assert_eq!(submit(&evidence, "mesh", vec![written_batch("a", 1)]).await, Ok(vec![Written::Stored]));
    evidence.stop();
}

#[tokio::test]
async fn a_caller_that_sends_much_leaves_room_for_others() {
    let evidence = evidence(&Arc::default());
    let mib = 1024 * 1024;
    let held: Vec<_> = (0..64).map_while(|_| evidence.reserve("mesh", mib).ok()).collect();
    assert_eq!(held.len(), 24);
    assert_eq!(evidence.reserve("mesh", mib).unwrap_err(), NotTaken::Share);
    assert!(evidence.reserve("edge", mib).is_ok());
    drop(held);
    let event = EventRow { feed: "main".to_owned(), id: "1".to_owned(), ..EventRow::default() };
    assert_eq!(submit(&evidence, "mesh", vec![Write::Event(Box::new(event))]).await, Ok(vec![Written::Stored]));
    evidence.stop();
}

#[tokio::test]
async fn questions_whose_callers_went_away_keep_their_places() {
    let evidence = evidence(&Arc::default());
    while evidence.store().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (running, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    for _ in 0..20 {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        let asked = evidence.with_store(move |_| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(700));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        });
        _ = tokio::time::timeout(Duration::from_millis(30), asked).await;
    }
    assert!((1..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    evidence.stop();
}

#[tokio::test]
async fn uses_are_stored_once_and_answered_with_what_the_hub_wants() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let path = "/v1/feeds/main/uses";
    let send = async |body: Value| hub.call("POST", path, Some(&mesh), Some(body)).await;
    let (status, taken) = send(post(&[batch(VM, 1), batch(VM, 2)])).await;
    assert_eq!(status, 200, "{taken}");
    let ids = json!([{"vm": VM, "number": 1}, {"vm": VM, "number": 2}]);
    assert_eq!(taken, json!({"period": 10, "taken": ids, "configs_wanted": ["c1"]}));
    let mut again = post(&[batch(VM, 2)]);
    again["configs"] = json!([{"config": "c1", "rules": [{"name": "read", "effect": "require"}]}]);
    let (status, taken) = send(again).await;
    assert_eq!((status, taken), (200, json!({"period": 10, "taken": [{"vm": VM, "number": 2}]})));
    let gap =
        json!({"format": 1, "proxy": "follower-1", "node": "a", "gaps": [{"vm": VM, "since": 5, "until": now()}]});
    assert_eq!(send(gap).await, (200, json!({"period": 10, "taken": []})));
    let counters = hub.server.evidence().counters().of("main").unwrap();
    assert_eq!([counters.stored.value(), counters.repeated.value(), counters.uses.value()], [2, 1, 6]);
    assert_eq!(counters.gaps.value(), 1);
    hub.stop().await;
}

/// How a batch is changed, and what is then wrong with it.
type Case<'c> = (&'c dyn Fn(&mut Value), &'c str);

#[tokio::test]
async fn a_batch_that_cannot_be_used_is_named_and_stops_no_other() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let send = async |body: Value| hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(body)).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut batch = batch(VM, 7);
        change(&mut batch);
        batch
    };
    let day = 86_400_000;
    let table: [Case<'_>; 10] = [
        (&|batch| batch["vm"] = json!("xyz"), "`vm` must be 16 hexadecimal digits"),
        (&|batch| batch["number"] = json!(0), "`number` must be at least 1"),
        (&|batch| batch["until"] = json!(now() + day), "look at the clock of the proxy"),
        (&|batch| batch["until"] = json!(now() - 91 * day), "is not kept"),
        (&|batch| batch["grants"][0]["permitted"][0]["rule"] = json!(1), "`rule` is 1, and the batch has 1 rules"),
        (&|batch| batch["grants"][0]["permitted"][0]["count"] = json!(u64::MAX), "`count` is"),
        (&|batch| batch["grants"][0]["other"] = json!(u64::MAX), "`other` is"),
        (&|batch| batch["grants"][0]["grant"]["subject"] = json!("x".repeat(3_000)), "`subject` has 3000 bytes"),
        (&|batch| batch["records"] = json!(["x"]), "no object"),
        (&|batch| batch["grants"] = json!(5), "`batches[0]` cannot be read"),
    ];
    for (at, (change, wrong)) in (100..).zip(table) {
        let (status, problem) = send(post(&[changed(change), batch(VM, at)])).await;
        assert_eq!(status, 400, "{wrong}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(wrong), "{wrong}: {problem}");
        let (status, taken) = send(post(&[batch(VM, at)])).await;
        assert_eq!((status, taken["taken"].as_array().unwrap().len()), (200, 1));
    }
    let counters = hub.server.evidence().counters().of("main").unwrap();
    assert_eq!([counters.stored.value(), counters.repeated.value(), counters.refused.value()], [10, 10, 10]);
    for (body, wrong) in [
        (json!({"format": 2, "proxy": "follower-1", "node": ""}), "`format` is 2"),
        (json!({"format": 1, "proxy": "x", "node": ""}), "`proxy` must be"),
        (json!([]), "invalid length 0"),
    ] {
        let (status, problem) = send(body).await;
        assert_eq!(status, 400);
        assert!(problem["detail"].as_str().unwrap().contains(wrong), "{problem}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn nobody_speaks_for_other_feeds_issuers_and_proxies() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let other = hub.token("other", Role::Sidecar, &[]).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let send = async |feed: &str, token: &str, body: Value| {
        hub.call("POST", &format!("/v1/feeds/{feed}/uses"), Some(token), Some(body)).await
    };
    assert_eq!(send("other", &mesh, post(&[batch(VM, 1)])).await.0, 403);
    assert_eq!(send("main", &ops, post(&[batch(VM, 1)])).await.0, 403);
    assert_eq!(send("none", &other, post(&[batch(VM, 1)])).await.0, 404);
    let start = "0000000000000000.0.0000000000000000";
    let url = format!("http://{}/v1/feeds/main?after={start}&applied={start}&format=1", hub.server.address());
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let follow = client.get(url).header("authorization", format!("Bearer {mesh}"));
    let followed = follow.header("taskfence-follower", r#"{"id":"follower-1"}"#).send().await.unwrap();
    assert_eq!(followed.status(), 200);
    let (status, problem) = send("main", &other, post(&[batch(VM, 1)])).await;
    assert_eq!(status, 403, "{problem}");
    let mut foreign = batch(VM, 1);
    foreign["grants"][0]["grant"]["issuer"] = json!("https://evil.example");
    foreign["grants"][0]["refused"] = json!([{"reason": "token_revoked", "count": 2, "first": 0, "last": 0}]);
    foreign["records"] = json!([{"issuer": "https://evil.example"}, {"issuer": JIT}]);
    assert_eq!(send("main", &mesh, post(&[foreign])).await.0, 200);
    let counters = hub.server.evidence().counters().of("main").unwrap();
    let counted = [&counters.foreign_grants, &counters.lost_permitted, &counters.lost_refused, &counters.lost_records];
    assert_eq!(counted.map(|counter| counter.value()), [1, 3, 2, 1]);
    assert_eq!([counters.uses.value(), counters.records.value()], [0, 1]);
    hub.stop().await;
}

#[tokio::test]
async fn a_proxy_that_claims_the_node_of_another_is_seen_and_takes_nothing_away() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let other = hub.token("other", Role::Sidecar, &["main"]).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let mut forged = post(&[batch(VM, 1)]);
    forged["proxy"] = json!("follower-2");
    let send = async |token: &str, body: Value| hub.call("POST", "/v1/feeds/main/uses", Some(token), Some(body)).await;
    // It comes before the batch whose number it takes.
    assert_eq!(send(&other, forged).await.0, 200);
    assert_eq!(send(&mesh, post(&[batch(VM, 1)])).await.0, 200);
    let counters = hub.server.evidence().counters().of("main").unwrap();
    assert_eq!([counters.stored.value(), counters.repeated.value()], [2, 0]);
    let (status, timeline) = hub.call("GET", "/v1/feeds/main/timeline?token=t-1", Some(&ops), None).await;
    let nodes = json!([{"node": "envoy-1", "principals": ["mesh", "other"]}]);
    assert_eq!((status, &timeline["nodes"]), (200, &nodes), "{timeline}");
    hub.stop().await;
}

#[tokio::test]
async fn times_outside_of_what_is_kept_are_put_right() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let mut old = batch(VM, 1);
    old["since"] = json!(0);
    old["grants"][0]["permitted"][0]["first"] = json!(0);
    let record = |at: Value| json!({"issuer": JIT, "token": "t-1", "time_ms": at});
    old["records"] = json!([record(json!(0)), record(json!(u64::MAX)), record(json!("late")), {"issuer": JIT}]);
    let mut sent = post(&[old]);
    sent["gaps"] = json!([{"vm": VM, "since": 0, "until": now()}]);
    let (status, taken) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(sent)).await;
    assert_eq!(status, 200, "{taken}");
    let store = hub.server.evidence().store().unwrap();
    let oldest = now() - 91 * 86_400_000;
    // A grant is also found by the time at which it was issued: that of this one is 1000.
    let before = Window { since: 2_000, until: oldest };
    assert_eq!(store.gaps("main", before).unwrap(), []);
    let mut grants = 0;
    store
        .grants("main", before, &mut |_| {
            grants += 1;
            true
        })
        .unwrap();
    assert_eq!(grants, 0);
    let records = store.records("main", 0, Window { since: oldest, until: now() + 1 }, 10).unwrap();
    assert_eq!(records.len(), 4, "each is found by a time that is kept");
    assert!(records.iter().all(|row| row.record.get("time_ms").is_none_or(|at| at.as_u64() == Some(row.at))));
    drop(store);
    hub.stop().await;
}

/// A post of follower-1 with two batches: one of ten days ago by the grant `old`, one of now by `new`.
fn old_and_new() -> Value {
    let of = |token: &str, number: u64, ago: u64| {
        let mut batch = batch(VM, number);
        let at = now() - ago;
        (batch["since"], batch["until"]) = (json!(at - 1), json!(at));
        let grant = &mut batch["grants"][0];
        (grant["grant"]["token"], grant["grant"]["issued_at"]) = (json!(token), json!(at / 1_000));
        batch
    };
    post(&[of("old", 1, 10 * DAY), of("new", 2, 1_000)])
}

const DAY: u64 = 86_400_000;

/// The report of the last 30 days, once `is_ready` says so of it.
async fn report_of(hub: &Running, feed: &str, token: &str, is_ready: &dyn Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/feeds/{feed}/report?since={}", now() - 30 * DAY);
    for _ in 0..100 {
        let (status, report) = hub.call("GET", &path, Some(token), None).await;
        if status == 200 && is_ready(&report) {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("no such report came");
}

#[tokio::test]
async fn fewer_days_remove_older_evidence_and_the_report_says_since_when_there_is_some() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let auditor = hub.token("audit", Role::Auditor, &[]).await;
    let sent = old_and_new();
    let day = |at: usize| sent["batches"][at]["until"].as_u64().unwrap() / DAY * DAY;
    let (old, new) = (day(0), day(1));
    let (status, taken) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(sent)).await;
    assert_eq!((status, taken["taken"].as_array().map(Vec::len)), (200, Some(2)), "{taken}");
    let all = report_of(&hub, "main", &auditor, &|report| report["kept_since"].is_u64()).await;
    assert_eq!((&all["total"]["grants"], &all["kept_since"]), (&json!(2), &json!(old)), "{all}");
    let folder = hub.stop().await;
    let mut config = testing::config(folder.path());
    config["evidence"] = json!({"days": 5});
    let hub = Running::start_with(config, folder).await;
    let rest = report_of(&hub, "main", &auditor, &|report| report["kept_since"].as_u64() > Some(old)).await;
    let found = (&rest["total"]["grants"], &rest["grants"][0]["token"], &rest["kept_since"]);
    assert_eq!(found, (&json!(1), &json!("new"), &json!(new)), "{rest}");
    // What comes later and is as old is not stored.
    let mut late = old_and_new();
    late["batches"].as_array_mut().unwrap().truncate(1);
    let (status, problem) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(late)).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("is not kept"), "{problem}");
    hub.stop().await;
}

#[tokio::test]
async fn evidence_of_a_feed_that_was_removed_stays_until_its_day_goes() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main", "other"]).await;
    let auditor = hub.token("audit", Role::Auditor, &[]).await;
    for feed in ["main", "other"] {
        let path = format!("/v1/feeds/{feed}/uses");
        assert_eq!(hub.call("POST", &path, Some(&mesh), Some(post(&[batch(VM, 1)]))).await.0, 200);
    }
    let folder = hub.stop().await;
    let (with, mut without) = (testing::config(folder.path()), testing::config(folder.path()));
    without["feeds"].as_array_mut().unwrap().retain(|feed| feed["name"] == "main");
    let hub = Running::start_with(without, folder).await;
    let main = report_of(&hub, "main", &auditor, &|_| true).await;
    assert_eq!(main["total"]["grants"], json!(1), "{main}");
    for path in ["/v1/feeds/other/report", "/v1/feeds/other/timeline?subject=alice", "/v1/feeds/other/records"] {
        assert_eq!(hub.call("GET", path, Some(&auditor), None).await.0, 404, "{path}");
    }
    assert_eq!(hub.call("POST", "/v1/feeds/other/uses", Some(&mesh), Some(post(&[batch(VM, 2)]))).await.0, 404);
    assert_eq!(hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(post(&[batch(VM, 2)]))).await.0, 200);
    let store = hub.server.evidence().store().unwrap();
    let mut kept = 0;
    let window = Window { since: now() - DAY, until: now() + DAY };
    let each = &mut |_| {
        kept += 1;
        true
    };
    store.grants("other", window, each).unwrap();
    assert_eq!(kept, 1, "it is there, also for SQL");
    drop(store);
    let folder = hub.stop().await;
    let hub = Running::start_with(with, folder).await;
    let back = report_of(&hub, "other", &auditor, &|_| true).await;
    assert_eq!((&back["total"]["grants"], &back["total"]["permitted"]), (&json!(1), &json!(3)), "{back}");
    hub.stop().await;
}

#[tokio::test]
async fn a_short_text_that_takes_much_memory_is_refused() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let send = async |body: Value| hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(body)).await;
    let with = |objects: usize| {
        let mut batch = batch(VM, 1);
        batch["grants"][0]["grant"]["details"] = Value::Array(vec![json!({"a": 0}); objects]);
        post(&[batch])
    };
    let (status, problem) = send(with(100_000)).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("too many values"), "{problem}");
    assert_eq!(send(with(1_000)).await.0, 200);
    let mut heavy = batch(VM, 2);
    heavy["records"] = json!([{"issuer": JIT, "masked": vec![json!({"a": 0}); 200]}]);
    let (status, problem) = send(post(&[heavy])).await;
    assert_eq!(status, 400, "{problem}");
    // Deep text is no way to the end of the stack, and a name that comes twice is no way to say two things.
    let deep = format!(
        r#"{{"format":1,"proxy":"follower-1","node":"n","batches":[{}{}]}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let twice = r#"{"format":1,"proxy":"follower-1","proxy":"follower-2","node":"n"}"#;
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    for body in [deep, twice.to_owned()] {
        let url = format!("http://{}/v1/feeds/main/uses", hub.server.address());
        let sent = client.post(url).header("authorization", format!("Bearer {mesh}")).body(body).send().await.unwrap();
        assert_eq!(sent.status(), 400);
    }
    hub.stop().await;
}

/// How long a stop takes to be answered, the longest of some.
async fn longest_stop(hub: &Running, ops: &str, round: &str) -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0..20 {
        let stop = json!({"issuer": JIT, "what": "client", "name": format!("{round}-{n}"), "reason": "r"});
        let begun = std::time::Instant::now();
        let (status, answer) = hub.call("POST", "/v1/feeds/main/stops", Some(ops), Some(stop)).await;
        assert_eq!(status, 200, "{answer}");
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_evidence_that_hangs_holds_up_no_signal() {
    let (hub, path) = Running::start_in_folder().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let send = async |number: u64| {
        let mut long = batch(VM, number);
        // So long that it is read on another thread.
        long["records"] = json!([{"issuer": JIT, "path": "x".repeat(20_000)}]);
        hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(post(&[long]))).await.0
    };
    assert_eq!(send(1).await, 200);
    let day = crate::evidence::store::day::Day::of(now());
    let file = rusqlite::Connection::open(path.join("data/evidence").join(format!("{day}.sqlite"))).unwrap();
    // Nobody else can write to it: the writer waits for seconds, and fails.
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let posts = futures_util::future::join_all((2..42).map(&send));
    let asked = futures_util::future::join_all(
        (0..16).map(async |_| hub.call("GET", "/v1/feeds/main/timeline?token=t-1", Some(&ops), None).await.0),
    );
    let stops = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        longest_stop(&hub, &ops, "held").await
    };
    let (answers, asked, longest) = tokio::join!(posts, asked, stops);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_eq!(answers, [503; 40], "what is not stored is not taken");
    assert!(asked.iter().all(|status| [200, 503].contains(status)), "{asked:?}");
    file.execute_batch("ROLLBACK").unwrap();
    assert_eq!(send(2).await, 200);
    drop(file);
    assert_eq!(events(&hub, 20).await.len(), 20, "signals are copied when it goes on");
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_keeps_no_evidence_answers_as_one_that_knows_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = testing::config(folder.path());
    config["evidence"] = json!({"days": 0});
    let hub = Running::start_with(config, folder).await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let (status, problem) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(post(&[batch(VM, 1)]))).await;
    assert_eq!((status, &problem["detail"]), (404, &json!("there is no such path")));
    hub.stop().await;
}

#[tokio::test]
async fn what_is_longer_than_a_post_may_be_is_refused() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let mut long = batch(VM, 1);
    long["records"] = Value::Array((0..40).map(|_| json!({"issuer": JIT, "path": "x".repeat(30_000)})).collect());
    let (status, problem) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(post(&[long.clone()]))).await;
    assert_eq!(status, 400, "{problem}");
    long["records"].as_array_mut().unwrap().truncate(30);
    let (status, taken) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(post(&[long]))).await;
    assert_eq!(status, 200, "{taken}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    hub.stop().await;
}

const ALWAYS: Window = Window { since: 0, until: 4_000_000_000_000 };

/// The events of `main`, when there are at least so many.
async fn events(hub: &Running, at_least: usize) -> Vec<EventRow> {
    for _ in 0..100 {
        let mut events = Vec::new();
        if let Some(store) = hub.server.evidence().store() {
            let mut each = |event| {
                events.push(event);
                true
            };
            store.events("main", ALWAYS, None, &mut each).unwrap();
        }
        if events.len() >= at_least {
            return events;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("there are fewer than {at_least} events");
}

#[tokio::test]
async fn signals_are_copied_once_with_whom_they_are_about() {
    let hub = Running::start().await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let call = async |path: &str, body: Value| {
        let (status, answer) = hub.call("POST", &format!("/v1/feeds/main/{path}"), Some(&ops), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let event = |event: &str, subject: Value, details: Value| json!({"event": event, "subject": subject, "issuer": JIT, "details": details, "reason": "ticket 7", "jti": event});
    call("events", event("task-completed", json!({"task": "t-1", "user": "alice"}), json!({}))).await;
    call("events", event("grant-narrowed", json!({"task": "t-2"}), json!({"scope": "read"}))).await;
    call(
        "events",
        event("device-compliance-change", json!({"device": "d"}), json!({"current_status": "not-compliant"})),
    )
    .await;
    call("events", event("session-established", json!({"session": "s-1", "user": "bob"}), json!({}))).await;
    let stop = call("stops", json!({"issuer": JIT, "what": "client", "name": "c-1", "reason": "a loop"})).await;
    let rows = events(&hub, 5).await;
    let of = |name: &str| rows.iter().find(|row| row.data["event"].as_str().unwrap().ends_with(name)).unwrap().clone();
    let kinds = ["task-completed", "grant-narrowed", "device-compliance-change", "session-established", "stop"];
    assert_eq!(
        kinds.map(|name| of(name).kind.unwrap()),
        [
            EventKind::SignalEnded,
            EventKind::SignalChanged,
            EventKind::SignalContext,
            EventKind::SessionEstablished,
            EventKind::SignalEnded
        ]
    );
    let done = of("task-completed");
    assert_eq!((done.task.as_deref(), done.subject.as_deref(), &*done.issuer), (Some("t-1"), Some("alice"), JIT));
    assert_eq!((done.by.as_deref(), done.reason.as_deref()), (Some("ops"), Some("ticket 7")));
    assert_eq!((&done.data["jti"], &*done.source), (&json!("task-completed"), "signal"));
    assert!(done.heard_at == done.at && now() - done.at < 60_000, "{done:?}");
    assert_eq!(of("session-established").session.as_deref(), Some("s-1"));
    assert_eq!((of("stop").client.as_deref(), &*of("stop").issuer), (Some("c-1"), JIT));

    call("undo", json!({"signal": stop["signal"], "reason": "fixed"})).await;
    let rows = events(&hub, 6).await;
    let lifted = rows.iter().find(|row| row.kind == Some(EventKind::SignalLifted)).unwrap();
    assert_eq!((lifted.client.as_deref(), lifted.reason.as_deref()), (Some("c-1"), Some("fixed")));
    // As after a restore, or when another replica copies the same.
    hub.server.evidence().store().unwrap().set("copied/main", "").unwrap();
    call("events", event("session-revoked", json!({"session": "s-1"}), json!({}))).await;
    assert_eq!(events(&hub, 7).await.len(), 7);
    assert_eq!(hub.server.evidence().counters().of("main").unwrap().events.value(), 7);
    hub.stop().await;
}

#[tokio::test]
async fn issuers_and_operators_tell_what_happens_to_grants() {
    let hub = Running::start().await;
    let jit = hub.token(JIT, Role::Issuer, &["main"]).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let send = async |token: &str, body: Value| hub.call("POST", "/v1/events", Some(token), Some(body)).await;
    let issued = json!({"kind": "issued", "at": now(), "task": "t-1", "subject": "alice", "client": "c", "token": "j-1",
        "task_kind": "refund", "by": "desk", "reason": "ticket 7", "scope": "orders:read",
        "authorization_details": [{"type": "order"}], "expires_at": 1_900_000_000, "id": "one"});
    let (status, answer) = send(&jit, issued.clone()).await;
    let stored = json!({"events": [{"feed": "main", "id": "one", "result": "stored"}], "notes": []});
    assert_eq!((status, answer), (200, stored));
    let ended = json!({"kind": "ended", "task": "t-1"});
    let (status, answer) = send(&jit, json!([issued, ended])).await;
    assert_eq!((status, &answer["events"][0]["result"]), (200, &json!("repeated")), "{answer}");
    assert_eq!(answer["events"][1]["result"], "stored");
    assert!(answer["notes"][0].as_str().unwrap().contains("ends nothing"), "{answer}");
    let rows = events(&hub, 2).await;
    let row = rows.iter().find(|row| row.id == "one").unwrap();
    assert_eq!((&*row.source, &*row.issuer, row.kind), (JIT, JIT, Some(EventKind::Issued)));
    let data =
        json!({"scope": "orders:read", "authorization_details": [{"type": "order"}], "expires_at": 1_900_000_000});
    assert_eq!((&row.data, row.task_kind.as_deref()), (&data, Some("refund")));
    let (_, state) = hub.call("GET", &format!("/v1/feeds/main/state?issuer={JIT}&task=t-1"), Some(&ops), None).await;
    assert_eq!(state["restricted"], false, "it ends nothing");

    let of_ops = |members: Value| {
        let mut event = json!({"kind": "requested", "task": "t-2", "feed": "main", "issuer": JIT});
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        event
    };
    assert_eq!(send(&ops, of_ops(json!({}))).await.0, 200);
    let many: Vec<_> = (0..101).map(|_| of_ops(json!({}))).collect();
    for (token, body, status, wrong) in [
        (&ops, of_ops(json!({"feed": null})), 400, "`feed` is missing"),
        (&ops, of_ops(json!({"feed": "none"})), 400, "`ops` has no feed `none`"),
        (&ops, of_ops(json!({"issuer": null})), 400, "`issuer` is missing"),
        (&ops, of_ops(json!({"issuer": "https://x.example"})), 400, "has no issuer"),
        (&ops, of_ops(json!({"task": null})), 400, "names no grant"),
        (&ops, of_ops(json!({"at": 1_800_000_000})), 400, "which is in 1973"),
        (&ops, of_ops(json!({"at": now() + 600_000})), 400, "lies in the future"),
        (&ops, of_ops(json!({"at": now() - 91 * 86_400_000})), 400, "older than 90 days"),
        (&ops, of_ops(json!({"task": "x".repeat(2_000)})), 400, "`task` cannot be used"),
        (&ops, of_ops(json!({"kind": "begun"})), 400, "begun"),
        (&ops, of_ops(json!({"colour": "red"})), 400, "colour"),
        (&ops, json!(many), 400, "the body has 101 events"),
        (&ops, json!([of_ops(json!({})), of_ops(json!({"task": null}))]), 400, "event 1: the event names no grant"),
        (
            &jit,
            json!({"kind": "ended", "task": "t", "issuer": "https://two.example"}),
            400,
            "may not tell of grants of",
        ),
        (&jit, json!({"kind": "ended", "task": "t", "feed": "other"}), 400, "has no feed `other`"),
        (&mesh, json!({"kind": "ended", "task": "t"}), 403, "has the role sidecar"),
    ] {
        let (got, problem) = send(token, body).await;
        assert_eq!(got, status, "{wrong}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(wrong), "{wrong}: {problem}");
    }
    let copy = hub.token("signal", Role::Operator, &[]).await;
    assert_eq!(send(&copy, of_ops(json!({}))).await.0, 403, "that is the name of the copies of signals");
    assert_eq!(events(&hub, 3).await.len(), 3, "of a call with a mistake nothing is stored");
    let (_, audit) = hub.call("GET", "/v1/audit", Some(&ops), None).await;
    assert!(!audit.to_string().contains("/v1/events"), "{audit}");
    hub.stop().await;
}
