//! Files of cases, good and bad.

use std::fs;

use tempfile::TempDir;

use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;
use crate::tests::snapshot;

/// A configuration whose issuer's key nobody has.
const CONFIG: &str = r#"
issuers:
  - issuer: https://jit.example
    audiences: [https://orders.mesh]
    algorithms: [ES256]
    max_lifetime: 15m
    keys: {inline: {keys: [{kty: EC, crv: P-256, kid: jit-1, alg: ES256, use: sig, x: acixdce9SgUtZGV5ZvCzzOOwCiLpkjDHKDsNaaDRqQU, y: Ww_TjOUAefgX4bIBnB-Ip5EJg8jqXPbsy7w6e8yKpP0}]}}
rules:
  - name: read-order
    match: {methods: [GET], path: "/v1/orders/{order}"}
    require: {scope: orders.read, detail: {type: order, action: read, identifier: "{order}"}}
  - name: fresh
    match: {path: /fresh}
    require: {state_age: 30s, source: [10.0.0.0/8], auth_age: 1h}
  - name: track
    match: {grpc: {service: orders.v1.Orders}, metadata: {tier: gold}}
    require: {scope: orders.track}
  - name: evaluation
    match: {path: /trial}
    require: {scope: orders.evaluation}
    mode: shadow
signals:
  transmitters:
    - issuer: https://idp.example
      audience: https://orders.mesh/signals
      algorithms: [ES256]
      subjects: [https://jit.example]
      keys: {inline: {keys: [{kty: EC, crv: P-256, kid: idp-1, alg: ES256, use: sig, x: WbnbMbk3btCnw3b0nwtyDnjnmJIta9XaSMKqp-Jt_14, y: w_XraFaU2eJ9x6hUAedJKbjrS-z7tvPXdhi6_ZZ0_cA}]}}
"#;

/// [`CONFIG`], with a hub in place of its transmitter.
fn following() -> String {
    let (before, signals) = CONFIG.split_once("  transmitters:\n").unwrap();
    let keys = signals.lines().find(|line| line.trim_start().starts_with("keys: ")).unwrap();
    format!("{before}  hub:\n    cluster: hub\n    feed: main\n    {}\n  stale: {{after: 30s}}\n", keys.trim())
}

const GOOD: &str = r#"
config: taskfence.yaml
now: 2026-09-21T14:13:20Z
tokens:
  alice:
    claims:
      scope: orders.read
      authorization_details: [{type: order, actions: [read], identifier: '1881'}]
  tired: {claims: {auth_time: -2h}}
  awake: {claims: {auth_time: -2m}}
  nobody: {claims: {sub: null}}
  early: {claims: {nbf: +5m, scope: orders.evaluation}}
  torn: {compact: eyJ.eyJ.AA}
signals:
  done:
    claims:
      sub_id: {format: complex, task: {format: opaque, id: test-task}}
      events: {'urn:taskfence:secevent:task-completed': {}}
cases:
  - name: alice reads her order
    request: {method: GET, url: 'https://orders.mesh/v1/orders/1881'}
    token: alice
    expect: {verdict: allow, rule: read-order}
  - name: alice reads another order
    request: {url: 'https://orders.mesh/v1/orders/1882', headers: {x-tenant: [red, blue]}}
    token: alice
    expect: {verdict: deny, reason: detail_insufficient, rule: read-order, status: 403}
  - name: her task is over
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: alice
    signals: [done]
    expect: {verdict: deny, reason: task_completed, status: 401}
  - name: what one case received the next one knows nothing of
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: alice
    expect: {verdict: allow}
  - name: her token expires
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: alice
    now: +10m
    expect: {verdict: deny, reason: token_expired}
  - name: no token
    request: {url: /v1/orders/1881, headers: {host: orders.mesh}}
    expect: {verdict: deny, reason: token_missing, status: 401}
  - name: no subject
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: nobody
    expect: {verdict: deny, reason: claim_invalid}
  - name: too early
    request: {url: 'https://orders.mesh/trial'}
    token: early
    expect: {verdict: allow, reason: token_not_yet_valid}
  - name: early no more
    request: {url: 'https://orders.mesh/trial'}
    token: early
    now: +5m
    expect: {verdict: allow, rule: evaluation}
  - name: too early again
    request: {url: 'https://orders.mesh/trial'}
    token: early
    expect: {verdict: allow, reason: token_not_yet_valid}
  - name: signed in long ago
    request: {url: 'https://orders.mesh/fresh', source: 10.1.2.3, state_age: 10s}
    token: tired
    expect: {verdict: deny, reason: authentication_too_old}
  - name: signed in lately
    request: {url: 'https://orders.mesh/fresh', source: 10.1.2.3, state_age: 10s}
    token: awake
    expect: {verdict: allow}
  - name: nothing was heard of the transmitter
    request: {url: 'https://orders.mesh/fresh', source: 10.1.2.3}
    token: awake
    expect: {verdict: deny, reason: state_stale, status: 503}
  - name: a gRPC request
    request: {url: 'https://orders.mesh/orders.v1.Orders/Track', grpc: true, metadata: {tier: gold}}
    token: alice
    expect: {verdict: deny, reason: scope_insufficient, rule: track, status: 200, grpc_status: 7}
  - name: no token at all
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: torn
    expect: {verdict: deny, reason: token_malformed}
"#;

/// A folder with the configuration and these cases.
fn folder(cases: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("taskfence.yaml"), CONFIG).unwrap();
    fs::write(folder.path().join("cases.yaml"), cases).unwrap();
    folder
}

fn run(cases: &str) -> (Exit, String) {
    let folder = folder(cases);
    let mut capture = Capture::default();
    let exit = capture.run(&["test", folder.path().join("cases.yaml").to_str().unwrap()]);
    let said = format!("{}{}", capture.out(), capture.err());
    (exit, said.replace(folder.path().to_str().unwrap(), "FOLDER"))
}

#[test]
fn all_as_expected() {
    let (exit, said) = run(GOOD);
    assert_eq!(exit, Exit::Done, "{said}");
    snapshot::check("test-good", &said);
}

#[test]
fn a_filter_that_follows_a_hub_has_caught_up() {
    let cases = "
config: taskfence.yaml
now: 2026-09-21T14:13:20Z
tokens:
  alice: {claims: {auth_time: -2m, scope: orders.read}}
cases:
  - name: the hub was heard of
    request: {url: 'https://orders.mesh/fresh', source: 10.1.2.3}
    token: alice
    expect: {verdict: allow, rule: fresh}
  - name: the hub is silent
    request: {url: 'https://orders.mesh/fresh', source: 10.1.2.3, state_age: 31s}
    token: alice
    expect: {verdict: deny, reason: state_stale}
";
    let folder = folder(cases);
    fs::write(folder.path().join("taskfence.yaml"), following()).unwrap();
    let mut capture = Capture::default();
    let exit = capture.run(&["test", folder.path().join("cases.yaml").to_str().unwrap()]);
    assert_eq!(exit, Exit::Done, "{}{}", capture.out(), capture.err());
}

#[test]
fn json_is_taken_too() {
    let (exit, said) = run(&crate::input::yaml::to_json(GOOD).unwrap());
    assert_eq!(exit, Exit::Done, "{said}");
}

#[test]
fn what_went_otherwise_is_told() {
    let cases = GOOD
        .replace("expect: {verdict: allow, rule: read-order}", "expect: {verdict: deny, rule: track, status: 403}")
        .replace("reason: detail_insufficient, rule: read-order, status: 403", "reason: rule_denied, status: 401")
        .replace("grpc_status: 7", "grpc_status: 16")
        .replace("expect: {verdict: deny, reason: token_expired}", "expect: {verdict: allow}");
    let (exit, said) = run(&cases);
    assert_eq!(exit, Exit::Failed, "{said}");
    snapshot::check("test-otherwise", &said);
}

#[test]
fn files_that_cannot_be_used() {
    let mut page = String::new();
    for (what, by) in [
        ("verdict: allow, rule: read-order", "verdct: allow"),
        ("verdict: allow, rule: read-order", "verdict: allowed"),
        ("verdict: allow, rule: read-order", "rule: read-order"),
        ("verdict: allow, rule: read-order", "verdict: allow, rule: read-odrer"),
        ("verdict: allow, rule: read-order", "verdict: allow, status: 200"),
        ("reason: task_completed", "reason: task_complete"),
        ("reason: task_completed", "reason: because"),
        ("token: nobody", "token: nobdy"),
        ("signals: [done]", "signals: [gone]"),
        ("{method: GET, url", "{metod: GET, url"),
        ("'https://orders.mesh/trial'", "orders.mesh/trial"),
        ("/v1/orders/1881, headers: {host: orders.mesh}", "/v1/orders/1881"),
        ("x-tenant: [red, blue]", "'x tenant': red"),
        ("x-tenant: [red, blue]", "x-tenant: 7"),
        ("source: 10.1.2.3, state_age: 10s", "source: localhost"),
        ("source: 10.1.2.3, state_age: 10s", "source: 10.1.2.3, state_age: soon"),
        ("now: +10m", "now: soon"),
        ("now: 2026-09-21T14:13:20Z", "now: 1790000000000"),
        ("auth_time: -2h", "auth_time: lately"),
        ("auth_time: -2h", "iss: https://jit.exampel"),
        ("torn: {compact: eyJ.eyJ.AA}", "torn: {}"),
        ("torn: {compact: eyJ.eyJ.AA}", "torn: {file: nowhere.jwt}"),
        ("torn: {compact: eyJ.eyJ.AA}", "torn: {compact: a, file: b}"),
        ("'urn:taskfence:secevent:task-completed': {}", "'urn:taskfence:secevent:grant-narrowed': {}"),
        ("name: no token\n", "name: no subject\n"),
        ("config: taskfence.yaml", "konfig: taskfence.yaml"),
        ("config: taskfence.yaml", "config: nowhere.yaml"),
        ("config: taskfence.yaml", "config: cases.yaml"),
        ("now: 2026-09-21T14:13:20Z", "now: ["),
    ] {
        assert!(GOOD.contains(what), "{what}");
        let (exit, said) = run(&GOOD.replacen(what, by, 1));
        page.push_str(&format!("### {what} -> {by}\n{said}exit code {}\n\n", exit.code()));
    }
    let (exit, said) = run("config: taskfence.yaml\ncases: []\n");
    page.push_str(&format!("### no cases\n{said}exit code {}\n", exit.code()));
    snapshot::check("test-bad-files", &page);
}

#[test]
fn fetched_keys_are_given_in_files() {
    let inline = CONFIG.lines().find(|line| line.contains("kid: jit-1")).unwrap();
    let jwks = inline.trim().strip_prefix("keys: {inline: ").unwrap().strip_suffix('}').unwrap();
    let config = CONFIG.replace(inline, "    keys: {cluster: jit, path: /jwks.json}");
    let folder = folder(GOOD);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("taskfence.yaml", &config);
    write("jwks.json", &crate::input::yaml::to_json(jwks).unwrap());
    let run = |args: &[&str]| {
        let mut capture = Capture::default();
        let cases = folder.path().join("cases.yaml");
        let exit = capture.run(&[&["test", cases.to_str().unwrap()], args].concat());
        (exit, capture.err().replace(folder.path().to_str().unwrap(), "FOLDER"))
    };
    let (exit, said) = run(&[]);
    assert_eq!(exit, Exit::BadConfig, "{said}");
    snapshot::check("test-keys-needed", &said);
    let given = format!("https://jit.example={}", folder.path().join("jwks.json").display());
    assert_eq!(run(&["--jwks", &given]), (Exit::Done, String::new()));
    write("cases.yaml", &GOOD.replacen("tokens:", "jwks: {'https://jit.example': jwks.json}\ntokens:", 1));
    assert_eq!(run(&[]), (Exit::Done, String::new()));
}

#[test]
fn what_was_made_up_is_good_in_its_own_run_only() {
    let folder = folder("");
    let policy = crate::input::configuration::parse(CONFIG.as_bytes()).unwrap().loaded.policy;
    let now = taskfence_core::time::Timestamp(Capture::NOW);
    let token = crate::offline::unsigned::token("alice", &serde_json::Map::new(), &policy, now).unwrap();
    let config = folder.path().join("taskfence.yaml");
    let args = ["explain", "--config", config.to_str().unwrap(), "--url", "https://orders.mesh/v1/orders/1881"];
    let mut capture = Capture::default();
    assert_eq!(capture.run(&[&args[..], &["--token", &token]].concat()), Exit::Denied);
    assert!(capture.out().contains("signature_invalid"), "{}", capture.out());
}

#[test]
fn bound_tokens_can_be_tested_too() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    // The key of RFC 8037 appendix A, private and bound to.
    write(
        "client.jwk",
        r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    );
    write("taskfence.yaml", &CONFIG.replace(
        "    max_lifetime: 15m\n",
        "    max_lifetime: 15m\n    binding: dpop\n    dpop: {algorithms: [EdDSA], nonce: 5m, origins: ['https://api.example']}\n",
    ));
    write(
        "cases.yaml",
        r#"
config: taskfence.yaml
now: 2026-09-21T14:13:20Z
tokens:
  bound:
    claims:
      scope: orders.read
      cnf: {jkt: kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k}
      authorization_details: [{type: order, actions: [read], identifier: '1881'}]
  free: {claims: {scope: orders.read}}
cases:
  - name: with a proof
    request: {url: 'https://orders.mesh/v1/orders/1881?q=1', proof_key: client.jwk, peer: 'spiffe://td/a'}
    token: bound
    expect: {verdict: allow}
  - name: without one
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: bound
    expect: {verdict: deny, reason: binding_mismatch, status: 401}
  - name: not bound at all
    request: {url: 'https://orders.mesh/v1/orders/1881'}
    token: free
    expect: {verdict: deny, reason: binding_missing}
"#,
    );
    let mut capture = Capture::default();
    let exit = capture.run(&["test", folder.path().join("cases.yaml").to_str().unwrap()]);
    assert_eq!(exit, Exit::Done, "{}{}", capture.out(), capture.err());
}
