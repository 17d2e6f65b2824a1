//! The proxy around the filter: what `taskfence check` says of a configuration of Envoy is what that Envoy does, and a
//! filter that no receiver writes for says so.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    capabilities,
    client::{self, Answer, Http, Request},
    frames,
    mint::{self, unique},
    orders,
    raw::{Http1, Http1Request},
    refusal::assert_signal_accepted,
    services,
    sidecar::Sidecar,
};
use tokio::sync::OnceCell;

/// The name of a listener, the change of its connection manager, and what `check` says of it: how bad, and part of the
/// message.
type Listener = (&'static str, fn(&mut Value), &'static [(&'static str, &'static str)]);

const PLUGIN: &str = "/http_filters/0/typed_config/config";

/// The host of the only rule that says a host.
const PUBLIC: &str = "public.mesh";
/// Spellings of it that are one host for the rules.
const SAME: [&str; 6] =
    ["public.mesh:80", "public.mesh:1", "public.mesh.", "public.mesh.:443", "PUBLIC.mesh", "public.mesh:8080"];
/// Spellings of which Envoy cuts off too little, or nothing.
const REFUSED: [&str; 8] = [
    "public.mesh:",
    "public.mesh.:",
    "public.mesh:99999999999",
    "public.mesh..",
    "public.mesh..:80",
    "public.mesh:80:80",
    "public.mesh.:80.",
    "public.mesh.:80:80",
];

fn config() -> Value {
    let mut config = orders::config_of(json!([
        {"name": "public", "match": {"hosts": [PUBLIC], "path": "/public"}, "allow": "anonymous"},
        {"name": "any-host", "match": {"path": "/open"}, "allow": "anonymous"},
        {"name": "purge", "match": {"path": "/v1/orders:purge"}, "allow": "anonymous"},
        {"name": "silence", "match": {"path": services::SILENCE}, "allow": "anonymous"},
        {"name": "inside", "match": {"path": "/inside"}, "require": {"source": ["10.0.0.0/8"]}},
        {"name": "order", "match": {"path": "/v1/orders/{order}"}, "require": {}}
    ]));
    config["hosts"] = json!("exact");
    config
}

fn to_service(matches: Value) -> Value {
    json!({"match": matches, "route": {"cluster": "upstream", "timeout": "0s"}})
}

fn to_inner(matches: Value) -> Value {
    json!({"match": matches, "direct_response": {"status": 200, "body": {"inline_string": "inner"}}})
}

/// `public.mesh` is the service, every other host is not.
fn by_host(manager: &mut Value) {
    let all = || json!({"prefix": "/"});
    manager["route_config"]["virtual_hosts"] = json!([
        {"name": "public", "domains": [PUBLIC], "routes": [to_service(all())]},
        {"name": "inner", "domains": ["*"], "routes": [to_inner(all())]},
    ]);
}

fn by_path(manager: &mut Value, path: &str) {
    manager["route_config"]["virtual_hosts"][0]["routes"] =
        json!([to_service(json!({"path": path})), to_inner(json!({"prefix": "/"}))]);
}

fn switched_off() -> Value {
    json!({"taskfence": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}})
}

/// Each has one fault but the first.
const LISTENERS: [Listener; 12] = [
    (
        "safe",
        |manager| {
            by_host(manager);
            manager["use_remote_address"] = json!(true);
        },
        &[],
    ),
    (
        "header",
        |manager| {
            by_host(manager);
            if has_vhost_header() {
                manager["route_config"]["vhost_header"] = json!("x-host");
            }
        },
        &[("error", "Envoy chooses a virtual host by this header")],
    ),
    (
        "paths",
        |manager| {
            by_path(manager, "/open");
            manager["normalize_path"] = json!(false);
        },
        &[("error", "an escaped spelling of `/open`")],
    ),
    ("letters", |manager| by_path(manager, "/v1/orders:purge"), &[("warning", "`:` can be spelled otherwise")]),
    (
        "route-off",
        |manager| manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = switched_off(),
        &[("error", "switches `taskfence` off here")],
    ),
    (
        "filter-off",
        |manager| manager["http_filters"][0]["disabled"] = json!(true),
        &[("error", "switches the filter off wherever")],
    ),
    (
        "capabilities",
        |manager| {
            manager.pointer_mut(PLUGIN).unwrap()["capability_restriction_config"] =
                capabilities::all_but(&["proxy_on_request_headers"]).unwrap();
        },
        &[("error", "does not allow `proxy_on_request_headers`")],
    ),
    ("address", |_| {}, &[("error", "clients choose the address that rules with `source` compare")]),
    (
        "time-out",
        |manager| manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"] = json!("0.5s"),
        &[("warning", "cuts every response after 0.5s")],
    ),
    (
        // Fields in the other spelling, and a value by its number.
        "open",
        |manager| {
            let plugin = manager.pointer_mut(PLUGIN).unwrap();
            plugin["failure_policy"].take();
            plugin["failurePolicy"] = json!(3);
        },
        &[("error", "lets every request pass unjudged")],
    ),
    (
        "vm",
        |manager| manager.pointer_mut(PLUGIN).unwrap()["vm_config"]["vm_id"] = json!("taskfence.other"),
        &[("error", "signals are answered 202 and nothing that they revoke is refused")],
    ),
    (
        "hosts",
        |manager| {
            by_host(manager);
            manager["strip_any_host_port"] = json!(false);
            manager["strip_trailing_host_dot"] = json!(false);
            let text = manager.pointer_mut(&format!("{PLUGIN}/configuration/value")).unwrap();
            *text = json!(text.as_str().unwrap().replace("exact", "folded"));
        },
        &[("error", "Envoy sends them to the virtual host `inner`"), ("warning", "differs in more than `role`")],
    ),
];

fn settings() -> Settings {
    let mut settings = Settings::new("surroundings", config()).workers(1);
    for (name, ..) in LISTENERS {
        settings = settings.also(name, config());
    }
    settings.patch(|bootstrap| {
        for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
            let name = listener["name"].as_str().unwrap().to_owned();
            let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
            // Nothing is wrong with the listeners for requests but what is meant to be.
            if name != "signals" && name != "address" {
                manager["use_remote_address"] = json!(true);
            }
            if let Some((_, change, _)) = LISTENERS.iter().find(|(known, ..)| *known == name) {
                change(manager);
            }
        }
    })
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

async fn get(listener: &str, request: Request) -> Answer {
    let sidecar = sidecar().await;
    client::send(sidecar.listener(listener), Http::One, &request).await.unwrap()
}

/// Where a request came to: the service, what must not be reached, or the reason of a refusal.
async fn reached(listener: &str, host: &str, path: &str) -> [String; 2] {
    let sidecar = sidecar().await;
    let to = sidecar.listener(listener);
    let request = Http1Request::without_host("GET", path).header("host", host);
    let one = Http1::open(to).await.unwrap().send(&request).await.unwrap();
    let fields: frames::Fields<'_> = &[
        (":method", b"GET".as_slice()),
        (":scheme", b"http"),
        (":authority", host.as_bytes()),
        (":path", path.as_bytes()),
    ];
    let two = frames::send(to, fields).await.unwrap();
    let where_to =
        |probe: &str, text: &str, reason: Option<&str>| match (sidecar.upstream().was_reached_by(probe), reason) {
            (true, _) => "service".to_owned(),
            (false, Some(reason)) => reason.to_owned(),
            (false, None) => text.to_owned(),
        };
    let (one_json, two_json) = (one.json(), two.json());
    let two_text = String::from_utf8_lossy(&two.body).into_owned();
    [
        where_to(&one.probe, &one.text(), one_json["reason"].as_str()),
        where_to(&two.probe, &two_text, two_json["reason"].as_str()),
    ]
}

/// `taskfence check` on what this Envoy was started with.
#[tokio::test]
async fn check_finds_every_fault_of_this_envoy_and_nothing_else() {
    if bootstrap::is_set_up_as_a_mesh_does("check_finds_every_fault_of_this_envoy_and_nothing_else") {
        return;
    }
    let bootstrap = sidecar().await.envoy().file("bootstrap.json");
    let listeners = serde_json::from_str::<Value>(&bootstrap).unwrap()["static_resources"]["listeners"].clone();
    let file = std::env::temp_dir().join(unique("taskfence-surroundings"));
    fs::write(&file, &bootstrap).unwrap();
    let output = Command::new(artefacts::command().unwrap()).args(["check", "--output", "json"]).arg(&file).output();
    fs::remove_file(&file).unwrap();
    let output = output.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{report:#}");
    for (at, listener) in listeners.as_array().unwrap().iter().enumerate() {
        let name = listener["name"].as_str().unwrap();
        let place = format!("static_resources.listeners[{at}].");
        let found = |severity: &str| -> Vec<String> {
            let all = report[severity].as_array().unwrap().iter();
            let here = all.filter(|one| one["path"].as_str().unwrap().starts_with(&place));
            here.map(|one| one["message"].as_str().unwrap().to_owned()).collect()
        };
        let (errors, warnings) = (found("errors"), found("warnings"));
        let expected = LISTENERS.iter().find(|(known, ..)| *known == name).map_or(&[][..], |(.., expected)| *expected);
        let expected = if name == "header" && !has_vhost_header() { &[] } else { expected };
        for (severity, part) in expected {
            let list = if *severity == "error" { &errors } else { &warnings };
            assert!(list.iter().any(|message| message.contains(part)), "{name}: no {severity} `{part}` in {report:#}");
        }
        assert_eq!(errors.len() + warnings.len(), expected.len(), "{name}: {errors:#?} {warnings:#?}");
    }
}

#[tokio::test]
async fn with_the_shipped_options_every_spelling_of_a_host_reaches_one_cluster() {
    for host in SAME {
        assert_eq!(reached("safe", host, "/public").await, ["service", "service"], "{host}");
    }
    for host in REFUSED {
        for reached in reached("safe", host, "/public").await {
            // Or Envoy has refused it.
            assert!(matches!(reached.as_str(), "host_refused" | ""), "{host}: {reached}");
        }
    }
}

#[tokio::test]
async fn without_them_a_request_is_judged_for_one_host_and_sent_to_another() {
    assert_eq!(reached("hosts", PUBLIC, "/public").await, ["service", "service"]);
    for host in ["public.mesh:80", "public.mesh:1", "public.mesh.", "public.mesh.:443"] {
        assert_eq!(reached("hosts", host, "/public").await, ["inner", "inner"], "{host}");
    }
    if has_vhost_header() {
        let answer = get("header", Request::get("/public").host(PUBLIC).header("x-host", "other")).await;
        assert_eq!(answer.text(), "inner", "the client chose");
    }
}

/// Envoy 1.36 cannot choose a virtual host by a header.
fn has_vhost_header() -> bool {
    artefacts::envoy_minor().unwrap() >= 37
}

#[tokio::test]
async fn a_path_that_envoy_does_not_normalise_is_routed_by_its_letters() {
    assert_eq!(reached("paths", orders::HOST, "/open").await, ["service", "service"]);
    assert_eq!(reached("paths", orders::HOST, "/%6fpen").await, ["inner", "inner"]);
    // Normalization decodes what is unreserved, and nothing else.
    assert_eq!(reached("letters", orders::HOST, "/v1/orders:purge").await, ["service", "service"]);
    assert_eq!(reached("letters", orders::HOST, "/v1/%6frders:purge").await, ["service", "service"]);
    assert_eq!(reached("letters", orders::HOST, "/v1/orders%3apurge").await, ["inner", "inner"]);
}

#[tokio::test]
async fn a_filter_that_is_switched_off_judges_nothing() {
    // Before 1.40 Envoy calls the filter all the same where a capability restriction leaves its callbacks out.
    let judges = artefacts::envoy_minor().unwrap() < 40;
    for (listener, judges) in [("route-off", false), ("filter-off", false), ("capabilities", judges)] {
        let expected = if judges { ["rule_missing"; 2] } else { ["service"; 2] };
        assert_eq!(reached(listener, orders::HOST, "/nobody/may").await, expected, "{listener}");
    }
    assert_eq!(reached("open", orders::HOST, "/nobody/may").await, ["rule_missing", "rule_missing"]);
    let dump = client::send(sidecar().await.envoy().admin(), Http::One, &Request::get("/config_dump")).await.unwrap();
    assert!(dump.text().contains("FAIL_OPEN"), "3 is FAIL_OPEN");
}

#[tokio::test]
async fn an_address_that_the_client_writes_is_believed() {
    let request = || Request::get("/inside").bearer(&mint::token().sign()).header("x-forwarded-for", "10.1.2.3");
    assert_eq!(get("address", request()).await.status, 200);
    assert_eq!(get("safe", request().host(PUBLIC)).await.line(), "403 source_refused");
}

#[tokio::test]
async fn a_time_out_cuts_a_stream() {
    let answer = get("time-out", Request::get(services::SILENCE)).await;
    assert_eq!(answer.status, 504);
}

/// With another `vm_id` a signal is answered 202 and does nothing; the filter's log says that it has no receiver.
#[tokio::test]
async fn another_vm_id_is_another_state_and_the_filter_says_so() {
    if bootstrap::is_set_up_as_a_mesh_does("another_vm_id_is_another_state_and_the_filter_says_so") {
        return;
    }
    let sidecar = sidecar().await;
    let task = unique("task");
    let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().task(&task).sign());
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
    assert_eq!(get("route-off", request.clone()).await.status, 200);
    let safe = get("time-out", request.clone()).await;
    assert_eq!(safe.line(), "401 task_completed");
    assert_eq!(get("vm", request).await.status, 200, "this filter has a state of its own");

    await_gauge(sidecar, "taskfence_other", 1).await;
    assert_eq!(gauge(sidecar, "taskfence_v1").await, 0, "the others have a receiver");
    assert_eq!(sidecar.envoy().log().matches(MISSING).count(), 1, "one line per vm_id\n{}", sidecar.envoy().log());
}

const MISSING: &str = "no receiver was configured under this vm_id";

async fn gauge(sidecar: &Sidecar, vm_id: &str) -> u64 {
    let name = format!("wasmcustom.taskfence.receiver_missing.{vm_id}");
    sidecar.envoy().stats().await.unwrap().value(&name).unwrap()
}

async fn await_gauge(sidecar: &Sidecar, vm_id: &str, value: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while gauge(sidecar, vm_id).await != value {
        assert!(Instant::now() < deadline, "it did not become {value}\n{}", sidecar.envoy().log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// When a receiver is configured later, the warning ends without a new configuration of the filter.
#[tokio::test]
async fn a_receiver_that_comes_later_is_noticed() {
    if bootstrap::is_set_up_as_a_mesh_does("a_receiver_that_comes_later_is_noticed") {
        return;
    }
    let folder = std::env::temp_dir().join(unique("taskfence-receiver"));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("listeners.json");
    let in_patch = file.clone();
    let settings = Settings::new("receiver-later", orders::config()).workers(2).patch(move |bootstrap| {
        // The receiver comes from a file that Envoy watches; at first it has a vm_id that no filter has.
        let signals = bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().remove(1);
        write_listener(&in_patch, signals, "taskfence.elsewhere");
        bootstrap["node"] = json!({"id": "tests", "cluster": "tests"});
        bootstrap["dynamic_resources"] = json!({"lds_config": {"resource_api_version": "V3",
            "path_config_source": {"path": in_patch.to_str().unwrap()}}});
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    await_gauge(&sidecar, "taskfence_v1", 1).await;
    let log = sidecar.envoy().log();
    assert_eq!(log.matches(MISSING).count(), 1, "one of the workers says it, once\n{log}");
    let task = unique("task");
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
    let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().task(&task).sign());
    assert_eq!(sidecar.send(Http::One, &request).await.unwrap().status, 200);

    let listener = serde_json::from_str::<Value>(&fs::read_to_string(&file).unwrap()).unwrap()["resources"][0].clone();
    write_listener(&file, listener, "taskfence.v1");
    await_gauge(&sidecar, "taskfence_v1", 0).await;
    let log = sidecar.envoy().log();
    assert_eq!(log.matches(MISSING).count(), 1, "{log}");
    assert_eq!(log.matches("a receiver has been configured").count(), 1, "{log}");
    fs::remove_dir_all(&folder).unwrap();
}

fn write_listener(file: &PathBuf, mut listener: Value, vm_id: &str) {
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let manager = bootstrap::SIGNALS.strip_prefix("/static_resources/listeners/1").unwrap();
    listener.pointer_mut(&format!("{manager}{PLUGIN}")).unwrap()["vm_config"]["vm_id"] = json!(vm_id);
    // Envoy looks when a file is moved into place.
    let new = file.with_extension("new");
    fs::write(&new, json!({"resources": [listener]}).to_string()).unwrap();
    fs::rename(&new, file).unwrap();
}

/// A receiver that stops at the headers and gets no body answers nobody.
#[tokio::test]
async fn a_receiver_without_the_flag_answers_no_push() {
    let settings = Settings::new("receiver-flag", orders::config()).workers(1).patch(|bootstrap| {
        let plugin = bootstrap.pointer_mut(&format!("{}{PLUGIN}", bootstrap::SIGNALS)).unwrap();
        plugin["allow_on_headers_stop_iteration"] = json!(false);
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    let pushed = tokio::time::timeout(Duration::from_secs(2), sidecar.push(&mint::complete_task("t"))).await;
    assert!(pushed.is_err(), "no answer within 2 s: {pushed:?}");
}
