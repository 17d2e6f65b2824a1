//! The published schemas of resources, as strict as an API server reads them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};
use taskfence_tests::artefacts;

/// Where the schemas are, unless `TASKFENCE_CRDS` says otherwise: beside the repository.
const BESIDE: &str = "../shared/crds";

/// Schemas by `apiVersion` and `kind`.
pub struct Schemas(BTreeMap<(String, String), Validator>);

impl Schemas {
    /// Those of Istio and Envoy Gateway; `None` where they are not there, after a word about it.
    pub fn read(test: &str) -> Option<Self> {
        let folder = std::env::var_os("TASKFENCE_CRDS").map_or_else(|| artefacts::in_repository(BESIDE), PathBuf::from);
        if !folder.is_dir() {
            eprintln!("skipped: {test}: no schemas in {} (TASKFENCE_CRDS names another folder)", folder.display());
            return None;
        }
        let mut all = BTreeMap::new();
        for file in ["istio.yaml", "envoy-gateway.yaml"] {
            for definition in documents(&fs::read_to_string(folder.join(file)).unwrap()) {
                let spec = &definition["spec"];
                for version in spec["versions"].as_array().into_iter().flatten() {
                    let of = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                    let mut schema = version["schema"]["openAPIV3Schema"].clone();
                    for known in ["apiVersion", "kind", "metadata"] {
                        schema["properties"][known] = json!({});
                    }
                    make_strict(&mut schema);
                    let validator = jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{of}: {error}"));
                    all.insert((of, text(&spec["names"]["kind"])), validator);
                }
            }
        }
        assert!(!all.is_empty(), "no schema in {}", folder.display());
        Some(Self(all))
    }

    /// Those of the kinds of Kubernetes that we use; `None` where `scripts/setup` did not fetch them, after a word about it.
    pub fn of_kubernetes(test: &str, version: &str) -> Option<Self> {
        let file = artefacts::target().join(format!("kubernetes/{version}.json"));
        let Ok(definitions) = fs::read_to_string(&file) else {
            eprintln!("skipped: {test}: no schemas in {}, which scripts/setup fetches", file.display());
            return None;
        };
        let definitions = definitions.replace("/api/_definitions.json#", "#");
        let definitions: Value = serde_json::from_str(&definitions).unwrap();
        let kinds = [
            ("apps/v1", "io.k8s.api.apps.v1", "StatefulSet"),
            ("apps/v1", "io.k8s.api.apps.v1", "Deployment"),
            ("v1", "io.k8s.api.core.v1", "Secret"),
            ("v1", "io.k8s.api.core.v1", "Service"),
            ("v1", "io.k8s.api.core.v1", "ServiceAccount"),
            ("policy/v1", "io.k8s.api.policy.v1", "PodDisruptionBudget"),
            ("networking.k8s.io/v1", "io.k8s.api.networking.v1", "NetworkPolicy"),
        ];
        let all = kinds.into_iter().map(|(version, package, kind)| {
            let schema = json!({"$ref": format!("#/$defs/{package}.{kind}"), "$defs": definitions["$defs"]});
            let validator = jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{kind}: {error}"));
            ((version.to_owned(), kind.to_owned()), validator)
        });
        Some(Self(all.collect()))
    }

    /// What is wrong with `resource`; `None` where there is no schema of its kind.
    pub fn faults(&self, resource: &Value) -> Option<Vec<String>> {
        let schema = self.0.get(&(text(&resource["apiVersion"]), text(&resource["kind"])))?;
        Some(schema.iter_errors(resource).map(|error| format!("{}: {error}", error.instance_path())).collect())
    }
}

/// The documents of a file of YAML.
pub fn documents(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error} in\n{yaml}"));
    all.into_iter().filter(|one| !one.is_null()).collect()
}

/// The text in `value`; empty when it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An API server drops members that a schema does not name. Here they are faults: what is dropped does nothing.
fn make_strict(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let keeps = members.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            if members.get("properties").is_some_and(Value::is_object) && !keeps {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(make_strict);
        }
        Value::Array(items) => items.iter_mut().for_each(make_strict),
        _ => {}
    }
}
