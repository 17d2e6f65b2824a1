//! Removes the oldest lines of the audit log.

use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::retention::{Line, OVERHEAD, Retention, STEP, named_signal, outdated};
use crate::store::value::int;
use std::collections::HashSet;
use taskfence_core::time::Timestamp;

/// Removes the oldest lines that are older than `kept.age`, or too many; not those that name a signal which still has an
/// effect. Looks at the lines after `cursor`, and returns where to go on; `None`: that was all.
pub fn prune(session: &mut Session, now: Timestamp, kept: Retention, cursor: i64) -> Result<Option<i64>, StoreError> {
    let sum =
        "SELECT coalesce(sum(octet_length(by) + octet_length(call) + octet_length(detail) + $1::bigint), 0)::bigint
         FROM taskfence.audit";
    let bytes = session.row(sum, &[&OVERHEAD])?.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
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
    Ok(outdated.next)
}
