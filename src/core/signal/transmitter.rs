//! The transmitters that may send signals.

use crate::encoding::secret::Secret;
use crate::index::IssuerIndex;
use crate::jose::algorithm::Algorithm;
use crate::keys::keyring::Keyring;
use crate::signal::permissions::Permissions;

/// One stream of a transmitter that may send signals.
#[derive(Debug)]
pub struct Transmitter {
    /// `iss` of its SETs.
    pub name: String,
    /// The name of the stream. If the transmitter has only one stream, this is its `iss`.
    pub stream: String,
    /// The `aud` of a SET must contain one of these.
    pub audiences: Vec<String>,
    /// Algorithms that its SETs may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: Keyring,
    /// The `authorization` header that its pushes must carry (RFC 8935 §3).
    pub authorization: Option<Secret>,
    /// The `aud` of its logout tokens must contain one of these (OpenID Connect Back-Channel Logout 1.0). Only a hub takes
    /// logout tokens. Empty: it sends none.
    pub logout_audiences: Vec<String>,
    /// The `aud` of what authenticates its global token revocations must contain one of these. Only a hub takes them.
    /// Empty: it sends none.
    pub revocation_audiences: Vec<String>,
    /// Token issuers whose subjects it may send signals about: name, and index in the list of issuers.
    pub subjects: Vec<(String, IssuerIndex)>,
    /// What it may send, and the effects.
    pub permissions: Permissions,
}
