//! Whom a signal is about: subject identifiers of RFC 9493 and of the Shared Signals Framework.

use serde_json::{Value, json};

/// The subject of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One token, by its `jti` at its issuer.
    Token { issuer: String, jti: String },
    /// Everything of one user, by the `sub` of the issuer.
    User { issuer: String, subject: String },
    /// One session, by its `sid`.
    Session { id: String },
    /// One task, by the `txn` of its tokens.
    Task { id: String },
    /// The stream between a transmitter and a receiver.
    Stream { id: String },
    /// One device, by the name that the issuer of the tokens gives it, or another authority.
    Device { issuer: Option<String>, id: String },
}

impl Subject {
    /// The `sub_id` claim.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Token { issuer, jti } => json!({"format": "jwt_id", "iss": issuer, "jti": jti}),
            Self::User { issuer, subject } => json!({"format": "iss_sub", "iss": issuer, "sub": subject}),
            Self::Session { id } => json!({"format": "complex", "session": {"format": "opaque", "id": id}}),
            Self::Task { id } => json!({"format": "complex", "task": {"format": "opaque", "id": id}}),
            Self::Stream { id } => json!({"format": "opaque", "id": id}),
            Self::Device { issuer: None, id } => {
                json!({"format": "complex", "device": {"format": "opaque", "id": id}})
            }
            Self::Device { issuer: Some(issuer), id } => {
                json!({"format": "complex", "device": {"format": "iss_sub", "iss": issuer, "sub": id}})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let table = [
            (
                Subject::Token { issuer: "https://jit.example".into(), jti: "tok-1".into() },
                json!({"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-1"}),
            ),
            (
                Subject::User { issuer: "https://jit.example".into(), subject: "alice".into() },
                json!({"format": "iss_sub", "iss": "https://jit.example", "sub": "alice"}),
            ),
            (
                Subject::Session { id: "sess-9".into() },
                json!({"format": "complex", "session": {"format": "opaque", "id": "sess-9"}}),
            ),
            (
                Subject::Task { id: "task-42".into() },
                json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}}),
            ),
            (
                Subject::Device { issuer: None, id: "d7".into() },
                json!({"format": "complex", "device": {"format": "opaque", "id": "d7"}}),
            ),
            (
                Subject::Device { issuer: Some("https://mdm.example".into()), id: "d7".into() },
                json!({"format": "complex", "device": {"format": "iss_sub", "iss": "https://mdm.example", "sub": "d7"}}),
            ),
        ];
        for (subject, expected) in table {
            assert_eq!(subject.to_json(), expected);
        }
    }
}
