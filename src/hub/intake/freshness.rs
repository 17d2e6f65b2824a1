//! When the transmitters of one feed were last heard of. It is kept in the store, so that it is known after a restart.
//!
//! Each replica stores what it knows under its own name, and reads what the others have stored before each statement: what
//! one has answered for is known to all.

use crate::config::hub::Feed;
use crate::store::Store;
use crate::store::model::StoreError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use taskfence_core::feed::statement::IssuerStatus;
use taskfence_core::index::IssuerIndex;
use taskfence_core::state::coverage::CoveredIssuer;
use taskfence_core::state::freshness::{Freshness, Heartbeat};
use taskfence_core::time::Timestamp;

/// When each transmitter of a feed was last heard of.
#[derive(Debug)]
pub(super) struct FeedFreshness {
    feed: String,
    /// The name of the value in the store.
    name: String,
    /// Whether other replicas store theirs.
    shared: bool,
    heard: Mutex<Freshness>,
    changed: AtomicBool,
    /// Held while the store is written. `heard` is not: pushes wait for it.
    writing: Mutex<()>,
}

impl FeedFreshness {
    /// What the store knows of the feed `feed`. A value that cannot be read counts as "never heard of". `replica`: the name of
    /// this one, where there may be others.
    pub(super) fn load(feed: &str, replica: Option<&str>, store: &dyn Store) -> Result<FeedFreshness, StoreError> {
        let name = replica.map_or_else(|| alone(feed), |replica| format!("{}{replica}", prefix(feed)));
        let (changed, writing) = (AtomicBool::new(false), Mutex::new(()));
        let (feed, shared) = (feed.to_owned(), replica.is_some());
        let freshness = FeedFreshness { feed, name, shared, heard: Mutex::default(), changed, writing };
        freshness.read_all(store)?;
        Ok(freshness)
    }

    /// Takes in what other replicas have stored. Blocks.
    pub(super) fn read_others(&self, store: &dyn Store) -> Result<(), StoreError> {
        if self.shared { self.read_all(store).map(drop) } else { Ok(()) }
    }

    /// Takes in all that is stored; the names of the values.
    fn read_all(&self, store: &dyn Store) -> Result<Vec<(String, String)>, StoreError> {
        let mut values = store.values(&prefix(&self.feed))?;
        let alone = alone(&self.feed);
        values.extend(store.get(&alone)?.map(|value| (alone, value)));
        for (name, value) in &values {
            match read(value) {
                Some(stored) => self.lock().merge(&stored),
                None => tracing::error!(
                    feed = self.feed,
                    name,
                    "the store holds no times at which transmitters were heard of: they count as silent"
                ),
            }
        }
        Ok(values)
    }

    /// Takes over what replicas have stored that `is_alive` does not know any more, and removes it. Blocks.
    pub(super) fn take_over(&self, store: &dyn Store, is_alive: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let prefix = prefix(&self.feed);
        let all = self.read_all(store)?.into_iter();
        let is_dead = |name: &str| name != self.name && name.strip_prefix(&prefix).is_some_and(|name| !is_alive(name));
        let dead: Vec<_> = all.filter(|(name, _)| is_dead(name)).collect();
        if dead.is_empty() {
            return Ok(());
        }
        self.changed.store(true, Ordering::Release);
        self.save(store)?;
        dead.iter().try_for_each(|(name, value)| store.swap(name, Some(value), None).map(drop))
    }

    /// Records a heartbeat in memory.
    pub(super) fn note(&self, heartbeat: &Heartbeat, now: Timestamp) {
        self.lock().note(heartbeat, now);
        self.changed.store(true, Ordering::Release);
    }

    /// Writes what has changed since the last time, and waits for another thread that does. What was recorded before this
    /// call is stored when it returns. After an error it is written the next time.
    ///
    /// Many at once share a write: each costs an fsync, which signals wait for.
    pub(super) fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        // Writers take turns, so that none overwrites what is newer.
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Within the turn: whoever finds nothing changed knows that it is written, and not only about to be.
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.lock().encode(&mut bytes);
        let saved = store.set_for_signals(&self.name, &STANDARD.encode(bytes));
        saved.inspect_err(|_| self.changed.store(true, Ordering::Release))
    }

    /// What statements say about each issuer of `feed`, in the order of the configuration. `covered` are the same issuers.
    pub(super) fn issuers(&self, feed: &Feed, covered: Vec<CoveredIssuer>, now: Timestamp) -> Vec<IssuerStatus> {
        let policy = feed.policy();
        let heard = self.lock();
        let issuers = IssuerIndex::enumerate(policy.issuers());
        let status = |((index, _), covered)| {
            let transmitters = policy.signals().heartbeats_of(index);
            let up_to = if transmitters.is_empty() { now } else { heard.oldest(transmitters).min(now) };
            IssuerStatus { covered, heard: up_to, lost: heard.is_lost(transmitters) }
        };
        issuers.zip(covered).map(status).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Freshness> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the value of a hub of one process.
fn alone(feed: &str) -> String {
    format!("heard/{feed}")
}

/// What the names of the values of replicas begin with.
fn prefix(feed: &str) -> String {
    format!("heard/{feed}/")
}

fn read(text: &str) -> Option<Freshness> {
    Freshness::decode(&STANDARD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;
    use taskfence_core::state::freshness::Status;

    #[test]
    fn many_at_once_share_a_write_and_each_is_stored() {
        let (folder, store) = testing::store();
        let other = rusqlite::Connection::open(folder.path().join("hub.sqlite")).unwrap();
        let count = "CREATE TABLE writes (name TEXT); CREATE TRIGGER counted AFTER INSERT ON value BEGIN
            INSERT INTO writes VALUES (new.name); END; CREATE TRIGGER again AFTER UPDATE ON value BEGIN
            INSERT INTO writes VALUES (new.name); END";
        other.execute_batch(count).unwrap();
        let freshness = Arc::new(FeedFreshness::load("main", None, &*store).unwrap());
        let turn = freshness.writing.lock().unwrap();
        let one = |at: u64| {
            let (store, freshness) = (store.clone(), freshness.clone());
            thread::spawn(move || {
                freshness.note(&Heartbeat::new("idp", Timestamp(at)), Timestamp(1_000));
                freshness.save(&*store)
            })
        };
        let all: Vec<_> = (1..=20).map(one).collect();
        thread::sleep(Duration::from_millis(300));
        drop(turn);
        assert!(all.into_iter().all(|one| one.join().unwrap().is_ok()));
        let writes: i64 = other.query_row("SELECT count(*) FROM writes", [], |row| row.get(0)).unwrap();
        assert!((1..=2).contains(&writes), "{writes} writes");
        let again = FeedFreshness::load("main", None, &*store).unwrap();
        assert_eq!(again.lock().oldest(&[Heartbeat::new("idp", Timestamp(0)).transmitter]), Timestamp(20));
    }

    #[test]
    fn what_one_replica_has_stored_is_known_to_the_other_and_outlives_it() {
        let (_folder, store) = testing::store();
        let load = |name| FeedFreshness::load("main", Some(name), &*store).unwrap();
        let (one, two) = (load("a"), load("b"));
        let idp = Heartbeat::new("idp", Timestamp(0)).transmitter;
        one.note(&Heartbeat::new("idp", Timestamp(900)), Timestamp(1_000));
        two.read_others(&*store).unwrap();
        assert_eq!(two.lock().oldest(&[idp]), Timestamp(0), "never heard of before that is stored");
        one.save(&*store).unwrap();
        two.read_others(&*store).unwrap();
        assert_eq!(two.lock().oldest(&[idp]), Timestamp(900));
        let disabled = Some((Status::Disabled, Timestamp(950)));
        one.note(&Heartbeat { stream: disabled, ..Heartbeat::new("idp", Timestamp(950)) }, Timestamp(1_000));
        one.save(&*store).unwrap();
        two.read_others(&*store).unwrap();
        assert!(two.lock().is_lost(&[idp]));
        two.take_over(&*store, |name| name == "b").unwrap();
        let names: Vec<_> = store.values("heard/").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["heard/main/b"]);
        assert!(load("c").lock().is_lost(&[idp]));
        let other = FeedFreshness::load("main-2", Some("c"), &*store).unwrap();
        assert_eq!(other.lock().oldest(&[idp]), Timestamp(0));
    }
}
