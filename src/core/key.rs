//! Issuer keys: a JWK Set (RFC 7517) turned into keys that know what they may verify.

use crate::confirmation::Digest;
use crate::dpop::{sha256_of, thumbprint};
use jwt_simple::prelude::*;
use serde_json::Value;
use std::fmt;

/// A set may hold this many keys.
pub const MAX_KEYS: usize = 100;

/// A JWS signature algorithm that can be allowed (RFC 7518 §3.1, RFC 8037). None is symmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the registered names")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    /// The algorithm of that registered name, letter by letter. `Ed25519` is EdDSA with the one curve taken here.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        match name {
            "Ed25519" => Some(Algorithm::EdDSA),
            _ => Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name),
        }
    }

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::EdDSA => "EdDSA",
        }
    }
}

/// A public key for one algorithm.
pub enum Verifier {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256(RS256PublicKey),
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384(RS384PublicKey),
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512(RS512PublicKey),
    /// RSASSA-PSS with SHA-256.
    PS256(PS256PublicKey),
    /// ECDSA on P-256 with SHA-256.
    ES256(ES256PublicKey),
    /// ECDSA on P-384 with SHA-384.
    ES384(ES384PublicKey),
    /// Ed25519.
    EdDSA(Ed25519PublicKey),
}

impl Verifier {
    /// Reads `jwk` as a key for `algorithm`: `kty`, `crv`, `alg`, `use` and `key_ops` must all agree with it, RSA
    /// moduli must have 2048 to 4096 bits, and no private member may be there.
    fn from_jwk(jwk: &str, algorithm: Algorithm) -> Option<Verifier> {
        match algorithm {
            Algorithm::RS256 => RS256PublicKey::from_jwk(jwk).map(Verifier::RS256).ok(),
            Algorithm::RS384 => RS384PublicKey::from_jwk(jwk).map(Verifier::RS384).ok(),
            Algorithm::RS512 => RS512PublicKey::from_jwk(jwk).map(Verifier::RS512).ok(),
            Algorithm::PS256 => PS256PublicKey::from_jwk(jwk).map(Verifier::PS256).ok(),
            Algorithm::ES256 => ES256PublicKey::from_jwk(jwk).map(Verifier::ES256).ok(),
            Algorithm::ES384 => ES384PublicKey::from_jwk(jwk).map(Verifier::ES384).ok(),
            Algorithm::EdDSA => Ed25519PublicKey::from_jwk(jwk).map(Verifier::EdDSA).ok(),
        }
    }

    fn spki(&self) -> Option<Vec<u8>> {
        match self {
            Verifier::RS256(key) => key.to_der().ok(),
            Verifier::RS384(key) => key.to_der().ok(),
            Verifier::RS512(key) => key.to_der().ok(),
            Verifier::ES256(key) => key.to_der().ok(),
            Verifier::ES384(key) => key.to_der().ok(),
            // Of these a SubjectPublicKeyInfo alone does not say how they sign, or nobody takes it.
            Verifier::PS256(_) | Verifier::EdDSA(_) => None,
        }
    }
}

/// What tells a key, as it is used for one algorithm, from every other: a hash of its thumbprint (RFC 7638), its `kid` and
/// the algorithm. What else a JWK says, `x5t` or `iat` for example, makes no other key of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn new(thumbprint: &Digest, kid: &str, algorithm: Algorithm) -> KeyId {
        // The names of algorithms have no NUL, and the thumbprint has one length.
        let digest = sha256_of(&[thumbprint, algorithm.name().as_bytes(), &[0], kid.as_bytes()]);
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        KeyId(id)
    }
}

/// One key of an issuer, with a verifier for each allowed algorithm that it fits.
pub struct Key {
    kid: Box<str>,
    verifiers: Vec<(Algorithm, KeyId, Verifier)>,
    /// As a DER SubjectPublicKeyInfo (RFC 5280 §4.1), for RSA and EC keys.
    spki: Option<Box<[u8]>>,
}

impl Key {
    /// What tells it from every other key, also from one of the same name, when it is for `algorithm`.
    pub fn id(&self, algorithm: Algorithm) -> Option<KeyId> {
        self.find(algorithm).map(|(_, id, _)| *id)
    }

    /// The `kid` that names this key in a token's header.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The verifier for `algorithm`, when this key is for it.
    pub fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        self.find(algorithm).map(|(.., verifier)| verifier)
    }

    fn find(&self, algorithm: Algorithm) -> Option<&(Algorithm, KeyId, Verifier)> {
        self.verifiers.iter().find(|(have, ..)| *have == algorithm)
    }

    /// The key as a DER SubjectPublicKeyInfo, where it is an RSA or EC key: what others verify with.
    pub fn spki(&self) -> Option<&[u8]> {
        self.spki.as_deref()
    }

    /// The key that a DPoP proof brings (RFC 9449 §4.2), for `algorithm` alone. It has no name: nothing may find it by
    /// one.
    ///
    /// `None` when it is no public key for `algorithm`, holds private members, or is RSA outside 2048 to 4096 bits.
    pub fn embedded(jwk: &Value, algorithm: Algorithm) -> Option<Key> {
        let mut jwk = jwk.clone();
        jwk.as_object_mut()?.insert("kid".to_owned(), "embedded".into());
        Key::from_jwk(&jwk, &[algorithm]).ok().map(|key| Key { kid: "".into(), ..key })
    }

    fn from_jwk(jwk: &Value, allowed: &[Algorithm]) -> Result<Key, KeyError> {
        let Some(members) = jwk.as_object() else { return Err(KeyError::NotAnObject) };
        let kid = match members.get("kid").and_then(Value::as_str) {
            Some(kid) if !kid.is_empty() => kid,
            _ => return Err(KeyError::NoKid),
        };
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| members.contains_key(*name)) {
            return Err(KeyError::Private { kid: kid.to_owned() });
        }
        let text = jwk.to_string();
        // Material in a spelling that RFC 7638 does not have is told by all of its JWK.
        let thumbprint = thumbprint(jwk).unwrap_or_else(|| sha256_of(&[text.as_bytes()]));
        let verifier = |algorithm: &Algorithm| {
            let verifier = Verifier::from_jwk(&text, *algorithm)?;
            Some((*algorithm, KeyId::new(&thumbprint, kid, *algorithm), verifier))
        };
        let verifiers: Vec<_> = allowed.iter().filter_map(verifier).collect();
        if verifiers.is_empty() {
            return Err(KeyError::Unusable { kid: kid.to_owned() });
        }
        let spki = verifiers.iter().find_map(|(.., verifier)| verifier.spki()).map(Vec::into_boxed_slice);
        Ok(Key { kid: kid.into(), verifiers, spki })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Why a key of a set was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("not a JWK object")]
    NotAnObject,
    #[error("no `kid`: tokens name their key by it")]
    NoKid,
    #[error("key `{kid}` holds private members: publish the public part only")]
    Private { kid: String },
    #[error(
        "key `{kid}` fits none of the allowed algorithms (wrong kty, crv, alg or use, or RSA outside 2048 to 4096 bits)"
    )]
    Unusable { kid: String },
    #[error("`kid` `{kid}` stands twice")]
    Duplicate { kid: String },
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JWK Set. Keys that cannot be used are left out and come back as `(index, error)`.
    ///
    /// Of two keys with one `kid` neither is kept: the token could mean either.
    ///
    /// Fails when `jwks` has no array `keys` or more than [`MAX_KEYS`] of them.
    pub fn from_jwks(jwks: &Value, allowed: &[Algorithm]) -> Result<(KeySet, Vec<(usize, KeyError)>), String> {
        let Some(list) = jwks.get("keys").and_then(Value::as_array) else {
            return Err("not a JWK Set: expected an object with an array `keys`".to_owned());
        };
        if list.len() > MAX_KEYS {
            return Err(format!("{} keys: at most {MAX_KEYS} are taken", list.len()));
        }
        let mut keys: Vec<(usize, Key)> = Vec::new();
        let mut problems = Vec::new();
        for (index, jwk) in list.iter().enumerate() {
            match Key::from_jwk(jwk, allowed) {
                Ok(key) => keys.push((index, key)),
                Err(error) => problems.push((index, error)),
            }
        }
        let twice: Vec<Box<str>> = keys
            .iter()
            .filter(|(_, key)| keys.iter().filter(|(_, other)| other.kid == key.kid).count() > 1)
            .map(|(_, key)| key.kid.clone())
            .collect();
        for (index, key) in keys.iter().filter(|(_, key)| twice.contains(&key.kid)) {
            problems.push((*index, KeyError::Duplicate { kid: key.kid.to_string() }));
        }
        keys.retain(|(_, key)| !twice.contains(&key.kid));
        Ok((KeySet { keys: keys.into_iter().map(|(_, key)| key).collect() }, problems))
    }

    /// The key named `kid`.
    pub fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| &*key.kid == kid)
    }

    /// Whether that very key is one of them, and still for the algorithm that it was used for.
    pub fn holds(&self, id: KeyId) -> bool {
        self.keys.iter().flat_map(|key| &key.verifiers).any(|(_, known, _)| *known == id)
    }

    /// Every key that can be used, in the order of the set.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ec(kid: &str) -> Value {
        let key = ES256KeyPair::generate().with_key_id(kid);
        serde_json::from_str(&key.public_key().to_jwk()).unwrap()
    }

    fn load(keys: Value) -> (KeySet, Vec<(usize, KeyError)>) {
        KeySet::from_jwks(&json!({ "keys": keys }), &Algorithm::ALL).unwrap()
    }

    #[test]
    fn a_key_verifies_only_its_own_algorithm() {
        let (keys, problems) = load(json!([ec("a")]));
        assert_eq!(problems, []);
        let key = keys.find("a").unwrap();
        assert!(key.verifier(Algorithm::ES256).is_some());
        for other in Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::ES256) {
            assert!(key.verifier(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn bad_keys_are_named_and_the_rest_is_used() {
        let private: Value = serde_json::from_str(&ES256KeyPair::generate().with_key_id("p").to_jwk()).unwrap();
        let mut no_kid = ec("x");
        no_kid.as_object_mut().unwrap().remove("kid");
        let mut for_encryption = ec("enc");
        for_encryption["use"] = json!("enc");
        let keys = json!([ec("good"), private, no_kid, 7, {"kty": "oct", "kid": "h", "k": "AAAA"}, ec("twice"), ec("twice"), for_encryption]);
        let (set, problems) = load(keys);
        assert_eq!(set.len(), 1);
        assert!(set.find("good").is_some());
        let mut at: Vec<usize> = problems.iter().map(|(index, _)| *index).collect();
        at.sort();
        assert_eq!(at, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn weak_rsa_is_refused() {
        // A 1024-bit modulus of all ones.
        let n = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, [0xff; 128]);
        let (set, problems) = load(json!([{"kty": "RSA", "kid": "weak", "n": n, "e": "AQAB"}]));
        assert!(set.is_empty());
        assert_eq!(problems, [(0, KeyError::Unusable { kid: "weak".to_owned() })]);
    }

    #[test]
    fn a_key_is_told_by_its_material_its_name_and_its_algorithm() {
        let plain = ec("a");
        let (set, _) = load(json!([plain]));
        let id = set.find("a").unwrap().id(Algorithm::ES256).unwrap();
        let still = |change: &dyn Fn(&mut Value)| {
            let mut jwk = plain.clone();
            change(&mut jwk);
            load(json!([ec("b"), jwk])).0.holds(id)
        };
        for (name, value) in [
            ("x5t", json!("dGh1bWI")),
            ("x5c", json!(["MIIB"])),
            ("iat", json!(1_790_000_000)),
            ("exp", json!(1_790_000_000)),
            ("use", json!("sig")),
            ("alg", json!("ES256")),
            ("key_ops", json!(["verify"])),
        ] {
            assert!(still(&|jwk| jwk[name] = value.clone()), "{name} is no key material");
        }
        assert!(!still(&|jwk| jwk["kid"] = json!("c")), "another name");
        assert!(!still(&|jwk| jwk["use"] = json!("enc")), "no longer for signatures");
        assert!(!still(&|jwk| *jwk = ec("a")), "another key of that name");
    }

    #[test]
    fn a_key_that_is_for_less_than_before_is_another_for_the_rest() {
        let pair = RS256KeyPair::generate(2048).unwrap().with_key_id("r");
        let mut jwk: Value = serde_json::from_str(&pair.public_key().to_jwk()).unwrap();
        for name in ["alg", "use"] {
            jwk.as_object_mut().unwrap().remove(name);
        }
        let (before, problems) = load(json!([jwk]));
        assert_eq!(problems, []);
        let id = |algorithm| before.find("r").unwrap().id(algorithm).unwrap();
        jwk["alg"] = json!("RS256");
        let (after, _) = load(json!([jwk]));
        assert!(after.holds(id(Algorithm::RS256)));
        assert!(!after.holds(id(Algorithm::RS512)), "it is not for RS512 any more");
    }

    #[test]
    fn a_set_is_bounded() {
        let many: Vec<Value> = (0..=MAX_KEYS).map(|_| json!({})).collect();
        assert!(KeySet::from_jwks(&json!({ "keys": many }), &Algorithm::ALL).is_err());
        assert!(KeySet::from_jwks(&json!([]), &Algorithm::ALL).is_err());
    }
}
