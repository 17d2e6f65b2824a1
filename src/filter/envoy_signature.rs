//! Checks signatures with Envoy's `verify_signature`, which is twenty times as fast as code in the VM. Where Envoy
//! cannot, code in the VM checks them.

use crate::host;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::jose::key::Key;
use taskfence_core::jose::signature::{CheckSignature, PureRust, to_der};

/// Whether `key` verifies the signature of `token` under `algorithm`.
pub fn check(token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
    by_proxy(token, key, algorithm).unwrap_or_else(|| PureRust.check(token, key, algorithm))
}

/// Envoy's result. `None`: Envoy does not know the algorithm, or does not allow the function.
fn by_proxy(token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> Option<bool> {
    let hash = match algorithm {
        Algorithm::RS256 | Algorithm::ES256 => "sha256",
        Algorithm::RS384 | Algorithm::ES384 => "sha384",
        Algorithm::RS512 | Algorithm::ES512 => "sha512",
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 | Algorithm::EdDSA => return None,
    };
    // The function gets a key and a hash, but no algorithm. So this checks that the key is for the algorithm.
    key.verifier(algorithm)?;
    let spki = key.spki()?;
    let Some(signature) = to_der(token.signature(), algorithm) else { return Some(false) };
    call(hash, spki, &signature, token.signing_input().as_bytes())
}

/// Envoy's result for a signature in DER over `text` by a key in DER. `None`: Envoy does not allow the function.
pub fn call(hash: &str, spki: &[u8], signature: &[u8], text: &[u8]) -> Option<bool> {
    let argument = arguments(hash, spki, signature, text);
    let result = host::call_foreign_function("verify_signature", &argument).ok()?;
    Some(is_good(&result))
}

/// `envoy.source.extensions.common.wasm.VerifySignatureArguments`: hash_function = 1, public_key = 2, signature = 3,
/// text = 4.
fn arguments(hash: &str, spki: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    let fields = [(1, hash.as_bytes()), (2, spki), (3, signature), (4, text)];
    let length = fields.iter().fold(0, |sum: usize, (_, field)| sum.saturating_add(field.len()).saturating_add(6));
    let mut message = Vec::with_capacity(length);
    for (number, field) in fields {
        // Wire type 2: a length, then that many bytes.
        message.push(number << 3 | 2);
        let mut rest = field.len();
        while rest >= 0x80 {
            message.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        message.push(u8::try_from(rest).unwrap_or(0));
        message.extend_from_slice(field);
    }
    message
}

/// `VerifySignatureResult`: result = 1, error = 2. The result of a bad signature is missing. Anything that does not
/// begin with a `true` result counts as bad.
fn is_good(result: &[u8]) -> bool {
    result.first_chunk() == Some(&[1 << 3, 1])
}
