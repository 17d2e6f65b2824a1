//! Removes what nobody needs any more, in steps, so that new signals never wait long.

use crate::store::PRUNED;
use crate::store::model::StoreError;
use crate::store::prune::{Cursor, Due, Fate, STEP};
use crate::store::sqlite::transaction;
use crate::store::value::int;
use rusqlite::{Connection, params};
use taskfence_core::time::{Span, Timestamp};

/// Of the next signals whose entries have ended by `now`, removes these entries, and the signals that have none left.
/// Returns how many entries were removed, and where to go on; `None`: that was all.
///
/// The last signal of each transmitter stays: it says when the transmitter was last heard of. So does each signal for
/// `keep` after it was taken in.
pub fn ended(
    connection: &Connection,
    now: Timestamp,
    keep: Span,
    after: Cursor,
) -> Result<(u64, Option<Cursor>), StoreError> {
    transaction::write(connection, |connection| {
        let mut select = connection.prepare_cached(
            "SELECT id, feed, first, number, ends, taken_in, EXISTS (SELECT 1 FROM signal AS newer WHERE newer.feed = signal.feed
                AND newer.transmitter = signal.transmitter AND newer.id > signal.id)
             FROM signal WHERE ends <= ?1 AND (ends, id) > (?2, ?3) ORDER BY ends, id LIMIT ?4",
        )?;
        let due = select.query_map(params![int(now.0), after.0, after.1, STEP], |row| {
            let due = Due {
                id: row.get(0)?,
                feed: row.get(1)?,
                ends: row.get(4)?,
                taken_in: row.get(5)?,
                has_successor: row.get(6)?,
            };
            Ok((due, row.get(2)?, row.get(3)?))
        })?;
        let due = due.collect::<Result<Vec<_>, _>>()?;
        let (mut removed, mut gone) = (0u64, None);
        for (signal, first, number) in &due {
            let pruned = prune(connection, signal, (*first, *number), (now, keep))?;
            removed = removed.saturating_add(pruned.entries);
            gone = gone.max(Some(signal.taken_in).filter(|_| pruned.is_gone));
        }
        if let Some(taken_in) = gone {
            note_gone(connection, taken_in)?;
        }
        let is_full = i64::try_from(due.len()).is_ok_and(|count| count >= STEP);
        Ok((removed, due.last().filter(|_| is_full).map(|(last, ..)| (last.ends, last.id))))
    })
}

/// What was removed of a signal.
struct Pruned {
    entries: u64,
    /// The signal itself.
    is_gone: bool,
}

/// Removes the entries of a signal that have ended, of those with the numbers `first` to `last`, and it with the last.
fn prune(
    connection: &Connection,
    signal: &Due,
    (first, last): (i64, i64),
    (now, keep): (Timestamp, Span),
) -> Result<Pruned, StoreError> {
    let mut numbers = connection.prepare_cached(
        "SELECT log.number, log.bucket, log.key, entry.until FROM log
         CROSS JOIN entry ON entry.feed = log.feed AND entry.bucket = log.bucket AND entry.key = log.key
            AND entry.number = log.number
         WHERE log.feed = ? AND log.number BETWEEN ? AND ?",
    )?;
    let (mut removed, mut next) = (0u64, None::<i64>);
    let mut rows = numbers.query([signal.feed, first, last])?;
    while let Some(row) = rows.next()? {
        let until: i64 = row.get(3)?;
        if until > int(now.0) {
            next = Some(next.map_or(until, |next| next.min(until)));
            continue;
        }
        let (number, bucket, key): (i64, u16, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        remove_entry(connection, signal.feed, bucket, &key, number)?;
        removed = removed.saturating_add(1);
    }
    let fate = signal.fate(next, now, keep);
    match fate {
        Fate::Until(next) => {
            connection.prepare_cached("UPDATE signal SET ends = ? WHERE id = ?")?.execute([next, signal.id])?;
        }
        Fate::Gone => {
            connection.prepare_cached("DELETE FROM signal WHERE id = ?")?.execute([signal.id])?;
        }
        Fate::LastWord => {}
    }
    Ok(Pruned { entries: removed, is_gone: fate == Fate::Gone })
}

/// Notes that a signal which was taken in at that time is gone.
fn note_gone(connection: &Connection, taken_in: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO value (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value
             WHERE CAST(excluded.value AS INTEGER) > CAST(value.value AS INTEGER)",
        )?
        .execute(params![PRUNED, taken_in.to_string()])?;
    Ok(())
}

/// Removes an entry. Its chain stays where it belongs to the last numbers of the feed.
pub fn remove_entry(
    connection: &Connection,
    feed: i64,
    bucket: u16,
    key: &[u8],
    number: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM entry WHERE feed = ? AND bucket = ? AND key = ? AND number = ?")?
        .execute(params![feed, bucket, key, number])?;
    connection
        .prepare_cached(
            "DELETE FROM log WHERE feed = ?1 AND number = ?2 AND ?2 <= (SELECT cleared FROM feed WHERE id = ?1)",
        )?
        .execute([feed, number])?;
    Ok(())
}

/// Removes the chains of some numbers that are more than `window` behind the head of their feed and have no entry any
/// more. `Ok(false)`: that was all.
pub fn chains(connection: &Connection, window: u64) -> Result<bool, StoreError> {
    transaction::write(connection, |connection| {
        let mut select =
            connection.prepare_cached("SELECT id, cleared, number - ?1 FROM feed WHERE number - ?1 > cleared")?;
        let feeds = select.query_map([int(window)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let feeds: Vec<(i64, i64, i64)> = feeds.collect::<Result<_, _>>()?;
        let mut is_more = false;
        for (feed, cleared, end) in feeds {
            let upto = cleared.saturating_add(STEP).min(end);
            connection
                .prepare_cached(
                    "DELETE FROM log WHERE feed = ? AND number > ? AND number <= ? AND NOT EXISTS (
                        SELECT 1 FROM entry WHERE entry.feed = log.feed AND entry.bucket = log.bucket
                        AND entry.key = log.key AND entry.number = log.number)",
                )?
                .execute([feed, cleared, upto])?;
            connection.prepare_cached("UPDATE feed SET cleared = ? WHERE id = ?")?.execute([upto, feed])?;
            is_more |= upto < end;
        }
        Ok(is_more)
    })
}
