//! What `taskfence explain` prints at every stage of a decision.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::signing::key::{Algorithm, SigningKey};
use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;
use crate::tests::snapshot;

/// Keys, a configuration that trusts them, and tokens and signals in files.
struct Bench {
    folder: TempDir,
    issuer: SigningKey,
    transmitter: SigningKey,
}

const NOW: u64 = Capture::NOW;

impl Bench {
    fn new() -> Self {
        let key = |kid: &str| SigningKey::generate(Algorithm::Es256, Some(kid.to_owned())).unwrap();
        let bench = Self { folder: tempfile::tempdir().unwrap(), issuer: key("jit-1"), transmitter: key("idp-1") };
        bench.configure(json!({}));
        bench
    }

    /// Writes the configuration, with `more` beside or instead of what stands there.
    fn configure(&self, more: Value) {
        let keys = |key: &SigningKey| json!({"inline": {"keys": [key.public_jwk().unwrap()]}});
        let mut config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                         "algorithms": ["ES256"], "keys": keys(&self.issuer), "claims": {"device": "device_id"}}],
            "rules": [
                {"name": "admin", "match": {"path": "/admin"}, "deny": true},
                {"name": "health", "match": {"methods": ["GET"], "path": "/healthz"}, "allow": "anonymous"},
                {"name": "read-order", "match": {"methods": ["GET"], "hosts": ["orders.mesh"], "path": "/v1/orders/{order}"},
                 "require": {"scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
                {"name": "refund", "match": {"methods": ["POST"], "path": "/v1/orders/{order}/refund"},
                 "require": {
                    "state_age": "30s", "scope": {"all": ["orders.read"], "any": ["orders.refund", "orders.admin"]},
                    "detail": {"type": "order", "action": "refund", "identifier": "{order}"},
                    "claims": {"tenant": "red"}, "actor": {"agents": ["agent-b2"]}, "source": ["10.0.0.0/8"],
                    "device": "compliant", "risk": {"below": "HIGH"}, "when": "claims.limit >= 100",
                    "auth_age": "5m", "acr": ["phrh", "phr"]},
                 "break_glass": {"scope": "orders.emergency", "lifts": ["state_age", "device", "risk"]}},
                {"name": "track", "match": {"grpc": {"service": "orders.v1.Orders", "method": "Track"}},
                 "require": {"scope": "orders.track"}},
                {"name": "gold", "match": {"path": "/gold", "metadata": {"tier": "gold"}}, "require": {}},
                {"name": "trial", "match": {"path": "/trial"}, "require": {"scope": "orders.trial"}, "mode": "shadow"}
            ],
            "identity": {"subject": "x-user", "task": "x-task"},
            "realm": "orders.mesh",
            "signals": {"transmitters": [{
                "issuer": "https://idp.example", "audience": "https://orders.mesh/signals", "algorithms": ["ES256"],
                "keys": keys(&self.transmitter), "subjects": ["https://jit.example"], "authorization": "Bearer stream"}]}
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.write("taskfence.json", &config.to_string());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A token that is good for order 1881, with claims changed; null leaves one out.
    fn token(&self, changes: Value) -> String {
        let mut claims = json!({
            "iss": "https://jit.example", "sub": "alice", "aud": "https://orders.mesh", "client_id": "agent-a7",
            "iat": NOW - 60, "exp": NOW + 240, "jti": "tok-1", "txn": "task-42", "sid": "sess-9",
            "auth_time": NOW - 600, "scope": "orders.read",
            "authorization_details": [{"type": "order", "actions": ["read"], "identifier": "1881"}]
        });
        let members = claims.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => members.remove(name),
                value => members.insert(name.clone(), value.clone()),
            };
        }
        self.issuer.sign("at+jwt", members).unwrap()
    }

    /// Writes a signal of the transmitter into a file.
    fn signal(&self, name: &str, claims: Value) -> String {
        let set = self.transmitter.sign("secevent+jwt", claims.as_object().unwrap()).unwrap();
        self.write(name, &(set + "\n"));
        self.path(name)
    }

    fn task_completed(&self, audience: &str) -> String {
        self.signal(
            "done.jwt",
            json!({"iss": "https://idp.example", "aud": audience, "iat": NOW, "jti": "set-1",
                   "sub_id": {"format": "complex", "task": {"format": "opaque", "id": "task-42"}},
                   "events": {"urn:taskfence:secevent:task-completed": {"event_timestamp": NOW}}}),
        )
    }

    /// The exit code, and all that is printed.
    fn explain(&self, token: Option<&str>, args: &[&str]) -> (Exit, String) {
        let config = self.path("taskfence.json");
        let token: Vec<&str> = token.map(|token| ["--token", token]).into_iter().flatten().collect();
        let mut capture = Capture::default();
        let exit = capture.run(&[&["explain", "--config", &config], &token[..], args].concat());
        let said = format!("{}{}", capture.out(), capture.err());
        (exit, said.replace(self.folder.path().to_str().unwrap(), "FOLDER"))
    }

    fn check(&self, name: &str, expected: Exit, token: Option<&str>, args: &[&str]) {
        let (exit, said) = self.explain(token, args);
        assert_eq!(exit, expected, "{name}: {said}");
        snapshot::check(&format!("explain-{name}"), &said);
    }
}

const READ: [&str; 2] = ["--url", "https://orders.mesh/v1/orders/1881"];

#[test]
fn requests_that_pass() {
    let bench = Bench::new();
    let token = bench.token(json!({}));
    bench.check("allowed", Exit::Done, Some(&token), &READ);
    bench.check("anonymous", Exit::Done, None, &["--url", "/healthz", "--header", "host:orders.mesh"]);
    let forged = ["--header", "X-User: mallory", "--header", "x-taskfence-x: 1"];
    bench.check("identity", Exit::Done, Some(&token), &[&READ[..], &forged].concat());
    bench.check("shadow", Exit::Done, Some(&token), &["--url", "https://orders.mesh/trial"]);
    bench.check("shadow-json", Exit::Done, Some(&token), &["--url", "https://orders.mesh/trial", "--output", "json"]);
    let gold = ["--url", "https://orders.mesh/gold", "--metadata", "tier=gold"];
    bench.check("metadata", Exit::Done, Some(&token), &gold);
    // Another spelling of the same path.
    bench.check("spelling", Exit::Done, Some(&token), &["--url", "https://orders.mesh:443/v1/%6frders/1881?a=b"]);
}

#[test]
fn requests_that_no_rule_lets_pass() {
    let bench = Bench::new();
    let token = bench.token(json!({}));
    bench.check("path-refused", Exit::Denied, Some(&token), &["--url", "https://orders.mesh/v1/orders/..%2f1881"]);
    bench.check("host-refused", Exit::Denied, Some(&token), &["--url", "https://a@orders.mesh/v1/orders/1881"]);
    bench.check("rule-missing", Exit::Denied, Some(&token), &[&READ[..], &["--method", "PUT"]].concat());
    bench.check("rule-missing-elsewhere", Exit::Denied, None, &["--url", "https://other.mesh/v1/orders/1881"]);
    bench.check("rule-denied", Exit::Denied, Some(&token), &["--url", "https://orders.mesh/admin"]);
    bench.check("metadata-missing", Exit::Denied, Some(&token), &["--url", "https://orders.mesh/gold"]);
}

#[test]
fn the_metadata_of_a_resource() {
    let bench = Bench::new();
    bench.configure(json!({"protected_resources": [{"resource": "https://orders.mesh/v1", "name": "Orders"}]}));
    let metadata = ["--url", "https://orders.mesh/.well-known/oauth-protected-resource/v1"];
    bench.check("resource-metadata", Exit::Done, None, &metadata);
    bench.check("resource-metadata-json", Exit::Done, None, &[&metadata[..], &["--output", "json"]].concat());
    bench.check("resource-challenge", Exit::Denied, None, &READ);
}

#[test]
fn tokens_that_are_refused() {
    let bench = Bench::new();
    let table = [
        ("token-expired", json!({"iat": NOW - 600, "exp": NOW - 300})),
        ("token-not-yet-valid", json!({"nbf": NOW + 60})),
        ("lifetime-exceeded", json!({"exp": NOW + 3600})),
        ("session-too-old", json!({"auth_time": NOW - 100_000})),
        ("audience-mismatch", json!({"aud": ["https://other.mesh", "https://third.mesh"]})),
        ("issuer-unknown", json!({"iss": "https://evil.example"})),
        ("claim-invalid", json!({"txn": null, "client_id": null})),
        ("claim-of-wrong-shape", json!({"scope": 7})),
        ("token-type", json!({"events": {}})),
    ];
    for (name, changes) in table {
        bench.check(name, Exit::Denied, Some(&bench.token(changes)), &READ);
    }
    let stranger = SigningKey::generate(Algorithm::Es256, Some("other-1".to_owned())).unwrap();
    let claims = json!({"iss": "https://jit.example", "aud": "https://orders.mesh", "sub": "a\u{1b}[31m"});
    let foreign = stranger.sign("at+jwt", claims.as_object().unwrap()).unwrap();
    bench.check("key-unknown", Exit::Denied, Some(&foreign), &READ);
    let edwards = SigningKey::generate(Algorithm::EdDsa, Some("jit-1".to_owned())).unwrap();
    let other = edwards.sign("at+jwt", claims.as_object().unwrap()).unwrap();
    bench.check("algorithm-refused", Exit::Denied, Some(&other), &READ);
    let good = bench.token(json!({}));
    let (start, _) = good.rsplit_once('.').unwrap();
    bench.check("signature-invalid", Exit::Denied, Some(&format!("{start}.{}", "A".repeat(86))), &READ);
    bench.check("token-malformed", Exit::Denied, Some("eyJ.e30"), &READ);
    bench.check("token-opaque", Exit::Denied, Some("ya29.a0AfB_byC"), &READ);
    bench.check("token-missing", Exit::Denied, None, &READ);
    let basic = ["--header", "authorization: Basic eDp5"];
    bench.check("credentials-ambiguous", Exit::Denied, Some(&good), &[&READ[..], &basic].concat());
}

/// As in the proxy, what a token says besides is no reason to take its signature for bad.
#[test]
fn claims_that_nobody_reads_break_no_signature() {
    let bench = Bench::new();
    let fraction = Value::from(NOW).as_f64().unwrap() - 5.25;
    for claims in [json!({"nonce": 7}), json!({"kid": []}), json!({"jku": {}}), json!({ "iat": fraction })] {
        let (exit, said) = verdict(&bench, &bench.token(claims.clone()), &ORDER);
        assert_eq!(exit, Exit::Done, "{claims}: {said}");
    }
}

#[test]
fn grants_that_signals_ended() {
    let bench = Bench::new();
    let token = bench.token(json!({}));
    let done = bench.task_completed("https://orders.mesh/signals");
    bench.check("task-completed", Exit::Denied, Some(&token), &[&READ[..], &["--signal", &done]].concat());
    // It is about another task, and another event is about nothing.
    let other = bench.token(json!({"txn": "task-43"}));
    let idle = bench.signal(
        "idle.jwt",
        json!({"iss": "https://idp.example", "aud": "https://orders.mesh/signals", "iat": NOW, "jti": "set-2",
               "events": {"urn:example:other": {}}}),
    );
    let both = [&READ[..], &["--signal", &done, "--signal", &idle]].concat();
    bench.check("signals-about-others", Exit::Done, Some(&other), &both);
    let odd = bench.signal(
        "odd.jwt",
        json!({"iss": "https://idp.example", "aud": "https://orders.mesh/signals", "iat": NOW, "jti": "set-3",
               "sub_id": {"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-9"},
               "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked":
                   {"reason_admin": "policy", "event_timestamp": null}}}),
    );
    bench.check("signal-odd", Exit::Done, Some(&other), &[&READ[..], &["--signal", &odd]].concat());
    let wrong = bench.task_completed("https://other.mesh");
    bench.check("signal-refused", Exit::Failed, Some(&token), &[&READ[..], &["--signal", &wrong]].concat());
}

#[test]
fn requirements() {
    let bench = Bench::new();
    let refund = ["--method", "POST", "--url", "https://orders.mesh/v1/orders/1881/refund"];
    bench.check("nothing-met", Exit::Denied, Some(&bench.token(json!({"scope": null, "auth_time": null}))), &refund);
    let good = json!({
        "scope": "orders.read orders.refund", "tenant": "red", "act": {"sub": "agent-b2"}, "limit": 100,
        "authorization_details": [{"type": "order", "actions": ["read", "refund"], "identifier": "1881"}],
        "auth_time": NOW - 60, "acr": "phr", "device_id": "d7"
    });
    let fact = |name: &str, member: &str, id: &str, event: Value| {
        let sub_id = json!({"format": "complex", member: {"format": "opaque", "id": id}});
        let claims = json!({"iss": "https://idp.example", "aud": "https://orders.mesh/signals", "iat": NOW, "jti": name,
                            "sub_id": sub_id, "events": event});
        bench.signal(name, claims)
    };
    let caep = |name: &str| format!("https://schemas.openid.net/secevent/caep/event-type/{name}");
    let device = fact(
        "device",
        "device",
        "d7",
        json!({caep("device-compliance-change"): {"previous_status": "not-compliant", "current_status": "compliant"}}),
    );
    let risk = fact(
        "risk",
        "user",
        "alice",
        json!({caep("risk-level-change"): {"principal": "USER", "current_level": "MEDIUM"}}),
    );
    let around = ["--source", "10.1.2.3", "--signal", &device, "--signal", &risk];
    let token = bench.token(good.clone());
    bench.check("all-met", Exit::Done, Some(&token), &[&refund[..], &around].concat());
    let later = ["--source", "10.1.2.3", "--state-age", "1m"];
    bench.check("state-stale", Exit::Denied, Some(&token), &[&refund[..], &later].concat());
    let mut emergency = good;
    emergency["scope"] = json!("orders.read orders.refund orders.emergency");
    let token = bench.token(emergency);
    bench.check("break-glass", Exit::Done, Some(&token), &[&refund[..], &["--source", "10.1.2.3"]].concat());
    bench.check(
        "detail-insufficient",
        Exit::Denied,
        Some(&bench.token(json!({}))),
        &["--url", "https://orders.mesh/v1/orders/1882"],
    );
    let json = ["--url", "https://orders.mesh/v1/orders/1882", "--output", "json"];
    bench.check("detail-insufficient-json", Exit::Denied, Some(&bench.token(json!({}))), &json);
}

#[test]
fn grpc() {
    let bench = Bench::new();
    let token = bench.token(json!({}));
    let track = ["--url", "https://orders.mesh/orders.v1.Orders/Track"];
    bench.check("grpc-denied", Exit::Denied, Some(&token), &[&track[..], &["--grpc"]].concat());
    let json = ["--grpc", "--output", "json"];
    bench.check("grpc-denied-json", Exit::Denied, Some(&token), &[&track[..], &json].concat());
    bench.check("grpc-not", Exit::Denied, Some(&token), &[&track[..], &["--method", "POST"]].concat());
}

#[test]
fn many_rules_are_not_all_shown() {
    let bench = Bench::new();
    let rule = |n: usize| json!({"name": format!("rule-{n}"), "match": {"path": format!("/r/{n}")}, "require": {}});
    bench.configure(json!({"rules": (0..100).map(rule).collect::<Vec<_>>(), "identity": {}}));
    bench.check("many-rules", Exit::Done, Some(&bench.token(json!({}))), &["--url", "https://orders.mesh/r/97"]);
    bench.configure(json!({"rules": []}));
    bench.check("no-rules", Exit::Denied, None, &["--url", "https://orders.mesh/r/97"]);
}

#[test]
fn what_keeps_it_from_explaining() {
    let bench = Bench::new();
    bench.check("no-host", Exit::Usage, None, &["--url", "/healthz"]);
    bench.check("no-url", Exit::Usage, None, &["--url", "orders.mesh/healthz"]);
    bench.check("no-header", Exit::Usage, None, &[&READ[..], &["--header", "x-tenant"]].concat());
    bench.check("no-token-file", Exit::Failed, Some("@/nonexistent/token.jwt"), &READ);
    bench.check("no-time", Exit::Usage, None, &[&READ[..], &["--at", "yesterday"]].concat());
    bench.configure(json!({"rules": [{"name": "x", "match": {"paht": "/"}}]}));
    bench.check("bad-config", Exit::BadConfig, None, &READ);
}

#[test]
fn fetched_keys_are_given_in_files() {
    let bench = Bench::new();
    let fetched = json!({"cluster": "jit", "path": "/jwks.json"});
    bench.configure(json!({
        "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "algorithms": ["ES256"],
                     "keys": fetched}],
        "signals": {"transmitters": [{
            "issuer": "https://idp.example", "audience": "https://orders.mesh/signals", "algorithms": ["ES256"],
            "keys": fetched, "subjects": ["https://jit.example"]}]}
    }));
    let jwks = |name: &str, key: &SigningKey| {
        let mut private = key.public_jwk().unwrap();
        (private["kid"], private["d"]) = (json!("private"), json!("AA"));
        bench.write(name, &json!({"keys": [private, key.public_jwk().unwrap()]}).to_string());
        bench.path(name)
    };
    let issuer = format!("https://jit.example={}", jwks("jit.json", &bench.issuer));
    let transmitter = format!("https://idp.example={}", jwks("idp.json", &bench.transmitter));
    let done = bench.task_completed("https://orders.mesh/signals");
    let token = bench.token(json!({}));
    let with = |args: &[&'static str]| [&READ[..], args].concat();
    bench.check("keys-needed", Exit::Usage, Some(&token), &READ);
    assert_eq!(bench.explain(None, &["--url", "https://orders.mesh/healthz"]).0, Exit::Done, "no keys are needed");
    bench.check("keys-given", Exit::Done, Some(&token), &[&READ[..], &["--jwks", &issuer]].concat());
    let with_signal = [&READ[..], &["--jwks", &issuer, "--signal", &done]].concat();
    bench.check("keys-needed-for-signal", Exit::Usage, Some(&token), &with_signal);
    let (exit, said) = bench.explain(Some(&token), &[&with_signal[..], &["--jwks", &transmitter]].concat());
    assert!(exit == Exit::Denied && said.contains("task_completed"), "{said}");
    bench.check("keys-of-nobody", Exit::Usage, Some(&token), &with(&["--jwks", "https://jit.exampel=/dev/null"]));
    bench.check("keys-no-file", Exit::Usage, Some(&token), &with(&["--jwks", "https://jit.example"]));
    bench.check("keys-no-set", Exit::BadConfig, Some(&token), &with(&["--jwks", "https://jit.example=/dev/null"]));
}

#[test]
fn a_token_may_come_from_a_file_and_time_may_be_told() {
    let bench = Bench::new();
    bench.write("token.jwt", &(bench.token(json!({})) + "\n"));
    let token = format!("@{}", bench.path("token.jwt"));
    assert_eq!(bench.explain(Some(&token), &READ).0, Exit::Done);
    let late = [&READ[..], &["--at", "+10m", "--output", "json"]].concat();
    let (exit, said) = bench.explain(Some(&token), &late);
    let object: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, &object["reason"], &object["at"]), (Exit::Denied, &json!("token_expired"), &json!(NOW + 600)));
    let header = format!("authorization: Bearer {}", bench.token(json!({})));
    assert_eq!(bench.explain(None, &[&READ[..], &["--header", &header]].concat()).0, Exit::Done);
}

#[test]
fn colours_are_for_terminals() {
    let bench = Bench::new();
    let config = bench.path("taskfence.json");
    let mut out = Vec::new();
    let mut console = crate::terminal::console::Console {
        input: &mut std::io::empty(),
        out: &mut out,
        err: &mut std::io::sink(),
        colour: true,
        now: NOW,
    };
    let args = ["taskfence", "explain", "--config", &config, "--url", "https://orders.mesh/admin"];
    assert_eq!(crate::run(args.map(Into::into), &mut console), Exit::Denied);
    assert!(out.starts_with(b"\x1b[1;31mDENIED\x1b[0m 403 rule_denied"), "{}", String::from_utf8_lossy(&out));
}

/// What the JSON explanation says of the verdict, with `args` behind the usual ones.
fn verdict(bench: &Bench, token: &str, args: &[&str]) -> (Exit, Value) {
    bench.write("token.jwt", token);
    let (config, token) = (bench.path("taskfence.json"), format!("@{}", bench.path("token.jwt")));
    let usual = ["explain", "--config", &config, "--token", &token, "--output", "json"];
    let mut capture = Capture::default();
    let exit = capture.run(&[&usual[..], args].concat());
    assert!(!capture.out().is_empty(), "{}", capture.err());
    (exit, capture.out().parse().unwrap())
}

fn change_issuer(bench: &Bench, more: Value) {
    let text = fs::read_to_string(bench.path("taskfence.json")).unwrap();
    let mut config: Value = text.parse().unwrap();
    config["issuers"][0].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bench.write("taskfence.json", &config.to_string());
}

const ORDER: [&str; 2] = ["--url", "https://orders.mesh/v1/orders/1881"];

#[test]
fn a_token_goes_where_its_issuer_wants_it() {
    let bench = Bench::new();
    for place in [json!({"header": "x-jit"}), json!({"cookie": "jit"})] {
        change_issuer(&bench, json!({ "token": place }));
        let (exit, said) = verdict(&bench, &bench.token(json!({})), &ORDER);
        assert_eq!(exit, Exit::Done, "{said}");
    }
    change_issuer(&bench, json!({"token": {"header": "x-jit"}}));
    let bearer = format!("authorization: Bearer {}", bench.token(json!({})));
    let mut capture = Capture::default();
    let config = bench.path("taskfence.json");
    let exit = capture.run(&["explain", "--config", &config, "--header", &bearer, ORDER[0], ORDER[1]]);
    assert_eq!(exit, Exit::Denied, "{}", capture.out());
    assert!(capture.out().contains("token_missing"), "{}", capture.out());
}

#[test]
fn a_bound_token_needs_its_certificate_and_its_workload() {
    let bench = Bench::new();
    fs::write(bench.path("peer.der"), [0x30, 0x01]).unwrap();
    let peer = bench.path("peer.der");
    let digest =
        taskfence_core::encoding::digest::digest_text(&taskfence_core::encoding::digest::sha256(&[0x30, 0x01]));
    let token = bench.token(json!({"cnf": {"x5t#S256": digest}, "sub": "spiffe://td/a7"}));
    let (exit, said) = verdict(&bench, &token, &ORDER);
    assert_eq!((exit, &said["reason"]), (Exit::Denied, &json!("binding_mismatch")));
    assert_eq!(said["why"], "the client showed another certificate, or none");
    assert_eq!(said["token"]["certificate"], json!(digest));
    let with = |more: &[&str]| verdict(&bench, &token, &[&ORDER[..], &["--peer-certificate", &peer], more].concat());
    assert_eq!(with(&[]).0, Exit::Done);
    change_issuer(&bench, json!({"peer_claim": "sub"}));
    let (exit, said) = with(&["--peer-spiffe", "spiffe://td/b1"]);
    assert_eq!((exit, &said["reason"]), (Exit::Denied, &json!("binding_mismatch")));
    assert_eq!(with(&["--peer-spiffe", "spiffe://td/a7"]).0, Exit::Done);
}

#[test]
fn a_key_bound_token_needs_a_proof() {
    let bench = Bench::new();
    change_issuer(&bench, json!({"binding": "dpop", "dpop": {"origins": ["https://api.example"]}}));
    let client = SigningKey::generate(Algorithm::Es256, None).unwrap();
    let jkt = client.public_jwk().unwrap();
    let jkt =
        taskfence_core::encoding::digest::digest_text(&taskfence_core::jose::thumbprint::thumbprint(&jkt).unwrap());
    let token = bench.token(json!({"cnf": {"jkt": jkt}}));
    let proof = |url: &str| {
        let contents = crate::signing::dpop_proof::Contents {
            id: "p",
            method: "GET",
            url,
            token: token.as_bytes(),
            nonce: None,
            issued_at: NOW,
        };
        contents.sign(&client).unwrap()
    };
    let (_, said) = verdict(&bench, &token, &ORDER);
    assert_eq!(
        (&said["reason"], &said["why"]),
        (
            &json!("binding_mismatch"),
            &json!("the token is bound to a key, so it comes under the scheme DPoP and with a proof")
        )
    );
    let with = |proof: &str| verdict(&bench, &token, &[&ORDER[..], &["--dpop", proof]].concat());
    let (_, said) = with(&proof("https://orders.mesh/v1/orders/1881"));
    assert_eq!(
        (&said["reason"], &said["why"]),
        (&json!("dpop_proof_invalid"), &json!("the proof: `htu` is not the URI of the request"))
    );
    assert_eq!(with(&proof("https://api.example/v1/orders/1881")).0, Exit::Done);
    change_issuer(&bench, json!({"dpop": {"nonce": "5m"}}));
    let (_, said) = with(&proof("https://orders.mesh/v1/orders/1881"));
    assert_eq!(said["reason"], "dpop_nonce_required");
    let headers = said["answer"]["headers"].to_string();
    assert!(headers.contains("dpop-nonce"), "{headers}");
}

#[test]
fn a_filter_that_follows_a_hub() {
    let bench = Bench::new();
    let keys = json!({"inline": {"keys": [bench.transmitter.public_jwk().unwrap()]}});
    let hub = json!({"cluster": "hub", "feed": "main", "keys": keys});
    bench.configure(json!({"signals": {"hub": hub, "stale": {"after": "30s"}}}));
    let token = bench.token(json!({}));
    bench.check("hub", Exit::Done, Some(&token), &READ);
    let (exit, said) = bench.explain(Some(&token), &[&READ[..], &["--output", "json"]].concat());
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, &said["hub"]), (Exit::Done, &json!({"name": "taskfence-hub", "feed": "main"})));
    let (exit, said) = bench.explain(Some(&token), &[&READ[..], &["--state-age", "31s"]].concat());
    assert_eq!(exit, Exit::Denied, "{said}");
    assert!(said.starts_with("DENIED 503 state_stale"), "{said}");
    // Who may send signals stands in the configuration of the hub.
    let set = bench.task_completed("https://orders.mesh/signals");
    bench.check("hub-signal", Exit::Failed, Some(&token), &[&READ[..], &["--signal", &set]].concat());
}
