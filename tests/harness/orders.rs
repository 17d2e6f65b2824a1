//! The sample service that the tests protect, and the configuration that protects it.

use serde_json::{Value, json};

use crate::mint;

/// Who issues tokens.
pub const ISSUER: &str = "https://jit.example";
/// What the tokens are for.
pub const AUDIENCE: &str = "https://orders.mesh";
/// The host that requests are made to.
pub const HOST: &str = "orders.mesh";
/// Who pushes signals.
pub const TRANSMITTER: &str = "https://idp.example";
/// Whom the signals are for.
pub const SIGNALS_AUDIENCE: &str = "https://orders.mesh/signals";
/// Where signals are pushed to.
pub const SIGNALS_PATH: &str = "/signals";

/// The user, task, session and scope of [`mint::token`], and the one order it is for.
pub const USER: &str = "spiffe://td/agent/a7";
/// See [`USER`].
pub const TASK: &str = "task-42";
/// See [`USER`].
pub const SESSION: &str = "sess-9";
/// See [`USER`].
pub const SCOPE: &str = "orders.read";
/// See [`USER`].
pub const ORDER: &str = "1881";

/// The path of the order that [`mint::token`] is for.
pub const ORDER_PATH: &str = "/v1/orders/1881";

/// [`config_with`] the keys of [`mint`].
pub fn config() -> Value {
    config_with(mint::ISSUER.jwks(), mint::TRANSMITTER.jwks())
}

/// Reading an order; refunding it, which [`mint::token`] has no scope for; a report on another host
/// only; internals, which nobody may; health for everybody.
pub fn config_with(issuer_keys: Value, transmitter_keys: Value) -> Value {
    let rules = json!([
            {
                "name": "read-order",
                "match": {"methods": ["GET"], "path": "/v1/orders/{order}"},
                "require": {
                    "scope": SCOPE,
                    "detail": {"type": "order", "action": "read", "identifier": "{order}"}
                }
            },
            {
                "name": "refund-order",
                "match": {"methods": ["POST"], "path": "/v1/orders/{order}/refund"},
                "require": {
                    "scope": "orders.refund",
                    "detail": {"type": "order", "action": "refund", "identifier": "{order}"}
                }
            },
            {
                "name": "read-report",
                "match": {"methods": ["GET"], "hosts": ["reports.mesh"], "path": "/v1/report"},
                "require": {"scope": SCOPE}
            },
            {"name": "internal", "match": {"path": "/internal/{rest...}"}, "deny": true},
            {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
    ]);
    whole(rules, issuer_keys, transmitter_keys)
}

/// Other rules for the same service, with the keys of [`mint`]; devices are named by the claim `device_id`.
pub fn config_of(rules: Value) -> Value {
    let mut config = whole(rules, mint::ISSUER.jwks(), mint::TRANSMITTER.jwks());
    config["issuers"][0]["claims"] = json!({"device": "device_id"});
    config
}

fn whole(rules: Value, issuer_keys: Value, transmitter_keys: Value) -> Value {
    json!({
        "issuers": [{
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "keys": {"inline": issuer_keys},
            "algorithms": mint::Alg::names(),
            "max_lifetime": "15m",
            "clock_skew": "30s"
        }],
        "rules": rules,
        "signals": {
            "path": SIGNALS_PATH,
            "transmitters": [{
                "issuer": TRANSMITTER,
                "audience": SIGNALS_AUDIENCE,
                "keys": {"inline": transmitter_keys},
                "algorithms": mint::Alg::names(),
                "subjects": [ISSUER]
            }]
        }
    })
}
