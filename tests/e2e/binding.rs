//! A leaked token is useless to anybody else: its binding is checked at every request. Proofs and single-use tokens
//! pass once.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::future::join_all;
use rcgen::SanType;
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Connection, Http, Request, send},
    mint::{self, Alg, Jwt, Signer, now, proof},
    orders,
    raw::{Http1, Http1Request},
    refusal::{assert_allowed, assert_refused, describe},
    sidecar::Sidecar,
    tls::{self, Workload},
};
use tokio::{
    sync::{Barrier, OnceCell},
    time,
};

const WORKERS: u32 = 4;
const API: &str = "https://api.example";

/// The workload that the tokens of [`mint::token`] name in `sub`, and another.
static A7: LazyLock<Workload> = LazyLock::new(|| Workload::new(orders::USER));
static B1: LazyLock<Workload> = LazyLock::new(|| Workload::new("spiffe://td/agent/b1"));
static KEY: LazyLock<Signer> = LazyLock::new(|| Signer::new(Alg::Es256));

fn config(change: impl FnOnce(&mut Value)) -> Value {
    let rule = |path: &str, require: Value| json!({"name": path, "match": {"path": path}, "require": require});
    let mut config = orders::config_of(json!([
        rule("/open/{rest...}", json!({"scope": orders::SCOPE})),
        rule("/closed", json!({"scope": "nobody.has.it"})),
        rule("/once", json!({"single_use": true, "scope": orders::SCOPE})),
        rule("/once-more", json!({"single_use": true})),
        {"name": "tried", "match": {"path": "/tried"}, "require": {"single_use": true}, "mode": "shadow"},
        rule("/agents", json!({"peer": ["spiffe://td/agent/*"]})),
        rule("/only-b1", json!({"peer": ["spiffe://td/agent/b1"]})),
        rule("/grpc.Service/Call", json!({})),
    ]));
    change(&mut config["issuers"][0]);
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let dpop = |more: Value| {
        config(|issuer| {
            issuer["binding"] = json!("dpop");
            issuer["dpop"] = more;
        })
    };
    SIDECAR
        .get_or_init(|| async {
            let settings = Settings::new("binding", config(|_| {}))
                .workers(WORKERS)
                .balanced()
                .also("plain", config(|_| {}))
                .also("mtls", config(|issuer| issuer["binding"] = json!("mtls")))
                .also("peer", config(|issuer| issuer["peer_claim"] = json!("sub")))
                .also("any", config(|issuer| issuer["binding"] = json!("any")))
                .also("dpop", dpop(json!({"origins": [API], "algorithms": Alg::names()})))
                .also("host", dpop(json!({})))
                .also("nonce", dpop(json!({"origins": [API], "nonce": "1h"})))
                .also("short", dpop(json!({"origins": [API], "nonce": "1s"})))
                .patch(|bootstrap| {
                    tls::secure(bootstrap, &["app", "peer", "any"], false);
                    tls::secure(bootstrap, &["mtls"], true);
                    // Without an origin a proof is held to the host with its port, which must then be left.
                    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().unwrap();
                    let host = listeners.iter_mut().find(|listener| listener["name"] == "host").unwrap();
                    host["filter_chains"][0]["filters"][0]["typed_config"]["strip_any_host_port"] = json!(false);
                });
            Sidecar::start(settings).await.unwrap()
        })
        .await
}

async fn as_workload(listener: &str, http: Http, workload: Option<&Workload>, request: &Request) -> Answer {
    let sidecar = sidecar().await;
    let to = if listener == "app" { sidecar.app() } else { sidecar.listener(listener) };
    tls::send(to, http, workload, request).await.unwrap()
}

fn bound_to(workload: &Workload) -> Jwt {
    mint::token().claim("cnf", json!({"x5t#S256": workload.digest()}))
}

async fn denied(reason: &str) -> u64 {
    let stats = sidecar().await.envoy().stats().await.unwrap();
    stats.value(&format!("wasmcustom.taskfence.denied.{reason}")).unwrap_or(0)
}

#[tokio::test]
async fn a_certificate_bound_token_is_for_its_certificate() {
    let sidecar = sidecar().await;
    let get = Request::get("/open/a").bearer(&bound_to(&A7).sign());
    let before = denied("binding_mismatch").await;
    let mut refused = 0;
    // Several times: the token is remembered, but its presenter must be checked each time.
    for round in 0..6 {
        let http = Http::BOTH[round % 2];
        for listener in ["mtls", "app", "any"] {
            assert_allowed(sidecar, &as_workload(listener, http, Some(&A7), &get).await);
            assert_refused(sidecar, &as_workload(listener, http, Some(&B1), &get).await, "binding_mismatch");
            refused += 1;
        }
        for listener in ["app", "any"] {
            assert_refused(sidecar, &as_workload(listener, http, None, &get).await, "binding_mismatch");
            refused += 1;
        }
    }
    assert!(denied("binding_mismatch").await >= before + refused);
    // Without a certificate the handshake fails where one is required.
    let handshake = tls::send(sidecar.listener("mtls"), Http::One, None, &get).await;
    assert!(handshake.is_err(), "{:?}", handshake.map(|answer| answer.status));
}

#[tokio::test]
async fn a_binding_that_is_asked_for_must_be_there() {
    let sidecar = sidecar().await;
    let free = Request::get("/open/a").bearer(&mint::token().sign());
    assert_allowed(sidecar, &as_workload("app", Http::One, Some(&A7), &free).await);
    for listener in ["mtls", "any"] {
        assert_refused(sidecar, &as_workload(listener, Http::Two, Some(&A7), &free).await, "binding_missing");
    }
    let answer = send(sidecar.listener("dpop"), Http::One, &free).await.unwrap();
    assert_refused(sidecar, &answer, "binding_missing");
    assert!(answer.header("www-authenticate").unwrap().starts_with("DPoP "), "{}", describe(&answer));
    // Bound to something that is no certificate is not bound to one.
    let key_bound = mint::token().claim("cnf", json!({"jkt": KEY.thumbprint()})).sign();
    let answer = as_workload("mtls", Http::One, Some(&A7), &Request::get("/open/a").bearer(&key_bound)).await;
    assert_refused(sidecar, &answer, "binding_missing");
    let with = async |cnf: Value| {
        let token = mint::token().claim("cnf", cnf).sign();
        as_workload("app", Http::One, Some(&A7), &Request::get("/open/a").bearer(&token)).await
    };
    for cnf in [json!({}), json!({"kid": "k"}), json!({"jwk": {}}), json!({"x5t#S256": "AAAA"}), json!(null)] {
        assert_refused(sidecar, &with(cnf).await, "claim_invalid");
    }
    // A whole key is a key: a certificate does not stand for it.
    assert_refused(sidecar, &with(json!({"jwk": KEY.public()})).await, "binding_mismatch");
}

/// What a client says about a certificate in a header is not a certificate.
#[tokio::test]
async fn a_header_is_no_certificate() {
    let sidecar = sidecar().await;
    let xfcc = format!("Hash={};URI={};Cert=\"x\"", A7.digest(), orders::USER);
    let get = Request::get("/open/a").bearer(&bound_to(&A7).sign()).header("x-forwarded-client-cert", &xfcc);
    assert_refused(sidecar, &as_workload("app", Http::One, None, &get).await, "binding_mismatch");
    assert_refused(sidecar, &as_workload("app", Http::One, Some(&B1), &get).await, "binding_mismatch");
    let get = Request::get("/agents").bearer(&mint::token().sign()).header("x-forwarded-client-cert", &xfcc);
    assert_refused(sidecar, &as_workload("app", Http::One, None, &get).await, "peer_refused");
}

#[tokio::test]
async fn a_token_is_for_the_workload_that_it_names() {
    let sidecar = sidecar().await;
    let get = Request::get("/open/a").bearer(&mint::token().sign());
    for http in Http::BOTH {
        assert_allowed(sidecar, &as_workload("peer", http, Some(&A7), &get).await);
        assert_refused(sidecar, &as_workload("peer", http, Some(&B1), &get).await, "binding_mismatch");
        assert_refused(sidecar, &as_workload("peer", http, None, &get).await, "binding_mismatch");
    }
    // Another certificate of the same workload will do: certificates are renewed by the hour.
    let renewed = Workload::new(orders::USER);
    assert_allowed(sidecar, &as_workload("peer", Http::One, Some(&renewed), &get).await);
    let nameless = Workload::with(vec![SanType::DnsName("a7.td".try_into().unwrap())]);
    assert_refused(sidecar, &as_workload("peer", Http::One, Some(&nameless), &get).await, "binding_mismatch");
    let other = Request::get("/open/a").bearer(&mint::token().user("spiffe://td/agent/a7/x").sign());
    assert_refused(sidecar, &as_workload("peer", Http::One, Some(&A7), &other).await, "binding_mismatch");
}

#[tokio::test]
async fn a_name_with_a_nul_in_it_is_no_name() {
    let sidecar = sidecar().await;
    let get = Request::get("/open/a").bearer(&mint::token().sign());
    let odd = Workload::new(&format!("{}\0.evil", orders::USER));
    // Envoy may refuse the certificate, or we refuse its name; nobody takes it for what stands before the NUL.
    if let Ok(answer) = tls::send(sidecar.listener("peer"), Http::One, Some(&odd), &get).await {
        assert_refused(sidecar, &answer, "binding_mismatch");
    }
}

#[tokio::test]
async fn a_rule_names_the_workloads_that_it_takes() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    let stranger = Workload::new("spiffe://td/agents/a7");
    let get = |path: &str| Request::get(path).bearer(&token);
    assert_allowed(sidecar, &as_workload("app", Http::One, Some(&A7), &get("/agents")).await);
    assert_allowed(sidecar, &as_workload("app", Http::Two, Some(&B1), &get("/agents")).await);
    assert_allowed(sidecar, &as_workload("app", Http::One, Some(&B1), &get("/only-b1")).await);
    assert_refused(sidecar, &as_workload("app", Http::One, Some(&A7), &get("/only-b1")).await, "peer_refused");
    assert_refused(sidecar, &as_workload("app", Http::One, Some(&stranger), &get("/agents")).await, "peer_refused");
    assert_refused(sidecar, &as_workload("app", Http::One, None, &get("/agents")).await, "peer_refused");
}

/// A token bound to the key of this client.
fn key_bound(key: &Signer) -> String {
    mint::token().claim("cnf", json!({"jkt": key.thumbprint()})).sign()
}

fn with(method: &str, path: &str, token: &str, proof: &str) -> Request {
    Request::new(method, path).header("authorization", format!("DPoP {token}")).header("dpop", proof)
}

async fn present(listener: &str, request: &Request) -> Answer {
    send(sidecar().await.listener(listener), Http::Two, request).await.unwrap()
}

#[tokio::test]
async fn a_proof_by_each_algorithm_passes_once() {
    let sidecar = sidecar().await;
    for alg in Alg::ALL {
        let key = Signer::new(alg);
        let token = key_bound(&key);
        for http in Http::BOTH {
            let proof = proof(&key, "GET", &format!("{API}/open/a"), &token).sign();
            let request = with("GET", "/open/a?page=2", &token, &proof);
            assert_allowed(sidecar, &send(sidecar.listener("dpop"), http, &request).await.unwrap());
            for _ in 0..3 {
                let again = send(sidecar.listener("dpop"), http, &request).await.unwrap();
                assert_refused(sidecar, &again, "dpop_proof_replayed");
            }
        }
    }
}

#[tokio::test]
async fn each_check_of_a_proof_refuses() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let uri = format!("{API}/open/a");
    let good = || proof(&KEY, "GET", &uri, &token);
    let thief = Signer::new(Alg::Es256);
    let invalid = "dpop_proof_invalid";
    let wrong: Vec<(&str, Jwt, &str)> = vec![
        ("htm", good().claim("htm", "POST"), invalid),
        ("htu", good().claim("htu", format!("{API}/open/b")), invalid),
        ("htu of another host", good().claim("htu", "https://orders.mesh/open/a"), invalid),
        ("iat of long ago", good().claim("iat", now() - 70), invalid),
        ("iat of later", good().claim("iat", now() + 60), invalid),
        ("ath of another token", proof(&KEY, "GET", &uri, "another"), invalid),
        ("no ath", good().without("ath"), invalid),
        ("no jti", good().without("jti"), invalid),
        ("typ", good().header("typ", "at+jwt"), invalid),
        ("no key", good().without_header("jwk"), invalid),
        ("alg none", good().header("alg", "none"), invalid),
        ("a key beside the signature's", good().header("jwk", Signer::new(Alg::Es256).public()), "binding_mismatch"),
        ("somebody else's proof", proof(&thief, "GET", &uri, &token), "binding_mismatch"),
        ("signed by a thief", good().header("alg", "EdDSA"), invalid),
    ];
    for (what, jwt, reason) in wrong {
        let answer = present("dpop", &with("GET", "/open/a", &token, &jwt.sign())).await;
        assert_eq!(answer.reason().as_deref(), Some(reason), "{what}");
        assert_refused(sidecar, &answer, reason);
    }
    let forged = thief.sign_text(good().header_text().as_bytes(), good().claims_text().as_bytes());
    assert_refused(sidecar, &present("dpop", &with("GET", "/open/a", &token, &forged)).await, invalid);
    let mut private = KEY.public();
    private["d"] = json!("AAAA");
    let answer = present("dpop", &with("GET", "/open/a", &token, &good().header("jwk", private).sign())).await;
    assert_refused(sidecar, &answer, invalid);
    for text in ["x", "a.b.c", &token, &format!("{0},{0}", good().sign())] {
        assert_refused(sidecar, &present("dpop", &with("GET", "/open/a", &token, text)).await, invalid);
    }
    let two = with("GET", "/open/a", &token, &good().sign()).header("dpop", good().sign());
    assert_refused(sidecar, &present("dpop", &two).await, invalid);
    assert_allowed(sidecar, &present("dpop", &with("GET", "/open/a", &token, &good().sign())).await);
}

/// RFC 7519 section 2: a NumericDate may have a fraction.
#[tokio::test]
async fn a_proof_may_be_dated_in_fractions() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let dated = |at: i64, fraction: f64| {
        let proof = proof(&KEY, "GET", &format!("{API}/open/a"), &token).claim("iat", at as f64 + fraction).sign();
        with("GET", "/open/a", &token, &proof)
    };
    assert_allowed(sidecar, &present("dpop", &dated(now() - 1, 0.75)).await);
    for (at, fraction) in [(now() - 70, 0.5), (now() + 60, 0.5), (-1, 0.5)] {
        assert_refused(sidecar, &present("dpop", &dated(at, fraction)).await, "dpop_proof_invalid");
    }
    let tabbed = Request::get("/open/a")
        .header("authorization", format!("DPoP\t{token}"))
        .header("dpop", proof(&KEY, "GET", &format!("{API}/open/a"), &token).sign());
    assert_allowed(sidecar, &present("dpop", &tabbed).await);
}

#[tokio::test]
async fn a_key_bound_token_is_no_bearer_token() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let good = || proof(&KEY, "GET", &format!("{API}/open/a"), &token).sign();
    let get = Request::get("/open/a");
    let downgraded = present("dpop", &get.clone().bearer(&token)).await;
    assert_refused(sidecar, &downgraded, "binding_mismatch");
    let expected = r#"DPoP realm="https://orders.mesh", error="invalid_token", error_description="Access token bound to another presenter", scope="orders.read", algs="ES256 ES384 RS256 RS384 RS512 PS256 PS384 PS512 EdDSA""#;
    assert_eq!(downgraded.header("www-authenticate").as_deref(), Some(expected));
    assert_refused(
        sidecar,
        &present("dpop", &get.clone().bearer(&token).header("dpop", good())).await,
        "binding_mismatch",
    );
    let bare = get.clone().header("authorization", format!("DPoP {token}"));
    assert_refused(sidecar, &present("dpop", &bare).await, "dpop_proof_missing");
    // Also where nothing asks for a binding.
    assert_refused(
        sidecar,
        &as_workload("app", Http::One, None, &get.clone().bearer(&token)).await,
        "binding_mismatch",
    );
    // A token that is bound to no key proves nothing under the scheme.
    let free = mint::token().sign();
    let free = get.header("authorization", format!("DPoP {free}")).header("dpop", good());
    assert_refused(sidecar, &as_workload("app", Http::One, None, &free).await, "binding_missing");
}

#[tokio::test]
async fn without_an_origin_the_host_of_the_request_counts() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    for (uri, host, passes) in [
        ("http://orders.mesh/open/a", "orders.mesh", true),
        ("http://ORDERS.mesh:80/open/%61", "orders.mesh", true),
        ("http://orders.mesh:8080/open/a", "orders.mesh:8080", true),
        ("https://orders.mesh/open/a", "orders.mesh", false),
        ("http://other.mesh/open/a", "orders.mesh", false),
    ] {
        let proof = proof(&KEY, "GET", uri, &token).sign();
        let answer = present("host", &with("GET", "/open/a", &token, &proof).host(host)).await;
        match passes {
            true => assert_allowed(sidecar, &answer),
            false => assert_refused(sidecar, &answer, "dpop_proof_invalid"),
        }
    }
}

#[tokio::test]
async fn a_grpc_call_is_proven_as_a_post() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let call =
        |proof: String| with("POST", "/grpc.Service/Call", &token, &proof).header("content-type", "application/grpc");
    let uri = format!("{API}/grpc.Service/Call");
    let good = present("dpop", &call(proof(&KEY, "POST", &uri, &token).sign())).await;
    assert_allowed(sidecar, &good);
    let bad = present("dpop", &call(proof(&KEY, "GET", &uri, &token).sign())).await;
    assert_eq!((bad.status, bad.header("grpc-status").as_deref()), (200, Some("16")), "{}", describe(&bad));
    let challenge = bad.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("invalid_dpop_proof"), "{challenge}");
}

/// A refused request has not used its proof up; a proof that passed has.
#[tokio::test]
async fn only_a_request_that_passes_uses_its_proof_up() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let proof = proof(&KEY, "GET", &format!("{API}/closed"), &token).sign();
    for _ in 0..3 {
        let answer = present("dpop", &with("GET", "/closed", &token, &proof)).await;
        assert_refused(sidecar, &answer, "scope_insufficient");
        assert!(answer.header("www-authenticate").unwrap().starts_with("DPoP "), "{}", describe(&answer));
    }
}

#[tokio::test]
async fn a_nonce_of_any_worker_is_good_on_all() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let make = || proof(&KEY, "GET", &format!("{API}/open/a"), &token);
    let mut nonces = BTreeSet::new();
    for _ in 0..4 * WORKERS {
        let answer = present("nonce", &with("GET", "/open/a", &token, &make().sign())).await;
        assert_refused(sidecar, &answer, "dpop_nonce_required");
        nonces.insert(answer.header("dpop-nonce").expect("a nonce"));
    }
    assert!(nonces.len() <= 2, "all workers give out the same, and time may pass: {nonces:?}");
    let nonce = nonces.into_iter().next_back().unwrap();
    for _ in 0..4 * WORKERS {
        let answer =
            present("nonce", &with("GET", "/open/a", &token, &make().claim("nonce", nonce.as_str()).sign())).await;
        assert_allowed(sidecar, &answer);
    }
    for other in ["", "x", &nonce.to_lowercase()] {
        let answer = present("nonce", &with("GET", "/open/a", &token, &make().claim("nonce", other).sign())).await;
        assert_refused(sidecar, &answer, "dpop_nonce_required");
    }
    // One of another configuration is none of this one.
    let answer = present("short", &with("GET", "/open/a", &token, &make().claim("nonce", nonce.as_str()).sign())).await;
    assert_refused(sidecar, &answer, "dpop_nonce_required");
}

#[tokio::test]
async fn an_old_nonce_is_no_nonce() {
    let sidecar = sidecar().await;
    let token = key_bound(&KEY);
    let make = || proof(&KEY, "GET", &format!("{API}/open/a"), &token);
    let first = present("short", &with("GET", "/open/a", &token, &make().sign())).await;
    let nonce = first.header("dpop-nonce").expect("a nonce");
    time::sleep(Duration::from_millis(2_100)).await;
    let late = present("short", &with("GET", "/open/a", &token, &make().claim("nonce", nonce.as_str()).sign())).await;
    assert_refused(sidecar, &late, "dpop_nonce_required");
    let next = late.header("dpop-nonce").expect("a nonce");
    assert_ne!(nonce, next);
    let answer = present("short", &with("GET", "/open/a", &token, &make().claim("nonce", next).sign())).await;
    assert_allowed(sidecar, &answer);
}

/// Sends one request on many connections at once; how often it passed, and the reasons why not. `first` goes before it
/// on each connection: every worker then knows the token, so the requests that follow compete for the single use.
async fn race(listener: &str, first: &Request, request: &Request, times: usize) -> (usize, BTreeSet<String>) {
    let to = sidecar().await.listener(listener);
    let start = Arc::new(Barrier::new(times));
    let runs = (0..times).map(|_| {
        let (first, request, start) = (first.clone(), request.clone(), Arc::clone(&start));
        tokio::spawn(async move {
            let mut connection = Connection::open(to, Http::One).await.unwrap();
            connection.send(&first).await.unwrap();
            start.wait().await;
            connection.send(&request).await.unwrap()
        })
    });
    let answers: Vec<Answer> = join_all(runs).await.into_iter().map(Result::unwrap).collect();
    let reasons = answers.iter().filter_map(Answer::reason).collect();
    (answers.iter().filter(|answer| answer.status == 200).count(), reasons)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_uses_of_one_proof_at_once_one_passes() {
    let token = key_bound(&KEY);
    let first = with("GET", "/closed", &token, "x");
    for _ in 0..50 {
        let proof = proof(&KEY, "GET", &format!("{API}/open/a"), &token).sign();
        let (passed, reasons) = race("dpop", &first, &with("GET", "/open/a", &token, &proof), 50).await;
        assert_eq!((passed, reasons), (1, BTreeSet::from(["dpop_proof_replayed".to_owned()])));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_uses_of_a_single_use_token_at_once_one_passes() {
    for _ in 0..100 {
        let token = mint::token().sign();
        let (first, request) = (Request::get("/open/a").bearer(&token), Request::get("/once").bearer(&token));
        let (passed, reasons) = race("plain", &first, &request, 50).await;
        assert_eq!((passed, reasons), (1, BTreeSet::from(["token_used".to_owned()])));
    }
}

#[tokio::test]
async fn a_single_use_is_one_for_all_rules_that_ask_for_it() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    let send = |path: &'static str| {
        let request = Request::get(path).bearer(&token);
        async move { send(sidecar.listener("plain"), Http::One, &request).await.unwrap() }
    };
    // Where single use is only tried it takes nothing from where it is enforced.
    assert_allowed(sidecar, &send("/tried").await);
    assert_allowed(sidecar, &send("/tried").await);
    assert_allowed(sidecar, &send("/open/a").await);
    assert_allowed(sidecar, &send("/once").await);
    for path in ["/once", "/once-more", "/once"] {
        assert_refused(sidecar, &send(path).await, "token_used");
    }
    // Other rules do not ask, and another token is another token.
    assert_allowed(sidecar, &send("/open/a").await);
    let other = Request::get("/once").bearer(&mint::token().sign());
    assert_allowed(
        sidecar,
        &taskfence_tests::client::send(sidecar.listener("plain"), Http::One, &other).await.unwrap(),
    );
    let shadowed = sidecar.envoy().stats().await.unwrap().value("wasmcustom.taskfence.shadow_denied.token_used");
    assert!(shadowed.unwrap() >= 1);
}

#[tokio::test]
async fn a_refused_request_does_not_use_the_token_up() {
    let sidecar = sidecar().await;
    let jwt = mint::token().claim("scope", "something.else");
    let request = Request::get("/once").bearer(&jwt.sign());
    for _ in 0..3 {
        let answer = send(sidecar.listener("plain"), Http::One, &request).await.unwrap();
        assert_refused(sidecar, &answer, "scope_insufficient");
    }
    let request = Request::get("/once-more").bearer(&jwt.sign());
    assert_allowed(sidecar, &send(sidecar.listener("plain"), Http::One, &request).await.unwrap());
}

#[tokio::test]
async fn bytes_that_are_no_text_get_an_answer() {
    let sidecar = sidecar().await;
    let created = sidecar.machines_created().await.unwrap();
    let token = key_bound(&KEY);
    for value in [&b"\xe9"[..], b"a.b.\xff", b"\x80.\x80.\x80"] {
        for _ in 0..2 * WORKERS {
            let request = Http1Request::new("GET", "/open/a")
                .header("authorization", format!("DPoP {token}"))
                .header("dpop", value);
            let answer = Http1::open(sidecar.listener("dpop")).await.unwrap().send(&request).await.unwrap();
            assert_refused(sidecar, &answer, "dpop_proof_invalid");
        }
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}
