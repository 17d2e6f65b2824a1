//! What receivers discover (SSF 1.0 §7): the metadata of each feed, and the keys of its SETs.

use crate::problem::Problem;
use crate::streams::paths;
use crate::streams::record::{POLL, PUSH};
use crate::streams::service::Streams;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

/// Members of complex subjects that a receiver must not ignore: without them more would be ended than was meant.
const CRITICAL: [&str; 4] = ["task", "token", "client", "actor"];

/// The metadata of the transmitter that the feed is (SSF 1.0 §7.1).
#[utoipa::path(get, path = paths::METADATA, tag = "streams", params(("feed" = String, Path)), security(()),
    responses((status = 200, body = Object), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn metadata(State(streams): State<Streams>, Path(feed): Path<String>) -> Result<Json<Value>, Problem> {
    let sent = streams.feed(&feed).ok_or_else(unknown)?;
    let url = |path: &str| format!("{}{}", streams.0.settings.issuer, path.replace("{feed}", &feed));
    Ok(Json(json!({
        "spec_version": "1_0",
        "issuer": sent.issuer,
        "jwks_uri": url(paths::KEYS),
        "delivery_methods_supported": [PUSH, POLL],
        "configuration_endpoint": url(paths::STREAMS),
        "status_endpoint": url(paths::STATUS),
        "verification_endpoint": url(paths::VERIFICATION),
        "add_subject_endpoint": url(paths::ADD_SUBJECT),
        "remove_subject_endpoint": url(paths::REMOVE_SUBJECT),
        "critical_subject_members": CRITICAL,
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
        "default_subjects": "ALL"
    })))
}

/// The public keys of the SETs (RFC 7517 §5).
#[utoipa::path(get, path = paths::KEYS, tag = "streams", params(("feed" = String, Path)), security(()),
    responses((status = 200, body = Object), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn keys(State(streams): State<Streams>, Path(feed): Path<String>) -> Result<Json<Value>, Problem> {
    streams.feed(&feed).ok_or_else(unknown)?;
    Ok(Json(streams.keys().jwks()))
}

fn unknown() -> Problem {
    Problem::missing("there is no such issuer", "ask an operator for the address of the feed")
}
