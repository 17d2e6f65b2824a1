//! A configuration as an operator keeps it: YAML or JSON, in a file or on standard input.

use std::io::Read;
use std::path::Path;
use taskfence_core::config::load;

use taskfence_core::config::compile::Loaded;
use taskfence_core::config::problem::Problem;

use crate::input::document;
use crate::input::file;
use crate::input::problem::BadFile;
use crate::input::shared_issuer;

/// A valid configuration.
#[derive(Debug)]
pub struct Configuration {
    /// What it means.
    pub loaded: Loaded,
    /// The text that Envoy would give to the filter.
    pub json: Vec<u8>,
}

/// Reads a configuration with the code that the filter runs, or says all that is wrong with it. The warnings are those of
/// the filter, and those about issuers that strangers share.
pub fn parse(text: &[u8]) -> Result<Configuration, Vec<Problem>> {
    let json = document::to_json(text, "the configuration").map_err(|problem| vec![problem])?;
    let mut loaded = load::load(&json).map_err(|errors| errors.0)?;
    let shared = shared_issuer::warnings(&loaded.policy);
    loaded.warnings.extend(shared);
    Ok(Configuration { loaded, json })
}

/// Reads the configuration at `path`; `-` is `input`.
pub fn read(path: &Path, input: &mut dyn Read) -> Result<Configuration, Error> {
    let text = file::read_or_input(path, input)?;
    Ok(parse(&text).map_err(|problems| BadFile::new(path, problems))?)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The file is no configuration.
    #[error(transparent)]
    Bad(#[from] BadFile),
}
