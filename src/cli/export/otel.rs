//! OpenTelemetry logs: one `LogsData` of OTLP/JSON for each decision, with names of the semantic conventions 1.37.0. The
//! receiver `otlpjsonfile` of the collector reads such lines.

use serde_json::{Value, json};
use taskfence_hub::api::records::Record;

use super::members::{members, text, time_ms};
use super::tree::Tree;

/// Of the semantic conventions (OTLP, `schemaUrl`).
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Before the names of attributes that the conventions do not have.
const FOREIGN: &str = "taskfence";

/// Methods that the conventions know; others are `_OTHER`, and stand in `http.request.method_original`.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// The logs data of a decision.
pub fn logs(record: &Record) -> Value {
    let (mut attributes, mut resource, mut log) = (Attributes::default(), Vec::new(), Tree::default());
    for member in members(record) {
        let place = member.mapping.map(|mapping| mapping.otel).unwrap_or_default();
        match place.split_once(':') {
            Some(("resource", name)) => resource.push(attribute(name, &member.value)),
            Some((_, "timeUnixNano")) if nanoseconds(&member.value).is_some() => {
                log.put_at("timeUnixNano", nanoseconds(&member.value).unwrap_or_default().into());
            }
            Some((_, "traceId")) if is_trace_id(&member.value) => {
                log.put_at("traceId", member.value);
            }
            None if place == "http.request.method" && is_other(&member.value) => {
                attributes.put(place, &"_OTHER".into());
                attributes.put("http.request.method_original", &member.value);
            }
            None if !place.is_empty() => attributes.put(place, &member.value),
            _ => attributes.put(&format!("{FOREIGN}.{}", member.path.join(".")), &member.value),
        }
    }
    resource.push(attribute("service.name", &"taskfence".into()));
    let verdict = text(record, "verdict");
    let (number, severity) = severity(record);
    if let Some(now) = nanoseconds(&time_ms(record).into()) {
        log.put_at("timeUnixNano", now.into());
    }
    for (place, value) in [
        ("severityNumber", json!(number)),
        ("severityText", json!(severity)),
        ("eventName", json!("taskfence.decision")),
        ("body", json!({"stringValue": body(record, verdict)})),
        ("attributes", Value::from(attributes.0)),
    ] {
        log.put_at(place, value);
    }
    json!({"resourceLogs": [{
        "resource": {"attributes": resource},
        "schemaUrl": SCHEMA,
        "scopeLogs": [{
            "scope": {"name": "taskfence"},
            "schemaUrl": SCHEMA,
            "logRecords": [log.into_value()],
        }],
    }]})
}

/// Attributes with different names.
#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn put(&mut self, name: &str, value: &Value) {
        let mut name = name.to_owned();
        while self.0.iter().any(|known| known.get("key").and_then(Value::as_str) == Some(&name)) {
            name.push('_');
        }
        self.0.push(attribute(&name, value));
    }
}

fn attribute(name: &str, value: &Value) -> Value {
    json!({"key": name, "value": any(value)})
}

/// `AnyValue` of OTLP/JSON: integers are strings.
fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::String(value) => json!({"stringValue": value}),
        Value::Number(value) => match value.as_i64() {
            Some(value) => json!({"intValue": value.to_string()}),
            None => json!({"doubleValue": value}),
        },
        Value::Array(values) => json!({"arrayValue": {"values": values.iter().map(any).collect::<Vec<_>>()}}),
        Value::Object(members) => {
            let values: Vec<_> = members.iter().map(|(name, value)| attribute(name, value)).collect();
            json!({"kvlistValue": {"values": values}})
        }
    }
}

/// Milliseconds as OTLP/JSON writes nanoseconds; `None` for anything else.
fn nanoseconds(ms: &Value) -> Option<String> {
    Some(ms.as_u64()?.checked_mul(1_000_000)?.to_string())
}

fn is_trace_id(value: &Value) -> bool {
    let is_hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    value.as_str().is_some_and(is_hex)
}

fn is_other(method: &Value) -> bool {
    !method.as_str().is_some_and(|method| METHODS.contains(&method))
}

fn severity(record: &Record) -> (u64, &'static str) {
    let is_glass = record.record.get("break_glass") == Some(&Value::Bool(true));
    match text(record, "verdict") {
        "allowed" if !is_glass => (9, "INFO"),
        "ended" => (9, "INFO"),
        _ => (13, "WARN"),
    }
}

fn body(record: &Record, verdict: &str) -> String {
    let words = [verdict, text(record, "method"), text(record, "path")];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    match text(record, "reason") {
        "" => words.join(" "),
        reason => format!("{}: {reason}", words.join(" ")),
    }
}
