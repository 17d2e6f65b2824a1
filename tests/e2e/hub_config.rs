//! The configuration of a hub changes: what was said before counts for what comes after.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    client::Request,
    hub::{Hub, SOON, fresh, read_order, refused_as_ended, wait_ready},
    mint::{complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
};
use tokio::time;

/// An issuer that the hub covers only after its configuration has changed.
const SECOND: &str = "https://second.example";

/// The same keys and claims as the issuer of the tests.
fn second_issuer() -> Value {
    let mut issuer = orders::config()["issuers"][0].clone();
    issuer["issuer"] = json!(SECOND);
    issuer
}

/// Changes `hub.yaml`, and starts the hub again.
async fn change(hub: &mut Hub, change: impl FnOnce(&mut Value)) {
    hub.stop().unwrap();
    let file = hub.config_file();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
    let unready = hub.run_until(503).await.unwrap();
    assert!(unready.text().contains("accept-config") || unready.text().contains("has not answered"));
    hub.command(&["hub", "accept-config", "--config", &file]).unwrap();
    let deadline = Instant::now() + SOON;
    while hub.send(&Request::get("/readyz")).await.unwrap().status != 200 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks until the proxy judges tokens of this kind; none may pass before it is refused as its task demands.
async fn answered(proxy: &Sidecar, token: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = read_order(proxy, token).await.unwrap();
        if answer.status != 503 {
            return answer.line();
        }
        assert!(Instant::now() < deadline, "{}\n{}", answer.line(), proxy.envoy().log());
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_issuer_that_is_added_has_what_was_ended_before_it_came() {
    let mut hub = Hub::start("config-issuer").await.unwrap();
    let mut both = orders::config();
    both["issuers"].as_array_mut().unwrap().push(second_issuer());
    let early = Sidecar::start(hub.plain("config-issuer-early", &both)).await.unwrap();
    let (ended, undone, running) = (unique("task"), unique("task"), unique("task"));
    for task in [&ended, &undone] {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    let newest = hub.call("GET", "/v1/feeds/main/signals?limit=1", None).await.unwrap().json();
    let undo = json!({"signal": newest[0]["signal"], "reason": "a mistake"});
    assert_eq!(hub.call("POST", "/v1/feeds/main/undo", Some(&undo)).await.unwrap().status, 200);
    hub.wait_everywhere().await.unwrap();
    let of_second = |task: &str| fresh().task(task).claim("iss", SECOND).sign();
    refused_as_ended(&early, &ended).await.unwrap();
    assert_refused(&early, &read_order(&early, &of_second(&running)).await.unwrap(), "state_not_ready");
    change(&mut hub, |config| {
        config["feeds"][0]["issuers"].as_array_mut().unwrap().push(second_issuer());
        config["feeds"][0]["signals"]["transmitters"][0]["subjects"] = json!([orders::ISSUER, SECOND]);
    })
    .await;
    // The first answer that is no 503 is right already, also in a proxy that has followed the feed before.
    let late = Sidecar::start(hub.plain("config-issuer-late", &both)).await.unwrap();
    wait_ready(&late).await.unwrap();
    for proxy in [&early, &late] {
        assert_eq!(answered(proxy, &of_second(&ended)).await, "401 task_completed");
        assert_eq!(answered(proxy, &of_second(&running)).await, "200", "{}", proxy.envoy().log());
        assert_allowed(proxy, &read_order(proxy, &of_second(&undone)).await.unwrap());
        refused_as_ended(proxy, &ended).await.unwrap();
    }
    assert!(hub.log().contains("entries were derived again"), "{}", hub.log());
}

#[tokio::test]
async fn a_longer_session_opens_a_filter_when_the_entries_last_as_long() {
    let mut hub = Hub::start_with("config-span", |config| {
        config["feeds"][0]["issuers"][0]["max_session"] = json!("1h");
    })
    .await
    .unwrap();
    let proxy = Sidecar::start(hub.plain("config-span-envoy", &orders::config())).await.unwrap();
    let ended = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&ended)).await.unwrap());
    let until = async |hub: &Hub| {
        let path = format!("/v1/feeds/main/state?issuer={}&task={ended}", orders::ISSUER);
        let state = hub.call("GET", &path, None).await.unwrap().json();
        let entry = &state["entries"][0];
        entry["until"].as_u64().unwrap() - entry["at"].as_u64().unwrap()
    };
    let short = until(&hub).await;
    hub.wait_everywhere().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap(), "state_not_ready");
    change(&mut hub, |config| config["feeds"][0]["issuers"][0]["max_session"] = json!("24h")).await;
    assert_eq!(answered(&proxy, &fresh().task(&ended).sign()).await, "401 task_completed");
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
    assert_eq!(until(&hub).await - short, 23 * 60 * 60);
}
