//! A public key as PEM (RFC 7468): a SubjectPublicKeyInfo, an RSA public key (PKCS #1), or the key of a certificate.
//!
//! It becomes a JWK, so that all checks of keys are in one place.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The maximum length of a PEM in bytes.
const MAX_PEM: usize = 64 * 1024;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const OID: u8 = 6;
/// `[0] EXPLICIT Version` of a certificate.
const VERSION: u8 = 0xa0;

/// 1.2.840.113549.1.1.1 (RFC 8017 §A.1).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// 1.2.840.10045.2.1 (RFC 5480 §2.1.1).
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.3.101.112 (RFC 8410 §3).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// The curves by their object identifiers (RFC 5480 §2.1.1.1), and the length of their numbers.
const CURVES: [(&[u8], &str, usize); 3] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], "P-256", 32),
    (&[0x2b, 0x81, 4, 0, 0x22], "P-384", 48),
    (&[0x2b, 0x81, 4, 0, 0x23], "P-521", 66),
];

/// Why a text is not accepted as the PEM of a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum PemError {
    #[error("longer than {MAX_PEM} bytes")]
    TooLong,
    #[error(
        "not PEM: expected `-----BEGIN PUBLIC KEY-----` or `-----BEGIN CERTIFICATE-----`, base64 and the `END` line"
    )]
    NotPem,
    #[error("{0} PEM blocks: exactly one is taken")]
    Several(usize),
    #[error("a private key: write the public key only")]
    Private,
    #[error("a PEM block of the kind `{0}`: `PUBLIC KEY`, `RSA PUBLIC KEY` and `CERTIFICATE` are taken")]
    Label(String),
    #[error("the contents of the PEM block are not a valid {0}")]
    Malformed(&'static str),
    #[error(
        "a public key of a kind that no algorithm here uses: RSA, EC on P-256, P-384 and P-521, and Ed25519 are taken"
    )]
    Kind,
}

/// The public key in `pem` as a JWK (RFC 7517), with `kid` if there is one. Of a certificate only the key is used: neither
/// its dates nor its signature are looked at.
pub(crate) fn to_jwk(pem: &str, kid: Option<&str>) -> Result<Value, PemError> {
    if pem.len() > MAX_PEM {
        return Err(PemError::TooLong);
    }
    let (label, der) = block(pem)?;
    let (what, jwk) = match label {
        "PUBLIC KEY" => ("SubjectPublicKeyInfo", spki(&der)),
        "RSA PUBLIC KEY" => ("RSAPublicKey", rsa(&der).map(Ok)),
        "CERTIFICATE" => ("certificate", certificate(&der)),
        _ if label.contains("PRIVATE KEY") => return Err(PemError::Private),
        _ => return Err(PemError::Label(label.to_owned())),
    };
    let mut jwk = jwk.ok_or(PemError::Malformed(what))??;
    if let (Some(kid), Some(members)) = (kid, jwk.as_object_mut()) {
        members.insert("kid".to_owned(), kid.into());
    }
    Ok(jwk)
}

/// The label and the bytes of the only block. Text outside of it is ignored (RFC 7468 §2).
fn block(pem: &str) -> Result<(&str, Vec<u8>), PemError> {
    match pem.matches(BEGIN).count() {
        0 => return Err(PemError::NotPem),
        1 => {}
        several => return Err(PemError::Several(several)),
    }
    let (_, rest) = pem.split_once(BEGIN).ok_or(PemError::NotPem)?;
    let (label, rest) = rest.split_once(DASHES).ok_or(PemError::NotPem)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(PemError::NotPem)?;
    let text: String = body.split_ascii_whitespace().collect();
    Ok((label, STANDARD.decode(text).map_err(|_| PemError::NotPem)?))
}

/// What is left of a DER encoding (X.690 §10).
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The only value in `bytes`, which has this tag.
    fn only(bytes: &'d [u8], tag: u8) -> Option<&'d [u8]> {
        let mut der = Der(bytes);
        let value = der.take(tag)?;
        der.0.is_empty().then_some(value)
    }

    /// The contents of the next value, which has this tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        (self.0.first() == Some(&tag)).then_some(())?;
        self.any()
    }

    /// The contents of the next value.
    fn any(&mut self) -> Option<&'d [u8]> {
        let (_tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81 | 0x82 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length: usize, digit| length << 8 | usize::from(*digit)), rest)
            }
            // No key here is longer than that.
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }
}

/// The key of a certificate (RFC 5280 §4.1).
fn certificate(der: &[u8]) -> Option<Result<Value, PemError>> {
    let signed = Der(Der::only(der, SEQUENCE)?).take(SEQUENCE)?;
    let mut fields = Der(signed);
    if fields.0.first() == Some(&VERSION) {
        fields.any()?;
    }
    fields.take(INTEGER)?;
    // The signature algorithm, the issuer, the validity and the subject.
    for _ in 0..4 {
        fields.take(SEQUENCE)?;
    }
    spki_of(fields.take(SEQUENCE)?)
}

/// A SubjectPublicKeyInfo (RFC 5280 §4.1.2.7). `None` when it is malformed.
fn spki(der: &[u8]) -> Option<Result<Value, PemError>> {
    spki_of(Der::only(der, SEQUENCE)?)
}

fn spki_of(fields: &[u8]) -> Option<Result<Value, PemError>> {
    let mut fields = Der(fields);
    let mut algorithm = Der(fields.take(SEQUENCE)?);
    let kind = algorithm.take(OID)?;
    // The first byte says how many bits of the last one are no part of the key.
    let key = fields.take(BIT_STRING)?.strip_prefix(&[0])?;
    match kind {
        RSA => rsa(key).map(Ok),
        EC => {
            let curve = algorithm.take(OID)?;
            match CURVES.iter().find(|(oid, ..)| *oid == curve) {
                Some((_, name, length)) => ec(key, name, *length).map(Ok),
                None => Some(Err(PemError::Kind)),
            }
        }
        ED25519 => Some(Ok(json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key)}))),
        _ => Some(Err(PemError::Kind)),
    }
}

/// An uncompressed point (SEC 1 §2.3.3).
fn ec(point: &[u8], curve: &str, length: usize) -> Option<Value> {
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(length)?;
    Some(json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)}))
}

/// An RSAPublicKey (RFC 8017 §A.1.1).
fn rsa(der: &[u8]) -> Option<Value> {
    let mut fields = Der(Der::only(der, SEQUENCE)?);
    let (n, e) = (fields.take(INTEGER)?, fields.take(INTEGER)?);
    let positive = |number: &[u8]| number.first().is_some_and(|top| *top < 0x80);
    let unsigned = |number: &[u8]| encode(number.strip_prefix(&[0]).unwrap_or(number));
    (positive(n) && positive(e)).then(|| json!({"kty": "RSA", "n": unsigned(n), "e": unsigned(e)}))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::key::KeySet;
    use jwt_simple::prelude::*;
    use proptest::prelude::*;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    /// The members of the key that another library writes as a JWK.
    fn expected(jwk: &str) -> Value {
        let mut jwk: Value = serde_json::from_str(jwk).unwrap();
        jwk.as_object_mut().unwrap().retain(|name, _| matches!(name.as_str(), "kty" | "crv" | "x" | "y" | "n" | "e"));
        jwk
    }

    #[test]
    fn every_kind_of_key_is_the_one_that_another_library_reads() {
        let (p256, p384) = (ES256KeyPair::generate(), ES384KeyPair::generate());
        let (rsa, ed25519) = (RS256KeyPair::generate(2048).unwrap(), Ed25519KeyPair::generate());
        for (text, jwk) in [
            (p256.public_key().to_pem().unwrap(), p256.public_key().to_jwk()),
            (p384.public_key().to_pem().unwrap(), p384.public_key().to_jwk()),
            (rsa.public_key().to_pem().unwrap(), rsa.public_key().to_jwk()),
            (ed25519.public_key().to_pem(), ed25519.public_key().to_jwk()),
        ] {
            assert_eq!(to_jwk(&text, None), Ok(expected(&jwk)), "{text}");
            let crlf = format!("Subject: who\r\n{}", text.replace('\n', "\r\n"));
            assert_eq!(to_jwk(&crlf, None), Ok(expected(&jwk)), "other line ends, and text before");
            let named = to_jwk(&text, Some("k")).unwrap();
            let (keys, problems) = KeySet::from_jwks(&json!({"keys": [named]}), &Algorithm::ALL).unwrap();
            assert_eq!((keys.iter().next().unwrap().kid(), problems), (Some("k"), vec![]));
        }
        // PKCS #1 is what is in the bit string of an RSA key.
        let der = rsa.public_key().to_der().unwrap();
        let inner = der.windows(4).position(|bytes| bytes == [0x30, 0x82, 1, 0x0a]).unwrap();
        assert_eq!(to_jwk(&pem("RSA PUBLIC KEY", &der[inner..]), None), Ok(expected(&rsa.public_key().to_jwk())));
    }

    #[test]
    fn a_certificate_gives_its_key() {
        // Made by openssl: `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -subj /CN=issuer`.
        const CERTIFICATE: &str = include_str!("../testing/p521-certificate.pem");
        const PUBLIC: &str = include_str!("../testing/p521-public.pem");
        let key = to_jwk(PUBLIC, None).unwrap();
        assert_eq!((&key["kty"], &key["crv"]), (&json!("EC"), &json!("P-521")));
        assert_eq!(to_jwk(CERTIFICATE, None), Ok(key.clone()));
        let (keys, problems) = KeySet::from_jwks(&json!({"keys": [key]}), &[Algorithm::ES512]).unwrap();
        assert_eq!((keys.len(), problems), (1, vec![]));
        let (_, der) = block(PUBLIC).unwrap();
        assert_eq!(keys.iter().next().unwrap().spki(), Some(der.as_slice()), "what openssl writes");
    }

    #[test]
    fn what_is_no_public_key_is_named() {
        let good = ES256KeyPair::generate().public_key().to_der().unwrap();
        for (text, error) in [
            (String::new(), PemError::NotPem),
            ("-----BEGIN PUBLIC KEY-----\nAAAA".to_owned(), PemError::NotPem),
            ("-----BEGIN PUBLIC KEY-----\n*\n-----END PUBLIC KEY-----".to_owned(), PemError::NotPem),
            (pem("PUBLIC KEY", &good).repeat(2), PemError::Several(2)),
            (pem("EC PRIVATE KEY", &good), PemError::Private),
            (pem("ENCRYPTED PRIVATE KEY", &good), PemError::Private),
            (pem("CERTIFICATE REQUEST", &good), PemError::Label("CERTIFICATE REQUEST".to_owned())),
            (pem("CERTIFICATE", &good), PemError::Malformed("certificate")),
            (pem("RSA PUBLIC KEY", &good), PemError::Malformed("RSAPublicKey")),
            (pem("PUBLIC KEY", &good[1..]), PemError::Malformed("SubjectPublicKeyInfo")),
            (pem("PUBLIC KEY", &[&good[..], &[0]].concat()), PemError::Malformed("SubjectPublicKeyInfo")),
            (" ".repeat(MAX_PEM + 1), PemError::TooLong),
        ] {
            assert_eq!(to_jwk(&text, None), Err(error), "{text}");
        }
        // X25519 (RFC 8410 §3).
        let x25519 = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 3, 0x21, 0][..], &[9; 32]].concat();
        assert_eq!(to_jwk(&pem("PUBLIC KEY", &x25519), None), Err(PemError::Kind));
    }

    proptest! {
        #[test]
        fn any_der_is_read_or_refused(label in "PUBLIC KEY|RSA PUBLIC KEY|CERTIFICATE", bytes: Vec<u8>) {
            let _ = to_jwk(&pem(&label, &bytes), None);
        }

        #[test]
        fn a_changed_key_is_read_or_refused(at: prop::sample::Index, change in 1u8.., cut: prop::sample::Index) {
            let mut der = ES256KeyPair::generate().public_key().to_der().unwrap();
            let at = at.index(der.len());
            der[at] ^= change;
            if let Ok(jwk) = to_jwk(&pem("PUBLIC KEY", &der), Some("k")) {
                let _ = KeySet::from_jwks(&json!({"keys": [jwk]}), &Algorithm::ALL);
            }
            der.truncate(cut.index(der.len()));
            prop_assert!(to_jwk(&pem("PUBLIC KEY", &der), None).is_err());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(-----BEGIN |-----END |PUBLIC KEY|-----|[A-Za-z0-9+/=\n ]{0,40}){0,9}") {
            let _ = to_jwk(&text, None);
        }
    }
}
