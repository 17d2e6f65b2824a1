//! Follows the feed of a hub: the calls of this VM, its steps, and what the log says.
//!
//! What is asked and what is done with the answers is decided in `taskfence_core::feed::follower`; this file moves the bytes.
//! Nothing is asked while a configuration is loaded: the first VM that is configured is thrown away. All that happens begins
//! with a tick.

use crate::clock::milliseconds;
use crate::feed_metrics::FeedMetrics;
use crate::host::{self, BufferType, HostError, MapType};
use crate::ports::{EnvoySignatures, SharedData};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;
use taskfence_core::decision::judge::Judge;
use taskfence_core::feed::failure::Told;
use taskfence_core::feed::follower::{self, Answer, Event, Follower, Host, Request, Todo};
use taskfence_core::feed::page::MEDIA_TYPE;
use taskfence_core::feed::position;
use taskfence_core::feed::report::{self, Closing, Proxy};
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::hub_source::HubSource;
use taskfence_core::state::coverage::FeedId;

pub use taskfence_core::feed::follower::TICK;

/// One step of applying changes takes this many nanoseconds, and a little more. The next one follows at once.
const STEP: u64 = 2_000_000;

/// One step of applying a full state takes this many nanoseconds, and a little more: a third of the time with its pause.
const SHORT_STEP: u64 = 500_000;

/// Between two steps of applying a full state the thread is left to requests for this many milliseconds.
const PAUSE: u32 = 1;

/// Envoy hands over answers of 1 MiB by default.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

thread_local! {
    // A VM has one thread. The followers of this VM, each while its plugin lives, the newest last.
    static FOLLOWERS: RefCell<Vec<Following>> = const { RefCell::new(Vec::new()) };
}

/// A plugin that follows a feed.
struct Following {
    feed: FeedId,
    closing: Closing,
    /// Dropped with the plugin.
    alive: Weak<()>,
}

/// What one plugin in one VM does about its feed.
#[derive(Debug)]
pub struct FeedFollower {
    follower: RefCell<Follower>,
    /// The number of the call that is under way.
    call: Cell<Option<u32>>,
    /// What calls this VM again, for the next step.
    queue: Cell<Option<u32>>,
    /// The time between two ticks when there is nothing to apply, in milliseconds.
    tick: Cell<u32>,
    /// Whether ticks come with [`PAUSE`] between them, each for a step.
    is_paced: Cell<bool>,
    /// When the last tick was that was one of the plugin, in nanoseconds since 1970.
    ticked: Cell<u64>,
    /// Whether a page was applied since [`FeedFollower::take_changed`].
    changed: Cell<bool>,
    told: RefCell<Told>,
    /// Dropped with the plugin.
    alive: Rc<()>,
    proxy: Proxy,
    metrics: FeedMetrics,
}

impl FeedFollower {
    /// For a plugin with that policy; `None` where it names no hub. Creates the shared records, but asks for nothing.
    pub fn new(policy: &Policy) -> Result<Option<FeedFollower>, String> {
        let Some(source) = policy.signals().hub() else { return Ok(None) };
        let (mut names, mut me) = ([0; 32], [0; 8]);
        getrandom::fill(&mut names).and_then(|()| getrandom::fill(&mut me)).map_err(|error| error.to_string())?;
        let now = milliseconds().ok_or("the proxy gave no time")?;
        follower::set_up(&mut SharedData, source, names, now).map_err(|error| error.to_string())?;
        let node = host::property(b"xds\0node\0id").unwrap_or_default();
        let proxy =
            Proxy { node: String::from_utf8_lossy(&node).into_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        Ok(Some(FeedFollower {
            follower: RefCell::new(Follower::new(u64::from_le_bytes(me))),
            call: Cell::new(None),
            queue: Cell::new(None),
            tick: Cell::new(TICK),
            is_paced: Cell::new(false),
            ticked: Cell::new(0),
            changed: Cell::new(false),
            told: RefCell::default(),
            alive: Rc::default(),
            proxy,
            metrics: FeedMetrics::define(&source.feed),
        }))
    }

    /// Does something with the follower, and then what that asks for.
    fn run(&self, judge: &RefCell<Judge>, action: impl FnOnce(&mut Follower, &mut EnvoyHost<'_>) -> Todo) {
        let Ok(judge) = judge.try_borrow() else { return };
        let (Some(source), Some(now)) = (judge.policy().signals().hub(), milliseconds()) else { return };
        let Ok(mut follower) = self.follower.try_borrow_mut() else { return };
        let (store, signatures) = (&mut SharedData, &mut EnvoySignatures);
        let mut host = Host { source, store, signatures, now, random: random() };
        let mut todo = action(&mut follower, &mut host);
        for event in todo.events.drain(..) {
            self.handle(event, judge.policy(), source);
        }
        if let Some(answer) = todo.send.take().and_then(|request| self.send(source, &request).err()) {
            // The answer is a failure, so it asks for nothing but what is to be counted.
            let failed = follower.answer(&mut host, answer, || false);
            failed.events.into_iter().for_each(|event| self.handle(event, judge.policy(), source));
        }
        // The steps of a full state are ticks. Where they are to end, the queue is called, since it may change the period.
        let calls = match self.is_paced.get() {
            true => !follower.applies_full_state() && follower.holds(),
            false => todo.step,
        };
        if calls {
            // Where that fails, the next tick goes on.
            let _ = self.queue.get().map(|queue| host::enqueue(queue, &[1]));
        }
    }

    /// Makes ticks come with short pauses while a full state is applied, and as usual otherwise. A tick must not call this:
    /// Envoy would destroy the timer that runs.
    fn set_pace(&self) {
        let Ok(follower) = self.follower.try_borrow() else { return };
        let wanted = follower.applies_full_state();
        let period = if wanted { PAUSE } else { self.tick.get() };
        if self.is_paced.get() != wanted && host::set_tick_period(period).is_ok() {
            self.is_paced.set(wanted);
        }
    }

    /// The plugin is to be called by ticks of this period, in milliseconds, unless a full state is applied.
    pub fn set_tick(&self, period: u32) {
        self.tick.set(period);
    }

    /// Takes a tick that is there for a step. `false`: it is one of the plugin, and nothing was done.
    pub fn take_tick(&self, judge: &RefCell<Judge>) -> bool {
        let (now, usual) =
            (host::now_nanoseconds().unwrap_or_default(), u64::from(self.tick.get()).saturating_mul(1_000_000));
        // After a clock was set back it is one of the plugin.
        let is_early = now.checked_sub(self.ticked.get()).is_some_and(|passed| passed < usual);
        if !self.is_paced.get() || !is_early {
            self.ticked.set(now);
            return false;
        }
        self.step(judge);
        true
    }

    fn step(&self, judge: &RefCell<Judge>) {
        self.run(judge, |follower, host| follower.step(host, self.time_for_a_step()));
    }

    /// Sends a request. Fails with what to tell the follower.
    fn send(&self, source: &HubSource, request: &Request) -> Result<(), Answer> {
        let own = Closing { is_shadow: false, after: source.closes_after };
        let closing = FOLLOWERS.with_borrow(|followers| {
            let of_feed = followers.iter().filter(|one| one.feed == source.id && one.alive.strong_count() > 0);
            of_feed.fold(own, |all, one| all.and(one.closing))
        });
        let report = report::report(source, &self.proxy, closing, &request.position, request.condition);
        let mut more = vec![(report::HEADER, report.as_str())];
        more.extend(source.authorization.as_ref().map(|secret| ("authorization", secret.reveal())));
        let timeout = Duration::from_secs(request.timeout);
        let call = host::call(&source.cluster, "GET", &source.host, &request.path, MEDIA_TYPE, &more, timeout);
        self.call.set(call.ok());
        match call {
            Ok(_) => Ok(()),
            Err(HostError::BadArgument) => Err(Answer::ClusterMissing),
            Err(HostError::NotFound | HostError::CasMismatch | HostError::Other(_)) => Err(Answer::None),
        }
    }

    /// Whether the log is to be told of entries that were dropped, and of how many pages with such.
    fn count_dropped(&self) -> Option<u32> {
        self.told.try_borrow_mut().ok()?.count(0, milliseconds().unwrap_or_default())
    }

    fn handle(&self, event: Event, policy: &Policy, source: &HubSource) {
        let HubSource { hub, feed, cluster, .. } = source;
        match event {
            // The VM that opened the queue last is called: only the holder of the lease opens it.
            Event::TookLease => self.queue.set(host::register_queue(&queue_name(source)).ok()),
            Event::Connected => log::info!("feed `{feed}` of hub `{hub}`: connected through cluster `{cluster}`"),
            Event::Applied(applied) => {
                self.metrics.applied(applied.counted);
                let dropped = applied.counted.dropped > 0;
                if dropped && let Some(times) = self.count_dropped() {
                    log::warn!(
                        "feed `{feed}` of hub `{hub}`: dropped {} entries, about issuers that the feed does not cover or \
                         of a kind that this version does not know ({times} times)",
                        applied.counted.dropped
                    );
                }
                self.changed.set(true);
            }
            Event::CaughtUp { milliseconds, entries } => {
                log::info!("feed `{feed}` of hub `{hub}`: caught up: {entries} entries in {milliseconds} ms");
            }
            Event::Lacking(issuers) if issuers.is_empty() => {
                log::info!("feed `{feed}` of hub `{hub}`: the feed covers every issuer of this configuration");
            }
            Event::Lacking(issuers) => {
                for issuer in issuers.into_iter().filter_map(|at| policy.issuers().get(at)) {
                    log::error!(
                        "feed `{feed}` of hub `{hub}`: the feed does not cover issuer `{}`, or covers it with other claim \
                         names or shorter spans: its tokens are refused; give the hub the same `issuers`",
                        issuer.name
                    );
                }
            }
            Event::Failed { failure, log } => {
                self.metrics.failed(&failure);
                if let Some(times) = log {
                    let level = if failure.is_lasting() { log::Level::Error } else { log::Level::Warn };
                    log::log!(level, "feed `{feed}` of hub `{hub}`: {failure} ({times} times)");
                }
            }
        }
    }

    /// Takes a configured plugin in: from now on it follows its feed, and older configurations in this VM stop to.
    pub fn configure(&self, judge: &RefCell<Judge>) {
        let Ok(judge) = judge.try_borrow() else { return };
        if let Some((source, closing)) = judge.policy().signals().hub().zip(Closing::of(judge.policy())) {
            FOLLOWERS.with_borrow_mut(|followers| {
                followers.retain(|one| one.alive.strong_count() > 0);
                followers.push(Following { feed: source.id, closing, alive: Rc::downgrade(&self.alive) });
            });
        }
    }

    /// Renews the lease, asks for what is due, and shows the position.
    pub fn on_tick(&self, judge: &RefCell<Judge>) {
        if !self.is_newest() {
            self.run(judge, |follower, host| {
                follower.stop(host);
                Todo::default()
            });
            return;
        }
        self.run(judge, |follower, host| {
            if let Ok(position) = position::read(host.store, host.source.id) {
                self.metrics.show(&position, host.now);
            }
            follower.tick(host)
        });
        // A wake-up that got lost is made up for here.
        self.step(judge);
    }

    /// A call was answered; `answered` is false when it ended without. `false`: it is not a call to the hub.
    pub fn on_call_response(&self, judge: &RefCell<Judge>, call: u32, answered: bool, body_size: usize) -> bool {
        if self.call.get() != Some(call) {
            return false;
        }
        self.call.set(None);
        let answer = if answered { read_answer(body_size) } else { Answer::None };
        self.run(judge, |follower, host| follower.answer(host, answer, self.time_for_a_step()));
        // A call that fails at once ends here while the tick that made it still runs.
        if answered {
            self.set_pace();
        }
        true
    }

    /// Goes on with a page. `false`: the queue is another one.
    pub fn on_queue_ready(&self, judge: &RefCell<Judge>, queue: u32) -> bool {
        if self.queue.get() != Some(queue) {
            return false;
        }
        // One step serves all that was written so far.
        while let Ok(Some(_)) = host::dequeue(queue) {}
        self.set_pace();
        if !self.is_paced.get() {
            self.step(judge);
            self.set_pace();
        }
        true
    }

    /// Says whether a step that begins now may go on.
    fn time_for_a_step(&self) -> impl FnMut() -> bool + use<> {
        let (began, length) = (host::now_nanoseconds(), if self.is_paced.get() { SHORT_STEP } else { STEP });
        move || {
            #[cfg(feature = "crash")]
            crate::crash::on_look_at_clock();
            match (began, host::now_nanoseconds()) {
                (Ok(began), Ok(now)) => now.saturating_sub(began) < length,
                (Err(_), _) | (_, Err(_)) => false,
            }
        }
    }

    /// Whether a page was applied since the last call: then streams must be looked at.
    pub fn take_changed(&self) -> bool {
        self.changed.take()
    }

    /// Whether this VM follows the feed for all VMs of the proxy.
    pub fn holds(&self) -> bool {
        self.is_newest() && self.follower.try_borrow().is_ok_and(|follower| follower.holds())
    }

    /// The name of this proxy: `node.id`.
    pub fn node(&self) -> &str {
        &self.proxy.node
    }

    /// Whether no newer configuration of this VM follows the same feed. One that was replaced lives on until its last stream
    /// has ended.
    fn is_newest(&self) -> bool {
        let own = Rc::as_ptr(&self.alive);
        FOLLOWERS.with_borrow(|followers| {
            let feed = followers.iter().find(|one| one.alive.as_ptr() == own).map(|one| one.feed);
            let mut of_feed =
                followers.iter().rev().filter(|one| Some(one.feed) == feed && one.alive.strong_count() > 0);
            of_feed.next().is_some_and(|one| one.alive.as_ptr() == own)
        })
    }
}

/// What the follower needs of the proxy.
type EnvoyHost<'h> = Host<'h, SharedData, EnvoySignatures>;

/// Reads the answer of the hub to a call, in the callback that hands it over.
pub fn read_answer(body_size: usize) -> Answer {
    let Ok(headers) = host::headers(MapType::CallResponseHeaders) else { return Answer::None };
    let number = |wanted: &[u8]| {
        let value = headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        value.and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok())
    };
    let status = number(b":status").and_then(|status| status.try_into().ok()).unwrap_or(0);
    // The reason of a refusal is the hub's log's matter.
    if status != 200 || body_size > MAX_ANSWER {
        return Answer::Refused(status, number(b"retry-after"));
    }
    match host::buffer(BufferType::CallResponseBody, MAX_ANSWER) {
        Ok(body) => Answer::Page(body),
        Err(_) => Answer::None,
    }
}

/// One name for all threads: the holder of the lease opens it, and then it calls the holder.
fn queue_name(source: &HubSource) -> String {
    let (feed, keys) = (u64::from_be_bytes(source.id.0), u64::from_be_bytes(source.keys_hash));
    format!("taskfence/3/feed/{feed:016x}/steps/{keys:016x}")
}

/// A random number; the same one each time where the proxy gives none. It only spreads requests over time.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
