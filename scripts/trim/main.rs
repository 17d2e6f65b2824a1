//! Takes out of a module of the proxy-wasm SDK the callbacks that it does nothing in.
//!
//! The SDK exports every callback there is, and the proxy makes those that it finds: each costs a request about 0.3 us,
//! whether anything happens in it or not. The linker has no way to leave exports of a library out, so they are taken out
//! of the finished module. Where the filter has a callback of its own in place of the SDK's, it gets the proxy's name for it
//! here, since two functions of one name do not link.

use std::{env, error::Error, fs, process::ExitCode};

use wasm_encoder::{
    ExportSection, Module,
    reencode::{self, Reencode, utils},
};
use wasmparser::{Export, ExportSectionReader, Parser};

/// What the filter has the proxy call. All of it must be there.
const KEPT: [&str; 14] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_http_call_response",
    "proxy_on_request_headers",
    // A signal is a body, or ends with trailers.
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_delete",
];

/// What the filter exports in place of the SDK's, and the proxy's name for it.
const OWN: [(&str, &str); 1] = [("taskfence_on_request_body", "proxy_on_request_body")];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: trim FROM.wasm TO.wasm");
        return ExitCode::from(64);
    };
    let done = fs::read(from)
        .map_err(Into::into)
        .and_then(|module| trim(&module))
        .and_then(|module| Ok(fs::write(to, module)?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trim: {from} to {to}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The module with the exports of [`KEPT`] alone, those of [`OWN`] under their new names; an error if one of them is missing.
fn trim(module: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let (mut trimmed, mut exports) = (Module::new(), Exports::default());
    exports.parse_core_module(&mut trimmed, Parser::new(0), module).map_err(|error| error.to_string())?;
    match KEPT.iter().find(|name| !exports.found.iter().any(|found| found == *name)) {
        Some(missing) => Err(format!("the module does not export `{missing}`").into()),
        None => Ok(trimmed.finish()),
    }
}

/// Copies a module, all but some exports.
#[derive(Default)]
struct Exports {
    found: Vec<String>,
}

impl Reencode for Exports {
    type Error = std::convert::Infallible;

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        for export in section {
            let export = export?;
            if let Some(name) = kept_as(export.name) {
                self.found.push(name.to_owned());
                utils::parse_export(self, exports, Export { name, ..export })?;
            }
        }
        Ok(())
    }
}

/// The name that an export is kept under; `None` for one that goes.
fn kept_as(export: &str) -> Option<&'static str> {
    match OWN.iter().find(|(ours, sdk)| export == *ours || export == *sdk) {
        Some((ours, name)) => (export == *ours).then_some(*name),
        None => KEPT.into_iter().find(|name| *name == export),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_encoder::{ExportKind, MemorySection, MemoryType};

    fn module(names: &[&str]) -> Vec<u8> {
        let mut memories = MemorySection::new();
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut exports = ExportSection::new();
        for name in names {
            exports.export(name, ExportKind::Memory, 0);
        }
        let mut module = Module::new();
        module.section(&memories).section(&exports);
        module.finish()
    }

    /// What the filter exports of what is kept.
    fn exported() -> Vec<&'static str> {
        let ours = |name: &'static str| OWN.iter().find(|(_, kept)| *kept == name).map_or(name, |(ours, _)| *ours);
        KEPT.into_iter().map(ours).collect()
    }

    #[test]
    fn only_what_is_kept_is_left() {
        let mut names = exported();
        names.insert(3, "proxy_on_log");
        names.push("proxy_on_response_body");
        assert_eq!(trim(&module(&names)).unwrap(), module(&KEPT));
    }

    #[test]
    fn ours_stands_in_place_of_the_sdks() {
        let mut names = exported();
        names.insert(0, "proxy_on_request_body");
        assert_eq!(trim(&module(&names)).unwrap(), module(&KEPT));
        let error = trim(&module(&KEPT)).unwrap_err();
        assert_eq!(error.to_string(), "the module does not export `proxy_on_request_body`", "only the SDK's is there");
    }

    #[test]
    fn a_module_without_a_callback_is_no_filter() {
        let error = trim(&module(&exported()[1..])).unwrap_err();
        assert_eq!(error.to_string(), "the module does not export `memory`");
        assert!(trim(b"not a module").is_err());
    }
}
