//! The keys for SETs, apart from those for statements, and SETs that are signed: JWS in compact serialization (RFC 7515
//! §3.1) with RS256 and 2048 bits, which every receiver verifies (CAEP Interoperability Profile §2.6).

use crate::feed::keys::{KeyRing, PrivateKey};
use crate::feed::signer::BadKey;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use taskfence_core::encoding::digest::digest_text;
use taskfence_core::jose::thumbprint::thumbprint;

/// The keys for SETs.
pub type SetKeys = KeyRing<SetKey>;

/// A private key for SETs.
pub struct SetKey {
    pair: KeyPair,
    jwk: Value,
    kid: String,
    header: String,
}

/// The library could not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SET could not be signed")]
pub struct NotSigned;

impl SetKey {
    /// The SET with these claims (RFC 8417 §2.2).
    pub fn sign(&self, claims: &Value) -> Result<String, NotSigned> {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        let mut text = format!("{}.{payload}", self.header);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| NotSigned)?;
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(text)
    }
}

impl PrivateKey for SetKey {
    const PREFIX: &'static str = "set";

    fn generate() -> Result<Vec<u8>, BadKey> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| BadKey)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| BadKey)?;
        Ok(der.as_ref().to_vec())
    }

    fn from_pkcs8(der: &[u8]) -> Result<SetKey, BadKey> {
        let pair = KeyPair::from_pkcs8(der).map_err(|_| BadKey)?;
        let public = pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let n = number(public.modulus().big_endian_without_leading_zero());
        let e = number(public.exponent().big_endian_without_leading_zero());
        let mut jwk = json!({"kty": "RSA", "alg": "RS256", "use": "sig", "n": n, "e": e});
        let kid = digest_text(&thumbprint(&jwk).ok_or(BadKey)?);
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), Value::from(kid.clone()));
        }
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": kid, "typ": "secevent+jwt"}).to_string());
        Ok(SetKey { pair, jwk, kid, header })
    }

    fn kid(&self) -> &str {
        &self.kid
    }

    fn jwk(&self) -> &Value {
        &self.jwk
    }
}

impl std::fmt::Debug for SetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::keys::Keys;

    #[test]
    fn keys_for_sets_stand_beside_those_for_statements() {
        let directory = tempfile::tempdir().unwrap();
        let (sets, feed) = (SetKeys::open(directory.path()).unwrap(), Keys::open(directory.path()).unwrap());
        let new = sets.prepare().unwrap();
        sets.switch(&new, Vec::new(), false).unwrap();
        let again = SetKeys::open(directory.path()).unwrap();
        assert_eq!((again.current(), again.kids().len()), (new, 2));
        assert_eq!(Keys::open(directory.path()).unwrap().kids(), feed.kids());
        let key = &sets.jwks()["keys"][0];
        assert_eq!((&key["kty"], &key["alg"], &key["e"]), (&json!("RSA"), &json!("RS256"), &json!("AQAB")));
        assert_eq!(URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap().len(), 256);
    }
}
