//! Only a token that is right in everything opens anything, and the refusal says what is wrong.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    mint::{self, Alg, Jwt, now},
    orders,
    raw::{Http1, Http1Request},
    refusal::{assert_allowed, assert_refused, describe},
    sidecar::Sidecar,
    tamper,
};
use tokio::sync::OnceCell;

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let settings = || {
        let other = |change: fn(&mut Value)| {
            let mut config = orders::config();
            change(&mut config["issuers"][0]);
            let issuer = config["issuers"][0]["issuer"].clone();
            config["signals"]["transmitters"][0]["subjects"] = json!([issuer]);
            config
        };
        let mut hidden = orders::config();
        hidden["forward_token"] = json!(false);
        Settings::new("tokens", orders::config())
            .also("hidden", hidden)
            .also("other-audience", other(|issuer| issuer["audiences"] = json!(["https://other.mesh"])))
            .also("other-issuer", other(|issuer| issuer["issuer"] = json!(orders::TRANSMITTER)))
            .also("other-keys", other(|issuer| issuer["keys"]["inline"] = mint::FORGER.jwks()))
            .also("other-lifetime", other(|issuer| issuer["max_lifetime"] = json!("1m")))
            .also("media-types", other(|issuer| issuer["types"] = json!(["application/at+jwt", "Application/x-jit"])))
    };
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

async fn read_order(http: Http, token: &str) -> Answer {
    sidecar().await.send(http, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap()
}

/// Twice on each version of HTTP: what was refused once must not be remembered as good.
async fn refused(token: &str, reason: &str) {
    let sidecar = sidecar().await;
    for http in [Http::One, Http::Two, Http::One, Http::Two] {
        let answer = read_order(http, token).await;
        let came = answer.reason();
        assert_eq!(came.as_deref(), Some(reason), "reason (left: came, right: expected) for\n{}", tamper::show(token));
        assert_refused(sidecar, &answer, reason);
    }
}

async fn allowed(token: &str) {
    let sidecar = sidecar().await;
    for http in [Http::One, Http::Two, Http::One, Http::Two] {
        let answer = read_order(http, token).await;
        assert_eq!(answer.line(), "200", "came (left) for\n{}", tamper::show(token));
        assert_allowed(sidecar, &answer);
    }
}

#[tokio::test]
async fn every_algorithm_verifies_what_another_library_signed() {
    for alg in Alg::ALL {
        allowed(&mint::token().signed_by(mint::ISSUER.signer(alg)).sign()).await;
    }
}

#[tokio::test]
async fn no_token_is_a_challenge_without_an_error() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let answer = sidecar.send(http, &Request::get(orders::ORDER_PATH)).await.unwrap();
        assert_refused(sidecar, &answer, "token_missing");
    }
}

/// RFC 6750 section 3, to the letter: what a client's library parses.
#[tokio::test]
async fn the_challenges_to_the_letter() {
    let sidecar = sidecar().await;
    let read = Request::get(orders::ORDER_PATH);
    let token = mint::token().sign();
    let table = [
        (read.clone(), r#"Bearer realm="https://orders.mesh", scope="orders.read""#),
        (
            read.clone().bearer(&mint::token().expired().sign()),
            r#"Bearer realm="https://orders.mesh", error="invalid_token", error_description="Access token expired", scope="orders.read""#,
        ),
        (
            Request::get("/v1/orders/1882").bearer(&token),
            r#"Bearer realm="https://orders.mesh", error="insufficient_authorization_details", error_description="Outside the task of the grant""#,
        ),
        (
            Request::new("POST", "/v1/orders/1881/refund").bearer(&token),
            r#"Bearer realm="https://orders.mesh", error="insufficient_scope", error_description="Outside the scope of the grant", scope="orders.refund""#,
        ),
    ];
    for (request, expected) in table {
        let answer = sidecar.send(Http::One, &request).await.unwrap();
        let came = answer.header("www-authenticate");
        assert_eq!(came.as_deref(), Some(expected), "of {}\n{}", request.line(), describe(&answer));
    }
}

#[tokio::test]
async fn only_one_bearer_token_is_a_credential() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    let request = Http1Request::new("GET", orders::ORDER_PATH);
    let bearer = format!("Bearer {token}");
    let twice = request.clone().header("authorization", &bearer).header("authorization", &bearer);
    let joined = request.clone().header("authorization", format!("{bearer}, {bearer}"));
    let with_basic = request.clone().header("authorization", "Basic YTpi").header("authorization", &bearer);
    for request in [twice, joined, with_basic] {
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&request).await.unwrap();
        assert_refused(sidecar, &answer, "credentials_ambiguous");
    }
    // The scheme is case-insensitive (RFC 9110 section 11.1).
    for scheme in ["bearer", "BEARER"] {
        let request = request.clone().header("authorization", format!("{scheme} {token}"));
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&request).await.unwrap();
        assert_allowed(sidecar, &answer);
    }
}

/// RFC 9110 section 5.6.3: whitespace is a space or a tab.
#[tokio::test]
async fn a_tab_ends_the_scheme() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for between in ["\t", " \t", "\t \t"] {
        let request = Http1Request::new("GET", orders::ORDER_PATH);
        let one = request.clone().header("authorization", format!("Bearer{between}{token}"));
        let answer = Http1::open(sidecar.listener("hidden")).await.unwrap().send(&one).await.unwrap();
        assert_allowed(sidecar, &answer);
        let seen = answer.json();
        assert!(!seen["headers"].to_string().contains(&token), "the token went on to the service: {seen}");
        let bent = request.header("authorization", format!("Bearer{between}{}", tamper::flip_signature_bit(&token)));
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&bent).await.unwrap();
        assert_refused(sidecar, &answer, "signature_invalid");
    }
}

/// One worker serves several configurations. A token that one of them has verified is not verified for the others.
#[tokio::test]
async fn a_token_that_is_good_here_is_judged_anew_elsewhere() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for _ in 0..2 {
        allowed(&token).await;
        for (listener, reason) in [
            ("other-audience", "audience_mismatch"),
            ("other-issuer", "issuer_unknown"),
            ("other-keys", "signature_invalid"),
            ("other-lifetime", "lifetime_exceeded"),
        ] {
            for http in [Http::One, Http::Two, Http::One, Http::Two] {
                let request = Request::get(orders::ORDER_PATH).bearer(&token);
                let answer = client::send(sidecar.listener(listener), http, &request).await.unwrap();
                assert_refused(sidecar, &answer, reason);
            }
        }
    }
}

#[tokio::test]
async fn a_tampered_token_is_refused() {
    for alg in Alg::ALL {
        let jwt = mint::token().signed_by(mint::ISSUER.signer(alg));
        let token = jwt.sign();
        // The original token is in the cache. A copy with one other bit must not get its verdict.
        allowed(&token).await;
        refused(&tamper::flip_signature_bit(&token), "signature_invalid").await;
        refused(&tamper::change_claim(&token, "scope", "orders.read orders.refund"), "signature_invalid").await;
        refused(&tamper::with_signature(&jwt, b"short"), "signature_invalid").await;
        refused(&tamper::with_signature(&jwt, &[0; 64]), "signature_invalid").await;
        refused(&jwt.signed_by(mint::FORGER.signer(alg)).sign(), "signature_invalid").await;
        allowed(&token).await;
    }
}

#[tokio::test]
async fn the_algorithm_is_the_keys_not_the_tokens() {
    let jwt = mint::token();
    for spelling in ["none", "None", "NONE", "nOnE"] {
        refused(&tamper::unsigned(&jwt, spelling), "token_malformed").await;
        refused(&(tamper::unsigned(&jwt, spelling) + "AAAA"), "algorithm_refused").await;
    }
    let rsa = mint::ISSUER.signer(Alg::Rs256);
    let jwt = jwt.signed_by(rsa);
    refused(&tamper::hs256(&jwt, rsa.public().to_string().as_bytes()), "algorithm_refused").await;
    refused(&tamper::hs256(&jwt, rsa.public()["n"].as_str().unwrap().as_bytes()), "algorithm_refused").await;
    refused(&jwt.clone().header("alg", "PS256").sign(), "algorithm_refused").await;
    // Allowed for the issuer, but not with this key.
    refused(&jwt.clone().header("alg", "ES256").sign(), "algorithm_refused").await;
    refused(&jwt.header("alg", "EdDSA").sign(), "algorithm_refused").await;
}

#[tokio::test]
async fn the_key_is_the_one_of_the_configuration() {
    let jwt = mint::token();
    for kid in ["nobody", "", "../jit-ES256", "jit-es256", "idp-ES256"] {
        refused(&jwt.clone().header("kid", kid).sign(), "key_unknown").await;
    }
    let forger = mint::FORGER.signer(Alg::Es256);
    // Without one, any key of the configuration that fits may have signed it, and no other.
    allowed(&jwt.clone().without_header("kid").sign()).await;
    refused(&jwt.clone().signed_by(forger).without_header("kid").sign(), "signature_invalid").await;
    // A token does not bring its own key.
    refused(&jwt.clone().signed_by(forger).header("jwk", forger.public()).sign(), "token_malformed").await;
    for name in ["jku", "x5u"] {
        let forged = jwt.clone().signed_by(forger).header(name, "http://127.0.0.1:9/jwks.json");
        refused(&forged.sign(), "signature_invalid").await;
    }
    // The transmitter's key signs signals, not tokens.
    let transmitter = mint::TRANSMITTER.signer(Alg::Es256);
    refused(&jwt.clone().signed_by(transmitter).sign(), "key_unknown").await;
    refused(&jwt.header("crit", json!(["b64"])).header("b64", false).sign(), "token_malformed").await;
}

#[tokio::test]
async fn only_an_access_token_is_one() {
    let jwt = mint::token();
    allowed(&jwt.clone().header("typ", "application/at+jwt").sign()).await;
    allowed(&jwt.clone().header("typ", "AT+JWT").sign()).await;
    for kind in ["JWT", "secevent+jwt", "dpop+jwt", "txntoken+jwt", "at+jwt ", "xat+jwt", ""] {
        refused(&jwt.clone().header("typ", kind).sign(), "token_type").await;
    }
    refused(&jwt.clone().without_header("typ").sign(), "token_type").await;
    refused(&jwt.claim("events", json!({})).sign(), "token_type").await;
    // A real signal, sent as a credential.
    refused(&mint::complete_task("x").sign(), "issuer_unknown").await;
    let own = mint::complete_task("x").claim("iss", orders::ISSUER).claim("aud", orders::AUDIENCE);
    refused(&own.signed_by(mint::ISSUER.signer(Alg::Es256)).sign(), "token_type").await;
}

#[tokio::test]
async fn issuer_and_audience() {
    let jwt = mint::token();
    for issuer in ["https://jit.example/", "HTTPS://jit.example", "https://evil.example", orders::TRANSMITTER] {
        refused(&jwt.clone().claim("iss", issuer).sign(), "issuer_unknown").await;
    }
    allowed(&jwt.clone().claim("aud", json!(["https://other.mesh", orders::AUDIENCE])).sign()).await;
    for audience in [
        json!("https://other.mesh"),
        json!("https://orders.mesh.evil"),
        json!(orders::SIGNALS_AUDIENCE),
        json!(["https://a.mesh", "https://b.mesh"]),
        json!([]),
    ] {
        refused(&jwt.clone().claim("aud", audience).sign(), "audience_mismatch").await;
    }
    refused(&jwt.claim("aud", json!({"https://orders.mesh": 1})).sign(), "claim_invalid").await;
}

#[tokio::test]
async fn times() {
    let jwt = mint::token();
    refused(&jwt.clone().expired().sign(), "token_expired").await;
    refused(&jwt.clone().valid(-400, 300).sign(), "token_expired").await;
    refused(&jwt.clone().valid(120, 300).sign(), "token_not_yet_valid").await;
    refused(&jwt.clone().claim("nbf", now() + 120).sign(), "token_not_yet_valid").await;
    refused(&jwt.clone().valid(0, 901).sign(), "lifetime_exceeded").await;
    refused(&jwt.clone().valid(0, 10 * 365 * 86_400).sign(), "lifetime_exceeded").await;
    allowed(&jwt.clone().valid(0, 900).sign()).await;
    // The clocks of two machines differ: within `clock_skew` that is no reason to refuse.
    allowed(&jwt.clone().valid(15, 300).sign()).await;
    allowed(&jwt.clone().claim("nbf", now() + 15).sign()).await;
    allowed(&jwt.valid(-310, 300).sign()).await;
}

/// RFC 7519 section 2: a NumericDate may have a fraction. In doubt by less than a second the token is older, and not
/// yet valid.
#[tokio::test]
async fn times_may_have_fractions() {
    let jwt = mint::token();
    let at = |seconds: i64, fraction: f64| json!(seconds as f64 + fraction);
    let now = now();
    for (name, value) in [
        ("iat", at(now - 5, 0.25)),
        ("exp", at(now + 300, 0.5)),
        ("nbf", at(now - 5, 0.5)),
        ("auth_time", at(now - 100, 0.5)),
        ("iat", at(now - 5, 0.0)),
    ] {
        allowed(&jwt.clone().claim(name, value).sign()).await;
    }
    // An issuer that counts in fractions gives the longest life in them too.
    let longest = jwt.clone().claim("iat", at(now - 1, 0.75)).claim("exp", at(now + 899, 0.75));
    allowed(&longest.sign()).await;
    refused(&longest.claim("exp", at(now + 900, 0.75)).sign(), "lifetime_exceeded").await;
    refused(&jwt.clone().claim("exp", at(now - 60, 0.5)).claim("iat", now - 200).sign(), "token_expired").await;
    refused(&jwt.clone().claim("nbf", at(now + 120, 0.5)).sign(), "token_not_yet_valid").await;
    refused(&jwt.claim("exp", json!(-0.5)).sign(), "claim_invalid").await;
    let signer = mint::ISSUER.signer(Alg::Es256);
    let text = tamper::claim_text(&mint::token(), "exp", &format!("{}e-1", (now + 300) * 10));
    allowed(&signer.sign_text(mint::token().header_text().as_bytes(), text.as_bytes())).await;
}

/// Null says that the token has no session, level or time of log-in: libraries write it for what they do not know.
#[tokio::test]
async fn null_is_an_identifier_that_is_not_there() {
    for name in ["sid", "acr", "auth_time", "act"] {
        allowed(&mint::token().claim(name, Value::Null).sign()).await;
    }
    // A wrong type is no absence, and the log says which claim it was.
    let sidecar = sidecar().await;
    sidecar.envoy().log_debug().await.unwrap();
    for (name, value) in [("acr", json!(true)), ("sid", json!([7])), ("auth_time", json!("soon"))] {
        refused(&mint::token().claim(name, value).sign(), "claim_invalid").await;
        let line = format!(r#""claim":"{name}""#);
        assert!(sidecar.envoy().log().contains(&line), "{line} is not in the log");
    }
}

/// `types` takes a media type in either of its two spellings (RFC 7515 section 4.1.9).
#[tokio::test]
async fn types_are_media_types() {
    let sidecar = sidecar().await;
    for (typ, reason) in [
        ("at+jwt", None),
        ("application/at+jwt", None),
        ("x-jit", None),
        ("application/X-JIT", None),
        ("JWT", Some("token_type")),
        ("application/application/at+jwt", Some("token_type")),
    ] {
        let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().header("typ", typ).sign());
        let answer = client::send(sidecar.listener("media-types"), Http::One, &request).await.unwrap();
        assert_eq!(answer.reason().as_deref(), reason, "{typ}");
    }
}

#[tokio::test]
async fn a_token_that_was_good_ends_with_its_time() {
    let sidecar = sidecar().await;
    // Good for a few seconds more, by way of the clock skew of 30 s.
    let token = mint::token().valid(-57, 30).sign();
    assert_allowed(sidecar, &read_order(Http::One, &token).await);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    let mut last = read_order(Http::One, &token).await;
    while last.status == 200 && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        last = read_order(Http::One, &token).await;
    }
    assert_refused(sidecar, &last, "token_expired");
}

/// In the wrong shape is invalid, not absent.
#[tokio::test]
async fn claims_in_the_wrong_shape() {
    let sidecar = sidecar().await;
    let jwt = mint::token();
    let mut wrong: Vec<(String, Jwt)> = Vec::new();
    for name in ["iat", "exp", "jti", "sub", "client_id", "aud", "iss", "txn"] {
        wrong.push((format!("no {name}"), jwt.clone().without(name)));
        for value in [Value::Null, json!({}), json!(true), json!([7])] {
            wrong.push((format!("{name}: {value}"), jwt.clone().claim(name, value)));
        }
    }
    for name in ["iat", "exp", "nbf", "auth_time"] {
        for value in [json!("1790000000"), json!(-1), json!(null), json!([])] {
            if name == "auth_time" && value.is_null() {
                continue;
            }
            wrong.push((format!("{name}: {value}"), jwt.clone().claim(name, value)));
        }
    }
    for (name, value) in
        [("scope", json!(["orders.read", 7])), ("authorization_details", json!({})), ("sid", json!([7]))]
    {
        wrong.push((format!("{name}: {value}"), jwt.clone().claim(name, value)));
    }
    for name in ["jti", "sub", "txn", "sid", "client_id"] {
        for value in ["", "a\u{0}b", "a\nb"] {
            wrong.push((format!("{name}: {value:?}"), jwt.clone().claim(name, value)));
        }
    }
    let mut differences = Vec::new();
    for (what, jwt) in &wrong {
        let answer = read_order(Http::One, &jwt.sign()).await;
        match answer.reason().as_deref() {
            Some("claim_invalid") => assert_refused(sidecar, &answer, "claim_invalid"),
            _ => differences.push(format!("{what}: {}", answer.line())),
        }
    }
    assert!(differences.is_empty(), "expected 401 claim_invalid, came\n{}", differences.join("\n"));
    let signer = mint::ISSUER.signer(Alg::Es256);
    for name in ["iat", "exp", "nbf", "auth_time"] {
        let text = tamper::claim_text(&jwt, name, "1e400");
        let answer = read_order(Http::One, &signer.sign_text(jwt.header_text().as_bytes(), text.as_bytes())).await;
        assert_invalid(&answer, &format!("{name} of 1e400"));
    }
}

#[tokio::test]
async fn what_is_no_token_at_all() {
    let token = mint::token().sign();
    for text in ["..", "....", &token[..token.len() / 2], &format!("{token}.x"), &format!("{token}=")] {
        refused(text, "token_malformed").await;
    }
    for text in ["x", "a.b", "a.b.c", "ya29.a0AfB_byC-9s8w7x", "ghs_16C7e42F292c6912E7710c838347Ae178B4a"] {
        refused(text, "token_opaque").await;
    }
    let signer = mint::ISSUER.signer(Alg::Es256);
    let header = mint::token().header_text();
    for claims in ["", "[]", "null", "7", "{", "{}{}", r#"{"iss":"a","iss":"b"}"#] {
        let answer = read_order(Http::Two, &signer.sign_text(header.as_bytes(), claims.as_bytes())).await;
        assert_invalid(&answer, claims);
    }
}

#[tokio::test]
async fn a_huge_token_is_refused() {
    let big = |bytes: usize| mint::token().claim("padding", "x".repeat(bytes)).sign();
    allowed(&big(8_000)).await;
    refused(&big(17_000), "token_too_large").await;
}

/// For texts where more than one reason is right.
#[track_caller]
fn assert_invalid(answer: &Answer, what: &str) {
    let error = answer.header("www-authenticate").unwrap_or_default();
    let right = answer.status == 401 && error.contains(r#"error="invalid_token""#);
    assert!(right, "`{what}`: expected 401 invalid_token, came\n{}", describe(answer));
}

#[tokio::test]
async fn the_decision_id_is_new_for_every_answer() {
    let jwt: Jwt = mint::token().expired();
    let token = jwt.sign();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        let decision = read_order(Http::One, &token).await.header("x-taskfence-decision").unwrap();
        assert!(seen.insert(decision.clone()), "the decision id {decision} came twice");
    }
}
