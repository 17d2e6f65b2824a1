//! `taskfence init`, and `taskfence explain --token` without a configuration: what they write is a configuration that the
//! filter takes, and that accepts the token.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use taskfence_core::token::verify::read_unverified;

use crate::input::configuration::{self, Configuration};
use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;

/// A token with these, whose signature is no signature.
fn token(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", encode(header), encode(claims), URL_SAFE_NO_PAD.encode([0; 64]))
}

/// A token of Keycloak.
fn keycloak() -> String {
    let claims = json!({
        "iss": "https://sso.corp.example/realms/shop", "aud": ["orders-api", "account"], "sub": "f4b0", "typ": "Bearer",
        "azp": "shop-web", "sid": "6a0b", "iat": Capture::NOW, "exp": Capture::NOW + 300, "jti": "onrtac:0b2e",
        "scope": "openid orders.read", "realm_access": {"roles": ["orders-reader"]},
    });
    token(&json!({"alg": "RS256", "typ": "JWT", "kid": "k"}), &claims)
}

/// A token of an issuer that nobody knows, with as little as possible.
fn bare() -> String {
    let claims = json!({
        "iss": "https://id.corp.example", "aud": "https://orders.mesh", "sub": "alice", "cid": 7, "appid": "shop",
        "iat": Capture::NOW, "exp": Capture::NOW + 7200,
    });
    token(&json!({"alg": "ES384", "kid": "k"}), &claims)
}

/// Runs `taskfence init` with these arguments, and reads what it writes.
fn init(arguments: &[&str], answers: &str) -> (String, Configuration) {
    let mut capture = Capture::reading(answers);
    let exit = capture.run(&[&["init", "--offline"], arguments].concat());
    assert_eq!(exit, Exit::Done, "{}", capture.err());
    let yaml = capture.out().to_owned();
    let read = configuration::parse(yaml.as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}\n{yaml}"));
    (yaml, read)
}

fn accepts(configuration: &Configuration, token: &str) {
    let (grant, _) = read_unverified(token.as_bytes(), configuration.loaded.policy.issuers()).unwrap();
    assert!(!grant.subject.is_empty());
}

#[test]
fn a_token_and_routes_are_enough() {
    let token = keycloak();
    let (yaml, configuration) = init(&["--token", &token, "--route", "GET /v1/orders/{order} orders.read"], "");
    assert!(yaml.contains("\nmode: shadow\n") && yaml.contains("    profile: keycloak\n"), "{yaml}");
    assert!(yaml.contains("    audiences: [orders-api]\n"), "not those of the issuer itself: {yaml}");
    assert!(yaml.contains("cluster `sso.corp.example`"), "{yaml}");
    accepts(&configuration, &token);
    assert_eq!(configuration.loaded.policy.rules().len(), 1);
}

#[test]
fn what_a_token_lacks_is_declared() {
    let token = bare();
    let (yaml, configuration) = init(&["--token", &token, "--route", "/a"], "");
    for line in
        ["types: [absent]", "claims: {client: appid, token: none, task: none}", "algorithms: [ES384]", "max_lifetime: "]
    {
        assert!(yaml.contains(line), "{line}: {yaml}");
    }
    accepts(&configuration, &token);
}

#[test]
fn what_is_missing_is_asked() {
    let answers =
        "https://jit.example\nhttps://orders.mesh\nGET /v1/orders/{order} orders.read\nGET /healthz anonymous\n\n";
    let (yaml, configuration) = init(&[], answers);
    assert!(
        yaml.contains("issuer: https://jit.example\n") && yaml.contains("keys: {cluster: jit.example, discover: true}")
    );
    assert_eq!(configuration.loaded.policy.rules().len(), 2);
    let mut capture = Capture::reading("");
    assert_eq!(capture.run(&["init"]), Exit::Usage);
    assert!(capture.err().contains("give an issuer, or --token"), "{}", capture.err());
}

#[test]
fn without_routes_one_rule_takes_every_good_token() {
    let (yaml, configuration) = init(&["https://jit.example", "--audience", "https://orders.mesh"], "");
    assert!(yaml.contains("# Every request with a good token"), "{yaml}");
    assert_eq!(configuration.loaded.policy.rules().len(), 1);
}

#[test]
fn an_openapi_document_becomes_rules_in_an_order_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("openapi.yaml");
    fs::write(
        &document,
        "openapi: 3.1.0
servers: [{url: https://orders.mesh/v1}]
security: [{oauth: [orders.read]}]
components: {securitySchemes: {oauth: {type: oauth2}}}
paths:
  /orders/{order-id}: {get: {}, delete: {operationId: dropOrder, security: [{oauth: [orders.admin]}]}}
  /orders/latest: {get: {}}
  /orders/{from}-{to}: {get: {}}
  /healthz: {get: {security: []}}
",
    )
    .unwrap();
    let out = folder.path().join("taskfence.yaml");
    let mut capture = Capture::default();
    let arguments = [
        "init",
        "https://jit.example",
        "--offline",
        "--audience",
        "https://orders.mesh",
        "--openapi",
        document.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    assert_eq!(capture.run(&arguments), Exit::Done, "{}", capture.err());
    assert!(capture.err().contains("4 rules, in shadow mode"), "{}", capture.err());
    let yaml = fs::read_to_string(&out).unwrap();
    let names: Vec<&str> = yaml.lines().filter_map(|line| line.trim().strip_prefix("- name: ")).collect();
    assert_eq!(names.len(), 4, "{yaml}");
    assert!(yaml.contains("name: drop-order\n    match: {methods: [DELETE], hosts: [orders.mesh], path: \"/v1/orders/{order_id}\"}\n    require: {scope: orders.admin}"), "{yaml}");
    assert!(yaml.contains("allow: anonymous"), "{yaml}");
    assert!(yaml.contains("# wider than `/v1/orders/{from}-{to}`, which no rule can say"), "{yaml}");
    // It is not written over.
    assert_eq!(capture.run(&arguments), Exit::Failed);
    assert!(capture.err().contains("--force"), "{}", capture.err());
}

#[test]
fn a_token_is_explained_without_a_configuration() {
    let mut capture = Capture::default();
    assert_eq!(capture.run(&["explain", "--token", &keycloak()]), Exit::Done, "{}", capture.err());
    for words in ["not verified", "keycloak", "audiences: [orders-api]", "https://sso.corp.example/realms/shop"] {
        assert!(capture.out().contains(words), "{words}: {}", capture.out());
    }
    assert_eq!(capture.run(&["explain", "--token", &bare(), "--output", "json"]), Exit::Done);
    let report: Value = serde_json::from_str(capture.out()).unwrap();
    assert_eq!(report["profile"], Value::Null);
    assert_eq!(report["issuer"]["claims"], "{client: appid, token: none, task: none}");
    assert!(!report["lost"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn a_token_that_is_none_is_called_opaque() {
    let mut capture = Capture::default();
    for command in [&["explain", "--token"][..], &["init", "--offline", "--token"]] {
        assert_eq!(capture.run(&[command, &["2YotnFZFEjr1zCsicMWpAA"]].concat()), Exit::Failed);
        assert!(capture.err().contains("opaque"), "{}", capture.err());
    }
    assert_eq!(capture.run(&["explain", "--output", "json"]), Exit::Usage);
    assert_eq!(
        capture.run(&["init", "https://jit.example", "--profile", "keycloack", "--offline", "--audience", "a"]),
        Exit::Usage
    );
    assert!(capture.err().contains("did you mean `keycloak`?"), "{}", capture.err());
}

#[test]
fn a_token_may_name_its_issuer_and_audience_in_other_ways() {
    let svid = json!({"sub": "spiffe://td.example/ci", "aud": ["https://orders.mesh"], "iat": Capture::NOW, "exp": Capture::NOW + 300});
    let svid = token(&json!({"alg": "ES256", "kid": "k", "typ": "JWT"}), &svid);
    let (yaml, configuration) = init(&["--token", &svid, "--route", "/a"], "");
    assert!(yaml.contains("issuer: spiffe://td.example\n    # sets") && yaml.contains("profile: spiffe\n"), "{yaml}");
    accepts(&configuration, &svid);
    let pool = json!({"iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x", "client_id": "shop", "sub": "u",
        "token_use": "access", "iat": Capture::NOW, "exp": Capture::NOW + 300, "jti": "j"});
    let pool = token(&json!({"alg": "RS256", "kid": "k"}), &pool);
    let (yaml, configuration) = init(&["--token", &pool, "--route", "/a"], "");
    assert!(yaml.contains("audiences: [shop]\n") && yaml.contains("profile: cognito\n"), "{yaml}");
    accepts(&configuration, &pool);
}

/// Any repository of GitHub gets a token for any audience.
#[test]
fn a_draft_for_an_issuer_of_everybody_says_whose_tokens_are_meant() {
    let claims = json!({
        "iss": "https://token.actions.githubusercontent.com", "aud": "https://orders.mesh", "sub": "repo:octo/shop:x",
        "repository": "octo/shop", "repository_owner": "octo", "run_id": "7", "jti": "1", "iat": Capture::NOW,
        "exp": Capture::NOW + 300,
    });
    let token = token(&json!({"alg": "RS256", "typ": "JWT", "kid": "k"}), &claims);
    let warned = |configuration: &Configuration| {
        configuration.loaded.warnings.iter().any(|warning| warning.path == "issuers[0].where")
    };
    let (yaml, configuration) = init(&["--token", &token, "--route", "GET /a"], "");
    assert!(yaml.contains("    where: {repository_owner: octo}\n"), "{yaml}");
    assert!(!warned(&configuration));
    accepts(&configuration, &token);
    for issuer in ["https://gitlab.com", "https://accounts.google.com", "https://app.terraform.io"] {
        let (yaml, configuration) = init(&[issuer, "--audience", "https://orders.mesh", "--route", "GET /a"], "");
        assert!(yaml.contains("# - anybody can get a token of this issuer"), "{yaml}");
        assert!(warned(&configuration), "{issuer}");
        let compared = yaml.replace("require: {}", "require: {claims: {email: a@b.example}}");
        assert!(!warned(&configuration::parse(compared.as_bytes()).unwrap()), "{issuer}");
    }
}
