//! Keys that are fetched: once per proxy, before they are needed, and never a wrong answer while they change.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    capabilities,
    client::{self, Answer, Connection, Http, Request},
    jwks::{self, Document, Jwks},
    mint::{self, Alg, Keyring},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted, assert_signal_refused, describe},
    services,
    sidecar::Sidecar,
    streaming,
};
use tokio::{task::JoinHandle, time::sleep};

/// The configuration of the sample service, but the token issuer's keys come from the cluster `jit`.
fn config(keys: Value) -> Value {
    let mut config = orders::config();
    config["issuers"][0]["keys"] = fetched("jit", keys);
    config
}

fn fetched(cluster: &str, keys: Value) -> Value {
    let mut all = json!({"cluster": cluster, "path": "/jwks.json"});
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    all
}

fn settings(name: &str, keys: Value, address: SocketAddr) -> Settings {
    Settings::new(name, config(keys)).patch(jwks::with_clusters(vec![jwks::cluster("jit", address)]))
}

fn read_order() -> Request {
    with_token(&mint::token().sign())
}

fn with_token(token: &str) -> Request {
    Request::get(orders::ORDER_PATH).bearer(token)
}

fn signed_by(keys: &Keyring) -> String {
    mint::token().signed_by(keys.signer(Alg::Es256)).sign()
}

/// The keys of several sets in one.
fn joined(sets: &[Value]) -> Value {
    let keys: Vec<Value> = sets.iter().flat_map(|set| set["keys"].as_array().unwrap().clone()).collect();
    json!({ "keys": keys })
}

async fn send(sidecar: &Sidecar, request: &Request) -> Answer {
    sidecar.send(Http::One, request).await.unwrap()
}

async fn counter(sidecar: &Sidecar, name: &str) -> u64 {
    sidecar.envoy().stats().await.unwrap().value(&format!("wasmcustom.taskfence.{name}")).unwrap()
}

/// Asks until the answer is the wanted one.
async fn until(what: &str, within: Duration, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn until_logged(sidecar: &Sidecar, text: &str) {
    until(&format!("`{text}` in the log"), Duration::from_secs(10), async || sidecar.envoy().log().contains(text))
        .await;
}

#[tokio::test]
async fn fetched_once_for_all_workers() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    // Long enough for every worker to find that there are no keys.
    server.delay(Duration::from_millis(400));
    let settings = settings("keys-once", json!({}), server.address()).workers(4).balanced();
    let sidecar = Sidecar::start(settings).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..12 {
        let mut connection = Connection::open(sidecar.app(), Http::One).await.unwrap();
        assert_allowed(&sidecar, &connection.send(&read_order()).await.unwrap());
        kept.push(connection);
    }
    let by_worker = sidecar.connections_by_worker().await.unwrap();
    assert!(by_worker.iter().all(|connections| *connections > 0), "{by_worker:?}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.asked_for(), ["jit.example/jwks.json"]);
    assert_eq!(counter(&sidecar, "keys_fetched").await, 1);
    until_logged(
        &sidecar,
        "keys of `https://jit.example` from cluster `jit`, jit.example/jwks.json: fetched, keys `jit-ES256`",
    )
    .await;
}

#[tokio::test]
async fn requests_wait_for_the_first_keys() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    server.delay(Duration::from_millis(2_500));
    let sidecar = Sidecar::start(settings("keys-wait", json!({"wait": "10s"}), server.address())).await.unwrap();
    let to = sidecar.app();
    let all: Vec<JoinHandle<_>> = (0..50)
        .map(|at| {
            // A body waits with its request, and arrives whole.
            let request = match at % 5 {
                0 => Request::new("POST", "/v1/orders/1881/refund").body(vec![b'x'; 100_000]).bearer(&refund()),
                _ => read_order(),
            };
            tokio::spawn(async move { (at, client::send(to, Http::BOTH[at % 2], &request).await) })
        })
        .collect();
    // What needs no keys does not wait for them.
    let before = Instant::now();
    assert_allowed(&sidecar, &send(&sidecar, &Request::get("/healthz")).await);
    assert_refused(&sidecar, &send(&sidecar, &with_token(&mint::token().expired().sign())).await, "token_expired");
    assert!(before.elapsed() < Duration::from_secs(1));
    for answer in all {
        let (at, answer) = answer.await.unwrap();
        let answer = answer.unwrap();
        assert_allowed(&sidecar, &answer);
        assert_eq!(answer.json()["body_bytes"], if at % 5 == 0 { 100_000 } else { 0 });
    }
    assert_eq!(server.requests(), 1);
    assert!(counter(&sidecar, "requests_waited").await >= 40, "almost nothing had to wait: the test shows nothing");
}

fn refund() -> String {
    let details = json!([{"type": "order", "actions": ["refund"], "identifier": "1881"}]);
    mint::token().claim("scope", "orders.refund").claim("authorization_details", details).sign()
}

#[tokio::test]
async fn without_keys_it_is_503_and_with_them_it_passes() {
    let address = jwks::down().unwrap();
    let sidecar = Sidecar::start(settings("keys-down", json!({"wait": "1s"}), address)).await.unwrap();
    let created = sidecar.machines_created().await.unwrap();
    for http in Http::BOTH {
        let before = Instant::now();
        let answer = sidecar.send(http, &read_order()).await.unwrap();
        let waited = before.elapsed();
        assert_refused(&sidecar, &answer, "keys_unavailable");
        assert!(waited > Duration::from_millis(900) && waited < Duration::from_millis(2_500), "waited {waited:?}");
    }
    let grpc = read_order().header("content-type", "application/grpc");
    let answer = sidecar.send(Http::Two, &grpc).await.unwrap();
    assert_eq!(answer.header("grpc-status").as_deref(), Some("14"), "{}", describe(&answer));
    until_logged(&sidecar, "fetch 1 in a row failed: status 503").await;
    assert!(counter(&sidecar, "keys_fetch_failed.status").await > 0);

    // A client that disconnects while it waits is forgotten: later keys cause no call for a stream that is gone.
    for _ in 0..20 {
        let request = read_order();
        let to = sidecar.app();
        let task = tokio::spawn(async move { client::send(to, Http::One, &request).await });
        sleep(Duration::from_millis(30)).await;
        task.abort();
    }
    let _server = Jwks::start_on(address, mint::ISSUER.jwks()).unwrap();
    let up = Instant::now();
    until("an allowed request", Duration::from_secs(10), async || send(&sidecar, &read_order()).await.status == 200)
        .await;
    assert!(up.elapsed() < Duration::from_secs(4), "retries are fast until the first success: {:?}", up.elapsed());
    sleep(Duration::from_millis(500)).await;
    sidecar.check_no_crash_since(created).await.unwrap();
}

#[tokio::test]
async fn a_slow_server_is_asked_again() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    server.delay(Duration::from_secs(4));
    let keys = json!({"wait": "1s", "timeout": "1s"});
    let sidecar = Sidecar::start(settings("keys-slow", keys, server.address())).await.unwrap();
    assert_refused(&sidecar, &send(&sidecar, &read_order()).await, "keys_unavailable");
    until_logged(&sidecar, "failed: status 504 (no answer within `timeout`)").await;
    server.delay(Duration::ZERO);
    until("an allowed request", Duration::from_secs(10), async || send(&sidecar, &read_order()).await.status == 200)
        .await;
}

/// The issuer announces a key, signs with it, and withdraws the old one: as every issuer does, under load.
#[tokio::test]
async fn rotation_under_load_gives_no_wrong_answer() {
    let (old, new) = (Keyring::generate("old"), Keyring::generate("new"));
    let both = joined(&[old.jwks(), new.jwks()]);
    let server = Jwks::start(old.jwks()).unwrap();
    let keys = json!({"refresh": "1s", "refetch": "1s"});
    let settings = settings("keys-rotation", keys, server.address()).workers(2).balanced();
    let sidecar = Arc::new(Sidecar::start(settings).await.unwrap());
    let created = sidecar.machines_created().await.unwrap();

    let load = |token: String, fresh: Option<&'static Keyring>, stop: Arc<AtomicBool>| {
        let sidecar = Arc::clone(&sidecar);
        tokio::spawn(async move {
            let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                // The same token again and again is one that every worker remembers; a new one is verified each time.
                let token = fresh.map_or_else(|| token.clone(), signed_by);
                assert_allowed(&sidecar, &connection.send(&with_token(&token)).await.unwrap());
                sent += 1;
            }
            sent
        })
    };
    let (old, new): (&'static Keyring, &'static Keyring) = (Box::leak(Box::new(old)), Box::leak(Box::new(new)));
    let (stop_old, stop_new) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let warm_old = signed_by(old);
    let mut on_old: Vec<_> = (0..2).map(|_| load(warm_old.clone(), None, Arc::clone(&stop_old))).collect();
    on_old.push(load(String::new(), Some(old), Arc::clone(&stop_old)));
    sleep(Duration::from_secs(1)).await;
    server.publish(&both);
    sleep(Duration::from_millis(2_500)).await;
    let warm_new = signed_by(new);
    let mut on_new: Vec<_> = (0..2).map(|_| load(warm_new.clone(), None, Arc::clone(&stop_new))).collect();
    on_new.push(load(String::new(), Some(new), Arc::clone(&stop_new)));
    sleep(Duration::from_secs(1)).await;
    stop_old.store(true, Ordering::Relaxed);
    for task in on_old {
        assert!(task.await.unwrap() > 20);
    }
    server.publish(&new.jwks());
    // One refresh, and one look of each worker.
    sleep(Duration::from_millis(2_500)).await;
    for _ in 0..10 {
        let warm = send(&sidecar, &with_token(&warm_old)).await;
        assert_refused(&sidecar, &warm, "key_unknown");
    }
    assert_refused(&sidecar, &send(&sidecar, &with_token(&signed_by(old))).await, "key_unknown");
    // Another key under the same name is another key.
    let mut renamed = json!({"keys": [old.signer(Alg::Es256).public()]});
    renamed["keys"][0]["kid"] = json!("new-ES256");
    stop_new.store(true, Ordering::Relaxed);
    for task in on_new {
        assert!(task.await.unwrap() > 20);
    }
    server.publish(&renamed);
    sleep(Duration::from_millis(2_500)).await;
    for _ in 0..10 {
        assert_refused(&sidecar, &send(&sidecar, &with_token(&warm_new)).await, "signature_invalid");
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

#[tokio::test]
async fn an_unknown_kid_asks_once() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let sidecar = Sidecar::start(settings("keys-kid", json!({"refetch": "2s"}), server.address())).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    let new = Keyring::generate("new");
    server.publish(&new.jwks());
    sleep(Duration::from_millis(2_100)).await;
    // At once on all workers: they all wait for the same fetch.
    let to = sidecar.app();
    let token = signed_by(&new);
    let all: Vec<_> = (0..20)
        .map(|at| {
            let request = with_token(&token);
            tokio::spawn(async move { client::send(to, Http::BOTH[at % 2], &request).await })
        })
        .collect();
    for answer in all {
        assert_allowed(&sidecar, &answer.await.unwrap().unwrap());
    }
    assert_eq!(server.requests(), 2, "one flight");

    // A flood of unknown `kid`s.
    let start = Instant::now();
    let mut flood = Vec::new();
    for lane in 0..8 {
        flood.push(tokio::spawn(async move {
            let mut connection = Connection::open(to, Http::Two).await.unwrap();
            let mut answers = Vec::new();
            while start.elapsed() < Duration::from_secs(5) {
                let token = mint::token().header("kid", mint::unique(&format!("nobody-{lane}"))).sign();
                answers.push(connection.send(&with_token(&token)).await.unwrap());
            }
            answers
        }));
    }
    while start.elapsed() < Duration::from_millis(4_500) {
        let before = Instant::now();
        assert_allowed(&sidecar, &send(&sidecar, &with_token(&token)).await);
        assert!(before.elapsed() < Duration::from_secs(1), "a good token does not wait for the bad");
        sleep(Duration::from_millis(20)).await;
    }
    let mut refused = 0;
    for lane in flood {
        for answer in lane.await.unwrap() {
            assert_refused(&sidecar, &answer, "key_unknown");
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused} are no flood");
    let asked = server.requests() - 2;
    assert!((1..=4).contains(&asked), "{refused} unknown names in 5 s asked {asked} times, with 2 s between");
}

#[tokio::test]
async fn one_bad_issuer_stops_no_other() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let broken = Jwks::start(json!("nothing")).unwrap();
    let dead = jwks::down().unwrap();
    let mut config = config(json!({"refresh": "1s"}));
    for (name, cluster) in [
        ("https://broken.example", "broken"),
        ("https://dead.example", "dead"),
        ("https://none.example", "none"),
        ("https://empty.example", "empty"),
    ] {
        let mut issuer = config["issuers"][0].clone();
        issuer["issuer"] = json!(name);
        issuer["keys"] = fetched(cluster, json!({"wait": "1s"}));
        config["issuers"].as_array_mut().unwrap().insert(0, issuer);
    }
    let mut empty = jwks::cluster("empty", dead);
    empty["load_assignment"]["endpoints"] = json!([]);
    // `none` is a cluster that Envoy does not have.
    let clusters = vec![
        jwks::cluster("jit", server.address()),
        jwks::cluster("broken", broken.address()),
        jwks::cluster("dead", dead),
        empty,
    ];
    let sidecar =
        Sidecar::start(Settings::new("keys-bad-issuer", config).patch(jwks::with_clusters(clusters))).await.unwrap();
    let created = sidecar.machines_created().await.unwrap();
    for _ in 0..3 {
        let before = Instant::now();
        assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
        assert!(before.elapsed() < Duration::from_secs(1));
        for issuer in ["broken", "dead", "none", "empty"] {
            let token = mint::token().claim("iss", format!("https://{issuer}.example")).sign();
            assert_refused(&sidecar, &send(&sidecar, &with_token(&token)).await, "keys_unavailable");
        }
    }
    for (issuer, why) in [
        ("broken", "not a JWK Set: expected an object with an array `keys`"),
        ("dead", "status 503"),
        ("none", "the proxy has no cluster of this name"),
        ("empty", ""),
    ] {
        let line = format!(
            "keys of `https://{issuer}.example` from cluster `{issuer}`, {issuer}.example/jwks.json: fetch 1 in a row failed: {why}"
        );
        until_logged(&sidecar, &line).await;
    }
    for cause in ["status", "cluster_missing", "not_a_jwk_set"] {
        assert!(counter(&sidecar, &format!("keys_fetch_failed.{cause}")).await > 0, "{cause}");
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

#[tokio::test]
async fn a_broken_answer_leaves_the_last_good_keys() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let sidecar = Sidecar::start(settings("keys-broken", json!({"refresh": "1s"}), server.address())).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    let mut padded = mint::FORGER.jwks();
    padded["padding"] = json!("x".repeat(1024 * 1024));
    let many = json!({"keys": vec![mint::FORGER.jwks()["keys"][0].clone(); 101]});
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (status, body, cause) in [
        (200, padded.to_string(), "too_large"),
        (200, many.to_string(), "too_large"),
        (200, "<html>Welcome</html>".to_owned(), "not_a_jwk_set"),
        (200, "{}".to_owned(), "not_a_jwk_set"),
        (200, deep, "not_a_jwk_set"),
        (500, mint::FORGER.jwks().to_string(), "status"),
        (302, String::new(), "status"),
    ] {
        let name = format!("keys_fetch_failed.{cause}");
        let before = counter(&sidecar, &name).await;
        server.answer(status, body);
        until(&name, Duration::from_secs(10), async || counter(&sidecar, &name).await > before).await;
        assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
        let forged = mint::token().signed_by(mint::FORGER.signer(Alg::Es256)).sign();
        assert_refused(&sidecar, &send(&sidecar, &with_token(&forged)).await, "signature_invalid");
    }
    until_logged(&sidecar, "ago stay in use; next try in").await;
    server.publish(&mint::FORGER.jwks());
    until("the new keys", Duration::from_secs(10), async || {
        let forged = mint::token().signed_by(mint::FORGER.signer(Alg::Es256)).sign();
        send(&sidecar, &with_token(&forged)).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn bad_keys_are_named_and_the_rest_is_used() {
    let twice = |prefix| named(&Keyring::generate(prefix), Alg::Es256, json!("twice\nkeys of `x`"));
    let mut private = Keyring::generate("p").signer(Alg::Es256).public();
    (private["kid"], private["d"]) = (json!("private"), json!("AAAA"));
    // All ones, 1024 bits.
    let weak = json!({"kty": "RSA", "kid": "weak", "n": format!("_{}w", "_".repeat(169)), "e": "AQAB"});
    let symmetric = json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"});
    let nameless = json!({"kty": "EC"});
    let bad = [private, weak, symmetric, twice("s"), twice("t"), nameless, json!(7)];
    let server = Jwks::start(joined(&[json!({"keys": bad}), mint::ISSUER.jwks()])).unwrap();
    let sidecar = Sidecar::start(settings("keys-bad-keys", json!({}), server.address())).await.unwrap();
    for alg in Alg::ALL {
        let token = mint::token().signed_by(mint::ISSUER.signer(alg)).sign();
        assert_allowed(&sidecar, &send(&sidecar, &with_token(&token)).await);
    }
    for line in [
        "jit.example/jwks.json: keys[0] is not used: key `private` holds private members",
        "keys[1] is not used: key `weak` has an RSA modulus of 1024 bits",
        "keys[2] is not used: key `secret` holds private members",
        r"keys[3] is not used: `kid` `twice\nkeys of `x`` names several keys for ES256",
        r"keys[4] is not used: `kid` `twice\n",
        "keys[5] is not used: a key without `kid` has no `crv`",
        "keys[6] is not used: not a JWK object",
    ] {
        until_logged(&sidecar, line).await;
    }
    assert_eq!(counter(&sidecar, "keys_refused").await, 7, "said once, and not by every worker");
}

/// The public key of that algorithm under another `kid`.
fn named(keys: &Keyring, alg: Alg, kid: Value) -> Value {
    let mut key = keys.signer(alg).public();
    key["kid"] = kid;
    key
}

/// `key` with other members; [`Value::Null`] stays null.
fn with(mut key: Value, members: Value) -> Value {
    key.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    key
}

/// A token under `alg` and `kid`, signed by the key of another algorithm that can be bent to it.
fn bent(keys: &Keyring, owner: Alg, alg: Alg, kid: &str) -> String {
    let signer = keys.signer(owner);
    let token = mint::token().header("alg", alg.name()).header("kid", kid).sign();
    let input = token.rsplit_once('.').unwrap().0;
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signer.signature(input.as_bytes(), alg)))
}

/// Sets as issuers publish them: one `kid` for all algorithms of a key, or for keys of several kinds, members that are
/// null, an encryption key beside, a modulus with a zero in front, a key without a name.
#[tokio::test]
async fn keys_as_issuers_publish_them() {
    let keys = Keyring::generate("odd");
    let rsa = named(&keys, Alg::Rs256, json!("r1"));
    let modulus = URL_SAFE_NO_PAD.decode(keys.signer(Alg::Ps256).public()["n"].as_str().unwrap()).unwrap();
    let padded = [&[0, 0][..], &modulus].concat();
    let mut nameless = keys.signer(Alg::Es256).public();
    nameless.as_object_mut().unwrap().remove("kid");
    let published = json!({"keys": [
        with(rsa.clone(), json!({"alg": "RS256"})),
        with(rsa.clone(), json!({"alg": "RS384"})),
        with(rsa.clone(), json!({"alg": "PS256"})),
        with(rsa.clone(), json!({"alg": "PS256", "x5t": "other"})),
        with(rsa.clone(), json!({"use": "enc", "alg": "RSA-OAEP"})),
        named(&keys, Alg::Es256, json!("r1")),
        with(named(&keys, Alg::Rs384, json!("nulls")), json!({"use": null, "alg": null, "key_ops": null, "d": null})),
        with(named(&keys, Alg::Ps256, json!("padded")), json!({"n": URL_SAFE.encode(padded), "alg": null})),
        named(&keys, Alg::EdDsa, json!("long")).as_object().map(|key| {
            let mut key = key.clone();
            key.insert("x5c".to_owned(), json!(["M".repeat(10_000)]));
            Value::Object(key)
        }),
        nameless,
        with(named(&keys, Alg::Rs512, json!("three")), json!({"e": "Aw"})),
        with(named(&keys, Alg::Es384, json!("spoilt")), json!({"x": 7})),
    ]});
    let server = Jwks::start(published).unwrap();
    let sidecar = Sidecar::start(settings("keys-odd", json!({}), server.address())).await.unwrap();
    let es256 = keys.signer(Alg::Es256);
    for (what, token) in [
        ("RS256", bent(&keys, Alg::Rs256, Alg::Rs256, "r1")),
        ("RS384", bent(&keys, Alg::Rs256, Alg::Rs384, "r1")),
        ("PS256", bent(&keys, Alg::Rs256, Alg::Ps256, "r1")),
        ("ES256 under the same name", mint::token().signed_by(es256).header("kid", "r1").sign()),
        ("null members", bent(&keys, Alg::Rs384, Alg::Rs384, "nulls")),
        ("a padded modulus", bent(&keys, Alg::Ps256, Alg::Ps256, "padded")),
        ("a long x5c", mint::token().signed_by(keys.signer(Alg::EdDsa)).header("kid", "long").sign()),
        ("no name", mint::token().signed_by(es256).without_header("kid").sign()),
    ] {
        let answer = send(&sidecar, &with_token(&token)).await;
        assert_eq!(answer.line(), "200", "{what}");
    }
    for (what, token, reason) in [
        ("RS512, for which no key of that name is", bent(&keys, Alg::Rs256, Alg::Rs512, "r1"), "algorithm_refused"),
        ("a nameless key under a name", mint::token().signed_by(es256).header("kid", "x").sign(), "key_unknown"),
        ("another key under the name", bent(&keys, Alg::Rs384, Alg::Rs256, "r1"), "signature_invalid"),
        ("exponent 3", bent(&keys, Alg::Rs512, Alg::Rs512, "three"), "key_unknown"),
    ] {
        let answer = send(&sidecar, &with_token(&token)).await;
        assert_eq!(answer.reason().as_deref(), Some(reason), "{what}");
        assert_refused(&sidecar, &answer, reason);
    }
    for line in [
        "keys[4] is not used: key `r1` is not for signatures: its `use` is `enc`",
        "keys[10] is not used: key `three` has the RSA exponent 3",
        "keys[11] is not used: key `spoilt` has no `x`",
    ] {
        until_logged(&sidecar, line).await;
    }
    assert_eq!(counter(&sidecar, "keys_refused").await, 3);
}

/// The same sets in a configuration: what is not for us is a warning beside a good key.
#[tokio::test]
async fn an_encryption_key_beside_a_good_one_is_no_error() {
    let mut config = orders::config();
    let keys = config["issuers"][0]["keys"]["inline"]["keys"].as_array_mut().unwrap();
    let rsa = keys.iter().find(|key| key["kid"] == "jit-RS256").unwrap().clone();
    keys.push(with(rsa, json!({"kid": "enc", "use": "enc", "alg": "RSA-OAEP-256"})));
    let sidecar = Sidecar::start(Settings::new("keys-enc", config)).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
}

/// Whatever its size, a set that is too large is counted as that: also where the proxy itself does not take it.
#[tokio::test]
async fn a_set_that_is_too_large_is_counted_as_that() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let sidecar = Sidecar::start(settings("keys-size", json!({"refresh": "1s"}), server.address())).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    let created = sidecar.machines_created().await.unwrap();
    for mebibytes in [2, 40] {
        let before = counter(&sidecar, "keys_fetch_failed.too_large").await;
        let mut padded = mint::FORGER.jwks();
        padded["padding"] = json!("x".repeat(mebibytes * 1024 * 1024));
        server.answer(200, padded.to_string());
        until(&format!("{mebibytes} MiB"), Duration::from_secs(20), async || {
            // One may be by a fetch that was under way.
            counter(&sidecar, "keys_fetch_failed.too_large").await > before + 1
        })
        .await;
        assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

#[tokio::test]
async fn keys_that_nobody_confirms_are_given_up() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let keys = json!({"refresh": "1s", "keep": "3s", "wait": "1s"});
    let sidecar = Sidecar::start(settings("keys-keep", keys, server.address())).await.unwrap();
    let token = mint::token().sign();
    for _ in 0..8 {
        assert_allowed(&sidecar, &send(&sidecar, &with_token(&token)).await);
        sleep(Duration::from_millis(500)).await;
    }
    server.answer(500, "");
    let last = Instant::now();
    until("the end of the keys", Duration::from_secs(10), async || {
        send(&sidecar, &with_token(&token)).await.reason().as_deref() == Some("keys_unavailable")
    })
    .await;
    let kept = last.elapsed();
    assert!(kept > Duration::from_millis(1_500) && kept < Duration::from_millis(5_500), "kept {kept:?}");
    server.publish(&mint::ISSUER.jwks());
    until("new keys", Duration::from_secs(10), async || send(&sidecar, &with_token(&token)).await.status == 200).await;
}

/// A stream ends when the key of its token is withdrawn; also one whose request had to wait for that key.
#[tokio::test]
async fn streams_end_with_the_key_of_their_token() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    server.delay(Duration::from_millis(1_500));
    let mut config = config(json!({"refresh": "1s", "wait": "20s"}));
    let live = json!({"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {}});
    config["rules"].as_array_mut().unwrap().push(live);
    let settings = Settings::new("keys-streams", config);
    let sidecar = Sidecar::start(settings.patch(jwks::with_clusters(vec![jwks::cluster("jit", server.address())])))
        .await
        .unwrap();
    let open = async |alg: Alg| {
        let token = mint::token().signed_by(mint::ISSUER.signer(alg)).sign();
        let mut connection = streaming::Connection::open(sidecar.app(), Http::Two).await.unwrap();
        let mut stream = connection.start(&Request::get(services::EVENTS).bearer(&token)).await.unwrap();
        assert_eq!(stream.status, 200);
        stream.read(1).await.unwrap();
        (connection, stream)
    };
    let waited = open(Alg::Es256).await;
    assert_eq!(counter(&sidecar, "requests_waited").await, 1);
    server.delay(Duration::ZERO);
    let (later, mut other) = (open(Alg::Es256).await, open(Alg::Rs256).await);

    let withdrawn = &mint::ISSUER.signer(Alg::Es256).kid;
    let all = joined(&[mint::ISSUER.jwks()]);
    let left: Vec<Value> =
        all["keys"].as_array().unwrap().iter().filter(|key| key["kid"] != json!(withdrawn)).cloned().collect();
    server.publish(&json!({ "keys": left }));
    for (_connection, stream) in [waited, later] {
        stream.end(Duration::from_secs(15)).await.unwrap();
    }
    // Of another key, and so untouched.
    for _ in 0..50 {
        other.1.read(1).await.unwrap();
    }
    assert_eq!(counter(&sidecar, "ended.key_unknown").await, 2);
}

/// A sidecar with a rule for streams and a key server.
async fn live(name: &str, server: &Jwks, keys: Value) -> Sidecar {
    let mut config = config(keys);
    let live = json!({"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {}});
    config["rules"].as_array_mut().unwrap().push(live);
    let clusters = jwks::with_clusters(vec![jwks::cluster("jit", server.address())]);
    Sidecar::start(Settings::new(name, config).patch(clusters)).await.unwrap()
}

async fn open_stream(sidecar: &Sidecar, alg: Alg) -> (streaming::Connection, streaming::Streamed) {
    let token = mint::token().signed_by(mint::ISSUER.signer(alg)).sign();
    let mut connection = streaming::Connection::open(sidecar.app(), Http::Two).await.unwrap();
    let mut stream = connection.start(&Request::get(services::EVENTS).bearer(&token)).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(1).await.unwrap();
    (connection, stream)
}

/// No fetch confirms the keys any more, and there is no request and no signal either.
#[tokio::test]
async fn a_stream_ends_when_the_keys_of_its_issuer_lapse() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let sidecar = live("keys-lapse", &server, json!({"refresh": "1s", "keep": "4s", "wait": "5s"})).await;
    let (_connection, mut stream) = open_stream(&sidecar, Alg::Es256).await;
    // For longer than `keep`, while they are confirmed.
    let confirmed = Instant::now();
    while confirmed.elapsed() < Duration::from_secs(5) {
        stream.read(10).await.unwrap();
    }
    server.answer(500, "");
    let last = Instant::now();
    let end = stream.end(Duration::from_secs(10)).await.unwrap();
    assert!(end.broken.is_some(), "{end:?}");
    let kept = end.ended.saturating_duration_since(last);
    // Before the outage a refresh and the second between two looks may have passed, and times are whole seconds; after
    // `keep` comes a tick.
    assert!(kept > Duration::from_millis(900) && kept < Duration::from_millis(6_500), "kept {kept:?}");
    assert_eq!(counter(&sidecar, "ended.keys_unavailable").await, 1);
}

/// An issuer publishes the same keys with other members, in another order.
#[tokio::test]
async fn other_words_about_a_key_cut_no_stream() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let sidecar = live("keys-words", &server, json!({"refresh": "1s", "wait": "5s"})).await;
    let mut streams = Vec::new();
    for alg in [Alg::Es256, Alg::Rs256, Alg::EdDsa] {
        streams.push(open_stream(&sidecar, alg).await);
    }
    let fetched = counter(&sidecar, "keys_fetched").await;
    let mut set = mint::ISSUER.jwks();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.reverse();
    for (at, key) in keys.iter_mut().enumerate() {
        key["x5t"] = json!(format!("thumb-{at}"));
        key["iat"] = json!(1_790_000_000 + at);
        key["use"] = json!("sig");
    }
    server.publish(&set);
    until("another fetch", Duration::from_secs(10), async || counter(&sidecar, "keys_fetched").await >= fetched + 2)
        .await;
    // A tick, and some more.
    let published = Instant::now();
    while published.elapsed() < Duration::from_secs(2) {
        for (_, stream) in &mut streams {
            stream.read(1).await.unwrap();
        }
    }
    assert_eq!(counter(&sidecar, "ended.key_unknown").await, 0);
}

#[tokio::test]
async fn only_so_many_wait() {
    let address = jwks::down().unwrap();
    let settings = settings("keys-crowd", json!({"wait": "5s"}), address).workers(1);
    let sidecar = Sidecar::start(settings).await.unwrap();
    let (to, token) = (sidecar.app(), mint::token().sign());
    let all: Vec<_> = (0..1_100)
        .map(|_| {
            let request = with_token(&token);
            tokio::spawn(async move {
                let before = Instant::now();
                (client::send(to, Http::One, &request).await, before.elapsed())
            })
        })
        .collect();
    let mut at_once = 0;
    for answer in all {
        let (answer, took) = answer.await.unwrap();
        assert_refused(&sidecar, &answer.unwrap(), "keys_unavailable");
        at_once += usize::from(took < Duration::from_millis(4_500));
    }
    assert_eq!(counter(&sidecar, "requests_waited").await, 1_000);
    assert!(at_once >= 50, "{at_once} of 1,100 were answered at once");
}

#[tokio::test]
async fn signals_wait_at_their_transmitter() {
    let server = Jwks::start(mint::TRANSMITTER.jwks()).unwrap();
    server.delay(Duration::from_secs(3));
    let mut config = orders::config();
    config["signals"]["transmitters"][0]["keys"] = fetched("idp", json!({"refetch": "1s"}));
    let settings = Settings::new("keys-signals", config);
    let sidecar = Sidecar::start(settings.patch(jwks::with_clusters(vec![jwks::cluster("idp", server.address())])))
        .await
        .unwrap();
    let before = Instant::now();
    let answer = sidecar.push(&mint::complete_task("a")).await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", describe(&answer));
    assert!(before.elapsed() < Duration::from_secs(1), "the transmitter waits, not the receiver");
    until("keys", Duration::from_secs(10), async || {
        sidecar.push(&mint::complete_task("a")).await.unwrap().status == 202
    })
    .await;
    assert_eq!(server.asked_for(), ["idp.example/jwks.json"]);

    // A new key: the signal is not lost while it is fetched.
    server.delay(Duration::ZERO);
    sleep(Duration::from_secs(1)).await;
    let new = Keyring::generate("new");
    server.publish(&joined(&[new.jwks(), mint::TRANSMITTER.jwks()]));
    let set = mint::complete_task("b").signed_by(new.signer(Alg::Es256));
    assert_eq!(sidecar.push(&set).await.unwrap().status, 503);
    let before = Instant::now();
    until("the new key", Duration::from_secs(10), async || sidecar.push(&set).await.unwrap().status == 202).await;
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    // A key that was not there when the set was fetched after the signal was made is none.
    sleep(Duration::from_millis(1_100)).await;
    let forged = mint::complete_task("c").header("kid", "nobody");
    until("a refusal for good", Duration::from_secs(10), async || sidecar.push(&forged).await.unwrap().status == 400)
        .await;
    assert_signal_refused(&sidecar.push(&forged).await.unwrap(), "invalid_key");
    assert_signal_accepted(&sidecar.push(&mint::complete_task("d")).await.unwrap());
}

/// The metadata of the sample issuer.
fn metadata(issuer: &str, jwks_uri: &str) -> Document {
    Document::of(json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string())
}

/// A sidecar that discovers the keys of the sample issuer at `jit`, which may name those at `keys.example`.
async fn discovering(name: &str, jit: &Jwks, keys: &Jwks, more: Value) -> Sidecar {
    let mut config = orders::config();
    config["issuers"][0]["keys"] = with(
        json!({"cluster": "jit", "discover": true, "jwks_host": "keys.example", "jwks_cluster": "keys", "wait": "1s"}),
        more,
    );
    let clusters = vec![jwks::cluster("jit", jit.address()), jwks::cluster("keys", keys.address())];
    Sidecar::start(Settings::new(name, config).patch(jwks::with_clusters(clusters))).await.unwrap()
}

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// OpenID Connect Discovery 1.0 and RFC 8414: the set is at the host that the metadata names, if the configuration allows
/// that host, and it is fetched through the cluster for that host.
#[tokio::test]
async fn keys_are_discovered_on_another_host() {
    let (jit, keys) = (Jwks::start(json!({})).unwrap(), Jwks::start(json!({})).unwrap());
    jit.answer(404, "");
    keys.serve("/certs", Document::of(mint::ISSUER.jwks().to_string()));
    jit.serve(OPENID, metadata(orders::ISSUER, "https://keys.example/certs?v=3"));
    let secret = json!({"authorization": "Bearer s3cret"});
    let sidecar = discovering("keys-discover", &jit, &keys, secret).await;
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    assert_eq!(jit.asked_for(), [format!("jit.example{OPENID}")]);
    assert_eq!(keys.asked_for(), ["keys.example/certs?v=3"]);
    assert_eq!(jit.authorizations(), [Some("Bearer s3cret".to_owned())]);
    assert_eq!(keys.authorizations(), [None], "another host gets no secret");
    assert!(!sidecar.envoy().log().contains("s3cret"));

    let (jit, keys) = (Jwks::start(json!({})).unwrap(), Jwks::start(mint::ISSUER.jwks()).unwrap());
    jit.answer(404, "");
    jit.serve(OAUTH, metadata(orders::ISSUER, "https://keys.example:443"));
    let sidecar = discovering("keys-discover-oauth", &jit, &keys, json!({})).await;
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    assert_eq!(jit.asked_for(), [format!("jit.example{OPENID}"), format!("jit.example{OAUTH}")]);
    assert_eq!(keys.asked_for(), ["keys.example/"]);
}

/// Each case is an issuer of its own, with metadata of its own.
#[tokio::test]
async fn metadata_that_means_others_is_refused() {
    let (jit, keys) = (Jwks::start(json!({})).unwrap(), Jwks::start(mint::ISSUER.jwks()).unwrap());
    jit.answer(404, "");
    let issuer = |at: usize| format!("https://jit.example/{at}");
    let good = "https://keys.example/certs";
    let cases = [
        (
            metadata("https://jit.example/0/", good),
            "the metadata is of the issuer `https://jit.example/0/`, and the configuration names `https://jit.example/0`",
        ),
        (
            metadata(&issuer(1), "https://evil.example/certs"),
            "the metadata names keys at the host `evil.example`, and the configuration allows `keys.example`",
        ),
        (
            metadata(&issuer(2), "http://keys.example/certs"),
            "the `jwks_uri` of the metadata is no https URL: `http://keys.example/certs`",
        ),
        (Document::of("{}"), "no metadata of an issuer"),
        (Document::moved(302, "https://evil.example/metadata"), "a redirect to `https://evil.example/metadata`"),
    ];
    let mut config = orders::config();
    let mut all = Vec::new();
    for (at, (document, _)) in cases.iter().enumerate() {
        let mut one = config["issuers"][0].clone();
        one["issuer"] = json!(issuer(at));
        one["keys"] = json!({"cluster": "jit", "discover": true, "jwks_host": "keys.example", "jwks_cluster": "keys", "wait": "1s"});
        all.push(one);
        jit.serve(&format!("/{at}{OPENID}"), document.clone());
        jit.serve(&format!("{OAUTH}/{at}"), document.clone());
    }
    config["signals"]["transmitters"][0]["subjects"] = json!([issuer(0)]);
    config["issuers"] = json!(all);
    let clusters = vec![jwks::cluster("jit", jit.address()), jwks::cluster("keys", keys.address())];
    let settings = Settings::new("keys-discover-bad", config).patch(jwks::with_clusters(clusters));
    let sidecar = Sidecar::start(settings).await.unwrap();
    let token = |at: usize| with_token(&mint::token().claim("iss", issuer(at)).sign());
    for (at, (_, line)) in cases.iter().enumerate() {
        assert_refused(&sidecar, &send(&sidecar, &token(at)).await, "keys_unavailable");
        until_logged(&sidecar, line).await;
    }
    assert_eq!(keys.requests(), 0);
    for cause in ["metadata", "redirect"] {
        assert!(counter(&sidecar, &format!("keys_fetch_failed.{cause}")).await > 0, "{cause}");
    }
    jit.serve(&format!("/1{OPENID}"), metadata(&issuer(1), good));
    until("mended metadata", Duration::from_secs(10), async || send(&sidecar, &token(1)).await.status == 200).await;
}

/// As `gzip` packs it.
fn gzip(plain: &str) -> Vec<u8> {
    let mut child = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(plain.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[tokio::test]
async fn a_set_behind_redirects_a_bearer_and_gzip() {
    let server = Jwks::start(json!({})).unwrap();
    let secret = "Bearer s3cret";
    let packed = Document::of(gzip(&mint::ISSUER.jwks().to_string())).header("content-encoding", "gzip");
    server.serve("/jwks.json", Document::moved(302, "/a").only_for(secret));
    server.serve("/a", Document::moved(307, "https://jit.example/b/c").only_for(secret));
    server.serve("/b/c", Document::moved(301, "d").only_for(secret));
    server.serve("/b/d", packed.only_for(secret));
    let keys = json!({"authorization": secret, "wait": "1s"});
    let sidecar = Sidecar::start(settings("keys-redirect", keys.clone(), server.address())).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    assert_eq!(server.asked_for(), ["/jwks.json", "/a", "/b/c", "/b/d"].map(|path| format!("jit.example{path}")));
    assert!(server.accepted_encodings().iter().all(|encoding| encoding.as_deref() == Some("identity")));

    let refused = async |name: &str, keys: Value, line: &str, cause: &str| {
        let sidecar = Sidecar::start(settings(name, keys, server.address())).await.unwrap();
        assert_refused(&sidecar, &send(&sidecar, &read_order()).await, "keys_unavailable");
        until_logged(&sidecar, line).await;
        assert!(counter(&sidecar, &format!("keys_fetch_failed.{cause}")).await > 0, "{cause}");
        assert!(!sidecar.envoy().log().contains("s3cret"));
    };
    refused("keys-no-bearer", json!({"wait": "1s"}), "failed: status 401", "status").await;
    server.serve("/b/d", Document::moved(308, "/jwks.json"));
    refused("keys-loop", keys.clone(), "failed: jit.example/b/d: more than 3 redirects", "redirect").await;
    server.serve("/a", Document::moved(307, "https://evil.example/b"));
    let line = "failed: jit.example/a: a redirect to `https://evil.example/b`, and only `jit.example` is asked";
    refused("keys-away", keys.clone(), line, "redirect").await;
    server.serve("/jwks.json", Document::of("?").header("content-encoding", "br"));
    refused("keys-brotli", keys.clone(), "failed: compressed as br", "encoding").await;
    // 2 MiB of spaces in 2 KiB.
    server.serve("/jwks.json", Document::of(gzip(&" ".repeat(2 << 20))));
    refused("keys-bomb", keys, "failed: more than 1048576 bytes when unpacked", "too_large").await;
}

/// Envoy drops an answer that is larger than its buffer, and a server that sends as it makes the answer does not say how
/// long it is.
#[tokio::test]
async fn a_streamed_set_that_is_too_large_is_counted_as_that() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    let sidecar = Sidecar::start(settings("keys-stream", json!({"refresh": "1s", "timeout": "30s"}), server.address()))
        .await
        .unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    for mebibytes in [2, 40] {
        let before = counter(&sidecar, "keys_fetch_failed.too_large").await;
        let mut padded = mint::FORGER.jwks();
        padded["padding"] = json!("x".repeat(mebibytes << 20));
        server.serve("/jwks.json", Document::of(padded.to_string()).streamed());
        until(&format!("{mebibytes} MiB"), Duration::from_secs(20), async || {
            counter(&sidecar, "keys_fetch_failed.too_large").await > before + 1
        })
        .await;
        assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    }
    until_logged(&sidecar, "the proxy dropped the answer").await;
    assert_eq!(counter(&sidecar, "keys_fetch_failed.no_answer").await, 0);
}

/// A key server that wants the token of a mounted file, such as that of Kubernetes: Envoy injects it, and follows the file.
#[tokio::test]
async fn envoy_injects_the_token_of_a_mounted_file() {
    let server = Jwks::start(json!({})).unwrap();
    let document = |token: &str| Document::of(mint::ISSUER.jwks().to_string()).only_for(&format!("Bearer {token}"));
    server.serve("/openid/v1/jwks", document("first"));
    let folder = artefacts::target().join("tests").join(mint::unique("injected"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "first").unwrap();
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "key-server-token",
        "generic_secret": {"secret": {"filename": folder.join("token")}}
    }]});
    std::fs::write(folder.join("sds.json"), secret.to_string()).unwrap();
    let mut cluster = jwks::cluster("jit", server.address());
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": [
            {"name": "envoy.filters.http.credential_injector", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
                "overwrite": true,
                "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "header": "authorization",
                    "header_value_prefix": "Bearer ",
                    "credential": {"name": "key-server-token", "sds_config": {
                        "path_config_source": {"path": folder.join("sds.json"), "watched_directory": {"path": folder}},
                        "resource_api_version": "V3"
                    }}
                }}
            }},
            {"name": "envoy.filters.http.upstream_codec", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
            }}
        ]
    }});
    let keys = json!({"path": "/openid/v1/jwks", "refresh": "1s"});
    let settings = Settings::new("keys-injected", config(keys)).patch(move |bootstrap| {
        bootstrap["node"] = json!({"id": "injected", "cluster": "injected"});
        jwks::with_clusters(vec![cluster])(bootstrap);
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    // The kubelet replaces a token before it expires: a new file is moved into the place of the old one.
    server.serve("/openid/v1/jwks", document("second"));
    std::fs::write(folder.join("next"), "second").unwrap();
    std::fs::rename(folder.join("next"), folder.join("token")).unwrap();
    std::fs::write(folder.join("next"), secret.to_string()).unwrap();
    std::fs::rename(folder.join("next"), folder.join("sds.json")).unwrap();
    let before = counter(&sidecar, "keys_fetched").await;
    until("a fetch with the new token", Duration::from_secs(10), async || {
        counter(&sidecar, "keys_fetched").await > before + 1
    })
    .await;
    assert_eq!(server.authorizations().last().unwrap().as_deref(), Some("Bearer second"));
}

/// A token without a `kid` is tried with the keys that fit, and a new key of its issuer is fetched.
#[tokio::test]
async fn tokens_without_a_kid_follow_a_rotation() {
    let (old, new) = (Keyring::generate("old"), Keyring::generate("new"));
    let nameless = |keys: &Keyring| mint::token().signed_by(keys.signer(Alg::Es256)).without_header("kid").sign();
    let server = Jwks::start(old.jwks()).unwrap();
    let keys = json!({"refetch": "1s"});
    let sidecar = Sidecar::start(settings("keys-nameless", keys, server.address())).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &with_token(&nameless(&old))).await);
    assert_refused(&sidecar, &send(&sidecar, &with_token(&nameless(&new))).await, "signature_invalid");
    server.publish(&joined(&[old.jwks(), new.jwks()]));
    sleep(Duration::from_millis(1_100)).await;
    assert_allowed(&sidecar, &send(&sidecar, &with_token(&nameless(&new))).await);
    assert_allowed(&sidecar, &send(&sidecar, &with_token(&nameless(&old))).await);
    let asked = server.requests();
    for _ in 0..20 {
        let forged = mint::token().signed_by(mint::FORGER.signer(Alg::Es256)).without_header("kid").sign();
        assert_refused(&sidecar, &send(&sidecar, &with_token(&forged)).await, "signature_invalid");
    }
    assert!(server.requests() <= asked + 3, "bad signatures ask for keys once in a while");
}

/// Only the proxy checks ES512.
#[tokio::test]
async fn es512_needs_the_function_of_the_proxy() {
    let mut config = orders::config();
    config["issuers"][0]["algorithms"] = json!(["ES256", "ES512"]);
    let sidecar = Sidecar::start(Settings::new("es512", config.clone())).await.unwrap();
    assert_allowed(&sidecar, &send(&sidecar, &read_order()).await);
    let restriction = capabilities::all_but(&["proxy_call_foreign_function"]).unwrap();
    let settings = Settings::new("es512-restricted", config).patch(move |bootstrap| {
        let filter = format!("{}/http_filters/0/typed_config/config", bootstrap::APP);
        bootstrap.pointer_mut(&filter).unwrap()["capability_restriction_config"] = restriction;
    });
    let Err(error) = Sidecar::start(settings).await else { panic!("it started") };
    assert!(error.to_string().contains("cannot check signatures with ES512, which only the proxy can"), "{error}");
}
