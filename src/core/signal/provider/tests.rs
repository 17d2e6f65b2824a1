//! Logout tokens and global token revocations, in the shapes that providers send, and what is refused.

use crate::policy::policy::Policy;
use crate::signal::provider::assertion::{Told, Way};
use crate::signal::provider::{global_revocation, logout};
use crate::signal::set_error::SetError;
use crate::state::bucket::Entry;
use crate::state::fact::Fact;
use crate::state::key::{Kind, StateKey};
use crate::testing::fixture::{self, NOW, sign};
use crate::testing::ports::TestSignatures;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const OP: &str = "https://op.example";
const URL: &str = "https://hub.example/v1/feeds/main/global-token-revocation";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn policy() -> Policy {
    let keys = json!({"inline": fixture::jwks()});
    let config = json!({
        "role": "receiver",
        "issuers": [{"issuer": OP, "audiences": ["api"], "keys": keys, "claims": {"subjects": {"email": "email"}}}],
        "signals": {"transmitters": [
            {"issuer": OP, "audience": "sets", "keys": keys},
            {"issuer": OP, "keys": keys, "logout_audience": ["web", "mobile"],
             "revocation_audience": URL}
        ]}
    });
    crate::config::load::load_feed(config.to_string().as_bytes()).unwrap().policy
}

fn merged(mut base: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value.as_str() == Some(fixture::ABSENT) {
            true => base.as_object_mut().unwrap().remove(name),
            false => base.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    base
}

fn jwt(header: Value, claims: &Value) -> String {
    sign(&merged(json!({"alg": "ES256", "kid": "jit-1"}), header), claims)
}

/// A logout token as the specification has it, with `changes`.
fn logout_token(header: Value, changes: Value) -> Result<Told, SetError> {
    let claims =
        json!({"iss": OP, "aud": "web", "iat": NOW.0 - 3, "exp": NOW.0 + 120, "jti": "l-1", "events": {EVENT: {}}});
    let token = jwt(merged(json!({"typ": "logout+jwt"}), header), &merged(claims, changes));
    read_logout(&token)
}

fn read_logout(token: &str) -> Result<Told, SetError> {
    let policy = policy();
    let mut signatures = TestSignatures::default();
    logout::read(token.as_bytes(), policy.signals().transmitters(), policy.issuers(), &mut signatures, NOW)
}

type Effect = (StateKey, Fact, u64, Vec<StateKey>);

fn effects(told: &Told) -> Vec<Effect> {
    let entries = told.signal.entries().iter();
    entries.map(|entry| (entry.key, entry.fact, entry.at.0, entry.conditions.clone())).collect()
}

fn session() -> StateKey {
    StateKey::new(Kind::Session, OP, "s-1")
}

fn alice() -> StateKey {
    StateKey::new(Kind::User, OP, "alice")
}

#[test]
fn a_session_or_all_sessions_of_a_user_end() {
    let at = NOW.0 - 3;
    let told = logout_token(json!({}), json!({"sid": "s-1"})).unwrap();
    assert_eq!(effects(&told), [(session(), Fact::Revoked, at, vec![])]);
    assert!(!told.signal.notes().is_notable(), "{:?}", told.signal.notes());
    let told = logout_token(json!({}), json!({"sub": "alice"})).unwrap();
    assert_eq!(effects(&told), [(alice(), Fact::CutOff, at, vec![])]);
    assert!(!told.signal.notes().is_notable());
}

/// Both: the session whatever `sub` is, and of tokens without a session those of the user.
#[test]
fn with_both_tokens_without_a_session_end_by_their_user() {
    let told = logout_token(json!({}), json!({"sid": "s-1", "sub": "alice"})).unwrap();
    let effects = effects(&told);
    assert!(effects.contains(&(session(), Fact::Revoked, NOW.0 - 3, vec![])), "{effects:?}");
    let without = (alice(), Fact::CutOff, NOW.0 - 3, vec![StateKey::absent(Kind::Session)]);
    assert!(effects.contains(&without), "{effects:?}");
    assert!(!told.signal.notes().is_notable(), "{:?}", told.signal.notes());
}

/// Keycloak: `typ` in the claims, and no `exp` in older versions. Auth0: `trace_id`. Others: an audience list, no `typ`.
#[test]
fn shapes_of_providers() {
    for (header, changes, odd) in [
        (json!({"typ": "JWT"}), json!({"typ": "Logout", "sub": "alice", "sid": "s-1"}), ""),
        (
            json!({"typ": "JWT"}),
            json!({"exp": fixture::ABSENT, "events": {EVENT: {}, "revoke_offline_access": true}}),
            "exp is missing",
        ),
        (json!({"typ": fixture::ABSENT}), json!({"aud": ["other", "mobile"]}), ""),
        (json!({}), json!({"trace_id": "t", "sub": "auth0|42"}), ""),
        (
            json!({"typ": "application/logout+jwt"}),
            json!({"iat": fixture::ABSENT}),
            "iat is not a time in seconds since 1970",
        ),
        (json!({}), json!({"events": {EVENT: null}}), "the event is not an object"),
        (json!({}), json!({"sid": 77, "sub": 42}), "sid is a number"),
    ] {
        let mut changes = changes;
        if changes.get("sid").is_none() {
            changes["sid"] = json!("s-1");
        }
        let told = logout_token(header.clone(), changes.clone()).unwrap();
        let oddities: Vec<&str> = told.signal.notes().oddities.iter().collect();
        assert_eq!(oddities.first().copied().unwrap_or_default(), odd, "{header} {changes}");
        let sid = if odd == "sid is a number" { StateKey::new(Kind::Session, OP, "77") } else { session() };
        assert!(effects(&told).iter().any(|(key, fact, ..)| *key == sid && *fact == Fact::Revoked), "{changes}");
    }
}

#[test]
fn what_is_no_logout_token_is_refused() {
    for (header, changes, code) in [
        (json!({}), json!({"aud": "sets"}), "invalid_audience"),
        (json!({}), json!({"aud": ["x"]}), "invalid_audience"),
        (json!({}), json!({"aud": fixture::ABSENT}), "invalid_audience"),
        (json!({}), json!({"iss": "https://other.example"}), "invalid_issuer"),
        (json!({}), json!({"nonce": "n"}), "invalid_request"),
        (json!({}), json!({"nonce": null}), "invalid_request"),
        (json!({}), json!({"events": fixture::ABSENT}), "invalid_request"),
        (json!({}), json!({"events": {"https://schemas.openid.net/event/backchannel-logout": {}}}), "invalid_request"),
        (json!({}), json!({"events": EVENT}), "invalid_request"),
        (json!({}), json!({"sid": fixture::ABSENT}), "invalid_request"),
        (json!({}), json!({"sid": ""}), "invalid_request"),
        (json!({}), json!({"jti": fixture::ABSENT}), "invalid_request"),
        (json!({}), json!({"exp": NOW.0 - 61}), "invalid_request"),
        (json!({}), json!({"nbf": NOW.0 + 61}), "invalid_request"),
        (json!({"typ": "at+jwt"}), json!({}), "invalid_request"),
        (json!({"typ": "secevent+jwt"}), json!({}), "invalid_request"),
        (json!({"alg": "none"}), json!({}), "invalid_key"),
        (json!({"alg": "HS256"}), json!({}), "invalid_key"),
        (json!({"kid": "unknown"}), json!({}), "invalid_key"),
    ] {
        let mut all = changes.clone();
        all.as_object_mut().unwrap().entry("sid").or_insert(json!("s-1"));
        let Err(refused) = logout_token(header.clone(), all) else { panic!("taken: {header} {changes}") };
        assert_eq!(refused.code.code(), code, "{header} {changes}: {refused}");
    }
    let claims = json!({"iss": OP, "aud": "web", "iat": NOW.0, "jti": "l-1", "sid": "s-1", "events": {EVENT: {}}});
    let mut forged = jwt(json!({}), &claims);
    forged.truncate(forged.rfind('.').unwrap() + 1);
    forged.push_str(&"A".repeat(86));
    assert_eq!(read_logout(&forged).unwrap_err().code.code(), "authentication_failed");
    assert_eq!(read_logout("x").unwrap_err().code.code(), "invalid_request");
}

fn revocation(header: Value, changes: Value, sub_id: Value) -> Result<Told, SetError> {
    let claims = json!({"iss": OP, "aud": URL, "iat": NOW.0, "exp": NOW.0 + 300, "jti": "g-1", "sub": "00u1"});
    let token = jwt(merged(json!({"typ": "global-token-revocation+jwt"}), header), &merged(claims, changes));
    let policy = policy();
    let (transmitters, mut signatures) = (policy.signals().transmitters(), TestSignatures::default());
    global_revocation::read(token.as_bytes(), &sub_id, transmitters, policy.issuers(), &mut signatures, NOW)
}

#[test]
fn a_revocation_cuts_a_user_off_now() {
    let iss_sub = json!({"format": "iss_sub", "iss": OP, "sub": "alice"});
    let email = json!({"format": "email", "email": "Alice@corp.example"});
    let opaque = json!({"format": "opaque", "id": "alice"});
    let by_email = StateKey::new(Kind::Email, OP, "alice@corp.example");
    for (subject, key) in [(iss_sub, alice()), (email, by_email), (opaque, alice())] {
        let told = revocation(json!({}), json!({}), subject.clone()).unwrap();
        assert_eq!(effects(&told), [(key, Fact::CutOff, NOW.0, vec![])], "{subject}");
        assert_eq!((told.signal.transmitter(), told.signal.id()), (OP, "g-1"));
    }
    for header in [json!({"typ": "JWT"}), json!({"typ": fixture::ABSENT})] {
        assert!(revocation(header, json!({}), json!({"format": "opaque", "id": "alice"})).is_ok());
    }
}

#[test]
fn a_revocation_is_refused_by_what_is_wrong() {
    let user = || json!({"format": "opaque", "id": "alice"});
    for (header, changes, subject, code) in [
        (json!({}), json!({"aud": "web"}), user(), "invalid_audience"),
        (
            json!({}),
            json!({"aud": "https://hub.example/v1/feeds/other/global-token-revocation"}),
            user(),
            "invalid_audience",
        ),
        (json!({}), json!({"iss": "https://other.example"}), user(), "invalid_issuer"),
        (json!({}), json!({"exp": fixture::ABSENT}), user(), "authentication_failed"),
        (json!({}), json!({"exp": NOW.0 - 61}), user(), "authentication_failed"),
        (json!({}), json!({"exp": NOW.0 + 90_000}), user(), "authentication_failed"),
        (json!({}), json!({"jti": fixture::ABSENT}), user(), "authentication_failed"),
        (json!({}), json!({"nonce": "n"}), user(), "authentication_failed"),
        (json!({}), json!({"events": {}}), user(), "authentication_failed"),
        (json!({"typ": "at+jwt"}), json!({}), user(), "authentication_failed"),
        (json!({"alg": "none"}), json!({}), user(), "invalid_key"),
        (json!({}), json!({}), json!("alice"), "invalid_request"),
        (json!({}), json!({}), json!({"format": "carrier-pigeon", "ring": 7}), "invalid_request"),
        (json!({}), json!({}), json!({"format": "phone_number", "phone_number": "+41790000000"}), "invalid_request"),
        (
            json!({}),
            json!({}),
            json!({"format": "iss_sub", "iss": "https://other.example", "sub": "alice"}),
            "access_denied",
        ),
    ] {
        let refused = revocation(header.clone(), changes.clone(), subject.clone()).expect_err("refused");
        assert_eq!(refused.code.code(), code, "{header} {changes} {subject}: {refused}");
    }
}

#[test]
fn each_way_has_streams_of_its_own() {
    for way in Way::ALL {
        let stream = way.stream(OP);
        assert_eq!(Way::of_stream(&stream), Some((way, OP)));
    }
    assert_eq!(Way::of_stream(OP), None);
    assert_ne!(Way::Logout.stream(OP), Way::GlobalRevocation.stream(OP));
}

/// Values that claims may have, whatever they should be.
fn odd() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![Just("web"), Just("alice"), Just(""), Just(OP), Just(URL), Just("\u{0}é")];
    prop_oneof![
        4 => texts.prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        2 => Just(json!({EVENT: {}})),
        1 => prop_oneof![Just(json!(null)), Just(json!([])), Just(json!(["web", URL])), Just(json!({"format": "opaque"}))],
    ]
}

proptest! {
    /// Whatever a provider signs: nothing panics, and what is taken is a logout of a session or a user.
    #[test]
    fn any_claims_are_a_logout_or_refused(
        changes in proptest::collection::btree_map("iss|aud|iat|exp|nbf|jti|sub|sid|events|nonce", odd(), 0..6)
    ) {
        let changes: Map<String, Value> = changes.into_iter().collect();
        let claims = json!({"iss": OP, "aud": "web", "iat": NOW.0, "jti": "l-1", "sid": "s-1", "events": {EVENT: {}}});
        let claims = merged(claims, Value::Object(changes));
        if let Ok(told) = read_logout(&jwt(json!({}), &claims)) {
            prop_assert!(claims.get("nonce").is_none() && claims["events"].get(EVENT).is_some(), "{claims}");
            prop_assert!(claims.get("sid").is_some() || claims.get("sub").is_some());
            let ends = |entry: &Entry| matches!(entry.fact, Fact::Revoked | Fact::CutOff) && entry.at <= NOW;
            prop_assert!(!told.signal.entries().is_empty() && told.signal.entries().iter().all(ends), "{claims}");
        }
    }

    #[test]
    fn any_request_is_a_revocation_of_a_user_or_refused(
        changes in proptest::collection::btree_map("iss|aud|iat|exp|nbf|jti|sub|events", odd(), 0..4),
        format in prop_oneof![Just("opaque"), Just("iss_sub"), Just("email"), Just("aliases"), Just("complex"), Just("x")],
        members in proptest::collection::btree_map("id|iss|sub|email|user|session|identifiers", odd(), 0..3),
    ) {
        let mut sub_id: Map<String, Value> = members.into_iter().collect();
        sub_id.insert("format".to_owned(), format.into());
        let changes: Map<String, Value> = changes.into_iter().collect();
        if let Ok(told) = revocation(json!({}), Value::Object(changes), Value::Object(sub_id.clone())) {
            let ends = |entry: &Entry| entry.fact == Fact::CutOff && entry.at == NOW;
            prop_assert!(!told.signal.entries().is_empty() && told.signal.entries().iter().all(ends), "{sub_id:?}");
            prop_assert!(told.signal.entries().iter().all(|entry| matches!(entry.key.kind(), Kind::User | Kind::Email)));
        }
    }
}
