//! SETs as real transmitters write them, sent through the receiver and the judge: with its profile and without. What ends
//! a grant is applied in both cases; what permits something needs the profile where the SET deviates.

use crate::reason::Reason;
use crate::testing::fixture::NOW;
use crate::testing::signal_semantics::{CAEP, Harness, JIT, RISC, caep, complex, opaque, set, user};
use serde_json::{Value, json};

/// The name under which a provider signals, where that is not the one of its tokens.
const ORG: &str = "https://corp.idp.example";

fn with_profile(profile: &str) -> Harness {
    Harness::with(|config| {
        config["signals"]["transmitters"][0]["profile"] = json!(profile);
        config["signals"]["transmitters"][0]["subject_issuers"] = json!({ ORG: JIT });
        config["issuers"][0]["claims"]["subjects"]["opaque"] = json!("session");
        config["issuers"][0]["claims"]["tenant"] = json!("tid");
    })
}

/// `claims` without `sub_id`, and with `subject` inside the event.
fn inside(mut claims: Value, subject: Value) -> Value {
    claims.as_object_mut().unwrap().remove("sub_id");
    for event in claims["events"].as_object_mut().unwrap().values_mut() {
        event["subject"] = subject.clone();
    }
    claims
}

fn with(mut claims: Value, changes: Value) -> Value {
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

/// SETs that end a grant: the profile, what is particular about it, the claims, the token that ends, and why.
fn revocations() -> Vec<(&'static str, &'static str, Value, Value, Reason)> {
    let alice = || json!({"iss": ORG, "sub": "alice", "format": "iss_sub"});
    let revoked = |payload: Value| set("1", &caep("session-revoked"), payload, Value::Null);
    let milliseconds = NOW.0 * 1_000 - 5_000;
    let okta = json!({"event_timestamp": milliseconds, "initiating_entity": "Okta System", "reason_admin": "policy"});
    let plain = || json!({});
    vec![
        (
            "okta",
            "a complex subject without format, a time in milliseconds, texts without a language",
            inside(revoked(okta.clone()), json!({"user": alice(), "tenant": {"format": "opaque", "id": "t-1"}})),
            json!({"tid": "t-1"}),
            Reason::UserRevoked,
        ),
        (
            "okta",
            "no format at all",
            inside(revoked(okta), json!({"user": {"iss": ORG, "sub": "alice"}})),
            plain(),
            Reason::UserRevoked,
        ),
        (
            "okta",
            "credential-change update, also for a suspended user",
            inside(
                set(
                    "1",
                    &caep("credential-change"),
                    json!({"change_type": "update", "credential_type": "password"}),
                    Value::Null,
                ),
                json!({"user": alice()}),
            ),
            plain(),
            Reason::UserRevoked,
        ),
        (
            "google-risc",
            "subject_type with a hyphen",
            inside(
                set("1", &format!("{RISC}sessions-revoked"), json!({}), Value::Null),
                json!({"subject_type": "iss-sub", "iss": ORG, "sub": "alice"}),
            ),
            plain(),
            Reason::UserRevoked,
        ),
        (
            "google-risc",
            "tokens-revoked of its own",
            inside(
                set("1", "https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked", json!({}), Value::Null),
                json!({"subject_type": "iss-sub", "iss": ORG, "sub": "alice"}),
            ),
            plain(),
            Reason::UserRevoked,
        ),
        (
            "keycloak",
            "user and session, a list of audiences, an unknown type of credential",
            with(
                set(
                    "1",
                    &caep("session-revoked"),
                    json!({"event_timestamp": NOW.0, "credential_type": "unknown"}),
                    complex(json!({"user": user("alice"), "session": opaque("sess-9")})),
                ),
                json!({"aud": ["https://other.example", "us"]}),
            ),
            plain(),
            Reason::SessionRevoked,
        ),
        (
            "standard",
            "an opaque subject that is the session",
            set("1", &caep("session-revoked"), json!({}), opaque("sess-9")),
            plain(),
            Reason::SessionRevoked,
        ),
        (
            "standard",
            "two URIs of one event, and sub_id beside subject",
            {
                let events = json!({
                    format!("{CAEP}session-revoked"): {"subject": user("alice")}, "https://idp.example/events/logout": {}
                });
                with(revoked(json!({})), json!({"events": events, "sub_id": user("bob")}))
            },
            plain(),
            Reason::UserRevoked,
        ),
        (
            "standard",
            "names that are numbers",
            set("1", &caep("session-revoked"), json!({}), complex(json!({"user": {"format": "opaque", "id": 42}}))),
            json!({"sub": "42"}),
            Reason::UserRevoked,
        ),
        (
            "standard",
            "a number as sub, and a negative one",
            set("1", &caep("session-revoked"), json!({}), json!({"format": "iss_sub", "iss": JIT, "sub": -7})),
            json!({"sub": "-7"}),
            Reason::UserRevoked,
        ),
    ]
}

#[test]
fn what_ends_is_applied_with_the_profile_and_without() {
    for (profile, what, claims, token, reason) in revocations() {
        for used in [profile, "standard"] {
            // An event type of its own has no meaning without the profile.
            if used != profile && what.contains("of its own") {
                continue;
            }
            let mut harness = with_profile(used);
            assert_eq!(harness.open(token.clone()), None, "{what}");
            let signal = harness.applied(with(claims.clone(), json!({"jti": format!("{profile}-{used}")})));
            assert_eq!(harness.open(token.clone()), Some(reason), "{profile} read as {used}: {what}");
            let silent = used == profile && profile != "standard";
            let oddities: Vec<&str> = signal.notes().oddities.iter().collect();
            let unexpected = oddities.iter().filter(|text| !text.contains("milliseconds")).count();
            assert!(!silent || unexpected == 0, "{profile}: {what}: {oddities:?}");
        }
    }
}

#[test]
fn what_permits_is_taken_from_a_transmitter_that_is_known_to_deviate() {
    let d7 = || complex(json!({"device": opaque("d7")}));
    let not = json!({"previous_status": "compliant", "current_status": "not-compliant", "event_timestamp": NOW.0 - 50});
    let asks = || json!({"device_id": "d7"});
    for payload in [
        json!({"current_status": "compliant", "event_timestamp": NOW.0 - 5}),
        json!({"current_status": "Compliant", "previous_status": null, "event_timestamp": NOW.0 - 5}),
        json!({"current_status": "compliant", "previous_status": "unknown", "reason_admin": "scan", "initiating_entity": null}),
    ] {
        let good = set("2", &caep("device-compliance-change"), payload.clone(), d7());
        for (profile, answer) in [
            ("okta", Ok(())),
            ("keycloak", Ok(())),
            ("google-risc", Ok(())),
            ("standard", Err("invalid_request".to_owned())),
        ] {
            let mut harness = with_profile(profile);
            harness.say(&caep("device-compliance-change"), not.clone(), d7());
            assert_eq!(harness.push(json!({}), good.clone()), answer, "{profile} {payload}");
            let left = answer.is_err().then_some(Reason::DeviceNotCompliant);
            assert_eq!(harness.ask("/device", asks()), left, "{profile} {payload}");
        }
    }
    // A profile excuses nothing that may mean something else.
    for (payload, subject) in [
        (json!({"current_status": "compliant", "event_timestamp": 0}), d7()),
        (json!({"current_status": "compliant", "event_timestamp": "yesterday"}), d7()),
        (json!({"current_status": "fine"}), d7()),
        (json!({"current_status": "compliant"}), complex(json!({"device": {"format": "opaque", "id": 7}}))),
    ] {
        let set = set("2", &caep("device-compliance-change"), payload.clone(), subject);
        assert_eq!(with_profile("okta").push(json!({}), set), Err("invalid_request".to_owned()), "{payload}");
    }
    let low = set("2", &caep("risk-level-change"), json!({"current_level": "low"}), user("alice"));
    assert_eq!(with_profile("okta").push(json!({}), low), Err("invalid_request".to_owned()), "of whom is not said");
}

#[test]
fn google_verifies_a_stream_under_its_own_uri() {
    let uri = format!("{RISC}verification");
    let mut claims = set("1", &uri, json!({"state": "s"}), Value::Null);
    claims.as_object_mut().unwrap().remove("sub_id");
    let mut harness = with_profile("google-risc");
    let signal = harness.applied(claims.clone());
    assert!(!signal.notes().is_notable(), "{:?}", signal.notes());
    assert_eq!(signal.heartbeat().issued, NOW);
}

/// Google's SETs have a slash at the end of the issuer, its tokens have none.
#[test]
fn google_is_one_issuer_with_a_slash_and_without() {
    let google = "https://accounts.google.com";
    let mut harness = Harness::with(|config| {
        config["issuers"][0]["issuer"] = json!(google);
        let transmitters = config["signals"]["transmitters"].as_array_mut().unwrap();
        transmitters.truncate(1);
        transmitters[0]["issuer"] = json!("https://accounts.google.com/");
        transmitters[0]["subjects"] = json!([google]);
        transmitters[0]["profile"] = json!("google-risc");
    });
    let event = format!("{RISC}account-disabled");
    let claims = set("1", &event, json!({"reason": "hijacking"}), Value::Null);
    let subject = json!({"subject_type": "iss-sub", "iss": "https://accounts.google.com/", "sub": "alice"});
    harness.applied(with(inside(claims, subject), json!({"iss": "https://accounts.google.com/"})));
    assert_eq!(harness.open(json!({"iss": google})), Some(Reason::UserRevoked));
}

#[test]
fn an_issuer_stands_for_another_only_where_that_is_configured() {
    let revoked =
        set("1", &caep("session-revoked"), json!({}), json!({"format": "iss_sub", "iss": ORG, "sub": "alice"}));
    let mut harness = Harness::new();
    assert_eq!(harness.push(json!({}), revoked.clone()), Err("access_denied".to_owned()));
    assert_eq!(harness.open(json!({})), None);
    let mut harness = with_profile("standard");
    // A device that the organisation names is the one that tokens name without an authority.
    let device = complex(json!({"device": {"format": "iss_sub", "iss": ORG, "sub": "d7"}}));
    let status = json!({"previous_status": "compliant", "current_status": "not-compliant"});
    harness.applied(set("2", &caep("device-compliance-change"), status, device));
    assert_eq!(harness.ask("/device", json!({"device_id": "d7"})), Some(Reason::DeviceNotCompliant));
    assert_eq!(harness.push(json!({}), revoked), Ok(()));
    assert_eq!(harness.open(json!({})), Some(Reason::UserRevoked));
}
