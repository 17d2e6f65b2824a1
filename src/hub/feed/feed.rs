//! One feed: where a follower stands in it, and which page it gets.

use crate::feed::body::PageBody;
use crate::feed::follower::Follower;
use crate::feed::followers::{Followers, Polling};
use crate::feed::full_state::{Cutter, FullState, FullStates, NoFullState};
use crate::feed::heads::{Head, Heads};
use crate::feed::keys::Keys;
use crate::feed::pace::Meter;
use crate::feed::pages::{Content, NoPage, Page, Pages};
use crate::feed::receipts::{self, Closes, CommitTime};
use crate::feed::request::PageRequest;
use crate::feed::tail::{Range, Tail};
use crate::feed::{Issuers, Now, Settings, heartbeat, locked};
use crate::repeated::Repeated;
use crate::store::model::{StoreError, StoredEntry};
use crate::store::{Store, past_epochs};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskfence_core::feed::entry::FORMAT;
use taskfence_core::feed::page::MAX_ENTRIES;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::time::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// A request waits for the store for so long at most.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// The head that a page names was read so long ago at most, in milliseconds.
const HEAD_AGE: u64 = 1_000;

/// A feed.
pub struct Feed {
    pub(crate) name: String,
    pub(crate) followers: Arc<Followers>,
    pub(crate) full: FullStates,
    pub(crate) heads: Arc<Heads>,
    pub(crate) meter: Arc<Meter>,
    /// Tells the pace that there is something new.
    pub(crate) news: Notify,
    settings: Arc<Settings>,
    store: Arc<dyn Store>,
    /// The epochs that the feed has had.
    past_epochs: Mutex<Vec<u64>>,
    now: Now,
    keys: Arc<Keys>,
    tail: Mutex<Tail>,
    /// Held by the one that reads what the tail lacks.
    catching_up: Mutex<()>,
    pages: Pages,
    published: watch::Sender<Published>,
    reading: Repeated,
    pub(crate) writing: Repeated,
}

/// What waiting followers are woken with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Published {
    /// Pages go up to this number.
    number: u64,
    /// The epoch of the feed.
    epoch: u64,
    /// How often statements have come to say something else about issuers.
    coverage: u64,
    /// The hub stops: nobody waits any longer.
    closing: bool,
}

/// Why a follower gets no page. All are temporary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The store did not answer.
    #[error("the store of the hub does not answer")]
    Store,
    /// Its position is ahead of this hub.
    #[error("`after` is ahead of what this hub holds")]
    Ahead,
    /// Too many load a full state.
    #[error("too many followers load a full state now")]
    Busy,
    /// The full state is not kept any more.
    #[error("there is no such full state any more: ask without `state` and `part`")]
    Gone,
}

/// Where a follower stands.
enum Position {
    /// In this history.
    Known,
    /// In another one, or before what the feed still knows.
    Foreign,
    /// Further than this hub has got.
    Ahead,
}

impl Feed {
    pub(crate) fn new(
        name: &str,
        settings: Arc<Settings>,
        store: Arc<dyn Store>,
        keys: Arc<Keys>,
        (now, issuers): (Now, Issuers),
    ) -> Result<Feed, StoreError> {
        let head = store.head(name)?;
        let stored = store.followers(name)?;
        let past_epochs = read_past_epochs(&*store, name)?;
        Ok(Feed {
            name: name.to_owned(),
            followers: Followers::new(name, stored, &settings, now.clone()),
            full: FullStates::new(settings.max_loaders),
            heads: Heads::new(name, store.clone(), now.clone(), issuers),
            meter: Arc::default(),
            news: Notify::new(),
            tail: Mutex::new(Tail::new(settings.tail_bytes, head, (now)())),
            catching_up: Mutex::default(),
            pages: Pages::default(),
            published: watch::Sender::new(Published { number: head.number, epoch: head.epoch, ..Published::default() }),
            settings,
            store,
            past_epochs: Mutex::new(past_epochs),
            now,
            keys,
            reading: Repeated::new("cannot read the feed"),
            writing: Repeated::new("cannot store what is known about proxies"),
        })
    }

    /// Takes in what was committed. Followers hear of it when the pace allows.
    pub fn announce(&self, entries: &[StoredEntry], revision: Revision) {
        let at = (self.now)();
        let mut tail = locked(&self.tail);
        let before = tail.head();
        if tail.push(entries, revision, at).is_err() {
            // An entry of another replica that was replaced before it was read, or a new epoch.
            tracing::debug!(feed = self.name, %revision, "pages of changes before this revision come from the store");
            tail.reset(revision, at);
        }
        drop(tail);
        if before.epoch != revision.epoch {
            self.begin_epoch();
        }
        self.news.notify_one();
    }

    /// Takes in what the store has and was not announced, as after commits of another replica. Blocks.
    pub fn catch_up(&self) -> Result<(), StoreError> {
        let _turn = locked(&self.catching_up);
        loop {
            let before = self.head();
            let (entries, upto) = self.store.entries_after(&self.name, before.number, MAX_ENTRIES, Timestamp(0))?;
            if upto.epoch != before.epoch {
                let head = self.store.head(&self.name)?;
                self.announce(&[], head);
                return Ok(());
            }
            if upto.number <= before.number {
                return Ok(());
            }
            self.announce(&entries, upto);
        }
    }

    /// The feed has another epoch: what was made for the old one is of no use any more.
    fn begin_epoch(&self) {
        self.full.forget();
        self.heads.forget();
        match read_past_epochs(&*self.store, &self.name) {
            Ok(past) => *locked(&self.past_epochs) = past,
            // Then proxies of the old epoch count as those of another store for a while, which only a check shows.
            Err(error) => tracing::warn!(feed = self.name, %error, "the epochs of the feed cannot be read"),
        }
        self.publish();
    }

    /// Wakes the followers that wait for what was announced.
    pub fn publish(&self) {
        let Revision { number, epoch, .. } = locked(&self.tail).head();
        self.published.send_if_modified(|published| {
            let is_new = (published.number, published.epoch) != (number, epoch);
            (published.number, published.epoch) = (number, epoch);
            is_new
        });
    }

    /// Answers all who wait, now and from now on: the hub stops.
    pub fn close(&self) {
        self.published.send_if_modified(|published| !std::mem::replace(&mut published.closing, true));
    }

    /// Answers all who wait: statements say something else about issuers now.
    pub async fn tell_coverage(&self) {
        // A failure is logged where the store is read. Then the next statement says it.
        _ = self.heads.read().await;
        self.published.send_modify(|published| published.coverage = published.coverage.saturating_add(1));
    }

    /// The last revision announced.
    pub fn head(&self) -> Revision {
        locked(&self.tail).head()
    }

    /// When the entry of a number was committed, in milliseconds since 1970. `None` if that is too long ago.
    pub fn committed_at(&self, number: u64) -> Option<u64> {
        locked(&self.tail).committed_at(number)
    }

    /// What is known of when the entry of a number was committed.
    pub fn commit_time(&self, number: u64) -> CommitTime {
        let tail = locked(&self.tail);
        // Not announced yet: no later than now.
        let by = || tail.committed_by(number).unwrap_or_else(|| (self.now)());
        CommitTime { at: tail.committed_at(number), by: self.settings.shared.then(by) }
    }

    /// By when a follower has closed itself that gets no other statement.
    pub fn closes(&self, follower: &Follower) -> Closes {
        let elsewhere = *follower.replica != *self.settings.replica;
        receipts::closes(follower, u64::MAX, elsewhere.then(|| self.followers.served_until(follower)))
    }

    /// The chain at a number.
    pub async fn chain(self: &Arc<Self>, number: u64) -> Result<Option<Chain>, NoAnswer> {
        let known = locked(&self.tail).chain(number);
        match known {
            Some(chain) => Ok(Some(chain)),
            None => self.blocking(move |feed| feed.store.chain(&feed.name, number)).await,
        }
    }

    /// The page for a follower.
    pub async fn page(self: &Arc<Self>, request: PageRequest, polling: Polling) -> Result<PageBody, NoAnswer> {
        // What is large lives on the heap for the moment that it is needed: a follower that waits keeps little.
        Box::pin(self.acknowledge(request.applied, &polling)).await?;
        if let Some((revision, part)) = request.part {
            let state = self.full.resume(polling.of(), revision, part).map_err(NoAnswer::from)?;
            return Box::pin(self.part(&state, part, request.nonce.as_deref(), &polling)).await;
        }
        self.followers.asks_after(polling.id(), request.after);
        let deadline = deadline(request.wait);
        loop {
            match Box::pin(self.position(request.after)).await? {
                Position::Known => break,
                Position::Foreign => return Box::pin(self.full_state(&request, &polling)).await,
                Position::Ahead => {
                    self.wait(&polling, |head| head >= request.after.number, deadline, NoAnswer::Ahead).await?
                }
            }
        }
        // Who sends a nonce refuses all requests until the answer comes: it does not wait for something new.
        let deadline = if request.nonce.is_some() { Instant::now() } else { deadline };
        let changed = self.wait(&polling, |head| head > request.after.number, deadline, ()).await.is_ok();
        let answer = async {
            match changed {
                true => self.changes(&request, &polling).await,
                false => self.nothing_new(&request, &polling).await,
            }
        };
        Box::pin(answer).await
    }

    /// Waits until `reached` says yes to the number up to which pages go, or the same follower asks again.
    async fn wait<E>(
        &self,
        polling: &Polling,
        reached: impl Fn(u64) -> bool,
        deadline: Instant,
        late: E,
    ) -> Result<(), E> {
        let mut published = self.published.subscribe();
        let begun = *published.borrow();
        loop {
            let now = *published.borrow_and_update();
            if reached(now.number) {
                return Ok(());
            }
            if now.closing || (now.coverage, now.epoch) != (begun.coverage, begun.epoch) {
                return Err(late);
            }
            let changed = tokio::select! {
                changed = timeout_at(deadline, published.changed()) => matches!(changed, Ok(Ok(()))),
                () = polling.replaced() => false,
            };
            if !changed {
                return Err(late);
            }
        }
    }

    /// Notes what a follower has applied, if that is of this history.
    async fn acknowledge(self: &Arc<Self>, applied: Revision, polling: &Polling) -> Result<(), NoAnswer> {
        let known = self.followers.applied(polling.id());
        if known == Some(applied) {
            return Ok(());
        }
        // A page costs what its acknowledgement costs too.
        self.meter.charge_poll();
        let ours = applied == Revision::START || matches!(self.position(applied).await?, Position::Known);
        if !ours && self.lacks(applied).await? {
            self.followers.note_ahead(polling.id());
        }
        if !ours && applied.epoch != self.head().epoch && !locked(&self.past_epochs).contains(&applied.epoch) {
            self.followers.note_foreign(polling.id());
        }
        // Of another history: it enforces something, but nothing that this feed can count on.
        let counted = if ours { applied } else { Revision { number: 0, chain: Chain::default(), ..applied } };
        self.followers.acknowledge(polling.id(), counted, |number| self.committed_at(number));
        Ok(())
    }

    /// Whether a follower can only have applied `applied` if the store has lost it: it is of this epoch, and of another
    /// history or beyond the head.
    async fn lacks(self: &Arc<Self>, applied: Revision) -> Result<bool, NoAnswer> {
        if applied.epoch != self.head().epoch {
            return Ok(false);
        }
        let read = move |feed: &Feed| Ok((feed.store.chain(&feed.name, applied.number)?, feed.store.head(&feed.name)?));
        let (chain, head) = self.blocking(read).await?;
        let is_other = chain.is_some_and(|chain| chain != applied.chain);
        Ok(is_other || applied.number > head.number)
    }

    async fn position(self: &Arc<Self>, at: Revision) -> Result<Position, NoAnswer> {
        let mut head = self.head();
        if at != Revision::START && (at.epoch != head.epoch || at.number > head.number) {
            // Another replica may have committed it, or begun an epoch.
            self.blocking(Feed::catch_up).await?;
            self.publish();
            head = self.head();
        }
        if at.epoch != head.epoch {
            return Ok(Position::Foreign);
        }
        if at.number > head.number {
            return Ok(Position::Ahead);
        }
        let same = self.chain(at.number).await? == Some(at.chain);
        Ok(if same { Position::Known } else { Position::Foreign })
    }

    /// The entries after its position.
    async fn changes(self: &Arc<Self>, request: &PageRequest, polling: &Polling) -> Result<PageBody, NoAnswer> {
        let (after, format) = (request.after, request.format);
        let limit = self.published.borrow().number;
        let built = self.pages.get((after, limit, format), self.build(after, limit, format));
        let page = match timeout(STORE_WAIT, built).await.map_err(|_| NoAnswer::Store)? {
            Err(NoPage::Epoch) => return Box::pin(self.full_state(request, polling)).await,
            built => built.map_err(NoAnswer::from)?,
        };
        if page.is_stored {
            // Whoever is that far behind, or says so, loads as much as with a full state, and needs a place like it.
            match page.content.upto.number < limit {
                true if !self.full.may_read(polling.of()) => return Err(NoAnswer::Busy),
                true => {}
                false => self.full.done(polling.id()),
            }
        }
        if let Some(nonce) = &request.nonce {
            let head = self.new_head().await?;
            return self.signed(&page.content, &head, Some(nonce), polling);
        }
        // A page that was built before the last statement to this follower must not take its `at` back.
        let newer = self.followers.last_statement(polling.id()) > Some(page.head.at);
        match newer {
            true => {
                let head = self.no_older_head(page.head.clone(), polling).await?;
                self.signed(&page.content, &head, None, polling)
            }
            false => {
                let body = PageBody::new(page.statement.clone(), page.content.entries.clone());
                Ok(self.send(body, page.content.upto, &page.head, polling))
            }
        }
    }

    async fn build(self: &Arc<Self>, after: Revision, limit: u64, format: u8) -> Result<Page, NoPage> {
        let now = Timestamp((self.now)() / 1000);
        let held = locked(&self.tail).range(after.number, limit, MAX_ENTRIES, now);
        let is_stored = held.is_none();
        let range = match held {
            Some(range) => range,
            None => {
                let read = move |feed: &Feed| feed.store.entries_after(&feed.name, after.number, MAX_ENTRIES, now);
                let (entries, upto) = self.blocking(read).await.map_err(|_| NoPage::Store)?;
                range_of(&entries, upto)
            }
        };
        let head = self.heads.covering(range.upto.number, HEAD_AGE).await.map_err(|_| NoPage::Store)?;
        // Numbers of two epochs do not follow each other.
        if range.upto.epoch != after.epoch || head.revision.epoch != after.epoch {
            return Err(NoPage::Epoch);
        }
        let content = Content::changes(after, format, range);
        let statement = self.keys.sign(&content.statement(&head, self.names(), None))?;
        Ok(Page { content, statement, head, is_stored })
    }

    /// A heartbeat.
    async fn nothing_new(self: &Arc<Self>, request: &PageRequest, polling: &Polling) -> Result<PageBody, NoAnswer> {
        let head = match request.nonce {
            Some(_) => self.new_head().await?,
            None => {
                let head = self.recent_head(request.after.number, heartbeat::MAX_AGE).await?;
                self.no_older_head(head, polling).await?
            }
        };
        if head.revision != request.after {
            // It was committed, here or by another replica, and is not published yet.
            if head.revision.epoch != self.head().epoch || head.revision.number > self.head().number {
                self.blocking(Feed::catch_up).await?;
            }
            self.publish();
            return match self.position(request.after).await? {
                Position::Known => self.changes(request, polling).await,
                Position::Foreign => self.full_state(request, polling).await,
                Position::Ahead => Err(NoAnswer::Ahead),
            };
        }
        let statement = match request.nonce.clone() {
            Some(nonce) => {
                let nonce = Some(nonce.into());
                self.keys.sign(&taskfence_core::feed::statement::Statement {
                    nonce,
                    ..heartbeat::statement(&head, self.names())
                })
            }
            None => heartbeat::page(&head, self.names(), &self.keys),
        };
        let statement = statement.map_err(|_| NoAnswer::Store)?;
        Ok(self.send(PageBody::new(statement, bytes::Bytes::new()), head.revision, &head, polling))
    }

    /// Part 0 of the full state.
    async fn full_state(self: &Arc<Self>, request: &PageRequest, polling: &Polling) -> Result<PageBody, NoAnswer> {
        if self.recent_head(0, heartbeat::MAX_AGE).await?.revision.epoch != self.head().epoch {
            self.blocking(Feed::catch_up).await?;
        }
        let mut state = self.full.begin(polling.of(), self.cut()).await.map_err(NoAnswer::from)?;
        if state.revision.epoch != self.head().epoch {
            // It was cut before or after a new epoch that this feed has not heard of, or not yet.
            self.blocking(Feed::catch_up).await?;
            self.full.forget();
            state = self.full.begin(polling.of(), self.cut()).await.map_err(NoAnswer::from)?;
        }
        self.part(&state, 0, request.nonce.as_deref(), polling).await
    }

    async fn cut(self: &Arc<Self>) -> Result<FullState, StoreError> {
        let feed = self.clone();
        let cut = move || {
            let (mut cutter, now) = (Cutter::default(), Timestamp((feed.now)() / 1000));
            let revision = feed.store.full_state(&feed.name, now, &mut |entry| cutter.add(&entry.entry.bytes))?;
            Ok(cutter.finish(revision, FORMAT))
        };
        let cut = tokio::task::spawn_blocking(cut).await;
        cut.map_err(|error| StoreError::Failed(error.to_string()))?
    }

    async fn part(
        self: &Arc<Self>,
        state: &FullState,
        part: u32,
        nonce: Option<&str>,
        polling: &Polling,
    ) -> Result<PageBody, NoAnswer> {
        let content = state.part(part).ok_or(NoAnswer::Gone)?;
        let head = match nonce {
            Some(_) => self.new_head().await?,
            None => self.recent_head(state.revision.number, heartbeat::MAX_AGE).await?,
        };
        self.signed(content, &head, nonce, polling)
    }

    /// `content` with a statement of its own.
    fn signed(
        &self,
        content: &Content,
        head: &Head,
        nonce: Option<&str>,
        polling: &Polling,
    ) -> Result<PageBody, NoAnswer> {
        if head.revision.epoch != content.upto.epoch {
            // Its number says nothing about these entries. The next request finds the new epoch.
            return Err(if content.part.is_some() { NoAnswer::Gone } else { NoAnswer::Store });
        }
        let statement = self.keys.sign(&content.statement(head, self.names(), nonce)).map_err(|_| NoAnswer::Store)?;
        Ok(self.send(PageBody::new(statement, content.entries.clone()), content.upto, head, polling))
    }

    fn send(&self, page: PageBody, upto: Revision, head: &Head, polling: &Polling) -> PageBody {
        self.followers.sent(polling.id(), upto, head.revision.number, head.at);
        self.meter.charge(page.length());
        page
    }

    /// `head`, or a later one where the follower may have a statement that is newer, of this replica or another.
    async fn no_older_head(&self, head: Arc<Head>, polling: &Polling) -> Result<Arc<Head>, NoAnswer> {
        let last = self.followers.last_statement(polling.id());
        let known = [Some(head), self.heads.latest()].into_iter().flatten().find(|head| Some(head.at) >= last);
        match known {
            Some(head) => Ok(head),
            None => self.new_head().await,
        }
    }

    async fn new_head(&self) -> Result<Arc<Head>, NoAnswer> {
        let read = timeout(STORE_WAIT, self.heads.read()).await;
        read.ok().and_then(Result::ok).ok_or(NoAnswer::Store)
    }

    /// A head that is at or after `number` and what is published.
    async fn recent_head(&self, number: u64, age: u64) -> Result<Arc<Head>, NoAnswer> {
        let number = number.max(self.published.borrow().number);
        let read = timeout(STORE_WAIT, self.heads.covering(number, age)).await;
        read.ok().and_then(Result::ok).ok_or(NoAnswer::Store)
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Feed) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let feed = self.clone();
        let read = tokio::task::spawn_blocking(move || read(&feed));
        let read = timeout(STORE_WAIT, read).await.map_err(|_| NoAnswer::Store)?.map_err(|_| NoAnswer::Store)?;
        self.reading.note(&self.name, &read);
        read.map_err(|_| NoAnswer::Store)
    }

    fn names(&self) -> (&str, &str) {
        (&self.settings.hub, &self.name)
    }
}

fn read_past_epochs(store: &dyn Store, feed: &str) -> Result<Vec<u64>, StoreError> {
    let past = store.get(&past_epochs(feed))?.unwrap_or_default();
    Ok(past.split(' ').filter_map(|epoch| u64::from_str_radix(epoch, 16).ok()).collect())
}

/// A moment `wait` from now.
fn deadline(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

/// The entries that the store returned. It keeps to the limit, or returns one.
fn range_of(entries: &[StoredEntry], upto: Revision) -> Range {
    let bytes = entries.iter().flat_map(|entry| entry.entry.bytes.iter().copied()).collect();
    Range { bytes, count: u64::try_from(entries.len()).unwrap_or(u64::MAX), upto }
}

impl From<NoFullState> for NoAnswer {
    fn from(error: NoFullState) -> NoAnswer {
        match error {
            NoFullState::Busy => NoAnswer::Busy,
            NoFullState::Gone => NoAnswer::Gone,
            NoFullState::Store(_) => NoAnswer::Store,
        }
    }
}

impl From<NoPage> for NoAnswer {
    fn from(_: NoPage) -> NoAnswer {
        NoAnswer::Store
    }
}
