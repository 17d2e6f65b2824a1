//! What runs beside the requests: taking in commits, the heartbeat, the pace, and writing followers to the store.

use crate::feed::Feeds;
use crate::feed::feed::Feed;
use crate::feed::pace::Pace;
use crate::feed::turns::Turns;
use crate::store::writer::Committed;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

/// The head of each feed is read this often.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Followers are written this often.
const WRITE: Duration = Duration::from_secs(5);

/// So many followers are written in one transaction, so that signals need not wait for long.
const BATCH: usize = 500;

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
            let pace = Pace::new(self.settings.cpus, self.settings.bandwidth);
            tasks.spawn(publish(feed.clone(), pace, turns.clone()));
        }
        stop.await;
        self.close();
        tasks.shutdown().await;
        for feed in self.iter() {
            self.write(feed, true).await;
        }
    }

    /// Stores the follower `id`, with all others that are new. It gets no page before that: after a crash of the hub it
    /// would be missing in receipts. Returns whether the store knows it.
    pub(crate) async fn store_new(&self, feed: &Arc<Feed>, id: &str) -> bool {
        if feed.followers.is_stored(id) {
            return true;
        }
        let _writing = feed.followers.writing.lock().await;
        if !feed.followers.is_stored(id) {
            self.write(feed, false).await;
        }
        feed.followers.is_stored(id)
    }

    /// Removes the followers that are silent, and writes those that changed, or `all`.
    async fn write(&self, feed: &Arc<Feed>, all: bool) {
        feed.full.expire();
        let gone = feed.followers.expire();
        if !gone.is_empty() {
            let (store, name) = (self.store.clone(), feed.name.clone());
            report(feed, spawn_blocking(move || store.remove_followers(&name, &gone)).await);
        }
        let changed = feed.followers.changed(all);
        for batch in changed.chunks(BATCH) {
            let (store, records) = (self.store.clone(), batch.to_vec());
            match report(feed, spawn_blocking(move || store.put_followers(&records)).await) {
                true => feed.followers.stored(batch),
                false => feed.followers.not_written(batch),
            }
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
            let _writing = feed.followers.writing.lock().await;
            feeds.write(feed, false).await;
        }
    }
}

/// Logs a failure. Returns whether there was none.
fn report<E: std::fmt::Display>(feed: &Feed, done: Result<Result<(), E>, tokio::task::JoinError>) -> bool {
    match done {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(feed = feed.name, %error, "cannot use the store");
            false
        }
        Err(error) => {
            tracing::warn!(feed = feed.name, %error, "cannot use the store");
            false
        }
    }
}
