//! What the API takes and answers, as JSON. A time is in milliseconds since 1970 where its name ends with `_ms`, and in
//! seconds since 1970 elsewhere.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use taskfence_core::state::key::{Kind, StateKey};
use utoipa::ToSchema;

/// A thing that grants can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// One token, by `jti`.
    Token,
    /// One task.
    Task,
    /// One session.
    Session,
    /// One user, by `sub`.
    User,
    /// One client, by `client_id`.
    Client,
    /// One device, by the name that the issuer gives it.
    Device,
}

impl What {
    /// All of them, from the most narrow to the widest.
    pub const ALL: [What; 6] = [What::Token, What::Task, What::Session, What::Device, What::Client, What::User];

    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Token => "token",
            What::Task => "task",
            What::Session => "session",
            What::User => "user",
            What::Client => "client",
            What::Device => "device",
        }
    }

    /// The key of `name` in the tokens of `issuer`, which has the key space `space`.
    pub fn key(self, (issuer, space): (&str, &str), name: &str) -> StateKey {
        let kind = match self {
            What::Token => Kind::Token,
            What::Task => Kind::Task,
            What::Session => Kind::Session,
            What::User => Kind::User,
            What::Client => Kind::Client,
            What::Device => return StateKey::foreign(Kind::Device, space, issuer, name),
        };
        StateKey::new(kind, space, name)
    }
}

/// An event to report.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRequest {
    /// The URI of the event, or its last part, such as `session-revoked` or `task-completed`.
    pub event: String,
    /// The members of the event, such as `{"current_level": "HIGH"}`. Default: none.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub details: Map<String, Value>,
    /// Whom it is about: a subject identifier (RFC 9493) or a complex subject (SSF 1.0 §3).
    #[schema(value_type = Object)]
    pub subject: Value,
    /// Only grants of this issuer are meant. Default: of every issuer of the feed; an issuer always means its own.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Why, for the log of operators.
    #[serde(default)]
    pub reason: String,
    /// The id of the signal: the same one again changes nothing. Default: a new one.
    #[serde(default)]
    pub jti: Option<String>,
}

/// What to stop until it is undone.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// The issuer of the tokens.
    pub issuer: String,
    /// What of it; together with `name`. Default: everything of the issuer.
    #[serde(default)]
    pub what: Option<What>,
    /// The name of that.
    #[serde(default)]
    pub name: Option<String>,
    /// Why, for the log of operators.
    pub reason: String,
}

/// Which signal to undo: `signal`, or `jti` and, where several transmitters used it, `transmitter`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// The number of the signal at this hub.
    #[serde(default)]
    pub signal: Option<u64>,
    /// The `jti` of the SET, or the id that the hub gave it.
    #[serde(default)]
    pub jti: Option<String>,
    /// The stream of the transmitter, or `operator`.
    #[serde(default)]
    pub transmitter: Option<String>,
    /// Why, for the log of operators.
    pub reason: String,
}

/// What was taken in, durably. It is in force where the receipt of `revision` says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TakenAnswer {
    /// The number of the signal at this hub.
    pub signal: u64,
    /// Its id.
    pub jti: String,
    /// The revision after its last entry.
    pub revision: String,
    /// How many entries it added to the feed. 0: no grant can be meant, or it was taken before.
    pub entries: u64,
    /// Whether it was taken before.
    pub repeated: bool,
    /// What is odd about it, and changed nothing.
    pub notes: Vec<String>,
}

/// A stored signal.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SignalAnswer {
    /// The number of the signal at this hub.
    pub signal: u64,
    /// The stream of the transmitter, or `operator`.
    pub transmitter: String,
    /// `jti` of the SET, or the id that the hub gave it.
    pub jti: String,
    /// The URI of the event, or `stop`.
    pub event: String,
    /// Whom it is about, as the SET says.
    #[schema(value_type = Object)]
    pub subject: Value,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it happened, in seconds since 1970.
    pub at: u64,
    /// When the hub took it in, in milliseconds since 1970.
    pub taken_in_ms: u64,
    /// The number of its last entry in the feed.
    pub number: u64,
    /// Who undid it, if somebody did.
    pub undone: Option<UndoneAnswer>,
}

/// Who undid a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UndoneAnswer {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// What stands against something.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StateAnswer {
    /// What was asked about.
    pub about: Vec<AboutAnswer>,
    /// Whether at least one entry restricts, and was not undone.
    pub restricted: bool,
    /// The entries, the latest first. One about a principal (a user, a client, a device, an issuer) may mean only
    /// sessions that began before it.
    pub entries: Vec<EntryAnswer>,
}

/// One thing that was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AboutAnswer {
    /// `token`, `task`, ..., or `issuer`.
    pub what: String,
    /// The issuer of the tokens.
    pub issuer: String,
    /// Its name there; empty for the issuer itself.
    pub name: String,
}

/// An entry of the state.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EntryAnswer {
    /// What it is about: `token`, `task`, ..., or `issuer`.
    pub what: String,
    /// `revoked`, `completed`, `cut-off` (sessions that began up to `at`), `blocked` (until undone), `device`, `risk`,
    /// `narrowed`, `claim`, `assurance` or `began`.
    pub fact: String,
    /// The value of `device` and `risk`.
    pub value: Option<String>,
    /// Whether it restricts.
    pub restricts: bool,
    /// Whether it was undone: then it has no effect.
    pub undone: bool,
    /// How many further members the subject of the signal has, all of which a grant must have too.
    pub conditions: u64,
    /// When it happened, in seconds since 1970.
    pub at: u64,
    /// Until when it is kept, in seconds since 1970.
    pub until: u64,
    /// The signal that it comes from.
    pub signal: SignalAnswer,
}

/// A proxy that follows a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProxyAnswer {
    /// Its random id.
    pub id: String,
    /// The node of Envoy.
    pub node: String,
    /// Who it authenticated as; behind a relay, as that says.
    pub principal: String,
    /// The relay by whose word all this is known; `null`: the proxy follows the hub itself.
    pub relay: Option<String>,
    /// The version of the filter.
    pub version: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// A hash of its configuration.
    pub config: String,
    /// The revision that is in force there.
    pub applied: String,
    /// How many entries it is behind the feed; `null`: it stands in another history.
    pub behind: Option<u64>,
    /// When it was last heard of, in milliseconds since 1970.
    pub seen_ms: u64,
    /// Whether a request of it waits now.
    pub waits: bool,
    /// `signals.stale.after` in seconds: how long after the last word of the hub it closes itself; `null`: never.
    pub stale_after: Option<u64>,
    /// By when it has closed itself if it hears nothing more, in milliseconds since 1970; `null`: never.
    pub closes_at_ms: Option<u64>,
    /// How far its clock is ahead of the hub's, in milliseconds.
    pub skew_ms: i64,
    /// How many of its buckets are full.
    pub saturated: u64,
}

/// Where a revision is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReceiptAnswer {
    /// The number that was asked about.
    pub number: u64,
    /// When it was stored, in milliseconds since 1970; `null`: not known any more.
    pub committed_at_ms: Option<u64>,
    /// On how many proxies it is in force.
    pub confirmed: u64,
    /// On how many of these it is in force by the word of a relay only.
    pub confirmed_by_relays: u64,
    /// The relays that take the feed. What is behind one is known by its word only.
    pub relays: Vec<RelayAnswer>,
    /// How many proxies have not applied anything yet: they refuse all requests.
    pub starting: u64,
    /// Whether it is in force on every proxy, and all proxies are known.
    pub complete: bool,
    /// The proxy that took longest.
    pub slowest: Option<SlowestAnswer>,
    /// The proxies that have not confirmed it.
    pub waiting: Vec<WaitingAnswer>,
    /// Until when there may be proxies that the hub does not know, because it or its store is new; in milliseconds
    /// since 1970.
    pub may_miss_until_ms: Option<u64>,
    /// What else must be known to read this, such as that the hub started a moment ago.
    pub note: Option<String>,
}

/// A relay that takes a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RelayAnswer {
    /// Its principal.
    pub relay: String,
    /// When it last asked for a page, in milliseconds since 1970.
    pub polled_ms: u64,
    /// When it last said what is behind it, in milliseconds since 1970; `null`: never.
    pub reported_ms: Option<u64>,
    /// Whether it has said what was behind it when the change was committed. Without that no receipt is complete.
    pub reports: bool,
}

/// The proxy that took longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlowestAnswer {
    /// The node of Envoy, or the id of a proxy that reports none.
    pub node: String,
    /// How long it took from the commit, in milliseconds.
    pub after_ms: u64,
}

/// A proxy that has not confirmed a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitingAnswer {
    /// Its id.
    pub id: String,
    /// The node of Envoy.
    pub node: String,
    /// The relay that tells of it; `null`: it follows the hub itself.
    pub relay: Option<String>,
    /// The revision that is in force there.
    pub applied: String,
    /// When it was last heard of, in milliseconds since 1970.
    pub seen_ms: u64,
    /// By when it has closed itself, in milliseconds since 1970; `null`: never.
    pub closes_at_ms: Option<u64>,
    /// Why it never closes itself.
    pub never: Option<String>,
}

/// A feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FeedAnswer {
    /// Its name.
    pub name: String,
    /// Its last revision.
    pub revision: String,
    /// The issuers that it covers.
    pub issuers: Vec<String>,
    /// How many proxies follow it.
    pub proxies: u64,
    /// How many of them are behind.
    pub behind: u64,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AuditAnswer {
    /// Its number.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who.
    pub by: String,
    /// Method and path.
    pub call: String,
    /// The status of the answer.
    pub status: u16,
    /// What was asked for.
    #[schema(value_type = Object)]
    pub detail: Value,
}

/// Whose token to make.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenRequest {
    /// The name; with the role `issuer` that of the issuer.
    pub name: String,
    /// `sidecar`, `transmitter`, `issuer`, `operator` or `auditor`.
    pub role: String,
    /// The feeds that it may use. Default: all.
    #[serde(default)]
    pub feeds: Vec<String>,
}

/// A token whose name is meant.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The name.
    pub name: String,
    /// When revoking: keep the newest token, so that a rotation comes to its end. Default: no.
    #[serde(default)]
    pub but_the_newest: bool,
}

/// A new token. It is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NewTokenAnswer {
    /// The name.
    pub name: String,
    /// The token.
    pub token: String,
}

/// The tokens of one principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokensAnswer {
    /// The name.
    pub name: String,
    /// The role.
    pub role: String,
    /// The feeds that it may use; empty: all.
    pub feeds: Vec<String>,
    /// Its valid tokens, the oldest first.
    pub tokens: Vec<TokenUseAnswer>,
}

/// One valid token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenUseAnswer {
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// When it was last used, in milliseconds since 1970; `null`: never.
    pub used_ms: Option<u64>,
}
