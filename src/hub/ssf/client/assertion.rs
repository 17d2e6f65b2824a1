//! The assertions that an OAuth client signs: `private_key_jwt` and `client_secret_jwt` (RFC 7523 §3).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use taskfence_core::encoding::secret::Secret;
use uuid::Uuid;

/// How long an assertion is good for, in seconds.
const LIFE: u64 = 60;

/// What signs an assertion.
pub(super) enum Key {
    Secret(Box<hmac::Key>),
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
}

impl Key {
    /// A client secret.
    pub(super) fn of_secret(secret: &str) -> Key {
        Key::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
    }

    /// A private key in PEM (PKCS #8).
    pub(super) fn of_pem(pem: &[u8]) -> Result<Key, &'static str> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| "it holds no private key in PEM (PKCS #8)")?;
        let der = der.secret_pkcs8_der();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            return Ok(Key::Ec(pair));
        }
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            return Ok(Key::Rsa(Box::new(pair)));
        }
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| "its key is neither P-256 nor RSA nor Ed25519")?;
        Ok(Key::Ed(Box::new(pair)))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Key::Secret(_) => "HS256",
            Key::Ec(_) => "ES256",
            Key::Rsa(_) => "RS256",
            Key::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, input: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Key::Secret(key) => Some(hmac::sign(key, input).as_ref().to_vec()),
            Key::Ec(pair) => Some(pair.sign(&random, input).ok()?.as_ref().to_vec()),
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature).ok()?;
                Some(signature)
            }
            Key::Ed(pair) => Some(pair.sign(input).as_ref().to_vec()),
        }
    }
}

/// An assertion of `client` for `audience` at `now`, in seconds since 1970. `None`: the key cannot sign.
pub(super) fn assertion(key: &Key, kid: Option<&str>, client: &str, audience: &str, now: u64) -> Option<Secret> {
    let mut header = json!({"alg": key.algorithm(), "typ": "JWT"});
    if let (Some(members), Some(kid)) = (header.as_object_mut(), kid) {
        members.insert("kid".to_owned(), kid.into());
    }
    let claims = json!({
        "iss": client, "sub": client, "aud": audience, "jti": Uuid::new_v4().to_string(),
        "iat": now, "exp": now.saturating_add(LIFE)
    });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = key.sign(input.as_bytes())?;
    Some(Secret::from(format!("{input}.{}", encode(&signature))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, KeyPair as _, UnparsedPublicKey};

    fn parts(jwt: &Secret) -> (serde_json::Value, serde_json::Value, String, Vec<u8>) {
        let (input, signature) = jwt.reveal().rsplit_once('.').unwrap();
        let (head, claims) = input.split_once('.').unwrap();
        let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        (read(head), read(claims), input.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap())
    }

    #[test]
    fn it_is_signed_with_what_the_client_has() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = Key::of_pem(pair.serialize_pem().as_bytes()).unwrap();
            let jwt = assertion(&key, Some("k1"), "hub", "https://as.example/token", 1_000).unwrap();
            let (head, claims, input, signature) = parts(&jwt);
            let (public, verifier): (Vec<u8>, &'static dyn aws_lc_rs::signature::VerificationAlgorithm) = match &key {
                Key::Ec(pair) => (pair.public_key().as_ref().to_vec(), &ECDSA_P256_SHA256_FIXED),
                Key::Ed(pair) => (pair.public_key().as_ref().to_vec(), &ED25519),
                _ => panic!("{head}"),
            };
            UnparsedPublicKey::new(verifier, public).verify(input.as_bytes(), &signature).unwrap();
            assert_eq!(head["kid"], "k1");
            assert_eq!((&claims["iss"], &claims["sub"], &claims["exp"]), (&"hub".into(), &"hub".into(), &1_060.into()));
            assert_eq!(claims["aud"], "https://as.example/token");
        }
        let secret = Key::of_secret("s3cret");
        let (head, _, input, signature) = parts(&assertion(&secret, None, "hub", "a", 1).unwrap());
        assert_eq!(head, json!({"alg": "HS256", "typ": "JWT"}));
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, b"s3cret"), input.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn each_assertion_is_new_and_a_bad_file_says_so() {
        let key = Key::of_secret("s");
        let jti = || parts(&assertion(&key, None, "hub", "a", 1).unwrap()).1["jti"].clone();
        assert_ne!(jti(), jti());
        assert!(Key::of_pem(b"garbage").is_err());
    }
}
