//! A request as the judge sees it, from its headers in one pass. Headers are bytes; nothing is copied.

use crate::identity;
use crate::reason::Reason;

/// The parts of a request that decisions are made of, not yet read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'h> {
    /// `:method`.
    pub method: &'h [u8],
    /// `:authority`.
    pub authority: &'h [u8],
    /// `:path`, with its query.
    pub path: &'h [u8],
    /// Whether the proxy takes it for a gRPC request, by its content type, and so answers it as one.
    pub grpc: bool,
    /// Whether a server may take it for one: media types have no case (RFC 9110 §8.3.1).
    pub like_grpc: bool,
    /// Whether it carries a header under our own prefix, which no client may send.
    pub reserved: bool,
    credential: Credential<'h>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Credential<'h> {
    #[default]
    None,
    One(&'h [u8]),
    Several,
}

impl<'h> Request<'h> {
    /// Reads the header map. Names are lower case, as in HTTP/2 and in Envoy.
    ///
    /// A second `authorization` is noted, not ignored: which of two counts is a question with two answers.
    pub fn from_headers(headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>) -> Request<'h> {
        let mut request = Request::default();
        for (name, value) in headers {
            match name {
                b":method" => request.method = value,
                b":authority" => request.authority = value,
                b":path" => request.path = value,
                b"content-type" => {
                    request.grpc = is_grpc(value);
                    request.like_grpc = is_like_grpc(value);
                }
                b"authorization" => {
                    request.credential = match request.credential {
                        Credential::None => Credential::One(value),
                        Credential::One(_) | Credential::Several => Credential::Several,
                    };
                }
                _ => request.reserved |= identity::is_reserved(name),
            }
        }
        request
    }

    /// The bearer token (RFC 6750 §2.1).
    ///
    /// Another scheme is no credential for us. Envoy joins repeated headers with a comma, which no token holds.
    pub fn bearer(&self) -> Result<&'h [u8], Reason> {
        let value = match self.credential {
            Credential::None => return Err(Reason::TokenMissing),
            Credential::Several => return Err(Reason::CredentialsAmbiguous),
            Credential::One(value) => value,
        };
        // RFC 6750 §2: one method per request. The query is not one that we take, but the upstream may.
        let query = self.path.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
        if query.split(|byte| *byte == b'&').any(|pair| pair.starts_with(b"access_token=")) {
            return Err(Reason::CredentialsAmbiguous);
        }
        let (scheme, rest) = value.split_at_checked("bearer".len()).ok_or(Reason::TokenMissing)?;
        if value.contains(&b',') {
            return Err(Reason::CredentialsAmbiguous);
        }
        if !scheme.eq_ignore_ascii_case(b"bearer") || !rest.is_empty() && !rest.starts_with(b" ") {
            return Err(Reason::TokenMissing);
        }
        let token = rest.trim_ascii_start();
        if token.is_empty() { Err(Reason::TokenMissing) } else { Ok(token) }
    }
}

/// As Envoy tells gRPC: anything else it answers in HTTP.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// As a lenient server may tell it.
fn is_like_grpc(content_type: &[u8]) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(b"application/grpc".len()) else { return false };
    let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    start.eq_ignore_ascii_case(b"application/grpc") && ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer<'h>(values: &[&'h str]) -> Result<&'h [u8], Reason> {
        Request::from_headers(values.iter().map(|value| (&b"authorization"[..], value.as_bytes()))).bearer()
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
            Request::from_headers([(&b":path"[..], path.as_bytes()), (b"authorization", b"Bearer a")]).bearer()
        };
        assert_eq!(with("/a?x=1&access_token=b"), Err(Reason::CredentialsAmbiguous));
        assert_eq!(with("/a?my_access_token=b"), Ok(&b"a"[..]));
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
