//! Verifies signatures over bytes, with the implementations that jwt-simple uses. The API of jwt-simple itself is not
//! used: it parses header and claims into its own types, and reports a valid signature as invalid when they do not fit:
//! `nonce: 7`, a long `x5c`.

use crate::jose::key::Verifier;
use crate::jose::p521_key::P521Key;
use jwt_simple::prelude::*;
use superboring::hash::MessageDigest;
use superboring::pkey::{PKey, Public};
use superboring::rsa::{Padding, Rsa};

/// Whether `signature`, in the form of a JWS (RFC 7518 §3, RFC 8037 §3.1), is valid for `message`.
pub(crate) fn verify(verifier: &Verifier, message: &[u8], signature: &[u8]) -> bool {
    let good = match verifier {
        Verifier::RS256(key) => {
            rsa(key.public_key().as_ref(), MessageDigest::sha256(), Padding::PKCS1, message, signature)
        }
        Verifier::RS384(key) => {
            rsa(key.public_key().as_ref(), MessageDigest::sha384(), Padding::PKCS1, message, signature)
        }
        Verifier::RS512(key) => {
            rsa(key.public_key().as_ref(), MessageDigest::sha512(), Padding::PKCS1, message, signature)
        }
        Verifier::PS256(key) => {
            rsa(key.public_key().as_ref(), MessageDigest::sha256(), Padding::PKCS1_PSS, message, signature)
        }
        Verifier::PS384(key) => {
            rsa(key.public_key().as_ref(), MessageDigest::sha384(), Padding::PKCS1_PSS, message, signature)
        }
        Verifier::PS512(key) => {
            rsa(key.public_key().as_ref(), MessageDigest::sha512(), Padding::PKCS1_PSS, message, signature)
        }
        Verifier::ES256(key) => p256(key.public_key().as_ref(), message, signature),
        Verifier::ES384(key) => p384(key.public_key().as_ref(), message, signature),
        Verifier::ES512(key) => p521(key, message, signature),
        Verifier::EdDSA(key) => ed25519(key.public_key().as_ref(), message, signature),
    };
    good.is_some()
}

fn p256(key: &p256::ecdsa::VerifyingKey, message: &[u8], signature: &[u8]) -> Option<()> {
    use p256::ecdsa::signature::Verifier as _;
    key.verify(message, &p256::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

fn p384(key: &p384::ecdsa::VerifyingKey, message: &[u8], signature: &[u8]) -> Option<()> {
    use p384::ecdsa::signature::Verifier as _;
    key.verify(message, &p384::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

#[cfg(not(target_family = "wasm"))]
fn p521(key: &P521Key, message: &[u8], signature: &[u8]) -> Option<()> {
    use p521::ecdsa::signature::Verifier as _;
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key.point()).ok()?;
    key.verify(message, &p521::ecdsa::Signature::from_slice(signature).ok()?).ok()
}

/// In the proxy only the proxy itself checks these signatures: the code for one more curve would make the module larger,
/// and be slow.
#[cfg(target_family = "wasm")]
fn p521(_: &P521Key, _: &[u8], _: &[u8]) -> Option<()> {
    None
}

fn ed25519(key: &ed25519_compact::PublicKey, message: &[u8], signature: &[u8]) -> Option<()> {
    key.verify(message, &ed25519_compact::Signature::from_slice(signature).ok()?).ok()
}

fn rsa(key: &Rsa<Public>, hash: MessageDigest, padding: Padding, message: &[u8], signature: &[u8]) -> Option<()> {
    let key = PKey::from_rsa(key.clone()).ok()?;
    let mut verifier = superboring::sign::Verifier::new(hash, &key).ok()?;
    verifier.set_rsa_padding(padding).ok()?;
    verifier.update(message).ok()?;
    verifier.verify(signature).ok()?.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use superboring::sign::{RsaPssSaltlen, Signer};

    const MESSAGE: &[u8] = b"header.payload";

    fn good(verifier: &Verifier, signature: &[u8]) -> bool {
        verify(verifier, MESSAGE, signature)
    }

    /// Whoever bears a token must not be able to make another of it.
    #[test]
    fn an_ed25519_signature_has_one_form() {
        // The order of the group, little-endian (RFC 8032 §5.1).
        let mut order = [0; 32];
        order[..16].copy_from_slice(&0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes());
        order[31] = 0x10;
        let pair = Ed25519KeyPair::generate();
        let signature = pair.key_pair().as_ref().sk.sign(MESSAGE, None).to_vec();
        let verifier = Verifier::EdDSA(pair.public_key());
        assert!(good(&verifier, &signature));
        let mut carry = 0;
        let other: Vec<u8> = signature[32..]
            .iter()
            .zip(order)
            .map(|(s, n)| {
                let sum = u16::from(*s) + u16::from(n) + carry;
                carry = sum >> 8;
                sum.to_le_bytes()[0]
            })
            .collect();
        assert!(!good(&verifier, &[&signature[..32], &other].concat()));
        for bad in [&signature[1..], &[&signature[..], &[0]].concat(), &[0; 64], &[]] {
            assert!(!good(&verifier, bad));
        }
    }

    /// RFC 7518 §3.5: the salt is as long as the hash.
    #[test]
    fn a_pss_signature_has_a_salt_as_long_as_its_hash() {
        let pair = PS256KeyPair::generate(2048).unwrap();
        let key = PKey::from_rsa(pair.key_pair().as_ref().clone()).unwrap();
        let RSAPublicKeyComponents { n, e } = pair.public_key().to_components();
        let sha256: fn() -> MessageDigest = MessageDigest::sha256;
        for (hash, verifier, length) in [
            (sha256, Verifier::PS256(PS256PublicKey::from_components(&n, &e).unwrap()), 32),
            (MessageDigest::sha384, Verifier::PS384(PS384PublicKey::from_components(&n, &e).unwrap()), 48),
            (MessageDigest::sha512, Verifier::PS512(PS512PublicKey::from_components(&n, &e).unwrap()), 64),
        ] {
            for salt in [0, 20, 31, 32, 33, 47, 48, 49, 63, 64, 65] {
                let mut signer = Signer::new(hash(), &key).unwrap();
                signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
                signer.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt)).unwrap();
                signer.update(MESSAGE).unwrap();
                assert_eq!(good(&verifier, &signer.sign_to_vec().unwrap()), salt == length, "{length} {salt}");
            }
        }
    }

    #[test]
    fn a_ps256_signature_has_a_salt_of_32_bytes() {
        let pair = PS256KeyPair::generate(2048).unwrap();
        let key = PKey::from_rsa(pair.key_pair().as_ref().clone()).unwrap();
        let sign = |padding, salt| {
            let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
            signer.set_rsa_padding(padding).unwrap();
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt)).unwrap();
            signer.update(MESSAGE).unwrap();
            signer.sign_to_vec().unwrap()
        };
        let verifier = Verifier::PS256(pair.public_key());
        for salt in [0, 20, 31, 32, 33, 64] {
            assert_eq!(good(&verifier, &sign(Padding::PKCS1_PSS, salt)), salt == 32, "{salt}");
        }
        let signature = sign(Padding::PKCS1, 32);
        assert!(!good(&verifier, &signature));
        let components = pair.public_key().to_components();
        let verifier = Verifier::RS256(RS256PublicKey::from_components(&components.n, &components.e).unwrap());
        assert!(good(&verifier, &signature));
        for bad in [&signature[1..], &[&[0], &signature[..]].concat(), &[&signature[..], &[0]].concat(), &[]] {
            assert!(!good(&verifier, bad), "of {} bytes", bad.len());
        }
        // The signature is a number below the modulus (RFC 8017 §8.2.2).
        assert!(!good(&verifier, &components.n));
    }
}
