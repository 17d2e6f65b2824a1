//! The places in a request where access tokens may stand.

use crate::http::header_name::is_same_to_servers;

/// A place in a request that can hold a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialLocation {
    /// The header `authorization`, behind the scheme `Bearer` (RFC 6750 §2.1) or `DPoP` (RFC 9449 §7.1).
    Authorization,
    /// The header of that name: the token itself, or one of these schemes and the token.
    Header(String),
    /// The cookie of that name: its value is the token.
    Cookie(String),
}

/// The places that the configuration uses, each once. A request may have a token in one of them only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialLocations(Vec<CredentialLocation>);

/// The authentication scheme of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Whoever holds the token may use it.
    Bearer,
    /// A DPoP proof must come with the token.
    Dpop,
}

/// A token as a request presents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'h> {
    /// The token.
    pub token: &'h [u8],
    /// The scheme; `None` for a place without schemes.
    pub scheme: Option<Scheme>,
    /// The place, as an index into [`CredentialLocations`].
    pub place: usize,
}

impl Default for CredentialLocations {
    fn default() -> CredentialLocations {
        CredentialLocations(vec![CredentialLocation::Authorization])
    }
}

impl CredentialLocations {
    /// A list without places.
    pub(crate) fn none() -> CredentialLocations {
        CredentialLocations(Vec::new())
    }

    /// The index of `place`, which is added if it is new.
    pub(crate) fn add(&mut self, place: CredentialLocation) -> usize {
        match self.0.iter().position(|known| *known == place) {
            Some(at) => at,
            None => {
                self.0.push(place);
                self.0.len().saturating_sub(1)
            }
        }
    }

    /// The places, each with its index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &CredentialLocation)> {
        self.0.iter().enumerate()
    }

    /// The place with that index.
    pub fn at(&self, number: usize) -> Option<&CredentialLocation> {
        self.0.get(number)
    }

    /// Whether a token may stand in a cookie.
    pub(crate) fn has_cookies(&self) -> bool {
        self.0.iter().any(|place| matches!(place, CredentialLocation::Cookie(_)))
    }

    /// The index of `authorization`, if it is a place.
    pub(crate) fn authorization(&self) -> Option<usize> {
        self.0.iter().position(|place| *place == CredentialLocation::Authorization)
    }

    /// The index of the header `name`, if it is a place. Names that a server may take for the same header match.
    pub(crate) fn header(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|place| match place {
            CredentialLocation::Header(own) => is_same_to_servers(own.as_bytes(), name),
            CredentialLocation::Authorization | CredentialLocation::Cookie(_) => false,
        })
    }

    /// The index of the cookie `name`, if it is a place. Cookie names are case-sensitive (RFC 6265 §5.4).
    pub(crate) fn cookie(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|place| match place {
            CredentialLocation::Cookie(own) => own.as_bytes() == name,
            CredentialLocation::Authorization | CredentialLocation::Header(_) => false,
        })
    }
}

impl CredentialLocation {
    /// The place as messages to the operator name it.
    pub fn describe(&self) -> String {
        match self {
            CredentialLocation::Authorization => "the header `authorization`".to_owned(),
            CredentialLocation::Header(name) => format!("the header `{name}`"),
            CredentialLocation::Cookie(name) => format!("the cookie `{name}`"),
        }
    }
}

impl Scheme {
    /// The scheme at the start of `value`, and the rest. Schemes are not case-sensitive (RFC 9110 §11.1); whitespace is
    /// a space or a tab (RFC 9110 §5.6.3).
    pub(crate) fn split(value: &[u8]) -> Option<(Scheme, &[u8])> {
        [(Scheme::Bearer, &b"bearer"[..]), (Scheme::Dpop, b"dpop")].into_iter().find_map(|(scheme, name)| {
            let (start, rest) = value.split_at_checked(name.len())?;
            let ends = matches!(rest.first(), None | Some(b' ' | b'\t'));
            (start.eq_ignore_ascii_case(name) && ends).then(|| (scheme, rest.trim_ascii()))
        })
    }
}

/// The cookies of one `cookie` header as `(name, value, whole pair)` (RFC 6265 §4.2.1). Quotes around a value are not
/// part of it.
pub(crate) fn cookies(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    header.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at_checked(at).unwrap_or((pair, &[]));
        let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (name.trim_ascii(), value, pair)
    })
}

/// Joins the `cookie` headers of a request, without the cookies that hold tokens. The result is `None` when there is no
/// such cookie.
#[derive(Debug, Default)]
pub(crate) struct CookieFilter {
    kept: Vec<u8>,
    removed: bool,
}

impl CookieFilter {
    /// Adds one `cookie` header.
    pub(crate) fn take(&mut self, header: &[u8], places: &CredentialLocations) {
        for (name, _, pair) in cookies(header) {
            if places.cookie(name).is_some() {
                self.removed = true;
                continue;
            }
            if !self.kept.is_empty() {
                self.kept.extend(b"; ");
            }
            self.kept.extend(pair);
        }
    }

    /// The new value of the single `cookie` header; empty: remove the header. `None`: change nothing.
    pub(crate) fn left(self) -> Option<Vec<u8>> {
        self.removed.then_some(self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places() -> CredentialLocations {
        let mut places = CredentialLocations::none();
        places.add(CredentialLocation::Cookie("jit".to_owned()));
        places.add(CredentialLocation::Header("x-jit".to_owned()));
        places
    }

    #[test]
    fn a_place_has_one_number() {
        let mut places = places();
        assert_eq!(places.add(CredentialLocation::Cookie("jit".to_owned())), 0);
        assert_eq!(places.add(CredentialLocation::Authorization), 2);
        assert_eq!(places.header(b"X_JIT"), Some(1));
        assert_eq!((places.cookie(b"jit"), places.cookie(b"JIT"), places.header(b"jit")), (Some(0), None, None));
    }

    #[test]
    fn only_the_named_cookie_goes() {
        let left = |headers: &[&str]| {
            let mut filter = CookieFilter::default();
            headers.iter().for_each(|header| filter.take(header.as_bytes(), &places()));
            filter.left().map(|left| String::from_utf8(left).unwrap())
        };
        assert_eq!(left(&["a=1; b=2"]), None);
        assert_eq!(left(&["jit=x"]).as_deref(), Some(""));
        assert_eq!(left(&["a=1; jit=x;b=\"2\""]).as_deref(), Some("a=1; b=\"2\""));
        assert_eq!(left(&["a=1", "jit=x; jit=y", "jits=z"]).as_deref(), Some("a=1; jits=z"));
        assert_eq!(left(&["a=1; jit"]).as_deref(), Some("a=1"), "a name without a value is that cookie too");
    }

    #[test]
    fn schemes() {
        assert_eq!(Scheme::split(b"bEARER  a "), Some((Scheme::Bearer, &b"a"[..])));
        assert_eq!(Scheme::split(b"DPoP a"), Some((Scheme::Dpop, &b"a"[..])));
        assert_eq!(Scheme::split(b"Bearer\ta"), Some((Scheme::Bearer, &b"a"[..])));
        assert_eq!(Scheme::split(b"dpop \t a\t"), Some((Scheme::Dpop, &b"a"[..])));
        assert_eq!(Scheme::split(b"DPoP"), Some((Scheme::Dpop, &b""[..])));
        for other in [&b"Basic a"[..], b"Bearera", b"DPoPa", b"", b"eyJ.a.b", b"Bearer\x0ba", b"Bearer\xa0a"] {
            assert_eq!(Scheme::split(other), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_left_holds_no_such_cookie(header in proptest::collection::vec(any::<u8>(), 0..60), at in 0usize..60) {
            let mut header = header;
            header.splice(at.min(header.len())..at.min(header.len()), *b"; jit=secret;");
            let mut filter = CookieFilter::default();
            filter.take(&header, &places());
            let left = filter.left().unwrap();
            prop_assert!(cookies(&left).all(|(name, _, _)| name != b"jit"));
        }
    }
}
