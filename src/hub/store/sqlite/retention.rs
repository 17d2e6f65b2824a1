//! How long the audit log is kept. Its size is counted as it grows, so that nobody has to read all of it.

use crate::store::model::{Audit, StoreError};
use crate::store::retention::{BYTES, Line, OVERHEAD, Retention, STEP, bytes, outdated};
use crate::store::sqlite::transaction;
use crate::store::value::int;
use rusqlite::{Connection, OptionalExtension, params};
use taskfence_core::time::Timestamp;

/// Counts a line that is about to be added.
pub fn count(connection: &Connection, line: &Audit) -> Result<(), StoreError> {
    add(connection, bytes(line))
}

/// Removes the oldest lines that are older than `kept.age`, or too many; not those that name a signal which still has an
/// effect. Looks at the lines after `cursor`, and returns where to go on; `None`: that was all.
pub fn prune(connection: &Connection, now: Timestamp, kept: Retention, cursor: i64) -> Result<Option<i64>, StoreError> {
    transaction::write(connection, |connection| {
        let bytes = size(connection)?;
        let outdated = outdated(next(connection, now, cursor)?.into_iter(), bytes, now, kept);
        for id in outdated.gone {
            connection.prepare_cached("DELETE FROM audit WHERE id = ?")?.execute([id])?;
        }
        add(connection, outdated.bytes.saturating_neg())?;
        Ok(outdated.next)
    })
}

fn next(connection: &Connection, now: Timestamp, cursor: i64) -> Result<Vec<Line>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, at, octet_length(by) + octet_length(call) + octet_length(detail) + ?1,
            EXISTS (SELECT 1 FROM signal WHERE signal.ends > ?2 AND signal.id =
                CASE WHEN json_valid(detail) THEN json_extract(detail, '$.signal') END)
         FROM audit WHERE id > ?3 ORDER BY id LIMIT ?4",
    )?;
    let lines = select.query_map(params![OVERHEAD, int(now.0), cursor, STEP], |row| {
        Ok(Line { id: row.get(0)?, at: row.get(1)?, size: row.get(2)?, is_in_force: row.get(3)? })
    })?;
    Ok(lines.collect::<Result<_, _>>()?)
}

/// The bytes of the audit log. They are counted once where an older hub has written it.
fn size(connection: &Connection) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT CAST(value AS INTEGER) FROM value WHERE name = ?")?;
    if let Some(bytes) = select.query_row([BYTES], |row| row.get(0)).optional()? {
        return Ok(bytes);
    }
    let sum = "SELECT coalesce(sum(octet_length(by) + octet_length(call) + octet_length(detail) + ?), 0) FROM audit";
    let bytes: i64 = connection.query_row(sum, [OVERHEAD], |row| row.get(0))?;
    connection
        .prepare_cached("INSERT INTO value (name, value) VALUES (?, ?)")?
        .execute(params![BYTES, bytes.to_string()])?;
    Ok(bytes)
}

/// Adds to what [`size`] returns. It counts all first, where nothing was counted yet.
fn add(connection: &Connection, bytes: i64) -> Result<(), StoreError> {
    let sum = size(connection)?.saturating_add(bytes);
    connection
        .prepare_cached("UPDATE value SET value = ?2 WHERE name = ?1")?
        .execute(params![BYTES, sum.to_string()])?;
    Ok(())
}
