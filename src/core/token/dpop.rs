//! DPoP proofs of possession (RFC 9449): from the bytes of a `dpop` header to a [`Proof`], or a [`ProofError`].
//!
//! The checks are numbered as in RFC 9449 §4.3.

use crate::encoding::digest::sha256;
use crate::encoding::digest::sha256_of;
use crate::encoding::digest::{Digest, digest_text};
use crate::http::host::Host;
use crate::jose::algorithm::Algorithm;
use crate::jose::jws::{JwsError, Unverified};
use crate::jose::key::Key;
use crate::jose::signature::CheckSignature;
use crate::jose::thumbprint::thumbprint;
use crate::time::{Span, Timestamp, numeric_date, numeric_date_up};
use crate::token::dpop_nonce::Nonces;
use serde_json::Value;

/// The maximum length of a proof in bytes: a proof by an RSA key of 4096 bits has about 2,600.
pub const MAX_PROOF: usize = 4096;

/// How far in the future the `iat` of a proof may be, because the clocks of clients differ from the proxy's.
pub(crate) const AHEAD: Span = Span(15);

/// The maximum length of a `jti` in bytes. Only its hash is stored.
const MAX_ID: usize = 1024;

/// How the proofs for the tokens of one issuer are checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The maximum age of a proof.
    pub window: Span,
    /// The origins (scheme and authority) that clients use for this service, in canonical form (`https://api.example`).
    /// If empty, the origin of the request is used.
    pub origins: Vec<String>,
    /// The lifetime of the server's nonces, if proofs must have one: a nonce is valid for at least this long, at most
    /// twice as long.
    pub nonce: Option<Span>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { algorithms: vec![Algorithm::ES256], window: Span::minutes(1), origins: Vec::new(), nonce: None }
    }
}

/// What a proof must state: the request, the access token, and the key that the token is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    /// The method of the request; for gRPC it is POST.
    pub method: &'e [u8],
    /// `:scheme`.
    pub scheme: &'e [u8],
    /// `:authority`.
    pub authority: &'e [u8],
    /// `:path`; its query is ignored.
    pub path: &'e [u8],
    /// The access token, as presented.
    pub token: &'e [u8],
    /// `cnf.jkt` of that token.
    pub key: &'e Digest,
}

/// A proof that passed all checks, except that it was not used before. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a proof may be used once: record its use with `single_use::consume`"]
pub struct Proof {
    key: Digest,
    id: Digest,
    until: Timestamp,
}

impl Proof {
    /// The thumbprint of its key.
    pub fn key(&self) -> &Digest {
        &self.key
    }

    /// A hash of key, method, URI and `jti`, which differs for every proof.
    pub(crate) fn id(&self) -> &Digest {
        &self.id
    }

    /// The last second at which the proof is accepted.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}

/// Why a proof was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Check 2.
    #[error("not a JWT with its public key in `jwk`")]
    Malformed,
    /// Longer than [`MAX_PROOF`].
    #[error("longer than {MAX_PROOF} bytes")]
    TooLarge,
    /// Check 4.
    #[error("`typ` is not `dpop+jwt`")]
    Type,
    /// Check 5.
    #[error("`alg` is not accepted for proofs")]
    Algorithm,
    /// Check 3.
    #[error("`{0}` is missing or has the wrong shape")]
    Claim(&'static str),
    /// Check 8.
    #[error("`htm` is not the method of the request")]
    Method,
    /// Check 9.
    #[error("`htu` is not the URI of the request")]
    Uri,
    /// Check 11.
    #[error("`iat` lies outside the window")]
    Time,
    /// Check 12, first half.
    #[error("`ath` is not the hash of the access token")]
    TokenHash,
    /// Check 12, second half: the key is not the one that the token is bound to.
    #[error("the key is not the one that the token is bound to")]
    Key,
    /// Check 7; also a key that is not for `alg`, or too weak.
    #[error("`jwk` is not a public key for `alg`")]
    BadKey,
    /// Check 10.
    #[error("`nonce` is missing, or is none of ours, or is too old")]
    Nonce,
    /// Check 6.
    #[error("the signature is not by the key in `jwk`")]
    Signature,
}

/// Checks `proof` at `now`. Cheap checks come first, the signature last.
///
/// `nonces` must be there if `settings` require a nonce.
pub fn verify(
    proof: &[u8],
    expected: Expected<'_>,
    settings: &Settings,
    nonces: Option<&Nonces>,
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Proof, ProofError> {
    let (jws, jwk) = Unverified::parse_with_key(proof, MAX_PROOF).map_err(|error| match error {
        JwsError::TooLarge => ProofError::TooLarge,
        JwsError::Opaque | JwsError::Malformed | JwsError::Critical => ProofError::Malformed,
    })?;
    if !jws.is_typ("dpop+jwt") {
        return Err(ProofError::Type);
    }
    let algorithm = jws.algorithm().filter(|alg| settings.algorithms.contains(alg)).ok_or(ProofError::Algorithm)?;
    let text = |name: &'static str| match jws.claims().get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        _ => Err(ProofError::Claim(name)),
    };
    let id = text("jti").ok().filter(|id| id.len() <= MAX_ID).ok_or(ProofError::Claim("jti"))?;
    let (method, uri, token_hash) = (text("htm")?, text("htu")?, text("ath")?);
    let dated = jws.claims().get("iat");
    let issued = dated.and_then(numeric_date).ok_or(ProofError::Claim("iat"))?;
    let not_before = dated.and_then(numeric_date_up).ok_or(ProofError::Claim("iat"))?;
    if method.as_bytes() != expected.method {
        return Err(ProofError::Method);
    }
    let uri = normalise(uri).ok_or(ProofError::Claim("htu"))?;
    if !is_ours(&uri, expected, &settings.origins) {
        return Err(ProofError::Uri);
    }
    if not_before > now.plus(AHEAD) || now > issued.plus(settings.window) {
        return Err(ProofError::Time);
    }
    if token_hash != digest_text(&sha256(expected.token)) {
        return Err(ProofError::TokenHash);
    }
    if thumbprint(&jwk).ok_or(ProofError::BadKey)? != *expected.key {
        return Err(ProofError::Key);
    }
    if let Some(lifetime) = settings.nonce {
        let nonce = jws.claims().get("nonce").and_then(Value::as_str).ok_or(ProofError::Nonce)?;
        if !nonces.is_some_and(|nonces| nonces.is_good(nonce, lifetime, now)) {
            return Err(ProofError::Nonce);
        }
    }
    let key = Key::embedded(&jwk, algorithm).ok_or(ProofError::BadKey)?;
    if !signatures.check(&jws, &key, algorithm) {
        return Err(ProofError::Signature);
    }
    Ok(Proof { key: *expected.key, id: identify(expected.key, method, &uri, id), until: issued.plus(settings.window) })
}

/// Whether `uri`, in canonical form, is the URI of the request.
fn is_ours(uri: &str, expected: Expected<'_>, origins: &[String]) -> bool {
    let Ok(path) = std::str::from_utf8(expected.path) else { return false };
    let is_at = |origin: &str| normalise(&format!("{origin}{path}")).is_some_and(|own| own == uri);
    if !origins.is_empty() {
        return origins.iter().any(|origin| is_at(origin));
    }
    let (Ok(scheme), Ok(authority)) = (std::str::from_utf8(expected.scheme), std::str::from_utf8(expected.authority))
    else {
        return false;
    };
    is_at(&format!("{scheme}://{authority}"))
}

/// Each part is hashed with its length, so that two different proofs cannot have the same input.
fn identify(key: &Digest, method: &str, uri: &str, id: &str) -> Digest {
    let length = |part: &str| u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes();
    sha256_of(&[key, &length(method), method.as_bytes(), &length(uri), uri.as_bytes(), id.as_bytes()])
}

/// An `http` or `https` URI without query and fragment, normalised by RFC 3986 §6.2.2 and §6.2.3: scheme and host in
/// lower case, no default port, no dot segments, escapes only where needed and in upper case, a path of at least `/`.
///
/// `None` when it is not such a URI, has user information, or has bytes that no URI may contain.
pub fn normalise(uri: &str) -> Option<String> {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let host = Host::parse_in_uri(authority).ok()?;
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    // The last `:` inside an IPv6 address does not begin a port.
    let port = Some(port).filter(|port| !port.is_empty() && *port != default_port && !port.ends_with(']'));
    let mut out = format!("{scheme}://{}", host.as_str().to_ascii_lowercase());
    if let Some(port) = port {
        out.push(':');
        out.push_str(port);
    }
    out.push_str(&remove_dot_segments(&normalise_escapes(path)?));
    Some(out)
}

/// Normalises escapes: RFC 3986 §6.2.2.1 and §6.2.2.2.
fn normalise_escapes(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            match byte {
                // A URI must escape these characters, but some clients do not.
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'}' | b'|' => out.push_str(&format!("%{byte:02X}")),
                0x21..0x7f => out.push(char::from(byte)),
                _ => return None,
            }
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let value =
            u8::from_str_radix(std::str::from_utf8(&digits).ok().filter(|text| !text.contains('+'))?, 16).ok()?;
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(value));
        } else {
            out.push_str(&format!("%{value:02X}"));
        }
    }
    Some(out)
}

/// Removes dot segments (RFC 3986 §5.2.4) from a path that is empty or begins with `/`.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests;
