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
use futures_util::future::join_all;
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{self, Connection, Http, Request},
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

/// Paths, methods, headers and tokens that are made to be in the way: each request is in the sums, and none costs what another
/// token was used for.
#[tokio::test]
async fn a_client_cannot_hide_what_it_or_another_does() {
    let hub = start("evidence-hostile", Engine::Sqlite).await.unwrap().0;
    let proxy = Sidecar::start(hub.plain("evidence-hostile-envoy", &config()).workers(1)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let (quiet, loud) = (Story::new(), Story::new());
    let scopes = format!("{} {}", orders::SCOPE, "s".repeat(3_000));
    let (token, hostile) = (quiet.token().sign(), loud.token().claim("scope", scopes).sign());
    let mut connection = Connection::open(proxy.app(), Http::Two).await.unwrap();
    let mut sent = 0;
    for order in 0..300 {
        // More captures than there is room for, then such that are too long.
        let capture = if order < 200 { format!("o{order}%22%5B") } else { format!("{order}{}", "y".repeat(200)) };
        let request = Request::get(&format!("/v1/orders/{capture}")).bearer(&hostile);
        let request = request.header("traceparent", "00-\"},{\"x\":\"-b7ad6b7169203331-01");
        assert_eq!(connection.send(&request).await.unwrap().status, 200);
        sent += 1;
    }
    // More records than there is room for, of which none may keep out the others.
    let mut refused = 0;
    for number in 0..400 {
        let method = format!("M{}", "-_!".repeat(number % 20));
        let request = Request::new(&method, "/v1/orders/7:cancel").bearer(&hostile);
        let answer = connection.send(&request.header("user-agent", "\"\\u000a")).await.unwrap();
        refused += u64::from(answer.line() == "403 scope_insufficient");
    }
    assert!(refused > 100, "{refused} of 400 methods came to the filter");
    for _ in 0..5 {
        let request = Request::get("/v1/glass/x").bearer(&token);
        assert_eq!(connection.send(&request).await.unwrap().status, 200);
        sent += 1;
    }
    let report = report(&hub, |report| permitted(report) >= sent).await;
    let of = |name: &str| report["total"][name].as_u64().unwrap();
    assert_eq!((of("permitted"), of("refused"), of("grants"), of("break_glass")), (sent, refused, 2, 5), "{report:#}");
    let mut records = Vec::new();
    let mut after = 0;
    loop {
        let page = api(&hub, &format!("records?limit=1000&after={after}")).await;
        let new = page["records"].as_array().unwrap().clone();
        after = page["next"].as_u64().unwrap();
        if new.is_empty() {
            break;
        }
        records.extend(new);
    }
    let dropped = report["losses"]["records_dropped"].as_u64().unwrap();
    assert_eq!(u64::try_from(records.len()).unwrap() + dropped, refused + 5, "each record is there or counted");
    let glass = records.iter().filter(|one| one["record"]["break_glass"] == true).count();
    assert_eq!(glass, 5, "the refusals of one token keep out no record of another");
    assert!(records.iter().all(|one| one["record"].get("trace_id").is_none()));
    assert_eq!((&report["losses"]["batches_dropped"], &report["gaps"]), (&json!(0), &json!([])));
    let stats = proxy.envoy().stats().await.unwrap();
    let dropped = stats.value("wasmcustom.taskfence.uses_batches.dropped").unwrap_or(0);
    assert_eq!(dropped, 0, "{}", hub.log());
}

/// Two plugins of one VM with two feeds, of which one changes to the other feed: each feed has its own uses, and what can be
/// sent no longer is told.
#[tokio::test]
async fn a_feed_that_nothing_follows_any_longer_is_told() {
    let hub = Hub::start_with("evidence-feeds", |config| {
        config["evidence"] = json!({"period": "30s"});
        let mut other = config["feeds"][0].clone();
        other["name"] = json!("other");
        config["feeds"].as_array_mut().unwrap().push(other);
    });
    let hub = hub.await.unwrap();
    let file = Discovered::new("evidence-feeds").unwrap();
    let (discovered, cluster) = (file.clone(), hub.cluster());
    let mut other = hub.followed_by(&config());
    other["signals"]["hub"]["feed"] = json!("other");
    let settings = Settings::new("evidence-feeds-envoy", hub.followed_by(&config())).workers(1).also("other", other);
    let settings = settings.patch(jwks::with_clusters(vec![cluster])).patch(taskfence_tests::hub::without_receiver);
    let settings = settings.patch(move |bootstrap| discovered.discover(bootstrap));
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let token = Story::new().token().sign();
    let request = Request::get("/v1/orders/1").bearer(&token);
    let until_allowed = async |listener| {
        let deadline = Instant::now() + WAIT;
        while client::send(listener, Http::One, &request).await.unwrap().status != 200 {
            assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    let send = async |listener, times: u64| {
        until_allowed(listener).await;
        for _ in 1..times {
            assert_eq!(client::send(listener, Http::One, &request).await.unwrap().status, 200);
        }
    };
    send(proxy.listener("other"), 7).await;
    send(proxy.app(), 5).await;
    file.replace(&proxy, r#""feed":"main""#, r#""feed":"other""#).await.unwrap();
    let deadline = Instant::now() + WAIT;
    let lost = loop {
        let log = proxy.envoy().log();
        let line = log.lines().find_map(|line| line.split_once("this worker counts for it no longer: "));
        if let Some((before, after)) = line {
            assert!(before.contains("feed `main`"), "{before}");
            break after.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
        assert!(Instant::now() < deadline, "{log}");
        time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(lost, 5);
    send(proxy.app(), 3).await;
    let deadline = Instant::now() + WAIT;
    let sum = async |feed: &str| {
        let answer = hub.call("GET", &format!("/v1/feeds/{feed}/report"), None).await.unwrap();
        permitted(&answer.json())
    };
    while sum("other").await < 10 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!((sum("main").await, sum("other").await), (0, 10));
}

/// A thousand streams that one signal ends: each is counted, each record is there or counted as dropped, and it takes not much
/// longer than without evidence.
#[tokio::test]
async fn a_thousand_streams_end_as_fast_with_evidence() {
    const STREAMS: u64 = 1_000;
    let hub = start("evidence-mass", Engine::Sqlite).await.unwrap().0;
    let mut without = config();
    without["evidence"] = json!({"uses": false});
    let settings = hub.plain("evidence-mass-envoy", &config()).workers(1).also("without", hub.followed_by(&without));
    let proxy = Sidecar::start(settings).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let mut took = Vec::new();
    for listener in [proxy.listener("without"), proxy.app(), proxy.listener("without"), proxy.app()] {
        let story = Story::new();
        let request = Request::get(&format!("{}?every=1000", services::EVENTS)).bearer(&story.token().sign());
        let (mut connections, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let mut connection = streaming::Connection::open(listener, Http::Two).await.unwrap();
            for _ in 0..STREAMS / 10 {
                let stream = connection.start(&request).await.unwrap();
                assert_eq!(stream.status, 200);
                streams.push(tokio::spawn(stream.end(Duration::from_secs(30))));
            }
            connections.push(connection);
        }
        assert_signal_accepted(&hub.push(&complete_task(&story.task)).await.unwrap());
        let ends = join_all(streams).await.into_iter().map(|end| end.unwrap().unwrap().ended);
        let ends: Vec<_> = ends.collect();
        took.push(*ends.iter().max().unwrap() - *ends.iter().min().unwrap());
    }
    eprintln!("{STREAMS} streams end within, without and with evidence, twice: {took:?}");
    let ended = |report: &Value| {
        let grants = report["grants"].as_array().unwrap().iter();
        grants.filter_map(|grant| grant["residual"]["streams_ended"].as_u64()).sum::<u64>()
    };
    let report = report(&hub, |report| ended(report) >= 2 * STREAMS).await;
    assert_eq!((ended(&report), permitted(&report)), (2 * STREAMS, 2 * STREAMS), "{report:#}");
    let records = api(&hub, "records?limit=1000").await["records"].as_array().unwrap().len();
    let dropped = report["losses"]["records_dropped"].as_u64().unwrap();
    assert_eq!(u64::try_from(records).unwrap() + dropped, 2 * STREAMS);
    let (plain, counted) = (took[0].min(took[2]), took[1].min(took[3]));
    assert!(counted < plain * 3 + Duration::from_millis(300), "{took:?}");
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
