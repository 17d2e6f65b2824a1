//! From the errors of PostgreSQL to those of the store.

use crate::store::model::StoreError;
use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        let Some(db) = error.as_db_error() else {
            return match is_of_connection(&error) {
                true => StoreError::Unavailable(text(&error)),
                false => StoreError::Failed(text(&error)),
            };
        };
        let text = text(&error);
        let code = db.code();
        let class = code.code().get(..2).unwrap_or_default();
        match (class, code) {
            (_, &SqlState::DISK_FULL) => StoreError::Full(text),
            ("XX", &(SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED)) => StoreError::Damaged(text),
            (_, &SqlState::INSUFFICIENT_PRIVILEGE) => StoreError::Failed(format!(
                "{text}; let the role of the hub own the schemas `taskfence` and `evidence`: CREATE SCHEMA taskfence \
                 AUTHORIZATION hub; CREATE SCHEMA evidence AUTHORIZATION hub"
            )),
            (_, &SqlState::READ_ONLY_SQL_TRANSACTION) => {
                StoreError::Unavailable(format!("{text}: the server is no primary"))
            }
            // Connections, operators that intervene (such as a shutdown or a time-out), locks, and too few resources.
            ("08" | "57" | "55" | "53" | "40" | "25", _) => StoreError::Unavailable(text),
            _ => StoreError::Failed(text),
        }
    }
}

/// Whether it is the connection that failed, and not what was asked.
fn is_of_connection(error: &Error) -> bool {
    let is_io = || {
        let mut source = error.source();
        while let Some(inner) = source {
            if inner.is::<std::io::Error>() {
                return true;
            }
            source = inner.source();
        }
        false
    };
    error.is_closed() || is_io()
}

/// The message with its causes: of an error that a server sent, what it says, and never what was asked.
pub fn text(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
