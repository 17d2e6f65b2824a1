//! What the proxy knows about a request beyond its headers, asked for only when a rule needs it.

use std::net::IpAddr;

/// The proxy's knowledge of the request at hand.
pub trait Surroundings {
    /// The address that the request came from, as the proxy determined it.
    fn source(&mut self) -> Option<IpAddr>;

    /// A string of the route's metadata, namespace `taskfence`.
    fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>>;
}

/// An address as the proxy prints it: `10.0.0.1:80`, `[::1]:80`, or without the port.
pub fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = text.parse::<std::net::SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse());
    // A network of IPv4 addresses means them in whatever socket they came through.
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        for text in ["10.0.0.1:80", "10.0.0.1", "[::ffff:10.0.0.1]:80"] {
            assert_eq!(parse_address(text.as_bytes()), "10.0.0.1".parse().ok(), "{text}");
        }
        assert_eq!(parse_address(b"[::1]:80"), "::1".parse().ok());
        assert_eq!(parse_address(b"/tmp/socket"), None);
    }
}
