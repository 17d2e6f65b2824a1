//! The other side of a connection, as the listener knows it.

use crate::access::activity::Activity;
use crate::access::sources::source_of;
use rustls::pki_types::CertificateDer;
use std::net::{IpAddr, SocketAddr};

/// The other side of a connection. Requests have it in their extensions, as `Arc<Peer>`.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The certificates that it showed and that were verified, its own first. None without TLS.
    pub certificates: Vec<CertificateDer<'static>>,
    /// How the connection is used.
    pub activity: Activity,
}

impl Peer {
    /// The other side of a connection that has just begun.
    pub fn new(address: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Peer {
        Peer { address, certificates, activity: Activity::default() }
    }

    /// What callers are told apart by that have not authenticated.
    pub fn source(&self) -> IpAddr {
        source_of(self.address.ip())
    }
}
