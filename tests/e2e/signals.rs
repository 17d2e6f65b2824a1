//! Each kind of signal, pushed to a real receiver, changes decisions on every worker. Also silence, and floods of bad
//! pushes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    grants::{Grant, rule, rules},
    mint::{self, Alg, Jwt, caep, now, risc, signal_with, ssf, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_refused, describe},
    sidecar::Sidecar,
    tamper,
};
use tokio::sync::OnceCell;

/// A second transmitter, which manages devices.
const VENDOR: &str = "https://mdm.example";

/// One path for each thing that signals change.
fn config() -> Value {
    let mut config = orders::config_of(rules([
        rule("order", json!({"detail": {"type": "order", "action": "read", "identifier": "1881"}})),
        rule("network", json!({"claims": {"trusted_network": true}})),
        rule("when", json!({"when": "claims.trusted_network != false"})),
        rule("when-scope", json!({"when": "claims.scope.contains('orders.refund')"})),
        rule("when-scp", json!({"when": "'orders.refund' in claims.scp"})),
        rule("when-any", json!({"when": "claims.scp.exists(scope, scope == 'orders.refund')"})),
        rule("when-all-claims", json!({"when": "claims['scp'].filter(scope, scope == 'orders.refund').size() == 1"})),
        rule("claim-scope", json!({"claims": {"scope": "orders.read orders.refund"}})),
        rule("claim-scp", json!({"claims": {"scp": ["orders.read", "orders.refund"]}})),
        rule("when-details", json!({"when": "claims.authorization_details.exists(detail, 'read' in detail.actions)"})),
        rule("when-nested", json!({"when": "'read' in claims.authorization_details[0].actions"})),
        rule(
            "claim-details",
            json!({"claims": {
                "authorization_details": [{"type": "order", "actions": ["read", "list"], "identifier": "1881"}]
            }}),
        ),
    ]));
    config["issuers"][0]["claims"]["subjects"] = json!({"email": "email"});
    let mut vendor = device_vendor();
    vendor["events"] = json!(["device-compliance-change"]);
    vendor["heartbeat"] = json!(false);
    config["signals"]["transmitters"].as_array_mut().unwrap().push(vendor);
    config["signals"]["transmitters"][0]["verification_state"] = json!("s3cret");
    config["identity"] = json!({"scope": "x-scope"});
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let start = || async { Sidecar::start(Settings::new("signals", config()).balanced()).await.unwrap() };
    SIDECAR.get_or_init(start).await
}

/// A grant that meets every rule.
fn new_grant() -> Grant {
    Grant::new()
        .claim("scp", json!(["orders.read", "orders.refund"]))
        .claim("authorization_details", json!([{"type": "order", "actions": ["read", "list"], "identifier": "1881"}]))
        .claim("trusted_network", true)
}

/// A transmitter of the configuration that signs with the keys of the first one.
fn device_vendor() -> Value {
    json!({
        "issuer": VENDOR, "audience": orders::SIGNALS_AUDIENCE, "subjects": [orders::ISSUER],
        "algorithms": Alg::names(), "keys": {"inline": mint::TRANSMITTER.jwks()}
    })
}

/// Every event that refuses: pushed, it turns a 200 into this refusal on every worker.
#[tokio::test]
async fn each_event_changes_the_decision_that_it_is_about() {
    let sidecar = sidecar().await;
    type Row = (String, fn(&Grant) -> Value, Value, &'static str, &'static str);
    let email = |grant: &Grant| json!({"format": "email", "email": format!("{}@EXAMPLE.org", grant.user)});
    let aliases = |grant: &Grant| json!({"format": "aliases", "identifiers": [{"format": "phone_number", "phone_number": "+41"}, grant.of_user()]});
    let with_device = |grant: &Grant| json!({"format": "complex", "user": grant.of_user(), "device": {"format": "opaque", "id": grant.device}});
    let offline = json!({"claims": {"trusted_network": false}});
    let pin = json!({"credential_type": "pin", "change_type": "revoke"});
    let lower = json!({"namespace": "NIST-AAL", "current_level": "nist-aal1", "change_direction": "decrease"});
    let table: Vec<Row> = vec![
        (caep("session-revoked"), Grant::of_token, json!({}), "/open", "token_revoked"),
        (caep("session-revoked"), Grant::of_session, json!({}), "/open", "session_revoked"),
        (caep("session-revoked"), Grant::of_user, json!({}), "/open", "user_revoked"),
        (caep("session-revoked"), email, json!({}), "/open", "user_revoked"),
        (caep("session-revoked"), aliases, json!({}), "/open", "user_revoked"),
        (caep("session-revoked"), with_device, json!({}), "/open", "principal_revoked"),
        (caep("credential-change"), Grant::of_user, pin, "/open", "user_revoked"),
        (caep("token-claims-change"), Grant::of_token, offline.clone(), "/network", "claim_mismatch"),
        (caep("token-claims-change"), Grant::of_user, offline, "/when", "condition_failed"),
        (
            caep("token-claims-change"),
            Grant::of_token,
            json!({"claims": {"scope": "orders.read"}}),
            "/refund",
            "scope_insufficient",
        ),
        (caep("assurance-level-change"), Grant::of_user, lower, "/acr", "assurance_insufficient"),
        (
            caep("device-compliance-change"),
            Grant::of_device,
            json!({"previous_status": "compliant", "current_status": "not-compliant"}),
            "/device",
            "device_not_compliant",
        ),
        (
            caep("risk-level-change"),
            Grant::of_session,
            json!({"principal": "SESSION", "current_level": "HIGH"}),
            "/risk",
            "risk_too_high",
        ),
        (risc("account-disabled"), Grant::of_user, json!({"reason": "hijacking"}), "/open", "user_revoked"),
        (risc("account-purged"), Grant::of_user, json!({}), "/open", "user_revoked"),
        (risc("sessions-revoked"), Grant::of_user, json!({}), "/open", "user_revoked"),
        (
            risc("credential-compromise"),
            Grant::of_user,
            json!({"credential_type": "password"}),
            "/open",
            "user_revoked",
        ),
        (mint::TASK_COMPLETED.to_owned(), Grant::of_task, json!({"outcome": "success"}), "/open", "task_completed"),
        (
            mint::GRANT_NARROWED.to_owned(),
            Grant::of_task,
            json!({"scope": "orders.read"}),
            "/refund",
            "scope_insufficient",
        ),
        (
            mint::GRANT_NARROWED.to_owned(),
            Grant::of_task,
            json!({"authorization_details": [{"type": "order", "actions": ["write"], "identifier": "1881"}]}),
            "/order",
            "detail_insufficient",
        ),
    ];
    for (name, subject, members, path, reason) in table {
        let (grant, other) = (new_grant(), new_grant());
        grant.meets(sidecar, path, None).await;
        sidecar.accept(&signal_with(&name, subject(&grant), &members)).await;
        grant.meets(sidecar, path, Some(reason)).await;
        other.meets(sidecar, path, None).await;
    }
    // These events change nothing.
    for name in [caep("session-established"), caep("session-presented"), risc("account-enabled"), risc("opt-in")] {
        let grant = new_grant();
        sidecar.accept(&signal_with(&name, grant.of_user(), &json!({}))).await;
        grant.meets(sidecar, "/open", None).await;
    }
}

/// A narrowed grant passes with what is left, shows no more to the upstream, and later signals give nothing back.
#[tokio::test]
async fn a_narrowed_grant_stays_narrow() {
    let sidecar = sidecar().await;
    let grant = new_grant();
    sidecar.accept(&signal_with(mint::GRANT_NARROWED, grant.of_task(), &json!({"scope": "orders.read"}))).await;
    grant.meets(sidecar, "/refund", Some("scope_insufficient")).await;
    grant.meets(sidecar, "/open", None).await;
    for scope in ["orders.refund", "orders.read orders.refund orders.admin"] {
        sidecar.accept(&signal_with(mint::GRANT_NARROWED, grant.of_task(), &json!({"scope": scope}))).await;
        let widened = json!({"claims": {"scope": scope}});
        sidecar.accept(&signal_with(&caep("token-claims-change"), grant.of_token(), &widened)).await;
        grant.meets(sidecar, "/refund", Some("scope_insufficient")).await;
    }
    let big = json!({"scope": "x".repeat(5_000)});
    assert_signal_refused(
        &sidecar.push(&signal_with(mint::GRANT_NARROWED, grant.of_task(), &big)).await.unwrap(),
        "invalid_request",
    );
}

/// All readers of a claim see what is left of it: `when`, `claims`, nested reads, the header for the upstream. This
/// holds for every event that narrows, and for each name of the claim.
#[tokio::test]
async fn a_narrowing_reaches_whoever_reads_the_claim() {
    let sidecar = sidecar().await;
    let change = caep("token-claims-change");
    let order = |actions: Value| json!([{"type": "order", "actions": actions, "identifier": "1881"}]);
    let scopes = [
        ("/when-scope", "condition_failed"),
        ("/when-scp", "condition_failed"),
        ("/when-any", "condition_failed"),
        ("/when-all-claims", "condition_failed"),
        ("/claim-scope", "claim_mismatch"),
        ("/claim-scp", "claim_mismatch"),
        ("/refund", "scope_insufficient"),
    ];
    let details = [
        ("/when-details", "condition_failed"),
        ("/when-nested", "condition_failed"),
        ("/claim-details", "claim_mismatch"),
    ];
    let gone = [
        ("/when-details", "condition_failed"),
        ("/when-nested", "condition_error"),
        ("/claim-details", "claim_mismatch"),
    ];
    type Outcomes<'o> = &'o [(&'o str, &'o str)];
    let table: Vec<(&str, Value, Outcomes<'_>)> = vec![
        (mint::GRANT_NARROWED, json!({"scope": "orders.read"}), &scopes),
        (&change, json!({"claims": {"scope": "orders.read"}}), &scopes),
        (&change, json!({"claims": {"scp": ["orders.read"]}}), &scopes),
        (&change, json!({"claims": {"scp": "orders.read"}}), &scopes),
        (mint::GRANT_NARROWED, json!({"authorization_details": order(json!(["list"]))}), &details),
        (&change, json!({"claims": {"authorization_details": order(json!(["list"]))}}), &details),
        (mint::GRANT_NARROWED, json!({"authorization_details": []}), &gone),
    ];
    for (name, members, outcomes) in table {
        let (grant, other) = (new_grant(), new_grant());
        for (path, _) in outcomes {
            grant.meets(sidecar, path, None).await;
        }
        sidecar.accept(&signal_with(name, grant.of_task(), &members.clone())).await;
        for (path, reason) in outcomes {
            grant.meets(sidecar, path, Some(reason)).await;
            other.meets(sidecar, path, None).await;
        }
        // What comes later gives nothing back.
        let all = json!({"claims": {
            "scope": "orders.read orders.refund", "scp": ["orders.read", "orders.refund"],
            "authorization_details": order(json!(["read", "list"]))
        }});
        sidecar.accept(&signal_with(&change, grant.of_task(), &all)).await;
        for (path, reason) in outcomes {
            grant.meets(sidecar, path, Some(reason)).await;
        }
        let answer = sidecar.send(Http::One, &Request::get("/open").bearer(&grant.token.sign())).await.unwrap();
        let left =
            if members.to_string().contains("orders.read") { "orders.read" } else { "orders.read orders.refund" };
        assert_eq!(answer.json()["headers"]["x-scope"], json!([left]), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_claim_can_change_back_and_a_contradiction_refuses() {
    let sidecar = sidecar().await;
    let grant = new_grant();
    let say = |value: bool, at: i64| {
        let claims = json!({"claims": {"trusted_network": value}});
        signal_with(&caep("token-claims-change"), grant.of_session(), &claims).dated(at)
    };
    let at = now() - 100;
    sidecar.accept(&say(false, at)).await;
    grant.meets(sidecar, "/network", Some("claim_mismatch")).await;
    sidecar.accept(&say(true, at)).await;
    grant.meets(sidecar, "/network", Some("claim_mismatch")).await;
    grant.meets(sidecar, "/when", Some("condition_error")).await;
    sidecar.accept(&say(true, at + 1)).await;
    grant.meets(sidecar, "/network", None).await;
    grant.meets(sidecar, "/when", None).await;
}

#[tokio::test]
async fn a_transmitter_says_what_it_may() {
    let sidecar = sidecar().await;
    let grant = new_grant();
    let complete = mint::complete_task(&grant.task).claim("iss", VENDOR);
    assert_signal_refused(&sidecar.push(&complete).await.unwrap(), "access_denied");
    grant.meets(sidecar, "/open", None).await;
    sidecar.accept(&mint::device_is(&grant.device, "not-compliant").claim("iss", VENDOR)).await;
    grant.meets(sidecar, "/device", Some("device_not_compliant")).await;
}

/// The first SET with a `jti` counts. A 202 for the second would say that it was applied.
#[tokio::test]
async fn a_jti_means_one_thing() {
    let sidecar = sidecar().await;
    let (first, second) = (new_grant(), new_grant());
    let signal = mint::complete_task(&first.task);
    sidecar.accept(&signal).await;
    sidecar.accept(&signal.clone().claim("iat", now() - 1)).await;
    let other = mint::complete_task(&second.task).claim("jti", signal.id());
    for _ in 0..4 {
        assert_signal_refused(&sidecar.push(&other).await.unwrap(), "invalid_request");
    }
    first.meets(sidecar, "/open", Some("task_completed")).await;
    second.meets(sidecar, "/open", None).await;
    let stats = sidecar.envoy().stats().await.unwrap();
    assert!(stats.value("wasmcustom.taskfence.signals_contradictory").unwrap() >= 4);
}

/// Each bad push gets the right code, none is applied, and requests pass meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_changes_nothing() {
    let sidecar = sidecar().await;
    let machines = sidecar.machines_created().await.unwrap();
    let grant = new_grant();
    let forger = mint::FORGER.signer(Alg::Es256);
    let idp = mint::TRANSMITTER.signer(Alg::Es256);
    let good = || mint::complete_task(&grant.task);
    let two = json!({mint::TASK_COMPLETED: {}, mint::SESSION_REVOKED: {}});
    let critical = json!({"format": "complex", "user": grant.of_user(), "task": {"format": "email", "email": "a@b"}});
    let kinds: Vec<(&str, String, Option<&str>)> = vec![
        ("forged", good().signed_by(forger).header("kid", idp.kid.as_str()).sign(), Some("authentication_failed")),
        ("tampered", tamper::flip_signature_bit(&good().sign()), Some("authentication_failed")),
        ("for somebody else", good().claim("aud", "https://elsewhere.example").sign(), Some("invalid_audience")),
        ("two events", good().claim("events", two).sign(), Some("invalid_request")),
        (
            "a compliant device in the future",
            mint::device_is(&grant.device, "compliant").dated(now() + 500).sign(),
            Some("invalid_request"),
        ),
        ("a critical member that is not understood", good().claim("sub_id", critical).sign(), Some("invalid_request")),
        (
            "another state than asked",
            mint::signal(&ssf("verification"), json!({"format": "opaque", "id": "s"})).event("state", "x").sign(),
            Some("invalid_state"),
        ),
        ("random bytes", "\u{fffd}\u{1}garbage".repeat(50), Some("invalid_request")),
        ("dots", ".".repeat(3_000), Some("invalid_request")),
        ("too large", good().claim("padding", "x".repeat(70_000)).sign(), None),
    ];
    let bearer = grant.token.sign();
    let (kinds, bearer) = (&kinds, &bearer);
    let flood = stream::iter(0..1_000).for_each_concurrent(8, |number| async move {
        let (what, body, code) = &kinds[number % kinds.len()];
        let push = Request::push(orders::SIGNALS_PATH, body);
        let answer = client::send(sidecar.signals(), Http::BOTH[number % 2], &push).await.unwrap();
        match code {
            Some(code) => assert_eq!((answer.status, answer.json()["err"].as_str()), (400, Some(*code)), "{what}"),
            None => assert_eq!(answer.status, 413, "{what}"),
        }
    });
    let traffic = stream::iter(0..300).for_each_concurrent(2, |number| async move {
        let answer = sidecar.send(Http::BOTH[number % 2], &Request::get("/open").bearer(bearer)).await.unwrap();
        assert_allowed(sidecar, &answer);
    });
    futures_util::future::join(flood, traffic).await;
    grant.meets(sidecar, "/open", None).await;
    sidecar.check_no_crash_since(machines).await.unwrap();
    sidecar.accept(&good()).await;
    grant.meets(sidecar, "/open", Some("task_completed")).await;
}

/// Without signals the state is stale, and requests are refused, unless a rule allows that. The sidecar is its own,
/// because signals of other tests would make the state fresh.
#[tokio::test]
async fn silence_makes_the_state_stale() {
    let mut config = orders::config_of(json!([
        {"name": "guarded", "match": {"path": "/guarded"}, "require": {}},
        {"name": "patient", "match": {"path": "/patient"}, "require": {"state_age": "1h"}},
        {"name": "careless", "match": {"path": "/careless"}, "require": {}, "stale": "allow"},
        {"name": "glass", "match": {"path": "/glass"}, "require": {},
         "break_glass": {"scope": "emergency", "lifts": ["state_age"]}},
        {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
    ]));
    config["signals"]["stale"] = json!({"after": "3s"});
    config["signals"]["transmitters"].as_array_mut().unwrap().push(device_vendor());
    let sidecar = Sidecar::start(Settings::new("stale", config)).await.unwrap();
    let sidecar = &sidecar;
    let grant = new_grant();
    let beat =
        |name: &str| mint::signal(&ssf("verification"), json!({"format": "opaque", "id": "s"})).claim("iss", name);
    let stream_is = |status: &str| {
        let set = mint::signal(&ssf("stream-updated"), json!({"format": "opaque", "id": "s"}));
        set.event("status", status)
    };
    grant.meets(sidecar, "/guarded", Some("state_stale")).await;
    grant.meets(sidecar, "/careless", None).await;
    grant.meets(sidecar, "/glass", Some("state_stale")).await;
    let emergency = Request::get("/glass").bearer(&mint::token().claim("scope", "emergency").sign());
    assert_allowed(sidecar, &sidecar.send(Http::One, &emergency).await.unwrap());
    sidecar.accept(&beat(orders::TRANSMITTER)).await;
    grant.meets(sidecar, "/guarded", Some("state_stale")).await;
    sidecar.accept(&beat(VENDOR)).await;
    grant.meets(sidecar, "/guarded", None).await;
    grant.meets(sidecar, "/patient", None).await;

    // One transmitter goes on, the other falls silent. The silent one counts.
    let silent_since = Instant::now();
    loop {
        sidecar.accept(&beat(VENDOR)).await;
        let answer = sidecar.send(Http::One, &Request::get("/guarded").bearer(&grant.token.sign())).await.unwrap();
        if answer.status == 503 {
            break;
        }
        assert!(silent_since.elapsed() < Duration::from_secs(20), "never stale");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(silent_since.elapsed() > Duration::from_secs(1), "stale too soon");
    grant.meets(sidecar, "/guarded", Some("state_stale")).await;
    grant.meets(sidecar, "/patient", None).await;
    grant.meets(sidecar, "/careless", None).await;

    // A disabled stream makes the state stale at once, until it is enabled again.
    sidecar.accept(&stream_is("disabled")).await;
    grant.meets(sidecar, "/patient", Some("state_stale")).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sidecar.accept(&stream_is("enabled")).await;
    grant.meets(sidecar, "/patient", None).await;
    let answer = sidecar.send(Http::One, &Request::get("/healthz")).await.unwrap();
    assert_allowed(sidecar, &answer);
}

/// Names of things of `kind` that the state keeps in one bucket.
fn names_in(bucket: u16, kind: Kind) -> impl Iterator<Item = String> {
    (0u64..).map(move |n| format!("{kind:?}-{n}")).filter(move |name| key(kind, name).bucket() == bucket)
}

fn key(kind: Kind, name: &str) -> StateKey {
    match kind {
        Kind::Device => StateKey::foreign(kind, orders::ISSUER, orders::ISSUER, name),
        _ => StateKey::new(kind, orders::ISSUER, name),
    }
}

fn assert_no_room(answer: &Answer) {
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", describe(answer));
}

/// Signals about more devices than one bucket has room for. Only rules that ask for a device of that bucket refuse.
/// Grants without a device pass, other transmitters still have room, and so has a signal that ends a grant.
#[tokio::test]
async fn a_flood_of_words_about_devices_locks_out_nobody_else() {
    /// How many entries about devices one transmitter may have in one bucket.
    const SHARE: usize = 384;
    let settings = Settings::new("full", config());
    let sidecar = &Sidecar::start(settings).await.unwrap();
    let bucket = 7;
    let mut devices = names_in(bucket, Kind::Device);
    let say = |device: &str, issuer: &str| mint::device_is(device, "compliant").claim("iss", issuer);
    let known: Vec<String> = devices.by_ref().take(SHARE).collect();
    for device in &known {
        sidecar.accept(&say(device, VENDOR)).await;
    }
    let lost = devices.next().unwrap();
    let push = async |signal: &Jwt| sidecar.push(signal).await.unwrap();
    assert_no_room(&push(&say(&lost, VENDOR)).await);

    let grant = |device: &str| {
        let mut grant = new_grant();
        grant.token = grant.token.claim("device_id", device);
        grant
    };
    for device in [&lost, &known[0]] {
        grant(device).meets(sidecar, "/device", Some("state_saturated")).await;
        grant(device).meets(sidecar, "/open", None).await;
        grant(device).meets(sidecar, "/risk", None).await;
    }
    // Somebody without a device, whose name and task are in that bucket.
    let mut other = new_grant();
    other.user = names_in(bucket, Kind::User).next().unwrap();
    other.task = names_in(bucket, Kind::Task).next().unwrap();
    other.token = other.token.user(&other.user).task(&other.task).without("device_id");
    for path in ["/open", "/device", "/risk"] {
        other.meets(sidecar, path, None).await;
    }
    // The full bucket still has room for another transmitter's signal about a device, and for one that ends a grant.
    sidecar.accept(&say(&lost, orders::TRANSMITTER)).await;
    sidecar.accept(&mint::complete_task(&other.task)).await;
    other.meets(sidecar, "/open", Some("task_completed")).await;
    let stats = sidecar.envoy().stats().await.unwrap();
    assert!(stats.value("wasmcustom.taskfence.signals_failed").unwrap() >= 1);
}

/// When the entries that fill a bucket have expired, there is room again and no request is refused any more.
#[tokio::test]
async fn saturation_ends_by_itself() {
    /// How many cut-offs of clients one transmitter may leave in one bucket.
    const SHARE: usize = 48;
    let mut config = config();
    for (name, span) in [("max_lifetime", "4s"), ("max_session", "4s"), ("clock_skew", "1s")] {
        config["issuers"][0][name] = json!(span);
    }
    let sidecar = &Sidecar::start(Settings::new("full-for-a-while", config)).await.unwrap();
    let clients: Vec<String> = names_in(9, Kind::Client).take(SHARE + 2).collect();
    let end = |client: &str| {
        let subject = json!({"format": "complex", "client": {"format": "opaque", "id": client}});
        mint::signal(mint::SESSION_REVOKED, subject)
    };
    let ask = async |client: &str| {
        let token = mint::token().valid(0, 3).claim("client_id", client).without("auth_time").sign();
        sidecar.send(Http::One, &Request::get("/open").bearer(&token)).await.unwrap()
    };
    let (bystander, lost) = (&clients[SHARE], &clients[SHARE + 1]);
    assert_allowed(sidecar, &ask(bystander).await);
    for client in &clients[..SHARE] {
        sidecar.accept(&end(client)).await;
    }
    assert_allowed(sidecar, &ask(bystander).await);
    let full = Instant::now();
    assert_no_room(&sidecar.push(&end(lost)).await.unwrap());
    // The lost entry may have been about any client of that bucket, but about no other.
    for client in [bystander, lost] {
        assert_refused(sidecar, &ask(client).await, "state_saturated");
    }
    assert_allowed(sidecar, &ask("somebody in another bucket").await);
    // An entry stands for 10 s. The transmitter keeps pushing until it is taken.
    let deadline = full + Duration::from_secs(40);
    loop {
        let answer = sidecar.push(&end(lost)).await.unwrap();
        if answer.status == 202 {
            break;
        }
        assert_no_room(&answer);
        assert!(Instant::now() < deadline, "never any room");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    while ask(bystander).await.status != 200 {
        assert!(Instant::now() < deadline, "never an end");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(full.elapsed() > Duration::from_secs(8), "the end came early: {:?}", full.elapsed());
}

/// The listeners come from a file that Envoy watches; the file changes under traffic.
#[tokio::test]
async fn a_new_configuration_loses_no_entry() {
    let folder = std::env::temp_dir().join(unique("taskfence-lds"));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("listeners.json");
    let in_patch = file.clone();
    let settings = Settings::new("update", config()).patch(move |bootstrap| {
        let listeners = bootstrap["static_resources"].as_object_mut().unwrap().remove("listeners").unwrap();
        write_listeners(&in_patch, &listeners);
        bootstrap["node"] = json!({"id": "tests", "cluster": "tests"});
        bootstrap["dynamic_resources"] =
            json!({"lds_config": {"resource_api_version": "V3", "path_config_source": {"path": in_patch.to_str().unwrap()}}});
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    let (ended, narrowed) = (new_grant(), new_grant());
    sidecar.accept(&mint::complete_task(&ended.task)).await;
    sidecar.accept(&signal_with(mint::GRANT_NARROWED, narrowed.of_task(), &json!({"scope": "orders.read"}))).await;
    ended.meets(&sidecar, "/open", Some("task_completed")).await;
    ended.meets(&sidecar, "/new", Some("rule_missing")).await;

    let text = fs::read_to_string(&file).unwrap();
    let listeners: Value = serde_json::from_str::<Value>(&text).unwrap()["resources"].clone();
    let mut changed = listeners.clone();
    for listener in changed.as_array_mut().unwrap() {
        let config = listener
            .pointer_mut(
                "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value",
            )
            .unwrap();
        let mut parsed: Value = serde_json::from_str(config.as_str().unwrap()).unwrap();
        let rule = json!({"name": "new", "match": {"path": "/new"}, "require": {}});
        parsed["rules"].as_array_mut().unwrap().push(rule);
        *config = json!(parsed.to_string());
    }
    write_listeners(&file, &changed);
    let fresh = new_grant();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = sidecar.send(Http::One, &Request::get("/new").bearer(&fresh.token.sign())).await.unwrap();
        if answer.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "the new configuration did not come: {}", answer.line());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for path in ["/open", "/new"] {
        ended.meets(&sidecar, path, Some("task_completed")).await;
        fresh.meets(&sidecar, path, None).await;
    }
    narrowed.meets(&sidecar, "/refund", Some("scope_insufficient")).await;
    sidecar.accept(&mint::complete_task(&fresh.task)).await;
    fresh.meets(&sidecar, "/new", Some("task_completed")).await;
    fs::remove_dir_all(&folder).unwrap();
}

/// Envoy looks when a file is moved into place.
fn write_listeners(file: &Path, listeners: &Value) {
    let resources: Vec<Value> = listeners
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| {
            let mut listener = listener.clone();
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
            listener
        })
        .collect();
    let new: PathBuf = file.with_extension("new");
    fs::write(&new, json!({"resources": resources}).to_string()).unwrap();
    fs::rename(&new, file).unwrap();
}
