//! A stream as the store keeps it: what its receiver wants, and how far it has got.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// The method of a push (RFC 8935).
pub const PUSH: &str = "urn:ietf:rfc:8935";

/// The method of a poll (RFC 8936).
pub const POLL: &str = "urn:ietf:rfc:8936";

/// A stream of one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its id.
    pub id: String,
    /// The feed.
    pub feed: String,
    /// The principal that made it. No other receiver sees it.
    pub principal: String,
    /// How SETs get to the receiver.
    pub delivery: Delivery,
    /// The URIs of the events that the receiver asked for; `None`: all.
    pub events_requested: Option<Vec<String>>,
    /// What the receiver calls it.
    pub description: Option<String>,
    /// Whether it delivers.
    pub status: Status,
    /// Why it has this status.
    pub reason: Option<String>,
    /// Every signal of the feed up to this id was delivered, or is not for this stream.
    pub after: u64,
    /// What was taken in up to then was delivered, in milliseconds since 1970: what the store has removed before is not
    /// missed.
    pub complete_until: u64,
    /// Signals beyond `after` that the receiver has acknowledged.
    pub acknowledged: BTreeSet<u64>,
    /// Subjects that the receiver does not want to hear of (SSF 1.0 §8.1.3).
    #[serde(default)]
    pub removed_subjects: Vec<Value>,
    /// Events about the stream itself that wait.
    pub about_stream: Vec<AboutStream>,
    /// When the receiver last did something, in milliseconds since 1970.
    pub seen: u64,
    /// When the receiver last asked for a verification, in milliseconds since 1970.
    pub verified: u64,
}

/// How SETs get to the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// The hub pushes them (RFC 8935).
    Push {
        /// Where to.
        endpoint_url: String,
        /// The value of the `authorization` header of each push.
        authorization_header: Option<Authorization>,
    },
    /// The receiver polls (RFC 8936).
    Poll,
}

/// An endpoint as it is shown: its query may be a secret of its receiver.
pub fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

/// The value of an `authorization` header, which is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authorization(pub String);

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// The status of a stream (SSF 1.0 §8.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It delivers.
    Enabled,
    /// It keeps what it will deliver.
    Paused,
    /// What happens meanwhile is not delivered.
    Disabled,
}

impl Status {
    /// The name in an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Enabled => "enabled",
            Status::Paused => "paused",
            Status::Disabled => "disabled",
        }
    }
}

/// An event about the stream itself (SSF 1.0 §8.1.4, §8.1.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutStream {
    /// `jti` of its SET.
    pub jti: String,
    /// When it was made, in milliseconds since 1970.
    pub at: u64,
    /// What it says.
    pub says: Says,
}

/// What an event about a stream says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// verification, with the `state` of the request.
    Verification(Option<String>),
    /// stream-updated.
    Updated(Status, Option<String>),
}

/// At most so many events about the stream wait. The oldest is given up for a new one.
const MAX_ABOUT_STREAM: usize = 16;

impl StreamRecord {
    /// Adds an event about the stream.
    pub fn tell(&mut self, event: AboutStream) {
        while self.about_stream.len() >= MAX_ABOUT_STREAM {
            self.about_stream.remove(0);
        }
        self.about_stream.push(event);
    }

    /// The hub changes the status of its own accord, and tells the receiver.
    pub fn change_status(&mut self, status: Status, reason: &str, now: u64) {
        if self.status != status {
            let jti = uuid::Uuid::new_v4().to_string();
            self.tell(AboutStream { jti, at: now, says: Says::Updated(status, Some(reason.to_owned())) });
        }
        (self.status, self.reason) = (status, Some(reason.to_owned()));
    }

    /// The events about the stream that may be sent now: while it does not deliver, only that it was changed.
    pub fn sendable(&self) -> impl Iterator<Item = &AboutStream> {
        let is_enabled = self.status == Status::Enabled;
        self.about_stream.iter().filter(move |event| is_enabled || matches!(event.says, Says::Updated(..)))
    }

    /// Moves on to `after`, up to which nothing waits.
    pub fn move_on(&mut self, after: u64) {
        self.after = self.after.max(after);
        let after = self.after;
        self.acknowledged.retain(|id| *id > after);
    }
}
