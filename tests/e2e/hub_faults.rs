//! What goes wrong between a hub and its proxies: nothing is allowed that should not be, nothing is lost, and it mends
//! itself.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_core::feed::statement::{IssuerStatus, Part};
use taskfence_core::{
    config::load,
    feed::{
        entry::FeedEntry,
        revision::{Chain, Revision},
    },
    signal::hub_source::covered,
    state::{
        bucket::{Entry, SourceTag},
        fact::Fact,
        freshness::TransmitterId,
        key::{Kind, StateKey},
    },
    time::{Span, Timestamp},
    token::issuer::key_space,
};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Http, Request},
    hub::{CLUSTER, FEED, Hub, SOON, wait_ready, without_receiver},
    jwks,
    mint::{self, Jwt, complete_task, now, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
    stand_in::{Pages, StandIn, forward, now_ms},
};
use tokio::time;

fn fresh() -> Jwt {
    mint::token().session(&unique("sess")).task(&unique("task")).user(&unique("user"))
}

async fn read_order(sidecar: &Sidecar, token: &str) -> Answer {
    sidecar.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap()
}

/// Asks until the answer is `expected`, and fails when it is 200 before.
async fn becomes(sidecar: &Sidecar, token: &str, expected: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = read_order(sidecar, token).await;
        if answer.line() == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{} and not {expected}:\n{}", answer.line(), sidecar.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// What [`orders::config`] needs covered, heard of just now.
fn issuers() -> Vec<IssuerStatus> {
    let mut config = orders::config();
    config["role"] = json!("receiver");
    config["signals"]["feed"] = json!(FEED);
    let policy = load::load(config.to_string().as_bytes()).unwrap().policy;
    let heard = Timestamp(u64::try_from(now()).unwrap());
    policy.issuers().iter().map(|issuer| IssuerStatus { covered: covered(issuer), heard, lost: false }).collect()
}

/// A filter that follows whatever listens behind `cluster`, with `keys`; stale after `stale`.
async fn follower(name: &str, cluster: Value, keys: &Value, stale: &str, change: impl FnOnce(&mut Value)) -> Sidecar {
    let mut config = orders::config();
    config["signals"] = json!({
        "hub": {"cluster": CLUSTER, "feed": FEED, "keys": {"inline": keys}},
        "stale": {"after": stale}
    });
    change(&mut config);
    let settings = Settings::new(name, config).workers(1).patch(jwks::with_clusters(vec![cluster]));
    Sidecar::start(settings.patch(without_receiver)).await.unwrap()
}

/// The same for a real hub, reached through `cluster`.
async fn behind(name: &str, hub: &Hub, cluster: Value) -> Sidecar {
    let config = hub.followed_by(&orders::config());
    let settings = Settings::new(name, config).workers(1).patch(jwks::with_clusters(vec![cluster]));
    Sidecar::start(settings.patch(without_receiver)).await.unwrap()
}

/// The end of a task, as it stands in a page.
fn completed(task: &str) -> FeedEntry {
    let at = Timestamp(u64::try_from(now()).unwrap());
    let entry = Entry {
        key: StateKey::new(Kind::Task, &key_space(Some(FEED), orders::ISSUER), task),
        fact: Fact::Completed,
        at,
        until: Timestamp(at.0 + 90_000),
        conditions: Vec::new(),
        data: Vec::new(),
        source: SourceTag::new(FEED, orders::TRANSMITTER, 1),
        lifted: false,
    };
    FeedEntry { entry, by: TransmitterId::new(orders::TRANSMITTER) }
}

fn at(number: u64) -> Revision {
    Revision { epoch: 1, number, chain: Chain([7; 8]) }
}

#[tokio::test]
async fn every_signal_that_was_answered_survives_a_kill_in_a_burst() {
    let mut hub = Hub::start("fault-burst").await.unwrap();
    let proxy = behind("fault-burst-envoy", &hub, hub.cluster()).await;
    wait_ready(&proxy).await.unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let hub_shared = Arc::new(hub.address());
    let path = format!("/v1/feeds/{FEED}/signals");
    let mut pushers = Vec::new();
    for _ in 0..8 {
        let (answered, address, path, token) =
            (answered.clone(), hub_shared.clone(), path.clone(), hub.transmitter.clone());
        pushers.push(tokio::spawn(async move {
            loop {
                let task = unique("task");
                let push = Request::push(&path, &complete_task(&task).sign()).bearer(&token);
                match taskfence_tests::client::send(*address, Http::One, &push).await {
                    Ok(answer) if answer.status == 202 => answered.lock().unwrap().push(task),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        }));
    }
    time::sleep(Duration::from_secs(1)).await;
    hub.kill();
    for pusher in pushers {
        pusher.await.unwrap();
    }
    let answered = answered.lock().unwrap().clone();
    assert!(answered.len() > 50, "only {} signals were taken before the kill", answered.len());
    hub.run().await.unwrap();
    hub.wait_everywhere().await.unwrap();
    for task in answered.iter().step_by(answered.len().div_ceil(200)) {
        assert_refused(&proxy, &read_order(&proxy, &fresh().task(task).sign()).await, "task_completed");
    }
    let other = behind("fault-burst-fresh", &hub, hub.cluster()).await;
    wait_ready(&other).await.unwrap();
    for task in answered.iter().step_by(answered.len().div_ceil(200)) {
        assert_refused(&other, &read_order(&other, &fresh().task(task).sign()).await, "task_completed");
    }
}

#[tokio::test]
async fn pages_that_were_changed_on_the_way_do_nothing() {
    let hub = Hub::start("fault-bytes").await.unwrap();
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    // Two VMs follow one after the other; each that meets such a page leaves the feed to the other for a while.
    let changed = Arc::new(Mutex::new(Vec::new()));
    let seen = changed.clone();
    let relay = StandIn::before(hub.address(), move |number, _, mut page| {
        if number < 2 {
            let position = (page.len() * (2 * number + 1)) / 4;
            if let Some(byte) = page.get_mut(position) {
                *byte ^= 1;
            }
            seen.lock().unwrap().push(position);
        }
        page
    })
    .await
    .unwrap();
    let proxy = behind("fault-bytes-envoy", &hub, relay.cluster()).await;
    let token = fresh().task(&task).sign();
    let deadline = Instant::now() + SOON;
    while changed.lock().unwrap().len() < 2 {
        assert_ne!(read_order(&proxy, &token).await.status, 200);
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_refused(&proxy, &read_order(&proxy, &fresh().sign()).await, "state_not_ready");
    wait_ready(&proxy).await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &token).await, "task_completed");
}

#[tokio::test]
async fn yesterdays_pages_open_no_fresh_proxy() {
    let hub = Hub::start("fault-replay").await.unwrap();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let record = recorded.clone();
    let relay = StandIn::before(hub.address(), move |_, _, page| {
        record.lock().unwrap().push(page.clone());
        page
    })
    .await
    .unwrap();
    let first = behind("fault-replay-first", &hub, relay.cluster()).await;
    wait_ready(&first).await.unwrap();
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    // Whoever stands between a new proxy and the hub gives it what the first one got, again and again.
    let pages = recorded.lock().unwrap().clone();
    let next = Arc::new(Mutex::new(0));
    let replay = StandIn::start(move |_| {
        let mut next = next.lock().unwrap();
        let page = pages[*next % pages.len()].clone();
        *next += 1;
        Box::pin(async move {
            time::sleep(Duration::from_millis(20)).await;
            (200, page)
        })
    })
    .await
    .unwrap();
    let fooled = behind("fault-replay-second", &hub, replay.cluster()).await;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_refused(&fooled, &read_order(&fooled, &fresh().sign()).await, "state_not_ready");
        assert_ne!(read_order(&fooled, &fresh().task(&task).sign()).await.status, 200);
        time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!replay.asked().is_empty(), "it was asked");
}

/// A stand-in that first gives a full state that revokes `task` at number 5, and then what `then` says.
async fn after_full_state(
    pages: Pages,
    task: &str,
    then: impl Fn(&Pages, usize) -> Vec<u8> + Send + Sync + 'static,
) -> StandIn {
    let state = [completed(task)];
    let changes = Arc::new(Mutex::new(0));
    StandIn::start(move |asked| {
        let page = if asked.after().number == 0 || asked.after().epoch != 1 {
            pages.whole_state(&state, at(5), asked.nonce())
        } else {
            let mut changes = changes.lock().unwrap();
            *changes += 1;
            then(&pages, *changes - 1)
        };
        Box::pin(async move {
            time::sleep(Duration::from_millis(100)).await;
            (200, page)
        })
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_gap_is_not_stepped_over() {
    let (ended, skipped) = (unique("task"), unique("task"));
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let task = skipped.clone();
    let hub = after_full_state(pages, &ended, move |pages, _| {
        // What lies between 5 and 7 is missing.
        pages.page(&[completed(&task)], |statement| {
            (statement.prev, statement.upto, statement.head) = (7, at(8), 8);
        })
    })
    .await;
    let proxy = follower("fault-gap", hub.cluster(), &keys, "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    time::sleep(Duration::from_secs(2)).await;
    assert_refused(&proxy, &read_order(&proxy, &fresh().task(&ended).sign()).await, "task_completed");
    let asked = hub.asked();
    assert!(asked.iter().all(|asked| asked.applied().number <= 5), "it claims nothing that it has not");
    let full = asked.iter().filter(|asked| asked.after().number == 0).count();
    assert!(full >= 2, "after a gap it asks for everything: {full} of {}", asked.len());
}

/// Number 5 of the page stands for another entry than number 5 of the proxy: what comes before it is not the same.
#[tokio::test]
async fn a_page_that_follows_another_history_is_not_taken() {
    let (ended, other) = (unique("task"), unique("task"));
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let hub = after_full_state(pages, &ended, move |pages, _| {
        pages.page(&[completed(&other)], |statement| {
            (statement.prev, statement.prev_chain) = (5, Chain([8; 8]));
            (statement.upto, statement.head) = (at(6), 6);
        })
    })
    .await;
    let proxy = follower("fault-follows", hub.cluster(), &keys, "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    time::sleep(Duration::from_secs(2)).await;
    assert_refused(&proxy, &read_order(&proxy, &fresh().task(&ended).sign()).await, "task_completed");
    let asked = hub.asked();
    assert!(asked.iter().all(|asked| asked.applied().number <= 5), "it claims nothing that it has not");
    let full = asked.iter().filter(|asked| asked.after().number == 0).count();
    assert!(full >= 2, "after another history it asks for everything: {full} of {}", asked.len());
}

#[tokio::test]
async fn another_epoch_is_taken_whole_and_closes_nothing() {
    let (ended, later) = (unique("task"), unique("task"));
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let state = [completed(&ended)];
    let other_state = [completed(&ended), completed(&later)];
    let other = Revision { epoch: 2, number: 3, chain: Chain([9; 8]) };
    let asked_first = Arc::new(Mutex::new(false));
    let hub = StandIn::start(move |asked| {
        let mut began = asked_first.lock().unwrap();
        let page = match (asked.after().epoch, *began) {
            (_, false) => {
                *began = true;
                pages.whole_state(&state, at(5), asked.nonce())
            }
            (2, true) => pages.heartbeat(other, asked.nonce()),
            (_, true) => pages.whole_state(&other_state, other, asked.nonce()),
        };
        Box::pin(async move {
            time::sleep(Duration::from_millis(300)).await;
            (200, page)
        })
    })
    .await
    .unwrap();
    let proxy = follower("fault-epoch", hub.cluster(), &keys, "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
        time::sleep(Duration::from_millis(50)).await;
    }
    becomes(&proxy, &fresh().task(&later).sign(), "401 task_completed").await;
    assert_refused(&proxy, &read_order(&proxy, &fresh().task(&ended).sign()).await, "task_completed");
}

#[tokio::test]
async fn a_hub_whose_clock_is_off_keeps_nothing_fresh() {
    for off in [120_000_i64, -120_000] {
        // Envoy may take a while to start: the age counts from the statement, not from what was heard before.
        let issuers = issuers().into_iter().map(|one| IssuerStatus { heard: one.heard.plus(Span(20)), ..one });
        let pages = Pages::new(issuers.collect());
        let keys = pages.jwks();
        let hub = after_full_state(pages, "none", move |pages, _| {
            pages.page(&[], |statement| {
                statement.at = now_ms().saturating_add_signed(off);
                (statement.prev, statement.upto, statement.head) = (5, at(5), 5);
            })
        })
        .await;
        let proxy = follower("fault-clock", hub.cluster(), &keys, "5s", |_| ()).await;
        wait_ready(&proxy).await.unwrap();
        assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
        becomes(&proxy, &fresh().sign(), "503 state_stale").await;
    }
}

#[tokio::test]
async fn a_configuration_that_names_another_hub_or_feed_stays_closed() {
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let hub = after_full_state(pages, "none", |pages, _| pages.heartbeat(at(5), None)).await;
    for (name, other) in [("name", "other-hub"), ("feed", "other-feed")] {
        let change = |config: &mut Value| config["signals"]["hub"][name] = json!(other);
        let proxy = follower("fault-other", hub.cluster(), &keys, "30s", change).await;
        time::sleep(Duration::from_secs(3)).await;
        assert_refused(&proxy, &read_order(&proxy, &fresh().sign()).await, "state_not_ready");
    }
}

#[tokio::test]
async fn an_issuer_that_the_feed_does_not_cover_stays_closed() {
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let hub = after_full_state(pages, "none", |pages, _| pages.heartbeat(at(5), None)).await;
    let changes: [fn(&mut Value); 2] = [
        |config| config["issuers"][0]["max_session"] = json!("48h"),
        |config| config["issuers"][0]["claims"] = json!({"task": "task_id"}),
    ];
    for change in changes {
        let proxy = follower("fault-coverage", hub.cluster(), &keys, "30s", change).await;
        time::sleep(Duration::from_secs(3)).await;
        let token = fresh().claim("task_id", "t");
        assert_refused(&proxy, &read_order(&proxy, &token.sign()).await, "state_not_ready");
        assert!(proxy.envoy().log().contains("not cover"), "the log says why:\n{}", proxy.envoy().log());
    }
}

#[tokio::test]
async fn a_proxy_that_is_cut_off_says_so_and_closes_in_time() {
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let state = pages.clone();
    let given = Arc::new(Mutex::new(0));
    let hub = StandIn::start(move |asked| {
        let mut given = given.lock().unwrap();
        *given += 1;
        let answer = if *given == 1 { (200, state.whole_state(&[], at(5), asked.nonce())) } else { (401, Vec::new()) };
        Box::pin(async move { answer })
    })
    .await
    .unwrap();
    let proxy = follower("fault-cut-off", hub.cluster(), &keys, "5s", |_| ()).await;
    becomes(&proxy, &fresh().sign(), "503 state_stale").await;
    let log = proxy.envoy().log();
    assert!(log.contains("[error]") && log.contains("401"), "{log}");
    assert!(hub.asked().iter().skip(1).all(|asked| asked.after().number == 5), "it never asks from 0 for that");
}

#[tokio::test]
async fn a_hub_that_was_set_back_loses_nothing_for_proxies_ahead_of_it() {
    let mut hub = Hub::start("fault-restore").await.unwrap();
    let proxy = behind("fault-restore-envoy", &hub, hub.cluster()).await;
    wait_ready(&proxy).await.unwrap();
    let before: Vec<_> = (0..3).map(|_| unique("task")).collect();
    for task in &before {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    hub.wait_everywhere().await.unwrap();
    hub.stop().unwrap();
    let (data, copy) = (hub.folder().join("data"), hub.folder().join("copy"));
    copy_folder(&data, &copy);
    hub.run().await.unwrap();
    let lost: Vec<_> = (0..3).map(|_| unique("task")).collect();
    for task in &lost {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    hub.wait_everywhere().await.unwrap();
    hub.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy_folder(&copy, &data);
    hub.run().await.unwrap();
    // The numbers of the lost ones are given to others, which the proxy must not take for what it has.
    let after: Vec<_> = (0..3).map(|_| unique("task")).collect();
    for task in &after {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    for task in before.iter().chain(&lost).chain(&after) {
        becomes(&proxy, &fresh().task(task).sign(), "401 task_completed").await;
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_relay_that_only_delays_changes_nothing() {
    let hub = Hub::start("fault-delay").await.unwrap();
    let address = hub.address();
    let relay = StandIn::start(move |asked| {
        Box::pin(async move {
            time::sleep(Duration::from_millis(200)).await;
            forward(address, &asked).await.unwrap_or((503, Vec::new()))
        })
    })
    .await
    .unwrap();
    let proxy = behind("fault-delay-envoy", &hub, relay.cluster()).await;
    wait_ready(&proxy).await.unwrap();
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &fresh().task(&task).sign()).await, "task_completed");
}

#[tokio::test]
async fn a_failure_that_repeats_is_in_the_log_when_it_begins_and_when_it_ends() {
    let address = jwks::down().unwrap();
    let hub = Hub::start_with("fault-log", |config| {
        config["clusters"] = json!({"keys": format!("http://{address}")});
        let transmitters = config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap();
        let mut other = transmitters[0].clone();
        other["issuer"] = json!("https://other.example");
        other["keys"] = json!({"cluster": "keys", "path": "/jwks", "refetch": "1s"});
        transmitters.push(other);
    });
    let hub = hub.await.unwrap();
    let failures = async || {
        let metrics = hub.call("GET", "/metrics", None).await.unwrap().text();
        let line = metrics.lines().find(|line| line.contains("key_fetches_total") && line.contains("failed")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let deadline = Instant::now() + SOON;
    while failures().await < 3 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    let lines = |what: &str| hub.log().lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("the keys of a transmitter were not fetched"), 1, "{}", hub.log());
    let _server = jwks::Jwks::start_on(address, json!({"keys": []})).unwrap();
    let deadline = Instant::now() + SOON;
    while lines("no more: the keys of a transmitter were not fetched") != 1 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    // Callers that are not known: one line, however many there are.
    for _ in 0..10 {
        hub.send(&Request::get("/v1/feeds")).await.unwrap();
    }
    assert_eq!(lines("a caller was not admitted"), 1, "{}", hub.log());
}

#[tokio::test]
async fn a_hub_that_asks_for_a_pause_gets_it() {
    let asked_at = Arc::new(Mutex::new(Vec::new()));
    let at = asked_at.clone();
    let hub = StandIn::start(move |_| {
        at.lock().unwrap().push(Instant::now());
        Box::pin(async { (503, Vec::new()) })
    });
    let hub = hub.await.unwrap();
    hub.ask_for_pause(4);
    let pages = Pages::new(issuers());
    let proxy = follower("fault-pause", hub.cluster(), &pages.jwks(), "30s", |_| ()).await;
    let deadline = Instant::now() + SOON;
    while asked_at.lock().unwrap().len() < 3 {
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
    let times = asked_at.lock().unwrap().clone();
    for pair in times.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_secs(4) && pause < Duration::from_secs(8), "{pause:?}");
    }
}

/// Where the kind of the key and the family of the fact stand in an encoded entry.
const KIND: usize = 3;
const FAMILY: usize = 22;

/// An entry as a later version may send it: `completed` with another byte at `position`.
fn of_a_later_version(task: &str, position: usize, lifted: bool) -> Vec<u8> {
    let mut entry = completed(task);
    entry.entry.lifted = lifted;
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes[position] = if position == KIND { 200 } else { 14 };
    bytes
}

#[tokio::test]
async fn what_a_newer_hub_says_restricts_and_lifts_nothing() {
    let (ended, unknown, open) = (unique("task"), unique("task"), unique("task"));
    let pages = Pages::new(issuers());
    let keys = pages.jwks();
    let mut known = Vec::new();
    completed(&ended).encode(&mut known);
    let state = [
        known,
        of_a_later_version(&unknown, FAMILY, false),
        of_a_later_version(&ended, FAMILY, true),
        of_a_later_version(&open, KIND, false),
        of_a_later_version(&ended, KIND, true),
    ];
    let hub = StandIn::start(move |asked| {
        let page = match asked.after().number {
            5 => pages.page(&[], |statement| {
                (statement.prev, statement.upto, statement.head, statement.format) = (5, at(6), 6, 2);
            }),
            _ => pages.page_of_bytes(&state, |statement| {
                (statement.upto, statement.head, statement.nonce) = (at(5), 5, asked.nonce());
                statement.part = Some(Part { part: 0, parts: 1 });
            }),
        };
        Box::pin(async move {
            time::sleep(Duration::from_millis(100)).await;
            (200, page)
        })
    });
    let hub = hub.await.unwrap();
    let proxy = follower("fault-newer", hub.cluster(), &keys, "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
    assert_allowed(&proxy, &read_order(&proxy, &fresh().task(&open).sign()).await);
    assert_refused(&proxy, &read_order(&proxy, &fresh().task(&ended).sign()).await, "task_completed");
    let refused = read_order(&proxy, &fresh().task(&unknown).sign()).await;
    assert_ne!(refused.status, 200, "a fact of an unknown family restricts its key");
    // A page in a format that it does not read is refused as a whole, and counted.
    let failures = format!("wasmcustom.taskfence.feed_failures.{FEED}.format");
    let deadline = Instant::now() + SOON;
    while proxy.envoy().stats().await.unwrap().value(&failures).unwrap() == 0 {
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(100)).await;
    }
    let asked = hub.asked();
    assert!(asked.iter().all(|asked| asked.query.get("format").is_some_and(|format| format == "1")), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.applied().number <= 5), "it claims nothing that it cannot read");
    assert_refused(&proxy, &read_order(&proxy, &fresh().task(&ended).sign()).await, "task_completed");
}

#[tokio::test]
async fn two_plugins_that_follow_two_feeds_show_both() {
    let hub = Hub::start_with("fault-two-feeds", |config| {
        let mut other = config["feeds"][0].clone();
        other["name"] = json!("other");
        other.as_object_mut().unwrap().remove("signals");
        config["feeds"].as_array_mut().unwrap().push(other);
    });
    let hub = hub.await.unwrap();
    assert_signal_accepted(&hub.push(&complete_task(&unique("task"))).await.unwrap());
    let config = hub.followed_by(&orders::config());
    let mut second = config.clone();
    second["signals"]["hub"]["feed"] = json!("other");
    let settings = Settings::new("fault-two-feeds-envoy", config).workers(1).behind("app", second);
    let settings = settings.patch(jwks::with_clusters(vec![hub.cluster()])).patch(without_receiver);
    let proxy = Sidecar::start(settings).await.unwrap();
    // The first filter of the chain answers the probe; the second is behind it.
    let gauge = async |name: &str| {
        let stats = proxy.envoy().stats().await.unwrap();
        stats.value(&format!("wasmcustom.taskfence.{name}")).unwrap_or_default()
    };
    let deadline = Instant::now() + SOON;
    while gauge("feed_caught_up.main").await == 0 || gauge("feed_caught_up.other").await == 0 {
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((gauge("feed_revision.main").await, gauge("feed_revision.other").await), (1, 0));
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
    // Operators alone speak in the other feed.
    let task = unique("task");
    let event =
        json!({"event": "task-completed", "subject": {"issuer": orders::ISSUER, "task": task}, "reason": "test"});
    let made = hub.call("POST", "/v1/feeds/other/events", Some(&event)).await.unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    becomes(&proxy, &fresh().task(&task).sign(), "401 task_completed").await;
    // Gauges are set at ticks.
    let deadline = Instant::now() + SOON;
    while gauge("feed_revision.other").await != 1 {
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(gauge("feed_revision.main").await, 1);
}
