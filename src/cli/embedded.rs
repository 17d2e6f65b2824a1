//! Configurations of the filter inside a configuration of Envoy.

use serde_json::Value;
use taskfence_core::problem::Problem;

/// A configuration of the filter, and where it stands in the file around it.
#[derive(Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Such as `static_resources.listeners[0].….configuration.value`.
    pub place: String,
    /// The text that Envoy hands to the filter.
    pub json: String,
    /// The `vm_id` beside it. Plugins share pushed state when they have the same.
    pub vm_id: Option<String>,
}

/// Whether `json` is a configuration of Envoy rather than one of the filter.
pub fn is_envoy(json: &[u8]) -> bool {
    let keys = ["static_resources", "dynamic_resources", "resources", "admin", "node"];
    let value: Option<Value> = serde_json::from_slice(json).ok();
    value.is_some_and(|value| keys.iter().any(|key| value.get(key).is_some()))
}

/// Every configuration of a WebAssembly plugin in `envoy` that looks like one of ours.
pub fn find(envoy: &[u8]) -> Vec<Embedded> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(envoy) {
        walk(&value, String::new(), &mut found);
    }
    found
}

/// The clusters that a configuration of Envoy brings.
#[derive(Debug, Default)]
pub struct Clusters {
    /// Those that stand in it.
    pub names: Vec<String>,
    /// Whether others may come from elsewhere.
    pub open: bool,
}

impl Clusters {
    /// Those of `envoy`.
    pub fn of(envoy: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(envoy).unwrap_or_default();
        let list = |pointer| value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        // In a file of resources, as Envoy reads one from disk, whatever is not here may stand in another.
        let resources =
            list("/resources").filter(|one| one["@type"].as_str().is_some_and(|kind| kind.ends_with(".v3.Cluster")));
        let all = list("/static_resources/clusters").chain(resources);
        let names = all.filter_map(|cluster| cluster["name"].as_str().map(str::to_owned)).collect();
        let elsewhere = ["/resources", "/dynamic_resources/cds_config", "/dynamic_resources/ads_config"];
        Self { names, open: elsewhere.iter().any(|pointer| value.pointer(pointer).is_some()) }
    }
}

/// What is wrong between two plugins that share pushed state, though each may be good by itself.
pub fn compare(all: &[Embedded]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, one) in all.iter().enumerate() {
        for other in all.iter().take(at).filter(|other| other.vm_id == one.vm_id) {
            if without_role(&other.json) != without_role(&one.json) {
                let message = format!("differs in more than `role` from {}", other.place);
                let problem = Problem::at(&one.place, message);
                problems.push(problem.help("signals are kept for as long as the receiver's own text says"));
            }
        }
        if one.vm_id.as_deref().unwrap_or_default().is_empty() {
            let problem =
                Problem::at(&one.place, "has no `vm_id` beside it, so every plugin without one shares its state");
            problems.push(problem.help("set `vm_config.vm_id`, the same for the filter and the receiver"));
        }
    }
    problems
}

fn walk(value: &Value, place: String, found: &mut Vec<Embedded>) {
    let text_at = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let is_text = text_at("/configuration/@type") == Some("type.googleapis.com/google.protobuf.StringValue");
    if let Some(text) = text_at("/configuration/value").filter(|text| is_text && is_ours(text)) {
        let vm_id = text_at("/vm_config/vm_id").map(str::to_owned);
        found.push(Embedded { place: format!("{place}.configuration.value"), json: text.to_owned(), vm_id });
        return;
    }
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| walk(item, format!("{place}[{at}]"), found));
        }
        Value::Object(members) => {
            for (name, item) in members {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                walk(item, place, found);
            }
        }
        _ => {}
    }
}

/// A text that is broken may still be meant as ours.
fn is_ours(text: &str) -> bool {
    ["\"issuers\"", "\"rules\"", "\"signals\""].iter().any(|key| text.contains(key))
}

fn without_role(json: &str) -> Option<Value> {
    let mut value: Value = serde_json::from_str(json).ok()?;
    value.as_object_mut()?.remove("role");
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plugin(vm_id: &str, text: &str) -> Value {
        json!({
            "vm_config": {"vm_id": vm_id},
            "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}
        })
    }

    fn envoy(plugins: &[Value]) -> Vec<u8> {
        json!({"static_resources": {"listeners": plugins}}).to_string().into_bytes()
    }

    #[test]
    fn ours_are_found_wherever_they_stand() {
        let file = envoy(&[
            plugin("v", r#"{"issuers":[]}"#),
            plugin("other", "{}"),
            json!({"a": plugin("v", r#"{"rules":1"#)}),
        ]);
        assert!(is_envoy(&file) && !is_envoy(br#"{"issuers":[]}"#));
        let places: Vec<String> = find(&file).into_iter().map(|found| found.place).collect();
        assert_eq!(
            places,
            [
                "static_resources.listeners[0].configuration.value",
                "static_resources.listeners[2].a.configuration.value"
            ]
        );
    }

    #[test]
    fn two_that_share_a_state_differ_in_their_role_only() {
        let two = |first: &str, second: &str| {
            let found = find(&envoy(&[plugin("v", first), plugin("v", second)]));
            compare(&found).into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        assert_eq!(two(r#"{"role":"filter","issuers":[]}"#, r#"{"issuers":[],"role":"receiver"}"#), [""; 0]);
        let differs = "differs in more than `role` from static_resources.listeners[0].configuration.value";
        assert_eq!(two(r#"{"issuers":[]}"#, r#"{"issuers":[1]}"#), [differs]);
        assert_eq!(compare(&find(&envoy(&[plugin("", r#"{"issuers":[]}"#)]))).len(), 1);
    }
}
