//! Logout tokens (OpenID Connect Back-Channel Logout 1.0): an OpenID provider says that a session has ended, or all
//! sessions of a user.

use crate::jose::signature::CheckSignature;
use crate::signal::interpret;
use crate::signal::oddity::Oddities;
use crate::signal::provider::assertion::{self, Assertion, Told, Way};
use crate::signal::set_error::SetError;
use crate::signal::set_error::SetErrorCode::InvalidRequest;
use crate::signal::transmitter::Transmitter;
use crate::time::Timestamp;
use crate::token::issuer::Issuer;
use serde_json::{Map, Value, json};

/// The member of `events` that makes a JWT a logout token (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Reads and verifies the logout token `token` at `now` (§2.6). It is of one of `transmitters` that send such, and may be
/// about grants of `issuers`.
///
/// `sid` ends that session, and `sub` alone the sessions of the user that began until `iat`. With both, tokens that name
/// no session end by `sub`. `exp` and `iat` may be missing, as in drafts: an old token ends nothing that it did not end
/// before.
pub fn read(
    token: &[u8],
    transmitters: &[Transmitter],
    issuers: &[Issuer],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Told, SetError> {
    let mut assertion = assertion::check(token, Way::Logout, transmitters, signatures, now)?;
    let claims = &assertion.claims;
    if claims.contains_key("nonce") {
        // It may be an ID token.
        return Err(InvalidRequest.because("a logout token has no nonce"));
    }
    match claims.get("events").and_then(|events| events.get(EVENT)) {
        None => return Err(InvalidRequest.because("events does not hold the event of a logout token")),
        Some(Value::Object(_)) => {}
        Some(_) => assertion.oddities.fault("the event is not an object"),
    }
    if !claims.contains_key("exp") {
        assertion.oddities.fault("exp is missing");
    }
    let issued = interpret::issued_at(claims, &mut assertion.oddities);
    let session = name(claims, "sid", &mut assertion.oddities);
    let user = name(claims, "sub", &mut assertion.oddities);
    let (subject, also) = subjects(&assertion, session, user)?;
    let mut told = assertion.end(subject, also, issued, issuers, now)?;
    // Where `sub` names nobody here, the session has ended all the same.
    told.signal.notes.unmatched.clear();
    Ok(told)
}

/// The subject, and the second reading of it.
fn subjects(
    assertion: &Assertion<'_>,
    session: Option<String>,
    user: Option<String>,
) -> Result<(Value, Option<Value>), SetError> {
    let user = user.map(|sub| json!({"format": "iss_sub", "iss": assertion.transmitter.name, "sub": sub}));
    match (session, user) {
        (None, None) => Err(InvalidRequest.because("there is neither sub nor sid")),
        (None, Some(user)) => Ok((user, None)),
        (Some(sid), user) => {
            let session = json!({"format": "opaque", "id": sid});
            let both = user.map(|user| json!({"format": "complex", "session": session, "user": user}));
            // By itself too: `sub` may have another value in the tokens of another client (OpenID Connect Core 1.0 §8.1).
            Ok((json!({"format": "complex", "session": session}), both))
        }
    }
}

/// The claim `claim`, which names something. A whole number is read as text.
fn name(claims: &Map<String, Value>, claim: &str, oddities: &mut Oddities) -> Option<String> {
    match claims.get(claim)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => {
            oddities.fault(format!("{claim} is a number"));
            Some(number.to_string())
        }
        _ => {
            oddities.fault(format!("{claim} is not a name"));
            None
        }
    }
}
