//! What the issuers grant, and the rules that ask for something that is not in it: no grant can ever satisfy them.

use serde::Deserialize;
use serde_json::Value;
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;

/// What the issuers grant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Scope values. A `*` at the end stands for any rest.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Objects of `authorization_details` (RFC 9396).
    #[serde(default)]
    pub details: Vec<Detail>,
}

/// What objects of one `type` have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// `type`.
    pub r#type: String,
    /// All `actions`; without it, any.
    #[serde(default)]
    pub actions: Option<Vec<String>>,
    /// All `locations`; without it, any.
    #[serde(default)]
    pub locations: Option<Vec<String>>,
    /// All `datatypes`; without it, any.
    #[serde(default)]
    pub datatypes: Option<Vec<String>>,
    /// All `privileges`; without it, any.
    #[serde(default)]
    pub privileges: Option<Vec<String>>,
}

impl Catalogue {
    /// The rules, at `rules[N]`, that no grant can satisfy.
    pub fn misses(&self, rules: &[Value]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let Some(require) = rule.get("require") else { continue };
            let place = format!("rules[{at}].require");
            self.check_scope(require.get("scope"), &place, &mut problems);
            if let Some(detail) = require.get("detail") {
                self.check_detail(detail, &place, &mut problems);
            }
        }
        problems
    }

    fn check_scope(&self, scope: Option<&Value>, place: &str, problems: &mut Vec<Problem>) {
        let texts = |value: Option<&Value>| -> Vec<String> {
            let items = value.and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (all, any) = match scope {
            Some(Value::String(text)) => (text.split(' ').map(str::to_owned).collect(), Vec::new()),
            Some(object) => (texts(object.get("all")), texts(object.get("any"))),
            None => return,
        };
        for value in all.iter().filter(|value| !self.has_scope(value)) {
            problems.push(self.lacks("scope", value, self.scopes.iter().map(String::as_str), place));
        }
        if !any.is_empty() && !any.iter().any(|value| self.has_scope(value)) {
            let message = format!("no issuer grants any of `{}`", any.join("`, `"));
            problems.push(Problem::at(format!("{place}.scope.any"), message).help(HELP));
        }
    }

    fn has_scope(&self, value: &str) -> bool {
        let fits = |known: &String| match known.strip_suffix('*') {
            Some(begin) => value.starts_with(begin),
            None => known == value,
        };
        self.scopes.iter().any(fits)
    }

    fn check_detail(&self, detail: &Value, place: &str, problems: &mut Vec<Problem>) {
        let text = |name: &str| detail.get(name).and_then(Value::as_str);
        let Some(wanted) = text("type") else { return };
        let of_type: Vec<&Detail> = self.details.iter().filter(|known| known.r#type == wanted).collect();
        if of_type.is_empty() {
            let known = self.details.iter().map(|known| known.r#type.as_str());
            problems.push(self.lacks("detail.type", wanted, known, place));
            return;
        }
        let allows = |known: &Detail, name: &str, value: &str| {
            let list = match name {
                "action" => &known.actions,
                "location" => &known.locations,
                "datatype" => &known.datatypes,
                _ => &known.privileges,
            };
            // A capture or `*` stands for any value.
            list.as_ref().is_none_or(|list| value == "*" || value.contains('{') || list.iter().any(|one| one == value))
        };
        let asked: Vec<(&str, &str)> = ["action", "location", "datatype", "privilege"]
            .into_iter()
            .filter_map(|name| Some((name, text(name)?)))
            .collect();
        if !of_type.iter().any(|known| asked.iter().all(|(name, value)| allows(known, name, value))) {
            let asked: Vec<_> = asked.iter().map(|(name, value)| format!("{name} `{value}`")).collect();
            let message = format!("no issuer grants `{wanted}` with {}", asked.join(" and "));
            problems.push(Problem::at(format!("{place}.detail"), message).help(HELP));
        }
    }

    fn lacks<'k>(&self, what: &str, value: &str, known: impl Iterator<Item = &'k str>, place: &str) -> Problem {
        let problem = Problem::at(format!("{place}.{what}"), format!("no issuer grants `{value}`"));
        match nearest(value, known) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(HELP),
        }
    }
}

/// What to do about a rule that nothing satisfies.
const HELP: &str = "add it to `grants` of the base, or ask for what is there";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_grants_is_found() {
        let catalogue: Catalogue = serde_json::from_value(json!({
            "scopes": ["orders.read", "reports.*"],
            "details": [{"type": "order", "actions": ["read", "refund"]}, {"type": "file"}],
        }))
        .unwrap();
        let rule = |require: Value| json!({"name": "a", "match": {}, "require": require});
        let good = [
            json!({"scope": "orders.read reports.daily"}),
            json!({"scope": {"any": ["nothing", "orders.read"]}}),
            json!({"detail": {"type": "order", "action": "refund", "identifier": "{order}"}}),
            json!({"detail": {"type": "order", "action": "{verb}"}}),
            json!({"detail": {"type": "file", "action": "whatever", "location": "x"}}),
            json!({"acr": ["urn:mfa"]}),
        ];
        assert!(catalogue.misses(&good.map(rule)).is_empty());
        let bad = [
            (json!({"scope": "orders.raed"}), "rules[0].require.scope", "orders.read"),
            (json!({"scope": {"all": ["x"]}}), "rules[0].require.scope", "grants"),
            (json!({"scope": {"any": ["x", "y"]}}), "rules[0].require.scope.any", "grants"),
            (json!({"detail": {"type": "ordre"}}), "rules[0].require.detail.type", "order"),
            (json!({"detail": {"type": "order", "action": "delete"}}), "rules[0].require.detail", "grants"),
        ];
        for (require, path, help) in bad {
            let problems = catalogue.misses(&[rule(require.clone())]);
            assert_eq!(problems.len(), 1, "{require}");
            assert_eq!(problems[0].path, path, "{require}");
            assert!(problems[0].help.as_deref().unwrap().contains(help), "{require}: {problems:?}");
        }
        assert!(catalogue.misses(&[json!({"allow": "anonymous"})]).is_empty());
    }
}
