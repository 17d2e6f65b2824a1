//! Proxies that follow a hub: caught up before they judge, brought up to date at once, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    Result,
    bootstrap::{self, Settings},
    client::{Answer, Http, Request},
    hub::{FEED, Hub, SOON, wait_ready, without_receiver},
    jwks,
    mint::{self, Jwt, complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    services,
    sidecar::Sidecar,
    streaming::Connection,
};
use tokio::time;

/// A sidecar as plain Envoy has it, that follows `hub`.
async fn follower(name: &str, hub: &Hub) -> Sidecar {
    Sidecar::start(hub.plain(name, &config())).await.unwrap()
}

/// A sidecar as Istio and Envoy Gateway set it up.
async fn lone_plugin(name: &str, hub: &Hub) -> Sidecar {
    Sidecar::start(hub.lone(name, &config())).await.unwrap()
}

fn config() -> Value {
    let mut config = orders::config();
    let rules = config["rules"].as_array_mut().unwrap();
    rules.push(json!({"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}}));
    config
}

fn fresh() -> Jwt {
    mint::token().session(&unique("sess")).task(&unique("task")).user(&unique("user"))
}

async fn read_order(sidecar: &Sidecar, token: &str) -> Answer {
    sidecar.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap()
}

/// A task that has ended at the hub, and its token.
async fn ended(hub: &Hub) -> Result<(String, String)> {
    let task = unique("task");
    let token = fresh().task(&task).sign();
    assert_signal_accepted(&hub.push(&complete_task(&task)).await?);
    Ok((task, token))
}

#[tokio::test]
async fn a_revocation_reaches_both_kinds_of_proxy_and_the_receipt_says_so() {
    let hub = Hub::start("hub-both").await.unwrap();
    let proxies = [follower("hub-plain", &hub).await, lone_plugin("hub-lone", &hub).await];
    let task = unique("task");
    let token = fresh().task(&task).sign();
    for proxy in &proxies {
        wait_ready(proxy).await.unwrap();
        assert_allowed(proxy, &read_order(proxy, &token).await);
    }
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    let receipt = hub.wait_everywhere().await.unwrap();
    assert_eq!(receipt["confirmed"], 2, "{receipt}");
    for proxy in &proxies {
        for _ in 0..8 {
            assert_refused(proxy, &read_order(proxy, &token).await, "task_completed");
        }
        assert_allowed(proxy, &read_order(proxy, &fresh().sign()).await);
    }
}

#[tokio::test]
async fn a_running_stream_ends_with_the_revocation() {
    let hub = Hub::start("hub-stream").await.unwrap();
    let proxy = follower("hub-stream-envoy", &hub).await;
    wait_ready(&proxy).await.unwrap();
    let task = unique("task");
    let mut connection = Connection::open(proxy.app(), Http::Two).await.unwrap();
    let request = Request::get(services::EVENTS).bearer(&fresh().task(&task).sign());
    let mut stream = connection.start(&request).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(100).await.unwrap();
    let ends = tokio::spawn(stream.end(SOON));
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    let confirmed = Instant::now();
    let end = ends.await.unwrap().unwrap();
    let late = end.ended.saturating_duration_since(confirmed);
    assert!(late < Duration::from_millis(600), "{late:?} after the receipt");
}

#[tokio::test]
async fn what_was_revoked_stays_so_when_proxy_and_hub_restart() {
    let mut hub = Hub::start("hub-restart").await.unwrap();
    let (_, token) = ended(&hub).await.unwrap();
    for kill in [true, false] {
        if kill {
            hub.kill()
        } else {
            hub.stop().unwrap()
        }
        hub.run().await.unwrap();
        // A proxy that starts now has never heard of the revocation, and asks at once for what it guards.
        let proxy = follower("hub-restarted", &hub).await;
        let deadline = Instant::now() + SOON;
        loop {
            let answer = read_order(&proxy, &token).await;
            assert_ne!(answer.status, 200, "not one request passes before the proxy has caught up");
            match answer.reason().as_deref() {
                Some("task_completed") => break,
                reason => assert_eq!(reason, Some("state_not_ready")),
            }
            assert!(Instant::now() < deadline, "it never caught up:\n{}", proxy.envoy().log());
            time::sleep(Duration::from_millis(5)).await;
        }
        assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
    }
}

#[tokio::test]
async fn a_proxy_without_its_hub_judges_no_token() {
    let mut hub = Hub::start("hub-absent").await.unwrap();
    hub.stop().unwrap();
    let proxy = lone_plugin("hub-absent-envoy", &hub).await;
    time::sleep(Duration::from_secs(2)).await;
    assert_refused(&proxy, &read_order(&proxy, &fresh().sign()).await, "state_not_ready");
    let ready = proxy.send(Http::One, &Request::get("/.well-known/taskfence/ready")).await.unwrap();
    assert_eq!(ready.status, 503);
    assert_eq!(proxy.send(Http::One, &Request::get("/healthz")).await.unwrap().status, 200, "anonymous rules go on");
    hub.run().await.unwrap();
    wait_ready(&proxy).await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
}

#[tokio::test]
async fn an_operator_undoes_one_mistake_and_nothing_else() {
    let hub = Hub::start("hub-undo").await.unwrap();
    let proxy = follower("hub-undo-envoy", &hub).await;
    wait_ready(&proxy).await.unwrap();
    let (task, token) = ended(&hub).await.unwrap();
    // The operator ends the same task by mistake, and one more.
    let other = unique("task");
    let other_token = fresh().task(&other).sign();
    let mut mistakes = Vec::new();
    for task in [&task, &other] {
        let event = json!({"event": "task-completed", "subject": {"issuer": orders::ISSUER, "task": task}, "reason": "mistake"});
        let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/events"), Some(&event)).await.unwrap();
        assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.text());
        mistakes.push(answer.json()["signal"].clone());
    }
    hub.wait_everywhere().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &other_token).await, "task_completed");
    for mistake in mistakes {
        let undo = json!({"signal": mistake, "reason": "wrong task"});
        let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/undo"), Some(&undo)).await.unwrap();
        assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.text());
    }
    hub.wait_everywhere().await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &other_token).await);
    assert_refused(&proxy, &read_order(&proxy, &token).await, "task_completed");
}

#[tokio::test]
async fn a_stop_refuses_whatever_began_when_until_it_is_undone() {
    let hub = Hub::start("hub-stop").await.unwrap();
    let proxy = follower("hub-stop-envoy", &hub).await;
    wait_ready(&proxy).await.unwrap();
    let stop = json!({"issuer": orders::ISSUER, "reason": "its key was stolen"});
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/stops"), Some(&stop)).await.unwrap();
    assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.text());
    let stopped = answer.json()["signal"].clone();
    hub.wait_everywhere().await.unwrap();
    time::sleep(Duration::from_millis(1_100)).await;
    let later = fresh().sign();
    assert_eq!(read_order(&proxy, &later).await.status, 401, "a token that was minted after the stop");
    let undo = json!({"signal": stopped, "reason": "the key is replaced"});
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/undo"), Some(&undo)).await.unwrap();
    assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.text());
    hub.wait_everywhere().await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &later).await);
}

/// Undoes a signal by the members of `which`; the answer.
async fn undo(hub: &Hub, which: Value) -> Value {
    let mut body = which;
    body["reason"] = json!("a mistake");
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/undo"), Some(&body)).await.unwrap();
    assert!(matches!(answer.status, 200..=202), "{} {}", answer.status, answer.text());
    answer.json()
}

#[tokio::test]
async fn many_revocations_of_one_user_are_taken_and_each_is_undone_alone() {
    let hub = Hub::start("hub-many").await.unwrap();
    let proxy = follower("hub-many-envoy", &hub).await;
    wait_ready(&proxy).await.unwrap();
    let user = unique("user");
    let begun = |ago: i64| fresh().user(&user).claim("auth_time", mint::now() - ago);
    let (old, running) = (begun(400).sign(), begun(200).sign());
    let mut pushed = Vec::new();
    for at in 0..200 {
        let set = mint::revoke_user(&user).dated(mint::now() - 100);
        assert_signal_accepted(&hub.push(&set).await.unwrap());
        pushed.push((set.id(), set));
        if at == 0 {
            hub.wait_everywhere().await.unwrap();
            assert_refused(&proxy, &read_order(&proxy, &old).await, "user_revoked");
        }
    }
    hub.wait_everywhere().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &running).await, "user_revoked");
    // A session that began later is not meant.
    assert_allowed(&proxy, &read_order(&proxy, &begun(50).sign()).await);
    // Undone by name, one of them leaves the user revoked, and comes again without effect.
    let (last, set) = pushed.pop().unwrap();
    let undone = undo(&hub, json!({"jti": last})).await;
    assert!(undone["notes"].to_string().contains("other signals"), "{undone}");
    assert_signal_accepted(&hub.push(&set).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &running).await, "user_revoked");
    assert_eq!(undo(&hub, json!({"jti": last})).await["repeated"], json!(true));
    // When all are undone, the sessions of before go on.
    for (jti, _) in &pushed {
        undo(&hub, json!({"jti": jti})).await;
    }
    hub.wait_everywhere().await.unwrap();
    for token in [&old, &running] {
        assert_allowed(&proxy, &read_order(&proxy, token).await);
    }
    // A SET that was undone stays so; a new one does not.
    assert_signal_accepted(&hub.push(&pushed[0].1).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &running).await);
    assert_signal_accepted(&hub.push(&mint::revoke_user(&user).dated(mint::now() - 100)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &running).await, "user_revoked");
}

#[tokio::test]
async fn an_issuer_is_stopped_and_released_a_hundred_times() {
    let mut hub = Hub::start("hub-again").await.unwrap();
    let proxy = follower("hub-again-envoy", &hub).await;
    wait_ready(&proxy).await.unwrap();
    let token = fresh().sign();
    let stop = json!({"issuer": orders::ISSUER, "reason": "a drill"});
    for at in 0..100 {
        let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/stops"), Some(&stop)).await.unwrap();
        assert!(matches!(answer.status, 200..=202), "{at}: {} {}", answer.status, answer.text());
        let stopped = answer.json()["signal"].clone();
        if at % 25 == 0 {
            hub.wait_everywhere().await.unwrap();
            assert_eq!(read_order(&proxy, &token).await.status, 401, "{at}");
        }
        undo(&hub, json!({"signal": stopped})).await;
        if at % 25 == 0 {
            hub.wait_everywhere().await.unwrap();
            assert_allowed(&proxy, &read_order(&proxy, &token).await);
        }
        if at == 50 {
            hub.kill();
            hub.run().await.unwrap();
        }
    }
    hub.wait_everywhere().await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &token).await);
    // A proxy that starts now sees the same, and the next stop holds in both.
    let new = follower("hub-again-new", &hub).await;
    wait_ready(&new).await.unwrap();
    assert_allowed(&new, &read_order(&new, &token).await);
    hub.call("POST", &format!("/v1/feeds/{FEED}/stops"), Some(&stop)).await.unwrap();
    hub.wait_everywhere().await.unwrap();
    for proxy in [&proxy, &new] {
        assert_eq!(read_order(proxy, &token).await.status, 401);
    }
}

#[tokio::test]
async fn a_silent_hub_closes_the_proxy_after_its_time() {
    let mut hub = Hub::start("hub-silent").await.unwrap();
    let mut config = hub.followed_by(&config());
    config["signals"]["stale"]["after"] = json!("5s");
    let settings = Settings::new("hub-silent-envoy", config).patch(jwks::with_clusters(vec![hub.cluster()]));
    let proxy = Sidecar::start(settings.patch(without_receiver)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let token = fresh().sign();
    assert_allowed(&proxy, &read_order(&proxy, &token).await);
    // A quiet feed is not a silent one: heartbeats keep it fresh.
    time::sleep(Duration::from_secs(8)).await;
    assert_allowed(&proxy, &read_order(&proxy, &token).await);
    hub.kill();
    time::sleep(Duration::from_secs(7)).await;
    assert_refused(&proxy, &read_order(&proxy, &token).await, "state_stale");
    hub.run().await.unwrap();
    let deadline = Instant::now() + SOON;
    while read_order(&proxy, &token).await.status != 200 {
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_hub_and_a_receiver_can_both_feed_one_proxy() {
    let hub = Hub::start("hub-and-receiver").await.unwrap();
    let mut filter = hub.followed_by(&config());
    filter["signals"]["also_receiver"] = json!(true);
    filter["signals"]["transmitters"] = config()["signals"]["transmitters"].clone();
    // Nothing but the hub must be heard of.
    filter["signals"]["transmitters"][0]["heartbeat"] = json!(false);
    let mut receiver = config();
    receiver["role"] = json!("receiver");
    receiver["signals"]["feed"] = json!(FEED);
    let settings = Settings::new("hub-and-receiver-envoy", filter).patch(jwks::with_clusters(vec![hub.cluster()]));
    let proxy = Sidecar::start(settings.patch(move |bootstrap| {
        let pointer = format!("{}/http_filters/0/typed_config/config/configuration/value", bootstrap::SIGNALS);
        *bootstrap.pointer_mut(&pointer).unwrap() = json!(receiver.to_string());
    }))
    .await
    .unwrap();
    wait_ready(&proxy).await.unwrap();
    let (by_hub, by_push) = (unique("task"), unique("task"));
    assert_signal_accepted(&hub.push(&complete_task(&by_hub)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    assert_signal_accepted(&proxy.push(&complete_task(&by_push)).await.unwrap());
    for task in [&by_hub, &by_push] {
        assert_refused(&proxy, &read_order(&proxy, &fresh().task(task).sign()).await, "task_completed");
    }
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await);
}
