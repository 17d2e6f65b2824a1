//! The token stands where its issuer's configuration says, never in two places, and the upstream sees it only if it
//! may.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Answer, Http, Request, send},
    mint::{self, Jwt},
    orders,
    raw::{Http1, Http1Request},
    refusal::{assert_allowed, assert_refused, describe},
    sidecar::Sidecar,
};
use tokio::sync::OnceCell;

/// An issuer beside [`orders::ISSUER`], with the same keys, whose tokens stand in a header of their own.
const PARTNER: &str = "https://partner.example";
/// One whose tokens stand in a cookie.
const BROWSER: &str = "https://browser.example";

fn config(forward: bool) -> Value {
    let mut config = orders::config_of(json!([
        {"name": "open", "match": {"path": "/open"}, "require": {"scope": orders::SCOPE}},
        {"name": "free", "match": {"path": "/free"}, "allow": "anonymous"}
    ]));
    let first = config["issuers"][0].clone();
    for (name, token) in [(PARTNER, json!({"header": "x-jit-token"})), (BROWSER, json!({"cookie": "__Host-jit"}))] {
        let mut issuer = first.clone();
        issuer["issuer"] = json!(name);
        issuer["token"] = token;
        config["issuers"].as_array_mut().unwrap().push(issuer);
    }
    config["forward_token"] = json!(forward);
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let only_header = || {
        let mut config = config(false);
        let partner = config["issuers"][1].clone();
        config["issuers"] = json!([partner]);
        config["signals"]["transmitters"][0]["subjects"] = json!([PARTNER]);
        config
    };
    let settings =
        || Settings::new("token-source", config(true)).also("hidden", config(false)).also("own", only_header());
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

fn of(issuer: &str) -> Jwt {
    mint::token().claim("iss", issuer)
}

async fn on(listener: &str, http: Http, request: &Request) -> Answer {
    let sidecar = sidecar().await;
    let to = if listener == "app" { sidecar.app() } else { sidecar.listener(listener) };
    send(to, http, request).await.unwrap()
}

fn in_header(token: &str) -> Request {
    Request::get("/open").header("x-jit-token", token)
}

fn in_cookie(token: &str) -> Request {
    Request::get("/open").header("cookie", format!("theme=dark; __Host-jit={token}; lang=en"))
}

#[tokio::test]
async fn each_issuer_has_its_place() {
    let sidecar = sidecar().await;
    let (jit, partner, browser) = (of(orders::ISSUER).sign(), of(PARTNER).sign(), of(BROWSER).sign());
    for http in [Http::One, Http::Two, Http::One, Http::Two] {
        assert_allowed(sidecar, &on("app", http, &Request::get("/open").bearer(&jit)).await);
        assert_allowed(sidecar, &on("app", http, &in_header(&partner)).await);
        assert_allowed(sidecar, &on("app", http, &in_header(&format!("Bearer {partner}"))).await);
        assert_allowed(sidecar, &on("app", http, &in_cookie(&browser)).await);
        // The token is remembered as good, but it is in the wrong place.
        for wrong in [
            Request::get("/open").bearer(&partner),
            Request::get("/open").bearer(&browser),
            in_header(&jit),
            in_header(&browser),
            in_cookie(&jit),
            in_cookie(&partner),
        ] {
            assert_refused(sidecar, &on("app", http, &wrong).await, "token_misplaced");
        }
    }
}

#[tokio::test]
async fn two_credentials_are_none() {
    let sidecar = sidecar().await;
    let (jit, partner, browser) = (of(orders::ISSUER).sign(), of(PARTNER).sign(), of(BROWSER).sign());
    for http in Http::BOTH {
        for two in [
            Request::get("/open").bearer(&jit).header("x-jit-token", &partner),
            Request::get("/open").bearer(&jit).header("cookie", format!("__Host-jit={browser}")),
            in_header(&partner).header("cookie", format!("__Host-jit={browser}")),
            in_header(&partner).header("x-jit-token", &partner),
            in_header(&partner).header("x_jit_token", &partner),
            in_header(&format!("{partner},{partner}")),
            Request::get("/open").header("cookie", format!("__Host-jit={browser}; __Host-jit={browser}")),
            Request::get("/open?access_token=a").bearer(&jit),
            Request::get("/open?%61ccess_token=a").bearer(&jit),
            Request::get("/open?x=1&access%5Ftoken=a").header("x-jit-token", &partner),
        ] {
            let answer = on("app", http, &two).await;
            // Envoy itself may not let a header with `_` through.
            if answer.reason().as_deref() != Some("token_missing") {
                assert_refused(sidecar, &answer, "credentials_ambiguous");
            }
        }
    }
    let split = Http1Request::new("GET", "/open")
        .header("cookie", format!("__Host-jit={browser}"))
        .header("cookie", format!("__Host-jit={browser}"));
    let answer = Http1::open(sidecar.app()).await.unwrap().send(&split).await.unwrap();
    assert_refused(sidecar, &answer, "credentials_ambiguous");
}

fn seen<'a>(answer: &'a Value, header: &str) -> Option<&'a str> {
    answer["headers"][header][0].as_str()
}

#[tokio::test]
async fn the_upstream_sees_the_token_only_where_it_may() {
    let sidecar = sidecar().await;
    let (jit, partner, browser) = (of(orders::ISSUER).sign(), of(PARTNER).sign(), of(BROWSER).sign());
    for http in Http::BOTH {
        for (listener, forwards) in [("app", true), ("hidden", false)] {
            let answer = on(listener, http, &Request::get("/open").bearer(&jit).header("dpop", "x")).await;
            assert_allowed(sidecar, &answer);
            assert_eq!(seen(&answer.json(), "authorization").is_some(), forwards, "{}", describe(&answer));
            assert_eq!(seen(&answer.json(), "dpop").is_some(), forwards, "{}", describe(&answer));
            let answer = on(listener, http, &in_header(&partner).header("authorization", "Basic eDp5")).await;
            assert_allowed(sidecar, &answer);
            assert_eq!(seen(&answer.json(), "x-jit-token").is_some(), forwards, "{}", describe(&answer));
            assert_eq!(seen(&answer.json(), "authorization"), Some("Basic eDp5"), "not ours to hide");
            let answer = on(listener, http, &in_cookie(&browser)).await;
            assert_allowed(sidecar, &answer);
            let cookies = if forwards {
                format!("theme=dark; __Host-jit={browser}; lang=en")
            } else {
                "theme=dark; lang=en".to_owned()
            };
            assert_eq!(seen(&answer.json(), "cookie"), Some(cookies.as_str()));
        }
        let alone = Request::get("/open").header("cookie", format!("__Host-jit={browser}"));
        let answer = on("hidden", http, &alone).await;
        assert_allowed(sidecar, &answer);
        assert_eq!(seen(&answer.json(), "cookie"), None);
        // The filter did not read it, but the upstream must not get it.
        let free = Request::get("/free").header("cookie", "__Host-jit=x; a=b").header("x-jit-token", "y").bearer("z");
        let answer = on("hidden", http, &free).await;
        assert_allowed(sidecar, &answer);
        let headers = answer.json();
        assert_eq!(
            (seen(&headers, "cookie"), seen(&headers, "x-jit-token"), seen(&headers, "authorization")),
            (Some("a=b"), None, None)
        );
    }
}

/// Where no issuer reads `authorization` it belongs to the service.
#[tokio::test]
async fn a_header_of_its_own_leaves_authorization_alone() {
    let sidecar = sidecar().await;
    let partner = of(PARTNER).sign();
    let request = in_header(&partner).header("authorization", "Bearer theirs");
    let answer = on("own", Http::One, &request).await;
    assert_allowed(sidecar, &answer);
    assert_eq!(seen(&answer.json(), "authorization"), Some("Bearer theirs"));
    let answer = on("own", Http::One, &Request::get("/open").bearer(&partner)).await;
    assert_refused(sidecar, &answer, "token_missing");
}

#[tokio::test]
async fn scopes_may_be_a_list() {
    let sidecar = sidecar().await;
    let list = of(orders::ISSUER).claim("scope", json!(["other", orders::SCOPE])).sign();
    assert_allowed(sidecar, &on("app", Http::One, &Request::get("/open").bearer(&list)).await);
    let joined = of(orders::ISSUER).claim("scope", json!([format!("other {}", orders::SCOPE)])).sign();
    assert_refused(sidecar, &on("app", Http::One, &Request::get("/open").bearer(&joined)).await, "claim_invalid");
}
