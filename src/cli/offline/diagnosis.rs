//! The values that led to a refusal: which ones did not fit, and what was expected. Only the operator sees them, never a
//! client.

use taskfence_core::decision::verdict::Refusal;
use taskfence_core::encoding::digest::Digest;
use taskfence_core::http::credential_location::Scheme;
use taskfence_core::http::path::Canonical;
use taskfence_core::http::request::Request;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::key::Key;
use taskfence_core::jose::signature::PureRust;
use taskfence_core::policy::policy::Policy;
use taskfence_core::reason::Reason;
use taskfence_core::time::Timestamp;
use taskfence_core::token::claim_names::{ClaimFault, ClaimNames, Names, RefusedClaim};
use taskfence_core::token::confirmation::Binding;
use taskfence_core::token::dpop::{self, Expected, ProofError};
use taskfence_core::token::grant::Grant;
use taskfence_core::token::issuer::Issuer;
use taskfence_core::token::presentation::Presentation;

use crate::offline::request_input;
use crate::offline::token_report::{Credential, UnverifiedToken};
use crate::terminal::text::time_from;

/// What the operator should know beyond the reason code of `refusal`. `None` where there is nothing more to tell.
pub(super) fn diagnose(
    refusal: &Refusal,
    request: &Request<'_>,
    credential: &Credential,
    policy: &Policy,
    now: Timestamp,
) -> Option<String> {
    let reason = refusal.reason;
    match (reason, credential) {
        (Reason::PathRefused, _) => Canonical::parse(request.path).err().map(|error| format!("path: {error}")),
        (Reason::HostRefused, _) => policy.host(request.authority).err().map(|error| format!("host: {error}")),
        (_, Credential::Unreadable(error)) => Some(error.to_string()),
        (Reason::ClaimInvalid, Credential::Refused(claimed)) => {
            Some(claim_problem(refusal.claim.as_ref()?, claimed, issuer_of(request, policy)))
        }
        (Reason::TokenType, _) if refusal.claim.is_some() => refusal.claim.as_ref().map(ToString::to_string),
        (Reason::IssuerUnknown, Credential::Refused(_)) => {
            Some(format!("known issuers: {}", list(policy.issuers().iter().map(|issuer| issuer.name.as_str()))))
        }
        (_, Credential::Refused(claimed)) => token_problem(reason, claimed, issuer_of(request, policy)?, now),
        (_, Credential::Verified(grant)) => presentation_problem(reason, grant, request, policy, now),
        _ => None,
    }
}

/// Why a verified token was refused: its place, its binding, or its DPoP proof.
fn presentation_problem(
    reason: Reason,
    grant: &Grant,
    request: &Request<'_>,
    policy: &Policy,
    now: Timestamp,
) -> Option<String> {
    let presented = request.credential().ok()?;
    let presentation = &request_input::issuer(presented.token, policy)?.presentation;
    let bound = &grant.confirmation;
    Some(match reason {
        Reason::TokenMisplaced => {
            format!("tokens of this issuer stand in {}", policy.places().at(presentation.place)?.describe())
        }
        Reason::BindingMissing if presented.scheme == Some(Scheme::Dpop) && bound.key.is_none() => {
            "the scheme is DPoP, and the token is bound to no key (`cnf.jkt`)".to_owned()
        }
        Reason::BindingMissing => match presentation.binding {
            Binding::None => "the token lacks the claim that names its presenter (`peer_claim`)".to_owned(),
            Binding::Mtls => "the token is bound to no certificate (`cnf.x5t#S256`)".to_owned(),
            Binding::Dpop => "the token is bound to no key (`cnf.jkt`)".to_owned(),
            Binding::Any => "the token is bound to nothing (`cnf`)".to_owned(),
        },
        Reason::BindingMismatch if bound.key.is_some() && presented.scheme == Some(Scheme::Bearer) => {
            "the token is bound to a key, so it comes under the scheme DPoP and with a proof".to_owned()
        }
        Reason::BindingMismatch | Reason::DpopProofInvalid | Reason::DpopNonceRequired => {
            match proof_error(bound.key.as_ref(), presentation, presented.token, request, now) {
                Some(error) => format!("the proof: {error}"),
                None => match presentation.peer_claim.as_ref().and_then(|claim| claim.of(grant)) {
                    Some(named) => format!("the token is for the workload {named}, or for another certificate"),
                    None => "the client showed another certificate, or none".to_owned(),
                },
            }
        }
        _ => return None,
    })
}

/// The first check of RFC 9449 §4.3 that the DPoP proof fails. Its nonce is not checked here.
fn proof_error(
    key: Option<&Digest>,
    presentation: &Presentation,
    token: &[u8],
    request: &Request<'_>,
    now: Timestamp,
) -> Option<ProofError> {
    let Request { method, scheme, authority, path, .. } = *request;
    let expected = Expected { method, scheme, authority, path, token, key: key? };
    dpop::verify(request.proof().ok()??, expected, &presentation.dpop, None, &mut PureRust, now).err()
}

/// Why a token that is not verified was refused, apart from the shape of its claims.
fn token_problem(reason: Reason, token: &UnverifiedToken, issuer: &Issuer, now: Timestamp) -> Option<String> {
    let skew = format!("{} of clock skew are allowed", issuer.clock_skew);
    Some(match reason {
        Reason::TokenType => match token.claims.contains_key("events") {
            true => "it has `events`, as a signal does".to_owned(),
            false => {
                let absent = issuer.accepts_untyped.then_some("none at all");
                format!("accepted `typ`: {}", list(issuer.types.iter().map(String::as_str).chain(absent)))
            }
        },
        Reason::AlgorithmRefused => {
            let accepted = format!("accepted `alg`: {}", list(issuer.algorithms.iter().map(|alg| alg.name())));
            let named = issuer.keys.last().iter().filter(|key| key.kid() == token.kid.as_deref());
            let algorithms: Vec<&str> = named.flat_map(algorithms).collect();
            match (&token.kid, algorithms.is_empty()) {
                (Some(kid), false) => format!("{accepted}; key `{kid}` is for {}", list(algorithms.into_iter())),
                _ => accepted,
            }
        }
        Reason::KeyUnknown => match token.kid {
            None => "the token names no key (`kid`)".to_owned(),
            Some(_) => format!("keys of this issuer: {}", list(issuer.keys.last().iter().filter_map(Key::kid))),
        },
        Reason::SignatureInvalid => "the key of that `kid` is another one here, or the token was changed".to_owned(),
        Reason::AudienceMismatch => {
            format!("accepted audiences: {}", list(issuer.audiences.iter().map(String::as_str)))
        }
        Reason::TokenExpired => format!("`exp` is {}; {skew}", time_from(token.time("exp")?, now)),
        Reason::TokenNotYetValid => {
            let starts = ["nbf", "iat"].into_iter().filter_map(|claim| Some((claim, token.time(claim)?)));
            let (claim, from) = starts.max_by_key(|(_, from)| *from)?;
            format!("`{claim}` is {}; {skew}", time_from(from, now))
        }
        Reason::LifetimeExceeded => {
            let lifetime = token.time("exp")?.since(token.time("iat")?);
            format!("`exp` is {lifetime} after `iat`, and `max_lifetime` is {}", issuer.max_lifetime)
        }
        Reason::SessionTooOld => {
            let since = time_from(token.time("auth_time")?, now);
            format!("`auth_time` is {since}, and `max_session` is {}", issuer.max_session)
        }
        _ => return None,
    })
}

/// Which required claims are missing, if one is; else what is wrong with `claim`.
fn claim_problem(claim: &RefusedClaim, token: &UnverifiedToken, issuer: Option<&Issuer>) -> String {
    if claim.fault != ClaimFault::Missing {
        return claim.to_string();
    }
    let usual = ClaimNames::default();
    let names = issuer.map_or(&usual, |issuer| &issuer.claims);
    let time = |name: &str| Names::top(name);
    let required = [
        time("iss"),
        names.audience.clone(),
        names.subject.clone(),
        names.client.clone(),
        time("iat"),
        time("exp"),
        names.token.clone(),
        names.task.clone(),
    ];
    let is_in_subject = issuer.is_some_and(|issuer| issuer.is_in_subject);
    let required = required.iter().skip(usize::from(is_in_subject)).filter(|names| !names.is_none());
    let absent = required.filter(|names| !names.paths().iter().any(|path| path.is_in(&token.claims)));
    let absent: Vec<String> = absent.map(ToString::to_string).collect();
    match absent.is_empty() {
        true => claim.to_string(),
        false => format!("missing: {}", absent.join(", ")),
    }
}

/// The entry of the configuration that the token of `request` belongs to, believed or not.
fn issuer_of<'p>(request: &Request<'_>, policy: &'p Policy) -> Option<&'p Issuer> {
    request_input::issuer(request.credential().ok()?.token, policy)
}

fn algorithms(key: &Key) -> impl Iterator<Item = &'static str> {
    Algorithm::ALL.into_iter().filter(|algorithm| key.verifier(*algorithm).is_some()).map(Algorithm::name)
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
