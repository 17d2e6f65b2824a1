//! Two hub processes over one PostgreSQL are one hub: whoever follows either is brought up to date, and one that dies, or is
//! cut off from the database, misleads nobody.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    Error, Result,
    bootstrap::Settings,
    client::Request,
    hub::{CLUSTER, FEED, Hub, SOON, fresh, read_order, wait_ready, without_receiver},
    jwks,
    mint::{complete_task, unique},
    orders, postgres,
    refusal::assert_signal_accepted,
    sidecar::Sidecar,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

const POLL_EVERY: Duration = Duration::from_millis(50);

/// The first replica over a new database.
async fn first(name: &str, database: &str) -> Hub {
    let store = json!({"postgres": {"url": database}});
    Hub::start_with(name, move |config| config["store"] = store).await.unwrap()
}

/// A cluster that leads to all of these, as docs/hub.md says that it must be.
fn cluster(hubs: &[SocketAddr]) -> Value {
    let mut cluster = jwks::cluster(CLUSTER, hubs[0]);
    let endpoint = |hub: &SocketAddr| {
        json!({"endpoint": {"address": {"socket_address": {
            "address": hub.ip().to_string(), "port_value": hub.port()
        }}}})
    };
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = hubs.iter().map(endpoint).collect();
    cluster["close_connections_on_host_health_failure"] = json!(true);
    cluster["health_checks"] = json!([{
        "timeout": "1s", "interval": "1s", "no_traffic_interval": "1s", "unhealthy_interval": "1s",
        "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": {"path": "/readyz"}
    }]);
    cluster
}

/// A proxy of this name that follows through `cluster`, and closes itself after `stale`.
async fn proxy(name: &'static str, hub: &Hub, cluster: Value, stale: &str) -> Sidecar {
    let mut config = hub.followed_by(&orders::config());
    config["signals"]["stale"]["after"] = json!(stale);
    let settings = Settings::new(name, config).workers(1).patch(jwks::with_clusters(vec![cluster]));
    let settings = settings.patch(without_receiver);
    let node = move |bootstrap: &mut Value| bootstrap["node"] = json!({"id": name, "cluster": "replicas"});
    let proxy = Sidecar::start(settings.patch(node)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    proxy
}

async fn end_task(hub: &Hub) -> String {
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    task
}

/// Waits until a proxy refuses this task because it has ended.
async fn refused_soon(proxy: &Sidecar, task: &str) -> Result<()> {
    let (token, deadline) = (fresh().task(task).sign(), Instant::now() + SOON);
    loop {
        let answer = read_order(proxy, &token).await?;
        if answer.line() == "401 task_completed" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(format!("{} for task {task}\n{}", answer.line(), proxy.envoy().log())));
        }
        time::sleep(Duration::from_millis(10)).await;
    }
}

async fn readiness(hub: &Hub) -> Result<(u16, Value)> {
    let answer = hub.send(&Request::get("/readyz")).await?;
    Ok((answer.status, answer.json()))
}

/// Waits until `/readyz` of a replica has this status; the names of the checks that fail.
async fn wait_for(hub: &Hub, status: u16) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    loop {
        if let Ok((found, answer)) = readiness(hub).await
            && found == status
        {
            let checks = answer["checks"].as_array().cloned().unwrap_or_default();
            let failed = checks.iter().filter(|check| check["ok"] == false);
            return failed.map(|check| check["name"].as_str().unwrap_or_default().to_owned()).collect();
        }
        assert!(Instant::now() < deadline, "/readyz has not become {status}:\n{}", hub.log());
        time::sleep(POLL_EVERY).await;
    }
}

#[tokio::test]
async fn two_replicas_are_one_hub() {
    let Some(database) = postgres::database("two_replicas_are_one_hub") else { return };
    let mut one = first("replicas-one", &database).await;
    let mut two = one.replica("replicas-two", |_| ()).unwrap();
    two.run().await.unwrap();
    let at_one = proxy("replicas-at-one", &one, cluster(&[one.address()]), "30s").await;
    let at_two = proxy("replicas-at-two", &one, cluster(&[two.address()]), "30s").await;
    for hub in [&one, &two, &one, &two] {
        let begin = Instant::now();
        let task = end_task(hub).await;
        for proxy in [&at_one, &at_two] {
            refused_soon(proxy, &task).await.unwrap();
        }
        eprintln!("in force behind both after {} ms", begin.elapsed().as_millis());
        for asked in [&one, &two] {
            let receipt = asked.wait_everywhere().await.unwrap();
            assert_eq!((&receipt["confirmed"], &receipt["complete"]), (&json!(2), &json!(true)), "{receipt}");
        }
    }
    let names = async |hub: &Hub| {
        let listed = hub.call("GET", &format!("/v1/feeds/{FEED}/proxies"), None).await.unwrap().json();
        let mut names: Vec<_> =
            listed.as_array().unwrap().iter().map(|proxy| proxy["node"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&one).await, ["replicas-at-one", "replicas-at-two"]);
    assert_eq!(names(&two).await, names(&one).await);
    // A token that is made at one works at the other.
    let token = one.new_token("late", "auditor").unwrap();
    let (late, deadline) = (Request::get("/v1/feeds").bearer(&token), Instant::now() + SOON);
    while two.send(&late).await.unwrap().status != 200 {
        assert!(Instant::now() < deadline, "the token is not known");
        time::sleep(Duration::from_secs(1)).await;
    }
    // One without the key that filters know is not ready.
    let stranger = two.replica("replicas-stranger", |_| ()).unwrap();
    std::fs::remove_dir_all(stranger.folder().join("data/keys")).unwrap();
    let mut stranger = stranger;
    stranger.run_until(503).await.unwrap();
    let deadline = Instant::now() + SOON;
    while wait_for(&stranger, 503).await != ["keys"] {
        assert!(Instant::now() < deadline, "{}", stranger.log());
        time::sleep(POLL_EVERY).await;
    }
    stranger.kill();
    // The one that lives goes on alone.
    one.kill();
    refused_soon(&at_two, &end_task(&two).await).await.unwrap();
    two.stop().unwrap();
}

#[tokio::test]
async fn the_proxies_of_a_replica_that_dies_are_fresh_again_at_the_other() {
    let Some(database) = postgres::database("the_proxies_of_a_replica_that_dies") else { return };
    let mut one = first("replicas-dies", &database).await;
    let mut two = one.replica("replicas-lives", |_| ()).unwrap();
    two.run().await.unwrap();
    let both = cluster(&[one.address(), two.address()]);
    let proxies = [
        proxy("replicas-moves-a", &one, both.clone(), "15s").await,
        proxy("replicas-moves-b", &one, both.clone(), "15s").await,
    ];
    for (dies, lives) in [(0, 1), (1, 0)] {
        let hubs = [&mut one, &mut two];
        hubs[dies].kill();
        let begin = Instant::now();
        let task = end_task(hubs[lives]).await;
        for proxy in &proxies {
            refused_soon(proxy, &task).await.unwrap();
            assert_eq!(read_order(proxy, &fresh().sign()).await.unwrap().status, 200, "it never closed");
        }
        let took = begin.elapsed();
        eprintln!("all follow the other after {} ms", took.as_millis());
        assert!(took < Duration::from_secs(10), "{took:?}");
        hubs[dies].run().await.unwrap();
        let receipt = hubs[dies].wait_everywhere().await.unwrap();
        assert_eq!(receipt["confirmed"], 2, "{receipt}");
    }
}

/// The way to a database. While the gate is closed, nothing passes, and connections stay open.
async fn gate(database: &str) -> (watch::Sender<bool>, String) {
    let (gate, is_open) = watch::channel(true);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (before, rest) = database.rsplit_once(':').unwrap();
    let (to, name) = rest.split_once('/').unwrap();
    let (to, url) = (to.parse::<u16>().unwrap(), format!("{before}:{port}/{name}"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut is_open = is_open.clone();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
                loop {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => return,
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                    if is_open.wait_for(|open| *open).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (gate, url)
}

#[tokio::test]
async fn a_replica_that_is_cut_off_from_the_database_signs_nothing_as_fresh() {
    let Some(database) = postgres::database("a_replica_that_is_cut_off") else { return };
    let one = first("replicas-connected", &database).await;
    let (gate, through) = gate(&database).await;
    let mut two =
        one.replica("replicas-cut-off", |config| config["store"]["postgres"]["url"] = json!(through)).unwrap();
    two.run().await.unwrap();
    // It knows only the one that is cut off: nothing takes it elsewhere.
    let proxy = proxy("replicas-lonely", &one, jwks::cluster(CLUSTER, two.address()), "8s").await;
    gate.send_replace(false);
    let task = end_task(&one).await;
    let token = fresh().task(&task).sign();
    let begin = Instant::now();
    // The old state may pass it until the proxy has closed itself: 8 s, and what a statement took before.
    while read_order(&proxy, &token).await.unwrap().status == 200 {
        assert!(begin.elapsed() < Duration::from_secs(11), "the cut-off replica keeps the proxy open");
        time::sleep(POLL_EVERY).await;
    }
    eprintln!("the proxy closed itself after {} ms", begin.elapsed().as_millis());
    let failed = wait_for(&two, 503).await;
    assert!(failed.iter().any(|check| check == "store"), "{failed:?}");
    let pushed = two.push(&complete_task(&unique("task"))).await.unwrap();
    assert_eq!(pushed.status, 503, "nothing is answered that is not stored");
    gate.send_replace(true);
    assert_eq!(wait_for(&two, 200).await, [""; 0]);
    refused_soon(&proxy, &task).await.unwrap();
    let deadline = Instant::now() + SOON;
    while read_order(&proxy, &fresh().sign()).await.unwrap().status != 200 {
        assert!(Instant::now() < deadline, "the proxy is not fresh again\n{}", two.log());
        time::sleep(POLL_EVERY).await;
    }
}

#[tokio::test]
async fn in_a_rolling_change_one_configuration_is_used_at_a_time() {
    let Some(database) = postgres::database("in_a_rolling_change") else { return };
    let old = first("replicas-old", &database).await;
    let proxy = proxy("replicas-rolls", &old, cluster(&[old.address()]), "30s").await;
    let before = end_task(&old).await;
    refused_soon(&proxy, &before).await.unwrap();
    let mut new = old.replica("replicas-new", |config| config["skew"] = json!("10m")).unwrap();
    new.run_until(503).await.unwrap();
    let deadline = Instant::now() + SOON;
    while wait_for(&new, 503).await != ["configuration"] {
        assert!(Instant::now() < deadline, "{}", new.log());
        time::sleep(POLL_EVERY).await;
    }
    let page = Request::get(&format!(
        "/v1/feeds/{FEED}?after=0000000000000000.0.0000000000000000&applied=0000000000000000.0.0000000000000000"
    ));
    let page = page.bearer(old.sidecar()).header("taskfence-follower", r#"{"id":"somebody"}"#);
    let status = async |hub: &Hub| hub.send(&page).await.unwrap().status;
    let takes = async |hub: &Hub| hub.push(&complete_task(&unique("task"))).await.unwrap().status;
    assert_eq!((status(&old).await, takes(&old).await), (200, 202));
    assert_eq!((status(&new).await, takes(&new).await), (503, 503), "it is not accepted");
    new.command(&["hub", "accept-config", "--config", &new.config_file()]).unwrap();
    assert_eq!(wait_for(&new, 200).await, [""; 0]);
    assert_eq!(wait_for(&old, 503).await, ["configuration"]);
    let deadline = Instant::now() + SOON;
    while status(&old).await != 503 {
        // A head that was read before that is served for two seconds.
        assert!(Instant::now() < deadline, "{}", old.log());
        time::sleep(POLL_EVERY).await;
    }
    assert_eq!(takes(&old).await, 503, "it is not accepted any more");
    assert_eq!((status(&new).await, takes(&new).await), (200, 202));
    // What was said before counts for the new configuration too, when no replica can store for the old one any more.
    let deadline = Instant::now() + SOON;
    while !new.log().contains("entries were derived again") {
        assert!(Instant::now() < deadline, "{}", new.log());
        time::sleep(POLL_EVERY).await;
    }
}

/// A standby takes over while two replicas write and both have proxies.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_under_two_replicas_and_no_proxy_lacks_what_was_answered() {
    if postgres::programs().is_none() {
        return eprintln!("skipped: a_standby_takes_over_under_two_replicas: PostgreSQL is not installed");
    }
    let mut old = postgres::Postgres::start();
    old.configure("synchronous_standby_names = 'standby'\n");
    let new = old.standby();
    let _third = new.standby();
    old.reload();
    let url = format!("postgresql://hub@127.0.0.1:{},127.0.0.1:{}/postgres", old.port(), new.port());
    let one = first("replicas-promoted-one", &url).await;
    let mut two = one.replica("replicas-promoted-two", |_| ()).unwrap();
    two.run().await.unwrap();
    let proxies = [
        proxy("replicas-promoted-a", &one, cluster(&[one.address()]), "120s").await,
        proxy("replicas-promoted-b", &two, cluster(&[two.address()]), "120s").await,
    ];
    let epoch = async |hub: &Hub| hub.head().await.unwrap().split('.').next().unwrap_or_default().to_owned();
    let before = epoch(&one).await;
    // Each is answered while the primary dies, or is not.
    let hubs = [Arc::new(one), Arc::new(two)];
    let end = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = hubs
        .iter()
        .map(|hub| {
            let (hub, end) = (Arc::clone(hub), Arc::clone(&end));
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while !end.load(Ordering::Relaxed) {
                    let task = unique("task");
                    match hub.push(&complete_task(&task)).await.unwrap().status {
                        202 => taken.push(task),
                        status => assert_eq!(status, 503),
                    }
                    time::sleep(Duration::from_millis(20)).await;
                }
                taken
            })
        })
        .collect();
    time::sleep(Duration::from_secs(1)).await;
    old.kill();
    new.promote();
    // A change that each of them takes in is in force behind both.
    let mut tasks = Vec::new();
    for hub in &hubs {
        let (task, begin) = (unique("task"), Instant::now());
        while hub.push(&complete_task(&task)).await.unwrap().status != 202 {
            assert!(begin.elapsed() < 3 * SOON, "{}", hub.log());
            time::sleep(POLL_EVERY).await;
        }
        eprintln!("taken in {} ms after the promotion", begin.elapsed().as_millis());
        tasks.push(task);
    }
    end.store(true, Ordering::Relaxed);
    for load in loads {
        tasks.extend(load.await.unwrap());
    }
    eprintln!("{} answered 202", tasks.len());
    assert!(tasks.len() > 10);
    for proxy in &proxies {
        for task in &tasks {
            refused_soon(proxy, task).await.unwrap();
        }
    }
    let epochs = [epoch(&hubs[0]).await, epoch(&hubs[1]).await];
    assert!(epochs[0] == epochs[1] && epochs[0] != before, "{before} {epochs:?}");
    for hub in &hubs {
        let receipt = hub.wait_everywhere().await.unwrap();
        assert_eq!((&receipt["confirmed"], &receipt["complete"]), (&json!(2), &json!(true)), "{receipt}");
    }
}
