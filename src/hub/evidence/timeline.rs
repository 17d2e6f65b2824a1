//! The timeline of a task, a session, a user, a client or a token: `GET /v1/feeds/NAME/timeline`. Times are in
//! milliseconds since 1970.

use crate::evidence::model::{GapRow, NodeRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// All that is known, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// The feed.
    pub feed: String,
    /// What was asked for: `task`, `session`, `subject`, `client` or `token`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// The grants that it is about.
    pub grants: Vec<TimelineGrant>,
    /// What happened, in the order of the times.
    pub moments: Vec<Moment>,
    /// What may be missing.
    pub gaps: Vec<GapRow>,
    /// Whose word it is: who has sent the evidence of each proxy.
    #[serde(default)]
    pub nodes: Vec<NodeRow>,
    /// Whether there was more than is here.
    pub cut: bool,
}

/// A grant of the timeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineGrant {
    /// The issuer.
    pub issuer: String,
    /// The id of the token.
    pub token: String,
    /// The user.
    pub subject: String,
    /// The client.
    pub client: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// `iat`, in milliseconds as all times here.
    pub issued_at: u64,
    /// `exp`, in milliseconds.
    pub expires_at: u64,
    /// The scopes.
    pub scopes: Vec<String>,
    /// `authorization_details`.
    pub details: Vec<Value>,
}

/// One thing that happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Moment {
    /// When.
    pub at: u64,
    /// What: `requested`, `approved`, `denied`, `issued`, `extended`, `first_use`, `last_use`, `context`, `narrowed`,
    /// `ended`, `lifted`, `stream_ended`, `refused`, `attempt_after_end`, `break_glass`, `would_deny`, `expired`,
    /// `session_established`, `session_presented`, `gap`.
    pub what: String,
    /// In words.
    pub text: String,
    /// The token that it is about, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The proxy that saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many requests it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// For what lasts or was counted: when it happened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// More about it: the record, the event.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}
