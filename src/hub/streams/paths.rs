//! The paths of the endpoints.

/// The metadata, between host and path of the issuer (SSF 1.0 §7.2).
pub const METADATA: &str = "/.well-known/ssf-configuration/feeds/{feed}";
/// The keys of SETs.
pub const KEYS: &str = "/feeds/{feed}/jwks.json";
/// The configuration endpoint.
pub const STREAMS: &str = "/feeds/{feed}/ssf/streams";
/// The status endpoint.
pub const STATUS: &str = "/feeds/{feed}/ssf/status";
/// The verification endpoint.
pub const VERIFICATION: &str = "/feeds/{feed}/ssf/verify";
/// The endpoint that adds a subject.
pub const ADD_SUBJECT: &str = "/feeds/{feed}/ssf/subjects/add";
/// The endpoint that removes a subject.
pub const REMOVE_SUBJECT: &str = "/feeds/{feed}/ssf/subjects/remove";
/// Where a stream is polled.
pub const POLL: &str = "/feeds/{feed}/ssf/poll/{stream}";
