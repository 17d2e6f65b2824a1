//! The host of a request: `:authority` without port and final dot, in lower case.
//!
//! Envoy selects a virtual host by the same text. With `strip_any_host_port` and `strip_trailing_host_dot` it removes
//! one port and one dot before the filter runs. Of `h..` or `h:80:80` a dot or a port remains, and Envoy treats it as
//! part of the name. Behind such an Envoy use [`Reading::Exact`]. Envoy never removes an empty port or one that is not
//! a 16-bit number; such hosts are always refused.

use serde::Deserialize;

use std::borrow::Cow;

/// The maximum length of a host in bytes (RFC 1035 §2.3.4 allows 253).
const MAX_HOST: usize = 255;

/// A host name or address as rules compare it. Only [`Host::parse`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct Host<'h> {
    name: &'h str,
}

/// How `:authority` is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The port and a final dot are ignored.
    #[default]
    Folded,
    /// A host with a port or a final dot is refused. Envoy already removed one of each (`strip_any_host_port`,
    /// `strip_trailing_host_dot`) and treats what remains as part of the name.
    Exact,
}

/// Why `:authority` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It is not `host` or `host:port` (RFC 3986 §3.2), or carries user information.
    #[error("not a host, or a host and a port")]
    Malformed,
    /// It has a port or a final dot under [`Reading::Exact`].
    #[error("a port or a final dot, which Envoy was to cut off before (`hosts: exact`)")]
    NotExact,
}

impl<'h> Host<'h> {
    /// Reads the value of `:authority`.
    pub fn parse(authority: &'h [u8]) -> Result<Host<'h>, HostError> {
        let text = std::str::from_utf8(authority).map_err(|_| HostError::Malformed)?;
        let (name, port) = split_port(text)?;
        Host::of(name, port)
    }

    /// Reads the value of `:authority` in the given way.
    pub(crate) fn read(authority: &'h [u8], reading: Reading) -> Result<Host<'h>, HostError> {
        let host = Host::parse(authority)?;
        match reading == Reading::Exact && host.name.len() != authority.len() {
            true => Err(HostError::NotExact),
            false => Ok(host),
        }
    }

    /// Reads the authority of a URI in a token or a proof. There an empty port means the default port (RFC 3986
    /// §6.2.3); such a URI is not used for routing.
    pub(crate) fn parse_in_uri(authority: &'h str) -> Result<Host<'h>, HostError> {
        let (name, port) = split_port(authority)?;
        Host::of(name, port.filter(|port| !port.is_empty()))
    }

    fn of(name: &'h str, port: Option<&str>) -> Result<Host<'h>, HostError> {
        if !port.is_none_or(is_port) {
            return Err(HostError::Malformed);
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let well_formed = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')),
        };
        if name.is_empty()
            || name.len() > MAX_HOST
            || !well_formed
            || name.starts_with('.')
            || name.ends_with('.')
            || name.as_bytes().windows(2).any(|pair| pair == b"..")
        {
            return Err(HostError::Malformed);
        }
        Ok(Host { name })
    }

    /// Whether this is the host `name`; letter case does not matter.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The host in the form that is compared: lower case, without port and final dot.
    pub(crate) fn folded(&self) -> Cow<'h, str> {
        match self.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(self.name.to_ascii_lowercase()),
            false => Cow::Borrowed(self.name),
        }
    }

    /// The host as received, without port and final dot.
    pub fn as_str(&self) -> &'h str {
        self.name
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The host, and the text after the colon if there is one.
fn split_port(text: &str) -> Result<(&str, Option<&str>), HostError> {
    if text.starts_with('[') {
        let (address, rest) = text.split_once(']').ok_or(HostError::Malformed)?;
        let name = text.get(..address.len().saturating_add(1)).ok_or(HostError::Malformed)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, Some(port))),
            None if rest.is_empty() => Ok((name, None)),
            None => Err(HostError::Malformed),
        };
    }
    Ok(text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_case_port_and_final_dot() {
        for same in ["secret.com", "Secret.COM", "secret.com:443", "secret.com.", "SECRET.com.:8080"] {
            let host = Host::parse(same.as_bytes()).unwrap();
            assert!(host.is("secret.com") && host.folded() == "secret.com", "{same}");
        }
        assert!(Host::parse(b"[::1]:80").unwrap().is("[::1]"));
        assert!(!Host::parse(b"xsecret.com").unwrap().is("secret.com"));
    }

    #[test]
    fn refuses_what_is_not_a_host() {
        for bad in [
            "",
            ".",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "a:b",
            "a:1:2",
            "a..b",
            ".a",
            "[::1",
            "[::1]x",
            "[x]",
            "a..",
            "h\u{e9}",
            "h:",
            "h.:",
            "[::1]:",
            "h:65536",
            "h:99999999999",
            "h:+80",
        ] {
            assert!(Host::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Host::parse(b"h\xe9").is_err());
        assert!(Host::parse("a".repeat(256).as_bytes()).is_err());
    }

    #[test]
    fn read_exactly_a_host_has_no_port_and_no_final_dot() {
        for host in ["h", "H", "[::1]"] {
            assert!(Host::read(host.as_bytes(), Reading::Exact).is_ok(), "{host}");
        }
        for host in ["h:80", "h.", "h.:80", "[::1]:80"] {
            assert_eq!(Host::read(host.as_bytes(), Reading::Exact).err(), Some(HostError::NotExact), "{host}");
            assert!(Host::read(host.as_bytes(), Reading::Folded).is_ok(), "{host}");
        }
        assert_eq!(Host::read(b"h:", Reading::Exact).err(), Some(HostError::Malformed));
    }

    #[test]
    fn an_empty_port_is_the_default_port_in_a_uri_only() {
        assert!(Host::parse_in_uri("h:").unwrap().is("h"));
        assert!(Host::parse_in_uri("[::1]:").unwrap().is("[::1]"));
        assert!(Host::parse_in_uri("h:99999999999").is_err());
    }
}
