//! How a relay follows one feed of its hub: it asks again and again, takes in what comes as a filter would, and keeps it.

use crate::relay::disk::Disk;
use crate::relay::feed::RelayFeed;
use crate::relay::kept::Kept;
use crate::relay::line::{Line, State};
use crate::relay::upstream::{NoPage, Upstream};
use crate::repeated::Repeated;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use taskfence_core::feed::entry::FORMAT;
use taskfence_core::feed::position::Refused;
use taskfence_core::feed::revision::Revision;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

/// The hub holds a request for so long, so a statement comes at least once a second.
const WAIT: Duration = Duration::from_secs(1);

/// The pauses after failures: the shortest and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// A newer full state is loaded this often at most.
const STATE_PAUSE: Duration = Duration::from_secs(60);

/// The pages of a newer state must lead to those that are held within so many requests.
const MEETINGS: usize = 20;

/// A full state has at most so many parts.
const MAX_PARTS: u32 = 65_536;

/// What follows one feed.
pub struct Following {
    feed: Arc<RelayFeed>,
    upstream: Arc<Upstream>,
    disk: Arc<Mutex<Disk>>,
    max_bytes: usize,
    asking: Repeated,
    keeping: Repeated,
    newer: Option<JoinHandle<Result<Arc<State>, NoFeed>>>,
    newer_at: Instant,
}

/// Why nothing was taken in.
#[derive(Debug, thiserror::Error)]
enum NoFeed {
    #[error(transparent)]
    Page(#[from] NoPage),
    #[error("the page does not fit: {0}")]
    Refused(#[from] Refused),
    #[error("the hub does not give a whole full state")]
    Parts,
    #[error("a task broke off")]
    BrokeOff,
}

impl Following {
    /// Follows `feed`, whose pages may use `max_bytes` of memory.
    pub fn new(feed: Arc<RelayFeed>, upstream: Arc<Upstream>, disk: Disk, max_bytes: usize) -> Following {
        Following {
            feed,
            upstream,
            disk: Arc::new(Mutex::new(disk)),
            max_bytes,
            asking: Repeated::new("the feed of the hub cannot be followed"),
            keeping: Repeated::new("what came from the hub cannot be kept on disk"),
            newer: None,
            newer_at: Instant::now(),
        }
    }

    /// Follows until it is dropped.
    pub async fn run(mut self) {
        let mut pause = BACK_OFF.0;
        loop {
            let followed = self.turn().await;
            if self.asking.note(&self.feed.name, &followed) {
                pause = BACK_OFF.0;
            } else {
                let jitter = getrandom::u32().unwrap_or_default() % 128;
                sleep(pause.saturating_add(Duration::from_millis(jitter.into()))).await;
                pause = pause.saturating_mul(2).min(BACK_OFF.1);
            }
        }
    }

    /// One request, and what comes of it.
    async fn turn(&mut self) -> Result<(), NoFeed> {
        let Some((head, at)) = self.feed.head() else {
            return self.begin(None, 0).await;
        };
        let page = self.ask(head, WAIT).await?;
        if page.statement.part.is_some() {
            tracing::warn!(feed = self.feed.name, %head, "the hub has another history: everything is loaded anew");
            return self.begin(Some(page), at).await;
        }
        self.take(page).await?;
        self.look_after_state().await
    }

    async fn ask(&self, after: Revision, wait: Duration) -> Result<Arc<Kept>, NoPage> {
        ask(&self.upstream, &self.feed, after, wait).await
    }

    /// Loads a full state, of which `first` is the first part, and goes on from there. Statements before `at` do not count.
    async fn begin(&mut self, first: Option<Arc<Kept>>, at: u64) -> Result<(), NoFeed> {
        let state = load(&self.upstream, &self.feed, first).await?;
        tracing::info!(feed = self.feed.name, revision = %state.revision, parts = state.parts.len(), "a full state was loaded");
        *self.feed.line() = Some(Line::new(state.clone(), self.max_bytes, at));
        self.feed.publish();
        self.keep(move |disk| {
            disk.rewrite(&[])?;
            disk.put_state(&state)
        })
        .await;
        Ok(())
    }

    /// Takes in a page that follows the head.
    async fn take(&self, page: Arc<Kept>) -> Result<(), NoFeed> {
        let now = self.feed.now();
        // Dropped before anything waits.
        let taken = self.feed.line().as_mut().map_or(Err(Refused::OtherHistory), |line| line.take(&page, now));
        taken?;
        self.feed.publish();
        if page.is_heartbeat() {
            self.keep(move |disk| disk.put_heartbeat(&page)).await;
        } else {
            self.keep_page(page).await;
        }
        Ok(())
    }

    async fn keep_page(&self, page: Arc<Kept>) {
        let feed = self.feed.clone();
        self.keep(move |disk| {
            if disk.add(&page)? {
                let held = feed.line().as_ref().map(|line| line.kept().1.cloned().collect::<Vec<_>>());
                disk.rewrite(&held.unwrap_or_default())?;
            }
            Ok(())
        })
        .await;
    }

    /// Loads a newer full state beside, where that helps those that start.
    async fn look_after_state(&mut self) -> Result<(), NoFeed> {
        if let Some(loading) = self.newer.take_if(|loading| loading.is_finished()) {
            let state = loading.await.map_err(|_| NoFeed::BrokeOff)??;
            self.newer_at = Instant::now();
            return self.join(state).await;
        }
        let is_asked_for = self.feed.wants_state.load(Ordering::Relaxed);
        let is_due = self.newer.is_none() && self.newer_at.elapsed() >= STATE_PAUSE;
        if is_due && self.feed.line().as_ref().is_some_and(|line| line.needs_state(is_asked_for)) {
            self.feed.wants_state.store(false, Ordering::Relaxed);
            let (upstream, feed) = (self.upstream.clone(), self.feed.clone());
            self.newer_at = Instant::now();
            self.newer = Some(tokio::spawn(async move { load(&upstream, &feed, None).await }));
        }
        Ok(())
    }

    /// Asks from `state` on, and from the head on, until both are at the same revision.
    async fn join(&mut self, state: Arc<State>) -> Result<(), NoFeed> {
        let (mut at, mut pages) = (state.revision, Vec::new());
        for _ in 0..MEETINGS {
            let Some((head, _)) = self.feed.head() else { return Ok(()) };
            if head.epoch != at.epoch {
                return Ok(());
            }
            let joined = self.feed.line().as_mut().is_some_and(|line| line.take_state(&state, &pages));
            if joined {
                tracing::info!(feed = self.feed.name, revision = %state.revision, "a newer full state was loaded");
                for page in pages {
                    self.keep_page(page).await;
                }
                self.keep(move |disk| disk.put_state(&state)).await;
                return Ok(());
            }
            let page = self.ask(if at.number < head.number { at } else { head }, Duration::ZERO).await?;
            if page.statement.part.is_some() {
                return Ok(());
            }
            match at.number < head.number {
                true if page.is_heartbeat() => sleep(BACK_OFF.0).await,
                true => {
                    at = page.statement.upto;
                    pages.push(page);
                }
                false => self.take(page).await?,
            }
        }
        tracing::info!(feed = self.feed.name, "a newer full state was given up: too much came meanwhile");
        Ok(())
    }

    /// Does something with the disk. A failure is logged: what is not on disk is loaded again after a start.
    async fn keep(&self, work: impl FnOnce(&mut Disk) -> io::Result<()> + Send + 'static) {
        let disk = self.disk.clone();
        let done = spawn_blocking(move || work(&mut disk.lock().unwrap_or_else(PoisonError::into_inner))).await;
        self.keeping.note(&self.feed.name, &done.map_err(io::Error::other).and_then(|done| done));
    }
}

async fn ask(upstream: &Upstream, feed: &RelayFeed, after: Revision, wait: Duration) -> Result<Arc<Kept>, NoPage> {
    let query = format!("after={after}&applied={after}&wait={}&format={FORMAT}", wait.as_secs());
    let page = upstream.page(&feed.name, &query, wait).await?;
    feed.note_answer();
    Ok(page)
}

/// Loads all parts of a full state; `first` is part 0, if it is there already.
async fn load(upstream: &Upstream, feed: &RelayFeed, first: Option<Arc<Kept>>) -> Result<Arc<State>, NoFeed> {
    let first = match first {
        Some(first) => first,
        None => ask(upstream, feed, Revision::START, Duration::ZERO).await?,
    };
    let (revision, count) = (first.statement.upto, first.statement.part.map_or(0, |part| part.parts));
    if count > MAX_PARTS {
        return Err(NoFeed::Parts);
    }
    let mut parts = vec![first];
    for part in 1..count {
        let start = Revision::START;
        let query = format!("after={start}&applied={start}&wait=0&format={FORMAT}&state={revision}&part={part}");
        parts.push(upstream.page(&feed.name, &query, Duration::ZERO).await?);
        feed.note_answer();
    }
    State::of(parts).map(Arc::new).ok_or(NoFeed::Parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Settings;
    use crate::feed::followers::Followers;
    use crate::relay::line::Look;
    use crate::relay::passed::Passed;
    use crate::relay::tests::load::{Root, milliseconds};

    async fn following(root: &Root) -> Following {
        let upstream = Arc::new(Upstream::new(root.follow(), "taskfence-hub", "relay-one".to_owned()).unwrap());
        let folder = root.folder.path().join("kept");
        let (disk, _) = Disk::open(&folder, 1_000_000, |bytes| upstream.verify("main", bytes)).unwrap();
        let now: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(milliseconds);
        let followers = Followers::new("main", Vec::new(), &Settings::new("taskfence-hub"), now.clone());
        let feed = RelayFeed::new("main", None, Passed::new(upstream.clone()), (followers, 1), now);
        Following::new(Arc::new(feed), upstream, disk, 1_000_000)
    }

    /// From `state` on pages lead to the head.
    fn leads_to_head(following: &Following, state: Revision) -> bool {
        let line = following.feed.line();
        let (line, mut at) = (line.as_ref().unwrap(), state);
        loop {
            match line.look(at) {
                Look::Page(page) => at = page.statement.upto,
                look => return look == Look::Head,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_newer_state_joins_the_pages_that_are_held() {
        let root = Root::start().await;
        let mut following = following(&root).await;
        following.turn().await.unwrap();
        let first = following.feed.line().as_ref().and_then(Line::state).unwrap();
        for round in 0..3 {
            root.end_tasks(3).await;
            following.turn().await.unwrap();
            // The hub cuts a state once a minute: this one is at or behind the head.
            let state = load(&following.upstream, &following.feed, None).await.unwrap();
            root.end_tasks(if round == 2 { 0 } else { 2 }).await;
            let revision = state.revision;
            following.join(state).await.unwrap();
            let kept = following.feed.line().as_ref().and_then(|line| line.state_of(revision));
            assert!(kept.is_some() && leads_to_head(&following, revision), "round {round}");
        }
        let head = following.feed.head().unwrap().0;
        assert!(head.number > first.revision.number && leads_to_head(&following, first.revision));
        root.end_tasks(2).await;
        following.turn().await.unwrap();
        assert!(leads_to_head(&following, head));
        root.stop().await;
    }
}
