//! Signing keys: made, read from a private JWK, and used to sign a JWT (RFC 7515, RFC 7517).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use jwt_simple::algorithms::{
    ECDSAP256KeyPairLike, ES256KeyPair, Ed25519KeyPair, EdDSAKeyPairLike, RS256KeyPair, RSAKeyPairLike,
};
use jwt_simple::claims::JWTClaims;
use jwt_simple::common::HeaderOptions;
use p256::ecdsa::{Signature, signature::Signer as _};
use serde_json::{Map, Value, json};
use superboring::hash::MessageDigest;
use superboring::pkey::PKey;
use superboring::rsa::Padding;
use taskfence_core::encoding::digest::Digest;
use taskfence_core::jose::thumbprint as rfc7638;

use crate::input::file;

/// The size of a new RSA key; the CAEP interoperability profile asks for at least this.
const RSA_BITS: usize = 2048;

/// A signature algorithm (JWS `alg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// ECDSA over P-256, small and fast
    #[value(name = "ES256")]
    Es256,
    /// RSA with 2048 bits, what most issuers use
    #[value(name = "RS256")]
    Rs256,
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
}

/// A private key and its name (`kid`), which verifiers use to find the public key.
pub struct SigningKey {
    pair: Pair,
    kid: String,
}

enum Pair {
    Es256(ES256KeyPair),
    Rs256(Box<RS256KeyPair>),
    EdDsa(Ed25519KeyPair),
}

impl SigningKey {
    /// Makes a key. Without a `kid` it is named by its thumbprint (RFC 7638).
    pub fn generate(algorithm: Algorithm, kid: Option<String>) -> Result<Self, Error> {
        let pair = match algorithm {
            Algorithm::Es256 => Pair::Es256(ES256KeyPair::generate()),
            Algorithm::Rs256 => Pair::Rs256(Box::new(
                RS256KeyPair::generate(RSA_BITS).map_err(|error| Error::Generate { reason: error.to_string() })?,
            )),
            Algorithm::EdDsa => Pair::EdDsa(Ed25519KeyPair::generate()),
        };
        Ok(Self::named(pair, kid))
    }

    /// Reads a private JWK from a file, as `taskfence keys new` writes it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = file::read(path).map_err(|error| Error::File { error })?;
        Self::from_jwk(&bytes).map_err(|problem| Error::NotAKey { path: path.into(), problem })
    }

    fn from_jwk(bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotJson)?;
        let jwk: Map<String, Value> = serde_json::from_str(text).map_err(|_| Problem::NotJson)?;
        if jwk.contains_key("keys") {
            return Err(Problem::KeySet);
        }
        let member = |name| jwk.get(name).and_then(Value::as_str);
        if member("d").is_none() {
            return Err(Problem::Public);
        }
        let invalid = |_| Problem::Invalid;
        let pair = match (member("kty"), member("crv"), member("alg")) {
            (Some("EC"), Some("P-256"), _) => Pair::Es256(ES256KeyPair::from_jwk(text).map_err(invalid)?),
            (Some("OKP"), Some("Ed25519"), _) => Pair::EdDsa(Ed25519KeyPair::from_jwk(text).map_err(invalid)?),
            (Some("RSA"), _, None | Some("RS256")) => {
                Pair::Rs256(Box::new(RS256KeyPair::from_jwk(text).map_err(invalid)?))
            }
            _ => return Err(Problem::Unsupported),
        };
        Ok(Self::named(pair, member("kid").map(str::to_owned)))
    }

    fn named(pair: Pair, kid: Option<String>) -> Self {
        let kid = kid.unwrap_or_else(|| match &pair {
            Pair::Es256(pair) => pair.jwk_thumbprint(),
            Pair::Rs256(pair) => pair.jwk_thumbprint(),
            Pair::EdDsa(pair) => pair.jwk_thumbprint(),
        });
        let pair = match pair {
            Pair::Es256(pair) => Pair::Es256(pair.with_key_id(&kid)),
            Pair::Rs256(pair) => Pair::Rs256(Box::new(pair.with_key_id(&kid))),
            Pair::EdDsa(pair) => Pair::EdDsa(pair.with_key_id(&kid)),
        };
        Self { pair, kid }
    }

    /// The key's name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The JWK with the private half: a secret.
    pub fn private_jwk(&self) -> String {
        match &self.pair {
            Pair::Es256(pair) => pair.to_jwk(),
            Pair::Rs256(pair) => pair.to_jwk(),
            Pair::EdDsa(pair) => pair.to_jwk(),
        }
    }

    /// The JWK that verifiers need, with `kid`, `alg` and `use`.
    pub fn public_jwk(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&match &self.pair {
            Pair::Es256(pair) => pair.public_key().to_jwk(),
            Pair::Rs256(pair) => pair.public_key().to_jwk(),
            Pair::EdDsa(pair) => pair.public_key().to_jwk(),
        })
    }

    /// Signs `claims`, exactly as they are, into a compact JWT with this `typ` and the public key in its header.
    pub(super) fn sign_with_key(&self, typ: &str, claims: &Map<String, Value>) -> Result<String, Error> {
        let reason = |reason: &str| Error::Sign { reason: reason.to_owned() };
        let public = self.public_jwk().map_err(|error| reason(&error.to_string()))?;
        let members = ["kty", "crv", "x", "y", "n", "e"].into_iter();
        let jwk: Map<String, Value> =
            members.filter_map(|name| Some((name.to_owned(), public.get(name)?.clone()))).collect();
        let header = json!({"typ": typ, "alg": self.alg(), "jwk": jwk});
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let input = format!("{}.{}", encode(header.to_string()), encode(Value::from(claims.clone()).to_string()));
        let signature = self.signature(input.as_bytes()).ok_or_else(|| reason("the key cannot sign"))?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn alg(&self) -> &'static str {
        match &self.pair {
            Pair::Es256(_) => "ES256",
            Pair::Rs256(_) => "RS256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }

    /// A signature without a JWT. jwt-simple only signs with a header that it makes itself.
    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(match &self.pair {
            Pair::Es256(pair) => {
                let signature: Signature = pair.key_pair().as_ref().try_sign(message).ok()?;
                signature.to_bytes().to_vec()
            }
            Pair::EdDsa(pair) => pair.key_pair().as_ref().sk.sign(message, None).to_vec(),
            Pair::Rs256(pair) => {
                let key = PKey::from_rsa(pair.key_pair().as_ref().clone()).ok()?;
                let mut signer = superboring::sign::Signer::new(MessageDigest::sha256(), &key).ok()?;
                signer.set_rsa_padding(Padding::PKCS1).ok()?;
                signer.update(message).ok()?;
                signer.sign_to_vec().ok()?
            }
        })
    }

    /// Signs `claims`, exactly as they are, into a compact JWT with this `typ` in its header.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<String, Error> {
        // Every claim is passed as a custom claim, because jwt-simple's typed fields would add or change claims.
        let claims = JWTClaims {
            issued_at: None,
            expires_at: None,
            invalid_before: None,
            issuer: None,
            subject: None,
            audiences: None,
            jwt_id: None,
            nonce: None,
            custom: claims,
        };
        let header = HeaderOptions { content_type: None, signature_type: Some(typ.to_owned()) };
        match &self.pair {
            Pair::Es256(pair) => pair.sign_with_options(claims, &header),
            Pair::Rs256(pair) => pair.sign_with_options(claims, &header),
            Pair::EdDsa(pair) => pair.sign_with_options(claims, &header),
        }
        .map_err(|error| Error::Sign { reason: error.to_string() })
    }
}

/// The thumbprint of the key in a file: a JWK, public or private, or a key set with one key.
pub fn thumbprint(path: &Path) -> Result<Digest, Error> {
    let bytes = file::read(path).map_err(|error| Error::File { error })?;
    let not_a_key = |problem| Error::NotAKey { path: path.into(), problem };
    let jwk: Value = serde_json::from_slice(&bytes).map_err(|_| not_a_key(Problem::NotJson))?;
    let key = match jwk.get("keys").and_then(Value::as_array).map(Vec::as_slice) {
        None => &jwk,
        Some([key]) => key,
        Some(_) => return Err(not_a_key(Problem::SeveralKeys)),
    };
    rfc7638::thumbprint(key).ok_or_else(|| not_a_key(Problem::Unsupported))
}

/// Why there is no key, or no signature.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make an RSA key: {reason}")]
    Generate { reason: String },
    #[error("{error}; make a key with `taskfence keys new`")]
    File { error: file::Error },
    #[error("cannot use key file `{}`: {problem}", path.display())]
    NotAKey { path: PathBuf, problem: Problem },
    #[error("cannot sign: {reason}")]
    Sign { reason: String },
}

/// What is wrong with the contents of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("it is not a JWK; make one with `taskfence keys new`")]
    NotJson,
    #[error("it is a key set; sign with the *.private.jwk that `taskfence keys new` wrote beside it")]
    KeySet,
    #[error("it is a key set of none or several keys; name one of them by its JWK")]
    SeveralKeys,
    #[error("it holds no private key; sign with the *.private.jwk that `taskfence keys new` wrote")]
    Public,
    #[error("the key is not for ES256, RS256 or EdDSA; make one with `taskfence keys new`")]
    Unsupported,
    #[error("its numbers do not make a key; make a new one with `taskfence keys new`")]
    Invalid,
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use jwt_simple::algorithms::{
        ECDSAP256PublicKeyLike, ES256PublicKey, Ed25519PublicKey, EdDSAPublicKeyLike, RS256PublicKey, RSAPublicKeyLike,
    };
    use jwt_simple::common::VerificationOptions;
    use jwt_simple::token::Token;

    /// The claims of a compact JWT, read without looking at its signature.
    pub fn claims_of(jwt: &str) -> Value {
        part_of(jwt, 1)
    }

    /// The header of a compact JWT.
    pub fn header_of(jwt: &str) -> Value {
        part_of(jwt, 0)
    }

    fn part_of(jwt: &str, index: usize) -> Value {
        use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder};
        let part = jwt.split('.').nth(index).unwrap();
        serde_json::from_slice(&Base64UrlSafeNoPadding::decode_to_vec(part, None).unwrap()).unwrap()
    }

    fn verify(key: &SigningKey, jwt: &str) -> Map<String, Value> {
        let jwk = key.public_jwk().unwrap().to_string();
        let options = VerificationOptions {
            required_key_id: Some(key.kid().to_owned()),
            required_signature_type: Some("secevent+jwt".to_owned()),
            ..Default::default()
        };
        match key.pair {
            Pair::Es256(_) => ES256PublicKey::from_jwk(&jwk).unwrap().verify_token(jwt, Some(options)),
            Pair::Rs256(_) => RS256PublicKey::from_jwk(&jwk).unwrap().verify_token(jwt, Some(options)),
            Pair::EdDsa(_) => Ed25519PublicKey::from_jwk(&jwk).unwrap().verify_token(jwt, Some(options)),
        }
        .unwrap()
        .custom
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies() {
        let claims = json!({"events": {"urn:example": {"n": 1.5}}, "sub_id": {"format": "opaque", "id": "ü"}});
        for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
            let key = SigningKey::generate(algorithm, None).unwrap();
            let key = SigningKey::from_jwk(key.private_jwk().as_bytes()).unwrap();
            let jwt = key.sign("secevent+jwt", claims.as_object().unwrap()).unwrap();
            assert_eq!(Value::Object(verify(&key, &jwt)), claims, "{algorithm:?}");
            assert_eq!(claims_of(&jwt), claims, "nothing is added, nothing is left out");
            let name = algorithm.to_possible_value().unwrap();
            assert_eq!(Token::decode_metadata(&jwt).unwrap().algorithm(), name.get_name());
            assert_eq!(header_of(&jwt), json!({"alg": name.get_name(), "typ": "secevent+jwt", "kid": key.kid()}));
        }
    }

    #[test]
    fn a_key_without_a_name_is_named_by_its_thumbprint() {
        // The Ed25519 key of RFC 8037, appendix A.
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = SigningKey::from_jwk(jwk.as_bytes()).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(key.public_jwk().unwrap()["kid"], key.kid());
    }

    #[test]
    fn files_that_are_no_signing_key() {
        let key = SigningKey::generate(Algorithm::Es256, Some("k1".to_owned())).unwrap();
        let public = key.public_jwk().unwrap();
        let mut wrong = key.private_jwk().parse::<Value>().unwrap();
        wrong["d"] = json!("AAAA");
        let table = [
            ("-----BEGIN PRIVATE KEY-----".to_owned(), Problem::NotJson),
            (json!({"keys": [public.clone()]}).to_string(), Problem::KeySet),
            (public.to_string(), Problem::Public),
            (json!({"kty": "EC", "crv": "P-384", "d": "AA"}).to_string(), Problem::Unsupported),
            (json!({"kty": "RSA", "alg": "PS256", "d": "AA"}).to_string(), Problem::Unsupported),
            (wrong.to_string(), Problem::Invalid),
        ];
        for (text, expected) in table {
            assert_eq!(SigningKey::from_jwk(text.as_bytes()).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_missing_key_file_says_how_to_make_one() {
        let error = SigningKey::read(Path::new("/nonexistent/k.jwk")).err().unwrap();
        let expected =
            "cannot read `/nonexistent/k.jwk`: no such file or directory; make a key with `taskfence keys new`";
        assert_eq!(error.to_string(), expected);
    }
}
