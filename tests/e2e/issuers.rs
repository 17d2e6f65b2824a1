//! Tokens of issuers that name their claims in their own way, made by another library, with the signals about them.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Http, Request, send},
    mint::{self, Alg, Jwt, Signer, now, proof, unique},
    orders,
    refusal::{assert_allowed, assert_refused},
    sidecar::Sidecar,
};
use tokio::sync::OnceCell;

const REALM: &str = "https://sso.example/realms/shop";
const TTS: &str = "https://tts.td.example";
const WORKLOADS: &str = "https://td.example/wimse";
const TENANTS: [&str; 2] = ["https://login.example/t-1/v2.0", "https://login.example/t-2/v2.0"];
const API: &str = "https://orders.example";

fn config() -> Value {
    let mut config = orders::config_of(json!([
        {"name": "roles", "match": {"path": "/roles"}, "require": {"scope": "reader"}},
        {"name": "when", "match": {"path": "/when"}, "require": {"when": "'reader' in claims.realm_access.roles"}},
        {"name": "claims", "match": {"path": "/claims"},
         "require": {"claims": {"realm_access.roles": ["lister", "reader"]}}},
        {"name": "orders", "match": {"path": "/orders"}, "require": {"scope": "Orders.Read"}},
        {"name": "batch", "match": {"path": "/batch"}, "require": {"when": "grant.client == 'batch' && claims.kind == 'machine'"}},
        {"name": "buy", "match": {"path": "/buy"}, "require": {"claims": {"tctx.action": "BUY"}, "when": "grant.client == 'gateway'"}},
        {"name": "work", "match": {"path": "/work"}, "require": {"when": "grant.client == grant.subject"}}
    ]));
    let keys = json!({"inline": mint::ISSUER.jwks()});
    config["issuers"] = json!([
        {"profile": "keycloak", "issuer": REALM, "audiences": ["orders-api"], "keys": keys,
         "claims": {"scope": "realm_access.roles"}},
        {"issuer": REALM, "audiences": ["orders-api"], "types": ["JWT"], "where": {"typ": "Bearer-Batch"}, "keys": keys,
         "claims": {"client": "batch.id", "token": "none", "task": "none"}},
        {"profile": "entra-v2", "issuer": "https://login.example/{tenant}/v2.0", "captures": {"tenant": ["t-1", "t-2"]},
         "audiences": ["api-1"], "keys": keys},
        {"profile": "txn-token", "issuer": TTS, "audiences": ["http://td.example"], "keys": keys}
    ]);
    config["signals"]["transmitters"][0]["subjects"] = json!([REALM, TENANTS[0], TENANTS[1], TTS]);
    config["identity"] = json!({"subject": "x-subject", "client": "x-client", "token": "x-token"});
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    // An issuer whose tokens are bound to keys has every refusal announce DPoP too.
    let workloads = || {
        let mut config = config();
        let issuers = config["issuers"].as_array_mut().unwrap();
        issuers.push(json!({"profile": "wimse", "issuer": WORKLOADS, "keys": {"inline": mint::ISSUER.jwks()},
                            "dpop": {"origins": [API]}}));
        config
    };
    let settings = || Settings::new("issuers", config()).also("workloads", workloads());
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

/// A token of `issuer` with these claims alone, beside the times.
fn token(typ: &str, issuer: &str, claims: &Value) -> Jwt {
    let usual = ["sub", "aud", "client_id", "jti", "scope", "authorization_details", "txn", "sid", "auth_time"];
    let bare = usual.iter().fold(mint::token().header("typ", typ).claim("iss", issuer), |jwt, name| jwt.without(name));
    let claims = claims.as_object().expect("an object of claims");
    claims.iter().fold(bare, |jwt, (name, value)| jwt.claim(name, value.clone()))
}

fn of_realm(id: &str) -> Jwt {
    token(
        "JWT",
        REALM,
        &json!({"sub": "u-1", "aud": ["orders-api", "account"], "typ": "Bearer", "azp": "web", "jti": id, "sid": id,
                "realm_access": {"roles": ["lister", "reader"]}, "scope": "openid"}),
    )
}

async fn ask(path: &str, jwt: &Jwt) -> Answer {
    sidecar().await.send(Http::Two, &Request::get(path).bearer(&jwt.sign())).await.unwrap()
}

#[tokio::test]
async fn a_narrowing_reaches_nested_claims_that_are_named() {
    let sidecar = sidecar().await;
    let id = unique("kc");
    let jwt = of_realm(&id);
    for path in ["/roles", "/when", "/claims"] {
        assert_allowed(sidecar, &ask(path, &jwt).await);
    }
    let subject = json!({"format": "jwt_id", "iss": REALM, "jti": id});
    let members = json!({"claims": {"realm_access": {"roles": ["lister"]}}});
    sidecar.accept(&mint::signal_with(&mint::caep("token-claims-change"), subject, &members)).await;
    assert_refused(sidecar, &ask("/roles", &jwt).await, "scope_insufficient");
    assert_refused(sidecar, &ask("/when", &jwt).await, "condition_failed");
    assert_refused(sidecar, &ask("/claims", &jwt).await, "claim_mismatch");
    assert_allowed(sidecar, &ask("/when", &of_realm(&unique("kc"))).await);
}

#[tokio::test]
async fn entries_of_one_issuer_are_told_apart_by_a_claim() {
    let sidecar = sidecar().await;
    let batch = |client: Value| {
        token(
            "JWT",
            REALM,
            &json!({"sub": "svc", "aud": "orders-api", "typ": "Bearer-Batch", "kind": "machine", "batch": client}),
        )
    };
    assert_allowed(sidecar, &ask("/batch", &batch(json!({"id": "batch"}))).await);
    assert_refused(sidecar, &ask("/batch", &batch(json!([{"id": "batch"}]))).await, "claim_invalid");
    assert_refused(sidecar, &ask("/batch", &batch(json!("batch"))).await, "claim_invalid");
    assert_refused(sidecar, &ask("/roles", &of_realm(&unique("id")).claim("typ", "ID")).await, "token_type");
}

#[tokio::test]
async fn each_tenant_of_a_template_has_grants_of_its_own() {
    let sidecar = sidecar().await;
    let id = unique("uti");
    let of = |issuer: &str| {
        token(
            "JWT",
            issuer,
            &json!({"sub": "p-1", "aud": "api-1", "azp": "c-1", "azpacr": "1", "scp": "Orders.Read", "uti": id,
                    "ver": "2.0"}),
        )
    };
    for tenant in TENANTS {
        assert_allowed(sidecar, &ask("/orders", &of(tenant)).await);
    }
    for other in
        ["https://login.example/t-3/v2.0", "https://login.example/{tenant}/v2.0", "https://login.example/t-1/x/v2.0"]
    {
        assert_refused(sidecar, &ask("/orders", &of(other)).await, "issuer_unknown");
    }
    let first = json!({"format": "jwt_id", "iss": TENANTS[0], "jti": id});
    sidecar.accept(&mint::signal(mint::SESSION_REVOKED, first)).await;
    assert_refused(sidecar, &ask("/orders", &of(TENANTS[0])).await, "token_revoked");
    assert_allowed(sidecar, &ask("/orders", &of(TENANTS[1])).await);
}

#[tokio::test]
async fn a_transaction_token_stands_in_its_own_header() {
    let sidecar = sidecar().await;
    let task = unique("txn");
    let jwt = token(
        "txntoken+jwt",
        TTS,
        &json!({"sub": "d084", "aud": "http://td.example", "txn": task, "scope": "orders.read", "req_wl": "gateway",
                "tctx": {"action": "BUY"}, "rctx": {"req_ip": "10.0.0.1"}}),
    );
    let jwt = jwt.claim("exp", now() + 15);
    let in_header = Request::get("/buy").header("txn-token", jwt.sign());
    assert_allowed(sidecar, &send(sidecar.app(), Http::Two, &in_header).await.unwrap());
    assert_refused(sidecar, &ask("/buy", &jwt).await, "token_misplaced");
    sidecar.accept(&mint::complete_task(&task)).await;
    assert_refused(sidecar, &send(sidecar.app(), Http::Two, &in_header).await.unwrap(), "task_completed");
}

#[tokio::test]
async fn a_workload_identity_token_needs_a_proof_by_its_key() {
    let sidecar = sidecar().await;
    let key = Signer::new(Alg::Es256);
    let jwt = token(
        "wit+jwt",
        WORKLOADS,
        &json!({"sub": "wimse://td.example/agent", "jti": "wit-1", "cnf": {"jwk": key.public()}}),
    );
    let text = jwt.sign();
    let with = |proof: Option<String>| {
        let request = Request::get("/work").header("workload-identity-token", &text);
        proof.into_iter().fold(request, |request, proof| request.header("dpop", proof))
    };
    let uri = format!("{API}/work");
    let by = |signer: &Signer| Some(proof(signer, "GET", &uri, &text).sign());
    assert_refused(
        sidecar,
        &send(sidecar.listener("workloads"), Http::Two, &with(None)).await.unwrap(),
        "dpop_proof_missing",
    );
    let strange = with(by(&Signer::new(Alg::Es256)));
    assert_refused(
        sidecar,
        &send(sidecar.listener("workloads"), Http::Two, &strange).await.unwrap(),
        "binding_mismatch",
    );
    assert_allowed(sidecar, &send(sidecar.listener("workloads"), Http::Two, &with(by(&key))).await.unwrap());
}
