//! Why a release cannot be made.

use std::io;
use std::path::{Path, PathBuf};

/// Why a release cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Files of an earlier release would be mixed with these.
    #[error("{} is not empty: remove it, or name another folder", .0.display())]
    NotEmpty(PathBuf),
    /// An entry does not fit into a ustar header.
    #[error("`{0}` is too long for a tar archive")]
    TooLong(String),
    /// The metadata of cargo, or Cargo.lock, is not what cargo writes.
    #[error("{0} is not what cargo writes: {1}")]
    Cargo(&'static str, String),
    /// The key is of another kind.
    #[error("{} is no private key on P-256 in PKCS #8 and PEM: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`", .0.display())]
    Key(PathBuf),
    /// The public key cannot be written as PEM.
    #[error("the public key cannot be written: {0}")]
    Public(String),
}

impl Error {
    /// For `map_err`: the file.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
