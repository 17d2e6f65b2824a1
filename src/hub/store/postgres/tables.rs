//! The tables that a group of changes reads and writes: what the group may need is loaded by a few statements, the group
//! works on that, and what it has changed is written by a few statements again.

use crate::store::generations;
use crate::store::model::{Change, NewEntry, NewSignal, StoreError, StoredEntry};
use crate::store::postgres::columns::{ChangedSignals, Entries, Heads, Inserted, Log, Removed, Shortened};
use crate::store::postgres::reads::{self, bucket};
use crate::store::postgres::records::{self, refs};
use crate::store::postgres::rows::{EntryRow, KeyId, Rows, Signal, State};
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use crate::store::tables::{EachRow, EachSaid, Key, KnownSignal, NumberedRow, Numbers, Own, Tables};
use crate::store::value::{self, int, uint};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::time::Timestamp;
use tokio_postgres::Row;

/// Of the rows about a key, so many of the newest are loaded for a signal that comes. More only where its place is not
/// among them.
const NEWEST: i64 = 8;

/// The tables of a database in a transaction.
pub struct PostgresTables<'s> {
    session: &'s mut Session,
    feeds: HashMap<String, (i64, Revision)>,
    /// Ids for new signals, the next one last.
    ids: Vec<i64>,
    by_jti: HashMap<(i64, String, String), Option<i64>>,
    signals: HashMap<i64, Signal>,
    keys: HashMap<KeyId, Rows>,
    /// By signal: where its entries are.
    entries: HashMap<i64, Vec<(KeyId, i64)>>,
    /// The new numbers of the log.
    log: Vec<(KeyId, i64, Chain)>,
    heads: BTreeMap<i64, Revision>,
    time: u64,
}

impl<'s> PostgresTables<'s> {
    /// Locks the feeds of `changes`, in the order of their names, and loads what these may need.
    pub fn load(session: &'s mut Session, changes: &[Change]) -> Result<PostgresTables<'s>, StoreError> {
        let mut tables = PostgresTables {
            session,
            feeds: HashMap::new(),
            ids: Vec::new(),
            by_jti: HashMap::new(),
            signals: HashMap::new(),
            keys: HashMap::new(),
            entries: HashMap::new(),
            log: Vec::new(),
            heads: BTreeMap::new(),
            time: 0,
        };
        tables.lock_feeds(changes)?;
        let (mut new, mut old, mut newest, mut complete) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            let Some((feed, _)) = tables.feeds.get(change.feed()).copied() else { continue };
            let keys = |entries: &[NewEntry]| -> Vec<KeyId> {
                entries.iter().map(|entry| (feed, entry.bucket, entry.key.clone())).collect()
            };
            match change {
                Change::Signal(signal) => {
                    new.push((feed, signal));
                    newest.extend(keys(&signal.entries));
                }
                Change::Lift { signal, .. } => old.push((feed, int(*signal))),
                Change::Derive { signal, entries, .. } => {
                    old.push((feed, int(*signal)));
                    complete.extend(keys(entries));
                }
            }
        }
        tables.load_new(&new)?;
        complete.extend(tables.load_old(&old)?);
        tables.load_keys(&complete, None)?;
        tables.load_keys(&newest, Some(NEWEST))?;
        Ok(tables)
    }

    fn lock_feeds(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let names: BTreeSet<&str> = changes.iter().map(Change::feed).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let text =
            "SELECT id, epoch, number, chain, name FROM taskfence.feed WHERE name = ANY ($1) ORDER BY name FOR UPDATE";
        for row in self.session.rows(text, &[&names])? {
            self.feeds.insert(row.try_get(4)?, reads::head(&row)?);
        }
        Ok(())
    }

    /// Which of the signals are there already, and ids for the others.
    fn load_new(&mut self, new: &[(i64, &NewSignal)]) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        let feeds: Vec<i64> = new.iter().map(|(feed, _)| *feed).collect();
        let transmitters: Vec<_> = new.iter().map(|(_, signal)| stored(&signal.transmitter)).collect();
        let jtis: Vec<_> = new.iter().map(|(_, signal)| stored(&signal.jti)).collect();
        let text = "SELECT id, fingerprint, number, chain, lifted_at IS NOT NULL, feed, transmitter, jti
             FROM taskfence.signal WHERE (feed, transmitter, jti) IN
                (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]))";
        let rows = self.session.rows(text, &[&feeds, &refs(&transmitters), &refs(&jtis)])?;
        for ((feed, transmitter), jti) in feeds.iter().zip(transmitters).zip(jtis) {
            self.by_jti.insert((*feed, transmitter.into_owned(), jti.into_owned()), None);
        }
        for row in rows {
            let (feed, known) = (row.try_get(5)?, known(&row)?);
            self.by_jti.insert((feed, row.try_get(6)?, row.try_get(7)?), Some(known.id));
            self.signals.insert(known.id, Signal { feed, known, new: None, renumbered: None, lifted: None });
        }
        let count = i64::try_from(self.by_jti.values().filter(|known| known.is_none()).count()).unwrap_or(i64::MAX);
        let text = "SELECT nextval('taskfence.signal_id') FROM generate_series(1, $1::bigint)";
        let ids = self.session.rows(text, &[&count])?;
        self.ids = ids.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.ids.sort_unstable_by(|left, right| right.cmp(left));
        Ok(())
    }

    /// Loads signals that are to be changed, with their entries. Returns the keys of these.
    fn load_old(&mut self, old: &[(i64, i64)]) -> Result<Vec<KeyId>, StoreError> {
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = old.iter().map(|(_, id)| *id).collect();
        let text = "SELECT id, fingerprint, number, chain, lifted_at IS NOT NULL, feed FROM taskfence.signal WHERE id = ANY ($1)";
        for row in self.session.rows(text, &[&ids])? {
            let (feed, known) = (row.try_get(5)?, known(&row)?);
            self.signals.insert(known.id, Signal { feed, known, new: None, renumbered: None, lifted: None });
        }
        let text = "SELECT signal.id, entry.feed, entry.bucket, entry.key, entry.number FROM taskfence.signal
             JOIN taskfence.log ON log.feed = signal.feed AND log.number BETWEEN signal.first AND signal.number
             JOIN taskfence.entry ON entry.feed = log.feed AND entry.bucket = log.bucket AND entry.key = log.key
                AND entry.number = log.number
             WHERE signal.id = ANY ($1) ORDER BY log.number";
        let mut keys = Vec::new();
        for row in self.session.rows(text, &[&ids])? {
            let key: KeyId = (row.try_get(1)?, bucket(row.try_get(2)?)?, row.try_get(3)?);
            self.entries.entry(row.try_get(0)?).or_default().push((key.clone(), row.try_get(4)?));
            keys.push(key);
        }
        Ok(keys)
    }

    /// Loads the rows about keys: the newest `limit` of each, or all of them.
    fn load_keys(&mut self, keys: &[KeyId], limit: Option<i64>) -> Result<(), StoreError> {
        let is_loaded = |key: &&KeyId| self.keys.get(*key).is_some_and(|rows| rows.is_complete || limit.is_some());
        let wanted: BTreeSet<&KeyId> = keys.iter().filter(|key| !is_loaded(key)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let feeds: Vec<i64> = wanted.iter().map(|key| key.0).collect();
        let buckets: Vec<i32> = wanted.iter().map(|key| i32::from(key.1)).collect();
        let bytes: Vec<&[u8]> = wanted.iter().map(|key| key.2.as_slice()).collect();
        let text = "SELECT entry.feed, entry.bucket, entry.key, entry.number, entry.signal, entry.until, entry.bytes,
                entry.own_at, entry.own_until, signal.fingerprint, signal.number, signal.chain,
                signal.lifted_at IS NOT NULL
             FROM unnest($1::bigint[], $2::int[], $3::bytea[]) AS wanted (feed, bucket, key)
             CROSS JOIN LATERAL (SELECT * FROM taskfence.entry WHERE entry.feed = wanted.feed
                AND entry.bucket = wanted.bucket AND entry.key = wanted.key ORDER BY entry.number DESC LIMIT $4) AS entry
             LEFT JOIN taskfence.signal ON signal.id = entry.signal";
        let rows = self.session.rows(text, &[&feeds, &buckets, &bytes, &limit.unwrap_or(i64::MAX)])?;
        for key in wanted {
            self.keys.entry(key.clone()).or_default().is_complete = true;
        }
        let mut counts: HashMap<KeyId, i64> = HashMap::new();
        for row in rows {
            let key: KeyId = (row.try_get(0)?, bucket(row.try_get(1)?)?, row.try_get(2)?);
            let (number, signal): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
            let count = counts.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
            if let Some(fingerprint) = row.try_get::<_, Option<Vec<u8>>>(9)? {
                let known = KnownSignal {
                    id: signal,
                    fingerprint,
                    number: row.try_get(10)?,
                    chain: value::chain(row.try_get(11)?)?,
                    is_lifted: row.try_get(12)?,
                };
                let new = || Signal { feed: key.0, known, new: None, renumbered: None, lifted: None };
                self.signals.entry(signal).or_insert_with(new);
            }
            let until = Timestamp(uint(row.try_get(5)?)?);
            let entry = NewEntry { bytes: row.try_get(6)?, key: key.2.clone(), bucket: key.1, until };
            let own = Own { at: Timestamp(uint(row.try_get(7)?)?), until: Timestamp(uint(row.try_get(8)?)?) };
            let rows = self.keys.entry(key).or_default();
            rows.is_complete = limit.is_none_or(|limit| *count < limit);
            if !rows.removed.contains(&number) {
                rows.rows.entry(number).or_insert(EntryRow { signal, entry, own, state: State::Loaded });
            }
        }
        Ok(())
    }

    /// The rows about a key, all of them.
    fn complete(&mut self, key: &KeyId) -> Result<&mut Rows, StoreError> {
        self.load_keys(std::slice::from_ref(key), None)?;
        Ok(self.keys.entry(key.clone()).or_default())
    }

    /// Writes what has changed, under the random id `attempt`.
    pub fn write(mut self, attempt: i64) -> Result<(), StoreError> {
        let signals = std::mem::take(&mut self.signals);
        let keys = std::mem::take(&mut self.keys);
        let inserted = Inserted::of(&signals);
        let changed = ChangedSignals::of(&signals);
        let entries = Entries::of(&keys);
        let removed = Removed::of(&keys);
        let shortened = Shortened::of(&keys);
        let log = Log::of(&self.log);
        let heads = Heads::of(&self.heads);
        let mut all = vec![];
        inserted.push(&mut all);
        changed.push(&mut all);
        removed.push(&mut all);
        entries.push(&mut all);
        shortened.push(&mut all);
        log.push(&mut all);
        heads.push(&mut all);
        all.push(("INSERT INTO taskfence.attempt (id) VALUES ($1)", vec![&attempt]));
        self.session.execute_all(&all)?;
        if self.time > 0 {
            records::note_time(self.session, self.time)?;
        }
        Ok(())
    }
}

impl Tables for PostgresTables<'_> {
    fn feed(&mut self, name: &str) -> Result<(i64, Revision), StoreError> {
        self.feeds.get(name).copied().ok_or_else(|| StoreError::NoFeed(name.to_owned()))
    }

    fn set_head(&mut self, feed: i64, head: Revision) -> Result<(), StoreError> {
        self.heads.insert(feed, head);
        Ok(())
    }

    fn signal_of(&mut self, feed: i64, transmitter: &str, jti: &str) -> Result<Option<KnownSignal>, StoreError> {
        let id = self.by_jti.get(&(feed, stored(transmitter).into_owned(), stored(jti).into_owned()));
        let id = id.ok_or_else(|| not_loaded("signal"))?;
        Ok(id.and_then(|id| self.signals.get(&id)).map(|signal| signal.known.clone()))
    }

    fn signal(&mut self, feed: i64, signal: i64) -> Result<Option<KnownSignal>, StoreError> {
        Ok(self.signals.get(&signal).filter(|one| one.feed == feed).map(|signal| signal.known.clone()))
    }

    fn add_signal(&mut self, feed: i64, new: &NewSignal) -> Result<i64, StoreError> {
        let id = self.ids.pop().ok_or_else(|| not_loaded("id"))?;
        let jti = (feed, stored(&new.transmitter).into_owned(), stored(&new.jti).into_owned());
        self.by_jti.insert(jti, Some(id));
        let (fingerprint, chain) = (new.fingerprint.clone(), Chain::default());
        let known = KnownSignal { id, fingerprint, number: 0, chain, is_lifted: false };
        // Its entries are kept by key.
        let new = NewSignal { entries: Vec::new(), ..new.clone() };
        self.signals.insert(id, Signal { feed, known, new: Some(new), renumbered: None, lifted: None });
        Ok(id)
    }

    fn renumber(&mut self, signal: i64, numbers: Numbers, ends: Option<i64>) -> Result<(), StoreError> {
        let signal = self.signals.get_mut(&signal).ok_or_else(|| not_loaded("signal"))?;
        (signal.known.number, signal.known.chain) = (numbers.last, numbers.chain);
        let ends = ends.or(signal.renumbered.and_then(|(_, ends)| ends));
        signal.renumbered = Some((numbers, ends));
        Ok(())
    }

    fn mark_lifted(&mut self, signal: i64, (by, reason, at): (&str, &str, u64)) -> Result<(), StoreError> {
        let signal = self.signals.get_mut(&signal).ok_or_else(|| not_loaded("signal"))?;
        signal.known.is_lifted = true;
        signal.lifted = Some((by.to_owned(), reason.to_owned(), at));
        Ok(())
    }

    fn entries_of(&mut self, feed: i64, signal: i64) -> Result<Vec<StoredEntry>, StoreError> {
        let places = self.entries.get(&signal).cloned().unwrap_or_default();
        let mut found = Vec::with_capacity(places.len());
        for (key, number) in places.into_iter().filter(|(key, _)| key.0 == feed) {
            if let Some(row) = self.complete(&key)?.rows.get(&number) {
                let entry = generations::as_said(row.entry.clone(), row.own)?;
                found.push(StoredEntry { number: uint(number)?, signal: uint(signal)?, entry });
            }
        }
        Ok(found)
    }

    fn newest(&mut self, key: Key<'_>, each: &mut EachRow<'_>) -> Result<(), StoreError> {
        let id = id(key);
        if !self.keys.contains_key(&id) {
            self.load_keys(std::slice::from_ref(&id), Some(NEWEST))?;
        }
        let mut before = i64::MAX;
        loop {
            let Some(rows) = self.keys.get(&id) else { return Ok(()) };
            for (number, row) in rows.rows.range(..before).rev() {
                before = *number;
                if !each(*number, &row.entry.bytes)? {
                    return Ok(());
                }
            }
            if rows.is_complete {
                return Ok(());
            }
            self.complete(&id)?;
        }
    }

    fn standing(
        &mut self,
        key: Key<'_>,
        except: i64,
        now: Timestamp,
        each: &mut EachSaid<'_>,
    ) -> Result<(), StoreError> {
        let id = id(key);
        self.complete(&id)?;
        let Some(rows) = self.keys.get(&id) else { return Ok(()) };
        for row in rows.rows.values().filter(|row| row.signal != except && row.own.until > now) {
            let is_standing = self.signals.get(&row.signal).is_some_and(|signal| !signal.known.is_lifted);
            if is_standing {
                each(&row.entry.bytes, row.own)?;
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, feed: i64, signal: i64, row: &NumberedRow<'_>) -> Result<(), StoreError> {
        let NumberedRow { number, chain, entry, own } = *row;
        let key: KeyId = (feed, entry.bucket, entry.key.clone());
        let new = EntryRow { signal, entry: entry.clone(), own, state: State::New };
        self.keys.entry(key.clone()).or_default().rows.insert(number, new);
        self.entries.entry(signal).or_default().push((key.clone(), number));
        self.log.push((key, number, chain));
        Ok(())
    }

    fn shorten(&mut self, key: Key<'_>, number: i64, until: Timestamp, bytes: Vec<u8>) -> Result<(), StoreError> {
        let row = self.keys.get_mut(&id(key)).and_then(|rows| rows.rows.get_mut(&number));
        let row = row.ok_or_else(|| not_loaded("entry"))?;
        (row.entry.until, row.entry.bytes) = (until, bytes);
        if row.state == State::Loaded {
            row.state = State::Changed;
        }
        Ok(())
    }

    fn remove_entry(&mut self, key: Key<'_>, number: i64) -> Result<(), StoreError> {
        let rows = self.keys.get_mut(&id(key)).ok_or_else(|| not_loaded("entry"))?;
        let row = rows.rows.remove(&number).ok_or_else(|| not_loaded("entry"))?;
        if row.state != State::New {
            rows.removed.insert(number);
        }
        if let Some(entries) = self.entries.get_mut(&row.signal) {
            entries.retain(|(_, other)| *other != number);
        }
        Ok(())
    }

    fn note_time(&mut self, time: u64) -> Result<(), StoreError> {
        self.time = self.time.max(time);
        Ok(())
    }

    fn latest_time(&mut self) -> Result<u64, StoreError> {
        Ok(records::latest_time(self.session)?.max(self.time))
    }
}

fn id(key: Key<'_>) -> KeyId {
    (key.feed, key.bucket, key.key.to_vec())
}

/// The columns id, fingerprint, number, chain, whether it is lifted.
fn known(row: &Row) -> Result<KnownSignal, StoreError> {
    Ok(KnownSignal {
        id: row.try_get(0)?,
        fingerprint: row.try_get(1)?,
        number: row.try_get(2)?,
        chain: value::chain(row.try_get(3)?)?,
        is_lifted: row.try_get(4)?,
    })
}

fn not_loaded(what: &str) -> StoreError {
    StoreError::Failed(format!("a row was not loaded: {what}"))
}
