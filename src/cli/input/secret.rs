//! A token on the command line, or the file that has it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::input::file;

/// A token, or `@FILE`.
#[derive(Clone)]
pub enum Secret {
    Typed(Vec<u8>),
    InFile(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Typed(_) => f.write_str("[secret]"),
            Self::InFile(path) => f.debug_tuple("InFile").field(path).finish(),
        }
    }
}

impl From<OsString> for Secret {
    fn from(text: OsString) -> Self {
        match text.as_bytes().strip_prefix(b"@") {
            Some(path) => Self::InFile(Path::new(OsStr::from_bytes(path)).to_owned()),
            None => Self::Typed(text.into_vec()),
        }
    }
}

impl Secret {
    /// The token itself.
    pub fn read(&self) -> Result<Vec<u8>, file::Error> {
        Ok(match self {
            Self::Typed(bytes) => bytes.clone(),
            Self::InFile(path) => file::read(path)?.trim_ascii().to_vec(),
        })
    }
}
