//! A WebAssembly plugin of ours in a configuration of Envoy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use taskfence_core::policy::policy::Role;

use super::Node;

/// A plugin of ours: `envoy.extensions.wasm.v3.PluginConfig`.
#[derive(Debug)]
pub struct Plugin<'e> {
    /// The plugin.
    pub node: Node<'e>,
    /// The path of its configuration in the file.
    pub place: String,
    /// Its configuration.
    pub text: Text,
}

/// The configuration of a plugin, as Envoy gives it to the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// This text.
    Known(String),
    /// A message that cannot be read here: the name of its type.
    Unknown(String),
}

impl<'e> Plugin<'e> {
    /// Reads `node`. `None` if it is no plugin, or does not look like one of ours.
    pub fn read(node: &Node<'e>) -> Option<Self> {
        let (place, text) = match node.get("configuration") {
            Some(configuration) => text_of(&configuration)?,
            None => (join(&node.place, "configuration"), Text::Known(String::new())),
        };
        let plugin = Self { node: node.clone(), place, text };
        (plugin.has_our_text() || plugin.has_our_name()).then_some(plugin)
    }

    /// Its `vm_id`. Plugins with the same `vm_id` share the pushed state.
    pub fn vm_id(&self) -> &'e str {
        self.node.get("vm_config").and_then(|vm| vm.text("vm_id")).unwrap_or_default()
    }

    /// Its role. A text that cannot be read counts as [`Role::Filter`].
    pub fn role(&self) -> Role {
        match self.json().as_ref().and_then(|json| json.get("role")?.as_str()) {
            Some("receiver") => Role::Receiver,
            _ => Role::Filter,
        }
    }

    /// Whether its text names transmitters of signals.
    pub fn takes_signals(&self) -> bool {
        self.json().is_some_and(|json| json.get("signals").is_some_and(|signals| !signals.is_null()))
    }

    /// Its text, if it is JSON.
    pub fn json(&self) -> Option<Value> {
        match &self.text {
            Text::Known(text) => serde_json::from_str(text).ok(),
            Text::Unknown(_) => None,
        }
    }

    /// Whether the text has keys of our configuration. A text with errors can be one of ours too.
    fn has_our_text(&self) -> bool {
        let Text::Known(text) = &self.text else { return false };
        let keys = ["issuers", "rules", "signals"];
        let as_json = keys.iter().any(|key| text.contains(&format!("\"{key}\"")));
        let as_yaml = keys.iter().any(|key| text.lines().any(|line| line.starts_with(&format!("{key}:"))));
        as_json || as_yaml
    }

    fn has_our_name(&self) -> bool {
        let Some(vm) = self.node.get("vm_config") else { return false };
        let code = vm.get("code");
        let local = code.as_ref().and_then(|code| code.get("local")?.text("filename"));
        let remote = code.as_ref().and_then(|code| code.get("remote")?.get("http_uri")?.text("uri"));
        let names = [self.node.text("name"), vm.text("vm_id"), local, remote];
        names.into_iter().flatten().any(|name| name.to_ascii_lowercase().contains("taskfence"))
    }
}

/// What Envoy gives to a plugin for this `google.protobuf.Any`: the text of a StringValue or a BytesValue unchanged, a
/// Struct as JSON.
fn text_of(configuration: &Node<'_>) -> Option<(String, Text)> {
    let (kind, _) = configuration.typed()?;
    let value = configuration.get("value");
    let place = join(&configuration.place, "value");
    let text = value.as_ref().and_then(|value| value.value().as_str()).unwrap_or_default();
    let text = match kind {
        "google.protobuf.StringValue" => Text::Known(text.to_owned()),
        "google.protobuf.Struct" => Text::Known(value.map(|value| value.value().to_string()).unwrap_or_default()),
        "google.protobuf.BytesValue" => {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            bytes.map_or_else(|| Text::Unknown(kind.to_owned()), Text::Known)
        }
        other => Text::Unknown(other.to_owned()),
    };
    Some((place, text))
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::Envoy;
    use serde_json::json;

    fn plugin(name: &str, kind: &str, value: Value) -> Value {
        let kind = format!("type.googleapis.com/google.protobuf.{kind}");
        json!({"name": name, "vm_config": {"vm_id": "v"}, "configuration": {"@type": kind, "value": value}})
    }

    #[test]
    fn ours_are_found_wherever_they_stand() {
        let file = json!({"static_resources": {"listeners": [
            plugin("", "StringValue", json!(r#"{"issuers":[]}"#)),
            plugin("other", "StringValue", json!("{}")),
            {"a": plugin("", "StringValue", json!(r#"{"rules":1"#))},
            plugin("", "StringValue", json!("role: filter\nissuers: []\n")),
            plugin("", "Struct", json!({"issuers": []})),
            plugin("", "BytesValue", json!(STANDARD.encode(r#"{"issuers":[]}"#))),
            plugin("taskfence-filter", "StringValue", json!("")),
            {"name": "taskfence", "vmConfig": {"vmId": "taskfence.v1"}},
        ]}});
        assert!(Envoy::is_one(&file) && !Envoy::is_one(&json!({"issuers": []})));
        let envoy = Envoy::read(&file);
        let places: Vec<&str> = envoy.plugins.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "static_resources.listeners[0].configuration.value",
                "static_resources.listeners[2].a.configuration.value",
                "static_resources.listeners[3].configuration.value",
                "static_resources.listeners[4].configuration.value",
                "static_resources.listeners[5].configuration.value",
                "static_resources.listeners[6].configuration.value",
                "static_resources.listeners[7].configuration",
            ]
        );
        assert_eq!(envoy.plugins[4].text, Text::Known(r#"{"issuers":[]}"#.to_owned()));
        assert_eq!(envoy.plugins[6].vm_id(), "taskfence.v1");
    }
}
