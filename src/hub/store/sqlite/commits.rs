//! How changes become rows: signals, lifts, their numbers and the chain.

use crate::store::model::{Change, NewEntry, NewSignal, Outcome, StoreError, StoredEntry};
use crate::store::past_epochs;
use crate::store::sqlite::generations::{self, Places, Row};
use crate::store::sqlite::prune;
use crate::store::sqlite::reads;
use crate::store::sqlite::records;
use crate::store::sqlite::transaction;
use crate::store::sqlite::value::{self, int, uint};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::time::Timestamp;

/// See `Store::commit`.
pub fn commit(connection: &Connection, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
    transaction::write(connection, |connection| {
        let mut group = Group { connection, heads: HashMap::new(), latest: 0 };
        let outcomes = changes.iter().map(|change| group.add(change)).collect::<Result<_, _>>()?;
        group.finish()?;
        Ok(outcomes)
    })
}

/// The transaction of one group.
struct Group<'c> {
    connection: &'c Connection,
    /// The feeds that the group changes, by name.
    heads: HashMap<String, Head>,
    /// The latest time in the group, in milliseconds since 1970.
    latest: u64,
}

/// The head of a feed: in front of the stored one while a group is added.
#[derive(Debug, Clone, Copy)]
struct Head {
    feed: i64,
    revision: Revision,
}

/// The numbers of the entries of one signal, and the revision after the last of them.
struct Numbered {
    first: u64,
    revision: Revision,
    entries: Vec<StoredEntry>,
}

/// A stored signal.
struct Known {
    /// The revision after its last entry.
    revision: Revision,
    is_lifted: bool,
}

impl Group<'_> {
    fn add(&mut self, change: &Change) -> Result<Outcome, StoreError> {
        match change {
            Change::Signal(new) => self.add_signal(new),
            Change::Lift { feed, signal, by, reason, at } => {
                self.latest = self.latest.max(*at);
                self.lift(feed, *signal, (by, reason, *at))
            }
            Change::Derive { feed, signal, entries } => self.derive(feed, *signal, entries),
        }
    }

    fn add_signal(&mut self, new: &NewSignal) -> Result<Outcome, StoreError> {
        let head = self.head(&new.feed)?;
        let mut same = self.connection.prepare_cached(
            "SELECT id, fingerprint, number, chain FROM signal WHERE feed = ? AND transmitter = ? AND jti = ?",
        )?;
        let known = same
            .query_row(params![head.feed, new.transmitter, new.jti], |row| {
                let chain = row.get_ref(3)?.as_blob()?.to_vec();
                Ok((row.get(0)?, row.get_ref(1)?.as_blob()? == new.fingerprint, row.get(2)?, chain))
            })
            .optional()?;
        if let Some((signal, is_same, number, chain)) = known {
            let signal = uint(signal)?;
            let revision = Revision { epoch: head.revision.epoch, number: uint(number)?, chain: value::chain(&chain)? };
            return Ok(if is_same { Outcome::Repeated { signal, revision } } else { Outcome::Contradicts { signal } });
        }
        self.latest = self.latest.max(new.taken_in);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO signal (feed, transmitter, jti, fingerprint, event, subject, claims, by, reason, at, taken_in,
                first, number, chain, ends) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, x'', 0)",
        )?;
        let signal = insert.insert(params![
            head.feed,
            new.transmitter,
            new.jti,
            new.fingerprint,
            new.event,
            new.subject,
            new.claims,
            new.by,
            new.reason,
            int(new.at.0),
            int(new.taken_in),
        ])?;
        let joined = self.places(head).join(&new.entries, Timestamp(new.taken_in / 1000))?;
        let Numbered { first, revision, entries } = self.number(&new.feed, signal, joined)?;
        // A signal without entries is kept for as long as a transmitter may send it again.
        let ends = entries.iter().map(|stored| stored.entry.until.0).min();
        let ends = ends.unwrap_or((new.taken_in / 1000).saturating_add(KEPT_WITHOUT_ENTRIES));
        self.connection
            .prepare_cached("UPDATE signal SET first = ?, number = ?, chain = ?, ends = ? WHERE id = ?")?
            .execute(params![int(first), int(revision.number), revision.chain.0, int(ends), signal])?;
        Ok(Outcome::Stored { signal: uint(signal)?, revision, entries })
    }

    fn lift(&mut self, feed: &str, signal: u64, (by, reason, at): (&str, &str, u64)) -> Result<Outcome, StoreError> {
        let Some(Known { revision, is_lifted }) = self.known(feed, signal)? else { return Ok(Outcome::Unknown) };
        if is_lifted {
            return Ok(Outcome::Repeated { signal, revision });
        }
        let head = self.head(feed)?;
        let stored = reads::entries_of(self.connection, head.feed, signal)?;
        let said: Vec<_> = stored.iter().map(|stored| stored.entry.clone()).collect();
        let undone = self.places(head).undo(int(signal), &said, Timestamp(at / 1000))?;
        self.connection
            .prepare_cached("UPDATE signal SET lifted_by = ?, lifted_reason = ?, lifted_at = ? WHERE id = ?")?
            .execute(params![by, reason, int(at), int(signal)])?;
        self.replace(feed, signal, stored, undone)
    }

    fn derive(&mut self, feed: &str, signal: u64, entries: &[NewEntry]) -> Result<Outcome, StoreError> {
        let Some(Known { revision, is_lifted }) = self.known(feed, signal)? else { return Ok(Outcome::Unknown) };
        let head = self.head(feed)?;
        let stored = reads::entries_of(self.connection, head.feed, signal)?;
        let said: Vec<_> = stored.iter().map(|stored| stored.entry.clone()).collect();
        if generations::say_the_same(&said, entries)? {
            return Ok(Outcome::Repeated { signal, revision });
        }
        let now = Timestamp(records::latest_time(self.connection)?.max(self.latest) / 1000);
        let places = self.places(head);
        let rows = if is_lifted { places.undo(int(signal), entries, now)? } else { places.join(entries, now)? };
        self.replace(feed, signal, stored, rows)
    }

    /// Stores `rows` in the place of the rows `stored` of a signal.
    fn replace(
        &mut self,
        feed: &str,
        signal: u64,
        stored: Vec<StoredEntry>,
        rows: Vec<Row>,
    ) -> Result<Outcome, StoreError> {
        let Head { feed: id, .. } = self.head(feed)?;
        for StoredEntry { number, entry, .. } in stored {
            prune::remove_entry(self.connection, id, entry.bucket, &entry.key, int(number))?;
        }
        let ends = rows.iter().map(|row| int(row.own.until.0)).min();
        let Numbered { first, revision, entries } = self.number(feed, int(signal), rows)?;
        self.connection
            .prepare_cached("UPDATE signal SET first = ?, number = ?, chain = ?, ends = ifnull(?, ends) WHERE id = ?")?
            .execute(params![int(first), int(revision.number), revision.chain.0, ends, int(signal)])?;
        Ok(Outcome::Stored { signal, revision, entries })
    }

    /// What is stored of a signal; `None` when there is none.
    fn known(&mut self, feed: &str, signal: u64) -> Result<Option<Known>, StoreError> {
        let head = self.head(feed)?;
        let mut select = self
            .connection
            .prepare_cached("SELECT number, chain, lifted_at IS NOT NULL FROM signal WHERE id = ? AND feed = ?")?;
        let known = select
            .query_row(params![int(signal), head.feed], |row| {
                Ok((row.get(0)?, row.get_ref(1)?.as_blob()?.to_vec(), row.get(2)?))
            })
            .optional()?;
        let Some((number, chain, is_lifted)) = known else { return Ok(None) };
        let revision = Revision { epoch: head.revision.epoch, number: uint(number)?, chain: value::chain(&chain)? };
        Ok(Some(Known { revision, is_lifted }))
    }

    fn places(&self, head: Head) -> Places<'_> {
        Places { connection: self.connection, feed: head.feed }
    }

    /// Stores the rows of a signal under the next numbers of the feed.
    fn number(&mut self, feed: &str, signal: i64, rows: Vec<Row>) -> Result<Numbered, StoreError> {
        let Head { feed: id, mut revision } = self.head(feed)?;
        let mut numbered = Vec::with_capacity(rows.len());
        let first = revision.number.saturating_add(1);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO entry (feed, bucket, key, number, signal, until, bytes, own_at, own_until)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let mut log = self
            .connection
            .prepare_cached("INSERT INTO log (feed, number, chain, bucket, key) VALUES (?, ?, ?, ?, ?)")?;
        for Row { entry, own } in rows {
            let number = revision.number.saturating_add(1);
            revision = Revision { number, chain: revision.chain.after(number, &entry.bytes), ..revision };
            let NewEntry { bytes, key, bucket, until } = &entry;
            let (own_at, own_until) = (int(own.at.0), int(own.until.0));
            insert.execute(params![id, bucket, key, int(number), signal, int(until.0), bytes, own_at, own_until])?;
            log.execute(params![id, int(number), revision.chain.0, bucket, key])?;
            numbered.push(StoredEntry { number, signal: uint(signal)?, entry });
        }
        self.heads.insert(feed.to_owned(), Head { feed: id, revision });
        Ok(Numbered { first, revision, entries: numbered })
    }

    fn head(&mut self, feed: &str) -> Result<Head, StoreError> {
        if let Some(head) = self.heads.get(feed) {
            return Ok(*head);
        }
        let (id, revision) = reads::feed(self.connection, feed)?;
        let head = Head { feed: id, revision };
        self.heads.insert(feed.to_owned(), head);
        Ok(head)
    }

    /// Stores the heads and the latest time.
    fn finish(&self) -> Result<(), StoreError> {
        for Head { feed, revision } in self.heads.values() {
            self.connection
                .prepare_cached("UPDATE feed SET number = ?, chain = ? WHERE id = ? AND number < ?")?
                .execute(params![int(revision.number), revision.chain.0, feed, int(revision.number)])?;
        }
        records::note_time(self.connection, self.latest)
    }
}

/// How long a signal without entries is kept, in seconds: a transmitter that had no answer sends it again within this
/// time.
const KEPT_WITHOUT_ENTRIES: u64 = 60 * 60;

/// See `Store::open_feed`.
pub fn open_feed(connection: &Connection, name: &str, epoch: u64) -> Result<Revision, StoreError> {
    transaction::write(connection, |connection| {
        connection
            .prepare_cached(
                "INSERT INTO feed (name, epoch, number, chain, cleared) VALUES (?, ?, 0, ?, 0) ON CONFLICT DO NOTHING",
            )?
            .execute(params![name, epoch.cast_signed(), Chain::default().0])?;
        Ok(reads::feed(connection, name)?.1)
    })
}

/// See `Store::renew_feed`.
pub fn renew_feed(connection: &Connection, name: &str, epoch: u64) -> Result<Revision, StoreError> {
    transaction::write(connection, |connection| {
        let before = reads::feed(connection, name)?.1.epoch;
        connection
            .prepare_cached(
                "INSERT INTO value (name, value) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET value = value.value || ' ' || excluded.value",
            )?
            .execute(params![past_epochs(name), format!("{before:x}")])?;
        connection
            .prepare_cached("UPDATE feed SET epoch = ? WHERE name = ?")?
            .execute(params![epoch.cast_signed(), name])?;
        Ok(reads::feed(connection, name)?.1)
    })
}
