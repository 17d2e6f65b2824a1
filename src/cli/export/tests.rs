//! Nothing of a record is lost, each format has what it requires, and the page says the same as the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use taskfence_hub::api::records::Record;

use super::Format;
use super::mapping::MAPPINGS;
use super::members::members;
use crate::tests::snapshot;

fn record(members: Value) -> Record {
    let grant = "00112233445566778899aabbccddeeff".to_owned();
    Record {
        position: 4711,
        principal: "mesh".to_owned(),
        node: "envoy-1".to_owned(),
        at: 1_790_000_000_007,
        grant,
        record: members,
    }
}

fn full() -> Value {
    json!({
        "schema": "taskfence.decision/1", "decision": "d-1", "time": "2026-09-21T14:13:20.007Z",
        "time_ms": 1_790_000_000_007_u64, "verdict": "denied", "reason": "task_completed", "rule": "refund",
        "mode": "enforce", "config": "0011223344556677", "state": {"revision": "e.1.2", "age_ms": 12},
        "issuer": "https://jit.example", "subject": "alice", "actor": "agent-a7", "actors": ["agent-a7", "agent-b1"],
        "client": "agent-a7", "task": "task-42", "session": "s-1", "token": "t-1", "fingerprint": "ff00",
        "method": "POST", "host": "orders.mesh", "path": "/v1/refunds/1881", "source": "10.0.0.7",
        "peer": "spiffe://mesh/agent", "trace_id": "0af7651916cd43dd8448eb211c80319c", "claim": "sub",
        "fault": "missing", "break_glass": true, "masked": ["host"], "cut": ["path"],
        "ended": {"delay_ms": 3, "lasted_ms": 45_200, "bytes_in": 10, "bytes_out": 2000}
    })
}

const FORMATS: [Format; 3] = [Format::Ocsf, Format::Ecs, Format::Otel];

#[test]
fn a_full_record_in_each_format() {
    let mut page = String::new();
    for format in FORMATS {
        let exported = format.of(&record(full())).unwrap();
        page.push_str(&format!("### {format:?}\n{}\n", serde_json::to_string_pretty(&exported).unwrap()));
    }
    snapshot::check("export", &page);
}

#[test]
fn every_member_of_the_schema_has_a_place() {
    let schema = taskfence_core::decision::record::schema();
    let schema = serde_json::to_value(schema).unwrap();
    let names = |properties: &Value| properties.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut known = Vec::new();
    for name in names(&schema["properties"]) {
        match name.as_str() {
            "state" => {
                known.extend(names(&schema["$defs"]["State"]["properties"]).iter().map(|one| format!("state.{one}")))
            }
            "ended" => {
                known.extend(names(&schema["$defs"]["Ended"]["properties"]).iter().map(|one| format!("ended.{one}")))
            }
            _ => known.push(name),
        }
    }
    known.sort();
    let mut mapped: Vec<_> =
        MAPPINGS.iter().map(|one| one.member).filter(|member| !member.starts_with("hub:")).collect();
    mapped.sort();
    assert_eq!(known, mapped);
}

#[test]
fn every_member_of_a_full_record_has_a_place() {
    for member in members(&record(full())) {
        assert!(member.mapping.is_some(), "{:?}", member.path);
    }
    assert_eq!(members(&record(full())).len(), MAPPINGS.len());
}

/// The value at a place that [`MAPPINGS`] names or that stands for what is foreign.
fn at(format: Format, exported: &Value, place: &[&str]) -> Option<Value> {
    if format != Format::Otel {
        return place.iter().try_fold(exported, |at, step| at.get(step)).cloned();
    }
    let logs = &exported["resourceLogs"][0];
    let log = &logs["scopeLogs"][0]["logRecords"][0];
    let attribute = |list: &Value, name: &str| {
        let found = list.as_array()?.iter().find(|one| one["key"] == name)?;
        Some(plain(&found["value"]))
    };
    let name = place.join(".");
    match name.split_once(':') {
        Some(("log", "timeUnixNano")) => {
            let nanoseconds: u64 = log["timeUnixNano"].as_str()?.parse().ok()?;
            Some((nanoseconds / 1_000_000).into())
        }
        Some(("log", field)) => log.get(field).cloned(),
        Some(("resource", name)) => attribute(&logs["resource"]["attributes"], name),
        _ => {
            let original = attribute(&log["attributes"], "http.request.method_original");
            original.filter(|_| name == "http.request.method").or_else(|| attribute(&log["attributes"], &name))
        }
    }
}

/// What an `AnyValue` of OTLP/JSON stands for.
fn plain(any: &Value) -> Value {
    let Some((kind, value)) = any.as_object().unwrap().iter().next() else {
        return Value::Null;
    };
    match kind.as_str() {
        "intValue" => value.as_str().unwrap().parse::<i64>().unwrap().into(),
        "arrayValue" => value["values"].as_array().unwrap().iter().map(plain).collect(),
        "kvlistValue" => {
            let members = value["values"].as_array().unwrap().iter();
            Value::Object(members.map(|one| (one["key"].as_str().unwrap().to_owned(), plain(&one["value"]))).collect())
        }
        _ => value.clone(),
    }
}

fn check_nothing_is_lost(record: &Record) {
    for format in FORMATS {
        let exported = format.of(record).unwrap();
        for member in members(record) {
            let place = member.mapping.map(|mapping| match format {
                Format::Ocsf => mapping.ocsf,
                Format::Ecs => mapping.ecs,
                _ => mapping.otel,
            });
            let steps: Vec<&str> = match (place, format) {
                (Some(place), Format::Otel) => vec![place],
                (Some(place), _) => place.split('.').collect(),
                (None, _) => Vec::new(),
            };
            let is_there = !steps.is_empty() && at(format, &exported, &steps).as_ref() == Some(&member.value);
            // Among what is foreign, under its own name or one with `_` behind it.
            let foreign = if format == Format::Ocsf { "unmapped" } else { "taskfence" };
            let is_foreign = (0..3).any(|more| {
                let mut path = member.path.clone();
                let renamed = if format == Format::Otel { path.len() - 1 } else { 0 };
                path[renamed].push_str(&"_".repeat(more));
                let steps: Vec<&str> = [foreign].into_iter().chain(path.iter().map(String::as_str)).collect();
                at(format, &exported, &steps).as_ref() == Some(&member.value)
            });
            assert!(is_there || is_foreign, "{format:?} lost {:?} = {} in {exported}", member.path, member.value);
        }
    }
}

#[test]
fn nothing_of_a_full_record_is_lost() {
    check_nothing_is_lost(&record(full()));
    let mut masked = full();
    for name in ["source", "method", "trace_id", "time_ms", "state", "ended", "masked", "actors", "time"] {
        masked[name] = json!("sha256:00");
    }
    check_nothing_is_lost(&record(masked));
    let clashes = json!({"grant": 1, "node": 2, "position": 3, "state.revision": 4, "state": {"revision": 5}, "hub:node": 6,
        "unmapped": 7, "taskfence": {"a": 8}, "log:traceId": 9, "ended": {}, "verdict": null});
    check_nothing_is_lost(&record(clashes));
    check_nothing_is_lost(&record(json!("no object")));
    let late = record(json!({"time_ms": u64::MAX}));
    check_nothing_is_lost(&late);
    check_what_is_required(&late);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[ -~]{0,12}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!("10.0.0.7")),
        Just(json!("0af7651916cd43dd8448eb211c80319c")),
        (0..4_102_444_800_000_u64).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z_.]{1,8}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Value> {
    let known: Vec<&str> = vec![
        "schema",
        "decision",
        "time",
        "time_ms",
        "verdict",
        "reason",
        "break_glass",
        "rule",
        "mode",
        "config",
        "state",
        "issuer",
        "subject",
        "actor",
        "actors",
        "client",
        "task",
        "session",
        "token",
        "fingerprint",
        "method",
        "host",
        "path",
        "source",
        "peer",
        "trace_id",
        "claim",
        "fault",
        "ended",
        "masked",
        "grant",
        "node",
        "principal",
        "position",
    ];
    let odd = prop::collection::btree_map(select(known.clone()).prop_map(str::to_owned), value(), 0..6);
    let unknown = prop::collection::btree_map("[a-z_.:]{1,8}", value(), 0..4);
    let kept = prop::collection::vec(select(known), 0..30);
    (kept, odd, unknown).prop_map(|(kept, odd, unknown)| {
        let full = full();
        let kept = kept.into_iter().filter_map(|name| Some((name.to_owned(), full.get(name)?.clone())));
        Value::Object(kept.chain(odd).chain(unknown).collect())
    })
}

proptest! {
    #[test]
    fn nothing_of_any_record_is_lost(members in any_record()) {
        let record = record(members);
        check_nothing_is_lost(&record);
        check_what_is_required(&record);
    }
}

/// What the formats require of every event, whatever is in the record.
fn check_what_is_required(record: &Record) {
    let ocsf = Format::Ocsf.of(record).unwrap();
    // OCSF 1.5.0, API Activity: the required attributes, and the required members of its objects.
    for pointer in [
        "/activity_id",
        "/category_uid",
        "/class_uid",
        "/type_uid",
        "/severity_id",
        "/time",
        "/metadata/version",
        "/metadata/product/name",
        "/api/operation",
        "/actor",
        "/src_endpoint",
    ] {
        assert!(ocsf.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer} in {ocsf}");
    }
    let integers = ["activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time"];
    assert!(integers.iter().all(|name| ocsf[name].is_i64() || ocsf[name].is_u64()), "{ocsf}");
    assert_eq!(ocsf["type_uid"].as_u64().unwrap(), 600_300 + ocsf["activity_id"].as_u64().unwrap());
    // Its constraints `at_least_one`.
    let some = |object: &str, names: &[&str]| {
        let object = ocsf.pointer(object);
        object.is_none_or(|object| names.iter().any(|name| object.get(name).is_some()))
    };
    assert!(some("/actor", &["process", "user", "session", "app_name", "app_uid"]), "{ocsf}");
    assert!(some("/src_endpoint", &["ip", "name", "svc_name", "hostname"]), "{ocsf}");
    assert!(some("/dst_endpoint", &["ip", "name", "svc_name", "hostname"]), "{ocsf}");
    assert!(some("/actor/user", &["name", "uid", "account"]), "{ocsf}");
    assert!(some("/policy", &["name", "uid"]), "{ocsf}");
    assert!(some("/trace", &["uid"]), "{ocsf}");
    assert!(some("/http_request/url", &["url_string", "path"]), "{ocsf}");

    let ecs = Format::Ecs.of(record).unwrap();
    assert_eq!((&ecs["ecs"]["version"], &ecs["event"]["kind"]), (&json!("9.4.0"), &json!("event")));
    assert!(ecs["@timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{ecs}");
    assert_eq!(ecs["event"]["category"], json!(["api"]));
    let expected = ["access", "allowed", "denied", "end", "info"];
    let types = ecs["event"]["type"].as_array().unwrap();
    assert!(!types.is_empty() && types.iter().all(|kind| expected.contains(&kind.as_str().unwrap())), "{ecs}");
    assert!(["success", "failure", "unknown"].contains(&ecs["event"]["outcome"].as_str().unwrap()));

    let otel = Format::Otel.of(record).unwrap();
    let log = &otel["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert!(log["timeUnixNano"].as_str().unwrap().parse::<u64>().is_ok(), "{log}");
    assert!((1..=24).contains(&log["severityNumber"].as_u64().unwrap()));
    assert!(log["body"]["stringValue"].is_string());
    let mut keys = BTreeMap::new();
    for attribute in log["attributes"].as_array().unwrap() {
        let (key, value) = (attribute["key"].as_str().unwrap(), attribute["value"].as_object().unwrap());
        assert!(keys.insert(key, ()).is_none(), "`{key}` stands twice");
        assert!(value.len() <= 1, "{attribute}");
    }
    assert!(log.get("traceId").is_none_or(|id| id.as_str().is_some_and(|id| id.len() == 32)), "{log}");
}

#[test]
fn each_verdict_has_its_outcome() {
    let table = [
        ("allowed", false, 1, "success", 9),
        ("allowed", true, 1, "success", 13),
        ("denied", false, 2, "failure", 13),
        ("ended", false, 2, "failure", 9),
        ("would_deny", false, 3, "success", 13),
        ("would_end", false, 3, "success", 13),
        ("new", false, 0, "unknown", 13),
    ];
    for (verdict, glass, action, outcome, severity) in table {
        let record = record(json!({"verdict": verdict, "break_glass": glass}));
        assert_eq!(Format::Ocsf.of(&record).unwrap()["action_id"], action, "{verdict}");
        assert_eq!(Format::Ecs.of(&record).unwrap()["event"]["outcome"], outcome, "{verdict}");
        let otel = Format::Otel.of(&record).unwrap();
        let log = &otel["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(log["severityNumber"], severity, "{verdict}");
        check_what_is_required(&record);
    }
}

#[test]
fn the_page_says_the_same() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/decision-record-mapping.md");
    let page = fs::read_to_string(page).unwrap();
    let mut lines = page.lines().skip_while(|line| !line.starts_with("| member | OCSF | ECS | OpenTelemetry |"));
    assert!(lines.next().is_some(), "the page has the table");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let written: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    let meant: Vec<_> = MAPPINGS.iter().map(|one| vec![one.member, one.ocsf, one.ecs, one.otel]).collect();
    assert_eq!(written, meant);
    for version in ["1.5.0", "9.4.0", "1.37.0"] {
        assert!(page.contains(version), "{version}");
    }
}

#[test]
fn json_is_what_the_hub_has() {
    let json = Format::Json.of(&record(full())).unwrap();
    assert_eq!((&json["record"], &json["position"]), (&full(), &json!(4711)));
    assert_eq!(json.as_object().map(Map::len), Some(6));
}
