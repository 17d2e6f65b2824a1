//! Input that is too deep, too long or too much: an answer in bounded time, and everything else goes on.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::Settings,
    client::{Http, Request},
    in_process::fault,
    mint::{self, Alg},
    orders,
    refusal::{assert_allowed, assert_not_forwarded, assert_signal_accepted},
    sidecar::Sidecar,
    tamper,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Much more than any of these takes, and much less than a time-out: a slow machine must not fail the test.
const BOUNDED: Duration = Duration::from_secs(3);

/// One sidecar whose Envoy keeps nothing from the filter, for one test at a time: each looks whether a machine died.
async fn sidecar() -> (&'static Sidecar, MutexGuard<'static, ()>) {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let guard = ONE_AT_A_TIME.lock().await;
    let start = || async { Sidecar::start(Settings::new("bad-input", config()).workers(1).roomy()).await.unwrap() };
    (SIDECAR.get_or_init(start).await, guard)
}

/// With a condition, for which claims are converted, and identity headers, for which headers are changed.
fn config() -> Value {
    let mut config = orders::config_of(json!([
        {"name": "order", "match": {"path": "/v1/orders/{order}"},
         "require": {"scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
        {"name": "when", "match": {"path": "/when"}, "require": {"when": "!has(claims.extra) || size(claims.extra) > 0"}},
        {"name": "many", "match": {"path": "/many/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{rest...}"}, "require": {"scope": "orders.read"}},
        {"name": "open", "match": {"path": "/open/{rest...}"}, "allow": "anonymous"}
    ]));
    config["identity"] = json!({"subject": "x-auth-subject"});
    config
}

/// Sends the request over both versions of HTTP: each answer must be one of `expected` and come soon, and after it a
/// good request must pass on a machine that was not restarted.
async fn survives(what: &str, request: &Request, expected: &[&str]) {
    survives_over(&Http::BOTH, what, request, expected).await;
}

async fn survives_over(versions: &[Http], what: &str, request: &Request, expected: &[&str]) {
    let (sidecar, _guard) = sidecar().await;
    let created = sidecar.machines_created().await.unwrap();
    for http in versions.iter().copied() {
        let started = Instant::now();
        let answer = sidecar.send(http, request).await.unwrap_or_else(|error| panic!("{what}, {http:?}: {error}"));
        let took = started.elapsed();
        assert!(
            expected.contains(&answer.line().as_str()),
            "{what}, {http:?}: {}, expected {expected:?}",
            answer.line()
        );
        assert!(took < BOUNDED, "{what}, {http:?}: took {took:?}");
        if answer.status != 200 {
            assert_not_forwarded(sidecar, &answer);
        }
        let good = Request::get(orders::ORDER_PATH).bearer(&mint::token().sign());
        assert_allowed(sidecar, &sidecar.send(http, &good).await.unwrap());
    }
    sidecar.check_no_crash_since(created).await.unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// A signed token whose claim `extra` is this text.
fn with_extra(text: &str) -> String {
    let signer = mint::ISSUER.signer(Alg::EdDsa);
    let jwt = mint::token().signed_by(signer);
    signer.sign_text(jwt.header_text().as_bytes(), tamper::claim_text(&jwt, "extra", text).as_bytes())
}

#[tokio::test]
async fn deep_claims() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    for path in [orders::ORDER_PATH, "/when"] {
        let get = |text: &str| Request::get(path).bearer(&with_extra(text));
        survives("20 deep", &get(&objects(20)), &["200"]).await;
        survives("100 deep, arrays", &get(&nested(100)), &["401 token_malformed"]).await;
        survives("100 deep, objects", &get(&objects(100)), &["401 token_malformed"]).await;
        survives("5,000 deep", &get(&nested(5_000)), &["401 token_malformed"]).await;
        survives("5,000 deep and never closed", &get(&"[".repeat(5_000)), &["401 token_malformed"]).await;
    }
}

#[tokio::test]
async fn large_claims() {
    // The condition may exceed its budget with such a token.
    for (path, expected) in [(orders::ORDER_PATH, &["200"][..]), ("/when", &["200", "403 condition_error"])] {
        let get = |text: &str| Request::get(path).bearer(&with_extra(text));
        survives("11 KB in one string", &get(&json!("x".repeat(11_000)).to_string()), &["200"]).await;
        survives("5,500 numbers", &get(&format!("[{}1]", "1,".repeat(5_500))), expected).await;
        let members: Vec<_> = (0..1_000).map(|number| format!("\"k{number}\":1")).collect();
        survives("1,000 members", &get(&format!("{{{}}}", members.join(","))), expected).await;
        survives("15 KB of claims", &get(&json!("x".repeat(15_000)).to_string()), &["401 token_too_large"]).await;
        // Envoy's HTTP/2 gives such a connection up.
        let megabyte = get(&json!("x".repeat(700_000)).to_string());
        survives_over(&[Http::One], "1 MB of claims", &megabyte, &["401 token_too_large"]).await;
    }
    let scopes: Vec<_> = (0..1_500).map(|number| format!("s{number}")).collect();
    let scopes = scopes.join(" ") + " orders.read";
    let jwt = mint::token().claim("scope", scopes);
    survives("1,500 scopes", &Request::get(orders::ORDER_PATH).bearer(&jwt.sign()), &["200"]).await;
}

/// A condition may be expensive for a token with thousands of groups. No token may block a worker: such a condition is
/// refused when it is loaded, or stopped when it is evaluated, or it is fast.
#[tokio::test]
async fn loops_over_a_large_claim() {
    let conditions = [
        "claims.extra.all(a, a > 0)",
        "claims.extra.exists(a, a == claims.sub)",
        "claims.extra.filter(a, a > 5000) == []",
        "size(claims.extra.map(a, a + 1)) > 0",
        "claims.extra.all(a, a in claims.extra)",
        "claims.extra.all(a, claims.extra.all(b, a + b > 0))",
        "claims.extra.all(a, claims.extra.all(b, claims.extra.all(c, a + b + c > 0)))",
        "size(claims.extra.map(a, claims.extra)) > 0",
        "claims.extra.filter(a, claims.extra.exists(b, a + b > 2)) == []",
    ];
    let rule = |at: usize, when: &str| json!({"name": format!("rule-{at}"), "match": {"path": format!("/{at}")}, "require": {"when": when}});
    let rules: Vec<_> = conditions.iter().enumerate().map(|(at, when)| rule(at, when)).collect();
    let rules: Vec<_> = rules.into_iter().filter(|rule| fault(&orders::config_of(json!([rule]))).is_none()).collect();
    assert_eq!(rules[0]["name"], "rule-0", "one loop is no fault");
    let config = orders::config_of(json!(rules));
    let sidecar = Sidecar::start(Settings::new("bad-loops", config).workers(1)).await.unwrap();
    let token = with_extra(&format!("[{}1]", "1,".repeat(4_999)));
    for rule in &rules {
        let path = rule["match"]["path"].as_str().unwrap();
        let when = &rule["require"]["when"];
        let started = Instant::now();
        let answer = sidecar.send(Http::One, &Request::get(path).bearer(&token)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{when}: {error}"));
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{when}: {} after {took:?}", answer.line());
    }
}

#[tokio::test]
async fn many_details() {
    let details =
        |count: usize, detail: Value| mint::token().claim("authorization_details", json!(vec![detail; count]));
    let get = |jwt: mint::Jwt| Request::get(orders::ORDER_PATH).bearer(&jwt.sign());
    let good = json!({"type": "order", "actions": ["read"], "identifier": orders::ORDER});
    survives("128 details", &get(details(128, good.clone())), &["200"]).await;
    survives("129 details", &get(details(129, good)), &["401 claim_invalid"]).await;
    survives("800 details", &get(details(800, json!({"type": "o"}))), &["401 claim_invalid"]).await;
    let many = get(details(10_000, json!({"type": "o"})));
    survives_over(&[Http::One], "10,000 details", &many, &["401 token_too_large"]).await;
    let wide = json!({"type": "order", "actions": vec!["x"; 2_500], "identifier": orders::ORDER});
    survives("2,500 actions", &get(details(1, wide)), &["403 detail_insufficient"]).await;
}

#[tokio::test]
async fn large_tokens() {
    let get = |token: &str| Request::get(orders::ORDER_PATH).bearer(token);
    let padded = |bytes: usize| mint::token().claim("padding", "x".repeat(bytes)).sign();
    survives("16 KiB and more", &get(&padded(13_000)), &["401 token_too_large"]).await;
    survives("60 KB", &get(&"x".repeat(60_000)), &["401 token_too_large"]).await;
    survives("60 KB of dots", &get(&".".repeat(60_000)), &["401 token_too_large"]).await;
    survives("16 KB of dots", &get(&".".repeat(16_000)), &["401 token_malformed"]).await;
    survives("60 KB of commas", &get(&",".repeat(60_000)), &["400 credentials_ambiguous"]).await;
    let kid = mint::token().header("kid", "x".repeat(8_000)).sign();
    survives("a long kid", &get(&kid), &["401 key_unknown"]).await;
    let name = mint::token().user(&"x".repeat(2_000)).sign();
    survives("a long name", &get(&name), &["401 claim_invalid"]).await;
}

#[tokio::test]
async fn long_paths() {
    let token = mint::token().sign();
    let get = |path: &str| Request::get(path).bearer(&token);
    survives("8 KiB", &get(&format!("/open/{}", "x".repeat(8_000))), &["200"]).await;
    survives("64 KB in one segment", &get(&format!("/v1/orders/{}", "9".repeat(64_000))), &["400 path_refused"]).await;
    survives("64 KB of segments", &get(&"/a".repeat(32_000)), &["400 path_refused"]).await;
    survives("8 KB of segments", &get(&"/a".repeat(4_000)), &["403 rule_missing"]).await;
    survives("8 KB of captures", &get(&format!("/many{}", "/a".repeat(4_000))), &["200"]).await;
    survives("64 KB of escapes", &get(&format!("/{}", "%61".repeat(20_000))), &["400 path_refused"]).await;
    survives("8 KB of escapes", &get(&format!("/open/{}", "%c3%a9".repeat(1_300))), &["200"]).await;
    // The upstream of the tests takes less than that over HTTP/2.
    let query = get(&format!("{}?{}", orders::ORDER_PATH, "&a=b".repeat(15_000)));
    survives("64 KB of query", &query, &["200", "431"]).await;
    survives("64 KB of host", &get(orders::ORDER_PATH).host(&"a.".repeat(30_000)), &["400 host_refused", "400"]).await;
}

#[tokio::test]
async fn many_and_large_headers() {
    let token = mint::token().sign();
    let mut many = Request::get(orders::ORDER_PATH).bearer(&token);
    for number in 0..1_000 {
        many = many.header(format!("x-header-{number}").as_str(), "value");
    }
    // The upstream of the tests takes no more than a hundred.
    survives("1,000 headers", &many, &["200", "431", "400", "503"]).await;
    let mut lies = Request::get("/v1/orders/1882").bearer(&token);
    for number in 0..1_000 {
        lies = lies.header(format!("x-taskfence-{number}").as_str(), "value");
    }
    survives("1,000 headers of ours", &lies, &["403 detail_insufficient"]).await;
    let mut same = Request::get("/v1/orders/1882");
    for _ in 0..1_000 {
        same = same.bearer("a.b.c");
    }
    survives("1,000 credentials", &same, &["400 credentials_ambiguous"]).await;
    let large = Request::get("/v1/orders/1882").bearer(&token).header("x-large", "x".repeat(60_000));
    survives("a header of 60 KB", &large, &["403 detail_insufficient"]).await;
    let name = "x-".to_owned() + &"n".repeat(20_000);
    let large = Request::get("/v1/orders/1882").bearer(&token).header(name.as_str(), "x");
    survives("a name of 20 KB", &large, &["403 detail_insufficient"]).await;
}

#[tokio::test]
async fn large_signals() {
    let (sidecar, _guard) = sidecar().await;
    let created = sidecar.machines_created().await.unwrap();
    let task = mint::unique("task");
    let signal = |text: &str| {
        let signer = mint::TRANSMITTER.signer(Alg::EdDsa);
        let jwt = mint::complete_task(&task).signed_by(signer);
        let claims = tamper::claim_text(&jwt, "extra", text);
        Request::push(orders::SIGNALS_PATH, &signer.sign_text(jwt.header_text().as_bytes(), claims.as_bytes()))
    };
    let members: Vec<_> =
        (0..3_000).map(|number| format!("\"m{number}\":{{\"format\":\"opaque\",\"id\":\"x\"}}")).collect();
    for (what, push, statuses) in [
        ("100 deep", signal(&("[".repeat(100) + &"]".repeat(100))), &[400_u16][..]),
        ("20,000 numbers", signal(&format!("[{}1]", "1,".repeat(20_000))), &[202]),
        ("3,000 members", signal(&format!("{{{}}}", members.join(","))), &[400, 413]),
        ("1 MB", signal(&json!("x".repeat(1_000_000)).to_string()), &[400, 413]),
        ("1 MB of nothing", Request::push(orders::SIGNALS_PATH, &"x".repeat(1_000_000)), &[400, 413]),
    ] {
        for http in Http::BOTH {
            let started = Instant::now();
            let answer = taskfence_tests::client::send(sidecar.signals(), http, &push).await.unwrap();
            assert!(statuses.contains(&answer.status), "{what}: {}, expected {statuses:?}", answer.status);
            assert!(started.elapsed() < BOUNDED, "{what}: took {:?}", started.elapsed());
        }
    }
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
    sidecar.check_no_crash_since(created).await.unwrap();
}

/// Envoy does not start with it, and its log says what `taskfence check` says.
async fn refused_by_both(what: &str, config: Value) {
    let file = artefacts::target().join("tests").join(format!("{}.json", mint::unique("bad-config")));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, config.to_string()).unwrap();
    let check =
        Command::new(artefacts::command().unwrap()).args(["check", "--output", "json"]).arg(&file).output().unwrap();
    assert_eq!(check.status.code(), Some(3), "{what}: {}", String::from_utf8_lossy(&check.stderr));
    let report: Value = serde_json::from_slice(&check.stdout).unwrap();
    let errors = report["errors"].as_array().unwrap();
    assert!(!errors.is_empty(), "{what}");

    let started = Instant::now();
    let log = match Sidecar::start(Settings::new("bad-config", config).workers(1)).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{what}: Envoy started"),
    };
    assert!(started.elapsed() < 20 * BOUNDED, "{what}: took {:?}", started.elapsed());
    assert!(!log.contains("panicked"), "{what}: {log}");
    for error in errors {
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        let message = format!("{}: {}", text("path"), text("message"));
        assert!(log.contains(message.trim_start_matches(": ")), "{what}: `{message}` is not in\n{log}");
        assert!(log.contains(text("help")), "{what}: `{}` is not in\n{log}", text("help"));
    }
}

fn with_rule(rule: Value) -> Value {
    let mut config = orders::config();
    config["rules"].as_array_mut().unwrap().push(rule);
    config
}

/// All in one configuration, as far as they do not hide each other: every fault is named, not only the first.
#[tokio::test]
async fn bad_rules() {
    let mut config = orders::config();
    let rules = config["rules"].as_array_mut().unwrap();
    let path =
        |path: &str| json!({"name": path.chars().take(20).collect::<String>(), "match": {"path": path}, "require": {}});
    rules.push(path("/twice/{order}/{order}"));
    rules.push(path("/regex/[0-9]+{x}"));
    rules.push(path("/regex/(a|b)/.*/{x}y"));
    rules.push(path("/v1/../admin"));
    rules.push(path("/rest/{rest...}/more"));
    rules.push(path(&format!("/long/{}", "x".repeat(64 * 1024))));
    rules.push(path(&"/deep".repeat(100)));
    let when = |name: &str, when: &str| json!({"name": name, "match": {"path": format!("/when/{name}/{{x}}")}, "require": {"when": when}});
    rules.push(when("syntax", "claims.a =="));
    rules.push(when("name", "clams.a == 1"));
    rules.push(when("field", "request.metod == 'GET'"));
    rules.push(when("capture", "captures.order == 'a'"));
    rules.push(when("kinds", "request.method == 7"));
    rules.push(when("no-truth", "request.method"));
    rules.push(when("function", "claims.a.matches('x')"));
    rules.push(when("loop-in-loop", "claims.a.all(a, claims.b.all(b, a == b))"));
    rules.push(when("scopes-in-loop", "claims.a.all(a, a in grant.scopes)"));
    rules.push(when("path-in-loop", "claims.a.all(a, request.path.contains(a))"));
    rules.push(when("captures-in-loop", "claims.a.exists(a, captures.x.contains(a))"));
    rules.push(when("claims-in-loop", "claims.a.exists(a, claims == claims)"));
    rules.push(when("spelled-host", "request.host != 'Admin.Mesh:443'"));
    rules.push(when("spelled-method", "!(request.method in ['delete'])"));
    rules.push(when("whole", "captures == claims.a"));
    rules.push(when("long", &"true && ".repeat(10_000)));
    rules.push(when("deep", &("(".repeat(1_000) + "true" + &")".repeat(1_000))));
    refused_by_both("bad rules", config).await;
}

#[tokio::test]
async fn a_rule_that_is_never_reached() {
    let rule = json!({"name": "late", "match": {"methods": ["GET"], "path": "/internal/x"}, "allow": "anonymous"});
    refused_by_both("unreachable", with_rule(rule)).await;
}

#[tokio::test]
async fn an_unknown_key_deep_inside() {
    let require = json!({"scope": {"al": ["x"]}});
    refused_by_both("unknown key", with_rule(json!({"name": "typo", "match": {"path": "/x"}, "require": require})))
        .await;
}

/// A megabyte of configuration is read, or refused, in bounded time.
#[tokio::test]
async fn a_large_configuration_works() {
    let rules: Vec<_> = (0..3_000)
        .map(|number| json!({"name": format!("r{number}"), "match": {"path": format!("/r{number}/{{x}}")}, "require": {"scope": "orders.read"}}))
        .collect();
    let started = Instant::now();
    let sidecar =
        Sidecar::start(Settings::new("large-config", orders::config_of(json!(rules))).workers(1)).await.unwrap();
    assert!(started.elapsed() < 20 * BOUNDED, "took {:?}", started.elapsed());
    let request = Request::get("/r2999/x").bearer(&mint::token().sign());
    assert_allowed(&sidecar, &sidecar.send(Http::One, &request).await.unwrap());
}
