//! One JWK (RFC 7517): its purpose, and its public key (RFC 7518 §6, RFC 8037 §2).
//!
//! Some issuers deviate from the RFCs. Accepted are: a member that is null (it counts as absent), leading zeros of a
//! modulus, and `=` after base64url. If a key cannot be used, the error says why.

use crate::jose::algorithm::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::fmt;

/// The size of an RSA modulus in bits. Shorter ones are weak (RFC 7518 §3.3), longer ones are slow to verify with.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The RSA exponents that are accepted; they must be odd too. FIPS 186-5 §5.1 asks for more than 2^16. Envoy's verifier
/// takes at most 33 bits.
const EXPONENTS: std::ops::RangeInclusive<u64> = 0x1_0001..=0xffff_ffff;

/// A JWK that has no private members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jwk<'j> {
    members: &'j Map<String, Value>,
    kid: Option<&'j str>,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Material {
    /// A modulus of [`MODULUS_BITS`] and one of [`EXPONENTS`], without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point of P-256, uncompressed (SEC 1 §2.3.3). Not checked yet: whether it is on the curve.
    P256(Vec<u8>),
    /// The same for P-384.
    P384(Vec<u8>),
    /// The same for P-521.
    P521(Vec<u8>),
    /// A point of Ed25519 (RFC 8032 §5.1.2), not checked yet.
    Ed25519(Vec<u8>),
}

/// Why a key of a set is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("not a JWK object")]
    NotAnObject,
    #[error("`kid` is empty or not a string")]
    BadKid,
    #[error("{key} holds private members: publish the public part only")]
    Private { key: KeyName },
    #[error("{key} is not for signatures: its `use` is `{purpose}`")]
    Use { key: KeyName, purpose: String },
    #[error("{key} is not for checking signatures: its `key_ops` have no `verify`")]
    Operations { key: KeyName },
    #[error("{key} is for `{algorithm}`, which is not one of the allowed algorithms")]
    Algorithm { key: KeyName, algorithm: String },
    #[error("{key} is a key of the kind {kind}, for which no algorithm is allowed")]
    Kind { key: KeyName, kind: String },
    #[error("{key} says `alg` {algorithm}, for which a key of the kind {kind} is not")]
    Contradiction { key: KeyName, algorithm: &'static str, kind: String },
    #[error("{key} has no `{member}` of the right shape")]
    Malformed { key: KeyName, member: &'static str },
    #[error("{key} is no point of its curve, or a weak one")]
    Point { key: KeyName },
    #[error("{key} has an RSA modulus of {bits} bits: 2048 to 4096 are taken")]
    Modulus { key: KeyName, bits: usize },
    #[error(
        "{key} has the RSA exponent {exponent}: odd ones from 65537 to 4294967295 are taken, since small ones make forged signatures easier to find"
    )]
    Exponent { key: KeyName, exponent: String },
    #[error("`kid` `{kid}` names several keys for {}", algorithm.name())]
    Several { kid: String, algorithm: Algorithm },
}

impl KeyError {
    /// Whether the key is valid but not for the signatures that are checked here. Issuers publish such keys with the
    /// others.
    pub fn is_for_other_use(&self) -> bool {
        match self {
            KeyError::Use { .. } | KeyError::Operations { .. } | KeyError::Algorithm { .. } | KeyError::Kind { .. } => {
                true
            }
            KeyError::NotAnObject
            | KeyError::BadKid
            | KeyError::Private { .. }
            | KeyError::Contradiction { .. }
            | KeyError::Malformed { .. }
            | KeyError::Point { .. }
            | KeyError::Modulus { .. }
            | KeyError::Exponent { .. }
            | KeyError::Several { .. } => false,
        }
    }
}

/// The `kid` of a key, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(pub Option<String>);

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(kid) => write!(f, "key `{kid}`"),
            None => f.write_str("a key without `kid`"),
        }
    }
}

impl<'j> Jwk<'j> {
    /// Reads `kid`, and refuses a JWK with private members.
    pub(crate) fn read(jwk: &'j Value) -> Result<Jwk<'j>, KeyError> {
        let members = jwk.as_object().ok_or(KeyError::NotAnObject)?;
        let kid = match members.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) if !kid.is_empty() => Some(kid.as_str()),
            Some(_) => return Err(KeyError::BadKid),
        };
        let jwk = Jwk { members, kid };
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.member(name).is_some()) {
            return Err(KeyError::Private { key: jwk.named() });
        }
        Ok(jwk)
    }

    /// `kid`, if there is one.
    pub(crate) fn kid(&self) -> Option<&'j str> {
        self.kid
    }

    /// The key, and the algorithms among `allowed` that it can be used for: at least one.
    pub(crate) fn material(&self, allowed: &[Algorithm]) -> Result<(Material, Vec<Algorithm>), KeyError> {
        self.check_purpose()?;
        let algorithm = self.algorithm(allowed)?;
        let kind = self.kind()?;
        let fits = |algorithm: &Algorithm| kind_of(*algorithm) == kind;
        let algorithms: Vec<Algorithm> = match algorithm {
            Some(algorithm) if !fits(&algorithm) => {
                let algorithm = algorithm.name();
                return Err(KeyError::Contradiction { key: self.named(), algorithm, kind });
            }
            Some(algorithm) => vec![algorithm],
            None => allowed.iter().copied().filter(fits).collect(),
        };
        if algorithms.is_empty() {
            return Err(KeyError::Kind { key: self.named(), kind });
        }
        let material = match kind.as_str() {
            "RSA" => Material::Rsa { n: self.modulus()?, e: self.exponent()? },
            "EC P-256" => Material::P256(self.point(32)?),
            "EC P-384" => Material::P384(self.point(48)?),
            "EC P-521" => Material::P521(self.point(66)?),
            _ => Material::Ed25519(self.coordinate("x", 32)?),
        };
        Ok((material, algorithms))
    }

    /// The key's name for messages.
    pub(crate) fn named(&self) -> KeyName {
        KeyName(self.kid.map(str::to_owned))
    }

    /// `use` (RFC 7517 §4.2) and `key_ops` (§4.3). SPIFFE writes `jwt-svid` for the keys of its tokens (SPIFFE Trust Domain
    /// and Bundle §4.2.2). An empty list of operations does not restrict the key.
    fn check_purpose(&self) -> Result<(), KeyError> {
        match self.text("use")? {
            None | Some("sig" | "jwt-svid") => {}
            Some(purpose) => return Err(KeyError::Use { key: self.named(), purpose: purpose.to_owned() }),
        }
        match self.member("key_ops") {
            None => Ok(()),
            Some(Value::Array(list)) if list.is_empty() || list.iter().any(|operation| operation == "verify") => Ok(()),
            Some(Value::Array(_)) => Err(KeyError::Operations { key: self.named() }),
            Some(_) => Err(self.malformed("key_ops")),
        }
    }

    /// `alg` (RFC 7517 §4.4), if it is there; it must be one of `allowed`.
    fn algorithm(&self, allowed: &[Algorithm]) -> Result<Option<Algorithm>, KeyError> {
        let Some(name) = self.text("alg")? else { return Ok(None) };
        let algorithm = Algorithm::from_name(name).filter(|algorithm| allowed.contains(algorithm));
        let refused = || KeyError::Algorithm { key: self.named(), algorithm: name.to_owned() };
        algorithm.map(Some).ok_or_else(refused)
    }

    /// `kty`, followed by `crv` for key types that have curves.
    fn kind(&self) -> Result<String, KeyError> {
        match self.text("kty")? {
            None => Err(self.malformed("kty")),
            Some(kty @ ("EC" | "OKP")) => {
                let crv = self.text("crv")?.ok_or_else(|| self.malformed("crv"))?;
                Ok(format!("{kty} {crv}"))
            }
            Some(kty) => Ok(kty.to_owned()),
        }
    }

    fn exponent(&self) -> Result<Vec<u8>, KeyError> {
        let exponent = self.integer("e")?;
        let taken = number(&exponent).is_some_and(|number| EXPONENTS.contains(&number) && number % 2 == 1);
        match taken {
            true => Ok(exponent),
            false => Err(KeyError::Exponent { key: self.named(), exponent: decimal(&exponent) }),
        }
    }

    fn modulus(&self) -> Result<Vec<u8>, KeyError> {
        let modulus = self.integer("n")?;
        let spare = modulus.first().map_or(0, |top| top.leading_zeros());
        let bits = modulus.len().saturating_mul(8).saturating_sub(usize::try_from(spare).unwrap_or(0));
        if !MODULUS_BITS.contains(&bits) {
            return Err(KeyError::Modulus { key: self.named(), bits });
        }
        Ok(modulus)
    }

    /// The uncompressed point of `x` and `y`, which have `size` bytes each.
    fn point(&self, size: usize) -> Result<Vec<u8>, KeyError> {
        let (x, y) = (self.coordinate("x", size)?, self.coordinate("y", size)?);
        Ok([&[4][..], &x, &y].concat())
    }

    fn coordinate(&self, name: &'static str, size: usize) -> Result<Vec<u8>, KeyError> {
        Some(self.bytes(name)?).filter(|bytes| bytes.len() == size).ok_or_else(|| self.malformed(name))
    }

    /// A `Base64urlUInt` (RFC 7518 §2). Leading zeros are not allowed there, but some issuers write them.
    fn integer(&self, name: &'static str) -> Result<Vec<u8>, KeyError> {
        let bytes = self.bytes(name)?;
        let first = bytes.iter().position(|byte| *byte != 0).ok_or_else(|| self.malformed(name))?;
        Ok(bytes.into_iter().skip(first).collect())
    }

    fn bytes(&self, name: &'static str) -> Result<Vec<u8>, KeyError> {
        let text = self.text(name)?.ok_or_else(|| self.malformed(name))?;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| self.malformed(name))
    }

    fn text(&self, name: &'static str) -> Result<Option<&'j str>, KeyError> {
        match self.member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.malformed(name)),
        }
    }

    fn member(&self, name: &str) -> Option<&'j Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn malformed(&self, member: &'static str) -> KeyError {
        KeyError::Malformed { key: self.named(), member }
    }
}

/// The key type for `algorithm`, in the form of [`Jwk::kind`].
fn kind_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => "RSA",
        Algorithm::ES256 => "EC P-256",
        Algorithm::ES384 => "EC P-384",
        Algorithm::ES512 => "EC P-521",
        Algorithm::EdDSA => "OKP Ed25519",
    }
}

/// The number with these bytes, the highest first; `None` when it has more than 64 bits.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
}

/// A number for messages.
fn decimal(bytes: &[u8]) -> String {
    number(bytes).map_or_else(|| format!("of {} bytes", bytes.len()), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bytes]), "e": "AQAB"})
    }

    fn with(mut jwk: Value, members: Value) -> Value {
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwk
    }

    fn read(jwk: &Value) -> Result<(Material, Vec<Algorithm>), String> {
        let allowed = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
        Jwk::read(jwk).and_then(|jwk| jwk.material(&allowed)).map_err(|error| error.to_string())
    }

    #[test]
    fn other_spellings_of_one_key() {
        let modulus = vec![0xff; 256];
        let expected =
            (Material::Rsa { n: modulus.clone(), e: vec![1, 0, 1] }, vec![Algorithm::RS256, Algorithm::PS256]);
        let zeros = |count| json!({"n": URL_SAFE_NO_PAD.encode([&vec![0; count][..], &modulus].concat())});
        let equals = json!({"n": format!("{}==", rsa(256)["n"].as_str().unwrap()), "e": "AQAB===="});
        for same in [
            rsa(256),
            with(rsa(256), zeros(1)),
            with(rsa(256), zeros(5)),
            with(rsa(256), equals),
            with(rsa(256), json!({"e": "AAEAAQ"})),
            with(rsa(256), json!({"use": null, "alg": null, "key_ops": null, "d": null, "kid": null, "x5c": null})),
            with(rsa(256), json!({"use": "sig", "key_ops": []})),
            with(rsa(256), json!({"use": "jwt-svid"})),
            with(rsa(256), json!({"key_ops": ["verify"], "x5c": ["M".repeat(20_000)]})),
        ] {
            assert_eq!(read(&same), Ok(expected.clone()), "{same}");
        }
        let one = with(rsa(256), json!({"alg": "PS256"}));
        assert_eq!(read(&one), Ok((Material::Rsa { n: modulus.clone(), e: vec![1, 0, 1] }, vec![Algorithm::PS256])));
        let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "alg": "Ed25519"});
        assert_eq!(read(&okp).unwrap().1, [Algorithm::EdDSA]);
    }

    #[test]
    fn exponents_are_odd_and_neither_small_nor_long() {
        let with_exponent = |bytes: &[u8]| read(&with(rsa(256), json!({"e": URL_SAFE_NO_PAD.encode(bytes)})));
        for good in [&[1, 0, 1][..], &[1, 0, 3], &[0, 0, 1, 0, 0, 1], &[0xff; 4]] {
            assert!(with_exponent(good).is_ok(), "{good:?}");
        }
        let why = "odd ones from 65537 to 4294967295 are taken, since small ones make forged signatures easier to find";
        for (bad, shown) in [
            (&[1][..], "1"),
            (&[3], "3"),
            (&[17], "17"),
            (&[0xff, 0xff], "65535"),
            (&[1, 0, 2], "65538"),
            (&[1, 0, 0, 0, 1], "4294967297"),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 1], "of 9 bytes"),
        ] {
            assert_eq!(with_exponent(bad), Err(format!("key `k` has the RSA exponent {shown}: {why}")));
        }
    }

    #[test]
    fn what_makes_a_key_unfit_is_named() {
        let ec = |crv: &str| json!({"kty": "EC", "kid": "k", "crv": crv, "x": X, "y": X});
        for (jwk, message) in [
            (json!(7), "not a JWK object"),
            (json!({"kid": ""}), "`kid` is empty or not a string"),
            (json!({"kid": 7}), "`kid` is empty or not a string"),
            (with(rsa(256), json!({"d": "AA"})), "key `k` holds private members: publish the public part only"),
            (
                json!({"kty": "oct", "k": "AA"}),
                "a key without `kid` holds private members: publish the public part only",
            ),
            (with(rsa(256), json!({"use": "enc"})), "key `k` is not for signatures: its `use` is `enc`"),
            (with(rsa(256), json!({"use": 7})), "key `k` has no `use` of the right shape"),
            (
                with(rsa(256), json!({"key_ops": ["encrypt"]})),
                "key `k` is not for checking signatures: its `key_ops` have no `verify`",
            ),
            (with(rsa(256), json!({"key_ops": "verify"})), "key `k` has no `key_ops` of the right shape"),
            (
                with(rsa(256), json!({"alg": "RSA-OAEP"})),
                "key `k` is for `RSA-OAEP`, which is not one of the allowed algorithms",
            ),
            (
                with(rsa(256), json!({"alg": "RS512"})),
                "key `k` is for `RS512`, which is not one of the allowed algorithms",
            ),
            (
                with(rsa(256), json!({"alg": "ES256"})),
                "key `k` says `alg` ES256, for which a key of the kind RSA is not",
            ),
            (ec("P-521"), "key `k` is a key of the kind EC P-521, for which no algorithm is allowed"),
            (ec("P-384"), "key `k` is a key of the kind EC P-384, for which no algorithm is allowed"),
            (
                json!({"kty": "AKP", "pub": "AA"}),
                "a key without `kid` is a key of the kind AKP, for which no algorithm is allowed",
            ),
            (json!({"kid": "k"}), "key `k` has no `kty` of the right shape"),
            (json!({"kty": "EC"}), "a key without `kid` has no `crv` of the right shape"),
            (with(ec("P-256"), json!({"x": "AA"})), "key `k` has no `x` of the right shape"),
            (with(ec("P-256"), json!({"y": "a+b"})), "key `k` has no `y` of the right shape"),
            (rsa(128), "key `k` has an RSA modulus of 1024 bits: 2048 to 4096 are taken"),
            (rsa(513), "key `k` has an RSA modulus of 4104 bits: 2048 to 4096 are taken"),
            (with(rsa(256), json!({"n": "AAAA"})), "key `k` has no `n` of the right shape"),
            (with(rsa(256), json!({"use": "x509-svid"})), "key `k` is not for signatures: its `use` is `x509-svid`"),
        ] {
            assert_eq!(read(&jwk), Err(message.to_owned()), "{jwk}");
        }
    }
}
