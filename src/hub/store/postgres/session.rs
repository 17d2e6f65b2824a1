//! One connection to the database, whose calls block for a limited time.

use crate::store::model::StoreError;
use crate::store::postgres::wait::wait;
use futures_util::future::try_join_all;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// The longest that one call waits. The server gives up before, see [`SETTINGS`].
const LIMIT: Duration = Duration::from_secs(10);

/// So many rows of an answer that nobody wants any more are read to keep the connection.
const THROWN_AWAY: usize = 10_000;

/// The parameters of a statement.
pub type Params<'p> = [&'p (dyn ToSql + Sync)];

/// What holds for each transaction that writes: it is on the disk, and on the standby that the server waits for, when it
/// ends; and nobody waits long for it. `remote_apply`, where the role has it, stays. Rows are found by their keys: what the
/// server knows of the size of a table that grows fast is old.
const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') <> 'remote_apply';
    SET LOCAL statement_timeout = '8s'; SET LOCAL lock_timeout = '5s';
    SET LOCAL idle_in_transaction_session_timeout = '10s';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

/// The same for what reads one moment.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '60s';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off;
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// A connection.
pub struct Session {
    client: Client,
    /// What the server said beside its answers, since it was last looked at.
    notices: Arc<Mutex<Vec<String>>>,
    prepared: HashMap<String, Statement>,
    /// The task that drives the connection.
    driver: AbortHandle,
    /// A call failed: what state the connection is in is not known.
    is_broken: bool,
    /// The server that it leads to.
    pub server: Server,
}

/// What tells one server, and one history of it, from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Server {
    /// The identifier of the database cluster, given when it was made. Its standbys have the same.
    pub system: u64,
    /// The timeline: each promotion and each restore to a point in time begins a new one.
    pub timeline: u32,
}

/// Why a transaction is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It is not.
    #[error(transparent)]
    Not(StoreError),
    /// It may be: the connection broke, or the server did not wait for its standby.
    #[error("whether the last changes are stored is not known: {0}")]
    Unknown(String),
}

impl Session {
    /// A session with `client`, which `driver` drives. `notices` gets what the server says beside its answers.
    pub fn new(client: Client, notices: Arc<Mutex<Vec<String>>>, driver: AbortHandle, server: Server) -> Session {
        Session { client, notices, prepared: HashMap::new(), driver, is_broken: false, server }
    }

    /// Whether it can be used again.
    pub fn is_usable(&self) -> bool {
        !self.is_broken && !self.client.is_closed()
    }

    /// Runs statements without parameters.
    pub fn batch(&mut self, text: &str) -> Result<(), StoreError> {
        let done = wait(self.client.batch_execute(text), LIMIT);
        self.note(done)
    }

    /// The rows that a statement returns.
    pub fn rows(&mut self, text: &str, params: &Params<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepare(text)?;
        let done = wait(self.client.query(&statement, params), LIMIT);
        self.note(done)
    }

    /// The first row that a statement returns.
    pub fn row(&mut self, text: &str, params: &Params<'_>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(text, params)?.into_iter().next())
    }

    /// Runs a statement, and returns how many rows it changed.
    pub fn execute(&mut self, text: &str, params: &Params<'_>) -> Result<u64, StoreError> {
        let statement = self.prepare(text)?;
        let done = wait(self.client.execute(&statement, params), LIMIT);
        self.note(done)
    }

    /// Runs statements in order, all sent at once.
    pub fn execute_all(&mut self, all: &[(&str, Vec<&(dyn ToSql + Sync)>)]) -> Result<(), StoreError> {
        let statements = all.iter().map(|(text, _)| self.prepare(text)).collect::<Result<Vec<_>, _>>()?;
        let calls = statements.iter().zip(all).map(|(statement, (_, params))| self.client.execute(statement, params));
        let done = wait(try_join_all(calls), LIMIT);
        self.note(done).map(drop)
    }

    /// Hands the rows that a statement returns to `each`, one after the other.
    pub fn each_row(
        &mut self,
        text: &str,
        params: &Params<'_>,
        each: &mut dyn FnMut(&Row) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        use futures_util::StreamExt;
        let statement = self.prepare(text)?;
        let asked = wait(self.client.query_raw(&statement, params.iter().copied()), LIMIT);
        let mut rows = Box::pin(self.note(asked)?);
        loop {
            let next = wait(rows.next(), LIMIT).map(Option::transpose);
            let Some(row) = self.note(next)? else { return Ok(()) };
            if !each(&row)? {
                // What is left of the answer is thrown away, and where that is long, the connection with it.
                for _ in 0..THROWN_AWAY {
                    if self.note(wait(rows.next(), LIMIT).map(Option::transpose))?.is_none() {
                        return Ok(());
                    }
                }
                self.is_broken = true;
                return Ok(());
            }
        }
    }

    /// Begins a transaction that writes.
    pub fn begin_write(&mut self) -> Result<(), StoreError> {
        self.batch(BEGIN_WRITE)
    }

    /// Begins a transaction that reads, all of one moment.
    pub fn begin_read(&mut self) -> Result<(), StoreError> {
        self.batch(BEGIN_READ)
    }

    /// Ends a transaction so that nothing of it stays.
    pub fn roll_back(&mut self) {
        // One that cannot even do that is not used again.
        drop(self.batch("ROLLBACK"));
    }

    /// Makes the transaction durable.
    pub fn commit(&mut self) -> Result<(), CommitError> {
        self.take_notices();
        let done = wait(self.client.batch_execute("COMMIT"), LIMIT);
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.is_broken = true;
                // The server says that it has rolled back: nothing else is an error of a COMMIT whose session lives on.
                let is_refused = error.as_db_error().is_some_and(|db| {
                    db.severity() == "ERROR" && !matches!(db.code().code().get(..2), Some("08" | "57"))
                });
                let text = crate::store::postgres::error::text(&error);
                return Err(if is_refused { CommitError::Not(error.into()) } else { CommitError::Unknown(text) });
            }
            Err(_) => {
                self.is_broken = true;
                return Err(CommitError::Unknown(format!("no answer to COMMIT in {LIMIT:?}")));
            }
        }
        // The server does not wait for its standby any more, and says so by a warning only.
        let notices = self.take_notices();
        match notices.first() {
            None => Ok(()),
            Some(notice) => {
                self.is_broken = true;
                Err(CommitError::Unknown(format!("the server warned at COMMIT: {notice}")))
            }
        }
    }

    fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn prepare(&mut self, text: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.get(text) {
            return Ok(statement.clone());
        }
        let done = wait(self.client.prepare(text), LIMIT);
        let statement = self.note(done)?;
        self.prepared.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Notes whether the connection may be used again.
    fn note<T>(
        &mut self,
        done: Result<Result<T, tokio_postgres::Error>, crate::store::postgres::wait::TimedOut>,
    ) -> Result<T, StoreError> {
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.is_broken = true;
                Err(error.into())
            }
            Err(_) => {
                self.is_broken = true;
                Err(StoreError::Unavailable(format!("the database did not answer in {LIMIT:?}")))
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the connection also where the server does not answer.
        self.driver.abort();
    }
}
