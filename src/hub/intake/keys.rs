//! Fetches the key sets of transmitters over HTTPS, and keeps the last good ones.
//!
//! When to fetch is decided by the code of the filter ([`taskfence_core::keys::fetch`]): each `refresh`, sooner after a
//! failure, and because of an unknown `kid` at most once in `refetch`. A hub has one process, so the memory that workers
//! share there is memory of this process here.

use crate::config::cluster::Cluster;
use crate::config::hub::{Feed, Hub};
use crate::intake::counters::Counters;
use crate::intake::key_request::{self, KeyFailure};
use crate::repeated::Repeated;
use crate::store::clock::Clock;
use reqwest::Url;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use taskfence_core::keys::fetch::{self, Chance, FetchError, Published, Status};
use taskfence_core::keys::keyring::{Owner, Source, read_jwks};
use taskfence_core::state::store::{MemoryStore, StoreError};
use taskfence_core::time::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// The one that fetches, as the lease has it.
const HOLDER: u64 = 1;

/// The longest sleep between two looks at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The key sets that a hub fetches. Dropping it ends the fetching.
#[derive(Debug)]
pub(super) struct Keys {
    sets: Vec<Arc<KeySource>>,
    tasks: Vec<AbortHandle>,
}

/// A transmitter whose keys are fetched.
#[derive(Debug)]
struct User {
    feed: Arc<Feed>,
    owner: Owner,
    counters: Arc<Counters>,
}

/// One key set that is fetched, for all transmitters that use it.
#[derive(Debug)]
struct KeySource {
    source: Source,
    url: Url,
    users: Vec<User>,
    memory: Mutex<MemoryStore>,
    /// An unknown `kid` asks for a fetch.
    wanted: Notify,
    /// How many fetches have ended.
    ended: watch::Sender<u64>,
    fetching: Repeated,
    remembering: Repeated,
}

impl Keys {
    /// Starts to fetch. `counters` are those of the feeds of `hub`, in their order. Fails when no TLS client can be made.
    pub(super) fn start(hub: &Hub, counters: &[Arc<Counters>], clock: &Clock) -> Result<Keys, KeyFailure> {
        let client = key_request::client()?;
        let mut sets: Vec<KeySource> = Vec::new();
        for (feed, counters) in hub.feeds.iter().zip(counters) {
            let policy = feed.policy();
            for (owner, _, keyring) in policy.needed_keys() {
                let Some(source) = keyring.source() else { continue };
                let user = User { feed: feed.clone(), owner, counters: counters.clone() };
                match sets.iter_mut().find(|set| set.source == *source) {
                    Some(set) => set.users.push(user),
                    None => {
                        let url = hub.clusters.get(&source.cluster).and_then(|cluster| cluster.url(&source.path));
                        sets.push(KeySource::new(source, url.ok_or(KeyFailure::Url)?, user)?);
                    }
                }
            }
        }
        let sets: Vec<Arc<KeySource>> = sets.into_iter().map(Arc::new).collect();
        let keep_fetching = |set: &Arc<KeySource>| {
            let fetching = set.clone().keep_fetching(client.clone(), hub.clusters.clone(), clock.clone());
            tokio::spawn(fetching).abort_handle()
        };
        let tasks = sets.iter().map(keep_fetching).collect();
        Ok(Keys { sets, tasks })
    }

    /// Asks for the keys of a transmitter because one is unknown, and waits for a fetch to end, at most `wait` of the
    /// source. `false`: nothing can come before the pause of `refetch` is over, or nothing came.
    pub(super) async fn refetch(&self, feed: &Feed, owner: Owner, now: u64) -> bool {
        let uses = |user: &User| user.owner == owner && user.feed.id == feed.id;
        let Some(set) = self.sets.iter().find(|set| set.users.iter().any(uses)) else { return false };
        let mut ended = set.ended.subscribe();
        if !set.status().is_ok_and(|status| status.can_bring_more(&set.source, now)) {
            return false;
        }
        set.wanted.notify_one();
        let wait = Duration::from_secs(set.source.wait.0);
        matches!(tokio::time::timeout(wait, ended.changed()).await, Ok(Ok(())))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl KeySource {
    fn new(source: &Source, url: Url, user: User) -> Result<KeySource, KeyFailure> {
        let mut memory = MemoryStore::default();
        fetch::set_up(&mut memory, source.id()).map_err(KeyFailure::Memory)?;
        let memory = Mutex::new(memory);
        let (wanted, ended) = (Notify::new(), watch::Sender::new(0));
        let fetching = Repeated::new("the keys of a transmitter were not fetched; the last good ones stay in use");
        let remembering = Repeated::new("the memory of fetched keys failed");
        Ok(KeySource { source: source.clone(), url, users: vec![user], memory, wanted, ended, fetching, remembering })
    }

    async fn keep_fetching(
        self: Arc<KeySource>,
        client: reqwest::Client,
        clusters: BTreeMap<String, Cluster>,
        clock: Clock,
    ) {
        let mut wanted = false;
        loop {
            let begun = fetch::begin(&mut *self.memory(), &self.source, clock.now_ms(), HOLDER, wanted);
            self.remembering.note(self.url.as_str(), &begun);
            if begun == Ok(true) {
                self.fetch(&client, &clusters, &clock).await;
            }
            let due = self.status().map_or(u64::MAX, |status| status.due_at(&self.source));
            let sleep = Duration::from_millis(due.saturating_sub(clock.now_ms()).max(10)).min(LONGEST_SLEEP);
            wanted = tokio::time::timeout(sleep, self.wanted.notified()).await.is_ok();
        }
    }

    async fn fetch(&self, client: &reqwest::Client, clusters: &BTreeMap<String, Cluster>, clock: &Clock) {
        let fetched = key_request::get(client, &self.source, clusters).await;
        let now = clock.now_ms();
        let outcome = fetched.and_then(|body| self.use_keys(&body, now));
        match &outcome {
            Ok(()) => self.users.iter().for_each(|user| user.counters.keys_fetched.add()),
            Err(_) => {
                // What fails is the memory, which the next look says.
                _ = fetch::fail(&mut *self.memory(), &self.source, HOLDER, now, chance());
                self.users.iter().for_each(|user| user.counters.keys_failed.add());
            }
        }
        self.fetching.note(self.url.as_str(), &outcome);
        self.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
    }

    fn use_keys(&self, body: &[u8], now: u64) -> Result<(), KeyFailure> {
        let jwks = read_jwks(body).map_err(FetchError::from)?;
        let published = fetch::succeed(&mut *self.memory(), &self.source, HOLDER, body, now, chance());
        let second = Timestamp(now / 1_000);
        match published.map_err(KeyFailure::Memory)? {
            Published::Changed(status) => {
                for User { feed, owner, .. } in &self.users {
                    let mut policy = feed.policy_mut();
                    let Some(keyring) = policy.keyring_mut(*owner) else { continue };
                    let Ok(problems) = keyring.adopt(&jwks, status.generation, second) else { continue };
                    for (at, error) in problems.iter().filter(|(_, error)| !error.is_for_other_use()) {
                        tracing::warn!(url = %self.url, feed = feed.name, "keys[{at}] is not used: {error}");
                    }
                }
                tracing::info!(url = %self.url, generation = status.generation, "the keys of a transmitter have changed");
            }
            Published::Unchanged(_) => {
                for User { feed, owner, .. } in &self.users {
                    if let Some(keyring) = feed.policy_mut().keyring_mut(*owner) {
                        keyring.confirm(second);
                    }
                }
            }
            // Only this task holds the lease.
            Published::Late => {}
        }
        Ok(())
    }

    fn status(&self) -> Result<Status, StoreError> {
        fetch::status(&mut *self.memory(), self.source.id())
    }

    fn memory(&self) -> MutexGuard<'_, MemoryStore> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random number; the middle one where the system has none.
fn chance() -> Chance {
    let mut bytes = [0, 128];
    // Without it hubs that started together fetch together.
    let _ = getrandom::fill(&mut bytes);
    Chance(u16::from_le_bytes(bytes))
}
