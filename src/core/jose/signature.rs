//! Signature verification as a trait, because Envoy verifies faster than the WebAssembly VM.

use crate::jose::algorithm::Algorithm;
use crate::jose::jws::Unverified;
use crate::jose::key::Key;
use crate::jose::p521_key;
use crate::jose::raw_signature;
use std::borrow::Cow;

/// Verifies the signature of a token with a key of its issuer.
pub trait CheckSignature {
    /// Whether the signature of `token` by `key` with `algorithm` is valid.
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool;
}

/// Pure-Rust implementations; they work on every target.
#[derive(Debug, Clone, Copy, Default)]
pub struct PureRust;

impl CheckSignature for PureRust {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        let verifier = key.verifier(algorithm);
        verifier.is_some_and(|verifier| {
            raw_signature::verify(verifier, token.signing_input().as_bytes(), token.signature())
        })
    }
}

/// The signature of a JWS in the form that other verifiers need. ES256, ES384 and ES512: an ECDSA-Sig-Value in DER (RFC 3279
/// §2.2.3), made from the two concatenated numbers of the JWS form (RFC 7518 §3.4). Other algorithms: unchanged. `None`
/// when the signature has a wrong length, or a number that is zero or not below the group order.
pub fn to_der(signature: &[u8], algorithm: Algorithm) -> Option<Cow<'_, [u8]>> {
    match algorithm {
        Algorithm::ES256 => {
            let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
            Some(signature.to_der().as_bytes().to_vec().into())
        }
        Algorithm::ES384 => {
            let signature = p384::ecdsa::Signature::from_slice(signature).ok()?;
            Some(signature.to_der().as_bytes().to_vec().into())
        }
        Algorithm::ES512 => p521_key::signature_to_der(signature).map(Cow::Owned),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512
        | Algorithm::EdDSA => Some(signature.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    /// Any JSON, as deep as `x5c` and the like are, and deeper.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".{0,5}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn members(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
        proptest::collection::btree_map(proptest::sample::select(names), any_json(), 0..names.len())
            .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    #[test]
    fn numbers_that_are_no_signature_are_refused() {
        // The order of P-256 (FIPS 186-4, D.1.2.3).
        let order = [
            0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
            0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
        ];
        let one = |last| std::iter::repeat_n(0, 31).chain([last]).collect::<Vec<u8>>();
        assert!(to_der(&[one(1), one(1)].concat(), Algorithm::ES256).is_some());
        for bad in [[one(0), one(1)].concat(), [one(1), one(0)].concat(), [order.to_vec(), one(1)].concat(), one(1)] {
            assert_eq!(to_der(&bad, Algorithm::ES256), None);
        }
        assert_eq!(to_der(&[1; 95], Algorithm::ES384), None);
        assert_eq!(to_der(b"any", Algorithm::RS256).as_deref(), Some(&b"any"[..]));
    }

    proptest! {
        /// The members of header and claims that libraries read into types of their own.
        #[test]
        fn a_signature_is_over_bytes_whatever_they_say(
            header in members(&["typ", "cty", "x5c", "x5t", "x5t#S256", "x5u", "jku", "salt", "nonce", "zip"]),
            claims in members(&["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "kid", "jku", "jwk"]),
        ) {
            let mut header = header;
            // These have a shape of their own, which parsing asks for.
            header.retain(|name, value| name != "typ" || value.is_string());
            header.insert("alg".to_owned(), "ES256".into());
            let token = fixture::sign(&Value::Object(header), &Value::Object(claims));
            let issuer = fixture::issuer();
            let key = issuer.keys.last().iter().next().unwrap();
            let jws = Unverified::parse(token.as_bytes(), usize::MAX).unwrap();
            prop_assert!(PureRust.check(&jws, key, Algorithm::ES256));
            let (start, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { "B" } else { "A" };
            let bent = format!("{start}.{first}{}", signature.get(1..).unwrap());
            let jws = Unverified::parse(bent.as_bytes(), usize::MAX).unwrap();
            prop_assert!(!PureRust.check(&jws, key, Algorithm::ES256));
        }

        /// DER integers are as short as they can be and never negative (X.690 §8.3).
        #[test]
        fn der_says_the_same_numbers(r in 1u64.., s in 1u64..) {
            let fixed = |n: u64| [&[0; 24][..], &n.to_be_bytes()].concat();
            let signature = [fixed(r), fixed(s)].concat();
            let der = to_der(&signature, Algorithm::ES256).unwrap();
            let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
            let integer = |n: u64| {
                let digits: Vec<u8> = n.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
                let sign = (digits[0] >= 0x80).then_some(0);
                let body: Vec<u8> = sign.into_iter().chain(digits).collect();
                [&[2, length(&body)][..], &body].concat()
            };
            let body = [integer(r), integer(s)].concat();
            prop_assert_eq!(der.into_owned(), [&[0x30, length(&body)][..], &body].concat());
        }
    }
}
