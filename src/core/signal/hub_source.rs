//! The hub that a filter follows.

use crate::jose::key::KeySet;
use crate::state::coverage::{CoveredIssuer, FeedId};
use crate::time::Span;

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
    pub authorization: Option<String>,
    /// The keys that statements may be signed with.
    pub keys: KeySet,
    /// A hash of these keys.
    pub keys_hash: [u8; 8],
    /// How long the hub may hold a request when it has nothing new.
    pub wait: Span,
    /// For each issuer, by its index: what the feed must cover.
    pub needed: Vec<CoveredIssuer>,
    /// A hash of the configuration, for the hub's list of proxies.
    pub config_hash: String,
    /// `signals.stale.after`, where requests are refused after it.
    pub closes_after: Option<Span>,
}
