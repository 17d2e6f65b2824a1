//! The report and the list of living grants, of a hub that runs.

use crate::api::openapi::openapi;
use crate::api::report::PLACES;
use crate::config::role::Role;
use crate::testing::Running;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// One grant for two orders, of which one was read three times.
fn uses(at: u64) -> Value {
    let detail = |order: &str| json!({"type": "order", "actions": ["read"], "identifier": order});
    let grant = json!({"issuer": "https://jit.example", "token": "t-1", "fingerprint": "f", "subject": "alice",
        "issued_at": at / 1_000 - 60, "expires_at": at / 1_000 + 540, "scopes": ["orders"],
        "details": [detail("1"), detail("2")]});
    json!({
        "format": 1, "proxy": "follower-1", "node": "envoy-1",
        "configs": [{"config": "c1", "rules": [{"name": "read", "effect": "require", "methods": ["GET"],
            "path": "/orders/{order}", "captures": ["order"], "scopes": ["orders"],
            "detail": {"type": "order", "action": "read", "identifier": "{order}"}}]}],
        "batches": [{"vm": "00000000000000aa", "number": 1, "since": at - 9, "until": at,
            "rules": [{"config": "c1", "name": "read"}],
            "grants": [{"grant": grant, "permitted": [{"rule": 0, "method": "GET", "captures": ["1"], "count": 3,
                "first": at - 9, "last": at - 1}]}]}]
    })
}

#[tokio::test]
async fn operators_and_auditors_read_reports() {
    let hub = Running::start().await;
    let mesh = hub.token("mesh", Role::Sidecar, &["main"]).await;
    let auditor = hub.token("auditor", Role::Auditor, &[]).await;
    let at = now();
    let (status, taken) = hub.call("POST", "/v1/feeds/main/uses", Some(&mesh), Some(uses(at))).await;
    assert_eq!(status, 200, "{taken}");

    let get = async |path: &str| hub.call("GET", path, Some(&auditor), None).await;
    let (status, report) = get("/v1/feeds/main/report").await;
    assert_eq!(status, 200, "{report}");
    assert_eq!((&report["total"]["grants"], &report["total"]["permitted"]), (&json!(1), &json!(3)));
    let width = &report["grants"][0]["width"];
    assert_eq!((&width["allowed_cells"], &width["used_cells"]), (&json!(2), &json!(1)));
    assert_eq!(width["narrower_details"], json!([{"type": "order", "actions": ["read"], "identifier": "1"}]));
    assert_eq!(report["until"].as_u64().unwrap() - report["since"].as_u64().unwrap(), 7 * 86_400_000);

    let roles =
        json!([{"name": "support", "subjects": ["alice"], "cells": "unbounded"}, {"name": "small", "cells": 4}]);
    let body = json!({"since": at - 3_600_000, "until": at + 1_000, "limit": 0, "roles": roles});
    let (status, report) = hub.call("POST", "/v1/feeds/main/report", Some(&auditor), Some(body)).await;
    assert_eq!((status, &report["grants"]), (200, &json!([])), "{report}");
    let roles = &report["comparison"]["roles"];
    assert_eq!((&roles[0]["allowed_cells"], &roles[0]["grant_cells"]), (&Value::Null, &json!(2)));
    assert_eq!((&roles[0]["grants"], &roles[1]["allowed_cells"]), (&json!(1), &json!(4)));

    let (status, alive) = get(&format!("/v1/feeds/main/alive?from={}&to={}", at - 1_000, at + 1_000)).await;
    assert_eq!((status, &alive["grants"][0]["token"]), (200, &json!("t-1")), "{alive}");
    assert_eq!(alive["grants"][0]["permitted"], 3);
    let (_, later) = get(&format!("/v1/feeds/main/alive?from={}&to={}", at + 600_000, at + 700_000)).await;
    assert_eq!(later["grants"], json!([]));

    for (path, status) in [
        ("/v1/feeds/main/report?since=9&until=9", 400),
        ("/v1/feeds/main/report?since=9&until=9999999999999", 400),
        ("/v1/feeds/main/report?limit=1001", 400),
        ("/v1/feeds/main/report?last=7d", 400),
        ("/v1/feeds/main/alive?from=9", 400),
        ("/v1/feeds/none/report", 404),
    ] {
        assert_eq!(get(path).await.0, status, "{path}");
    }
    let refused = hub.call("GET", "/v1/feeds/main/report", Some(&mesh), None).await;
    assert_eq!(refused.0, 403, "{}", refused.1);

    // Two reports are being made.
    let places = PLACES.acquire_many(2).await.unwrap();
    let (status, busy) = get("/v1/feeds/main/report").await;
    assert_eq!((status, &busy["detail"]), (503, &json!("two reports are being made")));
    drop(places);
    assert_eq!(get("/v1/feeds/main/report").await.0, 200);
    hub.stop().await;
}

#[test]
fn the_document_describes_a_report() {
    let document = serde_json::to_value(openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in ["Report", "Rollup", "GrantMeasures", "Width", "Residual", "Sharing", "Alive", "Role"] {
        assert!(schemas.contains_key(name), "{name}");
    }
}

/// The figures that a page names in the middle column of its tables between two headings.
fn figures(page: &str, from: &str, to: &str) -> Vec<String> {
    let part = page.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let rows = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| risk"));
    let cells = rows.filter_map(|row| row.split(" | ").nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The member `name` of the schema, or of what its array has.
fn member<'d>(document: &'d Value, schema: &'d Value, name: &str) -> Option<&'d Value> {
    let of_all = ["allOf", "oneOf", "anyOf"].into_iter().filter_map(|kind| schema[kind].as_array()).flatten();
    if let Some(found) = of_all.filter_map(|one| member(document, one, name)).next() {
        return Some(found);
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return member(document, document.pointer(reference.strip_prefix('#')?)?, name);
    }
    if schema["items"].is_object() {
        return member(document, &schema["items"], name);
    }
    schema["properties"].get(name)
}

#[test]
fn the_catalogues_name_figures_that_a_report_has() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/measures.md")).unwrap();
    let document = serde_json::to_value(openapi()).unwrap();
    let schemas = &document["components"]["schemas"];
    let named = figures(&page, "\n## What it is evidence for", "\n## Cost");
    assert!(named.len() > 40, "{named:?}");
    for figure in named {
        let path: Vec<_> = figure.split('.').map(|name| name.trim_end_matches("[]")).collect();
        let found = match path.as_slice() {
            // A second one beside that before it, or the name of a view.
            [name] => {
                let mut all = schemas.as_object().unwrap().values();
                all.any(|schema| schema["properties"].get(*name).is_some()) || *name == "refusals"
            }
            ["alive", rest @ ..] => reaches(&document, &schemas["Alive"], rest),
            ["moments", ..] => reaches(&document, &schemas["Timeline"], &path),
            path => reaches(&document, &schemas["Report"], path),
        };
        assert!(found, "`{figure}` is in no answer");
    }
}

fn reaches(document: &Value, schema: &Value, path: &[&str]) -> bool {
    let mut at = Some(schema);
    for name in path {
        at = at.and_then(|schema| member(document, schema, name));
    }
    at.is_some()
}
