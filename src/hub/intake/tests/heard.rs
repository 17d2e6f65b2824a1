//! When transmitters were heard of, also after a restart.

use crate::intake::testing::{IDP, ISSUER, NOW, TestHub};
use serde_json::{Value, json};
use taskfence_core::time::Timestamp;

const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
const STREAM_UPDATED: &str = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated";

fn about_stream(jti: &str, event: &str, iat: u64, payload: Value) -> Value {
    let subject = json!({"format": "opaque", "id": "stream-1"});
    json!({"iss": IDP, "aud": "hub", "iat": iat, "jti": jti, "sub_id": subject, "events": {event: payload}})
}

fn heard(hub: &TestHub) -> (u64, bool) {
    let status = hub.intake.issuer_status("main", Timestamp(NOW));
    let [issuer] = status.as_slice() else { panic!("one issuer") };
    (issuer.heard.0, issuer.lost)
}

#[tokio::test]
async fn a_verification_alone_counts_also_after_a_restart() {
    let hub = TestHub::new(|_| {});
    assert_eq!(heard(&hub), (0, false));
    let verification = |jti: &str, iat| hub.set(&about_stream(jti, VERIFICATION, iat, json!({"state": "x"})));
    assert_eq!(hub.push(verification("v-1", NOW - 20)).await.0, 202);
    assert_eq!(hub.push(verification("v-0", NOW - 40)).await.0, 202, "an old one that comes late");
    assert_eq!(heard(&hub), (NOW - 20, false));
    assert_eq!(hub.store.signals("main", &Default::default()).unwrap(), []);
    hub.intake.save().await.unwrap();
    assert_eq!(heard(&hub.restarted()), (NOW - 20, false));
}

#[tokio::test]
async fn a_signal_counts_when_it_is_stored() {
    let hub = TestHub::new(|_| {});
    assert_eq!(hub.push(hub.revoke("set-1", "task-42")).await.0, 202);
    assert_eq!(heard(&hub), (NOW, false));
    assert_eq!(hub.push(hub.revoke("set-1", "task-43")).await.0, 400);
    assert_eq!(heard(&hub), (NOW, false));
}

#[tokio::test]
async fn a_disabled_stream_is_known_after_a_crash() {
    let hub = TestHub::new(|_| {});
    let update = |jti: &str, at: u64, status: &str| about_stream(jti, STREAM_UPDATED, at, json!({"status": status}));
    assert_eq!(hub.push(hub.set(&update("s-1", NOW - 9, "disabled"))).await.0, 202);
    assert_eq!(heard(&hub), (0, true));
    let hub = hub.restarted();
    assert_eq!(heard(&hub), (0, true), "it was stored before it was answered");
    assert_eq!(hub.push(hub.set(&update("s-2", NOW - 3, "enabled"))).await.0, 202);
    assert_eq!(heard(&hub), (NOW - 3, false));
}

#[tokio::test]
async fn the_most_silent_transmitter_counts_for_each_issuer() {
    let hub = TestHub::new(|config| {
        let mut quiet = config["feeds"][0]["signals"]["transmitters"][0].clone();
        quiet["issuer"] = json!("https://mdm.example");
        let mut other = config["feeds"][0]["issuers"][0].clone();
        other["issuer"] = json!("https://other.example");
        let mut optional = quiet.clone();
        optional["issuer"] = json!("https://optional.example");
        optional["heartbeat"] = json!(false);
        optional["subjects"] = json!([ISSUER, "https://other.example"]);
        config["feeds"][0]["issuers"].as_array_mut().unwrap().push(other);
        config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap().extend([quiet, optional]);
    });
    assert_eq!(hub.push(hub.revoke("set-1", "task-42")).await.0, 202);
    let status = hub.intake.issuer_status("main", Timestamp(NOW));
    let heard: Vec<_> = status.iter().map(|issuer| (issuer.heard.0, issuer.lost)).collect();
    assert_eq!(heard, [(0, false), (NOW, false)], "one has a silent transmitter, the other needs none");
    assert_eq!(hub.intake.issuer_status("nowhere", Timestamp(NOW)), []);
}
