//! The feeds: what proxies follow, and what is known about the proxies that do.
//!
//! ```text
//! writer ─ committed ─► tail ─ pace ─► waiting followers ─► page
//!                         ▲                                  ▲
//! store ─ older entries ──┴── head (once a second) ──────────┘
//! ```

pub mod body;
pub mod coverage;
#[expect(clippy::module_inception, reason = "a feed among the feeds")]
pub mod feed;
pub mod follower;
pub mod followers;
pub mod full_state;
pub mod heads;
pub mod heartbeat;
pub mod keys;
pub mod known_keys;
pub mod long_poll;
pub mod pace;
pub mod pages;
pub mod receipts;
pub mod report;
pub mod request;
pub mod signer;
pub mod statements;
pub mod tail;
pub mod tasks;
pub mod turns;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "small numbers of a test")]
mod testing;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "small numbers of a test")]
mod tests;

use crate::feed::feed::{Feed, NoAnswer};
use crate::feed::keys::Keys;
use crate::feed::receipts::Receipt;
use crate::store::Store;
use crate::store::model::StoreError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use taskfence_core::feed::revision::Revision;
use taskfence_core::feed::statement::IssuerStatus;
use taskfence_core::time::Timestamp;

pub use long_poll::router;

/// The clock of the hub, in milliseconds since 1970.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a feed says about its issuers at a time. After an error nothing is signed. Blocks.
pub type Issuers = Arc<dyn Fn(&str, Timestamp) -> Result<Vec<IssuerStatus>, StoreError> + Send + Sync>;

/// How the feeds of a hub are served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the hub.
    pub hub: String,
    /// The name of this process among those over the same store.
    pub replica: String,
    /// Whether other processes may use the same store.
    pub shared: bool,
    /// How much memory the last commits of one feed use.
    pub tail_bytes: usize,
    /// So many followers of one feed load a full state at once.
    pub max_loaders: usize,
    /// One feed has so many followers.
    pub max_followers: usize,
    /// One principal has so many of them.
    pub max_of_principal: usize,
    /// What the pages of one feed use of the network, in bytes a second. `None`: not limited.
    pub bandwidth: Option<u64>,
    /// The CPUs of the machine.
    pub cpus: u64,
}

impl Settings {
    /// What suits most, for the hub `hub`.
    pub fn new(hub: &str) -> Settings {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| u64::try_from(cpus.get()).unwrap_or(1));
        Settings {
            hub: hub.to_owned(),
            replica: "alone".to_owned(),
            shared: false,
            tail_bytes: 64 * 1024 * 1024,
            max_loaders: 16,
            max_followers: 50_000,
            max_of_principal: 25_000,
            bandwidth: None,
            cpus,
        }
    }
}

/// All feeds of a hub.
pub struct Feeds {
    feeds: BTreeMap<String, Arc<Feed>>,
    keys: Arc<Keys>,
    store: Arc<dyn Store>,
    settings: Arc<Settings>,
    now: Now,
}

impl Feeds {
    /// Opens the feeds `names`, which the store has already. Blocks.
    pub fn open(
        settings: Settings,
        names: &[String],
        store: Arc<dyn Store>,
        keys: Arc<Keys>,
        (now, issuers): (Now, Issuers),
    ) -> Result<Arc<Feeds>, StoreError> {
        let settings = Arc::new(settings);
        let open = |name: &String| {
            let parts = (now.clone(), issuers.clone());
            let feed = Feed::new(name, settings.clone(), store.clone(), keys.clone(), parts)?;
            Ok((name.clone(), Arc::new(feed)))
        };
        let feeds = names.iter().map(open).collect::<Result<_, StoreError>>()?;
        Ok(Arc::new(Feeds { feeds, keys, store, settings, now }))
    }

    /// The feed `name`.
    pub fn feed(&self, name: &str) -> Option<Arc<Feed>> {
        self.feeds.get(name).cloned()
    }

    /// All feeds.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.feeds.values()
    }

    /// The keys for statements.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Answers all who wait: the hub stops.
    pub fn close(&self) {
        self.iter().for_each(|feed| feed.close());
    }
}

/// Receipts for changes.
#[derive(Clone)]
pub struct Receipts(Arc<Feeds>);

impl Receipts {
    /// The receipts of `feeds`.
    pub fn new(feeds: Arc<Feeds>) -> Receipts {
        Receipts(feeds)
    }

    /// Waits until all followers of `feed` have applied the entry `number`, at most for `timeout`. `Ok(None)`: there is
    /// no such feed, or no such entry.
    pub async fn wait(&self, feed: &str, number: u64, timeout: Duration) -> Result<Option<Receipt>, NoAnswer> {
        let Some(feed) = self.0.feed(feed) else { return Ok(None) };
        let Some(chain) = feed.chain(number).await? else { return Ok(None) };
        let revision = Revision { number, chain, ..feed.head() };
        let watch = feed.followers.watch(revision);
        // A proxy that another replica serves is in the store before it gets its first page.
        self.0.mirror(&feed).await?;
        let late = tokio::time::sleep(timeout);
        let mut late = std::pin::pin!(late);
        loop {
            // Acknowledgements and leaving followers wake it.
            let complete = tokio::select! {
                () = watch.complete() => true,
                () = &mut late => false,
            };
            let receipt = watch.receipt(feed.commit_time(number));
            if receipt.complete || !complete {
                return Ok(Some(receipt));
            }
        }
    }
}

/// Locks. A panic elsewhere while the lock was held leaves nothing half-done: each critical section here is one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
