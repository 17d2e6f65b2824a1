//! Receipts: which followers have applied a change, and by when the others have closed themselves.
//!
//! A follower that has said nothing yet about what it has applied holds a receipt open too: it may have applied a page and
//! not have said so. Two followers of one node, as during a hot restart, count as one, which has confirmed when both have.

use crate::feed::follower::{Follower, OFFSET_BOUND};
use crate::feed::relays::RelayMark;
use crate::feed::statements::Statements;
use hashbrown::{HashMap, HashSet};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use taskfence_core::feed::revision::Revision;
use tokio::sync::Notify;

/// Who has applied a change. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The revision after the change.
    #[serde(serialize_with = "as_text")]
    pub revision: Revision,
    /// When the change was committed; `None` if that is too long ago.
    pub committed_at: Option<u64>,
    /// How many nodes have applied it.
    pub confirmed: usize,
    /// How many of these are confirmed by the word of a relay only.
    pub confirmed_by_relays: usize,
    /// The relays that take the feed: what is behind each is its word.
    pub relays: Vec<RelayMark>,
    /// How many nodes have not confirmed anything yet; they are among those that wait.
    pub starting: usize,
    /// The followers that have not applied it.
    pub waiting: Vec<Waiting>,
    /// The node that applied it last.
    pub slowest: Option<Slowest>,
    /// Whether nobody waits, all followers are known, and every relay has said who was behind it when the change was there.
    pub complete: bool,
    /// The hub or its store is new. Until then there may be followers that it does not know.
    pub may_miss_until: Option<u64>,
}

/// A follower that has not applied a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its id.
    pub id: String,
    /// Its node.
    pub node: String,
    /// The relay that tells of it; `None`: it follows this hub.
    pub relay: Option<String>,
    /// What it has applied.
    #[serde(serialize_with = "as_text")]
    pub applied: Revision,
    /// When it was last heard of.
    pub seen: u64,
    /// By when it refuses requests, if it applies nothing.
    pub closes: Closes,
}

/// By when a follower that hears nothing refuses requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Closes {
    /// At that time.
    At(u64),
    /// Never, and why.
    Never(Never),
}

/// Why a follower never closes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Never {
    /// It has no limit.
    #[serde(rename = "its `signals.stale` is not set, is longer than a day, or has `then: allow`")]
    NoLimit,
    /// It only watches.
    #[serde(rename = "it is in shadow mode")]
    Shadow,
}

/// The times of two replicas for one moment differ by less than this, in milliseconds; see `StoreTime`.
const REPLICAS: u64 = 2_000;

/// The node that was last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slowest {
    /// The node, or the id of a follower that reports none.
    pub node: String,
    /// When it had applied the change.
    pub applied_at: u64,
}

/// What is kept for somebody who waits for a receipt.
pub struct Waiter {
    /// Its number.
    pub id: u64,
    /// The last follower that applied the change since the wait began.
    pub slowest: Option<Slowest>,
    revision: Revision,
    /// How many followers have not applied it.
    remaining: usize,
    done: Arc<Notify>,
}

impl Waiter {
    /// Waits until all followers, of which `applied` says what they have applied, have `revision`.
    pub fn new(id: u64, revision: Revision, done: Arc<Notify>, applied: impl Iterator<Item = Revision>) -> Waiter {
        let remaining = applied.filter(|applied| lacks(*applied, revision)).count();
        if remaining == 0 {
            done.notify_one();
        }
        Waiter { id, slowest: None, revision, remaining, done }
    }

    /// A follower of the node `node` went from `before` to `applied` at `now`.
    pub fn moved(&mut self, before: Revision, applied: Revision, node: &str, now: u64) {
        match (lacks(before, self.revision), lacks(applied, self.revision)) {
            (true, false) => {
                self.slowest = Some(Slowest { node: node.to_owned(), applied_at: now });
                self.one_less();
            }
            (false, true) => self.remaining = self.remaining.saturating_add(1),
            _ => {}
        }
    }

    /// A follower that has applied `applied` came into the list.
    pub fn joined(&mut self, applied: Revision) {
        if lacks(applied, self.revision) {
            self.remaining = self.remaining.saturating_add(1);
        }
    }

    /// A follower that had applied `applied` left the list.
    pub fn left(&mut self, applied: Revision) {
        if lacks(applied, self.revision) {
            self.one_less();
        }
    }

    /// What else a receipt needs may be there now.
    pub fn look_again(&self) {
        if self.remaining == 0 {
            self.done.notify_one();
        }
    }

    fn one_less(&mut self) {
        self.remaining = self.remaining.saturating_sub(1);
        if self.remaining == 0 {
            self.done.notify_one();
        }
    }
}

/// When a change was committed, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitTime {
    /// `None`: that is too long ago.
    pub at: Option<u64>,
    /// Where several replicas sign: no later than this. No statement that lacks the change was read later, whoever signed it.
    pub by: Option<u64>,
}

/// The receipt for `revision`. `slowest` is known to the one who waited.
pub fn receipt<'f>(
    revision: Revision,
    committed: CommitTime,
    slowest: Option<Slowest>,
    followers: impl Iterator<Item = (&'f str, &'f Follower)>,
    by: ByRelays<'_>,
) -> Receipt {
    // Whether all followers of a node have it, and whether a relay says so of one.
    let mut nodes: HashMap<&str, (bool, bool)> = HashMap::new();
    let mut starting = HashSet::new();
    let mut waiting = Vec::new();
    let mut latest: Option<(u64, &str)> = None;
    for (id, follower) in followers {
        let (node, applied) = (follower.report.name(), follower.applied);
        let has = has(applied, revision);
        let (all_have, is_told) = nodes.entry(node).or_insert((true, false));
        *all_have &= has;
        *is_told |= follower.relay.is_some();
        if applied == Revision::START {
            starting.insert(node);
        }
        // An earlier acknowledgement than the last one has no time any more.
        if has && follower.applied_before < revision.number && latest.is_none_or(|(at, _)| at < follower.applied_at) {
            latest = Some((follower.applied_at, node));
        }
        if !has {
            let (id, node) = (id.to_owned(), follower.report.node.to_string());
            let closes = closes(follower, revision.number, committed, by.sent);
            let relay = follower.relay.as_deref().map(str::to_owned);
            waiting.push(Waiting { id, node, relay, applied, seen: follower.seen, closes });
        }
    }
    let confirmed = nodes.values().filter(|(all_have, _)| *all_have).count();
    let confirmed_by_relays = nodes.values().filter(|(all_have, is_told)| *all_have && *is_told).count();
    let starting = starting.len();
    let known = latest.map(|(applied_at, node)| Slowest { node: node.to_owned(), applied_at });
    let slowest = slowest.into_iter().chain(known).max_by_key(|slowest| slowest.applied_at);
    let complete = waiting.is_empty() && by.relays.iter().all(|relay| relay.reports);
    Receipt {
        revision,
        committed_at: committed.at,
        confirmed,
        confirmed_by_relays,
        relays: by.relays,
        starting,
        waiting,
        slowest,
        complete,
        may_miss_until: None,
    }
}

/// What a receipt must know about relays.
#[derive(Debug)]
pub struct ByRelays<'r> {
    /// The statements that were sent to anybody.
    pub sent: &'r Statements,
    /// The relays that take the feed.
    pub relays: Vec<RelayMark>,
}

/// By when `follower` has closed itself, if it applies nothing that has the entry `number`, which was committed at
/// `committed`. `sent` are the statements that this replica has sent to anybody.
///
/// Where there are several replicas, others may have sent the follower statements before that. Behind a relay a follower may
/// have got each statement that was signed before the entry was committed, whatever the relay says.
pub fn closes(follower: &Follower, number: u64, committed: CommitTime, sent: &Statements) -> Closes {
    if follower.report.is_shadow() {
        return Closes::Never(Never::Shadow);
    }
    let Some(stale) = follower.report.stale_after else { return Closes::Never(Never::NoLimit) };
    let own = match follower.relay {
        Some(_) => committed.at.or_else(|| sent.before(number)).or_else(|| sent.last()).unwrap_or(0),
        None => follower.statements.before(number).unwrap_or(0),
    };
    let statement = committed.by.map_or(own, |by| by.saturating_add(REPLICAS));
    Closes::At(statement.saturating_add(stale.saturating_mul(1000)).saturating_add(OFFSET_BOUND))
}

fn has(applied: Revision, wanted: Revision) -> bool {
    applied.epoch == wanted.epoch && applied.number >= wanted.number
}

/// Whether a follower may enforce an older state.
fn lacks(applied: Revision, wanted: Revision) -> bool {
    !has(applied, wanted)
}

fn as_text<S: Serializer>(revision: &Revision, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(revision)
}
