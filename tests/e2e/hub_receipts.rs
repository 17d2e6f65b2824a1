//! Receipts name the proxies that do not have a change, with the time by which each has closed itself, or why it never does.

use std::time::Duration;

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    hub::{FEED, Hub, fresh, read_order, refused_as_ended, wait_ready, without_receiver},
    jwks,
    mint::unique,
    orders,
    sidecar::Sidecar,
    stand_in::{StandIn, forward, now_ms},
};
use tokio::{sync::watch, time};

/// A proxy of this name that follows `hub`.
async fn node(name: &'static str, hub: &Hub, change: impl FnOnce(&mut Value)) -> Sidecar {
    let mut config = hub.followed_by(&orders::config());
    change(&mut config);
    let settings = Settings::new(name, config).workers(1).patch(jwks::with_clusters(vec![hub.cluster()]));
    let settings = settings.patch(without_receiver);
    let name = move |bootstrap: &mut Value| bootstrap["node"] = json!({"id": name, "cluster": "receipts"});
    let proxy = Sidecar::start(settings.patch(name)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    proxy
}

/// Ends a task by the command line; what it said.
fn complete(hub: &Hub, task: &str, wait: &str) -> (i32, String) {
    let url = format!("http://{}", hub.address());
    let wait = format!("--wait={wait}");
    hub.try_command(&[
        "signal",
        "complete",
        "--task",
        task,
        "--subject-issuer",
        orders::ISSUER,
        "--reason",
        "over",
        "--hub",
        &url,
        "--feed",
        FEED,
        &wait,
    ])
    .unwrap()
}

#[tokio::test]
async fn a_receipt_names_who_does_not_have_it_and_by_when_it_has_closed_itself() {
    let hub = Hub::start("receipts").await.unwrap();
    let proxies = [
        node("receipt-closes", &hub, |_| ()).await,
        node("receipt-shadow", &hub, |config| config["mode"] = json!("shadow")).await,
        node("receipt-never", &hub, |config| config["signals"]["stale"] = json!("never")).await,
    ];
    let (code, said) = complete(&hub, &unique("task"), "20s");
    assert_eq!((code, said.contains("in force on 3 of 3 proxies")), (0, true), "{said}");

    for proxy in &proxies {
        proxy.envoy().signal("STOP").unwrap();
    }
    let task = unique("task");
    let (code, said) = complete(&hub, &task, "2s");
    assert_eq!((code, said.contains("in force on 0 of 3 proxies")), (1, true), "{said}");
    assert!(said.contains("not on receipt-closes: closes itself by 20"), "{said}");
    assert!(said.contains("not on receipt-shadow: never closes itself: it is in shadow mode"), "{said}");
    assert!(said.contains("not on receipt-never: never closes itself: its `signals.stale` is"), "{said}");
    let head = hub.head().await.unwrap();
    let receipt = hub.call("GET", &format!("/v1/feeds/{FEED}/receipts/{head}"), None).await.unwrap().json();
    let waiting = receipt["waiting"].as_array().unwrap();
    assert_eq!((waiting.len(), &receipt["complete"]), (3, &json!(false)), "{receipt}");
    let closes = waiting.iter().find(|one| one["node"] == "receipt-closes").unwrap();
    // Its `stale.after` is 30 s, and its clock may be a minute off.
    let left = closes["closes_at_ms"].as_u64().unwrap().saturating_sub(now_ms());
    assert!((20_000..=91_000).contains(&left), "{left} ms are left: {closes}");

    for proxy in &proxies {
        proxy.envoy().signal("CONT").unwrap();
    }
    let receipt = hub.wait_everywhere().await.unwrap();
    assert_eq!(receipt["confirmed"], 3, "{receipt}");
    for proxy in [&proxies[0], &proxies[2]] {
        refused_as_ended(proxy, &task).await.unwrap();
    }
    let (code, said) = complete(&hub, &unique("task"), "20s");
    assert_eq!((code, said.contains("in force on 3 of 3 proxies")), (0, true), "{said}");
}

/// Filters of one proxy that follow one feed share its position, and one of them reports for all: here neither must report
/// for itself alone.
#[tokio::test]
async fn a_proxy_has_closed_itself_when_its_last_filter_has() {
    let hub = Hub::start("receipt-filters").await.unwrap();
    let first = hub.followed_by(&orders::config());
    let mut never = first.clone();
    never["signals"]["stale"] = json!("never");
    for (name, first, second) in [("receipt-filters-a", &first, &never), ("receipt-filters-b", &never, &first)] {
        let settings = Settings::new(name, first.clone()).behind("app", second.clone()).workers(1);
        let settings = settings.patch(jwks::with_clusters(vec![hub.cluster()])).patch(without_receiver);
        let node = move |bootstrap: &mut Value| bootstrap["node"] = json!({"id": name, "cluster": "receipts"});
        let proxy = Sidecar::start(settings.patch(node)).await.unwrap();
        wait_ready(&proxy).await.unwrap();
        let listed = hub.call("GET", &format!("/v1/feeds/{FEED}/proxies"), None).await.unwrap().json();
        let own: Vec<_> = listed.as_array().unwrap().iter().filter(|proxy| proxy["node"] == name).collect();
        let closes: Vec<_> = own.iter().map(|proxy| &proxy["stale_after"]).collect();
        assert_eq!(closes, [&json!(null)], "{listed}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_cut_off_closes_itself_by_the_time_in_the_receipt() {
    let hub = Hub::start("receipt-time").await.unwrap();
    let (gate, relay) = cut_off(&hub).await;
    let mut config = hub.followed_by(&orders::config());
    config["signals"]["stale"]["after"] = json!("5s");
    let settings = Settings::new("receipt-time-envoy", config).workers(1).patch(without_receiver);
    let settings = settings.patch(jwks::with_clusters(vec![relay.cluster()]));
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    hub.wait_everywhere().await.unwrap();
    gate.send_replace(false);
    let task = unique("task");
    let (code, said) = complete(&hub, &task, "1s");
    assert_eq!(code, 1, "{said}");
    let head = hub.head().await.unwrap();
    let receipt = hub.call("GET", &format!("/v1/feeds/{FEED}/receipts/{head}"), None).await.unwrap().json();
    let closes_at = receipt["waiting"][0]["closes_at_ms"].as_u64().unwrap();
    let token = fresh().task(&task).sign();
    let mut refused_at = None;
    while now_ms() < closes_at {
        let answer = read_order(&proxy, &token).await.unwrap();
        match (answer.status, refused_at) {
            (200, None) => {}
            (200, Some(at)) => panic!("it passed {} ms after it was refused", now_ms() - at),
            _ => refused_at = refused_at.or(Some(now_ms())),
        }
        if refused_at.is_some_and(|at| now_ms() > at + 2_000) {
            break;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    let early = closes_at.checked_sub(refused_at.expect("it closed itself by then")).unwrap();
    eprintln!("it closed itself {early} ms before the time in the receipt");
}

/// The way to the hub, and what ends it: while that is false, every request fails.
async fn cut_off(hub: &Hub) -> (watch::Sender<bool>, StandIn) {
    let (gate, is_open) = watch::channel(true);
    let address = hub.address();
    let relay = StandIn::start(move |asked| {
        let mut is_open = is_open.clone();
        Box::pin(async move {
            if !*is_open.borrow() {
                return (503, Vec::new());
            }
            tokio::select! {
                _ = is_open.wait_for(|open| !open) => (503, Vec::new()),
                answer = forward(address, &asked) => answer.unwrap_or((503, Vec::new())),
            }
        })
    });
    (gate, relay.await.unwrap())
}
