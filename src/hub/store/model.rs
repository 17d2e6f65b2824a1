//! The records that the hub keeps.

use taskfence_core::feed::revision::Revision;
use taskfence_core::signal::operator::is_operator_stream;
use taskfence_core::time::Timestamp;

/// A change that is to be stored.
#[derive(Debug, Clone)]
pub enum Change {
    /// A signal with the entries derived from it.
    Signal(NewSignal),
    /// Lifts the entries of a signal: its entries are added again, with new numbers, marked as lifted.
    Lift {
        /// The feed.
        feed: String,
        /// The signal.
        signal: u64,
        /// Who lifts it.
        by: String,
        /// Why.
        reason: String,
        /// When, in milliseconds since 1970.
        at: u64,
    },
    /// Entries of a stored signal that were derived again take the place of those that it has, under new numbers. They are
    /// lifted if the signal is.
    Derive {
        /// The feed.
        feed: String,
        /// The signal.
        signal: u64,
        /// All its entries.
        entries: Vec<NewEntry>,
    },
}

impl Change {
    /// The feed.
    pub fn feed(&self) -> &str {
        match self {
            Change::Signal(NewSignal { feed, .. }) | Change::Lift { feed, .. } | Change::Derive { feed, .. } => feed,
        }
    }

    /// Whether an operator made it.
    pub fn is_of_operator(&self) -> bool {
        match self {
            Change::Signal(new) => is_operator_stream(&new.transmitter),
            Change::Lift { .. } => true,
            Change::Derive { .. } => false,
        }
    }
}

/// A signal that was verified or that an operator made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSignal {
    /// The feed.
    pub feed: String,
    /// The stream of the transmitter, or `operator`.
    pub transmitter: String,
    /// `jti` of the SET, or the id that the hub gave an operator's signal.
    pub jti: String,
    /// A hash of the claims of the SET: a second SET with the same `jti` and another hash contradicts the first.
    pub fingerprint: Vec<u8>,
    /// The URI of the event, or `stop`.
    pub event: String,
    /// The subject as JSON, for people; a copy of what the SET says.
    pub subject: String,
    /// The claims of the SET as JSON: what entries can be derived from again.
    pub claims: String,
    /// Who made it: the transmitter or the operator.
    pub by: String,
    /// What the operator said about it, or the reason that the SET gives an administrator.
    pub reason: String,
    /// When it happened.
    pub at: Timestamp,
    /// When the hub took it in, in milliseconds since 1970.
    pub taken_in: u64,
    /// The entries, encoded as a page has them.
    pub entries: Vec<NewEntry>,
}

/// An entry that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The entry in the format of a page (see `taskfence_core::feed::entry`).
    pub bytes: Vec<u8>,
    /// The encoded key.
    pub key: Vec<u8>,
    /// The bucket of the key.
    pub bucket: u16,
    /// The entry is kept until then.
    pub until: Timestamp,
}

/// An entry with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// The number.
    pub number: u64,
    /// The signal that it comes from.
    pub signal: u64,
    /// The entry.
    pub entry: NewEntry,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored {
        /// The id of the signal.
        signal: u64,
        /// The revision after its last entry.
        revision: Revision,
        /// Its new entries.
        entries: Vec<StoredEntry>,
    },
    /// The same signal was stored before. Nothing changed.
    Repeated {
        /// The id of the signal.
        signal: u64,
        /// The revision after its last entry.
        revision: Revision,
    },
    /// Another signal with the same transmitter and `jti` was stored before. Nothing changed.
    Contradicts {
        /// The id of that signal.
        signal: u64,
    },
    /// There is no such signal to change.
    Unknown,
}

/// A stored signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRecord {
    /// Its id in the store.
    pub id: u64,
    /// What it says. `entries` is empty here: see `Store::entries_of`.
    pub signal: NewSignal,
    /// The number of its last entry.
    pub number: u64,
    /// Who lifted it, why, and when (milliseconds since 1970).
    pub lifted: Option<(String, String, u64)>,
}

/// Which signals are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignalQuery {
    /// Only that signal.
    pub id: Option<u64>,
    /// Only those before that id.
    pub before: Option<u64>,
    /// Only those of that transmitter.
    pub transmitter: Option<String>,
    /// Only that `jti`.
    pub jti: Option<String>,
    /// Only stops that stand.
    pub standing_stops: bool,
    /// At most so many, and fewer where they are long; 0 means 100.
    pub limit: usize,
}

/// A line of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The principal.
    pub by: String,
    /// What was called: method and path.
    pub call: String,
    /// The status of the answer.
    pub status: u16,
    /// What was asked for, as JSON, without secrets.
    pub detail: String,
}

/// Somebody who has a bearer token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrincipalRecord {
    /// The name.
    pub name: String,
    /// The role: `sidecar`, `transmitter`, `issuer`, `operator` or `auditor`.
    pub role: String,
    /// The feeds that it may use; empty: all.
    pub feeds: Vec<String>,
    /// The tokens, as SHA-256, with the time each was made and the time it was last used (milliseconds since 1970; 0:
    /// never). At most two.
    pub tokens: Vec<(Vec<u8>, u64, u64)>,
}

/// A proxy that follows a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowerRecord {
    /// The feed.
    pub feed: String,
    /// Its random id.
    pub id: String,
    /// The principal that first used it.
    pub principal: String,
    /// What it last reported, as JSON.
    pub report: String,
    /// What it has applied.
    pub applied: Revision,
    /// When it was last heard of, in milliseconds since 1970.
    pub seen: u64,
    /// `at` of the last statement that was sent to it, in milliseconds since 1970.
    pub statement_at: u64,
    /// The replica of the hub that serves it; empty: not known.
    pub replica: String,
    /// The principal of the relay that says all this about it; empty: it follows the hub itself.
    pub relay: String,
}

/// Why the store did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database failed. Nothing was stored.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The database cannot be reached, or another server answers than before. Nothing is known to be stored: the caller
    /// may come back.
    #[error("the database cannot be used now: {0}")]
    Unavailable(String),
    /// A commit failed in a way that leaves open whether it happened, such as a failed fsync. The process must end: the
    /// next one finds out.
    #[error("the store failed, and whether it stored the last changes is not known: {0}")]
    Uncertain(String),
    /// There is no such feed.
    #[error("the store has no feed `{0}`")]
    NoFeed(String),
    /// There is no room on the disk.
    #[error("the disk of the store is full: {0}")]
    Full(String),
    /// A newer hub has written it.
    #[error("the store has schema {found}, and this hub knows {known}: use a hub of the version that wrote it")]
    Newer {
        /// The schema of the store.
        found: u32,
        /// The newest schema that this hub knows.
        known: u32,
    },
    /// The store holds something that the hub did not write.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
