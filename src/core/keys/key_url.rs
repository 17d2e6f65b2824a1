//! The URLs of key sets and metadata: what issuers, documents and redirects name, taken apart.

/// The maximum length of a URL in bytes.
const MAX_URL: usize = 4096;

/// An `http` or `https` URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyUrl<'t> {
    /// Whether the scheme is `https`.
    pub(crate) is_https: bool,
    /// Host and port, as written.
    pub(crate) authority: &'t str,
    /// Path and query, as written; may be empty.
    pub(crate) path: &'t str,
}

impl<'t> KeyUrl<'t> {
    /// Reads an absolute URL. `None` for one with user information, a fragment, a character other than printable ASCII,
    /// or more than [`MAX_URL`] bytes.
    pub(crate) fn parse(text: &'t str) -> Option<KeyUrl<'t>> {
        let (scheme, rest) = text.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, path) = rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
        let clean = !authority.is_empty() && !authority.contains('@') && !path.contains('#');
        let plain = text.len() <= MAX_URL && text.bytes().all(|byte| byte.is_ascii_graphic());
        (clean && plain).then_some(KeyUrl { is_https, authority, path })
    }

    /// Whether it is at `host`, which may have a port. A default port and no port are the same.
    pub(crate) fn is_at(&self, host: &str) -> bool {
        let own = |authority| without_default_port(authority, self.is_https);
        own(self.authority).eq_ignore_ascii_case(own(host))
    }

    /// The target of a request for it (RFC 9112 §3.2.1).
    pub(crate) fn target(&self) -> String {
        if self.path.starts_with('/') { self.path.to_owned() } else { format!("/{}", self.path) }
    }
}

/// The target of a request for the redirect `location` (RFC 9110 §10.2.2) from `path` at `host`. `None`: it leads to
/// another host, or is no URL.
pub(crate) fn redirected(location: &str, host: &str, path: &str) -> Option<String> {
    // A fragment is for who shows the document.
    let location = location.split('#').next().filter(|location| !location.is_empty())?;
    if let Some(url) = KeyUrl::parse(location) {
        return url.is_at(host).then(|| url.target());
    }
    if !location.bytes().all(|byte| byte.is_ascii_graphic()) || location.len() > MAX_URL {
        return None;
    }
    if location.starts_with("//") {
        let text = format!("https:{location}");
        return KeyUrl::parse(&text).filter(|url| url.is_at(host)).map(|url| url.target());
    }
    let folder = || path.split('?').next().and_then(|path| path.rsplit_once('/')).map(|(folder, _)| folder);
    match location.split(['/', '?']).next() {
        // An absolute path, or another query for the same path.
        Some("") if location.starts_with('/') => Some(location.to_owned()),
        Some("") => Some(format!("{}{location}", path.split('?').next().unwrap_or_default())),
        // A colon in the first segment makes it a scheme (RFC 3986 §4.2).
        Some(first) if first.contains(':') => None,
        _ => Some(format!("{}/{location}", folder()?)),
    }
}

/// `authority` without the port that its scheme has by default.
fn without_default_port(authority: &str, is_https: bool) -> &str {
    authority.strip_suffix(if is_https { ":443" } else { ":80" }).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = KeyUrl::parse("HTTPS://Keys.example:443/a?b").unwrap();
        assert_eq!((url.is_https, url.authority, url.path), (true, "Keys.example:443", "/a?b"));
        assert!(url.is_at("keys.example") && url.is_at("keys.example:443") && !url.is_at("keys.example:80"));
        assert!(
            KeyUrl::parse("http://k:80/").unwrap().is_at("k") && !KeyUrl::parse("http://k:443/").unwrap().is_at("k")
        );
        assert_eq!(KeyUrl::parse("https://k?q").unwrap().target(), "/?q");
        let long = format!("https://k/{}", "x".repeat(MAX_URL));
        for bad in [
            "",
            "/a",
            "k",
            "ftp://k/",
            "https:///a",
            "https://u@k/",
            "https://k/#f",
            "https://k/ a",
            "https://é",
            &long,
        ] {
            assert_eq!(KeyUrl::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirects_stay_at_their_host() {
        for (location, target) in [
            ("https://jit.example/b", Some("/b")),
            ("https://JIT.example:443/b?c#d", Some("/b?c")),
            ("http://jit.example/b", Some("/b")),
            ("https://jit.example", Some("/")),
            ("//jit.example/b", Some("/b")),
            ("/b", Some("/b")),
            ("b", Some("/x/b")),
            ("?b", Some("/x/a?b")),
            ("https://jit.example.evil/b", None),
            ("https://jit.example@evil/b", None),
            ("https://evil/https://jit.example/", None),
            ("//evil/b", None),
            ("https://jit.example:8443/b", None),
            ("/b c", None),
            ("/b\r\nx: y", None),
            ("javascript:x", None),
            ("", None),
            ("#a", None),
        ] {
            assert_eq!(redirected(location, "jit.example", "/x/a?q=/z").as_deref(), target, "{location}");
        }
    }

    proptest! {
        #[test]
        fn any_location_gives_a_target_or_none(location in "\\PC{0,40}|(https?:|[/.#?@:a-z]){0,20}", path in "/[a-z/?]{0,9}") {
            if let Some(target) = redirected(&location, "jit.example", &path) {
                prop_assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
