//! Checks of answers: the same ones for every refusal and every pass, so that no test forgets one.

use std::collections::BTreeMap;

use crate::{client::Answer, sidecar::Sidecar};

/// Each reason with its status and the `error` of its challenge (RFC 6750 section 3.1), if it has one.
const REASONS: &[(&str, u16, Challenge)] = &[
    ("token_missing", 401, Challenge::Bare),
    ("credentials_ambiguous", 400, Challenge::Error("invalid_request")),
    ("token_opaque", 401, INVALID_TOKEN),
    ("token_malformed", 401, INVALID_TOKEN),
    ("token_too_large", 401, INVALID_TOKEN),
    ("token_type", 401, INVALID_TOKEN),
    ("algorithm_refused", 401, INVALID_TOKEN),
    ("issuer_unknown", 401, INVALID_TOKEN),
    ("key_unknown", 401, INVALID_TOKEN),
    ("signature_invalid", 401, INVALID_TOKEN),
    ("too_many_failures", 429, Challenge::None),
    ("audience_mismatch", 401, INVALID_TOKEN),
    ("token_expired", 401, INVALID_TOKEN),
    ("token_not_yet_valid", 401, INVALID_TOKEN),
    ("lifetime_exceeded", 401, INVALID_TOKEN),
    ("session_too_old", 401, INVALID_TOKEN),
    ("claim_invalid", 401, INVALID_TOKEN),
    ("token_misplaced", 401, INVALID_TOKEN),
    ("binding_missing", 401, INVALID_TOKEN),
    ("binding_mismatch", 401, INVALID_TOKEN),
    ("dpop_proof_missing", 401, Challenge::Error("invalid_dpop_proof")),
    ("dpop_proof_invalid", 401, Challenge::Error("invalid_dpop_proof")),
    ("dpop_proof_replayed", 401, Challenge::Error("invalid_dpop_proof")),
    ("dpop_nonce_required", 401, Challenge::Error("use_dpop_nonce")),
    ("token_used", 401, INVALID_TOKEN),
    ("token_revoked", 401, INVALID_TOKEN),
    ("session_revoked", 401, INVALID_TOKEN),
    ("user_revoked", 401, INVALID_TOKEN),
    ("principal_revoked", 401, INVALID_TOKEN),
    ("task_completed", 401, INVALID_TOKEN),
    ("rule_missing", 403, Challenge::None),
    ("rule_denied", 403, Challenge::None),
    ("scope_insufficient", 403, Challenge::Scope),
    ("detail_insufficient", 403, Challenge::Error("insufficient_authorization_details")),
    ("claim_mismatch", 403, Challenge::None),
    ("actor_refused", 403, Challenge::None),
    ("source_refused", 403, Challenge::None),
    ("peer_refused", 403, Challenge::None),
    ("device_not_compliant", 403, Challenge::None),
    ("risk_too_high", 403, Challenge::None),
    ("condition_failed", 403, Challenge::None),
    ("condition_error", 403, Challenge::None),
    ("authentication_too_old", 401, STEP_UP),
    ("assurance_insufficient", 401, STEP_UP),
    ("path_refused", 400, Challenge::None),
    ("host_refused", 400, Challenge::None),
    ("keys_unavailable", 503, Challenge::None),
    ("state_saturated", 503, Challenge::None),
    ("state_stale", 503, Challenge::None),
    ("state_not_ready", 503, Challenge::None),
];

/// The `error_description` where the authentication is both too weak and too old.
const BOTH_STEP_UPS: &str = "Stronger and more recent authentication required";

const INVALID_TOKEN: Challenge = Challenge::Error("invalid_token");
const STEP_UP: Challenge = Challenge::Error("insufficient_user_authentication");

enum Challenge {
    /// No `WWW-Authenticate`.
    None,
    /// A scheme without an error.
    Bare,
    /// `insufficient_scope`, or none where a signal took the scope away.
    Scope,
    /// `Bearer` or `DPoP` with this error.
    Error(&'static str),
}

/// Panics unless this is a complete refusal for `reason`, and the request did not reach the upstream.
#[track_caller]
pub fn assert_refused(sidecar: &Sidecar, answer: &Answer, reason: &str) {
    let (_, status, challenge) =
        REASONS.iter().find(|row| row.0 == reason).unwrap_or_else(|| panic!("no reason `{reason}` in the table"));
    assert_eq!(
        (answer.status, answer.reason().as_deref()),
        (*status, Some(reason)),
        "status and reason (left: came, right: expected) of\n{}",
        describe(answer)
    );
    assert_body(answer, reason);
    assert_challenge(answer, challenge);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "cache-control of\n{}", describe(answer));
    // A client that may try again is told when.
    assert_eq!(
        answer.header("retry-after").is_some(),
        matches!(*status, 429 | 503),
        "retry-after of\n{}",
        describe(answer)
    );
    assert_not_forwarded(sidecar, answer);
}

/// Panics unless this is the upstream's own answer.
#[track_caller]
pub fn assert_allowed(sidecar: &Sidecar, answer: &Answer) {
    assert_eq!(answer.status, 200, "status (left: came, right: expected) of\n{}", describe(answer));
    let reached = sidecar.upstream().was_reached_by(&answer.probe);
    assert!(reached, "a 200 that is not the upstream's:\n{}", describe(answer));
}

/// Panics if the request of this answer reached the upstream.
#[track_caller]
pub fn assert_not_forwarded(sidecar: &Sidecar, answer: &Answer) {
    let reached = sidecar.upstream().was_reached_by(&answer.probe);
    assert!(!reached, "the upstream saw a request that was refused:\n{}", describe(answer));
}

/// Panics unless this is a receiver's refusal of a signal with this code (RFC 8935 section 2.4).
#[track_caller]
pub fn assert_signal_refused(answer: &Answer, code: &str) {
    let body = answer.json();
    assert_eq!(
        (answer.status, body["err"].as_str()),
        (400, Some(code)),
        "status and err (left: came, right: expected) of\n{}",
        describe(answer)
    );
    let text = body["description"].as_str().unwrap_or_default();
    assert!(!text.is_empty(), "no description in\n{}", describe(answer));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "of\n{}", describe(answer));
}

/// Panics unless this is a receiver's acceptance of a signal: 202 and an empty body (RFC 8935 section 2.2).
#[track_caller]
pub fn assert_signal_accepted(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (202, ""),
        "status and body (left: came, right: expected) of\n{}",
        describe(answer)
    );
}

/// RFC 9457, with the decision id both in the body and in a header.
#[track_caller]
fn assert_body(answer: &Answer, reason: &str) {
    let body = answer.json();
    let shown = describe(answer);
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"), "content-type of\n{shown}");
    assert_eq!(body["type"], format!("urn:taskfence:problem:{}", reason.replace('_', "-")), "type of\n{shown}");
    assert_eq!(body["status"], answer.status, "status in the body of\n{shown}");
    assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "no title in\n{shown}");
    let decision = answer.header("x-taskfence-decision").unwrap_or_default();
    assert!(is_uuid(&decision), "`{decision}` is no decision id in\n{shown}");
    assert_eq!(body["instance"], format!("urn:uuid:{decision}"), "instance of\n{shown}");
}

#[track_caller]
fn assert_challenge(answer: &Answer, expected: &Challenge) {
    let shown = describe(answer);
    let header = answer.header("www-authenticate");
    let parameters = header.as_deref().map(|header| match parse_challenge(header) {
        Some(parameters) => parameters,
        None => panic!("not one challenge: `{header}` in\n{shown}"),
    });
    let expected = match expected {
        Challenge::Scope if parameters.is_none() => &Challenge::None,
        Challenge::Scope => &Challenge::Error("insufficient_scope"),
        expected => expected,
    };
    match (expected, parameters) {
        (Challenge::None | Challenge::Scope, None) => {}
        (Challenge::Bare, Some(parameters)) => {
            // Section 3.1: a request without credentials is told no error code or other error information.
            let said: Vec<_> = parameters.keys().filter(|name| name.starts_with("error")).collect();
            assert!(said.is_empty(), "{said:?} in a challenge that must have no error, in\n{shown}");
        }
        (Challenge::Error(error), Some(parameters)) => {
            assert_eq!(parameters.get("error").map(String::as_str), Some(*error), "error of\n{shown}");
            let body = answer.json();
            let text = parameters.get("error_description").map(String::as_str).unwrap_or_default();
            let title = body["title"].as_str().unwrap_or_default();
            // A claim is named after the title. What two reasons ask for stands in one text.
            let fits = text == title
                || text.strip_prefix(title).is_some_and(|rest| rest.starts_with(": "))
                || text == BOTH_STEP_UPS;
            assert!(fits, "error_description `{text}`, title of the body `{title}` of\n{shown}");
        }
        (Challenge::None | Challenge::Scope, Some(_)) => panic!("a challenge that should not be there, in\n{shown}"),
        (Challenge::Bare | Challenge::Error(_), None) => panic!("no www-authenticate in\n{shown}"),
    }
}

/// The parameters of one `Bearer` or `DPoP` challenge; nothing if it breaks the grammar of RFC 6750 section 3, or
/// repeats a parameter.
pub fn parse_challenge(header: &str) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    let mut rest = header.strip_prefix("Bearer").or_else(|| header.strip_prefix("DPoP"))?;
    if rest.is_empty() {
        return Some(parameters);
    }
    rest = rest.strip_prefix(' ')?;
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        let fits = value.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        let is_new = parameters.insert(name.to_owned(), value.to_owned()).is_none();
        if !fits || !is_new || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return None;
        }
        if after.is_empty() {
            return Some(parameters);
        }
        rest = after.strip_prefix(", ")?;
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
        })
}

/// An answer as it would stand on the wire.
pub fn describe(answer: &Answer) -> String {
    let headers: String = answer
        .headers
        .iter()
        .map(|(name, value)| format!("  {name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    format!("  HTTP {}\n{headers}\n  {}", answer.status, answer.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let parsed = parse_challenge(r#"Bearer realm="orders", error="invalid_token""#).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed["error"], "invalid_token");
        assert_eq!(parse_challenge("Bearer").unwrap().len(), 0);
        for wrong in
            ["Basic", "Bearer ", "Bearer a", r#"Bearer a="1",b="2""#, r#"Bearer a="1", a="2""#, "Bearer a=\"\\\""]
        {
            assert_eq!(parse_challenge(wrong), None, "{wrong}");
        }
    }
}
