//! Global token revocations (draft-parecki-oauth-global-token-revocation): an identity provider asks that everything ends
//! that a user has been granted until now. The request is authenticated by a JWT of the provider, or by its caller.

use crate::jose::signature::CheckSignature;
use crate::signal::interpret::CLOCK_SKEW;
use crate::signal::oddity::Oddities;
use crate::signal::provider::assertion::{self, Told, Way};
use crate::signal::set_error::SetError;
use crate::signal::set_error::SetErrorCode::InvalidRequest;
use crate::signal::transmitter::Transmitter;
use crate::time::{Span, Timestamp};
use crate::token::issuer::Issuer;
use serde_json::{Value, json};

/// A JWT may be valid for so long: its `jti` is remembered for longer.
const LONGEST: Span = Span::hours(24);

/// Verifies `jwt` at `now`, and revokes what the user `sub_id` has been granted until then. The JWT is of one of
/// `transmitters` that send revocations; its `jti` is the id of the signal, so that it is good for one user alone.
///
/// Fails with `AuthenticationFailed` and the like where the JWT is not good.
pub fn read(
    jwt: &[u8],
    sub_id: &Value,
    transmitters: &[Transmitter],
    issuers: &[Issuer],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Told, SetError> {
    // A caller whose JWT is no JWT is not authenticated, which is no fault of the request.
    let assertion = assertion::check(jwt, Way::GlobalRevocation, transmitters, signatures, now).map_err(|error| {
        if error.code == InvalidRequest { assertion::not_authentic(&error.description) } else { error }
    })?;
    let claims = &assertion.claims;
    if claims.contains_key("events") || claims.contains_key("nonce") {
        return Err(assertion::not_authentic("the JWT was made for something else"));
    }
    let expires = assertion.expires.ok_or_else(|| assertion::not_authentic("exp is missing"))?;
    if expires > now.plus(LONGEST).plus(CLOCK_SKEW) {
        return Err(assertion::not_authentic("exp is more than 24 hours ahead"));
    }
    assertion.end(user(sub_id)?, None, None, issuers, now).and_then(about_somebody)
}

/// The same for a caller that was authenticated as `transmitter` in another way. `id` is that of the signal.
pub fn of_transmitter(
    id: String,
    sub_id: &Value,
    transmitter: &Transmitter,
    issuers: &[Issuer],
    now: Timestamp,
) -> Result<Told, SetError> {
    let ended = assertion::ended(transmitter, id, Oddities::default(), user(sub_id)?, None, None, issuers, now);
    ended.and_then(about_somebody)
}

/// The subject of a revocation as that of a signal: `sub_id` always names a user, also where it is `opaque`.
pub fn user(sub_id: &Value) -> Result<Value, SetError> {
    if !sub_id.is_object() {
        return Err(InvalidRequest.because("sub_id is not a subject identifier of RFC 9493"));
    }
    Ok(json!({"format": "complex", "user": sub_id}))
}

/// No grant can be compared with a subject of another format: a 204 would say that something was revoked.
fn about_somebody(told: Told) -> Result<Told, SetError> {
    match told.signal.entries().is_empty() {
        true => Err(InvalidRequest.because("no token of this feed names its user in the format of sub_id")),
        false => Ok(told),
    }
}
