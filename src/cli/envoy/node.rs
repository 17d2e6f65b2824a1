//! A value in a configuration of Envoy and the place where it stands.
//!
//! Envoy reads protobuf's JSON: a field may be written as `vm_config` or as `vmConfig`, and `null` means that it is
//! missing.

use serde_json::Value;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node<'e> {
    value: &'e Value,
    /// Such as `static_resources.listeners[0].name`; empty for the whole file.
    pub place: String,
}

impl<'e> Node<'e> {
    /// The whole file.
    pub fn root(value: &'e Value) -> Self {
        Self { value, place: String::new() }
    }

    /// The value itself.
    pub fn value(&self) -> &'e Value {
        self.value
    }

    /// The field of that name, which is in `snake_case`.
    pub fn get(&self, name: &str) -> Option<Self> {
        let members = self.value.as_object()?;
        let camel = lower_camel(name);
        let mut written = [name, &camel].into_iter().filter_map(|name| members.get_key_value(name));
        let (name, value) = written.find(|(_, value)| !value.is_null())?;
        Some(self.member(name, value))
    }

    /// The items of the list of that name.
    pub fn items(&self, name: &str) -> Vec<Self> {
        self.get(name).map(|list| list.children()).unwrap_or_default()
    }

    /// The text of that name.
    pub fn text(&self, name: &str) -> Option<&'e str> {
        self.get(name)?.value.as_str()
    }

    /// Whether the truth value of that name is there and `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|flag| flag.value == &Value::Bool(true))
    }

    /// The members of a map, or the items of a list. Empty for any other value.
    pub fn children(&self) -> Vec<Self> {
        match self.value {
            Value::Array(items) => {
                let place = |at: usize| format!("{}[{at}]", self.place);
                items.iter().enumerate().map(|(at, value)| Self { value, place: place(at) }).collect()
            }
            Value::Object(members) => members.iter().map(|(name, value)| self.member(name, value)).collect(),
            _ => Vec::new(),
        }
    }

    /// The name of the type of a `google.protobuf.Any`, and its value. A `TypedStruct` gives the type and value inside
    /// it.
    pub fn typed(&self) -> Option<(&'e str, Self)> {
        let kind = type_name(self.text("@type")?);
        if kind.ends_with(".TypedStruct") {
            return Some((type_name(self.text("type_url")?), self.get("value")?));
        }
        Some((kind, self.clone()))
    }

    /// This value and all values in it. A value comes before the values that it contains.
    pub fn descendants(&self) -> Vec<Self> {
        let mut all = vec![self.clone()];
        for child in self.children() {
            all.extend(child.descendants());
        }
        all
    }

    fn member(&self, name: &str, value: &'e Value) -> Self {
        let place = if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) };
        Self { value, place }
    }
}

/// `envoy.x.v3.Y` of `type.googleapis.com/envoy.x.v3.Y`.
fn type_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

fn lower_camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_found_in_either_spelling() {
        let value = json!({"vm_config": {"vmId": "v"}, "failurePolicy": null, "list": [{"isOptional": true}]});
        let root = Node::root(&value);
        let vm = root.get("vm_config").unwrap();
        assert_eq!((vm.text("vm_id"), vm.get("vm_id").unwrap().place), (Some("v"), "vm_config.vmId".to_owned()));
        assert!(root.get("failure_policy").is_none());
        let item = &root.items("list")[0];
        assert!(item.is_true("is_optional"));
        assert_eq!(item.place, "list[0]");
        assert_eq!(root.descendants().len(), 7);
    }

    #[test]
    fn an_any_is_opened() {
        let plain = json!({"@type": "type.googleapis.com/envoy.x.v3.Y", "a": 1});
        let (kind, node) = Node::root(&plain).typed().unwrap();
        assert_eq!((kind, node.get("a").unwrap().value()), ("envoy.x.v3.Y", &json!(1)));
        let wrapped = json!({"@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": "type.googleapis.com/envoy.x.v3.Y", "value": {"a": 1}});
        let (kind, node) = Node::root(&wrapped).typed().unwrap();
        assert_eq!((kind, node.get("a").unwrap().place), ("envoy.x.v3.Y", "value.a".to_owned()));
        assert!(Node::root(&json!({"a": 1})).typed().is_none());
    }
}
