//! Open Cybersecurity Schema Framework 1.5.0: class API Activity (6003) with the profiles security_control and trace.
//!
//! A decision is about one call of an API: who called what, and whether a control let it pass. The classes Authentication
//! and Authorize Session are about logins and sessions, of which a decision is none.

use serde_json::{Value, json};
use std::net::IpAddr;
use taskfence_core::reason::Reason;
use taskfence_hub::api::records::Record;

use super::members::{members, text, time_ms};
use super::tree::Tree;

/// The version of the schema.
const VERSION: &str = "1.5.0";

/// `class_uid` of API Activity.
const CLASS: u64 = 6003;

/// The object for what has no place in the class.
const FOREIGN: &str = "unmapped";

/// The event of a decision.
pub fn event(record: &Record) -> Value {
    let mut event = Tree::default();
    for member in members(record) {
        let place = member.mapping.map(|mapping| mapping.ocsf).filter(|place| fits(place, &member.value));
        if !place.is_some_and(|place| event.put_at(place, member.value.clone())) {
            event.put_foreign(FOREIGN, &member.path, member.value);
        }
    }
    let (method, verdict) = (text(record, "method"), text(record, "verdict"));
    let (activity, activity_name) = activity(method);
    let outcome = outcome(verdict);
    let severity = severity(record);
    let operation = if method.is_empty() { "unknown" } else { method };
    let reason = Reason::ALL.iter().find(|known| known.code() == text(record, "reason"));
    let derived = [
        ("metadata.version", json!(VERSION)),
        ("metadata.product", json!({"name": "Taskfence", "vendor_name": "Taskfence"})),
        ("metadata.profiles", json!(["security_control", "trace"])),
        ("category_uid", json!(CLASS / 1000)),
        ("category_name", json!("Application Activity")),
        ("class_uid", json!(CLASS)),
        ("class_name", json!("API Activity")),
        ("activity_id", json!(activity)),
        ("activity_name", json!(activity_name)),
        ("type_uid", json!(CLASS.saturating_mul(100).saturating_add(activity))),
        ("time", json!(time_ms(record))),
        ("severity_id", json!(severity.0)),
        ("severity", json!(severity.1)),
        ("status_id", json!(outcome.status.0)),
        ("status", json!(outcome.status.1)),
        ("action_id", json!(outcome.action.0)),
        ("action", json!(outcome.action.1)),
        ("disposition_id", json!(outcome.disposition.0)),
        ("disposition", json!(outcome.disposition.1)),
        ("api.operation", json!(operation)),
    ];
    for (place, value) in derived {
        event.put_at(place, value);
    }
    if let Some(reason) = reason {
        event.put_at("status_detail", reason.title().into());
    }
    // The class requires these objects, and each of them at least one name.
    if !event.has("src_endpoint") {
        event.put_at("src_endpoint.name", "unknown".into());
    }
    if !event.has("actor") {
        event.put_at("actor.app_name", "unknown".into());
    }
    event.into_value()
}

/// Whether `value` has the type of the place.
fn fits(place: &str, value: &Value) -> bool {
    match place {
        // `timestamp_t` and `long_t`.
        "time" | "duration" | "metadata.sequence" => value.as_i64().is_some(),
        // `ip_t`: masked, it is none.
        "src_endpoint.ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        _ if place.starts_with(FOREIGN) => true,
        _ => value.is_string(),
    }
}

fn activity(method: &str) -> (u64, &'static str) {
    match method {
        "POST" => (1, "Create"),
        "GET" | "HEAD" | "OPTIONS" => (2, "Read"),
        "PUT" | "PATCH" => (3, "Update"),
        "DELETE" => (4, "Delete"),
        "" => (0, "Unknown"),
        _ => (99, "Other"),
    }
}

/// Each with its number and its name.
struct Outcome {
    status: (u64, &'static str),
    action: (u64, &'static str),
    disposition: (u64, &'static str),
}

fn outcome(verdict: &str) -> Outcome {
    let (success, failure) = ((1, "Success"), (2, "Failure"));
    match verdict {
        "allowed" => Outcome { status: success, action: (1, "Allowed"), disposition: (1, "Allowed") },
        "denied" => Outcome { status: failure, action: (2, "Denied"), disposition: (2, "Blocked") },
        "ended" => Outcome { status: failure, action: (2, "Denied"), disposition: (24, "Access Revoked") },
        "would_deny" | "would_end" => Outcome { status: success, action: (3, "Observed"), disposition: (17, "Logged") },
        _ => Outcome { status: (0, "Unknown"), action: (0, "Unknown"), disposition: (0, "Unknown") },
    }
}

/// Use by break-glass is to be looked at; so is a refusal; what shadow mode would have refused less so.
fn severity(record: &Record) -> (u64, &'static str) {
    match text(record, "verdict") {
        "allowed" if record.record.get("break_glass") == Some(&Value::Bool(true)) => (3, "Medium"),
        "allowed" | "ended" => (1, "Informational"),
        "would_deny" | "would_end" => (2, "Low"),
        "denied" => (3, "Medium"),
        _ => (0, "Unknown"),
    }
}
