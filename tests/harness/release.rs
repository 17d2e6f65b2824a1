//! What `scripts/package` makes, from a module and a binary that are built.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result, artefacts, mint::unique};

/// The folder of a release, made by the script itself of this module and this binary.
pub fn make(name: &str, module: &Path, binary: &Path, key: Option<&Path>) -> Result<PathBuf> {
    let out = artefacts::target().join("tests").join(unique(name));
    let mut command = Command::new(artefacts::in_repository("scripts/package"));
    command.arg(&out).env("MODULE", module).env("BINARY", binary);
    match key {
        Some(key) => command.env("PACKAGE_KEY", key),
        None => command.env_remove("PACKAGE_KEY"),
    };
    let output = command.output().map_err(Error::doing("run scripts/package"))?;
    match output.status.success() {
        true => Ok(out),
        false => Err(Error::new(format!("scripts/package: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}
