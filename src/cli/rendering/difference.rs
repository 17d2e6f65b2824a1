//! What differs between rendered resources and those that are deployed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::rendering::deployed::{Id, id, is_ours};

/// What becomes of one resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// It is not deployed.
    Added(Id),
    /// It is deployed, and not rendered any more.
    Removed(Id),
    /// Both differ in these places.
    Changed(Id, Vec<Place>),
}

/// A place where two resources differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Where, such as `spec.wasm.pluginConfig.rules[read-order].require.scope`.
    pub path: String,
    /// What is deployed. `None`: nothing.
    pub deployed: Option<Value>,
    /// What is rendered. `None`: nothing.
    pub rendered: Option<Value>,
}

/// The differences, in the order of kind, namespace and name. Of what is deployed, only resources that were rendered before
/// can have been removed.
pub fn differences(rendered: &[Value], deployed: &[Value]) -> Vec<Difference> {
    let mut all: BTreeMap<Id, (Option<&Value>, Option<&Value>)> = BTreeMap::new();
    for resource in deployed {
        id(resource).into_iter().for_each(|id| all.entry(id).or_default().0 = Some(resource));
    }
    for resource in rendered {
        id(resource).into_iter().for_each(|id| all.entry(id).or_default().1 = Some(resource));
    }
    let compare = |(id, both): (Id, (Option<&Value>, Option<&Value>))| match both {
        (None, Some(_)) => Some(Difference::Added(id)),
        (Some(old), None) => is_ours(old).then_some(Difference::Removed(id)),
        (Some(old), Some(new)) => {
            let places = changes(old, new);
            (!places.is_empty()).then_some(Difference::Changed(id, places))
        }
        (None, None) => None,
    };
    all.into_iter().filter_map(compare).collect()
}

/// What differs of what was rendered: the cluster adds to `metadata`, and has a `status`.
fn changes(deployed: &Value, rendered: &Value) -> Vec<Place> {
    let mut places = Vec::new();
    compare(deployed.get("spec"), rendered.get("spec"), "spec", &mut places);
    let labels = |resource: &Value| resource.get("metadata").and_then(|metadata| metadata.get("labels").cloned());
    let (deployed, rendered) = (labels(deployed), labels(rendered));
    for (name, new) in rendered.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let old = deployed.as_ref().and_then(|labels| labels.get(name));
        compare(old, Some(new), &format!("metadata.labels.{name}"), &mut places);
    }
    places
}

fn compare(deployed: Option<&Value>, rendered: Option<&Value>, path: &str, places: &mut Vec<Place>) {
    match (deployed, rendered) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                compare(old.get(name), new.get(name), &format!("{path}.{name}"), places);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => match (named(old), named(new)) {
            (Some(old_names), Some(new_names)) if !old.is_empty() && !new.is_empty() => {
                compare_named((old, &old_names), (new, &new_names), path, places);
            }
            _ => {
                for at in 0..old.len().max(new.len()) {
                    compare(old.get(at), new.get(at), &format!("{path}[{at}]"), places);
                }
            }
        },
        (old, new) if same(old, new) => {}
        (old, new) => {
            places.push(Place { path: path.to_owned(), deployed: old.cloned(), rendered: new.cloned() });
        }
    }
}

/// Compares lists whose items have names, whatever their places; then their order.
fn compare_named(
    (old, old_names): (&[Value], &[String]),
    (new, new_names): (&[Value], &[String]),
    path: &str,
    places: &mut Vec<Place>,
) {
    let find = |items: &'_ [Value], names: &[String], name: &String| -> Option<Value> {
        let at = names.iter().position(|known| known == name)?;
        items.get(at).cloned()
    };
    let gone = old_names.iter().filter(|name| !new_names.contains(name));
    for name in gone.chain(new_names) {
        let (before, after) = (find(old, old_names, name), find(new, new_names, name));
        compare(before.as_ref(), after.as_ref(), &format!("{path}[{name}]"), places);
    }
    let order = |names: &[String], others: &[String]| {
        let kept: Vec<Value> = names.iter().filter(|name| others.contains(name)).cloned().map(Value::from).collect();
        Value::Array(kept)
    };
    let (before, after) = (order(old_names, new_names), order(new_names, old_names));
    if before != after {
        // The first rule that matches decides.
        let path = format!("{path} (order)");
        places.push(Place { path, deployed: Some(before), rendered: Some(after) });
    }
}

/// The names of items, if each has one of its own.
fn named(items: &[Value]) -> Option<Vec<String>> {
    let name = |item: &Value| item.get("name")?.as_str().map(str::to_owned);
    let names: Vec<String> = items.iter().map(name).collect::<Option<_>>()?;
    let is_unique = names.iter().enumerate().all(|(at, name)| !names.iter().take(at).any(|other| other == name));
    is_unique.then_some(names)
}

/// Whether both are the same. A cluster may give back 5 as 5.0.
fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => left == right || left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(name: &str, spec: Value) -> Value {
        let labels = json!({"app.kubernetes.io/managed-by": "taskfence-render"});
        json!({"kind": "WasmPlugin", "metadata": {"name": name, "namespace": "shop", "labels": labels}, "spec": spec})
    }

    #[test]
    fn rules_are_compared_by_name_and_by_their_order() {
        let rules = |list: Value| resource("a", json!({"pluginConfig": {"rules": list}}));
        let old = rules(json!([{"name": "a", "require": {"scope": "x"}}, {"name": "b"}, {"name": "c"}]));
        let new = rules(json!([{"name": "b"}, {"name": "a", "require": {"scope": "y"}}, {"name": "d"}]));
        let found = differences(std::slice::from_ref(&new), std::slice::from_ref(&old));
        let [Difference::Changed(_, places)] = &found[..] else { panic!("{found:?}") };
        let paths: Vec<_> = places.iter().map(|place| place.path.as_str()).collect();
        let rules = "spec.pluginConfig.rules";
        let expected = ["[c]", "[a].require.scope", "[d]", " (order)"].map(|end| format!("{rules}{end}"));
        assert_eq!(paths, expected);
        assert!(differences(std::slice::from_ref(&new), std::slice::from_ref(&new)).is_empty());
    }

    #[test]
    fn what_a_cluster_adds_is_no_difference() {
        let rendered = resource("a", json!({"n": 5}));
        let mut deployed = resource("a", json!({"n": 5.0}));
        deployed["metadata"]["uid"] = json!("1");
        deployed["metadata"]["labels"]["added"] = json!("x");
        deployed["status"] = json!({});
        assert_eq!(differences(&[rendered], &[deployed]), []);
    }

    #[test]
    fn what_is_new_and_what_is_gone() {
        let (ours, new) = (resource("old", json!({})), resource("new", json!({})));
        let mut theirs = resource("theirs", json!({}));
        theirs["metadata"]["labels"] = json!({});
        let id = |name: &str| ("WasmPlugin".to_owned(), "shop".to_owned(), name.to_owned());
        let expected = [Difference::Added(id("new")), Difference::Removed(id("old"))];
        assert_eq!(differences(&[new], &[ours, theirs]), expected);
    }
}
