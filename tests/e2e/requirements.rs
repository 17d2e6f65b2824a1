//! Each thing that a rule can ask for decides, alone and at once, and says its own reason.

use std::time::Duration;

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{self, Answer, Http, Request},
    mint::{self, Jwt, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted, describe},
    sidecar::Sidecar,
};
use tokio::{
    sync::{Mutex, OnceCell},
    time,
};

/// A rule for each requirement, named by its path.
fn rules() -> Value {
    let rule = |path: &str, require: Value| json!({"name": path, "match": {"path": path}, "require": require});
    let order = json!({
        "type": "order", "action": "read", "identifier": "{order}", "location": "https://orders.mesh/v1",
        "datatype": "order", "privilege": "agent"
    });
    let glass = |path: &str, lifts: Value| {
        let mut rule = rule(path, json!({"device": "compliant", "acr": ["phr"], "scope": "orders.read"}));
        rule["break_glass"] = json!({"scope": "emergency", "lifts": lifts});
        rule
    };
    json!([
        rule("/scope/all", json!({"scope": "a b"})),
        rule("/scope/any", json!({"scope": {"any": ["a", "b"]}})),
        rule("/scope/both", json!({"scope": {"all": ["a"], "any": ["b", "c"]}})),
        rule("/detail/full/{order}", json!({"detail": order})),
        rule("/detail/plain/{order}", json!({"detail": {"type": "order", "action": "read", "identifier": "{order}"}})),
        rule("/detail/open/{order}", json!({"detail": {"type": "order", "action": "read", "identifier": "*"}})),
        rule("/detail/mixed/{kind}/{order}", json!({"detail": {"type": "order", "action": "{kind}", "identifier": "order/{order}"}})),
        rule("/claims", json!({"claims": {"tenant": "acme", "level": 3, "flags": {"a": [1, true]}}})),
        rule("/actor/none", json!({"actor": {"delegation": "none"}})),
        rule("/actor/required", json!({"actor": {"delegation": "required"}})),
        rule("/actor/known", json!({"actor": {"agents": ["agent-a7", "agent-a8"]}})),
        rule("/source/here", json!({"source": ["127.0.0.0/8", "::1/128"]})),
        rule("/source/elsewhere", json!({"source": ["10.0.0.0/8", "2001:db8::/32"]})),
        rule("/acr", json!({"acr": ["phr", "phrh"]})),
        rule("/auth-age", json!({"auth_age": "5m"})),
        rule("/step-up", json!({"scope": "orders.read", "acr": ["phr"], "auth_age": "5m"})),
        rule("/device", json!({"device": "compliant"})),
        rule("/device/lenient", json!({"device": {"status": "compliant", "unknown": "allow"}})),
        rule("/risk", json!({"risk": {"below": "HIGH"}})),
        rule("/risk/low", json!({"risk": {"below": "MEDIUM", "unknown": "allow"}})),
        rule("/when/claims", json!({"when": "claims.tenant == 'acme' && claims.level >= 3 && 'gold' in claims.groups"})),
        rule("/when/has", json!({"when": "!has(claims.tenant) || claims.tenant.startsWith('ac')"})),
        rule("/when/request/{order}", json!({"when":
            "request.method == 'GET' && request.host == 'orders.mesh' && request.source == '127.0.0.1' && captures.order == 'a b'"})),
        rule("/when/grant", json!({"when":
            "grant.subject.endsWith('/a7') && 'orders.read' in grant.scopes && grant.actor == '' && now < grant.expires_at"})),
        rule("/when/context", json!({"when": "context.risk in ['LOW', 'MEDIUM'] && context.device != 'not-compliant'"})),
        rule("/when/folded/{order}", json!({"when": "request.method == 'GET' && request.host == 'orders.mesh' && captures.order == 'x'"})),
        rule("/when/not-there", json!({"when": "!(request.host in ['admin.mesh']) && request.method != 'DELETE'"})),
        rule("/when/heavy/maps", json!({"when": format!("size(claims.many{}) > 0", ".map(x, x)".repeat(20))})),
        rule("/when/heavy/words", json!({"when": format!("'y' in claims.many{}", " || 'y' in claims.many".repeat(90))})),
        rule("/when/heavy/texts", json!({"when": format!("claims.many.exists(x, x{}  == 'y') || true", " + x".repeat(30))})),
        rule("/when/light/{order}", json!({"when": "claims.many.all(x, x != 'y') && 'last' in claims.many && !claims.many.exists(x, x == captures.order)"})),
        rule("/when/loop", json!({"when": "claims.groups.exists(g, g == 'gold') && claims.groups.all(g, size(g) < 10)"})),
        glass("/glass/both", json!(["device", "acr"])),
        glass("/glass/device", json!(["device"])),
        {"name": "gold", "match": {"path": "/meta/{name}", "metadata": {"tier": "gold", "zone": "eu"}}, "allow": "anonymous"},
        {"name": "other", "match": {"path": "/meta/{name}"}, "deny": true},
        {"name": "get", "match": {"grpc": {"service": "orders.v1.Orders", "method": "Get"}}, "require": {"scope": "orders.read"}},
        {"name": "billing", "match": {"grpc": {"service": "billing.v1.Billing"}}, "require": {"scope": "billing"}},
        {"name": "closed", "match": {"path": "/closed/{rest...}"}, "deny": true},
        {"name": "trial", "match": {"path": "/trial"}, "require": {"scope": "trial"}, "mode": "shadow"}
    ])
}

/// The same rules on a second listener that enforces nothing, but for one rule.
fn shadow() -> Value {
    let mut config = orders::config_of(rules());
    config["mode"] = json!("shadow");
    config["rules"].as_array_mut().unwrap().push(
        json!({"name": "strict", "match": {"path": "/strict"}, "require": {"scope": "strict"}, "mode": "enforce"}),
    );
    config
}

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let settings = || {
        let settings = Settings::new("requirements", orders::config_of(rules())).also("shadow", shadow());
        let settings = settings.also("edge", orders::config_of(rules())).patch(|bootstrap| {
            let edge = bootstrap::APP.replace("/0/filter_chains", "/3/filter_chains");
            bootstrap.pointer_mut(&edge).unwrap()["use_remote_address"] = json!(true);
        });
        settings.patch(|bootstrap| {
            let routes = format!("{}/route_config/virtual_hosts/0/routes", bootstrap::APP);
            let routes = bootstrap.pointer_mut(&routes).and_then(Value::as_array_mut).unwrap();
            for (name, metadata) in [
                ("gold", json!({"tier": "gold", "zone": "eu"})),
                ("silver", json!({"tier": "silver", "zone": "eu"})),
                ("half", json!({"tier": "gold"})),
                ("number", json!({"tier": 7, "zone": "eu"})),
                ("list", json!({"tier": ["gold"], "zone": "eu"})),
            ] {
                let mut route = routes.last().unwrap().clone();
                route["name"] = json!(name);
                route["match"] = json!({"path": format!("/meta/{name}")});
                route["metadata"] = json!({"filter_metadata": {"taskfence": metadata}});
                routes.insert(0, route);
            }
            let mut elsewhere = routes.last().unwrap().clone();
            elsewhere["match"] = json!({"path": "/meta/elsewhere"});
            elsewhere["metadata"] = json!({"filter_metadata": {"other": {"tier": "gold", "zone": "eu"}}});
            routes.insert(0, elsewhere);
        })
    };
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

async fn send(http: Http, request: &Request) -> Answer {
    sidecar().await.send(http, request).await.unwrap()
}

/// `200` for a pass, else the reason, over both versions of HTTP.
async fn meets(path: &str, jwt: &Jwt, expected: &str) {
    asks(&Request::get(path).bearer(&jwt.sign()), &format!("{path} {}", jwt.claims_text()), expected).await;
}

async fn asks(request: &Request, what: &str, expected: &str) {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let answer = send(http, request).await;
        let came = answer.reason().unwrap_or_else(|| answer.status.to_string());
        assert_eq!(came, expected, "{what} (left: came, right: expected)");
        match expected {
            "200" => assert_allowed(sidecar, &answer),
            reason => assert_refused(sidecar, &answer, reason),
        }
    }
}

async fn push(signal: &Jwt) {
    assert_signal_accepted(&sidecar().await.push(signal).await.unwrap());
}

/// A new token of a new user, about whom there was no signal.
fn stranger() -> (String, Jwt) {
    let user = unique("user");
    let jwt = mint::token().user(&user);
    (user, jwt)
}

#[tokio::test]
async fn scopes_all_of_and_any_of() {
    let with = |scope: &str| mint::token().claim("scope", scope);
    for (path, scope, expected) in [
        ("/scope/all", "a b", "200"),
        ("/scope/all", "c b  a", "200"),
        ("/scope/all", "a", "scope_insufficient"),
        ("/scope/all", "ab", "scope_insufficient"),
        ("/scope/all", "a,b", "scope_insufficient"),
        ("/scope/all", "A B", "scope_insufficient"),
        ("/scope/any", "b", "200"),
        ("/scope/any", "c a", "200"),
        ("/scope/any", "c", "scope_insufficient"),
        ("/scope/any", "", "scope_insufficient"),
        ("/scope/both", "a c", "200"),
        ("/scope/both", "a", "scope_insufficient"),
        ("/scope/both", "b c", "scope_insufficient"),
    ] {
        meets(path, &with(scope), expected).await;
    }
    meets("/scope/any", &mint::token().without("scope"), "scope_insufficient").await;
    let answer = send(Http::One, &Request::get("/scope/both").bearer(&with("x").sign())).await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(challenge.ends_with(r#", scope="a b""#), "{challenge}");
}

#[tokio::test]
async fn a_detail_in_all_its_members() {
    let good = json!({
        "type": "order", "actions": ["list", "read"], "identifier": "1881", "locations": ["https://orders.mesh/v1"],
        "datatypes": ["order"], "privileges": ["agent", "auditor"]
    });
    let with = |name: &str, value: Value| {
        let mut detail = good.clone();
        match value {
            Value::Null => drop(detail.as_object_mut().unwrap().remove(name)),
            value => detail[name] = value,
        }
        mint::token().claim("authorization_details", json!([detail]))
    };
    meets("/detail/full/1881", &with("type", json!("order")), "200").await;
    for (name, values) in [
        ("type", vec![json!("Order"), json!("invoice")]),
        ("actions", vec![json!(["list"]), json!([]), Value::Null, json!(["readx"])]),
        ("identifier", vec![json!("1882"), json!(""), Value::Null, json!("*")]),
        ("datatypes", vec![json!(["item"]), Value::Null]),
        ("privileges", vec![json!(["admin"]), Value::Null]),
        // Members beyond RFC 9396 section 2.2 restrict in a way that nobody here can weigh.
        ("limit", vec![json!(3), json!("none"), json!({})]),
        ("Actions", vec![json!(["read"])]),
    ] {
        for value in values {
            meets("/detail/full/1881", &with(name, value), "detail_insufficient").await;
        }
    }
    for (name, value) in
        [("type", Value::Null), ("actions", json!("read")), ("locations", json!([7])), ("identifier", json!(1881))]
    {
        meets("/detail/full/1881", &with(name, value), "claim_invalid").await;
    }
    // What the grant restricts and the rule does not ask for.
    meets("/detail/plain/1881", &with("limit", Value::Null), "detail_insufficient").await;
    meets("/detail/open/9", &mint::token(), "200").await;
    let details = json!([{"type": "order", "actions": ["read", "sign"], "identifier": "order/a b"}]);
    let jwt = mint::token().claim("authorization_details", details);
    meets("/detail/mixed/sign/a%20b", &jwt, "200").await;
    meets("/detail/mixed/sign/a+b", &jwt, "detail_insufficient").await;
    meets("/detail/mixed/write/a%20b", &jwt, "detail_insufficient").await;
    meets("/detail/mixed/sign/a", &jwt, "detail_insufficient").await;
}

#[tokio::test]
async fn a_location_is_a_place_and_not_a_text() {
    let at = |location: &str| {
        let detail = json!({
            "type": "order", "actions": ["read"], "identifier": "1", "locations": [location], "datatypes": ["order"],
            "privileges": ["agent"]
        });
        mint::token().claim("authorization_details", json!([detail]))
    };
    for same in [
        "https://orders.mesh/v1",
        "HTTPS://Orders.Mesh/v1",
        "https://orders.mesh:443/v1",
        "https://orders.mesh./v1",
        "https://orders.mesh/%761",
    ] {
        meets("/detail/full/1", &at(same), "200").await;
    }
    for other in [
        "https://orders.mesh",
        "https://orders.mesh/v1/",
        "https://orders.mesh/v1?x",
        "https://orders.mesh/v1#x",
        "https://orders.mesh/V1",
        "http://orders.mesh/v1",
        "https://orders.mesh:8443/v1",
        "https://orders.mesh/a/../v1",
        "https://orders.mesh//v1",
        "https://orders.mesh.evil/v1",
        "https://u@orders.mesh/v1",
        "//orders.mesh/v1",
        "orders.mesh/v1",
        "",
        "*",
    ] {
        meets("/detail/full/1", &at(other), "detail_insufficient").await;
    }
}

#[tokio::test]
async fn two_details_never_mix() {
    let jwt = mint::token().claim(
        "authorization_details",
        json!([
            {"type": "order", "actions": ["read"], "identifier": "1"},
            {"type": "order", "actions": ["write"], "identifier": "2"},
            {"type": "order", "actions": ["read"], "identifier": "3", "limit": 1},
            {"type": "order", "actions": ["write"], "identifier": "3"},
        ]),
    );
    meets("/detail/plain/1", &jwt, "200").await;
    meets("/detail/plain/2", &jwt, "detail_insufficient").await;
    meets("/detail/plain/3", &jwt, "detail_insufficient").await;
}

#[tokio::test]
async fn claims_are_equal_or_not() {
    let good = || mint::token().claim("tenant", "acme").claim("level", 3).claim("flags", json!({"a": [1, true]}));
    meets("/claims", &good(), "200").await;
    for (name, value) in [
        ("tenant", json!("ACME")),
        ("tenant", json!("acme ")),
        ("tenant", json!(["acme"])),
        ("tenant", json!(null)),
        ("level", json!("3")),
        ("level", json!(4)),
        ("level", json!(3.5)),
        ("flags", json!({"a": [1, true], "b": 1})),
        ("flags", json!({"a": [true, 1]})),
        ("flags", json!({})),
    ] {
        meets("/claims", &good().claim(name, value), "claim_mismatch").await;
    }
    meets("/claims", &good().without("tenant"), "claim_mismatch").await;
    meets("/claims", &mint::token(), "claim_mismatch").await;
}

#[tokio::test]
async fn who_acts() {
    let plain = mint::token();
    let by = |act: Value| mint::token().claim("act", act);
    let known = by(json!({"sub": "agent-a7"}));
    let chain = by(json!({"sub": "agent-a8", "act": {"sub": "somebody"}}));
    // Only the outermost actor acts; the rest is history (RFC 8693 section 4.1).
    let history = by(json!({"sub": "somebody", "act": {"sub": "agent-a7"}}));
    for (path, jwt, expected) in [
        ("/actor/none", &plain, "200"),
        ("/actor/none", &known, "actor_refused"),
        ("/actor/required", &plain, "actor_refused"),
        ("/actor/required", &history, "200"),
        ("/actor/known", &known, "200"),
        ("/actor/known", &chain, "200"),
        ("/actor/known", &history, "actor_refused"),
        ("/actor/known", &plain, "actor_refused"),
    ] {
        meets(path, jwt, expected).await;
    }
    for act in [json!("agent-a7"), json!({}), json!({"sub": ""}), json!({"sub": "agent-a7", "act": null}), json!([])] {
        meets("/actor/known", &by(act), "claim_invalid").await;
    }
}

#[tokio::test]
async fn where_it_comes_from() {
    meets("/source/here", &mint::token(), "200").await;
    meets("/source/elsewhere", &mint::token(), "source_refused").await;
}

/// What a client can say about where it comes from.
const CLAIMED_ORIGINS: [(&str, &str); 8] = [
    ("x-forwarded-for", "10.1.2.3"),
    ("x-forwarded-for", "10.1.2.3, 10.1.2.4"),
    ("x-forwarded-for", "2001:db8::1"),
    ("x-real-ip", "10.1.2.3"),
    ("x-envoy-external-address", "10.1.2.3"),
    ("x-client-ip", "10.1.2.3"),
    ("true-client-ip", "10.1.2.3"),
    ("forwarded", "for=10.1.2.3"),
];

/// An Envoy without `use_remote_address` stands behind a proxy that it trusts: it takes the client's address from
/// `x-forwarded-for`, and from no other header. The documentation says so; this notices if Envoy changes.
#[tokio::test]
async fn behind_a_trusted_proxy_its_header_says_where_a_request_comes_from() {
    let token = mint::token().sign();
    for (name, value) in CLAIMED_ORIGINS {
        let elsewhere = Request::get("/source/elsewhere").bearer(&token).header(name, value);
        let expected = if name == "x-forwarded-for" { "200" } else { "source_refused" };
        asks(&elsewhere, &format!("{name}: {value}"), expected).await;
    }
}

/// With `use_remote_address`, as it is recommended, no header misleads, in either direction.
#[tokio::test]
async fn no_header_says_where_a_request_comes_from() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    for (name, value) in CLAIMED_ORIGINS {
        for http in Http::BOTH {
            let from = |path: &str| Request::get(path).bearer(&token).header(name, value);
            let answer = client::send(sidecar.listener("edge"), http, &from("/source/elsewhere")).await.unwrap();
            assert_refused(sidecar, &answer, "source_refused");
            let answer = client::send(sidecar.listener("edge"), http, &from("/source/here")).await.unwrap();
            assert_allowed(sidecar, &answer);
        }
    }
}

/// RFC 9470 section 3, to the letter.
#[tokio::test]
async fn step_up() {
    let realm = r#"Bearer realm="https://orders.mesh", error="insufficient_user_authentication""#;
    let acr = format!(r#"{realm}, error_description="Stronger authentication required", acr_values="phr phrh""#);
    let age = format!(r#"{realm}, error_description="More recent authentication required", max_age="300""#);
    let scoped = format!(
        r#"{realm}, error_description="More recent authentication required", scope="orders.read", max_age="300""#
    );
    let both = format!(
        r#"{realm}, error_description="Stronger and more recent authentication required", scope="orders.read", max_age="300", acr_values="phr""#
    );
    let signed_in = |ago: i64| mint::token().claim("auth_time", mint::now() - ago);
    for (path, jwt, expected, challenge) in [
        ("/acr", mint::token().claim("acr", "phr"), "200", None),
        ("/acr", mint::token().claim("acr", "phrh"), "200", None),
        ("/acr", mint::token(), "assurance_insufficient", Some(&acr)),
        ("/acr", mint::token().claim("acr", "pwd"), "assurance_insufficient", Some(&acr)),
        ("/acr", mint::token().claim("acr", "phr phrh"), "assurance_insufficient", Some(&acr)),
        ("/auth-age", signed_in(200), "200", None),
        ("/auth-age", signed_in(400), "authentication_too_old", Some(&age)),
        ("/auth-age", mint::token().without("auth_time"), "authentication_too_old", Some(&age)),
        ("/step-up", signed_in(400).claim("acr", "phr"), "authentication_too_old", Some(&scoped)),
        // Both at once, so that the user signs in once.
        ("/step-up", signed_in(400).claim("acr", "pwd"), "authentication_too_old", Some(&both)),
        ("/step-up", mint::token().without("auth_time"), "authentication_too_old", Some(&both)),
        ("/step-up", signed_in(20).claim("acr", "phr"), "200", None),
        // A new sign-in would not help a user who has no permission at all.
        ("/step-up", signed_in(400).claim("scope", "x"), "scope_insufficient", None),
    ] {
        meets(path, &jwt, expected).await;
        let answer = send(Http::Two, &Request::get(path).bearer(&jwt.sign())).await;
        if let Some(challenge) = challenge {
            assert_eq!(answer.header("www-authenticate").as_ref(), Some(challenge), "{}", describe(&answer));
        }
    }
}

#[tokio::test]
async fn a_device_flips_with_what_is_said_about_it() {
    let (device, other) = (unique("device"), unique("device"));
    let jwt = mint::token().claim("device_id", device.as_str());
    let nameless = mint::token();
    meets("/device", &jwt, "device_not_compliant").await;
    meets("/device/lenient", &jwt, "200").await;
    push(&mint::device_is(&device, "compliant").dated(mint::now() - 20)).await;
    meets("/device", &jwt, "200").await;
    push(&mint::device_is(&device, "not-compliant").dated(mint::now() - 10)).await;
    meets("/device", &jwt, "device_not_compliant").await;
    meets("/device/lenient", &jwt, "device_not_compliant").await;
    // The older signal comes late and changes nothing; of two with the same time the stricter counts.
    push(&mint::device_is(&device, "compliant").dated(mint::now() - 15)).await;
    meets("/device", &jwt, "device_not_compliant").await;
    let moment = mint::now() - 5;
    push(&mint::device_is(&device, "compliant").dated(moment)).await;
    meets("/device", &jwt, "200").await;
    push(&mint::device_is(&device, "not-compliant").dated(moment)).await;
    push(&mint::device_is(&device, "compliant").dated(moment)).await;
    meets("/device", &jwt, "device_not_compliant").await;
    push(&mint::device_is(&other, "compliant")).await;
    meets("/device", &jwt, "device_not_compliant").await;
    meets("/device", &nameless, "device_not_compliant").await;
    meets("/device/lenient", &nameless, "200").await;
}

#[tokio::test]
async fn the_risk_flips_with_what_is_said_about_it() {
    let (user, jwt) = stranger();
    meets("/risk", &jwt, "risk_too_high").await;
    meets("/risk/low", &jwt, "200").await;
    for (seconds_ago, level, below_high, below_medium) in [
        (40, "LOW", "200", "200"),
        (30, "MEDIUM", "200", "risk_too_high"),
        (20, "HIGH", "risk_too_high", "risk_too_high"),
        (10, "LOW", "200", "200"),
    ] {
        push(&mint::risk_is(&user, level).dated(mint::now() - seconds_ago)).await;
        meets("/risk", &jwt, below_high).await;
        meets("/risk/low", &jwt, below_medium).await;
    }
    // The highest that is said of any principal behind the grant.
    let session = unique("sess");
    let jwt = jwt.session(&session);
    let subject = json!({"format": "complex", "session": {"format": "opaque", "id": session}});
    push(&mint::signal(mint::RISK_LEVEL_CHANGE, subject).event("principal", "SESSION").event("current_level", "HIGH"))
        .await;
    meets("/risk", &jwt, "risk_too_high").await;
}

/// A rule matches a host in any case, with any port and with a final dot, and a method in any case. A condition sees
/// what the rule compared, so no spelling of a host or a method makes it another one.
#[tokio::test]
async fn a_condition_sees_what_rules_compare() {
    let token = mint::token().sign();
    for host in ["orders.mesh", "ORDERS.mesh", "Orders.Mesh:8080", "orders.mesh.", "ORDERS.MESH.:80"] {
        let request = Request::get("/when/folded/x").bearer(&token).host(host);
        asks(&request, host, "200").await;
    }
    for host in ["admin.mesh", "ADMIN.mesh", "Admin.Mesh:8080", "admin.mesh.", "ADMIN.MESH.:80"] {
        let request = Request::get("/when/not-there").bearer(&token).host(host);
        asks(&request, host, "condition_failed").await;
    }
    let elsewhere = Request::get("/when/not-there").bearer(&token);
    asks(&elsewhere, "another host", "200").await;
    for method in ["DELETE", "delete", "Delete"] {
        let request = Request::new(method, "/when/not-there").bearer(&token);
        // Envoy may refuse a method that it does not know; what it lets through is that method.
        for http in Http::BOTH {
            let answer = send(http, &request).await;
            assert_ne!(answer.status, 200, "{method} over {http:?}: {}", describe(&answer));
            if answer.header("x-taskfence-decision").is_some() {
                assert_refused(sidecar().await, &answer, "condition_failed");
            }
        }
    }
}

/// No condition is expensive, even for the largest token: a condition that exceeds its budget refuses, also where the
/// rest of it would hold. Ordinary conditions pass with such a token too.
#[tokio::test]
async fn a_condition_takes_bounded_work() {
    let many: Vec<&str> = std::iter::repeat_n("x", 2_500).chain(["last"]).collect();
    let jwt = mint::token().claim("many", json!(many));
    assert!(jwt.sign().len() < 16 * 1024, "a token that is taken");
    for path in ["/when/heavy/maps", "/when/heavy/words", "/when/heavy/texts"] {
        meets(path, &jwt, "condition_error").await;
    }
    meets("/when/light/a%20b", &jwt, "200").await;
    meets("/when/heavy/maps", &mint::token().claim("many", json!(["x"])), "200").await;
}

#[tokio::test]
async fn conditions() {
    let member = |groups: Value| mint::token().claim("tenant", "acme").claim("level", 3).claim("groups", groups);
    for (path, jwt, expected) in [
        ("/when/claims", member(json!(["gold"])), "200"),
        ("/when/claims", member(json!(["silver"])), "condition_failed"),
        ("/when/claims", member(json!(["gold"])).claim("level", 2), "condition_failed"),
        ("/when/claims", member(json!(["gold"])).claim("level", "3"), "condition_error"),
        ("/when/claims", member(json!(["gold"])).without("groups"), "condition_error"),
        ("/when/claims", mint::token(), "condition_error"),
        ("/when/has", mint::token(), "200"),
        ("/when/has", mint::token().claim("tenant", "acme"), "200"),
        ("/when/has", mint::token().claim("tenant", "other"), "condition_failed"),
        ("/when/has", mint::token().claim("tenant", 7), "condition_error"),
        ("/when/request/a%20b", mint::token(), "200"),
        ("/when/request/a+b", mint::token(), "condition_failed"),
        ("/when/grant", mint::token(), "200"),
        ("/when/grant", mint::token().claim("act", json!({"sub": "x"})), "condition_failed"),
        ("/when/grant", mint::token().claim("scope", "x"), "condition_failed"),
        ("/when/loop", member(json!(["silver", "gold"])), "200"),
        ("/when/loop", member(json!(["gold", "a-very-long-name"])), "condition_failed"),
        ("/when/loop", member(json!([])), "condition_failed"),
        ("/when/loop", member(json!(7)), "condition_error"),
    ] {
        meets(path, &jwt, expected).await;
    }
    let post = Request::new("POST", "/when/request/a%20b").bearer(&mint::token().sign());
    asks(&post, "POST", "condition_failed").await;
    let host = Request::get("/when/request/a%20b").host("other.mesh").bearer(&mint::token().sign());
    asks(&host, "another host", "condition_failed").await;
}

#[tokio::test]
async fn a_condition_sees_what_signals_said() {
    let (user, jwt) = stranger();
    meets("/when/context", &jwt, "condition_failed").await;
    push(&mint::risk_is(&user, "MEDIUM").dated(mint::now() - 20)).await;
    meets("/when/context", &jwt, "200").await;
    push(&mint::risk_is(&user, "HIGH").dated(mint::now() - 10)).await;
    meets("/when/context", &jwt, "condition_failed").await;
}

#[tokio::test]
async fn metadata_of_the_route() {
    for (name, expected) in [
        ("gold", "200"),
        ("silver", "rule_denied"),
        ("half", "rule_denied"),
        ("number", "rule_denied"),
        ("list", "rule_denied"),
        ("elsewhere", "rule_denied"),
        ("nothing", "rule_denied"),
    ] {
        asks(&Request::get(&format!("/meta/{name}")), name, expected).await;
    }
    // A header is no metadata.
    let request = Request::get("/meta/silver").header("tier", "gold").header("x-envoy-metadata", "tier=gold");
    asks(&request, "headers", "rule_denied").await;
}

#[tokio::test]
async fn grpc_services_and_methods() {
    let token = mint::token().claim("scope", "orders.read").sign();
    let call =
        |path: &str, content_type: &str| Request::new("POST", path).header("content-type", content_type).bearer(&token);
    let sidecar = sidecar().await;
    // To HTTP the answer to a call is always 200: what was decided stands in grpc-status.
    for (path, content_type, grpc_status) in [
        ("/orders.v1.Orders/Get", "application/grpc", None),
        ("/orders.v1.Orders/Get", "application/grpc+proto", None),
        ("/orders.v1.Orders/Put", "application/grpc", Some("7")),
        ("/orders.v1.Orders/get", "application/grpc", Some("7")),
        ("/orders.v1.Orders/Get/x", "application/grpc", Some("7")),
        ("/Orders/Get", "application/grpc", Some("7")),
        ("/billing.v1.Billing/Any", "application/grpc", Some("7")),
    ] {
        let answer = sidecar.send(Http::Two, &call(path, content_type)).await.unwrap();
        assert_eq!(
            answer.header("grpc-status").as_deref(),
            grpc_status,
            "{path} {content_type}\n{}",
            describe(&answer)
        );
        assert_eq!(sidecar.upstream().was_reached_by(&answer.probe), grpc_status.is_none(), "{path} {content_type}");
    }
    // What is no gRPC is not the rule's, whatever its path.
    for content_type in
        ["application/json", "application/grpc-web", "application/grpcx", "text/plain; application/grpc"]
    {
        let answer = sidecar.send(Http::Two, &call("/orders.v1.Orders/Get", content_type)).await.unwrap();
        assert_refused(sidecar, &answer, "rule_missing");
    }
}

#[tokio::test]
async fn a_denying_rule_denies_whatever_is_held() {
    let everything = mint::token().claim("scope", "a b orders.read emergency admin *").claim("acr", "phr");
    for path in ["/closed/", "/closed/a", "/closed/a/b?c=d"] {
        meets(path, &everything, "rule_denied").await;
        asks(&Request::get(path), path, "rule_denied").await;
    }
}

async fn counter(name: &str) -> u64 {
    // A counter that nothing has moved yet is there all the same.
    sidecar().await.envoy().stats().await.unwrap().value(&format!("wasmcustom.taskfence.{name}")).unwrap()
}

/// The record about the token with this `jti`.
async fn record(token: &str) -> Option<Value> {
    let log = sidecar().await.envoy().log();
    let mark = format!("\"token\":\"{token}\"");
    let line = log.lines().rfind(|line| line.contains(&mark))?;
    let start = line.find('{').unwrap();
    Some(serde_json::from_str(&line[start..]).unwrap_or_else(|error| panic!("{error} in {line}")))
}

#[tokio::test]
async fn break_glass_lifts_by_name_and_every_use_is_seen() {
    let before = counter("break_glass").await;
    let plain = mint::token();
    let holder = mint::token().claim("scope", "orders.read emergency");
    meets("/glass/both", &plain, "device_not_compliant").await;
    meets("/glass/both", &mint::token().claim("scope", "orders.read Emergency emergency2"), "device_not_compliant")
        .await;
    meets("/glass/device", &holder, "assurance_insufficient").await;
    // Lifts what it names, and not the scope.
    meets("/glass/both", &mint::token().claim("scope", "emergency"), "scope_insufficient").await;
    assert_eq!(counter("break_glass").await, before, "nobody got through");
    assert_eq!(record(&holder.id()).await.unwrap()["verdict"], "denied");

    meets("/glass/both", &holder, "200").await;
    assert_eq!(counter("break_glass").await, before + 2, "once over each version of HTTP");
    let record_of_use = record(&holder.id()).await.unwrap();
    assert_eq!(
        (&record_of_use["verdict"], &record_of_use["break_glass"], &record_of_use["rule"], &record_of_use["subject"]),
        (&json!("allowed"), &json!(true), &json!("/glass/both"), &json!(orders::USER)),
        "{record_of_use}"
    );

    // A request that meets all requirements is not counted as break-glass.
    let device = unique("device");
    push(&mint::device_is(&device, "compliant")).await;
    let well = holder.claim("device_id", device.as_str()).claim("acr", "phr").claim("jti", unique("tok"));
    meets("/glass/both", &well, "200").await;
    assert_eq!(counter("break_glass").await, before + 2);
    assert_eq!(record(&well.id()).await, None);
    // Break-glass does not lift a revocation.
    let task = unique("task");
    push(&mint::complete_task(&task)).await;
    meets("/glass/both", &mint::token().claim("scope", "orders.read emergency").task(&task), "task_completed").await;
}

/// What shadow mode is tried with, one at a time: each counts what it moves.
static SHADOW: Mutex<()> = Mutex::const_new(());

async fn shadowed(request: &Request) -> Vec<Answer> {
    let sidecar = sidecar().await;
    let mut answers = Vec::new();
    for http in Http::BOTH {
        answers.push(client::send(sidecar.listener("shadow"), http, request).await.unwrap());
    }
    answers
}

#[tokio::test]
async fn shadow_refuses_nothing_and_says_what_it_would_have_done() {
    let _one_at_a_time = SHADOW.lock().await;
    let sidecar = sidecar().await;
    let task = unique("task");
    let ended = mint::token().task(&task);
    push(&mint::complete_task(&task)).await;
    let token = mint::token();
    let table = [
        (Request::get("/scope/all"), "token_missing"),
        (Request::get("/scope/all").bearer("a.b.c"), "token_opaque"),
        (Request::get("/scope/all").bearer(&mint::token().expired().sign()), "token_expired"),
        (Request::get("/scope/all").bearer(&token.sign()), "scope_insufficient"),
        (Request::get("/detail/plain/9").bearer(&token.sign()), "detail_insufficient"),
        (Request::get("/acr").bearer(&token.sign()), "assurance_insufficient"),
        (Request::get("/when/claims").bearer(&token.sign()), "condition_error"),
        (Request::get("/scope/all").bearer(&ended.sign()), "task_completed"),
        (Request::get("/closed/x"), "rule_denied"),
        (Request::get("/nowhere"), "rule_missing"),
    ];
    for (request, reason) in table {
        let before = counter(&format!("shadow_denied.{reason}")).await;
        for answer in shadowed(&request).await {
            assert_allowed(sidecar, &answer);
        }
        assert_eq!(counter(&format!("shadow_denied.{reason}")).await, before + 2, "{reason}");
    }
    let said = record(&token.id()).await.unwrap();
    assert_eq!(
        (&said["verdict"], &said["reason"], &said["rule"]),
        (&json!("would_deny"), &json!("condition_error"), &json!("/when/claims")),
        "{said}"
    );
    assert_eq!(record(&ended.id()).await.unwrap()["reason"], "task_completed");
    // One rule may be enforced while the rest is in shadow mode, and an unreadable path may be meant for that rule.
    for (request, reason) in [
        (Request::get("/strict").bearer(&token.sign()), "scope_insufficient"),
        (Request::get("/strict;a"), "path_refused"),
        (Request::get("/strict").host("a..b"), "host_refused"),
    ] {
        for answer in shadowed(&request).await {
            assert_refused(sidecar, &answer, reason);
        }
    }
}

#[tokio::test]
async fn one_rule_in_shadow() {
    let _one_at_a_time = SHADOW.lock().await;
    let token = mint::token();
    let before = counter("shadow_denied.scope_insufficient").await;
    meets("/trial", &token, "200").await;
    assert_eq!(counter("shadow_denied.scope_insufficient").await, before + 2);
    assert_eq!(record(&token.id()).await.unwrap()["verdict"], "would_deny");
    asks(&Request::get("/trial"), "no token", "200").await;
    meets("/trial", &mint::token().claim("scope", "trial"), "200").await;
    assert_eq!(counter("shadow_denied.scope_insufficient").await, before + 2);
    meets("/scope/all", &token, "scope_insufficient").await;
}

/// Without a signal from the transmitter the filter does not know what was revoked.
#[tokio::test]
async fn state_that_is_too_old_closes_until_a_signal_comes() {
    let rules = json!([
        {"name": "fresh", "match": {"path": "/fresh"}, "require": {"state_age": "2s"}},
        {"name": "any", "match": {"path": "/any"}, "require": {}}
    ]);
    let sidecar = Sidecar::start(Settings::new("requirements-state", orders::config_of(rules))).await.unwrap();
    let token = mint::token().sign();
    let fresh = Request::get("/fresh").bearer(&token);
    let unrelated = || mint::signal("urn:example:other", json!({"format": "opaque", "id": "stream"}));
    for _ in 0..2 {
        for http in Http::BOTH {
            let answer = sidecar.send(http, &fresh).await.unwrap();
            assert_refused(&sidecar, &answer, "state_stale");
            assert_eq!(answer.header("retry-after").as_deref(), Some("1"), "{}", describe(&answer));
            assert_allowed(&sidecar, &sidecar.send(http, &Request::get("/any").bearer(&token)).await.unwrap());
        }
        // A forged signal does not make the state fresh, and neither does an old one that is pushed again.
        let forged = unrelated().signed_by(mint::FORGER.signer(mint::Alg::Es256)).header("kid", "idp-ES256");
        assert_eq!(sidecar.push(&forged).await.unwrap().status, 400);
        assert_signal_accepted(&sidecar.push(&unrelated().claim("iat", mint::now() - 60)).await.unwrap());
        assert_refused(&sidecar, &sidecar.send(Http::One, &fresh).await.unwrap(), "state_stale");
        assert_signal_accepted(&sidecar.push(&unrelated()).await.unwrap());
        for http in [Http::One, Http::Two, Http::One, Http::Two] {
            assert_allowed(&sidecar, &sidecar.send(http, &fresh).await.unwrap());
        }
        time::sleep(Duration::from_millis(3_200)).await;
    }
}
