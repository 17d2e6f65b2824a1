//! What the head of a feed is, and since when that is known.
//!
//! `at` of a statement is the time before the read of the store that returned `head`. So every statement is made from a
//! [`Head`], and only a read that succeeded makes one: a hub that has lost its store signs no old head as a new one.
//! At most one read of a feed runs at a time. Whoever needs a newer one waits for it, and all who wait share it.

use crate::feed::{Issuers, Now, locked};
use crate::repeated::Repeated;
use crate::store::Store;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use taskfence_core::feed::revision::Revision;
use taskfence_core::feed::statement::IssuerStatus;
use taskfence_core::time::Timestamp;

/// A read that failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(20);

/// What one read of the store returned.
#[derive(Debug)]
pub struct Head {
    /// The time before the read, in milliseconds since 1970.
    pub at: u64,
    /// The last revision of the feed.
    pub revision: Revision,
    /// What was known about the issuers before the read.
    pub issuers: Vec<IssuerStatus>,
    /// The page for followers that have everything; see [`crate::feed::heartbeat`].
    pub heartbeat: OnceLock<Bytes>,
    /// The number of the read.
    read: u64,
}

/// The reads of one feed.
pub struct Heads {
    feed: String,
    store: Arc<dyn Store>,
    now: Now,
    issuers: Issuers,
    latest: Mutex<Option<Arc<Head>>>,
    reading: Arc<tokio::sync::Mutex<()>>,
    reads: AtomicU64,
    reading_store: Repeated,
}

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store did not answer")]
pub struct NoHead;

impl Heads {
    /// Reads `feed` in `store`. `issuers` says what is known about the issuers.
    pub fn new(feed: &str, store: Arc<dyn Store>, now: Now, issuers: Issuers) -> Arc<Heads> {
        let (latest, reading, reads) = (Mutex::default(), Arc::default(), AtomicU64::new(0));
        let reading_store = Repeated::new("cannot read the head of the feed");
        Arc::new(Heads { feed: feed.to_owned(), store, now, issuers, latest, reading, reads, reading_store })
    }

    /// The result of the last read that succeeded.
    pub fn latest(&self) -> Option<Arc<Head>> {
        locked(&self.latest).clone()
    }

    /// Forgets it: the feed has begun a new epoch.
    pub fn forget(&self) {
        *locked(&self.latest) = None;
    }

    /// The head by a read that begins after this call.
    pub async fn read(self: &Arc<Self>) -> Result<Arc<Head>, NoHead> {
        let begun = self.reads.load(Ordering::SeqCst);
        self.newer(|head| head.read > begun).await
    }

    /// A head that is at or after `number` and no older than `age` milliseconds.
    pub async fn covering(self: &Arc<Self>, number: u64, age: u64) -> Result<Arc<Head>, NoHead> {
        let oldest = (self.now)().saturating_sub(age);
        self.newer(|head| head.revision.number >= number && head.at >= oldest).await
    }

    /// A read that fails is tried again once: a 503 costs a follower seconds.
    async fn newer(self: &Arc<Self>, fits: impl Fn(&Head) -> bool) -> Result<Arc<Head>, NoHead> {
        if let Ok(head) = self.newer_by_one_read(&fits).await {
            return Ok(head);
        }
        tokio::time::sleep(RETRY).await;
        self.newer_by_one_read(&fits).await
    }

    async fn newer_by_one_read(self: &Arc<Self>, fits: &impl Fn(&Head) -> bool) -> Result<Arc<Head>, NoHead> {
        let known = || self.latest().filter(|head| fits(head)).ok_or(NoHead);
        if let Ok(head) = known() {
            return Ok(head);
        }
        let turn = self.reading.clone().lock_owned().await;
        if let Ok(head) = known() {
            return Ok(head);
        }
        let heads = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            // The turn ends with the read, also when nobody waits for it any more.
            let _turn = turn;
            heads.read_store();
        });
        read.await.map_err(|_| NoHead)?;
        known()
    }

    fn read_store(&self) {
        let read = self.reads.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let at = (self.now)();
        // Before the read: what an issuer was heard of until then is stored by then.
        let issuers = (self.issuers)(&self.feed, Timestamp(at / 1000));
        let head = issuers.and_then(|issuers| Ok((self.store.head(&self.feed)?, issuers)));
        self.reading_store.note(&self.feed, &head);
        if let Ok((revision, issuers)) = head {
            let head = Head { at, revision, issuers, heartbeat: OnceLock::new(), read };
            *locked(&self.latest) = Some(Arc::new(head));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing::{MemoryStore, ticking};

    #[tokio::test]
    async fn at_is_before_the_read_and_reads_are_shared() {
        let store = Arc::new(MemoryStore::new("main", 7));
        let heads = Heads::new("main", store.clone(), ticking(1_000), Arc::new(|_, _| Ok(Vec::new())));
        let all = futures_util::future::join_all((0..100).map(|_| heads.read())).await;
        assert!(all.iter().all(Result::is_ok));
        assert!(store.head_reads() <= 2, "{} reads", store.head_reads());
        let first = heads.latest().unwrap();
        assert_eq!(heads.covering(0, 60_000).await.unwrap().at, first.at, "a recent one is used again");
        assert!(heads.covering(1, 60_000).await.is_err(), "the store has no entry 1");
        store.add(&[(3, 10)]);
        assert_eq!(heads.covering(1, 60_000).await.unwrap().revision.number, 1);
    }

    #[tokio::test]
    async fn a_read_that_fails_once_is_tried_again() {
        let store = Arc::new(MemoryStore::new("main", 7));
        let heads = Heads::new("main", store.clone(), ticking(1_000), Arc::new(|_, _| Ok(Vec::new())));
        store.fail(true);
        let read = tokio::spawn({
            let heads = heads.clone();
            async move { heads.read().await.is_ok() }
        });
        while store.head_reads() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        store.fail(false);
        assert!(read.await.unwrap());
    }

    #[tokio::test]
    #[expect(clippy::await_holding_lock, reason = "the lock is what stalls the store")]
    async fn a_store_that_fails_or_stalls_makes_no_head() {
        let store = Arc::new(MemoryStore::new("main", 7));
        let heads = Heads::new("main", store.clone(), ticking(1_000), Arc::new(|_, _| Ok(Vec::new())));
        let before = heads.read().await.unwrap();
        store.fail(true);
        assert_eq!(heads.read().await.unwrap_err(), NoHead);
        assert_eq!(heads.latest().unwrap().at, before.at, "the old head keeps its old time");
        store.fail(false);
        let stalled = store.stall();
        assert!(tokio::time::timeout(Duration::from_millis(50), heads.read()).await.is_err());
        assert!(tokio::time::timeout(Duration::from_millis(50), heads.read()).await.is_err());
        assert_eq!(store.waiting(), 1, "one thread waits for the store, not one for each request");
        drop(stalled);
        assert!(heads.read().await.unwrap().at > before.at);
    }
}
