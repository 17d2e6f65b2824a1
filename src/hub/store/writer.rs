//! The one writer of the store: it commits what many submit in groups, in the order in which it came.

use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::model::{Change, Outcome, StoreError, StoredEntry};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use taskfence_core::feed::revision::Revision;
use taskfence_core::state::room::Class;
use tokio::sync::{broadcast, oneshot, watch};

/// A group has at most so many changes.
const GROUP: usize = 1_024;

/// The longest wait for a group to fill.
const WAIT: Duration = Duration::from_millis(3);

/// So many changes may wait for the writer. Beyond that callers are told to come back.
const QUEUE: usize = 8_192;

/// So many groups may wait for those who listen to commits. Whoever is further behind reads the store.
const COMMITS: usize = 4_096;

/// The exit code of a process that cannot know any more what it stored (EX_IOERR of sysexits.h).
pub const EXIT_UNCERTAIN: i32 = 74;

/// A handle to the writer. Clones are the same writer; it ends when the last handle is gone.
#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Submitted>,
    shared: Arc<Shared>,
}

/// What one commit added to one feed. Values of a feed come in order, and none is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The feed.
    pub feed: String,
    /// The new entries, in order.
    pub entries: Vec<StoredEntry>,
    /// The head after them.
    pub revision: Revision,
}

/// Why a change was not stored. In each case the caller should come back later: HTTP 503.
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

struct Submitted {
    change: Change,
    answer: oneshot::Sender<Result<Outcome, SubmitError>>,
}

struct Shared {
    heads: HashMap<String, watch::Sender<Revision>>,
    commits: broadcast::Sender<Arc<Committed>>,
}

impl Writer {
    /// Opens `feeds`, created where they do not exist, and starts the writer.
    pub fn start(store: Arc<dyn Store>, clock: Clock, feeds: &[String]) -> Result<Writer, StoreError> {
        let mut heads = HashMap::new();
        for feed in feeds {
            let epoch = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?;
            heads.insert(feed.clone(), watch::channel(store.open_feed(feed, epoch)?).0);
        }
        let shared = Arc::new(Shared { heads, commits: broadcast::channel(COMMITS).0 });
        let (queue, submitted) = sync_channel(QUEUE);
        let worker = Worker { store, clock, shared: Arc::clone(&shared), submitted, last: 1 };
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Writer { queue, shared })
    }

    /// Stores `change`. It is durable when this returns `Ok`. It may be stored too if the caller stops waiting.
    pub async fn submit(&self, change: Change) -> Result<Outcome, SubmitError> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Submitted { change, answer }).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Overloaded,
            TrySendError::Disconnected(_) => ended(),
        })?;
        outcome.await.map_err(|_| ended())?
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
}

fn ended() -> SubmitError {
    SubmitError::Store(StoreError::Failed("the writer has ended".to_owned()))
}

/// The thread that commits.
struct Worker {
    store: Arc<dyn Store>,
    clock: Clock,
    shared: Arc<Shared>,
    submitted: Receiver<Submitted>,
    /// How many changes the last group had.
    last: usize,
}

impl Worker {
    fn run(mut self) {
        while let Some(group) = self.next_group() {
            self.last = group.len();
            let (changes, answers): (Vec<_>, Vec<_>) =
                group.into_iter().map(|submitted| (submitted.change, submitted.answer)).unzip();
            let outcomes = self.commit(&changes);
            self.publish(&changes, &outcomes);
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // A caller that is gone needs no answer.
                drop(answer.send(outcome.map_err(SubmitError::Store)));
            }
        }
    }

    /// The next group: what waits, and what comes while fewer are there than the last group had. So a lone caller never
    /// waits for others, and many callers at once share one commit. `None`: all handles are gone.
    fn next_group(&self) -> Option<Vec<Submitted>> {
        let mut group = vec![self.submitted.recv().ok()?];
        let deadline = Instant::now().checked_add(WAIT)?;
        while group.len() < GROUP {
            let wait = if group.len() < self.last {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match self.submitted.recv_timeout(wait) {
                Ok(submitted) => group.push(submitted),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Some(group)
    }

    fn commit(&self, changes: &[Change]) -> Vec<Result<Outcome, StoreError>> {
        match self.store.commit(changes) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(StoreError::Uncertain(why)) => end(&why),
            Err(error) if changes.len() < 2 => vec![Err(error)],
            Err(_) => changes.chunks(1).flat_map(|change| self.commit(change)).collect(),
        }
    }

    /// Tells those who listen, in the order of the numbers.
    fn publish(&self, changes: &[Change], outcomes: &[Result<Outcome, StoreError>]) {
        let _ = &self.clock;
        let mut by_feed: HashMap<&str, Committed> = HashMap::new();
        for (change, outcome) in changes.iter().zip(outcomes) {
            let (Change::Signal(crate::store::model::NewSignal { feed, .. }) | Change::Lift { feed, .. }) = change;
            if let Ok(Outcome::Stored { revision, entries, .. }) = outcome
                && !entries.is_empty()
            {
                let committed = by_feed.entry(feed).or_insert_with(|| Committed {
                    feed: feed.clone(),
                    entries: Vec::new(),
                    revision: *revision,
                });
                committed.entries.extend(entries.iter().cloned());
                committed.revision = *revision;
            }
        }
        for committed in by_feed.into_values() {
            let head = self.shared.heads.get(&committed.feed);
            let revision = committed.revision;
            // Nobody may be listening.
            drop(self.shared.commits.send(Arc::new(committed)));
            if let Some(head) = head {
                head.send_replace(revision);
            }
        }
    }
}

/// Ends the process: nothing that was promised may be lost, and what comes next could not be promised.
fn end(why: &str) -> ! {
    tracing::error!("the hub ends: whether its last changes are stored is not known: {why}");
    std::process::exit(EXIT_UNCERTAIN)
}
