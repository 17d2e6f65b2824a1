//! A request as the judge sees it, read from its headers in one pass. Header values are bytes and are not copied.

use crate::http::credential_location::{CredentialLocations, Presented, Scheme, cookies};
use crate::http::header_name;
use crate::reason::Reason;
use memchr::memchr;

/// The parts of a request that decisions depend on, not yet parsed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'h> {
    /// `:method`.
    pub method: &'h [u8],
    /// `:authority`.
    pub authority: &'h [u8],
    /// `:path`, with its query.
    pub path: &'h [u8],
    /// `:scheme`, as the proxy determined it.
    pub scheme: &'h [u8],
    /// Whether the proxy treats it as a gRPC request, by its content type, and therefore answers in gRPC.
    pub grpc: bool,
    /// Whether a server may treat it as gRPC: media types are not case-sensitive (RFC 9110 §8.3.1).
    pub like_grpc: bool,
    /// Whether it has a header with the reserved prefix, which no client may send.
    pub reserved: bool,
    /// `traceparent` (W3C Trace Context), not checked. Of several nothing is kept that is valid.
    pub traceparent: &'h [u8],
    /// `dpop` headers.
    proof: Found<&'h [u8]>,
    authorization: Found<&'h [u8]>,
    /// The index of `authorization` among the places, if it is one.
    authorization_place: Option<usize>,
    /// Tokens in places other than `authorization`.
    other_places: Found<Presented<'h>>,
}

/// A value of which a request may have at most one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Found<T> {
    #[default]
    None,
    One(T),
    Several,
}

impl<T> Found<T> {
    fn add(&mut self, one: T) {
        *self = match self {
            Found::None => Found::One(one),
            Found::One(_) | Found::Several => Found::Several,
        };
    }
}

impl<'h> Request<'h> {
    /// Reads the header map; tokens may stand in `authorization`.
    pub fn from_headers(headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>) -> Request<'h> {
        Request::with_places(headers, &CredentialLocations::default())
    }

    /// Reads the header map; tokens may stand in `places`. Names are lower case, as in HTTP/2 and in Envoy.
    ///
    /// A second token is recorded, not ignored: servers may differ in which of the two they use.
    pub fn with_places(
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        places: &CredentialLocations,
    ) -> Request<'h> {
        let mut request = Request { authorization_place: places.authorization(), ..Request::default() };
        for (name, value) in headers {
            match name {
                b":method" => request.method = value,
                b":authority" => request.authority = value,
                b":path" => request.path = value,
                b":scheme" => request.scheme = value,
                b"content-type" => {
                    request.grpc = is_grpc(value);
                    request.like_grpc = is_like_grpc(value);
                }
                b"authorization" => request.authorization.add(value),
                b"dpop" => request.proof.add(value),
                b"traceparent" => request.traceparent = if request.traceparent.is_empty() { value } else { b"several" },
                b"cookie" if places.has_cookies() => {
                    for (name, token, _) in cookies(value) {
                        if let Some(place) = places.cookie(name).filter(|_| !token.is_empty()) {
                            request.other_places.add(Presented { token, scheme: None, place });
                        }
                    }
                }
                _ => {
                    request.reserved |= header_name::is_reserved(name);
                    if let Some(place) = places.header(name) {
                        request.take_header(value, place);
                    }
                }
            }
        }
        request
    }

    /// The one token of the request, in whichever place it stands.
    ///
    /// An `authorization` header with another scheme is not a credential for the filter. Envoy joins repeated headers
    /// with a comma, which no token contains.
    pub fn credential(&self) -> Result<Presented<'h>, Reason> {
        let mut found = self.other_places;
        if let Some(place) = self.authorization_place {
            match self.authorization {
                Found::None => {}
                Found::Several => return Err(Reason::CredentialsAmbiguous),
                Found::One(value) if memchr(b',', value).is_some() => return Err(Reason::CredentialsAmbiguous),
                Found::One(value) => match Scheme::split(value) {
                    Some((scheme, token)) if !token.is_empty() => {
                        found.add(Presented { token, scheme: Some(scheme), place });
                    }
                    _ => {}
                },
            }
        }
        match found {
            Found::None => Err(Reason::TokenMissing),
            Found::Several => Err(Reason::CredentialsAmbiguous),
            // RFC 6750 §2: a request may use one method only. The filter does not accept a token in the query, but the
            // upstream may.
            Found::One(_) if self.authorization_place.is_some() && has_token(self.query()) => {
                Err(Reason::CredentialsAmbiguous)
            }
            Found::One(presented) => Ok(presented),
        }
    }

    /// The one `dpop` header (RFC 9449 §4.3, check 1): `Ok(None)` when there is none, an error when there are several.
    pub fn proof(&self) -> Result<Option<&'h [u8]>, Reason> {
        match self.proof {
            Found::None => Ok(None),
            Found::One(proof) => Ok(Some(proof)),
            Found::Several => Err(Reason::DpopProofInvalid),
        }
    }

    fn query(&self) -> &'h [u8] {
        self.path.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default()
    }

    fn take_header(&mut self, value: &'h [u8], place: usize) {
        let value = value.trim_ascii();
        let (scheme, token) = Scheme::split(value).map_or((None, value), |(scheme, token)| (Some(scheme), token));
        if memchr(b',', value).is_some() {
            self.other_places = Found::Several;
        } else if !token.is_empty() {
            self.other_places.add(Presented { token, scheme, place });
        }
    }
}

/// Whether the query has a token (RFC 6750 §2.3), in any spelling that a server may decode.
fn has_token(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        Unescaped { rest: name }.eq(b"access_token".iter().copied())
    })
}

/// Decodes `%XX`; what is not an escape stays.
struct Unescaped<'b> {
    rest: &'b [u8],
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *first == b'%'
            && let Some((&[high, low], after)) = rest.split_first_chunk::<2>()
            && let (Some(high), Some(low)) = (char::from(high).to_digit(16), char::from(low).to_digit(16))
        {
            self.rest = after;
            return u8::try_from(high.saturating_mul(16).saturating_add(low)).ok();
        }
        Some(*first)
    }
}

/// Whether Envoy treats the content type as gRPC: it answers all others in HTTP.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// Whether a lenient server may treat the content type as gRPC.
fn is_like_grpc(content_type: &[u8]) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(b"application/grpc".len()) else { return false };
    let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    start.eq_ignore_ascii_case(b"application/grpc") && ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::credential_location::CredentialLocation;

    fn bearer<'h>(values: &[&'h str]) -> Result<&'h [u8], Reason> {
        let request = Request::from_headers(values.iter().map(|value| (&b"authorization"[..], value.as_bytes())));
        request.credential().map(|presented| presented.token)
    }

    fn places() -> CredentialLocations {
        let mut places = CredentialLocations::default();
        places.add(CredentialLocation::Header("x-jit".to_owned()));
        places.add(CredentialLocation::Cookie("jit".to_owned()));
        places
    }

    fn found(headers: &[(&str, &str)]) -> Result<(usize, Option<Scheme>, String), Reason> {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let presented = Request::with_places(headers, &places()).credential()?;
        Ok((presented.place, presented.scheme, String::from_utf8(presented.token.to_vec()).unwrap()))
    }

    #[test]
    fn a_token_stands_in_one_of_the_places() {
        let token = |place, scheme| Ok((place, scheme, "a".to_owned()));
        assert_eq!(found(&[("authorization", "Bearer a")]), token(0, Some(Scheme::Bearer)));
        assert_eq!(found(&[("authorization", "dpop a")]), token(0, Some(Scheme::Dpop)));
        assert_eq!(found(&[("x-jit", " a ")]), token(1, None));
        assert_eq!(found(&[("x-jit", "DPoP a")]), token(1, Some(Scheme::Dpop)));
        assert_eq!(found(&[("x_jit", "a")]), token(1, None), "a server may take it for the same");
        assert_eq!(found(&[("cookie", "b=c; jit=a")]), token(2, None));
        assert_eq!(found(&[("cookie", "b=c"), ("cookie", "jit=\"a\"")]), token(2, None));
        assert_eq!(found(&[("authorization", "Basic eDp5"), ("x-jit", "a")]), token(1, None));
        for none in [&[("x-jit", "")][..], &[("cookie", "JIT=a")], &[("cookie", "jit=")], &[("x-jit", "Bearer")]] {
            assert_eq!(found(none), Err(Reason::TokenMissing), "{none:?}");
        }
    }

    #[test]
    fn never_two() {
        for two in [
            &[("authorization", "Bearer a"), ("x-jit", "a")][..],
            &[("authorization", "Bearer a"), ("cookie", "jit=a")],
            &[("x-jit", "a"), ("cookie", "jit=a")],
            &[("x-jit", "a"), ("x-jit", "a")],
            &[("x-jit", "a"), ("x_jit", "a")],
            &[("x-jit", "a,a")],
            &[("cookie", "jit=a; jit=a")],
            &[("cookie", "jit=a"), ("cookie", "jit=b")],
            &[("authorization", "DPoP a"), ("authorization", "Bearer a")],
            &[(":path", "/?access_token=b"), ("x-jit", "a")],
        ] {
            assert_eq!(found(two), Err(Reason::CredentialsAmbiguous), "{two:?}");
        }
    }

    #[test]
    fn authorization_is_nobodys_where_no_issuer_reads_it() {
        let mut places = CredentialLocations::none();
        places.add(CredentialLocation::Header("x-jit".to_owned()));
        let headers =
            [(&b"authorization"[..], &b"Bearer theirs"[..]), (b":path", b"/?access_token=b"), (b"x-jit", b"a")];
        let request = Request::with_places(headers, &places);
        assert_eq!(request.credential().map(|presented| presented.token), Ok(&b"a"[..]));
        let theirs = Request::with_places([(&b"authorization"[..], &b"Bearer theirs"[..])], &places);
        assert_eq!(theirs.credential(), Err(Reason::TokenMissing));
    }

    #[test]
    fn takes_one_bearer_token() {
        assert_eq!(bearer(&["Bearer a.b.c"]), Ok(&b"a.b.c"[..]));
        assert_eq!(bearer(&["bEARER  a"]), Ok(&b"a"[..]));
    }

    #[test]
    fn refuses_none_and_several() {
        for none in [&[][..], &["Basic eDp5"], &["Bearer"], &["Bearer "], &["Bearera.b.c"], &["x"]] {
            assert_eq!(bearer(none), Err(Reason::TokenMissing), "{none:?}");
        }
        for several in [&["Bearer a", "Bearer a"][..], &["Bearer a,Bearer b"], &["Basic eDp5,Bearer a"]] {
            assert_eq!(bearer(several), Err(Reason::CredentialsAmbiguous), "{several:?}");
        }
    }

    #[test]
    fn a_second_token_in_the_query_is_refused() {
        let with = |path: &'static str| {
            let headers = [(&b":path"[..], path.as_bytes()), (b"authorization", b"Bearer a")];
            Request::from_headers(headers).credential().map(|presented| presented.token)
        };
        for path in [
            "/a?x=1&access_token=b",
            "/a?%61ccess_token=b",
            "/a?access%5Ftoken=b",
            "/a?access%5ftoken",
            "/a?x;access_token=b",
        ] {
            assert_eq!(with(path), Err(Reason::CredentialsAmbiguous), "{path}");
        }
        for path in ["/a?my_access_token=b", "/a?x=access_token", "/a?%2561ccess_token=b", "/a?access_token%3db"] {
            assert_eq!(with(path), Ok(&b"a"[..]), "{path}");
        }
    }

    #[test]
    fn knows_grpc_by_its_content_type() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("text/plain", false),
        ] {
            assert_eq!(Request::from_headers([(&b"content-type"[..], value.as_bytes())]).grpc, grpc, "{value}");
        }
    }
}
