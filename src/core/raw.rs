//! Signatures over bytes, by the implementations under jwt-simple: for a JWS whose header jwt-simple cannot read.

use crate::key::Verifier;
use jwt_simple::prelude::*;
use superboring::hash::MessageDigest;
use superboring::pkey::{PKey, Public};
use superboring::rsa::{Padding, Rsa};

/// Whether `signature`, in the form of a JWS (RFC 7518 §3, RFC 8037 §3.1), is that of `message`.
pub fn verify(verifier: &Verifier, message: &[u8], signature: &[u8]) -> bool {
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
        Verifier::ES256(key) => p256(key.public_key().as_ref(), message, signature),
        Verifier::ES384(key) => p384(key.public_key().as_ref(), message, signature),
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
