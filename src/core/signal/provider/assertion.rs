//! JWTs by which an identity provider says something to a hub in another way than by a SET: logout tokens, and what
//! authenticates a global token revocation. Both name the provider, this receiver and a short time.

use crate::jose::jws::{JwsError, Unverified};
use crate::jose::signature::CheckSignature;
use crate::signal::accepted::Signal;
use crate::signal::interpret::{self, CLOCK_SKEW, interpret};
use crate::signal::oddity::Oddities;
use crate::signal::set::{self, MAX_SET};
use crate::signal::set_error::SetError;
use crate::signal::set_error::SetErrorCode::{AuthenticationFailed, InvalidAudience, InvalidIssuer, InvalidRequest};
use crate::signal::transmitter::Transmitter;
use crate::time::Timestamp;
use crate::token::issuer::Issuer;
use serde_json::{Map, Value, json};

/// CAEP session-revoked.
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// How an identity provider says something without a SET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a logout token.
    Logout,
    /// By a global token revocation.
    GlobalRevocation,
}

impl Way {
    /// Both ways.
    pub const ALL: [Way; 2] = [Way::Logout, Way::GlobalRevocation];

    /// The stream of what comes this way from the transmitter with the stream `transmitter`. An id is taken once in each
    /// stream, and the ids of SETs and of logout tokens have nothing to do with each other.
    pub fn stream(self, transmitter: &str) -> String {
        format!("{}{transmitter}", self.prefix())
    }

    /// The way and the stream of the transmitter, if `stream` is one of [`Way::stream`]. No transmitter may have such a name.
    pub fn of_stream(stream: &str) -> Option<(Way, &str)> {
        Way::ALL.into_iter().find_map(|way| Some((way, stream.strip_prefix(way.prefix())?)))
    }

    /// `typ` of its JWT. Many providers write `JWT` or nothing; then `aud` and the claims tell it from other JWTs.
    fn typ(self) -> &'static str {
        match self {
            // OpenID Connect Back-Channel Logout 1.0 §2.4.
            Way::Logout => "logout+jwt",
            // As Okta writes it: the draft leaves the JWT open.
            Way::GlobalRevocation => "global-token-revocation+jwt",
        }
    }

    /// The audiences of what `transmitter` sends this way; empty: it sends nothing.
    fn audiences(self, transmitter: &Transmitter) -> &[String] {
        match self {
            Way::Logout => &transmitter.logout_audiences,
            Way::GlobalRevocation => &transmitter.revocation_audiences,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Way::Logout => "logout/",
            Way::GlobalRevocation => "global-token-revocation/",
        }
    }
}

/// What an identity provider said, as a signal.
#[derive(Debug)]
pub struct Told {
    /// The signal. It is no sign of life of the stream of SETs.
    pub signal: Signal,
    /// The same as the claims of a SET, from which its entries can be derived again.
    pub claims: Map<String, Value>,
    /// The stream of the transmitter.
    pub transmitter: String,
}

/// A JWT of a provider, whose signature, issuer, audience and times were checked.
pub(crate) struct Assertion<'s> {
    pub(crate) claims: Map<String, Value>,
    pub(crate) transmitter: &'s Transmitter,
    pub(crate) id: String,
    /// `exp`, if there is one.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) oddities: Oddities,
}

/// Checks `token`, which came this `way`. It is of one of `transmitters` that use it.
pub(crate) fn check<'s>(
    token: &[u8],
    way: Way,
    transmitters: &'s [Transmitter],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Assertion<'s>, SetError> {
    let jws = Unverified::parse(token, MAX_SET).map_err(|error| match error {
        JwsError::TooLarge => InvalidRequest.because(format!("the JWT has more than {MAX_SET} bytes")),
        JwsError::Opaque | JwsError::Malformed | JwsError::Critical => {
            InvalidRequest.because(format!("it is no JWT: {error}"))
        }
    })?;
    let types = [way.typ(), "JWT"];
    if jws.typ().is_some() && !types.iter().any(|known| jws.is_typ(known)) {
        return Err(InvalidRequest.because(format!("typ is not {}", types.join(" or "))));
    }
    let transmitter = authenticate(&jws, way, transmitters, signatures, now)?;
    let claims = jws.into_claims();
    let mut oddities = Oddities::default();
    let id = interpret::id(&claims, &mut oddities);
    let id = id.ok_or_else(|| InvalidRequest.because("jti is missing or not a string of at most 1024 bytes"))?;
    let mut time = |name: &str| claims.get(name).and_then(|value| interpret::stated(value, name, &mut oddities));
    let expires = time("exp").map(|time| time.ceil);
    if expires.is_some_and(|end| end.plus(CLOCK_SKEW) < now) {
        return Err(InvalidRequest.because("it has expired"));
    }
    if time("nbf").is_some_and(|start| start.floor > now.plus(CLOCK_SKEW)) {
        return Err(InvalidRequest.because("it is not valid yet"));
    }
    Ok(Assertion { claims, transmitter, id, expires, oddities })
}

/// The transmitter that signed the JWT. Of several with one name the first one whose audience and keys fit.
fn authenticate<'s>(
    jws: &Unverified<'_>,
    way: Way,
    transmitters: &'s [Transmitter],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<&'s Transmitter, SetError> {
    let issuer = jws.claims().get("iss").and_then(Value::as_str);
    let senders = transmitters.iter().filter(|one| !way.audiences(one).is_empty() && issuer == Some(&one.name));
    let mut error = InvalidIssuer.because("iss is no transmitter that may send this");
    for sender in senders {
        if !set::is_meant(jws.claims(), way.audiences(sender)) {
            if error.code == InvalidIssuer {
                error = InvalidAudience.because("aud does not name this receiver");
            }
            continue;
        }
        match set::check_signature(jws, sender, signatures, now) {
            Ok(()) => return Ok(sender),
            // Prefer an error that may pass to a permanent one.
            Err(other) if error.retry_after.is_none() => error = other,
            Err(_) => {}
        }
    }
    Err(error)
}

impl Assertion<'_> {
    /// The signal that `subject` has ended, and `also` where there is another reading of it. `at` is when; `None`: now.
    pub(crate) fn end(
        self,
        subject: Value,
        also: Option<Value>,
        at: Option<Timestamp>,
        issuers: &[Issuer],
        now: Timestamp,
    ) -> Result<Told, SetError> {
        let Assertion { transmitter, id, oddities, .. } = self;
        ended(transmitter, id, oddities, subject, also, at, issuers, now)
    }
}

/// The signal of `transmitter` with that id that `subject` has ended, see [`Assertion::end`].
#[allow(clippy::too_many_arguments, reason = "each is another part of one signal")]
pub(crate) fn ended(
    transmitter: &Transmitter,
    id: String,
    oddities: Oddities,
    subject: Value,
    also: Option<Value>,
    at: Option<Timestamp>,
    issuers: &[Issuer],
    now: Timestamp,
) -> Result<Told, SetError> {
    let mut payload = Map::new();
    payload.extend(at.map(|at| ("event_timestamp".to_owned(), at.0.into())));
    payload.extend(also.map(|also| ("subject".to_owned(), also)));
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), transmitter.name.clone().into());
    claims.insert("jti".to_owned(), id.into());
    claims.insert("iat".to_owned(), at.unwrap_or(now).0.into());
    claims.insert("sub_id".to_owned(), subject);
    claims.insert("events".to_owned(), json!({SESSION_REVOKED: payload}));
    let mut signal = interpret(&claims, transmitter, issuers, now)?;
    // The claims were written here; what is odd is told about the JWT.
    signal.notes.oddities = oddities;
    Ok(Told { signal, claims, transmitter: transmitter.stream.clone() })
}

/// An error of a request that is not authenticated.
pub(crate) fn not_authentic(description: &str) -> SetError {
    AuthenticationFailed.because(description)
}
