//! The configurations of `envoy/` in a real Envoy, with a real hub, once the marked places are adapted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{self, Http, Request},
    collector::Collector,
    envoy::Envoy,
    hub::{Hub, SOON, read_order, wait_ready, without_receiver},
    jwks,
    mint::{self, Alg, complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_signal_accepted},
    sidecar::Sidecar,
    tls::{self, Workload},
    upstream::Upstream,
};
use tokio::time;

/// Where Envoy sends its access log by OTLP.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Replaces what must stand there exactly `times` times.
fn adapt(text: &str, what: &str, by: &str, times: usize) -> String {
    assert_eq!(text.matches(what).count(), times, "`{what}` in the configuration (left: found, right: expected)");
    text.replace(what, by)
}

/// Replaces each line that holds the sample key of this name.
fn adapt_key(text: &str, kid: &str, by: &str) -> String {
    let marker = format!("\"kid\": \"{kid}\",");
    assert!(text.contains(&marker), "no key `{kid}`");
    let change = |line: &str| match line.find('{').filter(|_| line.contains(&marker)) {
        // The text is a block of YAML, and stays at its depth.
        Some(depth) => format!("{}{by}\n", " ".repeat(depth)),
        None => format!("{line}\n"),
    };
    text.lines().map(change).collect()
}

/// A hub that listens with TLS, where the workloads of `mesh.example` follow by their certificates.
pub(crate) async fn hub(name: &str) -> Hub {
    Hub::start_with(name, |config| {
        let folder = PathBuf::from(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
        let server = Workload::server();
        let (certificate, key, authority) = (folder.join("tls.crt"), folder.join("tls.key"), folder.join("ca.crt"));
        fs::write(&key, server.key_pem()).unwrap();
        fs::write(&certificate, server.pem()).unwrap();
        fs::write(&authority, tls::authority()).unwrap();
        config["listen"]["tls"] = json!({"certificate": certificate, "key": key, "client_ca": authority});
        config["access"] = json!([{"spiffe": "spiffe://mesh.example/ns/orders/", "role": "sidecar"}]);
    })
    .await
    .unwrap()
}

/// The folder that stands for `/etc/taskfence`: the module, the certificate of the proxy, and who signs the hub's.
fn etc(name: &str) -> PathBuf {
    let folder = artefacts::target().join("tests").join(unique(name));
    fs::create_dir_all(&folder).unwrap();
    let workload = Workload::new("spiffe://mesh.example/ns/orders/sa/envoy");
    fs::copy(artefacts::wasm().unwrap(), folder.join("taskfence.wasm")).unwrap();
    fs::write(folder.join("tls.crt"), workload.pem()).unwrap();
    fs::write(folder.join("tls.key"), workload.key_pem()).unwrap();
    fs::write(folder.join("ca.crt"), tls::authority()).unwrap();
    folder
}

fn shipped(file: &str, etc: &Path) -> String {
    let text = fs::read_to_string(artefacts::in_repository(format!("envoy/plain/{file}"))).unwrap();
    adapt(&text, "/etc/taskfence/", &format!("{}/", etc.display()), 4)
}

/// The file with the addresses and keys of the tests.
pub(crate) fn adapted(file: &str, hub: &Hub, upstream: &Upstream, collector: &Collector) -> String {
    let text = shipped(file, &etc("deployed-etc"));
    let text = adapt(&text, "port_value: 8080", &format!("port_value: {}", upstream.address().port()), 1);
    let text = adapt(&text, "port_value: 4317", &format!("port_value: {}", collector.address().port()), 1);
    let to_hub = format!("address: 127.0.0.1, port_value: {}", hub.address().port());
    let text = adapt(&text, "address: hub.example, port_value: 8500", &to_hub, 1);
    let text = adapt(&text, "hub.example", orders::HOST, 2);
    let receivers = usize::from(file.contains("signals"));
    let text = adapt(&text, "port_value: 10000", "port_value: 0", 1);
    let text = adapt(&text, "port_value: 10001", "port_value: 0", receivers);
    let text = adapt(&text, "port_value: 9901", "port_value: 0", 1);
    let text = adapt_key(&text, "jit-1", &mint::ISSUER.signer(Alg::Es256).public().to_string());
    let text = match receivers {
        0 => text,
        _ => adapt_key(&text, "idp-1", &mint::TRANSMITTER.signer(Alg::Es256).public().to_string()),
    };
    adapt_key(&text, "hub-1", &hub.jwks()["keys"][0].to_string())
}

async fn line(envoy: &Envoy, request: Request) -> String {
    let to = envoy.listener("app").await.unwrap();
    client::send(to, Http::One, &request).await.unwrap().line()
}

async fn until(envoy: &Envoy, what: &str, request: &Request, expected: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let came = line(envoy, request.clone()).await;
        if came == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {came}\n{}", envoy.log());
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_plain_sidecar_follows_its_hub() {
    let hub = hub("deployed-hub").await;
    let (upstream, collector) = (Upstream::start().unwrap(), Collector::start().await.unwrap());
    let text = adapted("sidecar.yaml", &hub, &upstream, &collector);
    let envoy = Envoy::start_file("deployed", "sidecar.yaml", &text).await.unwrap();
    until(&envoy, "it catches up", &Request::get("/.well-known/taskfence/ready"), "200").await;
    let task = unique("task");
    let token = mint::token().task(&task).sign();
    let read = Request::get(orders::ORDER_PATH);
    assert_eq!(line(&envoy, Request::get("/healthz")).await, "200");
    assert_eq!(line(&envoy, read.clone()).await, "401 token_missing");
    assert_eq!(line(&envoy, read.clone().bearer(&token)).await, "200");
    // The settings around the filter.
    assert_eq!(line(&envoy, read.clone().bearer(&token).header("x_y", "1")).await, "400");
    assert_eq!(line(&envoy, read.clone().bearer(&token).host("orders.mesh:8080")).await, "200");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    until(&envoy, "the task is completed", &read.clone().bearer(&token), "401 task_completed").await;
    // The log on standard output and the one by OTLP have the reason and the record, which its own line has alone.
    let deadline = Instant::now() + SOON;
    let is_record = |line: &str| line.starts_with('{') && line.contains(r#""schema":"taskfence.decision/1""#);
    let in_log = || {
        let log = envoy.log();
        let lines: Vec<_> = log.lines().filter(|line| line.starts_with('{')).collect();
        let allowed = lines.iter().find(|line| line.contains(r#""status":200"#)).map(|line| is_record(line));
        let refused = r#""reason":"task_completed""#;
        let of_refusal = lines.iter().filter(|line| line.contains(refused));
        let (records, others): (Vec<&str>, Vec<&str>) = of_refusal.partition(|line| is_record(line));
        !records.is_empty() && !others.is_empty() && allowed == Some(false) && !lines.contains(&"-")
    };
    let by_otlp =
        || ["task_completed", r#""schema":"taskfence.decision/1""#].iter().all(|text| collector.has(EXPORT, text));
    while !(in_log() && by_otlp()) {
        assert!(Instant::now() < deadline, "no record of the refusal:\n{}", envoy.log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_plain_sidecar_with_signals_is_told_by_both() {
    let hub = hub("deployed-both-hub").await;
    let (upstream, collector) = (Upstream::start().unwrap(), Collector::start().await.unwrap());
    let text = adapted("sidecar-with-signals.yaml", &hub, &upstream, &collector);
    let envoy = Envoy::start_file("deployed-both", "sidecar.yaml", &text).await.unwrap();
    until(&envoy, "it catches up", &Request::get("/.well-known/taskfence/ready"), "200").await;
    let (by_hub, by_push) = (unique("task"), unique("task"));
    let read = |task: &str| Request::get(orders::ORDER_PATH).bearer(&mint::token().task(task).sign());
    for task in [&by_hub, &by_push] {
        assert_eq!(line(&envoy, read(task)).await, "200");
    }
    let push = Request::push(orders::SIGNALS_PATH, &complete_task(&by_push).sign());
    let answer = client::send(envoy.listener("signals").await.unwrap(), Http::One, &push).await.unwrap();
    assert_eq!(answer.line(), "202", "{}", envoy.log());
    assert_eq!(line(&envoy, read(&by_push)).await, "401 task_completed");
    assert_signal_accepted(&hub.push(&complete_task(&by_hub)).await.unwrap());
    until(&envoy, "the hub is followed", &read(&by_hub), "401 task_completed").await;
}

/// Before anything of it is adapted but the paths of files, an operator can have Envoy check it.
#[tokio::test]
async fn the_plain_sidecars_are_valid_unadapted() {
    let folder = etc("deployed-valid");
    for name in ["sidecar.yaml", "sidecar-with-signals.yaml"] {
        let file = folder.join(name);
        fs::write(&file, shipped(name, &folder)).unwrap();
        let check = Command::new(artefacts::envoy().unwrap())
            .args(["--mode", "validate", "--log-level", "error", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{}: {}\n{said}", file.display(), check.status);
    }
}

/// The configurations of the resources for Istio and Envoy Gateway, each in an Envoy as those set it up: one plugin, no
/// `vm_id`, and a cluster with the name that they give it.
#[tokio::test]
async fn the_configurations_for_meshes_follow_the_cluster_that_a_mesh_makes() {
    let hub = hub("deployed-mesh-hub").await;
    let mut seen: Vec<Value> = Vec::new();
    let files = [
        ("istio", "traffic-extension.yaml", 3),
        ("istio", "wasm-plugin.yaml", 3),
        ("gateway", "extension-policy.yaml", 1),
    ];
    for (folder, file, count) in files {
        let text = fs::read_to_string(artefacts::in_repository(format!("envoy/{folder}/{file}"))).unwrap();
        let resources: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let resources: Vec<Value> = resources.into_iter().filter(|one| !one.is_null()).collect();
        assert_eq!(resources.len(), count, "{file}");
        for resource in resources {
            let spec = &resource["spec"];
            let found = [&spec["wasm"]["pluginConfig"], &spec["pluginConfig"], &spec["wasm"][0]["config"]];
            let mut config = found.into_iter().find(|config| config.is_object()).unwrap().clone();
            // Some differ in what stands around them only.
            if seen.contains(&config) {
                continue;
            }
            seen.push(config.clone());
            config["issuers"][0]["keys"] = json!({"inline": {"keys": [mint::ISSUER.jwks()["keys"][0]]}});
            config["signals"]["hub"]["keys"] = json!({"inline": hub.jwks()});
            let name = config["signals"]["hub"]["cluster"].as_str().unwrap().to_owned();
            let mut cluster = jwks::cluster(&name, hub.address());
            cluster["transport_socket"] = Workload::new("spiffe://mesh.example/ns/orders/sa/envoy").of_cluster();
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            });
            let settings = Settings::new("deployed-mesh", config).workers(1).patch(jwks::with_clusters(vec![cluster]));
            let settings = settings.patch(without_receiver).patch(|bootstrap| {
                let pointer = format!("{}/http_filters/0/typed_config/config/vm_config", bootstrap::APP);
                bootstrap.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove("vm_id");
            });
            let proxy = Sidecar::start(settings).await.unwrap();
            wait_ready(&proxy).await.unwrap_or_else(|error| panic!("{file}, {name}: {error}"));
            let token = mint::token().task(&unique("task")).sign();
            assert_allowed(&proxy, &read_order(&proxy, &token).await.unwrap());
        }
    }
    assert_eq!(seen.len(), 3, "a cluster of Istio, one of our own at a waypoint, and one of Envoy Gateway");
}

/// What EnvoyFilters add to the configuration of a proxy is something that Envoy takes.
#[test]
fn the_patches_for_istio_are_valid() {
    let value = |file: &str| -> Value {
        let text = fs::read_to_string(artefacts::in_repository(format!("envoy/istio/{file}"))).unwrap();
        let resource: Value = serde_saphyr::from_str(&text).unwrap();
        resource["spec"]["configPatches"][0]["patch"]["value"].clone()
    };
    // What Istio's own bootstrap has, and the patches refer to.
    let agent = json!({
        "name": "sds-grpc", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}
        }},
        "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"pipe": {"path": "./agent.sock"}}
        }}]}]}
    });
    let mut bootstrap = value("stats-tags.yaml");
    bootstrap["node"] = json!({"id": "waypoint", "cluster": "orders"});
    bootstrap["static_resources"] = json!({"clusters": [agent, value("waypoint-hub-cluster.yaml")]});
    let folder = artefacts::target().join("tests").join(unique("patches"));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("bootstrap.json");
    fs::write(&file, bootstrap.to_string()).unwrap();
    let mut check = Command::new(artefacts::envoy().unwrap());
    let check = check.args(["--mode", "validate", "--log-level", "error", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{}: {}\n{said}", file.display(), check.status);
}
