//! The service that the bench guards: one rule that asks for scope, detail, device and risk, and a token that meets it.

use serde_json::{Map, Value, json};
use taskfence_tests::{
    mint::{self, Alg, Jwt},
    orders,
};

/// The device of [`token`].
pub const DEVICE: &str = "laptop-7";

/// The module's shared data belongs to its vm_id, so cases that share a state share this.
pub const VM: &str = "bench";

/// Six conditions, of which each is about something else.
const SIX: &str = "claims.sub == 'spiffe://td/agent/a7' && request.method == 'GET' && captures.order == '1881' \
                   && grant.auth_age < 86400 && context.risk != 'HIGH' && 'orders.read' in grant.scopes";

/// The rule that [`token`] meets.
pub fn rule() -> Value {
    json!({
        "name": "read-order",
        "match": {"methods": ["GET"], "path": "/v1/orders/{order}"},
        "require": {
            "scope": orders::SCOPE,
            "detail": {"type": "order", "action": "read", "identifier": "{order}"},
            "device": "compliant",
            "risk": {"below": "HIGH"}
        }
    })
}

/// The same with six more conditions.
pub fn rule_with_when() -> Value {
    let mut rule = rule();
    rule["require"]["when"] = json!(SIX);
    rule
}

/// [`rule`] as the last of so many, none of which can be told apart by its first segment.
pub fn rules(count: usize) -> Value {
    let others = (1..count).map(|number| {
        json!({
            "name": format!("thing-{number}"),
            "match": {"methods": ["GET"], "path": format!("/v1/things{number}/{{order}}")},
            "require": {"scope": orders::SCOPE}
        })
    });
    others.chain([rule()]).collect()
}

/// The rule of streams that stay open.
pub fn live_rule() -> Value {
    json!({"name": "live", "match": {"methods": ["GET"], "path": "/v1/live/{stream}"}, "require": {"scope": orders::SCOPE}})
}

/// A configuration with these rules, whose tokens live as long as a run.
pub fn config(rules: Value) -> Value {
    let mut config = orders::config_of(rules);
    config["issuers"][0]["max_lifetime"] = json!("4h");
    config["issuers"][0]["keys"] = json!({"inline": {"keys": keys()}});
    config["issuers"][0]["algorithms"] = json!(ALGORITHMS.map(Alg::name));
    config
}

const ALGORITHMS: [Alg; 3] = [Alg::Es256, Alg::Rs256, Alg::EdDsa];

/// The keys of [`token`].
pub fn keys() -> Vec<Value> {
    ALGORITHMS.iter().map(|alg| mint::ISSUER.signer(*alg).public()).collect()
}

/// A token that [`rule`] lets pass, of about 600 bytes with ES256.
pub fn token(alg: Alg) -> Jwt {
    mint::token().signed_by(mint::ISSUER.signer(alg)).claim("device_id", DEVICE).valid(-5, 3 * 3600)
}

/// The signals that [`rule`] waits for.
pub fn context() -> [Jwt; 2] {
    [mint::device_is(DEVICE, "compliant"), mint::risk_is(orders::USER, "LOW")]
}

/// Envoy's own check of a token: jwt_authn, and RBAC for the path, the method and the scope.
pub fn jwt_authn_and_rbac(cache: bool) -> Vec<Value> {
    let mut provider = json!({
        "issuer": orders::ISSUER,
        "audiences": [orders::AUDIENCE],
        "local_jwks": {"inline_string": json!({"keys": keys()}).to_string()},
        "payload_in_metadata": "token"
    });
    if cache {
        provider["jwt_cache_config"] = json!({"jwt_cache_size": 1000});
    }
    let mut providers = Map::new();
    providers.insert("jit".to_owned(), provider);
    let authn = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": providers,
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "jit"}}]
        }
    });
    let rbac = json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"policies": {"read-order": {
                "permissions": [{"and_rules": {"rules": [
                    {"url_path": {"path": {"prefix": "/v1/orders/"}}},
                    {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
                ]}}],
                "principals": [{"metadata": {
                    "filter": "envoy.filters.http.jwt_authn",
                    "path": [{"key": "token"}, {"key": "scope"}],
                    "value": {"string_match": {"exact": orders::SCOPE}}
                }}]
            }}}
        }
    });
    vec![authn, rbac]
}

/// Asks an authorization server, the cluster `authorization`, over HTTP.
pub fn ext_authz() -> Value {
    json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "http_service": {"server_uri": {"uri": "http://authorization", "cluster": "authorization", "timeout": "5s"}}
        }
    })
}

/// Lua that reads one header.
pub fn lua() -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string":
                "function envoy_on_request(handle)\n  local token = handle:headers():get(\"authorization\")\nend\n"}
        }
    })
}
