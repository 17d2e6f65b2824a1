//! From the errors of SQLite to those of the store.

use crate::store::model::StoreError;
use rusqlite::ErrorCode;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(error.to_string()),
            _ => StoreError::Failed(error.to_string()),
        }
    }
}

/// The error of a `COMMIT`. Where the disk was full or the database was in use, nothing is stored. After any other error
/// the changes may be there or not, and after a failed fsync a later success would prove nothing.
pub fn of_commit(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Failed(error.to_string()),
        _ => StoreError::Uncertain(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Error, ffi};

    #[test]
    fn a_commit_that_may_have_happened_is_uncertain() {
        let error = |code| Error::SqliteFailure(ffi::Error::new(code), None);
        assert!(matches!(of_commit(error(ffi::SQLITE_IOERR_FSYNC)), StoreError::Uncertain(_)));
        assert!(matches!(of_commit(error(ffi::SQLITE_IOERR_WRITE)), StoreError::Uncertain(_)));
        assert!(matches!(of_commit(error(ffi::SQLITE_FULL)), StoreError::Full(_)));
        assert!(matches!(of_commit(error(ffi::SQLITE_BUSY)), StoreError::Failed(_)));
        assert!(matches!(StoreError::from(error(ffi::SQLITE_FULL)), StoreError::Full(_)));
        assert!(matches!(StoreError::from(error(ffi::SQLITE_IOERR_READ)), StoreError::Failed(_)));
        assert!(matches!(StoreError::from(error(ffi::SQLITE_CORRUPT)), StoreError::Damaged(_)));
    }
}
