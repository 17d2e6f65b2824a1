//! The commands for a hub, with a hub that runs.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use taskfence_hub::config::compile::compile;
use taskfence_hub::server::Server;
use taskfence_hub::store::model::Audit;
use taskfence_hub::store::sqlite::SqliteStore;
use taskfence_hub::store::{CUT_OFF, RESTORED, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;
use crate::tests::snapshot;

fn jwks(kid: &str) -> Value {
    json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
        "x": "acixdce9SgUtZGV5ZvCzzOOwCiLpkjDHKDsNaaDRqQU", "y": "Ww_TjOUAefgX4bIBnB-Ip5EJg8jqXPbsy7w6e8yKpP0"}]})
}

fn issuer() -> Value {
    json!({"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "algorithms": ["ES256"],
        "keys": {"inline": jwks("jit-1")}})
}

fn config(folder: &Path) -> Value {
    let transmitter = json!({"issuer": "https://idp.example", "audience": "https://hub.example", "algorithms": ["ES256"],
        "keys": {"inline": jwks("idp-1")}, "subjects": ["https://jit.example"]});
    json!({
        "data": folder.join("data"), "reserve_mib": 0, "listen": {"address": "127.0.0.1:0"},
        "feeds": [{"name": "main", "issuers": [issuer()], "signals": {"transmitters": [transmitter]}}]
    })
}

/// A hub, its configuration on disk, and an operator's token.
struct Hub {
    runtime: Runtime,
    server: Option<Server>,
    folder: TempDir,
    token: String,
}

impl Hub {
    fn start() -> Hub {
        let folder = tempfile::tempdir().unwrap();
        let json = config(folder.path()).to_string();
        std::fs::write(folder.path().join("hub.yaml"), &json).unwrap();
        let token = token(folder.path(), "ops", "operator");
        let runtime = Runtime::new().unwrap();
        let hub = compile(json.as_bytes()).unwrap();
        let server = runtime.block_on(Server::start(hub, "hash")).unwrap();
        Hub { runtime, server: Some(server), folder, token }
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.as_ref().unwrap().address())
    }

    /// Runs a command for the hub. Its output and its errors, with what differs from run to run taken out.
    fn run(&self, args: &[&str]) -> (Exit, String) {
        let url = self.url();
        let mut all = args.to_vec();
        all.extend(["--hub", &url, "--hub-token", &self.token]);
        let mut capture = Capture::default();
        let exit = capture.run(&all);
        (exit, format!("{}{}", capture.out(), capture.err()).replace(&url, "URL"))
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        let (exit, said) = self.run(&all);
        assert_eq!(exit, Exit::Done, "{said}");
        serde_json::from_str(&said).unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop(Duration::ZERO));
        }
    }
}

fn token(folder: &Path, name: &str, role: &str) -> String {
    let config = folder.join("hub.yaml");
    let mut capture = Capture::default();
    let args = ["hub", "token", "new", "--config", config.to_str().unwrap(), "--name", name, "--role", role];
    assert_eq!(capture.run(&args), Exit::Done, "{}", capture.err());
    assert_eq!(capture.err(), format!("the token of `{name}`, shown this once:\n"));
    capture.out().trim().to_owned()
}

#[test]
fn a_task_is_completed_shown_and_undone() {
    let hub = Hub::start();
    let (exit, said) =
        hub.run(&["signal", "complete", "--task", "task-42", "--reason", "ticket 7", "--jti", "mine", "--wait=1s"]);
    assert_eq!(exit, Exit::Done, "{said}");
    assert!(said.starts_with("taken in: signal 1, jti mine, revision "), "{said}");
    assert!(said.contains("\nin force on 0 of 0 proxies\n"), "{said}");

    let (exit, said) = hub.run(&["state", "--task", "task-42"]);
    assert_eq!(exit, Exit::Done, "{said}");
    let shown: Vec<_> = said.lines().filter(|line| !line.contains("since") && !line.contains("kept")).collect();
    assert_eq!(
        shown,
        [
            "about task task-42, issuer https://jit.example",
            "",
            "task completed",
            "  signal  1, urn:taskfence:secevent:task-completed, jti mine",
            "  by      ops, operator",
            "  reason  ticket 7",
        ]
    );
    let (exit, said) = hub.run(&["undo", "1", "--reason", "wrong task"]);
    assert_eq!(exit, Exit::Done, "{said}");
    let state = hub.json(&["state", "--task", "task-42"]);
    assert_eq!((&state["restricted"], &state["entries"][0]["undone"]), (&json!(false), &json!(true)), "{state}");
    let (_, said) = hub.run(&["state", "--task", "other"]);
    assert_eq!(said, "about task other, issuer https://jit.example\nnothing stands against it\n");
}

#[test]
fn a_stop_is_seen_by_status_and_watch() {
    let hub = Hub::start();
    // The first look at readiness comes a moment after the start.
    std::thread::sleep(Duration::from_millis(1500));
    let (exit, said) = hub.run(&["stop", "--client", "agent-a7", "--reason", "a loop"]);
    assert_eq!(exit, Exit::Done, "{said}");
    let status = hub.run(&["status"]);
    assert_eq!(status.0, Exit::Done, "{}", status.1);
    assert!(status.1.starts_with("URL: ready\n\nFEED  REVISION"), "{}", status.1);
    let (exit, said) = hub.run(&["watch", "--looks", "1", "--output", "json"]);
    assert_eq!((exit, said.as_str()), (Exit::Done, ""), "what was there before is no news");
    let (exit, said) = hub.run(&["stop", "--reason", "r"]);
    assert_eq!(exit, Exit::Usage);
    snapshot::check("hub-stop-nothing", &said);
}

#[test]
fn a_receipt_says_which_proxy_waits_and_by_when_it_closes_itself() {
    let hub = Hub::start();
    let (sidecar, complete) = (token(hub.folder.path(), "mesh", "sidecar"), "signal complete --task");
    let complete = |task: &str, wait: &str| {
        let mut args: Vec<_> = complete.split(' ').collect();
        args.extend([task, wait]);
        hub.run(&args)
    };
    let (_, said) = complete("one", "--wait=0s");
    let revision = said.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    std::thread::sleep(Duration::from_millis(1500));
    let follow = |id: &str, applied: &str, stale: Value| {
        let url = format!("{}/v1/feeds/main?after={applied}&applied={applied}&wait=0&format=1", hub.url());
        let report =
            json!({"id": id, "node": id, "mode": "enforce", "config": "c", "stale_after": stale, "version": "1"});
        let client = reqwest::blocking::Client::builder().tls_certs_only([]).build().unwrap();
        let request = client.get(url).header("taskfence-follower", report.to_string());
        let response = request.header("authorization", format!("Bearer {sidecar}")).send().unwrap();
        assert_eq!(response.status().as_u16(), 200, "{:?}", response.text());
    };
    follow("envoy-one", &revision, json!(90));
    follow("envoy-two", &revision, json!(null));
    let (exit, said) = complete("two", "--wait=1s");
    assert_eq!(exit, Exit::Failed, "{said}");
    assert!(said.contains("in force on 0 of 2 proxies\n"), "{said}");
    assert!(
        said.contains("  not on envoy-one: closes itself by ") || said.contains("has closed itself since"),
        "{said}"
    );
    assert!(said.contains("  not on envoy-two: never closes itself: its `signals.stale` is not set"), "{said}");

    let revision = said.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    follow("envoy-one", &revision, json!(90));
    follow("envoy-two", &revision, json!(null));
    let status = hub.json(&["status"]);
    assert_eq!(status["proxies"].as_array().unwrap().len(), 2, "{status}");
}

#[test]
fn what_goes_wrong_is_said_with_a_remedy() {
    let hub = Hub::start();
    let mut page = String::new();
    let table: [&[&str]; 6] = [
        &["state", "--issuer", "https://jit.exampel", "--task", "t"],
        &["stop", "--issuer", "https://jit.exampel", "--everything", "--reason", "r"],
        &["undo", "99", "--reason", "r"],
        &["undo", "--jti", "none", "--reason", "r"],
        &["signal", "revoke", "--user", "alice"],
        &["signal", "verify", "--stream", "s"],
    ];
    for args in table {
        let (exit, said) = hub.run(args);
        page.push_str(&format!("### taskfence {}\n{said}exit code {}\n\n", args.join(" "), exit.code()));
    }
    let mut capture = Capture::default();
    let wrong: [&[&str]; 3] = [
        &["status", "--hub", "http://127.0.0.1:1", "--hub-token", "x"],
        &["status", "--hub", "http://hub.example", "--hub-token", "x"],
        &["status", "--hub", "hub.example"],
    ];
    for args in wrong {
        let exit = capture.run(args);
        page.push_str(&format!("### taskfence {}\n{}exit code {}\n\n", args.join(" "), capture.err(), exit.code()));
    }
    let url = hub.url();
    let exit = capture.run(&["state", "--hub", &url, "--hub-token", "wrong", "--feed", "main", "--issuer", "x"]);
    page.push_str(&format!("### a wrong token\n{}exit code {}\n", capture.err(), exit.code()));
    snapshot::check("hub-mistakes", &page);
}

#[test]
fn the_host_of_the_hub_keeps_tokens_keys_and_backups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.yaml");
    std::fs::write(&path, config(folder.path()).to_string()).unwrap();
    let config = path.to_str().unwrap();
    let first = token(folder.path(), "ops", "operator");
    let mut capture = Capture::default();
    assert_eq!(capture.run(&["hub", "token", "rotate", "--config", config, "--name", "ops"]), Exit::Done);
    assert_ne!(capture.out().trim(), first);
    assert_eq!(capture.run(&["hub", "token", "list", "--config", config, "--output", "json"]), Exit::Done);
    let listed: Value = serde_json::from_str(capture.out()).unwrap();
    assert_eq!(listed[0]["tokens"].as_array().unwrap().len(), 2);
    assert!(!capture.out().contains(&first));
    assert_eq!(
        capture.run(&["hub", "token", "revoke", "--config", config, "--name", "ops", "--but-the-newest"]),
        Exit::Done
    );
    assert_eq!(capture.run(&["hub", "token", "revoke", "--config", config, "--name", "none"]), Exit::Failed);
    assert_eq!(capture.err(), "error: there is no token named `none`: see the list of tokens\n");

    assert_eq!(capture.run(&["hub", "keys", "--config", config]), Exit::Done);
    let keys: Value = serde_json::from_str(capture.out()).unwrap();
    assert_eq!((&keys["keys"][0]["alg"], keys["keys"][0].get("d")), (&json!("ES256"), None));

    let copy = folder.path().join("copy.sqlite");
    let args = ["hub", "backup", "--config", config, copy.to_str().unwrap()];
    assert_eq!(capture.run(&args), Exit::Done, "{}", capture.err());
    assert!(copy.exists());
    assert_eq!(capture.run(&args), Exit::Failed, "a file is not replaced");
    assert_eq!(capture.run(&["hub", "accept-config", "--config", config]), Exit::Done);
    assert_eq!(capture.run(&["hub", "accept-loss", "--config", config, "--by", "root"]), Exit::Done);
    assert_eq!(capture.out(), "the store was not restored, so nothing is lost\n");
    // All that has changed something is in the audit log, and no secret is.
    let audited = audited(folder.path());
    let calls: Vec<_> = audited.iter().map(|line| (line.call.as_str(), line.detail.as_str())).collect();
    assert_eq!(calls[0], ("hub token new", r#"{"feeds":[],"name":"ops","role":"operator"}"#));
    assert_eq!(calls[1], ("hub token rotate", r#"{"name":"ops"}"#));
    assert_eq!(calls[2], ("hub token revoke", r#"{"but_the_newest":true,"name":"ops"}"#));
    assert_eq!((calls[3].0, calls.len()), ("hub accept-config", 4));
    assert!(audited.iter().all(|line| line.by.starts_with("host") && line.at == Capture::NOW * 1000));
}

/// The audit log, the oldest line first.
fn audited(folder: &Path) -> Vec<Audit> {
    let store = SqliteStore::open(&folder.join("data/hub.sqlite")).unwrap();
    let mut lines: Vec<_> = store.audits(None, 100).unwrap().into_iter().map(|(_, line)| line).collect();
    lines.reverse();
    lines
}

#[test]
fn a_cut_off_is_ordered_in_the_name_of_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.yaml");
    std::fs::write(&path, config(folder.path()).to_string()).unwrap();
    let config = path.to_str().unwrap();
    token(folder.path(), "ops", "operator");
    let store = SqliteStore::open(&folder.path().join("data/hub.sqlite")).unwrap();
    store.set(RESTORED, "1790000000000").unwrap();
    let mut capture = Capture::default();
    let args = ["hub", "accept-loss", "--config", config, "--by", "alice", "--cut-off"];
    assert_eq!(capture.run(&args), Exit::Done, "{}", capture.err());
    assert_eq!(capture.out(), "ordered: the hub cuts off all that began before the restore, and is ready then\n");
    assert_eq!(store.get(CUT_OFF), Ok(Some("alice".to_owned())));
    let line = audited(folder.path()).pop().unwrap();
    assert_eq!((line.by.as_str(), line.call.as_str()), ("alice", "accept-loss"));
    assert_eq!(line.detail, r#"{"complete_until_ms":1790000000000,"cut_off":true}"#);
}

#[test]
fn keys_rotate_while_the_hub_runs() {
    let hub = Hub::start();
    let config = hub.folder.path().join("hub.yaml");
    let sidecar = token(hub.folder.path(), "mesh", "sidecar");
    let keys = |args: &[&str]| {
        let mut capture = Capture::default();
        let exit = capture.run(&[&["hub", "keys"][..], args, &["--config", config.to_str().unwrap()]].concat());
        (exit, capture.out().to_owned(), capture.err().to_owned())
    };
    let kids = || {
        let jwks: Value = serde_json::from_str(&keys(&[]).1).unwrap();
        jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let old = kids()[0].clone();
    let (exit, _, said) = keys(&["switch"]);
    assert_eq!(
        (exit, said.as_str()),
        (Exit::Usage, "error: there is no other key: make one with `taskfence hub keys prepare`\n")
    );
    let (exit, new, said) = keys(&["prepare"]);
    let new = new.trim().to_owned();
    assert_eq!((exit, said.as_str()), (Exit::Done, "made: give it to every filter, then switch to it\n"));
    assert_eq!(kids().len(), 2);
    std::thread::sleep(Duration::from_millis(1500));
    let start = "0000000000000000.0.0000000000000000";
    // The `kid` in the header of the statement of a page.
    let follow = |known: &[&str]| {
        let url = format!("{}/v1/feeds/main?after={start}&applied={start}&wait=0&format=1", hub.url());
        let report = json!({"id": "envoy-one", "node": "envoy-one", "mode": "enforce", "version": "1", "kids": known});
        let client = reqwest::blocking::Client::builder().tls_certs_only([]).build().unwrap();
        let request = client.get(url).header("taskfence-follower", report.to_string());
        let response = request.header("authorization", format!("Bearer {sidecar}")).send().unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let page = response.bytes().unwrap();
        let header = page.split(|byte| *byte == b'.').next().unwrap();
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        header["kid"].as_str().unwrap().to_owned()
    };
    assert_eq!(follow(&[&old]), old, "a prepared key signs nothing");
    let (exit, _, said) = keys(&["switch"]);
    assert_eq!(exit, Exit::Failed);
    assert!(said.contains(&format!("do not know the key `{new}`, `envoy-one` among them")), "{said}");
    assert_eq!(keys(&["retire", &old]).0, Exit::Failed, "it signs");
    let (exit, said, _) = keys(&["switch", "--force"]);
    assert_eq!(exit, Exit::Done);
    assert!(said.starts_with(&format!("`{new}` signs; retire `{old}` ")), "{said}");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(follow(&[&old, &new]), new, "the hub has seen it");
    let (exit, said, _) = keys(&["retire", &old]);
    assert_eq!((exit, said), (Exit::Done, format!("retired: `{old}`; take it out of the filters\n")));
    assert_eq!(kids(), [new]);
    // What the proxy reports now is written within some seconds, and then no force is needed.
    let third = keys(&["prepare"]).1.trim().to_owned();
    follow(&[&third]);
    let begun = std::time::Instant::now();
    while keys(&["switch", &third]).0 != Exit::Done {
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(500));
    }
    let audited = audited(hub.folder.path());
    let lines = audited.iter().filter(|line| line.call.starts_with("hub keys"));
    let lines: Vec<_> = lines.map(|line| (line.call.trim_start_matches("hub keys "), line.detail.as_str())).collect();
    let calls: Vec<_> = lines.iter().map(|(call, _)| *call).collect();
    assert_eq!(calls, ["prepare", "switch", "retire", "prepare", "switch"], "what was refused changed nothing");
    assert!(lines[1].1.contains(r#""force":true,"#) && lines[1].1.contains(r#""not_known_by":1,"#), "{}", lines[1].1);
}

#[test]
fn check_reads_a_hub_and_compares_it_with_a_filter() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, filter) = (folder.path().join("hub.yaml"), folder.path().join("filter.yaml"));
    let mut capture = Capture::default();
    let shown = |text: &str| text.replace(folder.path().to_str().unwrap(), "FOLDER");
    std::fs::write(&hub, config(folder.path()).to_string()).unwrap();
    let mut page = String::new();
    for args in [&["check"][..], &["hub", "check", "--config"]] {
        let exit = capture.run(&[args, &[hub.to_str().unwrap()]].concat());
        page.push_str(&format!("{}{}exit code {}\n", shown(capture.out()), shown(capture.err()), exit.code()));
    }
    assert_eq!(capture.run(&["hub", "keys", "--config", hub.to_str().unwrap()]), Exit::Done);
    let keys: Value = serde_json::from_str(capture.out()).unwrap();
    let good = json!({
        "issuers": [issuer()], "rules": [{"name": "a", "match": {"path": "/a"}, "require": {"scope": "a"}}],
        "signals": {"hub": {"cluster": "hub", "feed": "main", "keys": {"inline": keys}}, "stale": {"after": "90s"}}
    });
    let changes = [
        ("/mode", json!("enforce")),
        ("/issuers/0/issuer", json!("https://other.example")),
        ("/issuers/0/max_session", json!("30d")),
        ("/issuers/0/claims", json!({"task": "job"})),
        ("/signals/hub/feed", json!("other")),
        ("/signals/hub/name", json!("another")),
        ("/signals/hub/keys", json!({"inline": jwks("old")})),
        ("/signals/stale/after", json!("3s")),
    ];
    for (pointer, value) in changes {
        let mut config = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value.clone();
        std::fs::write(&filter, config.to_string()).unwrap();
        let exit = capture.run(&["check", filter.to_str().unwrap(), "--hub", hub.to_str().unwrap()]);
        let kid = keys["keys"][0]["kid"].as_str().unwrap();
        let said = shown(&format!("{}{}", capture.err(), capture.out())).replace(kid, "KID");
        let value = if pointer.ends_with("keys") { "other keys".to_owned() } else { value.to_string() };
        page.push_str(&format!("### {pointer} = {value}\n{said}exit code {}\n\n", exit.code()));
    }
    snapshot::check("hub-check", &page);
}

#[test]
fn check_says_that_a_state_gets_old_between_two_verifications() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, filter) = (folder.path().join("hub.yaml"), folder.path().join("filter.json"));
    let mut of_hub = config(folder.path());
    of_hub["feeds"][0]["signals"]["transmitters"][0]["ssf"] =
        json!({"url": "https://idp.example", "credentials": {"token_file": "/token"}, "verify": "30s"});
    for (after, heartbeat, is_good) in [("30s", true, false), ("31s", true, true), ("30s", false, true)] {
        of_hub["feeds"][0]["signals"]["transmitters"][0]["heartbeat"] = json!(heartbeat);
        std::fs::write(&hub, of_hub.to_string()).unwrap();
        let rules = json!([{"name": "a", "match": {"path": "/a"}, "require": {"scope": "a"}}]);
        let signals = json!({"hub": {"cluster": "hub", "feed": "main", "keys": {"inline": jwks("h1")}},
            "stale": {"after": after}});
        let text = json!({"issuers": [issuer()], "rules": rules, "signals": signals}).to_string();
        std::fs::write(&filter, text).unwrap();
        let mut capture = Capture::default();
        let exit = capture.run(&["check", filter.to_str().unwrap(), "--hub", hub.to_str().unwrap()]);
        let said = capture.err();
        assert_eq!(exit, if is_good { Exit::Done } else { Exit::BadConfig }, "{after} {heartbeat}: {said}");
        assert_eq!(
            said.contains("not longer than `verify` of `https://idp.example` at the hub: 30s"),
            !is_good,
            "{said}"
        );
    }
}

#[test]
fn check_compares_each_filter_in_a_file_of_envoy_with_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, file) = (folder.path().join("hub.yaml"), folder.path().join("envoy.json"));
    std::fs::write(&hub, config(folder.path()).to_string()).unwrap();
    let rules = json!([{"name": "a", "match": {"path": "/a"}, "require": {"scope": "a"}}]);
    let filter = |signals: Value, issuer: &Value| {
        let text = json!({"issuers": [issuer], "rules": rules, "signals": signals}).to_string();
        json!({"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}})
    };
    let follows =
        json!({"hub": {"cluster": "hub", "feed": "main", "keys": {"inline": jwks("h1")}}, "stale": {"after": "90s"}});
    let other = json!({"issuer": "https://other.example", "audiences": ["https://orders.mesh"], "algorithms": ["ES256"],
        "keys": {"inline": jwks("jit-1")}});
    let check = |plugins: Value, output: &str| {
        let clusters = json!([{"name": "hub"}]);
        let envoy = json!({"static_resources": {"clusters": clusters, "extra": plugins}});
        std::fs::write(&file, envoy.to_string()).unwrap();
        let mut capture = Capture::default();
        let args = ["check", file.to_str().unwrap(), "--hub", hub.to_str().unwrap(), "--output", output];
        (capture.run(&args), format!("{}{}", capture.out(), capture.err()))
    };
    let (exit, said) = check(json!([filter(follows.clone(), &issuer())]), "human");
    assert_eq!(exit, Exit::Done, "{said}");
    let plugins = json!([filter(follows.clone(), &issuer()), filter(json!(null), &other), filter(follows, &other)]);
    let (exit, said) = check(plugins.clone(), "human");
    assert_eq!(exit, Exit::BadConfig);
    let problem = "error: static_resources.extra[2].configuration.value: issuers[0]: the feed `main` does not cover \
        `https://other.example`\n  help: add it to `issuers` of the feed\n";
    assert!(said.contains(problem), "{said}");
    assert_eq!(said.matches("does not cover").count(), 1, "{said}");
    let (exit, said) = check(plugins, "json");
    let report: Value = serde_json::from_str(&said).unwrap();
    let good: Vec<_> = report["configurations"].as_array().unwrap().iter().map(|one| &one["report"]["ok"]).collect();
    assert_eq!((exit, good), (Exit::BadConfig, vec![&json!(true), &json!(true), &json!(false)]), "{report}");
    let (exit, said) = check(json!([filter(json!(null), &issuer())]), "human");
    assert_eq!(exit, Exit::BadConfig);
    assert!(said.contains("no filter in this file follows a hub"), "{said}");
    let mut capture = Capture::default();
    let hub = hub.to_str().unwrap();
    assert_eq!(capture.run(&["check", hub, "--hub", hub]), Exit::Usage);
    assert!(capture.err().contains("is the configuration of a hub, and --hub compares a filter with one"));
}
