//! The store in one file of SQLite.
//!
//! One connection writes, others read at the same time (WAL). A commit is on the disk when it returns
//! (`synchronous=FULL`).

mod backup;
mod commits;
mod connection;
mod error;
mod prune;
mod reads;
mod records;
mod schema;
mod transaction;
mod value;

use crate::store::Store;
use crate::store::model::{
    Audit, Change, FollowerRecord, Outcome, PrincipalRecord, SignalQuery, SignalRecord, StoreError, StoredEntry,
};
use connection::Connections;
use rusqlite::Connection;
use std::path::Path;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;

/// The chain is kept for so many of the last numbers. A proxy that stopped before them starts from the full state.
const WINDOW: u64 = 200_000;

/// The store of a hub in the file `hub.sqlite`, with its log beside it (`-wal`, `-shm`).
pub struct SqliteStore {
    connections: Connections,
    window: u64,
}

impl SqliteStore {
    /// Opens the store in the file `path`, and creates it if it does not exist.
    ///
    /// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Damaged`]: it is no store of a hub.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let connections = Connections::open(path)?;
        schema::migrate(&connections.writer())?;
        Ok(SqliteStore { connections, window: WINDOW })
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
        commits::open_feed(&self.connections.writer(), name, epoch)
    }

    fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        commits::commit(&self.connections.writer(), changes)
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

    fn entries_of(&self, feed: &str, signal: u64) -> Result<Vec<StoredEntry>, StoreError> {
        self.read_feed(feed, |connection, (feed, _)| reads::entries_of(connection, feed, signal))
    }

    fn audit(&self, record: &Audit) -> Result<(), StoreError> {
        records::audit(&self.connections.writer(), record)
    }

    fn audits(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
        self.connections.read(|connection| records::audits(connection, before, limit))
    }

    fn principals(&self) -> Result<Vec<PrincipalRecord>, StoreError> {
        self.connections.read(|connection| transaction::read(connection, records::principals))
    }

    fn put_principal(&self, principal: &PrincipalRecord) -> Result<(), StoreError> {
        records::put_principal(&self.connections.writer(), principal)
    }

    fn remove_principal(&self, name: &str) -> Result<bool, StoreError> {
        records::remove_principal(&self.connections.writer(), name)
    }

    fn put_followers(&self, followers: &[FollowerRecord]) -> Result<(), StoreError> {
        records::put_followers(&self.connections.writer(), followers)
    }

    fn followers(&self, feed: &str) -> Result<Vec<FollowerRecord>, StoreError> {
        self.connections.read(|connection| records::followers(connection, feed))
    }

    fn remove_followers(&self, feed: &str, ids: &[String]) -> Result<(), StoreError> {
        records::remove_followers(&self.connections.writer(), feed, ids)
    }

    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        records::set(&self.connections.writer(), name, value)
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.connections.read(|connection| records::get(connection, name))
    }

    fn latest_time(&self) -> Result<u64, StoreError> {
        self.connections.read(records::latest_time)
    }

    fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (mut removed, mut next) = (0u64, Some((i64::MIN, i64::MIN)));
        while let Some(cursor) = next {
            let step = prune::ended(&self.connections.writer(), now, cursor)?;
            removed = removed.saturating_add(step.0);
            next = step.1;
        }
        while prune::chains(&self.connections.writer(), self.window)? {}
        Ok(removed)
    }

    fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.connections.read(|connection| backup::backup(connection, to))
    }
}
