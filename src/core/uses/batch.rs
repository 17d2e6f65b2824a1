//! What a proxy sends to its hub about uses: `POST /v1/feeds/NAME/uses`, and what the hub answers. JSON; a reader ignores
//! members that it does not know, so that a newer filter and an older hub understand each other.
//!
//! Each worker of a proxy has a VM of its own, which counts, and cuts what it has counted into numbered batches. It keeps a
//! batch until the hub has it, and counts on meanwhile; (`vm`, `number`) is unique, so a batch that comes twice counts once.

use crate::uses::outline::Outline;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of these messages.
pub const FORMAT: u8 = 1;

/// The body of a request. Its media type is `application/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Post {
    /// [`FORMAT`].
    pub format: u8,
    /// The id of the follower in this proxy, as in the header `taskfence-follower`.
    pub proxy: String,
    /// `node.id` of the proxy.
    pub node: String,
    /// What its workers have counted.
    #[serde(default)]
    pub batches: Vec<Batch>,
    /// Workers that were replaced before they could send what they had counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The rules of configurations that the hub asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<Outline>,
}

/// What one VM has counted in one stretch of time. All times are in milliseconds since 1970, by the clock of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The VM: 16 hexadecimal digits, drawn at random when it starts.
    pub vm: String,
    /// The number of the batch of this VM, from 1 on.
    pub number: u64,
    /// When the first use in it was counted.
    pub since: u64,
    /// When it was cut.
    pub until: u64,
    /// The rules that the uses name by their position here.
    pub rules: Vec<RuleRef>,
    /// What was counted, by grant.
    pub grants: Vec<GrantUses>,
    /// Requests that were permitted with grants that did not fit into the memory for counting.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_permitted: u64,
    /// Requests with verified grants that were refused, and did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other_refused: u64,
    /// Single decisions, as `docs/decision-record.md` describes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Value>,
    /// Single decisions that did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub records_dropped: u64,
}

/// A rule of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleRef {
    /// The hash of the configuration, as in the header `taskfence-follower`.
    pub config: String,
    /// The name of the rule.
    pub name: String,
}

/// The uses of one grant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GrantUses {
    /// The grant.
    pub grant: GrantInfo,
    /// What was permitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<Permitted>,
    /// Permitted requests of this grant that differ in more ways than there is room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other: u64,
    /// What was refused, or would have been if refusals were enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// From where it was used, as far as the proxy looked: see `docs/measures.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Seen>,
}

/// A grant, as its token says. Masked members are absent, or hashed, as the configuration of the filter says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GrantInfo {
    /// `iss`.
    pub issuer: String,
    /// What identifies the token at its issuer: `jti`, or `sha256:` and a digest.
    pub token: String,
    /// The SHA-256 of the whole token, the first 16 bytes in hexadecimal. Never the token.
    pub fingerprint: String,
    /// `sub`.
    pub subject: String,
    /// The client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// `sub` of each `act`, the current actor first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<String>,
    /// The scopes, in the order of the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// `authorization_details`, as in the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Value>,
    /// `iat`, in seconds since 1970.
    pub issued_at: u64,
    /// `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// Whether `scopes` or `details` were too long and are not all here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// The names of members that are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
}

/// Requests that were permitted by one rule, with one method and the same captures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permitted {
    /// The position of the rule in [`Batch::rules`].
    pub rule: u32,
    /// The method, as received.
    pub method: String,
    /// What the path captured, in the order of the names in the [`Outline`], percent-decoded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<String>,
    /// How many.
    pub count: u64,
    /// How many of them by break-glass.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub break_glass: u64,
    /// When the first was permitted.
    pub first: u64,
    /// When the last was.
    pub last: u64,
}

/// Requests that were refused for one reason by one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The position of the rule in [`Batch::rules`]; absent without a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// The reason: a code of `Reason`.
    pub reason: String,
    /// Whether they passed all the same, by shadow mode.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shadow: bool,
    /// Whether these were live streams that were ended, not requests.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ended: bool,
    /// How many.
    pub count: u64,
    /// When the first was refused.
    pub first: u64,
    /// When the last was.
    pub last: u64,
}

/// From where a grant was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What `value` is.
    pub kind: SeenKind,
    /// The SPIFFE id or another URI, the address, or the thumbprint.
    pub value: String,
    /// In how many of the requests that were looked at.
    pub count: u64,
    /// When first.
    pub first: u64,
    /// When last.
    pub last: u64,
}

/// What tells one user of a grant from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenKind {
    /// The URI in the client's certificate.
    #[default]
    Peer,
    /// The address of the client.
    Source,
    /// The SHA-256 of the client's certificate, or the thumbprint of the key of a DPoP proof.
    Key,
}

/// A VM that was replaced with uses that it had not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The VM.
    pub vm: String,
    /// The oldest use that may be missing.
    pub since: u64,
    /// When the VM was last alive.
    pub until: u64,
}

/// What the hub answers, with 200.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// After so many seconds each VM sends again, if it has counted something.
    pub period: u64,
    /// The batches that are stored, also those that had been stored before.
    pub taken: Vec<BatchId>,
    /// Hashes of configurations whose rules the hub does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs_wanted: Vec<String>,
}

/// Which batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchId {
    /// The VM.
    pub vm: String,
    /// The number.
    pub number: u64,
}

impl SeenKind {
    /// Its name, also among masks.
    pub fn as_str(self) -> &'static str {
        match self {
            SeenKind::Peer => "peer",
            SeenKind::Source => "source",
            SeenKind::Key => "key",
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !value
}
