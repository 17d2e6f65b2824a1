//! What the store of evidence is asked: the timeline, and single decisions.

use super::*;

/// A grant with uses, a refusal and its record, as a proxy sends them, at `now`.
fn post(now: u64) -> Value {
    let grant = json!({"issuer": "https://jit.example", "token": "t-1", "fingerprint": "00ff", "subject": "alice",
        "client": "agent-a7", "task": "task-42", "session": "s-1", "scopes": ["refund"],
        "issued_at": now / 1000 - 60, "expires_at": now / 1000 + 300});
    let record = |after: u64| {
        json!({"schema": "taskfence.decision/1", "decision": format!("d-{after}"), "time_ms": now - 1000 + after,
            "verdict": "denied", "reason": "detail_insufficient", "rule": "refund", "method": "POST", "path": "/r/1",
            "issuer": "https://jit.example", "token": "t-1"})
    };
    let batch = json!({
        "vm": "00112233445566aa", "number": 1, "since": now - 5000, "until": now - 500,
        "rules": [{"config": "0011223344556677", "name": "refund"}],
        "grants": [{
            "grant": grant,
            "permitted": [{"rule": 0, "method": "POST", "count": 3, "first": now - 5000, "last": now - 2000}],
            "refused": [{"rule": 0, "reason": "detail_insufficient", "count": 3, "first": now - 1000, "last": now - 998}]
        }],
        "records": [record(0), record(1), record(2)]
    });
    json!({"format": 1, "proxy": "follower-1", "node": "envoy-1", "batches": [batch]})
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

async fn with_evidence() -> Running {
    let hub = Running::start().await;
    let sidecar = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let (status, taken) = hub.call("POST", "/v1/feeds/main/uses", Some(&sidecar), Some(post(now()))).await;
    assert_eq!((status, taken["taken"].as_array().map(Vec::len)), (200, Some(1)), "{taken}");
    hub
}

#[tokio::test]
async fn a_timeline_is_told_to_those_who_may_read() {
    let hub = with_evidence().await;
    let auditor = Caller::new(&hub, "book", Role::Auditor, &["main"]).await;
    for query in ["task=task-42", "session=s-1", "subject=alice", "client=agent-a7", "token=t-1", "token=00ff"] {
        let (status, timeline) = auditor.get(&format!("/v1/feeds/main/timeline?{query}")).await;
        assert_eq!((status, timeline["grants"].as_array().map(Vec::len)), (200, Some(1)), "{query}: {timeline}");
        let moments = timeline["moments"].as_array().unwrap();
        let whats: Vec<_> = moments.iter().map(|moment| moment["what"].as_str().unwrap()).collect();
        assert_eq!(whats, ["issued", "first_use", "last_use", "refused", "refused", "refused"], "{query}");
    }
    for query in ["task=other", "task=task-42&issuer=https://two.example", "task=task-42&since=0&until=1"] {
        let (status, timeline) = auditor.get(&format!("/v1/feeds/main/timeline?{query}")).await;
        assert_eq!((status, &timeline["moments"]), (200, &json!([])), "{query}: {timeline}");
    }
    let (_, timeline) = auditor.get("/v1/feeds/main/timeline?task=task-42&limit=1").await;
    assert_eq!(timeline["cut"], true);
    let moments = timeline["moments"].as_array().unwrap();
    assert_eq!(moments.last().map(|moment| &moment["count"]), Some(&json!(2)), "what is no single decision is counted");
    for (query, expected) in [
        ("", "nothing is named"),
        ("task=a&client=b", "more than one thing is named"),
        ("task=a&since=2&until=1", "`until` does not lie after `since`"),
        ("task=a&user=b", "unknown field"),
    ] {
        let (status, problem) = auditor.get(&format!("/v1/feeds/main/timeline?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{query}: {problem}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn decisions_are_read_page_by_page() {
    let hub = with_evidence().await;
    let ops = Caller::new(&hub, "ops", Role::Operator, &[]).await;
    let (mut after, mut decisions) = (0, Vec::new());
    loop {
        let (status, page) = ops.get(&format!("/v1/feeds/main/records?limit=2&after={after}")).await;
        assert_eq!(status, 200, "{page}");
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            assert_eq!(page["next"], after, "one goes on from there later");
            break;
        }
        let of_page = records.iter().map(|record| record["record"]["decision"].as_str().unwrap().to_owned());
        decisions.extend(of_page);
        assert!(records.iter().all(|record| record["node"] == "envoy-1" && record["principal"] == "mesh"));
        after = page["next"].as_u64().unwrap();
    }
    assert_eq!(decisions, ["d-0", "d-1", "d-2"]);
    let (_, none) = ops.get("/v1/feeds/main/records?since=0&until=1000").await;
    assert_eq!(none, json!({"records": [], "next": 0}));
    hub.stop().await;
}

#[tokio::test]
async fn others_may_not_read_evidence() {
    let hub = Running::start().await;
    let issuer = Caller::new(&hub, "jit", Role::Issuer, &["main"]).await;
    let other = Caller::new(&hub, "book", Role::Auditor, &["other"]).await;
    for path in ["timeline?task=a", "records"] {
        assert_eq!(issuer.get(&format!("/v1/feeds/main/{path}")).await.0, 403, "{path}");
        assert_eq!(other.get(&format!("/v1/feeds/main/{path}")).await.0, 403, "{path}");
        assert_eq!(other.get(&format!("/v1/feeds/other/{path}")).await.0, 200, "{path}");
    }
    hub.stop().await;
}
