//! Security Event Tokens (RFC 8417, profiled by SSF 1.0) pushed to us (RFC 8935): from bytes to entries of the state.

use crate::fact::{Compliance, Fact, Risk};
use crate::issuer::Issuer;
use crate::jws::{JwsError, Unverified};
use crate::key::Algorithm;
use crate::keyring::Keyring;
use crate::signature::CheckSignature;
use crate::statekey::{Kind, StateKey};
use crate::subject::{self, Member, SubjectError};
use crate::table::{Entry, MAX_CONDITIONS};
use crate::time::{Span, Timestamp};
use serde_json::{Map, Value};

/// A SET may have this many bytes.
pub const MAX_SET: usize = 64 * 1024;

/// How far a transmitter's clock and ours may lie apart.
const CLOCK_SKEW: Span = Span(60);

const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const DEVICE_COMPLIANCE: &str = "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";
const RISK_LEVEL: &str = "https://schemas.openid.net/secevent/caep/event-type/risk-level-change";
const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";

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
}

/// A signal whose signature, type, issuer and audience were checked. Only [`read`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    transmitter: String,
    id: String,
    event: String,
    issued_at: Timestamp,
    entries: Vec<Entry>,
}

impl Signal {
    /// `iat`.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

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

/// The registered error codes (RFC 8935 §7.1).
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
}

impl SetErrorCode {
    /// Every code.
    pub const ALL: [SetErrorCode; 7] = [
        SetErrorCode::InvalidRequest,
        SetErrorCode::InvalidKey,
        SetErrorCode::InvalidIssuer,
        SetErrorCode::InvalidAudience,
        SetErrorCode::AuthenticationFailed,
        SetErrorCode::AccessDenied,
        SetErrorCode::KeysUnavailable,
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
        }
    }

    /// An error of this code.
    pub fn because(self, description: impl Into<String>) -> SetError {
        SetError { code: self, description: description.into() }
    }
}

use SetErrorCode::KeysUnavailable;
use SetErrorCode::{AccessDenied, AuthenticationFailed, InvalidAudience, InvalidIssuer, InvalidKey, InvalidRequest};

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
    let (event, payload) = single_event(claims)?;
    let entries = entries(event, payload, claims, transmitter, issuers, now)?;
    let issued_at = issued_at(claims)?;
    Ok(Signal { transmitter: transmitter.name.clone(), id, event: event.to_owned(), issued_at, entries })
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

fn entries(
    event: &str,
    payload: &Map<String, Value>,
    claims: &Map<String, Value>,
    transmitter: &Transmitter,
    issuers: &[Issuer],
    now: Timestamp,
) -> Result<Vec<Entry>, SetError> {
    let Some(meaning) = meaning(event, payload)? else {
        // SETs are not commands: what does not interest us is still received (RFC 8935 §2).
        return Ok(Vec::new());
    };
    let at = event_time(payload, claims, now)?;
    let sub_id = claims.get("sub_id").ok_or_else(|| InvalidRequest.because("sub_id is missing"))?;
    let names: Vec<String> = transmitter.subjects.iter().map(|(name, _)| name.clone()).collect();
    let members = subject::members(sub_id, &names).map_err(|error| match error {
        SubjectError::ForeignIssuer => AccessDenied.because(error.to_string()),
        SubjectError::Malformed | SubjectError::Format(_) | SubjectError::Member(_) => {
            InvalidRequest.because(printable(&error.to_string()))
        }
    })?;
    if members.len() > MAX_CONDITIONS {
        return Err(InvalidRequest.because(format!("a subject may have {MAX_CONDITIONS} members")));
    }
    if meaning == Meaning::Completed && !members.iter().any(|member| member.kind == Kind::Task) {
        return Err(InvalidRequest.because("sub_id of task-completed has no member `task`"));
    }
    if matches!(meaning, Meaning::Is(Fact::Device(_), _)) && !members.iter().any(|member| member.kind == Kind::Device) {
        return Err(InvalidRequest.because("sub_id of device-compliance-change has no member `device`"));
    }
    let mut entries = Vec::new();
    for (at_issuer, (_, place)) in transmitter.subjects.iter().enumerate() {
        // All members of a subject describe one principal, so they are of one issuer.
        let own = |member: &Member| member.keys.iter().find(|(at, _)| *at == at_issuer).map(|(_, key)| *key);
        let (Some(keys), Some(issuer)) = (members.iter().map(own).collect::<Option<Vec<_>>>(), issuers.get(*place))
        else {
            continue;
        };
        for (key, conditions) in places(&keys, meaning) {
            let fact = meaning.fact(key.kind());
            entries.push(Entry { key, fact, at, until: until(fact, key.kind(), now.max(at), issuer), conditions });
        }
    }
    if entries.is_empty() {
        return Err(InvalidRequest.because("the members of sub_id name different issuers"));
    }
    Ok(entries)
}

/// Under which keys an event about all of `keys` is kept, and with which conditions.
///
/// What ends grants stands under the most selective member, the others being conditions. A grant may lack that member,
/// and is hit all the same (SSF 1.0 §8.1.3.1); so there is an entry for such grants under the next member too, which is
/// the same for every value of the first. A word about a device or a risk is about that one principal alone, so that
/// the next word about it replaces it whoever else is named beside it.
fn places(keys: &[StateKey], meaning: Meaning) -> Vec<(StateKey, Vec<StateKey>)> {
    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| selectivity(key.kind()));
    if let Meaning::Is(_, principal) = meaning {
        let named = keys.iter().find(|key| Some(key.kind()) == principal);
        return named.or(keys.first()).map(|key| (*key, Vec::new())).into_iter().collect();
    }
    let mut places = Vec::new();
    let mut absent = Vec::new();
    let mut rest = keys.as_slice();
    while let Some((key, others)) = rest.split_first() {
        places.push((*key, absent.iter().chain(others).copied().collect()));
        if key.kind().is_universal() {
            break;
        }
        absent.push(StateKey::absent(key.kind()));
        rest = others;
    }
    places
}

fn selectivity(kind: Kind) -> u8 {
    match kind {
        Kind::Token => 0,
        Kind::Task => 1,
        Kind::Session => 2,
        Kind::Device => 3,
        Kind::Actor => 4,
        Kind::User => 5,
        Kind::Client => 6,
        Kind::Tenant => 7,
    }
}

/// What an event is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Revoked,
    Completed,
    /// A fact about the principal of that kind, or about the most selective member where none is named.
    Is(Fact, Option<Kind>),
}

impl Meaning {
    /// What it leaves behind under a key of `kind`. Ending what can begin anew is a cut-off.
    fn fact(self, kind: Kind) -> Fact {
        match (self, kind) {
            (Meaning::Is(fact, _), _) => fact,
            (_, Kind::User | Kind::Client | Kind::Actor | Kind::Device | Kind::Tenant) => Fact::CutOff,
            (Meaning::Completed, _) => Fact::Completed,
            (Meaning::Revoked, Kind::Token | Kind::Task | Kind::Session) => Fact::Revoked,
        }
    }
}

/// When no token that `fact` can hit can be alive any more.
fn until(fact: Fact, kind: Kind, from: Timestamp, issuer: &Issuer) -> Timestamp {
    match (fact, kind) {
        // The latest word about a device or a risk stands until there is a later one, or nobody is left that it is about.
        (Fact::Device(_) | Fact::Risk(_), Kind::Token | Kind::Task | Kind::Session) => {
            from.plus(issuer.session_retention())
        }
        (Fact::Device(_) | Fact::Risk(_), _) => Timestamp::MAX,
        (Fact::Revoked | Fact::Completed | Fact::CutOff, Kind::Token) => from.plus(issuer.token_retention()),
        (Fact::Revoked | Fact::Completed | Fact::CutOff, _) => from.plus(issuer.session_retention()),
    }
}

fn meaning(event: &str, payload: &Map<String, Value>) -> Result<Option<Meaning>, SetError> {
    let level = |name: &str| payload.get(name).and_then(Value::as_str);
    Ok(Some(match event {
        SESSION_REVOKED => Meaning::Revoked,
        TASK_COMPLETED => Meaning::Completed,
        DEVICE_COMPLIANCE => {
            let status = level("current_status").and_then(Compliance::from_word);
            let status =
                status.ok_or_else(|| InvalidRequest.because("current_status is not compliant or not-compliant"))?;
            Meaning::Is(Fact::Device(status), Some(Kind::Device))
        }
        RISK_LEVEL => {
            let risk = level("current_level").and_then(Risk::from_word);
            let risk = risk.ok_or_else(|| InvalidRequest.because("current_level is not LOW, MEDIUM or HIGH"))?;
            let principal = match level("principal") {
                Some("USER") => Some(Kind::User),
                Some("DEVICE") => Some(Kind::Device),
                Some("SESSION") => Some(Kind::Session),
                Some("TENANT") => Some(Kind::Tenant),
                _ => None,
            };
            Meaning::Is(Fact::Risk(risk), principal)
        }
        _ => return Ok(None),
    }))
}

/// `event_timestamp`, else `toe`, else `iat`. A time in the future counts as `iat`: a cut-off ahead of time would lock
/// out sessions that are still to begin. So one SET has one time, however often and whenever it arrives.
fn event_time(
    payload: &Map<String, Value>,
    claims: &Map<String, Value>,
    now: Timestamp,
) -> Result<Timestamp, SetError> {
    let stated = [payload.get("event_timestamp"), claims.get("toe"), claims.get("iat")].into_iter().flatten().next();
    let time = stated.and_then(seconds).ok_or_else(|| {
        InvalidRequest.because("the time of the event is not in seconds since 1970 (milliseconds are not taken)")
    })?;
    let issued = issued_at(claims)?;
    let latest = now.plus(CLOCK_SKEW);
    if issued > latest {
        return Err(InvalidRequest.because("iat lies in the future"));
    }
    Ok(if time > latest { issued } else { time })
}

fn issued_at(claims: &Map<String, Value>) -> Result<Timestamp, SetError> {
    let issued = claims.get("iat").and_then(Timestamp::from_claim);
    issued.ok_or_else(|| InvalidRequest.because("iat is missing or not a time in whole seconds"))
}

/// CAEP 1.0 §2: a JSON number. A fraction of a second is cut off upwards, so that a cut-off loses nothing.
fn seconds(value: &Value) -> Option<Timestamp> {
    if let Some(time) = Timestamp::from_claim(value) {
        return Some(time);
    }
    let number = value.as_f64().filter(|number| *number > 0.0)?;
    let whole = format!("{:.0}", number.ceil()).parse().ok().map(Timestamp)?;
    Some(whole).filter(|time| *time <= Timestamp::MAX)
}

/// Keeps what the answer may carry back: printable ASCII without quotes and backslashes, at most 200 bytes.
fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, NOW, sign};
    use crate::signature::PureRust;
    use serde_json::json;

    const ISSUER: &str = "https://jit.example";

    fn transmitter() -> Transmitter {
        let issuer = fixture::issuer();
        Transmitter {
            name: "https://idp.example".to_owned(),
            audience: "https://orders.mesh/signals".to_owned(),
            algorithms: vec![Algorithm::ES256],
            keys: issuer.keys,
            authorization: None,
            subjects: vec![(ISSUER.to_owned(), 0)],
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
                conditions: vec![]
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
            ("sub_id", json!({"format": "email", "email": "a@b"})),
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
