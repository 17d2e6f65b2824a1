//! The contents of a verified access token: the grant.

use crate::state::key::{Kind, StateKey};
use crate::time::Timestamp;
use crate::token::carriers::Carriers;
use crate::token::confirmation::Confirmation;
use crate::token::detail::Detail;
use crate::token::identifier::user_key;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The claims of a verified token, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// `iss`.
    pub issuer: String,
    /// Under what the names of the issuer are hashed: see [`crate::token::issuer::key_space`].
    pub key_space: Arc<str>,
    /// `sub`.
    pub subject: String,
    /// `client_id` (RFC 8693 §4.3).
    pub client_id: String,
    /// `jti`.
    pub token_id: String,
    /// The task that the token was granted for.
    pub task: String,
    /// The session, if the issuer names one.
    pub session: Option<String>,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `auth_time`, if the issuer states when the user was authenticated.
    pub authenticated_at: Option<Timestamp>,
    /// `scope`, split at spaces.
    pub scopes: Vec<String>,
    /// `authorization_details`.
    pub details: Vec<Detail>,
    /// `acr`.
    pub acr: Option<String>,
    /// The chain of `act` (RFC 8693 §4.1), the current actor first. Only the first one counts for access decisions; the
    /// others are history.
    pub actors: Vec<Actor>,
    /// What the token is bound to (`cnf`).
    pub confirmation: Confirmation,
    /// The device, as `(issuer, name)`.
    pub device: Option<(String, String)>,
    /// The tenant, as `(issuer, name)`.
    pub tenant: Option<(String, String)>,
    /// The groups, as `(issuer, name)`.
    pub groups: Vec<(String, String)>,
    /// Other identifiers of the user: the kind of key, and the claim's value.
    pub identifiers: Vec<(Kind, String)>,
    /// The `sub` that other issuers gave the user, as `(issuer, name)`.
    pub foreign_users: Vec<(String, String)>,
    /// The claims that carry scope and details.
    pub carriers: Arc<Carriers>,
    /// All claims as in the token. Rules read them with the changes of signals: see
    /// [`crate::rules::evidence::Evidence::claim`].
    pub claims: Map<String, Value>,
}

/// A party that acts for the subject (RFC 8693 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `iss`, where the claim has one.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
}

impl Grant {
    /// The keys under which the pushed state about this grant is stored.
    pub fn state_keys(&self) -> Vec<StateKey> {
        let own = |kind, name: &str| StateKey::new(kind, &self.key_space, name);
        let mut keys = vec![
            own(Kind::Token, &self.token_id),
            own(Kind::Task, &self.task),
            own(Kind::User, &self.subject),
            own(Kind::Client, &self.client_id),
            StateKey::of_issuer(&self.key_space),
        ];
        keys.extend(self.session.as_ref().map(|session| own(Kind::Session, session)));
        let foreign = |kind, authority: &str, name: &str| StateKey::foreign(kind, &self.key_space, authority, name);
        keys.extend(
            self.actors
                .first()
                .map(|actor| foreign(Kind::Actor, actor.issuer.as_ref().unwrap_or(&self.issuer), &actor.subject)),
        );
        keys.extend(self.device.as_ref().map(|(issuer, name)| foreign(Kind::Device, issuer, name)));
        keys.extend(self.identifiers.iter().map(|(kind, value)| user_key(*kind, &self.key_space, value)));
        keys.extend(self.foreign_users.iter().map(|(issuer, name)| foreign(Kind::ForeignUser, issuer, name)));
        keys.extend(self.tenant.as_ref().map(|(issuer, name)| foreign(Kind::Tenant, issuer, name)));
        keys.extend(self.groups.iter().map(|(issuer, name)| foreign(Kind::Group, issuer, name)));
        keys
    }
}
