//! The events that are understood, and the checks of what they say (CAEP 1.0, RISC 1.0, SSF 1.0, and ours).

use crate::change;
use crate::fact::{Compliance, Risk};
use crate::freshness::Status;
use crate::statekey::Kind;
use crate::time::Timestamp;
use serde_json::{Map, Value};

/// One token-claims-change may set this many claims.
const MAX_CLAIMS: usize = 32;

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the names of the specifications")]
pub enum Type {
    SessionRevoked,
    TokenClaimsChange,
    CredentialChange,
    AssuranceLevelChange,
    DeviceComplianceChange,
    SessionEstablished,
    SessionPresented,
    RiskLevelChange,
    AccountDisabled,
    AccountEnabled,
    AccountPurged,
    CredentialCompromise,
    SessionsRevoked,
    Verification,
    StreamUpdated,
    TaskCompleted,
    GrantNarrowed,
}

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
const OURS: &str = "urn:taskfence:secevent:";

impl Type {
    /// Every type.
    pub const ALL: [Type; 17] = [
        Type::SessionRevoked,
        Type::TokenClaimsChange,
        Type::CredentialChange,
        Type::AssuranceLevelChange,
        Type::DeviceComplianceChange,
        Type::SessionEstablished,
        Type::SessionPresented,
        Type::RiskLevelChange,
        Type::AccountDisabled,
        Type::AccountEnabled,
        Type::AccountPurged,
        Type::CredentialCompromise,
        Type::SessionsRevoked,
        Type::Verification,
        Type::StreamUpdated,
        Type::TaskCompleted,
        Type::GrantNarrowed,
    ];

    /// The last part of its URI, which is its name in the configuration.
    pub fn name(self) -> &'static str {
        self.parts().1
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The type of that URI.
    pub fn from_uri(uri: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|known| {
            let (base, name) = known.parts();
            uri.strip_prefix(base) == Some(name)
        })
    }

    /// Whether it is about the stream and not about a grant.
    pub fn is_of_the_stream(self) -> bool {
        matches!(self, Type::Verification | Type::StreamUpdated)
    }

    /// Whether it may carry its subject inside, as drafts of CAEP and RISC had it.
    pub fn may_hold_subject(self) -> bool {
        matches!(self.parts().0, CAEP | RISC)
    }

    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Type::SessionRevoked => (CAEP, "session-revoked"),
            Type::TokenClaimsChange => (CAEP, "token-claims-change"),
            Type::CredentialChange => (CAEP, "credential-change"),
            Type::AssuranceLevelChange => (CAEP, "assurance-level-change"),
            Type::DeviceComplianceChange => (CAEP, "device-compliance-change"),
            Type::SessionEstablished => (CAEP, "session-established"),
            Type::SessionPresented => (CAEP, "session-presented"),
            Type::RiskLevelChange => (CAEP, "risk-level-change"),
            Type::AccountDisabled => (RISC, "account-disabled"),
            Type::AccountEnabled => (RISC, "account-enabled"),
            Type::AccountPurged => (RISC, "account-purged"),
            Type::CredentialCompromise => (RISC, "credential-compromise"),
            Type::SessionsRevoked => (RISC, "sessions-revoked"),
            Type::Verification => (SSF, "verification"),
            Type::StreamUpdated => (SSF, "stream-updated"),
            Type::TaskCompleted => (OURS, "task-completed"),
            Type::GrantNarrowed => (OURS, "grant-narrowed"),
        }
    }
}

/// What an event says, where that is more than its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Nothing more: session-revoked, the accounts of RISC, credential-compromise, session-presented, task-completed.
    Plain(Type),
    /// credential-change. `created`: nothing was taken away or replaced.
    Credential {
        /// `change_type` is `create`.
        created: bool,
    },
    /// device-compliance-change, by `current_status`.
    Device(Compliance),
    /// risk-level-change: `current_level`, and the principal, where it is one that keys stand for.
    Risk(Risk, Option<Kind>),
    /// assurance-level-change.
    Assurance {
        /// `namespace`.
        namespace: String,
        /// `current_level`.
        level: String,
        /// `change_direction` is `increase`. What is not said to be an increase may be a decrease.
        raised: bool,
    },
    /// session-established.
    Established,
    /// grant-narrowed: the data of the narrowing, see [`crate::change`].
    Narrowed(Vec<u8>),
    /// token-claims-change.
    Change {
        /// `scope` and `authorization_details`, as the data of a narrowing.
        narrowing: Option<Vec<u8>>,
        /// The other claims, names and values.
        claims: Vec<(String, Value)>,
    },
    /// verification, with its `state`.
    Verification(Option<String>),
    /// stream-updated, by `status`.
    Stream(Status),
}

impl Event {
    /// Reads the payload of an event of type `kind`. The error is for the transmitter's operator.
    pub fn read(kind: Type, payload: &Map<String, Value>) -> Result<Event, String> {
        check_common(kind, payload)?;
        let payload = Payload { members: payload };
        Ok(match kind {
            Type::SessionRevoked
            | Type::SessionPresented
            | Type::AccountDisabled
            | Type::AccountEnabled
            | Type::AccountPurged
            | Type::SessionsRevoked => Event::Plain(kind),
            Type::CredentialCompromise => {
                payload.text("credential_type")?;
                Event::Plain(kind)
            }
            Type::TaskCompleted => {
                payload.optional("outcome", &["success", "failure", "cancelled"])?;
                Event::Plain(kind)
            }
            Type::CredentialChange => {
                payload.text("credential_type")?;
                let change = payload.one_of("change_type", &["create", "revoke", "update", "delete"])?;
                Event::Credential { created: change == "create" }
            }
            Type::DeviceComplianceChange => {
                let words = [Compliance::Compliant.word(), Compliance::NotCompliant.word()];
                payload.one_of("previous_status", &words)?;
                let status = Compliance::from_word(payload.one_of("current_status", &words)?);
                Event::Device(status.ok_or("current_status is not known")?)
            }
            Type::RiskLevelChange => {
                let words = [Risk::Low.word(), Risk::Medium.word(), Risk::High.word()];
                payload.optional("previous_level", &words)?;
                let level = Risk::from_word(payload.one_of("current_level", &words)?);
                let principal = match payload.text("principal")? {
                    "USER" => Some(Kind::User),
                    "DEVICE" => Some(Kind::Device),
                    "SESSION" => Some(Kind::Session),
                    "TENANT" => Some(Kind::Tenant),
                    _ => None,
                };
                Event::Risk(level.ok_or("current_level is not known")?, principal)
            }
            Type::AssuranceLevelChange => Event::Assurance {
                namespace: payload.text("namespace")?.to_owned(),
                level: payload.text("current_level")?.to_owned(),
                raised: payload.optional("change_direction", &["increase", "decrease"])? == Some("increase"),
            },
            Type::SessionEstablished => Event::Established,
            Type::TokenClaimsChange => {
                let claims = payload.members.get("claims").and_then(Value::as_object);
                let claims = claims.filter(|claims| !claims.is_empty() && claims.len() <= MAX_CLAIMS);
                let claims =
                    claims.ok_or_else(|| format!("claims is missing or not an object of 1 to {MAX_CLAIMS} claims"))?;
                let narrowing = narrowing(claims)?;
                let narrows = |name: &str| matches!(name, "scope" | "authorization_details");
                let claims = claims.iter().filter(|(name, _)| !narrows(name));
                let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
                Event::Change { narrowing, claims }
            }
            Type::GrantNarrowed => {
                let narrowing = narrowing(payload.members)?;
                Event::Narrowed(narrowing.ok_or("grant-narrowed has neither scope nor authorization_details")?)
            }
            Type::Verification => Event::Verification(match payload.members.get("state") {
                None => None,
                Some(state) => Some(state.as_str().ok_or("state is not a string")?.to_owned()),
            }),
            Type::StreamUpdated => {
                let status = payload.text("status").ok().and_then(Status::from_word);
                Event::Stream(status.ok_or("status is not enabled, paused or disabled")?)
            }
        })
    }
}

fn narrowing(members: &Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    match (members.get("scope"), members.get("authorization_details")) {
        (None, None) => Ok(None),
        (scope, details) => Ok(Some(change::narrowing(scope, details)?)),
    }
}

/// CAEP 1.0 §2: members that any event may have. What they say steers nothing; what is not of their shape is no event.
fn check_common(kind: Type, payload: &Map<String, Value>) -> Result<(), String> {
    if kind.is_of_the_stream() {
        return Ok(());
    }
    let payload = Payload { members: payload };
    payload.optional("initiating_entity", &["admin", "user", "policy", "system"])?;
    for name in ["reason_admin", "reason_user"] {
        let Some(reason) = payload.members.get(name) else { continue };
        let texts = reason.as_object().filter(|texts| !texts.is_empty() && texts.values().all(Value::is_string));
        texts.ok_or_else(|| format!("{name} is not an object of texts by language"))?;
    }
    Ok(())
}

struct Payload<'p> {
    members: &'p Map<String, Value>,
}

impl<'p> Payload<'p> {
    fn text(&self, name: &str) -> Result<&'p str, String> {
        let text = self.members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("{name} is missing or not a string"))
    }

    fn one_of(&self, name: &str, words: &[&str]) -> Result<&'p str, String> {
        let text = self.text(name)?;
        if words.contains(&text) { Ok(text) } else { Err(format!("{name} is not one of {}", words.join(", "))) }
    }

    fn optional(&self, name: &str, words: &[&str]) -> Result<Option<&'p str>, String> {
        if self.members.contains_key(name) { self.one_of(name, words).map(Some) } else { Ok(None) }
    }
}

/// A time in an event or of it (CAEP 1.0 §2): a JSON number of seconds. A fraction of a second is cut off upwards, so
/// that a cut-off loses nothing.
pub fn seconds(value: &Value) -> Option<Timestamp> {
    if let Some(time) = Timestamp::from_claim(value) {
        return Some(time);
    }
    let number = value.as_f64().filter(|number| *number > 0.0)?;
    let whole = format!("{:.0}", number.ceil()).parse().ok().map(Timestamp)?;
    Some(whole).filter(|time| *time <= Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, payload: Value) -> Result<Event, String> {
        Event::read(Type::from_name(name).unwrap(), payload.as_object().unwrap())
    }

    #[test]
    fn names_and_uris() {
        let uri = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
        assert_eq!(Type::from_uri(uri), Some(Type::SessionRevoked));
        assert_eq!(Type::from_uri("https://schemas.openid.net/secevent/risc/event-type/session-revoked"), None);
        assert_eq!(Type::from_uri("urn:taskfence:secevent:grant-narrowed"), Some(Type::GrantNarrowed));
        assert_eq!(Type::from_uri("session-revoked"), None);
        for kind in Type::ALL {
            assert_eq!(Type::from_name(kind.name()), Some(kind));
            assert_eq!(Type::from_uri(&format!("{}{}", kind.parts().0, kind.name())), Some(kind));
        }
    }

    #[test]
    fn each_type_says_what_it_says() {
        let table = [
            ("session-revoked", json!({}), Event::Plain(Type::SessionRevoked)),
            ("session-revoked", json!({"reason_admin": {"en": "x"}, "x": 1}), Event::Plain(Type::SessionRevoked)),
            (
                "credential-change",
                json!({"credential_type": "pin", "change_type": "delete"}),
                Event::Credential { created: false },
            ),
            (
                "credential-change",
                json!({"credential_type": "agreed", "change_type": "create"}),
                Event::Credential { created: true },
            ),
            (
                "device-compliance-change",
                json!({"previous_status": "compliant", "current_status": "not-compliant"}),
                Event::Device(Compliance::NotCompliant),
            ),
            (
                "risk-level-change",
                json!({"principal": "USER", "current_level": "LOW"}),
                Event::Risk(Risk::Low, Some(Kind::User)),
            ),
            ("risk-level-change", json!({"principal": "GROUP", "current_level": "LOW"}), Event::Risk(Risk::Low, None)),
            (
                "assurance-level-change",
                json!({"namespace": "NIST-AAL", "current_level": "nist-aal1"}),
                Event::Assurance { namespace: "NIST-AAL".into(), level: "nist-aal1".into(), raised: false },
            ),
            ("session-established", json!({"acr": "phr"}), Event::Established),
            ("credential-compromise", json!({"credential_type": "password"}), Event::Plain(Type::CredentialCompromise)),
            ("verification", json!({"state": "s"}), Event::Verification(Some("s".into()))),
            ("stream-updated", json!({"status": "paused", "reason": "x"}), Event::Stream(Status::Paused)),
            (
                "token-claims-change",
                json!({"claims": {"a": 1}}),
                Event::Change { narrowing: None, claims: vec![("a".into(), json!(1))] },
            ),
        ];
        for (name, payload, event) in table {
            assert_eq!(read(name, payload.clone()), Ok(event), "{name} {payload}");
        }
        let Ok(Event::Narrowed(one)) = read("grant-narrowed", json!({"scope": "a b"})) else { panic!() };
        let Ok(Event::Change { narrowing: Some(two), .. }) =
            read("token-claims-change", json!({"claims": {"scope": "a b"}}))
        else {
            panic!()
        };
        assert_eq!(one, two);
        let Ok(Event::Narrowed(list)) = read("grant-narrowed", json!({"scope": ["a", "b", "c d", 7]})) else {
            panic!()
        };
        assert_eq!(one, list, "what is no scope value leaves nothing");
    }

    #[test]
    fn what_is_not_of_its_shape_is_no_event() {
        let table = [
            (
                "session-revoked",
                json!({"initiating_entity": "nobody"}),
                "initiating_entity is not one of admin, user, policy, system",
            ),
            ("session-revoked", json!({"reason_admin": "x"}), "reason_admin is not an object of texts by language"),
            ("session-revoked", json!({"reason_user": {}}), "reason_user is not an object of texts by language"),
            ("token-claims-change", json!({}), "claims is missing or not an object of 1 to 32 claims"),
            ("token-claims-change", json!({"claims": {}}), "claims is missing or not an object of 1 to 32 claims"),
            ("token-claims-change", json!({"claims": {"scope": 7}}), "scope is neither a string nor a list of strings"),
            ("grant-narrowed", json!({}), "grant-narrowed has neither scope nor authorization_details"),
            (
                "grant-narrowed",
                json!({"authorization_details": {}}),
                "authorization_details is not a list of objects of RFC 9396",
            ),
            (
                "grant-narrowed",
                json!({"scope": "x".repeat(5000)}),
                "the change has more than 4096 bytes; end the grant instead",
            ),
            ("credential-change", json!({"change_type": "delete"}), "credential_type is missing or not a string"),
            (
                "credential-change",
                json!({"credential_type": "pin", "change_type": "lost"}),
                "change_type is not one of create, revoke, update, delete",
            ),
            (
                "device-compliance-change",
                json!({"current_status": "compliant"}),
                "previous_status is missing or not a string",
            ),
            (
                "device-compliance-change",
                json!({"previous_status": "compliant", "current_status": "x"}),
                "current_status is not one of compliant, not-compliant",
            ),
            ("risk-level-change", json!({"current_level": "HIGH"}), "principal is missing or not a string"),
            (
                "risk-level-change",
                json!({"principal": "USER", "current_level": "high"}),
                "current_level is not one of LOW, MEDIUM, HIGH",
            ),
            (
                "risk-level-change",
                json!({"principal": "USER", "current_level": "HIGH", "previous_level": 1}),
                "previous_level is missing or not a string",
            ),
            ("assurance-level-change", json!({"namespace": "NIST-AAL"}), "current_level is missing or not a string"),
            (
                "assurance-level-change",
                json!({"namespace": "x", "current_level": "y", "change_direction": "up"}),
                "change_direction is not one of increase, decrease",
            ),
            ("credential-compromise", json!({}), "credential_type is missing or not a string"),
            ("verification", json!({"state": 1}), "state is not a string"),
            ("stream-updated", json!({"status": "resting"}), "status is not enabled, paused or disabled"),
            ("task-completed", json!({"outcome": "great"}), "outcome is not one of success, failure, cancelled"),
        ];
        for (name, payload, message) in table {
            assert_eq!(read(name, payload.clone()), Err(message.to_owned()), "{name} {payload}");
        }
    }
}
