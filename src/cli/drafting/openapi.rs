//! Reads the routes of a service from an OpenAPI document: 3.0, 3.1 and 3.2, and its predecessor Swagger 2.0.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use taskfence_core::config::problem::Problem;

use crate::drafting::route::{Access, Route, Scopes, name_of, slug};

/// The fixed members of a path item that are operations.
const METHODS: [&str; 9] = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];

/// How many references to path items may follow one another.
const MAX_REFERENCES: usize = 8;

/// The routes of `document`, in its order, or all that is wrong with it.
pub fn routes(document: &Value) -> Result<Vec<Route>, Vec<Problem>> {
    let document = Document::new(document).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut routes = Vec::new();
    for (path, item) in document.paths.iter().filter(|(path, _)| path.starts_with('/')) {
        match document.path_item(path, item) {
            Ok(item) => routes.extend(document.routes_of(path, item)),
            Err(problem) => problems.push(problem),
        }
    }
    if routes.is_empty() && problems.is_empty() {
        problems.push(Problem::at("paths", "has no operation"));
    }
    if problems.is_empty() { Ok(routes) } else { Err(problems) }
}

/// An OpenAPI document.
struct Document<'a> {
    root: &'a Value,
    is_swagger: bool,
    paths: &'a Map<String, Value>,
}

impl<'a> Document<'a> {
    fn new(root: &'a Value) -> Result<Document<'a>, Problem> {
        let version = |name| root.get(name).and_then(Value::as_str);
        let is_swagger = match (version("openapi"), version("swagger")) {
            (Some(version), _) if version.starts_with("3.") => false,
            (None, Some(version)) if version.starts_with("2.") => true,
            _ => {
                let problem = Problem::at("", "is no OpenAPI document of a version that is known");
                return Err(problem.help("it begins with `openapi: 3.x` or `swagger: \"2.0\"`"));
            }
        };
        let paths = root.get("paths").and_then(Value::as_object);
        let paths = paths.ok_or_else(|| Problem::at("paths", "is missing, so there are no routes"))?;
        Ok(Document { root, is_swagger, paths })
    }

    /// The path item itself, where `item` may be a reference to it.
    fn path_item(&self, path: &str, item: &'a Value) -> Result<&'a Value, Problem> {
        let place = format!("paths.{path}");
        let mut item = item;
        for _ in 0..MAX_REFERENCES {
            let Some(reference) = item.get("$ref").and_then(Value::as_str) else { return Ok(item) };
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            item = target.ok_or_else(|| {
                let message = format!("the reference `{reference}` leads out of this document");
                Problem::at(&place, message).help("bundle the document into one file first")
            })?;
        }
        Err(Problem::at(place, "references lead in a circle"))
    }

    fn routes_of(&self, path: &str, item: &'a Value) -> Vec<Route> {
        let fixed = METHODS.iter().filter_map(|method| Some(((*method).to_owned(), item.get(*method)?)));
        let other = item.get("additionalOperations").and_then(Value::as_object);
        let other = other.into_iter().flatten().map(|(method, operation)| (method.clone(), operation));
        fixed.chain(other).map(|(method, operation)| self.route(path, item, &method, operation)).collect()
    }

    fn route(&self, path: &str, item: &Value, method: &str, operation: &Value) -> Route {
        let (host, base) = self.server(item, operation);
        let methods = vec![method.to_ascii_uppercase()];
        let path = format!("{base}{}", template(path));
        let id = operation.get("operationId").and_then(Value::as_str).map(slug);
        let (access, note) = self.access(operation);
        let name = id.unwrap_or_else(|| name_of(&methods, &path));
        Route { name, methods, hosts: host.into_iter().collect(), path, access, note, is_wider: false }
    }

    /// The host and the path of the first server that the operation, its path or the document names.
    fn server(&self, item: &Value, operation: &Value) -> (Option<String>, String) {
        if self.is_swagger {
            let text = |name| self.root.get(name).and_then(Value::as_str);
            return (text("host").map(host_name), base_path(text("basePath").unwrap_or_default()));
        }
        let servers = [operation, item, self.root].into_iter().find_map(|place| place.get("servers")?.get(0));
        let url = servers.map(expanded).unwrap_or_default();
        match url.split_once("://") {
            None => (None, base_path(&url)),
            Some((_, rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (Some(host_name(host)), base_path(path))
            }
        }
    }

    /// What the security requirements of the operation mean: one of them must be met.
    fn access(&self, operation: &Value) -> (Access, Option<String>) {
        let own = operation.get("security").or_else(|| self.root.get("security")).and_then(Value::as_array);
        let Some(requirements) = own else {
            let note = "the document says nothing about its security";
            return (Access::Token(Scopes::default()), Some(note.to_owned()));
        };
        if requirements.is_empty() {
            return (Access::Anonymous, None);
        }
        let asked: Vec<&Map<String, Value>> = requirements.iter().filter_map(Value::as_object).collect();
        let needed: Vec<_> = asked.iter().filter(|needs| !needs.is_empty()).map(|needs| self.scopes(needs)).collect();
        if needed.is_empty() && asked.len() == requirements.len() {
            return (Access::Anonymous, None);
        }
        if needed.is_empty() {
            let note = "what the document says about its security is no list of requirements";
            return (Access::Token(Scopes::default()), Some(note.to_owned()));
        }
        let is_optional = asked.iter().any(|needs| needs.is_empty());
        let optional = is_optional.then(|| "the document lets callers without a token in as well".to_owned());
        let (scopes, note) = either(&needed);
        (Access::Token(scopes), optional.or(note))
    }

    /// The scope values that one requirement needs.
    fn scopes(&self, requirement: &Map<String, Value>) -> BTreeSet<String> {
        let schemes = if self.is_swagger { "/securityDefinitions" } else { "/components/securitySchemes" };
        let schemes = self.root.pointer(schemes);
        let mut scopes = BTreeSet::new();
        for (name, values) in requirement {
            let kind = schemes.and_then(|schemes| schemes.get(name)?.get("type")?.as_str());
            // A scheme that is not known, such as one behind a reference, may have scope values.
            if !matches!(kind, Some("apiKey" | "mutualTLS" | "basic")) {
                let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
                scopes.extend(values.map(str::to_owned));
            }
        }
        scopes
    }
}

/// What meets one of several requirements, as far as a rule can say it, and what it cannot say.
fn either(needed: &[BTreeSet<String>]) -> (Scopes, Option<String>) {
    let Some((first, others)) = needed.split_first() else { return (Scopes::default(), None) };
    let all: BTreeSet<String> =
        first.iter().filter(|scope| others.iter().all(|o| o.contains(*scope))).cloned().collect();
    let rests: Vec<Vec<&String>> = needed.iter().map(|one| one.difference(&all).collect()).collect();
    if rests.iter().any(Vec::is_empty) {
        return (Scopes { all: all.into_iter().collect(), any: Vec::new() }, None);
    }
    if rests.iter().all(|rest| rest.len() == 1) {
        let any: BTreeSet<String> = rests.into_iter().flatten().cloned().collect();
        return (Scopes { all: all.into_iter().collect(), any: any.into_iter().collect() }, None);
    }
    let words: Vec<String> = others.iter().map(|one| one.iter().cloned().collect::<Vec<_>>().join(" ")).collect();
    let note = format!("the document accepts instead: {}", words.join("; or "));
    (Scopes { all: first.iter().cloned().collect(), any: Vec::new() }, Some(note))
}

/// The URL of a server, with the default of each of its variables.
fn expanded(server: &Value) -> String {
    let mut url = server.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
        let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), default);
    }
    url
}

/// Without its port: rules compare hosts without one.
fn host_name(host: &str) -> String {
    let name = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or(host) };
    name.to_ascii_lowercase()
}

fn base_path(path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() { String::new() } else { format!("/{path}") }
}

/// A path of OpenAPI as a rule writes it: names of captures are letters, digits and `_`.
fn template(path: &str) -> String {
    let mut template = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        template.push_str(before);
        template.push('{');
        template.push_str(&capture_name(name));
        template.push('}');
        rest = after;
    }
    template + rest
}

fn capture_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("p{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(more: Value) -> Value {
        let mut document = json!({
            "openapi": "3.1.0",
            "servers": [{"url": "https://{stage}.orders.mesh:8443/v1/", "variables": {"stage": {"default": "api"}}}],
            "components": {"securitySchemes": {
                "oauth": {"type": "oauth2"}, "oidc": {"type": "openIdConnect"}, "key": {"type": "apiKey"},
            }},
            "security": [{"oauth": ["orders.read"]}],
        });
        for (name, value) in more.as_object().unwrap() {
            document[name] = value.clone();
        }
        document
    }

    fn scopes(security: Value) -> (Scopes, Option<String>) {
        let document = document(json!({"paths": {"/a": {"get": {"security": security}}}}));
        let route = routes(&document).unwrap().remove(0);
        match route.access {
            Access::Token(scopes) => (scopes, route.note),
            Access::Anonymous => panic!("anonymous"),
        }
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_operation_is_a_route() {
        let paths = json!({"/orders/{order-id}:cancel": {
            "parameters": [], "summary": "s",
            "get": {"operationId": "getOrder"},
            "post": {"security": []},
            "additionalOperations": {"LINK": {"servers": [{"url": "/v2"}]}},
        }, "x-internal": {"get": {}}});
        let found = routes(&document(json!({"paths": paths}))).unwrap();
        let shown: Vec<_> =
            found.iter().map(|r| (r.name.as_str(), r.methods.join(","), r.hosts.join(","), r.path.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("get-order", "GET".into(), "api.orders.mesh".into(), "/v1/orders/{order_id}:cancel"),
                (
                    "post-v1-orders-order-id-cancel",
                    "POST".into(),
                    "api.orders.mesh".into(),
                    "/v1/orders/{order_id}:cancel"
                ),
                ("link-v2-orders-order-id-cancel", "LINK".into(), String::new(), "/v2/orders/{order_id}:cancel"),
            ]
        );
        let read = Access::Token(Scopes { all: words(&["orders.read"]), any: vec![] });
        let access: Vec<&Access> = found.iter().map(|route| &route.access).collect();
        assert_eq!(access, [&read, &Access::Anonymous, &read]);
    }

    #[test]
    fn one_of_the_requirements_must_be_met() {
        let (both, _) = scopes(json!([{"oauth": ["a"], "oidc": ["b"], "key": ["c"]}]));
        assert_eq!(both, Scopes { all: words(&["a", "b"]), any: vec![] });
        let (either, _) = scopes(json!([{"oauth": ["a", "b"]}, {"oauth": ["a", "c"]}]));
        assert_eq!(either, Scopes { all: words(&["a"]), any: words(&["b", "c"]) });
        let (less, note) = scopes(json!([{"oauth": ["a", "b"]}, {"oauth": ["a"]}, {}]));
        assert_eq!(less, Scopes { all: words(&["a"]), any: vec![] });
        assert!(note.unwrap().contains("without a token"));
        let (first, note) = scopes(json!([{"oauth": ["a", "b"]}, {"oauth": ["c"]}]));
        assert_eq!(first, Scopes { all: words(&["a", "b"]), any: vec![] });
        assert!(note.unwrap().ends_with("instead: c"));
        let (none, _) = scopes(json!([{"key": []}]));
        assert_eq!(none, Scopes::default());
    }

    #[test]
    fn a_document_without_security_asks_for_a_token() {
        let found = routes(&json!({"openapi": "3.0.3", "paths": {"/a": {"get": {}}}})).unwrap();
        assert_eq!(found.first().unwrap().access, Access::Token(Scopes::default()));
        assert!(found.first().unwrap().note.is_some());
    }

    /// A document that is not valid opens nothing.
    #[test]
    fn what_is_no_requirement_lets_nobody_in_without_a_token() {
        for odd in [json!(["oauth"]), json!([null]), json!([["oauth"]]), json!([{}, "oauth"])] {
            let (none, note) = scopes(odd.clone());
            assert_eq!(none, Scopes::default(), "{odd}");
            assert!(note.is_some(), "{odd}");
        }
        let (read, _) = scopes(json!(["oauth", {"oauth": ["a"]}]));
        assert_eq!(read, Scopes { all: words(&["a"]), any: vec![] });
        // A scheme that stands elsewhere, behind a reference, has scope values too.
        let (elsewhere, _) = scopes(json!([{"elsewhere": ["a"]}]));
        assert_eq!(elsewhere, Scopes { all: words(&["a"]), any: vec![] });
    }

    #[test]
    fn swagger_is_read_as_well() {
        let document = json!({"swagger": "2.0", "host": "orders.mesh:80", "basePath": "/v1",
            "securityDefinitions": {"o": {"type": "oauth2"}},
            "paths": {"/a/{1}": {"get": {"security": [{"o": ["r"]}]}}}});
        let route = routes(&document).unwrap().remove(0);
        assert_eq!((route.hosts, route.path.as_str()), (words(&["orders.mesh"]), "/v1/a/{p1}"));
        assert_eq!(route.access, Access::Token(Scopes { all: words(&["r"]), any: vec![] }));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let bad = |document: Value| routes(&document).unwrap_err().remove(0);
        assert!(bad(json!({"openapi": "4.0.0"})).message.contains("no OpenAPI document"));
        assert_eq!(bad(json!({"openapi": "3.0.0"})).path, "paths");
        assert!(bad(json!({"openapi": "3.0.0", "paths": {}})).message.contains("no operation"));
        let outside = bad(json!({"openapi": "3.0.0", "paths": {"/a": {"$ref": "other.yaml#/a"}}}));
        assert!(outside.message.contains("other.yaml"), "{outside:?}");
        let circle = json!({"openapi": "3.0.0", "paths": {"/a": {"$ref": "#/paths/~1a"}}});
        assert!(bad(circle).message.contains("circle"));
    }

    #[test]
    fn a_reference_in_the_document_is_followed() {
        let document = json!({"openapi": "3.1.0", "paths": {"/a": {"$ref": "#/components/pathItems/A"}},
            "components": {"pathItems": {"A": {"delete": {"operationId": "x"}}}}});
        assert_eq!(routes(&document).unwrap().remove(0).methods, words(&["DELETE"]));
    }
}
