//! Why a command could not be carried out.

use crate::input::configuration;
use crate::input::file;
use crate::input::problem::BadFile;
use crate::remote::{client, profile};
use crate::signing::certificate;
use crate::signing::key;
use crate::signing::push;
use crate::terminal::exit::Exit;
use crate::terminal::time;
use std::io;
use taskfence_core::state::store::StoreError;

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
    Hub(#[from] client::Error),
    #[error("{0}")]
    Failed(String),
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
            | Self::Hub(_)
            | Self::Failed(_)
            | Self::Time(_)
            | Self::Signal { .. }
            | Self::State(_)
            | Self::Output(_)
            | Self::Json(_) => Exit::Failed,
        }
    }

    /// Whether the reader of our output closed the pipe, which is not worth a message.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<profile::Error> for Failure {
    fn from(error: profile::Error) -> Self {
        match error {
            profile::Error::File(error) => error.into(),
            profile::Error::Bad(bad) => bad.into(),
            profile::Error::Usage(message) => Self::Usage(message),
        }
    }
}

impl From<configuration::Error> for Failure {
    fn from(error: configuration::Error) -> Self {
        match error {
            configuration::Error::File(error) => error.into(),
            configuration::Error::Bad(bad) => bad.into(),
        }
    }
}
