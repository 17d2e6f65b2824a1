//! The store of evidence in the database of the hub, which several hubs may share: tables with a partition for each day, in
//! a schema of their own, and connections of their own, so that evidence never takes one of the signals.
//!
//! A transaction that writes ends when it is on the disk of the server, and on the standby that it waits for, as signals do:
//! what was answered as taken is there after a crash of the server, also when the standby takes its place. Nothing is lost
//! where it cannot end: the proxies keep what was not taken, and count on.
//!
//! Whether a transaction has happened whose end was not heard is not found out: who sends a batch, an event or a gap again
//! is told that it is there.

mod columns;
mod days;
mod events;
mod find;
mod grants;
mod hours;
#[cfg(test)]
mod measure;
mod numbers;
mod prune;
mod reads;
mod records;
mod schema;
mod sums;
mod text;
mod write;

use crate::config::hub::Postgres;
use crate::evidence::model::{
    EventKind, EventRow, Found, GapRow, GrantRow, Losses, RecordRow, Selector, Usage, Window, Write, Written,
};
use crate::evidence::store::EvidenceStore;
use crate::evidence::store::kept::Kept;
use crate::store::model::StoreError;
use crate::store::postgres::pool::{Pool, Size};
use crate::store::postgres::servers::Servers;
use crate::store::postgres::session::{CommitError, Session};
use std::sync::Arc;
use taskfence_core::uses::outline::Outline;
use tokio::runtime::Runtime;

/// The connections: one or two writers, and a few reports.
const SIZE: Size = Size { readers: 4, writers: 2, kept: 2 };

/// A transaction that another one stood in the way of is tried so often.
const TRIES: usize = 4;

/// The store of evidence of one or more hubs in a database.
pub struct PostgresEvidence {
    pool: Pool,
    kept: Kept,
    known: days::Known,
    /// Drives the connections, and is never waited for.
    runtime: Option<Runtime>,
}

impl PostgresEvidence {
    /// Opens the store in the database, and makes its tables if they are not there. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Unavailable`]: no server of the URL can be used.
    pub fn open(postgres: &Postgres, kept: Kept) -> Result<PostgresEvidence, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("evidence")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let servers = Servers::new(postgres.clone(), runtime.handle().clone(), None);
        let pool = Pool::new(Arc::new(servers), None, SIZE);
        pool.migrate(&schema::EVIDENCE)?;
        Ok(PostgresEvidence { pool, kept, known: days::Known::default(), runtime: Some(runtime) })
    }

    fn read<T>(&self, body: impl FnOnce(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pool.read(body)
    }

    fn try_write(&self, writes: &[Write]) -> Result<Vec<Written>, CommitError> {
        self.known.make(&self.pool, &write::days_of(writes))?;
        self.pool.write(|session| write::write(session, writes))
    }
}

impl Drop for PostgresEvidence {
    fn drop(&mut self) {
        // Also where that is done in a task of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl EvidenceStore for PostgresEvidence {
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut tries = 1;
        loop {
            match self.try_write(writes) {
                Err(CommitError::Not(error)) if tries < TRIES && is_passing(&error) => {
                    // Another replica may have removed a day.
                    self.known.forget();
                    tries = tries.saturating_add(1);
                }
                done => return done.map_err(from_commit),
            }
        }
    }

    fn grants(&self, feed: &str, window: Window, each: &mut dyn FnMut(GrantRow) -> bool) -> Result<(), StoreError> {
        self.read(|session| grants::each(session, feed, window, None, each))
    }

    fn events(
        &self,
        feed: &str,
        window: Window,
        kind: Option<EventKind>,
        each: &mut dyn FnMut(EventRow) -> bool,
    ) -> Result<(), StoreError> {
        self.read(|session| events::each(session, feed, window, kind, each))
    }

    fn find(
        &self,
        feed: &str,
        selector: &Selector,
        issuer: Option<&str>,
        window: Window,
        limit: usize,
    ) -> Result<Found, StoreError> {
        self.read(|session| find::find(session, feed, selector, issuer, window, limit))
    }

    fn records(&self, feed: &str, after: u64, window: Window, limit: usize) -> Result<Vec<RecordRow>, StoreError> {
        self.read(|session| records::after(session, feed, after, window, limit))
    }

    fn gaps(&self, feed: &str, window: Window) -> Result<Vec<GapRow>, StoreError> {
        self.pool.ask(|session| reads::gaps(session, feed, window))
    }

    fn losses(&self, feed: &str, window: Window) -> Result<Losses, StoreError> {
        self.read(|session| reads::losses(session, feed, window))
    }

    fn configs(&self, feed: &str) -> Result<Vec<Outline>, StoreError> {
        self.pool.ask(|session| reads::configs(session, feed))
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.pool.ask(|session| reads::get(session, name))
    }

    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.pool.write(|session| reads::set(session, name, value)).map_err(from_commit)
    }

    fn prune(&self, now: u64) -> Result<u64, StoreError> {
        let removed = prune::prune(&self.pool, self.kept, now).map_err(from_commit)?;
        if removed > 0 {
            self.known.forget();
        }
        Ok(removed)
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        self.read(reads::usage)
    }
}

fn from_commit(error: CommitError) -> StoreError {
    match error {
        CommitError::Not(error) => error,
        CommitError::Unknown(why) => StoreError::Unavailable(why),
    }
}

/// Whether the same may go well when it is tried again at once: a deadlock, a serialization failure, a partition that was
/// removed meanwhile, a table that was changed.
fn is_passing(error: &StoreError) -> bool {
    let (StoreError::Failed(why) | StoreError::Unavailable(why)) = error else { return false };
    ["(40P01)", "(40001)", "(23514)", "(42P01)"].iter().any(|code| why.contains(code))
}

#[cfg(test)]
mod tests;
