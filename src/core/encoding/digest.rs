//! SHA-256 digests and their text form.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// SHA-256, as tokens and certificates are hashed with.
pub fn sha256(bytes: &[u8]) -> Digest {
    sha256_of(&[bytes])
}

/// SHA-256 of `parts` one after the other. The hash is long when it is inlined, so it stands in one place.
#[inline(never)]
pub(crate) fn sha256_of(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// 43 letters hold two bits more than a digest has. The example of RFC 8705 §3.1 has them set; nobody can gain by them,
/// for the issuer signed the claim.
pub(crate) const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// A digest in base64url without padding.
pub fn digest(text: &str) -> Option<Digest> {
    LENIENT.decode(text).ok()?.try_into().ok()
}

/// How a digest is written.
pub fn digest_text(digest: &Digest) -> String {
    URL_SAFE_NO_PAD.encode(digest)
}
