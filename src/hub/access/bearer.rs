//! A bearer token: 256 random bits, shown once and kept as a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use taskfence_core::encoding::digest::sha256;

/// What every token of a hub begins with, so that a scanner for secrets can find one.
pub const PREFIX: &str = "tfhub_";

/// Why no token can be made: the system gives no random bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(String);

/// A new token.
pub fn generate() -> Result<String, NoRandomness> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// What is stored of a token: its SHA-256. The token has 256 random bits, so a slow hash adds nothing.
pub fn hash(token: &str) -> Vec<u8> {
    sha256(token.as_bytes()).to_vec()
}

/// The token in the value of an `authorization` header (RFC 6750 §2.1); the name of the scheme in any case.
pub fn from_header(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_bits_and_is_never_the_same() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, other);
        let secret = URL_SAFE_NO_PAD.decode(one.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!(secret.len(), 32);
        assert_eq!(hash(&one).len(), 32);
        assert_ne!(hash(&one), hash(&other));
    }

    #[test]
    fn the_header_is_that_of_rfc_6750() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("abc", None),
        ] {
            assert_eq!(from_header(value), token, "{value}");
        }
    }
}
