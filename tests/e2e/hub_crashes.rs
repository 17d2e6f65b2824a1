//! What follows a hub dies or is replaced, or the hub dies: nothing is lost, and nothing is allowed meanwhile that should
//! not be.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{Http, Request},
    discovered::Discovered,
    hub::{FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready, without_receiver},
    jwks,
    mint::{complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_signal_accepted},
    services,
    sidecar::Sidecar,
    stand_in::{Asked, StandIn, forward},
    streaming::Connection,
};
use tokio::{sync::watch, time};

/// Ends so many tasks at the hub; their names.
async fn end_tasks(hub: &Hub, count: usize) -> Vec<String> {
    let tasks: Vec<_> = (0..count).map(|_| unique("task")).collect();
    for task in &tasks {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    tasks
}

/// The proxy's way to the hub, and what closes it. What is asked while it is closed waits.
async fn with_gate(hub: SocketAddr) -> (watch::Sender<bool>, StandIn) {
    let (gate, is_open) = watch::channel(true);
    let relay = StandIn::start(move |asked| {
        let mut is_open = is_open.clone();
        Box::pin(async move {
            if is_open.wait_for(|open| *open).await.is_err() {
                return (503, Vec::new());
            }
            forward(hub, &asked).await.unwrap_or((503, Vec::new()))
        })
    });
    (gate, relay.await.unwrap())
}

/// A sidecar whose filter stops its VM on request. The hub answers it after a second at the latest.
async fn crashing(name: &str, hub: &Hub, relay: &StandIn) -> Sidecar {
    let wasm = artefacts::crashing_wasm().unwrap().display().to_string();
    let mut config = hub.followed_by(&orders::config());
    config["signals"]["hub"]["wait"] = json!("1s");
    let replace = move |bootstrap: &mut Value| {
        let code = format!("{}/http_filters/0/typed_config/config/vm_config/code/local/filename", bootstrap::APP);
        *bootstrap.pointer_mut(&code).unwrap() = json!(wasm);
    };
    let settings = Settings::new(name, config).balanced().patch(jwks::with_clusters(vec![relay.cluster()]));
    Sidecar::start(settings.patch(replace).patch(without_receiver)).await.unwrap()
}

#[tokio::test]
async fn a_vm_that_dies_in_the_middle_of_a_page_loses_nothing() {
    if bootstrap::is_never_loaded_anew("a_vm_that_dies_in_the_middle_of_a_page_loses_nothing") {
        return;
    }
    const PAGE: usize = 40;
    let hub = Hub::start("crash-page").await.unwrap();
    let (gate, relay) = with_gate(hub.address()).await;
    let proxy = crashing("crash-page-envoy", &hub, &relay).await;
    wait_ready(&proxy).await.unwrap();
    let mut ended = end_tasks(&hub, 1).await;
    hub.wait_everywhere().await.unwrap();
    // After the entries are decoded, after the first bucket is merged, and in the middle of the buckets.
    for (crashes, look) in (1..).zip([1, 2, PAGE / 2]) {
        gate.send_replace(false);
        // What the hub holds comes back meanwhile.
        time::sleep(Duration::from_millis(1_500)).await;
        let before = ended.last().unwrap().clone();
        let page = end_tasks(&hub, PAGE).await;
        let arm = Request::get(orders::ORDER_PATH).header("x-taskfence-crash", format!("page={look}"));
        assert_allowed(&proxy, &proxy.send(Http::One, &arm.bearer(&fresh().sign())).await.unwrap());
        gate.send_replace(true);
        let opened = Instant::now();
        let receipt = hub.wait_everywhere();
        tokio::pin!(receipt);
        let known = fresh().task(&before).sign();
        loop {
            tokio::select! {
                receipt = &mut receipt => break drop(receipt.unwrap()),
                answer = read_order(&proxy, &known) => {
                    assert_ne!(answer.unwrap().status, 200, "what was known before the crash");
                    time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        let took = opened.elapsed();
        let log = proxy.envoy().log();
        assert_eq!(log.matches("crash: in the middle of a page").count(), crashes, "{log}");
        assert!(took < Duration::from_secs(10), "another VM went on after {took:?}");
        ended.extend(page);
        for task in &ended {
            refused_as_ended(&proxy, task).await.unwrap();
        }
        eprintln!("stopped at look {look}: caught up {took:?} later");
    }
    wait_ready(&proxy).await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
}

#[tokio::test]
async fn a_new_configuration_goes_on_where_the_old_one_was() {
    let hub = Hub::start("crash-replaced").await.unwrap();
    let relay = StandIn::before(hub.address(), |_, _, page| page).await.unwrap();
    let discovered = Discovered::new("crash-replaced-filter").unwrap();
    let mut config = orders::config();
    let rules = config["rules"].as_array_mut().unwrap();
    rules.push(json!({"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}}));
    let settings = Settings::new("crash-replaced-envoy", hub.followed_by(&config)).workers(1);
    let file = discovered.clone();
    let settings = settings.patch(jwks::with_clusters(vec![relay.cluster()])).patch(without_receiver);
    let proxy = Sidecar::start(settings.patch(move |bootstrap| file.discover(bootstrap))).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    // A stream keeps the old configuration alive.
    let live = unique("task");
    let mut connection = Connection::open(proxy.app(), Http::Two).await.unwrap();
    let request = Request::get(services::EVENTS).bearer(&fresh().task(&live).sign());
    let mut stream = connection.start(&request).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(1).await.unwrap();
    let mut ended = end_tasks(&hub, 1).await;
    hub.wait_everywhere().await.unwrap();
    for after in [30, 31] {
        let known = fresh().task(&ended[0]).sign();
        let (from, to) = (format!("\"after\":\"{after}s\""), format!("\"after\":\"{}s\"", after + 1));
        let replaced = discovered.replace(&proxy, &from, &to);
        tokio::pin!(replaced);
        loop {
            tokio::select! {
                result = &mut replaced => break result.unwrap(),
                more = end_tasks(&hub, 1) => {
                    ended.extend(more);
                    assert_ne!(read_order(&proxy, &known).await.unwrap().status, 200);
                }
            }
        }
        ended.extend(end_tasks(&hub, 5).await);
        hub.wait_everywhere().await.unwrap();
        for task in &ended {
            refused_as_ended(&proxy, task).await.unwrap();
        }
        // The old one stops to ask: from the first request of the new one on.
        let deadline = Instant::now() + SOON;
        let is_new = |asked: &Asked| asked.report["stale_after"] == after + 1;
        while !relay.asked().iter().any(is_new) {
            assert!(Instant::now() < deadline, "the new configuration never asked:\n{}", proxy.envoy().log());
            time::sleep(Duration::from_millis(20)).await;
        }
        let seen = relay.asked().len();
        ended.extend(end_tasks(&hub, 5).await);
        time::sleep(Duration::from_secs(3)).await;
        let asked = relay.asked();
        let later = asked.get(seen..).unwrap();
        assert!(!later.is_empty() && later.iter().all(is_new), "{later:#?}");
        assert!(asked.iter().all(|asked| asked.report["id"] == asked_first(&relay)), "one proxy, one position");
    }
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
    // The stream of the first configuration is looked after still.
    let ends = tokio::spawn(stream.end(SOON));
    assert_signal_accepted(&hub.push(&complete_task(&live)).await.unwrap());
    ends.await.unwrap().unwrap();
}

fn asked_first(relay: &StandIn) -> Value {
    relay.asked().first().unwrap().report["id"].clone()
}

#[tokio::test]
async fn what_was_answered_is_read_back_after_a_kill_each_time() {
    let mut hub = Hub::start("crash-durable").await.unwrap();
    let mut answered = Vec::new();
    for round in 0..10 {
        answered.extend(end_tasks(&hub, 1).await);
        hub.kill();
        hub.run().await.unwrap();
        let stored = hub.call("GET", &format!("/v1/feeds/{FEED}/signals?limit=1000"), None).await.unwrap();
        assert_eq!(stored.status, 200, "{}", stored.text());
        let stored = stored.json();
        let stored = stored.as_array().unwrap();
        assert_eq!(stored.len(), answered.len(), "round {round}");
        // The newest is first.
        for (signal, task) in stored.iter().zip(answered.iter().rev()) {
            assert!(signal["subject"].to_string().contains(task.as_str()), "round {round}: {signal} and not {task}");
        }
    }
}
