//! What is deployed: resources as `kubectl get -o json` or `-o yaml` print them, or files that were rendered before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use taskfence_core::config::problem::Problem;

use crate::input::document;
use crate::rendering::resource::MANAGED_BY;

/// Which resource it is: kind, namespace and name.
pub type Id = (String, String, String);

/// The id of a resource. `None`: it is none.
pub fn id(resource: &Value) -> Option<Id> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let metadata = resource.get("metadata")?;
    let namespace = text(metadata.get("namespace")).unwrap_or_else(|| "default".to_owned());
    Some((text(resource.get("kind"))?, namespace, text(metadata.get("name"))?))
}

/// Whether a resource says that it was made by `taskfence render`.
pub fn is_ours(resource: &Value) -> bool {
    let labels = resource.get("metadata").and_then(|metadata| metadata.get("labels"));
    labels.and_then(|labels| labels.get(MANAGED_BY.0)).and_then(Value::as_str) == Some(MANAGED_BY.1)
}

/// The resources of a text: documents in YAML or one in JSON, each a resource or a list of them.
pub fn read(text: &[u8]) -> Result<Vec<Value>, Problem> {
    let mut found = Vec::new();
    for part in documents(text) {
        let json = document::to_json(&part, "what is deployed")?;
        let value: Value = serde_json::from_slice(&json)
            .map_err(|error| Problem::at("", format!("what is deployed is no JSON: {error}")))?;
        match value.get("items").and_then(Value::as_array) {
            Some(items) => found.extend(items.iter().cloned()),
            None if value.is_null() => {}
            None => found.push(value),
        }
    }
    Ok(found)
}

/// The files below `folder` that may have resources, in the order of their names.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The documents of a text.
fn documents(text: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.trim_ascii_end() == b"---" {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.extend_from_slice(line);
        }
    }
    let has_content = |part: &Vec<u8>| {
        part.split(|byte| *byte == b'\n').any(|line| !matches!(line.trim_ascii_start().first(), None | Some(b'#')))
    };
    parts.retain(has_content);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_documents_are_read() {
        let yaml =
            "# a comment\n---\nkind: A\nmetadata: {name: x, namespace: n}\n---\n---\nkind: B\nmetadata: {name: y}\n";
        let ids: Vec<_> = read(yaml.as_bytes()).unwrap().iter().filter_map(id).collect();
        let id_of = |kind: &str, namespace: &str, name: &str| (kind.to_owned(), namespace.to_owned(), name.to_owned());
        assert_eq!(ids, [id_of("A", "n", "x"), id_of("B", "default", "y")]);
        let json = r#"{"kind":"List","items":[{"kind":"A","metadata":{"name":"x"}}]}"#;
        assert_eq!(read(json.as_bytes()).unwrap().len(), 1);
        assert!(read(b"a: [").is_err());
        assert!(read(b"").unwrap().is_empty());
    }
}
