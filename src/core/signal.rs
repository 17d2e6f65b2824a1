//! Security Event Tokens (RFC 8417, profiled by SSF 1.0) pushed to us (RFC 8935): from bytes to entries of the state.

use crate::duplicate::Print;
use crate::effect;
use crate::event::{self, Event, Type};
use crate::freshness::Pulse;
use crate::issuer::Issuer;
use crate::jws::{JwsError, Unverified};
use crate::key::Algorithm;
use crate::keyring::Keyring;
use crate::remit::Remit;
use crate::signature::CheckSignature;
use crate::statekey::Kind;
use crate::subject::{self, Subject, SubjectError};
use crate::table::Entry;
use crate::time::{Span, Timestamp};
use serde_json::{Map, Value};

/// A SET may have this many bytes.
pub const MAX_SET: usize = 64 * 1024;

/// How far a transmitter's clock and ours may lie apart.
const CLOCK_SKEW: Span = Span(60);

/// Whoever may send signals.
#[derive(Debug)]
pub struct Transmitter {
    /// `iss` of its SETs.
    pub name: String,
    /// Must stand in `aud`.
    pub audience: String,
    /// Algorithms that its SETs may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: Keyring,
    /// The `authorization` header that its pushes must carry (RFC 8935 §3).
    pub authorization: Option<String>,
    /// Token issuers about whose subjects it may speak, by name and by place in the list of issuers.
    pub subjects: Vec<(String, usize)>,
    /// What it may say, and what that does.
    pub remit: Remit,
}

/// A signal whose signature, type, issuer and audience were checked. Only [`read`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    transmitter: String,
    id: String,
    event: String,
    pulse: Pulse,
    print: Print,
    entries: Vec<Entry>,
    notes: Notes,
}

/// What an operator should hear of in a signal that was good otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Members of its subject that were left out of account: it hits more than it may have meant to.
    pub unmatched: Vec<String>,
    /// Its subject names nothing that grants are known by.
    pub nobody: bool,
    /// Its event is said to lie in the future, and counts from when the signal was issued.
    pub future: bool,
}

impl Notes {
    /// Whether somebody should look at it.
    pub fn is_alarming(&self) -> bool {
        !self.unmatched.is_empty() || self.future
    }
}

impl Signal {
    /// `iss`.
    pub fn transmitter(&self) -> &str {
        &self.transmitter
    }

    /// `jti`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The URI of the event.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// What it leaves behind in the state. Nothing, when the event is not one that we act on.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The sign of life that it is.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// By which another of its name that says something else is known.
    pub fn print(&self) -> &Print {
        &self.print
    }

    /// What an operator should hear of.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }
}

/// Why a SET was refused: an error code of RFC 8935 §2.4 and a sentence for the transmitter's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct SetError {
    /// The code.
    pub code: SetErrorCode,
    /// The sentence. It holds no text of the SET beyond what was checked to be harmless.
    pub description: String,
}

/// The registered error codes (RFC 8935 §7.1, SSF 1.0 §8.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the registered codes")]
pub enum SetErrorCode {
    InvalidRequest,
    InvalidKey,
    InvalidIssuer,
    InvalidAudience,
    AuthenticationFailed,
    AccessDenied,
    /// Not a registered code and never sent: the keys of the transmitter are not there yet. 503, to be pushed again.
    KeysUnavailable,
    InvalidState,
}

impl SetErrorCode {
    /// Every code.
    pub const ALL: [SetErrorCode; 8] = [
        SetErrorCode::InvalidRequest,
        SetErrorCode::InvalidKey,
        SetErrorCode::InvalidIssuer,
        SetErrorCode::InvalidAudience,
        SetErrorCode::AuthenticationFailed,
        SetErrorCode::AccessDenied,
        SetErrorCode::KeysUnavailable,
        SetErrorCode::InvalidState,
    ];

    /// The code as it stands in `err`.
    pub fn code(self) -> &'static str {
        match self {
            SetErrorCode::InvalidRequest => "invalid_request",
            SetErrorCode::InvalidKey => "invalid_key",
            SetErrorCode::InvalidIssuer => "invalid_issuer",
            SetErrorCode::InvalidAudience => "invalid_audience",
            SetErrorCode::AuthenticationFailed => "authentication_failed",
            SetErrorCode::AccessDenied => "access_denied",
            SetErrorCode::KeysUnavailable => "keys_unavailable",
            SetErrorCode::InvalidState => "invalid_state",
        }
    }

    /// An error of this code.
    pub fn because(self, description: impl Into<String>) -> SetError {
        SetError { code: self, description: description.into() }
    }
}

use SetErrorCode::{
    AccessDenied, AuthenticationFailed, InvalidAudience, InvalidIssuer, InvalidKey, InvalidRequest, InvalidState,
    KeysUnavailable,
};

/// Reads and verifies `set`, which came with the header `authorization`, as a signal of one of `transmitters` about
/// grants of `issuers`, at `now`.
pub fn read(
    set: &[u8],
    authorization: Option<&[u8]>,
    transmitters: &[Transmitter],
    issuers: &[Issuer],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Signal, SetError> {
    let jws = Unverified::parse(set, MAX_SET).map_err(|error| match error {
        JwsError::TooLarge => InvalidRequest.because(format!("a SET may have {MAX_SET} bytes")),
        JwsError::Malformed | JwsError::Critical => InvalidRequest.because(format!("the body is no SET: {error}")),
    })?;
    if !jws.is_typ("secevent+jwt") {
        return Err(InvalidRequest.because("typ is not secevent+jwt"));
    }
    let transmitter = find_transmitter(&jws, transmitters)?;
    let wanted = transmitter.authorization.as_deref();
    if wanted.is_some_and(|wanted| !same(wanted.as_bytes(), authorization.unwrap_or_default())) {
        return Err(AuthenticationFailed.because("the authorization header is not the one agreed for this stream"));
    }
    let claims = jws.claims();
    let id = check_claims(claims)?;
    check_signature(&jws, transmitter, signatures, now)?;
    check_audience(claims, transmitter)?;
    let (uri, payload) = single_event(claims)?;
    let issued = issued_at(claims)?;
    if issued > now.plus(CLOCK_SKEW) {
        return Err(InvalidRequest.because("iat lies in the future"));
    }
    let mut signal = Signal {
        transmitter: transmitter.name.clone(),
        pulse: Pulse::new(&transmitter.name, issued),
        print: Print::new(&transmitter.name, &id, claims),
        id,
        event: uri.to_owned(),
        entries: Vec::new(),
        notes: Notes::default(),
    };
    if let Some(kind) = transmitter.remit.type_of(uri) {
        if !transmitter.remit.may_send(kind) {
            return Err(AccessDenied.because(format!("the transmitter may not send {}", kind.name())));
        }
        let happened = Happened { kind, payload, claims, transmitter, issuers, issued, now };
        happened.fill(&mut signal)?;
    }
    // SETs are not commands: what does not interest us is still received (RFC 8935 §2).
    Ok(signal)
}

/// An event that is understood, in a SET that is authentic.
struct Happened<'h> {
    kind: Type,
    payload: &'h Map<String, Value>,
    claims: &'h Map<String, Value>,
    transmitter: &'h Transmitter,
    issuers: &'h [Issuer],
    issued: Timestamp,
    now: Timestamp,
}

impl Happened<'_> {
    /// Writes into `signal` what the event does.
    fn fill(&self, signal: &mut Signal) -> Result<(), SetError> {
        let event = Event::read(self.kind, self.payload).map_err(|error| InvalidRequest.because(error))?;
        let sub_id = self.sub_id()?;
        let at = self.time(&mut signal.notes)?;
        match &event {
            Event::Verification(state) => return self.check_state(state.as_deref()),
            Event::Stream(status) => {
                signal.pulse.stream = Some((*status, at));
                return Ok(());
            }
            _ => {}
        }
        let issuers: Vec<&Issuer> =
            self.transmitter.subjects.iter().filter_map(|(_, place)| self.issuers.get(*place)).collect();
        let subject =
            subject::read(sub_id, &issuers, &self.transmitter.remit.critical).map_err(|error| match error {
                SubjectError::ForeignIssuer => AccessDenied.because(error.to_string()),
                _ => InvalidRequest.because(printable(&error.to_string())),
            })?;
        self.check_subject(&event, &subject)?;
        self.check_claims(&event, &issuers)?;
        let meanings =
            self.transmitter.remit.effects.meanings(&event).map_err(|error| InvalidRequest.because(error))?;
        signal.entries = effect::entries(&meanings, &subject, &issuers, at, self.now)
            .map_err(|error| InvalidRequest.because(error))?;
        if signal.entries.is_empty() && !meanings.is_empty() && !subject.alternatives.is_empty() {
            let held_back = !subject.unmatched.is_empty() || meanings.contains(&effect::Meaning::Began);
            if !held_back {
                return Err(InvalidRequest.because("the members of sub_id name different issuers"));
            }
        }
        signal.notes.nobody = subject.alternatives.is_empty();
        signal.notes.unmatched = subject.unmatched;
        Ok(())
    }

    /// `sub_id`; where the transmitter is known for it, the `subject` of an old draft in its place.
    fn sub_id(&self) -> Result<&Value, SetError> {
        let inside = self.payload.get("subject").filter(|_| self.kind.may_hold_subject());
        match (self.claims.get("sub_id"), inside) {
            (Some(sub_id), Some(inside)) if sub_id != inside => {
                Err(InvalidRequest.because("the subject inside the event is not that of sub_id"))
            }
            (Some(sub_id), _) => Ok(sub_id),
            (None, Some(inside)) if self.transmitter.remit.legacy_subject => Ok(inside),
            (None, _) => Err(InvalidRequest.because("sub_id is missing")),
        }
    }

    /// What we asked the transmitter to echo, where we asked (SSF 1.0 §8.1.4).
    fn check_state(&self, state: Option<&str>) -> Result<(), SetError> {
        match (&self.transmitter.remit.verification_state, state) {
            (Some(asked), Some(state)) if !same(asked.as_bytes(), state.as_bytes()) => {
                Err(InvalidState.because("state is not the one that was asked for"))
            }
            _ => Ok(()),
        }
    }

    fn check_subject(&self, event: &Event, subject: &Subject) -> Result<(), SetError> {
        let wanted = match event {
            Event::Plain(Type::TaskCompleted) => (Kind::Task, "task"),
            Event::Device(_) => (Kind::Device, "device"),
            _ => return Ok(()),
        };
        let names = |members: &Vec<subject::Member>| members.iter().any(|member| member.kind == wanted.0);
        if subject.alternatives.iter().all(names) && !subject.alternatives.is_empty() {
            return Ok(());
        }
        Err(InvalidRequest.because(format!("sub_id of {} has no member `{}`", self.kind.name(), wanted.1)))
    }

    fn check_claims(&self, event: &Event, issuers: &[&Issuer]) -> Result<(), SetError> {
        let Event::Change { claims, .. } = event else { return Ok(()) };
        // What a grant is may always become less.
        let narrows = |name: &str| issuers.iter().all(|issuer| issuer.carriers.role(name).is_some());
        for (name, _) in claims.iter().filter(|(name, _)| !narrows(name)) {
            if !effect::may_change(name, issuers) {
                let message = format!("no signal can change the claim {}; end the token instead", printable(name));
                return Err(InvalidRequest.because(message));
            }
            if self.transmitter.remit.claims.as_ref().is_some_and(|allowed| !allowed.contains(name)) {
                return Err(AccessDenied.because(format!("the transmitter may not change {}", printable(name))));
            }
        }
        Ok(())
    }

    /// `event_timestamp`, else `toe`, else `iat`. A time in the future counts as `iat`: a cut-off ahead of time would
    /// lock out sessions that are still to begin. So one SET has one time, however often and whenever it arrives.
    fn time(&self, notes: &mut Notes) -> Result<Timestamp, SetError> {
        let stated = [self.payload.get("event_timestamp"), self.claims.get("toe"), self.claims.get("iat")];
        let time = stated.into_iter().flatten().next().and_then(event::seconds).ok_or_else(|| {
            InvalidRequest.because("the time of the event is not in seconds since 1970 (milliseconds are not taken)")
        })?;
        notes.future = time > self.now.plus(CLOCK_SKEW);
        Ok(if notes.future { self.issued } else { time })
    }
}

/// Compares in a time that does not tell where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differ, (l, r)| differ | (l ^ r)) == 0
}

fn find_transmitter<'t>(jws: &Unverified<'_>, transmitters: &'t [Transmitter]) -> Result<&'t Transmitter, SetError> {
    let issuer = jws.claims().get("iss").and_then(Value::as_str);
    let issuer = issuer.ok_or_else(|| InvalidRequest.because("iss is missing or not a string"))?;
    let known = transmitters.iter().find(|transmitter| transmitter.name == issuer);
    known.ok_or_else(|| InvalidIssuer.because("iss is not a transmitter that is configured here"))
}

fn check_signature(
    jws: &Unverified<'_>,
    transmitter: &Transmitter,
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<(), SetError> {
    let algorithm = jws.algorithm().filter(|algorithm| transmitter.algorithms.contains(algorithm));
    let algorithm = algorithm.ok_or_else(|| InvalidKey.because("alg is not one that this transmitter may use"))?;
    let keys = transmitter.keys.current(now);
    let keys = keys.ok_or_else(|| KeysUnavailable.because("the keys of this transmitter are not there yet"))?;
    let key = jws.kid().and_then(|kid| keys.find(kid)).ok_or_else(|| unknown_key(jws, transmitter))?;
    if key.verifier(algorithm).is_none() {
        return Err(InvalidKey.because("the key is not for this alg"));
    }
    if !signatures.check(jws, key, algorithm) {
        return Err(AuthenticationFailed.because("the signature is not by the key that kid names"));
    }
    Ok(())
}

/// A key that is not there may be newer than the keys that were last fetched. To refuse its SET for good would lose it, so
/// only keys fetched after the SET was made do that.
fn unknown_key(jws: &Unverified<'_>, transmitter: &Transmitter) -> SetError {
    let made = issued_at(jws.claims()).unwrap_or_default();
    match transmitter.keys.fetched_at() {
        Some(fetched) if fetched <= made => KeysUnavailable.because("kid names a key that is not here yet"),
        _ => InvalidKey.because("kid names no key of this transmitter"),
    }
}

fn check_audience(claims: &Map<String, Value>, transmitter: &Transmitter) -> Result<(), SetError> {
    let ours = |value: &Value| value.as_str() == Some(&transmitter.audience);
    let meant = match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(ours),
        Some(value) => ours(value),
        None => false,
    };
    if meant { Ok(()) } else { Err(InvalidAudience.because("aud does not name this receiver")) }
}

/// RFC 8417 §2.2 and SSF 1.0 §4: what must be there and what must not. Returns `jti`.
fn check_claims(claims: &Map<String, Value>) -> Result<String, SetError> {
    for forbidden in ["sub", "exp"] {
        if claims.contains_key(forbidden) {
            return Err(InvalidRequest.because(format!("{forbidden} must not stand in a SET")));
        }
    }
    issued_at(claims)?;
    let id = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty() && id.len() <= 1024);
    id.map(str::to_owned).ok_or_else(|| InvalidRequest.because("jti is missing or not a string of at most 1024 bytes"))
}

fn single_event(claims: &Map<String, Value>) -> Result<(&str, &Map<String, Value>), SetError> {
    let events = claims.get("events").and_then(Value::as_object);
    let mut events = events.ok_or_else(|| InvalidRequest.because("events is missing or not an object"))?.iter();
    match (events.next(), events.next()) {
        (Some((uri, Value::Object(payload))), None) => Ok((uri, payload)),
        (Some(_), None) => Err(InvalidRequest.because("the event is not an object")),
        (None, _) => Err(InvalidRequest.because("events is empty")),
        (Some(_), Some(_)) => Err(InvalidRequest.because("events holds more than one event")),
    }
}

fn issued_at(claims: &Map<String, Value>) -> Result<Timestamp, SetError> {
    let issued = claims.get("iat").and_then(Timestamp::from_claim);
    issued.ok_or_else(|| InvalidRequest.because("iat is missing or not a time in whole seconds"))
}

/// Keeps what the answer may carry back: printable ASCII without quotes and backslashes, at most 200 bytes.
fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Compliance, Fact, Risk};
    use crate::fixture::{self, NOW, sign};
    use crate::signature::PureRust;
    use crate::statekey::StateKey;
    use serde_json::json;

    const ISSUER: &str = "https://jit.example";
    const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
    const DEVICE_COMPLIANCE: &str = "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";
    const RISK_LEVEL: &str = "https://schemas.openid.net/secevent/caep/event-type/risk-level-change";
    const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";

    fn transmitter() -> Transmitter {
        let issuer = fixture::issuer();
        Transmitter {
            name: "https://idp.example".to_owned(),
            audience: "https://orders.mesh/signals".to_owned(),
            algorithms: vec![Algorithm::ES256],
            keys: issuer.keys,
            authorization: None,
            subjects: vec![(ISSUER.to_owned(), 0)],
            remit: Remit::default(),
        }
    }

    fn set(header: Value, changes: Value) -> String {
        let mut head = json!({"alg": "ES256", "typ": "secevent+jwt", "kid": "jit-1"});
        let mut body = json!({
            "iss": "https://idp.example", "aud": "https://orders.mesh/signals", "iat": NOW.0, "jti": "set-1",
            "sub_id": {"format": "jwt_id", "iss": ISSUER, "jti": "tok-1"},
            "events": {SESSION_REVOKED: {"event_timestamp": NOW.0 - 5}}
        });
        for (target, changes) in [(&mut head, header), (&mut body, changes)] {
            for (name, value) in changes.as_object().unwrap() {
                match value.as_str() == Some(fixture::ABSENT) {
                    true => target.as_object_mut().unwrap().remove(name),
                    false => target.as_object_mut().unwrap().insert(name.clone(), value.clone()),
                };
            }
        }
        sign(&head, &body)
    }

    fn read_set(header: Value, changes: Value) -> Result<Signal, SetError> {
        read(set(header, changes).as_bytes(), None, &[transmitter()], &[fixture::issuer()], &mut PureRust, NOW)
    }

    fn code(header: Value, changes: Value) -> &'static str {
        read_set(header, changes).expect_err("refused").code.code()
    }

    #[test]
    fn a_revoked_token() {
        let signal = read_set(json!({}), json!({})).unwrap();
        let retention = fixture::issuer().token_retention();
        assert_eq!(
            signal.entries(),
            [Entry {
                key: StateKey::new(Kind::Token, ISSUER, "tok-1"),
                fact: Fact::Revoked,
                at: Timestamp(NOW.0 - 5),
                until: NOW.plus(retention),
                conditions: vec![],
                data: vec![]
            }]
        );
    }

    #[test]
    fn a_completed_task_and_a_cut_off_user() {
        let events = json!({TASK_COMPLETED: {"event_timestamp": NOW.0, "outcome": "success"}});
        let task = json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}});
        let signal = read_set(json!({}), json!({"events": events, "sub_id": task})).unwrap();
        assert_eq!(signal.entries()[0].fact, Fact::Completed);
        assert_eq!(signal.entries()[0].key, StateKey::new(Kind::Task, ISSUER, "task-42"));

        let user = json!({"format": "iss_sub", "iss": ISSUER, "sub": "alice"});
        let signal = read_set(json!({}), json!({ "sub_id": user })).unwrap();
        assert_eq!(signal.entries()[0].fact, Fact::CutOff);

        let both = json!({"format": "complex", "user": user, "session": {"format": "opaque", "id": "s"}});
        let signal = read_set(json!({}), json!({ "sub_id": both })).unwrap();
        let (session, user) = (StateKey::new(Kind::Session, ISSUER, "s"), StateKey::new(Kind::User, ISSUER, "alice"));
        let mut under: Vec<_> = signal.entries().iter().map(|e| (e.key, e.fact, e.conditions.clone())).collect();
        under.sort_by_key(|(key, ..)| key.kind() == Kind::User);
        let no_session = StateKey::absent(Kind::Session);
        assert_eq!(under, [(session, Fact::Revoked, vec![user]), (user, Fact::CutOff, vec![no_session])]);
    }

    #[test]
    fn device_and_risk_changes_are_facts() {
        let device = json!({"format": "complex", "device": {"format": "opaque", "id": "d7"}, "user": {"format": "opaque", "id": "alice"}});
        let events = json!({DEVICE_COMPLIANCE: {"previous_status": "compliant", "current_status": "not-compliant"}});
        let signal = read_set(json!({}), json!({"events": events, "sub_id": device})).unwrap();
        let keys: Vec<_> = signal.entries().iter().map(|entry| entry.key).collect();
        assert_eq!(keys, [StateKey::foreign(Kind::Device, ISSUER, ISSUER, "d7")], "whoever is named beside it");
        assert_eq!(signal.entries()[0].fact, Fact::Device(Compliance::NotCompliant));
        assert_eq!(signal.entries()[0].until, Timestamp::MAX);

        let user = json!({"format": "iss_sub", "iss": ISSUER, "sub": "alice"});
        let events = json!({RISK_LEVEL: {"principal": "USER", "current_level": "HIGH"}});
        let signal = read_set(json!({}), json!({"events": events, "sub_id": user})).unwrap();
        assert_eq!(signal.entries()[0].fact, Fact::Risk(Risk::High));

        assert_eq!(code(json!({}), json!({"events": {RISK_LEVEL: {"current_level": "high"}}})), "invalid_request");
        assert_eq!(code(json!({}), json!({"events": {DEVICE_COMPLIANCE: {}}})), "invalid_request");
    }

    #[test]
    fn unknown_events_are_received_and_do_nothing() {
        let signal = read_set(json!({}), json!({"events": {"urn:example:other": {}}})).unwrap();
        assert_eq!(signal.entries(), []);
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(code(json!({"typ": "JWT"}), json!({})), "invalid_request");
        assert_eq!(code(json!({"typ": "at+jwt"}), json!({})), "invalid_request");
        assert_eq!(code(json!({"alg": "none"}), json!({})), "invalid_key");
        assert_eq!(code(json!({"alg": "HS256"}), json!({})), "invalid_key");
        assert_eq!(code(json!({"kid": "x"}), json!({})), "invalid_key");
        assert_eq!(code(json!({}), json!({"iss": "https://other"})), "invalid_issuer");
        assert_eq!(code(json!({}), json!({"aud": "https://other"})), "invalid_audience");
        assert_eq!(code(json!({}), json!({"aud": fixture::ABSENT})), "invalid_audience");
        for (claim, value) in [
            ("exp", json!(NOW.0 + 5)),
            ("sub", json!("alice")),
            ("jti", json!(fixture::ABSENT)),
            ("iat", json!(fixture::ABSENT)),
            ("iat", json!("now")),
            ("events", json!({})),
            ("events", json!([])),
            ("events", json!({SESSION_REVOKED: 1})),
            ("events", json!({SESSION_REVOKED: {}, TASK_COMPLETED: {}})),
            ("events", json!({SESSION_REVOKED: {"event_timestamp": 1_790_000_000_000u64}})),
            ("events", json!({SESSION_REVOKED: {"event_timestamp": "1790000000"}})),
            ("events", json!({TASK_COMPLETED: {}})),
            ("sub_id", json!(fixture::ABSENT)),
            ("sub_id", json!({"format": "email", "email": "a@b", "name": "a"})),
            ("sub_id", json!({"format": "complex", "user": {"format": "opaque", "id": "u"}, "org": 1})),
        ] {
            assert_eq!(code(json!({}), json!({ claim: value.clone() })), "invalid_request", "{claim} {value}");
        }
        let foreign = json!({"format": "jwt_id", "iss": "https://other", "jti": "t"});
        assert_eq!(code(json!({}), json!({ "sub_id": foreign })), "access_denied");
        let tampered = set(json!({}), json!({})).replacen('.', ".e30", 1);
        assert!(read(tampered.as_bytes(), None, &[transmitter()], &[fixture::issuer()], &mut PureRust, NOW).is_err());
        let mut forged = set(json!({}), json!({}));
        forged.truncate(forged.rfind('.').unwrap() + 1);
        forged.push_str(&"A".repeat(86));
        let error =
            read(forged.as_bytes(), None, &[transmitter()], &[fixture::issuer()], &mut PureRust, NOW).unwrap_err();
        assert_eq!(error.code, AuthenticationFailed);
    }

    #[test]
    fn the_time_of_an_event() {
        let at = |payload: Value, claims: Value| {
            let mut claims = claims;
            claims["events"] = json!({ SESSION_REVOKED: payload });
            read_set(json!({}), claims).unwrap().entries()[0].at.0
        };
        assert_eq!(at(json!({"event_timestamp": 5}), json!({"toe": 6})), 5);
        assert_eq!(at(json!({}), json!({"toe": 6})), 6);
        assert_eq!(at(json!({}), json!({})), NOW.0);
        assert_eq!(at(json!({"event_timestamp": 5.25}), json!({})), 6);
        assert_eq!(at(json!({"event_timestamp": 5.0}), json!({})), 5);
        let ahead = json!({"event_timestamp": NOW.0 + 61});
        assert_eq!(at(ahead, json!({"iat": NOW.0 - 7})), NOW.0 - 7, "the future counts as iat");
        assert_eq!(code(json!({}), json!({"iat": NOW.0 + 61})), "invalid_request");
        assert_eq!(at(json!({"event_timestamp": NOW.0 + 60}), json!({})), NOW.0 + 60);
    }
}
