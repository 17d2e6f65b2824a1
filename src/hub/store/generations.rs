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
use crate::store::rule::{Rule, keeps};
use crate::store::tables::{Key, Own, Tables};
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
pub struct Places<'t> {
    /// The tables, in a transaction.
    pub tables: &'t mut dyn Tables,
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

/// A row in a place.
struct Placed {
    number: i64,
    entry: FeedEntry,
}

impl Places<'_> {
    /// The rows of a new signal that is taken in at `now`.
    pub fn join(&mut self, entries: &[NewEntry], now: Timestamp) -> Result<Vec<Row>, StoreError> {
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
    pub fn undo(&mut self, signal: i64, entries: &[NewEntry], now: Timestamp) -> Result<Vec<Row>, StoreError> {
        let mut undo = |said: &NewEntry| {
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
        entries.iter().map(&mut undo).collect()
    }

    /// Makes `new` live as long as the rows `all` before it in its place. What they keep for ever ends with it.
    fn outlive(&mut self, all: &[Placed], new: &mut Entry) -> Result<(), StoreError> {
        if !keeps(Rule::Outlive) {
            return Ok(());
        }
        let bounded = all.iter().map(|placed| placed.entry.entry.until).filter(|until| *until < Timestamp::MAX);
        new.until = bounded.fold(new.until, Timestamp::max);
        for Placed { number, entry } in all.iter().filter(|placed| placed.entry.entry.until > new.until) {
            let mut entry = entry.clone();
            entry.entry.until = new.until;
            let NewEntry { bytes, key, bucket, until } = encode(&entry);
            let key = Key { feed: self.feed, bucket, key: &key };
            self.tables.shorten(key, *number, until, bytes)?;
        }
        Ok(())
    }

    /// The last row in the place of `entry`: it has the highest generation.
    fn last(&mut self, entry: &Entry) -> Result<Option<Entry>, StoreError> {
        let mut last = None;
        self.rows(entry, &mut |_, read| {
            last = Some(read.entry);
            false
        })?;
        Ok(last)
    }

    /// All rows in the place of `entry`.
    fn placed(&mut self, entry: &Entry) -> Result<Vec<Placed>, StoreError> {
        let mut placed = Vec::new();
        self.rows(entry, &mut |number, entry| {
            placed.push(Placed { number, entry });
            true
        })?;
        Ok(placed)
    }

    /// The rows in the place of `entry`, the newest first, until `each` returns `false`.
    fn rows(&mut self, entry: &Entry, each: &mut dyn FnMut(i64, FeedEntry) -> bool) -> Result<(), StoreError> {
        let (bucket, key) = (entry.key.bucket(), entry.key.encode());
        self.tables.newest(Key { feed: self.feed, bucket, key: &key }, &mut |number, bytes| {
            let same = read(bytes)?.filter(|other| other.entry.is_about_same_as(entry));
            Ok(same.is_none_or(|same| each(number, same)))
        })
    }

    /// What other signals than `except` said in the place of `entry` and stands at `now`: the latest of each time.
    fn standing(&mut self, entry: &Entry, except: i64, now: Timestamp) -> Result<Option<Own>, StoreError> {
        let (bucket, key) = (entry.key.bucket(), entry.key.encode());
        let mut standing: Option<Own> = None;
        self.tables.standing(Key { feed: self.feed, bucket, key: &key }, except, now, &mut |bytes, own| {
            let is_same = read(bytes)?.is_some_and(|read| read.entry.is_about_same_as(entry));
            if is_same {
                let latest = |all: Own| Own { at: all.at.max(own.at), until: all.until.max(own.until) };
                standing = Some(standing.map_or(own, latest));
            }
            Ok(())
        })?;
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
