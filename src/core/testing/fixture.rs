//! Test data: one issuer with one key, and tokens of it with anything changed.

use crate::jose::algorithm::Algorithm;
use crate::jose::key::KeySet;
use crate::keys::keyring::Keyring;
use crate::state::key::Kind;
use crate::time::{Span, Timestamp};
use crate::token::claim_names::{ClaimNames, Names};
use crate::token::issuer::Issuer;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

pub(crate) const NOW: Timestamp = Timestamp(1_790_000_100);

/// Stands for "leave this claim out".
pub(crate) const ABSENT: &str = "<absent>";

pub(crate) fn key() -> &'static ES256KeyPair {
    static KEY: OnceLock<ES256KeyPair> = OnceLock::new();
    KEY.get_or_init(|| ES256KeyPair::generate().with_key_id("jit-1"))
}

pub(crate) fn jwks() -> Value {
    let jwk: Value = serde_json::from_str(&key().public_key().to_jwk()).unwrap();
    json!({ "keys": [jwk] })
}

pub(crate) fn issuer() -> Issuer {
    let (keys, problems) = KeySet::from_jwks(&jwks(), &[Algorithm::ES256]).unwrap();
    assert_eq!(problems, []);
    Issuer {
        name: "https://jit.example".to_owned(),
        entry: 0,
        is_in_subject: false,
        key_space: "https://jit.example".into(),
        audiences: vec!["https://orders.mesh".to_owned()],
        algorithms: vec![Algorithm::ES256, Algorithm::RS256],
        keys: Keyring::inline(keys),
        types: vec!["at+jwt".to_owned()],
        accepts_untyped: false,
        max_lifetime: Span::minutes(15),
        max_session: Span::hours(24),
        clock_skew: Span(30),
        claims: ClaimNames {
            device: Names::top("device_id"),
            subjects: vec![(Kind::Email, Names::top("email"))],
            ..ClaimNames::default()
        },
        required: Vec::new(),
        carriers: Default::default(),
        max_actors: 8,
        presentation: crate::token::presentation::Presentation::default(),
        opaque_subject: None,
    }
}

/// A token of [`issuer`], good but for the header parameters and claims given; null leaves a header parameter out,
/// [`ABSENT`] a claim.
pub(crate) fn token_with(header: Value, claims: Value) -> String {
    let mut head = json!({"alg": "ES256", "typ": "at+jwt", "kid": "jit-1"});
    let mut body = json!({
        "iss": "https://jit.example", "sub": "alice", "aud": "https://orders.mesh", "client_id": "agent-a7",
        "iat": NOW.0 - 100, "exp": NOW.0 + 200, "jti": "tok-1", "txn": "task-42", "sid": "sess-9",
        "auth_time": NOW.0 - 200, "scope": "orders.read orders.refund",
        "authorization_details": [{"type": "order", "actions": ["read"], "identifier": "1881"}]
    });
    merge(head.as_object_mut().unwrap(), header, &Value::Null);
    merge(body.as_object_mut().unwrap(), claims, &json!(ABSENT));
    sign(&head, &body)
}

/// A JWS of `header` and `payload`, signed by [`key`] whatever the header says.
pub(crate) fn sign(header: &Value, payload: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", encode(header), encode(payload));
    let signature = p256_sign(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn p256_sign(input: &[u8]) -> Vec<u8> {
    use p256::ecdsa::{Signature, SigningKey, signature::Signer};
    let key = SigningKey::from_slice(&key().to_bytes()).unwrap();
    let signature: Signature = key.sign(input);
    signature.to_bytes().to_vec()
}

fn merge(into: &mut Map<String, Value>, from: Value, absent: &Value) {
    let Value::Object(from) = from else { panic!("an object") };
    for (name, value) in from {
        if value == *absent {
            into.remove(&name);
        } else {
            into.insert(name, value);
        }
    }
}
