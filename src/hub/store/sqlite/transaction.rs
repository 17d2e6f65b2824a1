//! Transactions: all of it or nothing.

use crate::store::model::StoreError;
use crate::store::sqlite::error::of_commit;
use rusqlite::Connection;

/// Runs `body` in a transaction that may write. What it wrote is durable when this returns `Ok`.
pub fn write<T>(
    connection: &Connection,
    body: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // What a thread that panicked left behind.
    roll_back(connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = body(connection).and_then(|value| {
        connection.execute_batch("COMMIT").map_err(of_commit)?;
        Ok(value)
    });
    if done.is_err() {
        roll_back(connection)?;
    }
    done
}

/// Runs `body` so that all that it reads is of one moment.
pub fn read<T>(
    connection: &Connection,
    body: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    roll_back(connection)?;
    connection.execute_batch("BEGIN")?;
    let read = body(connection);
    roll_back(connection)?;
    read
}

/// Ends the transaction, if there is one. Some errors end it on their own.
fn roll_back(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").map_err(|error| StoreError::Uncertain(error.to_string()))
}
