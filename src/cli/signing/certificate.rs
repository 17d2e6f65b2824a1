//! The SHA-256 of a certificate in a file, which tokens are bound to (RFC 8705 section 3.1).

use std::path::{Path, PathBuf};
use taskfence_core::encoding::digest::sha256;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taskfence_core::encoding::digest::Digest;

use crate::input::file;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The digest of the first certificate in a file: PEM, or DER.
pub fn digest(path: &Path) -> Result<Digest, Error> {
    let bytes = file::read(path)?;
    let der = match std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once(BEGIN)) {
        Some((_, rest)) => {
            let body = rest.split_once(END).map(|(body, _)| body.split_whitespace().collect::<String>());
            body.and_then(|body| STANDARD.decode(body).ok())
        }
        // A certificate is a SEQUENCE.
        None => bytes.starts_with(&[0x30]).then_some(bytes),
    };
    let der = der.ok_or_else(|| Error::NotACertificate { path: path.into() })?;
    Ok(sha256(&der))
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] file::Error),
    #[error("`{}` holds no certificate in PEM or DER", path.display())]
    NotACertificate { path: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskfence_core::encoding::digest::digest_text;

    /// The certificate of RFC 8705 appendix A and its digest.
    const PEM: &str = "-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
";

    #[test]
    fn the_example_of_rfc_8705() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.pem");
        std::fs::write(&path, format!("text before\n{PEM}text behind\n")).unwrap();
        assert_eq!(digest_text(&digest(&path).unwrap()), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
        let body: String = PEM.lines().filter(|line| !line.starts_with('-')).collect();
        std::fs::write(&path, STANDARD.decode(body).unwrap()).unwrap();
        assert_eq!(digest_text(&digest(&path).unwrap()), "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0");
        for none in ["", "x", BEGIN, "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----"] {
            std::fs::write(&path, none).unwrap();
            let error = digest(&path).unwrap_err().to_string();
            assert!(error.ends_with("holds no certificate in PEM or DER"), "{error}");
        }
    }
}
