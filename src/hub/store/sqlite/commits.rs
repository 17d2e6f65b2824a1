//! How changes become rows: signals, lifts, their numbers and the chain.

use crate::store::model::{Change, NewEntry, NewSignal, Outcome, StoreError, StoredEntry};
use crate::store::past_epochs;
use crate::store::sqlite::prune;
use crate::store::sqlite::reads;
use crate::store::sqlite::transaction;
use crate::store::sqlite::value::{self, int, uint};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use taskfence_core::feed::entry;
use taskfence_core::feed::revision::{Chain, Revision};

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

impl Group<'_> {
    fn add(&mut self, change: &Change) -> Result<Outcome, StoreError> {
        match change {
            Change::Signal(new) => self.add_signal(new),
            Change::Lift { feed, signal, by, reason, at } => {
                self.latest = self.latest.max(*at);
                self.lift(feed, *signal, (by, reason, *at))
            }
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
        let numbered = self.number(&new.feed, signal, new.entries.clone())?;
        let Numbered { first, revision, entries } = numbered;
        // A signal without entries is kept for as long as a transmitter may send it again.
        let ends = new.entries.iter().map(|entry| entry.until.0).min();
        let ends = ends.unwrap_or((new.taken_in / 1000).saturating_add(KEPT_WITHOUT_ENTRIES));
        self.connection
            .prepare_cached("UPDATE signal SET first = ?, number = ?, chain = ?, ends = ? WHERE id = ?")?
            .execute(params![int(first), int(revision.number), revision.chain.0, int(ends), signal])?;
        Ok(Outcome::Stored { signal: uint(signal)?, revision, entries })
    }

    fn lift(&mut self, feed: &str, signal: u64, (by, reason, at): (&str, &str, u64)) -> Result<Outcome, StoreError> {
        let head = self.head(feed)?;
        let mut select = self
            .connection
            .prepare_cached("SELECT number, chain, lifted_at IS NOT NULL FROM signal WHERE id = ? AND feed = ?")?;
        let known = select
            .query_row(params![int(signal), head.feed], |row| {
                Ok((row.get(0)?, row.get_ref(1)?.as_blob()?.to_vec(), row.get(2)?))
            })
            .optional()?;
        let Some((number, chain, is_lifted)) = known else { return Ok(Outcome::Unknown) };
        if is_lifted {
            let revision = Revision { epoch: head.revision.epoch, number: uint(number)?, chain: value::chain(&chain)? };
            return Ok(Outcome::Repeated { signal, revision });
        }
        let mut lifted = Vec::new();
        for stored in reads::entries_of(self.connection, head.feed, signal)? {
            let StoredEntry { number, mut entry, .. } = stored;
            prune::remove_entry(self.connection, head.feed, entry.bucket, &entry.key, int(number))?;
            entry::lift(&mut entry.bytes).map_err(|bad| StoreError::Damaged(bad.to_string()))?;
            lifted.push(entry);
        }
        let Numbered { first, revision, entries } = self.number(feed, int(signal), lifted)?;
        self.connection
            .prepare_cached(
                "UPDATE signal SET first = ?, number = ?, chain = ?, lifted_by = ?, lifted_reason = ?, lifted_at = ?
                 WHERE id = ?",
            )?
            .execute(params![int(first), int(revision.number), revision.chain.0, by, reason, int(at), int(signal)])?;
        Ok(Outcome::Stored { signal, revision, entries })
    }

    /// Stores the entries of a signal under the next numbers of the feed.
    fn number(&mut self, feed: &str, signal: i64, entries: Vec<NewEntry>) -> Result<Numbered, StoreError> {
        let Head { feed: id, mut revision } = self.head(feed)?;
        let mut numbered = Vec::with_capacity(entries.len());
        let first = revision.number.saturating_add(1);
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO entry (feed, bucket, key, number, signal, until, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?;
        let mut log = self
            .connection
            .prepare_cached("INSERT INTO log (feed, number, chain, bucket, key) VALUES (?, ?, ?, ?, ?)")?;
        for entry in entries {
            let number = revision.number.saturating_add(1);
            revision = Revision { number, chain: revision.chain.after(number, &entry.bytes), ..revision };
            let NewEntry { bytes, key, bucket, until } = &entry;
            insert.execute(params![id, bucket, key, int(number), signal, int(until.0), bytes])?;
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
        note_time(self.connection, self.latest)
    }
}

/// How long a signal without entries is kept, in seconds: a transmitter that had no answer sends it again within this
/// time.
const KEPT_WITHOUT_ENTRIES: u64 = 60 * 60;

/// Notes a time that is stored, in milliseconds since 1970.
pub fn note_time(connection: &Connection, time: u64) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE clock SET latest = ? WHERE latest < ?")?.execute([int(time), int(time)])?;
    Ok(())
}

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
