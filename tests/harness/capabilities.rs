//! What the proxy lets the filter call: Envoy can keep single functions from a plugin, and this is how a test takes
//! one away from the very module that is shipped.

use std::{collections::BTreeSet, fs};

use serde_json::{Map, Value, json};
use wasmparser::{Parser, Payload};

use crate::{Error, Result, artefacts};

/// A `capability_restriction_config` for everything that the filter imports and exports, except these functions.
pub fn all_but(taken: &[&str]) -> Result<Value> {
    let path = artefacts::wasm()?;
    let module = fs::read(&path).map_err(Error::doing(format!("reading {}", path.display())))?;
    let mut names = names(&module).map_err(Error::doing("reading the module"))?;
    for name in taken {
        if !names.remove(*name) {
            return Err(Error::new(format!("the filter has no `{name}` that could be taken away: {names:?}")));
        }
    }
    let allowed: Map<String, Value> = names.into_iter().map(|name| (name, json!({}))).collect();
    Ok(json!({"allowed_capabilities": allowed}))
}

fn names(module: &[u8]) -> wasmparser::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    names.insert(import?.name.to_owned());
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    names.insert(export?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}
