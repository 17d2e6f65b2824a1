//! `taskfence capabilities`: the functions of Envoy that a module uses, as a capability restriction.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use wasmparser::{Parser, Payload, TypeRef};

use crate::failure::Failure;
use crate::input::file;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// What Envoy calls in a plugin begins with this; the other exports cannot be restricted.
const CALLBACK: &str = "proxy_on_";

/// Print the functions that a module uses, as a `capability_restriction_config` for Envoy
///
/// Envoy then gives the module these functions and no others: those that it imports, and those of its exports that Envoy
/// calls. The list is read from the module itself, so print it again for each version.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence capabilities taskfence.wasm
  taskfence capabilities taskfence.wasm --output json")]
pub struct Capabilities {
    /// The module: taskfence.wasm
    #[arg(value_name = "MODULE")]
    module: PathBuf,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// How the restriction is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// For a file of Envoy in YAML, and for people
    Yaml,
    /// For a file of Envoy in JSON, and for machines
    Json,
}

impl Capabilities {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let names = used(&file::read(&self.module)?).map_err(|cause| unreadable(&self.module, &cause))?;
        if !names.contains("proxy_on_request_headers") {
            return Err(unreadable(&self.module, &"it does not export `proxy_on_request_headers`"));
        }
        match self.output {
            Output::Yaml => {
                writeln!(console.out, "capability_restriction_config:\n  allowed_capabilities:")?;
                for name in names {
                    writeln!(console.out, "    {name}: {{}}")?;
                }
            }
            Output::Json => {
                let allowed: Map<String, Value> = names.into_iter().map(|name| (name, json!({}))).collect();
                let restriction = json!({"capability_restriction_config": {"allowed_capabilities": allowed}});
                writeln!(console.out, "{}", serde_json::to_string_pretty(&restriction)?)?;
            }
        }
        Ok(Exit::Done)
    }
}

fn unreadable(module: &Path, cause: &dyn std::fmt::Display) -> Failure {
    let module = module.display();
    Failure::Failed(format!("{module} is no module of a filter: {cause}; name the file taskfence.wasm"))
}

/// The functions that `module` imports, and the callbacks that it exports, in the order of their names.
fn used(module: &[u8]) -> wasmparser::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    if matches!(import.ty, TypeRef::Func(_)) {
                        names.insert(import.name.to_owned());
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.name.starts_with(CALLBACK) {
                        names.insert(export.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::console::Capture;

    /// `(module (import "env" "proxy_log" (func)) (func) (export "proxy_on_request_headers" (func 1))
    /// (export "_initialize" (func 1)))`
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x11\x01\x03env\x09proxy_log\0\0\x03\x02\x01\0\
        \x07\x2a\x02\x18proxy_on_request_headers\0\x01\x0b_initialize\0\x01\x0a\x04\x01\x02\0\x0b";

    #[test]
    fn imports_and_callbacks_and_nothing_else() {
        let names: Vec<String> = used(MODULE).unwrap().into_iter().collect();
        assert_eq!(names, ["proxy_log", "proxy_on_request_headers"]);
    }

    #[test]
    fn what_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("taskfence.wasm");
        std::fs::write(&file, MODULE).unwrap();
        let file = file.display().to_string();
        let mut capture = Capture::default();
        assert_eq!(capture.run(&["capabilities", &file]), Exit::Done, "{}", capture.err());
        let expected = "capability_restriction_config:\n  allowed_capabilities:\n    proxy_log: {}\n    \
            proxy_on_request_headers: {}\n";
        assert_eq!(capture.out(), expected);
        let mut capture = Capture::default();
        assert_eq!(capture.run(&["capabilities", &file, "--output", "json"]), Exit::Done, "{}", capture.err());
        let json: Value = serde_json::from_str(capture.out()).unwrap();
        let allowed = json!({"proxy_log": {}, "proxy_on_request_headers": {}});
        assert_eq!(json, json!({"capability_restriction_config": {"allowed_capabilities": allowed}}));
    }

    #[test]
    fn another_file_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("taskfence.yaml");
        for (content, why) in
            [(&b"issuers: []"[..], "bad magic"), (&b"\0asm\x01\0\0\0"[..], "proxy_on_request_headers")]
        {
            std::fs::write(&file, content).unwrap();
            let mut capture = Capture::default();
            assert_eq!(capture.run(&["capabilities", &file.display().to_string()]), Exit::Failed);
            assert!(capture.err().contains(why) && capture.err().contains("taskfence.wasm"), "{}", capture.err());
        }
    }
}
