//! The proxies that follow a feed: what each has applied, and when it was heard of.
//!
//! All of it is in memory, and written to the store in batches. After a start the followers of the store are known again.
//! Only `applied` acknowledges a change.

use crate::feed::follower::{Follower, OFFSET_BOUND};
use crate::feed::full_state::Of;
use crate::feed::receipts::{self, Closes, Receipt, Waiter};
use crate::feed::relays::Relays;
use crate::feed::report::{MAX_STALE, Report};
use crate::feed::statements::Statements;
use crate::feed::{Now, locked};
use crate::histogram::Histogram;
use crate::store::model::FollowerRecord;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use taskfence_core::feed::revision::Revision;
use tokio::sync::Notify;

/// A follower that never closes itself leaves the list after this, in milliseconds.
const SILENT: u64 = 24 * 3_600_000;

/// That a follower was heard of is written this often, in milliseconds, if nothing else changed.
const WRITE_SEEN: u64 = 60_000;

/// The followers of one feed.
pub struct Followers {
    feed: String,
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
}

/// Which followers to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that the store does not know.
    New,
    /// Those that changed since they were last written, and those that were heard of long after that.
    Changed,
    /// Those of which the store does not have the last word.
    All,
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

/// What a relay says about one proxy.
#[derive(Debug, Clone)]
pub struct Told<'t> {
    /// Its random id.
    pub id: &'t str,
    /// Who it is at the relay.
    pub principal: &'t str,
    /// What it has applied, a revision of this feed.
    pub applied: Revision,
    /// When the relay heard of it, in milliseconds since 1970.
    pub seen: u64,
    /// What it reports, if that is new.
    pub report: Option<Report>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It was noted.
    Noted,
    /// The proxy is not known, and its report is missing.
    Unknown,
    /// There are too many, or too many of this relay.
    TooMany,
}

impl Followers {
    /// The followers of `feed`, beginning with `stored`. At most so many, and so many of one principal.
    pub fn new(feed: &str, stored: Vec<FollowerRecord>, max: (usize, usize), now: Now) -> Arc<Followers> {
        let started_at = now();
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
        let state = Mutex::new(State { by_id, of_principal, sent, ..State::default() });
        let latency = Histogram::default();
        let (feed, writing) = (feed.to_owned(), tokio::sync::Mutex::default());
        Arc::new(Followers { feed, now, max, started_at, may_miss_until, latency, state, writing })
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
                known.changed |= known.report != report;
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
                };
                by_id.insert(id.clone(), follower);
                waiters.iter_mut().for_each(Waiter::joined);
            }
        }
        Ok(Polling { followers: self.clone(), id, principal, replaced, is_relay: false })
    }

    /// A request of the relay that is `principal` begins. It is no follower, and may have many requests at once. `id` is
    /// the random id that it reports.
    pub fn begin_relay(self: &Arc<Self>, principal: &str, id: &str) -> Polling {
        let (id, principal) = (format!("{principal}/{id}").into(), Arc::<str>::from(principal));
        locked(&self.state).relays.polled(&principal, (self.now)());
        Polling { followers: self.clone(), id, principal, replaced: Arc::default(), is_relay: true }
    }

    /// When the hub started, in milliseconds since 1970.
    pub fn started_at(&self) -> u64 {
        self.started_at
    }

    /// The run `instance` of `relay` says what is behind it.
    pub fn relay_reports(&self, relay: &str, instance: &str) {
        locked(&self.state).relays.reported(relay, instance, (self.now)());
    }

    /// All are to be written again.
    pub fn write_again(&self) {
        locked(&self.state).by_id.values_mut().for_each(|follower| follower.changed = true);
    }

    /// Notes what `relay` says about a proxy. `committed_at` is as in [`Followers::acknowledge`].
    pub fn told(&self, relay: &str, told: Told<'_>, committed_at: impl Fn(u64) -> Option<u64>) -> Word {
        let now = (self.now)();
        let id = format!("{relay}/{}", told.id).into_boxed_str();
        let seen = told.seen.min(now);
        let mut state = locked(&self.state);
        let State { by_id, of_principal, waiters, relays, .. } = &mut *state;
        let room = by_id.len() < self.max.0;
        match (by_id.get_mut(&id), told.report) {
            (None, None) => return Word::Unknown,
            (Some(known), report) => {
                (known.seen, known.gone) = (known.seen.max(seen), false);
                if let Some(report) = report.filter(|report| known.report != *report) {
                    (known.report, known.changed) = (report, true);
                }
            }
            (None, Some(report)) => {
                let relay = of_principal.get_key_value(relay).map_or_else(|| relay.into(), |(name, _)| name.clone());
                let own = of_principal.entry(relay.clone()).or_default();
                if !room || *own >= self.max.1 {
                    relays.overflowed(&relay, now);
                    return Word::TooMany;
                }
                *own = own.saturating_add(1);
                let follower = Follower {
                    principal: told.principal.into(),
                    relay: Some(relay),
                    request: Arc::default(),
                    report,
                    applied: Revision::START,
                    applied_at: now,
                    applied_before: 0,
                    seen,
                    statements: Statements::default(),
                    is_heard: true,
                    is_ahead: false,
                    foreign_at: 0,
                    polling: 0,
                    changed: true,
                    gone: false,
                    written: 0,
                    stored: false,
                };
                by_id.insert(id.clone(), follower);
                waiters.iter_mut().for_each(Waiter::joined);
            }
        }
        drop(state);
        self.acknowledge(&id, told.applied, committed_at);
        Word::Noted
    }

    /// Removes proxies behind `relay` that it has not heard of for so long that they have closed themselves.
    pub fn told_gone(&self, relay: &str, ids: &[String]) {
        let mut state = locked(&self.state);
        for id in ids {
            if let Some(follower) = state.by_id.get_mut(format!("{relay}/{id}").as_str()) {
                follower.gone = true;
            }
        }
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

    /// A statement that names `head`, by a read at `at`, is sent to a follower or a relay.
    pub fn sent(&self, id: &str, head: u64, at: u64) {
        let mut state = locked(&self.state);
        state.sent.note(head, at);
        if let Some(follower) = state.by_id.get_mut(id) {
            follower.statements.note(head, at);
        }
    }

    /// `at` of the last statement that was sent to a follower.
    pub fn last_statement(&self, id: &str) -> Option<u64> {
        locked(&self.state).by_id.get(id)?.statements.last()
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

    /// Followers that are to be written, as records for the store; at most `limit`.
    pub fn unwritten(&self, which: Which, limit: usize) -> Vec<FollowerRecord> {
        let now = (self.now)();
        let mut records = Vec::new();
        for (id, follower) in &mut locked(&self.state).by_id {
            if records.len() >= limit {
                break;
            }
            let unseen = follower.seen.saturating_sub(follower.written);
            let is_due = match which {
                Which::New => !follower.stored,
                Which::Changed => follower.changed || unseen >= WRITE_SEEN,
                Which::All => follower.changed || unseen > 0,
            };
            if !is_due {
                continue;
            }
            (follower.changed, follower.written) = (false, now);
            records.push(FollowerRecord {
                feed: self.feed.clone(),
                id: id.to_string(),
                principal: follower.principal.to_string(),
                report: follower.report.to_json().to_string(),
                applied: follower.applied,
                seen: follower.seen,
                statement_at: follower.statements.last().unwrap_or(0),
                replica: String::new(),
                relay: follower.relay.as_deref().unwrap_or_default().to_owned(),
            });
        }
        records
    }

    /// They were written.
    pub fn stored(&self, records: &[FollowerRecord]) {
        let mut state = locked(&self.state);
        for record in records {
            if let Some(follower) = state.by_id.get_mut(record.id.as_str()) {
                follower.stored = true;
            }
        }
    }

    /// Whether the store knows the follower, or it has left.
    pub fn is_stored(&self, id: &str) -> bool {
        locked(&self.state).by_id.get(id).is_none_or(|follower| follower.stored)
    }

    /// They could not be written: they are changed still.
    pub fn not_written(&self, records: &[FollowerRecord]) {
        let mut state = locked(&self.state);
        for record in records {
            if let Some(follower) = state.by_id.get_mut(record.id.as_str()) {
                follower.changed = true;
            }
        }
    }

    /// Removes the followers that are silent for too long, and returns their ids.
    pub fn expire(&self) -> Vec<String> {
        let now = (self.now)();
        let mut state = locked(&self.state);
        let State { by_id, of_principal, waiters, relays, .. } = &mut *state;
        let leaves = |follower: &Follower| {
            let polled = follower.relay.as_ref().map_or(0, |relay| relays.polled_at(relay, follower.seen));
            follower.gone || (follower.polling == 0 && self.leaves_at(follower, polled) < now)
        };
        let gone: Vec<_> = by_id.extract_if(|_, follower| leaves(follower)).collect();
        for (id, follower) in &gone {
            let (node, applied, seen) = (follower.report.name(), follower.applied, follower.seen);
            tracing::warn!(feed = self.feed, id = &**id, node, %applied, seen, "a follower is silent and leaves the list");
            waiters.iter_mut().for_each(|waiter| waiter.left(follower.applied));
            if let Some(count) = of_principal.get_mut(follower.voice()) {
                *count = count.saturating_sub(1);
            }
        }
        of_principal.retain(|_, count| *count > 0);
        relays.expire(now, |relay| by_id.values().any(|follower| follower.relay.as_deref() == Some(relay)));
        gone.into_iter().map(|(id, _)| id.into_string()).collect()
    }

    /// When a silent follower leaves: after `stale_after`, and not before it has closed itself. Behind a relay it may get
    /// statements for as long as the relay does, last at `polled`.
    fn leaves_at(&self, follower: &Follower, polled: u64) -> u64 {
        let seen = follower.seen.max(self.started_at);
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
    pub fn receipt(&self, revision: Revision, committed_at: Option<u64>) -> Receipt {
        self.receipt_by(revision, committed_at, None)
    }

    fn receipt_by(&self, revision: Revision, committed_at: Option<u64>, waiter: Option<u64>) -> Receipt {
        let now = (self.now)();
        let state = locked(&self.state);
        let slowest = waiter.and_then(|id| state.waiters.iter().find(|waiter| waiter.id == id)?.slowest.clone());
        let followers = state.by_id.iter().map(|(id, follower)| (&**id, follower));
        let by = receipts::ByRelays { sent: &state.sent, relays: state.relays.marks() };
        let mut receipt = receipts::receipt(revision, committed_at, slowest, followers, by);
        receipt.may_miss_until = Some(self.may_miss_until).filter(|until| *until > now);
        receipt
    }

    /// By when a follower has closed itself, if it gets nothing that is sent from now on.
    pub fn closes(&self, follower: &Follower) -> Closes {
        receipts::closes(follower, u64::MAX, None, &locked(&self.state).sent)
    }

    /// Begins to wait until all followers have applied `revision`.
    pub fn watch(self: &Arc<Self>, revision: Revision) -> Watch {
        let mut state = locked(&self.state);
        let id = state.next_waiter;
        state.next_waiter = id.saturating_add(1);
        let done = Arc::new(Notify::new());
        let waiter = Waiter::new(id, revision, done.clone(), state.by_id.values().map(|follower| follower.applied));
        state.waiters.push(waiter);
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
            (follower.seen, follower.polling) = (now, follower.polling.saturating_sub(1));
        }
    }
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
    pub fn receipt(&self, committed_at: Option<u64>) -> Receipt {
        self.followers.receipt_by(self.revision, committed_at, Some(self.id))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        locked(&self.followers.state).waiters.retain(|waiter| waiter.id != self.id);
    }
}
