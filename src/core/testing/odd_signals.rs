//! Odd signals, sent through the receiver and the judge. A signal that revokes or narrows is applied, however odd it
//! is. A signal that permits something is refused if anything about it is odd.

use crate::reason::Reason;
use crate::signal::receiver::{self, Received};
use crate::testing::fixture::{self, NOW};
use crate::testing::signal_semantics::{
    Harness, JIT, OURS, RISC, SSF, caep, complex, device, opaque, risk, set, signed, token, user,
};
use crate::time::Timestamp;
use serde_json::{Value, json};

fn narrow() -> String {
    format!("{OURS}grant-narrowed")
}

/// The claims of `set` with `changes`; [`fixture::ABSENT`] removes a claim.
fn with(mut set: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value.as_str() == Some(fixture::ABSENT) {
            true => set.as_object_mut().unwrap().remove(name),
            false => set.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    set
}

/// A time with a fraction of a second.
fn fraction(at: u64, part: &str) -> Value {
    serde_json::from_str(&format!("{at}.{part}")).unwrap()
}

/// A harness that accepts every signature, because jwt-simple does not read every form of `iat`.
fn trusting(change: impl FnOnce(&mut Value)) -> Harness {
    let mut harness = Harness::with(change);
    harness.trust_signatures();
    harness
}

/// Oddities of members without effect, and of times: `(members of the event, claims, reported oddity)`.
fn oddities() -> Vec<(Value, Value, String)> {
    let none = json!({});
    let mut table = Vec::new();
    for name in ["reason_admin", "reason_user"] {
        for value in [json!("policy"), json!(null), json!(""), json!({}), json!([]), json!(["x"]), json!({"en": 7})] {
            let told = format!("{name} is not an object of texts by language");
            table.push((json!({ name: value }), none.clone(), told));
        }
    }
    for value in [json!("Okta System"), json!("ADMIN")] {
        let told = "initiating_entity is not one of admin, user, policy, system".to_owned();
        table.push((json!({"initiating_entity": value}), none.clone(), told));
    }
    for value in [json!(null), json!(""), json!({"type": "admin"}), json!(["admin"]), json!(1)] {
        let told = "initiating_entity is missing or not a string".to_owned();
        table.push((json!({"initiating_entity": value}), none.clone(), told));
    }
    for value in [json!(null), json!(0), json!(-5), json!(false), json!([NOW.0]), json!(99_999_999_999u64)] {
        let told = |name: &str| format!("{name} is not a time in seconds since 1970");
        table.push((json!({"event_timestamp": value}), none.clone(), told("event_timestamp")));
        table.push((none.clone(), json!({"iat": value}), told("iat")));
        // [`signed`] removes claims that are null.
        if !value.is_null() {
            table.push((none.clone(), json!({"toe": value}), told("toe")));
        }
    }
    for value in ["2026-09-21T14:15:00Z", "2026-09-21T16:15:00.5+02:00", "1790000100"] {
        table.push((json!({"event_timestamp": value}), none.clone(), "event_timestamp is a string".to_owned()));
        table.push((none.clone(), json!({"toe": value}), "toe is a string".to_owned()));
        table.push((none.clone(), json!({"iat": value}), "iat is a string".to_owned()));
    }
    let ahead = "the time of the event lies in the future".to_owned();
    table.push((json!({"event_timestamp": NOW.0 + 61}), none.clone(), ahead.clone()));
    table.push((json!({"event_timestamp": "2099-01-01T00:00:00Z"}), none.clone(), ahead.clone()));
    table.push((none.clone(), json!({"toe": NOW.0 + 86_400}), ahead));
    table.push((none.clone(), json!({"iat": NOW.0 + 61}), "iat lies in the future".to_owned()));
    table.push((none.clone(), json!({"iat": fixture::ABSENT}), "iat is not a time in seconds since 1970".to_owned()));
    table.push((none.clone(), json!({"exp": NOW.0 + 60}), "exp stands in a SET".to_owned()));
    table.push((none.clone(), json!({"exp": NOW.0 - 60}), "exp stands in a SET".to_owned()));
    table.push((none.clone(), json!({"sub": "somebody"}), "sub stands in a SET".to_owned()));
    table.push((none, json!({"jti": 77}), "jti is a number".to_owned()));
    table
}

#[test]
fn what_ends_or_narrows_is_applied_whatever_is_odd_about_it() {
    type Ends = (String, Value, Value, &'static str, Reason);
    let events: [Ends; 4] = [
        (caep("session-revoked"), json!({}), token("tok-1"), "/open", Reason::TokenRevoked),
        (
            format!("{OURS}task-completed"),
            json!({}),
            complex(json!({"task": opaque("task-42")})),
            "/open",
            Reason::TaskCompleted,
        ),
        (narrow(), json!({"scope": "orders.read"}), token("tok-1"), "/refund", Reason::ScopeInsufficient),
        (
            caep("device-compliance-change"),
            json!({"previous_status": "compliant", "current_status": "not-compliant"}),
            complex(json!({"device": opaque("d7")})),
            "/device",
            Reason::DeviceNotCompliant,
        ),
    ];
    for (event, payload, subject, path, reason) in &events {
        for (members, claims, told) in oddities() {
            let mut harness = trusting(|_| {});
            let odd = with(set("1", event, with(payload.clone(), members), subject.clone()), claims);
            let signal = harness.applied(odd.clone());
            assert!(signal.notes().oddities.iter().any(|odd| odd == told), "{told}: {:?}", signal.notes());
            assert!(signal.notes().is_notable(), "{odd}");
            let asks = json!({"device_id": "d7"});
            assert_eq!(harness.ask(path, asks), Some(*reason), "{odd}");
        }
    }
}

#[test]
fn what_permits_is_refused_for_a_doubt() {
    let low = |payload: Value| (caep("risk-level-change"), with(risk("LOW", NOW.0), payload), user("alice"));
    let high = (caep("risk-level-change"), risk("HIGH", NOW.0 - 100), user("alice"));
    for (members, claims, told) in oddities() {
        let mut harness = trusting(|_| {});
        harness.say(&high.0, high.1.clone(), high.2.clone());
        let (event, mut payload, subject) = low(members.clone());
        if !members.as_object().unwrap().contains_key("event_timestamp") && claims.get("toe").is_some() {
            payload.as_object_mut().unwrap().remove("event_timestamp");
        }
        let odd = with(set("1", &event, payload, subject), claims);
        assert_eq!(harness.push(json!({}), odd.clone()), Err("invalid_request".to_owned()), "{told}: {odd}");
        assert_eq!(harness.ask("/risk", json!({})), Some(Reason::RiskTooHigh), "{odd}");
    }
    // Each event that permits something, with the mildest oddity.
    let odd = json!({"reason_admin": "x"});
    for (event, payload, subject) in [
        (caep("device-compliance-change"), device("compliant", NOW.0), complex(json!({"device": opaque("d7")}))),
        (caep("risk-level-change"), with(risk("MEDIUM", NOW.0), json!({"previous_level": "HIGH"})), user("alice")),
        (
            caep("assurance-level-change"),
            json!({"namespace": "a", "current_level": "phr", "change_direction": "increase"}),
            user("alice"),
        ),
        (caep("session-established"), json!({}), complex(json!({"session": opaque("sess-9")}))),
    ] {
        let mut harness = Harness::new();
        let refused = harness.push(json!({}), set("1", &event, with(payload.clone(), odd.clone()), subject.clone()));
        assert_eq!(refused, Err("invalid_request".to_owned()), "{event}");
        assert_eq!(harness.push(json!({}), set("2", &event, payload, subject)), Ok(()), "{event}");
    }
    // An event whose configured effect is `ignore` permits nothing, and is accepted.
    let mut harness = Harness::with(|config| config["signals"]["effects"] = json!({"session-established": "ignore"}));
    let begun = set("1", &caep("session-established"), odd, complex(json!({"session": opaque("sess-9")})));
    assert_eq!(harness.push(json!({}), begun), Ok(()));
}

#[test]
fn members_of_an_event_that_are_missing_or_misspelt() {
    let d7 = || complex(json!({"device": opaque("d7")}));
    let pin = |change: Value| json!({"credential_type": "pin", "change_type": change});
    let revoked = Some(Reason::UserRevoked);
    let not_compliant = Some(Reason::DeviceNotCompliant);
    for (event, payload, subject, path, reason) in [
        ("device-compliance-change", json!({"current_status": "not-compliant"}), d7(), "/device", not_compliant),
        (
            "device-compliance-change",
            json!({"previous_status": 7, "current_status": "NOT-COMPLIANT"}),
            d7(),
            "/device",
            not_compliant,
        ),
        ("device-compliance-change", json!({"current_status": "Not Compliant"}), d7(), "/device", not_compliant),
        ("risk-level-change", json!({"current_level": "HIGH"}), user("alice"), "/risk", Some(Reason::RiskTooHigh)),
        (
            "risk-level-change",
            json!({"current_level": "high", "principal": "user"}),
            user("alice"),
            "/risk",
            Some(Reason::RiskTooHigh),
        ),
        (
            "risk-level-change",
            json!({"current_level": "High", "previous_level": "low"}),
            user("alice"),
            "/risk",
            Some(Reason::RiskTooHigh),
        ),
        ("credential-change", json!({"change_type": "revoke"}), user("alice"), "/open", revoked),
        ("credential-change", pin(json!("DELETE")), user("alice"), "/open", revoked),
        ("credential-change", pin(json!("suspended")), user("alice"), "/open", revoked),
        ("credential-change", pin(json!(null)), user("alice"), "/open", revoked),
        ("credential-change", pin(json!("Create")), user("alice"), "/open", None),
        (
            "assurance-level-change",
            json!({"current_level": "pwd"}),
            user("alice"),
            "/acr",
            Some(Reason::AssuranceInsufficient),
        ),
        (
            "assurance-level-change",
            json!({"namespace": "a"}),
            user("alice"),
            "/acr",
            Some(Reason::AssuranceInsufficient),
        ),
        ("session-revoked", json!(null), token("tok-1"), "/open", Some(Reason::TokenRevoked)),
        ("session-revoked", json!(true), token("tok-1"), "/open", Some(Reason::TokenRevoked)),
    ] {
        let mut harness = Harness::new();
        let signal = harness.applied(set("1", &caep(event), payload.clone(), subject));
        assert!(!signal.notes().oddities.is_empty(), "{event} {payload}");
        assert_eq!(harness.ask(path, json!({"device_id": "d7", "acr": "phr"})), reason, "{event} {payload}");
    }
    let mut harness = Harness::new();
    harness.applied(set("1", &format!("{RISC}credential-compromise"), json!({}), user("alice")));
    assert_eq!(harness.open(json!({})), revoked);
    for (event, payload) in [
        ("device-compliance-change", json!({"previous_status": "compliant", "current_status": "lost"})),
        ("risk-level-change", json!({"principal": "USER", "current_level": "SEVERE"})),
        ("device-compliance-change", json!({"current_status": "compliant"})),
        ("risk-level-change", json!({"principal": "USER", "current_level": "low"})),
        ("risk-level-change", json!({"current_level": "LOW"})),
    ] {
        let refused = Harness::new().push(
            json!({}),
            set("1", &caep(event), payload.clone(), complex(json!({"device": opaque("d7"), "user": user("alice")}))),
        );
        assert_eq!(refused, Err("invalid_request".to_owned()), "{event} {payload}");
    }
}

#[test]
fn what_permits_waits_for_its_time() {
    let mut harness = Harness::new();
    let d7 = || complex(json!({"device": opaque("d7")}));
    let asks = json!({"device_id": "d7"});
    let early = signed(json!({}), set("1", &caep("device-compliance-change"), device("compliant", NOW.0 + 20), d7()));
    let answer = receiver::answer(&harness.push_at(&early, NOW));
    assert_eq!(answer.0, 503);
    assert!(answer.1.contains(&("retry-after", "20".to_owned())), "{answer:?}");
    assert_eq!(harness.ask("/device", asks.clone()), Some(Reason::DeviceNotCompliant));
    // The same SET applies when its time has come, but it does not replace a signal that came in between.
    harness.say(&caep("device-compliance-change"), device("not-compliant", NOW.0), d7());
    assert!(matches!(harness.push_at(&early, Timestamp(NOW.0 + 20)), Received::Applied(_)));
    assert_eq!(harness.ask("/device", asks), None);
    let far = set("2", &caep("device-compliance-change"), device("compliant", NOW.0 + 61), d7());
    assert_eq!(harness.push(json!({}), far), Err("invalid_request".to_owned()));
}

#[test]
fn a_fraction_costs_a_cut_off_nothing_and_gives_what_permits_nothing() {
    let mut harness = Harness::new();
    let at = NOW.0 - 50;
    let signal = harness.applied(set(
        "1",
        &caep("session-revoked"),
        json!({"event_timestamp": fraction(at, "25")}),
        user("alice"),
    ));
    assert!(signal.notes().oddities.is_empty(), "a NumericDate may have a fraction");
    assert_eq!(harness.open(json!({"auth_time": at + 1})), Some(Reason::UserRevoked));
    assert_eq!(harness.open(json!({"auth_time": at + 2})), None);
    let mut harness = Harness::new();
    let d7 = || complex(json!({"device": opaque("d7")}));
    let says =
        |status: &str, at: u64, part: &str| with(device(status, 1), json!({"event_timestamp": fraction(at, part)}));
    harness.say(&caep("device-compliance-change"), says("not-compliant", at, "5"), d7());
    harness.say(&caep("device-compliance-change"), says("compliant", at, "75"), d7());
    assert_eq!(harness.ask("/device", json!({"device_id": "d7"})), Some(Reason::DeviceNotCompliant), "in one second");
    harness.say(&caep("device-compliance-change"), says("compliant", at + 2, "0"), d7());
    assert_eq!(harness.ask("/device", json!({"device_id": "d7"})), None);
}

#[test]
fn several_uris_may_name_one_event() {
    let revoked = caep("session-revoked");
    let also = |uri: &str, payload: Value| json!({ revoked.as_str(): {}, uri: payload });
    let known = format!("{RISC}sessions-revoked");
    let disabled = format!("{RISC}account-disabled");
    for events in [
        also(&known, json!({})),
        also(&disabled, json!({"reason": "hijacking"})),
        also("https://idp.example/events/logout", json!({"x": 1})),
        also("https://a.first.example/", json!("text")),
        also("https://idp.example/mapped", json!({})),
        also(&caep("session-presented"), json!({})),
        also(&caep("device-compliance-change"), json!({"current_status": "?"})),
    ] {
        let mut harness = Harness::with(|config| {
            config["signals"]["transmitters"][0]["event_uris"] =
                json!({"https://idp.example/mapped": "session-revoked"});
        });
        let signal = harness.applied(with(set("1", &revoked, json!({}), user("alice")), json!({ "events": events })));
        assert!(!signal.notes().oddities.is_empty(), "{events}");
        assert_eq!(harness.open(json!({})), Some(Reason::UserRevoked), "{events}");
    }
    // For a revocation the later time counts.
    let mut harness = Harness::new();
    let at = NOW.0 - 50;
    let events = json!({ revoked.as_str(): {"event_timestamp": at - 10}, known.as_str(): {"event_timestamp": at} });
    harness.applied(with(set("1", &revoked, json!({}), user("alice")), json!({ "events": events })));
    assert_eq!(harness.open(json!({"auth_time": at})), Some(Reason::UserRevoked));
    // Two different events need two SETs.
    for events in [
        json!({ revoked.as_str(): {}, narrow(): {"scope": "orders.read"} }),
        json!({ revoked.as_str(): {}, format!("{SSF}verification"): {} }),
        json!({ format!("{SSF}stream-updated"): {"status": "disabled"}, format!("{SSF}verification"): {} }),
        json!({ caep("risk-level-change"): risk("HIGH", NOW.0), caep("device-compliance-change"): device("not-compliant", NOW.0) }),
    ] {
        let two = with(set("1", &revoked, json!({}), user("alice")), json!({ "events": events }));
        assert_eq!(Harness::new().push(json!({}), two), Err("invalid_request".to_owned()), "{events}");
    }
    // An unknown URI may mean anything, so an event that permits something must not stand beside one.
    let events = json!({ caep("risk-level-change"): risk("LOW", NOW.0), "https://idp.example/other": {} });
    let two = with(set("1", &revoked, json!({}), user("alice")), json!({ "events": events }));
    assert_eq!(Harness::new().push(json!({}), two), Err("invalid_request".to_owned()));
    let mut harness = Harness::with(|config| {
        config["signals"]["transmitters"][0]["event_uris"] = json!({"https://idp.example/risk": "risk-level-change"});
    });
    let low = risk("LOW", NOW.0);
    let events = json!({ caep("risk-level-change"): low, "https://idp.example/risk": low });
    let two = with(set("1", &revoked, json!({}), user("alice")), json!({ "events": events }));
    assert_eq!(harness.push(json!({}), two), Ok(()), "one that is known to mean the same does no harm");
}

#[test]
fn a_transmitter_may_say_one_uri_of_two() {
    let mut harness =
        Harness::with(|config| config["signals"]["transmitters"][0]["events"] = json!(["session-revoked"]));
    let events = json!({ caep("session-revoked"): {}, format!("{RISC}sessions-revoked"): {} });
    let both = with(set("1", &caep("session-revoked"), json!({}), user("alice")), json!({ "events": events }));
    harness.applied(both);
    assert_eq!(harness.open(json!({})), Some(Reason::UserRevoked));
    let only = set("2", &format!("{RISC}sessions-revoked"), json!({}), user("alice"));
    assert_eq!(harness.push(json!({}), only), Err("access_denied".to_owned()));
}

#[test]
fn a_second_subject_is_meant_as_well() {
    let foreign = json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "alice"});
    let pigeon = json!({"format": "carrier-pigeon", "ring": 7});
    let email = json!({"format": "email", "email": "bob@example.org"});
    for (sub_id, inside, odd, alice, bob) in [
        (user("alice"), user("alice"), false, true, false),
        (user("alice"), user("bob"), true, true, true),
        (user("alice"), email, true, true, true),
        (user("alice"), foreign.clone(), true, true, false),
        (foreign.clone(), user("alice"), true, true, false),
        (pigeon.clone(), user("alice"), true, true, false),
        (user("alice"), json!("alice"), true, true, false),
    ] {
        let mut harness = Harness::new();
        let both = set("1", &caep("session-revoked"), json!({"subject": inside}), sub_id.clone());
        let signal = harness.applied(both);
        assert_eq!(!signal.notes().oddities.is_empty(), odd, "{sub_id} {inside}");
        assert_eq!(harness.open(json!({})).is_some(), alice, "{sub_id} {inside}");
        let other = json!({"sub": "bob", "sid": "s", "email": "bob@example.org"});
        assert_eq!(harness.open(other).is_some(), bob, "{sub_id} {inside}");
    }
    let two = |event: &str, payload: Value| {
        Harness::new().push(json!({}), set("1", event, with(payload, json!({"subject": user("bob")})), user("alice")))
    };
    assert_eq!(two(&caep("risk-level-change"), risk("LOW", NOW.0)), Err("invalid_request".to_owned()), "it permits");
    let none = set("1", &caep("session-revoked"), json!({"subject": pigeon}), foreign);
    assert_eq!(Harness::new().push(json!({}), none), Err("access_denied".to_owned()), "neither can be used");
    // The critical members of both are respected.
    let critical = complex(json!({"user": user("alice"), "task": {"format": "email", "email": "a@b"}}));
    let one = set("1", &caep("session-revoked"), json!({"subject": critical}), user("alice"));
    assert_eq!(Harness::new().push(json!({}), one), Err("invalid_request".to_owned()));
}

#[test]
fn a_member_that_cannot_be_used_leaves_the_others() {
    let foreign = json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "s"});
    for odd in [
        foreign.clone(),
        json!({"format": "carrier-pigeon", "ring": 7}),
        json!({"format": "email", "email": "a@b", "name": "a"}),
        json!({"ring": 7}),
        json!("alice"),
        json!(null),
    ] {
        for name in ["user", "client", "shoe"] {
            let mut harness = Harness::new();
            let mut subject = complex(json!({"session": opaque("sess-9")}));
            subject[name] = odd.clone();
            if name == "shoe" && odd == foreign {
                continue;
            }
            let signal = harness.applied(set("1", &caep("session-revoked"), json!({}), subject.clone()));
            assert_eq!(signal.notes().unmatched, [name], "{subject}");
            assert!(signal.notes().is_alarming() && !signal.notes().oddities.is_empty(), "{subject}");
            assert_eq!(harness.open(json!({})), Some(Reason::SessionRevoked), "{subject}");
        }
    }
    let only = |subject: Value| Harness::new().push(json!({}), set("1", &caep("session-revoked"), json!({}), subject));
    assert_eq!(only(complex(json!({"user": foreign}))), Err("access_denied".to_owned()));
    assert_eq!(
        only(complex(json!({"user": {"format": "x"}, "group": opaque("g")}))),
        Err("invalid_request".to_owned())
    );
    // An alias that is not understood does not make the subject wider.
    let mut harness = Harness::new();
    let names =
        json!({"format": "aliases", "identifiers": [{"format": "carrier-pigeon", "ring": 7}, foreign, user("alice")]});
    let signal = harness.applied(set("1", &caep("session-revoked"), json!({}), names));
    assert!(signal.notes().unmatched.is_empty() && !signal.notes().oddities.is_empty());
    assert_eq!(harness.open(json!({})), Some(Reason::UserRevoked));
}

#[test]
fn members_of_two_issuers_are_of_the_closest() {
    let second = "https://second.example";
    let mut harness = Harness::with(|config| {
        let mut other = config["issuers"][0].clone();
        other["issuer"] = json!(second);
        config["issuers"].as_array_mut().unwrap().push(other);
        config["signals"]["transmitters"][0]["subjects"] = json!([JIT, second]);
    });
    let subject =
        complex(json!({"user": {"format": "iss_sub", "iss": second, "sub": "alice"}, "token": token("tok-1")}));
    let signal = harness.applied(set("1", &caep("session-revoked"), json!({}), subject));
    assert_eq!(signal.notes().unmatched, ["members of other issuers"]);
    assert_eq!(harness.open(json!({})), Some(Reason::TokenRevoked));
    assert_eq!(harness.open(json!({"jti": "tok-2"})), None);
    assert_eq!(harness.open(json!({"iss": second, "jti": "tok-3"})), None, "nothing else of that user");
}

#[test]
fn claims_that_are_in_doubt_are_not_believed() {
    let change = |claims: Value, odd: Value| with(json!({ "claims": claims }), odd);
    let odd = || json!({"initiating_entity": "Okta System"});
    for value in [true, false] {
        let mut harness = Harness::new();
        let claims = json!({"trusted_network": value, "scope": "orders.read"});
        harness.applied(set("1", &caep("token-claims-change"), change(claims, odd()), token("tok-1")));
        let grant = json!({"trusted_network": true});
        assert_eq!(harness.ask("/refund", grant.clone()), Some(Reason::ScopeInsufficient));
        assert_eq!(harness.ask("/network", grant), Some(Reason::ClaimMismatch), "{value}");
    }
    // The claim that carries the scope is narrowed, whatever its name is.
    for (claims, odd) in
        [(json!({"scp": "orders.read"}), odd()), (json!({"scp": "orders.read", "sub": "bob"}), json!({}))]
    {
        let mut harness = Harness::new();
        harness.applied(set("1", &caep("token-claims-change"), change(claims, odd), token("tok-1")));
        assert_eq!(harness.ask("/refund", json!({})), Some(Reason::ScopeInsufficient));
    }
    // A claim that may not be set does not prevent the narrowing in the same event.
    let mut harness = Harness::new();
    let claims = json!({"sub": "bob", "team": "x", "scope": "orders.read"});
    let signal = harness.applied(set("1", &caep("token-claims-change"), change(claims, json!({})), token("tok-1")));
    assert_eq!(signal.entries().len(), 1);
    assert_eq!(harness.ask("/refund", json!({})), Some(Reason::ScopeInsufficient));
}

#[test]
fn events_about_the_stream() {
    let stream = |jti: &str, payload: Value| set(jti, &format!("{SSF}stream-updated"), payload, opaque("stream-1"));
    let verification = format!("{SSF}verification");
    let absent = json!({"sub_id": fixture::ABSENT});
    for (claims, taken) in [
        (stream("1", json!({"status": "disabled", "event_timestamp": null})), true),
        (stream("1", json!({"status": "Paused"})), true),
        (with(stream("1", json!({"status": "paused"})), absent.clone()), true),
        (stream("1", json!({"status": "Enabled"})), false),
        (stream("1", json!({"status": "enabled", "event_timestamp": 0})), false),
        (with(stream("1", json!({"status": "enabled"})), absent.clone()), false),
        (with(set("1", &verification, json!({}), opaque("s")), absent.clone()), false),
        (with(set("1", &verification, json!({}), opaque("s")), json!({"exp": 1})), false),
        (set("1", &verification, json!({"state": 7}), opaque("s")), false),
    ] {
        let taken = if taken { Ok(()) } else { Err("invalid_request".to_owned()) };
        assert_eq!(Harness::new().push(json!({}), claims.clone()), taken, "{claims}");
    }
    // A verification under the transmitter's own URI has no `sub_id`.
    let google = "https://schemas.openid.net/secevent/risc/event-type/verification";
    let mut harness = Harness::with(|config| {
        config["signals"]["transmitters"][0]["event_uris"] = json!({google: "verification"});
        config["signals"]["transmitters"][0]["verification_state"] = json!("s3cret");
    });
    let verify = |jti: &str, state: &str| with(set(jti, google, json!({"state": state}), opaque("s")), absent.clone());
    assert_eq!(harness.push(json!({}), verify("1", "s3cret")), Ok(()));
    assert_eq!(harness.push(json!({}), verify("2", "other")), Err("invalid_state".to_owned()));
}

#[test]
fn subjects_as_drafts_wrote_them() {
    let legacy = |config: &mut Value| config["signals"]["transmitters"][0]["legacy_subject"] = json!(true);
    let okta = json!({"user": user("alice")});
    let hyphen = json!({"subject_type": "iss-sub", "iss": JIT, "sub": "alice"});
    let both = json!({"user": hyphen, "session": {"subject_type": "opaque", "id": "sess-9"}});
    for subject in [okta, hyphen.clone(), both, json!({"subject_type": "email", "email": "alice@example.org"})] {
        for (expected, odd) in [(true, false), (false, true)] {
            let mut harness = Harness::with(|config| {
                if expected {
                    legacy(config)
                }
            });
            let inside = set("1", &caep("session-revoked"), json!({"subject": subject}), Value::Null);
            let signal = harness.applied(inside);
            assert_eq!(!signal.notes().oddities.is_empty(), odd, "{subject}");
            assert!(harness.open(json!({"email": "alice@example.org"})).is_some(), "{subject}");
            let mut harness = Harness::with(|config| {
                if expected {
                    legacy(config)
                }
            });
            let above = harness.applied(set("1", &caep("session-revoked"), json!({}), subject.clone()));
            assert_eq!(!above.notes().oddities.is_empty(), odd, "{subject}");
            assert!(harness.open(json!({"email": "alice@example.org"})).is_some(), "{subject}");
        }
    }
    // Without `legacy_subject`, an event that permits something is refused.
    let low = set("1", &caep("risk-level-change"), with(risk("LOW", NOW.0), json!({"subject": hyphen})), Value::Null);
    assert_eq!(Harness::new().push(json!({}), low.clone()), Err("invalid_request".to_owned()));
    assert_eq!(Harness::with(legacy).push(json!({}), low), Ok(()));
}

#[test]
fn each_subject_meets_the_grant_that_it_names() {
    let idp = "https://idp.example";
    let config = |config: &mut Value| {
        config["issuers"][0]["claims"] = json!({
            "device": "device_id", "tenant": "tid", "group": "groups",
            "subjects": {
                "email": "email", "phone_number": "phone_number", "account": "account", "did": "did", "uri": "uri",
                "iss_sub": {idp: "idp_sub"}
            }
        });
    };
    let grant = json!({
        "tid": "acme", "groups": ["ops", "dev"], "idp_sub": "00u1", "phone_number": "+1 (206) 555-0100",
        "account": "alice@Example.org", "did": "did:example:abc", "uri": "https://people.example/alice"
    });
    let theirs = |sub: &str| json!({"format": "iss_sub", "iss": idp, "sub": sub});
    let revoked = Some(Reason::UserRevoked);
    for (subject, reason) in [
        (theirs("00u1"), revoked),
        (theirs("00u2"), None),
        (theirs("alice"), None),
        (complex(json!({"user": theirs("00u1"), "session": opaque("sess-9")})), Some(Reason::SessionRevoked)),
        (complex(json!({"user": theirs("00u2"), "session": opaque("sess-9")})), None),
        (json!({"format": "phone_number", "phone_number": "+12065550100"}), revoked),
        (json!({"format": "phone_number", "phone_number": "+1-206-555-0100"}), revoked),
        (json!({"format": "phone_number", "phone_number": "+12065550101"}), None),
        (json!({"format": "account", "uri": "acct:alice@example.ORG"}), revoked),
        (json!({"format": "account", "uri": "acct:bob@example.org"}), None),
        (json!({"format": "did", "url": "did:example:abc#key-1"}), revoked),
        (json!({"format": "did", "url": "did:example:abc/path?x=1"}), revoked),
        (json!({"format": "did", "url": "did:example:abd"}), None),
        (json!({"format": "uri", "uri": "HTTPS://People.example/alice"}), revoked),
        (complex(json!({"tenant": opaque("acme")})), Some(Reason::PrincipalRevoked)),
        (complex(json!({"tenant": opaque("other")})), None),
        (complex(json!({"group": opaque("dev")})), Some(Reason::PrincipalRevoked)),
        (complex(json!({"group": opaque("qa")})), None),
        (complex(json!({"user": user("alice"), "group": opaque("ops")})), revoked),
        (complex(json!({"user": user("alice"), "group": opaque("qa")})), None),
    ] {
        let mut harness = Harness::with(config);
        let signal = harness.applied(set("1", &caep("session-revoked"), json!({}), subject.clone()));
        assert!(!signal.notes().is_notable(), "{subject} {:?}", signal.notes());
        assert_eq!(harness.open(grant.clone()), reason, "{subject}");
        assert_eq!(harness.open(json!({"sub": "x", "sid": "y", "tid": "z", "groups": []})), None, "{subject}");
    }
    let mut harness = Harness::with(config);
    let high = json!({"principal": "GROUP", "current_level": "HIGH"});
    harness.say(&caep("risk-level-change"), high, complex(json!({"group": opaque("dev")})));
    assert_eq!(harness.ask("/risk", grant), Some(Reason::RiskTooHigh));
    assert_eq!(harness.ask("/risk", json!({})), None);
}

#[test]
fn an_opaque_subject_names_what_the_issuer_says() {
    let named = |kind: Option<&str>| {
        Harness::with(|config| {
            if let Some(kind) = kind {
                config["issuers"][0]["claims"]["subjects"]["opaque"] = json!(kind);
            }
        })
    };
    for (kind, id, reason) in [
        ("session", "sess-9", Reason::SessionRevoked),
        ("user", "alice", Reason::UserRevoked),
        ("token", "tok-1", Reason::TokenRevoked),
    ] {
        let mut harness = named(Some(kind));
        harness.say(&caep("session-revoked"), json!({}), opaque(id));
        assert_eq!(harness.open(json!({})), Some(reason), "{kind}");
        let mut harness = named(Some(kind));
        harness.say(&caep("session-revoked"), json!({}), opaque("other"));
        assert_eq!(harness.open(json!({})), None, "{kind}");
    }
    let mut harness = named(None);
    let signal = harness.applied(set("1", &caep("session-revoked"), json!({}), opaque("sess-9")));
    assert!(signal.notes().unknown_subject && signal.notes().is_notable());
}

#[test]
fn a_device_may_be_named_by_whose_it_is() {
    let email = || json!({"format": "email", "email": "alice@example.org"});
    let grant = json!({"device_id": "d7", "email": "alice@example.org"});
    for (subject, opaque_is, by_device) in [
        (email(), None, false),
        (opaque("d7"), None, true),
        (opaque("sess-9"), Some("session"), false),
        (opaque("alice"), Some("user"), false),
        (user("alice"), None, false),
    ] {
        let mut harness = Harness::with(|config| {
            if let Some(kind) = opaque_is {
                config["issuers"][0]["claims"]["subjects"]["opaque"] = json!(kind);
            }
        });
        let d7 = complex(json!({"device": opaque("d7")}));
        let say = |harness: &mut Harness, status: &str, ago: u64, subject: &Value| {
            harness.say(&caep("device-compliance-change"), device(status, NOW.0 - ago), subject.clone());
        };
        say(&mut harness, "compliant", 90, &d7);
        assert_eq!(harness.ask("/device", grant.clone()), None, "{subject}");
        say(&mut harness, "not-compliant", 80, &subject);
        assert_eq!(harness.ask("/device", grant.clone()), Some(Reason::DeviceNotCompliant), "{subject}");
        say(&mut harness, "compliant", 70, &subject);
        assert_eq!(harness.ask("/device", grant.clone()), None, "what was said is taken back: {subject}");
        // It says nothing about any other device.
        let mut harness = Harness::with(|config| {
            if let Some(kind) = opaque_is {
                config["issuers"][0]["claims"]["subjects"]["opaque"] = json!(kind);
            }
        });
        say(&mut harness, "compliant", 70, &subject);
        let refused = (!by_device).then_some(Reason::DeviceNotCompliant);
        assert_eq!(harness.ask("/device", grant.clone()), refused, "{subject}");
    }
}
