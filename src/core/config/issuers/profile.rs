//! Profiles: defaults of an entry of `issuers`, for issuers whose tokens do not look like RFC 9068.
//!
//! A profile is a part of a configuration. What the entry itself says counts instead; `claims` and `where` are taken key
//! by key.

use serde::Deserialize;
use serde_json::{Map, Value};

/// An issuer that many use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Keycloak.
    Keycloak,
}

/// The defaults of each profile, in JSON.
const PROFILES: [(&str, &str); 1] =
    [("keycloak", r#"{"types": ["JWT"], "where": {"typ": "Bearer"}, "claims": {"client": "azp", "task": "none"}}"#)];

/// `config` with the defaults of the profiles that its issuers name; `None` if they name none.
pub(crate) fn with_defaults(config: &Value) -> Option<Value> {
    let issuers = config.get("issuers")?.as_array()?;
    if !issuers.iter().any(|issuer| issuer.get("profile").is_some()) {
        return None;
    }
    let mut config = config.clone();
    for issuer in config.get_mut("issuers")?.as_array_mut()? {
        let defaults = issuer.get("profile").and_then(Value::as_str).and_then(defaults);
        if let (Some(defaults), Some(issuer)) = (defaults, issuer.as_object_mut()) {
            add(issuer, defaults);
        }
    }
    Some(config)
}

fn defaults(profile: &str) -> Option<Map<String, Value>> {
    let (_, text) = PROFILES.iter().find(|(name, _)| *name == profile)?;
    serde_json::from_str(text).ok()
}

/// Adds to `members` what they lack of `defaults`, also inside `claims` and `where`.
fn add(members: &mut Map<String, Value>, defaults: Map<String, Value>) {
    for (name, default) in defaults {
        match (members.get_mut(&name), default) {
            (None, default) => drop(members.insert(name, default)),
            (Some(Value::Object(inner)), Value::Object(default)) if matches!(name.as_str(), "claims" | "where") => {
                add(inner, default);
            }
            (Some(_), _) => {}
        }
    }
}
