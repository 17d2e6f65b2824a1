//! The other side of a connection, as the listener knows it.

use crate::access::activity::Activity;
use rustls::pki_types::CertificateDer;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

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

    /// What tells callers apart that have not authenticated: the address, and of one of IPv6 its first 64 bits. One machine
    /// can have all the addresses behind them.
    pub fn network(&self) -> IpAddr {
        match self.address.ip().to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            address => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_one_network_however_many_addresses_it_has() {
        let network = |address: &str| Peer::new(address.parse().unwrap(), Vec::new()).network().to_string();
        assert_eq!(network("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::");
        assert_eq!(network("[2001:db8:1:2:ffff::1]:2"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7:1"), "192.0.2.7");
        assert_eq!(network("[::ffff:192.0.2.7]:1"), "192.0.2.7");
    }
}
