//! A real authorization server behind a real Envoy: its tokens and its published keys are taken as they are.
//! Needs npm, see [`oauth::is_there`].

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Connection, Http, Request, send},
    jwks,
    mint::{Alg, Signer, proof},
    oauth::{self, AuthorizationServer, Client},
    orders,
    refusal::{assert_allowed, assert_refused},
    sidecar::Sidecar,
    tamper,
    tls::{self, Workload},
};
use tokio::time::sleep;

/// As the clients of the service name it.
const API: &str = "https://api.example";

/// The configuration of the sample service, but the keys are those that the server publishes.
fn config(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = orders::config();
    config["issuers"][0]["keys"] = json!({"cluster": "as", "path": "/jwks", "refresh": "1s", "refetch": "1s"});
    change(&mut config["issuers"][0]);
    config
}

fn settings(name: &str, server: SocketAddr) -> Settings {
    Settings::new(name, config(|_| {})).patch(jwks::with_clusters(vec![jwks::cluster("as", server)]))
}

fn read(path: &str, token: &str) -> Request {
    Request::get(path).bearer(token)
}

#[tokio::test]
async fn its_tokens_grant_their_details_and_no_more() {
    if !oauth::is_there("its_tokens_grant_their_details_and_no_more") {
        return;
    }
    let server = AuthorizationServer::start().unwrap();
    let sidecar = Sidecar::start(settings("oauth-plain", server.address())).await.unwrap();
    for client in [Client::Plain, Client::Rsa] {
        let token = server.token(&server.token_request(client)).await.unwrap();
        for http in Http::BOTH {
            let send = async |request: &Request| sidecar.send(http, request).await.unwrap();
            assert_allowed(&sidecar, &send(&read(orders::ORDER_PATH, &token)).await);
            let other = send(&read("/v1/orders/1882", &token)).await;
            assert_refused(&sidecar, &other, "detail_insufficient");
            let refund = send(&Request::new("POST", "/v1/orders/1881/refund").bearer(&token)).await;
            assert_refused(&sidecar, &refund, "scope_insufficient");
        }
        let forged = tamper::change_claim(&token, "sub", "mallory");
        assert_refused(
            &sidecar,
            &sidecar.send(Http::One, &read(orders::ORDER_PATH, &forged)).await.unwrap(),
            "signature_invalid",
        );
    }
    // What the server was not asked for it did not give.
    let nothing = server.request_without_details(Client::Plain, "");
    let token = server.token(&nothing).await.unwrap();
    let answer = sidecar.send(Http::One, &read(orders::ORDER_PATH, &token)).await.unwrap();
    assert_refused(&sidecar, &answer, "detail_insufficient");
}

#[tokio::test]
async fn its_dpop_bound_tokens_need_their_key() {
    if !oauth::is_there("its_dpop_bound_tokens_need_their_key") {
        return;
    }
    let server = AuthorizationServer::start().unwrap();
    let dpop = config(|issuer| {
        issuer["binding"] = json!("dpop");
        issuer["dpop"] = json!({"origins": [API]});
    });
    let settings = settings("oauth-dpop", server.address()).also("dpop", dpop);
    let sidecar = Sidecar::start(settings).await.unwrap();
    let (key, thief) = (Signer::new(Alg::Es256), Signer::new(Alg::Es256));
    // At the server there is no access token yet for the proof to be about.
    let request = server.token_request(Client::Dpop);
    let at_server = proof(&key, "POST", &server.token_url(), "").without("ath").sign();
    let token = server.token(&request.clone().header("dpop", at_server)).await.unwrap();
    assert!(server.token(&request).await.is_err(), "the server itself asks for the proof");

    let to = sidecar.listener("dpop");
    let uri = format!("{API}{}", orders::ORDER_PATH);
    let with = |signer: &Signer| {
        let proof = proof(signer, "GET", &uri, &token).sign();
        Request::get(orders::ORDER_PATH).header("authorization", format!("DPoP {token}")).header("dpop", proof)
    };
    for http in Http::BOTH {
        let good = with(&key);
        assert_allowed(&sidecar, &send(to, http, &good).await.unwrap());
        assert_refused(&sidecar, &send(to, http, &good).await.unwrap(), "dpop_proof_replayed");
        assert_refused(&sidecar, &send(to, http, &with(&thief)).await.unwrap(), "binding_mismatch");
        let bearer = read(orders::ORDER_PATH, &token);
        assert_refused(&sidecar, &send(to, http, &bearer).await.unwrap(), "binding_mismatch");
        // Also where nobody asks for a binding.
        assert_refused(&sidecar, &sidecar.send(http, &bearer).await.unwrap(), "binding_mismatch");
    }
    let free = server.token(&server.token_request(Client::Plain)).await.unwrap();
    let answer = send(to, Http::One, &read(orders::ORDER_PATH, &free)).await.unwrap();
    assert_refused(&sidecar, &answer, "binding_missing");
}

#[tokio::test]
async fn its_certificate_bound_tokens_need_their_certificate() {
    if !oauth::is_there("its_certificate_bound_tokens_need_their_certificate") {
        return;
    }
    let server = AuthorizationServer::start().unwrap();
    let settings = settings("oauth-mtls", server.address())
        .also("mtls", config(|issuer| issuer["binding"] = json!("mtls")))
        .patch(|bootstrap| tls::secure(bootstrap, &["mtls"], true));
    let sidecar = Sidecar::start(settings).await.unwrap();
    let (agent, thief) = (Workload::new("spiffe://td/agent/a7"), Workload::new("spiffe://td/agent/b1"));
    let request = server.token_request(Client::Mtls);
    let token =
        server.token(&request.clone().header("x-client-certificate", oauth::escape(agent.pem()))).await.unwrap();
    assert!(server.token(&request).await.is_err(), "the server itself asks for the certificate");

    let to = sidecar.listener("mtls");
    let get = read(orders::ORDER_PATH, &token);
    for http in Http::BOTH {
        assert_allowed(&sidecar, &tls::send(to, http, Some(&agent), &get).await.unwrap());
        assert_refused(&sidecar, &tls::send(to, http, Some(&thief), &get).await.unwrap(), "binding_mismatch");
        assert_refused(&sidecar, &sidecar.send(http, &get).await.unwrap(), "binding_mismatch");
    }
    let free = server.token(&server.token_request(Client::Plain)).await.unwrap();
    let answer = tls::send(to, Http::One, Some(&agent), &read(orders::ORDER_PATH, &free)).await.unwrap();
    assert_refused(&sidecar, &answer, "binding_missing");
}

/// The server publishes a new key, signs with it, and withdraws the old one, while clients fetch new tokens and use
/// each at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_key_rotation_under_load_gives_no_wrong_answer() {
    if !oauth::is_there("its_key_rotation_under_load_gives_no_wrong_answer") {
        return;
    }
    let server = Arc::new(AuthorizationServer::start().unwrap());
    let settings = settings("oauth-rotation", server.address()).balanced();
    let sidecar = Arc::new(Sidecar::start(settings).await.unwrap());
    let created = sidecar.machines_created().await.unwrap();
    let old = server.token(&server.token_request(Client::Plain)).await.unwrap();
    assert_allowed(&sidecar, &sidecar.send(Http::One, &read(orders::ORDER_PATH, &old)).await.unwrap());

    let stop = Arc::new(AtomicBool::new(false));
    let lanes: Vec<_> = (0..4)
        .map(|lane| {
            let (server, sidecar, stop) = (Arc::clone(&server), Arc::clone(&sidecar), Arc::clone(&stop));
            tokio::spawn(async move {
                let request = server.token_request([Client::Plain, Client::Rsa][lane % 2]);
                let mut to_server = server.connect().await.unwrap();
                let mut connection = Connection::open(sidecar.app(), Http::BOTH[lane / 2]).await.unwrap();
                let mut kids = Vec::new();
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    let token = oauth::token(&to_server.send(&request).await.unwrap()).unwrap();
                    // Twice: verified, then remembered.
                    for _ in 0..2 {
                        let answer = connection.send(&read(orders::ORDER_PATH, &token)).await.unwrap();
                        assert_allowed(&sidecar, &answer);
                        answers += 1;
                    }
                    let kid = oauth::kid(&token).expect("a kid");
                    if kids.last() != Some(&kid) {
                        kids.push(kid);
                    }
                }
                (answers, kids.len())
            })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    for round in 0..2 {
        server.rotate("announce").await.unwrap();
        // The second time nobody waits until the new key is known everywhere: its first token asks for it.
        sleep(Duration::from_millis(if round == 0 { 2_500 } else { 1_100 })).await;
        server.rotate("switch").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        server.rotate("retire").await.unwrap();
        sleep(Duration::from_millis(2_500)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = 0;
    for lane in lanes {
        let (answers, keys) = lane.await.unwrap();
        assert_eq!(keys, 3, "each client saw every key");
        all += answers;
    }
    println!("{all} answers while the keys rotated twice, every one of them right");
    assert!(all > 100, "{all} answers are no load");
    for http in Http::BOTH {
        let answer = sidecar.send(http, &read(orders::ORDER_PATH, &old)).await.unwrap();
        assert_refused(&sidecar, &answer, "key_unknown");
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}
