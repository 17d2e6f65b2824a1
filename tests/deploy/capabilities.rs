//! The capability restrictions of `envoy/plain` are those that the module asks for: one function too few can switch the
//! filter off, one too many restricts less.

use std::{fs, process::Command};

use serde_json::Value;
use taskfence_tests::artefacts;

use crate::schemas::documents;

#[test]
fn the_plain_sidecars_allow_what_the_module_uses() {
    let wasm = artefacts::wasm().unwrap();
    let output = Command::new(artefacts::command().unwrap())
        .args(["capabilities", "--output", "json"])
        .arg(&wasm)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let used: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used = &used["capability_restriction_config"];
    for name in ["sidecar.yaml", "sidecar-with-signals.yaml"] {
        let file = artefacts::in_repository(format!("envoy/plain/{name}"));
        let bootstrap = documents(&fs::read_to_string(&file).unwrap()).remove(0);
        let mut found = Vec::new();
        restrictions(&bootstrap, &mut found);
        assert!(!found.is_empty(), "{name}");
        for restriction in found {
            let print = format!("taskfence capabilities {}", wasm.display());
            assert_eq!(restriction, used, "{name} (left) is not what `{print}` prints (right)");
        }
    }
}

fn restrictions<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| restrictions(item, found)),
        Value::Object(members) => {
            found.extend(members.get("capability_restriction_config"));
            members.values().for_each(|member| restrictions(member, found));
        }
        _ => {}
    }
}
