//! Evidence at a real hub, in files and in a database: what was answered is there, once, whatever happens to the hub; and what
//! the hub cannot keep costs no signal.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    client::{Answer, Request},
    hub::{FEED, Hub, SOON},
    mint::{complete_task, unique},
    orders, postgres,
    refusal::assert_signal_accepted,
    stand_in::now_ms,
};
use tokio::time;

use crate::hub_disk::SmallDisk;

/// Where a hub keeps its evidence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// A hub with this engine; `None`: PostgreSQL is not installed.
async fn start(name: &str, engine: Engine) -> Option<Hub> {
    let url = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(postgres::database(name)?),
    };
    let hub = Hub::start_with(name, |config| {
        if let Some(url) = url {
            config["store"] = json!({"postgres": {"url": url}});
        }
        config["evidence"] = json!({"period": "1s"});
    });
    Some(hub.await.unwrap())
}

/// A batch of the VM `vm` in which one grant was used three times.
fn batch(vm: u64, number: u64) -> Value {
    let (since, until) = (now_ms() - 1_000, now_ms());
    let token = format!("token-{vm}");
    json!({"vm": format!("{vm:016x}"), "number": number, "since": since, "until": until,
        "rules": [{"config": "00000000000000c1", "name": "read"}],
        "grants": [{"grant": {"issuer": orders::ISSUER, "token": token, "fingerprint": "00", "subject": "alice",
                "issued_at": since / 1_000, "expires_at": until / 1_000 + 60},
            "permitted": [{"rule": 0, "method": "GET", "captures": ["42"], "count": 3, "first": since, "last": until}]}]})
}

fn post_of(batches: &[Value]) -> Value {
    json!({"format": 1, "proxy": "follower-0001", "node": "envoy-1", "batches": batches})
}

async fn send(hub: &Hub, body: &Value) -> Result<Answer, taskfence_tests::Error> {
    let request = Request::new("POST", &format!("/v1/feeds/{FEED}/uses")).bearer(hub.sidecar());
    hub.send(&request.header("content-type", "application/json").body(body.to_string())).await
}

/// Sends batches until the hub has them.
async fn take(hub: &Hub, batches: &[Value]) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = send(hub, &post_of(batches)).await;
        if let Ok(answer) = &answer
            && answer.status == 200
        {
            return answer.json();
        }
        assert!(Instant::now() < deadline, "{answer:?}\n{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// The value of a metric of the feed, with this label beside `feed`.
async fn metric(hub: &Hub, name: &str, label: &str) -> u64 {
    let text = hub.call("GET", "/metrics", None).await.unwrap().text();
    let start = format!("taskfence_hub_{name}{{feed=\"{FEED}\"{label}}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    let value: f64 = line.unwrap_or_else(|| panic!("no {start} in {text}")).parse().unwrap();
    assert!(value >= 0.0 && value.fract() == 0.0, "{value}");
    value as u64
}

async fn batches_that_were(hub: &Hub, result: &str) -> u64 {
    metric(hub, "evidence_batches_total", &format!(",result=\"{result}\"")).await
}

/// Waits until so many events are stored, and a moment longer; how many then are.
async fn events(hub: &Hub, at_least: u64) -> u64 {
    let deadline = Instant::now() + SOON;
    while metric(hub, "evidence_events_total", "").await < at_least {
        assert!(Instant::now() < deadline, "fewer than {at_least} events\n{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    time::sleep(Duration::from_millis(2_500)).await;
    metric(hub, "evidence_events_total", "").await
}

async fn tell(hub: &Hub, id: &str) -> Value {
    let event = json!({"kind": "issued", "issuer": orders::ISSUER, "task": "t-1", "token": "j-1", "id": id});
    let answer = hub.call("POST", "/v1/events", Some(&event)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["events"][0]["result"].clone()
}

/// What was answered before the hub was killed is there after it, and a signal is copied once.
async fn survives(name: &str, engine: Engine) {
    let Some(mut hub) = start(name, engine).await else { return };
    let answered: Vec<_> = (1..=20).map(|number| batch(1, number)).collect();
    let taken = take(&hub, &answered).await;
    assert_eq!((&taken["period"], &taken["configs_wanted"]), (&json!(1), &json!(["00000000000000c1"])), "{taken}");
    assert_eq!(taken["taken"].as_array().unwrap().len(), 20);
    assert_eq!(tell(&hub, "one").await, "stored");
    assert_signal_accepted(&hub.push(&complete_task(&unique("task"))).await.unwrap());
    assert_eq!(events(&hub, 2).await, 2, "what was told, and the signal");
    // The answer says that it is durable: nothing more is waited for.
    let last = take(&hub, &[batch(2, 1)]).await;
    hub.kill();
    assert_eq!(last["taken"][0]["number"], 1);
    hub.run().await.unwrap();
    take(&hub, &answered).await;
    take(&hub, &[batch(2, 1)]).await;
    assert_eq!((batches_that_were(&hub, "repeated").await, batches_that_were(&hub, "stored").await), (21, 0));
    assert_eq!(tell(&hub, "one").await, "repeated");
    assert_signal_accepted(&hub.push(&complete_task(&unique("task"))).await.unwrap());
    assert_eq!(events(&hub, 1).await, 1, "the signal of before is not copied again");
    hub.stop().unwrap();
    hub.run().await.unwrap();
    take(&hub, &answered).await;
    assert_eq!(batches_that_were(&hub, "repeated").await, 20);
}

#[tokio::test]
async fn what_was_answered_is_there_once_after_a_crash_in_files() {
    survives("evidence-files", Engine::Sqlite).await;
}

#[tokio::test]
async fn what_was_answered_is_there_once_after_a_crash_in_a_database() {
    survives("evidence-database", Engine::Postgres).await;
}

#[tokio::test]
async fn two_replicas_store_a_batch_and_copy_a_signal_once() {
    let Some(one) = start("evidence-replicas", Engine::Postgres).await else { return };
    let mut two = one.replica("evidence-replica-2", |_| ()).unwrap();
    two.run().await.unwrap();
    let batches: Vec<_> = (1..=10).map(|number| batch(7, number)).collect();
    tokio::join!(take(&one, &batches), take(&two, &batches));
    let (first, second) = (batches_that_were(&one, "stored").await, batches_that_were(&two, "stored").await);
    assert_eq!(first + second, 10, "{first} and {second}");
    for _ in 0..3 {
        assert_signal_accepted(&two.push(&complete_task(&unique("task"))).await.unwrap());
    }
    let deadline = Instant::now() + SOON;
    let copied =
        async || metric(&one, "evidence_events_total", "").await + metric(&two, "evidence_events_total", "").await;
    while copied().await < 3 {
        assert!(Instant::now() < deadline, "{}\n{}", one.log(), two.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(copied().await, 3);
}

#[tokio::test]
async fn a_disk_with_too_little_room_is_for_signals() {
    let Some(disk) = SmallDisk::mount("evidence-disk", "48m") else { return };
    let data = disk.at.join("data");
    let hub = Hub::start_with("evidence-disk", |config| {
        config["data"] = json!(data);
        config["reserve_mib"] = json!(1);
    });
    let hub = hub.await.unwrap();
    let answer = send(&hub, &post_of(&[batch(1, 1)])).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("5")), "{}", answer.text());
    assert!(!data.join("evidence").exists(), "it takes nothing of the disk");
    let event = json!({"kind": "issued", "issuer": orders::ISSUER, "task": "t-1"});
    assert_eq!(hub.call("POST", "/v1/events", Some(&event)).await.unwrap().status, 503);
    assert_signal_accepted(&hub.push(&complete_task(&unique("task"))).await.unwrap());
    assert_eq!(hub.send(&Request::get("/readyz")).await.unwrap().status, 200);
    assert_eq!(batches_that_were(&hub, "refused").await, 1);
}

#[tokio::test]
async fn a_relay_hands_uses_on_and_answers_what_the_hub_answered() {
    let mut root = Hub::start("evidence-root").await.unwrap();
    let relay = Hub::relay("evidence-relay", &root, root.address(), |_| ()).await.unwrap();
    let taken = take(&relay, &[batch(1, 1), batch(1, 2)]).await;
    assert_eq!(taken["taken"].as_array().unwrap().len(), 2, "{taken}");
    assert_eq!(batches_that_were(&root, "stored").await, 2);
    take(&relay, &[batch(1, 2)]).await;
    assert_eq!(batches_that_were(&root, "repeated").await, 1);
    let mut wrong = batch(1, 3);
    wrong["vm"] = json!("x");
    let answer = send(&relay, &post_of(&[wrong])).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("`vm` must be"), "{}", answer.text());
    root.kill();
    let answer = send(&relay, &post_of(&[batch(1, 3)])).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("5")), "{}", answer.text());
    root.run().await.unwrap();
    take(&relay, &[batch(1, 3)]).await;
    assert_eq!(batches_that_were(&root, "stored").await, 1, "the relay had kept nothing");
}

#[tokio::test]
async fn a_hub_without_evidence_knows_no_such_path() {
    let hub = Hub::start_with("evidence-off", |config| config["evidence"] = json!({"days": 0})).await.unwrap();
    assert_eq!(send(&hub, &post_of(&[batch(1, 1)])).await.unwrap().status, 404);
    assert!(!hub.folder().join("data/evidence").exists());
}

#[tokio::test]
async fn a_proxy_that_goes_away_leaves_a_gap() {
    let hub = Hub::start("evidence-gone").await.unwrap();
    let relay = hub.new_token("relay-1", "relay").unwrap();
    let call = async |path: &str, body: Value| {
        let request = Request::new("POST", &format!("/v1/feeds/{FEED}/{path}")).bearer(&relay);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let deadline = Instant::now() + SOON;
        loop {
            // The hub reads new tokens once a second.
            let answer = hub.send(&request).await.unwrap();
            if answer.status == 200 {
                break answer.json();
            }
            assert!(Instant::now() < deadline, "{} {}", answer.status, answer.text());
            time::sleep(Duration::from_millis(700)).await;
        }
    };
    let report = |gone: bool| {
        let id = "follower-0001";
        let start = "0000000000000000.0.0000000000000000";
        let known = json!({"id": id, "principal": "mesh", "applied": start, "seen_ms": now_ms(),
            "report": {"id": id, "node": "envoy-1"}});
        match gone {
            true => json!({"instance": "i", "followers": [], "gone": [id]}),
            false => json!({"instance": "i", "followers": [known], "gone": []}),
        }
    };
    let mut early = batch(1, 1);
    early["until"] = early["since"].clone();
    call("uses", post_of(&[early])).await;
    call("followers", report(false)).await;
    call("uses", post_of(&[batch(1, 2)])).await;
    time::sleep(Duration::from_secs(1)).await;
    call("followers", report(false)).await;
    // The hub looks at its proxies every five seconds.
    time::sleep(Duration::from_secs(7)).await;
    assert_eq!(metric(&hub, "evidence_gaps_total", "").await, 0);
    call("followers", report(true)).await;
    let deadline = Instant::now() + SOON;
    while metric(&hub, "evidence_gaps_total", "").await == 0 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        time::sleep(Duration::from_millis(200)).await;
    }
    time::sleep(Duration::from_secs(6)).await;
    assert_eq!(metric(&hub, "evidence_gaps_total", "").await, 1);
}

/// What the alert rules go by: the first look is ten seconds after the start of a hub.
#[tokio::test]
async fn the_gauges_tell_of_width_repeats_residual_and_sharing() {
    const HOUR_S: u64 = 3_600;
    let mut hub = start("evidence-gauges", Engine::Sqlite).await.unwrap();
    let now = now_ms();
    // The same user asks for the same grant without bounds each hour. The last one has ended ten minutes ago, and two workloads
    // use it.
    let grants: Vec<Value> = (0..5_u64)
        .map(|age| {
            let issued = now / 1_000 - HOUR_S / 2 - age * HOUR_S;
            let seen = |peer: &str| json!({"kind": "peer", "value": peer, "count": 1, "first": now, "last": now});
            let peers = if age == 0 { vec![seen("spiffe://mesh/a"), seen("spiffe://mesh/b")] } else { vec![] };
            json!({
                "grant": {"issuer": orders::ISSUER, "token": format!("routine-{age}"), "fingerprint": "00", "subject": "alice",
                    "client": "agent", "scopes": ["orders.read"], "issued_at": issued, "expires_at": issued + 9 * HOUR_S},
                "permitted": [{"rule": 0, "method": "GET", "captures": ["42"], "count": 3, "first": now, "last": now}],
                "seen": peers
            })
        })
        .collect();
    let batch = json!({"vm": format!("{:016x}", 7), "number": 1, "since": now, "until": now,
        "rules": [{"config": "00000000000000c1", "name": "read"}], "grants": grants});
    take(&hub, &[batch]).await;
    let rule = json!({"name": "read", "effect": "require", "methods": ["GET"], "path": "/v1/orders/{order}",
        "captures": ["order"], "scopes": ["orders.read"]});
    let mut rules = post_of(&[]);
    rules["configs"] = json!([{"config": "00000000000000c1", "rules": [rule]}]);
    let answer = send(&hub, &rules).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ended =
        json!({"kind": "ended", "issuer": orders::ISSUER, "token": "routine-0", "id": "end", "at": now - 600_000});
    let answer = hub.call("POST", "/v1/events", Some(&ended)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    hub.stop().unwrap();
    hub.run().await.unwrap();
    let before = hub.call("GET", "/metrics", None).await.unwrap().text();
    assert!(
        before.contains("taskfence_hub_evidence_look_age_seconds{"),
        "it is known from the start that nobody has looked"
    );
    assert!(!before.contains("taskfence_hub_evidence_grants{"), "nobody has");
    let deadline = Instant::now() + 3 * SOON;
    while !hub.call("GET", "/metrics", None).await.unwrap().text().contains("taskfence_hub_evidence_grants{") {
        assert!(Instant::now() < deadline, "nobody looked\n{}", hub.log());
        time::sleep(Duration::from_millis(200)).await;
    }
    let mut found = Vec::new();
    for name in ["grants", "unbounded_grants", "shared_grants", "routine_repeats", "residual_seconds"] {
        found.push(metric(&hub, &format!("evidence_{name}"), "").await);
    }
    assert_eq!(found, [5, 5, 1, 1, 600]);
}
