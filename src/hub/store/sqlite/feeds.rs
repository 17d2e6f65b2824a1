//! Feeds: their heads and epochs.

use crate::store::model::StoreError;
use crate::store::past_epochs;
use crate::store::sqlite::reads;
use crate::store::sqlite::transaction;
use rusqlite::{Connection, params};
use taskfence_core::feed::revision::{Chain, Revision};

/// See `Store::open_feed`.
pub fn open_feed(connection: &Connection, name: &str, epoch: u64) -> Result<Revision, StoreError> {
    transaction::write(connection, |connection| {
        connection
            .prepare_cached(
                "INSERT INTO feed (name, epoch, number, chain, cleared) VALUES (?, ?, 0, ?, 0) ON CONFLICT DO NOTHING",
            )?
            .execute(params![name, epoch.cast_signed(), Chain::default().0])?;
        Ok(reads::feed(connection, name)?.1)
    })
}

/// See `Store::renew_feed`.
pub fn renew_feed(connection: &Connection, name: &str, epoch: u64) -> Result<Revision, StoreError> {
    transaction::write(connection, |connection| {
        let before = reads::feed(connection, name)?.1.epoch;
        connection
            .prepare_cached(
                "INSERT INTO value (name, value) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET value = value.value || ' ' || excluded.value",
            )?
            .execute(params![past_epochs(name), format!("{before:x}")])?;
        connection
            .prepare_cached("UPDATE feed SET epoch = ? WHERE name = ?")?
            .execute(params![epoch.cast_signed(), name])?;
        Ok(reads::feed(connection, name)?.1)
    })
}
