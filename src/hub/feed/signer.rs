//! Signs statements: one ES256 key, and the JWS in compact serialization (RFC 7515 §3.1).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use taskfence_core::encoding::digest::digest_text;
use taskfence_core::feed::statement::{Statement, TYPE};
use taskfence_core::jose::thumbprint::thumbprint;

/// A private key for statements.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    jwk: Value,
    kid: String,
    header: String,
}

/// The bytes are not a usable key, or the library could not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 private key in PKCS#8")]
pub struct BadKey;

/// The library could not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement could not be signed")]
pub struct NotSigned;

impl SigningKey {
    /// A new key as PKCS#8 v1 in DER (RFC 5208).
    pub fn generate() -> Result<Vec<u8>, BadKey> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        document.map(|document| document.as_ref().to_vec()).map_err(|_| BadKey)
    }

    /// Reads PKCS#8 in DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<SigningKey, BadKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| BadKey)?;
        // SEC 1 §2.3.3: 4, then x and y of 32 bytes each.
        let (form, point) = pair.public_key().as_ref().split_first().ok_or(BadKey)?;
        let (x, y) = point.split_at_checked(32).filter(|(_, y)| *form == 4 && y.len() == 32).ok_or(BadKey)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let mut jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": x, "y": y});
        let kid = digest_text(&thumbprint(&jwk).ok_or(BadKey)?);
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), Value::from(kid.clone()));
        }
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": kid, "typ": TYPE}).to_string());
        Ok(SigningKey { pair, jwk, kid, header })
    }

    /// The thumbprint of the key (RFC 7638), base64url.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// The signed statement and the line feed that ends it in a page.
    pub fn sign(&self, statement: &Statement) -> Result<Bytes, NotSigned> {
        let payload = URL_SAFE_NO_PAD.encode(statement.claims().to_string());
        let mut text = BytesMut::with_capacity(self.header.len().saturating_add(payload.len()).saturating_add(92));
        text.put(self.header.as_bytes());
        text.put_u8(b'.');
        text.put(payload.as_bytes());
        let signature = self.pair.sign(&SystemRandom::new(), &text).map_err(|_| NotSigned)?;
        text.put_u8(b'.');
        text.put(URL_SAFE_NO_PAD.encode(signature.as_ref()).as_bytes());
        text.put_u8(b'\n');
        Ok(text.freeze())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}
