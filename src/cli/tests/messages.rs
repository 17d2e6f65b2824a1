//! Every message about a bad configuration, as `taskfence check` prints it.

use serde_json::{Value, json};

use crate::input::yaml;
use crate::terminal::console::Capture;
use crate::tests::snapshot;

/// Where a configuration is changed, and into what.
type Change<'c> = (&'c str, Value);

/// Says what `check` prints about the good configuration with each of these changed.
fn messages(name: &str, changes: &[Change<'_>]) {
    let mut page = String::new();
    for (pointer, value) in changes {
        let mut config = good();
        put(&mut config, pointer, value.clone());
        let shown = value.to_string();
        let shown: String =
            if shown.len() > 200 { shown.chars().take(60).chain("...".chars()).collect() } else { shown };
        page.push_str(&format!("### {pointer} = {shown}\n{}\n", said(&config.to_string())));
    }
    snapshot::check(name, &page);
}

/// All that `check` prints about `text`.
fn said(text: &str) -> String {
    let mut capture = Capture::reading(text);
    let exit = capture.run(&["check", "-"]);
    format!("{}{}exit code {}\n", capture.err(), capture.out(), exit.code())
}

fn good() -> Value {
    json!({
        "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                     "algorithms": ["ES256"], "keys": {"inline": {"keys": [key("jit-1")]}}}],
        "rules": [
            {"name": "read", "match": {"methods": ["GET"], "hosts": ["orders.mesh"], "path": "/o/{id}"},
             "require": {"scope": "orders.read", "detail": {"type": "order", "identifier": "{id}"}}},
            {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"},
            {"name": "rest", "match": {"path": "/rest"}, "deny": true}
        ],
        "signals": {"transmitters": [{
            "issuer": "https://idp.example", "audience": "https://orders.mesh/signals", "algorithms": ["ES256"],
            "keys": {"inline": {"keys": [key("idp-1")]}}, "subjects": ["https://jit.example"]
        }]}
    })
}

fn key(kid: &str) -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
           "x": "acixdce9SgUtZGV5ZvCzzOOwCiLpkjDHKDsNaaDRqQU", "y": "Ww_TjOUAefgX4bIBnB-Ip5EJg8jqXPbsy7w6e8yKpP0"})
}

/// Puts `value` where `pointer` says; objects on the way are made, `-` adds to a list.
fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut at = config;
    for step in pointer.split('/').skip(1) {
        if let (Value::Array(list), "-") = (&mut *at, step) {
            list.push(Value::Null);
        }
        at = if let Value::Array(list) = at {
            let place = step.parse().unwrap_or(list.len().saturating_sub(1));
            &mut list[place]
        } else {
            &mut at[step]
        };
    }
    *at = value;
}

#[test]
fn good_is_good() {
    assert_eq!(
        said(&good().to_string()),
        "ok: standard input: role filter, 1 issuer, 3 rules, 1 transmitter\nexit code 0\n"
    );
}

#[test]
fn what_cannot_be_read() {
    let texts = [
        "",
        "{",
        "[]",
        "- 1",
        "just words",
        "{\"issuers\": [}",
        "{\"issuers\": [], \"issuers\": []}",
        "{\"issuers\": []} x",
        "issuers: [1",
        "issuers: []\nissuers: []\n",
        "issuers: !secret x",
        "{}",
    ];
    let page: String = texts.iter().map(|text| format!("### {text:?}\n{}\n", said(text))).collect();
    snapshot::check("check-text", &page);
}

#[test]
fn shapes() {
    messages(
        "check-shapes",
        &[
            ("/isuers", json!([])),
            ("/qqqqqqqq", json!([])),
            ("/issuers/0/max_lifetme", json!("1m")),
            ("/rules/0/match/paht", json!("/")),
            ("/rules/0/require/scopes", json!("x")),
            ("/rules/0/require/scope", json!({"every": ["x"]})),
            ("/rules/0/require/scope", json!(7)),
            ("/rules/0/require/device", json!("complaint")),
            ("/rules/0/require/device", json!({"status": "compliant", "unknown": "maybe"})),
            ("/rules/0/require/device", json!({})),
            ("/rules/0/require/risk", json!({"below": "high"})),
            ("/rules/0/require/detail/actions", json!(["read"])),
            ("/rules/0/require/actor", json!({"delegation": "yes"})),
            ("/rules/0/require/auth_age", json!("soon")),
            ("/rules/0/require/auth_age", json!(300)),
            ("/rules/0/require/auth_age", json!("1500ms")),
            ("/rules/0/require/source", json!("10.0.0.0/8")),
            ("/rules/0/name", json!(null)),
            ("/rules/0/deny", json!("yes")),
            ("/rules/1/allow", json!("anyone")),
            ("/rules/-", json!({"name": "no match"})),
            ("/role", json!("filtr")),
            ("/mode", json!("observe")),
            ("/signals/transmitters/0/key", json!({})),
            ("/issuers", json!({})),
        ],
    );
}

#[test]
fn issuers() {
    messages(
        "check-issuers",
        &[
            ("/issuers", json!([])),
            ("/issuers/-", good()["issuers"][0].clone()),
            ("/issuers/0/issuer", json!("")),
            ("/issuers/0/audiences", json!([])),
            ("/issuers/0/audiences", json!([""])),
            ("/issuers/0/types", json!([])),
            ("/issuers/0/types", json!(["JWT", "secevent+jwt"])),
            ("/issuers/0/types", json!(["application/at+jwt", ""])),
            ("/issuers/0/max_lifetime", json!("0s")),
            ("/issuers/0/max_session", json!("1000d")),
            ("/issuers/0/clock_skew", json!("6m")),
            ("/issuers/0/algorithms", json!([])),
            ("/issuers/0/algorithms", json!(["ES265"])),
            ("/issuers/0/algorithms", json!(["none", "HS256"])),
            ("/realm", json!("a\"b")),
            ("/identity", json!({"subject": "X-User"})),
            ("/identity", json!({"subject": "authorization"})),
            ("/identity", json!({"subject": "x-user", "client": "x-user"})),
        ],
    );
}

#[test]
fn keys() {
    let private = json!({"kty": "EC", "crv": "P-256", "kid": "p", "d": "AA"});
    let mut other = key("twice");
    other["x"] = json!("mYEbO85CQpY9hFw1PgYK966iI-Hoj2vlrWZPO8lYKvc");
    other["y"] = json!("Pepb4sCM7j1ghmqJsbYz5-te1dlf2hmVOkVtFvbqF0M");
    let mut encryption = key("enc");
    encryption["use"] = json!("enc");
    let many: Vec<Value> = (0..=100).map(|_| json!({})).collect();
    messages(
        "check-keys",
        &[
            ("/issuers/0/keys/inline", json!({})),
            ("/issuers/0/keys/inline/keys", json!([])),
            ("/issuers/0/keys/inline/keys", json!([7])),
            ("/issuers/0/keys/inline/keys", json!([{"kty": "EC"}])),
            ("/issuers/0/keys/inline/keys", json!([private])),
            ("/issuers/0/keys/inline/keys", json!([{"kty": "oct", "kid": "h"}])),
            ("/issuers/0/keys/inline/keys", json!([key("same"), key("same")])),
            ("/issuers/0/keys/inline/keys", json!([key("twice"), other])),
            ("/issuers/0/keys/inline/keys", json!([key("good"), encryption])),
            ("/issuers/0/keys/inline/keys", json!(many)),
            ("/signals/transmitters/0/keys/inline/keys/0/alg", json!("RS256")),
        ],
    );
}

#[test]
fn fetched_keys() {
    let with = |name: &str, value: Value| {
        let mut keys = json!({"cluster": "jit", "path": "/jwks.json"});
        put(&mut keys, &format!("/{name}"), value);
        keys
    };
    let changes = [
        ("cluster", json!("jit")),
        ("cluster", json!("")),
        ("cluster", Value::Null),
        ("path", Value::Null),
        ("path", json!("jwks.json")),
        ("path", json!("/a b")),
        ("host", json!("https://jit.example/")),
        ("refresh", json!("0s")),
        ("timeout", json!("61s")),
        ("wait", json!("5m")),
        ("keep", json!("5m")),
        ("refetch", json!("0s")),
        ("inline", json!({"keys": [key("jit-1")]})),
        ("clutser", json!("jit")),
    ];
    let changes: Vec<Change<'_>> =
        changes.into_iter().map(|(name, value)| ("/issuers/0/keys", with(name, value))).collect();
    messages("check-fetched-keys", &changes);
    messages(
        "check-neither-form",
        &[
            ("/issuers/0/keys", json!({})),
            ("/issuers/0/keys/wait", json!("1s")),
            ("/signals/transmitters/0/keys", json!({"cluster": "idp"})),
            ("/signals/transmitters/0/keys", json!({"cluster": "idp", "path": "/jwks.json"})),
        ],
    );
}

#[test]
fn clusters() {
    let mut page = String::new();
    let mut config = good();
    put(&mut config, "/issuers/0/keys", json!({"cluster": "jit", "path": "/jwks.json"}));
    // Without signals there need be no receiver.
    config["signals"].take();
    // What is around the plugin is as we ship it.
    let shipped = yaml::to_json(include_str!("../../../envoy/sidecar.yaml")).unwrap();
    let shipped: Value = serde_json::from_str(&shipped).unwrap();
    let mut plugin = shipped["static_resources"]["listeners"][0].clone();
    let text = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/configuration/value";
    *plugin.pointer_mut(text).unwrap() = json!(config.to_string());
    for (name, envoy) in [
        ("it is there", json!({"static_resources": {"clusters": [{"name": "jit"}], "listeners": [plugin]}})),
        (
            "another is",
            json!({"static_resources": {"clusters": [{"name": "app"}, {"name": "jti"}], "listeners": [plugin]}}),
        ),
        ("there is none", json!({"static_resources": {"listeners": [plugin]}})),
        ("it may come", json!({"static_resources": {"listeners": [plugin]}, "dynamic_resources": {"cds_config": {}}})),
        (
            "a file of resources",
            json!({"resources": [plugin, {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "jit"}]}),
        ),
    ] {
        page.push_str(&format!("### {name}\n{}\n", said(&envoy.to_string())));
    }
    snapshot::check("check-clusters", &page);
}

#[test]
fn matches() {
    messages(
        "check-matches",
        &[
            ("/rules/0/name", json!("")),
            ("/rules/1/name", json!("read")),
            ("/rules/0/match/methods", json!([])),
            ("/rules/0/match/methods", json!(["GET", "post"])),
            ("/rules/0/match/hosts", json!([])),
            ("/rules/0/match/hosts", json!(["orders.mesh:80"])),
            ("/rules/0/match/hosts", json!(["a b"])),
            ("/rules/0/match/metadata", json!({"": "x"})),
            ("/rules/0/match/grpc", json!({"service": "orders.v1.Orders"})),
            ("/rules/2/match", json!({"grpc": {"service": "/orders"}})),
            ("/rules/2/match", json!({"grpc": {"service": ""}})),
        ],
    );
}

#[test]
fn templates() {
    let segments = "/x".repeat(65);
    let captures: String = (0..9).map(|n| format!("/{{c{n}}}")).collect();
    let templates = [
        "rest",
        "/{a}-{b}",
        "/{}",
        "/{1st}",
        "/{a}/{a}",
        "/{a...}/b",
        "/a/../b",
        "/%61",
        "/a?b",
        "/a//b",
        "/a;b",
        "/a b",
        "/%2f",
        "/%zz",
        &segments,
        &captures,
    ];
    let changes: Vec<Change<'_>> = templates.iter().map(|template| ("/rules/2/match/path", json!(template))).collect();
    messages("check-templates", &changes);
}

/// What is a wildcard, a pattern or a path elsewhere, and letters here.
#[test]
fn foreign_patterns() {
    let segments = [
        "*",
        "**",
        ":id",
        ".*",
        ".+",
        "$",
        "^a",
        "(a|b)",
        "[0-9]+",
        "a*",
        "...",
        "<int:id>",
        "{id:[0-9]+}",
        "{*rest}",
        "{path=**}",
        "{$}",
    ];
    let mut changes: Vec<Change<'_>> =
        segments.iter().map(|segment| ("/rules/2/match/path", json!(format!("/internal/{segment}")))).collect();
    changes.extend([
        ("/rules/2/match/path", json!("/:tenant/orders")),
        ("/rules/2/match/path", json!("/%2A/%3Aid/cost%24/a:cancel")),
        ("/rules/0/match/methods", json!(["*"])),
        ("/rules/0/match/methods", json!(["ANY"])),
        ("/rules/0/match/hosts", json!(["*.orders.mesh"])),
        ("/rules/2/match", json!({"grpc": {"service": "orders.v1.Orders", "method": "*"}})),
        ("/rules/0/match/metadata", json!({"tier": "*"})),
        ("/rules/0/match/metadata", json!({"tier": "gold-*"})),
        ("/rules/0/require/scope", json!("*")),
        ("/rules/0/require/scope", json!("orders.*")),
        ("/rules/0/require/detail/type", json!("*")),
        ("/rules/0/require/detail/identifier", json!("orders/*")),
        ("/rules/0/require/detail/identifier", json!("*")),
        ("/rules/0/require/acr", json!(["*"])),
        ("/rules/0/require/actor", json!({"agents": ["spiffe://td/agent/*"]})),
        ("/rules/0/require/actor", json!({"agents": ["*"]})),
        ("/rules/0/require/claims", json!({"role": "*"})),
        ("/rules/0/require/claims", json!({"roles": ["admin-*"]})),
        ("/rules/0/require/claims", json!({"realm_access.roles": "admin"})),
        ("/rules/0/require/claims", json!({"https://example.com/role": "admin"})),
        ("/rules/0/break_glass", json!({"scope": "*", "lifts": ["scope"]})),
        ("/issuers/0/issuer", json!("*")),
        ("/issuers/0/audiences", json!(["*"])),
        ("/issuers/0/audiences", json!(["https://*.mesh"])),
        ("/issuers/0/types", json!(["*"])),
        ("/issuers/0/claims", json!({"session": "session.id", "subjects": {"email": "user.email"}})),
        ("/issuers/0/peer_claim", json!("workload.id")),
        ("/issuers/0/peer_claim", json!("act.sub")),
        ("/issuers/0/dpop", json!({"origins": ["https://*.mesh"]})),
        ("/signals/path", json!("/signals/*")),
        ("/signals/transmitters/0/audience", json!("*")),
        ("/signals/transmitters/0/subjects", json!(["*"])),
        ("/signals/transmitters/0/events", json!(["*"])),
        ("/signals/transmitters/0/critical_members", json!(["*"])),
        ("/signals/transmitters/0/settable_claims", json!(["*"])),
        ("/signals/transmitters/0/settable_claims", json!(["realm_access.roles"])),
    ]);
    messages("check-foreign-patterns", &changes);
}

#[test]
fn rules() {
    messages(
        "check-rules",
        &[
            ("/rules", json!([])),
            ("/rules/2/deny", json!(false)),
            ("/rules/1/deny", json!(true)),
            ("/rules/1/break_glass", json!({"scope": "x", "lifts": ["scope"]})),
            (
                "/rules/-",
                json!({"name": "late", "match": {"methods": ["GET"], "hosts": ["orders.mesh"], "path": "/o/7"}, "deny": true}),
            ),
            ("/rules/-", json!({"name": "crossing", "match": {"path": "/{any}/7"}, "deny": true})),
            ("/rules/-", json!({"name": "open", "match": {}, "allow": "anonymous"})),
            (
                "/rules/-",
                json!({"name": "stricter", "match": {"methods": ["GET", "HEAD"], "hosts": ["orders.mesh"], "path": "/o/{id}"},
                       "require": {"scope": "orders.read orders.all", "detail": {"type": "order", "identifier": "{id}"}}}),
            ),
            (
                "/rules/-",
                json!({"name": "looser", "match": {"methods": ["GET", "HEAD"], "hosts": ["orders.mesh"], "path": "/o/{id}"},
                       "require": {"scope": "orders.read"}}),
            ),
            (
                "/rules/2",
                json!({"name": "purge", "match": {"grpc": {"service": "s", "method": "Purge"}, "methods": ["POST"]}, "deny": true}),
            ),
            ("/role", json!("receiver")),
            ("/mode", json!("shadow")),
        ],
    );
    let mut config = good();
    put(
        &mut config,
        "/rules/2",
        json!({"name": "purge", "match": {"grpc": {"service": "s", "method": "Purge"}}, "require": {"scope": "admin"}}),
    );
    put(&mut config, "/rules/-", json!({"name": "all", "match": {"path": "/{rest...}"}, "require": {}}));
    snapshot::check("check-grpc-in-front", &said(&config.to_string()));
    let mut page = String::new();
    for (rule, pointer, value) in [
        ("/rules/0/require/device", "/signals", json!("compliant")),
        ("/rules/0/require/risk", "/signals", json!({"below": "HIGH"})),
        ("/rules/0/require/state_age", "/signals", json!("30s")),
        ("/role", "/signals", json!("receiver")),
        ("/rules/0/require/device", "/rules/0/match/methods", json!({"status": "compliant", "unknown": "allow"})),
    ] {
        let mut config = good();
        put(&mut config, rule, value.clone());
        put(&mut config, pointer, Value::Null);
        page.push_str(&format!("### {rule} = {value}, {pointer} = null\n{}\n", said(&config.to_string())));
    }
    snapshot::check("check-combinations", &page);
}

#[test]
fn requirements() {
    messages(
        "check-requirements",
        &[
            ("/rules/0/require/state_age", json!("0s")),
            ("/rules/0/require/auth_age", json!("0s")),
            ("/rules/0/require/scope", json!("")),
            ("/rules/0/require/scope", json!({"all": ["a b", "c\"d", "e\u{1b}f"]})),
            ("/rules/0/require/claims", json!({})),
            ("/rules/0/require/risk", json!({"below": "LOW"})),
            ("/rules/0/require/acr", json!([])),
            ("/rules/0/require/acr", json!(["phr phrh"])),
            ("/rules/0/require/actor", json!({"delegation": "none", "agents": ["a"]})),
            ("/rules/0/require/actor", json!({"agents": []})),
            ("/rules/0/require/source", json!([])),
            ("/rules/0/require/source", json!(["10.0.0.1/8"])),
            ("/rules/0/require/source", json!(["10.0.0.1", "localhost"])),
            ("/rules/0/require/detail/identifier", json!("{ident}")),
            ("/rules/0/require/detail/identifier", json!("{id")),
            (
                "/rules/2",
                json!({"name": "r", "match": {"path": "/rest"}, "require": {"detail": {"type": "t", "identifier": "{id}"}}}),
            ),
            ("/rules/0/require/detail/location", json!("orders.mesh")),
            ("/rules/0/break_glass", json!({"scope": "", "lifts": ["scope"]})),
            ("/rules/0/break_glass", json!({"scope": "x", "lifts": []})),
            ("/rules/0/break_glass", json!({"scope": "x", "lifts": ["scopes"]})),
            ("/rules/0/break_glass", json!({"scope": "x", "lifts": ["device"]})),
        ],
    );
}

#[test]
fn conditions() {
    let long = format!("claims.a == '{}'", "x".repeat(4096));
    let many = (0..300).map(|n| format!("claims.a == {n}")).collect::<Vec<_>>().join(" || ");
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let conditions = [
        "",
        "claims.a ==",
        "claims.a == 'x",
        "1 + 1",
        "'yes'",
        "claim.a == 1",
        "request.methd == 'GET'",
        "request.body == ''",
        "captures.ident == '1'",
        "now.hour == 1",
        "request.method.size == 1",
        "request.method == 7",
        "now < '2026'",
        "'a' in 'abc'",
        "1 + 'a' == 2",
        "-request.method == 'x'",
        "now ? true : false",
        "request.method[0] == 'G'",
        "request.method && true",
        "!now",
        "{'a': 1}.a == 1",
        "request.path.startWith('/o')",
        "matches(request.path, 'x')",
        "[1].exists(x, y == 1)",
        &long,
        &many,
        &deep,
    ];
    let changes: Vec<Change<'_>> =
        conditions.iter().map(|condition| ("/rules/0/require/when", json!(condition))).collect();
    messages("check-conditions", &changes);
}

#[test]
fn signals() {
    messages(
        "check-signals",
        &[
            ("/signals/path", json!("signals")),
            ("/signals/path", json!("/a/../signals")),
            ("/signals/transmitters", json!([])),
            ("/signals/transmitters/-", good()["signals"]["transmitters"][0].clone()),
            ("/signals/transmitters/0/audience", json!("")),
            ("/signals/transmitters/0/algorithms", json!(["HS256"])),
            ("/signals/transmitters/0/subjects", json!(["https://other"])),
            ("/signals/transmitters/0/subjects", Value::Null),
        ],
    );
}

/// The places in a configuration where `schema` has an object, as pointers; `definitions` are what it refers to.
fn objects(schema: &Value, definitions: &Value, pointer: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        return objects(&definitions[name], definitions, pointer, found);
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        objects(alternative, definitions, pointer, found);
    }
    let is_object =
        |kind: &Value| kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object")));
    if is_object(&schema["type"]) && !pointer.is_empty() {
        found.push(pointer.to_owned());
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        objects(inner, definitions, &format!("{pointer}/{name}"), found);
    }
    if !schema["items"].is_null() {
        objects(&schema["items"], definitions, &format!("{pointer}/0"), found);
    }
}

#[test]
fn no_object_may_be_a_list() {
    let schema = taskfence_core::config::schema::schema();
    let mut pointers = Vec::new();
    objects(schema.as_value(), &schema.as_value()["$defs"], "", &mut pointers);
    for known in ["/signals/stale", "/rules/0/match/grpc", "/limits/bad_signatures", "/rules/0/require/scope"] {
        assert!(pointers.contains(&known.to_owned()), "{known} is not one of {pointers:?}");
    }
    // What serde would read field by field, and what it would take for an object without any.
    for list in [json!(["30s", "30s", "30s", "30s", "30s"]), json!([])] {
        for pointer in &pointers {
            let mut config = good();
            if pointer.starts_with("/signals/hub") {
                let keys = config["issuers"][0]["keys"].clone();
                config["signals"] = json!({"hub": {"cluster": "hub", "feed": "main", "keys": keys}, "stale": "never"});
            }
            if pointer.starts_with("/protected_resources") {
                config["protected_resources"] = json!([{}]);
            }
            put(&mut config, pointer, list.clone());
            let place: String = pointer.split('/').skip(1).fold(String::new(), |place, step| match step {
                "0" => place + "[0]",
                step if place.is_empty() => step.to_owned(),
                step => place + "." + step,
            });
            let said = said(&config.to_string());
            assert!(said.starts_with(&format!("error: {place}: ")), "{pointer} = {list}: {said}");
        }
    }
}
