//! The resources for Istio and Envoy Gateway: shapes by their published schemas, configurations by `taskfence check`.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use taskfence_tests::artefacts;

use crate::schemas::{Schemas, documents, text};

/// A resource, and the file it stands in.
struct Shipped {
    file: PathBuf,
    resource: Value,
}

fn shipped() -> Vec<Shipped> {
    let mut all = Vec::new();
    for folder in ["istio", "gateway"] {
        let folder = artefacts::in_repository(format!("envoy/{folder}"));
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            let resources = documents(&fs::read_to_string(&file).unwrap());
            assert!(!resources.is_empty(), "{}", file.display());
            all.extend(resources.into_iter().map(|resource| Shipped { file: file.clone(), resource }));
        }
    }
    all
}

/// The configurations of the filter in a resource.
pub fn configurations(resource: &Value) -> Vec<&Value> {
    let spec = &resource["spec"];
    let found: Vec<&Value> = match text(&resource["kind"]).as_str() {
        "TrafficExtension" => vec![&spec["wasm"]["pluginConfig"]],
        "WasmPlugin" => vec![&spec["pluginConfig"]],
        "EnvoyExtensionPolicy" => spec["wasm"].as_array().into_iter().flatten().map(|one| &one["config"]).collect(),
        _ => Vec::new(),
    };
    found
}

/// What `taskfence check` says of `text`, from standard input; its exit code.
pub fn check(text: &str) -> (i32, String) {
    let mut child = Command::new(artefacts::command().unwrap())
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn every_resource_fits_its_schema() {
    let Some(schemas) = Schemas::read("every_resource_fits_its_schema") else { return };
    let (mut known, mut unknown) = (0, Vec::new());
    for Shipped { file, resource } in shipped() {
        match schemas.faults(&resource) {
            Some(faults) => {
                assert_eq!(faults, [""; 0], "{} in {}", resource["kind"], file.display());
                known += 1;
            }
            None => unknown.push(text(&resource["kind"])),
        }
    }
    // The schemas of the Gateway API, of the Prometheus operator and of EnvoyProxy are not there.
    unknown.sort();
    assert_eq!(unknown, ["EnvoyProxy", "HTTPRoute", "PrometheusRule"]);
    assert!(known >= 12, "{known} resources were compared");
}

#[test]
fn the_schemas_refuse_what_an_api_server_would_drop() {
    let Some(schemas) = Schemas::read("the_schemas_refuse_what_an_api_server_would_drop") else { return };
    for Shipped { resource, .. } in shipped() {
        let mut wrong = resource;
        wrong["spec"]["surprise"] = json!(true);
        if let Some(faults) = schemas.faults(&wrong) {
            assert!(faults.iter().any(|fault| fault.contains("surprise")), "{}: {faults:?}", wrong["kind"]);
        }
    }
}

#[test]
fn every_configuration_in_a_resource_is_one_that_the_filter_takes() {
    let mut count = 0;
    for Shipped { file, resource } in shipped() {
        for config in configurations(&resource) {
            let (code, said) = check(&config.to_string());
            assert_eq!(code, 0, "{} {}: {said}", file.display(), resource["metadata"]["name"]);
            assert!(!said.contains("warning"), "{}: {said}", file.display());
            count += 1;
        }
    }
    assert_eq!(count, 7, "three for each of Istio's kinds, and one for Envoy Gateway");
}

/// What the pages promise about every one of them.
#[test]
fn nothing_passes_without_the_filter_and_modules_come_by_digest() {
    for Shipped { file, resource } in shipped() {
        let spec = &resource["spec"];
        let at = file.display();
        match text(&resource["kind"]).as_str() {
            kind @ ("TrafficExtension" | "WasmPlugin") => {
                let plugin = if kind == "WasmPlugin" { spec } else { &spec["wasm"] };
                assert_eq!(plugin["failStrategy"], "FAIL_RELOAD", "{at}");
                assert_eq!(spec["phase"], "AUTHZ", "{at}");
                assert!(text(&plugin["url"]).contains("@sha256:"), "{at}");
                assert!(spec["selector"].is_object() != spec["targetRefs"].is_array(), "{at}: one of both");
                if spec["selector"].is_object() {
                    assert_eq!(spec["match"], json!([{"mode": "SERVER"}]), "{at}");
                }
            }
            "EnvoyExtensionPolicy" => {
                assert_eq!(spec["wasm"][0]["failOpen"], false, "{at}");
                assert!(text(&spec["wasm"][0]["code"]["image"]["url"]).contains("@sha256:"), "{at}");
            }
            _ => {}
        }
    }
}

/// A filter follows a cluster that a resource beside it makes.
#[test]
fn the_cluster_of_the_hub_is_the_one_that_is_made() {
    let all = shipped();
    let of_kind =
        |kind: &str| all.iter().map(|one| &one.resource).filter(|one| one["kind"] == kind).collect::<Vec<_>>();
    let route = of_kind("HTTPRoute")[0];
    let by_route =
        format!("httproute/{}/{}/rule/0", text(&route["metadata"]["namespace"]), text(&route["metadata"]["name"]));
    let added = of_kind("EnvoyFilter");
    let added: Vec<String> = added
        .iter()
        .flat_map(|one| one["spec"]["configPatches"].as_array().unwrap())
        .filter(|patch| patch["applyTo"] == "CLUSTER")
        .map(|patch| text(&patch["patch"]["value"]["name"]))
        .collect();
    let hosts = of_kind("DestinationRule");
    let outbound: Vec<String> =
        hosts.iter().map(|one| format!("outbound|8500||{}", text(&one["spec"]["host"]))).collect();
    for Shipped { file, resource } in &all {
        for config in configurations(resource) {
            let cluster = text(&config["signals"]["hub"]["cluster"]);
            let known = cluster == by_route || added.contains(&cluster) || outbound.contains(&cluster);
            assert!(known, "{cluster} in {}", file.display());
            let at_waypoint = text(&resource["metadata"]["name"]).ends_with("waypoint");
            assert_eq!(at_waypoint, added.contains(&cluster), "only a waypoint lacks Istio's own cluster");
        }
    }
}
