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
use taskfence_core::state::freshness::{Freshness, Heartbeat};
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

    /// Writes what has changed since the last time. After an error it is written the next time.
    pub(super) fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.save_always(store).inspect_err(|_| self.changed.store(true, Ordering::Release))
    }

    /// Writes it, also when another thread is about to.
    pub(super) fn save_always(&self, store: &dyn Store) -> Result<(), StoreError> {
        // Writers take turns, so that none overwrites what is newer.
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        self.lock().encode(&mut bytes);
        store.set_for_signals(&self.name, &STANDARD.encode(bytes))
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
