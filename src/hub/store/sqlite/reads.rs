//! Reading feeds, entries and signals.

use crate::store::generations;
use crate::store::model::{NewEntry, NewSignal, SignalQuery, SignalRecord, StoreError, StoredEntry};
use crate::store::tables::Own;
use crate::store::value::{self, int, uint};
use rusqlite::{Connection, OptionalExtension, Row, Rows, params};
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;

/// How many signals a query returns that names no limit.
const LIMIT: usize = 100;

/// The claims and subjects of the signals of one answer have so many bytes at most, unless it is one signal. A SET has up to
/// 64 KiB, and whoever may read may ask for a thousand, many times at once.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

const SIGNAL: &str = "signal.id, feed.name, transmitter, jti, fingerprint, event, subject, claims, by, reason, at,
    taken_in, signal.number, lifted_by, lifted_reason, lifted_at";

/// The id of a feed in the database, and its head.
pub fn feed(connection: &Connection, name: &str) -> Result<(i64, Revision), StoreError> {
    let mut select = connection.prepare_cached("SELECT id, epoch, number, chain FROM feed WHERE name = ?")?;
    let row = select
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get_ref(3)?.as_blob()?.to_vec())))
        .optional()?;
    let (id, epoch, number, chain): (i64, i64, i64, Vec<u8>) = row.ok_or(StoreError::NoFeed(name.to_owned()))?;
    let revision = Revision { epoch: epoch.cast_unsigned(), number: uint(number)?, chain: value::chain(&chain)? };
    Ok((id, revision))
}

/// See `Store::chain`.
pub fn chain(connection: &Connection, feed: i64, number: u64) -> Result<Option<Chain>, StoreError> {
    if number == 0 {
        return Ok(Some(Chain::default()));
    }
    let mut select = connection.prepare_cached("SELECT chain FROM log WHERE feed = ? AND number = ?")?;
    let bytes: Option<Vec<u8>> = select.query_row([feed, int(number)], |row| row.get(0)).optional()?;
    bytes.map(|bytes| value::chain(&bytes)).transpose()
}

/// See `Store::entries_after`.
pub fn entries_after(
    connection: &Connection,
    feed: (i64, Revision),
    after: u64,
    max_bytes: usize,
    now: Timestamp,
) -> Result<(Vec<StoredEntry>, Revision), StoreError> {
    let (feed, head) = feed;
    let mut select = connection.prepare_cached(
        "SELECT log.number, entry.signal, entry.until, entry.bucket, entry.key, entry.bytes, log.chain FROM log
         CROSS JOIN entry ON entry.feed = log.feed AND entry.bucket = log.bucket AND entry.key = log.key
            AND entry.number = log.number
         WHERE log.feed = ? AND log.number > ? AND entry.until > ? ORDER BY log.number",
    )?;
    let mut rows = select.query([feed, int(after), int(now.0)])?;
    let (mut entries, mut bytes, mut upto) = (Vec::new(), 0usize, head);
    while let Some(row) = rows.next()? {
        let stored = entry(row)?;
        bytes = bytes.saturating_add(stored.entry.bytes.len());
        if bytes > max_bytes && !entries.is_empty() {
            return Ok((entries, upto));
        }
        // What was read so far is complete up to this entry; if no more comes, it is complete up to the head.
        upto =
            Revision { number: stored.number, chain: value::chain(row.get_ref(6)?.as_blob().map_err(wrong)?)?, ..head };
        entries.push(stored);
    }
    Ok((entries, head))
}

/// See `Store::full_state`.
pub fn full_state(
    connection: &Connection,
    feed: i64,
    now: Timestamp,
    each: &mut dyn FnMut(StoredEntry),
) -> Result<(), StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT number, signal, until, bucket, key, bytes FROM entry WHERE feed = ? AND until > ?
         ORDER BY feed, bucket, key, number",
    )?;
    let mut rows = select.query([feed, int(now.0)])?;
    while let Some(row) = rows.next()? {
        each(entry(row)?);
    }
    Ok(())
}

/// See `Store::about`.
pub fn about(
    connection: &Connection,
    feed: i64,
    key: &StateKey,
    now: Timestamp,
) -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT number, signal, until, bucket, key, bytes, own_at, own_until FROM entry
         WHERE feed = ? AND bucket = ? AND key = ? AND own_until > ? ORDER BY number",
    )?;
    let mut rows = select.query(params![feed, key.bucket(), key.encode(), int(now.0)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let stored = entry_as_said(row)?;
        let query = SignalQuery { id: Some(stored.signal), ..SignalQuery::default() };
        let signal = signals(connection, feed, &query)?.pop();
        let lost = || StoreError::Damaged(format!("the signal {} of the entry {}", stored.signal, stored.number));
        let signal = signal.ok_or_else(lost)?;
        found.push((stored, signal));
    }
    Ok(found)
}

/// See `Store::signals`.
pub fn signals(connection: &Connection, feed: i64, query: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError> {
    let SignalQuery { id, before, transmitter, jti, standing_stops, limit } = query;
    let mut wanted = vec!["signal.feed = ?1"];
    let optional = [
        (id.is_some(), "signal.id = ?2"),
        (before.is_some(), "signal.id < ?3"),
        (transmitter.is_some(), "transmitter = ?4"),
        (jti.is_some(), "jti = ?5"),
        (*standing_stops, "event = 'stop' AND lifted_at IS NULL"),
    ];
    wanted.extend(optional.iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, condition)| *condition));
    let text = format!(
        "SELECT {SIGNAL} FROM signal JOIN feed ON feed.id = signal.feed WHERE {} AND ?2 IS ?2 AND ?3 IS ?3 AND ?4 IS ?4
         AND ?5 IS ?5 ORDER BY signal.id DESC LIMIT ?6",
        wanted.join(" AND ")
    );
    let limit = i64::try_from(if *limit == 0 { LIMIT } else { *limit }).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(&text)?;
    read_signals(select.query(params![feed, id.map(int), before.map(int), transmitter, jti, limit])?)
}

/// See `Store::signals_after`.
pub fn signals_after(
    connection: &Connection,
    feed: i64,
    after: u64,
    limit: usize,
) -> Result<Vec<SignalRecord>, StoreError> {
    let text = format!(
        "SELECT {SIGNAL} FROM signal JOIN feed ON feed.id = signal.feed WHERE signal.feed = ? AND signal.id > ?
         ORDER BY signal.id LIMIT ?"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    read_signals(connection.prepare_cached(&text)?.query(params![feed, int(after), limit])?)
}

/// The signals of the rows, as many as one answer may have.
fn read_signals(mut rows: Rows<'_>) -> Result<Vec<SignalRecord>, StoreError> {
    let mut found = Vec::new();
    let mut bytes = 0usize;
    while let Some(row) = rows.next()? {
        let record = signal(row)?;
        bytes = bytes.saturating_add(record.signal.claims.len()).saturating_add(record.signal.subject.len());
        if bytes > MAX_ANSWER && !found.is_empty() {
            break;
        }
        found.push(record);
    }
    Ok(found)
}

/// The entries of a signal of the feed as it said them, in order: they have consecutive numbers.
pub fn entries_of(connection: &Connection, feed: i64, signal: u64) -> Result<Vec<StoredEntry>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT entry.number, entry.signal, entry.until, entry.bucket, entry.key, entry.bytes, entry.own_at,
            entry.own_until FROM signal
         CROSS JOIN log ON log.feed = signal.feed AND log.number BETWEEN signal.first AND signal.number
         CROSS JOIN entry ON entry.feed = log.feed AND entry.bucket = log.bucket AND entry.key = log.key
            AND entry.number = log.number
         WHERE signal.id = ? AND signal.feed = ? ORDER BY log.number",
    )?;
    let mut rows = select.query([int(signal), feed])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(entry_as_said(row)?);
    }
    Ok(found)
}

/// The columns number, signal, until, bucket, key, bytes, own_at, own_until.
fn entry_as_said(row: &Row<'_>) -> Result<StoredEntry, StoreError> {
    let StoredEntry { number, signal, entry } = entry(row)?;
    let own = Own { at: Timestamp(uint(row.get(6)?)?), until: Timestamp(uint(row.get(7)?)?) };
    Ok(StoredEntry { number, signal, entry: generations::as_said(entry, own)? })
}

/// The columns number, signal, until, bucket, key, bytes.
fn entry(row: &Row<'_>) -> Result<StoredEntry, StoreError> {
    let entry =
        NewEntry { until: Timestamp(uint(row.get(2)?)?), bucket: row.get(3)?, key: row.get(4)?, bytes: row.get(5)? };
    Ok(StoredEntry { number: uint(row.get(0)?)?, signal: uint(row.get(1)?)?, entry })
}

/// The columns [`SIGNAL`].
fn signal(row: &Row<'_>) -> Result<SignalRecord, StoreError> {
    let signal = NewSignal {
        feed: row.get(1)?,
        transmitter: row.get(2)?,
        jti: row.get(3)?,
        fingerprint: row.get(4)?,
        event: row.get(5)?,
        subject: row.get(6)?,
        claims: row.get(7)?,
        by: row.get(8)?,
        reason: row.get(9)?,
        at: Timestamp(uint(row.get(10)?)?),
        taken_in: uint(row.get(11)?)?,
        entries: Vec::new(),
    };
    let lifted = match (row.get(13)?, row.get(14)?, row.get::<_, Option<i64>>(15)?) {
        (Some(by), Some(reason), Some(at)) => Some((by, reason, uint(at)?)),
        _ => None,
    };
    Ok(SignalRecord { id: uint(row.get(0)?)?, signal, number: uint(row.get(12)?)?, lifted })
}

/// The error of a column of another type.
pub fn wrong(error: rusqlite::types::FromSqlError) -> StoreError {
    StoreError::Damaged(error.to_string())
}
