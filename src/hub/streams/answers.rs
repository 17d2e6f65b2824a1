//! What the endpoints take and answer (SSF 1.0 §8.1). Members that are not known are ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// A stream (SSF 1.0 §8.1.1).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StreamAnswer {
    /// Its id.
    pub stream_id: String,
    /// `iss` of its SETs.
    pub iss: String,
    /// `aud` of its SETs.
    pub aud: String,
    /// The URIs of the events that there are.
    pub events_supported: Vec<String>,
    /// The URIs of the events that the receiver asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_requested: Option<Vec<String>>,
    /// The URIs of the events that it gets.
    pub events_delivered: Vec<String>,
    /// How it gets them.
    pub delivery: DeliveryAnswer,
    /// A verification may be asked for so often, in seconds.
    pub min_verification_interval: u64,
    /// A stream whose receiver does nothing for so long is paused, in seconds.
    pub inactivity_timeout: u64,
    /// What the receiver calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// How SETs get to the receiver (SSF 1.0 §6.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeliveryAnswer {
    /// `urn:ietf:rfc:8935` (push) or `urn:ietf:rfc:8936` (poll).
    pub method: String,
    /// Where they are pushed to, or polled.
    pub endpoint_url: String,
    /// The `authorization` header of each push, as the receiver set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_header: Option<String>,
}

/// A stream to be made, or as it is to be.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct StreamRequest {
    /// Its id; not when it is made.
    pub stream_id: Option<String>,
    /// The URIs of the events that the receiver asks for; default: all.
    pub events_requested: Option<Vec<String>>,
    /// How SETs are to get to it; default: by poll.
    pub delivery: Option<DeliveryRequest>,
    /// What the receiver calls it.
    pub description: Option<String>,
}

/// How SETs are to get to the receiver.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct DeliveryRequest {
    /// `urn:ietf:rfc:8935` (push) or `urn:ietf:rfc:8936` (poll).
    pub method: String,
    /// Where they are to be pushed to.
    pub endpoint_url: Option<String>,
    /// The `authorization` header of each push.
    pub authorization_header: Option<String>,
}

/// Which stream.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// The id of the stream.
    pub stream_id: Option<String>,
}

/// The status of a stream (SSF 1.0 §8.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusBody {
    /// The id of the stream.
    pub stream_id: String,
    /// `enabled`, `paused` or `disabled`.
    pub status: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A request for a verification event (SSF 1.0 §8.1.4.2).
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct VerificationRequest {
    /// The id of the stream.
    pub stream_id: String,
    /// What the event is to repeat.
    pub state: Option<String>,
}

/// A subject that the receiver wants to hear of again, or not any more (SSF 1.0 §8.1.3).
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct SubjectRequest {
    /// The id of the stream.
    pub stream_id: String,
    /// The subject (RFC 9493, SSF 1.0 §3).
    #[schema(value_type = Object)]
    pub subject: Value,
}

/// A poll (RFC 8936 §2.2).
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PollRequest {
    /// At most so many SETs; 0: only acknowledge.
    pub max_events: Option<usize>,
    /// Whether to answer at once when there are none.
    pub return_immediately: bool,
    /// `jti` of SETs that the receiver has stored.
    pub ack: Vec<String>,
    /// SETs that the receiver cannot use.
    pub set_errs: BTreeMap<String, SetErr>,
}

/// Why a receiver cannot use a SET (RFC 8935 §2.4, RFC 8936 §2.6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SetErr {
    /// The code.
    pub err: String,
    /// What is wrong.
    pub description: String,
}

/// The answer to a poll (RFC 8936 §2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PollAnswer {
    /// The SETs, by `jti`.
    pub sets: BTreeMap<String, String>,
    /// Whether there are more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_available: bool,
}

/// A stream as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StreamSummary {
    /// Its id.
    pub stream_id: String,
    /// Whose it is.
    pub principal: String,
    /// `push` or `poll`.
    pub delivery: String,
    /// Where it is pushed to.
    pub endpoint: Option<String>,
    /// `enabled`, `paused` or `disabled`.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// What the receiver calls it.
    pub description: Option<String>,
    /// The signal up to which nothing waits.
    pub after: u64,
    /// So many SETs wait; at most 1000 are counted.
    pub waiting: u64,
    /// How long the oldest of them has waited, in milliseconds.
    pub behind_ms: u64,
    /// When the receiver was last heard of, in milliseconds since 1970.
    pub seen_ms: u64,
}
