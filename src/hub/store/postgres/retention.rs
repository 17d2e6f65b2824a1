//! How long the audit log is kept. Its size is counted as it grows, so that nobody has to read all of it.

use crate::store::model::{Audit, StoreError};
use crate::store::postgres::session::Session;
use crate::store::retention::{BYTES, Line, OVERHEAD, Retention, STEP, bytes, named_signal, outdated};
use crate::store::value::int;
use std::collections::HashSet;
use taskfence_core::time::Timestamp;

/// Removes the oldest lines that are older than `kept.age`, or too many; not those that name a signal which still has an
/// effect. Looks at the lines after `cursor`, and returns where to go on; `None`: that was all.
pub fn prune(session: &mut Session, now: Timestamp, kept: Retention, cursor: i64) -> Result<Option<i64>, StoreError> {
    let bytes = size(session)?;
    let text = "SELECT id, at, octet_length(by) + octet_length(call) + octet_length(detail) + $1::bigint, detail
         FROM taskfence.audit WHERE id > $2 ORDER BY id LIMIT $3";
    let (mut lines, mut named) = (Vec::new(), Vec::new());
    for row in session.rows(text, &[&OVERHEAD, &cursor, &STEP])? {
        let signal = named_signal(row.try_get(3)?);
        named.extend(signal);
        lines.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, signal));
    }
    let standing = "SELECT id FROM taskfence.signal WHERE id = ANY ($1) AND ends > $2";
    let rows = session.rows(standing, &[&named, &int(now.0)])?;
    let standing: HashSet<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let line = |(id, at, size, signal): (i64, i64, i64, Option<i64>)| Line {
        id,
        at,
        size,
        is_in_force: signal.is_some_and(|signal| standing.contains(&signal)),
    };
    let outdated = outdated(lines.into_iter().map(line), bytes, now, kept);
    session.execute("DELETE FROM taskfence.audit WHERE id = ANY ($1)", &[&outdated.gone])?;
    if outdated.bytes > 0 {
        add(session, outdated.bytes.saturating_neg())?;
    }
    Ok(outdated.next)
}

/// Counts lines that are about to be added.
pub fn count(session: &mut Session, lines: &[Audit]) -> Result<(), StoreError> {
    add(session, lines.iter().map(bytes).fold(0, i64::saturating_add))
}

/// The bytes of the audit log.
fn size(session: &mut Session) -> Result<i64, StoreError> {
    let row = session.row("SELECT value::bigint FROM taskfence.value WHERE name = $1", &[&BYTES])?;
    if let Some(row) = row {
        return Ok(row.try_get(0)?);
    }
    let sum =
        "SELECT coalesce(sum(octet_length(by) + octet_length(call) + octet_length(detail) + $1::bigint), 0)::bigint
         FROM taskfence.audit";
    let bytes: i64 = session.row(sum, &[&OVERHEAD])?.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let insert = "INSERT INTO taskfence.value (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    session.execute(insert, &[&BYTES, &bytes.to_string()])?;
    Ok(bytes)
}

/// Adds to what [`size`] returns. It counts all first, where nothing was counted yet.
fn add(session: &mut Session, bytes: i64) -> Result<(), StoreError> {
    let update = "UPDATE taskfence.value SET value = (value::bigint + $2)::text WHERE name = $1";
    if session.execute(update, &[&BYTES, &bytes])? == 0 {
        size(session)?;
        session.execute(update, &[&BYTES, &bytes])?;
    }
    Ok(())
}
