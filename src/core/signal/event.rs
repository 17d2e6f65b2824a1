//! The events that are supported, and how their payloads are checked (CAEP 1.0, RISC 1.0, SSF 1.0, and those of
//! Taskfence).

use crate::encoding::json;
use crate::signal::oddity::Oddities;
use crate::state::fact::{Compliance, Risk};
use crate::state::freshness::Status;
use crate::state::key::Kind;
use crate::state::payload::PayloadError;
use crate::state::payload::split;
use crate::state::payload::within_limit;
use crate::token::carriers::Carriers;
use crate::token::carriers::Role;
use crate::token::detail::Detail;
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
const TASKFENCE: &str = "urn:taskfence:secevent:";

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

    /// The last part of its URI; the configuration uses this name.
    pub fn name(self) -> &'static str {
        self.parts().1
    }

    /// The type with that name.
    pub fn from_name(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The type with that URI.
    pub(crate) fn from_uri(uri: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|known| {
            let (base, name) = known.parts();
            uri.strip_prefix(base) == Some(name)
        })
    }

    /// Its URI.
    pub fn uri(self) -> String {
        let (base, name) = self.parts();
        format!("{base}{name}")
    }

    /// Whether it is about the stream itself and not about a subject.
    pub(crate) fn is_of_the_stream(self) -> bool {
        matches!(self, Type::Verification | Type::StreamUpdated)
    }

    /// Whether its subject may be inside the event, as in drafts of CAEP and RISC.
    pub(crate) fn may_hold_subject(self) -> bool {
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
            Type::TaskCompleted => (TASKFENCE, "task-completed"),
            Type::GrantNarrowed => (TASKFENCE, "grant-narrowed"),
        }
    }
}

/// An event, with the information that its payload adds to its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// No additional information: session-revoked, the account events of RISC, credential-compromise,
    /// session-presented, task-completed.
    Plain(Type),
    /// credential-change. `created`: a credential was added; none was removed or replaced.
    Credential {
        /// `change_type` is `create`.
        created: bool,
    },
    /// device-compliance-change, by `current_status`.
    Device(Compliance),
    /// risk-level-change.
    Risk {
        /// `current_level`.
        level: Risk,
        /// `principal`, if it is of a kind that has keys.
        principal: Option<Kind>,
        /// `previous_level` is higher than `current_level`.
        lowered: bool,
    },
    /// assurance-level-change.
    Assurance {
        /// `namespace`.
        namespace: String,
        /// `current_level`.
        level: String,
        /// `change_direction` is `increase`. Anything else may be a decrease.
        raised: bool,
    },
    /// session-established.
    Established,
    /// grant-narrowed: the data of the narrowing, see [`crate::rules::grant_changes`].
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
    /// Reads the payload of an event of type `kind`. Irregularities that have no effect go to `oddities`. Fails when
    /// the event cannot be understood; the error is written for the transmitter's operator.
    pub(crate) fn read(kind: Type, payload: &Map<String, Value>, oddities: &mut Oddities) -> Result<Event, EventError> {
        let mut payload = Payload { members: payload, oddities };
        if !kind.is_of_the_stream() {
            payload.check_common();
        }
        Ok(match kind {
            Type::SessionRevoked
            | Type::SessionPresented
            | Type::AccountDisabled
            | Type::AccountEnabled
            | Type::AccountPurged
            | Type::SessionsRevoked => Event::Plain(kind),
            Type::CredentialCompromise => {
                payload.unused("credential_type", &[]);
                Event::Plain(kind)
            }
            Type::TaskCompleted => {
                payload.unused_optional("outcome", &["success", "failure", "cancelled"]);
                Event::Plain(kind)
            }
            Type::CredentialChange => {
                payload.unused("credential_type", &[]);
                // An unknown `change_type` may have removed a credential.
                let change = payload.one_of("change_type", &["create", "revoke", "update", "delete"]);
                Event::Credential { created: change == Some("create") }
            }
            Type::DeviceComplianceChange => {
                let values = [Compliance::Compliant.as_str(), Compliance::NotCompliant.as_str()];
                payload.unused("previous_status", &values);
                let status = payload.one_of("current_status", &values).and_then(Compliance::from_name);
                Event::Device(status.ok_or(EventError::DeviceStatus)?)
            }
            Type::RiskLevelChange => payload.risk()?,
            Type::AssuranceLevelChange => Event::Assurance {
                namespace: payload.text("namespace").unwrap_or_default().to_owned(),
                level: payload.text("current_level").unwrap_or_default().to_owned(),
                raised: payload.optional("change_direction", &["increase", "decrease"]) == Some("increase"),
            },
            Type::SessionEstablished => Event::Established,
            Type::TokenClaimsChange => {
                let claims = payload.members.get("claims").and_then(Value::as_object);
                let claims = claims.filter(|claims| !claims.is_empty() && claims.len() <= MAX_CLAIMS);
                let claims = claims.ok_or(EventError::Claims)?;
                let narrowing = narrowing(claims, payload.oddities)?;
                let narrows = |name: &str| matches!(name, "scope" | "authorization_details");
                let claims = claims.iter().filter(|(name, _)| !narrows(name));
                let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
                Event::Change { narrowing, claims }
            }
            Type::GrantNarrowed => {
                let narrowing = narrowing(payload.members, payload.oddities)?;
                Event::Narrowed(narrowing.ok_or(EventError::NothingNarrowed)?)
            }
            Type::Verification => Event::Verification(match payload.members.get("state") {
                None => None,
                Some(state) => Some(state.as_str().ok_or(EventError::VerificationState)?.to_owned()),
            }),
            Type::StreamUpdated => {
                let values = [Status::Enabled.as_str(), Status::Paused.as_str(), Status::Disabled.as_str()];
                let status = payload.one_of("status", &values).and_then(Status::from_name);
                Event::Stream(status.ok_or(EventError::StreamStatus)?)
            }
        })
    }

    /// Whether it may permit something that was refused before. Such an event is applied only if nothing about it is in
    /// doubt.
    pub(crate) fn permits(&self) -> bool {
        match self {
            Event::Device(status) => *status == Compliance::Compliant,
            Event::Risk { level, lowered, .. } => *level == Risk::Low || *lowered,
            Event::Assurance { raised, .. } => *raised,
            Event::Stream(status) => *status == Status::Enabled,
            Event::Established | Event::Verification(_) => true,
            Event::Plain(_) | Event::Credential { .. } | Event::Narrowed(_) | Event::Change { .. } => false,
        }
    }
}

/// Why an event cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum EventError {
    #[error("current_status is not one of compliant, not-compliant")]
    DeviceStatus,
    #[error("current_level is not one of LOW, MEDIUM, HIGH")]
    RiskLevel,
    #[error("status is not one of enabled, paused, disabled")]
    StreamStatus,
    #[error("state is not a string")]
    VerificationState,
    #[error("claims is missing or not an object of 1 to {MAX_CLAIMS} claims")]
    Claims,
    #[error("grant-narrowed has neither scope nor authorization_details")]
    NothingNarrowed,
    #[error("scope is neither a string nor a list of strings")]
    Scope,
    #[error("authorization_details is not a list of objects of RFC 9396")]
    Details,
    #[error("a claim is not JSON")]
    ClaimNotJson,
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// The data of a narrowing. A scope may be a list of strings, as in the tokens of some issuers.
fn narrowing(members: &Map<String, Value>, oddities: &mut Oddities) -> Result<Option<Vec<u8>>, EventError> {
    if members.get("scope").is_some_and(Value::is_array) {
        oddities.note("scope is a list");
    }
    match (members.get("scope"), members.get("authorization_details")) {
        (None, None) => Ok(None),
        (scope, details) => Ok(Some(narrowing_data(scope, details)?)),
    }
}

struct Payload<'p, 'o> {
    members: &'p Map<String, Value>,
    oddities: &'o mut Oddities,
}

impl<'p> Payload<'p, '_> {
    /// CAEP 1.0 §2: members that any event may have. They have no effect.
    fn check_common(&mut self) {
        self.unused_optional("initiating_entity", &["admin", "user", "policy", "system"]);
        for name in ["reason_admin", "reason_user"] {
            let Some(reason) = self.members.get(name) else { continue };
            let is_texts = |texts: &Map<String, Value>| !texts.is_empty() && texts.values().all(Value::is_string);
            if !reason.as_object().is_some_and(is_texts) {
                self.oddities.harmless(format!("{name} is not an object of texts by language"));
            }
        }
    }

    fn risk(&mut self) -> Result<Event, EventError> {
        let values = [Risk::Low.as_str(), Risk::Medium.as_str(), Risk::High.as_str()];
        let previous = self.optional("previous_level", &values).and_then(Risk::from_name);
        let level = self.one_of("current_level", &values).and_then(Risk::from_name);
        let level = level.ok_or(EventError::RiskLevel)?;
        let principal = self.text("principal").map(str::to_ascii_uppercase);
        let principal = match principal.as_deref() {
            Some("USER") => Some(Kind::User),
            Some("DEVICE") => Some(Kind::Device),
            Some("SESSION") => Some(Kind::Session),
            Some("TENANT") => Some(Kind::Tenant),
            Some("GROUP") => Some(Kind::Group),
            _ => None,
        };
        Ok(Event::Risk { level, principal, lowered: previous.is_some_and(|previous| level < previous) })
    }

    fn text(&mut self, name: &str) -> Option<&'p str> {
        let text = self.find(name);
        if text.is_none() {
            self.oddities.fault(missing(name));
        }
        text
    }

    fn find(&self, name: &str) -> Option<&'p str> {
        self.members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Checks a member that has no effect: a string, and one of `values` if there are any.
    fn unused(&mut self, name: &str, values: &[&str]) {
        match self.find(name) {
            None => self.oddities.harmless(missing(name)),
            Some(text) if values.is_empty() || values.contains(&text) => {}
            Some(_) => self.oddities.harmless(not_one_of(name, values)),
        }
    }

    fn unused_optional(&mut self, name: &str, values: &[&str]) {
        if self.members.contains_key(name) {
            self.unused(name, values);
        }
    }

    /// The value of a member as one of `values`; letter case and separators (`-`, `_`, space) do not matter.
    fn one_of<'w>(&mut self, name: &str, values: &[&'w str]) -> Option<&'w str> {
        let text = self.text(name)?;
        let value = values.iter().find(|value| same_value(value, text)).copied();
        match value {
            Some(value) if value == text => {}
            // Another spelling of it.
            Some(_) => self.oddities.harmless(not_one_of(name, values)),
            None => self.oddities.fault(not_one_of(name, values)),
        }
        value
    }

    fn optional<'w>(&mut self, name: &str, values: &[&'w str]) -> Option<&'w str> {
        if self.members.contains_key(name) { self.one_of(name, values) } else { None }
    }
}

fn missing(name: &str) -> String {
    format!("{name} is missing or not a string")
}

fn not_one_of(name: &str, values: &[&str]) -> String {
    format!("{name} is not one of {}", values.join(", "))
}

/// Whether two spellings are the same value: `not-compliant`, `NOT_COMPLIANT`, `Not Compliant`, `notCompliant`.
fn same_value(left: &str, right: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        let letters = text.bytes().filter(|byte| !matches!(byte, b'-' | b'_' | b' '));
        letters.map(|byte| byte.to_ascii_lowercase()).collect()
    };
    letters(left) == letters(right)
}

/// The data of a narrowing, from the members `scope` and `authorization_details` of an event. The error is written for
/// the transmitter's operator.
pub(crate) fn narrowing_data(scope: Option<&Value>, details: Option<&Value>) -> Result<Vec<u8>, EventError> {
    let mut members = Map::new();
    if let Some(scope) = scope {
        members.insert("scope".to_owned(), scopes(scope).ok_or(EventError::Scope)?);
    }
    if let Some(details) = details {
        Detail::list(details).ok_or(EventError::Details)?;
        members.insert("authorization_details".to_owned(), details.clone());
    }
    Ok(within_limit(Value::Object(members).to_string().into_bytes())?)
}

/// The narrowings that the claim in `data` amounts to, if it carries scope or details, or contains claims that do: a
/// change of such a claim can only narrow the grant, never restore what an earlier one removed. If the new value lacks
/// all claims inside it that carry scope, no scope is left; details likewise. The error is written for the
/// transmitter's operator.
pub(crate) fn carried(data: &[u8], carriers: &Carriers) -> Result<Vec<Vec<u8>>, EventError> {
    let Some((name, value)) = split(data).filter(|(name, _)| carriers.inside(name).next().is_some()) else {
        return Ok(Vec::new());
    };
    let value = json::value(value).map_err(|_| EventError::ClaimNotJson)?;
    let mut narrowings = Vec::new();
    for role in [Role::Scope, Role::Details] {
        let narrowing = |value: &Value| match role {
            Role::Scope => narrowing_data(Some(value), None),
            Role::Details => narrowing_data(None, Some(value)),
        };
        let mut carrying =
            carriers.inside(name).filter(|(_, carried)| *carried == role).map(|(path, _)| path).peekable();
        if carrying.peek().is_none() {
            continue;
        }
        let before = narrowings.len();
        for path in carrying {
            let inner = path.find_in(&value).ok().flatten();
            if let Some(inner) = inner.filter(|inner| !path.is_nested() || !inner.is_null()) {
                narrowings.push(narrowing(inner)?);
            }
        }
        if narrowings.len() == before {
            narrowings.push(narrowing(&Value::Array(Vec::new()))?);
        }
    }
    Ok(narrowings)
}

/// Scope values as one string (RFC 8693 §4.2). An item of a list that is not a valid scope value is dropped.
pub(crate) fn scopes(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) => Some(value.clone()),
        Value::Array(values) => {
            let scopes = values.iter().filter_map(Value::as_str).filter(|scope| !scope.contains(' '));
            Some(scopes.collect::<Vec<_>>().join(" ").into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, payload: Value) -> Result<Event, EventError> {
        told(name, payload).0
    }

    /// What is read, and what is odd about it.
    fn told(name: &str, payload: Value) -> (Result<Event, EventError>, Vec<String>) {
        let mut oddities = Oddities::default();
        let event = Event::read(Type::from_name(name).unwrap(), payload.as_object().unwrap(), &mut oddities);
        (event, oddities.iter().map(str::to_owned).collect())
    }

    fn risk(level: Risk, principal: Option<Kind>) -> Event {
        Event::Risk { level, principal, lowered: false }
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
                risk(Risk::Low, Some(Kind::User)),
            ),
            ("risk-level-change", json!({"principal": "ORG_UNIT", "current_level": "LOW"}), risk(Risk::Low, None)),
            (
                "risk-level-change",
                json!({"principal": "GROUP", "current_level": "LOW"}),
                risk(Risk::Low, Some(Kind::Group)),
            ),
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
            assert_eq!(told(name, payload.clone()), (Ok(event), Vec::new()), "{name} {payload}");
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

    /// What steers nothing may have any shape; what steers is read in any spelling that has one meaning.
    #[test]
    fn what_is_odd_is_told_and_read() {
        let revoked = || Event::Plain(Type::SessionRevoked);
        let mut table = Vec::new();
        for name in ["reason_admin", "reason_user"] {
            for value in
                [json!("x"), json!(null), json!(""), json!({}), json!([]), json!(["x"]), json!({"en": 1}), json!(7)]
            {
                let told = format!("{name} is not an object of texts by language");
                table.push(("session-revoked", json!({ name: value }), revoked(), told));
            }
        }
        for value in [json!("Okta System"), json!("")] {
            let told = match value == json!("") {
                true => "initiating_entity is missing or not a string",
                false => "initiating_entity is not one of admin, user, policy, system",
            };
            table.push(("session-revoked", json!({"initiating_entity": value}), revoked(), told.to_owned()));
        }
        for value in [json!(null), json!(["admin"]), json!({"sub": "a"})] {
            let told = "initiating_entity is missing or not a string".to_owned();
            table.push((
                "task-completed",
                json!({"initiating_entity": value}),
                Event::Plain(Type::TaskCompleted),
                told,
            ));
        }
        let pin = |change: Value| json!({"credential_type": "pin", "change_type": change});
        let device = |status: &str| json!({"previous_status": "compliant", "current_status": status});
        let level = |level: Value| json!({"principal": "USER", "current_level": level});
        let no_change = "change_type is not one of create, revoke, update, delete";
        let no_status = "current_status is not one of compliant, not-compliant";
        let no_level = "current_level is not one of LOW, MEDIUM, HIGH";
        let bad = Event::Device(Compliance::NotCompliant);
        let high = risk(Risk::High, Some(Kind::User));
        let rows: Vec<(&str, Value, Event, &str)> = vec![
            (
                "credential-change",
                json!({"change_type": "delete"}),
                Event::Credential { created: false },
                "credential_type is missing or not a string",
            ),
            ("credential-change", pin(json!("lost")), Event::Credential { created: false }, no_change),
            ("credential-change", pin(json!("Revoke")), Event::Credential { created: false }, no_change),
            ("credential-change", pin(json!("CREATE")), Event::Credential { created: true }, no_change),
            (
                "credential-change",
                pin(json!(null)),
                Event::Credential { created: false },
                "change_type is missing or not a string",
            ),
            (
                "credential-compromise",
                json!({}),
                Event::Plain(Type::CredentialCompromise),
                "credential_type is missing or not a string",
            ),
            (
                "device-compliance-change",
                json!({"current_status": "not-compliant"}),
                bad.clone(),
                "previous_status is missing or not a string",
            ),
            (
                "device-compliance-change",
                json!({"previous_status": null, "current_status": "not-compliant"}),
                bad.clone(),
                "previous_status is missing or not a string",
            ),
            ("device-compliance-change", device("Not-Compliant"), bad.clone(), no_status),
            ("device-compliance-change", device("NOT_COMPLIANT"), bad.clone(), no_status),
            ("device-compliance-change", device("not compliant"), bad, no_status),
            ("device-compliance-change", device("Compliant"), Event::Device(Compliance::Compliant), no_status),
            (
                "risk-level-change",
                json!({"current_level": "HIGH"}),
                risk(Risk::High, None),
                "principal is missing or not a string",
            ),
            (
                "risk-level-change",
                json!({"principal": null, "current_level": "HIGH"}),
                risk(Risk::High, None),
                "principal is missing or not a string",
            ),
            ("risk-level-change", level(json!("high")), high.clone(), no_level),
            ("risk-level-change", level(json!("Low")), risk(Risk::Low, Some(Kind::User)), no_level),
            (
                "risk-level-change",
                json!({"principal": "USER", "current_level": "HIGH", "previous_level": 1}),
                high.clone(),
                "previous_level is missing or not a string",
            ),
            (
                "risk-level-change",
                json!({"principal": "USER", "current_level": "HIGH", "previous_level": "low"}),
                high,
                "previous_level is not one of LOW, MEDIUM, HIGH",
            ),
            (
                "assurance-level-change",
                json!({"namespace": "NIST-AAL"}),
                Event::Assurance { namespace: "NIST-AAL".into(), level: String::new(), raised: false },
                "current_level is missing or not a string",
            ),
            (
                "assurance-level-change",
                json!({"current_level": "y"}),
                Event::Assurance { namespace: String::new(), level: "y".into(), raised: false },
                "namespace is missing or not a string",
            ),
            (
                "assurance-level-change",
                json!({"namespace": "x", "current_level": "y", "change_direction": "up"}),
                Event::Assurance { namespace: "x".into(), level: "y".into(), raised: false },
                "change_direction is not one of increase, decrease",
            ),
            (
                "task-completed",
                json!({"outcome": "great"}),
                Event::Plain(Type::TaskCompleted),
                "outcome is not one of success, failure, cancelled",
            ),
            (
                "task-completed",
                json!({"outcome": null}),
                Event::Plain(Type::TaskCompleted),
                "outcome is missing or not a string",
            ),
            (
                "stream-updated",
                json!({"status": "PAUSED"}),
                Event::Stream(Status::Paused),
                "status is not one of enabled, paused, disabled",
            ),
        ];
        table.extend(rows.into_iter().map(|(name, payload, event, told)| (name, payload, event, told.to_owned())));
        for (name, payload, event, odd) in table {
            assert_eq!(told(name, payload.clone()), (Ok(event), vec![odd]), "{name} {payload}");
        }
        let (listed, odd) = told("grant-narrowed", json!({"scope": ["a", "b"]}));
        assert_eq!(
            (listed, odd),
            (read("grant-narrowed", json!({"scope": "a b"})), vec!["scope is a list".to_owned()])
        );
    }

    #[test]
    fn what_opens_something_permits() {
        let device = |status: &str| json!({"previous_status": "compliant", "current_status": status});
        let from = |previous: Option<&str>, level: &str| json!({"principal": "USER", "previous_level": previous, "current_level": level});
        for (name, payload, permits) in [
            ("device-compliance-change", device("compliant"), true),
            ("device-compliance-change", device("not-compliant"), false),
            ("risk-level-change", from(Some("HIGH"), "LOW"), true),
            ("risk-level-change", from(Some("HIGH"), "MEDIUM"), true),
            ("risk-level-change", from(Some("LOW"), "MEDIUM"), false),
            ("risk-level-change", from(None, "MEDIUM"), false),
            ("risk-level-change", from(None, "HIGH"), false),
            (
                "assurance-level-change",
                json!({"namespace": "a", "current_level": "b", "change_direction": "increase"}),
                true,
            ),
            (
                "assurance-level-change",
                json!({"namespace": "a", "current_level": "b", "change_direction": "decrease"}),
                false,
            ),
            ("assurance-level-change", json!({"namespace": "a", "current_level": "b"}), false),
            ("session-established", json!({}), true),
            ("verification", json!({}), true),
            ("stream-updated", json!({"status": "enabled"}), true),
            ("stream-updated", json!({"status": "disabled"}), false),
            ("session-revoked", json!({}), false),
            ("token-claims-change", json!({"claims": {"a": true}}), false),
        ] {
            assert_eq!(read(name, payload.clone()).unwrap().permits(), permits, "{name} {payload}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_no_event() {
        let table = [
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
            (
                "device-compliance-change",
                json!({"previous_status": "compliant", "current_status": "x"}),
                "current_status is not one of compliant, not-compliant",
            ),
            ("device-compliance-change", json!({}), "current_status is not one of compliant, not-compliant"),
            (
                "risk-level-change",
                json!({"principal": "USER", "current_level": "SEVERE"}),
                "current_level is not one of LOW, MEDIUM, HIGH",
            ),
            ("verification", json!({"state": 1}), "state is not a string"),
            ("stream-updated", json!({"status": "resting"}), "status is not one of enabled, paused, disabled"),
        ];
        for (name, payload, message) in table {
            assert_eq!(
                read(name, payload.clone()).map_err(|error| error.to_string()),
                Err(message.to_owned()),
                "{name} {payload}"
            );
        }
    }
}
