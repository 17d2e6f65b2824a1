//! Evidence from end to end without a proxy: what an issuer and two proxies send to a real hub, read back by the real
//! command line.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use taskfence_tests::{
    client::Request,
    hub::{FEED, Hub, SOON},
    mint::{complete_task, unique},
    orders,
    refusal::assert_signal_accepted,
};
use tokio::time;

/// The hash of a configuration.
const CONFIG: &str = "0011223344556677";

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Sends what a worker of a proxy has counted.
async fn send_uses(hub: &Hub, node: &str, batch: Value) {
    let outline = json!({"config": CONFIG, "rules": [{"name": "refund", "effect": "require", "methods": ["POST", "GET"],
        "path": "/refunds/{order}", "captures": ["order"], "scopes": ["refund"],
        "detail": {"type": "order", "action": "refund", "identifier": "{order}"}}]});
    let post = json!({"format": 1, "proxy": format!("follower-{node}"), "node": node, "batches": [batch],
        "configs": [outline]});
    let path = format!("/v1/feeds/{FEED}/uses");
    let request = Request::new("POST", &path).bearer(hub.sidecar()).header("content-type", "application/json");
    let answer = hub.send(&request.body(post.to_string())).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.json()["taken"].as_array().map(Vec::len), Some(1), "{}", answer.json());
}

/// What the story is about.
struct Story {
    task: String,
    token: String,
    /// When it begins, in milliseconds since 1970: five minutes ago.
    start: u64,
}

impl Story {
    fn new() -> Story {
        Story { task: unique("task"), token: unique("token"), start: now() - 300_000 }
    }

    fn at(&self, after: u64) -> u64 {
        self.start + after
    }

    fn grant(&self) -> Value {
        json!({"issuer": orders::ISSUER, "token": self.token, "fingerprint": "00112233445566778899aabbccddeeff",
            "subject": "alice", "client": "agent-a7", "task": self.task, "scopes": ["refund", "orders.write"],
            "details": [{"type": "order", "actions": ["refund"], "identifier": "1881"},
                {"type": "order", "actions": ["refund"], "identifier": "1882"}],
            "issued_at": self.at(60_000) / 1000, "expires_at": self.at(900_000) / 1000})
    }

    /// The issuer tells of the request, the approval and the token; two proxies permit five requests; the task ends; one
    /// proxy ends a stream and refuses three more attempts.
    async fn happen(&self, hub: &Hub) {
        let event = |id: &str, kind: &str, after: u64, more: Value| {
            let mut event = json!({"id": format!("{}-{id}", self.task), "kind": kind, "at": self.at(after), "feed": FEED,
                "issuer": orders::ISSUER, "task": self.task});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let about = json!({"subject": "alice", "client": "agent-a7", "task_kind": "refund", "reason": "ticket 7"});
        let events = json!([
            event("a", "requested", 0, about),
            event("b", "approved", 50_000, json!({"by": "bob"})),
            event("c", "issued", 60_000, json!({"token": self.token, "task_kind": "refund"})),
            event("d", "ended", 120_000, json!({"by": "jit"})),
        ]);
        let answer = hub.call("POST", "/v1/events", Some(&events)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.json());
        let rules = json!([{"config": CONFIG, "name": "refund"}]);
        let permitted = |method: &str, count: u64, first: u64, last: u64| {
            json!({"rule": 0, "method": method, "captures": ["1881"], "count": count, "first": self.at(first),
                "last": self.at(last)})
        };
        let uses = json!([{"grant": self.grant(), "permitted": [permitted("POST", 2, 70_000, 100_000)]}]);
        let (since, until) = (self.at(70_000), self.at(101_000));
        let batch = json!({"vm": "00000000000000a1", "number": 1, "since": since, "until": until, "rules": rules, "grants": uses});
        send_uses(hub, "envoy-1", batch).await;
        let refused = |count: u64, first: u64, last: u64, ended: bool| {
            json!({"rule": 0, "reason": "task_completed", "count": count, "ended": ended, "first": self.at(first),
                "last": self.at(last)})
        };
        let uses = json!([{"grant": self.grant(),
            "permitted": [permitted("POST", 2, 80_000, 110_000), permitted("GET", 1, 75_000, 75_000)],
            "refused": [refused(3, 121_000, 125_000, false), refused(1, 120_003, 120_003, true)]}]);
        let record = |decision: &str, after: u64, verdict: &str, more: Value| {
            let mut record = json!({"schema": "taskfence.decision/1", "decision": decision, "time_ms": self.at(after),
                "verdict": verdict, "reason": "task_completed", "rule": "refund", "method": "POST", "path": "/refunds/1881",
                "issuer": orders::ISSUER, "token": self.token, "task": self.task, "source": "10.0.0.7"});
            record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            record
        };
        let stream = json!({"ended": {"delay_ms": 3, "lasted_ms": 45_200}});
        let records = json!([record("d-1", 120_003, "ended", stream), record("d-2", 121_000, "denied", json!({}))]);
        let (since, until) = (self.at(75_000), self.at(126_000));
        let batch = json!({"vm": "00000000000000b2", "number": 1, "since": since, "until": until, "rules": rules,
            "grants": uses, "records": records});
        send_uses(hub, "envoy-2", batch).await;
    }
}

fn json_of(hub: &Hub, arguments: &[&str]) -> Value {
    let said = hub.command(&[arguments, &["--output", "json"]].concat()).unwrap();
    serde_json::from_str(&said).unwrap()
}

#[tokio::test]
async fn a_story_is_told_from_the_request_to_the_attempts_after_its_end() {
    let hub = Hub::start("evidence-story").await.unwrap();
    let story = Story::new();
    story.happen(&hub).await;
    let timeline = json_of(&hub, &["timeline", "--task", &story.task, "--since", "1h"]);
    let told: Vec<_> = timeline["moments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|moment| {
            let after = moment["at"].as_u64().unwrap() - story.start;
            (after, moment["what"].as_str().unwrap(), moment["count"].as_u64())
        })
        .collect();
    let expected = [
        (0, "requested", None),
        (50_000, "approved", None),
        (60_000, "issued", None),
        (70_000, "first_use", Some(4)),
        (75_000, "first_use", Some(1)),
        (110_000, "last_use", Some(4)),
        (120_000, "ended", None),
        (120_003, "stream_ended", None),
        (121_000, "attempt_after_end", None),
        (121_000, "attempt_after_end", Some(2)),
    ];
    let mut sorted = told.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "{timeline:#}");
    assert!(told.is_sorted_by_key(|(after, ..)| *after));
    // A person reads the same, by each of the names.
    for name in [["--subject", "alice"], ["--client", "agent-a7"], ["--token", &story.token]] {
        let said = hub.command(&[&["timeline"][..], &name, &["--since", "1h"]].concat()).unwrap();
        for part in
            ["first POST by the rule `refund`, 4 times", "3 ms after the signal", "attempt after end", "envoy-2"]
        {
            assert!(said.contains(part), "{name:?}: no `{part}` in\n{said}");
        }
    }
    let (_, said) = hub.try_command(&["timeline", "--task", "another"]).unwrap();
    assert!(said.contains("nothing is known about it in this time"), "{said}");
}

#[tokio::test]
async fn a_signal_that_ends_a_task_is_a_part_of_its_story() {
    let hub = Hub::start("evidence-signal").await.unwrap();
    let story = Story::new();
    story.happen(&hub).await;
    assert_signal_accepted(&hub.push(&complete_task(&story.task)).await.unwrap());
    let begun = Instant::now();
    loop {
        let said = hub.command(&["timeline", "--task", &story.task]).unwrap();
        if said.contains("ended by a signal, task-completed") {
            break;
        }
        assert!(begun.elapsed() < SOON, "{said}");
        time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn reports_and_exports_are_read_back() {
    let hub = Hub::start("evidence-report").await.unwrap();
    let story = Story::new();
    story.happen(&hub).await;
    let report = json_of(&hub, &["report", "--since", "2h"]);
    let total = &report["total"];
    assert_eq!((&total["grants"], &total["permitted"]), (&json!(1), &json!(5)), "{report:#}");
    assert_eq!(report["by_kind"][0]["name"], "refund", "{report:#}");
    assert_eq!(report["grants"][0]["issued_at"], story.at(60_000) / 1000 * 1000, "{report:#}");
    let said = hub.command(&["report", "--since", "2h", "--by", "client"]).unwrap();
    assert!(said.contains("CLIENT") && said.contains("agent-a7") && said.contains("narrower grants"), "{said}");
    let csv = hub.command(&["report", "--since", "2h", "--by", "subject", "--output", "csv"]).unwrap();
    assert!(csv.lines().nth(1).is_some_and(|line| line.starts_with("alice,1,")), "{csv}");
    let page = hub.folder().join("report.html");
    let file = page.to_str().unwrap();
    hub.command(&["report", "--since", "2h", "--output", "html", "--out", file]).unwrap();
    assert!(std::fs::read_to_string(&page).unwrap().contains("agent-a7"));
    let roles = hub.folder().join("roles.yaml");
    std::fs::write(&roles, "roles: [{name: refunder, subjects: [alice], scopes: [refund]}]").unwrap();
    let said = hub.command(&["report", "--since", "2h", "--compare", roles.to_str().unwrap()]).unwrap();
    assert!(said.contains("the permanent path beside the grants") && said.contains("refunder"), "{said}");

    // It could be used for a minute, which lies between two looks.
    let alive = |from: u64, to: u64| {
        let times = [from, to].map(|after| (story.at(after) / 1000).to_string());
        json_of(&hub, &["report", "--alive-between", &times[0], &times[1]])["grants"].as_array().unwrap().len()
    };
    assert_eq!((alive(0, 30_000), alive(62_000, 90_000), alive(200_000, 260_000)), (0, 1, 0));

    let exported = hub.command(&["export", "--since", "1h", "--format", "ocsf"]).unwrap();
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{exported}");
    assert_eq!(lines[0]["metadata"]["uid"], "d-1");
    assert_eq!((&lines[1]["action"], &lines[1]["src_endpoint"]["ip"]), (&json!("Denied"), &json!("10.0.0.7")));
    let first = hub.command(&["export", "--since", "1h", "--limit", "1"]).unwrap();
    let position = serde_json::from_str::<Value>(&first).unwrap()["position"].to_string();
    let rest = hub.command(&["export", "--since", "1h", "--after", &position]).unwrap();
    let rest: Vec<Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["record"]["decision"], "d-2");
}

#[tokio::test]
async fn mistakes_are_said() {
    let hub = Hub::start("evidence-mistakes").await.unwrap();
    for (arguments, code, expected) in [
        (&["timeline"][..], 64, "required arguments"),
        (&["timeline", "--task", "a", "--client", "b"], 64, "cannot be used with"),
        (&["timeline", "--task", "a", "--feed", "nowhere"], 1, "there is no feed `nowhere`"),
        (&["export", "--format", "xml"], 64, "possible values: json, ocsf, ecs, otel"),
        (&["report", "--compare", "/nonexistent"], 1, "cannot read `/nonexistent`"),
    ] {
        let (exit, said) = hub.try_command(arguments).unwrap();
        assert_eq!(exit, code, "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
