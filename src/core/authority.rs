//! The host of a request: `:authority` without its port, case and final dot folded.

use std::borrow::Cow;

/// A host may have this many bytes (RFC 1035 §2.3.4 allows 253).
const MAX_HOST: usize = 255;

/// A host name or address as rules compare it. Only [`Host::parse`] makes one.
#[derive(Debug, Clone, Copy)]
pub struct Host<'h> {
    name: &'h str,
}

/// `:authority` is not `host` or `host:port` (RFC 3986 §3.2), or carries user information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host, or a host and a port")]
pub struct HostError;

impl<'h> Host<'h> {
    /// Reads the value of `:authority`.
    pub fn parse(authority: &'h [u8]) -> Result<Host<'h>, HostError> {
        let text = std::str::from_utf8(authority).map_err(|_| HostError)?;
        let (name, port) = split_port(text)?;
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HostError);
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
            return Err(HostError);
        }
        Ok(Host { name })
    }

    /// Whether this is the host `name`, in whatever case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The host in the one spelling in which it is compared: lower case, without port and final dot.
    pub fn folded(&self) -> Cow<'h, str> {
        match self.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(self.name.to_ascii_lowercase()),
            false => Cow::Borrowed(self.name),
        }
    }

    /// The host as it came, port and final dot cut off.
    pub fn as_str(&self) -> &'h str {
        self.name
    }
}

fn split_port(text: &str) -> Result<(&str, &str), HostError> {
    if text.starts_with('[') {
        let (address, rest) = text.split_once(']').ok_or(HostError)?;
        let name = text.get(..address.len().saturating_add(1)).ok_or(HostError)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if rest.is_empty() => Ok((name, "")),
            None => Err(HostError),
        };
    }
    Ok(text.split_once(':').unwrap_or((text, "")))
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
        ] {
            assert!(Host::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Host::parse(b"h\xe9").is_err());
        assert!(Host::parse("a".repeat(256).as_bytes()).is_err());
    }
}
