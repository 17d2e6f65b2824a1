//! The token issuers that the configuration trusts.

use crate::jose::algorithm::Algorithm;
use crate::keys::keyring::Keyring;
use crate::state::key::Kind;
use crate::time::Span;
use crate::token::carriers::Carriers;
use crate::token::claim_names::ClaimNames;
use crate::token::claim_path::ClaimPath;
use crate::token::presentation::Presentation;
use serde_json::Value;
use std::sync::Arc;

/// One trusted issuer.
#[derive(Debug)]
pub struct Issuer {
    /// `iss`, compared byte by byte.
    pub name: String,
    /// The position of its entry in `issuers` of the configuration, counted from 0. An entry with captures stands for
    /// several issuers.
    pub entry: usize,
    /// Whether its tokens have no `iss`, and scheme and authority of `sub` are its name.
    pub is_in_subject: bool,
    /// Under what names of its tokens are hashed in the state: see [`key_space`].
    pub key_space: Arc<str>,
    /// The audience of a token must contain at least one of these. Empty if its tokens name no audience.
    pub audiences: Vec<String>,
    /// Algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: Keyring,
    /// Accepted `typ` values, media types without `application/`.
    pub types: Vec<String>,
    /// Whether a token without `typ` is accepted.
    pub accepts_untyped: bool,
    /// The maximum of `exp - iat`.
    pub max_lifetime: Span,
    /// The maximum age of a session.
    pub max_session: Span,
    /// How far the clocks of the issuer and of this proxy may differ.
    pub clock_skew: Span,
    /// The names of its claims.
    pub claims: ClaimNames,
    /// Claims that its tokens must have, each with the values of which it must have one.
    pub required: Vec<(ClaimPath, Vec<Value>)>,
    /// The claims that carry scope and details.
    pub carriers: Arc<Carriers>,
    /// The maximum number of links in a chain of `act`.
    pub max_actors: usize,
    /// How its tokens must be presented.
    pub presentation: Presentation,
    /// What an `opaque` subject names if it is not a member of a complex subject.
    pub opaque_subject: Option<Kind>,
}

/// Under what the names of `issuer` are hashed in state keys: its name, and before it the feed of the hub that brings
/// signals about it. So one hub does not hash a name of two feeds alike. No name of a feed contains a NUL.
pub fn key_space(feed: Option<&str>, issuer: &str) -> Arc<str> {
    match feed {
        Some(feed) => format!("\0{feed}\0{issuer}").into(),
        None => issuer.into(),
    }
}

impl Issuer {
    /// After a signal about a token: the time after which this token is no longer valid.
    pub(crate) fn token_retention(&self) -> Span {
        self.max_lifetime.plus(self.clock_skew).plus(self.clock_skew)
    }

    /// After a signal about a session, a task or a user: the time after which no affected token is valid.
    pub(crate) fn session_retention(&self) -> Span {
        self.max_session.plus(self.max_lifetime).plus(self.clock_skew).plus(self.clock_skew)
    }
}
