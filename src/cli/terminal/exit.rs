//! How a command ends: its exit code, and the error that it could not go past.

use std::io;
use std::process::ExitCode;

use taskfence_core::state::store::StoreError;

use crate::input::file;
use crate::input::problem::BadFile;
use crate::signing::certificate;
use crate::signing::key;
use crate::signing::push;
use crate::terminal::time;

/// The exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or allowed.
    Done,
    /// The operation failed: a file, the network, a receiver or a signal that was refused, a case that went otherwise.
    Failed,
    /// The request that was asked about is denied.
    Denied,
    /// The configuration, or the file of cases, is bad.
    BadConfig,
    /// The command line is wrong (`EX_USAGE` of sysexits).
    Usage,
}

impl Exit {
    /// The code the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Denied => 2,
            Self::BadConfig => 3,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command could not be carried out. What it printed before stays printed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    File(#[from] file::Error),
    #[error(transparent)]
    Key(#[from] key::Error),
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    #[error(transparent)]
    Push(#[from] push::Error),
    #[error(transparent)]
    Time(#[from] time::Error),
    #[error(transparent)]
    BadFile(#[from] BadFile),
    #[error("{0}")]
    Usage(String),
    #[error("signal `{name}` is refused: {err}: {description}")]
    Signal { name: String, err: &'static str, description: String },
    #[error("the state cannot take the signals: {0}")]
    State(#[from] StoreError),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    #[error("cannot write the result as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::BadFile(_) => Exit::BadConfig,
            Self::Usage(_) => Exit::Usage,
            Self::File(_)
            | Self::Key(_)
            | Self::Certificate(_)
            | Self::Push(_)
            | Self::Time(_)
            | Self::Signal { .. }
            | Self::State(_)
            | Self::Output(_)
            | Self::Json(_) => Exit::Failed,
        }
    }

    /// Whether it only means that the reader of our output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
