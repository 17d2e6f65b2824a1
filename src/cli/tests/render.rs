//! `taskfence render` over whole folders.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Exit;
use crate::input::yaml;
use crate::signing::key::{Algorithm, SigningKey};
use crate::terminal::console::Capture;

/// A folder with a base for `platform`, and services.
struct Mesh {
    folder: tempfile::TempDir,
}

impl Mesh {
    fn new(platform: &str, services: usize) -> Mesh {
        let mesh = Mesh { folder: tempfile::tempdir().unwrap() };
        let key = SigningKey::generate(Algorithm::Es256, Some("k1".to_owned())).unwrap();
        let base = format!(
            "
platform: {platform}
module: {{ image: 'registry.example/taskfence:0.1.0', sha256: '{}' }}
vars: {{ zone: mesh.example }}
configuration:
  issuers:
    - issuer: https://jit.example
      audiences: ['https://${{service}}.${{zone}}']
      keys: {{ inline: {{ keys: [{}] }} }}
      algorithms: [ES256]
      max_lifetime: 15m
rules:
  last:
    - {{ name: health, match: {{ path: /healthz }}, allow: anonymous }}
grants:
  scopes: [orders.read]
  details: [{{ type: order, actions: [read, refund] }}]
",
            "0".repeat(64),
            key.public_jwk().unwrap()
        );
        fs::write(mesh.path("base.yaml"), base).unwrap();
        fs::create_dir(mesh.path("services")).unwrap();
        (0..services).for_each(|n| mesh.service(n, ""));
        mesh
    }

    /// Writes the file of a service, with more at its end.
    fn service(&self, n: usize, more: &str) {
        let text = format!(
            "
service: s{n}
namespace: ns{}
rules:
  - name: read
    match: {{ methods: [GET], path: '/v1/orders/{{order}}' }}
    require: {{ scope: orders.read, detail: {{ type: order, action: read, identifier: '{{order}}' }} }}
{more}",
            n % 7
        );
        fs::write(self.path(&format!("services/s{n}.yaml")), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn render(&self, args: &[&str], input: &str) -> (Exit, Capture) {
        let (base, services) = (self.path("base.yaml"), self.path("services"));
        let all = [&["render", "--base", text(&base), text(&services)], args].concat();
        let mut capture = Capture::reading(input);
        let exit = capture.run(&all);
        (exit, capture)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&yaml::to_json(&fs::read_to_string(path).unwrap()).unwrap()).unwrap()
}

#[test]
fn two_hundred_services_are_written_the_same_each_time() {
    let mesh = Mesh::new("istio", 200);
    let output = mesh.path("out");
    let (exit, capture) = mesh.render(&["--output", text(&output)], "");
    assert_eq!(exit, Exit::Done, "{}", capture.err());
    assert!(capture.out().ends_with("200 services, 200 written\n"), "{}", capture.out());
    let first = read(&output.join("ns3/s10.yaml"));
    assert_eq!(first["metadata"]["name"], "taskfence-s10");
    let configuration = &first["spec"]["wasm"]["pluginConfig"];
    assert_eq!(configuration["issuers"][0]["audiences"][0], "https://s10.mesh.example");
    assert_eq!(configuration["rules"][1]["name"], "health");
    let (_, again) = mesh.render(&["--output", text(&output)], "");
    assert!(again.out().ends_with("200 services, 0 written\n"), "{}", again.out());
    let (exit, same) = mesh.render(&["--diff", text(&output)], "");
    assert_eq!((exit, same.out()), (Exit::Done, ""));
    let warnings: Vec<_> = same.err().lines().collect();
    assert!(warnings[0].ends_with("(and 199 other services)"), "{}", warnings[0]);
    assert_eq!(warnings[1..], ["200 services, 0 differences"]);
    let (_, printed) = mesh.render(&[], "");
    assert_eq!(printed.out().matches("\nkind: TrafficExtension\n").count(), 200);
}

#[test]
fn the_difference_to_what_is_deployed_names_the_rule() {
    let mesh = Mesh::new("istio-wasm-plugin", 3);
    let output = mesh.path("out");
    mesh.render(&["--output", text(&output)], "");
    let deployed: Vec<_> = ["ns0/s0", "ns1/s1"].iter().map(|name| read(&output.join(format!("{name}.yaml")))).collect();
    let mut old = deployed[0].clone();
    old["metadata"]["name"] = "taskfence-gone".into();
    let list = serde_json::json!({"kind": "List", "items": [deployed[0], deployed[1], old]});
    mesh.service(1, "configuration: { mode: shadow }\n");
    let (exit, capture) = mesh.render(&["--diff", "-"], &list.to_string());
    let expected = "- WasmPlugin ns0/taskfence-gone
~ WasmPlugin ns1/taskfence-s1
    spec.pluginConfig.mode: nothing -> \"shadow\"
+ WasmPlugin ns2/taskfence-s2
";
    assert_eq!((exit, capture.out()), (Exit::Failed, expected), "{}", capture.err());
}

#[test]
fn a_secret_is_warned_of_and_not_shown() {
    let mesh = Mesh::new("istio", 1);
    let output = mesh.path("out");
    mesh.render(&["--output", text(&output)], "");
    let key = SigningKey::generate(Algorithm::Es256, Some("h1".to_owned())).unwrap().public_jwk().unwrap();
    let hub =
        format!("{{ cluster: hub, feed: main, authorization: Bearer hush, keys: {{ inline: {{ keys: [{key}] }} }} }}");
    mesh.service(0, &format!("configuration: {{ signals: {{ hub: {hub}, stale: {{ after: 30s }} }} }}\n"));
    let (_, added) = mesh.render(&["--diff", text(&output)], "");
    assert!(added.out().contains("\"authorization\":\"a secret\""), "{}", added.out());
    assert!(added.err().contains("has a value of `authorization`"), "{}", added.err());
    mesh.render(&["--output", text(&output)], "");
    mesh.service(
        0,
        &format!(
            "configuration: {{ signals: {{ hub: {}, stale: {{ after: 30s }} }} }}\n",
            hub.replace("hush", "other")
        ),
    );
    let (_, changed) = mesh.render(&["--diff", text(&output)], "");
    assert!(changed.out().contains("signals.hub.authorization: a secret -> a secret"), "{}", changed.out());
    let key = "hush hush hush hush hush hush hush";
    mesh.service(0, &format!("configuration: {{ evidence: {{ mask: {{ subject: hash }}, mask_key: {key} }} }}\n"));
    let (_, masked) = mesh.render(&["--diff", text(&output)], "");
    assert!(masked.out().contains("\"mask_key\":\"a secret\""), "{}", masked.out());
    for said in [added.out(), changed.out(), changed.err(), masked.out(), masked.err()] {
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn a_service_that_is_gone_is_removed_on_request() {
    let mesh = Mesh::new("envoy-gateway", 2);
    let output = mesh.path("out");
    mesh.render(&["--output", text(&output)], "");
    fs::write(output.join("notes.yaml"), "mine: 1\n").unwrap();
    fs::remove_file(mesh.path("services/s1.yaml")).unwrap();
    let (_, capture) = mesh.render(&["--output", text(&output)], "");
    assert!(capture.out().contains("1 of services that are gone stay there"), "{}", capture.out());
    let (_, capture) = mesh.render(&["--output", text(&output), "--prune"], "");
    assert!(capture.out().ends_with(", 1 removed\n"), "{}", capture.out());
    assert!(!output.join("ns1/s1.yaml").exists() && output.join("notes.yaml").exists());
}

#[test]
fn what_is_wrong_with_one_of_them_keeps_all_from_being_written() {
    let mesh = Mesh::new("istio", 4);
    mesh.service(0, "  - { name: refund, match: { path: /r }, require: { scope: orders.refund } }\n");
    mesh.service(1, "  - { name: bad, match: { path: r }, allow: anonymous }\n");
    mesh.service(2, "configuration: { issuers: [{ issuer: https://jit.example, audiences: [x], max_lifetime: 20m, algorithms: [ES256], keys: { cluster: c, path: /k } }] }\n");
    fs::copy(mesh.path("services/s3.yaml"), mesh.path("services/copy.yaml")).unwrap();
    let output = mesh.path("out");
    let (exit, capture) = mesh.render(&["--output", text(&output)], "");
    assert_eq!(exit, Exit::BadConfig, "{}", capture.err());
    let expected = [
        "s0.yaml: rules[1].require.scope: no issuer grants `orders.refund`",
        "s1.yaml: rules[1].match.path: ",
        "s2.yaml: issuers[0]: says other `keys`, `max_lifetime` about \"https://jit.example\"",
        "s3.yaml: service: `ns3/s3` is the service of ",
        "4 of 5 services have errors; nothing was written\n",
    ];
    for text in expected {
        assert!(capture.err().contains(text), "{text}: {}", capture.err());
    }
    assert!(!output.exists());
}

#[test]
fn what_the_hub_does_not_cover_is_an_error_of_each_service() {
    let mesh = Mesh::new("istio", 2);
    let data = mesh.path("data");
    let hub_with = |issuer: &str| {
        let text = format!(
            "data: {}\nlisten: {{ address: 127.0.0.1:0 }}\nclusters: {{ jit: https://jit.example }}\nfeeds:\n  - name: main\n    \
             issuers: [{{ issuer: {issuer}, audiences: [a], keys: {{ cluster: jit, path: /jwks }} }}]\n",
            text(&data)
        );
        fs::write(mesh.path("hub.yaml"), text).unwrap();
    };
    hub_with("https://jit.example");
    let mut capture = Capture::default();
    let hub = mesh.path("hub.yaml");
    assert_eq!(capture.run(&["hub", "keys", "--config", text(&hub)]), Exit::Done, "{}", capture.err());
    let keys = capture.out().replace('\n', " ");
    let follow = "{ cluster: hub, feed: main, keys: { inline: KEYS } }".replace("KEYS", &keys);
    for n in 0..2 {
        mesh.service(n, &format!("configuration: {{ signals: {{ hub: {follow}, stale: {{ after: 30s }} }} }}\n"));
    }
    let output = mesh.path("out");
    let (exit, capture) = mesh.render(&["--hub", text(&hub), "--output", text(&output)], "");
    assert_eq!(exit, Exit::Done, "{}", capture.err());
    fs::remove_dir_all(&output).unwrap();
    hub_with("https://other.example");
    let (exit, capture) = mesh.render(&["--hub", text(&hub), "--output", text(&output)], "");
    assert_eq!(exit, Exit::BadConfig, "{}", capture.err());
    for service in ["s0.yaml: ", "s1.yaml: "] {
        let line = capture.err().lines().find(|line| line.contains(service));
        assert!(line.is_some_and(|line| line.contains("https://jit.example")), "{service}{}", capture.err());
    }
    assert!(!output.exists());
}

#[test]
fn resources_are_valid_by_the_published_schemas() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/crds");
    let folder = std::env::var_os("TASKFENCE_CRDS").map_or_else(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: the schemas of Istio and Envoy Gateway are not in {}", folder.display());
        return;
    }
    let table = [
        ("istio", "istio.yaml", "TrafficExtension"),
        ("istio-wasm-plugin", "istio.yaml", "WasmPlugin"),
        ("envoy-gateway", "envoy-gateway.yaml", "EnvoyExtensionPolicy"),
    ];
    for (platform, file, kind) in table {
        let mesh = Mesh::new(platform, 1);
        let target = if platform == "envoy-gateway" { "HTTPRoute" } else { "Gateway" };
        for more in [String::new(), format!("target: {{ kind: {target}, name: edge }}\n")] {
            mesh.service(0, &more);
            let output = mesh.path("out");
            mesh.render(&["--output", text(&output)], "");
            let resource = read(&output.join("ns0/s0.yaml"));
            assert_eq!(resource["kind"], kind);
            let schema = schema_of(&folder.join(file), kind);
            let problems: Vec<_> = jsonschema::validator_for(&schema)
                .unwrap()
                .iter_errors(&resource)
                .map(|error| error.to_string())
                .collect();
            assert!(problems.is_empty(), "{platform}: {problems:?}");
        }
    }
}

/// The schema of a kind, in which unknown members are errors.
fn schema_of(file: &Path, kind: &str) -> Value {
    let text = fs::read_to_string(file).unwrap();
    let documents =
        text.split("\n---").map(|part| serde_json::from_str::<Value>(&yaml::to_json(part).unwrap()).unwrap());
    let found = documents.into_iter().find(|document| document["spec"]["names"]["kind"] == kind).unwrap();
    let mut schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    close(&mut schema["properties"]["spec"]);
    schema
}

fn close(schema: &mut Value) {
    let is_open =
        schema["x-kubernetes-preserve-unknown-fields"] == true || schema.get("additionalProperties").is_some();
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
        if !is_open {
            members.insert("additionalProperties".to_owned(), false.into());
        }
    }
    if let Some(items) = members.get_mut("items") {
        close(items);
    }
}
