//! The parts of the module and the binary as CycloneDX 1.5, from what cargo says about them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::error::Error;
use crate::layout;

/// What is released; its parts are what these are built from.
const RELEASED: [&str; 2] = ["taskfence-cli", "taskfence-filter"];

/// The SBOM. `metadata` is what `cargo metadata` prints, `lock` is Cargo.lock.
pub fn of(metadata: &[u8], lock: &[u8], version: &str) -> Result<Vec<u8>, Error> {
    let metadata: Value =
        serde_json::from_slice(metadata).map_err(|cause| Error::Cargo("the metadata", cause.to_string()))?;
    let packages = by_id(metadata.get("packages"), "id");
    let nodes = by_id(metadata.pointer("/resolve/nodes"), "id");
    let sums = sums(lock)?;
    let roots: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| RELEASED.iter().any(|name| package["name"] == *name))
        .map(|(id, _)| *id)
        .collect();
    if roots.len() != RELEASED.len() {
        return Err(Error::Cargo("the metadata", format!("it has not all of {RELEASED:?}")));
    }
    let mut reached = BTreeSet::new();
    let mut left = roots.clone();
    while let Some(id) = left.pop() {
        if reached.insert(id) {
            left.extend(needed(nodes.get(id).copied().unwrap_or(&Value::Null)));
        }
    }
    let reference = |id: &str| packages.get(id).map(|package| purl(package)).unwrap_or_default();
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for id in reached {
        let Some(package) = packages.get(id) else { continue };
        components.insert(purl(package), component(package, &sums));
        let on: BTreeSet<String> =
            needed(nodes.get(id).copied().unwrap_or(&Value::Null)).into_iter().map(reference).collect();
        dependencies.insert(purl(package), json!({"ref": purl(package), "dependsOn": on}));
    }
    let own = format!("pkg:generic/taskfence@{version}");
    let on: BTreeSet<String> = roots.into_iter().map(reference).collect();
    dependencies.insert(own.clone(), json!({"ref": own, "dependsOn": on}));
    let mut sbom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": own, "name": "taskfence", "version": version,
                "licenses": [{"expression": "Apache-2.0"}], "purl": own
            }
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>()
    });
    // A name that only these parts have (a UUID of version 8, RFC 9562: of the sum of the rest).
    let sum = layout::hex(sbom.to_string().as_bytes());
    if let (Some(a), Some(b), Some(c), Some(d), Some(e)) =
        (sum.get(..8), sum.get(8..12), sum.get(13..16), sum.get(17..20), sum.get(20..32))
        && let Some(members) = sbom.as_object_mut()
    {
        members.insert("serialNumber".to_owned(), json!(format!("urn:uuid:{a}-{b}-8{c}-8{d}-{e}")));
    }
    Ok(format!("{sbom:#}\n").into_bytes())
}

fn by_id<'v>(list: Option<&'v Value>, key: &str) -> BTreeMap<&'v str, &'v Value> {
    let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| Some((item[key].as_str()?, item))).collect()
}

/// What a package needs to be built and to run: all but what its tests need.
fn needed(node: &Value) -> Vec<&str> {
    let deps = node["deps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = |dep: &&Value| {
        let kinds = dep["dep_kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
        kinds.iter().any(|kind| kind["kind"] != "dev")
    };
    deps.iter().filter(counts).filter_map(|dep| dep["pkg"].as_str()).collect()
}

fn component(package: &Value, sums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": purl(package), "name": package["name"], "version": package["version"],
        "purl": purl(package)
    });
    let key = (text(&package["name"]), text(&package["version"]));
    let Some(members) = component.as_object_mut() else { return component };
    if let Some(license) = package["license"].as_str() {
        // Older packages write `/` for OR.
        members.insert("licenses".to_owned(), json!([{"expression": license.replace('/', " OR ")}]));
    }
    if let Some(sum) = sums.get(&key) {
        members.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": sum}]));
    }
    component
}

fn purl(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The sums of the sources, by name and version. Cargo.lock has one member to a line.
fn sums(lock: &[u8]) -> Result<BTreeMap<(String, String), String>, Error> {
    let lock = std::str::from_utf8(lock).map_err(|cause| Error::Cargo("Cargo.lock", cause.to_string()))?;
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let member = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(line.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) = (member("name"), member("version"), member("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    match sums.is_empty() {
        true => Err(Error::Cargo("Cargo.lock", "it has no sums".to_owned())),
        false => Ok(sums),
    }
}
