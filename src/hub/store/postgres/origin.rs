//! Which server, in which history, the store is of; and what follows when that is another one than before.
//!
//! | found | what it is | what follows |
//! |---|---|---|
//! | the same server and timeline | nothing happened | nothing |
//! | the same server, a newer timeline | a standby was promoted | a new epoch of every feed |
//! | another server, or less than this hub knows | a restore | a new epoch, and an operator names the gap |
//! | the same server, an older timeline | an old primary | it is not used, see [`crate::store::postgres::servers`] |

use crate::store::model::StoreError;
use crate::store::postgres::session::{Server, Session};
use crate::store::postgres::{feeds, records};
use crate::store::{RESTORED, RESTORED_AT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The file in the folder of the hub that says what it has seen.
const FILE: &str = "postgres.json";

/// It is written at most this often.
const PACE: Duration = Duration::from_secs(1);

/// What this hub has seen of the database, also before it was started again.
pub struct Seen {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    record: Option<Record>,
    written: Option<Instant>,
}

/// What the file has in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    system: u64,
    timeline: u32,
    /// The greatest number of each feed that was stored.
    numbers: BTreeMap<String, u64>,
}

/// What has happened to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Same,
    /// A standby has taken over.
    Promoted,
    /// It is a copy, which may lack what was answered.
    Restored,
}

impl Seen {
    /// Reads what the hub with its files in `folder` has seen.
    pub fn read(folder: &Path) -> Result<Seen, StoreError> {
        let path = folder.join(FILE);
        let record = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| {
                StoreError::Damaged(format!("{}: {error}; remove it if the database is the right one", path.display()))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::Failed(format!("{}: {error}", path.display()))),
        };
        Ok(Seen { path, inner: Mutex::new(Inner { record, written: None }) })
    }

    /// The server that was used last.
    pub fn server(&self) -> Option<Server> {
        self.inner().record.as_ref().map(|record| Server { system: record.system, timeline: record.timeline })
    }

    /// Notes that the feed has that number. Nothing waits for the disk: it is a second witness, and may lack the last
    /// second.
    pub fn note(&self, feed: &str, number: u64) {
        let mut inner = self.inner();
        let Some(record) = &mut inner.record else { return };
        match record.numbers.get_mut(feed) {
            Some(known) => *known = number.max(*known),
            None => drop(record.numbers.insert(feed.to_owned(), number)),
        }
        if inner.written.is_none_or(|at| at.elapsed() >= PACE) {
            inner.written = Some(Instant::now());
            if let Err(error) = self.write(&inner) {
                tracing::warn!(%error, "what was seen of the database cannot be noted");
            }
        }
    }

    fn number(&self, feed: &str) -> u64 {
        let inner = self.inner();
        inner.record.as_ref().and_then(|record| record.numbers.get(feed)).copied().unwrap_or_default()
    }

    /// From now on `server` counts, with these heads.
    fn begin(&self, server: Server, numbers: BTreeMap<String, u64>) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.record = Some(Record { system: server.system, timeline: server.timeline, numbers });
        inner.written = Some(Instant::now());
        self.write(&inner)
    }

    fn write(&self, inner: &Inner) -> Result<(), StoreError> {
        let Some(record) = &inner.record else { return Ok(()) };
        let failed = |error: io::Error| StoreError::Failed(format!("{}: {error}", self.path.display()));
        let bytes = serde_json::to_vec(record).map_err(|error| StoreError::Failed(error.to_string()))?;
        // A command on the host may write it at the same time.
        let beside = self.path.with_added_extension(format!("{}.partial", std::process::id()));
        fs::write(&beside, bytes).map_err(failed)?;
        fs::rename(&beside, &self.path).map_err(failed)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares the server of `session` with the one that wrote the store, and draws the conclusions, in a transaction of its
/// own. Of several replicas that find another server at once, one begins the new epochs.
pub fn settle(session: &mut Session, seen: &Seen) -> Result<Found, StoreError> {
    session.begin_write()?;
    let server = session.server;
    let (system, timeline) = (server.system.cast_signed(), i64::from(server.timeline));
    session.execute(
        "INSERT INTO taskfence.origin (id, system, timeline) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING",
        &[&system, &timeline],
    )?;
    let row = session.row("SELECT system, timeline FROM taskfence.origin FOR UPDATE", &[])?;
    let row = row.ok_or_else(|| StoreError::Damaged("the store does not say whose it is".to_owned()))?;
    let before: (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let mut heads = BTreeMap::new();
    for row in session.rows("SELECT name, number FROM taskfence.feed ORDER BY name FOR UPDATE", &[])? {
        heads.insert(row.try_get::<_, String>(0)?, crate::store::value::uint(row.try_get(1)?)?);
    }
    let is_same_system = seen.server().is_none_or(|seen| seen.system == server.system);
    let known = seen.server().map_or(0, |seen| i64::from(seen.timeline));
    let mut is_set_back = false;
    for (feed, number) in &heads {
        // Another replica may have gone on already from less than this one knows.
        let begun = records::get(session, &taken_over(feed))?.unwrap_or_default();
        let reached = begun.split(' ').filter_map(taken_over_at).filter(|(timeline, _)| *timeline > known);
        let reached = reached.map(|(_, number)| number).fold(*number, u64::min);
        is_set_back |= is_same_system && reached < seen.number(feed);
    }
    let found = match () {
        () if before.0 != system || before.1 > timeline || is_set_back => Found::Restored,
        () if before.1 < timeline => Found::Promoted,
        () => Found::Same,
    };
    if found != Found::Same {
        for feed in heads.keys() {
            let epoch = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?;
            feeds::renew(session, feed, epoch)?;
            let begun = records::get(session, &taken_over(feed))?.unwrap_or_default();
            let number = heads.get(feed).copied().unwrap_or_default();
            records::set(session, &taken_over(feed), format!("{begun} {timeline}:{number}").trim_start())?;
        }
        session.execute("UPDATE taskfence.origin SET system = $1, timeline = $2", &[&system, &timeline])?;
    }
    if found == Found::Restored {
        let complete_until = records::latest_time(session)?;
        let now = records::now(session)?;
        records::set(session, RESTORED, &complete_until.to_string())?;
        records::set(session, RESTORED_AT, &now.to_string())?;
    }
    session.commit().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    seen.begin(server, heads)?;
    Ok(found)
}

/// The value that says with which number of a feed each server began that has taken over: `TIMELINE:NUMBER ...`.
fn taken_over(feed: &str) -> String {
    format!("taken-over/{feed}")
}

fn taken_over_at(one: &str) -> Option<(i64, u64)> {
    let (timeline, number) = one.split_once(':')?;
    Some((timeline.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::read(folder.path()).unwrap();
        assert_eq!((seen.server(), seen.number("main")), (None, 0));
        let server = Server { system: u64::MAX, timeline: 3 };
        seen.begin(server, BTreeMap::from([("main".to_owned(), 5)])).unwrap();
        seen.note("main", 9);
        seen.note("main", 7);
        assert_eq!(seen.number("main"), 9);
        let again = Seen::read(folder.path()).unwrap();
        assert_eq!((again.server(), again.number("main")), (Some(server), 5), "the last second may be missing");
        fs::write(folder.path().join(FILE), "no JSON").unwrap();
        assert!(matches!(Seen::read(folder.path()), Err(StoreError::Damaged(why)) if why.contains("remove it")));
    }
}
