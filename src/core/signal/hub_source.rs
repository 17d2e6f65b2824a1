//! The hub that a filter follows.

use crate::encoding::secret::Secret;
use crate::jose::key::KeySet;
use crate::state::coverage::{CoveredIssuer, FeedId, IssuerId};
use crate::time::Span;
use crate::token::claim_names::ClaimNames;
use crate::token::issuer::Issuer;

/// The hub that a filter follows: `signals.hub`, compiled.
#[derive(Debug)]
pub struct HubSource {
    /// The name of the hub: `iss` of its statements.
    pub hub: String,
    /// The name of the feed.
    pub feed: String,
    /// A hash of both.
    pub id: FeedId,
    /// The cluster of the proxy that leads to the hub.
    pub cluster: String,
    /// `:authority` of the requests.
    pub host: String,
    /// The path of the feed.
    pub path: String,
    /// The `authorization` header of the requests.
    pub authorization: Option<Secret>,
    /// The keys that statements may be signed with.
    pub keys: KeySet,
    /// A hash of these keys.
    pub keys_hash: [u8; 8],
    /// How long the hub may hold a request when it has nothing new.
    pub wait: Span,
    /// For each issuer, by its index: what the feed must cover.
    pub needed: Vec<CoveredIssuer>,
    /// A hash of the configuration, for the hub's list of proxies: 16 hexadecimal digits.
    pub config_hash: String,
    /// The age of the state after which requests are refused, by every rule; `None` when a rule lets them pass.
    pub closes_after: Option<Span>,
    /// A relay whose hub is gone may say that the filter has caught up, by a statement that is at most so old; `None`: only
    /// a statement with the nonce of the filter does.
    pub vouched_within: Option<Span>,
}

impl HubSource {
    /// Whether a statement of the time `at` says without a nonce that the filter has caught up. Both times are in
    /// milliseconds since 1970, `now` by the clock of the filter.
    pub fn vouches(&self, at: u64, now: u64) -> bool {
        self.vouched_within.is_some_and(|span| now.saturating_sub(at) <= span.0.saturating_mul(1_000))
    }
}

/// What a feed must cover for tokens of `issuer`. A hub and a filter that find subjects in other claims, or hash names for
/// another feed, have different ids, so the filter does not take the feed for that issuer.
pub fn covered(issuer: &Issuer) -> CoveredIssuer {
    let (names, usual) = (&issuer.claims, ClaimNames::default());
    let mut claims = vec![format!("task: {}", names.task), format!("session: {}", names.session)];
    let optional = [("device", &names.device), ("tenant", &names.tenant), ("group", &names.group)];
    claims.extend(
        optional.into_iter().filter(|(_, names)| !names.is_none()).map(|(what, names)| format!("{what}: {names}")),
    );
    // The usual names are left out, so that two versions of this software which both read them have one id.
    let others = [
        ("subject", &names.subject, &usual.subject),
        ("client", &names.client, &usual.client),
        ("token", &names.token, &usual.token),
        ("actor", &names.actor, &usual.actor),
        ("auth_time", &names.auth_time, &usual.auth_time),
        ("scope", &names.scope, &usual.scope),
        ("details", &names.details, &usual.details),
    ];
    let others = others.into_iter().filter(|(_, names, usual)| names != usual);
    claims.extend(others.map(|(what, names, _)| format!("{what}: {names}")));
    claims.extend(names.subjects.iter().map(|(kind, names)| format!("{}: {names}", kind.as_str())));
    // Two parts, because a name of an issuer may contain any separator.
    let foreign = names.foreign_users.iter();
    claims.extend(foreign.flat_map(|(by, claim)| [format!("iss_sub issuer: {by}"), format!("iss_sub claim: {claim}")]));
    claims.extend(issuer.opaque_subject.map(|kind| format!("opaque: {}", kind.as_str())));
    CoveredIssuer {
        id: IssuerId::new(&issuer.key_space, &claims),
        token_retention: issuer.token_retention(),
        session_retention: issuer.session_retention(),
    }
}
