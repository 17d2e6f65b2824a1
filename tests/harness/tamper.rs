//! Tokens as an attacker changes them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use crate::mint::Jwt;

/// The token with a changed claim under the old signature.
pub fn change_claim(token: &str, name: &str, value: impl Into<Value>) -> String {
    let [header, claims, signature] = parts(token);
    let mut claims: Value = decode(claims);
    claims[name] = value.into();
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The token with one bit of its signature changed.
pub fn flip_signature_bit(token: &str) -> String {
    let [header, claims, signature] = parts(token);
    let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let middle = signature.len() / 2;
    signature[middle] ^= 1;
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The claims without a signature, under this spelling of `none`.
pub fn unsigned(jwt: &Jwt, spelling: &str) -> String {
    let jwt = jwt.clone().header("alg", spelling);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(jwt.header_text()), URL_SAFE_NO_PAD.encode(jwt.claims_text()))
}

/// The claims under HS256, keyed with something public: the confusion of a public key with a shared secret.
pub fn hs256(jwt: &Jwt, secret: &[u8]) -> String {
    let jwt = jwt.clone().header("alg", "HS256");
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(jwt.header_text()), URL_SAFE_NO_PAD.encode(jwt.claims_text()));
    let signature = crypto::sign(input.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256);
    format!("{input}.{}", signature.expect("an HMAC"))
}

/// The claims with a signature of these bytes.
pub fn with_signature(jwt: &Jwt, signature: &[u8]) -> String {
    let signed = jwt.sign();
    let [header, claims, _] = parts(&signed);
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The claims as JSON text, written by hand: what no JSON library would write.
pub fn claim_text(jwt: &Jwt, name: &str, text: &str) -> String {
    let marker = "\u{1}claim\u{1}";
    let written = json!(marker).to_string();
    jwt.clone().claim(name, marker).claims_text().replace(&written, text)
}

/// A token as a person reads it, for messages.
pub fn show(token: &str) -> String {
    let shown = token.split('.').take(2).map(|part| match URL_SAFE_NO_PAD.decode(part) {
        Ok(text) => String::from_utf8_lossy(&text).chars().take(2_000).collect(),
        Err(_) => format!("{part:?}"),
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<_> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

fn decode(part: &str) -> Value {
    let text = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&text).expect("JSON")
}
