//! Security event tokens: event, subject, transmitter and audience (RFC 8417, with the profile of the
//! Shared Signals Framework).

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::signing::subject::Subject;

/// The `typ` of a SET's header (RFC 8417 section 2.3).
pub const TYP: &str = "secevent+jwt";

/// CAEP: the sessions of the subject are over.
pub const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// CAEP: a device became compliant or not compliant.
pub const DEVICE_COMPLIANCE: &str = "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";

/// CAEP: the risk level of a principal changed.
pub const RISK_LEVEL: &str = "https://schemas.openid.net/secevent/caep/event-type/risk-level-change";

/// CAEP: claims of tokens have other values.
pub const TOKEN_CLAIMS: &str = "https://schemas.openid.net/secevent/caep/event-type/token-claims-change";

/// CAEP: the assurance level of a principal changed.
pub const ASSURANCE_LEVEL: &str = "https://schemas.openid.net/secevent/caep/event-type/assurance-level-change";

/// SSF: a heartbeat of the stream.
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

/// Ours: grants are narrowed.
pub const GRANT_NARROWED: &str = "urn:taskfence:secevent:grant-narrowed";

/// Ours: the task is over, and with it every token granted for it.
pub const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";

/// An event and its subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The event type URI.
    pub kind: &'static str,
    pub subject: Subject,
    pub initiator: Initiator,
    /// The members that this kind of event has beside the common ones.
    pub details: Map<String, Value>,
}

/// Who caused the event (CAEP `initiating_entity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Initiator {
    Admin,
    User,
    Policy,
    System,
}

impl Initiator {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Policy => "policy",
            Self::System => "system",
        }
    }
}

/// Transmitter, audience and times of a SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The transmitter.
    pub issuer: String,
    pub audiences: Vec<String>,
    /// The name of this one SET: a receiver that gets it twice applies it once.
    pub jti: String,
    /// The name of the cause, which is the same in all SETs with the same cause. Not the task id of a token.
    pub txn: String,
    /// Unix seconds.
    pub issued_at: u64,
    /// When the event happened, in unix seconds.
    pub event_time: u64,
    /// For the log of the receiver's administrators, in English.
    pub reason: Option<String>,
}

/// The claims of the SET. There is no `sub` and no `exp`: the framework forbids both.
pub fn claims(event: &Event, envelope: &Envelope) -> Map<String, Value> {
    let mut body = event.details.clone();
    // Verification has its state and nothing else (SSF 1.0 section 8.1.4).
    if event.kind != VERIFICATION {
        body.insert("event_timestamp".to_owned(), envelope.event_time.into());
        body.insert("initiating_entity".to_owned(), event.initiator.name().into());
    }
    if let Some(reason) = &envelope.reason {
        body.insert("reason_admin".to_owned(), json!({"en": reason}));
    }
    let mut events = Map::new();
    events.insert(event.kind.to_owned(), body.into());

    let mut claims = Map::new();
    claims.insert("iss".to_owned(), envelope.issuer.clone().into());
    claims.insert("aud".to_owned(), audience(&envelope.audiences));
    claims.insert("iat".to_owned(), envelope.issued_at.into());
    claims.insert("jti".to_owned(), envelope.jti.clone().into());
    claims.insert("txn".to_owned(), envelope.txn.clone().into());
    claims.insert("sub_id".to_owned(), event.subject.to_json());
    claims.insert("events".to_owned(), events.into());
    claims
}

/// The `aud` claim (RFC 7519 section 4.1.3): one audience is written as a string, several as an array.
pub fn audience(audiences: &[String]) -> Value {
    match audiences {
        [one] => one.clone().into(),
        several => several.to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            issuer: "https://jit.example".into(),
            audiences: vec!["https://pep.mesh/ssf".into()],
            jti: "set-77".into(),
            txn: "root-5".into(),
            issued_at: 1_790_000_111,
            event_time: 1_790_000_110,
            reason: None,
        }
    }

    #[test]
    fn task_completed() {
        let event = Event {
            kind: TASK_COMPLETED,
            subject: Subject::Task { id: "task-42".into() },
            initiator: Initiator::System,
            details: Map::from_iter([("outcome".to_owned(), json!("success"))]),
        };
        let expected = json!({
            "iss": "https://jit.example", "aud": "https://pep.mesh/ssf", "jti": "set-77", "iat": 1790000111, "txn": "root-5",
            "sub_id": {"format": "complex", "task": {"format": "opaque", "id": "task-42"}},
            "events": {"urn:taskfence:secevent:task-completed":
                {"event_timestamp": 1790000110, "outcome": "success", "initiating_entity": "system"}},
        });
        assert_eq!(Value::Object(claims(&event, &envelope())), expected);
    }

    #[test]
    fn session_revoked() {
        let event = Event {
            kind: SESSION_REVOKED,
            subject: Subject::Token { issuer: "https://jit.example".into(), jti: "tok-1".into() },
            initiator: Initiator::Admin,
            details: Map::new(),
        };
        let envelope = Envelope { reason: Some("laptop stolen".into()), ..envelope() };
        let expected = json!({
            "iss": "https://jit.example", "aud": "https://pep.mesh/ssf", "jti": "set-77", "iat": 1790000111, "txn": "root-5",
            "sub_id": {"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-1"},
            "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked":
                {"event_timestamp": 1790000110, "initiating_entity": "admin", "reason_admin": {"en": "laptop stolen"}}},
        });
        assert_eq!(Value::Object(claims(&event, &envelope)), expected);
    }

    #[test]
    fn several_audiences_are_an_array() {
        assert_eq!(audience(&["a".into()]), json!("a"));
        assert_eq!(audience(&["a".into(), "b".into()]), json!(["a", "b"]));
    }
}
