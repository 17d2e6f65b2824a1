//! TLS: certificate, key and authorities from files, read again when they change. Connections that are open go on.

use crate::config::model::TlsConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Why the files of `listen.tls` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind.
    #[error("`{}` cannot be used as {what}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it cannot be used.
        reason: String,
    },
    /// The files do not belong together.
    #[error("`listen.tls` cannot be used: {0}")]
    Unfit(String),
}

/// The current configuration of TLS.
pub struct Tls {
    files: TlsConfig,
    read: [u8; 32],
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub fn read(files: TlsConfig) -> Result<Tls, TlsError> {
        let (read, current) = (fingerprint(&files), watch::Sender::new(Arc::new(server_config(&files)?)));
        Ok(Tls { files, read, current })
    }

    /// What new connections use.
    pub fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Reads the files again if they have changed. `Ok(true)`: new connections use them. After an error the old ones stay
    /// in use.
    pub fn refresh(&mut self) -> Result<bool, TlsError> {
        let fingerprint = fingerprint(&self.files);
        if self.read == fingerprint {
            return Ok(false);
        }
        let config = Arc::new(server_config(&self.files)?);
        self.current.send_replace(config);
        self.read = fingerprint;
        Ok(true)
    }
}

/// A hash of what the files hold now. A file that cannot be read counts as empty; [`server_config`] then says so.
fn fingerprint(files: &TlsConfig) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for path in [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten() {
        let bytes = std::fs::read(path).unwrap_or_default();
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(bytes);
    }
    hasher.finalize().into()
}

fn server_config(files: &TlsConfig) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unfit = |error: &dyn std::error::Error| TlsError::Unfit(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, "certificates of authorities")? {
                roots.add(certificate).map_err(|error| file(path, "certificates of authorities", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                // Callers without a certificate have bearer tokens.
                .allow_unauthenticated()
                .build()
                .map_err(|error| unfit(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.certificate, "a certificate chain")?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| file(&files.key, "a private key", &error))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unfit(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all: Vec<_> = read.map_err(|error| file(path, what, &error))?;
    match all.is_empty() {
        true => Err(TlsError::File { path: path.into(), what, reason: "it holds no certificate".to_owned() }),
        false => Ok(all),
    }
}

fn file(path: &Path, what: &'static str, error: &dyn std::error::Error) -> TlsError {
    TlsError::File { path: path.into(), what, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(folder: &Path) -> TlsConfig {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        TlsConfig { client_ca: Some(certificate.clone()), certificate, key }
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut tls = Tls::read(write(folder.path())).unwrap();
        let current = |tls: &Tls| Arc::clone(&*tls.current().borrow());
        let before = current(&tls);
        assert_eq!(tls.refresh(), Ok(false));
        let files = write(folder.path());
        assert_eq!(tls.refresh(), Ok(true));
        assert!(!Arc::ptr_eq(&before, &current(&tls)));
        let after = current(&tls);
        fs::write(&files.key, "no key").unwrap();
        assert!(matches!(tls.refresh(), Err(TlsError::File { what: "a private key", .. })));
        assert!(Arc::ptr_eq(&after, &current(&tls)), "the old files stay in use");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = write(folder.path());
        fs::write(&files.certificate, "").unwrap();
        let error = Tls::read(files.clone()).err().unwrap().to_string();
        assert!(
            error.ends_with("cert.pem` cannot be used as certificates of authorities: it holds no certificate"),
            "{error}"
        );
        files.client_ca = None;
        files.certificate = folder.path().join("missing.pem");
        let error = Tls::read(files).err().unwrap().to_string();
        assert!(error.contains("missing.pem` cannot be used as a certificate chain: "), "{error}");
    }
}
