//! The one writer of a process: it commits what many submit in groups, in the order in which it came.
//!
//! ```text
//! submit ─► queue ─► group ─► room ─► commit (one fsync) ─► commits, heads ─► answers
//!                                        others' commits ─► room, commits, heads
//! ```
//!
//! Other replicas may write the same store. What they have committed between two commits of this one is read from the
//! store, so that those who listen hear every commit of a feed in order, whoever made it.

use crate::histogram::{Histogram, Snapshot};
use crate::repeated::Repeated;
use crate::store::clock::Clock;
use crate::store::model::{Change, NewSignal, Outcome, SignalQuery, StoreError, StoredEntry};
use crate::store::room::{NoRoom, Room, Taken};
use crate::store::{BACKUP, RESTORED, RESTORED_AT, Store};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use taskfence_core::feed::revision::Revision;
use taskfence_core::state::room::Class;
use taskfence_core::time::Timestamp;
use tokio::sync::{broadcast, oneshot, watch};

/// A group has at most so many changes.
const GROUP: usize = 1_024;

/// The longest wait for a group to fill.
const WAIT: Duration = Duration::from_millis(3);

/// A group is not waited for any longer when nothing more has come for so long.
const QUIET: Duration = Duration::from_micros(300);

/// So many changes may wait for the writer. Beyond that callers are told to come back.
const QUEUE: usize = 8_192;

/// So many groups may wait for those who listen to commits. Whoever is further behind reads the store.
const COMMITS: usize = 1_024;

/// Others' commits are looked for this often, whether the store tells of them or not.
const LOOK: Duration = Duration::from_secs(1);

/// So many bytes of others' entries are read at once.
const READ: usize = 4 * 1024 * 1024;

/// Why a replica stores nothing that may not.
const NOT_PERMITTED: &str = "this replica of the hub may not store anything now: its /readyz says why";

/// The exit code of a process that does not know any more what it stored (`EX_IOERR` of sysexits.h).
pub const EXIT_UNCERTAIN: i32 = 74;

/// A handle to the writer. Clones are the same writer; it ends when the last one is gone.
#[derive(Clone)]
pub struct Writer {
    queue: Arc<SyncSender<Asked>>,
    shared: Arc<Shared>,
}

/// What commits added to one feed, of this replica or of others. They come in order: each begins where the one before it
/// ended, and none is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The feed.
    pub feed: String,
    /// The new entries, in order. Of other replicas' commits those are missing that were replaced meanwhile: what took their
    /// place comes later. Empty where the feed has begun a new epoch.
    pub entries: Vec<StoredEntry>,
    /// The head after them.
    pub revision: Revision,
}

/// Why a change was not stored. In each case the caller may come back later: HTTP 503.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many changes wait already.
    #[error("too many signals wait to be stored")]
    Overloaded,
    /// The proxies would have no room for an entry.
    #[error("the feed `{feed}` has no room for more entries of the class {class:?}")]
    NoRoom {
        /// The feed.
        feed: String,
        /// The class of the entry.
        class: Class,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the writer has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups that were committed.
    pub groups: u64,
    /// Signals and lifts that were stored, and signals whose entries were derived again.
    pub stored: u64,
    /// Signals that were there already.
    pub repeated: u64,
    /// Changes that were refused because too many waited.
    pub overloaded: u64,
    /// Signals that were refused for lack of room in the proxies.
    pub no_room: u64,
    /// Entries that were stored while their class was used above 70% in their bucket.
    pub nearly_full: u64,
    /// Changes that the store failed to keep.
    pub failed: u64,
}

struct Submitted {
    change: Change,
    answer: Answer,
}

/// What the thread is asked to do.
#[expect(clippy::large_enum_variant, reason = "almost all are of the large variant")]
enum Asked {
    Store(Submitted),
    /// Others may have committed something.
    Look,
}

type Answer = oneshot::Sender<Result<Outcome, SubmitError>>;

struct Shared {
    heads: HashMap<String, watch::Sender<Revision>>,
    commits: broadcast::Sender<Arc<Committed>>,
    counters: Counters,
    commit_times: Histogram,
    /// A look at others' commits waits in the queue.
    looks: AtomicBool,
    /// Until when this replica may store changes; see [`Writer::permit`].
    permitted: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Counters {
    groups: AtomicU64,
    stored: AtomicU64,
    repeated: AtomicU64,
    overloaded: AtomicU64,
    no_room: AtomicU64,
    nearly_full: AtomicU64,
    failed: AtomicU64,
}

impl Writer {
    /// Opens `feeds`, created where they do not exist, and starts the writer. After a commit whose outcome is not known
    /// it ends the process with [`EXIT_UNCERTAIN`].
    pub fn start(store: Arc<dyn Store>, clock: Clock, feeds: &[String]) -> Result<Writer, StoreError> {
        Writer::start_with(store, clock, feeds, QUEUE, |why| {
            tracing::error!("the hub ends: whether its last changes are stored is not known: {why}");
            std::process::exit(EXIT_UNCERTAIN)
        })
    }

    fn start_with(
        store: Arc<dyn Store>,
        clock: Clock,
        feeds: &[String],
        queue: usize,
        end: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Writer, StoreError> {
        let mut heads = HashMap::new();
        let backup = store.get(BACKUP)?.filter(|made| !made.is_empty());
        if let Some(made) = &backup {
            // Before the value that makes it start anew is gone, so that neither is ever missing.
            store.set_for_signals(RESTORED, made)?;
            store.set_for_signals(RESTORED_AT, &clock.now_ms().to_string())?;
        }
        for feed in feeds {
            let mut head = store.open_feed(feed, epoch()?)?;
            if backup.is_some() {
                head = store.renew_feed(feed, epoch()?)?;
            }
            heads.insert(feed.clone(), watch::channel(head).0);
        }
        if backup.is_some() {
            store.set_for_signals(BACKUP, "")?;
        }
        // After the heads were read: what others commit meanwhile is counted again, which changes nothing.
        let room = Room::load(store.as_ref(), feeds, clock.now())?;
        let (commits, _) = broadcast::channel(COMMITS);
        let shared = Arc::new(Shared {
            heads,
            commits,
            counters: Counters::default(),
            commit_times: Histogram::default(),
            looks: AtomicBool::new(false),
            permitted: Mutex::new(None),
        });
        let (queue, asked) = sync_channel(queue);
        let reading = Repeated::new("what other replicas have committed cannot be read");
        let worker = Worker { store, clock, room, shared: Arc::clone(&shared), asked, last: 1, reading };
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                if let Err(Uncertain(why)) = worker.run() {
                    end(&why);
                }
            })
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Writer { queue: Arc::new(queue), shared })
    }

    /// Stores `change`. It is durable when this returns `Ok`. It may be stored too if the caller stops waiting.
    pub async fn submit(&self, change: Change) -> Result<Outcome, SubmitError> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Asked::Store(Submitted { change, answer })).map_err(|error| match error {
            TrySendError::Full(_) => {
                count(&self.shared.counters.overloaded, 1);
                SubmitError::Overloaded
            }
            TrySendError::Disconnected(_) => ended(),
        })?;
        outcome.await.map_err(|_| ended())?
    }

    /// Looks for what other replicas have committed, until the last handle is gone: when `changes` of the store tell of
    /// something, and each second.
    pub fn follow_others(&self, mut changes: Option<watch::Receiver<u64>>) -> impl Future<Output = ()> + Send + use<> {
        let (queue, shared) = (Arc::downgrade(&self.queue), Arc::downgrade(&self.shared));
        async move {
            while let (Some(queue), Some(shared)) = (queue.upgrade(), shared.upgrade()) {
                if !shared.looks.swap(true, Ordering::AcqRel) && queue.try_send(Asked::Look).is_err() {
                    // Too many changes wait. Their commits show what others have committed.
                    shared.looks.store(false, Ordering::Release);
                }
                drop((queue, shared));
                let told = async {
                    let told = match &mut changes {
                        Some(changes) => changes.changed().await.is_ok(),
                        None => false,
                    };
                    if !told {
                        std::future::pending::<()>().await;
                    }
                };
                _ = tokio::time::timeout(LOOK, told).await;
            }
        }
    }

    /// This replica may store changes until `until`. `None`: always, which is so from the start. Beyond that changes are
    /// refused: others may count on it.
    pub fn permit(&self, until: Option<Instant>) {
        *self.shared.permitted.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// The head of the feed, and each later one. A feed that was not given to [`Writer::start`] stands at
    /// [`Revision::START`], and its channel is closed.
    pub fn head(&self, feed: &str) -> watch::Receiver<Revision> {
        let head = self.shared.heads.get(feed).map(watch::Sender::subscribe);
        head.unwrap_or_else(|| watch::channel(Revision::START).1)
    }

    /// Every commit from now on. A receiver gets a commit before the head moves, and before its submitters are answered.
    pub fn committed(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.shared.commits.subscribe()
    }

    /// How long commits took, with their fsync; also those that failed.
    pub fn commit_times(&self) -> Snapshot {
        self.shared.commit_times.snapshot()
    }

    /// What the writer has done since it started.
    pub fn counts(&self) -> Counts {
        let Counters { groups, stored, repeated, overloaded, no_room, nearly_full, failed } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            groups: read(groups),
            stored: read(stored),
            repeated: read(repeated),
            overloaded: read(overloaded),
            no_room: read(no_room),
            nearly_full: read(nearly_full),
            failed: read(failed),
        }
    }
}

fn epoch() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))
}

fn ended() -> SubmitError {
    SubmitError::Store(StoreError::Failed("the writer has ended".to_owned()))
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The thread that commits.
struct Worker {
    store: Arc<dyn Store>,
    clock: Clock,
    room: Room,
    shared: Arc<Shared>,
    asked: Receiver<Asked>,
    /// How many changes the last group had.
    last: usize,
    reading: Repeated,
}

/// Whether the last changes are stored is not known, for this reason.
struct Uncertain(String);

/// The changes that have room, each with what it took and who waits for it.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    waiting: Vec<(Taken, Answer)>,
}

impl Worker {
    /// Commits group after group until all handles are gone. Nobody is answered whose change may be lost.
    fn run(mut self) -> Result<(), Uncertain> {
        while let Some(submitted) = self.next_group() {
            if self.shared.looks.swap(false, Ordering::AcqRel) {
                // Before room is taken: others may have used it.
                self.look();
            }
            if submitted.is_empty() {
                continue;
            }
            self.last = submitted.len();
            let Group { changes, waiting } = self.admit(submitted);
            let mut outcomes = Vec::with_capacity(changes.len());
            self.commit(&changes, &mut outcomes)?;
            // Before others' commits are read: they may have used the room of one that gives it back.
            for ((change, (taken, _)), outcome) in changes.iter().zip(&waiting).zip(&outcomes) {
                self.settle(change, taken, outcome);
            }
            self.publish(&changes, &outcomes);
            for ((_, answer), outcome) in waiting.into_iter().zip(outcomes) {
                // A caller that is gone needs no answer.
                drop(answer.send(outcome.map_err(SubmitError::Store)));
            }
        }
        Ok(())
    }

    /// The next group: what waits, and what comes while fewer are there than the last group had. So a lone caller never
    /// waits for others, and many callers at once share one commit. Empty: somebody asks for a look. `None`: all handles are
    /// gone.
    fn next_group(&self) -> Option<Vec<Submitted>> {
        let mut group = Vec::new();
        match self.asked.recv().ok()? {
            Asked::Store(submitted) => group.push(submitted),
            Asked::Look => return Some(group),
        }
        let begin = Instant::now();
        while group.len() < GROUP {
            let is_waiting = group.len() < self.last;
            let wait = if is_waiting { WAIT.saturating_sub(begin.elapsed()).min(QUIET) } else { Duration::ZERO };
            match self.asked.recv_timeout(wait) {
                Ok(Asked::Store(submitted)) => group.push(submitted),
                Ok(Asked::Look) => {}
                // No more in time, or all handles are gone.
                Err(_) => break,
            }
        }
        Some(group)
    }

    fn is_permitted(&self) -> bool {
        let permitted = *self.shared.permitted.lock().unwrap_or_else(PoisonError::into_inner);
        permitted.is_none_or(|until| Instant::now() < until)
    }

    /// Takes room for each change, in order. Those without room are answered.
    fn admit(&mut self, submitted: Vec<Submitted>) -> Group {
        let (now, permitted) = (self.clock.now(), self.is_permitted());
        let mut group = Group::default();
        for Submitted { change, answer } in submitted {
            let taken = match &change {
                _ if !permitted => Err(StoreError::Failed(NOT_PERMITTED.to_owned()).into()),
                _ if !self.shared.heads.contains_key(change.feed()) => {
                    Err(StoreError::NoFeed(change.feed().to_owned()).into())
                }
                Change::Signal(new) => match self.room.take(new, now) {
                    Ok(Ok(taken)) => Ok(taken),
                    Ok(Err(no_room)) => self.unless_known(new, no_room),
                    Err(error) => Err(error.into()),
                },
                // Its entries have room already.
                Change::Lift { .. } => Ok(Taken::default()),
                // The signal was taken in long ago: a proxy without room for it must learn that, and counts the class as
                // uncertain.
                Change::Derive { .. } => Ok(Taken::default()),
            };
            match taken {
                Ok(taken) => {
                    group.changes.push(change);
                    group.waiting.push((taken, answer));
                }
                Err(error) => {
                    if matches!(error, SubmitError::NoRoom { .. }) {
                        count(&self.shared.counters.no_room, 1);
                    }
                    drop(answer.send(Err(error)));
                }
            }
        }
        group
    }

    /// A signal that is there already needs no room: it is answered as repeated.
    fn unless_known(&self, new: &NewSignal, NoRoom(class): NoRoom) -> Result<Taken, SubmitError> {
        let (transmitter, jti) = (Some(new.transmitter.clone()), Some(new.jti.clone()));
        let query = SignalQuery { transmitter, jti, ..SignalQuery::default() };
        match self.store.signals(&new.feed, &query)?.is_empty() {
            true => Err(SubmitError::NoRoom { feed: new.feed.clone(), class }),
            false => Ok(Taken::default()),
        }
    }

    /// Commits `changes`, in halves where they cannot be committed together, down to one by one.
    fn commit(&self, changes: &[Change], outcomes: &mut Vec<Result<Outcome, StoreError>>) -> Result<(), Uncertain> {
        if changes.is_empty() {
            return Ok(());
        }
        let begin = Instant::now();
        let committed = self.store.commit(changes);
        self.shared.commit_times.observe(begin.elapsed());
        match committed {
            Ok(done) => outcomes.extend(done.into_iter().map(Ok)),
            Err(StoreError::Uncertain(why)) => return Err(Uncertain(why)),
            // Each of them alone would wait for the database too.
            Err(StoreError::Unavailable(why)) => {
                outcomes.extend(changes.iter().map(|_| Err(StoreError::Unavailable(why.clone()))));
            }
            Err(error) if changes.len() == 1 => outcomes.push(Err(error)),
            Err(_) => {
                let (first, second) = changes.split_at(changes.len().div_ceil(2));
                self.commit(first, outcomes)?;
                return self.commit(second, outcomes);
            }
        }
        count(&self.shared.counters.groups, 1);
        Ok(())
    }

    /// Tells those who listen, in the order of the numbers.
    fn publish(&mut self, changes: &[Change], outcomes: &[Result<Outcome, StoreError>]) {
        let mut by_feed: HashMap<&str, Committed> = HashMap::new();
        for (change, outcome) in changes.iter().zip(outcomes) {
            let Ok(Outcome::Stored { revision, entries, .. }) = outcome else { continue };
            if entries.is_empty() {
                continue;
            }
            let feed = change.feed();
            let new = || Committed { feed: feed.to_owned(), entries: Vec::new(), revision: *revision };
            let committed = by_feed.entry(feed).or_insert_with(new);
            committed.entries.extend(entries.iter().cloned());
            committed.revision = *revision;
        }
        for (feed, committed) in by_feed {
            let told = self.shared.heads.get(feed).map(|head| *head.borrow());
            match told.is_some_and(|told| follows(told, &committed)) {
                true => self.tell(committed),
                // Others have committed in between. If that cannot be read now, it is with the next look.
                false => self.catch_up(feed),
            }
        }
    }

    /// Takes in what others have committed.
    fn look(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.heads.keys().for_each(|feed| self.catch_up(feed));
    }

    /// Tells of everything that `feed` has since what was told last.
    fn catch_up(&mut self, feed: &str) {
        let read = self.read_others(feed);
        self.reading.note(feed, &read);
    }

    fn read_others(&mut self, feed: &str) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some(head) = shared.heads.get(feed) else { return Ok(()) };
        loop {
            let told = *head.borrow();
            // With those that have ended: their numbers would be missing.
            let (entries, revision) = self.store.entries_after(feed, told.number, READ, Timestamp(0))?;
            if revision.epoch != told.epoch {
                let revision = self.store.head(feed)?;
                tracing::warn!(feed, %revision, "the feed has begun a new epoch: every proxy takes everything anew");
                self.room.load_feed(&*self.store, feed, self.clock.now())?;
                self.tell(Committed { feed: feed.to_owned(), entries: Vec::new(), revision });
                return Ok(());
            }
            if revision.number <= told.number {
                return Ok(());
            }
            self.room.put(feed, &entries, self.clock.now())?;
            self.tell(Committed { feed: feed.to_owned(), entries, revision });
        }
    }

    /// Tells those who listen.
    fn tell(&self, committed: Committed) {
        let (head, revision) = (self.shared.heads.get(&committed.feed), committed.revision);
        // Nobody may be listening.
        drop(self.shared.commits.send(Arc::new(committed)));
        if let Some(head) = head {
            head.send_replace(revision);
        }
    }

    /// Counts a change, and gives back the room of one that added nothing.
    fn settle(&mut self, change: &Change, taken: &Taken, outcome: &Result<Outcome, StoreError>) {
        let counters = &self.shared.counters;
        match outcome {
            Ok(Outcome::Stored { entries, .. }) => {
                count(&counters.stored, 1);
                count(&counters.nearly_full, taken.nearly_full);
                // An earlier change of the group that failed may have given back the room of the same entries.
                if let Err(error) = self.room.put(change.feed(), entries, self.clock.now()) {
                    tracing::error!("an entry that was stored is not counted: {error}");
                }
                return;
            }
            Ok(Outcome::Repeated { .. }) => count(&counters.repeated, 1),
            Ok(Outcome::Contradicts { .. } | Outcome::Unknown) => {}
            Err(_) => count(&counters.failed, 1),
        }
        self.room.give_back(change.feed(), taken);
    }
}

/// Whether a commit begins where those ended that were told, and nothing of others is in between.
fn follows(told: Revision, committed: &Committed) -> bool {
    let Committed { entries, revision, .. } = committed;
    let numbers = entries.iter().map(|entry| entry.number);
    revision.epoch == told.epoch && numbers.eq(told.number.saturating_add(1)..=revision.number)
}

#[cfg(test)]
mod tests;
