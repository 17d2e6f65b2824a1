//! What each grant was used for is counted in the workers and reaches the hub exactly: also when the configuration changes,
//! the hub is away, or a worker's machine dies.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{self, Connection, Http, Request},
    discovered::Discovered,
    hub::{Hub, wait_ready, without_receiver},
    jwks,
    mint::{self, Jwt, complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    services,
    sidecar::Sidecar,
    streaming,
    uses_hub::UsesHub,
};
use tokio::time;

const WORKERS: u32 = 4;

fn config() -> Value {
    let mut config = orders::config();
    config["rules"] = json!([
        {"name": "cancel", "match": {"path": "/v1/orders/{order}:cancel"}, "require": {"scope": "orders.cancel"}},
        {"name": "read", "match": {"methods": ["GET"], "path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}},
        {"name": "trial", "match": {"path": "/v1/trial/{rest...}"}, "require": {"scope": "orders.trial"}, "mode": "shadow"},
        {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}},
        {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
    ]);
    config
}

/// A token by name: `jti`, and a task and a session of its own.
fn named(name: &str) -> Jwt {
    mint::token().claim("jti", name).task(&unique("task")).session(&unique("sess")).user(&unique("user"))
}

/// Settings of a proxy that sends its uses to `uses`, and follows `hub` through it.
fn settings(name: &str, hub: &Hub, uses: &UsesHub) -> Settings {
    let settings = Settings::new(name, hub.followed_by(&config())).balanced().workers(WORKERS);
    let node = json!({"id": name, "cluster": "tests"});
    let settings = settings.patch(jwks::with_clusters(vec![uses.cluster()])).patch(without_receiver);
    settings.patch(move |bootstrap| bootstrap["node"] = node)
}

async fn started(name: &str) -> (Hub, UsesHub, Sidecar) {
    let hub = Hub::start(name).await.unwrap();
    let uses = UsesHub::before(&hub).await.unwrap();
    let proxy = Sidecar::start(settings(&format!("{name}-envoy"), &hub, &uses)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    (hub, uses, proxy)
}

/// Sends `count` requests on each of eight connections, which are spread over the workers. All must be permitted.
async fn load(proxy: &Sidecar, token: &str, path: &str, count: u64) -> u64 {
    let opened = join_all((0..8).map(|_| Connection::open(proxy.app(), Http::One))).await;
    let request = &Request::get(path).bearer(token);
    let sent = opened.into_iter().map(async |connection| {
        let mut connection = connection.unwrap();
        for _ in 0..count {
            assert_eq!(connection.send(request).await.unwrap().line(), "200");
        }
        count
    });
    join_all(sent).await.into_iter().sum()
}

async fn send(proxy: &Sidecar, token: &Jwt, path: &str) -> client::Answer {
    proxy.send(Http::One, &Request::get(path).bearer(&token.sign())).await.unwrap()
}

#[tokio::test]
async fn the_sums_of_all_workers_are_exact_over_an_update_and_an_absent_hub() {
    let hub = Hub::start("uses-exact").await.unwrap();
    let uses = UsesHub::before(&hub).await.unwrap();
    let file = Discovered::new("uses-exact").unwrap();
    let discovered = file.clone();
    let settings = settings("uses-exact-envoy", &hub, &uses).patch(move |bootstrap| discovered.discover(bootstrap));
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let (one, two) = (named("one").sign(), named("two").sign());
    let mut sent = load(&proxy, &one, "/v1/orders/1881", 100).await;
    let before = proxy.connections_by_worker().await.unwrap();
    assert!(before.iter().all(|connections| *connections > 0), "all workers count: {before:?}");
    // The configuration changes while requests come.
    let (loaded, replaced) = tokio::join!(
        load(&proxy, &one, "/v1/orders/1882", 300),
        file.replace(&proxy, "orders.trial", "orders.experiment")
    );
    replaced.unwrap();
    sent += loaded;
    sent += load(&proxy, &two, "/v1/orders/1881", 50).await;
    uses.wait(|taken| taken.sum() == sent).await.unwrap();
    // The hub is away for a while; what is answered with an error may have been taken.
    uses.taken().refuse_with = 503;
    sent += load(&proxy, &one, "/v1/orders/1881", 100).await;
    time::sleep(Duration::from_secs(3)).await;
    (uses.taken().refuse_with, uses.taken().lose_answers) = (0, 503);
    sent += load(&proxy, &two, "/v1/orders/a%20b", 100).await;
    time::sleep(Duration::from_secs(3)).await;
    uses.taken().lose_answers = 0;
    uses.wait(|taken| taken.sum() >= sent).await.unwrap();
    time::sleep(Duration::from_secs(3)).await;
    let taken = uses.taken();
    assert_eq!(taken.sum(), sent);
    let mut by_use = BTreeMap::<_, u64>::new();
    for (token, rule, one) in taken.permitted() {
        assert!(one.first <= one.last && one.method == "GET" && rule == "read", "{one:?}");
        *by_use.entry((token, one.captures.join("/"))).or_default() += one.count;
    }
    let name = |token: &str, order: &str| (token.to_owned(), order.to_owned());
    let expected = [
        (name("one", "1881"), 1_600),
        (name("one", "1882"), 2_400),
        (name("two", "1881"), 400),
        (name("two", "a b"), 800),
    ];
    assert_eq!(by_use, expected.into());
    let configs: std::collections::BTreeSet<_> =
        taken.batches.values().flat_map(|batch| batch.rules.iter().map(|rule| &rule.config)).collect();
    assert_eq!(configs.len(), 2, "both configurations have decided");
    for config in configs {
        let outline = taken.outlines.iter().find(|outline| outline.config == *config);
        let rule = &outline.unwrap_or_else(|| panic!("the rules of {config}")).rules[1];
        assert_eq!((rule.name.as_str(), rule.path.as_deref()), ("read", Some("/v1/orders/{order}")));
    }
    assert_eq!(taken.authorization.as_deref(), Some(format!("Bearer {}", hub.sidecar()).as_str()));
    assert!(taken.gaps.is_empty(), "{:?}", taken.gaps);
    let seen = taken.batches.values().flat_map(|batch| &batch.grants).flat_map(|grant| &grant.seen);
    assert!(seen.clone().count() > 0 && seen.clone().all(|seen| seen.value == "127.0.0.1"));
}

#[tokio::test]
async fn an_idle_proxy_sends_nothing() {
    let (_hub, uses, proxy) = started("uses-idle").await;
    for _ in 0..5 {
        assert_eq!(proxy.send(Http::One, &Request::get("/healthz")).await.unwrap().status, 200);
        assert_eq!(proxy.send(Http::One, &Request::get("/v1/orders/1")).await.unwrap().line(), "401 token_missing");
    }
    time::sleep(Duration::from_secs(12)).await;
    assert_eq!(uses.taken().posts, 0, "no grant was used");
    assert_allowed(&proxy, &send(&proxy, &named("idle"), "/v1/orders/1").await);
    uses.wait(|taken| taken.sum() == 1).await.unwrap();
    time::sleep(Duration::from_secs(4)).await;
    assert_eq!(uses.taken().posts, 1);
    let stats = proxy.envoy().stats().await.unwrap();
    let stat = |name: &str| stats.value(&format!("wasmcustom.taskfence.{name}")).unwrap();
    assert_eq!((stat("uses_counted"), stat("uses_other"), stat("uses_batches.taken")), (1, 0, 1));
    assert_eq!(stat("uses_unsent_seconds.main"), 0);
}

#[tokio::test]
async fn refusals_shadow_passes_and_ended_streams_are_counted_apart() {
    let (hub, uses, proxy) = started("uses-refused").await;
    let token = named("refused");
    assert_refused(&proxy, &send(&proxy, &token, "/v1/orders/7:cancel").await, "scope_insufficient");
    assert_refused(&proxy, &send(&proxy, &token, "/v1/orders/7:cancel").await, "scope_insufficient");
    assert_eq!(send(&proxy, &token, "/v1/trial/x").await.line(), "200");
    let task = unique("task");
    let live = mint::token().claim("jti", "live").task(&task).session(&unique("sess"));
    let mut connection = streaming::Connection::open(proxy.app(), Http::Two).await.unwrap();
    let mut stream = connection.start(&Request::get(services::EVENTS).bearer(&live.sign())).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(10).await.unwrap();
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    stream.end(Duration::from_secs(20)).await.unwrap();
    assert_refused(&proxy, &send(&proxy, &live, "/v1/orders/7").await, "task_completed");
    uses.wait(|taken| taken.refused().map(|(_, _, one)| one.count).sum::<u64>() >= 5).await.unwrap();
    let taken = uses.taken();
    let mut counted = BTreeMap::<_, u64>::new();
    for (token, rule, one) in taken.refused() {
        *counted.entry((token, rule.unwrap(), one.reason, one.shadow, one.ended)).or_default() += one.count;
    }
    let key = |token: &str, rule: &str, reason: &str, shadow, ended| {
        (token.to_owned(), rule.to_owned(), reason.to_owned(), shadow, ended)
    };
    let expected = [
        (key("refused", "cancel", "scope_insufficient", false, false), 2),
        (key("refused", "trial", "scope_insufficient", true, false), 1),
        (key("live", "live", "task_completed", false, true), 1),
        (key("live", "read", "task_completed", false, false), 1),
    ];
    assert_eq!(counted, expected.into());
    let permitted: Vec<_> = taken.permitted().map(|(token, rule, one)| (token, rule, one.count)).collect();
    assert_eq!(permitted, [("live".to_owned(), "live".to_owned(), 1)], "a shadow pass is no use");
}

#[tokio::test]
async fn a_machine_that_dies_leaves_a_gap() {
    if bootstrap::is_never_loaded_anew("a_machine_that_dies_leaves_a_gap") {
        return;
    }
    let hub = Hub::start("uses-crash").await.unwrap();
    let uses = UsesHub::before(&hub).await.unwrap();
    let wasm = artefacts::crashing_wasm().unwrap().display().to_string();
    let settings = settings("uses-crash-envoy", &hub, &uses).workers(1).patch(move |bootstrap| {
        let file = format!("{}/http_filters/0/typed_config/config/vm_config/code/local/filename", bootstrap::APP);
        *bootstrap.pointer_mut(&file).unwrap() = json!(wasm);
    });
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let token = named("crash");
    assert_allowed(&proxy, &send(&proxy, &token, "/v1/orders/1").await);
    uses.wait(|taken| taken.sum() == 1).await.unwrap();
    assert!(uses.taken().gaps.is_empty());
    assert_allowed(&proxy, &send(&proxy, &token, "/v1/orders/1").await);
    let stop = Request::get("/v1/orders/1").header("x-taskfence-crash", "1");
    assert_eq!(proxy.send(Http::One, &stop).await.unwrap().status, 503);
    // `FAIL_RELOAD` makes a new machine when a request comes.
    let deadline = time::Instant::now() + Duration::from_secs(20);
    let mut after = 0;
    while after == 0 {
        assert!(time::Instant::now() < deadline, "no machine came back:\n{}", proxy.envoy().log());
        after += u64::from(send(&proxy, &token, "/v1/orders/1").await.status == 200);
        time::sleep(Duration::from_millis(100)).await;
    }
    uses.wait(|taken| !taken.gaps.is_empty() && taken.sum() == 1 + after).await.unwrap();
    let taken = uses.taken();
    let lost = &taken.gaps[0];
    let known: std::collections::BTreeSet<_> = taken.batches.keys().map(|(vm, _)| vm.clone()).collect();
    assert!(known.contains(&lost.vm) && known.len() == 2, "{lost:?} of {known:?}");
    assert!(taken.gaps.len() == 1 && lost.since <= lost.until, "{:?}", taken.gaps);
}

#[tokio::test]
async fn plugins_of_one_machine_count_together() {
    let hub = Hub::start("uses-several").await.unwrap();
    let uses = UsesHub::before(&hub).await.unwrap();
    let mut other = config();
    other["rules"][1]["name"] = json!("read-there");
    let settings = settings("uses-several-envoy", &hub, &uses).also("other", hub.followed_by(&other));
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let token = named("several").sign();
    let request = Request::get("/v1/orders/5").bearer(&token);
    let mut sent = [0, 0];
    for round in 0..40 {
        let to = if round % 3 == 0 { proxy.listener("other") } else { proxy.app() };
        assert_eq!(client::send(to, Http::One, &request).await.unwrap().line(), "200");
        sent[usize::from(round % 3 == 0)] += 1;
    }
    uses.wait(|taken| taken.sum() == 40).await.unwrap();
    let taken = uses.taken();
    let mut counted = BTreeMap::<String, u64>::new();
    for (_, rule, one) in taken.permitted() {
        *counted.entry(rule).or_default() += one.count;
    }
    assert_eq!(counted, [("read".to_owned(), sent[0]), ("read-there".to_owned(), sent[1])].into());
    let grants: Vec<_> = taken.batches.values().map(|batch| batch.grants.len()).collect();
    assert!(grants.iter().all(|grants| *grants == 1), "one grant, whichever plugin saw it: {grants:?}");
}
