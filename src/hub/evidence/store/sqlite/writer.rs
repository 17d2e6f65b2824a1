//! Writes into the files, one call after the other.

use super::day_file::DayFile;
use super::folder::{Folder, Which};
use super::index_file::IndexFile;
use crate::evidence::model::{BatchWrite, EventRow, Write, Written};
use crate::evidence::store::day::{DAY, Day};
use crate::evidence::store::kept::Kept;
use crate::store::model::StoreError;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// So many files are open to write.
const OPEN: usize = 6;

/// In one call, so many files may turn out to be damaged.
const ATTEMPTS: usize = 8;

/// The writer of a store.
pub struct Writer {
    folder: Arc<Folder>,
    kept: Kept,
    index: IndexFile,
    /// The files that are open, by day.
    open: BTreeMap<Day, DayFile>,
    /// The files whose last commit failed: whether it happened is not known, and whether the disk has what the log says is
    /// not either.
    uncertain: BTreeSet<Day>,
    /// The first day that is kept.
    first: Day,
    /// The position of the next record.
    position: u64,
    /// The time by the clock of the hub, when something came last; 0: nothing came yet.
    now: u64,
    /// The bytes of all files that are not open; `None`: not known.
    closed: Option<u64>,
}

/// Whose fault it was: a day.
struct Failure(Option<Day>, StoreError);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure(None, error)
    }
}

impl Writer {
    /// Opens the index and looks at every file: one that is damaged is set aside.
    pub fn open(folder: Arc<Folder>, kept: Kept) -> Result<Writer, StoreError> {
        let index = IndexFile::open(&folder)?;
        let (first, mut position) = index.kept()?;
        for day in folder.days()? {
            // Brings the file to the schema of this hub, and tidies up after a hub that was killed.
            match folder.open(Which::Of(day)).and_then(|file| last_position(&folder, day, &file)) {
                Ok(last) => position = position.max(last),
                Err(error @ StoreError::Damaged(_)) => folder.set_aside(Which::Of(day), &error)?,
                Err(error) => return Err(error),
            }
        }
        let (open, uncertain, position) = (BTreeMap::new(), BTreeSet::new(), position.saturating_add(1));
        Ok(Writer { folder, kept, index, open, uncertain, first, position, now: 0, closed: None })
    }

    /// The index.
    pub fn index(&self) -> &IndexFile {
        &self.index
    }

    /// See `EvidenceStore::write`. The writes of one day are in one transaction. If one day is stored and the next one
    /// fails, the caller gets the error, and the repetition finds what is there.
    pub fn write(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let has_room = self.make_room()?;
        let mut attempts = 0..ATTEMPTS;
        loop {
            let Failure(day, error) = match self.try_write(writes, has_room) {
                Ok(written) => return Ok(written),
                Err(failure) => failure,
            };
            self.abandon();
            let (Some(day), StoreError::Damaged(_), Some(_)) = (day, &error, attempts.next()) else {
                return Err(error);
            };
            // The next attempt writes into a new file.
            self.set_aside(day, &error)?;
        }
    }

    fn try_write(&mut self, writes: &[Write], has_room: bool) -> Result<Vec<Written>, Failure> {
        let mut written = Vec::with_capacity(writes.len());
        let mut configs = Vec::new();
        for write in writes {
            written.push(match write {
                Write::Batch(batch) => self.write_batch(batch, has_room)?,
                Write::Event(event) => self.write_event(event, has_room)?,
                Write::Gap { feed, node, gap } => match has_room && self.is_kept(gap.until, self.now) {
                    true => stored(self.in_day(Day::of(gap.until), |file, _| file.add_gap(feed, node, gap))?),
                    false => Written::Dropped,
                },
                Write::Config { feed, outline } => {
                    configs.push((written.len(), (feed.as_str(), outline)));
                    Written::Repeated
                }
            });
        }
        self.commit()?;
        if !configs.is_empty() {
            let outlines: Vec<_> = configs.iter().map(|(_, config)| *config).collect();
            for ((place, _), is_new) in configs.iter().zip(self.index.add_configs(&outlines)?) {
                written.get_mut(*place).into_iter().for_each(|written| *written = stored(is_new));
            }
        }
        Ok(written)
    }

    fn write_batch(&mut self, write: &BatchWrite, has_room: bool) -> Result<Written, Failure> {
        let until = write.batch.until;
        self.now = if write.at == 0 { self.now } else { write.at };
        if has_room && self.is_kept(until, write.at) {
            return Ok(stored(self.in_day(Day::of(until), |file, position| file.add_batch(write, position))?));
        }
        // By the clock of the hub, if it is known.
        let at = if write.at == 0 { until } else { write.at }.max(self.first.begin());
        self.in_day(Day::of(at), |file, _| file.count_dropped(&write.feed, at))?;
        Ok(Written::Dropped)
    }

    fn write_event(&mut self, event: &EventRow, has_room: bool) -> Result<Written, Failure> {
        self.now = if event.heard_at == 0 { self.now } else { event.heard_at };
        if !has_room || !self.is_kept(event.at, event.heard_at) {
            return Ok(Written::Dropped);
        }
        let day = Day::of(event.at);
        for other in [day.before(1), day.after(1)] {
            let is_there = other != day && (self.open.contains_key(&other) || self.folder.has(Which::Of(other)));
            if is_there && self.in_day(other, |file, _| file.has_event(event))? {
                return Ok(Written::Repeated);
            }
        }
        Ok(stored(self.in_day(day, |file, _| file.add_event(event))?))
    }

    /// Whether what happened at the time `at` is kept, by the clock of the hub (0: not known).
    fn is_kept(&self, at: u64, now: u64) -> bool {
        let oldest = self.first.max(if now == 0 { Day(0) } else { self.oldest(now) });
        Day::of(at) >= oldest && (now == 0 || at <= now.saturating_add(DAY))
    }

    /// The oldest day that is kept at the time `now`, by its age.
    fn oldest(&self, now: u64) -> Day {
        Day::of(now).after(1).before(self.kept.days.max(1))
    }

    /// Runs `body` with the file of the day, in its transaction.
    fn in_day<T>(
        &mut self,
        day: Day,
        body: impl FnOnce(&mut DayFile, &mut u64) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        self.open_day(day)?;
        let Some(file) = self.open.get_mut(&day) else {
            return Err(StoreError::Failed(format!("the file of {day} is not open")).into());
        };
        let done = file.begin().and_then(|()| body(file, &mut self.position));
        done.map_err(|error| Failure(Some(day), self.folder.named(Which::Of(day), error)))
    }

    fn open_day(&mut self, day: Day) -> Result<(), Failure> {
        if self.open.contains_key(&day) {
            return Ok(());
        }
        let failed = |error| Failure(Some(day), error);
        // The oldest that nothing is written to now.
        let idle = self.open.values().find(|file| !file.is_in_transaction()).map(DayFile::day);
        if let Some(file) = idle.filter(|_| self.open.len() >= OPEN).and_then(|idle| self.open.remove(&idle)) {
            let day = file.day();
            file.close().map_err(|error| Failure(Some(day), self.folder.named(Which::Of(day), error)))?;
        }
        let file = DayFile::open(&self.folder, day).map_err(failed)?;
        if self.uncertain.contains(&day) {
            file.checkpoint().map_err(|error| failed(self.folder.named(Which::Of(day), error)))?;
            self.uncertain.remove(&day);
        }
        self.open.insert(day, file);
        self.closed = None;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        for (day, file) in &mut self.open {
            if !file.is_in_transaction() {
                continue;
            }
            if let Err(error) = file.commit() {
                self.uncertain.insert(*day);
                let error = match error {
                    StoreError::Failed(why) => StoreError::Uncertain(why),
                    error => error,
                };
                return Err(Failure(Some(*day), self.folder.named(Which::Of(*day), error)));
            }
        }
        Ok(())
    }

    /// Ends transactions that failed: closing a file rolls them back.
    fn abandon(&mut self) {
        self.open.retain(|_, file| !file.is_in_transaction());
        self.closed = None;
    }

    /// Sets the file of the day aside.
    pub fn set_aside(&mut self, day: Day, why: &StoreError) -> Result<(), StoreError> {
        self.open.remove(&day);
        self.uncertain.remove(&day);
        self.closed = None;
        self.folder.set_aside(Which::Of(day), why)
    }

    /// Removes the oldest days while there is more than the quota. Returns whether there is room.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        if self.bytes()? <= self.kept.bytes {
            return Ok(true);
        }
        self.prune_by_size()?;
        Ok(self.bytes()? <= self.kept.bytes)
    }

    /// The bytes of all files.
    pub fn bytes(&mut self) -> Result<u64, StoreError> {
        let closed = match self.closed {
            Some(closed) => closed,
            None => {
                let open: Vec<_> = self.open.keys().copied().collect();
                self.folder.bytes_without(&open)?
            }
        };
        self.closed = Some(closed);
        let open = self.open.keys().map(|day| self.folder.bytes_of(*day));
        Ok(open.fold(closed, u64::saturating_add))
    }

    /// The file of the day takes no more pages, until it is opened again.
    #[cfg(test)]
    pub fn limit_pages(&mut self, day: Day, pages: i64) {
        self.open[&day].limit_pages(pages);
    }

    /// As after a commit of the day that failed.
    #[cfg(test)]
    pub fn doubt(&mut self, day: Day) {
        self.open.remove(&day);
        self.uncertain.insert(day);
    }

    /// Whether it is not known what the disk has of the day.
    #[cfg(test)]
    pub fn is_doubted(&self, day: Day) -> bool {
        self.uncertain.contains(&day)
    }

    /// See `EvidenceStore::prune`.
    pub fn prune(&mut self, now: u64) -> Result<u64, StoreError> {
        self.now = now;
        let mut removed = 0u64;
        let first = self.first.max(self.oldest(now));
        let days = self.all_days()?;
        // Before anything goes: what comes for those days later is dropped.
        self.keep_from(first)?;
        for day in days.into_iter().filter(|day| *day < first) {
            self.remove(day)?;
            removed = removed.saturating_add(1);
        }
        self.closed = None;
        removed = removed.saturating_add(self.prune_by_size()?);
        let named = self.named_configs()?;
        self.index.prune_configs(&named, now, self.kept.days.max(1).saturating_mul(DAY))?;
        Ok(removed)
    }

    fn prune_by_size(&mut self) -> Result<u64, StoreError> {
        let mut removed = 0u64;
        while self.bytes()? > self.kept.bytes {
            let days = self.all_days()?;
            let (Some(oldest), true) = (days.first().copied(), days.len() > 1) else { break };
            tracing::warn!(day = %oldest, "a day of the evidence is removed: there is more than the quota `evidence.mib`");
            self.keep_from(oldest.after(1).max(self.first))?;
            self.remove(oldest)?;
            removed = removed.saturating_add(1);
        }
        Ok(removed)
    }

    fn keep_from(&mut self, first: Day) -> Result<(), StoreError> {
        self.index.keep(first, self.position.saturating_sub(1))?;
        self.first = first;
        Ok(())
    }

    fn remove(&mut self, day: Day) -> Result<(), StoreError> {
        self.open.remove(&day);
        self.uncertain.remove(&day);
        self.closed = None;
        self.folder.remove(day)
    }

    /// The days that have a file, also a damaged one, in order.
    fn all_days(&self) -> Result<Vec<Day>, StoreError> {
        let damaged = self.folder.damaged()?.into_iter().map(|file| file.day);
        let days: BTreeSet<Day> = self.folder.days()?.into_iter().chain(damaged).collect();
        Ok(days.into_iter().collect())
    }

    /// The hashes of the configurations that uses of any day name.
    fn named_configs(&mut self) -> Result<HashSet<String>, StoreError> {
        let mut named = HashSet::new();
        for day in self.folder.days()? {
            match self
                .folder
                .reader(Which::Of(day))
                .and_then(|file| file.map_or(Ok(Vec::new()), |file| configs_of(&file)))
            {
                Ok(configs) => named.extend(configs),
                Err(error @ StoreError::Damaged(_)) => self.set_aside(day, &error)?,
                Err(error) => return Err(self.folder.named(Which::Of(day), error)),
            }
        }
        Ok(named)
    }
}

fn configs_of(file: &Connection) -> Result<Vec<String>, StoreError> {
    let mut find =
        file.prepare("SELECT name FROM name WHERE id IN (SELECT config FROM cell UNION SELECT config FROM cause)")?;
    let configs = find.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(configs)
}

fn last_position(folder: &Folder, day: Day, file: &Connection) -> Result<u64, StoreError> {
    DayFile::last_position(file).map_err(|error| folder.named(Which::Of(day), error))
}

fn stored(is_new: bool) -> Written {
    if is_new { Written::Stored } else { Written::Repeated }
}
