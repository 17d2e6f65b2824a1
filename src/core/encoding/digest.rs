//! SHA-256 digests and their text form.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The SHA-256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    sha256_of(&[bytes])
}

/// The SHA-256 digest of `parts`, concatenated. Not inlined, because the code of the hash is long.
#[inline(never)]
pub(crate) fn sha256_of(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// The first 8 bytes of the SHA-256 digest of `parts`, each with its length before it, so that ("ab", "c") and ("a",
/// "bc") differ.
pub(crate) fn short_hash(parts: &[&str]) -> [u8; 8] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 8];
    short.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
    short
}

/// 43 characters hold two bits more than a digest has. In the example of RFC 8705 §3.1 they are set. To accept that is
/// safe: the issuer signed the claim.
pub(crate) const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Decodes a digest from base64url without padding.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    LENIENT.decode(text).ok()?.try_into().ok()
}

/// Encodes a digest as base64url without padding.
pub fn digest_text(digest: &Digest) -> String {
    URL_SAFE_NO_PAD.encode(digest)
}
