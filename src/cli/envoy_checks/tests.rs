use serde_json::{Value, json};

use crate::Exit;
use crate::input::yaml;
use crate::terminal::console::Capture;
use crate::tests::snapshot;

/// The connection managers of the shipped file.
const APP: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const SIGNALS: &str = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config";
const PLUGIN: &str = "/http_filters/0/typed_config/config";
const HOSTS: &str = "/route_config/virtual_hosts";

/// What is changed in the shipped file, and into what; `null` takes it out.
type Changes = Vec<(String, Value)>;

/// A way to break the shipped file: what it is called, what is changed, and what is found: how bad, and part of the message.
type Row = (&'static str, Changes, &'static [(&'static str, &'static str)]);

fn shipped() -> Value {
    serde_json::from_str(&yaml::to_json(include_str!("../../../envoy/sidecar.yaml")).unwrap()).unwrap()
}

fn with(changes: &Changes) -> Value {
    let mut envoy = shipped();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match envoy.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
            Value::Array(list) if name == "-" => list.push(value.clone()),
            Value::Array(list) => match name.strip_prefix('+') {
                Some(at) => list.insert(at.parse().unwrap(), value.clone()),
                None => list[name.parse::<usize>().unwrap()] = value.clone(),
            },
            object => object[name] = value.clone(),
        }
    }
    envoy
}

fn check(envoy: &Value) -> (Exit, Capture) {
    let mut capture = Capture::reading(envoy.to_string());
    let exit = capture.run(&["check", "-"]);
    (exit, capture)
}

/// The filter's text with its rules changed, if there are some, and hosts read in this way.
fn text(rules: Option<Value>, hosts: &str) -> Value {
    let envoy = shipped();
    let text = envoy.pointer(&format!("{APP}{PLUGIN}/configuration/value")).unwrap();
    let mut config: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    if let Some(rules) = rules {
        config["rules"] = rules;
    }
    config["hosts"] = json!(hosts);
    json!(config.to_string())
}

/// The same rules in both texts, hosts folded.
fn both(rules: Value) -> Changes {
    texts(Some(rules), "folded")
}

fn texts(rules: Option<Value>, hosts: &str) -> Changes {
    let filter = text(rules, hosts);
    let receiver = filter.as_str().unwrap().replace("\"filter\"", "\"receiver\"");
    vec![
        (format!("{APP}{PLUGIN}/configuration/value"), filter),
        (format!("{SIGNALS}{PLUGIN}/configuration/value"), json!(receiver)),
    ]
}

fn by_host() -> Changes {
    both(rules_by_host())
}

fn rules_by_host() -> Value {
    json!([{"name": "public", "match": {"hosts": ["public.mesh"], "path": "/v1/read"}, "allow": "anonymous"}])
}

fn virtual_hosts(domains: &[(&str, &[&str])]) -> Value {
    let host = |(name, domains): &(&str, &[&str])| {
        json!({"name": name, "domains": domains,
               "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}]})
    };
    domains.iter().map(host).collect()
}

fn app(path: &str, value: Value) -> (String, Value) {
    (format!("{APP}{path}"), value)
}

fn plugin(path: &str, value: Value) -> (String, Value) {
    app(&format!("{PLUGIN}{path}"), value)
}

fn receiver(path: &str, value: Value) -> (String, Value) {
    (format!("{SIGNALS}{PLUGIN}{path}"), value)
}

fn route(matches: Value) -> Value {
    json!({"match": matches, "route": {"cluster": "app", "timeout": "0s"}})
}

fn filter(name: &str, kind: &str) -> Value {
    json!({"name": name, "typed_config": {"@type": format!("type.googleapis.com/{kind}")}})
}

fn without(changes: Changes, taken: &[&str]) -> Changes {
    changes.into_iter().chain(taken.iter().map(|path| app(path, Value::Null))).collect()
}

fn state_rows() -> Vec<Row> {
    let two = shipped().pointer("/static_resources/listeners/1").unwrap().clone();
    let alone = shipped().pointer("/static_resources/listeners/0").unwrap().clone();
    let copied = {
        let mut copied = two.clone();
        copied["name"] = json!("signals-2");
        copied
    };
    vec![
        (
            "different vm_ids",
            vec![receiver("/vm_config/vm_id", json!("taskfence.v2"))],
            &[
                ("error", "the receiver has the vm_id `taskfence.v2`"),
                ("error", "no filter has the vm_id `taskfence.v2`"),
            ],
        ),
        (
            "no receiver",
            vec![("/static_resources/listeners".to_owned(), json!([alone]))],
            &[("error", "this file has no receiver")],
        ),
        (
            "no receiver in this file, and more listeners elsewhere",
            vec![
                ("/static_resources/listeners".to_owned(), json!([alone])),
                ("/dynamic_resources".to_owned(), json!({"lds_config": {"ads": {}}})),
            ],
            &[("warning", "this file has no receiver")],
        ),
        (
            "no filter",
            vec![("/static_resources/listeners".to_owned(), json!([two]))],
            &[("error", "no filter has the vm_id `taskfence.v1`")],
        ),
        (
            "two receivers",
            vec![("/static_resources/listeners/-".to_owned(), copied)],
            &[("warning", "is a second receiver of one vm_id")],
        ),
        (
            "no vm_id",
            vec![plugin("/vm_config/vm_id", Value::Null), receiver("/vm_config/vm_id", json!(""))],
            &[("warning", "has no `vm_id` beside it"), ("warning", "has no `vm_id` beside it")],
        ),
        (
            "other rules in the receiver",
            vec![both(json!([{"name": "a", "match": {"path": "/a"}, "deny": true}])).remove(1)],
            &[("warning", "differs in more than `role` from")],
        ),
    ]
}

/// The texts of a filter that follows a hub, and of a receiver beside it whose `signals` have `more`.
fn following(also_receiver: bool, more: &Value) -> Changes {
    let parse = |text: Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    let mut filter = parse(text(None, "exact"));
    let mut receiver = filter.clone();
    receiver["role"] = json!("receiver");
    receiver["signals"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let hub = json!({"cluster": "app", "feed": "main", "keys": filter["issuers"][0]["keys"]});
    let signals = filter["signals"].as_object_mut().unwrap();
    signals.insert("hub".to_owned(), hub);
    signals.entry("stale").or_insert(json!({"after": "30s"}));
    receiver["signals"]["stale"] = signals["stale"].clone();
    if also_receiver {
        signals.insert("also_receiver".to_owned(), json!(true));
    } else {
        signals.remove("transmitters");
        signals.remove("effects");
    }
    vec![
        (format!("{APP}{PLUGIN}/configuration/value"), json!(filter.to_string())),
        (format!("{SIGNALS}{PLUGIN}/configuration/value"), json!(receiver.to_string())),
    ]
}

fn hub_rows() -> Vec<Row> {
    const FOLLOWS: (&str, &str) = ("note", "followed through the cluster `app` as app/v1/feeds/main");
    let only = following(false, &json!({})).remove(0);
    let alone = |filter: &(String, Value)| {
        let listener = with(&vec![filter.clone()]).pointer("/static_resources/listeners/0").unwrap().clone();
        vec![("/static_resources/listeners".to_owned(), json!([listener]))]
    };
    let elsewhere =
        (only.0.clone(), json!(only.1.as_str().unwrap().replace(r#""cluster":"app""#, r#""cluster":"apq""#)));
    let calls = [
        "proxy_on_vm_start",
        "proxy_on_configure",
        "proxy_on_context_create",
        "proxy_on_request_headers",
        "proxy_on_request_body",
        "proxy_on_request_trailers",
        "proxy_on_delete",
        "proxy_on_tick",
        "proxy_on_queue_ready",
        "proxy_get_buffer_bytes",
        "proxy_get_header_map_pairs",
        "proxy_get_shared_data",
        "proxy_set_shared_data",
        "proxy_send_local_response",
        "proxy_get_current_time_nanoseconds",
        "proxy_set_tick_period_milliseconds",
        "proxy_set_property",
        "proxy_get_property",
    ];
    let calls: serde_json::Map<String, Value> = calls.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
    let calls = json!({"allowed_capabilities": calls});
    let restricted = with(&vec![only.clone(), plugin("/capability_restriction_config", calls)]);
    let restricted = restricted.pointer("/static_resources/listeners/0").unwrap().clone();
    vec![
        ("a filter of a hub needs no receiver", alone(&only), &[FOLLOWS]),
        (
            "a cluster of the hub that is not there",
            alone(&elsewhere),
            &[("error", "`apq` is not one of the clusters in this file, so no signal may ever come")],
        ),
        (
            "calls that the filter of a hub needs",
            vec![("/static_resources/listeners".to_owned(), json!([restricted]))],
            &[FOLLOWS, ("error", "does not allow `proxy_http_call` and `proxy_on_http_call_response`")],
        ),
        ("a receiver beside the hub", following(true, &json!({"feed": "main"})), &[FOLLOWS]),
        (
            "a receiver of another feed beside the hub",
            following(true, &json!({"feed": "other"})),
            &[
                FOLLOWS,
                ("warning", "differs in more than `role` from"),
                ("error", "stores names under another feed than"),
            ],
        ),
        (
            "a receiver without a feed beside the hub",
            following(true, &json!({})),
            &[
                FOLLOWS,
                ("warning", "differs in more than `role` from"),
                ("error", "stores names under another feed than"),
            ],
        ),
    ]
}

fn plugin_rows() -> Vec<Row> {
    let some = json!({"allowed_capabilities": {"proxy_log": {}, "proxy_on_request_body": {}}});
    let mut spelled = shipped().pointer(&format!("{APP}{PLUGIN}")).unwrap().clone();
    spelled["failurePolicy"] = json!("FAIL_OPEN");
    spelled["failure_policy"].take();
    let camel = json!({"name": "taskfence", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": spelled}});
    let struct_of = |kind: &str, value: Value| json!({"@type": format!("type.googleapis.com/google.protobuf.{kind}"), "value": value});
    let text = shipped().pointer(&format!("{APP}{PLUGIN}/configuration/value")).unwrap().clone();
    let object: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    vec![
        (
            "FAIL_OPEN",
            vec![plugin("/failure_policy", json!("FAIL_OPEN"))],
            &[("error", "lets every request pass unjudged")],
        ),
        (
            "FAIL_OPEN by its number",
            vec![plugin("/failure_policy", json!(3))],
            &[("error", "lets every request pass unjudged")],
        ),
        (
            "FAIL_OPEN in the other spelling of fields",
            vec![app("/http_filters/0", camel)],
            &[("error", "lets every request pass unjudged")],
        ),
        ("fail_open of old", vec![plugin("/fail_open", json!(true))], &[("error", "lets every request pass unjudged")]),
        ("no failure_policy", vec![plugin("/failure_policy", Value::Null)], &[("warning", "has no `failure_policy`")]),
        (
            "FAIL_CLOSED",
            vec![receiver("/failure_policy", json!("FAIL_CLOSED"))],
            &[("warning", "answers 503 for good")],
        ),
        (
            "the flag on the filter",
            vec![plugin("/allow_on_headers_stop_iteration", json!(true))],
            &[("warning", "is for the receiver")],
        ),
        (
            "no flag on the receiver",
            vec![receiver("/allow_on_headers_stop_iteration", Value::Null)],
            &[("error", "never gets a body")],
        ),
        (
            "capabilities without the callback that judges",
            vec![plugin("/capability_restriction_config", some)],
            &[("error", "so every request passes unjudged"), ("error", "which the plugin needs")],
        ),
        (
            "an empty restriction of capabilities",
            vec![plugin("/capability_restriction_config", json!({"allowed_capabilities": {}}))],
            &[],
        ),
        (
            "text that is YAML",
            vec![plugin("/configuration/value", json!("role: filter\nissuers: []\n"))],
            &[("error", "is YAML")],
        ),
        ("text that is nothing", vec![plugin("/configuration/value", json!("issuers, rules"))], &[("error", "JSON")]),
        ("no text", vec![plugin("/configuration", Value::Null)], &[("error", "JSON")]),
        (
            "a message of another type",
            vec![plugin("/configuration", struct_of("Duration", json!("1s")))],
            &[("error", "is a `google.protobuf.Duration`")],
        ),
        ("a Struct", vec![plugin("/configuration", struct_of("Struct", object))], &[]),
    ]
}

fn chain_rows() -> Vec<Row> {
    let router = filter("router", "envoy.extensions.filters.http.router.v3.Router");
    let ours = shipped().pointer(&format!("{APP}/http_filters/0")).unwrap().clone();
    let wrapped = json!({"name": "wrapped", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": ours}});
    let off =
        json!({"taskfence": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}});
    let on = json!({"taskfence": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}});
    vec![
        ("behind the router", vec![app("/http_filters/+0", router)], &[("error", "stands behind `router`")]),
        (
            "a filter behind that rewrites",
            vec![app("/http_filters/+1", filter("lua", "envoy.extensions.filters.http.lua.v3.Lua"))],
            &[("warning", "`lua` stands behind `taskfence`")],
        ),
        (
            "a filter in front that rewrites",
            vec![app("/http_filters/+0", filter("lua", "envoy.extensions.filters.http.lua.v3.Lua"))],
            &[],
        ),
        (
            "wrapped in a matcher",
            vec![app("/http_filters/0", wrapped)],
            &[("warning", "is not itself one of the `http_filters`")],
        ),
        (
            "switched off as a whole",
            vec![app("/http_filters/0/disabled", json!(true))],
            &[("error", "switches the filter off")],
        ),
        ("optional", vec![app("/http_filters/0/is_optional", json!(true))], &[("warning", "starts without it")]),
        (
            "switched off for a route",
            vec![app(&format!("{HOSTS}/0/routes/0/typed_per_filter_config"), off.clone())],
            &[("error", "switches `taskfence` off here")],
        ),
        (
            "switched off for a virtual host",
            vec![app(&format!("{HOSTS}/0/typed_per_filter_config"), off.clone())],
            &[("error", "switches `taskfence` off here")],
        ),
        (
            "switched off for all routes and a weighted cluster",
            vec![
                app("/route_config/typed_per_filter_config", off.clone()),
                app(
                    &format!("{HOSTS}/0/routes/0/route"),
                    json!({"timeout": "0s", "weighted_clusters": {"clusters": [{"name": "app", "weight": 1, "typed_per_filter_config": off}]}}),
                ),
            ],
            &[("error", "switches `taskfence` off here"), ("error", "switches `taskfence` off here")],
        ),
        ("configured for a route", vec![app(&format!("{HOSTS}/0/typed_per_filter_config"), on)], &[]),
        (
            "another filter comes by discovery",
            vec![app("/http_filters/+0", json!({"name": "other", "config_discovery": {"config_source": {"ads": {}}}}))],
            &[("note", "`other` comes by discovery")],
        ),
        (
            "routes come from elsewhere",
            vec![app("/route_config", Value::Null), app("/rds", json!({"route_config_name": "r"}))],
            &[("note", "routes come from here")],
        ),
    ]
}

fn host_rows() -> Vec<Row> {
    let strip: &[&str] = &["/strip_any_host_port", "/strip_trailing_host_dot"];
    let split = virtual_hosts(&[("public", &["public.mesh"]), ("inner", &["*"])]);
    let split = |changes: Changes| changes.into_iter().chain([app(HOSTS, split.clone())]).collect::<Changes>();
    let hosts = |hosts: &[(&str, &[&str])]| {
        by_host().into_iter().chain([app(HOSTS, virtual_hosts(hosts))]).collect::<Changes>()
    };
    vec![
        (
            "another virtual host for a port",
            without(split(by_host()), &["/strip_any_host_port"]),
            &[("error", "the virtual host `inner`")],
        ),
        (
            "another virtual host for a final dot",
            without(split(by_host()), &["/strip_trailing_host_dot"]),
            &[("error", "the virtual host `inner`")],
        ),
        ("both", without(split(by_host()), strip), &[("error", "the virtual host `inner`")]),
        (
            "only the port of the listener is cut off",
            without(split(by_host()), &["/strip_any_host_port"])
                .into_iter()
                .chain([app("/strip_matching_host_port", json!(true))])
                .collect(),
            &[("error", "the virtual host `inner`")],
        ),
        (
            "the port is ignored for the choice alone",
            without(split(by_host()), &["/strip_any_host_port"])
                .into_iter()
                .chain([app("/route_config/ignore_port_in_host_matching", json!(true))])
                .collect(),
            &[("error", "rules take `public.mesh..:1`")],
        ),
        (
            "a virtual host for one port",
            without(
                hosts(&[
                    ("public", &["public.mesh", "public.mesh.", "public.mesh:*"]),
                    ("inner", &["public.mesh:8080"]),
                ]),
                strip,
            ),
            &[("error", "rules take `public.mesh:8080` for `public.mesh`")],
        ),
        (
            "wildcards",
            without(hosts(&[("public", &["*.mesh"]), ("inner", &["public.*"])]), strip),
            &[("error", "the virtual host `inner`")],
        ),
        (
            "a domain that nothing matches",
            texts(Some(rules_by_host()), "exact")
                .into_iter()
                .chain([app(HOSTS, virtual_hosts(&[("public", &["*"]), ("inner", &["public.mesh:8080"])]))])
                .collect(),
            &[("warning", "`public.mesh:8080` matches no host")],
        ),
        (
            "no rule tells hosts apart, virtual hosts do",
            without(split(texts(None, "folded")), strip),
            &[("warning", "virtual hosts tell hosts apart")],
        ),
        (
            "rules do, and there is one virtual host",
            without(by_host(), strip),
            &[("warning", "rules tell hosts apart")],
        ),
        ("nobody tells hosts apart", without(texts(None, "folded"), strip), &[]),
        (
            "hosts are folded behind an Envoy that cuts off one port and one dot",
            split(by_host()),
            &[("error", "rules take `public.mesh:1:1`")],
        ),
        ("hosts are exact there", split(texts(Some(rules_by_host()), "exact")), &[]),
        (
            "hosts are exact, and nobody cuts anything off",
            without(split(texts(Some(rules_by_host()), "exact")), strip),
            &[("warning", "such requests are refused")],
        ),
        (
            "a condition does",
            without(
                both(json!([{"name": "a", "match": {"path": "/a"}, "require": {"when": "request.host == 'a'"}}])),
                strip,
            ),
            &[("warning", "rules tell hosts apart")],
        ),
        (
            "rules do, and the virtual hosts are elsewhere",
            without(by_host(), &["/strip_any_host_port", "/route_config"])
                .into_iter()
                .chain([app("/rds", json!({}))])
                .collect(),
            &[("warning", "rules tell hosts apart"), ("note", "routes come from here")],
        ),
        (
            "another header chooses",
            by_host().into_iter().chain([app("/route_config/vhost_header", json!("x-host"))]).collect(),
            &[("error", "Envoy chooses a virtual host by this header")],
        ),
    ]
}

fn request_rows() -> Vec<Row> {
    let two = json!([route(json!({"path": "/public"})), route(json!({"prefix": "/"}))]);
    let routes = format!("{HOSTS}/0/routes");
    let source = json!([{"name": "a", "match": {"path": "/a"}, "require": {"source": ["10.0.0.0/8"]}}]);
    vec![
        ("no path normalization", vec![app("/normalize_path", Value::Null)], &[("warning", "has no `normalize_path`")]),
        (
            "no path normalization, and routes by path",
            vec![app("/normalize_path", json!(false)), app(&routes, two)],
            &[("error", "an escaped spelling of `/public`")],
        ),
        (
            "a route whose path has two spellings",
            vec![app(&routes, json!([route(json!({"prefix": "/v1/orders:purge"})), route(json!({"prefix": "/"}))]))],
            &[("warning", "`:` can be spelled otherwise")],
        ),
        (
            "no use_remote_address",
            vec![app("/use_remote_address", Value::Null)],
            &[("warning", "bad signatures are counted under")],
        ),
        (
            "no use_remote_address, and rules with source",
            without(both(source.clone()), &["/use_remote_address"]),
            &[("error", "rules with `source` compare")],
        ),
        (
            "somebody else finds the address",
            without(both(source), &["/use_remote_address"])
                .into_iter()
                .chain([app("/original_ip_detection_extensions", json!([{}]))])
                .collect(),
            &[],
        ),
        (
            "the default time-out",
            vec![app(&format!("{routes}/0/route/timeout"), Value::Null)],
            &[("warning", "after 15 seconds")],
        ),
        ("a time-out", vec![app(&format!("{routes}/0/route/timeout"), json!("30s"))], &[("warning", "after 30s")]),
        ("no time-out in another spelling", vec![app(&format!("{routes}/0/route/timeout"), json!("0.000s"))], &[]),
    ]
}

fn all_rows() -> Vec<Row> {
    [state_rows(), hub_rows(), plugin_rows(), chain_rows(), host_rows(), request_rows()].concat()
}

#[test]
fn the_shipped_file_has_no_finding() {
    let mut capture = Capture::reading(include_str!("../../../envoy/sidecar.yaml"));
    assert_eq!(capture.run(&["check", "-"]), Exit::Done);
    assert_eq!(capture.err(), "");
    // The same as JSON.
    let (exit, capture) = check(&shipped());
    assert_eq!((exit, capture.err()), (Exit::Done, ""));
}

#[test]
fn each_fault_is_found_and_nothing_else() {
    for (name, changes, expected) in all_rows() {
        let (exit, capture) = check(&with(&changes));
        let said: Vec<&str> = capture
            .err()
            .lines()
            .filter(|line| ["error: ", "warning: ", "note: "].iter().any(|word| line.starts_with(word)))
            .collect();
        let found =
            |(severity, part): &(&str, &str)| said.iter().any(|line| line.starts_with(severity) && line.contains(part));
        assert!(expected.iter().all(found), "{name}: expected {expected:#?} in\n{}", capture.err());
        assert_eq!(said.len(), expected.len(), "{name}: expected {expected:#?} in\n{}", capture.err());
        let bad = expected.iter().any(|(severity, _)| *severity == "error");
        assert_eq!(exit, if bad { Exit::BadConfig } else { Exit::Done }, "{name}");
    }
}

#[test]
fn programs_get_all_findings() {
    let changes = vec![plugin("/failure_policy", json!("FAIL_OPEN")), app("/normalize_path", Value::Null)];
    let mut capture = Capture::reading(with(&changes).to_string());
    assert_eq!(capture.run(&["check", "-", "--output", "json"]), Exit::BadConfig);
    let report: Value = serde_json::from_str(capture.out()).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["configurations"][0]["report"]["ok"], true);
    let place = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    assert_eq!(report["errors"][0]["path"], format!("{place}.http_filters[0].typed_config.config.failure_policy"));
    assert_eq!(report["warnings"][0]["path"], place);
    assert_eq!(report["notes"], json!([]));
}

/// Every message, for people to read: they name the place and what to do.
#[test]
fn messages() {
    let page: String = all_rows()
        .into_iter()
        .filter(|(_, _, expected)| !expected.is_empty())
        .map(|(name, changes, _)| format!("### {name}\n{}\n", check(&with(&changes)).1.err()))
        .collect();
    snapshot::check("check-envoy", &page);
}
