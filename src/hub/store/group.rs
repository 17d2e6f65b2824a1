//! How changes become rows: signals, lifts, their numbers and the chain.

use crate::store::generations::{self, Places, Row};
use crate::store::model::{Change, NewEntry, NewSignal, Outcome, StoreError, StoredEntry};
use crate::store::tables::{Key, KnownSignal, NumberedRow, Numbers, Tables};
use crate::store::value::{int, uint};
use std::collections::HashMap;
use taskfence_core::feed::revision::Revision;
use taskfence_core::time::Timestamp;

/// Writes a group of changes into `tables`. One outcome for each.
pub fn add(tables: &mut dyn Tables, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
    let mut group = Group { tables, heads: HashMap::new(), latest: 0 };
    let outcomes = changes.iter().map(|change| group.add(change)).collect::<Result<_, _>>()?;
    group.finish()?;
    Ok(outcomes)
}

/// The transaction of one group.
struct Group<'t> {
    tables: &'t mut dyn Tables,
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
        if let Some(known) = self.tables.signal_of(head.feed, &new.transmitter, &new.jti)? {
            let signal = uint(known.id)?;
            if known.fingerprint != new.fingerprint {
                return Ok(Outcome::Contradicts { signal });
            }
            return Ok(Outcome::Repeated { signal, revision: head.at(&known)? });
        }
        self.latest = self.latest.max(new.taken_in);
        let signal = self.tables.add_signal(head.feed, new)?;
        let joined = self.places(head).join(&new.entries, Timestamp(new.taken_in / 1000))?;
        let Numbered { first, revision, entries } = self.number(&new.feed, signal, joined)?;
        // A signal without entries is kept for as long as a transmitter may send it again.
        let ends = entries.iter().map(|stored| stored.entry.until.0).min();
        let ends = ends.unwrap_or((new.taken_in / 1000).saturating_add(KEPT_WITHOUT_ENTRIES));
        self.tables.renumber(signal, numbers(first, revision), Some(int(ends)))?;
        Ok(Outcome::Stored { signal: uint(signal)?, revision, entries })
    }

    fn lift(&mut self, feed: &str, signal: u64, (by, reason, at): (&str, &str, u64)) -> Result<Outcome, StoreError> {
        let Some(Known { revision, is_lifted }) = self.known(feed, signal)? else { return Ok(Outcome::Unknown) };
        if is_lifted {
            return Ok(Outcome::Repeated { signal, revision });
        }
        let head = self.head(feed)?;
        let stored = self.tables.entries_of(head.feed, int(signal))?;
        let said: Vec<_> = stored.iter().map(|stored| stored.entry.clone()).collect();
        let undone = self.places(head).undo(int(signal), &said, Timestamp(at / 1000))?;
        self.tables.mark_lifted(int(signal), (by, reason, at))?;
        self.replace(feed, signal, stored, undone)
    }

    fn derive(&mut self, feed: &str, signal: u64, entries: &[NewEntry]) -> Result<Outcome, StoreError> {
        let Some(Known { revision, is_lifted }) = self.known(feed, signal)? else { return Ok(Outcome::Unknown) };
        let head = self.head(feed)?;
        let stored = self.tables.entries_of(head.feed, int(signal))?;
        let said: Vec<_> = stored.iter().map(|stored| stored.entry.clone()).collect();
        if generations::say_the_same(&said, entries)? {
            return Ok(Outcome::Repeated { signal, revision });
        }
        let now = Timestamp(self.tables.latest_time()?.max(self.latest) / 1000);
        let mut places = self.places(head);
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
            let key = Key { feed: id, bucket: entry.bucket, key: &entry.key };
            self.tables.remove_entry(key, int(number))?;
        }
        let ends = rows.iter().map(|row| int(row.own.until.0)).min();
        let Numbered { first, revision, entries } = self.number(feed, int(signal), rows)?;
        self.tables.renumber(int(signal), numbers(first, revision), ends)?;
        Ok(Outcome::Stored { signal, revision, entries })
    }

    /// What is stored of a signal; `None` when there is none.
    fn known(&mut self, feed: &str, signal: u64) -> Result<Option<Known>, StoreError> {
        let head = self.head(feed)?;
        let Some(known) = self.tables.signal(head.feed, int(signal))? else { return Ok(None) };
        Ok(Some(Known { revision: head.at(&known)?, is_lifted: known.is_lifted }))
    }

    fn places(&mut self, head: Head) -> Places<'_> {
        Places { tables: &mut *self.tables, feed: head.feed }
    }

    /// Stores the rows of a signal under the next numbers of the feed.
    fn number(&mut self, feed: &str, signal: i64, rows: Vec<Row>) -> Result<Numbered, StoreError> {
        let Head { feed: id, mut revision } = self.head(feed)?;
        let mut numbered = Vec::with_capacity(rows.len());
        let first = revision.number.saturating_add(1);
        for Row { entry, own } in rows {
            let number = revision.number.saturating_add(1);
            revision = Revision { number, chain: revision.chain.after(number, &entry.bytes), ..revision };
            let row = NumberedRow { number: int(number), chain: revision.chain, entry: &entry, own };
            self.tables.add_entry(id, signal, &row)?;
            numbered.push(StoredEntry { number, signal: uint(signal)?, entry });
        }
        self.heads.insert(feed.to_owned(), Head { feed: id, revision });
        Ok(Numbered { first, revision, entries: numbered })
    }

    fn head(&mut self, feed: &str) -> Result<Head, StoreError> {
        if let Some(head) = self.heads.get(feed) {
            return Ok(*head);
        }
        let (id, revision) = self.tables.feed(feed)?;
        let head = Head { feed: id, revision };
        self.heads.insert(feed.to_owned(), head);
        Ok(head)
    }

    /// Stores the heads and the latest time.
    fn finish(self) -> Result<(), StoreError> {
        for Head { feed, revision } in self.heads.values() {
            self.tables.set_head(*feed, *revision)?;
        }
        self.tables.note_time(self.latest)
    }
}

impl Head {
    /// The revision after the last entry of a signal of the feed.
    fn at(self, known: &KnownSignal) -> Result<Revision, StoreError> {
        Ok(Revision { epoch: self.revision.epoch, number: uint(known.number)?, chain: known.chain })
    }
}

fn numbers(first: u64, last: Revision) -> Numbers {
    Numbers { first: int(first), last: int(last.number), chain: last.chain }
}

/// How long a signal without entries is kept, in seconds: a transmitter that had no answer sends it again within this
/// time.
const KEPT_WITHOUT_ENTRIES: u64 = 60 * 60;
