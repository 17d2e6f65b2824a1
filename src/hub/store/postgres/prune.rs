//! Removes what nobody needs any more, in steps, so that new signals never wait long.

use crate::store::PRUNED;
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::prune::{Cursor, Due, Fate, STEP};
use crate::store::value::int;
use std::collections::HashMap;
use taskfence_core::time::{Span, Timestamp};
use tokio_postgres::types::ToSql;

/// The entries of some signals that have ended, by column.
#[derive(Default)]
struct Ended {
    feed: Vec<i64>,
    bucket: Vec<i32>,
    key: Vec<Vec<u8>>,
    number: Vec<i64>,
}

/// Of the next signals whose entries have ended by `now`, removes these entries, and the signals that have none left.
/// Returns how many entries were removed, and where to go on; `None`: that was all.
pub fn ended(
    session: &mut Session,
    now: Timestamp,
    keep: Span,
    after: Cursor,
) -> Result<(u64, Option<Cursor>), StoreError> {
    lock_feeds(session)?;
    let text = "SELECT id, feed, ends, taken_in, EXISTS (SELECT 1 FROM taskfence.signal AS newer
            WHERE newer.feed = signal.feed AND newer.transmitter = signal.transmitter AND newer.id > signal.id)
         FROM taskfence.signal WHERE ends <= $1 AND (ends, id) > ($2, $3) ORDER BY ends, id LIMIT $4";
    let mut due = Vec::new();
    for row in session.rows(text, &[&int(now.0), &after.0, &after.1, &STEP])? {
        due.push(Due {
            id: row.try_get(0)?,
            feed: row.try_get(1)?,
            ends: row.try_get(2)?,
            taken_in: row.try_get(3)?,
            has_successor: row.try_get(4)?,
        });
    }
    let Some(last) = due.last() else { return Ok((0, None)) };
    let cursor = (last.ends, last.id);
    let (ended, next) = entries(session, &due, now)?;
    let removed = u64::try_from(ended.number.len()).unwrap_or(u64::MAX);
    let fates: Vec<_> = due.iter().map(|due| (due, due.fate(next.get(&due.id).copied(), now, keep))).collect();
    write(session, &ended, &fates)?;
    let is_full = i64::try_from(due.len()).is_ok_and(|count| count >= STEP);
    Ok((removed, Some(cursor).filter(|_| is_full)))
}

/// The entries of the signals that have ended, and when the next of the others ends, by signal.
fn entries(session: &mut Session, due: &[Due], now: Timestamp) -> Result<(Ended, HashMap<i64, i64>), StoreError> {
    let ids: Vec<i64> = due.iter().map(|due| due.id).collect();
    let text = "SELECT signal.id, entry.feed, entry.bucket, entry.key, entry.number, entry.until FROM taskfence.signal
         JOIN taskfence.log ON log.feed = signal.feed AND log.number BETWEEN signal.first AND signal.number
         JOIN taskfence.entry ON entry.feed = log.feed AND entry.bucket = log.bucket AND entry.key = log.key
            AND entry.number = log.number
         WHERE signal.id = ANY ($1)";
    let (mut ended, mut next) = (Ended::default(), HashMap::new());
    for row in session.rows(text, &[&ids])? {
        let (signal, until): (i64, i64) = (row.try_get(0)?, row.try_get(5)?);
        if until > int(now.0) {
            let least = next.entry(signal).or_insert(until);
            *least = until.min(*least);
            continue;
        }
        ended.feed.push(row.try_get(1)?);
        ended.bucket.push(row.try_get(2)?);
        ended.key.push(row.try_get(3)?);
        ended.number.push(row.try_get(4)?);
    }
    Ok((ended, next))
}

fn write(session: &mut Session, ended: &Ended, fates: &[(&Due, Fate)]) -> Result<(), StoreError> {
    let Ended { feed, bucket, key, number } = ended;
    let (mut kept, mut ends, mut gone, mut latest) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (due, fate) in fates {
        match fate {
            Fate::Until(next) => {
                kept.push(due.id);
                ends.push(*next);
            }
            Fate::Gone => {
                gone.push(due.id);
                latest = latest.max(Some(due.taken_in));
            }
            Fate::LastWord => {}
        }
    }
    let latest = latest.map(|taken_in| taken_in.to_string());
    let mut all: Vec<(&str, Vec<&(dyn ToSql + Sync)>)> = vec![
        (
            "DELETE FROM taskfence.entry USING unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[])
                AS gone (feed, bucket, key, number)
             WHERE entry.feed = gone.feed AND entry.bucket = gone.bucket AND entry.key = gone.key
                AND entry.number = gone.number",
            vec![feed, bucket, key, number],
        ),
        (
            "DELETE FROM taskfence.log USING unnest($1::bigint[], $2::bigint[]) AS gone (feed, number), taskfence.feed
             WHERE feed.id = gone.feed AND log.feed = gone.feed AND log.number = gone.number
                AND gone.number <= feed.cleared",
            vec![feed, number],
        ),
        (
            "UPDATE taskfence.signal SET ends = new.ends FROM unnest($1::bigint[], $2::bigint[]) AS new (id, ends)
             WHERE signal.id = new.id",
            vec![&kept, &ends],
        ),
        ("DELETE FROM taskfence.signal WHERE id = ANY ($1)", vec![&gone]),
    ];
    if let Some(latest) = &latest {
        all.push((
            "INSERT INTO taskfence.value AS value (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value
             WHERE excluded.value::bigint > value.value::bigint",
            vec![&PRUNED, latest],
        ));
    }
    session.execute_all(&all)
}

/// Removes the chains of some numbers that are more than `window` behind the head of their feed and have no entry any
/// more. `Ok(false)`: that was all.
pub fn chains(session: &mut Session, window: u64) -> Result<bool, StoreError> {
    lock_feeds(session)?;
    let text = "SELECT id, cleared, number - $1 FROM taskfence.feed WHERE number - $1 > cleared";
    let mut is_more = false;
    for row in session.rows(text, &[&int(window)])? {
        let (feed, cleared, end): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let upto = cleared.saturating_add(STEP).min(end);
        session.execute(
            "DELETE FROM taskfence.log WHERE feed = $1 AND number > $2 AND number <= $3 AND NOT EXISTS (
                SELECT 1 FROM taskfence.entry WHERE entry.feed = log.feed AND entry.bucket = log.bucket
                AND entry.key = log.key AND entry.number = log.number)",
            &[&feed, &cleared, &upto],
        )?;
        session.execute("UPDATE taskfence.feed SET cleared = $1 WHERE id = $2", &[&upto, &feed])?;
        is_more |= upto < end;
    }
    Ok(is_more)
}

/// Removes what told whether commits of more than an hour ago had happened, and what tested the order of the database.
pub fn traces(session: &mut Session) -> Result<(), StoreError> {
    session.batch(
        "DELETE FROM taskfence.attempt WHERE at < now() - interval '1 hour';
         DELETE FROM taskfence.probe WHERE at < now() - interval '1 hour'",
    )
}

/// A change of a feed locks its head first. In the order of their names, so that nobody waits for another in a circle.
fn lock_feeds(session: &mut Session) -> Result<(), StoreError> {
    session.rows("SELECT id FROM taskfence.feed ORDER BY name FOR UPDATE", &[])?;
    Ok(())
}
