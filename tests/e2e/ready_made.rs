//! The configurations that we hand out work as they are, once the marked places are adapted.

use std::fs;

use serde_json::Value;
use taskfence_tests::{
    artefacts,
    client::{self, Http, Request},
    envoy::Envoy,
    mint::{self, Alg, Signer},
    orders,
    raw::{Http1, Http1Request},
    upstream::Upstream,
};

/// Replaces what must stand there exactly `times` times.
fn adapt(text: &str, what: &str, by: &str, times: usize) -> String {
    assert_eq!(text.matches(what).count(), times, "`{what}` in the configuration (left: found, right: expected)");
    text.replace(what, by)
}

/// Replaces the lines that hold the sample key of this name, one in each listener.
fn adapt_key(text: &str, kid: &str, signer: &Signer) -> String {
    let marker = format!("\"kid\": \"{kid}\",");
    let line = text.lines().find(|line| line.contains(&marker)).unwrap_or_else(|| panic!("no key `{kid}`"));
    let indent = line.len() - line.trim_start().len();
    adapt(text, line, &format!("{}{}", &line[..indent], signer.public()), 2)
}

/// The values of the configurations, in the order of the file.
fn configurations(text: &str) -> Vec<Value> {
    let is_deeper = |line: &&str| line.is_empty() || line.starts_with(&" ".repeat(28));
    let texts = text.split("value: |\n").skip(1).map(|rest| rest.lines().take_while(is_deeper).collect::<String>());
    texts.map(|text| serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))).collect()
}

#[test]
fn the_two_listeners_of_the_sidecar_configuration_differ_in_the_role_only() {
    let text = fs::read_to_string(artefacts::in_repository("envoy/sidecar.yaml")).unwrap();
    let [mut app, mut signals] = configurations(&text).try_into().expect("two configurations");
    assert_eq!(app["role"].take(), "filter");
    assert_eq!(signals["role"].take(), "receiver");
    assert_eq!(app, signals);
}

#[tokio::test]
async fn the_sidecar_configuration() {
    let upstream = Upstream::start().unwrap();
    let text = fs::read_to_string(artefacts::in_repository("envoy/sidecar.yaml")).unwrap();
    let wasm = artefacts::wasm().unwrap();
    let text = adapt(&text, "/etc/taskfence/taskfence.wasm", &wasm.display().to_string(), 1);
    let text = adapt(&text, "port_value: 8080", &format!("port_value: {}", upstream.address().port()), 1);
    // Any free port, so that tests run beside each other.
    let text = adapt(&text, "port_value: 10000", "port_value: 0", 1);
    let text = adapt(&text, "port_value: 10001", "port_value: 0", 1);
    let text = adapt(&text, "port_value: 9901", "port_value: 0", 1);
    let text = adapt_key(&text, "jit-1", mint::ISSUER.signer(Alg::Es256));
    let text = adapt_key(&text, "idp-1", mint::TRANSMITTER.signer(Alg::Es256));

    let envoy = Envoy::start_file("ready-made", "sidecar.yaml", &text).await.unwrap();
    let (app, signals) = (envoy.listener("app").await.unwrap(), envoy.listener("signals").await.unwrap());
    let token = mint::token().sign();
    let complete = Request::push(orders::SIGNALS_PATH, &mint::complete_task(orders::TASK).sign());
    let read = Request::get(orders::ORDER_PATH);
    let steps = [
        ("nobody asks for health", app, Request::get("/healthz"), "200"),
        ("nobody reads an order", app, read.clone(), "401 token_missing"),
        ("the token reads its order", app, read.clone().bearer(&token), "200"),
        (
            "the token reads another order",
            app,
            Request::get("/v1/orders/1882").bearer(&token),
            "403 detail_insufficient",
        ),
        ("the task is completed", signals, complete, "202"),
        ("the token reads its order again", app, read.bearer(&token), "401 task_completed"),
    ];
    for (what, to, request, expected) in steps {
        let answer = client::send(to, Http::One, &request).await.unwrap();
        assert_eq!(answer.line(), expected, "{what} (left: came, right: expected)\n{}", envoy.log());
    }
}

/// With a second virtual host in it, no spelling of a host that the rule of one allows reaches the other.
#[tokio::test]
async fn the_sidecar_configuration_reads_hosts_in_one_way() {
    let upstream = Upstream::start().unwrap();
    let text = fs::read_to_string(artefacts::in_repository("envoy/sidecar.yaml")).unwrap();
    let text = adapt(&text, "/etc/taskfence/taskfence.wasm", &artefacts::wasm().unwrap().display().to_string(), 1);
    let text = adapt(&text, "port_value: 8080", &format!("port_value: {}", upstream.address().port()), 1);
    let text = adapt(&text, "port_value: 10000", "port_value: 0", 1);
    let text = adapt(&text, "port_value: 10001", "port_value: 0", 1);
    let text = adapt(&text, "port_value: 9901", "port_value: 0", 1);
    let health = r#""match": {"methods": ["GET"], "path": "/healthz"}"#;
    let of_one_host = r#""match": {"methods": ["GET"], "hosts": ["orders.mesh"], "path": "/healthz"}"#;
    let text = adapt(&text, health, of_one_host, 2);
    let indent = " ".repeat(20);
    let app = format!("{indent}- name: app\n{indent}  domains: [\"*\"]\n");
    let inner = format!(
        "{indent}- {{name: inner, domains: [\"*\"], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: inner}}}}}}]}}\n\
         {indent}- name: app\n{indent}  domains: [orders.mesh]\n"
    );
    let text = adapt(&text, &app, &inner, 1);
    let envoy = Envoy::start_file("ready-made-hosts", "sidecar.yaml", &text).await.unwrap();
    let to = envoy.listener("app").await.unwrap();
    let host = orders::HOST;
    for spelling in [":80", ":1", ".", ".:443", "", ":8080"] {
        let request = Request::get("/healthz").host(&format!("{host}{spelling}"));
        let answer = client::send(to, Http::One, &request).await.unwrap();
        assert!(upstream.was_reached_by(&answer.probe), "{host}{spelling}: {}", answer.line());
    }
    for odd in [":", "..", ":80:80", ".:80."] {
        let request = Http1Request::without_host("GET", "/healthz").header("host", format!("{host}{odd}"));
        let answer = Http1::open(to).await.unwrap().send(&request).await.unwrap();
        assert_eq!(answer.status, 400, "{host}{odd}: {}", answer.line());
    }
    let answer = client::send(to, Http::One, &Request::get("/healthz").host("other.mesh")).await.unwrap();
    assert_eq!(answer.line(), "403 rule_missing");
}

/// Before anything of it is adapted but the path of the module, an operator can have Envoy check it.
#[tokio::test]
async fn the_sidecar_configuration_is_valid_unadapted() {
    let text = fs::read_to_string(artefacts::in_repository("envoy/sidecar.yaml")).unwrap();
    let text = adapt(&text, "/etc/taskfence/taskfence.wasm", &artefacts::wasm().unwrap().display().to_string(), 1);
    let folder = artefacts::target().join("tests").join(format!("ready-made-valid-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("sidecar.yaml");
    fs::write(&file, text).unwrap();
    let check = std::process::Command::new(artefacts::envoy().unwrap())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{}: {}\n{said}", file.display(), check.status);
}
