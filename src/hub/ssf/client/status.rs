//! The status of a stream (SSF 1.0 §8.1.2).

use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::Body;
use crate::ssf::client::session::{Call, Session};
use crate::ssf::client::streams;
use reqwest::Method;
use serde_json::{Value, json};
use taskfence_core::state::freshness::Status;

/// The longest reason that is kept, in characters.
const MAX_REASON: usize = 200;

/// What a transmitter says of the status of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Its status, and why.
    Is(Status, Option<String>),
    /// It has no status endpoint, or does not answer there.
    Unknown,
    /// There is no such stream (404).
    Missing,
}

/// Asks for the status of a stream.
pub async fn get(session: &Session, id: &str) -> Result<Said, Failure> {
    let Some(endpoint) = &session.metadata.status_endpoint else { return Ok(Said::Unknown) };
    let call = Call::new(Step::Status, Method::GET, streams::of(endpoint, id), Body::None);
    let place = format!("GET {endpoint}");
    let answer = session.call(call).await?;
    match answer.status {
        200 => read(&answer.json(Step::Status, &format!("what {place} answers"))?),
        404 | 410 => Ok(Said::Missing),
        405 | 501 => Ok(Said::Unknown),
        _ => Err(answer.failure(Step::Status, &place, "")),
    }
}

/// Asks that a stream be enabled. What the transmitter says then may still be another status.
pub async fn enable(session: &Session, id: &str) -> Result<Said, Failure> {
    let Some(endpoint) = &session.metadata.status_endpoint else { return Ok(Said::Unknown) };
    let body = Body::Json(json!({"stream_id": id, "status": Status::Enabled.as_str()}));
    let answer = session.call(Call::new(Step::Status, Method::POST, endpoint.clone(), body)).await?;
    let place = format!("POST {endpoint}");
    match answer.status {
        200 => read(&answer.json(Step::Status, &format!("what {place} answers"))?),
        202 | 204 | 405 | 501 => Ok(Said::Unknown),
        404 | 410 => Ok(Said::Missing),
        _ => Err(answer.failure(Step::Status, &place, "ask the operator of the transmitter to enable the stream")),
    }
}

fn read(json: &Value) -> Result<Said, Failure> {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let status = text("status").and_then(Status::from_name);
    let status =
        status.ok_or_else(|| Failure::new(Step::Status, "the transmitter says no status that SSF knows", ""))?;
    let clean = |reason: &str| reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Ok(Said::Is(status, text("reason").map(clean)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_of_three() {
        assert_eq!(read(&json!({"status": "enabled"})), Ok(Said::Is(Status::Enabled, None)));
        let paused = json!({"stream_id": "1", "status": "paused", "reason": "load\u{1b}[0m"});
        assert_eq!(read(&paused), Ok(Said::Is(Status::Paused, Some("load[0m".to_owned()))));
        assert!(read(&json!({"status": "resting"})).is_err());
        assert!(read(&json!({})).is_err());
    }
}
