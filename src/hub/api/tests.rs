//! The API as a caller sees it, with a hub that runs. Every answer is compared with `/openapi.json`.

use crate::api::openapi::openapi;
use crate::api::routes::routes;
use crate::api::{global_revocation, lifecycle};
use crate::config::compile::compile;
use crate::config::role::Role;
use crate::evidence::uses;
use crate::feed::{long_poll, relayed};
use crate::intake::{logout, push};
use crate::server;
use crate::streams::routes as stream_routes;
use crate::testing::{self, Answer, Running};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::feed::page::MEDIA_TYPE;
use taskfence_core::state::bucket::{self, Table};
use taskfence_core::state::fact::{Claim, Fact};
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;

#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod evidence;

/// A hub, a token for it, and the document that answers must fit.
struct Caller<'h> {
    hub: &'h Running,
    token: String,
    document: Value,
}

impl<'h> Caller<'h> {
    async fn new(hub: &'h Running, name: &str, role: Role, feeds: &[&str]) -> Caller<'h> {
        let token = hub.token(name, role, feeds).await;
        Caller { hub, token, document: serde_json::to_value(openapi()).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let (status, answer) = self.hub.call(method, path, Some(&self.token), body).await;
        self.check(method, path, status, &answer);
        (status, answer)
    }

    /// Whether the answer is what the document says about this path, method and status.
    fn check(&self, method: &str, path: &str, status: u16, answer: &Value) {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            let same = |(wanted, given): (&&str, &&str)| wanted.starts_with('{') || wanted == given;
            template.len() == path.len() && template.iter().zip(&path).all(same)
        };
        let paths = self.document["paths"].as_object().unwrap();
        // A path without a parameter is more exact than one with.
        let mut templates: Vec<_> = paths.keys().filter(|template| fits(template)).collect();
        templates.sort_by_key(|template| template.matches('{').count());
        let operation = &paths[templates[0]][method.to_lowercase()];
        let responses = operation["responses"].as_object().unwrap();
        let response = responses.get(&status.to_string()).or(responses.get("default")).unwrap();
        let Some(content) = response["content"].as_object() else {
            assert_eq!(answer, &Value::Null, "{method} {path}");
            return;
        };
        let mut schema = content.values().next().unwrap()["schema"].clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{method} {path} answered {status} {answer}: {errors:?}");
    }
}

fn task(name: &str) -> Value {
    json!({"format": "complex", "task": {"format": "opaque", "id": name}})
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let of_the_api = routes().into_iter().map(|route| format!("{} {}", route.method, route.path));
    let pushed = [push::PATH, logout::PATH, global_revocation::PATH, relayed::PATH, uses::PATH, lifecycle::PATH]
        .map(|path| format!("post {path}"));
    let others = pushed.into_iter().chain([format!("get {}", long_poll::PATH)]);
    let of_streams = stream_routes::ALL.iter().map(|(method, path)| format!("{method} {path}"));
    let served: BTreeSet<_> = of_the_api.chain(others).chain(of_streams).collect();
    let document = serde_json::to_value(openapi()).unwrap();
    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    assert_eq!(served, described);
    let operation = |path: &str, method: &str| document["paths"][path][method].clone();
    let media = |content: &Value| content.as_object().unwrap().keys().next().unwrap().clone();
    let push = operation(push::PATH, "post");
    assert_eq!(media(&push["requestBody"]["content"]), "application/secevent+jwt");
    assert_eq!(media(&push["responses"]["400"]["content"]), "application/json");
    let page = operation(long_poll::PATH, "get");
    assert_eq!(media(&page["responses"]["200"]["content"]), MEDIA_TYPE);
}

#[tokio::test]
async fn pushes_and_pages_are_answered_as_described() {
    let hub = Running::start().await;
    let document = serde_json::to_value(openapi()).unwrap();
    let sidecar = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let idp = hub.token("idp", Role::Transmitter, &[]).await;
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let start = "0000000000000000.0.0000000000000000";
    let good = format!("main?after={start}&applied={start}&format=1");
    let (set, json) = ("application/secevent+jwt", "application/json");
    let table = [
        // Method, feed and query, token, content-type or report, status.
        ("POST", "main/signals", Some("agreed"), set, 400),
        ("POST", "main/signals", Some("agreed"), json, 415),
        ("POST", "none/signals", Some(&*idp), set, 404),
        ("POST", "main/signals", None, set, 401),
        ("POST", "main/signals", Some(&*sidecar), set, 403),
        ("POST", "main/signals", Some("wrong"), set, 401),
        ("GET", &good, Some(&*sidecar), r#"{"id":"envoy-one"}"#, 200),
        ("GET", &good, Some(&*sidecar), "{}", 400),
        ("GET", "main", Some(&*sidecar), r#"{"id":"envoy-one"}"#, 400),
        ("GET", "other", Some(&*sidecar), r#"{"id":"envoy-one"}"#, 403),
        ("GET", &good, None, r#"{"id":"envoy-one"}"#, 401),
    ];
    for (method, rest, token, header, expected) in table {
        let url = format!("http://{}/v1/feeds/{rest}", hub.server.address());
        let mut request = client.request(method.parse().unwrap(), url).body("no SET");
        request = request.header(if method == "GET" { "taskfence-follower" } else { "content-type" }, header);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{method} {rest} {token:?} {header}");
        let path = if method == "GET" { long_poll::PATH } else { push::PATH };
        let described = &document["paths"][path][method.to_lowercase()]["responses"][expected.to_string()];
        let media = response.headers().get("content-type").map(|media| media.to_str().unwrap().to_owned());
        let media = media.map(|media| media.split(';').next().unwrap().to_owned());
        assert!(described.is_object(), "{method} {rest}");
        match (&media, described["content"].as_object()) {
            (Some(media), Some(content)) => assert!(content.contains_key(media), "{method} {rest} {header}: {media}"),
            other => assert_eq!(other, (&None, None), "{method} {rest} {token:?} {header}"),
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn every_path_of_the_document_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = testing::config(folder.path());
    config["streams"] = json!({"issuer": "https://hub.example"});
    let hub = Running::start_with(config, folder).await;
    let token = hub.token("ops", Role::Operator, &[]).await;
    let (status, document) = hub.call("GET", "/openapi.json", Some(&token), None).await;
    assert_eq!(status, 200);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{feed}", "main").replace("{revision}", "0");
        for method in methods.as_object().unwrap().keys() {
            let (status, answer) = hub.call(&method.to_uppercase(), &path, Some(&token), Some(json!({}))).await;
            let missing = answer["detail"] == "there is no such path" || status == 405;
            assert!(!missing, "{method} {path} answered {status} {answer}");
        }
        if methods.get("delete").is_some() {
            continue;
        }
        let (status, _) = hub.call("DELETE", &path, Some(&token), None).await;
        // Where SETs are pushed, the role is looked at first.
        assert!(status == 405 || (status == 403 && path.ends_with("/signals")), "DELETE {path}: {status}");
    }
    assert_eq!(hub.call("GET", "/v1/nothing", Some(&token), None).await.0, 404);
    hub.stop().await;
}

#[tokio::test]
async fn an_event_stands_until_it_is_undone() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let event = json!({"event": "task-completed", "subject": task("task-42"), "issuer": "https://jit.example",
        "reason": "ticket 7", "jti": "mine"});
    let (status, taken) = ops.post("/v1/feeds/main/events", event.clone()).await;
    assert_eq!((status, &taken["entries"], &taken["repeated"]), (200, &json!(1), &json!(false)), "{taken}");
    let (_, again) = ops.post("/v1/feeds/main/events", event).await;
    assert_eq!((&again["repeated"], &again["revision"]), (&json!(true), &taken["revision"]));

    let about = "/v1/feeds/main/state?issuer=https://jit.example&task=task-42";
    let (_, state) = ops.get(about).await;
    assert_eq!(state["restricted"], true);
    let entry = &state["entries"][0];
    assert_eq!(
        (&entry["what"], &entry["fact"], &entry["undone"]),
        (&json!("task"), &json!("completed"), &json!(false))
    );
    assert_eq!((&entry["signal"]["by"], &entry["signal"]["reason"]), (&json!("ops"), &json!("ticket 7")));
    let (_, other) = ops.get("/v1/feeds/main/state?issuer=https://two.example&task=task-42").await;
    assert_eq!(other["entries"], json!([]), "another issuer has other tasks");

    let undo = json!({"jti": "mine", "reason": "a mistake"});
    let (status, lifted) = ops.post("/v1/feeds/main/undo", undo).await;
    assert_eq!((status, &lifted["signal"], &lifted["jti"]), (200, &taken["signal"], &json!("mine")), "{lifted}");
    let (_, state) = ops.get(about).await;
    assert_eq!((&state["restricted"], state["entries"].as_array().unwrap().len()), (&json!(false), 1), "{state}");
    assert_eq!(state["entries"][0]["signal"]["undone"]["by"], "ops");
    let (_, signals) = ops.get("/v1/feeds/main/signals?limit=5").await;
    assert_eq!(signals[0]["undone"]["reason"], "a mistake");

    let number = lifted["revision"].as_str().unwrap();
    let (status, receipt) = ops.get(&format!("/v1/feeds/main/receipts/{number}?wait=1")).await;
    assert_eq!((status, &receipt["confirmed"], &receipt["waiting"]), (200, &json!(0), &json!([])), "{receipt}");
    assert_eq!(ops.get("/v1/feeds/main/receipts/99").await.0, 404);
    assert_eq!(ops.get("/v1/feeds/main/receipts/x").await.0, 400);
    hub.stop().await;
}

#[tokio::test]
async fn a_stop_is_about_what_it_names_and_nothing_is_undone_twice_over() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let stop = |issuer: &str, what: Value, name: Value| json!({"issuer": issuer, "what": what, "name": name, "reason": "a loop"});
    let (status, one) =
        ops.post("/v1/feeds/main/stops", stop("https://jit.example", json!("client"), json!("a7"))).await;
    assert_eq!(status, 200, "{one}");
    let (status, all) = ops.post("/v1/feeds/main/stops", stop("https://two.example", json!(null), json!(null))).await;
    assert_eq!(status, 200, "{all}");
    let restricted =
        async |query: &str| ops.get(&format!("/v1/feeds/main/state?{query}")).await.1["restricted"].clone();
    assert_eq!(restricted("issuer=https://jit.example&client=a7").await, true);
    assert_eq!(restricted("issuer=https://jit.example&client=b8").await, false);
    assert_eq!(restricted("issuer=https://two.example&device=d").await, true, "all of the issuer is stopped");

    let (_, stops) = ops.get("/v1/feeds/main/signals?standing_stops=true").await;
    assert_eq!(stops.as_array().unwrap().len(), 2);
    let undo = json!({"signal": one["signal"], "reason": "fixed"});
    assert_eq!(ops.post("/v1/feeds/main/undo", undo.clone()).await.0, 200);
    let (status, again) = ops.post("/v1/feeds/main/undo", undo).await;
    assert_eq!((status, &again["repeated"]), (200, &json!(true)), "{again}");
    assert_eq!(restricted("issuer=https://jit.example&client=a7").await, false);
    let (_, stops) = ops.get("/v1/feeds/main/signals?standing_stops=true").await;
    assert_eq!(stops.as_array().unwrap().len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn mistakes_are_answered_with_a_remedy() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let table = [
        ("/v1/feeds/nothing/stops", json!({"issuer": "x", "reason": "r"}), 404),
        ("/v1/feeds/main/stops", json!({"issuer": "https://jit.exampel", "reason": "r"}), 400),
        ("/v1/feeds/main/stops", json!({"issuer": "https://jit.example", "what": "client", "reason": "r"}), 400),
        ("/v1/feeds/main/stops", json!({"issuer": "https://jit.example", "waht": "client", "reason": "r"}), 400),
        ("/v1/feeds/main/events", json!({"event": "task-complete", "subject": task("t")}), 400),
        ("/v1/feeds/main/events", json!({"event": "task-completed", "subject": {}}), 400),
        ("/v1/feeds/main/undo", json!({"reason": "r"}), 400),
        ("/v1/feeds/main/undo", json!({"signal": 99, "reason": "r"}), 404),
        ("/v1/feeds/main/undo", json!({"signal": 1, "reason": " "}), 400),
        ("/v1/tokens", json!({"name": "x", "role": "chief"}), 400),
        ("/v1/tokens", json!({"name": "a b", "role": "auditor"}), 400),
        ("/v1/tokens", json!({"name": "ops", "role": "auditor"}), 409),
        ("/v1/tokens", json!({"name": "x", "role": "auditor", "feeds": ["nothing"]}), 400),
        ("/v1/tokens/rotate", json!({"name": "x"}), 404),
    ];
    for (path, body, expected) in table {
        let (status, problem) = ops.post(path, body.clone()).await;
        assert_eq!(status, expected, "{path} {body}: {problem}");
        assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{path} {body}: {problem}");
    }
    for query in ["", "task=t", "issuer=x&task=t", "issuer=https://jit.example&task=t&user=u", "isuer=x"] {
        let (status, problem) = ops.get(&format!("/v1/feeds/main/state?{query}")).await;
        assert_eq!(status, 400, "{query}: {problem}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn what_only_a_new_event_changes_cannot_be_undone() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let device = json!({"format": "complex", "device": {"format": "opaque", "id": "laptop-7"}});
    let user = json!({"format": "iss_sub", "iss": "https://jit.example", "sub": "alice"});
    let events = [
        (
            "device-compliance-change",
            &device,
            json!({"current_status": "not-compliant", "previous_status": "compliant"}),
            "device",
        ),
        (
            "risk-level-change",
            &user,
            json!({"principal": "USER", "current_level": "HIGH", "previous_level": "LOW"}),
            "risk",
        ),
    ];
    for (event, subject, details, what) in events {
        let report = json!({"event": event, "subject": subject, "details": details, "reason": "r"});
        let (status, taken) = ops.post("/v1/feeds/main/events", report).await;
        assert_eq!((status, taken["entries"].as_u64().map(|count| count > 0)), (200, Some(true)), "{event}: {taken}");
        let undo = json!({"signal": taken["signal"], "reason": "a mistake"});
        let (status, problem) = ops.post("/v1/feeds/main/undo", undo).await;
        assert_eq!(status, 409, "{event}: {problem}");
        let detail =
            format!("what the signal {} says about {what} cannot be undone: the last word counts", taken["signal"]);
        assert_eq!(problem["detail"], detail);
        assert_eq!(problem["remedy"], "send a new event instead, which says how it is now");
        let (_, signals) = ops.get("/v1/feeds/main/signals").await;
        assert!(signals.as_array().unwrap().iter().all(|signal| signal["undone"].is_null()), "{signals}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn an_undo_leaves_standing_what_it_says_that_it_leaves() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let change = json!({"event": "token-claims-change", "issuer": "https://jit.example", "subject": task("t"),
        "details": {"claims": {"scope": "orders.read", "tier": "basic"}}});
    let (status, taken) = ops.post("/v1/feeds/main/events", change).await;
    assert_eq!((status, &taken["entries"]), (200, &json!(2)), "{taken}");
    let (status, lifted) =
        ops.post("/v1/feeds/main/undo", json!({"signal": taken["signal"], "reason": "a mistake"})).await;
    assert_eq!(status, 200, "{lifted}");
    assert!(lifted["notes"].to_string().contains("about claim stays"), "{lifted}");
    let (_, state) = ops.get("/v1/feeds/main/state?issuer=https://jit.example&task=t").await;
    let entries = state["entries"].as_array().unwrap().iter();
    let undone: BTreeSet<_> = entries.map(|entry| format!("{} {}", entry["fact"], entry["undone"])).collect();
    assert_eq!(undone, BTreeSet::from(["\"claim\" false".to_owned(), "\"narrowed\" true".to_owned()]));
    // A proxy that starts now takes everything from the store.
    let hub = hub.stop().await;
    let store = server::open_store(&compile(testing::config(hub.path()).to_string().as_bytes()).unwrap()).unwrap();
    let mut table = Table::default();
    let now = Timestamp(1);
    store
        .full_state("main", now, &mut |stored| {
            let Some(Ok(Decoded::Known(read))) = decode(&stored.entry.bytes).next() else { panic!("an entry") };
            table.insert(read.entry, read.by, now);
        })
        .unwrap();
    let about = bucket::about(&table.encode(), StateKey::new(Kind::Task, &key_space(), "t")).unwrap();
    let standing: Vec<_> = about.entries.iter().filter(|entry| !entry.lifted).map(|entry| entry.fact).collect();
    assert_eq!(standing, [Fact::Claim(Claim::Set)]);
}

/// Where names of the first issuer of `main` are hashed.
fn key_space() -> String {
    let folder = tempfile::tempdir().unwrap();
    let hub = compile(testing::config(folder.path()).to_string().as_bytes()).unwrap();
    let policy = hub.feeds[0].policy();
    policy.issuers()[0].key_space.to_string()
}

#[tokio::test]
async fn everybody_may_do_what_the_role_says() {
    let hub = Running::start().await;
    let reads = [
        "/v1/feeds",
        "/v1/feeds/main/state?issuer=https://jit.example",
        "/v1/feeds/main/signals",
        "/v1/feeds/main/proxies",
        "/v1/feeds/main/receipts/0",
        "/v1/feeds/main/streams",
        "/v1/audit",
        "/v1/tokens",
        "/metrics",
    ];
    let event = json!({"event": "task-completed", "subject": task("t"), "issuer": "https://jit.example"});
    let writes = [
        ("/v1/feeds/main/stops", json!({"issuer": "https://jit.example", "reason": "r"})),
        ("/v1/feeds/main/undo", json!({"signal": 1, "reason": "r"})),
        ("/v1/tokens", json!({"name": "new", "role": "auditor"})),
        ("/v1/tokens/rotate", json!({"name": "new"})),
        ("/v1/tokens/revoke", json!({"name": "new"})),
    ];
    for role in [Role::Sidecar, Role::Transmitter, Role::Issuer, Role::Auditor, Role::Operator, Role::Receiver] {
        let name = if role == Role::Issuer { "https://jit.example" } else { role.as_str() };
        let token = hub.token(name, role, &[]).await;
        let may_read = matches!(role, Role::Auditor | Role::Operator);
        for path in reads {
            let (status, _) = hub.call("GET", path, Some(&token), None).await;
            assert_eq!(status == 403, !may_read, "{name} GET {path}: {status}");
        }
        let (status, _) = hub.call("POST", "/v1/feeds/main/events", Some(&token), Some(event.clone())).await;
        assert_eq!(status == 200, matches!(role, Role::Issuer | Role::Operator), "{name} reports: {status}");
        for (path, body) in &writes {
            let (status, _) = hub.call("POST", path, Some(&token), Some(body.clone())).await;
            assert_eq!(status == 403, role != Role::Operator, "{name} POST {path}: {status}");
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn who_has_one_feed_sees_nothing_of_the_others() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    assert_eq!(ops.get("/v1/audit").await.0, 200);
    for role in [Role::Operator, Role::Auditor] {
        let token = hub.token(&format!("one-{}", role.as_str()), role, &["other"]).await;
        assert_eq!(hub.call("GET", "/v1/feeds/other/signals", Some(&token), None).await.0, 200);
        for path in ["/v1/audit", "/v1/tokens", "/metrics", "/v1/feeds/main/signals", "/v1/feeds/main/proxies"] {
            assert_eq!(hub.call("GET", path, Some(&token), None).await.0, 403, "{role:?} {path}");
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn who_has_no_role_for_the_api_writes_nothing_into_the_audit_log() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let (mesh, idp) = (hub.token("mesh", Role::Sidecar, &[]).await, hub.token("idp", Role::Transmitter, &[]).await);
    for token in [&*mesh, &idp] {
        for path in ["/v1/audit", "/v1/feeds/main/state", "/v1/feeds/main/signals"] {
            assert_eq!(hub.call("GET", path, Some(token), None).await.0, 403, "{path}");
        }
        let stop = json!({"issuer": "https://jit.example", "reason": "r"});
        assert_eq!(hub.call("POST", "/v1/feeds/main/stops", Some(token), Some(stop)).await.0, 403);
    }
    // What the transmitter of `main` has agreed on is good for a push.
    assert_eq!(hub.call("GET", "/v1/feeds/main/signals", Some("agreed"), None).await.0, 401);
    let long = "x".repeat(6_000);
    assert_eq!(ops.get(&format!("/v1/feeds/{long}/state")).await.0, 404);
    assert_eq!(ops.get(&format!("/v1/feeds/main/state?issuer=https://jit.example&task={long}")).await.0, 200);
    let (_, log) = ops.get("/v1/audit").await;
    let lines: Vec<_> =
        log.as_array().unwrap().iter().map(|line| (line["by"].as_str().unwrap(), line.to_string().len())).collect();
    assert!(lines.iter().all(|(by, length)| *by == "ops" && *length < 5_000), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    hub.stop().await;
}

#[tokio::test]
async fn the_audit_log_names_the_signal_that_a_call_made() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let long = "x".repeat(6_000);
    let stop = json!({"issuer": "https://jit.example", "what": "client", "name": "a", "reason": long});
    let (_, stopped) = ops.post("/v1/feeds/main/stops", stop).await;
    let event = json!({"event": "task-completed", "subject": task("t"), "issuer": "https://jit.example"});
    let (_, reported) = ops.post("/v1/feeds/main/events", event).await;
    let undo = json!({"jti": reported["jti"], "transmitter": "operator/ops", "reason": "r"});
    assert_eq!(ops.post("/v1/feeds/main/undo", undo).await.0, 200);
    let (_, log) = ops.get("/v1/audit").await;
    let signals: Vec<_> = log.as_array().unwrap().iter().map(|line| line["detail"]["signal"].clone()).collect();
    assert_eq!(signals, [&reported["signal"], &reported["signal"], &stopped["signal"]].map(Clone::clone));
    assert!(signals.iter().all(Value::is_u64), "{signals:?}");
    hub.stop().await;
}

#[tokio::test]
async fn an_issuer_ends_its_own_grants_in_its_own_feeds() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let issuer = Caller::new(&hub, "https://two.example", Role::Issuer, &["main"]).await;
    let event = |issuer: Value| json!({"event": "task-completed", "subject": task("t"), "issuer": issuer});
    assert_eq!(issuer.post("/v1/feeds/main/events", event(json!("https://jit.example"))).await.0, 403);
    assert_eq!(issuer.post("/v1/feeds/other/events", event(json!(null))).await.0, 403);
    let (status, taken) = issuer.post("/v1/feeds/main/events", event(json!(null))).await;
    assert_eq!((status, &taken["entries"]), (200, &json!(1)), "an opaque task names no issuer: {taken}");
    let restricted = async |issuer: &str| {
        ops.get(&format!("/v1/feeds/main/state?issuer={issuer}&task=t")).await.1["restricted"].clone()
    };
    assert_eq!(restricted("https://two.example").await, true);
    assert_eq!(restricted("https://jit.example").await, false);
    let foreign = json!({"event": "session-revoked",
        "subject": {"format": "iss_sub", "iss": "https://jit.example", "sub": "alice"}});
    let (status, answer) = issuer.post("/v1/feeds/main/events", foreign).await;
    assert!(status == 400 || answer["entries"] == 0, "{status} {answer}");
    hub.stop().await;
}

#[tokio::test]
async fn every_call_is_in_the_audit_log_without_secrets() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let auditor = Caller::new(&hub, "book", Role::Auditor, &[]).await;
    let (_, made) = ops.post("/v1/tokens", json!({"name": "ci", "role": "sidecar", "feeds": ["main"]})).await;
    let (_, again) = ops.post("/v1/tokens/rotate", json!({"name": "ci"})).await;
    let secret = "eyJhbGciOiJFUzI1NiJ9.e30.c2VjcmV0LXNpZ25hdHVyZQ";
    let url = format!("http://{}/v1/feeds/main/state", hub.server.address());
    let asked = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let asked =
        asked.get(url).header("authorization", format!("Bearer {}", ops.token)).header("taskfence-token", secret);
    assert_eq!(asked.send().await.unwrap().status().as_u16(), 400, "it is no access token");
    assert_eq!(auditor.post("/v1/feeds/main/undo", json!({"signal": 1, "reason": "r"})).await.0, 403);
    let (_, tokens) = ops.get("/v1/tokens").await;
    let listed = tokens.as_array().unwrap().iter().find(|token| token["name"] == "ci").unwrap();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    assert_eq!(ops.post("/v1/tokens/revoke", json!({"name": "ci", "but_the_newest": true})).await.0, 204);

    let (_, log) = auditor.get("/v1/audit").await;
    let text = log.to_string();
    for secret in [made["token"].as_str().unwrap(), again["token"].as_str().unwrap(), secret, &ops.token] {
        assert!(!text.contains(secret), "{text}");
    }
    let line = |call: &str| log.as_array().unwrap().iter().find(|line| line["call"] == call).unwrap().clone();
    let made = line("POST /v1/tokens");
    assert_eq!(
        (&made["by"], &made["status"], &made["detail"]["role"]),
        (&json!("ops"), &json!(200), &json!("sidecar"))
    );
    let refused = line("POST /v1/feeds/main/undo");
    assert_eq!((&refused["by"], &refused["status"]), (&json!("book"), &json!(403)));
    assert_eq!(line("POST /v1/tokens/revoke")["detail"]["but_the_newest"], true);
    assert_eq!(line("GET /v1/feeds/main/state")["status"], 400);
    let (_, first) = auditor.get("/v1/audit?limit=1").await;
    let before = first[0]["id"].as_u64().unwrap();
    let (_, rest) = auditor.get(&format!("/v1/audit?before={before}&limit=2")).await;
    assert_eq!(rest.as_array().unwrap().len(), 2);
    assert!(rest[0]["id"].as_u64().unwrap() < before);
    hub.stop().await;
}

#[tokio::test]
async fn a_token_shows_what_stands_against_all_it_names() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let stop = json!({"issuer": "https://jit.example", "what": "client", "name": "agent-a7", "reason": "r"});
    assert_eq!(ops.post("/v1/feeds/main/stops", stop).await.0, 200);
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": "https://jit.example", "aud": "https://orders.mesh", "sub": "alice", "client_id": "agent-a7",
        "jti": "tok-1", "txn": "task-42", "sid": "s", "iat": 1, "exp": 2, "scope": "a"});
    let token = format!("{}.{}.{}", part(json!({"alg": "ES256", "typ": "at+jwt"})), part(claims), "AAAA");
    let url = format!("http://{}/v1/feeds/main/state", hub.server.address());
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let request =
        client.get(url).header("authorization", format!("Bearer {}", ops.token)).header("taskfence-token", token);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let state: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    ops.check("GET", "/v1/feeds/main/state", status, &state);
    assert_eq!((status, &state["restricted"]), (200, &json!(true)), "{state}");
    let entry = &state["entries"][0];
    assert_eq!((&entry["what"], &entry["fact"]), (&json!("client"), &json!("blocked")));
    let named: BTreeSet<_> =
        state["about"].as_array().unwrap().iter().map(|about| about["what"].as_str().unwrap()).collect();
    assert_eq!(named, BTreeSet::from(["client", "issuer", "session", "task", "token", "user"]));
    hub.stop().await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let hub = Running::start().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let stop = json!({"issuer": "https://jit.example", "reason": "r"});
    let (_, taken) = ops.post("/v1/feeds/main/stops", stop).await;
    let token = ops.token.clone();
    let folder = hub.stop().await;
    let hub = Running::start_with(testing::config(folder.path()), folder).await;
    let (status, state) = hub.call("GET", "/v1/feeds/main/state?issuer=https://jit.example", Some(&token), None).await;
    assert_eq!((status, &state["restricted"]), (200, &json!(true)));
    assert_eq!(state["entries"][0]["signal"]["signal"], taken["signal"]);
    hub.stop().await;
}
