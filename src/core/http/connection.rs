//! What the proxy knows about a request beyond its headers. It is read only when a rule needs it.

use std::net::IpAddr;

/// Access to the proxy's information about the current request.
pub trait ConnectionInfo {
    /// The address that the request came from, as the proxy determined it.
    fn source(&mut self) -> Option<IpAddr>;

    /// A string in the route's metadata, namespace `taskfence`.
    fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>>;

    /// The SHA-256 of the client certificate in DER, whose key the client proved to hold in the TLS handshake of its
    /// connection. `None` without a client certificate.
    fn peer_certificate(&mut self) -> Option<[u8; 32]> {
        None
    }

    /// The first URI among the subject alternative names of that certificate: a workload's SPIFFE ID. The proxy decided
    /// whether to trust the certificate.
    fn peer_uri(&mut self) -> Option<String> {
        None
    }
}

/// The connection of one request. Each piece of metadata is read once, however many rules need it.
#[derive(Debug)]
pub struct Remembered<'s, S> {
    surroundings: &'s mut S,
    metadata: Vec<(String, Option<Vec<u8>>)>,
}

impl<'s, S: ConnectionInfo> Remembered<'s, S> {
    /// A cache without any values.
    pub(crate) fn new(surroundings: &'s mut S) -> Remembered<'s, S> {
        Remembered { surroundings, metadata: Vec::new() }
    }

    /// Whether the route's metadata `name` is `value`.
    pub(crate) fn is_metadata(&mut self, name: &str, value: &str) -> bool {
        if let Some((_, known)) = self.metadata.iter().find(|(have, _)| have == name) {
            return known.as_deref() == Some(value.as_bytes());
        }
        let found = self.surroundings.route_metadata(name);
        let same = found.as_deref() == Some(value.as_bytes());
        self.metadata.push((name.to_owned(), found));
        same
    }
}

/// Parses an address in the proxy's format: `10.0.0.1:80`, `[::1]:80`, or without the port.
pub fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = text.parse::<std::net::SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse());
    // A network of IPv4 addresses also matches IPv4 addresses that an IPv6 socket reports.
    address.ok().map(|address| address.to_canonical())
}

/// Parses a digest in the proxy's format: 64 hexadecimal digits.
pub fn parse_digest(text: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 64)?;
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        *byte = u8::try_from(digit(0)?.checked_mul(16)?.checked_add(digit(1)?)?).ok()?;
    }
    Some(digest)
}

/// A URI from a certificate. `None` when it has bytes that no URI has: a NUL would end the string in other languages.
pub fn parse_peer(uri: &[u8]) -> Option<String> {
    let printable = !uri.is_empty() && uri.len() <= 2048 && uri.iter().all(|byte| (0x21..0x7f).contains(byte));
    printable.then(|| String::from_utf8(uri.to_vec()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ports::TestConnection;

    #[test]
    fn reads_digests() {
        let digest = parse_digest("0a".repeat(32).as_bytes());
        assert_eq!(digest, Some([10; 32]));
        assert_eq!(parse_digest("0A".repeat(32).as_bytes()), digest);
        for bad in ["", "0a", &"0a".repeat(33), &"+a".repeat(32), &"0g".repeat(32)] {
            assert_eq!(parse_digest(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_name_with_a_nul_is_no_name() {
        assert_eq!(parse_peer(b"spiffe://td/a").as_deref(), Some("spiffe://td/a"));
        for bad in [&b""[..], b"spiffe://td/a\0.evil", b"spiffe://td/a b", b"spiffe://td/\xe9", b"a\n"] {
            assert_eq!(parse_peer(bad), None);
        }
    }

    #[test]
    fn metadata_is_asked_for_once() {
        let metadata = vec![("tier".to_owned(), "gold".to_owned())];
        let mut connection = TestConnection { metadata, ..TestConnection::default() };
        let mut remembered = Remembered::new(&mut connection);
        for _ in 0..3 {
            assert!(remembered.is_metadata("tier", "gold"));
            assert!(!remembered.is_metadata("tier", "lead"));
            assert!(!remembered.is_metadata("absent", ""));
        }
        assert_eq!(connection.questions, 2);
    }

    #[test]
    fn reads_addresses() {
        for text in ["10.0.0.1:80", "10.0.0.1", "[::ffff:10.0.0.1]:80"] {
            assert_eq!(parse_address(text.as_bytes()), "10.0.0.1".parse().ok(), "{text}");
        }
        assert_eq!(parse_address(b"[::1]:80"), "::1".parse().ok());
        assert_eq!(parse_address(b"/tmp/socket"), None);
    }
}
