//! Signatures as `cosign` checks them with a public key: ECDSA on P-256 over SHA-256, ASN.1 in Base64. They are made by RFC
//! 6979, so the same bytes have the same signature.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::PublicKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey, LineEnding};

use crate::error::Error;

/// The media type of what is signed (simple signing).
pub const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that holds the signature.
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// A private key.
pub struct Key(SigningKey);

impl Key {
    /// Reads PKCS #8 in PEM.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let pem = fs::read_to_string(path).map_err(Error::at(path))?;
        SigningKey::from_pkcs8_pem(&pem).map(Self).map_err(|_| Error::Key(path.to_owned()))
    }

    /// The signature of these bytes.
    pub fn sign(&self, bytes: &[u8]) -> String {
        let signature: Signature = self.0.sign(bytes);
        STANDARD.encode(signature.to_der())
    }

    /// The public key in PEM.
    pub fn public(&self) -> Result<String, Error> {
        let key = PublicKey::from(self.0.verifying_key());
        key.to_public_key_pem(LineEnding::LF).map_err(|cause| Error::Public(cause.to_string()))
    }
}
