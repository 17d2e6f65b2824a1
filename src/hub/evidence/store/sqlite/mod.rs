//! The store of evidence in files of SQLite: `2026-11-28.sqlite` for each day (UTC), and `index.sqlite` for what is not of
//! one day, in a folder of their own.
//!
//! One writer writes, and each reader opens the files that it needs (WAL). What is answered is on the disk
//! (`synchronous=FULL`); the writes of one call share one commit for each day. A file that is damaged is set aside under a
//! name of its own (`folder.rs`). What goes, goes by whole files.

mod day_file;
mod find;
mod folder;
mod gathering;
mod index_file;
mod info;
#[cfg(test)]
mod measure;
mod merge;
mod names;
mod reads;
mod rows;
mod schema;
mod source;
mod writer;

use crate::evidence::model::{
    EventKind, EventRow, Found, GapRow, GrantRow, Losses, RecordRow, Selector, Usage, Window, Write, Written,
};
use crate::evidence::store::EvidenceStore;
use crate::evidence::store::day::Day;
use crate::evidence::store::disk;
use crate::evidence::store::kept::Kept;
use crate::evidence::store::value::uint;
use crate::store::model::StoreError;
use find::Search;
use folder::{Folder, Which};
use source::Faults;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use taskfence_core::uses::outline::Outline;
use writer::Writer;

/// The store in a folder.
pub struct SqliteEvidence {
    folder: Arc<Folder>,
    writer: Mutex<Writer>,
}

impl SqliteEvidence {
    /// Opens the store in the folder `path`, and creates it if it does not exist. One process uses it at a time.
    ///
    /// [`StoreError::Newer`]: a newer hub has written into it.
    pub fn open(path: &Path, kept: Kept) -> Result<SqliteEvidence, StoreError> {
        let folder = Arc::new(Folder::new(path)?);
        let writer = Mutex::new(Writer::open(Arc::clone(&folder), kept)?);
        Ok(SqliteEvidence { folder, writer })
    }

    /// How many bytes are free on the disk where the folder is.
    pub fn free(&self) -> io::Result<u64> {
        disk::free(self.folder.path())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads. Files that turn out to be damaged are set aside; what the others have is there all the same.
    fn read<T>(&self, body: impl FnOnce(&Folder, &mut Faults) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut faults = Faults::default();
        let read = body(&self.folder, &mut faults);
        for (day, why) in faults.0 {
            self.writer().set_aside(day, &why)?;
        }
        read
    }
}

impl EvidenceStore for SqliteEvidence {
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        self.writer().write(writes)
    }

    fn grants(&self, feed: &str, window: Window, each: &mut dyn FnMut(GrantRow) -> bool) -> Result<(), StoreError> {
        self.read(|folder, faults| {
            let sources = source::of_uses(folder, feed, window, faults)?;
            merge::grants(&sources, window, faults, each)
        })
    }

    fn events(
        &self,
        feed: &str,
        window: Window,
        kind: Option<EventKind>,
        each: &mut dyn FnMut(EventRow) -> bool,
    ) -> Result<(), StoreError> {
        self.read(|folder, faults| reads::events(folder, feed, window, kind, faults, each))
    }

    fn find(
        &self,
        feed: &str,
        selector: &Selector,
        issuer: Option<&str>,
        window: Window,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let search = Search { feed, selector, issuer, window, limit };
        self.read(|folder, faults| find::find(folder, &search, faults))
    }

    fn records(&self, feed: &str, after: u64, window: Window, limit: usize) -> Result<Vec<RecordRow>, StoreError> {
        self.read(|folder, faults| reads::records(folder, feed, after, window, limit, faults))
    }

    fn gaps(&self, feed: &str, window: Window) -> Result<Vec<GapRow>, StoreError> {
        self.read(|folder, faults| reads::gaps(folder, feed, window, faults))
    }

    fn losses(&self, feed: &str, window: Window) -> Result<Losses, StoreError> {
        self.read(|folder, faults| reads::losses(folder, feed, window, faults))
    }

    fn configs(&self, feed: &str) -> Result<Vec<Outline>, StoreError> {
        self.writer().index().configs(feed)
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.writer().index().get(name)
    }

    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.writer().index().set(name, value)
    }

    fn prune(&self, now: u64) -> Result<u64, StoreError> {
        self.writer().prune(now)
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        let bytes = self.writer().bytes()?;
        let days = self.folder.days()?;
        let grants = self.read(|folder, faults| {
            let mut grants = 0u64;
            for day in &days {
                let count = folder.reader(Which::Of(*day)).and_then(|file| file.map_or(Ok(0), |file| count(&file)));
                let count = count.map_err(|error| folder.named(Which::Of(*day), error));
                grants = grants.saturating_add(faults.pass(*day, count)?.unwrap_or(0));
            }
            Ok(grants)
        })?;
        Ok(Usage { bytes, first_day: days.first().copied().unwrap_or(Day(0)).0, grants })
    }
}

/// How many grants the file has: none is ever removed, so the last one has the number of all.
fn count(file: &rusqlite::Connection) -> Result<u64, StoreError> {
    let last: Option<i64> = file.query_row("SELECT max(n) FROM \"grant\"", [], |row| row.get(0))?;
    Ok(last.map_or(0, uint))
}

#[cfg(test)]
mod tests;
