//! The keys of an issuer: a JWK Set (RFC 7517), parsed into keys that each know the algorithms they verify.

use crate::jose::algorithm::Algorithm;
pub use crate::jose::jwk::KeyError;

use crate::encoding::digest::Digest;
use crate::encoding::digest::sha256_of;
use crate::jose::jwk::{Jwk, Material};
use crate::jose::p521_key::P521Key;
use crate::jose::thumbprint::thumbprint;
use jwt_simple::prelude::*;
use serde_json::Value;
use std::fmt;

/// The maximum number of keys in a set.
pub(crate) const MAX_KEYS: usize = 100;

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
    /// RSASSA-PSS with SHA-384.
    PS384(PS384PublicKey),
    /// RSASSA-PSS with SHA-512.
    PS512(PS512PublicKey),
    /// ECDSA on P-256 with SHA-256.
    ES256(ES256PublicKey),
    /// ECDSA on P-384 with SHA-384.
    ES384(ES384PublicKey),
    /// ECDSA on P-521 with SHA-512.
    ES512(P521Key),
    /// Ed25519.
    EdDSA(Ed25519PublicKey),
}

impl Verifier {
    /// The verifier of `material` for `algorithm`. `None` when the key is of another type, is a point that is not on
    /// its curve or has a small order, or has an even modulus.
    fn new(material: &Material, algorithm: Algorithm) -> Option<Verifier> {
        match (algorithm, material) {
            (Algorithm::RS256, Material::Rsa { n, e }) => {
                RS256PublicKey::from_components(n, e).map(Verifier::RS256).ok()
            }
            (Algorithm::RS384, Material::Rsa { n, e }) => {
                RS384PublicKey::from_components(n, e).map(Verifier::RS384).ok()
            }
            (Algorithm::RS512, Material::Rsa { n, e }) => {
                RS512PublicKey::from_components(n, e).map(Verifier::RS512).ok()
            }
            (Algorithm::PS256, Material::Rsa { n, e }) => {
                PS256PublicKey::from_components(n, e).map(Verifier::PS256).ok()
            }
            (Algorithm::PS384, Material::Rsa { n, e }) => {
                PS384PublicKey::from_components(n, e).map(Verifier::PS384).ok()
            }
            (Algorithm::PS512, Material::Rsa { n, e }) => {
                PS512PublicKey::from_components(n, e).map(Verifier::PS512).ok()
            }
            (Algorithm::ES256, Material::P256(point)) => ES256PublicKey::from_bytes(point).map(Verifier::ES256).ok(),
            (Algorithm::ES384, Material::P384(point)) => ES384PublicKey::from_bytes(point).map(Verifier::ES384).ok(),
            (Algorithm::ES512, Material::P521(point)) => P521Key::from_point(point).map(Verifier::ES512),
            (Algorithm::EdDSA, Material::Ed25519(x)) => Ed25519PublicKey::from_bytes(x).map(Verifier::EdDSA).ok(),
            _ => None,
        }
    }

    fn spki(&self) -> Option<Vec<u8>> {
        match self {
            Verifier::RS256(key) => key.to_der().ok(),
            Verifier::RS384(key) => key.to_der().ok(),
            Verifier::RS512(key) => key.to_der().ok(),
            Verifier::ES256(key) => key.to_der().ok(),
            Verifier::ES384(key) => key.to_der().ok(),
            Verifier::ES512(key) => Some(key.spki()),
            // A SubjectPublicKeyInfo does not say how these keys sign, or Envoy does not accept it.
            Verifier::PS256(_) | Verifier::PS384(_) | Verifier::PS512(_) | Verifier::EdDSA(_) => None,
        }
    }
}

/// Identifies a key for one algorithm: a hash of its thumbprint (RFC 7638), its `kid` and the algorithm. Other members
/// of the JWK, such as `x5t` or `iat`, do not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// The hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn new(thumbprint: &Digest, kid: &str, algorithm: Algorithm) -> KeyId {
        // The names of algorithms have no NUL, and the thumbprint has a fixed length, so the parts cannot be confused.
        let digest = sha256_of(&[thumbprint, algorithm.name().as_bytes(), &[0], kid.as_bytes()]);
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        KeyId(id)
    }
}

/// One key of an issuer, with a verifier for each allowed algorithm that it can be used for.
pub struct Key {
    kid: Option<Box<str>>,
    verifiers: Vec<(Algorithm, KeyId, Verifier)>,
    /// The key as a DER SubjectPublicKeyInfo (RFC 5280 §4.1), for RSA and EC keys.
    spki: Option<Box<[u8]>>,
}

impl Key {
    /// The id of this key for `algorithm`, if it is for it. Another key with the same `kid` has another id.
    pub fn id(&self, algorithm: Algorithm) -> Option<KeyId> {
        self.find(algorithm).map(|(_, id, _)| *id)
    }

    /// The `kid` by which a token's header selects this key. A key without `kid` is for tokens that name no key of the set:
    /// see [`KeySet::candidates`].
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The verifier for `algorithm`, if the key is for it.
    pub fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        self.find(algorithm).map(|(.., verifier)| verifier)
    }

    fn find(&self, algorithm: Algorithm) -> Option<&(Algorithm, KeyId, Verifier)> {
        self.verifiers.iter().find(|(have, ..)| *have == algorithm)
    }

    /// The key as a DER SubjectPublicKeyInfo, if it is an RSA or EC key: the form that other verifiers need.
    pub fn spki(&self) -> Option<&[u8]> {
        self.spki.as_deref()
    }

    /// The key in a DPoP proof (RFC 9449 §4.2), for `algorithm` only. It gets no `kid`, so it cannot be selected by
    /// one.
    ///
    /// `None` when it is not a public key for `algorithm`, has private members, or is an RSA key outside 2048 to 4096
    /// bits.
    pub(crate) fn embedded(jwk: &Value, algorithm: Algorithm) -> Option<Key> {
        let mut jwk = jwk.clone();
        jwk.as_object_mut()?.remove("kid");
        Key::from_jwk(&jwk, &[algorithm]).ok().map(|(key, _)| key)
    }

    fn from_jwk(jwk: &Value, allowed: &[Algorithm]) -> Result<(Key, Material), KeyError> {
        let read = Jwk::read(jwk)?;
        let (material, algorithms) = read.material(allowed)?;
        // RFC 7638 gives no thumbprint for this spelling of the key, so hash the whole JWK.
        let thumbprint = thumbprint(jwk).unwrap_or_else(|| sha256_of(&[jwk.to_string().as_bytes()]));
        let kid = read.kid().unwrap_or_default();
        let verifier = |algorithm: &Algorithm| {
            let verifier = Verifier::new(&material, *algorithm)?;
            Some((*algorithm, KeyId::new(&thumbprint, kid, *algorithm), verifier))
        };
        let verifiers: Vec<_> = algorithms.iter().filter_map(verifier).collect();
        if verifiers.is_empty() {
            let key = read.named();
            return Err(match material {
                Material::Rsa { .. } => KeyError::Malformed { key, member: "n" },
                Material::P256(_) | Material::P384(_) | Material::P521(_) | Material::Ed25519(_) => {
                    KeyError::Point { key }
                }
            });
        }
        let spki = verifiers.iter().find_map(|(.., verifier)| verifier.spki()).map(Vec::into_boxed_slice);
        Ok((Key { kid: read.kid().map(Box::from), verifiers, spki }, material))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Why a set has no key for a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// No key has that `kid`.
    Unknown,
    /// The keys with that `kid` are for other algorithms.
    OtherAlgorithm,
}

/// Why a JSON value is not accepted as a JWK Set (RFC 7517 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// There is no array `keys`.
    #[error("not a JWK Set: expected an object with an array `keys`")]
    NotAJwkSet,
    /// The set has this many keys, which is more than `MAX_KEYS`.
    #[error("{0} keys: at most {MAX_KEYS} are taken")]
    TooMany(usize),
}

/// The maximum number of keys that one signature is checked with. Each costs a whole check.
pub const MAX_CANDIDATES: usize = 4;

/// The keys that may have made one signature, [`MAX_CANDIDATES`] at most.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'k> {
    keys: [Option<&'k Key>; MAX_CANDIDATES],
    is_named: bool,
}

impl<'k> Candidates<'k> {
    fn new(keys: impl Iterator<Item = &'k Key>, is_named: bool) -> Candidates<'k> {
        let mut slots = [None; MAX_CANDIDATES];
        slots.iter_mut().zip(keys).for_each(|(slot, key)| *slot = Some(key));
        Candidates { keys: slots, is_named }
    }

    /// The keys, in the order in which they are to be tried.
    pub fn iter(&self) -> impl Iterator<Item = &'k Key> {
        self.keys.into_iter().flatten()
    }

    /// Whether `kid` names the key. Otherwise a newer set may have another key that fits.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Removes the keys that `unwanted` selects.
    pub(crate) fn without(mut self, mut unwanted: impl FnMut(&Key) -> bool) -> Candidates<'k> {
        self.keys.iter_mut().for_each(|slot| *slot = slot.filter(|key| !unwanted(key)));
        self
    }
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Parses a JWK Set. Keys that cannot be used are skipped and returned as `(index, error)`.
    ///
    /// Several keys may have the same `kid`: copies of the same key, and keys for other algorithms. Two different keys
    /// with the same `kid` and algorithm are both not used for it, because a token could mean either. Keys without `kid`
    /// are not confused: no token can mean one of them.
    ///
    /// Fails when `jwks` has no array `keys` or more than `MAX_KEYS` keys.
    pub fn from_jwks(jwks: &Value, allowed: &[Algorithm]) -> Result<(KeySet, Vec<(usize, KeyError)>), KeySetError> {
        let Some(list) = jwks.get("keys").and_then(Value::as_array) else {
            return Err(KeySetError::NotAJwkSet);
        };
        if list.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(list.len()));
        }
        let mut keys: Vec<(usize, Key, Material)> = Vec::new();
        let mut problems = Vec::new();
        for (index, jwk) in list.iter().enumerate() {
            match Key::from_jwk(jwk, allowed) {
                Ok((key, material)) => keys.push((index, key, material)),
                Err(error) => problems.push((index, error)),
            }
        }
        let contested: Vec<(usize, Algorithm)> = keys
            .iter()
            .flat_map(|(index, key, material)| {
                let is_rival = |other: &Key| other.kid.is_some() && other.kid == key.kid;
                let others = keys.iter().filter(|(_, other, others)| is_rival(other) && others != material);
                let others: Vec<&Key> = others.map(|(_, other, _)| other).collect();
                let algorithms = key.verifiers.iter().map(|(algorithm, ..)| *algorithm);
                let taken = algorithms.filter(move |own| others.iter().any(|other| other.verifier(*own).is_some()));
                taken.map(|algorithm| (*index, algorithm))
            })
            .collect();
        for (index, key, _) in &mut keys {
            let is_contested = |algorithm: Algorithm| contested.contains(&(*index, algorithm));
            key.verifiers.retain(|(algorithm, ..)| !is_contested(*algorithm));
            let kid = key.kid().unwrap_or_default().to_owned();
            let first = contested.iter().find(|(at, _)| at == index);
            problems.extend(first.map(|(at, algorithm)| (*at, KeyError::Several { kid, algorithm: *algorithm })));
        }
        let keys = keys.into_iter().map(|(_, key, _)| key).filter(|key| !key.verifiers.is_empty());
        problems.sort_by_key(|(index, _)| *index);
        Ok((KeySet { keys: keys.collect() }, problems))
    }

    /// The keys that may have made a signature with `algorithm` whose header has this `kid`, or no `kid`.
    ///
    /// A `kid` that a key of the set has selects that key, and no other. A signature without `kid` may be by any key for
    /// `algorithm`, those without `kid` first. So may one with a `kid` where no key of the set has a `kid`: issuers with a
    /// single key often do not name it.
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Candidates<'_>, NoKey> {
        if let Some(kid) = kid
            && self.keys.iter().any(|key| key.kid.is_some())
        {
            return self.find(Some(kid), algorithm).map(|key| Candidates::new(std::iter::once(key), true));
        }
        let fitting = |is_named: bool| {
            self.keys.iter().filter(move |key| key.kid.is_some() == is_named && key.verifier(algorithm).is_some())
        };
        let candidates = Candidates::new(fitting(false).chain(fitting(true)), false);
        if candidates.iter().next().is_none() { Err(NoKey::Unknown) } else { Ok(candidates) }
    }

    /// The key with this `kid`, or the first without `kid`, that is for `algorithm`.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        let mut named = self.keys.iter().filter(|key| key.kid() == kid).peekable();
        if named.peek().is_none() {
            return Err(NoKey::Unknown);
        }
        named.find(|key| key.verifier(algorithm).is_some()).ok_or(NoKey::OtherAlgorithm)
    }

    /// Whether the set still has this key for the algorithm that it was used for.
    pub(crate) fn holds(&self, id: KeyId) -> bool {
        self.keys.iter().flat_map(|key| &key.verifiers).any(|(_, known, _)| *known == id)
    }

    /// All usable keys, in the order of the set.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// The number of usable keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no usable key.
    pub(crate) fn is_empty(&self) -> bool {
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
        assert!(keys.find(Some("a"), Algorithm::ES256).is_ok());
        for other in Algorithm::ALL.into_iter().filter(|a| *a != Algorithm::ES256) {
            assert_eq!(keys.find(Some("a"), other).err(), Some(NoKey::OtherAlgorithm), "{other:?}");
        }
        assert_eq!(keys.find(Some("b"), Algorithm::ES256).err(), Some(NoKey::Unknown));
        assert_eq!(keys.find(None, Algorithm::ES256).err(), Some(NoKey::Unknown));
    }

    #[test]
    fn bad_keys_are_named_and_the_rest_is_used() {
        let private: Value = serde_json::from_str(&ES256KeyPair::generate().with_key_id("p").to_jwk()).unwrap();
        let mut for_encryption = ec("enc");
        for_encryption["use"] = json!("enc");
        let keys = json!([ec("good"), private, 7, {"kty": "oct", "kid": "h", "k": "AAAA"}, ec("twice"), ec("twice"), for_encryption]);
        let (set, problems) = load(keys);
        assert_eq!(set.len(), 1);
        assert!(set.find(Some("good"), Algorithm::ES256).is_ok());
        let at: Vec<usize> = problems.iter().map(|(index, _)| *index).collect();
        assert_eq!(at, [1, 2, 3, 4, 5, 6]);
        let others: Vec<usize> =
            problems.iter().filter(|(_, error)| error.is_for_other_use()).map(|(index, _)| *index).collect();
        assert_eq!(others, [6]);
    }

    #[test]
    fn one_kid_for_several_keys() {
        let rsa = |modulus: u8, alg: Value| {
            let n = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, [modulus; 256]);
            json!({"kty": "RSA", "kid": "r", "n": n, "e": "AQAB", "alg": alg})
        };
        // The same key for each of its algorithms, one of them twice, and a key of another kind.
        let same = json!([rsa(0xff, json!("RS256")), rsa(0xff, json!("PS256")), rsa(0xff, json!("PS256")), ec("r")]);
        let (set, problems) = load(same);
        assert_eq!(problems, []);
        let has = |set: &KeySet, algorithm| set.find(Some("r"), algorithm).is_ok();
        for algorithm in Algorithm::ALL {
            let expected = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256].contains(&algorithm);
            assert_eq!(has(&set, algorithm), expected, "{algorithm:?}");
        }
        // Another key for one of the algorithms: that one is nobody's.
        let (set, problems) = load(json!([rsa(0xff, json!(null)), rsa(0xfd, json!("PS256"))]));
        assert!(has(&set, Algorithm::RS256) && has(&set, Algorithm::RS512) && !has(&set, Algorithm::PS256));
        let several = |at| (at, KeyError::Several { kid: "r".to_owned(), algorithm: Algorithm::PS256 });
        assert_eq!(problems, [several(0), several(1)]);
        assert_eq!(problems[0].1.to_string(), "`kid` `r` names several keys for PS256");
    }

    #[test]
    fn a_key_without_a_name_is_for_tokens_without_one() {
        let nameless = || {
            let mut key = ec("x");
            key.as_object_mut().unwrap().remove("kid");
            key
        };
        let (set, problems) = load(json!([nameless(), ec("a")]));
        assert_eq!(problems, []);
        assert!(set.find(None, Algorithm::ES256).is_ok_and(|key| key.kid().is_none()));
        assert_eq!(set.find(Some(""), Algorithm::ES256).err(), Some(NoKey::Unknown));
        assert_eq!(tried(&set, None), [None, Some("a")], "any key may have signed it, the nameless first");
        assert_eq!(tried(&set, Some("a")), [Some("a")]);
        assert_eq!(set.candidates(Some("b"), Algorithm::ES256).err(), Some(NoKey::Unknown), "the set has names");
        assert_eq!(set.candidates(None, Algorithm::ES384).err(), Some(NoKey::Unknown));
        let (set, problems) = load(json!([nameless(), nameless()]));
        assert_eq!(problems, []);
        for kid in [None, Some("any")] {
            let candidates = set.candidates(kid, Algorithm::ES256).unwrap();
            assert_eq!((candidates.iter().count(), candidates.is_named()), (2, false), "the set has no names");
            let first = candidates.iter().next().unwrap();
            let rest = candidates.without(|key| std::ptr::eq(key, first));
            assert!(rest.iter().count() == 1 && !rest.iter().any(|key| std::ptr::eq(key, first)));
        }
        let (set, _) = load(json!((0..9).map(|at| ec(&format!("k{at}"))).collect::<Vec<_>>()));
        assert_eq!(tried(&set, None), [Some("k0"), Some("k1"), Some("k2"), Some("k3")], "so many and no more");
    }

    fn tried<'s>(set: &'s KeySet, kid: Option<&str>) -> Vec<Option<&'s str>> {
        set.candidates(kid, Algorithm::ES256).unwrap().iter().map(Key::kid).collect()
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut off_curve = ec("off");
        off_curve["y"] = off_curve["x"].clone();
        let x =
            base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, [&[1][..], &[0; 31]].concat());
        let small = json!({"kty": "OKP", "crv": "Ed25519", "kid": "small", "x": x});
        let even = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, [0xfe; 256]);
        let even = json!({"kty": "RSA", "kid": "even", "n": even, "e": "AQAB"});
        let (set, problems) = load(json!([off_curve, small, even]));
        assert!(set.is_empty());
        let messages: Vec<String> = problems.iter().map(|(_, error)| error.to_string()).collect();
        assert_eq!(
            messages,
            [
                "key `off` is no point of its curve, or a weak one",
                "key `small` is no point of its curve, or a weak one",
                "key `even` has no `n` of the right shape"
            ]
        );
    }

    #[test]
    fn a_key_is_told_by_its_material_its_name_and_its_algorithm() {
        let plain = ec("a");
        let (set, _) = load(json!([plain]));
        let id = set.find(Some("a"), Algorithm::ES256).unwrap().id(Algorithm::ES256).unwrap();
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
        let id = |algorithm| before.find(Some("r"), algorithm).unwrap().id(algorithm).unwrap();
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
