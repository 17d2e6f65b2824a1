//! Evidence with every part real: an Envoy decides and counts, its hub keeps what was counted, and the API of the hub gives
//! exactly that back, without a token and with the masks of the filter.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{Http, Request},
    discovered::Discovered,
    hub::{FEED, Hub, wait_ready},
    jwks,
    mint::{self, Jwt, complete_task, unique},
    orders, postgres,
    refusal::assert_signal_accepted,
    services,
    sidecar::Sidecar,
    streaming,
};
use tokio::{task, time, time::Instant};

/// So long a test waits for what was counted.
const WAIT: Duration = Duration::from_secs(60);

/// Where the hub of a test keeps its evidence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// A hub that is told of uses each second, and the URL of its database if it has one. `None`: PostgreSQL is not installed.
async fn start(name: &str, engine: Engine) -> Option<(Hub, Option<String>)> {
    let url = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(postgres::database(name)?),
    };
    let store = url.clone();
    let hub = Hub::start_with(name, move |config| {
        if let Some(url) = store {
            config["store"] = json!({"postgres": {"url": url}});
        }
        config["evidence"] = json!({"period": "1s"});
    });
    Some((hub.await.unwrap(), url))
}

/// Users and addresses are masked.
fn config() -> Value {
    let mut config = orders::config_of(json!([
        {"name": "cancel", "match": {"path": "/v1/orders/{order}:cancel"}, "require": {"scope": "orders.cancel"}},
        {"name": "read", "match": {"methods": ["GET"], "path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}},
        {"name": "trial", "match": {"path": "/v1/trial/{rest...}"}, "require": {"scope": "orders.trial"}, "mode": "shadow"},
        {"name": "glass", "match": {"path": "/v1/glass/{rest...}"}, "require": {"acr": ["never"]},
         "break_glass": {"scope": orders::SCOPE, "lifts": ["acr"]}},
        {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}},
    ]));
    // As the feed of the hub covers the issuer.
    config["issuers"][0].as_object_mut().unwrap().remove("claims");
    let mask = json!({"subject": "hash", "source": "remove", "session": "remove"});
    config["evidence"] = json!({"mask": mask, "mask_key": "a key that has thirty-two letters"});
    config
}

/// What one test asks for, with a name of its own for everything.
struct Story {
    jti: String,
    task: String,
    user: String,
    session: String,
}

impl Story {
    fn new() -> Story {
        Story { jti: unique("jti"), task: unique("task"), user: unique("user"), session: unique("sess") }
    }

    fn token(&self) -> Jwt {
        mint::token().claim("jti", self.jti.as_str()).task(&self.task).session(&self.session).user(&self.user)
    }
}

async fn api(hub: &Hub, path: &str) -> Value {
    let answer = hub.call("GET", &format!("/v1/feeds/{FEED}/{path}"), None).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Asks for the report until `done` holds, and once more after the longest time that something could still come.
async fn report(hub: &Hub, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT;
    loop {
        let report = api(hub, "report").await;
        if done(&report) {
            break;
        }
        assert!(Instant::now() < deadline, "{report:#}\n{}", hub.log());
        time::sleep(Duration::from_millis(200)).await;
    }
    time::sleep(Duration::from_secs(3)).await;
    api(hub, "report").await
}

/// How many requests were permitted by this report, those included that are only in a number.
fn permitted(report: &Value) -> u64 {
    report["total"]["permitted"].as_u64().unwrap() + report["losses"]["other_permitted"].as_u64().unwrap()
}

/// Everything that the hub has stored as evidence.
fn stored(hub: &Hub, url: Option<&str>) -> Vec<u8> {
    fn read(folder: &Path, bytes: &mut Vec<u8>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => read(&entry.path(), bytes),
                false => bytes.extend(fs::read(entry.path()).unwrap()),
            }
        }
    }
    match url {
        Some(url) => postgres::run(url, "SELECT database_to_xml(true, false, '')").into_bytes(),
        None => {
            let mut bytes = Vec::new();
            read(&hub.folder().join("data/evidence"), &mut bytes);
            bytes
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// No part of a token of 20 characters is there, as it was sent or decoded. The header is the same in all tokens, and the
/// payload has names that are told, so of these only the encoded form is looked for.
fn assert_no_part_of(token: &str, bytes: &[u8]) {
    const PART: usize = 20;
    let mut parts: HashSet<Vec<u8>> = token.as_bytes().windows(PART).map(<[u8]>::to_vec).collect();
    let signature = token.rsplit('.').next().unwrap();
    parts.extend(URL_SAFE_NO_PAD.decode(signature).unwrap().windows(PART).map(<[u8]>::to_vec));
    let found = bytes.windows(PART).find(|window| parts.contains(*window));
    assert!(found.is_none(), "{:?}", found.map(String::from_utf8_lossy));
}

/// Permitted, refused and shadowed requests, uses of break-glass, and a stream that a signal ends: the API of the hub gives
/// exact numbers, each single decision once, and nothing that is masked.
async fn is_told_exactly(name: &str, engine: Engine) {
    let Some((hub, url)) = start(name, engine).await else { return };
    let settings = hub.plain(&format!("{name}-envoy"), &config()).workers(2);
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let (one, live) = (Story::new(), Story::new());
    let (token, live_token) = (one.token().sign(), live.token().sign());
    let send = async |token: &str, path: &str, status: u16| {
        let answer = proxy.send(Http::One, &Request::get(path).bearer(token)).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        answer.header("x-taskfence-decision")
    };
    let mut decisions = BTreeSet::new();
    for (path, status, times) in [
        ("/v1/orders/1881", 200, 4),
        ("/v1/orders/1882", 200, 3),
        ("/v1/orders/7:cancel", 403, 2),
        ("/v1/trial/x", 200, 3),
        ("/v1/glass/x", 200, 2),
    ] {
        for _ in 0..times {
            decisions.extend(send(&token, path, status).await);
        }
    }
    // Without a verified grant nothing is counted.
    assert_eq!(proxy.send(Http::One, &Request::get("/v1/orders/1")).await.unwrap().status, 401);
    let mut connection = streaming::Connection::open(proxy.app(), Http::Two).await.unwrap();
    let mut stream = connection.start(&Request::get(services::EVENTS).bearer(&live_token)).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(10).await.unwrap();
    assert_signal_accepted(&hub.push(&complete_task(&live.task)).await.unwrap());
    stream.end(Duration::from_secs(20)).await.unwrap();
    for _ in 0..2 {
        decisions.extend(send(&live_token, "/v1/orders/7", 401).await);
    }
    assert_eq!(decisions.len(), 4, "each refusal says its id");

    let report = report(&hub, |report| permitted(report) >= 10 && report["total"]["refused"].as_u64() >= Some(4)).await;
    let total = &report["total"];
    let of = |name: &str| total[name].as_u64().unwrap();
    assert_eq!(
        (of("grants"), of("permitted"), of("refused"), of("break_glass"), of("attempts_after_end")),
        (2, 10, 4, 2, 2),
        "{report:#}"
    );
    let losses = json!({"other_permitted": 0, "other_refused": 0, "records_dropped": 0, "batches_dropped": 0});
    assert_eq!((&report["losses"], &report["gaps"]), (&losses, &json!([])));
    let grant = |jti: &str| {
        let grants = report["grants"].as_array().unwrap();
        grants.iter().find(|grant| grant["token"] == jti).unwrap_or_else(|| panic!("{jti} in {report:#}")).clone()
    };
    let first = grant(&one.jti);
    assert_eq!((&first["permitted"], &first["refused"], &first["break_glass"]), (&json!(9), &json!(2), &json!(2)));
    assert!(first["subject"].as_str().unwrap().starts_with("sha256:"), "{first}");
    let residual = &grant(&live.jti)["residual"];
    assert_eq!((&residual["attempts_after"], &residual["streams_ended"]), (&json!(2), &json!(1)), "{residual}");

    let records = api(&hub, "records").await;
    let records: Vec<&Value> = records["records"].as_array().unwrap().iter().map(|one| &one["record"]).collect();
    let mut verdicts = BTreeMap::<_, u64>::new();
    for record in &records {
        let verdict = (record["verdict"].as_str().unwrap(), record["rule"].as_str().unwrap());
        *verdicts.entry(verdict).or_default() += 1;
        assert_eq!(record["masked"].as_array().unwrap().len(), 3, "{record}");
    }
    let expected = [
        (("allowed", "glass"), 2),
        (("denied", "cancel"), 2),
        (("denied", "read"), 2),
        (("ended", "live"), 1),
        (("would_deny", "trial"), 3),
    ];
    assert_eq!(verdicts, expected.into());
    let told = records.iter().filter(|record| record["verdict"] == "denied");
    let told: BTreeSet<String> = told.map(|record| record["decision"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, decisions, "the ids that the client has are those that the hub has");

    let timeline = api(&hub, &format!("timeline?task={}", live.task)).await;
    let moments = timeline["moments"].as_array().unwrap();
    let count = |what: &str| {
        let those = moments.iter().filter(|moment| moment["what"] == what);
        those.map(|moment| moment["count"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    let counts = ["first_use", "ended", "stream_ended", "attempt_after_end"].map(count);
    assert_eq!(counts, [1, 1, 1, 2], "{timeline:#}");
    assert!(moments.iter().all(|moment| moment["node"].is_null() || moment["node"] == format!("{name}-envoy")));

    let bytes = stored(&hub, url.as_deref());
    assert!(has(&bytes, &one.jti) && has(&bytes, &live.task), "the bytes are those of the evidence");
    for hidden in [&one.user, &live.user, &one.session, &live.session, "127.0.0.1"] {
        assert!(!has(&bytes, hidden), "{hidden} is stored");
    }
    assert_no_part_of(&token, &bytes);
    assert_no_part_of(&live_token, &bytes);
    assert!(!hub.log().contains(&one.user) && !proxy.envoy().log().contains(&one.user));
}

#[tokio::test]
async fn what_happened_is_told_exactly_from_files() {
    is_told_exactly("evidence-files", Engine::Sqlite).await;
}

#[tokio::test]
async fn what_happened_is_told_exactly_from_a_database() {
    is_told_exactly("evidence-database", Engine::Postgres).await;
}

/// One run of h2load: how many answers were 2xx by its own count. Fails unless all were.
async fn load(proxy: &Sidecar, token: &str, requests: u64, targets: &Path) -> u64 {
    let mut command = Command::new("h2load");
    command.args(["-n", &requests.to_string(), "-c", "16", "-m", "8", "-t", "1"]);
    command.args(["-H", &format!("authorization: Bearer {token}"), "-H", &format!(":authority: {}", orders::HOST)]);
    command.args(["-B", &format!("http://{}", proxy.app()), "-i", &targets.display().to_string()]);
    let output = task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("status codes: "));
    let passed = line.and_then(|line| line.split(" 2xx").next()?.parse().ok());
    assert_eq!(passed, Some(requests), "{said}{}", String::from_utf8_lossy(&output.stderr));
    requests
}

/// Sends `requests` requests in all by h2load to four workers. The configuration changes in the middle. What h2load counted
/// is what the hub has.
async fn sums_are_those_of_the_load_generator(name: &str, requests: u64) {
    if Command::new("h2load").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "{name} needs h2load: install nghttp2-client");
        eprintln!("skipped: {name}: h2load is not installed");
        return;
    }
    let hub = start(name, Engine::Sqlite).await.unwrap().0;
    let file = Discovered::new(name).unwrap();
    let (discovered, cluster) = (file.clone(), hub.cluster());
    let settings = Settings::new(&format!("{name}-envoy"), hub.followed_by(&config())).balanced().workers(4);
    let settings = settings.patch(jwks::with_clusters(vec![cluster])).patch(taskfence_tests::hub::without_receiver);
    let proxy = Sidecar::start(settings.patch(move |bootstrap| {
        // The proxy answers by itself: the service of the tests is not made for load.
        let route = format!("{}/route_config/virtual_hosts/0/routes/0", bootstrap::APP);
        let route = bootstrap.pointer_mut(&route).unwrap().as_object_mut().unwrap();
        route.remove("route");
        route.insert("direct_response".to_owned(), json!({"status": 200}));
        discovered.discover(bootstrap);
    }));
    let proxy = proxy.await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let targets = hub.folder().join("targets");
    let lines: Vec<String> = (0..20).map(|order| format!("/v1/orders/{order}\n")).collect();
    fs::write(&targets, lines.concat()).unwrap();
    let tokens = [Story::new(), Story::new()].map(|story| story.token().valid(-1, 890).sign());
    let begun = Instant::now();
    let replace = async {
        // The update falls into the load: both run once some have been answered.
        let deadline = Instant::now() + WAIT * 10;
        let answered = async || proxy.envoy().stats().await.unwrap().value("http.app.downstream_rq_2xx").unwrap_or(0);
        while answered().await < requests / 4 {
            assert!(Instant::now() < deadline, "no load");
            time::sleep(Duration::from_millis(20)).await;
        }
        let before = answered().await;
        file.replace(&proxy, "orders.trial", "orders.experiment").await.unwrap();
        (before, answered().await)
    };
    let half = requests / 2;
    let (one, two, (before, after)) =
        tokio::join!(load(&proxy, &tokens[0], half, &targets), load(&proxy, &tokens[1], half, &targets), replace);
    let (sent, took) = (one + two, begun.elapsed());
    let busy = proxy.connections_by_worker().await.unwrap();
    assert!(busy.iter().all(|connections| *connections > 0), "all workers count: {busy:?}");
    assert!(before < requests, "the update came after the load: {before} of {requests}");
    let report = report(&hub, |report| permitted(report) >= sent).await;
    eprintln!("{name}: h2load {sent} in {took:?}, hub {}, update at {before} to {after}", permitted(&report));
    assert_eq!(permitted(&report), sent, "{report:#}");
    assert_eq!((&report["total"]["grants"], &report["gaps"]), (&json!(2), &json!([])));
    assert_eq!(report["losses"]["other_permitted"], 0);
    let stats = proxy.envoy().stats().await.unwrap();
    assert_eq!(stats.value("wasmcustom.taskfence.uses_counted").unwrap(), sent);
}

#[tokio::test]
async fn twenty_thousand_requests_are_counted_exactly() {
    sums_are_those_of_the_load_generator("evidence-load", 20_000).await;
}

/// Takes minutes: `cargo test -p taskfence-tests --test e2e -- --ignored a_million --nocapture`.
#[tokio::test]
#[ignore = "takes minutes; the same with 20,000 requests runs always"]
async fn a_million_requests_are_counted_exactly() {
    sums_are_those_of_the_load_generator("evidence-million", 1_000_000).await;
}
