//! Signatures checked by aws-lc, which is several times faster than the implementations that also run in the proxy.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use hashbrown::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::jose::key::{Key, Verifier};
use taskfence_core::jose::signature::CheckSignature;

/// So many parsed keys are kept. More than all transmitters of a hub have; a full memory is emptied.
const MAX_PARSED: usize = 4096;

/// Checks signatures with aws-lc. Clones share the keys that were parsed.
#[derive(Debug, Clone, Default)]
pub struct AwsLc {
    /// By the id of the key for its algorithm, which is a hash over the key material.
    parsed: Arc<RwLock<HashMap<[u8; 16], Arc<ParsedPublicKey>>>>,
}

impl CheckSignature for AwsLc {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        let Some(parsed) = self.parsed(key, algorithm) else { return false };
        parsed.verify_sig(token.signing_input().as_bytes(), token.signature()).is_ok()
    }
}

impl AwsLc {
    fn parsed(&self, key: &Key, algorithm: Algorithm) -> Option<Arc<ParsedPublicKey>> {
        let id = key.id(algorithm)?;
        let known = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(id.as_bytes()).cloned();
        if known.is_some() {
            return known;
        }
        let parsed = Arc::new(parse(key.verifier(algorithm)?)?);
        let mut all = self.parsed.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_PARSED {
            all.clear();
        }
        let id = <[u8; 16]>::try_from(id.as_bytes()).ok()?;
        all.insert(id, parsed.clone());
        Some(parsed)
    }
}

/// The key as aws-lc reads it: RSA and EC keys from a SubjectPublicKeyInfo, Ed25519 keys from their 32 bytes.
fn parse(verifier: &Verifier) -> Option<ParsedPublicKey> {
    let (algorithm, bytes): (&'static dyn VerificationAlgorithm, Vec<u8>) = match verifier {
        Verifier::RS256(key) => (&signature::RSA_PKCS1_2048_8192_SHA256, key.to_der().ok()?),
        Verifier::RS384(key) => (&signature::RSA_PKCS1_2048_8192_SHA384, key.to_der().ok()?),
        Verifier::RS512(key) => (&signature::RSA_PKCS1_2048_8192_SHA512, key.to_der().ok()?),
        Verifier::PS256(key) => (&signature::RSA_PSS_2048_8192_SHA256, key.to_der().ok()?),
        Verifier::PS384(key) => (&signature::RSA_PSS_2048_8192_SHA384, key.to_der().ok()?),
        Verifier::PS512(key) => (&signature::RSA_PSS_2048_8192_SHA512, key.to_der().ok()?),
        Verifier::ES256(key) => (&signature::ECDSA_P256_SHA256_FIXED, key.to_der().ok()?),
        Verifier::ES384(key) => (&signature::ECDSA_P384_SHA384_FIXED, key.to_der().ok()?),
        Verifier::ES512(key) => (&signature::ECDSA_P521_SHA512_FIXED, key.spki()),
        Verifier::EdDSA(key) => (&signature::ED25519, key.to_bytes()),
    };
    ParsedPublicKey::new(algorithm, bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::testing::Signer;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;
    use taskfence_core::jose::key::KeySet;
    use taskfence_core::jose::signature::PureRust;

    static SIGNERS: LazyLock<Vec<(Signer, KeySet, AwsLc)>> = LazyLock::new(|| {
        let signer = |algorithm: Algorithm| {
            let signer = Signer::new(algorithm, "k");
            let (keys, problems) = KeySet::from_jwks(&signer.jwks(), &Algorithm::ALL).unwrap();
            assert_eq!(problems, []);
            (signer, keys, AwsLc::default())
        };
        Algorithm::ALL.map(signer).into()
    });

    fn of(algorithm: Algorithm) -> &'static (Signer, KeySet, AwsLc) {
        SIGNERS.iter().find(|(signer, ..)| signer.algorithm() == algorithm).unwrap()
    }

    /// What both say about one token.
    fn both(token: &str, keys: &KeySet, algorithm: Algorithm, aws: &AwsLc) -> (bool, bool) {
        let Ok(jws) = Unverified::parse(token.as_bytes(), usize::MAX) else { return (false, false) };
        let key = keys.find(Some("k"), algorithm).unwrap();
        (aws.clone().check(&jws, key, algorithm), PureRust.check(&jws, key, algorithm))
    }

    #[test]
    fn good_signatures_are_good_and_a_key_is_for_one_algorithm() {
        for (signer, keys, aws) in SIGNERS.iter() {
            let token = signer.sign(&json!({"typ": "secevent+jwt"}), &json!({"a": 1}));
            assert_eq!(both(&token, keys, signer.algorithm(), aws), (true, true), "{:?}", signer.algorithm());
            for other in Algorithm::ALL.into_iter().filter(|other| *other != signer.algorithm()) {
                if keys.find(Some("k"), other).is_ok() {
                    assert_eq!(both(&token, keys, other, aws), (false, false), "{:?} as {other:?}", signer.algorithm());
                }
            }
        }
    }

    #[test]
    fn the_memory_of_parsed_keys_is_bounded() {
        let (signer, keys, _) = of(Algorithm::ES256);
        let aws = AwsLc::default();
        let one = aws.parsed(keys.find(Some("k"), signer.algorithm()).unwrap(), signer.algorithm()).unwrap();
        for at in 0..MAX_PARSED {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&at.to_le_bytes());
            aws.parsed.write().unwrap().insert(id, one.clone());
        }
        let (other, other_keys, _) = of(Algorithm::ES384);
        assert!(aws.parsed(other_keys.find(Some("k"), other.algorithm()).unwrap(), other.algorithm()).is_some());
        assert_eq!(aws.parsed.read().unwrap().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 512 }))]

        /// Any signature that one of the two accepts is accepted by the other.
        #[test]
        fn aws_lc_and_pure_rust_agree(at in 0..Algorithm::ALL.len(), place in any::<prop::sample::Index>(), change in 0u8.., kind in 0u8..5) {
            let (signer, keys, aws) = &SIGNERS[at];
            let token = signer.sign(&json!({"typ": "secevent+jwt"}), &json!({"a": change}));
            let (input, signature) = token.rsplit_once('.').unwrap();
            let mut bytes = crate::intake::testing::decode(signature);
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] ^= change,
                1 => bytes.truncate(place),
                2 => bytes.push(change),
                3 => bytes = vec![change; bytes.len()],
                _ => bytes.rotate_left(place),
            }
            let bent = format!("{input}.{}", crate::intake::testing::encode(&bytes));
            let (ours, theirs) = both(&bent, keys, signer.algorithm(), aws);
            prop_assert_eq!(ours, theirs, "{:?}", signer.algorithm());
        }
    }
}
