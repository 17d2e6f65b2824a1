//! The error of every reader of a stored format.

/// The bytes are not a table. A state that cannot be read is not a state without revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state holds bytes that are not a table of this version")]
pub struct Corrupt;
