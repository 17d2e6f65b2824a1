//! What identity providers say to a hub in other ways than by standard SETs, and what a proxy that follows it then does:
//! logout tokens, global token revocations, and SETs as real transmitters write them. Logout tokens and the JWTs of
//! revocations are made by `jose`, which shares no code with the hub.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Request},
    hub::{FEED, Hub, fresh, read_order, wait_ready},
    mint::{self, Jwt, caep, now, risc, unique},
    oauth::{self, jose},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted, describe},
    sidecar::Sidecar,
    tamper,
};

/// A provider of logout tokens, and one of revocations.
const OP: &str = "https://op.example";
const OKTA: &str = "https://corp.okta.example";
const ORG: &str = "https://corp.idp.example";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const REVOCATIONS: &str = "https://hub.example/v1/feeds/main/global-token-revocation";

/// The configuration of the proxy, which knows users by their email too.
fn base() -> Value {
    let mut config = orders::config();
    config["issuers"][0]["claims"] = json!({"subjects": {"email": "email"}});
    config
}

/// A hub that takes what `transmitters` say about the tokens of the sample service.
async fn hub(name: &str, transmitters: Vec<Value>) -> Hub {
    let change = |config: &mut Value| {
        let feed = &mut config["feeds"][0];
        feed["issuers"] = base()["issuers"].clone();
        let all = feed["signals"]["transmitters"].as_array_mut().unwrap();
        for mut transmitter in transmitters {
            transmitter["subjects"] = json!([orders::ISSUER]);
            transmitter["heartbeat"] = json!(false);
            all.push(transmitter);
        }
        // A second feed, which none of them speaks in.
        let other = json!({"name": "other", "issuers": feed["issuers"]});
        config["feeds"].as_array_mut().unwrap().push(other);
    };
    Hub::start_with(name, change).await.unwrap()
}

async fn follower(name: &str, hub: &Hub) -> Sidecar {
    let proxy = Sidecar::start(hub.plain(name, &base())).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    proxy
}

async fn allowed(proxy: &Sidecar, token: &Jwt) {
    assert_allowed(proxy, &read_order(proxy, &token.sign()).await.unwrap());
}

/// Waits until every proxy has what the hub has, and asks whether the token is refused.
async fn refused(hub: &Hub, proxy: &Sidecar, token: &Jwt, reason: &str) {
    hub.wait_everywhere().await.unwrap();
    assert_refused(proxy, &read_order(proxy, &token.sign()).await.unwrap(), reason);
}

/// A JWT with these claims by `jose`, in ES256 and RS256, and the keys; `named` says whether they have a `kid`.
fn made(typ: &str, claims: &Value, named: bool) -> Value {
    let algorithms = ["ES256", "RS256"];
    jose("sign", &json!({"typ": typ, "claims": claims, "algorithms": algorithms, "named": named})).unwrap()
}

/// The token with `alg` none.
fn unsigned(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    format!("{}.{payload}.AA", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#))
}

async fn logout(hub: &Hub, feed: &str, token: &str) -> Answer {
    let request = Request::new("POST", &format!("/v1/feeds/{feed}/logout"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    hub.send(&request.body(format!("logout_token={token}"))).await.unwrap()
}

/// A logout is in force in the proxy when the receipt says so; and a token that is no logout token of this feed is refused.
#[tokio::test]
async fn a_logout_token_ends_the_session() {
    if !oauth::is_there("a_logout_token_ends_the_session") {
        return;
    }
    let (session, user) = (unique("sess"), unique("user"));
    let claims = json!({"iss": OP, "aud": ["web"], "sub": user, "sid": session, "iat": now(), "exp": now() + 120, "events": {EVENT: {}}});
    let good = made("logout+jwt", &claims, true);
    // Signed by the provider as well, and no logout tokens of this hub: an ID token, and one for another client.
    let (mut id_token, mut foreign) = (claims.clone(), claims.clone());
    id_token["nonce"] = json!("n");
    foreign["aud"] = json!("another-client");
    let wrong = [id_token, foreign].map(|claims| made("JWT", &claims, false));
    let none = unsigned(good["tokens"]["ES256"].as_str().unwrap());
    let keys: Vec<Value> =
        [&good].into_iter().chain(&wrong).flat_map(|made| made["jwks"]["keys"].as_array().unwrap().clone()).collect();
    let provider = json!({"issuer": OP, "keys": {"inline": {"keys": keys}}, "logout_audience": ["web", "mobile"],
        "subject_issuers": {OP: orders::ISSUER}});
    let hub = hub("ways-logout", vec![provider]).await;
    let proxy = follower("ways-logout-envoy", &hub).await;
    let session_token = fresh().session(&session).user(&unique("other"));
    let user_token = fresh().user(&user).without("sid");
    let (other_session, stranger) = (fresh().user(&user), fresh());
    for token in [&session_token, &user_token, &other_session, &stranger] {
        allowed(&proxy, token).await;
    }
    let token = good["tokens"]["ES256"].as_str().unwrap();
    // Nothing of this is a logout of this feed.
    let forged = tamper::flip_signature_bit(token);
    let wrong = wrong.iter().map(|made| (FEED, made["tokens"]["ES256"].as_str().unwrap()));
    for (feed, token) in [("other", token), (FEED, &*forged), (FEED, &*none)].into_iter().chain(wrong) {
        let answer = logout(&hub, feed, token).await;
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (400, Some("invalid_request")),
            "{}",
            describe(&answer)
        );
    }
    allowed(&proxy, &session_token).await;
    for _ in 0..2 {
        let answer = logout(&hub, FEED, token).await;
        assert_eq!(answer.status, 200, "{}", describe(&answer));
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    refused(&hub, &proxy, &session_token, "session_revoked").await;
    refused(&hub, &proxy, &user_token, "user_revoked").await;
    allowed(&proxy, &other_session).await;
    allowed(&proxy, &stranger).await;
    // Undone by its number, like any signal.
    let signals = hub.call("GET", &format!("/v1/feeds/{FEED}/signals"), None).await.unwrap().json();
    let [signal] = signals.as_array().unwrap().as_slice() else { panic!("one signal: {signals}") };
    let undo = json!({"signal": signal["signal"], "reason": "a test"});
    let undone = hub.call("POST", &format!("/v1/feeds/{FEED}/undo"), Some(&undo)).await.unwrap();
    assert_eq!(undone.status, 200, "{} {signal}", describe(&undone));
    assert_eq!(logout(&hub, FEED, good["tokens"]["ES256"].as_str().unwrap()).await.status, 200);
    hub.wait_everywhere().await.unwrap();
    allowed(&proxy, &session_token).await;
}

#[tokio::test]
async fn a_global_token_revocation_ends_what_the_user_had() {
    if !oauth::is_there("a_global_token_revocation_ends_what_the_user_had") {
        return;
    }
    let claims = json!({"iss": OKTA, "aud": REVOCATIONS, "sub": "okta", "iat": now(), "exp": now() + 300});
    let made = made("global-token-revocation+jwt", &claims, true);
    let provider = json!({"issuer": OKTA, "keys": {"inline": made["jwks"]}, "revocation_audience": REVOCATIONS});
    let hub = hub("ways-revocation", vec![provider]).await;
    let proxy = follower("ways-revocation-envoy", &hub).await;
    let email = format!("{}@corp.example", unique("Alice"));
    let alice = fresh().claim("email", email.to_lowercase());
    let bob = fresh().claim("email", "bob@corp.example");
    allowed(&proxy, &alice).await;
    let revoke = async |feed: &str, jwt: &str, subject: &Value| {
        let request = Request::new("POST", &format!("/v1/feeds/{feed}/global-token-revocation"));
        let request = request.header("content-type", "application/json").bearer(jwt);
        hub.send(&request.body(json!({"sub_id": subject}).to_string())).await.unwrap()
    };
    let subject = json!({"format": "email", "email": email});
    let jwt = made["tokens"]["RS256"].as_str().unwrap();
    assert_eq!(revoke("other", jwt, &subject).await.status, 401);
    assert_eq!(revoke(FEED, &tamper::flip_signature_bit(jwt), &subject).await.status, 401);
    assert_eq!(revoke(FEED, &unsigned(jwt), &subject).await.status, 401);
    assert_eq!(revoke(FEED, jwt, &json!({"format": "email", "email": "nobody"})).await.status, 400);
    allowed(&proxy, &alice).await;
    let answer = revoke(FEED, jwt, &subject).await;
    assert_eq!(answer.status, 204, "{}", describe(&answer));
    refused(&hub, &proxy, &alice, "user_revoked").await;
    allowed(&proxy, &bob).await;
    let other = json!({"format": "email", "email": "bob@corp.example"});
    assert_eq!(revoke(FEED, jwt, &other).await.status, 401, "the JWT was for alice");
    assert_eq!(revoke(FEED, made["tokens"]["ES256"].as_str().unwrap(), &other).await.status, 204);
    refused(&hub, &proxy, &bob, "user_revoked").await;
    // Whoever logs in again is let in again.
    let again = fresh().claim("email", email.to_lowercase()).claim("auth_time", now() + 2);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    allowed(&proxy, &again.claim("iat", now())).await;
}

/// A transmitter of that profile.
fn transmitter(profile: &str) -> Value {
    json!({"issuer": format!("https://{profile}.example"), "audience": orders::SIGNALS_AUDIENCE,
        "keys": {"inline": mint::TRANSMITTER.jwks()}, "profile": profile, "subject_issuers": {ORG: orders::ISSUER}})
}

/// SETs that end the session `session`, or the grants of `user`: the profile, the SET, and the reason of the refusal.
fn shapes(user: &str, session: &str) -> Vec<(&'static str, Jwt, &'static str)> {
    let revoked = |profile: &str| {
        let set = mint::signal(&caep("session-revoked"), Value::Null).without("sub_id");
        set.claim("iss", format!("https://{profile}.example"))
    };
    let events = |set: Jwt, uri: String, payload: Value| set.claim("events", json!({ uri: payload }));
    let sub = |format: &str, key: &str| json!({key: format, "iss": ORG, "sub": user});
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let milliseconds = now() * 1_000;
    vec![
        (
            "okta",
            events(
                revoked("okta"),
                caep("session-revoked"),
                json!({"event_timestamp": milliseconds, "initiating_entity": "Okta System", "reason_admin": "policy",
                    "subject": {"user": sub("iss_sub", "format"), "tenant": opaque("t")}}),
            ),
            "user_revoked",
        ),
        (
            "okta",
            events(
                revoked("okta"),
                caep("credential-change"),
                json!({"event_timestamp": milliseconds, "change_type": "update", "credential_type": "password",
                    "subject": {"user": {"iss": ORG, "sub": user}}}),
            ),
            "user_revoked",
        ),
        (
            "google-risc",
            events(
                revoked("google-risc"),
                risc("sessions-revoked"),
                json!({"subject": sub("iss-sub", "subject_type")}),
            ),
            "user_revoked",
        ),
        (
            "google-risc",
            events(
                revoked("google-risc"),
                "https://schemas.openid.net/secevent/oauth/event-type/tokens-revoked".to_owned(),
                json!({"subject": sub("iss-sub", "subject_type")}),
            ),
            "user_revoked",
        ),
        (
            "keycloak",
            revoked("keycloak")
                .claim("aud", json!(["https://else.example", orders::SIGNALS_AUDIENCE]))
                .claim(
                    "sub_id",
                    json!({"format": "complex", "user": sub("iss_sub", "format"), "session": opaque(session)}),
                )
                .event("credential_type", "unknown"),
            "session_revoked",
        ),
        (
            "standard",
            revoked("standard")
                .claim("sub_id", json!({"format": "complex", "session": {"format": "opaque", "id": session}}))
                .event("event_timestamp", 0)
                .event("reason_admin", Value::Null),
            "session_revoked",
        ),
        (
            "standard",
            revoked("standard")
                .claim("sub_id", sub("iss_sub", "format"))
                .claim("sub", user)
                .claim("exp", now() + 60)
                .event("subject", json!({"format": "complex", "session": opaque(session)})),
            "user_revoked",
        ),
    ]
}

/// What the hub took in from each profile reaches the proxy in the same form as any signal.
#[tokio::test]
async fn what_each_kind_of_transmitter_says_ends_the_grant_behind_the_hub() {
    let hub = hub("ways-profiles", ["okta", "google-risc", "keycloak", "standard"].map(transmitter).to_vec()).await;
    let proxy = follower("ways-profiles-envoy", &hub).await;
    for number in 0..shapes("", "").len() {
        let (user, session) = (unique("user"), unique("sess"));
        let (profile, set, reason) = shapes(&user, &session).remove(number);
        let token = fresh().user(&user).session(&session);
        allowed(&proxy, &token).await;
        assert_signal_accepted(&hub.push(&set).await.unwrap());
        refused(&hub, &proxy, &token, reason).await;
        allowed(&proxy, &fresh()).await;
        let odd = format!("\"jti\":\"{}\"", set.id());
        assert!(profile == "standard" || !hub.log().contains(&odd), "{profile} {number}: {}", hub.log());
    }
    // Google's own verification event.
    let set =
        mint::signal(&risc("verification"), Value::Null).without("sub_id").claim("iss", "https://google-risc.example");
    assert_signal_accepted(&hub.push(&set).await.unwrap());
}

/// The same shapes, pushed to the receiver in a proxy that follows no hub.
#[tokio::test]
async fn a_receiver_reads_the_same_shapes() {
    let mut config = orders::config();
    let transmitters = config["signals"]["transmitters"].as_array_mut().unwrap();
    transmitters.extend(["okta", "google-risc", "keycloak", "standard"].map(transmitter));
    transmitters.iter_mut().for_each(|one| one["subjects"] = json!([orders::ISSUER]));
    let proxy = Sidecar::start(Settings::new("ways-receiver", config)).await.unwrap();
    for number in 0..shapes("", "").len() {
        let (user, session) = (unique("user"), unique("sess"));
        let (_, set, reason) = shapes(&user, &session).remove(number);
        let token = fresh().user(&user).session(&session);
        allowed(&proxy, &token).await;
        proxy.accept(&set).await;
        assert_refused(&proxy, &read_order(&proxy, &token.sign()).await.unwrap(), reason);
        allowed(&proxy, &fresh()).await;
    }
}
