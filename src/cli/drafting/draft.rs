//! A first configuration in the making, and its text.

use std::fmt::Write as _;

use crate::drafting::route::{Access, Route, Scopes};
use crate::drafting::yaml::{comment, list, scalar};

/// A first configuration: one issuer, and a rule for each route. It refuses nothing yet.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// `iss` of the tokens.
    pub issuer: String,
    /// What else is said of the issuer, in this order.
    pub settings: Vec<Setting>,
    /// The routes, in the order of their rules.
    pub routes: Vec<Route>,
    /// What Envoy needs beside it, a line each.
    pub needs: Vec<String>,
    /// What the reader must know or decide, a line each.
    pub notes: Vec<String>,
}

/// One key of the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// Its value in YAML, on one line.
    pub value: String,
    /// Why it has this value.
    pub why: Option<String>,
}

impl Draft {
    /// Sets a key of the issuer. `value` is YAML on one line.
    pub fn set(&mut self, key: &'static str, value: String, why: Option<&str>) {
        let setting = Setting { key, value, why: why.map(str::to_owned) };
        match self.settings.iter_mut().find(|known| known.key == key) {
            Some(known) => *known = setting,
            None => self.settings.push(setting),
        }
    }

    /// Whether a key of the issuer was set.
    pub fn has(&self, key: &str) -> bool {
        self.settings.iter().any(|known| known.key == key)
    }

    /// The configuration as YAML.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for line in HEAD.iter().map(|line| (*line).to_owned()).chain(self.head()) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", comment(&line).trim_end());
        }
        let _ = writeln!(text, "role: filter\nmode: shadow\n\nissuers:\n  - issuer: {}", scalar(&self.issuer));
        for Setting { key, value, why } in &self.settings {
            if let Some(why) = why {
                let _ = writeln!(text, "    {}", comment(why));
            }
            let _ = writeln!(text, "    {key}: {value}");
        }
        let _ = writeln!(text, "\n# The first rule that matches decides. What no rule matches is denied.");
        if self.routes.is_empty() {
            let _ = writeln!(text, "rules: []");
            return text;
        }
        let _ = writeln!(text, "rules:");
        for route in &self.routes {
            text.push_str(&rule(route));
        }
        text
    }

    fn head(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (title, list) in [("Envoy needs:", &self.needs), ("Look at:", &self.notes)] {
            if !list.is_empty() {
                lines.push(String::new());
                lines.push(title.to_owned());
                lines.extend(list.iter().map(|line| format!("- {line}")));
            }
        }
        lines
    }
}

/// What every draft says first.
const HEAD: [&str; 4] = [
    "A first configuration of Taskfence. It refuses nothing: with `mode: shadow` every request passes, and the log and",
    "the metrics `taskfence.shadow_denied.*` say which would have been refused, and why. When they name only requests that",
    "should be refused, remove that line. Then say what ends a grant early: `signals.hub`, see docs/hub.md.",
    "Every key is explained in docs/configuration.md.",
];

fn rule(route: &Route) -> String {
    let mut text = String::from("\n");
    if let Some(note) = &route.note {
        let _ = writeln!(text, "  {}", comment(note));
    }
    let _ = writeln!(text, "  - name: {}", scalar(&route.name));
    let mut matched = Vec::new();
    if !route.methods.is_empty() {
        matched.push(format!("methods: {}", list(&route.methods)));
    }
    if !route.hosts.is_empty() {
        matched.push(format!("hosts: {}", list(&route.hosts)));
    }
    matched.push(format!("path: {}", scalar(&route.path)));
    let _ = writeln!(text, "    match: {{{}}}", matched.join(", "));
    let _ = match &route.access {
        Access::Anonymous => writeln!(text, "    allow: anonymous"),
        Access::Token(scopes) => writeln!(text, "    require: {}", requirement(scopes)),
    };
    text
}

fn requirement(scopes: &Scopes) -> String {
    match (scopes.all.as_slice(), scopes.any.as_slice()) {
        ([], []) => "{}".to_owned(),
        ([one], []) => format!("{{scope: {}}}", scalar(one)),
        (all, []) => format!("{{scope: {{all: {}}}}}", list(all)),
        ([], any) => format!("{{scope: {{any: {}}}}}", list(any)),
        (all, any) => format!("{{scope: {{all: {}, any: {}}}}}", list(all), list(any)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::yaml::to_json;
    use serde_json::{Value, json};

    #[test]
    fn it_reads_back_as_it_was_meant() {
        let lines = ["GET /a/{id} a.read a.list", "/healthz anonymous", "PUT https://orders.mesh/b b"];
        let mut routes: Vec<Route> = lines.iter().map(|line| Route::parse(line).unwrap()).collect();
        routes[2].note = Some("two\nlines: x".to_owned());
        routes[2].access = Access::Token(Scopes { all: vec!["b".into()], any: vec!["c".into(), "no".into()] });
        let mut draft = Draft { issuer: "https://jit.example".to_owned(), routes, ..Draft::default() };
        draft.needs.push("a cluster".to_owned());
        draft.set("audiences", list(&["x", "y"]), None);
        draft.set("audiences", list(&["https://orders.mesh"]), Some("as the token says"));
        let yaml = draft.to_yaml();
        let value: Value = serde_json::from_str(&to_json(&yaml).expect(&yaml)).unwrap();
        let expected = json!({
            "role": "filter", "mode": "shadow",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"]}],
            "rules": [
                {"name": "get-a-id", "match": {"methods": ["GET"], "path": "/a/{id}"}, "require": {"scope": {"all": ["a.read", "a.list"]}}},
                {"name": "healthz", "match": {"path": "/healthz"}, "allow": "anonymous"},
                {"name": "put-b", "match": {"methods": ["PUT"], "hosts": ["orders.mesh"], "path": "/b"},
                    "require": {"scope": {"all": ["b"], "any": ["c", "no"]}}},
            ],
        });
        assert_eq!(value, expected, "{yaml}");
        assert!(yaml.contains("# - a cluster\n") && yaml.contains("  # two lines: x\n"), "{yaml}");
    }
}
