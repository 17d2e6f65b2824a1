//! The chart: rendered and linted by Helm's own code, which `scripts/setup` fetches, and compared with the schemas of the
//! resources; hub.yaml and the filters in it by `taskfence check`.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use taskfence_tests::{artefacts, jwks, mint};

use crate::{
    resources::{check, configurations},
    schemas::{Schemas, documents, text},
};

const NAMESPACE: &str = "taskfence";
const HOST: &str = "taskfence-hub.taskfence.svc.cluster.local";

/// What Helm says of the chart with these values, or why it takes none of them; `None` where Helm is not there.
fn helm(test: &str, values: &Value) -> Option<Result<Rendered, String>> {
    let library = artefacts::target().join("helm");
    if !library.join("helm_python").is_dir() {
        eprintln!("skipped: {test}: no Helm in {}, which scripts/setup fetches", library.display());
        return None;
    }
    let mut child = Command::new("python3")
        .arg(artefacts::in_repository("tests/deploy/helm.py"))
        .arg(artefacts::in_repository("envoy/helm/taskfence"))
        .args(["taskfence", NAMESPACE])
        .env("PYTHONPATH", &library)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(values.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "helm.py: {}", output.status);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    if let Some(error) = said["error"].as_str() {
        return Some(Err(error.to_owned()));
    }
    assert_eq!(said["lint"], json!([]), "helm lint --strict");
    let resources = said["rendered"].as_object().unwrap().values().flat_map(|file| documents(&text(file))).collect();
    Some(Ok(Rendered(resources)))
}

/// The resources that a chart makes.
struct Rendered(Vec<Value>);

impl Rendered {
    fn all<'a>(&'a self, kind: &str) -> Vec<&'a Value> {
        self.0.iter().filter(|one| one["kind"] == kind).collect()
    }

    fn one(&self, kind: &str) -> &Value {
        match self.all(kind).as_slice() {
            [one] => one,
            all => panic!("{} of {kind}", all.len()),
        }
    }

    fn hub_yaml(&self) -> String {
        text(&self.one("Secret")["stringData"]["hub.yaml"])
    }

    /// The pod of the hub.
    fn pod(&self) -> &Value {
        let owner = self.0.iter().find(|one| ["StatefulSet", "Deployment"].map(Value::from).contains(&one["kind"]));
        &owner.expect("a hub")["spec"]["template"]
    }
}

/// A hub with one feed, as docs/hub.md has it.
fn hub() -> Value {
    let down = jwks::down().unwrap();
    json!({
        "feeds": [{
            "name": "main",
            "issuers": [{
                "issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                "keys": {"inline": mint::ISSUER.jwks()}
            }],
            "signals": {"transmitters": [{
                "issuer": "https://idp.example", "audience": "https://orders.mesh/signals",
                "keys": {"cluster": "idp", "path": "/jwks"}, "subjects": ["https://jit.example"]
            }]}
        }],
        "clusters": {"idp": format!("http://{down}")},
        "access": [{"spiffe": "spiffe://mesh.example/ns/ops/sa/on-call", "role": "operator"}]
    })
}

fn filter() -> Value {
    json!({
        "digest": format!("sha256:{}", "a".repeat(64)),
        "config": {
            "issuers": [{
                "issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                "keys": {"inline": mint::ISSUER.jwks()}, "algorithms": mint::Alg::names()
            }],
            "rules": [{"name": "all", "match": {"path": "/{rest...}"}, "require": {"scope": "orders.read"}}],
            "signals": {
                "hub": {"feed": "main", "keys": {"inline": {"keys": [mint::ISSUER.jwks()["keys"][0]]}}},
                "stale": {"after": "90s"}
            }
        }
    })
}

/// Everything that the chart can make, with PostgreSQL, for this kind of resource of Istio.
fn everything(api: &str) -> Value {
    json!({
        "store": "postgresql",
        "postgresql": {
            "url": "postgresql://hub@db1.example:5432,db2.example:5432/taskfence",
            "passwordSecret": {"name": "db", "key": "password"}, "caSecret": {"name": "db-ca", "key": "ca.crt"},
            "keysSecret": "hub-keys", "replicas": 3
        },
        "hub": hub(),
        "secretFiles": ["idp-token"],
        "podLabels": {"team": "security"}, "podAnnotations": {"note": "x"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"mesh": "on"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"protocol": "TCP", "port": 5432}]}]
        },
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "insecureSkipVerify": true},
        "istio": {"enabled": true, "api": api, "filters": [
            {"name": "orders", "namespace": "orders", "kind": "sidecar", "labels": {"app": "orders"}},
            {"name": "public", "namespace": "ingress", "kind": "gateway", "target": "public"},
            {"name": "orders-waypoint", "namespace": "orders", "kind": "waypoint", "target": "waypoint"}
        ]},
        "gateway": {"enabled": true, "alert": true},
        "filter": filter()
    })
}

fn kinds(rendered: &Rendered) -> Vec<String> {
    let mut kinds: Vec<String> = rendered.0.iter().map(|one| text(&one["kind"])).collect();
    kinds.sort();
    kinds
}

/// What is of Istio and Envoy Gateway fits their schemas, and what is of Kubernetes fits those of its oldest version that
/// the chart allows, and of a new one.
fn assert_valid(test: &str, rendered: &Rendered) {
    let sets = [Schemas::read(test), Schemas::of_kubernetes(test, "1.27.0"), Schemas::of_kubernetes(test, "1.37.0")];
    let Some(sets) = sets.into_iter().collect::<Option<Vec<Schemas>>>() else { return };
    let mut unknown = Vec::new();
    for resource in &rendered.0 {
        let faults: Vec<Vec<String>> = sets.iter().filter_map(|schemas| schemas.faults(resource)).collect();
        assert_eq!(faults.concat(), [""; 0], "{} {}", resource["kind"], resource["metadata"]["name"]);
        if faults.is_empty() {
            unknown.push(text(&resource["kind"]));
        }
    }
    // Of the Gateway API and of the Prometheus operator; and that of EnvoyProxy is not there.
    unknown.retain(|kind| !["EnvoyProxy", "HTTPRoute", "PrometheusRule", "ServiceMonitor"].contains(&kind.as_str()));
    assert_eq!(unknown, [""; 0], "no schema of these");
}

fn assert_filters_are_good(rendered: &Rendered, count: usize) {
    let all: Vec<&Value> = rendered.0.iter().flat_map(configurations).collect();
    assert_eq!(all.len(), count);
    for config in all {
        let (code, said) = check(&config.to_string());
        assert_eq!(code, 0, "{said}\n{config:#}");
        assert_eq!(config["signals"]["hub"]["host"], HOST);
    }
}

#[test]
fn a_hub_with_sqlite() {
    let test = "a_hub_with_sqlite";
    let mut hub = hub();
    // Without an authority for the certificates of callers there are tokens only.
    hub.as_object_mut().unwrap().remove("access");
    let Some(rendered) = helm(test, &json!({"hub": hub})) else { return };
    let rendered = rendered.unwrap();
    let expected = ["NetworkPolicy", "PodDisruptionBudget", "Secret", "Service", "ServiceAccount", "StatefulSet"]
        .map(str::to_owned);
    assert_eq!(kinds(&rendered), expected);
    assert_eq!(rendered.one("StatefulSet")["spec"]["replicas"], 1, "a second one would have another store");
    let pod = rendered.pod();
    assert_eq!(pod["metadata"]["labels"]["sidecar.istio.io/inject"], "false", "it must not wait for its own filter");
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"]
        .map(|probe| text(&pod["spec"]["containers"][0][probe]["httpGet"]["path"]));
    assert_eq!(probes, ["/livez", "/livez", "/readyz"]);
    assert_eq!(rendered.one("Service")["spec"]["publishNotReadyAddresses"], true);
    assert_valid(test, &rendered);
    let (code, said) = check(&rendered.hub_yaml());
    assert_eq!(code, 0, "{said}\n{}", rendered.hub_yaml());
}

/// What mounts a Secret, and what hub.yaml names, are the same files.
#[test]
fn every_file_that_the_hub_reads_is_mounted() {
    let values = everything("TrafficExtension");
    let mut without_agent = values.clone();
    without_agent["istio"]["agent"] = json!(false);
    without_agent["tls"] = json!({"clientCaSecret": {"name": "mesh-ca", "key": "root.pem"}});
    for values in [json!({"hub": hub()}), values, without_agent] {
        let Some(rendered) = helm("every_file_that_the_hub_reads_is_mounted", &values) else { return };
        let rendered = rendered.unwrap();
        let hub = documents(&rendered.hub_yaml()).remove(0);
        let (tls, postgres) = (&hub["listen"]["tls"], &hub["store"]["postgres"]);
        let files = [&tls["certificate"], &tls["key"], &tls["client_ca"], &postgres["password_file"], &postgres["ca"]];
        let mounts = rendered.pod()["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let volumes = rendered.pod()["spec"]["volumes"].as_array().unwrap();
        for file in files.into_iter().filter_map(Value::as_str) {
            // Istio's agent mounts what it writes.
            let mounted = mounts.iter().any(|mount| file.starts_with(&format!("{}/", text(&mount["mountPath"]))));
            assert!(mounted || file.starts_with("/var/lib/istio/data/"), "{file}");
        }
        let stateful = !rendered.all("StatefulSet").is_empty();
        for mount in mounts {
            let known = volumes.iter().any(|volume| volume["name"] == mount["name"]);
            assert!(known || (stateful && mount["name"] == "data"), "{mount}");
        }
    }
}

#[test]
fn everything_with_postgresql() {
    let test = "everything_with_postgresql";
    for api in ["TrafficExtension", "WasmPlugin"] {
        let Some(rendered) = helm(test, &everything(api)) else { return };
        let rendered = rendered.unwrap();
        let mut expected = [
            "Backend",
            "ClientTrafficPolicy",
            "Deployment",
            "DestinationRule",
            "EnvoyExtensionPolicy",
            "EnvoyFilter",
            "EnvoyFilter",
            "EnvoyProxy",
            "HTTPRoute",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "PrometheusRule",
            "Secret",
            "SecurityPolicy",
            "Service",
            "ServiceAccount",
            "ServiceMonitor",
            api,
            api,
            api,
        ];
        expected.sort_unstable();
        assert_eq!(kinds(&rendered), expected);
        assert_valid(test, &rendered);
        assert_filters_are_good(&rendered, 4);
        assert_eq!(rendered.one("Deployment")["spec"]["replicas"], 3);
        let annotations = &rendered.pod()["metadata"]["annotations"];
        assert_eq!(annotations["inject.istio.io/templates"], "grpc-agent", "Istio's agent, and no sidecar");
        let hub = documents(&rendered.hub_yaml()).remove(0);
        let access = hub["access"].as_array().unwrap();
        assert_eq!(access.len(), 2, "what the values say, and the mesh behind it");
        assert_eq!(access[1], json!({"spiffe": "spiffe://cluster.local/", "role": "sidecar"}));
        assert_eq!(hub["store"]["postgres"]["password_file"], "/etc/taskfence/db-password/password");
        assert_valid_hub(test, &rendered.hub_yaml());
    }
}

/// A hub whose certificate is not of the mesh is verified by a file that the proxies have.
#[test]
fn without_the_agent_proxies_verify_the_hub_by_its_own_authority() {
    let test = "without_the_agent_proxies_verify_the_hub_by_its_own_authority";
    let mut values = everything("TrafficExtension");
    values["istio"]["agent"] = json!(false);
    values["istio"]["caCertificates"] = json!("/etc/hub-ca/ca.crt");
    let Some(rendered) = helm(test, &values) else { return };
    let rendered = rendered.unwrap();
    assert_valid(test, &rendered);
    let rule = rendered.one("DestinationRule");
    let tls = &rule["spec"]["trafficPolicy"]["tls"];
    assert_eq!((&tls["mode"], &tls["caCertificates"]), (&json!("SIMPLE"), &json!("/etc/hub-ca/ca.crt")));
    assert_eq!(tls["sni"], tls["subjectAltNames"][0]);
}

/// What the chart makes for Envoy Gateway and has no schema here is what `envoy/gateway` ships.
#[test]
fn labels_and_alert_for_envoy_gateway_are_those_that_are_shipped() {
    let test = "labels_and_alert_for_envoy_gateway_are_those_that_are_shipped";
    let Some(rendered) = helm(test, &everything("TrafficExtension")) else { return };
    let rendered = rendered.unwrap();
    let shipped = |file: &str| {
        let file = artefacts::in_repository(format!("envoy/gateway/{file}"));
        documents(&fs::read_to_string(file).unwrap()).remove(0)["spec"].clone()
    };
    assert_eq!(rendered.one("PrometheusRule")["spec"], shipped("alerts.yaml"));
    let mut proxy = shipped("stats-tags.yaml");
    let settings = proxy.pointer_mut("/telemetry/accessLog/settings").and_then(Value::as_array_mut).unwrap();
    settings.retain(|one| one["sinks"][0]["type"] != "OpenTelemetry");
    assert_eq!(settings.len(), 2);
    assert_eq!(rendered.one("EnvoyProxy")["spec"], proxy);
    assert_eq!(rendered.one("ClientTrafficPolicy")["spec"]["path"], shipped("client-traffic.yaml")["path"]);
    assert_eq!(rendered.one("ClientTrafficPolicy")["spec"]["timeout"], shipped("client-traffic.yaml")["timeout"]);
}

/// Prometheus compares the name in the hub's certificate, which is the one that proxies call, where it has a name.
#[test]
fn what_scrapes_the_hub_verifies_the_name_that_proxies_call() {
    let tls = |istio: bool, skips: bool| {
        let values = json!({
            "hub": hub(), "serviceMonitor": {"enabled": true, "insecureSkipVerify": skips}, "istio": {"enabled": istio},
            "tls": {"clientCaSecret": {"name": "ca", "key": "ca.crt"}}
        });
        let rendered = helm("what_scrapes_the_hub_verifies_the_name_that_proxies_call", &values)?;
        Some(rendered.map(|made| made.one("ServiceMonitor")["spec"]["endpoints"][0]["tlsConfig"].clone()))
    };
    let Some(of_a_secret) = tls(false, false) else { return };
    let authority = json!({"secret": {"name": "taskfence-hub-tls", "key": "ca.crt"}});
    assert_eq!(of_a_secret.unwrap(), json!({"serverName": HOST, "ca": authority}));
    assert_eq!(tls(true, true).unwrap().unwrap(), json!({"insecureSkipVerify": true}));
    let said = format!("{:?}", tls(true, false).unwrap().unwrap_err());
    assert!(said.contains("a certificate of the mesh, which names no host"), "{said}");
}

/// Where this build of the hub knows `store.postgres`, it takes what the chart writes.
fn assert_valid_hub(test: &str, hub_yaml: &str) {
    let schema = Command::new(artefacts::command().unwrap()).args(["schema", "--hub"]).output().unwrap();
    if !String::from_utf8_lossy(&schema.stdout).contains("\"postgres\"") {
        eprintln!("skipped: {test}: this taskfence has no `store.postgres`");
        return;
    }
    let (code, said) = check(hub_yaml);
    assert_eq!(code, 0, "{said}\n{hub_yaml}");
}

#[test]
fn a_changed_configuration_starts_the_hub_again() {
    let sum = |values: &Value| {
        let rendered = helm("a_changed_configuration_starts_the_hub_again", values)?.unwrap();
        Some(text(&rendered.pod()["metadata"]["annotations"]["checksum/config"]))
    };
    let mut values = json!({"hub": hub()});
    let Some(first) = sum(&values) else { return };
    assert_eq!(sum(&values).unwrap(), first);
    values["hub"]["skew"] = json!("3m");
    assert_ne!(sum(&values).unwrap(), first);
}

#[test]
fn values_that_mean_nothing_or_no_good_are_refused() {
    let cases: [(&str, Value, &str); 9] = [
        ("/surprise", json!(1), "surprise"),
        ("/hub/data", json!("/tmp"), "data"),
        ("/image/tags", json!("x"), "tags"),
        ("/store", json!("mysql"), "store"),
        ("/postgresql/url", json!("postgresql://hub:secret@db/taskfence"), "url"),
        ("/postgresql/keysSecret", json!(""), "keysSecret is missing"),
        ("/filter/digest", json!("latest"), "digest"),
        ("/filter/digest", json!(""), "filter.digest is missing"),
        ("/istio/filters/0/labels", json!({}), "filters"),
    ];
    for (pointer, value, expected) in cases {
        let mut values = everything("TrafficExtension");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match values.pointer_mut(parent) {
            Some(parent) => parent[name] = value,
            None => values[parent.trim_start_matches('/')] = json!({name: value}),
        }
        let Some(outcome) = helm("values_that_mean_nothing_or_no_good_are_refused", &values) else { return };
        let error = outcome.err().unwrap_or_else(|| panic!("{pointer} is taken"));
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

/// Every object of the schema either names all its members, or says what the others are.
#[test]
fn the_schema_of_the_values_leaves_nothing_open() {
    let file = artefacts::in_repository("envoy/helm/taskfence/values.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    fn walk(at: &str, schema: &Value, open: &mut Vec<String>) {
        if schema["properties"].is_object() && schema["additionalProperties"] != json!(false) {
            open.push(at.to_owned());
        }
        match schema {
            Value::Object(members) => members.iter().for_each(|(name, one)| walk(&format!("{at}/{name}"), one, open)),
            Value::Array(items) => items.iter().for_each(|one| walk(at, one, open)),
            _ => {}
        }
    }
    let mut open = Vec::new();
    walk("", &schema, &mut open);
    assert_eq!(open, [""; 0]);
    let defaults = artefacts::in_repository("envoy/helm/taskfence/values.yaml");
    let defaults = documents(&fs::read_to_string(defaults).unwrap()).remove(0);
    let known: Vec<&String> =
        schema["properties"].as_object().unwrap().keys().filter(|name| *name != "global").collect();
    let mut given: Vec<&String> = defaults.as_object().unwrap().keys().collect();
    given.sort();
    let mut sorted = known.clone();
    sorted.sort();
    assert_eq!(given, sorted, "every value has a default, and every default is known");
}
