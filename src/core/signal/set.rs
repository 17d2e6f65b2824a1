//! Reads Security Event Tokens (RFC 8417, as profiled by SSF 1.0) that are pushed (RFC 8935): from bytes to entries of
//! the state.

use crate::encoding::bytes::constant_time_eq;
use crate::encoding::secret::Secret;
use crate::index::TransmitterIndex;
use crate::jose::jws::{JwsError, Unverified};
use crate::jose::key::NoKey;
use crate::jose::signature::CheckSignature;
use crate::signal::accepted::Signal;
use crate::signal::interpret::interpret;
use crate::signal::interpret::issued_at;
use crate::signal::oddity::Oddities;
use crate::signal::set_error::SetError;
use crate::signal::set_error::SetErrorCode;
use crate::signal::transmitter::Transmitter;
use crate::time::{Span, Timestamp};
use crate::token::issuer::Issuer;
use serde_json::{Map, Value};

/// The maximum length of a SET in bytes.
pub const MAX_SET: usize = 64 * 1024;

use SetErrorCode::{AuthenticationFailed, InvalidAudience, InvalidIssuer, InvalidKey, InvalidRequest, KeysUnavailable};

/// Reads and verifies `set` at `now`. `authorization` is the header it came with. The signal is one of `transmitters`,
/// and may be about grants of `issuers`.
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
        JwsError::Opaque | JwsError::Malformed | JwsError::Critical => {
            InvalidRequest.because(format!("the body is no SET: {error}"))
        }
    })?;
    if !jws.is_typ("secevent+jwt") {
        return Err(InvalidRequest.because("typ is not secevent+jwt"));
    }
    let transmitter = authenticate(&jws, authorization, transmitters, signatures, now)?;
    interpret(jws.claims(), transmitter, issuers, now)
}

/// The streams that an unverified SET with `claims` may belong to, as indices into `transmitters`: those with its
/// `iss`, and of these the ones with its `aud` if there are any.
pub fn candidates(claims: &Map<String, Value>, transmitters: &[Transmitter]) -> Vec<TransmitterIndex> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    let all = TransmitterIndex::enumerate(transmitters);
    let mut candidates: Vec<TransmitterIndex> =
        all.filter(|(_, transmitter)| issuer == Some(&transmitter.name)).map(|(at, _)| at).collect();
    let meant = |at: &TransmitterIndex| at.of(transmitters).is_some_and(|one| check_audience(claims, one).is_ok());
    if candidates.iter().any(meant) {
        candidates.retain(meant);
    }
    candidates
}

/// The stream that the SET belongs to, after all checks that authenticate it. Several streams of one transmitter are
/// told apart by audience, then by authorization and keys.
fn authenticate<'t>(
    jws: &Unverified<'_>,
    authorization: Option<&[u8]>,
    transmitters: &'t [Transmitter],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<&'t Transmitter, SetError> {
    if jws.claims().get("iss").and_then(Value::as_str).is_none() {
        return Err(InvalidRequest.because("iss is missing or not a string"));
    }
    let mut candidates: Vec<&Transmitter> =
        candidates(jws.claims(), transmitters).into_iter().filter_map(|at| at.of(transmitters)).collect();
    if candidates.is_empty() {
        return Err(InvalidIssuer.because("iss is not a transmitter that is configured here"));
    }
    candidates.retain(|one| {
        let wanted = one.authorization.as_ref().map(Secret::reveal);
        wanted.is_none_or(|wanted| constant_time_eq(wanted.as_bytes(), authorization.unwrap_or_default()))
    });
    let mut error = AuthenticationFailed.because("the authorization header is not the one agreed for this stream");
    // Prefer a stream that has an authorization header configured to one that has none.
    let (agreed, open): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|one| one.authorization.is_some());
    for (at, transmitter) in agreed.into_iter().chain(open).enumerate() {
        let checked = check_signature(jws, transmitter, signatures, now)
            .and_then(|()| check_audience(jws.claims(), transmitter).map(|()| transmitter));
        match checked {
            Ok(transmitter) => return Ok(transmitter),
            // Prefer an error that may pass to a permanent one.
            Err(other) if at == 0 || (error.retry_after.is_none() && other.retry_after.is_some()) => error = other,
            Err(_) => {}
        }
    }
    Err(error)
}

pub(crate) fn check_signature(
    jws: &Unverified<'_>,
    transmitter: &Transmitter,
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<(), SetError> {
    let algorithm = jws.algorithm().filter(|algorithm| transmitter.algorithms.contains(algorithm));
    let algorithm = algorithm.ok_or_else(|| InvalidKey.because("alg is not one that this transmitter may use"))?;
    let keys = transmitter.keys.current(now);
    let keys = keys.ok_or_else(|| KeysUnavailable.because("the keys of this transmitter are not there yet"))?;
    let candidates = keys.candidates(jws.kid(), algorithm).map_err(|lack| match lack {
        NoKey::Unknown => unknown_key(jws, transmitter, now),
        NoKey::OtherAlgorithm => InvalidKey.because("the key is not for this alg"),
    })?;
    if candidates.iter().any(|key| signatures.check(jws, key, algorithm)) {
        return Ok(());
    }
    match candidates.is_named() {
        true => Err(AuthenticationFailed.because("the signature is not by the key that kid names")),
        false => Err(unknown_key(jws, transmitter, now)),
    }
}

/// The error for an unknown key. The key may be newer than the keys that were last fetched, and a permanent refusal
/// would lose the SET. So the refusal is permanent only if the keys were fetched recently and after the SET was issued;
/// the transmitter's clock may be behind.
fn unknown_key(jws: &Unverified<'_>, transmitter: &Transmitter, now: Timestamp) -> SetError {
    let made = issued_at(jws.claims(), &mut Oddities::default()).unwrap_or_default();
    let lately = transmitter.keys.source().map_or(Span(0), |source| source.refetch);
    match transmitter.keys.fetched_at() {
        Some(fetched) if fetched <= made || now.since(fetched) > lately => {
            KeysUnavailable.because("the key that signed it is not here yet")
        }
        _ => InvalidKey.because("it is signed by no key of this transmitter"),
    }
}

fn check_audience(claims: &Map<String, Value>, transmitter: &Transmitter) -> Result<(), SetError> {
    match is_meant(claims, &transmitter.audiences) {
        true => Ok(()),
        false => Err(InvalidAudience.because("aud does not name this receiver")),
    }
}

/// Whether `aud` contains one of `audiences`.
pub(crate) fn is_meant(claims: &Map<String, Value>, audiences: &[String]) -> bool {
    let is_audience = |value: &Value| audiences.iter().any(|known| value.as_str() == Some(known));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(is_audience),
        Some(value) => is_audience(value),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::signature::PureRust;
    use crate::keys::keyring::Keyring;
    use crate::signal::permissions::Permissions;
    use crate::state::bucket::Entry;
    use crate::state::bucket::SourceTag;
    use crate::state::fact::{Compliance, Fact, Risk};
    use crate::state::freshness::TransmitterId;
    use crate::state::key::Kind;
    use crate::state::key::StateKey;
    use crate::testing::fixture::{self, NOW, sign};
    use crate::testing::ports::TestSignatures;
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
            stream: "https://idp.example".to_owned(),
            audiences: vec!["https://orders.mesh/signals".to_owned()],
            algorithms: vec![Algorithm::ES256],
            keys: issuer.keys,
            authorization: None,
            logout_audiences: Vec::new(),
            revocation_audiences: Vec::new(),
            subjects: vec![(ISSUER.to_owned(), crate::index::IssuerIndex::new(0))],
            permissions: Permissions::default(),
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

    fn read_odd(changes: Value) -> Signal {
        let set = set(json!({}), changes);
        // Times of odd shapes are not about signatures.
        let mut trusting = TestSignatures { trusting: true, ..TestSignatures::default() };
        read(set.as_bytes(), None, &[transmitter()], &[fixture::issuer()], &mut trusting, NOW).unwrap()
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
                data: vec![],
                source: SourceTag::NONE,
                lifted: false
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
        assert_eq!(signal.entries()[0].until, NOW.plus(Span::hours(30 * 24)));

        let user = json!({"format": "iss_sub", "iss": ISSUER, "sub": "alice"});
        let events = json!({RISK_LEVEL: {"principal": "USER", "current_level": "HIGH"}});
        let signal = read_set(json!({}), json!({"events": events, "sub_id": user})).unwrap();
        assert_eq!(signal.entries()[0].fact, Fact::Risk(Risk::High));

        assert_eq!(code(json!({}), json!({"events": {RISK_LEVEL: {"current_level": "most"}}})), "invalid_request");
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
            ("jti", json!(fixture::ABSENT)),
            ("jti", json!(null)),
            ("jti", json!("x".repeat(1025))),
            ("events", json!({})),
            ("events", json!([])),
            ("events", json!({SESSION_REVOKED: {}, TASK_COMPLETED: {}})),
            ("events", json!({TASK_COMPLETED: {}})),
            ("sub_id", json!(fixture::ABSENT)),
            ("sub_id", json!({"format": "email", "email": "a@b", "name": "a"})),
            ("sub_id", json!({"format": "complex", "user": 1, "org": 1})),
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
            read_odd(claims).entries()[0].at.0
        };
        assert_eq!(at(json!({"event_timestamp": 5}), json!({"toe": 6})), 5);
        assert_eq!(at(json!({}), json!({"toe": 6})), 6);
        assert_eq!(at(json!({}), json!({})), NOW.0);
        assert_eq!(at(json!({"event_timestamp": 5.25}), json!({})), 6);
        assert_eq!(at(json!({"event_timestamp": 5.0}), json!({})), 5);
        for ahead in [1, 60, 61, 5_000_000] {
            let ahead = json!({"event_timestamp": NOW.0 + ahead});
            assert_eq!(at(ahead, json!({"iat": NOW.0 - 7})), NOW.0, "the future counts as now");
        }
        assert_eq!(at(json!({"event_timestamp": NOW.0 * 1000 - 5000}), json!({})), NOW.0 - 5);
        assert_eq!(at(json!({"event_timestamp": NOW.0 * 1000 - 4750}), json!({})), NOW.0 - 4);
        assert_eq!(at(json!({"event_timestamp": "2026-09-21T14:15:00Z"}), json!({})), 1_790_000_100);
        for unread in [json!(null), json!(0), json!(-1), json!("soon"), json!([]), json!(99_999_999_999u64)] {
            assert_eq!(at(json!({"event_timestamp": unread}), json!({"iat": NOW.0 - 7})), NOW.0 - 7, "{unread}");
            assert_eq!(at(json!({"event_timestamp": unread}), json!({"toe": 6})), 6, "{unread}");
            assert_eq!(at(json!({}), json!({"toe": unread, "iat": NOW.0 - 7})), NOW.0 - 7, "{unread}");
            assert_eq!(at(json!({}), json!({"iat": unread})), NOW.0, "{unread}");
        }
        assert_eq!(at(json!({}), json!({"iat": 1_790_000_093.25})), NOW.0 - 7);
        assert_eq!(at(json!({}), json!({"iat": NOW.0 + 500})), NOW.0);
    }

    #[test]
    fn only_a_set_that_says_when_it_was_made_proves_freshness() {
        let issued = |iat: Value| read_odd(json!({ "iat": iat })).heartbeat().issued.0;
        assert_eq!(issued(json!(NOW.0)), NOW.0);
        assert_eq!(issued(json!(NOW.0 * 1000)), NOW.0);
        assert_eq!(issued(json!(1_790_000_100.75)), NOW.0);
        assert_eq!(issued(json!(NOW.0 + 60)), NOW.0 + 60, "whoever is heard of at most now, is heard of now");
        for never in [json!(NOW.0 + 61), json!(null), json!(0), json!("soon"), json!(fixture::ABSENT)] {
            assert_eq!(issued(never.clone()), 0, "{never}");
        }
    }

    /// Two streams of one transmitter, by audience, by authorization or by keys.
    #[test]
    fn streams_of_one_transmitter_are_told_apart() {
        let stream = |name: &str, change: &dyn Fn(&mut Transmitter)| {
            let mut stream = Transmitter { stream: name.to_owned(), ..transmitter() };
            change(&mut stream);
            stream
        };
        let other_keys = || {
            let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "jit-1", "use": "sig",
                "x": "mYEbO85CQpY9hFw1PgYK966iI-Hoj2vlrWZPO8lYKvc", "y": "Pepb4sCM7j1ghmqJsbYz5-te1dlf2hmVOkVtFvbqF0M"}]});
            Keyring::inline(crate::jose::key::KeySet::from_jwks(&keys, &[Algorithm::ES256]).unwrap().0)
        };
        let with = |streams: &[Transmitter], authorization: Option<&str>, aud: Value| {
            let set = set(json!({}), json!({ "aud": aud }));
            let authorization = authorization.map(str::as_bytes);
            let signal = read(set.as_bytes(), authorization, streams, &[fixture::issuer()], &mut PureRust, NOW);
            let names = streams.iter().map(|stream| stream.stream.clone());
            signal.map_err(|error| error.code.code()).map(|signal| {
                let is = |name: &String| TransmitterId::new(name) == signal.heartbeat().transmitter;
                names.into_iter().find(is).unwrap()
            })
        };
        let by_audience = [
            stream("a", &|one| one.audiences = vec!["a".to_owned(), "a2".to_owned()]),
            stream("b", &|one| one.audiences = vec!["b".to_owned()]),
        ];
        for (aud, name) in [(json!("a"), "a"), (json!("a2"), "a"), (json!("b"), "b"), (json!(["x", "b"]), "b")] {
            assert_eq!(with(&by_audience, None, aud), Ok(name.to_owned()));
        }
        assert_eq!(with(&by_audience, None, json!("c")), Err("invalid_audience"));
        let ours = || json!("https://orders.mesh/signals");
        let by_header = [
            stream("none", &|_| {}),
            stream("a", &|one| one.authorization = Some("Bearer a".to_owned().into())),
            stream("b", &|one| one.authorization = Some("Bearer b".to_owned().into())),
        ];
        for (header, name) in
            [(Some("Bearer a"), "a"), (Some("Bearer b"), "b"), (Some("Bearer c"), "none"), (None, "none")]
        {
            assert_eq!(with(&by_header, header, ours()), Ok(name.to_owned()));
        }
        assert_eq!(with(&by_header[1..], Some("Bearer c"), ours()), Err("authentication_failed"));
        let by_keys = [stream("other", &|one| one.keys = other_keys()), stream("right", &|_| {})];
        assert_eq!(with(&by_keys, None, ours()), Ok("right".to_owned()));
        assert_eq!(with(&by_keys[..1], None, ours()), Err("authentication_failed"));
        // The agreed header of one stream is worth nothing for another.
        let both = [
            stream("a", &|one| {
                (one.audiences, one.authorization) = (vec!["a".to_owned()], Some("Bearer a".to_owned().into()))
            }),
            stream("b", &|one| {
                (one.audiences, one.authorization) = (vec!["b".to_owned()], Some("Bearer b".to_owned().into()))
            }),
        ];
        assert_eq!(with(&both, Some("Bearer b"), json!("a")), Err("authentication_failed"));
    }

    #[test]
    fn an_authentic_signal_that_is_refused_is_called_by_its_names() {
        let refused = |header, changes| read_set(header, changes).unwrap_err().origin;
        let foreign = json!({"format": "jwt_id", "iss": "https://other", "jti": "t"});
        let origin = refused(json!({}), json!({ "sub_id": foreign })).unwrap();
        assert_eq!(
            (origin.transmitter.as_str(), origin.id.as_str(), origin.event.as_str()),
            ("https://idp.example", "set-1", SESSION_REVOKED)
        );
        assert!(refused(json!({}), json!({"jti": null})).is_some());
        assert!(refused(json!({}), json!({"events": {}})).is_some());
        assert!(refused(json!({"kid": "x"}), json!({})).is_none(), "nobody knows whose it is");
        assert!(refused(json!({}), json!({"aud": "them"})).is_none());
    }
}
