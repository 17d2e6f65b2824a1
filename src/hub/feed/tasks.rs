//! What runs beside the requests: taking in commits, the heartbeat, the pace, and writing followers to the store.

use crate::feed::Feeds;
use crate::feed::feed::{Feed, NoAnswer};
use crate::feed::followers::written::Which;
use crate::feed::pace::Pace;
use crate::feed::relays;
use crate::feed::turns::Turns;
use crate::store::model::StoreError;
use crate::store::writer::Committed;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// The head of each feed is read this often.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Followers are written this often.
const WRITE: Duration = Duration::from_secs(5);

/// Where other replicas may count them, followers are written after this, if one has applied something or is new.
const WRITE_QUICKLY: Duration = Duration::from_millis(100);

/// While somebody waits for a receipt, the followers of other replicas are read this often, otherwise each second.
const MIRROR: Duration = Duration::from_millis(75);

/// Writing and reading followers takes at most one part in so many of the time.
const SHARE: u32 = 4;

/// All followers of the store are read this often, so that it is noticed which have left it.
const MIRROR_ALL: Duration = Duration::from_secs(5);

/// What a replica has written counts as read after so long, in milliseconds: it writes later than it sees.
const OVERLAP: u64 = 3_000;

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
            if self.settings.shared {
                tasks.spawn(mirror_others(self.clone(), feed.clone()));
            }
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

    /// Takes in the followers that came to other replicas lately. What they had written before this call is known when it
    /// returns.
    pub(crate) async fn mirror(&self, feed: &Arc<Feed>) -> Result<(), NoAnswer> {
        if !self.settings.shared {
            return Ok(());
        }
        let mut since = feed.followers.reading.lock().await;
        let (store, name, own) = (self.store.clone(), feed.name.clone(), self.settings.replica.clone());
        let (begin, from) = ((self.now)(), since.saturating_sub(OVERLAP));
        let read = move || {
            let prefix = relays_of(&name);
            let mut relays = store.values(&prefix)?;
            relays.retain(|(name, _)| name.strip_prefix(&*prefix) != Some(&*own));
            Ok::<_, StoreError>((relays, store.followers_seen(&name, &own, from)?))
        };
        match spawn_blocking(read).await {
            Ok(Ok((relays, records))) => {
                feed.followers.mirror(records, None);
                feed.followers.mirror_relays(relays.iter().map(|(_, text)| &**text));
                *since = begin;
                Ok(())
            }
            other => {
                report(feed, other.map(|read| read.map(drop)));
                Err(NoAnswer::Store)
            }
        }
    }

    /// Tells other replicas what relays have said and asked here, if that is due, or `now`. Returns whether they are told. A
    /// relay gets no page before that: what is behind it would be missing in their receipts.
    pub(crate) async fn write_relays(&self, feed: &Arc<Feed>, now: bool) -> bool {
        if !self.settings.shared {
            return true;
        }
        let Some(text) = feed.followers.unwritten_relays(now) else { return true };
        let (store, name) = (self.store.clone(), format!("{}{}", relays_of(&feed.name), self.settings.replica));
        let written = text.clone();
        let done = report(feed, spawn_blocking(move || store.set_for_signals(&name, &written)).await);
        feed.followers.relays_written(&text, done);
        done
    }

    /// Forgets what replicas have written of relays long ago.
    async fn forget_relays(&self, feed: &Arc<Feed>) {
        let (store, prefix, now) = (self.store.clone(), relays_of(&feed.name), (self.now)());
        let forget = move || {
            let values = store.values(&prefix)?;
            for (name, text) in values.iter().filter(|(_, text)| relays::is_old(text, now)) {
                store.swap(name, Some(text), None)?;
            }
            Ok::<_, StoreError>(())
        };
        _ = report(feed, spawn_blocking(forget).await);
    }

    /// Takes in all followers of the store.
    async fn mirror_all(&self, feed: &Arc<Feed>) {
        let _turn = feed.followers.reading.lock().await;
        let (store, name, begin) = (self.store.clone(), feed.name.clone(), (self.now)());
        match spawn_blocking(move || store.followers(&name)).await {
            Ok(Ok(records)) => feed.followers.mirror(records, Some(begin)),
            other => _ = report(feed, other.map(|read| read.map(drop))),
        }
    }

    /// Removes the followers that are silent, and writes those that changed, with a pause after each batch: both share the
    /// CPU and the disk with signals.
    pub(crate) async fn write(&self, feed: &Arc<Feed>, which: Which, pause: Duration) {
        feed.full.expire();
        let gone = feed.followers.expire();
        if !gone.is_empty() {
            let (store, name, ids) = (self.store.clone(), feed.name.clone(), gone.clone());
            if !report(feed, spawn_blocking(move || store.remove_followers(&name, &ids)).await) {
                feed.followers.not_removed(gone);
            }
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
    pub(crate) async fn write_batch(&self, feed: &Arc<Feed>, which: Which) -> Option<()> {
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
                    report(feed, spawn_blocking(move || resumed.catch_up()).await);
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
        let Ok(head) = feed.heads.read().await else { continue };
        let known = feed.head();
        if head.revision.epoch != known.epoch || head.revision.number > known.number {
            let late = feed.clone();
            report(&feed, spawn_blocking(move || late.catch_up()).await);
        }
    }
}

async fn publish(feed: Arc<Feed>, mut pace: Pace, turns: Arc<Turns>) {
    loop {
        feed.news.notified().await;
        turns.round(&mut pace, &feed.meter, || feed.publish()).await;
    }
}

async fn write_followers(feeds: Arc<Feeds>) {
    let (mut written, mut pause) = (Instant::now(), Duration::ZERO);
    loop {
        sleep(pause).await;
        let begin = Instant::now();
        let is_due = begin.duration_since(written) >= WRITE;
        if is_due {
            written = begin;
        }
        for feed in feeds.iter() {
            feeds.write_relays(feed, false).await;
        }
        for feed in feeds.iter().filter(|feed| is_due || feed.followers.has_changed()) {
            if is_due {
                feeds.write(feed, Which::Changed, WRITE_PAUSE).await;
            } else {
                let _writing = feed.followers.writing.lock().await;
                while feeds.write_batch(feed, Which::Changed).await.is_some() {}
            }
        }
        pause = match feeds.settings.shared {
            true => WRITE_QUICKLY.max(begin.elapsed().saturating_mul(SHARE)),
            false => WRITE,
        };
    }
}

/// Keeps up with the followers of other replicas.
async fn mirror_others(feeds: Arc<Feeds>, feed: Arc<Feed>) {
    let mut all = Instant::now();
    loop {
        let begin = Instant::now();
        // A failure is logged. Who waits for a receipt is told when the store answers again.
        _ = feeds.mirror(&feed).await;
        if all.elapsed() >= MIRROR_ALL {
            feeds.mirror_all(&feed).await;
            feeds.forget_relays(&feed).await;
            all = Instant::now();
        }
        let pause = MIRROR.max(begin.elapsed().saturating_mul(SHARE));
        sleep(pause).await;
        if !feed.followers.is_watched() {
            // A receipt that begins meanwhile reads them itself.
            _ = timeout(HEARTBEAT.saturating_sub(pause), feed.followers.watched.notified()).await;
        }
    }
}

/// The names of the values of replicas about the relays of `feed` begin with it.
fn relays_of(feed: &str) -> String {
    format!("relays/{feed}/")
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
