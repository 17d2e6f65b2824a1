//! The entry of a transmitter in hub.yaml: as JSON, and as lines of YAML.

use serde_json::{Map, Value, json};

use crate::drafting::yaml;

/// One entry of `transmitters`.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its members, in the order in which they are written.
    members: Vec<(&'static str, Value)>,
}

impl Entry {
    /// An entry of these members; null members are left out.
    pub fn new(members: Vec<(&'static str, Value)>) -> Entry {
        Entry { members: members.into_iter().filter(|(_, value)| !value.is_null()).collect() }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    /// As an item of a list in YAML, each line without indentation of its own but what belongs to the item.
    pub fn to_yaml(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, value) in &self.members {
            let lead = if lines.is_empty() { "- " } else { "  " };
            match value {
                Value::Object(members) if *name == "ssf" => {
                    lines.push(format!("{lead}{name}:"));
                    lines.extend(members.iter().map(|(name, value)| format!("    {name}: {}", flow(value))));
                }
                value => lines.push(format!("{lead}{name}: {}", flow(value))),
            }
        }
        lines
    }
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => yaml::scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{}: {}", yaml::scalar(name), flow(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// An object of those members that are something.
pub fn object(members: Vec<(&str, Option<Value>)>) -> Value {
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(members.collect::<Map<_, _>>())
}

/// `keys` of a key set at `path` of `cluster`.
pub fn keys(cluster: &str, path: &str) -> Value {
    json!({"cluster": cluster, "path": path})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_the_value() {
        let entry = Entry::new(vec![
            ("issuer", json!("https://idp.example")),
            ("audience", json!(["a: b", "true"])),
            ("authorization", Value::Null),
            ("keys", keys("idp.example", "/jwks?x={y}")),
            ("ssf", json!({"credentials": {"token_file": "/etc/a b"}, "delivery": "poll"})),
        ]);
        let yaml = entry.to_yaml().join("\n");
        let read = crate::input::yaml::to_json(&yaml).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), json!([entry.to_json()]), "{yaml}");
    }
}
