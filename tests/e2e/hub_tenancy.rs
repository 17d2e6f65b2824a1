//! Two meshes on one hub, a feed each, with the same issuer and the same transmitter in both: neither sees, ends or
//! saturates what is the other's.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Connection, Http, Request},
    hub::{Hub, SOON, fresh, read_order, wait_ready, without_receiver},
    jwks,
    mint::{complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
    tls::{self, Workload},
};
use tokio::time;

/// Mesh and feed have one name.
const RED: &str = "main";
const BLUE: &str = "blue";
const START: &str = "0000000000000000.0.0000000000000000";

/// A mesh: its tokens of the hub, which are for its feed alone.
struct Mesh {
    feed: &'static str,
    sidecar: String,
    transmitter: String,
    operator: String,
}

impl Mesh {
    fn new(hub: &Hub, feed: &'static str) -> Self {
        let token = |role: &str| {
            let (config, name) = (hub.config_file(), format!("{feed}-{role}"));
            let made = ["hub", "token", "new", "--config", &config, "--name", &name, "--role", role, "--feed", feed];
            hub.command(&made).unwrap().split_whitespace().last().unwrap().to_owned()
        };
        Self { feed, sidecar: token("sidecar"), transmitter: token("transmitter"), operator: token("operator") }
    }

    /// A proxy of this mesh, ready.
    async fn proxy(&self, hub: &Hub) -> Sidecar {
        let mut config = hub.followed_by(&orders::config());
        config["signals"]["hub"]["feed"] = json!(self.feed);
        config["signals"]["hub"]["authorization"] = json!(format!("Bearer {}", self.sidecar));
        let name = format!("tenancy-{}", self.feed);
        let settings = Settings::new(&name, config).workers(1).patch(jwks::with_clusters(vec![hub.cluster()]));
        let proxy = Sidecar::start(settings.patch(without_receiver)).await.unwrap();
        wait_ready(&proxy).await.unwrap();
        proxy
    }

    /// Pushes a signed SET into `feed` with the token of this mesh.
    async fn push(&self, hub: &Hub, feed: &str, set: &str) -> Answer {
        let request = Request::push(&format!("/v1/feeds/{feed}/signals"), set).bearer(&self.transmitter);
        hub.send(&request).await.unwrap()
    }

    /// A call of its operator.
    async fn call(&self, hub: &Hub, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::new(method, path).bearer(&self.operator);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        hub.send(&request).await.unwrap()
    }

    /// The proxies of its feed.
    async fn proxies(&self, hub: &Hub) -> Vec<Value> {
        let answer = self.call(hub, "GET", &format!("/v1/feeds/{}/proxies", self.feed), None).await;
        answer.json().as_array().unwrap().clone()
    }
}

async fn hub(name: &str, change: impl FnOnce(&mut Value)) -> (Hub, Mesh, Mesh) {
    let hub = Hub::start_with(name, |config| {
        let mut blue = config["feeds"][0].clone();
        blue["name"] = json!(BLUE);
        config["feeds"].as_array_mut().unwrap().push(blue);
        change(config);
    });
    let hub = hub.await.unwrap();
    let (red, blue) = (Mesh::new(&hub, RED), Mesh::new(&hub, BLUE));
    // A running hub knows a new token within a second.
    time::sleep(Duration::from_millis(1_500)).await;
    (hub, red, blue)
}

/// A follower that is no proxy asks for a page once.
async fn follow(hub: &Hub, feed: &str, token: &str, id: &str) -> Answer {
    let path = format!("/v1/feeds/{feed}?after={START}&applied={START}");
    let report = json!({"id": id, "node": "no-proxy", "stale_after": 60});
    let request = Request::get(&path).bearer(token).header("taskfence-follower", report.to_string());
    hub.send(&request).await.unwrap()
}

/// Asks until the task has ended here: its requests pass until the page is there.
async fn ends(proxy: &Sidecar, task: &str) {
    let (token, begun) = (fresh().task(task).sign(), Instant::now());
    loop {
        match read_order(proxy, &token).await.unwrap().line().as_str() {
            "401 task_completed" => return,
            line => assert!(begun.elapsed() < SOON, "{line}\n{}", proxy.envoy().log()),
        }
        time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_ends_in_one_mesh_goes_on_in_the_other() {
    let (hub, red, blue) = hub("tenancy-ends", |_| ()).await;
    let (red_proxy, blue_proxy) = (red.proxy(&hub).await, blue.proxy(&hub).await);
    let task = unique("task");
    let token = fresh().task(&task).sign();
    for proxy in [&red_proxy, &blue_proxy] {
        assert_allowed(proxy, &read_order(proxy, &token).await.unwrap());
    }
    let set = complete_task(&task).sign();
    assert_signal_accepted(&red.push(&hub, RED, &set).await);
    ends(&red_proxy, &task).await;
    let stop = json!({"issuer": orders::ISSUER, "reason": "all of red"});
    let stopped = red.call(&hub, "POST", &format!("/v1/feeds/{RED}/stops"), Some(stop)).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    // Two seconds: a page reaches a proxy in some milliseconds.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_allowed(&blue_proxy, &read_order(&blue_proxy, &token).await.unwrap());
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_refused(&red_proxy, &read_order(&red_proxy, &fresh().sign()).await.unwrap(), "principal_revoked");

    // The same SET is news in the other feed.
    assert_signal_accepted(&blue.push(&hub, BLUE, &set).await);
    ends(&blue_proxy, &task).await;
    assert_allowed(&blue_proxy, &read_order(&blue_proxy, &fresh().sign()).await.unwrap());

    // And nobody lifts by number what is the other's.
    let signals = blue.call(&hub, "GET", &format!("/v1/feeds/{BLUE}/signals"), None).await.json();
    let signal = signals[0]["signal"].clone();
    assert!(signal.is_u64(), "{signals}");
    let undo = json!({"signal": signal, "reason": "not ours"});
    let undone = red.call(&hub, "POST", &format!("/v1/feeds/{RED}/undo"), Some(undo)).await;
    assert_eq!(undone.status, 404, "{}", undone.text());
    assert_refused(&blue_proxy, &read_order(&blue_proxy, &token).await.unwrap(), "task_completed");
}

#[tokio::test]
async fn a_mesh_sees_nothing_of_the_other_and_cannot_tell_whether_it_is_there() {
    let (hub, red, blue) = hub("tenancy-sees", |_| ()).await;
    assert_signal_accepted(&blue.push(&hub, BLUE, &complete_task("task-of-blue").sign()).await);
    assert_eq!(follow(&hub, BLUE, &blue.sidecar, "follower-of-blue").await.status, 200);

    // Each call, for a feed that is there and one that is not: the answers differ in its name at most.
    let event = json!({"event": "task-completed", "subject": {"task": "t", "issuer": orders::ISSUER}, "reason": "r"});
    let calls = [
        ("GET", "signals", None),
        ("GET", "proxies", None),
        ("GET", "receipts/1", None),
        ("GET", "state?issuer=https://jit.example&task=task-of-blue", None),
        ("POST", "events", Some(event)),
        ("POST", "stops", Some(json!({"issuer": orders::ISSUER, "reason": "r"}))),
        ("POST", "undo", Some(json!({"signal": 1, "reason": "r"}))),
    ];
    for (method, path, body) in calls {
        let mut said = HashSet::new();
        for feed in [BLUE, "none"] {
            let answer = red.call(&hub, method, &format!("/v1/feeds/{feed}/{path}"), body.clone()).await;
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
            said.insert(answer.text().replace(feed, "FEED"));
        }
        assert_eq!(said.len(), 1, "{method} {path}: {said:?}");
    }
    let mut said = HashSet::new();
    for feed in [BLUE, "none"] {
        let page = follow(&hub, feed, &red.sidecar, "follower-of-red").await;
        let push = red.push(&hub, feed, &complete_task("task-of-blue").sign()).await;
        assert_eq!([page.status, push.status], [403, 403], "{}{}", page.text(), push.text());
        said.insert((page.text().replace(feed, "FEED"), push.text().replace(feed, "FEED")));
    }
    assert_eq!(said.len(), 1, "{said:?}");
    let feeds = red.call(&hub, "GET", "/v1/feeds", None).await.json();
    assert_eq!((feeds.as_array().unwrap().len(), &feeds[0]["name"]), (1, &json!(RED)), "{feeds}");
    for path in ["/v1/audit", "/v1/tokens", "/metrics"] {
        assert_eq!(red.call(&hub, "GET", path, None).await.status, 403, "{path} is about all feeds");
    }
    let made = json!({"name": "more", "role": "operator", "feeds": []});
    assert_eq!(red.call(&hub, "POST", "/v1/tokens", Some(made)).await.status, 403);

    // The id of a follower belongs to whoever used it first in this feed, and to anybody in another.
    assert_eq!(follow(&hub, RED, &red.sidecar, "follower-of-blue").await.status, 200);
    assert_eq!((red.proxies(&hub).await.len(), blue.proxies(&hub).await.len()), (1, 1));
    // What the whole hub counts was counted where it belongs.
    let metrics = hub.call("GET", "/metrics", None).await.unwrap().text();
    let counted = |outcome: &str| format!("taskfence_hub_signals_total{{feed=\"{BLUE}\",outcome=\"{outcome}\"}} ");
    let value = |outcome: &str| metrics.lines().find_map(|line| line.strip_prefix(&counted(outcome)));
    assert_eq!((value("taken"), value("not_a_push")), (Some("1"), Some("0")), "{metrics}");
}

#[tokio::test]
async fn a_mesh_that_uses_all_that_it_may_leaves_the_other_its_own() {
    let (hub, red, blue) = hub("tenancy-full", |config| {
        config["limits"] = json!({"followers": 5, "sidecar_requests": 20, "full_states": 4});
    })
    .await;
    let blue_proxy = blue.proxy(&hub).await;

    // All followers that a feed may have, and all requests that a principal may make.
    let mut statuses = Vec::new();
    for id in 0..80 {
        statuses.push(follow(&hub, RED, &red.sidecar, &format!("flood-{id:04}")).await.status);
    }
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!(count(200), 5, "{statuses:?}");
    assert!(count(503) > 10 && count(429) > 0, "{statuses:?}");

    // Signals as fast as sixteen connections take them, for some seconds.
    let until = Instant::now() + Duration::from_secs(6);
    let flood = (0..16).map(|_| {
        let (address, bearer) = (hub.address(), red.transmitter.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(address, Http::One).await.unwrap();
            let mut taken = 0_u32;
            while Instant::now() < until {
                let set = complete_task(&unique("flood")).sign();
                let push = Request::push(&format!("/v1/feeds/{RED}/signals"), &set).bearer(&bearer);
                taken += u32::from(connection.send(&push).await.unwrap().status == 202);
            }
            taken
        })
    });
    let flood: Vec<_> = flood.collect();
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let task = unique("task");
        let begun = Instant::now();
        let answer = blue.push(&hub, BLUE, &complete_task(&task).sign()).await;
        assert_signal_accepted(&answer);
        ends(&blue_proxy, &task).await;
        (rounds, longest) = (rounds + 1, longest.max(begun.elapsed()));
    }
    let mut taken = 0;
    for one in flood {
        taken += one.await.unwrap();
    }
    println!("blue: {rounds} signals in force, the slowest after {longest:?}, beside {taken} signals of red");
    assert!(taken > 100 && rounds > 5, "{taken} and {rounds}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    assert_allowed(&blue_proxy, &read_order(&blue_proxy, &fresh().sign()).await.unwrap());
}

/// The same issuer reports events in both meshes by certificates of its own in each: one of them must not use up the
/// requests of the other, and each acts in its own feed.
#[tokio::test]
async fn an_issuer_of_both_meshes_is_two_callers() {
    let (hub, _, _) = hub("tenancy-issuer", |config| {
        let folder = std::path::PathBuf::from(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
        let server = Workload::server();
        std::fs::write(folder.join("tls.key"), server.key_pem()).unwrap();
        std::fs::write(folder.join("tls.crt"), server.pem()).unwrap();
        std::fs::write(folder.join("ca.crt"), tls::authority()).unwrap();
        config["listen"]["tls"] = json!({
            "certificate": folder.join("tls.crt"), "key": folder.join("tls.key"), "client_ca": folder.join("ca.crt"),
        });
        let access = [RED, BLUE].map(|feed| {
            let spiffe = format!("spiffe://{feed}.example/ns/jit/sa/jit");
            json!({"spiffe": spiffe, "role": "issuer", "issuer": orders::ISSUER, "feeds": [feed]})
        });
        config["access"] = json!(access);
    })
    .await;
    let ask = async |mesh: &str, feed: &str, task: &str| {
        let workload = Workload::new(&format!("spiffe://{mesh}.example/ns/jit/sa/jit"));
        let event = json!({"event": "task-completed", "subject": {"task": task}, "reason": "over"});
        let request = Request::new("POST", &format!("/v1/feeds/{feed}/events"));
        let request = request.header("content-type", "application/json").body(event.to_string());
        tls::send(hub.address(), Http::One, Some(&workload), &request).await.unwrap()
    };
    for (mesh, feed, status) in [(RED, RED, 200), (BLUE, BLUE, 200), (RED, BLUE, 403), (BLUE, RED, 403)] {
        let answer = ask(mesh, feed, &unique("task")).await;
        assert_eq!(answer.status, status, "{mesh} in {feed}: {}", answer.text());
    }
    // What both say under one name stands in two streams, one for each feed.
    for feed in [RED, BLUE] {
        let signals = hub.call("GET", &format!("/v1/feeds/{feed}/signals"), None).await.unwrap().json();
        assert_eq!(signals.as_array().unwrap().len(), 1, "{signals}");
        assert_eq!(signals[0]["transmitter"], json!(format!("issuer/{}", orders::ISSUER)), "{signals}");
    }
}
