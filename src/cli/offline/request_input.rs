//! A request as somebody types it, turned into the header map that Envoy would show to the filter. Nothing is
//! normalised on the way: what was typed is what is judged.

use taskfence_core::http::credential_location::{CredentialLocation, CredentialLocations};
use taskfence_core::http::request::Request;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::policy::policy::Policy;
use taskfence_core::token::issuer::Issuer;
use taskfence_core::token::verify::{MAX_TOKEN, find_issuer};

/// A request that can be put before the judge.
#[derive(Debug, Clone)]
pub struct TypedRequest {
    headers: Vec<Header>,
}

/// One header; its name in lower case, as in Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Where a request goes, cut into pieces and otherwise as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Vec<u8>,
    authority: Option<Vec<u8>>,
    path: Vec<u8>,
}

/// Why the input is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("write a whole URL, like https://orders.mesh/v1/orders/1881, or a path that begins with `/`")]
    NotAUrl,
    #[error("write NAME:VALUE, like 'x-tenant: red'; the method and the URL have options of their own")]
    NotAHeader,
    #[error("the URL names no host; write https://HOST/PATH, or add the header `host`")]
    NoHost,
    #[error("there is more than one header `host`")]
    SeveralHosts,
}

impl TypedRequest {
    /// The header map of a request. A header `host` counts for more than the host of the URL, as in curl. `grpc` makes
    /// it a gRPC request unless `headers` say another content type.
    pub fn new(method: &[u8], url: &Url, headers: &[Header], grpc: bool) -> Result<Self, Error> {
        let (hosts, others): (Vec<_>, Vec<_>) = headers.iter().cloned().partition(|header| header.name == b"host");
        let authority = match hosts.as_slice() {
            [] => url.authority.clone().ok_or(Error::NoHost)?,
            [host] => host.value.clone(),
            _ => return Err(Error::SeveralHosts),
        };
        let pseudo: [(&[u8], &[u8]); 4] =
            [(b":method", method), (b":scheme", &url.scheme), (b":authority", &authority), (b":path", &url.path)];
        let mut all: Vec<_> = pseudo.into_iter().map(|(name, value)| Header::new(name, value)).collect();
        if grpc && !others.iter().any(|header| header.name == b"content-type") {
            all.push(Header::new(b"content-type", b"application/grpc"));
        }
        all.extend(others);
        Ok(Self { headers: all })
    }

    /// The same with a DPoP proof.
    pub fn proof(mut self, proof: &[u8]) -> Self {
        self.headers.push(Header::new(b"dpop", proof));
        self
    }

    /// The same with an access token, where the tokens of its issuer stand; under the scheme DPoP if there is a proof.
    pub fn present(mut self, token: &[u8], policy: &Policy) -> Self {
        let scheme = match self.headers.iter().any(|header| header.name == b"dpop") {
            true => b"DPoP ".as_slice(),
            false => b"Bearer ",
        };
        self.headers.push(match place(token, policy) {
            CredentialLocation::Authorization => Header::new(b"authorization", &[scheme, token].concat()),
            CredentialLocation::Header(name) => Header::new(name.as_bytes(), token),
            CredentialLocation::Cookie(name) => Header::new(b"cookie", &[name.as_bytes(), b"=", token].concat()),
        });
        self
    }

    /// As the judge sees it, who looks for a token in `places`.
    pub fn to_request(&self, places: &CredentialLocations) -> Request<'_> {
        Request::with_places(self.headers(), places)
    }

    /// A pseudo header or a header, by its name.
    pub fn header(&self, name: &[u8]) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_slice())
    }

    /// The header map.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|header| (header.name.as_slice(), header.value.as_slice()))
    }
}

/// Where the issuer that `token` names, believed or not, has its tokens stand; that of the first issuer for an unknown
/// one.
fn place<'p>(token: &[u8], policy: &'p Policy) -> &'p CredentialLocation {
    let presentation = issuer(token, policy).or(policy.issuers().first()).map(|issuer| &issuer.presentation);
    presentation
        .and_then(|presentation| policy.places().at(presentation.place))
        .unwrap_or(&CredentialLocation::Authorization)
}

/// The issuer that `token` names, believed or not.
pub fn issuer<'p>(token: &[u8], policy: &'p Policy) -> Option<&'p Issuer> {
    let jws = Unverified::parse(token, MAX_TOKEN).ok()?;
    find_issuer(&jws, policy.issuers()).ok().map(|(_, issuer)| issuer)
}

impl Header {
    fn new(name: &[u8], value: &[u8]) -> Self {
        Self { name: name.to_ascii_lowercase(), value: value.to_vec() }
    }

    /// Reads `NAME:VALUE`; spaces around the value do not belong to it (RFC 9110 section 5.5).
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let colon = text.iter().position(|byte| *byte == b':').ok_or(Error::NotAHeader)?;
        let (name, value) = text.split_at_checked(colon).ok_or(Error::NotAHeader)?;
        Self::of(name, value.strip_prefix(b":").unwrap_or(value))
    }

    /// A header of `name` and `value`.
    pub fn of(name: &[u8], value: &[u8]) -> Result<Self, Error> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let one_line = !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if name.is_empty() || !name.iter().copied().all(token) || !one_line {
            return Err(Error::NotAHeader);
        }
        Ok(Self::new(name, value.trim_ascii()))
    }
}

impl Url {
    /// Cuts `text` into scheme, authority and path. A URL without a path asks for `/` (RFC 9112 section 3.2.1).
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.starts_with(b"/") || text == b"*" {
            return Ok(Self { scheme: b"https".to_vec(), authority: None, path: text.to_vec() });
        }
        let (scheme, rest) = match (text.strip_prefix(b"https://"), text.strip_prefix(b"http://")) {
            (Some(rest), _) => (&b"https"[..], rest),
            (_, Some(rest)) => (&b"http"[..], rest),
            (None, None) => return Err(Error::NotAUrl),
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(Error::NotAUrl)?;
        let path = if path.starts_with(b"/") { path.to_vec() } else { [b"/", path].concat() };
        Ok(Self { scheme: scheme.to_vec(), authority: Some(authority.to_vec()), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskfence_core::http::credential_location::Scheme;

    fn typed(url: &[u8], headers: &[&str], grpc: bool) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let headers: Vec<_> = headers.iter().map(|text| Header::parse(text.as_bytes()).unwrap()).collect();
        let typed = TypedRequest::new(b"GET", &Url::parse(url)?, &headers, grpc)?;
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        Ok(typed.headers().map(|(have, value)| (name(have), value.to_vec())).collect())
    }

    fn value(headers: &[(String, Vec<u8>)], name: &str) -> Vec<u8> {
        headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn what_was_typed_arrives_byte_by_byte() {
        for path in
            ["/", "/a/../b//c;d?x=%2e#f", "/%2e%2e/\\", "//double", "/caf\u{e9}", "/a?b=https://x/y", "/..%2f..%2fetc"]
        {
            let headers = typed(format!("https://Orders.Mesh.:443{path}").as_bytes(), &[], false).unwrap();
            assert_eq!(value(&headers, ":path"), path.as_bytes());
            assert_eq!(value(&headers, ":authority"), b"Orders.Mesh.:443");
            assert_eq!(value(&headers, ":scheme"), b"https");
        }
        let headers = typed(b"http://h/\xe9", &[], false).unwrap();
        assert_eq!((value(&headers, ":path"), value(&headers, ":scheme")), (b"/\xe9".to_vec(), b"http".to_vec()));
        assert_eq!(value(&typed(b"https://h", &[], false).unwrap(), ":path"), b"/");
        assert_eq!(value(&typed(b"https://h?x", &[], false).unwrap(), ":path"), b"/?x");
        assert_eq!(value(&typed(b"https://user@h/", &[], false).unwrap(), ":authority"), b"user@h");
    }

    #[test]
    fn a_path_alone_needs_a_host() {
        let headers = typed(b"/a", &["Host: orders.mesh"], false).unwrap();
        assert_eq!(value(&headers, ":authority"), b"orders.mesh");
        assert!(headers.iter().all(|(name, _)| name != "host"));
        assert_eq!(typed(b"/a", &[], false), Err(Error::NoHost));
        assert_eq!(typed(b"/a", &["host: a", "host: b"], false), Err(Error::SeveralHosts));
        assert_eq!(value(&typed(b"https://b/", &["host: a"], false).unwrap(), ":authority"), b"a");
    }

    #[test]
    fn grpc_is_a_content_type() {
        assert_eq!(value(&typed(b"https://h/", &[], true).unwrap(), "content-type"), b"application/grpc");
        let own = typed(b"https://h/", &["content-type: application/grpc+proto"], true).unwrap();
        assert_eq!(value(&own, "content-type"), b"application/grpc+proto");
    }

    #[test]
    fn what_is_no_url_and_no_header() {
        for url in ["", "orders.mesh/v1", "ftp://h/", "HTTPS://h/", "https:/h"] {
            assert_eq!(Url::parse(url.as_bytes()), Err(Error::NotAUrl), "{url}");
        }
        for header in ["", "x", ":path: /", " x: y", "x y: z", "x: a\nb: c", "x\u{e9}: y"] {
            assert_eq!(Header::parse(header.as_bytes()), Err(Error::NotAHeader), "{header}");
        }
        assert_eq!(Header::parse(b"X-A:  b:c ").unwrap(), Header::new(b"x-a", b"b:c"));
    }

    #[test]
    fn a_token_comes_behind_what_stands_there() {
        let url = Url::parse(b"https://h/").unwrap();
        let own = [Header::parse(b"authorization: Basic eDp5").unwrap()];
        let policy = crate::input::configuration::parse(crate::commands::config_reference::EXAMPLE.as_bytes())
            .unwrap()
            .loaded
            .policy;
        let credential = |typed: TypedRequest| {
            let typed = typed.present(b"t", &policy);
            let presented = typed.to_request(policy.places()).credential();
            presented.map(|presented| (presented.scheme, presented.token.to_vec()))
        };
        assert!(
            credential(TypedRequest::new(b"GET", &url, &own, false).unwrap()).is_err(),
            "two credentials are ambiguous"
        );
        let alone = TypedRequest::new(b"GET", &url, &[], false).unwrap();
        assert_eq!(credential(alone.clone()), Ok((Some(Scheme::Bearer), b"t".to_vec())));
        assert_eq!(credential(alone.proof(b"p")), Ok((Some(Scheme::Dpop), b"t".to_vec())));
    }
}
