//! The store in a database of PostgreSQL, which several hubs may share.
//!
//! A change of a feed locks the row of its head first, so that numbers and ids of signals become visible in order. A commit
//! is on the disk of the server, and on the standby that it waits for, when it returns.

mod columns;
mod error;
mod feeds;
pub mod import;
mod listen;
mod order;
mod origin;
pub(crate) mod pool;
mod prune;
mod reads;
mod records;
mod retention;
mod rows;
pub(crate) mod schema;
pub(crate) mod servers;
pub(crate) mod session;
mod slots;
mod tables;
pub(crate) mod text;
mod tls;
mod wait;

use crate::config::hub::Postgres;
use crate::store::model::{
    Audit, Change, FollowerRecord, Outcome, PrincipalRecord, SignalQuery, SignalRecord, StoreError, StoredEntry,
};
use crate::store::prune::WINDOW;
use crate::store::retention::Kept;
use crate::store::{Store, group};
use listen::Changes;
use origin::Seen;
use pool::{Pool, Size};
use servers::Servers;
use session::{CommitError, Session};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tables::PostgresTables;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Whether a commit has happened is found out within this time, or its changes are refused for now.
const RESOLVE: Duration = Duration::from_secs(10);

/// The connections: neither those that read nor those that write wait for the others.
const SIZE: Size = Size { readers: 16, writers: 8, kept: 8 };

/// And it is tried again after this time.
const AGAIN: Duration = Duration::from_millis(300);

/// The store of one or more hubs in a database.
pub struct PostgresStore {
    servers: Arc<Servers>,
    pool: Pool,
    /// What is told to other replicas, and heard from them; only in a hub.
    changes: Option<Changes>,
    kept: Kept,
    window: u64,
    /// Drives the connections, and is never waited for.
    runtime: Option<Runtime>,
}

impl PostgresStore {
    /// Opens the store in the database, and makes its tables if they are not there. `data`: the
    /// folder of the hub. Blocks.
    ///
    /// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Unavailable`]: no server of the URL can be used.
    pub fn open(postgres: &Postgres, kept: Kept, data: &Path) -> Result<PostgresStore, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let seen = Seen::read(data)?;
        let servers = Arc::new(Servers::new(postgres.clone(), runtime.handle().clone(), seen.server()));
        let pool = Pool::new(Arc::clone(&servers), Some(seen), SIZE);
        let store = PostgresStore { servers, pool, changes: None, kept, window: WINDOW, runtime: Some(runtime) };
        store.pool.migrate(&schema::SIGNALS)?;
        drop(store.pool.connect()?);
        Ok(store)
    }

    /// For a hub that runs: proves that the database keeps revocations in order, and listens to other replicas.
    ///
    /// [`StoreError::Failed`]: it does not; the error says what to do.
    pub fn for_hub(mut self) -> Result<PostgresStore, StoreError> {
        order::prove(&self.pool)?;
        self.changes = Some(Changes::start(Arc::clone(&self.servers))?);
        Ok(self)
    }

    fn tell(&self) {
        self.changes.iter().for_each(Changes::tell);
    }

    /// Whether a commit whose outcome is not known has happened. It waits until it cannot happen any more.
    fn has_happened(&self, attempt: i64, changes: &[Change]) -> Result<bool, StoreError> {
        let (server, begin) = (self.pool.server(), Instant::now());
        let feeds: BTreeSet<&str> = changes.iter().map(Change::feed).collect();
        let feeds: Vec<&str> = feeds.into_iter().collect();
        loop {
            let read = self.write(|session| {
                // Where it is still about to happen, it holds these rows.
                session
                    .rows("SELECT id FROM taskfence.feed WHERE name = ANY ($1) ORDER BY name FOR UPDATE", &[&feeds])?;
                // What comes after it on the standby proves that it is there, too.
                session.execute("UPDATE taskfence.clock SET latest = latest", &[])?;
                Ok(session.row("SELECT 1 FROM taskfence.attempt WHERE id = $1", &[&attempt])?.is_some())
            });
            match read {
                // After another server took over, the epoch is another one: whoever asks again learns of it.
                Ok(found) => return Ok(found && self.pool.server() == server),
                Err(error) if begin.elapsed() > RESOLVE => return Err(error),
                Err(_) => thread::sleep(AGAIN),
            }
        }
    }

    /// Keeps the chain of so many numbers.
    #[cfg(test)]
    pub fn with_window(mut self, window: u64) -> PostgresStore {
        self.window = window;
        self
    }

    /// Writes in one transaction. Whether it happened where the connection broke at its end is not found out: whoever
    /// calls again changes nothing that is there.
    fn write<T>(&self, body: impl FnOnce(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.write(body).map_err(|error| match error {
            CommitError::Not(error) => error,
            CommitError::Unknown(why) => StoreError::Unavailable(why),
        })
    }

    /// Reads one feed, all of one moment. `body` gets its id and its head.
    fn read_feed<T>(
        &self,
        feed: &str,
        body: impl FnOnce(&mut Session, (i64, Revision)) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.pool.prove()?;
        self.pool.read(|session| {
            let feed = reads::feed(session, feed)?;
            body(session, feed)
        })
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // Also where that is done in a task of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for PostgresStore {
    fn open_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.write(|session| feeds::open(session, name, epoch))
    }

    fn renew_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.write(|session| feeds::renew(session, name, epoch))
    }

    fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        let attempt = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?.cast_signed();
        let mut outcomes = Vec::new();
        let written = self.pool.write(|session| {
            let mut tables = PostgresTables::load(session, changes)?;
            outcomes = group::add(&mut tables, changes)?;
            tables.write(attempt)
        });
        match written {
            Ok(()) => {}
            Err(CommitError::Not(error)) => return Err(error),
            Err(CommitError::Unknown(why)) => match self.has_happened(attempt, changes) {
                Ok(true) => tracing::warn!(why, "a commit was found to have happened"),
                Ok(false) => return Err(StoreError::Unavailable(format!("the commit did not happen: {why}"))),
                Err(error) => return Err(StoreError::Unavailable(format!("{why}; then: {error}"))),
            },
        }
        for (change, outcome) in changes.iter().zip(&outcomes) {
            if let Outcome::Stored { revision, .. } = outcome {
                self.pool.note(change.feed(), revision.number);
            }
        }
        self.tell();
        Ok(outcomes)
    }

    fn head(&self, feed: &str) -> Result<Revision, StoreError> {
        self.pool.prove()?;
        Ok(self.pool.ask(|session| reads::feed(session, feed))?.1)
    }

    fn chain(&self, feed: &str, number: u64) -> Result<Option<Chain>, StoreError> {
        self.read_feed(feed, |session, (feed, _)| reads::chain(session, feed, number))
    }

    fn entries_after(
        &self,
        feed: &str,
        after: u64,
        max_bytes: usize,
        now: Timestamp,
    ) -> Result<(Vec<StoredEntry>, Revision), StoreError> {
        self.read_feed(feed, |session, feed| reads::entries_after(session, feed, after, max_bytes, now))
    }

    fn full_state(
        &self,
        feed: &str,
        now: Timestamp,
        each: &mut dyn FnMut(StoredEntry),
    ) -> Result<Revision, StoreError> {
        self.read_feed(feed, |session, (feed, head)| {
            reads::full_state(session, feed, now, each)?;
            Ok(head)
        })
    }

    fn about(
        &self,
        feed: &str,
        key: &StateKey,
        now: Timestamp,
    ) -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError> {
        self.read_feed(feed, |session, (feed, _)| reads::about(session, feed, key, now))
    }

    fn signals(&self, feed: &str, query: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError> {
        self.read_feed(feed, |session, (feed, _)| reads::signals(session, feed, query))
    }

    fn signals_after(&self, feed: &str, after: u64, limit: usize) -> Result<Vec<SignalRecord>, StoreError> {
        self.read_feed(feed, |session, (feed, _)| reads::signals_after(session, feed, after, limit))
    }

    fn entries_of(&self, feed: &str, signal: u64) -> Result<Vec<StoredEntry>, StoreError> {
        self.read_feed(feed, |session, (feed, _)| reads::entries_of(session, feed, crate::store::value::int(signal)))
    }

    fn audit(&self, records: &[Audit]) -> Result<(), StoreError> {
        self.write(|session| records::audit(session, records))
    }

    fn audits(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
        self.pool.ask(|session| records::audits(session, before, limit))
    }

    fn principals(&self) -> Result<Vec<PrincipalRecord>, StoreError> {
        self.pool.ask(records::principals)
    }

    fn put_principal(&self, principal: &PrincipalRecord) -> Result<(), StoreError> {
        self.write(|session| records::put_principal(session, principal)).inspect(|_| self.tell())
    }

    fn remove_principal(&self, name: &str) -> Result<bool, StoreError> {
        self.write(|session| records::remove_principal(session, name)).inspect(|_| self.tell())
    }

    fn put_followers(&self, followers: &[FollowerRecord]) -> Result<(), StoreError> {
        self.write(|session| records::put_followers(session, followers))
    }

    fn followers(&self, feed: &str) -> Result<Vec<FollowerRecord>, StoreError> {
        self.pool.ask(|session| records::followers(session, feed))
    }

    fn followers_seen(&self, feed: &str, but: &str, since: u64) -> Result<Vec<FollowerRecord>, StoreError> {
        self.pool.ask(|session| records::followers_seen(session, feed, Some(but), since))
    }

    fn remove_followers(&self, feed: &str, ids: &[String]) -> Result<(), StoreError> {
        self.write(|session| records::remove_followers(session, feed, ids))
    }

    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.write(|session| records::set(session, name, value)).inspect(|_| self.tell())
    }

    fn set_for_signals(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.set(name, value)
    }

    fn check_room(&self) -> Result<(), StoreError> {
        // The disk is that of the server: what does not fit there is refused when it is written.
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.pool.ask(|session| records::get(session, name))
    }

    fn values(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.pool.ask(|session| records::values(session, prefix))
    }

    fn swap(&self, name: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, StoreError> {
        self.write(|session| records::swap(session, name, expected, new)).inspect(|_| self.tell())
    }

    fn now_ms(&self) -> Result<u64, StoreError> {
        self.pool.ask(records::now)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.changes.as_ref().map(Changes::heard)
    }

    fn latest_time(&self) -> Result<u64, StoreError> {
        self.pool.ask(records::latest_time)
    }

    fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (mut removed, mut next) = (0u64, Some((i64::MIN, i64::MIN)));
        while let Some(cursor) = next {
            let step = self.write(|session| prune::ended(session, now, self.kept.signals, cursor))?;
            removed = removed.saturating_add(step.0);
            next = step.1;
        }
        while self.write(|session| prune::chains(session, self.window))? {}
        let mut cursor = Some(0);
        while let Some(after) = cursor {
            cursor = self.write(|session| retention::prune(session, now, self.kept.audit, after))?;
        }
        self.write(prune::traces)?;
        Ok(removed)
    }

    fn backup(&self, _: &Path) -> Result<(), StoreError> {
        Err(StoreError::Failed(
            "the store is in PostgreSQL: copy it with pg_dump --schema=taskfence, or by a base backup of the server"
                .to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests;
