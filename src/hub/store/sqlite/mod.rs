//! The store in one file of SQLite.
//!
//! One connection writes, others read at the same time (WAL). A commit is on the disk when it returns
//! (`synchronous=FULL`).

mod backup;
mod connection;
mod error;
mod feeds;
mod prune;
mod reads;
mod records;
mod reserve;
mod retention;
mod schema;
mod tables;
mod transaction;

use crate::repeated::Repeated;
use crate::store::Store;
use crate::store::group;
use crate::store::model::{
    Audit, Change, FollowerRecord, Outcome, PrincipalRecord, SignalQuery, SignalRecord, StoreError, StoredEntry,
};
use crate::store::prune::WINDOW;
use crate::store::retention::{AUDIT, Retention};
use connection::Connections;
use reserve::{Reserve, Use};
use rusqlite::Connection;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tables::SqliteTables;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::key::StateKey;
use taskfence_core::time::{Span, Timestamp};

/// How many bytes of the disk are kept for signals.
pub const RESERVE: u64 = 256 * 1024 * 1024;

/// The store of a hub in the file `hub.sqlite`, with its log (`-wal`, `-shm`), its reserve (`.reserve`) and its lock
/// (`.lock`) beside it.
pub struct SqliteStore {
    path: PathBuf,
    connections: Connections,
    window: u64,
    keep: Span,
    reserve: Reserve,
    audit: Retention,
    /// A commit failed, and whether it happened is not known: nothing is written any more.
    is_uncertain: AtomicBool,
    /// The lock, while this process is the hub.
    lock: Option<File>,
    keeping: Repeated,
}

impl SqliteStore {
    /// Opens the store in the file `path`, and creates it if it does not exist. The hub then calls
    /// [`SqliteStore::claim`]; commands that only need principals or a backup do not.
    ///
    /// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Damaged`]: it is no store of a hub.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let connections = Connections::open(path)?;
        schema::migrate(&connections.writer())?;
        let reserve = Reserve::new(path, 0);
        let path = path.to_owned();
        Ok(SqliteStore {
            path,
            connections,
            window: WINDOW,
            keep: Span(0),
            reserve,
            audit: AUDIT,
            is_uncertain: AtomicBool::new(false),
            lock: None,
            keeping: Repeated::new("no reserve of the disk is kept for signals"),
        })
    }

    /// Keeps so much of the audit log; without this, [`AUDIT`].
    pub fn with_audit_kept(mut self, audit: Retention) -> SqliteStore {
        self.audit = audit;
        self
    }

    /// Keeps the chain of so many numbers.
    #[cfg(test)]
    pub fn with_window(mut self, window: u64) -> SqliteStore {
        self.window = window;
        self
    }

    /// Keeps `reserve` bytes of the disk for signals (see [`RESERVE`]). If the disk has no room for the reserve now,
    /// [`Store::prune`] tries again. For the one hub that writes the store.
    pub fn with_reserve(mut self, reserve: u64) -> SqliteStore {
        self.reserve = Reserve::new(&self.path, reserve);
        self.keep_reserve();
        self
    }

    /// Keeps each signal for so long after it was taken in, also when its entries have ended.
    pub fn with_signals_kept(mut self, keep: Span) -> SqliteStore {
        self.keep = keep;
        self
    }

    /// Makes this process the one hub that uses the store, until it ends, and keeps `reserve` bytes of the disk for
    /// signals.
    ///
    /// [`StoreError::Failed`]: another hub uses the store.
    pub fn claim(mut self, reserve: u64) -> Result<SqliteStore, StoreError> {
        let path = self.path.with_extension("lock");
        let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Failed(format!("another hub uses {}", self.path.display())),
            TryLockError::Error(error) => failed(error),
        })?;
        self.lock = Some(lock);
        Ok(self.with_reserve(reserve))
    }

    /// Whether the reserve is there. If not, the disk was full, and somebody must make room.
    pub fn has_reserve(&self) -> bool {
        self.reserve.is_kept()
    }

    fn keep_reserve(&self) {
        self.keeping.note("", &self.reserve.keep());
    }

    /// Writes, if `user` may use what is left of the disk. For signals it gives up the reserve where the disk is full.
    fn write<T>(&self, user: Use, body: impl Fn(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.reserve.admit(user)?;
        let once = || {
            if self.is_uncertain.load(Ordering::Acquire) {
                return Err(StoreError::Uncertain("an earlier commit failed".to_owned()));
            }
            let done = body(&self.connections.writer());
            if matches!(done, Err(StoreError::Uncertain(_))) {
                self.is_uncertain.store(true, Ordering::Release);
            }
            done
        };
        match once() {
            Err(StoreError::Full(why)) if self.reserve.give_up(user).unwrap_or(false) => {
                tracing::error!("the disk is full: the reserve for signals is given up: {why}");
                self.write_beside_reserve(&body)
            }
            done => done,
        }
    }

    /// Writes what may not use the reserve.
    fn write_beside_reserve<T>(&self, body: impl Fn(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.is_uncertain.load(Ordering::Acquire) {
            return Err(StoreError::Uncertain("an earlier commit failed".to_owned()));
        }
        let done = body(&self.connections.writer());
        if matches!(done, Err(StoreError::Uncertain(_))) {
            self.is_uncertain.store(true, Ordering::Release);
        }
        done
    }

    /// Reads one feed, all of one moment. `body` gets its id and its head.
    fn read_feed<T>(
        &self,
        feed: &str,
        body: impl FnOnce(&Connection, (i64, Revision)) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.connections.read(|connection| {
            transaction::read(connection, |connection| {
                let feed = reads::feed(connection, feed)?;
                body(connection, feed)
            })
        })
    }
}

impl Store for SqliteStore {
    fn open_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.write(Use::Signals, |connection| feeds::open_feed(connection, name, epoch))
    }

    fn renew_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.write(Use::Signals, |connection| feeds::renew_feed(connection, name, epoch))
    }

    fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        let user = if changes.iter().all(Change::is_of_operator) { Use::Operators } else { Use::Signals };
        self.write(user, |connection| {
            transaction::write(connection, |connection| group::add(&mut SqliteTables(connection), changes))
        })
    }

    fn head(&self, feed: &str) -> Result<Revision, StoreError> {
        self.read_feed(feed, |_, (_, head)| Ok(head))
    }

    fn chain(&self, feed: &str, number: u64) -> Result<Option<Chain>, StoreError> {
        self.read_feed(feed, |connection, (feed, _)| reads::chain(connection, feed, number))
    }

    fn entries_after(
        &self,
        feed: &str,
        after: u64,
        max_bytes: usize,
        now: Timestamp,
    ) -> Result<(Vec<StoredEntry>, Revision), StoreError> {
        self.read_feed(feed, |connection, feed| reads::entries_after(connection, feed, after, max_bytes, now))
    }

    fn full_state(
        &self,
        feed: &str,
        now: Timestamp,
        each: &mut dyn FnMut(StoredEntry),
    ) -> Result<Revision, StoreError> {
        self.read_feed(feed, |connection, (feed, head)| {
            reads::full_state(connection, feed, now, each)?;
            Ok(head)
        })
    }

    fn about(
        &self,
        feed: &str,
        key: &StateKey,
        now: Timestamp,
    ) -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError> {
        self.read_feed(feed, |connection, (feed, _)| reads::about(connection, feed, key, now))
    }

    fn signals(&self, feed: &str, query: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError> {
        self.read_feed(feed, |connection, (feed, _)| reads::signals(connection, feed, query))
    }

    fn signals_after(&self, feed: &str, after: u64, limit: usize) -> Result<Vec<SignalRecord>, StoreError> {
        self.read_feed(feed, |connection, (feed, _)| reads::signals_after(connection, feed, after, limit))
    }

    fn entries_of(&self, feed: &str, signal: u64) -> Result<Vec<StoredEntry>, StoreError> {
        self.read_feed(feed, |connection, (feed, _)| reads::entries_of(connection, feed, signal))
    }

    fn audit(&self, records: &[Audit]) -> Result<(), StoreError> {
        self.write(Use::Other, |connection| records::audit(connection, records))
    }

    fn audits(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
        self.connections.read(|connection| records::audits(connection, before, limit))
    }

    fn principals(&self) -> Result<Vec<PrincipalRecord>, StoreError> {
        self.connections.read(|connection| transaction::read(connection, records::principals))
    }

    fn put_principal(&self, principal: &PrincipalRecord) -> Result<(), StoreError> {
        self.write(Use::Other, |connection| records::put_principal(connection, principal))
    }

    fn remove_principal(&self, name: &str) -> Result<bool, StoreError> {
        self.write(Use::Removal, |connection| records::remove_principal(connection, name))
    }

    fn put_followers(&self, followers: &[FollowerRecord]) -> Result<(), StoreError> {
        self.write(Use::Other, |connection| records::put_followers(connection, followers))
    }

    fn followers(&self, feed: &str) -> Result<Vec<FollowerRecord>, StoreError> {
        self.connections.read(|connection| records::followers(connection, feed))
    }

    fn remove_followers(&self, feed: &str, ids: &[String]) -> Result<(), StoreError> {
        self.write(Use::Removal, |connection| records::remove_followers(connection, feed, ids))
    }

    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.write(Use::Other, |connection| records::set(connection, name, value))
    }

    fn set_for_signals(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.write(Use::Signals, |connection| records::set(connection, name, value))
    }

    fn check_room(&self) -> Result<(), StoreError> {
        self.reserve.admit(Use::Other)
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.connections.read(|connection| records::get(connection, name))
    }

    fn values(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.connections.read(|connection| records::values(connection, prefix))
    }

    fn swap(&self, name: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, StoreError> {
        self.write(Use::Signals, |connection| records::swap(connection, name, expected, new))
    }

    fn latest_time(&self) -> Result<u64, StoreError> {
        self.connections.read(records::latest_time)
    }

    fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (mut removed, mut next) = (0u64, Some((i64::MIN, i64::MIN)));
        while let Some(cursor) = next {
            let step = self.write(Use::Removal, |connection| prune::ended(connection, now, self.keep, cursor))?;
            removed = removed.saturating_add(step.0);
            next = step.1;
        }
        while self.write(Use::Removal, |connection| prune::chains(connection, self.window))? {}
        let mut cursor = Some(0);
        while let Some(after) = cursor {
            cursor = self.write(Use::Removal, |connection| retention::prune(connection, now, self.audit, after))?;
        }
        self.keep_reserve();
        Ok(removed)
    }

    fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.connections.read(|connection| backup::backup(connection, to))
    }
}

#[cfg(test)]
mod tests;
