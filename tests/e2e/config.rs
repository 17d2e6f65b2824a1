//! A bad configuration does not start, and says where it is bad.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{Http, Request},
    mint::{self, Alg},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
};

/// Envoy must refuse to start, and its log must hold every text.
async fn refused(config: Value, texts: &[&str]) {
    let error = match Sidecar::start(Settings::new("config", config.clone())).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("Envoy started with a bad configuration; expected {texts:?} in the log of\n{config:#}"),
    };
    for text in texts {
        assert!(error.contains(text), "expected `{text}` in\n{error}");
    }
    assert!(!error.contains("panicked"), "a panic is no way to refuse a configuration:\n{error}");
}

/// The good configuration with one place changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = orders::config();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        _ => parent[name] = value,
    }
    config
}

fn without(pointer: &str) -> Value {
    let mut config = orders::config();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    config
}

#[tokio::test]
async fn an_unknown_key_is_named_with_the_nearest_right_one() {
    refused(with("/rulez", json!([])), &["rulez", "rules"]).await;
    refused(with("/issuers/0/audience", json!("x")), &["issuers[0]", "audience", "audiences"]).await;
    refused(with("/rules/0/match/method", json!("GET")), &["rules[0].match", "method", "methods"]).await;
}

#[tokio::test]
async fn a_wrong_value_is_named_by_its_place() {
    refused(with("/issuers/0/max_lifetime", json!("soon")), &["issuers[0].max_lifetime", "soon"]).await;
    refused(with("/issuers/0/algorithms/1", json!("HS256")), &["issuers[0].algorithms[1]", "HS256"]).await;
    refused(with("/rules/1/require/detail/identifier", json!("{id}")), &["rules[1].require.detail.identifier", "id"])
        .await;
    refused(with("/rules/0/match/path", json!("v1/orders")), &["rules[0].match.path"]).await;
}

/// What another system reads as a pattern would be letters here, so that a rule with it never matches.
#[tokio::test]
async fn a_pattern_of_another_system_is_refused_with_the_right_spelling() {
    let denied = "rules[3].match.path";
    for (path, spelling) in [("/internal/*", "{name...}"), ("/internal/:id", "{id}"), ("/internal/.*", "{name...}")] {
        refused(with("/rules/3/match/path", json!(path)), &[denied, spelling]).await;
    }
    refused(
        with("/rules/3/match", json!({"metadata": {"tier": "*"}})),
        &["rules[3].match.metadata.tier", "not a wildcard"],
    )
    .await;
    refused(with("/issuers/0/audiences/0", json!("*")), &["issuers[0].audiences[0]", "not a wildcard"]).await;
}

/// Serde would read a list for an object, field by field.
#[tokio::test]
async fn a_list_is_no_object() {
    for (pointer, list, place) in [
        ("/signals/stale", json!(["30s"]), "signals.stale"),
        ("/limits", json!([1, [1, 1]]), "limits"),
        ("/rules/3/match", json!([]), "rules[3].match"),
    ] {
        refused(with(pointer, list), &[&format!("{place}: is a list, and must be "), "an object"]).await;
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    refused(without("/issuers"), &["issuers"]).await;
    refused(without("/issuers/0/audiences"), &["issuers[0]", "audiences"]).await;
    refused(without("/signals/transmitters/0/audience"), &["signals.transmitters[0]", "audience"]).await;
}

#[tokio::test]
async fn keys_that_cannot_verify_are_refused() {
    let mut private = mint::ISSUER.jwks();
    private["keys"][0]["d"] = json!("AAAA");
    refused(with("/issuers/0/keys/inline", private), &["issuers[0].keys.inline.keys[0]", "private"]).await;
    let secret = json!({"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]});
    refused(with("/issuers/0/keys/inline", secret), &["issuers[0].keys.inline.keys[0]"]).await;
    refused(with("/issuers/0/keys/inline", json!({"keys": []})), &["issuers[0].keys.inline"]).await;
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    for text in ["", "{", "rules: []", "[]", "null", "{\"role\":\"\u{0}"] {
        let settings = Settings::new("config", orders::config()).patch(move |bootstrap| {
            let pointer = format!("{}/http_filters/0/typed_config/config/configuration/value", bootstrap::APP);
            *bootstrap.pointer_mut(&pointer).unwrap() = json!(text);
        });
        let error =
            Sidecar::start(settings).await.err().unwrap_or_else(|| panic!("Envoy started with `{text}`")).to_string();
        assert!(error.contains("taskfence-filter"), "`{text}`: expected the name of the plugin in\n{error}");
        assert!(!error.contains("panicked"), "`{text}`: a panic is no way to refuse a configuration:\n{error}");
    }
}

/// All that is not here has a default.
#[tokio::test]
async fn the_smallest_configuration_works() {
    let config = json!({
        "issuers": [{
            "issuer": orders::ISSUER,
            "audiences": [orders::AUDIENCE],
            "keys": {"inline": {"keys": [mint::ISSUER.signer(Alg::Es256).public()]}}
        }],
        "rules": [{"name": "all", "match": {"path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}}],
        "signals": {
            "transmitters": [{
                "issuer": orders::TRANSMITTER,
                "audience": orders::SIGNALS_AUDIENCE,
                "keys": {"inline": {"keys": [mint::TRANSMITTER.signer(Alg::Es256).public()]}},
                "subjects": [orders::ISSUER]
            }]
        }
    });
    let sidecar = Sidecar::start(Settings::new("config", config)).await.unwrap();
    let task = mint::unique("task");
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
    let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().task(&task).sign());
    assert_refused(&sidecar, &sidecar.send(Http::One, &request).await.unwrap(), "task_completed");
    let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().sign());
    assert_allowed(&sidecar, &sidecar.send(Http::One, &request).await.unwrap());
}
