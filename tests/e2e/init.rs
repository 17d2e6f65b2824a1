//! `taskfence init` from a token: what it writes is checked, runs in a real Envoy that discovers the issuer's keys, and lets
//! that token pass where its routes say so.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use taskfence_tests::artefacts;
use taskfence_tests::bootstrap::Settings;
use taskfence_tests::client::{Http, Request};
use taskfence_tests::hub::without_receiver;
use taskfence_tests::jwks::{self, Document, Jwks};
use taskfence_tests::mint::{self, Alg, Jwt, unique};
use taskfence_tests::refusal::{assert_allowed, assert_refused};
use taskfence_tests::sidecar::Sidecar;

const ORDERS: &str = "https://orders.mesh";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer of the wild: its name, the path of its discovery document, and a token of it.
struct Wild {
    issuer: &'static str,
    token: Jwt,
}

fn wild(issuer: &'static str, typ: Option<&str>, life: i64, claims: &Value) -> Wild {
    let usual = ["sub", "aud", "client_id", "jti", "scope", "authorization_details", "txn", "sid", "auth_time"];
    let bare = mint::token().signed_by(mint::ISSUER.signer(Alg::Rs256)).valid(0, life);
    let bare = usual.iter().fold(bare, |jwt, name| jwt.without(name)).claim("iss", issuer);
    let bare = match typ {
        Some(typ) => bare.header("typ", typ),
        None => bare.without_header("typ"),
    };
    let claims = claims.as_object().expect("an object of claims");
    Wild { issuer, token: claims.iter().fold(bare, |jwt, (name, value)| jwt.claim(name, value.clone())) }
}

fn keycloak() -> Wild {
    let claims = json!({"aud": ["orders-api", "account"], "sub": "f4b0", "typ": "Bearer", "azp": "shop-web", "sid": "6a0b",
        "jti": unique("kc"), "scope": "openid orders.read"});
    wild("https://sso.corp.example/realms/shop", Some("JWT"), 300, &claims)
}

fn github() -> Wild {
    let claims = json!({"aud": ORDERS, "sub": "repo:octo/shop:ref:refs/heads/main", "jti": unique("gh"), "run_id": "22259804324",
        "repository": "octo/shop", "repository_owner": "octo", "workflow": "deploy",
        "job_workflow_ref": "octo/shop/.github/workflows/d.yml@refs/heads/main"});
    wild("https://token.actions.githubusercontent.com", Some("JWT"), 300, &claims)
}

fn kubernetes() -> Wild {
    let claims = json!({"aud": [ORDERS], "sub": "system:serviceaccount:shop:web", "jti": unique("k8s"),
        "kubernetes.io": {"namespace": "shop", "pod": {"name": "web-1", "uid": "u1"}, "serviceaccount": {"name": "web", "uid": "u2"}}});
    wild("https://kubernetes.default.svc.cluster.local", None, 3607, &claims)
}

fn taskfence(folder: &PathBuf, arguments: &[&str]) -> Output {
    Command::new(artefacts::command().unwrap()).current_dir(folder).args(arguments).output().unwrap()
}

/// Runs `init` and `check` on a token; the configuration for Envoy.
fn configuration(wild: &Wild, route: &str) -> Value {
    let folder = artefacts::target().join("tests").join(unique("init"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("token.jwt"), wild.token.sign()).unwrap();
    let arguments = ["init", "--offline", "--token", "@token.jwt", "--route", route, "--out", "taskfence.yaml"];
    let output = taskfence(&folder, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = taskfence(&folder, &["check", "taskfence.yaml", "--print"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What an operator does after a while in shadow mode.
fn enforced(mut config: Value) -> Value {
    config.as_object_mut().unwrap().remove("mode");
    config
}

/// A server of the issuer's metadata and keys, as the issuer runs one.
fn server(issuer: &str) -> Jwks {
    let server = Jwks::start(json!({})).unwrap();
    server.answer(404, "");
    let base = issuer.trim_start_matches("https://");
    let path = base.find('/').map_or("", |at| &base[at..]);
    let metadata = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
    server.serve(&format!("{path}{DISCOVERY}"), Document::of(metadata.to_string()));
    server.serve(&format!("{path}/keys"), Document::of(mint::ISSUER.jwks().to_string()));
    server
}

async fn runs(wild: Wild, route: &str) {
    let config = enforced(configuration(&wild, route));
    let keys = server(wild.issuer);
    let cluster = config["issuers"][0]["keys"]["cluster"].as_str().expect("a cluster").to_owned();
    let clusters = vec![jwks::cluster(&cluster, keys.address())];
    let settings = Settings::new(&unique("init"), config).workers(1).patch(without_receiver);
    let settings = settings.patch(jwks::with_clusters(clusters));
    let sidecar = Sidecar::start(settings).await.unwrap();
    let ask = async |path: &str, token: &Jwt| {
        sidecar.send(Http::Two, &Request::get(path).bearer(&token.sign())).await.unwrap()
    };
    assert_allowed(&sidecar, &ask("/v1/orders/1881", &wild.token).await);
    assert_refused(&sidecar, &ask("/v1/other", &wild.token).await, "rule_missing");
    let other = wild.token.clone().claim("aud", "https://other.example");
    assert_refused(&sidecar, &ask("/v1/orders/1881", &other).await, "audience_mismatch");
    let forged = wild.token.clone().signed_by(mint::FORGER.signer(Alg::Rs256));
    assert_refused(&sidecar, &ask("/v1/orders/1881", &forged).await, "signature_invalid");
}

#[tokio::test]
async fn a_draft_for_keycloak_runs() {
    runs(keycloak(), "GET /v1/orders/{order} orders.read").await;
}

#[tokio::test]
async fn a_draft_for_github_actions_runs() {
    runs(github(), "GET /v1/orders/{order}").await;
}

#[tokio::test]
async fn a_draft_for_kubernetes_runs() {
    runs(kubernetes(), "GET /v1/orders/{order}").await;
}
