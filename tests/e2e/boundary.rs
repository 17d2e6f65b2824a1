//! A token opens what it was granted for, and nothing beside it.

use serde_json::json;
use taskfence_tests::{
    bootstrap::Settings,
    client::{Http, Request},
    mint, orders,
    refusal::{assert_allowed, assert_refused, parse_challenge},
    sidecar::Sidecar,
};
use tokio::sync::OnceCell;

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    SIDECAR.get_or_init(|| async { Sidecar::start(Settings::new("boundary", orders::config())).await.unwrap() }).await
}

/// Rules that deny or have many requirements, before one that needs only a token: a request that the first ones miss
/// passes.
async fn fenced() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let config = orders::config_of(json!([
        {"name": "purge", "match": {"grpc": {"service": "orders.v1.Orders", "method": "Purge"}}, "deny": true},
        {"name": "admin", "match": {"grpc": {"service": "admin.v1.Admin"}}, "deny": true},
        {"name": "export", "match": {"grpc": {"service": "orders.v1.Orders", "method": "Export"}}, "require": {}},
        {"name": "not-export", "match": {"grpc": {"service": "orders.v1.Orders", "method": "Export"}}, "deny": true},
        {"name": "star", "match": {"path": "/literal/%2A"}, "deny": true},
        {"name": "colon", "match": {"path": "/literal/%3Aid"}, "deny": true},
        {"name": "cancel", "match": {"path": "/v1/orders:cancel"}, "deny": true},
        {"name": "loose", "match": {"methods": ["GET"], "path": "/shadowed"}, "require": {}},
        {"name": "strict", "match": {"methods": ["GET", "HEAD", "PUT"], "path": "/shadowed"}, "require": {"scope": "admin"}},
        {"name": "all", "match": {"path": "/{rest...}"}, "require": {}}
    ]));
    SIDECAR.get_or_init(|| async { Sidecar::start(Settings::new("fenced", config)).await.unwrap() }).await
}

#[tokio::test]
async fn a_denied_grpc_method_is_denied_however_it_is_called() {
    let sidecar = fenced().await;
    let token = mint::token().sign();
    let content_types = [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc-web-text+proto",
        "application/connect+proto",
        "application/connect+json",
        "application/proto",
        "application/json",
        "Application/GRPC",
        "text/plain",
    ];
    for path in ["/orders.v1.Orders/Purge", "/admin.v1.Admin/Anything", "/orders.v1.Orders/%50urge"] {
        for http in Http::BOTH {
            for content_type in content_types {
                let call = Request::new("POST", path).header("content-type", content_type).body("{}").bearer(&token);
                let answer = sidecar.send(http, &call).await.unwrap();
                match content_type.starts_with("application/grpc") && !content_type.contains("-web") {
                    true => assert_eq!(answer.header("grpc-status").as_deref(), Some("7"), "{path} {content_type}"),
                    false => assert_refused(sidecar, &answer, "rule_denied"),
                }
                assert!(!sidecar.upstream().was_reached_by(&answer.probe), "{path} {content_type} {http:?}");
            }
            // Connect calls what has no side effects by GET, with the message in the query.
            for method in ["GET", "PUT", "HEAD", "OPTIONS"] {
                let path = format!("{path}?connect=v1&encoding=json&message=%7B%7D");
                let answer = sidecar.send(http, &Request::new(method, &path).bearer(&token)).await.unwrap();
                assert_eq!(answer.status, 403, "{method} {path} {http:?}");
                assert!(!sidecar.upstream().was_reached_by(&answer.probe), "{method} {path} {http:?}");
            }
        }
    }
    let other = Request::new("POST", "/orders.v1.Orders/Get").header("content-type", "application/json").bearer(&token);
    assert_allowed(sidecar, &sidecar.send(Http::Two, &other).await.unwrap());
}

/// What `check` recommends for a rule that lets a gRPC method be called, in front of a wider rule.
#[tokio::test]
async fn a_method_that_is_for_grpc_alone() {
    let sidecar = fenced().await;
    let token = mint::token().sign();
    let call = |content_type: &str| {
        Request::new("POST", "/orders.v1.Orders/Export").header("content-type", content_type).bearer(&token)
    };
    let answer = sidecar.send(Http::Two, &call("application/grpc")).await.unwrap();
    assert!(sidecar.upstream().was_reached_by(&answer.probe));
    for content_type in ["application/grpc-web+proto", "application/connect+proto", "application/json"] {
        assert_refused(sidecar, &sidecar.send(Http::Two, &call(content_type)).await.unwrap(), "rule_denied");
    }
}

/// A template has escaped what another system would read as a pattern; a path has it in any spelling.
#[tokio::test]
async fn literals_that_are_patterns_elsewhere() {
    let sidecar = fenced().await;
    let token = mint::token().sign();
    for http in Http::BOTH {
        for path in
            ["/literal/*", "/literal/%2A", "/literal/%2a", "/literal/:id", "/literal/%3aid", "/v1/orders:cancel"]
        {
            let answer = sidecar.send(http, &Request::get(path).bearer(&token)).await.unwrap();
            assert_refused(sidecar, &answer, "rule_denied");
        }
        for path in ["/literal/x", "/literal/7", "/literal/**", "/v1/orders:cancelled"] {
            assert_allowed(sidecar, &sidecar.send(http, &Request::get(path).bearer(&token)).await.unwrap());
        }
    }
}

/// What `check` says of a rule that is dead in part is what the proxy does.
#[tokio::test]
async fn a_rule_decides_what_none_before_it_takes() {
    let sidecar = fenced().await;
    let token = mint::token().sign();
    assert_allowed(sidecar, &sidecar.send(Http::One, &Request::get("/shadowed").bearer(&token)).await.unwrap());
    let put = Request::new("PUT", "/shadowed").bearer(&token);
    assert_refused(sidecar, &sidecar.send(Http::One, &put).await.unwrap(), "scope_insufficient");
}

#[tokio::test]
async fn inside_the_task_a_request_passes_unchanged() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for http in Http::BOTH {
        let path = "/v1/orders/1881?verbose=yes";
        let answer = sidecar.send(http, &Request::get(path).bearer(&token).header("x-color", "blue")).await.unwrap();
        assert_allowed(sidecar, &answer);
        let seen = answer.json();
        assert_eq!((&seen["method"], &seen["path"]), (&json!("GET"), &json!(path)), "{http:?}");
        assert_eq!(seen["headers"]["x-color"], json!(["blue"]), "{http:?}");
    }
}

#[tokio::test]
async fn another_order_is_refused() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for http in Http::BOTH {
        for order in ["1882", "188", "18810", "1881x"] {
            let request = Request::get(&format!("/v1/orders/{order}")).bearer(&token);
            let answer = sidecar.send(http, &request).await.unwrap();
            assert_refused(sidecar, &answer, "detail_insufficient");
        }
    }
}

#[tokio::test]
async fn a_write_is_refused() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for http in Http::BOTH {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let request = Request::new(method, orders::ORDER_PATH).bearer(&token);
            assert_refused(sidecar, &sidecar.send(http, &request).await.unwrap(), "rule_missing");
        }
    }
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let sidecar = sidecar().await;
    let refund = Request::new("POST", "/v1/orders/1881/refund");
    for http in Http::BOTH {
        // A scope is a word of a list, not a part of a text.
        for scope in ["orders.read", "orders.refunds", "xorders.refund", "orders.refund.all", "Orders.Refund"] {
            let token = mint::token().claim("scope", scope).sign();
            let answer = sidecar.send(http, &refund.clone().bearer(&token)).await.unwrap();
            assert_refused(sidecar, &answer, "scope_insufficient");
            let challenge = parse_challenge(&answer.header("www-authenticate").unwrap()).unwrap();
            assert_eq!(challenge.get("scope").map(String::as_str), Some("orders.refund"), "with the scope `{scope}`");
        }
    }
}

#[tokio::test]
async fn a_scope_without_the_detail_is_not_enough() {
    let sidecar = sidecar().await;
    let token = mint::token().claim("scope", "orders.read orders.refund").sign();
    let answer = sidecar.send(Http::One, &Request::new("POST", "/v1/orders/1881/refund").bearer(&token)).await.unwrap();
    assert_refused(sidecar, &answer, "detail_insufficient");
    let without = mint::token().without("authorization_details").sign();
    let answer = sidecar.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(&without)).await.unwrap();
    assert_refused(sidecar, &answer, "detail_insufficient");
}

#[tokio::test]
async fn lists_of_one_detail_multiply_and_two_details_never_mix() {
    let sidecar = sidecar().await;
    let token = mint::token()
        .claim("scope", "orders.read orders.refund")
        .claim(
            "authorization_details",
            json!([
                {"type": "order", "actions": ["read"], "identifier": "1"},
                {"type": "order", "actions": ["refund"], "identifier": "2"},
                {"type": "order", "actions": ["read", "refund"], "identifier": "3"},
                {"type": "invoice", "actions": ["read", "refund"], "identifier": "4"},
            ]),
        )
        .sign();
    for (method, path, allowed) in [
        ("GET", "/v1/orders/1", true),
        ("POST", "/v1/orders/1/refund", false),
        ("GET", "/v1/orders/2", false),
        ("POST", "/v1/orders/2/refund", true),
        ("GET", "/v1/orders/3", true),
        ("POST", "/v1/orders/3/refund", true),
        ("GET", "/v1/orders/4", false),
        ("POST", "/v1/orders/4/refund", false),
    ] {
        let answer = sidecar.send(Http::Two, &Request::new(method, path).bearer(&token)).await.unwrap();
        match allowed {
            true => assert_allowed(sidecar, &answer),
            false => assert_refused(sidecar, &answer, "detail_insufficient"),
        }
    }
}

#[tokio::test]
async fn what_no_rule_names_is_refused() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for http in Http::BOTH {
        for path in
            ["/", "/v1/orders", "/v1/orders/", "/v1/orders/1881/items", "/V1/orders/1881", "/healthz/", "/healthzx"]
        {
            let answer = sidecar.send(http, &Request::get(path).bearer(&token)).await.unwrap();
            assert_refused(sidecar, &answer, "rule_missing");
        }
    }
}

#[tokio::test]
async fn what_a_rule_denies_no_grant_opens() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for http in Http::BOTH {
        for path in ["/internal/debug", "/internal/a/b", "/internal/debug?x=1"] {
            let answer = sidecar.send(http, &Request::get(path).bearer(&token)).await.unwrap();
            assert_refused(sidecar, &answer, "rule_denied");
        }
    }
}

#[tokio::test]
async fn health_is_open_to_everybody() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let nobody = Request::get("/healthz");
        assert_allowed(sidecar, &sidecar.send(http, &nobody).await.unwrap());
        // The query does not change the rule; a rule for anonymous requests ignores a bad token.
        assert_allowed(sidecar, &sidecar.send(http, &Request::get("/healthz?x=1")).await.unwrap());
        assert_allowed(sidecar, &sidecar.send(http, &nobody.bearer(&mint::token().expired().sign())).await.unwrap());
    }
}

#[tokio::test]
async fn a_rule_for_a_host_is_for_that_host() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    let report = Request::get("/v1/report").bearer(&token);
    for http in Http::BOTH {
        for host in ["reports.mesh", "Reports.MESH", "reports.mesh:80", "reports.mesh:8443", "reports.mesh."] {
            assert_allowed(sidecar, &sidecar.send(http, &report.clone().host(host)).await.unwrap());
        }
        for host in ["orders.mesh", "reports.mesh.evil", "xreports.mesh", "reports-mesh", "reportsxmesh", "127.0.0.1"] {
            let answer = sidecar.send(http, &report.clone().host(host)).await.unwrap();
            assert_refused(sidecar, &answer, "rule_missing");
        }
    }
}
