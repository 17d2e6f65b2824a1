//! Signals with the deviations of real transmitters: what ends or narrows is applied, what permits is refused. Also
//! subjects in every shape, and answers that lose no signal.

use std::time::Duration;

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    grants::{Grant, rule, rules},
    mint::{self, Jwt, caep, now, risc, signal_with, ssf},
    orders,
    refusal::{assert_allowed, assert_signal_accepted, assert_signal_refused, describe},
    sidecar::Sidecar,
};
use tokio::sync::OnceCell;

/// The identity provider whose users the tokens name in `idp_sub`.
const IDP: &str = "https://login.example";
const GOOGLE: &str = "https://schemas.openid.net/secevent/risc/event-type/verification";
/// A second stream of the transmitter, with a header of its own, and its audiences.
const SECOND: [&str; 2] = ["https://orders.mesh/risc", "https://orders.mesh/risc-too"];

fn config() -> Value {
    let mut config = orders::config_of(rules([rule("known-device", json!({"device": "compliant"}))]));
    config["issuers"][0]["claims"] = json!({
        "device": "device_id", "tenant": "tid", "group": "groups",
        "subjects": {
            "email": "email", "phone_number": "phone", "account": "account", "did": "did",
            "opaque": "session", "iss_sub": {IDP: "idp_sub"}
        }
    });
    let first = &mut config["signals"]["transmitters"][0];
    first["event_uris"] = json!({GOOGLE: "verification", "https://idp.example/logout": "session-revoked"});
    first["verification_state"] = json!("s3cret");
    let mut second = first.clone();
    second["audience"] = json!(SECOND);
    second["authorization"] = json!("Bearer second");
    second["legacy_subject"] = json!(true);
    second["events"] = json!(["sessions-revoked", "account-disabled"]);
    config["signals"]["transmitters"].as_array_mut().unwrap().push(second);
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let start = || async { Sidecar::start(Settings::new("doubt", config()).balanced()).await.unwrap() };
    SIDECAR.get_or_init(start).await
}

/// A grant whose token has every name that a subject may have.
fn new_grant() -> Grant {
    let grant = Grant::new();
    let (name, number) = (grant.user.clone(), phone_number(&grant));
    grant
        .claim("phone", format!("+1 (206) {:03}-{:04}", number / 10_000, number % 10_000))
        .claim("account", format!("{name}@Example.ORG"))
        .claim("did", format!("did:example:{name}"))
        .claim("idp_sub", format!("00u-{name}"))
        .claim("tid", format!("tenant-{name}"))
        .claim("groups", json!([format!("ops-{name}"), format!("dev-{name}")]))
}

/// The seven digits of the user's phone number that follow the area code.
fn phone_number(grant: &Grant) -> u32 {
    grant.user.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 10_000_000
}

fn revoked(subject: Value) -> Jwt {
    signal_with(&caep("session-revoked"), subject, &json!({}))
}

async fn counter(sidecar: &Sidecar, name: &str) -> u64 {
    let name = format!("wasmcustom.taskfence.{name}");
    let stats = sidecar.envoy().stats().await.unwrap();
    stats.value(&name).unwrap_or_default()
}

/// Waits until the proxy has written a line with all of `parts`.
async fn logged(sidecar: &Sidecar, parts: &[&str]) {
    for _ in 0..100 {
        let log = sidecar.envoy().log();
        if log.lines().any(|line| parts.iter().all(|part| line.contains(part))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no line with {parts:?} in\n{}", sidecar.envoy().log());
}

fn retry_after(answer: &Answer) -> Option<u64> {
    answer.header("retry-after").map(|after| after.parse().unwrap())
}

type Change = fn(Jwt) -> Jwt;

/// Deviations from the specifications: a name, and the change that makes a signal odd.
fn oddities() -> Vec<(&'static str, Change)> {
    vec![
        ("reason_admin is a string", |set| set.event("reason_admin", "policy")),
        ("reason_admin is null", |set| set.event("reason_admin", Value::Null)),
        ("reason_admin is empty", |set| set.event("reason_admin", json!({}))),
        ("reason_user is a list", |set| set.event("reason_user", json!(["policy"]))),
        ("reason_user is a string", |set| set.event("reason_user", "")),
        ("initiating_entity is free text", |set| set.event("initiating_entity", "Okta System")),
        ("initiating_entity is null", |set| set.event("initiating_entity", Value::Null)),
        ("event_timestamp is null", |set| set.event("event_timestamp", Value::Null)),
        ("event_timestamp is 0", |set| set.event("event_timestamp", 0)),
        ("event_timestamp is ISO 8601", |set| set.event("event_timestamp", "2099-01-01T00:00:00Z")),
        ("event_timestamp is no time", |set| set.event("event_timestamp", "now")),
        ("event_timestamp lies ahead", |set| set.event("event_timestamp", now() + 86_400)),
        ("toe is null", |set| without_time(set).claim("toe", Value::Null)),
        ("iat is null", |set| set.claim("iat", Value::Null)),
        ("iat is 0", |set| set.claim("iat", 0)),
        ("iat lies ahead", |set| set.claim("iat", now() + 500)),
        ("iat is missing", |set| set.without("iat")),
        ("exp", |set| set.claim("exp", now() + 60)),
        ("sub", |set| set.claim("sub", "somebody")),
    ]
}

fn without_time(set: Jwt) -> Jwt {
    let mut claims: Value = serde_json::from_str(&set.claims_text()).unwrap();
    claims["events"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .next()
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove("event_timestamp");
    set.claim("events", claims["events"].clone())
}

#[tokio::test]
async fn what_ends_or_narrows_is_applied_whatever_is_odd_about_it() {
    let sidecar = sidecar().await;
    let before = counter(sidecar, "signals_odd").await;
    for (number, (odd, change)) in oddities().into_iter().enumerate() {
        let grant = new_grant();
        let (set, path, reason) = match number % 4 {
            0 => (revoked(grant.of_token()), "/open", "token_revoked"),
            1 => (mint::complete_task(&grant.task), "/open", "task_completed"),
            2 => (
                signal_with(mint::GRANT_NARROWED, grant.of_task(), &json!({"scope": "orders.read"})),
                "/refund",
                "scope_insufficient",
            ),
            _ => (revoked(grant.of_user()), "/open", "user_revoked"),
        };
        let set = change(set);
        grant.meets(sidecar, path, None).await;
        let answer = sidecar.push(&set).await.unwrap();
        assert_eq!(answer.status, 202, "{odd}: {}", describe(&answer));
        grant.meets(sidecar, path, Some(reason)).await;
        logged(sidecar, &["[warning]", "\"odd\"", &format!("\"signal\":\"{}\"", set.id()), orders::TRANSMITTER]).await;
    }
    assert!(counter(sidecar, "signals_odd").await >= before + 19);
    // Not odd: a time in milliseconds has one meaning, and RFC 7519 allows fractions.
    for at in [json!(now() * 1_000), serde_json::from_str(&format!("{}.25", now())).unwrap()] {
        let grant = new_grant();
        sidecar.accept(&revoked(grant.of_user()).event("event_timestamp", at.clone())).await;
        grant.meets(sidecar, "/open", Some("user_revoked")).await;
        let grant = new_grant();
        sidecar.accept(&revoked(grant.of_user()).claim("iat", at)).await;
        grant.meets(sidecar, "/open", Some("user_revoked")).await;
    }
}

#[tokio::test]
async fn what_permits_is_refused_for_a_doubt() {
    let sidecar = sidecar().await;
    for (odd, change) in oddities() {
        let grant = new_grant();
        sidecar.accept(&mint::device_is(&grant.device, "not-compliant").dated(now() - 20)).await;
        let set = change(mint::device_is(&grant.device, "compliant"));
        let answer = sidecar.push(&set).await.unwrap();
        assert_eq!(answer.status, 400, "{odd}: {}", describe(&answer));
        assert_signal_refused(&answer, "invalid_request");
        grant.meets(sidecar, "/device", Some("device_not_compliant")).await;
        logged(sidecar, &["[info]", "signal_refused", &set.id(), "device-compliance-change", orders::TRANSMITTER])
            .await;
    }
    let grant = new_grant();
    sidecar.accept(&mint::device_is(&grant.device, "not-compliant").dated(now() - 20)).await;
    sidecar.accept(&mint::device_is(&grant.device, "compliant").dated(now() * 1_000)).await;
    grant.meets(sidecar, "/device", None).await;
}

/// The transmitter pushes again when the time of the event has come.
#[tokio::test]
async fn what_permits_waits_for_its_time() {
    let sidecar = sidecar().await;
    let grant = new_grant();
    sidecar.accept(&mint::device_is(&grant.device, "not-compliant").dated(now() - 20)).await;
    let set = mint::device_is(&grant.device, "compliant").dated(now() + 4);
    let answer = sidecar.push(&set).await.unwrap();
    assert_eq!(answer.status, 503, "{}", describe(&answer));
    let after = retry_after(&answer).expect("a time to come again");
    assert!((1..=4).contains(&after), "{after}");
    grant.meets(sidecar, "/device", Some("device_not_compliant")).await;
    tokio::time::sleep(Duration::from_secs(after + 1)).await;
    sidecar.accept(&set).await;
    grant.meets(sidecar, "/device", None).await;
}

#[tokio::test]
async fn members_of_an_event_that_are_missing_or_misspelt() {
    let sidecar = sidecar().await;
    type Row = (&'static str, fn(&Grant) -> Value, Value, &'static str, &'static str);
    let bad = json!({"current_status": "not-compliant"});
    let table: [Row; 8] = [
        ("device-compliance-change", Grant::of_device, bad, "/device", "device_not_compliant"),
        (
            "device-compliance-change",
            Grant::of_device,
            json!({"current_status": "NOT_COMPLIANT"}),
            "/device",
            "device_not_compliant",
        ),
        ("risk-level-change", Grant::of_user, json!({"current_level": "HIGH"}), "/risk", "risk_too_high"),
        (
            "risk-level-change",
            Grant::of_user,
            json!({"current_level": "high", "principal": "user"}),
            "/risk",
            "risk_too_high",
        ),
        ("credential-change", Grant::of_user, json!({"change_type": "Revoke"}), "/open", "user_revoked"),
        ("credential-change", Grant::of_user, json!({"credential_type": "unknown"}), "/open", "user_revoked"),
        ("assurance-level-change", Grant::of_user, json!({"current_level": "pwd"}), "/acr", "assurance_insufficient"),
        (
            "token-claims-change",
            Grant::of_token,
            json!({"claims": {"scope": ["orders.read"], "sub": "x"}}),
            "/refund",
            "scope_insufficient",
        ),
    ];
    for (name, subject, members, path, reason) in table {
        let grant = new_grant();
        sidecar.accept(&signal_with(&caep(name), subject(&grant), &members)).await;
        grant.meets(sidecar, path, Some(reason)).await;
    }
}

#[tokio::test]
async fn several_uris_may_name_one_event() {
    let sidecar = sidecar().await;
    let events =
        |other: &str, payload: Value| json!({ caep("session-revoked"): {"event_timestamp": now()}, other: payload });
    for (other, payload) in [
        (risc("sessions-revoked"), json!({})),
        (risc("account-disabled"), json!({"reason": "hijacking"})),
        ("https://idp.example/logout".to_owned(), json!({"why": 1})),
        ("https://idp.example/its-own".to_owned(), json!("x")),
    ] {
        let grant = new_grant();
        sidecar.accept(&revoked(grant.of_user()).claim("events", events(&other, payload))).await;
        grant.meets(sidecar, "/open", Some("user_revoked")).await;
    }
    let grant = new_grant();
    let two = revoked(grant.of_user()).claim("events", events(mint::TASK_COMPLETED, json!({})));
    assert_signal_refused(&sidecar.push(&two).await.unwrap(), "invalid_request");
    grant.meets(sidecar, "/open", None).await;
}

#[tokio::test]
async fn a_second_subject_is_meant_as_well() {
    let sidecar = sidecar().await;
    let [one, two] = [new_grant(), new_grant()];
    sidecar.accept(&revoked(one.of_user()).event("subject", two.of_user())).await;
    one.meets(sidecar, "/open", Some("user_revoked")).await;
    two.meets(sidecar, "/open", Some("user_revoked")).await;
    let elsewhere = json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "a"});
    for (sub_id, inside) in [(true, elsewhere.clone()), (false, elsewhere)] {
        let grant = new_grant();
        let both = if sub_id { [grant.of_user(), inside] } else { [inside, grant.of_user()] };
        sidecar.accept(&revoked(both[0].clone()).event("subject", both[1].clone())).await;
        grant.meets(sidecar, "/open", Some("user_revoked")).await;
    }
}

#[tokio::test]
async fn a_member_that_cannot_be_used_leaves_the_others() {
    let sidecar = sidecar().await;
    for odd in [
        json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "a"}),
        json!({"format": "carrier-pigeon", "ring": 7}),
        json!("alice"),
    ] {
        let grant = new_grant();
        let before = counter(sidecar, "signals_alarming").await;
        let session = json!({"format": "opaque", "id": grant.session});
        let set = revoked(json!({"format": "complex", "user": odd, "session": session}));
        sidecar.accept(&set).await;
        grant.meets(sidecar, "/open", Some("session_revoked")).await;
        assert!(counter(sidecar, "signals_alarming").await > before);
        logged(sidecar, &["[warning]", "\"unmatched\":\"user\"", &set.id()]).await;
        let critical = json!({"format": "complex", "task": odd, "user": grant.of_user()});
        assert_signal_refused(&sidecar.push(&revoked(critical)).await.unwrap(), "invalid_request");
    }
}

#[tokio::test]
async fn each_subject_meets_the_grant_that_it_names() {
    let sidecar = sidecar().await;
    type Row = (&'static str, fn(&Grant) -> Value, &'static str);
    let table: [Row; 12] = [
        ("opaque", |grant| json!({"format": "opaque", "id": grant.session}), "session_revoked"),
        (
            "iss_sub of the identity provider",
            |grant| json!({"format": "iss_sub", "iss": IDP, "sub": format!("00u-{}", grant.user)}),
            "user_revoked",
        ),
        (
            "that and a session",
            |grant| json!({"format": "complex", "user": {"format": "iss_sub", "iss": IDP, "sub": format!("00u-{}", grant.user)}, "session": {"format": "opaque", "id": grant.session}}),
            "session_revoked",
        ),
        (
            "E.164",
            |grant| json!({"format": "phone_number", "phone_number": format!("+1206{:07}", phone_number(grant))}),
            "user_revoked",
        ),
        (
            "account",
            |grant| json!({"format": "account", "uri": format!("acct:{}@EXAMPLE.org", grant.user)}),
            "user_revoked",
        ),
        (
            "DID URL",
            |grant| json!({"format": "did", "url": format!("did:example:{}#key-1", grant.user)}),
            "user_revoked",
        ),
        (
            "tenant",
            |grant| json!({"format": "complex", "tenant": {"format": "opaque", "id": format!("tenant-{}", grant.user)}}),
            "principal_revoked",
        ),
        (
            "group",
            |grant| json!({"format": "complex", "group": {"format": "opaque", "id": format!("dev-{}", grant.user)}}),
            "principal_revoked",
        ),
        ("complex without format", |grant| json!({"user": grant.of_user()}), "user_revoked"),
        (
            "subject_type",
            |grant| json!({"subject_type": "iss-sub", "iss": orders::ISSUER, "sub": grant.user}),
            "user_revoked",
        ),
        ("email", |grant| json!({"format": "email", "email": format!("{}@EXAMPLE.org", grant.user)}), "user_revoked"),
        (
            "aliases, one of which is unknown",
            |grant| json!({"format": "aliases", "identifiers": [{"format": "x", "y": 1}, grant.of_user()]}),
            "user_revoked",
        ),
    ];
    for (what, subject, reason) in table {
        let (grant, other) = (new_grant(), new_grant());
        grant.meets(sidecar, "/open", None).await;
        let answer = sidecar.push(&revoked(subject(&grant))).await.unwrap();
        assert_eq!(answer.status, 202, "{what}: {}", describe(&answer));
        grant.meets(sidecar, "/open", Some(reason)).await;
        other.meets(sidecar, "/open", None).await;
    }
    // The whole subject inside the event, as Okta and Google have it.
    for inside in [
        |grant: &Grant| json!({"user": grant.of_user()}),
        |grant: &Grant| json!({"subject_type": "iss-sub", "iss": orders::ISSUER, "sub": grant.user}),
    ] {
        let grant = new_grant();
        let set = revoked(json!({})).without("sub_id").event("subject", inside(&grant)).dated(now() * 1_000);
        sidecar.accept(&set).await;
        grant.meets(sidecar, "/open", Some("user_revoked")).await;
    }
}

#[tokio::test]
async fn a_device_may_be_named_by_whose_it_is() {
    let sidecar = sidecar().await;
    for subject in [
        |grant: &Grant| json!({"format": "email", "email": format!("{}@example.org", grant.user)}),
        |grant: &Grant| json!({"format": "opaque", "id": grant.session}),
    ] {
        let grant = new_grant();
        let is = |status: &str, ago: i64| {
            mint::device_is("x", status).claim("sub_id", subject(&grant)).dated((now() - ago) * 1_000)
        };
        sidecar.accept(&is("not-compliant", 20)).await;
        grant.meets(sidecar, "/device", Some("device_not_compliant")).await;
        sidecar.accept(&is("compliant", 10)).await;
        grant.meets(sidecar, "/device", None).await;
        // The signal does not name the device of this grant.
        grant.meets(sidecar, "/known-device", Some("device_not_compliant")).await;
    }
}

#[tokio::test]
async fn a_token_without_an_identifier_passes_without_it() {
    let sidecar = sidecar().await;
    for nothing in [json!(""), json!([]), json!(["a@b"]), json!(null)] {
        let mut token = new_grant().token;
        for claim in ["email", "phone", "account", "did", "idp_sub", "tid", "groups"] {
            token = token.claim(claim, nothing.clone());
        }
        let answer = sidecar.send(Http::One, &Request::get("/open").bearer(&token.sign())).await.unwrap();
        assert_allowed(sidecar, &answer);
    }
}

#[tokio::test]
async fn a_verification_of_the_transmitters_own() {
    let sidecar = sidecar().await;
    let verify = |state: &str| signal_with(GOOGLE, json!({}), &json!({"state": state})).without("sub_id");
    sidecar.accept(&verify("s3cret")).await;
    assert_signal_refused(&sidecar.push(&verify("other")).await.unwrap(), "invalid_state");
    let standard = signal_with(&ssf("verification"), json!({}), &json!({})).without("sub_id");
    assert_signal_refused(&sidecar.push(&standard).await.unwrap(), "invalid_request");
}

#[tokio::test]
async fn two_streams_of_one_transmitter() {
    let sidecar = sidecar().await;
    let push = async |set: &Jwt, authorization: Option<&str>| {
        let mut push = Request::push(orders::SIGNALS_PATH, &set.sign());
        if let Some(authorization) = authorization {
            push = push.header("authorization", authorization);
        }
        client::send(sidecar.signals(), Http::One, &push).await.unwrap()
    };
    let risc = |subject: Value, audience: Value| {
        signal_with(&risc("sessions-revoked"), subject, &json!({})).claim("aud", audience)
    };
    for audience in [json!(SECOND[0]), json!(SECOND[1]), json!(["https://other.example", SECOND[1]])] {
        let grant = new_grant();
        let set = risc(grant.of_user(), audience);
        assert_signal_refused(&push(&set, None).await, "authentication_failed");
        grant.meets(sidecar, "/open", None).await;
        assert_signal_accepted(&push(&set, Some("Bearer second")).await);
        grant.meets(sidecar, "/open", Some("user_revoked")).await;
    }
    let grant = new_grant();
    let set = revoked(grant.of_user()).claim("aud", SECOND[0]);
    assert_signal_refused(&push(&set, Some("Bearer second")).await, "access_denied");
    logged(sidecar, &["[info]", "access_denied", &set.id()]).await;
    // `legacy_subject` announces the old shapes, so they are not odd.
    let legacy = risc(json!({}), json!(SECOND[0])).without("sub_id").event("subject", json!({"user": grant.of_user()}));
    assert_signal_accepted(&push(&legacy, Some("Bearer second")).await);
    grant.meets(sidecar, "/open", Some("user_revoked")).await;
    let quiet = |line: &str| line.contains(&legacy.id()) && line.contains("[info]") && !line.contains("odd");
    assert!(sidecar.envoy().log().lines().any(quiet), "{}", sidecar.envoy().log());
    assert_signal_refused(&push(&risc(grant.of_user(), json!("https://them")), None).await, "invalid_audience");
}

#[tokio::test]
async fn a_compressed_push_is_415() {
    let sidecar = sidecar().await;
    let grant = new_grant();
    let set = revoked(grant.of_token()).sign();
    for http in Http::BOTH {
        let push = Request::push(orders::SIGNALS_PATH, &set).header("content-encoding", "gzip");
        let answer = client::send(sidecar.signals(), http, &push).await.unwrap();
        assert_eq!((answer.status, answer.header("accept-encoding").as_deref()), (415, Some("identity")));
    }
    grant.meets(sidecar, "/open", None).await;
    let push = Request::push(orders::SIGNALS_PATH, &set).header("content-encoding", "identity");
    assert_signal_accepted(&client::send(sidecar.signals(), Http::One, &push).await.unwrap());
    grant.meets(sidecar, "/open", Some("token_revoked")).await;
}
