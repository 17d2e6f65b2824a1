//! How a VM follows a feed: what it asks the hub, and what it does with the answers.
//!
//! At each tick the VM takes or renews the lease. Only the holder asks. It has one request at a time, and applies one page
//! at a time; while it applies a page that the head does not end, it asks for the next one.

use crate::feed::apply::{Applied, Work};
use crate::feed::entry::FORMAT;
use crate::feed::failure::{Failure, Told};
use crate::feed::lease;
use crate::feed::page::Page;
use crate::feed::position::{self, Position};
use crate::feed::report::Condition;
use crate::feed::revision::Revision;
use crate::feed::rule::{Rule, keeps};
use crate::jose::signature::CheckSignature;
use crate::signal::hub_source::HubSource;
use crate::state::coverage::NotReady;
use crate::state::store::{Slot, Store, StoreError};
use crate::state::view::feeds;
use crate::time::Timestamp;
use std::fmt::Write as _;

/// How often [`Follower::tick`] is to be called, in milliseconds.
pub const TICK: u32 = 500;

/// The longest time that a hub holds a request, in seconds.
const MAX_WAIT: u64 = 25;

/// A call takes at most this many seconds longer than the hub may hold the request.
const GRACE: u64 = 5;

/// The pauses after failures, in milliseconds: the shortest and the longest.
const BACK_OFF: (u64, u64) = (200, 5_000);

/// The longest time that the hub may ask for by `retry-after`, in seconds.
const MAX_RETRY_AFTER: u64 = 60;

/// No request is due later than this many milliseconds from now: [`MAX_RETRY_AFTER`] and what is added to it.
const LONGEST_PAUSE: u64 = 75_000;

/// A page without entries is followed by the next request after this many milliseconds at the least.
const PACE: u64 = 500;

/// What a follower needs in each call.
#[derive(Debug)]
pub struct Host<'h, S, C> {
    /// The hub.
    pub source: &'h HubSource,
    /// The shared memory.
    pub store: &'h mut S,
    /// What checks signatures.
    pub signatures: &'h mut C,
    /// The time in milliseconds since 1970.
    pub now: u64,
    /// A random number.
    pub random: u64,
}

/// One VM that follows a feed under one configuration.
#[derive(Debug)]
pub struct Follower {
    /// This VM among those that could hold the lease. Not 0.
    me: u64,
    holds: bool,
    call: Option<Call>,
    work: Option<Work>,
    /// A page that came while another one was being applied.
    came: Option<Vec<u8>>,
    /// Whether the part of a full state that is applied, or was applied last, is not the last one.
    expects_part: bool,
    /// Whether only a full state helps.
    from_start: bool,
    /// Failures since the last page that was applied.
    failures: u32,
    /// The next request goes out at this time at the earliest.
    next: u64,
    /// The lease is left to others until this time.
    abstains_until: u64,
    told: Told,
    /// Whether the log was told of a page that was applied, and of no failure since.
    connected: bool,
    condition: Condition,
    lacking: Vec<usize>,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy)]
struct Call {
    sent: u64,
    /// Without an answer by then, it is forgotten.
    ends: u64,
}

/// A request to send to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `:path`.
    pub path: String,
    /// The call is given up after this many seconds.
    pub timeout: u64,
    /// The position, for the report.
    pub position: Position,
    /// For the report.
    pub condition: Condition,
}

/// What the hub answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200 with a body.
    Page(Vec<u8>),
    /// Another status, and the seconds of `retry-after` (RFC 9110 §10.2.3).
    Refused(u16, Option<u64>),
    /// The call ended without an answer, or could not be made.
    None,
    /// The proxy has no such cluster.
    ClusterMissing,
}

/// What the caller is to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Todo {
    /// Send this request, and hand its answer to [`Follower::answer`].
    pub send: Option<Request>,
    /// Call [`Follower::step`] soon, from a callback of its own.
    pub step: bool,
    /// What to count and to log.
    pub events: Vec<Event>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This VM took the lease.
    TookLease,
    /// The first page after the start or after failures was applied.
    Connected,
    /// A page was applied: wake the streams.
    Applied(Box<Applied>),
    /// The proxy has caught up: after this many milliseconds, with this many entries.
    CaughtUp {
        /// Since the proxy began to follow the feed.
        milliseconds: u64,
        /// The entries that were applied.
        entries: u64,
    },
    /// The feed does not cover these issuers of the configuration any more or yet; none: it covers all.
    Lacking(Vec<usize>),
    /// An answer was of no use.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether to log it: how many failures there were since the last one that was logged.
        log: Option<u32>,
    },
}

/// Creates the shared records of `source`. `random` must not repeat; `now` is the time in milliseconds. It must run while
/// nobody else can write: while a configuration is loaded. Nothing is asked here.
pub fn set_up(store: &mut impl Store, source: &HubSource, random: [u8; 32], now: u64) -> Result<(), StoreError> {
    position::set_up(store, source.id, random, now)?;
    lease::set_up(store, slot(source))
}

fn slot(source: &HubSource) -> Slot {
    Slot::FeedLease(source.id, source.keys_hash)
}

impl Follower {
    /// A follower that has asked for nothing yet. `me` tells this VM from all others.
    pub fn new(me: u64) -> Follower {
        Follower {
            me: me.max(1),
            holds: false,
            call: None,
            work: None,
            came: None,
            expects_part: false,
            from_start: false,
            failures: 0,
            next: 0,
            abstains_until: 0,
            told: Told::default(),
            connected: false,
            condition: Condition::default(),
            lacking: Vec::new(),
        }
    }

    /// Whether this VM held the lease when it last looked.
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Whether a full state is being applied. That is much work: the caller leaves pauses between the steps.
    pub fn applies_full_state(&self) -> bool {
        self.expects_part || self.work.as_ref().is_some_and(|work| work.statement().part.is_some())
    }

    /// Gives up the lease and what is under way: another configuration in this VM follows the feed now.
    pub fn stop(&mut self, host: &mut Host<'_, impl Store, impl CheckSignature>) {
        if self.holds {
            // If it cannot be given up, it ends by itself.
            let _ = lease::give_up(host.store, slot(host.source), self.me);
            self.let_go();
        }
    }

    /// Renews the lease, and asks for the next page where that is due.
    pub fn tick(&mut self, host: &mut Host<'_, impl Store, impl CheckSignature>) -> Todo {
        let mut todo = Todo::default();
        if !self.take_lease(host, &mut todo) {
            return todo;
        }
        if self.call.is_some_and(|call| call.ends <= host.now) {
            self.call = None;
            self.fail(host, Failure::NoAnswer, &mut todo);
        }
        // The wake-up of the queue may have been lost.
        todo.step = self.work.is_some() || self.came.is_some();
        if !todo.step {
            self.ask(host, &mut todo);
        }
        todo
    }

    /// Takes an answer to the request that is under way. `has_time` says whether this callback may go on.
    pub fn answer(
        &mut self,
        host: &mut Host<'_, impl Store, impl CheckSignature>,
        answer: Answer,
        has_time: impl FnMut() -> bool,
    ) -> Todo {
        let mut todo = Todo::default();
        let Some(call) = self.call.take() else { return todo };
        if !self.take_lease(host, &mut todo) {
            return todo;
        }
        match answer {
            Answer::Page(body) if self.work.is_some() || self.came.is_some() => {
                self.came = Some(body);
                todo.step = true;
            }
            Answer::Page(body) => self.begin(host, &body, call.sent, has_time, &mut todo),
            Answer::Refused(status @ (401 | 403), _) => self.fail(host, Failure::CutOff(status), &mut todo),
            Answer::Refused(status, retry_after) => {
                // The hub may have dropped the full state whose part was asked for.
                self.from_start |= matches!(status, 404 | 409 | 410);
                self.fail(host, Failure::Status(status), &mut todo);
                if let (429 | 503, Some(seconds)) = (status, retry_after) {
                    self.next = self.next.max(not_before(host, seconds));
                }
            }
            Answer::None => self.fail(host, Failure::NoAnswer, &mut todo),
            Answer::ClusterMissing => self.fail(host, Failure::ClusterMissing, &mut todo),
        }
        todo
    }

    /// Goes on with the page that is being applied, as long as `has_time` says.
    pub fn step(
        &mut self,
        host: &mut Host<'_, impl Store, impl CheckSignature>,
        mut has_time: impl FnMut() -> bool,
    ) -> Todo {
        let mut todo = Todo::default();
        let had_work = self.work.is_some();
        self.work_on(host, &mut has_time, &mut todo);
        if self.work.is_some() || self.came.is_none() {
            return todo;
        }
        // To verify a page takes long too. A callback that has done something else leaves it to the next one.
        if had_work && !has_time() {
            todo.step = true;
        } else if let Some(body) = self.came.take() {
            self.begin(host, &body, host.now, has_time, &mut todo);
        }
        todo
    }

    fn take_lease(&mut self, host: &mut Host<'_, impl Store, impl CheckSignature>, todo: &mut Todo) -> bool {
        if host.now < self.abstains_until && self.abstains_until <= host.now.saturating_add(lease::ABSTAIN) {
            return false;
        }
        match lease::take(host.store, slot(host.source), self.me, host.now) {
            Ok(true) => {
                if !self.holds {
                    self.holds = true;
                    self.next = host.now;
                    todo.events.push(Event::TookLease);
                }
                true
            }
            Ok(false) => {
                self.let_go();
                false
            }
            Err(error) => {
                self.let_go();
                self.count(host.now, Failure::Store(error), todo);
                false
            }
        }
    }

    /// Forgets what is under way: whoever holds the lease begins at the stored position.
    fn let_go(&mut self) {
        (self.holds, self.connected, self.from_start) = (false, false, false);
        (self.call, self.work, self.came, self.expects_part) = (None, None, None, false);
    }

    /// Verifies the page `body`, and begins to apply it.
    fn begin(
        &mut self,
        host: &mut Host<'_, impl Store, impl CheckSignature>,
        body: &[u8],
        sent: u64,
        mut has_time: impl FnMut() -> bool,
        todo: &mut Todo,
    ) {
        let HubSource { hub, feed, keys, id, .. } = host.source;
        let page = match Page::verify(body, (hub, feed), keys, host.signatures) {
            Ok(page) => page,
            Err(error) => return self.abstain(host, error.into(), todo),
        };
        let position = match position::read(host.store, *id) {
            Ok(position) => position,
            Err(error) => return self.fail(host, error.into(), todo),
        };
        let at = page.statement().at;
        self.condition.skew_ms =
            i64::try_from(host.now).unwrap_or_default().saturating_sub(i64::try_from(at).unwrap_or_default());
        if let Err(refused) = position.examine(page.statement(), host.now) {
            self.from_start |= refused.needs_full_state();
            return self.fail(host, refused.into(), todo);
        }
        let is_empty = page.entries().is_empty() && page.statement().part.is_none();
        self.next = if is_empty { sent.saturating_add(PACE).max(host.now) } else { host.now };
        self.from_start = false;
        let vouched = host.source.vouches(at, host.now);
        let work = Work::new(page, position.clone(), vouched);
        let (statement, target) = (work.statement(), work.target());
        self.expects_part = target.full.is_some();
        let has_more = self.expects_part || target.applied.number < statement.head;
        self.work = Some(work);
        self.work_on(host, &mut has_time, todo);
        if self.work.is_some() && self.call.is_none() && has_more {
            self.send(host, &target, position.applied, todo);
        }
    }

    fn work_on(
        &mut self,
        host: &mut Host<'_, impl Store, impl CheckSignature>,
        has_time: &mut impl FnMut() -> bool,
        todo: &mut Todo,
    ) {
        let Some(work) = &mut self.work else { return };
        match work.step(host.store, host.source.id, Timestamp(host.now / 1_000), has_time) {
            Ok(None) => todo.step = true,
            Ok(Some(applied)) => {
                self.work = None;
                self.applied(host, applied, todo);
                if self.came.is_none() {
                    self.ask(host, todo);
                }
            }
            Err(error) => {
                // What was asked for comes after the page that was not applied.
                (self.work, self.came, self.call) = (None, None, None);
                self.fail(host, error.into(), todo);
            }
        }
    }

    fn applied(&mut self, host: &mut Host<'_, impl Store, impl CheckSignature>, applied: Applied, todo: &mut Todo) {
        self.failures = 0;
        self.condition.saturated = self.condition.saturated.saturating_add(applied.counted.saturated);
        if !self.connected {
            self.connected = true;
            todo.events.push(Event::Connected);
        }
        let Position { started, entries, caught_up, .. } = applied.after;
        if caught_up && !applied.before.caught_up {
            todo.events.push(Event::CaughtUp { milliseconds: host.now.saturating_sub(started), entries });
        }
        todo.events.push(Event::Applied(Box::new(applied)));
        if caught_up && let Ok(feeds) = feeds(host.store) {
            let HubSource { id, needed, .. } = host.source;
            let lacks = |issuer: &_| feeds.check(*id, issuer) == Err(NotReady::NotCovered);
            let lacking: Vec<_> = (0..).zip(needed).filter(|(_, issuer)| lacks(issuer)).map(|(at, _)| at).collect();
            if lacking != self.lacking {
                self.lacking.clone_from(&lacking);
                todo.events.push(Event::Lacking(lacking));
            }
        }
    }

    /// Asks for the next page, if none is asked for and a request is due.
    fn ask(&mut self, host: &mut Host<'_, impl Store, impl CheckSignature>, todo: &mut Todo) {
        // A time far ahead was set before the clock was set back.
        let is_due = self.next <= host.now || self.next > host.now.saturating_add(LONGEST_PAUSE);
        if self.call.is_some() || !is_due {
            return;
        }
        match position::read(host.store, host.source.id) {
            Ok(position) => self.send(host, &position, position.applied, todo),
            Err(error) => self.fail(host, error.into(), todo),
        }
    }

    /// Asks for what comes after `from`, where everything up to `applied` is applied.
    fn send(
        &mut self,
        host: &Host<'_, impl Store, impl CheckSignature>,
        from: &Position,
        applied: Revision,
        todo: &mut Todo,
    ) {
        let wait = wait(host.source, host.random);
        let after = if self.from_start { Revision::START } else { from.applied };
        let applied = if keeps(Rule::Acknowledge) { applied } else { after };
        let mut path = format!("{}?after={after}&applied={applied}&wait={wait}&format={FORMAT}", host.source.path);
        // Writing to a string does not fail.
        if from.needs_nonce() {
            let _ = write!(path, "&nonce={}", from.nonce_text());
        }
        if let Some(full) = from.full.filter(|_| !self.from_start) {
            let _ = write!(path, "&state={}&part={}", full.revision, full.next);
        }
        let timeout = wait.saturating_add(GRACE);
        let ends = host.now.saturating_add(timeout.saturating_add(GRACE).saturating_mul(1_000));
        self.call = Some(Call { sent: host.now, ends });
        todo.send = Some(Request { path, timeout, position: from.clone(), condition: self.condition });
    }

    /// Leaves the lease to others: this VM cannot verify what the hub says.
    fn abstain(&mut self, host: &mut Host<'_, impl Store, impl CheckSignature>, failure: Failure, todo: &mut Todo) {
        self.abstains_until = host.now.saturating_add(lease::ABSTAIN);
        // If it cannot be given up, it ends by itself.
        let _ = lease::give_up(host.store, slot(host.source), self.me);
        self.let_go();
        self.count(host.now, failure, todo);
    }

    fn fail(&mut self, host: &Host<'_, impl Store, impl CheckSignature>, failure: Failure, todo: &mut Todo) {
        let (shortest, longest) = BACK_OFF;
        let bound = shortest.checked_shl(self.failures.min(10).saturating_add(1)).unwrap_or(longest).min(longest);
        let more = host.random.checked_rem(bound.saturating_sub(shortest).saturating_add(1)).unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        self.expects_part = false;
        self.next = host.now.saturating_add(shortest).saturating_add(more);
        self.count(host.now, failure, todo);
    }

    fn count(&mut self, now: u64, failure: Failure, todo: &mut Todo) {
        let log = self.told.count(failure.number(), now);
        self.connected &= log.is_none();
        todo.events.push(Event::Failed { failure, log });
    }
}

/// When the next request may go out, in milliseconds, where the hub asks for a pause of so many seconds: later by at most a
/// quarter, so that not all proxies come back at once. A pause that would let the state become too old is cut short.
fn not_before(host: &Host<'_, impl Store, impl CheckSignature>, seconds: u64) -> u64 {
    let third = host.source.closes_after.map_or(MAX_RETRY_AFTER, |span| span.0 / 3);
    let pause = seconds.min(third).min(MAX_RETRY_AFTER).saturating_mul(1_000);
    let more = host.random.checked_rem((pause / 4).saturating_add(1)).unwrap_or_default();
    host.now.saturating_add(pause).saturating_add(more)
}

/// How long the hub may hold a request, in seconds: less a random part of at most a fifth, so that not all proxies ask at
/// once.
fn wait(source: &HubSource, random: u64) -> u64 {
    let third = source.closes_after.map_or(MAX_WAIT, |span| span.0 / 3);
    let longest = MAX_WAIT.min(source.wait.0).min(third).max(1);
    let less = random.checked_rem((longest / 5).saturating_add(1)).unwrap_or_default();
    longest.saturating_sub(less)
}
