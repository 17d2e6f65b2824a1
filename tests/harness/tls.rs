//! Mutual TLS: an authority of the test process, workloads with certificates of it, and a client that shows one.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs as provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    },
};

use crate::{
    Error, Result,
    client::{Answer, Connection, Http, Request},
    orders,
};

/// Who signs all certificates that are believed here.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a new key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the tests");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }
}

/// The certificate of the authority in PEM.
pub fn authority() -> &'static str {
    &AUTHORITY.pem
}

/// Somebody with a certificate.
pub struct Workload {
    certificate: CertificateDer<'static>,
    chain: String,
    key: KeyPair,
}

impl Workload {
    /// A workload whose certificate names this URI, as a SPIFFE ID does.
    pub fn new(uri: &str) -> Self {
        Self::with(vec![SanType::URI(uri.try_into().expect("a URI of the test"))])
    }

    /// A workload whose certificate has these alternative names.
    pub fn with(names: Vec<SanType>) -> Self {
        let key = KeyPair::generate().expect("a new key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.signed_by(&key, &AUTHORITY.issuer).expect("a certificate");
        Self { certificate: certificate.der().clone(), chain: certificate.pem(), key }
    }

    /// `cnf.x5t#S256` of a token that is bound to its certificate (RFC 8705 section 3.1).
    pub fn digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &self.certificate).as_ref())
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.chain
    }

    /// The private key in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server whose certificate names [`orders::HOST`].
    pub fn server() -> Self {
        Self::with(vec![SanType::DnsName(orders::HOST.try_into().expect("our host"))])
    }

    /// How a cluster of Envoy speaks TLS as this workload, to servers that the authority of the tests signed.
    pub fn of_cluster(&self) -> Value {
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {
                    "tls_certificates": [{
                        "certificate_chain": {"inline_string": self.chain},
                        "private_key": {"inline_string": self.key_pem()}
                    }],
                    "validation_context": {"trusted_ca": {"inline_string": authority()}}
                }
            }
        })
    }
}

/// Makes the listeners with these names in a bootstrap speak TLS. A client may show a certificate, and must where
/// `required` says so; one that the authority of the tests did not sign ends the handshake.
pub fn secure(bootstrap: &mut Value, names: &[&str], required: bool) {
    let server = Workload::server();
    let socket = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": required,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": server.chain},
                    "private_key": {"inline_string": server.key_pem()}
                }],
                "validation_context": {"trusted_ca": {"inline_string": AUTHORITY.pem}}
            }
        }
    });
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().expect("listeners");
    for listener in listeners.iter_mut().filter(|listener| names.iter().any(|name| listener["name"] == *name)) {
        listener["filter_chains"][0]["transport_socket"] = socket.clone();
    }
}

/// The SHA-256 of the certificate that new connections see, as [`Workload::digest`] writes it.
pub async fn shown_by(to: SocketAddr) -> Result<String> {
    let stream = handshake(to, Http::One, None).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or_else(|| Error::new("the server showed no certificate"))?;
    Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, shown).as_ref()))
}

/// What a client of TLS needs: it trusts the authority of the tests, and shows the certificate of `workload` if there is
/// one.
pub fn client_config(workload: Option<&Workload>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der.clone()).map_err(Error::doing("trust the authority"))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::doing("choose versions of TLS"))?
        .with_root_certificates(roots);
    match workload {
        None => Ok(builder.with_no_client_auth()),
        Some(workload) => {
            let key = PrivateKeyDer::Pkcs8(workload.key.serialize_der().into());
            builder
                .with_client_auth_cert(vec![workload.certificate.clone()], key)
                .map_err(Error::doing("take the certificate of the workload"))
        }
    }
}

/// Connects to a listener that speaks TLS, as `workload` or as nobody.
pub async fn connect(to: SocketAddr, http: Http, workload: Option<&Workload>) -> Result<Connection> {
    Connection::over(handshake(to, http, workload).await?, http).await
}

async fn handshake(to: SocketAddr, http: Http, workload: Option<&Workload>) -> Result<TlsStream<TcpStream>> {
    let mut config = client_config(workload)?;
    config.alpn_protocols = vec![match http {
        Http::One => b"http/1.1".to_vec(),
        Http::Two => b"h2".to_vec(),
    }];
    let stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
    stream.set_nodelay(true).map_err(Error::doing("set TCP_NODELAY"))?;
    let host = ServerName::try_from(orders::HOST).map_err(Error::doing("name the host"))?;
    TlsConnector::from(Arc::new(config)).connect(host, stream).await.map_err(Error::doing("TLS"))
}

/// Sends one request on a connection of its own.
pub async fn send(to: SocketAddr, http: Http, workload: Option<&Workload>, request: &Request) -> Result<Answer> {
    connect(to, http, workload).await?.send(request).await
}
