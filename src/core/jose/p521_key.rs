//! Public keys on the curve P-521 (FIPS 186-5, SP 800-186 §3.2.1.5), for ES512.
//!
//! Only what is cheap is here: whether a point is on the curve, and the forms of key and signature that other verifiers
//! need. The signatures are checked by those.

use num_bigint_dig::BigUint;

/// The length of a number of the curve in bytes.
const LENGTH: usize = 66;

/// `b` of the equation of the curve, without leading zeros.
const B: [u8; 65] = [
    0x51, 0x95, 0x3e, 0xb9, 0x61, 0x8e, 0x1c, 0x9a, 0x1f, 0x92, 0x9a, 0x21, 0xa0, 0xb6, 0x85, 0x40, 0xee, 0xa2, 0xda,
    0x72, 0x5b, 0x99, 0xb3, 0x15, 0xf3, 0xb8, 0xb4, 0x89, 0x91, 0x8e, 0xf1, 0x09, 0xe1, 0x56, 0x19, 0x39, 0x51, 0xec,
    0x7e, 0x93, 0x7b, 0x16, 0x52, 0xc0, 0xbd, 0x3b, 0xb1, 0xbf, 0x07, 0x35, 0x73, 0xdf, 0x88, 0x3d, 0x2c, 0x34, 0xf1,
    0xef, 0x45, 0x1f, 0xd4, 0x6b, 0x50, 0x3f, 0x00,
];

/// The order of the group.
const ORDER: [u8; LENGTH] = [
    0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0x51, 0x86, 0x87, 0x83,
    0xbf, 0x2f, 0x96, 0x6b, 0x7f, 0xcc, 0x01, 0x48, 0xf7, 0x09, 0xa5, 0xd0, 0x3b, 0xb5, 0xc9, 0xb8, 0x89, 0x9c, 0x47,
    0xae, 0xbb, 0x6f, 0xb7, 0x1e, 0x91, 0x38, 0x64, 0x09,
];

/// What stands before an uncompressed point in a SubjectPublicKeyInfo (RFC 5480 §2).
const SPKI: [u8; 25] = [
    0x30, 0x81, 0x9b, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x23, 0x03, 0x81, 0x86, 0x00,
];

/// A point of the curve other than the one at infinity. The cofactor is 1, so there are no weak ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P521Key(Box<[u8]>);

impl P521Key {
    /// Reads an uncompressed point (SEC 1 §2.3.3). `None`: it is not on the curve.
    pub(crate) fn from_point(point: &[u8]) -> Option<P521Key> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(LENGTH)?;
        (y.len() == LENGTH && is_on_curve(x, y)).then(|| P521Key(point.into()))
    }

    /// The uncompressed point.
    pub fn point(&self) -> &[u8] {
        &self.0
    }

    /// The key as a DER SubjectPublicKeyInfo (RFC 5280 §4.1).
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI, self.point()].concat()
    }
}

/// Whether `y² = x³ - 3x + b` modulo `2^521 - 1`, and both numbers are below that.
#[expect(clippy::arithmetic_side_effects, reason = "sums and products of these numbers do not overflow")]
fn is_on_curve(x: &[u8], y: &[u8]) -> bool {
    let prime = BigUint::from_bytes_be(&[&[1][..], &[0xff; 65]].concat());
    let minus_three = BigUint::from_bytes_be(&[&[1][..], &[0xff; 64], &[0xfc]].concat());
    let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
    let right = (&x * &x + minus_three) % &prime * &x + BigUint::from_bytes_be(&B);
    x < prime && y < prime && &y * &y % &prime == right % &prime
}

/// An ECDSA-Sig-Value in DER (RFC 3279 §2.2.3) of the two concatenated numbers of the JWS form (RFC 7518 §3.4). `None` for
/// a wrong length, or a number that is zero or not below the order of the group.
pub(crate) fn signature_to_der(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = signature.split_at_checked(LENGTH)?;
    let body = [integer(r)?, integer(s)?].concat();
    let length = u8::try_from(body.len()).ok()?;
    let head: &[u8] = if length < 0x80 { &[0x30, length] } else { &[0x30, 0x81, length] };
    Some([head, &body].concat())
}

/// A DER INTEGER: as short as it can be, and not negative (X.690 §8.3).
fn integer(number: &[u8]) -> Option<Vec<u8>> {
    if number.len() != LENGTH || number >= &ORDER[..] {
        return None;
    }
    let first = number.iter().position(|byte| *byte != 0)?;
    let digits = number.get(first..)?;
    let sign: &[u8] = if digits.first().is_some_and(|top| *top >= 0x80) { &[0] } else { &[] };
    let length = u8::try_from(digits.len().saturating_add(sign.len())).ok()?;
    Some([&[2, length], sign, digits].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The public key of `secret`, made by another implementation.
    fn point(secret: u64) -> Vec<u8> {
        let secret = [&[0; 58][..], &secret.to_be_bytes()].concat();
        let secret = p521::SecretKey::from_slice(&secret).unwrap();
        p521::elliptic_curve::sec1::ToSec1Point::to_sec1_point(&secret.public_key(), false).as_bytes().to_vec()
    }

    proptest! {
        #[test]
        fn points_of_the_curve_are_taken_and_others_are_not(secret in 1u64.., at in 1usize..133, change in 1u8..) {
            let good = point(secret);
            let key = P521Key::from_point(&good).unwrap();
            prop_assert_eq!(key.point(), &good[..]);
            prop_assert!(key.spki().ends_with(&good));
            let mut bent = good;
            bent[at] ^= change;
            prop_assert_eq!(P521Key::from_point(&bent).is_some(), p521::PublicKey::from_sec1_bytes(&bent).is_ok());
        }

        #[test]
        fn der_is_what_another_implementation_writes(r in 1u64.., s in 1u64.., high: bool) {
            let fixed = |number: u64| match high {
                false => [&[0; 58][..], &number.to_be_bytes()].concat(),
                true => [&[0, 0xff][..], &[7; 56], &number.to_be_bytes()].concat(),
            };
            let signature = [fixed(r), fixed(s)].concat();
            let expected = p521::ecdsa::Signature::from_slice(&signature).unwrap().to_der();
            prop_assert_eq!(signature_to_der(&signature), Some(expected.as_bytes().to_vec()));
        }
    }

    #[test]
    fn what_is_no_point_or_no_signature_is_refused() {
        let good = point(7);
        for bad in [&good[..132], &good[1..], &[0], &[], &[&good[..], &[0]].concat(), &[&[4][..], &[0; 132]].concat()] {
            assert_eq!(P521Key::from_point(bad), None);
        }
        // The same point with a number that is not reduced.
        let one = |last| std::iter::repeat_n(0, 65).chain([last]).collect::<Vec<u8>>();
        let mut below = ORDER;
        below[65] -= 1;
        assert!(signature_to_der(&[one(1), below.to_vec()].concat()).is_some());
        for bad in [[one(0), one(1)].concat(), [one(1), one(0)].concat(), [one(1), ORDER.to_vec()].concat(), one(1)] {
            assert_eq!(signature_to_der(&bad), None);
            assert!(p521::ecdsa::Signature::from_slice(&bad).is_err());
        }
    }
}
