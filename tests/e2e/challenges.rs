//! What a refusal tells a client to do next: where the metadata of the resource is (RFC 9728), which scopes and which
//! authentication to ask for, and when asking would not help.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    grants::Grant,
    mint::{self, Jwt},
    oauth, orders,
    refusal::{assert_allowed, assert_refused, describe, parse_challenge},
    sidecar::Sidecar,
};
use tokio::sync::OnceCell;

const METADATA: &str = "/.well-known/oauth-protected-resource/v1";

fn config() -> Value {
    let mut config = orders::config_of(json!([
        {"name": "read-order", "match": {"methods": ["GET"], "path": "/v1/orders/{order}"},
         "require": {"scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
        {"name": "cancel-order", "match": {"methods": ["POST"], "path": "/v1/orders/{order}:cancel"},
         "require": {"scope": {"all": ["orders.read"], "any": ["orders.cancel", "orders.admin"]}}},
        {"name": "list-orders", "match": {"methods": ["GET"], "path": "/v1/orders"}, "require": {"scope": "orders.list"}},
        {"name": "report", "match": {"hosts": ["reports.mesh"], "path": "/{rest...}"}, "require": {"scope": "reports"}},
        {"name": "any", "match": {"path": "/{rest...}"}, "require": {}}
    ]));
    config["protected_resources"] = json!([
        {"resource": "https://orders.mesh/v1", "name": "Orders", "documentation": "https://docs.example/orders"},
        {"resource": "https://reports.mesh"},
        {"resource": "https://files.mesh/", "serve": false}
    ]);
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let settings = || {
        let mut shadow = config();
        shadow["mode"] = json!("shadow");
        Settings::new("challenges", config()).also("shadow", shadow)
    };
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

async fn send(http: Http, request: &Request) -> Answer {
    sidecar().await.send(http, request).await.unwrap()
}

/// The parameters of the one challenge of `answer`.
fn challenge(answer: &Answer) -> Value {
    let header = answer.header("www-authenticate").unwrap_or_else(|| panic!("no challenge in\n{}", describe(answer)));
    let parameters = parse_challenge(&header).unwrap_or_else(|| panic!("not one challenge: {header}"));
    json!(parameters)
}

#[tokio::test]
async fn the_filter_serves_the_metadata_to_everybody() {
    let sidecar = sidecar().await;
    let expected = json!({
        "resource": "https://orders.mesh/v1",
        "authorization_servers": [orders::ISSUER],
        "scopes_supported": ["orders.read", "orders.cancel", "orders.admin", "orders.list"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Orders",
        "resource_documentation": "https://docs.example/orders"
    });
    for (listener, http) in
        [(sidecar.app(), Http::One), (sidecar.app(), Http::Two), (sidecar.listener("shadow"), Http::Two)]
    {
        for path in
            [METADATA, "/.well-known/oauth-protected-resource/v1?x", "/.well-known/oauth-protected-resource/%761"]
        {
            let answer = client::send(listener, http, &Request::get(path)).await.unwrap();
            assert_eq!((answer.status, answer.json()), (200, expected.clone()), "{path}\n{}", describe(&answer));
            assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
            assert_eq!(answer.header("cache-control").as_deref(), Some("public, max-age=300"));
            assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"));
            assert!(!sidecar.upstream().was_reached_by(&answer.probe));
        }
        let head = client::send(listener, http, &Request::new("HEAD", METADATA)).await.unwrap();
        assert_eq!((head.status, head.text().as_str()), (200, ""), "{}", describe(&head));
        assert_eq!(head.header("content-type").as_deref(), Some("application/json"));
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = client::send(listener, http, &Request::new(method, METADATA).body("x")).await.unwrap();
            assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("GET, HEAD")), "{method}");
            assert!(!sidecar.upstream().was_reached_by(&answer.probe), "{method}");
        }
    }
    let reports =
        send(Http::Two, &Request::get("/.well-known/oauth-protected-resource").host("reports.mesh:443")).await;
    assert_eq!(reports.json()["resource"], "https://reports.mesh");
    // Rules without hosts are for its requests too.
    let scopes = json!(["orders.read", "orders.cancel", "orders.admin", "orders.list", "reports"]);
    assert_eq!(reports.json()["scopes_supported"], scopes);
}

/// Whatever is not served metadata is a request like any other.
#[tokio::test]
async fn what_is_not_served_is_decided_by_rules() {
    for (host, path) in [
        ("orders.mesh", "/.well-known/oauth-protected-resource"),
        ("orders.mesh", "/.well-known/oauth-protected-resource/v1/"),
        ("orders.mesh", "/.well-known/oauth-protected-resource/V1"),
        ("reports.mesh", METADATA),
        ("files.mesh", "/.well-known/oauth-protected-resource"),
    ] {
        let request = Request::get(path).host(host);
        assert_refused(sidecar().await, &send(Http::One, &request).await, "token_missing");
        let with = request.bearer(&mint::token().claim("scope", "reports").sign());
        assert_allowed(sidecar().await, &send(Http::Two, &with).await);
    }
}

#[tokio::test]
async fn a_challenge_names_the_metadata_and_the_scopes_of_this_request() {
    let orders = "https://orders.mesh/.well-known/oauth-protected-resource/v1";
    let reports = "https://reports.mesh/.well-known/oauth-protected-resource";
    let files = "https://files.mesh/.well-known/oauth-protected-resource";
    let bearer = |jwt: &Jwt, request: Request| request.bearer(&jwt.sign());
    let cancel = || Request::new("POST", "/v1/orders/1881:cancel");
    for (request, reason, scope, metadata) in [
        (Request::get(orders::ORDER_PATH), "token_missing", Some("orders.read"), Some(orders)),
        (Request::get("/v1/orders"), "token_missing", Some("orders.list"), Some(orders)),
        (Request::get("/v1"), "token_missing", None, Some(orders)),
        (cancel(), "token_missing", Some("orders.read orders.cancel"), Some(orders)),
        (bearer(&mint::token().expired(), cancel()), "token_expired", Some("orders.read orders.cancel"), Some(orders)),
        (bearer(&mint::token(), cancel()), "scope_insufficient", Some("orders.read orders.cancel"), Some(orders)),
        (
            bearer(&mint::token().claim("scope", "orders.admin"), cancel()),
            "scope_insufficient",
            Some("orders.read"),
            Some(orders),
        ),
        (bearer(&mint::token(), Request::get("/v1/orders/1882")), "detail_insufficient", None, Some(orders)),
        (Request::get("/other"), "token_missing", None, None),
        (Request::get("/x").host("reports.mesh"), "token_missing", Some("reports"), Some(reports)),
        (Request::get("/x").host("files.mesh"), "token_missing", None, Some(files)),
        (Request::get("/x").host("nobody.mesh"), "token_missing", None, None),
    ] {
        for http in Http::BOTH {
            let answer = send(http, &request).await;
            assert_refused(sidecar().await, &answer, reason);
            let challenge = challenge(&answer);
            let (line, shown) = (request.line(), describe(&answer));
            assert_eq!(challenge.get("scope").and_then(Value::as_str), scope, "scope of {line}\n{shown}");
            assert_eq!(challenge.get("resource_metadata").and_then(Value::as_str), metadata, "of {line}\n{shown}");
        }
    }
}

/// More scope helps a token that lacks it, and not one that a signal took it from; a request outside the task is told
/// apart from both.
#[tokio::test]
async fn insufficient_scope_is_said_where_more_scope_would_help() {
    let sidecar = sidecar().await;
    let list = |jwt: &Jwt| Request::get("/v1/orders").bearer(&jwt.sign());
    let grant = Grant::new();
    let wide = grant.token.clone().claim("scope", "orders.read orders.list");
    assert_allowed(sidecar, &send(Http::One, &list(&wide)).await);
    let lacking = send(Http::One, &list(&grant.token)).await;
    assert_eq!(challenge(&lacking)["error"], "insufficient_scope", "{}", describe(&lacking));
    let other = send(Http::One, &Request::get("/v1/orders/1882").bearer(&grant.token.sign())).await;
    assert_eq!(challenge(&other)["error"], "insufficient_authorization_details", "{}", describe(&other));
    assert_eq!(challenge(&other)["error_description"], "Outside the task of the grant");

    sidecar.accept(&mint::signal_with(mint::GRANT_NARROWED, grant.of_task(), &json!({"scope": "orders.read"}))).await;
    for jwt in [&wide, &grant.token] {
        let narrowed = send(Http::Two, &list(jwt)).await;
        assert_refused(sidecar, &narrowed, "scope_insufficient");
        assert_eq!(narrowed.header("www-authenticate"), None, "{}", describe(&narrowed));
    }
}

#[tokio::test]
async fn a_refused_claim_is_named_and_not_its_value() {
    for (jwt, claim) in [
        (mint::token().without("jti"), "jti"),
        (mint::token().claim("sub", json!(["a-value"])), "sub"),
        (mint::token().claim("client_id", json!({"a-value": 1})), "client_id"),
    ] {
        let answer = send(Http::Two, &Request::get(orders::ORDER_PATH).bearer(&jwt.sign())).await;
        assert_refused(sidecar().await, &answer, "claim_invalid");
        let text = challenge(&answer)["error_description"].as_str().unwrap_or_default().to_owned();
        assert!(text.contains(claim) && !text.contains("a-value"), "{text}");
    }
}

/// `oauth4webapi` reads the challenge and takes the metadata for what RFC 9728 says.
#[tokio::test]
async fn an_oauth_client_finds_the_authorization_server() {
    if !oauth::is_there("an_oauth_client_finds_the_authorization_server") {
        return;
    }
    let sidecar = sidecar().await;
    let found = oauth::discover(&json!({
        "port": sidecar.app().port(), "url": "https://orders.mesh/v1/orders/1881", "resource": "https://orders.mesh/v1",
        "token": mint::token().expired().sign()
    }));
    let found = found.unwrap();
    assert_eq!(found["status"], 401, "{found}");
    let parameters = &found["challenges"][0]["parameters"];
    assert_eq!(found["challenges"][0]["scheme"], "bearer", "{found}");
    assert_eq!(parameters["error"], "invalid_token", "{found}");
    assert_eq!(parameters["scope"], "orders.read", "{found}");
    // The client made the same URL from the identifier as the challenge names.
    assert_eq!(parameters["resource_metadata"], found["asked"][1], "{found}");
    assert_eq!(found["metadata"]["authorization_servers"], json!([orders::ISSUER]), "{found}");
}
