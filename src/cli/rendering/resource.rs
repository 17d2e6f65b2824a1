//! The resource of one service, for each platform.

use serde_json::{Map, Value, json};
use taskfence_core::config::problem::Problem;

use crate::rendering::base::{Base, Module, Platform};
use crate::rendering::service::{Service, Target};

/// The label that says that a resource was made here, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "taskfence-render");

/// The name that Envoy's log and statistics have for the plugin.
const PLUGIN: &str = "taskfence";

/// A resource may have so many bytes: etcd takes 1.5 MiB, and a controller adds its own.
const MAX_BYTES: usize = 1024 * 1024;

/// Integers beyond this are changed on their way through a `Struct` of protobuf, which has floating-point numbers alone.
const MAX_INTEGER: u64 = 1 << 53;

/// A resource of Kubernetes, or the text of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Where it stands below the folder of the output.
    pub file: String,
    /// What it says.
    pub value: Value,
}

/// The resource of `service`, whose filter has this `configuration`.
pub fn make(base: &Base, service: &Service, configuration: Map<String, Value>) -> Result<Resource, Vec<Problem>> {
    let configuration = Value::Object(configuration);
    let mut problems = Vec::new();
    check_target(base.platform, service, &mut problems);
    if base.platform != Platform::Plain {
        check_numbers(&configuration, "", &mut problems);
    }
    let module = base.module.as_ref();
    let value = match (base.platform, module) {
        (Platform::Plain, _) | (_, None) => configuration,
        (Platform::Istio, Some(module)) => traffic_extension(base, service, module, configuration),
        (Platform::IstioWasmPlugin, Some(module)) => wasm_plugin(base, service, module, configuration),
        (Platform::EnvoyGateway, Some(module)) => extension_policy(base, service, module, configuration),
    };
    let bytes = value.to_string().len();
    if bytes > MAX_BYTES {
        let message = format!("its resource has {bytes} bytes, and may have {MAX_BYTES}");
        problems.push(Problem::at("", message).help("fetch keys instead of writing them, and divide the rules"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let extension = if base.platform == Platform::Plain { "json" } else { "yaml" };
    Ok(Resource { file: format!("{}/{}.{extension}", service.namespace, service.service), value })
}

fn traffic_extension(base: &Base, service: &Service, module: &Module, configuration: Value) -> Value {
    let mut spec = istio_placement(service);
    spec.extend(members(json!({"phase": "AUTHZ", "wasm": istio_wasm(module, configuration)})));
    resource("extensions.istio.io/v1alpha1", "TrafficExtension", base, service, spec)
}

fn wasm_plugin(base: &Base, service: &Service, module: &Module, configuration: Value) -> Value {
    let mut spec = istio_placement(service);
    spec.extend(members(json!({"phase": "AUTHZ"})));
    spec.extend(members(istio_wasm(module, configuration)));
    resource("extensions.istio.io/v1alpha1", "WasmPlugin", base, service, spec)
}

fn istio_wasm(module: &Module, configuration: Value) -> Value {
    let mut wasm = json!({
        "url": format!("oci://{}", module.image),
        "sha256": module.sha256,
        "imagePullPolicy": "IfNotPresent",
        "failStrategy": "FAIL_RELOAD",
        "type": "HTTP",
        "pluginName": PLUGIN,
        "pluginConfig": configuration,
    });
    if let (Some(members), Some(secret)) = (wasm.as_object_mut(), &module.pull_secret) {
        members.insert("imagePullSecret".to_owned(), secret.clone().into());
    }
    wasm
}

/// Which proxies have the filter. In sidecars it is for requests that come in, and not for those that go out.
fn istio_placement(service: &Service) -> Map<String, Value> {
    members(match &service.target {
        Some(target) => json!({"targetRefs": [reference(target)]}),
        None => {
            let selector = service
                .selector
                .clone()
                .unwrap_or_else(|| [("app".to_owned(), service.service.clone())].into_iter().collect());
            json!({"selector": {"matchLabels": selector}, "match": [{"mode": "SERVER"}]})
        }
    })
}

fn extension_policy(base: &Base, service: &Service, module: &Module, configuration: Value) -> Value {
    let mut image = json!({"url": module.image, "sha256": module.sha256});
    if let (Some(members), Some(secret)) = (image.as_object_mut(), &module.pull_secret) {
        members.insert("pullSecretRef".to_owned(), json!({"name": secret}));
    }
    let route = Target { kind: "HTTPRoute".to_owned(), name: service.service.clone(), section: None };
    let target = reference(service.target.as_ref().unwrap_or(&route));
    let wasm = json!({
        "name": PLUGIN,
        "rootID": PLUGIN,
        "code": {"type": "Image", "image": image, "pullPolicy": "IfNotPresent"},
        "config": configuration,
        "failOpen": false,
    });
    let spec = members(json!({"targetRefs": [target], "wasm": [wasm]}));
    resource("gateway.envoyproxy.io/v1alpha1", "EnvoyExtensionPolicy", base, service, spec)
}

fn resource(version: &str, kind: &str, base: &Base, service: &Service, spec: Map<String, Value>) -> Value {
    let mut labels = base.labels.clone();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": format!("taskfence-{}", service.service), "namespace": service.namespace, "labels": labels},
        "spec": spec,
    })
}

fn reference(target: &Target) -> Value {
    let group = if target.kind == "Service" { "" } else { "gateway.networking.k8s.io" };
    let mut reference = json!({"group": group, "kind": target.kind, "name": target.name});
    if let (Some(members), Some(section)) = (reference.as_object_mut(), &target.section) {
        members.insert("sectionName".to_owned(), section.clone().into());
    }
    reference
}

fn check_target(platform: Platform, service: &Service, problems: &mut Vec<Problem>) {
    let kinds: &[&str] = match platform {
        Platform::Istio | Platform::IstioWasmPlugin => &["Gateway", "Service"],
        Platform::EnvoyGateway => &["HTTPRoute", "GRPCRoute", "Gateway"],
        Platform::Plain => &[],
    };
    match &service.target {
        Some(target) if !kinds.contains(&target.kind.as_str()) => {
            let message = format!("`{}` cannot have the filter on this platform", target.kind);
            let help =
                if kinds.is_empty() { "leave `target` out".to_owned() } else { format!("use {}", kinds.join(" or ")) };
            problems.push(Problem::at("target.kind", message).help(help));
        }
        Some(Target { section: Some(_), .. }) if platform != Platform::EnvoyGateway => {
            problems.push(Problem::at("target.section", "is for Envoy Gateway alone").help("leave it out"));
        }
        _ => {}
    }
    if service.selector.is_some() && platform == Platform::EnvoyGateway {
        let help = "use `target: {kind: HTTPRoute, name: ...}`";
        problems.push(Problem::at("selector", "is for sidecars, and Envoy Gateway has none").help(help));
    }
}

fn check_numbers(value: &Value, path: &str, problems: &mut Vec<Problem>) {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > MAX_INTEGER) {
                let help = "write it as a text, if the claim may be one, or configure this service by a file";
                problems.push(Problem::at(path, format!("{number} is changed on its way to the filter")).help(help));
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| check_numbers(item, &format!("{path}[{at}]"), problems));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                check_numbers(member, &place, problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(platform: &str) -> Base {
        let sha256 = "0".repeat(64);
        let text = format!(
            "platform: {platform}\nmodule: {{image: 'r.example/taskfence:1', sha256: '{sha256}', pull_secret: pull}}\n\
             configuration: {{}}\nlabels: {{team: mesh}}\n"
        );
        Base::read(text.as_bytes()).unwrap()
    }

    fn service(more: &str) -> Service {
        Service::read(format!("service: orders\nnamespace: shop\nrules: []\n{more}").as_bytes()).unwrap()
    }

    fn made(platform: &str, more: &str) -> Value {
        let configuration = members(json!({"mode": "enforce"}));
        make(&base(platform), &service(more), configuration).unwrap().value
    }

    #[test]
    fn each_platform_gets_its_resource() {
        let istio = made("istio", "");
        assert_eq!(istio["kind"], "TrafficExtension");
        assert_eq!(istio["spec"]["phase"], "AUTHZ");
        assert_eq!(istio["spec"]["match"], json!([{"mode": "SERVER"}]));
        assert_eq!(istio["spec"]["selector"], json!({"matchLabels": {"app": "orders"}}));
        assert_eq!(istio["spec"]["wasm"]["failStrategy"], "FAIL_RELOAD");
        assert_eq!(istio["spec"]["wasm"]["pluginConfig"], json!({"mode": "enforce"}));
        let plugin = made("istio-wasm-plugin", "target: {kind: Gateway, name: edge}");
        assert_eq!((&plugin["kind"], &plugin["spec"]["match"]), (&json!("WasmPlugin"), &Value::Null));
        assert_eq!(plugin["spec"]["targetRefs"][0]["name"], "edge");
        assert_eq!(plugin["spec"]["imagePullSecret"], "pull");
        let policy = made("envoy-gateway", "");
        assert_eq!(
            policy["spec"]["targetRefs"],
            json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "orders"}])
        );
        assert_eq!(policy["spec"]["wasm"][0]["failOpen"], false);
        assert_eq!(
            policy["metadata"]["labels"],
            json!({"team": "mesh", "app.kubernetes.io/managed-by": "taskfence-render"})
        );
        assert_eq!(made("plain", ""), json!({"mode": "enforce"}));
    }

    #[test]
    fn what_a_platform_cannot_do_is_refused() {
        let paths = |platform: &str, more: &str, configuration: Value| {
            let problems = make(&base(platform), &service(more), members(configuration)).unwrap_err();
            problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert_eq!(paths("istio", "target: {kind: HTTPRoute, name: a}", json!({})), ["target.kind"]);
        assert_eq!(paths("istio", "target: {kind: Gateway, name: a, section: b}", json!({})), ["target.section"]);
        assert_eq!(paths("envoy-gateway", "selector: {app: a}", json!({})), ["selector"]);
        let large = json!({"rules": [{"require": {"claims": {"n": 9_007_199_254_740_993_u64}}}]});
        assert_eq!(paths("istio", "", large), ["rules[0].require.claims.n"]);
        assert_eq!(paths("istio", "", json!({"a": "x".repeat(1024 * 1024)})), [""]);
    }
}
