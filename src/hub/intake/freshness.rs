//! When the transmitters of one feed were last heard of. It is kept in the store, so that it is known after a restart.

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
use taskfence_core::state::freshness::{Freshness, Heartbeat, Status, TransmitterId};
use taskfence_core::time::Timestamp;

/// When each transmitter of a feed was last heard of.
#[derive(Debug)]
pub(super) struct FeedFreshness {
    /// The name of the value in the store.
    name: String,
    heard: Mutex<Freshness>,
    changed: AtomicBool,
    /// Held while the store is written. `heard` is not: pushes wait for it.
    writing: Mutex<()>,
}

impl FeedFreshness {
    /// What the store knows of the feed `name`. A value that cannot be read counts as "never heard of".
    pub(super) fn load(feed: &str, store: &dyn Store) -> Result<FeedFreshness, StoreError> {
        let name = format!("heard/{feed}");
        let heard = match store.get(&name)? {
            None => Freshness::default(),
            Some(text) => read(&text).unwrap_or_else(|| {
                tracing::error!(
                    feed,
                    "the store holds no times at which transmitters were heard of: they count as silent"
                );
                Freshness::default()
            }),
        };
        let (changed, writing) = (AtomicBool::new(false), Mutex::new(()));
        Ok(FeedFreshness { name, heard: Mutex::new(heard), changed, writing })
    }

    /// Records a heartbeat in memory.
    pub(super) fn note(&self, heartbeat: &Heartbeat, now: Timestamp) {
        self.lock().note(heartbeat, now);
        self.changed.store(true, Ordering::Release);
    }

    /// The last known status of the transmitter's stream.
    pub(super) fn status_of(&self, transmitter: TransmitterId) -> Status {
        self.lock().status_of(transmitter)
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

    #[test]
    fn many_at_once_share_a_write_and_each_is_stored() {
        let (folder, store) = testing::store();
        let other = rusqlite::Connection::open(folder.path().join("hub.sqlite")).unwrap();
        let count = "CREATE TABLE writes (name TEXT); CREATE TRIGGER counted AFTER INSERT ON value BEGIN
            INSERT INTO writes VALUES (new.name); END; CREATE TRIGGER again AFTER UPDATE ON value BEGIN
            INSERT INTO writes VALUES (new.name); END";
        other.execute_batch(count).unwrap();
        let freshness = Arc::new(FeedFreshness::load("main", &*store).unwrap());
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
        let again = FeedFreshness::load("main", &*store).unwrap();
        assert_eq!(again.lock().oldest(&[Heartbeat::new("idp", Timestamp(0)).transmitter]), Timestamp(20));
    }
}
