//! One service: what is its own, and the configuration of its filter.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use taskfence_core::config::load;
use taskfence_core::config::problem::Problem;

use crate::input::document;
use crate::rendering::base::Base;
use crate::rendering::{merge, variables};

/// The longest name of a service or namespace (RFC 1123), with room for what resources put before it.
const MAX_NAME: usize = 53;

/// What is a service's own, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The name. Resources are called `taskfence-NAME`.
    pub service: String,
    /// The namespace. Default: `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The labels of its pods. Default: `app: NAME`. With Istio, and without `target`.
    #[serde(default)]
    pub selector: Option<BTreeMap<String, String>>,
    /// The gateway, waypoint or route that the filter runs at.
    #[serde(default)]
    pub target: Option<Target>,
    /// Its rules.
    pub rules: Vec<Value>,
    /// What replaces parts of the shared configuration, as a merge patch (RFC 7396).
    #[serde(default)]
    pub configuration: Map<String, Value>,
    /// Texts for `${NAME}`.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
}

/// A resource that a filter is attached to, in the namespace of the service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `Gateway`, `Service` (of a waypoint), `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// A listener of a gateway, or a rule of a route. With Envoy Gateway alone.
    #[serde(default)]
    pub section: Option<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Service {
    /// Reads the file of a service, in YAML or JSON.
    pub fn read(text: &[u8]) -> Result<Service, Vec<Problem>> {
        let one = |problem| vec![problem];
        let json = document::to_json(text, "the service").map_err(one)?;
        let service: Service = load::parse(&json, "the service").map_err(one)?;
        let mut problems = Vec::new();
        for (path, name) in [("service", &service.service), ("namespace", &service.namespace)] {
            if !is_label(name) {
                let help = format!("use at most {MAX_NAME} lower-case letters, digits and `-`");
                problems.push(Problem::at(path, format!("`{name}` is no name of a resource")).help(help));
            }
        }
        if service.configuration.contains_key("rules") {
            let help = "write them under `rules`";
            problems.push(Problem::at("configuration.rules", "is not where rules stand").help(help));
        }
        if service.selector.is_some() && service.target.is_some() {
            let help = "keep `selector` for pods, or `target` for a gateway, waypoint or route";
            problems.push(Problem::at("selector", "stands beside `target`").help(help));
        }
        if problems.is_empty() { Ok(service) } else { Err(problems) }
    }

    /// `NAMESPACE/NAME`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.service)
    }

    /// The configuration of its filter.
    pub fn configuration(&self, base: &Base) -> Result<Map<String, Value>, Vec<Problem>> {
        let mut values = base.vars.clone();
        values.extend(self.vars.clone());
        values.insert("service".to_owned(), self.service.clone());
        values.insert("namespace".to_owned(), self.namespace.clone());
        let mut whole = Value::Object(base.configuration.clone());
        merge::patch(&mut whole, &Value::Object(self.configuration.clone()));
        let rules = base.rules.first.iter().chain(&self.rules).chain(&base.rules.last);
        let rules = Value::Array(rules.cloned().collect());
        let mut problems = Vec::new();
        variables::fill(&mut whole, &values, "", &mut problems);
        if let Value::Object(members) = &mut whole {
            // The braces of rules are captures: these stay as they are.
            members.insert("rules".to_owned(), rules);
        }
        match whole {
            Value::Object(members) if problems.is_empty() => Ok(members),
            _ => Err(problems),
        }
    }
}

/// A label of DNS (RFC 1123), short enough.
fn is_label(name: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = name.bytes().next().zip(name.bytes().last());
    let is_bounded = ends.is_some_and(|(first, last)| first != b'-' && last != b'-');
    is_bounded && name.len() <= MAX_NAME && name.bytes().all(may_be)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base(text: &str) -> Base {
        Base::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_service_stands_between_the_shared_rules() {
        let base = base(
            "
platform: plain
vars: {zone: mesh.example}
configuration:
  mode: enforce
  issuers: [{issuer: https://jit.example, audiences: ['https://${service}.${namespace}.${zone}']}]
rules: {first: [{name: a}], last: [{name: z}]}
",
        );
        let text = "
service: orders
namespace: shop
configuration: {mode: shadow, max_age: 1}
rules: [{name: read, match: {path: '/v1/orders/{order}'}}]
";
        let service = Service::read(text.as_bytes()).unwrap();
        let expected = json!({
            "mode": "shadow", "max_age": 1,
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.shop.mesh.example"]}],
            "rules": [{"name": "a"}, {"name": "read", "match": {"path": "/v1/orders/{order}"}}, {"name": "z"}],
        });
        assert_eq!(Value::Object(service.configuration(&base).unwrap()), expected);
    }

    #[test]
    fn a_name_that_nobody_gave_is_an_error_with_its_place() {
        let base = base("platform: plain\nconfiguration: {issuers: [{audiences: ['https://${servce}']}]}\n");
        let service = Service::read(b"service: orders\nrules: []\n").unwrap();
        let problems = service.configuration(&base).unwrap_err();
        assert_eq!(problems[0].path, "issuers[0].audiences[0]");
        assert!(problems[0].help.as_deref().unwrap().contains("service"), "{problems:?}");
    }

    #[test]
    fn what_is_wrong_with_a_service_is_named() {
        let paths = |text: &str| {
            let problems = Service::read(text.as_bytes()).map(drop).unwrap_err();
            problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert_eq!(paths("service: Orders\nnamespace: '-'\nrules: []\n"), ["service", "namespace"]);
        assert_eq!(paths("service: a\nrules: []\nconfiguration: {rules: []}\n"), ["configuration.rules"]);
        let both = "service: a\nrules: []\nselector: {app: a}\ntarget: {kind: Gateway, name: g}\n";
        assert_eq!(paths(both), ["selector"]);
        assert!(!is_label(&"a".repeat(54)) && is_label(&"a".repeat(53)) && !is_label("a.b"));
    }
}
