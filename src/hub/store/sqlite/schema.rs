//! The tables, and how they came about: one step for each version of the schema.
//!
//! A step only adds (tables, columns with a default, indexes), so that the hub of the version before can still read
//! what it knows. `PRAGMA user_version` is the number of steps that were taken.

use crate::store::model::StoreError;
use crate::store::sqlite::transaction;
use rusqlite::Connection;

/// "TFhb": tells a store of the hub from other databases.
const APPLICATION: u32 = 0x5446_6862;

/// - `entry` is sorted by bucket and key: that is the order of a full state, and finds all about a key. `log` finds
///   an entry by its number; it keeps the chain of the last numbers, and of all whose entries are there.
/// - `signal` has the numbers of its entries (`first` to `number`) and the chain at `number`. `ends` is when the next
///   of its entries ends.
/// - `feed.cleared`: of the numbers up to it, `log` keeps only those whose entries are there.
const STEPS: &[&str] = &["
    CREATE TABLE feed (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        number INTEGER NOT NULL,
        chain BLOB NOT NULL,
        cleared INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE signal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        feed INTEGER NOT NULL,
        transmitter TEXT NOT NULL,
        jti TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        event TEXT NOT NULL,
        subject TEXT NOT NULL,
        claims TEXT NOT NULL,
        by TEXT NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL,
        taken_in INTEGER NOT NULL,
        first INTEGER NOT NULL,
        number INTEGER NOT NULL,
        chain BLOB NOT NULL,
        ends INTEGER NOT NULL,
        lifted_by TEXT,
        lifted_reason TEXT,
        lifted_at INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX signal_jti ON signal (feed, transmitter, jti);
    CREATE INDEX signal_transmitter ON signal (feed, transmitter, id);
    CREATE INDEX signal_ends ON signal (ends);
    CREATE INDEX signal_stop ON signal (feed, id) WHERE event = 'stop' AND lifted_at IS NULL;
    CREATE TABLE entry (
        feed INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        key BLOB NOT NULL,
        number INTEGER NOT NULL,
        signal INTEGER NOT NULL,
        until INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (feed, bucket, key, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE log (
        feed INTEGER NOT NULL,
        number INTEGER NOT NULL,
        chain BLOB NOT NULL,
        bucket INTEGER NOT NULL,
        key BLOB NOT NULL,
        PRIMARY KEY (feed, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clock (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        latest INTEGER NOT NULL
    ) STRICT;
    INSERT INTO clock VALUES (1, 0);
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        by TEXT NOT NULL,
        call TEXT NOT NULL,
        status INTEGER NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE TABLE principal (
        name TEXT PRIMARY KEY,
        role TEXT NOT NULL,
        feeds TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE token (
        principal TEXT NOT NULL REFERENCES principal (name) ON DELETE CASCADE,
        hash BLOB NOT NULL,
        made INTEGER NOT NULL,
        used INTEGER NOT NULL,
        PRIMARY KEY (principal, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE follower (
        feed TEXT NOT NULL,
        id TEXT NOT NULL,
        principal TEXT NOT NULL,
        report TEXT NOT NULL,
        applied TEXT NOT NULL,
        seen INTEGER NOT NULL,
        statement_at INTEGER NOT NULL,
        PRIMARY KEY (feed, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE value (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Brings the database to the schema of this hub.
///
/// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Damaged`]: something else than a hub has.
pub fn migrate(connection: &Connection) -> Result<(), StoreError> {
    migrate_by(connection, STEPS)
}

fn migrate_by(connection: &Connection, steps: &[&str]) -> Result<(), StoreError> {
    transaction::write(connection, |connection| {
        let found: u32 = pragma(connection, "user_version")?;
        let application: u32 = pragma(connection, "application_id")?;
        let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let is_empty =
            connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get::<_, bool>(0))?;
        if application != APPLICATION && !is_empty {
            return Err(StoreError::Damaged("the file is a database of another program".to_owned()));
        }
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for step in steps.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
            connection.execute_batch(step)?;
        }
        if found < known {
            connection.pragma_update(None, "application_id", APPLICATION)?;
            connection.pragma_update(None, "user_version", known)?;
        }
        Ok(())
    })
}

fn pragma(connection: &Connection, name: &str) -> Result<u32, StoreError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}
