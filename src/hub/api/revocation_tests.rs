//! Global token revocations, and who may ask for one, with a hub that runs.

use crate::config::role::Role;
use crate::intake::testing::{NOW, Signer};
use crate::testing::{self, Running};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use taskfence_core::jose::algorithm::Algorithm;

const IDP: &str = "https://idp.example";
const JIT: &str = "https://jit.example";
const PATH: &str = "/v1/feeds/main/global-token-revocation";
const URL: &str = "https://hub.example/v1/feeds/main/global-token-revocation";

async fn hub(signer: &Signer) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut config = testing::config(folder.path());
    let transmitter = &mut config["feeds"][0]["signals"]["transmitters"][0];
    transmitter["keys"] = json!({"inline": signer.jwks()});
    transmitter["revocation_audience"] = json!(URL);
    transmitter["logout_audience"] = json!("web");
    transmitter["subject_issuers"] = json!({ IDP: JIT });
    Running::start_with(config, folder).await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn jwt(signer: &Signer, jti: &str, changes: Value) -> String {
    let mut claims = json!({"iss": IDP, "aud": URL, "iat": now(), "exp": now() + 300, "jti": jti, "sub": "okta"});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    signer.sign(&json!({"typ": "global-token-revocation+jwt"}), &claims)
}

fn alice() -> Value {
    json!({"sub_id": {"format": "iss_sub", "iss": IDP, "sub": "alice"}})
}

async fn signals(hub: &Running, ops: &str) -> Vec<Value> {
    let (status, signals) = hub.call("GET", "/v1/feeds/main/signals", Some(ops), None).await;
    assert_eq!(status, 200, "{signals}");
    signals.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_jwt_of_the_provider_revokes_and_is_good_for_one_user() {
    let signer = Signer::new(Algorithm::ES256, "idp-1");
    let hub = hub(&signer).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let good = jwt(&signer, "g-1", json!({}));
    for _ in 0..2 {
        assert_eq!(hub.call("POST", PATH, Some(&good), Some(alice())).await, (204, Value::Null));
    }
    let made = signals(&hub, &ops).await;
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!((&made[0]["by"], &made[0]["jti"]), (&json!(IDP), &json!("g-1")), "{made:?}");
    let bob = json!({"sub_id": {"format": "iss_sub", "iss": IDP, "sub": "bob"}});
    assert_eq!(hub.call("POST", PATH, Some(&good), Some(bob)).await.0, 401, "the JWT was for alice");
    for (changes, body, status) in [
        (json!({"aud": "https://hub.example/v1/feeds/other/global-token-revocation"}), alice(), 401),
        (json!({"exp": NOW - 1}), alice(), 401),
        (json!({"iss": "https://evil.example"}), alice(), 401),
        (json!({}), json!({}), 400),
        (json!({}), json!({"sub_id": "alice"}), 400),
        (json!({}), json!({"sub_id": {"format": "pigeon", "ring": 1}}), 400),
        (json!({}), json!({"sub_id": {"format": "iss_sub", "iss": "https://evil.example", "sub": "x"}}), 403),
        (json!({}), json!({"subject": {"format": "opaque", "id": "carol"}}), 204),
    ] {
        let jwt = jwt(&signer, "g-2", changes.clone());
        let (answered, problem) = hub.call("POST", PATH, Some(&jwt), Some(body.clone())).await;
        assert_eq!(answered, status, "{changes} {body}: {problem}");
    }
    let other = "/v1/feeds/other/global-token-revocation";
    assert_eq!(hub.call("POST", other, Some(&jwt(&signer, "g-3", json!({}))), Some(alice())).await.0, 401);
    let none = "/v1/feeds/none/global-token-revocation";
    assert_eq!(hub.call("POST", none, Some(&jwt(&signer, "g-3", json!({}))), Some(alice())).await.0, 404);
    assert_eq!(signals(&hub, &ops).await.len(), 2);
    hub.stop().await;
}

#[tokio::test]
async fn callers_with_a_token_have_the_reach_of_their_role() {
    let hub = hub(&Signer::new(Algorithm::ES256, "idp-1")).await;
    let ops = hub.token("ops", Role::Operator, &[]).await;
    let idp = hub.token("idp", Role::Transmitter, &[]).await;
    let jit = hub.token(JIT, Role::Issuer, &[]).await;
    let mesh = hub.token("mesh", Role::Sidecar, &[]).await;
    // What the hub gives to a transmitter of the feed whose stream it manages.
    let pushes = hub.token("ssf/main/0123456789abcdef", Role::Transmitter, &["main"]).await;
    let user = || json!({"sub_id": {"format": "opaque", "id": "alice"}});
    for (token, status) in
        [(Some(&idp), 204), (Some(&jit), 204), (Some(&ops), 204), (Some(&mesh), 403), (Some(&pushes), 403), (None, 401)]
    {
        let (answered, problem) = hub.call("POST", PATH, token.map(String::as_str), Some(user())).await;
        assert_eq!(answered, status, "{token:?}: {problem}");
    }
    let by: Vec<String> = signals(&hub, &ops).await.iter().map(|one| one["by"].as_str().unwrap().to_owned()).collect();
    assert_eq!(by.len(), 3, "{by:?}");
    assert!(by.contains(&IDP.to_owned()) && by.contains(&JIT.to_owned()) && by.contains(&"ops".to_owned()), "{by:?}");
    let (_, audit) = hub.call("GET", "/v1/audit", Some(&ops), None).await;
    let calls = audit.as_array().unwrap().iter().filter(|line| line["call"].as_str().unwrap().contains("global-token"));
    let calls: Vec<&Value> = calls.collect();
    assert_eq!(calls.len(), 2, "{audit}");
    assert!(
        calls.iter().all(|line| line["detail"]["sub_id"]["id"] == "alice" && line["detail"]["signal"].is_u64()),
        "{audit}"
    );
    // The feed `other` has no transmitter that sends revocations.
    let other = "/v1/feeds/other/global-token-revocation";
    assert_eq!(hub.call("POST", other, Some(&idp), Some(user())).await.0, 403);
    hub.stop().await;
}

#[tokio::test]
async fn who_fails_too_often_is_slowed_down_and_what_is_good_passes() {
    let signer = Signer::new(Algorithm::ES256, "idp-1");
    let hub = hub(&signer).await;
    let forged = jwt(&Signer::new(Algorithm::ES256, "idp-1"), "g-1", json!({}));
    let mut last = 0;
    for _ in 0..30 {
        last = hub.call("POST", PATH, Some(&forged), Some(alice())).await.0;
    }
    assert_eq!(last, 429);
    assert_eq!(hub.call("POST", "/v1/feeds/main/logout", None, None).await.0, 429, "no form");
    assert_eq!(hub.call("POST", "/v1/feeds/none/logout", None, None).await.0, 429, "whether there is such a feed");
    assert_eq!(hub.call("POST", PATH, Some(&jwt(&signer, "g-1", json!({}))), Some(alice())).await.0, 204);
    hub.stop().await;
}
