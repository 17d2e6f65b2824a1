use super::build::{self, Circumstances};
use super::{Ended, Record, VerdictName};
use crate::decision::judge::Judge;
use crate::decision::verdict::{Refusal, Verdict};
use crate::http::request::Request;
use crate::policy::policy::Policy;
use crate::reason::Reason;
use crate::rules::mode::Mode;
use crate::state::revocations::set_up;
use crate::testing::fixture::{self, NOW, token_with};
use crate::testing::ports::TestPorts;
use crate::time::Span;
use crate::token::claim_names::{ClaimFault, RefusedClaim};
use serde_json::{Value, json};

const DECISION: &str = "6f1f2c0e-3f0a-4c58-9d0c-0a3f6d1f8b11";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn judge(evidence: Value) -> Judge {
    let rule = |name: &str, require: Value| json!({"name": name, "match": {"path": format!("/{name}/{{rest...}}")}, "require": require});
    let mut shadow = rule("shadow", json!({"scope": "nobody.has"}));
    shadow["mode"] = json!("shadow");
    let mut glass = rule("glass", json!({"acr": ["never"]}));
    glass["break_glass"] = json!({"scope": "orders.refund", "lifts": ["acr"]});
    let config = json!({
        "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
        "rules": [rule("read", json!({"scope": "orders.read"})), rule("admin", json!({"scope": "nobody.has"})), shadow, glass],
        "evidence": evidence
    });
    Judge::new(crate::config::load::load(config.to_string().as_bytes()).unwrap().policy)
}

fn circumstances<'c>(path: &'c str) -> Circumstances<'c> {
    Circumstances {
        decision: DECISION,
        time_ms: NOW.0 * 1000 + 7,
        method: b"GET",
        authority: b"Orders.Mesh:443",
        path: path.as_bytes(),
        revision: Some("4c1d9a5be0f32718.4821.09af3377c2d85b10".to_owned()),
        state_age: Some(Span(4)),
        source: "10.1.2.3".parse().ok(),
        peer: Some("spiffe://mesh.example/ns/shop/sa/front".to_owned()),
        trace_id: Some(TRACE.to_owned()),
    }
}

/// What `judge` decides about a request for `path` with `token`.
fn decide(judge: &mut Judge, path: &str, token: &str) -> Verdict {
    let mut ports = TestPorts::default();
    set_up(&mut ports.store.memory, 1).unwrap();
    let authorization = format!("Bearer {token}");
    let headers =
        [(":method", "GET"), (":authority", "orders.mesh"), (":path", path), ("authorization", &authorization)];
    let request = Request::from_headers(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    judge.judge(&request, &mut ports, NOW)
}

/// The record of what `judge` decides.
fn recorded(judge: &mut Judge, path: &str, token: &str) -> Record {
    match decide(judge, path, token) {
        Ok(permit) => build::admitted(&permit, judge.policy(), &circumstances(path)),
        Err(refusal) => build::refused(&refusal, judge.policy(), &circumstances(path)),
    }
}

fn read(record: &Record) -> Value {
    let line = record.line();
    assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn it_has_every_member() {
    let mut judge = judge(json!({}));
    let token = token_with(json!({}), json!({"act": {"sub": "a", "act": {"sub": "b"}}}));
    let record = recorded(&mut judge, "/admin//x?secret=1", &token);
    // sha256sum of the token, the first 32 digits.
    let digest = crate::encoding::digest::sha256(token.as_bytes());
    let fingerprint: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = json!({
        "schema": "taskfence.decision/1", "decision": DECISION, "time": "2026-09-21T14:15:00.007Z",
        "time_ms": 1_790_000_100_007_u64, "verdict": "denied", "reason": "path_refused", "mode": "enforce",
        "config": format!("{:016x}", judge.policy().config_hash()),
        "state": {"revision": "4c1d9a5be0f32718.4821.09af3377c2d85b10", "age_ms": 4000},
        "method": "GET", "host": "orders.mesh", "source": "10.1.2.3",
        "peer": "spiffe://mesh.example/ns/shop/sa/front", "trace_id": TRACE
    });
    assert_eq!(read(&record), expected);
    let record = recorded(&mut judge, "/admin/x?secret=1", &token);
    let mut with_grant = expected;
    for (name, value) in [
        ("reason", json!("scope_insufficient")),
        ("rule", json!("admin")),
        ("issuer", json!("https://jit.example")),
        ("subject", json!("alice")),
        ("actor", json!("a")),
        ("actors", json!(["a", "b"])),
        ("client", json!("agent-a7")),
        ("task", json!("task-42")),
        ("session", json!("sess-9")),
        ("token", json!("tok-1")),
        ("fingerprint", json!(fingerprint)),
        ("path", json!("/admin/x")),
    ] {
        with_grant[name] = value;
    }
    assert_eq!(read(&record), with_grant);
    assert_eq!(serde_json::from_str::<Record>(&record.line()).unwrap(), record, "it can be read again");
}

#[test]
fn each_verdict_has_its_name_and_mode() {
    let mut judge = judge(json!({}));
    let token = token_with(json!({}), json!({}));
    let of = |record: &Record| (record.verdict, record.mode, record.break_glass, record.reason.clone());
    let insufficient = || Some("scope_insufficient".to_owned());
    let allowed = recorded(&mut judge, "/read/x", &token);
    assert_eq!(of(&allowed), (VerdictName::Allowed, Mode::Enforce, false, None));
    let glass = recorded(&mut judge, "/glass/x", &token);
    assert_eq!(of(&glass), (VerdictName::Allowed, Mode::Enforce, true, None));
    let shadow = recorded(&mut judge, "/shadow/x", &token);
    assert_eq!(of(&shadow), (VerdictName::WouldDeny, Mode::Shadow, false, insufficient()));
    let refusal = decide(&mut judge, "/admin/x", &token).unwrap_err();
    let stream = Ended { delay_ms: Some(3), lasted_ms: Some(9000), bytes_in: Some(0), bytes_out: None };
    for (enforced, verdict) in [(true, VerdictName::Ended), (false, VerdictName::WouldEnd)] {
        let line = circumstances("/admin/x");
        let record = build::ended(&refusal, enforced, stream.clone(), judge.policy(), &line);
        assert_eq!((record.verdict, record.reason.clone()), (verdict, insufficient()));
        assert_eq!(read(&record)["ended"], json!({"delay_ms": 3, "lasted_ms": 9000, "bytes_in": 0}));
    }
}

#[test]
fn a_refused_claim_is_told() {
    let judge = judge(json!({}));
    for (wrong, told) in
        [(ClaimFault::Missing, "missing"), (ClaimFault::Differs("azp".to_owned()), "differs from `azp`")]
    {
        let claim = Some(Box::new(RefusedClaim::new("client_id", wrong)));
        let refusal = Refusal { claim, ..Refusal::new(Reason::ClaimInvalid) };
        let record = read(&build::refused(&refusal, judge.policy(), &circumstances("/x")));
        assert_eq!((&record["claim"], &record["fault"]), (&json!("client_id"), &json!(told)));
    }
}

#[test]
fn what_is_masked_is_hashed_or_gone_and_named() {
    let hash = |policy: &Policy, value: &str| json!(policy.evidence().masks.hash(value));
    let mask = json!({
        "subject": "hash", "actor": "remove", "token": "hash", "path": "remove", "source": "hash", "client": "remove",
        "captures": "hash", "session": "remove"
    });
    let mut judge = judge(json!({"mask": mask, "mask_key": "a key that has thirty-two letters"}));
    // A token without a session: what is not there is not masked.
    let token = token_with(json!({}), json!({"sid": fixture::ABSENT, "act": {"sub": "a", "act": {"sub": "b"}}}));
    let record = read(&recorded(&mut judge, "/admin/x", &token));
    let policy = judge.policy();
    for (name, value) in [("subject", "alice"), ("token", "tok-1"), ("source", "10.1.2.3")] {
        assert_eq!(record[name], hash(policy, value), "{name}");
    }
    for gone in ["actor", "actors", "path", "client", "session"] {
        assert_eq!(record.get(gone), None, "{record}");
    }
    assert_eq!(record["masked"], json!(["subject", "actor", "actors", "client", "token", "path", "source"]));
    assert!(!record.to_string().contains("alice") && !record.to_string().contains("/admin"), "{record}");
}

#[test]
fn what_is_too_long_is_cut_and_named() {
    let mut judge = judge(json!({"mask": {"task": "hash"}}));
    let long = "é".repeat(400);
    let mut act = json!({"sub": "deep"});
    for depth in 0..7 {
        act = json!({"sub": format!("{depth}{long}"), "act": act});
    }
    let token = token_with(json!({}), json!({"sub": long, "txn": long, "act": act}));
    let path = format!("/admin/{}", "x".repeat(4000));
    let record = recorded(&mut judge, &path, &token);
    assert_eq!(record.subject.as_deref(), Some("é".repeat(128).as_str()));
    assert_eq!(record.path.as_deref().map(str::len), Some(1024));
    assert_eq!(record.task, Some(judge.policy().evidence().masks.hash(&long)), "the whole value is hashed");
    assert_eq!(record.actors.len(), 8);
    assert!(record.actors.iter().all(|actor| actor.len() <= 256));
    assert_eq!(record.cut, ["subject", "actor", "actors", "path"]);
    assert_eq!(record.masked, ["task"]);
    read(&record);
}

/// No byte of a client ends the line, moves the cursor or forges a member, wherever it stands.
#[test]
fn nothing_leaves_the_line() {
    let mut judge = judge(json!({}));
    let forged = "x\",\"verdict\":\"allowed\"\r\n[1][info][wasm] forged\u{1b}[2J\u{2028}\u{202e}\u{9b}31m\\";
    // The judge refuses control characters in names, and these here not.
    let quoted = "x\",\"verdict\":\"allowed\u{2028}\u{202e}\\";
    for (path, token, subject) in [
        ("/admin/x", token_with(json!({}), json!({"sub": quoted})), Some(quoted)),
        ("/admin/%22%0d%0a%1b[2J", token_with(json!({}), json!({"sub": quoted})), None),
        ("/admin/\"\r\n\u{1b}[2J", token_with(json!({}), json!({"sub": forged})), None),
        ("/admin/x", token_with(json!({"kid": forged}), json!({})), None),
        ("/admin/x", token_with(json!({}), json!({"sub": forged})), None),
    ] {
        let record = read(&recorded(&mut judge, path, &token));
        assert_eq!((&record["verdict"], record["subject"].as_str()), (&json!("denied"), subject), "{path}: {record}");
    }
}
