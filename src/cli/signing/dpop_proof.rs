//! DPoP proofs (RFC 9449 §4.2).

use crate::signing::key::{self, SigningKey};
use serde_json::{Map, Value};
use taskfence_core::encoding::digest;
use taskfence_core::encoding::digest::digest_text;

/// What a proof says.
pub struct Contents<'c> {
    pub id: &'c str,
    pub method: &'c str,
    pub url: &'c str,
    pub token: &'c [u8],
    pub nonce: Option<&'c str>,
    /// In unix seconds.
    pub issued_at: u64,
}

impl Contents<'_> {
    /// The proof by `key`.
    pub fn sign(&self, key: &SigningKey) -> Result<String, key::Error> {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        let claims: [(&str, Option<Value>); 6] = [
            ("jti", Some(self.id.into())),
            ("htm", Some(self.method.into())),
            ("htu", Some(url.into())),
            ("iat", Some(self.issued_at.into())),
            ("ath", Some(digest_text(&digest::sha256(self.token)).into())),
            ("nonce", self.nonce.map(Value::from)),
        ];
        let claims: Map<String, Value> =
            claims.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        key.sign_with_key("dpop+jwt", &claims)
    }
}
