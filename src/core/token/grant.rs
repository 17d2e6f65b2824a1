//! The contents of a verified access token: the grant.

use crate::encoding::digest::{Digest, digest_text};
use crate::jose::jws::Unverified;
use crate::state::key::{Kind, StateKey};
use crate::time::Timestamp;
use crate::token::carriers::Carriers;
use crate::token::confirmation::Confirmation;
use crate::token::detail::Detail;
use crate::token::identifier::user_key;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
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
    /// The client, unless the issuer names none (`client_id`, RFC 8693 §4.3).
    pub client_id: Option<String>,
    /// What identifies the token.
    pub token_id: TokenId,
    /// The task that the token was granted for, unless the issuer names none.
    pub task: Option<String>,
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
    /// The claims as in the token: all, or only those that rules read by name, if `token` holds the others. Rules read
    /// them with the changes of signals: see [`crate::rules::evidence::Evidence::claim`].
    pub claims: Map<String, Value>,
    /// The token, once `claims` are not all of its claims.
    pub(crate) token: Option<Arc<[u8]>>,
}

/// What identifies a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenId {
    /// The claim, `jti` by default.
    Claim(String),
    /// The SHA-256 of the signed bytes of a token of an issuer that gives tokens no identifier.
    Digest(Digest),
}

impl TokenId {
    /// The name under which the state knows the token. A digest has a control character, which no claim has, so no
    /// claim of another token is equal to it.
    pub fn state_name(&self) -> Cow<'_, str> {
        match self {
            TokenId::Claim(id) => id.into(),
            TokenId::Digest(digest) => format!("\0sha256\0{}", digest_text(digest)).into(),
        }
    }
}

impl fmt::Display for TokenId {
    /// The claim, or `sha256:` and the digest in base64url.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenId::Claim(id) => f.write_str(id),
            TokenId::Digest(digest) => write!(f, "sha256:{}", digest_text(digest)),
        }
    }
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
    /// All claims as in the token. They are read again if not all are held.
    pub(crate) fn all_claims(&self) -> Map<String, Value> {
        let again = self.token.as_ref().and_then(|token| Unverified::parse(token, token.len()).ok());
        again.map_or_else(|| self.claims.clone(), Unverified::into_claims)
    }

    /// Forgets the claims that are not in `kept`, a list of names of top-level claims. `token` is its token.
    pub(crate) fn keep_claims(&mut self, kept: &[Box<str>], token: &Arc<[u8]>) {
        let claims = std::mem::take(&mut self.claims);
        self.claims = claims.into_iter().filter(|(name, _)| kept.iter().any(|kept| **kept == **name)).collect();
        self.token = Some(Arc::clone(token));
    }

    /// The keys under which the pushed state about this grant is stored.
    pub fn state_keys(&self) -> Vec<StateKey> {
        let own = |kind, name: &str| StateKey::new(kind, &self.key_space, name);
        let mut keys = vec![
            own(Kind::Token, &self.token_id.state_name()),
            own(Kind::User, &self.subject),
            StateKey::of_issuer(&self.key_space),
        ];
        keys.extend(self.task.as_ref().map(|task| own(Kind::Task, task)));
        keys.extend(self.client_id.as_ref().map(|client| own(Kind::Client, client)));
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
