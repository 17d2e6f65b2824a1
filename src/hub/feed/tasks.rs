//! What runs beside the requests: taking in commits, the heartbeat, the pace, and writing followers to the store.

use crate::feed::Feeds;
use crate::feed::feed::Feed;
use crate::feed::followers::Which;
use crate::feed::pace::Pace;
use crate::feed::turns::Turns;
use crate::store::writer::Committed;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// The head of each feed is read this often.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Followers are written this often.
const WRITE: Duration = Duration::from_secs(5);

/// So many followers are written in one transaction, so that signals need not wait for long.
const BATCH: usize = 500;

/// The pause after each of these transactions.
const WRITE_PAUSE: Duration = Duration::from_millis(100);

impl Feeds {
    /// Runs the feeds until `stop`. Then all who wait are answered, and the followers are written. `committed` must be
    /// subscribed before the feeds are opened, so that no commit is missed.
    pub async fn run(self: Arc<Self>, committed: Receiver<Arc<Committed>>, stop: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(take_in(self.clone(), committed));
        tasks.spawn(write_followers(self.clone()));
        let turns = Arc::<Turns>::default();
        for feed in self.iter() {
            tasks.spawn(heartbeat(feed.clone()));
            let pace = Pace::new(self.settings.cpus, self.settings.bandwidth, Instant::now());
            tasks.spawn(publish(feed.clone(), pace, turns.clone()));
        }
        stop.await;
        self.close();
        tasks.shutdown().await;
        for feed in self.iter() {
            self.write(feed, Which::All, Duration::ZERO).await;
        }
    }

    /// Stores the follower `id`, with all others that are new. It gets no page before that: after a crash of the hub it
    /// would be missing in receipts. Returns whether the store knows it.
    pub(crate) async fn store_new(&self, feed: &Arc<Feed>, id: &str) -> bool {
        if feed.followers.is_stored(id) {
            return true;
        }
        let _writing = feed.followers.writing.lock().await;
        // The one that held the lock before may have written it.
        while !feed.followers.is_stored(id) {
            if self.write_batch(feed, Which::New).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Removes the followers that are silent, and writes those that changed, with a pause after each batch: both share the
    /// CPU and the disk with signals.
    async fn write(&self, feed: &Arc<Feed>, which: Which, pause: Duration) {
        feed.full.expire();
        let gone = feed.followers.expire();
        if !gone.is_empty() {
            let (store, name) = (self.store.clone(), feed.name.clone());
            report(feed, spawn_blocking(move || store.remove_followers(&name, &gone)).await);
        }
        // Those that change meanwhile come next time.
        let batches = feed.followers.count().0.div_ceil(BATCH);
        for _ in 0..batches {
            let writing = feed.followers.writing.lock().await;
            if self.write_batch(feed, which).await.is_none() {
                return;
            }
            drop(writing);
            sleep(pause).await;
        }
    }

    /// Writes some followers. `None`: there are none, or they could not be written.
    async fn write_batch(&self, feed: &Arc<Feed>, which: Which) -> Option<()> {
        let batch = feed.followers.unwritten(which, BATCH);
        if batch.is_empty() {
            return None;
        }
        let (store, records) = (self.store.clone(), batch.clone());
        if report(feed, spawn_blocking(move || store.put_followers(&records)).await) {
            feed.followers.stored(&batch);
            Some(())
        } else {
            feed.followers.not_written(&batch);
            None
        }
    }
}

async fn take_in(feeds: Arc<Feeds>, mut committed: Receiver<Arc<Committed>>) {
    loop {
        match committed.recv().await {
            Ok(commit) => {
                if let Some(feed) = feeds.feed(&commit.feed) {
                    feed.announce(&commit.entries, commit.revision);
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "commits were missed: pages come from the store");
                for feed in feeds.iter() {
                    let resumed = feed.clone();
                    report(feed, spawn_blocking(move || resumed.resume()).await);
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn heartbeat(feed: Arc<Feed>) {
    let mut tick = interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // A failure is logged where the store is read. Then no heartbeat is signed, and requests end with 503.
        _ = feed.heads.read().await;
    }
}

async fn publish(feed: Arc<Feed>, mut pace: Pace, turns: Arc<Turns>) {
    loop {
        feed.news.notified().await;
        turns.round(&mut pace, &feed.meter, || feed.publish()).await;
    }
}

async fn write_followers(feeds: Arc<Feeds>) {
    let mut tick = interval(WRITE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for feed in feeds.iter() {
            feeds.write(feed, Which::Changed, WRITE_PAUSE).await;
        }
    }
}

/// Logs a failure. Returns whether there was none.
fn report<E: std::fmt::Display>(feed: &Feed, done: Result<Result<(), E>, tokio::task::JoinError>) -> bool {
    match done {
        Ok(done) => feed.writing.note(&feed.name, &done),
        Err(broke_off) => {
            feed.writing.failed(&feed.name, broke_off);
            false
        }
    }
}
