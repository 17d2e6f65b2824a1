//! Connections to the database: one that writes, and a few that read.

use crate::store::model::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a call waits for another process, such as `taskfence hub token`.
const BUSY: Duration = Duration::from_secs(10);

/// So many idle connections for readers are kept open.
const KEPT: usize = 8;

/// The page cache of the connection that writes, in KiB.
const WRITER_CACHE: i64 = 64 * 1024;

/// The page cache of each connection that reads, in KiB.
const READER_CACHE: i64 = 4 * 1024;

/// How many statements a connection keeps compiled.
const STATEMENTS: usize = 64;

/// All connections to one database.
pub struct Connections {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Connections {
    /// Opens the database, and creates it if it does not exist; then only its owner may read it.
    pub fn open(path: &Path) -> Result<Connections, StoreError> {
        create(path).map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))?;
        let writer = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writer.busy_timeout(BUSY)?;
        writer.set_prepared_statement_cache_capacity(STATEMENTS);
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // What is answered is on the disk.
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "foreign_keys", true)?;
        writer.pragma_update(None, "cache_size", -WRITER_CACHE)?;
        Ok(Connections { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::default() })
    }

    /// The connection that writes. Whoever has it holds up all other writers.
    pub fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` with a connection that only reads, beside any writer.
    pub fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let read = body(&reader);
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(reader);
        }
        read
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_reader(&self) -> Result<Connection, StoreError> {
        let reader = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(BUSY)?;
        reader.set_prepared_statement_cache_capacity(STATEMENTS);
        reader.pragma_update(None, "cache_size", -READER_CACHE)?;
        Ok(reader)
    }
}

fn create(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
