//! Opens the store that the configuration names, and moves one from a file into a database.

use crate::config::hub::{Hub, Postgres};
use crate::store::model::StoreError;
use crate::store::postgres::PostgresStore;
use crate::store::postgres::import::Moved;
use crate::store::retention::{Kept, Retention};
use crate::store::sqlite::SqliteStore;
use crate::store::{MOVED, Store};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use taskfence_core::time::Span;

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A hub that runs.
    Hub,
    /// A command on its host, beside a hub that may run.
    Command,
}

/// The file of the store in the folder of a hub.
const FILE: &str = "hub.sqlite";

/// The lock that a hub which runs holds in its folder.
const LOCK: &str = "hub.lock";

/// Opens the store of `hub`, and creates it if it does not exist. Blocks.
pub fn open(hub: &Hub, user: For) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(postgres) = &hub.postgres {
        let store = open_postgres(hub, postgres)?;
        return Ok(Arc::new(if user == For::Hub { store.for_hub()? } else { store }));
    }
    let path = hub.data.join(FILE);
    let store = SqliteStore::open(&path)?;
    if let Some(to) = store.get(MOVED)? {
        return Err(StoreError::Failed(format!(
            "the store in {} was moved to {to}, and lacks what came since: write that into `store.postgres`, or move the \
             file away to begin anew",
            path.display()
        )));
    }
    let kept = kept(hub);
    let store = store.with_signals_kept(kept.signals).with_audit_kept(kept.audit);
    Ok(Arc::new(if user == For::Hub { store.with_reserve(hub.reserve) } else { store }))
}

/// Moves the store `from`, a file or the folder of a hub that does not run, into the empty database of `hub`. The source
/// then says that it was moved, and no hub starts with it. Returns how many rows were moved. Blocks.
pub fn move_into(hub: &Hub, from: &Path) -> Result<Moved, StoreError> {
    let Some(postgres) = &hub.postgres else {
        let what = "the configuration names no database: write `store: {postgres: {url: ...}}`";
        return Err(StoreError::Failed(what.to_owned()));
    };
    let file = if from.is_dir() { from.join(FILE) } else { from.to_owned() };
    if !file.exists() {
        return Err(StoreError::Failed(format!("{}: there is no store", file.display())));
    }
    let _lock = lock(&file)?;
    // Brings an older file to the schema that is read.
    let source = SqliteStore::open(&file)?;
    if let Some(to) = source.get(MOVED)? {
        return Err(StoreError::Failed(format!("{} was moved to {to} before", file.display())));
    }
    let moved = open_postgres(hub, postgres)?.import(&file)?;
    source.set_for_signals(MOVED, &place(postgres)).map_err(|error| {
        StoreError::Failed(format!(
            "all is moved, but {} cannot be marked ({error}): move it away, so that no hub starts with it",
            file.display()
        ))
    })?;
    Ok(moved)
}

fn open_postgres(hub: &Hub, postgres: &Postgres) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(postgres, kept(hub), &hub.data)
}

fn kept(hub: &Hub) -> Kept {
    let age = Span::hours(hub.audit.days.saturating_mul(24));
    let audit = Retention { age, bytes: hub.audit.mib.saturating_mul(1024 * 1024) };
    Kept { signals: hub.keep_signals, audit }
}

/// The lock of the hub whose folder the file is in.
fn lock(file: &Path) -> Result<File, StoreError> {
    let path: PathBuf = file.with_file_name(LOCK);
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Failed(format!("a hub runs with {}: end it first", file.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Where the database is, for people.
fn place(postgres: &Postgres) -> String {
    use tokio_postgres::config::Host;
    let hosts = postgres.url.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<_> = hosts.collect();
    format!("the database `{}` on {}", postgres.url.get_dbname().unwrap_or_default(), hosts.join(", "))
}
