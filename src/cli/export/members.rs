//! The members of a record, one by one.

use serde_json::Value;
use taskfence_hub::api::records::Record;

use super::mapping::{MAPPINGS, Mapping};

/// Objects of a record whose members have places of their own.
const OBJECTS: [&str; 2] = ["state", "ended"];

/// A member and its value.
pub struct Member {
    /// Its name, with the name of the object that it is in before it.
    pub path: Vec<String>,
    /// Its value.
    pub value: Value,
    /// Where it goes; `None` for a member that is not known here.
    pub mapping: Option<&'static Mapping>,
}

/// All members of `record`, what the hub knows about it first.
pub fn members(record: &Record) -> Vec<Member> {
    let of_hub = [
        ("node", Value::from(record.node.as_str())),
        ("principal", Value::from(record.principal.as_str())),
        ("position", Value::from(record.position)),
        ("grant", Value::from(record.grant.as_str())),
    ];
    let of_hub = of_hub.into_iter().map(|(name, value)| Member {
        path: vec![name.to_owned()],
        value,
        mapping: mapping(&format!("hub:{name}")),
    });
    let mut members: Vec<_> = of_hub.collect();
    let Some(own) = record.record.as_object() else {
        members.push(member(vec!["record".to_owned()], record.record.clone()));
        return members;
    };
    for (name, value) in own {
        match value.as_object().filter(|inner| OBJECTS.contains(&name.as_str()) && !inner.is_empty()) {
            Some(inner) => members
                .extend(inner.iter().map(|(inner, value)| member(vec![name.clone(), inner.clone()], value.clone()))),
            None => members.push(member(vec![name.clone()], value.clone())),
        }
    }
    members
}

/// The latest time that all formats can say, in milliseconds since 1970: its nanoseconds have 63 bits.
const LATEST: u64 = 9_223_372_036_854;

/// The milliseconds since 1970 at which the decision was made; the time that the hub has for it, if the proxy says one that
/// no format has.
pub fn time_ms(record: &Record) -> u64 {
    let said = record.record.get("time_ms").and_then(Value::as_u64).filter(|ms| *ms <= LATEST);
    said.unwrap_or(record.at).min(LATEST)
}

/// A member of the record that is a string; empty for anything else.
pub fn text<'r>(record: &'r Record, name: &str) -> &'r str {
    record.record.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn member(path: Vec<String>, value: Value) -> Member {
    // A dot in the name of a member makes it no member of an object.
    let is_plain = path.iter().all(|name| !name.contains(['.', ':']));
    let mapping = if is_plain { mapping(&path.join(".")) } else { None };
    Member { path, value, mapping }
}

fn mapping(name: &str) -> Option<&'static Mapping> {
    MAPPINGS.iter().find(|mapping| mapping.member == name)
}
