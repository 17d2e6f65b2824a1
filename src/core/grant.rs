//! What a verified access token grants, and to whom.

use crate::detail::Detail;
use crate::statekey::{Kind, StateKey};
use crate::time::Timestamp;
use serde_json::{Map, Value};

/// The claims of a verified token, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `client_id` (RFC 8693 §4.3).
    pub client_id: String,
    /// `jti`.
    pub token_id: String,
    /// The task that the token was granted for.
    pub task: String,
    /// The session, where the issuer names one.
    pub session: Option<String>,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `auth_time`, where the issuer says when the user was authenticated.
    pub authenticated_at: Option<Timestamp>,
    /// `scope`, split at spaces.
    pub scopes: Vec<String>,
    /// `authorization_details`.
    pub details: Vec<Detail>,
    /// All claims as they came.
    pub claims: Map<String, Value>,
}

impl Grant {
    /// When the session behind this token began: `auth_time`, else `iat`.
    ///
    /// `iat` alone would let a token minted anew clear the cut-off that its session fell under.
    pub fn session_start(&self) -> Timestamp {
        self.authenticated_at.unwrap_or(self.issued_at)
    }

    /// The keys under which pushed state about this grant is kept.
    pub fn state_keys(&self) -> Vec<StateKey> {
        let mut keys = vec![
            StateKey::new(Kind::Token, &self.issuer, &self.token_id),
            StateKey::new(Kind::Task, &self.issuer, &self.task),
            StateKey::new(Kind::User, &self.issuer, &self.subject),
        ];
        keys.extend(self.session.as_ref().map(|session| StateKey::new(Kind::Session, &self.issuer, session)));
        keys
    }
}
