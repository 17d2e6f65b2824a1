//! The thumbprint of a JWK (RFC 7638).

use crate::encoding::digest::Digest;
use crate::encoding::digest::sha256;
use serde_json::Value;

/// The thumbprint of a public key (RFC 7638): SHA-256 over the required members, in a fixed order and spelling.
///
/// `None` for a key type that no supported algorithm uses, or for members that are not base64url: JSON could spell a
/// member with escapes in two ways.
pub fn thumbprint(jwk: &Value) -> Option<Digest> {
    let member = |name: &str| {
        let text = jwk.get(name)?.as_str()?;
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (plain && !text.is_empty()).then_some(text)
    };
    let text = match member("kty")? {
        "EC" => {
            format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, member("crv")?, member("x")?, member("y")?)
        }
        "OKP" => format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, member("crv")?, member("x")?),
        "RSA" => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, member("e")?, member("n")?),
        _ => return None,
    };
    Some(sha256(text.as_bytes()))
}
