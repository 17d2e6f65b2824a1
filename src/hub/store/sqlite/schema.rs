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
/// - `entry.own_at` and `entry.own_until`: what its signal said; `bytes` and `until` may say more, see `generations`.
/// - `feed.cleared`: of the numbers up to it, `log` keeps only those whose entries are there.
const STEPS: &[&str] = &[
    "
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
",
    "
    ALTER TABLE entry ADD COLUMN own_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE entry ADD COLUMN own_until INTEGER NOT NULL DEFAULT 0;
    UPDATE entry SET own_until = until;
",
    "
    ALTER TABLE follower ADD COLUMN replica TEXT NOT NULL DEFAULT '';
    ALTER TABLE follower ADD COLUMN relay TEXT NOT NULL DEFAULT '';
",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_a_newer_hub_is_refused_and_left_alone() {
        let connection = Connection::open_in_memory().unwrap();
        let newer = [STEPS, &["CREATE TABLE more (id INTEGER)"]].concat();
        migrate_by(&connection, &newer).unwrap();
        let known = u32::try_from(STEPS.len()).unwrap();
        let found = known + 1;
        assert_eq!(migrate(&connection), Err(StoreError::Newer { found, known }));
        assert_eq!(pragma(&connection, "user_version"), Ok(found));
    }

    #[test]
    fn an_older_store_is_brought_up_to_date_and_keeps_its_rows() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        connection.execute("INSERT INTO value VALUES ('a', 'b')", []).unwrap();
        let newer = [STEPS, &["ALTER TABLE value ADD COLUMN more INTEGER NOT NULL DEFAULT 5"]].concat();
        migrate_by(&connection, &newer).unwrap();
        migrate_by(&connection, &newer).unwrap();
        let more: i64 = connection.query_row("SELECT more FROM value WHERE name = 'a'", [], |row| row.get(0)).unwrap();
        assert_eq!((more, pragma(&connection, "user_version")), (5, Ok(u32::try_from(newer.len()).unwrap())));
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(migrate_by(&connection, &["CREATE TABLE a (id INTEGER)", "CREATE TABLE a (id INTEGER)"]).is_err());
        assert_eq!(pragma(&connection, "user_version"), Ok(0));
        migrate(&connection).unwrap();
    }

    #[test]
    fn the_database_of_another_program_is_not_touched() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (id INTEGER)").unwrap();
        assert!(matches!(migrate(&connection), Err(StoreError::Damaged(_))));
        assert_eq!(pragma(&connection, "application_id"), Ok(0));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.sqlite");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        let opened = crate::store::sqlite::SqliteStore::open(&path).map(drop);
        assert!(matches!(opened, Err(StoreError::Damaged(_))), "{opened:?}");
    }
}
