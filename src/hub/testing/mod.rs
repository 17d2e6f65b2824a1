//! What the unit tests share.

use crate::store::sqlite::SqliteStore;
use std::sync::Arc;
use tempfile::TempDir;

/// A new store, in a folder that is removed when it is dropped.
pub fn store() -> (TempDir, Arc<SqliteStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("hub.sqlite")).unwrap();
    (folder, Arc::new(store))
}
