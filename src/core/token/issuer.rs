//! Token issuers as the configuration trusts them.

use crate::jose::algorithm::Algorithm;
use crate::keys::keyring::Keyring;
use crate::state::key::Kind;
use crate::time::Span;
use crate::token::carriers::Carriers;
use crate::token::presentation::Presentation;
use std::sync::Arc;

/// One trusted issuer.
#[derive(Debug)]
pub struct Issuer {
    /// `iss`, compared byte by byte.
    pub name: String,
    /// At least one of them must stand in `aud`.
    pub audiences: Vec<String>,
    /// Algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: Keyring,
    /// Accepted `typ` values, media types without `application/`.
    pub types: Vec<String>,
    /// `exp - iat` above this is refused.
    pub max_lifetime: Span,
    /// A session that began longer ago is refused.
    pub max_session: Span,
    /// How far its clock and ours may lie apart.
    pub clock_skew: Span,
    /// The claim that names the task.
    pub task_claim: String,
    /// The claim that names the session.
    pub session_claim: String,
    /// The claim that names the device, beside the member `device` of `sub_id`.
    pub device_claim: Option<String>,
    /// The claims that carry scope and details.
    pub carriers: Arc<Carriers>,
    /// A chain of `act` may have this many links.
    pub max_actors: usize,
    /// How its tokens must be presented.
    pub presentation: Presentation,
    /// Claims that hold what a subject of another format than `iss_sub` names (RFC 9493), by the kind of its key.
    pub subject_claims: Vec<(Kind, String)>,
    /// Claims that hold the `sub` that another issuer gave the user, by the name of that issuer.
    pub foreign_users: Vec<(String, String)>,
    /// What an `opaque` subject names that is not a member of a complex one.
    pub opaque_subject: Option<Kind>,
    /// The claim that names the tenant, beside the member `tenant` of `sub_id`.
    pub tenant_claim: Option<String>,
    /// The claim that names the groups, beside the member `group` of `sub_id`.
    pub group_claim: Option<String>,
}

impl Issuer {
    /// How long after a signal about a token itself no such token can be alive any more.
    pub fn token_retention(&self) -> Span {
        self.max_lifetime.plus(self.clock_skew).plus(self.clock_skew)
    }

    /// How long after a signal about a session, a task or a user no token it can hit can be alive any more.
    pub fn session_retention(&self) -> Span {
        self.max_session.plus(self.max_lifetime).plus(self.clock_skew).plus(self.clock_skew)
    }
}
