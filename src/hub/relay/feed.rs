//! One feed of a relay: which page a follower gets.
//!
//! Pages come from what the relay holds. The hub is asked for what only it can sign, a nonce, and for positions at which no
//! page of the relay begins. While it cannot be asked, the relay goes on with what it holds: each follower counts the age
//! from what the hub signed.

use crate::feed::body::PageBody;
use crate::feed::followers::{Followers, Polling};
use crate::feed::full_state::FullStates;
use crate::feed::request::PageRequest;
use crate::relay::kept::Kept;
use crate::relay::line::{Line, Look, State};
use crate::relay::passed::{Passed, Question};
use crate::relay::upstream::NoPage;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use taskfence_core::feed::entry::FORMAT;
use taskfence_core::feed::revision::Revision;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// A follower that is further than the relay waits so long for it, before the hub is asked.
const AHEAD: Duration = Duration::from_secs(2);

/// A follower waits so long for a newer statement than its last one. The hub gives one a second.
const NEWER: Duration = Duration::from_secs(3);

/// Between two looks for that.
const LOOK: Duration = Duration::from_millis(50);

/// So long after the last answer of the hub the relay counts as one that follows it, in milliseconds.
const CONNECTED: u64 = 5_000;

/// A feed that a relay hands on.
pub struct RelayFeed {
    /// Its name.
    pub name: String,
    /// Those that follow it here.
    pub followers: Arc<Followers>,
    /// The requests that the hub answers.
    pub passed: Passed,
    /// Whether somebody has asked for a full state since the last one came.
    pub wants_state: AtomicBool,
    /// What has been served.
    pub served: Served,
    now: Arc<dyn Fn() -> u64 + Send + Sync>,
    line: Mutex<Option<Line>>,
    loading: FullStates,
    /// For what each follower got its last page of changes, by id.
    asked: Mutex<HashMap<Box<str>, Revision>>,
    /// When the hub last answered with a page, in milliseconds since 1970.
    answered: AtomicU64,
    news: watch::Sender<News>,
}

/// What a feed has served since the start.
#[derive(Debug, Default)]
pub struct Served {
    /// Pages from what the relay holds.
    pub own: AtomicU64,
    /// Pages that the hub was asked for.
    pub passed: AtomicU64,
    /// Pages without the nonce that was asked for, because the hub could not be asked.
    pub without_nonce: AtomicU64,
    /// The bytes of all pages.
    pub bytes: AtomicU64,
}

/// What waiting followers are woken with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct News {
    head: Revision,
    closing: bool,
}

/// Why a follower gets no page now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The relay has nothing yet.
    #[error("this relay has not loaded the feed yet")]
    Starting,
    /// Too many load a full state, or wait for the hub.
    #[error("too many followers load a full state or wait for the hub")]
    Busy,
    /// The hub does not answer, and the relay holds nothing for it.
    #[error("the hub of this relay does not answer, and this relay has no page for `after`")]
    Upstream,
    /// The hub asks to come later.
    #[error("the hub of this relay answers {0}")]
    Hub(u16, Option<u64>),
    /// The full state is not kept.
    #[error("there is no such full state any more: ask without `state` and `part`")]
    Gone,
    /// The relay stops, or a newer request of the same follower has come.
    #[error("the request has ended")]
    Ended,
}

impl RelayFeed {
    /// The feed `name` with what was read from disk. `loaders` followers may load a full state at once.
    pub fn new(
        name: &str,
        line: Option<Line>,
        passed: Passed,
        (followers, loaders): (Arc<Followers>, usize),
        now: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> RelayFeed {
        let head = line.as_ref().map_or(Revision::START, |line| line.head().0);
        RelayFeed {
            name: name.to_owned(),
            followers,
            passed,
            wants_state: AtomicBool::new(false),
            served: Served::default(),
            now,
            line: Mutex::new(line),
            loading: FullStates::new(loaders),
            asked: Mutex::default(),
            answered: AtomicU64::new(0),
            news: watch::Sender::new(News { head, closing: false }),
        }
    }

    /// The clock, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        (self.now)()
    }

    /// What is held; `None`: nothing yet.
    pub fn line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head, and `at` of the last statement.
    pub fn head(&self) -> Option<(Revision, u64)> {
        self.line().as_ref().map(Line::head)
    }

    /// The hub has answered with a page.
    pub fn note_answer(&self) {
        self.answered.store(self.now(), Ordering::Relaxed);
    }

    /// Whether the hub has answered lately.
    pub fn is_connected(&self) -> bool {
        self.now().saturating_sub(self.answered.load(Ordering::Relaxed)) <= CONNECTED
    }

    /// Wakes those that wait for a new head.
    pub fn publish(&self) {
        let head = self.head().map_or(Revision::START, |(head, _)| head);
        self.news.send_if_modified(|news| std::mem::replace(&mut news.head, head) != head);
    }

    /// Answers all who wait, now and from now on: the relay stops.
    pub fn close(&self) {
        self.news.send_if_modified(|news| !std::mem::replace(&mut news.closing, true));
    }

    /// Forgets loaders that are silent, and these followers.
    pub fn expire(&self, gone: &[String]) {
        self.loading.expire();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        gone.iter().for_each(|id| _ = asked.remove(id.as_str()));
    }

    /// Whether the follower had a page after `after` as its last one already.
    fn asked_twice(&self, id: &str, after: Revision) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into(), after) == Some(after)
    }

    /// The page for a follower.
    pub async fn page(&self, request: PageRequest, polling: &Polling) -> Result<PageBody, NotNow> {
        self.followers.acknowledge(polling.id(), request.applied, |_| None);
        let kept = self.find(&request, polling).await?;
        self.followers.sent(polling.id(), kept.statement.upto, kept.statement.head, kept.statement.at);
        let length = u64::try_from(kept.bytes.len()).unwrap_or(u64::MAX);
        self.served.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(kept.body())
    }

    async fn find(&self, request: &PageRequest, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        if request.format != FORMAT {
            return self.pass(Question::of(request)).await.map_err(NotNow::from);
        }
        if let Some((revision, part)) = request.part {
            return self.part(request, (revision, part), polling).await;
        }
        let arrived = Instant::now();
        loop {
            // Dropped before it waits.
            let look = self.line().as_ref().map(|line| line.look(request.after));
            match look {
                None => return Err(NotNow::Starting),
                Some(Look::Start) => return self.first_part(polling),
                Some(Look::Page(page)) => return self.next(page, request, polling).await,
                Some(Look::Head) if request.nonce.is_some() => return self.with_nonce(request, polling).await,
                Some(Look::Head) => {
                    if !self.wait(request.after, later(arrived, request.wait), polling).await? {
                        return self.newest(request, polling).await;
                    }
                }
                Some(Look::Ahead) => {
                    if !self.wait_for(request.after.number, later(arrived, AHEAD), polling).await? {
                        return self.elsewhere(request, polling).await;
                    }
                }
                // The hub has another epoch than the follower, as this relay has just heard.
                Some(Look::OtherEpoch) if self.is_connected() => return self.first_part(polling),
                Some(Look::OtherEpoch | Look::Unknown) => return self.elsewhere(request, polling).await,
            }
        }
    }

    /// A page that the relay holds, unless the follower would not take it: a statement before its last one.
    async fn next(&self, page: Arc<Kept>, request: &PageRequest, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        let is_old = self.followers.last_statement(polling.id()) > Some(page.statement.at);
        // Whoever asks twice for the same did not take it: its last statement may be of another relay.
        let is_no_use = self.asked_twice(polling.id(), request.after) || is_old;
        if is_no_use && let Ok(page) = self.pass(Question::of(request)).await {
            return Ok(page);
        }
        Ok(self.own(page))
    }

    /// Whoever has everything and sends a nonce wants to hear from the hub that this is everything.
    async fn with_nonce(&self, request: &PageRequest, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        match self.pass(Question::of(request)).await {
            Ok(page) => Ok(page),
            Err(NoPage::Status(status @ (429 | 503), pause)) => Err(NotNow::Hub(status, pause)),
            Err(NoPage::Busy) => Err(NotNow::Busy),
            // The filter knows whether it takes a statement without its nonce.
            Err(_) => {
                self.served.without_nonce.fetch_add(1, Ordering::Relaxed);
                self.newest(request, polling).await
            }
        }
    }

    /// The last statement about the head, where the follower is.
    async fn newest(&self, request: &PageRequest, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        let deadline = later(Instant::now(), NEWER);
        let last = self.followers.last_statement(polling.id());
        loop {
            let (look, heartbeat) = match &*self.line() {
                Some(line) => (line.look(request.after), line.heartbeat()),
                None => return Err(NotNow::Starting),
            };
            match (look, heartbeat) {
                (Look::Page(page), _) => return Ok(self.own(page)),
                (Look::Head, Some(page)) if last <= Some(page.statement.at) => return Ok(self.own(page)),
                (Look::Head, _) if Instant::now() < deadline && !self.news.borrow().closing => sleep(LOOK).await,
                (Look::Head, None) => return Err(NotNow::Upstream),
                (Look::Head, Some(page)) => return Ok(self.own(page)),
                _ => return Err(NotNow::Upstream),
            }
        }
    }

    /// No page begins where the follower is: the hub is asked. While it does not answer, the follower gets a full state,
    /// if that leads further than it is.
    async fn elsewhere(&self, request: &PageRequest, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        let failed = match self.pass(Question::of(request)).await {
            Ok(page) => return Ok(page),
            Err(failed) => failed,
        };
        if let NoPage::Status(status @ (429 | 503), pause) = failed {
            return Err(NotNow::Hub(status, pause));
        }
        let leads_on = self
            .head()
            .is_some_and(|(head, _)| head.epoch == request.after.epoch && head.number >= request.after.number);
        if leads_on { self.first_part(polling) } else { Err(failed.into()) }
    }

    /// Part 0 of the newest full state. It has no nonce: the follower asks for that when it has everything.
    fn first_part(&self, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        let state = self.line().as_ref().and_then(Line::state).ok_or(NotNow::Starting)?;
        self.wants_state.store(true, Ordering::Relaxed);
        self.part_of(&state, 0, polling)
    }

    async fn part(
        &self,
        request: &PageRequest,
        (revision, part): (Revision, u32),
        polling: &Polling,
    ) -> Result<Arc<Kept>, NotNow> {
        let state = self.line().as_ref().and_then(|line| line.state_of(revision));
        match state {
            Some(state) => self.part_of(&state, part, polling),
            // Part 0 came from the hub, because it knew another history than this relay.
            None => self.pass(Question::of(request)).await.map_err(|error| match error {
                NoPage::Status(503 | 429, _) => error.into(),
                _ => NotNow::Gone,
            }),
        }
    }

    fn part_of(&self, state: &State, part: u32, polling: &Polling) -> Result<Arc<Kept>, NotNow> {
        let index = usize::try_from(part).map_err(|_| NotNow::Gone)?;
        let page = state.parts.get(index).ok_or(NotNow::Gone)?;
        if state.parts.len() > 1 {
            if !self.loading.may_read(polling.of()) {
                return Err(NotNow::Busy);
            }
            if index.saturating_add(1) == state.parts.len() {
                self.loading.done(polling.id());
            }
        }
        Ok(self.own(page.clone()))
    }

    fn own(&self, page: Arc<Kept>) -> Arc<Kept> {
        self.served.own.fetch_add(1, Ordering::Relaxed);
        page
    }

    /// Asks the hub. While it has not answered for some seconds, nobody waits for it here: what follows it asks again and
    /// again.
    async fn pass(&self, question: Question) -> Result<Arc<Kept>, NoPage> {
        if !self.is_connected() {
            return Err(NoPage::NoAnswer("it has not answered for some seconds".to_owned()));
        }
        let page = self.passed.ask(&self.name, question).await;
        if page.is_ok() {
            self.served.passed.fetch_add(1, Ordering::Relaxed);
        }
        page
    }

    /// Waits until the head is another one than `from`. `false`: it is late.
    async fn wait(&self, from: Revision, deadline: Instant, polling: &Polling) -> Result<bool, NotNow> {
        self.wait_until(|news| news.head != from, deadline, polling).await
    }

    /// Waits until the head has the entry `number`. `false`: it is late.
    async fn wait_for(&self, number: u64, deadline: Instant, polling: &Polling) -> Result<bool, NotNow> {
        self.wait_until(|news| news.head.number >= number, deadline, polling).await
    }

    async fn wait_until(
        &self,
        reached: impl Fn(&News) -> bool,
        deadline: Instant,
        polling: &Polling,
    ) -> Result<bool, NotNow> {
        let mut news = self.news.subscribe();
        loop {
            let now = *news.borrow_and_update();
            if reached(&now) {
                return Ok(true);
            }
            // The last word goes out before the relay stops.
            if now.closing {
                return Ok(false);
            }
            tokio::select! {
                changed = timeout_at(deadline, news.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Ok(false),
                },
                () = polling.replaced() => return Err(NotNow::Ended),
            }
        }
    }
}

/// A moment `wait` after `from`.
fn later(from: Instant, wait: Duration) -> Instant {
    from.checked_add(wait).unwrap_or(from)
}

impl From<NoPage> for NotNow {
    fn from(error: NoPage) -> NotNow {
        match error {
            NoPage::Busy => NotNow::Busy,
            NoPage::Status(status, pause) => NotNow::Hub(status, pause),
            NoPage::NoAnswer(_) | NoPage::CutOff(_) | NoPage::Page(_) | NoPage::Long => NotNow::Upstream,
        }
    }
}
