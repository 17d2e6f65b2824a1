//! Headers that tell the upstream about a verified grant, and headers that a client must not be able to set.

use crate::http::credential_location::{CookieFilter, CredentialLocation, CredentialLocations, Scheme};
use crate::http::header_name::is_reserved;
use crate::http::header_name::is_same_to_servers;
use crate::token::grant::Grant;

/// The header names for the upstream, and where tokens are hidden from it.
#[derive(Debug, Default)]
pub struct Identity {
    pub(crate) headers: Vec<(Fact, String)>,
    /// Where tokens are removed from the request; `None` if they are forwarded.
    pub(crate) hidden: Option<CredentialLocations>,
}

/// The grant of a request that passes.
#[derive(Debug, Clone)]
pub struct Bearer<'g> {
    /// The verified grant.
    pub grant: &'g Grant,
    /// The scope values that no signal took away, separated by spaces.
    pub scopes: String,
}

/// A fact about a grant that a header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// `iss`
    Issuer,
    /// `sub`
    Subject,
    /// The client.
    Client,
    /// The task.
    Task,
    /// The session.
    Session,
    /// `sub` of the outermost `act`.
    Actor,
    /// `scope`
    Scope,
    /// What identifies the token.
    Token,
}

/// A change to the headers of a request on its way to the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit<'e> {
    /// Remove the header.
    Remove(&'e [u8]),
    /// Set the header to this value.
    Set(&'e str, String),
    /// Set the header to this value, which is a part of the old value.
    Reduce(&'static str, Vec<u8>),
}

impl Identity {
    /// The changes to a request with `headers` that passes, with the grant of `bearer` where it has one.
    ///
    /// Headers that the client sent under one of our names are removed first, even if no header is set afterwards: an
    /// anonymous request has no identity.
    pub fn edits<'e>(
        &'e self,
        headers: impl Iterator<Item = (&'e [u8], &'e [u8])>,
        bearer: Option<Bearer<'_>>,
    ) -> impl Iterator<Item = Edit<'e>> {
        let mut edits = self.removals(headers);
        let set = |(fact, name): &'e (Fact, String)| Some(Edit::Set(name, fact.of(bearer.as_ref()?)?));
        edits.extend(self.headers.iter().filter_map(set));
        edits.into_iter()
    }

    /// The changes to the trailers of a request that passes: they lose what headers lose, tokens in cookies too, since a
    /// service may merge them into the headers. Nothing is set in trailers.
    pub fn trailer_edits<'e>(&self, trailers: impl Iterator<Item = (&'e [u8], &'e [u8])>) -> Vec<Edit<'e>> {
        self.removals(trailers)
    }

    fn removals<'e>(&self, headers: impl Iterator<Item = (&'e [u8], &'e [u8])>) -> Vec<Edit<'e>> {
        let mut edits = Vec::new();
        let mut cookies = CookieFilter::default();
        for (name, value) in headers {
            if self.is_ours(name) || self.is_hidden(name, value) {
                edits.push(Edit::Remove(name));
            } else if name == b"cookie"
                && let Some(places) = self.hidden.as_ref().filter(|places| places.has_cookies())
            {
                cookies.take(value, places);
            }
        }
        match cookies.left() {
            None => {}
            Some(left) if left.is_empty() => edits.push(Edit::Remove(b"cookie")),
            Some(left) => edits.push(Edit::Reduce("cookie", left)),
        }
        edits
    }

    /// Whether nothing is ever set or hidden.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.hidden.is_none()
    }

    fn is_ours(&self, name: &[u8]) -> bool {
        is_reserved(name) || self.headers.iter().any(|(_, ours)| is_same_to_servers(ours.as_bytes(), name))
    }

    /// Whether the header contains a token that is hidden from the upstream, or a DPoP proof for one. Cookies are
    /// checked one by one elsewhere.
    fn is_hidden(&self, name: &[u8], value: &[u8]) -> bool {
        let Some(places) = &self.hidden else { return false };
        name == b"dpop"
            || places.iter().any(|(_, place)| match place {
                CredentialLocation::Authorization => name == b"authorization" && Scheme::split(value).is_some(),
                CredentialLocation::Header(ours) => is_same_to_servers(ours.as_bytes(), name),
                CredentialLocation::Cookie(_) => false,
            })
    }
}

impl Fact {
    fn of(self, bearer: &Bearer<'_>) -> Option<String> {
        let grant = bearer.grant;
        let value = match self {
            Fact::Issuer => grant.issuer.clone(),
            Fact::Subject => grant.subject.clone(),
            Fact::Client => grant.client_id.clone()?,
            Fact::Task => grant.task.clone()?,
            Fact::Session => grant.session.clone()?,
            Fact::Actor => grant.actors.first()?.subject.clone(),
            Fact::Scope => bearer.scopes.clone(),
            Fact::Token => grant.token_id.to_string(),
        };
        Some(encode(value))
    }
}

/// A header value consists of visible ASCII and inner spaces (RFC 9110 §5.5). Other bytes and `%` are percent-encoded.
fn encode(value: String) -> String {
    let plain = |byte: u8| (0x21..0x7f).contains(&byte) && byte != b'%';
    let inner_space = |at: usize, byte: u8| byte == b' ' && at != 0 && at.saturating_add(1) != value.len();
    if value.bytes().enumerate().all(|(at, byte)| plain(byte) || inner_space(at, byte)) {
        return value;
    }
    let mut out = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        match plain(byte) || inner_space(at, byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_name_of_ours_gets_through() {
        let mut places = CredentialLocations::default();
        places.add(CredentialLocation::Header("x-jit".to_owned()));
        let hidden = Some(places);
        let identity = Identity { headers: vec![(Fact::Subject, "x-auth-subject".to_owned())], hidden };
        for name in ["x-auth-subject", "x_auth_subject", "X-Auth_Subject", "x-taskfence-task", "x_taskfence_a"] {
            assert!(identity.is_ours(name.as_bytes()), "{name}");
        }
        assert!(!identity.is_ours(b"x-auth-subjects") && !identity.is_ours(b"x-taskfence"));
        for (name, value) in [("authorization", "bEARER a"), ("authorization", "DPoP a"), ("x_jit", "a"), ("dpop", "a")]
        {
            assert!(identity.is_hidden(name.as_bytes(), value.as_bytes()), "{name}: {value}");
        }
        assert!(!identity.is_hidden(b"authorization", b"Basic a") && !identity.is_hidden(b"cookie", b"a=b"));
    }

    #[test]
    fn trailers_lose_what_headers_lose_and_get_nothing() {
        let mut places = CredentialLocations::default();
        places.add(CredentialLocation::Header("x-jit".to_owned()));
        places.add(CredentialLocation::Cookie("jit".to_owned()));
        let headers = vec![(Fact::Subject, "x-auth-subject".to_owned())];
        let identity = Identity { headers, hidden: Some(places) };
        let trailers: [(&[u8], &[u8]); 6] = [
            (b"x-sum", b"1"),
            (b"X_Auth-Subject", b"root"),
            (b"x-taskfence-task", b"t"),
            (b"x-jit", b"a"),
            (b"authorization", b"Basic a"),
            (b"cookie", b"a=b; jit=c"),
        ];
        let edits = identity.trailer_edits(trailers.into_iter());
        let removed = [&b"X_Auth-Subject"[..], b"x-taskfence-task", b"x-jit"].map(Edit::Remove);
        assert_eq!(edits[..3], removed);
        assert_eq!(edits[3..], [Edit::Reduce("cookie", b"a=b".to_vec())]);
        let plain = Identity::default().trailer_edits(trailers.into_iter());
        assert_eq!(plain, [Edit::Remove(b"x-taskfence-task")], "reserved whether a configuration names it or not");
    }

    #[test]
    fn values_fit_a_header() {
        assert_eq!(encode("spiffe://td/agent a7".to_owned()), "spiffe://td/agent a7");
        assert_eq!(encode("é%\" ".to_owned()), "%C3%A9%25\"%20");
    }
}
