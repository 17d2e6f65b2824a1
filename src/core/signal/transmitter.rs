//! Who may send signals.

use crate::index::IssuerIndex;
use crate::jose::algorithm::Algorithm;
use crate::keys::keyring::Keyring;
use crate::signal::permissions::Permissions;

/// Whoever may send signals: one stream of a transmitter.
#[derive(Debug)]
pub struct Transmitter {
    /// `iss` of its SETs.
    pub name: String,
    /// What tells this stream from others of the same `iss`; the `iss` itself where there is one stream.
    pub stream: String,
    /// One of these must stand in `aud`.
    pub audiences: Vec<String>,
    /// Algorithms that its SETs may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: Keyring,
    /// The `authorization` header that its pushes must carry (RFC 8935 §3).
    pub authorization: Option<String>,
    /// Token issuers about whose subjects it may speak, by name and by index.
    pub subjects: Vec<(String, IssuerIndex)>,
    /// What it may say, and what that does.
    pub permissions: Permissions,
}
