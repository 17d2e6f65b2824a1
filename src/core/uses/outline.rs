//! The rules of a configuration as the hub needs them, to say what a grant allowed.

use crate::policy::policy::Policy;
use crate::rules::detail_match::{DetailRequirement, Part, Pattern};
use crate::rules::mode::Mode;
use crate::rules::requirement::Check;
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
pub fn of(policy: &Policy, config_hash: &str) -> Option<Outline> {
    serde_json::from_str(&text(policy, config_hash)).ok()
}

/// [`Outline`] of `policy`, whose configuration has that hash, as JSON.
pub fn text(policy: &Policy, config_hash: &str) -> String {
    let mut json = JsonText::default();
    json.open('{');
    json.string_member("config", config_hash);
    json.name("rules");
    json.open('[');
    for rule in policy.rules() {
        let is_shadow = rule.mode.unwrap_or(policy.mode(None)) == Mode::Shadow;
        write_rule(&mut json, rule, policy, is_shadow);
    }
    json.close(']');
    json.close('}');
    json.text
}

/// [`RuleOutline`].
fn write_rule(json: &mut JsonText, rule: &Rule, policy: &Policy, is_shadow: bool) {
    let matcher = rule.matcher();
    let (effect, checks) = match rule.effect() {
        Effect::Require(requirement) => ("require", requirement.checks()),
        Effect::Anonymous => ("anonymous", &[][..]),
        Effect::Deny => ("deny", &[][..]),
    };
    json.open('{');
    json.string_member("name", rule.name());
    json.string_member("effect", effect);
    json.strings_member("methods", &matcher.methods);
    json.strings_member("hosts", &matcher.hosts);
    json.optional_member("path", matcher.template().map(ToString::to_string).as_deref());
    json.strings_member("captures", matcher.capture_names());
    // A rule has one check of each kind at the most.
    for check in checks {
        match check {
            Check::Scope { all, any } => {
                json.strings_member("scopes", all);
                json.strings_member("any_scopes", any);
            }
            Check::Detail(detail) => write_detail(json, detail, matcher.capture_names()),
            _ => {}
        }
    }
    json.strings_member("others", &others(rule, policy));
    if let Effect::Require(requirement) = rule.effect() {
        json.optional_member("break_glass", requirement.break_glass().map(|glass| glass.scope()));
    }
    json.flag_member("grpc", matcher.grpc);
    json.flag_member("shadow", is_shadow);
    json.close('}');
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

/// [`DetailOutline`].
fn write_detail(json: &mut JsonText, detail: &DetailRequirement, names: &[String]) {
    json.name("detail");
    json.open('{');
    json.string_member("type", &detail.kind);
    for (name, pattern) in [
        ("action", &detail.action),
        ("identifier", &detail.identifier),
        ("location", &detail.location),
        ("datatype", &detail.datatype),
        ("privilege", &detail.privilege),
    ] {
        if let Some(pattern) = pattern {
            json.string_member(name, &written(pattern, names));
        }
    }
    json.close('}');
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
            "signals": {"transmitters": [{"issuer": "https://jit.example", "audience": "us", "keys": {"inline": fixture::jwks()}}]},
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
            ],
            "signals": {"transmitters": [{"issuer": "https://idp.example", "audience": "a",
                "keys": {"inline": fixture::jwks()}, "subjects": ["https://jit.example"]}]}
        });
        let policy = load(config.to_string().as_bytes()).unwrap().policy;
        let outline: Value = serde_json::from_str(&text(&policy, "0011223344556677")).unwrap();
        let read = of(&policy, "0011223344556677").unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), outline, "nothing is lost when it is read");
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
