//! Takes evidence in: a bounded queue, and one thread that stores what waits in groups.
//!
//! ```text
//! uses, events ─► queue (bytes, shares) ─► group ─► one transaction ─► answers
//! ```
//!
//! Evidence must not hold up signals. It has threads of its own and a store of its own, it never waits in a request for
//! room, and it leaves the disk to signals. Evidence that fails is answered 503 and stands in the log; the hub stays ready.

use crate::config::model::EvidenceConfig;
use crate::evidence::counters::{AllCounters, Counters};
use crate::evidence::disk::Disk;
use crate::evidence::measures::look::Look;
use crate::evidence::model::{Usage, Write, Written};
use crate::evidence::queue::{Item, NoRoom, Queue, Share};
use crate::evidence::store::EvidenceStore;
use crate::feed::Now;
use crate::problem::Problem;
use crate::repeated::Repeated;
use crate::store::model::StoreError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// So many bytes of evidence wait in memory at most.
const QUEUE: usize = 32 * 1024 * 1024;

/// A group has about so many bytes at most.
const GROUP: usize = 4 * 1024 * 1024;

/// A group is gathered for so long: evidence is in no hurry, and each transaction costs an fsync of a disk that signals
/// may share.
const GATHER: Duration = Duration::from_millis(50);

/// The thread looks after the store at least this often.
const IDLE: Duration = Duration::from_secs(1);

/// A store that cannot be opened is tried again after this.
const REOPEN: Duration = Duration::from_secs(2);

/// A caller waits for so long until what it sent is stored: a filter and a relay give a call up some seconds later.
const PATIENCE: Duration = Duration::from_secs(15);

/// After this many seconds a caller that found no room is to come back.
const COME_BACK: u64 = 5;

/// So many questions are answered from the store at once: each takes a thread, and signals need some too.
const READERS: usize = 4;

/// A question waits for so long for one of these places.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// The hub remembers so many configurations of a feed that it has the rules of.
const MAX_CONFIGS: usize = 10_000;

/// Opens the store. Blocks.
pub type Open = Box<dyn Fn() -> Result<Arc<dyn EvidenceStore>, StoreError> + Send>;

/// Evidence of a hub.
pub struct Evidence {
    config: EvidenceConfig,
    now: Now,
    /// When it was started, in milliseconds since 1970.
    begun: u64,
    counters: AllCounters,
    /// `None`: it is switched off.
    running: Option<Running>,
}

struct Running {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Semaphore>,
}

/// What the writer shares with the callers.
struct Shared {
    queue: Arc<Queue<Job>>,
    store: RwLock<Option<Arc<dyn EvidenceStore>>>,
    /// By feed: the configurations whose rules are stored.
    configs: Mutex<HashMap<String, HashSet<String>>>,
    usage: Mutex<Option<Usage>>,
    /// By feed: what the last look at its grants found, and when it was, in milliseconds since 1970.
    looks: Mutex<BTreeMap<String, (Look, u64)>>,
    disk: Option<Disk>,
}

impl Shared {
    fn admit(&self) -> Result<(), NotTaken> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.admit().map_err(|full| NotTaken::Disk(full.to_string())))
    }
}

/// Room for something that a caller is about to send.
#[derive(Debug)]
pub struct Room(Share<Job>);

impl Room {
    /// Takes `bytes` more: what was sent takes more in memory than it is long.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NotTaken> {
        Ok(self.0.grow(bytes)?)
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        self.0.shrink(bytes);
    }
}

/// What one caller wants to be stored.
#[derive(Debug)]
struct Job {
    writes: Vec<Write>,
    answer: Option<oneshot::Sender<Answer>>,
}

type Answer = Result<Vec<Written>, NotTaken>;

/// Why evidence was not stored. The caller may come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too much waits already.
    #[error("too much evidence waits to be stored")]
    Full,
    /// Too much of this caller waits already.
    #[error("too much evidence of this caller waits to be stored")]
    Share,
    /// The disk is for signals.
    #[error("{0}")]
    Disk(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It took too long. It may be stored later.
    #[error("the store of evidence does not answer")]
    Late,
    /// The hub ends.
    #[error("the hub is about to stop")]
    Ends,
}

impl From<NoRoom> for NotTaken {
    fn from(error: NoRoom) -> NotTaken {
        match error {
            NoRoom::Full => NotTaken::Full,
            NoRoom::Share => NotTaken::Share,
            NoRoom::Closed => NotTaken::Ends,
        }
    }
}

impl From<NotTaken> for Problem {
    fn from(error: NotTaken) -> Problem {
        Problem::busy(error.to_string(), COME_BACK)
    }
}

impl Evidence {
    /// Takes evidence of `feeds` in, into what `open` opens. `disk`: the disk that it shares with signals.
    pub fn start(
        config: EvidenceConfig,
        feeds: &[String],
        now: Now,
        disk: Option<Disk>,
        open: Open,
    ) -> std::io::Result<Arc<Evidence>> {
        let (counters, begun) = (AllCounters::new(feeds), now());
        if config.days == 0 {
            return Ok(Arc::new(Evidence { config, now, begun, counters, running: None }));
        }
        let shared = Arc::new(Shared {
            queue: Queue::new(QUEUE),
            store: RwLock::default(),
            configs: Mutex::default(),
            usage: Mutex::default(),
            looks: Mutex::default(),
            disk,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            open,
            feeds: feeds.to_vec(),
            tried: None,
            opening: Repeated::new("the store of evidence cannot be opened; it is tried again"),
            storing: Repeated::new("evidence cannot be stored"),
        };
        let thread = std::thread::Builder::new().name("evidence".to_owned()).spawn(move || writer.run())?;
        let running = Running { shared, writer: Mutex::new(Some(thread)), readers: Arc::new(Semaphore::new(READERS)) };
        Ok(Arc::new(Evidence { config, now, begun, counters, running: Some(running) }))
    }

    /// Whether the hub keeps evidence.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// How much is kept, and how often proxies send.
    pub fn config(&self) -> &EvidenceConfig {
        &self.config
    }

    /// The clock of the hub, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        (self.now)()
    }

    /// What was counted in each feed.
    pub fn counters(&self) -> &AllCounters {
        &self.counters
    }

    /// How much is kept, at the last look; `None`: nobody has looked yet.
    pub fn usage(&self) -> Option<Usage> {
        *locked(&self.running.as_ref()?.shared.usage)
    }

    /// Sets how much is kept.
    pub fn set_usage(&self, usage: Usage) {
        if let Some(running) = &self.running {
            *locked(&running.shared.usage) = Some(usage);
        }
    }

    /// When it was started, in milliseconds since 1970.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// What the last look at the grants of each feed found, and when it was, in milliseconds since 1970.
    pub fn looks(&self) -> BTreeMap<String, (Look, u64)> {
        self.running.as_ref().map(|running| locked(&running.shared.looks).clone()).unwrap_or_default()
    }

    /// Sets what a look at the grants of `feed` at the time `at` found.
    pub fn set_look(&self, feed: &str, look: Look, at: u64) {
        if let Some(running) = &self.running {
            locked(&running.shared.looks).insert(feed.to_owned(), (look, at));
        }
    }

    /// Whether the disk has room for evidence.
    pub fn admit(&self) -> Result<(), NotTaken> {
        self.running.as_ref().map_or(Err(NotTaken::Ends), |running| running.shared.admit())
    }

    /// The store; `None`: it is switched off, or not open yet.
    pub fn store(&self) -> Option<Arc<dyn EvidenceStore>> {
        let running = self.running.as_ref()?;
        running.shared.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Room for `bytes` that `caller` is about to send: before they are read, so that memory is bounded.
    pub fn reserve(&self, caller: &str, bytes: usize) -> Result<Room, NotTaken> {
        let running = self.running.as_ref().ok_or(NotTaken::Ends)?;
        Ok(Room(running.shared.queue.reserve(caller, bytes)?))
    }

    /// Stores `writes`, for which there is `room`. One outcome for each, when they are durable.
    pub async fn submit(&self, room: Room, writes: Vec<Write>) -> Answer {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let Some(running) = &self.running else { return Err(NotTaken::Ends) };
        let counted: Vec<_> = writes.iter().map(Counted::of).collect();
        let (answer, answered) = oneshot::channel();
        running.shared.queue.push(room.0, Job { writes, answer: Some(answer) });
        let answer = match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NotTaken::Ends),
            Err(_) => Err(NotTaken::Late),
        };
        self.count(&counted, &answer);
        answer
    }

    /// The same for a thread that may block.
    pub fn submit_blocking(&self, room: Room, writes: Vec<Write>) -> Answer {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let Some(running) = &self.running else { return Err(NotTaken::Ends) };
        let counted: Vec<_> = writes.iter().map(Counted::of).collect();
        let (answer, answered) = oneshot::channel();
        running.shared.queue.push(room.0, Job { writes, answer: Some(answer) });
        let answer = answered.blocking_recv().unwrap_or(Err(NotTaken::Ends));
        self.count(&counted, &answer);
        answer
    }

    fn count(&self, counted: &[Counted], answer: &Answer) {
        for (at, one) in counted.iter().enumerate() {
            let became = answer.as_ref().ok().and_then(|written| written.get(at).copied());
            if let Some(counters) = self.counters.of(&one.feed) {
                one.add(counters, became);
            }
        }
    }

    /// Runs `work` with the store on a thread where it may block. Few run at once.
    pub async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn EvidenceStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let running = self.running.as_ref().ok_or_else(off)?;
        let busy = || Problem::busy("too many questions about evidence are being answered", COME_BACK);
        let place = tokio::time::timeout(READ_PATIENCE, Arc::clone(&running.readers).acquire_owned())
            .await
            .map_err(|_| busy())?;
        let place = place.map_err(|_| busy())?;
        let closed = || Problem::busy("the store of evidence is not open: see the log of the hub", COME_BACK);
        let store = self.store().ok_or_else(closed)?;
        let done = tokio::task::spawn_blocking(move || {
            // The work goes on where the caller goes away, and so it keeps its place.
            let _place = place;
            work(&*store)
        });
        let done = done.await.map_err(|_| Problem::unavailable("the work on the store of evidence broke off"))?;
        done.map_err(|error| Problem::busy(error.to_string(), COME_BACK))
    }

    /// Those of `configs` whose rules are not stored for `feed`.
    pub fn unknown_configs<'c>(&self, feed: &str, configs: impl Iterator<Item = &'c str>) -> Vec<String> {
        let Some(running) = &self.running else { return Vec::new() };
        let known = locked(&running.shared.configs);
        let known = known.get(feed);
        let mut unknown: Vec<_> =
            configs.filter(|config| !known.is_some_and(|known| known.contains(*config))).map(str::to_owned).collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }

    /// Stores what waits, and ends. Blocks.
    pub fn stop(&self) {
        let Some(running) = &self.running else { return };
        running.shared.queue.close();
        let thread = locked(&running.writer).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writer of evidence broke off");
        }
    }
}

/// What is answered while no evidence is kept: as by a hub that knows nothing of it.
pub fn off() -> Problem {
    Problem::missing("this hub keeps no evidence", "set `evidence.days` in hub.yaml to more than 0")
}

/// What a write adds to the counters.
struct Counted {
    feed: String,
    kind: Kind,
}

enum Kind {
    Batch { uses: u64, records: u64, lost: [u64; 3] },
    Event,
    Gap,
    Config,
}

impl Counted {
    fn of(write: &Write) -> Counted {
        let (feed, kind) = match write {
            Write::Batch(batch) => {
                let (feed, batch) = (&batch.feed, &batch.batch);
                let counts = batch.grants.iter().flat_map(|grant| {
                    let permitted = grant.permitted.iter().map(|one| one.count);
                    permitted.chain(grant.refused.iter().map(|one| one.count)).chain([grant.other])
                });
                let uses = counts.chain([batch.other_permitted, batch.other_refused]).fold(0, u64::saturating_add);
                let records = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                let other =
                    batch.grants.iter().map(|grant| grant.other).fold(batch.other_permitted, u64::saturating_add);
                (feed, Kind::Batch { uses, records, lost: [other, batch.other_refused, batch.records_dropped] })
            }
            Write::Event(event) => (&event.feed, Kind::Event),
            Write::Gap { feed, .. } => (feed, Kind::Gap),
            Write::Config { feed, .. } => (feed, Kind::Config),
        };
        Counted { feed: feed.clone(), kind }
    }

    /// `became` is `None` for what was not stored.
    fn add(&self, counters: &Counters, became: Option<Written>) {
        match (&self.kind, became) {
            (Kind::Batch { uses, records, lost: [permitted, refused, dropped] }, Some(Written::Stored)) => {
                counters.stored.add(1);
                counters.uses.add(*uses);
                counters.records.add(*records);
                counters.lost_permitted.add(*permitted);
                counters.lost_refused.add(*refused);
                counters.lost_records.add(*dropped);
            }
            (Kind::Batch { .. }, Some(Written::Repeated)) => counters.repeated.add(1),
            (Kind::Batch { .. }, Some(Written::Dropped)) => counters.dropped.add(1),
            (Kind::Batch { .. }, None) => counters.refused.add(1),
            (Kind::Event, Some(Written::Stored)) => counters.events.add(1),
            (Kind::Gap, Some(Written::Stored)) => counters.gaps.add(1),
            (Kind::Event | Kind::Gap | Kind::Config, _) => {}
        }
    }
}

/// The thread that stores.
struct Writer {
    shared: Arc<Shared>,
    open: Open,
    feeds: Vec<String>,
    /// When it was last tried to open the store.
    tried: Option<Instant>,
    opening: Repeated,
    storing: Repeated,
}

impl Writer {
    fn run(mut self) {
        loop {
            let opened = self.opened();
            let Some(mut items) = self.shared.queue.take(IDLE, GATHER, GROUP) else { return };
            if items.is_empty() {
                continue;
            }
            let stored = opened.and_then(|store| {
                self.shared.admit()?;
                Ok(store)
            });
            match stored {
                Ok(store) => self.store(&*store, &mut items),
                Err(error) => {
                    self.storing.failed("", &error);
                    items.iter_mut().for_each(|item| answer(item, Err(error.clone())));
                }
            }
            // Here the room is free again.
            drop(items);
        }
    }

    /// The store, which is opened when it is not open.
    fn opened(&mut self) -> Result<Arc<dyn EvidenceStore>, NotTaken> {
        let known = self.shared.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(store) = known {
            return Ok(store);
        }
        let closed = || NotTaken::Store(StoreError::Unavailable("the store of evidence is not open".to_owned()));
        if self.tried.is_some_and(|tried| tried.elapsed() < REOPEN) {
            return Err(closed());
        }
        self.tried = Some(Instant::now());
        let opened = (self.open)().and_then(|store| {
            let mut configs = HashMap::new();
            for feed in &self.feeds {
                let known = store.configs(feed)?.into_iter().map(|outline| outline.config).collect();
                configs.insert(feed.clone(), known);
            }
            Ok((store, configs))
        });
        self.opening.note("", &opened);
        let (store, configs) = opened?;
        *locked(&self.shared.configs) = configs;
        *self.shared.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&store));
        Ok(store)
    }

    /// Stores a group in one transaction; where that fails, each job in one of its own, so that one that cannot be stored
    /// stops no other.
    fn store(&self, store: &dyn EvidenceStore, items: &mut [Item<Job>]) {
        let lengths: Vec<_> = items.iter().map(|item| item.what.writes.len()).collect();
        let writes: Vec<_> = items.iter_mut().flat_map(|item| std::mem::take(&mut item.what.writes)).collect();
        let whole = self.write(store, &writes);
        let is_of_one = matches!(whole, Err(StoreError::Failed(_) | StoreError::Damaged(_))) && items.len() > 1;
        match whole {
            Ok(written) => {
                let mut written = written.into_iter();
                for (item, length) in items.iter_mut().zip(lengths) {
                    answer(item, Ok(written.by_ref().take(length).collect()));
                }
            }
            Err(_) if is_of_one => {
                let mut writes = writes.into_iter();
                for (item, length) in items.iter_mut().zip(lengths) {
                    let own: Vec<_> = writes.by_ref().take(length).collect();
                    answer(item, self.write(store, &own).map_err(NotTaken::from));
                }
            }
            Err(error) => items.iter_mut().for_each(|item| answer(item, Err(error.clone().into()))),
        }
    }

    fn write(&self, store: &dyn EvidenceStore, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let written = store.write(writes).and_then(|written| {
            let fits = written.len() == writes.len();
            fits.then_some(written).ok_or_else(|| StoreError::Failed("it did not say what became of all".to_owned()))
        });
        self.storing.note("", &written);
        if written.is_ok() {
            let mut configs = locked(&self.shared.configs);
            for write in writes {
                let Write::Config { feed, outline } = write else { continue };
                let known = configs.entry(feed.clone()).or_default();
                if known.len() < MAX_CONFIGS {
                    known.insert(outline.config.clone());
                }
            }
        }
        written
    }
}

fn answer(item: &mut Item<Job>, answer: Answer) {
    if let Some(waits) = item.what.answer.take() {
        // Whoever has gone away does not want to know.
        _ = waits.send(answer);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
