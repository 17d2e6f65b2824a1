//! The rules of a configuration as the hub needs them, to say what a grant allowed.

use crate::policy::policy::Policy;
use crate::rules::detail_match::{DetailRequirement, Part, Pattern};
use crate::rules::mode::Mode;
use crate::rules::requirement::{Check, Requirement};
use crate::rules::rule::{Effect, Rule};
use crate::uses::json_text::JsonText;
use serde::{Deserialize, Serialize};

/// The rules of one configuration, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// The hash of the configuration.
    pub config: String,
    /// The rules.
    pub rules: Vec<RuleOutline>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOutline {
    /// Its name.
    pub name: String,
    /// `require`, `anonymous` or `deny`.
    pub effect: String,
    /// The methods; empty: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The hosts; empty: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The template of the path, as it is written; absent: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The names of the captures of the path, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<String>,
    /// The scopes that it requires, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Scopes of which it requires at least one; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any_scopes: Vec<String>,
    /// The object of `authorization_details` that it requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailOutline>,
    /// What else it matches by or requires, by the names of the keys: `metadata`, `when`, `peer` and so on. A grant can
    /// be wide by its scopes and details, and narrower by these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The scope of its `break_glass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// Whether it matches gRPC requests only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grpc: bool,
    /// Whether it only records refusals.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// What a rule requires of an object of `authorization_details`. Each value is a pattern as it is written: `*`, or text in
/// which `{name}` stands for a capture of the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailOutline {
    /// `type`, exactly.
    #[serde(rename = "type")]
    pub kind: String,
    /// One of `actions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `identifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// One of `locations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// One of `datatypes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datatype: Option<String>,
    /// One of `privileges`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privilege: Option<String>,
}

/// The rules of `policy`, whose configuration has that hash.
pub fn of(policy: &Policy, config_hash: &str) -> Outline {
    let shadow = |rule: &Rule| rule.mode.unwrap_or(policy.mode(None)) == Mode::Shadow;
    let rules = policy.rules().iter().map(|rule| RuleOutline {
        shadow: shadow(rule),
        others: others(rule, policy),
        ..rule_outline(rule)
    });
    Outline { config: config_hash.to_owned(), rules: rules.collect() }
}

impl Outline {
    /// As JSON.
    pub(crate) fn text(&self) -> String {
        let mut json = JsonText::default();
        json.open('{');
        json.string_member("config", &self.config);
        json.name("rules");
        json.open('[');
        self.rules.iter().for_each(|rule| rule.write(&mut json));
        json.close(']');
        json.close('}');
        json.text
    }
}

impl RuleOutline {
    fn write(&self, json: &mut JsonText) {
        json.open('{');
        json.string_member("name", &self.name);
        json.string_member("effect", &self.effect);
        json.strings_member("methods", &self.methods);
        json.strings_member("hosts", &self.hosts);
        json.optional_member("path", self.path.as_deref());
        json.strings_member("captures", &self.captures);
        json.strings_member("scopes", &self.scopes);
        json.strings_member("any_scopes", &self.any_scopes);
        if let Some(detail) = &self.detail {
            json.name("detail");
            json.open('{');
            json.string_member("type", &detail.kind);
            json.optional_member("action", detail.action.as_deref());
            json.optional_member("identifier", detail.identifier.as_deref());
            json.optional_member("location", detail.location.as_deref());
            json.optional_member("datatype", detail.datatype.as_deref());
            json.optional_member("privilege", detail.privilege.as_deref());
            json.close('}');
        }
        json.strings_member("others", &self.others);
        json.optional_member("break_glass", self.break_glass.as_deref());
        json.flag_member("grpc", self.grpc);
        json.flag_member("shadow", self.shadow);
        json.close('}');
    }
}

fn rule_outline(rule: &Rule) -> RuleOutline {
    let (matcher, name) = (rule.matcher(), rule.name().to_owned());
    let (effect, requirement) = match rule.effect() {
        Effect::Require(requirement) => ("require", Some(requirement)),
        Effect::Anonymous => ("anonymous", None),
        Effect::Deny => ("deny", None),
    };
    let checks = requirement.map(Requirement::checks).unwrap_or_default();
    let (scopes, any_scopes) = checks
        .iter()
        .find_map(|check| match check {
            Check::Scope { all, any } => Some((all.clone(), any.clone())),
            _ => None,
        })
        .unwrap_or_default();
    let detail = checks.iter().find_map(|check| match check {
        Check::Detail(detail) => Some(detail_outline(detail, matcher.capture_names())),
        _ => None,
    });
    RuleOutline {
        name,
        effect: effect.to_owned(),
        methods: matcher.methods.clone(),
        hosts: matcher.hosts.clone(),
        path: matcher.template().map(ToString::to_string),
        captures: matcher.capture_names().to_vec(),
        scopes,
        any_scopes,
        detail,
        others: Vec::new(),
        break_glass: requirement.and_then(Requirement::break_glass).map(|glass| glass.scope().to_owned()),
        grpc: matcher.grpc,
        shadow: false,
    }
}

/// What else `rule` matches by or requires. The `state_age` that `signals.stale` gives to every rule is not its own.
fn others(rule: &Rule, policy: &Policy) -> Vec<String> {
    let mut names = Vec::new();
    if !rule.matcher().metadata.is_empty() {
        names.push("metadata");
    }
    let Effect::Require(requirement) = rule.effect() else { return names.into_iter().map(str::to_owned).collect() };
    let own = |check: &&Check| match check {
        Check::Scope { .. } | Check::Detail(_) => false,
        Check::StateAge(age) => policy.stale_after != Some(*age),
        _ => true,
    };
    names.extend(requirement.checks().iter().filter(own).map(Check::name));
    if requirement.single_use() {
        names.push("single_use");
    }
    names.into_iter().map(str::to_owned).collect()
}

fn detail_outline(detail: &DetailRequirement, names: &[String]) -> DetailOutline {
    let text = |pattern: &Option<Pattern>| pattern.as_ref().map(|pattern| written(pattern, names));
    DetailOutline {
        kind: detail.kind.clone(),
        action: text(&detail.action),
        identifier: text(&detail.identifier),
        location: text(&detail.location),
        datatype: text(&detail.datatype),
        privilege: text(&detail.privilege),
    }
}

/// A pattern as a rule writes it. `names` are those of the captures.
fn written(pattern: &Pattern, names: &[String]) -> String {
    let Pattern::Parts(parts) = pattern else { return "*".to_owned() };
    let part = |part: &Part| match part {
        Part::Literal(text) => text.clone(),
        Part::Capture(at) => format!("{{{}}}", names.get(*at).map(String::as_str).unwrap_or_default()),
    };
    parts.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    #[test]
    fn rules_are_told_as_they_are_written() {
        let config = json!({
            "mode": "shadow",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "rules": [
                {"name": "admin", "match": {"path": "/admin/{rest...}"}, "deny": true, "mode": "enforce"},
                {"name": "read", "match": {"methods": ["GET"], "hosts": ["orders.mesh"], "path": "/orders/{order}:print"},
                 "require": {"scope": "orders.read", "detail": {
                     "type": "order", "action": "*", "identifier": "order/{order}", "location": "https://orders.mesh/a"}}},
                {"name": "pay", "match": {"grpc": {"service": "a.Pay"}, "metadata": {"tier": "x"}},
                 "require": {"scope": {"any": ["pay", "pay.all"]}, "when": "has(claims.x)", "single_use": true, "state_age": "5m"},
                 "break_glass": {"scope": "glass", "lifts": ["scope"]}, "mode": "enforce"},
                {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
            ]
        });
        let policy = load(config.to_string().as_bytes()).unwrap().policy;
        let outline = of(&policy, "0011223344556677");
        let text: Value = serde_json::from_str(&outline.text()).unwrap();
        assert_eq!(text, serde_json::to_value(&outline).unwrap());
        let outline = text;
        assert_eq!(
            outline,
            json!({"config": "0011223344556677", "rules": [
                {"name": "admin", "effect": "deny", "path": "/admin/{rest...}", "captures": ["rest"]},
                {"name": "read", "effect": "require", "methods": ["GET"], "hosts": ["orders.mesh"],
                 "path": "/orders/{order}:print", "captures": ["order"], "scopes": ["orders.read"],
                 "detail": {"type": "order", "action": "*", "identifier": "order/{order}", "location": "https://orders.mesh/a"},
                 "shadow": true},
                {"name": "pay", "effect": "require", "path": "/a.Pay/{method}", "captures": ["method"],
                 "any_scopes": ["pay", "pay.all"], "others": ["metadata", "state_age", "when", "single_use"],
                 "break_glass": "glass", "grpc": true},
                {"name": "health", "effect": "anonymous", "path": "/healthz", "shadow": true}
            ]})
        );
    }
}
