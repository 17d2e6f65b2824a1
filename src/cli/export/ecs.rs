//! Elastic Common Schema 9.4.0. What has no field there is below `taskfence`.

use serde_json::{Value, json};
use std::net::IpAddr;
use taskfence_hub::api::records::Record;

use super::members::{self, members, time_ms};
use super::tree::Tree;
use crate::terminal::text;

/// The version of the schema.
const VERSION: &str = "9.4.0";

/// The object for what has no field.
const FOREIGN: &str = "taskfence";

/// The document of a decision.
pub fn document(record: &Record) -> Value {
    let mut document = Tree::default();
    for member in members(record) {
        let place = member.mapping.map(|mapping| mapping.ecs).filter(|place| fits(place, &member.value));
        if !place.is_some_and(|place| document.put_at(place, member.value.clone())) {
            document.put_foreign(FOREIGN, &member.path, member.value);
        }
    }
    let verdict = members::text(record, "verdict");
    let derived = [
        ("@timestamp", json!(text::time_ms(time_ms(record)))),
        ("ecs.version", json!(VERSION)),
        ("event.kind", json!("event")),
        ("event.category", json!(["api"])),
        ("event.type", json!(types(verdict))),
        ("event.outcome", json!(outcome(verdict))),
        ("event.module", json!("taskfence")),
        ("event.dataset", json!("taskfence.decision")),
        ("observer.vendor", json!("Taskfence")),
        ("observer.type", json!("proxy")),
    ];
    for (place, value) in derived {
        document.put_at(place, value);
    }
    if let Ok(ip) = members::text(record, "source").parse::<IpAddr>() {
        document.put_at("client.ip", ip.to_string().into());
    }
    let lasted = record.record.get("ended").and_then(|ended| ended.get("lasted_ms")).and_then(Value::as_u64);
    if let Some(nanoseconds) = lasted.and_then(|ms| ms.checked_mul(1_000_000)) {
        document.put_at("event.duration", nanoseconds.into());
    }
    document.into_value()
}

/// Whether `value` has the type of the field.
fn fits(place: &str, value: &Value) -> bool {
    match place {
        "client.bytes" | "server.bytes" | "event.sequence" => value.as_i64().is_some(),
        "@timestamp" => value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        _ if place.starts_with(FOREIGN) => true,
        _ => value.is_string(),
    }
}

/// `event.type` of the category `api`.
fn types(verdict: &str) -> &'static [&'static str] {
    match verdict {
        "allowed" | "would_deny" => &["access", "allowed"],
        "denied" => &["access", "denied"],
        "ended" => &["end", "denied"],
        "would_end" => &["access", "allowed"],
        _ => &["info"],
    }
}

fn outcome(verdict: &str) -> &'static str {
    match verdict {
        "allowed" | "would_deny" | "would_end" => "success",
        "denied" | "ended" => "failure",
        _ => "unknown",
    }
}
