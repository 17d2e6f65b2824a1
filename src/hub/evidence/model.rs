//! The records of the store of evidence. All times are in milliseconds since 1970, unless a member says otherwise.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use taskfence_core::uses::batch::{Batch, Gap, GrantInfo, SeenKind};
use taskfence_core::uses::outline::Outline;
use utoipa::ToSchema;

/// Which grant: the first 16 bytes of the SHA-256 of issuer, a zero byte, and the id of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct GrantId(pub [u8; 16]);

impl GrantId {
    /// Of the token that `issuer` calls `token`.
    pub fn new(issuer: &str, token: &str) -> GrantId {
        let digest = taskfence_core::encoding::digest::sha256(&[issuer.as_bytes(), &[0], token.as_bytes()].concat());
        GrantId(*digest.first_chunk().unwrap_or(&[0; 16]))
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something to store. Each is stored once, however often it comes.
#[derive(Debug, Clone)]
pub enum Write {
    /// What a VM has counted. Known by feed, principal, VM and number: nobody can take the number of another's batch.
    Batch(Box<BatchWrite>),
    /// Something that happened to a grant. Known by feed, source and id.
    Event(Box<EventRow>),
    /// A VM that was replaced, or a proxy that went away. Known by feed and VM.
    Gap {
        /// The feed.
        feed: String,
        /// The node of the proxy.
        node: String,
        /// The gap.
        gap: Gap,
    },
    /// The rules of a configuration. Known by feed and hash.
    Config {
        /// The feed.
        feed: String,
        /// The rules.
        outline: Outline,
    },
}

/// A batch, and who sent it.
#[derive(Debug, Clone)]
pub struct BatchWrite {
    /// The feed.
    pub feed: String,
    /// Who sent it, as the hub has authenticated it: a SPIFFE id, or the name of a token. All else is what a proxy says.
    pub principal: String,
    /// The id of the follower.
    pub proxy: String,
    /// The node of the proxy.
    pub node: String,
    /// When it came.
    pub at: u64,
    /// What was counted.
    pub batch: Batch,
}

/// What became of a [`Write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is stored now.
    Stored,
    /// It had been stored before.
    Repeated,
    /// There was no room; it was counted.
    Dropped,
}

/// What happened to a grant or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody asked for a grant.
    Requested,
    /// Somebody approved the request.
    Approved,
    /// Somebody denied the request.
    Denied,
    /// A token was issued.
    Issued,
    /// The grant lasts longer.
    Extended,
    /// The task or the grant has ended.
    Ended,
    /// A session began (CAEP session-established).
    SessionEstablished,
    /// A session was seen (CAEP session-presented).
    SessionPresented,
    /// A signal ended grants: revocation, completion, a stop.
    SignalEnded,
    /// A signal narrowed grants or changed a claim about them.
    SignalChanged,
    /// A signal said how a device or a risk stands, or another thing that rules may ask for.
    SignalContext,
    /// An operator lifted a signal.
    SignalLifted,
}

impl EventKind {
    const ALL: [EventKind; 12] = [
        EventKind::Requested,
        EventKind::Approved,
        EventKind::Denied,
        EventKind::Issued,
        EventKind::Extended,
        EventKind::Ended,
        EventKind::SessionEstablished,
        EventKind::SessionPresented,
        EventKind::SignalEnded,
        EventKind::SignalChanged,
        EventKind::SignalContext,
        EventKind::SignalLifted,
    ];

    /// Its name in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Requested => "requested",
            EventKind::Approved => "approved",
            EventKind::Denied => "denied",
            EventKind::Issued => "issued",
            EventKind::Extended => "extended",
            EventKind::Ended => "ended",
            EventKind::SessionEstablished => "session_established",
            EventKind::SessionPresented => "session_presented",
            EventKind::SignalEnded => "signal_ended",
            EventKind::SignalChanged => "signal_changed",
            EventKind::SignalContext => "signal_context",
            EventKind::SignalLifted => "signal_lifted",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One event. Its subject is given by as many members as its sender knew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// The feed.
    pub feed: String,
    /// Who said it: `signal`, or the name of the principal.
    pub source: String,
    /// What tells it from others of this source.
    pub id: String,
    /// What happened.
    pub kind: Option<EventKind>,
    /// When it happened.
    pub at: u64,
    /// When the hub heard of it.
    pub heard_at: u64,
    /// The issuer of the grant.
    pub issuer: String,
    /// The task.
    pub task: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The user.
    pub subject: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// The token.
    pub token: Option<String>,
    /// The kind of task, as its issuer calls it, such as `refund`.
    pub task_kind: Option<String>,
    /// Who did it: the approver, the operator.
    pub by: Option<String>,
    /// The reason or the ticket that was given.
    pub reason: Option<String>,
    /// Other members, as they came: scope and details that were asked for, the event of a signal.
    pub data: Value,
}

/// A stretch of time: from `since` on, before `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The beginning.
    pub since: u64,
    /// The end.
    pub until: u64,
}

/// What is known about one grant: its uses of all days and proxies in the window, added up.
#[derive(Debug, Clone, Default)]
pub struct GrantRow {
    /// Its id.
    pub id: GrantId,
    /// As its token says.
    pub info: GrantInfo,
    /// When it was first used, permitted or not.
    pub first: u64,
    /// When it was last used, permitted or not.
    pub last: u64,
    /// What was permitted, by configuration, rule, method and captures.
    pub permitted: Vec<PermittedRow>,
    /// Permitted requests that differ in more ways than a proxy had room for.
    pub other: u64,
    /// What was refused.
    pub refused: Vec<RefusedRow>,
    /// From where it was used.
    pub seen: Vec<SeenRow>,
}

/// [`taskfence_core::uses::batch::Permitted`], added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermittedRow {
    /// The node of the proxy.
    pub node: String,
    /// The hash of the configuration.
    pub config: String,
    /// The name of the rule.
    pub rule: String,
    /// The method.
    pub method: String,
    /// What the path captured.
    pub captures: Vec<String>,
    /// How many.
    pub count: u64,
    /// How many of them by break-glass.
    pub break_glass: u64,
    /// When first.
    pub first: u64,
    /// When last.
    pub last: u64,
}

/// [`taskfence_core::uses::batch::Refused`], added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedRow {
    /// The node of the proxy.
    pub node: String,
    /// The hash of the configuration; empty without a rule.
    pub config: String,
    /// The name of the rule; empty without one.
    pub rule: String,
    /// The reason.
    pub reason: String,
    /// Whether they passed all the same, by shadow mode.
    pub shadow: bool,
    /// Whether these were live streams that were ended.
    pub ended: bool,
    /// How many.
    pub count: u64,
    /// When first.
    pub first: u64,
    /// When last.
    pub last: u64,
}

/// [`taskfence_core::uses::batch::Seen`], added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenRow {
    /// What `value` is.
    pub kind: SeenKind,
    /// The value.
    pub value: String,
    /// How often it was seen.
    pub count: u64,
    /// When first.
    pub first: u64,
    /// When last.
    pub last: u64,
}

/// One single decision as a proxy sent it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordRow {
    /// Its place in the store: grows, and orders records that came.
    pub position: u64,
    /// Who sent it, as the hub has authenticated it.
    pub principal: String,
    /// The node of the proxy.
    pub node: String,
    /// When it was made.
    pub at: u64,
    /// The grant.
    pub grant: GrantId,
    /// The record, as `docs/decision-record.md` describes it.
    pub record: Value,
}

/// A stretch of time in which uses may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapRow {
    /// The node of the proxy.
    pub node: String,
    /// The VM, or `proxy` and the id of a proxy that went away.
    pub vm: String,
    /// The oldest use that may be missing.
    pub since: u64,
    /// When it was last alive.
    pub until: u64,
}

/// Who has sent evidence of a proxy. A proxy writes the name of its node itself; the hub knows who the sender is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRow {
    /// The node of the proxy.
    pub node: String,
    /// The principals, in order. More than one: some of it may be the word of somebody else.
    pub principals: Vec<String>,
}

impl NodeRow {
    /// The rows of these pairs of node and principal.
    pub fn of(pairs: BTreeSet<(String, String)>) -> Vec<NodeRow> {
        let mut rows: Vec<NodeRow> = Vec::new();
        for (node, principal) in pairs {
            match rows.last_mut().filter(|row| row.node == node) {
                Some(row) => row.principals.push(principal),
                None => rows.push(NodeRow { node, principals: vec![principal] }),
            }
        }
        rows
    }
}

/// What was not stored one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Losses {
    /// Permitted requests with grants that a proxy had no room for.
    pub other_permitted: u64,
    /// Refused requests with grants that a proxy had no room for.
    pub other_refused: u64,
    /// Single decisions that a proxy had no room for.
    pub records_dropped: u64,
    /// Batches that the hub had no room for.
    pub batches_dropped: u64,
}

/// Whose evidence is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A task.
    Task(String),
    /// A session.
    Session(String),
    /// A user.
    Subject(String),
    /// A client.
    Client(String),
    /// A token, by its id or its fingerprint.
    Token(String),
}

/// What is known about a [`Selector`].
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The grants.
    pub grants: Vec<GrantRow>,
    /// Events about them or about what was asked for, in the order of their times.
    pub events: Vec<EventRow>,
    /// Single decisions, in the order of their times.
    pub records: Vec<RecordRow>,
    /// Gaps of the proxies that they were used at.
    pub gaps: Vec<GapRow>,
    /// Whose word the uses are: who has sent batches of these proxies in the days of the window.
    pub nodes: Vec<NodeRow>,
    /// Whether there was more than is returned.
    pub cut: bool,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The bytes that it takes.
    pub bytes: u64,
    /// The first day that is kept, in days since 1970; 0 if nothing is.
    pub first_day: u64,
    /// Grants of all days; one that was used on two days counts twice.
    pub grants: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_name() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(EventKind::named(kind.name()), Some(kind));
        }
        let unknown = serde_json::from_value::<EventKind>("another".into()).unwrap_err().to_string();
        let known = unknown.matches('`').count() / 2 - 1;
        assert_eq!(known, EventKind::ALL.len(), "{unknown}");
    }
}
