//! Generations: how signals of one stream that say the same about the same key share one entry in the proxies, and how
//! each of them can still be undone alone.
//!
//! In a proxy the entries of one stream about one key, with the same kind of fact and the same conditions, share one
//! place (`Entry::is_about_same_as`). Of their generations the highest counts alone. Here each signal has rows of its
//! own, and each row says all that stands in its place when it is written: the latest `at` and the latest `until`. The
//! columns `own_at` and `own_until` keep what its signal said.
//!
//! - A signal that comes continues the generation of its place, or begins the next.
//! - An undo begins the next generation. Its row says what the other signals said that still stand. If there are none,
//!   the row is lifted.
//!
//! So every row alone is enough for all that stood when it was written and was not undone since. A proxy that has applied
//! the rows up to some number, in any order, and whichever of them were replaced meanwhile, lacks nothing that stood at
//! that number and stands still; and once it has applied all of them, it has exactly what stands.
//!
//! A generation is the time in seconds at which it began, or one more than the one before it. So it is higher than all
//! that proxies know, also when the file of the store was replaced by an older copy.
//!
//! The last row of a place is kept for at least as long as those before it: these must not come to the front again.

use crate::store::model::{NewEntry, StoreError};
use crate::store::sqlite::rule::{Rule, keeps};
use crate::store::sqlite::value::{int, uint};
use rusqlite::{Connection, params};
use taskfence_core::feed::entry::{self, BadEntry, Decoded, FeedEntry};
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::time::{Span, Timestamp};

/// What was in force until it was undone is kept for so long after that: a proxy that was away for longer may keep it
/// until it starts anew.
const LIFTED_LIFE: Span = Span(30 * 24 * 60 * 60);

/// The first row of a generation is kept for at least so long: the next generation of the place must be higher also when
/// that row was removed.
const LEAST_LIFE: Span = Span(60 * 60);

/// The places in the proxies of a feed.
#[derive(Clone, Copy)]
pub struct Places<'c> {
    /// The database, in a transaction.
    pub connection: &'c Connection,
    /// The feed.
    pub feed: i64,
}

/// A row that is to be stored.
pub struct Row {
    /// The entry as proxies get it.
    pub entry: NewEntry,
    /// What its signal said.
    pub own: Own,
}

/// What one signal said in a place.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// When it happened.
    pub at: Timestamp,
    /// Until when it is kept.
    pub until: Timestamp,
}

/// A row in a place.
struct Placed {
    number: i64,
    entry: FeedEntry,
}

impl Places<'_> {
    /// The rows of a new signal that is taken in at `now`.
    pub fn join(self, entries: &[NewEntry], now: Timestamp) -> Result<Vec<Row>, StoreError> {
        let mut rows: Vec<Row> = Vec::with_capacity(entries.len());
        let mut joined: Vec<Entry> = Vec::new();
        for new in entries {
            let Some(mut read) = read(&new.bytes)? else {
                rows.push(plain(new));
                continue;
            };
            let own = Own { at: read.entry.at, until: read.entry.until };
            // A signal may say the same twice.
            let last = match joined.iter().rev().find(|last| last.is_about_same_as(&read.entry)) {
                Some(last) => Some(last.clone()),
                None => self.last(&read.entry)?,
            };
            read.entry.source = read.entry.source.with_generation(continued(last.as_ref(), now));
            if let Some(last) = last.filter(|last| !last.lifted && last.until > now && keeps(Rule::Union)) {
                read.entry.at = own.at.max(last.at);
                read.entry.until = own.until.max(last.until);
            }
            rows.push(Row { entry: encode(&read), own });
            joined.push(read.entry);
        }
        Ok(rows)
    }

    /// The rows of the signal `signal`, which said `entries`, when it is undone at `now`.
    pub fn undo(self, signal: i64, entries: &[NewEntry], now: Timestamp) -> Result<Vec<Row>, StoreError> {
        let undo = |said: &NewEntry| {
            let Some(mut read) = read(&said.bytes)? else {
                let mut lifted = said.clone();
                entry::lift(&mut lifted.bytes).map_err(damaged)?;
                return Ok(plain(&lifted));
            };
            let own = Own { at: read.entry.at, until: life(read.entry.until, now) };
            let all = self.placed(&read.entry)?;
            let last = all.iter().map(|placed| placed.entry.entry.source.generation()).max().unwrap_or_default();
            let step = if keeps(Rule::Next) { 1 } else { 0 };
            read.entry.source = read.entry.source.with_generation(seconds(now).max(last.saturating_add(step)));
            let standing = self.standing(&read.entry, signal, now)?.filter(|_| keeps(Rule::Standing));
            read.entry.lifted = standing.is_none();
            read.entry.until = own.until;
            if let Some(standing) = standing {
                read.entry.at = standing.at;
                read.entry.until = own.until.max(standing.until);
            }
            self.outlive(&all, &mut read.entry)?;
            Ok(Row { entry: encode(&read), own })
        };
        entries.iter().map(undo).collect()
    }

    /// Makes `new` live as long as the rows `all` before it in its place. What they keep for ever ends with it.
    fn outlive(self, all: &[Placed], new: &mut Entry) -> Result<(), StoreError> {
        if !keeps(Rule::Outlive) {
            return Ok(());
        }
        let bounded = all.iter().map(|placed| placed.entry.entry.until).filter(|until| *until < Timestamp::MAX);
        new.until = bounded.fold(new.until, Timestamp::max);
        let mut update = self.connection.prepare_cached(
            "UPDATE entry SET until = ?, bytes = ? WHERE feed = ? AND bucket = ? AND key = ? AND number = ?",
        )?;
        for Placed { number, entry } in all.iter().filter(|placed| placed.entry.entry.until > new.until) {
            let mut entry = entry.clone();
            entry.entry.until = new.until;
            let NewEntry { bytes, key, bucket, until } = encode(&entry);
            update.execute(params![int(until.0), bytes, self.feed, bucket, key, number])?;
        }
        Ok(())
    }

    /// The last row in the place of `entry`: it has the highest generation.
    fn last(self, entry: &Entry) -> Result<Option<Entry>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT bytes FROM entry WHERE feed = ? AND bucket = ? AND key = ? ORDER BY number DESC")?;
        let mut rows = select.query(params![self.feed, entry.key.bucket(), entry.key.encode()])?;
        while let Some(row) = rows.next()? {
            let same = read(&row.get::<_, Vec<u8>>(0)?)?.filter(|other| other.entry.is_about_same_as(entry));
            if let Some(same) = same {
                return Ok(Some(same.entry));
            }
        }
        Ok(None)
    }

    /// All rows in the place of `entry`.
    fn placed(self, entry: &Entry) -> Result<Vec<Placed>, StoreError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT number, bytes FROM entry WHERE feed = ? AND bucket = ? AND key = ?")?;
        let mut rows = select.query(params![self.feed, entry.key.bucket(), entry.key.encode()])?;
        let mut placed = Vec::new();
        while let Some(row) = rows.next()? {
            let same = read(&row.get::<_, Vec<u8>>(1)?)?.filter(|other| other.entry.is_about_same_as(entry));
            let number = row.get(0)?;
            placed.extend(same.map(|entry| Placed { number, entry }));
        }
        Ok(placed)
    }

    /// What other signals than `except` said in the place of `entry` and stands at `now`: the latest of each time.
    fn standing(self, entry: &Entry, except: i64, now: Timestamp) -> Result<Option<Own>, StoreError> {
        let mut select = self.connection.prepare_cached(
            "SELECT entry.bytes, entry.own_at, entry.own_until FROM entry CROSS JOIN signal ON signal.id = entry.signal
             WHERE entry.feed = ? AND entry.bucket = ? AND entry.key = ? AND entry.own_until > ?
                AND entry.signal <> ? AND signal.lifted_at IS NULL",
        )?;
        let mut rows = select.query(params![self.feed, entry.key.bucket(), entry.key.encode(), int(now.0), except])?;
        let mut standing: Option<Own> = None;
        while let Some(row) = rows.next()? {
            let Some(read) = read(&row.get::<_, Vec<u8>>(0)?)? else { continue };
            if read.entry.is_about_same_as(entry) {
                let own = Own { at: Timestamp(uint(row.get(1)?)?), until: Timestamp(uint(row.get(2)?)?) };
                standing =
                    Some(standing.map_or(own, |all| Own { at: all.at.max(own.at), until: all.until.max(own.until) }));
            }
        }
        Ok(standing)
    }
}

/// The entry of a row as its signal said it.
pub fn as_said(mut entry: NewEntry, own: Own) -> Result<NewEntry, StoreError> {
    if let Some(mut read) = read(&entry.bytes)? {
        (read.entry.at, read.entry.until) = (own.at, own.until);
        entry = encode(&read);
    }
    Ok(entry)
}

/// Whether both are the same entries, whatever their generations.
pub fn say_the_same(left: &[NewEntry], right: &[NewEntry]) -> Result<bool, StoreError> {
    let all = |entries: &[NewEntry]| -> Result<Vec<NewEntry>, StoreError> {
        let plain = |entry: &NewEntry| {
            let Some(mut read) = read(&entry.bytes)? else { return Ok(entry.clone()) };
            read.entry.source = read.entry.source.with_generation(0);
            Ok(encode(&read))
        };
        entries.iter().map(plain).collect()
    };
    Ok(all(left)? == all(right)?)
}

/// An encoded entry that has a place; `None` where the last word counts, whichever signal said it.
fn read(bytes: &[u8]) -> Result<Option<FeedEntry>, StoreError> {
    match entry::decode(bytes).next() {
        Some(Ok(Decoded::Known(read))) => {
            let has_place = read.entry.fact.is_kept_by_signal() && read.entry.source != SourceTag::NONE;
            Ok(Some(read).filter(|_| has_place))
        }
        Some(Ok(Decoded::UnknownKind)) => Ok(None),
        Some(Err(bad)) => Err(damaged(bad)),
        None => Err(damaged(BadEntry)),
    }
}

/// The row of an entry that has no place.
fn plain(entry: &NewEntry) -> Row {
    let at = match entry::decode(&entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => read.entry.at,
        _ => Timestamp(0),
    };
    Row { entry: entry.clone(), own: Own { at, until: entry.until } }
}

/// The generation of a signal that comes at `now` after the entry `last` of its place.
fn continued(last: Option<&Entry>, now: Timestamp) -> u32 {
    let lowest = last.map_or(0, |last| last.source.generation().saturating_add(u32::from(last.lifted)));
    if keeps(Rule::Time) { lowest.max(seconds(now)) } else { lowest.max(1) }
}

fn seconds(now: Timestamp) -> u32 {
    u32::try_from(now.0).unwrap_or(u32::MAX)
}

/// Until when a row is kept that is written at `now`, because what was kept until `until` was undone.
fn life(until: Timestamp, now: Timestamp) -> Timestamp {
    if until >= Timestamp::MAX { now.plus(LIFTED_LIFE) } else { until.max(now.plus(LEAST_LIFE)) }
}

fn encode(entry: &FeedEntry) -> NewEntry {
    let Entry { key, until, .. } = entry.entry;
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    NewEntry { bytes, key: key.encode().to_vec(), bucket: key.bucket(), until }
}

fn damaged(bad: BadEntry) -> StoreError {
    StoreError::Damaged(bad.to_string())
}
