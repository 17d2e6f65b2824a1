//! URIs, compared after the syntax-based normalisation of RFC 3986 §6.2.2 and §6.2.3.

/// The canonical form of an absolute `http` or `https` URI: scheme and host in lower case, no default port, a path of
/// at least `/`, unreserved characters not escaped. Other absolute URIs only get their scheme in lower case. `None`
/// when `text` is not an absolute URI, has user information, or has an ambiguous path.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let scheme_letters = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme_letters || rest.is_empty() {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => "80",
        "https" => "443",
        _ => return Some(format!("{scheme}:{rest}")),
    };
    let rest = rest.strip_prefix("//")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at_checked(end)?;
    let (path, query) = tail.split_at_checked(tail.find(['?', '#']).unwrap_or(tail.len()))?;
    let host = crate::http::host::Host::parse_in_uri(authority).ok()?;
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let path = if path.is_empty() { "/" } else { path };
    let path = crate::http::path::Canonical::parse(path.as_bytes()).ok()?;
    let name = host.as_str().to_ascii_lowercase();
    Some(match port {
        Some(port) if !port.is_empty() && port != default_port => {
            format!("{scheme}://{name}:{port}{}{query}", path.as_str())
        }
        _ => format!("{scheme}://{name}{}{query}", path.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn spellings_of_one_place_are_one() {
        for same in [
            "https://orders.mesh",
            "HTTPS://Orders.Mesh/",
            "https://orders.mesh:443",
            "https://orders.mesh./",
            "https://orders.mesh:/",
        ] {
            assert_eq!(canonical(same).as_deref(), Some("https://orders.mesh/"), "{same}");
        }
        assert_eq!(canonical("http://[::1]:8080/%61?q").as_deref(), Some("http://[::1]:8080/a?q"));
        assert_eq!(canonical("http://[::1]").as_deref(), Some("http://[::1]/"));
        assert_eq!(canonical("URN:a:B").as_deref(), Some("urn:a:B"));
        for none in ["", "orders.mesh", "https:orders", "https://u@h/", "https://h/../x", "https:///x", ":x", "1a:b"] {
            assert_eq!(canonical(none), None, "{none}");
        }
    }
}
