//! Compiles protected resources: where their metadata is, and what it says (RFC 9728 §2, §3).

use crate::config::checks;
use crate::config::checks::quotable;
use crate::config::model::ResourceConfig;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::http::credential_location::CredentialLocations;
use crate::http::foreign_pattern;
use crate::http::host::Host;
use crate::http::path::Canonical;
use crate::http::path_template::Template;
use crate::policy::resource::{Resource, WELL_KNOWN};
use crate::rules::overlap;
use crate::rules::requirement::Check;
use crate::rules::rule::{Effect, Matcher, Rule};
use crate::token::confirmation::Binding;
use crate::token::issuer::Issuer;
use serde_json::{Map, Value};

/// Compiles `configs`. `places` are the places of tokens in requests.
pub(crate) fn resources(
    configs: &[ResourceConfig],
    issuers: &[Issuer],
    rules: &[Rule],
    places: &CredentialLocations,
    problems: &mut Problems,
) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for (at, config) in configs.iter().enumerate() {
        let path = format!("protected_resources[{at}]");
        let Some(resource) = resource(config, issuers, rules, places, &path, problems) else { continue };
        let is_same = |other: &Resource| {
            other.path == resource.path && other.hosts.iter().any(|host| resource.hosts.contains(host))
        };
        if resources.iter().any(is_same) {
            problems.error(path, "has a host and the path of an earlier resource");
        }
        resources.push(resource);
    }
    resources
}

fn resource(
    config: &ResourceConfig,
    issuers: &[Issuer],
    rules: &[Rule],
    places: &CredentialLocations,
    path: &str,
    problems: &mut Problems,
) -> Option<Resource> {
    check_texts(config, path, problems);
    let Some(url) = Url::parse(&config.resource) else {
        let message = format!(
            "`{}` is not the URL of a resource: `https`, a host, and a canonical path without query and fragment",
            config.resource
        );
        let problem = Problem::at(format!("{path}.resource"), message);
        problems.errors.push(problem.help("write for example `https://orders.example/v1`"));
        return None;
    };
    if url.scheme == "http" {
        let message = "is not an `https` URL, and clients may refuse such a resource (RFC 9728 §1.2)";
        problems.warnings.push(Problem::at(format!("{path}.resource"), message));
    }
    let hosts = match &config.hosts {
        Some(hosts) if hosts.is_empty() => {
            problems.error(format!("{path}.hosts"), "is empty: remove it to use the host of `resource`");
            Vec::new()
        }
        Some(hosts) => checks::hosts(hosts, &format!("{path}.hosts"), problems),
        None => vec![url.host.to_ascii_lowercase()],
    };
    let ours = issuers_of(config, issuers, path, problems);
    let document = config.serve.then(|| {
        let scopes = config.scopes.clone().unwrap_or_else(|| scopes_of(&hosts, url.path, rules));
        document(config, &ours, scopes, places, path, problems).to_string()
    });
    let metadata_url = format!("{}://{}{WELL_KNOWN}{}", url.scheme, url.authority, url.path);
    Some(Resource { hosts, path: url.path.to_owned(), metadata_url, document })
}

/// The parts of the identifier of a resource, as they stand in it.
struct Url<'u> {
    scheme: &'u str,
    authority: &'u str,
    /// Without port and final dot.
    host: &'u str,
    /// Empty for `/`, which the URL of the metadata omits (RFC 9728 §3.1).
    path: &'u str,
}

impl<'u> Url<'u> {
    fn parse(text: &'u str) -> Option<Url<'u>> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        let is_canonical = |path: &str| Canonical::parse(path.as_bytes()).is_ok_and(|read| read.as_str() == path);
        let host = Host::parse(authority.as_bytes()).ok()?.as_str();
        let path = if path == "/" { "" } else { path };
        (matches!(scheme, "https" | "http") && quotable(text) && (path.is_empty() || is_canonical(path)))
            .then_some(Url { scheme, authority, host, path })
    }
}

fn check_texts(config: &ResourceConfig, path: &str, problems: &mut Problems) {
    if config.name.as_ref().is_some_and(String::is_empty) {
        problems.error(format!("{path}.name"), "must not be empty");
    }
    if let Some(url) = &config.documentation
        && !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
    {
        problems.error(format!("{path}.documentation"), format!("`{url}` is not the URL of a page"));
    }
    for (at, scope) in config.scopes.iter().flatten().enumerate() {
        if scope.is_empty() || scope.contains(' ') || !quotable(scope) {
            problems.error(format!("{path}.scopes[{at}]"), "must be one scope value");
        }
    }
    if !config.serve && (config.scopes.is_some() || config.name.is_some() || config.documentation.is_some()) {
        let message = "has text for metadata that the filter does not serve";
        problems
            .errors
            .push(Problem::at(path, message).help("remove `serve: false`, or `scopes`, `name` and `documentation`"));
    }
}

/// The issuers whose tokens are for the resource.
fn issuers_of<'i>(
    config: &ResourceConfig,
    issuers: &'i [Issuer],
    path: &str,
    problems: &mut Problems,
) -> Vec<&'i Issuer> {
    let Some(names) = &config.issuers else { return issuers.iter().collect() };
    if names.is_empty() {
        problems.error(format!("{path}.issuers"), "is empty: remove it for every issuer");
    }
    for (at, name) in names.iter().enumerate() {
        if !issuers.iter().any(|issuer| issuer.name == *name) {
            problems.error(format!("{path}.issuers[{at}]"), format!("`{name}` is not one of `issuers`"));
        }
    }
    issuers.iter().filter(|issuer| names.contains(&issuer.name)).collect()
}

/// `items`, each once, in their order.
fn once<T: PartialEq + Clone>(items: &[T]) -> Vec<T> {
    let is_first = |(at, item): &(usize, &T)| !items.iter().take(*at).any(|earlier| earlier == *item);
    items.iter().enumerate().filter(is_first).map(|(_, item)| item.clone()).collect()
}

/// The scopes that rules for requests of a resource require, each once, in the order of the rules. A scope that only
/// lifts requirements is for emergencies and not among them.
fn scopes_of(hosts: &[String], path: &str, rules: &[Rule]) -> Vec<String> {
    let matcher =
        |path: &str| Matcher { hosts: hosts.to_vec(), template: Template::parse(path).ok(), ..Matcher::default() };
    let segments: Vec<String> = path.split('/').map(foreign_pattern::escape).collect();
    let own = segments.join("/");
    let below = format!("{}/{{rest...}}", own.strip_suffix('/').unwrap_or(&own));
    let ours = [matcher(&own), matcher(&below)];
    let mut scopes: Vec<String> = Vec::new();
    for rule in rules.iter().filter(|rule| ours.iter().any(|matcher| overlap::meet(matcher, &rule.matcher))) {
        let Effect::Require(requirement) = &rule.effect else { continue };
        for check in requirement.checks() {
            let Check::Scope { all, any } = check else { continue };
            scopes.extend(all.iter().chain(any).cloned());
        }
    }
    once(&scopes)
}

/// The metadata (RFC 9728 §2).
fn document(
    config: &ResourceConfig,
    issuers: &[&Issuer],
    scopes: Vec<String>,
    places: &CredentialLocations,
    path: &str,
    problems: &mut Problems,
) -> Value {
    // The template of many issuers names no single one.
    let is_url = |name: &&String| (name.starts_with("https://") || name.starts_with("http://")) && !name.contains('{');
    let servers: Vec<String> = issuers.iter().map(|issuer| &issuer.name).filter(is_url).cloned().collect();
    let servers = once(&servers);
    if servers.is_empty() {
        let message = "has no issuer that is a URL, so its metadata cannot name an authorization server";
        problems.warnings.push(Problem::at(path, message));
    }
    let has = |test: &dyn Fn(&Issuer) -> bool| issuers.iter().any(|issuer| test(issuer));
    let takes_bearer = has(&|issuer| {
        issuer.presentation.binding != Binding::Dpop && places.authorization() == Some(issuer.presentation.place)
    });
    let with_dpop = issuers.iter().filter(|issuer| issuer.presentation.announces_dpop);
    let algorithms = with_dpop.flat_map(|issuer| issuer.presentation.dpop.algorithms.iter());
    let algorithms = once(&algorithms.map(|algorithm| algorithm.name().to_owned()).collect::<Vec<_>>());
    let list = |items: Vec<String>| (!items.is_empty()).then(|| Value::from(items));
    let yes = |is: bool| is.then_some(Value::Bool(true));
    let methods: Vec<String> = takes_bearer.then(|| "header".to_owned()).into_iter().collect();
    let members = [
        ("resource", Some(config.resource.clone().into())),
        ("authorization_servers", list(servers)),
        ("scopes_supported", list(scopes)),
        // The empty list says that no method is supported.
        ("bearer_methods_supported", Some(methods.into())),
        ("resource_name", config.name.clone().map(Value::from)),
        ("resource_documentation", config.documentation.clone().map(Value::from)),
        (
            "tls_client_certificate_bound_access_tokens",
            yes(has(&|issuer| matches!(issuer.presentation.binding, Binding::Mtls | Binding::Any))),
        ),
        ("dpop_signing_alg_values_supported", list(algorithms)),
        (
            "dpop_bound_access_tokens_required",
            yes(!issuers.is_empty() && issuers.iter().all(|issuer| issuer.presentation.binding == Binding::Dpop)),
        ),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(members.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::policy::policy::Policy;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    fn issuer(name: &str, more: Value) -> Value {
        let mut issuer = json!({"issuer": name, "audiences": ["a"], "keys": {"inline": fixture::jwks()}});
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        issuer
    }

    fn load_with(issuers: Value, resources: Value) -> Result<(Policy, Vec<String>), Vec<String>> {
        let config = json!({
            "issuers": issuers,
            "protected_resources": resources,
            "rules": [
                {"name": "read", "match": {"methods": ["GET"], "path": "/v1/o/{id}"}, "require": {"scope": "o.read"}},
                {"name": "write", "match": {"hosts": ["orders.example"], "path": "/v1/o/{id}"},
                 "require": {"scope": {"any": ["o.write", "o.read"]}}},
                {"name": "other", "match": {"hosts": ["other.example"]}, "require": {"scope": "other"}},
                {"name": "root", "match": {"path": "/v2/{rest...}"}, "require": {"scope": "two"},
                 "break_glass": {"scope": "glass", "lifts": ["scope"]}}
            ],
            "signals": {"transmitters": [{"issuer": "https://a.example", "audience": "a", "keys": {"inline": fixture::jwks()},
                                          "subjects": [issuers[0]["issuer"]]}]}
        });
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => Ok((loaded.policy, loaded.warnings.iter().map(ToString::to_string).collect())),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    fn documents(policy: &Policy) -> Vec<Value> {
        let documents = policy.resources().iter().map(|resource| resource.document.as_deref());
        documents.map(|text| text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())).collect()
    }

    #[test]
    fn what_the_metadata_says() {
        let issuers = json!([
            issuer(
                "https://a.example",
                json!({"binding": "any", "dpop": {"algorithms": ["ES256", "EdDSA"], "origins": ["https://orders.example"]}})
            ),
            issuer("https://b.example", json!({"binding": "dpop", "dpop": {"origins": ["https://orders.example"]}})),
            issuer("not-a-url", json!({"token": {"header": "x-jit"}}))
        ]);
        let resources = json!([
            {"resource": "https://orders.example:8443/v1", "name": "Orders", "documentation": "https://docs.example/"},
            {"resource": "https://other.example/", "issuers": ["https://b.example"], "scopes": ["x"]},
            {"resource": "https://orders.example", "hosts": ["front", "orders.example"], "serve": false}
        ]);
        let (policy, warnings) = load_with(issuers, resources).unwrap();
        assert!(!warnings.iter().any(|warning| warning.starts_with("protected_resources")), "{warnings:?}");
        assert_eq!(
            documents(&policy),
            [
                json!({
                    "resource": "https://orders.example:8443/v1",
                    "authorization_servers": ["https://a.example", "https://b.example"],
                    "scopes_supported": ["o.read", "o.write"],
                    "bearer_methods_supported": ["header"],
                    "resource_name": "Orders", "resource_documentation": "https://docs.example/",
                    "tls_client_certificate_bound_access_tokens": true,
                    "dpop_signing_alg_values_supported": ["ES256", "EdDSA"]
                }),
                json!({
                    "resource": "https://other.example/",
                    "authorization_servers": ["https://b.example"],
                    "scopes_supported": ["x"],
                    "bearer_methods_supported": [],
                    "dpop_signing_alg_values_supported": ["ES256"],
                    "dpop_bound_access_tokens_required": true
                }),
                Value::Null
            ]
        );
        let urls: Vec<&str> = policy.resources().iter().map(|resource| &*resource.metadata_url).collect();
        assert_eq!(
            urls,
            [
                "https://orders.example:8443/.well-known/oauth-protected-resource/v1",
                "https://other.example/.well-known/oauth-protected-resource",
                "https://orders.example/.well-known/oauth-protected-resource"
            ]
        );
        assert_eq!(policy.resources()[2].hosts, ["front", "orders.example"]);
    }

    #[test]
    fn each_message() {
        let not_a_url = |text: &str| {
            format!(
                "protected_resources[0].resource: `{text}` is not the URL of a resource: `https`, a host, and a canonical path without query and fragment (write for example `https://orders.example/v1`)"
            )
        };
        for (resource, message) in [
            (json!({"resource": "orders"}), not_a_url("orders")),
            (json!({"resource": "urn:x"}), not_a_url("urn:x")),
            (json!({"resource": "https://"}), not_a_url("https://")),
            (json!({"resource": "https://h/a?b"}), not_a_url("https://h/a?b")),
            (json!({"resource": "https://h?b"}), not_a_url("https://h?b")),
            (json!({"resource": "https://h/a#b"}), not_a_url("https://h/a#b")),
            (json!({"resource": "https://h/a/../b"}), not_a_url("https://h/a/../b")),
            (json!({"resource": "https://h/%61"}), not_a_url("https://h/%61")),
            (json!({"resource": "https://u@h/a"}), not_a_url("https://u@h/a")),
            (json!({"resource": "ftp://h/a"}), not_a_url("ftp://h/a")),
            (
                json!({"resource": "https://h", "hosts": []}),
                "protected_resources[0].hosts: is empty: remove it to use the host of `resource`".to_owned(),
            ),
            (
                json!({"resource": "https://h", "issuers": ["j"]}),
                "protected_resources[0].issuers[0]: `j` is not one of `issuers`".to_owned(),
            ),
            (
                json!({"resource": "https://h", "scopes": ["a b"]}),
                "protected_resources[0].scopes[0]: must be one scope value".to_owned(),
            ),
            (json!({"resource": "https://h", "name": ""}), "protected_resources[0].name: must not be empty".to_owned()),
            (
                json!({"resource": "https://h", "documentation": "docs"}),
                "protected_resources[0].documentation: `docs` is not the URL of a page".to_owned(),
            ),
            (
                json!({"resource": "https://h", "serve": false, "name": "n"}),
                "protected_resources[0]: has text for metadata that the filter does not serve (remove `serve: false`, or `scopes`, `name` and `documentation`)".to_owned(),
            ),
        ] {
            let errors = load_with(json!([issuer("https://a.example", json!({}))]), json!([resource])).err();
            assert!(errors.clone().unwrap_or_default().contains(&message), "{resource}\n  {errors:?}");
        }
        let twice = json!([{"resource": "https://h/a"}, {"resource": "https://x/a", "hosts": ["H"]}]);
        let errors = load_with(json!([issuer("https://a.example", json!({}))]), twice).err().unwrap();
        assert_eq!(errors, ["protected_resources[1]: has a host and the path of an earlier resource"]);
        let (_, warnings) = load_with(json!([issuer("i", json!({}))]), json!([{"resource": "http://h"}])).unwrap();
        for want in [
            "protected_resources[0].resource: is not an `https` URL",
            "protected_resources[0]: has no issuer that is a URL",
        ] {
            assert!(warnings.iter().any(|warning| warning.starts_with(want)), "{warnings:?}");
        }
    }
}
