//! What the proxy knows about a request beyond its headers, asked for only when a rule needs it.

use std::net::IpAddr;

/// The proxy's knowledge of the request at hand.
pub trait Surroundings {
    /// The address that the request came from, as the proxy determined it.
    fn source(&mut self) -> Option<IpAddr>;

    /// A string of the route's metadata, namespace `taskfence`.
    fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>>;
}

/// The surroundings of one request, each piece of metadata asked for once however many rules look at it.
#[derive(Debug)]
pub struct Remembered<'s, S> {
    surroundings: &'s mut S,
    metadata: Vec<(String, Option<Vec<u8>>)>,
}

impl<'s, S: Surroundings> Remembered<'s, S> {
    /// Remembers nothing yet.
    pub fn new(surroundings: &'s mut S) -> Remembered<'s, S> {
        Remembered { surroundings, metadata: Vec::new() }
    }

    /// Whether the route's metadata `name` is `value`.
    pub fn is_metadata(&mut self, name: &str, value: &str) -> bool {
        if let Some((_, known)) = self.metadata.iter().find(|(have, _)| have == name) {
            return known.as_deref() == Some(value.as_bytes());
        }
        let found = self.surroundings.route_metadata(name);
        let same = found.as_deref() == Some(value.as_bytes());
        self.metadata.push((name.to_owned(), found));
        same
    }
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
    fn metadata_is_asked_for_once() {
        struct Counting(usize);

        impl Surroundings for Counting {
            fn source(&mut self) -> Option<IpAddr> {
                None
            }

            fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>> {
                self.0 = self.0.saturating_add(1);
                (name == "tier").then(|| b"gold".to_vec())
            }
        }

        let mut counting = Counting(0);
        let mut remembered = Remembered::new(&mut counting);
        for _ in 0..3 {
            assert!(remembered.is_metadata("tier", "gold"));
            assert!(!remembered.is_metadata("tier", "lead"));
            assert!(!remembered.is_metadata("absent", ""));
        }
        assert_eq!(counting.0, 2);
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
