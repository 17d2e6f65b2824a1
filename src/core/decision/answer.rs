//! What the client sees of a refusal: RFC 6750 challenges and RFC 9457 problem documents. They never contain
//! bytes of the client.

use crate::decision::verdict::Refusal;
use crate::http::credential_location::Scheme;
use crate::index::IssuerIndex;
use crate::policy::policy::Policy;
use crate::reason::{Class, Reason};
use crate::rules::requirement::{Check, Requirement};
use crate::rules::rule::{Effect, Rule};
use crate::token::confirmation::Binding;
use serde_json::json;

/// The header that carries the decision id of a refusal.
pub(crate) const DECISION_HEADER: &str = "x-taskfence-decision";

/// An answer that the proxy sends instead of forwarding the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The gRPC status code, for a request that is gRPC.
    pub grpc_status: i32,
    /// Headers beside the status.
    pub headers: Vec<(&'static str, String)>,
    /// The body. For gRPC it becomes `grpc-message`.
    pub body: String,
}

/// The answer to a refused request. `decision` is the id under which the refusal is recorded.
pub fn answer(refusal: &Refusal, policy: &Policy, decision: &str, grpc: bool) -> Answer {
    let class = refusal.reason.class();
    let mut headers = vec![("cache-control", "no-store".to_owned()), (DECISION_HEADER, decision.to_owned())];
    if let Some(challenge) = challenge(refusal, policy) {
        headers.push(("www-authenticate", challenge));
    }
    if let Some(nonce) = &refusal.nonce {
        headers.push(("dpop-nonce", nonce.clone()));
    }
    if matches!(class, Class::Unavailable | Class::TooManyRequests) {
        headers.push(("retry-after", "1".to_owned()));
    }
    let body = if grpc {
        refusal.reason.title().to_owned()
    } else {
        headers.push(("content-type", "application/problem+json".to_owned()));
        problem(refusal, decision)
    };
    Answer { status: class.status(), grpc_status: class.grpc_status(), headers, body }
}

/// The challenge (RFC 6750 §3, RFC 9449 §7.1). A request without a credential gets no error code. A reason for which
/// OAuth defines no error gets no challenge.
fn challenge(refusal: &Refusal, policy: &Policy) -> Option<String> {
    let class = refusal.reason.class();
    let requirement = match refusal.rule.and_then(|at| policy.rule(at)).map(Rule::effect) {
        Some(Effect::Require(requirement)) => Some(requirement),
        Some(Effect::Anonymous | Effect::Deny) | None => None,
    };
    let mut parameters = String::new();
    match class.oauth_error() {
        // The request was refused before its credential was read, so the error is not in the token.
        Some(_) if matches!(refusal.reason, Reason::PathRefused | Reason::HostRefused) => return None,
        // More scope would not help.
        Some(_)
            if refusal.reason == Reason::ScopeInsufficient && !requirement.is_some_and(|r| can_help(refusal, r)) =>
        {
            return None;
        }
        Some(error) => {
            let description = describe(refusal);
            parameters.push_str(&format!(", error=\"{error}\", error_description=\"{description}\""));
        }
        None if class == Class::Unauthenticated => {}
        None => return None,
    }
    if let Some(requirement) = requirement {
        parameters.push_str(&scope(refusal, requirement));
        parameters.push_str(&step_up(refusal, requirement));
    }
    if let Some(resource) = refusal.resource.and_then(|at| at.of(policy.resources())) {
        // RFC 9728 §5.1.
        parameters.push_str(&format!(", resource_metadata=\"{}\"", resource.metadata_url));
    }
    let one = |scheme| match scheme {
        Scheme::Bearer => format!("Bearer realm=\"{}\"{parameters}", policy.realm()),
        Scheme::Dpop => {
            format!("DPoP realm=\"{}\"{parameters}, algs=\"{}\"", policy.realm(), algorithms(refusal, policy).join(" "))
        }
    };
    let schemes: Vec<String> = schemes(refusal, policy).into_iter().map(one).collect();
    Some(schemes.join(", "))
}

/// The schemes that the client may use: that of the issuer of the token if it is known, or else those of all issuers.
fn schemes(refusal: &Refusal, policy: &Policy) -> Vec<Scheme> {
    let issuers = policy.issuers();
    if let Some(session) = &refusal.session {
        let verified = session.verified();
        let wants_key =
            policy.issuer(verified.issuer()).is_some_and(|issuer| issuer.presentation.binding == Binding::Dpop);
        let is_dpop = verified.grant().confirmation.key.is_some() || wants_key;
        return vec![if is_dpop { Scheme::Dpop } else { Scheme::Bearer }];
    }
    let bearer = issuers.iter().any(|issuer| issuer.presentation.binding != Binding::Dpop);
    let dpop = issuers.iter().any(|issuer| issuer.presentation.announces_dpop);
    [(Scheme::Bearer, bearer), (Scheme::Dpop, dpop)].into_iter().filter(|(_, taken)| *taken).map(|(s, _)| s).collect()
}

/// The signature algorithms that a proof may have: those of the token's issuer if it is known, or else those of all
/// issuers that use DPoP.
fn algorithms(refusal: &Refusal, policy: &Policy) -> Vec<&'static str> {
    let known = refusal.session.as_ref().map(|session| session.verified().issuer());
    let mut names: Vec<&'static str> = Vec::new();
    for (at, issuer) in IssuerIndex::enumerate(policy.issuers()) {
        if known.map_or(issuer.presentation.announces_dpop, |known| known == at) {
            let more = issuer.presentation.dpop.algorithms.iter().map(|algorithm| algorithm.name());
            names.extend(more.filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
    }
    names
}

/// The `error_description` (RFC 6750 §3): text of the filter, and the names of claims as the configuration writes them.
fn describe(refusal: &Refusal) -> String {
    match (refusal.also, &refusal.claim) {
        (Some(_), _) => "Stronger and more recent authentication required".to_owned(),
        (None, Some(claim)) => {
            let safe = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '?' };
            let text = claim.to_string();
            format!("{}: {}", refusal.reason.title(), text.chars().map(safe).collect::<String>())
        }
        (None, None) => refusal.reason.title().to_owned(),
    }
}

/// Whether a token with more scope could pass. If a signal took the scope away from the grant, it could not.
fn can_help(refusal: &Refusal, requirement: &Requirement) -> bool {
    let changes = refusal.grant_status.as_ref().and_then(|status| status.changes.as_deref());
    requirement.can_have_scope(|scope| changes.is_none_or(|changes| changes.leave_scope(scope)))
}

/// The scope values that the request needs (RFC 6750 §3), where the client needs another token.
fn scope(refusal: &Refusal, requirement: &Requirement) -> String {
    let needs_token = match refusal.reason.class() {
        Class::Unauthenticated | Class::InvalidToken | Class::InsufficientScope | Class::InsufficientAuthentication => {
            true
        }
        Class::BadRequest
        | Class::InvalidProof
        | Class::NonceRequired
        | Class::Forbidden
        | Class::InsufficientDetails
        | Class::TooManyRequests
        | Class::Unavailable => false,
    };
    let held = refusal.session.as_ref().map(|session| &session.verified().grant().scopes);
    let has = |scope: &str| held.is_some_and(|held| held.iter().any(|held| held == scope));
    let scopes: Vec<&str> = requirement.scopes(has).filter(|_| needs_token).collect();
    if scopes.is_empty() { String::new() } else { format!(", scope=\"{}\"", scopes.join(" ")) }
}

/// The authentication that the rule requires (RFC 9470 §3): all of it that is lacking.
fn step_up(refusal: &Refusal, requirement: &Requirement) -> String {
    let lacks = |reason| refusal.reason == reason || refusal.also == Some(reason);
    let parameters = requirement.checks().iter().filter_map(|check| match check {
        Check::Acr(accepted) if lacks(Reason::AssuranceInsufficient) => {
            Some(format!(", acr_values=\"{}\"", accepted.join(" ")))
        }
        Check::AuthAge(longest) if lacks(Reason::AuthenticationTooOld) => Some(format!(", max_age=\"{}\"", longest.0)),
        _ => None,
    });
    parameters.collect()
}

/// The problem document (RFC 9457). Its `txn` is the task of a verified token, so that the client can report it to the
/// operator.
fn problem(refusal: &Refusal, decision: &str) -> String {
    let code = refusal.reason.code();
    let mut problem = json!({
        "type": format!("urn:taskfence:problem:{}", code.replace('_', "-")),
        "title": refusal.reason.title(),
        "status": refusal.reason.class().status(),
        "instance": format!("urn:uuid:{decision}"),
        "reason": code,
    });
    let task = refusal.session.as_ref().and_then(|session| session.verified().grant().task.as_deref());
    if let (Some(task), Some(members)) = (task, problem.as_object_mut()) {
        members.insert("txn".to_owned(), task.into());
    }
    problem.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ResourceIndex, RuleIndex};
    use crate::testing::fixture;
    use crate::token::claim_names::{ClaimFault, RefusedClaim};
    use serde_json::Value;

    fn policy() -> Policy {
        let config = json!({
            "realm": "orders.mesh",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "rules": [{"name": "read", "match": {}, "require": {"scope": "orders.read orders.list", "acr": ["phr", "phrh"], "auth_age": "5m"}}]
        });
        crate::config::load::load(config.to_string().as_bytes()).unwrap().policy
    }

    fn of(reason: Reason, grpc: bool) -> Answer {
        answer(&Refusal { rule: Some(RuleIndex::new(0)), ..Refusal::new(reason) }, &policy(), "0-1", grpc)
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(have, _)| *have == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn challenges_say_what_rfc_6750_says() {
        for (reason, status, challenge) in [
            (Reason::TokenMissing, 401, Some(r#"Bearer realm="orders.mesh", scope="orders.read orders.list""#)),
            (
                Reason::TokenExpired,
                401,
                Some(
                    r#"Bearer realm="orders.mesh", error="invalid_token", error_description="Access token expired", scope="orders.read orders.list""#,
                ),
            ),
            (
                Reason::CredentialsAmbiguous,
                400,
                Some(
                    r#"Bearer realm="orders.mesh", error="invalid_request", error_description="More than one credential""#,
                ),
            ),
            (
                Reason::ScopeInsufficient,
                403,
                Some(
                    r#"Bearer realm="orders.mesh", error="insufficient_scope", error_description="Outside the scope of the grant", scope="orders.read orders.list""#,
                ),
            ),
            (
                Reason::AssuranceInsufficient,
                401,
                Some(
                    r#"Bearer realm="orders.mesh", error="insufficient_user_authentication", error_description="Stronger authentication required", scope="orders.read orders.list", acr_values="phr phrh""#,
                ),
            ),
            (
                Reason::AuthenticationTooOld,
                401,
                Some(
                    r#"Bearer realm="orders.mesh", error="insufficient_user_authentication", error_description="More recent authentication required", scope="orders.read orders.list", max_age="300""#,
                ),
            ),
            (
                Reason::DetailInsufficient,
                403,
                Some(
                    r#"Bearer realm="orders.mesh", error="insufficient_authorization_details", error_description="Outside the task of the grant""#,
                ),
            ),
            (Reason::DeviceNotCompliant, 403, None),
            (Reason::RuleMissing, 403, None),
            (Reason::PathRefused, 400, None),
            (Reason::StateUnavailable, 503, None),
            (Reason::TooManyFailures, 429, None),
        ] {
            let answer = of(reason, false);
            assert_eq!((answer.status, header(&answer, "www-authenticate")), (status, challenge));
            assert_eq!(header(&answer, "cache-control"), Some("no-store"));
            assert_eq!(header(&answer, "retry-after").is_some(), matches!(status, 429 | 503));
        }
    }

    #[test]
    fn one_challenge_asks_for_all_that_the_authentication_lacks() {
        for (reason, also) in [
            (Reason::AuthenticationTooOld, Reason::AssuranceInsufficient),
            (Reason::AssuranceInsufficient, Reason::AuthenticationTooOld),
        ] {
            let refusal = Refusal { rule: Some(RuleIndex::new(0)), ..Refusal::new(reason) }.and(Some(also));
            let answer = answer(&refusal, &policy(), "0-1", false);
            let challenge = r#"Bearer realm="orders.mesh", error="insufficient_user_authentication", error_description="Stronger and more recent authentication required", scope="orders.read orders.list", max_age="300", acr_values="phr phrh""#;
            assert_eq!(header(&answer, "www-authenticate"), Some(challenge));
        }
    }

    #[test]
    fn the_claim_is_named_in_safe_letters() {
        let claim = RefusedClaim::new("https://x/\"é\\\r\nroles", ClaimFault::Missing);
        let refusal = Refusal { claim: Some(Box::new(claim)), ..Refusal::new(Reason::ClaimInvalid) };
        let challenge = answer(&refusal, &policy(), "0-1", false);
        let challenge = header(&challenge, "www-authenticate").unwrap();
        assert!(
            challenge.ends_with(
                r#"error_description="Claim missing or invalid: the claim `https://x/?????roles` is missing""#
            ),
            "{challenge}"
        );
    }

    #[test]
    fn challenges_point_to_the_metadata_of_the_resource() {
        let config = json!({
            "realm": "r",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["a"], "binding": "any", "keys": {"inline": fixture::jwks()}}],
            "protected_resources": [{"resource": "https://h.example/v1"}, {"resource": "https://h.example"}],
            "rules": [{"name": "any", "match": {}, "require": {"scope": {"all": ["a"], "any": ["b", "c"]}}}]
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let refusal = Refusal { rule: Some(RuleIndex::new(0)), ..Refusal::new(Reason::TokenMissing) };
        let answer = answer(&refusal.at(Some(ResourceIndex::new(0))), &policy, "0-1", false);
        let more =
            r#"realm="r", scope="a b", resource_metadata="https://h.example/.well-known/oauth-protected-resource/v1""#;
        let challenge = format!(r#"Bearer {more}, DPoP {more}, algs="ES256""#);
        assert_eq!(header(&answer, "www-authenticate"), Some(challenge.as_str()));
    }

    fn challenge_of(issuer: Value, reason: Reason) -> Option<String> {
        let mut first =
            json!({"issuer": "https://jit.example", "audiences": ["a"], "keys": {"inline": fixture::jwks()}});
        first.as_object_mut().unwrap().extend(issuer.as_object().unwrap().clone());
        let config = json!({"realm": "r", "issuers": [first], "rules": []});
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let nonce = (reason == Reason::DpopNonceRequired).then(|| "n".to_owned());
        let answer = answer(&Refusal { nonce, ..Refusal::new(reason) }, &policy, "0-1", false);
        assert_eq!(header(&answer, "dpop-nonce").is_some(), reason == Reason::DpopNonceRequired);
        header(&answer, "www-authenticate").map(str::to_owned)
    }

    #[test]
    fn challenges_say_what_rfc_9449_says() {
        let any = json!({"binding": "any", "dpop": {"algorithms": ["ES256", "EdDSA"]}});
        let dpop = json!({"binding": "dpop"});
        for (issuer, reason, challenge) in [
            (&any, Reason::TokenMissing, r#"Bearer realm="r", DPoP realm="r", algs="ES256 EdDSA""#),
            (&dpop, Reason::TokenMissing, r#"DPoP realm="r", algs="ES256""#),
            (
                &dpop,
                Reason::TokenExpired,
                r#"DPoP realm="r", error="invalid_token", error_description="Access token expired", algs="ES256""#,
            ),
            (
                &dpop,
                Reason::DpopProofInvalid,
                r#"DPoP realm="r", error="invalid_dpop_proof", error_description="DPoP proof invalid", algs="ES256""#,
            ),
            (
                &dpop,
                Reason::DpopNonceRequired,
                r#"DPoP realm="r", error="use_dpop_nonce", error_description="DPoP proof needs a new nonce", algs="ES256""#,
            ),
        ] {
            assert_eq!(challenge_of(issuer.clone(), reason).as_deref(), Some(challenge));
        }
        assert_eq!(challenge_of(any, Reason::RuleMissing), None);
    }

    #[test]
    fn the_body_is_a_problem_document() {
        let answer = of(Reason::TaskCompleted, false);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            body,
            json!({"type": "urn:taskfence:problem:task-completed", "title": "Grant completed", "status": 401,
                   "instance": "urn:uuid:0-1", "reason": "task_completed"})
        );
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
    }

    #[test]
    fn grpc_gets_a_short_message() {
        let answer = of(Reason::TaskCompleted, true);
        assert_eq!((answer.body.as_str(), answer.grpc_status), ("Grant completed", 16));
        assert_eq!(header(&answer, "content-type"), None);
    }
}
