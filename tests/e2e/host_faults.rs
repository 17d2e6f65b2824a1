//! What the host does to a filter that follows a hub: a hot restart, many new configurations under load, a cluster of the hub
//! that is missing, goes away or leads nowhere, and a module that dies where it is not loaded anew.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{self, Http, Request},
    collector::Collector,
    discovered::Discovered,
    envoy::Stats,
    hub::{CLUSTER, FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready},
    jwks,
    mint::{self, complete_task, unique},
    orders,
    process::Process,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
    upstream::Upstream,
};
use tokio::{task::JoinHandle, time};

use crate::deployments;

/// Sends requests until it is told to stop, and counts what came.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<BTreeMap<String, u64>>,
}

impl Load {
    /// On a connection of its own for each request, as after a restart.
    fn start(to: SocketAddr, request: Request) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let task = tokio::spawn(async move {
            let mut came = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                let line = match client::send(to, Http::One, &request).await {
                    Ok(answer) => answer.line(),
                    Err(error) => format!("no answer: {error}"),
                };
                *came.entry(line).or_default() += 1;
                time::sleep(Duration::from_millis(2)).await;
            }
            came
        });
        Self { stop, task }
    }

    async fn stop(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// An Envoy that can be restarted hot: `epoch` 0 is the first.
fn envoy(folder: &Path, file: &Path, epoch: u32) -> Process {
    let log = fs::File::create(folder.join(format!("envoy-{epoch}.log"))).unwrap();
    let mut command = Command::new(artefacts::envoy().unwrap());
    command.current_dir(folder).arg("--config-path").arg(file);
    command.args(["--concurrency", "1", "--drain-time-s", "1", "--parent-shutdown-time-s", "3"]);
    command.args(["--log-level", "warning", "--restart-epoch", &epoch.to_string()]);
    let id = folder.join("base.id");
    match epoch {
        0 => command.arg("--use-dynamic-base-id").arg("--base-id-path").arg(&id),
        _ => command.arg("--base-id").arg(fs::read_to_string(&id).unwrap().trim()),
    };
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Process::start(&mut command).unwrap()
}

async fn until(to: SocketAddr, request: &Request, expected: &str, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let came =
            client::send(to, Http::One, request).await.map_or_else(|error| error.to_string(), |came| came.line());
        if came == expected {
            return;
        }
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < deadline, "{} instead of {expected}\n{}", came, log());
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// The new process begins with an empty state. It takes what has ended from the hub before it lets a token pass, while the
/// old one goes on with what it has.
#[tokio::test]
async fn a_hot_restart_forgets_nothing() {
    let hub = deployments::hub("hot-hub").await;
    let (upstream, collector) = (Upstream::start().unwrap(), Collector::start().await.unwrap());
    // Both processes have the same address, which a port of 0 would not give.
    let to = jwks::down().unwrap();
    let text = deployments::adapted("sidecar.yaml", &hub, &upstream, &collector);
    let text =
        text.replace("address: 0.0.0.0, port_value: 0", &format!("address: 127.0.0.1, port_value: {}", to.port()));
    let folder: PathBuf = artefacts::target().join("tests").join(unique("hot"));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("sidecar.yaml");
    fs::write(&file, text).unwrap();
    let mut first = envoy(&folder, &file, 0);
    until(to, &Request::get("/.well-known/taskfence/ready"), "200", &folder.join("envoy-0.log")).await;
    let (dead, live) = (unique("task"), unique("task"));
    let read = |task: &str| Request::get(orders::ORDER_PATH).bearer(&mint::token().task(task).sign());
    assert_signal_accepted(&hub.push(&complete_task(&dead)).await.unwrap());
    until(to, &read(&dead), "401 task_completed", &folder.join("envoy-0.log")).await;
    let (of_dead, of_live) = (Load::start(to, read(&dead)), Load::start(to, read(&live)));
    let second = envoy(&folder, &file, 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.exited().is_none() {
        let log = || fs::read_to_string(folder.join("envoy-1.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "the first process goes on:\n{}", log());
        time::sleep(Duration::from_millis(50)).await;
    }
    time::sleep(Duration::from_secs(1)).await;
    let (of_dead, of_live) = (of_dead.stop().await, of_live.stop().await);
    println!("hot restart: ended task {of_dead:?}, live task {of_live:?}");
    for line in of_dead.keys() {
        assert!(["401 task_completed", "503 state_not_ready"].contains(&line.as_str()), "{of_dead:?}");
    }
    for line in of_live.keys() {
        assert!(["200", "503 state_not_ready"].contains(&line.as_str()), "{of_live:?}");
    }
    // The second one alone is there now, and follows.
    until(to, &read(&live), "200", &folder.join("envoy-1.log")).await;
    until(to, &read(&dead), "401 task_completed", &folder.join("envoy-1.log")).await;
    assert_signal_accepted(&hub.push(&complete_task(&live)).await.unwrap());
    until(to, &read(&live), "401 task_completed", &folder.join("envoy-1.log")).await;
    drop(second);
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Replaces the configuration `times` times under load. Memory may grow by this much after the first tenth, in KiB.
async fn update(name: &str, times: usize, growth: u64) {
    let hub = Hub::start(name).await.unwrap();
    let file = Discovered::new(name).unwrap();
    let discover = file.clone();
    let settings = hub.lone(name, &orders::config()).patch(move |bootstrap| {
        let node = bootstrap["node"].clone();
        discover.discover(bootstrap);
        bootstrap["node"] = node;
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    wait_ready(&sidecar).await.unwrap();
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    refused_as_ended(&sidecar, &task).await.unwrap();
    let live = Load::start(sidecar.app(), Request::get(orders::ORDER_PATH).bearer(&fresh().sign()));
    let dead = Load::start(sidecar.app(), Request::get(orders::ORDER_PATH).bearer(&fresh().task(&task).sign()));
    let machines = "wasm.envoy.wasm.runtime.v8.active";
    let names = ["\"health\"", "\"healthy\""];
    let (mut early, mut vms) = (0, 0);
    for at in 0..times {
        file.replace(&sidecar, names[at % 2], names[(at + 1) % 2]).await.unwrap();
        if at == times / 10 {
            early = resident(sidecar.envoy().pid());
            vms = sidecar.envoy().stats().await.unwrap().value(machines).unwrap();
        }
    }
    let late = resident(sidecar.envoy().pid());
    let (live, dead) = (live.stop().await, dead.stop().await);
    println!("{times} updates: resident {early} KiB, then {late} KiB; {live:?}; {dead:?}");
    assert_eq!(live.keys().collect::<Vec<_>>(), ["200"], "a new configuration costs no request");
    assert_eq!(dead.keys().collect::<Vec<_>>(), ["401 task_completed"], "and forgets nothing");
    assert!(late < early + growth, "resident memory grew from {early} to {late} KiB");
    assert_eq!(sidecar.envoy().stats().await.unwrap().value(machines).unwrap(), vms, "no machine is left behind");
    // One proxy still follows, and once.
    let proxies = hub.call("GET", &format!("/v1/feeds/{FEED}/proxies"), None).await.unwrap().json();
    assert_eq!(proxies.as_array().map(Vec::len), Some(1), "{proxies}");
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    refused_as_ended(&sidecar, &task).await.unwrap();
}

#[tokio::test]
async fn new_configurations_under_load() {
    update("updated", 20, 20_000).await;
}

#[tokio::test]
#[ignore = "takes a minute: scripts/faults"]
async fn two_hundred_configurations_under_load() {
    update("updated-often", 200, 20_000).await;
}

/// The clusters that Envoy discovers from a file.
struct Clusters(PathBuf);

impl Clusters {
    fn write(&self, clusters: &[Value]) {
        let clusters: Vec<Value> = clusters
            .iter()
            .cloned()
            .map(|mut cluster| {
                cluster["@type"] = json!("type.googleapis.com/envoy.config.cluster.v3.Cluster");
                cluster
            })
            .collect();
        let text = json!({"version_info": unique("version"), "resources": clusters}).to_string();
        let aside = self.0.with_extension("new");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, &self.0).unwrap();
    }
}

async fn until_order(sidecar: &Sidecar, expected: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = read_order(sidecar, &fresh().sign()).await.unwrap();
        if answer.line() == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{} instead of {expected}\n{}", answer.line(), sidecar.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// A mesh may give a proxy the cluster of the hub later than the filter, take it away, or give one that leads nowhere.
#[tokio::test]
async fn the_cluster_of_the_hub_comes_and_goes() {
    let hub = Hub::start("cluster-hub").await.unwrap();
    let folder = artefacts::target().join("tests").join(unique("clusters"));
    fs::create_dir_all(&folder).unwrap();
    let clusters = Clusters(folder.join("clusters.json"));
    clusters.write(&[]);
    let path = clusters.0.clone();
    let mut config = hub.followed_by(&orders::config());
    config["signals"]["stale"] = json!({"after": "5s"});
    let settings = Settings::new("cluster", config).workers(1).patch(move |bootstrap| {
        bootstrap["node"] = json!({"id": "cluster", "cluster": "tests"});
        let source = json!({"path_config_source": {"path": path}, "resource_api_version": "V3"});
        bootstrap["dynamic_resources"] = json!({"cds_config": source});
        taskfence_tests::hub::without_receiver(bootstrap);
    });
    // Missing at start: the filter loads, and judges no token.
    let sidecar = Sidecar::start(settings).await.unwrap();
    let failures = |cause: &str| format!("wasmcustom.taskfence.feed_failures.{FEED}.{cause}");
    for _ in 0..20 {
        assert_refused(&sidecar, &read_order(&sidecar, &fresh().sign()).await.unwrap(), "state_not_ready");
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sidecar.send(Http::One, &Request::get("/healthz")).await.unwrap().status, 200, "what needs no token");
    let stats = sidecar.envoy().stats().await.unwrap();
    assert!(stats.value(&failures("cluster_missing")).unwrap() > 0, "{}", sidecar.envoy().log());
    // It leads nowhere: Envoy answers 503 for it.
    clusters.write(&[jwks::cluster(CLUSTER, jwks::down().unwrap())]);
    let deadline = Instant::now() + SOON;
    loop {
        let stats = sidecar.envoy().stats().await.unwrap();
        if stats.value(&failures("status")).is_ok_and(|count| count > 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{}", sidecar.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_refused(&sidecar, &read_order(&sidecar, &fresh().sign()).await.unwrap(), "state_not_ready");
    // It leads to the hub.
    clusters.write(&[hub.cluster()]);
    wait_ready(&sidecar).await.unwrap();
    assert_allowed(&sidecar, &read_order(&sidecar, &fresh().sign()).await.unwrap());
    // It goes: what is known counts until it is too old, and then nothing does.
    let ended = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&ended)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    refused_as_ended(&sidecar, &ended).await.unwrap();
    clusters.write(&[]);
    time::sleep(Duration::from_secs(1)).await;
    let read = read_order(&sidecar, &fresh().task(&ended).sign()).await.unwrap();
    assert_refused(&sidecar, &read, "task_completed");
    let meanwhile = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&meanwhile)).await.unwrap());
    until_order(&sidecar, "503 state_stale").await;
    // It comes back, and brings what was said meanwhile before any token passes.
    clusters.write(&[hub.cluster()]);
    until_order(&sidecar, "200").await;
    for task in [&ended, &meanwhile] {
        let read = read_order(&sidecar, &fresh().task(task).sign()).await.unwrap();
        assert_refused(&sidecar, &read, "task_completed");
    }
}

/// Envoy Gateway loads a module that died not anew. Nothing passes, and the counters of `envoy/gateway/alerts.yaml` say so.
#[tokio::test]
async fn a_dead_module_that_is_not_loaded_anew_lets_nothing_pass_and_is_seen() {
    let hub = Hub::start("dead-hub").await.unwrap();
    let wasm = artefacts::crashing_wasm().unwrap().display().to_string();
    let settings = hub.lone("dead", &orders::config()).workers(1).patch(move |bootstrap| {
        let pointer = format!("{}/http_filters/0/typed_config/config", bootstrap::APP);
        let plugin = bootstrap.pointer_mut(&pointer).unwrap();
        plugin.as_object_mut().unwrap().remove("failure_policy");
        plugin["vm_config"]["code"]["local"]["filename"] = json!(wasm);
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    wait_ready(&sidecar).await.unwrap();
    assert_allowed(&sidecar, &read_order(&sidecar, &fresh().sign()).await.unwrap());
    let before = sidecar.envoy().stats().await.unwrap();
    let crash = Request::get(orders::ORDER_PATH).header("x-taskfence-crash", "1");
    assert_eq!(sidecar.send(Http::One, &crash).await.unwrap().status, 503);
    let arrived = sidecar.upstream().arrivals();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        for request in [Request::get("/healthz"), Request::get(orders::ORDER_PATH).bearer(&fresh().sign())] {
            assert_eq!(sidecar.send(Http::One, &request).await.unwrap().status, 503);
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sidecar.upstream().arrivals(), arrived, "nothing got through");
    let after = sidecar.envoy().stats().await.unwrap();
    let decisions = |stats: &Stats| -> u64 {
        let names = stats.names("wasmcustom.taskfence.allowed").chain(stats.names("wasmcustom.taskfence.denied."));
        names.map(|name| stats.value(name).unwrap()).sum()
    };
    let requests = |stats: &Stats| stats.value("http.app.downstream_rq_total").unwrap();
    assert!(requests(&after) > requests(&before) + 50, "requests came");
    assert_eq!(decisions(&after), decisions(&before), "and the filter decided none");
}
