//! How long the audit log is kept. Its size is counted as it grows, so that nobody has to read all of it.

use crate::store::model::{Audit, StoreError};
use crate::store::retention::{Line, OVERHEAD, Retention, STEP, outdated};
use crate::store::sqlite::transaction;
use crate::store::value::int;
use rusqlite::{Connection, OptionalExtension, params};
use taskfence_core::time::Timestamp;

/// The named value that counts the bytes of the audit log.
const BYTES: &str = "audit-bytes";

/// Counts a line that is about to be added.
pub fn count(connection: &Connection, line: &Audit) -> Result<(), StoreError> {
    let texts = [&line.by, &line.call, &line.detail].map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX));
    add(connection, texts.into_iter().fold(OVERHEAD, i64::saturating_add))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::model::Change;
    use crate::store::testing::{commit, signal, store};
    use taskfence_core::time::Span;

    const DAY: u64 = 86_400;

    fn line(at: u64, detail: &str) -> Audit {
        let call = "POST /v1/feeds/main/stops".to_owned();
        Audit { at: at * 1_000, by: "ann".to_owned(), call, status: 200, detail: detail.to_owned() }
    }

    fn left(store: &dyn Store) -> Vec<u64> {
        store.audits(None, 10_000).unwrap().into_iter().map(|(_, line)| line.at / 1_000 / DAY).rev().collect()
    }

    #[test]
    fn the_audit_log_is_kept_for_a_time_and_what_is_in_force_longer() {
        let (store, _folder) = store();
        let store = store.with_audit_kept(Retention { age: Span(10 * DAY), bytes: u64::MAX });
        commit(&store, Change::Signal(signal("idp", "1", &[("a", 40 * DAY)])));
        for day in 1..=15 {
            let detail = if day == 3 { r#"{"signal":1}"# } else { r#"{"signal":2}"# };
            store.audit(&[line(day * DAY, detail)]).unwrap();
        }
        store.prune(Timestamp(10 * DAY)).unwrap();
        assert_eq!(left(&store).len(), 15);
        store.prune(Timestamp(15 * DAY)).unwrap();
        assert_eq!(left(&store), [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        store.prune(Timestamp(40 * DAY)).unwrap();
        assert_eq!(left(&store), [0; 0], "the signal has ended");
    }

    #[test]
    fn the_audit_log_is_bounded_and_the_oldest_lines_go_first() {
        let (store, _folder) = store();
        let store = store.with_audit_kept(Retention { age: Span(400 * DAY), bytes: 300_000 });
        commit(&store, Change::Signal(signal("idp", "1", &[("a", 40 * DAY)])));
        let note = format!(r#"{{"reason":"{}"}}"#, "x".repeat(400));
        store.audit(&[line(1, r#"{"signal":1}"#)]).unwrap();
        for at in 2..=2_000 {
            store.audit(&[line(at * DAY / 1_000, &note)]).unwrap();
        }
        store.prune(Timestamp(2 * DAY)).unwrap();
        let lines = store.audits(None, 10_000).unwrap();
        let bytes = |line: &Audit| line.by.len() + line.call.len() + line.detail.len() + 40;
        let sum: usize = lines.iter().map(|(_, line)| bytes(line)).sum();
        assert!((299_000..=300_000).contains(&sum), "{sum}");
        assert_eq!((lines[0].0, lines.last().unwrap().0), (2_000, 1), "the newest, and the one in force");
        let second = usize::try_from(lines[lines.len() - 2].0).unwrap();
        assert_eq!(second + lines.len() - 2, 2_000, "without a gap between");
        let counted: usize = store.get(BYTES).unwrap().unwrap().parse().unwrap();
        assert_eq!(counted, sum);
    }
}
