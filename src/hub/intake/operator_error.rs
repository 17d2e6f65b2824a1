//! Why an operator's signal was not made.

use crate::store::model::StoreError;
use crate::store::writer::SubmitError;
use std::fmt;

/// Why an operator's signal was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorError {
    /// There is no feed of that name.
    UnknownFeed(String),
    /// The event, the subject or a member cannot be used.
    Bad {
        /// What is wrong.
        message: String,
        /// What to write instead; may be empty.
        help: String,
    },
    /// The id was used before for another signal.
    Contradicts(u64),
    /// It could not be stored, and may be later.
    Submit(SubmitError),
}

impl std::error::Error for OperatorError {}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperatorError::UnknownFeed(feed) => write!(f, "there is no feed `{feed}`"),
            OperatorError::Bad { message, help } if help.is_empty() => f.write_str(message),
            OperatorError::Bad { message, help } => write!(f, "{message} ({help})"),
            OperatorError::Contradicts(signal) => write!(f, "the id was used before, for signal {signal}"),
            OperatorError::Submit(error) => error.fmt(f),
        }
    }
}

impl OperatorError {
    pub(super) fn subject(message: impl Into<String>, help: impl Into<String>) -> OperatorError {
        OperatorError::Bad { message: message.into(), help: help.into() }
    }
}

impl From<StoreError> for OperatorError {
    fn from(error: StoreError) -> OperatorError {
        OperatorError::Submit(SubmitError::Store(error))
    }
}
