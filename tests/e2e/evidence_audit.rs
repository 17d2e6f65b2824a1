//! Three stories that were worked out by hand, told to a real hub, and every figure that the command line gives of them:
//! a refund agent with exact details, a nightly job with a broad scope, and a token that two workloads share and one of
//! them uses after its task has ended.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use taskfence_tests::{
    client::Request,
    hub::{FEED, Hub, SOON},
    orders,
};
use tokio::time;

const CONFIG: &str = "00112233445566aa";
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// An identifier that a terminal cannot show: a letter with a combining accent.
const ODD: &str = "e\u{301}7";

struct Audit {
    hub: Hub,
    /// In milliseconds, at a full second.
    now: u64,
}

fn outline() -> Value {
    let order = |name: &str, method: &str, path: &str, action: &str| {
        json!({"name": name, "effect": "require", "methods": [method], "path": path, "captures": ["order"],
            "scopes": ["orders"], "detail": {"type": "order", "action": action, "identifier": "{order}"}})
    };
    json!({"config": CONFIG, "rules": [
        order("read", "GET", "/orders/{order}", "read"),
        order("refund", "POST", "/orders/{order}/refund", "refund"),
        {"name": "deploy", "effect": "require", "methods": ["PUT"], "path": "/services/{service}", "captures": ["service"],
            "scopes": ["deploy"]},
        {"name": "logs", "effect": "require", "methods": ["GET"], "path": "/logs", "scopes": ["logs.read"]},
        {"name": "health", "effect": "anonymous", "path": "/healthz"}]})
}

/// A grant as a proxy tells of it; the times are in milliseconds.
fn grant(
    token: &str,
    (subject, client): (&str, &str),
    (from, to): (u64, u64),
    scopes: &[&str],
    details: Value,
) -> Value {
    json!({"issuer": orders::ISSUER, "token": token, "fingerprint": "00112233445566778899aabbccddeeff", "subject": subject,
        "client": client, "task": format!("task-{token}"), "scopes": scopes, "details": details,
        "issued_at": from / 1000, "expires_at": to / 1000})
}

fn order(actions: &[&str], identifier: &str) -> Value {
    json!({"type": "order", "actions": actions, "identifier": identifier})
}

fn used(rule: u64, method: &str, captures: &[&str], count: u64, (first, last): (u64, u64)) -> Value {
    json!({"rule": rule, "method": method, "captures": captures, "count": count, "first": first, "last": last})
}

impl Audit {
    async fn start(name: &str) -> Audit {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1000;
        let audit = Audit { hub: Hub::start(name).await.unwrap(), now };
        audit.tell().await;
        audit
    }

    fn ago(&self, ago: u64) -> u64 {
        self.now - ago
    }

    /// Sends a batch for each of `grants`: the node, when it was cut, and the grant.
    async fn send(&self, grants: Vec<(&str, u64, Value)>) {
        for (number, (node, until, grant)) in grants.into_iter().enumerate() {
            let rules: Vec<Value> = ["read", "refund", "deploy", "logs"]
                .iter()
                .map(|name| json!({"config": CONFIG, "name": name}))
                .collect();
            let batch = json!({"vm": "00000000000000a1", "number": number + 1, "since": until - HOUR, "until": until,
                "rules": rules, "grants": [grant]});
            let post = json!({"format": 1, "proxy": format!("follower-{node}"), "node": node, "batches": [batch],
                "configs": [outline()]});
            let path = format!("/v1/feeds/{FEED}/uses");
            let request =
                Request::new("POST", &path).bearer(self.hub.sidecar()).header("content-type", "application/json");
            let answer = self.hub.send(&request.body(post.to_string())).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.json());
            assert_eq!(answer.json()["taken"].as_array().map(Vec::len), Some(1), "{}", answer.json());
        }
    }

    /// The stories.
    async fn tell(&self) {
        let mut told = Vec::new();
        // The refund agent. `exact` reads and refunds one order and ends; `half` may do so with two, and reads one of them.
        let agent = ("alice", "refund-agent");
        let issued = self.ago(5 * MINUTE);
        let exact =
            grant("exact", agent, (issued, issued + 600_000), &["orders"], json!([order(&["read", "refund"], "1881")]));
        let uses = json!({"grant": exact, "permitted": [
            used(0, "GET", &["1881"], 2, (issued + 10_000, issued + 20_000)),
            used(1, "POST", &["1881"], 1, (issued + 30_000, issued + 30_000))]});
        told.push(("envoy-1", self.ago(MINUTE), uses));
        let both = json!([order(&["read", "refund"], ODD), order(&["read", "refund"], "1883")]);
        let half = grant("half", agent, (issued, issued + 600_000), &["orders"], both);
        let uses = json!({"grant": half, "permitted": [used(0, "GET", &[ODD], 1, (issued + 5_000, issued + 5_000))]});
        told.push(("envoy-1", self.ago(MINUTE), uses));
        // The nightly job, four nights: it may deploy anything, and reads logs.
        for night in 1..=4 {
            let at = self.ago(night * DAY);
            let job = grant(
                &format!("night-{night}"),
                ("ci", "nightly"),
                (at, at + HOUR),
                &["deploy", "logs.read"],
                json!([]),
            );
            let uses = json!({"grant": job, "permitted": [used(3, "GET", &[], 1, (at + MINUTE, at + MINUTE))]});
            told.push(("envoy-1", at + 2 * MINUTE, uses));
        }
        // The shared token: issued three hours ago, ended 50 minutes ago, used half a minute later by another workload at
        // another proxy, and then refused three times.
        let (issued, end) = (self.ago(3 * HOUR), self.ago(50 * MINUTE));
        let shared = || {
            grant("shared", ("bob", "worker"), (issued, issued + 4 * HOUR), &["orders"], json!([order(&["read"], "7")]))
        };
        let seen = |peer: &str, at: u64| json!([{"kind": "peer", "value": peer, "count": 1, "first": at, "last": at}]);
        let before = (end - 10 * MINUTE, end - 5 * MINUTE);
        let uses = json!({"grant": shared(), "permitted": [used(0, "GET", &["7"], 2, before)],
            "seen": seen("spiffe://mesh/worker", before.0)});
        told.push(("envoy-1", end - MINUTE, uses));
        let after = end + 30_000;
        let attempts =
            json!({"rule": 0, "reason": "task_completed", "count": 3, "first": end + 40_000, "last": end + 50_000});
        let uses = json!({"grant": shared(), "permitted": [used(0, "GET", &["7"], 1, (after, after))],
            "refused": [attempts], "seen": seen("spiffe://mesh/notebook", after)});
        told.push(("envoy-2", end + MINUTE, uses));
        self.send(told).await;
        let event = |id: &str, kind: &str, at: u64, task: &str, more: Value| {
            let mut event =
                json!({"id": id, "kind": kind, "at": at, "feed": FEED, "issuer": orders::ISSUER, "task": task});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let events = json!([
            event("1", "requested", self.ago(6 * MINUTE), "task-exact", json!({"task_kind": "refund"})),
            event("2", "ended", self.ago(2 * MINUTE), "task-exact", json!({})),
            event("3", "requested", self.ago(6 * MINUTE), "task-half", json!({"task_kind": "refund"})),
            event("4", "ended", end, "task-shared", json!({})),
        ]);
        let answer = self.hub.call("POST", "/v1/events", Some(&events)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json());
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.hub.command(&[arguments, &["--output", "json"]].concat()).unwrap();
        serde_json::from_str(&said).unwrap()
    }
}

fn of<'r>(report: &'r Value, token: &str) -> &'r Value {
    report["grants"].as_array().unwrap().iter().find(|grant| grant["token"] == token).unwrap()
}

#[tokio::test]
async fn every_figure_is_the_one_that_was_worked_out_by_hand() {
    let audit = Audit::start("evidence-audit").await;
    let report = audit.json(&["report", "--since", "8d"]);
    // Bounded: 2 of 2, 1 of 4, 1 of 1. Ends: `exact`, four expired nights, `shared` 30 s too late.
    let total = json!({"name": "", "grants": 7, "unused": 0, "permitted": 11, "refused": 3, "break_glass": 0,
        "unbounded": 4, "unknown": 0, "used_share": 1.0, "allowed_cells": 7, "used_cells": 4, "repeated": 4,
        "with_residual": 1, "residual_median": 0.0, "residual_longest": 30.0, "attempts_after_end": 3, "shared": 1,
        "lifetime_median": 3600.0, "in_use_median": 0.0});
    assert_eq!(report["total"], total, "{report:#}");
    let width = |token: &str| {
        let width = &of(&report, token)["width"];
        (width["allowed_cells"].as_u64(), width["used_cells"].as_u64().unwrap(), width.get("unknown").is_some())
    };
    assert_eq!(
        ["exact", "half", "night-1", "shared"].map(width),
        [(Some(2), 2, false), (Some(4), 1, false), (None, 1, false), (Some(1), 1, false)]
    );
    let night = &of(&report, "night-2")["width"];
    assert_eq!((&night["unused_scopes"], &night["narrower_scopes"]), (&json!(["deploy"]), &json!(["logs.read"])));
    let repeat = json!({"subject": "ci", "client": "nightly", "kind": "deploy logs.read", "shape": "deploy logs.read",
        "grants": 4, "every": 86_400.0, "irregularity": 0.0, "routine": true, "broad": true});
    assert_eq!(report["repeats"][0], repeat, "{:#}", report["repeats"]);
    let shared = of(&report, "shared");
    assert_eq!(report["grants"][0]["token"], "shared", "what was used after its end comes first");
    assert_eq!(
        shared["residual"],
        json!({"ended_at": audit.ago(50 * MINUTE), "ended_by": "ended", "seconds": 30.0,
        "permitted_after": 1, "attempts_after": 3, "streams_ended": 0})
    );
    assert_eq!(shared["sharing"]["peers"], json!(["spiffe://mesh/notebook", "spiffe://mesh/worker"]));
    assert_eq!((&shared["first"], &shared["last"]), (&json!(audit.ago(HOUR)), &json!(audit.ago(50 * MINUTE) + 30_000)));
    assert_eq!(of(&report, "exact")["residual"]["seconds"], 0.0);
    assert_eq!(of(&report, "half")["residual"], Value::Null, "it has not ended");
    assert_eq!(of(&report, "exact")["kind"], "refund");

    // Rollups add up to the total.
    for by in ["by_kind", "by_client", "by_subject"] {
        for name in [
            "grants",
            "unused",
            "permitted",
            "refused",
            "unbounded",
            "unknown",
            "allowed_cells",
            "used_cells",
            "repeated",
            "with_residual",
            "attempts_after_end",
            "shared",
            "break_glass",
        ] {
            let rows = report[by].as_array().unwrap();
            let sum: u64 = rows.iter().map(|row| row[name].as_u64().unwrap()).sum();
            assert_eq!(sum, report["total"][name].as_u64().unwrap(), "{by} {name}");
        }
    }

    // A window takes in what was used in it, however long ago it was issued.
    let tokens = |arguments: &[&str]| {
        let report = audit.json(arguments);
        let mut tokens: Vec<_> =
            report["grants"].as_array().unwrap().iter().map(|one| one["token"].as_str().unwrap().to_owned()).collect();
        tokens.sort();
        (tokens, report["total"]["permitted"].as_u64().unwrap())
    };
    assert_eq!(tokens(&["report", "--since", "2h"]), (vec!["exact".into(), "half".into(), "shared".into()], 7));
    assert_eq!(tokens(&["report", "--since", "7d", "--until", "5d"]), (vec![], 0));

    // The same in the order of time.
    let timeline = audit.json(&["timeline", "--task", "task-shared", "--since", "1d"]);
    let moments: Vec<_> = timeline["moments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["at"].as_u64().unwrap(), one["what"].as_str().unwrap(), one["count"].as_u64()))
        .collect();
    let end = audit.ago(50 * MINUTE);
    assert_eq!(timeline["grants"][0]["issued_at"], shared["issued_at"], "one unit everywhere");
    assert_eq!(timeline["grants"][0]["expires_at"], shared["expires_at"]);
    for expected in [
        (end - 10 * MINUTE, "first_use", Some(3)),
        (end, "ended", None),
        (end + 30_000, "last_use", Some(3)),
        (end + 40_000, "attempt_after_end", Some(3)),
    ] {
        assert!(moments.contains(&expected), "{expected:?} is not in {timeline:#}");
    }
}

#[tokio::test]
async fn page_and_lines_agree_with_json() {
    let audit = Audit::start("evidence-agree").await;
    let report = audit.json(&["report", "--since", "8d"]);
    for (by, member) in [("kind", "by_kind"), ("client", "by_client"), ("subject", "by_subject")] {
        let csv = audit.hub.command(&["report", "--since", "8d", "--by", by, "--output", "csv"]).unwrap();
        let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let rows: Vec<_> = lines.collect();
        assert_eq!(rows.len(), report[member].as_array().unwrap().len());
        for (row, sum) in rows.iter().zip(report[member].as_array().unwrap()) {
            assert_eq!(sum["name"], row[0]);
            for (name, cell) in head.iter().zip(row).skip(1) {
                let expected = &sum[*name];
                let found = cell.parse::<f64>().ok();
                assert_eq!(found, expected.as_f64(), "{by} {name} of {}", row[0]);
            }
        }
    }
    let file = audit.hub.folder().join("audit.html");
    audit.hub.command(&["report", "--since", "8d", "--output", "html", "--out", file.to_str().unwrap()]).unwrap();
    let page = std::fs::read_to_string(&file).unwrap();
    for sum in report["by_client"].as_array().unwrap() {
        let name = format!("<bdi>{}</bdi></th>", sum["name"].as_str().unwrap());
        let rows = page.split(&name).skip(1).map(|rest| rest.split("</tr>").next().unwrap());
        let cells = |row: &str| {
            row.split("<td")
                .skip(1)
                .map(|cell| cell.split_once('>').unwrap().1.split('<').next().unwrap().to_owned())
                .take(7)
                .collect::<Vec<_>>()
        };
        let expected: Vec<_> = ["grants", "unused", "permitted", "refused", "break_glass", "unbounded", "unknown"]
            .iter()
            .map(|name| sum[*name].to_string())
            .collect();
        let found: Vec<_> = rows.map(cells).collect();
        assert!(found.contains(&expected), "{expected:?} of {name} is not in {found:?}");
    }
}

#[tokio::test]
async fn what_is_proposed_can_be_pasted() {
    let audit = Audit::start("evidence-paste").await;
    let said = audit.hub.command(&["report", "--since", "8d"]).unwrap();
    let of_half = said.split("\n  half of alice\n").nth(1).unwrap();
    let line = |name: &str| of_half.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap().to_owned();
    assert_eq!(line("scope: "), "orders");
    let details: Value = serde_json::from_str(&line("authorization_details: ")).unwrap();
    assert_eq!(details, json!([order(&["read"], ODD)]));
    let rule: Value = serde_json::from_str(&line("rule: ")).unwrap();
    let csv = audit.hub.command(&["report", "--since", "8d", "--output", "csv"]).unwrap();
    let row = csv.lines().find(|line| line.contains(",half,")).unwrap().replace("\"\"", "\"");
    let cell = row.split("\"[").find(|cell| cell.contains("authorization") || cell.starts_with("{\"actions")).unwrap();
    let cell = format!("[{}", cell.split("]\"").next().unwrap()) + "]";
    assert_eq!(serde_json::from_str::<Value>(&cell).unwrap(), details, "{row}");
    // The rule, and the one of the nightly job, in a configuration.
    let report = audit.json(&["report", "--since", "8d"]);
    let nightly = of(&report, "night-3")["width"]["narrower_rules"][0].clone();
    assert_eq!(nightly["match"], json!({"methods": ["GET"], "path": "/logs"}));
    let config = audit.hub.folder().join("pasted.yaml");
    std::fs::write(&config, orders::config_of(json!([rule, nightly])).to_string()).unwrap();
    let (code, said) = audit.hub.try_command(&["check", config.to_str().unwrap()]).unwrap();
    assert_eq!(code, 0, "{said}");
}

/// The lines of all `console` blocks of the page, with those that go on put together.
fn commands_of_the_page() -> Vec<String> {
    let page = include_str!("../../docs/evidence.md");
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let joined = blocks.map(|block| block.replace("\\\n", " ")).collect::<Vec<_>>().join("\n");
    joined.split("\ncurl ").flat_map(|text| text.split("\ntaskfence ")).map(|text| text.trim().to_owned()).collect()
}

#[tokio::test]
async fn the_commands_of_the_page_do_what_it_says() {
    let audit = Audit::start("evidence-commands").await;
    let issuer = audit.hub.new_token(orders::ISSUER, "issuer").unwrap();
    let commands = commands_of_the_page();
    let post = commands.iter().find(|text| text.contains("--data '")).unwrap();
    let body = post.split("--data '").nth(1).unwrap().split('\'').next().unwrap();
    let request = Request::new("POST", "/v1/events").bearer(&issuer).header("content-type", "application/json");
    let request = request.body(body.to_owned());
    let begun = Instant::now();
    let mut answer = audit.hub.send(&request).await.unwrap();
    // The hub looks at its tokens from time to time.
    while answer.status == 401 && begun.elapsed() < SOON {
        time::sleep(Duration::from_millis(200)).await;
        answer = audit.hub.send(&request).await.unwrap();
    }
    assert_eq!(answer.status, 200, "{}", answer.json());
    let mut ran = 0;
    for command in commands.iter().filter(|text| !text.contains("--data '")) {
        let command = command.split('>').next().unwrap().trim().trim_start_matches("taskfence ");
        let folder = |word: &str| match word {
            file if file.starts_with("report.html") || file.starts_with("grants.csv") => {
                audit.hub.folder().join(file).display().to_string()
            }
            word => word.to_owned(),
        };
        let words: Vec<String> = command.split_whitespace().map(folder).collect();
        audit.hub.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        ran += 1;
    }
    assert_eq!(ran, 7, "{commands:?}");
    // The task of the page, in its own time.
    let said = audit
        .hub
        .command(&[
            "timeline",
            "--task",
            "task-42",
            "--since",
            "2026-09-21T00:00:00Z",
            "--until",
            "2026-09-22T00:00:00Z",
        ])
        .unwrap();
    for word in ["requested", "approved", "issued", "bob"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
    let alive = audit.json(&["report", "--alive-between", "2026-09-21T14:00:00Z", "2026-09-21T16:00:00Z"]);
    assert_eq!(alive["grants"][0]["token"], "t-1", "{alive:#}");
    assert_eq!(alive["grants"][0]["to"], 1_790_000_360_000_u64, "{alive:#}");
}
