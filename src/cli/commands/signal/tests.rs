//! What each command sends, and what it refuses to.

use crate::signing::key::tests::{claims_of, header_of};
use crate::signing::push::tests::receiver as listen;
use crate::signing::set;
use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;
use serde_json::{Value, json};
use std::path::Path;
use uuid::Uuid;

const FROM: [&str; 4] = ["--issuer", "https://idp.example", "--audience", "https://orders.mesh/signals"];

fn key_in(folder: &Path) -> String {
    let prefix = folder.join("k").to_str().unwrap().to_owned();
    let mut capture = Capture::default();
    assert_eq!(capture.run(&["keys", "new", "--alg", "EdDSA", "--kid", "k1", "--out", &prefix]), Exit::Done);
    format!("{prefix}.private.jwk")
}

fn dry_run(args: &[&str]) -> Value {
    let mut capture = Capture::default();
    let args = [&["signal"], args, &FROM, &["--dry-run"]].concat();
    assert_eq!(capture.run(&args), Exit::Done, "{}", capture.err());
    serde_json::from_str(capture.out()).unwrap()
}

#[test]
fn each_command_makes_its_event() {
    let revoked =
        |who: &str| json!({set::SESSION_REVOKED: {"event_timestamp": Capture::NOW, "initiating_entity": who}});
    let completed = |outcome: &str| {
        json!({set::TASK_COMPLETED: {
            "event_timestamp": Capture::NOW, "initiating_entity": "system", "outcome": outcome}})
    };
    let table: &[(&[&str], Value, Value)] = &[
        (
            &["revoke", "--token", "tok-1"],
            json!({"format": "jwt_id", "iss": "https://idp.example", "jti": "tok-1"}),
            revoked("admin"),
        ),
        (
            &["revoke", "--token", "tok-1", "--subject-issuer", "https://jit.example", "--initiator", "policy"],
            json!({"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-1"}),
            revoked("policy"),
        ),
        (
            &["revoke", "--session", "sess-9"],
            json!({"format": "complex", "session": {"format": "opaque", "id": "sess-9"}}),
            revoked("admin"),
        ),
        (
            &["revoke", "--user", "alice", "--subject-issuer", "https://jit.example"],
            json!({"format": "iss_sub", "iss": "https://jit.example", "sub": "alice"}),
            revoked("admin"),
        ),
        (
            &["complete", "--task", "task-42"],
            json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}}),
            completed("success"),
        ),
        (
            &["complete", "--task", "task-42", "--outcome", "cancelled"],
            json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}}),
            completed("cancelled"),
        ),
        (
            &["device", "--device", "d7", "--status", "not-compliant"],
            json!({"format": "complex", "device": {"format": "opaque", "id": "d7"}}),
            json!({set::DEVICE_COMPLIANCE: {
                "event_timestamp": Capture::NOW, "initiating_entity": "admin",
                "previous_status": "compliant", "current_status": "not-compliant"}}),
        ),
        (
            &["device", "--device", "d7", "--device-issuer", "https://mdm.example", "--status", "compliant"],
            json!({"format": "complex", "device": {"format": "iss_sub", "iss": "https://mdm.example", "sub": "d7"}}),
            json!({set::DEVICE_COMPLIANCE: {
                "event_timestamp": Capture::NOW, "initiating_entity": "admin",
                "previous_status": "not-compliant", "current_status": "compliant"}}),
        ),
        (
            &["risk", "--user", "alice", "--level", "HIGH", "--reason", "travel"],
            json!({"format": "iss_sub", "iss": "https://idp.example", "sub": "alice"}),
            json!({set::RISK_LEVEL: {
                "event_timestamp": Capture::NOW, "initiating_entity": "admin", "principal": "USER",
                "current_level": "HIGH", "risk_reason": "travel", "reason_admin": {"en": "travel"}}}),
        ),
        (
            &["risk", "--session", "sess-9", "--level", "low", "--initiator", "policy"],
            json!({"format": "complex", "session": {"format": "opaque", "id": "sess-9"}}),
            json!({set::RISK_LEVEL: {
                "event_timestamp": Capture::NOW, "initiating_entity": "policy", "principal": "SESSION",
                "current_level": "LOW"}}),
        ),
        (
            &["risk", "--device", "d7", "--level", "MEDIUM"],
            json!({"format": "complex", "device": {"format": "opaque", "id": "d7"}}),
            json!({set::RISK_LEVEL: {
                "event_timestamp": Capture::NOW, "initiating_entity": "admin", "principal": "DEVICE",
                "current_level": "MEDIUM"}}),
        ),
    ];
    let said = |event: &str, body: Value| {
        let mut body = body;
        body["event_timestamp"] = json!(Capture::NOW);
        body["initiating_entity"] = json!("admin");
        json!({event: body})
    };
    let task = json!({"format": "complex", "task": {"format": "opaque", "id": "t"}});
    let user = json!({"format": "iss_sub", "iss": "https://idp.example", "sub": "alice"});
    let stream = |id: &str| json!({"format": "opaque", "id": id});
    let more: &[(&[&str], Value, Value)] = &[
        (
            &["narrow", "--task", "t", "--scope", "orders.read"],
            task.clone(),
            said(set::GRANT_NARROWED, json!({"scope": "orders.read"})),
        ),
        (
            &["narrow", "--user", "alice", "--details", r#"[{"type": "order"}]"#],
            user.clone(),
            said(set::GRANT_NARROWED, json!({"authorization_details": [{"type": "order"}]})),
        ),
        (
            &["claims", "--task", "t", "--set", "trusted_network=false", "--set", "role=auditor"],
            task,
            said(set::TOKEN_CLAIMS, json!({"claims": {"trusted_network": false, "role": "auditor"}})),
        ),
        (
            &["assurance", "--user", "alice", "--level", "phr", "--direction", "increase"],
            user,
            said(
                set::ASSURANCE_LEVEL,
                json!({"namespace": "acr", "current_level": "phr", "change_direction": "increase"}),
            ),
        ),
        (&["verify"], stream("taskfence"), json!({set::VERIFICATION: {}})),
        (&["verify", "--stream", "s", "--state", "x"], stream("s"), json!({set::VERIFICATION: {"state": "x"}})),
    ];
    for (args, subject, events) in table.iter().chain(more) {
        let set = dry_run(args);
        assert_eq!((&set["sub_id"], &set["events"]), (subject, events), "{args:?}");
        assert_eq!(set["iss"], "https://idp.example");
        assert_eq!(set["aud"], "https://orders.mesh/signals");
        assert_eq!(set["iat"], Capture::NOW);
        assert!(set.get("sub").is_none() && set.get("exp").is_none(), "{set}");
        assert_eq!(Uuid::parse_str(set["jti"].as_str().unwrap()).unwrap().get_version_num(), 4);
        assert_ne!(set["jti"], set["txn"]);
    }
}

#[test]
fn what_the_event_says_can_be_set() {
    let args =
        ["complete", "--task", "t", "--at", "-10m", "--reason", "done early", "--jti", "set-77", "--txn", "root-5"];
    let set = dry_run(&args);
    assert_eq!((&set["jti"], &set["txn"]), (&json!("set-77"), &json!("root-5")));
    let body = &set["events"][set::TASK_COMPLETED];
    assert_eq!(body["event_timestamp"], Capture::NOW - 600);
    assert_eq!(body["reason_admin"], json!({"en": "done early"}));
}

#[test]
fn a_signal_is_signed_and_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let key = key_in(folder.path());
    let (url, requests) = listen("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let args = ["--key", &key, "--to", url.as_str(), "--print"];
    let mut capture = Capture::default();
    let exit = capture.run(&[&["signal", "complete", "--task", "t"], &FROM[..], &args].concat());
    assert_eq!(exit, Exit::Done, "{}", capture.err());

    let (set, answer) = capture.out().split_once('\n').unwrap();
    assert_eq!(answer, format!("{url}: 202 accepted\n"));
    assert_eq!(header_of(set), json!({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt"}));
    assert_eq!(claims_of(set)["sub_id"]["task"]["id"], "t");
    assert!(requests.recv().unwrap().ends_with(&format!("\r\n\r\n{set}")), "what is printed is what was pushed");
}

#[test]
fn one_refusal_fails_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let key = key_in(folder.path());
    let (good, _kept) = listen("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let (bad, _kept) = listen("HTTP/1.1 400 Bad Request\r\ncontent-length: 21\r\n\r\n{\"err\":\"invalid_key\"}");
    let args = ["--key", &key, "--to", bad.as_str(), "--to", good.as_str(), "--jti", "j", "--at", "1790000000"];
    let mut capture = Capture::default();
    let exit = capture.run(&[&["signal", "revoke", "--user", "u"], &FROM[..], &args].concat());
    assert_eq!(exit, Exit::Failed);
    assert_eq!(capture.out(), format!("{bad}: 400 invalid_key\n{good}: 202 accepted\n"));
    let expected = "error: 1 of 2 did not accept the signal; to repeat it there, add `--jti j --at 1790000000`\n";
    assert_eq!(capture.err(), expected);
}

#[test]
fn wrong_usage() {
    let table: &[&[&str]] = &[
        &["revoke", "--dry-run"],
        &["revoke", "--token", "a", "--session", "b", "--dry-run"],
        &["revoke", "--user", "", "--dry-run"],
        &["revoke", "--token", "a"],
        &["revoke", "--token", "a", "--to", "http://127.0.0.1:1/"],
        &["revoke", "--token", "a", "--key", "k"],
        &["revoke", "--token", "a", "--key", "k", "--to", "127.0.0.1:10001"],
        &["revoke", "--token", "a", "--key", "k", "--to", "file:///etc/passwd"],
        &["revoke", "--token", "a", "--key", "k", "--to", "http://user:secret@127.0.0.1/"],
        &["revoke", "--token", "a", "--at", "1790000000000", "--dry-run"],
        &["complete", "--task", "t", "--outcome", "great", "--dry-run"],
        &["complete", "--task", "t", "--dry-run", "--print"],
        &["device", "--device", "d", "--status", "unknown", "--dry-run"],
        &["device", "--device", "d", "--dry-run"],
        &["risk", "--level", "HIGH", "--dry-run"],
        &["risk", "--user", "a", "--device", "d", "--level", "HIGH", "--dry-run"],
        &["risk", "--user", "a", "--level", "EXTREME", "--dry-run"],
        &["narrow", "--task", "t", "--dry-run"],
        &["narrow", "--scope", "a", "--dry-run"],
        &["narrow", "--task", "t", "--details", "{}", "--dry-run"],
        &["claims", "--task", "t", "--dry-run"],
        &["claims", "--task", "t", "--set", "x", "--dry-run"],
        &["assurance", "--user", "a", "--level", "x", "--dry-run"],
    ];
    for args in table {
        let mut capture = Capture::default();
        assert_eq!(capture.run(&[&["signal"], *args, &FROM].concat()), Exit::Usage, "{args:?}");
    }
}
