//! Where the things that were built or fetched before are: the Envoy binary, the filter, the command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// The Envoy to run: `$ENVOY_BIN`, or what `scripts/setup` unpacked.
pub fn envoy() -> Result<PathBuf> {
    find("ENVOY_BIN", "envoy/envoy", "run scripts/setup, which fetches it, or point ENVOY_BIN at an Envoy of yours")
}

/// The minor version of Envoy 1.x that [`envoy`] is: releases differ in what the tests expect of Envoy itself.
pub fn envoy_minor() -> Result<u32> {
    let said = Command::new(envoy()?).arg("--version").output().map_err(Error::doing("ask Envoy for its version"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    // `PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
    let minor = text.rsplit('/').nth(3).and_then(|version| version.split('.').nth(1)?.parse().ok());
    minor.ok_or_else(|| Error::new(format!("Envoy does not say which version it is: {text}")))
}

/// The filter to load: `$TASKFENCE_WASM`, or what `scripts/build-wasm` made.
pub fn wasm() -> Result<PathBuf> {
    find("TASKFENCE_WASM", "wasm/taskfence.wasm", "run scripts/build-wasm, which builds it")
}

/// The filter that stops its VM on request: `$TASKFENCE_CRASH_WASM`, or what `scripts/test` built with its feature `crash`.
pub fn crashing_wasm() -> Result<PathBuf> {
    find(
        "TASKFENCE_CRASH_WASM",
        "crash/wasm32-wasip1/debug/taskfence.wasm",
        "build it: CARGO_PROFILE_DEV_DEBUG=0 cargo build --target wasm32-wasip1 -p taskfence-filter --features crash --target-dir target/crash",
    )
}

/// The `taskfence` command: `$TASKFENCE_BIN`, or the release build.
pub fn command() -> Result<PathBuf> {
    find("TASKFENCE_BIN", "release/taskfence", "build it: cargo build --release -p taskfence-cli")
}

/// A file of this repository.
pub fn in_repository(path: impl AsRef<Path>) -> PathBuf {
    root().join(path)
}

/// Where cargo and the scripts put what they make: `$CARGO_TARGET_DIR`, or `target`.
pub fn target() -> PathBuf {
    // A relative one is relative to where cargo was called; the scripts call it from the root.
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

fn find(variable: &str, under_target: &str, remedy: &str) -> Result<PathBuf> {
    let (path, origin) = match std::env::var_os(variable) {
        Some(value) => (PathBuf::from(value), format!("${variable}")),
        None => (target().join(under_target), "the default".to_owned()),
    };
    // Tests run in the folder of their crate, people call from the root.
    let path = root().join(path);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(format!("`{}` ({origin}) is not there; {remedy}", path.display())))
}

fn root() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}
