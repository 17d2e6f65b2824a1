//! Reading feeds, entries and signals.

use crate::store::generations;
use crate::store::model::{NewEntry, NewSignal, SignalQuery, SignalRecord, StoreError, StoredEntry};
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use crate::store::tables::Own;
use crate::store::value::{self, int, uint};
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// How many signals a query returns that names no limit.
const LIMIT: usize = 100;

/// The claims and subjects of the signals of one answer have so many bytes at most, unless it is one signal.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

const SIGNAL: &str = "signal.id, feed.name, transmitter, jti, fingerprint, event, subject, claims, by, reason, at,
    taken_in, signal.number, lifted_by, lifted_reason, lifted_at";

/// The id of a feed in the database, and its head.
pub fn feed(session: &mut Session, name: &str) -> Result<(i64, Revision), StoreError> {
    let row = session.row("SELECT id, epoch, number, chain FROM taskfence.feed WHERE name = $1", &[&name])?;
    head(&row.ok_or(StoreError::NoFeed(name.to_owned()))?)
}

/// The columns id, epoch, number, chain of a feed.
pub fn head(row: &Row) -> Result<(i64, Revision), StoreError> {
    let epoch = row.try_get::<_, i64>(1)?.cast_unsigned();
    Ok((row.try_get(0)?, Revision { epoch, number: uint(row.try_get(2)?)?, chain: value::chain(row.try_get(3)?)? }))
}

/// See `Store::chain`.
pub fn chain(session: &mut Session, feed: i64, number: u64) -> Result<Option<Chain>, StoreError> {
    if number == 0 {
        return Ok(Some(Chain::default()));
    }
    let text = "SELECT chain FROM taskfence.log WHERE feed = $1 AND number = $2";
    let row = session.row(text, &[&feed, &int(number)])?;
    row.map(|row| value::chain(row.try_get(0)?)).transpose()
}

/// See `Store::entries_after`.
pub fn entries_after(
    session: &mut Session,
    feed: (i64, Revision),
    after: u64,
    max_bytes: usize,
    now: Timestamp,
) -> Result<(Vec<StoredEntry>, Revision), StoreError> {
    let (feed, head) = feed;
    // No more rows than fit, and one that does not: an entry has this many bytes at least.
    let limit = i64::try_from(max_bytes / LEAST_ENTRY).unwrap_or(i64::MAX).saturating_add(2);
    let text = "SELECT entry.number, entry.signal, entry.until, entry.bucket, entry.key, entry.bytes, log.chain
         FROM (SELECT feed, number, chain, bucket, key FROM taskfence.log WHERE feed = $1 AND number > $2) AS log
         JOIN taskfence.entry USING (feed, bucket, key, number)
         WHERE entry.until > $3 ORDER BY log.number LIMIT $4";
    let (mut entries, mut bytes, mut upto, mut is_full) = (Vec::new(), 0usize, head, false);
    session.each_row(text, &[&feed, &int(after), &int(now.0), &limit], &mut |row| {
        let next = entry(row)?;
        bytes = bytes.saturating_add(next.entry.bytes.len());
        if bytes > max_bytes && !entries.is_empty() {
            is_full = true;
            return Ok(false);
        }
        upto = Revision { number: next.number, chain: value::chain(row.try_get(6)?)?, ..head };
        entries.push(next);
        Ok(true)
    })?;
    // If no more comes, what was read is complete up to the head.
    Ok((entries, if is_full { upto } else { head }))
}

/// An encoded entry has more bytes than this.
const LEAST_ENTRY: usize = 16;

/// See `Store::full_state`.
pub fn full_state(
    session: &mut Session,
    feed: i64,
    now: Timestamp,
    each: &mut dyn FnMut(StoredEntry),
) -> Result<(), StoreError> {
    let text = "SELECT number, signal, until, bucket, key, bytes FROM taskfence.entry WHERE feed = $1 AND until > $2
         ORDER BY bucket, key, number";
    session.each_row(text, &[&feed, &int(now.0)], &mut |row| {
        each(entry(row)?);
        Ok(true)
    })
}

/// See `Store::about`.
pub fn about(
    session: &mut Session,
    feed: i64,
    key: &StateKey,
    now: Timestamp,
) -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError> {
    let text = "SELECT number, signal, until, bucket, key, bytes, own_at, own_until FROM taskfence.entry
         WHERE feed = $1 AND bucket = $2 AND key = $3 AND own_until > $4 ORDER BY number";
    let rows = session.rows(text, &[&feed, &i32::from(key.bucket()), &key.encode().to_vec(), &int(now.0)])?;
    let mut found = Vec::new();
    for row in rows {
        let stored = entry_as_said(&row)?;
        let query = SignalQuery { id: Some(stored.signal), ..SignalQuery::default() };
        let signal = signals(session, feed, &query)?.pop();
        let lost = || StoreError::Damaged(format!("the signal {} of the entry {}", stored.signal, stored.number));
        let signal = signal.ok_or_else(lost)?;
        found.push((stored, signal));
    }
    Ok(found)
}

/// See `Store::signals`.
pub fn signals(session: &mut Session, feed: i64, query: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError> {
    let SignalQuery { id, before, transmitter, jti, standing_stops, limit } = query;
    let limit = i64::try_from(if *limit == 0 { LIMIT } else { *limit }).unwrap_or(i64::MAX);
    let (id, before) = (id.map(int), before.map(int));
    let (transmitter, jti) = (transmitter.as_deref().map(stored), jti.as_deref().map(stored));
    let (transmitter, jti) = (transmitter.as_deref(), jti.as_deref());
    let mut wanted = vec!["signal.feed = $1".to_owned()];
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&feed, &limit];
    let optional: [(bool, &str, &(dyn ToSql + Sync)); 4] = [
        (id.is_some(), "signal.id =", &id),
        (before.is_some(), "signal.id <", &before),
        (transmitter.is_some(), "transmitter =", &transmitter),
        (jti.is_some(), "jti =", &jti),
    ];
    for (is_wanted, condition, value) in optional {
        if is_wanted {
            params.push(value);
            wanted.push(format!("{condition} ${}", params.len()));
        }
    }
    if *standing_stops {
        wanted.push("event = 'stop' AND lifted_at IS NULL".to_owned());
    }
    let text = format!(
        "SELECT {SIGNAL} FROM taskfence.signal JOIN taskfence.feed ON feed.id = signal.feed WHERE {}
         ORDER BY signal.id DESC LIMIT $2",
        wanted.join(" AND ")
    );
    read_signals(session, &text, &params)
}

/// See `Store::signals_after`.
pub fn signals_after(
    session: &mut Session,
    feed: i64,
    after: u64,
    limit: usize,
) -> Result<Vec<SignalRecord>, StoreError> {
    let text = format!(
        "SELECT {SIGNAL} FROM taskfence.signal JOIN taskfence.feed ON feed.id = signal.feed
         WHERE signal.feed = $1 AND signal.id > $2 ORDER BY signal.id LIMIT $3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    read_signals(session, &text, &[&feed, &int(after), &limit])
}

/// The signals of the rows, as many as one answer may have.
fn read_signals(
    session: &mut Session,
    text: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<SignalRecord>, StoreError> {
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    session.each_row(text, params, &mut |row| {
        let record = signal(row)?;
        bytes = bytes.saturating_add(record.signal.claims.len()).saturating_add(record.signal.subject.len());
        if bytes > MAX_ANSWER && !found.is_empty() {
            return Ok(false);
        }
        found.push(record);
        Ok(true)
    })?;
    Ok(found)
}

/// The entries of a signal of the feed as it said them, in order: they have consecutive numbers.
pub fn entries_of(session: &mut Session, feed: i64, signal: i64) -> Result<Vec<StoredEntry>, StoreError> {
    let text = "SELECT entry.number, entry.signal, entry.until, entry.bucket, entry.key, entry.bytes, entry.own_at,
            entry.own_until FROM taskfence.signal
         JOIN taskfence.log ON log.feed = signal.feed AND log.number BETWEEN signal.first AND signal.number
         JOIN taskfence.entry ON entry.feed = log.feed AND entry.bucket = log.bucket AND entry.key = log.key
            AND entry.number = log.number
         WHERE signal.id = $1 AND signal.feed = $2 ORDER BY log.number";
    session.rows(text, &[&signal, &feed])?.iter().map(entry_as_said).collect()
}

/// The columns number, signal, until, bucket, key, bytes, own_at, own_until.
fn entry_as_said(row: &Row) -> Result<StoredEntry, StoreError> {
    let StoredEntry { number, signal, entry } = entry(row)?;
    let own = Own { at: Timestamp(uint(row.try_get(6)?)?), until: Timestamp(uint(row.try_get(7)?)?) };
    Ok(StoredEntry { number, signal, entry: generations::as_said(entry, own)? })
}

/// The columns number, signal, until, bucket, key, bytes.
fn entry(row: &Row) -> Result<StoredEntry, StoreError> {
    let entry = NewEntry {
        until: Timestamp(uint(row.try_get(2)?)?),
        bucket: bucket(row.try_get(3)?)?,
        key: row.try_get(4)?,
        bytes: row.try_get(5)?,
    };
    Ok(StoredEntry { number: uint(row.try_get(0)?)?, signal: uint(row.try_get(1)?)?, entry })
}

/// A bucket as a column has it.
pub fn bucket(stored: i32) -> Result<u16, StoreError> {
    u16::try_from(stored).map_err(|_| StoreError::Damaged(format!("the bucket {stored}")))
}

/// The columns [`SIGNAL`].
fn signal(row: &Row) -> Result<SignalRecord, StoreError> {
    let signal = NewSignal {
        feed: row.try_get(1)?,
        transmitter: row.try_get(2)?,
        jti: row.try_get(3)?,
        fingerprint: row.try_get(4)?,
        event: row.try_get(5)?,
        subject: row.try_get(6)?,
        claims: row.try_get(7)?,
        by: row.try_get(8)?,
        reason: row.try_get(9)?,
        at: Timestamp(uint(row.try_get(10)?)?),
        taken_in: uint(row.try_get(11)?)?,
        entries: Vec::new(),
    };
    let lifted = match (row.try_get(13)?, row.try_get(14)?, row.try_get::<_, Option<i64>>(15)?) {
        (Some(by), Some(reason), Some(at)) => Some((by, reason, uint(at)?)),
        _ => None,
    };
    Ok(SignalRecord { id: uint(row.try_get(0)?)?, signal, number: uint(row.try_get(12)?)?, lifted })
}
