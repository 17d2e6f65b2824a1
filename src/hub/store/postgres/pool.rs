//! The connections to the database that are open.

use crate::store::model::StoreError;
use crate::store::postgres::origin::{self, Found, Seen};
use crate::store::postgres::schema::Schema;
use crate::store::postgres::servers::Servers;
use crate::store::postgres::session::{CommitError, Server, Session};
use crate::store::postgres::slots::Slots;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A primary that waits for a standby has proved within this time that it still does, when something is read from it. One
/// that was replaced by its standby without knowing cannot.
const PROOF: Duration = Duration::from_secs(2);

/// A proof that failed is not tried again for so long.
const AGAIN: Duration = Duration::from_secs(1);

/// How many connections a pool has.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// So many read at once.
    pub readers: usize,
    /// So many write at once.
    pub writers: usize,
    /// So many idle ones are kept.
    pub kept: usize,
}

/// The connections to the primary.
pub struct Pool {
    /// Where they lead.
    servers: Arc<Servers>,
    /// What was seen of the database; `None`: its history is not compared with anything.
    seen: Option<Seen>,
    size: Size,
    idle: Mutex<Vec<Session>>,
    /// The server whose history is known.
    settled: Mutex<Option<Server>>,
    /// When a transaction last became durable.
    proved: Mutex<Option<Instant>>,
    /// When a proof last failed, and why. Who asks meanwhile waits for the one that is under way.
    refuted: Mutex<Option<(Instant, StoreError)>>,
    /// Connections that read, and those that write: neither waits for the others.
    readers: Slots,
    writers: Slots,
}

impl Pool {
    /// No connection yet.
    pub fn new(servers: Arc<Servers>, seen: Option<Seen>, size: Size) -> Pool {
        Pool {
            servers,
            seen,
            size,
            idle: Mutex::default(),
            settled: Mutex::default(),
            proved: Mutex::default(),
            refuted: Mutex::default(),
            readers: Slots::new(size.readers),
            writers: Slots::new(size.writers),
        }
    }

    /// The server that is used.
    pub fn server(&self) -> Option<Server> {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the feed has that number.
    pub fn note(&self, feed: &str, number: u64) {
        self.seen.iter().for_each(|seen| seen.note(feed, number));
    }

    /// Brings `schema` up to date, on a connection of its own: what else is done needs its tables.
    pub fn migrate(&self, schema: &Schema) -> Result<(), StoreError> {
        let mut session = self.servers.connect(None)?;
        session.begin_write()?;
        schema.migrate(&mut session)?;
        session.commit().map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// A new connection, to a server whose history is known.
    pub fn connect(&self) -> Result<Session, StoreError> {
        let mut session = self.servers.connect(None)?;
        let Some(seen) = &self.seen else { return Ok(session) };
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if *settled != Some(session.server) {
            match origin::settle(&mut session, seen)? {
                Found::Same => {}
                Found::Promoted => tracing::warn!(
                    timeline = session.server.timeline,
                    "another server has become the primary: every feed begins a new epoch"
                ),
                Found::Restored => tracing::error!(
                    "the database is a restored copy: every feed begins a new epoch, and the hub is not ready until the gap \
                     is dealt with, see `taskfence hub accept-loss`"
                ),
            }
            *settled = Some(session.server);
            self.servers.believe(session.server);
        }
        Ok(session)
    }

    /// Makes sure that the primary is still the one, where it waits for a standby.
    pub fn prove(&self) -> Result<(), StoreError> {
        if !self.servers.has_standby() {
            return Ok(());
        }
        let mut refuted = self.refuted.lock().unwrap_or_else(PoisonError::into_inner);
        let proved = *self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if proved.is_some_and(|at| at.elapsed() < PROOF) {
            return Ok(());
        }
        if let Some((at, error)) = &*refuted
            && at.elapsed() < AGAIN
        {
            return Err(error.clone());
        }
        let write = |session: &mut Session| session.execute("UPDATE taskfence.clock SET latest = latest", &[]);
        let done = self.write(write).map(drop).map_err(|error| {
            StoreError::Unavailable(format!("the primary does not prove that it still is one: {error}"))
        });
        *refuted = done.clone().err().map(|error| (Instant::now(), error));
        done
    }

    /// Runs `body`, which only reads, and may run twice: a connection that was idle may have broken.
    pub fn ask<T>(&self, mut body: impl FnMut(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _slot = self.readers.take()?;
        if let Some(mut session) = self.idle_session() {
            match body(&mut session) {
                Err(StoreError::Unavailable(_)) => {}
                done => {
                    self.give_back(session);
                    return done;
                }
            }
        }
        let mut session = self.connect()?;
        let done = body(&mut session);
        self.give_back(session);
        done
    }

    /// Runs `body` so that all that it reads is of one moment.
    pub fn read<T>(&self, body: impl FnOnce(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _slot = self.readers.take()?;
        let mut session = self.begun(Session::begin_read)?;
        let done = body(&mut session);
        if session.is_usable() {
            session.roll_back();
        }
        self.give_back(session);
        done
    }

    /// Runs `body` in a transaction that writes, and says where that was. What it wrote is durable when this returns `Ok`.
    pub fn write<T>(&self, body: impl FnOnce(&mut Session) -> Result<T, StoreError>) -> Result<T, CommitError> {
        let _slot = self.writers.take().map_err(CommitError::Not)?;
        let mut session = self.begun(Session::begin_write).map_err(CommitError::Not)?;
        let begin = Instant::now();
        let done = match body(&mut session) {
            Ok(value) => session.commit().map(|()| value),
            Err(error) => {
                if session.is_usable() {
                    session.roll_back();
                }
                Err(CommitError::Not(error))
            }
        };
        self.give_back(session);
        if done.is_ok() {
            *self.proved.lock().unwrap_or_else(PoisonError::into_inner) = Some(begin);
        }
        done
    }

    fn begun(&self, begin: impl Fn(&mut Session) -> Result<(), StoreError>) -> Result<Session, StoreError> {
        while let Some(mut session) = self.idle_session() {
            if begin(&mut session).is_ok() {
                return Ok(session);
            }
        }
        let mut session = self.connect()?;
        begin(&mut session)?;
        Ok(session)
    }

    /// An idle connection to the server that counts.
    fn idle_session(&self) -> Option<Session> {
        let newest = self.servers.newest();
        let is_right = |server: Server| newest.is_none_or(|newest| newest == server);
        let mut idle = self.idle();
        while let Some(session) = idle.pop() {
            if session.is_usable() && is_right(session.server) {
                return Some(session);
            }
        }
        None
    }

    fn give_back(&self, session: Session) {
        let mut idle = self.idle();
        if session.is_usable() && idle.len() < self.size.kept {
            idle.push(session);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
