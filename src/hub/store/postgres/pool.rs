//! The connections to the database that are open.

use crate::store::model::StoreError;
use crate::store::postgres::servers::Servers;
use crate::store::postgres::session::{CommitError, Server, Session};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many idle connections are kept.
const KEPT: usize = 8;

/// The connections to the primary.
pub struct Pool {
    /// Where they lead.
    pub servers: Servers,
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    /// No connection yet.
    pub fn new(servers: Servers) -> Pool {
        Pool { servers, idle: Mutex::default() }
    }

    /// Runs `body`, which only reads, and may run twice: a connection that was idle may have broken.
    pub fn ask<T>(&self, mut body: impl FnMut(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(mut session) = self.idle_session() {
            match body(&mut session) {
                Err(StoreError::Unavailable(_)) => {}
                done => {
                    self.give_back(session);
                    return done;
                }
            }
        }
        let mut session = self.servers.connect(None)?;
        let done = body(&mut session);
        self.give_back(session);
        done
    }

    /// Runs `body` so that all that it reads is of one moment.
    pub fn read<T>(&self, body: impl FnOnce(&mut Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut session = self.begun(Session::begin_read)?;
        let done = body(&mut session);
        session.roll_back();
        self.give_back(session);
        done
    }

    /// Runs `body` in a transaction that writes, and says where that was. What it wrote is durable when this returns `Ok`.
    pub fn write<T>(&self, body: impl FnOnce(&mut Session) -> Result<T, StoreError>) -> Result<T, CommitError> {
        let mut session = self.begun(Session::begin_write).map_err(CommitError::Not)?;
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
        done
    }

    /// A connection, kept for the caller alone.
    pub fn take(&self) -> Result<Session, StoreError> {
        match self.idle_session() {
            Some(session) => Ok(session),
            None => self.servers.connect(None),
        }
    }

    fn begun(&self, begin: impl Fn(&mut Session) -> Result<(), StoreError>) -> Result<Session, StoreError> {
        while let Some(mut session) = self.idle_session() {
            if begin(&mut session).is_ok() {
                return Ok(session);
            }
        }
        let mut session = self.servers.connect(None)?;
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
        if session.is_usable() && idle.len() < KEPT {
            idle.push(session);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
