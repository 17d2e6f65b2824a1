//! Dashboards and alerts: a real Prometheus scrapes real proxies, a hub and a relay, and every query has data.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{self, Http, Request},
    discovered::Discovered,
    hub::{FEED, Hub, SOON, fresh, wait_ready},
    jwks::{self, Jwks},
    mint::{self, complete_task, unique},
    orders,
    prometheus::{self, Prometheus},
    services,
    sidecar::Sidecar,
    ssf_receiver::{POLL, Receiver},
    ssf_transmitter::{TOKEN, Transmitter},
    streaming::Connection,
};
use tokio::time::sleep;

const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";
/// How many names the legend of a panel can have. A counter for each reason is there from the start, and most stay 0.
const LEGEND: usize = 16;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn shipped(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub(crate) fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&shipped(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A query, and where it stands.
struct Asked {
    place: String,
    query: String,
}

/// A dashboard that we ship, and the file that it is in.
pub(crate) fn dashboard(name: &str) -> (String, Value) {
    let file = format!("envoy/grafana/{name}.json");
    let board = serde_json::from_str(&shipped(&file)).unwrap();
    (file, board)
}

/// The query of a target of a panel. Variables match everything, as they do when a dashboard is opened.
pub(crate) fn query_of(target: &Value) -> String {
    let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
    let query = ["$job", "$instance", "$feed"].iter().fold(query, |query, name| query.replace(name, ".*"));
    assert!(!query.contains('$'), "{query}");
    query
}

/// The queries of all panels.
fn panels() -> Vec<Asked> {
    let mut all = Vec::new();
    for name in ["mesh", "proxy", "hub", "evidence"] {
        let (file, board) = dashboard(name);
        for panel in board["panels"].as_array().unwrap() {
            assert!(panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}", "{panel}");
            for target in panel["targets"].as_array().into_iter().flatten() {
                all.push(Asked { place: format!("{file}: {}", panel["title"]), query: query_of(target) });
            }
        }
    }
    all
}

/// The rules of a file of Prometheus, and of one of its operator.
fn rules() -> Vec<Value> {
    let plain = yaml("envoy/prometheus/taskfence.rules.yaml");
    let operator = yaml("envoy/gateway/alerts.yaml")["spec"].clone();
    let groups = [plain, operator].into_iter().flat_map(|file| file["groups"].as_array().unwrap().clone());
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// What an alert compares: both sides of each comparison that is outside of brackets, but for numbers. An alert that does
/// not fire gives no data, and what it compares must.
fn compared(alert: &Value) -> Vec<Asked> {
    let place = format!("alert {}", alert["alert"].as_str().unwrap());
    let expr = alert["expr"].as_str().unwrap();
    let (mut depth, mut parts, mut part, mut quoted) = (0, Vec::new(), String::new(), false);
    for letter in expr.chars() {
        quoted ^= letter == '"';
        match letter {
            _ if quoted => part.push(letter),
            '(' | '{' | '[' => {
                depth += 1;
                part.push(letter);
            }
            ')' | '}' | ']' => {
                depth -= 1;
                part.push(letter);
            }
            '<' | '>' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => part.push(letter),
        }
        if depth == 0 && !quoted && (part.ends_with("\nand on (namespace, pod)") || part.ends_with(" and ")) {
            let end = part.rfind("and").unwrap();
            part.truncate(end);
            parts.push(std::mem::take(&mut part));
        }
    }
    parts.push(part);
    assert!(parts.len() > 1, "{place} compares nothing: {expr}");
    let sides = parts.iter().map(|part| part.trim().trim_start_matches("on() "));
    let queries = sides.filter(|part| part.parse::<f64>().is_err());
    queries.map(|query| Asked { place: place.clone(), query: query.to_owned() }).collect()
}

/// Two proxies, one behind a hub and one with a receiver; a relay; a transmitter and a receiver of the hub.
struct Mesh {
    hub: Hub,
    relay: Hub,
    follower: Sidecar,
    direct: Sidecar,
    transmitter: Transmitter,
    _keys: Jwks,
}

impl Mesh {
    async fn start() -> Mesh {
        let transmitter = Transmitter::start().unwrap();
        let hub = Hub::start_with("observability", |config| {
            let folder = Path::new(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
            fs::write(folder.join("token"), TOKEN).unwrap();
            let ssf = json!({
                "credentials": {"token_file": folder.join("token")},
                "verify": "1s", "wait": "5s", "events": ["task-completed"]
            });
            config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap().push(transmitter.entry(ssf));
            let address = config["listen"]["address"].as_str().unwrap().to_owned();
            config["streams"] = json!({"issuer": format!("http://{address}"), "allow": ["127.0.0.0/8"]});
        })
        .await
        .unwrap();
        let relay = Hub::relay("observability-relay", &hub, hub.address(), |_| ()).await.unwrap();
        receive(&hub).await;
        let stats = yaml("envoy/plain/sidecar-with-signals.yaml")["stats_config"].clone();
        assert!(stats["stats_tags"].is_array());
        let mut config = orders::config();
        config["rules"] = json!([
            {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}},
            {"name": "read-order", "match": {"path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}},
        ]);
        let mut shadow = hub.followed_by(&config);
        shadow["mode"] = json!("shadow");
        let (tags, more) = (stats.clone(), stats);
        let follower = hub.plain("observability-follower", &config).also("shadow", shadow);
        let follower = Sidecar::start(follower.patch(|bootstrap| bootstrap["stats_config"] = tags)).await.unwrap();
        let keys = Jwks::start(mint::ISSUER.jwks()).unwrap();
        let mut fetched = config;
        fetched["issuers"][0]["keys"] = json!({"cluster": "jit", "path": "/jwks.json"});
        let direct = Settings::new("observability-direct", fetched)
            .patch(jwks::with_clusters(vec![jwks::cluster("jit", keys.address())]))
            .patch(|bootstrap| {
                // As Envoy Gateway names it.
                *bootstrap.pointer_mut(&format!("{}/stat_prefix", bootstrap::APP)).unwrap() = json!("http-10080");
                bootstrap["stats_config"] = more;
            });
        let direct = Sidecar::start(direct).await.unwrap();
        wait_ready(&follower).await.unwrap();
        Mesh { hub, relay, follower, direct, transmitter, _keys: keys }
    }

    /// What Prometheus is to scrape: each job as the documentation has it, once a second.
    fn scraped(&self, rules: &[Value]) -> Value {
        let envoy = |one: &Sidecar, pod: &str| {
            let labels = json!({"namespace": "ingress", "pod": pod});
            json!({"targets": [one.envoy().admin().to_string()], "labels": labels})
        };
        let hub = |job: &str, hub: &Hub| {
            json!({
                "job_name": job, "metrics_path": "/metrics", "authorization": {"credentials": hub.operator},
                "static_configs": [{"targets": [hub.address().to_string()]}]
            })
        };
        let folder = self.hub.folder().join("rules.yaml");
        fs::write(&folder, json!({"groups": [{"name": "all", "rules": rules}]}).to_string()).unwrap();
        json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "2s"},
            "rule_files": [folder],
            "scrape_configs": [
                {
                    "job_name": "orders", "metrics_path": "/stats/prometheus",
                    "static_configs": [envoy(&self.follower, "follower"), envoy(&self.direct, "direct")]
                },
                hub("taskfence-hub", &self.hub),
                hub("taskfence-relay", &self.relay),
            ]
        })
    }

    /// What each metric is to count: allowed, denied and shadow; known and new tokens; streams that end by a signal.
    async fn traffic(&self) {
        for (to, proxy) in [(self.follower.app(), &self.follower), (self.direct.app(), &self.direct)] {
            // One connection has one worker, which knows the token the second time.
            let mut connection = client::Connection::open(to, Http::One).await.unwrap();
            let request = Request::get(orders::ORDER_PATH);
            let allowed = Request::get(orders::ORDER_PATH).bearer(&fresh().sign());
            for (request, status) in [(&allowed, 200), (&allowed, 200), (&request, 401)] {
                let answer = connection.send(request).await.unwrap();
                assert_eq!(answer.status, status, "{}", proxy.envoy().log());
            }
        }
        let request = Request::get(orders::ORDER_PATH);
        let shadow = client::send(self.follower.listener("shadow"), Http::One, &request).await.unwrap();
        assert_eq!(shadow.status, 200);
        let task = unique("task");
        let mut connection = Connection::open(self.follower.app(), Http::Two).await.unwrap();
        let request = Request::get(services::EVENTS).bearer(&fresh().task(&task).sign());
        let mut stream = connection.start(&request).await.unwrap();
        assert_eq!(stream.status, 200);
        stream.read(1).await.unwrap();
        let mut connection = Connection::open(self.follower.listener("shadow"), Http::Two).await.unwrap();
        let mut goes_on = connection.start(&request).await.unwrap();
        self.transmitter.send(&complete_task(&task));
        assert!(stream.end(SOON).await.unwrap().broken.is_some());
        goes_on.read(1).await.unwrap();
        self.direct.accept(&complete_task(&unique("task"))).await;
    }
}

/// A receiver that has a stream of the hub.
async fn receive(hub: &Hub) {
    let token = hub.new_token("observer", "receiver").unwrap();
    let deadline = Instant::now() + SOON;
    while hub.send(&Request::get("/nothing").bearer(&token)).await.unwrap().status != 404 {
        assert!(Instant::now() < deadline, "the hub does not know the token");
        sleep(Duration::from_millis(100)).await;
    }
    let issuer = format!("http://{}/feeds/{FEED}", hub.address());
    let receiver = Receiver::discover(hub.address(), &issuer, &token).await.unwrap();
    receiver.create(&[TASK_COMPLETED], json!({"method": POLL})).await.unwrap();
}

/// Whether these series say something: a quantile of nothing is no number.
fn is_data(series: &[Value]) -> bool {
    series.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
}

#[tokio::test]
async fn every_query_of_a_panel_or_an_alert_has_data() {
    let Some(program) = prometheus::program("prometheus", "every_query_of_a_panel_or_an_alert_has_data") else {
        return;
    };
    let rules = rules();
    let mesh = Mesh::start().await;
    let server = Prometheus::start(&program, &mesh.scraped(&rules)).await.unwrap();
    // Rates need a sample from before.
    let deadline = Instant::now() + SOON;
    while server.query("count_over_time(up[1m]) > 1 and up == 1").await.unwrap().len() < 4 {
        assert!(Instant::now() < deadline, "{:?}\n{}", server.query("up").await, server.log());
        sleep(Duration::from_millis(200)).await;
    }
    mesh.traffic().await;
    let mut asked: Vec<_> = panels().into_iter().chain(rules.iter().flat_map(compared)).collect();
    assert!(asked.len() > 100, "{}", asked.len());
    // Envoy brings its histograms to what is scraped every five seconds, and a rate needs two samples.
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let (mut empty, mut unanswered) = (Vec::new(), Vec::new());
        for one in asked {
            let Asked { place, query } = &one;
            match server.query(query).await {
                // A rate of what happened once is gone a minute later.
                Ok(series) if is_data(&series) => continue,
                Ok(series) => empty.push(format!("{place}: {query}: {} series", series.len())),
                Err(error) => empty.push(format!("{place}: {error}")),
            }
            unanswered.push(one);
        }
        asked = unanswered;
        if empty.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let admin = mesh.follower.envoy().admin();
            let stats = client::send(admin, Http::One, &Request::get("/stats/prometheus")).await.unwrap().text();
            fs::write(mesh.hub.folder().join("stats.txt"), stats).unwrap();
            panic!("no data of {}\n{}", mesh.hub.folder().display(), empty.join("\n"));
        }
        sleep(Duration::from_secs(1)).await;
    }
    for Asked { place, query } in panels() {
        let names = server.query(&query).await.unwrap().len();
        assert!(names <= LEGEND, "{place} has a legend of {names} names: {query}");
    }
    let loaded = server.rules().await.unwrap();
    assert_eq!(loaded.len(), rules.len());
    let bad: Vec<_> = loaded.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(bad.is_empty(), "{bad:?}");
    numbers(&server).await;
}

/// What the metrics of the worker's own counts say after the traffic.
async fn numbers(server: &Prometheus) {
    let value = async |query: &str| {
        let series = server.query(query).await.unwrap();
        let value = series.first().and_then(|one| one["value"][1].as_str()?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no value of {query}: {series:?}"))
    };
    let of = |rule: &str, mode: &str, verdict: &str| {
        format!(
            "sum(taskfence_rule_decisions{{pod='follower', taskfence_rule='{rule}', taskfence_mode='{mode}', \
             taskfence_verdict='{verdict}'}})"
        )
    };
    assert_eq!(value(&of("read-order", "enforce", "allowed")).await, 2.0);
    assert_eq!(value(&of("read-order", "enforce", "denied")).await, 1.0);
    assert_eq!(value(&of("read-order", "shadow", "denied")).await, 1.0);
    assert_eq!(value(&of("live", "enforce", "allowed")).await, 1.0);
    assert_eq!(value("taskfence_tokens_warm{pod='follower'}").await, 1.0);
    assert_eq!(value("taskfence_tokens_cold{pod='follower'}").await, 3.0);
    assert_eq!(value("taskfence_token_cache_entries{pod='follower'}").await, 3.0);
    assert!(value("taskfence_token_cache_bytes{pod='follower'}").await > 2048.0);
    assert_eq!(value("taskfence_streams_live{pod='follower'}").await, 0.0);
    assert_eq!(value("taskfence_end_delay_ms_count{pod='follower'}").await, 1.0);
    let labels = server.query("taskfence_build_info{pod='follower'}").await.unwrap();
    assert_eq!(labels[0]["metric"]["taskfence_version"], json!(env!("CARGO_PKG_VERSION").replace('.', "_")));
    assert!(labels[0]["metric"]["taskfence_commit"].is_string(), "{labels:?}");
}

/// Waits until this counter or gauge of the filter has the value.
async fn shows(proxy: &Sidecar, name: &str, value: u64) {
    let name = format!("wasmcustom.taskfence.{name}");
    let deadline = Instant::now() + SOON;
    loop {
        let stats = proxy.envoy().stats().await.unwrap();
        // A counter is defined when there is something to count.
        let now = stats.value(&name).ok();
        if now == Some(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {now:?} and not {value}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// A worker adds its part to a gauge, and takes it out when its configuration goes. The names of rules are bounded.
#[tokio::test]
async fn gauges_follow_a_new_configuration_and_names_of_rules_are_bounded() {
    let mut config = orders::config();
    let mut rules: Vec<_> = (0..64)
        .map(|number| json!({"name": format!("rule {number}"), "match": {"path": format!("/r/{number}")}, "allow": "anonymous"}))
        .collect();
    rules.push(
        json!({"name": "read-order", "match": {"path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}}),
    );
    config["rules"] = json!(rules);
    let file = Discovered::new("observability-extension").unwrap();
    let discovered = file.clone();
    let settings = Settings::new("observability-gauges", config).patch(move |bootstrap| discovered.discover(bootstrap));
    let proxy = Sidecar::start(settings).await.unwrap();
    let get = async |path: &str, token: &str| {
        let request = Request::get(path).bearer(token);
        assert_eq!(proxy.send(Http::One, &request).await.unwrap().status, 200, "{}", proxy.envoy().log());
    };
    let task = unique("task");
    let token = fresh().task(&task).sign();
    get(orders::ORDER_PATH, &token).await;
    get("/r/63", &token).await;
    let mut connection = Connection::open(proxy.app(), Http::Two).await.unwrap();
    shows(&proxy, "rule_decisions.other.enforce.allowed", 1).await;
    shows(&proxy, "rule_decisions.rule_63.enforce.allowed", 1).await;
    shows(&proxy, "token_cache_entries", 1).await;
    let names = proxy.envoy().stats().await.unwrap();
    assert_eq!(names.names("wasmcustom.taskfence.rule_decisions.").count(), 2, "what nothing reached has no metric");
    file.replace(&proxy, "/r/63", "/r/other").await.unwrap();
    shows(&proxy, "token_cache_entries", 0).await;
    shows(&proxy, "token_cache_bytes", 0).await;
    file.replace(&proxy, "/v1/orders/{order}", "/v1/live/{rest...}").await.unwrap();
    let stream = connection.start(&Request::get(services::EVENTS).bearer(&token)).await.unwrap();
    assert_eq!(stream.status, 200);
    shows(&proxy, "streams_live", 1).await;
    proxy.accept(&complete_task(&task)).await;
    assert!(stream.end(SOON).await.unwrap().broken.is_some());
    shows(&proxy, "streams_live", 0).await;
    shows(&proxy, "tokens_cold", 2).await;
}

#[test]
fn promtool_takes_the_rules_and_the_alerts_fire_when_they_should() {
    let Some(promtool) = prometheus::program("promtool", "promtool_takes_the_rules") else { return };
    let file = |name: &str| repository().join("envoy/prometheus").join(name).display().to_string();
    let text = prometheus::promtool(&promtool, &["check", "rules", &file("taskfence.rules.yaml")]).unwrap();
    assert!(text.contains("SUCCESS"), "{text}");
    let text = prometheus::promtool(&promtool, &["test", "rules", &file("taskfence.test.yaml")]).unwrap();
    assert!(text.contains("SUCCESS"), "{text}");
}

/// Each alert has its steps in the documentation, and the documentation has no other.
#[test]
fn each_alert_is_documented() {
    let page = shipped("docs/observability.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned);
    let mut documented: Vec<_> = headings.filter(|heading| heading.starts_with("Taskfence")).collect();
    documented.sort();
    let mut alerts: Vec<_> = rules().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    alerts.sort();
    assert_eq!(documented, alerts);
    for rule in rules().iter().filter(|rule| rule["alert"] != "TaskfenceModuleDead") {
        let anchor = rule["alert"].as_str().unwrap().to_lowercase();
        assert_eq!(rule["annotations"]["runbook"], json!(format!("docs/observability.md#{anchor}")));
    }
}
