//! Asking for a verification event (SSF 1.0 §8.1.4).

use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::Body;
use crate::ssf::client::session::{Call, Session};
use reqwest::Method;
use serde_json::json;

/// What the transmitter says to the wish for a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It will send one.
    Yes,
    /// There is no such stream (404).
    Missing,
    /// It sends none (no endpoint, 405).
    Impossible,
}

/// Asks for a verification with this `state`.
pub async fn ask(session: &Session, id: &str, state: &str) -> Result<Asked, Failure> {
    let Some(endpoint) = &session.metadata.verification_endpoint else { return Ok(Asked::Impossible) };
    let body = Body::Json(json!({"stream_id": id, "state": state}));
    let answer = session.call(Call::new(Step::Verification, Method::POST, endpoint.clone(), body)).await?;
    match answer.status {
        200 | 202 | 204 => Ok(Asked::Yes),
        404 | 410 => Ok(Asked::Missing),
        405 | 501 => Ok(Asked::Impossible),
        429 => {
            let remedy = "the hub asks less often; a longer `verify` avoids this";
            Err(answer.failure(Step::Verification, &format!("POST {endpoint}"), remedy))
        }
        _ => Err(answer.failure(Step::Verification, &format!("POST {endpoint}"), "")),
    }
}
