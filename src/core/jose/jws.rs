//! A JWS in compact serialization (RFC 7515 §3.1), parsed but not verified.

use crate::encoding::json;
use crate::jose::algorithm::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A JWS that is well formed and whose signature is not verified yet.
///
/// Its contents may select a key and may refuse the token. They must not permit anything.
#[derive(Debug)]
pub struct Unverified<'t> {
    text: &'t str,
    signing_input: &'t str,
    signature: Vec<u8>,
    typ: Option<String>,
    alg: String,
    kid: Option<String>,
    claims: Map<String, Value>,
}

/// Why bytes are not a well-formed JWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than the limit of the caller.
    #[error("longer than the limit")]
    TooLarge,
    /// Not even the beginning of one: a token that only its issuer can read, such as an opaque access token.
    #[error("an opaque token, not a JWS")]
    Opaque,
    /// Not three base64url parts separated by dots, or the contents of a part are invalid.
    #[error("not a JWS in compact serialization")]
    Malformed,
    /// The header requires an extension with `crit`; none is supported (RFC 7515 §4.1.11).
    #[error("a critical header parameter is not understood")]
    Critical,
}

impl<'t> Unverified<'t> {
    /// Parses `token`, which may have at most `limit` bytes.
    ///
    /// Keys that the header contains or refers to (`jwk`, `jku`, `x5u`, `x5c`) are never used. A header with `jwk` is
    /// malformed, because no token of the supported kinds has one.
    pub fn parse(token: &'t [u8], limit: usize) -> Result<Unverified<'t>, JwsError> {
        match Unverified::read(token, limit)? {
            (jws, None) => Ok(jws),
            (_, Some(_)) => Err(JwsError::Malformed),
        }
    }

    /// Parses a JWS that contains its own public key in `jwk` (RFC 7515 §4.1.3), such as a DPoP proof (RFC 9449 §4.2).
    /// Returns the JWS and the key.
    ///
    /// Such a signature proves only that somebody has the private key. The caller must check whose key it is.
    pub fn parse_with_key(token: &'t [u8], limit: usize) -> Result<(Unverified<'t>, Value), JwsError> {
        let (jws, key) = Unverified::read(token, limit)?;
        Ok((jws, key.ok_or(JwsError::Malformed)?))
    }

    fn read(token: &'t [u8], limit: usize) -> Result<(Unverified<'t>, Option<Value>), JwsError> {
        if token.len() > limit {
            return Err(JwsError::TooLarge);
        }
        let text = std::str::from_utf8(token).map_err(|_| JwsError::Malformed)?;
        if is_opaque(text) {
            return Err(JwsError::Opaque);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(JwsError::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsError::Malformed)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(JwsError::Malformed);
        }
        let mut header = decode_object(header)?;
        if header.contains_key("crit") {
            return Err(JwsError::Critical);
        }
        let key = header.remove("jwk");
        let alg = string(&header, "alg")?.ok_or(JwsError::Malformed)?;
        let typ = string(&header, "typ")?;
        let kid = string(&header, "kid")?;
        let claims = decode_object(payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwsError::Malformed)?;
        Ok((Unverified { text, signing_input, signature, typ, alg, kid, claims }, key))
    }

    /// The whole token.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// The bytes that are signed (RFC 7515 §5.1).
    pub fn signing_input(&self) -> &'t str {
        self.signing_input
    }

    /// The decoded signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// `typ` as the header has it.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Whether `typ` is `expected`, a media type without `application/`; letter case does not matter (RFC 7515 §4.1.9).
    pub(crate) fn is_typ(&self, expected: &str) -> bool {
        self.typ().is_some_and(|typ| short_type(typ).eq_ignore_ascii_case(expected))
    }

    /// `alg`, if it names a supported algorithm.
    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_name(&self.alg)
    }

    /// `kid`, if there is one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The payload. Do not trust it before the signature is verified.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Takes the payload out.
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }
}

/// Removes `application/` from a media type, which `typ` may omit (RFC 7515 §4.1.9).
pub(crate) fn short_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    }
}

/// Whether `text` has the syntax of a token (`b64token`, RFC 6750 §2.1), and its first part is not the base64url of a text
/// that begins like a JSON object, as each header does (RFC 7515 §7.1, RFC 7516 §7.1).
fn is_opaque(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    let header = text.split('.').next().unwrap_or_default();
    // `{` before a quotation mark or a space, `{` before a line break, and `{}`.
    let is_object = header.starts_with("ey") || header.starts_with("ew") || header == "e30";
    !header.is_empty() && !is_object && text.bytes().all(is_token)
}

fn decode_object(part: &str) -> Result<Map<String, Value>, JwsError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed)?;
    json::object(&bytes).map_err(|_| JwsError::Malformed)
}

fn string(header: &Map<String, Value>, name: &str) -> Result<Option<String>, JwsError> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(JwsError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compact(header: &str, payload: &str, signature: &[u8]) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()), encode(signature))
    }

    fn parse(token: &str) -> Result<Unverified<'_>, JwsError> {
        Unverified::parse(token.as_bytes(), 16 * 1024)
    }

    #[test]
    fn reads_the_parts() {
        let token = compact(r#"{"alg":"ES256","typ":"Application/AT+JWT","kid":"k"}"#, r#"{"iss":"i"}"#, b"sig");
        let jws = parse(&token).unwrap();
        assert!(jws.is_typ("at+jwt"));
        assert!(!jws.is_typ("secevent+jwt"));
        assert_eq!(jws.algorithm(), Some(Algorithm::ES256));
        assert_eq!(jws.kid(), Some("k"));
        assert_eq!(jws.signature(), b"sig");
        assert_eq!(jws.claims()["iss"], "i");
    }

    #[test]
    fn refuses_what_is_not_one() {
        let good = compact(r#"{"alg":"ES256"}"#, "{}", b"s");
        for bad in [
            String::new(),
            "..".to_owned(),
            "not a token".to_owned(),
            good.split_once('.').unwrap().0.to_owned(),
            format!("{good}.x"),
            format!("{good}="),
            format!(" {good}"),
            good.replace('.', ".."),
            compact(r#"{"alg":1}"#, "{}", b"s"),
            compact(r#"{"alg":"ES256","kid":["a"]}"#, "{}", b"s"),
            compact(r#"{"alg":"ES256","jwk":{}}"#, "{}", b"s"),
            compact(r#"{"alg":"ES256","alg":"none"}"#, "{}", b"s"),
            compact(r#"{}"#, "{}", b"s"),
            compact(r#"{"alg":"ES256"}"#, "[]", b"s"),
            compact(r#"{"alg":"ES256"}"#, "{}", b""),
        ] {
            assert_eq!(parse(&bad).err(), Some(JwsError::Malformed), "{bad}");
        }
        let critical = compact(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, "{}", b"s");
        assert_eq!(parse(&critical).err(), Some(JwsError::Critical));
        assert_eq!(Unverified::parse(&[b'a'; 11], 10).err(), Some(JwsError::TooLarge));
    }

    #[test]
    fn opaque_tokens_are_told_from_broken_ones() {
        for opaque in [
            "ya29.a0AfB_byC-9s8w7x",
            "ghs_16C7e42F292c6912E7710c838347Ae178B4a",
            "2YotnFZFEjr1zCsicMWpAA",
            "gho~+/==",
            "a.b.c",
            "a",
            "e3s",
            "e0f3a1b2c3d4",
        ] {
            assert_eq!(parse(opaque).err(), Some(JwsError::Opaque), "{opaque}");
        }
        // An encrypted token has a header too (RFC 7516 §3.1).
        let encrypted = format!("{}....", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A128GCM"}"#));
        for broken in [
            "eyJ",
            "eyJhbGciOiJ",
            "eyJ.e30",
            "ewo.e30.x",
            "e30.e30.",
            "eyAi.",
            &encrypted,
            "é",
            " ya29",
            "ya29 x",
            "ya29\n",
        ] {
            assert_eq!(parse(broken).err(), Some(JwsError::Malformed), "{broken}");
        }
    }

    #[test]
    fn the_spare_bits_of_base64_are_not_free() {
        // One byte takes two letters, the second of which has four spare bits.
        let token = compact(r#"{"alg":"ES256"}"#, "{}", b"s");
        let (start, _) = token.split_at(token.len() - 1);
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
            let other = format!("{start}{letter}");
            assert!(parse(&other).is_err() || other == token || parse(&other).unwrap().signature() != b"s", "{other}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(token in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Unverified::parse(&token, 100);
        }

        #[test]
        fn never_panics_on_near_tokens(token in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,9}") {
            let _ = Unverified::parse(token.as_bytes(), 100);
        }
    }
}
