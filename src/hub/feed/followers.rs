//! The proxies that follow a feed: what each has applied, and when it was heard of.
//!
//! All of it is in memory, and written to the store in batches. After a start the followers of the store are known again.
//! Only `applied` acknowledges a change.
//!
//! With several replicas over one store, each writes the followers that came to it last (`written`), and reads those of the
//! others (`mirrored`): a follower that goes from one to another stays one. What relays say about those behind them is `told`.

mod mirrored;
pub mod told;
pub mod written;

use crate::feed::follower::{Follower, OFFSET_BOUND};
use crate::feed::full_state::Of;
use crate::feed::receipts::{self, Closes, CommitTime, Receipt, Waiter};
use crate::feed::relays::Relays;
use crate::feed::report::{MAX_STALE, Report};
use crate::feed::statements::Statements;
use crate::feed::{Now, Settings, locked};
use crate::histogram::Histogram;
use crate::store::model::FollowerRecord;
use hashbrown::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskfence_core::feed::revision::Revision;
use tokio::sync::Notify;

/// A follower that never closes itself leaves the list after this, in milliseconds.
const SILENT: u64 = 24 * 3_600_000;

/// A follower that was away for so long, in milliseconds, may have asked another replica meanwhile.
const AWAY: u64 = 1_000;

/// The followers of one feed.
pub struct Followers {
    feed: String,
    /// The name of this replica.
    own: Arc<str>,
    /// Whether there may be other replicas.
    shared: bool,
    now: Now,
    /// So many followers, and so many of one principal.
    max: (usize, usize),
    started_at: u64,
    /// Until then followers may live that the store does not know, in milliseconds since 1970.
    may_miss_until: u64,
    /// From the commit of a change until a follower has applied it.
    pub latency: Histogram,
    state: Mutex<State>,
    /// Held by the one that writes followers to the store.
    pub(crate) writing: tokio::sync::Mutex<()>,
    /// Held by the one that reads those of other replicas: since when.
    pub(crate) reading: tokio::sync::Mutex<u64>,
    /// Told when somebody begins to wait for a receipt.
    pub(crate) watched: Notify,
}

#[derive(Default)]
struct State {
    by_id: HashMap<Box<str>, Follower>,
    /// How many followers each principal has.
    of_principal: HashMap<Arc<str>, usize>,
    waiters: Vec<Waiter>,
    next_waiter: u64,
    /// The statements that were sent to anybody: a relay may have passed on each.
    sent: Statements,
    relays: Relays,
    /// When each other replica last said that it lives, in milliseconds since 1970.
    alive: HashMap<Box<str>, u64>,
    /// Those that have left, and that the store has still.
    unremoved: Vec<String>,
}

/// Why a follower is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its id belongs to another principal.
    #[error("this follower id belongs to another principal")]
    OtherPrincipal,
    /// There are too many followers.
    #[error("the feed has too many followers")]
    TooMany,
    /// There are too many followers of its principal.
    #[error("its principal has too many followers: raise `limits.followers_per_principal`, or use several identities")]
    TooManyOfPrincipal,
}

/// A request of a follower that is being answered. When it is dropped, the follower does not wait any more.
pub struct Polling {
    followers: Arc<Followers>,
    id: Box<str>,
    principal: Arc<str>,
    /// Told when a newer request of the same follower begins.
    replaced: Arc<Notify>,
    /// Whether it is the request of a relay, which is no follower.
    is_relay: bool,
}

impl Followers {
    /// The followers of `feed`, beginning with `stored`.
    pub fn new(feed: &str, stored: Vec<FollowerRecord>, settings: &Settings, now: Now) -> Arc<Followers> {
        let (started_at, own, shared) = (now(), Arc::<str>::from(settings.replica.as_str()), settings.shared);
        let max = (settings.max_followers, settings.max_of_principal);
        let read = |record: FollowerRecord| {
            let report = Report::parse_stored(record.report.as_bytes()).ok()?;
            let mut statements = Statements::default();
            // What is stored of the last statement may be some seconds old. None was signed after this start.
            statements.note(0, started_at);
            let follower = Follower {
                principal: record.principal.into(),
                relay: Some(record.relay).filter(|relay| !relay.is_empty()).map(Arc::from),
                request: Arc::default(),
                applied: record.applied,
                applied_at: record.seen,
                applied_before: record.applied.number,
                seen: record.seen,
                statements,
                is_heard: false,
                is_ahead: false,
                foreign_at: 0,
                polling: 0,
                changed: false,
                gone: false,
                written: record.seen,
                stored: true,
                replica: if shared { record.replica.into() } else { own.clone() },
                not_before: 0,
                sent: Revision::START,
                mirrored: hash(&record.report),
                report,
            };
            Some((record.id.into_boxed_str(), follower))
        };
        let by_id: HashMap<_, _> = stored.into_iter().filter_map(read).collect();
        // A store that knows no follower may be new, and the proxies may be old.
        let longest =
            by_id.values().map(|follower| follower.report.stale_after.unwrap_or(0)).max().unwrap_or(MAX_STALE);
        let may_miss_until = started_at.saturating_add(longest.saturating_mul(1000));
        let mut of_principal: HashMap<Arc<str>, usize> = HashMap::new();
        for follower in by_id.values() {
            let count = of_principal.entry(follower.voice().clone()).or_default();
            *count = count.saturating_add(1);
        }
        let mut sent = Statements::default();
        sent.note(0, started_at);
        let mut relays = Relays::default();
        by_id.values().filter_map(|follower| follower.relay.as_deref()).for_each(|relay| relays.known(relay));
        let state = Mutex::new(State { by_id, of_principal, sent, relays, ..State::default() });
        let latency = Histogram::default();
        Arc::new(Followers {
            feed: feed.to_owned(),
            own,
            shared,
            now,
            max,
            started_at,
            may_miss_until,
            latency,
            state,
            writing: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            watched: Notify::new(),
        })
    }

    /// A request of the follower that `report` describes begins.
    pub fn begin(self: &Arc<Self>, principal: &str, report: Report) -> Result<Polling, Refused> {
        let now = (self.now)();
        let id = report.id.clone();
        let mut state = locked(&self.state);
        let State { by_id, of_principal, waiters, .. } = &mut *state;
        let (room, own) = (by_id.len() < self.max.0, of_principal.get_key_value(principal));
        let (principal, own) = own.map_or_else(|| (principal.into(), 0), |(name, own)| (name.clone(), *own));
        let replaced = Arc::new(Notify::new());
        match by_id.get_mut(&id) {
            Some(known) if known.principal != principal => return Err(Refused::OtherPrincipal),
            Some(known) => {
                // A follower has one request at a time.
                std::mem::replace(&mut known.request, replaced.clone()).notify_one();
                known.changed |= known.report != report || known.replica != self.own;
                if known.replica != self.own || (known.polling == 0 && now.saturating_sub(known.seen) > AWAY) {
                    (known.replica, known.not_before) = (self.own.clone(), now);
                }
                known.is_heard = true;
                (known.report, known.seen, known.polling) = (report, now, known.polling.saturating_add(1));
            }
            None if !room => return Err(Refused::TooMany),
            None if own >= self.max.1 => return Err(Refused::TooManyOfPrincipal),
            None => {
                of_principal.insert(principal.clone(), own.saturating_add(1));
                // What it holds may be from an earlier id. That was not signed after now.
                let mut statements = Statements::default();
                statements.note(0, now);
                let follower = Follower {
                    principal: principal.clone(),
                    relay: None,
                    request: replaced.clone(),
                    report,
                    applied: Revision::START,
                    applied_at: now,
                    applied_before: 0,
                    seen: now,
                    statements,
                    is_heard: true,
                    is_ahead: false,
                    foreign_at: 0,
                    polling: 1,
                    changed: true,
                    gone: false,
                    written: 0,
                    stored: false,
                    replica: self.own.clone(),
                    not_before: now,
                    sent: Revision::START,
                    mirrored: 0,
                };
                by_id.insert(id.clone(), follower);
                waiters.iter_mut().for_each(|waiter| waiter.joined(Revision::START));
            }
        }
        Ok(Polling { followers: self.clone(), id, principal, replaced, is_relay: false })
    }

    /// Who speaks for a follower; `None`: it is not known here.
    pub fn owner(&self, id: &str) -> Option<Arc<str>> {
        locked(&self.state).by_id.get(id).map(|follower| Arc::clone(follower.voice()))
    }

    /// When a follower was last heard of, in milliseconds since 1970; `None`: it is not in the list.
    pub fn seen(&self, id: &str) -> Option<u64> {
        locked(&self.state).by_id.get(id).map(|follower| follower.seen)
    }

    /// What a follower is known to have applied.
    pub fn applied(&self, id: &str) -> Option<Revision> {
        locked(&self.state).by_id.get(id).map(|follower| follower.applied)
    }

    /// A follower has applied `applied`, a revision of this feed. `committed_at` says when the entry of a number was
    /// committed.
    pub fn acknowledge(&self, id: &str, applied: Revision, committed_at: impl Fn(u64) -> Option<u64>) {
        let now = (self.now)();
        let mut state = locked(&self.state);
        let State { by_id, waiters, .. } = &mut *state;
        let Some(follower) = by_id.get_mut(id).filter(|follower| follower.applied != applied) else { return };
        let before = std::mem::replace(&mut follower.applied, applied);
        (follower.applied_at, follower.applied_before, follower.changed) = (now, before.number, true);
        let forward = before.epoch == applied.epoch && before.number < applied.number;
        if let Some(committed) = forward.then(|| committed_at(before.number.saturating_add(1))).flatten() {
            self.latency.observe(Duration::from_millis(now.saturating_sub(committed)));
        }
        waiters.iter_mut().for_each(|waiter| waiter.moved(before, applied, follower.report.name(), now));
    }

    /// A follower has applied what this history of the feed does not have.
    pub fn note_ahead(&self, id: &str) {
        if let Some(follower) = locked(&self.state).by_id.get_mut(id) {
            follower.is_ahead = true;
        }
    }

    /// A follower has applied what another store holds.
    pub fn note_foreign(&self, id: &str) {
        let now = (self.now)();
        if let Some(follower) = locked(&self.state).by_id.get_mut(id) {
            if follower.foreign_at == 0 {
                let node = follower.report.name();
                tracing::warn!(feed = self.feed, id, node, "a proxy has applied entries of another store");
            }
            follower.foreign_at = now;
        }
    }

    /// A page up to `upto` is sent to a follower or a relay, with a statement that names `head`, by a read at `at`.
    pub fn sent(&self, id: &str, upto: Revision, head: u64, at: u64) {
        let mut state = locked(&self.state);
        state.sent.note(head, at);
        if let Some(follower) = state.by_id.get_mut(id) {
            follower.statements.note(head, at);
            follower.sent = upto;
            if follower.replica == self.own {
                follower.seen = (self.now)();
            }
        }
    }

    /// A follower asks for what comes after `after`. If it did not get that here, another replica has served it.
    pub fn asks_after(&self, id: &str, after: Revision) {
        if let Some(follower) = locked(&self.state).by_id.get_mut(id).filter(|one| self.shared && one.sent != after) {
            follower.not_before = (self.now)();
        }
    }

    /// `at` of the last statement that was sent to a follower, here or by another replica; or a later time.
    pub fn last_statement(&self, id: &str) -> Option<u64> {
        let state = locked(&self.state);
        let follower = state.by_id.get(id)?;
        // A new follower has nothing. It is no news that its principal may have had other ids.
        let elsewhere = Some(follower.not_before).filter(|_| self.shared);
        follower.statements.last().max(elsewhere)
    }

    /// All followers, with their ids.
    pub fn all(&self) -> Vec<(String, Follower)> {
        locked(&self.state).by_id.iter().map(|(id, follower)| (id.to_string(), follower.clone())).collect()
    }

    /// How many there are, and how many requests wait.
    pub fn count(&self) -> (usize, u64) {
        let state = locked(&self.state);
        (state.by_id.len(), state.by_id.values().map(|follower| u64::from(follower.polling)).sum())
    }

    /// Removes the followers that are silent for too long, and returns their ids, and those that the store has still.
    pub fn expire(&self) -> Vec<String> {
        let now = (self.now)();
        let mut state = locked(&self.state);
        let State { by_id, of_principal, waiters, alive, relays, unremoved, .. } = &mut *state;
        let leaves = |follower: &Follower| {
            let polled = follower.relay.as_ref().map_or(0, |relay| relays.polled_at(relay, follower.seen));
            follower.gone || (follower.polling == 0 && self.leaves_at(alive, follower, polled) < now)
        };
        let gone: Vec<_> = by_id.extract_if(|_, follower| leaves(follower)).collect();
        for (id, follower) in &gone {
            let (node, applied, seen) = (follower.report.name(), follower.applied, follower.seen);
            tracing::warn!(feed = self.feed, id = &**id, node, %applied, seen, "a follower is silent and leaves the list");
            forget(follower, of_principal, waiters);
        }
        relays.expire(now, |relay| by_id.values().any(|follower| follower.relay.as_deref() == Some(relay)));
        // One that has come back meanwhile stays.
        let unremoved = unremoved.drain(..).filter(|id| !by_id.contains_key(id.as_str()));
        gone.into_iter().map(|(id, _)| id.into_string()).chain(unremoved).collect()
    }

    /// Until when the replica that a follower came to last may have served it, in milliseconds since 1970.
    pub fn served_until(&self, follower: &Follower) -> u64 {
        locked(&self.state).served_until(follower)
    }

    /// Whether somebody waits for a receipt.
    pub fn is_watched(&self) -> bool {
        !locked(&self.state).waiters.is_empty()
    }

    /// When a silent follower leaves: after `stale_after`, and not before it has closed itself. Behind a relay it may get
    /// statements for as long as the relay does, last at `polled`.
    fn leaves_at(&self, alive: &HashMap<Box<str>, u64>, follower: &Follower, polled: u64) -> u64 {
        let alive = alive.get(&*follower.replica).copied().unwrap_or(0);
        let seen = follower.seen.max(self.started_at).max(alive);
        match follower.report.stale_after {
            None => seen.saturating_add(SILENT),
            Some(stale) => {
                let stale = stale.saturating_mul(1000);
                let statement = follower.statements.last().unwrap_or(0).max(polled).saturating_add(OFFSET_BOUND);
                seen.max(statement).saturating_add(stale)
            }
        }
    }

    /// The receipt for `revision` as it is now.
    pub fn receipt(&self, revision: Revision, committed: CommitTime) -> Receipt {
        self.receipt_by(revision, committed, None)
    }

    fn receipt_by(&self, revision: Revision, committed: CommitTime, waiter: Option<u64>) -> Receipt {
        let now = (self.now)();
        let state = locked(&self.state);
        let slowest = waiter.and_then(|id| state.waiters.iter().find(|waiter| waiter.id == id)?.slowest.clone());
        let followers = state.by_id.iter().map(|(id, follower)| (&**id, follower));
        let by = receipts::ByRelays { sent: &state.sent, relays: state.relays.marks(revision) };
        let mut receipt = receipts::receipt(revision, committed, slowest, followers, by);
        receipt.may_miss_until = Some(self.may_miss_until).filter(|until| *until > now);
        receipt
    }

    /// By when a follower has closed itself, if it gets nothing that is sent from now on.
    pub fn closes(&self, follower: &Follower, served_until: Option<u64>) -> Closes {
        let committed = CommitTime { at: None, by: served_until };
        receipts::closes(follower, u64::MAX, committed, &locked(&self.state).sent)
    }

    /// Begins to wait until all followers have applied `revision`.
    pub fn watch(self: &Arc<Self>, revision: Revision) -> Watch {
        let mut state = locked(&self.state);
        let id = state.next_waiter;
        state.next_waiter = id.saturating_add(1);
        let done = Arc::new(Notify::new());
        let waiter = Waiter::new(id, revision, done.clone(), state.by_id.values().map(|follower| follower.applied));
        state.waiters.push(waiter);
        self.watched.notify_one();
        Watch { followers: self.clone(), id, revision, done }
    }
}

impl Polling {
    /// Whether it is the request of a relay.
    pub fn is_relay(&self) -> bool {
        self.is_relay
    }

    /// The id of the follower.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The follower, and whose it is.
    pub fn of(&self) -> Of<'_> {
        Of { follower: &self.id, principal: &self.principal }
    }

    /// Returns when a newer request of the same follower has begun.
    pub async fn replaced(&self) {
        self.replaced.notified().await;
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let now = (self.followers.now)();
        if let Some(follower) = locked(&self.followers.state).by_id.get_mut(&self.id) {
            follower.polling = follower.polling.saturating_sub(1);
            // Where there are other replicas it may have broken off to go there: it is seen when it is answered.
            if !self.followers.shared {
                follower.seen = now;
            }
        }
    }
}

impl State {
    fn served_until(&self, follower: &Follower) -> u64 {
        let alive = self.alive.get(&*follower.replica).copied().unwrap_or(0);
        alive.max(follower.seen).max(follower.statements.last().unwrap_or(0))
    }
}

/// A follower has left the list.
fn forget(follower: &Follower, of_principal: &mut HashMap<Arc<str>, usize>, waiters: &mut [Waiter]) {
    waiters.iter_mut().for_each(|waiter| waiter.left(follower.applied));
    let voice = follower.voice();
    let count = of_principal.get(voice).copied().unwrap_or(0).saturating_sub(1);
    match count {
        0 => _ = of_principal.remove(voice),
        _ => _ = of_principal.insert(voice.clone(), count),
    }
}

/// What tells whether a stored report is another one than before.
fn hash(report: &str) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    report.hash(&mut hasher);
    hasher.finish()
}

/// Somebody waits until all followers have applied a revision.
pub struct Watch {
    followers: Arc<Followers>,
    id: u64,
    revision: Revision,
    done: Arc<Notify>,
}

impl Watch {
    /// Returns when all have applied it.
    pub async fn complete(&self) {
        self.done.notified().await;
    }

    /// The receipt as it is now.
    pub fn receipt(&self, committed: CommitTime) -> Receipt {
        self.followers.receipt_by(self.revision, committed, Some(self.id))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        locked(&self.followers.state).waiters.retain(|waiter| waiter.id != self.id);
    }
}
