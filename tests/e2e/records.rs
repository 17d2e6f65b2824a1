//! The record of a decision, in every place where it is found: Envoy's log, an access log of a file, one by OTLP.

use std::time::{Duration, Instant};

use jsonschema::Validator;
use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{Connection as Client, Http, Request},
    collector::Collector,
    hub::{Hub, SOON, wait_ready},
    jwks,
    mint::{self, complete_task, unique},
    orders,
    refusal::assert_signal_accepted,
    services,
    sidecar::Sidecar,
    streaming::Connection,
};
use tokio::time;

/// Where Envoy sends its access log by OTLP.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// What an access log prints of the record.
const RECORD: &str = "%FILTER_STATE(wasm.taskfence.record:PLAIN)%";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const KEY: &str = "a key that has thirty-two letters";

fn config() -> Value {
    let rule = |name: &str, more: Value| {
        let mut rule = json!({
            "name": name, "match": {"path": format!("/v1/{name}/{{rest...}}")}, "require": {"scope": orders::SCOPE}
        });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    orders::config_of(json!([
        rule("live", json!({})),
        rule("never", json!({})),
        rule("always", json!({"record_allows": 1})),
        rule("half", json!({"record_allows": 0.5})),
        rule("denied", json!({"require": {"scope": "nobody.has"}})),
        rule("shadow", json!({"require": {"scope": "nobody.has"}, "mode": "shadow"})),
        rule("glass", json!({
            "require": {"acr": ["never"]}, "break_glass": {"scope": orders::SCOPE, "lifts": ["acr"]}
        })),
        {"name": "open", "match": {"path": "/v1/open/{rest...}"}, "allow": "anonymous", "record_allows": 1},
    ]))
}

/// A validator of the schema that `taskfence schema record` prints. It allows no member that is not described.
fn schema() -> Validator {
    let output = std::process::Command::new(artefacts::command().unwrap()).args(["schema", "record"]).output().unwrap();
    let mut schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema["additionalProperties"] = json!(false);
    jsonschema::draft202012::new(&schema).unwrap()
}

/// The records in the log of Envoy.
fn logged(sidecar: &Sidecar) -> Vec<Value> {
    let log = sidecar.envoy().log();
    let records = log.lines().filter(|line| line.contains("\"schema\":\"taskfence.decision/1\""));
    records.map(|line| serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()).collect()
}

/// The records in the access log, once it has so many lines.
async fn accessed(sidecar: &Sidecar, lines: usize) -> Vec<Value> {
    let log = sidecar.access_log(lines).await.unwrap();
    log.lines().filter(|line| *line != "-").map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records in the access log, once there are so many.
async fn recorded(sidecar: &Sidecar, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let records = accessed(sidecar, 0).await;
        if records.len() >= count {
            return records;
        }
        assert!(Instant::now() < deadline, "{records:?}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

fn assert_valid(schema: &Validator, records: &[Value]) {
    for record in records {
        let faults: Vec<_> =
            schema.iter_errors(record).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:?} in {record}");
    }
}

/// One request of each verdict: the log and the access log have the same record, it is valid, and it has what is known.
#[tokio::test]
async fn each_decision_has_one_record_in_both_logs() {
    let sidecar = Sidecar::start(Settings::new("records", config()).workers(1).access_log(RECORD)).await.unwrap();
    sidecar.envoy().log_debug().await.unwrap();
    let token = mint::token().sign();
    let traced = |path: &str| {
        let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
        Request::get(path).bearer(&token).header("traceparent", traceparent)
    };
    let requests = [
        ("allowed", Request::get("/v1/always/x?token=secret").bearer(&token), 200),
        ("allowed", Request::get("/v1/glass/x").bearer(&token), 200),
        ("allowed", Request::get("/v1/open/x"), 200),
        ("denied", traced("/v1/denied/x?token=secret"), 403),
        ("denied", Request::get("/v1/denied/x").header("traceparent", "00-0-0-01"), 401),
        ("denied", Request::get("/nowhere").bearer(&token), 403),
        ("would_deny", traced("/v1/shadow/x"), 200),
    ];
    for (verdict, request, status) in &requests {
        let answer = sidecar.send(Http::One, request).await.unwrap();
        assert_eq!(answer.status, *status, "{verdict} {}", answer.text());
    }
    let in_access_log = accessed(&sidecar, requests.len()).await;
    let verdicts: Vec<_> = in_access_log.iter().map(|record| record["verdict"].as_str().unwrap()).collect();
    let expected: Vec<_> = requests.iter().map(|(verdict, ..)| *verdict).collect();
    assert_eq!(verdicts, expected);
    assert_eq!(logged(&sidecar), in_access_log);
    assert_valid(&schema(), &in_access_log);
    let [allowed, glass, open, denied, stranger, nowhere, shadow] = &in_access_log[..] else { panic!() };
    for (name, value) in [
        ("reason", json!("scope_insufficient")),
        ("rule", json!("denied")),
        ("mode", json!("enforce")),
        ("issuer", json!(orders::ISSUER)),
        ("subject", json!(orders::USER)),
        ("task", json!(orders::TASK)),
        ("session", json!(orders::SESSION)),
        ("method", json!("GET")),
        ("host", json!(orders::HOST)),
        ("path", json!("/v1/denied/x")),
        ("source", json!("127.0.0.1")),
        ("trace_id", json!(TRACE)),
    ] {
        assert_eq!(denied[name], value, "{name} in {denied}");
    }
    let now = mint::now().unsigned_abs() * 1000;
    assert!(denied["time_ms"].as_u64().unwrap().abs_diff(now) < 60_000, "{denied}");
    assert_eq!((&allowed["rule"], allowed.get("reason")), (&json!("always"), None));
    assert_eq!((&glass["break_glass"], allowed.get("break_glass")), (&json!(true), None));
    assert_eq!((&open["rule"], open.get("subject")), (&json!("open"), None));
    assert_eq!((&stranger["reason"], stranger.get("trace_id")), (&json!("token_missing"), None));
    assert_eq!((&nowhere["reason"], nowhere.get("rule")), (&json!("rule_missing"), None));
    assert_eq!((&shadow["reason"], &shadow["mode"]), (&json!("scope_insufficient"), &json!("shadow")));
    for record in &in_access_log {
        assert!(!record.to_string().contains("secret") && !record.to_string().contains(&token), "{record}");
        assert_eq!(record["config"], allowed["config"]);
    }
}

/// Anybody can send requests without a token: the record of each would cost more than to refuse it.
#[tokio::test]
async fn a_flood_of_strangers_has_few_records_and_each_has_its_reason() {
    let format = format!("%FILTER_STATE(wasm.taskfence.reason:PLAIN)% {RECORD}");
    let settings = Settings::new("records-flood", config()).workers(1).access_log(&format);
    let sidecar = Sidecar::start(settings).await.unwrap();
    let mut connection = Client::open(sidecar.app(), Http::One).await.unwrap();
    let began = Instant::now();
    const SENT: usize = 500;
    for _ in 0..SENT {
        assert_eq!(connection.send(&Request::get("/v1/denied/x")).await.unwrap().status, 401);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let log = sidecar.access_log(SENT).await.unwrap();
    assert_eq!(log.lines().filter(|line| line.starts_with("token_missing ")).count(), SENT);
    let recorded = log.lines().filter(|line| line.contains("\"verdict\":\"denied\"")).count();
    assert!((20..=20 * seconds).contains(&recorded), "{recorded} of {SENT} in {seconds} s");
    // Whoever asks for debug lines gets them all.
    sidecar.envoy().log_debug().await.unwrap();
    for _ in 0..SENT {
        connection.send(&Request::get("/v1/denied/x")).await.unwrap();
    }
    let log = sidecar.access_log(2 * SENT).await.unwrap();
    let all = log.lines().skip(SENT).filter(|line| line.contains("\"verdict\":\"denied\"")).count();
    assert_eq!(all, SENT);
}

/// Masked members are in none of the logs, in no form but a keyed hash.
#[tokio::test]
async fn what_is_masked_leaves_the_proxy_nowhere() {
    let mut config = config();
    config["evidence"] = json!({
        "mask": {"subject": "hash", "task": "hash", "source": "remove", "path": "remove", "captures": "remove"},
        "mask_key": KEY
    });
    let sidecar = Sidecar::start(Settings::new("records-masked", config).workers(1).access_log(RECORD)).await.unwrap();
    let user = unique("user");
    let request = Request::get("/v1/denied/private").bearer(&mint::token().user(&user).sign());
    for _ in 0..2 {
        assert_eq!(sidecar.send(Http::One, &request).await.unwrap().status, 403);
    }
    let records = accessed(&sidecar, 2).await;
    assert_valid(&schema(), &records);
    assert_eq!(records[0]["masked"], json!(["subject", "task", "path", "source"]));
    assert!(records[0]["subject"].as_str().unwrap().starts_with("sha256:"), "{}", records[0]);
    assert_eq!(records[0]["subject"], records[1]["subject"], "equal values have equal hashes");
    assert_ne!(records[0]["subject"], records[0]["task"]);
    let log = sidecar.envoy().log();
    assert!(log.contains("\"verdict\":\"denied\""), "{log}");
    for text in [user.as_str(), orders::TASK, "private", "127.0.0.1\""] {
        assert!(!log.contains(text) && !sidecar.access_log(2).await.unwrap().contains(text), "{text} in\n{log}");
    }
}

/// A rule that records none, one that records all, and one that records about half of what it allows.
#[tokio::test]
async fn allowed_requests_are_recorded_by_the_rate_of_their_rule() {
    const EACH: usize = 400;
    let sidecar = Sidecar::start(Settings::new("records-rates", config()).workers(1).access_log(RECORD)).await.unwrap();
    let token = mint::token().sign();
    let mut connection = Client::open(sidecar.app(), Http::One).await.unwrap();
    for rule in ["never", "always", "half"] {
        for _ in 0..EACH {
            let answer = connection.send(&Request::get(&format!("/v1/{rule}/x")).bearer(&token)).await.unwrap();
            assert_eq!(answer.status, 200);
        }
    }
    let records = accessed(&sidecar, 3 * EACH).await;
    let count = |rule: &str| records.iter().filter(|record| record["rule"] == rule).count();
    assert_eq!((count("never"), count("always")), (0, EACH));
    // Six standard deviations of 400 throws of a coin are 60.
    assert!(count("half").abs_diff(EACH / 2) <= 60, "{}", count("half"));
    assert_eq!(logged(&sidecar).len(), records.len());
}

/// A stream that a signal ends: what it was, how long after the signal, how long it had lasted, how much it had carried. With a
/// hub the record names the revision of the state that ended it. A collector gets it by OTLP.
#[tokio::test]
async fn the_record_of_an_ended_stream_says_how_long_after_the_signal() {
    let (hub, collector) = (Hub::start("records-hub").await.unwrap(), Collector::start().await.unwrap());
    let mut otlp = jwks::cluster("otel-collector", collector.address());
    otlp["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}
        }
    });
    let mut config = config();
    // As the feed of the hub covers the issuer.
    config["issuers"][0].as_object_mut().unwrap().remove("claims");
    let settings = hub.plain("records-ended", &config).access_log(RECORD).patch(jwks::with_clusters(vec![otlp]));
    let sidecar = Sidecar::start(settings.patch(|bootstrap| {
        let logs = bootstrap.pointer_mut(&format!("{}/access_log", bootstrap::APP)).unwrap();
        logs.as_array_mut().unwrap().push(json!({
            "name": "envoy.access_loggers.open_telemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
                "common_config": {
                    "log_name": "taskfence", "transport_api_version": "V3",
                    "grpc_service": {"envoy_grpc": {"cluster_name": "otel-collector"}},
                    "buffer_flush_interval": "0.1s"
                },
                "body": {"string_value": RECORD}
            }
        }));
    }))
    .await
    .unwrap();
    wait_ready(&sidecar).await.unwrap();
    let task = unique("task");
    let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
    let request = Request::get(services::EVENTS).bearer(&mint::token().task(&task).sign());
    let request = request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    let begun = Instant::now();
    let mut stream = connection.start(&request).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(500).await.unwrap();
    time::sleep(Duration::from_millis(300)).await;
    let ended = tokio::spawn(stream.end(SOON));
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    assert!(ended.await.unwrap().unwrap().broken.is_some());
    let lasted = begun.elapsed();
    let records = recorded(&sidecar, 1).await;
    assert_valid(&schema(), &records);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&record["verdict"], &record["reason"]), (&json!("ended"), &json!("task_completed")), "{record}");
    assert_eq!((&record["task"], &record["path"]), (&json!(task), &json!(services::EVENTS)));
    assert_eq!((&record["trace_id"], &record["source"]), (&json!(TRACE), &json!("127.0.0.1")));
    let of = |name: &str| record["ended"][name].as_u64().unwrap_or_else(|| panic!("{name} in {record}"));
    assert!(of("delay_ms") < 600, "{record}");
    let lasted = u64::try_from(lasted.as_millis()).unwrap();
    assert!((300..=lasted + 5).contains(&of("lasted_ms")), "{lasted} ms, {record}");
    assert!(of("bytes_out") >= 500 && of("bytes_in") == 0, "{record}");
    assert!(record["state"]["age_ms"].as_u64().is_some_and(|age| age < 30_000), "{record}");
    // It has applied all that the hub has.
    assert_eq!(record["state"]["revision"].as_str(), Some(hub.head().await.unwrap().as_str()), "{record}");
    assert_eq!(logged(&sidecar), records);
    let decision = record["decision"].as_str().unwrap();
    let deadline = Instant::now() + SOON;
    while !collector.has(EXPORT, decision) {
        assert!(Instant::now() < deadline, "no record by OTLP");
        time::sleep(Duration::from_millis(50)).await;
    }
    // What ends by its own time was ended by no signal.
    let short = mint::token().task(&unique("task")).valid(-1, 3);
    let mut stream = connection.start(&Request::get(services::EVENTS).bearer(&short.sign())).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(1).await.unwrap();
    assert!(stream.end(Duration::from_secs(60)).await.unwrap().broken.is_some());
    let record = recorded(&sidecar, 2).await.remove(1);
    assert_eq!((&record["reason"], record["ended"].get("delay_ms")), (&json!("token_expired"), None), "{record}");
}
