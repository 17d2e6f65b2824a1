//! The check of a signature, behind a trait: the proxy has a faster way than the VM.

use crate::jws::Unverified;
use crate::key::{Algorithm, Key, Verifier};
use crate::raw;
use jwt_simple::prelude::*;

/// Checks the signature of a token with a key of its issuer.
pub trait CheckSignature {
    /// Whether the signature of `token` by `key` under `algorithm` is good.
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool;
}

/// jwt-simple's pure-Rust implementations; works everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct PureRust;

impl CheckSignature for PureRust {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        let Some(verifier) = key.verifier(algorithm) else { return false };
        // jwt-simple takes `jwk` in a header for a string, and so cannot read a header that brings a key.
        if token.brings_key() {
            return raw::verify(verifier, token.signing_input().as_bytes(), token.signature());
        }
        let options = Some(signature_only(token.typ()));
        let text = token.text();
        match verifier {
            Verifier::RS256(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
            Verifier::RS384(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
            Verifier::RS512(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
            Verifier::PS256(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
            Verifier::ES256(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
            Verifier::ES384(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
            Verifier::EdDSA(key) => key.verify_token::<NoCustomClaims>(text, options).is_ok(),
        }
    }
}

/// Options under which jwt-simple checks the signature and leaves times and claims to us: a fixed time half way
/// through the range of [`crate::time::Timestamp`] with a tolerance that covers all of it, so no clock is read.
fn signature_only(typ: Option<&str>) -> VerificationOptions {
    const HALF: u64 = 1 << 31;
    VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(HALF)),
        time_tolerance: Some(Duration::from_secs(HALF)),
        required_signature_type: typ.map(str::to_owned),
        ..VerificationOptions::default()
    }
}
